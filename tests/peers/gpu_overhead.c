/* What a call in GPU memory costs beyond NCCL's own: muster_allreduce and a bare loop over the same function of a
 * backend that does nothing (tests/doubles/null.c), by turns in one process. Prints one line; 1 when it is more than
 * the bound (ns, the first argument). */
#include <muster.h>

#include <string.h>
#include <time.h>

#include "tests/gpu/cuda.h"

enum { CALLS = 20000, TURNS = 101 };

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
    double bare[TURNS], ours[TURNS], bound = argc > 1 ? atof(argv[1]) : 100, cost;
    int (*volatile nccl)(const void *, void *, size_t, int, int, void *, void *);
    const char *lib = getenv("MUSTER_NCCL_LIB"), *why = NULL;
    muster_comm *world;
    float *dev;
    int rc = muster_init(&argc, &argv);
    void *h = lib ? dlopen(lib, RTLD_NOW) : NULL, *fn = h ? dlsym(h, "ncclAllReduce") : NULL;

    if (rc || !fn || (why = cuda_up(0)) || !(dev = cuda_alloc(4096))) {
        fprintf(stderr, "gpu_overhead: %s\n", rc ? muster_last_error() : !fn ? "MUSTER_NCCL_LIB is needed" : why);
        return 2;
    }
    *(void **)&nccl = fn;
    world = muster_world();
    rc = muster_comm_set_stream(world, NULL); /* no driver that can be used: then all of it would be host memory */
    for (int t = 0; t < TURNS && rc == 0; t++) {
        double a = now(), b;

        for (int i = 0; i < CALLS; i++)
            rc |= nccl(dev, dev, 256, 7, 0, world, NULL);
        b = now();
        bare[t] = (b - a) / CALLS;
        for (int i = 0; i < CALLS; i++)
            rc |= muster_allreduce(dev, dev, 256, MUSTER_FLOAT32, MUSTER_SUM, world);
        ours[t] = (now() - b) / CALLS;
    }
    if (rc) {
        fprintf(stderr, "gpu_overhead: %s\n", muster_last_error());
        return 2;
    }
    qsort(bare, TURNS, sizeof *bare, by_size);
    qsort(ours, TURNS, sizeof *ours, by_size);
    cost = ours[TURNS / 2] - bare[TURNS / 2];
    printf(
        "a call in GPU memory adds %.1f ns (median of %d turns of %d calls, bound %.0f ns; least %.1f ns; bare: %.1f "
        "ns)\n",
        cost, TURNS, CALLS, bound, ours[0] - bare[0], bare[TURNS / 2]);
    return muster_finalize() || cost > bound;
}
