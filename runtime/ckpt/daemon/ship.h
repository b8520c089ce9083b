/* The object store of a running job. One thread, in the drain of rank 0's node, does what rank 0 has ordered in the
 * arena (struct mu_arena_ship): fetches the newest generation into an empty directory, then sends each newest one that
 * is committed there, keeps the store's retention, and says in the arena how far it is. What fails is tried again for
 * ever, with growing pauses; nobody waits for it who has not asked to. It holds what it sends (MU_CKPT_HOLD), sends
 * nothing once another attempt has opened the directory, and begins where a killed one has left off. */
#ifndef MU_CKPT_SHIP_H
#define MU_CKPT_SHIP_H

#include "runtime/ckpt/arena.h"

struct mu_ship;

int mu_ship_start(struct mu_arena_head *, struct mu_ship **, struct mu_err *);
void mu_ship_stop(struct mu_ship *); /* NULL is fine */

/* Whether something is on its way to the store and gets on, or has for long enough not failed to. */
bool mu_ship_pending(struct mu_arena_head *);
/* What went wrong last; "": nothing since. */
void mu_ship_trouble(struct mu_arena_head *, char text[400]);

#endif
