#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/clean.h"
#include "tests/sim/priv.h"

/* --- faults and the main loop --- */

static void fault(struct world *w)
{
    unsigned kind = w->deep && sim_chance(w, 500) ? 5 : (unsigned)sim_below(w, 7);

    w->stats.faults++;
    if (sim_chance(w, 150) && sim_freeze(w))
        kind = 9;
    if (kind == 9) {
        ; /* done */
    } else if (kind == 0 && w->ctl_alive) {
        sim_ctl_crash(w);
    } else if (kind == 1) {
        unsigned n = (unsigned)sim_below(w, w->nall);
        if (w->node[n].alive)
            sim_agent_crash(w, n);
    } else if (kind >= 5) {
        sim_host_fault(w);
    } else if (kind == 2 && w->nkeepers) {
        unsigned i = (unsigned)sim_below(w, w->nkeepers);
        if (w->keeper[i].alive)
            sim_keeper_gone(w, i, true);
    } else if (kind == 3 && w->nkeepers) {
        unsigned i = (unsigned)sim_below(w, w->nkeepers);
        for (uint32_t r = 0; r < MAX_RANKS; r++)
            if (w->keeper[i].alive && w->keeper[i].spawned && w->keeper[i].live[r] && sim_chance(w, 500))
                sim_end_rank(w, i, r, 0, SIGKILL);
    } else {
        uint32_t c = (uint32_t)sim_below(w, w->nnet + 2);
        for (uint32_t i = 0; i < w->nnet + 2; i++, c = (c + 1) % (w->nnet + 2))
            if (w->net[c].open && (w->net[c].kind[0] != KEEPER || w->net[c].kind[1] != CTL)) { /* a line never does */
                sim_hang_up(w, c);
                break;
            }
    }
    uint64_t t = w->now + sim_below(w, 2 * MU_SEC);
    if (t < w->until_faults)
        sim_at(w, t, FAULT);
}

/* Where keepers hang: when they are to end their ranks or themselves. */
static void maybe_hang(struct world *w, uint32_t who, const struct mu_msg *m)
{
    const struct mu_m_report *r = mu_keeper_report(w->keeper[who].core);
    bool ends = m->type == MU_MSG_kill && (m->kill.signo == SIGKILL || m->kill.grace_ns) &&
                m->kill.attempt >= r->attempt && r->phase < MU_PHASE_GONE && !m->kill.rank_plus1;

    if ((!ends && m->type != MU_MSG_release) || !w->crashy || w->now >= w->until_faults || !sim_chance(w, 40))
        return;
    sim_trace(w, "HANG keeper %u of job %llu", who, (unsigned long long)w->keeper[who].job);
    w->keeper[who].hung = true;
    w->stats.faults++;
    if (sim_chance(w, 200))
        sim_at(w, w->now + sim_below(w, MU_SEC), FORSAKEN)->who = w->keeper[who].node;
}

static void deliver(struct world *w, struct event *e)
{
    struct net *n = &w->net[e->conn % MAX_CONNS];
    struct mu_msg m;

    if (!n->open && !n->ended[e->dir] && sim_chance(w, 300))
        n->ended[e->dir] = true; /* this one and what follows it are lost with the connection */
    if (n->ended[e->dir] || (e->status && e->index != n->begun)) /* copies do not come on the next way */
        return;
    uint32_t who = n->who[e->dir];
    if (mu_msg_decode(e->frame, e->len, &m, NULL))
        return;
    struct mu_ev ev = {.kind = MU_EV_MSG, .conn = e->conn, .msg = &m};
    switch (n->kind[e->dir]) {
    case CTL:
        if (!w->ctl_alive || w->ctl_gen != n->gen[e->dir])
            break;
        if (m.type == MU_MSG_relay)
            sim_tree_ctl_take(w, e->conn, &m.relay);
        else
            sim_ctl_step(w, &ev);
        break;
    case AGENT:
        if (!w->node[who].alive || w->node[who].gen != n->gen[e->dir])
            break;
        if (e->dir == 0 && w->node[who].conn == e->conn)
            sim_tree_from_above(w, who, &m, n->kind[1] == AGENT);
        else if (e->dir && n->kind[0] == AGENT)
            sim_tree_from_below(w, who, e->conn, &m, e);
        else if (e->dir)
            sim_agent_step(w, who, &ev);
        break;
    case KEEPER:
        if (w->keeper[who].alive && w->keeper[who].gen == n->gen[e->dir] && w->keeper[who].conn == e->conn) {
            ev.conn = MU_KEEPER_AGENT;
            maybe_hang(w, who, &m);
            sim_keeper_step(w, who, &ev);
        }
        break;
    case CLIENT:
        sim_client_msg(w, who, &m);
        break;
    case STREAM:
        break;
    }
    mu_msg_free(&m);
}

