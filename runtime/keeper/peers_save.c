#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/clean.h"
#include "runtime/base/clock.h"
#include "runtime/base/crc32c.h"
#include "runtime/base/futex.h"
#include "runtime/keeper/peers_priv.h"

#define REACH (3 * MU_SEC) /* the next save may wait for that */

/* One save of the group, from the first piece that comes or the moment that our ranks are ready, until all members have
 * what they are to keep. */
struct mu_save {
    struct mu_ckpt_id id;
    uint32_t n, k, m, me; /* m: rows of data */
    uint64_t chunk, pieces, began, touched;
    struct mu_code code;
    struct mu_arena_parity *parity;
    unsigned char *map; /* of the parity */
    uint64_t map_bytes;
    uint32_t *sums;                    /* in it */
    unsigned char *rows[MU_GROUP_MAX]; /* of the stripe that we encode: the first in the map, the others ours */
    uint8_t *got; /* of each of its pieces: how many members' data is in it; 0: what lies there is old */
    bool ready;   /* our ranks are */
    struct mu_block block;
    uint64_t sent, added, passed_on, kept; /* pieces: of our data, of others', of parity from us, to us */
    bool tables[MU_GROUP_MAX], sealed[MU_GROUP_MAX];
    bool told; /* our table */
    bool open; /* all members know the group */
};

static uint32_t stripe_of(const struct mu_save *s, uint32_t d)
{
    return (s->me + 2 * s->n - s->k - d) % s->n;
}

static struct mu_arena_part *table(const struct mu_save *s, uint32_t member)
{
    return (struct mu_arena_part *)(void *)(s->map + mu_arena_table_at(s->n, s->k, s->chunk, member));
}

static void table_is(struct mu_save *s, uint32_t member, uint32_t nparts)
{
    s->parity->nparts[member] = nparts;
    s->parity->table_sum[member] = mu_crc32c(0, table(s, member), nparts * sizeof(struct mu_arena_part));
    s->tables[member] = true;
}

static void *take_row(struct mu_peers *p, uint32_t j, uint64_t bytes)
{
    unsigned char *row = bytes == p->spare.bytes ? MU_STEAL(p->spare.rows[j], NULL) : NULL;

    return row ? row : malloc(bytes);
}

static void give_row(struct mu_peers *p, uint32_t j, uint64_t bytes, unsigned char *row)
{
    if (!row)
        return;
    if (bytes != p->spare.bytes)
        mu_saves_spare(p);
    p->spare.bytes = bytes;
    if (p->spare.rows[j])
        free(row);
    else
        p->spare.rows[j] = row;
}

void mu_saves_spare(struct mu_peers *p)
{
    for (uint32_t j = 0; j < MU_GROUP_MAX; j++)
        free(MU_STEAL(p->spare.rows[j], NULL));
    p->spare.bytes = 0;
}

static void free_save(struct mu_peers *p, struct mu_save *s)
{
    for (uint32_t i = 0; i < MU_ARENA_SLOTS; i++)
        if (p->saves[i] == s)
            p->saves[i] = NULL;
    mu_block_close(&s->block);
    for (uint32_t j = 1; j < s->k; j++)
        give_row(p, j, s->chunk, s->rows[j]);
    mu_maps_give(s->map);
    free(s->got);
    free(s);
}

/* What waits for it is told; id NULL: for any of this group. code 0: all is well. */
static void tell_cells(struct mu_peers *p, const struct mu_ckpt_id *id, int code, const char *why)
{
    uint32_t cells = atomic_load(&p->head->nranks) * MU_ARENA_SLOTS;

    for (uint32_t i = 0; i < cells; i++) {
        struct mu_arena_cell *c = &p->head->cells[i];

        if (atomic_load(&c->peers) != MU_PEERS_WANTED ||
            (id ? !mu_ckpt_same_id(&c->id, id) : c->place.nonce != p->group.nonce))
            continue;
        if (code)
            mu_err_set(&c->peers_error, code, "%s", why);
        atomic_store_explicit(&c->peers, code ? MU_PEERS_FAILED : MU_PEERS_DONE, memory_order_release);
        mu_futex_wake(&c->peers);
    }
}

