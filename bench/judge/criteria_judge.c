/* Criteria against measurements. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/judge/criteria.h"
#include "runtime/base/clean.h"
#include "runtime/base/str.h"

struct on {
    const struct mu_criteria *c;
    const struct mu_data *d, *baseline;
    const struct mu_blame *b;
    double *work;
    struct {
        const struct mu_trials *like;
        double median;
        unsigned n;
    } known[64]; /* medians that were worked out already */
    unsigned nknown;
};

/* --- units ---------------------------------------------------------------------------------------------------------
 */

static double scale_of(const char *unit, enum mu_dim *dim)
{
    static const struct {
        const char *unit;
        enum mu_dim dim;
        double scale;
    } rows[] = {{"GB/s", MU_DIM_RATE, 1e9}, {"GFLOP/s", MU_DIM_FLOPS, 1e9}, {"TFLOP/s", MU_DIM_FLOPS, 1e12},
                {"us", MU_DIM_TIME, 1e-6},  {"ms", MU_DIM_TIME, 1e-3},      {"s", MU_DIM_TIME, 1},
                {"MB/s", MU_DIM_RATE, 1e6}};

    for (size_t i = 0; i < MU_COUNT(rows); i++)
        if (!strcmp(rows[i].unit, unit)) {
            *dim = rows[i].dim;
            return rows[i].scale;
        }
    *dim = MU_DIM_NONE;
    return 1;
}

static bool holds(enum mu_op op, double v, double t)
{
    switch (op) {
    case MU_OP_GE:
        return v >= t;
    case MU_OP_LE:
        return v <= t;
    case MU_OP_GT:
        return v > t;
    case MU_OP_LT:
        return v < t;
    default:
        return v == t;
    }
}

/* --- what is compared ----------------------------------------------------------------------------------------------
 */

static bool picked(const struct on *o, const struct mu_check *c, const struct mu_trials *s)
{
    return !s->key.round && s->n && s->key.size >= c->size_min && s->key.size <= c->size_max &&
           mu_criteria_matches(c->metric, o->d->tests[s->key.test].name);
}

/* Of the same test and size; of groups only those of as many ranks. */
static bool alike(const struct mu_trials *a, const struct mu_trials *b)
{
    return !b->key.round && a->key.test == b->key.test && a->key.size == b->key.size && a->scope == b->scope && b->n &&
           a->key.gpu == b->key.gpu && (a->scope != MU_SCOPE_GROUP || a->key.from == b->key.from);
}

static double median_of(struct on *o, const struct mu_trials *s, bool without, unsigned *n)
{
    uint32_t k = 0;

    for (unsigned i = 0; i < o->nknown; i++)
        if (alike(s, o->known[i].like) && (!without || o->known[i].n > 64)) { /* one of many moves it little */
            *n = o->known[i].n - without;
            return o->known[i].median;
        }
    for (uint32_t i = 0; i < o->d->n; i++) {
        const struct mu_trials *x = &o->d->series[i];
        if (alike(s, x) && !(without && x == s))
            o->work[k++] = mu_trials_median(x);
    }
    *n = k;
    double m = k ? mu_median(o->work, k) : 0;
    if (o->nknown < MU_COUNT(o->known) && (!without || k > 64)) {
        o->known[o->nknown].like = s;
        o->known[o->nknown].median = m;
        o->known[o->nknown++].n = k + without;
    }
    return m;
}

/* *lack: why there is none. */
static const struct mu_trials *in_baseline(const struct on *o, const struct mu_trials *s, const char **lack)
{
    const struct mu_data *w = o->baseline;
    const struct mu_test *t = &o->d->tests[s->key.test];

    *lack = w ? "the baseline does not have it" : "there is no baseline; give --baseline FILE";
    if (!w)
        return NULL;
    for (uint32_t i = 0; i < w->n; i++) {
        const struct mu_trials *x = &w->series[i];
        if (x->key.round || x->key.size != s->key.size || x->scope != s->scope || !x->n || x->key.rank != s->key.rank ||
            x->key.gpu != s->key.gpu || strcmp(w->tests[x->key.test].name, t->name) != 0)
            continue;
        bool there = s->scope == MU_SCOPE_GROUP
                         ? x->key.from == s->key.from && x->key.to == s->key.to
                         : !strcmp(w->hosts[x->key.from], o->d->hosts[s->key.from]) &&
                               (s->key.to < 0 ? x->key.to < 0
                                              : x->key.to >= 0 && !strcmp(w->hosts[x->key.to], o->d->hosts[s->key.to]));
        if (there && !strcmp(w->tests[x->key.test].unit, t->unit))
            return x;
        *lack = there ? "the baseline has it in another unit" : *lack;
    }
    return NULL;
}

