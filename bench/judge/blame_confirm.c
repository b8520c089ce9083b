/* What measuring again has shown. A suspect is confirmed only where it is low in the rounds that criteria ask for and
 * controls, measured among them and looked at in the same way, say that this does not come about by itself. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/judge/blame_priv.h"
#include "runtime/base/clean.h"

#define ROUND_PART 0.6  /* of the effect: a round agrees */
#define POOLED_PART 0.8 /* of the effect: all rounds together */
#define CHANCE 1e-4     /* of accusing anybody who is well: no more, all suspects together */
#define NOISE_PART 0.5  /* of the effect: where controls differ by more, nobody is cleared either */
#define AS_LOW 0.8      /* of what a suspect showed at first: a round in which a control is so low is made once more */
#define LOAD_FACTOR 2   /* what a share of the time that others took may explain */
#define LOAD_LATE 20    /* the same of who comes late: a moment is enough for that */
#define DISSENT 2       /* a round that does not agree takes so many more that do */
#define LOADED 0.02     /* from there on a control is none, unless the others are loaded as much */

enum {
    FIRST_ROUND = 0,
    TRIALS_MOST = 64,
    APART_MOST = 16 /* controls that are compared without themselves: of many, one moves the median little */
};

/* Of one round, in one direction. */
struct round {
    double depth, drop;
    double waited;      /* longer than the controls, as a share of the time */
    double had;         /* the share that the controls did not wait */
    uint32_t at, nnull; /* its controls, in the pool */
    bool noisy;
};

/* The median of all others in one trial, or of their best. */
struct common {
    bool tried, is;
    double ref;
};

/* Of all rounds, and room to work. */
struct pool {
    const struct mu_trials **own, **others;
    double *v, *refs, *null; /* null: how low each control was in each round */
    uint32_t nown, nothers, nnull;
    struct common common[TRIALS_MOST], best; /* of this round: each control of many asks for the same */
};

/* Whether the cell shows the suspect, in that direction. */
static bool shows(const struct mu_data *d, const struct mu_suspect *s, enum mu_direction dir,
                  const struct mu_trials_key *k)
{
    switch (s->kind) {
    case MU_SUSPECT_NODE:
        return dir == MU_DIR_IN ? k->to == s->a : k->from == s->a;
    case MU_SUSPECT_RANK:
        return k->from == s->a && k->rank == s->rank;
    case MU_SUSPECT_GPU:
        return k->from == s->a && k->gpu == s->gpu;
    case MU_SUSPECT_LINK:
        return k->from == s->a && k->to == s->b;
    default:
        return k->to >= 0 && mu_blame_crosses(d, s, k->from, k->to);
    }
}

static double below(const struct mu_data *d, const struct mu_trials *x, uint16_t i, double ref)
{
    return d->tests[x->key.test].additive ? mu_trial_rate(d, x, i) - ref : mu_depth(mu_trial_rate(d, x, i), ref);
}

static bool tell(const struct common *c, double *ref)
{
    *ref = c->ref;
    return c->is;
}

/* Of p->refs, n of them; keep: where it is kept, or NULL. */
static bool middle_of(struct pool *p, uint32_t n, struct common *keep, double *ref)
{
    struct common c = {.tried = true, .is = n > 0, .ref = n ? mu_median(p->refs, n) : 0};

    if (keep)
        *keep = c;
    return tell(&c, ref);
}

/* The median of the others in that trial, which was made at the same time; false: there are none. */
static bool reference(const struct mu_data *d, struct pool *p, const struct mu_trials *but, uint16_t trial, double *ref)
{
    struct common *keep = but || trial >= TRIALS_MOST ? NULL : &p->common[trial];
    uint32_t n = 0;

    if (keep && keep->tried)
        return tell(keep, ref);
    for (uint32_t i = 0; i < p->nothers; i++)
        if (p->others[i] != but && p->others[i]->n > trial)
            p->refs[n++] = mu_trial_rate(d, p->others[i], trial);
    return middle_of(p, n, keep, ref);
}

