#include "runtime/keeper/peers.h"

#include <event2/event.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "runtime/base/clean.h"
#include "runtime/base/clock.h"
#include "runtime/base/futex.h"
#include "runtime/keeper/peers_priv.h"
#include "runtime/wire/addr.h"

#define BUSY_TICK MU_MS
#define IDLE_TICK (10 * MU_MS)
#define DIAL_AGAIN (100 * MU_MS)
#define HURRY MU_SEC /* behind the last piece that was given back */

struct guest {
    struct mu_peers *all;
    struct guest *next;
    struct mu_bulk *link;
    struct mu_m_shard asks; /* MU_SHARD_MEET that has no answer yet; its id is below */
    struct mu_ckpt_id id;
};

/* --- blocks ------------------------------------------------------------------------------------------------------- */

static int by_rank(const void *a, const void *b)
{
    const struct mu_block_part *x = a, *y = b;

    return x->is.rank < y->is.rank ? -1 : x->is.rank > y->is.rank;
}

int mu_block_open(struct mu_arena_head *h, const struct mu_ckpt_id *id, struct mu_block *out, struct mu_err *err)
{
    uint32_t cells = atomic_load(&h->nranks) * MU_ARENA_SLOTS;
    struct mu_block b = {.id = *id, .parts = calloc(MU_ARENA_RANKS, sizeof *b.parts)};
    int rc = b.parts ? 0 : mu_err_set(err, MUSTER_ENOMEM, "no memory for a block");

    for (uint32_t i = 0; !rc && i < cells && b.n < MU_ARENA_RANKS; i++) {
        struct mu_arena_cell *c = &h->cells[i];
        struct mu_block_part *p = &b.parts[b.n];

        if (atomic_load_explicit(&c->state, memory_order_acquire) != MU_ARENA_FULL || !atomic_load(&c->summed) ||
            !mu_ckpt_same_id(&c->id, id))
            continue;
        *p = (struct mu_block_part){
            .is = {.rank = c->rank, .segment = c->segment, .manifest = c->manifest, .extents = c->extents}, .cell = c};
        if (!(rc = mu_maps_take(h, c->fd, mu_arena_bytes(c->segment, c->manifest, c->extents), false, &p->map, err)))
            b.n++;
    }
    if (rc) {
        mu_block_close(&b);
        return rc;
    }
    qsort(b.parts, b.n, sizeof *b.parts, by_rank);
    for (uint32_t i = 0; i < b.n; i++) {
        const struct mu_arena_part *p = &b.parts[i].is;

        b.parts[i].at = b.bytes;
        b.bytes += mu_arena_part_bytes(p->segment, p->manifest, p->extents);
    }
    *out = b;
    return 0;
}

void mu_block_close(struct mu_block *b)
{
    for (uint32_t i = 0; i < b->n; i++)
        mu_maps_give(b->parts[i].map);
    free(b->parts);
    *b = (struct mu_block){0};
}

const unsigned char *mu_block_at(const struct mu_block *b, uint64_t at, unsigned char *room, uint32_t n)
{
    bool any = false;

    for (uint32_t i = 0; i < b->n; i++) {
        const struct mu_block_part *p = &b->parts[i];
        uint64_t end = p->at + mu_arena_bytes(p->is.segment, p->is.manifest, p->is.extents);
        uint64_t from = at > p->at ? at : p->at, to = at + n < end ? at + n : end;

        if (from >= to)
            continue;
        if (to - from == n)
            return p->map + (at - p->at);
        if (!any)
            memset(room, 0, n);
        any = true;
        memcpy(room + (from - at), p->map + (from - p->at), to - from);
    }
    if (!any)
        memset(room, 0, n);
    return room;
}

/* --- connections -------------------------------------------------------------------------------------------------- */

static void take(struct mu_peers *p, struct mu_bulk *link, const struct mu_msg *msg)
{
    const struct mu_m_shard *s = &msg->shard;

    if (msg->type != MU_MSG_shard || s->id.len != sizeof(struct mu_ckpt_id) || s->n < 2 || s->n > MU_GROUP_MAX ||
        s->k < 1 || s->k >= s->n || s->from >= s->n || s->stripe >= s->n || s->row >= s->n || !s->chunk ||
        s->chunk % MU_CKPT_PAGE || s->chunk > 1ull << 45 || s->at >= s->chunk || s->at % MU_ARENA_PIECE)
        return;
    if (s->kind == MU_SHARD_MEET || s->kind == MU_SHARD_MET)
        return;
    if (s->kind == MU_SHARD_WANT)
        mu_rebuild_asked(p, link, s);
    else if (s->kind == MU_SHARD_JOIN)
        mu_rebuild_joins(p, link, s);
    else if (s->kind == MU_SHARD_GIVE || s->kind == MU_SHARD_NONE || s->kind == MU_SHARD_MADE ||
             s->kind == MU_SHARD_LEFT)
        mu_rebuild_given(p, s);
    else
        mu_saves_msg(p, link, s);
}

