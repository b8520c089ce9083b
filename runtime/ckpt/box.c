#include "runtime/ckpt/box.h"

#include <stdlib.h>

bool mu_ckpt_box_empty(const struct mu_ckpt_box *b, int ndim)
{
    for (int d = 0; d < ndim; d++)
        if (!b->local[d])
            return true;
    return false;
}

bool mu_ckpt_box_meet(const struct mu_ckpt_box *a, const struct mu_ckpt_box *b, int ndim, struct mu_ckpt_box *out)
{
    struct mu_ckpt_box m = {0};

    for (int d = 0; d < ndim; d++) {
        uint64_t a_end = a->offset[d] + a->local[d], b_end = b->offset[d] + b->local[d];
        uint64_t from = a->offset[d] > b->offset[d] ? a->offset[d] : b->offset[d];
        uint64_t to = a_end < b_end ? a_end : b_end;

        if (from >= to)
            return false;
        m.offset[d] = from;
        m.local[d] = to - from;
    }
    *out = m;
    return true;
}

int mu_ckpt_boxes_push(struct mu_ckpt_boxes *l, const struct mu_ckpt_box *b, struct mu_err *err)
{
    if (l->n == l->room) {
        size_t room = l->room ? 2 * l->room : 16;
        struct mu_ckpt_box *v;

        if (room > MU_CKPT_PIECES_MAX)
            return mu_err_set(err, MUSTER_ECORRUPT, "the stored blocks leave too many pieces");
        if (!(v = realloc(l->v, room * sizeof *v)))
            return mu_err_set(err, MUSTER_ENOMEM, "no memory for blocks");
        l->v = v;
        l->room = room;
    }
    l->v[l->n++] = *b;
    return 0;
}

/* Slices off what lies before and after the hole, one dimension after the other. */
int mu_ckpt_boxes_cut(struct mu_ckpt_boxes *l, size_t i, const struct mu_ckpt_box *hole, int ndim, struct mu_err *err)
{
    struct mu_ckpt_box rest = l->v[i];
    int rc;

    l->v[i] = l->v[--l->n];
    for (int d = 0; d < ndim; d++) {
        uint64_t from = hole->offset[d], to = from + hole->local[d], end = rest.offset[d] + rest.local[d];
        struct mu_ckpt_box slice = rest;

        slice.local[d] = from - rest.offset[d];
        if (slice.local[d] && (rc = mu_ckpt_boxes_push(l, &slice, err)))
            return rc;
        slice.offset[d] = to;
        slice.local[d] = end - to;
        if (slice.local[d] && (rc = mu_ckpt_boxes_push(l, &slice, err)))
            return rc;
        rest.offset[d] = from;
        rest.local[d] = to - from;
    }
    return 0;
}

void mu_ckpt_boxes_free(struct mu_ckpt_boxes *l)
{
    free(l->v);
    *l = (struct mu_ckpt_boxes){0};
}

int mu_ckpt_box_runs(const struct mu_ckpt_box *part, const struct mu_ckpt_box *src, const struct mu_ckpt_box *dst,
                     int ndim, int (*copy)(void *arg, uint64_t src, uint64_t dst, uint64_t n), void *arg)
{
    uint64_t run = 1, at[MU_CKPT_DIMS] = {0};
    int outer = ndim; /* dimensions that are walked; the rest is one run */

    if (mu_ckpt_box_empty(part, ndim))
        return 0;
    while (outer > 0) {
        int d = --outer;

        run *= part->local[d];
        if (part->local[d] != src->local[d] || part->local[d] != dst->local[d])
            break;
    }
    for (;;) {
        uint64_t s = 0, t = 0;
        int d, rc;

        for (d = 0; d < ndim; d++) {
            s = s * src->local[d] + (part->offset[d] - src->offset[d]) + at[d];
            t = t * dst->local[d] + (part->offset[d] - dst->offset[d]) + at[d];
        }
        if ((rc = copy(arg, s, t, run)))
            return rc;
        for (d = outer - 1; d >= 0 && ++at[d] == part->local[d]; d--)
            at[d] = 0;
        if (d < 0)
            return 0;
    }
}
