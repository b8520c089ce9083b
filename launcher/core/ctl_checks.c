/* Health checks of nodes: when agents are asked for them, and what their answers lead to, by struct mu_check_settings.
 * A check that does not come back lets a job wait no longer than ANSWER_NS. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launcher/core/ctl_priv.h"
#include "runtime/base/clean.h"
#include "runtime/base/clock.h"
#include "runtime/base/hosts.h"
#include "runtime/base/str.h"
#include "runtime/wire/checked.h"

#define ANSWER_NS (MU_CHECK_ALL_NS + 10 * MU_SEC)
#define AFTER_NS (5 * MU_SEC) /* after a failure: what restarts is not to be held up */
#define BY "health check "

static const struct mu_check_settings *settings(const struct mu_ctl *c)
{
    return c->cfg.checks ? c->cfg.checks : &c->check_defaults;
}

/* --- questions -----------------------------------------------------------------------------------------------------
 */

/* Directories of jobs that have something there. */
static char **dirs_on(struct mu_ctl *c, int node)
{
    char **dirs = NULL;

    for (unsigned i = 0; i < c->njobs; i++) {
        const struct job *j = c->jobs[i];
        const char *dir = j->spec.ckpt_dir && *j->spec.ckpt_dir ? j->spec.ckpt_dir : NULL;
        for (unsigned p = 0; p < j->nparts && dir; p++)
            if (j->parts[p].share.node == (uint32_t)node && mu_strv_append(&dirs, dir))
                c->acts->failed = true;
    }
    return dirs;
}

static void ask(struct mu_ctl *c, int node, uint64_t id)
{
    const struct mu_check_settings *s = settings(c);
    struct mu_node *n = &c->pool.v[node];
    char **off = NULL;

    if (!n->ready || n->leaving)
        return;
    for (unsigned i = 0; i < s->nactions; i++)
        if (mu_check_action_of(s, s->actions[i].name) == MU_CHECK_OFF && mu_strv_append(&off, s->actions[i].name))
            c->acts->failed = true;
    struct mu_m_check m = {.id = id,
                           .limit_ns = s->limit_ns,
                           .disk_free = s->disk_free,
                           .memory_permille = s->memory_percent * 10,
                           .off = off,
                           .dirs = dirs_on(c, node)};
    mu_acts_send(c->acts, n->conn, MU_MSG_check, &m);
    mu_strv_free(off);
    mu_strv_free(m.dirs);
    n->check_id = id;
    n->check_asked = c->now;
    n->check_wall = c->wall;
    mu_ctl_node_due(c, n->check_asked + ANSWER_NS);
}

/* Numbers grow from one controller to the next, and a double has room for them. */
static uint64_t next_id(struct mu_ctl *c)
{
    return c->check_id = c->check_id < c->wall / 1000 ? c->wall / 1000 : c->check_id + 1;
}

void mu_ctl_checks_asked(struct mu_ctl *c, mu_conn client, const char *text)
{
    struct mu_hosts hosts = {0};
    char why[400];

    if (text && *text && !mu_ctl_read_hosts(c, client, text, &hosts))
        return;
    for (size_t i = 0; i < hosts.n; i++) {
        if (mu_pool_find(&c->pool, mu_host_name(hosts.v[i].name)) >= 0)
            continue;
        snprintf(why, sizeof why, "host %.200s is not in the pool; `muster nodes` lists it",
                 mu_host_name(hosts.v[i].name));
        mu_ctl_refuse(c, client, MUSTER_EARG, why);
        mu_hosts_free(&hosts);
        return;
    }
    uint64_t id = next_id(c);
    for (unsigned i = 0; i < c->pool.n && !hosts.n; i++)
        if (c->pool.v[i].state != MU_NODE_NONE)
            ask(c, (int)i, id);
    for (size_t i = 0; i < hosts.n; i++)
        ask(c, mu_pool_find(&c->pool, mu_host_name(hosts.v[i].name)), id);
    mu_acts_send(c->acts, client, MU_MSG_submitted, &(struct mu_m_submitted){.job = id});
    mu_hosts_free(&hosts);
}

/* By the clock; not all nodes at once. */
static void plan(struct mu_ctl *c, struct mu_node *n, bool first)
{
    uint64_t every = c->cfg.checks ? c->cfg.checks->every_ns : 0;
    uint64_t part = every / 1000 * (1 + mu_str_hash(n->name, strlen(n->name)) % 1000);

    n->check_due = every ? mu_ctl_node_due(c, c->now + (first ? part : every)) : 0;
}

