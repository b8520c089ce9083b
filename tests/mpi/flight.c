/* flight [die | stay FILE]: collectives on two communicators; with die rank 1 aborts instead of the last one, with stay
 * it calls that when there is FILE. */
#include <muster.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    muster_comm *half = NULL;
    float x[100] = {0};

    if (muster_init(&argc, &argv))
        return 3;
    int rank = muster_rank(muster_world());
    if (muster_comm_split(muster_world(), 0, rank, &half))
        return 4;
    for (int i = 0; i < 300; i++)
        if (muster_allreduce(x, x, 100, MUSTER_FLOAT32, MUSTER_SUM, muster_world()))
            return 5;
    if (muster_broadcast(x, 3, MUSTER_FLOAT64, 1, half))
        return 6;
    if (rank == 1 && argc > 1 && !strcmp(argv[1], "die"))
        abort();
    for (int i = 0; i < 600 && rank == 1 && argc > 2 && access(argv[2], F_OK); i++)
        usleep(100000);
    muster_barrier(half);
    muster_comm_free(half);
    return muster_finalize() ? 7 : 0;
}
