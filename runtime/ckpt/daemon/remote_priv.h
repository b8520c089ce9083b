/* Shared by remote.c, remote_push.c, remote_pull.c and remote_inc.c. */
#ifndef MU_CKPT_REMOTE_PRIV_H
#define MU_CKPT_REMOTE_PRIV_H

#include "runtime/ckpt/daemon/lanes.h"
#include "runtime/ckpt/daemon/remote.h"

struct mu_remote {
    struct mu_s3_conf conf;
    struct mu_s3 *s;
    bool fits; /* the keys have been compared with what is there */
};

struct mu_remote_key {
    char s[MU_S3_KEY_MAX];
};
/* "PREFIX/g<N>.a<epoch>.<nonce>/NAME" */
struct mu_remote_key mu_remote_key(const struct mu_remote *, uint64_t generation, uint64_t epoch, uint64_t nonce,
                                   const char *name);
/* Whether the key is one of ours: sets what is in it; *name points behind the last '/'. */
bool mu_remote_key_parse(const struct mu_remote *, const char *key, uint64_t *generation, uint64_t *epoch,
                         uint64_t *nonce, const char **name);
/* In a sorted list; NULL: not there. */
const struct mu_s3_item *mu_remote_find(const struct mu_s3_items *, const char *key);
/* That all that was committed is listed with its length. */
int mu_remote_check(const struct mu_remote *, const struct mu_ckpt_commit *, const struct mu_s3_items *,
                    struct mu_err *);

/* Whether what the store has under a key is encrypted with the key that writes, or not at all if nothing is to be: what
 * an earlier push has left may be otherwise. */
int mu_remote_sealed_alike(struct mu_remote *, const char *key, bool *alike, struct mu_err *);

/* Extents in the order of the segment; malloc'ed, also when there are none. NULL: out of memory. */
struct mu_ckpt_extent *mu_remote_sorted(const struct mu_ckpt_manifest *);
/* Progress, told by the lanes and passed on by the caller's thread. */
struct mu_remote_meter {
    const struct mu_remote_way *way;
    _Atomic uint64_t done, moved, there;
    uint64_t told;
};
int mu_remote_tick(void *meter);

/* A segment as ranges of extents, each read by a lane and compared with its CRCs. With a file it is written there, and
 * what the file has already is left alone. */
int mu_remote_read_segment(struct mu_lanes *, struct mu_remote_meter *, const char *key,
                           const struct mu_ckpt_manifest *, int fd, const char *path, struct mu_err *);
/* All segments of a generation, and its manifests; nothing is kept. */
int mu_remote_read_all(struct mu_remote *, const struct mu_ckpt_commit *, bool incremental, struct mu_lanes *,
                       struct mu_remote_meter *, struct mu_err *);

/* --- incremental generations: remote_inc.c --- */

/* Sending one. */
struct mu_remote_inc {
    struct mu_remote *r;
    struct mu_lanes *lanes;
    struct mu_remote_meter *meter;
    const char *gendir;
    const struct mu_s3_items *items;         /* what the store has of it */
    uint64_t part;                           /* bytes; the lanes' buffers are as large */
    const struct mu_remote_generation *base; /* NULL: a full one */
};
int mu_remote_inc_push(const struct mu_remote_inc *, const struct mu_ckpt_manifest *, struct mu_err *);
/* That what it builds on is still there. */
int mu_remote_inc_check(struct mu_remote *, const struct mu_remote_generation *base, struct mu_err *);
/* As mu_remote_read_segment. */
int mu_remote_inc_read(struct mu_remote *, struct mu_lanes *, struct mu_remote_meter *, const struct mu_ckpt_manifest *,
                       int fd, const char *path, struct mu_err *);
/* ref.<rank>; ENOCKPT: it is no incremental one. */
int mu_remote_refs(struct mu_remote *, const struct mu_refs_holder *, uint32_t rank, struct mu_refs *, struct mu_err *);
#define MU_REMOTE_CHUNK (16u << 20) /* of what is read at once; lanes that read need such a buffer */

#endif
