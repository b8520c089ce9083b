/* What the kernel counts that should not grow: memory errors, errors of adapters, throttling, messages sent again. */
#ifndef MU_BENCH_COUNTERS_H
#define MU_BENCH_COUNTERS_H

#include <stdint.h>

enum { MU_COUNTERS = 8 };
extern const char *const mu_counter_names[MU_COUNTERS];

/* Sums over all devices; -1: there is no such thing here. root: "" or, for tests, a directory in place of /. */
void mu_counters_read(const char *root, int64_t out[MU_COUNTERS]);

#endif
