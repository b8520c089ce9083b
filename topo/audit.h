/* What is wrong with a fabric's cables, told from the cables alone: there is no plan to compare with, so what nearly
 * all do is taken as the plan. Hosts are compared with the hosts of their unit, leaves with the leaves that have the
 * same spines, and so on upwards; a rule that not more than half of them follow (of at least three) is no rule
 * unless three quarters of all pairs of the group follow it, and then nothing is said. What leaves no trace is not
 * found: a dead cable of a host with one rail (the host is not in the file), two cables swapped between two hosts of
 * one leaf, or at the two ports of one switch.
 *
 *     missing-rail  a host without a cable to one of its unit's leaves, though it has at least half of them; or a whole
 *                   unit with fewer rails than most units
 *     dead-link     a switch without a cable to a switch above it that its peers have; when it lacks half of them,
 *                   only if it has not also lost hosts in about that measure, nor do many lack so much: such switches
 *                   are another kind
 *     miscabled     such a cable is missing, and there is one to where there should be none
 *     one-sided     a cable that one end does not know of */
#ifndef MU_TOPO_AUDIT_H
#define MU_TOPO_AUDIT_H

#include "topo/units.h"

enum mu_finding_kind { MU_MISSING_RAIL, MU_DEAD_LINK, MU_MISCABLED, MU_ONE_SIDED };
const char *mu_finding_name(enum mu_finding_kind);

struct mu_finding {
    enum mu_finding_kind kind;
    const char *host; /* or switch; NULL: a whole unit. Of the fabric */
    int port;         /* of its adapter or of the switch; 0: not known */
    int unit;         /* of the host; -1: none */
    char *detail;
};
struct mu_audit {
    struct mu_units units;
    struct mu_finding *v;
    size_t n, cap;
};
/* The fabric must outlive it. EARG: a topology.conf has no cables to look at. */
int mu_audit_run(const struct mu_fabric *, struct mu_audit *out, struct mu_err *);
void mu_audit_free(struct mu_audit *);

#endif
