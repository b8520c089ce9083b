/* What every machine can do; on x86-64 that is SSE2. */
#include <string.h>

#ifdef __SSE2__
#include <emmintrin.h>
#endif

#define MU_KERNELS_TABLE mu_kernels_plain
#define MU_KERNELS_NAME "plain"

/* The loops are made to be vectorised, which gcc does not do at -O2. */
#if defined(__OPTIMIZE__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__)
#pragma GCC optimize("O3")
#endif

#include "collectives/kernels.h"

static void copy(void *dst, const void *src, size_t n)
{
    memcpy(dst, src, n);
}

#ifdef __SSE2__
#define VEC __m128i
#define VEC_LOAD _mm_loadu_si128
#define VEC_STREAM _mm_stream_si128
#include "collectives/kernel_copy.h"
#else
static void stream(void *dst, const void *src, size_t n)
{
    memcpy(dst, src, n);
}
#endif

#include "collectives/kernel_body.h"
