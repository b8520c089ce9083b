/* From a fabric to the tree, or the distances, that placement works on. */
#include <stdlib.h>
#include <string.h>

#include "runtime/base/clean.h"
#include "topo/fabric_impl.h"
#include "topo/place_impl.h"
#include "topo/units.h"

enum { MAX_UNITS = 4096, MAX_LEVELS = 32 };

static int no_memory(struct mu_err *err)
{
    return mu_err_set(err, MUSTER_ENOMEM, "out of memory");
}

/* --- vertices --------------------------------------------------------------------------------------------------- */

/* Renumbers so that children come before parents, keeping 0..keep-1, and fills everything that follows from parent and
 * of_host. */
static int finish(struct mu_place *p, struct mu_err *err)
{
    size_t nv = (size_t)p->nv + 1, nh = (size_t)p->f->nhosts + 1;

    p->depth = calloc(nv, sizeof(int));
    p->child = calloc(nv, sizeof(int));
    p->first_child = calloc(nv + 1, sizeof(int));
    p->host = calloc(nh, sizeof(int));
    p->first_host = calloc(nv + 1, sizeof(int));
    if (!p->depth || !p->child || !p->first_child || !p->host || !p->first_host)
        return no_memory(err);
    for (int v = p->nv - 1; v >= 0; v--)
        p->depth[v] = p->parent[v] < 0 ? 0 : p->depth[p->parent[v]] + 1;
    for (int v = 0; v < p->nv; v++)
        if (p->parent[v] >= 0)
            p->first_child[p->parent[v] + 1]++;
    for (int h = 0; h < p->f->nhosts; h++)
        if (p->of_host[h] >= 0)
            p->first_host[p->of_host[h] + 1]++;
    for (int v = 0; v < p->nv; v++) {
        p->first_child[v + 1] += p->first_child[v];
        p->first_host[v + 1] += p->first_host[v];
    }
    mu_auto_free int *at = calloc(2 * nv, sizeof(int));
    if (!at)
        return no_memory(err);
    for (int v = 0; v < p->nv; v++)
        if (p->parent[v] >= 0)
            p->child[p->first_child[p->parent[v]] + at[p->parent[v]]++] = v;
    memset(at, 0, nv * sizeof(int));
    for (int h = 0; h < p->f->nhosts; h++)
        if (p->of_host[h] >= 0)
            p->host[p->first_host[p->of_host[h]] + at[p->of_host[h]]++] = h;
    return 0;
}

/* --- switches that are a tree ----------------------------------------------------------------------------------- */

/* Fills parent (of nodes, -1 at roots) and order (parents first) when the switches, parallel cables counted once, are a
 * forest. */
static bool forest(const struct mu_fabric *f, int *parent, int *order, int *n, int *state)
{
    int tail = 0;

    if (f->tree) {
        /* parents first: by the number of steps to the root, at most 64 */
        for (int depth = 0; depth <= 64; depth++)
            for (int i = 0; i < f->nnodes; i++) {
                int steps = 0;
                if (f->nodes[i].kind != MU_FABRIC_SWITCH)
                    continue;
                for (int up = f->parent[i]; up >= 0; up = f->parent[up])
                    steps++;
                parent[i] = f->parent[i];
                if (steps == depth)
                    order[tail++] = i;
            }
        *n = tail;
        return true;
    }
    int top = 0;
    for (int i = 0; i < f->nnodes; i++) {
        state[i] = -2;
        if (f->nodes[i].kind == MU_FABRIC_SWITCH && f->nodes[i].rank > top)
            top = f->nodes[i].rank;
    }
    /* The switch that is farthest from hosts is a root. */
    for (int rank = top; rank >= 1; rank--)
        for (int i = 0; i < f->nnodes; i++) {
            if (f->nodes[i].kind != MU_FABRIC_SWITCH || f->nodes[i].rank != rank || state[i] != -2)
                continue;
            int head = tail;
            order[tail++] = i;
            parent[i] = state[i] = -1;
            while (head < tail) {
                int v = order[head++];
                for (int k = 0; k < f->nodes[v].nout; k++) {
                    int w = f->ports[f->nodes[v].first + k].peer;
                    if (f->nodes[w].kind != MU_FABRIC_SWITCH || w == parent[v] || w == v)
                        continue;
                    if (state[w] != -2) {
                        if (parent[w] == v)
                            continue; /* a parallel cable */
                        return false;
                    }
                    parent[w] = state[w] = v;
                    order[tail++] = w;
                }
            }
        }
    *n = tail;
    return true;
}

