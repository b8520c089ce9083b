#include "launcher/safetensors.h"

#include <inttypes.h>
#include <jansson.h>
#include <string.h>

#include "runtime/base/clean.h"
#include "runtime/base/dtype.h"

#define ALIGN 8u
#define METADATA "__metadata__" /* a name that no tensor has */

/* To add a type: a row, and the list in docs/formats.md. */
static const char *const types[] = {
    [MUSTER_INT8] = "I8",
    [MUSTER_UINT8] = "U8",
    [MUSTER_INT32] = "I32",
    [MUSTER_UINT32] = "U32",
    [MUSTER_INT64] = "I64",
    [MUSTER_UINT64] = "U64",
    [MUSTER_FLOAT16] = "F16",
    [MUSTER_BFLOAT16] = "BF16",
    [MUSTER_FLOAT32] = "F32",
    [MUSTER_FLOAT64] = "F64",
    [MUSTER_FLOAT8_E4M3] = "F8_E4M3",
    [MUSTER_FLOAT8_E5M2] = "F8_E5M2",
};
_Static_assert(MU_COUNT(types) == MU_DTYPE_COUNT, "each type of tensors has a row");

/* --- reading ------------------------------------------------------------------------------------------------------ */

struct source {
    const char *file;
    uint64_t data, bytes; /* of the tensors: where they begin, how many */
};

static int bad(const struct source *f, struct mu_err *err, const char *tensor, const char *what)
{
    return mu_err_set(err, MUSTER_EARG, "%.200s: tensor \"%.80s\": %s", f->file, tensor, what);
}

static bool number(const json_t *x, uint64_t *out)
{
    if (!json_is_integer(x) || json_integer_value(x) < 0)
        return false;
    *out = (uint64_t)json_integer_value(x);
    return true;
}

static int type_of(const char *name)
{
    for (size_t i = 0; i < MU_COUNT(types); i++)
        if (!strcmp(types[i], name))
            return (int)i;
    return -1;
}

static int push(struct mu_ckpt_tensors *list, const char *name, const struct mu_ckpt_shape *s, uint64_t at)
{
    if (list->n == list->room) {
        size_t room = list->room ? 2 * list->room : 16;
        struct mu_ckpt_tensor *v = realloc(list->v, room * sizeof *v);

        if (!v)
            return MUSTER_ENOMEM;
        list->v = v;
        list->room = room;
    }
    struct mu_ckpt_tensor *t = &list->v[list->n];
    *t = (struct mu_ckpt_tensor){.name = strdup(name), .shape = *s, .data = (void *)(uintptr_t)at};
    if (!t->name)
        return MUSTER_ENOMEM;
    list->n++;
    list->bytes += s->bytes;
    return 0;
}

static int read_tensor(const struct source *f, const char *name, const json_t *x, struct mu_ckpt_tensors *list,
                       struct mu_err *err)
{
    const json_t *shape = json_object_get(x, "shape"), *place = json_object_get(x, "data_offsets");
    const char *type = json_string_value(json_object_get(x, "dtype"));
    struct mu_ckpt_shape s = {.ndim = (int)json_array_size(shape)};
    uint64_t from, to;
    int dtype;

    if (!mu_ckpt_name_ok(name, strlen(name)))
        return mu_err_set(err, MUSTER_EARG,
                          "%.200s: tensor \"%.80s\": names have 1 to %d bytes and no control characters", f->file, name,
                          MU_CKPT_NAME_MAX);
    if (!json_is_array(shape) || !json_is_array(place) || !type)
        return bad(f, err, name, "dtype, shape or data_offsets is missing");
    if ((dtype = type_of(type)) < 0)
        return mu_err_set(err, MUSTER_EARG, "%.200s: tensor \"%.80s\" is of type %.20s, which checkpoints do not have",
                          f->file, name, type);
    if (json_array_size(shape) > MU_CKPT_DIMS)
        return bad(f, err, name, "more than 8 dimensions");
    for (int d = 0; d < s.ndim; d++) {
        if (!number(json_array_get(shape, (size_t)d), &s.global[d]))
            return bad(f, err, name, "a dimension that is no number");
        s.box.local[d] = s.global[d];
    }
    if (!s.ndim) { /* a scalar */
        s.ndim = 1;
        s.global[0] = s.box.local[0] = 1;
    }
    if (json_array_size(place) != 2 || !number(json_array_get(place, 0), &from) ||
        !number(json_array_get(place, 1), &to) || to < from)
        return bad(f, err, name, "data_offsets are two numbers, begin and end");
    if (to > f->bytes)
        return mu_err_set(err, MUSTER_EARG,
                          "%.200s: tensor \"%.80s\": its data is not in the file: it ends at byte %" PRIu64
                          " of the %" PRIu64 " that there are",
                          f->file, name, to, f->bytes);
    s.dtype = (uint32_t)dtype;
    if (mu_ckpt_shape_check(&s, err))
        return mu_err_prefix(err, "%.200s: tensor \"%.80s\"", f->file, name);
    if (s.bytes != to - from)
        return mu_err_set(err, MUSTER_EARG,
                          "%.200s: tensor \"%.80s\": its shape and its data differ in size: %" PRIu64 " and %" PRIu64
                          " bytes",
                          f->file, name, s.bytes, to - from);
    if (push(list, name, &s, f->data + from))
        return mu_err_set(err, MUSTER_ENOMEM, "no memory for the header of %.200s", f->file);
    return 0;
}

