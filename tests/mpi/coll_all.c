/* Every collective, dtype, op and many sizes against values computed here from all ranks' inputs; canaries around all
 * buffers. Prints a digest of all results: it does not depend on which algorithm ran. */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "muster.h"
#include "muster_mpi.h"
#include "tests/mpi/check.h"
#include "tests/mpi/values.h"

#define EDGE 64 /* bytes of canary on both sides */

static muster_comm *world;
static int rank, size;
static uint64_t digest = 1469598103934665603ull;

static const char *const type_name[] = {"int8",    "uint8",    "int32",   "uint32",  "int64",       "uint64",
                                        "float16", "bfloat16", "float32", "float64", "float8_e4m3", "float8_e5m2"};
static const char *const op_name[] = {"sum", "prod", "min", "max", "avg"};

/* --- inputs and expected values --- */

/* COLL_NODES: a letter for each rank, the same for those of one node; they are said to be on one when it is not set. */
static const char *nodes;
static int nnodes;

static int node_of(int r)
{
    return nodes && r < nnodes ? nodes[r] : 0;
}

/* Several nodes, one of them with several ranks. */
static int in_parts(const int *members, int n)
{
    int several = 0, beside = 0;

    for (int r = 1; r < n && nodes; r++)
        for (int k = 0; k < r; k++)
            *(node_of(members[r]) == node_of(members[k]) ? &beside : &several) = 1;
    return several && beside;
}

static int one_a_node(const int *members, int n)
{
    for (int r = 1; r < n; r++)
        for (int k = 0; k < r; k++)
            if (node_of(members[r]) == node_of(members[k]))
                return 0;
    return nodes != NULL;
}

/* Every node has as many ranks, one after another. */
static int in_a_row(void)
{
    int each = 0;

    while (each < size && node_of(each) == node_of(0))
        each++;
    for (int r = 0; r < size; r++)
        for (int k = 0; k < size; k++)
            if ((node_of(r) == node_of(k)) != (r / each == k / each))
                return 0;
    return size % each == 0;
}

static double step_float(muster_dtype t, muster_op op, double a, double x)
{
    double v = op == MUSTER_SUM || op == MUSTER_AVG ? a + x
               : op == MUSTER_PROD                  ? a * x
               : isnan(a) || isnan(x)               ? NAN
               : op == MUSTER_MIN                   ? (x < a ? x : a)
                                                    : (x > a ? x : a);

    return t == MUSTER_FLOAT64 ? v : (double)(float)v;
}

static double divided(muster_dtype t, double a, int n)
{
    return t == MUSTER_FLOAT64 ? a / n : (double)(float)(a / n);
}

/* What nodes have, in the order of a tree: the first 2^k of them, and the rest. */
static double tree_float(muster_dtype t, muster_op op, const double *part, int n)
{
    int first = 1;

    if (n == 1)
        return part[0];
    while (2 * first < n)
        first *= 2;
    return step_float(t, op, tree_float(t, op, part, first), tree_float(t, op, part + first, n - first));
}

/* Rank by rank, or by nodes: inside a node rank by rank, then rounded to the type, and these in a tree. */
static double expected_float(muster_dtype t, muster_op op, const int *members, int n, size_t i, int by_node)
{
    int narrow = t == MUSTER_FLOAT16 || t == MUSTER_BFLOAT16 || t > MUSTER_FLOAT64;
    int apart = by_node || one_a_node(members, n), parts = 0;
    double part[64], all, a = 0;

    for (int first = 0; first < n; first++) {
        int begun = 0, known = 0;

        for (int k = 0; k < first; k++)
            known |= !apart || node_of(members[k]) == node_of(members[first]);
        if (known)
            continue;
        for (int r = first; r < n; r++) {
            double x = to_double(t, bits(t, members[r], i));

            if (apart && node_of(members[r]) != node_of(members[first]))
                continue;
            a = begun++ ? step_float(t, op, a, x) : x;
        }
        if (by_node && narrow && op == MUSTER_AVG) /* narrow floats are divided inside the nodes */
            a = divided(t, a, n);
        if (by_node)
            a = to_double(t, from_double(t, a));
        part[parts++] = a;
    }
    all = tree_float(t, op, part, parts);
    return op == MUSTER_AVG && !(by_node && narrow) ? divided(t, all, n) : all;
}