static void down(struct world *w, struct event *e)
{
    struct net *n = &w->net[e->conn % MAX_CONNS];
    uint32_t who = n->who[e->dir];
    struct mu_ev ev = {.kind = MU_EV_DOWN, .conn = e->conn, .status = e->status};
    struct event *d;

    n->ended[e->dir] = true;
    switch (n->kind[e->dir]) {
    case CTL:
        if (!w->ctl_alive || w->ctl_gen != n->gen[e->dir])
            break;
        sim_ctl_step(w, &ev);
        if (w->ctl_alive && w->ctl_gen == n->gen[e->dir])
            sim_tree_ctl_lost(w, e->conn, e->status);
        break;
    case AGENT:
        if (!w->node[who].alive || w->node[who].gen != n->gen[e->dir])
            break;
        if (e->dir && n->kind[0] == AGENT) {
            mu_tree_child_gone(w->node[who].tree, e->conn, e->status, e->status == MU_DOWN_SILENT ? MU_SILENT_NS : 0);
            break;
        }
        if (e->dir == 0) {
            if (w->node[who].conn != e->conn)
                break;
            ev.conn = MU_AGENT_CTL;
            sim_tree_lost(w, who);
            w->node[who].conn = 0;
            d = sim_at(w, w->now + 50 * MU_MS, AGENT_DIAL);
            d->who = who;
            d->gen = w->node[who].gen;
        }
        sim_agent_step(w, who, &ev);
        break;
    case KEEPER:
        if (w->keeper[who].alive && w->keeper[who].gen == n->gen[e->dir] && w->keeper[who].line == e->conn) {
            w->keeper[who].line = 0;
            d = sim_at(w, w->now + sim_below(w, 300 * MU_MS), LINE_DIAL);
            d->who = who;
            d->gen = w->keeper[who].gen;
        }
        if (!w->keeper[who].alive || w->keeper[who].gen != n->gen[e->dir] || w->keeper[who].conn != e->conn)
            break;
        w->keeper[who].conn = 0;
        ev.conn = MU_KEEPER_AGENT;
        sim_keeper_step(w, who, &ev);
        d = sim_at(w, w->now + 50 * MU_MS, KEEPER_DIAL);
        d->who = who;
        d->gen = w->keeper[who].gen;
        break;
    case CLIENT:
        if (w->job[who].conn == e->conn) {
            w->job[who].conn = 0;
            if (w->job[who].foreground || !w->job[who].acked)
                sim_at(w, w->now + sim_below(w, MU_SEC), CLIENT_DIAL)->who = who;
        }
        break;
    case STREAM:
        break;
    }
}

static void rank_end(struct world *w, struct event *e)
{
    struct keeper *k = &w->keeper[e->who];
    struct truth *t = sim_truth_of(w, k->job);

    if (!k->alive || k->gen != e->gen || k->attempt != e->attempt || !k->live[e->index])
        return;
    if (k->frozen[e->index] && e->status != SIGKILL)
        return;
    k->live[e->index] = false;
    k->nlive--;
    if (t && !e->status && k->attempt < MAX_ATTEMPTS)
        t->ended_well[k->attempt]++;
    /* one that lives on where it was given up may end after its successor */
    if (t && !e->status && k->attempt > t->given_up && k->attempt >= t->ok_attempt) {
        if (t->ok_attempt != k->attempt) {
            t->ok_attempt = k->attempt;
            t->ok_world = k->world;
            t->ok_ranks = 0;
            t->ok_lost = false;
        }
        t->ok_lost = t->ok_lost || sim_lost(t, k->attempt);
        t->ok_ranks++;
    }
    sim_keeper_step(
        w, e->who, &(struct mu_ev){.kind = MU_EV_CHILD, .attempt = e->attempt, .index = e->index, .status = e->status});
}

