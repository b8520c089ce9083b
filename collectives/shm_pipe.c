/* All-reduce and reduce of large vectors. Chunk by chunk: everybody puts what the others will reduce into its slot,
 * reduces its own slice of the chunk, and writes the result back into the slots that it came from, so that a slot's
 * lines were last written, not read, by others when they are used again; then everybody copies the chunk out.
 * When all buffers lie in memory that peers map, slices of the whole vector are reduced where they are. */
#include "collectives/algorithms.h"
#include "collectives/ops.h"

#define DEPTH 2u
#define PIECE ((size_t)1 << 20) /* bytes between two looks at what else there is to do */

enum { POST, HEAR, CHUNKS, DIRECT, CHAIN, OVER, PART };

static bool has_result(const struct muster_request *req, int k)
{
    return req->call.kind == MU_OP_KIND_ALLREDUCE || req->call.root == k;
}

static size_t slice(const struct muster_request *req, int k, size_t len, size_t *offset)
{
    return mu_shm_slice((size_t)req->comm->size, (size_t)k, len, offset);
}

static size_t chunk_at(const struct muster_request *req, uint32_t c, size_t *len)
{
    size_t bytes = req->call.count * req->elem, at = c * MU_SLOT_BYTES;

    *len = bytes - at < MU_SLOT_BYTES ? bytes - at : MU_SLOT_BYTES;
    return at;
}

static char *slot_of(const struct muster_request *req, int k, uint32_t c)
{
    return mu_shm_of(req)->ch[k]->slot[c % DEPTH];
}

static void begin(struct muster_request *req)
{
    size_t bytes = req->call.count * req->elem;

    mu_ops_reducer_to(&req->red, req->call.dtype, req->call.op);
    req->shm.nchunk = (uint32_t)((bytes + MU_SLOT_BYTES - 1) / MU_SLOT_BYTES);
    req->shm.away = req->call.send != req->call.recv && 2 * bytes * (size_t)req->comm->size > mu_shm_of(req)->shm->llc;
}

static void stage(struct muster_request *req, uint32_t c)
{
    size_t len, own, own_at, at = chunk_at(req, c, &len), end;
    const char *send = mu_at(req->call.send, at);
    char *slot = slot_of(req, req->comm->rank, c);

    own = slice(req, req->comm->rank, len, &own_at);
    end = own_at + own;
    mu_ops_copy(slot, send, own_at, false);
    mu_ops_copy(slot + end, send + end, len - end, false);
    req->shm.staged = c + 1;
    mu_shm_count(req, MU_IN, req->shm.base + c + 1);
}

static void reduce(struct muster_request *req, uint32_t c)
{
    struct mu_shm_comm *sc = mu_shm_of(req);
    size_t len, own_at, at = chunk_at(req, c, &len), own = slice(req, sc->me, len, &own_at);
    unsigned n = 0;

    for (int k = 0; k < sc->p; k++)
        sc->src[k] = k == sc->me ? (char *)mu_at(req->call.send, at + own_at) : slot_of(req, k, c) + own_at;
    if (has_result(req, sc->me))
        sc->dst[n++] = mu_at(req->call.recv, at + own_at);
    for (int k = 0; k < sc->p; k++)
        if (k != sc->me && has_result(req, k))
            sc->dst[n++] = slot_of(req, k, c) + own_at;
    if (own)
        mu_ops_reduce(&req->red, sc->dst, n, sc->src, (unsigned)sc->p, own / req->elem, false);
    mu_shm_count(req, MU_USED, req->shm.base + c + 1);
}

static void copy_out(struct muster_request *req, uint32_t c)
{
    struct mu_shm_comm *sc = mu_shm_of(req);
    size_t len, own_at, at = chunk_at(req, c, &len), own = slice(req, sc->me, len, &own_at), end = own_at + own;
    char *recv = mu_at(req->call.recv, at);
    const char *slot = slot_of(req, sc->me, c);

    if (!has_result(req, sc->me))
        return;
    mu_ops_copy(recv, slot, own_at, req->shm.away);
    mu_ops_copy(recv + end, slot + end, len - end, req->shm.away);
}

