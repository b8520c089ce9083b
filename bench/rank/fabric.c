/* muster bench fabric: what the network gives to many at a time. A pattern says who sends to whom; all begin at a
 * common start, and the time is that until the last one has everything. */
#include <stdlib.h>
#include <string.h>

#include "bench/pairs.h"
#include "bench/rank/mpi_wire.h"
#include "bench/rank/start.h"
#include "runtime/base/clean.h"
#include "runtime/base/clock.h"

struct opts {
    struct mu_room_opts room;
    uint64_t large;
    int count, targets, samples;
};

static const struct mu_opt table[] = {
    MU_ROOM_ROWS(struct opts, room),
    {"large", 0, MU_OPT_SIZE, offsetof(struct opts, large), "SIZE", "size of a message"},
    {"count", 0, MU_OPT_INT, offsetof(struct opts, count), "N", "messages to each peer", .min = 1, .max = 1024},
    {"targets", 0, MU_OPT_INT, offsetof(struct opts, targets), "N", "ranks that all others send to, one after another",
     .min = 1, .max = 1000000},
    {"samples", 0, MU_OPT_INT, offsetof(struct opts, samples), "N", "samples at most", .min = 6, .max = 100000},
};

struct flows {
    const struct opts *o;
    int *to, *from, nto, nfrom; /* of this rank */
    char *out, *in;
};

/* Ranks of the hosts in random order: the first half of the places sends to the second, place by place. */
static void bisection(struct mu_room *r, uint64_t seed, int target, struct flows *f)
{
    mu_auto_free uint32_t *v = malloc((size_t)r->size * sizeof *v);
    int half = r->size / 2, n = 0;

    (void)target;
    mu_auto_free uint32_t *hosts = malloc((size_t)r->nhosts * sizeof *hosts);
    if (!v || !hosts)
        return;
    for (int i = 0; i < r->nhosts; i++)
        hosts[i] = (uint32_t)i;
    mu_pairs_shuffle(hosts, (uint32_t)r->nhosts, &seed);
    for (int h = 0; h < r->nhosts; h++)
        for (int i = 0; i < r->size; i++)
            if (r->host_of[i] == (int)hosts[h])
                v[n++] = (uint32_t)i;
    for (int i = 0; i < half; i++) {
        if ((int)v[i] == r->rank)
            f->to[f->nto++] = (int)v[i + half];
        if ((int)v[i + half] == r->rank)
            f->from[f->nfrom++] = (int)v[i];
    }
}

static void incast(struct mu_room *r, uint64_t seed, int target, struct flows *f)
{
    (void)seed;
    for (int i = 0; i < r->size; i++)
        if (r->rank == target && i != target)
            f->from[f->nfrom++] = i;
    if (r->rank != target)
        f->to[f->nto++] = target;
}

/* Each begins with its neighbour, so that not all send to the same one. */
static void alltoall(struct mu_room *r, uint64_t seed, int target, struct flows *f)
{
    (void)seed;
    (void)target;
    for (int i = 1; i < r->size; i++) {
        f->to[f->nto++] = (r->rank + i) % r->size;
        f->from[f->nfrom++] = (r->rank + r->size - i) % r->size;
    }
}

/* A new pattern is a row here. flows(n): messages' streams that count for the figure. */
static int half_of(int n)
{
    return n / 2;
}
static int others(int n)
{
    return n - 1;
}
static const struct pattern {
    const char *name;
    void (*make)(struct mu_room *, uint64_t seed, int target, struct flows *);
    int (*flows)(int n);
    bool targets;
} patterns[] = {
    {"fabric.bisection", bisection, half_of, false},
    {"fabric.incast", incast, others, true},
    {"fabric.alltoall", alltoall, others, false},
};

static int ready(void *arg, struct mu_err *err)
{
    const struct flows *f = arg;

    return mu_wire_post_recvs(f->in, f->o->large, f->o->count, f->from, f->nfrom, err);
}

static int act(void *arg, struct mu_err *err)
{
    const struct flows *f = arg;
    int rc = mu_wire_post_sends(f->out, f->o->large, f->o->count, f->to, f->nto, err);

    return rc ? rc : mu_wire_finish(err);
}

