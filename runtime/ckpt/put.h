/* One rank's part of a generation on its way into the directory, and rank 0's commit: what a writer's thread does for a
 * rank of its own process, and the drain for ranks whose copies lie in the arena. */
#ifndef MU_CKPT_PUT_H
#define MU_CKPT_PUT_H

#include <stdatomic.h>

#include "runtime/ckpt/store.h"

struct mu_ckpt_put {
    struct mu_ckpt_place place;
    struct mu_ckpt_manifest *plan; /* id and CRCs are set on the way */
    const unsigned char *image;    /* the segment file, byte for byte, but for its superblock */
    uint64_t generation, step;
    uint64_t deadline;            /* mu_now(); set by mu_ckpt_put_begin */
    uint64_t bad_after, bad_upto; /* generations that retention does not count */
    _Atomic uint32_t *cancel;     /* 1: end waits now, with EABORTED */
    _Atomic uint64_t *hurry;      /* NULL, or mu_now() by which waits for other ranks end; 0: none */
    uint64_t fenced;              /* when the epoch was looked at last */
    bool summed;                  /* the plan has its CRCs */
    bool committed;               /* the generation was there already, whole */
    bool voted;
};

/* Segment and manifest: the part that takes time, and waits for nobody. */
int mu_ckpt_put_begin(struct mu_ckpt_put *, struct mu_err *);
/* Rank 0 waits for all parts and commits, the others wait for that. rc: of mu_ckpt_put_begin, which *err explains when
 * it has failed; then the others are told. Returns the result of all of it. */
int mu_ckpt_put_end(struct mu_ckpt_put *, int rc, struct mu_err *err);
/* After the end: older generations go once the new one has been read back; for want of room what else may go. */
void mu_ckpt_put_tidy(const struct mu_ckpt_put *, int rc);

#endif
