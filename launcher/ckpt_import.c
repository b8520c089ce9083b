/* A safetensors file becomes a generation of a directory, as one rank that holds all of it would have saved it. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "launcher/ckpt_export.h"
#include "runtime/base/clean.h"
#include "runtime/base/clock.h"
#include "runtime/base/str.h"
#include "runtime/ckpt/owner.h"
#include "runtime/ckpt/writer.h"

#define HEADER_MAX (100u << 20) /* of the format */
#define WAIT (24 * 3600 * MU_SEC)

struct file {
    const char *name;
    unsigned char *map;
    uint64_t bytes, data; /* data: where it begins */
    struct mu_ckpt_tensors list;
    uint64_t step; /* of its metadata, else 0 */
};

static int bad(const struct file *f, struct mu_err *err, const char *what, const char *tensor)
{
    return mu_err_set(err, MUSTER_EARG, "%.200s: tensor \"%.80s\": %s", f->name, tensor, what);
}

static int dtype_of(const char *name)
{
    for (int i = 0; name && i < MU_SAFETENSORS_TYPES; i++)
        if (!strcmp(mu_safetensors_types[i], name))
            return i;
    return -1;
}

static int add_tensor(struct file *f, const char *name, const json_t *x, struct mu_err *err)
{
    const json_t *shape = json_object_get(x, "shape"), *place = json_object_get(x, "data_offsets");
    const char *type = json_string_value(json_object_get(x, "dtype"));
    muster_tensor t = {.name = name, .ndim = (int)json_array_size(shape)};
    json_int_t from = json_integer_value(json_array_get(place, 0)), to = json_integer_value(json_array_get(place, 1));
    int dtype = dtype_of(type), rc;

    if (!json_is_array(shape) || json_array_size(place) != 2 || !type)
        return bad(f, err, "dtype, shape or data_offsets is missing", name);
    if (dtype < 0)
        return mu_err_set(err, MUSTER_EARG, "%.200s: tensor \"%.80s\" is of type %.20s, which checkpoints do not have",
                          f->name, name, type);
    if (json_array_size(shape) > 8)
        return bad(f, err, "more than 8 dimensions", name);
    for (int d = 0; d < t.ndim; d++) {
        const json_t *n = json_array_get(shape, (size_t)d);

        if (!json_is_integer(n) || json_integer_value(n) < 0)
            return bad(f, err, "a dimension that is no number", name);
        t.global[d] = t.local[d] = (uint64_t)json_integer_value(n);
    }
    if (!t.ndim) { /* a scalar */
        t.ndim = 1;
        t.global[0] = t.local[0] = 1;
    }
    if (from < 0 || to < from || (uint64_t)to > f->bytes - f->data)
        return bad(f, err, "its data is not in the file", name);
    t.dtype = (muster_dtype)dtype;
    t.data = f->map + f->data + from;
    if ((rc = mu_ckpt_tensors_add(&f->list, &t, err))) {
        mu_err_prefix(err, "%.200s", f->name);
        return rc;
    }
    if (f->list.v[f->list.n - 1].shape.bytes != (uint64_t)(to - from))
        return bad(f, err, "its shape and its data differ in size", name);
    return 0;
}

static int read_header(struct file *f, struct mu_err *err)
{
    const char *name, *step;
    json_error_t why;
    json_t *root, *x;
    uint64_t n = 0;
    int rc = 0;

    for (int i = 0; i < 8 && f->bytes >= 8; i++)
        n |= (uint64_t)f->map[i] << (8 * i);
    if (f->bytes < 8 || n > HEADER_MAX || n > f->bytes - 8)
        return mu_err_set(err, MUSTER_EARG, "%.200s is not a safetensors file, or it is cut short", f->name);
    f->data = 8 + n;
    if (!(root = json_loadb((const char *)f->map + 8, n, JSON_REJECT_DUPLICATES, &why)) || !json_is_object(root)) {
        json_decref(root);
        return mu_err_set(err, MUSTER_EARG, "%.200s is not a safetensors file: its header is no JSON object", f->name);
    }
    json_object_foreach(root, name, x)
    {
        if (rc)
            break;
        if (strcmp(name, "__metadata__"))
            rc = add_tensor(f, name, x, err);
        else if ((step = json_string_value(json_object_get(x, "step"))))
            mu_str_u64(step, 0, UINT64_MAX, &f->step);
    }
    json_decref(root);
    if (!rc && !f->list.n)
        rc = mu_err_set(err, MUSTER_EARG, "%.200s has no tensors", f->name);
    return rc;
}

static int open_file(const char *name, struct file *f, struct mu_err *err)
{
    mu_auto_fd int fd = open(name, O_RDONLY | O_CLOEXEC);
    struct stat st;

    *f = (struct file){.name = name};
    if (fd < 0 || fstat(fd, &st))
        return mu_err_errno(err, MUSTER_EARG, "%.200s", name);
    if (!S_ISREG(st.st_mode) || !st.st_size)
        return mu_err_set(err, MUSTER_EARG, "%.200s is not a safetensors file", name);
    f->bytes = (uint64_t)st.st_size;
    f->map = mmap(NULL, f->bytes, PROT_READ, MAP_PRIVATE, fd, 0);
    if (f->map == MAP_FAILED) {
        f->map = NULL;
        return mu_err_errno(err, 0, "map %.200s", name);
    }
    return read_header(f, err);
}

static void close_file(struct file *f)
{
    mu_ckpt_tensors_free(&f->list);
    if (f->map)
        munmap(f->map, f->bytes);
}

/* The way of a job of one rank. */
static int save(const struct file *f, const char *dir, uint64_t step, uint64_t *generation, struct mu_err *err)
{
    struct mu_ckpt_place place = {.timeout = WAIT, .world = 1, .keep = UINT32_MAX, .job = "muster ckpt import"};
    struct mu_ckpt_owner *owner = NULL;
    struct mu_ckpt_writer *w = NULL;
    int rc;

    place.io = &mu_ckpt_io_posix;
    snprintf(place.dir, sizeof place.dir, "%s", dir);
    gethostname(place.host, sizeof place.host - 1);
    if ((rc = mu_ckpt_owner_take(&place, &mu_ckpt_patience, &owner, err)))
        return rc;
    if (!(rc = mu_ckpt_store_open(&place, generation, err)) &&
        !(rc = mu_ckpt_writer_start(&place, NULL, NULL, 0, &w, err)) &&
        !(rc = mu_ckpt_writer_layout(w, &f->list, err)) &&
        !(rc = mu_ckpt_writer_idle(w, WAIT) ? mu_err_set(err, MUSTER_ETIMEOUT, "%.200s hangs", dir) : 0) &&
        !(rc = mu_ckpt_writer_save(w, *generation, step, err)))
        rc = mu_ckpt_writer_durable(w, WAIT, err);
    if (w)
        mu_ckpt_writer_stop(w, 60 * MU_SEC, NULL);
    mu_ckpt_owner_release(owner);
    return rc;
}

int mu_ckpt_import(const char *name, const char *dir, const uint64_t *step, uint64_t *generation, uint64_t *saved,
                   struct mu_err *err)
{
    struct file f;
    int rc = open_file(name, &f, err);

    if (!rc) {
        *saved = step ? *step : f.step;
        rc = save(&f, dir, *saved, generation, err);
    }
    close_file(&f);
    return rc;
}
