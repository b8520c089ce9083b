#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/agent/core_priv.h"

static void set_report(struct keeper *k, const struct mu_m_report *r)
{
    struct mu_msg copy = {.type = MU_MSG_report};

    if (mu_msg_copy(MU_MSG_report, &copy.report, r))
        return;
    mu_msg_free(&k->report);
    k->report = copy;
}

/* The report of an entry whose keeper cannot speak: started but not connected, or dead. */
void mu_agent_speak_for(struct mu_agent *a, struct keeper *k, uint32_t phase, const char *text)
{
    struct mu_m_report r = {.job = k->job,
                            .attempt = k->attempt,
                            .node = (char *)(uintptr_t)a->cfg.node,
                            .phase = phase,
                            .first_text = (char *)(uintptr_t)text,
                            .drained = phase == MU_PHASE_LOST,
                            .lost = phase == MU_PHASE_LOST};

    set_report(k, &r);
    mu_agent_to_ctl(a, MU_MSG_report, &k->report.report);
}

/* why: what the keeper is killed for, NULL when it is dead already */
void mu_agent_clean(struct mu_agent *a, struct keeper *k, const char *why)
{
    struct mu_act *act = mu_acts_add(a->acts, MU_ACT_CLEAN);

    act->job = k->job;
    snprintf(act->detail, sizeof act->detail, "%s", why ? why : "");
    if (k->delivered)
        mu_msg_free(&k->start);
    k->state = K_CLEANING;
    k->pid = 0;
    k->conn = 0;
    k->due = 0;
}

/* A living keeper that was told to end something has so long from now on: it may hang. */
void mu_agent_limit(struct mu_agent *a, struct keeper *k, uint64_t grace)
{
    uint64_t until = a->now + grace + a->cfg.end_ns;
    bool lives = k->state == K_FOUND || k->state == K_SPAWNING || k->state == K_UP;

    k->anew = false;
    if (lives && a->cfg.end_ns && until > k->due && !MU_MUTANT(HANG_FORGIVEN))
        k->due = until;
}

void mu_agent_spawn(struct mu_agent *a, struct keeper *k)
{
    k->state = K_SPAWNING;
    k->pid = 0;
    mu_acts_add(a->acts, MU_ACT_SPAWN)->job = k->job;
}

void mu_agent_deliver(struct mu_agent *a, struct keeper *k)
{
    if (k->state != K_UP || k->start.type != MU_MSG_start || k->delivered || k->released)
        return;
    if (k->start_conn == a->nctl) /* it has heard us since: the start still stands */
        k->start.start.lease_ns = a->cfg.joined ? a->lease_until : 0;
    if (a->plan)
        a->plan(a->plan_arg, &k->start.start);
    mu_acts_send(a->acts, k->conn, MU_MSG_start, &k->start.start);
    k->delivered = true;
    if (!k->due) { /* ranks of an older attempt end first */
        mu_agent_limit(a, k, 0);
        k->anew = true;
    }
}

static void on_keeper_hello(struct mu_agent *a, mu_conn conn, const struct mu_m_hello *m)
{
    struct keeper *k = mu_agent_find(a, m->job);

    if (!k) /* found late: it lives, so it is adopted */
        k = mu_agent_add(a, m->job);
    if (!k || k->state == K_CLEANING || k->state == K_LOST || k->state == K_SPENT || (k->pid && k->pid != m->pid)) {
        mu_acts_add(a->acts, MU_ACT_CLOSE)->conn = conn;
        return;
    }
    if (a->nconns == a->capconns) {
        unsigned cap = a->capconns ? a->capconns * 2 : 8;
        void *v = realloc(a->conns, cap * sizeof *a->conns);
        if (!v) {
            mu_acts_add(a->acts, MU_ACT_CLOSE)->conn = conn;
            return;
        }
        a->conns = v;
        a->capconns = cap;
    }
    a->conns[a->nconns].id = conn;
    a->conns[a->nconns++].job = m->job;
    if (k->start.type && k->delivered && k->pid == m->pid)
        k->delivered = false; /* the same keeper again: the start may have been lost with its old connection */
    k->conn = conn > k->conn ? conn : k->conn; /* an older connection may be read later than its successor */
    k->pid = m->pid;
    if (k->state == K_SPAWNING)
        k->state = K_UP;
    mu_agent_tell_lease(a, k);
    mu_agent_deliver(a, k);
    if (k->released)
        mu_acts_send(a->acts, conn, MU_MSG_release, &(struct mu_m_release){.job = k->job});
}

