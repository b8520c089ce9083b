#include "topo/audit.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/base/clean.h"
#include "topo/fabric_impl.h"

enum { MANY = 256 /* switches above one that are looked at */ };

/* Cables of one lower thing (a host, a switch) to one upper switch. */
struct edge {
    int low, up, count, port; /* port of the first of them, at the lower end */
};

struct level { /* who is compared: lower things with switches above them */
    int *group_of_up, *group_of_low, nlow;
    int *members; /* lower things of each group */
    struct edge *edges;
    size_t n, cap; /* by low */
    size_t *first; /* of each low */
};

struct audit {
    const struct mu_fabric *f;
    struct mu_audit *out;
    int *rank; /* of switches: as in the fabric, but a few stray hosts make no leaf */
    struct mu_err *err;
};

static int no_memory(struct mu_err *err)
{
    return mu_err_set(err, MUSTER_ENOMEM, "out of memory");
}

const char *mu_finding_name(enum mu_finding_kind k)
{
    static const char *const names[] = {"missing-rail", "dead-link", "miscabled", "one-sided"};

    return names[k];
}

static int found(struct audit *a, enum mu_finding_kind kind, const char *host, int port, int unit, const char *fmt, ...)
    MU_PRINTF(6, 7);
static int found(struct audit *a, enum mu_finding_kind kind, const char *host, int port, int unit, const char *fmt, ...)
{
    struct mu_audit *o = a->out;
    mu_auto_buf struct mu_buf text = {0};
    va_list ap;

    va_start(ap, fmt);
    mu_buf_appendv(&text, fmt, ap);
    va_end(ap);
    if (o->n == o->cap) {
        size_t cap = o->cap ? 2 * o->cap : 16;
        struct mu_finding *v = realloc(o->v, cap * sizeof *v);
        if (!v)
            return no_memory(a->err);
        o->v = v;
        o->cap = cap;
    }
    char *detail = mu_buf_take(&text);
    if (!detail)
        return no_memory(a->err);
    o->v[o->n++] = (struct mu_finding){kind, host, port, unit, detail};
    return 0;
}

static const char *name_of(const struct audit *a, int node)
{
    return a->f->nodes[node].name;
}

/* --- levels ----------------------------------------------------------------------------------------------------- */

static void level_free(struct level *l)
{
    free(l->group_of_up);
    free(l->group_of_low);
    free(l->members);
    free(l->edges);
    free(l->first);
}

static int add_edge(struct audit *a, struct level *l, int low, int up, int port)
{
    for (size_t i = l->n; i > 0 && l->edges[i - 1].low == low; i--)
        if (l->edges[i - 1].up == up) {
            l->edges[i - 1].count++;
            return 0;
        }
    if (l->n == l->cap) {
        size_t cap = l->cap ? 2 * l->cap : 256;
        struct edge *e = realloc(l->edges, cap * sizeof *e);
        if (!e)
            return no_memory(a->err);
        l->edges = e;
        l->cap = cap;
    }
    l->edges[l->n++] = (struct edge){low, up, 1, port};
    return 0;
}

static const struct edge *edge_to(const struct level *l, int low, int up)
{
    for (size_t i = l->first[low]; i < l->first[low + 1]; i++)
        if (l->edges[i].up == up)
            return &l->edges[i];
    return NULL;
}

/* What most members of the group have to `up`: how many cables, and on which port (0: no rule). -1: no rule. */
struct rule {
    int count, port, holds;
};

static int by_int(const void *x, const void *y)
{
    return (*(const int *)x > *(const int *)y) - (*(const int *)x < *(const int *)y);
}

/* The most frequent of v and how often it is there. */
static int mode(int *v, int n, int *times)
{
    int best = 0;

    *times = 0;
    if (n)
        qsort(v, (size_t)n, sizeof *v, by_int);
    for (int i = 0, j; i < n; i = j) {
        for (j = i; j < n && v[j] == v[i]; j++)
            ;
        if (j - i > *times)
            *times = j - i, best = v[i];
    }
    return best;
}

