/* Incremental generations of an object store: extents that an earlier one has are not sent again. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/clean.h"
#include "runtime/base/crc32c.h"
#include "runtime/ckpt/daemon/remote_priv.h"

#define TRIES 3 /* of a range that comes with other bytes than were stored */
#define LOOK 64 /* extents between two looks whether to go on */
#define REFS_MAX (1ull << 30)

static struct mu_remote_key key_of(const struct mu_remote *r, const struct mu_refs_holder *h, const char *kind,
                                   uint32_t rank)
{
    char name[24];

    snprintf(name, sizeof name, "%s.%u", kind, rank);
    return mu_remote_key(r, h->generation, h->epoch, h->nonce, name);
}

static struct mu_refs_holder self_of(const struct mu_ckpt_id *id)
{
    return (struct mu_refs_holder){.generation = id->generation, .epoch = id->epoch, .nonce = id->nonce};
}

static bool same(const struct mu_refs_holder *a, const struct mu_refs_holder *b)
{
    return a->generation == b->generation && a->epoch == b->epoch && a->nonce == b->nonce;
}

int mu_remote_refs(struct mu_remote *r, const struct mu_refs_holder *g, uint32_t rank, struct mu_refs *out,
                   struct mu_err *err)
{
    struct mu_remote_key key = key_of(r, g, "ref", rank);
    mu_auto_free unsigned char *buf = NULL;
    struct mu_refs refs;
    size_t n;
    int rc = mu_s3_get_all(r->s, key.s, REFS_MAX, &buf, &n, err);

    if (rc)
        return rc;
    if ((rc = mu_refs_decode(buf, n, &refs, err))) {
        mu_err_prefix(err, "s3://%s/%.300s", r->conf.bucket, key.s);
        return rc;
    }
    if (!same(&refs.self, g) || refs.rank != rank) {
        mu_refs_free(&refs);
        return mu_err_set(err, MUSTER_ECORRUPT, "s3://%s/%.300s is of another generation or rank", r->conf.bucket,
                          key.s);
    }
    *out = refs;
    return 0;
}

/* That it speaks of this manifest's extents. */
static int fits(const struct mu_refs *refs, const struct mu_ckpt_manifest *m, const struct mu_ckpt_extent *sorted)
{
    if (refs->n != m->nextents || refs->manifest != m->crc)
        return -1;
    for (size_t i = 0; i < refs->n; i++)
        if (refs->v[i].bytes != sorted[i].bytes)
            return -1;
    return 0;
}

/* --- sending ------------------------------------------------------------------------------------------------------ */

/* The own extents of a rank, one after the other, as parts of one object. */
struct pack {
    const struct mu_remote_inc *inc;
    struct mu_remote_key key;
    char *upload;
    char (*etags)[MU_S3_ETAG_MAX];
    uint32_t nparts, room;
    unsigned char *buf; /* of a lane; NULL: none is taken */
    size_t used;
    uint64_t own;
};
struct part {
    struct mu_remote_meter *meter;
    const char *key, *upload; /* upload NULL: all of the object */
    char *etag;
    uint32_t number;
    uint64_t at;
    size_t n;
};

static int send_part(struct mu_s3 *s, unsigned char *buf, void *arg, struct mu_err *err)
{
    struct part *p = arg;
    int rc = p->upload ? mu_s3_upload_part(s, p->key, p->upload, p->number, p->at, buf, p->n, p->etag, err)
                       : mu_s3_put(s, p->key, buf, p->n, NULL, err);

    if (!rc) {
        atomic_fetch_add(&p->meter->moved, p->n);
        atomic_fetch_add(&p->meter->done, p->n);
    }
    return rc;
}

static int flush(struct pack *k, bool last, struct mu_err *err)
{
    struct part part = {
        .meter = k->inc->meter, .key = k->key.s, .number = k->nparts + 1, .at = k->nparts * k->inc->part, .n = k->used};
    int rc;

    if (!k->buf)
        return 0;
    if (!last && !k->upload && (rc = mu_s3_upload_begin(k->inc->r->s, k->key.s, NULL, &k->upload, err)))
        return rc;
    if (k->upload && k->nparts == k->room)
        return mu_err_set(err, MUSTER_EIO, "s3://%s/%.300s has too many parts", k->inc->r->conf.bucket, k->key.s);
    part.upload = k->upload;
    part.etag = k->upload ? k->etags[k->nparts++] : NULL;
    mu_lanes_give(k->inc->lanes, send_part, &part, sizeof part);
    k->buf = NULL;
    k->used = 0;
    return 0;
}

