#include "runtime/rank/ram.h"

#include "runtime/base/clean.h"

#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>

#define SAVES 16u          /* of one node that are looked at */
#define CHUNK (4u << 20)   /* of one broadcast */
#define SLICES (64u << 20) /* of all ranks' manifests, at a time */
#define SCRATCH (CHUNK + MU_CKPT_EXTENT_MAX)
#define FAILED UINT64_MAX
#define NOBODY INT32_MAX

static atomic_flag taken = ATOMIC_FLAG_INIT;

void mu_rank_ram_open(struct mu_rank_ram *r)
{
    const char *path = getenv(MU_ARENA_ENV), *attempt = getenv("MUSTER_ATTEMPT");

    r->head = NULL;
    if (!path || !*path || !attempt || atomic_flag_test_and_set(&taken))
        return;
    if (!mu_arena_open(path, &r->head, NULL) && atomic_load(&r->head->attempt) == (uint32_t)atoi(attempt)) {
        atomic_fetch_add(&r->head->users, 1);
        return;
    }
    if (r->head)
        munmap(r->head, MU_ARENA_BYTES);
    r->head = NULL;
    atomic_flag_clear(&taken);
}

void mu_rank_ram_close(struct mu_rank_ram *r)
{
    r->sound = NULL;
    if (!r->head)
        return;
    munmap(r->head, MU_ARENA_BYTES);
    r->head = NULL;
    atomic_flag_clear(&taken);
}

/* The cells of this node that hold something of the directory's. */
static struct mu_arena_cell *next_cell(const struct mu_rank_ram *r, uint32_t *at)
{
    uint32_t n = r->head ? atomic_load(&r->head->nranks) : 0;

    for (n = (n < MU_ARENA_RANKS ? n : MU_ARENA_RANKS) * MU_ARENA_SLOTS; *at < n;) {
        struct mu_arena_cell *c = &r->head->cells[(*at)++];

        if (atomic_load_explicit(&c->state, memory_order_acquire) == MU_ARENA_FULL &&
            !strncmp(c->place.dir, r->dir, sizeof c->place.dir))
            return c;
    }
    return NULL;
}

static size_t add_save(struct mu_rank_save *v, size_t n, size_t max, const struct mu_rank_save *s)
{
    for (size_t i = 0; i < n; i++)
        if (mu_ckpt_same_id(&v[i].id, &s->id)) {
            v[i].order = v[i].order > s->order ? v[i].order : s->order;
            return n;
        }
    if (n < max)
        v[n++] = *s;
    return n;
}

static int newest_first(const void *a, const void *b)
{
    const struct mu_rank_save *x = a, *y = b;

    if (x->order != y->order)
        return x->order < y->order ? 1 : -1;
    return memcmp(&x->id, &y->id, sizeof x->id);
}

int mu_rank_ram_list(const struct mu_rank_ram *r, struct mu_rank_save **list, size_t *n, struct mu_err *err)
{
    size_t size = (size_t)muster_size(r->comm), found = 0;
    mu_auto_free struct mu_rank_save *all = NULL;
    struct mu_rank_save mine[SAVES];
    int32_t fine, ok;
    uint32_t at = 0;
    int rc;

    memset(mine, 0, sizeof mine);
    for (struct mu_arena_cell *c; (c = next_cell(r, &at));)
        found = add_save(mine, found, SAVES, &(struct mu_rank_save){.id = c->id, .order = c->generation});
    all = calloc(size, sizeof mine);
    fine = all != NULL;
    if ((rc = muster_allreduce(&fine, &ok, 1, MUSTER_INT32, MUSTER_MIN, r->comm)))
        return mu_err_set(err, rc, "%s", muster_last_error());
    if (!ok)
        return mu_err_set(err, MUSTER_ENOMEM, "no memory for a list of checkpoints");
    if ((rc = muster_allgather(mine, all, sizeof mine, MUSTER_UINT8, r->comm)))
        return mu_err_set(err, rc, "%s", muster_last_error());
    found = 0;
    for (size_t i = 0; i < size * SAVES; i++) /* to the front of itself */
        if (all[i].id.world)
            found = add_save(all, found, SIZE_MAX, &(struct mu_rank_save){.id = all[i].id, .order = all[i].order});
    qsort(all, found, sizeof *all, newest_first);
    *list = MU_STEAL(all, NULL);
    *n = found;
    return 0;
}

