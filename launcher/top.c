/* muster top: what the pool does now, one picture after the other. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "launcher/answer.h"
#include "launcher/commands.h"
#include "launcher/screen.h"
#include "launcher/table.h"
#include "runtime/base/clean.h"
#include "runtime/base/clock.h"
#include "runtime/base/str.h"

#define RATE_OVER (10 * MU_SEC) /* steps are counted over so long at most */
#define LEAST (100 * MU_MS)

struct opts {
    bool once, json;
    uint64_t interval;
};
#define AT(field) offsetof(struct opts, field)
static const struct mu_opt rows[] = {
    {"once", 0, MU_OPT_FLAG, AT(once), NULL,
     "one picture, then end; so it is where the output is no terminal, or a dumb one", NULL, 0, 0, NULL},
    {"interval", 'd', MU_OPT_DURATION, AT(interval), "TIME", "from one picture to the next; default: 2s", NULL, 0, 0,
     NULL},
    {"json", 0, MU_OPT_FLAG, AT(json), NULL, "print one picture as JSON", NULL, 0, 0, NULL},
};

/* What steps a job had, to know how fast it makes them. */
struct pace {
    uint64_t job;
    double attempt;
    struct {
        uint64_t at;
        double step;
    } v[32];
    unsigned n;
    bool seen;
};

struct top {
    json_t *nodes_root, *jobs_root, *events_root;
    const json_t *nodes, *jobs, *events; /* events: oldest first; NULL: they are not told */
    struct pace *paces;
    size_t npaces;
};

static void forget_answers(struct top *t)
{
    json_decref(MU_STEAL(t->nodes_root, NULL));
    json_decref(MU_STEAL(t->jobs_root, NULL));
    json_decref(MU_STEAL(t->events_root, NULL));
    t->nodes = t->jobs = t->events = NULL;
}

static struct pace *pace_of(struct top *t, uint64_t job, bool make)
{
    for (size_t i = 0; i < t->npaces; i++)
        if (t->paces[i].job == job)
            return &t->paces[i];
    struct pace *v = make ? realloc(t->paces, (t->npaces + 1) * sizeof *v) : NULL;
    if (!v)
        return NULL;
    t->paces = v;
    v[t->npaces] = (struct pace){.job = job};
    return &v[t->npaces++];
}

static void note_pace(struct top *t, const json_t *job, uint64_t now)
{
    struct pace *p = pace_of(t, (uint64_t)mu_answer_num(job, "id"), true);
    double step = mu_answer_num(job, "step"), attempt = mu_answer_num(job, "attempt");

    if (!p)
        return;
    p->seen = true;
    if (p->n && (p->attempt != attempt || p->v[p->n - 1].step > step))
        p->n = 0;
    p->attempt = attempt;
    while (p->n == MU_COUNT(p->v) || (p->n > 1 && now - p->v[1].at >= RATE_OVER))
        memmove(p->v, p->v + 1, --p->n * sizeof p->v[0]);
    p->v[p->n].at = now;
    p->v[p->n++].step = step;
}

/* Steps a second; negative: not known. */
static double rate(struct top *t, const json_t *job)
{
    const struct pace *p = pace_of(t, (uint64_t)mu_answer_num(job, "id"), false);

    if (!p || p->n < 2 || p->v[p->n - 1].at <= p->v[0].at)
        return -1;
    return (p->v[p->n - 1].step - p->v[0].step) * (double)MU_SEC / (double)(p->v[p->n - 1].at - p->v[0].at);
}

/* True: some job makes steps. */
static bool note_paces(struct top *t)
{
    uint64_t now = mu_now();
    const json_t *job;
    bool any = false;
    size_t i;

    for (i = 0; i < t->npaces; i++)
        t->paces[i].seen = false;
    json_array_foreach(t->jobs, i, job)
    {
        if (!mu_answer_has(job, "step") || strcmp(mu_answer_str(job, "state"), "running") != 0)
            continue;
        note_pace(t, job, now);
        any = true;
    }
    for (i = 0; i < t->npaces;)
        if (t->paces[i].seen)
            i++;
        else
            t->paces[i] = t->paces[--t->npaces];
    return any;
}

static int ask(struct top *t, struct mu_err *err)
{
    json_t *nodes_root = NULL, *jobs_root = NULL, *events_root = NULL, *nodes, *jobs, *events = NULL;
    int rc = mu_answer_get("nodes", 0, false, "nodes", &nodes_root, &nodes, NULL, err);

    rc = rc ? rc : mu_answer_get("jobs", 0, false, "jobs", &jobs_root, &jobs, NULL, err);
    if (rc) {
        json_decref(nodes_root);
        return rc;
    }
    if (mu_answer_get("recent", 0, false, "events", &events_root, &events, NULL, NULL))
        events_root = events = NULL; /* the rest is worth a picture by itself */
    forget_answers(t);
    *t = (struct top){nodes_root, jobs_root, events_root, nodes, jobs, events, t->paces, t->npaces};
    note_paces(t);
    return 0;
}

