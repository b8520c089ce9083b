/* Shared by the controller core's files only. */
#ifndef MU_LAUNCHER_CORE_CTL_PRIV_H
#define MU_LAUNCHER_CORE_CTL_PRIV_H

#include "launcher/core/checks.h"
#include "launcher/core/ctl.h"
#include "launcher/core/fences.h"
#include "launcher/core/metrics.h"
#include "runtime/base/hosts.h"

#define MU_CTL_GRACE (5000000000ull) /* between the first signal and SIGKILL, ns */

/* What an agent that has come back has said of a job before it was ready, if not that it has the attempt. */
enum heard {
    HEARD_NOTHING, /* there never was a keeper, or it was let go of */
    HEARD_OLDER,   /* one that has not begun the attempt, and had nothing to do */
    HEARD_DEAD,    /* one that may have begun it, and is dead */
};

struct part { /* what one node does of a job's attempt */
    struct mu_share share;
    uint32_t phase; /* MU_PHASE_ as last reported for the job's attempt; IDLE: start sent, nothing heard */
    uint32_t nfailed, njoined, lost, starterr;
    bool confirmed; /* said by the agent since its last (re)connection */
    enum heard heard;
    uint64_t boot;   /* of the node when the start was sent; 0 = not known, or another controller has seen ranks */
    bool lapsed;     /* its keeper ended the ranks: the lease ran out */
    bool late;       /* given up, but ranks of it have been heard of since */
    uint32_t keeper; /* its keeper's pid, once that has reported the attempt */
    mu_conn line;    /* newest connection of a keeper itself; it breaks when that dies */
    bool line_lost;  /* and that of the attempt's keeper has broken */
    bool drained;
    bool kill_sent;     /* on the agent's present connection */
    bool asked;         /* its ranks were told to end, in this attempt, maybe by another controller */
    uint64_t killed_at; /* and when they were first, by us or our predecessor; 0: not in this attempt */
    uint64_t seq;       /* of the keeper's last report */
    uint64_t steps, step, first_step_wall, ckpt_plus1, restored_plus1;
    uint64_t store_bytes, store_retries;
    uint32_t store_trouble; /* sum of its text; 0: none */
    uint64_t ops, op_bytes, ckpt_bytes;
    bool inherited; /* the row has counted some of these already: they begin with what is heard first */
    uint64_t dropped, unseen;
    uint64_t called_at; /* hang.asked_at of the question to which it said that all its ranks have called muster_init */
    struct {            /* the last long wait that it has told of; nranks 0: none */
        uint32_t nranks, kind;
        uint64_t ctx, number, since;
    } wait;
};

/* Who holds up an attempt: what is known so far (ctl_hang.c). */
struct hang {
    struct mu_m_hang why; /* what made us ask */
    bool asking;
    uint32_t asked, hops; /* asked: rank, or MU_ALL */
    uint64_t asked_at;
    struct mu_m_hang low; /* of those asked, the one that has done least: waits may go round in circles */
    uint32_t low_part;
    struct mu_m_hang best; /* the verdict so far, about a rank of best_part; level 0: none */
    uint32_t best_part;
    uint64_t decide_at; /* others may know better until then; 0 = there is nothing to decide */
    bool killed;        /* the attempt ends because of it */
};

