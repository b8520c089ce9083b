/* Reduction kernels: one table an instruction set, all with the same bits. ops.c chooses one when the library is first
 * used. To add a set: a kernels_*.c that includes kernel_body.h, a row in ops.c. */
#ifndef MU_COLLECTIVES_KERNELS_H
#define MU_COLLECTIVES_KERNELS_H

#include <stddef.h>

#include "runtime/base/dtype.h"

/* Arguments called in and out may be misaligned, and out may be equal to an in, but not overlap with it otherwise; acc
 * is aligned to its element. n counts elements. */
struct mu_kernel_type {
    size_t size, acc_size;
    void (*load)(void *acc, const void *in, size_t n);
    void (*fold[MUSTER_AVG + 1])(void *acc, const void *in, size_t n);
    void (*two[MUSTER_AVG + 1])(void *acc, const void *a, const void *b, size_t n); /* load a, fold b */
    void (*store)(void *out, const void *acc, size_t n, unsigned ranks);
    void (*store_avg)(void *out, const void *acc, size_t n, unsigned ranks);
    void (*pair[MUSTER_AVG + 1])(void *out, const void *a, const void *b, size_t n, unsigned ranks); /* all three */
    /* Likewise into two. */
    void (*both[MUSTER_AVG + 1])(void *out, void *other, const void *a, const void *b, size_t n, unsigned ranks);
};

struct mu_kernels {
    const char *name;
    const struct mu_kernel_type *types;
    void (*copy)(void *dst, const void *src, size_t n);   /* bytes */
    void (*stream)(void *dst, const void *src, size_t n); /* past the caches where that can be had; ordered */
};

extern const struct mu_kernels mu_kernels_plain;
#ifdef __x86_64__
extern const struct mu_kernels mu_kernels_avx2, mu_kernels_avx512;
#endif

#endif
