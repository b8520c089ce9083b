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

void mu_stats_of(double *v, size_t n, struct mu_stats *out)
{
    qsort(v, n, sizeof *v, cmp);
    out->n = n;
    out->min = v[0];
    out->max = v[n - 1];
    out->p50 = n % 2 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
    size_t k = (n * 99 + 99) / 100;
    out->p99 = v[k - 1];
    /* ranks n/2 -+ 1.96 sqrt(n)/2 of a binomial(n, 1/2) */
    double half = 0.98 * sqrt((double)n);
    double lo = floor((double)n / 2 - half), hi = ceil((double)n / 2 + half);
    out->ci_low = v[n < 6 || lo < 1 ? 0 : (size_t)lo - 1];
    out->ci_high = v[n < 6 || hi > (double)n - 1 ? n - 1 : (size_t)hi];
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
