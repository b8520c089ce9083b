/* 16-bit and 8-bit floats to and from float32: exact one way, rounded to nearest even the other. Free of branches, so
 * that loops over them vectorise, and right when the program flushes subnormals. */
#ifndef MU_COLLECTIVES_HALF_H
#define MU_COLLECTIVES_HALF_H

#include <stdint.h>
#include <string.h>

#ifdef __CUDACC__ /* collectives/nccl/wire_cuda.cu */
#define MU_SMALL static inline __device__
#else
#define MU_SMALL static inline
#endif

#define MU_HALF_NAN 0x7e00u
#define MU_BF16_NAN 0x7fc0u
#define MU_E4M3_NAN 0x7fu
#define MU_E5M2_NAN 0x7eu

MU_SMALL float mu_float_of(uint32_t u)
{
    float f;

    memcpy(&f, &u, sizeof f);
    return f;
}

MU_SMALL uint32_t mu_bits_of(float f)
{
    uint32_t u;

    memcpy(&u, &f, sizeof u);
    return u;
}

/* a where c, else b; as a mask, because compilers turn ?: back into branches. */
MU_SMALL uint32_t mu_pick(int c, uint32_t a, uint32_t b)
{
    return b ^ ((a ^ b) & (0u - (uint32_t)c));
}

/* The magnitude mag of a float32, rounded to a float whose mantissa has `drop` bits less and whose exponent's bias is
 * `bias` lower; what is too large or NaN is left to the caller. Below the least normal one an addition does the
 * rounding: it puts the last bit of a subnormal at the last bit of the sum. */
MU_SMALL uint32_t mu_rounded(uint32_t mag, uint32_t drop, uint32_t bias)
{
    uint32_t least = (bias + 1) << 23, added = (bias + 1 + drop) << 23;
    uint32_t normal = (mag - (bias << 23) + (1u << (drop - 1)) - 1 + (mag >> drop & 1)) >> drop;
    uint32_t tiny = mu_bits_of(mu_float_of(mag & (0u - (uint32_t)(mag < least))) + mu_float_of(added)) - added;

    return mu_pick(mag < least, tiny, normal);
}

MU_SMALL float mu_half_to_float(uint16_t h)
{
    uint32_t u = h, mag = u & 0x7fffu, sign = (u & 0x8000u) << 16;
    uint32_t normal = (mag << 13) + (112u << 23);
    uint32_t special = 0x7f800000u | mag << 13 | (uint32_t)(mag > 0x7c00u) << 22;
    uint32_t tiny = mu_bits_of((float)(int32_t)mag * 0x1p-24f);

    return mu_float_of(mu_pick(mag < 0x400u, tiny, mu_pick(mag >= 0x7c00u, special, normal)) | sign);
}

MU_SMALL uint16_t mu_half_of(float f)
{
    uint32_t u = mu_bits_of(f), mag = u & 0x7fffffffu, sign = u >> 16 & 0x8000u;
    uint32_t r = mu_rounded(mag, 13, 112);

    r = mu_pick(mag >= 0x477ff000u, 0x7c00u, r) | sign;
    return (uint16_t)mu_pick(mag > 0x7f800000u, MU_HALF_NAN, r);
}

MU_SMALL float mu_bf16_to_float(uint16_t b)
{
    uint32_t u = (uint32_t)b << 16;

    return mu_float_of(u | (uint32_t)((u & 0x7fffffffu) > 0x7f800000u) << 22);
}

MU_SMALL uint16_t mu_bf16_of(float f)
{
    uint32_t u = mu_bits_of(f);
    uint32_t r = (u + 0x7fffu + (u >> 16 & 1)) >> 16;

    return (uint16_t)mu_pick((u & 0x7fffffffu) > 0x7f800000u, MU_BF16_NAN, r);
}

/* 8-bit floats saturate, as CUDA's conversions do: what is beyond the largest value, infinity too, becomes that. */

MU_SMALL float mu_e4m3_to_float(uint8_t b)
{
    uint32_t mag = b & 0x7fu, sign = (b & 0x80u) << 24;
    uint32_t normal = (mag << 20) + (120u << 23);
    uint32_t tiny = mu_bits_of((float)(int32_t)mag * 0x1p-9f);

    return mu_float_of(mu_pick(mag < 8, tiny, mu_pick(mag == MU_E4M3_NAN, 0x7fc00000u, normal)) | sign);
}

MU_SMALL uint8_t mu_e4m3_of(float f)
{
    uint32_t u = mu_bits_of(f), mag = u & 0x7fffffffu, sign = u >> 24 & 0x80u;
    uint32_t r = mu_rounded(mag, 20, 120);

    r = mu_pick(mag > 0x43e00000u, 0x7eu, r) | sign;
    return (uint8_t)mu_pick(mag > 0x7f800000u, MU_E4M3_NAN, r);
}

MU_SMALL float mu_e5m2_to_float(uint8_t b)
{
    return mu_half_to_float((uint16_t)(b << 8));
}

MU_SMALL uint8_t mu_e5m2_of(float f)
{
    uint32_t u = mu_bits_of(f), mag = u & 0x7fffffffu, sign = u >> 24 & 0x80u;
    uint32_t r = mu_rounded(mag, 21, 112);

    r = mu_pick(mag > 0x47600000u, 0x7bu, r) | sign;
    return (uint8_t)mu_pick(mag > 0x7f800000u, MU_E5M2_NAN, r);
}

#endif
