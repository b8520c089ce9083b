/* The model: a CPU's passes over it, and what all devices share. */
#include "model.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- Matrices --------------------------------------------------------------------------------------------------- */

/* Fused where the processor can: ISO C mode keeps the compiler from doing it by itself. */
#if defined(__FP_FAST_FMAF) || defined(__FMA__)
#define MULTIPLY_ADD(a, b, c) fmaf(a, b, c)
#else
#define MULTIPLY_ADD(a, b, c) ((a) * (b) + (c))
#endif

enum { TILE_ROWS = 8, TILE_COLS = 32 }; /* sums that stay in vector registers */

/* A matrix whose element (i, k) is at[i * row + k * col]: a transposed view costs nothing. */
struct view {
    const float *at;
    size_t row, col;
};

/* c += a b for a tile of c. Inlined with constant rows and cols it becomes vector code; the order of the sums is the
 * same however the matrix is cut. */
static inline __attribute__((always_inline)) void add_tile(float *c, size_t c_row, struct view a, const float *b,
                                                           size_t b_row, size_t depth, size_t rows, size_t cols)
{
    float sum[TILE_ROWS][TILE_COLS];

    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < cols; j++)
            sum[i][j] = c[i * c_row + j];
    for (size_t k = 0; k < depth; k++)
        for (size_t i = 0; i < rows; i++) {
            float x = a.at[i * a.row + k * a.col];

            for (size_t j = 0; j < cols; j++)
                sum[i][j] = MULTIPLY_ADD(x, b[k * b_row + j], sum[i][j]);
        }
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < cols; j++)
            c[i * c_row + j] = sum[i][j];
}

/* c (rows x cols, dense) += a (rows x depth) b (depth x cols, dense). */
static void add_product(float *c, size_t rows, size_t cols, struct view a, size_t depth, const float *b)
{
    for (size_t j = 0; j < cols; j += TILE_COLS)
        for (size_t i = 0; i < rows; i += TILE_ROWS) {
            struct view a_tile = {a.at + i * a.row, a.row, a.col};
            float *c_tile = c + i * cols + j;
            size_t r = rows - i, w = cols - j;

            if (r >= TILE_ROWS && w >= TILE_COLS)
                add_tile(c_tile, cols, a_tile, b + j, cols, depth, TILE_ROWS, TILE_COLS);
            else if (w >= TILE_COLS)
                add_tile(c_tile, cols, a_tile, b + j, cols, depth, r, TILE_COLS);
            else
                add_tile(c_tile, cols, a_tile, b + j, cols, depth, r < TILE_ROWS ? r : TILE_ROWS, w);
        }
}

static void transpose(float *restrict to, const float *restrict from, size_t rows, size_t cols)
{
    enum { BLOCK = 16 };

    for (size_t i0 = 0; i0 < rows; i0 += BLOCK)
        for (size_t j = 0; j < cols; j++)
            for (size_t i = i0; i < rows && i < i0 + BLOCK; i++)
                to[j * rows + i] = from[i * cols + j];
}

/* --- Model ------------------------------------------------------------------------------------------------------ */

void *zeroed(size_t count, size_t bytes)
{
    void *p = calloc(count ? count : 1, bytes ? bytes : 1);

    if (!p)
        fail("out of memory (%zu x %zu bytes)", count, bytes);
    return p;
}

/* Returns the tensor's offset. */
static size_t add_tensor(struct model *m, const char *kind, size_t number, size_t rows, size_t cols)
{
    struct tensor *t = &m->tensors[m->ntensors++];

    *t = (struct tensor){.rows = rows, .cols = cols, .offset = m->nweights};
    snprintf(t->name, sizeof t->name, "%s%zu", kind, number);
    m->nweights += rows * cols;
    return t->offset;
}

