/* muster bench soak: windows, again and again: arithmetic and memory with all results checked, then an all-reduce from
 * a common start. What changes from the first windows to the last is the trend. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bench/rank/mpi_wire.h"
#include "bench/rank/node.h"
#include "bench/rank/start.h"
#include "runtime/base/clean.h"
#include "runtime/base/clock.h"

struct opts {
    struct mu_node_opts node; /* its room's budget is that of a part of a window */
    uint64_t whole, window, large;
};

static const struct mu_opt table[] = {
    MU_ROOM_ROWS(struct opts, node.room),
    {"for", 0, MU_OPT_DURATION, offsetof(struct opts, whole), "TIME", "how long in all"},
    {"window", 0, MU_OPT_DURATION, offsetof(struct opts, window), "TIME", "how long a window is"},
    {"memory-size", 0, MU_OPT_SIZE, offsetof(struct opts, node.memory), "SIZE", "memory that is tested"},
    {"large", 0, MU_OPT_SIZE, offsetof(struct opts, large), "SIZE", "what is reduced"},
};

struct sum {
    struct mu_room *room;
    float *data;
    size_t count;
    int64_t wrong;
};

static int ready(void *arg, struct mu_err *err)
{
    struct sum *s = arg;

    (void)err;
    for (size_t i = 0; i < s->count; i++)
        s->data[i] = (float)((i + (size_t)s->room->rank) % 7);
    return 0;
}

static int act(void *arg, struct mu_err *err)
{
    struct sum *s = arg;

    (void)err;
    return muster_allreduce(s->data, s->data, s->count, MUSTER_FLOAT32, MUSTER_SUM, s->room->comm);
}

/* The last result of the window. */
static void check(struct sum *s)
{
    for (size_t i = 0; i < s->count; i++) {
        size_t want = 0;
        for (int r = 0; r < s->room->size && i < 7; r++)
            want += (i + (size_t)r) % 7;
        s->wrong += i < 7 ? s->data[i] != (float)want : s->data[i] != s->data[i - 7];
    }
}

static int reduce(struct sum *sum, const struct opts *o, int window, struct mu_err *err)
{
    struct mu_room *r = sum->room;
    struct mu_start s = {
        .room = r,
        .rule = {.least = 6, .most = 100000, .width = -1 /* goes on */, .budget_ns = o->node.room.budget},
        .ready = ready,
        .act = act,
        .arg = sum};
    double t = (double)mu_wall() / 1e9;
    int rc = mu_room_sync(r, err);

    sum->wrong = 0;
    if (!rc)
        rc = mu_start_series(&s, err);
    if (!rc)
        check(sum);
    double wrong = (double)sum->wrong;
    mu_auto_free double *all = malloc(4 * (size_t)r->size * sizeof *all);
    if (!rc && !all)
        rc = mu_err_set(err, MUSTER_ENOMEM, "no memory for figures of %d ranks", r->size);
    if (!rc)
        rc = mu_wire_sum(&wrong, 1, err);
    if (!rc)
        rc = mu_wire_all(s.mine, 2, all, err);
    if (!rc && r->rank == 0) {
        for (int i = 0; i < r->size; i++)
            all[2 * r->size + i] = all[2 * i + 1];
        struct mu_record m = {.name = "coll.allreduce",
                              .unit = "us",
                              .scope = MU_RECORD_GROUP,
                              .to = -1,
                              .op = "allreduce",
                              .dtype = "float32",
                              .memory = "private",
                              .place = "in",
                              .timing = "start",
                              .transport = "muster",
                              .size = sum->count * sizeof(float),
                              .values = s.series.v,
                              .n = s.series.n,
                              .time_us = all + 2 * r->size,
                              .nranks = r->size,
                              .late = mu_start_late(&s),
                              .wrong = (int64_t)wrong,
                              .trial = window,
                              .order = r->order,
                              .t = t};
        rc = mu_room_add(r, &m, err);
    }
    mu_series_free(&s.series);
    return rc;
}

int mu_bench_soak(struct mu_room *room, int argc, char **argv, struct mu_err *err)
{
    static const char *const tests[] = {"node.cpu.gemm", "node.mem.triad", "node.mem.test"};
    struct opts o = {.node = {.room = {.trials = 1}, .memory = 256 << 20},
                     .whole = 3600 * MU_SEC,
                     .window = 60 * MU_SEC,
                     .large = 4 << 20};
    struct mu_node n = {.room = room, .o = &o.node, .goes_on = true};
    struct sum sum = {.room = room};
    int rc = mu_room_begin(room, table, MU_COUNT(table), argc, argv, &o, &o.node.room, err), go = 1;

    if (rc)
        return rc;
    o.node.room.budget = o.window / (MU_COUNT(tests) + 1);
    sum.count = o.large / sizeof(float);
    mu_auto_free float *data = malloc(sum.count * sizeof *data + 1);
    if (!data)
        return mu_err_set(err, MUSTER_ENOMEM, "no memory for %llu bytes; lower --large", (unsigned long long)o.large);
    sum.data = data;
    bool mine = room->leader[room->host_of[room->rank]] == room->rank;
    if (mine && (rc = mu_crew_new(&n.crew, err)))
        return rc;
    uint64_t began = mu_now();
    for (int window = 0; go && !rc; window++) {
        for (size_t i = 0; i < MU_COUNT(tests) && !rc; i++, room->order++)
            if (mine)
                rc = mu_node_measure(&n, tests[i], window, room->order, err);
        mu_node_stream_end();
        if (!rc)
            rc = mu_wire_rest(err);
        if (!rc)
            rc = reduce(&sum, &o, window, err);
        room->order++;
        double done = (double)(mu_now() - began) / (double)(o.whole ? o.whole : 1);
        go = done < 1;
        if (!rc)
            rc = mu_room_flush(room, done < 1 ? done : 1, err);
        if (!rc)
            rc = mu_wire_tell(&go, sizeof go, 0, err);
    }
    mu_crew_free(n.crew);
    free(n.product);
    return rc;
}
