#include "runtime/agent/core.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/agent/core_priv.h"
#include "runtime/base/clock.h"
#include "runtime/base/str.h"

#define LEASE_EVERY (90 * MU_MS) /* keepers are told of a longer lease so often */

struct mu_agent *mu_agent_new(const struct mu_agent_config *cfg)
{
    struct mu_agent *a = calloc(1, sizeof *a);

    if (a)
        a->cfg = *cfg;
    return a;
}

void mu_agent_drop(struct mu_agent *a, struct keeper *k)
{
    mu_msg_free(&k->start);
    mu_msg_free(&k->report);
    *k = a->v[--a->n];
}

void mu_agent_free(struct mu_agent *a)
{
    if (!a)
        return;
    while (a->n)
        mu_agent_drop(a, &a->v[0]);
    free(a->v);
    free(a->conns);
    mu_msg_free(&a->check.next);
    free(a);
}

void mu_agent_set_plan(struct mu_agent *a, mu_agent_plan_fn plan, void *arg)
{
    a->plan = plan;
    a->plan_arg = arg;
}

void mu_agent_set_addr(struct mu_agent *a, const char *addr, uint32_t port)
{
    snprintf(a->addr, sizeof a->addr, "%s", addr);
    a->port = port;
}

unsigned mu_agent_keepers(const struct mu_agent *a)
{
    return a->n;
}

bool mu_agent_abandoned(const struct mu_agent *a)
{
    return !a->ctl_up && (a->n || (a->nctl && !a->bye));
}

/* Let go of by the controller, and gone. */
void mu_agent_forget(struct mu_agent *a, struct keeper *k)
{
    mu_acts_add(a->acts, MU_ACT_FORGET)->job = k->job;
    mu_agent_drop(a, k);
}

struct keeper *mu_agent_find(struct mu_agent *a, uint64_t job)
{
    for (unsigned i = 0; i < a->n; i++)
        if (a->v[i].job == job)
            return &a->v[i];
    return NULL;
}

struct keeper *mu_agent_add(struct mu_agent *a, uint64_t job)
{
    if (a->n == a->cap) {
        unsigned cap = a->cap ? a->cap * 2 : 8;
        struct keeper *v = realloc(a->v, cap * sizeof *v);
        if (!v) {
            a->acts->failed = true;
            return NULL;
        }
        a->v = v;
        a->cap = cap;
    }
    struct keeper *k = &a->v[a->n++];
    memset(k, 0, sizeof *k);
    k->job = job;
    return k;
}

void mu_agent_to_ctl(struct mu_agent *a, enum mu_msg_type type, const void *body)
{
    if (a->ctl_up && a->told)
        mu_acts_send(a->acts, MU_AGENT_CTL, type, body);
}

/* Which there are, and again whenever one has gone for good. */
void mu_agent_tell_count(struct mu_agent *a)
{
    struct mu_m_agent_ready ready = {.keepers = a->n};
    char number[24];

    for (unsigned i = 0; i < a->n; i++) {
        snprintf(number, sizeof number, "%llu", (unsigned long long)a->v[i].job);
        if (mu_strv_append(&ready.jobs, number))
            a->acts->failed = true;
    }
    mu_agent_to_ctl(a, MU_MSG_agent_ready, &ready);
    mu_strv_free(ready.jobs);
}

static bool inventory_complete(const struct mu_agent *a)
{
    for (unsigned i = 0; i < a->n; i++)
        if (a->v[i].state == K_FOUND || a->v[i].state == K_CLEANING)
            return false;
    return a->loaded;
}