/* What is sent to a node that does not know the group is lost. */
static void answer(struct guest *g)
{
    const struct mu_peers *p = g->all;

    if (g->asks.kind != MU_SHARD_MEET || !p->group.n || g->asks.nonce != p->group.nonce)
        return;
    g->asks.kind = MU_SHARD_MET;
    g->asks.id = (struct mu_bytes){.data = (uint8_t *)&g->id, .len = sizeof g->id};
    g->asks.data = (struct mu_bytes){0};
    mu_bulk_send(g->link, MU_MSG_shard, &g->asks, NULL, 0);
}

static void on_guest_msg(void *arg, struct mu_bulk *link, const struct mu_msg *msg)
{
    struct guest *g = arg;

    if (msg->type == MU_MSG_shard && msg->shard.kind == MU_SHARD_MEET) {
        if (msg->shard.id.len == sizeof g->id) {
            g->asks = msg->shard;
            memcpy(&g->id, msg->shard.id.data, sizeof g->id);
        }
        answer(g);
    } else {
        take(g->all, link, msg);
    }
}

static void on_guest_down(void *arg, struct mu_bulk *link)
{
    struct guest *g = arg, **at = &g->all->guests;

    while (*at != g)
        at = &(*at)->next;
    *at = g->next;
    mu_rebuild_unasked(g->all, link);
    mu_bulk_free(link);
    free(g);
}

static void on_guest_room(void *arg, struct mu_bulk *link)
{
    struct guest *g = arg;

    mu_rebuild_room(g->all, link);
}

static void on_accept(void *arg, struct mu_tls_conn *conn)
{
    static const struct mu_bulk_calls calls = {.msg = on_guest_msg, .down = on_guest_down, .room = on_guest_room};
    struct mu_peers *p = arg;
    struct guest *g = calloc(1, sizeof *g);

    if (!g) {
        mu_tls_conn_free(conn);
        return;
    }
    *g = (struct guest){.all = p, .next = p->guests};
    g->link = mu_bulk_new(conn, &p->desk, &calls, g);
    if (!g->link) {
        free(g);
        return;
    }
    mu_bulk_open(g->link, p->group.open);
    p->guests = g;
}

static void on_peer_msg(void *arg, struct mu_bulk *link, const struct mu_msg *msg)
{
    struct mu_peer *peer = arg;

    if (msg->type == MU_MSG_shard && msg->shard.kind == MU_SHARD_MET)
        peer->met |= msg->shard.nonce == peer->all->group.nonce;
    else
        take(peer->all, link, msg);
}

static void on_peer_down(void *arg, struct mu_bulk *link)
{
    struct mu_peer *peer = arg;

    mu_rebuild_unasked(peer->all, link);
    mu_bulk_free(link);
    peer->link = NULL;
    peer->broke = peer->gone = true;
    peer->asked = peer->met = false;
    peer->again = mu_now() + DIAL_AGAIN;
}

static void on_peer_room(void *arg, struct mu_bulk *link)
{
    struct mu_peer *peer = arg;

    mu_rebuild_room(peer->all, link);
    mu_saves_room(peer->all);
}

static void on_dialled(void *arg, struct mu_tls_conn *conn, const struct mu_err *err)
{
    static const struct mu_bulk_calls calls = {.msg = on_peer_msg, .down = on_peer_down, .room = on_peer_room};
    struct mu_peer *peer = arg;

    (void)err;
    peer->dial = NULL;
    if (conn)
        peer->link = mu_bulk_new(conn, &peer->all->desk, &calls, peer);
    if (peer->link) {
        mu_bulk_open(peer->link, peer->all->group.open);
        return;
    }
    /* the next of its addresses; after the last one a pause */
    peer->tried++;
    if (peer->tried >= MU_COUNT(peer->at.host) || !peer->at.host[peer->tried][0]) {
        peer->tried = 0;
        peer->again = mu_now() + DIAL_AGAIN;
    }
}

static void dial(struct mu_peer *peer, uint64_t now)
{
    struct mu_err err;

    if (peer->link || peer->dial || now < peer->again)
        return;
    if (mu_connect_tcp(peer->all->tls, peer->at.host[peer->tried], (uint16_t)peer->at.port, on_dialled, peer,
                       &peer->dial, &err)) {
        peer->dial = NULL;
        peer->again = now + DIAL_AGAIN;
    }
}

