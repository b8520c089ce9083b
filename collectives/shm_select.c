/* Which algorithm; a decision that is the same on all ranks. */
#include "collectives/algorithms.h"

/* Bytes up to which everybody reads and reduces everything: beyond it slices are shared out. */
static size_t small_reduction(int p)
{
    return p <= 2 ? (size_t)8 << 10 : (size_t)16 << 10;
}

const struct mu_shm_algo *mu_shm_select(const struct muster_request *req)
{
    bool whole = req->call.kind == MU_OP_KIND_ALLREDUCE || req->call.kind == MU_OP_KIND_REDUCE;

    return whole && req->call.count * req->elem > small_reduction(req->comm->size) ? &mu_shm_pipe : &mu_shm_staged;
}
