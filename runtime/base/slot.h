/* The shared slots between a keeper and its ranks: one mapping for an attempt on a node, a memfd of the keeper that
 * ranks open through the path in MUSTER_SLOTS (/proc/PID/fd/N, so nothing can be left behind) and index with
 * MUSTER_SLOT_INDEX (their local rank). The keeper writes the head, a rank writes its slot, each reads the other's:
 * plain atomic stores, no system call on the training path. Times are CLOCK_MONOTONIC ns unless they say wall. */
#ifndef MU_BASE_SLOT_H
#define MU_BASE_SLOT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "runtime/base/flight.h"

#define MU_SLOT_MAGIC 0x31544f4c5355554dull /* "MUUSLOT1" */
#define MU_SLOT_VERSION 3u

/* X(name, text): what a rank may be inside of, for op_kind and for people. CKPT: waiting for files, not for ranks. */
#define MU_OP_KINDS(X)                                                                                                 \
    X(NONE, "none")                                                                                                    \
    X(ALLREDUCE, "all-reduce")                                                                                         \
    X(REDUCE, "reduce")                                                                                                \
    X(REDUCE_SCATTER, "reduce-scatter")                                                                                \
    X(ALLGATHER, "all-gather")                                                                                         \
    X(BROADCAST, "broadcast")                                                                                          \
    X(ALLTOALL, "all-to-all")                                                                                          \
    X(BARRIER, "barrier")                                                                                              \
    X(SEND, "send")                                                                                                    \
    X(RECV, "receive")                                                                                                 \
    X(SPLIT, "split")                                                                                                  \
    X(INIT, "muster_init")                                                                                             \
    X(FINALIZE, "muster_finalize")                                                                                     \
    X(CKPT, "checkpoint")

enum {
#define MU_OP_KINDS_ENUM(name, text) MU_OP_KIND_##name,
    MU_OP_KINDS(MU_OP_KINDS_ENUM)
#undef MU_OP_KINDS_ENUM
        MU_OP_KIND_COUNT
};

#define MU_OP_PEER_NONE UINT32_MAX

enum { MU_NOTICE_SIGNAL = 1, MU_NOTICE_EVICTION = 2, MU_NOTICE_HALT = 4 };
/* FINALIZED: the session is over, maybe because of a failure; LEFT: all ranks ended it together. */
enum { MU_RANK_EMPTY, MU_RANK_INIT, MU_RANK_READY, MU_RANK_FINALIZED, MU_RANK_LEFT };

struct mu_slot_head {
    uint64_t magic;
    uint32_t version, nslots;
    uint32_t attempt, world_size;
    uint64_t deadline_ns; /* the job's time limit, CLOCK_MONOTONIC, 0 = none */
    uint64_t hang_ns;     /* after so long the controller looks for whoever holds up the others; 0 = never */
    /* Abort word: a peer failed and this rank was told to live on (--on-failure=keep). The keeper fills the rest, then
     * stores abort = 1 (release). */
    _Alignas(64) _Atomic uint32_t abort;
    uint32_t abort_rank;  /* who failed first */
    int32_t abort_status; /* its wait status */
    char abort_node[116];
    _Alignas(64) _Atomic uint32_t notice; /* MU_NOTICE_ bits */
    char pad[60];
};

struct mu_slot {
    _Alignas(64) _Atomic uint32_t state; /* MU_RANK_ */
    _Atomic uint32_t pid;
    _Atomic uint32_t mpi_rank, mpi_size; /* what MPI_Init really gave */
    _Atomic uint64_t beat;               /* grows while the rank is in the library, and as it leaves it */
    _Atomic uint64_t steps;              /* number of muster_step calls of this attempt */
    _Atomic uint64_t step;               /* argument of the last one */
    _Atomic uint64_t first_step_wall, step_wall;
    _Atomic uint64_t save_ns;             /* that muster_ckpt_save has held it up, all calls of this attempt */
    _Alignas(64) _Atomic uint64_t op_seq; /* operations entered on any communicator */
    /* What it waits in: op_*, written by mu_slot_wait and mu_slot_go alone. */
    _Atomic uint32_t op_kind;        /* MU_OP_KIND_; 0 = outside */
    _Atomic uint32_t op_peer;        /* world rank that it waits for; MU_OP_PEER_NONE = not known */
    _Atomic uint64_t op_since;       /* when anything moved last */
    _Atomic uint64_t ckpt_plus1;     /* step of the newest complete checkpoint + 1; 0 = none */
    _Atomic uint64_t restored_plus1; /* step restored from + 1; 0 = none */
    _Atomic uint32_t user_error;     /* last MUSTER_E code returned to the program, negated */
    _Atomic uint32_t op_gen;         /* odd while op_* are being written */
    _Atomic uint32_t op_polled;      /* muster_test asks for it: the program may do other things meanwhile */
    /* low halves of op_seq, when late_ and user_error were written: stale after the next operation */
    _Atomic uint32_t late_seq, error_seq;
    _Atomic uint32_t saves;                 /* such calls; grows after save_ns */
    _Alignas(64) _Atomic uint64_t op_ctx;   /* communicator, the same on all its ranks; 0 with MU_OP_KIND_INIT: MPI's */
    _Atomic uint64_t op_number;             /* which collective of it, from 1 */
    _Atomic uint64_t last_ctx, last_number; /* the collective that was entered last */
    /* A wait that was given up at the library's own deadline; late_kind is stored last. */
    _Atomic uint64_t late_ctx, late_number, late_ns;
    _Atomic uint32_t late_peer, late_kind;
};

