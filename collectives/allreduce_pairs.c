/* Short vectors, a power of two of members, one a node: in round k the ranks whose numbers differ in bit k exchange
 * what they have reduced so far (recursive doubling; Thakur et al., "Optimization of collective communication
 * operations in MPICH", 2005). The lower one's comes first. The first round carries the inputs, the others
 * accumulators. */
#include "collectives/algorithms.h"

static void shape(const struct muster_comm *comm, const struct mu_call *call, unsigned *nout, unsigned *nin)
{
    (void)call;
    *nout = *nin = mu_coll_rounds(comm);
}

/* What is reduced on this rank, and behind it what comes in each round. */
static char *slot(const struct muster_request *req, unsigned i)
{
    return (char *)req->acc + i * mu_fold_acc(req, req->call.count);
}

/* Where it is after so many rounds: the upper one goes on in what has come from the lower one. */
static char *reduced(const struct muster_request *req, unsigned rounds)
{
    while (rounds > 1 && !mu_coll_is_upper(req->comm, rounds - 1))
        rounds--;
    return slot(req, rounds > 1 ? rounds : 0);
}

static int begin(struct muster_request *req, struct mu_err *err)
{
    size_t n = req->call.count;

    mu_fold_reducer(req);
    req->acc = mu_coll_room((req->nin + 1) * mu_fold_acc(req, n) + 64);
    if (!req->acc)
        return mu_err_set(err, MUSTER_ENOMEM, "no memory for the accumulators");
    for (unsigned k = 0; k < req->nin; k++) {
        int peer = req->comm->rank ^ (int)(1u << k);
        size_t bytes = n * (k ? req->red.acc_size : req->elem);

        mu_out_set(req, k, peer, k, k ? reduced(req, k) : req->call.send, bytes, k == 0);
        mu_in_set(req, k, peer, k, slot(req, k + 1), bytes);
    }
    return 0;
}

static void combine(struct muster_request *req, unsigned k)
{
    const void *lower = mu_coll_is_upper(req->comm, k) ? slot(req, k + 1) : req->call.send;
    const void *upper = mu_coll_is_upper(req->comm, k) ? req->call.send : slot(req, k + 1);
    size_t n = req->call.count;

    if (k)
        req->red.merge(reduced(req, k + 1), mu_coll_is_upper(req->comm, k) ? reduced(req, k) : slot(req, k + 1), n);
    else
        req->red.two(slot(req, 0), lower, upper, n);
}

static bool step(struct muster_request *req)
{
    for (unsigned k = req->fold_rank; k < req->nin; req->fold_rank = ++k) {
        if (!mu_in_ended(&req->in[k]) || req->out[k].sent < req->out[k].nframes)
            return false;
        if (req->call.count)
            combine(req, k);
        if (k + 1 < req->nout)
            mu_out_let_go(&req->out[k + 1]);
    }
    if (req->call.count && !req->fold_frame)
        mu_fold_store(req, req->call.recv, reduced(req, req->nin), req->call.count);
    req->fold_frame = 1;
    return true;
}

const struct mu_algo mu_allreduce_pairs = {"pairs", shape, begin, step};