static uint64_t begin_of(const struct mu_ckpt_tensor *t)
{
    return (uint64_t)(uintptr_t)t->data;
}

static int by_place(const void *a, const void *b)
{
    const struct mu_ckpt_tensor *x = a, *y = b;
    uint64_t p = begin_of(x), q = begin_of(y);

    if (p == q) { /* empty ones lie in front of what begins there */
        p += x->shape.bytes;
        q += y->shape.bytes;
    }
    return p < q ? -1 : p > q ? 1 : strcmp(x->name, y->name);
}

/* No byte belongs to two tensors, and none to nobody: so nothing can be hidden in the file. */
static int check_places(const struct source *f, const struct mu_ckpt_tensors *list, struct mu_err *err)
{
    const char *before = "";
    uint64_t at = f->data;

    for (size_t i = 0; i < list->n; i++) {
        const struct mu_ckpt_tensor *t = &list->v[i];

        if (begin_of(t) < at)
            return mu_err_set(err, MUSTER_EARG,
                              "%.200s: tensor \"%.80s\" begins at byte %" PRIu64 ", in the data of tensor \"%.80s\"",
                              f->file, t->name, begin_of(t) - f->data, before);
        if (begin_of(t) > at)
            return mu_err_set(err, MUSTER_EARG,
                              "%.200s: tensor \"%.80s\" begins at byte %" PRIu64 ", and the %" PRIu64
                              " bytes before it are no tensor's",
                              f->file, t->name, begin_of(t) - f->data, begin_of(t) - at);
        at += t->shape.bytes;
        before = t->name;
    }
    if (at - f->data != f->bytes)
        return mu_err_set(err, MUSTER_EARG,
                          "%.200s: the %" PRIu64 " bytes behind tensor \"%.80s\", which is the last one, are no "
                          "tensor's",
                          f->file, f->bytes - (at - f->data), before);
    return 0;
}

static int read_metadata(const struct source *f, const json_t *x, char **step, struct mu_err *err)
{
    const char *key;
    json_t *value;

    if (json_is_null(x))
        return 0;
    if (!json_is_object(x))
        return mu_err_set(err, MUSTER_EARG, "%.200s: its " METADATA " is no JSON object", f->file);
    json_object_foreach((json_t *)x, key, value)
    {
        if (!json_is_string(value))
            return mu_err_set(err, MUSTER_EARG, "%.200s: \"%.80s\" of its " METADATA " is no text", f->file, key);
        if (strcmp(key, "step"))
            continue;
        if (!(*step = strdup(json_string_value(value))))
            return mu_err_set(err, MUSTER_ENOMEM, "no memory for the header of %.200s", f->file);
    }
    return 0;
}

/* The name that stands twice ends where the parser has stopped. */
static int refuse_twice(const char *file, const char *header, size_t n, int position, struct mu_err *err)
{
    size_t end = position > 1 && (size_t)position <= n ? (size_t)position - 1 : 0, from = end, escapes;
    int len;

    for (; from > 0; from--) {
        for (escapes = 0; from > escapes + 1 && header[from - 2 - escapes] == '\\';)
            escapes++;
        if (header[from - 1] == '"' && escapes % 2 == 0)
            break;
    }
    len = (int)(end - from < 80 ? end - from : 80);
    return mu_err_set(err, MUSTER_EARG, "%.200s: its header has \"%.*s\" twice (byte %d)", file, len, header + from,
                      position);
}

static int refuse_text(const char *file, const char *header, size_t n, const json_error_t *why, struct mu_err *err)
{
    if (json_error_code(why) == json_error_duplicate_key)
        return refuse_twice(file, header, n, why->position, err);
    if (json_error_code(why) == json_error_out_of_memory)
        return mu_err_set(err, MUSTER_ENOMEM, "no memory for the header of %.200s", file);
    return mu_err_set(err, MUSTER_EARG, "%.200s is not a safetensors file: its header is no JSON: %.100s (byte %d)",
                      file, why->text, why->position);
}

