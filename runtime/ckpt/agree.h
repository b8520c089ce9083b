/* Whether the ranks of a generation mean the same by its tensors: their manifests, added one after the other, agree in
 * the data type, the global shape and the flags of each, and all blocks of it together are the whole. Blocks of two
 * ranks are equal (copies of one another) or have nothing in common; what is replicated is there once. Grids
 * take time in proportion to their blocks, tilings that no cut divides up to the square. Zero it to begin with.
 *
 * EMISMATCH with a text that names the tensor and the ranks; or ENOMEM. */
#ifndef MU_CKPT_AGREE_H
#define MU_CKPT_AGREE_H

#include "runtime/ckpt/format.h"

struct mu_ckpt_agree {
    struct mu_ckpt_tensors tensors;  /* as wholes, data NULL, in the order in which they were met */
    struct mu_ckpt_agree_told *told; /* what the ranks have said of each */
    size_t room;
};

int mu_ckpt_agree_add(struct mu_ckpt_agree *, const struct mu_ckpt_manifest *, struct mu_err *);
/* Once all are added: that nothing is missing, and nothing there twice in different ways. */
int mu_ckpt_agree_end(struct mu_ckpt_agree *, struct mu_err *);
/* The tensors, as wholes; nothing is left. */
void mu_ckpt_agree_take(struct mu_ckpt_agree *, struct mu_ckpt_tensors *);
void mu_ckpt_agree_free(struct mu_ckpt_agree *);

#endif
