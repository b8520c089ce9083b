/* Life of a node: its agent joins, falls silent, comes back, or is given up; hosts that a job has brought with it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launcher/core/ctl_priv.h"
#include "launcher/core/ctl_queue.h"
#include "runtime/base/clean.h"
#include "runtime/base/clock.h"
#include "runtime/base/hosts.h"
#include "runtime/base/str.h"

#define RETURN_NS (5 * MU_SEC)    /* a host answers but its agent is gone: so long it may take to come back */
#define ENGINE_AFTER (1 * MU_SEC) /* then an engine starts it, unless a keeper already has */
#define ENGINE_EVERY_MAX (30 * MU_SEC)
#define OLD_BOOT_NS                                                                                                    \
    (60 * MU_SEC) /* longer than any relay holds a message; a machine set back to a snapshot comes later */
#define ENGINE_FLIGHT (60 * MU_SEC) /* a start that was under way has brought its agent by then */
#define HOSTS_WAIT (60 * MU_SEC)    /* for the agents of a job's hosts */
#define HOLD_AGAIN (200 * MU_MS)
#define PROBE_EVERY (60 * MU_MS)
#define OUTDATED_NS (5 * MU_SEC)
#define ORPHAN_NS (400 * MU_MS) /* past its lease, for one whose way broke elsewhere: it dials us */

struct job *mu_ctl_node_job(struct mu_ctl *c, int node)
{
    for (unsigned i = 0; i < c->njobs; i++) {
        struct job *j = c->jobs[i];
        for (unsigned p = 0; p < j->nparts; p++)
            if (j->parts[p].share.node == (uint32_t)node)
                return j;
        for (unsigned s = 0; s < j->nspares; s++)
            if (j->spares[s].node == (uint32_t)node)
                return j;
    }
    return NULL;
}

static struct mu_node *at(struct mu_ctl *c, int node)
{
    return &c->pool.v[node];
}

/* Whatever is set comes through here. */
uint64_t mu_ctl_node_due(struct mu_ctl *c, uint64_t at)
{
    if (at && at < c->nodes_due)
        c->nodes_due = at;
    return at;
}

static bool remote(const struct mu_ctl *c, const char *name)
{
    return c->cfg.node && strcmp(name, c->cfg.node) != 0;
}

int mu_ctl_node_known(struct mu_ctl *c, const char *name)
{
    int node = mu_pool_find(&c->pool, name);

    if (node < 0) {
        node = mu_pool_add(&c->pool, name);
        if (node < 0)
            c->acts->failed = true;
        else
            at(c, node)->remote = remote(c, name);
        if (node >= 0) {
            mu_ctl_out_known(c, node);
            mu_ctl_inventory_known(c, node);
        }
    }
    return node;
}

/* Or by one that does not want its hosts yet. */
static bool owned_by_over(struct mu_ctl *c, uint64_t owner)
{
    const struct job *j = owner ? mu_ctl_find(c, owner) : NULL;

    return owner && !mu_ctl_lost_may(c, owner) &&
           (!j || mu_job_over(j->row.state) ||
            (mu_job_waits(j->row.state) && !mu_ctl_queue_may(c, j) && !c->doubt_until)); /* it may run, unknown to us */
}

/* What it brings is still waited for: output. */
static bool owner_drains(struct mu_ctl *c, uint64_t owner)
{
    const struct job *j = mu_ctl_find(c, owner);

    return j && j->nparts;
}

static void send_bye(struct mu_ctl *c, mu_conn conn, uint32_t reason)
{
    mu_acts_send(c->acts, conn, MU_MSG_bye, &(struct mu_m_bye){.reason = reason});
}

static uint64_t name_hash(const char *name)
{
    return mu_str_hash(name, strlen(name)) | 1;
}

