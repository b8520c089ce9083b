/* virtual [--agents N] [--fanout F] [--rounds R] [--strict]: a pool of N nodes in virtual time. The cores, the tables
 * of the tree and the beats are the real ones; the network is a queue. Each process does one thing after the other:
 * what a core computes takes as long as it has taken here, a message costs both ends what it has cost over a real link
 * (costs.c), and goes out at 1 Gbit/s with 0.1 ms on the way. TAP on stdout, with the figures as comments; --strict:
 * the bounds that hold on a machine of one's own. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launcher/branch.h"
#include "launcher/core/ctl.h"
#include "runtime/agent/tree.h"
#include "runtime/base/clean.h"
#include "runtime/base/clock.h"
#include "runtime/wire/beat.h"
#include "tests/scale/costs.h"
#include "tests/scale/stub.h"
#include "tests/unit/tap.h"

#define LATENCY (100 * 1000ull)
#define NS_A_BYTE 8u
#define REDIAL (50 * MU_MS)
#define RETIRE (2 * MU_SEC)
#define ASIDE (600 * MU_MS)
#define CTL UINT32_MAX /* the process that is no agent */
#define WAIT (120 * MU_SEC)

/* One copy of a frame that goes to many. */
struct blob {
    unsigned refs;
    size_t len;
    char data[];
};

enum what { FRAME, BEAT, DOWN, DIAL, ARRIVED, LOWER, UPPER, CORE, RETIRED, REST };
struct event {
    uint64_t t, seq;
    enum what what;
    uint32_t to, link, gen, from; /* to: process; from: of ARRIVED, who has dialled */
    struct mu_m_beat beat;
    struct blob *blob;
};

struct link { /* between two processes */
    bool open, greeted;
    uint32_t lower, upper;
    struct mu_beat beat; /* of the upper end */
    uint64_t due;        /* that of its alarm */
};

struct proc {
    uint64_t busy, nic; /* it has time then; its network interface has */
    double cpu;
};

struct agent {
    struct proc proc;
    struct stub stub;
    struct mu_tree *tree;
    struct mu_beat beat;
    uint32_t i, gen, link, old, parent; /* parent: of the present link; CTL: it is the controller */
    struct mu_buf pieces;
    uint64_t alarm, since;
    bool alive, frozen, path, placed, moving;
};

static struct costs costs;
static struct proc ctl_proc;
static struct mu_ctl *ctl;
static struct mu_branches *branches;
static struct mu_acts acts;
static uint64_t ctl_alarm;
static unsigned nconns;
static struct agent *agents;
static unsigned nagents = 300, fanout = 8, rounds = 3;
static struct link *links;
static uint32_t nlinks = 1, caplinks;
static struct event *heap;
static size_t nheap, capheap;
static uint64_t clock_now = MU_SEC, seq, incarnations;
static double scan; /* the shell looks at each connection after a step: ns of one */
static struct {     /* the client */
    uint64_t job;
    uint64_t running_at, ended_at; /* 0: not yet */
    mu_conn conn;
} client;

/* --- the queue ---------------------------------------------------------------------------------------------------- */

static bool earlier(const struct event *a, const struct event *b)
{
    return a->t != b->t ? a->t < b->t : a->seq < b->seq;
}

static void at(uint64_t t, struct event e)
{
    if (nheap == capheap) {
        capheap = capheap ? 2 * capheap : 1024;
        heap = realloc(heap, capheap * sizeof *heap);
        if (!heap)
            abort();
    }
    e.t = t;
    e.seq = seq++;
    size_t i = nheap++;
    for (; i > 0 && earlier(&e, &heap[(i - 1) / 2]); i = (i - 1) / 2)
        heap[i] = heap[(i - 1) / 2];
    heap[i] = e;
}

static struct event pop(void)
{
    struct event top = heap[0], last = heap[--nheap];
    size_t i = 0;

    for (size_t c; (c = 2 * i + 1) < nheap; i = c) {
        if (c + 1 < nheap && earlier(&heap[c + 1], &heap[c]))
            c++;
        if (!earlier(&heap[c], &last))
            break;
        heap[i] = heap[c];
    }
    if (nheap)
        heap[i] = last;
    return top;
}

