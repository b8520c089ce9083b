/* Files and the two directories of a pool: the state (kept, may be on a shared home, hence keyed by host name) and the
 * run directory (sockets, gone with the pool). Everything is made 0700 and refused when it is not plainly ours. */
#ifndef MU_BASE_PATH_H
#define MU_BASE_PATH_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/un.h>

#include "runtime/base/buf.h"
#include "runtime/base/err.h"

struct stat;

struct mu_paths {
    char home[PATH_MAX];  /* real path of what state is HOST in: what all hosts of the pool share */
    char state[PATH_MAX]; /* real path of $MUSTER_HOME/HOST, or of $XDG_STATE_HOME/muster/HOST, or under ~/.local/state
                           */
    char run[PATH_MAX];   /* $MUSTER_RUN_ROOT/HOST/HASH, or /tmp/muster-UID/HOST/HASH */
    char host[65];        /* node name, with other characters than letters, digits, dot, dash replaced */
    uint32_t pool_hash;   /* of the state path: two pools with different state never meet */
};

/* Set by an agent that joins another host's pool, for itself and its keepers: state is then
 * $MUSTER_HOME/HOST/joined-ID, ID being hexadecimal. */
#define MU_PATHS_JOINED "MUSTER_JOINED"
/* Set for daemons of an allocation's step: when they are told to end nobody follows who would look at what they leave.
 */
#define MU_PATHS_STEP "MUSTER_STEP"

/* Works both directories out and creates them. The text says which directory is wrong and how. */
int mu_paths_init(struct mu_paths *p, struct mu_err *err);
/* The same for who only looks: what is not there is not made, what is there must be ours. */
int mu_paths_find(struct mu_paths *p, struct mu_err *err);
/* Removes the run directory with what is in it and those of its parents that are then empty (never MUSTER_RUN_ROOT
 * itself, which is the caller's). */
int mu_path_rundir_cleanup(const struct mu_paths *p, struct mu_err *err);
/* The node's name as mu_paths has it. */
void mu_path_host(char host[65]);

/* Creates path and what is missing above it; an existing directory is fine. */
int mu_path_mkdirs(const char *path, mode_t mode, struct mu_err *err);
/* dir + "/" + name; MUSTER_EARG when it does not fit. */
int mu_path_join(char *out, size_t n, const char *dir, const char *name, struct mu_err *err);
/* The file's contents, appended; more than max bytes is MUSTER_EARG. Works for /proc files. errno is kept on failure.
 */
int mu_path_read(const char *path, size_t max, struct mu_buf *out, struct mu_err *err);
/* A file that somebody names, opened for reading and never waited for; its descriptor. EARG for pipes and devices,
 * which may never end (errno is EINVAL then), and for an empty name. flags: O_NOFOLLOW or 0; st may be NULL. errno is
 * kept on failure. */
int mu_path_open_regular(const char *path, int flags, struct stat *st, struct mu_err *err);
/* What is behind such a descriptor's place, as mu_path_read has it. */
int mu_path_read_open(int fd, const char *path, size_t max, struct mu_buf *out, struct mu_err *err);
/* Both: opens and reads it. */
int mu_path_read_regular(const char *path, size_t max, struct mu_buf *out, struct mu_err *err);
/* The same for text, into an empty buffer, without the byte-order mark that some editors begin it with: EARG for a zero
 * byte, where readers of text would stop and never say so. */
int mu_path_read_text(const char *path, size_t max, struct mu_buf *out, struct mu_err *err);
/* Whether both are there and are one regular file, by whatever names. */
bool mu_path_same_file(const char *a, const char *b);
/* Creates or empties a file that somebody names, for writing. EARG for an empty name, a socket, and a pipe that nobody
 * reads, which would be waited for; else EIO. */
int mu_path_create(const char *path, FILE **out, struct mu_err *err);
/* A reader sees the old or the new contents, also after a crash: temporary file, fsync, rename, directory fsync. */
int mu_path_write_atomic(const char *path, const void *data, size_t len, mode_t mode, struct mu_err *err);
/* Removes a file or a whole directory. Follows no symbolic link, stays on the file system, at most 64 levels. What is
 * not there is no error. */
int mu_path_remove_tree(const char *path, struct mu_err *err);
/* Address of dir/name. When it is longer than a socket address takes, it goes through an open descriptor of dir,
 * given in *dirfd (else -1): keep it until after bind or connect, then close it. */
int mu_path_sockaddr(const char *dir, const char *name, struct sockaddr_un *sa, socklen_t *len, int *dirfd,
                     struct mu_err *err);
/* Real path of the running binary, which may be another one by now. MUSTER_ENODE or so: nothing is there any more. */
int mu_path_exe(char *buf, size_t n, struct mu_err *err);
/* Takes an exclusive lock on path (created 0600), our pid written in it. Returns the descriptor that holds it: the
 * lock ends when it and its copies in forked children are closed. MUSTER_ETIMEOUT, naming the holder, after wait_ms. */
int mu_path_lock(const char *path, int wait_ms, struct mu_err *err);
/* The same for a process that is about to be started: it inherits the descriptor and writes its pid (_sign). Until then
 * the file is empty. */
int mu_path_lock_blank(const char *path, int wait_ms, struct mu_err *err);
int mu_path_lock_sign(int fd, const char *path, struct mu_err *err);

#endif
