/* Costly work of an event loop, done in turns: a few milliseconds of it, in the order in which it came, then the loop
 * looks at everything else that has happened. So a thousand handshakes that are wanted at once hold up nobody's beats.
 * Only work is paced; whoever has none waits for nothing, and holds up nobody. */
#ifndef MU_WIRE_PACE_H
#define MU_WIRE_PACE_H

#include <stdbool.h>
#include <stdint.h>

struct event_base;

#define MU_PACE_NS 5000000ull /* of such work in a turn; at least one step */

/* A piece of work of its owner's, who may add it again in fn, and free it there. */
struct mu_step {
    void (*fn)(void *arg);
    void *arg;
    struct mu_step *next, *prev;
    bool waiting;
};

/* The loop's own one, shared by all that ask for it; NULL: out of memory. Each gives it back before the loop is freed,
 * with its steps dropped. */
struct mu_pace;
struct mu_pace *mu_pace_get(struct event_base *);
void mu_pace_put(struct mu_pace *); /* NULL is fine */

void mu_pace_add(struct mu_pace *, struct mu_step *);  /* behind all others, unless it waits already */
void mu_pace_drop(struct mu_pace *, struct mu_step *); /* does nothing when it does not wait */

#endif
