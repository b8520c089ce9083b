/* Benchmark ranks: one program, one row of the table in main.c a benchmark. Rank 0 prints. */
#ifndef MU_BENCH_RANK_H
#define MU_BENCH_RANK_H

#include "muster.h"
#include "runtime/base/err.h"

int mu_bench_coll(int argc, char **argv, struct mu_err *err);

#endif
