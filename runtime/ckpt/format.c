#include "runtime/ckpt/format.h"

#include "runtime/base/clean.h"
#include "runtime/base/crc32c.h"

#include <string.h>

/* Every file starts with the same 32 bytes, whose meaning no version changes, and ends with a CRC of all before:
 *   magic[8] version:4 header:4 total:8 0:4 crc-of-these-28:4 | body | crc:4 */
#define HEAD 32u
#define TAIL 4u

enum kind { MANIFEST, SEGMENT, COMMIT, EPOCH, OWNER };
static const struct {
    const char *magic, *what;
} kinds[] = {
    [MANIFEST] = {"MUSTERMN", "manifest"},    [SEGMENT] = {"MUSTERSG", "segment"},
    [COMMIT] = {"MUSTERCM", "commit record"}, [EPOCH] = {"MUSTEREP", "epoch record"},
    [OWNER] = {"MUSTEROW", "owner record"},
};

/* A position in a buffer. Reading past the end sets `bad` and gives zeros; writing is sized beforehand. */
struct cursor {
    const unsigned char *in;
    unsigned char *out;
    size_t at, end;
    bool bad;
};

static void put(struct cursor *c, const void *p, size_t n)
{
    if (n)
        memcpy(c->out + c->at, p, n);
    c->at += n;
}
static void put_int(struct cursor *c, uint64_t v, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        c->out[c->at++] = (unsigned char)(v >> (8 * i));
}
static const unsigned char *get(struct cursor *c, size_t n)
{
    const unsigned char *p = c->in + c->at;

    if (c->bad || n > c->end - c->at) {
        c->bad = true;
        return NULL;
    }
    c->at += n;
    return p;
}
static uint64_t get_int(struct cursor *c, unsigned n)
{
    const unsigned char *p = get(c, n);
    uint64_t v = 0;

    for (unsigned i = 0; p && i < n; i++)
        v |= (uint64_t)p[i] << (8 * i);
    return v;
}

static void frame_begin(struct cursor *c, enum kind kind, unsigned char *out, uint64_t total)
{
    *c = (struct cursor){.out = out, .end = total};
    put(c, kinds[kind].magic, 8);
    put_int(c, MU_CKPT_VERSION, 4);
    put_int(c, HEAD, 4);
    put_int(c, total, 8);
    put_int(c, 0, 4);
    put_int(c, mu_crc32c(0, out, 28), 4);
}
static uint32_t frame_end(struct cursor *c)
{
    uint32_t crc = mu_crc32c(0, c->out, c->end - TAIL);

    c->at = c->end - TAIL;
    put_int(c, crc, 4);
    return crc;
}

/* The version counts only once the head's own CRC holds: a flipped bit in it is damage, not a newer format. */
static int frame_open(struct cursor *c, enum kind kind, const unsigned char *in, size_t n, uint32_t *crc,
                      struct mu_err *err)
{
    uint32_t version, head;
    uint64_t total;

    *c = (struct cursor){.in = in, .end = n};
    if (n < HEAD + TAIL || memcmp(in, kinds[kind].magic, 8))
        return mu_err_set(err, MUSTER_ECORRUPT, "not a %s", kinds[kind].what);
    c->at = 8;
    version = (uint32_t)get_int(c, 4);
    head = (uint32_t)get_int(c, 4);
    total = get_int(c, 8);
    get_int(c, 4);
    if (get_int(c, 4) != mu_crc32c(0, in, 28))
        return mu_err_set(err, MUSTER_ECORRUPT, "the %s's head is damaged", kinds[kind].what);
    if (version > MU_CKPT_VERSION)
        return mu_err_set(err, MUSTER_EVERSION, "%s of format version %u; this muster reads up to %u: use a newer one",
                          kinds[kind].what, version, MU_CKPT_VERSION);
    if (version < 1)
        return mu_err_set(err, MUSTER_ECORRUPT, "%s of format version 0, which no muster has ever written",
                          kinds[kind].what);
    if (head != HEAD)
        return mu_err_set(err, MUSTER_ECORRUPT, "the %s says that its head has %u bytes; it has %u", kinds[kind].what,
                          head, HEAD);
    if (total != n)
        return mu_err_set(err, MUSTER_ECORRUPT, "the %s is %zu bytes long, its head says %llu", kinds[kind].what, n,
                          (unsigned long long)total);
    c->at = n - TAIL;
    *crc = (uint32_t)get_int(c, 4);
    if (*crc != mu_crc32c(0, in, n - TAIL))
        return mu_err_set(err, MUSTER_ECORRUPT, "the %s's checksum does not match", kinds[kind].what);
    c->at = HEAD;
    c->end = n - TAIL;
    return 0;
}

