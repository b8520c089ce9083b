/* Nodes that get no jobs although they are up: drained until somebody resumes them, or in quarantine for a time. What
 * runs there runs on. Both outlive the controller: every change is stored before anybody is told. So does what GPUs
 * have that somebody has resumed their node with, which is not to drain it again. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launcher/core/ctl_priv.h"
#include "runtime/base/clean.h"
#include "runtime/base/clock.h"
#include "runtime/base/hosts.h"

#define STRIKES_WITHIN (600 * MU_SEC)
#define LONGEST (24ull * 3600 * MU_SEC) /* a quarantine that has doubled; one that is so long ago does not count */

/* --- what is stored ------------------------------------------------------------------------------------------------
 */

static void encode(struct mu_ctl *c, struct mu_buf *b, const struct mu_m_mark *m)
{
    if (mu_msg_encode(b, MU_MSG_mark, m))
        c->acts->failed = true;
}

static void store(struct mu_ctl *c)
{
    struct mu_act *act = mu_acts_add(c->acts, MU_ACT_MARKS);

    for (unsigned i = 0; i < c->pool.n; i++) {
        struct mu_node *n = &c->pool.v[i];
        if (n->state == MU_NODE_NONE)
            continue;
        if (!mu_pool_out(n)) {
            if (*n->gpu_known || n->gpu_xid)
                encode(c, &act->frame,
                       &(struct mu_m_mark){.node = n->name,
                                           .kind = MU_OUT_KNOWN,
                                           .reason = n->gpu_known,
                                           .since_wall = n->gpu_since,
                                           .times = n->gpu_xid});
            continue;
        }
        encode(c, &act->frame,
               &(struct mu_m_mark){.node = n->name,
                                   .kind = n->drained ? MU_OUT_DRAIN : MU_OUT_QUARANTINE,
                                   .by = n->out_by,
                                   .reason = n->out_why,
                                   .since_wall = n->out_wall,
                                   .until_wall = n->drained ? 0 : n->out_until_wall,
                                   .times = n->quarantines});
    }
    for (unsigned i = 0; i < c->nabsent; i++)
        encode(c, &act->frame, &c->absent[i]);
}

static void take(struct mu_ctl *c, struct mu_node *n, const struct mu_m_mark *m)
{
    if (m->kind == MU_OUT_KNOWN) {
        snprintf(n->gpu_known, sizeof n->gpu_known, "%s", m->reason ? m->reason : "");
        n->gpu_since = m->since_wall;
        n->gpu_xid = m->times;
        return;
    }
    n->drained = m->kind == MU_OUT_DRAIN;
    if (!n->drained && m->until_wall <= c->wall)
        return;
    /* no longer than it was meant to be: the clock may have been set back */
    uint64_t left = m->until_wall - c->wall, most = m->until_wall - m->since_wall;
    left = m->since_wall < m->until_wall && left > most ? most : left;
    n->out_wall = m->since_wall;
    n->out_until_wall = n->drained ? m->until_wall : c->wall + left;
    n->quarantines = m->times;
    snprintf(n->out_by, sizeof n->out_by, "%s", m->by ? m->by : "");
    snprintf(n->out_why, sizeof n->out_why, "%s", m->reason ? m->reason : "");
    if (!n->drained)
        n->quarantine_until = mu_ctl_node_due(c, c->now + left);
}

static void forget(struct mu_ctl *c, unsigned i)
{
    mu_msg_free_body(MU_MSG_mark, &c->absent[i]);
    c->absent[i] = c->absent[--c->nabsent];
}

void mu_ctl_out_load(struct mu_ctl *c, const struct mu_m_mark *m)
{
    int node = m->node ? mu_pool_find(&c->pool, m->node) : -1;

    if (node >= 0) {
        take(c, &c->pool.v[node], m);
        return;
    }
    struct mu_m_mark *v = realloc(c->absent, (c->nabsent + 1u) * sizeof *v);
    if (v)
        c->absent = v;
    if (!v || !m->node || mu_msg_copy(MU_MSG_mark, &v[c->nabsent], m))
        c->acts->failed = c->acts->failed || m->node;
    else
        c->nabsent++;
}

