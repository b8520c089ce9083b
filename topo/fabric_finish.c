/* From what the files say to the model: cables from both ends, hosts, ranks of switches, subnets. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/clean.h"
#include "runtime/base/str.h"
#include "topo/fabric_impl.h"

static int no_memory(struct mu_err *err)
{
    return mu_err_set(err, MUSTER_ENOMEM, "out of memory");
}

/* --- cables ----------------------------------------------------------------------------------------------------- */

static int by_port(const void *a, const void *b)
{
    const struct mu_half *x = a, *y = b;

    if (x->node != y->node)
        return x->node < y->node ? -1 : 1;
    if (x->port != y->port)
        return x->port < y->port ? -1 : 1;
    return (x->line > y->line) - (x->line < y->line);
}

/* Where `want` is among the first n, which are in order, or would be. */
static size_t place_of(const struct mu_fabric *f, size_t n, const struct mu_half *want)
{
    size_t lo = 0, hi = n;

    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (by_port(&f->halves[mid], want) < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

static int check_halves(const struct mu_fabric *f, struct mu_err *err)
{
    mu_auto_free int *own = calloc((size_t)f->nnodes + 1, sizeof *own);
    char a[80], b[80];

    if (!own)
        return no_memory(err);
    for (int i = 0; i < f->nnodes; i++)
        if (!f->line[i])
            return mu_err_set(err, MUSTER_EARG, "%s: is truncated (%s is at the end of a cable, but not described)",
                              f->origin, mu_str_show(a, sizeof a, f->nodes[i].id));
    for (size_t i = 0; i < f->nhalves; i++) {
        const struct mu_half *h = &f->halves[i], *p = h - 1;
        own[h->node]++;
        if (i && p->node == h->node && p->port == h->port)
            return mu_err_set(err, MUSTER_EARG, "%s:%d: port %d of %s is there twice, first on line %d", f->origin,
                              h->line, h->port, mu_str_show(a, sizeof a, f->nodes[h->node].id), p->line);
        if (h->node == h->peer && h->port == h->peer_port)
            return mu_err_set(err, MUSTER_EARG, "%s:%d: port %d of %s is cabled to itself", f->origin, h->line, h->port,
                              mu_str_show(a, sizeof a, f->nodes[h->node].id));
    }
    if (f->tree)
        return 0;
    for (size_t i = 0; i < f->nhalves; i++) {
        const struct mu_half *h = &f->halves[i];
        struct mu_half want = {h->peer, h->peer_port, h->node, h->port, 0}, *r;
        if (!own[h->peer])
            return mu_err_set(err, MUSTER_EARG, "%s: is truncated (%s has no cable, but %s has one to it)", f->origin,
                              mu_str_show(a, sizeof a, f->nodes[h->peer].id),
                              mu_str_show(b, sizeof b, f->nodes[h->node].id));
        /* Whatever its line, it is next to `want` in the order. */
        size_t lo = place_of(f, f->nhalves, &want);
        r = lo < f->nhalves ? &f->halves[lo] : NULL;
        if (r && r->node == want.node && r->port == want.port && (r->peer != h->node || r->peer_port != h->port))
            return mu_err_set(err, MUSTER_EARG, "%s:%d: port %d of %s is cabled to port %d of %s, which line %d denies",
                              f->origin, h->line, h->port, mu_str_show(a, sizeof a, f->nodes[h->node].id), h->peer_port,
                              mu_str_show(b, sizeof b, f->nodes[h->peer].id), r->line);
    }
    return 0;
}

/* The ends that the file does not have are added. */
static int mirror(struct mu_fabric *f, struct mu_err *err)
{
    size_t n = f->nhalves;

    for (size_t i = 0; i < n; i++) {
        struct mu_half h = f->halves[i], want = {h.peer, h.peer_port, h.node, h.port, 0};
        size_t lo = place_of(f, n, &want);
        if (lo < n && f->halves[lo].node == want.node && f->halves[lo].port == want.port)
            continue;
        int rc = mu_fabric_cable(f, h.peer, h.peer_port, h.node, h.port, 0, err);
        if (rc)
            return rc;
    }
    if (f->nhalves)
        qsort(f->halves, f->nhalves, sizeof *f->halves, by_port);
    for (size_t i = 1; i < f->nhalves; i++) {
        const struct mu_half *h = &f->halves[i], *p = h - 1;
        if (h->node == p->node && h->port == p->port) {
            char a[80];
            return mu_err_set(err, MUSTER_EARG, "%s: two cables are said to be on port %d of %s", f->origin, h->port,
                              mu_str_show(a, sizeof a, f->nodes[h->node].id));
        }
    }
    return 0;
}

static int build_ports(struct mu_fabric *f, struct mu_err *err)
{
    int rc;

    if (f->nhalves)
        qsort(f->halves, f->nhalves, sizeof *f->halves, by_port);
    if ((rc = check_halves(f, err)) || (rc = mirror(f, err)))
        return rc;
    if (!(f->ports = calloc(f->nhalves + 1, sizeof *f->ports)))
        return no_memory(err);
    for (size_t i = 0; i < f->nhalves; i++) {
        const struct mu_half *h = &f->halves[i];
        struct mu_fabric_node *n = &f->nodes[h->node];
        if (!n->nout++)
            n->first = (int)i;
        f->ports[i] = (struct mu_fabric_port){h->port, h->peer, h->peer_port, !h->line};
    }
    if (!f->tree) /* an end that was added, seen from the other */
        for (size_t i = 0; i < f->nhalves; i++)
            if (!f->halves[i].line) {
                const struct mu_half *h = &f->halves[i], want = {h->peer, h->peer_port, h->node, h->port, 0};
                f->ports[place_of(f, f->nhalves, &want)].one_sided = 1;
            }
    f->nports = (int)f->nhalves;
    free(f->halves);
    f->halves = NULL;
    f->nhalves = f->caphalves = 0;
    return 0;
}

/* --- hosts ------------------------------------------------------------------------------------------------------ */

/* Names of devices, and what adapters are called when nobody has told them their host. */
static bool is_device(const char *s, size_t n)
{
    static const char *const prefixes[] = {"mlx4_", "mlx5_", "mlx5-", "HCA-", "hfi1_", "qib", "ibp", "bnxt_re", "roce"};
    static const char *const vendors[] = {"Mellanox", "ConnectX", "NVIDIA", "InfiniHost", "Intel", "QLogic"};

    for (size_t i = 0; i < MU_COUNT(prefixes); i++) {
        size_t k = strlen(prefixes[i]);
        if (n > k && !strncasecmp(s, prefixes[i], k) && isdigit((unsigned char)s[n - 1]))
            return true;
    }
    for (size_t i = 0; i < MU_COUNT(vendors); i++)
        if (n >= strlen(vendors[i]) && !strncasecmp(s, vendors[i], strlen(vendors[i])))
            return true;
    /* "MT4123", "MT25408" */
    if (n < 5 || strncmp(s, "MT", 2))
        return false;
    for (size_t i = 2; i < n; i++)
        if (!isdigit((unsigned char)s[i]))
            return false;
    return true;
}

static const char *host_in_map(const struct mu_guids *g, uint64_t guid)
{
    size_t lo = 0, hi = g ? g->n : 0;

    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (g->v[mid].guid < guid)
            lo = mid + 1;
        else
            hi = mid;
    }
    return guid && g && lo < g->n && g->v[lo].guid == guid ? g->v[lo].host : NULL;
}

/* Length of the host's name at the begin of the description; 0: there is none. */
static size_t host_in_text(const char *text)
{
    size_t n = strcspn(text, " \t/");

    if (n && text[0] == '(')
        return 0; /* "(none)" */
    /* What hosts are called whose driver was loaded before they had a name: localhost, localhost6.localdomain6. */
    if (n >= 9 && !strncasecmp(text, "localhost", 9)) {
        size_t k = 9 + (n > 9 && (text[9] == '4' || text[9] == '6'));
        if (n == k || text[k] == '.')
            return 0;
    }
    return is_device(text, n) ? 0 : n;
}

static const char *device_of(const struct mu_fabric_node *n)
{
    const char *last = strrchr(n->name, ' ');

    return last ? last + 1 : n->name;
}

/* mlx5_2 comes before mlx5_10. */
static int by_device(const void *p, const void *q, void *nodes)
{
    const struct mu_fabric_node *a = (struct mu_fabric_node *)nodes + *(const int *)p,
                                *b = (struct mu_fabric_node *)nodes + *(const int *)q;
    const char *x = device_of(a), *y = device_of(b);
    size_t n = strlen(x), m = strlen(y);

    if (n != m)
        return n < m ? -1 : 1;
    int c = strcmp(x, y);
    if (c)
        return c;
    return a->guid != b->guid ? (a->guid < b->guid ? -1 : 1) : strcmp(a->id, b->id);
}

static int host_index(struct mu_fabric *f, const char *name, size_t len, struct mu_err *err)
{
    int h = mu_names_get(&f->names, name, len);

    if (h >= 0)
        return h;
    char *copy = strndup(name, len);
    if (!copy)
        return no_memory(err);
    f->hosts[f->nhosts] = (struct mu_fabric_host){.name = copy};
    if (mu_names_put(&f->names, copy, f->nhosts++))
        return no_memory(err);
    return f->nhosts - 1;
}

static int build_hosts(struct mu_fabric *f, const struct mu_guids *guids, struct mu_err *err)
{
    f->hosts = calloc((size_t)f->nnodes + 1, sizeof *f->hosts);
    f->nics = calloc((size_t)f->nnodes + 1, sizeof *f->nics);
    if (!f->hosts || !f->nics)
        return no_memory(err);
    for (int i = 0; i < f->nnodes; i++) {
        struct mu_fabric_node *n = &f->nodes[i];
        if (n->kind == MU_FABRIC_ADAPTER && strstr(n->name, "Aggregation Node"))
            n->kind = MU_FABRIC_OTHER;
        if (n->kind != MU_FABRIC_ADAPTER)
            continue;
        const char *name = f->tree ? n->name : host_in_map(guids, n->guid);
        size_t len = name ? strlen(name) : host_in_text(n->name);
        f->listed += !f->tree && name;
        if (!name)
            name = len ? n->name : n->id;
        if ((n->host = host_index(f, name, len ? len : strlen(name), err)) < 0)
            return n->host;
        f->hosts[n->host].nnics++;
        f->hosts[n->host].unnamed = !len;
    }
    int at = 0;
    for (int h = 0; h < f->nhosts; h++) {
        f->hosts[h].first = at;
        at += f->hosts[h].nnics;
        f->hosts[h].nnics = 0;
    }
    for (int i = 0; i < f->nnodes; i++) {
        if (f->nodes[i].host < 0)
            continue;
        struct mu_fabric_host *h = &f->hosts[f->nodes[i].host];
        f->nics[h->first + h->nnics++] = i;
    }
    for (int h = 0; h < f->nhosts; h++)
        qsort_r(f->nics + f->hosts[h].first, (size_t)f->hosts[h].nnics, sizeof *f->nics, by_device, f->nodes);
    return 0;
}

/* --- ranks and subnets ------------------------------------------------------------------------------------------ */

static int walk(struct mu_fabric *f, struct mu_err *err)
{
    mu_auto_free int *queue = calloc((size_t)f->nnodes + 1, sizeof *queue);
    mu_auto_free int *seen = calloc((size_t)f->nnodes + 1, sizeof *seen);
    int head = 0, tail = 0;

    if (!queue || !seen)
        return no_memory(err);
    for (int i = 0; i < f->nnodes; i++)
        if (f->nodes[i].kind == MU_FABRIC_ADAPTER)
            queue[tail++] = i;
    while (head < tail) {
        const struct mu_fabric_node *n = &f->nodes[queue[head++]];
        for (int k = 0; k < n->nout; k++) {
            struct mu_fabric_node *p = &f->nodes[f->ports[n->first + k].peer];
            if (p->kind == MU_FABRIC_SWITCH && !p->rank) {
                p->rank = n->rank + 1;
                queue[tail++] = f->ports[n->first + k].peer;
            }
        }
    }
    /* Parts that hang together through switches: an adapter with ports on two subnets does not join them. */
    for (int pass = 0; pass < 2; pass++)
        for (int i = 0; i < f->nnodes; i++) {
            if (seen[i] || (!pass && f->nodes[i].kind != MU_FABRIC_SWITCH))
                continue;
            int part = f->nsubnets;
            head = tail = 0;
            if (pass) { /* with the switch that it is on, if there is one */
                const struct mu_fabric_node *n = &f->nodes[i];
                for (int k = 0; k < n->nout; k++)
                    if (seen[f->ports[n->first + k].peer])
                        part = f->nodes[f->ports[n->first + k].peer].subnet;
            }
            f->nsubnets += part == f->nsubnets;
            queue[tail++] = i;
            seen[i] = 1;
            f->nodes[i].subnet = part;
            while (head < tail) {
                const struct mu_fabric_node *n = &f->nodes[queue[head++]];
                for (int k = 0; k < n->nout; k++) {
                    int p = f->ports[n->first + k].peer;
                    if (seen[p] || (!pass && f->nodes[p].kind != MU_FABRIC_SWITCH))
                        continue;
                    seen[p] = 1;
                    f->nodes[p].subnet = part;
                    queue[tail++] = p;
                }
            }
        }
    return 0;
}

int mu_fabric_finish(struct mu_fabric *f, const struct mu_guids *guids, struct mu_err *err)
{
    int rc;

    if ((rc = build_ports(f, err)) || (rc = build_hosts(f, guids, err)) || (rc = walk(f, err)))
        return rc;
    if (!f->nhosts)
        return mu_err_set(err, MUSTER_EARG, "%s: no host in it", f->origin);
    return 0;
}