static void unref(struct blob *b)
{
    if (b && !--b->refs)
        free(b);
}

/* --- processes ---------------------------------------------------------------------------------------------------- */

static struct proc *proc_of(uint32_t who)
{
    return who == CTL ? &ctl_proc : &agents[who].proc;
}

static void charge(uint32_t who, double ns)
{
    struct proc *p = proc_of(who);

    p->busy += (uint64_t)ns;
    p->cpu += ns;
}

/* Its clock, now that it comes to something that has been there since t. */
static uint64_t begin(uint32_t who, uint64_t t)
{
    struct proc *p = proc_of(who);

    p->busy = p->busy > t ? p->busy : t;
    return p->busy;
}

/* When so many bytes are at the other end. */
static uint64_t carried(uint32_t from, size_t len)
{
    struct proc *p = proc_of(from);

    p->nic = (p->nic > p->busy ? p->nic : p->busy) + len * NS_A_BYTE;
    return p->nic + LATENCY;
}

static uint32_t other(uint32_t link, uint32_t who)
{
    return links[link].lower == who ? links[link].upper : links[link].lower;
}

static uint32_t gen_of(uint32_t who)
{
    return who == CTL ? 0 : agents[who].gen;
}

static void transmit(uint32_t from, uint32_t link, const void *frame, size_t len)
{
    static struct blob *last; /* often it is the same as for the one before */

    if (!links[link].open)
        return;
    if (!last || last->len != len || memcmp(last->data, frame, len) != 0) {
        unref(last);
        last = malloc(sizeof *last + len);
        if (!last)
            abort();
        *last = (struct blob){.refs = 1, .len = len};
        memcpy(last->data, frame, len);
    }
    last->refs++;
    charge(from, costs.message + costs.kilobyte * (double)len / 1024);
    uint32_t to = other(link, from);
    at(carried(from, len), (struct event){.what = FRAME, .to = to, .link = link, .gen = gen_of(to), .blob = last});
}

static void transmit_beat(uint32_t from, uint32_t link, struct mu_m_beat m)
{
    uint32_t to = other(link, from);

    if (!links[link].open)
        return;
    charge(from, costs.message);
    at(carried(from, 60), (struct event){.what = BEAT, .to = to, .link = link, .gen = gen_of(to), .beat = m});
}

/* Its kernel tells the other end. */
static void hang_up(uint32_t who, uint32_t link)
{
    uint32_t to = link ? other(link, who) : 0;

    if (!link || !links[link].open)
        return;
    links[link].open = false;
    if (to == CTL || agents[to].alive)
        at(carried(who, 60), (struct event){.what = DOWN, .to = to, .link = link, .gen = gen_of(to)});
}

static uint32_t new_link(uint32_t lower, uint32_t upper)
{
    if (nlinks + 1 >= caplinks) {
        caplinks = caplinks ? 2 * caplinks : 4096;
        links = realloc(links, caplinks * sizeof *links);
        if (!links)
            abort();
    }
    links[++nlinks] = (struct link){.open = lower != upper, .lower = lower, .upper = upper};
    return nlinks;
}

/* --- the controller ----------------------------------------------------------------------------------------------- */

static void ctl_step(struct mu_ev ev);

static void for_client(const struct mu_buf *frame)
{
    MU_AUTO_MSG struct mu_msg m = {0};

    if (mu_msg_decode(frame->data, frame->len, &m, NULL))
        return;
    if (m.type == MU_MSG_submitted && m.submitted.job)
        client.job = m.submitted.job;
    else if (m.type == MU_MSG_state)
        client.running_at = m.state.state == MU_JOB_RUNNING ? ctl_proc.busy : client.running_at;
    else if (m.type == MU_MSG_ended)
        client.ended_at = ctl_proc.busy;
    else if (m.type == MU_MSG_error)
        printf("# the controller says: %s\n", m.error.text);
}

static mu_conn stream_opened(void *arg)
{
    (void)arg;
    nconns++;
    return new_link(CTL, CTL);
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
    nconns--;
    ctl_step((struct mu_ev){.kind = MU_EV_DOWN, .conn = id, .status = status, .at = ctl_proc.busy - age});
}