/* members: world ranks in the order of the communicator. */
static uint64_t expected(muster_dtype t, muster_op op, const int *members, int n, size_t i, int by_node)
{
    uint64_t mask = width[t] == 8 ? UINT64_MAX : (1ull << 8 * width[t]) - 1, acc = bits(t, members[0], i);
    int is_signed = t < MUSTER_FLOAT16 && t % 2 == 0;

    if (t >= MUSTER_FLOAT16)
        return from_double(t, expected_float(t, op, members, n, i, by_node && in_parts(members, n)));
    for (int r = 1; r < n; r++) {
        uint64_t u = bits(t, members[r], i);

        if (op == MUSTER_SUM || op == MUSTER_AVG) {
            acc = (acc + u) & mask;
        } else if (op == MUSTER_PROD) {
            acc = (acc * u) & mask;
        } else {
            int less = is_signed ? sign_extended(u, width[t]) < sign_extended(acc, width[t]) : u < acc;

            acc = (op == MUSTER_MIN) == less ? u : acc;
        }
    }
    if (op == MUSTER_AVG)
        acc = (is_signed ? (uint64_t)(sign_extended(acc, width[t]) / n) : acc / (uint64_t)n) & mask;
    return acc;
}

/* --- buffers --- */

struct buf {
    unsigned char *all, *p;
    size_t bytes;
    int mapped;
};

/* COLL_MEMORY: private (the default), mapped, or mixed: some ranks' some buffers are mapped. */
static int is_mapped(void)
{
    const char *m = getenv("COLL_MEMORY");

    return m && (!strcmp(m, "mapped") || (!strcmp(m, "mixed") && mix(salt * 64 + (unsigned)rank) % 3));
}

static struct buf buf_new(size_t bytes, unsigned shift)
{
    struct buf b = {.bytes = bytes};

    b.mapped = is_mapped();
    b.all = b.mapped ? muster_mem_alloc(bytes + 2 * EDGE + 8) : malloc(bytes + 2 * EDGE + 8);
    memset(b.all, 0xa5, bytes + 2 * EDGE + 8);
    b.p = b.all + EDGE + shift;
    return b;
}

static int buf_free(struct buf *b) /* 1 when nothing around it was touched */
{
    int ok = 1;

    for (unsigned char *q = b->all; q < b->p; q++)
        ok &= *q == 0xa5;
    for (unsigned char *q = b->p + b->bytes; q < b->all + b->bytes + 2 * EDGE + 8; q++)
        ok &= *q == 0xa5;
    for (size_t i = 0; i < b->bytes; i += 8) { /* eight bytes at once: most of the test's time is its own */
        uint64_t u = b->bytes;
        memcpy(&u, b->p + i, b->bytes - i < 8 ? b->bytes - i : 8);
        digest = (digest ^ u) * 1099511628211ull;
        digest ^= digest >> 32;
    }
    if (b->mapped)
        muster_mem_free(b->all);
    else
        free(b->all);
    return ok;
}

static void fill(void *p, muster_dtype t, int r, size_t from, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint64_t u = bits(t, r, from + i);

        memcpy((char *)p + i * width[t], &u, width[t]);
    }
}

static int holds(const void *p, muster_dtype t, size_t i, uint64_t want)
{
    uint64_t u = 0;

    memcpy(&u, (const char *)p + i * width[t], width[t]);
    return u == want;
}

static int is_input(const void *p, muster_dtype t, int r, size_t from, size_t n)
{
    int ok = 1;

    for (size_t i = 0; i < n; i++)
        ok &= holds(p, t, i, bits(t, r, from + i));
    return ok;
}

static int *everybody(void)
{
    static int all[64];

    for (int i = 0; i < size; i++)
        all[i] = i;
    return all;
}

/* --- one call each; 1 when all is right --- */

static int do_allreduce(size_t n, muster_dtype t, muster_op op, int in_place)
{
    struct buf in = buf_new(n * width[t], n % 5), out = buf_new(n * width[t], n % 3);
    int ok;

    salt++;
    fill(in.p, t, rank, 0, n);
    memcpy(out.p, in.p, in_place ? n * width[t] : 0);
    ok = muster_allreduce(in_place ? out.p : in.p, out.p, n, t, op, world) == 0;
    for (size_t i = 0; i < n; i++)
        ok &= holds(out.p, t, i, expected(t, op, everybody(), size, i, 1));
    ok &= is_input(in.p, t, rank, 0, n);
    return buf_free(&in) & buf_free(&out) & ok;
}