void mu_ctl_out_known(struct mu_ctl *c, int node)
{
    for (unsigned i = 0; i < c->nabsent; i++) {
        if (strcmp(c->absent[i].node, c->pool.v[node].name) != 0)
            continue;
        take(c, &c->pool.v[node], &c->absent[i]);
        forget(c, i);
        return;
    }
}

/* --- out, and back -------------------------------------------------------------------------------------------------
 */

/* Of those that were not asked for, one more may go: never all nodes of a pool. */
static bool may_go(const struct mu_ctl *c, int node)
{
    unsigned n = 0, out = 0, most;

    uint32_t percent = c->cfg.checks ? c->cfg.checks->most_percent : c->cfg.out_percent;
    if (!percent)
        return true;
    for (unsigned i = 0; i < c->pool.n; i++) {
        const struct mu_node *v = &c->pool.v[i];
        if (v->state == MU_NODE_NONE || v->leaving || v->owner != c->pool.v[node].owner)
            continue;
        n++;
        out += mu_pool_out(v) && i != (unsigned)node;
    }
    most = n * percent / 100;
    return out < (most || n < 2 ? most : 1);
}

static void set(struct mu_ctl *c, struct mu_node *n, const char *by, const char *why)
{
    snprintf(n->out_by, sizeof n->out_by, "%s", by);
    snprintf(n->out_why, sizeof n->out_why, "%s", why);
    n->out_wall = c->wall;
    store(c);
}

static void tell(struct mu_ctl *c, int node, const char *kind, const char *until)
{
    const struct mu_node *n = &c->pool.v[node];

    for (unsigned i = 0; i < c->njobs; i++)
        for (unsigned p = 0; p < c->jobs[i]->nparts; p++)
            if (c->jobs[i]->parts[p].share.node == (uint32_t)node && !mu_job_over(c->jobs[i]->row.state))
                mu_ctl_event(c, c->jobs[i], kind, -1, n->name, "%s%s%s; no other job gets it%s", n->out_by,
                             *n->out_by ? ": " : "", n->out_why, until);
}

bool mu_ctl_out_quarantine(struct mu_ctl *c, int node, const char *by, const char *why)
{
    struct mu_node *n = &c->pool.v[node];
    char until[80];

    if (n->drained || !may_go(c, node))
        return n->drained;
    if (n->quarantines && n->quarantine_over && c->now >= n->quarantine_over + LONGEST)
        n->quarantines = 0;
    uint64_t ns = c->cfg.cooldown_ns;
    for (unsigned i = 0; i < n->quarantines && ns < LONGEST; i++)
        ns *= 2;
    ns = ns < LONGEST || ns == c->cfg.cooldown_ns ? ns : LONGEST;
    n->quarantines++;
    n->quarantine_until = mu_ctl_node_due(c, c->now + ns);
    n->out_until_wall = c->wall + ns;
    set(c, n, by, why);
    snprintf(until, sizeof until, " for %llu s, or until it is resumed", (unsigned long long)(ns / MU_SEC));
    tell(c, node, "quarantined", until);
    return true;
}

static void drain(struct mu_ctl *c, int node, const char *by, const char *why)
{
    struct mu_node *n = &c->pool.v[node];

    n->drained = true;
    n->quarantine_until = 0;
    set(c, n, by, why);
    tell(c, node, "drained", " until it is resumed");
}

bool mu_ctl_out_drain(struct mu_ctl *c, int node, const char *by, const char *why)
{
    if (!c->pool.v[node].drained && !may_go(c, node))
        return false;
    if (!c->pool.v[node].drained)
        drain(c, node, by, why);
    return true;
}