static int ship(struct mu_peers *p, const struct mu_save *s, uint32_t to, struct mu_m_shard *m)
{
    struct mu_ckpt_id id = s->id;
    struct mu_peer *peer = mu_peers_at(p, &p->group.member[to]);

    m->nonce = p->group.nonce;
    m->id = (struct mu_bytes){.data = (uint8_t *)&id, .len = sizeof id};
    m->n = s->n;
    m->k = s->k;
    m->chunk = s->chunk;
    m->from = s->me;
    const struct mu_bytes data = m->data;
    int rc = MUSTER_EPEER;

    m->data = (struct mu_bytes){0};
    if (peer && peer->link)
        rc = mu_bulk_send(peer->link, MU_MSG_shard, m, data.data, data.len);
    m->data = data;
    atomic_fetch_add(&p->head->shipped, data.len + 128); /* and what is around it */
    return rc;
}

static void send_all(struct mu_peers *p, const struct mu_save *s, struct mu_m_shard *m)
{
    for (uint32_t i = 0; i < s->n; i++)
        if (i != s->me)
            ship(p, s, i, m);
}

static void fail(struct mu_peers *p, struct mu_save *s, const char *why, bool tell)
{
    struct mu_ckpt_id id = s->id;

    if (tell)
        send_all(p, s,
                 &(struct mu_m_shard){.kind = MU_SHARD_FAILED,
                                      .data = {.data = (uint8_t *)(uintptr_t)why, .len = (uint32_t)strlen(why)}});
    p->dead[p->ndead++ % MU_COUNT(p->dead)] = id;
    atomic_store(&s->parity->state, MU_ARENA_EMPTY);
    free_save(p, s);
    tell_cells(p, &id, MUSTER_EPEER, why);
}

void mu_saves_end(struct mu_peers *p, const char *why)
{
    for (uint32_t i = 0; i < MU_ARENA_SLOTS; i++)
        if (p->saves[i])
            fail(p, p->saves[i], why, false);
    tell_cells(p, NULL, MUSTER_EPEER, why);
}

void mu_saves_forget(struct mu_peers *p)
{
    uint32_t cells = atomic_load(&p->head->nranks) * MU_ARENA_SLOTS;

    for (uint32_t i = 0; i < cells; i++) {
        const struct mu_arena_cell *c = &p->head->cells[i];

        if (atomic_load(&c->peers) == MU_PEERS_WANTED && c->place.nonce != p->group.nonce && mu_peers_in_group(p))
            tell_cells(p, &c->id, MUSTER_EPEER, "the attempt that made it is over");
    }
}

/* --- beginning ---------------------------------------------------------------------------------------------------- */

/* Where the parity goes: over what is of no use, then the older one. */
static struct mu_arena_parity *place(struct mu_peers *p)
{
    struct mu_arena_parity *best = NULL;

    for (uint32_t i = 0; i < MU_ARENA_SLOTS; i++) {
        struct mu_arena_parity *x = &p->head->parity[i];
        bool used = false;

        for (uint32_t k = 0; k < MU_ARENA_SLOTS; k++)
            used |= p->saves[k] && p->saves[k]->parity == x;
        if (used)
            continue;
        if (atomic_load(&x->state) != MU_ARENA_FULL)
            return x;
        if (!best || (x->id.generation < best->id.generation) != MU_PLANTED(NEWER))
            best = x;
    }
    return best;
}

/* The parity of it that this node has sealed for this group: the save is over, or a drain before this one did it. */
static struct mu_arena_parity *sealed_before(struct mu_peers *p, const struct mu_ckpt_id *id)
{
    struct mu_arena_parity *x = mu_arena_parity_of(p->head, id);

    return x && x->set == p->group.set ? x : NULL;
}

