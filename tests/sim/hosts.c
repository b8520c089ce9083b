#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/clean.h"
#include "tests/sim/priv.h"

unsigned sim_host_of(const struct world *w, const char *name)
{
    for (unsigned i = 0; i < w->nall; i++)
        if (!strcmp(w->node[i].name, name))
            return i;
    return MAX_NODES;
}

/* Whether nothing comes through towards side `to` of a connection between hosts. */
bool sim_host_cut(const struct world *w, uint32_t conn, int to, uint64_t *until, uint64_t *since)
{
    const struct net *n = &w->net[conn % MAX_CONNS];
    bool cut = n->cut_until > w->now;

    if ((n->kind[0] != AGENT && n->kind[0] != KEEPER) || (n->kind[1] != CTL && n->kind[1] != AGENT) ||
        (n->kind[0] == KEEPER && n->kind[1] == AGENT))
        return false;
    *until = n->cut_until;
    *since = n->cut_since;
    for (int side = 0; side < 2; side++) {
        if (n->kind[side] == CTL)
            continue;
        const struct node *node = &w->node[n->kind[side] == AGENT ? n->who[side] : w->keeper[n->who[side]].node];
        if (!(node->cut & (side == to ? CUT_IN : CUT_OUT)))
            continue;
        *until = cut && *until > node->cut_until ? *until : node->cut_until;
        *since = cut && *since < node->cut_since ? *since : node->cut_since;
        cut = true;
    }
    return cut;
}

static void later(struct world *w, enum what what, uint64_t t, unsigned who, uint32_t cut_id)
{
    struct event *e = sim_at(w, t, what);

    e->who = who;
    e->gen = cut_id;
}

static void cut(struct world *w, unsigned who, unsigned bits, uint64_t lasts)
{
    struct node *n = &w->node[who];

    if (n->cut || n->down)
        return;
    sim_trace(w, "CUT %s %u for %.3f s", n->name, bits, (double)lasts / 1e9);
    n->cut = bits;
    n->cut_id++;
    n->cut_since = w->now;
    n->cut_until = w->now + lasts;
    if (bits & CUT_OUT)
        later(w, SUSPECTED, w->now + 500 * MU_MS, who, n->cut_id);
    later(w, FELL_SILENT, w->now + MU_SILENT_NS + sim_below(w, 60 * MU_MS), who, n->cut_id);
    later(w, HEALED, n->cut_until, who, n->cut_id);
}

/* Power loss: nobody is told. Or an orderly end of its processes: connections are closed. */
static void die(struct world *w, unsigned who)
{
    struct node *n = &w->node[who];
    uint64_t lasts = 500 * MU_MS + sim_below(w, 8 * MU_SEC);

    if (n->cut || n->down)
        return;
    if (sim_chance(w, 500))
        cut(w, who, CUT_IN | CUT_OUT, lasts);
    sim_trace(w, "HOST %s dies", n->name);
    n->down = true;
    for (unsigned i = 0; i < w->nkeepers; i++) {
        struct keeper *k = &w->keeper[i];
        if (!k->alive || k->node != who)
            continue;
        struct truth *t = sim_truth_of(w, k->job);
        if (t && k->attempt == t->ok_attempt)
            t->ok_lost = true;
        if (t) /* whatever its ranks had come to */
            t->forgotten = t->row_lost;
        mu_keeper_free(k->core);
        k->core = NULL;
        k->alive = false;
        k->gen++;
        memset(k->live, 0, sizeof k->live);
        k->nlive = 0;
        sim_hang_up(w, k->line);
    }
    n->norphans = n->ndead = 0;
    n->boots++;
    if (n->alive)
        sim_agent_end(w, who);
    later(w, HEALED, w->now + lasts, who, 0);
}

void sim_host_fault(struct world *w)
{
    if (w->nall < 2)
        return;
    if (sim_chance(w, 100)) { /* the controller's own link */
        uint64_t lasts = sim_below(w, 6 * MU_SEC) + MU_MS;
        for (unsigned i = 1; i < w->nall; i++)
            cut(w, i, CUT_IN | CUT_OUT, lasts + sim_below(w, 50 * MU_MS));
        return;
    }
    unsigned who = 1 + (unsigned)sim_below(w, w->nall - 1);
    for (unsigned i = 1; i < w->nall && sim_chance(w, 700); i++) /* rather one that others go through */
        if (w->node[i].alive && mu_tree_children(w->node[i].tree))
            who = i;
    if (sim_chance(w, 200))
        sim_tree_fault(w);
    else if (sim_chance(w, 400))
        die(w, who);
    else
        cut(w, who, 1 + (unsigned)sim_below(w, 3), sim_below(w, 4 * MU_SEC) + MU_MS);
}

void sim_host_cut_off(struct world *w, unsigned who)
{
    cut(w, who, CUT_IN | CUT_OUT, 2 * MU_SEC + sim_below(w, 2 * MU_SEC));
}

