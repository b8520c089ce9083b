/* Every pair of ranks swaps its blocks, frame by frame. */
#include <string.h>

#include "collectives/algorithms.h"

static void shape(const struct muster_comm *comm, const struct mu_call *call, unsigned *nout, unsigned *nin)
{
    (void)call;
    *nout = *nin = (unsigned)comm->size - 1;
}

static int begin(struct muster_request *req, struct mu_err *err)
{
    size_t bytes = req->call.count * req->elem, own = (size_t)req->comm->rank * bytes;
    bool in_place = req->call.send == req->call.recv;

    (void)err;
    for (unsigned i = 0; i < req->nin; i++) {
        int peer = mu_coll_peer(req->comm, i);

        mu_out_set(req, i, peer, 0, mu_at(req->call.send, (size_t)peer * bytes), bytes, true);
        mu_in_set(req, i, peer, 0, mu_at(req->call.recv, (size_t)peer * bytes), bytes);
        if (in_place)
            req->in[i].gate = &req->out[i];
    }
    if (bytes && !in_place)
        memcpy(mu_at(req->call.recv, own), mu_at(req->call.send, own), bytes);
    return 0;
}

static bool step(struct muster_request *req)
{
    (void)req;
    return true;
}

const struct mu_algo mu_alltoall_pairwise = {"pairwise", shape, begin, step};
