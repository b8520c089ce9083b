/* Order statistics of samples, when there are enough of them, and the conventions of bandwidth figures. Pure. */
#ifndef MU_BENCH_STATS_H
#define MU_BENCH_STATS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/err.h"

struct mu_stats {
    size_t n;
    double min, p50, p90, p99, max;
    double mad;             /* median distance from the median */
    double ci_low, ci_high; /* 95 % interval of the median, from order statistics; min and max below 6 samples */
};

/* Sorts v. n > 0. p99 is the sample of rank ceil(0.99 n): with fewer than 100 samples that is the maximum. */
void mu_stats_of(double *v, size_t n, struct mu_stats *out);
/* Ranks (from 0) of the samples between which the q-quantile lies with the probability `sure`, or more. False where so
 * few cannot tell: then the extremes. */
bool mu_stats_ranks(size_t n, double q, double sure, size_t *low, size_t *high);
/* Half of the interval's width by the median; 0 for samples that are all alike. */
double mu_stats_width(const struct mu_stats *);

/* A series that goes on until its median is known well enough, or its budget has gone. */
enum mu_series_state { MU_SERIES_MORE, MU_SERIES_SURE, MU_SERIES_NOISY };
struct mu_series_rule {
    size_t least, most; /* samples, 6 <= least */
    double width;       /* of mu_stats_width that is narrow enough: 0.01 */
    uint64_t budget_ns; /* from the first sample on; it ends with `least` samples even so */
};
struct mu_series {
    struct mu_series_rule rule;
    double *v, *sorted;
    size_t n, next; /* when to look again: seldom, as looking often finds a narrow interval by luck */
    uint64_t began;
};
int mu_series_begin(struct mu_series *, const struct mu_series_rule *, struct mu_err *);
void mu_series_free(struct mu_series *);
enum mu_series_state mu_series_add(struct mu_series *, double sample, uint64_t now);
/* Of what is there; false: nothing is. */
bool mu_series_stats(struct mu_series *, struct mu_stats *out);

/* What bytes and bus factor mean for an operation: as nccl-tests' PERFORMANCE.md has them. algbw = S / t, where S is
 * the bytes of one rank for all-reduce, broadcast, reduce and send, and the total for all-gather, reduce-scatter and
 * all-to-all; busbw = algbw * factor. */
double mu_stats_busbw_factor(const char *op, int nranks);

#endif
