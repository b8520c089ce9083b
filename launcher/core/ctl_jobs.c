/* Life of a job: submitted, started as attempts, recovered or ended. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "launcher/core/ctl_priv.h"
#include "runtime/base/clock.h"
#include "runtime/base/str.h"

#define PROGRESS_EVERY (5 * MU_SEC) /* progress alone is stored so often */
#define GRACE (5 * MU_SEC)          /* between the first signal and SIGKILL */
#define START_LOST_MAX 10u          /* attempts that died before anybody said they lived */

void mu_ctl_job_free(struct job *j)
{
    if (!j)
        return;
    mu_msg_free_body(MU_MSG_jobrow, &j->row);
    mu_msg_free_body(MU_MSG_spec, &j->spec);
    free(j->parts);
    free(j);
}

int mu_spec_check(const struct mu_m_spec *s, struct mu_err *err)
{
    uint64_t ranks = 0, args = 0, envs = 0;

    if (!s->ranks || s->ranks > 1000000)
        return mu_err_set(err, MUSTER_EARG, "%u ranks: a job has 1 to 1000000", s->ranks);
    if (!s->app_ranks.n || s->app_argc.n != s->app_ranks.n || s->app_envc.n != s->app_ranks.n)
        return mu_err_set(err, MUSTER_EARG, "a job needs at least one program");
    for (uint32_t i = 0; i < s->app_ranks.n; i++) {
        if (!s->app_argc.v[i] || !s->app_ranks.v[i])
            return mu_err_set(err, MUSTER_EARG, "program %u of the job has no ranks or no command", i + 1);
        ranks += s->app_ranks.v[i];
        args += s->app_argc.v[i];
        envs += s->app_envc.v[i];
    }
    if (ranks != s->ranks || args != mu_strv_len(s->argv) || envs != mu_strv_len(s->app_env) ||
        mu_strv_len(s->app_wdir) != s->app_ranks.n)
        return mu_err_set(err, MUSTER_EARG, "the job's description contradicts itself");
    if (s->name && strlen(s->name) > 255)
        return mu_err_set(err, MUSTER_EARG, "the job's name is longer than 255 bytes");
    if (s->bind > MU_BIND_CORE || s->on_failure > MU_FAIL_KEEP)
        return mu_err_set(err, MUSTER_EARG, "unknown policy in the job's description");
    return 0;
}

static void wait_for_agent(struct mu_ctl *c, mu_conn conn, const struct mu_m_submit *m)
{
    if (c->nwaiting == c->capwaiting) {
        unsigned cap = c->capwaiting ? c->capwaiting * 2 : 8;
        struct waiting *v = realloc(c->waiting, cap * sizeof *v);
        if (!v) {
            mu_ctl_refuse(c, conn, MUSTER_ENOMEM, "the controller is out of memory");
            return;
        }
        c->waiting = v;
        c->capwaiting = cap;
    }
    struct waiting *w = &c->waiting[c->nwaiting];
    memset(w, 0, sizeof *w);
    w->conn = conn;
    w->until = c->now + c->cfg.agent_wait_ns;
    w->msg.type = MU_MSG_submit;
    if (mu_msg_copy(MU_MSG_submit, &w->msg.submit, m))
        mu_ctl_refuse(c, conn, MUSTER_ENOMEM, "the controller is out of memory");
    else
        c->nwaiting++;
}

