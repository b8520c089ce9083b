/* How long a quota on CPU time has held this process back. */
#ifndef MU_BENCH_THROTTLE_H
#define MU_BENCH_THROTTLE_H

#include <stdint.h>

/* ns, of all CPUs together, since its control groups were made: of those that `groups`, as /proc/self/cgroup, names and
 * of all that they are in, below `root`, as /sys/fs/cgroup. 0 where nothing is known. */
uint64_t mu_throttled(const char *groups, const char *root);

#endif
