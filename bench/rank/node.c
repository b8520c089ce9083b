/* muster bench node: what one host can do, all hosts side by side or a few at a time. */
#include <stdlib.h>
#include <string.h>

#include "bench/pairs.h"
#include "bench/rank/gpu.h"
#include "bench/rank/load.h"
#include "bench/rank/mpi_wire.h"
#include "runtime/base/clean.h"
#include "runtime/base/clock.h"

static const struct mu_opt table[] = {
    MU_ROOM_ROWS(struct mu_node_opts, room),
    {"memory-size", 0, MU_OPT_SIZE, offsetof(struct mu_node_opts, memory), "SIZE", "memory that is used"},
    {"disk-size", 0, MU_OPT_SIZE, offsetof(struct mu_node_opts, disk), "SIZE", "size of the file"},
    {"dir", 0, MU_OPT_STRING, offsetof(struct mu_node_opts, dir), "DIR", "where the file is made, for a moment"},
    {"gpu-size", 0, MU_OPT_SIZE, offsetof(struct mu_node_opts, gpu_size), "SIZE", "what is copied to a GPU at a time"},
    {"gpu-matrix", 0, MU_OPT_INT, offsetof(struct mu_node_opts, gpu_matrix), "N",
     "rows and columns of matrices on a GPU", .min = 16, .max = 16384},
    {"tests", 0, MU_OPT_STRING, offsetof(struct mu_node_opts, tests), "NAME,...", "mem, memtest, cpu, disk, gpu"},
};

/* A new test of a host is a row here. whole: goes on for all of its time, however sure it is, so that a processor that
 * is held back every now and then (a quota's period is a tenth of a second) shows in the mean. each: adds a measurement
 * of each GPU itself. */
static const struct row {
    const char *group, *name, *unit;
    bool more, whole;
    size_t least;
    int (*run)(struct mu_node *, int which, struct mu_err *);
    int which;
    bool each;
} rows[] = {
    {"mem", "node.mem.copy", "GB/s", true, false, 6, mu_node_stream, 0},
    {"mem", "node.mem.scale", "GB/s", true, false, 6, mu_node_stream, 1},
    {"mem", "node.mem.add", "GB/s", true, false, 6, mu_node_stream, 2},
    {"mem", "node.mem.triad", "GB/s", true, false, 6, mu_node_stream, 3},
    {"memtest", "node.mem.test", "errors", false, false, 1, mu_node_memtest, 0},
    {"cpu", "node.cpu.fma", "GFLOP/s", true, true, 8, mu_node_fma, 0},
    {"cpu", "node.cpu.gemm", "GFLOP/s", true, true, 8, mu_node_gemm, 0},
    {"disk", "node.disk.write", "GB/s", true, false, 8, mu_node_disk, 0},
    {"disk", "node.disk.read", "GB/s", true, false, 8, mu_node_disk, 1},
    {"gpu", "node.gpu.count", "GPUs", true, false, 1, mu_node_gpu_count, 0},
    {"gpu", "node.gpu.hbm", "GB/s", true, false, 8, mu_node_gpu_copy, MU_NODE_GPU_HBM, true},
    {"gpu", "node.gpu.h2d", "GB/s", true, false, 8, mu_node_gpu_copy, MU_NODE_GPU_H2D, true},
    {"gpu", "node.gpu.d2h", "GB/s", true, false, 8, mu_node_gpu_copy, MU_NODE_GPU_D2H, true},
    {"gpu", "node.gpu.gemm", "TFLOP/s", true, true, 8, mu_node_gpu_gemm, 0, true},
};

/* The first len bytes of text are the row's group, or the name of its test. */
static bool names(const char *text, size_t len, const struct row *r)
{
    return (strlen(r->group) == len && !memcmp(text, r->group, len)) ||
           (strlen(r->name) == len && !memcmp(text, r->name, len));
}

static bool wanted(const struct mu_node_opts *o, const struct row *r)
{
    for (const char *p = o->tests; p && *p; p += strcspn(p, ","), p += *p == ',')
        if (names(p, strcspn(p, ","), r))
            return true;
    return !o->tests;
}

static bool is_gpu(const struct row *r)
{
    return !strcmp(r->group, "gpu");
}

/* How many there are is told even where the driver shows none of those that there should be. */
static bool is_here(const struct row *r)
{
    struct mu_devices *d;
    int rc = is_gpu(r) ? mu_node_gpus(&d, NULL) : 0;

    return !rc || (!r->each && rc == MUSTER_ENODE);
}

