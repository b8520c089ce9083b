/* What buckets whose float32 goes between ranks as 16 bits need computed on a GPU. X_one() makes one element of X's
 * result: nvcc makes kernels of these functions (wire_cuda.cu), the test double loops. The bits are those of
 * collectives/kernel_body.h. */
#ifndef MU_COLLECTIVES_NCCL_WIRE_KERNELS_H
#define MU_COLLECTIVES_NCCL_WIRE_KERNELS_H

#include <stdbool.h>
#include <stddef.h>

#include "collectives/half.h"
#include "muster.h"
#include "runtime/base/nvlib.h"

#define MU_WIRE_KERNELS(X) X(narrow) X(fold) X(widen)

/* half: the 16 bits are float16, else bfloat16. */
MU_SMALL uint16_t mu_wire_of(float x, bool half)
{
    return half ? mu_half_of(x) : mu_bf16_of(x);
}

MU_SMALL float mu_wire_to_float(uint16_t x, bool half)
{
    return half ? mu_half_to_float(x) : mu_bf16_to_float(x);
}

struct narrow_args {
    uint16_t *to;
    const float *from;
    bool half;
};
MU_SMALL void narrow_one(struct narrow_args a, size_t i)
{
    a.to[i] = mu_wire_of(a.from[i], a.half);
}

struct widen_args {
    float *to;
    const uint16_t *from;
    bool half;
};
MU_SMALL void widen_one(struct widen_args a, size_t i)
{
    a.to[i] = mu_wire_to_float(a.from[i], a.half);
}

/* Rank r's elements begin at from[r * stride]; they are folded in the order of ranks. */
struct fold_args {
    uint16_t *to;
    const uint16_t *from;
    size_t stride;
    unsigned ranks;
    muster_op op;
    bool half;
};
MU_SMALL void fold_one(struct fold_args a, size_t i)
{
    float x = mu_wire_to_float(a.from[i], a.half);

    for (unsigned r = 1; r < a.ranks; r++) {
        float y = mu_wire_to_float(a.from[r * a.stride + i], a.half);

        if (a.op == MUSTER_PROD)
            x *= y;
        else if (a.op == MUSTER_MIN)
            x = x != x ? x : (y < x || y != y) ? y : x;
        else if (a.op == MUSTER_MAX)
            x = x != x ? x : (y > x || y != y) ? y : x;
        else
            x += y;
    }
    a.to[i] = mu_wire_of(a.op == MUSTER_AVG ? x / (float)a.ranks : x, a.half);
}

/* What libmuster_cuda.so gives, by a function of the name MU_KERNELS_ENTRY. Functions return 0 or an error for
 * explain(). A stream is a CUstream, its context is the current one.
 */
#define MU_WIRE_CALL(name) int (*name)(void *stream, size_t n, struct name##_args args);

struct mu_wire_kernels {
    const char *(*explain)(int error);
    int (*usable)(void); /* were they built for the GPU of the current context? */
    MU_WIRE_KERNELS(MU_WIRE_CALL)
};

#endif
