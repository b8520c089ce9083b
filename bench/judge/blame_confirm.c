/* Suspects are measured again, with partners that are clear, while pairs of clear ones are measured beside them: what
 * the whole cluster suffers from at that time accuses nobody. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/judge/blame_priv.h"
#include "runtime/base/clean.h"

#define ROUND_PART 0.6  /* of the effect: a round agrees */
#define POOLED_PART 0.8 /* of the effect: all rounds together */
#define SURE_PART 0.8   /* of a suspect's trials: so many must be low, not only the middle one */

enum { PARTNERS = 3, CONTROLS = 4 };

/* What suspects touch. */
struct touched {
    bool *host, *node; /* in any way; as a node or the host of a rank */
    int32_t *clear;
    uint32_t nclear;
};

static void touched_free(struct touched *t)
{
    free(t->host);
    free(t->node);
    free(t->clear);
}

static bool touch(struct touched *t, const struct mu_blame *b, const struct mu_data *d)
{
    *t = (struct touched){.host = calloc(d->nhosts + 1, 1),
                          .node = calloc(d->nhosts + 1, 1),
                          .clear = calloc(d->nhosts + 1, sizeof *t->clear)};
    if (!t->host || !t->node || !t->clear)
        return false;
    for (unsigned i = 0; i < b->n; i++) {
        const struct mu_suspect *s = &b->v[i];
        if (s->state == MU_CLEARED || s->kind == MU_SUSPECT_BOUNDARY)
            continue;
        t->host[s->a] = true;
        if (s->kind == MU_SUSPECT_LINK)
            t->host[s->b] = true;
        else
            t->node[s->a] = true;
    }
    for (uint32_t h = 0; h < d->nhosts; h++)
        if (!t->host[h])
            t->clear[t->nclear++] = (int32_t)h;
    for (uint32_t h = 0; h < d->nhosts && t->nclear < 2; h++) /* better than nobody */
        if (!t->node[h] && t->host[h])
            t->clear[t->nclear++] = (int32_t)h;
    return true;
}

static bool crosses(const struct mu_data *d, const struct mu_suspect *s, int32_t from, int32_t to)
{
    int32_t a = d->group[from], b = d->group[to];

    return (a == s->a && b == s->b) || (s->dir == MU_DIR_BOTH && a == s->b && b == s->a);
}

/* A pair of clear hosts, or one by itself: what the suspects are compared with. */
static bool is_control(const struct touched *t, const struct mu_blame *b, const struct mu_data *d, int32_t from,
                       int32_t to)
{
    if (t->node[from] || (to >= 0 && t->node[to]))
        return false;
    for (unsigned i = 0; i < b->n && to >= 0; i++) {
        const struct mu_suspect *s = &b->v[i];
        if (s->state == MU_CLEARED)
            continue;
        if ((s->kind == MU_SUSPECT_LINK && s->a == from && s->b == to) ||
            (s->kind == MU_SUSPECT_BOUNDARY && crosses(d, s, from, to)))
            return false;
    }
    return true;
}

/* --- what to measure -----------------------------------------------------------------------------------------------
 */

struct asks {
    const struct mu_data *d;
    struct mu_ask *v;
    unsigned n, cap;
    uint32_t *next; /* of each host: its first wave that is free */
    bool failed;
};

static void ask(struct asks *a, const struct mu_suspect *s, int32_t from, int32_t to)
{
    uint32_t test = a->d->tests[s->test].of; /* of a trend: what it is the trend of */

    if (from == to)
        return;
    for (unsigned i = a->n; i--;)
        if (a->v[i].test == test && a->v[i].size == s->size && a->v[i].from == from && a->v[i].to == to)
            return;
    if (a->n == a->cap) {
        unsigned cap = a->cap ? a->cap * 2 : 32;
        struct mu_ask *v = realloc(a->v, cap * sizeof *v);
        a->failed = a->failed || !v;
        if (!v)
            return;
        a->v = v;
        a->cap = cap;
    }
    uint32_t wave = to >= 0 && a->next[to] > a->next[from] ? a->next[to] : a->next[from];
    a->next[from] = wave + 1;
    if (to >= 0)
        a->next[to] = wave + 1;
    a->v[a->n++] = (struct mu_ask){.test = test, .size = s->size, .from = from, .to = to, .wave = wave};
}

static int32_t clear_one(const struct touched *t, unsigned k)
{
    return t->nclear ? t->clear[k % t->nclear] : -1;
}

/* The k-th host of a group, counted round and round; -1: it has none. */
static int32_t member(const struct mu_data *d, int32_t group, unsigned k)
{
    uint32_t n = 0;

    for (uint32_t h = 0; h < d->nhosts; h++)
        n += d->group[h] == group;
    k = n ? k % n : 0;
    for (uint32_t h = 0; h < d->nhosts; h++)
        if (d->group[h] == group && !k--)
            return (int32_t)h;
    return -1;
}

