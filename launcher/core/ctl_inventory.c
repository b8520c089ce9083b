/* What nodes are made of, as their agents say it, and as somebody has approved it. Both are stored, and known by the
 * node's name: they outlive controllers, and nodes that leave the pool and come again. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launcher/core/ctl_priv.h"
#include "runtime/base/clean.h"
#include "runtime/wire/inventory.h"

struct known {
    char node[256];
    struct mu_m_inventory is, approved;
    bool has, has_approved;
};
struct mu_ctl_inventory {
    struct known **v; /* by name */
    unsigned n, cap;
};

struct mu_ctl_inventory *mu_ctl_inventory_new(void)
{
    return calloc(1, sizeof(struct mu_ctl_inventory));
}

void mu_ctl_inventory_free(struct mu_ctl_inventory *t)
{
    if (!t)
        return;
    for (unsigned i = 0; i < t->n; i++) {
        mu_msg_free_body(MU_MSG_inventory, &t->v[i]->is);
        mu_msg_free_body(MU_MSG_inventory, &t->v[i]->approved);
        free(t->v[i]);
    }
    free(t->v);
    free(t);
}

/* Where it is, or would be. */
static unsigned place(const struct mu_ctl_inventory *t, const char *node)
{
    unsigned lo = 0, hi = t->n;

    while (lo < hi) {
        unsigned mid = lo + (hi - lo) / 2;
        if (strcmp(t->v[mid]->node, node) < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

static struct known *find(const struct mu_ctl_inventory *t, const char *node)
{
    unsigned i = place(t, node);

    return i < t->n && !strcmp(t->v[i]->node, node) ? t->v[i] : NULL;
}

/* NULL: out of memory. */
static struct known *find_or_add(struct mu_ctl_inventory *t, const char *node)
{
    struct known *k = find(t, node);

    if (k)
        return k;
    if (t->n == t->cap) {
        unsigned cap = t->cap ? t->cap * 2 : 16;
        struct known **v = realloc(t->v, cap * sizeof *v);
        if (!v)
            return NULL;
        t->v = v;
        t->cap = cap;
    }
    if (!(k = calloc(1, sizeof *k)))
        return NULL;
    snprintf(k->node, sizeof k->node, "%s", node);
    unsigned i = place(t, k->node);
    memmove(t->v + i + 1, t->v + i, (t->n++ - i) * sizeof *t->v);
    t->v[i] = k;
    return k;
}

/* How the pool has it. */
static void apply(struct mu_ctl *c, const struct known *k)
{
    int at = mu_pool_find(&c->pool, k->node);

    if (at < 0)
        return;
    struct mu_node *n = &c->pool.v[at];
    n->approved = k->has && k->has_approved;
    n->drift = n->approved ? mu_inventory_tell(&k->approved, &k->is, n->drifted, sizeof n->drifted) : 0;
    if (!n->drift)
        n->drifted[0] = 0;
}

void mu_ctl_inventory_known(struct mu_ctl *c, int node)
{
    const struct known *k = find(c->inventory, c->pool.v[node].name);

    if (k)
        apply(c, k);
}

static bool set(struct mu_m_inventory *at, bool *has, const struct mu_m_inventory *m)
{
    struct mu_m_inventory copy = {0};

    if (mu_msg_copy(MU_MSG_inventory, &copy, m))
        return false;
    mu_msg_free_body(MU_MSG_inventory, at);
    *at = copy;
    *has = true;
    return true;
}

/* Whoever has jobs there hears of it. */
static void tell(struct mu_ctl *c, int node, const char *what)
{
    const char *name = c->pool.v[node].name;
    bool told = false;

    for (unsigned i = 0; i < c->njobs; i++)
        for (unsigned p = 0; p < c->jobs[i]->nparts; p++)
            if (c->jobs[i]->parts[p].share.node == (uint32_t)node && !mu_job_over(c->jobs[i]->row.state)) {
                mu_ctl_event(c, c->jobs[i], "node-changed", -1, name, "%s", what);
                told = true;
            }
    if (!told)
        mu_ctl_told(c, "node-changed");
}

void mu_ctl_inventory_take(struct mu_ctl *c, int node, const struct mu_m_inventory *m)
{
    struct known *k = mu_inventory_valid(m) ? find_or_add(c->inventory, c->pool.v[node].name) : NULL;
    struct mu_m_inventory now = *m;
    char what[200];

    if (!k) /* what is none says nothing */
        return;
    c->pool.v[node].untold = false;
    bool had = k->has;
    if (had && !mu_inventory_tell(&k->is, m, what, sizeof what))
        return;
    now.node = k->node;
    now.wall = c->wall;
    now.by = now.why = NULL;
    struct mu_act *act = mu_acts_add(c->acts, MU_ACT_INVENTORY);
    if (!set(&k->is, &k->has, &now) || mu_msg_encode(&act->frame, MU_MSG_inventory, &now)) {
        c->acts->failed = true;
        return;
    }
    apply(c, k);
    if (had)
        tell(c, node, what);
}

void mu_ctl_inventory_load(struct mu_ctl *c, const struct mu_m_inventory *m)
{
    struct known *k = m->node && *m->node && mu_inventory_valid(m) ? find_or_add(c->inventory, m->node) : NULL;
    bool approved = m->by && *m->by;

    if (!k)
        return;
    if (!set(approved ? &k->approved : &k->is, approved ? &k->has_approved : &k->has, m))
        c->acts->failed = true;
    apply(c, k);
}

static void withdraw(struct known *k)
{
    mu_msg_free_body(MU_MSG_inventory, &k->approved);
    k->approved = (struct mu_m_inventory){0};
    k->has_approved = false;
}

void mu_ctl_inventory_approve(struct mu_ctl *c, mu_conn client, const struct mu_msg *msg)
{
    const struct mu_m_approve *m = &msg->approve; /* withdraw has the same fields */
    struct mu_hosts hosts = {0};

    if (m->hosts && *m->hosts && !mu_ctl_read_hosts(c, client, m->hosts, &hosts))
        return;
    for (unsigned i = 0; i < c->inventory->n; i++) {
        struct known *k = c->inventory->v[i];
        struct mu_m_inventory now = k->is;
        bool meant = !hosts.n && mu_pool_find(&c->pool, k->node) >= 0;
        for (size_t h = 0; h < hosts.n && !meant; h++)
            meant = !strcmp(mu_host_name(hosts.v[h].name), k->node);
        if (!meant)
            continue;
        now.by = m->by;
        now.why = m->why;
        now.wall = c->wall;
        if (msg->type == MU_MSG_withdraw)
            withdraw(k);
        else if (k->has && !set(&k->approved, &k->has_approved, &now))
            c->acts->failed = true;
        apply(c, k);
    }
    mu_ctl_done(c, client);
    mu_hosts_free(&hosts);
}

bool mu_ctl_made(const struct mu_ctl *c, unsigned n, struct mu_ctl_made *out)
{
    if (n >= c->inventory->n)
        return false;
    const struct known *k = c->inventory->v[n];
    *out = (struct mu_ctl_made){
        .node = k->node, .is = k->has ? &k->is : NULL, .approved = k->has_approved ? &k->approved : NULL};
    return true;
}