void mu_ctl_node_let_go(struct mu_ctl *c, int node)
{
    struct mu_node *n = at(c, node);

    c->gone[c->ngone++ % GONE_MAX] =
        (struct gone){.name = name_hash(n->name),
                      .boot = n->boot,
                      .incarnation = n->incarnation,
                      .started_until = *n->target && !n->conn ? c->now + ENGINE_FLIGHT : 0};
    n->target[0] = 0;
    send_bye(c, n->conn, 1);
    n->leaving = c->leaving = true;
}

/* It is one that has left the pool. */
static bool is_gone(const struct mu_ctl *c, const struct mu_m_agent *m, uint64_t boot)
{
    uint64_t name = name_hash(m->node);

    for (unsigned i = 0; i < GONE_MAX; i++)
        if (c->gone[i].name == name && ((c->gone[i].boot == boot && c->gone[i].incarnation == m->incarnation) ||
                                        c->now < c->gone[i].started_until))
            return true;
    return false;
}

/* It is asked for again. */
static void not_gone(struct mu_ctl *c, const char *node)
{
    uint64_t name = name_hash(node);

    for (unsigned i = 0; i < GONE_MAX; i++)
        if (c->gone[i].name == name)
            c->gone[i].name = 0;
}

/* It was said on a way that its agent has left since, and was held up there. */
static bool outdated(const struct mu_ctl *c, const struct mu_node *n, const struct mu_m_agent *m, uint64_t boot)
{
    if (m->ctl && m->ctl != c->cfg.incarnation)
        return true;
    for (unsigned i = 0; boot && c->now < n->boot_at + OLD_BOOT_NS && i < MU_COUNT(n->boots); i++)
        if (n->boots[i] == boot)
            return true;
    if (boot != n->boot || m->incarnation > n->incarnation)
        return false;
    if (m->incarnation < n->incarnation) /* in case that its clock began anew without a boot */
        return n->conn || c->now < n->lease_end + OUTDATED_NS;
    return m->way < n->way;
}

static uint64_t boot_of(const struct mu_m_agent *m)
{
    return m->boot && *m->boot ? mu_str_hash(m->boot, strlen(m->boot)) | 1 : 0;
}

mu_conn mu_ctl_rival(const struct mu_ctl *c, mu_conn conn, const struct mu_m_agent *m)
{
    int node = m->node && *m->node ? mu_pool_find(&c->pool, m->node) : -1;
    const struct mu_node *n = node < 0 ? NULL : &c->pool.v[node];

    return n && n->conn && n->conn != conn && (n->boot != boot_of(m) || n->incarnation != m->incarnation) ? n->conn : 0;
}

/* Another job was there before a job brought this agent, and runs on. */
static bool used_by_others(const struct mu_ctl *c, const struct mu_m_agent *m)
{
    int node = m->owner && m->node ? mu_pool_find(&c->pool, m->node) : -1;

    for (unsigned i = 0; i < c->njobs && node >= 0; i++)
        for (unsigned p = 0; p < c->jobs[i]->nparts; p++)
            if (c->jobs[i]->row.id != m->owner && !mu_job_over(c->jobs[i]->row.state) &&
                c->jobs[i]->parts[p].share.node == (uint32_t)node)
                return true;
    return false;
}

