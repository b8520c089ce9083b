/* A thread on each CPU that this rank may use, bound to it: memory that it touches first lies beside it. */
#ifndef MU_BENCH_CREW_H
#define MU_BENCH_CREW_H

#include <stdint.h>

#include "runtime/base/err.h"

struct mu_crew;
typedef void (*mu_crew_fn)(int me, int n, void *arg);

int mu_crew_new(struct mu_crew **, struct mu_err *);
void mu_crew_free(struct mu_crew *); /* NULL is fine */
int mu_crew_size(const struct mu_crew *);
/* All of them run it, beginning together; how long until the last one was done. */
uint64_t mu_crew_run(struct mu_crew *, mu_crew_fn, void *arg);

#endif
