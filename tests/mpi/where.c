/* Ranks that say where they run: where [stay MS | before MS | after MS | until FILE]. before, after: rank 0 takes the
 * last CPU that it can have instead of its own, before or after MPI_Init. until: they stay until there is that file. */
#include <mpi.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void move(void)
{
    cpu_set_t all, one;

    CPU_ZERO(&all);
    for (int i = 0; i < CPU_SETSIZE; i++)
        CPU_SET(i, &all);
    sched_setaffinity(0, sizeof all, &all); /* cut to what is allowed */
    sched_getaffinity(0, sizeof all, &all);
    CPU_ZERO(&one);
    for (int i = CPU_SETSIZE - 1; i >= 0 && !CPU_COUNT(&one); i--)
        if (CPU_ISSET(i, &all))
            CPU_SET(i, &one);
    sched_setaffinity(0, sizeof one, &one);
}

int main(int argc, char **argv)
{
    const char *mode = argc > 1 ? argv[1] : "stay", *env = getenv("RANK");
    int first = env && !strcmp(env, "0"), rank;
    cpu_set_t mine;

    if (first && !strcmp(mode, "before"))
        move();
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    if (first && !strcmp(mode, "after"))
        move();
    sched_getaffinity(0, sizeof mine, &mine);
    printf("rank %d:", rank);
    for (int i = 0; i < CPU_SETSIZE; i++)
        if (CPU_ISSET(i, &mine))
            printf(" %d", i);
    printf("\n");
    fflush(stdout);
    if (argc > 2 && !strcmp(mode, "until"))
        for (int i = 0; i < 6000 && access(argv[2], F_OK); i++)
            usleep(10000);
    else if (argc > 2)
        usleep((useconds_t)atoi(argv[2]) * 1000);
    MPI_Finalize();
    return 0;
}