static int do_reduce(size_t n, muster_dtype t, muster_op op, int in_place)
{
    int root = (int)(n % (size_t)size), ok;
    struct buf in = buf_new(n * width[t], n % 5), out = buf_new(rank == root ? n * width[t] : 0, n % 3);

    salt++;
    fill(in.p, t, rank, 0, n);
    if (rank == root && in_place)
        memcpy(out.p, in.p, n * width[t]);
    ok =
        muster_reduce(rank == root && in_place ? out.p : in.p, rank == root ? out.p : NULL, n, t, op, root, world) == 0;
    for (size_t i = 0; i < n && rank == root; i++)
        ok &= holds(out.p, t, i, expected(t, op, everybody(), size, i, 1));
    ok &= is_input(in.p, t, rank, 0, n);
    return buf_free(&in) & buf_free(&out) & ok;
}

static int do_reduce_scatter(size_t n, muster_dtype t, muster_op op, int in_place)
{
    struct buf in = buf_new(n * width[t] * (size_t)size, n % 5), out = buf_new(n * width[t], n % 3);
    unsigned char *at = in_place ? in.p + (size_t)rank * n * width[t] : out.p;
    int ok;

    salt++;
    fill(in.p, t, rank, 0, n * (size_t)size);
    ok = muster_reduce_scatter(in.p, at, n, t, op, world) == 0;
    for (size_t i = 0; i < n; i++)
        ok &= holds(at, t, i, expected(t, op, everybody(), size, (size_t)rank * n + i, in_a_row()));
    return buf_free(&in) & buf_free(&out) & ok;
}

static int do_allgather(size_t n, muster_dtype t, muster_op op, int in_place)
{
    struct buf in = buf_new(n * width[t], n % 5), out = buf_new(n * width[t] * (size_t)size, n % 3);
    unsigned char *at = in_place ? out.p + (size_t)rank * n * width[t] : in.p;
    int ok;

    (void)op;
    salt++;
    fill(at, t, rank, 0, n);
    ok = muster_allgather(at, out.p, n, t, world) == 0;
    for (int r = 0; r < size; r++)
        ok &= is_input(out.p + (size_t)r * n * width[t], t, r, 0, n);
    return buf_free(&in) & buf_free(&out) & ok;
}

static int do_alltoall(size_t n, muster_dtype t, muster_op op, int in_place)
{
    struct buf in = buf_new(n * width[t] * (size_t)size, n % 5), out = buf_new(n * width[t] * (size_t)size, n % 3);
    unsigned char *at = in_place ? out.p : in.p;
    int ok;

    (void)op;
    salt++;
    fill(at, t, rank, 0, n * (size_t)size);
    ok = muster_alltoall(at, out.p, n, t, world) == 0;
    for (int r = 0; r < size; r++)
        ok &= is_input(out.p + (size_t)r * n * width[t], t, r, (size_t)rank * n, n);
    return buf_free(&in) & buf_free(&out) & ok;
}

static int do_broadcast(size_t n, muster_dtype t, muster_op op, int in_place)
{
    struct buf b = buf_new(n * width[t], n % 5);
    int root = (int)((n + (size_t)in_place) % (size_t)size), ok;

    (void)op;
    salt++;
    if (rank == root)
        fill(b.p, t, root, 0, n);
    ok = muster_broadcast(b.p, n, t, root, world) == 0 && is_input(b.p, t, root, 0, n);
    return buf_free(&b) & ok;
}

static const struct {
    const char *name;
    int (*run)(size_t n, muster_dtype t, muster_op op, int in_place);
    int nops;
} calls[] = {
    {"allreduce", do_allreduce, 5}, {"reduce", do_reduce, 5},     {"reduce_scatter", do_reduce_scatter, 5},
    {"allgather", do_allgather, 1}, {"alltoall", do_alltoall, 1}, {"broadcast", do_broadcast, 1},
};

