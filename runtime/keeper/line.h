/* A keeper's line: a connection of its own to a controller on another host, over which nothing is said but who it is.
 * When it breaks while the agent is gone, too, the keeper is dead: so the controller knows at once that nothing of the
 * attempt lives on a host that died, where the agent's connection alone would leave that open until the lease is over.
 * Dialled again for as long as the keeper lives. Belongs to the event loop. */
#ifndef MU_KEEPER_LINE_H
#define MU_KEEPER_LINE_H

#include <stdint.h>

#include "runtime/base/path.h"

struct event_base;
struct mu_line;

/* Borrows node. NULL: out of memory. */
struct mu_line *mu_line_new(struct event_base *, const struct mu_paths *, uint64_t job, const char *node);
/* Where the controller is; the pool key is the one with which the node's agent joined. */
void mu_line_dial(struct mu_line *, const char *host, uint16_t port);
void mu_line_free(struct mu_line *); /* NULL is fine */

#endif
