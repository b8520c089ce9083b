#include "bench/stats.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/clean.h"

static int cmp(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

/* Distances from the median ascend to both sides of it in sorted v: the middle of their merge. */
static double spread(const double *v, size_t n, double p50)
{
    size_t right = 0;
    double last = 0, d = 0;

    while (right < n && v[right] < p50)
        right++;
    for (size_t left = right, k = 0; k <= n / 2; k++) {
        last = d;
        if (right == n || (left > 0 && p50 - v[left - 1] < v[right] - p50))
            d = p50 - v[--left];
        else
            d = v[right++] - p50;
    }
    return n % 2 ? d : (last + d) / 2;
}

bool mu_stats_ranks(size_t n, double q, double sure, size_t *low, size_t *high)
{
    double tail = (1 - sure) / 2, sum = 0, lp = log(q), lr = log1p(-q);
    size_t lo = 0, hi = n - 1;
    bool below = false, above = false;

    /* The number of samples below the quantile is binomial: cut as much from its ends as the tails allow. */
    for (size_t k = 0; k < n; k++) {
        sum += exp(lgamma((double)n + 1) - lgamma((double)k + 1) - lgamma((double)(n - k) + 1) + (double)k * lp +
                   (double)(n - k) * lr);
        if (sum > tail)
            break;
        lo = k;
        below = true;
    }
    sum = 0;
    for (size_t k = n; k > 0; k--) {
        sum += exp(lgamma((double)n + 1) - lgamma((double)k + 1) - lgamma((double)(n - k) + 1) + (double)k * lp +
                   (double)(n - k) * lr);
        if (sum > tail)
            break;
        hi = k - 1;
        above = true;
    }
    *low = below ? lo : 0;
    *high = above ? hi : n - 1;
    return below && above;
}

void mu_stats_of(double *v, size_t n, struct mu_stats *out)
{
    size_t low, high;

    qsort(v, n, sizeof *v, cmp);
    mu_stats_ranks(n, 0.5, 0.95, &low, &high);
    out->n = n;
    out->min = v[0];
    out->max = v[n - 1];
    out->p50 = n % 2 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
    out->p90 = v[(n * 90 + 99) / 100 - 1];
    out->p99 = v[(n * 99 + 99) / 100 - 1];
    out->mad = spread(v, n, out->p50);
    out->ci_low = v[low];
    out->ci_high = v[high];
}

double mu_stats_width(const struct mu_stats *s)
{
    double half = (s->ci_high - s->ci_low) / 2;

    return half > 0 ? half / fabs(s->p50) : 0;
}

int mu_series_begin(struct mu_series *s, const struct mu_series_rule *rule, struct mu_err *err)
{
    *s = (struct mu_series){.rule = *rule};
    if (s->rule.least < 6)
        s->rule.least = 6;
    if (s->rule.most < s->rule.least)
        s->rule.most = s->rule.least;
    s->next = s->rule.least;
    s->v = malloc(s->rule.most * sizeof *s->v);
    s->sorted = malloc(s->rule.most * sizeof *s->sorted);
    if (s->v && s->sorted)
        return 0;
    mu_series_free(s);
    return mu_err_set(err, MUSTER_ENOMEM, "no memory for %zu samples", rule->most);
}

void mu_series_free(struct mu_series *s)
{
    free(s->v);
    free(s->sorted);
    s->v = s->sorted = NULL;
}

enum mu_series_state mu_series_add(struct mu_series *s, double sample, uint64_t now)
{
    struct mu_stats st;

    if (!s->n)
        s->began = now;
    if (s->n < s->rule.most)
        s->v[s->n++] = sample;
    if (s->n < s->rule.least)
        return MU_SERIES_MORE;
    bool last = s->n == s->rule.most || now - s->began >= s->rule.budget_ns;
    if (s->n < s->next && !last)
        return MU_SERIES_MORE;
    s->next = 2 * s->n;
    mu_series_stats(s, &st);
    if (mu_stats_width(&st) <= s->rule.width)
        return MU_SERIES_SURE;
    return last ? MU_SERIES_NOISY : MU_SERIES_MORE;
}

bool mu_series_stats(struct mu_series *s, struct mu_stats *out)
{
    if (!s->n)
        return false;
    memcpy(s->sorted, s->v, s->n * sizeof *s->v);
    mu_stats_of(s->sorted, s->n, out);
    return true;
}

double mu_stats_busbw_factor(const char *op, int nranks)
{
    static const struct {
        const char *op;
        double twice;
    } rows[] = {{"allreduce", 2}, {"reduce_scatter", 1}, {"allgather", 1}, {"alltoall", 1}};

    for (size_t i = 0; i < MU_COUNT(rows); i++)
        if (!strcmp(rows[i].op, op))
            return rows[i].twice * (nranks - 1) / nranks;
    return 1;
}
