/* The RAM arena of a job on one node: memory of the keeper's into which the ranks copy what they save, so that it
 * outlives them. The index is one mapping with two cells for each rank of the node; a cell's data is a memfd of the
 * keeper's, opened through /proc/PID/fd/N like the index itself (MUSTER_ARENA), so nothing can be left behind:
 *     segment, as in the directory, but for its superblock | manifest, CRCs 0 | from the next page on, a CRC an extent
 * A rank writes a cell's description and data while the cell is neither WANTED nor BUSY, and then leaves it to the
 * drain (runtime/ckpt/daemon), which puts it into the directory. What is FULL and older stays until the newer one is
 * FULL. */
#ifndef MU_CKPT_ARENA_H
#define MU_CKPT_ARENA_H

#include <stdatomic.h>

#include "runtime/ckpt/store.h"

#define MU_ARENA_ENV "MUSTER_ARENA"
#define MU_ARENA_MAGIC 0x314e455241554dull /* "MUAREN1" */
#define MU_ARENA_VERSION 1u
#define MU_ARENA_RANKS 512u /* of a node; more go without */
#define MU_ARENA_SLOTS 2u

enum { MU_ARENA_EMPTY, MU_ARENA_FILLING, MU_ARENA_FULL };
/* SAFE: durable, and older generations are being removed. */
enum { MU_DRAIN_NONE, MU_DRAIN_WANTED, MU_DRAIN_BUSY, MU_DRAIN_SAFE, MU_DRAIN_DONE, MU_DRAIN_FAILED };

struct mu_arena_cell {
    _Alignas(64) _Atomic uint32_t state; /* MU_ARENA_ */
    _Atomic uint32_t drain;              /* MU_DRAIN_; waited for */
    _Atomic uint32_t summed;             /* the CRCs are there */
    _Atomic uint32_t cancel;
    int32_t fd;           /* the keeper's; -1: none */
    uint32_t rank;        /* whose part it is */
    struct mu_ckpt_id id; /* of the save; stays when a later attempt has it drained under its own epoch */
    uint64_t segment, manifest, extents; /* bytes, bytes, number */
    /* The order to the drain. */
    struct mu_ckpt_place place; /* io has no meaning here */
    uint64_t generation;        /* at first that of id */
    uint64_t bad_after, bad_upto, began;
    /* Its answer, before drain becomes SAFE or FAILED. */
    uint64_t cost; /* ns */
    struct mu_err error;
};

struct mu_arena_head {
    uint64_t magic;
    uint32_t version, cell_bytes;
    uint32_t keeper;                  /* pid */
    _Atomic uint32_t attempt, nranks; /* of the node */
    _Atomic uint32_t users;           /* ranks that ever came; the drain is started for the first */
    _Atomic uint32_t bell;            /* grows with each order */
    _Atomic uint64_t durable_plus1;   /* newest step that was made durable */
    _Atomic uint64_t hurry;           /* mu_now() by which waits for parts end, as the job is over; 0 */
    struct mu_arena_cell cells[];
};
#define MU_ARENA_BYTES (sizeof(struct mu_arena_head) + MU_ARENA_RANKS * MU_ARENA_SLOTS * sizeof(struct mu_arena_cell))

/* What lies behind a cell's segment, and how much it is with it. */
static inline uint64_t mu_arena_sums_at(uint64_t segment, uint64_t manifest)
{
    return segment + (manifest + MU_CKPT_PAGE - 1) / MU_CKPT_PAGE * MU_CKPT_PAGE;
}
static inline uint64_t mu_arena_bytes(uint64_t segment, uint64_t manifest, uint64_t extents)
{
    return mu_arena_sums_at(segment, manifest) + 4 * extents;
}
static inline struct mu_arena_cell *mu_arena_cell(struct mu_arena_head *h, uint32_t local, uint32_t slot)
{
    return &h->cells[local * MU_ARENA_SLOTS + slot];
}
/* A drain has it, or is to have it. */
static inline bool mu_arena_pending(const struct mu_arena_cell *c)
{
    uint32_t d = atomic_load(&c->drain);

    return d == MU_DRAIN_WANTED || d == MU_DRAIN_BUSY || d == MU_DRAIN_SAFE;
}

/* Maps an index; munmap MU_ARENA_BYTES of it. */
int mu_arena_open(const char *path, struct mu_arena_head **, struct mu_err *);
/* Maps a cell's data; write: to be at least so long, else ECORRUPT when it is not. */
int mu_arena_map(const struct mu_arena_head *, const struct mu_arena_cell *, uint64_t bytes, bool write,
                 unsigned char **, struct mu_err *);
/* What a FULL cell says of itself fits together: its manifest, with CRCs when there are any, from the map. */
int mu_arena_manifest(const struct mu_arena_cell *, const unsigned char *map, struct mu_ckpt_manifest *, bool *summed,
                      struct mu_err *);
/* Hands a FULL cell to the drain. */
void mu_arena_order(struct mu_arena_head *, struct mu_arena_cell *);

#endif