static void link_send(void *arg, mu_conn link, const void *frame, size_t len)
{
    (void)arg;
    transmit(CTL, link, frame, len);
}

static void ctl_step(struct mu_ev ev)
{
    mu_conn downs[64];
    unsigned ndowns = 0;
    double t0 = costs_cpu();

    ev.now = ev.wall = ctl_proc.busy;
    mu_ctl_step(ctl, &ev, &acts);
    charge(CTL, costs_cpu() - t0 + scan * nconns);
    struct mu_acts mine = MU_STEAL(acts, (struct mu_acts){0});
    for (size_t i = 0; i < mine.n; i++) {
        const struct mu_act *a = &mine.v[i];
        const mu_conn *to;
        uint32_t n = mu_act_to(a, &to);
        if (a->kind == MU_ACT_SEND && n == 1 && to[0] == client.conn)
            for_client(&a->frame);
        else if (a->kind == MU_ACT_SEND) {
            t0 = costs_cpu();
            mu_branches_send(branches, to, n, a->frame.data, a->frame.len);
            charge(CTL, costs_cpu() - t0);
        } else if (a->kind == MU_ACT_EVENT && getenv("VERBOSE"))
            printf("# %.3f s: %s %s %s\n", (double)ctl_proc.busy / 1e9, a->event, a->node, a->detail);
        else if (a->kind == MU_ACT_CLOSE && ndowns < MU_COUNT(downs))
            downs[ndowns++] = a->conn;
    }
    mu_acts_free(&mine);
    for (unsigned i = 0; i < ndowns; i++) {
        nconns--;
        if (!mu_branches_close(branches, downs[i]))
            hang_up(CTL, downs[i]);
        ctl_step((struct mu_ev){.kind = MU_EV_DOWN, .conn = downs[i]});
        mu_branches_lost(branches, downs[i], 0);
    }
    uint64_t next = mu_ctl_next(ctl);
    if (next < ctl_alarm) {
        ctl_alarm = next;
        at(next > clock_now ? next : clock_now, (struct event){.what = CORE, .to = CTL});
    }
}

/* --- an agent ----------------------------------------------------------------------------------------------------- */

static void agent_step(struct agent *a, struct mu_ev ev)
{
    double t0 = costs_cpu();

    stub_step(&a->stub, &ev, a->proc.busy);
    charge(a->i, costs_cpu() - t0);
    uint64_t next = mu_agent_next(a->stub.core);
    if (next < a->alarm) {
        a->alarm = next;
        at(next > clock_now ? next : clock_now, (struct event){.what = CORE, .to = a->i, .gen = a->gen});
    }
}

static void on_send(void *arg, const void *frame, size_t len)
{
    struct agent *a = arg;

    if (a->link && a->path)
        transmit(a->i, a->link, frame, len);
}

static void on_tree_down(void *arg, uint32_t child, const void *frame, size_t len)
{
    transmit(((struct agent *)arg)->i, child, frame, len);
}

static void on_tree_cut(void *arg, uint32_t child)
{
    hang_up(((struct agent *)arg)->i, child);
}

static void for_agent(struct agent *a, const struct mu_msg *m);

