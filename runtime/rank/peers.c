#include "runtime/rank/peers.h"

#include "runtime/base/clean.h"
#include "runtime/base/crc32c.h"
#include "runtime/base/futex.h"

#include <string.h>
#include <sys/mman.h>

#define DRAIN_WAIT (5 * MU_SEC) /* for the drain to be started and to listen */
#define NAP_LEAST (MU_MS / 5)
#define NAP_MOST (20 * MU_MS)
#define GROUP_BEST 16u /* nodes of a group at most, where parities are asked for */

static bool leads(const struct mu_rank_peers *p)
{
    return p->seats[p->rank].leader == p->rank;
}

static int collective(int rc, struct mu_err *err)
{
    return rc ? mu_err_set(err, rc, "%s", muster_last_error()) : 0;
}

/* 0: all are fine. This rank's error, or 1 when another one has one. */
static int together(const struct mu_rank_peers *p, int rc, struct mu_err *err)
{
    int32_t mine = rc, least = 0;
    int got = muster_allreduce(&mine, &least, 1, MUSTER_INT32, MUSTER_MIN, p->ram->comm);

    return got ? collective(got, err) : rc ? rc : least ? 1 : 0;
}

/* The same, where it takes long and the drains need the processors: polls with pauses, the longer the more has been
 * waited. */
static int together_later(const struct mu_rank_peers *p, int rc, struct mu_err *err)
{
    int32_t mine = rc, least = 0;
    muster_request *req;
    uint64_t began = mu_now(), nap;
    int done = 0, got = muster_iallreduce(&mine, &least, 1, MUSTER_INT32, MUSTER_MIN, p->ram->comm, &req);

    if (got)
        return collective(got, err);
    while (!done && !muster_test(req, &done) && !done) {
        nap = (mu_now() - began) / 16;
        nap = nap < NAP_LEAST ? NAP_LEAST : nap > NAP_MOST ? NAP_MOST : nap;
        nanosleep(&(struct timespec){.tv_nsec = (long)nap}, NULL);
    }
    got = muster_wait(&req);
    return got ? collective(got, err) : rc ? rc : least ? 1 : 0;
}

static void ring(struct mu_arena_head *h)
{
    atomic_fetch_add(&h->bell, 1);
    mu_futex_wake(&h->bell);
}

static void wait_for_drain(struct mu_arena_head *h, struct mu_arena_addr *out)
{
    uint64_t until = mu_now() + DRAIN_WAIT;

    atomic_store(&h->meet, 1);
    ring(h);
    for (;;) { /* the port is 0 from the death of a drain until its successor has written the rest */
        uint32_t port = *(volatile uint32_t *)&h->listen.port;

        atomic_thread_fence(memory_order_acquire);
        *out = h->listen;
        atomic_thread_fence(memory_order_acquire);
        out->port = port;
        if ((port && *(volatile uint32_t *)&h->listen.port == port) || mu_now() > until)
            return;
        nanosleep(&(struct timespec){.tv_nsec = MU_MS}, NULL);
    }
}

static void write_group(const struct mu_rank_peers *p, bool open, uint64_t nonce)
{
    uint32_t turn = p->seats[p->rank].turn, group = turn % p->groups;
    struct mu_arena_group *g = &p->ram->head->group;

    mu_arena_unorder(p->ram->head); /* what is wanted from now on is this attempt's */
    g->n = p->n;
    g->k = p->k;
    g->me = turn / p->groups;
    g->group = group;
    g->open = open;
    g->nonce = nonce;
    for (int r = 0; r < p->size; r++) {
        const struct mu_rank_seat *s = &p->seats[r];

        if (s->leader == r && s->turn % p->groups == group)
            g->member[s->turn / p->groups] = s->at;
    }
    atomic_fetch_add(&g->set, 1);
    ring(p->ram->head);
}

