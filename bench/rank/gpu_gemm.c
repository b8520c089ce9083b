/* A product of matrices by cuBLAS, bfloat16 with sums in float32, on all GPUs at once: the heat of one is felt by the
 * others. Their elements are small integers, so that the product is exact in whatever order it is summed up.
 *
 * The first product is checked on the host by Freivalds: with a random vector r, A (B r) must be C r, in integers.
 * Later ones stay on the GPU, which would cool down while the host compares: with P the first, X := A B - X makes 0 of
 * P and P of 0, so that after any number of them X is P or 0, bit for bit, unless one was wrong: what it was wrong by
 * stays in X. The host looks at X now and then, and in the end after an odd and an even number, as an error that each
 * product has goes away in every second. */
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "bench/pairs.h"
#include "bench/rank/blas.h"
#include "bench/rank/gpu.h"
#include "runtime/base/clean.h"
#include "runtime/base/clock.h"

enum { SMALL = 31, HALF = 15 };      /* elements are -15 to 15: sums of 16384 products of them are below 2^24 */
enum { WEIGHTS = 1 << 20 };          /* of r; what is wrong is missed once in so many */
enum { SAMPLES = 100, MOST = 4096 }; /* in the time asked for; products in a sample */
#define SAMPLE_LEAST (20 * MU_MS)
#define SAMPLE_MOST (2 * MU_SEC)
#define ENQUEUED_NS (100 * MU_MS) /* so much is given to a GPU at a time */
#define LOOK_NS (10 * MU_SEC)

/* The same for all GPUs. Columns lie one behind the other. */
struct problem {
    size_t dim;
    int8_t *a, *b;
    int64_t *r, *abr; /* r, and A (B r) */
};

struct burn {
    const struct mu_blas *blas;
    const struct problem *p;
    struct mu_device *g;
    mu_blas_handle handle;
    mu_cu_ptr a, b, x;
    float *host, *first; /* X as it was looked at; P */
    uint64_t made;       /* products since X was P */
    uint64_t one_ns, looked;
    int64_t wrong;
    struct mu_series series;
    struct mu_err err;
    pthread_t thread;
};

/* --- the problem ---------------------------------------------------------------------------------------------------
 */

/* out := M v */
static void times(const int8_t *m, const int64_t *v, int64_t *out, size_t dim)
{
    memset(out, 0, dim * sizeof *out);
    for (size_t j = 0; j < dim; j++)
        for (size_t i = 0; i < dim; i++)
            out[i] += m[j * dim + i] * v[j];
}

static void problem_free(struct problem *p)
{
    free(p->a);
    free(p->b);
    free(p->r);
    free(p->abr);
}

static int problem_make(struct problem *p, size_t dim, uint64_t seed, struct mu_err *err)
{
    *p = (struct problem){.dim = dim,
                          .a = malloc(dim * dim),
                          .b = malloc(dim * dim),
                          .r = malloc(dim * sizeof *p->r),
                          .abr = malloc(dim * sizeof *p->abr)};
    mu_auto_free int64_t *br = malloc(dim * sizeof *br);

    if (!p->a || !p->b || !p->r || !p->abr || !br)
        return mu_err_set(err, MUSTER_ENOMEM, "no memory for matrices; lower --gpu-matrix");
    for (size_t i = 0; i < dim * dim; i++) {
        uint64_t x = mu_pairs_random(&seed);
        p->a[i] = (int8_t)((int)(x % SMALL) - HALF);
        p->b[i] = (int8_t)((int)((x >> 32) % SMALL) - HALF);
    }
    for (size_t i = 0; i < dim; i++)
        p->r[i] = (int64_t)(mu_pairs_random(&seed) % WEIGHTS);
    times(p->b, p->r, br, dim);
    times(p->a, br, p->abr, dim);
    return 0;
}

/* Adds the rows of the product that are wrong. What is no integer of float32 is wrong wherever it stands. */
static int check_product(const struct problem *p, const float *c, int64_t *wrong, struct mu_err *err)
{
    mu_auto_free int64_t *cr = calloc(p->dim, sizeof *cr);
    mu_auto_free bool *bad = calloc(p->dim, sizeof *bad);

    if (!cr || !bad)
        return mu_err_set(err, MUSTER_ENOMEM, "no memory for matrices; lower --gpu-matrix");
    for (size_t j = 0; j < p->dim; j++)
        for (size_t i = 0; i < p->dim; i++) {
            float v = c[j * p->dim + i];
            bool whole = fabsf(v) < 16777216 && v == (float)(int32_t)v;
            bad[i] = bad[i] || !whole;
            cr[i] += whole ? (int32_t)v * p->r[j] : 0;
        }
    for (size_t i = 0; i < p->dim; i++)
        *wrong += bad[i] || cr[i] != p->abr[i];
    return 0;
}

