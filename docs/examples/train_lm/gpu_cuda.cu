/* The kernels by nvcc, and what they need of the CUDA runtime. The runtime is linked statically: the driver is all that
 * is needed where it runs. */
#include <cuda_runtime.h>

#include "kernels.h"

static const size_t threads = 256, most_blocks = 4096;

static cudaStream_t streams[GPU_STREAMS];
static cudaEvent_t events[GPU_STREAMS]; /* recorded in each */

static const char *explain(int error)
{
    int driver = 0;

    if (error == cudaErrorInsufficientDriver && cudaDriverGetVersion(&driver) == cudaSuccess && !driver)
        return "there is no CUDA driver";
    return cudaGetErrorString(static_cast<cudaError_t>(error));
}

#define KERNEL(name)                                                                                                   \
    static __global__ void name(size_t n, struct name##_args args)                                                     \
    {                                                                                                                  \
        for (size_t i = blockIdx.x * static_cast<size_t>(blockDim.x) + threadIdx.x; i < n;                             \
             i += static_cast<size_t>(gridDim.x) * blockDim.x)                                                         \
            name##_one(args, i);                                                                                       \
    }                                                                                                                  \
    static int run_##name(void *stream, size_t n, struct name##_args args)                                             \
    {                                                                                                                  \
        size_t blocks = (n + threads - 1) / threads;                                                                   \
                                                                                                                       \
        if (!n)                                                                                                        \
            return 0;                                                                                                  \
        if (blocks > most_blocks)                                                                                      \
            blocks = most_blocks;                                                                                      \
        name<<<static_cast<unsigned>(blocks), static_cast<unsigned>(threads), 0, static_cast<cudaStream_t>(stream)>>>( \
            n, args);                                                                                                  \
        return cudaGetLastError();                                                                                     \
    }
KERNELS(KERNEL)

static int open_device(int local_rank, void *out[GPU_STREAMS])
{
    cudaFuncAttributes unused;
    int count = 0;
    cudaError_t rc = cudaGetDeviceCount(&count);

    if (rc == cudaSuccess)
        rc = count > 0 ? cudaSetDevice(local_rank % count) : cudaErrorNoDevice;
    if (rc == cudaSuccess) /* was this built for such a GPU? */
        rc = cudaFuncGetAttributes(&unused, embed);
    for (int i = 0; i < GPU_STREAMS && rc == cudaSuccess; i++) {
        rc = cudaStreamCreateWithFlags(&streams[i], cudaStreamNonBlocking);
        if (rc == cudaSuccess)
            rc = cudaEventCreateWithFlags(&events[i], cudaEventDisableTiming);
        out[i] = streams[i];
    }
    return rc;
}

static int alloc(void **out, size_t bytes)
{
    cudaError_t rc = cudaMalloc(out, bytes);

    if (rc == cudaSuccess)
        rc = cudaMemset(*out, 0, bytes);
    return rc == cudaSuccess ? cudaDeviceSynchronize() : rc; /* our streams do not wait for that of the memset */
}

static int release(void *p)
{
    return cudaFree(p);
}

static int copy(void *stream, void *to, const void *from, size_t bytes, cudaMemcpyKind kind)
{
    cudaError_t rc = cudaMemcpyAsync(to, from, bytes, kind, static_cast<cudaStream_t>(stream));

    return rc == cudaSuccess ? cudaStreamSynchronize(static_cast<cudaStream_t>(stream)) : rc;
}

static int put(void *stream, void *to, const void *host, size_t bytes)
{
    return copy(stream, to, host, bytes, cudaMemcpyHostToDevice);
}

static int get(void *stream, void *host, const void *from, size_t bytes)
{
    return copy(stream, host, from, bytes, cudaMemcpyDeviceToHost);
}

static int follow(int later, int earlier)
{
    cudaError_t rc = cudaEventRecord(events[earlier], streams[earlier]);

    return rc == cudaSuccess ? cudaStreamWaitEvent(streams[later], events[earlier], 0) : rc;
}

#define IN_TABLE(name) run_##name,
extern "C" __attribute__((visibility("default"))) const struct gpu *GPU_ENTRY(void)
{
    static const struct gpu table = {sizeof table, explain, open_device,      alloc, release, put,
                                     get,          follow,  KERNELS(IN_TABLE)};

    return &table;
}
