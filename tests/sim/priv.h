/* Shared by the simulator's files only: its world, and what they call of each other. queue.c: time and network;
 * store.c: what is stored; actors.c: the cores with the processes around them; hosts.c: machines that die, links that
 * are cut; tree.c: agents whose way goes through others; world.c: faults, the main loop, what must hold at the end. */
#ifndef TESTS_SIM_PRIV_H
#define TESTS_SIM_PRIV_H

#include "launcher/branch.h"
#include "launcher/core/checks.h"
#include "launcher/core/policy.h"
#include "runtime/agent/tree.h"
#include "runtime/wire/beat.h"
#include "tests/sim/sim.h"

enum what {
    CTL_START,
    CTL_TICK,
    AGENT_START,
    AGENT_TICK,
    AGENT_DIAL,
    KEEPER_TICK,
    KEEPER_DIAL,
    LINE_DIAL,
    SPAWNED,
    RANK_END,
    PROGRESS,
    RANK_HANGS, /* one that was frozen is seen to be */
    K_CLEANED,
    A_SPAWNED,
    A_CHILD,
    A_CLEANED,
    A_CHECKED, /* health checks are made; status 1: one has failed */
    DELIVER,
    DOWN,
    CLIENT_DIAL,
    CLIENT_CANCEL,
    CLIENT_HOLD, /* or release */
    CLIENT_REQUEUE,
    FAULT,
    FORSAKEN,  /* the agent of a keeper that hangs dies, then its host is cut off */
    ECHO,      /* a beat of an agent has been heard and echoed */
    SUSPECTED, /* half a second of silence */
    FELL_SILENT,
    HEALED,
    PROBED,
    ENGINE_DONE,
    BEAT,        /* of an agent to the one above it */
    MOVE,        /* it was told another one */
    STUCK,       /* which it has not reached */
    RETIRE,      /* the connection before the present one */
    LINK_SILENT, /* between two agents */
    STREAM_DOWN  /* a connection of the controller's below another one, closed by it */
};

struct event {
    uint64_t t, seq;
    enum what what;
    uint32_t who, gen, conn, dir;
    uint64_t job;
    uint32_t attempt, index;
    int32_t status;
    char *frame;
    size_t len;
};

enum side { CTL, AGENT, KEEPER, CLIENT, STREAM }; /* STREAM: numbered only, its frames go over another one */
struct net {                                      /* one connection: side 0 dialled, side 1 accepted */
    bool open, ended[2];                          /* ended: side i has seen its end, or will see nothing but it */
    bool greeted;                                 /* an agent below: it has said hello */
    uint64_t theirs;                              /* the newest of its beats */
    uint32_t begun;                               /* how often the way on it was lost and begun anew */
    uint64_t cut_since, cut_until;
    enum side kind[2];
    uint32_t who[2], gen[2];
    uint64_t last[2]; /* newest delivery towards side i */
};

struct keeper {
    struct mu_keeper *core;
    bool alive, hung;               /* hung: sees and does nothing any more, until it is killed */
    uint32_t gen, node, conn, line; /* line: its own connection to the controller */
    uint64_t job, tick, steps;
    uint32_t attempt, nnodes, world;                  /* whose ranks these are; nodes and ranks of that attempt */
    bool live[MAX_RANKS], frozen[MAX_RANKS], spawned; /* frozen: lives until it is killed */
    uint32_t base;                                    /* world rank of the first */
    uint32_t nlive;
};
struct node {
    struct mu_agent *core;
    bool alive;
    uint32_t gen, conn;
    uint64_t tick;
    char name[16];
    uint32_t slots;
    struct world *world;
    struct mu_tree *tree;
    struct mu_beat beat; /* towards its parent */
    uint32_t old;        /* the connection before conn */
    bool through, path;  /* conn goes to another agent, which has a way itself */
    /* hosts of jobs get their agent from an engine; n0 is the controller's machine, the others can be cut off */
    bool of_job, down;
    uint64_t owner; /* of the agent that runs */
    unsigned cut;   /* CUT_ bits */
    uint32_t cut_id;
    uint64_t cut_since, cut_until;
    struct { /* ranks whose keeper died: until cleaned */
        uint64_t job;
        uint32_t attempt, n;
    } orphans[MAX_JOBS * 4];
    unsigned norphans;
    uint64_t dead[MAX_JOBS * 2]; /* jobs whose keeper is dead and not forgotten: the marks that keepers leave */
    unsigned ndead, boots;
    char boot[16];
};
enum { CUT_IN = 1, CUT_OUT = 2 }; /* nothing reaches the node; nothing of it reaches the controller */

struct truth { /* what really happened to a job */
    char hosts[64];
    uint32_t spares, min_ranks;
    char token[24];
    uint64_t acked, id; /* id: it has, or had, in the store */
    uint32_t ranks, started[MAX_NODES], newest;
    int32_t priority;
    uint64_t after; /* a job that must have completed before; 0: none */
    bool holds;     /* its client will hold it and release it */
    bool held;      /* which it was told has happened */
    bool asked_hold;
    unsigned unanswered; /* requests on its connection */
    bool submitted;
    uint32_t stored;          /* newest attempt that ever was */
    bool row_lost, forgotten; /* not in the store any more; and who knew it has died: nobody can know of it */
    bool foreground, cancelled, over_seen;
    uint32_t conn; /* the client's */
    bool client_dead;
    uint32_t given_up;                        /* attempts up to this one */
    uint64_t lost[MAX_ATTEMPTS / 64 + 1];     /* attempts that lost a node */
    uint32_t ok_ranks, ok_attempt, ok_world;  /* ranks of ok_attempt that ended with 0 */
    bool ok_lost;                             /* a keeper that knew died */
    uint8_t ended_well[MAX_ATTEMPTS];         /* ranks of each attempt that did, given up or not */
    uint32_t told, told_gen;                  /* newest attempt that controller was told of by a node */
    uint32_t unknown;                         /* the newest attempt that the store has lost; 0: it has it again */
    uint64_t put_back[MAX_ATTEMPTS / 64 + 1]; /* attempts that were told to end for the queue */
    uint64_t spawned[MAX_NODES][MAX_ATTEMPTS / 64 + 1];
};