struct mu_peer *mu_peers_at(struct mu_peers *p, const struct mu_arena_addr *at)
{
    struct mu_peer *peer = p->peers;

    while (peer && memcmp(&peer->at, at, sizeof *at))
        peer = peer->next;
    if (!peer) {
        if (!(peer = calloc(1, sizeof *peer)))
            return NULL;
        *peer = (struct mu_peer){.all = p, .next = p->peers, .at = *at};
        p->peers = peer;
    }
    dial(peer, mu_now());
    return peer;
}

static void drop_peers(struct mu_peers *p)
{
    while (p->peers) {
        struct mu_peer *peer = p->peers;

        p->peers = peer->next;
        mu_tls_dial_cancel(peer->dial);
        mu_rebuild_unasked(p, peer->link);
        mu_bulk_free(peer->link);
        free(peer);
    }
}

/* --- the loop ----------------------------------------------------------------------------------------------------- */

/* As it was when it had that number: ranks may set the next one meanwhile. */
static void read_group(struct mu_peers *p)
{
    const struct mu_arena_group *g = &p->head->group;
    uint32_t set, tries = 0;

    do {
        set = atomic_load_explicit(&g->set, memory_order_acquire);
        p->group.set = set;
        if (MU_PLANTED(TORN))
            usleep(100000);
        p->group.n = g->n >= 2 && g->n <= MU_GROUP_MAX && g->k >= 1 && g->k < g->n && g->me < g->n ? g->n : 0;
        p->group.k = g->k;
        p->group.me = g->me;
        p->group.group = g->group;
        p->group.open = g->open;
        p->group.nonce = g->nonce;
        memcpy(p->group.member, g->member, sizeof p->group.member);
        atomic_thread_fence(memory_order_acquire);
    } while (atomic_load_explicit(&g->set, memory_order_relaxed) != set && ++tries < 100 && !MU_PLANTED(TORN));
}

bool mu_peers_in_group(const struct mu_peers *p)
{
    return atomic_load_explicit(&p->head->group.set, memory_order_acquire) == p->group.set;
}

/* The ranks of a new attempt have met. */
static void look_at_group(struct mu_peers *p)
{
    if (mu_peers_in_group(p))
        return;
    mu_saves_end(p, "the attempt that made it is over");
    mu_saves_spare(p);
    mu_rebuild_end(p);
    mu_rebuild_forget(p);
    drop_peers(p);
    read_group(p);
    memset(p->dead, 0, sizeof p->dead);
    mu_saves_forget(p);
    for (struct guest *i = p->guests; i; i = i->next) {
        mu_bulk_open(i->link, p->group.open);
        answer(i);
    }
}

/* Saves give way to ranks, but for what is being made again all ranks of the job wait; that is over when a save begins.
 * Where the account may not do that it goes as before. */
static void hurry(struct mu_peers *p, uint64_t now)
{
    bool on = p->gave && now < p->gave + HURRY;

    for (uint32_t i = 0; i < MU_ARENA_SLOTS; i++)
        on &= !p->saves[i];
    on |= p->rebuild != NULL;

    if (on != p->hurries && p->nice > 0)
        setpriority(PRIO_PROCESS, (id_t)gettid(), on ? 0 : p->nice);
    p->hurries = on;
}

static void on_tick(void *arg)
{
    struct mu_peers *p = arg;
    uint64_t now = mu_now();
    bool busy;

    if (atomic_load(&p->stop)) {
        event_base_loopbreak(p->base);
        return;
    }
    look_at_group(p);
    busy = mu_saves_tick(p, now);
    busy |= mu_rebuild_tick(p, now);
    hurry(p, now);
    mu_alarm_set(p->alarm, now + (busy ? BUSY_TICK : IDLE_TICK));
}

static void *run(void *arg)
{
    struct mu_peers *p = arg;

    prctl(PR_SET_NAME, "peers"); /* so that what they cost can be told apart */
    p->nice = getpriority(PRIO_PROCESS, 0);
    while (!atomic_load(&p->stop) && event_base_dispatch(p->base) == 0) {
    }
    return NULL;
}

