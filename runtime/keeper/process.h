/* What the keeper does as a process. */
#ifndef MU_KEEPER_PROCESS_H
#define MU_KEEPER_PROCESS_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

#include "runtime/base/path.h"
#include "runtime/base/proc.h"

/* Blocks the signals that it takes through a descriptor; they are in *taken. */
void mu_keeper_block(sigset_t *taken);
/* Starts this node's agent, in place of the one that is gone. False: another one is just starting or ending. */
bool mu_keeper_start_agent(const char *run);
/* The lock of the keeper, signed: the one that the agent has taken for it (fd), or with fd 0 its own. */
int mu_keeper_lock(int fd, const char *path, struct mu_err *);
/* The run directory was removed, and the lock's file with it: makes both anew. The lock from now on, which is the old
 * one where that is not to be had. */
int mu_keeper_lock_again(uint64_t job, int lock);
/* Whether it has no child, dead or alive, but this one (0: none at all). */
bool mu_keeper_childless(pid_t but);
/* What the ranks started as another account, when ours is not root's: nobody waits for it. */
void mu_keeper_denied(const struct mu_proc_toll *, char *text, size_t n);
/* The end of the process: gives the lock back. Its file stays, as the mark of a keeper that was not let go of: its
 * attempt is not to be begun again here. */
void mu_keeper_leave(const struct mu_paths *, const char *lock_path, int lock, bool released);

#endif