struct job {
    struct mu_m_jobrow row;
    struct mu_m_spec spec;
    struct mu_hosts named; /* spec's, once it has been asked for (mu_ctl_hosts) */
    struct part *parts;    /* NULL: holds no slots */
    unsigned nparts;
    struct mu_share *spares; /* nodes kept for it, without ranks */
    unsigned nspares;
    bool holds;                       /* its shares, spares included, are taken from the pool */
    double charged;                   /* slots that count as used by its user */
    const struct mu_policy_act *turn; /* of one that waits: what the policy wants of it now; NULL: nothing */
    uint32_t in_view_plus1;           /* where the policy has seen it; 0: it has not */
    bool wants_hosts;                 /* it waits for hosts of its own */
    bool failed_now;                  /* a failure of the current attempt is recorded */
    bool outdated;                    /* there was a newer attempt than the current one */
    uint32_t blame;                   /* MU_BLAME_ of it */
    uint64_t failed_at;
    struct hang hang;                    /* of the current attempt */
    uint32_t doubted_plus1, avoid_plus1; /* nodes: named as one that waits in a circle; to be replaced if possible */
    bool first_step;                     /* of this attempt, already told */
    bool ended_sent, restored_told;
    bool forgotten; /* the store has it, and nobody asks for it */
    mu_conn client;
    uint64_t client_until;               /* foreground client away: cancel at; 0 = no limit */
    uint64_t kill_at;                    /* time limit, monotonic; 0 = none */
    uint64_t retry_at;                   /* next attempt at; 0 = not waiting */
    uint64_t back_at;                    /* it is looked at then whether it can wait again; 0: it is not about to */
    uint64_t back_until;                 /* and its output is waited for no longer than that */
    uint64_t short_since;                /* the next attempt lacks a node since then; 0 = it does not */
    uint64_t stuck_at;                   /* its hosts do not come: given up at; 0 = not waiting for hosts */
    uint32_t asked_plus1;                /* a node that was asked what it has of a newer attempt; 0: it has said so */
    uint64_t asked_until;                /* it has not had its time for that yet; 0: it has */
    uint64_t stored_at;                  /* last PUT_JOB for progress */
    uint64_t store_bytes, store_retries; /* of its object store, since we know it */
    uint64_t saves, save_ns;             /* of this attempt, the most that a node has told */
    bool inherited;                      /* as in parts */
};

enum role { ROLE_NONE, ROLE_CLIENT, ROLE_AGENT, ROLE_LINE };
struct conn {
    mu_conn id;
    enum role role;
    int node;    /* ROLE_AGENT: index in the pool, -1 before MU_MSG_agent */
    bool stale;  /* an agent of a job that is over */
    mu_conn via; /* ROLE_AGENT: it came through the agent of that one; 0: directly */
    uint32_t pid;
    uint64_t job;
    uint64_t flight; /* ROLE_CLIENT: it has asked what the ranks of that job have called */
};

struct waiting { /* a submission that came before any agent did */
    mu_conn conn;
    uint64_t until;
    struct mu_msg msg;
};

/* A node that was taken out of the pool and may not have heard of it: what it is known by when it comes again. */
struct gone {
    uint64_t name, boot, incarnation;
    uint64_t started_until; /* an engine was at it: the agent may be another one until then */
};
enum { GONE_MAX = 64, NEWEST_MAX = 64 };

struct mu_ctl {
    struct mu_ctl_config cfg;
    struct mu_pool pool;
    struct mu_fences *fences;
    struct mu_ctl_tree *tree;
    struct mu_ctl_queue *queue;
    struct mu_ctl_inventory *inventory;
    struct job **jobs; /* by id, ascending */
    unsigned njobs, capjobs;
    struct conn *conns;
    unsigned nconns, capconns;
    struct waiting *waiting;
    unsigned nwaiting, capwaiting;
    struct gone gone[GONE_MAX];
    unsigned ngone;           /* so far: the oldest is forgotten */
    struct mu_m_mark *absent; /* of nodes that were out and have not come yet */
    unsigned nabsent;
    uint64_t next_id;
    uint64_t check_id;                       /* the newest */
    struct mu_check_settings check_defaults; /* where there are no others */
    uint64_t idle_since;                     /* 0 = busy */
    uint64_t nodes_due;                      /* nothing is to be done about a node before; 0: not known */
    uint64_t fabric_until;                   /* jobs wait for the fabric; 0 = not any more */
    uint64_t doubt_until; /* the store has lost something, and nodes are still to come; 0 = no more */
    uint32_t recalls;     /* questions about it that are not answered */
    struct {              /* attempts that the store does not have, but that were heard of: the newest of a job */
        uint64_t job;
        uint32_t attempt;
    } newest[NEWEST_MAX];
    unsigned nnewest; /* so far: the oldest is forgotten */
    bool leaving;     /* some node is */
    bool exiting, hold;
    uint64_t told[MU_METRICS_EVENTS], ended[MU_METRICS_STATES]; /* events by kind, jobs by state: ctl_metrics.c */
    uint64_t next;                                              /* as mu_ctl_next says it */
    /* of the step under way */
    uint64_t now, wall;
    struct mu_acts *acts;
};