void mu_ctl_job_submit(struct mu_ctl *c, mu_conn conn, const struct mu_m_submit *m)
{
    struct mu_err err = {0};
    char why[400];
    struct mu_share *shares = NULL;
    unsigned n;
    bool ready = false;

    for (unsigned i = 0; i < c->njobs && m->token && *m->token && !MU_MUTANT(TOKEN_IGNORED); i++) {
        if (c->jobs[i]->row.token && !strcmp(c->jobs[i]->row.token, m->token)) {
            mu_acts_send(c->acts, conn, MU_MSG_submitted, &(struct mu_m_submitted){.job = c->jobs[i]->row.id});
            return;
        }
    }
    if (c->exiting) {
        mu_ctl_refuse(c, conn, MUSTER_ENODE, "the controller is ending; try again");
        return;
    }
    for (unsigned i = 0; i < c->pool.n; i++)
        ready = ready || c->pool.v[i].ready;
    if (!ready) {
        wait_for_agent(c, conn, m);
        return;
    }
    struct job *j = calloc(1, sizeof *j);
    if (!j) {
        mu_ctl_refuse(c, conn, MUSTER_ENOMEM, "the controller is out of memory");
        return;
    }
    if (mu_msg_unpack(&m->spec, MU_MSG_spec, &j->spec, &err) || mu_spec_check(&j->spec, &err)) {
        mu_ctl_refuse(c, conn, MUSTER_EARG, err.text);
        goto drop;
    }
    switch (mu_pool_fit(&c->pool, &j->spec, &shares, &n, why, sizeof why)) {
    case MU_FIT_NEVER:
        mu_ctl_refuse(c, conn, MUSTER_EARG, why);
        goto drop;
    case MU_FIT_LATER:
    case MU_FIT_YES:
        break;
    }
    free(shares);
    if (!mu_ctl_room(c)) {
        mu_ctl_refuse(c, conn, MUSTER_ENOMEM, "the controller is out of memory");
        goto drop;
    }
    struct mu_m_jobrow *row = &j->row;
    row->id = c->next_id++;
    row->token = mu_ctl_dup(m->token);
    row->spec.data = malloc(m->spec.len);
    if (row->spec.data) {
        memcpy(row->spec.data, m->spec.data, m->spec.len);
        row->spec.len = m->spec.len;
    } else {
        c->acts->failed = true;
    }
    row->name = mu_ctl_dup(j->spec.name);
    row->user = mu_ctl_dup(j->spec.user);
    row->ranks = j->spec.ranks;
    row->submitted_wall = c->wall;
    row->state = MU_JOB_QUEUED;
    row->reason = mu_ctl_dup("waiting for its turn");
    if (j->spec.output && *j->spec.output) {
        row->log_dir = mu_ctl_dup(j->spec.output);
    } else if (c->cfg.log_root) {
        char dir[4096];
        snprintf(dir, sizeof dir, "%s/%llu", c->cfg.log_root, (unsigned long long)row->id);
        row->log_dir = mu_ctl_dup(dir);
    }
    if (j->spec.foreground)
        j->client_until = c->now + c->cfg.client_grace_ns;
    c->jobs[c->njobs++] = j;
    struct mu_m_submitted ok = {.job = row->id};
    if (MU_MUTANT(ACK_BEFORE_COMMIT))
        mu_acts_send(c->acts, conn, MU_MSG_submitted, &ok);
    mu_ctl_put(c, j, true);
    mu_ctl_event(c, j, "submitted", -1, NULL, "%u ranks of %s", row->ranks, j->spec.argv[0]);
    if (!MU_MUTANT(ACK_BEFORE_COMMIT))
        mu_acts_send(c->acts, conn, MU_MSG_submitted, &ok);
    return;
drop:
    mu_ctl_job_free(j);
}

static int exit_code_of(int status)
{
    return WIFEXITED(status) ? WEXITSTATUS(status) : WIFSIGNALED(status) ? 128 + WTERMSIG(status) : 1;
}

/* Job numbers begin anew in a new store, and other controllers may share the directory: the token tells jobs apart. */
static const char *ckpt_dir(const struct mu_ctl *c, const struct job *j, char *buf, size_t n)
{
    if (j->spec.ckpt_dir && *j->spec.ckpt_dir)
        return j->spec.ckpt_dir;
    if (!c->cfg.ckpt_root)
        return NULL;
    snprintf(buf, n, "%s/%llu-%.8s", c->cfg.ckpt_root, (unsigned long long)j->row.id, j->row.token ? j->row.token : "");
    return buf;
}