static void publish(struct mu_peers *p, const char *only)
{
    struct mu_arena_addr *to = &p->head->listen;
    struct ifaddrs *list = NULL;
    size_t n = 0;

    memset(to, 0, sizeof *to);
    if (only)
        snprintf(to->host[n++], sizeof to->host[0], "%s", only);
    else if (getifaddrs(&list))
        list = NULL;
    for (struct ifaddrs *i = list; i && n < MU_COUNT(to->host); i = i->ifa_next) {
        struct mu_addr a = {.len = sizeof a.in6};

        if (!i->ifa_addr || !(i->ifa_flags & IFF_UP) || i->ifa_flags & IFF_LOOPBACK ||
            (i->ifa_addr->sa_family != AF_INET && i->ifa_addr->sa_family != AF_INET6))
            continue;
        memcpy(&a.in6, i->ifa_addr, i->ifa_addr->sa_family == AF_INET ? sizeof a.in : sizeof a.in6);
        if (i->ifa_addr->sa_family == AF_INET6 && IN6_IS_ADDR_LINKLOCAL(&a.in6.sin6_addr))
            continue;
        mu_addr_host(&a, to->host[n++]);
    }
    if (list)
        freeifaddrs(list);
    if (!n)
        strcpy(to->host[0], "127.0.0.1");
    atomic_thread_fence(memory_order_release);
    to->port = mu_tls_listener_port(p->door);
}

static void free_all(struct mu_peers *p)
{
    if (!p)
        return;
    if (p->head)
        p->head->listen.port = 0;
    if (p->base) {
        mu_saves_end(p, "the drain ends");
        mu_saves_spare(p);
        mu_rebuild_end(p);
        mu_rebuild_forget(p);
        drop_peers(p);
    }
    while (p->guests) {
        struct guest *g = p->guests;

        p->guests = g->next;
        mu_rebuild_unasked(p, g->link);
        mu_bulk_free(g->link);
        free(g);
    }
    free(p->asked);
    mu_tls_listener_free(p->door);
    mu_tls_free(p->tls);
    mu_alarm_free(p->alarm);
    if (p->base)
        event_base_free(p->base);
    mu_maps_clear();
    free(p);
}

static uint16_t port_before(struct mu_arena_head *h)
{
    const struct mu_arena_group *g = &h->group;

    return atomic_load_explicit(&g->set, memory_order_acquire) && g->me < MU_GROUP_MAX ? (uint16_t)g->member[g->me].port
                                                                                       : 0;
}

int mu_peers_start(struct mu_arena_head *h, const struct mu_key *key, const char *only, struct mu_peers **out,
                   struct mu_err *err)
{
    struct mu_peers *p = calloc(1, sizeof *p);
    uint32_t busy = MU_DRAIN_BUSY, left = MU_DRAIN_SAFE;
    uint16_t before;
    int rc = 0;

    /* what a drain that died here was making is made anew */
    atomic_compare_exchange_strong(&h->rebuild.state, &busy, MU_DRAIN_WANTED);
    atomic_compare_exchange_strong(&h->rebuild.state, &left, MU_DRAIN_NONE);
    if (p) {
        p->head = h;
        p->base = mu_loop_new();
        p->alarm = p->base ? mu_alarm_new(p->base, on_tick, p) : NULL;
    }
    if (!p || !p->alarm)
        rc = mu_err_set(err, MUSTER_ENOMEM, "no memory for the connections to peers");
    if (!rc)
        rc = mu_tls_new(p->base, key, NULL, &p->tls, err);
    /* the members of the group know a drain that died here by its port */
    if (!rc && (before = port_before(h)))
        mu_listen_tcp(p->tls, &only, only ? 1 : 0, before, on_accept, p, &p->door, NULL);
    if (!rc && !p->door)
        rc = mu_listen_tcp(p->tls, &only, only ? 1 : 0, 0, on_accept, p, &p->door, err);
    if (rc) {
        free_all(p);
        return rc;
    }
    mu_alarm_set(p->alarm, mu_now());
    if (pthread_create(&p->thread, NULL, run, p)) {
        free_all(p);
        return mu_err_set(err, MUSTER_ENOMEM, "no thread for the connections to peers");
    }
    publish(p, only);
    *out = p;
    return 0;
}

void mu_peers_stop(struct mu_peers *p)
{
    if (!p)
        return;
    atomic_store(&p->stop, 1);
    pthread_join(p->thread, NULL);
    free_all(p);
}

int mu_peers_key(const struct mu_paths *paths, struct mu_key *key, struct mu_err *err)
{
    char path[PATH_MAX];
    int rc = getenv(MU_PATHS_JOINED) ? mu_path_join(path, sizeof path, paths->state, "join.key", err)
                                     : mu_key_path(paths, path, err);

    return rc ? rc : mu_key_load(path, key, err);
}