static int append(struct pack *k, const unsigned char *data, size_t n, struct mu_err *err)
{
    int rc;

    k->own += n;
    while (n) {
        size_t take = k->inc->part - k->used < n ? (size_t)(k->inc->part - k->used) : n;

        if (!k->buf && (rc = mu_lanes_take(k->inc->lanes, &k->buf, err)))
            return rc;
        memcpy(k->buf + k->used, data, take);
        k->used += take;
        data += take;
        n -= take;
        if (k->used == k->inc->part && (rc = flush(k, false, err)))
            return rc;
    }
    return 0;
}

static int finish(struct pack *k, struct mu_err *err)
{
    int rc = flush(k, true, err), late = mu_lanes_wait(k->inc->lanes, rc ? NULL : err);
    uint64_t bytes;

    rc = rc ? rc : late;
    if (rc || !k->upload)
        return rc;
    rc = mu_s3_upload_end(k->inc->r->s, k->key.s, k->upload, k->etags, k->nparts, err);
    /* the answer of a request that went well may be lost, and the next one then finds no upload */
    if (rc == MUSTER_ENOCKPT && mu_s3_head(k->inc->r->s, k->key.s, &bytes, (char[MU_S3_META_MAX]){0}, NULL) == 0 &&
        bytes == k->own)
        return 0;
    return rc == MUSTER_ENOCKPT
               ? mu_err_set(err, MUSTER_EIO, "s3://%s/%.300s: its upload is gone", k->inc->r->conf.bucket, k->key.s)
               : rc;
}

/* All of the segment: what the base has is referred to, the rest is packed. */
static int walk(const struct mu_remote_inc *inc, const struct mu_ckpt_manifest *m, const struct mu_ckpt_extent *sorted,
                const struct mu_refs *base, struct mu_refs *refs, struct pack *k, struct mu_err *err)
{
    struct mu_ckpt_path path = mu_ckpt_path("%s/seg.%u", inc->gendir, m->rank);
    mu_auto_fd int fd = open(path.s, O_RDONLY | O_CLOEXEC);
    mu_auto_free unsigned char *data = malloc(MU_CKPT_EXTENT_MAX);
    int rc = 0;

    if (fd < 0)
        return mu_err_errno(err, MUSTER_EIO, "open %s", path.s);
    if (!data)
        return mu_err_set(err, MUSTER_ENOMEM, "out of memory");
    for (size_t i = 0; i < m->nextents && !rc; i++) {
        struct mu_refs_extent *e = &refs->v[i];
        const struct mu_refs_extent *old;

        if ((rc = mu_ckpt_read_all(fd, data, sorted[i].bytes, sorted[i].file, path.s, err)))
            break;
        if (mu_crc32c(0, data, sorted[i].bytes) != sorted[i].crc)
            return mu_err_set(err, MUSTER_ECORRUPT, "%s is damaged at byte %" PRIu64, path.s, sorted[i].file);
        e->bytes = sorted[i].bytes;
        mu_refs_sum(data, e->bytes, e->sha);
        if ((old = mu_refs_find(base, e->sha, e->bytes))) {
            e->at = old->at;
            e->holder = old->holder ? old->holder + 1 : 1; /* the base itself stands before its holders */
            atomic_fetch_add(&inc->meter->there, e->bytes);
        } else {
            e->at = k->own;
            rc = append(k, data, e->bytes, err);
        }
        if (!rc && i % LOOK == 0 && inc->meter->way->bytes && inc->meter->way->bytes(inc->meter->way->arg, 0))
            rc = mu_err_set(err, MUSTER_EABORTED, "given up");
    }
    return rc;
}

/* An earlier try has got as far as this. */
static bool there_already(const struct mu_remote_inc *inc, const struct mu_refs *want, const struct mu_ckpt_manifest *m,
                          const struct mu_ckpt_extent *sorted)
{
    struct mu_remote_key ref = key_of(inc->r, &want->self, "ref", m->rank),
                         own = key_of(inc->r, &want->self, "inc", m->rank);
    const struct mu_s3_item *item = mu_remote_find(inc->items, own.s);
    struct mu_refs refs;
    bool whole;

    if (!mu_remote_find(inc->items, ref.s) || mu_remote_sealed_alike(inc->r, ref.s, &whole, NULL) || !whole ||
        (item && (mu_remote_sealed_alike(inc->r, own.s, &whole, NULL) || !whole)) ||
        mu_remote_refs(inc->r, &want->self, m->rank, &refs, NULL))
        return false;
    whole = !fits(&refs, m, sorted) && refs.nholders == want->nholders && (item ? item->bytes : 0) == refs.own;
    for (uint32_t i = 0; whole && i < refs.nholders; i++)
        whole = same(&refs.holders[i], &want->holders[i]);
    mu_refs_free(&refs);
    return whole;
}