static void on_tree_self(void *arg, const void *frame, size_t len, bool piece)
{
    struct agent *a = arg;
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

static void up(struct agent *a)
{
    mu_tree_path(a->tree, false);
    mu_buf_free(&a->pieces);
    a->placed = false;
    agent_step(a, (struct mu_ev){.kind = MU_EV_UP, .conn = MU_AGENT_CTL});
}

static void connected(struct agent *a, uint32_t link, uint32_t parent)
{
    if (a->old)
        hang_up(a->i, a->old);
    a->old = a->link;
    if (a->old)
        at(a->proc.busy + RETIRE, (struct event){.what = RETIRED, .to = a->i, .gen = a->gen, .link = a->old});
    a->link = link;
    a->parent = parent;
    a->path = true;
    a->moving = false;
    a->since = a->proc.busy;
    mu_beat_begin(&a->beat, a->proc.busy, false);
    at(a->proc.busy, (struct event){.what = LOWER, .to = a->i, .gen = a->gen, .link = link});
    up(a);
}

/* The handshake costs both, and three times the way. */
static void dial(struct agent *a, uint32_t to)
{
    charge(a->i, costs.handshake);
    at(a->proc.busy + LATENCY * 3,
       (struct event){.what = DIAL, .to = to, .gen = gen_of(to), .from = a->i, .link = a->gen});
}

static void for_agent(struct agent *a, const struct mu_msg *m)
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

static void lost_way(struct agent *a)
{
    mu_tree_path(a->tree, false);
    a->link = 0;
    a->path = a->placed = false;
    agent_step(a, (struct mu_ev){.kind = MU_EV_DOWN, .conn = MU_AGENT_CTL});
    at(a->proc.busy + REDIAL, (struct event){.what = REST, .to = a->i, .gen = a->gen});
}

static void on_path(struct agent *a, bool there)
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

static void from_above(struct agent *a, const struct mu_msg *m)
{
    if (m->type == MU_MSG_relay && !m->relay.channels.n)
        on_path(a, m->relay.kind == MU_RELAY_OPEN);
    else if (m->type == MU_MSG_relay)
        mu_tree_above(a->tree, &m->relay);
    else
        for_agent(a, m);
}

static void start(struct agent *a, uint64_t t)
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
    begin(a->i, t);
    agent_step(a, (struct mu_ev){.kind = MU_EV_LOADED});
    dial(a, CTL);
}

static void end(struct agent *a, bool silently)
{
    begin(a->i, clock_now);
    for (uint32_t l = 2; l <= nlinks; l++)
        if (links[l].open && (links[l].lower == a->i || links[l].upper == a->i)) {
            if (silently)
                links[l].open = false;
            else
                hang_up(a->i, l);
        }
    a->gen++;
    a->alive = a->placed = a->path = a->frozen = false;
    a->link = a->old = 0;
    mu_tree_free(MU_STEAL(a->tree, NULL));
    mu_buf_free(&a->pieces);
    stub_end(&a->stub);
}

/* --- what happens ------------------------------------------------------------------------------------------------- */

static void on_frame(const struct event *e)
{
    MU_AUTO_MSG struct mu_msg m = {0};
    struct link *l = &links[e->link];
    double t0 = costs_cpu();

    if (mu_msg_decode(e->blob->data, e->blob->len, &m, NULL))
        abort();
    charge(e->to, costs.message + costs.kilobyte * (double)e->blob->len / 1024 + costs_cpu() - t0);
    if (e->to == CTL) {
        mu_beat_heard(&l->beat, ctl_proc.busy);
        if (m.type == MU_MSG_relay)
            mu_branches_take(branches, e->link, &m.relay);
        else
            ctl_step((struct mu_ev){.kind = MU_EV_MSG, .conn = e->link, .msg = &m});
        return;
    }
    struct agent *a = &agents[e->to];
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
    charge(a->i, costs_cpu() - t0);
}

static void beat_up(uint32_t who, uint32_t link)
{
    uint64_t now = proc_of(who)->busy;
    uint64_t age = who == CTL ? 0 : mu_agent_up_age(agents[who].stub.core, now);

    transmit_beat(who, link, mu_beat_make(&links[link].beat, now, age));
}

static void on_beat(const struct event *e)
{
    struct link *l = &links[e->link];
    uint64_t now = proc_of(e->to)->busy;

    charge(e->to, costs.message);
    if (l->upper == e->to) {
        mu_beat_heard(&l->beat, now);
        mu_beat_take(&l->beat, now, &e->beat);
        if (mu_beat_answers(&l->beat, now))
            beat_up(e->to, e->link);
        return;
    }
    struct agent *a = &agents[e->to];
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
    links[link].open = false;
    if (who != CTL) {
        mu_tree_child_gone(agents[who].tree, link, status, age);
        return;
    }
    nconns--;
    ctl_step((struct mu_ev){.kind = MU_EV_DOWN, .conn = link, .status = status, .at = ctl_proc.busy - age});
    mu_branches_lost(branches, link, age);
}