/* Where nearly all pairs of a group have the same number of cables, the group is a full mesh: that number; else -1. */
static int make_meshes(struct audit *a, const struct level *l, int ngroups, int *mesh)
{
    mu_auto_free int *ups = calloc((size_t)ngroups + 1, sizeof(int)), *at = calloc((size_t)ngroups + 1, sizeof(int));
    mu_auto_free int *start = calloc((size_t)ngroups + 2, sizeof(int)), *counts = calloc(l->n + 1, sizeof(int));

    if (!ups || !at || !start || !counts)
        return no_memory(a->err);
    for (int i = 0; i < a->f->nnodes; i++)
        if (l->group_of_up[i] >= 0)
            ups[l->group_of_up[i]]++;
    for (int pass = 0; pass < 2; pass++) {
        for (size_t i = 0; i < l->n; i++) {
            int g = l->group_of_up[l->edges[i].up];
            if (g < 0 || l->group_of_low[l->edges[i].low] != g)
                continue;
            if (pass)
                counts[start[g] + at[g]++] = l->edges[i].count;
            else
                start[g + 1]++;
        }
        for (int g = 0; !pass && g < ngroups; g++)
            start[g + 1] += start[g];
    }
    for (int g = 0; g < ngroups; g++) {
        int times, count = mode(counts + start[g], at[g], &times);
        mesh[g] = l->members[g] >= 3 && 4L * times >= 3L * l->members[g] * ups[g] ? count : -1;
    }
    return 0;
}

/* Rules for all upper switches, by node. The edges that count are those of members. */
static int make_rules(struct audit *a, const struct level *l, int ngroups, struct rule *rules)
{
    size_t nn = (size_t)a->f->nnodes + 1;
    mu_auto_free int *start = calloc(nn + 1, sizeof(int)), *at = calloc(nn, sizeof(int));
    mu_auto_free int *counts = calloc(l->n + 1, sizeof(int)), *ports = calloc(l->n + 1, sizeof(int));
    mu_auto_free int *mesh = calloc((size_t)ngroups + 1, sizeof(int));
    int rc;

    if (!start || !at || !counts || !ports || !mesh)
        return no_memory(a->err);
    if ((rc = make_meshes(a, l, ngroups, mesh)))
        return rc;
    for (size_t i = 0; i < l->n; i++)
        start[l->edges[i].up + 1]++;
    for (size_t i = 0; i + 1 < nn; i++)
        start[i + 1] += start[i];
    for (size_t i = 0; i < l->n; i++) {
        const struct edge *e = &l->edges[i];
        if (l->group_of_low[e->low] != l->group_of_up[e->up])
            continue;
        int k = start[e->up] + at[e->up]++;
        counts[k] = e->count;
        ports[k] = e->port;
    }
    for (int up = 0; up < a->f->nnodes; up++) {
        int times, same, group = l->group_of_up[up], members = group < 0 ? 0 : l->members[group];
        rules[up] = (struct rule){-1, 0, 0};
        if (members < 3)
            continue;
        int count = mode(counts + start[up], at[up], &times), port = mode(ports + start[up], at[up], &same);
        if (2 * times > members || (times && count == mesh[group]))
            rules[up] = (struct rule){count, 2 * same > at[up] ? port : 0, times};
    }
    return 0;
}

/* What one lower thing lacks, and what it has instead. */
struct differs {
    int lacks[MANY], nlacks;
    struct {
        int up, port;
    } extra[MANY];
    int nextra, has; /* has: cables that are as they should be */
    int should;
};

