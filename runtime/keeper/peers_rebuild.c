#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "runtime/base/clean.h"
#include "runtime/base/clock.h"
#include "runtime/base/crc32c.h"
#include "runtime/base/futex.h"
#include "runtime/keeper/peers_priv.h"

/* --- giving ------------------------------------------------------------------------------------------------------- */

void mu_rebuild_forget(struct mu_peers *p)
{
    mu_block_close(&p->giving);
    if (p->gives.map)
        munmap(p->gives.map, p->gives.bytes);
    p->gives.map = NULL;
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
    if (mu_arena_map_fd(p->head, x->fd, p->gives.bytes, false, &p->gives.map, &err))
        return NULL;
    if (mu_block_open(p->head, id, &p->giving, &err))
        p->giving = (struct mu_block){.id = *id};
    return x;
}

void mu_rebuild_asked(struct mu_peers *p, struct mu_link *link, const struct mu_m_shard *m)
{
    struct mu_m_shard out = *m;
    const struct mu_arena_parity *x;
    const unsigned char *from = NULL;
    const uint32_t *sums;
    struct mu_ckpt_id id;
    uint64_t pieces = mu_arena_pieces(m->chunk), i = m->at / MU_ARENA_PIECE;
    uint32_t rows, role, row, len = mu_piece_len(m->chunk, m->at);

    memcpy(&id, m->id.data, sizeof id);
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
    mu_link_send_tail(link, MU_MSG_shard, &out, from, out.kind == MU_SHARD_GIVE ? len : 0);
}

/* --- taking ------------------------------------------------------------------------------------------------------- */

enum { WINDOW = 16 }; /* pieces at once */

struct want {
    bool used;
    uint32_t d, have;
    uint64_t at;
    bool got[MU_GROUP_MAX];
    unsigned char *rows[MU_GROUP_MAX];
};
struct mu_rebuild {
    struct mu_arena_rebuild *order;
    struct mu_code code;
    uint32_t n, k, m;
    uint64_t pieces, next, done, total, bytes, touched;
    struct mu_arena_addr member[MU_GROUP_MAX];
    uint32_t bad[MU_GROUP_MAX];                /* by data row of ours: members that do not have their part */
    uint32_t rows[MU_GROUP_MAX][MU_GROUP_MAX]; /* by data row: what it is made of */
    struct mu_code_way way[MU_GROUP_MAX];
    struct want wants[WINDOW];
    struct dest {
        struct mu_arena_cell *cell;
        unsigned char *map; /* NULL: it is there */
        uint64_t at, bytes;
    } dest[MU_ARENA_RANKS];
    uint32_t ndest;
};

static void end(struct mu_peers *p, int code, const char *why)
{
    struct mu_rebuild *r = MU_STEAL(p->rebuild, NULL);

    for (uint32_t i = 0; i < r->ndest; i++)
        if (r->dest[i].map)
            munmap(r->dest[i].map, r->dest[i].bytes);
    for (int w = 0; w < WINDOW; w++)
        free(r->wants[w].rows[0]);
    if (code)
        mu_err_set(&r->order->error, code, "%s", why);
    for (uint32_t i = 0; i < r->ndest && !code; i++) {
        if (!r->dest[i].map)
            continue;
        atomic_store(&r->dest[i].cell->summed, 1);
        atomic_store_explicit(&r->dest[i].cell->state, MU_ARENA_FULL, memory_order_release);
    }
    atomic_store_explicit(&r->order->state, code ? MU_DRAIN_FAILED : MU_DRAIN_DONE, memory_order_release);
    mu_futex_wake(&r->order->state);
    free(r);
}

void mu_rebuild_end(struct mu_peers *p)
{
    if (p->rebuild)
        end(p, MUSTER_EABORTED, "the attempt is over");
}

static uint32_t stripe_of(const struct mu_rebuild *r, uint32_t d)
{
    return (r->order->lost + 2 * r->n - r->k - d) % r->n;
}
static uint32_t member_of(const struct mu_rebuild *r, uint32_t d, uint32_t row)
{
    return (stripe_of(r, d) + (row < r->m ? r->k + row : row - r->m)) % r->n;
}

