#include "runtime/ckpt/reader.h"

#include "runtime/base/clean.h"
#include "runtime/base/copy.h"
#include "runtime/base/crc32c.h"
#include "runtime/base/dtype.h"
#include "runtime/ckpt/agree.h"
#include "runtime/ckpt/box.h"
#include "runtime/ckpt/verify.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>

#define SEGMENTS_OPEN 64u /* at a time */

struct part {
    struct mu_ckpt_manifest man;
    int fd;
    bool checked;               /* the superblock is this generation's */
    struct mu_ckpt_names names; /* of its blocks, once they had to be looked for */
    /* in memory instead of a file */
    const unsigned char *image;
    bool summed;  /* the CRCs of its extents are known, and not compared yet */
    bool partial; /* nothing but replicated tensors */
};

struct load {
    const char *gendir;
    struct mu_ckpt_id id;
    struct part *parts;
    uint32_t opened[SEGMENTS_OPEN], nopened; /* ranks whose segments are open, in a ring */
    unsigned char *extent;                   /* MU_CKPT_EXTENT_MAX bytes */
    const struct piece *loaded;              /* what `extent` holds */
    bool look;                               /* verify what would be read, and read nothing */
    bool trust;                              /* all of it has been verified */
};

/* An extent and the rank that has it. */
struct piece {
    struct mu_ckpt_extent e;
    uint32_t rank;
};

/* A stored block that may have what is wanted: its box, and extents that cover it from 0 on without a gap. */
struct source {
    struct load *load;
    const char *name;
    const struct piece *pieces;
    size_t npieces, at;
    size_t unit;
    unsigned char *dst;
    struct mu_err *err;
};

static int open_segment(struct load *l, uint32_t rank, struct mu_err *err)
{
    struct mu_ckpt_path path = mu_ckpt_path("%s/seg.%u", l->gendir, rank);
    struct part *p = &l->parts[rank];
    unsigned char page[MU_CKPT_PAGE];
    struct mu_ckpt_super s;
    uint32_t slot;
    int rc;

    if (p->fd >= 0)
        return 0;
    slot = l->nopened++ % SEGMENTS_OPEN;
    if (l->nopened > SEGMENTS_OPEN && l->parts[l->opened[slot]].fd >= 0) {
        close(l->parts[l->opened[slot]].fd);
        l->parts[l->opened[slot]].fd = -1;
    }
    l->opened[slot] = rank;
    if ((rc = mu_ckpt_open_file(path.s, err)) < 0)
        return rc;
    p->fd = rc;
    if (p->checked)
        return 0;
    if ((rc = mu_ckpt_read_all(p->fd, page, sizeof page, 0, path.s, err)))
        return rc;
    if ((rc = mu_ckpt_super_decode(page, &s, err))) {
        mu_err_prefix(err, "%s", path.s);
        return rc;
    }
    if (s.rank != rank || s.segment != p->man.segment || s.id.generation != l->id.generation ||
        s.id.epoch != l->id.epoch || s.id.nonce != l->id.nonce || s.id.step != l->id.step)
        return mu_err_set(err, MUSTER_ECORRUPT, "%s belongs to another checkpoint", path.s);
    p->checked = true;
    return 0;
}

static int read_held(struct load *l, const struct piece *x, unsigned char *to, const char *name, struct mu_err *err)
{
    const struct part *p = &l->parts[x->rank];

    if (p->summed && !l->trust && mu_crc32c(0, p->image + x->e.file, x->e.bytes) != x->e.crc)
        return mu_err_set(err, MUSTER_ECORRUPT,
                          "rank %u's copy in memory is damaged at byte %" PRIu64 " (tensor \"%.100s\")", x->rank,
                          x->e.file, name);
    if (!l->look)
        mu_copy(to, p->image + x->e.file, x->e.bytes);
    return 0;
}