bool mu_ctl_room(struct mu_ctl *); /* for one more job; false: out of memory */
void mu_ctl_refuse(struct mu_ctl *, mu_conn, int code, const char *text);
void mu_ctl_refuse_unknown(struct mu_ctl *, mu_conn, uint64_t job);
struct job *mu_ctl_find(struct mu_ctl *, uint64_t id);
struct part *mu_ctl_part(struct mu_ctl *, struct job *, int node); /* the node's; NULL: it has none */
void mu_ctl_put(struct mu_ctl *, struct job *, bool durable);
void mu_ctl_stored(struct mu_ctl *, struct job *, struct part *, const struct mu_m_report *); /* ctl_stored.c */
void mu_ctl_costs(struct job *, struct part *, const struct mu_m_report *);                   /* ctl_costs.c */
void mu_ctl_event(struct mu_ctl *, const struct job *, const char *kind, int rank, const char *node, const char *fmt,
                  ...) MU_PRINTF(6, 7);
void mu_ctl_vitals(struct mu_ctl *, int node, const struct mu_m_vitals *);
void mu_ctl_told(struct mu_ctl *, const char *kind); /* ctl_metrics.c: counts it */
void mu_ctl_set_state(struct mu_ctl *, struct job *, unsigned state, const char *fmt, ...) MU_PRINTF(4, 5);

void mu_ctl_load(struct mu_ctl *, const struct mu_m_jobrow *); /* ctl_load.c: a row of the store */
void mu_ctl_serve_waiting(struct mu_ctl *);                    /* clients that came too early */
void mu_ctl_wait(struct mu_ctl *, mu_conn, enum mu_msg_type, const void *body);

/* ctl_lost.c: jobs that the store has lost */
#define MU_ATTEMPT_SKIP 64u
void mu_ctl_lost_begin(struct mu_ctl *);
void mu_ctl_lost_tick(struct mu_ctl *);
bool mu_ctl_lost_may(struct mu_ctl *, uint64_t job);                         /* it is one of them */
bool mu_ctl_lost_ask(struct mu_ctl *, int node, const struct mu_m_report *); /* true: what the report is of */
bool mu_ctl_lost_waits(struct mu_ctl *, struct job *); /* a newer attempt may be taken up: none is started */
void mu_ctl_lost_owner(struct mu_ctl *, int node);
void mu_ctl_lost_node(struct mu_ctl *, int node); /* lost, and brought by a job that nobody knows: it goes */
void mu_ctl_lost_recalled(struct mu_ctl *, int node, const struct mu_m_recalled *);

/* ctl_jobs.c: submitted, started as attempts, ended */
void mu_ctl_job_submit(struct mu_ctl *, mu_conn, const struct mu_m_submit *);
void mu_ctl_job_refused(struct mu_ctl *, uint64_t job); /* there never was such a job */
void mu_ctl_job_cancel(struct mu_ctl *, struct job *, unsigned ending, int code, int signo, bool force,
                       const char *why);
