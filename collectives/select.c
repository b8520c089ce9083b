#include "collectives/algorithms.h"
#include "collectives/hier.h"

#define PAIRS_MOST ((size_t)1 << 14)
#define RING_LEAST ((size_t)1 << 16)
#define CHAIN_LEAST ((size_t)1 << 11)
#define HALVES_EACH ((size_t)1 << 16) /* for each member */

enum limit { NONE, SHORT, PAIRS, HALVES, BLOCKS, RING, CHAIN };

/* In order: the first row that fits is taken. limit: bytes; few: only up to so many ranks. */
static const struct {
    uint8_t kind;
    enum limit limit;
    int few;
    const struct mu_algo *algo;
} rows[] = {
    {MU_OP_KIND_ALLREDUCE, NONE, 0, &mu_hier},
    {MU_OP_KIND_REDUCE, NONE, 0, &mu_hier},
    {MU_OP_KIND_REDUCE_SCATTER, NONE, 0, &mu_hier},
    {MU_OP_KIND_ALLGATHER, NONE, 0, &mu_hier},
    {MU_OP_KIND_BROADCAST, NONE, 0, &mu_hier},
    {MU_OP_KIND_BARRIER, NONE, 0, &mu_hier},
    {MU_OP_KIND_ALLREDUCE, SHORT, 3, &mu_allreduce_flat}, /* one turn; from four ranks on that is more messages */
    {MU_OP_KIND_ALLREDUCE, PAIRS, 0, &mu_allreduce_pairs},
    {MU_OP_KIND_ALLREDUCE, HALVES, 0, &mu_allreduce_halving},
    {MU_OP_KIND_ALLREDUCE, SHORT, 0, &mu_allreduce_doubling},
    {MU_OP_KIND_ALLREDUCE, NONE, 0, &mu_allreduce_direct},
    {MU_OP_KIND_REDUCE, NONE, 0, &mu_reduce_root},
    {MU_OP_KIND_REDUCE_SCATTER, BLOCKS, 0, &mu_reduce_scatter_halving},
    {MU_OP_KIND_REDUCE_SCATTER, NONE, 0, &mu_reduce_scatter_direct},
    {MU_OP_KIND_ALLGATHER, BLOCKS, 0, &mu_allgather_pairs},
    {MU_OP_KIND_ALLGATHER, NONE, 0, &mu_allgather_direct},
    {MU_OP_KIND_BROADCAST, RING, 0, &mu_broadcast_ring},
    {MU_OP_KIND_BROADCAST, CHAIN, 4, &mu_broadcast_chain},
    {MU_OP_KIND_BROADCAST, NONE, 0, &mu_broadcast_binomial},
    {MU_OP_KIND_ALLTOALL, NONE, 0, &mu_alltoall_pairwise},
    {MU_OP_KIND_BARRIER, NONE, 0, &mu_barrier_dissemination},
    {MU_OP_KIND_SEND, NONE, 0, &mu_p2p_send},
    {MU_OP_KIND_RECV, NONE, 0, &mu_p2p_recv},
    {MU_OP_KIND_SPLIT, NONE, 0, &mu_allgather_direct},
    {MU_OP_KIND_INIT, NONE, 0, &mu_allgather_direct},
    {MU_OP_KIND_FINALIZE, NONE, 0, &mu_barrier_dissemination},
};

/* Flat sends (p - 1) * bytes in one round, doubling as much in log2(p), direct 2 * (p - 1) / p * bytes in two. */
static size_t flat_limit(const struct muster_comm *comm)
{
    size_t each = (size_t)32768 / (size_t)comm->size;

    if (comm->engine->flat_max)
        return comm->engine->flat_max;
    return each > 1024 ? each : 1024;
}

/* Once round with the whole vector, and a frame for each further member, where a tree's root sends it log2(p) times. */
static bool fits_ring(const struct muster_comm *comm, size_t bytes)
{
    size_t p = (size_t)comm->size, frame = bytes / 2 < MU_CHUNK ? bytes / 2 : MU_CHUNK, rounds = 0;

    while ((size_t)1 << rounds < p)
        rounds++;
    return p > 2 && bytes >= RING_LEAST && bytes + (p - 2) * frame <= rounds * bytes;
}

/* Pairs send log2(p) * bytes in as many messages, halving 2 * (p - 1) / p * bytes in twice as many; direct has
 * 2 * (p - 1) of them, but goes on frame by frame. */
static bool fits(const struct muster_comm *comm, enum limit limit, size_t bytes)
{
    bool paired = comm->in_tree && comm->size >= 4 && mu_coll_is_paired(comm);

    switch (limit) {
    case SHORT:
        return bytes <= flat_limit(comm);
    case PAIRS:
        return paired && bytes <= (comm->engine->flat_max ? comm->engine->flat_max : PAIRS_MOST);
    case HALVES:
        return paired && bytes <= HALVES_EACH * (size_t)comm->size;
    case BLOCKS:
        return paired && bytes <= HALVES_EACH;
    case RING:
        return fits_ring(comm, bytes);
    case CHAIN: /* a turn more than a tree of so few, but half of its bytes from the root */
        return comm->size > 2 && bytes >= CHAIN_LEAST;
    default:
        return true;
    }
}

unsigned mu_algo_select(const struct muster_comm *comm, const struct mu_call *call, size_t bytes)
{
    unsigned i = 0;

    while (rows[i].kind != call->kind || !fits(comm, rows[i].limit, bytes) ||
           (rows[i].few && comm->size > rows[i].few) || (rows[i].algo == &mu_hier && !mu_hier_can(comm, call->kind)))
        i++;
    return i;
}

const struct mu_algo *mu_algo_row(unsigned row)
{
    return rows[row].algo;
}