/* --- one save ----------------------------------------------------------------------------------------------------- */

/* A part's manifest on its way from node to node; its bytes follow. */
struct parcel {
    uint64_t rank, bytes, summed;
};
struct fetch {
    struct mu_rank_ram *ram;
    struct mu_ckpt_held *held;
    int me;
    int32_t *holder;             /* lowest rank whose node has the part */
    struct mu_arena_cell **cell; /* NULL: not here */
    unsigned char *scratch;      /* SCRATCH bytes */
    uint64_t *lens;              /* two for each rank that there is now */
};

/* All go on, or nobody does: 0, or 1 when another one cannot, or this one's error. */
static int together(const struct fetch *f, int rc, struct mu_err *err)
{
    int32_t mine = rc, least = 0;
    int got = muster_allreduce(&mine, &least, 1, MUSTER_INT32, MUSTER_MIN, f->ram->comm);

    if (got)
        return mu_err_set(err, got, "%s", muster_last_error());
    return rc ? rc : least ? 1 : 0;
}

static int map_part(struct fetch *f, uint32_t rank, struct mu_err *err)
{
    struct mu_ckpt_held_part *p = &f->held->parts[rank];
    const struct mu_arena_cell *c = f->cell[rank];
    uint64_t bytes = mu_arena_bytes(c->segment, c->manifest, c->extents);
    int rc;

    p->sound = f->ram->sound == c && mu_ckpt_same_id(&f->ram->sound_id, &c->id);
    if (f->ram->writer && (p->image = mu_ckpt_writer_map(f->ram->writer, c, bytes)))
        p->writers = true;
    else if ((rc = mu_arena_map(f->ram->head, c, bytes, false, &p->image, err)))
        return rc;
    p->bytes = bytes;
    return mu_arena_manifest(c, p->image, &p->man, &p->summed, err);
}

/* The manifests of the parts that this rank is the holder of, with their CRCs, as a generation has them. */
static int pack(const struct fetch *f, unsigned char **out, uint64_t *n, struct mu_err *err)
{
    mu_auto_free unsigned char *all = NULL;
    uint64_t at = 0;

    for (uint32_t r = 0; r < f->held->id.world; r++) {
        struct mu_ckpt_held_part *p = &f->held->parts[r];
        mu_auto_free unsigned char *buf = NULL;
        struct parcel x = {.rank = r, .summed = p->summed};
        unsigned char *grown;
        int rc;

        if (f->holder[r] != f->me)
            continue;
        if ((rc = mu_ckpt_manifest_encode(&p->man, &buf, err)))
            return rc;
        x.bytes = p->man.bytes;
        if (!(grown = realloc(all, at + sizeof x + x.bytes)))
            return mu_err_set(err, MUSTER_ENOMEM, "no memory for rank %u's manifest", r);
        all = grown;
        memcpy(all + at, &x, sizeof x);
        memcpy(all + at + sizeof x, buf, x.bytes);
        at += sizeof x + x.bytes;
    }
    *out = MU_STEAL(all, NULL);
    *n = at;
    return 0;
}