void mu_ctl_checks_ready(struct mu_ctl *c, int node)
{
    struct mu_node *n = &c->pool.v[node];

    if (!n->idle_since)
        n->idle_since = c->now;
    n->check_id = 0; /* the answer may have been lost with the connection */
    if (!n->check_due)
        plan(c, n, true);
    if (n->check_wanted || n->check_again)
        ask(c, node, next_id(c));
}

void mu_ctl_checks_failed(struct mu_ctl *c, int node)
{
    struct mu_node *n = &c->pool.v[node];

    if (!c->cfg.checks || !c->cfg.checks->after_failure)
        return;
    n->check_wanted = true;
    if (!n->check_due || n->check_due > c->now + AFTER_NS)
        n->check_due = mu_ctl_node_due(c, c->now + AFTER_NS);
}

static bool due_before_job(const struct mu_ctl *c, const struct mu_node *n)
{
    uint64_t idle = c->cfg.checks ? c->cfg.checks->idle_ns : 0;

    return n->check_wanted || (idle && !n->used && c->now - n->idle_since >= idle && c->now - n->checked_at >= idle);
}

bool mu_ctl_checks_passed(struct mu_ctl *c, const struct mu_share *shares, unsigned n, char *why, size_t whylen)
{
    unsigned open = 0;
    uint64_t id = 0;

    for (unsigned i = 0; i < n; i++) {
        struct mu_node *node = &c->pool.v[shares[i].node];
        if (!due_before_job(c, node))
            continue;
        if (!node->check_id)
            ask(c, (int)shares[i].node, id ? id : (id = next_id(c)));
        if (!open++)
            snprintf(why, whylen, "waiting for the health check of node %.200s", node->name);
    }
    return !open;
}

/* --- answers -------------------------------------------------------------------------------------------------------
 */

/* The agent's clock against ours. It was asked after check_wall and has answered before now: its clock is off by no
 * less than what remains. */
static bool add_clock(struct mu_ctl *c, const struct mu_node *n, struct mu_m_checked *m)
{
    const struct mu_check_settings *s = settings(c);
    int64_t most = (int64_t)(m->got_wall - n->check_wall), least = (int64_t)(m->sent_wall - c->wall);
    int64_t off = least > 0 ? least : most < 0 ? most : 0;
    uint64_t size = (uint64_t)(off < 0 ? -off : off);
    char text[200], shown[32];

    if (!n->remote || mu_check_action_of(s, "clock") == MU_CHECK_OFF)
        return true;
    if (size >= s->clock_ns)
        snprintf(text, sizeof text, "it is %s %s the controller's", mu_str_fmt_duration(shown, sizeof shown, size),
                 off > 0 ? "ahead of" : "behind");
    else
        snprintf(text, sizeof text, "it agrees with the controller's to %s",
                 mu_str_fmt_duration(shown, sizeof shown, s->clock_ns));
    return mu_checked_add(m, "clock", size >= s->clock_ns ? MU_LEVEL_FAIL : MU_LEVEL_OK, text, 0);
}

static void tell(struct mu_ctl *c, int node, const char *was)
{
    const struct mu_node *n = &c->pool.v[node];

    for (unsigned i = 0; i < c->njobs && *n->unwell && strcmp(was, n->unwell) != 0; i++)
        for (unsigned p = 0; p < c->jobs[i]->nparts; p++)
            if (c->jobs[i]->parts[p].share.node == (uint32_t)node && !mu_job_over(c->jobs[i]->row.state))
                mu_ctl_event(c, c->jobs[i], "unwell", -1, n->name, "%s", n->unwell);
}

static void take_out(struct mu_ctl *c, int node, uint32_t action, const char *check, const char *why)
{
    struct mu_node *n = &c->pool.v[node];
    char by[sizeof n->out_by];
    bool went = true;

    snprintf(by, sizeof by, BY "%.40s", check);
    if (action == MU_CHECK_DRAIN)
        went = mu_ctl_out_drain(c, node, by, why);
    else if (!n->quarantine_until || n->check_again)
        went = mu_ctl_out_quarantine(c, node, by, why);
    if (went)
        return;
    size_t len = strlen(n->unwell);
    snprintf(n->unwell + len, sizeof n->unwell - len, "; it stays, as too many nodes are out already");
}

void mu_ctl_checks_fault(struct mu_ctl *c, int node, const char *check, const char *why)
{
    uint32_t action = mu_check_action_of(settings(c), check);
    struct mu_node *n = &c->pool.v[node];

    if (action == MU_CHECK_OFF || mu_pool_out(n))
        return;
    snprintf(n->unwell, sizeof n->unwell, BY "%.60s: %.160s", check, why);
    if (action == MU_CHECK_DRAIN || (action == MU_CHECK_QUARANTINE && c->cfg.cooldown_ns))
        take_out(c, node, action, check, why);
    if (mu_pool_out(n)) /* which says why, as long as it is out */
        n->unwell[0] = 0;
}

