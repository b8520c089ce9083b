#include <math.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench/rank/gpu_counters.h"
#include "bench/rank/mpi_wire.h"
#include "bench/rank/rank.h"
#include "runtime/base/clean.h"
#include "runtime/base/clock.h"
#include "runtime/base/path.h"

static double seconds(uint64_t ns)
{
    return (double)ns / 1e9;
}

/* Names of all ranks' hosts by way of doubles would be odd: their texts are gathered and told. */
static int find_hosts(struct mu_room *r, struct mu_err *err)
{
    const char *node = getenv("MUSTER_NODE");
    char name[64] = "";
    mu_auto_buf struct mu_buf mine = {0}, all = {0};
    int rc;

    if (node && *node)
        snprintf(name, sizeof name, "%.63s", node);
    else
        gethostname(name, sizeof name - 1);
    mu_buf_append(&mine, name, sizeof name);
    if ((rc = mu_wire_gather(&mine, &all, err)))
        return rc;
    size_t n = (size_t)r->size;
    r->hosts = calloc(n, sizeof *r->hosts);
    r->host_of = calloc(n, sizeof *r->host_of);
    r->leader = calloc(n, sizeof *r->leader);
    if (!r->hosts || !r->host_of || !r->leader || mu_buf_reserve(&all, n * sizeof name))
        return mu_err_set(err, MUSTER_ENOMEM, "no memory for %d names of hosts", r->size);
    if ((rc = mu_wire_tell(all.data, n * sizeof name, 0, err)))
        return rc;
    for (int i = 0; i < r->size; i++) {
        const char *of = all.data + (size_t)i * sizeof name;
        int h = 0;
        while (h < r->nhosts && strcmp(r->hosts[h], of))
            h++;
        if (h == r->nhosts) {
            memcpy(r->hosts[r->nhosts], of, sizeof name);
            r->leader[r->nhosts++] = i;
        }
        r->host_of[i] = h;
    }
    r->host = r->hosts[r->host_of[r->rank]];
    return 0;
}

static bool is_shared(const struct mu_room *r)
{
    const char *yield = getenv("MUSTER_YIELD"), *local = getenv("LOCAL_WORLD_SIZE");

    if (yield && *yield)
        return *yield == '1';
    return local && atoi(local) > sysconf(_SC_NPROCESSORS_ONLN) && r->size > 1;
}

/* What a kernel has counted since it was booted, whatever the namespace: it only grows. */
enum { MARKS = 4 };
static bool read_marks(double v[MARKS])
{
    static const char *const names[MARKS] = {"intr", "ctxt", "processes", "softirq"};
    mu_auto_buf struct mu_buf text = {0};
    struct mu_err none;

    if (mu_path_read_text("/proc/stat", 1 << 20, &text, &none))
        return false;
    for (int i = 0; i < MARKS; i++) {
        char key[20];
        snprintf(key, sizeof key, "\n%s ", names[i]);
        const char *at = strstr(mu_buf_str(&text), key);
        if (!at || (v[i] = strtod(at + strlen(key), NULL)) <= 0)
            return false;
    }
    return true;
}

/* Collective. Hosts that are containers of one machine cannot see that: all have read its counters once before anybody
 * reads them again, so that the lowest of what comes then is no less than the highest of before. */
static int ask_shared(struct mu_room *r, struct mu_err *err)
{
    const char *yield = getenv("MUSTER_YIELD");
    double v[MARKS + 1] = {0}, before[MARKS + 1];
    bool asks = !r->shared && !(yield && *yield) && r->size > sysconf(_SC_NPROCESSORS_ONLN);
    int rc;

    v[MARKS] = !asks || !read_marks(v); /* not known here */
    if ((rc = mu_wire_max(v, MARKS + 1, err)) || v[MARKS] > 0)
        return rc;
    memcpy(before, v, sizeof v);
    v[MARKS] = !read_marks(v);
    for (int i = 0; i < MARKS; i++)
        v[i] = -v[i];
    if ((rc = mu_wire_max(v, MARKS + 1, err)))
        return rc;
    r->shared = v[MARKS] <= 0;
    for (int i = 0; i < MARKS; i++)
        r->shared = r->shared && before[i] <= -v[i];
    if (r->shared)
        mu_wire_share();
    return 0;
}

int mu_room_open(struct mu_room *r, struct mu_err *err)
{
    *r = (struct mu_room){.bench = "", .comm = muster_world(), .began = mu_now()};
    r->rank = muster_rank(r->comm);
    r->size = muster_size(r->comm);
    r->shared = is_shared(r);
    int rc = mu_wire_open(r->comm, r->shared, err);
    if (!rc)
        rc = ask_shared(r, err);
    if (!rc)
        rc = find_hosts(r, err);
    if (rc)
        mu_room_close(r);
    return rc;
}