static void compare(const struct level *l, const struct rule *rules, int low, const int *ups, int nups,
                    struct differs *d)
{
    *d = (struct differs){.nlacks = 0};
    for (int i = 0; i < nups; i++) { /* the upper switches of its group */
        const struct edge *e = edge_to(l, low, ups[i]);
        int have = e ? e->count : 0, want = rules[ups[i]].count;
        if (want < 0)
            continue;
        d->should += want;
        d->has += have < want ? have : want;
        for (int k = have; k < want && d->nlacks < MANY; k++)
            d->lacks[d->nlacks++] = ups[i];
        for (int k = want; k < have && d->nextra < MANY; k++) {
            d->extra[d->nextra].up = ups[i];
            d->extra[d->nextra++].port = e->port;
        }
    }
    for (size_t i = l->first[low]; i < l->first[low + 1]; i++)
        if (l->group_of_up[l->edges[i].up] != l->group_of_low[low])
            for (int k = 0; k < l->edges[i].count && d->nextra < MANY; k++) {
                d->extra[d->nextra].up = l->edges[i].up;
                d->extra[d->nextra++].port = l->edges[i].port;
            }
}

/* Lists the upper switches of each group: ups[start[g]..start[g + 1]). */
static int list_ups(struct audit *a, const struct level *l, int ngroups, int **ups, int **start)
{
    *ups = calloc((size_t)a->f->nnodes + 1, sizeof(int));
    *start = calloc((size_t)ngroups + 2, sizeof(int));
    if (!*ups || !*start)
        return no_memory(a->err);
    for (int i = 0; i < a->f->nnodes; i++)
        if (l->group_of_up[i] >= 0)
            (*start)[l->group_of_up[i] + 1]++;
    for (int g = 0; g < ngroups; g++)
        (*start)[g + 1] += (*start)[g];
    mu_auto_free int *at = calloc((size_t)ngroups + 1, sizeof(int));
    if (!at)
        return no_memory(a->err);
    for (int i = 0; i < a->f->nnodes; i++)
        if (l->group_of_up[i] >= 0)
            (*ups)[(*start)[l->group_of_up[i]] + at[l->group_of_up[i]]++] = i;
    return 0;
}

static int index_edges(struct audit *a, struct level *l)
{
    if (!(l->first = calloc((size_t)l->nlow + 2, sizeof *l->first)))
        return no_memory(a->err);
    for (size_t i = 0; i < l->n; i++)
        l->first[l->edges[i].low + 1]++;
    for (int i = 0; i < l->nlow; i++)
        l->first[i + 1] += l->first[i];
    return 0;
}

/* --- hosts and leaves ------------------------------------------------------------------------------------------- */

static const char *device(const char *name)
{
    const char *last = strrchr(name, ' ');

    return last ? last + 1 : name;
}

/* The adapter of the host that has a cable to this switch; the one that is not where its like are, if there are two. */
static const char *device_on(const struct audit *a, int host, int sw, int port)
{
    const struct mu_fabric_host *h = &a->f->hosts[host];

    for (int i = 0; i < h->nnics; i++) {
        const struct mu_fabric_node *nic = &a->f->nodes[a->f->nics[h->first + i]];
        for (int k = 0; k < nic->nout; k++)
            if (a->f->ports[nic->first + k].peer == sw && a->f->ports[nic->first + k].port == port)
                return device(nic->name);
    }
    return "an adapter";
}

static int report_host(struct audit *a, const struct level *l, const struct rule *rules, int host, struct differs *d)
{
    const char *name = a->f->hosts[host].name;
    int rc = 0, unit = l->group_of_low[host], i = 0;

    if (2 * d->has < d->should && 2 * (d->has + d->nextra) < d->should)
        return 0; /* another kind of host */
    for (; !rc && i < d->nlacks && i < d->nextra; i++)
        rc = found(a, MU_MISCABLED, name, d->extra[i].port, unit,
                   "%s is on %s; %d hosts of its unit are on %s, it is not",
                   device_on(a, host, d->extra[i].up, d->extra[i].port), name_of(a, d->extra[i].up),
                   rules[d->lacks[i]].holds, name_of(a, d->lacks[i]));
    for (; !rc && i < d->nlacks; i++)
        rc = found(a, MU_MISSING_RAIL, name, 0, unit, "no cable to %s; %d hosts of its unit have one",
                   name_of(a, d->lacks[i]), rules[d->lacks[i]].holds);
    return rc;
}

