/* What drains of a job's nodes do for one another: each ships its node's part of a save to its group, which encodes it
 * and keeps the parity in memory, and gives back what a later attempt has lost. The layout is that of
 * runtime/ckpt/arena.h, the wire runtime/wire's, with message `shard`; the ranks say who the group is. */
#ifndef MU_KEEPER_PEERS_H
#define MU_KEEPER_PEERS_H

#include "runtime/base/err.h"
#include "runtime/base/path.h"
#include "runtime/ckpt/daemon/drain.h"
#include "runtime/wire/key.h"

enum {
    MU_SHARD_DATA = 1, /* a piece of data row `row` of stripe `stripe`, to the member that encodes it; empty: zeros */
    MU_SHARD_PARITY,   /* of parity `row`, to the member that keeps it */
    MU_SHARD_TABLE,    /* the sender's parts */
    MU_SHARD_SEALED,   /* the sender has all that it is to keep */
    MU_SHARD_FAILED,   /* the sender gives this save up */
    MU_SHARD_WANT,     /* asks for a piece of row `row` (parity behind the data), as the receiver has it */
    MU_SHARD_GIVE,     /* the answer */
    MU_SHARD_NONE,     /* it is not there, or damaged */
    MU_SHARD_MEET,     /* asks whether the receiver's ranks are in this group yet; it answers when they are */
    MU_SHARD_MET,      /* the answer: what is sent from now on is understood */
    MU_SHARD_JOIN,     /* the sender makes what member `from` had again, and takes what the receiver makes of it */
    MU_SHARD_MADE,     /* a piece of data row `row`, which was the receiver's, made again */
    MU_SHARD_LEFT,     /* the sender does not wait for the receiver any more, which makes all of its own */
};

struct mu_peers;

/* A thread with a loop of its own, which listens on all addresses (or only on this one) and puts them into
 * head->listen. It runs until stop. */
int mu_peers_start(struct mu_arena_head *, const struct mu_key *, const char *only, struct mu_peers **,
                   struct mu_err *);
void mu_peers_stop(struct mu_peers *); /* NULL is fine */
/* The key with which this host is part of its pool. */
int mu_peers_key(const struct mu_paths *, struct mu_key *, struct mu_err *);

#endif
