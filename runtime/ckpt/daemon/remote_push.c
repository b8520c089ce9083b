/* A generation of a directory into an object store. */
#include "runtime/ckpt/daemon/remote_priv.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/clean.h"
#include "runtime/base/crc32c.h"
#include "runtime/ckpt/agree.h"
#include "runtime/ckpt/daemon/sigv4.h"
#include "runtime/ckpt/verify.h"

#define PARTS_MAX 9000u /* a store takes 10000 */
#define MIB (1ull << 20)

struct push {
    struct mu_remote *r;
    const char *gendir;
    const struct mu_remote_way *way;
    struct mu_ckpt_commit commit;
    struct mu_s3_items items, uploads;
    struct mu_remote_meter meter;
    struct mu_lanes *lanes;
    size_t buffer;
};

/* Follows a segment in its order and compares every extent, across whatever pieces it comes in. */
struct check {
    struct mu_ckpt_extent *v;
    size_t n, i;
    uint32_t crc, done;
};

/* 0, or 1 with the place of the damage. */
static int check_feed(struct check *c, uint64_t at, const unsigned char *buf, size_t n, uint64_t *damage)
{
    while (c->i < c->n) {
        const struct mu_ckpt_extent *e = &c->v[c->i];
        uint64_t from = e->file + c->done;
        size_t take;

        if (from >= at + n)
            break;
        *damage = e->file;
        if (from < at) /* two of them share bytes: no writer makes that */
            return 1;
        take = e->bytes - c->done < at + n - from ? e->bytes - c->done : (size_t)(at + n - from);
        c->crc = mu_crc32c(c->crc, buf + (from - at), take);
        c->done += (uint32_t)take;
        if (c->done < e->bytes)
            break;
        if (c->crc != e->crc)
            return 1;
        c->i++;
        c->crc = c->done = 0;
    }
    return 0;
}

/* --- work of a lane ----------------------------------------------------------------------------------------------- */

struct whole {
    struct mu_remote_key key;
    char meta[MU_S3_META_MAX];
};
struct piece {
    struct mu_remote_meter *meter;
    struct whole *whole; /* an object of its own, the lane's to free; or NULL, and a part: */
    const char *key, *upload;
    char *etag; /* set; beforehand what the store has of it, or "" */
    uint32_t part;
    uint64_t at;
    size_t n;
};

static int send_piece(struct mu_s3 *s, unsigned char *buf, void *arg, struct mu_err *err)
{
    struct piece *p = arg;
    char digest[33];
    int rc = 0;

    if (!p->whole && p->etag[0] && mu_sigv4_md5(buf, p->n, digest) == 0 && !strcmp(digest, p->etag)) {
        atomic_fetch_add(&p->meter->there, p->n);
    } else {
        rc = p->whole ? mu_s3_put(s, p->whole->key.s, buf, p->n, p->whole->meta, err)
                      : mu_s3_upload_part(s, p->key, p->upload, p->part, p->at, buf, p->n, p->etag, err);
        if (!rc)
            atomic_fetch_add(&p->meter->moved, p->n);
    }
    free(p->whole);
    if (!rc)
        atomic_fetch_add(&p->meter->done, p->n);
    return rc;
}

/* --- a segment ---------------------------------------------------------------------------------------------------- */

struct segment {
    struct mu_remote_key key;
    struct mu_ckpt_path path;
    char meta[MU_S3_META_MAX]; /* says which segment it is, so that a complete one is known without being read */
    char *upload;
    char (*etags)[MU_S3_ETAG_MAX];
    uint64_t bytes, part;
    uint32_t nparts;
};

static void segment_free(struct segment *g)
{
    free(g->upload);
    free(g->etags);
}

static uint64_t part_size(uint64_t bytes, uint64_t wish)
{
    uint64_t least = (bytes / PARTS_MAX + MIB) / MIB * MIB;

    wish = (wish + MIB - 1) / MIB * MIB; /* whole pieces of encryption */

    return wish > least ? wish : least;
}