/* What the worst of them leads to. */
static void decide(struct mu_ctl *c, int node)
{
    const struct mu_check_settings *s = settings(c);
    struct mu_node *n = &c->pool.v[node];
    const struct mu_m_checked *m = n->checked;
    uint32_t worst = MU_CHECK_OFF, row = 0, level = MU_LEVEL_OK;
    char was[sizeof n->unwell];

    memcpy(was, n->unwell, sizeof was);
    n->unwell[0] = 0;
    for (uint32_t i = 0; i < m->levels.n; i++) {
        uint32_t action = mu_check_action_of(s, m->names[i]);
        if (m->levels.v[i] < MU_LEVEL_WARN || action == MU_CHECK_OFF)
            continue;
        if (m->levels.v[i] == MU_LEVEL_WARN || (action == MU_CHECK_QUARANTINE && !c->cfg.cooldown_ns))
            action = MU_CHECK_TELL;
        if (action < worst || (action == worst && m->levels.v[i] <= level))
            continue;
        worst = action;
        level = m->levels.v[i];
        row = i;
    }
    if (worst)
        snprintf(n->unwell, sizeof n->unwell, BY "%.60s: %.160s", m->names[row], m->reasons[row]);
    if (worst > MU_CHECK_TELL)
        take_out(c, node, worst, m->names[row], m->reasons[row]);
    else if (n->check_again)
        n->quarantine_until = mu_ctl_node_due(c, c->now); /* it is over */
    n->check_again = false;
    tell(c, node, was);
}

static void over(struct mu_ctl *c, struct mu_node *n)
{
    n->check_id = 0;
    n->check_wanted = false;
    n->checked_at = c->now ? c->now : 1;
    plan(c, n, false);
}

static bool whole(const struct mu_m_checked *m)
{
    size_t rows = mu_strv_len(m->names);

    return rows == mu_strv_len(m->reasons) && rows == m->levels.n && rows == m->took_ms.n;
}

void mu_ctl_checked(struct mu_ctl *c, int node, const struct mu_m_checked *m)
{
    struct mu_node *n = &c->pool.v[node];
    struct mu_m_checked *copy;

    if (!n->check_id || m->id != n->check_id || !whole(m))
        return;
    copy = calloc(1, sizeof *copy);
    if (!copy || mu_msg_copy(MU_MSG_checked, copy, m)) {
        free(copy);
        c->acts->failed = true;
        return;
    }
    mu_pool_uncheck(n);
    n->checked = copy;
    n->checked_wall = c->wall;
    bool ok = add_clock(c, n, copy);
    over(c, n);
    if (ok) {
        decide(c, node);
    } else { /* its rows may be of different lengths */
        mu_pool_uncheck(n);
        c->acts->failed = true;
    }
}

/* --- time ----------------------------------------------------------------------------------------------------------
 */

bool mu_ctl_checks_before_end(struct mu_ctl *c, int node)
{
    struct mu_node *n = &c->pool.v[node];

    if (strncmp(n->out_by, BY, sizeof BY - 1) != 0 || !n->ready || n->check_again ||
        (n->checked_at && n->checked_at >= n->quarantine_until))
        return false;
    n->check_again = true;
    n->quarantine_until = mu_ctl_node_due(c, c->now + ANSWER_NS + MU_SEC);
    n->out_until_wall = c->wall + ANSWER_NS + MU_SEC;
    if (!n->check_id)
        ask(c, node, next_id(c));
    return true;
}

void mu_ctl_checks_tick(struct mu_ctl *c, int node)
{
    struct mu_node *n = &c->pool.v[node];

    if (n->check_id && c->now >= n->check_asked + ANSWER_NS) {
        over(c, n);
        snprintf(n->unwell, sizeof n->unwell, "its health checks have not come back");
        if (n->check_again)
            take_out(c, node, MU_CHECK_QUARANTINE, "answer", n->unwell);
        n->check_again = false;
    }
    if (n->check_due && c->now >= n->check_due) {
        plan(c, n, false);
        if (!n->check_id)
            ask(c, node, next_id(c));
    }
}

uint64_t mu_ctl_checks_due(const struct mu_node *n)
{
    uint64_t answer = n->check_id ? n->check_asked + ANSWER_NS : 0;

    return answer && (!n->check_due || answer < n->check_due) ? answer : n->check_due;
}