/* The suspect in that state that explains the figure: who is confirmed explains all of its own, others only what they
 * were suspected for. */
static const struct mu_suspect *explained(const struct on *o, const struct mu_trials *s, enum mu_suspect_state state)
{
    for (unsigned i = 0; o->b && i < o->b->n; i++) {
        const struct mu_suspect *x = &o->b->v[i];
        const struct mu_trials_key *k = &s->key;
        if (x->state != state || s->scope == MU_SCOPE_GROUP || (state != MU_CONFIRMED && x->test != k->test))
            continue;
        bool its = x->kind == MU_SUSPECT_LINK   ? k->from == x->a && k->to == x->b
                   : x->kind == MU_SUSPECT_RANK ? k->rank == x->rank
                   : x->kind == MU_SUSPECT_GPU  ? k->from == x->a && k->gpu == x->gpu
                   : x->kind == MU_SUSPECT_NODE
                       ? k->from == x->a || k->to == x->a
                       : k->to >= 0 && ((o->d->group[k->from] == x->a && o->d->group[k->to] == x->b) ||
                                        (o->d->group[k->from] == x->b && o->d->group[k->to] == x->a));
        if (its)
            return x;
    }
    return NULL;
}

static void name_of(const struct on *o, const struct mu_trials *s, char *buf, size_t n)
{
    const char *test = o->d->tests[s->key.test].name;
    char size[32] = "", gpu[140];

    if (s->key.size)
        snprintf(size, sizeof size, " %llu B", (unsigned long long)s->key.size);
    if (s->scope == MU_SCOPE_GROUP)
        snprintf(buf, n, "%s%s, %d ranks", test, size, s->key.from);
    else if (s->scope == MU_SCOPE_PAIR)
        snprintf(buf, n, "%s%s, %s>%s", test, size, o->d->hosts[s->key.from], o->d->hosts[s->key.to]);
    else if (s->key.gpu)
        snprintf(buf, n, "%s%s, %s %s", test, size, o->d->hosts[s->key.from],
                 mu_data_gpu(o->d, s->key.from, s->key.gpu, gpu, sizeof gpu));
    else if (s->key.rank >= 0)
        snprintf(buf, n, "%s%s, %s rank %d", test, size, o->d->hosts[s->key.from], s->key.rank);
    else
        snprintf(buf, n, "%s%s, %s", test, size, o->d->hosts[s->key.from]);
}

/* --- one figure ----------------------------------------------------------------------------------------------------
 */

static void note(struct mu_result *r, enum mu_outcome outcome, const char *where, const char *why)
{
    if (outcome <= r->outcome && r->why[0])
        return;
    r->outcome = outcome;
    snprintf(r->where, sizeof r->where, "%s", where);
    snprintf(r->why, sizeof r->why, "%s", why);
}

