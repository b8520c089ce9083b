/* The example job's GPU against its CPU, without ranks: gradients, steps of training, and whether a second run has the
 * same bits. train_kernels FILE, which has the GPU's code: that of a GPU, or of the test double. */
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "docs/examples/train_lm/model.h"
#include "tests/unit/tap.h"

/* Both sum in float32 in the same order, but a GPU rounds a product and its sum once, as the CPU does in matrices
 * alone, and has another expf(). Loops compiled that way are 7e-5 apart after these steps, of losses from 6.5 to 0.3.
 */
static const double BOUND = 1e-3;
enum { ROWS = 61, STEPS = 30 };

void fail(const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    printf("Bail out! ");
    vprintf(fmt, ap);
    printf("\n");
    va_end(ap);
    exit(1);
}

/* Losses of the steps, then the weights. */
static float *train(const struct device *device, size_t *count)
{
    static const struct shape shape = {.context = 5, .embed = 12, .hidden = 70, .layers = 3};
    struct model m;
    float *out;

    make_model(&m, device, &shape, ROWS, 3);
    m.gradient = device->alloc((m.nweights + 1) * sizeof(float));
    *count = STEPS + m.nweights;
    out = zeroed(*count, sizeof *out);
    for (unsigned step = 0; step < STEPS; step++) {
        float n = (float)step + 1;

        for (size_t r = 0; r < ROWS; r++) { /* something that can be learnt: every byte says which one is next */
            uint8_t *s = m.samples + r * (m.context + 1);

            s[0] = random_bits(step, r) % 96;
            for (size_t c = 1; c <= m.context; c++)
                s[c] = (uint8_t)((s[c - 1] * 7 + 3) % 96);
        }
        device->learn(&m, ROWS, 1.0f / ROWS);
        device->adam(&m, (struct adam){0.9f, 0.98f, 0.01f / (1 - powf(0.9f, n)), 1 / (1 - powf(0.98f, n))});
        device->get(out + step, m.gradient + m.nweights, sizeof *out);
    }
    device->get(out + STEPS, m.weights, m.nweights * sizeof *out);
    device->release(m.gradient);
    free_model(&m);
    return out;
}

int main(int argc, char **argv)
{
    char why[512] = "";
    float *here, *there, *again;
    size_t n = 0;
    double worst = 0;
    void *stream;
    const struct device *gpu = open_gpu(argc > 1 ? argv[1] : NULL, 0, &stream, why, sizeof why);

    if (!gpu)
        fail("%s", why);
    TAP_OK(gradient_check(gpu), "gradients of the GPU agree with differences of the loss");
    here = train(&cpu, &n);
    there = train(gpu, &n);
    again = train(gpu, &n);
    for (int i = 0; i < STEPS; i++) {
        double d = fabs((double)here[i] - (double)there[i]);

        worst = d >= 0 ? fmax(worst, d) : INFINITY;
    }
    printf("# losses %.4f to %.4f, at most %.1e apart\n", (double)here[0], (double)here[STEPS - 1], worst);
    TAP_OK(here[STEPS - 1] < here[0] - 1, "the CPU learns");
    TAP_OK(worst <= BOUND, "the GPU has the same losses, within rounding");
    TAP_OK(!memcmp(there, again, n * sizeof *there), "a second run on the GPU has the same bits");
    free(here);
    free(there);
    free(again);
    return tap_done();
}