int mu_safetensors_parse(const char *file, const char *header, size_t n, uint64_t bytes, struct mu_safetensors *out,
                         struct mu_err *err)
{
    struct source f = {.file = file, .data = 8 + n, .bytes = bytes};
    struct mu_safetensors s = {0};
    json_error_t why;
    const char *name;
    json_t *root, *x;
    int rc = 0;

    if (!n || header[0] != '{')
        return mu_err_set(err, MUSTER_EARG, "%.200s is not a safetensors file: its header is no JSON object", file);
    if (bytes > MU_CKPT_BYTES_MAX)
        return mu_err_set(err, MUSTER_EARG, "%.200s: larger than 2^60 bytes", file);
    if (!(root = json_loadb(header, n, JSON_REJECT_DUPLICATES, &why)))
        return refuse_text(file, header, n, &why, err);
    json_object_foreach(root, name, x)
    {
        rc = strcmp(name, METADATA) ? read_tensor(&f, name, x, &s.list, err) : read_metadata(&f, x, &s.step, err);
        if (rc)
            break;
    }
    json_decref(root);
    if (!rc && !s.list.n)
        rc = mu_err_set(err, MUSTER_EARG, "%.200s has no tensors", file);
    if (!rc) {
        qsort(s.list.v, s.list.n, sizeof *s.list.v, by_place);
        rc = check_places(&f, &s.list, err);
    }
    if (rc)
        mu_safetensors_free(&s);
    else
        *out = s;
    return rc;
}

void mu_safetensors_free(struct mu_safetensors *s)
{
    mu_ckpt_tensors_free(&s->list);
    free(s->step);
    s->step = NULL;
}

/* --- writing ------------------------------------------------------------------------------------------------------ */

static int put_name(struct mu_buf *out, const char *name, struct mu_err *err)
{
    json_t *text = json_string(name), *any = text ? NULL : json_string_nocheck(name);
    bool fine = text, there = any;

    json_decref(text);
    json_decref(any);
    if (!fine)
        return there ? mu_err_set(err, MUSTER_ETYPE,
                                  "tensor \"%.200s\": its name is not UTF-8, which safetensors cannot have", name)
                     : mu_err_set(err, MUSTER_ENOMEM, "no memory for tensor \"%.200s\"", name);
    if (!strcmp(name, METADATA))
        return mu_err_set(err, MUSTER_ETYPE, "tensor \"%s\": safetensors cannot have one of this name", name);
    mu_buf_putc(out, '"');
    for (const char *c = name; *c; c++) {
        if (*c == '"' || *c == '\\')
            mu_buf_putc(out, '\\');
        mu_buf_putc(out, *c);
    }
    mu_buf_putc(out, '"');
    return 0;
}

int mu_safetensors_header(const struct mu_ckpt_tensors *list, uint64_t step, uint64_t generation, struct mu_buf *out,
                          struct mu_err *err)
{
    mu_auto_buf struct mu_buf text = {0};
    unsigned char length[8];
    uint64_t at = 0;
    int rc;

    mu_buf_appendf(&text,
                   "{\"" METADATA "\":{\"format\":\"muster\",\"step\":\"%" PRIu64 "\",\"generation\":\"%" PRIu64 "\"}",
                   step, generation);
    for (size_t i = 0; i < list->n; i++) {
        const struct mu_ckpt_shape *s = &list->v[i].shape;

        mu_buf_putc(&text, ',');
        if ((rc = put_name(&text, list->v[i].name, err)))
            return rc;
        mu_buf_appendf(&text, ":{\"dtype\":\"%s\",\"shape\":[", types[s->dtype]);
        for (int d = 0; d < s->ndim; d++)
            mu_buf_appendf(&text, "%s%" PRIu64, d ? "," : "", s->global[d]);
        mu_buf_appendf(&text, "],\"data_offsets\":[%" PRIu64 ",%" PRIu64 "]}", at, at + s->bytes);
        at += s->bytes;
        if (text.failed)
            return mu_err_set(err, MUSTER_ENOMEM, "no memory for tensor \"%.200s\"", list->v[i].name);
    }
    mu_buf_putc(&text, '}');
    while (text.len % ALIGN && !text.failed)
        mu_buf_putc(&text, ' ');
    if (text.len > MU_SAFETENSORS_HEADER_MAX)
        return mu_err_set(err, MUSTER_ETYPE, "%zu tensors make a header of %zu bytes; safetensors have at most %u",
                          list->n, text.len, MU_SAFETENSORS_HEADER_MAX);
    for (int i = 0; i < 8; i++)
        length[i] = (unsigned char)((uint64_t)text.len >> (8 * i));
    mu_buf_append(out, length, sizeof length);
    mu_buf_append(out, mu_buf_str(&text), text.len);
    return text.failed || out->failed ? mu_err_set(err, MUSTER_ENOMEM, "no memory for %zu tensors", list->n) : 0;
}
