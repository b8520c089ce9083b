/* The same calls again and again: coll_repeat [TIMES]. Every time the ranks are late by other amounts, and buffers lie
 * elsewhere and have held something else; results must have the bits of the first time, those of all-reduces on all
 * ranks. */
#include <stdlib.h>
#include <unistd.h>

#include "muster.h"
#include "tests/mpi/check.h"
#include "tests/mpi/values.h"

#define MOST ((size_t)300001) /* elements */
#define MARGIN ((size_t)64)

static muster_comm *world;
static int rank, size;
static unsigned char *mem[2][2]; /* private and mapped; in, out */

static const struct call {
    const char *name;
    muster_dtype dtype;
    muster_op op;
    size_t count; /* of a block */
} calls[] = {
    {"allreduce", MUSTER_FLOAT32, MUSTER_SUM, 1},          {"allreduce", MUSTER_FLOAT32, MUSTER_SUM, 1000},
    {"allreduce", MUSTER_FLOAT32, MUSTER_SUM, 20001},      {"allreduce", MUSTER_FLOAT32, MUSTER_AVG, 300001},
    {"allreduce", MUSTER_FLOAT64, MUSTER_PROD, 5000},      {"allreduce", MUSTER_BFLOAT16, MUSTER_SUM, 70001},
    {"allreduce", MUSTER_FLOAT16, MUSTER_AVG, 3001},       {"allreduce", MUSTER_FLOAT8_E4M3, MUSTER_SUM, 4099},
    {"reduce", MUSTER_FLOAT32, MUSTER_SUM, 40001},         {"reduce", MUSTER_BFLOAT16, MUSTER_SUM, 33},
    {"reduce_scatter", MUSTER_FLOAT32, MUSTER_SUM, 30001}, {"reduce_scatter", MUSTER_FLOAT32, MUSTER_SUM, 7},
    {"reduce_scatter", MUSTER_FLOAT64, MUSTER_SUM, 2000},
};
#define CALLS (sizeof calls / sizeof calls[0])

static uint64_t hash(const unsigned char *p, size_t n)
{
    uint64_t h = n, u;

    for (size_t i = 0; i < n; i += 8) {
        u = 0;
        memcpy(&u, p + i, n - i < 8 ? n - i : 8);
        h = mix(h ^ u);
    }
    return h;
}

/* Of any size: what their sum is depends on the order. */
static void fill(unsigned char *p, muster_dtype t, size_t n, unsigned which)
{
    for (size_t i = 0; i < n; i++) {
        uint64_t r = mix((uint64_t)rank << 48 ^ i << 8 ^ which);
        double v = ldexp((double)(r >> 40) - (1 << 23), (int)(r % 12) - 28);
        uint64_t u = from_double(t, v);

        memcpy(p + i * width[t], &u, width[t]);
    }
}

static uint64_t once(unsigned which, int mapped, uint64_t chance)
{
    const struct call *c = &calls[which];
    size_t w = width[c->dtype], blocks = c->name[6] == '_' ? (size_t)size : 1, given = c->count * blocks;
    unsigned char *in = mem[mapped][0] + (chance >> 8) % (MARGIN / w) * w;
    unsigned char *out = mem[mapped][1] + (chance >> 16) % (MARGIN / w) * w;
    int root = (int)which % size, in_place = blocks == 1 && c->name[0] == 'a' && chance >> 24 & 1, rc;

    fill(in_place ? out : in, c->dtype, given, which);
    if (!in_place)
        memset(out, (int)(chance >> 32), c->count * w);
    if (chance % 4 == 0)
        usleep((unsigned)(chance >> 40) % 200);
    if (in_place)
        in = out;
    if (blocks > 1)
        rc = muster_reduce_scatter(in, out, c->count, c->dtype, c->op, world);
    else if (c->name[0] == 'a')
        rc = muster_allreduce(in, out, c->count, c->dtype, c->op, world);
    else
        rc = muster_reduce(in, out, c->count, c->dtype, c->op, root, world);
    if (rc < 0) {
        printf("# rank %d: muster_%s: %s\n", rank, c->name, muster_last_error());
        MPI_Abort(MPI_COMM_WORLD, 1);
    }
    return c->name[0] == 'r' && blocks == 1 && rank != root ? 0 : hash(out, c->count * w);
}

int main(int argc, char **argv)
{
    uint64_t first[CALLS], all = 0, sum = 0;
    unsigned times, bad = 0, differ = 0;

    if (muster_init(&argc, &argv) < 0) {
        fprintf(stderr, "coll_repeat: %s\n", muster_last_error());
        return 99;
    }
    times = argc > 1 && atoi(argv[1]) > 0 ? (unsigned)atoi(argv[1]) : 20;
    world = muster_world();
    rank = muster_rank(world);
    size = muster_size(world);
    for (int k = 0; k < 4; k++) {
        size_t bytes = MOST * 8 + MARGIN;

        mem[k / 2][k % 2] = k / 2 ? muster_mem_alloc(bytes) : malloc(bytes);
        if (!mem[k / 2][k % 2])
            MPI_Abort(MPI_COMM_WORLD, 1);
    }
    for (unsigned n = 0; n < times; n++)
        for (unsigned k = 0; k < CALLS; k++)
            for (int mapped = 0; mapped < 2; mapped++) {
                /* Whether it is in place and where it lies may differ between ranks. */
                uint64_t h = once(k, mapped, mix((uint64_t)n << 32 | k << 16 | (unsigned)mapped << 8 | (unsigned)rank));

                if (n == 0 && mapped == 0)
                    first[k] = h;
                if (h != first[k] && !bad++)
                    printf("# rank %d: time %u of muster_%s, count %zu, has other bits\n", rank, n + 1, calls[k].name,
                           calls[k].count);
            }
    check(!bad, "%zu calls, %u times, in private and in mapped memory: the same bits", CALLS, times);
    for (unsigned k = 0; k < CALLS; k++) {
        uint64_t low, high;

        MPI_Allreduce(&first[k], &low, 1, MPI_UINT64_T, MPI_MIN, MPI_COMM_WORLD);
        MPI_Allreduce(&first[k], &high, 1, MPI_UINT64_T, MPI_MAX, MPI_COMM_WORLD);
        differ += calls[k].name[0] == 'a' && low != high;
        all = mix(all ^ first[k]);
    }
    check(!differ, "all-reduces have the same bits on all ranks");
    MPI_Reduce(&all, &sum, 1, MPI_UINT64_T, MPI_SUM, 0, MPI_COMM_WORLD);
    if (rank == 0)
        printf("# digest %016llx\n", (unsigned long long)sum);
    for (int k = 0; k < 4; k++)
        k / 2 ? (void)muster_mem_free(mem[k / 2][k % 2]) : free(mem[k / 2][k % 2]);
    bad = (unsigned)check_done();
    return muster_finalize() < 0 || bad;
}
