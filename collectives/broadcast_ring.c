/* From member to member, frame by frame: each link carries every byte once, the root's, too. In a ring half of the
 * vector goes one way and half of it the other; in a chain all of it goes one way, in half as many messages. */
#include "collectives/algorithms.h"

struct way {      /* of a half */
    int from, to; /* ranks; -1: none */
    size_t at, bytes;
};

/* lane 0: upwards from the root, lane 1: downwards. */
static struct way way(const struct muster_comm *comm, const struct mu_call *call, size_t elem, unsigned lane,
                      unsigned lanes)
{
    int p = comm->size, root = call->root, v = (comm->rank - root + p) % p;
    size_t first = lanes == 1 ? call->count : (call->count + 1) / 2;
    int prev = lane ? (v + 1) % p : v - 1, next = lane ? (v + p - 1) % p : v + 1;
    bool last = lane ? v == 1 : v == p - 1;

    return (struct way){.from = v ? (prev + root) % p : -1,
                        .to = last ? -1 : (next + root) % p,
                        .at = lane ? first * elem : 0,
                        .bytes = (lane ? call->count - first : first) * elem};
}

static void shape(const struct muster_comm *comm, const struct mu_call *call, unsigned lanes, unsigned *nout,
                  unsigned *nin)
{
    *nout = *nin = 0;
    for (unsigned lane = 0; lane < lanes; lane++) {
        struct way w = way(comm, call, 1, lane, lanes);

        *nin += w.from >= 0;
        *nout += w.to >= 0;
    }
}

static int begin(struct muster_request *req, unsigned lanes)
{
    const struct mu_call *call = &req->call;
    unsigned nin = 0, nout = 0;

    for (unsigned lane = 0; lane < lanes; lane++) {
        struct way w = way(req->comm, call, req->elem, lane, lanes);

        if (w.from >= 0)
            mu_in_set(req, nin++, w.from, lane, mu_at(call->recv, w.at), w.bytes);
        if (w.to >= 0)
            mu_out_set(req, nout++, w.to, lane, mu_at(call->recv, w.at), w.bytes, w.from < 0);
    }
    return 0;
}

static bool step(struct muster_request *req)
{
    bool ended = true;

    for (unsigned i = 0; i < req->nin; i++) {
        const struct mu_in *in = &req->in[i];

        ended = ended && mu_in_ended(in);
        for (unsigned k = 0; k < req->nout; k++) {
            struct mu_out *o = &req->out[k];

            if (o->lane != in->lane)
                continue;
            o->open = in->used > 0;
            o->ready = mu_in_ended(in) ? in->total : in->used * MU_CHUNK;
        }
    }
    return ended;
}

static void ring_shape(const struct muster_comm *comm, const struct mu_call *call, unsigned *nout, unsigned *nin)
{
    shape(comm, call, 2, nout, nin);
}

static int ring_begin(struct muster_request *req, struct mu_err *err)
{
    (void)err;
    return begin(req, 2);
}

static void chain_shape(const struct muster_comm *comm, const struct mu_call *call, unsigned *nout, unsigned *nin)
{
    shape(comm, call, 1, nout, nin);
}

static int chain_begin(struct muster_request *req, struct mu_err *err)
{
    (void)err;
    return begin(req, 1);
}

const struct mu_algo mu_broadcast_ring = {"ring", ring_shape, ring_begin, step};
const struct mu_algo mu_broadcast_chain = {"chain", chain_shape, chain_begin, step};