static int one(struct mu_node *n, const struct row *r, int trial, int order, struct mu_err *err)
{
    struct mu_series_rule rule = {.least = r->least,
                                  .most = n->goes_on ? 100000 : 1000,
                                  .width = n->goes_on || r->whole ? -1 : 0.01,
                                  .budget_ns = n->o->room.budget};
    struct mu_err why = {0};
    struct mu_stats st;

    n->record = (struct mu_record){.name = r->name,
                                   .unit = r->unit,
                                   .more_is_better = r->more,
                                   .scope = MU_RECORD_NODE,
                                   .from = n->room->rank,
                                   .from_host = n->room->host,
                                   .late = -1,
                                   .wrong = MU_RECORD_UNCHECKED,
                                   .trial = trial,
                                   .order = order,
                                   .t = (double)mu_wall() / 1e9};
    if (!is_here(r))
        return 0;
    int rc = mu_series_begin(&n->series, &rule, err);
    if (rc)
        return rc;
    struct mu_load load;
    mu_load_begin(&load);
    int failed = r->run(n, r->which, &why);
    n->record.waited = mu_load_end(&load, mu_crew_size(n->crew));
    if (failed) {
        if (!trial)
            mu_room_skip(n->room, r->name, why.text);
    } else if (!r->each) {
        n->record.values = n->series.v;
        n->record.n = n->series.n;
        if (r->least > 1 && mu_series_stats(&n->series, &st) && mu_stats_width(&st) > 0.01)
            n->record.flags |= MU_RECORD_NOISY;
        rc = mu_room_add(n->room, &n->record, err);
    }
    mu_series_free(&n->series);
    return rc;
}

int mu_node_measure(struct mu_node *n, const char *name, int trial, int order, struct mu_err *err)
{
    for (size_t i = 0; i < MU_COUNT(rows); i++)
        if (!strcmp(rows[i].name, name))
            return one(n, &rows[i], trial, order, err);
    return mu_err_set(err, MUSTER_EARG, "there is no test %s", name);
}

static int check_names(const struct mu_node_opts *o, struct mu_err *err)
{
    for (const char *p = o->tests; p && *p; p += strcspn(p, ","), p += *p == ',') {
        size_t len = strcspn(p, ",");
        bool known = false;
        for (size_t i = 0; i < MU_COUNT(rows); i++)
            known = known || names(p, len, &rows[i]);
        if (!known)
            return mu_err_set(err, MUSTER_EARG, "--tests %.*s: not a test; there are mem, memtest, cpu, disk, gpu",
                              (int)(len < 40 ? len : 40), p);
    }
    return 0;
}

/* Collective: whether any host has GPUs. Where none has there is nothing to do but to say so, once. */
static int look_for_gpus(const struct mu_node *n, bool mine, bool *any, struct mu_err *err)
{
    double found = mine && mu_node_gpus_open();
    struct mu_devices *d;
    struct mu_err why = {0};
    int rc = mu_wire_max(&found, 1, err);

    *any = found > 0;
    if (!rc && mine && mu_node_gpus(&d, &why))
        mu_room_skip(n->room, "node.gpu", why.text);
    return rc;
}

int mu_bench_node(struct mu_room *room, int argc, char **argv, struct mu_err *err)
{
    struct mu_node_opts o = {.room = {.trials = 1, .budget = MU_SEC},
                             .memory = 256 << 20,
                             .disk = 256 << 20,
                             .gpu_size = 256 << 20,
                             .gpu_matrix = 8192};
    struct mu_node n = {.room = room, .o = &o};
    uint32_t turn[MU_COUNT(rows)], nrows = 0;
    int rc = mu_room_begin(room, table, MU_COUNT(table), argc, argv, &o, &o.room, err);
    bool mine = room->leader[room->host_of[room->rank]] == room->rank, gpus = false, any = false;

    if (rc || (rc = check_names(&o, err)))
        return rc;
    for (uint32_t i = 0; i < MU_COUNT(rows); i++)
        gpus = gpus || (is_gpu(&rows[i]) && wanted(&o, &rows[i]));
    if ((gpus && (rc = look_for_gpus(&n, mine, &any, err))) || (mine && (rc = mu_crew_new(&n.crew, err))))
        return rc;
    int groups = o.room.at_once ? (room->nhosts + o.room.at_once - 1) / o.room.at_once : 1, done = 0;
    bool go = true;
    for (uint32_t i = 0; i < MU_COUNT(rows); i++)
        if (wanted(&o, &rows[i]) && (any || !is_gpu(&rows[i])))
            turn[nrows++] = i;
    for (int trial = 0; !rc && !(rc = mu_room_another(room, &o.room, trial, groups, &go, err)) && go; trial++) {
        uint64_t seed = room->seed + (uint64_t)trial; /* the same order on all hosts */
        mu_pairs_shuffle(turn, nrows, &seed);
        for (uint32_t i = 0; i < nrows && !rc; i++) {
            for (int g = 0; g < groups && !rc; g++) {
                if (mine && room->host_of[room->rank] % groups == g)
                    rc = one(&n, &rows[turn[i]], trial, (int)(trial * (int)nrows + (int)i), err);
                if (!rc)
                    rc = mu_room_flush(room, (double)++done / ((double)nrows * groups * o.room.trials), err);
                if (!rc) /* hosts that are compared compute the same at the same time, and no more than are allowed */
                    rc = mu_wire_rest(err);
            }
        }
    }
    mu_node_gpus_close();
    mu_crew_free(n.crew);
    free(n.product);
    return rc;
}