static int from_forest(struct mu_place *p, const int *parent, const int *order, int n, const int *leaf,
                       struct mu_err *err)
{
    const struct mu_fabric *f = p->f;
    mu_auto_free int *number = calloc((size_t)f->nnodes + 1, sizeof(int));
    mu_auto_free int *depth = calloc((size_t)f->nnodes + 1, sizeof(int)), *start = calloc((size_t)n + 2, sizeof(int));

    p->parent = calloc((size_t)n + 1, sizeof(int));
    if (!number || !depth || !start || !p->parent)
        return no_memory(err);
    /* The deepest first, those of one depth in their order. */
    for (int i = 0; i < n; i++) {
        int v = order[i];
        depth[v] = parent[v] < 0 ? 0 : depth[parent[v]] + 1;
        start[n - 1 - depth[v] + 1]++;
    }
    for (int i = 0; i < n; i++)
        start[i + 1] += start[i];
    for (int i = 0; i < n; i++)
        number[order[i]] = start[n - 1 - depth[order[i]]]++;
    for (int i = 0; i < n; i++)
        p->parent[number[order[i]]] = parent[order[i]] < 0 ? -1 : number[parent[order[i]]];
    for (int h = 0; h < f->nhosts; h++)
        p->of_host[h] = leaf[h] < 0 ? -1 : number[leaf[h]];
    p->nv = n;
    p->tree = true;
    return finish(p, err);
}

/* --- levels of a fat tree --------------------------------------------------------------------------------------- */

static int find(int *up, int i)
{
    while (up[i] != i)
        i = up[i] = up[up[i]];
    return i;
}

struct search {
    const int *of_leaf, *leaf, *first; /* leaves of unit u: leaf[first[u]] to leaf[first[u + 1] - 1] */
    int *hops, *queue, tail;
};

/* all: whether a unit is reached on all its leaves at once. */
static void reach(struct search *s, int node, int hops, bool all)
{
    int unit = all ? s->of_leaf[node] : -1;

    if (s->hops[node] >= 0)
        return;
    if (unit < 0)
        s->hops[node] = hops, s->queue[s->tail++] = node;
    else
        for (int i = s->first[unit]; i < s->first[unit + 1]; i++)
            s->hops[s->leaf[i]] = hops, s->queue[s->tail++] = s->leaf[i];
}

static void search(const struct mu_fabric *f, struct search *s, int unit, bool all)
{
    s->tail = 0;
    memset(s->hops, -1, (size_t)f->nnodes * sizeof *s->hops);
    for (int i = s->first[unit]; i < s->first[unit + 1]; i++)
        reach(s, s->leaf[i], 0, all);
    for (int head = 0; head < s->tail; head++) {
        int v = s->queue[head];
        for (int k = 0; k < f->nodes[v].nout && s->hops[v] < MU_FAR - 1; k++) {
            int w = f->ports[f->nodes[v].first + k].peer;
            if (f->nodes[w].kind == MU_FABRIC_SWITCH)
                reach(s, w, s->hops[v] + 1, all);
        }
    }
}

/* Hops between units over switches, from all leaves of the one at once; and whether the way from one to another is
 * shorter anywhere over the leaves of a third. */
static int measure(struct mu_place *p, const struct mu_units *u, struct mu_err *err)
{
    const struct mu_fabric *f = p->f;
    size_t n = (size_t)u->n, nodes = (size_t)f->nnodes + 1;
    mu_auto_free int *queue = calloc(nodes, sizeof(int)), *hops = calloc(nodes, sizeof(int));
    mu_auto_free int *leaf = calloc(nodes, sizeof(int)), *first = calloc(n + 2, sizeof(int));
    struct search s = {u->of_leaf, leaf, first, hops, queue, 0};

    if (!(p->dist = malloc(n * n * sizeof *p->dist + 1)) || !queue || !hops || !leaf || !first)
        return no_memory(err);
    p->metric = true;
    for (int i = 0; i < f->nnodes; i++)
        if (u->of_leaf[i] >= 0 && first[u->of_leaf[i] + 2]++)
            p->metric = false; /* till it is seen */
    for (int a = 0; a < u->n; a++)
        first[a + 2] += first[a + 1];
    for (int i = 0; i < f->nnodes; i++)
        if (u->of_leaf[i] >= 0)
            leaf[first[u->of_leaf[i] + 1]++] = i;
    for (int a = 0; a < u->n; a++) {
        uint16_t *d = p->dist + (size_t)a * n;
        for (size_t b = 0; b < n; b++)
            d[b] = MU_FAR;
        search(f, &s, a, false);
        for (int i = 0; i < s.tail; i++)
            if (u->of_leaf[queue[i]] >= 0 && hops[queue[i]] < d[u->of_leaf[queue[i]]])
                d[u->of_leaf[queue[i]]] = (uint16_t)hops[queue[i]];
    }
    bool same = !p->metric;
    for (int a = 0; same && a < u->n; a++) {
        search(f, &s, a, true);
        for (int i = 0; i < s.tail; i++)
            if (u->of_leaf[queue[i]] >= 0 && hops[queue[i]] < p->dist[(size_t)a * n + (size_t)u->of_leaf[queue[i]]])
                same = false;
    }
    p->metric |= same;
    return 0;
}

