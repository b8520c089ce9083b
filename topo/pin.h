/* Which CPUs, NUMA nodes, GPU and network adapter each rank of a job gets on one node: a pure function of the node, the
 * number of ranks, the policy and what other jobs hold. */
#ifndef MU_TOPO_PIN_H
#define MU_TOPO_PIN_H

#include "topo/dev.h"

enum mu_pin_policy {
    MU_PIN_NONE, /* every rank may use whatever is allowed */
    MU_PIN_CORE, /* a core a rank, neighbours first, no core twice */
    MU_PIN_NUMA, /* a part of a NUMA node's cores a rank: all that are free when it is alone there */
    MU_PIN_GPU,  /* a GPU a rank and a part of the cores of its NUMA node */
    MU_PIN_FILE  /* what a rank file says; not a name that parse knows */
};
/* Where ranks go one after the other. DEFAULT: NUMA for MU_PIN_NUMA, GPU for MU_PIN_GPU, else SLOT. */
enum mu_pin_map {
    MU_MAP_DEFAULT,
    MU_MAP_SLOT, /* as long as there is room, the neighbour */
    MU_MAP_NODE, /* within a node the same */
    MU_MAP_NUMA, /* the next NUMA node, in turn */
    MU_MAP_GPU   /* the next GPU, in turn; ranks get it, whatever they are bound to */
};
/* EARG lists those that there are. */
int mu_pin_policy_parse(const char *name, enum mu_pin_policy *out, struct mu_err *);
const char *mu_pin_policy_name(enum mu_pin_policy);
int mu_pin_map_parse(const char *name, enum mu_pin_map *out, struct mu_err *);
const char *mu_pin_map_name(enum mu_pin_map); /* "" for DEFAULT */

struct mu_pin_request {
    int nranks; /* on this node, >= 1 */
    enum mu_pin_policy policy;
    bool smt;                         /* all hardware threads of a core instead of its first */
    const struct mu_cpuset *occupied; /* PUs of other jobs; a core with one of them is taken. NULL: none */
    enum mu_pin_map map;
    char *const *busy;  /* GPUs of other jobs, by PCI address or UUID; NULL: none */
    char *const *slots; /* what a rank file says of each rank, nranks of them; then policy counts for nothing. NULL */
};

struct mu_pin_rank {
    struct mu_cpuset cpus, nodes;
    int gpu, nic; /* indexes of topo/dev.h; -1: none */
};
struct mu_pin {
    enum mu_pin_policy policy; /* what came out of it; NONE when there are more ranks than free cores */
    int nranks, nrows;
    char note[160];            /* why that is not what was asked for; "" when it is */
    struct mu_pin_rank *ranks; /* nrows of them: one a rank, or a single one for all. Use mu_pin_rank */
    struct mu_pin_span {       /* lowest and highest CPU of each row */
        int first, last;
    } * spans;
};

/* Deterministic. Cpusets lie inside the allowed set; but under NONE they are pairwise disjoint and free of occupied
 * PUs, for FILE as far as the file has them so. Nodesets are the allowed NUMA nodes local to the cpuset (all allowed
 * ones where none is local). The cores of a rank with a GPU are local to it, unless policy is NONE; its adapter is one
 * of those that are nearest to the GPU, and of these the GPUs of the node share as evenly as can be. */
int mu_pin_compute(const struct mu_topo *, const struct mu_pin_request *, struct mu_pin *out, struct mu_err *);
const struct mu_pin_rank *mu_pin_rank(const struct mu_pin *, int rank);
void mu_pin_free(struct mu_pin *);

/* Variables that tell the rank's libraries of its GPU and adapter: NAME=VALUE, a vector for mu_strv_free, NULL when
 * there are none. ENOMEM. */
int mu_pin_env(const struct mu_topo *, const struct mu_pin_rank *, char ***out);

/* Adapter of each GPU of the node, -1 where there is none; nic_of has room for all GPUs. Adapters of a fabric come
 * before plain interfaces, active before dead ones. ENOMEM. */
int mu_pin_nics(const struct mu_topo *, int *nic_of);

/* slot= of a rank file: a list of cores by their number on the node ("0-3,8"), or of packages and cores in them
 * ("0:1-2", "1:*"), joined by ';'; after a 'p' numbers are the operating system's, those of CPUs where no package is
 * given; "*" is everything. smt: all hardware threads of the cores. EARG says what is wrong with it, or what the node
 * does not have. */
int mu_pin_slots(const struct mu_topo *, const char *text, bool smt, struct mu_cpuset *out, struct mu_err *);

#endif
