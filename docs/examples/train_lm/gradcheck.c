/* Gradients of a device against differences of the loss, which is computed once more here. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model.h"

/* The loss of the loaded rows once more, in double precision and as plainly as it can be written. */
static double plain_loss(const struct model *m, const double *w, size_t rows, double *x, double *z)
{
    double loss = 0;

    for (size_t r = 0; r < rows; r++) {
        double sum = 0;

        for (size_t i = 0; i < m->layers[0].in; i++)
            x[i] = w[m->samples[r * (m->context + 1) + i / m->embed] * m->embed + i % m->embed];
        for (size_t n = 0; n < m->nlayers; n++) {
            const struct layer *l = &m->layers[n];

            memcpy(z, w + l->bias, l->out * sizeof *z);
            for (size_t i = 0; i < l->in; i++)
                for (size_t j = 0; j < l->out; j++)
                    z[j] += x[i] * w[l->weight + i * l->out + j];
            for (size_t j = 0; n + 1 < m->nlayers && j < l->out; j++)
                x[j] = (z[j] > 0 ? z[j] * z[j] : 0) + (n ? x[j] : 0);
        }
        for (int b = 0; b < BYTES; b++)
            sum += exp(z[b]);
        loss += log(sum) - z[m->samples[r * (m->context + 1) + m->context]];
    }
    return loss;
}

/* The error of a tensor is its largest difference over its largest slope. */
bool gradient_check(const struct device *device)
{
    enum { ROWS = 11, MOST = 500 }; /* of a large tensor every n-th element */
    const double bound = 1e-5, eps = 1e-5;
    /* No size is a multiple of the tiles; some tiles are full. */
    struct shape shape = {.context = 3, .embed = 5, .hidden = 37, .layers = 3};
    struct model m;
    float *floats; /* weights, then their gradient and the loss */
    double *w, *x, *z, loss, plain;
    bool good = true;

    make_model(&m, device, &shape, ROWS, 7);
    m.gradient = device->alloc((m.nweights + 1) * sizeof *floats);
    floats = zeroed(m.nweights + 1, sizeof *floats);
    w = zeroed(m.nweights, sizeof *w);
    x = zeroed(BYTES, sizeof *x);
    z = zeroed(BYTES, sizeof *z);
    device->get(floats, m.weights, m.nweights * sizeof *floats);
    for (size_t i = 0; i < m.nweights; i++)
        w[i] = floats[i] += 0.05f * random_float(8, i); /* biases too */
    device->put(m.weights, floats, m.nweights * sizeof *floats);
    for (size_t i = 0; i < ROWS * (m.context + 1); i++)
        m.samples[i] = random_bits(9, i) % 64; /* some bytes occur twice */
    loss = device->loss(&m, ROWS);
    device->learn(&m, ROWS, 1);
    device->get(floats, m.gradient, (m.nweights + 1) * sizeof *floats);
    plain = plain_loss(&m, w, ROWS, x, z);
    if (!(fabs(loss - plain) <= 1e-5 * plain && fabs((double)floats[m.nweights] - plain) <= 1e-5 * plain))
        good = false;
    printf("gradcheck loss %.6f reference %.6f%s\n", loss, plain, good ? "" : " BAD");
    for (size_t n = 0; n < m.ntensors; n++) {
        const struct tensor *t = &m.tensors[n];
        size_t count = t->rows * t->cols, every = count / MOST | 1;
        double worst = 0, largest = 0, error;

        for (size_t i = t->offset; i < t->offset + count; i += every) {
            double before = w[i], up, down, slope, off;

            w[i] = before + eps;
            up = plain_loss(&m, w, ROWS, x, z);
            w[i] = before - eps;
            down = plain_loss(&m, w, ROWS, x, z);
            w[i] = before;
            slope = (up - down) / (2 * eps);
            off = fabs(slope - (double)floats[i]);
            worst = off >= 0 ? fmax(worst, off) : INFINITY; /* not a number is as wrong as can be */
            largest = fmax(largest, fabs(slope));
        }
        error = largest > 0 ? worst / largest : INFINITY;
        if (!(error <= bound))
            good = false;
        printf("gradcheck %-10s max error %.2e%s\n", t->name, error, error <= bound ? "" : " BAD");
    }
    printf("gradcheck %s, bound %.0e\n", good ? "passed" : "FAILED", bound);
    device->release(m.gradient);
    free(floats);
    free(w);
    free(x);
    free(z);
    free_model(&m);
    return good;
}