struct seat { /* an adapter of that name, in that unit, is on that leaf */
    int unit, host, leaf, port;
    const char *device;
};

static int by_seat(const void *x, const void *y)
{
    const struct seat *p = x, *q = y;
    int c = p->unit != q->unit ? p->unit - q->unit : strcmp(p->device, q->device);

    return c ? c : p->leaf != q->leaf ? p->leaf - q->leaf : p->host - q->host;
}

static int by_seat_host(const void *x, const void *y)
{
    const struct seat *p = x, *q = y;

    return p->host != q->host ? p->host - q->host : strcmp(p->device, q->device);
}

/* Two cables of one host swapped: seen only by the names of its adapters. A host whose adapters are numbered otherwise
 * has more of them out of place. */
static int swapped_in_host(struct audit *a, const int *clean)
{
    const struct mu_fabric *f = a->f;
    const struct mu_units *u = &a->out->units;
    mu_auto_free struct seat *v = calloc((size_t)f->nports + 1, sizeof *v);
    size_t n = 0, bad = 0;

    if (!v)
        return no_memory(a->err);
    for (int h = 0; h < f->nhosts; h++) {
        const struct mu_fabric_host *host = &f->hosts[h];
        if (!clean[h] || host->nnics < 2)
            continue;
        for (int i = 0; i < host->nnics; i++) {
            const struct mu_fabric_node *nic = &f->nodes[f->nics[host->first + i]];
            for (int k = 0; nic->nout == 1 && k < nic->nout; k++)
                v[n++] = (struct seat){u->of_host[h], h, f->ports[nic->first].peer, f->ports[nic->first].port,
                                       device(nic->name)};
        }
    }
    if (n)
        qsort(v, n, sizeof *v, by_seat);
    for (size_t i = 0, j; i < n; i = j) {
        size_t most = 0, best = i, runs;
        for (j = i; j < n && v[j].unit == v[i].unit && !strcmp(v[j].device, v[i].device); j = runs) {
            for (runs = j; runs < n && v[runs].unit == v[i].unit && !strcmp(v[runs].device, v[i].device) &&
                           v[runs].leaf == v[j].leaf;
                 runs++)
                ;
            if (runs - j > most)
                most = runs - j, best = j;
        }
        if (j - i < 3 || 2 * most <= j - i)
            continue;
        int leaf = v[best].leaf;
        for (size_t k = i; k < j; k++)
            if (v[k].leaf != leaf) {
                struct seat s = v[k];
                s.unit = leaf; /* where it should be */
                v[bad++] = s;  /* bad <= k: these have been looked at */
            }
    }
    if (bad)
        qsort(v, bad, sizeof *v, by_seat_host);
    for (size_t i = 0, j; i < bad; i = j) {
        for (j = i; j < bad && v[j].host == v[i].host; j++)
            ;
        if (j - i != 2 && 2 * (j - i) >= (size_t)f->hosts[v[i].host].nnics)
            continue;
        for (size_t k = i; k < j; k++) {
            int rc = found(a, MU_MISCABLED, f->hosts[v[k].host].name, v[k].port, u->of_host[v[k].host],
                           "%s is on %s; in other hosts of its unit it is on %s", v[k].device, name_of(a, v[k].leaf),
                           name_of(a, v[k].unit));
            if (rc)
                return rc;
        }
    }
    return 0;
}