static void spawned(struct world *w, struct event *e)
{
    struct keeper *k = &w->keeper[e->who];

    if (!k->alive || k->gen != e->gen)
        return;
    k->spawned = true;
    if (!e->status) {
        bool good = sim_chance(w, 600);
        uint64_t len = 100 * MU_MS + sim_below(w, 6 * MU_SEC);
        for (uint32_t r = 0; r < e->index; r++)
            sim_end_rank(w, e->who, r, len + sim_below(w, 50 * MU_MS),
                         good || sim_chance(w, 700) ? 0
                         : sim_chance(w, 500)       ? SIGSEGV
                                                    : 3 << 8);
        struct event *p = sim_at(w, w->now + sim_below(w, len), PROGRESS);
        p->who = e->who;
        p->gen = k->gen;
        p->attempt = e->attempt;
    }
    sim_keeper_step(
        w, e->who,
        &(struct mu_ev){.kind = MU_EV_SPAWNED, .attempt = e->attempt, .status = e->status, .text = "not found"});
}

static void progress(struct world *w, struct event *e)
{
    struct keeper *k = &w->keeper[e->who];

    if (!k->alive || k->gen != e->gen || k->attempt != e->attempt)
        return;
    struct mu_m_report r = {.njoined = 1, .steps = ++k->steps, .step = k->steps, .drained = !k->nlive};
    sim_keeper_step(w, e->who, &(struct mu_ev){.kind = MU_EV_SLOTS, .attempt = e->attempt, .report = &r});
}

static void agent_event(struct world *w, struct event *e)
{
    struct node *n = &w->node[e->who];
    struct mu_ev ev = {.job = e->job};

    if (e->what == A_CLEANED && n->alive && n->gen == e->gen) {
        for (unsigned i = 0; i < n->norphans;) {
            if (n->orphans[i].job == e->job)
                n->orphans[i] = n->orphans[--n->norphans];
            else
                i++;
        }
        for (unsigned i = 0; i < w->nkeepers; i++) /* CLEAN kills a keeper that hangs, too */
            if (w->keeper[i].alive && w->keeper[i].node == e->who && w->keeper[i].job == e->job)
                sim_keeper_gone(w, i, true);
        for (unsigned i = 0; i < n->norphans;) {
            if (n->orphans[i].job == e->job)
                n->orphans[i] = n->orphans[--n->norphans];
            else
                i++;
        }
    }
    if (!n->alive || n->gen != e->gen)
        return;
    switch (e->what) {
    case A_SPAWNED: {
        struct keeper *k = &w->keeper[w->nkeepers];
        if (w->nkeepers == MAX_KEEPERS) {
            sim_violated(w, "the simulator is out of keepers");
            return;
        }
        for (unsigned i = 0; i < w->nkeepers; i++)
            if (w->keeper[i].alive && w->keeper[i].node == e->who && w->keeper[i].job == e->job)
                sim_violated(w, "job %llu: two keepers on %s", (unsigned long long)e->job, n->name);
        ev.kind = MU_EV_SPAWNED;
        if (w->now < w->until_faults && w->now % 97 == 0) { /* without a draw: seeds keep their schedules */
            ev.status = EAGAIN;
            ev.text = "fork: no more processes";
            break;
        }
        sim_mark(w, e->who, e->job, false); /* it has the lock that was the mark of another one */
        memset(k, 0, sizeof *k);
        k->node = e->who;
        k->job = e->job;
        k->alive = true;
        struct mu_keeper_config cfg = {.job = e->job, .node = n->name, .pid = w->nkeepers + 1};
        k->core = mu_keeper_new(&cfg);
        struct event *d = sim_at(w, w->now + sim_below(w, 30 * MU_MS), KEEPER_DIAL);
        d->who = w->nkeepers++;
        d->gen = 0;
        ev.pid = cfg.pid;
        break;
    }
    case A_CHECKED: {
        static uint32_t levels[] = {MU_LEVEL_OK, MU_LEVEL_FAIL}, took;
        static char name[] = "memory", reason[] = "none", *names[] = {name, NULL}, *reasons[] = {reason, NULL};
        struct mu_msg m = {.type = MU_MSG_checked,
                           .checked = {.names = names,
                                       .levels = {.v = &levels[e->status], .n = 1},
                                       .reasons = reasons,
                                       .took_ms = {.v = &took, .n = 1}}};
        sim_agent_step(w, e->who, &(struct mu_ev){.kind = MU_EV_CHECKED, .msg = &m});
        return;
    }
    case A_CHILD:
        ev.kind = MU_EV_CHILD;
        ev.pid = e->index + 1;
        break;
    default:
        ev.kind = MU_EV_CLEANED;
        break;
    }
    sim_agent_step(w, e->who, &ev);
}