struct world {
    uint64_t rng, now, seq, until_faults;
    struct event *heap;
    size_t nheap, capheap;
    struct {
        uint64_t id;
        struct mu_bytes blob;
        struct mu_m_jobrow row, before; /* before: as it was when an earlier attempt was the newest */
        bool had_before;
    } store[MAX_JOBS];
    bool loses, lossy;
    uint32_t losses;                      /* its store does lose changes; it has */
    uint64_t lost_above, lost_last, last; /* jobs above it; highest number ever */
    unsigned nstore;
    struct mu_ctl *ctl;
    struct mu_branches *branches, *dead[64]; /* dead: one may be at work when its controller dies */
    unsigned ndead;
    uint32_t fanout, fabric; /* fabric: 0 none, 1 known, 2 it never is, although it was said to be */
    bool ctl_alive;
    uint32_t ctl_gen;
    uint64_t ctl_tick;
    struct node node[MAX_NODES];
    unsigned nnodes, nall; /* of the pool; with the hosts of jobs */
    struct keeper keeper[MAX_KEEPERS];
    unsigned nkeepers;
    struct net net[MAX_CONNS];
    uint32_t nnet;
    struct truth job[MAX_JOBS];
    unsigned njobs;
    struct world_stats stats;
    bool trace, crashy, deep;
    uint32_t quarantine;
    struct mu_buf marks; /* stored, as MU_ACT_MARKS has them */
    struct mu_policy_settings policy;
    struct mu_check_settings checks;
    bool checked; /* nodes are */
    char bad[400];
};

uint64_t sim_below(struct world *w, uint64_t n);
bool sim_chance(struct world *w, unsigned permille);
void sim_violated(struct world *w, const char *fmt, ...) MU_PRINTF(2, 3);
void sim_trace(struct world *w, const char *fmt, ...) MU_PRINTF(2, 3);
struct event *sim_at(struct world *w, uint64_t t, enum what what);
struct event sim_pop(struct world *w);
uint32_t sim_dial(struct world *w, enum side k0, uint32_t w0, uint32_t g0, enum side k1, uint32_t w1, uint32_t g1);
void sim_transmit(struct world *w, uint32_t conn, int to, const struct mu_buf *frame);
void sim_hang_up(struct world *w, uint32_t conn);
int sim_stored(struct world *w, uint64_t id);
void sim_put_row(struct world *w, const struct mu_buf *frame);
void sim_lose_rows(struct world *w);
bool sim_lost(const struct truth *t, uint32_t attempt);
struct truth *sim_truth_of(struct world *w, uint64_t id);
void sim_ctl_crash(struct world *w);
void sim_ctl_step(struct world *w, struct mu_ev *ev);
void sim_ctl_start(struct world *w);
void sim_keeper_gone(struct world *w, unsigned i, bool crash);
void sim_mark(struct world *w, unsigned node, uint64_t job, bool dead);
bool sim_freeze(struct world *w);
void sim_rank_hangs(struct world *w, struct event *e);
void sim_end_rank(struct world *w, unsigned who, uint32_t index, uint64_t after, int32_t status);
void sim_keeper_step(struct world *w, unsigned who, struct mu_ev *ev);
void sim_agent_step(struct world *w, unsigned who, struct mu_ev *ev);
void sim_agent_start(struct world *w, unsigned who);
void sim_agent_crash(struct world *w, unsigned who);
void sim_agent_end(struct world *w, unsigned who);
void sim_host_fault(struct world *w);
void sim_host_cut_off(struct world *w, unsigned who);
void sim_host_event(struct world *w, struct event *e); /* ECHO and what follows it */
void sim_line_dial(struct world *w, struct event *e);
void sim_host_dialled(struct world *w, unsigned who);
void sim_tree_start(struct world *w, unsigned who);
void sim_tree_up(struct world *w, unsigned who, uint32_t conn, bool through);
void sim_tree_lost(struct world *w, unsigned who); /* its way is */
void sim_tree_from_above(struct world *w, unsigned who, const struct mu_msg *m, bool through);
void sim_tree_from_below(struct world *w, unsigned who, uint32_t conn, const struct mu_msg *m, const struct event *e);
void sim_tree_event(struct world *w, struct event *e);
void sim_tree_fault(struct world *w);
void sim_tree_ctl_start(struct world *w);
void sim_tree_ctl_stop(struct world *w);
void sim_tree_ctl_take(struct world *w, uint32_t conn, const struct mu_m_relay *m);
void sim_tree_ctl_lost(struct world *w, uint32_t conn, int status);
void sim_tree_ctl_send(struct world *w, const struct mu_act *a);
void sim_tree_ctl_close(struct world *w, uint32_t conn);
uint32_t sim_number(struct world *w);                         /* of a new connection */
void sim_host_ask(struct world *w, const struct mu_act *act); /* PROBE, ENGINE */
bool sim_host_cut(const struct world *w, uint32_t conn, int to, uint64_t *until, uint64_t *since);
unsigned sim_host_of(const struct world *w, const char *name); /* MAX_NODES: none */
void sim_client_send(struct world *w, unsigned who, enum mu_msg_type type, const void *body);
void sim_client_dial(struct world *w, unsigned who);
void sim_client_msg(struct world *w, unsigned who, const struct mu_msg *m);

#endif
