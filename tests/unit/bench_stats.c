/* Order statistics, intervals that hold what they promise, and series that know when to stop. */
#include <math.h>
#include <string.h>

#include "bench/pairs.h"
#include "bench/stats.h"
#include "runtime/base/clean.h"
#include "tests/unit/tap.h"

static uint64_t seed = 20261126;

static double uniform(void)
{
    return ((double)(mu_pairs_random(&seed) >> 11) + 0.5) / 9007199254740992.0;
}
static double normal(void)
{
    return sqrt(-2 * log(uniform())) * cos(6.283185307179586 * uniform());
}
static double plain(void)
{
    return 100 + normal();
}
static double tailed(void)
{
    return 100 + 5 * -log(uniform());
}
static double lognormal(void)
{
    return exp(0.5 * normal());
}
static double bursts(void) /* now and then something else runs */
{
    return uniform() < 0.1 ? 100 + 100 * uniform() : 100 + normal();
}

static const struct {
    const char *name;
    double (*draw)(void);
    double median;
} kinds[] = {
    {"normal", plain, 100},
    {"exponential tail", tailed, 103.46573590279973},
    {"lognormal", lognormal, 1},
    {"normal with bursts", bursts, 100.13971}, /* 0.9 Phi(x) = 0.5 where no burst lies */
};

static void intervals(void)
{
    static const size_t sizes[] = {6, 9, 20, 51, 200, 1000};
    double v[1000];
    struct mu_stats st;

    for (size_t k = 0; k < MU_COUNT(kinds); k++) {
        for (size_t s = 0; s < MU_COUNT(sizes); s++) {
            int covered = 0, rounds = sizes[s] > 100 ? 1000 : 4000;
            for (int r = 0; r < rounds; r++) {
                for (size_t i = 0; i < sizes[s]; i++)
                    v[i] = kinds[k].draw();
                mu_stats_of(v, sizes[s], &st);
                covered += st.ci_low <= kinds[k].median && kinds[k].median <= st.ci_high;
            }
            double share = 100.0 * covered / rounds;
            TAP_OK(share >= 93, "%s, %zu samples: the interval covers the median in %.1f %%", kinds[k].name, sizes[s],
                   share);
        }
    }
}

static void series(void)
{
    static const struct mu_series_rule rule = {.least = 20, .most = 2000, .width = 0.01, .budget_ns = UINT64_MAX};

    for (size_t k = 0; k < MU_COUNT(kinds); k++) {
        int covered = 0, sure = 0, rounds = kinds[k].draw == lognormal ? 500 : 1500;
        size_t n = 0;
        for (int r = 0; r < rounds; r++) {
            struct mu_series s;
            struct mu_stats st;
            enum mu_series_state state;
            if (mu_series_begin(&s, &rule, NULL))
                exit(99);
            while ((state = mu_series_add(&s, kinds[k].draw(), s.n)) == MU_SERIES_MORE)
                ;
            mu_series_stats(&s, &st);
            sure += state == MU_SERIES_SURE;
            n += st.n;
            covered += st.ci_low <= kinds[k].median && kinds[k].median <= st.ci_high;
            mu_series_free(&s);
        }
        TAP_OK(100.0 * covered / rounds >= 93, "%s: and when the series stops by itself: %.1f %%, after %.0f samples",
               kinds[k].name, 100.0 * covered / rounds, (double)n / rounds);
        TAP_OK(kinds[k].draw == lognormal ? sure == 0 : sure == rounds, "%s: sure in %d of %d", kinds[k].name, sure,
               rounds);
    }

    struct mu_series_rule quick = {.least = 6, .most = 1000000, .width = 0.01, .budget_ns = 100};
    struct mu_series s;
    enum mu_series_state state;
    struct mu_stats st;
    if (mu_series_begin(&s, &quick, NULL))
        exit(99);
    TAP_OK(!mu_series_stats(&s, &st), "nothing is known of no samples");
    for (uint64_t t = 1000; (state = mu_series_add(&s, t % 20 ? 1 : 2, t)) == MU_SERIES_MORE; t += 10)
        ;
    TAP_OK(state == MU_SERIES_NOISY && s.n == 11, "a budget that has gone ends a noisy series (%zu)", s.n);
    mu_series_free(&s);
    if (mu_series_begin(&s, &quick, NULL))
        exit(99);
    for (uint64_t t = 1000; (state = mu_series_add(&s, 7, t)) == MU_SERIES_MORE; t += 1000)
        ;
    TAP_OK(state == MU_SERIES_SURE && s.n == 6, "but not before the least number; samples that are alike are sure");
    mu_series_free(&s);
}

static void order(void)
{
    double few[] = {5, 1, 4, 2, 3}, even[] = {8, 1, 2, 4}, one[] = {3}, same[] = {2, 2, 2, 2, 2, 2}, v[1000];
    struct mu_stats st;
    size_t low, high;

    mu_stats_of(few, 5, &st);
    TAP_OK(st.min == 1 && st.p50 == 3 && st.p90 == 5 && st.p99 == 5 && st.max == 5 && st.mad == 1, "of five");
    TAP_OK(st.ci_low == 1 && st.ci_high == 5, "below six samples the extremes");
    mu_stats_of(even, 4, &st);
    TAP_OK(st.p50 == 3 && st.mad == 1.5, "of four: between the two in the middle");
    mu_stats_of(one, 1, &st);
    TAP_OK(st.p50 == 3 && st.mad == 0 && st.ci_low == 3 && st.ci_high == 3 && mu_stats_width(&st) == 0, "of one");
    mu_stats_of(same, 6, &st);
    TAP_OK(st.mad == 0 && mu_stats_width(&st) == 0, "of equal ones");
    for (int i = 0; i < 1000; i++)
        v[i] = 1000 - i;
    mu_stats_of(v, 1000, &st);
    TAP_OK(st.p90 == 900 && st.p99 == 990 && st.p50 == 500.5 && st.mad == 250, "of a thousand");

    static const struct {
        size_t n, low, high; /* ranks from 1, from tables of the binomial distribution */
        double q;
        bool can;
    } rows[] = {{5, 1, 5, 0.5, false},       {6, 1, 6, 0.5, true},     {10, 2, 9, 0.5, true},
                {25, 8, 18, 0.5, true},      {100, 40, 61, 0.5, true}, {50, 45, 50, 0.99, false},
                {1000, 983, 997, 0.99, true}};
    for (size_t i = 0; i < MU_COUNT(rows); i++) {
        bool can = mu_stats_ranks(rows[i].n, rows[i].q, 0.95, &low, &high);
        TAP_OK(can == rows[i].can && (rows[i].n == 50 || (low + 1 == rows[i].low && high + 1 == rows[i].high)),
               "the %g quantile of %zu lies between the samples %zu and %zu", rows[i].q, rows[i].n, low + 1, high + 1);
    }
    TAP_OK(mu_stats_busbw_factor("allreduce", 4) == 1.5 && mu_stats_busbw_factor("allgather", 4) == 0.75 &&
               mu_stats_busbw_factor("broadcast", 4) == 1,
           "bus factors");
}

int main(void)
{
    order();
    intervals();
    series();
    return tap_done();
}
