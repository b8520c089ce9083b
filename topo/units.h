/* Units: hosts that hang on the same leaf switches (one leaf for each rail). They are recovered from the cables alone:
 * two leaves belong together when more than half of the hosts on the smaller of them are on both; a host belongs to the
 * unit with most of its leaves. So a swapped or missing cable moves no unit. */
#ifndef MU_TOPO_UNITS_H
#define MU_TOPO_UNITS_H

#include "topo/fabric.h"

struct mu_units {
    int n;
    int *of_host; /* -1: the host is on no switch */
    int *of_leaf; /* by node of the fabric; -1: no leaf with hosts */
    int *rails;   /* leaves of each unit */
    int *hosts;   /* hosts of each unit */
};
int mu_units_build(const struct mu_fabric *, struct mu_units *out, struct mu_err *);
void mu_units_free(struct mu_units *);

#endif