/* --- the picture ---------------------------------------------------------------------------------------------------
 */

struct sums {
    double slots, used, free;
    unsigned nodes, up, running, waiting, others;
};

static struct sums sum(const struct top *t)
{
    struct sums s = {0};
    const json_t *o;
    size_t i;

    json_array_foreach(t->nodes, i, o)
    {
        double slots = mu_answer_num(o, "slots"), used = mu_answer_num(o, "used");
        bool up = !strcmp(mu_answer_str(o, "state"), "up");
        s.nodes++;
        s.up += up;
        s.slots += slots;
        s.used += used;
        s.free += up && slots > used ? slots - used : 0;
    }
    json_array_foreach(t->jobs, i, o)
    {
        const char *state = mu_answer_str(o, "state");
        if (!strcmp(state, "running"))
            s.running++;
        else if (!strcmp(state, "queued") || !strcmp(state, "suspended"))
            s.waiting++;
        else
            s.others++;
    }
    return s;
}

static void print_head(const struct top *t, FILE *f, const char *trouble)
{
    struct sums s = sum(t);
    time_t now = (time_t)(mu_wall() / MU_SEC);
    struct tm tm;
    char clock[32] = "", shown[300];

    if (localtime_r(&now, &tm))
        strftime(clock, sizeof clock, "%H:%M:%S", &tm);
    fprintf(f,
            "muster top  %s   nodes: %u of %u up   slots: %.0f of %.0f used, %.0f free   jobs: %u running, %u waiting",
            clock, s.up, s.nodes, s.used, s.slots, s.free, s.running, s.waiting);
    if (s.others)
        fprintf(f, ", %u starting or recovering", s.others);
    fprintf(f, "\n%s%s\n", trouble ? "! " : "", trouble ? mu_str_show(shown, sizeof shown, trouble) : "");
}

/* Ten characters. */
static void bar(struct mu_table *table, double used, double slots)
{
    char text[32];
    int n = slots > 0 ? (int)(used * 10 / slots + 0.5) : 0;

    n = n > 10 ? 10 : n;
    n = !n && used > 0 ? 1 : n;
    snprintf(text, sizeof text, "%.*s%.*s", n, "##########", 10 - n, "..........");
    mu_table_raw(table, text);
}

/* Those that something is to be said of, then the others. */
static void print_nodes(const struct top *t, FILE *f, unsigned most)
{
    static const struct mu_column columns[] = {{"NODE", 0}, {"STATE", 0},       {"SLOTS", MU_RIGHT}, {"USED", MU_RIGHT},
                                               {"", 0},     {"GPUS", MU_RIGHT}, {"REASON", 0}};
    struct mu_table *table = mu_table_new(columns, MU_COUNT(columns));
    unsigned shown = 0, left = 0;
    const json_t *node;
    size_t i;

    for (int quiet = 0; quiet < 2 && table; quiet++) {
        json_array_foreach(t->nodes, i, node)
        {
            const char *state = mu_answer_str(node, "state");
            bool busy = strcmp(state, "up") != 0 || mu_answer_num(node, "used") > 0;
            if (busy == (quiet == 1))
                continue;
            if (shown == most) {
                left++;
                continue;
            }
            shown++;
            mu_table_cell(table, mu_answer_str(node, "name"));
            mu_table_coloured(table, mu_colour_of_state(state), state);
            mu_table_cellf(table, "%.0f", mu_answer_num(node, "slots"));
            mu_table_cellf(table, "%.0f", mu_answer_num(node, "used"));
            bar(table, mu_answer_num(node, "used"), mu_answer_num(node, "slots"));
            mu_table_cellf(table, "%.0f", mu_answer_num(node, "gpus"));
            mu_table_cell(table, mu_answer_str(node, "reason"));
        }
    }
    if (table && shown)
        mu_table_print(table, f);
    else
        fputs("no nodes\n", f);
    if (left)
        fprintf(f, "and %u more nodes, which are up\n", left);
    mu_table_free(table);
}

static bool waits(const json_t *job)
{
    const char *state = mu_answer_str(job, "state");

    return !strcmp(state, "queued") || !strcmp(state, "suspended");
}

