#include "runtime/ckpt/daemon/s3.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/clean.h"
#include "runtime/ckpt/daemon/s3http.h"
#include "runtime/ckpt/daemon/sigv4.h"

#define PAGES_MAX 100000 /* a store that never says that this was the last one */

#define auto_reply __attribute__((cleanup(mu_s3_reply_free)))

#define TRIES 3 /* of a range that comes otherwise than it was encrypted */

static const struct mu_seal_keys *seal_of(const struct mu_s3 *s)
{
    const struct mu_s3_conf *c = mu_s3_conf_of(s);

    return c->seal.n ? &c->seal : NULL;
}

/* What is sent: data itself, or encrypted in *mem, for free. */
static int sealed(struct mu_s3 *s, const char *key, uint64_t at, const void **data, size_t *n, unsigned char **mem,
                  struct mu_err *err)
{
    const struct mu_seal_keys *keys = seal_of(s);
    int rc;

    if (!keys || !*n)
        return 0;
    if (!(*mem = malloc(mu_seal_size(*n))))
        return mu_err_set(err, MUSTER_ENOMEM, "no memory to encrypt %zu bytes", *n);
    if ((rc = mu_seal(keys, key, at / MU_SEAL_PIECE, *data, *n, *mem, err)))
        return rc;
    *data = *mem;
    *n = mu_seal_size(*n);
    return 0;
}

static uint64_t plain(const struct mu_s3 *s, uint64_t bytes)
{
    return seal_of(s) ? mu_seal_plain(bytes) : bytes;
}

int mu_s3_put(struct mu_s3 *s, const char *key, const void *data, size_t n, const char *meta, struct mu_err *err)
{
    auto_reply struct mu_s3_reply y = {0};
    mu_auto_free unsigned char *mem = NULL;
    int rc = sealed(s, key, 0, &data, &n, &mem, err);
    struct mu_s3_request r = {.method = "PUT", .key = key, .query = "", .body = data, .n = n, .meta = meta};

    return rc ? rc : mu_s3_perform(s, &r, &y, err);
}

/* Whole pieces are fetched; the object's last one may be shorter. */
static int get_sealed(struct mu_s3 *s, const char *key, uint64_t from, unsigned char *buf, size_t n, struct mu_err *err)
{
    uint64_t first = from / MU_SEAL_PIECE, pieces = (from + n - 1) / MU_SEAL_PIECE - first + 1;
    size_t room = (size_t)pieces * (MU_SEAL_PIECE + MU_SEAL_MORE), skip = (size_t)(from - first * MU_SEAL_PIECE), got;
    mu_auto_free unsigned char *in = malloc(room), *out = malloc(room);
    int rc = 0;

    if (!in || !out)
        return mu_err_set(err, MUSTER_ENOMEM, "no memory to decrypt %zu bytes", n);
    for (int i = 0; i < TRIES; i++) {
        auto_reply struct mu_s3_reply y = {0};
        struct mu_s3_request r = {.method = "GET",
                                  .key = key,
                                  .query = "",
                                  .ranged = true,
                                  .fewer = true,
                                  .from = first * (MU_SEAL_PIECE + MU_SEAL_MORE),
                                  .into = in,
                                  .room = room};

        if ((rc = mu_s3_perform(s, &r, &y, err)))
            return rc;
        if (!(rc = mu_unseal(seal_of(s), key, first, in, y.got, out, &got, err)) && got < skip + n)
            rc = mu_err_set(err, MUSTER_ECORRUPT, "%.300s ends before byte %" PRIu64, key, from + n);
        if (!rc)
            break;
    }
    if (!rc)
        memcpy(buf, out + skip, n);
    return rc;
}

int mu_s3_get(struct mu_s3 *s, const char *key, uint64_t from, void *buf, size_t n, struct mu_err *err)
{
    auto_reply struct mu_s3_reply y = {0};
    struct mu_s3_request r = {
        .method = "GET", .key = key, .query = "", .ranged = true, .from = from, .into = buf, .room = n};

    if (n && seal_of(s))
        return get_sealed(s, key, from, buf, n, err);
    return n ? mu_s3_perform(s, &r, &y, err) : 0;
}