static int one(struct mu_room *r, const struct pattern *p, int target, int trial, struct flows *f, struct mu_err *err)
{
    const struct opts *o = f->o;
    struct mu_start s = {.room = r,
                         .rule = {.least = 6, .most = (size_t)o->samples, .width = 0.01, .budget_ns = o->room.budget},
                         .ready = ready,
                         .act = act,
                         .arg = f,
                         .per_sample = (double)o->large * o->count * p->flows(r->size)};
    struct mu_stats st;
    double t = (double)mu_wall() / 1e9;

    f->nto = f->nfrom = 0;
    p->make(r, r->seed + (uint64_t)trial, target, f);
    int rc = mu_room_sync(r, err);
    if (!rc)
        rc = mu_start_series(&s, err);
    mu_auto_free double *all = malloc(4 * (size_t)r->size * sizeof *all);
    if (!rc && !all)
        rc = mu_err_set(err, MUSTER_ENOMEM, "no memory for figures of %d ranks", r->size);
    if (!rc)
        rc = mu_wire_all(s.mine, 2, all, err);
    if (!rc && r->rank == 0) {
        for (int i = 0; i < r->size; i++) {
            all[2 * r->size + i] = all[2 * i];
            all[3 * r->size + i] = all[2 * i + 1];
        }
        struct mu_record m = {.name = p->name,
                              .unit = "GB/s",
                              .more_is_better = true,
                              .scope = MU_RECORD_GROUP,
                              .to = p->targets ? target : -1,
                              .to_host = p->targets ? r->hosts[r->host_of[target]] : NULL,
                              .transport = "mpi",
                              .size = o->large,
                              .values = s.series.v,
                              .n = s.series.n,
                              .arrive_us = all + 2 * r->size,
                              .time_us = all + 3 * r->size,
                              .nranks = r->size,
                              .late = mu_start_late(&s),
                              .wrong = MU_RECORD_UNCHECKED,
                              .trial = trial,
                              .order = r->order,
                              .t = t};
        if (mu_series_stats(&s.series, &st) && mu_stats_width(&st) > s.rule.width)
            m.flags = MU_RECORD_NOISY;
        rc = mu_room_add(r, &m, err);
    }
    r->order++;
    mu_series_free(&s.series);
    return rc;
}

int mu_bench_fabric(struct mu_room *room, int argc, char **argv, struct mu_err *err)
{
    struct opts o = {.room = {.trials = 1, .budget = MU_SEC}, .large = 1 << 20, .count = 1, .samples = 200};
    int rc = mu_room_begin(room, table, MU_COUNT(table), argc, argv, &o, &o.room, err), done = 0;

    if (rc)
        return rc;
    if (room->size < 2)
        return mu_err_set(err, MUSTER_EARG, "a fabric needs two ranks; give -n 2 or more hosts");
    if (o.large < 1 || o.large > 1 << 30)
        return mu_err_set(err, MUSTER_EARG, "--large: takes 1 byte to 1G");
    size_t n = (size_t)room->size;
    mu_auto_free int *to = malloc(n * sizeof *to), *from = malloc(n * sizeof *from);
    mu_auto_free char *out = calloc(1, o.large), *in = calloc(1, o.large);
    mu_auto_free uint32_t *targets = malloc(n * sizeof *targets);
    if (!to || !from || !out || !in || !targets)
        return mu_err_set(err, MUSTER_ENOMEM, "no memory for messages of %llu bytes", (unsigned long long)o.large);
    struct flows f = {.o = &o, .to = to, .from = from, .out = out, .in = in};
    int ntargets = !o.targets ? (room->size < MU_PAIRS_ALL ? room->size : MU_PAIRS_ALL)
                              : (o.targets < room->size ? o.targets : room->size);
    int total = o.room.trials * ((int)MU_COUNT(patterns) - 1 + ntargets);
    for (int trial = 0; trial < o.room.trials; trial++) {
        uint64_t seed = room->seed + (uint64_t)trial;
        for (uint32_t i = 0; i < n; i++)
            targets[i] = i;
        mu_pairs_shuffle(targets, (uint32_t)n, &seed);
        for (size_t k = 0; k < MU_COUNT(patterns); k++) {
            for (int i = 0; i < (patterns[k].targets ? ntargets : 1); i++) {
                if ((rc = one(room, &patterns[k], (int)targets[i], trial, &f, err)) ||
                    (rc = mu_room_flush(room, (double)++done / total, err)))
                    return rc;
            }
        }
    }
    return 0;
}