/* What a predecessor sealed stays as it is; whether the others have sealed, too, is all that is not known. */
static void begin_sealed(struct mu_save *s)
{
    s->sent = s->added = s->m * s->pieces;
    s->passed_on = s->kept = (s->k - 1) * s->pieces;
    for (uint32_t i = 0; i < s->n; i++)
        s->tables[i] = true;
    s->sealed[s->me] = true;
}

static bool given_up(const struct mu_peers *p, const struct mu_ckpt_id *id)
{
    for (size_t i = 0; i < MU_COUNT(p->dead); i++)
        if (p->dead[i].world && mu_ckpt_same_id(&p->dead[i], id))
            return true;
    return false;
}

static struct mu_save *begin(struct mu_peers *p, const struct mu_ckpt_id *id, uint64_t chunk)
{
    struct mu_save *s = NULL, **at = NULL;
    struct mu_err err;

    for (uint32_t i = 0; i < MU_ARENA_SLOTS; i++)
        if (p->saves[i] && mu_ckpt_same_id(&p->saves[i]->id, id))
            return p->saves[i]->chunk == chunk ? p->saves[i] : NULL;
    if (given_up(p, id))
        return NULL;
    for (uint32_t i = 0; i < MU_ARENA_SLOTS; i++)
        if (!p->saves[i])
            at = &p->saves[i];
    for (uint32_t i = 0; !at && i < MU_ARENA_SLOTS; i++)
        if (p->saves[i]->id.generation < id->generation && p->saves[i]->id.generation <= p->saves[!i]->id.generation) {
            fail(p, p->saves[i], "a later save has overtaken it", true);
            at = &p->saves[i];
        }
    if (!at || !(s = calloc(1, sizeof *s)))
        return NULL;
    s->id = *id;
    s->n = p->group.n;
    s->k = p->group.k;
    s->m = s->n - s->k;
    s->me = p->group.me;
    s->chunk = chunk;
    s->pieces = mu_arena_pieces(chunk);
    s->began = s->touched = mu_now();
    if ((s->parity = sealed_before(p, id))) {
        s->map_bytes = mu_arena_parity_bytes(s->n, s->k, chunk);
        if (s->parity->n != s->n || s->parity->k != s->k || s->parity->me != s->me || s->parity->chunk != chunk ||
            mu_maps_take(p->head, s->parity->fd, s->map_bytes, true, &s->map, &err))
            goto fail;
        begin_sealed(s);
        *at = s;
        return s;
    }
    if (!(s->parity = place(p)) || mu_code_init(&s->code, s->n, s->k, &err))
        goto fail;
    atomic_store(&s->parity->state, MU_ARENA_FILLING);
    if (p->gives.map && &p->head->parity[p->gives.slot] == s->parity)
        mu_rebuild_forget(p);
    s->map_bytes = mu_arena_parity_bytes(s->n, s->k, chunk);
    if (mu_maps_take(p->head, s->parity->fd, s->map_bytes, true, &s->map, &err))
        goto fail;
    s->sums = (uint32_t *)(void *)(s->map + s->k * chunk);
    s->rows[0] = s->map;
    if (!(s->got = calloc(s->pieces, sizeof *s->got)))
        goto fail;
    for (uint32_t j = 1; j < s->k; j++)
        if (!(s->rows[j] = take_row(p, j, chunk)))
            goto fail;
    s->parity->id = s->id;
    s->parity->n = s->n;
    s->parity->k = s->k;
    s->parity->me = s->me;
    s->parity->group = p->group.group;
    s->parity->set = p->group.set;
    s->parity->chunk = chunk;
    *at = s;
    return s;
fail:
    free_save(p, s);
    return NULL;
}