/* False: there is nothing to compare with, *lack says what. */
static bool threshold_of(struct on *o, const struct mu_bound *b, const struct mu_trials *s, double *t,
                         const char **lack)
{
    enum mu_dim dim;
    double scale = scale_of(o->d->tests[s->key.test].unit, &dim), base;
    unsigned n;

    switch (b->against) {
    case MU_AGAINST_NUMBER:
    case MU_AGAINST_REF:
        if (b->dim != MU_DIM_NONE && b->dim != dim) {
            *lack = "the units do not fit";
            return false;
        }
        *t = b->against == MU_AGAINST_REF ? b->factor * o->c->refs[b->ref].value / scale
             : b->dim == MU_DIM_NONE      ? b->factor
                                          : b->factor / scale;
        return true;
    case MU_AGAINST_BASELINE: {
        const struct mu_trials *w = in_baseline(o, s, lack);
        if (w)
            *t = b->factor * mu_trials_median(w);
        return w != NULL;
    }
    default:
        base = median_of(o, s, b->against == MU_AGAINST_PEERS, &n);
        *lack = s->scope == MU_SCOPE_GROUP ? "no other groups to compare with"
                                           : "fewer than 4 hosts: no peers to compare with";
        if (s->scope == MU_SCOPE_GROUP ? n < 1 + (b->against == MU_AGAINST_MEDIAN) : o->d->nhosts < MU_HOSTS_MIN)
            return false;
        *t = b->factor * base;
        return true;
    }
}

static void worst(struct mu_result *r, const struct mu_bound *b, const struct mu_trials *s, double v, double t)
{
    bool less = b->op == MU_OP_LE || b->op == MU_OP_LT;
    double was = less ? r->value - r->threshold : r->threshold - r->value, is = less ? v - t : t - v;

    if (!r->at || is > was) {
        r->at = s;
        r->value = v;
        r->threshold = t;
    }
}

static bool lacking(const struct on *o, const struct mu_trials *s, char *why, size_t n)
{
    if (o->c->samples && s->samples && s->samples < o->c->samples)
        snprintf(why, n, "%llu samples, %llu are required", (unsigned long long)s->samples,
                 (unsigned long long)o->c->samples);
    else if (o->c->ci > 0 && s->ci > o->c->ci)
        snprintf(why, n, "known to %.2g %% only, %.2g %% is required", 100 * s->ci, 100 * o->c->ci);
    else if (o->c->late > 0 && s->late > o->c->late)
        snprintf(why, n, "%.2g %% of the samples were late, %.2g %% are allowed", 100 * s->late, 100 * o->c->late);
    else
        return false;
    return true;
}

static bool against_others(const struct mu_bound *b)
{
    return b->against == MU_AGAINST_MEDIAN || b->against == MU_AGAINST_PEERS;
}

/* Whether the figure was measured again and held, against those that were measured with it, in most rounds. */
static bool held_again(struct on *o, const struct mu_bound *b, const struct mu_trials *s, double t)
{
    unsigned rounds = 0, held = 0;

    for (uint32_t r = 1; r <= MU_ROUNDS_MAX; r++) {
        struct mu_trials_key key = s->key;
        uint32_t n = 0;
        key.round = r;
        const struct mu_trials *x = mu_data_find(o->d, &key);
        if (!x || !x->n)
            continue;
        for (uint32_t i = 0; i < o->d->n; i++) {
            const struct mu_trials *y = &o->d->series[i];
            if (y->key.round == r && y->key.test == key.test && y->key.size == key.size && y->key.gpu == key.gpu &&
                y->scope == x->scope && y->n)
                o->work[n++] = mu_trials_median(y);
        }
        rounds++;
        held += holds(b->op, mu_trials_median(x), against_others(b) ? b->factor * mu_median(o->work, n) : t);
    }
    return held * 2 > rounds;
}

/* A figure that must be confirmed and is below its bound, and of which nobody was confirmed. Relative to its peers it
 * is cleared, or nobody can tell; an absolute bound stands by itself, where the figure is known well enough. */
static enum mu_outcome unconfirmed(struct on *o, const struct mu_check *c, const struct mu_bound *b,
                                   const struct mu_trials *s, double value, double t, char *more, size_t n)
{
    bool known = s->scope == MU_SCOPE_GROUP || c->mode == MU_MODE_EACH;

    if (against_others(b) || o->d->tests[s->key.test].additive) {
        const struct mu_suspect *x = explained(o, s, MU_UNSURE);
        if (!x && o->d->nhosts >= MU_HOSTS_MIN && (explained(o, s, MU_CLEARED) || held_again(o, b, s, t)))
            return MU_PASS;
        snprintf(more, n, "%.150s",
                 x                             ? x->why
                 : o->d->nhosts < MU_HOSTS_MIN ? "with fewer than 4 hosts nothing confirms it"
                                               : "the others differ too much for it to stand out");
        return MU_INCONCLUSIVE;
    }
    if (known && fabs(value - t) <= s->ci * fabs(value)) {
        snprintf(more, n, "known to %.2g %% only", 100 * s->ci);
        return MU_INCONCLUSIVE;
    }
    unsigned low = 0;
    for (uint16_t i = 0; i < s->n && known; i++)
        low += !holds(b->op, s->v[i], t);
    if (known && low * 5 < s->n * 4u) {
        snprintf(more, n, "noisy: %u of %u trials hold", s->n - low, s->n);
        return MU_INCONCLUSIVE;
    }
    snprintf(more, n, "nobody stands out from the others");
    return MU_FAIL;
}