#define ID_BYTES 40u
static void put_id(struct cursor *c, const struct mu_ckpt_id *id)
{
    put_int(c, id->generation, 8);
    put_int(c, id->epoch, 8);
    put_int(c, id->nonce, 8);
    put_int(c, id->step, 8);
    put_int(c, id->world, 4);
    put_int(c, id->attempt, 4);
}
static void get_id(struct cursor *c, struct mu_ckpt_id *id)
{
    id->generation = get_int(c, 8);
    id->epoch = get_int(c, 8);
    id->nonce = get_int(c, 8);
    id->step = get_int(c, 8);
    id->world = (uint32_t)get_int(c, 4);
    id->attempt = (uint32_t)get_int(c, 4);
    c->bad |= id->world < 1 || id->world > MU_CKPT_WORLD_MAX;
}

static void put_text(struct cursor *c, const char *s)
{
    size_t n = strlen(s);

    put_int(c, n, 2);
    put(c, s, n);
}
/* max: without the NUL. */
static void get_text(struct cursor *c, char *text, size_t max)
{
    size_t n = get_int(c, 2);
    const unsigned char *p = get(c, n);

    text[0] = 0;
    if (!p || n > max || memchr(p, 0, n)) {
        c->bad = true;
        return;
    }
    memcpy(text, p, n);
    text[n] = 0;
}

/* --- manifest --------------------------------------------------------------------------------------------------- */

#define BLOCK_BYTES 16u /* and 24 for each dimension, and the name */
#define EXTENT_BYTES 24u

void mu_ckpt_manifest_free(struct mu_ckpt_manifest *m)
{
    for (size_t i = 0; i < m->nblocks; i++)
        free(m->blocks[i].name);
    free(m->blocks);
    free(m->extents);
    *m = (struct mu_ckpt_manifest){0};
}

static uint64_t page_up(uint64_t n)
{
    return (n + MU_CKPT_PAGE - 1) / MU_CKPT_PAGE * MU_CKPT_PAGE;
}

/* Where share `r` of `world` begins in a tensor that is [base, base + bytes) of `total` replicated bytes. Cuts inside a
 * tensor lie on pages of it, so no element is torn. */
static uint64_t share_cut(uint64_t total, uint64_t base, uint64_t bytes, uint32_t r, uint32_t world)
{
    uint64_t cut = (uint64_t)((unsigned __int128)total * r / world);

    if (cut <= base)
        return 0;
    if (cut - base >= bytes)
        return bytes;
    return (cut - base) / MU_CKPT_PAGE * MU_CKPT_PAGE;
}

static size_t extents_of(uint64_t bytes)
{
    return (size_t)((bytes + MU_CKPT_EXTENT - 1) / MU_CKPT_EXTENT);
}

int mu_ckpt_manifest_plan(const struct mu_ckpt_tensors *t, uint32_t rank, uint32_t world, struct mu_ckpt_manifest *out,
                          struct mu_err *err)
{
    struct mu_ckpt_manifest m = {.rank = rank, .segment = MU_CKPT_PAGE};
    uint64_t replicated = 0, base = 0;
    size_t room = 0;