static void on_upper(const struct event *e)
{
    struct link *l = &links[e->link];
    uint64_t now = proc_of(e->to)->busy, next;

    if (!l->open)
        return;
    unsigned words = mu_beat_next(&l->beat, now, &next);
    if (words & MU_BEAT_GONE) {
        gone_below(e->to, e->link, MU_DOWN_SILENT, now - l->beat.heard);
        return;
    }
    if (words & MU_BEAT_SEND)
        beat_up(e->to, e->link);
    at(next > clock_now ? next : clock_now + 1,
       (struct event){.what = UPPER, .to = e->to, .gen = gen_of(e->to), .link = e->link});
}

static void on_lower(struct agent *a, const struct event *e)
{
    uint64_t next, known = mu_agent_known(a->stub.core);

    if (a->link != e->link)
        return;
    unsigned words = mu_beat_next(&a->beat, a->proc.busy, &next);
    if (words & MU_BEAT_GONE) {
        hang_up(a->i, a->link);
        lost_way(a);
        return;
    }
    if (words & MU_BEAT_SEND)
        transmit_beat(a->i, a->link, mu_beat_make(&a->beat, a->proc.busy, 0));
    bool calm = a->path && !mu_agent_leased(a->stub.core); /* as in runtime/agent/uplink.c */
    uint64_t limit = calm ? 5 * ASIDE + a->since / 1000 % (5 * ASIDE) : ASIDE;
    if (a->parent != CTL && !a->moving && a->proc.busy > (known ? known : a->since) + limit) {
        a->moving = true;
        dial(a, CTL);
    }
    at(next > clock_now ? next : clock_now + 1,
       (struct event){.what = LOWER, .to = a->i, .gen = a->gen, .link = e->link});
}

/* Somebody's connection has come this far. */
static void on_dial(const struct event *e)
{
    struct agent *by = &agents[e->from];

    if (!by->alive || by->gen != e->link || (e->to != CTL && !agents[e->to].alive))
        return;
    charge(e->to, costs.handshake);
    uint32_t link = new_link(e->from, e->to);
    mu_beat_begin(&links[link].beat, proc_of(e->to)->busy, true);
    at(proc_of(e->to)->busy, (struct event){.what = UPPER, .to = e->to, .gen = gen_of(e->to), .link = link});
    at(proc_of(e->to)->busy + LATENCY,
       (struct event){.what = ARRIVED, .to = e->from, .gen = by->gen, .link = link, .from = e->to});
    if (e->to != CTL)
        return;
    nconns++;
    ctl_step((struct mu_ev){.kind = MU_EV_UP, .conn = link});
}

static void on_down(const struct event *e)
{
    struct link *l = &links[e->link];

    if (l->upper == e->to) {
        gone_below(e->to, e->link, MU_DOWN_CLOSED, 0);
        return;
    }
    struct agent *a = &agents[e->to];
    if (a->old == e->link)
        a->old = 0;
    else if (a->link == e->link)
        lost_way(a);
}

static void one(const struct event *e)
{
    struct agent *a = e->to == CTL ? NULL : &agents[e->to];

    if (a && (!a->alive || a->gen != e->gen))
        return;
    if (a && a->frozen)
        return;
    begin(e->to, e->t);
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
        if (links[e->link].open)
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
            hang_up(a->i, a->old);
            a->old = 0;
        }
        return;
    case REST:
        if (!a->link)
            dial(a, CTL);
        return;
    default:
        return;
    }
}

static void run_until(uint64_t t)
{
    while (nheap && heap[0].t <= t) {
        struct event e = pop();
        clock_now = e.t;
        one(&e);
        unref(e.blob);
    }
    clock_now = t;
}

/* In steps of a millisecond, as somebody would see it who asks again and again. */
#define RUN_UNTIL(cond)                                                                                                \
    for (uint64_t end_ = clock_now + WAIT; !(cond) && clock_now < end_;)                                               \
    run_until(clock_now + MU_MS)

/* --- what is measured --------------------------------------------------------------------------------------------- */

static double ms(uint64_t ns)
{
    return (double)ns / 1e6;
}

