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

static void stream(void *dst, const void *src, size_t n)
{
#ifdef __SSE2__
    char *d = dst;
    const char *s = src;
    size_t head = -(size_t)d & 63;

    if (n < 256) {
        memcpy(d, s, n);
        return;
    }
    memcpy(d, s, head);
    for (d += head, s += head, n -= head; n >= 64; d += 64, s += 64, n -= 64)
        for (size_t i = 0; i < 4; i++)
            _mm_stream_si128((__m128i *)(void *)d + i, _mm_loadu_si128((const __m128i *)(const void *)s + i));
    memcpy(d, s, n);
    _mm_sfence();
#else
    memcpy(dst, src, n);
#endif
}

#include "collectives/kernel_body.h"
