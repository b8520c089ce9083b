#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/base/clean.h"
#include "runtime/base/clock.h"
#include "runtime/base/crc32c.h"
#include "runtime/base/futex.h"
#include "runtime/keeper/peers_priv.h"

#define ASKED_MOST 4096u /* questions that wait */

/* --- giving ------------------------------------------------------------------------------------------------------- */

void mu_rebuild_forget(struct mu_peers *p)
{
    mu_block_close(&p->giving);
    mu_maps_give(MU_STEAL(p->gives.map, NULL));
}

/* The parity that this node has of the save; what is mapped stays so for the next question. */
static const struct mu_arena_parity *parity_of(struct mu_peers *p, const struct mu_ckpt_id *id,
                                               const struct mu_m_shard *m)
{
    const struct mu_arena_parity *x = mu_arena_parity_of(p->head, id);
    struct mu_err err;

    if (!x || x->n != m->n || x->k != m->k || x->chunk != m->chunk)
        return NULL;
    if (p->gives.map && &p->head->parity[p->gives.slot] == x && mu_ckpt_same_id(&p->giving.id, id))
        return x;
    mu_rebuild_forget(p);
    p->gives.bytes = mu_arena_parity_bytes(x->n, x->k, x->chunk);
    p->gives.slot = (uint32_t)(x - p->head->parity);
    if (mu_maps_take(p->head, x->fd, p->gives.bytes, false, &p->gives.map, &err))
        return NULL;
    if (mu_block_open(p->head, id, &p->giving, &err))
        p->giving = (struct mu_block){.id = *id};
    return x;
}

static void give(struct mu_peers *p, struct mu_bulk *link, const struct mu_m_shard *m)
{
    struct mu_m_shard out = *m;
    const struct mu_arena_parity *x;
    const unsigned char *from = NULL;
    const uint32_t *sums;
    struct mu_ckpt_id id;
    uint64_t pieces = mu_arena_pieces(m->chunk), i = m->at / MU_ARENA_PIECE;
    uint32_t rows, role, row, len = mu_piece_len(m->chunk, m->at);

    memcpy(&id, m->id.data, sizeof id);
    p->gave = mu_now();
    out.kind = MU_SHARD_NONE;
    out.data = (struct mu_bytes){0};
    if ((x = parity_of(p, &id, m))) {
        rows = x->n - x->k;
        role = (x->me + x->n - m->stripe) % x->n;
        row = role < x->k ? rows + role : role - x->k;
        sums = (const uint32_t *)(const void *)(p->gives.map + x->k * x->chunk);
        out.from = x->me;
        from = row >= rows ? p->gives.map + (row - rows) * x->chunk + m->at
                           : mu_block_at(&p->giving, row * x->chunk + m->at, p->buf, len);
        if (row == m->row && (row >= rows || p->giving.n == x->nparts[x->me]) &&
            (MU_PLANTED(UNSUMMED) || mu_crc32c(0, from, len) == sums[row * pieces + i]))
            out.kind = MU_SHARD_GIVE;
    }
    len = out.kind == MU_SHARD_GIVE ? len : 0;
    mu_bulk_send(link, MU_MSG_shard, &out, from, len);
    atomic_fetch_add(&p->head->given, len);
}

/* What finds no room is not copied to wait for it, but given later from where it lies. */
void mu_rebuild_asked(struct mu_peers *p, struct mu_bulk *link, const struct mu_m_shard *m)
{
    struct mu_asked *all;
    bool waits = mu_bulk_pending(link);

    for (size_t i = 0; i < p->nasked && !waits; i++)
        waits = p->asked[i].by == link;
    all = waits && p->nasked < ASKED_MOST ? realloc(p->asked, (p->nasked + 1) * sizeof *all) : NULL;
    if (!all) {
        give(p, link, m);
        return;
    }
    p->asked = all;
    all += p->nasked++;
    *all = (struct mu_asked){.by = link, .what = *m};
    all->what.data = (struct mu_bytes){0};
    memcpy(&all->id, m->id.data, sizeof all->id);
}