/* What can be seen at the controller now, it has come to then. */
static uint64_t ctl_time(void)
{
    return ctl_proc.busy > clock_now ? ctl_proc.busy : clock_now;
}

static int by_size(const void *a, const void *b)
{
    const double *x = a, *y = b;

    return *x < *y ? -1 : *x > *y;
}

static double figures(const char *what, double *v, unsigned n)
{
    qsort(v, n, sizeof *v, by_size);
    printf("# %-58s median %8.1f ms, worst %8.1f ms (%u)\n", what, n ? v[n / 2] : 0, n ? v[n - 1] : 0, n);
    return n ? v[n - 1] : 1e9;
}

static unsigned count(bool (*is)(const struct agent *))
{
    unsigned n = 0;

    for (unsigned i = 0; i < nagents; i++)
        n += is(&agents[i]);
    return n;
}

static bool is_placed(const struct agent *a)
{
    return a->placed && !a->frozen;
}

static bool is_started(const struct agent *a)
{
    return a->stub.keeper.job == client.job && a->stub.keeper.started;
}

static bool is_fenced(const struct agent *a)
{
    return a->stub.keeper.fenced != 0;
}

static const struct mu_node *node_of(const struct agent *a)
{
    const struct mu_pool *pool = mu_ctl_pool(ctl);

    for (unsigned i = 0; i < pool->n; i++)
        if (!strcmp(pool->v[i].name, a->stub.name))
            return &pool->v[i];
    return NULL;
}

static unsigned ready(void)
{
    const struct mu_pool *pool = mu_ctl_pool(ctl);
    unsigned n = 0;

    for (unsigned i = 0; i < pool->n; i++)
        n += pool->v[i].state == MU_NODE_UP && pool->v[i].ready;
    return n;
}

static unsigned depth_of(const struct agent *a)
{
    unsigned d = 1;

    for (; a->parent != CTL && d < 20; d++)
        a = &agents[a->parent];
    return d;
}

static void joining(void)
{
    unsigned depth[20] = {0};
    uint64_t t0 = clock_now;

    for (unsigned i = 0; i < nagents; i++) { /* as engines start them */
        agents[i].i = i;
        start(&agents[i], clock_now);
        RUN_UNTIL(i + 1 - count(is_placed) < 64);
    }
    RUN_UNTIL(ready() == nagents && count(is_placed) == nagents);
    TAP_OK(ready() == nagents, "%u agents join", nagents);
    printf("# %-58s %15.1f ms (controller's processor %.0f ms)\n", "all have joined after", ms(ctl_time() - t0),
           ctl_proc.cpu / 1e6);
    for (unsigned i = 0; i < nagents; i++)
        depth[depth_of(&agents[i]) % 20]++;
    printf("# by depth:");
    for (unsigned d = 1; d < 20 && depth[d]; d++)
        printf(" %u", depth[d]);
    printf("\n");
    TAP_OK(depth[1] == (nagents < fanout ? nagents : fanout), "those nearest to the controller are as many as may be");
}

static double resting(void)
{
    run_until(clock_now + MU_SEC);
    double cpu = ctl_proc.cpu;
    run_until(clock_now + 2 * MU_SEC);
    double share = (ctl_proc.cpu - cpu) / 2e9 * 100;
    printf("# %-58s %15.2f %% of a core\n", "the controller at rest uses", share);
    TAP_OK(ready() == nagents, "all are there");
    return share;
}

static struct agent *leaf(unsigned n)
{
    for (unsigned i = nagents; i-- > 0;)
        if (!mu_tree_children(agents[i].tree) && !n--)
            return &agents[i];
    return NULL;
}