static void small_sizes(void)
{
    for (size_t c = 0; c < sizeof calls / sizeof calls[0]; c++) {
        int ok = 1;

        for (int t = MUSTER_INT8; t <= MUSTER_FLOAT8_E5M2; t++)
            for (int op = 0; op < calls[c].nops; op++)
                for (size_t n = 0; n <= 40; n += c == 0 || op == 0 || n == 0 ? 1 : 13)
                    for (int in_place = 0; in_place < 2; in_place++) {
                        int one = calls[c].run(n, (muster_dtype)t, (muster_op)op, in_place);

                        if (!one && ok)
                            printf("# rank %d: %s %s %s, %zu elements, in place %d\n", rank, calls[c].name,
                                   type_name[t], op_name[op], n, in_place);
                        ok &= one;
                    }
        check(ok, "%s: 0 to 40 elements of all types, all operations", calls[c].name);
    }
}

static void thresholds(void)
{
    /* COLL_SHORT: large ones with one number of elements of one of the wider types: most of the time goes into what is
     * expected of each element */
    const size_t p = (size_t)size, bytes[] = {56,        56 / p, 1024,   8192,       8192 / p,  16384,
                                              32768 / p, 65536,  131072, 131072 / p, 65536 * p, 65536 * 9};
    int shorter = getenv("COLL_SHORT") != NULL;

    for (size_t c = 0; c < sizeof calls / sizeof calls[0]; c++) {
        int ok = 1;

        for (size_t k = 0; k < sizeof bytes / sizeof bytes[0]; k++) {
            int few = shorter && bytes[k] > 100000;

            for (int t = MUSTER_INT8; t <= MUSTER_FLOAT64; t += 3)
                for (size_t d = few ? 1 : 0;
                     d < (few ? 2 : 3) && (!few || t == ((k + c) % 2 ? MUSTER_FLOAT64 : MUSTER_UINT32)); d++)
                    ok &= calls[c].run((bytes[k] / width[t] + d) - (bytes[k] / width[t] > 0), (muster_dtype)t,
                                       MUSTER_SUM, (int)(d & 1));
        }
        check(ok, "%s: around the sizes where something changes", calls[c].name);
    }
}

static void chunks(void)
{
    int ok = 1, shorter = getenv("COLL_SHORT") != NULL;

    for (size_t c = 0; c < sizeof calls / sizeof calls[0]; c++)
        if ((c < 2 || c == 5) && shorter)
            ok &=
                calls[c].run(350001, MUSTER_FLOAT64, MUSTER_SUM, 0) & calls[c].run(200000, MUSTER_INT64, MUSTER_AVG, 1);
        else if (c < 2 || c == 5)
            ok &=
                calls[c].run(700001, MUSTER_FLOAT32, MUSTER_SUM, 0) & calls[c].run(1600000, MUSTER_INT8, MUSTER_AVG, 1);
    check(ok, "several chunks on their way at once");
}

static void large(void)
{
    for (size_t c = 0; c < sizeof calls / sizeof calls[0]; c++) {
        int ok = calls[c].run(1000000, MUSTER_FLOAT32, MUSTER_SUM, 0) &
                 calls[c].run(1000003, MUSTER_BFLOAT16, MUSTER_AVG, 1);

        check(ok, "%s: a million elements", calls[c].name);
    }
}

/* --- the rest of the library --- */

