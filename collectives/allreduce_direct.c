/* Reduce-scatter and all-gather at once: rank r receives slice r of all inputs (lane 0), reduces it frame by frame, and
 * sends each finished frame to everybody (lane 1). */
#include "collectives/algorithms.h"

/* Slices start on cache lines, relative to the vector; the last ones may be short or empty. */
static size_t slice(const struct muster_request *req, int r, size_t *offset)
{
    size_t bytes = req->call.count * req->elem, p = (size_t)req->comm->size;
    size_t each = (bytes / p + (bytes % p != 0) + 63) / 64 * 64;

    if (!each)
        each = 64;
    *offset = (size_t)r < bytes / each + (bytes % each != 0) ? (size_t)r * each : bytes;
    return bytes - *offset < each ? bytes - *offset : each;
}

static void shape(const struct muster_comm *comm, const struct mu_call *call, unsigned *nout, unsigned *nin)
{
    (void)call;
    *nout = *nin = 2 * ((unsigned)comm->size - 1);
}

static int begin(struct muster_request *req, struct mu_err *err)
{
    unsigned n = (unsigned)req->comm->size - 1;
    size_t at, own_at, own = slice(req, req->comm->rank, &own_at);

    for (unsigned i = 0; i < n; i++) {
        int peer = mu_coll_peer(req->comm, i);
        size_t theirs = slice(req, peer, &at);

        mu_out_set(req, i, peer, 0, mu_at(req->call.send, at), theirs, true);
        mu_in_keep(req, i, peer, 0, own);
        mu_out_set(req, n + i, peer, 1, mu_at(req->call.recv, own_at), own, false);
        mu_in_set(req, n + i, peer, 1, mu_at(req->call.recv, at), theirs);
    }
    return mu_fold_begin(req, own, err);
}

/* In place is safe without gates: a finished frame of slice s comes back only after s's owner has received that frame
 * from this rank, and nobody sends its own slice. */
static bool step(struct muster_request *req)
{
    unsigned n = (unsigned)req->comm->size - 1;
    size_t at, own = slice(req, req->comm->rank, &at);
    bool done = mu_fold_step(req, mu_at(req->call.send, at), mu_at(req->call.recv, at), own, NULL, 0);

    for (unsigned i = n; i < 2 * n; i++) {
        req->out[i].ready = done ? own : req->fold_frame * MU_CHUNK;
        req->out[i].open = done || req->fold_frame;
    }
    return done;
}

const struct mu_algo mu_allreduce_direct = {"direct", shape, begin, step};
