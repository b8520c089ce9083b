/* Collectives of the library, or of MPI itself: correctness first, then time. Two ways to time: batches (a sample is
 * the slowest rank's time of a batch, divided by the calls in it), and single calls that all ranks begin at one common
 * time (a sample is the time until the last rank is done; those that somebody began late are dropped). Inputs are
 * written anew each time.
 */
#include <limits.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/judge/bisect.h"
#include "bench/pairs.h"
#include "bench/rank/device.h"
#include "bench/rank/mpi_coll.h"
#include "bench/rank/mpi_wire.h"
#include "bench/rank/start.h"
#include "runtime/base/clean.h"
#include "runtime/base/clock.h"
#include "runtime/base/dtype.h"
#include "runtime/base/str.h"

enum { AS_USUAL, IN_PLACE, OUT_OF_PLACE };
enum { IN_BATCHES, FROM_START };
enum { PRIVATE, MAPPED, DEVICE };
enum { OVER_MUSTER, OVER_MPI };
static const char *const memories[] = {"private", "mapped", "device"};

struct opts {
    struct mu_room_opts room;
    const char *op, *dtype;
    uint64_t min, max;
    int samples, memory, place, timing, transport, planted_late;
    bool bisect;
    double floor;
};

struct ctx {
    struct mu_room *room;
    muster_comm *comm;
    int rank, size;
    char *one, *other;       /* buffers */
    char *send, *recv;       /* where the call has its data */
    struct mu_mpi_coll *mpi; /* or NULL: the library's */
    int trial;
    struct mu_device *gpu;
    char *host;   /* GPU: as much memory of the host, where inputs come from and results are looked at */
    size_t count; /* elements the call is given */
    muster_dtype dtype;
    size_t width;
};

/* send_all, recv_all: the buffer holds count elements for each rank. in_place: as it is usually measured. */
struct op_row {
    const char *name;
    bool send_all, recv_all, in_place;
    int (*call)(struct ctx *);
    mu_mpi_coll_fn *mpi;
};

