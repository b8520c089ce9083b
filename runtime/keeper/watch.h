/* Looks at the ranks of an attempt, a few times in a hang deadline: what their slots say (runtime/base/slot.h) and how
 * their processes are doing. Time in which nobody looked, because the keeper itself or the whole node stood still,
 * counts against nobody. Belongs to the attempt; nothing is looked at without a deadline. */
#ifndef MU_KEEPER_WATCH_H
#define MU_KEEPER_WATCH_H

#include <sys/types.h>

#include "runtime/keeper/hang.h"
#include "runtime/keeper/slots.h"

struct mu_watch;

/* NULL: out of memory. */
struct mu_watch *mu_watch_new(uint32_t n, uint32_t first, uint64_t hang_ns);
void mu_watch_free(struct mu_watch *); /* NULL is fine */
/* Whether it is time for the next look. */
bool mu_watch_due(const struct mu_watch *, uint64_t now);
/* Then, or when there is a question: pid 0 for a rank that is dead. */
void mu_watch_rank(struct mu_watch *, const struct mu_slots *, uint32_t index, pid_t pid, uint64_t now);
/* After all of them. */
const struct mu_hang_view *mu_watch_view(struct mu_watch *, uint64_t now);
/* Something to tell the controller? */
bool mu_watch_judge(struct mu_watch *, uint64_t now, struct mu_m_hang *out);
/* The ranks were sent a signal that stops them, or lets them go on: until then nobody hangs. */
void mu_watch_signal(struct mu_watch *, int signo, uint64_t now);

#endif
