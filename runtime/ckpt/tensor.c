#include "runtime/ckpt/tensor.h"

#include "runtime/base/clean.h"
#include "runtime/base/crc32c.h"
#include "runtime/base/dtype.h"

#include <string.h>

bool mu_ckpt_name_ok(const char *name, size_t n)
{
    if (n < 1 || n > MU_CKPT_NAME_MAX)
        return false;
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)name[i] < 0x20 || name[i] == 0x7f)
            return false;
    return true;
}

static bool product(const uint64_t *v, int n, uint64_t unit, uint64_t *out)
{
    uint64_t p = unit;
    bool zero = false, big = false;

    for (int i = 0; i < n; i++) {
        zero |= v[i] == 0;
        big |= __builtin_mul_overflow(p, v[i], &p) || p > MU_CKPT_BYTES_MAX;
    }
    *out = zero ? 0 : p;
    return zero || !big;
}

int mu_ckpt_shape_check(struct mu_ckpt_shape *s, struct mu_err *err)
{
    size_t unit = mu_dtype_size((muster_dtype)s->dtype);
    bool whole = true;
    uint64_t total;

    if (!unit)
        return mu_err_set(err, MUSTER_EARG, "unknown data type %u", s->dtype);
    if (s->flags & ~MUSTER_REPLICATED)
        return mu_err_set(err, MUSTER_EARG, "unknown flags 0x%x", s->flags);
    if (s->ndim < 1 || s->ndim > MU_CKPT_DIMS)
        return mu_err_set(err, MUSTER_EARG, "%d dimensions; 1 to %d are possible", s->ndim, MU_CKPT_DIMS);
    for (int d = 0; d < s->ndim; d++) {
        uint64_t off = s->box.offset[d], len = s->box.local[d], all = s->global[d];

        if (off > all || len > all - off)
            return mu_err_set(err, MUSTER_EARG,
                              "dimension %d: offset %llu + local %llu is more than the global size %llu", d,
                              (unsigned long long)off, (unsigned long long)len, (unsigned long long)all);
        whole &= off == 0 && len == all;
    }
    if (s->flags & MUSTER_REPLICATED && !whole)
        return mu_err_set(err, MUSTER_EARG, "replicated, but the local block is not the whole");
    if (!product(s->global, s->ndim, unit, &total) || !product(s->box.local, s->ndim, unit, &s->bytes))
        return mu_err_set(err, MUSTER_EARG, "larger than 2^60 bytes");
    return 0;
}

int mu_ckpt_tensors_add(struct mu_ckpt_tensors *list, const muster_tensor *t, struct mu_err *err)
{
    struct mu_ckpt_shape s = {0};
    size_t len;
    char *name;
    int rc;

    if (!t || !t->name)
        return mu_err_set(err, MUSTER_EARG, "a tensor needs a description and a name");
    len = strnlen(t->name, MU_CKPT_NAME_MAX + 1);
    if (!mu_ckpt_name_ok(t->name, len))
        return mu_err_set(err, MUSTER_EARG, "tensor names have 1 to %d bytes and no control characters",
                          MU_CKPT_NAME_MAX);
    if (mu_ckpt_tensors_find(list, t->name, list->n) != MU_CKPT_NO_NAME)
        return mu_err_set(err, MUSTER_EARG, "tensor \"%.200s\" has been added before", t->name);
    s.dtype = (uint32_t)t->dtype;
    s.flags = t->flags;
    s.ndim = t->ndim;
    for (int d = 0; d < t->ndim && d < MU_CKPT_DIMS; d++) {
        s.global[d] = t->global[d];
        s.box.offset[d] = t->offset[d];
        s.box.local[d] = t->local[d];
    }
    if (mu_ckpt_shape_check(&s, err)) {
        mu_err_prefix(err, "tensor \"%.200s\"", t->name);
        return MUSTER_EARG;
    }
    if (s.bytes && !t->data)
        return mu_err_set(err, MUSTER_EARG, "tensor \"%.200s\": data is NULL", t->name);
    if (s.bytes > MU_CKPT_BYTES_MAX - list->bytes)
        return mu_err_set(err, MUSTER_EARG, "tensor \"%.200s\": all tensors together are larger than 2^60 bytes",
                          t->name);
    if (s.bytes > SIZE_MAX / 2 || (s.bytes && (uintptr_t)t->data > UINTPTR_MAX - s.bytes))
        return mu_err_set(err, MUSTER_EARG, "tensor \"%.200s\": the block does not fit the address space", t->name);
    if (list->n == list->room) {
        size_t room = list->room ? 2 * list->room : 16;
        struct mu_ckpt_tensor *v = realloc(list->v, room * sizeof *v);

        if (!v)
            return mu_err_set(err, MUSTER_ENOMEM, "no memory for tensor \"%.200s\"", t->name);
        list->v = v;
        list->room = room;
    }
    if (!(name = strdup(t->name)))
        return mu_err_set(err, MUSTER_ENOMEM, "no memory for tensor \"%.200s\"", t->name);
    list->v[list->n] = (struct mu_ckpt_tensor){.name = name, .shape = s, .data = t->data};
    if ((rc = mu_ckpt_names_add(&list->names, list->v, sizeof *list->v, err))) {
        free(name);
        return rc;
    }
    list->bytes += s.bytes;
    list->n++;
    return 0;
}

size_t mu_ckpt_tensors_find(const struct mu_ckpt_tensors *list, const char *name, size_t hint)
{
    if (hint < list->n && !strcmp(list->v[hint].name, name))
        return hint;
    return mu_ckpt_names_find(&list->names, list->v, sizeof *list->v, name);
}

void mu_ckpt_tensors_drop(struct mu_ckpt_tensors *list)
{
    struct mu_ckpt_tensor *t = &list->v[list->n - 1];

    mu_ckpt_names_drop(&list->names, list->v, sizeof *list->v);
    list->n--;
    list->bytes -= t->shape.bytes;
    free(t->name);
}

void mu_ckpt_tensors_free(struct mu_ckpt_tensors *list)
{
    for (size_t i = 0; i < list->n; i++)
        free(list->v[i].name);
    free(list->v);
    mu_ckpt_names_free(&list->names);
    *list = (struct mu_ckpt_tensors){0};
}

uint32_t mu_ckpt_tensors_replica_sum(const struct mu_ckpt_tensors *list)
{
    uint32_t sum = 0;

    for (size_t i = 0; i < list->n; i++) {
        const struct mu_ckpt_tensor *t = &list->v[i];
        uint32_t kind[2] = {t->shape.dtype, (uint32_t)t->shape.ndim};

        if (!(t->shape.flags & MUSTER_REPLICATED))
            continue;
        sum = mu_crc32c(sum, t->name, strlen(t->name) + 1);
        sum = mu_crc32c(sum, kind, sizeof kind);
        sum = mu_crc32c(sum, t->shape.global, (size_t)t->shape.ndim * sizeof t->shape.global[0]);
    }
    return sum;
}
