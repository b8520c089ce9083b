/* The keeper processes of this node as processes: finding, starting and watching them, and removing what dead ones
 * left: tagged processes, directories, Open MPI's shared memory. Only what is this pool's and this account's. */
#ifndef MU_AGENT_KEEPERS_H
#define MU_AGENT_KEEPERS_H

#include <stdint.h>
#include <sys/types.h>

#include "runtime/base/path.h"

struct event_base;
struct mu_keepers;

/* The keeper process of job, seen alive before, is dead. */
typedef void (*mu_keeper_dead_fn)(void *arg, uint64_t job, pid_t pid);

/* node: this node's name in the pool. */
struct mu_keepers *mu_keepers_new(struct event_base *, const struct mu_paths *, const char *node, mu_keeper_dead_fn,
                                  void *arg);
void mu_keepers_free(struct mu_keepers *); /* the keepers live on; NULL is fine */

/* Before anything else: calls found for each living keeper and watches it, and with pid 0 for each dead one that has
 * not been forgotten; then removes what dead ones left. What cannot be removed now is logged and left. */
void mu_keepers_adopt(struct mu_keepers *, void (*found)(void *arg, uint64_t job, pid_t pid), void *arg);
/* Starts and watches `muster keeper` for the job. */
int mu_keepers_spawn(struct mu_keepers *, uint64_t job, pid_t *pid, struct mu_err *);
/* One that was not known lives after all: watched from now on. Repeating it does no harm. */
void mu_keepers_watch(struct mu_keepers *, uint64_t job, pid_t pid);
/* Kills the job's keeper, if it still lives, and every process of the job, removes its files. MUSTER_ETIMEOUT when some
 * process is still there after a short wait: again later. Its lock stays: the mark by which the next agent knows that
 * there was one, so that no attempt is begun twice. */
int mu_keepers_clean(struct mu_keepers *, uint64_t job, struct mu_err *);
/* Nobody will ask for that keeper again: removes the mark. */
void mu_keepers_forget(struct mu_keepers *, uint64_t job);

#endif
