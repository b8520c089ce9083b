/* Blocks of arrays: what two have in common, and what is left of one without the other. Boxes are in the same global
 * array. */
#ifndef MU_CKPT_BOX_H
#define MU_CKPT_BOX_H

#include "runtime/ckpt/tensor.h"

#define MU_CKPT_PIECES_MAX (1u << 20) /* more means a checkpoint in crumbs: refused */

struct mu_ckpt_boxes {
    struct mu_ckpt_box *v;
    size_t n, room;
};

bool mu_ckpt_box_empty(const struct mu_ckpt_box *, int ndim);
/* False when they have nothing in common; *out is set only when true. */
bool mu_ckpt_box_meet(const struct mu_ckpt_box *, const struct mu_ckpt_box *, int ndim, struct mu_ckpt_box *out);
int mu_ckpt_boxes_push(struct mu_ckpt_boxes *, const struct mu_ckpt_box *, struct mu_err *);
/* Replaces box i by what is left of it without `hole`, which lies inside it: 0 to 2 * ndim boxes. */
int mu_ckpt_boxes_cut(struct mu_ckpt_boxes *, size_t i, const struct mu_ckpt_box *hole, int ndim, struct mu_err *);
void mu_ckpt_boxes_free(struct mu_ckpt_boxes *);

/* Walks `part` in row-major order as contiguous runs that are contiguous in both `src` and `dst`, of which it is part:
 * calls copy with element offsets into the dense blocks src and dst. Stops at the first non-zero result and returns it.
 */
int mu_ckpt_box_runs(const struct mu_ckpt_box *part, const struct mu_ckpt_box *src, const struct mu_ckpt_box *dst,
                     int ndim, int (*copy)(void *arg, uint64_t src, uint64_t dst, uint64_t n), void *arg);

#endif