void mu_rebuild_room(struct mu_peers *p, struct mu_bulk *link)
{
    size_t kept = 0;

    for (size_t i = 0; i < p->nasked; i++) {
        struct mu_asked x = p->asked[i];

        if (x.by != link || mu_bulk_pending(link)) {
            p->asked[kept++] = x;
            continue;
        }
        x.what.id = (struct mu_bytes){.data = (uint8_t *)&x.id, .len = sizeof x.id};
        give(p, link, &x.what);
    }
    p->nasked = kept;
}

void mu_rebuild_unasked(struct mu_peers *p, struct mu_bulk *link)
{
    size_t kept = 0;

    for (size_t i = 0; i < p->nasked; i++)
        if (p->asked[i].by != link)
            p->asked[kept++] = p->asked[i];
    p->nasked = kept;
}

/* --- taking ------------------------------------------------------------------------------------------------------- */

/* Where several members of a group are lost, the rows of a stripe that they had are made by one of them, of what is
 * read once, and sent to the others. */

enum { WINDOW = 16 }; /* pieces at once */
#define JOIN_WAIT                                                                                                      \
    (500 * MU_MS)              /* for the others to begin, at least, and while there is something to do without them   \
                                */
#define MADE_WAIT (2 * MU_SEC) /* for anything from them; then we make it ourselves */
#define PUSHED (4u << 20)      /* bytes that may wait for one of them */

struct want {
    bool used;
    uint32_t d, have;
    uint64_t at;
    bool got[MU_GROUP_MAX];
    unsigned char *out[MU_GROUP_MAX]; /* as the stripe's `member` */
};
struct mu_rebuild {
    struct mu_arena_rebuild *order;
    struct mu_code code;
    uint32_t n, k, m, lost;
    uint64_t pieces, done, total, bytes, began, touched, made;
    struct mu_arena_addr member[MU_GROUP_MAX], maker[MU_GROUP_MAX];
    uint32_t joined, left, told; /* members: they take what we make, they do not, they know that we take */
    struct stripe {
        uint32_t by;                         /* the lost member that makes it */
        uint32_t nout, member[MU_GROUP_MAX]; /* whose rows are made here: ours first */
        uint32_t bad;                        /* members that do not have their part */
        uint32_t rows[MU_GROUP_MAX];         /* what it is made of */
        uint64_t next, there;                /* piece; so many of ours are there, or not needed */
        struct mu_code_way way;
    } * stripes; /* by data row of ours */
    bool *is;    /* by data row and piece: there, or not needed */
    struct want wants[WINDOW];
    struct dest {
        struct mu_arena_cell *cell;
        int fd; /* -1: it is there */
        uint64_t at, bytes;
    } dest[MU_ARENA_RANKS];
    uint32_t ndest;
    bool reached; /* all of them, once */
};

static void end(struct mu_peers *p, int code, const char *why)
{
    struct mu_rebuild *r = MU_STEAL(p->rebuild, NULL);

    for (uint32_t i = 0; i < r->ndest; i++)
        if (r->dest[i].fd >= 0)
            close(r->dest[i].fd);
    for (int w = 0; w < WINDOW; w++)
        free(r->wants[w].out[0]);
    for (size_t i = 0; i < MU_COUNT(p->joins); i++)
        if (mu_ckpt_same_id(&p->joins[i].id, &r->order->id))
            p->joins[i].id.world = 0;
    p->over = r->order->id;
    p->over_lost = r->lost;
    if (code)
        mu_err_set(&r->order->error, code, "%s", why);
    for (uint32_t i = 0; i < r->ndest && !code; i++) {
        if (r->dest[i].fd < 0)
            continue;
        atomic_store(&r->dest[i].cell->summed, 1);
        atomic_store_explicit(&r->dest[i].cell->state, MU_ARENA_FULL, memory_order_release);
    }
    atomic_store_explicit(&r->order->state, code ? MU_DRAIN_FAILED : MU_DRAIN_DONE, memory_order_release);
    mu_futex_wake(&r->order->state);
    free(r->stripes);
    free(r->is);
    free(r);
}

