/* Copies, for the file of an instruction set: it defines VEC, VEC_LOAD and VEC_STREAM, and VEC_STORE where copying by
 * hand beats memcpy(). */
#ifndef MU_COLLECTIVES_KERNEL_COPY_H
#define MU_COLLECTIVES_KERNEL_COPY_H

#ifdef VEC_STORE
static void copy(void *dst, const void *src, size_t n)
{
    char *d = dst;
    const char *s = src;

    if (n < 512) {
        memcpy(d, s, n);
        return;
    }
    for (; n >= 128; d += 128, s += 128, n -= 128)
        for (size_t i = 0; i < 128 / sizeof(VEC); i++)
            VEC_STORE((VEC *)(void *)d + i, VEC_LOAD((const VEC *)(const void *)s + i));
    memcpy(d, s, n);
}
#endif

/* Past the caches. */
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
        for (size_t i = 0; i < 64 / sizeof(VEC); i++)
            VEC_STREAM((VEC *)(void *)d + i, VEC_LOAD((const VEC *)(const void *)s + i));
    memcpy(d, s, n);
    _mm_sfence();
}

#endif
