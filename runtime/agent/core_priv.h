/* Shared by the agent core's files only. core.c: the agent, its lease and its steps; core_ctl.c: what the controller
 * says; core_keeper.c: keepers from their birth to their end; core_check.c: health
 * checks, one after the other. */
#ifndef MU_AGENT_CORE_PRIV_H
#define MU_AGENT_CORE_PRIV_H

#include "runtime/agent/core.h"

/* A keeper, from the first start of its job until the controller's release. */
enum kstate {
    K_FOUND,    /* alive before this agent was; has not connected and reported yet */
    K_SPAWNING, /* process asked for or started; not connected yet; `start` waits */
    K_UP,       /* connected */
    K_CLEANING, /* dead; its ranks are being removed */
    K_LOST,     /* dead and clean: report says LOST */
    K_SPENT,    /* dead and clean after it had said GONE: report stays as it was */
};

struct keeper {
    uint64_t job;
    enum kstate state;
    uint32_t pid, attempt; /* newest attempt asked for */
    mu_conn conn;
    bool released, have_report;
    bool one_node;        /* the newest start was of an attempt on this node only: no lease */
    bool again;           /* released, then wanted anew: `start` waits for its end */
    bool delivered;       /* start has been sent to the keeper that lives now */
    char why[80];         /* it is dead */
    uint64_t due;         /* told to end its ranks or itself, it is killed then; 0 = not told */
    bool anew;            /* told so by a newer start: once that has begun, it is not due any more */
    uint64_t start_conn;  /* the connection of the controller on which it came */
    struct mu_msg start;  /* newest start, until the keeper reports it; type 0 = none */
    struct mu_msg report; /* last one said; type 0 = none */
};

#define DONE_JOBS 64u

struct mu_agent {
    struct mu_agent_config cfg;
    struct keeper *v;
    unsigned n, cap;
    struct {
        mu_conn id;
        uint64_t job;
    } * conns;
    unsigned nconns, capconns;
    struct {
        uint64_t job;
        uint32_t attempt;
    } done[DONE_JOBS]; /* released last: a late copy of their start is refused */
    unsigned ndone;
    bool ctl_up, welcome, told, bye, loaded;
    uint64_t way;         /* how often `agent` was said */
    uint64_t ctl;         /* its incarnation, once it has welcomed us */
    bool known;           /* the controller has answered `agent` on this way */
    uint64_t adopt_until; /* inventory waits for found keepers until then */
    uint64_t lonely_since;
    uint64_t nctl;                             /* connections of the controller so far */
    uint64_t told_at, lease_until, lease_told; /* 0 = no echo yet */
    uint64_t heard;                            /* newest echo that counted on this way; 0 = none */
    mu_agent_plan_fn plan;
    void *plan_arg;
    char addr[64];
    uint32_t port;
    struct {
        bool running;
        uint64_t id, got_wall;
        struct mu_msg next; /* asked for meanwhile; type 0 = none */
    } check;
    uint64_t now, wall;
    struct mu_acts *acts;
};

/* Of the jobs here, in no order: pointers are good until the next add or drop. */
struct keeper *mu_agent_find(struct mu_agent *, uint64_t job); /* NULL: none */
struct keeper *mu_agent_add(struct mu_agent *, uint64_t job);  /* NULL: out of memory */
void mu_agent_drop(struct mu_agent *, struct keeper *);
void mu_agent_forget(struct mu_agent *, struct keeper *);
void mu_agent_to_ctl(struct mu_agent *, enum mu_msg_type, const void *body);
void mu_agent_tell_count(struct mu_agent *);
void mu_agent_tell_lease(struct mu_agent *, const struct keeper *);
void mu_agent_on_echo(struct mu_agent *, uint64_t at);

void mu_agent_on_ctl(struct mu_agent *, const struct mu_msg *);

void mu_agent_on_check(struct mu_agent *, const struct mu_m_check *);
void mu_agent_on_checked(struct mu_agent *, const struct mu_m_checked *);

void mu_agent_speak_for(struct mu_agent *, struct keeper *, uint32_t phase, const char *text);
void mu_agent_clean(struct mu_agent *, struct keeper *, const char *why);
void mu_agent_limit(struct mu_agent *, struct keeper *, uint64_t grace);
void mu_agent_spawn(struct mu_agent *, struct keeper *);
void mu_agent_deliver(struct mu_agent *, struct keeper *);
void mu_agent_on_keeper(struct mu_agent *, mu_conn, const struct mu_msg *);
void mu_agent_on_child(struct mu_agent *, const struct mu_ev *);
void mu_agent_on_spawned(struct mu_agent *, const struct mu_ev *);
void mu_agent_on_cleaned(struct mu_agent *, const struct mu_ev *);
void mu_agent_on_load(struct mu_agent *, const struct mu_ev *);

#endif