/* --- one GPU -------------------------------------------------------------------------------------------------------
 */

static int put_matrix(struct burn *b, const int8_t *m, mu_cu_ptr to)
{
    size_t n = b->p->dim * b->p->dim;
    uint16_t *out = (uint16_t *)(void *)b->host; /* which is twice as large */

    for (size_t i = 0; i < n; i++) {
        float f = m[i];
        uint32_t bits;
        memcpy(&bits, &f, sizeof bits);
        out[i] = (uint16_t)(bits >> 16);
    }
    return mu_device_put(b->g, to, out, n * sizeof *out, &b->err);
}

/* X := A B + beta X */
static int multiply(struct burn *b, float beta)
{
    float alpha = 1;
    int n = (int)b->p->dim;
    mu_blas_status rc =
        b->blas->cublasGemmEx(b->handle, MU_BLAS_AS_IT_IS, MU_BLAS_AS_IT_IS, n, n, n, &alpha, (const void *)b->a,
                              MU_BLAS_BFLOAT16, n, (const void *)b->b, MU_BLAS_BFLOAT16, n, &beta, (void *)b->x,
                              MU_BLAS_FLOAT32, n, MU_BLAS_COMPUTE_32F, MU_BLAS_DEFAULT);

    return !rc ? 0
               : mu_err_set(&b->err, MUSTER_ENODE, "GPU %d (%s): cuBLAS refuses a product: status %d", b->g->index,
                            b->g->uuid, (int)rc);
}

static int more(struct burn *b, unsigned count, uint64_t *ns)
{
    uint64_t at_once = ENQUEUED_NS / b->one_ns + 1, began = mu_now();
    int rc = 0;

    for (unsigned i = 0; i < count && !rc; i++) {
        rc = multiply(b, -1);
        if (!rc && (i + 1 == count || (i + 1) % at_once == 0))
            rc = mu_device_wait(b->g, "a product", &b->err);
    }
    b->made += rc ? 0 : count;
    *ns = mu_now() - began;
    *ns = *ns ? *ns : 1;
    return rc;
}

/* Counts what is wrong in X, and puts it right. */
static int look(struct burn *b)
{
    size_t n = b->p->dim * b->p->dim;
    bool zero = b->made % 2;
    int64_t wrong = 0;
    int rc = mu_device_get(b->g, b->host, b->x, n * sizeof(float), &b->err);

    for (size_t i = 0; i < n && !rc; i++)
        wrong += b->host[i] != (zero ? 0 : b->first[i]);
    if (wrong && !rc) {
        b->wrong += wrong;
        b->made = 0;
        rc = mu_device_put(b->g, b->x, b->first, n * sizeof(float), &b->err);
    }
    b->looked = mu_now();
    return rc;
}

static int prepare(struct burn *b)
{
    size_t n = b->p->dim * b->p->dim;
    uint64_t t0;
    void *host = NULL;
    int rc = mu_device_enter(b->g, &b->err);

    rc = rc ? rc : mu_device_alloc_host(b->g, &host, n * sizeof(float), &b->err);
    b->host = host;
    if (!rc && !(b->first = malloc(n * sizeof(float))))
        rc = mu_err_set(&b->err, MUSTER_ENOMEM, "no memory for matrices; lower --gpu-matrix");
    rc = rc ? rc : mu_device_alloc(b->g, &b->a, n * 2, &b->err);
    rc = rc ? rc : mu_device_alloc(b->g, &b->b, n * 2, &b->err);
    rc = rc ? rc : mu_device_alloc(b->g, &b->x, n * sizeof(float), &b->err);
    if (!rc && b->blas->cublasCreate_v2(&b->handle))
        rc = mu_err_set(&b->err, MUSTER_ENODE, "GPU %d (%s): cuBLAS does not come up", b->g->index, b->g->uuid);
    rc = rc ? rc : mu_blas_version(b->blas, b->handle, &b->err);
    if (!rc && b->blas->cublasSetStream_v2(b->handle, b->g->stream))
        rc = mu_err_set(&b->err, MUSTER_ENODE, "GPU %d (%s): cuBLAS takes no stream", b->g->index, b->g->uuid);
    rc = rc ? rc : put_matrix(b, b->p->a, b->a);
    rc = rc ? rc : put_matrix(b, b->p->b, b->b);
    rc = rc ? rc : multiply(b, 0);
    rc = rc ? rc : mu_device_wait(b->g, "a product", &b->err);
    rc = rc ? rc : mu_device_get(b->g, b->first, b->x, n * sizeof(float), &b->err);
    rc = rc ? rc : check_product(b->p, b->first, &b->wrong, &b->err);
    t0 = mu_now();
    b->one_ns = SAMPLE_LEAST;
    for (int i = 0; i < 2 && !rc; i++) { /* the first one warms up */
        t0 = mu_now();
        rc = more(b, 1, &b->one_ns);
    }
    b->looked = t0;
    return rc;
}

