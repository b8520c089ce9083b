/* How another clock stands to ours: offset and drift, from ping-pongs. Of each burst the one with the shortest round
 * trip counts, as the others were delayed on one of the ways; a line through those of all bursts that nothing far off
 * can bend. What cannot be seen is a way that is always longer than the way back: half of rtt at most. Pure; times are
 * nanoseconds. */
#ifndef MU_BENCH_CLOCKFIT_H
#define MU_BENCH_CLOCKFIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { MU_CLOCKFIT_BURSTS = 64, MU_CLOCKFIT_KEPT = 8 }; /* of the last minute, thinned out; or so many at least */

struct mu_clockfit {
    unsigned n;
    struct mu_clockpoint {
        double at, offset, rtt; /* at: our time since `base`; offset: theirs less ours */
    } points[MU_CLOCKFIT_BURSTS];
    uint64_t base;
    /* the fit: theirs = ours + offset + drift * (ours - base) */
    double offset, drift;
    double residual; /* largest distance of a point that counts from the line */
    double rtt;      /* the shortest */
};

struct mu_clockping {
    uint64_t sent, theirs, back; /* ours, theirs, ours */
};

void mu_clockfit_begin(struct mu_clockfit *, uint64_t base);
/* The best of a burst. False: none makes sense (back before sent), or n is 0. */
bool mu_clockfit_burst(struct mu_clockfit *, const struct mu_clockping *, size_t n);
/* Makes the line. False: there is no point. Few bursts, or several within 10 ms, give no drift, and so do
 * those that a line without any fits as well: it stays 0. */
bool mu_clockfit_make(struct mu_clockfit *);
double mu_clockfit_offset(const struct mu_clockfit *, uint64_t ours);
uint64_t mu_clockfit_theirs(const struct mu_clockfit *, uint64_t ours);
uint64_t mu_clockfit_ours(const struct mu_clockfit *, uint64_t theirs);

#endif