static int is_there(struct push *p, const struct segment *g, bool *there, struct mu_err *err)
{
    const struct mu_s3_item *item = mu_remote_find(&p->items, g->key.s);
    char meta[MU_S3_META_MAX];
    uint64_t bytes;
    int rc = 0;

    *there = false;
    if (!item || item->bytes != g->bytes)
        return 0;
    rc = mu_s3_head(p->r->s, g->key.s, &bytes, meta, err);
    if (rc == MUSTER_ENOCKPT)
        return 0;
    if (rc || bytes != g->bytes || strcmp(meta, g->meta))
        return rc;
    return mu_remote_sealed_alike(p->r, g->key.s, there, err);
}

/* The upload that an earlier push has begun, with most parts; others of this key are given up. */
static int resume(struct push *p, struct segment *g, struct mu_err *err)
{
    struct mu_s3_items best = {0};
    int rc = 0;

    for (size_t i = 0; !rc && i < p->uploads.n; i++) {
        const struct mu_s3_item *u = &p->uploads.v[i];
        struct mu_s3_items parts = {0};

        if (!u->key || !u->upload || strcmp(u->key, g->key.s))
            continue;
        if ((rc = mu_s3_parts(p->r->s, u->key, u->upload, &parts, err)) == MUSTER_ENOCKPT) {
            rc = 0;
            continue;
        }
        if (!rc && (!g->upload || parts.n > best.n)) {
            char *name = strdup(u->upload);

            mu_s3_items_free(&best);
            best = parts;
            free(g->upload);
            g->upload = name;
        } else {
            mu_s3_items_free(&parts);
        }
    }
    for (size_t i = 0; !rc && g->upload && i < best.n; i++) {
        const struct mu_s3_item *o = &best.v[i];
        uint64_t at = o->part ? (o->part - 1) * g->part : g->bytes;

        if (at < g->bytes && o->bytes == (g->bytes - at < g->part ? g->bytes - at : g->part))
            memcpy(g->etags[o->part - 1], o->etag, MU_S3_ETAG_MAX);
    }
    mu_s3_items_free(&best);
    return rc;
}

static int send_parts(struct push *p, struct segment *g, struct check *c, struct mu_err *err)
{
    mu_auto_fd int fd = open(g->path.s, O_RDONLY | O_CLOEXEC);
    int rc = fd < 0 ? mu_err_errno(err, MUSTER_EIO, "open %s", g->path.s) : 0, late;

    for (uint64_t at = 0, i = 0; !rc && at < g->bytes; at += g->part, i++) {
        struct piece piece = {.meter = &p->meter,
                              .key = g->key.s,
                              .upload = g->upload,
                              .etag = g->etags[i],
                              .part = (uint32_t)i + 1,
                              .at = at,
                              .n = g->bytes - at < g->part ? (size_t)(g->bytes - at) : (size_t)g->part};
        unsigned char *buf;
        uint64_t damage;

        if ((rc = mu_lanes_take(p->lanes, &buf, err)) || (rc = mu_ckpt_read_all(fd, buf, piece.n, at, g->path.s, err)))
            break;
        if (check_feed(c, at, buf, piece.n, &damage))
            rc = mu_err_set(err, MUSTER_ECORRUPT, "%s is damaged at byte %" PRIu64, g->path.s, damage);
        else
            mu_lanes_give(p->lanes, send_piece, &piece, sizeof piece);
    }
    late = mu_lanes_wait(p->lanes, rc ? NULL : err);
    return rc ? rc : late;
}

static int send_in_parts(struct push *p, struct segment *g, struct check *c, struct mu_err *err)
{
    char meta[MU_S3_META_MAX];
    uint64_t bytes;
    struct mu_err why = {0};
    int rc;

    g->nparts = (uint32_t)((g->bytes + g->part - 1) / g->part);
    if (!(g->etags = calloc(g->nparts, sizeof *g->etags)))
        return mu_err_set(err, MUSTER_ENOMEM, "out of memory");
    if ((rc = resume(p, g, err)) ||
        (!g->upload && (rc = mu_s3_upload_begin(p->r->s, g->key.s, g->meta, &g->upload, err))) ||
        (rc = send_parts(p, g, c, err)))
        return rc;
    rc = mu_s3_upload_end(p->r->s, g->key.s, g->upload, g->etags, g->nparts, &why);
    /* the answer of a request that went well may be lost, and the next one then finds no upload */
    if (rc == MUSTER_ENOCKPT && mu_s3_head(p->r->s, g->key.s, &bytes, meta, NULL) == 0 && bytes == g->bytes &&
        !strcmp(meta, g->meta))
        rc = 0;
    return rc ? mu_err_set(err, rc == MUSTER_ENOCKPT ? MUSTER_EIO : rc, "%s", why.text) : 0;
}