static void one(struct world *w, struct event *e)
{
    struct node *n = &w->node[e->who % MAX_NODES];

    switch (e->what) {
    case CTL_START:
        sim_ctl_start(w);
        return;
    case CTL_TICK:
        if (w->ctl_alive && w->ctl_gen == e->gen)
            sim_ctl_step(w, &(struct mu_ev){.kind = MU_EV_TIME});
        return;
    case AGENT_START:
        sim_agent_start(w, e->who);
        return;
    case AGENT_TICK:
        if (n->alive && n->gen == e->gen)
            sim_agent_step(w, e->who, &(struct mu_ev){.kind = MU_EV_TIME});
        return;
    case AGENT_DIAL:
        if (!n->alive || n->gen != e->gen || n->conn)
            return;
        if (!w->ctl_alive || n->cut) {
            if (!n->cut && e->who)
                sim_agent_step(w, e->who, &(struct mu_ev){.kind = MU_EV_NOCTL, .at = w->now});
            struct event *d = sim_at(w, w->now + 50 * MU_MS, AGENT_DIAL);
            d->who = e->who;
            d->gen = e->gen;
            return;
        }
        {
            uint32_t conn = sim_dial(w, AGENT, e->who, n->gen, CTL, 0, w->ctl_gen);
            sim_ctl_step(w, &(struct mu_ev){.kind = MU_EV_UP, .conn = conn});
            sim_tree_up(w, e->who, conn, false);
        }
        return;
    case KEEPER_TICK:
        if (w->keeper[e->who].alive && w->keeper[e->who].gen == e->gen)
            sim_keeper_step(w, e->who, &(struct mu_ev){.kind = MU_EV_TIME});
        return;
    case KEEPER_DIAL: {
        struct keeper *k = &w->keeper[e->who];
        if (!k->alive || k->hung || k->gen != e->gen || k->conn)
            return;
        if (!w->node[k->node].alive) {
            struct event *d = sim_at(w, w->now + 50 * MU_MS, KEEPER_DIAL);
            d->who = e->who;
            d->gen = e->gen;
            return;
        }
        k->conn = sim_dial(w, KEEPER, e->who, k->gen, AGENT, k->node, w->node[k->node].gen);
        sim_agent_step(w, k->node, &(struct mu_ev){.kind = MU_EV_UP, .conn = k->conn});
        sim_keeper_step(w, e->who, &(struct mu_ev){.kind = MU_EV_UP, .conn = MU_KEEPER_AGENT});
        struct event *d = sim_at(w, w->now + sim_below(w, 30 * MU_MS), LINE_DIAL);
        d->who = e->who;
        d->gen = w->keeper[e->who].gen;
        return;
    }
    case LINE_DIAL:
        sim_line_dial(w, e);
        return;
    case SPAWNED:
        spawned(w, e);
        return;
    case RANK_END:
        rank_end(w, e);
        return;
    case PROGRESS:
        progress(w, e);
        return;
    case RANK_HANGS:
        sim_rank_hangs(w, e);
        return;
    case K_CLEANED:
        if (!w->keeper[e->who].alive || w->keeper[e->who].gen != e->gen)
            return;
        sim_keeper_step(w, e->who, &(struct mu_ev){.kind = MU_EV_CLEANED, .attempt = e->attempt});
        if (w->keeper[e->who].alive && w->keeper[e->who].attempt == e->attempt && !w->keeper[e->who].nlive)
            progress(w, e);
        return;
    case A_SPAWNED:
    case A_CHILD:
    case A_CLEANED:
    case A_CHECKED:
        agent_event(w, e);
        return;
    case DELIVER:
        deliver(w, e);
        return;
    case DOWN:
        down(w, e);
        return;
    case CLIENT_DIAL:
        sim_client_dial(w, e->who);
        return;
    case CLIENT_CANCEL:
        if (w->job[e->who].conn && w->job[e->who].acked) {
            w->job[e->who].cancelled = true;
            sim_client_send(w, e->who, MU_MSG_cancel, &(struct mu_m_cancel){.job = w->job[e->who].acked});
        } else if (w->job[e->who].foreground) {
            sim_trace(w, "client %u dies", e->who);
            w->job[e->who].client_dead = true;
            sim_hang_up(w, w->job[e->who].conn);
        }
        return;
    case CLIENT_HOLD: {
        struct truth *t = &w->job[e->who];
        if (t->acked && t->conn) {
            struct mu_m_hold hold = {.job = t->acked, .on = !e->index && sim_chance(w, 800)};
            t->held = t->held && hold.on;
            t->asked_hold = hold.on;
            sim_client_send(w, e->who, MU_MSG_hold, &hold);
        }
        int s = t->acked ? sim_stored(w, t->acked) : -1;
        if (s < 0 || !mu_job_over(w->store[s].row.state)) { /* in the end it is released, however often that takes */
            struct event *d = sim_at(w, w->now + MU_SEC + sim_below(w, 4 * MU_SEC), CLIENT_HOLD);
            d->who = e->who;
            d->index = w->now > w->until_faults;
            if (!t->conn)
                sim_client_dial(w, e->who);
        }
        return;
    }
    case CLIENT_REQUEUE:
        if (w->job[e->who].conn && w->job[e->who].acked && w->now < w->until_faults)
            sim_client_send(w, e->who, MU_MSG_requeue, &(struct mu_m_requeue){.job = w->job[e->who].acked});
        if (w->now < w->until_faults)
            sim_at(w, w->now + sim_below(w, 10 * MU_SEC), CLIENT_REQUEUE)->who = e->who;
        return;
    case FAULT:
        fault(w);
        return;
    case FORSAKEN:
        if (!e->index && n->alive) {
            sim_agent_crash(w, e->who);
            struct event *d = sim_at(w, w->now + sim_below(w, MU_SEC), FORSAKEN);
            d->who = e->who;
            d->index = 1;
        } else if (e->index && e->who) {
            sim_host_cut_off(w, e->who);
        }
        return;
    default:
        sim_host_event(w, e);
        return;
    }
}

