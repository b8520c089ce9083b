/* Collectives of the library: correctness first, then time. A sample is the slowest rank's time of a batch, divided by
 * the calls in it; inputs are written anew before each batch. */
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/rank/rank.h"
#include "bench/stats.h"
#include "runtime/base/buf.h"
#include "runtime/base/clean.h"
#include "runtime/base/clock.h"
#include "runtime/base/opt.h"
#include "runtime/base/str.h"

struct opts {
    const char *op, *dtype;
    uint64_t min, max, budget;
    int samples;
    int memory;
    bool json, quiet;
};

struct ctx {
    muster_comm *comm;
    int rank, size;
    char *send, *recv;
    size_t count; /* elements the call is given */
    muster_dtype dtype;
    size_t width;
};

/* send_n, recv_n: buffers in elements per element of count; total: S counts all ranks' blocks. root's or everybody's.
 */
struct op_row {
    const char *name;
    bool send_all, recv_all, in_place;
    int (*call)(struct ctx *);
};

static int call_allreduce(struct ctx *c)
{
    return muster_allreduce(c->recv, c->recv, c->count, c->dtype, MUSTER_SUM, c->comm);
}
static int call_reduce(struct ctx *c)
{
    return muster_reduce(c->send, c->recv, c->count, c->dtype, MUSTER_SUM, 0, c->comm);
}
static int call_reduce_scatter(struct ctx *c)
{
    return muster_reduce_scatter(c->send, c->recv, c->count, c->dtype, MUSTER_SUM, c->comm);
}
static int call_allgather(struct ctx *c)
{
    return muster_allgather(c->send, c->recv, c->count, c->dtype, c->comm);
}
static int call_broadcast(struct ctx *c)
{
    return muster_broadcast(c->recv, c->count, c->dtype, 0, c->comm);
}
static int call_alltoall(struct ctx *c)
{
    return muster_alltoall(c->send, c->recv, c->count, c->dtype, c->comm);
}

static const struct op_row ops[] = {
    {"allreduce", false, false, true, call_allreduce},           {"reduce", false, false, false, call_reduce},
    {"reduce_scatter", true, false, false, call_reduce_scatter}, {"allgather", false, true, false, call_allgather},
    {"broadcast", false, false, true, call_broadcast},           {"alltoall", true, true, false, call_alltoall},
};

static const struct {
    const char *name;
    muster_dtype dtype;
    size_t width;
} dtypes[] = {
    {"float32", MUSTER_FLOAT32, 4}, {"float64", MUSTER_FLOAT64, 8}, {"int32", MUSTER_INT32, 4},
    {"int64", MUSTER_INT64, 8},     {"uint8", MUSTER_UINT8, 1},
};

static const struct mu_opt table[] = {
    {"op", 0, MU_OPT_STRING, offsetof(struct opts, op), "OP",
     "allreduce, reduce, reduce_scatter, allgather, broadcast, alltoall"},
    {"dtype", 0, MU_OPT_STRING, offsetof(struct opts, dtype), "TYPE", "float32, float64, int32, int64, uint8"},
    {"min", 0, MU_OPT_SIZE, offsetof(struct opts, min), "SIZE", "smallest message"},
    {"max", 0, MU_OPT_SIZE, offsetof(struct opts, max), "SIZE", "largest message"},
    {"time", 0, MU_OPT_DURATION, offsetof(struct opts, budget), "TIME", "measure each size for so long at most"},
    {"samples", 0, MU_OPT_INT, offsetof(struct opts, samples), "N", "samples of each size at most", .min = 3,
     .max = 100000},
    {"memory", 0, MU_OPT_CHOICE, offsetof(struct opts, memory), "private|mapped", "malloc, or muster_mem_alloc"},
    {"json", 0, MU_OPT_FLAG, offsetof(struct opts, json), NULL, "print JSON, schema muster.bench/1"},
    {"quiet", 'q', MU_OPT_FLAG, offsetof(struct opts, quiet), NULL, "no progress on stderr"},
};

/* Small integers: exact in every type, and a sum over ranks and positions that a swapped block would change. */
static unsigned pattern(int rank, size_t i)
{
    return (unsigned)((i * 7 + (size_t)rank * 3) % 5);
}

static void put(struct ctx *c, char *buf, size_t i, unsigned v)
{
    switch (c->dtype) {
    case MUSTER_FLOAT32:
        ((float *)(void *)buf)[i] = (float)v;
        return;
    case MUSTER_FLOAT64:
        ((double *)(void *)buf)[i] = v;
        return;
    case MUSTER_INT32:
        ((int32_t *)(void *)buf)[i] = (int32_t)v;
        return;
    case MUSTER_INT64:
        ((int64_t *)(void *)buf)[i] = v;
        return;
    default:
        buf[i] = (char)v;
    }
}

