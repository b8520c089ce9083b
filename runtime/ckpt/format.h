/* The files of a checkpoint, version 1, as docs/formats.md describes them: what they hold, to bytes and back. Decoders
 * trust nothing: they take any bytes and give a value that is consistent in itself, or
 *   ECORRUPT  damaged or not such a file,
 *   EVERSION  intact, but written by a newer version. */
#ifndef MU_CKPT_FORMAT_H
#define MU_CKPT_FORMAT_H

#include "runtime/ckpt/tensor.h"

#define MU_CKPT_VERSION 1u
#define MU_CKPT_PAGE 4096u            /* alignment of extents in a segment; size of its superblock */
#define MU_CKPT_EXTENT (1u << 20)     /* what the writer cuts to */
#define MU_CKPT_EXTENT_MAX (1u << 22) /* what the reader accepts */
#define MU_CKPT_MANIFEST_MAX (1ull << 30)
#define MU_CKPT_JOB_MAX 255
#define MU_CKPT_HOST_MAX 64
#define MU_CKPT_WORLD_MAX (1u << 24)

/* Which save a file belongs to. */
struct mu_ckpt_id {
    uint64_t generation;
    uint64_t epoch; /* number of the opening of the directory that wrote it, and its random mark */
    uint64_t nonce;
    uint64_t step;
    uint32_t world, attempt;
};

struct mu_ckpt_extent {
    uint64_t at;   /* byte offset in the tensor's block */
    uint64_t file; /* byte offset in the segment */
    uint32_t bytes, crc;
};

/* A tensor's block as one rank stored it. Of a replicated tensor the block is the whole, and the extents are the rank's
 * share of it; otherwise the extents are all of the block. Ascending, without overlap. */
struct mu_ckpt_block {
    char *name; /* first: for mu_ckpt_names */
    struct mu_ckpt_shape shape;
    size_t first, n; /* of the manifest's extents */
};

struct mu_ckpt_manifest {
    struct mu_ckpt_id id;
    uint32_t rank;
    uint64_t segment; /* bytes of the segment file */
    struct mu_ckpt_block *blocks;
    size_t nblocks;
    struct mu_ckpt_extent *extents;
    size_t nextents;
    uint32_t crc; /* of the encoded file, and its size: set by encode and decode */
    uint64_t bytes;
};

/* Lays out what `rank` of `world` stores: whole blocks of its own, and its share of the replicated tensors. Extent CRCs
 * are left 0. Free with mu_ckpt_manifest_free. */
int mu_ckpt_manifest_plan(const struct mu_ckpt_tensors *, uint32_t rank, uint32_t world, struct mu_ckpt_manifest *,
                          struct mu_err *);
/* *out is malloc'ed, m->bytes long. */
int mu_ckpt_manifest_encode(struct mu_ckpt_manifest *, unsigned char **out, struct mu_err *);
int mu_ckpt_manifest_decode(const unsigned char *, size_t n, struct mu_ckpt_manifest *, struct mu_err *);
void mu_ckpt_manifest_free(struct mu_ckpt_manifest *);

struct mu_ckpt_super {
    struct mu_ckpt_id id;
    uint32_t rank;
    uint64_t segment;
};
void mu_ckpt_super_encode(const struct mu_ckpt_super *, unsigned char out[MU_CKPT_PAGE]);
int mu_ckpt_super_decode(const unsigned char in[MU_CKPT_PAGE], struct mu_ckpt_super *, struct mu_err *);

struct mu_ckpt_vote {
    uint64_t manifest, segment; /* bytes */
    uint32_t crc;               /* of the manifest */
};
struct mu_ckpt_commit {
    struct mu_ckpt_id id;
    uint64_t wall; /* CLOCK_REALTIME ns */
    char job[MU_CKPT_JOB_MAX + 1];
    struct mu_ckpt_vote *votes; /* id.world of them */
};
int mu_ckpt_commit_encode(const struct mu_ckpt_commit *, unsigned char **out, size_t *n, struct mu_err *);
/* Allocates votes; free them. */
int mu_ckpt_commit_decode(const unsigned char *, size_t n, struct mu_ckpt_commit *, struct mu_err *);

struct mu_ckpt_epoch {
    uint64_t epoch, nonce, wall;
    uint32_t attempt;
    char job[MU_CKPT_JOB_MAX + 1];
};
#define MU_CKPT_EPOCH_BYTES 512
void mu_ckpt_epoch_encode(const struct mu_ckpt_epoch *, unsigned char out[MU_CKPT_EPOCH_BYTES]);
int mu_ckpt_epoch_decode(const unsigned char *, size_t n, struct mu_ckpt_epoch *, struct mu_err *);

/* Who uses a directory, and that it lives. */
struct mu_ckpt_owner_record {
    uint64_t job_mark; /* the same in all attempts of a job, and in no other job */
    uint64_t mark;     /* of this taking */
    uint64_t beat;     /* grows while the owner lives */
    uint64_t wall;     /* of the last beat, CLOCK_REALTIME ns */
    uint64_t device;   /* st_dev of the file, as the owner sees it */
    uint32_t pid, attempt;
    bool open;              /* false: given back */
    bool locked;            /* it holds the lock: when that is free it is dead */
    unsigned char boot[16]; /* of the owner's kernel; zeros: not known */
    char job[MU_CKPT_JOB_MAX + 1], host[MU_CKPT_HOST_MAX + 1];
};
#define MU_CKPT_OWNER_BYTES 512
void mu_ckpt_owner_encode(const struct mu_ckpt_owner_record *, unsigned char out[MU_CKPT_OWNER_BYTES]);
int mu_ckpt_owner_decode(const unsigned char *, size_t n, struct mu_ckpt_owner_record *, struct mu_err *);

#endif