/* Weights start uniform with variance 1 / inputs; biases at zero, the output small: all bytes equally likely. */
static void init_weights(struct model *m, uint64_t seed)
{
    float *w = zeroed(m->nweights, sizeof *w);

    for (size_t n = 0; n < m->ntensors; n++) {
        const struct tensor *t = &m->tensors[n];
        uint64_t key = random_bits(~seed, n);
        float scale = t->rows == 1 ? 0 : n == 0 ? sqrtf(3) : sqrtf(3 / (float)t->rows);

        if (t->offset == m->layers[m->nlayers - 1].weight)
            scale *= 0.1f;
        for (size_t i = 0; i < t->rows * t->cols; i++)
            w[t->offset + i] = scale * random_float(key, i);
    }
    m->device->put(m->weights, w, m->nweights * sizeof *w);
    free(w);
}

static float *floats(const struct model *m, size_t count)
{
    return m->device->alloc(count * sizeof(float));
}

void make_model(struct model *m, const struct device *device, const struct shape *shape, size_t capacity, uint64_t seed)
{
    size_t widest = shape->hidden > BYTES ? shape->hidden : BYTES, inputs = shape->context * shape->embed;

    *m = (struct model){.device = device,
                        .context = shape->context,
                        .embed = shape->embed,
                        .hidden = shape->hidden,
                        .nlayers = shape->layers + 1,
                        .capacity = capacity};
    add_tensor(m, "embedding", 0, BYTES, m->embed);
    for (size_t n = 0; n < m->nlayers; n++) {
        struct layer *l = &m->layers[n];

        l->in = n ? m->hidden : inputs;
        l->out = n + 1 < m->nlayers ? m->hidden : BYTES;
        l->weight = add_tensor(m, "weight", n, l->in, l->out);
        l->bias = add_tensor(m, "bias", n, 1, l->out);
        l->x = floats(m, capacity * l->in);
        l->z = floats(m, capacity * l->out);
    }
    m->weights = floats(m, m->nweights);
    m->mean = floats(m, m->nweights);
    m->variance = floats(m, m->nweights);
    m->slope_x = floats(m, capacity * m->hidden);
    m->slope_z = floats(m, capacity * widest);
    m->slope_in = floats(m, capacity * inputs);
    m->transposed = floats(m, (inputs > widest ? inputs : widest) * widest);
    m->samples = zeroed(capacity, m->context + 1);
    if (device->apart) {
        m->loaded = device->alloc(capacity * (m->context + 1));
        m->losses = device->alloc(capacity * sizeof *m->losses);
        m->sum = device->alloc(sizeof *m->sum);
    }
    init_weights(m, seed);
}

void free_model(struct model *m)
{
    void *const buffers[] = {m->weights,  m->mean,       m->variance, m->slope_x, m->slope_z,
                             m->slope_in, m->transposed, m->loaded,   m->losses,  m->sum};

    for (size_t n = 0; n < m->nlayers; n++) {
        m->device->release(m->layers[n].x);
        m->device->release(m->layers[n].z);
    }
    for (size_t i = 0; i < sizeof buffers / sizeof buffers[0]; i++)
        m->device->release(buffers[i]);
    free(m->samples);
}

/* Where the embedding of a loaded byte lies among the weights; it comes first. */
static size_t embedding_of(const struct model *m, size_t row, size_t place)
{
    return m->samples[row * (m->context + 1) + place] * m->embed;
}

/* Squared ReLU: smooth enough for a gradient check, and no libm in the inner loop. */
static inline float activation(float z)
{
    return z > 0 ? z * z : 0;
}

static inline float activation_slope(float z)
{
    return z > 0 ? 2 * z : 0;
}

/* Predicts the last byte of the loaded rows: returns the sum of their losses in nats and leaves the logits' slopes of
 * that sum, times scale, in slope_z. */