static int holders_of(const struct mu_remote_generation *base, struct mu_refs *refs, struct mu_err *err)
{
    if (!base)
        return 0;
    if (!(refs->holders = calloc(base->nholders + 1u, sizeof *refs->holders)))
        return mu_err_set(err, MUSTER_ENOMEM, "out of memory");
    refs->holders[0] = self_of(&base->commit.id);
    for (uint32_t i = 0; i < base->nholders; i++)
        refs->holders[i + 1] = base->holders[i];
    refs->nholders = base->nholders + 1;
    return 0;
}

int mu_remote_inc_push(const struct mu_remote_inc *inc, const struct mu_ckpt_manifest *m, struct mu_err *err)
{
    struct mu_refs refs = {.self = self_of(&m->id), .rank = m->rank, .manifest = m->crc, .n = m->nextents}, base = {0};
    struct pack k = {.inc = inc, .key = key_of(inc->r, &refs.self, "inc", m->rank)};
    struct mu_remote_key ref = key_of(inc->r, &refs.self, "ref", m->rank);
    mu_auto_free struct mu_ckpt_extent *sorted = mu_remote_sorted(m);
    mu_auto_free unsigned char *buf = NULL;
    size_t n;
    int rc = 0;

    k.room = (uint32_t)(m->segment / inc->part) + 2;
    refs.v = calloc(refs.n + 1, sizeof *refs.v);
    k.etags = calloc(k.room, sizeof *k.etags);
    if (!sorted || !refs.v || !k.etags)
        rc = mu_err_set(err, MUSTER_ENOMEM, "out of memory");
    if (rc || (rc = holders_of(inc->base, &refs, err)) || there_already(inc, &refs, m, sorted))
        goto out;
    if (inc->base) {
        struct mu_refs_holder b = self_of(&inc->base->commit.id);

        if ((rc = mu_remote_refs(inc->r, &b, m->rank, &base, err)))
            goto out;
        mu_refs_sort(&base);
    }
    if (!(rc = walk(inc, m, sorted, &base, &refs, &k, err)))
        rc = finish(&k, err);
    else
        mu_lanes_wait(inc->lanes, NULL); /* who works uses what is freed here */
    refs.own = k.own;
    if (!rc && !(rc = mu_refs_encode(&refs, &buf, &n, err)))
        rc = mu_s3_put(inc->r->s, ref.s, buf, n, NULL, err);
out:
    free(k.upload);
    free(k.etags);
    mu_refs_free(&refs);
    mu_refs_free(&base);
    return rc;
}

int mu_remote_inc_check(struct mu_remote *r, const struct mu_remote_generation *base, struct mu_err *err)
{
    struct mu_refs all = {0};
    int rc = holders_of(base, &all, err);

    for (uint32_t i = 0; !rc && i < all.nholders; i++) {
        const struct mu_refs_holder *h = &all.holders[i];
        uint64_t bytes;

        rc = mu_s3_head(r->s, mu_remote_key(r, h->generation, h->epoch, h->nonce, "COMMIT").s, &bytes,
                        (char[MU_S3_META_MAX]){0}, err);
        if (rc == MUSTER_ENOCKPT)
            rc = mu_err_set(err, MUSTER_EIO, "generation %" PRIu64 ", on which this one builds, has been removed",
                            h->generation);
    }
    mu_refs_free(&all);
    return rc;
}

/* --- reading ------------------------------------------------------------------------------------------------------ */

struct range {
    struct mu_remote_meter *meter;
    const char *key, *path;
    const struct mu_refs_extent *v;
    const struct mu_ckpt_extent *e;
    size_t n, bytes;
    int fd; /* -1: nothing is kept */
};

static bool have_all(const struct range *g, unsigned char *buf)
{
    for (size_t i = 0; g->fd >= 0 && i < g->n; i++)
        if (mu_ckpt_read_all(g->fd, buf, g->e[i].bytes, g->e[i].file, g->path, NULL) ||
            mu_crc32c(0, buf, g->e[i].bytes) != g->e[i].crc)
            return false;
    return g->fd >= 0;
}

