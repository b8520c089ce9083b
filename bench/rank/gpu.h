/* Tests of the GPUs of one host: rows of the table in node.c that add a measurement of each GPU. */
#ifndef MU_BENCH_GPU_H
#define MU_BENCH_GPU_H

#include "bench/rank/device.h"
#include "bench/rank/node.h"

/* The GPUs that were opened, or why there are none. */
int mu_node_gpus(struct mu_devices **, struct mu_err *err);
/* Adds the series as the measurement of that GPU, with the record's size and `wrong`. */
int mu_node_gpu_put(struct mu_node *, const struct mu_device *, struct mu_series *, struct mu_err *err);
/* It could not be measured: the line `skip`; and where the GPU has failed (ENODE), its figure is 0. */
int mu_node_gpu_fails(struct mu_node *, const struct mu_device *, const struct mu_err *why, struct mu_err *err);

#endif
