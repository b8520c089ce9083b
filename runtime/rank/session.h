/* The session: this process as a rank of its job. One a process; a forked child has none. */
#ifndef MU_RANK_SESSION_H
#define MU_RANK_SESSION_H

#include <stdbool.h>

#include "collectives/engine.h"
#include "runtime/base/err.h"
#include "runtime/base/slot.h"

/* muster_last_error() of this thread is "" again. */
void mu_rank_forget(void);
/* Sets muster_last_error() of this thread and the slot's user_error; returns code. */
int mu_rank_fail(int code, const char *fmt, ...) MU_PRINTF(2, 3);
/* The same for an error that has its text. */
int mu_rank_fail_err(const struct mu_err *err);

/* The shared slots; NULL outside `muster run`, before muster_init and in a forked child. Valid until the process ends.
 */
const struct mu_slot_head *mu_rank_slots(void);
struct mu_slot *mu_rank_slot(void);

/* Begins a public call: MUSTER_EJOB (reported) outside the session and in forked children, MUSTER_EARG when comm is not
 * a communicator. After 0 the engine is locked, and mu_rank_leave must follow. comm NULL with any = true: none needed.
 */
int mu_rank_enter(const muster_comm *comm, bool any, const char *function);
/* Ends it: unlocks; reports err when rc is negative; returns rc. */
int mu_rank_leave(int rc, const struct mu_err *err);

/* Until the next wait this rank is busy with files (on), or no more: the keeper does not take it for one that hangs. */
void mu_rank_files(bool on);
/* The bound of waits, ns. */
uint64_t mu_rank_timeout(void);

/* What the launch put into the environment. */
struct mu_rank_env {
    const char *job; /* NULL: not started by muster */
    const char *slots;
    long slot_index, rank, world_size, attempt; /* -1: not given */
    bool pmix;                                  /* a PMIx server was offered */
    double timeout;                             /* s, without a word from those waited for */
    bool timeout_said;
    size_t flat_max;
    bool shm;                           /* ranks of one node use memory that they share */
    int progress;                       /* a thread gets requests on: 1, 0, -1: if a CPU is free */
    int yield;                          /* who waits leaves the CPU at once: 1, 0, -1: if ranks are more than CPUs */
    bool shm_reads;                     /* and read out of each other's processes */
    const char *shm_host;               /* ranks with another one count as on another node; may be NULL */
    char transport;                     /* that frames go over: its first letter; 0: what suits the hosts */
    bool tune;                          /* thresholds are measured */
    unsigned tune_everybody, tune_read; /* or these; 0: none are given */
    unsigned tune_chain;
    long domain; /* of this rank, instead of its package and its cache; -1: these */
    bool hier;   /* collectives between nodes are made of parts */
    char node[MU_NODE_NAME];
};
int mu_rank_env_read(struct mu_rank_env *env, struct mu_err *err);

/* Maps the slots that env names and claims this rank's one. Both outputs stay as they are when env names none. */
int mu_rank_slot_join(const struct mu_rank_env *env, struct mu_slot_head **head, struct mu_slot **slot,
                      struct mu_err *err);

#endif