int mu_s3_get_all(struct mu_s3 *s, const char *key, size_t max, unsigned char **buf, size_t *n, struct mu_err *err)
{
    auto_reply struct mu_s3_reply y = {0};
    struct mu_s3_request r = {
        .method = "GET", .key = key, .query = "", .room = seal_of(s) ? (size_t)mu_seal_size(max) : max};
    int rc = mu_s3_perform(s, &r, &y, err);

    if (rc)
        return rc;
    if (seal_of(s)) {
        mu_auto_free unsigned char *out = malloc(y.body.len + 1);
        size_t got = 0;

        if (!out)
            return mu_err_set(err, MUSTER_ENOMEM, "out of memory");
        if ((rc = mu_unseal(seal_of(s), key, 0, (const unsigned char *)y.body.data, y.body.len, out, &got, err)))
            return rc;
        out[got] = 0;
        *n = got;
        *buf = MU_STEAL(out, NULL);
        return 0;
    }
    if (mu_seal_is(y.body.data, y.body.len))
        return mu_err_set(err, MUSTER_ECORRUPT,
                          "%.300s is encrypted: name the key file (--key FILE, or key=FILE of a job)", key);
    *n = y.body.len;
    mu_buf_putc(&y.body, 0);
    *buf = (unsigned char *)mu_buf_take(&y.body);
    return *buf ? 0 : mu_err_set(err, MUSTER_ENOMEM, "out of memory");
}

int mu_s3_peek(struct mu_s3 *s, const char *key, void *buf, size_t n, size_t *got, struct mu_err *err)
{
    auto_reply struct mu_s3_reply y = {0};
    struct mu_s3_request r = {
        .method = "GET", .key = key, .query = "", .ranged = true, .fewer = true, .into = buf, .room = n};
    int rc = mu_s3_perform(s, &r, &y, err);

    if (!rc)
        *got = y.got;
    return rc;
}

int mu_s3_head(struct mu_s3 *s, const char *key, uint64_t *bytes, char meta[MU_S3_META_MAX], struct mu_err *err)
{
    auto_reply struct mu_s3_reply y = {0};
    struct mu_s3_request r = {.method = "HEAD", .key = key, .query = ""};
    int rc = mu_s3_perform(s, &r, &y, err);

    if (rc)
        return rc;
    *bytes = plain(s, y.length);
    memcpy(meta, y.meta, MU_S3_META_MAX);
    return 0;
}

int mu_s3_delete(struct mu_s3 *s, const char *key, struct mu_err *err)
{
    auto_reply struct mu_s3_reply y = {0};
    struct mu_s3_request r = {.method = "DELETE", .key = key, .query = ""};
    int rc = mu_s3_perform(s, &r, &y, err);

    return rc == MUSTER_ENOCKPT ? 0 : rc;
}

/* --- listings ----------------------------------------------------------------------------------------------------- */

void mu_s3_items_free(struct mu_s3_items *l)
{
    for (size_t i = 0; i < l->n; i++) {
        free(l->v[i].key);
        free(l->v[i].upload);
    }
    free(l->v);
    *l = (struct mu_s3_items){0};
}

/* Moves the page's items over. */
static int take_page(struct mu_s3_items *l, struct mu_s3_answer *page)
{
    struct mu_s3_item *v = page->n ? realloc(l->v, (l->n + page->n) * sizeof *v) : l->v;

    if (!page->n)
        return 0;
    if (!v)
        return MUSTER_ENOMEM;
    memcpy(v + l->n, page->items, page->n * sizeof *v);
    l->v = v;
    l->n += page->n;
    page->n = 0;
    return 0;
}

