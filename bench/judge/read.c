/* Reading "muster.samples/1" (docs/formats.md, "Measurements"). */
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/judge/data.h"
#include "bench/stats.h"
#include "runtime/base/clean.h"
#include "runtime/base/str.h"

struct reading {
    struct mu_data *d;
    uint32_t round;
    const char *name;
    unsigned line;
    bool begun; /* a line `run` has been there */
    struct mu_err *err;
};

static const char *text_of(const json_t *o, const char *key)
{
    const char *s = json_string_value(json_object_get(o, key));

    return s ? s : "";
}

/* Nothing that is measured is beyond, and nothing that is worked out of it becomes infinite. */
static bool measurable(double v)
{
    return v == 0 || (fabs(v) < 1e60 && fabs(v) > 1e-60);
}

static double number_of(const json_t *o, const char *key)
{
    double v = json_number_value(json_object_get(o, key));

    return measurable(v) ? v : 0; /* 0 where there is none */
}

static int bad(const struct reading *r, const char *what)
{
    return mu_err_set(r->err, MUSTER_EARG, "%s:%u: %s", r->name, r->line, what);
}

static int no_memory(const struct reading *r)
{
    return mu_err_set(r->err, MUSTER_ENOMEM, "out of memory");
}

static int on_run(struct reading *r, const json_t *o)
{
    const json_t *hosts = json_object_get(o, "hosts"), *of = json_object_get(o, "host_of"), *x;
    size_t i, n = json_array_size(of);

    if (strcmp(text_of(o, "schema"), "muster.samples/1") != 0)
        return bad(r, "not muster.samples/1");
    r->begun = true;
    int32_t *map = realloc(r->d->rank_host, (n + 1) * sizeof *map);
    if (!map)
        return no_memory(r);
    r->d->rank_host = map;
    r->d->nranks = (uint32_t)n;
    json_array_foreach(hosts, i, x)
    {
        const char *s = json_string_value(x);
        if (!s || !*s)
            return bad(r, "'hosts' must be names");
        if (mu_data_host(r->d, s) < 0)
            return no_memory(r);
    }
    json_array_foreach(of, i, x)
    {
        const char *s = json_string_value(json_array_get(hosts, (size_t)json_integer_value(x)));
        if (!s)
            return bad(r, "'host_of' must be indexes into 'hosts'");
        map[i] = mu_data_host(r->d, s);
    }
    return 0;
}

static int host_of(struct reading *r, const json_t *o, const char *key, int32_t *out)
{
    const char *s = text_of(o, key);

    if (!*s)
        return bad(r, "a measurement without its host");
    *out = mu_data_host(r->d, s);
    return *out < 0 ? no_memory(r) : 0;
}

/* The plain variant of a test, as `muster bench` makes it where nothing else is said, has its name alone. Messages are
 * MPI's, operations the library's. */
static void name_of(const json_t *o, char *buf, size_t n)
{
    const char *op = text_of(o, "op");
    const char *place = !strcmp(op, "allreduce") || !strcmp(op, "broadcast") ? "in" : "out";
    const char *const plain[][2] = {
        {"dtype", "float32"}, {"memory", "private"}, {"place", place}, {"transport", "muster"}};
    size_t len = (size_t)snprintf(buf, n, "%s", text_of(o, "name"));

    for (size_t i = 0; i < MU_COUNT(plain) && len < n; i++) {
        const char *v = text_of(o, plain[i][0]);
        if (*v && strcmp(v, plain[i][1]) != 0 && !(i == 3 && !strcmp(v, "mpi") && strncmp(buf, "coll.", 5) != 0))
            len += (size_t)snprintf(buf + len, n - len, "/%s", v);
    }
}

static uint64_t size_of(const json_t *o)
{
    double v = number_of(o, "size");

    return v > 0 && v < 9e18 ? (uint64_t)v : 0;
}

