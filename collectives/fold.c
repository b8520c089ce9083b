/* The ordered reduction. */
#include <stdlib.h>

#include "collectives/algorithms.h"

#define HEAP_FAST ((size_t)1024) /* bytes up to which malloc gives what was freed last */

void *mu_coll_room(size_t bytes)
{
    return bytes <= HEAP_FAST ? malloc(bytes) : aligned_alloc(64, (bytes + 63) / 64 * 64);
}

int mu_fold_begin(struct muster_request *req, size_t bytes, struct mu_err *err)
{
    size_t frame = bytes < MU_CHUNK ? bytes : MU_CHUNK;

    mu_ops_reducer_to(&req->red, req->call.dtype, req->call.op);
    req->red.ranks = req->part.ranks;
    if (frame == 0)
        return 0;
    req->acc = mu_coll_room(frame / req->elem * req->red.acc_size);
    return req->acc ? 0 : mu_err_set(err, MUSTER_ENOMEM, "no memory for the accumulator");
}

static bool gates_open(const struct mu_out *gates, unsigned n, uint32_t frame)
{
    for (unsigned i = 0; i < n; i++)
        if (gates[i].sent <= frame)
            return false;
    return true;
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
                (req->fold_rank ? req->red.fold : req->red.load)(req->acc, x, n);
            if (!mine)
                mu_in_pop(req, in);
        }
        if (!gates_open(gates, ngates, req->fold_frame))
            return false;
        if (n)
            req->red.store(mu_at(dst, at), req->acc, n, req->red.ranks ? req->red.ranks : (unsigned)comm->size);
    }
    return true;
}
