/* Kernels against plain references: conversions exhaustively, every dtype and op on special and random values. */
#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "collectives/half.h"
#include "collectives/ops.h"
#include "tests/unit/tap.h"

/* --- an independent view of small floats: value = (-1)^s * m * 2^e --- */

struct format {
    int exp_bits, man_bits;
    uint16_t most; /* what is beyond becomes this; 0: infinity */
    bool finite;   /* there is no infinity, and one NaN: all ones */
};
static const struct format fp16 = {5, 10, 0, false}, bf16 = {8, 7, 0, false}, e4m3 = {4, 3, 0x7e, true},
                           e5m2 = {5, 2, 0x7b, false};

static const struct format *format_of(muster_dtype dtype)
{
    return dtype == MUSTER_FLOAT16       ? &fp16
           : dtype == MUSTER_BFLOAT16    ? &bf16
           : dtype == MUSTER_FLOAT8_E4M3 ? &e4m3
           : dtype == MUSTER_FLOAT8_E5M2 ? &e5m2
                                         : NULL;
}

static uint16_t sign_of(struct format f)
{
    return (uint16_t)(1 << (f.exp_bits + f.man_bits));
}

static double value_of(struct format f, uint16_t u)
{
    bool ones = (u & (sign_of(f) - 1)) == sign_of(f) - 1;
    int e = u >> f.man_bits & ((1 << f.exp_bits) - 1), m = u & ((1 << f.man_bits) - 1);
    int bias = (1 << (f.exp_bits - 1)) - 1, top = (1 << f.exp_bits) - 1;
    double v = f.finite && ones        ? NAN
               : e == top && !f.finite ? (m ? NAN : INFINITY)
               : e                     ? ldexp((1 << f.man_bits) + m, e - bias - f.man_bits)
                                       : ldexp(m, 1 - bias - f.man_bits);

    return u & sign_of(f) ? -v : v;
}

/* Nearest even, by scaling to the last place and rounding there. */
static uint16_t nearest(struct format f, double v)
{
    int bias = (1 << (f.exp_bits - 1)) - 1, top = (1 << f.exp_bits) - 1, e;
    uint16_t sign = signbit(v) ? sign_of(f) : 0;
    double a = fabs(v), r;

    if (isnan(v) && f.finite)
        return (uint16_t)(sign_of(f) - 1);
    if (isnan(v))
        return (uint16_t)(top << f.man_bits | 1 << (f.man_bits - 1));
    if (a == 0)
        return sign;
    if (f.most && a > value_of(f, f.most))
        return sign | f.most;
    if (isinf(a))
        return (uint16_t)(sign | top << f.man_bits);
    frexp(a, &e);
    e--;
    if (e < 1 - bias)
        e = 1 - bias;
    r = nearbyint(ldexp(a, f.man_bits - e));
    if (r >= 2 << f.man_bits) {
        r /= 2;
        e++;
    }
    if (e > bias && !f.finite)
        return (uint16_t)(sign | top << f.man_bits);
    if (r < 1 << f.man_bits)
        return (uint16_t)(sign | (uint16_t)r);
    return (uint16_t)(sign | (e + bias) << f.man_bits | ((uint16_t)r & ((1 << f.man_bits) - 1)));
}

static bool same(double a, double b)
{
    return isnan(a) ? isnan(b) : a == b && signbit(a) == signbit(b);
}

