/* What the pure cores of controller, agent and keeper share. A core is a function (state, event) -> actions: time and
 * network come in as events, everything it wants done goes out as actions. The thin shell around it (or the simulator)
 * carries actions out in their order; a crash may come between any two of them, so a core puts what must be stored
 * before what tells others about it. */
#ifndef MU_WIRE_CORE_H
#define MU_WIRE_CORE_H

#include <stdbool.h>

#include "runtime/wire/msg.h"

enum mu_job_state {
    MU_JOB_QUEUED = 1,
    MU_JOB_STARTING,
    MU_JOB_RUNNING,
    MU_JOB_RECOVERING,
    MU_JOB_COMPLETED,
    MU_JOB_FAILED,
    MU_JOB_CANCELLED,
};
static inline int mu_job_over(unsigned state)
{
    return state >= MU_JOB_COMPLETED;
}

/* A keeper's attempt. LOST is said by the agent in place of a keeper that died. */
enum mu_phase { MU_PHASE_IDLE, MU_PHASE_STARTING, MU_PHASE_RUNNING, MU_PHASE_KILLING, MU_PHASE_GONE, MU_PHASE_LOST };

enum { MU_FAIL_KILL, MU_FAIL_KEEP };         /* spec.on_failure */
enum { MU_BIND_NONE = 1, MU_BIND_CORE = 2 }; /* spec.bind, 0 = default */
enum { MU_STREAM_OUT = 1, MU_STREAM_ERR = 2 };
enum { MU_END_NONE, MU_END_CANCEL, MU_END_TIMEOUT, MU_END_CLIENT }; /* jobrow.ending */
/* report.starterr: why another attempt would be no use. START: no rank ran; ENDED: a rank left the job in good order
 * and ended with a code that is not 0; BUSY: its checkpoint directory is another job's. */
enum { MU_VAIN_NO, MU_VAIN_START, MU_VAIN_ENDED, MU_VAIN_BUSY };

typedef uint32_t mu_conn; /* a connection, numbered by the shell, never used twice; 0 = none */

enum mu_ev_kind {
    MU_EV_TIME,    /* now has reached what the core asked for */
    MU_EV_UP,      /* conn exists */
    MU_EV_DOWN,    /* conn is gone */
    MU_EV_MSG,     /* msg came on conn */
    MU_EV_LOAD,    /* controller: one row of the store (msg: jobrow), before anything else */
    MU_EV_LOADED,  /* controller: that was all */
    MU_EV_CHILD,   /* agent: keeper of job has exited (pid) / keeper: local rank `index` exited with `status` */
    MU_EV_SPAWNED, /* agent: keeper process pid runs / keeper: ranks run; status != 0: failed, text says why */
    MU_EV_CLEANED, /* job/attempt: nothing is left of it on this node */
    MU_EV_SLOTS,   /* keeper: progress of the ranks, in report */
};
struct mu_ev {
    enum mu_ev_kind kind;
    uint64_t now, wall;
    mu_conn conn;
    const struct mu_msg *msg;
    uint64_t job;
    uint32_t attempt, pid, index;
    int32_t status;
    uint32_t abnormal; /* MU_EV_CHILD at a keeper: exited with 0 but left MPI without finalising; status is then 0 */
    uint32_t vain;     /* MU_EV_CHILD at a keeper: MU_VAIN_ */
    const char *text;
    const struct mu_m_report *report;
};

enum mu_act_kind {
    MU_ACT_SEND,    /* frame to conn; dropped when the connection is gone */
    MU_ACT_CLOSE,   /* conn, after what was sent */
    MU_ACT_PUT_JOB, /* controller: store the row (frame: jobrow). durable: committed before the next action runs */
    MU_ACT_EVENT,   /* controller: append to the job's events */
    MU_ACT_SPAWN,   /* agent: start a keeper for job / keeper: start the attempt's ranks (frame: start) */
    MU_ACT_SIGNAL,  /* keeper: signo to local rank `index`, or to all that live (index MU_ALL) */
    MU_ACT_CLEAN,   /* kill what is left of job/attempt on this node, remove its files; answer: MU_EV_CLEANED */
    MU_ACT_ABORT,   /* keeper: write the abort word (first failure) for the survivors */
    MU_ACT_NOTICE,  /* keeper: set notice bits for the ranks (signo = bits) */
    MU_ACT_INPUT,   /* keeper: data for rank 0's standard input (frame: input) */
    MU_ACT_STREAM,  /* keeper: live output on/off (signo) */
    MU_ACT_ACK,     /* keeper: output consumed (frame: output_ack) */
    MU_ACT_EXIT,    /* the process ends */
};
#define MU_ALL UINT32_MAX

struct mu_act {
    enum mu_act_kind kind;
    mu_conn conn;
    struct mu_buf frame;
    uint64_t job;
    uint32_t attempt, index, signo, durable;
    int32_t rank, status;
    char event[24], node[64], detail[400];
};

struct mu_acts {
    struct mu_act *v;
    size_t n, cap;
    bool failed; /* out of memory: some action is missing */
};

/* Next action, zeroed, of that kind; a scratch one when memory is out (failed is set). */
struct mu_act *mu_acts_add(struct mu_acts *, enum mu_act_kind);
void mu_acts_send(struct mu_acts *, mu_conn, enum mu_msg_type, const void *body);
void mu_acts_clear(struct mu_acts *); /* forgets the actions, keeps the memory */
void mu_acts_free(struct mu_acts *);

/* Planted mutations: the simulator must catch each of them (tests/sim). Only the simulator's second build has them. */
#define MU_MUTATIONS(X)                                                                                                \
    X(EPOCH_UNCHECKED, "a report of an older attempt is believed")                                                     \
    X(ACK_BEFORE_COMMIT, "a submission is acknowledged before it is stored")                                           \
    X(SLOT_FREED_TWICE, "the slots of a job are given back twice")                                                     \
    X(ATTEMPT_NOT_STORED, "an attempt is started before its number is stored")                                         \
    X(RESTART_BEFORE_GONE, "the next attempt starts while ranks of the last one live")                                 \
    X(AGENT_FORGETS, "an agent starts an attempt that it has already started")                                         \
    X(RELEASE_EARLY, "a keeper is released before the end of its job is stored")                                       \
    X(TOKEN_IGNORED, "a repeated submission becomes a second job")
enum mu_mutation {
    MU_MUT_NONE,
#define MU_MUT(name, text) MU_MUT_##name,
    MU_MUTATIONS(MU_MUT)
#undef MU_MUT
};
#ifdef MU_MUTANTS
extern enum mu_mutation mu_mutation;
#define MU_MUTANT(name) (mu_mutation == MU_MUT_##name)
#else
#define MU_MUTANT(name) 0
#endif

#endif
