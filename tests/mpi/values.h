/* Elements of every type as bits: inputs that can be told apart, and what floats of 16 bits are worth. */
#ifndef MU_TESTS_MPI_VALUES_H
#define MU_TESTS_MPI_VALUES_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "muster.h"

static const size_t width[] = {1, 1, 4, 4, 8, 8, 2, 2, 4, 8, 1, 1};

static inline uint64_t mix(uint64_t x)
{
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ x >> 27) * 0x94d049bb133111ebull;
    return x ^ x >> 31;
}

static unsigned salt;

/* Element i of rank r's input: any bits, now and then infinity, NaN, a zero or a subnormal. */
static inline uint64_t bits(muster_dtype t, int r, size_t i)
{
    static const uint64_t odd[6][4] = {{0x7c00, 0x7d01, 0x8000, 3},
                                       {0xff80, 0x7f81, 0x8000, 3},
                                       {0x7f800000, 0x7f800001, 0x80000000, 3},
                                       {0x7ffull << 52, (0x7ffull << 52) | 5, 1ull << 63, 3},
                                       {0x7e, 0x7f, 0x80, 3},
                                       {0xfc, 0x7d, 0x80, 3}};
    uint64_t u = mix((uint64_t)r * 1000003 + i * 31 + salt * 7777777ull + 1);

    if (t >= MUSTER_FLOAT16 && u % 29 == 0)
        return odd[t - MUSTER_FLOAT16][u / 29 % 4];
    return width[t] == 8 ? u : u & ((1ull << 8 * width[t]) - 1);
}

static double small_value(int e_bits, int m_bits, uint64_t u)
{
    int e = (int)(u >> m_bits) & ((1 << e_bits) - 1), m = (int)u & ((1 << m_bits) - 1);
    int bias = (1 << (e_bits - 1)) - 1;
    double v = e == (1 << e_bits) - 1 ? (m ? NAN : INFINITY)
               : e                    ? ldexp((1 << m_bits) + m, e - bias - m_bits)
                                      : ldexp(m, 1 - bias - m_bits);

    return u >> (e_bits + m_bits) & 1 ? -v : v;
}

static uint64_t small_bits(int e_bits, int m_bits, double v)
{
    int bias = (1 << (e_bits - 1)) - 1, top = (1 << e_bits) - 1, e;
    uint64_t sign = (uint64_t)(signbit(v) != 0) << (e_bits + m_bits);
    double a = fabs(v), r;

    if (isnan(v))
        return (uint64_t)top << m_bits | 1ull << (m_bits - 1);
    if (a == 0)
        return sign;
    if (isinf(a))
        return sign | (uint64_t)top << m_bits;
    frexp(a, &e);
    e = e - 1 < 1 - bias ? 1 - bias : e - 1;
    r = nearbyint(ldexp(a, m_bits - e));
    if (r >= 2 << m_bits) {
        r /= 2;
        e++;
    }
    if (e > bias)
        return sign | (uint64_t)top << m_bits;
    return sign |
           (r < 1 << m_bits ? (uint64_t)r : (uint64_t)(e + bias) << m_bits | ((uint64_t)r & ((1ull << m_bits) - 1)));
}

/* Floats of 8 bits saturate; e4m3 has no infinity, and values in its place. */
static double e4m3_value(uint64_t u)
{
    double v = (u & 0x7f) == 0x7f   ? NAN
               : (u & 0x7f) >= 0x78 ? ldexp(8 + (double)(u & 7), 5)
                                    : small_value(4, 3, u & 0x7f);

    return u & 0x80 ? -v : v;
}

static uint64_t e4m3_bits(double v)
{
    uint64_t sign = signbit(v) ? 0x80 : 0;

    if (isnan(v))
        return 0x7f;
    if (fabs(v) < 248)
        return small_bits(4, 3, v);
    return sign | (fabs(v) >= 448 ? 0x7e : 0x78 + (uint64_t)nearbyint(ldexp(fabs(v), -5) - 8));
}

static uint64_t e5m2_bits(double v)
{
    return fabs(v) > 57344 ? (signbit(v) ? 0xfb : 0x7b) : small_bits(5, 2, v);
}

static inline double to_double(muster_dtype t, uint64_t u)
{
    float f;
    double d;
    uint32_t u32 = (uint32_t)u;

    if (t == MUSTER_FLOAT16)
        return small_value(5, 10, u);
    if (t == MUSTER_BFLOAT16)
        return small_value(8, 7, u);
    if (t == MUSTER_FLOAT8_E4M3)
        return e4m3_value(u);
    if (t == MUSTER_FLOAT8_E5M2)
        return small_value(5, 2, u);
    if (t == MUSTER_FLOAT32) {
        memcpy(&f, &u32, 4);
        return f;
    }
    memcpy(&d, &u, 8);
    return d;
}

static inline uint64_t from_double(muster_dtype t, double v)
{
    float f = (float)v;
    uint32_t u32;
    uint64_t u;

    if (t == MUSTER_FLOAT16)
        return small_bits(5, 10, v);
    if (t == MUSTER_BFLOAT16)
        return small_bits(8, 7, v);
    if (t == MUSTER_FLOAT8_E4M3)
        return e4m3_bits(v);
    if (t == MUSTER_FLOAT8_E5M2)
        return e5m2_bits(v);
    if (isnan(v))
        return t == MUSTER_FLOAT32 ? 0x7fc00000 : 0x7ff8ull << 48;
    memcpy(&u32, &f, 4);
    memcpy(&u, &v, 8);
    return t == MUSTER_FLOAT32 ? u32 : u;
}

static inline int64_t sign_extended(uint64_t u, size_t w)
{
    return w == 8 ? (int64_t)u : (int64_t)(u << (64 - 8 * w)) >> (64 - 8 * w);
}

#endif
