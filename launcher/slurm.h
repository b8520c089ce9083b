/* What Slurm says of the allocation that we are in, in its environment variables. */
#ifndef MU_LAUNCHER_SLURM_H
#define MU_LAUNCHER_SLURM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

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

/* What squeue has said of an allocation's state, and how it ended (wait status). 1: the allocation has ended, as `how`
 * says ("TIMEOUT", "" when it is not known any more); 0: it has not, or that cannot be told. */
int mu_slurm_has_ended(int status, const char *said, char how[32]);

/* slurm_watch.c: whether the allocation around us still is. Slurm tells nobody, so squeue is asked from time to time.
 */
struct mu_slurm_watch;
struct mu_slurm_watch *mu_slurm_watch_new(const char *job); /* NULL: out of memory */
void mu_slurm_watch_free(struct mu_slurm_watch *);          /* NULL is fine */
int mu_slurm_watch_fd(const struct mu_slurm_watch *);       /* to be polled for reading; -1: none */
uint64_t mu_slurm_watch_at(const struct mu_slurm_watch *);  /* when to call turn in any case */
/* 1: it has ended. Waits for nothing. */
int mu_slurm_watch_turn(struct mu_slurm_watch *, uint64_t now, char how[32]);

#endif
