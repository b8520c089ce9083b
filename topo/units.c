#include "topo/units.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/base/clean.h"
#include "topo/fabric_impl.h"

struct pair {
    int a, b;
};

static int find(int *up, int i)
{
    while (up[i] != i)
        i = up[i] = up[up[i]];
    return i;
}

static int by_pair(const void *x, const void *y)
{
    const struct pair *p = x, *q = y;

    if (p->a != q->a)
        return p->a < q->a ? -1 : 1;
    return (p->b > q->b) - (p->b < q->b);
}

/* The leaves of a host, each once; at most max. */
static int leaves_of(const struct mu_fabric *f, int host, int *out, int max)
{
    const struct mu_fabric_host *h = &f->hosts[host];
    int n = 0;

    for (int i = 0; i < h->nnics; i++) {
        const struct mu_fabric_node *nic = &f->nodes[f->nics[h->first + i]];
        for (int k = 0; k < nic->nout && n < max; k++) {
            int sw = f->ports[nic->first + k].peer, seen = 0;
            if (f->nodes[sw].kind != MU_FABRIC_SWITCH)
                continue;
            for (int j = 0; j < n; j++)
                seen |= out[j] == sw;
            if (!seen)
                out[n++] = sw;
        }
    }
    return n;
}

enum { MAX_LEAVES = 64 };

static int join_leaves(const struct mu_fabric *f, int *up, int *degree, struct mu_err *err)
{
    mu_auto_free struct pair *pairs = NULL;
    size_t n = 0, cap = 0;
    int leaf[MAX_LEAVES];

    for (int h = 0; h < f->nhosts; h++) {
        int k = leaves_of(f, h, leaf, MAX_LEAVES);
        for (int i = 0; i < k; i++) {
            degree[leaf[i]]++;
            for (int j = 0; j < i; j++) {
                if (n == cap) {
                    struct pair *v = realloc(pairs, (cap = cap ? 2 * cap : 1024) * sizeof *v);
                    if (!v)
                        return mu_err_set(err, MUSTER_ENOMEM, "out of memory");
                    pairs = v;
                }
                pairs[n++] = leaf[i] < leaf[j] ? (struct pair){leaf[i], leaf[j]} : (struct pair){leaf[j], leaf[i]};
            }
        }
    }
    if (n)
        qsort(pairs, n, sizeof *pairs, by_pair);
    for (size_t i = 0, j; i < n; i = j) {
        for (j = i; j < n && !by_pair(&pairs[i], &pairs[j]); j++)
            ;
        int a = pairs[i].a, b = pairs[i].b, less = degree[a] < degree[b] ? degree[a] : degree[b];
        if (2 * (j - i) > (size_t)less)
            up[find(up, a)] = find(up, b);
    }
    return 0;
}

int mu_units_build(const struct mu_fabric *f, struct mu_units *out, struct mu_err *err)
{
    struct mu_units u = {0};
    size_t nodes = (size_t)f->nnodes + 1, hosts = (size_t)f->nhosts + 1;
    mu_auto_free int *up = calloc(nodes, sizeof *up), *degree = calloc(nodes, sizeof *degree);
    mu_auto_free int *number = calloc(nodes, sizeof *number);
    int leaf[MAX_LEAVES], rc = MUSTER_ENOMEM;

    u.of_host = calloc(hosts, sizeof(int));
    u.of_leaf = calloc(nodes, sizeof(int));
    u.rails = calloc(nodes, sizeof(int));
    u.hosts = calloc(nodes, sizeof(int));
    if (!up || !degree || !number || !u.of_host || !u.of_leaf || !u.rails || !u.hosts) {
        mu_err_set(err, rc, "out of memory");
        goto fail;
    }
    for (int i = 0; i < f->nnodes; i++)
        up[i] = i, number[i] = u.of_leaf[i] = -1;
    if ((rc = join_leaves(f, up, degree, err)))
        goto fail;
    for (int h = 0; h < f->nhosts; h++) {
        int k = leaves_of(f, h, leaf, MAX_LEAVES), best = -1, most = 0;
        for (int i = 0; i < k; i++) {
            int same = 0;
            for (int j = 0; j < k; j++)
                same += find(up, leaf[j]) == find(up, leaf[i]);
            if (same > most)
                most = same, best = find(up, leaf[i]);
        }
        if (best >= 0 && number[best] < 0)
            number[best] = u.n++;
        u.of_host[h] = best < 0 ? -1 : number[best];
        if (best >= 0)
            u.hosts[number[best]]++;
    }
    for (int i = 0; i < f->nnodes; i++) {
        int root = degree[i] ? find(up, i) : -1;
        /* A leaf all of whose hosts belong elsewhere is a unit without hosts. */
        if (root >= 0 && number[root] < 0)
            number[root] = u.n++;
        if (root >= 0)
            u.rails[u.of_leaf[i] = number[root]]++;
    }
    *out = u;
    return 0;
fail:
    mu_units_free(&u);
    return rc;
}

void mu_units_free(struct mu_units *u)
{
    free(u->of_host);
    free(u->of_leaf);
    free(u->rails);
    free(u->hosts);
    *u = (struct mu_units){0};
}