void mu_ctl_node_joins(struct mu_ctl *c, struct conn *k, const struct mu_m_agent *m)
{
    uint64_t owner = used_by_others(c, m) ? 0 : m->owner;
    uint64_t boot = boot_of(m);
    int node;

    if (!m->node || !*m->node || strlen(m->node) >= sizeof c->pool.v[0].name ||
        (remote(c, m->node) && !mu_hosts_is_node(m->node)) || !m->slots) {
        mu_ctl_refuse(c, k->id, MUSTER_EARG, "an agent must give its node's name and slots");
        return;
    }
    bool removed = is_gone(c, m, boot);
    /* what it reports is let go of, then it ends */
    if (removed || (owned_by_over(c, owner) && !owner_drains(c, owner))) {
        k->stale = true;
        send_bye(c, k->id, removed);
        if ((node = mu_pool_find(&c->pool, m->node)) >= 0)
            at(c, node)->silent = false; /* it is heard, if only to end: our own link is not to blame */
        return;
    }
    node = mu_ctl_node_known(c, m->node);
    if (node < 0)
        return;
    struct mu_node *n = at(c, node);
    if (outdated(c, n, m, boot) && !MU_MUTANT(OLD_WAY)) {
        mu_acts_add(c->acts, MU_ACT_CLOSE)->conn = k->id;
        return;
    }
    if (n->conn && n->conn != k->id)
        mu_acts_add(c->acts, MU_ACT_CLOSE)->conn = n->conn;
    n->conn = k->id;
    n->slots = n->limit ? n->limit : m->slots;
    n->pus = m->pus;
    n->numa = m->numa;
    n->gpus = m->gpus;
    mu_strv_free(n->guids);
    n->guids = mu_strv_dup(m->guids);
    n->memory = m->memory;
    if (n->boot && n->boot != boot) {
        memmove(n->boots + 1, n->boots, sizeof n->boots - sizeof n->boots[0]);
        n->boots[0] = n->boot;
        n->boot_at = c->now;
        n->untold = true;
    }
    n->boot = boot;
    n->incarnation = m->incarnation;
    n->way = m->way;
    n->files = n->remote ? 0 : c->cfg.files;
    n->state = MU_NODE_UP;
    n->ready = n->suspect = n->silent = n->stale = false;
    n->leaving = false; /* what it was told on a way that it has left since, it may never have heard */
    n->declare_at = n->engine_at = n->probe_at = n->engine_tries = 0;
    n->reason[0] = 0;
    n->port = m->port;
    snprintf(n->addr, sizeof n->addr, "%s", m->addr ? m->addr : "");
    if (n->owner && !owner) /* no job has brought it: it was here before, and its controller has not known it */
        n->target[0] = 0;
    n->owner = owner;
    k->node = node;
    mu_ctl_tree_join(c, k);
    for (unsigned i = 0; i < c->njobs; i++)
        for (unsigned p = 0; p < c->jobs[i]->nparts; p++)
            if (c->jobs[i]->parts[p].share.node == (uint32_t)node) {
                c->jobs[i]->parts[p].confirmed = c->jobs[i]->parts[p].kill_sent = false;
                c->jobs[i]->parts[p].heard = HEARD_NOTHING;
            }
}

/* Something of a job that has nothing to do there any more. */
static bool leftover(struct mu_ctl *c, int node, uint64_t job)
{
    struct job *j = mu_ctl_find(c, job);
    const struct part *p = j ? mu_ctl_part(c, j, node) : NULL;

    return !p || (p->late && mu_job_over(j->row.state));
}

/* What the agent still has. A stale node is one no more when nothing of a job that has left it is among that. */
void mu_ctl_node_has(struct mu_ctl *c, int node, const struct mu_m_agent_ready *m)
{
    uint32_t n = 0;

    for (char **v = m->jobs; v && *v; v++, n++)
        if (leftover(c, node, strtoull(*v, NULL, 10)))
            return;
    if (n == m->keepers)
        at(c, node)->stale = false;
}

/* --- away, lost --------------------------------------------------------------------------------------------------- */

void mu_ctl_node_start(struct mu_ctl *c, int node)
{
    struct mu_node *n = at(c, node);
    struct mu_act *act = mu_acts_add(c->acts, MU_ACT_ENGINE);

    not_gone(c, n->name);
    act->job = n->owner;
    snprintf(act->node, sizeof act->node, "%s", n->name);
    snprintf(act->detail, sizeof act->detail, "%s", n->target);
    n->engine_at = 0;
    n->engine_tries++;
}

static void engine_later(struct mu_ctl *c, struct mu_node *n)
{
    unsigned shift = n->engine_tries < 6 ? n->engine_tries : 6;
    uint64_t delay = (500 * MU_MS) << shift;

    if (*n->target)
        n->engine_at = mu_ctl_node_due(c, c->now + (delay < ENGINE_EVERY_MAX ? delay : ENGINE_EVERY_MAX));
}

