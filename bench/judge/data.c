#include "bench/judge/data.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/clean.h"
#include "runtime/base/str.h"

static int cmp(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

void mu_put_in_order(double *v, uint32_t n)
{
    qsort(v, n, sizeof *v, cmp);
}

double mu_median(double *v, uint32_t n)
{
    mu_put_in_order(v, n);
    return n % 2 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
}

double mu_mad_sigma(double *v, uint32_t n, double median)
{
    for (uint32_t i = 0; i < n; i++)
        v[i] = fabs(v[i] - median);
    return 1.4826 * mu_median(v, n);
}

double mu_trials_median(const struct mu_trials *s)
{
    double few[32];
    double *v = s->n <= 32 ? few : malloc(s->n * sizeof *v);

    if (!v || !s->n)
        return s->n ? s->v[0] : 0;
    memcpy(v, s->v, s->n * sizeof *v);
    double m = mu_median(v, s->n);
    if (v != few)
        free(v);
    return m;
}

void mu_trials_waited(struct mu_trials *s, double share)
{
    if (!(share >= 0) || s->nwaited == UINT16_MAX)
        return;
    s->waited += share < 1 ? share : 1;
    s->nwaited++;
}

void mu_data_free(struct mu_data *d)
{
    for (uint32_t i = 0; i < d->nhosts; i++)
        free(d->hosts[i]);
    for (uint32_t i = 0; i < d->ngroups; i++)
        free(d->groups[i]);
    for (uint32_t i = 0; i < d->n; i++) {
        free(d->series[i].v);
        free(d->series[i].uuid);
    }
    for (uint32_t i = 0; i < d->ntests; i++)
        free(d->tests[i].tail);
    for (uint32_t i = 0; i < d->nculprits; i++)
        free(d->culprits[i].v);
    free(d->culprits);
    free(d->hosts);
    free(d->group);
    free(d->groups);
    free(d->rank_host);
    free(d->tests);
    free(d->series);
    free(d->slots);
    *d = (struct mu_data){0};
}

int mu_data_host(struct mu_data *d, const char *name)
{
    /* Hosts come in their order, run after run: a look at the last ones would not pay. */
    for (uint32_t i = 0; i < d->nhosts; i++)
        if (!strcmp(d->hosts[i], name))
            return (int)i;
    if (d->nhosts == d->hosts_cap) {
        uint32_t cap = d->hosts_cap ? d->hosts_cap * 2 : 16;
        char **h = realloc(d->hosts, cap * sizeof *h);
        if (h)
            d->hosts = h;
        int32_t *g = realloc(d->group, cap * sizeof *g);
        if (g)
            d->group = g;
        if (!h || !g)
            return MUSTER_ENOMEM;
        d->hosts_cap = cap;
    }
    if (!(d->hosts[d->nhosts] = strdup(name)))
        return MUSTER_ENOMEM;
    d->group[d->nhosts] = -1;
    return (int)d->nhosts++;
}

int mu_data_group(struct mu_data *d, uint32_t host, const char *name)
{
    uint32_t g = 0;

    while (g < d->ngroups && strcmp(d->groups[g], name))
        g++;
    if (g == d->ngroups) {
        char **v = realloc(d->groups, (g + 1) * sizeof *v);
        if (!v)
            return MUSTER_ENOMEM;
        d->groups = v;
        if (!(v[g] = strdup(name)))
            return MUSTER_ENOMEM;
        d->ngroups++;
    }
    d->group[host] = (int32_t)g;
    return 0;
}

int mu_data_test(struct mu_data *d, const char *name, const char *unit, bool less)
{
    size_t len = strlen(name);

    for (uint32_t i = 0; i < d->ntests; i++)
        if (!strcmp(d->tests[i].name, name))
            return (int)i;
    struct mu_test *v = realloc(d->tests, (d->ntests + 1) * sizeof *v);
    if (!v)
        return MUSTER_ENOMEM;
    d->tests = v;
    v[d->ntests] =
        (struct mu_test){.less = less, .of = d->ntests, .additive = len > 4 && !strcmp(name + len - 4, ".lag")};
    if (mu_str_copy(v[d->ntests].name, sizeof v->name, name) || mu_str_copy(v[d->ntests].unit, sizeof v->unit, unit))
        return MUSTER_EARG;
    return (int)d->ntests++;
}

/* --- series --------------------------------------------------------------------------------------------------------
 */

static uint64_t hash(const struct mu_trials_key *k)
{
    uint64_t h = 0x9e3779b97f4a7c15u;
    const uint64_t words[] = {k->test,  (uint32_t)k->from, (uint32_t)k->to, (uint32_t)k->rank,
                              k->round, k->size,           k->gpu};

    for (unsigned i = 0; i < MU_COUNT(words); i++) {
        h = (h ^ words[i]) * 0xff51afd7ed558ccdu;
        h ^= h >> 32;
    }
    return h;
}

static bool same(const struct mu_trials_key *a, const struct mu_trials_key *b)
{
    return a->test == b->test && a->from == b->from && a->to == b->to && a->rank == b->rank && a->round == b->round &&
           a->size == b->size && a->gpu == b->gpu;
}

static uint32_t *slot_of(const struct mu_data *d, const struct mu_trials_key *k)
{
    uint32_t at = (uint32_t)hash(k) & (d->nslots - 1);

    while (d->slots[at] && !same(&d->series[d->slots[at] - 1].key, k))
        at = (at + 1) & (d->nslots - 1);
    return &d->slots[at];
}

const struct mu_trials *mu_data_find(const struct mu_data *d, const struct mu_trials_key *k)
{
    uint32_t i = d->nslots ? *slot_of(d, k) : 0;

    return i ? &d->series[i - 1] : NULL;
}

char *mu_data_gpu(const struct mu_data *d, int32_t host, uint32_t gpu, char *buf, size_t n)
{
    int len = snprintf(buf, n, "GPU %u", gpu - 1);

    for (uint32_t i = 0; i < d->n; i++) {
        const struct mu_trials *s = &d->series[i];
        if (s->scope != MU_SCOPE_NODE || s->key.from != host || s->key.gpu != gpu || !s->uuid)
            continue;
        snprintf(buf + len, n - (size_t)len, " (%s)", s->uuid);
        break;
    }
    return buf;
}

static bool grow(struct mu_data *d)
{
    uint32_t cap = d->cap ? d->cap * 2 : 64;
    uint32_t *was = d->slots, *slots = calloc(cap * 2, sizeof *slots);
    struct mu_trials *v = slots ? realloc(d->series, cap * sizeof *v) : NULL;

    if (!v) {
        free(slots);
        return false;
    }
    d->series = v;
    d->cap = cap;
    d->slots = slots;
    d->nslots = cap * 2;
    free(was);
    for (uint32_t i = 0; i < d->n; i++)
        *slot_of(d, &v[i].key) = i + 1;
    return true;
}

struct mu_trials *mu_data_trials(struct mu_data *d, const struct mu_trials_key *k, enum mu_scope scope)
{
    if (d->n == d->cap && !grow(d))
        return NULL;
    uint32_t *at = slot_of(d, k);
    if (!*at) {
        d->series[d->n] = (struct mu_trials){.key = *k, .scope = (uint8_t)scope};
        *at = ++d->n;
    }
    return &d->series[*at - 1];
}

int mu_data_add(struct mu_trials *s, double value)
{
    if (!isfinite(value))
        return MUSTER_EARG;
    if (s->n == UINT16_MAX)
        return 0;
    if (s->n == s->cap) {
        uint16_t cap = (uint16_t)(s->cap ? s->cap > UINT16_MAX / 2 ? UINT16_MAX : s->cap * 2 : 4);
        double *v = realloc(s->v, cap * sizeof *v);
        if (!v)
            return MUSTER_ENOMEM;
        s->v = v;
        s->cap = cap;
    }
    s->min = !s->n || value < s->min ? value : s->min;
    s->max = !s->n || value > s->max ? value : s->max;
    s->v[s->n++] = value;
    return 0;
}

int mu_data_tail(struct mu_test *t, double sample)
{
    if (!t->tail && !(t->tail = malloc(MU_TAIL_MAX * sizeof *t->tail)))
        return MUSTER_ENOMEM;
    uint64_t at = t->seen++;
    if (t->ntail < MU_TAIL_MAX)
        t->tail[t->ntail++] = sample;
    else {
        uint64_t h = at * 0x9e3779b97f4a7c15u;
        h = (h ^ (h >> 31)) % t->seen;
        if (h < MU_TAIL_MAX)
            t->tail[h] = sample;
    }
    return 0;
}

/* --- trends --------------------------------------------------------------------------------------------------------
 */

static double trend_of(const struct mu_trials *s, bool less)
{
    uint16_t n = s->n / 3;
    struct mu_trials first = {.v = s->v, .n = n}, last = {.v = s->v + s->n - n, .n = n};
    double a = mu_trials_median(&first), b = mu_trials_median(&last);

    return a > 0 && b > 0 ? less ? a / b : b / a : NAN;
}

int mu_data_trends(struct mu_data *d)
{
    uint32_t n = d->n;

    for (uint32_t i = 0; i < n; i++) {
        const struct mu_trials *s = &d->series[i];
        const struct mu_test *t = &d->tests[s->key.test];
        struct mu_trials_key k = s->key;
        uint8_t scope = s->scope;
        char name[sizeof t->name];
        if (k.round || s->n < MU_TREND_MIN || scope == MU_SCOPE_GROUP || t->additive || !strcmp(t->unit, "errors") ||
            (size_t)snprintf(name, sizeof name, "%s.trend", t->name) >= sizeof name)
            continue;
        double value = trend_of(s, t->less);
        int test = mu_data_test(d, name, "ratio", false);
        if (test < 0)
            return test;
        d->tests[test].of = k.test;
        k.test = (uint32_t)test;
        struct mu_trials *trend = mu_data_trials(d, &k, scope);
        if (!trend || mu_data_add(trend, value) == MUSTER_ENOMEM)
            return MUSTER_ENOMEM;
    }
    return 0;
}
