/* What the page draws over time: the steps and attempts of each job, the used slots and recoveries of the pool.
 * Bounded: when a line is full every other point of it goes, so it always reaches from the beginning to now; the newest
 * are kept as they came, to tell how fast a job is at the moment. In memory only: a new controller begins anew. */
#ifndef MU_LAUNCHER_PAGE_TREND_H
#define MU_LAUNCHER_PAGE_TREND_H

#include <stdint.h>

enum { MU_TREND_POINTS = 120, MU_TREND_LATEST = 8, MU_TREND_JOBS = 1100 };
#define MU_TREND_EVERY (2 * MU_SEC)

struct mu_trend_point {
    double t;    /* seconds since 1970 */
    double v;    /* a job: steps so far, of all attempts; the pool: slots that are used */
    uint32_t at; /* a job: its attempt; the pool: recoveries so far */
};
struct mu_trend {
    uint64_t job; /* 0: the pool */
    double seen;
    unsigned n, nlatest;
    uint32_t every, skipped; /* one in so many is kept; how many have not been since */
    struct mu_trend_point v[MU_TREND_POINTS], latest[MU_TREND_LATEST];
};

void mu_trend_add(struct mu_trend *, double t, double v, uint32_t at);
/* Steps a second over the newest points, some 15 s; < 0: not known. */
double mu_trend_rate(const struct mu_trend *);

struct mu_metrics;
struct mu_trends;
struct mu_trends *mu_trends_new(void); /* NULL: out of memory */
void mu_trends_free(struct mu_trends *);
/* One more point of everything. Without memory for a job it has none. */
void mu_trends_sample(struct mu_trends *, const struct mu_metrics *, double t);
/* NULL: there is none. 0: the pool's. Jobs that have ended are kept while there is room. */
const struct mu_trend *mu_trends_of(const struct mu_trends *, uint64_t job);

#endif
