/* Sets of CPUs (or of NUMA nodes) by OS index, of a fixed capacity: values that are copied by assignment, need no
 * clean-up and cannot run out of memory. Zeroed memory is the empty set. Indexes outside 0..MU_CPUSET_MAX-1 are never
 * members and setting them changes nothing. */
#ifndef MU_TOPO_CPUSET_H
#define MU_TOPO_CPUSET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/err.h"

#define MU_CPUSET_MAX 16384 /* twice the most that Linux can be built for */
#define MU_CPUSET_WORDS (MU_CPUSET_MAX / 64)

struct mu_cpuset {
    uint64_t w[MU_CPUSET_WORDS];
};

static inline bool mu_cpuset_isset(const struct mu_cpuset *s, int i)
{
    return i >= 0 && i < MU_CPUSET_MAX && (s->w[i / 64] >> (i % 64) & 1);
}
static inline void mu_cpuset_set(struct mu_cpuset *s, int i)
{
    if (i >= 0 && i < MU_CPUSET_MAX)
        s->w[i / 64] |= UINT64_C(1) << (i % 64);
}
static inline void mu_cpuset_clear(struct mu_cpuset *s, int i)
{
    if (i >= 0 && i < MU_CPUSET_MAX)
        s->w[i / 64] &= ~(UINT64_C(1) << (i % 64));
}

/* Smallest member > prev, or -1; start with prev = -1. */
int mu_cpuset_next(const struct mu_cpuset *, int prev);
int mu_cpuset_last(const struct mu_cpuset *); /* -1: it is empty */
int mu_cpuset_weight(const struct mu_cpuset *);
bool mu_cpuset_empty(const struct mu_cpuset *);
bool mu_cpuset_equal(const struct mu_cpuset *, const struct mu_cpuset *);
bool mu_cpuset_intersects(const struct mu_cpuset *, const struct mu_cpuset *);
bool mu_cpuset_inside(const struct mu_cpuset *sub, const struct mu_cpuset *super);
/* to = to op from */
void mu_cpuset_and(struct mu_cpuset *to, const struct mu_cpuset *from);
void mu_cpuset_or(struct mu_cpuset *to, const struct mu_cpuset *from);
void mu_cpuset_andnot(struct mu_cpuset *to, const struct mu_cpuset *from);

/* hwloc's list format, "0-3,8"; "" is the empty set. Open ranges ("4-") are refused. EARG names what is wrong. */
int mu_cpuset_parse(const char *text, struct mu_cpuset *out, struct mu_err *);
/* As snprintf: returns the length of the whole list, writes what fits, always terminated (len > 0). */
size_t mu_cpuset_format(const struct mu_cpuset *, char *buf, size_t len);
/* The list in memory of its own, for free(); NULL when there is none. */
char *mu_cpuset_str(const struct mu_cpuset *);

#endif
