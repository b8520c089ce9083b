/* What the controller knows, as numbers for whoever watches the pool over time (docs/formats.md, "Metrics"). The core
 * fills it in (ctl_metrics.c), the shell adds what only a process knows of itself, launcher/metrics_text.c makes text
 * of it. Strings are borrowed: it is read before the core's next step. */
#ifndef MU_LAUNCHER_CORE_METRICS_H
#define MU_LAUNCHER_CORE_METRICS_H

#include "launcher/core/ctl.h"

/* Jobs with families of their own are those that have started and not ended, the oldest of them where there are more.
 */
enum { MU_METRICS_JOBS = 1000, MU_METRICS_STATES = MU_JOB_SUSPENDED + 1, MU_METRICS_EVENTS = 32 };

struct mu_metrics_node {
    const struct mu_node *node;
    const struct mu_m_vitals *vitals; /* NULL: its agent has not said how it is, or not lately */
    const struct mu_m_gpus *gpus;     /* the same of its GPUs */
    double heard_age;                 /* s since it was heard of last; < 0: it has never been */
};

struct mu_metrics_job {
    const struct mu_m_jobrow *row;
    uint64_t id;
    const char *name, *user;
    unsigned state;
    uint32_t ranks, joined, nodes, attempt, failures, noprogress, gpus;
    double step, ckpt_step, ckpt_age; /* < 0: there is none */
    double stored_step;               /* the same */
    double store_bytes, store_retries, store_failing;
    double steps_done, stepping, running, waited;
    double save_last; /* s; < 0: none was made */
};

struct mu_metrics {
    uint64_t jobs_in[MU_METRICS_STATES]; /* by MU_JOB_ */
    uint64_t ended[MU_METRICS_STATES];   /* since the controller's start, likewise */
    uint64_t held;                       /* of those that wait */
    double oldest_wait, ranks_wanted;
    uint64_t slots, slots_used; /* of nodes that are up */
    struct mu_metrics_node *nodes;
    unsigned nnodes;
    struct mu_metrics_job *jobs;
    unsigned njobs, hidden;   /* hidden: running, but beyond MU_METRICS_JOBS */
    const char *const *kinds; /* of events; NULL at the end */
    uint64_t events[MU_METRICS_EVENTS];
    uint64_t recoveries; /* attempts that came after another one without waiting between */
    /* The shell's; negative: not known. */
    const char *version, *host;
    double started_wall, cpu_seconds, resident, open_files, store_bytes, state_size, state_free, connections;
    double backup_age, backup_failures, backup_every;
};

/* mu_metrics_free it. MUSTER_ENOMEM. The shell's part is left zero. */
int mu_ctl_metrics(const struct mu_ctl *, uint64_t now, uint64_t wall, struct mu_metrics *);
void mu_metrics_free(struct mu_metrics *);

/* What each node does of a job's present attempt, in the order of ranks. */
struct mu_metrics_part {
    const struct mu_node *node;
    uint32_t first, ranks, joined, failed; /* the number of its first rank; how many it has; of those: have called
                                              muster_init, have failed */
    unsigned phase;                        /* MU_PHASE_ */
    double step;                           /* that all of them have done; < 0: none */
};
/* *n 0: it has no nodes. *out is for free(). MUSTER_ENOMEM, MUSTER_EJOB. */
int mu_ctl_parts(const struct mu_ctl *, uint64_t job, struct mu_metrics_part **out, unsigned *n);
/* A node's state as tables and JSON show it. */
const char *mu_node_state_name(const struct mu_node *);

#endif