    for (size_t i = 0; i < t->n; i++) {
        if (t->v[i].shape.flags & MUSTER_REPLICATED)
            replicated += t->v[i].shape.bytes;
        room += extents_of(t->v[i].shape.bytes) + 1;
    }
    m.id.world = world;
    m.blocks = calloc(t->n + 1, sizeof *m.blocks);
    m.extents = calloc(room + 1, sizeof *m.extents);
    if (!m.blocks || !m.extents)
        goto no_memory;
    for (size_t i = 0; i < t->n; i++) {
        struct mu_ckpt_block *b = &m.blocks[i];
        uint64_t from = 0, to = t->v[i].shape.bytes;

        if (!(b->name = strdup(t->v[i].name)))
            goto no_memory;
        m.nblocks++;
        b->shape = t->v[i].shape;
        b->first = m.nextents;
        if (b->shape.flags & MUSTER_REPLICATED) {
            from = share_cut(replicated, base, to, rank, world);
            base += b->shape.bytes;
            to = share_cut(replicated, base - b->shape.bytes, to, rank + 1, world);
        }
        for (uint64_t n; from < to; from += n) {
            n = to - from < MU_CKPT_EXTENT ? to - from : MU_CKPT_EXTENT;
            m.extents[m.nextents++] = (struct mu_ckpt_extent){.at = from, .file = m.segment, .bytes = (uint32_t)n};
            m.segment += page_up(n);
        }
        b->n = m.nextents - b->first;
    }
    *out = m;
    return 0;

no_memory:
    mu_ckpt_manifest_free(&m);
    return mu_err_set(err, MUSTER_ENOMEM, "no memory to lay out %zu tensors", t->n);
}

int mu_ckpt_manifest_encode(struct mu_ckpt_manifest *m, unsigned char **out, struct mu_err *err)
{
    uint64_t bytes = HEAD + ID_BYTES + 24 + EXTENT_BYTES * (uint64_t)m->nextents + TAIL;
    unsigned char *buf;
    struct cursor c;

    for (size_t i = 0; i < m->nblocks; i++)
        bytes += BLOCK_BYTES + 24 * (uint64_t)m->blocks[i].shape.ndim + strlen(m->blocks[i].name);
    if (bytes > MU_CKPT_MANIFEST_MAX)
        return mu_err_set(err, MUSTER_EARG, "too many tensors for one manifest");
    if (!(buf = malloc(bytes)))
        return mu_err_set(err, MUSTER_ENOMEM, "no memory for a manifest");
    frame_begin(&c, MANIFEST, buf, bytes);
    put_id(&c, &m->id);
    put_int(&c, m->rank, 4);
    put_int(&c, m->nblocks, 4);
    put_int(&c, m->nextents, 8);
    put_int(&c, m->segment, 8);
    for (size_t i = 0; i < m->nblocks; i++) {
        const struct mu_ckpt_block *b = &m->blocks[i];

        put_int(&c, b->shape.dtype, 1);
        put_int(&c, (uint64_t)b->shape.ndim, 1);
        put_int(&c, strlen(b->name), 2);
        put_int(&c, b->shape.flags, 4);
        put_int(&c, b->n, 8);
        for (int d = 0; d < b->shape.ndim; d++) {
            put_int(&c, b->shape.global[d], 8);
            put_int(&c, b->shape.box.offset[d], 8);
            put_int(&c, b->shape.box.local[d], 8);
        }
        put(&c, b->name, strlen(b->name));
    }
    for (size_t i = 0; i < m->nextents; i++) {
        put_int(&c, m->extents[i].at, 8);
        put_int(&c, m->extents[i].file, 8);
        put_int(&c, m->extents[i].bytes, 4);
        put_int(&c, m->extents[i].crc, 4);
    }
    m->crc = frame_end(&c);
    m->bytes = bytes;
    *out = buf;
    return 0;
}

