/* Everything else: a rank puts its block, or its blocks, where the others find them, and takes theirs. Short ones go
 * into the post itself, middle ones into a slot before the post is made, so that one line says that they are there;
 * large ones go through the slots chunk by chunk, or are read where they are in memory that peers map. */
#include <string.h>

#include "collectives/algorithms.h"
#include "collectives/ops.h"
#include "collectives/tune.h"

#define PIECE ((size_t)1 << 20)
#define CHUNK ((size_t)64 << 10)   /* bytes of a slot that are used: while some are taken, the next are staged */
#define ONE_WAY ((size_t)32 << 10) /* likewise where nobody does both */

enum { POST, HEAR, CHUNKS, DIRECT, CHECK, PART };

/* o, n: which part of each block. from[k]: rank k's part for everybody, or for this rank. */
struct row {
    bool blocks;               /* one for every rank, not one for all */
    bool gives_all, takes_all; /* or only the root */
    void (*stage)(struct muster_request *, char *to, size_t o, size_t n);
    void (*take)(struct muster_request *, size_t o, size_t n);
};

static bool row_blocks(const struct muster_request *req);
static const struct row *row_of(const struct muster_request *req);

static size_t block(const struct muster_request *req)
{
    return req->call.count * req->elem;
}

/* Where what concerns this rank begins in what a rank gives. */
static size_t own_shift(const struct muster_request *req)
{
    return row_blocks(req) ? (size_t)req->comm->rank * mu_stride(req) : 0;
}

static bool is_root(const struct muster_request *req, int k)
{
    return req->call.root == k;
}

static void stage_send(struct muster_request *req, char *to, size_t o, size_t n)
{
    mu_ops_copy(to, mu_at(req->call.send, o), n, req->shm.past);
}

static void stage_recv(struct muster_request *req, char *to, size_t o, size_t n)
{
    mu_ops_copy(to, mu_at(req->call.recv, o), n, false);
}

static void stage_blocks(struct muster_request *req, char *to, size_t o, size_t n)
{
    for (int k = 0; k < req->comm->size; k++)
        if (k != req->comm->rank)
            mu_ops_copy(to + (size_t)k * n, mu_at(req->call.send, (size_t)k * mu_stride(req) + o), n, req->shm.past);
}

static void give_back(struct muster_request *req, int k, size_t n)
{
    struct mu_shm_comm *sc = mu_shm_of(req);

    if (k == sc->me || req->shm.size == MU_SHM_INLINE || req->shm.phase == DIRECT)
        return;
    if (req->shm.size == MU_SHM_LARGE && mu_shm_where(req, k)->past)
        return;
    if (mu_shm_gives_back(sc, row_blocks(req), row_of(req)->gives_all))
        mu_ops_rewrite(sc->ch[k]->slot[0] + ((const char *)sc->src[k] - sc->ch[k]->slot[0]), n);
}

static void take_reduced(struct muster_request *req, size_t o, size_t n)
{
    struct mu_shm_comm *sc = mu_shm_of(req);

    sc->src[sc->me] = mu_at(req->call.send, own_shift(req) + o);
    sc->dst[0] = mu_at(req->call.recv, o);
    if (n)
        mu_ops_reduce(&req->red, sc->dst, 1, sc->src, (unsigned)sc->p, n / req->elem, req->shm.away);
    for (int k = 0; k < sc->p; k++)
        give_back(req, k, n);
}

/* From src[k], or out of k's process where that is NULL. */
static void take_one(struct muster_request *req, int k, char *to, size_t o, size_t n)
{
    const char *from = mu_shm_of(req)->src[k];

    if (from) {
        mu_ops_copy(to, from, n, req->shm.away);
        give_back(req, k, n);
    } else if (!req->shm.stuck) {
        req->shm.stuck = !mu_shm_read(req, k, to, mu_shm_where(req, k)->address + own_shift(req) + o, n);
    }
}

static void take_blocks(struct muster_request *req, size_t o, size_t n)
{
    struct mu_shm_comm *sc = mu_shm_of(req);
    size_t own = (size_t)sc->me * mu_stride(req);
    const char *mine = req->call.kind == MU_OP_KIND_ALLTOALL ? mu_at(req->call.send, own) : req->call.send;

    for (int i = 0; i < sc->p; i++) {
        int k = (sc->me + i) % sc->p;
        char *to = mu_at(req->call.recv, (size_t)k * mu_stride(req) + o);

        if (k != sc->me)
            take_one(req, k, to, o, n);
        else if (to != mu_at(mine, o))
            mu_ops_copy(to, mu_at(mine, o), n, req->shm.away);
    }
}

