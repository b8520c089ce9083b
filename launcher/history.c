/* muster jobs --history: what jobs have used, by job, user or node; as a table, as CSV or as JSON. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launcher/answer.h"
#include "launcher/history.h"
#include "launcher/table.h"
#include "runtime/base/buf.h"
#include "runtime/base/clean.h"
#include "runtime/base/str.h"

struct line {
    const char *key;
    const json_t *job; /* the newest that is counted */
    double jobs, waited, ran, ranks, gpus, useful, stepped, restarts, requeues, steps,
        done; /* stepped: time with steps */
};

struct book {
    struct line *v;
    size_t n;
};

static struct line *append(struct book *b, const char *key)
{
    struct line *v = realloc(b->v, (b->n + 1) * sizeof *v);

    if (!v)
        return NULL;
    b->v = v;
    v[b->n] = (struct line){.key = key};
    return &v[b->n++];
}

static struct line *line_of(struct book *b, const char *key)
{
    for (size_t i = 0; i < b->n; i++)
        if (!strcmp(b->v[i].key, key))
            return &b->v[i];
    return append(b, key);
}

/* part: of a job whose nodes share what it has used. */
static bool count(struct line *l, const json_t *job, double part)
{
    double step = mu_answer_has(job, "step") ? mu_answer_num(job, "step") + 1 : 0;
    double done = mu_answer_num(job, "steps_done") > step ? mu_answer_num(job, "steps_done") : step;

    if (!l)
        return false;
    l->job = job;
    l->jobs++;
    l->waited += mu_answer_num(job, "waited_s");
    l->ran += mu_answer_num(job, "ran_s");
    l->ranks += mu_answer_num(job, "rank_s") * part;
    l->gpus += mu_answer_num(job, "gpu_s") * part;
    if (done > 0) {
        l->useful += mu_answer_num(job, "stepping_s") * step / done;
        l->stepped += mu_answer_num(job, "ran_s");
    }
    /* those of an earlier version have no count of their own */
    double mended = mu_answer_num(job, "mended"),
           again = mu_answer_num(job, "restarts") - mu_answer_num(job, "requeues");
    l->restarts += again > mended ? again : mended;
    l->requeues += mu_answer_num(job, "requeues");
    l->steps += step;
    l->done += done;
    return true;
}

static bool add_nodes(struct book *b, const json_t *job)
{
    json_t *used = json_object_get(job, "node_rank_s"), *nodes = json_object_get(job, "nodes"), *v;
    double all = mu_answer_num(job, "rank_s");
    const char *name;
    bool ok = true;
    size_t i;

    json_object_foreach(used, name, v) ok =
        ok && count(line_of(b, name), job, all > 0 ? json_number_value(v) / all : 0);
    if (json_object_size(used))
        return ok;
    json_array_foreach(nodes, i, v) /* of an earlier version */
        ok = ok && json_string_value(v) &&
             count(line_of(b, json_string_value(v)), job, 1.0 / (double)json_array_size(nodes));
    return ok;
}

static bool add(struct book *b, const json_t *job, int by)
{
    if (by == MU_HISTORY_NODE)
        return add_nodes(b, job);
    return count(by == MU_HISTORY_USER ? line_of(b, mu_answer_str(job, "user")) : append(b, ""), job, 1);
}

/* A field of CSV (RFC 4180) on one line, and nothing that a terminal would obey or a spreadsheet take for a formula. */
static void field(const char *s, bool last)
{
    mu_auto_buf struct mu_buf b = {0};

    mu_str_printable(&b, s, strlen(s));
    s = mu_buf_str(&b);
    bool quote = strpbrk(s, ",\"") != NULL;
    if (quote)
        putchar('"');
    if (*s && strchr("=+-@", *s))
        putchar('\'');
    for (; *s; s++) {
        if (*s == '"')
            putchar('"');
        putchar(*s);
    }
    if (quote)
        putchar('"');
    putchar(last ? '\n' : ',');
}

static void number(double x, int digits)
{
    printf("%.*f,", digits, x);
}

static double goodput(const struct line *l)
{
    return l->done > 0 ? l->steps / l->done : 0;
}

static double useful(const struct line *l)
{
    return l->stepped > 0 ? l->useful / l->stepped : 0;
}

static void csv(const struct book *b, int by)
{
    static const char *const heads[] = {"job,name,state,exit_code,submitted_t,started_t,ended_t,user", "user", "node"};

    printf(
        "%s,jobs,waited_s,ran_s,rank_s,restarts,requeues,steps,steps_done,goodput,steps_per_s,gpu_s,useful_s,useful\n",
        heads[by]);
    for (size_t i = 0; i < b->n; i++) {
        const struct line *l = &b->v[i];
        if (by == MU_HISTORY_JOB) {
            number(mu_answer_num(l->job, "id"), 0);
            field(mu_answer_str(l->job, "name"), false);
            field(mu_answer_str(l->job, "state"), false);
            number(mu_answer_num(l->job, "exit_code"), 0);
            number(mu_answer_num(l->job, "submitted_t"), 3);
            number(mu_answer_num(l->job, "started_t"), 3);
            number(mu_answer_num(l->job, "ended_t"), 3);
        }
        field(by == MU_HISTORY_JOB ? mu_answer_str(l->job, "user") : l->key, false);
        number(l->jobs, 0);
        number(l->waited, 3);
        number(l->ran, 3);
        number(l->ranks, 3);
        number(l->restarts, 0);
        number(l->requeues, 0);
        number(l->steps, 0);
        number(l->done, 0);
        number(goodput(l), 4);
        number(l->ran > 0 ? l->steps / l->ran : 0, 4);
        number(l->gpus, 3);
        number(l->useful, 3);
        printf("%.4f\n", useful(l));
    }
}