void mu_rank_peers_order(const uint64_t *rack, uint32_t nodes, uint32_t *turn)
{
    uint32_t next = 0;

    for (uint32_t first = 0; first < nodes; first++) {
        bool seen = false;

        for (uint32_t i = 0; rack[first] && i < first && !seen; i++)
            seen = rack[i] == rack[first];
        for (uint32_t i = first; !seen && i < nodes; i++)
            if (i == first || (rack[first] && rack[i] == rack[first]))
                turn[i] = next++;
    }
}

static int deal(struct mu_rank_peers *p, struct mu_err *err)
{
    mu_auto_free uint64_t *rack = calloc(p->nodes, sizeof *rack);
    mu_auto_free uint32_t *turn = calloc(p->nodes, sizeof *turn);

    if (!rack || !turn)
        return mu_err_set(err, MUSTER_ENOMEM, "no memory for peers");
    for (int r = p->size; r-- > 0;) /* its first rank's word counts */
        rack[p->seats[r].node] = p->seats[r].rack;
    mu_rank_peers_order(rack, p->nodes, turn);
    for (int r = 0; r < p->size; r++)
        p->seats[r].turn = turn[p->seats[r].node];
    return 0;
}

int mu_rank_peers_open(struct mu_rank_peers *p, struct mu_rank_ram *ram, uint32_t k, bool mirror, bool open,
                       uint64_t nonce, struct mu_err *err)
{
    const char *node = getenv("NODE_RANK"), *local = getenv("MUSTER_SLOT_INDEX"), *rack = getenv("MUSTER_RACK");
    struct mu_rank_seat mine;
    bool on = true;
    int rc;

    memset(&mine, 0, sizeof mine);
    *p = (struct mu_rank_peers){.ram = ram, .rank = muster_rank(ram->comm), .size = muster_size(ram->comm)};
    if (!k && !mirror)
        return 0;
    p->seats = calloc((size_t)p->size, sizeof *p->seats);
    if ((rc = together(p, p->seats ? 0 : mu_err_set(err, MUSTER_ENOMEM, "no memory for peers"), err)))
        return rc < 0 ? rc : mu_err_set(err, MUSTER_ENOMEM, "another rank has no memory for peers");
    mine.node = node && ram->head ? atoi(node) : -1;
    mine.local = local ? atoi(local) : -1;
    mine.arena = ram->head != NULL;
    mine.rack = rack && *rack ? 1ull << 32 | mu_crc32c(0, rack, strlen(rack)) : 0;
    if ((rc = muster_allgather(&mine, p->seats, sizeof mine, MUSTER_UINT8, ram->comm)))
        return collective(rc, err);
    for (int r = 0; r < p->size; r++) {
        struct mu_rank_seat *s = &p->seats[r];

        on &= s->node >= 0 && s->arena;
        p->nodes = s->node >= (int32_t)p->nodes ? (uint32_t)s->node + 1 : p->nodes;
        s->leader = r;
        for (int i = r; i-- > 0;)
            s->leader = p->seats[i].node == s->node ? i : s->leader;
    }
    if (!on || p->nodes < 2)
        return 0;
    if ((rc = together(p, deal(p, err), err)))
        return rc < 0 ? rc : mu_err_set(err, MUSTER_ENOMEM, "another rank has no memory for peers");
    mine = p->seats[p->rank];
    if (leads(p))
        wait_for_drain(ram->head, &mine.at);
    if ((rc = muster_allgather(&mine, p->seats, sizeof mine, MUSTER_UINT8, ram->comm)))
        return collective(rc, err);
    for (int r = 0; r < p->size; r++)
        on &= p->seats[r].leader != r || p->seats[r].at.port;
    p->groups = mirror ? p->nodes / 2 : (p->nodes + GROUP_BEST - 1) / GROUP_BEST;
    p->n = (p->nodes - mine.turn % p->groups + p->groups - 1) / p->groups;
    p->k = mirror ? 1 : k < p->n - 1 ? k : p->n - 1;
    if (!on || p->n < 2 || p->n > MU_GROUP_MAX)
        return 0;
    if (leads(p))
        write_group(p, open, nonce);
    p->on = true;
    return 0;
}

