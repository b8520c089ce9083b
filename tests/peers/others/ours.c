/* muster as a worker, or another build of it by the name of the second argument; way 1: in memory that peers map. */
#include "muster.h"
#include "tests/peers/others/worker.h"

static int call(int op, float *send, float *recv, size_t n)
{
    muster_comm *w = muster_world();

    switch (op) {
    case ALLREDUCE:
        return muster_allreduce(recv, recv, n, MUSTER_FLOAT32, MUSTER_SUM, w);
    case REDUCE_SCATTER:
        return muster_reduce_scatter(send, recv, n, MUSTER_FLOAT32, MUSTER_SUM, w);
    case ALLGATHER:
        return muster_allgather(send, recv, n, MUSTER_FLOAT32, w);
    default:
        return muster_broadcast(recv, n, MUSTER_FLOAT32, 0, w);
    }
}

static void barrier(void)
{
    muster_barrier(muster_world());
}

static double most(double v)
{
    muster_allreduce(&v, &v, 1, MUSTER_FLOAT64, MUSTER_MAX, muster_world());
    return v;
}

static float *get(int way, size_t bytes)
{
    return way ? muster_mem_alloc(bytes) : worker_get(way, bytes);
}

static void put(int way, float *p)
{
    if (way)
        muster_mem_free(p);
    else
        free(p);
}

int main(int argc, char **argv)
{
    struct worker w = {.name = "muster", .call = call, .barrier = barrier, .most = most, .get = get, .put = put};
    int rc;

    if (argc < 2 || muster_init(&argc, &argv) < 0) {
        fprintf(stderr, "muster worker: %s\n", muster_last_error());
        return 1;
    }
    if (argc > 2)
        w.name = argv[2];
    w.rank = muster_rank(muster_world());
    w.size = muster_size(muster_world());
    rc = worker_main(&w, argv[1]);
    muster_finalize();
    return rc;
}
