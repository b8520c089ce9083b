#include "collectives/ops.h"

#include "collectives/half.h"

/* The loops below are made to be vectorised, which gcc does not do at -O2. */
#if defined(__OPTIMIZE__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__)
#pragma GCC optimize("O3")
#endif

/* User memory: any alignment, any declared type. */
#define USER(T) __attribute__((may_alias, aligned(1))) T

typedef uint16_t mu_fp16;
typedef uint16_t mu_bf16;

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
    }

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

/* T: the type; U: unsigned, at least as wide as int after promotion, so that overflow wraps; W: for the division. */
#define INTEGER(name, T, U, W)                                                                                         \
    KERNEL_LOAD(name, T, T, )                                                                                          \
    KERNEL_FOLD(name, T, T, sum, , (U)x + (U)y)                                                                        \
    KERNEL_FOLD(name, T, T, prod, , (U)x *(U)y)                                                                        \
    KERNEL_FOLD(name, T, T, min, , y < x ? y : x)                                                                      \
    KERNEL_FOLD(name, T, T, max, , y > x ? y : x)                                                                      \
    KERNEL_STORE(name, T, T, store, , x)                                                                               \
    KERNEL_STORE(name, T, T, store_avg, (T), (W)x / (W)ranks)

#define FLOATING(name, T, A, TO_ACC, OF_ACC)                                                                           \
    KERNEL_LOAD(name, T, A, TO_ACC)                                                                                    \
    KERNEL_FOLD(name, T, A, sum, TO_ACC, x + y)                                                                        \
    KERNEL_FOLD(name, T, A, prod, TO_ACC, x *y)                                                                        \
    KERNEL_FOLD(name, T, A, min, TO_ACC, x != x ? x : (y < x || y != y) ? y : x)                                       \
    KERNEL_FOLD(name, T, A, max, TO_ACC, x != x ? x : (y > x || y != y) ? y : x)                                       \
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

INTEGER(i8, int8_t, uint32_t, int64_t)
INTEGER(u8, uint8_t, uint32_t, uint64_t)
INTEGER(i32, int32_t, uint32_t, int64_t)
INTEGER(u32, uint32_t, uint32_t, uint64_t)
INTEGER(i64, int64_t, uint64_t, int64_t)
INTEGER(u64, uint64_t, uint64_t, uint64_t)
FLOATING(f16, mu_fp16, float, mu_half_to_float, mu_half_of)
FLOATING(bf16, mu_bf16, float, mu_bf16_to_float, mu_bf16_of)
FLOATING(f32, float, float, , f32_of)
FLOATING(f64, double, double, , f64_of)

/* To add a type: a row here, kernels above, a row in tests/unit/collectives_ops.c. */
static const struct {
    const char *name;
    size_t size, acc_size;
    void (*load)(void *acc, const void *in, size_t n);
    void (*fold[MUSTER_AVG + 1])(void *acc, const void *in, size_t n);
    void (*store)(void *out, const void *acc, size_t n, unsigned ranks);
    void (*store_avg)(void *out, const void *acc, size_t n, unsigned ranks);
} types[] = {
#define ROW(code, text, prefix, T, A)                                                                                  \
    [code] = {text,                                                                                                    \
              sizeof(T),                                                                                               \
              sizeof(A),                                                                                               \
              prefix##_load,                                                                                           \
              {[MUSTER_SUM] = prefix##_sum,                                                                            \
               [MUSTER_PROD] = prefix##_prod,                                                                          \
               [MUSTER_MIN] = prefix##_min,                                                                            \
               [MUSTER_MAX] = prefix##_max,                                                                            \
               [MUSTER_AVG] = prefix##_sum},                                                                           \
              prefix##_store,                                                                                          \
              prefix##_store_avg}
    ROW(MUSTER_INT8, "int8", i8, int8_t, int8_t),        ROW(MUSTER_UINT8, "uint8", u8, uint8_t, uint8_t),
    ROW(MUSTER_INT32, "int32", i32, int32_t, int32_t),   ROW(MUSTER_UINT32, "uint32", u32, uint32_t, uint32_t),
    ROW(MUSTER_INT64, "int64", i64, int64_t, int64_t),   ROW(MUSTER_UINT64, "uint64", u64, uint64_t, uint64_t),
    ROW(MUSTER_FLOAT16, "float16", f16, mu_fp16, float), ROW(MUSTER_BFLOAT16, "bfloat16", bf16, mu_bf16, float),
    ROW(MUSTER_FLOAT32, "float32", f32, float, float),   ROW(MUSTER_FLOAT64, "float64", f64, double, double),
#undef ROW
};

static const char *const op_names[] = {
    [MUSTER_SUM] = "sum", [MUSTER_PROD] = "prod", [MUSTER_MIN] = "min", [MUSTER_MAX] = "max", [MUSTER_AVG] = "avg",
};

#define COUNT(a) (sizeof(a) / sizeof(a)[0])

size_t mu_dtype_size(muster_dtype dtype)
{
    return (size_t)dtype < COUNT(types) ? types[dtype].size : 0;
}

const char *mu_dtype_name(int dtype)
{
    return (size_t)dtype < COUNT(types) ? types[dtype].name : "?";
}

const char *mu_op_name(int op)
{
    return (size_t)op < COUNT(op_names) ? op_names[op] : "?";
}

bool mu_op_valid(muster_op op)
{
    return (size_t)op < COUNT(op_names);
}

struct mu_reducer mu_ops_reducer(muster_dtype dtype, muster_op op)
{
    return (struct mu_reducer){
        .acc_size = types[dtype].acc_size,
        .load = types[dtype].load,
        .fold = types[dtype].fold[op],
        .store = op == MUSTER_AVG ? types[dtype].store_avg : types[dtype].store,
    };
}