static bool flag(const json_t *o, const char *word)
{
    const json_t *flags = json_object_get(o, "flags"), *x;
    size_t i;

    json_array_foreach(flags, i, x)
    {
        if (json_is_string(x) && !strcmp(json_string_value(x), word))
            return true;
    }
    return false;
}

static int put(struct reading *r, struct mu_trials_key *k, enum mu_scope scope, const char *name, const char *unit,
               bool less, double value, const json_t *o)
{
    int test = mu_data_test(r->d, name, unit, less);

    if (test < 0)
        return test == MUSTER_EARG ? bad(r, "the name of a test or unit is too long") : no_memory(r);
    if (strcmp(r->d->tests[test].unit, unit) != 0)
        return bad(r, "this test had another unit before");
    k->test = (uint32_t)test;
    k->round = r->round;
    struct mu_trials *s = mu_data_trials(r->d, k, scope);
    if (!s || mu_data_add(s, value) == MUSTER_ENOMEM)
        return no_memory(r);
    const json_t *ci = json_object_get(o, "ci95");
    double p50 = number_of(o, "p50"), n = number_of(o, "n"), wrong = number_of(o, "wrong");
    if (json_array_size(ci) == 2 && p50 > 0) {
        double half = (json_number_value(json_array_get(ci, 1)) - json_number_value(json_array_get(ci, 0))) / 2 / p50;
        s->ci = half > s->ci && measurable(half) ? half : s->ci;
    }
    if (!strcmp(name, "node.mem.test"))
        wrong += value; /* memory that gives back something else; counters of errors are another matter */
    const json_t *values = json_object_get(o, "values"), *x;
    size_t i;
    json_array_foreach(values, i, x)
    {
        if (!r->round && !strcmp(unit, "us") && json_is_number(x) && measurable(json_number_value(x)) &&
            mu_data_tail(&r->d->tests[test], json_number_value(x)))
            return no_memory(r);
    }
    s->samples += n > 0 && n < 1e15 ? (uint64_t)n : 0;
    s->wrong += wrong > 0 && wrong < 1e18 ? (uint64_t)ceil(wrong) : 0;
    s->p99 = fmax(s->p99, number_of(o, "p99"));
    s->late = fmax(s->late, number_of(o, "late"));
    mu_trials_waited(s, number_of(o, "waited"));
    s->noisy = s->noisy || flag(o, "noisy");
    s->unsynced = s->unsynced || flag(o, "unsynced");
    if (k->gpu && !s->uuid && *text_of(o, "uuid") && !(s->uuid = strdup(text_of(o, "uuid"))))
        return no_memory(r);
    return 0;
}

/* What a processor gives over all of its time: samples that were held back count, which a median would not see. */
static int put_mean(struct reading *r, const json_t *o, struct mu_trials_key *k, const char *name, const char *unit)
{
    const json_t *values = json_object_get(o, "values"), *x;
    char mean[200];
    double sum = 0, told = number_of(o, "mean");
    size_t i, n = 0;

    if (strncmp(name, "node.cpu.", 9) != 0 || (size_t)snprintf(mean, sizeof mean, "%s.mean", name) >= 80)
        return 0;
    json_array_foreach(values, i, x)
    {
        double v = json_number_value(x);
        if (v <= 0 || !measurable(v))
            continue;
        sum += 1 / v;
        n++;
    }
    json_t *load = json_pack("{s:f}", "waited", number_of(o, "waited"));
    double is = told > 0 ? told : n ? (double)n / sum : 0;
    int rc = is > 0 ? put(r, k, MU_SCOPE_NODE, mean, unit, false, is, load) : 0;
    json_decref(load);
    return rc;
}

