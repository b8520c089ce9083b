#include "runtime/base/dtype.h"

#include <string.h>

#include "runtime/base/clean.h"

static const struct {
    const char *name;
    size_t bytes;
} dtypes[MU_DTYPE_COUNT] = {
#define ROW(value, name, bytes) [value] = {name, bytes},
    MU_DTYPES(ROW)
#undef ROW
};
static const char *const ops[] = {
    [MUSTER_SUM] = "sum", [MUSTER_PROD] = "prod", [MUSTER_MIN] = "min", [MUSTER_MAX] = "max", [MUSTER_AVG] = "avg",
};

size_t mu_dtype_size(muster_dtype dtype)
{
    return (size_t)dtype < MU_COUNT(dtypes) ? dtypes[dtype].bytes : 0;
}

const char *mu_dtype_name(int dtype)
{
    return (size_t)dtype < MU_COUNT(dtypes) ? dtypes[dtype].name : "?";
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
    for (size_t i = 0; i < MU_COUNT(dtypes); i++) {
        if (strcmp(dtypes[i].name, name) != 0)
            continue;
        *dtype = (muster_dtype)i;
        return true;
    }
    return false;
}