static bool is(const struct ctx *c, size_t i, unsigned v)
{
    switch (c->dtype) {
    case MUSTER_FLOAT32:
        return ((float *)(void *)c->recv)[i] == (float)v;
    case MUSTER_FLOAT64:
        return ((double *)(void *)c->recv)[i] == (double)v;
    case MUSTER_INT32:
        return ((int32_t *)(void *)c->recv)[i] == (int32_t)v;
    case MUSTER_INT64:
        return ((int64_t *)(void *)c->recv)[i] == (int64_t)v;
    default:
        return c->recv[i] == (char)v;
    }
}

static void fill(struct ctx *c, const struct op_row *op)
{
    size_t n = c->count * (op->send_all ? (size_t)c->size : 1);
    char *buf = op->in_place ? c->recv : c->send;

    for (size_t i = 0; i < n; i++)
        put(c, buf, i, pattern(c->rank, i));
}

static unsigned expected(const struct ctx *c, const struct op_row *op, size_t i)
{
    unsigned sum = 0;

    if (op->call == call_broadcast)
        return pattern(0, i);
    if (op->call == call_allgather)
        return pattern((int)(i / c->count), i % c->count);
    if (op->call == call_alltoall)
        return pattern((int)(i / c->count), (size_t)c->rank * c->count + i % c->count);
    for (int r = 0; r < c->size; r++)
        sum += pattern(r, op->call == call_reduce_scatter ? (size_t)c->rank * c->count + i : i);
    return sum;
}

static int64_t wrong_here(struct ctx *c, const struct op_row *op)
{
    size_t n = c->count * (op->recv_all ? (size_t)c->size : 1);
    int64_t wrong = 0;

    if (op->call == call_reduce && c->rank)
        return 0;
    for (size_t i = 0; i < n; i++)
        wrong += !is(c, i, expected(c, op, i));
    return wrong;
}

struct line {
    uint64_t bytes;
    struct mu_stats st;
    int64_t wrong;
};

static int measure(struct ctx *c, const struct op_row *op, const struct opts *o, struct line *out)
{
    int rc, batch = out->bytes <= 4096 ? 100 : out->bytes <= 65536 ? 10 : 1;
    int64_t wrong, go = 1;
    size_t n = 0;
    mu_auto_free double *v = malloc((size_t)o->samples * sizeof *v);

    if (!v)
        return MUSTER_ENOMEM;
    fill(c, op);
    if ((rc = op->call(c)))
        return rc;
    wrong = wrong_here(c, op);
    if ((rc = muster_allreduce(&wrong, &out->wrong, 1, MUSTER_INT64, MUSTER_SUM, c->comm)))
        return rc;
    uint64_t begin = mu_now();
    for (int i = 0; i < o->samples + 1 && go; i++) {
        fill(c, op);
        if ((rc = muster_barrier(c->comm)))
            return rc;
        uint64_t t0 = mu_now();
        for (int k = 0; k < batch; k++)
            if ((rc = op->call(c)))
                return rc;
        double t = (double)(mu_now() - t0) / batch, slowest;
        if ((rc = muster_allreduce(&t, &slowest, 1, MUSTER_FLOAT64, MUSTER_MAX, c->comm)))
            return rc;
        if (i) /* the first one warms up */
            v[n++] = slowest;
        go = n < 3 || mu_now() - begin < o->budget;
        if ((rc = muster_broadcast(&go, 1, MUSTER_INT64, 0, c->comm)))
            return rc;
    }
    mu_stats_of(v, n, &out->st);
    return 0;
}

static void *grab(const struct opts *o, size_t bytes)
{
    return o->memory ? muster_mem_alloc(bytes) : aligned_alloc(4096, (bytes + 4095) / 4096 * 4096);
}

static void release(const struct opts *o, void *p)
{
    if (o->memory)
        muster_mem_free(p);
    else
        free(p);
}

static void print(const struct opts *o, const struct ctx *c, const struct line *v, size_t n)
{
    double factor = mu_stats_busbw_factor(o->op, c->size);
    mu_auto_buf struct mu_buf b = {0};
    char size[32];

    if (!o->json)
        mu_buf_appendf(&b, "# %s %s, %d ranks, %s memory\n%10s %8s %12s %12s %12s %10s %10s %6s\n", o->op, o->dtype,
                       c->size, o->memory ? "mapped" : "private", "size", "samples", "median us", "min us", "p99 us",
                       "algbw GB/s", "busbw GB/s", "wrong");
    else
        mu_buf_puts(&b, "{\"schema\":\"muster.bench/1\",\"tests\":[");
    for (size_t i = 0; i < n; i++) {
        double gbs = v[i].st.p50 > 0 ? (double)v[i].bytes / v[i].st.p50 : 0;
        if (o->json)
            mu_buf_appendf(&b,
                           "%s\n{\"name\":\"coll.%s\",\"op\":\"%s\",\"dtype\":\"%s\",\"bytes\":%llu,\"ranks\":%d,"
                           "\"memory\":\"%s\",\"n\":%zu,\"p50_us\":%.3f,\"min_us\":%.3f,\"p99_us\":%.3f,"
                           "\"ci95_us\":[%.3f,%.3f],\"algbw_gbs\":%.4f,\"busbw_gbs\":%.4f,\"wrong\":%lld}",
                           i ? "," : "", o->op, o->op, o->dtype, (unsigned long long)v[i].bytes, c->size,
                           o->memory ? "mapped" : "private", v[i].st.n, v[i].st.p50 / 1e3, v[i].st.min / 1e3,
                           v[i].st.p99 / 1e3, v[i].st.ci_low / 1e3, v[i].st.ci_high / 1e3, gbs, gbs * factor,
                           (long long)v[i].wrong);
        else
            mu_buf_appendf(&b, "%10s %8zu %12.2f %12.2f %12.2f %10.3f %10.3f %6lld\n",
                           mu_str_fmt_size(size, sizeof size, v[i].bytes), v[i].st.n, v[i].st.p50 / 1e3,
                           v[i].st.min / 1e3, v[i].st.p99 / 1e3, gbs, gbs * factor, (long long)v[i].wrong);
    }
    if (o->json)
        mu_buf_puts(&b, "]}\n");
    fputs(mu_buf_str(&b), stdout);
    fflush(stdout);
}

