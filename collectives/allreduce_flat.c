/* Everybody sends its whole vector to everybody and reduces: one round, for short vectors. */
#include "collectives/algorithms.h"

static void shape(const struct muster_comm *comm, const struct mu_call *call, unsigned *nout, unsigned *nin)
{
    (void)call;
    *nout = *nin = (unsigned)comm->size - 1;
}

static int begin(struct muster_request *req, struct mu_err *err)
{
    size_t bytes = req->call.count * req->elem;

    for (unsigned i = 0; i < req->nin; i++) {
        int peer = mu_coll_peer(req->comm, i);

        mu_out_set(req, i, peer, 0, req->call.send, bytes, true);
        mu_in_keep(req, i, peer, 0, bytes);
    }
    return mu_fold_begin(req, bytes, err);
}

static bool step(struct muster_request *req)
{
    /* In place the result may not reach memory that is still to be sent. */
    return mu_fold_step(req, req->call.send, req->call.recv, req->call.count * req->elem, req->out, req->nout);
}

const struct mu_algo mu_allreduce_flat = {"flat", shape, begin, step};
