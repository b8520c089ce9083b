#include "runtime/ckpt/agree.h"

#include "runtime/base/clean.h"
#include "runtime/base/dtype.h"
#include "runtime/ckpt/box.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define DEPTH_MAX 64     /* of parting blocks */
#define HOLE_LOOK 65536u /* blocks among which a hole is looked for, for its text */

/* Of a tensor in pieces offset and size in each dimension, and the rank, for each block; of a replicated one first
 * byte, end and rank for each run of bytes. */
struct mu_ckpt_agree_told {
    uint32_t first, last; /* ranks that have it */
    bool replicated;
    uint64_t *v;
    size_t n, room;
};

struct piece {
    struct mu_ckpt_box box;
    uint64_t key;
    uint32_t rank;
};

static size_t width(const struct mu_ckpt_agree_told *t, int ndim)
{
    return t->replicated ? 3 : 2 * (size_t)ndim + 1;
}

static void list(char *buf, size_t size, const uint64_t *v, int n)
{
    size_t at = 0;

    for (int d = 0; d < n && at < size; d++)
        at += (size_t)snprintf(buf + at, size - at, "%s%" PRIu64, d ? ", " : "[", v[d]);
    if (at < size)
        snprintf(buf + at, size - at, "]");
}

/* --- one block ---------------------------------------------------------------------------------------------------- */

static uint64_t *grow(struct mu_ckpt_agree_told *t, size_t n, struct mu_err *err)
{
    if (t->room - t->n < n) {
        size_t room = 2 * t->n + n;
        uint64_t *v = realloc(t->v, room * sizeof *v);

        if (!v) {
            mu_err_set(err, MUSTER_ENOMEM, "no memory to compare what ranks have saved");
            return NULL;
        }
        t->v = v;
        t->room = room;
    }
    t->n += n;
    return t->v + t->n - n;
}

static int note(struct mu_ckpt_agree_told *t, const struct mu_ckpt_manifest *m, const struct mu_ckpt_block *b,
                struct mu_err *err)
{
    size_t ndim = (size_t)b->shape.ndim, w = width(t, b->shape.ndim);
    uint64_t *v = NULL;

    for (size_t i = b->first; t->replicated && i < b->first + b->n; i++) {
        const struct mu_ckpt_extent *e = &m->extents[i];

        if (v && v[1] == e->at) {
            v[1] += e->bytes;
            continue;
        }
        if (!(v = grow(t, w, err)))
            return MUSTER_ENOMEM;
        v[0] = e->at;
        v[1] = e->at + e->bytes;
        v[2] = m->rank;
    }
    if (t->replicated || mu_ckpt_box_empty(&b->shape.box, b->shape.ndim))
        return 0;
    if (!(v = grow(t, w, err)))
        return MUSTER_ENOMEM;
    memcpy(v, b->shape.box.offset, ndim * sizeof *v);
    memcpy(v + ndim, b->shape.box.local, ndim * sizeof *v);
    v[2 * ndim] = m->rank;
    return 0;
}

static int same(const struct mu_ckpt_tensor *t, const struct mu_ckpt_agree_told *told, const struct mu_ckpt_block *b,
                uint32_t rank, struct mu_err *err)
{
    const struct mu_ckpt_shape *s = &t->shape, *x = &b->shape;
    char has[200], is[200];

    if (told->last == rank)
        return mu_err_set(err, MUSTER_EMISMATCH, "rank %u saves tensor \"%.100s\" twice", rank, b->name);
    if (s->dtype != x->dtype)
        return mu_err_set(err, MUSTER_EMISMATCH, "tensor \"%.100s\": rank %u saves it as %s, rank %u as %s", b->name,
                          told->first, mu_dtype_name((int)s->dtype), rank, mu_dtype_name((int)x->dtype));
    if (s->ndim != x->ndim || memcmp(s->global, x->global, (size_t)s->ndim * sizeof s->global[0])) {
        list(has, sizeof has, s->global, s->ndim);
        list(is, sizeof is, x->global, x->ndim);
        return mu_err_set(err, MUSTER_EMISMATCH,
                          "tensor \"%.100s\": rank %u saves it with the global shape %s, rank %u with %s", b->name,
                          told->first, has, rank, is);
    }
    if (told->replicated != !!(x->flags & MUSTER_REPLICATED))
        return mu_err_set(err, MUSTER_EMISMATCH, "tensor \"%.100s\": rank %u saves it as replicated, rank %u does not",
                          b->name, told->replicated ? told->first : rank, told->replicated ? rank : told->first);
    return 0;
}

