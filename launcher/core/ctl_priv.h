/* Shared by the controller core's files only. */
#ifndef MU_LAUNCHER_CORE_CTL_PRIV_H
#define MU_LAUNCHER_CORE_CTL_PRIV_H

#include "launcher/core/ctl.h"

struct part { /* what one node does of a job's attempt */
    struct mu_share share;
    uint32_t phase; /* MU_PHASE_ as last reported for the job's attempt; IDLE: start sent, nothing heard */
    uint32_t nfailed, njoined, lost, starterr;
    bool confirmed; /* said by the agent since its last (re)connection */
    bool drained;
    bool kill_sent; /* on the agent's present connection */
    uint64_t seq;   /* of the keeper's last report */
    uint64_t steps, step, first_step_wall, ckpt_plus1, restored_plus1;
    uint64_t dropped, unseen;
};

struct job {
    struct mu_m_jobrow row;
    struct mu_m_spec spec;
    struct part *parts; /* NULL: holds no slots */
    unsigned nparts;
    bool holds;      /* its shares are taken from the pool */
    bool failed_now; /* a failure of the current attempt is recorded */
    bool first_step; /* of this attempt, already told */
    bool ended_sent, restored_told;
    mu_conn client;
    uint64_t client_until; /* foreground client away: cancel at; 0 = no limit */
    uint64_t kill_at;      /* time limit, monotonic; 0 = none */
    uint64_t retry_at;     /* next attempt at; 0 = not waiting */
    uint64_t stored_at;    /* last PUT_JOB for progress */
};

enum role { ROLE_NONE, ROLE_CLIENT, ROLE_AGENT };
struct conn {
    mu_conn id;
    enum role role;
    int node; /* ROLE_AGENT: index in the pool, -1 before MU_MSG_agent */
    uint64_t job;
};

struct waiting { /* a submission that came before any agent did */
    mu_conn conn;
    uint64_t until;
    struct mu_msg msg;
};

struct mu_ctl {
    struct mu_ctl_config cfg;
    struct mu_pool pool;
    struct job **jobs; /* by id, ascending */
    unsigned njobs, capjobs;
    struct conn *conns;
    unsigned nconns, capconns;
    struct waiting *waiting;
    unsigned nwaiting, capwaiting;
    uint64_t next_id;
    uint64_t idle_since; /* 0 = busy */
    bool exiting;
    /* of the step under way */
    uint64_t now, wall;
    struct mu_acts *acts;
};

bool mu_ctl_room(struct mu_ctl *); /* for one more job; false: out of memory */
void mu_ctl_refuse(struct mu_ctl *, mu_conn, int code, const char *text);
struct job *mu_ctl_find(struct mu_ctl *, uint64_t id);
void mu_ctl_put(struct mu_ctl *, struct job *, bool durable);
void mu_ctl_event(struct mu_ctl *, const struct job *, const char *kind, int rank, const char *node, const char *fmt,
                  ...) MU_PRINTF(6, 7);
void mu_ctl_set_state(struct mu_ctl *, struct job *, unsigned state, const char *fmt, ...) MU_PRINTF(4, 5);

void mu_ctl_job_submit(struct mu_ctl *, mu_conn, const struct mu_m_submit *);
void mu_ctl_job_report(struct mu_ctl *, int node, const struct mu_m_report *);
void mu_ctl_job_cancel(struct mu_ctl *, struct job *, unsigned ending, int code, int signo, bool force,
                       const char *why);
void mu_ctl_job_node_ready(struct mu_ctl *, int node);
void mu_ctl_job_tick(struct mu_ctl *, struct job *);
void mu_ctl_job_release(struct mu_ctl *, struct job *);
uint64_t mu_ctl_job_next(const struct job *);
void mu_ctl_job_free(struct job *);
void mu_ctl_schedule(struct mu_ctl *);
void mu_ctl_send_agents(struct mu_ctl *, const struct job *, enum mu_msg_type, const void *body);

char *mu_ctl_dup(const char *);
void mu_ctl_replace(char **field, const char *value);

#endif