static void judge_one(struct on *o, const struct mu_check *c, const struct mu_trials *s, double value,
                      struct mu_result *r)
{
    const char *lack = NULL;
    char where[200], why[300];
    unsigned compared = 0;
    bool low = false;

    name_of(o, s, where, sizeof where);
    r->figures++;
    for (unsigned i = 0; i < c->nbounds; i++) {
        double t;
        if (!threshold_of(o, &c->bounds[i], s, &t, &lack))
            continue;
        compared++;
        worst(r, &c->bounds[i], s, value, t);
        if (holds(c->bounds[i].op, value, t))
            continue;
        low = true;
        const struct mu_suspect *x = explained(o, s, MU_CONFIRMED);
        char more[160] = "";
        enum mu_outcome outcome = MU_FAIL;
        if (x)
            mu_suspect_id(x, o->d, more, sizeof more);
        else if (c->of)
            outcome = unconfirmed(o, c, &c->bounds[i], s, value, t, more, sizeof more);
        if (outcome == MU_PASS)
            continue;
        snprintf(why, sizeof why, "%.4g %s, must be %.70s (%.4g)%s%s", value, r->unit, c->bounds[i].text, t,
                 more[0] ? "; " : "", more);
        r->failed += outcome == MU_FAIL;
        note(r, outcome, where, why);
    }
    compared += c->spread > 0;
    if (!compared && lack)
        note(r, MU_INCONCLUSIVE, where, lack);
    if (lacking(o, s, why, sizeof why) && !low)
        note(r, o->c->lack_fails ? MU_FAIL : MU_INCONCLUSIVE, where, why);
}

static void judge_spread(const struct on *o, const struct mu_check *c, const struct mu_trials *s, struct mu_result *r)
{
    double m = mu_trials_median(s), spread = m > 0 ? (s->max - s->min) / m : 0;
    char where[200], why[300];

    if (c->spread <= 0 || spread <= c->spread)
        return;
    name_of(o, s, where, sizeof where);
    snprintf(why, sizeof why, "its trials differ by %.2g %%, %.2g %% are allowed", 100 * spread, 100 * c->spread);
    r->failed++;
    note(r, MU_FAIL, where, why);
}

static void judge(struct on *o, const struct mu_check *c, struct mu_result *r)
{
    *r = (struct mu_result){.check = c, .outcome = MU_PASS};
    for (uint32_t i = 0; i < o->d->n; i++) {
        const struct mu_trials *s = &o->d->series[i];
        unsigned n;
        if (!picked(o, c, s))
            continue;
        snprintf(r->unit, sizeof r->unit, "%s", o->d->tests[s->key.test].unit);
        judge_spread(o, c, s, r);
        if (c->mode == MU_MODE_DELTA)
            judge_one(o, c, s, s->max - s->min, r);
        else if (c->mode == MU_MODE_EACH || s->scope == MU_SCOPE_GROUP)
            judge_one(o, c, s, mu_trials_median(s), r);
        else {
            bool first = true; /* of its test and size: all hosts or pairs together */
            for (uint32_t k = 0; k < i && first; k++)
                first = !alike(s, &o->d->series[k]);
            if (first)
                judge_one(o, c, s, median_of(o, s, false, &n), r);
        }
    }
    if (r->figures)
        return;
    bool relative = o->d->nhosts < MU_HOSTS_MIN; /* there is nobody to measure with, or to compare with */
    for (unsigned i = 0; i < c->nbounds; i++)
        relative = relative && (c->bounds[i].against == MU_AGAINST_MEDIAN || c->bounds[i].against == MU_AGAINST_PEERS);
    note(r,
         c->optional ? MU_SKIPPED
         : relative  ? MU_INCONCLUSIVE
                     : MU_FAIL,
         c->metric, c->optional ? "not measured" : "it was not measured");
}

