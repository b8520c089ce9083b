/* Inside of struct mu_topo, for the files of this room only. */
#ifndef MU_TOPO_IMPL_H
#define MU_TOPO_IMPL_H

#include <hwloc.h>

#include "runtime/base/buf.h"
#include "topo/dev.h"

struct mu_topo_bridge {
    char name[32];
    int parent; /* -1: none */
};

struct mu_topo {
    hwloc_topology_t hw; /* NULL: read from a file of NCCL's */
    char *source;
    struct mu_cpuset allowed, allowed_nodes;
    int ncores, npus, nnodes, nsets;
    struct mu_topo_core *cores;
    int *pus;                /* OS indexes; cores point into it */
    struct mu_cpuset *nsetv; /* distinct sets of local NUMA nodes; cores point into it */
    struct mu_topo_node *nodes;
    int ngpus, nnics, nbridges;
    struct mu_topo_dev *gpus, *nics;
    struct mu_topo_bridge *bridges;
};

/* ENODE when an index is beyond the capacity of our sets. */
int mu_topo_from_bitmap(hwloc_const_bitmap_t, struct mu_cpuset *out, struct mu_err *);
/* Text of an hwloc XML file, for mu_buf_free; *nccl: it is one of NCCL's instead. Refuses, with the reason, what hwloc
 * would only call unreadable. */
int mu_topo_read_xml(const char *path, struct mu_buf *out, bool *nccl, struct mu_err *);

/* Past the comment, declaration or DOCTYPE, with what is in its brackets, that begins here; NULL: it does not end. In
 * nccl.c, which needs no hwloc. */
const char *mu_xml_skip(const char *);

/* dev.c: the list of devices. Index of the new bridge, or ENOMEM. */
int mu_topo_add_bridge(struct mu_topo *, const char *name, int parent);
int mu_topo_add_dev(struct mu_topo *, bool gpu, const struct mu_topo_dev *);
/* Sorts, and drops virtual functions. Once, when all are there. */
void mu_topo_finish_devs(struct mu_topo *);
bool mu_topo_dev_is_gpu(const struct mu_topo_dev *, bool on_host_bridge);
bool mu_topo_dev_is_network(const struct mu_topo_dev *);
bool mu_topo_dev_is_fabric(const struct mu_topo_dev *);
int mu_topo_hwloc_devs(struct mu_topo *, struct mu_err *);
/* root: "" or, for tests, what stands in place of /. */
void mu_topo_live_devs(struct mu_topo *, const char *root);

/* nccl.c: cores, nodes and devices of an NCCL topology; the text is not changed and ends with a 0. The error says what
 * is wrong and in which line, not in which file. */
int mu_topo_parse_nccl(struct mu_topo *, const char *text, struct mu_err *);

#endif