static void take_root(struct muster_request *req, size_t o, size_t n)
{
    if (!is_root(req, req->comm->rank))
        take_one(req, req->call.root, mu_at(req->call.recv, o), o, n);
}

static void nothing(struct muster_request *req, char *to, size_t o, size_t n)
{
    (void)req;
    (void)to;
    (void)o;
    (void)n;
}

static void take_nothing(struct muster_request *req, size_t o, size_t n)
{
    (void)req;
    (void)o;
    (void)n;
}

static const struct row rows[MU_OP_KIND_COUNT] = {
    [MU_OP_KIND_ALLREDUCE] = {false, true, true, stage_send, take_reduced},
    [MU_OP_KIND_REDUCE] = {false, true, false, stage_send, take_reduced},
    [MU_OP_KIND_REDUCE_SCATTER] = {true, true, true, stage_blocks, take_reduced},
    [MU_OP_KIND_ALLGATHER] = {false, true, true, stage_send, take_blocks},
    [MU_OP_KIND_SPLIT] = {false, true, true, stage_send, take_blocks},
    [MU_OP_KIND_ALLTOALL] = {true, true, true, stage_blocks, take_blocks},
    [MU_OP_KIND_BROADCAST] = {false, false, true, stage_recv, take_root},
    [MU_OP_KIND_BARRIER] = {false, true, true, nothing, take_nothing},
    [MU_OP_KIND_FINALIZE] = {false, true, true, nothing, take_nothing},
};

static const struct row *row_of(const struct muster_request *req)
{
    return &rows[req->call.kind];
}

static bool row_blocks(const struct muster_request *req)
{
    return row_of(req)->blocks;
}

static bool gives(const struct muster_request *req, int k)
{
    return row_of(req)->gives_all || is_root(req, k);
}

static bool takes(const struct muster_request *req, int k)
{
    return (row_of(req)->takes_all || is_root(req, k)) && (row_of(req)->gives_all || !is_root(req, k));
}

/* Bytes of a slot that are used. Where CPUs are shared every wait is a turn of somebody else's, so as few chunks as the
 * slots can hold: one that fills no more than them waits for nobody. */
static size_t chunk(const struct muster_request *req, size_t bytes)
{
    size_t least = row_of(req)->gives_all ? CHUNK : ONE_WAY, spread = (bytes + MU_SLOTS - 1) / MU_SLOTS;

    if (!mu_shm_of(req)->shm->crowded || spread <= least)
        return least;
    return spread < MU_SLOT_BYTES ? (spread + 4095) / 4096 * 4096 : MU_SLOT_BYTES;
}

/* Bytes that all ranks give and take. */
static size_t footprint(const struct muster_request *req)
{
    size_t n = block(req), p = (size_t)req->comm->size;

    switch (req->call.kind) {
    case MU_OP_KIND_BROADCAST:
        return n * p;
    case MU_OP_KIND_ALLTOALL:
        return 2 * n * p * p;
    default: /* a block for each rank is given or taken, and one is taken or given */
        return n * p * (p + 1);
    }
}

static struct mu_shm_store *store_of(const struct muster_request *req)
{
    return &mu_shm_of(req)->store[req->call.kind][req->shm.away];
}

/* Of all chunks the least, because a process is not always on its CPU; the last one may be short. */
static void note_ticks(const struct muster_request *req, uint64_t *least, uint64_t ticks, uint32_t c)
{
    if (*least == 0 || (ticks < *least && c + 1 < req->shm.nchunk))
        *least = ticks;
}

/* Only where all have stored one way can it be said what that costs. */
static void note_cost(const struct muster_request *req)
{
    const struct mu_shm_op *op = &req->shm;
    size_t n = op->nchunk > 1 ? op->each : block(req);

    for (int k = 0; k < req->comm->size; k++)
        if (k != req->comm->rank && mu_shm_where(req, k)->past != op->past)
            return;
    mu_shm_store_seen(store_of(req), op->past, (double)(op->stored + op->taken) / (double)n);
}

static void begin(struct muster_request *req)
{
    struct mu_shm_op *op = &req->shm;
    size_t p = (size_t)req->comm->size, blocks = row_of(req)->blocks ? p : 1, bytes = block(req);

    if (mu_kinds[req->call.kind].has_op)
        mu_ops_reducer_to(&req->red, req->call.dtype, req->call.op);
    op->each = bytes;
    if (bytes * blocks <= MU_POST_ROOM) {
        op->size = MU_SHM_INLINE;
    } else if (bytes * blocks <= MU_SHM_SHORT || req->call.kind == MU_OP_KIND_ALLREDUCE ||
               req->call.kind == MU_OP_KIND_REDUCE) {
        op->size = MU_SHM_ONE;
    } else {
        op->size = MU_SHM_LARGE;
        op->each = chunk(req, bytes * blocks) / blocks / 64 * 64;
        op->nchunk = (uint32_t)((bytes + op->each - 1) / op->each);
        op->away = footprint(req) >= mu_shm_of(req)->shm->llc;
        if (row_of(req)->gives_all)
            op->past = mu_shm_store_next(store_of(req));
    }
}