/* Vertices 0..units-1 are the units; then the groups of each higher level. rank: of switches. at: the vertex of each
 * unit, itself; or -1, for those whose switch is one of the groups of its level: it is set to this group then. */
static int from_levels(struct mu_place *p, const struct mu_units *u, const int *rank, int *at, struct mu_err *err)
{
    const struct mu_fabric *f = p->f;
    int top = 1;
    mu_auto_free int *up = calloc((size_t)f->nnodes + 1, sizeof(int));
    mu_auto_free int *leaf = calloc((size_t)u->n + 1, sizeof(int)), *now = calloc((size_t)u->n + 1, sizeof(int));
    mu_auto_free int *seen = calloc((size_t)f->nnodes + 1, sizeof(int));

    for (int i = 0; i < f->nnodes; i++)
        if (rank[i] > top)
            top = rank[i];
    if (top > MAX_LEVELS)
        top = MAX_LEVELS;
    /* Also a level for leaves that are cabled to one another. */
    int levels = top < 2 ? 2 : top;
    p->parent = calloc((size_t)u->n * (size_t)levels + 1, sizeof(int));
    if (!up || !leaf || !now || !seen || !p->parent)
        return no_memory(err);
    for (int i = 0; i < f->nnodes; i++)
        up[i] = i;
    for (int i = 0; i < u->n; i++)
        leaf[i] = -1, now[i] = i, p->parent[i] = -1;
    for (int i = 0; i < f->nnodes; i++)
        if (u->of_leaf[i] >= 0) {
            int a = u->of_leaf[i];
            if (leaf[a] < 0)
                leaf[a] = i;
            up[find(up, i)] = find(up, leaf[a]);
        }
    p->nv = u->n;
    for (int level = 2; level <= levels; level++) {
        for (int i = 0; i < f->nnodes; i++) {
            const struct mu_fabric_node *s = &f->nodes[i];
            seen[i] = -1;
            if (!rank[i] || rank[i] > level)
                continue;
            for (int k = 0; k < s->nout; k++) {
                int t = f->ports[s->first + k].peer;
                if (rank[t] && rank[t] <= level)
                    up[find(up, i)] = find(up, t);
            }
        }
        for (int i = 0; i < u->n; i++) {
            int root = find(up, leaf[i]);
            if (at[i] != i)
                continue;
            if (seen[root] < 0) {
                seen[root] = p->nv;
                p->parent[p->nv++] = -1;
            }
            p->parent[now[i]] = seen[root];
            now[i] = seen[root];
        }
        for (int i = 0; i < u->n; i++)
            if (at[i] < 0 && rank[leaf[i]] == level)
                at[i] = seen[find(up, leaf[i])];
    }
    for (int h = 0; h < f->nhosts; h++)
        p->of_host[h] = u->of_host[h] < 0 ? -1 : at[u->of_host[h]];
    return finish(p, err);
}

static int tree_distance(const struct mu_place *p, int a, int b)
{
    int hops = 0;

    while (a != b) {
        if (p->depth[a] < p->depth[b]) {
            int t = a;
            a = b, b = t;
        }
        if ((a = p->parent[a]) < 0)
            return -1;
        hops++;
    }
    return hops;
}

/* at: the vertex of each unit; of a stray that of its group. far: whether a stray is farther from some unit than the
 * tree has it. What placement then finds on the tree is still a bound. */
