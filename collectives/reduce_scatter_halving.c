/* Short blocks, a power of two of members, one a node: in round k the ranks whose numbers differ in bit k exchange the
 * blocks of those that have the other's bit, and reduce what they keep (see allreduce_halving.c). */
#include <string.h>

#include "collectives/algorithms.h"

static void shape(const struct muster_comm *comm, const struct mu_call *call, unsigned *nout, unsigned *nin)
{
    (void)call;
    *nout = *nin = mu_coll_rounds(comm);
}

/* Blocks that a rank keeps, and gives away, in that round. */
static unsigned kept(const struct muster_request *req, unsigned round)
{
    return (unsigned)req->comm->size >> (round + 1);
}

static size_t room(const struct muster_request *req, unsigned blocks)
{
    return mu_fold_acc(req, blocks * req->call.count);
}

/* The accumulators of the blocks that are kept, in order; then for each round what goes and what comes. */
static size_t goes_offset(const struct muster_request *req, unsigned round)
{
    size_t at = room(req, kept(req, 0));

    for (unsigned k = 0; k < round; k++)
        at += 2 * room(req, kept(req, k));
    return at;
}

static char *goes(const struct muster_request *req, unsigned round)
{
    return (char *)req->acc + goes_offset(req, round);
}

static char *comes(const struct muster_request *req, unsigned round)
{
    return goes(req, round) + room(req, kept(req, round));
}

static void pack(const struct muster_request *req, unsigned round)
{
    size_t bytes = req->call.count * (round ? req->red.acc_size : req->elem);
    const char *from = round ? req->acc : req->call.send;

    for (unsigned j = 0; bytes && j < kept(req, round); j++)
        memcpy(goes(req, round) + j * bytes, from + (2 * j + !mu_coll_is_upper(req->comm, round)) * bytes, bytes);
}

static int begin(struct muster_request *req, struct mu_err *err)
{
    mu_fold_reducer(req);
    req->acc = mu_coll_room(goes_offset(req, req->nin) + 64);
    if (!req->acc)
        return mu_err_set(err, MUSTER_ENOMEM, "no memory for the accumulators");
    for (unsigned k = 0; k < req->nin; k++) {
        size_t each = kept(req, k) * req->call.count * (k ? req->red.acc_size : req->elem);
        int peer = req->comm->rank ^ (int)(1u << k);

        mu_out_set(req, k, peer, k, goes(req, k), each, k == 0);
        mu_in_set(req, k, peer, k, comes(req, k), each);
    }
    pack(req, 0);
    return 0;
}

static void combine(struct muster_request *req, unsigned k)
{
    size_t n = req->call.count, own = n * (k ? req->red.acc_size : req->elem), acc = n * req->red.acc_size;
    bool upper = mu_coll_is_upper(req->comm, k);

    for (unsigned j = 0; n && j < kept(req, k); j++) {
        char *to = (char *)req->acc + j * acc, *came = comes(req, k) + j * own;
        const char *mine = (k ? (const char *)req->acc : (const char *)req->call.send) + (2 * j + upper) * own;

        if (!k) {
            req->red.two(to, upper ? came : mine, upper ? mine : came, n);
        } else if (upper) {
            req->red.merge(came, mine, n);
            memcpy(to, came, acc);
        } else {
            memmove(to, mine, acc);
            req->red.merge(to, came, n);
        }
    }
}

static bool step(struct muster_request *req)
{
    for (unsigned k = req->fold_rank; k < req->nin; req->fold_rank = ++k) {
        if (!mu_in_ended(&req->in[k]))
            return false;
        combine(req, k);
        if (k + 1 < req->nout) {
            pack(req, k + 1);
            mu_out_let_go(&req->out[k + 1]);
        }
    }
    if (req->call.count && !req->fold_frame)
        mu_fold_store(req, req->call.recv, req->acc, req->call.count);
    req->fold_frame = 1;
    return true;
}

const struct mu_algo mu_reduce_scatter_halving = {"halving", shape, begin, step};
