/* Agents whose way to the controller goes through others: the real tables of both ends (runtime/agent/tree.c,
 * launcher/branch.c) over the simulated network, and beats that carry how old their sender's own knowledge is. */
#include <stdlib.h>
#include <string.h>

#include "runtime/base/clean.h"
#include "tests/sim/priv.h"

#define ASIDE (600 * MU_MS)

static struct event *later(struct world *w, enum what what, uint64_t after, unsigned who, uint32_t conn)
{
    struct event *e = sim_at(w, w->now + after, what);

    e->who = who;
    e->gen = w->node[who].gen;
    e->conn = conn;
    return e;
}

static void transmit_msg(struct world *w, uint32_t conn, int to, enum mu_msg_type type, const void *body)
{
    struct mu_buf b = {0};

    if (mu_msg_encode(&b, type, body))
        sim_violated(w, "a message of the tree cannot be encoded");
    sim_transmit(w, conn, to, &b);
    mu_buf_free(&b);
}

/* --- an agent ----------------------------------------------------------------------------------------------------- */

static void on_up(void *arg, const void *frame, size_t len)
{
    struct node *n = arg;

    if (n->path)
        sim_transmit(n->world, n->conn, 1, &(struct mu_buf){.data = (char *)(uintptr_t)frame, .len = len});
}

static void on_below(void *arg, uint32_t child, const void *frame, size_t len)
{
    struct node *n = arg;

    sim_transmit(n->world, child, 0, &(struct mu_buf){.data = (char *)(uintptr_t)frame, .len = len});
}

static void on_cut(void *arg, uint32_t child)
{
    sim_hang_up(((struct node *)arg)->world, child);
}

static void for_agent(struct world *w, unsigned who, const struct mu_msg *m);

static void on_self(void *arg, const void *frame, size_t len, bool piece)
{
    struct node *n = arg;
    MU_AUTO_MSG struct mu_msg m = {0};

    if (piece || mu_msg_decode(frame, len, &m, NULL))
        sim_violated(n->world, "%s cannot read what comes for it through others", n->name);
    else
        for_agent(n->world, (unsigned)(n - n->world->node), &m);
}

void sim_tree_start(struct world *w, unsigned who)
{
    struct node *n = &w->node[who];

    n->world = w;
    n->path = n->through = false;
    n->old = 0;
    n->tree =
        mu_tree_new(&(struct mu_tree_ops){.up = on_up, .down = on_below, .cut = on_cut, .self = on_self, .arg = n});
}

void sim_tree_up(struct world *w, unsigned who, uint32_t conn, bool through)
{
    struct node *n = &w->node[who];

    if (n->old)
        sim_hang_up(w, n->old);
    n->old = n->conn;
    if (n->old)
        later(w, RETIRE, 2 * MU_SEC, who, n->old);
    n->conn = conn;
    n->through = through;
    n->path = true;
    mu_tree_path(n->tree, false);
    mu_beat_begin(&n->beat, w->now, false);
    sim_agent_step(w, who, &(struct mu_ev){.kind = MU_EV_UP, .conn = MU_AGENT_CTL});
    if (through)
        later(w, BEAT, sim_below(w, MU_MS), who, conn);
    else
        sim_host_dialled(w, who);
}

void sim_tree_lost(struct world *w, unsigned who)
{
    w->node[who].path = false;
    mu_tree_path(w->node[who].tree, false);
}

static bool still(const struct world *w, unsigned who, uint32_t gen)
{
    return w->node[who].alive && w->node[who].gen == gen;
}

static void for_agent(struct world *w, unsigned who, const struct mu_msg *m)
{
    struct node *n = &w->node[who];
    uint32_t gen = n->gen;

    sim_agent_step(w, who, &(struct mu_ev){.kind = MU_EV_MSG, .conn = MU_AGENT_CTL, .msg = m});
    if (!still(w, who, gen) || m->type != MU_MSG_parent || !who)
        return;
    if (!m->parent.node || !*m->parent.node)
        mu_tree_path(n->tree, true);
    else
        later(w, MOVE, sim_below(w, 40 * MU_MS), who, n->conn)->index = sim_host_of(w, m->parent.node);
}

static void on_path(struct world *w, unsigned who, bool there)
{
    struct node *n = &w->node[who];
    bool was = n->path;

    n->path = there;
    n->beat.known = 0;
    mu_tree_path(n->tree, false);
    if (there)
        sim_agent_step(w, who, &(struct mu_ev){.kind = MU_EV_UP, .conn = MU_AGENT_CTL});
    else if (was)
        sim_agent_step(w, who, &(struct mu_ev){.kind = MU_EV_DOWN, .conn = MU_AGENT_CTL, .status = MU_DOWN_PARENT});
}