static double drop_of(double depth, bool additive)
{
    return additive ? depth : 1 - exp(-depth);
}

/* In the first pass. */
static double depth_of(const struct mu_suspect *s, bool additive)
{
    return additive ? s->drop : -log(fmax(1 - s->drop, 1e-9));
}

/* How low all these trials are, but for a fifth of them. */
static double low_end(double *v, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        v[i] = -v[i];
    return -mu_high_end(v, n);
}

static double waited_of(const struct mu_trials *s)
{
    return s->nwaited ? s->waited / s->nwaited : 0;
}

static double waited(const struct mu_trials *const *v, uint32_t n, double *work)
{
    for (uint32_t i = 0; i < n; i++)
        work[i] = waited_of(v[i]);
    return n ? mu_median(work, n) : 0;
}

/* Controls that somebody else's load has hit say nothing, where there are others. */
static void drop_loaded(struct pool *p)
{
    double most = LOADED + 2 * waited(p->others, p->nothers, p->v);
    uint32_t kept = 0;

    for (uint32_t i = 0; i < p->nothers; i++)
        if (waited_of(p->others[i]) <= most)
            p->others[kept++] = p->others[i];
    p->nothers = kept;
}

/* True: the test was made in that round. */
static bool find_cells(const struct mu_blame *b, const struct mu_data *d, const struct mu_touched *t,
                       const struct mu_suspect *s, enum mu_direction dir, unsigned round, struct pool *p)
{
    uint32_t test = d->tests[s->test].of;
    bool made = false;

    p->nown = p->nothers = 0;
    memset(p->common, 0, sizeof p->common);
    p->best = (struct common){0};
    for (uint32_t i = 0; i < d->n; i++) {
        const struct mu_trials *x = &d->series[i];
        const struct mu_trials_key *k = &x->key;
        if (k->round != round || k->test != test || k->size != s->size || !x->n || x->scope == MU_SCOPE_GROUP ||
            (s->gpu && k->gpu != s->gpu))
            continue;
        made = true;
        if (shows(d, s, dir, k)) {
            /* with a partner that is suspected itself the cell says little */
            int32_t with = dir == MU_DIR_IN ? k->from : k->to;
            if (s->kind != MU_SUSPECT_NODE || with < 0 || !t->node[with])
                p->own[p->nown++] = x;
        } else if (mu_blame_is_control(t, b, d, k->from, k->to) || (s->kind == MU_SUSPECT_RANK && k->rank != s->rank))
            p->others[p->nothers++] = x;
    }
    drop_loaded(p);
    return made;
}

/* Of all the suspect's trials; 0: none can be compared. */
static uint32_t own_depths(const struct mu_data *d, struct pool *p)
{
    uint32_t n = 0;
    double ref;

    for (uint32_t i = 0; i < p->nown; i++)
        for (uint16_t k = 0; k < p->own[i]->n && k < TRIALS_MOST; k++)
            if (reference(d, p, NULL, k, &ref))
                p->v[n++] = below(d, p->own[i], k, ref);
    return n;
}

/* The median of the others' best; false: there are none. */
static bool best_reference(const struct mu_data *d, struct pool *p, const struct mu_trials *but, double *ref)
{
    struct common *keep = but ? NULL : &p->best;
    uint32_t n = 0;

    if (keep && keep->tried)
        return tell(keep, ref);
    for (uint32_t i = 0; i < p->nothers; i++)
        if (p->others[i] != but)
            p->refs[n++] = mu_cell_best(d, p->others[i]);
    return middle_of(p, n, keep, ref);
}

/* Of hosts by themselves: their best, however each of their trials went. */
static bool look_at_best(const struct mu_data *d, struct pool *p, double *depth)
{
    double ref;

    if (!best_reference(d, p, NULL, &ref))
        return false;
    for (uint32_t i = 0; i < p->nown; i++)
        p->v[i] = mu_depth(mu_cell_best(d, p->own[i]), ref);
    *depth = low_end(p->v, p->nown);
    return true;
}

