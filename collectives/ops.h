/* Data types and reduction kernels. A reduction is load (first rank's input), fold (the others', in rank order), store.
 * The accumulator is the type itself, float32 for 16-bit floats; rounding, the division of AVG and the one form of NaN
 * come in store. So results do not depend on chunk, alignment, vector width or algorithm:
 * - integers wrap; AVG divides the wrapped sum and truncates towards zero;
 * - MIN and MAX give NaN when any input is NaN, and the lower rank's value where inputs are equal (-0, +0);
 * - a NaN result is always the positive quiet NaN without payload. */
#ifndef MU_COLLECTIVES_OPS_H
#define MU_COLLECTIVES_OPS_H

#include <stdbool.h>

#include "muster.h"

/* 0 for a value that is not a dtype. */
size_t mu_dtype_size(muster_dtype dtype);
/* "?" for a value that is not one. */
const char *mu_dtype_name(int dtype);
const char *mu_op_name(int op);
bool mu_op_valid(muster_op op);

/* in and out may be misaligned; acc is aligned to its element and holds n * acc_size bytes. */
struct mu_reducer {
    size_t acc_size;
    void (*load)(void *acc, const void *in, size_t n);
    void (*fold)(void *acc, const void *in, size_t n);
    void (*store)(void *out, const void *acc, size_t n, unsigned ranks);
};

/* The kernels of a dtype and an op that are both valid. */
struct mu_reducer mu_ops_reducer(muster_dtype dtype, muster_op op);

#endif
