/* Restoring: one generation, verified and put together in memory of our own. The program's tensors are not touched
 * before every rank has got this far. */
#ifndef MU_CKPT_READER_H
#define MU_CKPT_READER_H

#include "runtime/ckpt/store.h"

struct mu_ckpt_loaded {
    struct mu_ckpt_id id;
    unsigned char *mem; /* mapped */
    size_t bytes;
};

/* Reads what the tensors need, whatever the number of ranks was that wrote it. Fails when anything of it is missing,
 * damaged or of another shape: ECORRUPT, EIO (an older one may do); EVERSION, ENOMEM (no use in trying older ones). */
int mu_ckpt_load(const char *dir, uint64_t generation, const struct mu_ckpt_tensors *, struct mu_ckpt_loaded *,
                 struct mu_err *);
/* Copies into the tensors given to mu_ckpt_load. */
void mu_ckpt_loaded_apply(const struct mu_ckpt_loaded *, const struct mu_ckpt_tensors *);
void mu_ckpt_loaded_free(struct mu_ckpt_loaded *);

#endif