void mu_room_close(struct mu_room *r)
{
    mu_wire_close();
    free(r->hosts);
    free(r->host_of);
    free(r->leader);
    mu_buf_free(&r->lines);
    r->hosts = NULL;
    r->host_of = r->leader = NULL;
}

void mu_room_enter(struct mu_room *r, const char *bench)
{
    r->bench = bench;
    r->began = mu_now();
    r->launch = r->order = r->measurements = 0;
    r->wrong = 0;
    r->synced = 0;
    mu_buf_clear(&r->lines);
}

static void print_run(const struct mu_room *r, int argc, char **argv)
{
    mu_auto_buf struct mu_buf b = {0};
    const char *job = getenv("MUSTER_JOB");

    mu_buf_appendf(&b,
                   "{\"kind\":\"run\",\"schema\":\"muster.samples/1\",\"t\":%.3f,\"version\":\"%s\",\"bench\":\"%s\"",
                   seconds(mu_wall()), MUSTER_VERSION, r->bench);
    mu_buf_puts(&b, ",\"argv\":[");
    for (int i = 0; i < argc; i++) {
        mu_buf_puts(&b, i ? "," : "");
        mu_record_text(&b, argv[i]);
    }
    mu_buf_appendf(&b, "],\"seed\":%llu,\"launch\":%d,\"ranks\":%d,\"job\":", (unsigned long long)r->seed, r->launch,
                   r->size);
    mu_record_text(&b, job ? job : "");
    mu_buf_puts(&b, ",\"hosts\":[");
    for (int i = 0; i < r->nhosts; i++) {
        mu_buf_puts(&b, i ? "," : "");
        mu_record_text(&b, r->hosts[i]);
    }
    mu_buf_puts(&b, "],\"host_of\":[");
    for (int i = 0; i < r->size; i++)
        mu_buf_appendf(&b, "%s%d", i ? "," : "", r->host_of[i]);
    mu_buf_puts(&b, "]}\n");
    fputs(mu_buf_str(&b), stdout);
    fflush(stdout);
}

int mu_room_begin(struct mu_room *r, const struct mu_opt *table, size_t n, int argc, char **argv, void *opts,
                  struct mu_room_opts *common, struct mu_err *err)
{
    int first, rc = mu_opt_parse(table, n, argc, argv, MU_OPT_PERMUTE, opts, &first, err);
    char usage[80];

    if (rc > 0) {
        snprintf(usage, sizeof usage, "bench-rank %s [OPTIONS]", r->bench);
        if (r->rank == 0)
            mu_opt_help(stdout, usage, table, n);
        return 1;
    }
    if (rc)
        return rc;
    if (first < argc)
        return mu_err_set(err, MUSTER_EARG, "unexpected argument '%s'", argv[first]);
    r->launch = common->launch;
    r->seed = common->seed ? common->seed : mu_wall();
    if ((rc = mu_wire_tell(&r->seed, sizeof r->seed, 0, err)))
        return rc;
    if (r->rank == 0)
        print_run(r, argc, argv);
    mu_counters_read("", r->counters);
    if (r->leader[r->host_of[r->rank]] == r->rank)
        mu_gpu_counters_begin();
    return 0;
}

struct hosts_opts {
    struct mu_room_opts room;
};
static const struct mu_opt hosts_table[] = {MU_ROOM_ROWS(struct hosts_opts, room)};

int mu_bench_hosts(struct mu_room *r, int argc, char **argv, struct mu_err *err)
{
    struct hosts_opts o = {0};

    return mu_room_begin(r, hosts_table, MU_COUNT(hosts_table), argc, argv, &o, &o.room, err);
}

uint64_t mu_room_common(const struct mu_room *r, uint64_t ours)
{
    return mu_clockfit_theirs(&r->clock, ours);
}

uint64_t mu_room_ours(const struct mu_room *r, uint64_t common)
{
    return mu_clockfit_ours(&r->clock, common);
}

int mu_room_add(struct mu_room *r, struct mu_record *m, struct mu_err *err)
{
    m->launch = r->launch;
    m->flags |= r->shared ? MU_RECORD_SHARED : 0;
    if (m->wrong > 0)
        r->wrong += (double)m->wrong;
    return mu_record_put(&r->lines, m, err);
}

