#include "runtime/base/dtype.h"

#include <string.h>

#include "runtime/base/clean.h"

static const char *const names[MU_DTYPE_COUNT] = {
#define NAME(value, name, bytes) [value] = name,
    MU_DTYPES(NAME)
#undef NAME
};
const uint8_t mu_dtype_bytes[MU_DTYPE_COUNT] = {
#define BYTES(value, name, bytes) [value] = bytes,
    MU_DTYPES(BYTES)
#undef BYTES
};
static const char *const ops[] = {
    [MUSTER_SUM] = "sum", [MUSTER_PROD] = "prod", [MUSTER_MIN] = "min", [MUSTER_MAX] = "max", [MUSTER_AVG] = "avg",
};

const char *mu_dtype_name(int dtype)
{
    return (size_t)dtype < MU_COUNT(names) ? names[dtype] : "?";
}

bool mu_dtype_float8(muster_dtype dtype)
{
    return dtype == MUSTER_FLOAT8_E4M3 || dtype == MUSTER_FLOAT8_E5M2;
}

bool mu_dtype_narrow(muster_dtype dtype)
{
    return dtype == MUSTER_FLOAT16 || dtype == MUSTER_BFLOAT16 || mu_dtype_float8(dtype);
}

const char *mu_op_name(int op)
{
    return (size_t)op < MU_COUNT(ops) ? ops[op] : "?";
}

bool mu_op_valid(muster_op op)
{
    return (size_t)op < MU_COUNT(ops);
}

bool mu_dtype_named(const char *name, muster_dtype *dtype)
{
    for (size_t i = 0; i < MU_COUNT(names); i++) {
        if (strcmp(names[i], name) != 0)
            continue;
        *dtype = (muster_dtype)i;
        return true;
    }
    return false;
}