void mu_ctl_job_hold(struct mu_ctl *, mu_conn, const struct mu_m_hold *);
void mu_ctl_job_tick(struct mu_ctl *, struct job *);
/* The start of the present attempt, once more, to the node of a part that has not begun it. */
void mu_ctl_job_start_again(struct mu_ctl *, struct job *, struct part *);
void mu_ctl_job_release(struct mu_ctl *, struct job *);
void mu_ctl_job_give_back(struct mu_ctl *, struct job *);             /* its slots */
bool mu_ctl_job_drained(const struct job *);                          /* its output has been had by whoever watches */
uint64_t mu_ctl_job_runs(const struct mu_ctl *, const struct job *);  /* ns, of its present run */
void mu_ctl_job_account(struct mu_ctl *, struct job *);               /* its present run ends */
void mu_ctl_job_resumes(const struct mu_ctl *, struct mu_m_jobrow *); /* its present run begins */
void mu_ctl_account_run(struct mu_ctl *, struct job *);               /* up to now, before its ranks or nodes change */
void mu_ctl_account_steps(const struct mu_ctl *, struct job *);       /* the attempt's steps are over */
void mu_ctl_account_waiting(const struct mu_ctl *, struct mu_m_jobrow *); /* it waits no longer */
bool mu_ctl_all_gone(const struct job *);                                 /* nothing is left of the attempt */
void mu_ctl_job_finish(struct mu_ctl *, struct job *, unsigned state, int code, const char *reason);
uint64_t mu_ctl_job_next(const struct job *);
void mu_ctl_job_free(struct job *);
void mu_ctl_schedule(struct mu_ctl *);
/* To the agents of all its parts, or of those in phases before `before`. */
void mu_ctl_send_agents(struct mu_ctl *, const struct job *, enum mu_msg_type, const void *body);
void mu_ctl_send_before(struct mu_ctl *, const struct job *, uint32_t before, enum mu_msg_type, const void *body);

/* ctl_recover.c: what keepers report, failures, whether there is another attempt */
void mu_ctl_job_report(struct mu_ctl *, int node, const struct mu_m_report *);
void mu_ctl_job_node_ready(struct mu_ctl *, int node);
void mu_ctl_job_decide(struct mu_ctl *, struct job *); /* what now, if nothing is left of its attempt */
void mu_ctl_job_node_heard(struct mu_ctl *, int node); /* it is not suspected any more */
void mu_ctl_job_keeper_dead(struct mu_ctl *, struct job *, struct part *);
void mu_ctl_job_keeper_none(struct mu_ctl *, struct job *, struct part *); /* its agent has nothing of it */
void mu_ctl_job_node_lost(struct mu_ctl *, struct job *, int node, const char *why);
/* The failure of the attempt is that of m's first rank. */
void mu_ctl_job_failure(struct mu_ctl *, struct job *, const struct mu_m_report *m);
/* Whether a cause that comes to light now may take the place of the one that is recorded. */
bool mu_ctl_job_outweighs(const struct mu_ctl *, const struct job *, uint32_t blame);
void mu_ctl_kill_parts(struct mu_ctl *, struct job *, uint32_t signo, uint64_t grace, const char *why);

/* ctl_hang.c: ranks that do not go on, and whose fault it is */
void mu_ctl_hang(struct mu_ctl *, int node, const struct mu_m_hang *);

/* --- ctl_flight.c --- */
void mu_ctl_flight_asked(struct mu_ctl *, struct conn *, const struct mu_m_flight *);
/* asker: NULL when it is gone. */
void mu_ctl_flown(struct mu_ctl *, int node, const struct conn *asker, const struct mu_m_flown *);
void mu_ctl_hang_tick(struct mu_ctl *, struct job *);