static int unpack_one(struct fetch *f, int from, const struct parcel *x, const unsigned char *buf, struct mu_err *err)
{
    struct mu_ckpt_held_part *p = &f->held->parts[x->rank];
    void *map;
    int rc;

    if (f->cell[x->rank] || f->holder[x->rank] != from || p->image)
        return 0;
    if ((rc = mu_ckpt_manifest_decode(buf, x->bytes, &p->man, err)))
        return rc;
    p->summed = x->summed;
    p->partial = true;
    /* filled where it is needed; the rest takes no memory */
    map = mmap(NULL, p->man.segment, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (map == MAP_FAILED)
        return mu_err_errno(err, MUSTER_ENOMEM, "map %" PRIu64 " bytes", p->man.segment);
    p->image = map;
    p->bytes = p->man.segment;
    return 0;
}

static int unpack(struct fetch *f, int from, const unsigned char *buf, uint64_t n, struct mu_err *err)
{
    int rc = 0;

    for (uint64_t at = 0; !rc && at < n;) {
        struct parcel x;

        if (n - at < sizeof x)
            return mu_err_set(err, MUSTER_ECORRUPT, "what rank %d has sent of its manifests makes no sense", from);
        memcpy(&x, buf + at, sizeof x);
        at += sizeof x;
        if (x.rank >= f->held->id.world || x.bytes > n - at)
            return mu_err_set(err, MUSTER_ECORRUPT, "what rank %d has sent of its manifests makes no sense", from);
        rc = unpack_one(f, from, &x, buf + at, err);
        at += x.bytes;
    }
    return rc;
}

/* All get what each rank has packed: in slices, so that no more than SLICES of it is in memory twice. rc: how this rank
 * has fared so far. */
static int exchange_manifests(struct fetch *f, int rc, struct mu_err *err)
{
    size_t size = (size_t)muster_size(f->ram->comm);
    uint64_t *lens = f->lens, *at = f->lens + size, n = 0, most = 0, sum = 0, slice;
    mu_auto_free unsigned char *mine = NULL, *room = NULL;
    unsigned char *all = f->scratch, *send, *recv;
    int got;

    if (!rc)
        rc = pack(f, &mine, &n, err);
    n = rc ? FAILED : n;
    if ((got = muster_allgather(&n, lens, sizeof n, MUSTER_UINT8, f->ram->comm)))
        return mu_err_set(err, got, "%s", muster_last_error());
    for (size_t r = 0; r < size; r++) {
        if (lens[r] == FAILED)
            return rc ? rc : 1;
        at[r] = sum;
        sum += lens[r];
        most = lens[r] > most ? lens[r] : most;
    }
    slice = SLICES / size > MU_CKPT_PAGE ? SLICES / size : MU_CKPT_PAGE;
    slice = slice < most ? slice : most;
    if (sum + (size + 1) * slice > SCRATCH) { /* the same on all ranks */
        all = room = malloc(sum + (size + 1) * slice);
        rc = room ? 0 : mu_err_set(err, MUSTER_ENOMEM, "no memory for manifests");
        if ((got = together(f, rc, err)))
            return got;
    }
    send = all + sum;
    recv = send + slice;
    memset(send, 0, slice);
    for (uint64_t from = 0; from < most; from += slice) {
        if (from < n)
            memcpy(send, mine + from, n - from < slice ? n - from : slice);
        if ((got = muster_allgather(send, recv, slice, MUSTER_UINT8, f->ram->comm)))
            return mu_err_set(err, got, "%s", muster_last_error());
        for (size_t r = 0; r < size; r++)
            if (from < lens[r])
                memcpy(all + at[r] + from, recv + r * slice, lens[r] - from < slice ? lens[r] - from : slice);
    }
    for (size_t r = 0; !rc && r < size; r++)
        rc = unpack(f, (int)r, all + at[r], lens[r], err);
    for (uint32_t r = 0; !rc && r < f->held->id.world; r++)
        if (!f->held->parts[r].image)
            rc = mu_err_set(err, MUSTER_ECORRUPT, "nobody has sent rank %u's manifest", r);
    return together(f, rc, err);
}

/* What every rank needs of it: its share of the replicated tensors. */
static int exchange_data(struct fetch *f, uint32_t rank, struct mu_err *err)
{
    const struct mu_ckpt_held_part *p = &f->held->parts[rank];
    bool here = f->cell[rank] != NULL, root = f->holder[rank] == f->me;

    for (size_t i = 0; i < p->man.nblocks; i++) {
        const struct mu_ckpt_block *b = &p->man.blocks[i];

        if (!(b->shape.flags & MUSTER_REPLICATED))
            continue;
        for (size_t k = b->first, next; k < b->first + b->n; k = next) {
            const struct mu_ckpt_extent *e = &p->man.extents[k], *last = e;
            uint64_t n;
            int rc;

            for (next = k + 1; next < b->first + b->n; next++) {
                const struct mu_ckpt_extent *x = &p->man.extents[next];

                if (x->file < last->file || x->file + x->bytes - e->file > CHUNK)
                    break;
                last = x;
            }
            n = last->file + last->bytes - e->file;
            if ((rc = muster_broadcast(here && !root ? f->scratch : p->image + e->file, n, MUSTER_UINT8,
                                       f->holder[rank], f->ram->comm)))
                return mu_err_set(err, rc, "%s", muster_last_error());
        }
    }
    return 0;
}

static int fetch(struct fetch *f, struct mu_err *err)
{
    uint32_t world = f->held->id.world, lacks = world;
    int32_t *mine = f->holder + world + 1;
    int rc = 0, got;
    bool everywhere;

    mine[world] = 1; /* all of them are here */
    for (uint32_t r = 0; r < world; r++) {
        mine[r] = f->cell[r] ? f->me : NOBODY;
        mine[world] &= f->cell[r] != NULL;
    }
    if ((got = muster_allreduce(mine, f->holder, world + 1, MUSTER_INT32, MUSTER_MIN, f->ram->comm)))
        return mu_err_set(err, got, "%s", muster_last_error());
    everywhere = f->holder[world];
    for (uint32_t r = world; r-- > 0;)
        lacks = f->holder[r] == NOBODY ? r : lacks;
    if (lacks < world)
        return mu_err_set(err, MUSTER_ECORRUPT, "rank %u's copy is in no node's memory any more", lacks);
    for (uint32_t r = 0; !rc && r < world; r++)
        if (f->cell[r])
            rc = map_part(f, r, err);
    if (everywhere) /* the next to be heard of it is the caller's own result */
        return rc;
    if (!rc && !(f->scratch = malloc(SCRATCH)))
        rc = mu_err_set(err, MUSTER_ENOMEM, "no memory to exchange parts");
    if ((got = exchange_manifests(f, rc, err)))
        return got;
    for (uint32_t r = 0; r < world; r++)
        if ((got = exchange_data(f, r, err)))
            return got;
    return 0;
}

int mu_rank_ram_load(struct mu_rank_ram *r, const struct mu_ckpt_id *id, const struct mu_ckpt_tensors *tensors,
                     struct mu_ckpt_held *out, struct mu_err *err)
{
    mu_auto_free struct mu_arena_cell **cells = calloc(id->world, sizeof(struct mu_arena_cell *));
    mu_auto_free int32_t *holder = calloc(2 * ((size_t)id->world + 1), sizeof *holder);
    struct mu_ckpt_held held = {.id = *id, .parts = calloc(id->world, sizeof *held.parts)};
    mu_auto_free uint64_t *lens = calloc(2 * (size_t)muster_size(r->comm), sizeof *lens);
    struct fetch f = {
        .ram = r, .held = &held, .me = muster_rank(r->comm), .holder = holder, .cell = cells, .lens = lens};
    uint32_t at = 0;
    int rc = cells && holder && lens && held.parts ? 0 : mu_err_set(err, MUSTER_ENOMEM, "no memory for parts");

    for (struct mu_arena_cell *c; !rc && (c = next_cell(r, &at));)
        if (c->rank < id->world && mu_ckpt_same_id(&c->id, id))
            cells[c->rank] = c;
    if (!(rc = together(&f, rc, err)) && !(rc = fetch(&f, err)) && !(rc = mu_ckpt_held_agrees(&held, err)))
        rc = mu_ckpt_held_verify(&held, tensors, err);
    free(f.scratch);
    r->sound = NULL;
    if (rc)
        mu_ckpt_held_free(&held);
    else
        *out = held;
    return rc;
}
