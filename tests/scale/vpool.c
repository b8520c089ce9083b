/* The processes of a pool in virtual time: the controller, agents, and what their shells do. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launcher/branch.h"
#include "runtime/base/clean.h"
#include "runtime/base/clock.h"
#include "tests/scale/virtual.h"

#define REDIAL (50 * MU_MS)
#define RETIRE (2 * MU_SEC)
#define ASIDE (600 * MU_MS)
#define ASIDE_SPREAD (200 * MU_MS)
#define ABSENT (250 * MU_MS)
#define CLOSE_MAX 4096u /* connections that one step may close */

static struct mu_branches *branches;
static struct mu_acts acts;
static uint64_t ctl_alarm = UINT64_MAX, incarnations;

/* --- the controller ----------------------------------------------------------------------------------------------- */

static void ctl_step(struct mu_ev);

static void for_client(const struct mu_buf *frame)
{
    MU_AUTO_MSG struct mu_msg m = {0};

    if (mu_msg_decode(frame->data, frame->len, &m, NULL))
        return;
    if (m.type == MU_MSG_submitted && m.submitted.job)
        v.client.job = m.submitted.job;
    else if (m.type == MU_MSG_state)
        v.client.running_at = m.state.state == MU_JOB_RUNNING ? v.ctl_proc.busy : v.client.running_at;
    else if (m.type == MU_MSG_ended)
        v.client.ended_at = v.ctl_proc.busy;
    else if (m.type == MU_MSG_error)
        printf("# the controller says: %s\n", m.error.text);
}

static mu_conn stream_opened(void *arg)
{
    (void)arg;
    return v_new_link(V_CTL, V_CTL);
}

static void stream_up(void *arg, mu_conn id, mu_conn via)
{
    (void)arg;
    ctl_step((struct mu_ev){.kind = MU_EV_UP, .conn = id, .via = via});
}

static void stream_frame(void *arg, mu_conn id, const void *frame, size_t len)
{
    MU_AUTO_MSG struct mu_msg m = {0};

    (void)arg;
    if (!mu_msg_decode(frame, len, &m, NULL))
        ctl_step((struct mu_ev){.kind = MU_EV_MSG, .conn = id, .msg = &m});
}

static void stream_down(void *arg, mu_conn id, int status, uint64_t age)
{
    (void)arg;
    ctl_step((struct mu_ev){.kind = MU_EV_DOWN, .conn = id, .status = status, .at = v.ctl_proc.busy - age});
}

static void link_send(void *arg, mu_conn link, const void *frame, size_t len)
{
    (void)arg;
    v_transmit(V_CTL, link, frame, len);
}

static void ctl_step(struct mu_ev ev)
{
    mu_conn downs[CLOSE_MAX];
    unsigned ndowns = 0;
    double t0 = costs_cpu();

    ev.now = ev.wall = v.ctl_proc.busy;
    mu_ctl_step(v.ctl, &ev, &acts);
    v_charge(V_CTL, costs_cpu() - t0);
    struct mu_acts mine = MU_STEAL(acts, (struct mu_acts){0});
    for (size_t i = 0; i < mine.n; i++) {
        const struct mu_act *a = &mine.v[i];
        const mu_conn *to;
        uint32_t n = mu_act_to(a, &to);
        if (a->kind == MU_ACT_SEND && n == 1 && to[0] == v.client.conn)
            for_client(&a->frame);
        else if (a->kind == MU_ACT_SEND) {
            t0 = costs_cpu();
            mu_branches_send(branches, to, n, a->frame.data, a->frame.len);
            v_charge(V_CTL, costs_cpu() - t0);
        } else if (a->kind == MU_ACT_EVENT && getenv("VERBOSE"))
            printf("# %.3f s: %s %s %s\n", (double)v.ctl_proc.busy / 1e9, a->event, a->node, a->detail);
        else if (a->kind == MU_ACT_CLOSE) {
            if (ndowns == MU_COUNT(downs))
                abort();
            downs[ndowns++] = a->conn;
        }
    }
    mu_acts_free(&mine);
    for (unsigned i = 0; i < ndowns; i++) {
        if (!mu_branches_close(branches, downs[i]))
            v_hang_up(V_CTL, downs[i]);
        ctl_step((struct mu_ev){.kind = MU_EV_DOWN, .conn = downs[i]});
        mu_branches_lost(branches, downs[i], 0);
    }
    uint64_t next = mu_ctl_next(v.ctl);
    if (next < ctl_alarm) {
        ctl_alarm = next;
        v_at(next > v.now ? next : v.now, (struct v_event){.what = CORE, .to = V_CTL});
    }
}

