#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "launcher/bench.h"
#include "launcher/table.h"
#include "runtime/base/clean.h"
#include "runtime/base/str.h"

static const char *word(const json_t *m, const char *key)
{
    const char *s = json_string_value(json_object_get(m, key));

    return s ? s : "";
}

static double number(const json_t *m, const char *key)
{
    const json_t *v = json_object_get(m, key);

    return json_is_number(v) ? json_number_value(v) : NAN;
}

/* As nccl-tests' PERFORMANCE.md has them; bench/stats.h says the same of ranks. */
static double factor(const char *op, double n)
{
    if (!strcmp(op, "allreduce"))
        return 2 * (n - 1) / n;
    return !strcmp(op, "reduce_scatter") || !strcmp(op, "allgather") || !strcmp(op, "alltoall") ? (n - 1) / n : 1;
}

static double ranks_of(const json_t *m)
{
    return (double)json_array_size(json_object_get(m, "per_rank"));
}

static double algbw(const json_t *m)
{
    double us = number(m, "p50");

    return us > 0 ? number(m, "size") / us / 1e3 : NAN;
}

static double width(const json_t *m)
{
    const json_t *ci = json_object_get(m, "ci95");

    return json_is_array(ci) ? (json_number_value(json_array_get(ci, 1)) - json_number_value(json_array_get(ci, 0))) /
                                   2 / fabs(number(m, "p50"))
                             : NAN;
}

static void figure(struct mu_table *t, double v)
{
    if (isnan(v))
        mu_table_raw(t, "-");
    else
        mu_table_cellf(t, fabs(v) >= 100 ? "%.0f" : fabs(v) >= 10 ? "%.1f" : fabs(v) >= 1 ? "%.2f" : "%.4f", v);
}

static void plain(struct mu_table *t, double v, int digits)
{
    if (isnan(v))
        mu_table_raw(t, "-");
    else
        mu_table_cellf(t, "%.*f", digits, v);
}

static void wrong(struct mu_table *t, const json_t *m)
{
    const json_t *v = json_object_get(m, "wrong");

    char text[32];

    if (!json_is_integer(v)) {
        mu_table_raw(t, "-");
        return;
    }
    snprintf(text, sizeof text, "%lld", (long long)json_integer_value(v));
    mu_table_coloured(t, json_integer_value(v) ? MU_BAD : MU_PLAIN, text);
}

static void size_cell(struct mu_table *t, const json_t *m)
{
    char text[32];

    mu_table_cell(t, mu_str_fmt_size(text, sizeof text, (uint64_t)json_integer_value(json_object_get(m, "size"))));
}

static void show_colls(FILE *f, json_t *list)
{
    static const struct mu_column columns[] = {{"size", 1},   {"samples", 1},    {"median us", 1},  {"min us", 1},
                                               {"p99 us", 1}, {"algbw GB/s", 1}, {"busbw GB/s", 1}, {"wrong", 1}};
    const char *was = "";
    char head[200];
    struct mu_table *t = NULL;
    size_t i;
    json_t *m;

    json_array_foreach(list, i, m)
    {
        if (strncmp(word(m, "name"), "coll.", 5))
            continue;
        double n = ranks_of(m), us = number(m, "p50");
        char now[200];
        snprintf(now, sizeof now, "# %s%s %s, %.0f ranks, %s memory, %s place%s", word(m, "op"),
                 strcmp(word(m, "transport"), "mpi") ? "" : " of MPI", word(m, "dtype"), n, word(m, "memory"),
                 word(m, "place"), strcmp(word(m, "timing"), "start") ? "" : ", from a common start");
        if (strcmp(was, now)) {
            if (t) {
                mu_table_print(t, f);
                mu_table_free(t);
            }
            fprintf(f, "%s\n", now);
            snprintf(head, sizeof head, "%s", now);
            was = head;
            if (!(t = mu_table_new(columns, MU_COUNT(columns))))
                return;
        }
        size_cell(t, m);
        mu_table_cellf(t, "%.0f", number(m, "n"));
        plain(t, us, 2);
        plain(t, number(m, "min"), 2);
        plain(t, isnan(number(m, "p99")) ? number(m, "max") : number(m, "p99"), 2);
        plain(t, algbw(m), 3);
        plain(t, algbw(m) * factor(word(m, "op"), n), 3);
        wrong(t, m);
    }
    if (t)
        mu_table_print(t, f);
    mu_table_free(t);
}

