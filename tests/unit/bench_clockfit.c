/* Clocks with an offset and a drift that were put in, seen through ways that are now and then slow. */
#include <math.h>
#include <stdlib.h>

#include "bench/clockfit.h"
#include "bench/pairs.h"
#include "tests/unit/tap.h"

static uint64_t seed = 8;

static double uniform(void)
{
    return ((double)(mu_pairs_random(&seed) >> 11) + 0.5) / 9007199254740992.0;
}

/* One way: what it takes at least, a tail, and now and then something else runs first. */
static double way(double base)
{
    double t = base + 3000 * -log(uniform());

    return uniform() < 0.05 ? t + 1e6 * uniform() : t;
}

struct world {
    double offset, drift;
    uint64_t base;
};

static uint64_t theirs(const struct world *w, double ours) /* since base */
{
    return (uint64_t)((int64_t)w->base + (int64_t)llround(ours + w->offset + w->drift * ours));
}

static double burst(const struct world *w, struct mu_clockfit *f, double at, int n, double base)
{
    struct mu_clockping p[256];

    for (int i = 0; i < n; i++) {
        double there = at + way(base), back = there + way(base);
        p[i] =
            (struct mu_clockping){w->base + (uint64_t)llround(at), theirs(w, there), w->base + (uint64_t)llround(back)};
        at = back + 500;
    }
    mu_clockfit_burst(f, p, (size_t)n);
    return at;
}

int main(void)
{
    struct mu_clockfit f;
    double worst = 0, drift_worst = 0, residual = 0, back_worst = 0;
    int rounds = 2000;

    for (int r = 0; r < rounds; r++) {
        struct world w = {.offset = (uniform() - 0.5) * 2e12,
                          .drift = (uniform() - 0.5) * 4e-4,
                          .base = 1000000000000u + (uint64_t)(uniform() * 1e15)};
        double end = 0;
        mu_clockfit_begin(&f, w.base);
        for (int b = 0; b < 12; b++)
            end = burst(&w, &f, 20e6 * b, 64, 10000 + 20000 * uniform());
        if (!mu_clockfit_make(&f))
            exit(99);
        for (double t = 0; t <= 1.25 * end; t += end / 7) { /* and a quarter as far again */
            double wrong = fabs(mu_clockfit_offset(&f, w.base + (uint64_t)t) - (w.offset + w.drift * floor(t)));
            uint64_t there = mu_clockfit_theirs(&f, w.base + (uint64_t)t);
            double round_trip = fabs((double)(int64_t)(mu_clockfit_ours(&f, there) - w.base - (uint64_t)t));
            worst = wrong > worst ? wrong : worst;
            back_worst = round_trip > back_worst ? round_trip : back_worst;
        }
        drift_worst = fmax(drift_worst, fabs(f.drift - w.drift) * end);
        residual = fmax(residual, f.residual);
    }
    TAP_OK(worst <= 2000, "offset and drift of %d clocks are found again: within %.0f ns", rounds, worst);
    TAP_OK(drift_worst <= 2000, "the drift alone: %.0f ns over the time looked at", drift_worst);
    TAP_OK(residual > 0 && residual <= 2000, "the residual says so: %.0f ns at most", residual);
    TAP_OK(back_worst <= 2, "there and back again is the same time, but for rounding");

    struct world w = {.offset = 5e6, .drift = 1e-5, .base = 1000000000};
    mu_clockfit_begin(&f, w.base);
    TAP_OK(!mu_clockfit_make(&f) && !mu_clockfit_burst(&f, NULL, 0), "of nothing there is no fit");
    TAP_OK(!mu_clockfit_burst(&f, &(struct mu_clockping){10, 5, 9}, 1), "an answer before the question is none");
    burst(&w, &f, 0, 64, 10000);
    TAP_OK(mu_clockfit_make(&f) && f.drift == 0 && fabs(f.offset - 5e6) < 2000 && f.residual == 0,
           "one burst gives an offset and no drift");

    /* a burst whose every answer was late does not bend the line */
    mu_clockfit_begin(&f, w.base);
    for (int b = 0; b < 12; b++) {
        burst(&w, &f, 20e6 * b, 64, 10000);
        if (b % 3 == 2) {
            struct mu_clockping late = {w.base + (uint64_t)(20e6 * b) + 9000000, 0, 0};
            late.theirs = theirs(&w, 20e6 * b + 9e6 + 3e6);
            late.back = late.sent + 3020000;
            mu_clockfit_burst(&f, &late, 1);
        }
    }
    TAP_OK(mu_clockfit_make(&f) && fabs(mu_clockfit_offset(&f, w.base + 240000000) - 5e6 - 2400) < 2000,
           "late bursts do not bend the line");

    /* more bursts than are kept: the ends stay */
    mu_clockfit_begin(&f, w.base);
    for (int b = 0; b < 1000; b++)
        burst(&w, &f, 20e6 * b, 16, 10000);
    TAP_OK(mu_clockfit_make(&f) && f.n <= MU_CLOCKFIT_BURSTS && f.points[0].at < 20e6 && f.points[f.n - 1].at > 19.9e9,
           "of very many bursts some are kept, first and last among them");
    TAP_OK(fabs(mu_clockfit_offset(&f, w.base + 20000000000u) - 5e6 - 2e5) < 2000, "and the fit is as good");

    /* drifts change: what is more than a minute old does not count */
    mu_clockfit_begin(&f, w.base);
    struct world then = {.offset = 5e6 - 1e-5 * 300e9, .drift = 2e-5, .base = w.base};
    for (int b = 0; b < 300; b++)
        burst(&then, &f, 1e9 * b, 16, 10000);
    for (int b = 300; b < 400; b++)
        burst(&w, &f, 1e9 * b, 16, 10000);
    TAP_OK(mu_clockfit_make(&f) && fabs(mu_clockfit_offset(&f, w.base + 400000000000u) - 5e6 - 4e6) < 2000 &&
               fabs(f.drift - 1e-5) < 1e-7,
           "a drift that was another one some minutes ago");
    return tap_done();
}