void mu_rank_peers_free(struct mu_rank_peers *p)
{
    free(p->seats);
    p->seats = NULL;
    p->on = false;
}

uint64_t mu_rank_peers_chunk(const struct mu_rank_peers *p, const uint64_t *bytes, size_t stride, uint32_t *node)
{
    uint32_t group = p->on ? p->seats[p->rank].turn % p->groups : 0, rows = p->n - p->k, ranks = 0;
    uint64_t most = 0;

    for (int r = 0; p->on && r < p->size; r++) {
        uint64_t sum = 0;

        ranks += p->seats[r].node == p->seats[p->rank].node;
        if (p->seats[r].leader != r)
            continue;
        for (int i = r; i < p->size; i++) {
            uint64_t b = *(const uint64_t *)(const void *)((const char *)bytes + (size_t)i * stride);

            if (!b)
                return 0;
            sum += p->seats[i].node == p->seats[r].node ? b : 0;
        }
        if (p->seats[r].turn % p->groups == group && sum > most)
            most = sum;
    }
    *node = ranks;
    return most ? ((most + rows - 1) / rows + MU_CKPT_PAGE - 1) / MU_CKPT_PAGE * MU_CKPT_PAGE : 0;
}

/* --- making again ------------------------------------------------------------------------------------------------- */

/* What a node has of the save for its group; of others than leaders nothing. */
struct have {
    uint32_t there, n, k, me, group;
    uint32_t whole;  /* its own parts, too */
    uint32_t tables; /* bit by member: it has the table, undamaged */
    uint64_t chunk;
};
/* A member's parts, from whoever has its group's tables. */
struct lost {
    uint32_t group, member, n, k, nparts;
    uint64_t chunk;
    int target; /* leader of the node that is to have them */
    struct mu_arena_part parts[MU_ARENA_RANKS];
};

/* All that is to be made again, as every rank knows it. */
struct found {
    struct lost *ours; /* on this rank's node, in turn */
    struct again {
        uint32_t group, member, turn; /* turn: of the target's orders */
        int target;
    } * all;
    uint32_t nours, nall;
};

static void free_found(struct found *f)
{
    free(f->ours);
    free(f->all);
}

static uint32_t ncells(const struct mu_rank_peers *p)
{
    uint32_t n = atomic_load(&p->ram->head->nranks);

    return (n < MU_ARENA_RANKS ? n : MU_ARENA_RANKS) * MU_ARENA_SLOTS;
}

static const struct mu_arena_parity *parity_of(const struct mu_rank_peers *p, const struct mu_ckpt_id *id)
{
    const struct mu_arena_parity *x = mu_arena_parity_of(p->ram->head, id);

    return x && x->n <= MU_GROUP_MAX && x->k < x->n && x->me < x->n ? x : NULL;
}

static bool table_fine(const struct mu_arena_parity *x, const unsigned char *map, uint32_t member)
{
    uint32_t n = x->nparts[member];

    return n <= MU_ARENA_RANKS &&
           x->table_sum[member] ==
               mu_crc32c(0, map + mu_arena_table_at(x->n, x->k, x->chunk, member), n * sizeof(struct mu_arena_part));
}

static uint32_t tables_here(const struct mu_rank_peers *p, const struct mu_arena_parity *x)
{
    uint64_t bytes = mu_arena_parity_bytes(x->n, x->k, x->chunk);
    unsigned char *map;
    uint32_t fine = 0;

    if (mu_arena_map_fd(p->ram->head, x->fd, bytes, false, &map, NULL))
        return 0;
    for (uint32_t i = 0; i < x->n; i++)
        fine |= table_fine(x, map, i) ? 1u << i : 0;
    munmap(map, bytes);
    return fine;
}

