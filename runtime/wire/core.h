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
    MU_JOB_SUSPENDED, /* preempted: waits again */
};
static inline int mu_job_over(unsigned state)
{
    return state >= MU_JOB_COMPLETED && state != MU_JOB_SUSPENDED;
}
static inline int mu_job_waits(unsigned state)
{
    return state == MU_JOB_QUEUED || state == MU_JOB_SUSPENDED;
}

/* A keeper's attempt. LOST is said by the agent in place of a keeper that died. */
enum mu_phase { MU_PHASE_IDLE, MU_PHASE_STARTING, MU_PHASE_RUNNING, MU_PHASE_KILLING, MU_PHASE_GONE, MU_PHASE_LOST };

/* Open files of a keeper: a rank has two pipes, two logs and its connection to PMIx; programs that start MPI programs
 * have more. */
#define MU_FILES_OF_RANK 6u
#define MU_FILES_OF_KEEPER 64u

#define MU_PRIORITY_MAX 100                                         /* spec.priority, and -100 */
#define MU_AFTER_MAX 64u                                            /* spec.after: so many jobs */
enum { MU_FAIL_KILL, MU_FAIL_KEEP };                                /* spec.on_failure */
enum { MU_BIND_NONE = 1, MU_BIND_CORE, MU_BIND_NUMA, MU_BIND_GPU }; /* spec.bind, 0 = default */
/* How plausible it is that a rank's end caused the others': the smaller the more, 0 = not known. PEER: it ended because
 * another one had. */
enum { MU_BLAME_SIGNAL = 1, MU_BLAME_CODE, MU_BLAME_PEER };
/* Ranks that hang. When a rank has waited for another one for the hang deadline, the controller decides who holds it
 * up; a stopped process holds up everybody, and is given MU_HANG_STOPPED_NS if that is shorter. */
#define MU_HANG_NS (600 * 1000000000ull)          /* spec.hang_ns_plus1 0 */
#define MU_HANG_LEAST_NS (1 * 1000000000ull)      /* shorter deadlines are not taken */
#define MU_HANG_STOPPED_NS (10 * 1000000000ull)   /* SIGSTOP, a frozen cgroup */
static inline uint64_t mu_hang_ns(uint64_t plus1) /* of a spec; 0 = no deadline */
{
    return plus1 ? plus1 - 1 : MU_HANG_NS;
}
static inline uint64_t mu_hang_stopped_ns(uint64_t hang_ns)
{
    return hang_ns < MU_HANG_STOPPED_NS ? hang_ns : MU_HANG_STOPPED_NS;
}
/* hang.level. SOME: ranks have waited for a while; OVER: the deadline is over; LATE: a rank has given up at a deadline
 * of the library's own. */
enum { MU_HANG_LEVEL_NONE, MU_HANG_LEVEL_SOME, MU_HANG_LEVEL_OVER, MU_HANG_LEVEL_LATE };
/* hang.what. The first four are verdicts, the more plausible first: its process is stopped; it is inside the library
 * but does not come round to waiting; it is not where it is waited for; ranks wait for one another. The others are not:
 * the wait goes on at a rank of another node (MU_ALL: at whoever has not called muster_init), ends at files, or
 * nowhere. */
enum {
    MU_HANG_NOBODY,
    MU_HANG_STOPPED,
    MU_HANG_STUCK,
    MU_HANG_ABSENT,
    MU_HANG_CYCLE,
    MU_HANG_ELSEWHERE,
    MU_HANG_FILES,
};
/* mark.kind: jobs get the node no more until it is resumed, or until a time; jobs get it although its GPUs have a
 * fault, which somebody knows of. */
enum { MU_OUT_DRAIN = 1, MU_OUT_QUARANTINE, MU_OUT_KNOWN };
/* checked.levels. SKIP: there is nothing there to be checked. WARN is only told. */
enum { MU_LEVEL_OK, MU_LEVEL_SKIP, MU_LEVEL_WARN, MU_LEVEL_FAIL };
#define MU_CHECK_ALL_NS (120 * 1000000000ull) /* all checks of a node take no longer: what lasts longer has failed */
enum { MU_STREAM_OUT = 1, MU_STREAM_ERR = 2 };
/* jobrow.ending. After the last two it waits again. */
enum { MU_END_NONE, MU_END_CANCEL, MU_END_TIMEOUT, MU_END_CLIENT, MU_END_REQUEUE, MU_END_PREEMPT };
/* report.starterr: why another attempt would be no use. START: no rank ran; ENDED: a rank left the job in good order
 * and ended with a code that is not 0; BUSY: its checkpoint directory is another job's. */