static bool own_depth(const struct mu_data *d, struct pool *p, double *depth)
{
    if (p->nown && mu_best_counts(d, p->own[0]))
        return look_at_best(d, p, depth);
    uint32_t n = own_depths(d, p);
    if (n)
        *depth = low_end(p->v, n);
    return n > 0;
}

/* How low a control was among the others; false: there are none. */
static bool null_depth(const struct mu_data *d, struct pool *p, const struct mu_trials *x, double *depth)
{
    const struct mu_trials *but = p->nothers <= APART_MOST ? x : NULL;
    uint32_t n = 0;
    double ref;

    if (mu_best_counts(d, x)) {
        bool known = best_reference(d, p, but, &ref);
        if (known)
            *depth = mu_depth(mu_cell_best(d, x), ref);
        return known;
    }
    for (uint16_t k = 0; k < x->n; k++)
        if (reference(d, p, but, k, &ref))
            p->v[n++] = below(d, x, k, ref);
    if (n)
        *depth = low_end(p->v, n);
    return n > 0;
}

/* False: the round says nothing of it. */
static bool look(const struct mu_data *d, struct pool *p, bool additive, struct round *out)
{
    if (!own_depth(d, p, &out->depth))
        return false;
    out->drop = drop_of(out->depth, additive);
    double others = waited(p->others, p->nothers, p->v);
    /* Where all of them wait for their processors, it is those who say who comes late. */
    bool all = additive && others > LOADED;
    out->waited = waited(p->own, p->nown, p->v) - (all ? 0 : others);
    out->had = fmax(1 - others, 0.01);
    for (uint32_t i = 0; i < p->nothers; i++)
        p->nnull += null_depth(d, p, p->others[i], &p->null[p->nnull]);
    return true;
}

/* That a control is so low: as often as that was seen, and beyond what was seen with a tail as heavy as they come. */
static double chance(const struct pool *p, double depth)
{
    double most = SPREAD_FLOOR, seen = 1;

    for (uint32_t i = 0; i < p->nnull; i++) {
        most = p->null[i] > most ? p->null[i] : most;
        seen += p->null[i] >= depth;
    }
    return depth > most ? most / depth * (most / depth) / (p->nnull + 1) : seen / (p->nnull + 1);
}

static double choose(unsigned n, unsigned k)
{
    double c = 1;

    for (unsigned i = 0; i < k; i++)
        c = c * (n - i) / (i + 1);
    return c;
}

/* n: of its rounds, so many counted. */
static void say(struct mu_suspect *s, enum mu_suspect_state state, unsigned agree, unsigned n, double middle,
                const char *more)
{
    char rest[40] = "";

    if (n < s->rounds)
        snprintf(rest, sizeof rest, " (%u more told nothing)", s->rounds - n);
    s->state = state;
    snprintf(s->why, sizeof s->why, "measured again with others that are clear: %u of %u rounds agree, %.1f %%%s%s%s",
             agree, n, 100 * middle, rest, *more ? "; " : "", more);
}

static void decide_at_once(struct mu_suspect *s, const struct mu_blame_config *c)
{
    bool clear = s->drop < c->effect || s->score < 1.5 * CANDIDATE_Z;

    s->state = clear ? MU_CLEARED : MU_CONFIRMED;
    if (clear)
        snprintf(s->why, sizeof s->why, "%.1f %% is not clear enough without confirmation", 100 * s->drop);
}

unsigned mu_blame_rounds(const struct mu_blame_config *c)
{
    unsigned n = c->of ? c->of + MU_ROUNDS_MORE : 0;

    return n < MU_ROUNDS_MAX ? n : MU_ROUNDS_MAX;
}

/* Somebody else's load there may be all that it is. */
static bool loaded(const struct round *r, bool additive, double least)
{
    double part = fmin(additive ? LOAD_LATE * r->waited : LOAD_FACTOR * r->waited / r->had, 0.99);

    return r->waited > 0 && r->drop >= least && (additive ? r->drop - part : 1 - (1 - r->drop) / (1 - part)) < least;
}

