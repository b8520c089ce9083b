/* Tests of one host, each a row of a table in node.c. */
#ifndef MU_BENCH_NODE_H
#define MU_BENCH_NODE_H

#include "bench/rank/crew.h"
#include "bench/rank/rank.h"
#include "bench/stats.h"

struct mu_node_opts {
    struct mu_room_opts room;
    uint64_t memory, disk, gpu_size;
    int gpu_matrix;
    const char *dir, *tests;
};

struct mu_node {
    struct mu_room *room;
    const struct mu_node_opts *o;
    struct mu_crew *crew;
    struct mu_record record; /* what the rows have said; a test adds size, wrong and flags */
    struct mu_series series;
    bool goes_on;     /* to the end of its time, however sure it is */
    int32_t *product; /* of mu_node_gemm, which takes longer to make than to compare */
};

/* A test adds samples to the series until it says that it has enough. Returns 0, or an error with its text: then
 * nothing is measured, and the line `skip` says so. */
int mu_node_stream(struct mu_node *, int which, struct mu_err *); /* copy scale add triad */
void mu_node_stream_end(void);                                    /* gives the memory back */
int mu_node_memtest(struct mu_node *, int, struct mu_err *);
int mu_node_fma(struct mu_node *, int, struct mu_err *);
int mu_node_gemm(struct mu_node *, int, struct mu_err *);
int mu_node_disk(struct mu_node *, int which, struct mu_err *); /* write read */
int mu_node_gpu_count(struct mu_node *, int, struct mu_err *);
/* These two add a measurement of each GPU themselves. */
enum mu_node_gpu_test { MU_NODE_GPU_HBM, MU_NODE_GPU_H2D, MU_NODE_GPU_D2H };
int mu_node_gpu_copy(struct mu_node *, int which, struct mu_err *);
int mu_node_gpu_gemm(struct mu_node *, int, struct mu_err *);
/* Looks for GPUs; false: there is none that works. They are kept until they are closed. */
bool mu_node_gpus_open(void);
void mu_node_gpus_close(void);

/* One row of the table, by its name: adds its measurement, or the line `skip`. */
int mu_node_measure(struct mu_node *, const char *name, int trial, int order, struct mu_err *);

#endif
