/* What the flight recorder costs a small all-reduce: two communicators of the same ranks by turns, one that is recorded
 * and one that came when all rings were taken. Rank 0 prints a line; 1 when it is more than the bound (ns, the first
 * argument). */
#include <fcntl.h>
#include <muster.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "runtime/base/slot.h"

enum { CALLS = 2000, TURNS = 301, COMMS = MU_FLIGHT_COMMS + 2 };

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

static double median(double *v)
{
    qsort(v, TURNS, sizeof *v, by_size);
    return v[TURNS / 2];
}

static double turn(muster_comm *comm, int *rc)
{
    float x = 1, y;
    double from;

    *rc |= muster_barrier(muster_world());
    from = now();
    for (int i = 0; i < CALLS; i++)
        *rc |= muster_allreduce(&x, &y, 1, MUSTER_FLOAT32, MUSTER_SUM, comm);
    return (now() - from) / CALLS;
}

/* A record by itself, in memory that nobody else looks at. */
static double alone(void)
{
    static struct mu_flight f;
    struct mu_flight_record what = {.number = 1, .count = 1, .peer = -1, .kind = MU_OP_KIND_ALLREDUCE};
    struct mu_flight_ring *r = mu_flight_open(&f, 1, 2);
    double from = now();

    for (int i = 0; i < TURNS * CALLS; i++) {
        what.number++;
        mu_flight_leave(mu_flight_enter(r, &what, 1), mu_tick(), 0);
    }
    return (now() - from) / ((double)TURNS * CALLS);
}

/* How many communicators of this rank have found no ring; -1: nothing is recorded. */
static long unrecorded(void)
{
    const char *path = getenv("MUSTER_SLOTS"), *index = getenv("MUSTER_SLOT_INDEX");
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    off_t size = fd < 0 ? 0 : lseek(fd, 0, SEEK_END);
    void *map = size > 0 ? mmap(NULL, (size_t)size, PROT_READ, MAP_SHARED, fd, 0) : MAP_FAILED;

    if (map == MAP_FAILED || !index)
        return -1;
    return (long)atomic_load(&mu_slot_flight(map, (unsigned)atoi(index))->unrecorded);
}

int main(int argc, char **argv)
{
    static double on[TURNS], off[TURNS], more[TURNS];
    double bound = argc > 1 ? atof(argv[1]) : 100, cost;
    muster_comm *v[COMMS];
    int rc = muster_init(&argc, &argv);

    for (int i = 0; i < COMMS && !rc; i++)
        rc = muster_comm_split(muster_world(), 0, muster_rank(muster_world()), &v[i]) || muster_barrier(v[i]);
    if (rc || unrecorded() < 1) {
        fprintf(stderr, "flight_cost: %s\n", rc ? muster_last_error() : "the last communicator is recorded, too");
        return 2;
    }
    for (int t = -3; t < TURNS && !rc; t++) { /* the first ones warm up */
        int i = t < 0 ? 0 : t;

        if (t % 2)
            off[i] = turn(v[COMMS - 1], &rc);
        on[i] = turn(v[0], &rc);
        if (t % 2 == 0)
            off[i] = turn(v[COMMS - 1], &rc);
        more[i] = on[i] - off[i];
    }
    if (rc) {
        fprintf(stderr, "flight_cost: %s\n", muster_last_error());
        return 2;
    }
    cost = median(more);
    if (muster_rank(muster_world()) == 0)
        printf(
            "the flight recorder adds %.1f ns to an all-reduce of 4 bytes by %d ranks (median of %d turns of %d calls, "
            "bound %.0f ns; without it %.1f ns, with it %.1f ns; a record by itself %.1f ns)\n",
            cost, muster_size(muster_world()), TURNS, CALLS, bound, median(off), median(on), alone());
    rc = muster_rank(muster_world()) == 0 && cost > bound;
    return muster_finalize() || rc;
}