static void splits(void)
{
    muster_comm *half = NULL, *back = NULL, *none = (muster_comm *)&salt, *quarter = NULL;
    int members[64], n = 0, ok;
    int64_t x, y;
    uint64_t mine;

    ok = muster_comm_split(world, rank % 2, rank, &half) == 0;
    for (int r = rank % 2; r < size; r += 2)
        members[n++] = r;
    ok = ok && muster_size(half) == n && members[muster_rank(half)] == rank;
    salt++;
    mine = bits(MUSTER_INT64, rank, 0);
    memcpy(&x, &mine, 8);
    ok = ok && muster_allreduce(&x, &y, 1, MUSTER_INT64, MUSTER_MAX, half) == 0;
    ok = ok && (uint64_t)y == expected(MUSTER_INT64, MUSTER_MAX, members, n, 0, 1);
    check(ok, "split into halves, each with its own result");

    ok = muster_comm_split(world, 7, -rank, &back) == 0 && muster_rank(back) == size - 1 - rank;
    x = rank;
    ok = ok && muster_broadcast(&x, 1, MUSTER_INT64, 0, back) == 0 && x == size - 1;
    check(ok, "split with keys that turn the order round");

    ok = muster_comm_split(world, rank ? -1 : 3, 0, &none) == 0 && (rank ? none == NULL : muster_size(none) == 1);
    check(ok, "a negative colour takes part and gets nothing");

    ok = muster_comm_split(half, muster_rank(half) / 2, 0, &quarter) == 0;
    x = 1;
    ok = ok && muster_allreduce(&x, &y, 1, MUSTER_INT64, MUSTER_SUM, quarter) == 0 && y == muster_size(quarter);
    x = 1;
    ok = ok && muster_allreduce(&x, &y, 1, MUSTER_INT64, MUSTER_SUM, world) == 0 && y == size;
    check(ok, "a split of a split; the world goes on");

    ok = muster_comm_free(quarter) == 0 && muster_comm_free(back) == 0 && (!none || muster_comm_free(none) == 0);
    for (int i = 0; i < 50; i++) {
        muster_comm *c = NULL;

        ok = ok && muster_comm_split(world, (rank + i) % 2, i, &c) == 0;
        x = 1;
        ok = ok && muster_allreduce(&x, &y, 1, MUSTER_INT64, MUSTER_SUM, c) == 0 && y == muster_size(c);
        ok = ok && muster_comm_free(c) == 0;
    }
    ok = ok && muster_comm_free(half) == 0;
    check(ok, "fifty communicators, one after another");
    ok = muster_comm_free(half) == MUSTER_EARG && muster_barrier(half) == MUSTER_EARG &&
         strstr(muster_last_error(), "freed") != NULL;
    check(ok, "a freed communicator is refused");
}

static void overlapping(void)
{
    enum { K = 8 };
    muster_comm *other = NULL;
    muster_request *req[2 * K] = {0};
    float *in[2 * K], *out[2 * K];
    int ok = muster_comm_split(world, 0, -rank, &other) == 0, done = 0, polls = 0;

    for (int k = 0; k < 2 * K; k++) {
        size_t n = (size_t)1 << (2 * k % 19);

        in[k] = malloc(n * sizeof(float));
        out[k] = malloc(n * sizeof(float));
        for (size_t i = 0; i < n; i++)
            in[k][i] = (float)(rank + k);
        ok = ok && muster_iallreduce(in[k], out[k], n, MUSTER_FLOAT32, MUSTER_SUM, k % 2 ? world : other, &req[k]) == 0;
    }
    /* Blocking calls between, on the same communicators. */
    int64_t x = rank == 0 ? 42 : 0;
    ok = ok && muster_broadcast(&x, 1, MUSTER_INT64, 0, world) == 0 && x == 42 && muster_barrier(other) == 0;
    while (ok && !done && polls++ < 100000000)
        ok = muster_test(req[3], &done) == 0;
    ok = ok && done && muster_test(req[3], &done) == 0 && done;
    for (int k = 2 * K - 1; k >= 0; k--) {
        size_t n = (size_t)1 << (2 * k % 19);

        ok = ok && muster_wait(&req[k]) == 0 && req[k] == NULL;
        for (size_t i = 0; ok && i < n; i++)
            ok &= out[k][i] == (float)(size * (size - 1) / 2 + size * k);
        free(in[k]);
        free(out[k]);
    }
    ok = ok && muster_wait(&req[0]) == 0; /* nothing to wait for */
    check(ok, "sixteen all-reduces at once on two communicators, waited for backwards");
    check(muster_comm_free(other) == 0, "their communicator can be freed afterwards");
}

/* Whether somebody else has written all of it by now. */
__attribute__((no_sanitize("thread"))) static int all_are(const volatile float *v, size_t n, float want)
{
    while (n > 0 && v[n - 1] == want)
        n--;
    return n == 0;
}