static void conversions(const char *name, struct format f, float (*widen)(uint16_t), uint16_t (*narrow)(float))
{
    unsigned bad_widen = 0, bad_quiet = 0, bad_back = 0, bad_mid = 0, bad_walk = 0;

    for (uint32_t u = 0; u < 2u * sign_of(f); u++) {
        float x = widen((uint16_t)u);
        double v = value_of(f, (uint16_t)u), next;

        bad_widen += !same(x, v);
        bad_quiet += isnan(x) && !(mu_bits_of(x) & 0x400000);
        bad_back += narrow(x) != (isnan(x) ? nearest(f, NAN) : isinf(x) && f.most ? f.most | (u & sign_of(f)) : u);
        if (!isfinite(v))
            continue;
        /* Half way to the next one, and the floats on both sides of that. */
        next = value_of(f, (uint16_t)(u + 1));
        if (!isfinite(next))
            next = 2 * v - value_of(f, (uint16_t)(u - 1));
        float mid = (float)((v + next) / 2), at[3] = {nextafterf(mid, -INFINITY), mid, nextafterf(mid, INFINITY)};
        for (int i = 0; i < 3; i++)
            bad_mid += narrow(at[i]) != nearest(f, at[i]);
    }
    for (uint64_t u = 0; u <= UINT32_MAX; u += 4099) {
        float x = mu_float_of((uint32_t)u);

        bad_walk += narrow(x) != nearest(f, x);
    }
    TAP_OK(bad_widen == 0, "%s: every value widens exactly", name);
    TAP_OK(bad_quiet == 0, "%s: NaN becomes quiet", name);
    TAP_OK(bad_back == 0, "%s: every value comes back", name);
    TAP_OK(bad_mid == 0, "%s: around every half-way point it rounds to nearest even", name);
    TAP_OK(bad_walk == 0, "%s: a walk through all floats rounds to nearest even", name);
}

static float from_e4m3(uint16_t u)
{
    return mu_e4m3_to_float((uint8_t)u);
}

static uint16_t to_e4m3(float f)
{
    return mu_e4m3_of(f);
}

static float from_e5m2(uint16_t u)
{
    return mu_e5m2_to_float((uint8_t)u);
}

static uint16_t to_e5m2(float f)
{
    return mu_e5m2_of(f);
}

/* --- reductions --- */

#define RANKS 5
#define N 1031 /* prime: every vector width leaves a rest */

static uint64_t random_bits(void)
{
    static uint64_t s = 88172645463325252ull;

    s ^= s << 13;
    s ^= s >> 7;
    return s ^= s << 17;
}

static int64_t as_signed(const void *p, size_t size)
{
    int8_t a;
    int32_t b;
    int64_t c;

    memcpy(&a, p, 1);
    if (size == 1)
        return a;
    if (size == 4) {
        memcpy(&b, p, 4);
        return b;
    }
    memcpy(&c, p, 8);
    return c;
}

static uint64_t as_unsigned(const void *p, size_t size)
{
    uint64_t v = 0;

    memcpy(&v, p, size); /* little endian, as every machine that this runs on */
    return v;
}

/* Sums and products wrap: the low bytes of the 64-bit result. */
static uint64_t integer_reference(muster_op op, bool is_signed, size_t size, const unsigned char *in[RANKS], size_t i)
{
    uint64_t acc = as_unsigned(in[0] + i * size, size), low;

    for (int r = 1; r < RANKS; r++) {
        const void *x = in[r] + i * size;
        uint64_t u = as_unsigned(x, size);
        bool less = is_signed ? as_signed(x, size) < as_signed(&acc, size) : u < acc;

        if (op == MUSTER_SUM || op == MUSTER_AVG)
            acc += u;
        else if (op == MUSTER_PROD)
            acc *= u;
        else if ((op == MUSTER_MIN) == less)
            acc = u;
        acc = as_unsigned(&acc, size);
    }
    if (op != MUSTER_AVG)
        return acc;
    low = is_signed ? (uint64_t)(as_signed(&acc, size) / RANKS) : acc / RANKS;
    return as_unsigned(&low, size);
}

static double float_at(muster_dtype dtype, const unsigned char *p)
{
    uint16_t h;
    float f;
    double d;

    switch (mu_dtype_size(dtype)) {
    case 1:
        return value_of(*format_of(dtype), *p);
    case 2:
        memcpy(&h, p, 2);
        return value_of(*format_of(dtype), h);
    case 4:
        memcpy(&f, p, 4);
        return f;
    default:
        memcpy(&d, p, 8);
        return d;
    }
}