/* --- an agent ----------------------------------------------------------------------------------------------------- */

static void agent_step(struct v_agent *a, struct mu_ev ev)
{
    double t0 = costs_cpu();

    stub_step(&a->stub, &ev, a->proc.busy);
    v_charge(a->i, costs_cpu() - t0);
    uint64_t next = mu_agent_next(a->stub.core);
    if (next < a->alarm) {
        a->alarm = next;
        v_at(next > v.now ? next : v.now, (struct v_event){.what = CORE, .to = a->i, .gen = a->gen});
    }
}

static void on_send(void *arg, const void *frame, size_t len)
{
    struct v_agent *a = arg;

    if (a->link && a->path)
        v_transmit(a->i, a->link, frame, len);
}

static void on_tree_down(void *arg, uint32_t child, const void *frame, size_t len)
{
    v_transmit(((struct v_agent *)arg)->i, child, frame, len);
}

static void on_tree_cut(void *arg, uint32_t child)
{
    v_hang_up(((struct v_agent *)arg)->i, child);
}

static void for_agent(struct v_agent *a, const struct mu_msg *m);

static void on_tree_self(void *arg, const void *frame, size_t len, bool piece)
{
    struct v_agent *a = arg;
    MU_AUTO_MSG struct mu_msg m = {0};
    mu_auto_buf struct mu_buf whole = {0};

    if (piece && mu_msg_piece(&a->pieces, frame, len) <= 0)
        return;
    if (piece) {
        whole = MU_STEAL(a->pieces, (struct mu_buf){0});
        frame = whole.data;
        len = whole.len;
    }
    if (!mu_msg_decode(frame, len, &m, NULL))
        for_agent(a, &m);
}

static void up(struct v_agent *a)
{
    mu_tree_path(a->tree, false);
    mu_buf_free(&a->pieces);
    a->placed = false;
    agent_step(a, (struct mu_ev){.kind = MU_EV_UP, .conn = MU_AGENT_CTL});
}

static void connected(struct v_agent *a, uint32_t link, uint32_t parent)
{
    if (a->old)
        v_hang_up(a->i, a->old);
    a->old = a->link;
    if (a->old)
        v_at(a->proc.busy + RETIRE, (struct v_event){.what = RETIRED, .to = a->i, .gen = a->gen, .link = a->old});
    a->link = link;
    a->parent = parent;
    a->path = true;
    a->moving = false;
    a->since = a->proc.busy;
    mu_beat_begin(&a->beat, a->proc.busy, false);
    v_at(a->proc.busy, (struct v_event){.what = LOWER, .to = a->i, .gen = a->gen, .link = link});
    up(a);
}

/* The handshake costs both, and three times the way. */
static void dial(struct v_agent *a, uint32_t to)
{
    v_charge(a->i, v.costs.handshake);
    v_at(a->proc.busy + V_LATENCY * 3,
         (struct v_event){.what = DIAL, .to = to, .gen = v_gen_of(to), .from = a->i, .link = a->gen});
}

static void for_agent(struct v_agent *a, const struct mu_msg *m)
{
    agent_step(a, (struct mu_ev){.kind = MU_EV_MSG, .conn = MU_AGENT_CTL, .msg = m});
    if (m->type != MU_MSG_parent)
        return;
    a->placed = !m->parent.node || !*m->parent.node;
    if (a->placed)
        mu_tree_path(a->tree, true);
    else {
        a->moving = true;
        dial(a, (uint32_t)atoi(m->parent.node + 1));
    }
}