static void add_job(struct top *t, struct mu_table *table, const json_t *job)
{
    const char *state = mu_answer_str(job, "state");
    char buf[64], nodes[60];
    double steps = rate(t, job);

    mu_table_cellf(table, "%.0f", mu_answer_num(job, "id"));
    mu_table_cell(table, mu_answer_str(job, "name"));
    mu_table_cell(table, mu_answer_str(job, "user"));
    mu_table_coloured(table, mu_colour_of_state(state), state);
    mu_table_cellf(table, "%.0f", mu_answer_num(job, "ranks"));
    mu_table_cell(table, mu_answer_names(json_object_get(job, "nodes"), nodes, sizeof nodes));
    if (mu_answer_has(job, "step"))
        mu_table_cellf(table, "%.0f", mu_answer_num(job, "step"));
    else
        mu_table_cell(table, "");
    if (steps >= 0)
        mu_table_cellf(table, "%.*f", steps < 10 ? 2 : steps < 100 ? 1 : 0, steps);
    else
        mu_table_cell(table, "");
    mu_table_cellf(table, "%.0f", mu_answer_num(job, "restarts"));
    if (mu_answer_has(job, "save_last_s"))
        mu_table_cellf(table, "%.2fs", mu_answer_num(job, "save_last_s"));
    else
        mu_table_cell(table, "");
    mu_table_cell(table, mu_answer_elapsed(job, buf, sizeof buf));
    mu_table_cell(table, mu_answer_str(job, "reason"));
}

static int by_place(const void *a, const void *b)
{
    const json_t *x = *(const json_t *const *)a, *y = *(const json_t *const *)b;
    double p = mu_answer_has(x, "place") ? mu_answer_num(x, "place") : 1e18;
    double q = mu_answer_has(y, "place") ? mu_answer_num(y, "place") : 1e18;

    if (waits(x) != waits(y))
        return waits(x) ? 1 : -1;
    if (waits(x) && p != q)
        return p < q ? -1 : 1;
    return mu_answer_num(x, "id") < mu_answer_num(y, "id") ? -1 : 1;
}

/* Those that run, then the queue in its order. */
static void print_jobs(struct top *t, FILE *f, unsigned most)
{
    static const struct mu_column columns[] = {{"JOB", MU_RIGHT},  {"NAME", 0},           {"USER", 0},
                                               {"STATE", 0},       {"RANKS", MU_RIGHT},   {"NODES", 0},
                                               {"STEP", MU_RIGHT}, {"STEPS/S", MU_RIGHT}, {"RESTARTS", MU_RIGHT},
                                               {"SAVE", MU_RIGHT}, {"TIME", MU_RIGHT},    {"REASON", 0}};
    size_t n = json_array_size(t->jobs), i;
    struct mu_table *table = mu_table_new(columns, MU_COUNT(columns));
    mu_auto_free const json_t **v = calloc(n + 1, sizeof *v);
    const json_t *job;

    if (v && table && n) {
        json_array_foreach(t->jobs, i, job) v[i] = job;
        qsort(v, n, sizeof *v, by_place);
        for (i = 0; i < n && i < most; i++)
            add_job(t, table, v[i]);
        mu_table_print(table, f);
        if (n > most)
            fprintf(f, "and %zu more jobs\n", n - most);
    } else {
        fputs("no jobs are queued or running\n", f);
    }
    mu_table_free(table);
}

/* The newest first. */
static void print_events(const struct top *t, FILE *f, size_t most)
{
    static const struct mu_column columns[] = {{"AGO", MU_RIGHT},  {"EVENT", 0}, {"JOB", MU_RIGHT},
                                               {"RANK", MU_RIGHT}, {"NODE", 0},  {"DETAIL", 0}};
    struct mu_table *table = mu_table_new(columns, MU_COUNT(columns));
    double now = (double)mu_wall() / (double)MU_SEC;

    for (size_t i = json_array_size(t->events); table && i-- && most--;) {
        const json_t *e = json_array_get(t->events, i);
        double age = now - mu_answer_num(e, "t");
        char buf[64];
        mu_table_cell(table, mu_str_fmt_duration(buf, sizeof buf, age > 0 ? (uint64_t)(age * (double)MU_SEC) : 0));
        mu_table_cell(table, mu_answer_str(e, "kind"));
        mu_table_cellf(table, "%.0f", mu_answer_num(e, "job"));
        if (mu_answer_has(e, "rank"))
            mu_table_cellf(table, "%.0f", mu_answer_num(e, "rank"));
        else
            mu_table_cell(table, "");
        mu_table_cell(table, mu_answer_str(e, "node"));
        mu_table_cell(table, mu_answer_str(e, "detail"));
    }
    if (table)
        mu_table_print(table, f);
    mu_table_free(table);
}

