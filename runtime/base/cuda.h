/* What is used of the CUDA driver: own prototypes, found by dlsym. collectives/nccl/asserts.c compares them with the
 * real header where there is one. Values and layouts are those of the library. */
#ifndef MU_BASE_CUDA_H
#define MU_BASE_CUDA_H

#include <stddef.h>

#include "runtime/base/err.h"
#include "runtime/base/nvlib.h"

typedef struct CUstream_st *mu_cu_stream;
typedef struct CUevent_st *mu_cu_event;
typedef struct CUctx_st *mu_cu_ctx;
typedef unsigned long long mu_cu_ptr;
typedef struct {
    char bytes[16];
} mu_cu_uuid;
typedef enum {
    MU_CU_OK = 0,
    MU_CU_NO_MEMORY = 2,
    MU_CU_NOT_INITIALIZED = 3,
    MU_CU_NO_DEVICE = 100,
    MU_CU_NOT_READY = 600
} mu_cu_result;
typedef enum { MU_CU_POINTER_MEMORY_TYPE = 2, MU_CU_POINTER_IS_MANAGED = 8, MU_CU_POINTER_DEVICE = 9 } mu_cu_attribute;
typedef enum { MU_CU_CAPABILITY_MAJOR = 75, MU_CU_CAPABILITY_MINOR = 76 } mu_cu_device_attribute;
typedef enum { MU_CU_NOT_CAPTURING } mu_cu_capture;
#define MU_CU_MEMORY_DEVICE 2u
#define MU_CU_EVENT_NO_TIMING 2u
#define MU_CU_STREAM_NON_BLOCKING 1u
#define MU_CU_HOST_PORTABLE 1u

/* X(result, name, arguments, since), as collectives/nccl/api.h has them; all of these must be there. */
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
    X(mu_cu_result, cuMemcpyHtoDAsync_v2, (mu_cu_ptr, const void *, size_t, mu_cu_stream), 0)                          \
    X(mu_cu_result, cuMemcpyDtoDAsync_v2, (mu_cu_ptr, mu_cu_ptr, size_t, mu_cu_stream), 0)                             \
    X(mu_cu_result, cuMemGetInfo_v2, (size_t *, size_t *), 0)                                                          \
    X(mu_cu_result, cuStreamQuery, (mu_cu_stream), 0)                                                                  \
    X(mu_cu_result, cuInit, (unsigned), 0)                                                                             \
    X(mu_cu_result, cuDeviceGetCount, (int *), 0)                                                                      \
    X(mu_cu_result, cuDeviceGetUuid, (mu_cu_uuid *, int), 0)                                                           \
    X(mu_cu_result, cuDeviceGetPCIBusId, (char *, int, int), 0)

struct mu_cuda_api {
    MU_CUDA_SYMBOLS(MU_NVLIB_POINTER)
    int version;
    char path[300];
};

/* Loads the library the first time; the table stays until the process ends. Thread-safe. ENOSYS: not there; ENODE:
 * there and not usable; the text is one line. */
int mu_cuda_load(const struct mu_cuda_api **api, struct mu_err *err);
/* Makes the context this thread's current one; returns the one that was, for cuCtxSetCurrent. */
mu_cu_ctx mu_cuda_enter(const struct mu_cuda_api *c, mu_cu_ctx ctx);

#endif
