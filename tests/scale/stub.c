#include "tests/scale/stub.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/clean.h"
#include "runtime/base/clock.h"

struct stub_pending {
    struct mu_ev ev;
    struct mu_msg msg;
    struct stub_pending *next;
};

static struct stub_pending *later(struct stub *s, enum mu_ev_kind kind, enum mu_msg_type type)
{
    struct stub_pending *p = calloc(1, sizeof *p);

    if (!p)
        abort();
    p->ev = (struct mu_ev){.kind = kind, .job = s->keeper.job, .conn = s->keeper.conn, .pid = s->keeper.pid};
    p->msg.type = type;
    *s->tail = p;
    s->tail = &p->next;
    return p;
}

static void report(struct stub *s, uint32_t phase)
{
    struct stub_pending *p = later(s, MU_EV_MSG, MU_MSG_report);

    s->keeper.phase = phase;
    p->msg.report = (struct mu_m_report){.job = s->keeper.job,
                                         .attempt = s->keeper.attempt,
                                         .node = s->name,
                                         .phase = phase,
                                         .nranks = 1,
                                         .nlive = phase == MU_PHASE_RUNNING,
                                         .keeper = s->keeper.pid,
                                         .drained = phase == MU_PHASE_GONE,
                                         .seq = ++s->keeper.seq};
}

static void contribute(struct stub *s, uint32_t flags)
{
    static uint8_t data[STUB_FENCE_MAX];
    struct stub_pending *p = later(s, MU_EV_MSG, MU_MSG_fence);

    p->msg.fence = (struct mu_m_fence){.job = s->keeper.job,
                                       .attempt = s->keeper.attempt,
                                       .nodes = {.v = &s->keeper.place, .n = 1},
                                       .data = {.data = data, .len = s->keeper.fence_bytes},
                                       .flags = flags};
}

static void to_keeper(struct stub *s, const struct mu_buf *frame)
{
    MU_AUTO_MSG struct mu_msg m = {0};

    if (mu_msg_decode(frame->data, frame->len, &m, NULL))
        abort();
    switch (m.type) {
    case MU_MSG_start:
        s->keeper.attempt = m.start.attempt;
        s->keeper.place = m.start.node_id;
        s->keeper.started = s->now;
        s->keeper.fenced = 0;
        s->keeper.fencing = false;
        report(s, MU_PHASE_RUNNING);
        return;
    case MU_MSG_kill:
        if (m.kill.signo && s->keeper.phase != MU_PHASE_GONE)
            report(s, MU_PHASE_GONE);
        return;
    case MU_MSG_fence: /* a question */
        if (s->keeper.fencing && !s->keeper.fenced)
            contribute(s, MU_FENCE_AGAIN);
        return;
    case MU_MSG_fenced:
        s->keeper.fenced = s->now;
        return;
    case MU_MSG_release:
        later(s, MU_EV_DOWN, 0);
        later(s, MU_EV_CHILD, 0);
        return;
    default:
        return;
    }
}

static void carry_out(struct stub *s)
{
    for (size_t i = 0; i < s->acts.n; i++) {
        const struct mu_act *a = &s->acts.v[i];
        struct stub_pending *p;
        switch (a->kind) {
        case MU_ACT_SEND:
            if (a->conn == MU_AGENT_CTL)
                s->send(s->arg, a->frame.data, a->frame.len);
            else
                to_keeper(s, &a->frame);
            break;
        case MU_ACT_SPAWN:
            s->keeper.job = a->job;
            s->keeper.pid = ++s->last + 1000;
            s->keeper.conn = s->last + 10;
            later(s, MU_EV_SPAWNED, 0);
            later(s, MU_EV_UP, 0);
            p = later(s, MU_EV_MSG, MU_MSG_hello);
            p->msg.hello = (struct mu_m_hello){
                .proto = MU_WIRE_VERSION, .role = (char *)(uintptr_t) "keeper", .job = a->job, .pid = s->keeper.pid};
            break;
        case MU_ACT_CLEAN:
            later(s, MU_EV_CLEANED, 0)->ev.job = a->job;
            break;
        case MU_ACT_CHECK: /* nothing is wrong with it */
            later(s, MU_EV_CHECKED, MU_MSG_checked);
            break;
        default:
            break;
        }
    }
    mu_acts_clear(&s->acts);
}

static void step_once(struct stub *s, struct mu_ev *ev)
{
    ev->now = ev->wall = s->now;
    mu_agent_step(s->core, ev, &s->acts);
    carry_out(s);
}

static void catch_up(struct stub *s)
{
    while (s->pending) {
        struct stub_pending *p = s->pending;
        s->pending = p->next;
        if (!s->pending)
            s->tail = &s->pending;
        if (p->msg.type)
            p->ev.msg = &p->msg;
        step_once(s, &p->ev);
        free(p);
    }
}

void stub_step(struct stub *s, struct mu_ev *ev, uint64_t now)
{
    s->now = now;
    step_once(s, ev);
    catch_up(s);
}

void stub_fence(struct stub *s, uint32_t bytes, uint64_t now)
{
    s->now = now;
    s->keeper.fence_bytes = bytes < STUB_FENCE_MAX ? bytes : STUB_FENCE_MAX;
    s->keeper.fencing = true;
    contribute(s, 0);
    catch_up(s);
}

bool stub_begin(struct stub *s, const char *name, uint64_t incarnation)
{
    struct mu_agent_config cfg = {.slots = 1,
                                  .pus = 1,
                                  .memory = 1 << 30,
                                  .boot = "scale",
                                  .incarnation = incarnation,
                                  .pid = 1,
                                  .joined = true,
                                  .adopt_wait_ns = MU_SEC,
                                  .end_ns = 10 * MU_SEC};

    snprintf(s->name, sizeof s->name, "%s", name);
    cfg.node = s->name;
    s->tail = &s->pending;
    return (s->core = mu_agent_new(&cfg)) != NULL;
}

void stub_end(struct stub *s)
{
    mu_agent_free(MU_STEAL(s->core, NULL));
    mu_acts_free(&s->acts);
    memset(&s->keeper, 0, sizeof s->keeper);
}