/* Both ends give the connection up, each when it has heard nothing for so long: sim_hang_up knows when. */
static void fell_silent(struct world *w, unsigned who)
{
    for (uint32_t i = 2; i <= w->nnet + 1; i++) {
        const struct net *n = &w->net[i];
        if (n->open && n->kind[0] == AGENT &&
            ((n->kind[1] == CTL && n->who[0] == who) ||
             (n->kind[1] == AGENT && (n->who[0] == who || n->who[1] == who))))
            sim_hang_up(w, i);
    }
}

static void suspect(struct world *w, unsigned who, int status)
{
    uint32_t conn = w->node[who].conn;

    if (w->ctl_alive && conn && w->net[conn % MAX_CONNS].open && !w->node[who].through)
        sim_ctl_step(w, &(struct mu_ev){.kind = MU_EV_SUSPECT, .conn = conn, .status = status});
}

static void healed(struct world *w, struct event *e)
{
    struct node *n = &w->node[e->who];

    if (e->gen && e->gen == n->cut_id) {
        sim_trace(w, "HEAL %s", n->name);
        n->cut = 0;
        suspect(w, e->who, 0);
    } else if (!e->gen && n->down) {
        sim_trace(w, "BOOT %s", n->name);
        n->down = false;
        if (!n->of_job)
            sim_at(w, w->now + sim_below(w, MU_SEC), AGENT_START)->who = e->who;
    }
}

void sim_line_dial(struct world *w, struct event *e)
{
    struct keeper *k = &w->keeper[e->who];
    struct mu_buf b = {0};

    if (!k->alive || k->gen != e->gen || k->line || !k->node)
        return;
    if (!w->ctl_alive || w->node[k->node].cut) {
        struct event *d = sim_at(w, w->now + 200 * MU_MS, LINE_DIAL);
        d->who = e->who;
        d->gen = e->gen;
        return;
    }
    k->line = sim_dial(w, KEEPER, e->who, k->gen, CTL, 0, w->ctl_gen);
    if (!k->line)
        return;
    sim_ctl_step(w, &(struct mu_ev){.kind = MU_EV_UP, .conn = k->line});
    struct mu_m_hello hello = {.proto = MU_WIRE_VERSION,
                               .role = (char[]){"line"},
                               .node = w->node[k->node].name,
                               .pid = e->who + 1,
                               .job = k->job};
    if (mu_msg_encode(&b, MU_MSG_hello, &hello))
        sim_violated(w, "a keeper's hello cannot be encoded");
    sim_transmit(w, k->line, 1, &b);
    mu_buf_free(&b);
}

void sim_host_dialled(struct world *w, unsigned who)
{
    if (who)
        later(w, ECHO, w->now + 50 * MU_MS, who, w->node[who].conn);
}

static void echo(struct world *w, struct event *e)
{
    struct node *n = &w->node[e->who];

    if (!n->alive || n->conn != e->gen)
        return;
    uint64_t at = w->now - sim_below(w, 5 * MU_MS);
    if (!n->cut && w->net[e->gen % MAX_CONNS].last[1] <= at) /* beats do not overtake what was sent before */
        sim_agent_step(w, e->who, &(struct mu_ev){.kind = MU_EV_ECHO, .at = at});
    if (n->alive && n->conn == e->gen)
        later(w, ECHO, w->now + 100 * MU_MS + sim_below(w, 150 * MU_MS), e->who, e->gen);
}

void sim_host_ask(struct world *w, const struct mu_act *act)
{
    unsigned who = sim_host_of(w, act->node);
    struct event *e;

    if (who == MAX_NODES) {
        sim_violated(w, "an engine or a probe is asked for node %s, which does not exist", act->node);
        return;
    }
    sim_trace(w, "  %s %s", act->kind == MU_ACT_PROBE ? "probe" : "engine", act->node);
    if (act->kind == MU_ACT_PROBE)
        e = sim_at(w, w->now + sim_below(w, 250 * MU_MS), PROBED);
    else
        e = sim_at(w, w->now + sim_below(w, MU_SEC), ENGINE_DONE);
    e->who = who;
    e->gen = w->ctl_gen;
    e->job = act->job;
}

static void answer(struct world *w, struct event *e)
{
    struct node *n = &w->node[e->who];
    bool there = !n->down && !n->cut;

    if (e->what == ENGINE_DONE && there && !n->alive) {
        n->owner = e->job;
        sim_agent_start(w, e->who);
    }
    if (!w->ctl_alive || w->ctl_gen != e->gen)
        return;
    sim_ctl_step(w, &(struct mu_ev){.kind = e->what == PROBED ? MU_EV_PROBED : MU_EV_ENGINE,
                                    .node = n->name,
                                    .status = !there,
                                    .text = "no route to host"});
}

void sim_host_event(struct world *w, struct event *e)
{
    switch (e->what) {
    case ECHO:
        echo(w, e);
        return;
    case SUSPECTED:
        if (w->node[e->who].cut && w->node[e->who].cut_id == e->gen)
            suspect(w, e->who, 1);
        return;
    case FELL_SILENT:
        if (w->node[e->who].cut && w->node[e->who].cut_id == e->gen)
            fell_silent(w, e->who);
        return;
    case HEALED:
        healed(w, e);
        return;
    case PROBED:
    case ENGINE_DONE:
        answer(w, e);
        return;
    default:
        sim_tree_event(w, e);
        return;
    }
}
