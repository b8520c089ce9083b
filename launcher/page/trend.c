#include "launcher/page/trend.h"

#include <stdlib.h>
#include <string.h>

#include "launcher/core/metrics.h"

struct mu_trends {
    struct mu_trend pool;
    struct mu_trend *v[MU_TREND_JOBS]; /* by job, ascending */
    unsigned n;
};

void mu_trend_add(struct mu_trend *r, double t, double v, uint32_t at)
{
    struct mu_trend_point p = {t, v, at};

    r->seen = t;
    if (r->nlatest == MU_TREND_LATEST)
        memmove(r->latest, r->latest + 1, --r->nlatest * sizeof p);
    r->latest[r->nlatest++] = p;
    if (++r->skipped < r->every)
        return;
    r->skipped = 0;
    if (r->n == MU_TREND_POINTS) {
        for (r->n = 0; r->n < MU_TREND_POINTS / 2; r->n++)
            r->v[r->n] = r->v[2 * r->n];
        r->every *= 2;
    }
    r->v[r->n++] = p;
}

double mu_trend_rate(const struct mu_trend *r)
{
    const struct mu_trend_point *last = r->nlatest ? &r->latest[r->nlatest - 1] : NULL;

    for (unsigned i = 0; i + 1 < r->nlatest; i++) {
        const struct mu_trend_point *p = &r->latest[i];
        if (p->at == last->at && last->t - p->t > 0.1 && last->t - p->t <= 31 && last->v >= p->v)
            return (last->v - p->v) / (last->t - p->t);
    }
    return -1;
}

struct mu_trends *mu_trends_new(void)
{
    struct mu_trends *t = calloc(1, sizeof *t);

    if (t)
        t->pool.every = 1;
    return t;
}

void mu_trends_free(struct mu_trends *t)
{
    for (unsigned i = 0; t && i < t->n; i++)
        free(t->v[i]);
    free(t);
}

/* Where it is, or would be. */
static unsigned place(const struct mu_trends *t, uint64_t job)
{
    unsigned lo = 0, hi = t->n;

    while (lo < hi) {
        unsigned mid = (lo + hi) / 2;
        if (t->v[mid]->job < job)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

static void drop_oldest(struct mu_trends *t)
{
    unsigned old = 0;

    for (unsigned i = 1; i < t->n; i++)
        if (t->v[i]->seen < t->v[old]->seen)
            old = i;
    free(t->v[old]);
    memmove(t->v + old, t->v + old + 1, (--t->n - old) * sizeof *t->v);
}

static struct mu_trend *made(struct mu_trends *t, uint64_t job)
{
    unsigned at = place(t, job);
    struct mu_trend *r;

    if (at < t->n && t->v[at]->job == job)
        return t->v[at];
    if (!(r = calloc(1, sizeof *r)))
        return NULL;
    if (t->n == MU_TREND_JOBS)
        drop_oldest(t);
    at = place(t, job);
    memmove(t->v + at + 1, t->v + at, (t->n++ - at) * sizeof *t->v);
    r->job = job;
    r->every = 1;
    return t->v[at] = r;
}

void mu_trends_sample(struct mu_trends *t, const struct mu_metrics *m, double now)
{
    mu_trend_add(&t->pool, now, (double)m->slots_used, (uint32_t)m->recoveries);
    for (unsigned i = 0; i < m->njobs; i++) {
        const struct mu_metrics_job *j = &m->jobs[i];
        struct mu_trend *r = made(t, j->id);
        if (r)
            mu_trend_add(r, now, j->steps_done, j->attempt);
    }
}

const struct mu_trend *mu_trends_of(const struct mu_trends *t, uint64_t job)
{
    unsigned at;

    if (!job)
        return &t->pool;
    at = place(t, job);
    return at < t->n && t->v[at]->job == job ? t->v[at] : NULL;
}