static void *burn(void *arg)
{
    struct burn *b = arg;
    uint64_t ns, sample = b->series.rule.budget_ns / SAMPLES;
    int rc = prepare(b);

    sample = sample < SAMPLE_LEAST ? SAMPLE_LEAST : sample > SAMPLE_MOST ? SAMPLE_MOST : sample;
    uint64_t count = rc ? 0 : sample / b->one_ns;
    count = count < 1 ? 1 : count > MOST ? MOST : count;
    double dim = (double)b->p->dim, flop = 2 * dim * dim * dim;
    for (enum mu_series_state state = MU_SERIES_MORE; !rc && state == MU_SERIES_MORE;) {
        rc = more(b, (unsigned)count, &ns);
        if (!rc)
            state = mu_series_add(&b->series, flop * (double)count / (double)ns / 1e3, mu_now());
        if (!rc && mu_now() - b->looked > LOOK_NS)
            rc = look(b);
    }
    rc = rc ? rc : look(b);
    rc = rc ? rc : more(b, 1, &ns);
    rc = rc ? rc : look(b);
    if (b->handle && !b->g->hangs)
        b->blas->cublasDestroy_v2(b->handle);
    mu_device_free(b->g, b->a);
    mu_device_free(b->g, b->b);
    mu_device_free(b->g, b->x);
    mu_device_free_host(b->g, b->host);
    free(b->first);
    return NULL;
}

int mu_node_gpu_gemm(struct mu_node *n, int which, struct mu_err *err)
{
    const struct mu_blas *blas;
    struct mu_devices *d;
    struct problem p = {0};
    struct mu_series_rule rule = n->series.rule;
    int rc = mu_node_gpus(&d, err), begun = 0;

    (void)which;
    rc = rc ? rc : mu_blas_load(&blas, err);
    rc = rc ? rc : problem_make(&p, (size_t)n->o->gpu_matrix, n->room->seed, err);
    mu_auto_free struct burn *v = rc ? NULL : calloc((size_t)d->n, sizeof *v);
    if (!rc && !v)
        rc = mu_err_set(err, MUSTER_ENOMEM, "no memory for %d GPUs", d->n);
    rule.most =
        10 * SAMPLES + (size_t)(rule.budget_ns / SAMPLE_LEAST < 100000 ? rule.budget_ns / SAMPLE_LEAST : 100000);
    for (; !rc && begun < d->n; begun++) {
        struct burn *b = &v[begun];
        *b = (struct burn){.blas = blas, .p = &p, .g = &d->v[begun]};
        if ((rc = mu_series_begin(&b->series, &rule, err)))
            break;
        if (pthread_create(&b->thread, NULL, burn, b)) {
            mu_series_free(&b->series);
            rc = mu_err_set(err, MUSTER_ENOMEM, "no thread for GPU %d", begun);
            break;
        }
    }
    for (int i = 0; i < begun; i++)
        pthread_join(v[i].thread, NULL);
    for (int i = 0; i < begun; i++) {
        struct burn *b = &v[i];
        n->record.size = (uint64_t)p.dim * p.dim * sizeof(float);
        n->record.wrong = b->err.code && !b->wrong ? MU_RECORD_UNCHECKED : b->wrong;
        if (!rc)
            rc = b->err.code ? mu_node_gpu_fails(n, b->g, &b->err, err) : mu_node_gpu_put(n, b->g, &b->series, err);
        mu_series_free(&b->series);
    }
    problem_free(&p);
    return rc;
}