void mu_criteria_judge(const struct mu_criteria *c, const struct mu_data *d, const struct mu_data *baseline,
                       const struct mu_blame *b, struct mu_result *results)
{
    mu_auto_free double *work = malloc((d->n + 1) * sizeof *work);
    struct on o = {.c = c, .d = d, .baseline = baseline, .b = b, .work = work};

    for (unsigned i = 0; i < c->nchecks; i++) {
        if (work)
            judge(&o, &c->checks[i], &results[i]);
        else
            results[i] = (struct mu_result){.check = &c->checks[i], .outcome = MU_INCONCLUSIVE, .why = "out of memory"};
    }
}

double *mu_criteria_effects(const struct mu_criteria *c, const struct mu_data *d)
{
    double *v = calloc(d->ntests + 1, sizeof *v);

    for (unsigned t = 0; v && t < d->ntests; t++)
        for (unsigned i = 0; i < c->nchecks; i++) {
            const struct mu_check *k = &c->checks[i];
            if (k->mode != MU_MODE_EACH || !k->of || !mu_criteria_matches(k->metric, d->tests[t].name))
                continue;
            for (unsigned b = 0; b < k->nbounds; b++) {
                double f = k->bounds[b].factor, effect = f < 1 ? 1 - f : 1 - 1 / f;
                if (d->tests[t].additive && k->bounds[b].against == MU_AGAINST_NUMBER)
                    effect = f;
                else if (k->bounds[b].against != MU_AGAINST_MEDIAN && k->bounds[b].against != MU_AGAINST_PEERS)
                    continue;
                if (effect > 0 && (v[t] == 0 || effect < v[t]))
                    v[t] = effect;
            }
        }
    return v;
}

void mu_criteria_confirm(const struct mu_criteria *c, unsigned *need, unsigned *of)
{
    *need = *of = 0;
    for (unsigned i = 0; i < c->nchecks; i++)
        if (c->checks[i].of > *of) {
            *of = c->checks[i].of;
            *need = c->checks[i].need;
        }
}

/* --- all together --------------------------------------------------------------------------------------------------
 */

enum mu_verdict mu_verdict_of(const struct mu_result *r, unsigned n, const struct mu_blame *b, const struct mu_data *d)
{
    enum mu_verdict v = MU_VERDICT_PASS;

    for (uint32_t i = 0; i < d->n; i++)
        if (d->series[i].wrong)
            return MU_VERDICT_CORRUPT;
    for (unsigned i = 0; i < b->n; i++)
        v = b->v[i].state == MU_CONFIRMED                         ? MU_VERDICT_FAIL
            : b->v[i].state != MU_CLEARED && v != MU_VERDICT_FAIL ? MU_VERDICT_INCONCLUSIVE
                                                                  : v;
    for (unsigned i = 0; i < n && v != MU_VERDICT_FAIL; i++)
        v = r[i].outcome == MU_FAIL ? MU_VERDICT_FAIL : r[i].outcome == MU_INCONCLUSIVE ? MU_VERDICT_INCONCLUSIVE : v;
    bool any = false;
    for (unsigned i = 0; i < n; i++)
        any = any || r[i].figures;
    return v == MU_VERDICT_PASS && !any ? MU_VERDICT_INCONCLUSIVE : v;
}

const char *mu_outcome_name(enum mu_outcome o)
{
    static const char *const names[] = {"pass", "skipped", "inconclusive", "fail"};

    return names[o];
}

const char *mu_verdict_name(enum mu_verdict v)
{
    static const char *const names[] = {"pass", "fail", "inconclusive", "fail"};

    return names[v];
}

int mu_verdict_exit(enum mu_verdict v)
{
    static const int codes[] = {0, 1, 3, 5};

    return codes[v];
}
