/* Order statistics of samples, and the conventions of bandwidth figures. */
#ifndef MU_BENCH_STATS_H
#define MU_BENCH_STATS_H

#include <stddef.h>

struct mu_stats {
    size_t n;
    double min, p50, p99, max;
    double ci_low, ci_high; /* 95 % interval of the median, from order statistics; min and max below 6 samples */
};

/* Sorts v. n > 0. p99 is the sample of rank ceil(0.99 n): with fewer than 100 samples that is the maximum. */
void mu_stats_of(double *v, size_t n, struct mu_stats *out);

/* What bytes and bus factor mean for an operation: as nccl-tests' PERFORMANCE.md has them. algbw = S / t, where S is
 * the bytes of one rank for all-reduce, broadcast, reduce and send, and the total for all-gather, reduce-scatter and
 * all-to-all; busbw = algbw * factor. */
double mu_stats_busbw_factor(const char *op, int nranks);

#endif
