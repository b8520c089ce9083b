/* The first pass: each test and size by itself, then what was found put together. */
#include "bench/judge/blame.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/judge/blame_priv.h"
#include "runtime/base/clean.h"

#define SURE_PART 0.8 /* of a suspect's trials: so many must be low, not only the middle one */

void mu_blame_free(struct mu_blame *b)
{
    free(b->v);
    *b = (struct mu_blame){0};
}

const char *mu_suspect_kind_name(enum mu_suspect_kind k)
{
    static const char *const names[] = {"node", "link", "boundary", "rank", "gpu"};

    return names[k];
}

const char *mu_direction_name(enum mu_direction d)
{
    static const char *const names[] = {"none", "out", "in", "both"};

    return names[d];
}

bool mu_suspect_on_host(const struct mu_suspect *s)
{
    return s->kind == MU_SUSPECT_NODE || s->kind == MU_SUSPECT_RANK || s->kind == MU_SUSPECT_GPU;
}

char *mu_suspect_id(const struct mu_suspect *s, const struct mu_data *d, char *buf, size_t n)
{
    switch (s->kind) {
    case MU_SUSPECT_NODE:
        snprintf(buf, n, "%s", d->hosts[s->a]);
        break;
    case MU_SUSPECT_LINK:
        snprintf(buf, n, "%s>%s", d->hosts[s->a], d->hosts[s->b]);
        break;
    case MU_SUSPECT_BOUNDARY:
        snprintf(buf, n, "%s%c%s", d->groups[s->a], s->dir == MU_DIR_BOTH ? '|' : '>', d->groups[s->b]);
        break;
    case MU_SUSPECT_RANK:
        snprintf(buf, n, "%d", s->rank);
        break;
    case MU_SUSPECT_GPU:
        snprintf(buf, n, "%s:gpu%u", d->hosts[s->a], s->gpu - 1);
        break;
    }
    return buf;
}

static double rate_of(const struct mu_test *t, double x)
{
    return !t->less || t->additive ? x : x > 0 ? 1 / x : 0;
}

double mu_cell_rate(const struct mu_data *d, const struct mu_trials *s)
{
    return rate_of(&d->tests[s->key.test], mu_trials_median(s));
}

double mu_trial_rate(const struct mu_data *d, const struct mu_trials *s, uint16_t i)
{
    return rate_of(&d->tests[s->key.test], s->v[i]);
}

double mu_high_end(double *v, uint32_t n)
{
    mu_put_in_order(v, n);
    return v[(uint32_t)(SURE_PART * (n - 1) + 0.5)];
}

bool mu_best_counts(const struct mu_data *d, const struct mu_trials *s)
{
    return s->scope == MU_SCOPE_NODE && !d->tests[s->key.test].additive;
}

double mu_cell_best(const struct mu_data *d, const struct mu_trials *s)
{
    enum { SOME = 64 };
    double v[SOME];

    if (s->n < 2 || s->n > SOME)
        return mu_cell_rate(d, s);
    for (uint16_t i = 0; i < s->n; i++)
        v[i] = mu_trial_rate(d, s, i);
    return mu_high_end(v, s->n);
}

static bool same(const struct mu_suspect *a, const struct mu_suspect *b)
{
    if (a->kind != b->kind || a->corrupt != b->corrupt || a->bisected != b->bisected)
        return false;
    if (a->kind == MU_SUSPECT_RANK)
        return a->rank == b->rank;
    if (a->kind == MU_SUSPECT_NODE || a->kind == MU_SUSPECT_GPU)
        return a->a == b->a && a->gpu == b->gpu;
    return (a->a == b->a && a->b == b->b) || (a->kind == MU_SUSPECT_BOUNDARY && a->a == b->b && a->b == b->a);
}

int mu_blame_add(struct mu_view *v, const struct mu_suspect *s)
{
    struct mu_blame *b = v->out;

    for (unsigned i = 0; i < b->n; i++) {
        struct mu_suspect *o = &b->v[i];
        if (!same(o, s))
            continue;
        enum mu_direction dir = o->dir | s->dir;
        if (o->kind == MU_SUSPECT_BOUNDARY && o->a != s->a)
            dir = MU_DIR_BOTH;
        if (s->score > o->score) {
            *o = *s;
            o->test = v->test;
            o->size = v->size;
        }
        o->dir = dir;
        return 0;
    }
    if (b->n == b->cap) {
        unsigned cap = b->cap ? b->cap * 2 : 8;
        struct mu_suspect *w = realloc(b->v, cap * sizeof *w);
        if (!w)
            return MUSTER_ENOMEM;
        b->v = w;
        b->cap = cap;
    }
    b->v[b->n] = *s;
    b->v[b->n].test = v->test;
    b->v[b->n++].size = v->size;
    return 0;
}

/* --- hosts and ranks by themselves ---------------------------------------------------------------------------------
 */

static double drop_of(const struct mu_view *v, double x, double ref)
{
    return v->d->tests[v->test].additive ? x - ref : ref > 0 ? 1 - x / ref : 0;
}