static double leaves(void)
{
    double killed[16], silent[16];

    for (unsigned i = 0; i < 2 * rounds; i++) {
        struct agent *a = leaf(i * 7 % (nagents / 2));
        run_until(clock_now + (i * 37 % 100) * MU_MS); /* anywhere between two beats */
        uint64_t t0 = clock_now;
        const struct mu_node *n = node_of(a);
        if (i % 2) {
            a->frozen = true;
            RUN_UNTIL(n->state != MU_NODE_UP);
            silent[i / 2] = ms(ctl_time() - t0);
            end(a, true);
        } else {
            end(a, false);
            RUN_UNTIL(n->state != MU_NODE_UP);
            killed[i / 2] = ms(ctl_time() - t0);
        }
        start(a, clock_now);
        RUN_UNTIL(ready() == nagents && count(is_placed) == nagents);
    }
    double x = figures("a leaf whose process dies is known to be away after", killed, rounds);
    double y = figures("a leaf that falls silent is known to be away after", silent, rounds);
    TAP_OK(ready() == nagents, "leaves that are lost are known, and come back");
    return x > y ? x : y;
}

static void say(enum mu_msg_type type, const void *body)
{
    struct mu_msg m = {.type = type};

    memcpy(&m.hello, body, mu_msg_size(type));
    begin(CTL, clock_now);
    ctl_step((struct mu_ev){.kind = MU_EV_MSG, .conn = client.conn, .msg = &m});
}

static void submit(void)
{
    uint32_t n = nagents, one_app = 1, zero = 0;
    char prog[] = "true", wdir[] = "/", *argv[] = {prog, NULL}, *wdirs[] = {wdir, NULL}, *none[] = {NULL};
    char token[40];
    struct mu_m_spec spec = {.ranks = n,
                             .app_ranks = {.v = &n, .n = 1},
                             .app_argc = {.v = &one_app, .n = 1},
                             .argv = argv,
                             .app_envc = {.v = &zero, .n = 1},
                             .app_env = none,
                             .app_wdir = wdirs};
    struct mu_m_submit m = {.token = token};

    snprintf(token, sizeof token, "virtual-%llu", (unsigned long long)clock_now);
    if (mu_msg_pack(&m.spec, MU_MSG_spec, &spec))
        abort();
    client.job = client.running_at = client.ended_at = 0;
    say(MU_MSG_submit, &m);
    free(m.spec.data);
}

/* When the last one had its start, or its fence. */
static uint64_t newest(bool fence)
{
    uint64_t t = 0;

    for (unsigned i = 0; i < nagents; i++) {
        uint64_t at = fence ? agents[i].stub.keeper.fenced : agents[i].stub.keeper.started;
        t = at > t ? at : t;
    }
    return t;
}

static double jobs(void)
{
    double start_ms[16], run_ms[16], fence_ms[16], end_ms[16];
    bool good = true;
    /* what it brings is as much again as there are nodes: this machine has no memory for more */
    bool fences = nagents <= 2000;
    uint32_t bytes = STUB_FENCE_MAX * 16 / nagents;

    for (unsigned i = 0; i < rounds; i++) {
        for (unsigned k = 0; k < nagents; k++)
            agents[k].stub.keeper.started = 0;
        uint64_t t0 = clock_now;
        submit();
        say(MU_MSG_attach, &(struct mu_m_attach){.job = client.job});
        RUN_UNTIL(count(is_started) == nagents);
        start_ms[i] = ms(newest(false) - t0);
        RUN_UNTIL(client.running_at);
        run_ms[i] = ms(client.running_at - t0);
        good = good && count(is_started) == nagents && client.running_at;
        run_until(ctl_time());
        t0 = clock_now;
        for (unsigned k = 0; k < nagents && fences; k++) {
            begin(k, clock_now);
            stub_fence(&agents[k].stub, bytes < 16 ? 16 : bytes, agents[k].proc.busy);
        }
        RUN_UNTIL(!fences || count(is_fenced) == nagents);
        fence_ms[i] = fences ? ms(newest(true) - t0) : 0;
        good = good && (!fences || count(is_fenced) == nagents);
        run_until(ctl_time());
        t0 = clock_now;
        say(MU_MSG_cancel, &(struct mu_m_cancel){.job = client.job});
        RUN_UNTIL(client.ended_at);
        end_ms[i] = ms(client.ended_at - t0);
        good = good && client.ended_at;
        run_until(ctl_time() + 200 * MU_MS);
    }
    double worst = figures("a job on all nodes: the last one has its start after", start_ms, rounds);
    figures("the controller has heard that all run after", run_ms, rounds);
    if (fences)
        figures("a fence of all is done after", fence_ms, rounds);
    figures("cancelled, all have ended after", end_ms, rounds);
    TAP_OK(good, "jobs over all nodes start, have their fence, and end");
    return worst;
}

