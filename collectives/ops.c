#include "collectives/ops.h"

#include <stdatomic.h>

#define BLOCK ((size_t)4096) /* bytes of accumulator: stays in the nearest cache */

#define COUNT(a) (sizeof(a) / sizeof(a)[0])

const struct mu_kernels *mu_ops_set(unsigned i)
{
#ifdef __x86_64__
    bool avx2 = __builtin_cpu_supports("avx2");
    bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                  __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    const struct {
        bool can;
        const struct mu_kernels *set;
    } rows[] = {{avx512, &mu_kernels_avx512}, {avx2, &mu_kernels_avx2}, {true, &mu_kernels_plain}};
#else
    const struct {
        bool can;
        const struct mu_kernels *set;
    } rows[] = {{true, &mu_kernels_plain}};
#endif

    for (size_t k = 0; k < COUNT(rows); k++)
        if (rows[k].can && i-- == 0)
            return rows[k].set;
    return NULL;
}

static const struct mu_kernels *best(void)
{
    static const struct mu_kernels *_Atomic found;
    const struct mu_kernels *set = atomic_load_explicit(&found, memory_order_relaxed);

    if (!set) {
        set = mu_ops_set(0);
        atomic_store_explicit(&found, set, memory_order_relaxed);
    }
    return set;
}

static void fill(struct mu_reducer *out, const struct mu_kernels *set, muster_dtype dtype, muster_op op)
{
    const struct mu_kernel_type *t = &set->types[dtype];

    out->size = t->size;
    out->acc_size = t->acc_size;
    out->load = t->load;
    out->fold = t->fold[op];
    out->merge = set->types[t->acc_size == t->size ? dtype : MUSTER_FLOAT32].fold[op];
    out->store = op == MUSTER_AVG ? t->store_avg : t->store;
    out->two = t->two[op];
    out->pair = t->pair[op];
    out->both = t->both[op];
    out->set = set;
    out->ranks = 0;
}

struct mu_reducer mu_ops_reducer_of(const struct mu_kernels *set, muster_dtype dtype, muster_op op)
{
    struct mu_reducer r;

    fill(&r, set, dtype, op);
    return r;
}

struct mu_reducer mu_ops_reducer(muster_dtype dtype, muster_op op)
{
    return mu_ops_reducer_of(best(), dtype, op);
}

void mu_ops_reducer_to(struct mu_reducer *out, muster_dtype dtype, muster_op op)
{
    fill(out, best(), dtype, op);
}

static const void *at(const void *p, size_t offset)
{
    return (const char *)p + offset;
}

static void *to(void *p, size_t offset)
{
    return (char *)p + offset;
}

/* acc: before, or nothing, and n elements of src from the i-th on. */
static void fold_block(const struct mu_reducer *red, void *acc, const void *before, const void *const *src,
                       unsigned nsrc, size_t i, size_t n)
{
    size_t offset = i * red->size;
    unsigned k = before ? 0 : nsrc == 1 ? 1 : 2;

    if (before)
        red->set->copy(acc, at(before, i * red->acc_size), n * red->acc_size);
    else if (nsrc == 1)
        red->load(acc, at(src[0], offset), n);
    else
        red->two(acc, at(src[0], offset), at(src[1], offset), n);
    for (; k < nsrc; k++)
        red->fold(acc, at(src[k], offset), n);
}

static void reduce_block(const struct mu_reducer *red, void *out, const void *before, const void *const *src,
                         unsigned nsrc, size_t i, size_t n, unsigned ranks)
{
    _Alignas(64) char acc[BLOCK];

    if (nsrc == 2 && !before) {
        red->pair(out, at(src[0], i * red->size), at(src[1], i * red->size), n, ranks);
        return;
    }
    fold_block(red, acc, before, src, nsrc, i, n);
    red->store(out, acc, n, ranks);
}

static void reduce_blocks(const struct mu_reducer *red, void *const *dst, unsigned ndst, const void *before,
                          const void *const *src, unsigned nsrc, size_t n, bool away, unsigned ranks)
{
    size_t block = BLOCK / red->acc_size;
    _Alignas(64) char kept[BLOCK];

    for (size_t i = 0; i < n; i += block) {
        size_t m = n - i < block ? n - i : block, offset = i * red->size;
        void *out = away ? kept : to(dst[0], offset);

        /* All of src has been read before the second of dst is written. */
        reduce_block(red, out, before, src, nsrc, i, m, ranks);
        for (unsigned k = away ? 0 : 1; k < ndst; k++)
            (away ? red->set->stream : red->set->copy)(to(dst[k], offset), out, m * red->size);
    }
}

void mu_ops_reduce(const struct mu_reducer *red, void *const *dst, unsigned ndst, const void *const *src, unsigned nsrc,
                   size_t n, bool away)
{
    unsigned ranks = red->ranks ? red->ranks : nsrc;

    if (nsrc == 2 && ndst == 1 && !away)
        red->pair(dst[0], src[0], src[1], n, ranks);
    else if (nsrc == 2 && ndst == 2 && !away)
        red->both(dst[0], dst[1], src[0], src[1], n, ranks);
    else
        reduce_blocks(red, dst, ndst, NULL, src, nsrc, n, away, ranks);
}

void mu_ops_pair(muster_dtype dtype, muster_op op, void *dst, const void *a, const void *b, size_t n)
{
    best()->types[dtype].pair[op](dst, a, b, n, 2);
}

void mu_ops_reduce_part(const struct mu_reducer *red, void *left, const void *before, const void *const *src,
                        unsigned nsrc, size_t n)
{
    size_t block = BLOCK / red->acc_size;

    for (size_t i = 0; i < n; i += block)
        fold_block(red, to(left, i * red->acc_size), before, src, nsrc, i, n - i < block ? n - i : block);
}

void mu_ops_reduce_last(const struct mu_reducer *red, void *const *dst, unsigned ndst, const void *before,
                        const void *const *src, unsigned nsrc, size_t n, bool away)
{
    reduce_blocks(red, dst, ndst, before, src, nsrc, n, away, red->ranks);
}

void mu_ops_copy(void *dst, const void *src, size_t n, bool away)
{
    if (n)
        (away ? best()->stream : best()->copy)(dst, src, n);
}

__attribute__((no_sanitize("thread"))) void mu_ops_rewrite(void *p, size_t n)
{
    for (volatile char *c = p, *end = c + n; c < end; c += 64)
        *c = *c;
}