static bool same_distances(const struct mu_place *p, const uint16_t *dist, int nunits, const int *at, bool *far)
{
    *far = false;
    for (int a = 0; a < nunits; a++)
        for (int b = 0; b < a; b++) {
            int d = dist[(size_t)a * (size_t)nunits + (size_t)b];
            if (at[a] < 0 || at[b] < 0)
                return false;
            int hops = tree_distance(p, at[a], at[b]);
            if (hops == (d == MU_FAR ? -1 : d))
                continue;
            if ((at[a] == a && at[b] == b) || hops < 0 || hops > d)
                return false;
            *far = true;
        }
    return true;
}

/* A few hosts on a switch above the leaves, as those that manage a fabric often are, make a leaf of it, and what was a
 * tree none. Marks the units of such hosts with -1 and ranks switches as if they were not there; how many they are. */
static int find_strays(const struct mu_fabric *f, const struct mu_units *u, int *rank, int *at, int *queue)
{
    int head = 0, tail = 0, strays = 0;

    for (int i = 0; i < u->n; i++)
        at[i] = -1;
    for (int i = 0; i < f->nnodes; i++) {
        const struct mu_fabric_node *n = &f->nodes[i];
        int hosts = 0, switches = 0;
        rank[i] = 0;
        for (int k = 0; u->of_leaf[i] >= 0 && k < n->nout; k++) {
            hosts += f->nodes[f->ports[n->first + k].peer].kind == MU_FABRIC_ADAPTER;
            switches += f->nodes[f->ports[n->first + k].peer].kind == MU_FABRIC_SWITCH;
        }
        if (u->of_leaf[i] >= 0 && 4 * hosts >= switches)
            at[u->of_leaf[i]] = u->of_leaf[i];
    }
    for (int i = 0; i < u->n; i++)
        strays += at[i] < 0;
    for (int i = 0; i < f->nnodes; i++)
        if (u->of_leaf[i] >= 0 && at[u->of_leaf[i]] >= 0)
            rank[i] = 1, queue[tail++] = i;
    while (head < tail) {
        int v = queue[head++];
        for (int k = 0; k < f->nodes[v].nout; k++) {
            int w = f->ports[f->nodes[v].first + k].peer;
            if (f->nodes[w].kind == MU_FABRIC_SWITCH && !rank[w])
                rank[w] = rank[v] + 1, queue[tail++] = w;
        }
    }
    return strays;
}

static void clean_place(struct mu_place **p)
{
    mu_place_free(*p);
}

/* The tree that there is but for strays, if it has all the distances; p stays as it is otherwise. */
static int without_strays(struct mu_place *p, const struct mu_units *u, struct mu_err *err)
{
    __attribute__((cleanup(clean_place))) struct mu_place *q = calloc(1, sizeof *q);
    size_t n = (size_t)p->f->nnodes + 1;
    mu_auto_free int *rank = calloc(n, sizeof(int)), *queue = calloc(n, sizeof(int)),
                     *at = calloc((size_t)u->n + 1, sizeof(int));
    int rc;

    if (!q || !rank || !queue || !at || !(q->of_host = calloc((size_t)p->f->nhosts + 1, sizeof(int))))
        return no_memory(err);
    q->f = p->f;
    int strays = find_strays(p->f, u, rank, at, queue);
    if (!strays || strays == u->n)
        return 0;
    if ((rc = from_levels(q, u, rank, at, err)))
        return rc;
    bool far;
    if (same_distances(q, p->dist, p->nunits, at, &far)) {
        if (far && !(q->stray_unit = calloc((size_t)p->f->nhosts + 1, sizeof(int))))
            return no_memory(err);
        for (int h = 0; far && h < p->f->nhosts; h++)
            q->stray_unit[h] = u->of_host[h] >= 0 && at[u->of_host[h]] != u->of_host[h] ? u->of_host[h] : -1;
        struct mu_place was = *p;
        *p = *q;
        p->tree = true;
        p->nunits = was.nunits;
        p->dist = MU_STEAL(was.dist, NULL);
        *q = was;
    }
    return 0;
}

/* --- both ------------------------------------------------------------------------------------------------------- */

