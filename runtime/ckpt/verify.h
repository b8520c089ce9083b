/* Looking at a generation from outside of a job: all of it, whoever wrote it. */
#ifndef MU_CKPT_VERIFY_H
#define MU_CKPT_VERIFY_H

#include "runtime/ckpt/store.h"

/* Reads everything that was committed, compares it with its CRCs, and what the ranks say of their tensors (agree.h):
 * blocks that overlap, or leave something out, are no checkpoint. bytes (may be NULL): called with how many have
 * been read since it was last called; nonzero: to be given up, EABORTED. ECORRUPT, EIO, EVERSION as for a restore. */
int mu_ckpt_verify(const char *dir, uint64_t generation, int (*bytes)(void *arg, uint64_t n), void *arg,
                   struct mu_err *);
/* The same of a generation's directory, whatever its name. */
int mu_ckpt_verify_in(const char *gendir, uint64_t generation, int (*bytes)(void *arg, uint64_t n), void *arg,
                      struct mu_err *);

/* The result of a comparison as that of looking at files: EMISMATCH becomes ECORRUPT. */
int mu_ckpt_verify_agrees(int rc, struct mu_err *);

/* The tensors of a generation as wholes: what all ranks' blocks say of them. data is NULL. ECORRUPT when they do not
 * agree; parts may be missing. */
int mu_ckpt_whole(const char *dir, uint64_t generation, struct mu_ckpt_commit *, struct mu_ckpt_tensors *,
                  struct mu_err *);

#endif