static size_t part(const struct muster_request *req, uint32_t c, size_t *o)
{
    *o = c * req->shm.each;
    return block(req) - *o < req->shm.each ? block(req) - *o : req->shm.each;
}

/* Where rank k's part is that concerns this rank, in a room or slot of k's. */
static void find(struct muster_request *req, size_t n, const struct mu_shm_place *place)
{
    struct mu_shm_comm *sc = mu_shm_of(req);
    size_t shift = row_of(req)->blocks ? (size_t)sc->me * n : 0;

    for (int k = 0; k < sc->p; k++)
        sc->src[k] = (req->shm.size == MU_SHM_INLINE ? mu_shm_room(req, k) : mu_shm_in(sc->ch[k], place)) + shift;
}

static bool heard(struct muster_request *req)
{
    if (!row_of(req)->gives_all)
        return is_root(req, req->comm->rank) || mu_shm_heard(req, req->call.root);
    if (!row_of(req)->takes_all && !is_root(req, req->comm->rank))
        return true;
    return mu_shm_heard_all(req);
}

/* One chunk at most, which is there when its post is. */
static bool step_small(struct muster_request *req)
{
    struct mu_shm_comm *sc = mu_shm_of(req);
    struct mu_shm_op *op = &req->shm;
    size_t n = block(req), bytes = row_of(req)->blocks ? n * (size_t)sc->p : n;
    struct mu_shm_place place;
    bool one = op->size == MU_SHM_ONE;
    char room[MU_POST_ROOM];

    mu_shm_place(&place, bytes, op->s);
    if (op->phase == POST) {
        if (!mu_shm_may_post(req) || (one && !mu_shm_take_place(sc, req, op->s, &place)))
            return false;
        if (gives(req, sc->me))
            row_of(req)->stage(req, one ? mu_shm_in(sc->ch[sc->me], &place) : room, 0, n);
        mu_shm_post(req, room, one || !gives(req, sc->me) ? 0 : bytes);
        op->phase = HEAR;
    }
    if (!heard(req))
        return false;
    if (takes(req, sc->me)) {
        find(req, n, &place);
        row_of(req)->take(req, 0, n);
    }
    return true;
}

static void stage_next(struct muster_request *req)
{
    struct mu_shm_comm *sc = mu_shm_of(req);
    struct mu_shm_op *op = &req->shm;
    unsigned slot = op->staged % MU_SLOTS;
    size_t o, n = part(req, op->staged, &o);
    uint64_t began = mu_tick();

    sc->slot_user[slot] = op->s;
    row_of(req)->stage(req, sc->ch[sc->me]->slot[slot], o, n);
    note_ticks(req, &op->stored, mu_tick() - began, op->staged);
    op->staged++;
    mu_shm_count(req, MU_IN, op->base + op->staged);
}

/* A slot is free when all that take from it are through with the chunk before. */
static bool may_stage(struct muster_request *req)
{
    struct mu_shm_op *op = &req->shm;

    if (op->staged == op->nchunk)
        return false;
    if (op->staged < MU_SLOTS)
        return mu_shm_slot_free(req, op->staged);
    return mu_shm_all(req, MU_USED, op->base + op->staged - MU_SLOTS + 1);
}

static bool may_take(struct muster_request *req)
{
    struct mu_shm_op *op = &req->shm;
    uint64_t value = op->base + op->used + 1;

    if (op->used == op->nchunk || (gives(req, req->comm->rank) && op->staged <= op->used))
        return false;
    return row_of(req)->gives_all ? mu_shm_all(req, MU_IN, value) : mu_shm_one(req, req->call.root, MU_IN, value);
}

static void take_next(struct muster_request *req)
{
    struct mu_shm_op *op = &req->shm;
    size_t o, n = part(req, op->used, &o);
    uint64_t began = mu_tick();

    find(req, n, &(struct mu_shm_place){.slot = op->used % MU_SLOTS});
    row_of(req)->take(req, o, n);
    note_ticks(req, &op->taken, mu_tick() - began, op->used);
    op->used++;
    mu_shm_count(req, MU_USED, op->base + op->used);
}