static int whole_units(struct audit *a)
{
    const struct mu_units *u = &a->out->units;
    mu_auto_free int *v = calloc((size_t)u->n + 1, sizeof(int));
    int n = 0, times, rc = 0;

    if (!v)
        return no_memory(a->err);
    for (int i = 0; i < u->n; i++)
        if (u->hosts[i] > 1)
            v[n++] = u->rails[i];
    int rails = mode(v, n, &times);
    if (times < 3 || 2 * times <= n)
        return 0;
    for (int i = 0; !rc && i < u->n; i++) {
        if (u->hosts[i] < 2 || u->rails[i] >= rails || 2 * u->rails[i] < rails)
            continue;
        int first = 0;
        while (u->of_host[first] != i)
            first++;
        rc = found(a, MU_MISSING_RAIL, NULL, 0, i, "the unit of %s and %d more has %d rails; %d units have %d",
                   a->f->hosts[first].name, u->hosts[i] - 1, u->rails[i], times, rails);
    }
    return rc;
}

static int audit_hosts(struct audit *a)
{
    const struct mu_fabric *f = a->f;
    const struct mu_units *u = &a->out->units;
    struct level l = {.group_of_up = u->of_leaf, .group_of_low = u->of_host, .nlow = f->nhosts, .members = u->hosts};
    mu_auto_free struct rule *rules = calloc((size_t)f->nnodes + 1, sizeof *rules);
    mu_auto_free struct differs *d = calloc(1, sizeof *d);
    mu_auto_free int *ups = NULL, *start = NULL, *clean = calloc((size_t)f->nhosts + 1, sizeof(int));
    int rc = rules && d && clean ? 0 : no_memory(a->err);

    for (int h = 0; !rc && h < f->nhosts; h++)
        for (int i = 0; i < f->hosts[h].nnics; i++) {
            const struct mu_fabric_node *nic = &f->nodes[f->nics[f->hosts[h].first + i]];
            for (int k = 0; !rc && k < nic->nout; k++)
                if (f->nodes[f->ports[nic->first + k].peer].kind == MU_FABRIC_SWITCH)
                    rc = add_edge(a, &l, h, f->ports[nic->first + k].peer, f->ports[nic->first + k].port);
        }
    if (!rc && !(rc = index_edges(a, &l)) && !(rc = make_rules(a, &l, u->n, rules)))
        rc = list_ups(a, &l, u->n, &ups, &start);
    for (int h = 0; !rc && h < f->nhosts; h++) {
        int unit = u->of_host[h];
        if (unit < 0 || u->rails[unit] < 2)
            continue;
        compare(&l, rules, h, ups + start[unit], start[unit + 1] - start[unit], d);
        clean[h] = !d->nlacks && !d->nextra;
        rc = report_host(a, &l, rules, h, d);
    }
    free(l.edges);
    free(l.first);
    return rc ? rc : (rc = swapped_in_host(a, clean)) ? rc : whole_units(a);
}

/* --- switches --------------------------------------------------------------------------------------------------- */

static int rank_switches(struct audit *a)
{
    const struct mu_fabric *f = a->f;
    mu_auto_free int *queue = calloc((size_t)f->nnodes + 1, sizeof(int));
    int head = 0, tail = 0;

    if (!queue)
        return no_memory(a->err);
    for (int i = 0; i < f->nnodes; i++) {
        const struct mu_fabric_node *n = &f->nodes[i];
        int hosts = 0, switches = 0;
        if (n->kind != MU_FABRIC_SWITCH)
            continue;
        for (int k = 0; k < n->nout; k++) {
            hosts += f->nodes[f->ports[n->first + k].peer].kind == MU_FABRIC_ADAPTER;
            switches += f->nodes[f->ports[n->first + k].peer].kind == MU_FABRIC_SWITCH;
        }
        if (hosts && 4 * hosts >= switches)
            a->rank[i] = 1, queue[tail++] = i;
    }
    while (head < tail) {
        int v = queue[head++];
        for (int k = 0; k < f->nodes[v].nout; k++) {
            int w = f->ports[f->nodes[v].first + k].peer;
            if (f->nodes[w].kind == MU_FABRIC_SWITCH && !a->rank[w])
                a->rank[w] = a->rank[v] + 1, queue[tail++] = w;
        }
    }
    return 0;
}

static int find(int *up, int i)
{
    while (up[i] != i)
        i = up[i] = up[up[i]];
    return i;
}

struct pair {
    int a, b;
};