int mu_room_agree(struct mu_room *r, int rc, const char *what, const struct mu_err *why, struct mu_err *err)
{
    double first = rc ? r->size - r->rank : 0;
    char text[300];

    snprintf(text, sizeof text, "%s: rank %d on %s: %.200s", what, r->rank, r->host, why->text);
    if ((rc = mu_wire_max(&first, 1, err)) || first <= 0)
        return rc;
    rc = mu_wire_tell(text, sizeof text, r->size - (int)first, err);
    return rc ? rc : mu_err_set(err, MUSTER_EARG, "%s", text);
}

void mu_room_skip(struct mu_room *r, const char *name, const char *reason)
{
    mu_buf_puts(&r->lines, "{\"kind\":\"skip\",\"name\":");
    mu_record_text(&r->lines, name);
    mu_buf_puts(&r->lines, ",\"reason\":");
    mu_record_text(&r->lines, reason);
    mu_buf_appendf(&r->lines, ",\"rank\":%d,\"host\":", r->rank);
    mu_record_text(&r->lines, r->host);
    mu_buf_puts(&r->lines, "}\n");
}

int mu_room_flush(struct mu_room *r, double done, struct mu_err *err)
{
    static const char mark[] = "{\"kind\":\"measurement\"";
    mu_auto_buf struct mu_buf all = {0};
    int rc = mu_wire_gather(&r->lines, &all, err);

    if (rc || r->rank)
        return rc;
    for (const char *p = mu_buf_str(&all); (p = strstr(p, mark)); p += sizeof mark)
        r->measurements++;
    fwrite(mu_buf_str(&all), 1, all.len, stdout);
    printf("{\"kind\":\"progress\",\"done\":%.4f,\"seconds\":%.2f}\n", done, seconds(mu_now() - r->began));
    return fflush(stdout) ? mu_err_set(err, MUSTER_EIO, "what was measured cannot be printed") : 0;
}

int mu_room_another(struct mu_room *r, const struct mu_room_opts *o, int made, double times, bool *go,
                    struct mu_err *err)
{
    uint64_t now = mu_now();
    double end = seconds(now - r->began + (now - r->repeated)); /* if it takes as long as the last one */
    char reason[80];

    *go = made < o->trials && (!made || !o->within || end <= seconds(o->within) * times);
    r->repeated = now;
    int rc = mu_wire_tell(go, sizeof *go, 0, err);
    snprintf(reason, sizeof reason, "there was time for %d of %d repetitions", made, o->trials);
    if (!rc && !*go && made < o->trials && r->rank == 0)
        mu_room_skip(r, r->bench, reason);
    return rc;
}

int mu_room_grown(struct mu_room *r, const char *name, int gpu, const char *uuid, int64_t before, int64_t now,
                  struct mu_err *err)
{
    double grown = (double)(now - before);
    struct mu_record m = {.name = name,
                          .unit = "errors",
                          .scope = MU_RECORD_NODE,
                          .from = r->rank,
                          .from_host = r->host,
                          .uuid = uuid,
                          .gpu = gpu,
                          .values = &grown,
                          .n = 1,
                          .late = -1,
                          .wrong = MU_RECORD_UNCHECKED,
                          .order = r->order,
                          .t = seconds(mu_wall())};

    return now < 0 || before < 0 || grown < 0 ? 0 : mu_room_add(r, &m, err);
}

static int add_counters(struct mu_room *r, struct mu_err *err)
{
    int64_t now[MU_COUNTERS];
    int rc = 0;

    mu_counters_read("", now);
    for (int i = 0; i < MU_COUNTERS && !rc; i++)
        rc = mu_room_grown(r, mu_counter_names[i], 0, NULL, r->counters[i], now[i], err);
    return rc;
}

int mu_room_end(struct mu_room *r, struct mu_err *err)
{
    int rc = mu_wire_sum(&r->wrong, 1, err);

    if (!rc && r->leader[r->host_of[r->rank]] == r->rank) {
        if (r->synced)
            mu_room_clock(r, "end");
        rc = add_counters(r, err);
        rc = rc ? rc : mu_gpu_counters_end(r, err);
    }
    if (!rc)
        rc = mu_room_flush(r, 1, err);

    if (rc || r->rank)
        return rc;
    printf("{\"kind\":\"end\",\"t\":%.3f,\"seconds\":%.3f,\"measurements\":%d,\"wrong\":%.0f,\"rc\":%d}\n",
           seconds(mu_wall()), seconds(mu_now() - r->began), r->measurements, r->wrong, r->wrong > 0 ? 5 : 0);
    return fflush(stdout) ? mu_err_set(err, MUSTER_EIO, "what was measured cannot be printed") : 0;
}
