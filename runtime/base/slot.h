/* The shared slots between a keeper and its ranks: one mapping for an attempt on a node, a memfd of the keeper that
 * ranks open through the path in MUSTER_SLOTS (/proc/PID/fd/N, so nothing can be left behind) and index with
 * MUSTER_SLOT_INDEX (their local rank). The keeper writes the head, a rank writes its slot, each reads the other's:
 * plain atomic stores, no system call on the training path. Times are CLOCK_MONOTONIC ns unless they say wall. */
#ifndef MU_BASE_SLOT_H
#define MU_BASE_SLOT_H

#include <stdatomic.h>
#include <stdint.h>

#define MU_SLOT_MAGIC 0x31544f4c5355554dull /* "MUUSLOT1" */
#define MU_SLOT_VERSION 1u

/* X(name, text): what a rank may be inside of, for op_kind and for people. */
#define MU_OP_KINDS(X)                                                                                                 \
    X(NONE, "none")                                                                                                    \
    X(ALLREDUCE, "allreduce")                                                                                          \
    X(REDUCE, "reduce")                                                                                                \
    X(REDUCE_SCATTER, "reduce_scatter")                                                                                \
    X(ALLGATHER, "allgather")                                                                                          \
    X(BROADCAST, "broadcast")                                                                                          \
    X(ALLTOALL, "alltoall")                                                                                            \
    X(BARRIER, "barrier")                                                                                              \
    X(SEND, "send")                                                                                                    \
    X(RECV, "recv")                                                                                                    \
    X(SPLIT, "comm_split")                                                                                             \
    X(INIT, "init")                                                                                                    \
    X(FINALIZE, "finalize")

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
    uint64_t deadline_wall; /* the job's time limit, 0 = none */
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
    _Atomic uint64_t beat;               /* grows while the rank is in or passes through the library */
    _Atomic uint64_t steps;              /* number of muster_step calls of this attempt */
    _Atomic uint64_t step;               /* argument of the last one */
    _Atomic uint64_t first_step_wall, step_wall;
    _Alignas(64) _Atomic uint64_t op_seq; /* collectives entered on any communicator */
    _Atomic uint32_t op_kind;             /* MU_OP_KIND_ of the last one; 0 = outside */
    _Atomic uint32_t op_peer;             /* world rank that it waits for; MU_OP_PEER_NONE = not known */
    _Atomic uint64_t op_since;
    _Atomic uint64_t ckpt_plus1;     /* step of the newest complete checkpoint + 1; 0 = none */
    _Atomic uint64_t restored_plus1; /* step restored from + 1; 0 = none */
    _Atomic uint32_t user_error;     /* last MUSTER_E code returned to the program, negated */
    uint32_t pad[3];
    _Alignas(64) char text[64]; /* spare */
};

_Static_assert(sizeof(struct mu_slot_head) % 64 == 0, "slots start on a cache line");
_Static_assert(sizeof(struct mu_slot) == 192, "shared layout");

static inline struct mu_slot *mu_slot_at(struct mu_slot_head *head, unsigned index)
{
    return (struct mu_slot *)(void *)(head + 1) + index;
}
static inline uint64_t mu_slot_bytes(unsigned n)
{
    return sizeof(struct mu_slot_head) + (uint64_t)n * sizeof(struct mu_slot);
}

#endif
