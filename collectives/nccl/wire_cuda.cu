/* The kernels of wire_kernels.h by nvcc. The runtime is linked statically: the driver is all that is needed where they
 * run. */
#include <cuda_runtime.h>

#include "collectives/nccl/wire_kernels.h"

static const size_t threads = 256, most_blocks = 4096;

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
MU_WIRE_KERNELS(KERNEL)

static int usable()
{
    cudaFuncAttributes unused;

    return cudaFuncGetAttributes(&unused, narrow);
}

#define IN_TABLE(name) run_##name,
extern "C" __attribute__((visibility("default"))) const struct mu_wire_kernels *MU_KERNELS_ENTRY(void)
{
    static const struct mu_wire_kernels table = {explain, usable, MU_WIRE_KERNELS(IN_TABLE)};

    return &table;
}