/* What row d of ours is made of, of what there is: data before parity. False: too little is left. */
static bool choose(struct mu_rebuild *r, uint32_t d)
{
    uint32_t have = 0;

    for (uint32_t row = 0; row < r->n && have < r->m; row++) {
        uint32_t member = member_of(r, d, row);

        if (member != r->order->lost && r->member[member].port && !(r->bad[d] & 1u << member))
            r->rows[d][have++] = row;
    }
    return have == r->m && mu_code_way(&r->code, r->rows[d], d, &r->way[d], NULL) == 0;
}

static void ask(struct mu_peers *p, struct want *w)
{
    struct mu_rebuild *r = p->rebuild;
    struct mu_ckpt_id id = r->order->id;

    memset(w->got, 0, sizeof w->got);
    w->have = 0;
    for (uint32_t i = 0; i < r->m; i++) {
        struct mu_peer *peer = mu_peers_at(p, &r->member[member_of(r, w->d, r->rows[w->d][i])]);
        struct mu_m_shard m = {.id = {.data = (uint8_t *)&id, .len = sizeof id},
                               .kind = MU_SHARD_WANT,
                               .n = r->n,
                               .k = r->k,
                               .chunk = r->order->chunk,
                               .from = r->order->lost,
                               .stripe = stripe_of(r, w->d),
                               .row = r->rows[w->d][i],
                               .at = w->at};

        if (peer && peer->link)
            mu_link_send_msg(peer->link, MU_MSG_shard, &m);
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
    if ((rc = mu_code_init(&r->code, o->n, o->k, err)))
        return rc;
    if (o->lost >= o->n || o->nparts > MU_ARENA_RANKS || !o->chunk || o->chunk % MU_CKPT_PAGE)
        return mu_err_set(err, MUSTER_EARG, "an order that makes no sense");
    r->m = r->n - r->k;
    r->pieces = mu_arena_pieces(o->chunk);
    r->total = r->m * r->pieces;
    r->touched = mu_now();
    memcpy(r->member, o->member, sizeof r->member);
    for (uint32_t i = 0; i < o->nparts; i++) {
        struct dest *d = &r->dest[i];

        uint32_t cell = o->cell[i] & ~MU_ARENA_THERE;

        if (cell >= MU_ARENA_RANKS * MU_ARENA_SLOTS)
            return mu_err_set(err, MUSTER_EARG, "an order that makes no sense");
        d->cell = &p->head->cells[cell];
        d->bytes = mu_arena_bytes(d->cell->segment, d->cell->manifest, d->cell->extents);
        d->at = r->bytes;
        r->bytes += mu_arena_part_bytes(d->cell->segment, d->cell->manifest, d->cell->extents);
        r->ndest++;
        if (!(o->cell[i] & MU_ARENA_THERE) && (rc = mu_arena_map(p->head, d->cell, d->bytes, true, &d->map, err)))
            return rc;
    }
    if (r->bytes > r->m * o->chunk)
        return mu_err_set(err, MUSTER_EARG, "an order that makes no sense");
    for (int w = 0; w < WINDOW; w++) {
        unsigned char *mem = malloc((size_t)r->m * MU_ARENA_PIECE);

        if (!mem)
            return mu_err_set(err, MUSTER_ENOMEM, "no memory to make parts again");
        for (uint32_t i = 0; i < r->m; i++)
            r->wants[w].rows[i] = mem + (size_t)i * MU_ARENA_PIECE;
    }
    for (uint32_t d = 0; d < r->m; d++)
        if (!choose(r, d))
            return mu_err_set(err, MUSTER_ECORRUPT, "more is lost than the group's parity can make good");
    return 0;
}

static bool reached(struct mu_peers *p)
{
    struct mu_rebuild *r = p->rebuild;
    bool all = true;

    for (uint32_t i = 0; i < r->n; i++)
        if (i != r->order->lost && r->member[i].port) {
            const struct mu_peer *peer = mu_peers_at(p, &r->member[i]);

            all &= peer && peer->link;
        }
    return all;
}

static bool needed(const struct mu_rebuild *r, uint64_t at)
{
    for (uint32_t i = 0; i < r->ndest; i++) {
        const struct dest *d = &r->dest[i];

        if (d->map && at < d->at + d->bytes && d->at < at + MU_ARENA_PIECE)
            return true;
    }
    return false;
}

static void ask_more(struct mu_peers *p)
{
    struct mu_rebuild *r = p->rebuild;

    for (int k = 0; k < WINDOW && r->next < r->total; k++) {
        struct want *w = &r->wants[k];

        if (w->used)
            continue;
        w->d = (uint32_t)(r->next % r->m);
        w->at = r->next / r->m * MU_ARENA_PIECE;
        r->next++;
        if (!needed(r, w->d * r->order->chunk + w->at)) {
            r->done++;
            k--;
            continue;
        }
        w->used = true;
        ask(p, w);
    }
}

bool mu_rebuild_tick(struct mu_peers *p, uint64_t now)
{
    struct mu_arena_rebuild *o = &p->head->rebuild;
    struct mu_rebuild *r;
    struct mu_err err = {0};

    if (!p->rebuild && atomic_load_explicit(&o->state, memory_order_acquire) == MU_DRAIN_WANTED) {
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
    if (r->done == r->total) {
        end(p, 0, NULL);
        return false;
    }
    if (now > r->touched + MU_PEERS_PATIENCE) {
        end(p, MUSTER_ETIMEOUT, "peers did not give back what they have in time");
        return false;
    }
    for (uint32_t i = 0; i < r->n; i++) { /* whoever goes away is lost as well */
        struct mu_peer *peer = i != r->order->lost && r->member[i].port ? mu_peers_at(p, &r->member[i]) : NULL;

        if (!peer || !peer->gone)
            continue;
        r->member[i].port = 0;
        for (uint32_t d = 0; d < r->m; d++)
            if (!without(p, d))
                return false;
    }
    if (!reached(p))
        return true;
    ask_more(p);
    return true;
}

static void put(struct mu_rebuild *r, uint64_t at, const unsigned char *data, uint32_t n)
{
    for (uint32_t i = 0; i < r->ndest; i++) {
        const struct dest *d = &r->dest[i];
        uint64_t from = at > d->at ? at : d->at, to = at + n < d->at + d->bytes ? at + n : d->at + d->bytes;

        if (d->map && from < to)
            memcpy(d->map + (from - d->at), data + (from - at), to - from);
    }
}

void mu_rebuild_given(struct mu_peers *p, const struct mu_m_shard *m)
{
    struct mu_rebuild *r = p->rebuild;
    struct mu_ckpt_id id;

    memcpy(&id, m->id.data, sizeof id);
    if (!r || !mu_ckpt_same_id(&id, &r->order->id) || m->n != r->n || m->chunk != r->order->chunk)
        return;
    for (int k = 0; k < WINDOW; k++) {
        struct want *w = &r->wants[k];
        uint32_t i = 0, len = mu_piece_len(m->chunk, m->at);

        if (!w->used || w->at != m->at || stripe_of(r, w->d) != m->stripe)
            continue;
        while (i < r->m && r->rows[w->d][i] != m->row)
            i++;
        if (i == r->m || w->got[i])
            return;
        if (m->kind != MU_SHARD_GIVE || m->data.len != len) {
            r->bad[w->d] |= 1u << member_of(r, w->d, m->row);
            without(p, w->d);
            return;
        }
        memcpy(w->rows[i], m->data.data, len);
        w->got[i] = true;
        r->touched = mu_now();
        if (++w->have < r->m)
            return;
        mu_code_make(&r->way[w->d], w->rows, len, p->buf);
        put(r, w->d * r->order->chunk + w->at, p->buf, len);
        w->used = false;
        r->done++;
        ask_more(p);
        return;
    }
}