static void where(struct mu_table *t, const json_t *m)
{
    const char *scope = word(m, "scope");

    if (!strcmp(scope, "node") && json_object_get(m, "gpu"))
        mu_table_cellf(t, "%s:gpu%.0f", word(m, "host"), number(m, "gpu"));
    else if (!strcmp(scope, "node"))
        mu_table_cell(t, word(m, "host"));
    else if (!strcmp(scope, "group"))
        mu_table_cellf(t, "%s%s", *word(m, "to_host") ? "all>" : "all", word(m, "to_host"));
    else if (!strcmp(word(m, "from_host"), word(m, "to_host"))) /* ranks of one host */
        mu_table_cellf(t, "%s:%.0f%s%.0f", word(m, "from_host"), number(m, "from"),
                       strcmp(word(m, "direction"), "both") ? ">" : "-", number(m, "to"));
    else
        mu_table_cellf(t, "%s%s%s", word(m, "from_host"), strcmp(word(m, "direction"), "both") ? ">" : "-",
                       word(m, "to_host"));
}

static int by_name(const void *a, const void *b)
{
    const json_t *x = *(json_t *const *)a, *y = *(json_t *const *)b;
    int d = strcmp(word(x, "name"), word(y, "name"));
    double p = number(x, "p50"), q = number(y, "p50");

    if (d || !strcmp(word(x, "scope"), "node")) {
        d = d ? d : strcmp(word(x, "host"), word(y, "host"));
        return d ? d : (number(x, "gpu") > number(y, "gpu")) - (number(x, "gpu") < number(y, "gpu"));
    }
    return strcmp(word(x, "better"), "more") ? (p < q) - (p > q) : (p > q) - (p < q); /* the worst first */
}

/* A counter that has not grown: not worth a line. */
static bool is_idle(const json_t *m)
{
    return !strncmp(word(m, "name"), "counter.", 8) && !(number(m, "p50") > 0);
}