enum { MU_VAIN_NO, MU_VAIN_START, MU_VAIN_ENDED, MU_VAIN_BUSY };

typedef uint32_t mu_conn; /* a connection, numbered by the shell, never used twice; 0 = none */

enum mu_ev_kind {
    MU_EV_TIME,    /* now has reached what the core asked for */
    MU_EV_UP,      /* conn exists */
    MU_EV_DOWN,    /* conn is gone */
    MU_EV_MSG,     /* msg came on conn */
    MU_EV_LOAD,    /* controller: one row of the store (msg: jobrow), or what MU_ACT_MARKS has stored (mark), or
                      MU_ACT_INVENTORY / agent: a    keeper of job (pid; 0: a dead one), before    anything else */
    MU_EV_LOADED,  /* controller: that was all */
    MU_EV_CHILD,   /* agent: keeper of job has exited (pid) / keeper: local rank `index` exited with `status` */
    MU_EV_SPAWNED, /* agent: keeper process pid runs / keeper: ranks run; status != 0: failed, text says why */
    MU_EV_CLEANED, /* job/attempt: nothing is left of it on this node */
    MU_EV_SLOTS,   /* keeper: progress of the ranks, in report */
    MU_EV_REFUSED, /* controller: job's submission could not be stored and has been refused; its start was not sent */
    MU_EV_SUSPECT, /* controller: nothing was heard on conn for a while (status 1), or it is heard again (0) */
    MU_EV_ENGINE,  /* controller: starting an agent on `node` ended: status 0, or what went wrong in text */
    MU_EV_PROBED,  /* controller: the host of `node` answers (status 0) or does not */
    MU_EV_ECHO,    /* agent: the controller is known to have heard us at `at`, by our clock, or later */
    MU_EV_STAY,    /* agent: the parent `node` could not be reached: its way is as it was */
    MU_EV_FENCE,   /* keeper: PMIx wants a fence of attempt (msg: fence with seq, among, data) */
    MU_EV_MODEX,   /* keeper: PMIx asks for what a rank elsewhere has published, or answers MU_ACT_MODEX (msg: modex) */
    MU_EV_HANG,    /* keeper: ranks hang, or the answer to MU_ACT_LOOK (msg: hang, without job and attempt) */
    MU_EV_MISBOUND, /* keeper: a rank does not run where it was bound to (msg: misbound, with a local rank) */
    MU_EV_NOCTL,    /* agent: no controller was listening at `at`, or later: its host has refused a connection */
    MU_EV_CHECKED,  /* agent: the answer to MU_ACT_CHECK (msg: checked, without id) */
    MU_EV_FABRIC,   /* controller: the fabric is `place` from now on; NULL: none is known */
};
/* A connection between hosts is given up after so long a silence. The ranks of an attempt on several nodes may live for
 * a lease after their agent sent the newest beat that the controller is known to have heard; the controller replaces a
 * node only a margin after that: then nothing of the attempt lives there, whoever is wrong about the network. A
 * controller that has just started gives its nodes MU_LOAD_NS, more than a lease: so a host that says that no
 * controller listens there is as good as a beat, and ranks outlive a controller that is away for however long. */
#define MU_SILENT_NS (1000 * 1000000ull)
#define MU_LEASE_NS (1000 * 1000000ull)
#define MU_LEASE_MARGIN_NS (100 * 1000000ull)
#define MU_LOAD_NS (3000 * 1000000ull)

/* status of MU_EV_DOWN: the other side ended it; fell silent; or its way to us broke further up, which says nothing of
 * itself. */
enum { MU_DOWN_CLOSED, MU_DOWN_SILENT, MU_DOWN_PARENT };
/* relay.kind: channels are there (up), or the lower end's own way is there: begin anew (down); a whole frame; a piece
 * of a frame that is longer than MU_RELAY_MAX; channels are gone (up), are to be closed, or the way is lost (down). */
