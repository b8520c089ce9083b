#include "runtime/base/copy.h"

#include <stdint.h>
#include <string.h>

#if defined(__x86_64__)
#include <emmintrin.h>

#define LINE 64u

/* Whole lines, to where a line begins. */
static void stream(unsigned char *to, const unsigned char *from, size_t n)
{
    for (size_t i = 0; i < n; i += LINE) {
        const __m128i *s = (const __m128i *)(const void *)(from + i);
        __m128i *d = (__m128i *)(void *)(to + i);
        __m128i a = _mm_loadu_si128(s), b = _mm_loadu_si128(s + 1);
        __m128i c = _mm_loadu_si128(s + 2), e = _mm_loadu_si128(s + 3);

        _mm_stream_si128(d, a);
        _mm_stream_si128(d + 1, b);
        _mm_stream_si128(d + 2, c);
        _mm_stream_si128(d + 3, e);
    }
    _mm_sfence(); /* whoever sees a flag that is set behind this sees the data */
}

void mu_copy(void *to, const void *from, size_t n)
{
    size_t head = -(uintptr_t)to % LINE, body;

    if (n < MU_COPY_STREAM) {
        memcpy(to, from, n);
        return;
    }
    memcpy(to, from, head);
    body = (n - head) / LINE * LINE;
    stream((unsigned char *)to + head, (const unsigned char *)from + head, body);
    memcpy((unsigned char *)to + head + body, (const unsigned char *)from + head + body, n - head - body);
}
#else
void mu_copy(void *to, const void *from, size_t n)
{
    memcpy(to, from, n);
}
#endif
