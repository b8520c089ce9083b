/* Which nodes of the pool a job gets when the switches between them are known, and in which order. topo/place.h says
 * what is least. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launcher/core/pool_priv.h"
#include "runtime/base/clean.h"
#include "runtime/base/str.h"

enum { FAR_AWAY = 1 << 20 };
#define EFFORT 4000000l /* the controller has other things to do: tens of milliseconds */

static void clean_result(struct mu_place_result *r)
{
    mu_place_result_free(r);
}

/* --- hosts of the fabric ------------------------------------------------------------------------------------------ */

/* Under its whole name, or without its domain. */
static int find_host(const struct mu_fabric *f, const char *name)
{
    int host = mu_fabric_find_host(f, name);
    char first[sizeof((struct mu_node *)0)->name];

    if (host >= 0)
        return host;
    snprintf(first, sizeof first, "%.*s", (int)strcspn(name, "."), name);
    return mu_fabric_find_host(f, first);
}

void mu_pool_place_add(struct mu_pool *pool, uint32_t node)
{
    struct mu_node *n = &pool->v[node];
    int host = pool->place ? find_host(mu_place_fabric(pool->place), n->name) : -1;

    n->host_plus1 = 0;
    if (host < 0 || pool->of_host[host]) /* two nodes of one host: the first one is there */
        return;
    n->host_plus1 = (uint32_t)host + 1;
    pool->of_host[host] = node + 1;
}

void mu_pool_place_remove(struct mu_pool *pool, uint32_t node)
{
    if (pool->v[node].host_plus1)
        pool->of_host[pool->v[node].host_plus1 - 1] = 0;
}

bool mu_pool_set_place(struct mu_pool *pool, const struct mu_place *place)
{
    size_t hosts = place ? (size_t)mu_fabric_nhosts(mu_place_fabric(place)) : 0;
    uint32_t *of_host = place ? calloc(hosts + 1, sizeof *of_host) : NULL;

    free(pool->of_host);
    pool->of_host = of_host;
    pool->place = of_host ? place : NULL;
    for (unsigned i = 0; i < pool->n; i++)
        if (pool->v[i].state != MU_NODE_NONE)
            mu_pool_place_add(pool, i);
    return !place || of_host;
}

static int host_of(const struct mu_pool *pool, uint32_t node)
{
    return pool->place ? (int)pool->v[node].host_plus1 - 1 : -1;
}

static int leaf_of(const struct mu_pool *pool, uint32_t node)
{
    int host = host_of(pool, node);

    return host < 0 ? -1 : mu_place_leaf(pool->place, host);
}

static long hops(const struct mu_pool *pool, uint32_t a, uint32_t b)
{
    int x = host_of(pool, a), y = host_of(pool, b);
    int d = a == b ? 0 : x < 0 || y < 0 ? -1 : mu_place_distance(pool->place, x, y);

    return d < 0 ? FAR_AWAY : d;
}

long mu_pool_detour(const struct mu_pool *pool, uint32_t before, uint32_t node, uint32_t behind)
{
    return pool->place ? hops(pool, before, node) + hops(pool, node, behind) : 0;
}

/* --- the choice --------------------------------------------------------------------------------------------------- */

