/* Jobs and attempts that the store has lost: their agents and keepers know them. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launcher/core/ctl_priv.h"
#include "launcher/core/ctl_queue.h"
#include "runtime/base/clock.h"

#define DOUBT_NS                                                                                                       \
    (8 * MU_SEC) /* so long nothing is started: what waits may be running on a node that is still to come */
#define RECALL_NS (2 * MU_SEC)

void mu_ctl_lost_begin(struct mu_ctl *c)
{
    if (!c->cfg.losses && !c->cfg.doubtful)
        return;
    c->doubt_until = c->now + DOUBT_NS;
    for (unsigned i = 0; i < c->njobs; i++) {
        struct job *j = c->jobs[i];
        if (j->row.skip)
            mu_ctl_put(c, j, true);
        if (j->retry_at)
            j->retry_at = c->doubt_until;
    }
}

void mu_ctl_lost_node(struct mu_ctl *c, int node)
{
    struct mu_node *n = &c->pool.v[node];

    if (c->cfg.lost_last && !c->doubt_until && n->state == MU_NODE_LOST && n->owner && !mu_ctl_find(c, n->owner))
        n->leaving = c->leaving = true;
}

/* All nodes that are known have said what they have: what was put off until then. */
void mu_ctl_lost_tick(struct mu_ctl *c)
{
    bool any = false, all = !c->recalls;

    if (!c->doubt_until)
        return;
    for (unsigned i = 0; i < c->pool.n; i++) {
        const struct mu_node *n = &c->pool.v[i];
        if (n->state == MU_NODE_NONE || n->state == MU_NODE_LOST)
            continue;
        any = any || n->ready;
        all = all && n->ready;
    }
    if (c->now < c->doubt_until && !(any && all && c->cfg.alone))
        return;
    c->doubt_until = 0;
    for (unsigned i = 0; i < c->pool.n; i++) {
        mu_ctl_lost_node(c, (int)i);
        if (c->pool.v[i].ready)
            mu_ctl_job_node_ready(c, (int)i);
    }
    for (unsigned i = 0; i < c->njobs; i++) {
        struct job *j = c->jobs[i];
        if (mu_job_waits(j->row.state) && !mu_ctl_queue_may(c, j))
            mu_ctl_hosts_leave(c, j->row.id);
        mu_ctl_job_decide(c, j);
    }
    if (any)
        mu_ctl_serve_waiting(c);
}

bool mu_ctl_lost_may(struct mu_ctl *c, uint64_t job)
{
    return job > c->cfg.lost_above && job <= c->cfg.lost_last && !mu_ctl_find(c, job) && !MU_MUTANT(LOST_RELEASED);
}

static void recall(struct mu_ctl *c, int node, uint64_t job)
{
    c->recalls++;
    if (c->doubt_until && c->doubt_until < c->now + RECALL_NS)
        c->doubt_until = c->now + RECALL_NS;
    mu_acts_send(c->acts, c->pool.v[node].conn, MU_MSG_recall, &(struct mu_m_recall){.job = job});
}

static void note(struct mu_ctl *c, uint64_t job, uint32_t attempt)
{
    unsigned i = 0, n = c->nnewest < NEWEST_MAX ? c->nnewest : NEWEST_MAX;

    while (i < n && c->newest[i].job != job)
        i++;
    if (i == n) {
        i = c->nnewest++ % NEWEST_MAX;
        c->newest[i].job = job;
        c->newest[i].attempt = 0;
    }
    c->newest[i].attempt = attempt > c->newest[i].attempt ? attempt : c->newest[i].attempt;
}

static uint32_t newest(const struct mu_ctl *c, uint64_t job)
{
    for (unsigned i = 0; i < c->nnewest && i < NEWEST_MAX; i++)
        if (c->newest[i].job == job)
            return c->newest[i].attempt;
    return 0;
}

/* A keeper that has not begun anything may be about to: its agent has the start. */
bool mu_ctl_lost_ask(struct mu_ctl *c, int node, const struct mu_m_report *m)
{
    struct job *j = mu_ctl_find(c, m->job);
    bool begun = m->attempt || (j && mu_ctl_part(c, j, node));

    if (j ? !c->cfg.lost_last || mu_job_over(j->row.state) || (begun && m->attempt <= j->row.attempt) ||
                MU_MUTANT(LOST_RELEASED)
          : !mu_ctl_lost_may(c, m->job))
        return false;
    if (m->attempt)
        note(c, m->job, m->attempt);
    if (j && m->attempt > j->row.attempt) {
        j->asked_plus1 = (uint32_t)node + 1;
        j->asked_until = c->now + RECALL_NS;
    }
    recall(c, node, m->job);
    return true;
}

/* Who is away when it is asked says more when it is back, or is lost. */
bool mu_ctl_lost_waits(struct mu_ctl *c, struct job *j)
{
    const struct mu_node *n = j->asked_plus1 ? &c->pool.v[j->asked_plus1 - 1] : NULL;

    if (n && (n->state == MU_NODE_NONE || n->state == MU_NODE_LOST || (n->ready && !j->asked_until)))
        j->asked_plus1 = 0;
    return j->asked_plus1 != 0;
}

/* There was a newer attempt than the present one, so this one had been given up: what its ranks come to does not
 * count, and no later one may have the newer one's number. */
