/* What is used of NCCL: own prototypes, found by dlsym; those of the CUDA driver are in runtime/base/cuda.h. asserts.c
 * compares both with the real headers where there are any. Values and layouts are those of the libraries. */
#ifndef MU_COLLECTIVES_NCCL_API_H
#define MU_COLLECTIVES_NCCL_API_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>

#include "runtime/base/cuda.h"
#include "runtime/base/err.h"

typedef struct ncclComm *mu_nccl_comm;
typedef struct {
    char internal[128];
} mu_nccl_id;

typedef enum {
    MU_NCCL_OK,
    MU_NCCL_CUDA_ERROR,
    MU_NCCL_SYSTEM_ERROR,
    MU_NCCL_INTERNAL_ERROR,
    MU_NCCL_INVALID_ARGUMENT,
    MU_NCCL_INVALID_USAGE,
    MU_NCCL_REMOTE_ERROR,
    MU_NCCL_IN_PROGRESS
} mu_nccl_result;
typedef enum {
    MU_NCCL_INT8,
    MU_NCCL_UINT8,
    MU_NCCL_INT32,
    MU_NCCL_UINT32,
    MU_NCCL_INT64,
    MU_NCCL_UINT64,
    MU_NCCL_FLOAT16,
    MU_NCCL_FLOAT32,
    MU_NCCL_FLOAT64,
    MU_NCCL_BFLOAT16,
    MU_NCCL_FLOAT8E4M3, /* since MU_NCCL_FLOAT8 */
    MU_NCCL_FLOAT8E5M2
} mu_nccl_dtype;
typedef enum { MU_NCCL_SUM, MU_NCCL_PROD, MU_NCCL_MAX, MU_NCCL_MIN, MU_NCCL_AVG } mu_nccl_op;

/* The shape of 2.18: newer libraries take it, as it says its size and version. */
typedef struct {
    size_t size;
    unsigned magic, version;
    int blocking, cga_cluster_size, min_ctas, max_ctas;
    const char *net_name;
    int split_share;
} mu_nccl_config;
#define MU_NCCL_CONFIG_MAGIC 0xcafebeefu
#define MU_NCCL_UNDEF INT_MIN
#define MU_NCCL_FLOAT8 22403         /* 2.24.3 */
#define MU_NCCL_FLOAT8_CAPABILITY 90 /* where it reduces them: 9.0 */

/* X(result, name, arguments, since): since which version (as ncclGetVersion says it) it may be used; 0: it must be
 * there. A newer one is a row here; its pointer is NULL in older libraries. */
#define MU_NCCL_SYMBOLS(X)                                                                                             \
    X(mu_nccl_result, ncclGetVersion, (int *), 0)                                                                      \
    X(const char *, ncclGetErrorString, (mu_nccl_result), 0)                                                           \
    X(const char *, ncclGetLastError, (mu_nccl_comm), 0)                                                               \
    X(mu_nccl_result, ncclGetUniqueId, (mu_nccl_id *), 0)                                                              \
    X(mu_nccl_result, ncclCommInitRankConfig, (mu_nccl_comm *, int, mu_nccl_id, int, mu_nccl_config *), 0)             \
    X(mu_nccl_result, ncclCommFinalize, (mu_nccl_comm), 0)                                                             \
    X(mu_nccl_result, ncclCommDestroy, (mu_nccl_comm), 0)                                                              \
    X(mu_nccl_result, ncclCommAbort, (mu_nccl_comm), 0)                                                                \
    X(mu_nccl_result, ncclCommGetAsyncError, (mu_nccl_comm, mu_nccl_result *), 0)                                      \
    X(mu_nccl_result, ncclGroupStart, (void), 0)                                                                       \
    X(mu_nccl_result, ncclGroupEnd, (void), 0)                                                                         \
    X(mu_nccl_result, ncclAllReduce,                                                                                   \
      (const void *, void *, size_t, mu_nccl_dtype, mu_nccl_op, mu_nccl_comm, mu_cu_stream), 0)                        \
    X(mu_nccl_result, ncclReduce,                                                                                      \
      (const void *, void *, size_t, mu_nccl_dtype, mu_nccl_op, int, mu_nccl_comm, mu_cu_stream), 0)                   \
    X(mu_nccl_result, ncclReduceScatter,                                                                               \
      (const void *, void *, size_t, mu_nccl_dtype, mu_nccl_op, mu_nccl_comm, mu_cu_stream), 0)                        \
    X(mu_nccl_result, ncclAllGather, (const void *, void *, size_t, mu_nccl_dtype, mu_nccl_comm, mu_cu_stream), 0)     \
    X(mu_nccl_result, ncclBroadcast, (const void *, void *, size_t, mu_nccl_dtype, int, mu_nccl_comm, mu_cu_stream),   \
      0)                                                                                                               \
    X(mu_nccl_result, ncclSend, (const void *, size_t, mu_nccl_dtype, int, mu_nccl_comm, mu_cu_stream), 0)             \
    X(mu_nccl_result, ncclRecv, (void *, size_t, mu_nccl_dtype, int, mu_nccl_comm, mu_cu_stream), 0)                   \
    X(mu_nccl_result, ncclAlltoAll, (const void *, void *, size_t, mu_nccl_dtype, mu_nccl_comm, mu_cu_stream), 22803)

struct mu_nccl_api {
    MU_NCCL_SYMBOLS(MU_NVLIB_POINTER)
    int version;
    char text[16], path[300]; /* the version for people, and where the library lies */
};
/* Loads the library the first time; the table stays until the process ends. Thread-safe. ENOSYS: not there; ENODE:
 * there and not usable; the text is one line. */
int mu_nccl_load(const struct mu_nccl_api **api, struct mu_err *err);

#endif
