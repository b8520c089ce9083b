/* The drain: puts what ranks have left in the arena into the directory, as their own process would, in the background
 * and whether they live or not. A process of its own below the keeper: whatever becomes of it, the copies stay, and the
 * next one begins anew with what was not finished. */
#ifndef MU_CKPT_DRAIN_H
#define MU_CKPT_DRAIN_H

#include "runtime/ckpt/arena.h"

/* Serves the arena until *stop is set (and its bell rung), a thread a rank, of which a few at a time sum and write.
 * What a predecessor had begun is begun again. each(arg) comes at least twice a second, and whenever the bell rings. */
int mu_drain_run(struct mu_arena_head *, _Atomic uint32_t *stop, void (*each)(void *), void *arg, struct mu_err *);
/* One order, here and now; for tests. */
void mu_drain_cell(struct mu_arena_head *, struct mu_arena_cell *, const struct mu_ckpt_io *);

/* The keeper's side. Orders that nobody has finished yet. */
bool mu_drain_pending(struct mu_arena_head *);
/* The process dies again and again: whoever waits for it is told why. */
void mu_drain_give_up(struct mu_arena_head *, const char *why);

#endif
