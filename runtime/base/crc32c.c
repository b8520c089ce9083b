/* Four ways to one checksum: carry-less multiplication of 512 bits at a time, which keeps up with memory, the CRC
 * instruction of x86-64 (SSE4.2) or arm64, and a table for the rest. The
 * instruction has a latency of three cycles and a throughput of one, so long inputs run as three interleaved streams
 * over adjacent blocks; the streams are joined by advancing a CRC over a block of zeros, which is linear and therefore
 * four look-ups. */
#include "runtime/base/crc32c.h"

#include <pthread.h>
#include <string.h>

#define POLY 0x82f63b78u /* reflected Castagnoli polynomial */
#define LONG 4096u       /* bytes of one of three streams */
#define SHORT 256u

static uint32_t slice[8][256];
static uint32_t skip_long[4][256], skip_short[4][256];

static uint64_t load64(const unsigned char *p)
{
    uint64_t v;

    memcpy(&v, p, sizeof v);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    v = __builtin_bswap64(v);
#endif
    return v;
}

static uint32_t run_table(uint32_t crc, const void *data, size_t n)
{
    const unsigned char *p = data;

    crc = ~crc;
    for (; n >= 8; n -= 8, p += 8) {
        uint64_t v = load64(p) ^ crc;

        crc = 0;
        for (int i = 0; i < 8; i++)
            crc ^= slice[7 - i][v >> (8 * i) & 0xff];
    }
    for (; n; n--)
        crc = slice[0][(crc ^ *p++) & 0xff] ^ crc >> 8;
    return ~crc;
}

static void init_slices(void)
{
    for (uint32_t b = 0; b < 256; b++) {
        uint32_t c = b;

        for (int i = 0; i < 8; i++)
            c = c & 1 ? c >> 1 ^ POLY : c >> 1;
        slice[0][b] = c;
    }
    for (uint32_t b = 0; b < 256; b++)
        for (int k = 1; k < 8; k++)
            slice[k][b] = slice[0][slice[k - 1][b] & 0xff] ^ slice[k - 1][b] >> 8;
}

/* skip[i][b]: what byte i of a raw CRC state becomes after `bytes` zero bytes. */
static void init_skip(uint32_t skip[4][256], unsigned bytes)
{
    for (int i = 0; i < 4; i++)
        for (uint32_t b = 0; b < 256; b++) {
            uint32_t c = b << (8 * i);

            if (b & (b - 1)) { /* linear: the sum of two that are known */
                skip[i][b] = skip[i][b & (b - 1)] ^ skip[i][b & -b];
                continue;
            }
            for (unsigned k = 0; k < bytes; k++)
                c = slice[0][c & 0xff] ^ c >> 8;
            skip[i][b] = c;
        }
}

#if defined(__x86_64__) || defined(__aarch64__)
#if defined(__x86_64__)
#include <nmmintrin.h>
#define HW_NAME "sse4.2"
#define HW_TARGET __attribute__((target("sse4.2")))
#define HW64(c, v) _mm_crc32_u64(c, v)
#define HW8(c, v) _mm_crc32_u8((uint32_t)(c), v)
static int hw_present(void)
{
    __builtin_cpu_init();
    return __builtin_cpu_supports("sse4.2");
}
#else
#include <sys/auxv.h>
#define HW_NAME "armv8-crc"
#if defined(__clang__)
#define HW_TARGET __attribute__((target("crc")))
#define HW64(c, v) (uint64_t) __builtin_arm_crc32cd((uint32_t)(c), v)
#define HW8(c, v) __builtin_arm_crc32cb((uint32_t)(c), v)
#else
#define HW_TARGET __attribute__((target("+crc")))
#define HW64(c, v) (uint64_t) __builtin_aarch64_crc32cx((uint32_t)(c), v)
#define HW8(c, v) __builtin_aarch64_crc32cb((uint32_t)(c), v)
#endif
static int hw_present(void)
{
    return (getauxval(AT_HWCAP) & 1ul << 7) != 0; /* HWCAP_CRC32 */
}
#endif

static inline uint64_t skip_over(uint32_t skip[4][256], uint64_t c)
{
    return skip[0][c & 0xff] ^ skip[1][c >> 8 & 0xff] ^ skip[2][c >> 16 & 0xff] ^ skip[3][c >> 24 & 0xff];
}