static int get_block(struct cursor *c, struct mu_ckpt_block *b, struct mu_err *err)
{
    const unsigned char *name;
    size_t len;

    b->shape.dtype = (uint32_t)get_int(c, 1);
    b->shape.ndim = (int)get_int(c, 1);
    len = get_int(c, 2);
    b->shape.flags = (uint32_t)get_int(c, 4);
    b->n = get_int(c, 8);
    if (b->shape.ndim > MU_CKPT_DIMS)
        return mu_err_set(err, MUSTER_ECORRUPT, "a block has %d dimensions", b->shape.ndim);
    for (int d = 0; d < b->shape.ndim; d++) {
        b->shape.global[d] = get_int(c, 8);
        b->shape.box.offset[d] = get_int(c, 8);
        b->shape.box.local[d] = get_int(c, 8);
    }
    name = get(c, len);
    if (!name || !mu_ckpt_name_ok((const char *)name, len) || mu_ckpt_shape_check(&b->shape, NULL))
        return mu_err_set(err, MUSTER_ECORRUPT, "a block's description is not valid");
    if (!(b->name = strndup((const char *)name, len)))
        return mu_err_set(err, MUSTER_ENOMEM, "no memory for a manifest");
    return 0;
}

/* Extents lie in the block and in the segment, in order; those of a partitioned tensor leave nothing out. */
static int check_extents(const struct mu_ckpt_manifest *m, const struct mu_ckpt_block *b, struct mu_err *err)
{
    bool whole = !(b->shape.flags & MUSTER_REPLICATED);
    uint64_t at = 0;

    for (size_t i = b->first; i < b->first + b->n; i++) {
        const struct mu_ckpt_extent *e = &m->extents[i];

        if (e->bytes < 1 || e->bytes > MU_CKPT_EXTENT_MAX || (whole ? e->at != at : e->at < at) ||
            e->at > b->shape.bytes || e->bytes > b->shape.bytes - e->at || e->file < MU_CKPT_PAGE ||
            e->file % MU_CKPT_PAGE || e->file > m->segment || e->bytes > m->segment - e->file)
            return mu_err_set(err, MUSTER_ECORRUPT, "\"%.100s\": an extent is out of place", b->name);
        at = e->at + e->bytes;
    }
    if (whole && at != b->shape.bytes)
        return mu_err_set(err, MUSTER_ECORRUPT, "\"%.100s\": the extents do not cover the block", b->name);
    return 0;
}

int mu_ckpt_manifest_decode(const unsigned char *in, size_t n, struct mu_ckpt_manifest *out, struct mu_err *err)
{
    struct mu_ckpt_manifest m = {0};
    size_t nblocks, nextents, first = 0;
    struct cursor c;
    int rc = frame_open(&c, MANIFEST, in, n, &m.crc, err);

    if (rc)
        return rc;
    m.bytes = n;
    get_id(&c, &m.id);
    m.rank = (uint32_t)get_int(&c, 4);
    nblocks = get_int(&c, 4);
    nextents = get_int(&c, 8);
    m.segment = get_int(&c, 8);
    /* bounded by what the file can hold, before anything is allocated */
    if (c.bad || m.rank >= m.id.world || m.segment < MU_CKPT_PAGE || m.segment > INT64_MAX ||
        nblocks > (c.end - c.at) / BLOCK_BYTES || nextents > (c.end - c.at) / EXTENT_BYTES)
        return mu_err_set(err, MUSTER_ECORRUPT, "the manifest's counts are not valid");
    m.blocks = calloc(nblocks + 1, sizeof *m.blocks);
    m.extents = calloc(nextents + 1, sizeof *m.extents);
    if (!m.blocks || !m.extents) {
        rc = mu_err_set(err, MUSTER_ENOMEM, "no memory for a manifest");
        goto fail;
    }
    for (size_t i = 0; i < nblocks; i++) {
        struct mu_ckpt_block *b = &m.blocks[i];

        if ((rc = get_block(&c, b, err)))
            goto fail;
        m.nblocks++;
        b->first = first;
        if (b->n > nextents - first) {
            rc = mu_err_set(err, MUSTER_ECORRUPT, "\"%.100s\": more extents than the manifest has", b->name);
            goto fail;
        }
        first += b->n;
    }
    if (first != nextents || c.end - c.at != nextents * EXTENT_BYTES) {
        rc = mu_err_set(err, MUSTER_ECORRUPT, "the manifest's extents do not add up");
        goto fail;
    }
    for (m.nextents = 0; m.nextents < nextents; m.nextents++) {
        struct mu_ckpt_extent *e = &m.extents[m.nextents];

        e->at = get_int(&c, 8);
        e->file = get_int(&c, 8);
        e->bytes = (uint32_t)get_int(&c, 4);
        e->crc = (uint32_t)get_int(&c, 4);
    }
    for (size_t i = 0; i < nblocks; i++)
        if ((rc = check_extents(&m, &m.blocks[i], err)))
            goto fail;
    *out = m;
    return 0;

fail:
    mu_ckpt_manifest_free(&m);
    return rc;
}