/* The rank numbers of a part begin where those of the parts before it end. */
static void start_attempt(struct mu_ctl *c, struct job *j)
{
    char **nodes = calloc(j->nparts + 1, sizeof *nodes), dir[4200];
    uint32_t *ranks = calloc(j->nparts, sizeof *ranks);

    if (!nodes || !ranks) {
        c->acts->failed = true;
        j->retry_at = c->now + MU_SEC;
        goto out;
    }
    struct mu_m_jobrow *row = &j->row;
    row->attempt++;
    row->retry_wall = 0;
    row->step_plus1 = 0;
    row->first_step_wall = 0;
    row->lost_before = row->lost_lines;
    row->unseen_before = row->unseen_lines;
    if (!row->started_wall) {
        row->started_wall = c->wall;
        j->kill_at = j->spec.timeout_ns ? c->now + j->spec.timeout_ns : 0;
    }
    j->retry_at = 0;
    j->failed_now = j->first_step = j->restored_told = false;
    for (unsigned i = 0; i < j->nparts; i++) {
        struct mu_share share = j->parts[i].share;
        j->parts[i] = (struct part){.share = share, .confirmed = true};
        nodes[i] = c->pool.v[share.node].name;
        ranks[i] = share.ranks;
    }
    struct mu_m_start start = {.job = row->id,
                               .attempt = row->attempt,
                               .spec = row->spec,
                               .nodes = nodes,
                               .node_ranks = {.v = ranks, .n = j->nparts},
                               .stream = j->client || j->spec.foreground,
                               .log_dir = row->log_dir,
                               .mark = row->token ? mu_str_hash(row->token, strlen(row->token)) : 0,
                               .ckpt_dir = (char *)(uintptr_t)ckpt_dir(c, j, dir, sizeof dir),
                               .deadline_wall = j->spec.timeout_ns ? row->started_wall + j->spec.timeout_ns : 0};
    mu_ctl_set_state(c, j, MU_JOB_STARTING, "attempt %u is starting", row->attempt);
    if (!MU_MUTANT(ATTEMPT_NOT_STORED))
        mu_ctl_put(c, j, true);
    mu_ctl_event(c, j, "attempt-start", -1, nodes[0], "attempt %u on %u node%s", row->attempt, j->nparts,
                 j->nparts == 1 ? "" : "s");
    for (unsigned i = 0; i < j->nparts; i++) {
        start.node_id = i;
        start.local_slots = j->parts[i].share.slots;
        mu_acts_send(c->acts, c->pool.v[j->parts[i].share.node].conn, MU_MSG_start, &start);
    }
    if (MU_MUTANT(ATTEMPT_NOT_STORED))
        mu_ctl_put(c, j, true);
out:
    free(nodes);
    free(ranks);
}

static bool record_shares(struct job *j, const struct mu_pool *pool)
{
    struct mu_m_jobrow *row = &j->row;
    char **nodes = calloc(j->nparts + 1, sizeof *nodes);
    uint32_t *ranks = calloc(j->nparts, sizeof *ranks), *slots = calloc(j->nparts, sizeof *slots);
    bool ok = nodes && ranks && slots;

    for (unsigned i = 0; ok && i < j->nparts; i++) {
        nodes[i] = strdup(pool->v[j->parts[i].share.node].name);
        ranks[i] = j->parts[i].share.ranks;
        slots[i] = j->parts[i].share.slots;
        ok = nodes[i] != NULL;
    }
    if (!ok) {
        for (unsigned i = 0; nodes && nodes[i]; i++)
            free(nodes[i]);
        free(nodes);
        free(ranks);
        free(slots);
        return false;
    }
    for (char **v = row->nodes; v && *v; v++)
        free(*v);
    free(row->nodes);
    free(row->node_ranks.v);
    free(row->node_slots.v);
    row->nodes = nodes;
    row->node_ranks = (struct mu_u32v){.v = ranks, .n = j->nparts};
    row->node_slots = (struct mu_u32v){.v = slots, .n = j->nparts};
    return true;
}

void mu_ctl_schedule(struct mu_ctl *c)
{
    bool waits = false;

    if (c->exiting)
        return;
    for (unsigned i = 0; i < c->njobs; i++) {
        struct job *j = c->jobs[i];
        struct mu_share *shares = NULL;
        char why[400];
        unsigned n = 0;

        if (j->row.state != MU_JOB_QUEUED)
            continue;
        if (waits) {
            mu_ctl_set_state(c, j, MU_JOB_QUEUED, "waiting behind job %llu",
                             (unsigned long long)c->jobs[i - 1]->row.id);
            continue;
        }
        if (mu_pool_fit(&c->pool, &j->spec, &shares, &n, why, sizeof why) != MU_FIT_YES) {
            mu_ctl_set_state(c, j, MU_JOB_QUEUED, "%s", why);
            waits = true;
            continue;
        }
        j->parts = calloc(n, sizeof *j->parts);
        if (!j->parts) {
            free(shares);
            return;
        }
        for (unsigned p = 0; p < n; p++)
            j->parts[p].share = shares[p];
        j->nparts = n;
        mu_pool_take(&c->pool, shares, n);
        j->holds = true;
        free(shares);
        if (!record_shares(j, &c->pool))
            c->acts->failed = true;
        mu_ctl_event(c, j, "started", -1, c->pool.v[j->parts[0].share.node].name, "%u ranks on %u node%s", j->row.ranks,
                     n, n == 1 ? "" : "s");
        start_attempt(c, j);
    }
}