static bool has_part(const struct mu_arena_cell *c, const struct mu_ckpt_id *id)
{
    return atomic_load(&c->state) == MU_ARENA_FULL && mu_ckpt_same_id(&c->id, id) && c->rank < id->world;
}

/* Through the mapping with which the rank goes on. */
static int check_cell(const struct mu_rank_peers *p, const struct mu_arena_cell *c, struct mu_err *err)
{
    uint64_t bytes = mu_arena_bytes(c->segment, c->manifest, c->extents);
    const unsigned char *map = p->ram->writer ? mu_ckpt_writer_map(p->ram->writer, c, bytes) : NULL;

    return map ? mu_arena_check_map(c, map, err) : mu_arena_check(p->ram->head, c, err);
}

/* What is damaged is as good as lost. The ranks of a node share its cells; the first one has those that no rank has
 * now, too. What has been found sound is not looked at again. */
static int check_ours(const struct mu_rank_peers *p, const struct mu_ckpt_id *id, struct mu_err *err)
{
    const struct mu_rank_seat *me = &p->seats[p->rank];
    int bad = 0;

    for (uint32_t i = 0; i < ncells(p); i++) {
        struct mu_arena_cell *c = &p->ram->head->cells[i];
        int32_t local = (int32_t)(i / MU_ARENA_SLOTS);
        bool ours = local == me->local, taken = false;
        int rc;

        for (int r = 0; r < p->size && !ours; r++)
            taken |= p->seats[r].node == me->node && p->seats[r].local == local;
        if (!(ours || (leads(p) && !taken)) || !has_part(c, id) || c == p->ram->sound)
            continue;
        if ((rc = check_cell(p, c, err))) {
            atomic_store(&c->state, MU_ARENA_EMPTY); /* a drain that has it still keeps its memory from being used */
            bad = rc;
        } else if (c->rank == (uint32_t)p->rank) {
            p->ram->sound = c;
            p->ram->sound_id = *id;
        }
    }
    return bad;
}

/* lacking, by rank of the save: 0 where its part is here. */
static struct have look_here(const struct mu_rank_peers *p, const struct mu_ckpt_id *id, int32_t *lacking)
{
    const struct mu_arena_parity *x = parity_of(p, id);
    struct have h = {0};
    uint32_t parts = 0;

    for (uint32_t i = 0; i < ncells(p); i++) {
        const struct mu_arena_cell *c = &p->ram->head->cells[i];

        if (!has_part(c, id))
            continue;
        parts++;
        lacking[c->rank] = 0;
    }
    if (x)
        h = (struct have){.there = 1,
                          .n = x->n,
                          .k = x->k,
                          .me = x->me,
                          .group = x->group,
                          .whole = parts == x->nparts[x->me],
                          .tables = tables_here(p, x),
                          .chunk = x->chunk};
    return h;
}

static int read_table(const struct mu_rank_peers *p, const struct mu_ckpt_id *id, struct lost *l, struct mu_err *err)
{
    const struct mu_arena_parity *x = parity_of(p, id);
    unsigned char *map;
    uint64_t bytes;
    int rc;

    if (!x)
        return mu_err_set(err, MUSTER_ECORRUPT, "the parity is gone");
    bytes = mu_arena_parity_bytes(x->n, x->k, x->chunk);
    if ((rc = mu_arena_map_fd(p->ram->head, x->fd, bytes, false, &map, err)))
        return rc;
    if (table_fine(x, map, l->member)) {
        l->nparts = x->nparts[l->member];
        memcpy(l->parts, map + mu_arena_table_at(x->n, x->k, x->chunk, l->member),
               l->nparts * sizeof(struct mu_arena_part));
    } else {
        rc = mu_err_set(err, MUSTER_ECORRUPT, "all tables of a lost node are damaged");
    }
    munmap(map, bytes);
    return rc;
}

