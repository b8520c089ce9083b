/* GPUs and network adapters of a node: what they are called, where they hang, how near they are to one another. Filled
 * when the node was loaded with MU_TOPO_IO. */
#ifndef MU_TOPO_DEV_H
#define MU_TOPO_DEV_H

#include "topo/topo.h"

struct mu_topo_dev {
    char pci[24];    /* "0000:04:00.0"; "": it was not said */
    char name[40];   /* cuda0, mlx5_0, eth0; "": the system has no name for it */
    char uuid[72];   /* of a GPU, as its maker writes it; "": not known */
    char model[80];  /* for people */
    uint32_t vendor; /* PCI's number; 0: not known */
    int bridge;      /* the innermost above it, -1: none is known */
    int package;     /* the one that it is local to, -1: several, or not known */
    bool fabric;     /* adapters: InfiniBand, RoCE, Slingshot or the like, not only a network interface */
    bool rdma;       /* adapters: name is an RDMA device's, which UCX takes */
    bool down;       /* adapters: none of its ports is active */
    bool hidden;     /* GPUs of this machine: they have no driver, or this container may not use them */
    int port;        /* adapters of a fabric: the first active port */
    uint64_t at;     /* private to topo */
    uint32_t pci_id; /* likewise: device number */
    uint16_t pci_class;
    struct mu_cpuset cpus, nodes; /* what it is local to, allowed or not */
};

/* In the order of PCI addresses, as nvidia-smi counts. Virtual functions beside their physical one, and graphics for a
 * console, are not among them. */
int mu_topo_ngpus(const struct mu_topo *);
const struct mu_topo_dev *mu_topo_gpu(const struct mu_topo *, int i);
int mu_topo_nnics(const struct mu_topo *);
const struct mu_topo_dev *mu_topo_nic(const struct mu_topo *, int i);

/* How many PCI bridges the ways to both have in common, host bridges included: the more, the nearer. */
int mu_topo_common_bridges(const struct mu_topo *, const struct mu_topo_dev *, const struct mu_topo_dev *);
/* Larger is nearer: the bridges in common, then a NUMA node, then a package. Only its order means something. */
int mu_topo_nearness(const struct mu_topo *, const struct mu_topo_dev *gpu, const struct mu_topo_dev *nic);
/* "0000:04:00.0" of a bridge. */
const char *mu_topo_bridge_name(const struct mu_topo *, int bridge);
int mu_topo_bridge_parent(const struct mu_topo *, int bridge);

/* A PCI address as dev.pci has it; EARG when it is none. */
int mu_topo_pci_parse(const char *text, char out[24]);

#endif
