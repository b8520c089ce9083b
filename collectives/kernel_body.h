/* The kernels, for the file that includes this; it has said for which instructions, what MU_KERNELS_NAME and
 * MU_KERNELS_TABLE are, and defines copy() and stream(). Plain loops that compilers vectorise: what comes out does not
 * depend on how. */
#ifndef MU_COLLECTIVES_KERNEL_BODY_H
#define MU_COLLECTIVES_KERNEL_BODY_H

#include <stdint.h>

#include "collectives/half.h"
#include "collectives/kernels.h"

/* User memory: any alignment, any declared type. */
#define USER(T) __attribute__((may_alias, aligned(1))) T

/* out and in are the same memory or apart: nothing is carried from one round of the loop to another. */
#ifdef __clang__
#define APART _Pragma("clang loop vectorize(assume_safety)")
#else
#define APART _Pragma("GCC ivdep")
#endif

typedef uint16_t mu_fp16;
typedef uint16_t mu_bf16;
typedef uint8_t mu_e4m3;
typedef uint8_t mu_e5m2;

#define KERNEL_LOAD(name, T, A, TO_ACC)                                                                                \
    static void name##_load(void *acc, const void *in, size_t n)                                                       \
    {                                                                                                                  \
        typedef USER(T) user;                                                                                          \
        A *restrict a = acc;                                                                                           \
        const user *restrict v = in;                                                                                   \
                                                                                                                       \
        for (size_t i = 0; i < n; i++)                                                                                 \
            a[i] = TO_ACC(v[i]);                                                                                       \
    }

#define KERNEL_FOLD(name, T, A, op, TO_ACC, expr)                                                                      \
    static void name##_##op(void *acc, const void *in, size_t n)                                                       \
    {                                                                                                                  \
        typedef USER(T) user;                                                                                          \
        A *restrict a = acc;                                                                                           \
        const user *restrict v = in;                                                                                   \
                                                                                                                       \
        for (size_t i = 0; i < n; i++) {                                                                               \
            A x = a[i], y = TO_ACC(v[i]);                                                                              \
            a[i] = (A)(expr);                                                                                          \
        }                                                                                                              \
    }                                                                                                                  \
    static void name##_##op##_two(void *acc, const void *va, const void *vb, size_t n)                                 \
    {                                                                                                                  \
        typedef USER(T) user;                                                                                          \
        A *restrict o = acc;                                                                                           \
        const user *a = va, *b = vb;                                                                                   \
                                                                                                                       \
        for (size_t i = 0; i < n; i++) {                                                                               \
            A x = TO_ACC(a[i]), y = TO_ACC(b[i]);                                                                      \
            o[i] = (A)(expr);                                                                                          \
        }                                                                                                              \
    }

#define KERNEL_STORE(name, T, A, suffix, OF_ACC, expr)                                                                 \
    static void name##_##suffix(void *out, const void *acc, size_t n, unsigned ranks)                                  \
    {                                                                                                                  \
        typedef USER(T) user;                                                                                          \
        const A *restrict a = acc;                                                                                     \
        user *restrict o = out;                                                                                        \
                                                                                                                       \
        (void)ranks;                                                                                                   \
        for (size_t i = 0; i < n; i++) {                                                                               \
            A x = a[i];                                                                                                \
            o[i] = OF_ACC(expr);                                                                                       \
        }                                                                                                              \
    }

/* last: what of z goes into memory. */
#define KERNEL_PAIR(name, T, A, suffix, TO_ACC, OF_ACC, expr, last)                                                    \
    static void name##_##suffix(void *out, const void *va, const void *vb, size_t n, unsigned ranks)                   \
    {                                                                                                                  \
        typedef USER(T) user;                                                                                          \
        const user *a = va, *b = vb;                                                                                   \
        user *o = out;                                                                                                 \
                                                                                                                       \
        (void)ranks;                                                                                                   \
        APART for (size_t i = 0; i < n; i++)                                                                           \
        {                                                                                                              \
            A x = TO_ACC(a[i]), y = TO_ACC(b[i]), z = (A)(expr);                                                       \
            o[i] = OF_ACC(last);                                                                                       \
        }                                                                                                              \
    }                                                                                                                  \
    static void name##_##suffix##_both(void *out, void *other, const void *va, const void *vb, size_t n,               \
                                       unsigned ranks)                                                                 \
    {                                                                                                                  \
        typedef USER(T) user;                                                                                          \
        const user *a = va, *b = vb;                                                                                   \
        user *o = out, *o2 = other;                                                                                    \
                                                                                                                       \
        (void)ranks;                                                                                                   \
        APART for (size_t i = 0; i < n; i++)                                                                           \
        {                                                                                                              \
            A x = TO_ACC(a[i]), y = TO_ACC(b[i]), z = (A)(expr);                                                       \
            T v = OF_ACC(last);                                                                                        \
                                                                                                                       \
            o[i] = v;                                                                                                  \
            o2[i] = v;                                                                                                 \
        }                                                                                                              \
    }

