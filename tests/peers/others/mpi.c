/* Any MPI as a worker; its name is the second argument. */
#include <mpi.h>

#include "tests/peers/others/worker.h"

static int call(int op, float *send, float *recv, size_t n)
{
    switch (op) {
    case ALLREDUCE:
        return MPI_Allreduce(MPI_IN_PLACE, recv, (int)n, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
    case REDUCE_SCATTER:
        return MPI_Reduce_scatter_block(send, recv, (int)n, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
    case ALLGATHER:
        return MPI_Allgather(send, (int)n, MPI_FLOAT, recv, (int)n, MPI_FLOAT, MPI_COMM_WORLD);
    default:
        return MPI_Bcast(recv, (int)n, MPI_FLOAT, 0, MPI_COMM_WORLD);
    }
}

static void barrier(void)
{
    MPI_Barrier(MPI_COMM_WORLD);
}

static double most(double v)
{
    MPI_Allreduce(MPI_IN_PLACE, &v, 1, MPI_DOUBLE, MPI_MAX, MPI_COMM_WORLD);
    return v;
}

int main(int argc, char **argv)
{
    struct worker w = {.call = call, .barrier = barrier, .most = most, .get = worker_get, .put = worker_put};
    int rc;

    MPI_Init(&argc, &argv);
    if (argc != 3)
        return 2;
    w.name = argv[2];
    MPI_Comm_rank(MPI_COMM_WORLD, &w.rank);
    MPI_Comm_size(MPI_COMM_WORLD, &w.size);
    rc = worker_main(&w, argv[1]);
    MPI_Finalize();
    return rc;
}
