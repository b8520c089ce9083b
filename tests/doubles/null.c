/* NCCL and CUDA that do nothing at once: what is left is what a call costs in the library (make bench-overhead). */
#include "tests/doubles/double.h"

static char memory[1 << 20]; /* of the only GPU */

#define NOTHING(name, ...)                                                                                             \
    DOUBLE_API int name(__VA_ARGS__)                                                                                   \
    {                                                                                                                  \
        return 0;                                                                                                      \
    }
#define P void *
#define N size_t

NOTHING(cuInit, unsigned a)
NOTHING(cuCtxSetCurrent, P a)
NOTHING(cuMemFree_v2, unsigned long long a)
NOTHING(cuMemcpyHtoD_v2, unsigned long long a, P b, N c)
NOTHING(cuMemcpyDtoH_v2, P a, unsigned long long b, N c)
NOTHING(cuStreamCreate, P a, unsigned b)
NOTHING(cuStreamDestroy_v2, P a)
NOTHING(cuStreamSynchronize, P a)
NOTHING(cuStreamCreateWithPriority, P a, unsigned b, int c)
NOTHING(cuCtxGetStreamPriorityRange, P a, P b)
NOTHING(cuMemHostAlloc, P a, N b, unsigned c)
NOTHING(cuMemFreeHost, P a)
NOTHING(cuMemcpyDtoHAsync_v2, P a, unsigned long long b, N c, P d)
NOTHING(cuMemcpyHtoDAsync_v2, unsigned long long a, P b, N c, P d)
NOTHING(cuMemcpyDtoDAsync_v2, unsigned long long a, unsigned long long b, N c, P d)
NOTHING(cuMemGetInfo_v2, P a, P b)
NOTHING(cuStreamQuery, P a)
NOTHING(cuDeviceGetUuid, P a, int b)
NOTHING(cuDeviceGetPCIBusId, P a, int b, int c)
NOTHING(cuStreamWaitEvent, P a, P b, unsigned c)
NOTHING(cuDevicePrimaryCtxRelease_v2, int a)
NOTHING(cuDeviceGetAttribute, int *a, int b, int c)
NOTHING(cuEventDestroy_v2, P a)
NOTHING(cuEventRecord, P a, P b)
NOTHING(cuEventQuery, P a)
NOTHING(cuGetErrorName, int a, P b)
NOTHING(ncclCommFinalize, P a)
NOTHING(ncclCommDestroy, P a)
NOTHING(ncclCommAbort, P a)
NOTHING(ncclGroupStart, void)
NOTHING(ncclGroupEnd, void)
NOTHING(ncclGetUniqueId, P a)
NOTHING(ncclAllReduce, P a, P b, N n, int t, int o, P c, P s)
NOTHING(ncclReduce, P a, P b, N n, int t, int o, int r, P c, P s)
NOTHING(ncclReduceScatter, P a, P b, N n, int t, int o, P c, P s)
NOTHING(ncclAllGather, P a, P b, N n, int t, P c, P s)
NOTHING(ncclBroadcast, P a, P b, N n, int t, int r, P c, P s)
NOTHING(ncclSend, P a, N n, int t, int p, P c, P s)
NOTHING(ncclRecv, P a, N n, int t, int p, P c, P s)

DOUBLE_API int ncclGetVersion(int *v)
{
    *v = 21805;
    return 0;
}
DOUBLE_API const char *ncclGetErrorString(int rc)
{
    (void)rc;
    return "";
}
DOUBLE_API const char *ncclGetLastError(void *c)
{
    (void)c;
    return "";
}
DOUBLE_API int ncclCommGetAsyncError(void *c, int *rc)
{
    (void)c;
    return *rc = 0;
}
struct id {
    char internal[128];
};
DOUBLE_API int ncclCommInitRankConfig(void **c, int n, struct id id, int r, void *config)
{
    (void)n, (void)id, (void)r, (void)config;
    *c = memory;
    return 0;
}
DOUBLE_API int cuDriverGetVersion(int *v)
{
    *v = 13000;
    return 0;
}
DOUBLE_API int cuDeviceGetCount(int *n)
{
    *n = 1;
    return 0;
}
DOUBLE_API int cuDevicePrimaryCtxRetain(void **ctx, int device)
{
    (void)device;
    *ctx = memory;
    return 0;
}
DOUBLE_API int cuCtxGetCurrent(void **ctx)
{
    *ctx = memory;
    return 0;
}
DOUBLE_API int cuMemAlloc_v2(unsigned long long *at, size_t n)
{
    *at = (uintptr_t)memory;
    return n > sizeof memory;
}
DOUBLE_API int cuEventCreate(void **e, unsigned flags)
{
    (void)flags;
    *e = memory;
    return 0;
}
DOUBLE_API int cuStreamIsCapturing(void *s, int *status)
{
    (void)s;
    return *status = 0;
}
DOUBLE_API int cuPointerGetAttribute(void *out, int attribute, unsigned long long at)
{
    if (at - (uintptr_t)memory >= sizeof memory)
        return 1;
    *(unsigned *)out = attribute == 2 ? 2 : 0;
    return 0;
}
