/* What the driver counts of each GPU that should not grow: memory errors, Xids, replays on PCI Express, rows of memory
 * that were remapped. NVML may hang: it is asked by a thread of its own, and no more when it has not answered in 10 s.
 * Where there is no NVML, or no GPU, all of this does nothing. */
#ifndef MU_BENCH_GPU_COUNTERS_H
#define MU_BENCH_GPU_COUNTERS_H

#include "bench/rank/rank.h"

/* What happened before counts no more. */
void mu_gpu_counters_begin(void);
/* Adds a measurement for each counter of each GPU: by how much it has grown since. One that went down was reset: then
 * nothing is known. */
int mu_gpu_counters_end(struct mu_room *, struct mu_err *err);

#endif
