/* Test double of libcublas.so.13: see double.h. The one product that the benchmark asks for, by plain loops, on the
 * streams of the double of CUDA. */
#include <stddef.h>

#include "tests/doubles/double.h"

enum { OK, INVALID = 7 };
struct CUstream_st;
struct cublasContext {
    struct CUstream_st *stream;
    int device;
};
struct product {
    int n;
    const uint16_t *a, *b;
    float *c, beta;
    bool wrong;
    long wait; /* ms */
};
int cuLaunchHostFunc(struct CUstream_st *s, void (*fn)(void *), void *arg);
int double_device(void);

DOUBLE_API int cublasCreate_v2(struct cublasContext **out)
{
    *out = calloc(1, sizeof **out);
    (*out)->device = double_device();
    return OK;
}
DOUBLE_API int cublasDestroy_v2(struct cublasContext *h)
{
    free(h);
    return OK;
}
DOUBLE_API int cublasGetVersion_v2(struct cublasContext *h, int *version)
{
    const char *s = getenv("MUSTER_DOUBLE_CUBLAS");

    (void)h;
    *version = s ? atoi(s) : 130000;
    return OK;
}
DOUBLE_API int cublasSetStream_v2(struct cublasContext *h, struct CUstream_st *s)
{
    h->stream = s;
    return OK;
}

static float widen(uint16_t v)
{
    uint32_t bits = (uint32_t)v << 16;
    float f;

    memcpy(&f, &bits, sizeof f);
    return f;
}
static void make_product(void *arg)
{
    struct product *p = arg;
    float *sum = malloc((size_t)p->n * sizeof *sum);

    for (int j = 0; j < p->n; j++) {
        float *column = p->c + (size_t)j * p->n;

        memset(sum, 0, (size_t)p->n * sizeof *sum);
        for (int k = 0; k < p->n; k++) {
            float x = widen(p->b[(size_t)j * p->n + k]);
            for (int i = 0; i < p->n; i++)
                sum[i] += widen(p->a[(size_t)k * p->n + i]) * x;
        }
        for (int i = 0; i < p->n; i++)
            column[i] = p->beta != 0 ? sum[i] + p->beta * column[i] : sum[i];
    }
    if (p->wrong)
        p->c[p->n + 1] += 1;
    if (p->wait)
        double_sleep(p->wait);
    free(sum);
    free(p);
}
DOUBLE_API int cublasGemmEx(struct cublasContext *h, int ta, int tb, int m, int n, int k, const void *alpha,
                            const void *a, int ta16, int lda, const void *b, int tb16, int ldb, const void *beta,
                            void *c, int tc, int ldc, int compute, int algorithm)
{
    static atomic_long made[64]; /* by GPU */
    const char *rank = getenv("RANK");
    struct product *p = malloc(sizeof *p);

    if (ta || tb || m != n || k != n || lda != n || ldb != n || ldc != n || ta16 != 14 || tb16 != 14 || tc ||
        compute != 68 || algorithm != -1 || *(const float *)alpha != 1)
        return INVALID;
    *p = (struct product){.n = n, .a = a, .b = b, .c = c, .beta = *(const float *)beta};
    long number = atomic_fetch_add(&made[h->device % 64], 1) + 1;
    const struct fault *slow = fault_of("gemm-slow", rank ? atoi(rank) : -1, h->device, number);
    p->wrong = fault_of("gemm-wrong", rank ? atoi(rank) : -1, h->device, number) != NULL;
    p->wait = slow ? slow->ms : 0;
    return cuLaunchHostFunc(h->stream, make_product, p);
}
