/* Watches over a daemon of this host at the other end of a link (runtime/wire/pulse.h), and kills it when it is frozen:
 * its end is noticed by its usual ways then. Belongs to the loop. */
#ifndef MU_WIRE_GUARD_H
#define MU_WIRE_GUARD_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "runtime/wire/msg.h"

struct event_base;
struct mu_link;
struct mu_guard;

/* frozen (may be NULL): it has just been killed. name: for the log, with its pid; limit: MU_PULSE_STOPPED or
 * MU_PULSE_CONTROLLER. NULL: out of memory. */
struct mu_guard *mu_guard_new(struct event_base *, struct mu_link *, const char *name, pid_t pid, uint64_t limit,
                              void (*frozen)(void *arg, pid_t), void *arg);
void mu_guard_free(struct mu_guard *); /* at the latest with the link; NULL is fine */
/* Everything that comes. True: it was a beat, and that was all there is to it. */
bool mu_guard_take(struct mu_guard *, const struct mu_msg *); /* NULL is fine */
/* For those who are watched and watch nobody. */
bool mu_guard_answer(struct mu_link *, const struct mu_msg *);

#endif