static uint64_t float_reference(muster_dtype dtype, muster_op op, const unsigned char *in[RANKS], size_t i)
{
    size_t size = mu_dtype_size(dtype);
    bool wide = dtype == MUSTER_FLOAT64;
    double acc = float_at(dtype, in[0] + i * size);
    float f;
    uint64_t u = 0;

    for (int r = 1; r < RANKS; r++) {
        double x = float_at(dtype, in[r] + i * size);

        if (op == MUSTER_SUM || op == MUSTER_AVG)
            acc += x;
        else if (op == MUSTER_PROD)
            acc *= x;
        else if (isnan(acc) || isnan(x))
            acc = NAN;
        else if (op == MUSTER_MIN ? x < acc : x > acc)
            acc = x;
        if (!wide) /* + and * of two floats in double, rounded to float, are the float operations */
            acc = (float)acc;
    }
    if (op == MUSTER_AVG)
        acc = wide ? acc / RANKS : (float)(acc / RANKS);
    if (isnan(acc))
        acc = fabs(NAN);
    if (format_of(dtype))
        return nearest(*format_of(dtype), acc);
    if (wide) {
        memcpy(&u, &acc, 8);
        return u;
    }
    f = (float)acc;
    memcpy(&u, &f, 4);
    return u;
}

static const uint64_t specials[][10] = {
    [MUSTER_INT8] = {0, 1, 0xff, 0x7f, 0x80},
    [MUSTER_UINT8] = {0, 1, 0xff, 0x7f, 0x80},
    [MUSTER_INT32] = {0, 1, 0xffffffff, 0x7fffffff, 0x80000000},
    [MUSTER_UINT32] = {0, 1, 0xffffffff, 0x7fffffff, 0x80000000},
    [MUSTER_INT64] = {0, 1, UINT64_MAX, INT64_MAX, 1ull << 63},
    [MUSTER_UINT64] = {0, 1, UINT64_MAX, INT64_MAX, 1ull << 63},
    [MUSTER_FLOAT16] = {0, 0x8000, 0x7c00, 0xfc00, 0x7e00, 0x7d01, 1, 0x83ff, 0x7bff, 0x3c00},
    [MUSTER_BFLOAT16] = {0, 0x8000, 0x7f80, 0xff80, 0x7fc0, 0x7f81, 1, 0x807f, 0x7f7f, 0x3f80},
    [MUSTER_FLOAT32] = {0, 0x80000000, 0x7f800000, 0xff800000, 0x7fc00000, 0x7f800001, 1, 0x807fffff, 0x7f7fffff,
                        0x3f800000},
    [MUSTER_FLOAT64] = {0, 1ull << 63, 0x7ffull << 52, 0xfffull << 52, 0x7ff8ull << 48, (0x7ffull << 52) | 1, 1,
                        (1ull << 63) | 77, 0x7fefffffffffffff, 0x3ffull << 52},
    [MUSTER_FLOAT8_E4M3] = {0, 0x80, 0x7f, 0xff, 0x7e, 0xfe, 1, 0x87, 0x38, 0x08},
    [MUSTER_FLOAT8_E5M2] = {0, 0x80, 0x7c, 0xfc, 0x7e, 0x7d, 1, 0x83, 0x7b, 0x3c},
};

static void reductions(const struct mu_kernels *set, muster_dtype dtype, muster_op op)
{
    static unsigned char space[RANKS][N * 8 + 8], out[N * 8 + 8];
    static _Alignas(64) unsigned char acc[N * 8];
    const unsigned char *in[RANKS];
    struct mu_reducer red = mu_ops_reducer_of(set, dtype, op);
    size_t size = mu_dtype_size(dtype);
    unsigned bad = 0, touched = 0;

    for (unsigned shift = 0; shift < 3; shift++) { /* misaligned inputs and outputs, too */
        for (int r = 0; r < RANKS; r++) {
            in[r] = space[r] + shift;
            for (size_t i = 0; i < N; i++) {
                uint64_t bits = random_bits() % 3 ? random_bits() : specials[dtype][random_bits() % 10];

                memcpy(space[r] + shift + i * size, &bits, size);
            }
        }
        memset(out, 0xa5, sizeof out);
        red.load(acc, in[0], N);
        for (int r = 1; r < RANKS; r++)
            red.fold(acc, in[r], N);
        red.store(out + shift, acc, N, RANKS);
        for (size_t i = 0; i < N; i++) {
            uint64_t want = dtype < MUSTER_FLOAT16 ? integer_reference(op, dtype % 2 == 0, size, in, i)
                                                   : float_reference(dtype, op, in, i);

            bad += as_unsigned(out + shift + i * size, size) != want;
        }
        for (size_t i = 0; i < sizeof out; i++)
            touched += (i < shift || i >= shift + N * size) && out[i] != 0xa5;
    }
    TAP_OK(bad == 0, "%s: %s %s: as the reference, bit for bit", set->name, mu_dtype_name(dtype), mu_op_name(op));
    TAP_OK(touched == 0, "%s: %s %s: writes nothing else", set->name, mu_dtype_name(dtype), mu_op_name(op));
}

