#include "launcher/ckpt_export.h"

#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "runtime/base/clean.h"
#include "runtime/ckpt/reader.h"
#include "runtime/ckpt/verify.h"

#define ALIGN 8u

const char *const mu_safetensors_types[MU_SAFETENSORS_TYPES] = {
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

/* The text before the data, padded with blanks. NULL: out of memory, or a name that is no UTF-8. */
static char *header(const struct mu_ckpt_commit *k, const struct mu_ckpt_tensors *list, size_t *len)
{
    json_t *root = json_object(), *meta = json_object();
    uint64_t at = 0;
    char number[24], *text, *out = NULL;
    bool fine = true;

    json_object_set_new(meta, "format", json_string("muster"));
    snprintf(number, sizeof number, "%" PRIu64, k->id.step);
    json_object_set_new(meta, "step", json_string(number));
    snprintf(number, sizeof number, "%" PRIu64, k->id.generation);
    json_object_set_new(meta, "generation", json_string(number));
    json_object_set_new(root, "__metadata__", meta);
    for (size_t i = 0; i < list->n; i++) {
        const struct mu_ckpt_shape *s = &list->v[i].shape;
        json_t *t = json_object(), *shape = json_array();

        for (int d = 0; d < s->ndim; d++)
            json_array_append_new(shape, json_integer((json_int_t)s->global[d]));
        json_object_set_new(t, "dtype", json_string(mu_safetensors_types[s->dtype]));
        json_object_set_new(t, "shape", shape);
        json_object_set_new(t, "data_offsets", json_pack("[I,I]", (json_int_t)at, (json_int_t)(at + s->bytes)));
        at += s->bytes;
        fine &= json_object_set_new(root, list->v[i].name, t) == 0;
    }
    text = fine ? json_dumps(root, JSON_COMPACT | JSON_PRESERVE_ORDER) : NULL;
    json_decref(root);
    if (text) {
        size_t n = strlen(text);

        *len = (n + ALIGN - 1) / ALIGN * ALIGN;
        if ((out = malloc(*len + 1))) {
            memset(out, ' ', *len);
            memcpy(out, text, n);
        }
        free(text);
    }
    return out;
}

static int write_tensor(const char *dir, uint64_t generation, const struct mu_ckpt_tensor *t, int fd, uint64_t *at,
                        const char *path, struct mu_err *err)
{
    struct mu_ckpt_tensor one = *t;
    struct mu_ckpt_tensors list = {.v = &one, .n = 1, .bytes = t->shape.bytes};
    struct mu_ckpt_loaded got = {0};
    int rc = mu_ckpt_load(dir, generation, &list, &got, err);

    if (rc)
        return rc;
    if (t->shape.bytes)
        rc = mu_ckpt_write_all(&mu_ckpt_io_posix, fd, got.mem, t->shape.bytes, (off_t)*at, path, err);
    *at += t->shape.bytes;
    mu_ckpt_loaded_free(&got);
    return rc;
}

int mu_ckpt_export(const char *dir, uint64_t generation, const char *file, int (*bytes)(void *arg, uint64_t n),
                   void *arg, struct mu_err *err)
{
    struct mu_ckpt_path tmp = mu_ckpt_path("%.*s.part", MU_CKPT_DIR_MAX, file);
    struct mu_ckpt_tensors list = {0};
    mu_auto_free char *text = NULL;
    struct mu_ckpt_commit k;
    unsigned char head[8];
    uint64_t at;
    struct stat st;
    size_t len = 0;
    int fd, rc;

    /* the file is put in the place of what has its name: root would take a device away from everybody */
    if (!stat(file, &st) && !S_ISREG(st.st_mode))
        return mu_err_set(err, MUSTER_EARG, "%.200s is %s: give the name of a file", file,
                          S_ISDIR(st.st_mode) ? "a directory" : "not a plain file");
    if ((rc = mu_ckpt_whole(dir, generation, &k, &list, err)))
        return rc;
    free(MU_STEAL(k.votes, NULL));
    if (!(text = header(&k, &list, &len))) {
        mu_ckpt_tensors_free(&list);
        return mu_err_set(err, MUSTER_EARG, "a tensor's name is no UTF-8, or there is no memory");
    }
    for (int i = 0; i < 8; i++)
        head[i] = (unsigned char)((uint64_t)len >> (8 * i));
    if ((fd = open(tmp.s, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666)) < 0) {
        mu_ckpt_tensors_free(&list);
        return mu_err_errno(err, MUSTER_EARG, "create %s", tmp.s);
    }
    at = 8 + len;
    rc = mu_ckpt_write_all(&mu_ckpt_io_posix, fd, head, 8, 0, tmp.s, err);
    if (!rc)
        rc = mu_ckpt_write_all(&mu_ckpt_io_posix, fd, text, len, 8, tmp.s, err);
    for (size_t i = 0; !rc && i < list.n; i++) {
        rc = write_tensor(dir, generation, &list.v[i], fd, &at, tmp.s, err);
        if (!rc && bytes(arg, list.v[i].shape.bytes))
            rc = mu_err_set(err, MUSTER_EABORTED, "given up");
    }
    if (!rc && fsync(fd))
        rc = mu_err_errno(err, 0, "sync %s", tmp.s);
    close(fd);
    if (!rc && rename(tmp.s, file))
        rc = mu_err_errno(err, 0, "rename %s to %s", tmp.s, file);
    if (rc)
        unlink(tmp.s);
    mu_ckpt_tensors_free(&list);
    return rc;
}