void sim_tree_from_above(struct world *w, unsigned who, const struct mu_msg *m, bool through)
{
    struct node *n = &w->node[who];

    if (m->type == MU_MSG_beat && through) {
        uint64_t known = mu_beat_known(&n->beat);
        mu_beat_take(&n->beat, w->now, &m->beat);
        if (n->path && mu_beat_known(&n->beat) > known)
            sim_agent_step(w, who, &(struct mu_ev){.kind = MU_EV_ECHO, .at = mu_beat_known(&n->beat)});
    } else if (m->type == MU_MSG_relay && !m->relay.channels.n) {
        on_path(w, who, m->relay.kind == MU_RELAY_OPEN);
    } else if (m->type == MU_MSG_relay) {
        mu_tree_above(n->tree, &m->relay);
    } else {
        for_agent(w, who, m);
    }
}

void sim_tree_from_below(struct world *w, unsigned who, uint32_t conn, const struct mu_msg *m, const struct event *e)
{
    struct node *n = &w->node[who];
    struct net *link = &w->net[conn % MAX_CONNS];

    if (!link->greeted && m->type == MU_MSG_hello)
        link->greeted = mu_tree_child(n->tree, conn);
    if (!link->greeted)
        return;
    if (m->type != MU_MSG_beat) {
        mu_tree_child_msg(n->tree, conn, m, e->frame, e->len);
        return;
    }
    link->theirs = m->beat.sent_ns > link->theirs ? m->beat.sent_ns : link->theirs;
    transmit_msg(
        w, conn, 0, MU_MSG_beat,
        &(struct mu_m_beat){.sent_ns = w->now, .echo_ns = link->theirs, .up_age_ns = mu_agent_up_age(n->core, w->now)});
}

/* A beat to the parent; and a look whether the controller is still heard through it. */
static void beat(struct world *w, struct event *e)
{
    struct node *n = &w->node[e->who];
    uint32_t conn = e->conn, gen = e->gen;
    unsigned who = e->who;
    uint64_t known = mu_agent_known(n->core);

    struct mu_m_beat m = mu_beat_make(&n->beat, w->now, 0);
    transmit_msg(w, conn, 1, MU_MSG_beat, &m);
    if (!w->ctl_alive && !n->path && !n->cut)
        sim_agent_step(w, who, &(struct mu_ev){.kind = MU_EV_NOCTL, .at = w->now});
    if (w->now > known + ASIDE && w->ctl_alive && !n->cut && sim_chance(w, 700)) {
        uint32_t direct = sim_dial(w, AGENT, who, n->gen, CTL, 0, w->ctl_gen);
        sim_ctl_step(w, &(struct mu_ev){.kind = MU_EV_UP, .conn = direct});
        sim_tree_up(w, who, direct, false);
        return;
    }
    if (still(w, who, gen) && n->conn == conn)
        later(w, BEAT, 100 * MU_MS + sim_below(w, 100 * MU_MS), who, conn);
}

static void move(struct world *w, struct event *e)
{
    struct node *n = &w->node[e->who], *p = e->index < MAX_NODES ? &w->node[e->index] : NULL;

    if (!p || p == n) {
        sim_violated(w, "%s is sent to a parent that there cannot be", n->name);
        return;
    }
    if (!p->alive || n->cut || p->cut || sim_chance(w, 50)) {
        uint64_t after = sim_chance(w, 500) ? MU_MS : 2 * MU_SEC + (sim_chance(w, 300) ? sim_below(w, 2 * MU_SEC) : 0);
        later(w, STUCK, after, e->who, e->conn)->index = e->index;
        return;
    }
    sim_tree_up(w, e->who, sim_dial(w, AGENT, e->who, n->gen, AGENT, e->index, p->gen), true);
}

void sim_tree_event(struct world *w, struct event *e)
{
    struct node *n = &w->node[e->who % MAX_NODES];
    struct net *link = &w->net[e->conn % MAX_CONNS];

    switch (e->what) {
    case BEAT:
        if (still(w, e->who, e->gen) && n->conn == e->conn)
            beat(w, e);
        return;
    case MOVE:
        if (still(w, e->who, e->gen))
            move(w, e);
        return;
    case STUCK:
        if (still(w, e->who, e->gen) && n->conn == e->conn && n->path)
            sim_agent_step(w, e->who, &(struct mu_ev){.kind = MU_EV_STAY, .node = w->node[e->index].name});
        return;
    case RETIRE:
        if (link->open)
            sim_hang_up(w, e->conn);
        return;
    case LINK_SILENT:
        if (link->open)
            sim_hang_up(w, e->conn);
        return;
    case STREAM_DOWN:
        if (w->ctl_alive && w->ctl_gen == e->index)
            sim_ctl_step(w, &(struct mu_ev){.kind = MU_EV_DOWN, .conn = e->conn});
        return;
    default:
        sim_violated(w, "the simulator has an event that nobody handles");
        return;
    }
}