static void ask_probe(struct mu_ctl *c, const struct mu_node *n)
{
    if (!*n->addr)
        return;
    struct mu_act *act = mu_acts_add(c->acts, MU_ACT_PROBE);
    snprintf(act->node, sizeof act->node, "%s", n->name);
    snprintf(act->detail, sizeof act->detail, "%s", n->addr);
    act->signo = n->port;
}

/* Nothing lives there that an attempt could meet. The host does not answer and its agent's connection was closed: if a
 * keeper's own was, too, the kernel there has said that both processes are dead, and with a keeper its ranks die. A
 * network that fails does not close connections. */
static bool empty(const struct mu_ctl *c, int node)
{
    for (unsigned i = 0; i < c->njobs; i++)
        for (unsigned p = 0; p < c->jobs[i]->nparts; p++)
            if (c->jobs[i]->parts[p].share.node == (uint32_t)node && c->jobs[i]->row.attempt &&
                c->jobs[i]->parts[p].phase < MU_PHASE_GONE && !c->jobs[i]->parts[p].line_lost)
                return false;
    return true;
}

static bool keeper_dead(const struct mu_ctl *c, int node)
{
    for (unsigned i = 0; i < c->njobs; i++)
        for (unsigned p = 0; p < c->jobs[i]->nparts; p++)
            if (c->jobs[i]->parts[p].share.node == (uint32_t)node && c->jobs[i]->parts[p].line_lost)
                return true;
    return false;
}

/* The same for single jobs, where another one's keeper may still live. */
static void judge(struct mu_ctl *c, int node)
{
    for (unsigned i = 0; i < c->njobs; i++)
        for (unsigned p = 0; p < c->jobs[i]->nparts; p++)
            if (c->jobs[i]->parts[p].share.node == (uint32_t)node && c->jobs[i]->parts[p].line_lost)
                mu_ctl_job_keeper_dead(c, c->jobs[i], &c->jobs[i]->parts[p]);
}

void mu_ctl_node_line(struct mu_ctl *c, struct conn *k, const char *node)
{
    struct job *j = mu_ctl_find(c, k->job);

    k->node = mu_pool_find(&c->pool, node);
    for (unsigned p = 0; j && k->node >= 0 && p < j->nparts; p++) {
        if (j->parts[p].share.node != (uint32_t)k->node || j->parts[p].line > k->id)
            continue;
        j->parts[p].line = k->id;
        j->parts[p].line_lost = false;
    }
}

void mu_ctl_node_line_down(struct mu_ctl *c, const struct conn *k)
{
    struct job *j = mu_ctl_find(c, k->job);

    for (unsigned p = 0; j && k->node >= 0 && p < j->nparts; p++)
        if (j->parts[p].line == k->id && k->pid == j->parts[p].keeper) /* that of a dead one may break late */
            j->parts[p].line_lost = true;
}

static void tell_away(struct mu_ctl *c, int node, bool silent)
{
    for (unsigned i = 0; i < c->njobs; i++)
        for (unsigned p = 0; p < c->jobs[i]->nparts; p++)
            if (c->jobs[i]->parts[p].share.node == (uint32_t)node && !mu_job_over(c->jobs[i]->row.state))
                mu_ctl_event(c, c->jobs[i], "agent-lost", -1, at(c, node)->name,
                             silent ? "nothing has been heard of the node for a while"
                                    : "the agent is away; its ranks run on and are taken up again when it is back");
}

/* Of jobs that are not over: that of one which was adopted after its node had been sent away. */
static bool has_parts(struct mu_ctl *c, int node)
{
    for (unsigned i = 0; i < c->njobs; i++)
        if (!mu_job_over(c->jobs[i]->row.state) && mu_ctl_part(c, c->jobs[i], node))
            return true;
    return false;
}

