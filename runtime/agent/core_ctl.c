#include <signal.h>
#include <string.h>

#include "runtime/agent/core_priv.h"

/* Our place among the attempt's nodes; one that does not exist when we are not among them. */
static uint32_t place_of(const struct mu_agent *a, char *const *nodes)
{
    uint32_t i = 0;

    while (nodes && nodes[i] && strcmp(nodes[i], a->cfg.node))
        i++;
    return i;
}

/* Whether the newest start came on the controller's present connection: only then copies of it may follow, and only
 * then the number surely means the same job. A controller with a new store counts from 1 again. */
static bool here(const struct mu_agent *a, const struct keeper *k)
{
    return k->start_conn == a->nctl;
}

static void on_start(struct mu_agent *a, const struct mu_msg *m)
{
    struct keeper *k = mu_agent_find(a, m->start.job);

    if (a->bye)
        return;
    for (unsigned i = 0; i < DONE_JOBS && !k && !MU_MUTANT(AGENT_FORGETS); i++)
        if (a->done[i].job == m->start.job && m->start.attempt <= a->done[i].attempt)
            return;
    if (k && m->start.attempt <= k->attempt && (!k->released || here(a, k)) && !MU_MUTANT(AGENT_FORGETS)) {
        if (k->report.type)
            mu_agent_to_ctl(a, MU_MSG_report, &k->report.report);
        return;
    }
    bool fresh = !k;
    if (fresh)
        k = mu_agent_add(a, m->start.job);
    if (!k)
        return;
    mu_msg_free(&k->start);
    k->start.type = MU_MSG_start;
    if (mu_msg_copy(MU_MSG_start, &k->start.start, &m->start)) {
        k->start.type = (enum mu_msg_type)0;
        a->acts->failed = true;
        if (fresh)
            mu_agent_drop(a, k);
        return;
    }
    k->start.start.node_id = place_of(a, m->start.nodes);
    k->start.start.lease_ns = a->cfg.joined ? a->lease_until : 0;
    k->start_conn = a->nctl;
    k->one_node = m->start.node_ranks.n <= 1;
    k->attempt = m->start.attempt;
    k->have_report = k->delivered = false;
    mu_agent_speak_for(a, k, MU_PHASE_STARTING, NULL);
    k->again = k->released;
    if (k->again)
        return;
    if (k->state == K_UP)
        mu_agent_deliver(a, k);
    else if (k->state == K_LOST || k->state == K_SPENT || fresh)
        mu_agent_spawn(a, k);
}

/* A keeper that cannot be reached says again what it waits for when it is back. */
static void to_keeper(struct mu_agent *a, uint64_t job, enum mu_msg_type type, const void *body)
{
    struct keeper *k = mu_agent_find(a, job);

    if (k && k->state == K_UP && !k->released)
        mu_acts_send(a->acts, k->conn, type, body);
}

/* A start that no keeper has yet is known here alone. */
static void on_recall(struct mu_agent *a, uint64_t job)
{
    struct keeper *k = mu_agent_find(a, job);
    struct mu_m_recalled m = {.job = job};

    if (k && k->state == K_UP && !k->released && !(k->start.type && !k->delivered)) {
        mu_acts_send(a->acts, k->conn, MU_MSG_recall, &(struct mu_m_recall){.job = job});
        if (!k->due) { /* nobody could take it up again if it hangs */
            mu_agent_limit(a, k, 0);
            k->anew = true;
        }
        return;
    }
    if (k && !k->released && k->start.type && !k->delivered) {
        m.attempt = k->start.start.attempt;
        m.row = k->start.start.row;
        m.spec = k->start.start.spec;
    }
    mu_agent_to_ctl(a, MU_MSG_recalled, &m);
    if (k && m.row.len && k->report.type)
        mu_agent_to_ctl(a, MU_MSG_report, &k->report.report);
}

void mu_agent_on_ctl(struct mu_agent *a, const struct mu_msg *m)
{
    struct keeper *k;

    switch (m->type) {
    case MU_MSG_welcome:
        a->welcome = true;
        a->ctl = m->welcome.incarnation;
        return;
    case MU_MSG_parent:
        if (!a->told || m->parent.way != a->way)
            return;
        a->known = true;
        mu_agent_on_echo(a, a->told_at);
        return;
    case MU_MSG_start:
        mu_agent_on_echo(a, a->told_at); /* it knows us */
        on_start(a, m);
        return;
    case MU_MSG_release:
        k = mu_agent_find(a, m->release.job);
        if (!k) {
            mu_agent_tell_count(a);
            return;
        }
        if (here(a, k) && (!k->released || k->again)) {
            a->done[a->ndone % DONE_JOBS].job = k->job;
            a->done[a->ndone++ % DONE_JOBS].attempt = k->attempt;
        }
        if (!k->released) {
            k->due = 0;
            mu_agent_limit(a, k, 0);
        }
        k->released = true;
        k->again = false;
        if (k->state == K_UP)
            mu_acts_send(a->acts, k->conn, MU_MSG_release, &m->release);
        else if (k->state == K_LOST || k->state == K_SPENT) {
            mu_agent_forget(a, k);
            mu_agent_tell_count(a);
        }
        return;
    case MU_MSG_kill:
        if (m->kill.rank_plus1) {
            to_keeper(a, m->kill.job, m->type, &m->kill);
            return;
        }
        k = mu_agent_find(a, m->kill.job);
        if (!k)
            return;
        if (k->state == K_UP && !k->again) {
            mu_acts_send(a->acts, k->conn, MU_MSG_kill, &m->kill);
            if (!k->released && m->kill.attempt >= k->attempt && (m->kill.signo == SIGKILL || m->kill.grace_ns) &&
                !(k->have_report && k->report.report.phase >= MU_PHASE_GONE))
                mu_agent_limit(a, k, m->kill.signo == SIGKILL ? 0 : m->kill.grace_ns);
        } else if (k->start.type && !k->delivered && k->attempt <= m->kill.attempt && m->kill.signo) {
            /* not begun: it never will */
            mu_msg_free(&k->start);
            k->have_report = true;
            k->again = false;
            mu_agent_speak_for(a, k, MU_PHASE_LOST, "killed before it started");
        }
        return;
    case MU_MSG_stream:
        k = mu_agent_find(a, m->stream.job);
        if (k && k->start.type)
            k->start.start.stream = m->stream.on;
        to_keeper(a, m->stream.job, m->type, &m->stream);
        return;
    case MU_MSG_input:
        to_keeper(a, m->input.job, m->type, &m->input);
        return;
    case MU_MSG_output_ack:
        to_keeper(a, m->output_ack.job, m->type, &m->output_ack);
        return;
    case MU_MSG_fence:
        to_keeper(a, m->fence.job, m->type, &m->fence);
        return;
    case MU_MSG_fenced:
        to_keeper(a, m->fenced.job, m->type, &m->fenced);
        return;
    case MU_MSG_modex:
        to_keeper(a, m->modex.job, m->type, &m->modex);
        return;
    case MU_MSG_recall:
        on_recall(a, m->recall.job);
        return;
    case MU_MSG_look:
        to_keeper(a, m->look.job, m->type, &m->look);
        return;
    case MU_MSG_flight:
        to_keeper(a, m->flight.job, m->type, &m->flight);
        return;
    case MU_MSG_abort:
        to_keeper(a, m->abort.job, m->type, &m->abort);
        return;
    case MU_MSG_check:
        mu_agent_on_check(a, &m->check);
        return;
    case MU_MSG_bye:
        a->bye = true;
        return;
    default:
        return;
    }
}