/* The saves of which all our ranks have copied their part, and summed it. */
static void look_for_ready(struct mu_peers *p)
{
    uint32_t cells = atomic_load(&p->head->nranks) * MU_ARENA_SLOTS;

    for (uint32_t i = 0; i < cells; i++) {
        const struct mu_arena_cell *c = &p->head->cells[i];
        struct mu_save *s = NULL;
        struct mu_block b;
        struct mu_err err;

        if (atomic_load(&c->peers) != MU_PEERS_WANTED || !atomic_load(&c->summed))
            continue;
        if (!p->group.n || c->place.nonce != p->group.nonce)
            continue;
        for (uint32_t k = 0; k < MU_ARENA_SLOTS; k++)
            if (p->saves[k] && mu_ckpt_same_id(&p->saves[k]->id, &c->id))
                s = p->saves[k];
        if ((s && s->ready) || mu_block_open(p->head, &c->id, &b, &err))
            continue;
        if (b.n < c->node || (!s && !(s = begin(p, &c->id, c->chunk)))) {
            mu_block_close(&b);
            continue;
        }
        if (b.bytes > s->m * s->chunk) {
            mu_block_close(&b);
            fail(p, s, "a node's part is larger than was said", true);
            continue;
        }
        s->block = b;
        s->ready = true;
        s->touched = mu_now();
        for (uint32_t k = 0; k < b.n && !s->sealed[s->me]; k++)
            table(s, s->me)[k] = b.parts[k].is;
        if (!s->sealed[s->me])
            table_is(s, s->me, b.n);
    }
}

/* --- going on ----------------------------------------------------------------------------------------------------- */

/* To all of them; met: and they know the group. */
static bool connected(struct mu_peers *p, const struct mu_save *s, bool *met)
{
    bool all = true;

    *met = true;

    for (uint32_t i = 0; i < s->n; i++)
        if (i != s->me) {
            struct mu_peer *peer = mu_peers_at(p, &p->group.member[i]);

            if (peer && peer->link && !peer->asked)
                peer->asked = ship(p, s, i, &(struct mu_m_shard){.kind = MU_SHARD_MEET}) == 0;
            all &= peer && peer->link;
            *met &= peer && peer->met;
        }
    return all;
}

static void send_data(struct mu_peers *p, struct mu_save *s)
{
    while (s->sent < s->m * s->pieces) {
        uint32_t d = (uint32_t)(s->sent % s->m), to = stripe_of(s, d);
        uint64_t i = s->sent / s->m, at = i * MU_ARENA_PIECE;
        uint32_t len = mu_piece_len(s->chunk, at);
        struct mu_m_shard m = {.kind = MU_SHARD_DATA, .stripe = to, .row = d, .at = at};

        if (!mu_peer_ready(mu_peers_at(p, &p->group.member[to])))
            return;
        const unsigned char *from = mu_block_at(&s->block, d * s->chunk + at, p->buf, len);
        if (d * s->chunk + at < s->block.bytes)
            m.data = (struct mu_bytes){.data = (uint8_t *)(uintptr_t)from, .len = len};
        s->sums[d * s->pieces + i] = mu_crc32c(0, from, len);
        if (ship(p, s, to, &m))
            return;
        s->sent++;
        s->touched = mu_now();
    }
}

static void pass_on(struct mu_peers *p, struct mu_save *s)
{
    while (s->added == s->m * s->pieces && s->passed_on < (s->k - 1) * s->pieces) {
        uint32_t j = 1 + (uint32_t)(s->passed_on % (s->k - 1)), to = (s->me + j) % s->n;
        uint64_t at = s->passed_on / (s->k - 1) * MU_ARENA_PIECE;
        struct mu_m_shard m = {.kind = MU_SHARD_PARITY,
                               .stripe = s->me,
                               .row = j,
                               .at = at,
                               .data = {.data = s->rows[j] + at, .len = mu_piece_len(s->chunk, at)}};

        if (!mu_peer_ready(mu_peers_at(p, &p->group.member[to])) || ship(p, s, to, &m))
            return;
        s->passed_on++;
        s->touched = mu_now();
    }
}