/* In one piece: nobody waits for it but the commit, so that many small ones go at once. */
static int send_whole(struct push *p, const struct segment *g, struct check *c, struct mu_err *err)
{
    mu_auto_fd int fd = open(g->path.s, O_RDONLY | O_CLOEXEC);
    struct piece piece = {.meter = &p->meter, .n = (size_t)g->bytes};
    unsigned char *buf;
    uint64_t damage;
    int rc;

    if (fd < 0)
        return mu_err_errno(err, MUSTER_EIO, "open %s", g->path.s);
    if ((rc = mu_lanes_take(p->lanes, &buf, err)) || (rc = mu_ckpt_read_all(fd, buf, piece.n, 0, g->path.s, err)))
        return rc;
    if (check_feed(c, 0, buf, piece.n, &damage))
        return mu_err_set(err, MUSTER_ECORRUPT, "%s is damaged at byte %" PRIu64, g->path.s, damage);
    if (!(piece.whole = malloc(sizeof *piece.whole)))
        return mu_err_set(err, MUSTER_ENOMEM, "out of memory");
    piece.whole->key = g->key;
    memcpy(piece.whole->meta, g->meta, sizeof g->meta);
    mu_lanes_give(p->lanes, send_piece, &piece, sizeof piece);
    return 0;
}

static int push_segment(struct push *p, const struct mu_ckpt_manifest *m, struct mu_err *err)
{
    const struct mu_ckpt_id *id = &p->commit.id;
    __attribute__((cleanup(segment_free))) struct segment g = {.bytes = m->segment,
                                                               .part = part_size(m->segment, p->way->part)};
    mu_auto_free struct mu_ckpt_extent *sorted = mu_remote_sorted(m);
    struct check c = {.v = sorted, .n = m->nextents};
    char name[24];
    bool there;
    int rc;

    if (!sorted)
        return mu_err_set(err, MUSTER_ENOMEM, "out of memory");
    snprintf(name, sizeof name, "seg.%u", m->rank);
    g.key = mu_remote_key(p->r, id->generation, id->epoch, id->nonce, name);
    g.path = mu_ckpt_path("%s/%s", p->gendir, name);
    snprintf(g.meta, sizeof g.meta, "seg-%" PRIu64 "-%08x", m->segment, m->crc);
    if ((rc = is_there(p, &g, &there, err)))
        return rc;
    if (there) {
        atomic_fetch_add(&p->meter.there, g.bytes);
        atomic_fetch_add(&p->meter.done, g.bytes);
        return mu_remote_tick(&p->meter) ? mu_err_set(err, MUSTER_EABORTED, "given up") : 0;
    }
    return g.bytes > g.part ? send_in_parts(p, &g, &c, err) : send_whole(p, &g, &c, err);
}

/* --- a generation ------------------------------------------------------------------------------------------------- */

static int push_file(struct push *p, const char *name, bool always, struct mu_err *err)
{
    const struct mu_ckpt_id *id = &p->commit.id;
    struct mu_remote_key key = mu_remote_key(p->r, id->generation, id->epoch, id->nonce, name);
    struct mu_ckpt_path path = mu_ckpt_path("%s/%s", p->gendir, name);
    const struct mu_s3_item *item = mu_remote_find(&p->items, key.s);
    mu_auto_free unsigned char *buf = NULL;
    char digest[33];
    size_t n;
    int rc = mu_ckpt_get_file(path.s, MU_CKPT_MANIFEST_MAX, &buf, &n, err);

    if (rc)
        return rc;
    if (!always && item && item->bytes == n && mu_sigv4_md5(buf, n, digest) == 0 && !strcmp(digest, item->etag)) {
        atomic_fetch_add(&p->meter.there, n);
    } else {
        if ((rc = mu_s3_put(p->r->s, key.s, buf, n, NULL, err)))
            return rc;
        atomic_fetch_add(&p->meter.moved, n);
    }
    atomic_fetch_add(&p->meter.done, n);
    return mu_remote_tick(&p->meter) ? mu_err_set(err, MUSTER_EABORTED, "given up") : 0;
}

