/* Standard input of rank 0: bytes wait here until the program takes them, also over a restart. Never blocks. Offsets
 * count the bytes of the job's whole input, so that a repeated message does no harm. */
#ifndef MU_KEEPER_FEED_H
#define MU_KEEPER_FEED_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/wire/msg.h"

struct event_base;
struct mu_feed;

/* taken: everything before this offset is done with. */
typedef void (*mu_feed_fn)(void *arg, uint64_t taken);

struct mu_feed *mu_feed_new(struct event_base *, mu_feed_fn, void *arg); /* NULL: out of memory */
void mu_feed_free(struct mu_feed *);                                     /* NULL is fine */
void mu_feed_put(struct mu_feed *, const struct mu_m_input *);
/* Goes to fd (a nonblocking pipe, taken over) from now on. */
void mu_feed_attach(struct mu_feed *, int fd);
/* Nobody reads any more: what waits and what comes is thrown away and counts as taken. */
void mu_feed_detach(struct mu_feed *);
/* An attempt begins: keep what comes until somebody is attached. */
void mu_feed_hold(struct mu_feed *);

#endif
