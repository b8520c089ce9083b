/* Whether what we measure was ours to use: how long this process's threads were ready to run while others had the CPUs.
 * Being held back by a quota, or stopped, is no load of others. */
#ifndef MU_BENCH_LOAD_H
#define MU_BENCH_LOAD_H

#include <stdbool.h>
#include <stdint.h>

struct mu_load {
    bool known;
    uint64_t at, delay, own; /* ns: now; threads' waiting for a CPU; their time on one */
    uint64_t throttled;      /* ns: of that waiting, what a quota has made */
    double idle, stolen;     /* s, of the CPUs that we may use */
    int cpus;
};

void mu_load_begin(struct mu_load *);
/* Since then, of the time of so many threads, the share in which they waited for others, or the hypervisor did. Below
 * 0: it is not known. */
double mu_load_end(const struct mu_load *, int threads);

#endif
