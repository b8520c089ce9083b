/* Reduction kernels. A reduction is load (first rank's input), fold (the others', in rank order), store; between nodes
 * accumulators are merged, too (algorithms.h). The accumulator is the type itself, float32 for 16-bit floats; rounding,
 * the division of AVG and the one form of NaN come in store. So results do not depend on chunk, alignment, instruction
 * set or algorithm:
 * - integers wrap; AVG divides the wrapped sum and truncates towards zero;
 * - MIN and MAX give NaN when any input is NaN, and the lower rank's value where inputs are equal (-0, +0);
 * - a NaN result is always the positive quiet NaN without payload. */
#ifndef MU_COLLECTIVES_OPS_H
#define MU_COLLECTIVES_OPS_H

#include <stdbool.h>

#include "collectives/kernels.h"
#include "runtime/base/dtype.h"

/* in and out may be misaligned; acc is aligned to its element and holds n * acc_size bytes. */
struct mu_reducer {
    size_t size, acc_size;
    void (*load)(void *acc, const void *in, size_t n);
    void (*fold)(void *acc, const void *in, size_t n);
    void (*merge)(void *acc, const void *other, size_t n); /* as fold, of an accumulator */
    void (*store)(void *out, const void *acc, size_t n, unsigned ranks);
    void (*two)(void *acc, const void *a, const void *b, size_t n);
    void (*pair)(void *out, const void *a, const void *b, size_t n, unsigned ranks);
    void (*both)(void *out, void *other, const void *a, const void *b, size_t n, unsigned ranks);
    const struct mu_kernels *set;
    unsigned ranks; /* AVG divides by them; 0: as many as there are inputs */
};

/* Instruction sets of this machine, the best one first: NULL behind the last one. */
const struct mu_kernels *mu_ops_set(unsigned i);

/* The kernels of a dtype and an op that are both valid, of the best set. */
struct mu_reducer mu_ops_reducer(muster_dtype dtype, muster_op op);
/* The same where it is asked for in each call: no copy by way of the stack. */
void mu_ops_reducer_to(struct mu_reducer *out, muster_dtype dtype, muster_op op);
struct mu_reducer mu_ops_reducer_of(const struct mu_kernels *set, muster_dtype dtype, muster_op op);

/* Everything at once: src[0], ..., src[nsrc - 1] in this order into each of dst, which may be among src but may not
 * overlap with one otherwise. away: the results are not read soon. */
void mu_ops_reduce(const struct mu_reducer *red, void *const *dst, unsigned ndst, const void *const *src, unsigned nsrc,
                   size_t n, bool away);

/* Of two, without a reducer. */
void mu_ops_pair(muster_dtype dtype, muster_op op, void *dst, const void *a, const void *b, size_t n);

/* A reduction in parts, one after the other: *left holds n * acc_size bytes, aligned to 64, and is what the next part
 * goes on from (before; NULL: it is the first). red->ranks is set. What src must not be: as above. */
void mu_ops_reduce_part(const struct mu_reducer *red, void *left, const void *before, const void *const *src,
                        unsigned nsrc, size_t n);
void mu_ops_reduce_last(const struct mu_reducer *red, void *const *dst, unsigned ndst, const void *before,
                        const void *const *src, unsigned nsrc, size_t n, bool away);

/* Bytes that do not overlap; away: as above. */
void mu_ops_copy(void *dst, const void *src, size_t n, bool away);

/* Stores to each line of p what is there already. */
void mu_ops_rewrite(void *p, size_t n);

#endif
