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
#define MU_ARENA_VERSION 3u
#define MU_ARENA_RANKS 512u /* of a node; more go without */
#define MU_ARENA_SLOTS 2u

enum { MU_ARENA_EMPTY, MU_ARENA_FILLING, MU_ARENA_FULL };
/* SAFE: durable, and older generations are being removed. */
enum { MU_DRAIN_NONE, MU_DRAIN_WANTED, MU_DRAIN_BUSY, MU_DRAIN_SAFE, MU_DRAIN_DONE, MU_DRAIN_FAILED };

/* Whether the group has what it needs to give it back, for MUSTER_LEVEL_PEERS. */
enum { MU_PEERS_NONE, MU_PEERS_WANTED, MU_PEERS_DONE, MU_PEERS_FAILED };

struct mu_arena_cell {
    _Alignas(64) _Atomic uint32_t state; /* MU_ARENA_ */
    _Atomic uint32_t drain;              /* MU_DRAIN_; waited for */
    _Atomic uint32_t summed;             /* the CRCs are there */
    _Atomic uint32_t cancel;
    _Atomic uint32_t peers; /* MU_PEERS_; waited for */
    int32_t fd;             /* the keeper's; -1: none */
    uint32_t rank;          /* whose part it is */
    struct mu_ckpt_id id;   /* of the save; stays when a later attempt has it drained under its own epoch */
    uint64_t segment, manifest, extents; /* bytes, bytes, number */
    uint64_t chunk;                      /* bytes of the group's largest node, divided by its rows of data */
    uint32_t node;                       /* ranks of this node in the save */
    /* The order to the drain. */
    struct mu_ckpt_place place; /* io has no meaning here */
    uint64_t generation;        /* at first that of id */
    uint64_t bad_after, bad_upto, began;
    /* Its answer, before drain becomes SAFE or FAILED. */
    uint64_t cost; /* ns */
    struct mu_err error, peers_error;
};

/* Groups. A node's data in a save are its ranks' cells in the order of the ranks, each from a page on (its block), cut
 * into n - k chunks. There are n stripes: in stripe s the members s, s + 1, ... s + k - 1 (modulo n) hold parity 0, 1,
 * ... k - 1, the others in that order each a chunk as data row 0, 1, ...: member m its chunk d in the stripe where it
 * is row d. Member s encodes stripe s. */
#define MU_GROUP_MAX 32u
#define MU_ARENA_PIECE (256u << 10) /* what is sent and summed at a time */

struct mu_arena_addr {
    char host[3][64]; /* numeric */
    uint32_t port;    /* 0: none */
};

/* The group of this attempt, written by the ranks before the first save. */
struct mu_arena_group {
    _Atomic uint32_t set;     /* grows each time; 0: there is none */
    uint32_t n, k, me, group; /* me: our place in it; group: its number */
    uint32_t open;            /* 1: parts need not be encrypted on their way. An older library leaves it 0 */
    uint64_t nonce;           /* of the epoch */
    struct mu_arena_addr member[MU_GROUP_MAX];
};

/* A member's parts of a save. */
struct mu_arena_part {
    uint32_t rank, pad;
    uint64_t segment, manifest, extents;
};

/* What this node holds for its group of a save: memory of
 *     k rows of parity | a CRC for each piece of its n - k chunks and k rows | tables of all members */
struct mu_arena_parity {
    _Alignas(64) _Atomic uint32_t state; /* MU_ARENA_ */
    int32_t fd;
    struct mu_ckpt_id id;
    uint32_t n, k, me, group;
    uint32_t set; /* of the group; of two of one save the greater counts */
    uint64_t chunk;
    uint32_t nparts[MU_GROUP_MAX], table_sum[MU_GROUP_MAX]; /* by member; a CRC32C of its table */
};

#define MU_ARENA_THERE (1u << 31)