void mu_ctl_node_down(struct mu_ctl *c, int node, int status, uint64_t heard)
{
    struct mu_node *n = at(c, node);
    bool orphan = status == MU_DOWN_PARENT;

    if (!heard || heard > c->now)
        heard = c->now - (status == MU_DOWN_SILENT ? MU_SILENT_NS : 0);
    mu_ctl_tree_gone(c, node);
    n->conn = 0;
    n->ready = n->suspect = false;
    n->state = MU_NODE_AWAY;
    n->away_wall = c->wall - (c->now - heard);
    if (n->leaving && !has_parts(c, node)) {
        n->state = MU_NODE_LOST; /* nodes_tick removes it once no job holds it */
        return;
    }
    if (!orphan) /* that one says nothing of itself, and is back in a moment */
        tell_away(c, node, status == MU_DOWN_SILENT);
    if (!n->remote) {
        snprintf(n->reason, sizeof n->reason, "its agent is away");
        return;
    }
    n->silent = status == MU_DOWN_SILENT || (orphan && heard < c->now);
    n->orphan = orphan;
    snprintf(n->reason, sizeof n->reason,
             orphan      ? "its way through another node is broken"
             : n->silent ? "it has fallen silent"
                         : "its agent is away");
    n->lease_end = heard + MU_LEASE_NS + MU_LEASE_MARGIN_NS;
    n->declare_at = mu_ctl_node_due(c, n->lease_end + (orphan ? ORPHAN_NS : 0));
    if (MU_MUTANT(REPLACED_EARLY) || (MU_MUTANT(ORPHAN_LOST) && orphan))
        n->declare_at = mu_ctl_node_due(c, c->now);
    n->engine_at = mu_ctl_node_due(c, *n->target ? c->now + ENGINE_AFTER : 0);
    if (orphan && !n->silent)
        n->probe_at = mu_ctl_node_due(c, n->lease_end); /* when it has not come by then */
    else if (!n->silent)
        ask_probe(c, n);
}

/* Most are silent at once and nobody vouches for our own link: it may be us. Who is heard through another node vouches
 * for nothing that this one does not. */
static bool link_doubtful(const struct mu_ctl *c)
{
    unsigned silent = 0;

    for (unsigned i = 0; i < c->pool.n; i++) {
        const struct mu_node *n = &c->pool.v[i];
        if (n->remote && n->state == MU_NODE_UP && !n->suspect && mu_ctl_tree_direct(c, (int)i))
            return false;
        silent += n->remote && n->state == MU_NODE_AWAY && n->silent;
    }
    return silent > 1;
}

/* A keeper there was told to end its ranks, maybe heard it before its lease ended, and may hang over it; then it does
 * not look at the lease either. Its agent sees to that, and when that has died the one that follows it. */
static bool may_hang(const struct mu_ctl *c, int node)
{
    for (unsigned i = 0; i < c->njobs && !MU_MUTANT(HANG_UNSEEN); i++) {
        const struct job *j = c->jobs[i];
        bool again = j->nparts > 1 && (j->row.ending == MU_END_NONE || mu_ctl_requeues(j));
        for (unsigned p = 0; p < j->nparts && again; p++)
            if (j->parts[p].share.node == (uint32_t)node && j->row.attempt && j->parts[p].phase < MU_PHASE_GONE &&
                !j->parts[p].line_lost && j->parts[p].killed_at && j->parts[p].killed_at < c->pool.v[node].lease_end)
                return true;
    }
    return false;
}

static void declare(struct mu_ctl *c, int node)
{
    struct mu_node *n = at(c, node);
    char why[520];

    n->declare_at = 0;
    n->state = MU_NODE_LOST;
    snprintf(n->reason, sizeof n->reason, n->silent ? "it fell silent" : "its agent did not come back");
    snprintf(why, sizeof why, "node %.200s is lost: %s", n->name, n->reason);
    mu_ctl_node_strike(c, node);
    mu_ctl_checks_failed(c, node);
    engine_later(c, n);
    mu_ctl_lost_node(c, node);
    for (unsigned i = 0; i < c->njobs; i++)
        mu_ctl_job_node_lost(c, c->jobs[i], node, why);
}