static void seal(struct mu_peers *p, struct mu_save *s)
{
    bool all = true;

    for (uint32_t i = 0; i < s->n; i++)
        all &= s->tables[i];
    if (!s->sealed[s->me] && all && s->ready && s->sent == s->m * s->pieces && s->added == s->m * s->pieces &&
        s->passed_on == (s->k - 1) * s->pieces && s->kept == (s->k - 1) * s->pieces) {
        s->sealed[s->me] = true;
        atomic_store_explicit(&s->parity->state, MU_ARENA_FULL, memory_order_release);
        send_all(p, s, &(struct mu_m_shard){.kind = MU_SHARD_SEALED});
        s->touched = mu_now();
    }
    for (uint32_t i = 0; i < s->n; i++)
        all &= s->sealed[i] || MU_PLANTED(EARLY);
    if (all) {
        struct mu_ckpt_id id = s->id;

        for (uint32_t i = 0; i < MU_ARENA_SLOTS; i++) { /* an earlier group's */
            struct mu_arena_parity *x = &p->head->parity[i];

            if (x != s->parity && atomic_load(&x->state) == MU_ARENA_FULL && mu_ckpt_same_id(&x->id, &id))
                atomic_store(&x->state, MU_ARENA_EMPTY);
        }
        free_save(p, s);
        tell_cells(p, &id, 0, NULL);
    }
}

void mu_saves_room(struct mu_peers *p)
{
    for (uint32_t i = 0; i < MU_ARENA_SLOTS; i++) {
        struct mu_save *s = p->saves[i];

        if (!s || !s->open)
            continue;
        if (s->ready && s->told)
            send_data(p, s);
        pass_on(p, s);
    }
}

bool mu_saves_tick(struct mu_peers *p, uint64_t now)
{
    bool busy = false;

    look_for_ready(p);
    for (struct mu_peer *peer = p->peers; peer; peer = peer->next) {
        if (peer->broke)
            for (uint32_t i = 0; i < MU_ARENA_SLOTS; i++)
                if (p->saves[i])
                    fail(p, p->saves[i], "a peer's connection broke", true);
        peer->broke = false;
    }
    for (uint32_t i = 0; i < MU_ARENA_SLOTS; i++) {
        struct mu_save *s = p->saves[i];
        bool met;

        if (!s)
            continue;
        busy = true;
        s->open = false;
        if (now > s->touched + MU_PEERS_PATIENCE) {
            fail(p, s, "a peer did not do its part in time", true);
            continue;
        }
        if (!connected(p, s, &met)) {
            if (now > s->began + REACH)
                fail(p, s, "a peer cannot be reached", true);
            continue;
        }
        if (!met)
            continue;
        s->open = true;
        if (s->ready && !s->told) {
            struct mu_m_shard m = {.kind = MU_SHARD_TABLE,
                                   .data = {.data = (uint8_t *)table(s, s->me),
                                            .len = (uint32_t)(s->block.n * sizeof(struct mu_arena_part))}};

            s->told = true;
            send_all(p, s, &m);
        }
        if (s->ready)
            send_data(p, s);
        pass_on(p, s);
        seal(p, s);
    }
    return busy;
}

/* --- what comes --------------------------------------------------------------------------------------------------- */

/* A piece at a time: to clear or to sum gigabytes at once would keep the others waiting. */
static void on_data(struct mu_save *s, const struct mu_m_shard *m)
{
    uint64_t i = m->at / MU_ARENA_PIECE;
    uint32_t len = mu_piece_len(s->chunk, m->at);
    unsigned char *to[MU_GROUP_MAX];

    if (m->stripe != s->me || m->row >= s->m || s->added == s->m * s->pieces || s->got[i] == s->m)
        return;
    s->added++;
    for (uint32_t j = 0; j < s->k; j++) {
        to[j] = s->rows[j] + m->at;
        if (!s->got[i])
            memset(to[j], 0, len);
    }
    if (m->data.len)
        mu_code_add(&s->code, m->row, m->data.data, m->data.len, to);
    if (++s->got[i] == s->m)
        s->sums[s->m * s->pieces + i] = mu_crc32c(0, to[0], len);
}