static int build(struct mu_place *p, struct mu_err *err)
{
    const struct mu_fabric *f = p->f;
    size_t n = (size_t)f->nnodes + 1;
    struct mu_units u = {0};
    mu_auto_free int *parent = calloc(n, sizeof(int)), *order = calloc(n, sizeof(int)), *state = calloc(n, sizeof(int));
    mu_auto_free int *leaf = calloc((size_t)f->nhosts + 1, sizeof(int));
    int rc, nsw = 0;
    bool single = true, far;

    if (!parent || !order || !state || !leaf || !(p->of_host = calloc((size_t)f->nhosts + 1, sizeof(int))))
        return no_memory(err);
    for (int h = 0; h < f->nhosts; h++) { /* the one switch of each host, where it is one */
        const struct mu_fabric_host *host = &f->hosts[h];
        leaf[h] = -1;
        for (int i = 0; i < host->nnics; i++) {
            const struct mu_fabric_node *nic = &f->nodes[f->nics[host->first + i]];
            for (int k = 0; k < nic->nout; k++) {
                int sw = f->ports[nic->first + k].peer;
                if (f->nodes[sw].kind != MU_FABRIC_SWITCH)
                    continue;
                single &= leaf[h] < 0 || leaf[h] == sw;
                leaf[h] = sw;
            }
        }
    }
    if (single && forest(f, parent, order, &nsw, state))
        return from_forest(p, parent, order, nsw, leaf, err);

    if ((rc = mu_units_build(f, &u, err)))
        return rc;
    p->nunits = u.n;
    if (u.n > MAX_UNITS)
        rc = mu_err_set(err, MUSTER_ENOSYS, "%s: %d groups of hosts; up to %d can be placed on what is no plain tree",
                        f->source, u.n, MAX_UNITS);
    for (int i = 0; i < f->nnodes; i++)
        parent[i] = f->nodes[i].kind == MU_FABRIC_SWITCH ? f->nodes[i].rank : 0;
    mu_auto_free int *at = calloc((size_t)u.n + 1, sizeof(int));
    for (int i = 0; at && i < u.n; i++)
        at[i] = i;
    if (!rc && !at)
        rc = no_memory(err);
    if (!rc && !(rc = from_levels(p, &u, parent, at, err)) && !(rc = measure(p, &u, err)) &&
        !(p->tree = same_distances(p, p->dist, p->nunits, at, &far)))
        rc = without_strays(p, &u, err);
    mu_units_free(&u);
    return rc;
}

int mu_place_new(const struct mu_fabric *f, struct mu_place **out, struct mu_err *err)
{
    struct mu_place *p = calloc(1, sizeof *p);
    int rc;

    if (!p)
        return no_memory(err);
    p->f = f;
    if ((rc = build(p, err))) {
        mu_place_free(p);
        return rc;
    }
    *out = p;
    return 0;
}

void mu_place_free(struct mu_place *p)
{
    if (!p)
        return;
    free(p->parent);
    free(p->depth);
    free(p->child);
    free(p->first_child);
    free(p->of_host);
    free(p->host);
    free(p->first_host);
    free(p->dist);
    free(p->stray_unit);
    free(p);
}

bool mu_place_is_tree(const struct mu_place *p)
{
    return p->tree;
}

int mu_place_distance(const struct mu_place *p, int a, int b)
{
    int u = p->of_host[a], v = p->of_host[b];

    if (u < 0 || v < 0)
        return a == b ? 0 : -1;
    if (p->stray_unit && (p->stray_unit[a] >= 0 || p->stray_unit[b] >= 0)) {
        u = p->stray_unit[a] < 0 ? u : p->stray_unit[a];
        v = p->stray_unit[b] < 0 ? v : p->stray_unit[b];
    } else if (p->tree)
        return tree_distance(p, u, v);
    int d = p->dist[(size_t)u * (size_t)p->nunits + (size_t)v];
    return d == MU_FAR ? -1 : d;
}

const struct mu_fabric *mu_place_fabric(const struct mu_place *p)
{
    return p->f;
}

int mu_place_leaf(const struct mu_place *p, int host)
{
    return p->stray_unit && p->stray_unit[host] >= 0 ? p->nv + p->stray_unit[host] : p->of_host[host];
}

int mu_place_nleaves(const struct mu_place *p)
{
    return p->stray_unit ? p->nv + p->nunits : p->nv;
}

long mu_place_cost(const struct mu_place *p, const int *hosts, int n)
{
    long sum = 0;

    for (int i = 0; i < n; i++) {
        int d = mu_place_distance(p, hosts[i], hosts[(i + 1) % n]);
        if (d < 0)
            return -1;
        sum += d;
    }
    return sum;
}