static void lost_way(struct v_agent *a)
{
    mu_tree_path(a->tree, false);
    a->link = 0;
    a->path = a->placed = false;
    agent_step(a, (struct mu_ev){.kind = MU_EV_DOWN, .conn = MU_AGENT_CTL});
    v_at(a->proc.busy + REDIAL, (struct v_event){.what = REST, .to = a->i, .gen = a->gen});
}

static void on_path(struct v_agent *a, bool there)
{
    bool was = a->path;

    a->path = there;
    a->beat.known = 0;
    if (there)
        up(a);
    else {
        mu_tree_path(a->tree, false);
        a->placed = false;
        if (was)
            agent_step(a, (struct mu_ev){.kind = MU_EV_DOWN, .conn = MU_AGENT_CTL, .status = MU_DOWN_PARENT});
    }
}

static void from_above(struct v_agent *a, const struct mu_msg *m)
{
    if (m->type == MU_MSG_relay && !m->relay.channels.n)
        on_path(a, m->relay.kind == MU_RELAY_OPEN);
    else if (m->type == MU_MSG_relay)
        mu_tree_above(a->tree, &m->relay);
    else
        for_agent(a, m);
}

void v_start(struct v_agent *a, uint64_t t)
{
    static const struct mu_tree_ops ops = {
        .up = on_send, .down = on_tree_down, .cut = on_tree_cut, .self = on_tree_self};
    struct mu_tree_ops mine = ops;
    char name[16];

    mine.arg = a;
    snprintf(name, sizeof name, "s%u", a->i);
    a->tree = mu_tree_new(&mine);
    a->stub.send = on_send;
    a->stub.arg = a;
    if (!a->tree || !stub_begin(&a->stub, name, ++incarnations))
        abort();
    mu_agent_set_addr(a->stub.core, "there", 1);
    a->alive = true;
    a->alarm = UINT64_MAX;
    v_begin(a->i, t);
    agent_step(a, (struct mu_ev){.kind = MU_EV_LOADED});
    dial(a, V_CTL);
}

void v_end(struct v_agent *a, bool silently)
{
    v_begin(a->i, v.now);
    for (uint32_t l = 2; l <= v.nlinks; l++)
        if (v.links[l].open && (v.links[l].lower == a->i || v.links[l].upper == a->i)) {
            if (silently)
                v.links[l].open = false;
            else
                v_hang_up(a->i, l);
        }
    a->gen++;
    a->alive = a->placed = a->path = a->frozen = false;
    a->link = a->old = 0;
    mu_tree_free(MU_STEAL(a->tree, NULL));
    mu_buf_free(&a->pieces);
    stub_end(&a->stub);
}

/* --- what happens ------------------------------------------------------------------------------------------------- */

static void on_frame(const struct v_event *e)
{
    MU_AUTO_MSG struct mu_msg m = {0};
    struct v_link *l = &v.links[e->link];
    double t0 = costs_cpu();

    if (mu_msg_decode(e->blob->data, e->blob->len, &m, NULL))
        abort();
    v_charge(e->to, v.costs.message + v.costs.kilobyte * (double)e->blob->len / 1024 + costs_cpu() - t0);
    if (e->to == V_CTL) {
        mu_beat_heard(&l->beat, v.ctl_proc.busy);
        if (m.type == MU_MSG_relay)
            mu_branches_take(branches, e->link, &m.relay);
        else
            ctl_step((struct mu_ev){.kind = MU_EV_MSG, .conn = e->link, .msg = &m});
        return;
    }
    struct v_agent *a = &v.agents[e->to];
    if (l->upper != a->i) {
        mu_beat_heard(&a->beat, a->proc.busy);
        if (a->link == e->link)
            from_above(a, &m);
        return;
    }
    mu_beat_heard(&l->beat, a->proc.busy);
    if (!l->greeted && m.type == MU_MSG_hello)
        l->greeted = mu_tree_child(a->tree, e->link);
    t0 = costs_cpu();
    mu_tree_child_msg(a->tree, e->link, &m, e->blob->data, e->blob->len);
    v_charge(a->i, costs_cpu() - t0);
}