/* With a thread of the library (MUSTER_PROGRESS=1) requests get on while nobody is in it. */
static void in_background(void)
{
    enum { N = 2000000 };
    float *in = malloc(N * sizeof *in), *out = calloc(N, sizeof *out), want = (float)(size * (size + 1) / 2);
    const char *on = getenv("MUSTER_PROGRESS");
    muster_request *req = NULL;
    int ok = muster_barrier(world) == 0;

    for (size_t i = 0; i < N; i++)
        in[i] = (float)(rank + 1);
    ok = ok && muster_iallreduce(in, out, N, MUSTER_FLOAT32, MUSTER_SUM, world, &req) == 0;
    if (size > 1 && on && *on == '1') {
        for (int i = 0; ok && i < 6000 && !all_are(out, N, want); i++)
            usleep(10000);
        ok = ok && all_are(out, N, want);
    }
    ok = muster_wait(&req) == 0 && ok && all_are(out, N, want);
    free(in);
    free(out);
    check(ok, "a request whose program is busy with something else");
}

/* What goes between ranks has half the bytes: what that can hold is exact, what it cannot is rounded once. */
static void narrow_buckets(void)
{
    enum { N = 1000 };
    float x[2][N], big = rank ? 1 : 256;
    muster_bucket *b = NULL;
    int ok = 1, wrong = 0;

    for (int type = 0; type < 2; type++) {
        ok = ok && muster_bucket_open(world, MUSTER_FLOAT32, MUSTER_SUM, 0, &b) == 0 &&
             muster_bucket_wire(b, type ? MUSTER_FLOAT16 : MUSTER_BFLOAT16) == 0 &&
             muster_bucket_add(b, x[0], N) == 0 && muster_bucket_add(b, &big, 1) == 0 &&
             muster_bucket_add(b, x[1], N) == 0 && muster_bucket_wire(b, MUSTER_BFLOAT16) == MUSTER_EARG;
        big = rank ? 1 : 256;
        for (int i = 0; i < N; i++) {
            x[0][i] = (float)(i % 16);
            x[1][i] = 1 + 0x1p-14f; /* becomes 1 */
        }
        for (size_t t = 3; ok && t-- > 0;)
            ok = muster_bucket_ready(b, t) == 0;
        ok = ok && muster_bucket_wait(b) == 0;
        for (int i = 0; ok && i < N; i++)
            wrong += x[0][i] != (float)(i % 16 * size) || x[1][i] != (float)size;
        /* bfloat16 has even numbers there; summed in it, those of the other ranks would be lost */
        if (!in_parts(everybody(), size)) /* else what a node has reduced is rounded, too */
            ok = ok && (type || size % 2 == 0 || big == 256 + (float)(size - 1)) && big >= 256 + (float)(size - 2);
        ok = muster_bucket_close(b) == 0 && ok;
        b = NULL;
    }
    check(ok && !wrong, "buckets: float32 that goes as 16 bits");
    ok = muster_bucket_open(world, MUSTER_FLOAT64, MUSTER_SUM, 0, &b) == 0 &&
         muster_bucket_wire(b, MUSTER_BFLOAT16) == MUSTER_EARG &&
         strstr(muster_last_error(), "bfloat16 between ranks for float64") &&
         muster_bucket_wire(NULL, MUSTER_BFLOAT16) == MUSTER_EARG && muster_bucket_close(b) == 0;
    check(ok, "buckets: no other types");
}

