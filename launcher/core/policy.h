/* The queue's policy: a view of the pool (nodes, running jobs, queued jobs, users) -> which jobs start where, which are
 * preempted, and for every other job why it waits. Pure: no clock, no store, nobody is told.
 *
 * Order: who has waited longest, has the higher priority, or has had less than a fair share of the pool is first. All
 * of these are counted in hours of waiting, and waiting is not limited, so every job is the first one day.
 * Backfill: the first jobs of the order are promised a start, by the time limits of those before them; no other job
 * starts where it would be in the way of a promise. A promise is kept until a job that has none comes before it, or
 * nodes are lost. What was promised is the only state, kept in struct mu_policy.
 * Times are nanoseconds of one clock, whichever it is. */
#ifndef MU_LAUNCHER_CORE_POLICY_H
#define MU_LAUNCHER_CORE_POLICY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/err.h"

/* Memory is counted in such units, rounded against jobs; most: of the largest node. */
static inline uint64_t mu_policy_unit(uint64_t most)
{
    return most / 30000 + 1;
}

enum mu_res { MU_RES_SLOTS, MU_RES_GPUS, MU_RES_MEMORY, MU_RES_N };

enum { MU_PREEMPT_OFF, MU_PREEMPT_ON, MU_PREEMPT_FORCE };
struct mu_policy_share_of {
    char user[64];
    double share;
};
struct mu_policy_settings {
    uint64_t half_life_ns;     /* of what users have used */
    uint64_t share_weight_ns;  /* all that fair share can make of a difference, as a time of waiting */
    uint64_t priority_step_ns; /* one step of priority, the same way */
    uint64_t assumed_limit_ns; /* of a job that has no time limit: for plans, it is not ended by it */
    uint64_t replan_ns;        /* promises are looked at for earlier starts so often; 0: always */
    uint32_t depth;            /* jobs that are promised a start */
    uint32_t spare_nodes;      /* idle ones that no job is started on: for jobs that lose a node */
    uint32_t preempt;          /* MU_PREEMPT_; FORCE: with old checkpoints and without any, too */
    uint64_t preempt_after_ns; /* a job preempts others when it would wait longer than that */
    uint64_t preempt_ckpt_ns;  /* and only those whose checkpoint is younger */
    double default_share;
    struct mu_policy_share_of *shares; /* users that have another one */
    unsigned nshares;
};
void mu_policy_defaults(struct mu_policy_settings *);
/* Text of a settings file (docs/formats.md, "The queue's policy"). On an error *out is as it was and err names line and
 * column after `name`. */
int mu_policy_parse(const char *name, const char *text, size_t len, struct mu_policy_settings *out, struct mu_err *err);
void mu_policy_settings_free(struct mu_policy_settings *);
double mu_policy_share(const struct mu_policy_settings *, const char *user);

struct mu_policy_node {
    uint64_t has[MU_RES_N];
    const char *labels;  /* "fast,rack3"; NULL: none */
    bool usable;         /* up, and the pool's; others keep what runs on them */
    uint64_t busy_until; /* what is free there is not free before; 0: it is */
};
struct mu_policy_share { /* room for n ranks on a node */
    uint32_t node, n;
};
struct mu_policy_run {
    uint64_t id, started, ends; /* ends: by its time limit; 0: it has none */
    uint64_t need[MU_RES_N];    /* of one rank */
    const struct mu_policy_share *shares;
    unsigned nshares;
    int32_t priority;
    uint32_t user;            /* in view.users */
    bool preemptible, ending; /* ending: it was told to */
    uint64_t ckpt_at;         /* its newest checkpoint; 0: none */
};
enum { MU_AFTER_OK, MU_AFTER_PENDING, MU_AFTER_FAILED };
struct mu_policy_after {
    uint64_t id;
    uint32_t state; /* MU_AFTER_ */
};
struct mu_policy_job {
    uint64_t id, since; /* since: waits from then on */
    uint64_t limit_ns;  /* 0: none */
    int32_t priority;
    uint32_t user;                      /* in view.users */
    uint32_t ranks, nodes, ppn, spares; /* nodes: exactly so many; ppn: at most so many ranks a node; 0: any */
    uint64_t need[MU_RES_N];            /* of one rank */
    const char *label;                  /* nodes must have it; NULL: any will do */
    const uint32_t *only;               /* nodes that it may have; NULL: all */
    unsigned nonly;
    bool baseline; /* only has those that are as they were approved, for the reason */
    const struct mu_policy_after *after;
    unsigned nafter;
    bool held;
};
struct mu_policy_user {
    double usage, share; /* usage: now, as mu_usage_get says it; any unit */
};
struct mu_policy_view {
    uint64_t now;
    const struct mu_policy_node *nodes;
    unsigned nnodes;
    const struct mu_policy_run *runs;
    unsigned nruns;
    const struct mu_policy_job *jobs; /* queued, by id, ascending */
    unsigned njobs;
    const struct mu_policy_user *users;
    unsigned nusers;
};