static void on_parity(struct mu_save *s, const struct mu_m_shard *m)
{
    if (s->sealed[s->me] || m->row < 1 || m->row >= s->k || (s->me + s->n - m->stripe) % s->n != m->row || !m->data.len)
        return;
    memcpy(s->map + m->row * s->chunk + m->at, m->data.data, m->data.len);
    s->sums[(s->m + m->row) * s->pieces + m->at / MU_ARENA_PIECE] = mu_crc32c(0, m->data.data, m->data.len);
    s->kept++;
}

/* The drain of a node was started again and asks about a save by its table: it is over here, one way or the other. */
static void tell_again(const struct mu_peers *p, struct mu_bulk *link, const struct mu_m_shard *m, uint32_t kind,
                       const char *why)
{
    struct mu_m_shard out = *m;

    out.kind = kind;
    out.from = p->group.me;
    out.data = (struct mu_bytes){.data = (uint8_t *)(uintptr_t)why, .len = (uint32_t)strlen(why)};
    mu_bulk_send(link, MU_MSG_shard, &out, NULL, 0);
}

static bool under_way(const struct mu_peers *p, const struct mu_ckpt_id *id)
{
    for (uint32_t i = 0; i < MU_ARENA_SLOTS; i++)
        if (p->saves[i] && mu_ckpt_same_id(&p->saves[i]->id, id))
            return true;
    return false;
}

void mu_saves_msg(struct mu_peers *p, struct mu_bulk *link, const struct mu_m_shard *m)
{
    struct mu_ckpt_id id;
    struct mu_save *s;
    char why[200];

    memcpy(&id, m->id.data, sizeof id);
    look_for_ready(p); /* before it is begun from here */
    if (!p->group.n || m->n != p->group.n || m->k != p->group.k || m->nonce != p->group.nonce || m->from == p->group.me)
        return;
    if (m->kind == MU_SHARD_FAILED) {
        snprintf(why, sizeof why, "a peer has given it up: %.*s", m->data.len < 150 ? (int)m->data.len : 150,
                 m->data.data ? (const char *)m->data.data : "");
        for (uint32_t i = 0; i < MU_ARENA_SLOTS; i++)
            if (p->saves[i] && mu_ckpt_same_id(&p->saves[i]->id, &id))
                fail(p, p->saves[i], why, false);
        tell_cells(p, &id, MUSTER_EPEER, why);
        return;
    }
    if (m->kind == MU_SHARD_TABLE && given_up(p, &id))
        tell_again(p, link, m, MU_SHARD_FAILED, "it was given up before");
    if (!under_way(p, &id) && sealed_before(p, &id)) {
        if (m->kind == MU_SHARD_TABLE)
            tell_again(p, link, m, MU_SHARD_SEALED, "");
        return;
    }
    if (!(s = begin(p, &id, m->chunk)) ||
        (m->data.len && m->kind != MU_SHARD_TABLE && m->data.len != mu_piece_len(s->chunk, m->at)))
        return;
    s->touched = mu_now();
    if (m->kind == MU_SHARD_DATA) {
        on_data(s, m);
    } else if (m->kind == MU_SHARD_PARITY) {
        on_parity(s, m);
    } else if (m->kind == MU_SHARD_TABLE && s->sealed[s->me]) {
        tell_again(p, link, m, MU_SHARD_SEALED, "");
    } else if (m->kind == MU_SHARD_TABLE && m->data.len <= MU_ARENA_RANKS * sizeof(struct mu_arena_part)) {
        if (m->data.len)
            memcpy(table(s, m->from), m->data.data, m->data.len);
        table_is(s, m->from, (uint32_t)(m->data.len / sizeof(struct mu_arena_part)));
    } else if (m->kind == MU_SHARD_SEALED) {
        s->sealed[m->from] = true;
    }
}
