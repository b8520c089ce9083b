#include "bench/clockfit.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define DRIFT_FROM_NS 10e6
#define DRIFT_MOST 500e-6 /* no clock is that wrong */
#define BETTER 1.2
#define PAST_NS 60e9
#define EACH_HALF 3

static int cmp(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static double median(double *v, size_t n)
{
    qsort(v, n, sizeof *v, cmp);
    return n % 2 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
}

void mu_clockfit_begin(struct mu_clockfit *f, uint64_t base)
{
    *f = (struct mu_clockfit){.base = base};
}

/* What is long past goes, as drifts change with the temperature; else the point whose neighbours are nearest. */
static void make_room(struct mu_clockfit *f, double now)
{
    unsigned gone = 0;

    while (f->n - gone > MU_CLOCKFIT_KEPT && f->points[gone].at < now - PAST_NS)
        gone++;
    if (gone) {
        f->n -= gone;
        memmove(f->points, f->points + gone, f->n * sizeof *f->points);
    }
    if (f->n < MU_CLOCKFIT_BURSTS)
        return;
    unsigned near = 1;
    for (unsigned i = 2; i + 1 < f->n; i++)
        if (f->points[i + 1].at - f->points[i - 1].at < f->points[near + 1].at - f->points[near - 1].at)
            near = i;
    f->n--;
    memmove(f->points + near, f->points + near + 1, (f->n - near) * sizeof *f->points);
}

bool mu_clockfit_burst(struct mu_clockfit *f, const struct mu_clockping *p, size_t n)
{
    const struct mu_clockping *best = NULL;

    for (size_t i = 0; i < n; i++)
        if (p[i].back >= p[i].sent && (!best || p[i].back - p[i].sent < best->back - best->sent))
            best = &p[i];
    if (!best)
        return false;
    make_room(f, (double)(int64_t)(best->sent - f->base));
    uint64_t rtt = best->back - best->sent, middle = best->sent + rtt / 2;
    f->points[f->n++] = (struct mu_clockpoint){.at = (double)(int64_t)(middle - f->base),
                                               .offset = (double)(int64_t)(best->theirs - middle),
                                               .rtt = (double)rtt};
    return true;
}

/* The line with that slope through the points that count. */
static void lay(struct mu_clockfit *f, const bool *good, double drift)
{
    double left[MU_CLOCKFIT_BURSTS];
    size_t n = 0;

    for (unsigned i = 0; i < f->n; i++)
        if (good[i])
            left[n++] = f->points[i].offset - drift * f->points[i].at;
    f->drift = drift;
    f->offset = median(left, n);
    f->residual = fmax(left[n - 1] - f->offset, f->offset - left[0]);
}

/* Bursts in each half of the time: few of them make any slope. */
static bool well_spread(const struct mu_clockfit *f)
{
    double middle = (f->points[0].at + f->points[f->n - 1].at) / 2;
    unsigned early = 0;

    for (unsigned i = 0; i < f->n; i++)
        early += f->points[i].at <= middle;
    return early >= EACH_HALF && f->n - early >= EACH_HALF;
}

bool mu_clockfit_make(struct mu_clockfit *f)
{
    static _Thread_local double slopes[MU_CLOCKFIT_BURSTS * (MU_CLOCKFIT_BURSTS - 1) / 2];
    double rtts[MU_CLOCKFIT_BURSTS];
    bool good[MU_CLOCKFIT_BURSTS] = {false};
    size_t ns = 0;

    if (!f->n)
        return false;
    for (unsigned i = 0; i < f->n; i++)
        rtts[i] = f->points[i].rtt;
    double usual = median(rtts, f->n);
    f->rtt = rtts[0];
    /* A burst without one quick answer tells little: the best half counts, and what is about as good. */
    for (unsigned i = 0; i < f->n; i++)
        good[i] = f->points[i].rtt <= fmax(usual, 1.2 * f->rtt);
    for (unsigned i = 0; i < f->n; i++)
        for (unsigned k = 0; k < i; k++)
            if (good[i] && good[k] && f->points[i].at - f->points[k].at >= DRIFT_FROM_NS)
                slopes[ns++] = (f->points[i].offset - f->points[k].offset) / (f->points[i].at - f->points[k].at);
    lay(f, good, 0);
    double level = f->residual, slope = ns ? median(slopes, ns) : 0;
    if (fabs(slope) > DRIFT_MOST || !well_spread(f))
        return true;
    /* Over a short time a slope is mostly noise: it must explain something. */
    lay(f, good, slope);
    if (level < BETTER * f->residual)
        lay(f, good, 0);
    return true;
}

double mu_clockfit_offset(const struct mu_clockfit *f, uint64_t ours)
{
    return f->offset + f->drift * (double)(int64_t)(ours - f->base);
}

uint64_t mu_clockfit_theirs(const struct mu_clockfit *f, uint64_t ours)
{
    return ours + (uint64_t)(int64_t)llround(mu_clockfit_offset(f, ours));
}

uint64_t mu_clockfit_ours(const struct mu_clockfit *f, uint64_t theirs)
{
    /* theirs - base = (ours - base)(1 + drift) + offset */
    double since = ((double)(int64_t)(theirs - f->base) - f->offset) / (1 + f->drift);

    return f->base + (uint64_t)(int64_t)llround(since);
}
