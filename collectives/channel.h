/* A channel: what one rank shows the other ranks of a communicator, in its segment. Every field has one writer, its
 * owner, except the slots, where peers put results at places that nobody else touches. Numbers only grow while a
 * communicator uses the channel.
 *
 * An operation begins with a post: its number and a hash of its signature in one word, beside them up to MU_POST_ROOM
 * bytes, which are the data itself when it is short, else where the buffers lie. Whoever waits for somebody looks at
 * that word, so ranks that disagree find out before they touch anything. A post stays until all have ended the
 * operation MU_POSTS before it, so that a fast rank waits for `done` of slow ones. */
#ifndef MU_COLLECTIVES_CHANNEL_H
#define MU_COLLECTIVES_CHANNEL_H

#include <stdatomic.h>

#include "collectives/sig.h"
#include "runtime/base/err.h"

#define MU_CHANNELS 64u
#define MU_POSTS 64u
#define MU_POST_ROOM 56u
#define MU_POST_POISON UINT64_MAX /* the owner has given the communicator up; `why` says why */
#define MU_SLOTS 4u
#define MU_SLOT_BYTES ((size_t)128 << 10)
/* Parts of slots, for short operations: one for each post, so that nobody waits for a slow rank sooner than for posts.
 */
#define MU_CELLS (MU_POSTS / MU_SLOTS) /* of a slot */
#define MU_CELL_BYTES ((size_t)1 << 10)

/* Lines that different ranks write lie 128 bytes apart: adjacent lines are often fetched together. */
struct mu_post {
    _Alignas(128) _Atomic uint64_t word;
    char room[MU_POST_ROOM];
};

struct mu_counter {
    _Alignas(128) _Atomic uint64_t value;
};

struct mu_where { /* in the room of a post: the buffers, as mu_seg_offset; 0: private */
    uint64_t send, recv;
    uint64_t address; /* of a private one that may be read out of the process; 0: it may not */
    uint64_t past;    /* 1: chunks are stored past the caches */
};

enum {
    MU_IN,    /* chunks that are in my slots; in a chain: sums that are there, in the last domain results */
    MU_USED,  /* chunks of others that I am through with; in a chain: sums of the domain before */
    MU_OVER,  /* operation in which I do not touch others' buffers any more */
    MU_DONE,  /* operation that I have ended: nothing of others' slots and posts is needed any more */
    MU_FREED, /* times that this channel was let go of */
    MU_COUNTERS
};

struct mu_channel {
    struct mu_post post[MU_POSTS];
    struct mu_counter counter[MU_COUNTERS];
    struct mu_sig sig[MU_POSTS];
    struct mu_err why;
    _Alignas(4096) char slot[MU_SLOTS][MU_SLOT_BYTES];
};

#endif