static int add_tensor(struct mu_ckpt_agree *a, const struct mu_ckpt_block *b, uint32_t rank, struct mu_err *err)
{
    muster_tensor t = {.name = b->name, .dtype = (muster_dtype)b->shape.dtype, .ndim = b->shape.ndim, .data = a};
    int rc;

    if (a->tensors.n == a->room) {
        size_t room = a->room ? 2 * a->room : 64;
        struct mu_ckpt_agree_told *v = realloc(a->told, room * sizeof *v);

        if (!v)
            return mu_err_set(err, MUSTER_ENOMEM, "no memory to compare what ranks have saved");
        a->told = v;
        a->room = room;
    }
    for (int d = 0; d < b->shape.ndim; d++)
        t.global[d] = t.local[d] = b->shape.global[d];
    if ((rc = mu_ckpt_tensors_add(&a->tensors, &t, err)))
        return rc == MUSTER_EARG ? MUSTER_EMISMATCH : rc;
    a->tensors.v[a->tensors.n - 1].data = NULL;
    a->told[a->tensors.n - 1] =
        (struct mu_ckpt_agree_told){.first = rank, .last = rank, .replicated = b->shape.flags & MUSTER_REPLICATED};
    return 0;
}

int mu_ckpt_agree_add(struct mu_ckpt_agree *a, const struct mu_ckpt_manifest *m, struct mu_err *err)
{
    int rc;

    for (size_t i = 0, next = 0; i < m->nblocks; i++) { /* most ranks have them in one order */
        const struct mu_ckpt_block *b = &m->blocks[i];
        size_t at = mu_ckpt_tensors_find(&a->tensors, b->name, next);

        if (at == MU_CKPT_NO_NAME) {
            at = a->tensors.n;
            rc = add_tensor(a, b, m->rank, err);
        } else if (!(rc = same(&a->tensors.v[at], &a->told[at], b, m->rank, err))) {
            a->told[at].last = m->rank;
        }
        if (rc || (rc = note(&a->told[at], m, b, err)))
            return rc;
        next = at + 1;
    }
    return 0;
}

/* --- all of a tensor ---------------------------------------------------------------------------------------------- */

static int by_first_byte(const void *a, const void *b)
{
    const uint64_t *x = a, *y = b;

    return x[0] < y[0] ? -1 : x[0] > y[0];
}

static int once(const struct mu_ckpt_tensor *t, struct mu_ckpt_agree_told *told, struct mu_err *err)
{
    uint64_t at = 0;
    uint32_t before = told->first;

    if (told->n)
        qsort(told->v, told->n / 3, 3 * sizeof *told->v, by_first_byte);
    for (size_t i = 0; i < told->n; i += 3) {
        const uint64_t *v = told->v + i;

        if (v[0] < at)
            return mu_err_set(err, MUSTER_EMISMATCH,
                              "tensor \"%.100s\" is replicated, and ranks %u and %u both have byte %" PRIu64 " of it",
                              t->name, before, (uint32_t)v[2], v[0]);
        if (v[0] > at)
            break;
        at = v[1];
        before = (uint32_t)v[2];
    }
    return at == t->shape.bytes
               ? 0
               : mu_err_set(err, MUSTER_EMISMATCH,
                            "tensor \"%.100s\" is replicated, and no rank saves its bytes from %" PRIu64 " on", t->name,
                            at);
}

static int by_box(const void *a, const void *b)
{
    const struct piece *x = a, *y = b;

    for (int d = 0; d < MU_CKPT_DIMS; d++)
        if (x->box.offset[d] != y->box.offset[d])
            return x->box.offset[d] < y->box.offset[d] ? -1 : 1;
    for (int d = 0; d < MU_CKPT_DIMS; d++)
        if (x->box.local[d] != y->box.local[d])
            return x->box.local[d] < y->box.local[d] ? -1 : 1;
    return x->rank < y->rank ? -1 : x->rank > y->rank;
}

static int by_key(const void *a, const void *b)
{
    const struct piece *x = a, *y = b;

    return x->key < y->key ? -1 : x->key > y->key;
}

static void sort(struct piece *v, size_t n, int (*order)(const void *, const void *))
{
    for (size_t i = 1; i < n; i++)
        if (order(&v[i - 1], &v[i]) > 0) { /* else they are in order already, as ranks mostly are */
            qsort(v, n, sizeof *v, order);
            return;
        }
}

/* Looks for two blocks that overlap: 1, and who they are. Blocks that a dimension keeps apart are looked at by
 * themselves, so that grids, and grids within grids, cost little more than their sorting. */
static int clash(struct piece *v, size_t n, int ndim, int depth, const struct piece *two[2])
{
    struct mu_ckpt_box common;

    for (int d = 0; d < ndim && n > 1 && depth < DEPTH_MAX; d++) {
        size_t from = 0;
        uint64_t end;

        for (size_t i = 0; i < n; i++)
            v[i].key = v[i].box.offset[d];
        sort(v, n, by_key);
        end = v[0].box.offset[d] + v[0].box.local[d];
        for (size_t i = 1; i < n; i++) {
            if (v[i].box.offset[d] >= end) {
                if (clash(v + from, i - from, ndim, depth + 1, two))
                    return 1;
                from = i;
            }
            if (v[i].box.offset[d] + v[i].box.local[d] > end)
                end = v[i].box.offset[d] + v[i].box.local[d];
        }
        if (from)
            return clash(v + from, n - from, ndim, depth + 1, two);
    }
    for (size_t i = 0; i < n; i++)
        for (size_t k = i + 1; k < n; k++)
            if (mu_ckpt_box_meet(&v[i].box, &v[k].box, ndim, &common)) {
                two[0] = v[i].rank < v[k].rank ? &v[i] : &v[k];
                two[1] = v[i].rank < v[k].rank ? &v[k] : &v[i];
                return 1;
            }
    return 0;
}

