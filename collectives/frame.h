/* Frames: what travels between ranks, a head of 64 bytes and at most MU_CHUNK bytes behind it. All frames belong to
 * the library and come from a pool: user memory is never given to the transport, so an operation that is given up
 * leaves nothing behind that could touch it. */
#ifndef MU_COLLECTIVES_FRAME_H
#define MU_COLLECTIVES_FRAME_H

#include "collectives/sig.h"

#define MU_CHUNK ((size_t)60 << 10) /* payload of a full frame; a multiple of every element size */
#define MU_FRAME_MAGIC 0x4d555846u

enum mu_frame_type {
    MU_FRAME_DATA,   /* offset: of the payload in its stream */
    MU_FRAME_CREDIT, /* offset: how many frames of the stream may be sent altogether */
    MU_FRAME_PROBE,  /* "I wait for you in this operation"; offset: number of the program's operation that it is of */
    MU_FRAME_HERE,   /* the answer: "I have entered it, or wait in one before it" */
    MU_FRAME_WHOM,   /* from one world rank to another one: "whom do you wait for?" (waits.h) */
    MU_FRAME_WAITS,  /* the answer of one that waits; offset: the world rank + 1, 0: not known */
    MU_FRAME_BYE,    /* of a transport: the last one; nobody else sees it */
    MU_FRAME_NOTICE, /* the operation failed at the sender; offset: the code, negated; payload: the text */
};

struct mu_frame_head { /* one layout on all ranks: they run the same library on one architecture */
    uint32_t magic;
    uint16_t type, lane; /* lane: which stream between two ranks of one operation */
    uint64_t ctx, seq;   /* communicator, operation on it; point to point: message from src to this rank */
    uint32_t src;        /* rank in the communicator */
    uint32_t bytes;      /* of payload */
    uint64_t offset;
    struct mu_sig sig;
    int32_t tag; /* point to point only */
    uint32_t zero;
};
_Static_assert(sizeof(struct mu_frame_head) == 64, "on the wire");

struct muster_request;

struct mu_frame {
    struct mu_frame *next;
    struct muster_request *owner; /* whose sending this is; NULL: nobody waits for it */
    unsigned out;                 /* the owner's stream that it is of */
    uint32_t gone;                /* bytes that have been sent, for the transport */
    size_t room;                  /* bytes of payload that fit */
    _Alignas(64) struct mu_frame_head head;
    char data[];
};

struct mu_frames { /* a queue */
    struct mu_frame *first, *last;
};

struct mu_pool {
    struct {
        struct mu_frame *free;
        unsigned nfree;
    } size[2];
};

/* A frame with room for that much payload (<= MU_CHUNK) and a zeroed head; NULL when memory is out. */
struct mu_frame *mu_frame_new(struct mu_pool *pool, size_t bytes);
void mu_frame_free(struct mu_pool *pool, struct mu_frame *f);
/* The same frame in as little memory as it needs, for one that has to wait; takes f. */
struct mu_frame *mu_frame_compact(struct mu_pool *pool, struct mu_frame *f);
void mu_pool_clear(struct mu_pool *pool);

void mu_frames_push(struct mu_frames *q, struct mu_frame *f);
struct mu_frame *mu_frames_pop(struct mu_frames *q); /* NULL when empty */
void mu_frames_clear(struct mu_frames *q, struct mu_pool *pool);

#endif