static int read_piece(struct load *l, const struct piece *x, unsigned char *to, const char *name, struct mu_err *err)
{
    if (l->parts[x->rank].image)
        return read_held(l, x, to, name, err);

    struct mu_ckpt_path path = mu_ckpt_path("%s/seg.%u", l->gendir, x->rank);
    int rc = open_segment(l, x->rank, err);

    if (rc || (rc = mu_ckpt_read_all(l->parts[x->rank].fd, to, x->e.bytes, x->e.file, path.s, err)))
        return rc;
    if (mu_crc32c(0, to, x->e.bytes) != x->e.crc)
        return mu_err_set(err, MUSTER_ECORRUPT, "%s is damaged at byte %" PRIu64 " (tensor \"%.100s\")", path.s,
                          x->e.file, name);
    return 0;
}

/* One run of elements out of the source's extents. Extents that are wanted whole go straight to their place. */
static int copy_run(void *arg, uint64_t src, uint64_t dst, uint64_t n)
{
    struct source *s = arg;
    uint64_t from = src * s->unit, to = from + n * s->unit;
    uint64_t at = dst * s->unit;
    int rc;

    if (s->at >= s->npieces || s->pieces[s->at].e.at > from)
        s->at = 0;
    while (from < to) {
        const struct piece *x;
        uint64_t end, take;

        while (s->pieces[s->at].e.at + s->pieces[s->at].e.bytes <= from)
            s->at++;
        x = &s->pieces[s->at];
        end = x->e.at + x->e.bytes;
        take = (end < to ? end : to) - from;
        if (s->load->look || take == x->e.bytes) {
            if (s->load->loaded != x &&
                (rc = read_piece(s->load, x, s->load->look ? NULL : s->dst + at, s->name, s->err)))
                return rc;
            s->load->loaded = s->load->look ? x : s->load->loaded;
        } else if (s->load->parts[x->rank].image && s->load->trust) {
            mu_copy(s->dst + at, s->load->parts[x->rank].image + x->e.file + (from - x->e.at), take);
        } else {
            if (s->load->loaded != x) {
                s->load->loaded = NULL;
                if ((rc = read_piece(s->load, x, s->load->extent, s->name, s->err)))
                    return rc;
                s->load->loaded = x;
            }
            memcpy(s->dst + at, s->load->extent + (from - x->e.at), take);
        }
        from += take;
        at += take;
    }
    return 0;
}

/* NULL: the rank has none. Ranks mostly add the same tensors in the same order: look there first. */
static int find_block(struct part *p, const char *name, size_t hint, const struct mu_ckpt_block **out,
                      struct mu_err *err)
{
    const struct mu_ckpt_manifest *m = &p->man;
    size_t i = hint;
    int rc;

    if (hint >= m->nblocks || strcmp(m->blocks[hint].name, name)) {
        while (p->names.n < m->nblocks)
            if ((rc = mu_ckpt_names_add(&p->names, m->blocks, sizeof *m->blocks, err)))
                return rc;
        i = mu_ckpt_names_find(&p->names, m->blocks, sizeof *m->blocks, name);
    }
    *out = i == MU_CKPT_NO_NAME ? NULL : &m->blocks[i];
    return 0;
}

static int same_tensor(const struct mu_ckpt_tensor *t, const struct mu_ckpt_shape *stored, struct mu_err *err)
{
    if (stored->dtype != t->shape.dtype)
        return mu_err_set(err, MUSTER_ECORRUPT, "tensor \"%.100s\" is stored as %s, wanted as %s", t->name,
                          mu_dtype_name((int)stored->dtype), mu_dtype_name((int)t->shape.dtype));
    if (stored->ndim != t->shape.ndim)
        return mu_err_set(err, MUSTER_ECORRUPT, "tensor \"%.100s\" is stored with %d dimensions, wanted with %d",
                          t->name, stored->ndim, t->shape.ndim);
    for (int d = 0; d < stored->ndim; d++)
        if (stored->global[d] != t->shape.global[d])
            return mu_err_set(err, MUSTER_ECORRUPT,
                              "tensor \"%.100s\": dimension %d is stored with %" PRIu64
                              " elements, wanted with %" PRIu64,
                              t->name, d, stored->global[d], t->shape.global[d]);
    return 0;
}

static int add_pieces(struct piece **v, size_t *n, const struct mu_ckpt_manifest *m, const struct mu_ckpt_block *b,
                      struct mu_err *err)
{
    struct piece *grown;

