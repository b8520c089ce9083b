/* The smallest MPI program: rank and size, as the launch benchmark and the launch tests want them. hello MS stays for
 * so many milliseconds. */
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    int rank, size;

    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    printf("hello from %d of %d\n", rank, size);
    fflush(stdout);
    if (argc > 1)
        usleep((useconds_t)atoi(argv[1]) * 1000);
    MPI_Finalize();
    return 0;
}
