/* Round k: a sign to the rank 2^k above, one from the rank 2^k below. */
#include "collectives/algorithms.h"

static void shape(const struct muster_comm *comm, const struct mu_call *call, unsigned *nout, unsigned *nin)
{
    (void)call;
    *nout = *nin = mu_coll_rounds(comm);
}

static int begin(struct muster_request *req, struct mu_err *err)
{
    unsigned p = (unsigned)req->comm->size, me = (unsigned)req->comm->rank;

    (void)err;
    for (unsigned k = 0; k < req->nin; k++) {
        mu_out_set(req, k, (int)((me + (1u << k)) % p), k, NULL, 0, k == 0);
        mu_in_keep(req, k, (int)((me + p - (1u << k)) % p), k, 0);
    }
    return 0;
}

static bool step(struct muster_request *req)
{
    for (unsigned k = 0; k < req->nin; k++) {
        if (!req->out[k].open || !req->in[k].got)
            return false;
        if (req->in[k].queue.first)
            mu_in_pop(req, &req->in[k]);
        if (k + 1 < req->nout)
            req->out[k + 1].open = true;
    }
    return true;
}

const struct mu_algo mu_barrier_dissemination = {"dissemination", shape, begin, step};
