#include "launcher/core/ctl_priv.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launcher/core/ctl_queue.h"
#include "runtime/base/clean.h"

#ifdef MU_MUTANTS
enum mu_mutation mu_mutation;
#endif

static const char *const state_names[] = {
    [MU_JOB_QUEUED] = "queued",         [MU_JOB_STARTING] = "starting",   [MU_JOB_RUNNING] = "running",
    [MU_JOB_RECOVERING] = "recovering", [MU_JOB_COMPLETED] = "completed", [MU_JOB_FAILED] = "failed",
    [MU_JOB_CANCELLED] = "cancelled",   [MU_JOB_SUSPENDED] = "suspended",
};

const char *mu_job_state_name(unsigned state)
{
    return state < MU_COUNT(state_names) && state_names[state] ? state_names[state] : "unknown";
}

char *mu_ctl_dup(const char *s)
{
    return s && *s ? strdup(s) : NULL;
}

void mu_ctl_replace(char **field, const char *value)
{
    char *s = mu_ctl_dup(value);

    free(*field);
    *field = s;
}

struct mu_ctl *mu_ctl_new(const struct mu_ctl_config *cfg)
{
    struct mu_ctl *c = calloc(1, sizeof *c);

    if (c) {
        c->cfg = *cfg;
        mu_check_defaults(&c->check_defaults);
        c->next_id = cfg->last_job + 1;
        c->next = UINT64_MAX;
        c->fences = mu_fences_new(MU_FENCES_LIMIT, mu_ctl_wireup_send, c);
        c->tree = mu_ctl_tree_new();
        c->queue = mu_ctl_queue_new();
        c->inventory = mu_ctl_inventory_new();
    }
    if (c && (!c->fences || !c->tree || !c->queue || !c->inventory)) {
        mu_ctl_free(c);
        c = NULL;
    }
    return c;
}

void mu_ctl_free(struct mu_ctl *c)
{
    if (!c)
        return;
    for (unsigned i = 0; i < c->njobs; i++)
        mu_ctl_job_free(c->jobs[i]);
    for (unsigned i = 0; i < c->nwaiting; i++)
        mu_msg_free(&c->waiting[i].msg);
    free(c->jobs);
    free(c->conns);
    free(c->waiting);
    for (unsigned i = 0; i < c->nabsent; i++)
        mu_msg_free_body(MU_MSG_mark, &c->absent[i]);
    free(c->absent);
    mu_fences_free(c->fences);
    mu_ctl_tree_free(c->tree);
    mu_ctl_queue_free(c->queue);
    mu_ctl_inventory_free(c->inventory);
    mu_pool_free(&c->pool);
    free(c);
}

struct job *mu_ctl_find(struct mu_ctl *c, uint64_t id)
{
    unsigned lo = 0, hi = c->njobs;

    while (lo < hi) {
        unsigned mid = lo + (hi - lo) / 2;
        if (c->jobs[mid]->row.id < id)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < c->njobs && c->jobs[lo]->row.id == id ? c->jobs[lo] : NULL;
}

struct part *mu_ctl_part(struct mu_ctl *c, struct job *j, int node)
{
    uint32_t *place = &c->pool.v[node].place;