/* What the controller has to say to one through which others go is held up, or what that one has. */
static void stall(struct world *w, uint64_t lasts)
{
    unsigned who = (unsigned)sim_below(w, w->nall);

    for (unsigned i = 0; i < w->nall; i++, who = (who + 1) % w->nall) {
        const struct node *n = &w->node[who];
        struct net *link = &w->net[n->conn % MAX_CONNS];
        int to = (int)sim_below(w, 2);
        if (!n->alive || !n->conn || n->through || !mu_tree_children(n->tree))
            continue;
        sim_trace(w, "STALL %s towards side %d for %.3f s", n->name, to, (double)lasts / 1e9);
        link->last[to] = link->last[to] > w->now + lasts ? link->last[to] : w->now + lasts;
        return;
    }
}

/* The link between two agents is cut, while both reach everybody else. */
void sim_tree_fault(struct world *w)
{
    uint64_t lasts = sim_below(w, 3 * MU_SEC) + MU_MS;

    if (sim_chance(w, 500)) {
        stall(w, lasts);
        return;
    }
    uint32_t c = (uint32_t)sim_below(w, w->nnet + 2);

    for (uint32_t i = 0; i < w->nnet + 2; i++, c = (c + 1) % (w->nnet + 2)) {
        struct net *n = &w->net[c];
        if (!n->open || n->kind[0] != AGENT || n->kind[1] != AGENT || n->cut_until > w->now)
            continue;
        sim_trace(w, "CUT link %u for %.3f s", c, (double)lasts / 1e9);
        n->cut_since = w->now;
        n->cut_until = w->now + lasts;
        if (lasts > MU_SILENT_NS)
            sim_at(w, w->now + MU_SILENT_NS, LINK_SILENT)->conn = c;
        return;
    }
}

/* --- the controller ------------------------------------------------------------------------------------------------
 */

static mu_conn stream_opened(void *arg)
{
    struct world *w = arg;
    uint32_t id = w->ctl_alive ? sim_number(w) : 0;

    if (id)
        w->net[id % MAX_CONNS] = (struct net){.kind = {STREAM, STREAM}};
    w->stats.streams += id != 0;
    return id;
}

static void stream_up(void *arg, mu_conn id, mu_conn via)
{
    struct world *w = arg;

    sim_trace(w, "  stream %u below %u", id, via);
    if (w->ctl_alive)
        sim_ctl_step(w, &(struct mu_ev){.kind = MU_EV_UP, .conn = id, .via = via});
}

static void stream_frame(void *arg, mu_conn id, const void *frame, size_t len)
{
    struct world *w = arg;
    MU_AUTO_MSG struct mu_msg m = {0};

    if (!w->ctl_alive || mu_msg_decode(frame, len, &m, NULL))
        return;
    sim_trace(w, "  stream %u <- %s", id, mu_msg_name(m.type));
    sim_ctl_step(w, &(struct mu_ev){.kind = MU_EV_MSG, .conn = id, .msg = &m});
}

static void stream_down(void *arg, mu_conn id, int status, uint64_t age)
{
    struct world *w = arg;

    sim_trace(w, "  stream %u down %d", id, status);
    if (w->ctl_alive)
        sim_ctl_step(w,
                     &(struct mu_ev){.kind = MU_EV_DOWN, .conn = id, .status = status, .at = age ? w->now - age : 0});
}

static void link_send(void *arg, mu_conn link, const void *frame, size_t len)
{
    sim_transmit(arg, link, 0, &(struct mu_buf){.data = (char *)(uintptr_t)frame, .len = len});
}

void sim_tree_ctl_start(struct world *w)
{
    w->branches = mu_branches_new(&(struct mu_branch_ops){.opened = stream_opened,
                                                          .up = stream_up,
                                                          .frame = stream_frame,
                                                          .down = stream_down,
                                                          .send = link_send,
                                                          .arg = w});
}

void sim_tree_ctl_stop(struct world *w)
{
    if (w->branches && w->ndead < MU_COUNT(w->dead))
        w->dead[w->ndead++] = w->branches;
    w->branches = NULL;
}

void sim_tree_ctl_take(struct world *w, uint32_t conn, const struct mu_m_relay *m)
{
    mu_branches_take(w->branches, conn, m);
}

void sim_tree_ctl_lost(struct world *w, uint32_t conn, int status)
{
    mu_branches_lost(w->branches, conn, status == MU_DOWN_SILENT ? MU_SILENT_NS : 0);
}

void sim_tree_ctl_send(struct world *w, const struct mu_act *a)
{
    const mu_conn *to;
    uint32_t n = mu_act_to(a, &to);

    mu_branches_send(w->branches, to, n, a->frame.data, a->frame.len);
}

void sim_tree_ctl_close(struct world *w, uint32_t conn)
{
    if (!mu_branches_close(w->branches, conn)) {
        sim_hang_up(w, conn);
        return;
    }
    struct event *e = sim_at(w, w->now + sim_below(w, 5 * MU_MS) + 1, STREAM_DOWN);
    e->conn = conn;
    e->index = w->ctl_gen;
}