static void give_back(struct mu_ctl *c, struct job *j)
{
    for (int again = MU_MUTANT(SLOT_FREED_TWICE) ? 2 : 1; j->holds && again; again--)
        for (unsigned i = 0; i < j->nparts; i++)
            mu_pool_give(&c->pool, &j->parts[i].share, 1);
    j->holds = false;
}

/* Keepers are let go once the client has had their output, or there is no client; then the client learns the end. */
void mu_ctl_job_release(struct mu_ctl *c, struct job *j)
{
    bool drained = true;

    if (!mu_job_over(j->row.state))
        return;
    for (unsigned i = 0; i < j->nparts; i++)
        drained = drained && (j->parts[i].drained || j->parts[i].phase == MU_PHASE_LOST);
    if (j->client && !drained)
        return;
    mu_ctl_send_agents(c, j, MU_MSG_release, &(struct mu_m_release){.job = j->row.id});
    free(j->parts);
    j->parts = NULL;
    j->nparts = 0;
    if (j->client && !j->ended_sent) {
        struct mu_m_ended ended = {.job = j->row.id};
        if (!mu_msg_pack(&ended.row, MU_MSG_jobrow, &j->row))
            mu_acts_send(c->acts, j->client, MU_MSG_ended, &ended);
        free(ended.row.data);
        j->ended_sent = true;
    }
}

static const char *lines(uint64_t n)
{
    return n == 1 ? "line" : "lines";
}

static void finish(struct mu_ctl *c, struct job *j, unsigned state, int code, const char *reason)
{
    if (j->row.lost_lines)
        mu_ctl_event(c, j, "output-lost", -1, NULL, "%llu %s of output not in the logs (%s), %llu not shown either",
                     (unsigned long long)j->row.lost_lines, lines(j->row.lost_lines), strerror((int)j->row.lost_why),
                     (unsigned long long)j->row.unseen_lines);
    j->row.exit_code = code;
    j->row.ended_wall = c->wall;
    j->row.retry_wall = 0;
    j->retry_at = j->kill_at = j->client_until = 0;
    mu_ctl_set_state(c, j, state, "%s", reason);
    if (MU_MUTANT(RELEASE_EARLY))
        mu_ctl_send_agents(c, j, MU_MSG_release, &(struct mu_m_release){.job = j->row.id});
    mu_ctl_put(c, j, true);
    mu_ctl_event(c, j, state == MU_JOB_CANCELLED ? "cancelled" : "finished", -1, NULL, "%s: %s, exit code %d",
                 mu_job_state_name(state), reason, code);
    give_back(c, j);
    mu_ctl_job_release(c, j);
}

static void describe_failure(const struct job *j, char *out, size_t n)
{
    const struct mu_m_jobrow *r = &j->row;

    if (r->fail_rank_plus1)
        snprintf(out, n, "rank %u on %s %s", r->fail_rank_plus1 - 1, r->fail_node ? r->fail_node : "?",
                 r->fail_text ? r->fail_text : "failed");
    else
        snprintf(out, n, "%s", r->fail_text ? r->fail_text : "the attempt was lost");
}

/* Whether there is another attempt; why not otherwise. */
static bool may_restart(struct mu_ctl *c, struct job *j, unsigned vain, bool only_lost, char *why, size_t n)
{
    struct mu_m_jobrow *r = &j->row;
    bool by_user = j->spec.restarts_plus1 > 0;
    uint32_t budget = by_user ? j->spec.restarts_plus1 - 1 : c->cfg.restarts;
    bool progressed = r->ckpt_plus1 > r->best_ckpt_plus1 || (!r->ckpt_plus1 && r->step_plus1 > r->best_plus1);
    bool stepped = r->best_plus1 || r->step_plus1;

    r->best_ckpt_plus1 = r->ckpt_plus1 > r->best_ckpt_plus1 ? r->ckpt_plus1 : r->best_ckpt_plus1;
    r->best_plus1 = r->step_plus1 > r->best_plus1 ? r->step_plus1 : r->best_plus1;
    if (j->spec.on_failure == MU_FAIL_KEEP) {
        snprintf(why, n, "--on-failure=keep leaves failures to the program");
        return false;
    }
    if (vain == MU_VAIN_START) {
        snprintf(why, n, "it could not be started");
        return false;
    }
    if (vain == MU_VAIN_BUSY) {
        snprintf(why, n, "another job uses its checkpoint directory");
        return false;
    }
    if (progressed)
        r->startlost = 0;
    if (only_lost) { /* no rank failed: a keeper or its node did */
        if (++r->startlost <= START_LOST_MAX && (budget || !by_user))
            return true;
        snprintf(why, n, "its keepers died %u times", r->startlost);
        return false;
    }
    if (!by_user && !r->joined) {
        snprintf(why, n, "it does not use the library; --restarts N restarts it from its beginning");
        return false;
    }
    if (r->joined && !stepped) {
        snprintf(why, n, "it failed before its first step");
        return false;
    }
    if (vain == MU_VAIN_ENDED && !by_user) {
        snprintf(why, n, "its ranks had ended in good order; --restarts N restarts it all the same");
        return false;
    }
    r->noprogress = progressed ? 1 : r->noprogress + 1;
    if (r->noprogress <= budget)
        return true;
    if (!budget)
        snprintf(why, n, "--restarts 0");
    else
        snprintf(why, n, "%u failures in a row without progress (--restarts %u)", r->noprogress, budget);
    return false;
}

