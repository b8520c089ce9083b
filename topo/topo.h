/* What one node is made of, read by hwloc from the running machine, from a file or from a description. The model is
 * immutable after mu_topo_restrict, so it may be shared between threads; loading changes the environment for a moment
 * (hwloc has no other way to keep its plugins out) and belongs before the first thread. */
#ifndef MU_TOPO_TOPO_H
#define MU_TOPO_TOPO_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "topo/cpuset.h"

struct mu_topo; /* free with mu_topo_free */

enum mu_topo_kind {
    MU_TOPO_LIVE,     /* this machine, as far as its cgroup and the caller's affinity mask allow */
    MU_TOPO_PROCESS,  /* this machine, as far as the process `where`, a number, may use it */
    MU_TOPO_XML,      /* `where` is an XML file of hwloc's or NCCL's */
    MU_TOPO_SYNTHETIC /* `where` is hwloc's description, such as "pack:2 core:4 pu:2" */
};
#define MU_TOPO_IO 1u /* GPUs and network adapters too (topo/dev.h): tens of milliseconds on a live machine */

/* `where` is ignored for MU_TOPO_LIVE. EARG: the source cannot be used as it is (the text names the file and what is
 * wrong with it); EVERSION: XML of a newer hwloc; ENODE: this machine allows no CPU, or there is no such process;
 * ENOMEM. */
int mu_topo_load(enum mu_topo_kind, const char *where, unsigned flags, struct mu_topo **out, struct mu_err *);
void mu_topo_free(struct mu_topo *);
/* Takes away whatever is not in the mask. ENODE, and no change, when no CPU would be left. */
int mu_topo_restrict(struct mu_topo *, const struct mu_cpuset *mask, struct mu_err *);

/* What is allowed; a core, package or NUMA node counts when it has an allowed PU (a node: when its memory is). */
struct mu_topo_counts {
    int packages, nodes, cores, pus;
    uint64_t memory; /* bytes of the allowed NUMA nodes; 0 when the source does not say */
};
void mu_topo_count(const struct mu_topo *, struct mu_topo_counts *);
/* How many ranks the node takes when nobody said otherwise: its allowed cores. */
int mu_topo_slots(const struct mu_topo *);
const struct mu_cpuset *mu_topo_allowed(const struct mu_topo *);
const struct mu_cpuset *mu_topo_allowed_nodes(const struct mu_topo *);
const char *mu_topo_source(const struct mu_topo *); /* "this machine", the file, the description */

/* All cores in hwloc's logical order (neighbours first), allowed or not. A PU of a machine that shows no cores stands
 * for one. */
struct mu_topo_core {
    int os;          /* OS index of the core, -1 unknown; not unique across packages */
    int package, l3; /* logical indexes, -1 none */
    int package_os;  /* OS index of the package, -1 unknown */
    int npus;
    const int *pus;                /* OS indexes, the first hardware thread first */
    const struct mu_cpuset *nodes; /* NUMA nodes that are local to it */
};
int mu_topo_ncores(const struct mu_topo *);
const struct mu_topo_core *mu_topo_core(const struct mu_topo *, int i);

struct mu_topo_node {
    int os;
    uint64_t memory;
    struct mu_cpuset cpus;
};
int mu_topo_nnodes(const struct mu_topo *);
const struct mu_topo_node *mu_topo_node(const struct mu_topo *, int i);

/* "2.9.0": the hwloc that this process runs with, not the one it was compiled against. */
int mu_topo_hwloc_version(char *buf, size_t len);

#endif