void mu_rebuild_end(struct mu_peers *p)
{
    if (p->rebuild)
        end(p, MUSTER_EABORTED, "the attempt is over");
}

static uint32_t stripe_of(const struct mu_rebuild *r, uint32_t d)
{
    return (r->lost + 2 * r->n - r->k - d) % r->n;
}
static uint32_t member_of(const struct mu_rebuild *r, uint32_t d, uint32_t row)
{
    return (stripe_of(r, d) + (row < r->m ? r->k + row : row - r->m)) % r->n;
}
/* The data row that a member has in our stripe d; m or more: it has parity there. */
static uint32_t row_of(const struct mu_rebuild *r, uint32_t d, uint32_t member)
{
    return (member + 2 * r->n - stripe_of(r, d) - r->k) % r->n;
}

/* Who makes stripe d, and for whom: the same on all nodes that have to do with it. */
static void share(struct mu_rebuild *r, uint32_t d)
{
    struct stripe *s = &r->stripes[d];
    uint32_t all[MU_GROUP_MAX], n = 0;

    for (uint32_t x = 0; x < r->n; x++)
        if ((x == r->lost || r->maker[x].port) && row_of(r, d, x) < r->m)
            all[n++] = x;
    s->by = all[stripe_of(r, d) % n];
    s->member[s->nout++] = r->lost;
    for (uint32_t i = 0; i < n && s->by == r->lost; i++)
        if (all[i] != r->lost)
            s->member[s->nout++] = all[i];
}

/* What stripe d is made of, of what there is: data before parity. False: too little is left. */
static bool choose(struct mu_rebuild *r, uint32_t d)
{
    struct stripe *s = &r->stripes[d];
    uint32_t have = 0, rows[MU_GROUP_MAX];

    for (uint32_t row = 0; row < r->n && have < r->m; row++) {
        uint32_t member = member_of(r, d, row);

        if (member != r->lost && r->member[member].port && !(s->bad & 1u << member) &&
            !(row < r->m && r->maker[member].port))
            s->rows[have++] = row;
    }
    for (uint32_t i = 0; i < s->nout; i++)
        rows[i] = row_of(r, d, s->member[i]);
    return have == r->m && mu_code_way(&r->code, s->rows, rows, s->nout, &s->way, NULL) == 0;
}

static struct mu_m_shard about(const struct mu_rebuild *r, struct mu_ckpt_id *id, uint32_t kind)
{
    *id = r->order->id;
    return (struct mu_m_shard){.id = {.data = (uint8_t *)id, .len = sizeof *id},
                               .kind = kind,
                               .n = r->n,
                               .k = r->k,
                               .chunk = r->order->chunk,
                               .from = r->lost};
}

static void ask(struct mu_peers *p, struct want *w)
{
    struct mu_rebuild *r = p->rebuild;
    const struct stripe *s = &r->stripes[w->d];

    memset(w->got, 0, sizeof w->got);
    w->have = 0;
    for (uint32_t i = 0; i < r->m; i++) {
        struct mu_peer *peer = mu_peers_at(p, &r->member[member_of(r, w->d, s->rows[i])]);
        struct mu_ckpt_id id;
        struct mu_m_shard m = about(r, &id, MU_SHARD_WANT);

        m.stripe = stripe_of(r, w->d);
        m.row = s->rows[i];
        m.at = w->at;
        if (peer && peer->link)
            mu_bulk_send(peer->link, MU_MSG_shard, &m, NULL, 0);
    }
}

