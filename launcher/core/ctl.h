/* The controller's core: jobs, the pool, who is connected. A pure function of (state, event) -> actions; see
 * runtime/wire/core.h. The shell gives it every stored row, and the pool's hosts (nodes_add), as MU_EV_LOAD, then
 * MU_EV_LOADED, before anything else; then
 * connections and messages, and MU_EV_TIME when mu_ctl_next() has come.
 *
 * Queries (MU_MSG_query) are answered by the shell from mu_ctl_job_* and the store; they never reach the core. */
#ifndef MU_LAUNCHER_CORE_CTL_H
#define MU_LAUNCHER_CORE_CTL_H

#include "launcher/core/pool.h"
#include "runtime/wire/core.h"

struct mu_check_settings;
struct mu_policy_settings;
struct mu_ctl_config {
    uint64_t incarnation; /* differs at each start */
    uint64_t boot;        /* of the machine; `now` goes on from one controller to the next in it; 0 = not known */
    uint64_t last_job;    /* no job that comes has a number up to this one */
    uint32_t losses;      /* the store has just lost its newest changes, for the so manieth time; 0: it has not */
    bool doubtful;        /* or not long ago: nothing is started until nodes have said what they have */
    bool alone;           /* there are none but the controller's own */
    uint64_t lost_above, lost_last; /* jobs that it lost, now or earlier, have numbers between these; last 0: none */
    uint64_t idle_ns;               /* nothing to do for so long: exit; 0 = never */
    uint64_t client_grace_ns;       /* a foreground client may be away so long before its job is cancelled */
    uint64_t agent_wait_ns;         /* a submission waits so long for the first agent */
    uint32_t restarts;              /* default budget: failures in a row without progress */
    const char *log_root;           /* per-rank logs go to log_root/JOB unless --output says otherwise; borrowed */
    const char *ckpt_root;          /* a job without --ckpt-dir has its checkpoints in ckpt_root/JOB-TOKEN; borrowed */
    const char *version;
    uint64_t files;        /* that daemons of this machine may have open; 0 = not known */
    const char *node;      /* name of the controller's own machine; others can fall silent; borrowed, NULL = none can */
    uint32_t fanout;       /* agents that an agent, or the controller, has directly below it; 0: all are */
    uint64_t node_wait_ns; /* an attempt may lack a node for so long before its job fails; 0 = for ever */
    uint32_t quarantine;   /* failures of a node within ten minutes that put it there, at most 3; 0 = never */
    uint64_t cooldown_ns;  /* and so long it stays at first, then twice as long each time */
    uint32_t out_percent;  /* without checks: so many nodes may be taken out by themselves; 0: any number */
    const struct mu_policy_settings *policy; /* of the queue; borrowed; NULL: defaults */
    const struct mu_check_settings *checks;  /* of nodes' health; borrowed; NULL: none but those asked for */
    uint64_t fabric_ns; /* jobs on several nodes wait so long for the first MU_EV_FABRIC; 0 = none will come */
};

struct mu_ctl;
struct mu_ctl *mu_ctl_new(const struct mu_ctl_config *); /* NULL: out of memory */
void mu_ctl_free(struct mu_ctl *);
void mu_ctl_step(struct mu_ctl *, const struct mu_ev *, struct mu_acts *);
uint64_t mu_ctl_next(const struct mu_ctl *); /* monotonic ns; UINT64_MAX: nothing is due */

/* Reading: n-th job (ended ones that are still remembered included), its row and spec; NULL past the end. */
unsigned mu_ctl_job_count(const struct mu_ctl *);
const struct mu_m_jobrow *mu_ctl_job(const struct mu_ctl *, unsigned n, const struct mu_m_spec **spec);
const struct mu_pool *mu_ctl_pool(const struct mu_ctl *);
/* What the n-th node, by name, is made of, and what somebody has approved; either may be NULL. It need not be in the
 * pool any more. False: past the end. */
struct mu_ctl_made {
    const char *node;
    const struct mu_m_inventory *is, *approved;
};
bool mu_ctl_made(const struct mu_ctl *, unsigned n, struct mu_ctl_made *out);
/* A job waits that is to come after that one. */
bool mu_ctl_needs(const struct mu_ctl *, uint64_t job);
/* While jobs are loaded: the lowest number above that one of a job which is needed and not there; 0: none. */
uint64_t mu_ctl_missing(const struct mu_ctl *, uint64_t above);
/* The node through which another one reaches us, by their places in the pool; -1: it does so directly, or not at all.
 */
int mu_ctl_tree_via(const struct mu_ctl *, int node);
/* Hosts that were given to the pool, as spec.hosts has them; for the caller to store and to load again. */
void mu_ctl_pool_hosts(const struct mu_ctl *, struct mu_buf *out);
/* "NODE LABELS" of each labelled node, a line each. */
void mu_ctl_pool_labels(const struct mu_ctl *, struct mu_buf *out);
/* While something waits for the store the core does not end for idleness: nobody else knows it. */
void mu_ctl_hold(struct mu_ctl *, bool on);
/* From now on it takes no jobs, and ends as soon as none is left and the agents have let go of theirs. */
void mu_ctl_end(struct mu_ctl *);
bool mu_ctl_is_agent(const struct mu_ctl *, mu_conn);
/* Another process that has this node's name: the connection of its agent, 0 when there is none. */
mu_conn mu_ctl_rival(const struct mu_ctl *, mu_conn, const struct mu_m_agent *);

/* What the queue would do with a job that came now. It is asked for, not changed. */
struct mu_ctl_would {
    bool starts;            /* at once */
    uint64_t expected_wall; /* by the time limits of the others; 0: that is not known */
    char why[400];          /* why it waits; "" */
};
/* 0 or MUSTER_ENOMEM. The spec has been checked. */
int mu_ctl_would(struct mu_ctl *, const struct mu_m_spec *, uint64_t now, uint64_t wall, struct mu_ctl_would *);

/* Names of states as JSON and tables show them. */
const char *mu_job_state_name(unsigned state);
/* "fast,rack3": letters, digits, '.', '_' and '-', at most 63 each and 255 in all. */
int mu_labels_check(const char *labels, struct mu_err *);
enum { MU_GPUS_MAX = 1024 };
#define MU_MEMORY_MAX (1ull << 50)
/* Checks a spec that came over a trust boundary. */
int mu_spec_check(const struct mu_m_spec *, struct mu_err *);

#endif