static int hole(const struct mu_ckpt_tensor *t, const struct piece *v, size_t n, struct mu_err *err)
{
    const struct mu_ckpt_shape *s = &t->shape;
    struct mu_ckpt_boxes left = {0};
    char global[200], at[200], size[200];
    int rc = n > HOLE_LOOK ? 1 : mu_ckpt_boxes_push(&left, &s->box, NULL);

    for (size_t k = 0; k < n && !rc; k++)
        for (size_t i = 0; i < left.n && !rc;) {
            struct mu_ckpt_box part;

            if (mu_ckpt_box_meet(&left.v[i], &v[k].box, s->ndim, &part))
                rc = mu_ckpt_boxes_cut(&left, i, &part, s->ndim, NULL);
            else
                i++;
        }
    list(global, sizeof global, s->global, s->ndim);
    if (rc || !left.n) {
        mu_err_set(err, MUSTER_EMISMATCH, "tensor \"%.100s\" of %s: no rank saves some of its elements", t->name,
                   global);
    } else {
        list(at, sizeof at, left.v[0].offset, s->ndim);
        list(size, sizeof size, left.v[0].local, s->ndim);
        mu_err_set(err, MUSTER_EMISMATCH, "tensor \"%.100s\" of %s: no rank saves the block of %s at %s", t->name,
                   global, size, at);
    }
    mu_ckpt_boxes_free(&left);
    return MUSTER_EMISMATCH;
}

static uint64_t elements(const uint64_t *v, int n)
{
    uint64_t all = 1;

    for (int d = 0; d < n; d++)
        all *= v[d];
    return all;
}

static int whole(const struct mu_ckpt_tensor *t, const struct mu_ckpt_agree_told *told, struct piece *v,
                 struct mu_err *err)
{
    size_t ndim = (size_t)t->shape.ndim, w = width(told, t->shape.ndim), n = 0, k = told->n / w;
    const struct piece *two[2];
    uint64_t sum = 0;

    for (size_t i = 0; i < k; i++) {
        const uint64_t *from = told->v + i * w;

        v[i] = (struct piece){.rank = (uint32_t)from[2 * ndim]};
        memcpy(v[i].box.offset, from, ndim * sizeof *from);
        memcpy(v[i].box.local, from + ndim, ndim * sizeof *from);
    }
    sort(v, k, by_box);
    for (size_t i = 0; i < k; i++)
        if (!n || memcmp(&v[n - 1].box, &v[i].box, sizeof v->box))
            v[n++] = v[i];
    if (clash(v, n, t->shape.ndim, 0, two))
        return mu_err_set(err, MUSTER_EMISMATCH,
                          "tensor \"%.100s\": the blocks of ranks %u and %u overlap, and are not the same block",
                          t->name, two[0]->rank, two[1]->rank);
    for (size_t i = 0; i < n; i++)
        sum += elements(v[i].box.local, t->shape.ndim);
    return mu_ckpt_box_empty(&t->shape.box, t->shape.ndim) || sum == elements(t->shape.global, t->shape.ndim)
               ? 0
               : hole(t, v, n, err);
}

int mu_ckpt_agree_end(struct mu_ckpt_agree *a, struct mu_err *err)
{
    mu_auto_free struct piece *v = NULL;
    size_t most = 0;
    int rc = 0;

    for (size_t i = 0; i < a->tensors.n; i++)
        if (!a->told[i].replicated && a->told[i].n > most)
            most = a->told[i].n;
    if (!(v = malloc((most / 3 + 1) * sizeof *v))) /* a block is three numbers at least */
        return mu_err_set(err, MUSTER_ENOMEM, "no memory to compare what ranks have saved");
    for (size_t i = 0; i < a->tensors.n && !rc; i++)
        rc = a->told[i].replicated ? once(&a->tensors.v[i], &a->told[i], err)
                                   : whole(&a->tensors.v[i], &a->told[i], v, err);
    return rc;
}

void mu_ckpt_agree_take(struct mu_ckpt_agree *a, struct mu_ckpt_tensors *out)
{
    *out = a->tensors;
    for (size_t i = 0; i < out->n; i++)
        free(a->told[i].v);
    free(a->told);
    *a = (struct mu_ckpt_agree){0};
}

void mu_ckpt_agree_free(struct mu_ckpt_agree *a)
{
    struct mu_ckpt_tensors list;

    mu_ckpt_agree_take(a, &list);
    mu_ckpt_tensors_free(&list);
}