static void tell_all(struct mu_agent *a)
{
    if (!a->ctl_up || !a->welcome || a->told || !inventory_complete(a))
        return;
    a->told = true;
    a->told_at = a->now;
    struct mu_m_agent me = {.node = (char *)(uintptr_t)a->cfg.node,
                            .slots = a->cfg.slots,
                            .pus = a->cfg.pus,
                            .numa = a->cfg.numa,
                            .gpus = a->cfg.gpus,
                            .guids = a->cfg.guids,
                            .memory = a->cfg.memory,
                            .boot = (char *)(uintptr_t)a->cfg.boot,
                            .incarnation = a->cfg.incarnation,
                            .pid = a->cfg.pid,
                            .addr = a->addr,
                            .port = a->port,
                            .owner = a->cfg.owner,
                            .way = ++a->way,
                            .ctl = a->ctl};
    mu_agent_to_ctl(a, MU_MSG_agent, &me);
    for (unsigned i = 0; i < a->n; i++)
        if (a->v[i].report.type)
            mu_agent_to_ctl(a, MU_MSG_report, &a->v[i].report.report);
    mu_agent_tell_count(a);
}

/* To keepers of attempts on one node, too: they do not mind. */
void mu_agent_tell_lease(struct mu_agent *a, const struct keeper *k)
{
    if (a->cfg.joined && a->lease_until && k->conn)
        mu_acts_send(a->acts, k->conn, MU_MSG_lease, &(struct mu_m_lease){.until_ns = a->lease_until});
}

/* at: when we sent what the controller has heard. */
static void prolong(struct mu_agent *a, uint64_t at)
{
    if (at + MU_LEASE_NS <= a->lease_until)
        return;
    a->lease_until = at + MU_LEASE_NS;
    if (a->now < a->lease_told + LEASE_EVERY)
        return;
    a->lease_told = a->now;
    for (unsigned i = 0; i < a->n; i++)
        mu_agent_tell_lease(a, &a->v[i]);
}

void mu_agent_on_echo(struct mu_agent *a, uint64_t at)
{
    /* what we sent before we said who we are does not count for the controller, nor what others say for it before it
     * has heard that */
    if (!a->ctl_up || ((!a->told || !a->known || at < a->told_at) && !MU_MUTANT(KNOWN_EARLY)))
        return;
    a->heard = at > a->heard ? at : a->heard;
    prolong(a, at);
}

/* No controller is there to give us up. But the last one may have: what was to start by then does not any more. */
static void on_noctl(struct mu_agent *a, uint64_t at)
{
    for (unsigned i = 0; i < a->n && a->now >= a->lease_until; i++)
        a->v[i].start_conn = 0;
    prolong(a, at);
}

static void on_down(struct mu_agent *a, mu_conn conn)
{
    if (conn == MU_AGENT_CTL) {
        a->ctl_up = a->told = a->known = false;
        return;
    }
    for (unsigned i = 0; i < a->nconns; i++) {
        if (a->conns[i].id != conn)
            continue;
        struct keeper *k = mu_agent_find(a, a->conns[i].job);
        a->conns[i] = a->conns[--a->nconns];
        if (k && k->conn == conn)
            k->conn = 0; /* its death comes as MU_EV_CHILD; otherwise it connects again */
        return;
    }
}

/* When a keeper that was told to end something is given up. Of an attempt on several nodes nothing may outlive the
 * lease, and one that hangs does not look at it. */
static uint64_t due(const struct mu_agent *a, const struct keeper *k)
{
    if (!k->due)
        return UINT64_MAX;
    return a->cfg.joined && a->lease_until && !k->one_node && a->lease_until < k->due ? a->lease_until : k->due;
}

static void on_time(struct mu_agent *a)
{
    /* A found keeper that does not come: it hangs or is not ours to use. */
    if (a->adopt_until && a->now >= a->adopt_until) {
        a->adopt_until = 0;
        for (unsigned i = 0; i < a->n; i++)
            if (a->v[i].state == K_FOUND)
                mu_agent_clean(a, &a->v[i], "its keeper lives but does not connect");
    }
    for (unsigned i = 0; i < a->n; i++)
        if (a->now >= due(a, &a->v[i]))
            mu_agent_clean(a, &a->v[i],
                           a->v[i].released ? "its keeper does not end although the job has"
                                            : "its keeper hangs: it was told to kill its ranks and says nothing");
    bool lonely = !a->ctl_up && !a->n;
    if (!lonely)
        a->lonely_since = 0;
    else if (!a->lonely_since)
        a->lonely_since = a->now ? a->now : 1;
    if ((a->bye && !a->n) || (lonely && a->cfg.lonely_ns && a->now >= a->lonely_since + a->cfg.lonely_ns))
        mu_acts_add(a->acts, MU_ACT_EXIT);
}