/* --- superblock of a segment ------------------------------------------------------------------------------------ */

void mu_ckpt_super_encode(const struct mu_ckpt_super *s, unsigned char out[MU_CKPT_PAGE])
{
    struct cursor c;

    memset(out, 0, MU_CKPT_PAGE);
    frame_begin(&c, SEGMENT, out, MU_CKPT_PAGE);
    put_id(&c, &s->id);
    put_int(&c, s->rank, 4);
    put_int(&c, 0, 4);
    put_int(&c, s->segment, 8);
    frame_end(&c);
}

int mu_ckpt_super_decode(const unsigned char in[MU_CKPT_PAGE], struct mu_ckpt_super *out, struct mu_err *err)
{
    struct mu_ckpt_super s;
    struct cursor c;
    uint32_t crc;
    int rc = frame_open(&c, SEGMENT, in, MU_CKPT_PAGE, &crc, err);

    if (rc)
        return rc;
    get_id(&c, &s.id);
    s.rank = (uint32_t)get_int(&c, 4);
    get_int(&c, 4);
    s.segment = get_int(&c, 8);
    if (c.bad)
        return mu_err_set(err, MUSTER_ECORRUPT, "the segment's superblock is not valid");
    *out = s;
    return 0;
}

/* --- commit record ---------------------------------------------------------------------------------------------- */

#define VOTE_BYTES 20u

int mu_ckpt_commit_encode(const struct mu_ckpt_commit *k, unsigned char **out, size_t *n, struct mu_err *err)
{
    uint64_t bytes = HEAD + ID_BYTES + 8 + 2 + strlen(k->job) + VOTE_BYTES * (uint64_t)k->id.world + TAIL;
    unsigned char *buf = malloc(bytes);
    struct cursor c;

    if (!buf)
        return mu_err_set(err, MUSTER_ENOMEM, "no memory for a commit record");
    frame_begin(&c, COMMIT, buf, bytes);
    put_id(&c, &k->id);
    put_int(&c, k->wall, 8);
    put_text(&c, k->job);
    for (uint32_t r = 0; r < k->id.world; r++) {
        put_int(&c, k->votes[r].manifest, 8);
        put_int(&c, k->votes[r].segment, 8);
        put_int(&c, k->votes[r].crc, 4);
    }
    frame_end(&c);
    *n = bytes;
    *out = buf;
    return 0;
}

int mu_ckpt_commit_decode(const unsigned char *in, size_t n, struct mu_ckpt_commit *out, struct mu_err *err)
{
    struct mu_ckpt_commit k = {0};
    struct cursor c;
    uint32_t crc;
    int rc = frame_open(&c, COMMIT, in, n, &crc, err);

    if (rc)
        return rc;
    get_id(&c, &k.id);
    k.wall = get_int(&c, 8);
    get_text(&c, k.job, MU_CKPT_JOB_MAX);
    if (c.bad || c.end - c.at != VOTE_BYTES * (uint64_t)k.id.world)
        return mu_err_set(err, MUSTER_ECORRUPT, "the commit record is not valid");
    if (!(k.votes = calloc(k.id.world, sizeof *k.votes)))
        return mu_err_set(err, MUSTER_ENOMEM, "no memory for a commit record");
    for (uint32_t r = 0; r < k.id.world; r++) {
        k.votes[r].manifest = get_int(&c, 8);
        k.votes[r].segment = get_int(&c, 8);
        k.votes[r].crc = (uint32_t)get_int(&c, 4);
    }
    *out = k;
    return 0;
}