void mu_agent_on_keeper(struct mu_agent *a, mu_conn conn, const struct mu_msg *m)
{
    struct keeper *k = NULL;

    if (m->type == MU_MSG_hello) {
        on_keeper_hello(a, conn, &m->hello);
        return;
    }
    for (unsigned i = 0; i < a->nconns; i++)
        if (a->conns[i].id == conn)
            k = mu_agent_find(a, a->conns[i].job);
    if (!k || k->conn != conn)
        return;
    if (k->released && k->state == K_UP)
        return; /* nobody asks for it any more, and its number may be another job's already */
    switch (m->type) {
    case MU_MSG_report:
        if (m->report.job != k->job ||
            (k->have_report && (m->report.attempt < k->report.report.attempt ||
                                (m->report.attempt == k->attempt && m->report.seq < k->report.report.seq))))
            return;
        if (k->state == K_FOUND)
            k->state = K_UP;
        if (m->report.attempt > k->attempt)
            k->attempt = m->report.attempt;
        if (k->start.type && m->report.attempt >= k->start.start.attempt)
            mu_msg_free(&k->start);
        /* what it said of an older attempt would hide that the newer start is on its way */
        if (m->report.attempt == k->attempt) {
            k->have_report = true;
            set_report(k, &m->report);
        }
        if (k->due && !k->released) {
            bool anew = k->anew;
            if (m->report.attempt == k->attempt && (m->report.phase >= MU_PHASE_GONE || anew))
                k->due = 0;
            else
                mu_agent_limit(a, k, 0);
            k->anew = anew && k->due;
        }
        mu_agent_to_ctl(a, MU_MSG_report, &m->report);
        mu_agent_deliver(a, k);
        return;
    case MU_MSG_recalled:
        if (m->recalled.job == k->job)
            mu_agent_to_ctl(a, MU_MSG_recalled, &m->recalled);
        return;
    case MU_MSG_output:
        if (m->output.job == k->job)
            mu_agent_to_ctl(a, MU_MSG_output, &m->output);
        return;
    case MU_MSG_input_ack:
        if (m->input_ack.job == k->job)
            mu_agent_to_ctl(a, MU_MSG_input_ack, &m->input_ack);
        return;
    case MU_MSG_rank_exit:
        if (m->rank_exit.job == k->job)
            mu_agent_to_ctl(a, MU_MSG_rank_exit, &m->rank_exit);
        return;
    case MU_MSG_hang:
        if (m->hang.job == k->job)
            mu_agent_to_ctl(a, MU_MSG_hang, &m->hang);
        return;
    case MU_MSG_flown:
        if (m->flown.job == k->job)
            mu_agent_to_ctl(a, MU_MSG_flown, &m->flown);
        return;
    case MU_MSG_misbound:
        if (m->misbound.job == k->job)
            mu_agent_to_ctl(a, MU_MSG_misbound, &m->misbound);
        return;
    case MU_MSG_fence:
        if (m->fence.job == k->job)
            mu_agent_to_ctl(a, MU_MSG_fence, &m->fence);
        return;
    case MU_MSG_modex:
        if (m->modex.job == k->job)
            mu_agent_to_ctl(a, MU_MSG_modex, &m->modex);
        return;
    default:
        return;
    }
}

void mu_agent_on_child(struct mu_agent *a, const struct mu_ev *ev)
{
    struct keeper *k = mu_agent_find(a, ev->job);

    if (!k || k->state == K_CLEANING || k->state == K_LOST || k->state == K_SPENT)
        return;
    if (ev->pid && k->pid != ev->pid)
        return;
    mu_agent_clean(a, k, NULL);
    snprintf(k->why, sizeof k->why, "%s", ev->text ? ev->text : "its keeper died");
}

void mu_agent_on_cleaned(struct mu_agent *a, const struct mu_ev *ev)
{
    struct keeper *k = mu_agent_find(a, ev->job);

    if (!k || k->state != K_CLEANING)
        return;
    if (k->released && !k->again) {
        mu_agent_forget(a, k);
        mu_agent_tell_count(a);
        return;
    }
    k->released = k->again = false;
    if (k->start.type && !k->delivered) { /* a newer attempt is asked for already */
        mu_agent_spawn(a, k);
        return;
    }
    if (k->have_report && k->report.type && k->report.report.phase == MU_PHASE_GONE) {
        k->state = K_SPENT;
        k->report.report.lost = !k->report.report.drained;
        k->report.report.drained = 1;
        mu_agent_to_ctl(a, MU_MSG_report, &k->report.report);
        return;
    }
    k->state = K_LOST;
    mu_agent_speak_for(a, k, MU_PHASE_LOST, *k->why ? k->why : "its keeper died");
}

void mu_agent_on_spawned(struct mu_agent *a, const struct mu_ev *ev)
{
    struct keeper *k = mu_agent_find(a, ev->job);

    if (!k || k->state != K_SPAWNING)
        return;
    if (!ev->status) {
        k->pid = ev->pid;
        return;
    }
    mu_msg_free(&k->start);
    k->state = K_LOST;
    if (!MU_MUTANT(UNSTARTED_UNSAID))
        mu_agent_speak_for(a, k, MU_PHASE_LOST, ev->text);
}

void mu_agent_on_load(struct mu_agent *a, const struct mu_ev *ev)
{
    struct keeper *k = mu_agent_find(a, ev->job);

    if (!k)
        k = mu_agent_add(a, ev->job);
    if (k && !ev->pid) { /* which attempt was its last nobody knows */
        k->state = K_LOST;
        mu_agent_speak_for(a, k, MU_PHASE_LOST, "its keeper died");
        return;
    }
    if (k) {
        k->state = K_FOUND;
        k->pid = ev->pid;
    }
    a->adopt_until = ev->now + a->cfg.adopt_wait_ns;
}