/* Pairs across, and pairs that stay on either side. */
static void ask_boundary(struct asks *a, const struct mu_data *d, const struct mu_suspect *s, unsigned turn)
{
    for (unsigned i = 0; i < PARTNERS; i++) {
        unsigned k = turn + 2 * i;
        int32_t from = member(d, s->a, k), to = member(d, s->b, k + i);
        if (from < 0 || to < 0)
            return;
        ask(a, s, from, to);
        if (s->dir == MU_DIR_BOTH)
            ask(a, s, to, from);
        ask(a, s, member(d, s->a, k + 1), from);
        ask(a, s, to, member(d, s->b, k + i + 1));
    }
}

static void ask_suspect(struct asks *a, const struct touched *t, const struct mu_data *d, const struct mu_suspect *s,
                        unsigned turn)
{
    bool pair = s->pair || s->kind == MU_SUSPECT_LINK;

    if (s->kind == MU_SUSPECT_BOUNDARY) {
        ask_boundary(a, d, s, turn);
        return;
    }
    if (s->kind == MU_SUSPECT_LINK)
        ask(a, s, s->a, s->b);
    else if (!pair)
        ask(a, s, s->a, -1);
    for (unsigned k = 0; k < PARTNERS && pair && s->kind != MU_SUSPECT_LINK && t->nclear; k++) {
        int32_t with = clear_one(t, turn + k);
        if (s->dir & MU_DIR_OUT)
            ask(a, s, s->a, with);
        if (s->dir & MU_DIR_IN)
            ask(a, s, with, s->a);
    }
    for (unsigned k = 0; k < CONTROLS && t->nclear > 1; k++) {
        unsigned at = turn + PARTNERS + (pair ? 2 * k : k);
        ask(a, s, clear_one(t, at), pair ? clear_one(t, at + 1) : -1);
    }
}

int mu_blame_ask(const struct mu_blame *b, const struct mu_data *d, unsigned round, struct mu_ask **out, unsigned *n)
{
    struct touched t;
    struct asks a = {.d = d, .next = calloc(d->nhosts + 1, sizeof *a.next)};
    bool good = touch(&t, b, d) && a.next;

    for (unsigned i = 0; i < b->n && good; i++)
        if (b->v[i].state == MU_SUSPECTED)
            ask_suspect(&a, &t, d, &b->v[i], round * 5 + i * 7);
    touched_free(&t);
    free(a.next);
    if (!good || a.failed) {
        free(a.v);
        return MUSTER_ENOMEM;
    }
    *out = a.v;
    *n = a.n;
    return 0;
}

/* --- what came of it -----------------------------------------------------------------------------------------------
 */

/* Whether the cell shows the suspect, in that direction. */
static bool shows(const struct mu_data *d, const struct mu_suspect *s, enum mu_direction dir,
                  const struct mu_trials_key *k)
{
    switch (s->kind) {
    case MU_SUSPECT_NODE:
        return dir == MU_DIR_IN ? k->to == s->a : k->from == s->a;
    case MU_SUSPECT_RANK:
        return k->from == s->a && k->rank == s->rank;
    case MU_SUSPECT_LINK:
        return k->from == s->a && k->to == s->b;
    default:
        return k->to >= 0 && crosses(d, s, k->from, k->to);
    }
}

struct pool {
    double *own, *other; /* each trial of the suspect's; of the others the median of each cell */
    uint32_t nown, nother;
};

static int cmp_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static void add_own(struct pool *p, const struct mu_data *d, const struct mu_trials *x)
{
    const struct mu_test *t = &d->tests[x->key.test];

    for (uint16_t i = 0; i < x->n; i++)
        p->own[p->nown++] = !t->less || t->additive ? x->v[i] : x->v[i] > 0 ? 1 / x->v[i] : 0;
}

/* What the suspect reaches at best, but for a fifth of its trials: where everything is noise that is as much as others.
 */
static double best_of(struct pool *p, bool additive)
{
    qsort(p->own, p->nown, sizeof *p->own, cmp_doubles);
    uint32_t at = (uint32_t)(SURE_PART * (p->nown - 1) + 0.5);
    return p->own[additive ? p->nown - 1 - at : at];
}