static uint32_t min_u32(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

/* What is wanted, and what each node counts for it: nodes that count 1, or ranks. */
struct wish {
    uint64_t want;
    uint32_t least, most; /* room that a node needs; that counts */
    bool nodes;
};

static struct wish wish_of(const struct mu_m_spec *spec, const struct place *p, unsigned np)
{
    struct wish w = {.want = spec->ranks, .least = 1, .most = INT_MAX / (np + 1)}; /* so that sums are numbers */
    uint32_t usable = 0;

    if (spec->ppn && spec->ppn < w.most)
        w.most = spec->ppn;
    if (spec->nodes) {
        w.want = spec->nodes;
        w.least = (spec->ranks + spec->nodes - 1) / spec->nodes;
        w.nodes = true;
    } else if (spec->map && !strcmp(spec->map, "node")) { /* all of them, if there are ranks enough */
        for (unsigned i = 0; i < np; i++)
            usable += p[i].room > 0;
        w.want = min_u32(usable, spec->ranks);
        w.nodes = true;
    }
    return w;
}

static int count_of(const struct wish *w, const struct place *p)
{
    uint32_t room = min_u32(p->room, w->most);

    if (room < w->least || !room)
        return 0;
    return w->nodes ? 1 : (int)room;
}

/* The node with the least room that is enough for all of it. */
static int one_node(const struct wish *w, const struct place *p, unsigned np)
{
    int best = -1;

    for (unsigned i = 0; i < np && !w->nodes; i++)
        if (min_u32(p[i].room, w->most) >= w->want && (best < 0 || p[i].room < p[best].room))
            best = (int)i;
    return best;
}

struct keyed {
    struct place place;
    long key;
    unsigned at;
};

static int by_key(const void *a, const void *b)
{
    const struct keyed *x = a, *y = b;

    if (x->key != y->key)
        return x->key < y->key ? -1 : 1;
    return (x->at > y->at) - (x->at < y->at);
}

/* By leaves, the unknown ones last. */
static void sort_by_leaf(const struct mu_pool *pool, struct keyed *v, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        int leaf = leaf_of(pool, v[i].place.node);
        v[i].key = leaf < 0 ? LONG_MAX : leaf;
    }
    if (n)
        qsort(v, n, sizeof *v, by_key);
}

/* Hops to the nearest of those that are chosen; neighbours in their order are often on one leaf. */
static long nearest(const struct mu_place *place, const struct mu_place_result *r, int host)
{
    long best = FAR_AWAY;

    for (int k = 0, last = -1; k < r->n && best; k++) {
        int leaf = mu_place_leaf(place, r->hosts[k]),
            d = leaf == last ? -1 : mu_place_distance(place, r->hosts[k], host);
        if (d >= 0 && d < best)
            best = d;
        last = leaf;
    }
    return best;
}

/* For spares. */
static void sort_by_distance(const struct mu_pool *pool, const struct mu_place_result *r, struct keyed *v, unsigned n)
{
    mu_auto_free long *known = calloc((size_t)mu_place_nleaves(pool->place) + 1, sizeof *known); /* + 1; 0: not yet */

    for (unsigned i = 0; known && i < n; i++) {
        int leaf = leaf_of(pool, v[i].place.node);
        if (leaf >= 0 && !known[leaf])
            known[leaf] = nearest(pool->place, r, host_of(pool, v[i].place.node)) + 1;
        v[i].key = leaf >= 0 ? known[leaf] - 1 : FAR_AWAY;
    }
    if (known && n)
        qsort(v, n, sizeof *v, by_key);
}

static void why_not(const struct mu_pool *pool, const struct wish *w, const struct place *p, unsigned np, char *why,
                    size_t whylen)
{
    unsigned unknown = 0;
    const char *first = "";
    char shown[80];

    for (unsigned i = 0; i < np; i++)
        if (count_of(w, &p[i]) && leaf_of(pool, p[i].node) < 0 && !unknown++)
            first = pool->v[p[i].node].name;
    if (unknown)
        snprintf(why, whylen, "leaf by leaf, as not enough of the free nodes are in the fabric (%s%s not)",
                 mu_str_show(shown, sizeof shown, first), unknown > 1 ? " and others are" : " is");
    else
        snprintf(why, whylen, "leaf by leaf, as not enough of the free nodes are connected in the fabric");
}

bool mu_pool_arrange(const struct mu_pool *pool, const struct mu_m_spec *spec, struct place *p, unsigned np,
                     struct chosen *out, char *why, size_t whylen)
{
    const struct wish w = wish_of(spec, p, np);
    int nhosts = mu_fabric_nhosts(mu_place_fabric(pool->place)), one = one_node(&w, p, np), rc = 0;
    mu_auto_free int *size = calloc((size_t)nhosts + 1, sizeof *size);
    mu_auto_free int *at_host = calloc((size_t)nhosts + 1, sizeof *at_host); /* index in p, + 1 */
    mu_auto_free struct keyed *v = calloc((size_t)np + 1, sizeof *v);
    __attribute__((cleanup(clean_result))) struct mu_place_result r = {0};
    struct mu_err err = {0};
    unsigned n = 0, rest;

