/* Files as a checkpoint needs them: whole writes, synced, renamed into place. What changes the disk goes through a
 * table of calls, so that tests can fail or cut off every single one. */
#ifndef MU_CKPT_IO_H
#define MU_CKPT_IO_H

#include "runtime/base/ckptopt.h"
#include "runtime/base/err.h"

#include <sys/types.h>

#define MU_CKPT_PATH_MAX 4096

/* As the system calls of these names: -1 and errno. */
struct mu_ckpt_io {
    int (*open)(const struct mu_ckpt_io *, const char *path, int flags, mode_t mode);
    ssize_t (*pwrite)(const struct mu_ckpt_io *, int fd, const void *, size_t, off_t);
    int (*fsync)(const struct mu_ckpt_io *, int fd);
    int (*reserve)(const struct mu_ckpt_io *, int fd, off_t bytes); /* fallocate */
    int (*rename)(const struct mu_ckpt_io *, const char *from, const char *to);
    int (*mkdir)(const struct mu_ckpt_io *, const char *path);
    int (*unlink)(const struct mu_ckpt_io *, const char *path);
    int (*rmdir)(const struct mu_ckpt_io *, const char *path);
    int (*link)(const struct mu_ckpt_io *, const char *from, const char *to);
};
extern const struct mu_ckpt_io mu_ckpt_io_posix;

struct mu_ckpt_path {
    char s[MU_CKPT_PATH_MAX];
};
/* snprintf into a path; the caller has bounded the parts (MU_CKPT_DIR_MAX). */
struct mu_ckpt_path mu_ckpt_path(const char *fmt, ...) MU_PRINTF(1, 2);

/* All of buf at the offset, across short writes and interrupts. */
int mu_ckpt_write_all(const struct mu_ckpt_io *, int fd, const void *buf, size_t n, off_t at, const char *path,
                      struct mu_err *);
/* Creates or replaces `path` so that it is always either the old or the whole new file: writes tmp, syncs, renames. The
 * rename itself is durable only after mu_ckpt_sync_dir. */
int mu_ckpt_put_file(const struct mu_ckpt_io *, const char *tmp, const char *path, const void *buf, size_t n,
                     struct mu_err *);
int mu_ckpt_sync_dir(const struct mu_ckpt_io *, const char *path, struct mu_err *);
/* The whole file, malloc'ed; caller frees. ENOCKPT: there is no such file. ECORRUPT: longer than max. */
int mu_ckpt_get_file(const char *path, size_t max, unsigned char **buf, size_t *n, struct mu_err *);
/* For reading: a descriptor, the caller's to close. ECORRUPT: it is no regular file. Never waits for a writer. */
int mu_ckpt_open_file(const char *path, struct mu_err *);
/* Exactly n bytes at the offset; ECORRUPT when the file ends before. */
int mu_ckpt_read_all(int fd, void *buf, size_t n, uint64_t at, const char *path, struct mu_err *);
/* mkdir -p. */
int mu_ckpt_make_dirs(const struct mu_ckpt_io *, const char *path, struct mu_err *);
/* Removes a directory of plain files, `first` (may be NULL) before the others. One that is gone already is fine. */
int mu_ckpt_remove_dir(const struct mu_ckpt_io *, const char *path, const char *first, struct mu_err *);

#endif