/* ctl_nodes.c: agents that come, fall silent, come back or are given up; hosts that belong to one job */
void mu_ctl_node_joins(struct mu_ctl *, struct conn *, const struct mu_m_agent *);
void mu_ctl_node_has(struct mu_ctl *, int node, const struct mu_m_agent_ready *);
void mu_ctl_node_ready(struct mu_ctl *, int node);
void mu_ctl_node_let_go(struct mu_ctl *, int node); /* out of the pool */
/* heard: it cannot have been heard later than then; 0: that follows from status. */
void mu_ctl_node_down(struct mu_ctl *, int node, int status, uint64_t heard);
void mu_ctl_node_line(struct mu_ctl *, struct conn *, const char *node); /* a keeper's line is there */
void mu_ctl_node_line_down(struct mu_ctl *, const struct conn *);
void mu_ctl_node_event(struct mu_ctl *, const struct mu_ev *); /* SUSPECT, ENGINE, PROBED */
int mu_ctl_node_known(struct mu_ctl *, const char *name);      /* index; made if need be; < 0: out of memory */
/* ctl_pool.c: hosts that people give to the pool and take from it */
void mu_ctl_pool_add(struct mu_ctl *, mu_conn client, const char *hosts); /* client 0: at the start, from the store */
void mu_ctl_pool_remove(struct mu_ctl *, mu_conn client, const struct mu_m_nodes_remove *);
/* ctl_out.c: nodes that get no jobs: drained, or in quarantine */
void mu_ctl_node_strike(struct mu_ctl *, int node); /* it has failed */
/* False: so many are out that this one stays. */
bool mu_ctl_out_quarantine(struct mu_ctl *, int node, const char *by, const char *why);
bool mu_ctl_out_drain(struct mu_ctl *, int node, const char *by, const char *why);
void mu_ctl_out_drain_asked(struct mu_ctl *, mu_conn client, const struct mu_m_nodes_drain *);
void mu_ctl_out_resume(struct mu_ctl *, mu_conn client, const char *hosts);
void mu_ctl_out_load(struct mu_ctl *, const struct mu_m_mark *);
void mu_ctl_out_known(struct mu_ctl *, int node);  /* a new node of the pool */
void mu_ctl_out_leaves(struct mu_ctl *, int node); /* for good, and what is stored of it with it */
void mu_ctl_out_tick(struct mu_ctl *, int node);   /* its quarantine may be over */
/* ctl_inventory.c: what nodes are made of */
struct mu_ctl_inventory *mu_ctl_inventory_new(void);
void mu_ctl_inventory_free(struct mu_ctl_inventory *);
void mu_ctl_inventory_known(struct mu_ctl *, int node); /* a new node of the pool */
void mu_ctl_inventory_take(struct mu_ctl *, int node, const struct mu_m_inventory *);
void mu_ctl_inventory_load(struct mu_ctl *, const struct mu_m_inventory *); /* by: one that was approved */
/* The shell has stored it: it has looked whether all hosts are known. */
void mu_ctl_inventory_approve(struct mu_ctl *, mu_conn client, const struct mu_msg *); /* or withdraw */
/* ctl_checks.c: health checks of nodes */
void mu_ctl_checks_asked(struct mu_ctl *, mu_conn client, const char *hosts);
void mu_ctl_checked(struct mu_ctl *, int node, const struct mu_m_checked *);
void mu_ctl_checks_failed(struct mu_ctl *, int node); /* something has failed on it */
void mu_ctl_checks_ready(struct mu_ctl *, int node);
/* The nodes may be given to a job; if not, they are being checked and why says so. */
bool mu_ctl_checks_passed(struct mu_ctl *, const struct mu_share *, unsigned n, char *why, size_t whylen);
void mu_ctl_checks_tick(struct mu_ctl *, int node);
uint64_t mu_ctl_checks_due(const struct mu_node *);
/* What that check would find has come to light by itself. */
void mu_ctl_checks_fault(struct mu_ctl *, int node, const char *check, const char *why);
/* ctl_gpus.c: how their GPUs are */
void mu_ctl_gpus_take(struct mu_ctl *, int node, const struct mu_m_gpus *);
/* True: its quarantine, which is over, goes on until it is known whether it passes. */
bool mu_ctl_checks_before_end(struct mu_ctl *, int node);
bool mu_ctl_read_hosts(struct mu_ctl *, mu_conn client, const char *text, struct mu_hosts *out); /* or refuses */
void mu_ctl_done(struct mu_ctl *, mu_conn client);      /* `submitted`, of no job */
uint64_t mu_ctl_node_due(struct mu_ctl *, uint64_t at); /* something is due at a node then; 0: never */
void mu_ctl_pool_label(struct mu_ctl *, mu_conn client, const struct mu_m_nodes_label *); /* as mu_ctl_pool_add */

