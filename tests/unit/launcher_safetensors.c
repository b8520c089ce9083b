/* Headers of safetensors, to and fro. What the command refuses, and how it says so: tests/cli/ckpt_file.t. */
#include "launcher/safetensors.h"
#include "tests/unit/tap.h"

#include <inttypes.h>
#include <string.h>
#include <time.h>

/* n tensors of 4 bytes; 8 bytes of length, then the header. */
static int make(size_t n, struct mu_buf *out)
{
    struct mu_ckpt_tensors list = {.v = calloc(n, sizeof *list.v), .n = n};

    for (size_t i = 0; list.v && i < n; i++) {
        char name[40];

        snprintf(name, sizeof name, "a \"name\" \\ %zu", i);
        list.v[i] = (struct mu_ckpt_tensor){
            .name = strdup(name),
            .shape = {.dtype = MUSTER_FLOAT32, .ndim = 1, .global = {1}, .box = {.local = {1}}, .bytes = 4}};
    }
    int rc = mu_safetensors_header(&list, 5, 6, out, NULL);
    mu_ckpt_tensors_free(&list);
    return rc;
}

/* CPU seconds, the least of three. */
static double cost(size_t n)
{
    double least = 1e9;

    for (int i = 0; i < 3; i++) {
        struct mu_safetensors s = {0};
        struct mu_buf b = {0};
        clock_t from = clock();

        if (make(n, &b) || mu_safetensors_parse("f", b.data + 8, b.len - 8, 4 * n, &s, NULL) || s.list.n != n)
            return -1;
        double took = (double)(clock() - from) / CLOCKS_PER_SEC;
        least = took < least ? took : least;
        mu_safetensors_free(&s);
        mu_buf_free(&b);
    }
    return least;
}

int main(void)
{
    struct mu_safetensors s = {0};
    struct mu_buf b = {0}, again = {0};
    struct mu_err err = {0};
    bool places = true;

    TAP_OK(make(3, &b) == 0 && b.len % 8 == 0, "a header, with which data begins at a multiple of 8");
    TAP_OK(mu_safetensors_parse("f", b.data + 8, b.len - 8, 12, &s, &err) == 0, "is read again: %s", err.text);
    for (size_t i = 0; i < s.list.n; i++)
        places = places && (uintptr_t)s.list.v[i].data == b.len + 4 * i;
    TAP_OK(s.list.n == 3 && places && s.list.bytes == 12, "each is in its place");
    TAP_OK(!strcmp(s.list.v[2].name, "a \"name\" \\ 2"), "with its name");
    TAP_OK(s.step && !strcmp(s.step, "5"), "and the step");
    TAP_OK(mu_safetensors_header(&s.list, 5, 6, &again, NULL) == 0 && again.len == b.len &&
               !memcmp(again.data, b.data, b.len),
           "and written again, byte for byte");
    mu_safetensors_free(&s);
    mu_buf_free(&b);
    mu_buf_free(&again);

    double few = cost(15000), many = cost(90000);
    TAP_OK(few > 0 && many > 0 && many < 18 * few, "six times as many take six times as long, not 36: %.3f and %.3f s",
           few, many);
    return tap_done();
}