/* All parts are gone: what now? */
static void decide(struct mu_ctl *c, struct job *j)
{
    static const char *const endings[] = {[MU_END_CANCEL] = "cancelled",
                                          [MU_END_TIMEOUT] = "its time limit is over",
                                          [MU_END_CLIENT] = "its client went away"};
    struct mu_m_jobrow *r = &j->row;
    bool lost = false;
    uint32_t nfailed = 0, vain = MU_VAIN_NO;
    char what[300], why[200] = "", reason[520];

    for (unsigned i = 0; i < j->nparts; i++) {
        vain = vain ? vain : j->parts[i].starterr;
        lost = lost || j->parts[i].phase == MU_PHASE_LOST;
        nfailed += j->parts[i].nfailed;
    }
    if (!nfailed && !lost && (r->ending == MU_END_NONE || r->ending == MU_END_TIMEOUT)) {
        finish(c, j, MU_JOB_COMPLETED, 0, "all ranks ended");
        return;
    }
    if (r->ending != MU_END_NONE) {
        finish(c, j, r->ending == MU_END_TIMEOUT ? MU_JOB_FAILED : MU_JOB_CANCELLED, r->ending_code,
               r->ending < sizeof endings / sizeof endings[0] ? endings[r->ending] : "ended");
        return;
    }
    if (!j->failed_now) { /* a keeper died with nothing known of its ranks */
        r->fail_rank_plus1 = 0;
        r->fail_status = 0;
        r->fail_attempt = r->attempt;
        r->fail_wall = c->wall;
        for (unsigned i = 0; i < j->nparts; i++) {
            if (j->parts[i].phase != MU_PHASE_LOST)
                continue;
            snprintf(what, sizeof what, "the keeper on %s died", c->pool.v[j->parts[i].share.node].name);
            mu_ctl_replace(&r->fail_text, what);
            mu_ctl_replace(&r->fail_node, c->pool.v[j->parts[i].share.node].name);
        }
    }
    r->failures++;
    describe_failure(j, what, sizeof what);
    if (!may_restart(c, j, vain, !j->failed_now, why, sizeof why)) {
        int code = j->failed_now ? exit_code_of(r->fail_status) : 1;
        snprintf(reason, sizeof reason, "%s; not restarted: %s", what, why);
        finish(c, j, MU_JOB_FAILED, code ? code : 1, reason);
        return;
    }
    uint64_t delay = 0;
    if (r->noprogress > 1) {
        unsigned shift = r->noprogress - 2 < 6 ? r->noprogress - 2 : 6;
        delay = (250 * MU_MS) << shift;
        delay = delay > 10 * MU_SEC ? 10 * MU_SEC : delay;
    }
    j->retry_at = c->now + delay;
    r->retry_wall = c->wall + delay;
    mu_ctl_set_state(c, j, MU_JOB_RECOVERING, "%s; attempt %u starts", what, r->attempt + 1);
    if (!delay)
        mu_ctl_job_tick(c, j);
    else
        mu_ctl_put(c, j, false);
}

static bool all_gone(const struct job *j)
{
    bool any = false;

    for (unsigned i = 0; i < j->nparts; i++) {
        bool gone = j->parts[i].phase >= MU_PHASE_GONE;
        if (!gone && !MU_MUTANT(RESTART_BEFORE_GONE))
            return false;
        any = any || gone;
    }
    return j->nparts && any;
}

