/* Short vectors, in the logarithm of the ranks: everybody gathers all of them and reduces them in the order of ranks,
 * as the other ways do. A power of two of ranks exchange in pairs, so that what one sends carries the acknowledgement
 * of what came: round k with the rank whose number differs in bit k, all vectors that either has by then (recursive
 * doubling; Thakur et al., "Optimization of collective communication operations in MPICH", 2005). Others go round
 * (Bruck et al., "Efficient algorithms for all-to-all communications in multiport message-passing systems", 1997):
 * block j is that of the rank j above; round k takes those from the rank 2^k above that it has by then. */
#include <string.h>

#include "collectives/algorithms.h"

static void shape(const struct muster_comm *comm, const struct mu_call *call, unsigned *nout, unsigned *nin)
{
    (void)call;
    *nout = *nin = mu_coll_rounds(comm);
}

static char *blocks(const struct muster_request *req) /* behind the accumulators */
{
    return (char *)req->acc + mu_fold_room(req, req->call.count);
}

static char *block_of(const struct muster_request *req, unsigned r)
{
    unsigned p = (unsigned)req->comm->size, me = (unsigned)req->comm->rank;

    return blocks(req) + (mu_coll_is_paired(req->comm) ? r : (r + p - me) % p) * (req->call.count * req->elem);
}

static int begin(struct muster_request *req, struct mu_err *err)
{
    unsigned p = (unsigned)req->comm->size, me = (unsigned)req->comm->rank;
    size_t bytes = req->call.count * req->elem;

    mu_fold_reducer(req);
    req->acc = mu_coll_room(mu_fold_room(req, req->call.count) + p * bytes + 64);
    if (!req->acc)
        return mu_err_set(err, MUSTER_ENOMEM, "no memory for the vectors of all ranks");
    if (bytes)
        memcpy(block_of(req, me), req->call.send, bytes);
    if (mu_coll_is_paired(req->comm)) {
        mu_coll_gather_in_pairs(req, blocks(req), bytes);
        return 0;
    }
    for (unsigned k = 0; k < req->nin; k++) {
        unsigned d = 1u << k, n = p - d < d ? p - d : d;

        mu_out_set(req, k, (int)((me + p - d) % p), k, blocks(req), n * bytes, k == 0);
        mu_in_set(req, k, (int)((me + d) % p), k, blocks(req) + d * bytes, n * bytes);
    }
    return 0;
}

static bool step(struct muster_request *req)
{
    unsigned p = (unsigned)req->comm->size;
    size_t n = req->call.count;

    for (unsigned k = 0; k < req->nin; k++) {
        if (!mu_in_ended(&req->in[k]))
            return false;
        if (k + 1 < req->nout && !req->out[k + 1].open)
            mu_out_let_go(&req->out[k + 1]);
    }
    if (n && !req->fold_frame) {
        for (unsigned r = 0; r < p; r++)
            mu_fold(req, n, r, block_of(req, r), n);
        mu_fold_store(req, req->call.recv, req->acc, n);
    }
    req->fold_frame = 1;
    return true;
}

const struct mu_algo mu_allreduce_doubling = {"doubling", shape, begin, step};