/* always: it was low all along, in the first pass as well. Leaves in v what counts. */
static void decide(struct mu_suspect *s, const struct mu_blame_config *c, struct round *v, unsigned n,
                   unsigned suspects, bool always, bool additive, struct pool *p)
{
    unsigned agree = 0, made = n, most = mu_blame_rounds(c), clean = 0, counted = 0;
    double drops[MU_ROUNDS_MAX], luck = 1, load = 0, least = ROUND_PART * c->effect;
    double deepest = depth_of(s, additive);
    char more[100] = "";

    n = 0;
    p->nnull = 0;
    for (unsigned r = 0; r < made; r++)
        clean += !v[r].noisy;
    bool all = most - made + clean < c->of; /* too few are left to do without those that are noisy */
    for (unsigned r = 0; r < made; r++) {
        s->round_drop[r] = v[r].drop;
        if (v[r].noisy && !all) /* its controls say so, whatever the suspect did */
            continue;
        memmove(p->null + p->nnull, p->null + v[r].at, v[r].nnull * sizeof *p->null);
        p->nnull += v[r].nnull;
        v[counted++] = v[r];
    }
    for (unsigned r = 0; r < counted; r++) {
        deepest = fmax(deepest, v[r].depth);
        if (loaded(&v[r], additive, least)) { /* tells nothing */
            load = fmax(load, v[r].waited);
            continue;
        }
        drops[n++] = v[r].drop;
        agree += v[r].drop >= least;
        luck *= v[r].drop >= least ? chance(p, v[r].depth) : 1;
    }
    s->rounds = made;
    double middle = n ? mu_median(drops, n) : 0;
    double each = agree ? pow(luck, 1.0 / agree) : 1;
    /* All rounds that are left could agree, as clearly as it ever was low, and would prove nothing. */
    double best = pow(chance(p, deepest), most - made + agree) * suspects;
    double sigma = p->nnull ? mu_mad_sigma(p->null, p->nnull, 0) : 0; /* uses them up */
    bool noisy = sigma > NOISE_PART * c->effect, futile = n && noisy && best > CHANCE;
    s->chance = fmin(1, choose(n, agree) * luck * suspects);
    bool seems = agree >= c->need && agree * c->of >= c->need * n && middle >= POOLED_PART * c->effect;
    bool low = seems || (agree && n < c->need);             /* so far */
    bool steady = agree >= c->need + DISSENT * (n - agree); /* what is broken is so each time */
    if (seems && steady && always && s->chance <= CHANCE && n >= c->of) {
        say(s, MU_CONFIRMED, agree, n, middle, "");
    } else if (low && pow(each, most) * suspects > CHANCE) { /* more rounds like these would not do */
        snprintf(more, sizeof more, "noisy: somebody who is well looks like that with a chance of %.2g", s->chance);
        say(s, MU_UNSURE, agree, n, middle, more);
    } else if (seems && !always) {
        say(s, MU_UNSURE, agree, n, middle, "not in all of its first trials");
    } else if (!low && (futile || n - agree > c->of - c->need || n >= c->of)) {
        if (noisy)
            snprintf(more, sizeof more, "noisy: those that are clear differ by %.1f %%", 100 * sigma);
        say(s, noisy ? MU_UNSURE : MU_CLEARED, agree, n, middle, more);
    } else if (made >= most || most - made + agree < c->need + DISSENT * (n - agree) || most - made + n < c->of) {
        if (load > 0)
            snprintf(more, sizeof more, "others used %.0f %% of its processors' time", 100 * load);
        else
            snprintf(more, sizeof more, "not in all rounds, or others come near it");
        say(s, MU_UNSURE, agree, n, middle, more);
    }
}

