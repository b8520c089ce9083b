/* A rank that is killed and the ranks that live on: outlive RANK [COUNT of elements, up to 400000 [pipe]]. Each of
 * these prints "R: CODE TEXT" of its failed call, then of the next one, and ends well. For --on-failure=keep. pipe:
 * they write to a pipe that nobody reads before that. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "muster.h"

int main(int argc, char **argv)
{
    static float x[400000], y[400000];
    int victim = argc > 1 ? atoi(argv[1]) : 0, rank, rc = muster_init(&argc, &argv);
    size_t count = argc > 2 ? (size_t)atoi(argv[2]) : 1000;

    if (rc < 0 || count > sizeof x / sizeof x[0]) {
        printf("init: %d %s\n", rc, muster_last_error());
        return 1;
    }
    rank = muster_rank(muster_world());
    for (uint64_t step = 1; rc == 0; step++) {
        if (step == 50 && rank == victim)
            raise(SIGKILL);
        if (step == 10 && argc > 3)
            raise(SIGPIPE);
        rc = muster_allreduce(x, y, count, MUSTER_FLOAT32, MUSTER_SUM, muster_world());
        if (rc == 0)
            muster_step(step);
    }
    printf("%d: %d %s\n", rank, rc, muster_last_error());
    rc = muster_barrier(muster_world());
    printf("%d: %d %s\n", rank, rc, muster_last_error());
    fflush(stdout);
    muster_finalize();
    return 0;
}
