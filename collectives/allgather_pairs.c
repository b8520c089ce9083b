/* Short blocks, a power of two of members: in round k the ranks whose numbers differ in bit k exchange all blocks that
 * either has by then (recursive doubling; Thakur et al., 2005, see allreduce_pairs.c). */
#include <string.h>

#include "collectives/algorithms.h"

static void shape(const struct muster_comm *comm, const struct mu_call *call, unsigned *nout, unsigned *nin)
{
    (void)call;
    *nout = *nin = mu_coll_rounds(comm);
}

static char *block(const struct muster_request *req, unsigned r)
{
    return (char *)req->acc + r * req->call.count * req->elem;
}

void mu_coll_gather_in_pairs(struct muster_request *req, char *blocks, size_t bytes)
{
    unsigned me = (unsigned)req->comm->rank;

    for (unsigned k = 0; k < req->nin; k++) {
        unsigned d = 1u << k, peer = me ^ d;

        mu_out_set(req, k, (int)peer, k, blocks + (me & ~(d - 1)) * bytes, d * bytes, k == 0);
        mu_in_set(req, k, (int)peer, k, blocks + (peer & ~(d - 1)) * bytes, d * bytes);
    }
}

static int begin(struct muster_request *req, struct mu_err *err)
{
    unsigned me = (unsigned)req->comm->rank, p = (unsigned)req->comm->size;
    size_t bytes = req->call.count * req->elem;

    req->acc = mu_coll_room(p * bytes + 64);
    if (!req->acc)
        return mu_err_set(err, MUSTER_ENOMEM, "no memory for the blocks");
    if (bytes)
        memcpy(block(req, me), req->call.send, bytes);
    mu_coll_gather_in_pairs(req, req->acc, bytes);
    return 0;
}

static bool step(struct muster_request *req)
{
    size_t bytes = req->call.count * req->elem, stride = mu_stride(req);

    for (; req->fold_rank < req->nin; req->fold_rank++) {
        if (!mu_in_ended(&req->in[req->fold_rank]))
            return false;
        if (req->fold_rank + 1 < req->nout)
            mu_out_let_go(&req->out[req->fold_rank + 1]);
    }
    for (unsigned r = 0; bytes && !req->fold_frame && r < (unsigned)req->comm->size; r++)
        if (mu_at(req->call.recv, r * stride) != req->call.send)
            memcpy(mu_at(req->call.recv, r * stride), block(req, r), bytes);
    req->fold_frame = 1;
    return true;
}

const struct mu_algo mu_allgather_pairs = {"pairs", shape, begin, step};
