#include "collectives/algorithms.h"
#include "collectives/hier.h"

/* In order: the first row that fits is taken. flat: only up to the flat limit; few: only up to so many ranks. */
static const struct {
    uint8_t kind;
    bool flat;
    int few;
    const struct mu_algo *algo;
} rows[] = {
    {MU_OP_KIND_ALLREDUCE, false, 0, &mu_hier},
    {MU_OP_KIND_REDUCE, false, 0, &mu_hier},
    {MU_OP_KIND_REDUCE_SCATTER, false, 0, &mu_hier},
    {MU_OP_KIND_ALLGATHER, false, 0, &mu_hier},
    {MU_OP_KIND_BROADCAST, false, 0, &mu_hier},
    {MU_OP_KIND_BARRIER, false, 0, &mu_hier},
    {MU_OP_KIND_ALLREDUCE, true, 3, &mu_allreduce_flat}, /* one turn; from four ranks on that is more messages */
    {MU_OP_KIND_ALLREDUCE, true, 0, &mu_allreduce_doubling},
    {MU_OP_KIND_ALLREDUCE, false, 0, &mu_allreduce_direct},
    {MU_OP_KIND_REDUCE, false, 0, &mu_reduce_root},
    {MU_OP_KIND_REDUCE_SCATTER, false, 0, &mu_reduce_scatter_direct},
    {MU_OP_KIND_ALLGATHER, false, 0, &mu_allgather_direct},
    {MU_OP_KIND_BROADCAST, false, 0, &mu_broadcast_binomial},
    {MU_OP_KIND_ALLTOALL, false, 0, &mu_alltoall_pairwise},
    {MU_OP_KIND_BARRIER, false, 0, &mu_barrier_dissemination},
    {MU_OP_KIND_SEND, false, 0, &mu_p2p_send},
    {MU_OP_KIND_RECV, false, 0, &mu_p2p_recv},
    {MU_OP_KIND_SPLIT, false, 0, &mu_allgather_direct},
    {MU_OP_KIND_INIT, false, 0, &mu_allgather_direct},
    {MU_OP_KIND_FINALIZE, false, 0, &mu_barrier_dissemination},
};

/* Flat sends (p - 1) * bytes in one round, doubling as much in log2(p), direct 2 * (p - 1) / p * bytes in two. */
static size_t flat_limit(const struct muster_comm *comm)
{
    size_t each = (size_t)32768 / (size_t)comm->size;

    if (comm->engine->flat_max)
        return comm->engine->flat_max;
    return each > 1024 ? each : 1024;
}

unsigned mu_algo_select(const struct muster_comm *comm, const struct mu_call *call, size_t bytes)
{
    unsigned i = 0;

    while (rows[i].kind != call->kind || (rows[i].flat && bytes > flat_limit(comm)) ||
           (rows[i].few && comm->size > rows[i].few) || (rows[i].algo == &mu_hier && !mu_hier_can(comm, call->kind)))
        i++;
    return i;
}

const struct mu_algo *mu_algo_row(unsigned row)
{
    return rows[row].algo;
}
