/* Ranks that end as they should not: ends exit (rank 1 leaves with 0, without MPI_Finalize), ends abort [CODE] (it
 * calls MPI_Abort, with 7). */
#include <mpi.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    int rank;

    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    if (rank == 1 && argc > 1 && !strcmp(argv[1], "exit"))
        _exit(0);
    if (rank == 1)
        MPI_Abort(MPI_COMM_WORLD, argc > 2 ? atoi(argv[2]) : 7);
    MPI_Barrier(MPI_COMM_WORLD);
    MPI_Finalize();
    return 0;
}