/* A slot is free again when its chunk was copied out: by then everybody has written back into it. */
static bool chunks(struct muster_request *req)
{
    struct mu_shm_op *op = &req->shm;

    for (;; op->turn++) {
        uint32_t c = op->turn;

        if (c < op->nchunk) {
            if (op->staged <= c) {
                if (!mu_shm_slot_free(req, c % DEPTH))
                    return false;
                stage(req, c);
            }
            if (op->used <= c) {
                if (!mu_shm_all(req, MU_IN, op->base + c + 1))
                    return false;
                reduce(req, c);
                op->used = c + 1;
            }
        }
        if (c == 0)
            continue;
        if (!mu_shm_all(req, MU_USED, op->base + c))
            return false;
        copy_out(req, c - 1);
        if (c == op->nchunk)
            return true;
    }
}

static bool mapped(const struct muster_request *req)
{
    for (int k = 0; k < req->comm->size; k++) {
        const struct mu_where *w = mu_shm_where(req, k);

        if (!w->send || (has_result(req, k) && !w->recv))
            return false;
    }
    return true;
}

static void direct(struct muster_request *req, size_t own_at, size_t n)
{
    struct mu_shm_comm *sc = mu_shm_of(req);
    size_t at = own_at + req->shm.at;
    unsigned d = 0;

    if (has_result(req, sc->me))
        sc->dst[d++] = mu_at(req->call.recv, at);
    for (int k = 0; k < sc->p; k++) {
        const struct mu_where *w = mu_shm_where(req, k);

        if (k == sc->me) {
            sc->src[k] = mu_at(req->call.send, at);
            continue;
        }
        sc->src[k] = mu_shm_peer_at(req, k, w->send, at, n);
        if (!sc->src[k])
            return;
        if (has_result(req, k) && !(sc->dst[d++] = mu_shm_peer_at(req, k, w->recv, at, n)))
            return;
    }
    mu_ops_reduce(&req->red, sc->dst, d, sc->src, (unsigned)sc->p, n / req->elem, req->shm.away);
    req->shm.moves++;
}

static bool step(struct muster_request *req)
{
    struct mu_shm_op *op = &req->shm;
    size_t bytes = req->call.count * req->elem, own, own_at;
    struct mu_where where;

    switch (op->phase) {
    case POST:
        if (!mu_shm_may_post(req))
            return false;
        where.send = mu_seg_offset(req->call.send, bytes);
        where.recv = has_result(req, req->comm->rank) ? mu_seg_offset(req->call.recv, bytes) : 0;
        if (!where.send || (has_result(req, req->comm->rank) && !where.recv)) {
            where.send = where.recv = 0;
            if (mu_shm_slot_free(req, 0)) /* then nobody's will be used where they are */
                stage(req, 0);
        }
        mu_shm_post(req, &where, sizeof where);
        op->phase = HEAR;
        /* fall through */
    case HEAR:
        if (!mu_shm_heard_all(req))
            return false;
        op->phase = !mapped(req) ? CHUNKS : mu_shm_chains(req) ? CHAIN : DIRECT;
        break;
    default:
        break;
    }
    if (op->phase == CHUNKS)
        return chunks(req);
    if (op->phase == DIRECT) {
        own = slice(req, req->comm->rank, bytes, &own_at);
        if (op->at < own) {
            direct(req, own_at, own - op->at < PIECE ? own - op->at : PIECE);
            op->at += own - op->at < PIECE ? own - op->at : PIECE;
            if (op->at < own)
                return false;
        }
        op->phase = OVER;
    }
    if (op->phase == CHAIN) {
        if (!mu_shm_chain(req))
            return false;
        op->phase = OVER;
    }
    if (op->phase == OVER) {
        if (MU_CHECKS && !mu_shm_was_right(req))
            return false;
        mu_shm_count(req, MU_OVER, op->s);
        op->phase = PART;
    }
    return mu_shm_all(req, MU_OVER, op->s);
}

const struct mu_shm_algo mu_shm_pipe = {"pipe", begin, step};