static bool chunks(struct muster_request *req)
{
    struct mu_shm_op *op = &req->shm;
    bool give = gives(req, req->comm->rank), take = takes(req, req->comm->rank), moved;

    do {
        moved = false;
        if (give && may_stage(req)) {
            stage_next(req);
            moved = true;
        }
        if (take && may_take(req)) {
            take_next(req);
            moved = true;
        }
    } while (moved);
    if ((give && op->staged != op->nchunk) || (take && op->used != op->nchunk))
        return false;
    if (row_of(req)->gives_all)
        note_cost(req);
    return true;
}

static bool mapped(const struct muster_request *req)
{
    for (int k = 0; k < req->comm->size; k++)
        if (gives(req, k) && k != req->comm->rank && !mu_shm_where(req, k)->send && !mu_shm_where(req, k)->address)
            return false;
    return !gives(req, req->comm->rank) || req->shm.given;
}

bool mu_shm_was_right(struct muster_request *req)
{
    atomic_thread_fence(memory_order_acquire);
    for (int k = 0; k < req->comm->size; k++) {
        if (k == req->comm->rank || !gives(req, k))
            continue;
        if (!mu_shm_heard(req, k))
            return false;
        if (!mu_shm_where(req, k)->send && !mu_shm_is_peer(mu_shm_of(req)->shm, req->comm->world[k])) {
            req->shm.wait = k;
            return false;
        }
    }
    return true;
}

static bool direct(struct muster_request *req)
{
    struct mu_shm_comm *sc = mu_shm_of(req);
    struct mu_shm_op *op = &req->shm;
    size_t n = block(req) - op->at < PIECE ? block(req) - op->at : PIECE;

    for (int k = 0; k < sc->p; k++) {
        if (k == sc->me || !gives(req, k))
            continue;
        sc->src[k] = NULL;
        if (mu_shm_where(req, k)->send &&
            !(sc->src[k] = mu_shm_peer_at(req, k, mu_shm_where(req, k)->send, own_shift(req) + op->at, n)))
            return false;
    }
    op->stuck = false;
    row_of(req)->take(req, op->at, n);
    if (op->stuck)
        return false;
    op->at += n;
    op->moves++;
    return op->at == block(req);
}

/* The others read this rank's buffer: is it such that they can, and not changed meanwhile? */
static struct mu_where offer(const struct muster_request *req)
{
    const void *buf = row_of(req)->stage == stage_recv ? req->call.recv : req->call.send;
    struct mu_where where = {0};
    const struct mu_shm *shm = mu_shm_of(req)->shm;
    /* One puts while the other one takes: twice as fast as slots are where all do both, and those win at some size. */
    bool lone = !row_of(req)->gives_all && req->comm->size == 2;

    if (req->call.kind == MU_OP_KIND_ALLTOALL && req->call.send == req->call.recv)
        return where;
    where.send =
        mu_seg_offset(buf, block(req) + (row_of(req)->blocks ? (size_t)(req->comm->size - 1) * mu_stride(req) : 0));
    if (!where.send && shm->reads && block(req) >= shm->read_from && !mu_kinds[req->call.kind].has_op &&
        !(lone && shm->read_from > MU_TUNED_READ_MIN))
        where.address = (uint64_t)(uintptr_t)buf;
    return where;
}

static bool step_large(struct muster_request *req)
{
    struct mu_shm_op *op = &req->shm;
    struct mu_where where = {0};

    if (op->phase == POST) {
        if (!mu_shm_may_post(req))
            return false;
        if (gives(req, req->comm->rank)) {
            where = offer(req);
            where.past = op->past;
            op->given = where.send || where.address;
            if (!op->given && mu_shm_slot_free(req, 0))
                stage_next(req);
        }
        mu_shm_post(req, &where, sizeof where);
        op->phase = HEAR;
    }
    if (op->phase == HEAR) {
        if (!heard(req))
            return false;
        op->phase = mapped(req) ? DIRECT : CHUNKS;
        if (op->phase == DIRECT && row_of(req)->gives_all)
            mu_shm_store_none(store_of(req));
    }
    if (op->phase == CHUNKS)
        return chunks(req);
    if (op->phase == DIRECT) {
        if (takes(req, req->comm->rank) && !direct(req))
            return false;
        op->phase = CHECK;
    }
    if (op->phase == CHECK) {
        if (MU_CHECKS && takes(req, req->comm->rank) && !mu_shm_was_right(req))
            return false;
        mu_shm_count(req, MU_OVER, op->s);
        op->phase = PART;
    }
    return !gives(req, req->comm->rank) || mu_shm_all(req, MU_OVER, op->s);
}

void mu_shm_posted(struct muster_request *req)
{
    req->shm.phase = HEAR;
}

static bool step(struct muster_request *req)
{
    return req->shm.size == MU_SHM_LARGE ? step_large(req) : step_small(req);
}

const struct mu_shm_algo mu_shm_staged = {"staged", begin, step};
