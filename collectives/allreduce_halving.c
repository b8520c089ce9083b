/* Vectors of middle size, a power of two of members, one a node: in round k the ranks whose numbers differ in bit k
 * exchange halves of what they still work on, and reduce one each; then they gather the results in the same pairs, the
 * last one first (recursive halving and doubling; Rabenseifner, "Optimization of collective reduction operations",
 * 2004, but with neighbours first, which gives the order of algorithms.h). */
#include <string.h>

#include "collectives/algorithms.h"

struct range {
    size_t from, n; /* elements */
};

static void shape(const struct muster_comm *comm, const struct mu_call *call, unsigned *nout, unsigned *nin)
{
    (void)call;
    *nout = *nin = 2 * mu_coll_rounds(comm);
}

/* What this rank works on after so many rounds; kept: or, in the last of them, what it has given away. */
static struct range range_of(const struct muster_request *req, unsigned rounds, bool kept)
{
    struct range a = {0, req->call.count};

    for (unsigned k = 0; k < rounds; k++) {
        size_t half = (a.n + 1) / 2;
        bool second = mu_coll_is_upper(req->comm, k) == (kept || k + 1 < rounds);

        a = second ? (struct range){a.from + half, a.n - half} : (struct range){a.from, half};
    }
    return a;
}

/* The accumulator is of the range after the first round; behind it lies what comes in each round. */
static char *acc_at(const struct muster_request *req, struct range r)
{
    return (char *)req->acc + (r.from - range_of(req, 1, true).from) * req->red.acc_size;
}

static size_t came_offset(const struct muster_request *req, unsigned round)
{
    size_t at = mu_fold_acc(req, range_of(req, 1, true).n);

    for (unsigned k = 0; k < round; k++)
        at += mu_fold_acc(req, range_of(req, k + 1, true).n);
    return at;
}

static char *came(const struct muster_request *req, unsigned round)
{
    return (char *)req->acc + came_offset(req, round);
}

static int begin(struct muster_request *req, struct mu_err *err)
{
    unsigned rounds = req->nin / 2;

    mu_fold_reducer(req);
    req->acc = mu_coll_room(came_offset(req, rounds) + 64);
    if (!req->acc)
        return mu_err_set(err, MUSTER_ENOMEM, "no memory for the accumulators");
    for (unsigned k = 0; k < rounds; k++) {
        int peer = req->comm->rank ^ (int)(1u << k);
        struct range kept = range_of(req, k + 1, true), given = range_of(req, k + 1, false);
        size_t each = k ? req->red.acc_size : req->elem;

        mu_out_set(req, k, peer, k, k ? acc_at(req, given) : mu_at(req->call.send, given.from * req->elem),
                   given.n * each, k == 0);
        mu_in_set(req, k, peer, k, came(req, k), kept.n * each);
        mu_out_set(req, rounds + k, peer, rounds + k, mu_at(req->call.recv, kept.from * req->elem), kept.n * req->elem,
                   false);
        mu_in_set(req, rounds + k, peer, rounds + k, mu_at(req->call.recv, given.from * req->elem),
                  given.n * req->elem);
    }
    return 0;
}

static void combine(struct muster_request *req, unsigned k)
{
    struct range r = range_of(req, k + 1, true);
    const void *own = mu_at(req->call.send, r.from * req->elem);

    if (!r.n)
        return;
    if (!k) {
        req->red.two(acc_at(req, r), mu_coll_is_upper(req->comm, k) ? came(req, k) : own,
                     mu_coll_is_upper(req->comm, k) ? own : came(req, k), r.n);
    } else if (mu_coll_is_upper(req->comm, k)) {
        req->red.merge(came(req, k), acc_at(req, r), r.n);
        memcpy(acc_at(req, r), came(req, k), r.n * req->red.acc_size);
    } else {
        req->red.merge(acc_at(req, r), came(req, k), r.n);
    }
}

/* In place is safe: what comes in a round of the gathering is where this rank's half went in the same round of the
 * halving, and has been received, because it is in the result. */
static bool step(struct muster_request *req)
{
    unsigned rounds = req->nin / 2;
    struct range mine = range_of(req, rounds, true);

    for (unsigned k = req->fold_rank; k < rounds; req->fold_rank = ++k) {
        if (!mu_in_ended(&req->in[k]))
            return false;
        combine(req, k);
        if (k + 1 < rounds) {
            mu_out_let_go(&req->out[k + 1]);
            continue;
        }
        if (mine.n)
            mu_fold_store(req, mu_at(req->call.recv, mine.from * req->elem), acc_at(req, mine), mine.n);
        mu_out_let_go(&req->out[rounds + k]);
    }
    for (unsigned k = rounds; k-- > 1;) {
        if (!mu_in_ended(&req->in[rounds + k]))
            return false;
        mu_out_let_go(&req->out[rounds + k - 1]);
    }
    return true;
}

const struct mu_algo mu_allreduce_halving = {"halving", shape, begin, step};
