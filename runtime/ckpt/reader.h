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
 * damaged or of another shape, or its ranks contradict one another: ECORRUPT, EIO (an older one may do); EVERSION,
 * ENOMEM (no use in trying older ones). */
int mu_ckpt_load(const char *dir, uint64_t generation, const struct mu_ckpt_tensors *, struct mu_ckpt_loaded *,
                 struct mu_err *);
/* Copies into the tensors given to mu_ckpt_load. Fails only where one is on a device. */
int mu_ckpt_loaded_apply(const struct mu_ckpt_loaded *, const struct mu_ckpt_tensors *, struct mu_err *);
void mu_ckpt_loaded_free(struct mu_ckpt_loaded *);

/* The same from memory: all parts of a save, mapped. Of another node's
 * parts there are the replicated tensors alone. Verify touches nothing; apply, into the tensors, follows a verify that
 * went well. */
struct mu_ckpt_held {
    struct mu_ckpt_id id;
    struct mu_ckpt_held_part {
        struct mu_ckpt_manifest man;
        unsigned char *image; /* the segment; munmap, unless it is the writer's */
        uint64_t bytes;
        bool summed; /* the manifest has CRCs */
        bool sound;  /* they have been compared */
        bool writers;
        bool partial; /* another node's: there is nothing in it but what its replicated tensors need */
    } * parts;        /* id.world of them */
};
/* EMISMATCH: ranks have described their tensors in different ways (agree.h): what no commit takes. Needs the manifests
 * alone. */
int mu_ckpt_held_agrees(const struct mu_ckpt_held *, struct mu_err *);
int mu_ckpt_held_verify(const struct mu_ckpt_held *, const struct mu_ckpt_tensors *, struct mu_err *);
int mu_ckpt_held_apply(const struct mu_ckpt_held *, const struct mu_ckpt_tensors *, struct mu_err *);
void mu_ckpt_held_free(struct mu_ckpt_held *);

#endif