/* A job that brings its own hosts: some of them, in any order, with spares where there are enough. */
static void with_hosts(struct world *w, struct truth *t)
{
    unsigned first = w->nnodes + (unsigned)sim_below(w, w->nall - w->nnodes), n = 0, most;
    uint32_t sum = 0;

    most = 1 + (unsigned)sim_below(w, w->nall - w->nnodes);
    for (unsigned i = 0; i < most; i++) {
        unsigned node = w->nnodes + (first - w->nnodes + i) % (w->nall - w->nnodes);
        uint32_t slots = 1 + (uint32_t)sim_below(w, w->node[node].slots);
        size_t len = strlen(t->hosts);
        char name[sizeof w->node[node].name];
        memcpy(name, w->node[node].name, sizeof name);
        snprintf(t->hosts + len, sizeof t->hosts - len, "%s%s%s:%u", n ? "," : "", sim_chance(w, 300) ? "me@" : "",
                 name, slots);
        sum += slots;
        n++;
    }
    t->ranks = 1 + (uint32_t)sim_below(w, sum < MAX_RANKS ? sum : MAX_RANKS);
    t->spares = sim_chance(w, 400);
}

struct world *world_new(uint64_t seed, bool tracing)
{
    struct world *w = calloc(1, sizeof *w);

