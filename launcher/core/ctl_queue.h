/* Which of the jobs that wait is next: what the policy says of the pool as it is. The controller core's. */
#ifndef MU_LAUNCHER_CORE_CTL_QUEUE_H
#define MU_LAUNCHER_CORE_CTL_QUEUE_H

#include "launcher/core/ctl_priv.h"

struct mu_ctl_queue *mu_ctl_queue_new(void); /* NULL: out of memory */
void mu_ctl_queue_free(struct mu_ctl_queue *);
/* Decides about all jobs that wait, if anything has changed since it was done last. */
void mu_ctl_queue_decide(struct mu_ctl *);
/* It is not held, and what it comes after has completed. */
bool mu_ctl_queue_may(const struct mu_ctl *, const struct job *);
/* Whether it is the job's turn, by the last decision. If not, its reason is set. */
bool mu_ctl_queue_turn(struct mu_ctl *, struct job *);
/* Keeps from the nodes what others have been promised, for as long as a place for this job is looked for. */
void mu_ctl_queue_keep(struct mu_ctl *, const struct job *, bool on);
void mu_ctl_queue_started(struct mu_ctl *, const struct job *); /* its shares are its parts and spares */
/* The job's slots count as used by its user from now on, or not any more. */
void mu_ctl_queue_charge(struct mu_ctl *, struct job *, bool on);
void mu_ctl_queue_load(struct mu_ctl *, const struct job *); /* what it had used before we started */
/* It ends in order to wait again. */
static inline bool mu_ctl_requeues(const struct job *j)
{
    return j->row.ending == MU_END_REQUEUE || j->row.ending == MU_END_PREEMPT;
}
void mu_ctl_queue_requeue(struct mu_ctl *, mu_conn, const struct mu_m_requeue *);
void mu_ctl_queue_back(struct mu_ctl *, struct job *); /* its ranks are gone: it waits again, once that is possible */
void mu_ctl_queue_preempt(struct mu_ctl *);            /* ends jobs for others, as was decided */
uint64_t mu_ctl_queue_next(const struct mu_ctl *);

#endif