/* --- everything at once, on every instruction set: the bits of the plain steps --- */

#define MANY 9
#define LONG 3001 /* more than two blocks of the widest accumulator */

static void stepwise(muster_dtype dtype, muster_op op, void *out, const void *const *in, unsigned ranks, size_t n)
{
    static _Alignas(64) unsigned char acc[LONG * 8];
    struct mu_reducer red = mu_ops_reducer_of(&mu_kernels_plain, dtype, op);

    red.load(acc, in[0], n);
    for (unsigned r = 1; r < ranks; r++)
        red.fold(acc, in[r], n);
    red.store(out, acc, n, ranks);
}

static void at_once(const struct mu_kernels *set, muster_dtype dtype, muster_op op)
{
    static unsigned char space[MANY][LONG * 8 + 64], work[MANY][LONG * 8 + 64], out[2][LONG * 8 + 64],
        want[LONG * 8 + 64];
    static const size_t counts[] = {0, 1, 2, 3, 7, 15, 16, 17, 31, 33, 63, 64, 65, 127, 129, 511, 1024, 1025, LONG};
    static _Alignas(64) unsigned char left[2][LONG * 8];
    struct mu_reducer red = mu_ops_reducer_of(set, dtype, op);
    size_t size = mu_dtype_size(dtype);
    unsigned bad = 0, bad_in_place = 0, bad_parts = 0, touched = 0;

    for (unsigned ranks = 1; ranks <= MANY; ranks++)
        for (size_t c = 0; c < sizeof counts / sizeof counts[0]; c++) {
            size_t n = counts[c], shift = (c * 7 + ranks) % 64;
            const void *in[MANY];
            void *to[MANY];
            bool away = c % 2, two = (c / 2 + ranks) % 2;

            for (unsigned r = 0; r < ranks; r++) {
                size_t off = (shift + r * 13) % 64;

                for (size_t i = 0; i < n; i++) {
                    uint64_t bits = random_bits() % 4 ? random_bits() : specials[dtype][random_bits() % 10];

                    memcpy(space[r] + off + i * size, &bits, size);
                }
                in[r] = space[r] + off;
                to[r] = work[r] + off;
                memcpy(to[r], in[r], n * size);
            }
            stepwise(dtype, op, want, in, ranks, n);
            memset(out, 0xa5, sizeof out);
            mu_ops_reduce(&red, (void *[]){out[0] + shift, out[1]}, 1 + two, in, ranks, n, away);
            bad += memcmp(out[0] + shift, want, n * size) != 0;
            bad += two && memcmp(out[1], want, n * size) != 0;
            for (size_t i = 0; i < sizeof out[0]; i++)
                touched += (i < shift || i >= shift + n * size) && out[0][i] != 0xa5;
            if (ranks > 1) { /* in two parts, or three */
                unsigned cut = 1 + (unsigned)c % (ranks - 1), more = ranks - cut > 1;

                red.ranks = ranks;
                mu_ops_reduce_part(&red, left[0], NULL, in, cut, n);
                if (more)
                    mu_ops_reduce_part(&red, left[1], left[0], in + cut, 1, n);
                memset(out, 0xa5, sizeof out);
                mu_ops_reduce_last(&red, (void *[]){out[0] + shift, out[1]}, 1 + two, left[more], in + cut + more,
                                   ranks - cut - more, n, away);
                red.ranks = 0;
                bad_parts += memcmp(out[0] + shift, want, n * size) != 0;
                bad_parts += two && memcmp(out[1], want, n * size) != 0;
            }
            /* Into all inputs, as peers that map each other's memory do. */
            mu_ops_reduce(&red, to, ranks, (const void *const *)to, ranks, n, away);
            for (unsigned r = 0; r < ranks; r++)
                bad_in_place += memcmp(to[r], want, n * size) != 0;
        }
    TAP_OK(!bad && !bad_in_place && !bad_parts,
           "%s: %s %s: 1 to 9 ranks at once, any alignment, in place, in parts (%u, %u, %u bad)", set->name,
           mu_dtype_name(dtype), mu_op_name(op), bad, bad_in_place, bad_parts);
    TAP_OK(touched == 0, "%s: %s %s at once: writes nothing else", set->name, mu_dtype_name(dtype), mu_op_name(op));
}

