/* An object store by HTTP: single requests of S3, path style, signed. One connection, for one thread at a time.
 *
 * What fails in a way that may pass (5xx, 429, no connection, a cut or stalled one, an answer that is not whole) is
 * tried again, with growing pauses, until it has failed for conf.patience. A connection over which less than 1 KiB/s
 * goes is given up and counts as failed. What cannot pass (403, 404) is said at once.
 *   ENOCKPT  no such object
 *   ENOSYS   muster was built without libcurl, or this host has none
 *   EIO      all else; the text has the object, the request and what the store said */
#ifndef MU_CKPT_S3_H
#define MU_CKPT_S3_H

#include "runtime/ckpt/daemon/s3conf.h"
#include "runtime/ckpt/daemon/s3xml.h"

#define MU_S3_META_MAX 120
#define MU_S3_ETAG_MAX 72

struct mu_s3;

/* conf stays the caller's and must outlive it. */
int mu_s3_open(const struct mu_s3_conf *conf, struct mu_s3 **, struct mu_err *);
void mu_s3_close(struct mu_s3 *); /* NULL is fine */
/* Requests that were made again so far. */
uint64_t mu_s3_retries(const struct mu_s3 *);

/* With conf.seal all objects are encrypted (seal.h), and lengths are those of what they hold. Keys are whole, not below
 * the prefix. meta: kept with the object as x-amz-meta-muster, NULL: none. */
int mu_s3_put(struct mu_s3 *, const char *key, const void *data, size_t n, const char *meta, struct mu_err *);
/* Exactly n bytes from an offset on. ECORRUPT: the object ends before. */
int mu_s3_get(struct mu_s3 *, const char *key, uint64_t from, void *buf, size_t n, struct mu_err *);
/* All of it, malloc'ed, with a 0 behind. ECORRUPT: longer than max. */
int mu_s3_get_all(struct mu_s3 *, const char *key, size_t max, unsigned char **buf, size_t *n, struct mu_err *);
/* The first bytes of an object as they lie there, encrypted or not: as many as it has, at most n. */
int mu_s3_peek(struct mu_s3 *, const char *key, void *buf, size_t n, size_t *got, struct mu_err *);
int mu_s3_head(struct mu_s3 *, const char *key, uint64_t *bytes, char meta[MU_S3_META_MAX], struct mu_err *);
/* One that is gone already is fine. */
int mu_s3_delete(struct mu_s3 *, const char *key, struct mu_err *);

struct mu_s3_items { /* of all pages */
    struct mu_s3_item *v;
    size_t n;
};
void mu_s3_items_free(struct mu_s3_items *);
/* Objects whose keys begin with the prefix, in the order of their keys. */
int mu_s3_list(struct mu_s3 *, const char *prefix, struct mu_s3_items *, struct mu_err *);

/* An object in parts, each but the last one of 5 MiB or more, at most 10000. */
int mu_s3_upload_begin(struct mu_s3 *, const char *key, const char *meta, char **upload, struct mu_err *);
/* at: its offset in the object; with encryption a multiple of MU_SEAL_PIECE. */
int mu_s3_upload_part(struct mu_s3 *, const char *key, const char *upload, uint32_t part, uint64_t at, const void *,
                      size_t n, char etag[MU_S3_ETAG_MAX], struct mu_err *);
/* Parts 1..n. ENOCKPT: there is no such upload; a repeated request may have found it done. */
int mu_s3_upload_end(struct mu_s3 *, const char *key, const char *upload, char (*etags)[MU_S3_ETAG_MAX], uint32_t n,
                     struct mu_err *);
int mu_s3_upload_abort(struct mu_s3 *, const char *key, const char *upload, struct mu_err *);
/* Uploads that are not finished, of keys with the prefix; and what there is of one. */
int mu_s3_uploads(struct mu_s3 *, const char *prefix, struct mu_s3_items *, struct mu_err *);
int mu_s3_parts(struct mu_s3 *, const char *key, const char *upload, struct mu_s3_items *, struct mu_err *);

#endif
