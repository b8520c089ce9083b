/* The tree of agents: through whom each reaches the controller. Whoever comes dials the controller; when enough are
 * there already, it is sent on to one that has room, as near to the controller as possible. What is below a node that
 * goes away comes back by itself and is sent on again. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launcher/core/ctl_priv.h"
#include "runtime/base/clock.h"

#define BOUND_NS (3 * MU_SEC)   /* a node that was sent on is there by then, or has said that it cannot */
#define TRIES 2u                /* parents that a node cannot reach: then it stays where it is */
#define MISSES 8u               /* nodes in a row that could not go: this network does not let them */
#define MISSES_NS (60 * MU_SEC) /* look again so much later */
#define MOVING 64u              /* nodes that are moved at a time */

struct spot {                    /* of a node of the pool */
    int via;                     /* its parent; -1: none */
    int bound;                   /* the one that it was sent to; -1: none */
    int avoid;                   /* it could not reach this one */
    uint32_t kids, depth, tries; /* kids: those that are to come, too */
    bool on, direct;             /* connected; to the controller itself */
    bool kept;                   /* direct, and to stay so */
    bool said;                   /* bound, and ready where it is */
    uint64_t until;
};

struct mu_ctl_tree {
    struct spot *v;
    unsigned n;
    unsigned ndirect, nkept; /* ndirect: of those that are not bound */
    unsigned nbound, misses;
    uint64_t bound_until; /* no one's until is earlier */
    uint64_t misses_until;
};

struct mu_ctl_tree *mu_ctl_tree_new(void)
{
    return calloc(1, sizeof(struct mu_ctl_tree));
}

void mu_ctl_tree_free(struct mu_ctl_tree *t)
{
    if (!t)
        return;
    free(t->v);
    free(t);
}

static struct spot *spot_of(struct mu_ctl *c, int node)
{
    struct mu_ctl_tree *t = c->tree;

    if ((unsigned)node >= t->n) {
        unsigned n = c->pool.n > t->n * 2 ? c->pool.n : t->n * 2;
        struct spot *v = realloc(t->v, n * sizeof *v);
        if (!v) {
            c->acts->failed = true;
            return NULL;
        }
        t->v = v;
        for (; t->n < n; t->n++)
            v[t->n] = (struct spot){.via = -1, .bound = -1, .avoid = -1};
    }
    return &t->v[node];
}

int mu_ctl_tree_via(const struct mu_ctl *c, int node)
{
    return (unsigned)node < c->tree->n ? c->tree->v[node].via : -1;
}

bool mu_ctl_tree_direct(const struct mu_ctl *c, int node)
{
    return (unsigned)node < c->tree->n && c->tree->v[node].direct;
}

static void unbind(struct mu_ctl_tree *t, struct spot *s)
{
    if (s->bound < 0)
        return;
    t->v[s->bound].kids--;
    s->bound = -1;
    s->said = false;
    t->nbound--;
    t->ndirect += s->direct;
}

static void bind(struct mu_ctl *c, struct spot *s, int parent)
{
    struct mu_ctl_tree *t = c->tree;

    s->bound = parent;
    s->said = false;
    s->until = c->now + BOUND_NS;
    t->bound_until = t->nbound && t->bound_until < s->until ? t->bound_until : s->until;
    t->v[parent].kids++;
    t->nbound++;
    t->ndirect -= s->direct;
}

void mu_ctl_tree_gone(struct mu_ctl *c, int node)
{
    struct mu_ctl_tree *t = c->tree;

    if ((unsigned)node >= t->n || !t->v[node].on)
        return;
    struct spot *s = &t->v[node];
    unbind(t, s);
    if (s->via >= 0)
        t->v[s->via].kids--;
    t->ndirect -= s->direct;
    t->nkept -= s->kept;
    s->via = -1;
    s->on = s->direct = s->kept = false;
}

/* Whether the way of node i goes through `node`. */
static bool below(const struct mu_ctl_tree *t, int i, int node)
{
    for (unsigned hops = 0; i >= 0 && hops < t->n; hops++, i = t->v[i].via)
        if (i == node)
            return true;
    return false;
}

static bool can_be_parent(const struct mu_ctl *c, int parent, int node)
{
    const struct mu_node *p = &c->pool.v[parent];

    /* hosts of a job go with it: they are nobody's but each other's */
    return p->state == MU_NODE_UP && p->ready && p->remote && !p->leaving && p->port && *p->addr &&
           (!p->owner || p->owner == c->pool.v[node].owner) && !below(c->tree, parent, node);
}

static int pick(const struct mu_ctl *c, int node)
{
    const struct mu_ctl_tree *t = c->tree;
    int best = -1;

    for (int i = 0; i < (int)t->n && i < (int)c->pool.n; i++) {
        const struct spot *s = &t->v[i];
        if (!s->on || s->bound >= 0 || (s->direct && !s->kept) || s->kids >= c->cfg.fanout || i == node ||
            i == t->v[node].avoid)
            continue;
        if (best >= 0 && (s->depth > t->v[best].depth || (s->depth == t->v[best].depth && s->kids >= t->v[best].kids)))
            continue;
        if (can_be_parent(c, i, node))
            best = i;
    }
    return best;
}

