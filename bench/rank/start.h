/* Samples of what all ranks begin at one common time. */
#ifndef MU_BENCH_START_H
#define MU_BENCH_START_H

#include "bench/rank/rank.h"
#include "bench/stats.h"

struct mu_start {
    struct mu_room *room;
    struct mu_series_rule rule;               /* the same at all ranks */
    int (*ready)(void *arg, struct mu_err *); /* before each */
    int (*act)(void *arg, struct mu_err *);   /* what is timed */
    void *arg;
    int planted_late_us; /* rank 1, for tests */
    double per_sample;   /* 0: samples are us; else this by the nanoseconds */
    /* what came of it */
    struct mu_series series;
    size_t dropped; /* because somebody began late; not the first, which warms up */
    double mine[3]; /* of this rank, medians, us: how late it began, how long it was at it; mu_load_end() */
};

/* Collective; the clocks have been synchronised (mu_room_sync). All ranks have the same samples: the time from the
 * common start to the end of the last rank. In any case mu_series_free its series. */
int mu_start_series(struct mu_start *, struct mu_err *);
double mu_start_late(const struct mu_start *); /* share of samples that were dropped */

#endif
