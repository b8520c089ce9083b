/* Headers of safetensors files. What is taken is whole, and is taken again as we write it.
 * sources: launcher/safetensors.c runtime/ckpt/tensor.c runtime/ckpt/names.c runtime/base/dtype.c runtime/base/crc32c.c
 * sources: runtime/base/str.c runtime/base/buf.c runtime/base/err.c
 * libraries: -ljansson */
#include <stdlib.h>
#include <string.h>

#include "launcher/safetensors.h"
#include "tests/fuzz/pieces.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const pieces[] = {
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\"a\":{",
    "\"b\":{",
    "\"a\\\"\\\\\":",
    "\"__metadata__\":{",
    "\"step\":\"7\"",
    "\"step\":7",
    "\"dtype\":\"U8\",",
    "\"dtype\":\"F32\",",
    "\"dtype\":\"BOOL\",",
    "\"shape\":[",
    "\"shape\":[0,4611686018427387904,9],",
    "\"data_offsets\":[",
    "0",
    "4",
    "8",
    "-1",
    "1e400",
    "9223372036854775807",
    "18446744073709551615",
    "null",
    "{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}",
    ",\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}",
    ",\"c\":{\"dtype\":\"F64\",\"shape\":[0],\"data_offsets\":[4,4]}",
    ",\"d\":{\"dtype\":\"F16\",\"shape\":[],\"data_offsets\":[8,10]}",
    ",\"\\u0000\":1",
    "\xff",
    "{\"__metadata__\":{\"step\":\"1\"},\"a\":{\"dtype\":\"I8\",\"shape\":[2,2],\"data_offsets\":[0,4]}",
};

static void read_again(const struct mu_safetensors *s, uint64_t bytes)
{
    struct mu_safetensors back = {0};
    struct mu_buf text = {0};
    struct mu_err err = {0};

    if (mu_safetensors_header(&s->list, 1, 2, &text, &err))
        abort();
    if (mu_safetensors_parse("again", text.data + 8, text.len - 8, bytes, &back, &err) || back.list.n != s->list.n ||
        strcmp(back.step, "1"))
        abort();
    for (size_t i = 0; i < s->list.n; i++)
        if (strcmp(back.list.v[i].name, s->list.v[i].name) ||
            memcmp(&back.list.v[i].shape, &s->list.v[i].shape, sizeof back.list.v[i].shape))
            abort();
    mu_safetensors_free(&back);
    mu_buf_free(&text);
}

static void try(char *text, size_t n)
{
    static const uint64_t sizes[] = {0, 4, 8, 10};

    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct mu_safetensors s = {0};
        struct mu_err err = {0};
        uint64_t at = 8 + n;

        if (mu_safetensors_parse("f", text, n, sizes[i], &s, &err)) {
            if (!err.text[0] || s.list.n || s.step)
                abort();
            continue;
        }
        for (size_t k = 0; k < s.list.n; k++) {
            if ((uint64_t)(uintptr_t)s.list.v[k].data != at)
                abort();
            at += s.list.v[k].shape.bytes;
        }
        if (!s.list.n || at != 8 + n + sizes[i])
            abort();
        read_again(&s, sizes[i]);
        mu_safetensors_free(&s);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    return fuzz_pieces(data, size, pieces, sizeof pieces / sizeof *pieces, try);
}