double mu_depth(double rate, double ref)
{
    return ref > 0 ? log(ref / fmax(rate, ref * 1e-9)) : 0;
}

double mu_blame_noise(struct mu_view *v)
{
    enum { FEW = 3, SOME = 32 };
    double trials[SOME];
    uint32_t n = 0;

    for (uint32_t i = 0; i < v->n; i++) {
        const struct mu_trials *s = v->cells[i].s;
        uint32_t k = s->n < SOME ? s->n : SOME;
        if (k < FEW) {
            if (s->ci > 0)
                v->work[n++] = s->ci / 2; /* 95 % are two sigma */
            continue;
        }
        memcpy(trials, s->v, k * sizeof *trials);
        double m = mu_median(trials, k);
        if (m > 0)
            v->work[n++] = mu_mad_sigma(trials, k, m) / m;
    }
    return n ? mu_median(v->work, n) : 0;
}

/* Of the trials, how many are low. */
static bool trials_agree(const struct mu_view *v, const struct mu_trials *s, double ref)
{
    unsigned low = 0;

    for (uint16_t i = 0; i < s->n; i++)
        low += drop_of(v, mu_trial_rate(v->d, s, i), ref) > mu_low_part(v->c);
    return low * 2 > s->n;
}

static int node_suspect(struct mu_view *v, const struct mu_cell *c, bool rank, double drop, double score)
{
    struct mu_suspect s = {.kind = rank            ? MU_SUSPECT_RANK
                                   : c->s->key.gpu ? MU_SUSPECT_GPU
                                                   : MU_SUSPECT_NODE,
                           .a = c->from,
                           .b = -1,
                           .gpu = rank ? 0 : c->s->key.gpu,
                           .rank = rank ? c->s->key.rank : -1,
                           .drop = drop,
                           .score = score};

    return mu_blame_add(v, &s);
}

/* The cells come in the order of their hosts. noise: of one figure, as a share. */
static int look_at_nodes(struct mu_view *v, double noise)
{
    uint32_t hosts = 0;
    int rc;

    for (uint32_t i = 0; i < v->n; i++) {
        hosts += !i || v->cells[i].from != v->cells[i - 1].from;
        v->work[i] = v->cells[i].rate;
    }
    if (hosts < MU_HOSTS_MIN)
        return 0;
    double ref = mu_median(v->work, v->n);
    bool additive = v->d->tests[v->test].additive;
    for (uint32_t i = 0; i < v->n && !additive; i++)
        v->work[i] = mu_depth(v->cells[i].rate, ref);
    double spread = mu_mad_sigma(v->work, v->n, additive ? ref : 0);
    spread = fmax(fmax(spread, SPREAD_FLOOR), noise);
    for (uint32_t i = 0, k; i < v->n; i = k) {
        uint32_t low = 0;
        double most = 0;
        for (k = i; k < v->n && v->cells[k].from == v->cells[i].from; k++) {
            double drop = drop_of(v, v->cells[k].rate, ref);
            double z = (additive ? drop : mu_depth(v->cells[k].rate, ref)) / spread;
            v->cells[k].masked =
                drop >= CANDIDATE_PART * v->c->effect && z >= CANDIDATE_Z && trials_agree(v, v->cells[k].s, ref);
            low += v->cells[k].masked;
            most = v->cells[k].masked && drop > most ? drop : most;
        }
        if (!low)
            continue;
        bool whole = low >= AGREE * (k - i) && !(additive && k - i > 1 && low < k - i);
        if (whole && (rc = node_suspect(v, &v->cells[i], false, most, most / spread)))
            return rc;
        for (uint32_t r = i; r < k && !whole; r++) {
            double drop = drop_of(v, v->cells[r].rate, ref);
            if (v->cells[r].masked && (rc = node_suspect(v, &v->cells[r], true, drop, drop / spread)))
                return rc;
        }
    }
    return 0;
}

int mu_blame_nodes(struct mu_view *v)
{
    int rc = look_at_nodes(v, v->d->tests[v->test].additive ? 0 : mu_blame_noise(v));

    for (uint32_t i = 0; i < v->n; i++) {
        if (!mu_best_counts(v->d, v->cells[i].s))
            return rc;
        v->cells[i].rate = mu_cell_best(v->d, v->cells[i].s);
    }
    return rc ? rc : look_at_nodes(v, 0);
}

/* --- all tests -----------------------------------------------------------------------------------------------------
 */

static int cmp_cells(const void *pa, const void *pb)
{
    const struct mu_cell *a = pa, *b = pb;
    const struct mu_trials_key *x = &a->s->key, *y = &b->s->key;

    if (a->s->scope != b->s->scope)
        return a->s->scope < b->s->scope ? -1 : 1;
    if (x->test != y->test)
        return x->test < y->test ? -1 : 1;
    if (x->size != y->size)
        return x->size < y->size ? -1 : 1;
    if (x->gpu != y->gpu)
        return x->gpu < y->gpu ? -1 : 1;
    if (a->from != b->from)
        return a->from < b->from ? -1 : 1;
    if (a->to != b->to)
        return a->to < b->to ? -1 : 1;
    return (x->rank > y->rank) - (x->rank < y->rank);
}