/* When each rank came to the operation, as a share of what it took. */
static int put_lags(struct reading *r, const json_t *o, const char *name, double p50)
{
    const json_t *per_rank = json_object_get(o, "per_rank"), *group = json_object_get(o, "group"), *x;
    char lag[200];
    size_t i;
    int rc = 0;

    if (p50 <= 0 || (size_t)snprintf(lag, sizeof lag, "%s.lag", name) >= 80)
        return 0;
    json_array_foreach(per_rank, i, x)
    {
        const json_t *at = json_array_get(group, i), *arrive = json_object_get(x, "arrive_us");
        json_int_t rank = json_is_integer(at) ? json_integer_value(at) : (json_int_t)i;
        if (!json_is_number(arrive) || !measurable(json_number_value(arrive)) || rank < 0 ||
            rank >= (json_int_t)r->d->nranks || rc)
            continue;
        struct mu_trials_key k = {.from = r->d->rank_host[rank], .to = -1, .rank = (int32_t)rank, .size = size_of(o)};
        rc = put(r, &k, MU_SCOPE_NODE, lag, "ratio", true, json_number_value(arrive) / p50, x);
    }
    return rc;
}

static int on_group(struct reading *r, const json_t *o, const char *name, const char *unit, bool less, double p50)
{
    const json_t *group = json_object_get(o, "group"), *x;
    uint64_t h = 0;
    size_t i, n = json_is_array(group) ? json_array_size(group) : r->d->nranks;
    struct mu_trials_key k = {.from = (int32_t)n, .rank = -1, .size = size_of(o)};
    char derived[200];

    json_array_foreach(group, i, x) h = (h ^ (uint64_t)json_integer_value(x)) * 0xff51afd7ed558ccdu + 1;
    k.to = json_is_array(group) && n < r->d->nranks ? (int32_t)(h >> 33) : -1;
    int rc = put(r, &k, MU_SCOPE_GROUP, name, unit, less, p50, o);
    if (rc || strcmp(unit, "us") != 0 || !(p50 > 0))
        return rc;
    if ((size_t)snprintf(derived, sizeof derived, "%s.busbw", name) < 80 && k.size) {
        double algbw = (double)k.size / p50 / 1e3;
        rc = put(r, &k, MU_SCOPE_GROUP, derived, "GB/s", false,
                 algbw * mu_stats_busbw_factor(text_of(o, "op"), (int)(n ? n : 1)), NULL);
        snprintf(derived, sizeof derived, "%s.algbw", name);
        rc = rc ? rc : put(r, &k, MU_SCOPE_GROUP, derived, "GB/s", false, algbw, NULL);
    }
    return rc ? rc : put_lags(r, o, name, p50);
}

static int on_measurement(struct reading *r, const json_t *o)
{
    const char *scope = text_of(o, "scope"), *unit = text_of(o, "unit");
    const json_t *p50 = json_object_get(o, "p50"), *rank = json_object_get(o, "rank"), *gpu = json_object_get(o, "gpu");
    bool less = !strcmp(text_of(o, "better"), "less");
    char name[160];
    int rc;

    if (!r->begun)
        return bad(r, "a measurement before the line 'run'");
    if (!*text_of(o, "name") || !*unit)
        return bad(r, "a measurement without 'name' or 'unit'");
    if (json_is_number(p50) && !measurable(json_number_value(p50)))
        return bad(r, "'p50' is nothing that can be measured");
    name_of(o, name, sizeof name);
    r->d->measurements++;
    struct mu_trials_key k = {.to = -1, .rank = -1, .size = size_of(o)};
    bool wrong = number_of(o, "wrong") > 0;
    if (!strcmp(scope, "group") && (json_is_number(p50) || wrong)) /* what is wrong counts without a time, too */
        return on_group(r, o, name, unit, less, json_is_number(p50) ? json_number_value(p50) : NAN);
    if (!json_is_number(p50))
        return 0; /* it could not be measured */
    if (!strcmp(scope, "pair")) {
        if ((rc = host_of(r, o, "from_host", &k.from)) || (rc = host_of(r, o, "to_host", &k.to)))
            return rc;
        if (k.from == k.to)
            return 0; /* inside a host: no link */
        return put(r, &k, MU_SCOPE_PAIR, name, unit, less, json_number_value(p50), o);
    }
    if (strcmp(scope, "node") != 0)
        return bad(r, "'scope' is not node, pair or group");
    if ((rc = host_of(r, o, "host", &k.from)))
        return rc;
    if (json_is_integer(rank) && json_integer_value(rank) >= 0 && json_integer_value(rank) < INT32_MAX)
        k.rank = (int32_t)json_integer_value(rank);
    if (json_is_integer(gpu) && json_integer_value(gpu) >= 0 && json_integer_value(gpu) < INT32_MAX)
        k.gpu = (uint32_t)json_integer_value(gpu) + 1;
    rc = put(r, &k, MU_SCOPE_NODE, name, unit, less, json_number_value(p50), o);
    return rc ? rc : put_mean(r, o, &k, name, unit);
}

