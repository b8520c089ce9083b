/* All-reduce of large vectors that peers map, by ranks that lie in several domains (domain.h): what is between domains
 * is slower than what is inside. So each rank reduces, piece by piece, a slice of its own domain's vectors on top of
 * what the rank of its lane in the domain before has left, which is the order of the ranks and gives the bits that any
 * other way gives. The last domain has the results, which the others fetch once each: every link between two domains
 * carries a vector each way instead of one for each rank. */
#include "collectives/algorithms.h"
#include "collectives/ops.h"

#define PART ((size_t)32 << 10) /* bytes of a rank's slice of a piece, where there are many */
#define BLOCK ((size_t)4096)
#define AT_ONCE 8u /* pieces between two looks at what else there is to do */

struct place { /* of a rank's slice of a piece */
    size_t at, n;
};

static int lanes(const struct muster_request *req)
{
    return mu_shm_of(req)->lanes;
}

static int domain(const struct muster_request *req)
{
    return req->comm->rank / lanes(req);
}

static bool is_last(const struct muster_request *req)
{
    return domain(req) == req->comm->size / lanes(req) - 1;
}

/* Who has the results of this rank's slices first. */
static int last_of_lane(const struct muster_request *req)
{
    return req->comm->size - lanes(req) + req->comm->rank % lanes(req);
}

static size_t piece(const struct muster_request *req)
{
    size_t many = (size_t)lanes(req) * PART;

    return many < MU_SLOT_BYTES ? MU_SLOT_BYTES : many;
}

static struct place slice(const struct muster_request *req, uint32_t c)
{
    size_t bytes = req->call.count * req->elem, g = (size_t)lanes(req), at = c * piece(req), skip;
    size_t len = bytes - at < piece(req) ? bytes - at : piece(req);
    size_t n = mu_shm_slice(g, (size_t)req->comm->rank % g, len, &skip);

    return (struct place){at + skip, n};
}

/* What a rank shows: its vector, or where its results go. */
static char *at(struct muster_request *req, int k, bool result, struct place s)
{
    const struct mu_where *w = mu_shm_where(req, k);

    if (k == req->comm->rank)
        return mu_at(result ? req->call.recv : req->call.send, s.at);
    return mu_shm_peer_at(req, k, result ? w->recv : w->send, s.at, s.n);
}

/* dst[0], ...: the results of this domain, its own first. */
static bool results(struct muster_request *req, struct place s)
{
    struct mu_shm_comm *sc = mu_shm_of(req);
    int g = sc->lanes, first = domain(req) * g;

    for (int i = 0; i < g; i++)
        if (!(sc->dst[i] = at(req, first + (sc->me - first + i) % g, true, s)))
            return false;
    return true;
}

static bool may_fold(struct muster_request *req)
{
    struct mu_shm_op *op = &req->shm;
    uint32_t c = op->staged;

    if (domain(req) > 0 && !mu_shm_one(req, req->comm->rank - lanes(req), MU_IN, op->base + c + 1))
        return false;
    if (is_last(req))
        return true;
    return c < MU_SLOTS ? mu_shm_slot_free(req, c)
                        : mu_shm_one(req, req->comm->rank + lanes(req), MU_USED, op->base + c - MU_SLOTS + 1);
}

static bool fold(struct muster_request *req)
{
    struct mu_shm_comm *sc = mu_shm_of(req);
    struct mu_shm_op *op = &req->shm;
    unsigned slot = op->staged % MU_SLOTS;
    struct place s = slice(req, op->staged);
    int g = sc->lanes, first = domain(req) * g;
    const void *before = domain(req) > 0 ? sc->ch[sc->me - g]->slot[slot] : NULL;

    for (int i = 0; i < g && s.n; i++)
        if (!(sc->src[i] = at(req, first + i, false, s)))
            return false;
    if (is_last(req)) {
        if (s.n && !results(req, s))
            return false;
        if (s.n)
            mu_ops_reduce_last(&req->red, sc->dst, (unsigned)g, before, sc->src, (unsigned)g, s.n / req->elem,
                               op->away);
    } else {
        sc->slot_user[slot] = op->s;
        if (s.n)
            mu_ops_reduce_part(&req->red, sc->ch[sc->me]->slot[slot], before, sc->src, (unsigned)g, s.n / req->elem);
    }
    op->staged++;
    mu_shm_count(req, MU_USED, op->base + op->staged);
    mu_shm_count(req, MU_IN, op->base + op->staged);
    return true;
}

static bool may_fetch(struct muster_request *req)
{
    struct mu_shm_op *op = &req->shm;

    return !is_last(req) && op->used < op->staged && mu_shm_one(req, last_of_lane(req), MU_IN, op->base + op->used + 1);
}

static bool fetch(struct muster_request *req)
{
    struct mu_shm_comm *sc = mu_shm_of(req);
    struct mu_shm_op *op = &req->shm;
    struct place s = slice(req, op->used);
    const char *from = s.n ? at(req, last_of_lane(req), true, s) : NULL;

    if (s.n && (!from || !results(req, s)))
        return false;
    for (size_t o = 0; o < s.n; o += BLOCK)
        for (int i = 0; i < sc->lanes; i++)
            mu_ops_copy(mu_at(sc->dst[i], o), from + o, s.n - o < BLOCK ? s.n - o : BLOCK, op->away);
    op->used++;
    op->moves++;
    return true;
}

/* What is left of a slice has to fit into a slot. */
bool mu_shm_chains(const struct muster_request *req)
{
    const struct mu_shm_comm *sc = mu_shm_of(req);

    return req->call.kind == MU_OP_KIND_ALLREDUCE && sc->lanes && sc->shm->chain_from &&
           req->call.count * req->elem >= sc->shm->chain_from &&
           (piece(req) / (size_t)sc->lanes + 63) / 64 * 64 / req->elem * req->red.acc_size <= MU_SLOT_BYTES;
}

bool mu_shm_chain(struct muster_request *req)
{
    struct mu_shm_op *op = &req->shm;
    size_t bytes = req->call.count * req->elem;
    uint32_t n = (uint32_t)((bytes + piece(req) - 1) / piece(req));
    uint32_t most = op->staged + AT_ONCE;
    bool moved = true;

    if (!req->red.ranks)
        req->red.ranks = (unsigned)req->comm->size;
    while (moved && op->staged < most) {
        moved = false;
        if (op->staged < n && may_fold(req) && !(moved = fold(req)))
            return false;
        if (may_fetch(req) && !(moved = fetch(req)))
            return false;
    }
    return op->staged == n && (is_last(req) || op->used == n);
}
