/* The model on a GPU: the passes of model.c as kernels in a stream, by a shared object that is loaded only when a GPU
 * is asked for. So the program itself needs no library of NVIDIA's. */
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "kernels.h"
#include "model.h"

#define NAME_OF(x) #x
#define TEXT_OF(x) NAME_OF(x)

/* Gradients are reduced in a stream of their own, beside the backward pass. */
enum { COMPUTE, REDUCE };

static const struct gpu *gpu;
static void *streams[GPU_STREAMS];

static void must(int error, const char *what)
{
    if (error)
        fail("GPU: %s: %s", what, gpu->explain(error));
}

#define RUN(kernel, n, ...)                                                                                            \
    must(gpu->kernel(streams[COMPUTE], (n), (struct kernel##_args){__VA_ARGS__}), "kernel " #kernel)

static void follow(int later, int earlier)
{
    must(gpu->follow(later, earlier), "order of streams");
}

static void *gpu_alloc(size_t bytes)
{
    void *p = NULL;

    must(gpu->alloc(&p, bytes ? bytes : 1), "memory");
    return p;
}

static void gpu_release(void *p)
{
    if (p)
        must(gpu->release(p), "free memory");
}

static void gpu_put(void *to, const void *host, size_t bytes)
{
    must(gpu->put(streams[COMPUTE], to, host, bytes), "copy to the GPU");
}

static void gpu_get(void *host, const void *from, size_t bytes)
{
    must(gpu->get(streams[COMPUTE], host, from, bytes), "copy from the GPU");
}

static void forward(struct model *m, size_t rows, float scale)
{
    struct layer *last = &m->layers[m->nlayers - 1];

    gpu_put(m->loaded, m->samples, rows * (m->context + 1));
    RUN(embed, rows * m->context * m->embed, .x = m->layers[0].x, .embedding = m->weights, .samples = m->loaded,
        .context = m->context, .width = m->embed);
    for (struct layer *l = m->layers; l <= last; l++) {
        RUN(product, rows * l->out, .out = l->z, .start = m->weights + l->bias, .a = l->x, .a_row = l->in, .a_col = 1,
            .b = m->weights + l->weight, .cols = l->out, .depth = l->in);
        if (l < last)
            RUN(activate, rows * l->out, .to = l[1].x, .z = l->z, .x = l > m->layers ? l->x : NULL);
    }
    RUN(softmax, rows, .slopes = m->slope_z, .losses = m->losses, .logits = last->z, .samples = m->loaded,
        .context = m->context, .width = BYTES, .scale = scale);
    RUN(sum, 1, .sum = m->sum, .scaled = m->gradient + m->nweights, .losses = m->losses, .rows = rows, .scale = scale);
}

/* What is complete now can be reduced while the next parts are computed. */
static void ready(const struct model *m, size_t part)
{
    if (!m->ready)
        return;
    follow(REDUCE, COMPUTE);
    m->ready(m, part);
}

static void gpu_learn(struct model *m, size_t rows, float scale)
{
    forward(m, rows, scale);
    ready(m, 0);
    for (size_t n = m->nlayers; n-- > 0;) {
        const struct layer *l = &m->layers[n];
        float *slopes = n ? m->slope_x : m->slope_in;

        RUN(columns, l->out, .sums = m->gradient + l->bias, .from = m->slope_z, .rows = rows, .cols = l->out);
        RUN(product, l->in * l->out, .out = m->gradient + l->weight, .a = l->x, .a_row = 1, .a_col = l->in,
            .b = m->slope_z, .cols = l->out, .depth = rows);
        /* Between hidden layers slope_x already holds what came through the residual connection. */
        RUN(transpose, l->in * l->out, .to = m->transposed, .from = m->weights + l->weight, .rows = l->in,
            .cols = l->out);
        RUN(product, rows * l->in, .out = slopes, .start = n && n + 1 < m->nlayers ? slopes : NULL, .start_row = l->in,
            .a = m->slope_z, .a_row = l->out, .a_col = 1, .b = m->transposed, .cols = l->in, .depth = l->out);
        if (n)
            RUN(slope, rows * l->in, .to = m->slope_z, .slopes = m->slope_x, .z = l[-1].z);
        ready(m, m->nlayers - n);
    }
    RUN(scatter, BYTES * m->embed, .gradient = m->gradient, .slopes = m->slope_in, .samples = m->loaded, .rows = rows,
        .context = m->context, .width = m->embed);
    ready(m, m->nlayers + 1);
}

static double gpu_loss(struct model *m, size_t rows)
{
    double sum;

    forward(m, rows, 1);
    gpu_get(&sum, m->sum, sizeof sum);
    return sum;
}

static void gpu_adam(struct model *m, struct adam a)
{
    follow(COMPUTE, REDUCE);
    RUN(adam, m->nweights, .weights = m->weights, .mean = m->mean, .variance = m->variance, .gradient = m->gradient,
        .beta1 = a.beta1, .beta2 = a.beta2, .rate = a.rate, .correct = a.correct);
    follow(REDUCE, COMPUTE); /* checkpoints are in the order of that stream */
}

static const struct device gpu_device = {.apart = true,
                                         .alloc = gpu_alloc,
                                         .release = gpu_release,
                                         .put = gpu_put,
                                         .get = gpu_get,
                                         .learn = gpu_learn,
                                         .loss = gpu_loss,
                                         .adam = gpu_adam};

const struct device *open_gpu(const char *file, int local_rank, void **stream, char *error, size_t error_bytes)
{
    char beside[4096];
    ssize_t n = readlink("/proc/self/exe", beside, sizeof beside - sizeof "train_lm_gpu.so");
    const struct gpu *(*entry)(void);
    void *lib;
    int rc;

    if (!file) {
        while (n > 0 && beside[n - 1] != '/')
            n--;
        strcpy(beside + (n > 0 ? n : 0), "train_lm_gpu.so");
        file = beside;
    }
    lib = dlopen(file, RTLD_NOW | RTLD_LOCAL);
    if (!lib) {
        snprintf(error, error_bytes, "--device gpu: %s (it is built where nvcc is found)", dlerror());
        return NULL;
    }
    *(void **)&entry = dlsym(lib, TEXT_OF(GPU_ENTRY));
    gpu = entry ? entry() : NULL;
    if (!gpu || gpu->size != sizeof *gpu) {
        snprintf(error, error_bytes, "--device gpu: %s is not of this program: build both anew", file);
        return NULL;
    }
    rc = gpu->open(local_rank, streams);
    if (rc) {
        snprintf(error, error_bytes, "--device gpu: there is no GPU that can be used: %s", gpu->explain(rc));
        return NULL;
    }
    *stream = streams[REDUCE];
    return &gpu_device;
}