/* A lost member's data is to be made again in cells of this node, which the rank that asks has prepared (FILLING). */
struct mu_arena_rebuild {
    /* MU_DRAIN_NONE, WANTED, DONE, FAILED; BUSY: the drain is at it, SAFE: still, and nobody waits. In these two ranks
     * write nothing here. */
    _Atomic uint32_t state;
    struct mu_ckpt_id id;
    uint32_t n, k, lost, nparts;
    uint64_t chunk;
    struct mu_arena_addr member[MU_GROUP_MAX]; /* port 0: lost, too */
    struct mu_arena_addr maker[MU_GROUP_MAX];  /* who makes another lost one again at the same time; port 0: nobody */
    uint32_t cell[MU_ARENA_RANKS];             /* of its parts, in order; with MU_ARENA_THERE: it is whole, as it is */
    struct mu_err error;
};

/* What rank 0 wants of the object store (runtime/ckpt/daemon/ship.h), and what the drain of its node says of it. */
enum { MU_FETCH_NONE, MU_FETCH_WANTED, MU_FETCH_DONE, MU_FETCH_FAILED, MU_FETCH_LOOK };
struct mu_arena_ship {
    _Atomic uint32_t set; /* grows with each order, odd while it is written; 0: there is none */
    struct mu_ckpt_place place;
    char url[600], endpoint[300], credentials[1024], key[1024];
    uint64_t rate;
    uint32_t full; /* each so many generations one without references; 1: none has any */
    /* The order's first part. WANTED: the directory is empty, and is to have the newest generation of the store's.
     * LOOK: it is not, and the settings and the keys are to be looked at: FAILED when they are no good, not when the
     * store does not answer. */
    _Atomic uint32_t fetch; /* MU_FETCH_; waited for */
    uint64_t fetched;       /* its number; 0: the store has none */
    struct mu_err fetch_error;
    /* Generations of the directory: the newest that is committed, and the newest that is in the store. */
    _Atomic uint64_t want, generation;
    _Atomic uint64_t step_plus1; /* of the latter */
    _Atomic uint64_t bytes;      /* sent and fetched */
    _Atomic uint64_t retries, failures;
    _Atomic uint64_t moved_at;    /* mu_now() when something last got on; 0: nothing ever did */
    _Atomic uint32_t failing;     /* the last try failed; its text: */
    _Atomic uint32_t trouble_gen; /* odd while it is written */
    char trouble[400];
};