/* Anew with what is left; false: it was the end. */
static bool without(struct mu_peers *p, uint32_t d)
{
    struct mu_rebuild *r = p->rebuild;

    if (!choose(r, d)) {
        end(p, MUSTER_ECORRUPT, "more is lost than the group's parity can make good");
        return false;
    }
    for (int w = 0; w < WINDOW; w++)
        if (r->wants[w].used && r->wants[w].d == d)
            ask(p, &r->wants[w]);
    return true;
}

static bool needed(const struct mu_rebuild *r, uint64_t at)
{
    for (uint32_t i = 0; i < r->ndest; i++) {
        const struct dest *d = &r->dest[i];

        if (d->fd >= 0 && at < d->at + d->bytes && d->at < at + MU_ARENA_PIECE)
            return true;
    }
    return false;
}

static void is_there(struct mu_rebuild *r, uint32_t d, uint64_t piece)
{
    bool *is = &r->is[d * r->pieces + piece];

    r->done += !*is;
    r->stripes[d].there += !*is;
    *is = true;
}

static int begin(struct mu_peers *p, struct mu_arena_rebuild *o, struct mu_err *err)
{
    struct mu_rebuild *r = calloc(1, sizeof *r);
    int rc;

    if (!r)
        return mu_err_set(err, MUSTER_ENOMEM, "no memory to make parts again");
    p->rebuild = r;
    r->order = o;
    r->n = o->n;
    r->k = o->k;
    r->lost = o->lost;
    if ((rc = mu_code_init(&r->code, o->n, o->k, err)))
        return rc;
    if (o->lost >= o->n || o->nparts > MU_ARENA_RANKS || !o->chunk || o->chunk % MU_CKPT_PAGE)
        return mu_err_set(err, MUSTER_EARG, "an order that makes no sense");
    r->m = r->n - r->k;
    r->pieces = mu_arena_pieces(o->chunk);
    r->total = r->m * r->pieces;
    r->began = r->touched = r->made = mu_now();
    memcpy(r->member, o->member, sizeof r->member);
    memcpy(r->maker, o->maker, sizeof r->maker);
    for (uint32_t i = 0; i < o->nparts; i++) {
        struct dest *d = &r->dest[i];

        uint32_t cell = o->cell[i] & ~MU_ARENA_THERE;

        if (cell >= MU_ARENA_RANKS * MU_ARENA_SLOTS)
            return mu_err_set(err, MUSTER_EARG, "an order that makes no sense");
        d->cell = &p->head->cells[cell];
        d->fd = -1;
        d->bytes = mu_arena_bytes(d->cell->segment, d->cell->manifest, d->cell->extents);
        d->at = r->bytes;
        r->bytes += mu_arena_part_bytes(d->cell->segment, d->cell->manifest, d->cell->extents);
        r->ndest++;
        if (!(o->cell[i] & MU_ARENA_THERE) && (d->fd = mu_arena_open_fd(p->head, d->cell->fd, d->bytes, true, err)) < 0)
            return d->fd;
    }
    if (r->bytes > r->m * o->chunk)
        return mu_err_set(err, MUSTER_EARG, "an order that makes no sense");
    r->stripes = calloc(r->m, sizeof *r->stripes);
    r->is = calloc(r->total, sizeof *r->is);
    for (int w = 0; w < WINDOW; w++) {
        unsigned char *mem = malloc((size_t)r->k * MU_ARENA_PIECE);

        for (uint32_t i = 0; mem && i < r->k; i++)
            r->wants[w].out[i] = mem + (size_t)i * MU_ARENA_PIECE;
        if (!mem || !r->stripes || !r->is)
            return mu_err_set(err, MUSTER_ENOMEM, "no memory to make parts again");
    }
    for (uint32_t d = 0; d < r->m; d++) {
        share(r, d);
        if (r->stripes[d].nout > r->k || !choose(r, d))
            return mu_err_set(err, MUSTER_ECORRUPT, "more is lost than the group's parity can make good");
        for (uint64_t i = 0; i < r->pieces; i++)
            if (r->stripes[d].nout == 1 && !needed(r, d * o->chunk + i * MU_ARENA_PIECE))
                is_there(r, d, i);
    }
    for (size_t i = 0; i < MU_COUNT(p->joins); i++)
        if (mu_ckpt_same_id(&p->joins[i].id, &o->id) && p->joins[i].id.world)
            r->joined |= 1u << p->joins[i].member;
    return 0;
}