static double round_drop(const struct mu_blame *b, const struct mu_data *d, const struct touched *t,
                         const struct mu_suspect *s, enum mu_direction dir, unsigned round, struct pool *p)
{
    bool additive = d->tests[s->test].additive;
    uint32_t test = d->tests[s->test].of;

    p->nown = p->nother = 0;
    for (uint32_t i = 0; i < d->n; i++) {
        const struct mu_trials *x = &d->series[i];
        const struct mu_trials_key *k = &x->key;
        if (k->round != round || k->test != test || k->size != s->size || !x->n || x->scope == MU_SCOPE_GROUP)
            continue;
        if (shows(d, s, dir, k)) {
            /* with a partner that is suspected itself the cell says little */
            int32_t with = dir == MU_DIR_IN ? k->from : k->to;
            if (s->kind != MU_SUSPECT_NODE || with < 0 || !t->node[with])
                add_own(p, d, x);
        } else if (is_control(t, b, d, k->from, k->to) || (s->kind == MU_SUSPECT_RANK && k->rank != s->rank))
            p->other[p->nother++] = mu_cell_rate(d, x);
    }
    if (!p->nown || !p->nother)
        return -1;
    double own = best_of(p, additive), other = mu_median(p->other, p->nother);
    return additive ? own - other : other > 0 ? 1 - own / other : 0;
}

static void decide(struct mu_suspect *s, const struct mu_blame_config *c)
{
    unsigned agree = 0;
    double v[MU_ROUNDS_MAX];

    if (!c->of) {
        bool clear = s->drop < c->effect || s->score < 1.5 * CANDIDATE_Z;
        s->state = clear ? MU_CLEARED : MU_CONFIRMED;
        if (clear)
            snprintf(s->why, sizeof s->why, "%.1f %% is not clear enough without confirmation", 100 * s->drop);
        return;
    }
    for (unsigned r = 0; r < s->rounds; r++) {
        agree += s->round_drop[r] >= ROUND_PART * c->effect;
        v[r] = s->round_drop[r];
    }
    double middle = s->rounds ? mu_median(v, s->rounds) : 0; /* somebody else's load may have hit one of them */
    if (agree >= c->need && middle >= POOLED_PART * c->effect) {
        s->state = MU_CONFIRMED;
        snprintf(s->why, sizeof s->why, "measured again with others that are clear: %u of %u rounds agree, %.1f %%",
                 agree, s->rounds, 100 * middle);
    } else if (s->rounds - agree > c->of - c->need || s->rounds >= c->of) {
        s->state = MU_CLEARED;
        snprintf(s->why, sizeof s->why, "measured again with others that are clear: %u of %u rounds agree, %.1f %%",
                 agree, s->rounds, 100 * middle);
    }
}

static void settle(struct mu_suspect *s, const struct mu_blame *b, const struct mu_data *d,
                   const struct mu_blame_config *c, const struct touched *t, struct pool *p)
{
    struct mu_blame_config own = *c;
    double sum[2] = {0};
    bool both = s->kind == MU_SUSPECT_NODE && s->pair && s->dir == MU_DIR_BOTH;

    own.effect = c->effects ? c->effects[s->test] : c->effect;
    s->rounds = 0;
    for (unsigned r = 1; r <= c->of && r <= MU_ROUNDS_MAX; r++) {
        double drop = round_drop(b, d, t, s, both ? MU_DIR_OUT : s->pair ? s->dir : MU_DIR_NONE, r, p);
        if (both) {
            double in = round_drop(b, d, t, s, MU_DIR_IN, r, p);
            sum[0] += drop;
            sum[1] += in;
            drop = in > drop ? in : drop;
        }
        if (drop > -1)
            s->round_drop[s->rounds++] = drop;
    }
    if (both && s->rounds) {
        double part = ROUND_PART * own.effect * s->rounds;
        s->dir = sum[1] < part && sum[0] >= part ? MU_DIR_OUT : sum[0] < part && sum[1] >= part ? MU_DIR_IN : s->dir;
    }
    decide(s, &own);
}

int mu_blame_settle(struct mu_blame *b, const struct mu_data *d, const struct mu_blame_config *c)
{
    size_t trials = 1;
    for (uint32_t i = 0; i < d->n; i++)
        trials += d->series[i].n;
    struct pool p = {.own = malloc(trials * sizeof(double)), .other = malloc((d->n + 1) * sizeof(double))};
    struct touched t;

    /* What comes out depends on the measurements alone, not on what was thought before. */
    for (unsigned i = 0; i < b->n; i++)
        b->v[i].state = b->v[i].corrupt || b->v[i].bisected ? MU_CONFIRMED : MU_SUSPECTED;
    bool good = touch(&t, b, d) && p.own && p.other;

    for (unsigned i = 0; i < b->n && good; i++)
        if (b->v[i].state == MU_SUSPECTED)
            settle(&b->v[i], b, d, c, &t, &p);
    touched_free(&t);
    free(p.own);
    free(p.other);
    return good ? 0 : MUSTER_ENOMEM;
}
