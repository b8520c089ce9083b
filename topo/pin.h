/* Which CPUs and NUMA nodes each rank of a job gets on one node: a pure function of the node, the number of ranks, the
 * policy and what other jobs hold. */
#ifndef MU_TOPO_PIN_H
#define MU_TOPO_PIN_H

#include "topo/topo.h"

enum mu_pin_policy {
    MU_PIN_NONE, /* every rank may use whatever is allowed */
    MU_PIN_CORE  /* a core a rank, neighbours first, no core twice */
};
/* EARG lists the policies there are. */
int mu_pin_policy_parse(const char *name, enum mu_pin_policy *out, struct mu_err *);
const char *mu_pin_policy_name(enum mu_pin_policy);

struct mu_pin_request {
    int nranks; /* on this node, >= 1 */
    enum mu_pin_policy policy;
    bool smt;                         /* all hardware threads of a core instead of its first */
    const struct mu_cpuset *occupied; /* PUs of other jobs; a core with one of them is taken. NULL: none */
};

struct mu_pin_rank {
    struct mu_cpuset cpus, nodes;
};
struct mu_pin {
    enum mu_pin_policy policy; /* what came out of it; NONE when there are more ranks than free cores */
    int nranks;
    char note[160];            /* why that is not what was asked for; "" when it is */
    struct mu_pin_rank *ranks; /* one a rank, or a single one for all under MU_PIN_NONE: use mu_pin_rank */
};

/* Deterministic. Cpusets lie inside the allowed set and, under CORE, are pairwise disjoint and free of occupied PUs;
 * nodesets are the allowed NUMA nodes local to the cpuset (all allowed ones where none is local). */
int mu_pin_compute(const struct mu_topo *, const struct mu_pin_request *, struct mu_pin *out, struct mu_err *);
const struct mu_pin_rank *mu_pin_rank(const struct mu_pin *, int rank);
void mu_pin_free(struct mu_pin *);

#endif