    if (!b->n)
        return 0;
    if (!(grown = realloc(*v, (*n + b->n) * sizeof **v)))
        return mu_err_set(err, MUSTER_ENOMEM, "no memory for extents");
    *v = grown;
    for (size_t i = 0; i < b->n; i++)
        grown[(*n)++] = (struct piece){.e = m->extents[b->first + i], .rank = m->rank};
    return 0;
}

static int by_place(const void *a, const void *b)
{
    const struct piece *x = a, *y = b;

    return x->e.at < y->e.at ? -1 : x->e.at > y->e.at;
}

/* Takes from the source what it has of what is still missing. */
static int take_from(struct source *s, const struct mu_ckpt_box *have, const struct mu_ckpt_tensor *t,
                     struct mu_ckpt_boxes *missing, struct mu_err *err)
{
    int rc, ndim = t->shape.ndim;

    s->load->loaded = NULL; /* pieces of another list */
    for (size_t i = 0; i < missing->n;) {
        struct mu_ckpt_box part;

        if (!mu_ckpt_box_meet(&missing->v[i], have, ndim, &part)) {
            i++;
            continue;
        }
        /* what is left over takes place i or the end, and no longer meets `have` */
        if ((rc = mu_ckpt_box_runs(&part, have, &t->shape.box, ndim, copy_run, s)) ||
            (rc = mu_ckpt_boxes_cut(missing, i, &part, ndim, err)))
            return rc;
    }
    return 0;
}

static int load_tensor(struct load *l, size_t index, const struct mu_ckpt_tensor *t, unsigned char *dst,
                       struct mu_err *err)
{
    struct source s = {
        .load = l, .name = t->name, .unit = mu_dtype_size((muster_dtype)t->shape.dtype), .dst = dst, .err = err};
    mu_auto_free struct piece *pieces = NULL; /* of all ranks if replicated, else of one at a time */
    struct mu_ckpt_boxes missing = {0};
    const struct mu_ckpt_shape *replica = NULL;
    uint64_t covered = 0;
    bool found = false;
    size_t n = 0;
    int rc = 0;

    if (!mu_ckpt_box_empty(&t->shape.box, t->shape.ndim) && (rc = mu_ckpt_boxes_push(&missing, &t->shape.box, err)))
        return rc;
    for (uint32_t r = 0; !rc && r < l->id.world; r++) {
        const struct mu_ckpt_manifest *m = &l->parts[r].man;
        const struct mu_ckpt_block *b;
        struct mu_ckpt_box part;

        if ((rc = find_block(&l->parts[r], t->name, index, &b, err)) || !b)
            continue;
        found = true;
        if ((rc = same_tensor(t, &b->shape, err)))
            break;
        if (b->shape.flags & MUSTER_REPLICATED) {
            replica = &b->shape;
            rc = add_pieces(&pieces, &n, m, b, err);
            continue;
        }
        if (replica) {
            rc = mu_err_set(err, MUSTER_ECORRUPT, "tensor \"%.100s\" is replicated on some ranks only", t->name);
            break;
        }
        if (!missing.n || !mu_ckpt_box_meet(&b->shape.box, &t->shape.box, t->shape.ndim, &part))
            continue;
        if (l->parts[r].partial) {
            rc = mu_err_set(err, MUSTER_ECORRUPT, "tensor \"%.100s\": rank %u's part is in another node's memory alone",
                            t->name, r);
            break;
        }
        n = 0;
        if ((rc = add_pieces(&pieces, &n, m, b, err)))
            break;
        s.pieces = pieces;
        s.npieces = n;
        s.at = 0;
        rc = take_from(&s, &b->shape.box, t, &missing, err);
    }
    if (!rc && replica && missing.n) {
        qsort(pieces, n, sizeof *pieces, by_place);
        for (size_t i = 0; i < n && pieces[i].e.at == covered; i++)
            covered += pieces[i].e.bytes;
        s.pieces = pieces;
        s.npieces = n;
        s.at = 0;
        if (covered != replica->bytes)
            rc = mu_err_set(err, MUSTER_ECORRUPT, "tensor \"%.100s\" is not complete from byte %" PRIu64 " on", t->name,
                            covered);
        else
            rc = take_from(&s, &replica->box, t, &missing, err);
    }
    if (!rc && !found)
        rc = mu_err_set(err, MUSTER_ECORRUPT, "tensor \"%.100s\" is not stored", t->name);
    if (!rc && missing.n)
        rc =
            mu_err_set(err, MUSTER_ECORRUPT, "tensor \"%.100s\": a block of the %" PRIu64 " bytes wanted is not stored",
                       t->name, t->shape.bytes);
    mu_ckpt_boxes_free(&missing);
    return rc;
}

