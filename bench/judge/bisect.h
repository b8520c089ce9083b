/* An operation of all hosts fails, or is slow, and every pair by itself is well: which hosts does it take? Halves are
 * tried, then mixed halves: one host that fails with whomever (a node), two that fail together (a link), or two sets
 * (a boundary). Pure: who asks makes the tests.
 *
 * At most about 4 log2(n) questions, each of which is asked `of` times and takes `need` of them to count as failed. */
#ifndef MU_JUDGE_BISECT_H
#define MU_JUDGE_BISECT_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/base/err.h"

/* Whether the operation fails on these hosts. Negative: it could not be tried. */
typedef int mu_bisect_try(void *arg, const uint32_t *hosts, uint32_t n);

struct mu_bisect {
    unsigned need, of;
    uint32_t *a, *b; /* the hosts that it takes: na with any other (nb 0), or these of a with those of b */
    uint32_t na, nb;
    unsigned asked;
};

/* hosts: those with which it fails. 0: found; MUSTER_ENOSYS: it does not fail when it is tried again; what `try`
 * returned; MUSTER_ENOMEM. */
int mu_bisect_run(struct mu_bisect *, const uint32_t *hosts, uint32_t n, mu_bisect_try *, void *arg);
void mu_bisect_free(struct mu_bisect *);

#endif