static void buckets(void)
{
    enum { T = 40 };
    muster_bucket *b = NULL, *none = NULL;
    muster_comm *other = NULL;
    size_t count[T], at = 0;
    float *all = muster_mem_alloc((size_t)1 << 20), *apart[T];
    int ok = muster_bucket_open(world, MUSTER_FLOAT32, MUSTER_SUM, 20000, &b) == 0;

    for (int t = 0; t < T; t++) { /* half of them side by side, downwards; the others anywhere */
        count[t] = t == 7 ? 0 : t == 9 ? 9000 : (size_t)(mix((uint64_t)t + 1) % 3000);
        apart[t] = t < T / 2 ? NULL : malloc((count[t] + 1) * sizeof(float));
    }
    for (int t = T / 2 - 1; t >= 0; at += count[t--])
        apart[t] = all + at;
    for (int t = 0; t < T; t++)
        ok = ok && muster_bucket_add(b, apart[t], count[t]) == 0;
    for (int step = 0; step < 3; step++) {
        for (int t = 0; t < T; t++)
            for (size_t i = 0; i < count[t]; i++)
                apart[t][i] = (float)(rank + t + step);
        for (int k = 0; k < T; k++) /* in another order on each rank */
            ok = ok && muster_bucket_ready(b, (size_t)((k * 7 + rank * 3 + step) % T)) == 0;
        ok = ok && muster_bucket_wait(b) == 0;
        for (int t = 0; t < T; t++)
            for (size_t i = 0; i < count[t]; i++)
                ok &= apart[t][i] == (float)(size * (size - 1) / 2 + size * (t + step));
    }
    check(ok, "buckets: tensors ready in any order, side by side or apart, three steps");
    ok = muster_bucket_ready(b, T) == MUSTER_EARG && muster_bucket_ready(b, 1) == 0 &&
         muster_bucket_ready(b, 1) == MUSTER_EARG && strstr(muster_last_error(), "tensor 1 is ready already") &&
         muster_bucket_wait(b) == MUSTER_EARG && strstr(muster_last_error(), "tensor 0 is not ready") &&
         muster_bucket_add(b, all, 1) == MUSTER_EARG && muster_bucket_ready(NULL, 0) == MUSTER_EARG &&
         muster_bucket_open(world, (muster_dtype)77, MUSTER_SUM, 0, &none) == MUSTER_EARG &&
         muster_bucket_open(NULL, MUSTER_FLOAT32, MUSTER_SUM, 0, &none) == MUSTER_EARG && !none;
    check(ok, "buckets: what is wrong is refused");
    check(muster_bucket_close(b) == 0 && muster_bucket_close(NULL) == 0, "buckets: closed");
    ok = muster_comm_split(world, 0, rank, &other) == 0 &&
         muster_bucket_open(other, MUSTER_FLOAT32, MUSTER_SUM, SIZE_MAX, &b) == 0 &&
         muster_bucket_add(b, all, (size_t)1 << 60) == 0 && muster_bucket_add(b, all, (size_t)1 << 60) == MUSTER_EARG &&
         muster_comm_free(other) == MUSTER_EARG && strstr(muster_last_error(), "muster_bucket_close") &&
         muster_bucket_close(b) == 0 && muster_comm_free(other) == 0 &&
         muster_bucket_open(other, MUSTER_FLOAT32, MUSTER_SUM, 0, &none) == MUSTER_EARG && !none;
    check(ok, "buckets: their communicator outlives them; together they fit in memory");
    narrow_buckets();
    for (int t = T / 2; t < T; t++)
        free(apart[t]);
    muster_mem_free(all);
}