static void outdated(struct mu_ctl *c, struct job *j)
{
    uint32_t attempt = newest(c, j->row.id);
    char why[80];

    if (attempt <= j->row.attempt || mu_job_over(j->row.state))
        return;
    if (j->row.skip < attempt - j->row.attempt) {
        j->row.skip = attempt - j->row.attempt;
        mu_ctl_put(c, j, true);
    }
    if (j->outdated || mu_job_waits(j->row.state) || j->retry_at || !j->nparts)
        return;
    j->outdated = true;
    snprintf(why, sizeof why, "attempt %u has followed this one", attempt);
    mu_ctl_kill_parts(c, j, SIGKILL, 0, why);
    mu_ctl_job_decide(c, j);
}

/* An agent that a job has brought, of which nothing else is known. */
void mu_ctl_lost_owner(struct mu_ctl *c, int node)
{
    uint64_t owner = c->pool.v[node].owner;

    if (owner && mu_ctl_lost_may(c, owner))
        recall(c, node, owner);
}

static bool has_node(const struct mu_m_jobrow *row, const char *name)
{
    for (char **v = row->nodes; v && *v; v++)
        if (!strcmp(*v, name))
            return true;
    return false;
}

/* What is known of it is older. The nodes of that may have something of it still, or have of the newest what nobody
 * knows. */
static mu_conn forget_old(struct mu_ctl *c, struct job *j, int node)
{
    mu_conn client = j->client;
    unsigned i = 0;

    for (; i < j->nparts; i++) {
        int other = (int)j->parts[i].share.node;
        if (other != node && c->pool.v[other].conn)
            recall(c, other, j->row.id);
    }
    i = 0;
    mu_ctl_job_give_back(c, j);
    mu_fences_end(c->fences, j->row.id);
    while (c->jobs[i] != j)
        i++;
    memmove(&c->jobs[i], &c->jobs[i + 1], (--c->njobs - i) * sizeof c->jobs[0]);
    mu_ctl_job_free(j);
    return client;
}

/* Nodes of it that were given up before it was known. */
static void given_up(struct mu_ctl *c, uint64_t job)
{
    struct job *j;
    char why[520];

    for (unsigned i = 0; (j = mu_ctl_find(c, job)) && i < j->nparts; i++) {
        const struct mu_node *n = &c->pool.v[j->parts[i].share.node];
        if (n->state != MU_NODE_LOST || j->parts[i].phase >= MU_PHASE_GONE)
            continue;
        snprintf(why, sizeof why, "node %.200s is lost: %s", n->name, n->reason);
        mu_ctl_job_node_lost(c, j, (int)j->parts[i].share.node, why);
    }
}

static void adopt(struct mu_ctl *c, int node, const struct mu_m_jobrow *row)
{
    struct job *j = mu_ctl_find(c, row->id);
    mu_conn client = j ? forget_old(c, j, node) : 0;

    mu_ctl_load(c, row);
    if (!(j = mu_ctl_find(c, row->id)))
        return;
    if (client) {
        j->client = client;
        j->client_until = 0;
    }
    struct part *p = mu_ctl_part(c, j, node);
    if (p)
        p->confirmed = true; /* its report is under way */
    j->row.skip = j->row.skip > MU_ATTEMPT_SKIP ? j->row.skip : MU_ATTEMPT_SKIP;
    mu_ctl_nodes_loaded(c);
    mu_ctl_put(c, j, true);
    mu_ctl_event(c, j, "adopted", -1, c->pool.v[node].name, "the job store had lost attempt %u, which goes on",
                 j->row.attempt);
    for (unsigned i = 0; i < j->nparts; i++) {
        int other = (int)j->parts[i].share.node;
        if (other != node && c->pool.v[other].conn)
            recall(c, other, row->id);
    }
    outdated(c, j);
    given_up(c, row->id);
    if (c->doubt_until)
        mu_ctl_serve_waiting(c);
}

static void release(struct mu_ctl *c, int node, uint64_t job)
{
    c->pool.v[node].stale = true;
    mu_acts_send(c->acts, c->pool.v[node].conn, MU_MSG_release, &(struct mu_m_release){.job = job});
}

/* The keeper's report comes behind it. */
void mu_ctl_lost_recalled(struct mu_ctl *c, int node, const struct mu_m_recalled *m)
{
    struct job *j = mu_ctl_find(c, m->job);
    struct part *p = j ? mu_ctl_part(c, j, node) : NULL;
    struct mu_m_jobrow row = {0};
    bool owned = !j && c->pool.v[node].owner == m->job;

    c->recalls -= c->recalls > 0;
    if (j && j->asked_plus1 == (uint32_t)node + 1)
        j->asked_plus1 = 0;
    if (!c->cfg.lost_last)
        return;
    if (!m->row.len || mu_msg_unpack(&m->row, MU_MSG_jobrow, &row, NULL)) {
        if (p && (!p->confirmed || newest(c, m->job) > j->row.attempt) && c->pool.v[node].ready)
            mu_ctl_job_keeper_none(c, j, p);
        else if (!p)
            release(c, node, m->job);
        if (j)
            outdated(c, j);
        if (owned) /* others of that job may know more */
            mu_ctl_host_leaves(c, node);
        return;
    }
    if (!row.spec.len && m->spec.len && (row.spec.data = malloc(m->spec.len))) {
        memcpy(row.spec.data, m->spec.data, m->spec.len);
        row.spec.len = m->spec.len;
    }
    if (row.id == m->job && row.attempt == m->attempt && has_node(&row, c->pool.v[node].name) &&
        (j ? !mu_job_over(j->row.state) && row.attempt > j->row.attempt : mu_ctl_lost_may(c, row.id)))
        adopt(c, node, &row);
    else if (!p)
        release(c, node, m->job);
    mu_msg_free_body(MU_MSG_jobrow, &row);
}
