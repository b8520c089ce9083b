/* Does a host still answer, whatever may be with its agent? A TCP connection to where the agent listens: made or
 * refused, somebody is there; nothing within MU_PROBE_NS, nobody is. */
#ifndef MU_LAUNCHER_PROBE_H
#define MU_LAUNCHER_PROBE_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/wire/core.h"

#define MU_PROBE_NS (150 * 1000000ull)

struct event_base;

/* Comes once for each, from the loop. */
typedef void (*mu_probed_fn)(void *arg, const char *node, bool answers);
struct mu_probes;
struct mu_probes *mu_probes_new(struct event_base *, mu_probed_fn, void *arg); /* NULL: out of memory */
void mu_probes_free(struct mu_probes *);                                       /* NULL is fine */
/* addr: numeric, or it does not answer. */
void mu_probe(struct mu_probes *, const char *node, const char *addr, uint32_t port);

#endif