static struct mu_arena_cell *whole_here(const struct mu_rank_peers *p, uint32_t rank, const struct mu_ckpt_id *id)
{
    for (uint32_t i = 0; i < ncells(p); i++) { /* what is damaged is not FULL any more */
        struct mu_arena_cell *c = &p->ram->head->cells[i];

        if (atomic_load(&c->state) == MU_ARENA_FULL && c->rank == rank && mu_ckpt_same_id(&c->id, id))
            return c;
    }
    return NULL;
}

/* A cell for a part: of the rank's own two if it is here, the one that matters less. What an attempt that died was
 * filling is of no use. */
static struct mu_arena_cell *room_for(const struct mu_rank_peers *p, uint32_t rank, uint32_t nparts)
{
    bool own = rank < (uint32_t)p->size && p->seats[rank].node == p->seats[p->rank].node;
    const struct mu_arena_rebuild *o = &p->ram->head->rebuild;
    struct mu_arena_cell *best = NULL;

    for (uint32_t i = 0; i < ncells(p); i++) {
        struct mu_arena_cell *c = &p->ram->head->cells[i];
        uint32_t state = atomic_load(&c->state);
        bool taken = state == MU_ARENA_FULL && mu_ckpt_same_id(&c->id, &o->id);

        for (uint32_t k = 0; k < nparts; k++)
            taken |= o->cell[k] == i;
        if (taken || mu_arena_pending(c) || (own && (int32_t)(i / MU_ARENA_SLOTS) != p->seats[rank].local))
            continue;
        if (!best || (atomic_load(&best->state) == MU_ARENA_FULL &&
                      (state != MU_ARENA_FULL || c->generation < best->generation)))
            best = c;
    }
    return best;
}

static int prepare(struct mu_rank_peers *p, const struct mu_ckpt_id *id, uint64_t order, const struct found *f,
                   uint32_t turn, const struct have *all, struct mu_err *err)
{
    struct mu_arena_rebuild *o = &p->ram->head->rebuild;
    const struct lost *l = &f->ours[turn];
    int rc;

    o->id = *id;
    o->n = l->n;
    o->k = l->k;
    o->lost = l->member;
    o->nparts = l->nparts;
    o->chunk = l->chunk;
    memset(o->member, 0, sizeof o->member);
    for (int r = 0; r < p->size; r++)
        if (all[r].there && all[r].group == l->group && all[r].me != l->member)
            o->member[all[r].me] = p->seats[r].at;
    memset(o->maker, 0, sizeof o->maker);
    for (uint32_t i = 0; i < f->nall && !turn; i++) /* those that begin when we do */
        if (f->all[i].group == l->group && f->all[i].member != l->member && !f->all[i].turn)
            o->maker[f->all[i].member] = p->seats[f->all[i].target].at;
    for (uint32_t i = 0; i < l->nparts; i++) {
        const struct mu_arena_part *part = &l->parts[i];
        struct mu_arena_cell *c = whole_here(p, part->rank, id);
        unsigned char *map;
        uint64_t bytes;

        if (c && c->segment == part->segment && c->manifest == part->manifest && c->extents == part->extents) {
            o->cell[i] = (uint32_t)(c - p->ram->head->cells) | MU_ARENA_THERE;
            continue;
        }
        if (!(c = room_for(p, part->rank, i)))
            return mu_err_set(err, MUSTER_ENOMEM, "no room for rank %u's part", part->rank);
        atomic_store(&c->state, MU_ARENA_FILLING);
        atomic_store(&c->summed, 0);
        atomic_store(&c->drain, MU_DRAIN_NONE);
        atomic_store(&c->peers, MU_PEERS_NONE);
        c->rank = part->rank;
        c->id = *id;
        c->segment = part->segment;
        c->manifest = part->manifest;
        c->extents = part->extents;
        c->generation = order;
        memset(&c->place, 0, sizeof c->place);
        snprintf(c->place.dir, sizeof c->place.dir, "%s", p->ram->dir);
        bytes = mu_arena_bytes(c->segment, c->manifest, c->extents);
        if ((rc = mu_arena_map(p->ram->head, c, bytes, true, &map, err)))
            return rc;
        munmap(map, bytes);
        o->cell[i] = (uint32_t)(c - p->ram->head->cells);
    }
    return 0;
}