static bool reached(struct mu_peers *p)
{
    struct mu_rebuild *r = p->rebuild;
    bool all = true;

    for (uint32_t i = 0; i < r->n; i++)
        if (i != r->lost && r->member[i].port) {
            const struct mu_peer *peer = mu_peers_at(p, &r->member[i]);

            all &= peer && peer->link;
        }
    return all;
}

/* Whoever else is to have something of stripe d is there, and keeps up; or is not waited for any more. */
static bool others_ready(struct mu_peers *p, const struct stripe *s)
{
    const struct mu_rebuild *r = p->rebuild;
    bool all = true;

    for (uint32_t i = 1; i < s->nout; i++) {
        const struct mu_peer *peer;

        if (r->left & 1u << s->member[i])
            continue;
        peer = mu_peers_at(p, &r->maker[s->member[i]]);
        all &= r->joined >> s->member[i] & 1 && peer && peer->link && mu_bulk_pending(peer->link) < PUSHED;
    }
    return all;
}

/* The stripe of ours whose next piece comes next. NULL: there is none now. */
static struct stripe *next_stripe(struct mu_peers *p)
{
    struct mu_rebuild *r = p->rebuild;
    struct stripe *best = NULL;

    for (uint32_t d = 0; d < r->m; d++) {
        struct stripe *s = &r->stripes[d];

        while (s->next < r->pieces && r->is[d * r->pieces + s->next])
            s->next++;
        if (s->by == r->lost && s->next < r->pieces && (!best || s->next < best->next) && others_ready(p, s))
            best = s;
    }
    return best;
}

static void ask_more(struct mu_peers *p)
{
    struct mu_rebuild *r = p->rebuild;
    struct stripe *s;

    for (int k = 0; k < WINDOW; k++) {
        struct want *w = &r->wants[k];

        if (w->used)
            continue;
        if (!(s = next_stripe(p)))
            return;
        w->d = (uint32_t)(s - r->stripes);
        w->at = s->next++ * MU_ARENA_PIECE;
        w->used = true;
        ask(p, w);
    }
}

/* --- others that are lost ----------------------------------------------------------------------------------------- */

/* What member x (MU_GROUP_MAX: any) was to make for us we make ourselves. False: that was the end. */
static bool take_over(struct mu_peers *p, uint32_t x)
{
    struct mu_rebuild *r = p->rebuild;

    for (uint32_t d = 0; d < r->m; d++) {
        struct stripe *s = &r->stripes[d];

        if (s->by == r->lost || (x != MU_GROUP_MAX && s->by != x))
            continue;
        s->by = r->lost;
        if (!without(p, d))
            return false;
    }
    return true;
}