void mu_agent_step(struct mu_agent *a, const struct mu_ev *ev, struct mu_acts *acts)
{
    a->now = ev->now;
    a->wall = ev->wall;
    a->acts = acts;
    switch (ev->kind) {
    case MU_EV_LOAD:
        mu_agent_on_load(a, ev);
        return;
    case MU_EV_LOADED:
        a->loaded = true;
        break;
    case MU_EV_UP:
        if (ev->conn == MU_AGENT_CTL) {
            struct mu_m_hello hello = {.proto = MU_WIRE_VERSION,
                                       .role = (char *)(uintptr_t) "agent",
                                       .node = (char *)(uintptr_t)a->cfg.node,
                                       .pid = a->cfg.pid,
                                       .incarnation = a->cfg.incarnation};
            a->ctl_up = true;
            a->nctl++;
            a->welcome = a->told = a->bye = a->known = false;
            a->heard = 0;
            /* late copies come on one connection only, and a controller with a new store counts from 1 again */
            memset(a->done, 0, sizeof a->done);
            mu_acts_send(acts, MU_AGENT_CTL, MU_MSG_hello, &hello);
        }
        break;
    case MU_EV_DOWN:
        on_down(a, ev->conn);
        break;
    case MU_EV_MSG:
        if (ev->conn == MU_AGENT_CTL)
            mu_agent_on_ctl(a, ev->msg);
        else
            mu_agent_on_keeper(a, ev->conn, ev->msg);
        break;
    case MU_EV_ECHO:
        mu_agent_on_echo(a, ev->at);
        break;
    case MU_EV_STAY:
        mu_agent_to_ctl(a, MU_MSG_stay, &(struct mu_m_stay){.tried = (char *)(uintptr_t)ev->node});
        break;
    case MU_EV_NOCTL:
        on_noctl(a, ev->at);
        break;
    case MU_EV_CHILD:
        mu_agent_on_child(a, ev);
        break;
    case MU_EV_SPAWNED:
        mu_agent_on_spawned(a, ev);
        break;
    case MU_EV_CLEANED:
        mu_agent_on_cleaned(a, ev);
        break;
    case MU_EV_CHECKED:
        mu_agent_on_checked(a, &ev->msg->checked);
        break;
    default:
        break;
    }
    on_time(a);
    tell_all(a);
}

uint64_t mu_agent_up_age(const struct mu_agent *a, uint64_t now)
{
    return a->ctl_up && a->known && a->heard && a->heard <= now ? now - a->heard : UINT64_MAX;
}

bool mu_agent_leased(const struct mu_agent *a)
{
    for (unsigned i = 0; i < a->n; i++)
        if (!a->v[i].one_node && a->v[i].state != K_LOST && a->v[i].state != K_SPENT)
            return true;
    return false;
}

uint64_t mu_agent_known(const struct mu_agent *a)
{
    return a->lease_until ? a->lease_until - MU_LEASE_NS : 0;
}

uint64_t mu_agent_next(const struct mu_agent *a)
{
    uint64_t next = a->adopt_until ? a->adopt_until : UINT64_MAX;

    if (a->lonely_since && a->cfg.lonely_ns && a->lonely_since + a->cfg.lonely_ns < next)
        next = a->lonely_since + a->cfg.lonely_ns;
    for (unsigned i = 0; i < a->n; i++)
        if (due(a, &a->v[i]) < next)
            next = due(a, &a->v[i]);
    return next;
}