static void on_probed(struct mu_ctl *c, int node, bool answers)
{
    struct mu_node *n = at(c, node);

    if (n->state != MU_NODE_AWAY || n->silent || !n->declare_at)
        return;
    if (answers) { /* it lives, so keepers there bring the agent back; or its processes are dying one by one */
        bool nobody = !n->orphan && keeper_dead(c, node) && empty(c, node);
        if (nobody)
            n->declare_at = mu_ctl_node_due(c, n->lease_end);
        else if (n->declare_at <= n->lease_end + ORPHAN_NS)
            n->declare_at = mu_ctl_node_due(c, c->now + RETURN_NS);
        if (nobody && *n->target && !n->engine_tries)
            n->engine_at = mu_ctl_node_due(c, c->now);
        n->probe_at = mu_ctl_node_due(c, c->now + PROBE_EVERY);
        return;
    }
    if (empty(c, node)) {
        declare(c, node);
        return;
    }
    n->declare_at = mu_ctl_node_due(c, n->lease_end);
    if (!n->orphan)
        judge(c, node);
}

void mu_ctl_node_event(struct mu_ctl *c, const struct mu_ev *ev)
{
    int node = -1;

    if (ev->kind == MU_EV_SUSPECT) {
        if ((node = mu_ctl_node_at(c, ev->conn)) < 0)
            return;
        at(c, node)->suspect = ev->status != 0;
        if (!ev->status)
            mu_ctl_job_node_heard(c, node);
        return;
    }
    if (!ev->node || (node = mu_pool_find(&c->pool, ev->node)) < 0)
        return;
    struct mu_node *n = at(c, node);
    if (n->state == MU_NODE_UP)
        return;
    if (ev->kind == MU_EV_PROBED) {
        on_probed(c, node, !ev->status);
        return;
    }
    if (!ev->status) /* started; it joins, or is asked for again */ {
        n->engine_at = mu_ctl_node_due(c, c->now + ENGINE_EVERY_MAX);
        return;
    }
    snprintf(n->reason, sizeof n->reason, "%.190s", ev->text ? ev->text : "its agent cannot be started");
    if (n->state == MU_NODE_STARTING) {
        struct job *j = n->owner ? mu_ctl_find(c, n->owner) : NULL;
        if (j && mu_job_waits(j->row.state)) {
            mu_ctl_job_finish(c, j, MU_JOB_FAILED, 1, n->reason);
            return;
        }
        n->state = MU_NODE_LOST;
    }
    engine_later(c, n);
}

static void find_due(struct mu_ctl *c)
{
    c->nodes_due = UINT64_MAX;
    c->leaving = false;
    for (unsigned i = 0; i < c->pool.n; i++) {
        const struct mu_node *n = &c->pool.v[i];
        if (n->state == MU_NODE_NONE)
            continue;
        c->leaving = c->leaving || n->leaving;
        mu_ctl_node_due(c, n->declare_at);
        mu_ctl_node_due(c, n->engine_at);
        mu_ctl_node_due(c, n->probe_at);
        mu_ctl_node_due(c, n->quarantine_until);
        mu_ctl_node_due(c, mu_ctl_checks_due(n));
    }
}