static size_t place_up(size_t n)
{
    return (n + 63) / 64 * 64;
}

static void load_end(struct load *l)
{
    for (uint32_t r = 0; l->parts && r < l->id.world; r++) {
        if (l->parts[r].fd >= 0)
            close(l->parts[r].fd);
        mu_ckpt_names_free(&l->parts[r].names);
        mu_ckpt_manifest_free(&l->parts[r].man);
    }
    free(l->parts);
    free(l->extent);
}

static int load_parts(struct load *l, const struct mu_ckpt_commit *k, struct mu_err *err)
{
    __attribute__((cleanup(mu_ckpt_agree_free))) struct mu_ckpt_agree agree = {0};
    int rc = 0;

    l->id = k->id;
    l->parts = calloc(k->id.world, sizeof *l->parts);
    l->extent = malloc(MU_CKPT_EXTENT_MAX);
    for (uint32_t r = 0; l->parts && r < k->id.world; r++)
        l->parts[r].fd = -1;
    if (!l->parts || !l->extent)
        return mu_err_set(err, MUSTER_ENOMEM, "no memory to read a checkpoint of %u ranks", k->id.world);
    for (uint32_t r = 0; !rc && r < k->id.world; r++)
        rc = mu_ckpt_store_manifest(l->gendir, &k->id, r, &k->votes[r], &l->parts[r].man, err);
    for (uint32_t r = 0; !rc && r < k->id.world; r++)
        rc = mu_ckpt_agree_add(&agree, &l->parts[r].man, err);
    return mu_ckpt_verify_agrees(rc ? rc : mu_ckpt_agree_end(&agree, err), err);
}

int mu_ckpt_load(const char *dir, uint64_t generation, const struct mu_ckpt_tensors *tensors,
                 struct mu_ckpt_loaded *out, struct mu_err *err)
{
    struct mu_ckpt_path gendir = mu_ckpt_path("%s/g%08" PRIu64, dir, generation);
    struct mu_ckpt_loaded got = {0};
    struct load l = {.gendir = gendir.s};
    struct mu_ckpt_commit k = {0};
    size_t at = 0;
    int rc = mu_ckpt_store_commit(gendir.s, generation, &k, err);

    if (rc)
        return rc;
    if ((rc = load_parts(&l, &k, err)))
        goto out;
    for (size_t i = 0; i < tensors->n; i++) /* a list's sum is bounded: no overflow */
        got.bytes += place_up(tensors->v[i].shape.bytes);
    if (got.bytes) {
        void *mem = mmap(NULL, got.bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

        if (mem == MAP_FAILED) {
            rc = mu_err_set(err, MUSTER_ENOMEM, "no memory for the %zu bytes to restore", got.bytes);
            goto out;
        }
        got.mem = mem;
    }
    for (size_t i = 0; !rc && i < tensors->n; i++) {
        rc = load_tensor(&l, i, &tensors->v[i], got.mem ? got.mem + at : NULL, err);
        at += place_up(tensors->v[i].shape.bytes);
    }
    got.id = k.id;
    if (!rc)
        *out = got;
    else
        mu_ckpt_loaded_free(&got);

out:
    load_end(&l);
    free(k.votes);
    return rc;
}

/* Put together here first. */
static int load_device(struct load *l, size_t i, const struct mu_ckpt_tensor *t, struct mu_ckpt_mover *m,
                       struct mu_err *err)
{
    mu_auto_free unsigned char *whole = malloc(t->shape.bytes + 1);
    int rc = m->begin(m, err), end;

