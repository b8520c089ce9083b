/* muster bench overlap: how much of an all-reduce is hidden behind computation. A sample times the all-reduce alone,
 * the computation alone and both at a time; the figure is what was saved, by the shorter of the two. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bench/rank/rank.h"
#include "bench/stats.h"
#include "runtime/base/clean.h"
#include "runtime/base/clock.h"

struct opts {
    struct mu_room_opts room;
    uint64_t large;
    int samples;
};

static const struct mu_opt table[] = {
    MU_ROOM_ROWS(struct opts, room),
    {"large", 0, MU_OPT_SIZE, offsetof(struct opts, large), "SIZE", "what is reduced"},
    {"samples", 0, MU_OPT_INT, offsetof(struct opts, samples), "N", "samples at most", .min = 6, .max = 100000},
};

struct work {
    struct mu_room *room;
    float *data;
    size_t count;
    long steps; /* of computation */
    volatile float sink;
};

static void compute(struct work *w)
{
    float x = 1, y = 2;

    for (long i = 0; i < w->steps; i++) {
        x = x * 0.999f + 0.001f;
        y = y * 0.998f + 0.002f;
    }
    w->sink = x + y;
}

enum { COMM = 1, COMP = 2 };

/* ns, of the slowest rank */
static int timed(struct work *w, int what, double *out)
{
    muster_request *req = NULL;
    int rc;

    for (size_t i = 0; i < w->count; i++)
        w->data[i] = 1;
    if ((rc = muster_barrier(w->room->comm)))
        return rc;
    uint64_t t0 = mu_now();
    if (what & COMM)
        rc = muster_iallreduce(w->data, w->data, w->count, MUSTER_FLOAT32, MUSTER_SUM, w->room->comm, &req);
    if (rc)
        return rc;
    if (what & COMP)
        compute(w);
    if (req && (rc = muster_wait(&req)))
        return rc;
    double t = (double)(mu_now() - t0);
    return muster_allreduce(&t, out, 1, MUSTER_FLOAT64, MUSTER_MAX, w->room->comm);
}

/* As much computation as the all-reduce takes. */
static int calibrate(struct work *w)
{
    double comm = 0, comp, t;
    int rc = 0;

    for (int i = 0; i < 5 && !rc; i++) {
        rc = timed(w, COMM, &t);
        comm = i ? fmin(comm, t) : INFINITY;
    }
    w->steps = 10000;
    for (int i = 0; i < 4 && !rc; i++) {
        rc = timed(w, COMP, &comp);
        double more = rc ? 1 : comm / fmax(comp, 100);
        w->steps = (long)fmin(fmax((double)w->steps * more, 100), 2e9);
    }
    /* what all compute is what rank 0 has found */
    int64_t steps = w->steps;
    if (!rc)
        rc = muster_broadcast(&steps, 1, MUSTER_INT64, 0, w->room->comm);
    w->steps = (long)steps;
    return rc;
}

static int trial_of(struct work *w, const struct opts *o, int trial, struct mu_err *err)
{
    struct mu_series_rule rule = {.least = 6, .most = (size_t)o->samples, .width = 0.01, .budget_ns = o->room.budget};
    struct mu_series s;
    double t = (double)mu_wall() / 1e9, comm, comp, both;
    int64_t go = 1, wrong = 0, sum = 0;
    int rc = mu_series_begin(&s, &rule, err);

    if (!rc)
        rc = calibrate(w);
    for (int i = 0; !rc && go; i++) {
        if ((rc = timed(w, COMM, &comm)) || (rc = timed(w, COMP, &comp)) || (rc = timed(w, COMM | COMP, &both)))
            break;
        for (size_t k = 0; k < w->count; k++)
            wrong += w->data[k] != (float)w->room->size;
        double hidden = (comm + comp - both) / fmax(fmin(comm, comp), 1);
        go = !i || mu_series_add(&s, hidden, mu_now()) == MU_SERIES_MORE;
        rc = muster_broadcast(&go, 1, MUSTER_INT64, 0, w->room->comm);
    }
    if (!rc)
        rc = muster_allreduce(&wrong, &sum, 1, MUSTER_INT64, MUSTER_SUM, w->room->comm);
    if (!rc && w->room->rank == 0) {
        struct mu_record m = {.name = "overlap.allreduce",
                              .unit = "ratio",
                              .more_is_better = true,
                              .scope = MU_RECORD_GROUP,
                              .to = -1,
                              .op = "allreduce",
                              .dtype = "float32",
                              .memory = "mapped",
                              .place = "in",
                              .transport = "muster",
                              .size = w->count * sizeof(float),
                              .values = s.v,
                              .n = s.n,
                              .late = -1,
                              .wrong = sum,
                              .trial = trial,
                              .order = w->room->order,
                              .t = t};
        struct mu_stats st;
        if (mu_series_stats(&s, &st) && st.ci_high - st.ci_low > 0.04) /* a ratio near 0 has no width by its median */
            m.flags = MU_RECORD_NOISY;
        rc = mu_room_add(w->room, &m, err);
    }
    w->room->order++;
    mu_series_free(&s);
    return rc;
}

int mu_bench_overlap(struct mu_room *room, int argc, char **argv, struct mu_err *err)
{
    struct opts o = {.room = {.trials = 1, .budget = 2 * MU_SEC}, .large = 4 << 20, .samples = 200};
    struct work w = {.room = room};
    int rc = mu_room_begin(room, table, MU_COUNT(table), argc, argv, &o, &o.room, err);

    if (rc)
        return rc;
    if (o.large < 4 || o.large > 1ull << 40)
        return mu_err_set(err, MUSTER_EARG, "--large: takes 4 bytes to 1T");
    w.count = o.large / sizeof(float);
    w.data = muster_mem_alloc(o.large);
    if (!w.data)
        return mu_err_set(err, MUSTER_ENOMEM, "no memory for %llu bytes; lower --large", (unsigned long long)o.large);
    for (int trial = 0; trial < o.room.trials && !rc; trial++) {
        rc = trial_of(&w, &o, trial, err);
        if (!rc)
            rc = mu_room_flush(room, (trial + 1.0) / o.room.trials, err);
    }
    muster_mem_free(w.data);
    return rc;
}