static const struct mu_ckpt_extent *damaged(const struct range *g, const unsigned char *buf)
{
    for (size_t i = 0; i < g->n; i++)
        if (mu_crc32c(0, buf + (g->v[i].at - g->v[0].at), g->e[i].bytes) != g->e[i].crc)
            return &g->e[i];
    return NULL;
}

static int read_range(struct mu_s3 *s, unsigned char *buf, void *arg, struct mu_err *err)
{
    struct range *g = arg;
    const struct mu_ckpt_extent *bad;
    int rc = 0, tries = 0;

    if (have_all(g, buf)) {
        atomic_fetch_add(&g->meter->there, g->bytes);
        atomic_fetch_add(&g->meter->done, g->bytes);
        return 0;
    }
    do {
        if ((rc = mu_s3_get(s, g->key, g->v[0].at, buf, g->bytes, err)))
            return rc == MUSTER_ENOCKPT ? MUSTER_ECORRUPT : rc;
        atomic_fetch_add(&g->meter->moved, g->bytes);
    } while ((bad = damaged(g, buf)) && ++tries < TRIES);
    if (bad)
        return mu_err_set(err, MUSTER_ECORRUPT, "%.300s in the store is damaged (byte %" PRIu64 " of the segment)",
                          g->key, bad->file);
    for (size_t i = 0; g->fd >= 0 && i < g->n && !rc; i++)
        rc = mu_ckpt_write_all(&mu_ckpt_io_posix, g->fd, buf + (g->v[i].at - g->v[0].at), g->e[i].bytes,
                               (off_t)g->e[i].file, g->path, err);
    if (!rc)
        atomic_fetch_add(&g->meter->done, g->bytes);
    return rc;
}

static int read_all(struct mu_lanes *lanes, struct range g, const struct mu_refs *refs,
                    const struct mu_ckpt_extent *sorted, const struct mu_remote_key *keys, struct mu_err *err)
{
    int rc = 0, late;

    for (size_t i = 0; i < refs->n && !rc; i += g.n) {
        const struct mu_refs_extent *v = &refs->v[i];
        unsigned char *buf;

        g.v = v;
        g.e = &sorted[i];
        g.key = keys[v->holder].s;
        g.bytes = v->bytes;
        for (g.n = 1; i + g.n < refs->n && v[g.n].holder == v->holder && v[g.n].at == v->at + g.bytes &&
                      g.bytes + v[g.n].bytes <= MU_REMOTE_CHUNK;
             g.n++)
            g.bytes += v[g.n].bytes;
        if (!(rc = mu_lanes_take(lanes, &buf, err)))
            mu_lanes_give(lanes, read_range, &g, sizeof g);
    }
    late = mu_lanes_wait(lanes, rc ? NULL : err);
    return rc ? rc : late;
}

int mu_remote_inc_read(struct mu_remote *r, struct mu_lanes *lanes, struct mu_remote_meter *meter,
                       const struct mu_ckpt_manifest *m, int fd, const char *path, struct mu_err *err)
{
    struct mu_refs_holder self = self_of(&m->id);
    mu_auto_free struct mu_ckpt_extent *sorted = mu_remote_sorted(m);
    mu_auto_free struct mu_remote_key *keys = NULL;
    unsigned char super[MU_CKPT_PAGE];
    struct mu_refs refs = {0};
    int rc = mu_remote_refs(r, &self, m->rank, &refs, err);

    if (rc)
        return rc == MUSTER_ENOCKPT ? MUSTER_ECORRUPT : rc;
    if (!sorted || !(keys = calloc(refs.nholders + 1u, sizeof *keys))) {
        rc = mu_err_set(err, MUSTER_ENOMEM, "out of memory");
    } else if (fits(&refs, m, sorted)) {
        rc = mu_err_set(err, MUSTER_ECORRUPT, "the references of rank %u are not those of its manifest", m->rank);
    } else {
        keys[0] = key_of(r, &self, "inc", m->rank);
        for (uint32_t i = 0; i < refs.nholders; i++)
            keys[i + 1] = key_of(r, &refs.holders[i], "inc", m->rank);
        rc = read_all(lanes, (struct range){.meter = meter, .path = path, .fd = fd}, &refs, sorted, keys, err);
    }
    if (!rc && fd >= 0) {
        mu_ckpt_super_encode(&(struct mu_ckpt_super){.id = m->id, .rank = m->rank, .segment = m->segment}, super);
        rc = mu_ckpt_write_all(&mu_ckpt_io_posix, fd, super, sizeof super, 0, path, err);
    }
    mu_refs_free(&refs);
    return rc;
}
