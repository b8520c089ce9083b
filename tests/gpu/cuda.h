/* What tests need of the CUDA driver, or of its double (MUSTER_CUDA_LIB). */
#ifndef TESTS_GPU_CUDA_H
#define TESTS_GPU_CUDA_H

#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

static struct {
    int (*cuInit)(unsigned), (*cuDeviceGetCount)(int *), (*cuDevicePrimaryCtxRetain)(void **, int),
        (*cuCtxSetCurrent)(void *), (*cuMemAlloc_v2)(unsigned long long *, size_t), (*cuMemFree_v2)(unsigned long long),
        (*cuMemcpyHtoD_v2)(unsigned long long, const void *, size_t),
        (*cuMemcpyDtoH_v2)(void *, unsigned long long, size_t), (*cuStreamCreate)(void **, unsigned),
        (*cuStreamDestroy_v2)(void *), (*cuStreamSynchronize)(void *);
    int devices;
} cuda;

/* The GPU of a rank, as the current one. NULL, or why there is none. */
static inline const char *cuda_up(int rank)
{
    static const char *const names[] = {
        "cuInit",         "cuDeviceGetCount",   "cuDevicePrimaryCtxRetain", "cuCtxSetCurrent",
        "cuMemAlloc_v2",  "cuMemFree_v2",       "cuMemcpyHtoD_v2",          "cuMemcpyDtoH_v2",
        "cuStreamCreate", "cuStreamDestroy_v2", "cuStreamSynchronize"};
    const char *lib = getenv("MUSTER_CUDA_LIB");
    char host[32];
    void *h = dlopen(lib && *lib ? lib : "libcuda.so.1", RTLD_NOW), *ctx = NULL;

    /* Several ranks on one GPU are refused, unless they seem to be on different hosts. */
    snprintf(host, sizeof host, "rank%d", rank);
    setenv("NCCL_HOSTID", host, 1);
    setenv("NCCL_SOCKET_IFNAME", "lo", 0);
    if (!h)
        return dlerror();
    for (unsigned i = 0; i < sizeof names / sizeof names[0]; i++)
        if (!(((void **)&cuda)[i] = dlsym(h, names[i])))
            return names[i];
    if (cuda.cuInit(0) || cuda.cuDeviceGetCount(&cuda.devices) || cuda.devices < 1)
        return "no GPU";
    if (cuda.cuDevicePrimaryCtxRetain(&ctx, rank % cuda.devices) || cuda.cuCtxSetCurrent(ctx))
        return "no context on the GPU";
    return NULL;
}

static inline void *cuda_alloc(size_t n)
{
    unsigned long long p = 0;

    return cuda.cuMemAlloc_v2(&p, n ? n : 1) ? NULL : (void *)(uintptr_t)p;
}
static inline void cuda_free(void *p)
{
    cuda.cuMemFree_v2((uintptr_t)p);
}
static inline int cuda_put(void *to, const void *from, size_t n)
{
    return n ? cuda.cuMemcpyHtoD_v2((uintptr_t)to, from, n) : 0;
}
static inline int cuda_get(void *to, const void *from, size_t n)
{
    return n ? cuda.cuMemcpyDtoH_v2(to, (uintptr_t)from, n) : 0;
}

#endif