HW_TARGET static uint32_t run_hw(uint32_t crc, const void *data, size_t n)
{
    const unsigned char *p = data;
    static const struct {
        size_t bytes;
        uint32_t (*skip)[256];
    } strides[] = {{LONG, skip_long}, {SHORT, skip_short}};
    uint64_t c = (uint32_t)~crc;

    for (int s = 0; s < 2; s++) {
        size_t b = strides[s].bytes;

        for (; n >= 3 * b; n -= 3 * b, p += 3 * b) {
            uint64_t c1 = 0, c2 = 0;

            for (size_t i = 0; i < b; i += 8) {
                c = HW64(c, load64(p + i));
                c1 = HW64(c1, load64(p + b + i));
                c2 = HW64(c2, load64(p + 2 * b + i));
            }
            c = skip_over(strides[s].skip, c) ^ c1;
            c = skip_over(strides[s].skip, c) ^ c2;
        }
    }
    for (; n >= 8; n -= 8, p += 8)
        c = HW64(c, load64(p));
    for (; n; n--)
        c = HW8(c, *p++);
    return ~(uint32_t)c;
}
#endif

#if defined(__x86_64__)
#include <immintrin.h>
#define FOLD 256u /* bytes: four registers */

static uint64_t fold_by[2]; /* what the first and the second half of 16 bytes are multiplied with */

/* x^n modulo the polynomial, reflected. */
static uint32_t power(unsigned n)
{
    uint32_t c = 0x80000000u;

    for (; n; n--)
        c = c & 1 ? c >> 1 ^ POLY : c >> 1;
    return c;
}

static int wide_present(void)
{
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("vpclmulqdq") ||
        !__builtin_cpu_supports("sse4.2"))
        return 0;
    /* the product of two reflected factors is one place short */
    fold_by[0] = (uint64_t)power(8 * FOLD + 63) << 32;
    fold_by[1] = (uint64_t)power(8 * FOLD - 1) << 32;
    return 1;
}

/* What has been read is carried on as the FOLD bytes that have its checksum. */
__attribute__((target("avx512f,vpclmulqdq,sse4.2"))) static uint32_t run_wide(uint32_t crc, const void *data, size_t n)
{
    const unsigned char *p = data;
    unsigned char last[FOLD];
    __m512i x[FOLD / 64], by;

    if (n < 4 * FOLD)
        return run_hw(crc, data, n);
    by = _mm512_set4_epi64((long long)fold_by[1], (long long)fold_by[0], (long long)fold_by[1], (long long)fold_by[0]);
    for (unsigned k = 0; k < FOLD / 64; k++)
        x[k] = _mm512_loadu_si512(p + 64 * k);
    x[0] = _mm512_xor_si512(x[0], _mm512_zextsi128_si512(_mm_cvtsi32_si128((int)~crc)));
    for (p += FOLD, n -= FOLD; n >= FOLD; p += FOLD, n -= FOLD) {
        for (unsigned k = 0; k < FOLD / 64; k++) {
            __m512i low = _mm512_clmulepi64_epi128(x[k], by, 0x00), high = _mm512_clmulepi64_epi128(x[k], by, 0x11);

            __builtin_prefetch(p + 16 * FOLD + 64 * k);
            x[k] = _mm512_ternarylogic_epi64(low, high, _mm512_loadu_si512(p + 64 * k), 0x96);
        }
    }
    for (unsigned k = 0; k < FOLD / 64; k++)
        _mm512_storeu_si512(last + 64 * k, x[k]);
    return run_hw(run_hw(~0u, last, FOLD), p, n);
}
#endif

static struct mu_crc32c_impl impls[4];
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void init(void)
{
    unsigned n = 0;

    init_slices();
    init_skip(skip_long, LONG);
    init_skip(skip_short, SHORT);
#if defined(__x86_64__)
    if (wide_present())
        impls[n++] = (struct mu_crc32c_impl){"avx512", run_wide};
#endif
#ifdef HW_NAME
    if (hw_present())
        impls[n++] = (struct mu_crc32c_impl){HW_NAME, run_hw};
#endif
    impls[n] = (struct mu_crc32c_impl){"table", run_table};
}

const struct mu_crc32c_impl *mu_crc32c_impl(unsigned i)
{
    pthread_once(&once, init);
    return i < sizeof impls / sizeof impls[0] && impls[i].run ? &impls[i] : NULL;
}

uint32_t mu_crc32c(uint32_t crc, const void *data, size_t n)
{
    pthread_once(&once, init);
    return impls[0].run(crc, data, n);
}
