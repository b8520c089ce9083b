/* The process that makes the health checks of this node: started for each run, and ended when it hangs. One at a time.
 * Loop thread only. */
#ifndef MU_AGENT_CHECKUP_H
#define MU_AGENT_CHECKUP_H

#include "runtime/wire/core.h"

struct event_base;
struct mu_checkup;
/* The answer, without id and clocks. Comes from the loop, once for each start, within MU_CHECK_ALL_NS. */
typedef void (*mu_checkup_fn)(void *arg, const struct mu_m_checked *);
struct mu_checkup *mu_checkup_new(struct event_base *, mu_checkup_fn, void *arg); /* NULL: out of memory */
void mu_checkup_start(struct mu_checkup *, const struct mu_m_check *);
void mu_checkup_free(struct mu_checkup *); /* ends a run; no answer comes. NULL is fine */

#endif
