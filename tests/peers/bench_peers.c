/* Collectives of muster beside those of the MPI that it was built with, in one process, turn by turn: bench_peers
 * OPTIONS. A trial of a size is a batch of calls of each of them; what is compared are the times within a trial. Inputs
 * are written before every call that is timed alone, before every batch where calls are short. Rank 0 prints. */
#include <math.h>
#include <mpi.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench/stats.h"
#include "muster.h"
#include "runtime/base/clean.h"
#include "runtime/base/clock.h"
#include "runtime/base/str.h"

#define MOST_TRIALS 101
#define ALONE 16384          /* bytes from which every call is timed alone */
#define BATCH_NS (2 * MU_MS) /* a batch lasts about so long */
#define SLOWER 0.95

enum { PEER, PRIVATE, MAPPED, BOUND, WAYS };

static int rank, size;
static float *buffers[WAYS][2]; /* send, recv; the peer's are those of PRIVATE */

struct op {
    const char *name;
    bool total; /* bytes are those of all ranks */
    void (*fill)(float *send, float *recv, size_t n);
    int (*peer)(float *send, float *recv, size_t n);
    int (*ours)(float *send, float *recv, size_t n);
    float (*want)(size_t i, size_t n);
    size_t (*results)(size_t n);
    double moves; /* over each link of h hosts: so many times (h - 1) / h of the vector; 0: once all of it */
};

/* Whole numbers, so that sums are exact in any order. */
static float value(int r, size_t i)
{
    return (float)((i * 7 + (size_t)r * 13) % 101);
}

static float sum(size_t i)
{
    float s = 0;

    for (int r = 0; r < size; r++)
        s += value(r, i);
    return s;
}

static void put(float *v, size_t n, int r)
{
    for (size_t i = 0, x = (size_t)r * 13 % 101; i < n; i++, x = (x + 7) % 101)
        v[i] = (float)x;
}

static size_t one(size_t n)
{
    return n;
}
static size_t all(size_t n)
{
    return n * (size_t)size;
}