    if (!w)
        return NULL;
    w->rng = seed * 0x2545f4914f6cdd1dull + 1;
    w->trace = tracing;
    w->checked = seed % 5 == 2;
    mu_check_defaults(&w->checks);
    w->checks.every_ns = 5 * MU_SEC;
    w->checks.idle_ns = 1 * MU_SEC;
    w->checks.most_percent = 34;
    w->fabric = seed % 8 == 7 ? 1 : seed % 16 == 3 ? 2 : 0;
    w->now = MU_SEC;
    w->until_faults = MU_SEC + sim_below(w, 25 * MU_SEC);
    w->crashy = sim_chance(w, 600);
    w->nnodes = 1 + (unsigned)sim_below(w, 3);
    w->nall = w->nnodes + (sim_chance(w, 600) ? (unsigned)sim_below(w, MAX_NODES - w->nnodes) : 0);
    w->quarantine = sim_chance(w, 300) ? 2 : 0;
    mu_policy_defaults(&w->policy);
    w->policy.preempt = sim_chance(w, 300) ? MU_PREEMPT_FORCE : MU_PREEMPT_OFF;
    w->policy.preempt_after_ns = sim_below(w, 3 * MU_SEC);
    w->loses = seed % 4 == 1;
    w->fanout = sim_chance(w, 600) ? 1 + (uint32_t)sim_below(w, 3) : 0;
    if (sim_chance(w, 300)) { /* a pool with a tree of some depth */
        w->nnodes = w->nall = 4 + (unsigned)sim_below(w, MAX_NODES - 3);
        w->fanout = 1 + (uint32_t)sim_below(w, 2);
        w->deep = true;
    }
    w->njobs = 1 + (unsigned)sim_below(w, MAX_JOBS - 1);
    uint32_t total = 0;
    for (unsigned i = 0; i < w->nall; i++) {
        snprintf(w->node[i].name, sizeof w->node[i].name, "n%u", i);
        w->node[i].slots = 1 + (uint32_t)sim_below(w, 4);
        w->node[i].of_job = i >= w->nnodes;
        if (w->node[i].of_job)
            continue;
        total += w->node[i].slots;
        sim_at(w, w->now + sim_below(w, 100 * MU_MS), AGENT_START)->who = i;
    }
    sim_at(w, w->now, CTL_START);
    for (unsigned i = 0; i < w->njobs; i++) {
        struct truth *t = &w->job[i];
        snprintf(t->token, sizeof t->token, "t%u", i);
        t->ranks = 1 + (uint32_t)sim_below(w, total < MAX_RANKS ? total : MAX_RANKS);
        t->foreground = sim_chance(w, 300);
        t->priority = sim_chance(w, 300) ? (int32_t)sim_below(w, 5) - 2 : 0;
        if (w->nall > w->nnodes && sim_chance(w, 500))
            with_hosts(w, t);
        else if (w->nnodes > 1 && sim_chance(w, w->nnodes > 3 ? 600 : 300))
            t->spares = 1;
        if (sim_chance(w, 200))
            t->min_ranks = 1 + (uint32_t)sim_below(w, t->ranks);
        sim_at(w, w->now + MU_SEC / 2 + sim_below(w, 10 * MU_SEC), CLIENT_DIAL)->who = i;
        if (sim_chance(w, 150))
            sim_at(w, w->now + sim_below(w, 20 * MU_SEC), CLIENT_CANCEL)->who = i;
        t->holds = sim_chance(w, 200); /* others: it would not know which of the two an answer is to */
        if (!t->holds && sim_chance(w, 250))
            sim_at(w, w->now + sim_below(w, 20 * MU_SEC), CLIENT_REQUEUE)->who = i;
        if (t->holds)
            sim_at(w, w->now + sim_below(w, 10 * MU_SEC), CLIENT_HOLD)->who = i;
    }
    if (sim_chance(w, 900))
        sim_at(w, w->now + sim_below(w, 3 * MU_SEC), FAULT);
    return w;
}

/* After the last fault everything must come to its end by itself. */
static void check_end(struct world *w)
{
    for (unsigned i = 0; i < w->njobs; i++) {
        struct truth *t = &w->job[i];
        int s = t->acked ? sim_stored(w, t->acked) : -1;
        if (s < 0 && t->forgotten)
            continue;
        if (t->acked && (s < 0 || !mu_job_over(w->store[s].row.state)))
            sim_violated(w, "job %llu did not end: %s, %s", (unsigned long long)t->acked,
                         s < 0 ? "not stored" : mu_job_state_name(w->store[s].row.state),
                         s < 0 ? "" : w->store[s].row.reason);
    }
    if (w->nstore > w->njobs)
        sim_violated(w, "%u jobs in the store, %u were submitted", w->nstore, w->njobs);
    for (unsigned i = 0; i < w->nkeepers; i++)
        if (w->keeper[i].alive || w->keeper[i].nlive)
            sim_violated(w, "job %llu: a keeper or its ranks live on", (unsigned long long)w->keeper[i].job);
    for (unsigned i = 0; i < w->nall; i++)
        if (w->node[i].norphans)
            sim_violated(w, "orphans are left on %s", w->node[i].name);
}