static void copies(const struct mu_kernels *set)
{
    static unsigned char from[6000], to[6000];
    unsigned bad = 0;

    for (size_t i = 0; i < sizeof from; i++)
        from[i] = (unsigned char)random_bits();
    for (size_t n = 0; n < 5500; n += n < 300 ? 1 : 97)
        for (int away = 0; away < 2; away++) {
            size_t a = n * 5 % 64, b = n * 3 % 64;

            memset(to, 0xa5, sizeof to);
            (away ? set->stream : set->copy)(to + a, from + b, n);
            bad += memcmp(to + a, from + b, n) != 0 || to[a + n] != 0xa5 || (a && to[a - 1] != 0xa5);
        }
    TAP_OK(bad == 0, "%s: copies of any length and alignment", set->name);
}

/* The same elements give the same bits wherever they lie in a vector. */
static void positions(muster_dtype dtype)
{
    static unsigned char a[64 * 8], b[64 * 8], one[8], all[64 * 8];
    static _Alignas(64) unsigned char acc[64 * 8];
    struct mu_reducer red = mu_ops_reducer(dtype, MUSTER_SUM);
    size_t size = mu_dtype_size(dtype);
    unsigned bad = 0;

    for (size_t i = 0; i < 64; i++) {
        uint64_t x = specials[dtype][i % 10], y = specials[dtype][i / 7 % 10];

        memcpy(a + i * size, &x, size);
        memcpy(b + i * size, &y, size);
    }
    red.load(acc, a, 64);
    red.fold(acc, b, 64);
    red.store(all, acc, 64, 2);
    for (size_t i = 0; i < 64; i++) {
        red.load(acc, a + i * size, 1);
        red.fold(acc, b + i * size, 1);
        red.store(one, acc, 1, 2);
        bad += memcmp(one, all + i * size, size) != 0;
    }
    TAP_OK(bad == 0, "%s: equal bits at every position", mu_dtype_name(dtype));
}

int main(void)
{
    conversions("float16", fp16, mu_half_to_float, mu_half_of);
    conversions("bfloat16", bf16, mu_bf16_to_float, mu_bf16_of);
    conversions("float8_e4m3", e4m3, from_e4m3, to_e4m3);
    conversions("float8_e5m2", e5m2, from_e5m2, to_e5m2);
    for (int d = MUSTER_INT8; d < (int)MU_DTYPE_COUNT; d++) {
        for (int op = MUSTER_SUM; op <= MUSTER_AVG; op++)
            for (unsigned k = 0; mu_ops_set(k); k++) {
                reductions(mu_ops_set(k), (muster_dtype)d, (muster_op)op);
                at_once(mu_ops_set(k), (muster_dtype)d, (muster_op)op);
            }
        positions((muster_dtype)d);
    }
    for (unsigned k = 0; mu_ops_set(k); k++)
        copies(mu_ops_set(k));
    TAP_OK(mu_dtype_size((muster_dtype)MU_DTYPE_COUNT) == 0 && mu_dtype_size((muster_dtype)-1) == 0,
           "no size for other types");
    TAP_OK(!mu_op_valid((muster_op)5) && !mu_op_valid((muster_op)-1), "other ops are not valid");
    TAP_OK(!strcmp(mu_dtype_name(99), "?") && !strcmp(mu_op_name(-5), "?"), "names of what does not exist");
    return tap_done();
}