enum mu_policy_what {
    MU_POLICY_START,   /* view.jobs[job] on shares, the last nspares of them spares */
    MU_POLICY_PREEMPT, /* view.runs[run], for view.jobs[job] */
    MU_POLICY_DROP,    /* view.jobs[job]: what it waits for, job `other`, has failed; look again at once */
};
struct mu_policy_act {
    enum mu_policy_what what;
    unsigned job, run;
    uint64_t other;
    const struct mu_policy_share *shares;
    unsigned nshares, nspares;
    const int16_t *room; /* START: slots by node that it may have for all of its time; shares is one way to use them */
};
enum mu_policy_why {
    MU_WHY_NOT, /* it does not wait */
    MU_WHY_HELD,
    MU_WHY_AFTER,      /* for job `other` */
    MU_WHY_ROOM,       /* what it needs is not free */
    MU_WHY_SHAPE,      /* so much is free, but not on nodes as it needs them */
    MU_WHY_BEHIND,     /* what is free is kept for job `other` */
    MU_WHY_NODES,      /* the nodes that are up have no room for it, even when all else has ended */
    MU_WHY_PREEMPTING, /* jobs end for it */
};
struct mu_policy_wait {
    enum mu_policy_why why;
    uint32_t place;                     /* in the order, 1: first; 0: not in it */
    uint64_t other;                     /* a job */
    uint64_t promised;                  /* it starts then at the latest; 0: that is not known */
    uint64_t free_slots, slots;         /* at this time; of all nodes that are up */
    double score, age, priority, share; /* score: the sum of the others; hours */
    double factor;                      /* of the user's fair share: 1 nothing used, 0.5 just the share */
};
struct mu_policy_plan { /* belongs to the policy, until the next decision */
    const struct mu_policy_act *acts;
    unsigned nacts;
    const struct mu_policy_wait *waits; /* by view.jobs */
    uint64_t next;                      /* look again then, if nothing happens before; UINT64_MAX: no need to */
};

struct mu_policy;
struct mu_policy *mu_policy_new(void); /* NULL: out of memory */
void mu_policy_free(struct mu_policy *);
/* Decides. What it says of acts is taken as done: the next view has them. ENOMEM: nothing is decided. */
int mu_policy_decide(struct mu_policy *, const struct mu_policy_settings *, const struct mu_policy_view *,
                     struct mu_policy_plan *);
/* Why a job waits, in a line for people. */
void mu_policy_reason(const struct mu_policy_job *, const struct mu_policy_wait *, char *buf, size_t n);

/* What a user has used, less by half every half-life: value is slot-seconds, rate the slots in use since `at`. */
struct mu_usage {
    double value, rate;
    uint64_t at;
};
void mu_usage_rate(struct mu_usage *, uint64_t half_life_ns, uint64_t now, double rate); /* from now on */
double mu_usage_get(const struct mu_usage *, uint64_t half_life_ns, uint64_t now);

/* Planted mutations: the traces of tests/policy must catch each of them. */
#define MU_POLICY_MUTATIONS(X)                                                                                         \
    X(TWICE, "what a started job takes is still free for the next")                                                    \
    X(PROMISE_IGNORED, "backfill looks at what is free now alone")                                                     \
    X(SHORT_WINDOW, "a job is taken to end in half its time")                                                          \
    X(AGE_IGNORED, "waiting does not count")                                                                           \
    X(SHARE_IGNORED, "what a user has used does not count")                                                            \
    X(AFTER_IGNORED, "a job starts before what it waits for has ended")                                                \
    X(HELD_IGNORED, "a held job starts")                                                                               \
    X(SPARES_USED, "jobs are started on the pool's spare nodes")                                                       \
    X(OLD_CKPT, "a job is preempted whose checkpoint is old")                                                          \
    X(LABEL_IGNORED, "a job starts on nodes without its label")                                                        \
    X(RANK_NEEDS, "only slots are looked at, not GPUs and memory")
enum mu_policy_mutation {
    MU_POLICY_MUT_NONE,
#define MU_POLICY_MUT(name, text) MU_POLICY_MUT_##name,
    MU_POLICY_MUTATIONS(MU_POLICY_MUT)
#undef MU_POLICY_MUT
};
#ifdef MU_MUTANTS
extern enum mu_policy_mutation mu_policy_mutation;
#define MU_POLICY_MUTANT(name) (mu_policy_mutation == MU_POLICY_MUT_##name)
#else
#define MU_POLICY_MUTANT(name) 0
#endif

#endif