struct mu_slot_op {
    uint32_t kind, peer, polled;
    uint64_t since, ctx, number;
};

_Static_assert(sizeof(struct mu_slot_head) % 64 == 0, "slots start on a cache line");
_Static_assert(sizeof(struct mu_slot) == 192, "shared layout");

static inline struct mu_slot *mu_slot_at(struct mu_slot_head *head, unsigned index)
{
    return (struct mu_slot *)(void *)(head + 1) + index;
}
static inline uint64_t mu_slot_bytes(unsigned n)
{
    return sizeof(struct mu_slot_head) + (uint64_t)n * (sizeof(struct mu_slot) + sizeof(struct mu_flight));
}
/* Behind all slots; pages that nobody writes cost nothing. */
static inline struct mu_flight *mu_slot_flight(struct mu_slot_head *head, unsigned index)
{
    return (struct mu_flight *)(void *)mu_slot_at(head, head->nslots) + index;
}

/* One writer. */
static inline void mu_slot_saved(struct mu_slot *s, uint64_t ns)
{
    ns += atomic_load_explicit(&s->save_ns, memory_order_relaxed);
    atomic_store_explicit(&s->save_ns, ns, memory_order_relaxed);
    atomic_store_explicit(&s->saves, atomic_load_explicit(&s->saves, memory_order_relaxed) + 1, memory_order_release);
}

/* One writer at a time. */
static inline void mu_slot_wait(struct mu_slot *s, const struct mu_slot_op *op)
{
    uint32_t gen = atomic_load_explicit(&s->op_gen, memory_order_relaxed) + 1;

    atomic_store_explicit(&s->op_gen, gen, memory_order_relaxed);
    atomic_thread_fence(memory_order_release);
    atomic_store_explicit(&s->op_since, op->since, memory_order_relaxed);
    atomic_store_explicit(&s->op_peer, op->peer, memory_order_relaxed);
    atomic_store_explicit(&s->op_polled, op->polled, memory_order_relaxed);
    atomic_store_explicit(&s->op_ctx, op->ctx, memory_order_relaxed);
    atomic_store_explicit(&s->op_number, op->number, memory_order_relaxed);
    atomic_store_explicit(&s->op_kind, op->kind, memory_order_relaxed);
    atomic_store_explicit(&s->op_gen, gen + 1, memory_order_release);
}
static inline void mu_slot_go(struct mu_slot *s)
{
    atomic_store_explicit(&s->op_kind, MU_OP_KIND_NONE, memory_order_release);
}
/* A wait that was given up after ns, in the operation that op_seq was at seq; the first of it counts. */
static inline void mu_slot_late(struct mu_slot *s, uint32_t seq, const struct mu_slot_op *op, uint64_t ns)
{
    if (atomic_load_explicit(&s->late_kind, memory_order_relaxed) &&
        atomic_load_explicit(&s->late_seq, memory_order_relaxed) == seq)
        return;
    atomic_store_explicit(&s->late_kind, 0, memory_order_release);
    atomic_store_explicit(&s->late_seq, seq, memory_order_relaxed);
    atomic_store_explicit(&s->late_ctx, op->ctx, memory_order_relaxed);
    atomic_store_explicit(&s->late_number, op->number, memory_order_relaxed);
    atomic_store_explicit(&s->late_ns, ns, memory_order_relaxed);
    atomic_store_explicit(&s->late_peer, op->peer, memory_order_relaxed);
    atomic_store_explicit(&s->late_kind, op->kind, memory_order_release);
}
/* False: it was being written, again and again. */
static inline bool mu_slot_op(const struct mu_slot *s, struct mu_slot_op *op)
{
    for (int i = 0; i < 100; i++) {
        uint32_t gen = atomic_load_explicit(&s->op_gen, memory_order_acquire);

        *op = (struct mu_slot_op){.kind = atomic_load_explicit(&s->op_kind, memory_order_relaxed),
                                  .peer = atomic_load_explicit(&s->op_peer, memory_order_relaxed),
                                  .polled = atomic_load_explicit(&s->op_polled, memory_order_relaxed),
                                  .since = atomic_load_explicit(&s->op_since, memory_order_relaxed),
                                  .ctx = atomic_load_explicit(&s->op_ctx, memory_order_relaxed),
                                  .number = atomic_load_explicit(&s->op_number, memory_order_relaxed)};
        atomic_thread_fence(memory_order_acquire);
        if (!(gen & 1) && atomic_load_explicit(&s->op_gen, memory_order_relaxed) == gen)
            return true;
    }
    return false;
}

#endif
