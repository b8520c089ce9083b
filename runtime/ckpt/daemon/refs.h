/* ref.<rank> of an incremental generation in an object store, version 1 (docs/formats.md): for each extent of the
 * rank's segment, in the order of the segment, its SHA-256 and whose inc.<rank> has it. Decoding trusts nothing. */
#ifndef MU_CKPT_REFS_H
#define MU_CKPT_REFS_H

#include <stddef.h>

#include "runtime/ckpt/format.h"

#define MU_REFS_HOLDERS 1000u
#define MU_REFS_SHA 32u

struct mu_refs_holder {
    uint64_t generation, epoch, nonce;
};
struct mu_refs_extent {
    unsigned char sha[MU_REFS_SHA];
    uint64_t at; /* in the holder's inc.<rank> */
    uint32_t bytes;
    uint32_t holder; /* 0: this generation; else holders[holder - 1] */
};
struct mu_refs {
    struct mu_refs_holder self;
    uint32_t rank, manifest; /* CRC of the manifest */
    struct mu_refs_holder *holders;
    uint32_t nholders;
    struct mu_refs_extent *v;
    size_t n;
    uint64_t own; /* bytes of its own inc.<rank>; 0: there is none */
};

/* *out is malloc'ed. */
int mu_refs_encode(const struct mu_refs *, unsigned char **out, size_t *n, struct mu_err *);
/* ECORRUPT, EVERSION. */
int mu_refs_decode(const unsigned char *, size_t n, struct mu_refs *, struct mu_err *);
void mu_refs_free(struct mu_refs *);

/* SHA-256 as it stands there. */
void mu_refs_sum(const void *data, size_t n, unsigned char sha[MU_REFS_SHA]);
/* Extents of an earlier generation by their content: sorts v. */
void mu_refs_sort(struct mu_refs *);
const struct mu_refs_extent *mu_refs_find(const struct mu_refs *sorted, const unsigned char sha[MU_REFS_SHA],
                                          uint32_t bytes);

#endif