/* The numbers of a directory grow, so two writers of one number are two directories. */
static int look_for_others(struct push *p, struct mu_err *err)
{
    const struct mu_ckpt_id *id = &p->commit.id;

    for (size_t i = 0; i < p->items.n; i++) {
        uint64_t g, a, x;
        const char *name;

        if (mu_remote_key_parse(p->r, p->items.v[i].key, &g, &a, &x, &name) && !strcmp(name, "COMMIT") &&
            g == id->generation && (a != id->epoch || x != id->nonce))
            return mu_err_set(err, MUSTER_EEPOCH,
                              "s3://%s/%s has another checkpoint with the number %" PRIu64
                              ", of another directory; push to a prefix of its own",
                              p->r->conf.bucket, p->r->conf.prefix, g);
    }
    return 0;
}

static const struct mu_s3_item *find(const struct push *p, const char *kind, uint32_t rank)
{
    const struct mu_ckpt_id *id = &p->commit.id;
    char name[24];

    snprintf(name, sizeof name, "%s.%u", kind, rank);
    return mu_remote_find(&p->items, mu_remote_key(p->r, id->generation, id->epoch, id->nonce, name).s);
}

/* References make an incremental generation of it. Those of a push that was broken off would be taken for this one's;
 * once all of them have been committed others may be built on it, and it stays what it is. */
static int forget_references(struct push *p, struct mu_err *err)
{
    const struct mu_ckpt_id *id = &p->commit.id;
    struct mu_remote_key commit = mu_remote_key(p->r, id->generation, id->epoch, id->nonce, "COMMIT");
    bool committed = mu_remote_find(&p->items, commit.s) != NULL;
    uint32_t refs = 0;
    int rc = 0;

    for (uint32_t r = 0; r < id->world; r++)
        refs += find(p, "ref", r) != NULL;
    for (uint32_t r = 0; !rc && r < id->world && !(committed && refs == id->world); r++) {
        const struct mu_s3_item *ref = find(p, "ref", r), *inc = committed ? NULL : find(p, "inc", r);

        if (ref)
            rc = mu_s3_delete(p->r->s, ref->key, err);
        if (!rc && inc)
            rc = mu_s3_delete(p->r->s, inc->key, err);
    }
    return rc;
}

static int push_parts(struct push *p, struct mu_err *err)
{
    const struct mu_remote_inc inc = {.r = p->r,
                                      .lanes = p->lanes,
                                      .meter = &p->meter,
                                      .gendir = p->gendir,
                                      .items = &p->items,
                                      .part = p->buffer,
                                      .base = p->way->base};
    __attribute__((cleanup(mu_ckpt_agree_free))) struct mu_ckpt_agree agree = {0};
    int rc = 0, late;

    for (uint32_t r = 0; !rc && r < p->commit.id.world; r++) {
        struct mu_ckpt_manifest m;
        char name[24];

        snprintf(name, sizeof name, "man.%u", r);
        if ((rc = mu_ckpt_store_manifest(p->gendir, &p->commit.id, r, &p->commit.votes[r], &m, err)))
            break;
        if (!(rc = mu_ckpt_verify_agrees(mu_ckpt_agree_add(&agree, &m, err), err)) &&
            !(rc = p->way->incremental ? mu_remote_inc_push(&inc, &m, err) : push_segment(p, &m, err)))
            rc = push_file(p, name, false, err);
        mu_ckpt_manifest_free(&m);
    }
    if (!rc)
        rc = mu_ckpt_verify_agrees(mu_ckpt_agree_end(&agree, err), err);
    late = mu_lanes_wait(p->lanes, rc ? NULL : err);
    return rc ? rc : late;
}