enum { MU_RELAY_OPEN = 1, MU_RELAY_FRAME, MU_RELAY_PIECE, MU_RELAY_CLOSE };
#define MU_RELAY_MAX (256u << 10)
struct mu_place;
struct mu_ev {
    enum mu_ev_kind kind;
    uint64_t now, wall, at; /* at, of MU_EV_DOWN at the controller: when it was heard last; 0: see status */
    mu_conn conn, via;      /* via, of MU_EV_UP at the controller: the agent's through which it came; 0: directly */
    const struct mu_msg *msg;
    uint64_t job;
    uint32_t attempt, pid, index;
    int32_t status;
    uint32_t abnormal; /* MU_EV_CHILD at a keeper: exited with 0 but left MPI without finalising; status is then 0 */
    uint32_t aborted;  /* MU_EV_CHILD at a keeper: has called MPI_Abort, with abort_code */
    int32_t abort_code;
    const char *text, *node;
    const struct mu_m_report *report;
    uint32_t blame;               /* MU_EV_CHILD at a keeper: MU_BLAME_ */
    uint32_t vain;                /* the same: MU_VAIN_ */
    const struct mu_place *place; /* MU_EV_FABRIC: lives until the next one has been taken */
};

enum mu_act_kind {
    MU_ACT_SEND,    /* frame to conn or to all of conns; dropped where the connection is gone */
    MU_ACT_CLOSE,   /* conn, after what was sent */
    MU_ACT_PUT_JOB, /* controller: store the row (frame: jobrow). durable: committed before the next action runs */
    MU_ACT_EVENT,   /* controller: append to the job's events */
    MU_ACT_SPAWN,   /* agent: start a keeper for job / keeper: start the attempt's ranks (frame: start) */
    MU_ACT_SIGNAL,  /* keeper: signo to local rank `index`, or to all that live (index MU_ALL) */
    MU_ACT_CLEAN,   /* kill what is left of job/attempt on this node, remove its files; answer: MU_EV_CLEANED */
    MU_ACT_FORGET,  /* agent: nobody will ask for the job's dead keeper again; until then the next agent must know of it
                     */
    MU_ACT_ABORT,   /* keeper: write the abort word (first failure) for the survivors */
    MU_ACT_NOTICE,  /* keeper: set notice bits for the ranks (signo = bits) */
    MU_ACT_INPUT,   /* keeper: data for rank 0's standard input (frame: input) */
    MU_ACT_STREAM,  /* keeper: live output on/off (signo) */
    MU_ACT_ACK,     /* keeper: output consumed (frame: output_ack) */
    MU_ACT_EXIT,    /* the process ends */
    MU_ACT_ENGINE,  /* controller: start an agent on the host `node`, reached as detail; answer: MU_EV_ENGINE, or its UP
                     */
    MU_ACT_PROBE, /* controller: does the host of `node` (its agent's address: detail, port: signo) answer? MU_EV_PROBED
                   */
    MU_ACT_MARKS, /* controller: which nodes get no jobs is to be stored (frame: a mark each, one after the other) */
    MU_ACT_INVENTORY, /* controller: what a node is made of is to be stored (frame: inventory) */
    MU_ACT_FENCED,    /* keeper: answer PMIx's fence (frame: fenced) */
    MU_ACT_LOOK,      /* keeper: whom does rank `index` of the job wait for? Answer: MU_EV_HANG, at once */
    MU_ACT_CHECK,     /* agent: make the health checks (frame: check); answer: MU_EV_CHECKED, within MU_CHECK_ALL_NS */
    MU_ACT_MODEX, /* keeper: what has a local rank published (frame: modex, MU_EV_MODEX)? Or PMIx's question's answer */
};
#define MU_ALL UINT32_MAX

/* fence.flags. AGAIN: said before, an answer may have been lost, so others may have to help by saying theirs again.
 * DONE: that one has been answered and only helps. */
enum { MU_FENCE_AGAIN = 1, MU_FENCE_DONE = 2 };
#define MU_FENCE_ALL UINT64_MAX
/* Fences of all ranks are numbered from 0. Those of some ranks have the top bit, a hash of the ranks and, in the last
 * 16 bits, their own number. Two fences of one kind may be under way at once, not more: whoever answered or contributed
 * keeps the last MU_FENCE_KEEP of a kind. */