/* All that is not a collective: a line each, and where there are very many the worst of each test. */
static void show_rest(FILE *f, json_t *list)
{
    static const struct mu_column columns[] = {{"test", 0},   {"where", 0}, {"size", 1}, {"samples", 1},
                                               {"median", 1}, {"+-%", 1},   {"min", 1},  {"max", 1},
                                               {"unit", 0},   {"wrong", 1}, {"flags", 0}};
    enum { MANY = 60, WORST = 10 };
    size_t n = json_array_size(list), k = 0, left = 0, same = 0;
    mu_auto_free json_t **v = malloc((n + 1) * sizeof(json_t *));
    struct mu_table *t = mu_table_new(columns, MU_COUNT(columns));

    for (size_t i = 0; i < n && v; i++)
        if (strncmp(word(json_array_get(list, i), "name"), "coll.", 5) && !is_idle(json_array_get(list, i)))
            v[k++] = json_array_get(list, i);
    if (!v || !t || !k)
        goto out;
    qsort(v, k, sizeof(json_t *), by_name);
    for (size_t i = 0; i < k; i++) {
        const json_t *m = v[i], *word_of;
        size_t j;
        same = i && !strcmp(word(v[i - 1], "name"), word(m, "name")) ? same + 1 : 0;
        if (k > MANY && same >= WORST) {
            left++;
            continue;
        }
        mu_table_cellf(t, "%s%s", word(m, "name"), strcmp(word(m, "transport"), "ucx") ? "" : "/ucx");
        where(t, m);
        size_cell(t, m);
        mu_table_cellf(t, "%.0f", number(m, "n"));
        figure(t, number(m, "p50"));
        if (isnan(width(m)))
            mu_table_raw(t, "-");
        else
            mu_table_cellf(t, "%.1f", 100 * width(m));
        figure(t, number(m, "min"));
        figure(t, number(m, "max"));
        mu_table_cell(t, word(m, "unit"));
        wrong(t, m);
        char flags[80] = "";
        json_array_foreach(json_object_get(m, "flags"), j, word_of)
        {
            size_t len = strlen(flags);
            snprintf(flags + len, sizeof flags - len, "%s%s", len ? "," : "", json_string_value(word_of));
        }
        mu_table_cell(t, flags);
    }
    mu_table_print(t, f);
    if (left)
        fprintf(f, "# and %zu better ones; --raw and --json have them\n", left);
out:
    mu_table_free(t);
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

/* Median; v stays as it is. */
static double middle(const double *v, size_t n)
{
    mu_auto_free double *sorted = malloc((n + 1) * sizeof *sorted);

    if (!sorted || !n)
        return NAN;
    memcpy(sorted, v, n * sizeof *sorted);
    qsort(sorted, n, sizeof *sorted, by_value);
    return n % 2 ? sorted[n / 2] : (sorted[n / 2 - 1] + sorted[n / 2]) / 2;
}

static bool same_series(const json_t *a, const json_t *b)
{
    return !strcmp(word(a, "name"), word(b, "name")) && !strcmp(word(a, "host"), word(b, "host")) &&
           json_equal(json_object_get(a, "size"), json_object_get(b, "size")) &&
           (number(a, "gpu") == number(b, "gpu") || (isnan(number(a, "gpu")) && isnan(number(b, "gpu"))));
}

/* A line for each series of windows: its first third against its last. */
static void show_trend(FILE *f, json_t *list)
{
    static const struct mu_column columns[] = {{"test", 0},     {"where", 0}, {"windows", 1}, {"first", 1}, {"last", 1},
                                               {"change %", 1}, {"worst", 1}, {"unit", 0},    {"wrong", 1}};
    size_t n = json_array_size(list);
    mu_auto_free double *v = malloc((n + 1) * sizeof *v);
    struct mu_table *t = mu_table_new(columns, MU_COUNT(columns));

    for (size_t i = 0; i < n && v && t; i++) {
        json_t *m = json_array_get(list, i);
        bool begun = false, more = !strcmp(word(m, "better"), "more");
        size_t k = 0;
        json_int_t bad = 0;
        for (size_t j = 0; j < i && !begun; j++)
            begun = same_series(json_array_get(list, j), m);
        for (size_t j = i; j < n && !begun; j++) {
            json_t *x = json_array_get(list, j);
            if (!same_series(x, m))
                continue;
            v[k++] = number(x, "p50");
            bad += json_integer_value(json_object_get(x, "wrong"));
        }
        if (begun || is_idle(m))
            continue;
        size_t third = (k + 2) / 3;
        double first = middle(v, third), last = middle(v + k - third, third), worst = v[0];
        for (size_t j = 0; j < k; j++)
            worst = more ? fmin(worst, v[j]) : fmax(worst, v[j]);
        mu_table_cell(t, word(m, "name"));
        where(t, m);
        mu_table_cellf(t, "%zu", k);
        figure(t, first);
        figure(t, last);
        if (first > 0)
            mu_table_cellf(t, "%+.1f", 100 * (last - first) / first);
        else
            mu_table_raw(t, "-");
        figure(t, worst);
        mu_table_cell(t, word(m, "unit"));
        mu_table_coloured(t, bad ? MU_BAD : MU_PLAIN, bad ? "yes" : "0");
    }
    if (t)
        mu_table_print(t, f);
    mu_table_free(t);
}

static void show_names(struct mu_buf *b, const json_t *list)
{
    const json_t *s;
    size_t i;
    char text[80];

    json_array_foreach(list, i, s) mu_buf_appendf(
        b, "%s%s", i ? ", " : "", mu_str_show(text, sizeof text, json_is_string(s) ? json_string_value(s) : "?"));
}

/* What bisection has found. */
static void show_culprits(FILE *f, const json_t *c)
{
    mu_auto_buf struct mu_buf hosts = {0}, with = {0};
    bool wrong = json_is_true(json_object_get(c, "wrong"));
    char size[32];

    show_names(&hosts, json_object_get(c, "hosts"));
    show_names(&with, json_object_get(c, "with"));
    fprintf(f, "%s, %s: ", word(c, "name"),
            mu_str_fmt_size(size, sizeof size, (uint64_t)json_integer_value(json_object_get(c, "size"))));
    if (!hosts.len)
        fprintf(f, "all hosts together are %s", wrong ? "right" : "fast enough");
    else
        fprintf(f, "%s with %s and %s", wrong ? "wrong" : "slow", mu_buf_str(&hosts),
                with.len ? mu_buf_str(&with) : "any other");
    fprintf(f, " (%.0f questions)\n", number(c, "asked"));
}

void mu_bench_show(FILE *f, json_t *measurements, json_t *skipped, json_t *culprits, bool trend)
{
    size_t i;
    json_t *s;

    if (trend) {
        show_trend(f, measurements);
    } else {
        show_colls(f, measurements);
        show_rest(f, measurements);
    }
    json_array_foreach(culprits, i, s) show_culprits(f, s);
    json_array_foreach(skipped, i, s)
    {
        char a[80], b[80], c[200];
        fprintf(f, "# skipped: %s on %s: %s\n", mu_str_show(a, sizeof a, word(s, "name")),
                mu_str_show(b, sizeof b, word(s, "host")), mu_str_show(c, sizeof c, word(s, "reason")));
    }
}

/* What the first version of the schema had for collectives. */
static void add_old_keys(json_t *m)
{
    double n = ranks_of(m), p99 = number(m, "p99");
    const json_t *ci = json_object_get(m, "ci95");

    if (strncmp(word(m, "name"), "coll.", 5))
        return;
    json_object_set_new(m, "bytes", json_integer(json_integer_value(json_object_get(m, "size"))));
    json_object_set_new(m, "ranks", json_integer((json_int_t)n));
    json_object_set_new(m, "p50_us", json_real(number(m, "p50")));
    json_object_set_new(m, "min_us", json_real(number(m, "min")));
    json_object_set_new(m, "p99_us", json_real(isnan(p99) ? number(m, "max") : p99));
    json_object_set_new(
        m, "ci95_us", json_is_array(ci) ? json_deep_copy(ci) : json_pack("[f,f]", number(m, "min"), number(m, "max")));
    json_object_set_new(m, "algbw_gbs", json_real(algbw(m)));
    json_object_set_new(m, "busbw_gbs", json_real(algbw(m) * factor(word(m, "op"), n)));
}

int mu_bench_show_json(FILE *f, json_t *measurements, json_t *skipped, json_t *culprits, struct mu_err *err)
{
    json_t *root = json_pack("{s:s,s:O,s:O,s:O}", "schema", "muster.bench/1", "tests", measurements, "skipped", skipped,
                             "culprits", culprits),
           *m;
    size_t i;

    if (!root)
        return mu_err_set(err, MUSTER_ENOMEM, "%s", muster_strerror(MUSTER_ENOMEM));
    json_array_foreach(measurements, i, m)
    {
        json_object_del(m, "values");
        json_object_del(m, "kind");
        add_old_keys(m);
    }
    int rc = json_dumpf(root, f, JSON_COMPACT | JSON_REAL_PRECISION(7));
    fputc('\n', f);
    json_decref(root);
    return rc ? mu_err_set(err, MUSTER_EIO, "what was measured cannot be printed") : 0;
}
