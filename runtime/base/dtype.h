/* muster_dtype and muster_op: what their values are called and how long they are, for people and for formats. */
#ifndef MU_BASE_DTYPE_H
#define MU_BASE_DTYPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "muster.h"

/* X(value, name, bytes). The values are part of the formats. To add one: a row here, its kernels
 * (collectives/kernel_body.h), its row in collectives/nccl/issue.c, bench/rank/coll.c, launcher/bench_cmd.c and
 * launcher/safetensors.c. */
#define MU_DTYPES(X)                                                                                                   \
    X(MUSTER_INT8, "int8", 1)                                                                                          \
    X(MUSTER_UINT8, "uint8", 1)                                                                                        \
    X(MUSTER_INT32, "int32", 4)                                                                                        \
    X(MUSTER_UINT32, "uint32", 4)                                                                                      \
    X(MUSTER_INT64, "int64", 8)                                                                                        \
    X(MUSTER_UINT64, "uint64", 8)                                                                                      \
    X(MUSTER_FLOAT16, "float16", 2)                                                                                    \
    X(MUSTER_BFLOAT16, "bfloat16", 2)                                                                                  \
    X(MUSTER_FLOAT32, "float32", 4)                                                                                    \
    X(MUSTER_FLOAT64, "float64", 8)                                                                                    \
    X(MUSTER_FLOAT8_E4M3, "float8_e4m3", 1)                                                                            \
    X(MUSTER_FLOAT8_E5M2, "float8_e5m2", 1)

#define MU_DTYPE_COUNT ((size_t)MUSTER_FLOAT8_E5M2 + 1)

extern const uint8_t mu_dtype_bytes[MU_DTYPE_COUNT];

/* 0 for a value that is not a dtype. */
static inline size_t mu_dtype_size(muster_dtype dtype)
{
    return (size_t)dtype < MU_DTYPE_COUNT ? mu_dtype_bytes[dtype] : 0;
}
/* "?" for a value that is not one. */
const char *mu_dtype_name(int dtype);
/* Floats of 8 bits. */
bool mu_dtype_float8(muster_dtype dtype);
/* Floats that accumulate in float32 and are rounded then. */
bool mu_dtype_narrow(muster_dtype dtype);
const char *mu_op_name(int op);
bool mu_op_valid(muster_op op);
/* False: nothing is called so. */
bool mu_dtype_named(const char *name, muster_dtype *dtype);

#endif
