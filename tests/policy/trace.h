/* Traces of jobs through the policy, without any daemon: a pool, jobs that come and go in virtual time, and after every
 * decision a look at what must hold. The same seed is the same trace.
 *
 * How to add something that must hold: call bad() in trace.c where it does not, and plant a mutation
 * (MU_POLICY_MUTATIONS) that only it catches. */
#ifndef TESTS_POLICY_TRACE_H
#define TESTS_POLICY_TRACE_H

#include "launcher/core/policy.h"
#include "runtime/base/clock.h"

struct tjob {
    uint64_t id, submit, limit, length; /* length: what it would run; ends at its limit */
    int32_t priority;
    uint32_t user, ranks, nodes, ppn, spares;
    uint64_t need[MU_RES_N];
    const char *label;
    uint64_t after, held_until, ckpt_every; /* after: a job; ckpt_every 0: never writes one */
    bool fails;
    /* as it goes */
    enum { T_COMING, T_QUEUED, T_RUNNING, T_ENDED, T_FAILED, T_DROPPED } state;
    uint64_t since, started, ends, promised, done; /* done: what its newest checkpoint holds */
    bool ending;
    unsigned preempted;
    struct mu_policy_share *shares;
    unsigned nshares;
};

struct trace {
    uint64_t seed, rng;
    struct mu_policy_settings set;
    struct mu_policy_node *nodes;
    unsigned nnodes;
    struct tjob *jobs; /* by id; ids begin at 1 */
    unsigned njobs;
    struct mu_policy_user *users;
    unsigned nusers;
    uint64_t until;   /* stop then; 0: when all jobs have ended */
    unsigned backlog; /* each user keeps so many jobs queued; 0: they come at their times */
    bool steady;      /* the order never changes, nor the nodes: then a promise never gets later */
    bool fifo;        /* strictly in turn, without the policy: to compare with */
    bool flaky;       /* nodes come and go */
    void (*more)(struct trace *, struct tjob *); /* makes a job, for backlog */

    const char *wrong; /* what did not hold */
    char text[400];
    double *used; /* by user, slot-seconds */
    uint64_t now, decisions, preemptions, dropped, spent_ns, longest_ns;
    unsigned most_queued, most_at_longest;
    double busy; /* slot-seconds in use */
};

/* Time that this process has computed: what else the machine does is not counted. */
static inline uint64_t trace_clock(void)
{
    return mu_clock_read(CLOCK_PROCESS_CPUTIME_ID);
}
uint64_t trace_random(struct trace *, uint64_t below);
bool trace_chance(struct trace *, unsigned permille);
double trace_unit(struct trace *); /* 0 to 1 */
/* Its nodes, jobs and users are the caller's to fill in; trace_free frees them. */
bool trace_new(struct trace *, uint64_t seed, unsigned nodes, unsigned jobs, unsigned users);
bool trace_run(struct trace *); /* false: wrong says what did not hold */
void trace_free(struct trace *);

/* kinds.c */
struct trace_kind {
    const char *name;
    unsigned every; /* seeds: some take longer */
    void (*make)(struct trace *, uint64_t seed);
    const char *(*judge)(struct trace *); /* at the end; NULL: good */
};
extern const struct trace_kind trace_kinds[];
extern const unsigned trace_nkinds;
/* 10,000 jobs on 1,000 nodes, and what is compared with it. */
int trace_bench(uint64_t seed);

#endif
