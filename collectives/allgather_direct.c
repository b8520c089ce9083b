/* Everybody sends its block to everybody. */
#include <string.h>

#include "collectives/algorithms.h"

static void shape(const struct muster_comm *comm, const struct mu_call *call, unsigned *nout, unsigned *nin)
{
    (void)call;
    *nout = *nin = (unsigned)comm->size - 1;
}

static int begin(struct muster_request *req, struct mu_err *err)
{
    size_t bytes = req->call.count * req->elem, stride = mu_stride(req);
    void *own = mu_at(req->call.recv, (size_t)req->comm->rank * stride);

    (void)err;
    for (unsigned i = 0; i < req->nin; i++) {
        int peer = mu_coll_peer(req->comm, i);

        mu_out_set(req, i, peer, 0, req->call.send, bytes, true);
        mu_in_set(req, i, peer, 0, mu_at(req->call.recv, (size_t)peer * stride), bytes);
    }
    if (bytes && own != req->call.send)
        memcpy(own, req->call.send, bytes);
    return 0;
}

static bool step(struct muster_request *req)
{
    (void)req;
    return true;
}

const struct mu_algo mu_allgather_direct = {"direct", shape, begin, step};
