/* What Slurm says of the allocation that we are in, in its environment variables. */
#ifndef MU_LAUNCHER_SLURM_H
#define MU_LAUNCHER_SLURM_H

#include <stdbool.h>
#include <stddef.h>

#include "runtime/base/hosts.h"

/* "rack[0-1]node[01-03,7],login": the names in their order, for mu_strv_free. EARG names what is wrong. */
int mu_slurm_expand(const char *list, char ***out, struct mu_err *err);
/* "2(x3),1": one number a node, n of them; EARG. */
int mu_slurm_counts(const char *text, int *out, size_t n, struct mu_err *err);

/* Inside an allocation (and not in a rank of muster's). */
bool mu_slurm_inside(void);
/* Its nodes with their slots: tasks of a node where the job has asked for tasks, its CPUs otherwise. EARG: variables
 * that cannot be understood. */
int mu_slurm_hosts(struct mu_hosts *out, struct mu_err *err);

#endif