struct mu_arena_head {
    uint64_t magic;
    uint32_t version, cell_bytes;
    uint32_t keeper;                  /* pid */
    _Atomic uint32_t attempt, nranks; /* of the node */
    _Atomic uint32_t users;           /* ranks that ever came; the drain is started for the first */
    _Atomic uint32_t bell;            /* grows with each order */
    _Atomic uint64_t durable_plus1;   /* newest step that was made durable */
    _Atomic uint64_t shipped;         /* bytes sent to peers for saves */
    _Atomic uint64_t given;           /* and for what they have lost */
    _Atomic uint32_t meet;            /* 1: peers are wanted */
    struct mu_arena_addr listen;      /* the drain's; port last */
    struct mu_arena_group group;
    _Atomic uint64_t written; /* bytes of parts, into the directory */
    struct mu_arena_parity parity[MU_ARENA_SLOTS];
    struct mu_arena_rebuild rebuild;
    struct mu_arena_ship ship;
    _Atomic uint64_t hurry; /* mu_now() by which waits for parts end, as the job is over; 0 */
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
/* Bytes of a part in its node's block. */
static inline uint64_t mu_arena_part_bytes(uint64_t segment, uint64_t manifest, uint64_t extents)
{
    return (mu_arena_bytes(segment, manifest, extents) + MU_CKPT_PAGE - 1) / MU_CKPT_PAGE * MU_CKPT_PAGE;
}
/* The layout of a parity's memory. */
static inline uint64_t mu_arena_pieces(uint64_t chunk)
{
    return (chunk + MU_ARENA_PIECE - 1) / MU_ARENA_PIECE;
}
static inline uint64_t mu_arena_tables_at(uint32_t n, uint32_t k, uint64_t chunk)
{
    return (k * chunk + 4 * n * mu_arena_pieces(chunk) + 63) / 64 * 64;
}
static inline uint64_t mu_arena_table_at(uint32_t n, uint32_t k, uint64_t chunk, uint32_t member)
{
    return mu_arena_tables_at(n, k, chunk) + (uint64_t)member * MU_ARENA_RANKS * sizeof(struct mu_arena_part);
}
static inline uint64_t mu_arena_parity_bytes(uint32_t n, uint32_t k, uint64_t chunk)
{
    return mu_arena_tables_at(n, k, chunk) + (uint64_t)n * MU_ARENA_RANKS * sizeof(struct mu_arena_part);
}
/* The parity of a save that is there; NULL: none. */
static inline struct mu_arena_parity *mu_arena_parity_of(struct mu_arena_head *h, const struct mu_ckpt_id *id)
{
    struct mu_arena_parity *best = NULL;

    for (uint32_t i = 0; i < MU_ARENA_SLOTS; i++) {
        struct mu_arena_parity *x = &h->parity[i];

        if (atomic_load_explicit(&x->state, memory_order_acquire) == MU_ARENA_FULL && mu_ckpt_same_id(&x->id, id) &&
            (!best || x->set > best->set))
            best = x;
    }
    return best;
}
/* A drain has it, or is to have it, or its group. */
static inline bool mu_arena_pending(const struct mu_arena_cell *c)
{
    uint32_t d = atomic_load(&c->drain);

    if (atomic_load(&c->peers) == MU_PEERS_WANTED)
        return true;
    return d == MU_DRAIN_WANTED || d == MU_DRAIN_BUSY || d == MU_DRAIN_SAFE;
}

/* Nobody waits for the order any more. False: the drain is at it, and will leave it. */
static inline bool mu_arena_unorder(struct mu_arena_head *h)
{
    uint32_t is = MU_DRAIN_WANTED;

    if (atomic_compare_exchange_strong(&h->rebuild.state, &is, MU_DRAIN_NONE))
        return true;
    if (is == MU_DRAIN_BUSY && !atomic_compare_exchange_strong(&h->rebuild.state, &is, MU_DRAIN_SAFE))
        return is != MU_DRAIN_SAFE;
    return is != MU_DRAIN_BUSY && is != MU_DRAIN_SAFE;
}

/* Maps an index; munmap MU_ARENA_BYTES of it. */
int mu_arena_open(const char *path, struct mu_arena_head **, struct mu_err *);
/* Opens a memfd of the keeper's of so many bytes; write: to be at least so long, else ECORRUPT when it is not. */
int mu_arena_open_fd(const struct mu_arena_head *, int fd, uint64_t bytes, bool write, struct mu_err *);
/* Maps them. */
int mu_arena_map_fd(const struct mu_arena_head *, int fd, uint64_t bytes, bool write, unsigned char **,
                    struct mu_err *);
int mu_arena_map(const struct mu_arena_head *, const struct mu_arena_cell *, uint64_t bytes, bool write,
                 unsigned char **, struct mu_err *);
/* Whether all of a FULL and summed cell is as it was summed. */
int mu_arena_check(const struct mu_arena_head *, const struct mu_arena_cell *, struct mu_err *);
int mu_arena_check_map(const struct mu_arena_cell *, const unsigned char *map, struct mu_err *); /* of all of it */
/* What a FULL cell says of itself fits together: its manifest, with CRCs when there are any, from the map. */
int mu_arena_manifest(const struct mu_arena_cell *, const unsigned char *map, struct mu_ckpt_manifest *, bool *summed,
                      struct mu_err *);
/* Hands a FULL cell to the drain. */
void mu_arena_order(struct mu_arena_head *, struct mu_arena_cell *);

#endif