static void send_on(struct mu_ctl *c, int node, int parent)
{
    const struct mu_node *p = parent < 0 ? NULL : &c->pool.v[parent];
    struct mu_m_parent m = {.way = c->pool.v[node].way};

    if (p) {
        m.node = (char *)(uintptr_t)p->name;
        m.addr = (char *)(uintptr_t)p->addr;
        m.port = p->port;
        bind(c, &c->tree->v[node], parent);
    }
    mu_acts_send(c->acts, c->pool.v[node].conn, MU_MSG_parent, &m);
}

/* The first ones that connect to us stay; those past them go as soon as there is somebody to go to. */
static void keep(struct mu_ctl *c, struct spot *s)
{
    if (!s->direct || s->kept || s->bound >= 0 || (c->cfg.fanout && c->tree->nkept >= c->cfg.fanout))
        return;
    s->kept = true;
    c->tree->nkept++;
}

static bool can_go(const struct mu_ctl *c, const struct spot *s)
{
    const struct mu_ctl_tree *t = c->tree;

    return s->direct && !s->kept && s->bound < 0 && s->tries < TRIES &&
           (t->misses < MISSES || c->now >= t->misses_until);
}

void mu_ctl_tree_join(struct mu_ctl *c, const struct conn *k)
{
    struct mu_ctl_tree *t = c->tree;
    int node = k->node, via = k->via ? mu_ctl_node_at(c, k->via) : -1;
    struct spot *s = spot_of(c, node);

    if (!s || !c->pool.v[node].remote)
        return;
    mu_ctl_tree_gone(c, node);
    s->on = true;
    s->direct = !k->via;
    s->via = via;
    s->depth = via < 0 ? 1 : t->v[via].depth + 1;
    t->ndirect += s->direct;
    if (via >= 0)
        t->v[via].kids++;
    if (!s->direct) {
        s->tries = t->misses = 0;
        s->avoid = -1;
    }
    keep(c, s);
    send_on(c, node, can_go(c, s) ? pick(c, node) : -1);
}

/* It has not reached the one that it was sent to. */
static void miss(struct mu_ctl *c, struct spot *s)
{
    struct mu_ctl_tree *t = c->tree;

    s->avoid = s->bound;
    s->tries++;
    if (++t->misses >= MISSES)
        t->misses_until = c->now + MISSES_NS;
    unbind(t, s);
}

void mu_ctl_tree_stay(struct mu_ctl *c, int node, const char *tried)
{
    struct mu_ctl_tree *t = c->tree;
    struct spot *s = (unsigned)node < t->n ? &t->v[node] : NULL;

    if (!s || !s->on || (s->bound >= 0 && strcmp(c->pool.v[s->bound].name, tried ? tried : "") != 0))
        return;
    if (s->bound < 0) { /* too late: it may have got work where it is */
        send_on(c, node, -1);
        return;
    }
    bool said = s->said;
    miss(c, s);
    keep(c, s);
    int next = can_go(c, s) ? pick(c, node) : -1;
    send_on(c, node, next);
    s->said = next >= 0 && said;
    if (next >= 0 || !said)
        return;
    mu_ctl_node_ready(c, node);
    mu_ctl_tree_balance(c);
}

bool mu_ctl_tree_holds(struct mu_ctl *c, int node)
{
    struct spot *s = (unsigned)node < c->tree->n ? &c->tree->v[node] : NULL;

    if (!s || s->bound < 0)
        return false;
    s->said = true;
    return true;
}

/* Nodes that came when there was nobody to send them to go on now, unless they have work. */
void mu_ctl_tree_balance(struct mu_ctl *c)
{
    const struct mu_ctl_tree *t = c->tree;

    for (int i = 0; i < (int)t->n && i < (int)c->pool.n && t->ndirect > t->nkept && t->nbound < MOVING; i++) {
        struct mu_node *n = &c->pool.v[i];
        keep(c, &t->v[i]);
        if (!can_go(c, &t->v[i]) || t->v[i].kids || !n->ready || n->used || n->leaving)
            continue;
        int parent = pick(c, i);
        if (parent < 0)
            return;
        n->ready = false;
        send_on(c, i, parent);
        c->tree->v[i].said = true;
    }
}

static void find_due(struct mu_ctl_tree *t)
{
    t->bound_until = UINT64_MAX;
    for (unsigned i = 0; i < t->n; i++)
        if (t->v[i].bound >= 0 && t->v[i].until < t->bound_until)
            t->bound_until = t->v[i].until;
}

void mu_ctl_tree_tick(struct mu_ctl *c)
{
    struct mu_ctl_tree *t = c->tree;
    bool room = false, due = t->nbound && c->now >= t->bound_until;

    for (unsigned i = 0; due && i < t->n; i++) {
        if (t->v[i].bound < 0 || c->now < t->v[i].until)
            continue;
        bool said = t->v[i].said;
        miss(c, &t->v[i]);
        room = true;
        if (said)
            mu_ctl_node_ready(c, (int)i);
    }
    if (due)
        find_due(t);
    if (t->misses_until && c->now >= t->misses_until) {
        t->misses = 0;
        t->misses_until = 0;
        room = true;
        for (unsigned i = 0; i < t->n; i++)
            t->v[i].tries = 0;
    }
    if (room)
        mu_ctl_tree_balance(c);
}

uint64_t mu_ctl_tree_next(const struct mu_ctl *c)
{
    const struct mu_ctl_tree *t = c->tree;
    uint64_t next = t->misses_until ? t->misses_until : UINT64_MAX;

    return t->nbound && t->bound_until < next ? t->bound_until : next;
}