static int on_culprits(struct reading *r, const json_t *o)
{
    double asked = number_of(o, "asked");
    const json_t *hosts = json_object_get(o, "hosts"), *with = json_object_get(o, "with"), *x;
    struct mu_culprits c = {.size = size_of(o),
                            .wrong = json_is_true(json_object_get(o, "wrong")),
                            .drop = number_of(o, "drop"),
                            .asked = asked > 0 && asked < 1e9 ? (unsigned)asked : 0,
                            .nhosts = (uint32_t)json_array_size(hosts),
                            .nwith = (uint32_t)json_array_size(with)};
    char name[160];
    uint32_t n = 0;
    size_t i;

    if (!r->begun || !*text_of(o, "name"))
        return bad(r, "what bisection has found, without 'name' or before the line 'run'");
    name_of(o, name, sizeof name);
    int test = mu_data_test(r->d, name, "us", true);
    if (test < 0)
        return test == MUSTER_EARG ? bad(r, "the name of a test is too long") : no_memory(r);
    c.test = (uint32_t)test;
    if (!(c.v = malloc((c.nhosts + c.nwith + 1) * sizeof *c.v)))
        return no_memory(r);
    json_array_foreach(hosts, i, x) c.v[n++] = mu_data_host(r->d, json_is_string(x) ? json_string_value(x) : "?");
    json_array_foreach(with, i, x) c.v[n++] = mu_data_host(r->d, json_is_string(x) ? json_string_value(x) : "?");
    struct mu_culprits *v = realloc(r->d->culprits, (r->d->nculprits + 1) * sizeof *v);
    if (v)
        r->d->culprits = v;
    for (uint32_t k = 0; k < n && v; k++)
        v = c.v[k] < 0 ? NULL : v;
    if (!v) {
        free(c.v);
        return no_memory(r);
    }
    v[r->d->nculprits++] = c;
    return 0;
}

static int on_line(struct reading *r, const char *text, size_t len, bool whole)
{
    json_error_t e;
    json_t *o = json_loadb(text, len, 0, &e);
    int rc = 0;

    if (!json_is_object(o)) {
        json_decref(o);
        return whole ? bad(r, "not a JSON object") : 0;
    }
    const char *kind = text_of(o, "kind");
    if (!strcmp(kind, "run"))
        rc = on_run(r, o);
    else if (!strcmp(kind, "measurement"))
        rc = on_measurement(r, o);
    else if (!strcmp(kind, "culprits"))
        rc = on_culprits(r, o);
    else if (!strcmp(kind, "clock"))
        r->d->residual_us = fmax(r->d->residual_us, number_of(o, "residual_us"));
    else if (!strcmp(kind, "skip"))
        r->d->skipped++;
    json_decref(o);
    return rc;
}

int mu_data_read(struct mu_data *d, const char *name, const char *text, size_t len, uint32_t round, struct mu_err *err)
{
    struct reading r = {.d = d, .round = round, .name = name, .err = err};
    int rc = 0;

    for (size_t at = 0; at < len && !rc;) {
        const char *end = memchr(text + at, '\n', len - at);
        size_t n = end ? (size_t)(end - text) - at : len - at;
        r.line++;
        if (n)
            rc = on_line(&r, text + at, n, end != NULL);
        at += n + 1;
    }
    return rc;
}