static void settle(struct mu_suspect *s, const struct mu_blame *b, const struct mu_data *d,
                   const struct mu_blame_config *c, const struct mu_touched *t, unsigned suspects, struct pool *p)
{
    struct mu_blame_config own = *c;
    struct round v[MU_ROUNDS_MAX];
    double sum[2] = {0};
    unsigned n = 0, most = mu_blame_rounds(c);
    bool asked = false;
    bool both = s->kind == MU_SUSPECT_NODE && s->pair && s->dir == MU_DIR_BOTH, additive = d->tests[s->test].additive;
    double depth = depth_of(s, additive);

    own.effect = c->effects ? c->effects[s->test] : c->effect;
    s->rounds = p->nnull = 0;
    s->chance = 0;
    if (!c->of) {
        decide_at_once(s, &own);
        return;
    }
    for (unsigned r = 1; r <= most; r++) {
        struct round one, in;
        uint32_t first = p->nnull;
        asked |= find_cells(b, d, t, s, both ? MU_DIR_OUT : s->pair ? s->dir : MU_DIR_NONE, r, p);
        bool known = look(d, p, additive, &one);
        if (both) {
            find_cells(b, d, t, s, MU_DIR_IN, r, p);
            uint32_t was = p->nnull;
            bool also = look(d, p, additive, &in);
            p->nnull = known ? was : p->nnull; /* the same controls */
            sum[0] += known ? one.drop : -1;
            sum[1] += also ? in.drop : -1;
            one = known && (!also || in.drop <= one.drop) ? one : in;
            known = known || also;
        }
        if (!known)
            continue;
        one.at = first;
        one.nnull = p->nnull - first;
        one.noisy = false;
        for (uint32_t i = first; i < p->nnull; i++)
            one.noisy |= p->null[i] >= AS_LOW * depth;
        v[n++] = one;
    }
    if (both && n) {
        double part = ROUND_PART * own.effect * n;
        s->dir = sum[1] < part && sum[0] >= part ? MU_DIR_OUT : sum[0] < part && sum[1] >= part ? MU_DIR_IN : s->dir;
    }
    if (asked && !n) {
        s->state = MU_UNSURE;
        snprintf(s->why, sizeof s->why, "too many are suspected: nobody is left to compare it with");
        return;
    }
    bool always = true;
    if (d->tests[s->test].of == s->test) { /* a trend is not there from the beginning */
        find_cells(b, d, t, s, s->pair ? s->dir : MU_DIR_NONE, FIRST_ROUND, p);
        double first;
        always = !own_depth(d, p, &first) || drop_of(first, additive) >= ROUND_PART * own.effect;
    }
    decide(s, &own, v, n, suspects, always, additive, p);
}

int mu_blame_settle(struct mu_blame *b, const struct mu_data *d, const struct mu_blame_config *c)
{
    size_t trials = 1, cells = d->n + 1;
    unsigned suspects = 0;

    for (uint32_t i = 0; i < d->n; i++)
        trials += d->series[i].n;
    mu_auto_free double *room = malloc((trials + 3 * cells) * sizeof *room);
    mu_auto_free const struct mu_trials **series = malloc(2 * cells * sizeof *series);
    struct pool p = {.own = series};
    struct mu_touched t;

    /* What comes out depends on the measurements alone, not on what was thought before. */
    for (unsigned i = 0; i < b->n; i++) {
        b->v[i].state = b->v[i].corrupt || b->v[i].bisected ? MU_CONFIRMED : MU_SUSPECTED;
        suspects += b->v[i].state == MU_SUSPECTED;
    }
    bool good = mu_touched_make(&t, b, d) && room && series;
    if (good) {
        p.others = series + cells;
        p.v = room;
        p.refs = room + trials;
        p.null = p.refs + cells;
    }
    for (unsigned i = 0; i < b->n && good; i++)
        if (b->v[i].state == MU_SUSPECTED)
            settle(&b->v[i], b, d, c, &t, suspects, &p);
    mu_touched_free(&t);
    return good ? 0 : MUSTER_ENOMEM;
}
