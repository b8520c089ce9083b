/* Whether a controller runs at all: while we have no connection, its host is asked every moment. A host that refuses
 * has a kernel that lives and no controller that listens; one that does not answer says nothing. Belongs to the loop.
 */
#ifndef MU_AGENT_REFUSAL_H
#define MU_AGENT_REFUSAL_H

#include <stdint.h>

struct event_base;
struct mu_refusal;

/* at: when we asked; at that time or later nobody was listening there. */
typedef void (*mu_refused_fn)(void *arg, uint64_t at);
struct mu_refusal *mu_refusal_new(struct event_base *, mu_refused_fn, void *arg); /* NULL: out of memory */
/* Begins to ask; host is numeric. */
void mu_refusal_watch(struct mu_refusal *, const char *host, uint16_t port);
void mu_refusal_stop(struct mu_refusal *);
void mu_refusal_free(struct mu_refusal *); /* NULL is fine */

#endif