/* --- epoch ------------------------------------------------------------------------------------------------------ */

void mu_ckpt_epoch_encode(const struct mu_ckpt_epoch *e, unsigned char out[MU_CKPT_EPOCH_BYTES])
{
    struct cursor c;

    memset(out, 0, MU_CKPT_EPOCH_BYTES);
    frame_begin(&c, EPOCH, out, MU_CKPT_EPOCH_BYTES);
    put_int(&c, e->epoch, 8);
    put_int(&c, e->nonce, 8);
    put_int(&c, e->wall, 8);
    put_int(&c, e->attempt, 4);
    put_text(&c, e->job);
    frame_end(&c);
}

int mu_ckpt_epoch_decode(const unsigned char *in, size_t n, struct mu_ckpt_epoch *out, struct mu_err *err)
{
    struct mu_ckpt_epoch e;
    struct cursor c;
    uint32_t crc;
    int rc = frame_open(&c, EPOCH, in, n, &crc, err);

    if (rc)
        return rc;
    e.epoch = get_int(&c, 8);
    e.nonce = get_int(&c, 8);
    e.wall = get_int(&c, 8);
    e.attempt = (uint32_t)get_int(&c, 4);
    get_text(&c, e.job, MU_CKPT_JOB_MAX);
    if (c.bad)
        return mu_err_set(err, MUSTER_ECORRUPT, "the epoch record is not valid");
    *out = e;
    return 0;
}

/* --- owner ------------------------------------------------------------------------------------------------------ */

void mu_ckpt_owner_encode(const struct mu_ckpt_owner_record *r, unsigned char out[MU_CKPT_OWNER_BYTES])
{
    struct cursor c;

    memset(out, 0, MU_CKPT_OWNER_BYTES);
    frame_begin(&c, OWNER, out, MU_CKPT_OWNER_BYTES);
    put_int(&c, r->job_mark, 8);
    put_int(&c, r->mark, 8);
    put_int(&c, r->beat, 8);
    put_int(&c, r->wall, 8);
    put_int(&c, r->device, 8);
    put_int(&c, r->pid, 4);
    put_int(&c, r->attempt, 4);
    put_int(&c, (r->open ? 1 : 0) | (r->locked ? 2 : 0), 4);
    put(&c, r->boot, sizeof r->boot);
    put_text(&c, r->job);
    put_text(&c, r->host);
    frame_end(&c);
}

int mu_ckpt_owner_decode(const unsigned char *in, size_t n, struct mu_ckpt_owner_record *out, struct mu_err *err)
{
    struct mu_ckpt_owner_record r;
    const unsigned char *boot;
    struct cursor c;
    uint64_t flags;
    uint32_t crc;
    int rc = frame_open(&c, OWNER, in, n, &crc, err);

    if (rc)
        return rc;
    r.job_mark = get_int(&c, 8);
    r.mark = get_int(&c, 8);
    r.beat = get_int(&c, 8);
    r.wall = get_int(&c, 8);
    r.device = get_int(&c, 8);
    r.pid = (uint32_t)get_int(&c, 4);
    r.attempt = (uint32_t)get_int(&c, 4);
    flags = get_int(&c, 4);
    r.open = flags & 1;
    r.locked = flags & 2;
    boot = get(&c, sizeof r.boot);
    if (boot)
        memcpy(r.boot, boot, sizeof r.boot);
    get_text(&c, r.job, MU_CKPT_JOB_MAX);
    get_text(&c, r.host, MU_CKPT_HOST_MAX);
    if (c.bad)
        return mu_err_set(err, MUSTER_ECORRUPT, "the owner record is not valid");
    *out = r;
    return 0;
}