struct job *mu_ctl_node_job(struct mu_ctl *, int node); /* one that has a part or a spare there; NULL: none */
void mu_ctl_node_start(struct mu_ctl *, int node);      /* asks an engine for its agent */
void mu_ctl_nodes_loaded(struct mu_ctl *);
void mu_ctl_nodes_tick(struct mu_ctl *);
uint64_t mu_ctl_nodes_next(const struct mu_ctl *);
/* The hosts that the job has named, none of them if it has not; kept with it. NULL: out of memory. */
const struct mu_hosts *mu_ctl_hosts(struct job *);
/* 1 all of them of them are ready; 0 not yet, why says what is waited for; -1 never. */
int mu_ctl_hosts_ready(struct mu_ctl *, struct job *, char *why, size_t n);
void mu_ctl_hosts_load(struct mu_ctl *, struct job *);
void mu_ctl_hosts_leave(struct mu_ctl *, uint64_t job);
void mu_ctl_host_leaves(struct mu_ctl *, int node); /* brought by a job that does not need it any more */

/* ctl_tree.c: through whom agents reach us */
struct mu_ctl_tree *mu_ctl_tree_new(void);
void mu_ctl_tree_free(struct mu_ctl_tree *);
void mu_ctl_tree_join(struct mu_ctl *, const struct conn *);         /* its node is known; answers `agent` */
void mu_ctl_tree_stay(struct mu_ctl *, int node, const char *tried); /* that one it cannot reach */
void mu_ctl_tree_gone(struct mu_ctl *, int node);
bool mu_ctl_tree_holds(struct mu_ctl *, int node); /* it is to go elsewhere first: not ready yet */
bool mu_ctl_tree_direct(const struct mu_ctl *, int node);
void mu_ctl_tree_balance(struct mu_ctl *);
void mu_ctl_tree_tick(struct mu_ctl *);
uint64_t mu_ctl_tree_next(const struct mu_ctl *);
int mu_ctl_node_at(const struct mu_ctl *, mu_conn); /* whose agent's present connection that is; -1: nobody's */

/* ctl_place.c: which nodes the next attempt has */
int mu_ctl_place_again(struct mu_ctl *, struct job *); /* 1: all parts have one; 0: not yet */
void mu_ctl_place_spares(struct mu_ctl *, struct job *);
bool mu_ctl_place_record(struct mu_ctl *, struct job *); /* parts and spares into the row */
/* Attempts on several nodes: what their nodes want from one another. node: index in the pool. */
void mu_ctl_wireup_send(void *ctl, uint64_t job, const uint32_t *places, uint32_t n, enum mu_msg_type,
                        const void *body);
void mu_ctl_wireup_fence(struct mu_ctl *, int node, const struct mu_m_fence *);
void mu_ctl_wireup_modex(struct mu_ctl *, int node, const struct mu_m_modex *);
void mu_ctl_wireup_up(struct mu_ctl *, int node);
void mu_ctl_wireup_gone(struct mu_ctl *, const struct job *, const struct part *);
/* Tells the ranks of a part (NULL: of all) of the failure that they outlive. */
void mu_ctl_wireup_abort(struct mu_ctl *, const struct job *, const struct part *);

char *mu_ctl_dup(const char *);
void mu_ctl_replace(char **field, const char *value);

#endif