static double forward(struct model *m, size_t rows, float scale)
{
    double loss = 0;

    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < m->context; c++)
            memcpy(m->layers[0].x + (r * m->context + c) * m->embed, m->weights + embedding_of(m, r, c),
                   m->embed * sizeof(float));
    for (size_t n = 0; n < m->nlayers; n++) {
        struct layer *l = &m->layers[n];

        for (size_t r = 0; r < rows; r++)
            memcpy(l->z + r * l->out, m->weights + l->bias, l->out * sizeof(float));
        add_product(l->z, rows, l->out, (struct view){l->x, l->in, 1}, l->in, m->weights + l->weight);
        for (size_t i = 0; n + 1 < m->nlayers && i < rows * l->out; i++)
            l[1].x[i] = activation(l->z[i]) + (n ? l->x[i] : 0);
    }
    for (size_t r = 0; r < rows; r++) {
        const float *logit = m->layers[m->nlayers - 1].z + r * BYTES;
        float *slope = m->slope_z + r * BYTES, max = logit[0], sum = 0;
        uint8_t next = m->samples[r * (m->context + 1) + m->context];

        for (int b = 1; b < BYTES; b++)
            max = logit[b] > max ? logit[b] : max;
        for (int b = 0; b < BYTES; b++)
            sum += slope[b] = expf(logit[b] - max);
        for (int b = 0; b < BYTES; b++)
            slope[b] *= scale / sum;
        slope[next] -= scale;
        loss += log(sum) + max - logit[next];
    }
    return loss;
}

static void ready(const struct model *m, size_t part)
{
    if (m->ready)
        m->ready(m, part);
}

/* From slope_z to the gradient of all weights; loss goes with it. */
static void backward(struct model *m, size_t rows, float loss)
{
    memset(m->gradient, 0, m->nweights * sizeof(float));
    m->gradient[m->nweights] = loss;
    ready(m, 0);
    memset(m->slope_x, 0, rows * m->hidden * sizeof(float));
    memset(m->slope_in, 0, rows * m->layers[0].in * sizeof(float));
    for (size_t n = m->nlayers; n-- > 0;) {
        const struct layer *l = &m->layers[n];

        for (size_t r = 0; r < rows; r++)
            for (size_t j = 0; j < l->out; j++)
                m->gradient[l->bias + j] += m->slope_z[r * l->out + j];
        add_product(m->gradient + l->weight, l->in, l->out, (struct view){l->x, 1, l->in}, rows, m->slope_z);
        /* slope_x already holds what came through the residual connection. */
        transpose(m->transposed, m->weights + l->weight, l->in, l->out);
        add_product(n ? m->slope_x : m->slope_in, rows, l->in, (struct view){m->slope_z, l->out, 1}, l->out,
                    m->transposed);
        for (size_t i = 0; n && i < rows * l->in; i++)
            m->slope_z[i] = m->slope_x[i] * activation_slope(l[-1].z[i]);
        ready(m, m->nlayers - n);
    }
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < m->context; c++) {
            const float *from = m->slope_in + (r * m->context + c) * m->embed;
            float *to = m->gradient + embedding_of(m, r, c);

            for (size_t e = 0; e < m->embed; e++)
                to[e] += from[e];
        }
    ready(m, m->nlayers + 1);
}

static void learn(struct model *m, size_t rows, float scale)
{
    double loss = forward(m, rows, scale);

    backward(m, rows, (float)loss * scale);
}

static double loss_of(struct model *m, size_t rows)
{
    return forward(m, rows, 1);
}

static void adam(struct model *m, struct adam a)
{
    float *restrict w = m->weights, *restrict mean = m->mean, *restrict variance = m->variance;
    const float *restrict g = m->gradient;

    for (size_t i = 0; i < m->nweights; i++) {
        mean[i] += (1 - a.beta1) * (g[i] - mean[i]);
        variance[i] += (1 - a.beta2) * (g[i] * g[i] - variance[i]);
        w[i] -= a.rate * mean[i] / (sqrtf(variance[i] * a.correct) + 1e-8f);
    }
}

static void *cpu_alloc(size_t bytes)
{
    return zeroed(1, bytes);
}

static void cpu_copy(void *to, const void *from, size_t bytes)
{
    memcpy(to, from, bytes);
}

const struct device cpu = {.alloc = cpu_alloc,
                           .release = free,
                           .put = cpu_copy,
                           .get = cpu_copy,
                           .learn = learn,
                           .loss = loss_of,
                           .adam = adam};