#define KERNEL_OP(name, T, A, op, TO_ACC, OF_ACC, expr)                                                                \
    KERNEL_FOLD(name, T, A, op, TO_ACC, expr)                                                                          \
    KERNEL_PAIR(name, T, A, op##_pair, TO_ACC, OF_ACC, expr, z)

/* T: the type; U: unsigned, at least as wide as int after promotion, so that overflow wraps; W: for the division, wide
 * enough to be exact when truncated. */
#define INTEGER(name, T, U, W)                                                                                         \
    KERNEL_LOAD(name, T, T, )                                                                                          \
    KERNEL_OP(name, T, T, sum, , , (U)x + (U)y)                                                                        \
    KERNEL_OP(name, T, T, prod, , , (U)x *(U)y)                                                                        \
    KERNEL_OP(name, T, T, min, , , y < x ? y : x)                                                                      \
    KERNEL_OP(name, T, T, max, , , y > x ? y : x)                                                                      \
    KERNEL_PAIR(name, T, T, avg_pair, , (T), (U)x + (U)y, (W)z / (W)ranks)                                             \
    KERNEL_STORE(name, T, T, store, , x)                                                                               \
    KERNEL_STORE(name, T, T, store_avg, (T), (W)x / (W)ranks)

#define FLOATING(name, T, A, TO_ACC, OF_ACC)                                                                           \
    KERNEL_LOAD(name, T, A, TO_ACC)                                                                                    \
    KERNEL_OP(name, T, A, sum, TO_ACC, OF_ACC, x + y)                                                                  \
    KERNEL_OP(name, T, A, prod, TO_ACC, OF_ACC, x *y)                                                                  \
    KERNEL_OP(name, T, A, min, TO_ACC, OF_ACC, x != x ? x : (y < x || y != y) ? y : x)                                 \
    KERNEL_OP(name, T, A, max, TO_ACC, OF_ACC, x != x ? x : (y > x || y != y) ? y : x)                                 \
    KERNEL_PAIR(name, T, A, avg_pair, TO_ACC, OF_ACC, x + y, z / (A)ranks)                                             \
    KERNEL_STORE(name, T, A, store, OF_ACC, x)                                                                         \
    KERNEL_STORE(name, T, A, store_avg, OF_ACC, x / (A)ranks)

static inline float f32_of(float x)
{
    return x != x ? __builtin_nanf("") : x;
}

static inline double f64_of(double x)
{
    return x != x ? __builtin_nan("") : x;
}

/* The quotient of two whole numbers below 2^32 in float64 never rounds up to the next whole one. */
INTEGER(i8, int8_t, uint32_t, double)
INTEGER(u8, uint8_t, uint32_t, double)
INTEGER(i32, int32_t, uint32_t, double)
INTEGER(u32, uint32_t, uint32_t, double)
INTEGER(i64, int64_t, uint64_t, int64_t)
INTEGER(u64, uint64_t, uint64_t, uint64_t)
FLOATING(f16, mu_fp16, float, mu_half_to_float, mu_half_of)
FLOATING(bf16, mu_bf16, float, mu_bf16_to_float, mu_bf16_of)
FLOATING(e4m3, mu_e4m3, float, mu_e4m3_to_float, mu_e4m3_of)
FLOATING(e5m2, mu_e5m2, float, mu_e5m2_to_float, mu_e5m2_of)
FLOATING(f32, float, float, , f32_of)
FLOATING(f64, double, double, , f64_of)

/* To add a type: a row here and in runtime/base/dtype.h, kernels above, a row in tests/unit/collectives_ops.c. */
static const struct mu_kernel_type types[MU_DTYPE_COUNT] = {
#define OPS(prefix, suffix, avg)                                                                                       \
    {                                                                                                                  \
        [MUSTER_SUM] = prefix##_sum##suffix, [MUSTER_PROD] = prefix##_prod##suffix,                                    \
        [MUSTER_MIN] = prefix##_min##suffix, [MUSTER_MAX] = prefix##_max##suffix,                                      \
        [MUSTER_AVG] = prefix##_##avg##suffix                                                                          \
    }
#define ROW(code, prefix, T, A)                                                                                        \
    [code] = {sizeof(T),                                                                                               \
              sizeof(A),                                                                                               \
              prefix##_load,                                                                                           \
              OPS(prefix, , sum),                                                                                      \
              OPS(prefix, _two, sum),                                                                                  \
              prefix##_store,                                                                                          \
              prefix##_store_avg,                                                                                      \
              OPS(prefix, _pair, avg),                                                                                 \
              OPS(prefix, _pair_both, avg)}
    ROW(MUSTER_INT8, i8, int8_t, int8_t),          ROW(MUSTER_UINT8, u8, uint8_t, uint8_t),
    ROW(MUSTER_INT32, i32, int32_t, int32_t),      ROW(MUSTER_UINT32, u32, uint32_t, uint32_t),
    ROW(MUSTER_INT64, i64, int64_t, int64_t),      ROW(MUSTER_UINT64, u64, uint64_t, uint64_t),
    ROW(MUSTER_FLOAT16, f16, mu_fp16, float),      ROW(MUSTER_BFLOAT16, bf16, mu_bf16, float),
    ROW(MUSTER_FLOAT32, f32, float, float),        ROW(MUSTER_FLOAT64, f64, double, double),
    ROW(MUSTER_FLOAT8_E4M3, e4m3, mu_e4m3, float), ROW(MUSTER_FLOAT8_E5M2, e5m2, mu_e5m2, float),
#undef ROW
#undef OPS
};

const struct mu_kernels MU_KERNELS_TABLE = {MU_KERNELS_NAME, types, copy, stream};

#endif