/* Nothing can happen any more but beats. */
static bool at_rest(const struct world *w)
{
    if (w->now <= w->until_faults + 10 * MU_SEC || !w->ctl_alive)
        return false;
    for (unsigned i = 0; i < w->nstore; i++)
        if (!mu_job_over(w->store[i].row.state))
            return false;
    for (unsigned i = 0; i < w->njobs; i++)
        if (!w->job[i].client_dead && (!w->job[i].acked || (w->job[i].foreground && !w->job[i].over_seen)))
            return false;
    for (unsigned i = 0; i < w->nkeepers; i++)
        if (w->keeper[i].alive)
            return false;
    for (unsigned i = 0; i < w->nall; i++)
        if (w->node[i].norphans)
            return false;
    return true;
}

const char *world_run(struct world *w)
{
    const uint64_t end = w->until_faults + 400 * MU_SEC;

    while (w->nheap && !w->bad[0]) {
        struct event e = sim_pop(w);
        if (e.t > end || (w->stats.events % 256 == 0 && at_rest(w))) {
            free(e.frame);
            break;
        }
        w->now = e.t;
        w->stats.events++;
        while (w->ndead)
            mu_branches_free(w->dead[--w->ndead]);
        one(w, &e);
        free(e.frame);
        if (w->stats.events > 2000000)
            sim_violated(w, "the schedule does not come to rest");
    }
    for (unsigned i = 0; w->ctl_alive && i < mu_ctl_pool(w->ctl)->n; i++) {
        const struct mu_node *n = &mu_ctl_pool(w->ctl)->v[i];
        sim_trace(w, "node %s: state %u ready %d stale %d quarantine %llu used %u of %u, owner %llu, %s", n->name,
                  n->state, n->ready, n->stale, (unsigned long long)n->quarantine_until, n->used, n->slots,
                  (unsigned long long)n->owner, n->reason);
    }
    for (unsigned i = 0; i < w->nkeepers; i++)
        if (w->keeper[i].alive)
            sim_trace(w, "keeper %u of job %llu on %s: attempt %u, phase %u%s", i, (unsigned long long)w->keeper[i].job,
                      w->node[w->keeper[i].node].name, w->keeper[i].attempt, mu_keeper_report(w->keeper[i].core)->phase,
                      w->keeper[i].hung ? ", hangs" : "");
    for (unsigned i = 0; w->ctl_alive && i < mu_ctl_job_count(w->ctl); i++)
        sim_trace(w, "job %llu: %s, %s", (unsigned long long)mu_ctl_job(w->ctl, i, NULL)->id,
                  mu_job_state_name(mu_ctl_job(w->ctl, i, NULL)->state), mu_ctl_job(w->ctl, i, NULL)->reason);
    if (!w->bad[0])
        check_end(w);
    w->stats.virtual_ns = w->now;
    w->stats.jobs = w->njobs;
    return w->bad[0] ? w->bad : NULL;
}

void world_stats(const struct world *w, struct world_stats *out)
{
    *out = w->stats;
}

void world_free(struct world *w)
{
    if (!w)
        return;
    for (size_t i = 0; i < w->nheap; i++)
        free(w->heap[i].frame);
    free(w->heap);
    for (unsigned i = 0; i < w->nstore; i++)
        mu_msg_free_body(MU_MSG_jobrow, &w->store[i].row), mu_msg_free_body(MU_MSG_jobrow, &w->store[i].before);
    mu_buf_free(&w->marks);
    mu_ctl_free(w->ctl);
    sim_tree_ctl_stop(w);
    while (w->ndead)
        mu_branches_free(w->dead[--w->ndead]);
    for (unsigned i = 0; i < w->nall; i++) {
        mu_agent_free(w->node[i].core);
        mu_tree_free(w->node[i].tree);
    }
    for (unsigned i = 0; i < w->nkeepers; i++)
        mu_keeper_free(w->keeper[i].core);
    free(w);
}