static void inner(void)
{
    double back[16];
    bool good = true;

    for (unsigned i = 0; i < rounds; i++) {
        struct agent *a = NULL;
        for (unsigned k = 0; k < nagents; k++)
            if (agents[k].parent == CTL && (!a || mu_tree_below(agents[k].tree) > mu_tree_below(a->tree)))
                a = &agents[k];
        uint64_t t0 = clock_now;
        end(a, false);
        run_until(clock_now + 20 * MU_MS);
        RUN_UNTIL(ready() == nagents - 1 && count(is_placed) == nagents - 1);
        back[i] = ms(ctl_time() - t0);
        good = good && ready() == nagents - 1;
        start(a, clock_now);
        RUN_UNTIL(ready() == nagents && count(is_placed) == nagents);
    }
    figures("an inner agent dies: all below it are back after", back, rounds);
    TAP_OK(good && ready() == nagents, "what was below an inner agent that dies comes back");
}

static void set_up(void)
{
    static const struct mu_branch_ops ops = {
        .opened = stream_opened, .up = stream_up, .frame = stream_frame, .down = stream_down, .send = link_send};
    struct mu_ctl_config cfg = {
        .incarnation = 1, .agent_wait_ns = MU_SEC, .version = "scale", .node = "here", .fanout = fanout};
    struct mu_err err = {0};

    if (costs_measure(&costs, &err)) {
        printf("Bail out! the costs: %s\n", err.text);
        exit(99);
    }
    printf("# %-58s %15.1f us\n", "a message costs each end", costs.message / 1e3);
    printf("# %-58s %15.1f us\n", "a kilobyte", costs.kilobyte / 1e3);
    printf("# %-58s %15.1f us\n", "a handshake", costs.handshake / 1e3);
    scan = 2;
    agents = calloc(nagents, sizeof *agents);
    ctl = mu_ctl_new(&cfg);
    branches = mu_branches_new(&ops);
    if (!agents || !ctl || !branches)
        abort();
    ctl_alarm = UINT64_MAX;
    begin(CTL, clock_now);
    new_link(CTL, CTL);
    client.conn = nlinks;
    ctl_step((struct mu_ev){.kind = MU_EV_LOADED});
    ctl_step((struct mu_ev){.kind = MU_EV_UP, .conn = client.conn});
    say(MU_MSG_hello, &(struct mu_m_hello){.proto = MU_WIRE_VERSION, .role = (char[]){"client"}});
}

int main(int argc, char **argv)
{
    bool strict = false;

    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--strict"))
            strict = true;
        else if (i + 1 < argc && !strcmp(argv[i], "--agents"))
            nagents = (unsigned)strtoul(argv[++i], NULL, 10);
        else if (i + 1 < argc && !strcmp(argv[i], "--fanout"))
            fanout = (unsigned)strtoul(argv[++i], NULL, 10);
        else if (i + 1 < argc && !strcmp(argv[i], "--rounds"))
            rounds = (unsigned)strtoul(argv[++i], NULL, 10);
    }
    rounds = rounds > 16 ? 16 : rounds;
    setvbuf(stdout, NULL, _IOLBF, 0);
    set_up();
    joining();
    double share = resting(), lost = leaves(), broadcast = jobs();
    inner();
    TAP_OK(share < (strict ? 10 : 100), "the controller at rest uses %.2f %% of a core", share);
    TAP_OK(lost <= (strict ? 1500 : 10000), "a lost leaf is known after %.0f ms", lost);
    TAP_OK(broadcast <= (strict ? 1000 : 20000), "a start has reached all after %.0f ms", broadcast);
    for (unsigned i = 0; i < nagents; i++)
        end(&agents[i], true);
    while (nheap)
        unref(pop().blob);
    mu_branches_free(branches);
    mu_ctl_free(ctl);
    mu_acts_free(&acts);
    free(agents);
    free(links);
    free(heap);
    return tap_done();
}