    if (*place < j->nparts && j->parts[*place].share.node == (uint32_t)node)
        return &j->parts[*place];
    for (uint32_t i = 0; i < j->nparts; i++)
        if (j->parts[i].share.node == (uint32_t)node) {
            *place = i;
            return &j->parts[i];
        }
    return NULL;
}

void mu_ctl_put(struct mu_ctl *c, struct job *j, bool durable)
{
    struct mu_act *act = mu_acts_add(c->acts, MU_ACT_PUT_JOB);

    act->job = j->row.id;
    act->durable = durable;
    if (mu_msg_encode(&act->frame, MU_MSG_jobrow, &j->row))
        c->acts->failed = true;
    j->stored_at = c->now;
}

void mu_ctl_event(struct mu_ctl *c, const struct job *j, const char *kind, int rank, const char *node, const char *fmt,
                  ...)
{
    struct mu_act *act = mu_acts_add(c->acts, MU_ACT_EVENT);
    va_list ap;

    mu_ctl_told(c, kind);
    act->job = j->row.id;
    act->attempt = j->row.attempt;
    act->rank = rank;
    snprintf(act->event, sizeof act->event, "%s", kind);
    snprintf(act->node, sizeof act->node, "%s", node ? node : "");
    va_start(ap, fmt);
    vsnprintf(act->detail, sizeof act->detail, fmt, ap);
    va_end(ap);
}

void mu_ctl_set_state(struct mu_ctl *c, struct job *j, unsigned state, const char *fmt, ...)
{
    char reason[400];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(reason, sizeof reason, fmt, ap);
    va_end(ap);
    if (j->row.state == state && !strcmp(j->row.reason ? j->row.reason : "", reason))
        return;
    j->row.state = state;
    mu_ctl_replace(&j->row.reason, reason);
    if (j->client) {
        struct mu_m_state msg = {.job = j->row.id, .state = state, .reason = reason, .attempt = j->row.attempt};
        mu_acts_send(c->acts, j->client, MU_MSG_state, &msg);
    }
}

void mu_ctl_send_before(struct mu_ctl *c, const struct job *j, uint32_t before, enum mu_msg_type type, const void *body)
{
    mu_conn *v = malloc((j->nparts + 1u) * sizeof *v);
    uint32_t n = 0;

    if (!v) {
        c->acts->failed = true;
        return;
    }
    for (unsigned i = 0; i < j->nparts; i++)
        if (j->parts[i].phase < before)
            v[n++] = c->pool.v[j->parts[i].share.node].conn;
    mu_acts_cast(c->acts, v, n, type, body);
    free(v);
}

void mu_ctl_send_agents(struct mu_ctl *c, const struct job *j, enum mu_msg_type type, const void *body)
{
    mu_ctl_send_before(c, j, UINT32_MAX, type, body);
}

/* The first one not before id: they are kept in order. */
static unsigned conn_at(const struct mu_ctl *c, mu_conn id)
{
    unsigned lo = 0, hi = c->nconns;

    while (lo < hi) {
        unsigned mid = lo + (hi - lo) / 2;
        if (c->conns[mid].id < id)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

static struct conn *conn_of(struct mu_ctl *c, mu_conn id)
{
    unsigned i = conn_at(c, id);

    return i < c->nconns && c->conns[i].id == id ? &c->conns[i] : NULL;
}

bool mu_ctl_is_agent(const struct mu_ctl *c, mu_conn id)
{
    unsigned i = conn_at(c, id);

    return i < c->nconns && c->conns[i].id == id && c->conns[i].role == ROLE_AGENT;
}

int mu_ctl_node_at(const struct mu_ctl *c, mu_conn id)
{
    unsigned i = conn_at(c, id);
    int node = i < c->nconns && c->conns[i].id == id && c->conns[i].role == ROLE_AGENT ? c->conns[i].node : -1;

    return node >= 0 && c->pool.v[node].conn == id ? node : -1;
}

void mu_ctl_refuse(struct mu_ctl *c, mu_conn conn, int code, const char *text)
{
    struct mu_m_error msg = {.code = code, .text = (char *)(uintptr_t)text};

    mu_acts_send(c->acts, conn, MU_MSG_error, &msg);
}

bool mu_ctl_room(struct mu_ctl *c)
{
    if (c->njobs < c->capjobs)
        return true;
    unsigned cap = c->capjobs ? c->capjobs * 2 : 16;
    struct job **v = realloc(c->jobs, cap * sizeof *v);
    if (!v)
        return false;
    c->jobs = v;
    c->capjobs = cap;
    return true;
}

static void on_hello(struct mu_ctl *c, struct conn *k, const struct mu_m_hello *m)
{
    if (m->proto != MU_WIRE_VERSION) {
        char text[200];
        snprintf(text, sizeof text,
                 "protocol %u here, %u there: the controller runs version %s; end it when no job runs", MU_WIRE_VERSION,
                 m->proto, c->cfg.version ? c->cfg.version : "?");
        mu_ctl_refuse(c, k->id, MUSTER_EVERSION, text);
        mu_acts_add(c->acts, MU_ACT_CLOSE)->conn = k->id;
        return;
    }
    k->role = m->role && !strcmp(m->role, "agent")  ? ROLE_AGENT
              : m->role && !strcmp(m->role, "line") ? ROLE_LINE
                                                    : ROLE_CLIENT;
    k->node = -1;
    if (k->role == ROLE_LINE) {
        k->job = m->job;
        k->pid = m->pid;
        mu_ctl_node_line(c, k, m->node ? m->node : "");
        return;
    }
    struct mu_m_welcome msg = {
        .proto = MU_WIRE_VERSION, .version = (char *)(uintptr_t)c->cfg.version, .incarnation = c->cfg.incarnation};
    mu_acts_send(c->acts, k->id, MU_MSG_welcome, &msg);
}

void mu_ctl_refuse_unknown(struct mu_ctl *c, mu_conn conn, uint64_t job)
{
    char text[100];

    snprintf(text, sizeof text, "there is no job %llu; `muster jobs --all` lists them", (unsigned long long)job);
    mu_ctl_refuse(c, conn, MUSTER_EARG, text);
}

static void on_attach(struct mu_ctl *c, struct conn *k, const struct mu_m_attach *m)
{
    struct job *j = mu_ctl_find(c, m->job);

    if (!j && c->doubt_until) {
        mu_ctl_wait(c, k->id, MU_MSG_attach, m);
        return;
    }
    if (!j || (m->token && *m->token && j->row.token && strcmp(m->token, j->row.token))) {
        mu_ctl_refuse_unknown(c, k->id, m->job);
        return;
    }
    k->job = m->job;
    j->client = k->id;
    j->client_until = 0;
    struct mu_m_state state = {
        .job = m->job, .state = j->row.state, .reason = j->row.reason, .attempt = j->row.attempt};
    mu_acts_send(c->acts, k->id, MU_MSG_state, &state);
    j->ended_sent = false;
    struct mu_m_stream on = {.job = m->job, .on = 1};
    mu_ctl_send_agents(c, j, MU_MSG_stream, &on);
    mu_ctl_job_release(c, j);
}

static void on_client(struct mu_ctl *c, struct conn *k, const struct mu_msg *m)
{
    struct job *j;

    switch (m->type) {
    case MU_MSG_submit:
        mu_ctl_job_submit(c, k->id, &m->submit);
        return;
    case MU_MSG_attach:
        on_attach(c, k, &m->attach);
        return;
    case MU_MSG_nodes_add:
        mu_ctl_pool_add(c, k->id, m->nodes_add.hosts);
        return;
    case MU_MSG_nodes_remove:
        mu_ctl_pool_remove(c, k->id, &m->nodes_remove);
        return;
    case MU_MSG_nodes_resume:
        mu_ctl_out_resume(c, k->id, m->nodes_resume.hosts);
        return;
    case MU_MSG_nodes_check:
        mu_ctl_checks_asked(c, k->id, m->nodes_check.hosts);
        return;
    case MU_MSG_nodes_drain:
        mu_ctl_out_drain_asked(c, k->id, &m->nodes_drain);
        return;
    case MU_MSG_nodes_label:
        mu_ctl_pool_label(c, k->id, &m->nodes_label);
        return;
    case MU_MSG_approve:
    case MU_MSG_withdraw:
        mu_ctl_inventory_approve(c, k->id, m);
        return;
    case MU_MSG_stop:
        for (unsigned i = 0; i < c->njobs; i++) {
            if (mu_job_over(c->jobs[i]->row.state))
                continue;
            if (!m->stop.force) {
                mu_ctl_refuse(c, k->id, MUSTER_EJOB, "jobs are running; cancel them first");
                return;
            }
            mu_ctl_job_cancel(c, c->jobs[i], MU_END_CANCEL, 143, 9, true, "the controller is told to stop");
        }
        c->exiting = true;
        return;
    case MU_MSG_cancel:
        j = mu_ctl_find(c, m->cancel.job);
        if (!j) {
            mu_ctl_refuse_unknown(c, k->id, m->cancel.job);
            return;
        }
        if (mu_job_over(j->row.state)) {
            char text[100];
            snprintf(text, sizeof text, "job %llu has already %s", (unsigned long long)j->row.id,
                     j->row.state == MU_JOB_CANCELLED ? "been cancelled" : mu_job_state_name(j->row.state));
            mu_ctl_refuse(c, k->id, MUSTER_EJOB, text);
            return;
        }
        mu_ctl_job_cancel(c, j, MU_END_CANCEL, 128 + (m->cancel.signo ? (int)m->cancel.signo : 15),
                          m->cancel.signo ? (int)m->cancel.signo : 15, m->cancel.force,
                          m->cancel.by && *m->cancel.by ? m->cancel.by : "cancelled");
        mu_acts_send(c->acts, k->id, MU_MSG_submitted, &(struct mu_m_submitted){.job = j->row.id});
        return;
    case MU_MSG_requeue:
        mu_ctl_queue_requeue(c, k->id, &m->requeue);
        return;
    case MU_MSG_hold:
        mu_ctl_job_hold(c, k->id, &m->hold);
        return;
    case MU_MSG_flight:
        mu_ctl_flight_asked(c, k, &m->flight);
        return;
    case MU_MSG_signal:
        j = mu_ctl_find(c, m->signal.job);
        if (j && m->signal.signo && m->signal.signo < 65) {
            struct mu_m_kill sig = {.job = j->row.id, .attempt = j->row.attempt, .signo = m->signal.signo};
            mu_ctl_send_agents(c, j, MU_MSG_kill, &sig);
        }
        return;
    case MU_MSG_input:
        j = mu_ctl_find(c, m->input.job);
        if (j && j->client == k->id && j->nparts)
            mu_acts_send(c->acts, c->pool.v[j->parts[0].share.node].conn, MU_MSG_input, &m->input);
        return;
    case MU_MSG_output_ack:
        j = mu_ctl_find(c, m->output_ack.job);
        if (!j || j->client != k->id)
            return;
        for (unsigned i = 0, first = 0; i < j->nparts; first += j->parts[i++].share.ranks)
            if (m->output_ack.rank >= first && m->output_ack.rank < first + j->parts[i].share.ranks)
                mu_acts_send(c->acts, c->pool.v[j->parts[i].share.node].conn, MU_MSG_output_ack, &m->output_ack);
        return;
    default:
        mu_ctl_refuse(c, k->id, MUSTER_EARG, "a client does not send this message");
    }
}

/* Those that have still to wait are added to the list again. */
void mu_ctl_serve_waiting(struct mu_ctl *c)
{
    unsigned n = c->nwaiting;

    if (!n)
        return;
    for (unsigned i = 0; i < n; i++) {
        struct waiting w = c->waiting[i];
        struct conn *k = conn_of(c, w.conn);
        if (w.msg.type == MU_MSG_submit)
            mu_ctl_job_submit(c, w.conn, &w.msg.submit);
        else if (k)
            on_attach(c, k, &w.msg.attach);
        mu_msg_free(&w.msg);
    }
    c->nwaiting -= n;
    memmove(c->waiting, c->waiting + n, c->nwaiting * sizeof *c->waiting);
}

void mu_ctl_node_ready(struct mu_ctl *c, int node)
{
    c->pool.v[node].ready = true;
    mu_ctl_checks_ready(c, node);
    if (!c->doubt_until)
        mu_ctl_job_node_ready(c, node);
    mu_ctl_wireup_up(c, node);
    for (unsigned i = 0; i < c->njobs; i++) /* what attach said may have been lost with the old connection */
        for (unsigned p = 0; p < c->jobs[i]->nparts && c->jobs[i]->client; p++)
            if (c->jobs[i]->parts[p].share.node == (uint32_t)node)
                mu_acts_send(c->acts, c->pool.v[node].conn, MU_MSG_stream,
                             &(struct mu_m_stream){.job = c->jobs[i]->row.id, .on = 1});
    if (c->doubt_until)
        mu_ctl_lost_owner(c, node);
    else
        mu_ctl_serve_waiting(c);
}

static void on_from_agent(struct mu_ctl *c, struct conn *k, const struct mu_msg *m)
{
    struct job *j;

    if (m->type == MU_MSG_agent) {
        mu_ctl_node_joins(c, k, &m->agent);
        return;
    }
    if (k->stale && m->type == MU_MSG_report)
        mu_acts_send(c->acts, k->id, MU_MSG_release, &(struct mu_m_release){.job = m->report.job});
    if (k->node < 0 || c->pool.v[k->node].conn != k->id)
        return;
    switch (m->type) {
    case MU_MSG_report:
        mu_ctl_job_report(c, k->node, &m->report);
        return;
    case MU_MSG_agent_ready:
        mu_ctl_node_has(c, k->node, &m->agent_ready);
        if (!c->pool.v[k->node].ready && !mu_ctl_tree_holds(c, k->node)) {
            mu_ctl_node_ready(c, k->node);
            mu_ctl_tree_balance(c);
        }
        return;
    case MU_MSG_recalled:
        mu_ctl_lost_recalled(c, k->node, &m->recalled);
        return;
    case MU_MSG_checked:
        mu_ctl_checked(c, k->node, &m->checked);
        return;
    case MU_MSG_vitals:
        mu_ctl_vitals(c, k->node, &m->vitals);
        return;
    case MU_MSG_gpus:
        mu_ctl_gpus_take(c, k->node, &m->gpus);
        return;
    case MU_MSG_inventory:
        mu_ctl_inventory_take(c, k->node, &m->inventory);
        return;
    case MU_MSG_stay:
        mu_ctl_tree_stay(c, k->node, m->stay.tried);
        return;
    case MU_MSG_fence:
        mu_ctl_wireup_fence(c, k->node, &m->fence);
        return;
    case MU_MSG_modex:
        mu_ctl_wireup_modex(c, k->node, &m->modex);
        return;
    case MU_MSG_hang:
        mu_ctl_hang(c, k->node, &m->hang);
        return;
    case MU_MSG_flown:
        mu_ctl_flown(c, k->node, conn_of(c, m->flown.asker), &m->flown);
        return;
    case MU_MSG_output:
        j = mu_ctl_find(c, m->output.job);
        if (j && j->client)
            mu_acts_send(c->acts, j->client, MU_MSG_output, &m->output);
        return;
    case MU_MSG_input_ack:
        j = mu_ctl_find(c, m->input_ack.job);
        if (j && j->client)
            mu_acts_send(c->acts, j->client, MU_MSG_input_ack, &m->input_ack);
        return;
    case MU_MSG_rank_exit:
        j = mu_ctl_find(c, m->rank_exit.job);
        if (j && m->rank_exit.attempt == j->row.attempt && m->rank_exit.status)
            mu_ctl_event(c, j, "rank-exit", (int)m->rank_exit.rank, c->pool.v[k->node].name, "%s",
                         m->rank_exit.text ? m->rank_exit.text : "");
        return;
    case MU_MSG_misbound:
        j = mu_ctl_find(c, m->misbound.job);
        if (j && m->misbound.attempt == j->row.attempt)
            mu_ctl_event(c, j, "misbound", (int)m->misbound.rank, c->pool.v[k->node].name, "%s",
                         m->misbound.text ? m->misbound.text : "");
        return;
    default:
        return;
    }
}

static void on_down(struct mu_ctl *c, mu_conn id, int status, uint64_t heard)
{
    struct conn *k = conn_of(c, id);

    if (!k)
        return;
    if (k->role == ROLE_AGENT && k->node >= 0 && c->pool.v[k->node].conn == id)
        mu_ctl_node_down(c, k->node, status, heard);
    if (k->role == ROLE_LINE)
        mu_ctl_node_line_down(c, k);
    for (unsigned i = 0; i < c->njobs; i++) {
        struct job *j = c->jobs[i];
        if (j->client != id)
            continue;
        j->client = 0;
        if (!mu_job_over(j->row.state)) {
            struct mu_m_stream off = {.job = j->row.id, .on = 0};
            if (!j->spec.foreground)
                mu_ctl_send_agents(c, j, MU_MSG_stream, &off);
            else
                j->client_until = c->now + c->cfg.client_grace_ns;
        } else {
            mu_ctl_job_release(c, j);
        }
    }
    for (unsigned i = 0; i < c->nwaiting;) {
        if (c->waiting[i].conn == id) {
            mu_msg_free(&c->waiting[i].msg);
            c->waiting[i] = c->waiting[--c->nwaiting];
        } else {
            i++;
        }
    }
    c->nconns--;
    memmove(k, k + 1, (size_t)(c->conns + c->nconns - k) * sizeof *k);
}

static void on_up(struct mu_ctl *c, mu_conn id, mu_conn via)
{
    if (c->nconns == c->capconns) {
        unsigned cap = c->capconns ? c->capconns * 2 : 16;
        struct conn *v = realloc(c->conns, cap * sizeof *v);
        if (!v) {
            mu_acts_add(c->acts, MU_ACT_CLOSE)->conn = id;
            return;
        }
        c->conns = v;
        c->capconns = cap;
    }
    unsigned i = conn_at(c, id);
    memmove(c->conns + i + 1, c->conns + i, (c->nconns++ - i) * sizeof *c->conns);
    c->conns[i] = (struct conn){.id = id, .node = -1, .via = via};
}

static void on_msg(struct mu_ctl *c, mu_conn id, const struct mu_msg *m)
{
    struct conn *k = conn_of(c, id);

    if (!k)
        return;
    if (m->type == MU_MSG_hello && k->role == ROLE_NONE)
        on_hello(c, k, &m->hello);
    else if (k->role == ROLE_CLIENT)
        on_client(c, k, m);
    else if (k->role == ROLE_AGENT)
        on_from_agent(c, k, m);
    else
        mu_ctl_refuse(c, id, MUSTER_EARG, "hello comes first");
}

/* Ended jobs that nobody asks for any more: the store has them. */
static void forget(struct mu_ctl *c)
{
    unsigned over = 0, kept = 0;

    for (unsigned i = 0; i < c->njobs; i++)
        over += mu_job_over(c->jobs[i]->row.state);
    for (unsigned i = 0; i < c->njobs && over > 1000; i++) {
        struct job *j = c->jobs[i];
        j->forgotten = mu_job_over(j->row.state) && !j->parts && !j->client && !mu_ctl_needs(c, j->row.id);
        over -= j->forgotten;
    }
    for (unsigned i = 0; i < c->njobs; i++) {
        if (c->jobs[i]->forgotten)
            mu_ctl_job_free(c->jobs[i]);
        else
            c->jobs[kept++] = c->jobs[i];
    }
    c->njobs = kept;
}

void mu_ctl_hold(struct mu_ctl *c, bool on)
{
    c->hold = on;
}

static bool busy(const struct mu_ctl *c)
{
    if (c->hold && !c->exiting)
        return true;
    for (unsigned i = 0; i < c->njobs; i++)
        if (!mu_job_over(c->jobs[i]->row.state) || c->jobs[i]->parts)
            return true;
    for (unsigned i = 0; i < c->nconns; i++)
        if (c->conns[i].role < ROLE_AGENT && !c->exiting)
            return true;
    for (unsigned i = 0; i < c->pool.n && !c->exiting; i++) { /* nodes that were given to the pool find it */
        const struct mu_node *n = &c->pool.v[i];
        if (n->remote && !n->owner && (n->state == MU_NODE_UP || *n->target))
            return true;
    }
    return false;
}

static void on_time(struct mu_ctl *c)
{
    if (c->fabric_until && c->now >= c->fabric_until)
        c->fabric_until = 0;
    for (unsigned i = 0; i < c->njobs; i++)
        mu_ctl_job_tick(c, c->jobs[i]);
    mu_ctl_lost_tick(c);
    for (unsigned i = 0; i < c->nwaiting;) {
        if (c->now < c->waiting[i].until) {
            i++;
            continue;
        }
        if (c->waiting[i].msg.type == MU_MSG_attach)
            mu_ctl_refuse_unknown(c, c->waiting[i].conn, c->waiting[i].msg.attach.job);
        else
            mu_ctl_refuse(c, c->waiting[i].conn, MUSTER_ENODE,
                          "no agent has come up on this machine; see the agent's log under the state directory");
        mu_msg_free(&c->waiting[i].msg);
        c->waiting[i] = c->waiting[--c->nwaiting];
    }
}

static void say_bye(struct mu_ctl *c)
{
    mu_conn *v = malloc((c->pool.n + 1u) * sizeof *v);

    for (unsigned i = 0; v && i < c->pool.n; i++)
        v[i] = c->pool.v[i].conn;
    if (v)
        mu_acts_cast(c->acts, v, c->pool.n, MU_MSG_bye, &(struct mu_m_bye){0});
    free(v);
}

static void idle_check(struct mu_ctl *c)
{
    if (busy(c)) {
        c->idle_since = 0;
        return;
    }
    if (!c->idle_since)
        c->idle_since = c->now ? c->now : 1;
    if (!c->exiting && (!c->cfg.idle_ns || c->now < c->idle_since + c->cfg.idle_ns))
        return;
    say_bye(c);
    mu_acts_add(c->acts, MU_ACT_EXIT);
    c->exiting = true;
}

static uint64_t next_time(const struct mu_ctl *c)
{
    uint64_t next = UINT64_MAX;

    for (unsigned i = 0; i < c->njobs; i++) {
        uint64_t t = mu_ctl_job_next(c->jobs[i]);
        next = t < next ? t : next;
    }
    for (unsigned i = 0; i < c->nwaiting; i++)
        next = c->waiting[i].until < next ? c->waiting[i].until : next;
    if (c->fabric_until && c->fabric_until < next)
        next = c->fabric_until;
    if (c->doubt_until && c->doubt_until < next)
        next = c->doubt_until;
    uint64_t nodes = mu_ctl_nodes_next(c), queue = mu_ctl_queue_next(c);
    next = nodes < next ? nodes : next;
    next = queue < next ? queue : next;
    if (c->idle_since && c->cfg.idle_ns && c->idle_since + c->cfg.idle_ns < next)
        next = c->idle_since + c->cfg.idle_ns;
    return next;
}

/* What all agents say all the time. When nobody is told anything because of it, no time has changed either, and in a
 * large pool it must cost no look at all nodes. */
static bool routine(const struct mu_ev *ev)
{
    return ev->kind == MU_EV_MSG &&
           (ev->msg->type == MU_MSG_report || ev->msg->type == MU_MSG_fence || ev->msg->type == MU_MSG_modex ||
            ev->msg->type == MU_MSG_vitals || ev->msg->type == MU_MSG_gpus || ev->msg->type == MU_MSG_output);
}

void mu_ctl_step(struct mu_ctl *c, const struct mu_ev *ev, struct mu_acts *acts)
{
    c->now = ev->now;
    c->wall = ev->wall;
    c->acts = acts;
    size_t before = acts->n;
    switch (ev->kind) {
    case MU_EV_LOAD:
        if (ev->msg->type == MU_MSG_nodes_add)
            mu_ctl_pool_add(c, 0, ev->msg->nodes_add.hosts);
        else if (ev->msg->type == MU_MSG_mark)
            mu_ctl_out_load(c, &ev->msg->mark);
        else if (ev->msg->type == MU_MSG_nodes_label)
            mu_ctl_pool_label(c, 0, &ev->msg->nodes_label);
        else if (ev->msg->type == MU_MSG_inventory)
            mu_ctl_inventory_load(c, &ev->msg->inventory);
        else
            mu_ctl_load(c, &ev->msg->jobrow);
        return;
    case MU_EV_UP:
        on_up(c, ev->conn, ev->via);
        break;
    case MU_EV_DOWN:
        on_down(c, ev->conn, ev->status, ev->at);
        break;
    case MU_EV_MSG:
        on_msg(c, ev->conn, ev->msg);
        break;
    case MU_EV_LOADED:
        mu_ctl_nodes_loaded(c);
        mu_ctl_lost_begin(c);
        c->fabric_until = c->cfg.fabric_ns ? c->now + c->cfg.fabric_ns : 0;
        break;
    case MU_EV_FABRIC:
        c->fabric_until = 0;
        if (!mu_pool_set_place(&c->pool, ev->place))
            c->acts->failed = true;
        break;
    case MU_EV_REFUSED:
        mu_ctl_job_refused(c, ev->job);
        break;
    case MU_EV_SUSPECT:
    case MU_EV_ENGINE:
    case MU_EV_PROBED:
        mu_ctl_node_event(c, ev);
        break;
    default:
        break;
    }
    if (routine(ev) && acts->n == before)
        return;
    mu_ctl_nodes_tick(c);
    on_time(c);
    mu_ctl_schedule(c);
    forget(c);
    idle_check(c);
    c->next = next_time(c);
}

uint64_t mu_ctl_next(const struct mu_ctl *c)
{
    return c->next;
}

unsigned mu_ctl_job_count(const struct mu_ctl *c)
{
    return c->njobs;
}

const struct mu_m_jobrow *mu_ctl_job(const struct mu_ctl *c, unsigned n, const struct mu_m_spec **spec)
{
    if (n >= c->njobs)
        return NULL;
    if (spec)
        *spec = &c->jobs[n]->spec;
    return &c->jobs[n]->row;
}

const struct mu_pool *mu_ctl_pool(const struct mu_ctl *c)
{
    return &c->pool;
}
