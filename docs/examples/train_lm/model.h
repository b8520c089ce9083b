/* The model of train_lm, and the devices that it is computed on. */
#ifndef TRAIN_LM_MODEL_H
#define TRAIN_LM_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { BYTES = 256, MAX_LAYERS = 16 };

struct shape {
    uint64_t context, embed, hidden, layers; /* layers: hidden ones */
};

/* One tensor of weights: where it lies in the array of all weights. */
struct tensor {
    char name[16];
    size_t rows, cols, offset;
};

/* z = x weight + bias. A hidden layer's activation(z), from the second one on plus x, is x of the next layer; the last
 * layer's z are the logits; the first one's x is the embedded context. */
struct layer {
    size_t in, out, weight, bias; /* widths, offsets */
    float *x, *z;
};

/* But for samples, what is pointed to lies in the device's memory. */
struct model {
    const struct device *device;
    size_t context, embed, hidden, nlayers; /* nlayers counts the output layer too */
    size_t ntensors, nweights, capacity;    /* capacity: rows that fit into the buffers */
    struct tensor tensors[2 * MAX_LAYERS + 3];
    struct layer layers[MAX_LAYERS + 1];
    float *weights, *mean, *variance; /* and Adam's moments of the gradient */
    float *gradient;                  /* the caller's; one element more, for the loss */
    float *slope_x, *slope_z, *slope_in, *transposed;
    uint8_t *samples; /* capacity rows of context + 1 bytes */
    uint8_t *loaded;  /* their copy, and the losses of rows and their sum: where memory is apart from the host's */
    double *losses, *sum;
    /* Called when a part of the gradient is complete: the loss, then the layers from the last one, then the embedding.
     * NULL: nobody wants to know. */
    void (*ready)(const struct model *, size_t part);
};

struct adam {
    float beta1, beta2, rate, correct; /* correct: of the variance, which began at zero */
};

/* Functions that fail end the rank. */
struct device {
    bool apart;                   /* its memory is not the host's */
    void *(*alloc)(size_t bytes); /* zeroed */
    void (*release)(void *);
    void (*put)(void *to, const void *host, size_t bytes);
    void (*get)(void *host, const void *from, size_t bytes);
    /* The gradient of the loaded rows' losses, times scale, and the sum of these, too. */
    void (*learn)(struct model *, size_t rows, float scale);
    double (*loss)(struct model *, size_t rows); /* their sum in nats */
    void (*adam)(struct model *, struct adam);
};
extern const struct device cpu;

/* The program's: says why, and ends the rank. */
__attribute__((noreturn, format(printf, 1, 2))) void fail(const char *fmt, ...);

void make_model(struct model *m, const struct device *device, const struct shape *shape, size_t capacity,
                uint64_t seed);
void free_model(struct model *m);
void *zeroed(size_t count, size_t bytes); /* host memory; never NULL */
/* Compares learn() with central differences, tensor by tensor, and prints what it finds. */
bool gradient_check(const struct device *device);

/* --- gpu.c --- */

/* The GPU of the node's rank with that number, by the code in file (NULL: beside the program). NULL: there is none that
 * can be used, error says why. stream: where reductions of the gradient belong. */
const struct device *open_gpu(const char *file, int local_rank, void **stream, char *error, size_t error_bytes);

/* --- Random numbers --- */

/* Counter-based: a number depends on its key and counter only, so every rank can draw any of them in any order. */
static inline uint64_t random_bits(uint64_t key, uint64_t counter)
{
    uint64_t z = (key + 1) * 0x9e3779b97f4a7c15 + counter * 0xd1342543de82ef95;

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
}

/* Uniform in [-1, 1). */
static inline float random_float(uint64_t key, uint64_t counter)
{
    return (float)(random_bits(key, counter) >> 40) * 0x1p-23f - 1;
}

#endif
