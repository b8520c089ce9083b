/* The ordered reduction. */
#include <stdlib.h>

#include "collectives/algorithms.h"

#define HEAP_FAST ((size_t)1024) /* bytes up to which malloc gives what was freed last */

void *mu_coll_room(size_t bytes)
{
    return bytes <= HEAP_FAST ? malloc(bytes) : aligned_alloc(64, (bytes + 63) / 64 * 64);
}

size_t mu_fold_room(const struct muster_request *req, size_t each)
{
    return mu_fold_acc(req, each) * (req->comm->in_tree ? mu_coll_rounds(req->comm) + 1 : 1);
}

static size_t elements_a_frame(const struct muster_request *req, size_t bytes)
{
    return (bytes < MU_CHUNK ? bytes : MU_CHUNK) / req->elem;
}

int mu_fold_begin(struct muster_request *req, size_t bytes, struct mu_err *err)
{
    mu_fold_reducer(req);
    if (bytes == 0)
        return 0;
    req->acc = mu_coll_room(mu_fold_room(req, elements_a_frame(req, bytes)));
    return req->acc ? 0 : mu_err_set(err, MUSTER_ENOMEM, "no memory for the accumulator");
}

static bool gates_open(const struct mu_out *gates, unsigned n, uint32_t frame)
{
    for (unsigned i = 0; i < n; i++)
        if (gates[i].sent <= frame)
            return false;
    return true;
}

/* Accumulators are a stack: one for each binary digit of how many inputs there have been, the largest first. */
static void fold_tree(struct muster_request *req, size_t each, unsigned r, const void *x, size_t n)
{
    size_t room = mu_fold_acc(req, each);
    unsigned level = (unsigned)__builtin_popcount(r), left = r + 1;
    bool last = left == (unsigned)req->comm->size;

    if (r & 1) {
        req->red.fold((char *)req->acc + --level * room, x, n);
        left >>= 1;
    } else {
        req->red.load((char *)req->acc + level * room, x, n);
    }
    for (; level && (last || !(left & 1)); left >>= 1, level--)
        req->red.merge((char *)req->acc + (level - 1) * room, (char *)req->acc + level * room, n);
}

void mu_fold(struct muster_request *req, size_t each, unsigned r, const void *x, size_t n)
{
    if (req->comm->in_tree)
        fold_tree(req, each, r, x, n);
    else
        (r ? req->red.fold : req->red.load)(req->acc, x, n);
}

bool mu_fold_step(struct muster_request *req, const void *own, void *dst, size_t bytes, const struct mu_out *gates,
                  unsigned ngates)
{
    const struct muster_comm *comm = req->comm;
    uint32_t nframes = mu_coll_nframes(bytes);

    for (; req->fold_frame < nframes; req->fold_frame++, req->fold_rank = 0) {
        size_t at = req->fold_frame * MU_CHUNK, left = bytes - at;
        size_t n = (left < MU_CHUNK ? left : MU_CHUNK) / req->elem;

        for (; req->fold_rank < (uint32_t)comm->size; req->fold_rank++) {
            bool mine = req->fold_rank == (uint32_t)comm->rank;
            struct mu_in *in = mine ? NULL : &req->in[mu_coll_index(comm, 0, (int)req->fold_rank)];
            const void *x = mine ? mu_at(own, at) : in->queue.first ? in->queue.first->data : NULL;

            if (!mine && !x)
                return false;
            if (n)
                mu_fold(req, elements_a_frame(req, bytes), req->fold_rank, x, n);
            if (!mine)
                mu_in_pop(req, in);
        }
        if (!gates_open(gates, ngates, req->fold_frame))
            return false;
        if (n)
            mu_fold_store(req, mu_at(dst, at), req->acc, n);
    }
    return true;
}
