/* Everybody sends to the root, which reduces. */
#include "collectives/algorithms.h"

static void shape(const struct muster_comm *comm, const struct mu_call *call, unsigned *nout, unsigned *nin)
{
    bool root = comm->rank == call->root;

    *nout = root ? 0 : 1;
    *nin = root ? (unsigned)comm->size - 1 : 0;
}

static int begin(struct muster_request *req, struct mu_err *err)
{
    size_t bytes = req->call.count * req->elem;

    if (req->nout)
        mu_out_set(req, 0, req->call.root, 0, req->call.send, bytes, true);
    for (unsigned i = 0; i < req->nin; i++)
        mu_in_keep(req, i, mu_coll_peer(req->comm, i), 0, bytes);
    return req->nout ? 0 : mu_fold_begin(req, bytes, err);
}

static bool step(struct muster_request *req)
{
    if (req->nout)
        return true;
    return mu_fold_step(req, req->call.send, req->call.recv, req->call.count * req->elem, NULL, 0);
}

const struct mu_algo mu_reduce_root = {"root", shape, begin, step};