static void add_part(struct mu_buf *q, const char *name, const char *value)
{
    mu_buf_appendf(q, "%s%s=", q->len ? "&" : "", name);
    mu_sigv4_encode(q, value, true);
}

/* All pages. next: the query of the page after `last`; NULL last: of the first. */
static int pages(struct mu_s3 *s, const char *key, const char *root,
                 void (*query)(struct mu_buf *, const struct mu_s3_answer *last, const char *arg), const char *arg,
                 struct mu_s3_items *out, struct mu_err *err)
{
    struct mu_s3_items l = {0};
    struct mu_s3_answer last = {0};
    mu_auto_buf struct mu_buf before = {0};
    int rc = 0, count = 0;

    do {
        auto_reply struct mu_s3_reply y = {0};
        mu_auto_buf struct mu_buf q = {0};

        query(&q, count ? &last : NULL, arg);
        mu_s3_answer_free(&last);
        if (count && !strcmp(mu_buf_str(&q), mu_buf_str(&before))) { /* it would answer with the same page for ever */
            rc = mu_err_set(err, MUSTER_EIO, "the store's listing does not come to an end");
            break;
        }
        struct mu_s3_request r = {.method = "GET", .key = key, .query = mu_buf_str(&q), .xml = true};
        if ((rc = mu_s3_perform(s, &r, &y, err)))
            break;
        if (strcmp(y.answer.root, root))
            rc = mu_err_set(err, MUSTER_EIO, "the store answers a listing with %s", y.answer.root);
        else if (take_page(&l, &y.answer))
            rc = mu_err_set(err, MUSTER_ENOMEM, "no memory for a listing");
        else if (y.answer.more && ((!y.answer.token && !y.answer.marker) || ++count > PAGES_MAX))
            rc = mu_err_set(err, MUSTER_EIO, "the store's listing does not come to an end");
        last = MU_STEAL(y.answer, (struct mu_s3_answer){0});
        mu_buf_free(&before);
        before = MU_STEAL(q, (struct mu_buf){0});
    } while (!rc && last.more);
    mu_s3_answer_free(&last);
    if (rc) {
        mu_s3_items_free(&l);
        return rc;
    }
    *out = l;
    return 0;
}

static void list_query(struct mu_buf *q, const struct mu_s3_answer *last, const char *prefix)
{
    if (last && last->token)
        add_part(q, "continuation-token", last->token);
    add_part(q, "list-type", "2");
    add_part(q, "prefix", prefix);
}

static int by_key(const void *a, const void *b)
{
    const struct mu_s3_item *x = a, *y = b;

    return strcmp(x->key, y->key);
}

int mu_s3_list(struct mu_s3 *s, const char *prefix, struct mu_s3_items *out, struct mu_err *err)
{
    int rc = pages(s, NULL, "ListBucketResult", list_query, prefix, out, err);

    for (size_t i = 0; !rc && i < out->n; i++)
        out->v[i].bytes = plain(s, out->v[i].bytes);
    for (size_t i = 0; !rc && i < out->n; i++)
        if (!out->v[i].key) {
            mu_s3_items_free(out);
            rc = mu_err_set(err, MUSTER_EIO, "the store lists an object without a key");
        }
    if (!rc && out->n)
        qsort(out->v, out->n, sizeof *out->v, by_key);
    return rc;
}

static void uploads_query(struct mu_buf *q, const struct mu_s3_answer *last, const char *prefix)
{
    if (last && last->marker)
        add_part(q, "key-marker", last->marker);
    add_part(q, "prefix", prefix);
    if (last && last->upload_marker)
        add_part(q, "upload-id-marker", last->upload_marker);
    add_part(q, "uploads", "");
}

int mu_s3_uploads(struct mu_s3 *s, const char *prefix, struct mu_s3_items *out, struct mu_err *err)
{
    return pages(s, NULL, "ListMultipartUploadsResult", uploads_query, prefix, out, err);
}