/* Where most of a host's GPUs are low it is the host. */
static void put_gpus_together(struct mu_blame *b, const struct mu_data *d)
{
    for (unsigned i = 0; i < b->n; i++) {
        struct mu_suspect *s = &b->v[i];
        uint32_t all = 0, low = 0;
        bool worst = s->kind == MU_SUSPECT_GPU && !s->corrupt;
        for (uint32_t k = 0; k < d->n; k++)
            if (d->series[k].scope == MU_SCOPE_NODE && d->series[k].key.from == s->a && d->series[k].key.gpu > all)
                all = d->series[k].key.gpu;
        for (unsigned k = 0; k < b->n; k++) {
            const struct mu_suspect *o = &b->v[k];
            bool its = o->kind == MU_SUSPECT_GPU && o->a == s->a && !o->corrupt;
            low += its;
            worst = worst && !(its && (o->score > s->score || (o->score == s->score && k < i)));
        }
        if (!worst || all < 2 || low < AGREE * all)
            continue;
        s->kind = MU_SUSPECT_NODE;
        s->gpu = 0;
    }
}

/* A host that is slow makes its ranks slow, and its links: the larger thing stands for them. */
static void put_together(struct mu_blame *b)
{
    unsigned kept = 0;

    for (unsigned i = 0; i < b->n; i++) {
        struct mu_suspect *s = &b->v[i];
        bool covered = false;
        for (unsigned k = 0; k < b->n && !covered; k++) {
            const struct mu_suspect *o = &b->v[k];
            if (k == i || o->corrupt != s->corrupt || o->kind != MU_SUSPECT_NODE)
                continue;
            covered = ((s->kind == MU_SUSPECT_RANK || s->kind == MU_SUSPECT_GPU) && o->a == s->a) ||
                      (s->kind == MU_SUSPECT_LINK &&
                       ((o->a == s->a && o->dir & MU_DIR_OUT) || (o->a == s->b && o->dir & MU_DIR_IN)));
        }
        s->rounds = covered; /* for now: none has been made */
    }
    for (unsigned i = 0; i < b->n; i++)
        if (!b->v[i].rounds)
            b->v[kept++] = b->v[i];
    b->n = kept;
}

static int cmp_suspects(const void *pa, const void *pb)
{
    const struct mu_suspect *a = pa, *b = pb;

    if (a->corrupt != b->corrupt)
        return a->corrupt ? -1 : 1;
    return (a->score < b->score) - (a->score > b->score);
}

int mu_blame_find(struct mu_blame *b, const struct mu_data *d, const struct mu_blame_config *c)
{
    mu_auto_free struct mu_cell *cells = malloc((d->n + 1) * sizeof *cells);
    mu_auto_free double *work = malloc((d->n + d->nhosts + 1) * sizeof *work);
    uint32_t n = 0;
    int rc = 0;

    if (!cells || !work)
        return MUSTER_ENOMEM;
    b->n = 0;
    b->too_few = d->nhosts < MU_HOSTS_MIN;
    for (uint32_t i = 0; i < d->n; i++) {
        const struct mu_trials *s = &d->series[i];
        if (s->key.round || s->scope == MU_SCOPE_GROUP || !s->n)
            continue;
        cells[n++] = (struct mu_cell){.s = s, .from = s->key.from, .to = s->key.to, .rate = mu_cell_rate(d, s)};
    }
    qsort(cells, n, sizeof *cells, cmp_cells);
    for (uint32_t i = 0, k; i < n && !rc; i = k) {
        const struct mu_trials *s = cells[i].s;
        for (k = i + 1; k < n && cells[k].s->scope == s->scope && cells[k].s->key.test == s->key.test &&
                        cells[k].s->key.size == s->key.size && cells[k].s->key.gpu == s->key.gpu;
             k++)
            ;
        struct mu_blame_config own = *c;
        own.effect = c->effects ? c->effects[s->key.test] : c->effect;
        struct mu_view v = {d, &own, b, s->key.test, s->key.size, cells + i, k - i, work};
        rc = mu_blame_corrupt(&v);
        if (!rc && !b->too_few && own.effect > 0)
            rc = s->scope == MU_SCOPE_PAIR ? mu_blame_pairs(&v) : mu_blame_nodes(&v);
    }
    for (uint32_t i = 0; i < d->nculprits && !rc; i++) {
        const struct mu_culprits *k = &d->culprits[i];
        struct mu_view v = {.d = d, .c = c, .out = b, .test = k->test, .size = k->size};
        rc = mu_blame_bisected(&v, k);
    }
    put_gpus_together(b, d);
    put_together(b);
    if (b->n)
        qsort(b->v, b->n, sizeof *b->v, cmp_suspects);
    return rc;
}

unsigned mu_blame_confirmed(const struct mu_blame *b)
{
    unsigned n = 0;

    for (unsigned i = 0; i < b->n; i++)
        n += b->v[i].state == MU_CONFIRMED;
    return n;
}