static int by_pair(const void *x, const void *y)
{
    const struct pair *p = x, *q = y;

    return p->a != q->a ? (p->a < q->a ? -1 : 1) : (p->b > q->b) - (p->b < q->b);
}

/* Switches of rank + 1 that have most of their lower switches in common are a group; a lower switch belongs to the one
 * that most of its cables go to. */
static int group_switches(struct audit *a, struct level *l, int rank, int *ngroups)
{
    const struct mu_fabric *f = a->f;
    size_t nn = (size_t)f->nnodes + 1, n = 0, cap = 0;
    mu_auto_free struct pair *pairs = NULL;
    mu_auto_free int *root = calloc(nn, sizeof(int)), *degree = calloc(nn, sizeof(int)),
                     *votes = calloc(nn, sizeof(int));

    if (!root || !degree || !votes)
        return no_memory(a->err);
    for (int i = 0; i < f->nnodes; i++)
        root[i] = i;
    for (int s = 0; s < f->nnodes; s++)
        for (size_t i = l->first[s]; i < l->first[s + 1]; i++) {
            if (a->rank[l->edges[i].up] != rank + 1)
                continue;
            degree[l->edges[i].up]++;
            for (size_t j = l->first[s]; j < i && j < l->first[s] + MANY; j++) {
                if (a->rank[l->edges[j].up] != rank + 1)
                    continue;
                if (n == cap) {
                    struct pair *v = realloc(pairs, (cap = cap ? 2 * cap : 1024) * sizeof *v);
                    if (!v)
                        return no_memory(a->err);
                    pairs = v;
                }
                int x = l->edges[i].up, y = l->edges[j].up;
                pairs[n++] = x < y ? (struct pair){x, y} : (struct pair){y, x};
            }
        }
    if (n)
        qsort(pairs, n, sizeof *pairs, by_pair);
    for (size_t i = 0, j; i < n; i = j) {
        for (j = i; j < n && !by_pair(&pairs[i], &pairs[j]); j++)
            ;
        int x = pairs[i].a, y = pairs[i].b, less = degree[x] < degree[y] ? degree[x] : degree[y];
        if (2 * (j - i) > (size_t)less)
            root[find(root, x)] = find(root, y);
    }
    *ngroups = 0;
    for (int i = 0; i < f->nnodes; i++)
        if (degree[i] && find(root, i) == i)
            l->group_of_up[i] = (*ngroups)++;
    for (int i = 0; i < f->nnodes; i++)
        if (degree[i])
            l->group_of_up[i] = l->group_of_up[find(root, i)];
    if (!(l->members = calloc((size_t)*ngroups + 1, sizeof(int))))
        return no_memory(a->err);
    for (int s = 0; s < f->nnodes; s++) {
        int best = -1;
        for (size_t i = l->first[s]; i < l->first[s + 1]; i++) {
            int g = l->group_of_up[l->edges[i].up];
            if (g < 0)
                continue;
            votes[g] += l->edges[i].count;
            if (best < 0 || votes[g] > votes[best])
                best = g;
        }
        for (size_t i = l->first[s]; i < l->first[s + 1]; i++)
            if (l->group_of_up[l->edges[i].up] >= 0)
                votes[l->group_of_up[l->edges[i].up]] = 0;
        l->group_of_low[s] = best;
        if (best >= 0)
            l->members[best]++;
    }
    return 0;
}

static bool lacks_half(const struct differs *d)
{
    return d->nlacks > 2 && d->nlacks > d->nextra && 2 * d->has <= d->should;
}

/* Cables from a switch of the level downwards. */
static int load_of(const struct audit *a, int s)
{
    const struct mu_fabric_node *n = &a->f->nodes[s];
    int down = 0;

    for (int k = 0; k < n->nout; k++) {
        int peer = a->f->ports[n->first + k].peer;
        down +=
            a->rank[s] == 1 ? a->f->nodes[peer].kind == MU_FABRIC_ADAPTER : a->rank[peer] && a->rank[peer] < a->rank[s];
    }
    return down;
}

