/* Whom ranks wait for, as far as it can be known from here: who is waited for may wait himself, in the same operation,
 * in one before it or on another communicator, and for somebody on another node.
 *
 * A rank that waits, once it has left the fast path, shows in its segment that it does and for whom, and answers those
 * who ask (MU_FRAME_WHOM). One that is stopped, computes or sleeps does neither. So who gets near its deadline begins
 * with those that it misses itself, follows the waits from rank to rank, and finds those who wait for nobody.
 *
 * All ranks are numbered as in the world. Callers hold engine->lock. */
#ifndef MU_COLLECTIVES_WAITS_H
#define MU_COLLECTIVES_WAITS_H

#include "collectives/engine.h"

/* This rank waits, for peer (-1: not known); or it does not any more. Answers who has asked. */
void mu_waits_show(struct mu_engine *e, int peer);
void mu_waits_end(struct mu_engine *e);
void mu_waits_dispatch(struct mu_engine *e, const struct mu_frame *f);

/* Begins to ask, or asks those anew who have answered. */
void mu_waits_ask(struct mu_engine *e, bool first);
/* Follows the waits of those in missing. True when some have shown no wait since they were asked, `patience` ago or
 * more: blamed are these then. from: whose wait led to each, -1 for those in missing. */
bool mu_waits_follow(struct mu_engine *e, const bool *missing, uint64_t patience, bool *blamed, int *from);
void mu_waits_free(struct mu_engine *e);

#endif