static void kill_parts(struct mu_ctl *c, struct job *j, uint32_t signo, uint64_t grace, const char *why)
{
    struct mu_m_kill kill = {
        .job = j->row.id, .attempt = j->row.attempt, .signo = signo, .grace_ns = grace, .why = (char *)(uintptr_t)why};

    for (unsigned i = 0; i < j->nparts; i++) {
        if (j->parts[i].phase >= MU_PHASE_GONE)
            continue;
        mu_acts_send(c->acts, c->pool.v[j->parts[i].share.node].conn, MU_MSG_kill, &kill);
        j->parts[i].kill_sent = true;
    }
}

/* A kill may have been lost with a connection or with this controller's predecessor. */
static void kill_again(struct mu_ctl *c, struct job *j, struct part *p)
{
    bool fatal = j->failed_now && j->spec.on_failure == MU_FAIL_KILL;

    for (unsigned i = 0; i < j->nparts; i++)
        fatal = fatal || j->parts[i].phase == MU_PHASE_LOST;
    if (p->kill_sent || p->phase >= MU_PHASE_GONE || (!fatal && j->row.ending == MU_END_NONE))
        return;
    struct mu_m_kill kill = {.job = j->row.id,
                             .attempt = j->row.attempt,
                             .signo = fatal ? SIGKILL : SIGTERM,
                             .grace_ns = j->spec.grace_ns ? j->spec.grace_ns : GRACE,
                             .why = j->row.reason};
    p->kill_sent = true;
    mu_acts_send(c->acts, c->pool.v[p->share.node].conn, MU_MSG_kill, &kill);
}

static void first_failure(struct mu_ctl *c, struct job *j, const struct mu_m_report *m)
{
    struct mu_m_jobrow *r = &j->row;
    char what[300];

    j->failed_now = true;
    r->fail_rank_plus1 = m->first_rank_plus1;
    r->fail_status = m->first_status;
    r->fail_wall = m->first_wall;
    r->fail_attempt = r->attempt;
    mu_ctl_replace(&r->fail_node, m->node);
    mu_ctl_replace(&r->fail_text, m->first_text);
    free(r->fail_tail.data);
    r->fail_tail = (struct mu_bytes){0};
    if (m->first_tail.len) {
        r->fail_tail.data = malloc(m->first_tail.len);
        if (r->fail_tail.data) {
            memcpy(r->fail_tail.data, m->first_tail.data, m->first_tail.len);
            r->fail_tail.len = m->first_tail.len;
        }
    }
    describe_failure(j, what, sizeof what);
    mu_ctl_event(c, j, "rank-lost", (int)m->first_rank_plus1 - 1, m->node, "%s; seen %.1f ms after", what,
                 m->detected_wall > m->first_wall ? (double)(m->detected_wall - m->first_wall) / 1e6 : 0.0);
    if (j->spec.on_failure == MU_FAIL_KILL && r->ending == MU_END_NONE) {
        mu_ctl_set_state(c, j, MU_JOB_RECOVERING, "%s", what);
        kill_parts(c, j, SIGKILL, 0, what);
    }
}

static void progress(struct mu_ctl *c, struct job *j)
{
    struct mu_m_jobrow *r = &j->row;
    uint64_t steps = UINT64_MAX, step = UINT64_MAX, first = 0, ckpt = r->ckpt_plus1, restored = 0;
    uint32_t joined = 0;

    for (unsigned i = 0; i < j->nparts; i++) {
        const struct part *p = &j->parts[i];
        steps = p->steps < steps ? p->steps : steps;
        step = p->step < step ? p->step : step;
        first = p->first_step_wall > first ? p->first_step_wall : first;
        ckpt = p->ckpt_plus1 > ckpt ? p->ckpt_plus1 : ckpt;
        restored = p->restored_plus1 > restored ? p->restored_plus1 : restored;
        joined += p->njoined;
    }
    if (joined)
        r->joined = 1;
    if (restored && !j->restored_told) {
        j->restored_told = true;
        r->restored_plus1 = restored;
        mu_ctl_event(c, j, "restored", -1, NULL, "resumed from the checkpoint of step %llu",
                     (unsigned long long)restored - 1);
    }
    if (steps && steps != UINT64_MAX) {
        r->step_plus1 = step + 1;
        if (!j->first_step) {
            j->first_step = true;
            r->first_step_wall = first;
            double after = r->failures && first > r->fail_wall ? (double)(first - r->fail_wall) / 1e9 : 0;
            if (after > 0)
                mu_ctl_event(c, j, "first-step", -1, NULL, "step %llu, %.3f s after the failure",
                             (unsigned long long)step, after);
            else
                mu_ctl_event(c, j, "first-step", -1, NULL, "step %llu", (unsigned long long)step);
        }
    }
    if (ckpt > r->ckpt_plus1) {
        r->ckpt_plus1 = ckpt;
        mu_ctl_event(c, j, "checkpoint", -1, NULL, "step %llu is durable", (unsigned long long)ckpt - 1);
    }
    if (c->now > j->stored_at + PROGRESS_EVERY)
        mu_ctl_put(c, j, false);
}