    if (!size || !at_host || !v)
        return false;
    if (one >= 0) {
        struct place first = p[one];
        memmove(p + 1, p, (size_t)one * sizeof *p);
        p[0] = first;
        return true;
    }
    for (unsigned i = 0; i < np; i++) {
        int host = host_of(pool, p[i].node);
        if (host < 0 || mu_place_leaf(pool->place, host) < 0)
            continue;
        size[host] = count_of(&w, &p[i]);
        at_host[host] = (int)i + 1;
    }
    struct mu_place_request want = {.want = (int)w.want, .size = size, .group = (int)spec->group, .effort = EFFORT};
    rc = mu_place_choose(pool->place, &want, &r, &err);
    if (rc == MUSTER_ENODE)
        why_not(pool, &w, p, np, why, whylen);
    else if (rc)
        snprintf(why, whylen, "leaf by leaf: %.200s", err.text);
    for (int i = 0; i < r.n; i++) {
        int from = at_host[r.hosts[i]] - 1;
        v[n++].place = p[from];
        at_host[r.hosts[i]] = -1;
    }
    rest = n;
    for (unsigned i = 0; i < np; i++) {
        int host = host_of(pool, p[i].node);
        if (host < 0 || at_host[host] >= 0)
            v[n++] = (struct keyed){.place = p[i], .at = i};
    }
    if (rc)
        sort_by_leaf(pool, v, n);
    else if (spec->spares)
        sort_by_distance(pool, &r, v + rest, n - rest);
    for (unsigned i = 0; i < n; i++)
        p[i] = v[i].place;
    *out = (struct chosen){.bound = rc ? -1 : r.bound, .split = -1};
    if (!rc && spec->group > 1) {
        out->split = r.groups_split;
        out->groups = (r.n + (int)spec->group - 1) / (int)spec->group;
    }
    return !rc;
}

/* --- what is said of it ------------------------------------------------------------------------------------------- */

static int by_int(const void *a, const void *b)
{
    return (*(const int *)a > *(const int *)b) - (*(const int *)a < *(const int *)b);
}

void mu_pool_tell(const struct mu_pool *pool, const struct mu_share *shares, unsigned n, size_t stride,
                  const struct chosen *c, char *why, size_t whylen)
{
    mu_auto_free int *hosts = calloc(n + 1u, sizeof *hosts), *leaves = calloc(n + 1u, sizeof *leaves);
    unsigned nleaves = 0;
    size_t len;

    why[0] = 0;
    if (!pool->place || n < 2 || !hosts || !leaves)
        return;
    for (unsigned i = 0; i < n; i++) {
        const struct mu_share *s = (const struct mu_share *)((const char *)shares + i * stride);
        hosts[i] = host_of(pool, s->node);
        if ((leaves[i] = leaf_of(pool, s->node)) < 0) {
            char shown[80];
            snprintf(why, whylen, "node %s is not in the fabric",
                     mu_str_show(shown, sizeof shown, pool->v[s->node].name));
            return;
        }
    }
    long cost = mu_place_cost(pool->place, hosts, (int)n);
    qsort(leaves, n, sizeof *leaves, by_int);
    for (unsigned i = 0; i < n; i++)
        nleaves += !i || leaves[i] != leaves[i - 1];
    if (cost < 0)
        snprintf(why, whylen, "%u nodes that are not all connected in the fabric", n);
    else if (nleaves == 1)
        snprintf(why, whylen, "%u nodes on one leaf switch", n);
    else
        snprintf(why, whylen, "%u nodes on %u leaf switches, a ring over them passes %ld cables between switches", n,
                 nleaves, cost);
    len = strlen(why);
    if (cost > 0 && c->bound >= cost && len < whylen)
        snprintf(why + len, whylen - len, ", the fewest possible");
    else if (cost > 0 && c->bound >= 0 && len < whylen)
        snprintf(why + len, whylen - len, "; no choice has fewer than %ld", c->bound);
    len = strlen(why);
    if (c->split >= 0 && len < whylen)
        snprintf(why + len, whylen - len, "; %d of %d groups are on more than one leaf", c->split, c->groups);
}

void mu_pool_describe(const struct mu_pool *pool, const struct mu_share *shares, unsigned n, size_t stride, char *why,
                      size_t whylen)
{
    mu_pool_tell(pool, shares, n, stride, &(struct chosen){.bound = -1, .split = -1}, why, whylen);
}