static void fill_recv(float *send, float *recv, size_t n)
{
    (void)send;
    put(recv, n, rank);
}
static int peer_allreduce(float *send, float *recv, size_t n)
{
    (void)send;
    return MPI_Allreduce(MPI_IN_PLACE, recv, (int)n, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
}
static int our_allreduce(float *send, float *recv, size_t n)
{
    (void)send;
    return muster_allreduce(recv, recv, n, MUSTER_FLOAT32, MUSTER_SUM, muster_world());
}
static float want_sum(size_t i, size_t n)
{
    (void)n;
    return sum(i);
}

static void fill_all(float *send, float *recv, size_t n)
{
    (void)recv;
    put(send, n * (size_t)size, rank);
}
static int peer_reduce_scatter(float *send, float *recv, size_t n)
{
    return MPI_Reduce_scatter_block(send, recv, (int)n, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
}
static int our_reduce_scatter(float *send, float *recv, size_t n)
{
    return muster_reduce_scatter(send, recv, n, MUSTER_FLOAT32, MUSTER_SUM, muster_world());
}
static float want_block(size_t i, size_t n)
{
    return sum((size_t)rank * n + i);
}

static void fill_own(float *send, float *recv, size_t n)
{
    (void)recv;
    put(send, n, rank);
}
static int peer_allgather(float *send, float *recv, size_t n)
{
    return MPI_Allgather(send, (int)n, MPI_FLOAT, recv, (int)n, MPI_FLOAT, MPI_COMM_WORLD);
}
static int our_allgather(float *send, float *recv, size_t n)
{
    return muster_allgather(send, recv, n, MUSTER_FLOAT32, muster_world());
}
static float want_gathered(size_t i, size_t n)
{
    return value((int)(i / n), i % n);
}

static void fill_root(float *send, float *recv, size_t n)
{
    (void)send;
    put(recv, n, rank);
}
static int peer_broadcast(float *send, float *recv, size_t n)
{
    (void)send;
    return MPI_Bcast(recv, (int)n, MPI_FLOAT, 0, MPI_COMM_WORLD);
}
static int our_broadcast(float *send, float *recv, size_t n)
{
    (void)send;
    return muster_broadcast(recv, n, MUSTER_FLOAT32, 0, muster_world());
}
static float want_root(size_t i, size_t n)
{
    (void)n;
    return value(0, i);
}

static const struct op ops[] = {
    {"allreduce", false, fill_recv, peer_allreduce, our_allreduce, want_sum, one, 2},
    {"reduce_scatter", true, fill_all, peer_reduce_scatter, our_reduce_scatter, want_block, one, 1},
    {"allgather", true, fill_own, peer_allgather, our_allgather, want_gathered, all, 1},
    {"broadcast", false, fill_root, peer_broadcast, our_broadcast, want_root, one, 0},
};

/* --- measuring --- */

static void fail(const char *what)
{
    fprintf(stderr, "bench_peers: rank %d: %s: %s\n", rank, what, muster_last_error());
    MPI_Abort(MPI_COMM_WORLD, 1);
}

/* What the memory of the node gives: every rank reads and writes its vector once. */
#ifndef __clang__
__attribute__((optimize("O3")))
#endif
static int
touch(float *send, float *recv, size_t n)
{
    (void)send;
    for (size_t i = 0; i < n; i++)
        recv[i] += 1;
    return 0;
}

static int call(const struct op *op, int way, size_t n)
{
    float **b = buffers[way == PEER || way == BOUND ? PRIVATE : way];

    return (way == PEER ? op->peer : way == BOUND ? touch : op->ours)(b[0], b[1], n);
}

static void fill(const struct op *op, int way, size_t n)
{
    float **b = buffers[way == PEER || way == BOUND ? PRIVATE : way];

    op->fill(b[0], b[1], n);
}

static unsigned rest; /* us before a batch, for what the one before it has used up; REST */

/* Of the slowest rank: ns a call. */
static double batch(const struct op *op, int way, size_t n, size_t bytes, int calls)
{
    bool alone = bytes >= ALONE;
    double t = 0, slowest;

    fill(op, way, n);
    usleep(rest);
    if (!alone) {
        MPI_Barrier(MPI_COMM_WORLD);
        MPI_Barrier(MPI_COMM_WORLD);
        uint64_t t0 = mu_now();
        for (int i = 0; i < calls; i++)
            if (call(op, way, n))
                fail(op->name);
        t = (double)(mu_now() - t0);
    }
    for (int i = 0; alone && i < calls; i++) {
        fill(op, way, n);
        MPI_Barrier(MPI_COMM_WORLD);
        MPI_Barrier(MPI_COMM_WORLD);
        uint64_t t0 = mu_now();
        if (call(op, way, n))
            fail(op->name);
        t += (double)(mu_now() - t0);
        MPI_Barrier(MPI_COMM_WORLD); /* who shares a CPU with one that is not through fills no input meanwhile */
    }
    t /= calls;
    MPI_Allreduce(&t, &slowest, 1, MPI_DOUBLE, MPI_MAX, MPI_COMM_WORLD);
    return slowest;
}

static long wrong(const struct op *op, int way, size_t n)
{
    float **b = buffers[way == PEER ? PRIVATE : way];
    size_t m = op->results(n);
    long bad = 0, sum_bad;

    memset(b[1], 0, m * sizeof(float));
    fill(op, way, n);
    if (call(op, way, n))
        fail(op->name);
    for (size_t i = 0; i < m; i++)
        bad += b[1][i] != op->want(i, n);
    MPI_Allreduce(&bad, &sum_bad, 1, MPI_LONG, MPI_SUM, MPI_COMM_WORLD);
    return sum_bad;
}

struct cell {
    double t[MOST_TRIALS], ratio[MOST_TRIALS];
    struct mu_stats time, against; /* against: the peer's time through this one's */
};

static const char *verdict(const struct cell *c)
{
    return c->against.ci_high < SLOWER ? "slower" : c->against.ci_low > 1 / SLOWER ? "faster" : "even";
}

/* WIRE: MB/s of a host's link, each way; HOSTS: how many. What the operation has to move over each link, as a part. */
static void wire_share(const struct op *op, size_t bytes, double ours, double peer)
{
    const char *wire = getenv("WIRE"), *hosts = getenv("HOSTS");
    double h = hosts ? atof(hosts) : 0, ns;

    if (!wire || h < 2)
        return;
    ns = (op->moves ? op->moves * (h - 1) / h : 1) * (double)bytes / atof(wire) * 1e3;
    printf("  of the wire: private %.0f %%, MPI %.0f %%", 100 * ns / ours, 100 * ns / peer);
}

/* Returns wrong elements, of muster's. */
static long measure(const struct op *op, size_t bytes, int trials, bool *slower)
{
    static struct cell cells[WAYS];
    size_t n = bytes / sizeof(float) / (op->total ? (size_t)size : 1);
    bool bound = op->peer == peer_allreduce && bytes >= (size_t)16 << 20;
    int calls[WAYS];
    char text[32];
    long theirs = wrong(op, PEER, n), bad = wrong(op, PRIVATE, n) + wrong(op, MAPPED, n);

    for (int w = 0; w < WAYS; w++) {
        double t = w == BOUND && !bound ? BATCH_NS : batch(op, w, n, bytes, bytes < ALONE ? 20 : 2);

        calls[w] = t * 1000 < BATCH_NS ? 1000 : t > BATCH_NS ? 1 : (int)(BATCH_NS / t);
    }
    for (int w = 0; w < BOUND && rest; w++) /* what a bucket lets through at once is a larger part of fewer calls */
        for (int v = 0; v < BOUND; v++)
            calls[w] = calls[v] < calls[w] ? calls[v] : calls[w];
    for (int i = 0; i < trials; i++) {
        for (int k = 0; k < WAYS; k++) {
            int w = (k + i) % WAYS; /* nobody is always behind the same one */

            if (w != BOUND || bound)
                cells[w].t[i] = batch(op, w, n, bytes, calls[w]);
        }
        for (int w = 0; w < WAYS; w++)
            cells[w].ratio[i] = cells[PEER].t[i] / cells[w].t[i];
    }
    for (int w = 0; w < (bound ? WAYS : BOUND); w++) {
        mu_stats_of(cells[w].t, (size_t)trials, &cells[w].time);
        mu_stats_of(cells[w].ratio, (size_t)trials, &cells[w].against);
    }
    *slower |= cells[PRIVATE].against.ci_high < SLOWER;
    if (rank)
        return bad;
    printf("%-14s %2d %8s", op->name, size, mu_str_fmt_size(text, sizeof text, bytes));
    for (int w = 0; w < BOUND; w++)
        printf(" %11.2f %11.2f", cells[w].time.p50 / 1e3, cells[w].time.min / 1e3);
    for (int w = PRIVATE; w < BOUND; w++)
        printf("  %6.2f [%.2f, %.2f] %s", cells[w].against.p50, cells[w].against.ci_low, cells[w].against.ci_high,
               verdict(&cells[w]));
    if (bound)
        printf("  bound %.2f GB/s, mapped at %.0f %% (%.0f %% of minima)",
               2.0 * (double)bytes * size / cells[BOUND].time.p50, 100 * cells[BOUND].time.p50 / cells[MAPPED].time.p50,
               100 * cells[BOUND].time.min / cells[MAPPED].time.min);
    wire_share(op, bytes, cells[PRIVATE].time.p50, cells[PEER].time.p50);
    printf("%s\n", bad ? "  WRONG: muster" : theirs ? "  WRONG: MPI" : "");
    fflush(stdout);
    return bad;
}

static size_t option(const char *name, size_t otherwise)
{
    const char *s = getenv(name);
    char *end;
    unsigned long long v = s ? strtoull(s, &end, 10) : 0;

    return !v ? otherwise : (size_t)v << (*end == 'M' ? 20 : *end == 'K' ? 10 : 0);
}

int main(int argc, char **argv)
{
    int level;

    MPI_Init_thread(&argc, &argv, MPI_THREAD_SERIALIZED, &level);
    if (muster_init(&argc, &argv) < 0) {
        fprintf(stderr, "bench_peers: %s\n", muster_last_error());
        MPI_Abort(MPI_COMM_WORLD, 1);
    }
    rank = muster_rank(muster_world());
    size = muster_size(muster_world());

    size_t min = option("MIN", 8), max = option("MAX", (size_t)256 << 20), trials = option("TRIALS", 11);
    const char *only = getenv("OPS");
    bool slower = false;
    long bad = 0;

    rest = (unsigned)option("REST", 0);
    trials = trials > MOST_TRIALS ? MOST_TRIALS : trials < 1 ? 1 : trials;
    for (int i = 0; i < 2; i++) {
        buffers[PRIVATE][i] = aligned_alloc((size_t)2 << 20, (max + ((size_t)2 << 20)) & ~(((size_t)2 << 20) - 1));
        buffers[MAPPED][i] = muster_mem_alloc(max);
        if (!buffers[PRIVATE][i] || !buffers[MAPPED][i])
            fail("no memory: set MAX to less");
    }
    if (rank == 0)
        printf("%-14s %2s %8s %11s %11s %11s %11s %11s %11s  %s\n", "op", "p", "size", "MPI us", "min", "private",
               "min", "mapped", "min", "MPI / private, MPI / mapped [95 %]");
    for (size_t o = 0; o < MU_COUNT(ops); o++)
        for (size_t bytes = min; bytes <= max && (!only || strstr(only, ops[o].name)); bytes *= 2)
            if (bytes / sizeof(float) / (ops[o].total ? (size_t)size : 1))
                bad += measure(&ops[o], bytes, (int)trials, &slower);
    for (int i = 0; i < 2; i++) {
        free(buffers[PRIVATE][i]);
        muster_mem_free(buffers[MAPPED][i]);
    }
    if (muster_finalize() < 0)
        fail("finalize");
    MPI_Finalize();
    return bad != 0;
}
