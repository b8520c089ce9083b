/* The part of the keeper's core for attempts on several nodes: what PMIx wants from the other nodes on behalf of the
 * ranks here, fences and single questions (direct modex), and what those want from here. Pure. Everything is said again
 * when something may have been lost, see launcher/core/fences.h; what was contributed to the last fences is kept for
 * nodes that still wait. A question has a deadline and is repeated meanwhile. */
#ifndef MU_KEEPER_CORE_WIREUP_H
#define MU_KEEPER_CORE_WIREUP_H

#include "runtime/wire/core.h"

#define MU_MODEX_WAIT_S 60u  /* then a question is answered with ETIMEOUT */
#define MU_MODEX_REPEAT_S 2u /* so often it is asked meanwhile */
#define MU_MODEX_OPEN 4096u  /* questions at once, ours and theirs each; more fail */

struct mu_wireup;
/* Of the step under way. up: the agent can be reached. phase: MU_PHASE_. */
struct mu_wireup_at {
    struct mu_acts *acts;
    uint64_t now;
    uint32_t phase;
    bool up;
};

struct mu_wireup *mu_wireup_new(mu_conn agent); /* NULL: out of memory */
void mu_wireup_free(struct mu_wireup *);        /* NULL is fine */
/* Another attempt: everything of the last one is forgotten. ENOMEM: the attempt cannot be. */
int mu_wireup_begin(struct mu_wireup *, const struct mu_m_start *);
/* MU_EV_FENCE, MU_EV_MODEX; fence, fenced and modex from the agent. What is not of this attempt is ignored. */
void mu_wireup_fence(struct mu_wireup *, const struct mu_wireup_at *, const struct mu_m_fence *);
void mu_wireup_modex(struct mu_wireup *, const struct mu_wireup_at *, const struct mu_m_modex *);
void mu_wireup_msg(struct mu_wireup *, const struct mu_wireup_at *, const struct mu_msg *);
/* The agent is there (again). */
void mu_wireup_up(struct mu_wireup *, const struct mu_wireup_at *);
void mu_wireup_time(struct mu_wireup *, const struct mu_wireup_at *);
uint64_t mu_wireup_next(const struct mu_wireup *); /* UINT64_MAX: nothing is due */

#endif
