/* What is used of NCCL and the CUDA driver: own prototypes, found by dlsym. asserts.c compares them with the real
 * headers where there are any. Values and layouts are those of the libraries. */
#ifndef MU_COLLECTIVES_NCCL_API_H
#define MU_COLLECTIVES_NCCL_API_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>

#include "runtime/base/err.h"

typedef struct ncclComm *mu_nccl_comm;
typedef struct CUstream_st *mu_cu_stream;
typedef struct CUevent_st *mu_cu_event;
typedef struct CUctx_st *mu_cu_ctx;
typedef unsigned long long mu_cu_ptr;
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

typedef enum { MU_CU_OK = 0, MU_CU_NOT_INITIALIZED = 3, MU_CU_NOT_READY = 600 } mu_cu_result;
typedef enum { MU_CU_POINTER_MEMORY_TYPE = 2, MU_CU_POINTER_IS_MANAGED = 8, MU_CU_POINTER_DEVICE = 9 } mu_cu_attribute;
typedef enum { MU_CU_CAPABILITY_MAJOR = 75, MU_CU_CAPABILITY_MINOR = 76 } mu_cu_device_attribute;
typedef enum { MU_CU_NOT_CAPTURING } mu_cu_capture;
#define MU_CU_MEMORY_DEVICE 2u
#define MU_CU_EVENT_NO_TIMING 2u
#define MU_CU_STREAM_NON_BLOCKING 1u
#define MU_CU_HOST_PORTABLE 1u

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

#define MU_CUDA_SYMBOLS(X)                                                                                             \
    X(mu_cu_result, cuDriverGetVersion, (int *), 0)                                                                    \
    X(mu_cu_result, cuGetErrorName, (mu_cu_result, const char **), 0)                                                  \
    X(mu_cu_result, cuPointerGetAttribute, (void *, mu_cu_attribute, mu_cu_ptr), 0)                                    \
    X(mu_cu_result, cuDeviceGetAttribute, (int *, mu_cu_device_attribute, int), 0)                                     \
    X(mu_cu_result, cuDevicePrimaryCtxRetain, (mu_cu_ctx *, int), 0)                                                   \
    X(mu_cu_result, cuDevicePrimaryCtxRelease_v2, (int), 0)                                                            \
    X(mu_cu_result, cuCtxGetCurrent, (mu_cu_ctx *), 0)                                                                 \
    X(mu_cu_result, cuCtxSetCurrent, (mu_cu_ctx), 0)                                                                   \
    X(mu_cu_result, cuEventCreate, (mu_cu_event *, unsigned), 0)                                                       \
    X(mu_cu_result, cuEventDestroy_v2, (mu_cu_event), 0)                                                               \
    X(mu_cu_result, cuEventRecord, (mu_cu_event, mu_cu_stream), 0)                                                     \
    X(mu_cu_result, cuEventQuery, (mu_cu_event), 0)                                                                    \
    X(mu_cu_result, cuStreamWaitEvent, (mu_cu_stream, mu_cu_event, unsigned), 0)                                       \
    X(mu_cu_result, cuStreamIsCapturing, (mu_cu_stream, mu_cu_capture *), 0)                                           \
    X(mu_cu_result, cuStreamCreateWithPriority, (mu_cu_stream *, unsigned, int), 0)                                    \
    X(mu_cu_result, cuStreamDestroy_v2, (mu_cu_stream), 0)                                                             \
    X(mu_cu_result, cuCtxGetStreamPriorityRange, (int *, int *), 0)                                                    \
    X(mu_cu_result, cuMemAlloc_v2, (mu_cu_ptr *, size_t), 0)                                                           \
    X(mu_cu_result, cuMemFree_v2, (mu_cu_ptr), 0)                                                                      \
    X(mu_cu_result, cuMemHostAlloc, (void **, size_t, unsigned), 0)                                                    \
    X(mu_cu_result, cuMemFreeHost, (void *), 0)                                                                        \
    X(mu_cu_result, cuMemcpyDtoHAsync_v2, (void *, mu_cu_ptr, size_t, mu_cu_stream), 0)                                \
    X(mu_cu_result, cuMemcpyHtoDAsync_v2, (mu_cu_ptr, const void *, size_t, mu_cu_stream), 0)

#define MU_API_POINTER(result, name, args, since) result(*name) args;
struct mu_nccl_api {
    MU_NCCL_SYMBOLS(MU_API_POINTER)
    int version;
    char text[16], path[300]; /* the version for people, and where the library lies */
};
struct mu_cuda_api {
    MU_CUDA_SYMBOLS(MU_API_POINTER)
    int version;
    char path[300];
};
#undef MU_API_POINTER

/* Load the library the first time; the tables stay until the process ends. Thread-safe. ENOSYS: not there; ENODE: there
 * and not usable; the text is one line. */
int mu_nccl_load(const struct mu_nccl_api **api, struct mu_err *err);
int mu_cuda_load(const struct mu_cuda_api **api, struct mu_err *err);
/* Makes the context this thread's current one; returns the one that was, for cuCtxSetCurrent. */
mu_cu_ctx mu_cuda_enter(const struct mu_cuda_api *c, mu_cu_ctx ctx);

#endif