void mu_ctl_nodes_tick(struct mu_ctl *c)
{
    mu_ctl_tree_tick(c);
    if (c->now < c->nodes_due && !c->leaving)
        return;
    for (unsigned i = 0; i < c->pool.n; i++) {
        struct mu_node *n = &c->pool.v[i];
        if (n->state == MU_NODE_NONE)
            continue;
        if (n->leaving && !n->conn && !mu_ctl_node_job(c, (int)i)) {
            if (!n->owner) /* what a job has brought another one may bring again */
                mu_ctl_out_leaves(c, (int)i);
            mu_pool_remove(&c->pool, i);
            continue;
        }
        mu_ctl_out_tick(c, (int)i);
        mu_ctl_checks_tick(c, (int)i);
        if (n->declare_at && c->now >= n->declare_at) {
            if (n->silent && link_doubtful(c)) {
                snprintf(n->reason, sizeof n->reason, "no node answers: this machine's own network is suspected");
                n->declare_at = c->now + HOLD_AGAIN;
            } else if (c->now < n->lease_end + RETURN_NS && may_hang(c, (int)i)) {
                n->declare_at = c->now + HOLD_AGAIN;
            } else {
                declare(c, (int)i);
                continue;
            }
        }
        if (n->probe_at && c->now >= n->probe_at) {
            n->probe_at = 0;
            if (n->state == MU_NODE_AWAY)
                ask_probe(c, n);
        }
        if (n->engine_at && c->now >= n->engine_at) {
            n->engine_at = 0;
            if (!owned_by_over(c, n->owner))
                mu_ctl_node_start(c, (int)i);
        }
    }
    find_due(c);
}

void mu_ctl_nodes_loaded(struct mu_ctl *c)
{
    for (unsigned i = 0; i < c->pool.n; i++) {
        struct mu_node *n = &c->pool.v[i];
        if (n->state != MU_NODE_AWAY || !n->remote || n->declare_at)
            continue;
        n->declare_at = n->lease_end = mu_ctl_node_due(c, c->now + MU_LOAD_NS);
        n->engine_at = mu_ctl_node_due(c, *n->target ? c->now + ENGINE_AFTER : 0);
    }
}

uint64_t mu_ctl_nodes_next(const struct mu_ctl *c)
{
    uint64_t next = mu_ctl_tree_next(c);

    return c->nodes_due < next ? c->nodes_due : next;
}

/* --- hosts that a job has named ------------------------------------------------------------------------------------
 */

const struct mu_hosts *mu_ctl_hosts(struct job *j)
{
    bool any = j->spec.hosts && *j->spec.hosts;

    return any && !j->named.n && mu_hosts_parse(j->spec.hosts, &j->named, NULL) ? NULL : &j->named;
}

/* Slurm's number of the allocation that a job's hosts are from; "": they are from none. */
static const char *allocation(const struct job *j)
{
    static const char name[] = "SLURM_JOB_ID=";

    for (char **e = j->spec.engine && !strcmp(j->spec.engine, "slurm") ? j->spec.engine_env : NULL; e && *e; e++)
        if (!strncmp(*e, name, sizeof name - 1))
            return *e + sizeof name - 1;
    return "";
}

static void busy(struct mu_ctl *c, const struct job *j, const char *host, uint64_t owner, char *why, size_t n)
{
    const struct job *other = mu_ctl_find(c, owner);
    const char *theirs = other ? allocation(other) : "";
    bool shared = *theirs && *allocation(j) && strcmp(theirs, allocation(j)) != 0;

    snprintf(why, n, "waiting for host %.100s: job %llu%s%.20s has it%s", host, (unsigned long long)owner,
             *theirs ? " of Slurm's allocation " : "", theirs,
             shared ? "; an allocation with a MUSTER_HOME of its own has a pool of its own" : "");
}

/* The node of a host: the pool's, or the job's own. -1: another job has it, or memory is out. */
static int own_node(struct mu_ctl *c, struct job *j, const struct mu_host *h, bool start, char *why, size_t n)
{
    int node = mu_pool_find(&c->pool, mu_host_name(h->name));

    if (node >= 0 && at(c, node)->owner && at(c, node)->owner != j->row.id) {
        busy(c, j, mu_host_name(h->name), at(c, node)->owner, why, n);
        return -1;
    }
    if (node >= 0)
        return node;
    node = mu_ctl_node_known(c, mu_host_name(h->name));
    if (node < 0 || !at(c, node)->remote)
        return node;
    at(c, node)->owner = j->row.id;
    at(c, node)->limit = (uint32_t)h->slots;
    snprintf(at(c, node)->target, sizeof at(c, node)->target, "%s", h->name);
    if (start) {
        at(c, node)->state = MU_NODE_STARTING;
        mu_ctl_node_start(c, node);
    }
    return node;
}