static int call_allreduce(struct ctx *c)
{
    return muster_allreduce(c->send, c->recv, c->count, c->dtype, MUSTER_SUM, c->comm);
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

/* Round the ring; a neighbour receives first. */
static int call_sendrecv(struct ctx *c)
{
    int next = (c->rank + 1) % c->size, last = (c->rank + c->size - 1) % c->size, rc;

    if (c->size == 1)
        return 0;
    if (c->rank % 2 == 0)
        rc = muster_send(c->send, c->count, c->dtype, next, 0, c->comm);
    else
        rc = muster_recv(c->recv, c->count, c->dtype, last, 0, c->comm);
    if (rc)
        return rc;
    return c->rank % 2 ? muster_send(c->send, c->count, c->dtype, next, 0, c->comm)
                       : muster_recv(c->recv, c->count, c->dtype, last, 0, c->comm);
}
static int call_barrier(struct ctx *c)
{
    return muster_barrier(c->comm);
}

static const struct op_row ops[] = {
    {"allreduce", false, false, true, call_allreduce, mu_mpi_allreduce},
    {"reduce", false, false, false, call_reduce, mu_mpi_reduce},
    {"reduce_scatter", true, false, false, call_reduce_scatter, mu_mpi_reduce_scatter},
    {"allgather", false, true, false, call_allgather, mu_mpi_allgather},
    {"broadcast", false, false, true, call_broadcast, mu_mpi_broadcast},
    {"alltoall", true, true, false, call_alltoall, mu_mpi_alltoall},
    {"sendrecv", false, false, false, call_sendrecv, mu_mpi_sendrecv},
    {"barrier", false, false, false, call_barrier, mu_mpi_barrier},
};

static int call(struct ctx *c, const struct op_row *op, struct mu_err *err)
{
    if (!c->mpi)
        return op->call(c); /* the library has its own text */
    int rc = op->mpi(c->mpi, c->send, c->recv, c->count);
    return rc ? mu_err_set(err, rc, "rank %d: MPI has failed in its %s", c->rank, op->name) : 0;
}

/* The integers up to it are exact, sums of all ranks among them. */
static const unsigned most_exact[MU_DTYPE_COUNT] = {
    [MUSTER_INT8] = 127,           [MUSTER_UINT8] = 255,        [MUSTER_INT32] = INT32_MAX,
    [MUSTER_UINT32] = UINT32_MAX,  [MUSTER_INT64] = UINT32_MAX, [MUSTER_UINT64] = UINT32_MAX,
    [MUSTER_FLOAT16] = 2048,       [MUSTER_BFLOAT16] = 256,     [MUSTER_FLOAT32] = 1 << 24,
    [MUSTER_FLOAT64] = UINT32_MAX, [MUSTER_FLOAT8_E4M3] = 16,   [MUSTER_FLOAT8_E5M2] = 8,
};

static const struct mu_opt table[] = {
    MU_ROOM_ROWS(struct opts, room),
    {"op", 0, MU_OPT_STRING, offsetof(struct opts, op), "OP",
     "allreduce, reduce, reduce_scatter, allgather, broadcast, alltoall, sendrecv, barrier, all"},
    {"dtype", 0, MU_OPT_STRING, offsetof(struct opts, dtype), "TYPE",
     "float32, float64, int32, int64, uint8, int8, uint32, uint64, float16, bfloat16, "
     "float8_e4m3, float8_e5m2"},
    {"min", 0, MU_OPT_SIZE, offsetof(struct opts, min), "SIZE", "smallest message"},
    {"max", 0, MU_OPT_SIZE, offsetof(struct opts, max), "SIZE", "largest message"},
    {"samples", 0, MU_OPT_INT, offsetof(struct opts, samples), "N", "samples of each size at most", .min = 3,
     .max = 100000},
    {"memory", 0, MU_OPT_CHOICE, offsetof(struct opts, memory), "private|mapped|device",
     "malloc, muster_mem_alloc, or a GPU's"},
    {"place", 0, MU_OPT_CHOICE, offsetof(struct opts, place), "usual|in|out", "result over the input, or beside it"},
    {"timing", 0, MU_OPT_CHOICE, offsetof(struct opts, timing), "batch|start", "batches, or calls from a common start"},
    {"transport", 0, MU_OPT_CHOICE, offsetof(struct opts, transport), "muster|mpi", "whose operations are measured"},
    {"bisect", 0, MU_OPT_FLAG, offsetof(struct opts, bisect), NULL,
     "find the hosts with which results are wrong, or slow"},
    {"floor", 0, MU_OPT_DOUBLE, offsetof(struct opts, floor), "GB/s", "bus bandwidth below which it is slow"},
    {"planted-late", 0, MU_OPT_INT, offsetof(struct opts, planted_late), "US", NULL,
     .max = 1000000}, /* for tests: rank 1, in every second trial */
};

/* Small integers: exact in every type, and a sum over ranks and positions that a swapped block would change. */
static unsigned pattern(int rank, size_t i)
{
    return (unsigned)((i * 7 + (size_t)rank * 3) % 5);
}

/* The bits of an integer in a small float that is exact there. */
static uint16_t small_of(unsigned v, unsigned mantissa, unsigned bias)
{
    unsigned e = 0;

    while (v >> (e + 1))
        e++;
    if (!v)
        return 0;
    v = e > mantissa ? v >> (e - mantissa) : v << (mantissa - e);
    return (uint16_t)((e + bias) << mantissa | (v & ((1u << mantissa) - 1)));
}

static void encode(muster_dtype dtype, unsigned v, void *out)
{
    float f = (float)v;
    double d = v;
    uint64_t n = v;
    uint32_t w = v, bits;
    uint16_t h;
    unsigned char b = (unsigned char)v;

    switch (dtype) {
    case MUSTER_FLOAT32:
        memcpy(out, &f, sizeof f);
        return;
    case MUSTER_FLOAT64:
        memcpy(out, &d, sizeof d);
        return;
    case MUSTER_INT32:
    case MUSTER_UINT32:
        memcpy(out, &w, sizeof w);
        return;
    case MUSTER_INT64:
    case MUSTER_UINT64:
        memcpy(out, &n, sizeof n);
        return;
    case MUSTER_FLOAT16:
        h = small_of(v, 10, 15);
        memcpy(out, &h, sizeof h);
        return;
    case MUSTER_BFLOAT16:
        memcpy(&bits, &f, sizeof bits);
        h = (uint16_t)(bits >> 16);
        memcpy(out, &h, sizeof h);
        return;
    case MUSTER_FLOAT8_E4M3:
    case MUSTER_FLOAT8_E5M2:
        b = (unsigned char)(dtype == MUSTER_FLOAT8_E4M3 ? small_of(v, 3, 7) : small_of(v, 2, 15));
        memcpy(out, &b, sizeof b);
        return;
    default:
        memcpy(out, &b, sizeof b);
    }
}

static bool is(const struct ctx *c, size_t i, unsigned v)
{
    char want[8];
    const char *result = c->gpu ? c->host : c->recv;

    encode(c->dtype, v, want);
    return !memcmp(result + i * c->width, want, c->width);
}

static bool is_in_place(const struct op_row *op, const struct opts *o)
{
    if (op->call == call_sendrecv || op->call == call_barrier || (op->call == call_alltoall && o->memory == DEVICE) ||
        (op->call == call_reduce_scatter && o->transport == OVER_MPI))
        return false;
    return op->call == call_broadcast || o->place == IN_PLACE || (o->place == AS_USUAL && op->in_place);
}

static void set_place(struct ctx *c, const struct op_row *op, const struct opts *o)
{
    size_t block = c->count * c->width * (size_t)c->rank;

    c->send = c->one;
    c->recv = c->other;
    if (!is_in_place(op, o))
        return;
    c->send = op->recv_all && !op->send_all ? c->other + block : c->other;
    c->recv = op->send_all && !op->recv_all ? c->other + block : c->other;
}

static int fill(struct ctx *c, const struct op_row *op, struct mu_err *err)
{
    size_t n = c->count * (op->send_all ? (size_t)c->size : 1);
    char *to = c->gpu ? c->host : c->send;

    /* the pattern repeats after five */
    char words[5][8];
    for (size_t i = 0; i < 5; i++)
        encode(c->dtype, pattern(c->rank, i), words[i]);
    for (size_t i = 0; i < n; i++)
        memcpy(to + i * c->width, words[i % 5], c->width);
    return c->gpu && n ? mu_device_put(c->gpu, (uintptr_t)c->send, to, n * c->width, err) : 0;
}

/* Until what was called has ended: in GPU memory the calls have only been enqueued. */
static int until_done(const struct ctx *c)
{
    return c->gpu ? muster_comm_sync(c->comm) : 0;
}

static unsigned expected(const struct ctx *c, const struct op_row *op, size_t i)
{
    unsigned sum = 0;

    if (op->call == call_broadcast)
        return pattern(0, i);
    if (op->call == call_sendrecv)
        return pattern((c->rank + c->size - 1) % c->size, i);
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

    if (op->call == call_barrier || (op->call == call_reduce && c->rank) || (op->call == call_sendrecv && c->size == 1))
        return 0;
    for (size_t i = 0; i < n; i++)
        wrong += !is(c, i, expected(c, op, i));
    return wrong;
}

struct line {
    size_t n;
    double late;
    double *v;      /* us */
    double mine[3]; /* of this rank, medians: how late it came, how long it was in the call, us; mu_load_end() */
    int64_t wrong;
};

static double to_us(uint64_t ns)
{
    return (double)ns / 1e3;
}

static int in_batches(struct ctx *c, const struct op_row *op, const struct opts *o, uint64_t bytes, struct line *l,
                      struct mu_err *err)
{
    int rc, batch = bytes <= 4096 ? 100 : bytes <= 65536 ? 10 : 1;
    mu_auto_free double *took = malloc((size_t)o->samples * sizeof *took);
    int64_t go = 1;

    if (!took)
        return MUSTER_ENOMEM;
    uint64_t begin = mu_now();
    for (int i = 0; i < o->samples + 1 && go; i++) {
        if ((rc = fill(c, op, err)) || (rc = muster_barrier(c->comm)))
            return rc;
        uint64_t t0 = mu_now();
        for (int k = 0; k < batch; k++)
            if ((rc = call(c, op, err)))
                return rc;
        if ((rc = until_done(c)))
            return rc;
        double t = to_us(mu_now() - t0) / batch, slowest;
        if ((rc = muster_allreduce(&t, &slowest, 1, MUSTER_FLOAT64, MUSTER_MAX, c->comm)))
            return rc;
        if (i) { /* the first one warms up */
            took[l->n] = t;
            l->v[l->n++] = slowest;
        }
        go = l->n < 3 || mu_now() - begin < o->room.budget;
        if ((rc = muster_broadcast(&go, 1, MUSTER_INT64, 0, c->comm)))
            return rc;
    }
    struct mu_stats st;
    mu_stats_of(took, l->n, &st);
    l->mine[1] = st.p50;
    return 0;
}

struct call {
    struct ctx *c;
    const struct op_row *op;
};

static int ready(void *arg, struct mu_err *err)
{
    const struct call *k = arg;

    return fill(k->c, k->op, err);
}

static int act(void *arg, struct mu_err *err)
{
    const struct call *k = arg;

    int rc = call(k->c, k->op, err);
    return rc ? rc : until_done(k->c);
}

static int from_start(struct ctx *c, const struct op_row *op, const struct opts *o, struct line *l, struct mu_err *err)
{
    struct call k = {c, op};
    struct mu_start s = {.room = c->room,
                         .rule = {.least = 6, .most = (size_t)o->samples, .width = 0.01, .budget_ns = o->room.budget},
                         .ready = ready,
                         .act = act,
                         .arg = &k,
                         .planted_late_us = c->trial % 2 ? 0 : o->planted_late};
    int rc = mu_start_series(&s, err);

    l->n = rc ? 0 : s.series.n;
    if (l->n)
        memcpy(l->v, s.series.v, l->n * sizeof *l->v);
    l->late = mu_start_late(&s);
    memcpy(l->mine, s.mine, sizeof l->mine);
    mu_series_free(&s.series);
    return rc;
}

/* How much of one call's result is wrong, at all ranks together. */
static int look(struct ctx *c, const struct op_row *op, int64_t *wrong, struct mu_err *err)
{
    size_t n = c->count * (op->recv_all ? (size_t)c->size : 1);
    int64_t here;
    int rc;

    if ((rc = fill(c, op, err)) || (rc = call(c, op, err)) || (rc = until_done(c)))
        return rc;
    if (c->gpu && n && (rc = mu_device_get(c->gpu, c->host, (uintptr_t)c->recv, n * c->width, err)))
        return rc;
    const char *planted = getenv("MUSTER_BENCH_CORRUPT"); /* for tests: the rank whose memory is bad */
    if (planted && atoi(planted) == c->room->rank && c->count)
        *(c->gpu ? c->host : c->recv) ^= 1;
    here = wrong_here(c, op);
    return muster_allreduce(&here, wrong, 1, MUSTER_INT64, MUSTER_SUM, c->comm);
}

static int measure(struct ctx *c, const struct op_row *op, const struct opts *o, uint64_t bytes, struct line *l,
                   struct mu_err *err)
{
    int rc;

    set_place(c, op, o);
    if ((rc = look(c, op, &l->wrong, err)))
        return rc;
    return o->timing == FROM_START ? from_start(c, op, o, l, err) : in_batches(c, op, o, bytes, l, err);
}

static int report(struct ctx *c, const struct op_row *op, const struct opts *o, uint64_t bytes, int trial,
                  struct line *l, double t, struct mu_err *err)
{
    size_t n = (size_t)c->size;
    mu_auto_free double *all = malloc(6 * n * sizeof *all);
    char name[40];
    struct mu_stats st;

    if (!all)
        return mu_err_set(err, MUSTER_ENOMEM, "no memory for figures of %d ranks", c->size);
    int rc = mu_wire_all(l->mine, 3, all, err);
    if (rc || c->rank)
        return rc;
    for (size_t k = 0; k < 3; k++)
        for (size_t i = 0; i < n; i++)
            all[(3 + k) * n + i] = all[3 * i + k];
    snprintf(name, sizeof name, "coll.%s", op->name);
    struct mu_record m = {.name = name,
                          .unit = "us",
                          .scope = MU_RECORD_GROUP,
                          .to = -1,
                          .op = op->name,
                          .dtype = o->dtype,
                          .memory = memories[o->memory],
                          .place = is_in_place(op, o) ? "in" : "out",
                          .timing = o->timing == FROM_START ? "start" : "batch",
                          .transport = o->transport == OVER_MPI ? "mpi" : "muster",
                          .size = bytes,
                          .values = l->v,
                          .n = l->n,
                          .arrive_us = o->timing == FROM_START ? all + 3 * n : NULL,
                          .time_us = all + 4 * n,
                          .rank_waited = o->timing == FROM_START ? all + 5 * n : NULL,
                          .nranks = c->size,
                          .late = o->timing == FROM_START ? l->late : -1,
                          .wrong = l->wrong,
                          .trial = trial,
                          .order = c->room->order,
                          .t = t};
    mu_auto_free double *sorted = malloc((l->n + 1) * sizeof *sorted);
    if (sorted && l->n) {
        memcpy(sorted, l->v, l->n * sizeof *sorted);
        mu_stats_of(sorted, l->n, &st);
        m.flags = mu_stats_width(&st) > 0.01 ? MU_RECORD_NOISY : 0;
    }
    return mu_room_add(c->room, &m, err);
}

static struct mu_devices devices;

/* Collective: each rank one of its host's GPUs, or the first rank that has none says why. */
static int choose_gpu(struct ctx *c, struct mu_err *err)
{
    const char *local = getenv("LOCAL_RANK");
    struct mu_err why = {0};
    int rc = mu_devices_open(&devices, &why);

    c->gpu = rc ? NULL : &devices.v[(local ? atoi(local) : 0) % devices.n];
    rc = rc ? rc : mu_device_enter(c->gpu, &why);
    return mu_room_agree(c->room, rc, "--memory device", &why, err);
}

static void *grab(const struct ctx *c, const struct opts *o, size_t bytes, struct mu_err *err)
{
    mu_cu_ptr p = 0;

    if (c->gpu)
        return mu_device_alloc(c->gpu, &p, bytes, err) ? NULL : (void *)(uintptr_t)p;
    return o->memory ? muster_mem_alloc(bytes) : aligned_alloc(4096, (bytes + 4095) / 4096 * 4096);
}

static void release(const struct ctx *c, const struct opts *o, void *p)
{
    if (c->gpu)
        mu_device_free(c->gpu, (uintptr_t)p);
    else if (o->memory)
        muster_mem_free(p);
    else
        free(p);
}

static int check(const struct opts *o, struct ctx *c, struct mu_err *err)
{
    bool known = !strcmp(o->op, "all");
    unsigned most = 0;

    for (size_t i = 0; i < MU_COUNT(ops); i++)
        known = known || !strcmp(ops[i].name, o->op);
    if (mu_dtype_named(o->dtype, &c->dtype)) {
        c->width = mu_dtype_size(c->dtype);
        most = most_exact[c->dtype];
    }
    if (!known)
        return mu_err_set(err, MUSTER_EARG, "--op %s: not an operation; --help lists them", o->op);
    if (!c->width)
        return mu_err_set(err, MUSTER_EARG, "--dtype %s: not a type of this benchmark; --help lists them", o->dtype);
    if (o->min < c->width || o->max < o->min)
        return mu_err_set(err, MUSTER_EARG, "--min and --max: need %zu bytes <= min <= max", c->width);
    if ((unsigned)c->size > most / 4)
        return mu_err_set(err, MUSTER_EARG, "--dtype %s can be checked with up to %u ranks", o->dtype, most / 4);
    if (o->transport == OVER_MPI && (o->bisect || o->memory == DEVICE || o->max / c->width > INT_MAX))
        return mu_err_set(err, MUSTER_EARG,
                          "--transport mpi: not with --bisect, --memory device, or a --max beyond 2^31 - 1 elements");
    return 0;
}

/* One operation and size. */
static int one(struct ctx *c, const struct op_row *op, const struct opts *o, uint64_t bytes, int trial,
               struct mu_err *err)
{
    size_t blocks = op->send_all || op->recv_all ? (size_t)c->size : 1;
    struct line l = {0};
    double t = (double)mu_wall() / 1e9;
    int rc = 0;

    c->trial = trial;
    c->count = op->call == call_barrier ? 0 : bytes / c->width / blocks;
    if (!c->count && (op->call != call_barrier || bytes != o->min)) /* a barrier has no size */
        return 0;
    l.v = malloc((size_t)(o->samples + 6) * sizeof *l.v);
    if (!l.v)
        return mu_err_set(err, MUSTER_ENOMEM, "no memory for %d samples", o->samples);
    if (o->timing == FROM_START)
        rc = mu_room_sync(c->room, err);
    bytes = c->count * c->width * blocks;
    if (!rc)
        rc = measure(c, op, o, bytes, &l, err);
    if (!rc)
        rc = report(c, op, o, bytes, trial, &l, t, err);
    c->room->order++;
    free(l.v);
    return rc;
}

/* --- whom it takes to be wrong or slow -------------------------------------------------------------------------------
 */

struct hunt {
    const struct ctx *all;
    const struct op_row *op;
    const struct opts *o;
    double drop; /* of the newest set that failed */
    struct mu_err *err;
};

enum { LOOKS = 4 };

/* Among the hosts of c alone. bad: whether it fails, as all of them see it. */
static int fails(struct hunt *h, struct ctx *c, double *bad)
{
    size_t blocks = h->op->send_all || h->op->recv_all ? (size_t)c->size : 1;
    mu_auto_free double *v = malloc((size_t)(h->o->samples + 6) * sizeof *v);
    struct line l = {.v = v};
    struct mu_stats st;
    int rc = v ? 0 : MUSTER_ENOMEM;

    c->count = h->o->min / c->width / blocks;
    set_place(c, h->op, h->o);
    for (int i = 0; i < LOOKS && !rc && h->o->floor <= 0; i++) {
        rc = look(c, h->op, &l.wrong, h->err);
        *bad = l.wrong ? 1 : *bad;
    }
    if (rc || h->o->floor <= 0)
        return rc;
    uint64_t bytes = c->count * c->width * blocks;
    if ((rc = in_batches(c, h->op, h->o, bytes, &l, h->err)))
        return rc;
    mu_stats_of(l.v, l.n, &st);
    double is = (double)bytes / st.p50 / 1e3 * mu_stats_busbw_factor(h->op->name, c->size);
    *bad = is < h->o->floor ? 1 - is / h->o->floor : 0;
    return 0;
}

/* All ranks ask the same questions, and hear the same answers. */
static int try(void *arg, const uint32_t *hosts, uint32_t n)
{
    struct hunt *h = arg;
    struct mu_room *r = h->all->room;
    struct ctx c = *h->all;
    double bad = 0;
    int in = 0, rc = 0;

    for (uint32_t i = 0; i < n; i++)
        in = in || r->host_of[r->rank] == (int)hosts[i];
    if ((rc = muster_comm_split(h->all->comm, in, r->rank, &c.comm)))
        return rc;
    c.rank = muster_rank(c.comm);
    c.size = muster_size(c.comm);
    if (in)
        rc = fails(h, &c, &bad);
    muster_comm_free(c.comm);
    rc = rc ? rc : mu_wire_max(&bad, 1, h->err);
    if (!rc && bad > 0)
        h->drop = bad;
    return rc ? rc : bad > 0;
}

static void put_hosts(struct mu_room *r, const char *key, const uint32_t *v, uint32_t n)
{
    mu_buf_appendf(&r->lines, ",\"%s\":[", key);
    for (uint32_t i = 0; i < n; i++) {
        mu_buf_puts(&r->lines, i ? "," : "");
        mu_record_text(&r->lines, r->hosts[v[i]]);
    }
    mu_buf_putc(&r->lines, ']');
}

static int bisect(struct ctx *c, const struct op_row *op, const struct opts *o, struct mu_err *err)
{
    struct mu_room *r = c->room;
    struct hunt h = {.all = c, .op = op, .o = o, .err = err};
    struct mu_bisect b = {.need = o->floor > 0 ? 2 : 1, .of = o->floor > 0 ? 3 : 2};
    mu_auto_free uint32_t *hosts = malloc((size_t)r->nhosts * sizeof *hosts);

    if (!hosts)
        return mu_err_set(err, MUSTER_ENOMEM, "no memory for %d hosts", r->nhosts);
    for (int i = 0; i < r->nhosts; i++)
        hosts[i] = (uint32_t)i;
    uint64_t seed = r->seed;
    mu_pairs_shuffle(hosts, (uint32_t)r->nhosts, &seed);
    int rc = mu_bisect_run(&b, hosts, (uint32_t)r->nhosts, try, &h);
    bool found = !rc;
    if (rc == MUSTER_ENOSYS) /* all together are well */
        rc = 0;
    if (!rc && r->rank == 0) {
        mu_buf_appendf(
            &r->lines,
            "{\"kind\":\"culprits\",\"name\":\"coll.%s\",\"size\":%llu,\"wrong\":%s,\"drop\":%.4f,\"asked\":%u",
            op->name, (unsigned long long)o->min, o->floor > 0 ? "false" : "true", found ? h.drop : 0, b.asked);
        put_hosts(r, "hosts", b.a, found ? b.na : 0);
        put_hosts(r, "with", b.b, found ? b.nb : 0);
        mu_buf_puts(&r->lines, "}\n");
        if (!o->floor && found)
            r->wrong++;
    }
    mu_bisect_free(&b);
    return rc ? rc : mu_room_flush(r, 1, err);
}

int mu_bench_coll(struct mu_room *room, int argc, char **argv, struct mu_err *err)
{
    struct opts o = {.room = {.trials = 1, .budget = 2 * MU_SEC},
                     .op = "allreduce",
                     .dtype = "float32",
                     .min = 8,
                     .max = 64 << 20,
                     .samples = 1000};
    struct ctx c = {.room = room, .comm = room->comm, .rank = room->rank, .size = room->size};
    int done = 0, sizes = 0, nops = 0;
    int rc = mu_room_begin(room, table, MU_COUNT(table), argc, argv, &o, &o.room, err);

    if (rc || (rc = check(&o, &c, err)))
        return rc;
    if ((o.memory == DEVICE && (rc = choose_gpu(&c, err))) ||
        (o.transport == OVER_MPI && (rc = mu_mpi_coll_open(c.comm, c.dtype, &c.mpi, err))))
        goto out;
    size_t room_for = o.max + c.width * (size_t)c.size;
    void *host = NULL;
    c.one = grab(&c, &o, room_for, err);
    c.other = grab(&c, &o, room_for, err);
    if (c.gpu)
        rc = mu_device_alloc_host(c.gpu, &host, room_for, err);
    c.host = host;
    if (!c.one || !c.other || rc) {
        rc = mu_err_set(err, MUSTER_ENOMEM, "no memory for two buffers of %llu bytes; lower --max",
                        (unsigned long long)o.max);
        goto out;
    }
    if (!c.gpu) {
        memset(c.one, 0, o.max);
        memset(c.other, 0, o.max);
    }
    for (size_t i = 0; i < MU_COUNT(ops) && o.bisect; i++) {
        if (!strcmp(o.op, ops[i].name)) {
            rc = bisect(&c, &ops[i], &o, err);
            goto out;
        }
    }
    for (uint64_t bytes = o.min; bytes <= o.max && sizes < 64; bytes *= 2)
        sizes++;
    for (size_t i = 0; i < MU_COUNT(ops); i++)
        nops += !strcmp(o.op, "all") || !strcmp(o.op, ops[i].name);
    for (int trial = 0; trial < o.room.trials; trial++) {
        for (size_t i = 0; i < MU_COUNT(ops); i++) {
            if (strcmp(o.op, "all") && strcmp(o.op, ops[i].name))
                continue;
            for (int k = 0; k < sizes; k++) {
                if ((rc = one(&c, &ops[i], &o, o.min << k, trial, err)) ||
                    (rc = mu_room_flush(room, (double)++done / (nops * sizes * o.room.trials), err)))
                    goto out;
            }
        }
    }
out:
    if (!rc)
        mu_mpi_coll_close(c.mpi);
    release(&c, &o, c.one);
    release(&c, &o, c.other);
    if (c.gpu)
        mu_device_free_host(c.gpu, c.host);
    mu_devices_close(&devices);
    return rc;
}