static void table(const struct book *b, int by)
{
    static const struct mu_column columns[] = {{"", 0},
                                               {"NAME", 0},
                                               {"USER", 0},
                                               {"STATE", 0},
                                               {"JOBS", MU_RIGHT},
                                               {"WAITED", MU_RIGHT},
                                               {"RAN", MU_RIGHT},
                                               {"RANK-HOURS", MU_RIGHT},
                                               {"GPU-HOURS", MU_RIGHT},
                                               {"RESTARTS", MU_RIGHT},
                                               {"REQUEUES", MU_RIGHT},
                                               {"STEPS", MU_RIGHT},
                                               {"GOODPUT", MU_RIGHT},
                                               {"USEFUL", MU_RIGHT}};
    static const struct mu_column firsts[] = {{"ID", MU_RIGHT}, {"USER", 0}, {"NODE", 0}};
    struct mu_column shown[sizeof columns / sizeof columns[0]] = {firsts[by]};
    size_t from = by == MU_HISTORY_JOB ? 1 : 4, n = 1;
    char buf[64];

    for (size_t i = from; i < MU_COUNT(columns); i++)
        if (by != MU_HISTORY_JOB || i != 4)
            shown[n++] = columns[i];
    struct mu_table *t = mu_table_new(shown, n);
    for (size_t i = 0; i < b->n && t; i++) {
        const struct line *l = &b->v[i];
        if (by == MU_HISTORY_JOB) {
            mu_table_cellf(t, "%.0f", mu_answer_num(l->job, "id"));
            mu_table_cell(t, mu_answer_str(l->job, "name"));
            mu_table_cell(t, mu_answer_str(l->job, "user"));
            mu_table_coloured(t, mu_colour_of_state(mu_answer_str(l->job, "state")), mu_answer_str(l->job, "state"));
        } else {
            mu_table_cell(t, l->key);
            mu_table_cellf(t, "%.0f", l->jobs);
        }
        mu_table_cell(t, mu_str_fmt_duration(buf, sizeof buf, (uint64_t)(l->waited * 1e9)));
        mu_table_cell(t, mu_str_fmt_duration(buf, sizeof buf, (uint64_t)(l->ran * 1e9)));
        mu_table_cellf(t, "%.2f", l->ranks / 3600);
        mu_table_cellf(t, "%.2f", l->gpus / 3600);
        mu_table_cellf(t, "%.0f", l->restarts);
        mu_table_cellf(t, "%.0f", l->requeues);
        mu_table_cellf(t, "%.0f", l->steps);
        if (l->done > 0)
            mu_table_cellf(t, "%.0f %%", 100 * goodput(l));
        else
            mu_table_cell(t, "");
        if (l->stepped > 0)
            mu_table_cellf(t, "%.0f %%", 100 * useful(l));
        else
            mu_table_cell(t, "");
    }
    if (t && b->n)
        mu_table_print(t, stdout);
    else
        puts("no jobs have ended");
    mu_table_free(t);
}

static bool json(const struct book *b, int by)
{
    json_t *rows = json_array();
    bool ok = rows != NULL;

    for (size_t i = 0; i < b->n && ok; i++) {
        const struct line *l = &b->v[i];
        json_t *part = json_pack("{s:o,s:o,s:f}", "goodput", l->done > 0 ? json_real(goodput(l)) : json_null(),
                                 "useful", l->stepped > 0 ? json_real(useful(l)) : json_null(), "steps_per_s",
                                 l->ran > 0 ? l->steps / l->ran : 0.0);
        json_t *row =
            json_pack("{s:s,s:I,s:f,s:f,s:f,s:f,s:f,s:I,s:I,s:I,s:I}", by == MU_HISTORY_USER ? "user" : "node", l->key,
                      "jobs", (json_int_t)l->jobs, "waited_s", l->waited, "ran_s", l->ran, "rank_s", l->ranks, "gpu_s",
                      l->gpus, "useful_s", l->useful, "restarts", (json_int_t)l->restarts, "requeues",
                      (json_int_t)l->requeues, "steps", (json_int_t)l->steps, "steps_done", (json_int_t)l->done);
        ok = part && row && !json_object_update(row, part) && !json_array_append(rows, row);
        json_decref(part);
        json_decref(row);
    }
    json_t *root = ok ? json_pack("{s:s,s:s,s:o}", "schema", "muster.history/1", "by",
                                  by == MU_HISTORY_USER ? "user" : "node", "rows", rows)
                      : NULL;
    if (!ok)
        json_decref(rows);
    mu_auto_free char *text = root ? json_dumps(root, JSON_COMPACT) : NULL;
    json_decref(root);
    if (text)
        puts(text);
    return text != NULL;
}

int mu_history_print(const json_t *jobs, int by, enum mu_history_as as, struct mu_err *err)
{
    struct book b = {0};
    bool ok = true;
    json_t *job;
    size_t i;

    json_array_foreach(jobs, i, job)
    {
        if (ok && mu_answer_has(job, "ended_t"))
            ok = add(&b, job, by);
    }
    if (ok && as == MU_HISTORY_CSV)
        csv(&b, by);
    else if (ok && as == MU_HISTORY_JSON)
        ok = json(&b, by);
    else if (ok)
        table(&b, by);
    free(b.v);
    return ok ? 0 : mu_err_set(err, MUSTER_ENOMEM, "out of memory");
}