static void parts_query(struct mu_buf *q, const struct mu_s3_answer *last, const char *upload)
{
    if (last && last->marker)
        add_part(q, "part-number-marker", last->marker);
    add_part(q, "uploadId", upload);
}

int mu_s3_parts(struct mu_s3 *s, const char *key, const char *upload, struct mu_s3_items *out, struct mu_err *err)
{
    int rc = pages(s, key, "ListPartsResult", parts_query, upload, out, err);

    for (size_t i = 0; !rc && i < out->n; i++)
        out->v[i].bytes = plain(s, out->v[i].bytes);
    return rc;
}

/* --- objects in parts --------------------------------------------------------------------------------------------- */

int mu_s3_upload_begin(struct mu_s3 *s, const char *key, const char *meta, char **upload, struct mu_err *err)
{
    auto_reply struct mu_s3_reply y = {0};
    struct mu_s3_request r = {.method = "POST", .key = key, .query = "uploads=", .body = "", .meta = meta, .xml = true};
    int rc = mu_s3_perform(s, &r, &y, err);

    if (rc)
        return rc;
    if (!y.answer.upload || !*y.answer.upload)
        return mu_err_set(err, MUSTER_EIO, "the store begins an upload without a name");
    *upload = MU_STEAL(y.answer.upload, NULL);
    return 0;
}

int mu_s3_upload_part(struct mu_s3 *s, const char *key, const char *upload, uint32_t part, uint64_t at,
                      const void *data, size_t n, char etag[MU_S3_ETAG_MAX], struct mu_err *err)
{
    auto_reply struct mu_s3_reply y = {0};
    mu_auto_buf struct mu_buf q = {0};
    mu_auto_free unsigned char *mem = NULL;
    int rc = sealed(s, key, at, &data, &n, &mem, err);

    if (rc)
        return rc;

    mu_buf_appendf(&q, "partNumber=%u", part);
    add_part(&q, "uploadId", upload);
    struct mu_s3_request r = {.method = "PUT", .key = key, .query = mu_buf_str(&q), .body = data, .n = n};
    if ((rc = mu_s3_perform(s, &r, &y, err)))
        return rc;
    if (!y.etag[0])
        return mu_err_set(err, MUSTER_EIO, "the store takes a part of %.300s without an ETag", key);
    memcpy(etag, y.etag, MU_S3_ETAG_MAX);
    return 0;
}

int mu_s3_upload_end(struct mu_s3 *s, const char *key, const char *upload, char (*etags)[MU_S3_ETAG_MAX], uint32_t n,
                     struct mu_err *err)
{
    auto_reply struct mu_s3_reply y = {0};
    mu_auto_buf struct mu_buf q = {0}, body = {0};

    mu_buf_puts(&body, "<CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">");
    for (uint32_t i = 0; i < n; i++)
        mu_buf_appendf(&body, "<Part><PartNumber>%u</PartNumber><ETag>\"%s\"</ETag></Part>", i + 1, etags[i]);
    mu_buf_puts(&body, "</CompleteMultipartUpload>");
    add_part(&q, "uploadId", upload);
    if (q.failed || body.failed)
        return mu_err_set(err, MUSTER_ENOMEM, "out of memory");
    struct mu_s3_request r = {.method = "POST",
                              .key = key,
                              .query = mu_buf_str(&q),
                              .body = mu_buf_str(&body),
                              .n = body.len,
                              .xml = true,
                              .slow = true};
    return mu_s3_perform(s, &r, &y, err);
}

int mu_s3_upload_abort(struct mu_s3 *s, const char *key, const char *upload, struct mu_err *err)
{
    auto_reply struct mu_s3_reply y = {0};
    mu_auto_buf struct mu_buf q = {0};
    int rc;

    add_part(&q, "uploadId", upload);
    struct mu_s3_request r = {.method = "DELETE", .key = key, .query = mu_buf_str(&q)};
    rc = mu_s3_perform(s, &r, &y, err);
    return rc == MUSTER_ENOCKPT ? 0 : rc;
}