struct shape { /* of a switch of the level */
    int group, load, nlacks, should;
    uint64_t lacks; /* the same for those that lack the same */
    bool half, kind;
};

/* Whether what lacks half of the uplinks is meant to be so. It is not, it is half dead, when it carries what a quarter
 * of the others do, give or take one, or when it has lost at most two thirds as much below as above: hosts that are
 * down are nothing unusual. Several that carry as little and lack the same are a kind. */
static bool other_kind(const struct shape *v, int n, const struct shape *s)
{
    int peers = 0, exact = 0, near = 0, more = 0, bears = 0, twins = -1;

    for (int i = 0; i < n; i++) {
        if (v[i].group != s->group)
            continue;
        if (v[i].half) {
            twins += v[i].load == s->load && v[i].nlacks == s->nlacks && v[i].lacks == s->lacks;
            continue;
        }
        peers++;
        exact += v[i].load == s->load;
        near += abs(v[i].load - s->load) <= 1;
        more += v[i].load + 1 >= s->load;
        bears += (long)v[i].load * (3 * s->should - 2 * s->nlacks) <= 3L * s->should * s->load;
    }
    if (4 * exact >= peers)
        return false;
    if (4 * near >= peers)
        return twins > 1;
    return twins > 0 || 4 * more < peers || 2 * bears < peers;
}

static int shape_switches(struct audit *a, const struct level *l, const struct rule *rules, int rank, int ngroups,
                          const int *ups, const int *start, struct differs *d, struct shape *v)
{
    mu_auto_free int *half = calloc((size_t)ngroups + 1, sizeof(int));
    int n = a->f->nnodes;

    if (!half)
        return no_memory(a->err);
    for (int s = 0; s < n; s++) {
        int g = v[s].group = a->rank[s] == rank ? l->group_of_low[s] : -1;
        if (g < 0)
            continue;
        compare(l, rules, s, ups + start[g], start[g + 1] - start[g], d);
        v[s] = (struct shape){g, load_of(a, s), d->nlacks, d->should, 0, lacks_half(d), false};
        for (int i = 0; i < d->nlacks; i++)
            v[s].lacks = (v[s].lacks ^ (uint64_t)d->lacks[i]) * 0x100000001b3u;
    }
    for (int s = 0; s < n; s++)
        if (v[s].group >= 0 && v[s].half && !(v[s].kind = other_kind(v, n, &v[s])))
            half[v[s].group]++;
    for (int s = 0; s < n; s++) /* more than a few, and not one alone: these are meant to be so */
        v[s].kind |= v[s].half && half[v[s].group] > 1 && 4 * half[v[s].group] > l->members[v[s].group];
    return 0;
}

static int report_switch(struct audit *a, const struct level *l, const struct rule *rules, int s, struct differs *d)
{
    int rc = 0, i = 0, members = l->members[l->group_of_low[s]];

    for (; !rc && i < d->nlacks && i < d->nextra; i++)
        rc = found(a, MU_MISCABLED, name_of(a, s), d->extra[i].port, -1,
                   "is cabled to %s; %d of %d switches like it are cabled to %s there, it is not",
                   name_of(a, d->extra[i].up), rules[d->lacks[i]].holds, members, name_of(a, d->lacks[i]));
    for (; !rc && i < d->nlacks; i++)
        rc = found(a, MU_DEAD_LINK, name_of(a, s), rules[d->lacks[i]].port, -1,
                   "lacks a cable to %s; %d of %d switches like it have %d", name_of(a, d->lacks[i]),
                   rules[d->lacks[i]].holds, members, rules[d->lacks[i]].count);
    return rc;
}

