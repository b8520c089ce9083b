#ifdef __x86_64__

#include <immintrin.h>
#include <string.h>

#define MU_KERNELS_TABLE mu_kernels_avx512
#define MU_KERNELS_NAME "avx512"

#include "collectives/kernels.h"

#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl"))), apply_to = function)
#else
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,prefer-vector-width=512")
#if defined(__OPTIMIZE__) && !defined(__SANITIZE_ADDRESS__)
#pragma GCC optimize("O3")
#endif
#endif

static void copy(void *dst, const void *src, size_t n)
{
    char *d = dst;
    const char *s = src;

    if (n < 512) {
        memcpy(d, s, n);
        return;
    }
    for (; n >= 128; d += 128, s += 128, n -= 128)
        for (size_t i = 0; i < 128 / sizeof(__m512i); i++)
            _mm512_storeu_si512((__m512i *)(void *)d + i, _mm512_loadu_si512((const __m512i *)(const void *)s + i));
    memcpy(d, s, n);
}

static void stream(void *dst, const void *src, size_t n)
{
    char *d = dst;
    const char *s = src;
    size_t head = -(size_t)d & 63;

    if (n < 256) {
        memcpy(d, s, n);
        return;
    }
    memcpy(d, s, head);
    for (d += head, s += head, n -= head; n >= 64; d += 64, s += 64, n -= 64)
        for (size_t i = 0; i < 64 / sizeof(__m512i); i++)
            _mm512_stream_si512((__m512i *)(void *)d + i, _mm512_loadu_si512((const __m512i *)(const void *)s + i));
    memcpy(d, s, n);
    _mm_sfence();
}

#include "collectives/kernel_body.h"

#ifdef __clang__
#pragma clang attribute pop
#endif

#endif