/* A job has all of its hosts or takes none: two might wait for what the other one has. Where they do nevertheless,
 * because of what agents say after a start of ours, the younger one gives way. */
static bool all_there(struct mu_ctl *c, struct job *j, const struct mu_hosts *hosts, char *why, size_t n)
{
    for (size_t i = 0; i < hosts->n; i++) {
        const char *name = mu_host_name(hosts->v[i].name);
        int node = mu_pool_find(&c->pool, name);
        uint64_t owner = node < 0 ? 0 : at(c, node)->owner;
        if (node < 0 || ((!owner || owner == j->row.id) && !at(c, node)->leaving))
            continue;
        const struct job *other = mu_ctl_find(c, owner);
        if (!owner || owner == j->row.id)
            snprintf(why, n, "waiting for host %.200s: it is just being let go of", name);
        else
            busy(c, j, name, owner, why, n);
        if (other && other->row.id < j->row.id && mu_job_waits(other->row.state))
            mu_ctl_hosts_leave(c, j->row.id);
        j->stuck_at = 0;
        return false;
    }
    return true;
}

int mu_ctl_hosts_ready(struct mu_ctl *c, struct job *j, char *why, size_t n)
{
    const struct mu_hosts *hosts = mu_ctl_hosts(j);
    bool taken = false;
    int rc = 1;

    if (!hosts) {
        snprintf(why, n, "its list of hosts cannot be read");
        return -1;
    }
    if (!all_there(c, j, hosts, why, n))
        return 0;
    for (size_t i = 0; i < hosts->n; i++) {
        char other[280];
        int node = own_node(c, j, &hosts->v[i], true, other, sizeof other);
        if (node >= 0 && at(c, node)->ready)
            continue;
        if (node < 0) {
            snprintf(why, n, "%s", other);
            taken = true;
        } else if (rc) {
            snprintf(why, n, "waiting for the agent on host %.200s%s%.150s", at(c, node)->name,
                     *at(c, node)->reason ? ": " : "", at(c, node)->reason);
        }
        rc = 0;
    }
    if (rc || taken) {
        j->stuck_at = 0;
    } else if (!j->stuck_at) {
        j->stuck_at = c->now + HOSTS_WAIT;
    } else if (c->now >= j->stuck_at) {
        size_t len = strlen(why);
        snprintf(why + len, n - len, "; not within a minute");
        rc = -1;
    }
    return rc;
}

/* After a start: its hosts are known again, and have a moment to be heard of. */
void mu_ctl_hosts_load(struct mu_ctl *c, struct job *j)
{
    const struct mu_hosts *hosts = mu_ctl_hosts(j);
    char why[280];

    for (size_t i = 0; hosts && i < hosts->n; i++)
        own_node(c, j, &hosts->v[i], false, why, sizeof why);
}

void mu_ctl_host_leaves(struct mu_ctl *c, int node)
{
    struct mu_node *n = at(c, node);

    if (n->leaving)
        return;
    if (!n->conn) {
        mu_pool_remove(&c->pool, (unsigned)node);
        return;
    }
    send_bye(c, n->conn, 0);
    n->leaving = c->leaving = true;
}

void mu_ctl_hosts_leave(struct mu_ctl *c, uint64_t job)
{
    for (unsigned i = 0; i < c->pool.n; i++)
        if (c->pool.v[i].state != MU_NODE_NONE && c->pool.v[i].owner == job)
            mu_ctl_host_leaves(c, (int)i);
}