void mu_ctl_out_leaves(struct mu_ctl *c, int node)
{
    struct mu_node *n = &c->pool.v[node];
    bool out = mu_pool_out(n);

    n->drained = false;
    n->quarantine_until = 0;
    if (out)
        store(c);
}

void mu_ctl_out_tick(struct mu_ctl *c, int node)
{
    struct mu_node *n = &c->pool.v[node];

    if (!n->quarantine_until || c->now < n->quarantine_until || mu_ctl_checks_before_end(c, node))
        return;
    n->quarantine_until = 0;
    n->quarantine_over = c->now;
    store(c);
}

void mu_ctl_node_strike(struct mu_ctl *c, int node)
{
    struct mu_node *n = &c->pool.v[node];
    unsigned recent = 1;
    char why[120];

    if (!c->cfg.quarantine || !n->remote)
        return;
    for (unsigned i = MU_COUNT(n->strikes) - 1; i > 0; i--)
        n->strikes[i] = n->strikes[i - 1];
    n->strikes[0] = c->now;
    for (unsigned i = 1; i < MU_COUNT(n->strikes); i++)
        recent += n->strikes[i] && c->now - n->strikes[i] < STRIKES_WITHIN;
    if (recent < c->cfg.quarantine || n->quarantine_until)
        return;
    snprintf(why, sizeof why, "failed %u times within ten minutes", recent);
    mu_ctl_out_quarantine(c, node, "", why);
}

/* --- what people ask for -------------------------------------------------------------------------------------------
 */

/* The hosts, all of which must be known, or refuses the client. */
static bool known(struct mu_ctl *c, mu_conn client, const char *text, bool absent, struct mu_hosts *out)
{
    char why[400];

    if (!mu_ctl_read_hosts(c, client, text, out))
        return false;
    for (size_t i = 0; i < out->n; i++) {
        const char *name = mu_host_name(out->v[i].name);
        bool there = mu_pool_find(&c->pool, name) >= 0;
        for (unsigned k = 0; k < c->nabsent && absent && !there; k++)
            there = !strcmp(c->absent[k].node, name);
        if (there)
            continue;
        snprintf(why, sizeof why, "host %.200s is not in the pool; `muster nodes` lists it", name);
        mu_ctl_refuse(c, client, MUSTER_EARG, why);
        mu_hosts_free(out);
        return false;
    }
    return true;
}

void mu_ctl_out_drain_asked(struct mu_ctl *c, mu_conn client, const struct mu_m_nodes_drain *m)
{
    struct mu_hosts hosts = {0};

    if (!known(c, client, m->hosts, false, &hosts))
        return;
    for (size_t i = 0; i < hosts.n; i++)
        drain(c, mu_pool_find(&c->pool, mu_host_name(hosts.v[i].name)), m->by ? m->by : "", m->reason ? m->reason : "");
    mu_ctl_done(c, client);
    mu_hosts_free(&hosts);
}

static void resume(struct mu_ctl *c, int node)
{
    struct mu_node *n = &c->pool.v[node];

    memset(n->strikes, 0, sizeof n->strikes);
    n->quarantine_until = n->quarantine_over = 0;
    n->quarantines = 0;
    n->drained = false;
    n->out_by[0] = n->out_why[0] = 0;
    if (n->state == MU_NODE_LOST && *n->target)
        mu_ctl_node_start(c, node);
}

void mu_ctl_out_resume(struct mu_ctl *c, mu_conn client, const char *text)
{
    struct mu_hosts hosts = {0};

    if (!known(c, client, text, true, &hosts))
        return;
    for (size_t i = 0; i < hosts.n; i++) {
        int node = mu_pool_find(&c->pool, mu_host_name(hosts.v[i].name));
        for (unsigned k = 0; k < c->nabsent && node < 0; k++)
            if (!strcmp(c->absent[k].node, mu_host_name(hosts.v[i].name)))
                forget(c, k--);
        if (node >= 0)
            resume(c, node);
    }
    store(c);
    mu_ctl_done(c, client);
    mu_hosts_free(&hosts);
}
