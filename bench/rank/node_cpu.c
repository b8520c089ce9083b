/* Arithmetic: multiply-add in registers, and a product of matrices of small integers, exact in float32, so that each of
 * its elements can be compared. */
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "bench/rank/node.h"
#include "runtime/base/clean.h"
#include "runtime/base/clock.h"

typedef float vec __attribute__((vector_size(32)));
enum { LANES = 8, CHAINS = 10, STEPS = 1000000, N = 384, ROWS = 4, COLUMNS = 16, PERIOD = 5 };

#if defined(__x86_64__)
#define FAST __attribute__((target("avx2,fma")))
#define HAVE_FAST() (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
#else
#define FAST
#define HAVE_FAST() 0
#endif

struct fma {
    _Atomic float sink;
};

/* As many chains as hide the latency of one. The factor keeps the values in range. */
#define FMA_BODY                                                                                                       \
    struct fma *f = arg;                                                                                               \
    vec v[CHAINS], sum = {0}, mul, add;                                                                                \
    (void)all;                                                                                                         \
    for (int i = 0; i < LANES; i++) {                                                                                  \
        mul[i] = 0.999f;                                                                                               \
        add[i] = 0.001f;                                                                                               \
    }                                                                                                                  \
    for (int k = 0; k < CHAINS; k++)                                                                                   \
        for (int i = 0; i < LANES; i++)                                                                                \
            v[k][i] = (float)(me + k + i);                                                                             \
    for (int s = 0; s < STEPS; s++) {                                                                                  \
        _Pragma("GCC unroll 10") for (int k = 0; k < CHAINS; k++) v[k] = v[k] * mul + add;                             \
    }                                                                                                                  \
    for (int k = 0; k < CHAINS; k++)                                                                                   \
        sum += v[k];                                                                                                   \
    f->sink = sum[0]

FAST static void fma_fast(int me, int all, void *arg)
{
    FMA_BODY;
}
static void fma_plain(int me, int all, void *arg)
{
    FMA_BODY;
}

/* Between two samples it may be held back as well. */
static void set_mean(struct mu_node *n, double flops, uint64_t began)
{
    uint64_t ns = mu_now() - began;

    n->record.mean = flops * (double)n->series.n / (double)(ns ? ns : 1);
}

int mu_node_fma(struct mu_node *n, int which, struct mu_err *err)
{
    struct fma f = {0};
    mu_crew_fn fn = HAVE_FAST() ? fma_fast : fma_plain;
    double flops = 2.0 * STEPS * CHAINS * LANES * mu_crew_size(n->crew);

    (void)which;
    (void)err;
    mu_crew_run(n->crew, fn, &f);
    for (uint64_t began = mu_now();;) {
        uint64_t ns = mu_crew_run(n->crew, fn, &f);
        if (mu_series_add(&n->series, flops / (double)(ns ? ns : 1), mu_now()) == MU_SERIES_MORE)
            continue;
        set_mean(n, flops, began);
        return 0;
    }
}

struct gemm {
    float *a, *b, *c; /* c: one for each of the crew */
    const int32_t *expected;
    atomic_long wrong;
};

#define GEMM_BODY                                                                                                      \
    struct gemm *g = arg;                                                                                              \
    float *c = g->c + (size_t)me * N * N;                                                                              \
    (void)all;                                                                                                         \
    for (int i = 0; i < N; i += ROWS) {                                                                                \
        for (int j = 0; j < N; j += COLUMNS) {                                                                         \
            vec acc[ROWS][2];                                                                                          \
            memset(acc, 0, sizeof acc);                                                                                \
            for (int k = 0; k < N; k++) {                                                                              \
                const vec *b = (const vec *)(const void *)(g->b + (size_t)k * N + j);                                  \
                _Pragma("GCC unroll 4") for (int r = 0; r < ROWS; r++)                                                 \
                {                                                                                                      \
                    float x = g->a[(size_t)(i + r) * N + k];                                                           \
                    acc[r][0] += x * b[0];                                                                             \
                    acc[r][1] += x * b[1];                                                                             \
                }                                                                                                      \
            }                                                                                                          \
            for (int r = 0; r < ROWS; r++)                                                                             \
                memcpy(c + (size_t)(i + r) * N + j, acc[r], sizeof acc[r]);                                            \
        }                                                                                                              \
    }

FAST static void gemm_fast(int me, int all, void *arg)
{
    GEMM_BODY
}
static void gemm_plain(int me, int all, void *arg)
{
    GEMM_BODY
}

static void compare(int me, int all, void *arg)
{
    struct gemm *g = arg;
    const float *c = g->c + (size_t)me * N * N;
    long wrong = 0;

    (void)all;
    for (int i = 0; i < N * N; i++)
        wrong += c[i] != (float)g->expected[i];
    atomic_fetch_add(&g->wrong, wrong);
}

static void fill(const struct gemm *g)
{
    for (int i = 0; i < N * N; i++) {
        g->a[i] = (float)(i * 7 % PERIOD - 2);
        g->b[i] = (float)(i * 3 % 11 - 5);
    }
}

/* By another way: integers. The rows of a come again after PERIOD of them. */
static int32_t *multiply(const struct gemm *g)
{
    int32_t *product = calloc((size_t)N * N, sizeof *product);

    for (int i = 0; i < PERIOD && product; i++)
        for (int k = 0; k < N; k++)
            for (int j = 0; j < N; j++)
                product[i * N + j] += (int32_t)g->a[i * N + k] * (int32_t)g->b[k * N + j];
    for (int i = PERIOD; i < N && product; i++)
        memcpy(product + (size_t)i * N, product + (size_t)(i - PERIOD) * N, N * sizeof *product);
    return product;
}

int mu_node_gemm(struct mu_node *n, int which, struct mu_err *err)
{
    struct gemm g = {0};
    int hands = mu_crew_size(n->crew);
    size_t bytes = (size_t)N * N * sizeof(float);
    mu_auto_free float *a = aligned_alloc(64, bytes), *b = aligned_alloc(64, bytes),
                       *c = aligned_alloc(64, bytes * (size_t)hands);
    mu_crew_fn fn = HAVE_FAST() ? gemm_fast : gemm_plain;
    double flops = 2.0 * N * N * N * hands;

    (void)which;
    if (!a || !b || !c)
        return mu_err_set(err, MUSTER_ENOMEM, "no memory for matrices");
    g = (struct gemm){.a = a, .b = b, .c = c};
    fill(&g);
    if (!n->product && !(n->product = multiply(&g)))
        return mu_err_set(err, MUSTER_ENOMEM, "no memory for matrices");
    g.expected = n->product;
    mu_crew_run(n->crew, fn, &g);
    for (uint64_t began = mu_now();;) {
        uint64_t ns = mu_crew_run(n->crew, fn, &g);
        mu_crew_run(n->crew, compare, &g);
        if (mu_series_add(&n->series, flops / (double)(ns ? ns : 1), mu_now()) == MU_SERIES_MORE)
            continue;
        set_mean(n, flops, began);
        break;
    }
    n->record.size = bytes;
    n->record.wrong = atomic_load(&g.wrong);
    return 0;
}