/* Output that the logs do not have. */
static void count_lost(struct mu_ctl *c, struct job *j, const char *node, uint32_t why)
{
    struct mu_m_jobrow *r = &j->row;
    uint64_t lost = r->lost_before, unseen = r->unseen_before;

    for (unsigned i = 0; i < j->nparts; i++) {
        lost += j->parts[i].dropped;
        unseen += j->parts[i].unseen;
    }
    if (lost && !r->lost_lines) {
        r->lost_why = why;
        mu_ctl_event(c, j, "output-lost", -1, node, "output cannot be written to the logs: %s", strerror((int)why));
    }
    r->lost_lines = lost;
    r->unseen_lines = unseen;
}

void mu_ctl_job_report(struct mu_ctl *c, int node, const struct mu_m_report *m)
{
    struct job *j = mu_ctl_find(c, m->job);
    struct part *p = NULL;
    mu_conn agent = c->pool.v[node].conn;

    for (unsigned i = 0; j && i < j->nparts; i++)
        if (j->parts[i].share.node == (uint32_t)node)
            p = &j->parts[i];
    if (!j || !p) {
        mu_acts_send(c->acts, agent, MU_MSG_release, &(struct mu_m_release){.job = m->job});
        return;
    }
    if (m->attempt > j->row.attempt && !mu_job_over(j->row.state)) {
        /* started by a predecessor that could not store it: the disk was full */
        j->row.attempt = m->attempt;
        mu_ctl_put(c, j, true);
    }
    if (m->attempt != j->row.attempt && !MU_MUTANT(EPOCH_UNCHECKED)) {
        if (m->phase < MU_PHASE_GONE && m->attempt) {
            struct mu_m_kill kill = {
                .job = m->job, .attempt = m->attempt, .signo = SIGKILL, .why = (char *)(uintptr_t) "an older attempt"};
            mu_acts_send(c->acts, agent, MU_MSG_kill, &kill);
        }
        return;
    }
    p->confirmed = true;
    if (m->seq < p->seq && m->phase != MU_PHASE_LOST)
        return;
    p->seq = m->seq > p->seq ? m->seq : p->seq;
    p->drained = m->drained;
    if (mu_job_over(j->row.state)) {
        mu_ctl_job_release(c, j);
        return;
    }
    if (p->phase >= MU_PHASE_GONE)
        return;
    p->phase = m->phase;
    p->nfailed = m->nfailed;
    p->njoined = m->njoined;
    p->starterr = m->starterr;
    p->steps = m->steps;
    p->step = m->step;
    p->first_step_wall = m->first_step_wall;
    p->ckpt_plus1 = m->ckpt_plus1;
    p->restored_plus1 = m->restored_plus1;
    p->dropped = m->dropped;
    p->unseen = m->unseen;
    progress(c, j);
    count_lost(c, j, c->pool.v[node].name, m->drop_why);
    if (m->first_rank_plus1 && !j->failed_now)
        first_failure(c, j, m);
    if (j->row.state == MU_JOB_STARTING) {
        bool running = true;
        for (unsigned i = 0; i < j->nparts; i++)
            running = running && j->parts[i].phase >= MU_PHASE_RUNNING;
        if (running)
            mu_ctl_set_state(c, j, MU_JOB_RUNNING, "attempt %u", j->row.attempt);
    }
    if (p->phase == MU_PHASE_LOST) {
        mu_ctl_event(c, j, "keeper-lost", -1, c->pool.v[node].name,
                     "the keeper of this job died; its ranks are killed");
        if (!j->failed_now && j->row.ending == MU_END_NONE)
            mu_ctl_set_state(c, j, MU_JOB_RECOVERING, "the keeper on %s died", c->pool.v[node].name);
        kill_parts(c, j, SIGKILL, 0, "a keeper of the job died");
    }
    if (all_gone(j))
        decide(c, j);
    else
        kill_again(c, j, p);
}