    if (!whole)
        return mu_err_set(err, MUSTER_ENOMEM, "no memory for tensor \"%.100s\" on its way to the GPU", t->name);
    if (!rc)
        rc = load_tensor(l, i, t, whole, err);
    if (!rc && t->shape.bytes)
        rc = m->put(m, t->data, whole, t->shape.bytes, err);
    end = m->done(m, rc ? NULL : err);
    return rc ? rc : end;
}

static int held(const struct mu_ckpt_held *h, const struct mu_ckpt_tensors *tensors, bool look, struct mu_err *err)
{
    struct load l = {.gendir = "memory", .id = h->id, .look = look, .trust = !look};
    int rc = 0;

    if (!(l.parts = calloc(h->id.world, sizeof *l.parts)))
        return mu_err_set(err, MUSTER_ENOMEM, "no memory to read a checkpoint of %u ranks", h->id.world);
    for (uint32_t r = 0; r < h->id.world; r++)
        l.parts[r] = (struct part){.man = h->parts[r].man,
                                   .fd = -1,
                                   .image = h->parts[r].image,
                                   .summed = h->parts[r].summed && !h->parts[r].sound,
                                   .partial = h->parts[r].partial};
    for (size_t i = 0; !rc && i < tensors->n; i++) {
        const struct mu_ckpt_tensor *t = &tensors->v[i];

        if (t->device && !look)
            rc = load_device(&l, i, t, tensors->mover, err);
        else
            rc = load_tensor(&l, i, t, look ? NULL : t->data, err);
    }
    for (uint32_t r = 0; r < h->id.world; r++)
        mu_ckpt_names_free(&l.parts[r].names);
    free(l.parts);
    return rc;
}

int mu_ckpt_held_agrees(const struct mu_ckpt_held *h, struct mu_err *err)
{
    __attribute__((cleanup(mu_ckpt_agree_free))) struct mu_ckpt_agree agree = {0};
    int rc = 0;

    for (uint32_t r = 0; !rc && r < h->id.world; r++)
        rc = mu_ckpt_agree_add(&agree, &h->parts[r].man, err);
    return rc ? rc : mu_ckpt_agree_end(&agree, err);
}

int mu_ckpt_held_verify(const struct mu_ckpt_held *h, const struct mu_ckpt_tensors *tensors, struct mu_err *err)
{
    return held(h, tensors, true, err);
}

int mu_ckpt_held_apply(const struct mu_ckpt_held *h, const struct mu_ckpt_tensors *tensors, struct mu_err *err)
{
    return held(h, tensors, false, err);
}

void mu_ckpt_held_free(struct mu_ckpt_held *h)
{
    for (uint32_t r = 0; h->parts && r < h->id.world; r++) {
        mu_ckpt_manifest_free(&h->parts[r].man);
        if (h->parts[r].image && !h->parts[r].writers)
            munmap(h->parts[r].image, h->parts[r].bytes);
    }
    free(h->parts);
    *h = (struct mu_ckpt_held){0};
}

int mu_ckpt_loaded_apply(const struct mu_ckpt_loaded *l, const struct mu_ckpt_tensors *tensors, struct mu_err *err)
{
    struct mu_ckpt_mover *m = tensors->mover;
    int rc = m ? m->begin(m, err) : 0, end;
    size_t at = 0;

    for (size_t i = 0; !rc && i < tensors->n; i++) {
        const struct mu_ckpt_tensor *t = &tensors->v[i];

        if (t->shape.bytes && t->device)
            rc = m->put(m, t->data, l->mem + at, t->shape.bytes, err);
        else if (t->shape.bytes)
            mu_copy(t->data, l->mem + at, t->shape.bytes);
        at += place_up(t->shape.bytes);
    }
    end = m ? m->done(m, rc ? NULL : err) : 0;
    return rc ? rc : end;
}

void mu_ckpt_loaded_free(struct mu_ckpt_loaded *l)
{
    if (l->mem)
        munmap(l->mem, l->bytes);
    *l = (struct mu_ckpt_loaded){0};
}
