/* What the parts of the blame share. */
#ifndef MU_JUDGE_BLAME_PRIV_H
#define MU_JUDGE_BLAME_PRIV_H

#include "bench/judge/blame.h"

#define CANDIDATE_Z 2.5     /* spreads below the peers */
#define CANDIDATE_PART 0.75 /* of the effect: a suspect is measured again */
#define AGREE 0.7           /* of a host's partners or ranks */
#define SPREAD_FLOOR 0.01   /* of the median: no cluster is more even than that */

/* One measurement of a test at one size. rate: more is better, whatever the unit. */
struct mu_cell {
    const struct mu_trials *s;
    int32_t from, to;
    double rate;
    bool masked; /* explained by what was found already */
};

struct mu_view {
    const struct mu_data *d;
    const struct mu_blame_config *c;
    struct mu_blame *out;
    uint32_t test;
    uint64_t size;
    struct mu_cell *cells;
    uint32_t n;
    double *work; /* room for n values, or for a value of each host */
};

double mu_cell_rate(const struct mu_data *, const struct mu_trials *);
/* Of one trial. */
double mu_trial_rate(const struct mu_data *, const struct mu_trials *, uint16_t trial);
/* What four fifths of the trials do not surpass: what else runs on a host takes from what it reaches and never adds to
 * it, so that hosts that are measured one after the other are best compared at their best. */
double mu_cell_best(const struct mu_data *, const struct mu_trials *);
/* A share that falls with what disturbs, of a host by itself. */
bool mu_best_counts(const struct mu_data *, const struct mu_trials *);
/* Puts the values in order and returns that of which four fifths are not above it. */
double mu_high_end(double *v, uint32_t n);
/* How far below ref, in a scale in which noise of a factor is noise of a summand: a drop is 1 at most, and where what
 * works differs by a factor of two nothing would stand out of the spread of drops. */
double mu_depth(double rate, double ref);
/* A share of values below the reference counts as low from here on. */
static inline double mu_low_part(const struct mu_blame_config *c)
{
    return c->effect / 2;
}
/* How far the trials of one cell differ, in the middle of all cells, by their own intervals where they are few; 0: not
 * known. Uses v->work. */
double mu_blame_noise(struct mu_view *v);
/* Adds, or puts together with what is known of the same thing already. */
int mu_blame_add(struct mu_view *, const struct mu_suspect *);
int mu_blame_pairs(struct mu_view *);
int mu_blame_nodes(struct mu_view *);
int mu_blame_corrupt(struct mu_view *);
/* What suspects touch. */
struct mu_touched {
    bool *host, *node; /* in any way; as a node or the host of a rank */
    int32_t *clear;
    uint32_t nclear;
};
bool mu_touched_make(struct mu_touched *, const struct mu_blame *, const struct mu_data *);
void mu_touched_free(struct mu_touched *);
/* A pair of clear hosts, or (to -1) one by itself: what the suspects are compared with. */
bool mu_blame_is_control(const struct mu_touched *, const struct mu_blame *, const struct mu_data *, int32_t from,
                         int32_t to);
/* The pair crosses the boundary that is suspected. */
bool mu_blame_crosses(const struct mu_data *, const struct mu_suspect *, int32_t from, int32_t to);
/* What bisection has found; cells are not looked at. */
int mu_blame_bisected(struct mu_view *, const struct mu_culprits *);

#endif
