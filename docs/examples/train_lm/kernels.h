/* What train_lm computes on a GPU. X_one() makes one element, or row, of X's result: nvcc makes kernels of these
 * functions (gpu_cuda.cu), test doubles loops. A sum is one thread's, in a fixed order: the same input gives the same
 * bits. To add one: X_args, X_one() and a word in KERNELS. */
#ifndef TRAIN_LM_KERNELS_H
#define TRAIN_LM_KERNELS_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>

#define KERNELS(X) X(embed) X(product) X(transpose) X(activate) X(softmax) X(sum) X(columns) X(slope) X(scatter) X(adam)

#ifdef __CUDACC__
#define ON_DEVICE static inline __device__
#else
#define ON_DEVICE static inline
#endif

/* x of the first layer: the embeddings of the context's bytes. Samples are rows of context + 1 bytes. */
struct embed_args {
    float *x;
    const float *embedding;
    const uint8_t *samples;
    size_t context, width;
};
ON_DEVICE void embed_one(struct embed_args a, size_t i)
{
    size_t place = i / a.width, row = place / a.context;

    a.x[i] = a.embedding[a.samples[place + row] * a.width + i % a.width];
}

/* out (cols wide, dense) = start + a b. Element (i, k) of a is a[i * a_row + k * a_col]; rows of start are start_row
 * apart, 0: all are the same one. */
struct product_args {
    float *out;
    const float *start; /* NULL: zeros */
    size_t start_row;
    const float *a;
    size_t a_row, a_col;
    const float *b;
    size_t cols, depth;
};
ON_DEVICE void product_one(struct product_args p, size_t n)
{
    size_t i = n / p.cols, j = n % p.cols;
    float sum = p.start ? p.start[i * p.start_row + j] : 0;

    for (size_t k = 0; k < p.depth; k++)
        sum += p.a[i * p.a_row + k * p.a_col] * p.b[k * p.cols + j];
    p.out[n] = sum;
}

struct transpose_args {
    float *to;
    const float *from;
    size_t rows, cols; /* of from */
};
ON_DEVICE void transpose_one(struct transpose_args t, size_t n)
{
    t.to[n] = t.from[n % t.rows * t.cols + n / t.rows];
}

/* The next layer's x: squared ReLU, and the residual connection. */
struct activate_args {
    float *to;
    const float *z, *x; /* x NULL: there is none */
};
ON_DEVICE void activate_one(struct activate_args a, size_t i)
{
    float z = a.z[i];

    a.to[i] = (z > 0 ? z * z : 0) + (a.x ? a.x[i] : 0);
}

/* Of a row: its loss, and the slopes of that, times scale, for each logit. */
struct softmax_args {
    float *slopes;
    double *losses;
    const float *logits;
    const uint8_t *samples;
    size_t context, width;
    float scale;
};
ON_DEVICE void softmax_one(struct softmax_args a, size_t row)
{
    const float *logit = a.logits + row * a.width;
    float *slope = a.slopes + row * a.width, max = logit[0], sum = 0;
    uint8_t next = a.samples[row * (a.context + 1) + a.context];

    for (size_t b = 1; b < a.width; b++)
        max = logit[b] > max ? logit[b] : max;
    for (size_t b = 0; b < a.width; b++)
        sum += slope[b] = expf(logit[b] - max);
    for (size_t b = 0; b < a.width; b++)
        slope[b] *= a.scale / sum;
    slope[next] -= a.scale;
    a.losses[row] = log((double)sum) + max - logit[next];
}

/* One thread's: a batch has few rows. */
struct sum_args {
    double *sum;
    float *scaled;
    const double *losses;
    size_t rows;
    float scale;
};
ON_DEVICE void sum_one(struct sum_args a, size_t i)
{
    double sum = 0;

    for (size_t r = 0; r < a.rows; r++)
        sum += a.losses[r];
    a.sum[i] = sum;
    a.scaled[i] = (float)sum * a.scale;
}

/* The sums of a matrix's columns. */
struct columns_args {
    float *sums;
    const float *from;
    size_t rows, cols;
};
ON_DEVICE void columns_one(struct columns_args a, size_t j)
{
    float sum = 0;

    for (size_t r = 0; r < a.rows; r++)
        sum += a.from[r * a.cols + j];
    a.sums[j] = sum;
}

/* From the slopes of an activation's result to those of z. */
struct slope_args {
    float *to;
    const float *slopes, *z;
};
ON_DEVICE void slope_one(struct slope_args a, size_t i)
{
    a.to[i] = a.slopes[i] * (a.z[i] > 0 ? 2 * a.z[i] : 0);
}

/* An element of the embedding's gradient: from everywhere its byte occurs. */
struct scatter_args {
    float *gradient;
    const float *slopes;
    const uint8_t *samples;
    size_t rows, context, width;
};
ON_DEVICE void scatter_one(struct scatter_args a, size_t n)
{
    size_t byte = n / a.width, e = n % a.width;
    float sum = 0;

    for (size_t r = 0; r < a.rows; r++)
        for (size_t c = 0; c < a.context; c++)
            if (a.samples[r * (a.context + 1) + c] == byte)
                sum += a.slopes[(r * a.context + c) * a.width + e];
    a.gradient[n] = sum;
}

struct adam_args {
    float *weights, *mean, *variance;
    const float *gradient;
    float beta1, beta2, rate, correct;
};
ON_DEVICE void adam_one(struct adam_args a, size_t i)
{
    float g = a.gradient[i], mean = a.mean[i], variance = a.variance[i];

    a.mean[i] = mean += (1 - a.beta1) * (g - mean);
    a.variance[i] = variance += (1 - a.beta2) * (g * g - variance);
    a.weights[i] -= a.rate * mean / (sqrtf(variance * a.correct) + 1e-8f);
}

/* What a shared object for a GPU gives, by a function named GPU_ENTRY. Functions return 0 or an error for explain(). A
 * stream is a CUstream. */
#define GPU_ENTRY train_lm_gpu
#define GPU_KERNEL_CALL(name) int (*name)(void *stream, size_t n, struct name##_args args);
enum { GPU_STREAMS = 2 };

struct gpu {
    size_t size; /* of this structure: another one is not ours */
    const char *(*explain)(int error);
    int (*open)(int local_rank, void *streams[GPU_STREAMS]); /* on this thread's GPU from now on */
    int (*alloc)(void **out, size_t bytes);                  /* zeroed */
    int (*release)(void *);
    int (*put)(void *stream, void *to, const void *host, size_t bytes); /* these two wait for the stream */
    int (*get)(void *stream, void *host, const void *from, size_t bytes);
    int (*follow)(int later, int earlier); /* what comes next in one stream waits for what is in the other one */
    KERNELS(GPU_KERNEL_CALL)
};

#endif
