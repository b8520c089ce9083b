/* A fabric written down for others. */
#ifndef MU_TOPO_EXPORT_H
#define MU_TOPO_EXPORT_H

#include "topo/place.h"

/* Appends Slurm's topology.conf: the tree that placement works on, its switches named by level and number. */
int mu_export_slurm(const struct mu_place *, struct mu_buf *out, struct mu_err *);

#endif
