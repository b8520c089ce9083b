/* Inside of struct mu_topo, for the files of this room only. */
#ifndef MU_TOPO_IMPL_H
#define MU_TOPO_IMPL_H

#include <hwloc.h>

#include "runtime/base/buf.h"
#include "topo/topo.h"

struct mu_topo {
    hwloc_topology_t hw;
    char *source;
    struct mu_cpuset allowed, allowed_nodes;
    int ncores, npus, nnodes, nsets;
    struct mu_topo_core *cores;
    int *pus;                /* OS indexes; cores point into it */
    struct mu_cpuset *nsetv; /* distinct sets of local NUMA nodes; cores point into it */
    struct mu_topo_node *nodes;
};

/* ENODE when an index is beyond the capacity of our sets. */
int mu_topo_from_bitmap(hwloc_const_bitmap_t, struct mu_cpuset *out, struct mu_err *);
/* Text of an hwloc XML file, for mu_buf_free. Refuses, with the reason, what hwloc would only call unreadable. */
int mu_topo_read_xml(const char *path, struct mu_buf *out, struct mu_err *);

#endif