static int parse(int argc, char **argv, struct opts *o, struct ctx *c, const struct op_row **op, struct mu_err *err)
{
    int first, rc = mu_opt_parse(table, MU_COUNT(table), argc, argv, MU_OPT_PERMUTE, o, &first, err);

    if (rc > 0) {
        if (c->rank == 0)
            mu_opt_help(stdout, "muster bench coll [-n RANKS] [OPTIONS]", table, MU_COUNT(table));
        return 1;
    }
    if (rc)
        return rc;
    if (first < argc)
        return mu_err_set(err, MUSTER_EARG, "unexpected argument '%s'", argv[first]);
    for (size_t i = 0; i < MU_COUNT(ops); i++)
        if (!strcmp(ops[i].name, o->op))
            *op = &ops[i];
    for (size_t i = 0; i < MU_COUNT(dtypes); i++) {
        if (!strcmp(dtypes[i].name, o->dtype)) {
            c->dtype = dtypes[i].dtype;
            c->width = dtypes[i].width;
        }
    }
    if (!*op)
        return mu_err_set(err, MUSTER_EARG, "--op %s: not an operation; --help lists them", o->op);
    if (!c->width)
        return mu_err_set(err, MUSTER_EARG, "--dtype %s: not a type of this benchmark; --help lists them", o->dtype);
    if (o->min < c->width || o->max < o->min)
        return mu_err_set(err, MUSTER_EARG, "--min and --max: need %zu bytes <= min <= max", c->width);
    if (c->dtype == MUSTER_UINT8 && c->size > 50)
        return mu_err_set(err, MUSTER_EARG, "--dtype uint8 can be checked with up to 50 ranks");
    return 0;
}

int mu_bench_coll(int argc, char **argv, struct mu_err *err)
{
    struct opts o = {
        .op = "allreduce", .dtype = "float32", .min = 8, .max = 64 << 20, .budget = 2 * MU_SEC, .samples = 1000};
    struct ctx c = {.comm = muster_world()};
    const struct op_row *op = NULL;
    struct line lines[64];
    size_t n = 0;

    c.rank = muster_rank(c.comm);
    c.size = muster_size(c.comm);
    int rc = parse(argc, argv, &o, &c, &op, err);
    if (rc)
        return rc > 0 ? 0 : rc;
    bool total = op->send_all || op->recv_all;
    c.send = grab(&o, o.max + c.width * (size_t)c.size);
    c.recv = grab(&o, o.max + c.width * (size_t)c.size);
    if (!c.send || !c.recv) {
        rc = mu_err_set(err, MUSTER_ENOMEM, "no memory for two buffers of %llu bytes; lower --max",
                        (unsigned long long)o.max);
        goto out;
    }
    memset(c.send, 0, o.max);
    memset(c.recv, 0, o.max);
    uint64_t start = mu_now();
    for (uint64_t bytes = o.min; bytes <= o.max && n < MU_COUNT(lines); bytes *= 2) {
        c.count = bytes / c.width / (total ? (size_t)c.size : 1);
        if (!c.count)
            continue;
        lines[n].bytes = c.count * c.width * (total ? (size_t)c.size : 1);
        if (c.rank == 0 && !o.quiet) {
            char t[32];
            fprintf(stderr, "bench coll: %s, size %zu of %d, %s gone\n", o.op, n + 1,
                    1 + (int)floor(log2((double)o.max / (double)o.min)),
                    mu_str_fmt_duration(t, sizeof t, mu_now() - start));
        }
        if ((rc = measure(&c, op, &o, &lines[n])))
            goto out;
        n++;
    }
    if (c.rank == 0)
        print(&o, &c, lines, n);
    for (size_t i = 0; i < n; i++)
        if (lines[i].wrong)
            rc = 5; /* data corruption, as `muster accept` has it */
out:
    release(&o, c.send);
    release(&o, c.recv);
    return rc;
}