/* Who begins late, or goes away, makes its own. False: that was the end. */
static bool look_at_others(struct mu_peers *p, uint64_t now)
{
    struct mu_rebuild *r = p->rebuild;
    bool waits = false, idle = true;

    for (int k = 0; k < WINDOW; k++)
        idle &= !r->wants[k].used;
    for (uint32_t d = 0; d < r->m; d++)
        waits |= r->stripes[d].by != r->lost && r->stripes[d].there < r->pieces;
    for (uint32_t x = 0; x < r->n; x++) {
        struct mu_peer *peer = r->maker[x].port ? mu_peers_at(p, &r->maker[x]) : NULL;
        struct mu_ckpt_id id;
        struct mu_m_shard m = about(r, &id, MU_SHARD_JOIN);

        if (!r->maker[x].port)
            continue;
        if (!peer || peer->gone || (idle && now > r->began + JOIN_WAIT && !(r->joined & 1u << x)))
            r->left |= 1u << x;
        if (peer && peer->gone && !take_over(p, x))
            return false;
        if (peer && peer->link && !(r->told & 1u << x) && !mu_bulk_send(peer->link, MU_MSG_shard, &m, NULL, 0))
            r->told |= 1u << x;
    }
    return !waits || now < r->made + MADE_WAIT || take_over(p, MU_GROUP_MAX);
}

void mu_rebuild_joins(struct mu_peers *p, struct mu_bulk *link, const struct mu_m_shard *m)
{
    struct mu_rebuild *r = p->rebuild;
    struct mu_m_shard out = *m;
    struct mu_ckpt_id id;
    bool late;

    memcpy(&id, m->id.data, sizeof id);
    if (r && mu_ckpt_same_id(&id, &r->order->id)) {
        if (m->n != r->n || m->k != r->k || m->chunk != r->order->chunk)
            return;
        late = r->left >> m->from & 1;
        r->joined |= late ? 0 : 1u << m->from;
    } else {
        late = mu_ckpt_same_id(&id, &p->over);
        p->joins[p->njoins++ % MU_COUNT(p->joins)] = (struct mu_join){.id = id, .member = m->from};
    }
    if (!late)
        return;
    out.kind = MU_SHARD_LEFT;
    out.from = r ? r->lost : p->over_lost;
    mu_bulk_send(link, MU_MSG_shard, &out, NULL, 0);
}

static void send_made(struct mu_peers *p, const struct want *w, uint32_t i, uint32_t len)
{
    const struct mu_rebuild *r = p->rebuild;
    uint32_t x = r->stripes[w->d].member[i];
    struct mu_peer *peer = r->left & 1u << x ? NULL : mu_peers_at(p, &r->maker[x]);
    struct mu_ckpt_id id;
    struct mu_m_shard m = about(r, &id, MU_SHARD_MADE);

    m.stripe = stripe_of(r, w->d);
    m.row = row_of(r, w->d, x);
    m.at = w->at;
    if (peer && peer->link && !mu_bulk_send(peer->link, MU_MSG_shard, &m, w->out[i], len))
        atomic_fetch_add(&p->head->given, len);
}

/* --- going on ----------------------------------------------------------------------------------------------------- */

bool mu_rebuild_tick(struct mu_peers *p, uint64_t now)
{
    struct mu_arena_rebuild *o = &p->head->rebuild;
    uint32_t wanted = MU_DRAIN_WANTED;
    struct mu_rebuild *r;
    struct mu_err err = {0};

    if (!p->rebuild && atomic_load_explicit(&o->state, memory_order_acquire) == MU_DRAIN_WANTED &&
        mu_peers_in_group(p) && atomic_compare_exchange_strong(&o->state, &wanted, MU_DRAIN_BUSY)) {
        int rc = begin(p, o, &err);

        if (rc && p->rebuild) {
            end(p, rc, err.text);
        } else if (rc) {
            o->error = err;
            atomic_store(&o->state, MU_DRAIN_FAILED);
            mu_futex_wake(&o->state);
        }
    }
    if (!(r = p->rebuild))
        return false;
    if (atomic_load(&o->state) == MU_DRAIN_SAFE) {
        end(p, MUSTER_EABORTED, "nobody waits for it");
        return false;
    }
    if (r->done == r->total) {
        end(p, 0, NULL);
        return false;
    }
    if (now > r->touched + MU_PEERS_PATIENCE) {
        end(p, MUSTER_ETIMEOUT, "peers did not give back what they have in time");
        return false;
    }
    for (uint32_t i = 0; i < r->n; i++) { /* whoever goes away is lost as well */
        struct mu_peer *peer = i != r->lost && r->member[i].port ? mu_peers_at(p, &r->member[i]) : NULL;

        if (!peer || !peer->gone)
            continue;
        r->member[i].port = 0;
        for (uint32_t d = 0; d < r->m; d++)
            if (!without(p, d))
                return false;
    }
    if (!r->reached && !(r->reached = reached(p)))
        r->began = r->made = now; /* nobody can have begun */
    if (!look_at_others(p, now))
        return false;
    if (reached(p))
        ask_more(p);
    return true;
}

