/* A binomial tree from the root; every frame goes on as soon as it has come. */
#include "collectives/algorithms.h"

/* Rank relative to the root, and the distance to the parent: its lowest set bit. */
static unsigned place(const struct muster_comm *comm, int root, unsigned *bit)
{
    unsigned p = (unsigned)comm->size, v = ((unsigned)comm->rank + p - (unsigned)root) % p;

    for (*bit = 1; *bit < p && !(v & *bit);)
        *bit <<= 1;
    return v;
}

static void shape(const struct muster_comm *comm, const struct mu_call *call, unsigned *nout, unsigned *nin)
{
    unsigned bit, v = place(comm, call->root, &bit);

    *nin = v != 0;
    *nout = 0;
    for (bit >>= 1; bit; bit >>= 1)
        *nout += v + bit < (unsigned)comm->size;
}

static int begin(struct muster_request *req, struct mu_err *err)
{
    const struct muster_comm *comm = req->comm;
    size_t bytes = req->call.count * req->elem;
    unsigned p = (unsigned)comm->size, root = (unsigned)req->call.root, bit, v = place(comm, req->call.root, &bit);

    (void)err;
    if (v)
        mu_in_set(req, 0, (int)((v - bit + root) % p), 0, req->call.recv, bytes);
    for (unsigned n = 0; bit >>= 1;)
        if (v + bit < p)
            mu_out_set(req, n++, (int)((v + bit + root) % p), 0, req->call.recv, bytes, !v);
    return 0;
}

static bool step(struct muster_request *req)
{
    if (!req->nin)
        return true;
    for (unsigned i = 0; i < req->nout; i++) {
        req->out[i].open = req->in[0].used > 0;
        req->out[i].ready = mu_in_ended(&req->in[0]) ? req->in[0].total : req->in[0].used * MU_CHUNK;
    }
    return mu_in_ended(&req->in[0]);
}

const struct mu_algo mu_broadcast_binomial = {"binomial", shape, begin, step};