/* COMMIT as the last object, and read back: what the store says of itself is not enough for what all hangs on. */
static int commit(struct push *p, struct mu_err *err)
{
    const struct mu_ckpt_id *id = &p->commit.id;
    struct mu_remote_key key = mu_remote_key(p->r, id->generation, id->epoch, id->nonce, "COMMIT");
    struct mu_ckpt_path path = mu_ckpt_path("%s/COMMIT", p->gendir);
    mu_auto_free unsigned char *mine = NULL, *theirs = NULL;
    size_t n, m;
    int rc = mu_ckpt_get_file(path.s, MU_CKPT_MANIFEST_MAX, &mine, &n, err);

    if (rc || (rc = push_file(p, "COMMIT", true, err)) || (rc = mu_s3_get_all(p->r->s, key.s, n, &theirs, &m, err)))
        return rc;
    return m == n && !memcmp(mine, theirs, n)
               ? 0
               : mu_err_set(err, MUSTER_ECORRUPT, "s3://%s/%.300s is not what was sent", p->r->conf.bucket, key.s);
}

/* Damage in the store is no fault of the directory's. */
static int fault(int rc, struct mu_err *err)
{
    if (rc == MUSTER_ECORRUPT || rc == MUSTER_ENOCKPT)
        rc = MUSTER_EIO;
    if (rc && err)
        err->code = rc;
    return rc;
}

static int push(struct push *p, struct mu_err *err)
{
    const struct mu_ckpt_id *id = &p->commit.id;
    struct mu_remote_key all = mu_remote_key(p->r, id->generation, id->epoch, id->nonce, ""), mine = all;
    int rc;

    *strstr(all.s + strlen(p->r->conf.prefix), ".a") = 0; /* whoever wrote it */
    strcat(all.s, ".");
    if ((rc = mu_s3_list(p->r->s, all.s, &p->items, err)) || (rc = look_for_others(p, err)) ||
        (!p->way->incremental && (rc = forget_references(p, err))) ||
        (rc = mu_s3_uploads(p->r->s, mine.s, &p->uploads, err)) || (rc = push_parts(p, err)))
        return rc;
    mu_s3_items_free(&p->items);
    if (!(rc = mu_s3_list(p->r->s, mine.s, &p->items, err)) &&
        !(rc = mu_remote_check(p->r, &p->commit, &p->items, err)) &&
        !(rc = p->way->incremental ? mu_remote_inc_check(p->r, p->way->base, err) : 0) &&
        !(rc = p->way->read_back ? mu_remote_read_all(p->r, &p->commit, p->way->incremental, p->lanes, &p->meter, err)
                                 : 0))
        rc = commit(p, err);
    return fault(rc, err);
}

int mu_remote_push(struct mu_remote *r, const char *dir, uint64_t generation, const struct mu_remote_way *way,
                   struct mu_remote_done *done, struct mu_err *err)
{
    struct mu_ckpt_path gendir = mu_ckpt_path("%s/g%08" PRIu64, dir, generation);
    struct push p = {.r = r, .gendir = gendir.s, .way = way, .meter.way = way};
    uint64_t before = mu_s3_retries(r->s), buffer = 0;
    int rc = mu_ckpt_store_check(dir, generation, err);

    if (rc || (rc = mu_remote_keys_fit(r, err)) || (rc = mu_ckpt_store_commit(gendir.s, generation, &p.commit, err)))
        return rc;
    for (uint32_t i = 0; i < p.commit.id.world; i++) {
        uint64_t bytes = p.commit.votes[i].segment, part = part_size(bytes, way->part);
        uint64_t need = bytes < part ? bytes : part;

        buffer = need > buffer ? need : buffer;
    }
    if (way->incremental && buffer < way->part) /* parts of one size, of what has no size yet */
        buffer = part_size(0, way->part);
    p.buffer = (size_t)buffer;
    if (way->read_back && buffer < MU_REMOTE_CHUNK)
        buffer = MU_REMOTE_CHUNK;
    if (!(rc = mu_lanes_open(&r->conf, way->lanes, (size_t)buffer, mu_remote_tick, &p.meter, &p.lanes, err))) {
        rc = push(&p, err);
        done->retries += mu_lanes_retries(p.lanes) + mu_s3_retries(r->s) - before;
        mu_lanes_close(p.lanes);
    }
    done->moved += atomic_load(&p.meter.moved);
    done->there += atomic_load(&p.meter.there);
    mu_s3_items_free(&p.items);
    mu_s3_items_free(&p.uploads);
    free(p.commit.votes);
    return rc;
}
