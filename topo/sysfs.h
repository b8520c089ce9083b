/* What this machine's sysfs says of devices, without hwloc: quick, for a daemon's start. root: "" or, for tests, what
 * stands in place of /. */
#ifndef MU_TOPO_SYSFS_H
#define MU_TOPO_SYSFS_H

#include <stdbool.h>

/* There is a PCI device that may be a GPU; loading the node with MU_TOPO_IO tells. */
bool mu_sysfs_may_have_gpus(const char *root);
/* Node GUIDs of the InfiniBand adapters as 16 hexadecimal digits, sorted, each once; for mu_strv_free. 0 or ENOMEM; no
 * adapter, or no sysfs, is an empty list. */
int mu_sysfs_ib_guids(const char *root, char ***out);

#endif