/* The drain ends what it makes for an attempt that is over as soon as it sees this one's group. */
static int wait_for_turn(struct mu_rank_peers *p, uint64_t timeout, struct mu_err *err)
{
    uint64_t until = mu_now() + timeout;

    while (!mu_arena_unorder(p->ram->head)) {
        if (mu_now() >= until)
            return mu_err_set(err, MUSTER_ECORRUPT, "the drain does not leave what an earlier attempt wanted");
        mu_futex_wait(&p->ram->head->rebuild.state, MU_DRAIN_SAFE, 20 * MU_MS);
    }
    return 0;
}

static int order_and_wait(struct mu_rank_peers *p, uint64_t timeout, struct mu_err *err)
{
    struct mu_arena_rebuild *o = &p->ram->head->rebuild;
    uint64_t until = mu_now() + timeout;
    uint32_t is;

    atomic_store_explicit(&o->state, MU_DRAIN_WANTED, memory_order_release);
    ring(p->ram->head);
    while (((is = atomic_load(&o->state)) == MU_DRAIN_WANTED || is == MU_DRAIN_BUSY) && mu_now() < until)
        mu_futex_wait(&o->state, is, 20 * MU_MS);
    switch (is) {
    case MU_DRAIN_DONE:
        return 0;
    case MU_DRAIN_FAILED:
        return mu_err_set(err, MUSTER_ECORRUPT, "%s", o->error.text);
    default:
        mu_arena_unorder(p->ram->head);
        return mu_err_set(err, MUSTER_ECORRUPT, "the peers did not give back a lost part in time");
    }
}

/* The next member of a group, from *at on, whose parts are not whole anywhere; who has its group's tables: *root. */
static bool next_lost(const struct mu_rank_peers *p, const struct have *all, uint32_t *at, struct lost *l, int *root)
{
    for (; *at < MU_GROUP_MAX * p->groups; ++*at) {
        uint32_t group = *at / MU_GROUP_MAX, member = *at % MU_GROUP_MAX;
        bool whole = false, fine = false;

        *root = -1;
        for (int r = p->size; r-- > 0;) {
            if (!all[r].there || all[r].group != group)
                continue;
            whole |= all[r].me == member && all[r].whole;
            if (*root < 0 || !fine || all[r].tables & 1u << member)
                *root = r;
            fine |= all[r].tables >> member & 1;
        }
        if (*root < 0 || whole || member >= all[*root].n)
            continue;
        l->group = group;
        l->member = member;
        l->n = all[*root].n;
        l->k = all[*root].k;
        l->chunk = all[*root].chunk;
        ++*at;
        return true;
    }
    return false;
}

/* Whether enough members have something to give. To find that out half-way costs an older save its room. */
static bool enough(const struct mu_rank_peers *p, const struct have *all, const struct lost *l)
{
    uint32_t members = 0;

    for (int r = 0; r < p->size; r++)
        if (all[r].there && all[r].group == l->group && all[r].me != l->member)
            members |= 1u << all[r].me;
    return (uint32_t)__builtin_popcount(members) >= l->n - l->k;
}

static int note_lost(struct found *f, const struct lost *l, bool ours)
{
    struct again *all = realloc(f->all, (f->nall + 1) * sizeof *all);
    struct lost *v = all && ours ? realloc(f->ours, (f->nours + 1) * sizeof *v) : NULL;
    uint32_t turn = 0;

    f->all = all ? all : f->all;
    f->ours = v ? v : f->ours;
    if (!all || (ours && !v))
        return MUSTER_ENOMEM;
    for (uint32_t i = 0; i < f->nall; i++)
        turn += all[i].target == l->target;
    all[f->nall++] = (struct again){.group = l->group, .member = l->member, .turn = turn, .target = l->target};
    if (ours)
        v[f->nours++] = *l;
    return 0;
}