static void beat_up(uint32_t who, uint32_t link)
{
    uint64_t now = v_proc_of(who)->busy;
    uint64_t age = who == V_CTL ? 0 : mu_agent_up_age(v.agents[who].stub.core, now);

    v_transmit_beat(who, link, mu_beat_make(&v.links[link].beat, now, age));
}

static void on_beat(const struct v_event *e)
{
    struct v_link *l = &v.links[e->link];
    uint64_t now = v_proc_of(e->to)->busy;

    v_charge(e->to, v.costs.message);
    if (l->upper == e->to) {
        mu_beat_heard(&l->beat, now);
        mu_beat_take(&l->beat, now, &e->beat);
        if (mu_beat_answers(&l->beat, now))
            beat_up(e->to, e->link);
        return;
    }
    struct v_agent *a = &v.agents[e->to];
    if (a->link != e->link)
        return;
    uint64_t known = mu_beat_known(&a->beat);
    mu_beat_heard(&a->beat, now);
    mu_beat_take(&a->beat, now, &e->beat);
    if (a->path && mu_beat_known(&a->beat) > known)
        agent_step(a, (struct mu_ev){.kind = MU_EV_ECHO, .at = mu_beat_known(&a->beat)});
}

static void gone_below(uint32_t who, uint32_t link, int status, uint64_t age)
{
    v.links[link].open = false;
    if (who != V_CTL) {
        mu_tree_child_gone(v.agents[who].tree, link, status, age);
        return;
    }
    ctl_step((struct mu_ev){.kind = MU_EV_DOWN, .conn = link, .status = status, .at = v.ctl_proc.busy - age});
    mu_branches_lost(branches, link, age);
}

static void on_upper(const struct v_event *e)
{
    struct v_link *l = &v.links[e->link];
    uint64_t now = v_proc_of(e->to)->busy, next;

    if (!l->open)
        return;
    unsigned words = mu_beat_next(&l->beat, now, &next);
    if (words & MU_BEAT_GONE) {
        gone_below(e->to, e->link, MU_DOWN_SILENT, now - l->beat.heard);
        return;
    }
    if (words & MU_BEAT_SEND)
        beat_up(e->to, e->link);
    v_at(next > v.now ? next : v.now + 1,
         (struct v_event){.what = UPPER, .to = e->to, .gen = v_gen_of(e->to), .link = e->link});
}

static void on_lower(struct v_agent *a, const struct v_event *e)
{
    uint64_t next, known = mu_agent_known(a->stub.core);

    if (a->link != e->link)
        return;
    unsigned words = mu_beat_next(&a->beat, a->proc.busy, &next);
    if (words & MU_BEAT_GONE) {
        v_hang_up(a->i, a->link);
        lost_way(a);
        return;
    }
    if (words & MU_BEAT_SEND)
        v_transmit_beat(a->i, a->link, mu_beat_make(&a->beat, a->proc.busy, 0));
    bool calm = a->path && !mu_agent_leased(a->stub.core); /* as in runtime/agent/uplink.c */
    bool there = a->proc.busy < a->beat.heard + ABSENT;
    uint64_t spread = calm ? 5 * ASIDE : there ? ASIDE_SPREAD : 1;
    uint64_t limit = (calm ? 5 * ASIDE : ASIDE) + ((a->since + a->i) * 0x9e3779b97f4a7c15ull >> 16) % spread;
    if (a->parent != V_CTL && !a->moving && a->proc.busy > (known ? known : a->since) + limit) {
        a->moving = true;
        dial(a, V_CTL);
    }
    v_at(next > v.now ? next : v.now + 1, (struct v_event){.what = LOWER, .to = a->i, .gen = a->gen, .link = e->link});
}

/* Somebody's connection has come this far. */
static void on_dial(const struct v_event *e)
{
    struct v_agent *by = &v.agents[e->from];

    if (!by->alive || by->gen != e->link || (e->to != V_CTL && !v.agents[e->to].alive))
        return;
    v_charge(e->to, v.costs.handshake);
    uint32_t link = v_new_link(e->from, e->to);
    mu_beat_begin(&v.links[link].beat, v_proc_of(e->to)->busy, true);
    v_at(v_proc_of(e->to)->busy, (struct v_event){.what = UPPER, .to = e->to, .gen = v_gen_of(e->to), .link = link});
    v_at(v_proc_of(e->to)->busy + V_LATENCY,
         (struct v_event){.what = ARRIVED, .to = e->from, .gen = by->gen, .link = link, .from = e->to});
    if (e->to != V_CTL)
        return;
    ctl_step((struct mu_ev){.kind = MU_EV_UP, .conn = link});
}

