/* The flight recorder: what a rank has called lately, in memory that outlives it (the keeper's slots, slot.h). Each
 * rank has MU_FLIGHT_COMMS rings, one a communicator, of MU_FLIGHT_RING records; the rank writes, its keeper reads. A
 * record costs two readings of the CPU's counter and a cache line, no system call. */
#ifndef MU_BASE_FLIGHT_H
#define MU_BASE_FLIGHT_H

#include <stdatomic.h>
#include <stdint.h>

#include "runtime/base/clock.h"

#define MU_FLIGHT_COMMS 16u
#define MU_FLIGHT_RING 256u

/* X(name, text) */
#define MU_FLIGHT_STATES(X)                                                                                            \
    X(NONE, "none")                                                                                                    \
    X(ENQUEUED, "enqueued")                                                                                            \
    X(RUNNING, "running")                                                                                              \
    X(COMPLETED, "completed")                                                                                          \
    X(FAILED, "failed")

enum {
#define MU_FLIGHT_STATES_ENUM(name, text) MU_FLIGHT_##name,
    MU_FLIGHT_STATES(MU_FLIGHT_STATES_ENUM)
#undef MU_FLIGHT_STATES_ENUM
        MU_FLIGHT_STATE_COUNT
};

struct mu_flight_record {
    _Alignas(64) _Atomic uint64_t seq; /* from 1, in its ring; 0: it is being written. Stored last */
    uint64_t number;                   /* which collective of the communicator, from 1; 0: between two ranks */
    uint64_t enqueued, started;        /* ticks; started 0: not known */
    _Atomic uint64_t ended;            /* ticks; 0: not yet */
    uint64_t count;                    /* elements */
    int32_t peer;                      /* root, or the rank at the other end; -1: none */
    uint8_t kind, dtype, op;           /* MU_OP_KIND_, muster_dtype, muster_op */
    _Atomic uint8_t state;             /* MU_FLIGHT_ */
    uint64_t bytes;                    /* of them */
};
_Static_assert(sizeof(struct mu_flight_record) == 64, "a cache line");

struct mu_flight_ring {
    _Alignas(64) _Atomic uint64_t ctx; /* of the communicator, the same on all its ranks; 0: free, never used */
    _Atomic uint64_t last;             /* seq of the newest record */
    _Atomic uint32_t size;             /* ranks of the communicator */
    _Atomic uint32_t left;             /* the communicator is freed: the ring may be taken for another one */
    _Atomic uint64_t bytes;            /* of all records so far, those of communicators before it too */
    struct mu_flight_record v[MU_FLIGHT_RING];
};

struct mu_flight {                            /* a rank's */
    _Alignas(64) _Atomic uint64_t tick, mono; /* the same moment on both clocks; tick 0: nothing is recorded */
    _Atomic uint64_t unrecorded;              /* communicators that found no ring */
    struct mu_flight_ring ring[MU_FLIGHT_COMMS];
};

/* The CPU's counter where it has one that all of its cores share, else CLOCK_MONOTONIC. */
static inline uint64_t mu_tick(void)
{
#if defined(__x86_64__)
    return __builtin_ia32_rdtsc();
#elif defined(__aarch64__)
    uint64_t t;

    __asm__ volatile("mrs %0, cntvct_el0" : "=r"(t));
    return t;
#else
    return mu_now();
#endif
}

static inline void mu_flight_begin(struct mu_flight *f)
{
    atomic_store_explicit(&f->mono, mu_now(), memory_order_relaxed);
    atomic_store_explicit(&f->tick, mu_tick(), memory_order_release);
}

/* A ring for a communicator: a free one, or that of the one that was left first. NULL: all are in use. f may be NULL.
 */
static inline struct mu_flight_ring *mu_flight_open(struct mu_flight *f, uint64_t ctx, uint32_t size)
{
    struct mu_flight_ring *old = NULL;

    for (unsigned i = 0; f && i < MU_FLIGHT_COMMS; i++) {
        struct mu_flight_ring *r = &f->ring[i];
        uint32_t left = atomic_load_explicit(&r->left, memory_order_relaxed);

        if (!atomic_load_explicit(&r->ctx, memory_order_relaxed)) {
            old = r;
            break;
        }
        if (left && (!old || left < atomic_load_explicit(&old->left, memory_order_relaxed)))
            old = r;
    }
    if (!old) {
        if (f)
            atomic_fetch_add_explicit(&f->unrecorded, 1, memory_order_relaxed);
        return NULL;
    }
    for (unsigned i = 0; i < MU_FLIGHT_RING; i++) /* those of another one */
        if (atomic_load_explicit(&old->last, memory_order_relaxed))
            atomic_store_explicit(&old->v[i].seq, 0, memory_order_relaxed);
    atomic_store_explicit(&old->last, 0, memory_order_relaxed);
    atomic_store_explicit(&old->left, 0, memory_order_relaxed);
    atomic_store_explicit(&old->size, size, memory_order_relaxed);
    atomic_store_explicit(&old->ctx, ctx, memory_order_release);
    return old;
}

static inline void mu_flight_close(struct mu_flight *f, struct mu_flight_ring *r)
{
    uint32_t newest = 0;

    for (unsigned i = 0; r && i < MU_FLIGHT_COMMS; i++) {
        uint32_t left = atomic_load_explicit(&f->ring[i].left, memory_order_relaxed);

        newest = left > newest ? left : newest;
    }
    if (r)
        atomic_store_explicit(&r->left, newest + 1, memory_order_relaxed);
}

/* One writer of a ring at a time. what: number, count, bytes, peer, kind, dtype and op; started: it is at work at once.
 * The record is the ring's until MU_FLIGHT_RING others follow. */
static inline struct mu_flight_record *mu_flight_enter(struct mu_flight_ring *r, const struct mu_flight_record *what,
                                                       int started)
{
    uint64_t seq = atomic_load_explicit(&r->last, memory_order_relaxed) + 1;
    struct mu_flight_record *v = &r->v[(seq - 1) % MU_FLIGHT_RING];

    atomic_store_explicit(&v->seq, 0, memory_order_relaxed);
    atomic_thread_fence(memory_order_release);
    v->number = what->number;
    v->count = what->count;
    v->bytes = what->bytes;
    v->peer = what->peer;
    v->kind = what->kind;
    v->dtype = what->dtype;
    v->op = what->op;
    v->enqueued = mu_tick();
    v->started = started ? v->enqueued : 0;
    atomic_store_explicit(&v->ended, 0, memory_order_relaxed);
    atomic_store_explicit(&v->state, started ? MU_FLIGHT_RUNNING : MU_FLIGHT_ENQUEUED, memory_order_relaxed);
    atomic_store_explicit(&v->seq, seq, memory_order_release);
    atomic_store_explicit(&r->bytes, atomic_load_explicit(&r->bytes, memory_order_relaxed) + what->bytes,
                          memory_order_relaxed);
    atomic_store_explicit(&r->last, seq, memory_order_release);
    return v;
}

static inline void mu_flight_leave(struct mu_flight_record *v, uint64_t tick, int failed)
{
    atomic_store_explicit(&v->ended, tick, memory_order_relaxed);
    atomic_store_explicit(&v->state, failed ? MU_FLIGHT_FAILED : MU_FLIGHT_COMPLETED, memory_order_release);
}

#endif