/* The agent of a node has told all it runs: what it has not told is lost. */
void mu_ctl_job_node_ready(struct mu_ctl *c, int node)
{
    for (unsigned i = 0; i < c->njobs; i++) {
        struct job *j = c->jobs[i];
        bool lost = false;

        if (j->row.state == MU_JOB_QUEUED)
            continue;
        /* a keeper that had ended its attempt is gone, and what was left of its output with it */
        for (unsigned p = 0; p < j->nparts; p++)
            if (j->parts[p].share.node == (uint32_t)node && !j->parts[p].confirmed &&
                j->parts[p].phase >= MU_PHASE_GONE)
                j->parts[p].drained = true;
        if (mu_job_over(j->row.state)) {
            mu_ctl_job_release(c, j);
            continue;
        }
        if (j->retry_at) {
            j->retry_at = j->row.retry_wall > c->wall ? c->now + (j->row.retry_wall - c->wall) : c->now;
            continue;
        }
        for (unsigned p = 0; p < j->nparts; p++) {
            if (j->parts[p].share.node != (uint32_t)node || j->parts[p].confirmed || j->parts[p].phase >= MU_PHASE_GONE)
                continue;
            j->parts[p].phase = MU_PHASE_LOST;
            lost = true;
            mu_ctl_event(c, j, "keeper-lost", -1, c->pool.v[node].name, "nothing of this attempt is left on the node");
        }
        if (!lost)
            continue;
        kill_parts(c, j, SIGKILL, 0, "a keeper of the job died");
        if (all_gone(j))
            decide(c, j);
    }
}

void mu_ctl_job_cancel(struct mu_ctl *c, struct job *j, unsigned ending, int code, int signo, bool force,
                       const char *why)
{
    uint64_t grace = j->spec.grace_ns ? j->spec.grace_ns : GRACE;

    if (mu_job_over(j->row.state))
        return;
    bool again = j->row.ending != MU_END_NONE;
    if (!again) {
        j->row.ending = ending;
        j->row.ending_code = code;
        mu_ctl_event(c, j, "ending", -1, NULL, "%s", why);
    }
    bool parts_alive = false;
    for (unsigned i = 0; i < j->nparts; i++)
        parts_alive = parts_alive || j->parts[i].phase < MU_PHASE_GONE;
    if (j->row.state == MU_JOB_QUEUED || j->retry_at || !parts_alive) {
        finish(c, j, ending == MU_END_TIMEOUT ? MU_JOB_FAILED : MU_JOB_CANCELLED, code, why);
        return;
    }
    if (!again)
        mu_ctl_put(c, j, true);
    if (force)
        kill_parts(c, j, SIGKILL, 0, why);
    else if (!again)
        kill_parts(c, j, (uint32_t)signo, grace, why);
}

void mu_ctl_job_tick(struct mu_ctl *c, struct job *j)
{
    if (mu_job_over(j->row.state))
        return;
    if (j->client_until && c->now >= j->client_until) {
        j->client_until = 0;
        mu_ctl_job_cancel(c, j, MU_END_CLIENT, 129, SIGTERM, false, "its client went away");
    }
    if (j->kill_at && c->now >= j->kill_at) {
        j->kill_at = 0;
        mu_ctl_job_cancel(c, j, MU_END_TIMEOUT, 124, SIGTERM, false, "its time limit is over");
    }
    if (mu_job_over(j->row.state) || !j->retry_at || c->now < j->retry_at)
        return;
    if (j->client_until) { /* nobody is there to see it; its client comes back or the grace ends it */
        j->retry_at = c->now + 20 * MU_MS;
        return;
    }
    for (unsigned i = 0; i < j->nparts; i++)
        if (!c->pool.v[j->parts[i].share.node].ready) {
            j->retry_at = c->now + 100 * MU_MS; /* its agent is away; node_ready makes it due at once */
            return;
        }
    start_attempt(c, j);
}

uint64_t mu_ctl_job_next(const struct job *j)
{
    uint64_t next = UINT64_MAX;

    if (mu_job_over(j->row.state))
        return next;
    if (j->client_until && j->client_until < next)
        next = j->client_until;
    if (j->kill_at && j->kill_at < next)
        next = j->kill_at;
    if (j->retry_at && j->retry_at < next)
        next = j->retry_at;
    return next;
}