/* What the groups' tables say of the members that are lost. */
static int find_lost(struct mu_rank_peers *p, const struct mu_ckpt_id *id, const struct have *all,
                     const int32_t *lacking, struct found *f, struct mu_err *err)
{
    mu_auto_free struct lost *l = calloc(1, sizeof *l);
    uint32_t at = 0;
    int rc = l ? 0 : mu_err_set(err, MUSTER_ENOMEM, "no memory to make parts again"), got, root;
    bool any = false;

    if ((got = together(p, rc, err)))
        return got;
    while (next_lost(p, all, &at, l, &root)) {
        bool lacks = false;

        if (p->rank == root && !rc)
            rc = read_table(p, id, l, err);
        if ((got = together(p, rc, err)))
            return got;
        if ((got = muster_broadcast(l, sizeof *l, MUSTER_UINT8, root, p->ram->comm)))
            return collective(got, err);
        if (!l->nparts || l->nparts > MU_ARENA_RANKS)
            return mu_err_set(err, MUSTER_ECORRUPT, "a table of the group is damaged");
        for (uint32_t i = 0; i < l->nparts; i++)
            lacks |= l->parts[i].rank >= id->world || lacking[l->parts[i].rank];
        if (!lacks)
            continue;
        any = true;
        if (!enough(p, all, l))
            return mu_err_set(err, MUSTER_ECORRUPT, "more is lost than the group's parity can make good");
        l->target = p->seats[l->parts[0].rank % (uint32_t)p->size].leader;
        if (!rc && note_lost(f, l, p->rank == l->target)) /* the others hear of it */
            rc = mu_err_set(err, MUSTER_ENOMEM, "no memory to make parts again");
    }
    if (!any)
        return mu_err_set(err, MUSTER_ECORRUPT, "nothing of it is left on peers");
    return together(p, rc, err);
}

int mu_rank_peers_rebuild(struct mu_rank_peers *p, const struct mu_ckpt_id *id, uint64_t order, uint64_t timeout,
                          struct mu_err *err)
{
    mu_auto_free struct have *all = NULL;
    __attribute__((cleanup(free_found))) struct found f = {0};
    mu_auto_free int32_t *lacking = NULL;
    struct have mine = {0};
    int rc, got;

    p->ram->sound = NULL;
    if (!p->on)
        return mu_err_set(err, MUSTER_ECORRUPT, "it has no copies on peers");
    all = calloc((size_t)p->size, sizeof *all);
    lacking = calloc(2 * (size_t)id->world, sizeof *lacking);
    rc = all && lacking ? 0 : mu_err_set(err, MUSTER_ENOMEM, "no memory to make parts again");
    if ((got = together(p, rc, err)))
        return got;
    for (uint32_t r = 0; r < id->world; r++)
        lacking[id->world + r] = 1;
    check_ours(p, id, NULL);
    if ((got = together_later(p, 0, err)))
        return got;
    if (leads(p))
        mine = look_here(p, id, lacking + id->world);
    if ((got = muster_allgather(&mine, all, sizeof mine, MUSTER_UINT8, p->ram->comm)))
        return collective(got, err);
    got = muster_allreduce(lacking + id->world, lacking, id->world, MUSTER_INT32, MUSTER_MIN, p->ram->comm);
    if (got)
        return collective(got, err);
    if ((got = find_lost(p, id, all, lacking, &f, err)))
        return got;
    /* side by side, but one after the other where two are for one node; whoever waits leaves the processors to drains
     */
    for (uint32_t i = 0; !rc && i < f.nours; i++)
        if (!(rc = wait_for_turn(p, timeout, err)) && !(rc = prepare(p, id, order, &f, i, all, err)))
            rc = order_and_wait(p, timeout, err);
    if ((got = together_later(p, rc, err)))
        return got;
    /* what was made again is verified by its rank before it meets the others, who would wait on the processor */
    return together_later(p, check_ours(p, id, err), err);
}