static int audit_rank(struct audit *a, int rank)
{
    const struct mu_fabric *f = a->f;
    size_t nn = (size_t)f->nnodes + 1;
    struct level l = {.nlow = f->nnodes};
    mu_auto_free struct rule *rules = calloc(nn, sizeof *rules);
    mu_auto_free struct differs *d = calloc(1, sizeof *d);
    mu_auto_free int *ups = NULL, *start = NULL;
    mu_auto_free struct shape *shapes = calloc(nn, sizeof *shapes);
    int rc = 0, ngroups = 0;

    l.group_of_up = malloc(nn * sizeof(int));
    l.group_of_low = malloc(nn * sizeof(int));
    if (!rules || !d || !shapes || !l.group_of_up || !l.group_of_low)
        rc = no_memory(a->err);
    for (int s = 0; !rc && s < f->nnodes; s++) {
        const struct mu_fabric_node *n = &f->nodes[s];
        l.group_of_up[s] = l.group_of_low[s] = -1;
        /* Also cables to switches of the same rank or far above: they may be what stands in for a missing one. */
        for (int k = 0; a->rank[s] == rank && !rc && k < n->nout; k++)
            if (a->rank[f->ports[n->first + k].peer] >= rank)
                rc = add_edge(a, &l, s, f->ports[n->first + k].peer, f->ports[n->first + k].port);
    }
    if (!rc && !(rc = index_edges(a, &l)) && !(rc = group_switches(a, &l, rank, &ngroups)) &&
        !(rc = make_rules(a, &l, ngroups, rules)) && !(rc = list_ups(a, &l, ngroups, &ups, &start)))
        rc = shape_switches(a, &l, rules, rank, ngroups, ups, start, d, shapes);
    for (int s = 0; !rc && s < f->nnodes; s++) {
        int g = a->rank[s] == rank ? l.group_of_low[s] : -1;
        if (g < 0 || shapes[s].kind)
            continue;
        compare(&l, rules, s, ups + start[g], start[g + 1] - start[g], d);
        rc = report_switch(a, &l, rules, s, d);
    }
    level_free(&l);
    return rc;
}

static int one_sided(struct audit *a)
{
    const struct mu_fabric *f = a->f;
    int rc = 0;

    for (int i = 0; !rc && i < f->nnodes; i++)
        for (int k = 0; !rc && k < f->nodes[i].nout; k++) {
            const struct mu_fabric_port *p = &f->ports[f->nodes[i].first + k];
            if (p->one_sided && (i < p->peer || (i == p->peer && p->port < p->peer_port)))
                rc = found(a, MU_ONE_SIDED, f->nodes[i].host >= 0 ? f->hosts[f->nodes[i].host].name : name_of(a, i),
                           p->port, -1, "only one end of the cable to port %d of %s knows of it", p->peer_port,
                           name_of(a, p->peer));
        }
    return rc;
}

int mu_audit_run(const struct mu_fabric *f, struct mu_audit *out, struct mu_err *err)
{
    struct mu_audit result = {0};
    struct audit a = {f, &result, calloc((size_t)f->nnodes + 1, sizeof(int)), err};
    int top = 0, rc;

    if (f->tree)
        rc = mu_err_set(err, MUSTER_EARG,
                        "%s: a topology.conf has no cables to look at; give what ibnetdiscover prints", f->source);
    else
        rc = a.rank ? 0 : no_memory(err);
    if (!rc && !(rc = mu_units_build(f, &result.units, err)) && !(rc = audit_hosts(&a)))
        rc = rank_switches(&a);
    for (int i = 0; !rc && i < f->nnodes; i++)
        if (a.rank[i] > top)
            top = a.rank[i];
    for (int rank = 1; !rc && rank < top && rank < 32; rank++)
        rc = audit_rank(&a, rank);
    if (!rc)
        rc = one_sided(&a);
    free(a.rank);
    if (rc) {
        mu_audit_free(&result);
        return rc;
    }
    *out = result;
    return 0;
}

void mu_audit_free(struct mu_audit *a)
{
    for (size_t i = 0; i < a->n; i++)
        free(a->v[i].detail);
    free(a->v);
    mu_units_free(&a->units);
    *a = (struct mu_audit){0};
}
