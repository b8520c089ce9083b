/* Starting the ranks of a node: all forks first, then one look at how their execs went. The children are found again
 * by the caller's waitpid; nothing here waits. Call it in the thread that lives as long as the ranks may: they die with
 * it. */
#ifndef MU_KEEPER_LAUNCH_H
#define MU_KEEPER_LAUNCH_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "runtime/base/err.h"
#include "topo/bind.h"

/* One rank; all borrowed. argv[0] is looked up in env's PATH after the change to wdir, as execvp does. */
struct mu_launch_rank {
    char *const *argv, *const *env;
    const char *wdir;           /* NULL or "": / */
    const struct mu_bind *bind; /* NULL: where we are */
    bool feed;                  /* standard input is a pipe instead of /dev/null */
};

/* A process of its own group (pgid = pid), pid 0: none. Our ends of its streams, nonblocking; -1: none. */
struct mu_child {
    pid_t pid;
    int in, out, err;
};

/* What a rank could not do on its way. fatal: it never reached its program, exit_code says 126, 127 or 1. */
struct mu_launch_trouble {
    uint32_t index;
    bool fatal;
    int exit_code;
    char text[400];
};

struct mu_launch;

/* What a process has from the shell that it is started in. */
struct mu_launch_shell {
    mode_t umask;
    uint64_t nofile; /* soft limit of open files, as far as the hard one allows; 0: the customary 1024 */
};

/* On success all n processes exist. On failure none does, children is untouched. */
int mu_launch_start(const struct mu_launch_rank *ranks, uint32_t n, const struct mu_launch_shell *,
                    struct mu_child *children, struct mu_launch **out, struct mu_err *err);
/* Readable when there is news. */
int mu_launch_fd(const struct mu_launch *);
/* WAIT: nothing yet. TROUBLE: *trouble is filled, ask again. DONE: each rank without fatal trouble runs its program. */
enum { MU_LAUNCH_WAIT, MU_LAUNCH_TROUBLE, MU_LAUNCH_DONE };
int mu_launch_poll(struct mu_launch *, struct mu_launch_trouble *);
void mu_launch_free(struct mu_launch *); /* forgets, kills nothing */

#endif