static void point_to_point(void)
{
    int right = (rank + 1) % size, left = (rank + size - 1) % size, ok = 1;
    size_t big = 700001;
    float *a = malloc(big * sizeof *a), *b = malloc(big * sizeof *b);
    int32_t v[3] = {0};

    if (size == 1) {
        ok = muster_send(a, 1, MUSTER_FLOAT32, 0, 0, world) == MUSTER_EARG;
        check(ok, "a rank does not send to itself");
        free(a);
        free(b);
        return;
    }
    for (size_t i = 0; i < big; i++)
        a[i] = (float)(rank * 1000) + (float)(i % 1000);
    /* Around the ring; one rank receives first. */
    for (int half = 0; half < 2; half++)
        if ((rank == 0) == (half == 0))
            ok = ok && muster_recv(b, big, MUSTER_FLOAT32, left, 5, world) == 0;
        else
            ok = ok && muster_send(a, big, MUSTER_FLOAT32, right, 5, world) == 0;
    for (size_t i = 0; i < big; i++)
        ok &= b[i] == (float)(left * 1000) + (float)(i % 1000);
    check(ok, "a large message around the ring");

    /* Tags choose, not the order; equal tags keep the order. */
    ok = 1;
    if (rank == 0) {
        for (int32_t i = 0; i < 3; i++)
            ok = ok && muster_send(&i, 1, MUSTER_INT32, 1, i == 1 ? 32767 : 9, world) == 0;
    } else if (rank == 1) {
        ok = ok && muster_recv(&v[1], 1, MUSTER_INT32, 0, 32767, world) == 0;
        ok = ok && muster_recv(&v[0], 1, MUSTER_INT32, 0, 9, world) == 0;
        ok = ok && muster_recv(&v[2], 1, MUSTER_INT32, 0, 9, world) == 0;
        ok = ok && v[0] == 0 && v[1] == 1 && v[2] == 2;
    }
    check(ok, "tags choose among messages, equal tags keep the order");

    ok = 1;
    for (int32_t i = 0; i < 500; i++) /* the sender runs ahead */
        if (rank == 0)
            ok = ok && muster_send(&i, 1, MUSTER_INT32, size - 1, 1, world) == 0;
    ok = ok && muster_barrier(world) == 0;
    for (int32_t i = 0; i < 500 && rank == size - 1; i++)
        ok = ok && muster_recv(v, 1, MUSTER_INT32, 0, 1, world) == 0 && v[0] == i;
    check(ok, "five hundred messages ahead of their receiver, across a barrier");

    ok = 1;
    if (rank == 0) /* a large one comes while the receiver is busy with somebody else */
        ok = muster_send(a, big, MUSTER_FLOAT32, 1, 2, world) == 0 &&
             muster_send(a, 0, MUSTER_FLOAT32, 1, 3, world) == 0;
    if (size > 2 && rank == 2)
        ok = muster_send(a, 10, MUSTER_FLOAT32, 1, 2, world) == 0;
    if (rank == 1) {
        if (size > 2)
            ok = muster_recv(b, 10, MUSTER_FLOAT32, 2, 2, world) == 0 && b[9] == 2009;
        ok = ok && muster_recv(b, big, MUSTER_FLOAT32, 0, 2, world) == 0 && b[999] == 999;
        ok = ok && muster_recv(NULL, 0, MUSTER_FLOAT32, 0, 3, world) == 0;
    }
    check(ok, "a large message and an empty one, beside another sender");
    free(a);
    free(b);
}

static void memory(void)
{
    size_t n = 300000;
    float *p = muster_mem_alloc(n * sizeof *p), *q = muster_mem_alloc(1);
    int ok = p && q && (uintptr_t)p % 4096 == 0;

    for (size_t i = 0; ok && i < n; i++)
        ok = p[i] == 0;
    for (size_t i = 0; ok && i < n; i++)
        p[i] = (float)rank;
    ok = ok && muster_allreduce(p, p, n, MUSTER_FLOAT32, MUSTER_MAX, world) == 0 && p[n - 1] == (float)(size - 1);
    muster_mem_free(p);
    muster_mem_free(q);
    muster_mem_free(NULL);
    check(ok, "memory of the library is aligned, zeroed, and reduces in place");
    check(muster_mem_alloc(SIZE_MAX - 100) == NULL, "memory that nobody has is NULL");
}

static void bridge(void)
{
    MPI_Comm c = MPI_COMM_NULL;
    int r = -1, sum = 0, ok = muster_comm_mpi(world, &c) == 0;

    if (ok) {
        MPI_Comm_rank(c, &r);
        MPI_Allreduce(&r, &sum, 1, MPI_INT, MPI_SUM, c);
        MPI_Comm_free(&c);
    }
    check(ok && r == rank && sum == size * (size - 1) / 2, "MPI on the bridge's communicator");
}

int main(int argc, char **argv)
{
    int bad, rc;

    if (muster_init(&argc, &argv) < 0) {
        printf("Bail out! %s\n", muster_last_error());
        return 1;
    }
    world = muster_world();
    rank = muster_rank(world);
    size = muster_size(world);
    nodes = getenv("COLL_STRICT") ? NULL : getenv("COLL_NODES");
    nnodes = nodes ? (int)strlen(nodes) : 0;
    small_sizes();
    thresholds();
    chunks();
    if (!getenv("COLL_SHORT"))
        large();
    splits();
    overlapping();
    in_background();
    buckets();
    point_to_point();
    memory();
    bridge();
    check(muster_step(3) == 0 && muster_step(4) == 0 && muster_step(4) == MUSTER_EARG, "steps grow");
    if (rank == 0)
        printf("# digest %016llx\n", (unsigned long long)digest);
    bad = check_done();
    rc = muster_finalize();
    if (rc < 0)
        printf("not ok - finalize: %s\n", muster_last_error());
    return bad || rc < 0;
}