/* lines: that there are for it; 0: any number. */
static void picture(struct top *t, FILE *f, unsigned lines, const char *trouble)
{
    size_t nevents = json_array_size(t->events), room = !lines ? 10 : lines > 20 ? lines / 5 : 0;

    nevents = nevents < room ? nevents : room;
    if (lines && nevents)
        lines -= (unsigned)nevents + 2;
    unsigned most = lines > 12 ? (lines - 7) / 2 : 3, nodes = (unsigned)json_array_size(t->nodes);

    print_head(t, f, trouble);
    print_nodes(t, f, lines ? most : UINT32_MAX);
    fputc('\n', f);
    nodes = nodes < most ? nodes : most + 1;
    print_jobs(t, f, lines ? (lines > nodes + 7 ? lines - nodes - 6 : 1) : UINT32_MAX);
    if (nevents) {
        fputc('\n', f);
        print_events(t, f, nevents);
    }
}

static int print_json(struct top *t)
{
    struct sums s = sum(t);
    json_t *o = json_pack("{s:s, s:f, s:{s:f, s:f, s:f}, s:O, s:O, s:O?}", "schema", "muster.top/1", "t",
                          (double)mu_wall() / (double)MU_SEC, "slots", "all", s.slots, "used", s.used, "free", s.free,
                          "nodes", t->nodes, "jobs", t->jobs, "events", t->events);
    json_t *job;
    size_t i;

    json_array_foreach(json_object_get(o, "jobs"), i, job)
    {
        double steps = rate(t, job);
        json_object_set_new(job, "step_rate", steps >= 0 ? json_real(steps) : json_null());
    }
    mu_auto_free char *text = o ? json_dumps(o, JSON_COMPACT | JSON_REAL_PRECISION(16)) : NULL;
    json_decref(o);
    if (text)
        puts(text);
    return text ? 0 : MUSTER_ENOMEM;
}

/* --- once, or again and again ---------------------------------------------------------------------------------------
 */

/* Of jobs that make steps a second look tells how fast. */
static int once(struct top *t, const struct opts *o, struct mu_err *err)
{
    int rc = ask(t, err);

    if (!rc && t->npaces) {
        nanosleep(&(struct timespec){.tv_sec = (time_t)(o->interval / MU_SEC), .tv_nsec = (long)(o->interval % MU_SEC)},
                  NULL);
        rc = ask(t, err);
    }
    if (rc)
        return rc;
    if (o->json)
        return print_json(t) ? mu_err_set(err, MUSTER_ENOMEM, "out of memory") : 0;
    picture(t, stdout, 0, NULL);
    return 0;
}

static int draw(struct top *t, const char *trouble)
{
    mu_auto_free char *text = NULL;
    unsigned lines, columns;
    size_t n;
    FILE *f = open_memstream(&text, &n);

    if (!f)
        return MUSTER_ENOMEM;
    mu_screen_size(&lines, &columns);
    picture(t, f, lines, trouble);
    fputs("\nq ends", f);
    if (fclose(f))
        return MUSTER_ENOMEM;
    mu_screen_draw(text);
    return 0;
}

static int live(struct top *t, const struct opts *o, struct mu_err *err)
{
    struct mu_err why = {0};
    int key = 0, rc = ask(t, err);

    if (rc || (rc = mu_screen_begin(err)))
        return rc;
    for (int what = MU_SCREEN_TIME; what != MU_SCREEN_END && key != 'q' && key != 'Q';) {
        if (what == MU_SCREEN_TIME)
            rc = ask(t, &why); /* a controller that is away comes back */
        if (draw(t, rc ? why.text : NULL))
            break;
        what = mu_screen_wait(o->interval, &key);
    }
    mu_screen_end();
    return 0;
}

int mu_cmd_top(int argc, char **argv)
{
    struct opts o = {.interval = 2 * MU_SEC};
    struct top t = {0};
    struct mu_err err = {0};
    int first, code;

    if (mu_cmd_options("muster top [OPTIONS]", rows, MU_COUNT(rows), argc, argv, 0, 0, &o, &first, &code))
        return code;
    o.interval = o.interval < LEAST ? LEAST : o.interval;
    bool one = o.once || o.json || !mu_screen_can();
    if (one && o.interval > MU_SEC)
        o.interval = MU_SEC;
    int rc = one ? once(&t, &o, &err) : live(&t, &o, &err);
    forget_answers(&t);
    free(t.paces);
    return rc ? mu_cmd_fail(argv[0], &err) : 0;
}