static void on_down(const struct v_event *e)
{
    struct v_link *l = &v.links[e->link];

    if (l->upper == e->to) {
        gone_below(e->to, e->link, MU_DOWN_CLOSED, 0);
        return;
    }
    struct v_agent *a = &v.agents[e->to];
    if (a->old == e->link)
        a->old = 0;
    else if (a->link == e->link)
        lost_way(a);
}

static void one(const struct v_event *e)
{
    struct v_agent *a = e->to == V_CTL ? NULL : &v.agents[e->to];

    if (a && (!a->alive || a->gen != e->gen))
        return;
    if (a && a->frozen)
        return;
    v_begin(e->to, e->t);
    switch (e->what) {
    case FRAME:
        on_frame(e);
        return;
    case BEAT:
        on_beat(e);
        return;
    case DOWN:
        on_down(e);
        return;
    case DIAL:
        on_dial(e);
        return;
    case ARRIVED:
        if (v.links[e->link].open)
            connected(a, e->link, e->from);
        return;
    case LOWER:
        on_lower(a, e);
        return;
    case UPPER:
        on_upper(e);
        return;
    case CORE:
        if (a) {
            a->alarm = UINT64_MAX;
            agent_step(a, (struct mu_ev){.kind = MU_EV_TIME});
        } else {
            ctl_alarm = UINT64_MAX;
            ctl_step((struct mu_ev){.kind = MU_EV_TIME});
        }
        return;
    case RETIRED:
        if (a->old == e->link) {
            v_hang_up(a->i, a->old);
            a->old = 0;
        }
        return;
    case REST:
        if (!a->link)
            dial(a, V_CTL);
        return;
    default:
        return;
    }
}

void v_run_until(uint64_t t)
{
    struct v_event e;

    while (v_next(t, &e)) {
        v.now = e.t;
        one(&e);
        v_unref(e.blob);
    }
    v.now = t;
}

/* --- beginning and end -------------------------------------------------------------------------------------------- */

void v_say(enum mu_msg_type type, const void *body)
{
    struct mu_msg m = {.type = type};

    memcpy(&m.hello, body, mu_msg_size(type));
    v_begin(V_CTL, v.now);
    ctl_step((struct mu_ev){.kind = MU_EV_MSG, .conn = v.client.conn, .msg = &m});
}

void v_pool_begin(void)
{
    static const struct mu_branch_ops ops = {
        .opened = stream_opened, .up = stream_up, .frame = stream_frame, .down = stream_down, .send = link_send};
    struct mu_ctl_config cfg = {
        .incarnation = 1, .agent_wait_ns = MU_SEC, .version = "scale", .node = "here", .fanout = v.fanout};

    v.agents = calloc(v.nagents, sizeof *v.agents);
    v.ctl = mu_ctl_new(&cfg);
    branches = mu_branches_new(&ops);
    if (!v.agents || !v.ctl || !branches)
        abort();
    v_begin(V_CTL, v.now);
    v.client.conn = v_new_link(V_CTL, V_CTL);
    ctl_step((struct mu_ev){.kind = MU_EV_LOADED});
    ctl_step((struct mu_ev){.kind = MU_EV_UP, .conn = v.client.conn});
    v_say(MU_MSG_hello, &(struct mu_m_hello){.proto = MU_WIRE_VERSION, .role = (char[]){"client"}});
}

void v_pool_free(void)
{
    for (unsigned i = 0; i < v.nagents; i++)
        if (v.agents[i].alive)
            v_end(&v.agents[i], true);
    mu_branches_free(branches);
    mu_ctl_free(v.ctl);
    mu_acts_free(&acts);
    free(v.agents);
}