/* Written, not mapped: the memory is fresh, and would be cleared first and met page by page. False: that was the end.
 */
static bool put(struct mu_peers *p, uint64_t at, const unsigned char *data, uint32_t n)
{
    const struct mu_rebuild *r = p->rebuild;

    for (uint32_t i = 0; i < r->ndest; i++) {
        const struct dest *d = &r->dest[i];
        uint64_t from = at > d->at ? at : d->at, to = at + n < d->at + d->bytes ? at + n : d->at + d->bytes;

        while (d->fd >= 0 && from < to) {
            ssize_t put = pwrite(d->fd, data + (from - at), to - from, (off_t)(from - d->at));

            if (put <= 0 && errno != EINTR) {
                end(p, MUSTER_ENOMEM, "no memory for what was made again");
                return false;
            }
            from += put > 0 ? (uint64_t)put : 0;
        }
    }
    return true;
}

static void on_made(struct mu_peers *p, const struct mu_m_shard *m)
{
    struct mu_rebuild *r = p->rebuild;
    uint64_t piece = m->at / MU_ARENA_PIECE;

    if (m->row >= r->m || stripe_of(r, m->row) != m->stripe || m->data.len != mu_piece_len(m->chunk, m->at))
        return;
    if (!r->is[m->row * r->pieces + piece] && !put(p, m->row * r->order->chunk + m->at, m->data.data, m->data.len))
        return;
    is_there(r, m->row, piece);
    r->made = r->touched = mu_now();
}

void mu_rebuild_given(struct mu_peers *p, const struct mu_m_shard *m)
{
    struct mu_rebuild *r = p->rebuild;
    struct mu_ckpt_id id;

    memcpy(&id, m->id.data, sizeof id);
    if (!r || !mu_ckpt_same_id(&id, &r->order->id) || m->n != r->n || m->chunk != r->order->chunk)
        return;
    if (m->kind == MU_SHARD_LEFT)
        take_over(p, m->from);
    if (m->kind == MU_SHARD_MADE)
        on_made(p, m);
    for (int k = 0; k < WINDOW && (m->kind == MU_SHARD_GIVE || m->kind == MU_SHARD_NONE); k++) {
        struct want *w = &r->wants[k];
        struct stripe *s = &r->stripes[w->d];
        uint32_t i = 0, len = mu_piece_len(m->chunk, m->at);

        if (!w->used || w->at != m->at || stripe_of(r, w->d) != m->stripe)
            continue;
        while (i < r->m && s->rows[i] != m->row)
            i++;
        if (i == r->m || w->got[i])
            return;
        if (m->kind != MU_SHARD_GIVE || m->data.len != len) {
            s->bad |= 1u << member_of(r, w->d, m->row);
            without(p, w->d);
            return;
        }
        mu_code_make(&s->way, i, !w->have, m->data.data, len, w->out);
        w->got[i] = true;
        r->touched = mu_now();
        if (++w->have < r->m)
            return;
        if (!put(p, w->d * r->order->chunk + w->at, w->out[0], len))
            return;
        for (i = 1; i < s->nout; i++)
            send_made(p, w, i, len);
        w->used = false;
        is_there(r, w->d, w->at / MU_ARENA_PIECE);
        ask_more(p);
        return;
    }
}
