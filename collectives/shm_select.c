/* Which algorithm; a decision that is the same on all ranks. */
#include "collectives/algorithms.h"

const struct mu_shm_algo *mu_shm_select(const struct muster_request *req)
{
    bool whole = req->call.kind == MU_OP_KIND_ALLREDUCE || req->call.kind == MU_OP_KIND_REDUCE;

    return whole && req->call.count * req->elem > mu_shm_of(req)->shm->small_reduction ? &mu_shm_pipe : &mu_shm_staged;
}
