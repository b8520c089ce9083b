/* A rank of one library, for bench_others.py: sleeps in a pipe of its own while the others' turn is, so that no rank
 * that polls is in their way. Commands are lines "WAY OP BYTES CALLS" in DIR/NAME.RANK; CALLS 0: are the results right?
 * Rank 0 answers "NS WRONG" in DIR/NAME.out. C and C++. */
#ifndef TESTS_PEERS_WORKER_H
#define TESTS_PEERS_WORKER_H

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { ALLREDUCE, REDUCE_SCATTER, ALLGATHER, BROADCAST };

#define WORKER_ALONE 16384 /* bytes from which every call is timed alone */

struct worker {
    const char *name;
    int rank, size;
    /* n: elements of a block; in place for all-reduce and broadcast (recv). 0, or it has failed. */
    int (*call)(int op, float *send, float *recv, size_t n);
    void (*barrier)(void);
    double (*most)(double); /* of all ranks */
    float *(*get)(int way, size_t bytes);
    void (*put)(int way, float *p);
};

static double worker_now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static float worker_value(int r, size_t i)
{
    return (float)((i * 7 + (size_t)r * 13) % 101);
}

static void worker_fill(const struct worker *w, int op, float *send, float *recv, size_t n)
{
    float *to = op == ALLREDUCE || op == BROADCAST ? recv : send;
    size_t m = op == REDUCE_SCATTER ? n * (size_t)w->size : n;

    for (size_t i = 0, x = (size_t)w->rank * 13 % 101; i < m; i++, x = (x + 7) % 101)
        to[i] = (float)x;
}

static long worker_wrong(const struct worker *w, int op, float *send, float *recv, size_t n)
{
    size_t m = op == ALLGATHER ? n * (size_t)w->size : n;
    long bad = 0;

    worker_fill(w, op, send, recv, n);
    if (w->call(op, send, recv, n))
        return 1;
    for (size_t i = 0; i < m; i++) {
        size_t at = op == REDUCE_SCATTER ? (size_t)w->rank * n + i : i;
        float want = op == ALLGATHER ? worker_value((int)(i / n), i % n) : worker_value(0, at);

        for (int r = 1; r < w->size && (op == ALLREDUCE || op == REDUCE_SCATTER); r++)
            want += worker_value(r, at);
        bad += recv[i] != want;
    }
    return bad;
}

static double worker_batch(const struct worker *w, int op, float *send, float *recv, size_t n, size_t bytes, int calls)
{
    int alone = bytes >= WORKER_ALONE;
    double t = 0, t0;

    worker_fill(w, op, send, recv, n);
    for (int i = 0; i < (alone ? calls : 1); i++) {
        if (alone)
            worker_fill(w, op, send, recv, n);
        w->barrier();
        w->barrier();
        t0 = worker_now();
        for (int k = 0; k < (alone ? 1 : calls); k++)
            if (w->call(op, send, recv, n))
                return -1;
        t += worker_now() - t0;
        if (alone)
            w->barrier(); /* who shares a CPU with one that is not through fills no input meanwhile */
    }
    return t / calls;
}

static int worker_main(const struct worker *w, const char *dir)
{
    char path[4096], line[128];
    FILE *in, *out = NULL;
    size_t held = 0;
    float *send = NULL, *recv = NULL;
    int way = 0, op, calls, held_way = 0;
    unsigned long bytes;

    snprintf(path, sizeof path, "%s/%s.%d", dir, w->name, w->rank);
    in = fopen(path, "r");
    snprintf(path, sizeof path, "%s/%s.out", dir, w->name);
    if (w->rank == 0)
        out = fopen(path, "w");
    if (!in || (w->rank == 0 && !out))
        return 1;
    while (fgets(line, sizeof line, in) && sscanf(line, "%d %d %lu %d", &way, &op, &bytes, &calls) == 4) {
        size_t n = bytes / sizeof(float) / (op == REDUCE_SCATTER || op == ALLGATHER ? (size_t)w->size : 1);
        double t = 0, wrong = 0;

        if (bytes != held || way != held_way) { /* those of the last size */
            if (held) {
                w->put(held_way, send);
                w->put(held_way, recv);
            }
            send = w->get(way, bytes);
            recv = w->get(way, bytes);
            if (!send || !recv)
                return 1;
            memset(send, 0, bytes);
            memset(recv, 0, bytes);
            held = bytes;
            held_way = way;
        }
        if (calls)
            t = worker_batch(w, op, send, recv, n, bytes, calls);
        else
            wrong = (double)worker_wrong(w, op, send, recv, n);
        t = w->most(t);
        wrong = w->most(wrong);
        if (w->rank == 0) {
            fprintf(out, "%.1f %.0f\n", t, wrong);
            fflush(out);
        }
    }
    return 0;
}

static float *worker_get(int way, size_t bytes)
{
    (void)way;
    return (float *)aligned_alloc(2 << 20, (bytes + (2 << 20) - 1) & ~(size_t)((2 << 20) - 1));
}

static void worker_put(int way, float *p)
{
    (void)way;
    free(p);
}

#endif
