/* Everybody sends slice r to rank r, which reduces it. */
#include "collectives/algorithms.h"

static void shape(const struct muster_comm *comm, const struct mu_call *call, unsigned *nout, unsigned *nin)
{
    (void)call;
    *nout = *nin = (unsigned)comm->size - 1;
}

static int begin(struct muster_request *req, struct mu_err *err)
{
    size_t bytes = req->call.count * req->elem, stride = mu_stride(req);

    for (unsigned i = 0; i < req->nin; i++) {
        int peer = mu_coll_peer(req->comm, i);

        mu_out_set(req, i, peer, 0, mu_at(req->call.send, (size_t)peer * stride), bytes, true);
        mu_in_keep(req, i, peer, 0, bytes);
    }
    return mu_fold_begin(req, bytes, err);
}

static bool step(struct muster_request *req)
{
    size_t bytes = req->call.count * req->elem;

    return mu_fold_step(req, mu_at(req->call.send, (size_t)req->comm->rank * mu_stride(req)), req->call.recv, bytes,
                        NULL, 0);
}

const struct mu_algo mu_reduce_scatter_direct = {"direct", shape, begin, step};