#define MU_FENCE_KEEP 2
static inline uint64_t mu_fence_kind(uint64_t seq)
{
    return seq >> 63 ? seq | 0xffff : 0;
}
/* How far seq is behind newest, both of one kind; negative: it is ahead. */
static inline int64_t mu_fence_behind(uint64_t newest, uint64_t seq)
{
    return seq >> 63 ? (int16_t)(uint16_t)(newest - seq) : (int64_t)(newest - seq);
}

struct mu_act {
    enum mu_act_kind kind;
    mu_conn conn, *conns; /* conns: several, the action's own; then conn is 0 */
    uint32_t nconns;
    struct mu_buf frame;
    uint64_t job;
    uint32_t attempt, index, signo, durable;
    int32_t rank, status;
    char event[24], node[256], detail[400];
};

struct mu_acts {
    struct mu_act *v;
    size_t n, cap;
    bool failed; /* out of memory: some action is missing */
};

/* Next action, zeroed, of that kind; a scratch one when memory is out (failed is set). */
struct mu_act *mu_acts_add(struct mu_acts *, enum mu_act_kind);
void mu_acts_send(struct mu_acts *, mu_conn, enum mu_msg_type, const void *body);
/* The same to several, encoded once: so it crosses each hop of the tree once. Zeros among conns are skipped. */
void mu_acts_cast(struct mu_acts *, const mu_conn *conns, uint32_t n, enum mu_msg_type, const void *body);
/* To whom a MU_ACT_SEND goes. */
static inline uint32_t mu_act_to(const struct mu_act *act, const mu_conn **v)
{
    *v = act->conns ? act->conns : &act->conn;
    return act->conns ? act->nconns : 1;
}
void mu_acts_clear(struct mu_acts *); /* forgets the actions, keeps the memory */
void mu_acts_free(struct mu_acts *);

/* Planted mutations: the simulator must catch each of them (tests/sim). Only the simulator's second build has them. */
#define MU_MUTATIONS(X)                                                                                                \
    X(EPOCH_UNCHECKED, "a report of an older attempt is believed")                                                     \
    X(ACK_BEFORE_COMMIT, "a submission is acknowledged before it is stored")                                           \
    X(SLOT_FREED_TWICE, "the slots of a job are given back twice")                                                     \
    X(ATTEMPT_NOT_STORED, "an attempt is started before its number is stored")                                         \
    X(BEGUN_AGAIN, "a start is sent again although a keeper that may have begun it is dead")                           \
    X(RESTART_BEFORE_GONE, "the next attempt starts while ranks of the last one live")                                 \
    X(AGENT_FORGETS, "an agent starts an attempt that it has already started")                                         \
    X(RELEASE_EARLY, "a keeper is released before the end of its job is stored")                                       \
    X(TOKEN_IGNORED, "a repeated submission becomes a second job")                                                     \
    X(LEASE_IGNORED, "ranks live on after their lease has run out")                                                    \
    X(REPLACED_EARLY, "a node is replaced before its lease can have run out")                                          \
    X(SPARE_TWICE, "one spare node replaces two")                                                                      \
    X(HANG_UNSEEN, "the lease of a keeper that hangs is trusted although its agent is dead")                           \
    X(HANG_FORGIVEN, "a keeper that hangs at its end is waited for")                                                   \
    X(RANK_HANGS_ON, "a rank that hangs is left alone")                                                                \
    X(HANG_KEPT, "a verdict on a rank of one attempt is carried out on the next")                                      \
    X(UP_AGE_IGNORED, "an agent takes its parent's beats for the controller's")                                        \
    X(KNOWN_EARLY, "an agent counts beats before the controller knows of its new way")                                 \
    X(OLD_WAY, "what comes late from a way that an agent has left is taken for its present one")                       \
    X(ORPHAN_LOST, "what is below a lost node is given up with it")                                                    \
    X(HOLD_NOT_STORED, "a hold is acknowledged before it is stored")                                                   \
    X(OUT_IGNORED, "a job starts on a node that is in quarantine")                                                     \
    X(REQUEUED_EARLY, "a job waits again before its ranks are gone")                                                   \
    X(UNSTARTED_UNSAID, "a keeper that cannot be started is not told of")                                              \
    X(LOST_RELEASED, "a running job that the store has lost is let go of")                                             \
    X(ATTEMPT_AGAIN, "a number of an attempt that the store has lost is given again")
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
