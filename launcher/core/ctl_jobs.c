/* Life of a job: submitted, started as attempts, recovered or ended. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launcher/core/ctl_priv.h"
#include "launcher/core/ctl_queue.h"
#include "runtime/base/clock.h"
#include "runtime/base/hosts.h"
#include "runtime/base/str.h"

#define ASK_AGAIN (100 * MU_MS)

void mu_ctl_job_free(struct job *j)
{
    if (!j)
        return;
    mu_msg_free_body(MU_MSG_jobrow, &j->row);
    mu_msg_free_body(MU_MSG_spec, &j->spec);
    mu_hosts_free(&j->named);
    free(j->parts);
    free(j->spares);
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
    if (s->hosts && *s->hosts) {
        struct mu_hosts hosts = {0};
        if (mu_hosts_parse(s->hosts, &hosts, err))
            return mu_err_prefix(err, "the job's hosts");
        mu_hosts_free(&hosts);
    }
    if (mu_hang_ns(s->hang_ns_plus1) && mu_hang_ns(s->hang_ns_plus1) < MU_HANG_LEAST_NS)
        return mu_err_set(err, MUSTER_EARG, "the job's hang deadline is shorter than a second");
    if (s->priority < -MU_PRIORITY_MAX || s->priority > MU_PRIORITY_MAX || mu_strv_len(s->after) > MU_AFTER_MAX)
        return mu_err_set(err, MUSTER_EARG, "priorities are %d to %d, and a job comes after %u others at most",
                          -MU_PRIORITY_MAX, MU_PRIORITY_MAX, MU_AFTER_MAX);
    for (char **v = s->after; v && *v; v++)
        if (mu_str_u64(*v, 1, UINT64_MAX, &ranks))
            return mu_err_set(err, MUSTER_EARG, "--after takes numbers of jobs");
    if (s->group > 1u << 20)
        return mu_err_set(err, MUSTER_EARG, "groups of %u nodes: at most %u", s->group, 1u << 20);
    if (s->gpus > MU_GPUS_MAX || s->memory > MU_MEMORY_MAX)
        return mu_err_set(err, MUSTER_EARG, "a rank has at most %u GPUs and 1 PiB of memory", MU_GPUS_MAX);
    if (s->oversubscribe && (s->gpus || s->memory))
        return mu_err_set(err, MUSTER_EARG,
                          "--gpus-per-rank and --mem are of ranks with slots of their own: leave "
                          "--oversubscribe out");
    if (s->label && *s->label && (strchr(s->label, ',') || mu_labels_check(s->label, err)))
        return mu_err_set(err, MUSTER_EARG, "a job's label is one of letters, digits, '.', '_' and '-', 63 at most");
    if (s->bind > MU_BIND_GPU || s->on_failure > MU_FAIL_KEEP)
        return mu_err_set(err, MUSTER_EARG, "unknown policy in the job's description");
    return 0;
}

void mu_ctl_wait(struct mu_ctl *c, mu_conn conn, enum mu_msg_type type, const void *m)
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
    w->msg.type = type;
    if (mu_msg_copy(type, &w->msg.submit, m))
        mu_ctl_refuse(c, conn, MUSTER_ENOMEM, "the controller is out of memory");
    else
        c->nwaiting++;
}

static bool after_known(struct mu_ctl *c, const struct mu_m_spec *s, struct mu_err *err)
{
    uint64_t id;

    for (char **v = s->after; v && *v; v++)
        if (mu_str_u64(*v, 1, UINT64_MAX, &id) || !mu_ctl_find(c, id)) {
            mu_err_set(err, MUSTER_EARG,
                       "--after %s: there is no such job, or it ended long ago; `muster jobs --all` lists them", *v);
            return false;
        }
    return true;
}

void mu_ctl_job_submit(struct mu_ctl *c, mu_conn conn, const struct mu_m_submit *m)
{
    struct mu_err err = {0};
    char why[400];
    struct mu_share *shares = NULL;
    unsigned n, nspares;
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
    if (!ready || c->doubt_until) {
        mu_ctl_wait(c, conn, MU_MSG_submit, m);
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
    /* hosts that it brings with it are not here yet */
    if (!(j->spec.hosts && *j->spec.hosts) &&
        mu_pool_fit(&c->pool, 0, &j->spec, &shares, &n, &nspares, why, sizeof why) == MU_FIT_NEVER) {
        mu_ctl_refuse(c, conn, MUSTER_EARG, why);
        goto drop;
    }
    free(shares);
    if (!after_known(c, &j->spec, &err)) {
        mu_ctl_refuse(c, conn, MUSTER_EARG, err.text);
        goto drop;
    }
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
    row->priority = j->spec.priority;
    row->gpus = j->spec.gpus;
    row->submitted_wall = c->wall;
    row->state = MU_JOB_QUEUED;
    row->reason = mu_ctl_dup("waiting for its turn");
    if (j->spec.hold)
        row->held = mu_ctl_dup(j->spec.user && *j->spec.user ? j->spec.user : "its user");
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

/* Job numbers may begin anew in a new store, and other controllers may share the directory: the token tells jobs apart.
 */
static const char *ckpt_dir(const struct mu_ctl *c, const struct job *j, char *buf, size_t n)
{
    if (j->spec.ckpt_dir && *j->spec.ckpt_dir)
        return j->spec.ckpt_dir;
    if (!c->cfg.ckpt_root)
        return NULL;
    snprintf(buf, n, "%s/%llu-%.8s", c->cfg.ckpt_root, (unsigned long long)j->row.id, j->row.token ? j->row.token : "");
    return buf;
}

/* The description with fewer ranks, of a job with one program. */
static bool smaller_spec(const struct job *j, uint32_t ranks, struct mu_bytes *out)
{
    struct mu_m_spec spec = j->spec;

    spec.ranks = ranks;
    spec.app_ranks = (struct mu_u32v){.v = &ranks, .n = 1};
    return !mu_msg_pack(out, MU_MSG_spec, &spec);
}

/* Tells jobs of the same number apart, of other pools and of a new store. */
static uint32_t job_mark(const struct mu_m_jobrow *r)
{
    uint64_t h = mu_str_hash(r->token ? r->token : "", r->token ? strlen(r->token) : 0);

    return (uint32_t)(h ^ h >> 32);
}

struct order { /* what a start is made of */
    char **nodes;
    uint32_t *ranks, world;
    struct mu_bytes smaller, row;
    char dir[4200];
};

static void order_free(struct order *o)
{
    free(o->nodes);
    free(o->ranks);
    free(o->smaller.data);
    free(o->row.data);
}

/* The rank numbers of a part begin where those of the parts before it end. */
static bool order_make(struct mu_ctl *c, const struct job *j, struct order *o)
{
    memset(o, 0, sizeof *o);
    o->nodes = calloc(j->nparts + 1, sizeof *o->nodes);
    o->ranks = calloc(j->nparts, sizeof *o->ranks);
    if (!o->nodes || !o->ranks) {
        c->acts->failed = true;
        return false;
    }
    for (unsigned i = 0; i < j->nparts; i++) {
        o->nodes[i] = c->pool.v[j->parts[i].share.node].name;
        o->ranks[i] = j->parts[i].share.ranks;
        o->world += j->parts[i].share.ranks;
    }
    if (o->world != j->spec.ranks && !smaller_spec(j, o->world, &o->smaller)) {
        c->acts->failed = true;
        o->smaller = (struct mu_bytes){0};
    }
    return true;
}

static struct mu_m_start start_of(const struct mu_ctl *c, const struct job *j, struct order *o)
{
    const struct mu_m_jobrow *row = &j->row;

    return (struct mu_m_start){
        .job = row->id,
        .attempt = row->attempt,
        .spec = o->smaller.data ? o->smaller : row->spec,
        .nodes = o->nodes,
        .node_ranks = {.v = o->ranks, .n = j->nparts},
        .stream = j->client || j->spec.foreground,
        .log_dir = row->log_dir,
        .ckpt_dir = (char *)(uintptr_t)ckpt_dir(c, j, o->dir, sizeof o->dir),
        .limit_ns = !j->kill_at           ? 0
                    : j->kill_at > c->now ? j->kill_at - c->now
                                          : 1,
        .mark = job_mark(row),
        .failures = row->failures,
        .ran_ns = row->ran_ns + (row->resumed_wall && c->wall > row->resumed_wall ? c->wall - row->resumed_wall : 0)};
}

/* For a controller whose store has lost it; after the row is as it is stored. */
static void add_row(struct mu_ctl *c, const struct job *j, struct order *o, struct mu_m_start *start)
{
    struct mu_m_jobrow row = j->row;

    if (!o->smaller.data)
        row.spec = (struct mu_bytes){0};
    row.node_boots = (struct mu_u32v){0};
    if (mu_msg_pack(&o->row, MU_MSG_jobrow, &row))
        c->acts->failed = true;
    start->row = o->row;
}

void mu_ctl_job_start_again(struct mu_ctl *c, struct job *j, struct part *p)
{
    const struct mu_node *n = &c->pool.v[p->share.node];
    struct order o;

    if (order_make(c, j, &o)) {
        struct mu_m_start start = start_of(c, j, &o);
        add_row(c, j, &o, &start);
        p->phase = MU_PHASE_IDLE;
        p->seq = 0;
        p->boot = n->boot;
        mu_ctl_event(c, j, "start-again", -1, n->name, "the node had not heard of attempt %u", j->row.attempt);
        mu_acts_send(c->acts, n->conn, MU_MSG_start, &start);
    }
    order_free(&o);
}

/* For the next controller. */
static bool record_boots(struct job *j)
{
    uint32_t *v = calloc(2 * (size_t)j->nparts + 1, sizeof *v);

    if (!v)
        return false;
    for (unsigned i = 0; i < j->nparts; i++) {
        v[2 * i] = (uint32_t)j->parts[i].boot;
        v[2 * i + 1] = (uint32_t)(j->parts[i].boot >> 32);
    }
    free(j->row.node_boots.v);
    j->row.node_boots = (struct mu_u32v){.v = v, .n = 2 * j->nparts};
    return true;
}

static void start_attempt(struct mu_ctl *c, struct job *j)
{
    struct mu_m_jobrow *row = &j->row;
    struct order o;

    if (!order_make(c, j, &o)) {
        j->retry_at = c->now + MU_SEC;
        goto out;
    }
    mu_ctl_account_steps(c, j);
    row->attempt += MU_MUTANT(ATTEMPT_AGAIN) ? 1 : 1 + row->skip;
    row->skip = 0;
    row->retry_wall = 0;
    row->step_plus1 = 0;
    row->lost_before = row->lost_lines;
    row->unseen_before = row->unseen_lines;
    row->unread_ranks = 0;
    mu_ctl_replace(&row->unread, NULL);
    mu_strv_free(row->lapsed_nodes);
    row->lapsed_nodes = NULL;
    row->started_wall = row->started_wall ? row->started_wall : c->wall;
    if (row->resumed_wall) {
        row->mended++;
    } else {
        mu_ctl_account_waiting(c, row);
        mu_ctl_job_resumes(c, row);
        j->kill_at = !j->spec.timeout_ns                ? 0
                     : j->spec.timeout_ns > row->ran_ns ? c->now + (j->spec.timeout_ns - row->ran_ns)
                                                        : c->now + 1;
    }
    j->retry_at = 0;
    j->failed_now = j->outdated = j->first_step = j->restored_told = j->inherited = false;
    j->saves = j->save_ns = 0;
    if (!MU_MUTANT(HANG_KEPT))
        j->hang = (struct hang){0};
    for (unsigned i = 0; i < j->nparts; i++) {
        struct mu_share share = j->parts[i].share;
        j->parts[i] = (struct part){
            .share = share, .confirmed = true, .line = j->parts[i].line, .boot = c->pool.v[share.node].boot};
    }
    if (!record_boots(j))
        c->acts->failed = true;
    struct mu_m_start start = start_of(c, j, &o);
    mu_fences_end(c->fences, row->id);
    row->ranks = o.world;
    mu_ctl_set_state(c, j, MU_JOB_STARTING, "attempt %u is starting", row->attempt);
    if (!MU_MUTANT(ATTEMPT_NOT_STORED))
        mu_ctl_put(c, j, true);
    add_row(c, j, &o, &start);
    mu_ctl_event(c, j, "attempt-start", -1, o.nodes[0], "attempt %u on %u node%s", row->attempt, j->nparts,
                 j->nparts == 1 ? "" : "s");
    mu_ctl_send_agents(c, j, MU_MSG_start, &start);
    if (MU_MUTANT(ATTEMPT_NOT_STORED))
        mu_ctl_put(c, j, true);
out:
    order_free(&o);
}

/* Hosts that jobs bring with them, which others need not wait for; spares of those that run. True: a job has failed,
 * and others may have waited for its hosts. */
static bool look_for_nodes(struct mu_ctl *c)
{
    bool failed = false;
    char why[400];

    for (unsigned i = 0; i < c->njobs; i++) {
        struct job *j = c->jobs[i];
        mu_ctl_place_spares(c, j);
        j->wants_hosts = false;
        if (!mu_job_waits(j->row.state) || !mu_ctl_queue_may(c, j))
            continue;
        int there = mu_ctl_hosts_ready(c, j, why, sizeof why);
        j->wants_hosts = there <= 0;
        failed = failed || there < 0;
        if (there < 0)
            mu_ctl_job_finish(c, j, MU_JOB_FAILED, 1, why);
        else if (!there)
            mu_ctl_set_state(c, j, j->row.state, "%s", why);
    }
    return failed;
}

/* Starts jobs whose turn it is. 1: some, and what was decided about others does not hold any more. */
static int start_jobs(struct mu_ctl *c)
{
    bool started = false, missed = false;

    for (unsigned i = 0; i < c->njobs; i++) {
        struct job *j = c->jobs[i];
        struct mu_share *shares = NULL;
        char why[400];
        unsigned n = 0, nspares = 0;

        if (!mu_job_waits(j->row.state) || !mu_ctl_queue_turn(c, j) || mu_ctl_lost_waits(c, j))
            continue;
        mu_ctl_queue_keep(c, j, true);
        enum mu_fit fit = mu_pool_fit(&c->pool, j->row.id, &j->spec, &shares, &n, &nspares, why, sizeof why);
        mu_ctl_queue_keep(c, j, false);
        if (fit == MU_FIT_NEVER && j->spec.hosts && *j->spec.hosts) {
            mu_ctl_job_finish(c, j, MU_JOB_FAILED, 2, why);
            continue;
        }
        if (fit == MU_FIT_YES && n > 1 && c->fabric_until && !(j->spec.hosts && *j->spec.hosts)) {
            fit = MU_FIT_LATER;
            snprintf(why, sizeof why, "waiting for the fabric to be read");
            free(shares);
        }
        if (fit == MU_FIT_YES && !mu_ctl_checks_passed(c, shares, n + nspares, why, sizeof why)) {
            fit = MU_FIT_LATER;
            free(shares);
        }
        if (fit != MU_FIT_YES) {
            mu_ctl_set_state(c, j, j->row.state, "%s", why);
            missed = true;
            continue;
        }
        free(j->parts);
        free(j->spares);
        j->parts = calloc(n, sizeof *j->parts);
        j->spares = calloc(nspares + 1u, sizeof *j->spares);
        if (!j->parts || !j->spares) {
            free(shares);
            return 0;
        }
        for (unsigned p = 0; p < n; p++)
            j->parts[p].share = shares[p];
        j->nparts = n;
        memcpy(j->spares, shares + n, nspares * sizeof *shares);
        j->nspares = nspares;
        mu_pool_take(&c->pool, &j->spec, shares, n + nspares);
        j->holds = started = true;
        free(shares);
        mu_ctl_queue_started(c, j);
        mu_ctl_queue_charge(c, j, true);
        mu_ctl_replace(&j->row.placed, why);
        if (!mu_ctl_place_record(c, j))
            c->acts->failed = true;
        if (why[0])
            mu_ctl_event(c, j, "placed", -1, NULL, "%s", why);
        mu_ctl_event(c, j, "started", -1, c->pool.v[j->parts[0].share.node].name, "%u ranks on %u node%s", j->row.ranks,
                     n, n == 1 ? "" : "s");
        start_attempt(c, j);
    }
    return started && missed;
}

void mu_ctl_schedule(struct mu_ctl *c)
{
    if (c->exiting || c->doubt_until)
        return;
    while (look_for_nodes(c))
        ;
    do
        mu_ctl_queue_decide(c);
    while (start_jobs(c));
    mu_ctl_queue_preempt(c);
}

void mu_ctl_job_give_back(struct mu_ctl *c, struct job *j)
{
    for (unsigned i = 0; i < j->nparts; i++) /* no other job where ranks still die */
        c->pool.v[j->parts[i].share.node].stale |= j->parts[i].late;
    for (int again = MU_MUTANT(SLOT_FREED_TWICE) ? 2 : 1; j->holds && again; again--)
        for (unsigned i = 0; i < j->nparts; i++)
            mu_pool_give(&c->pool, &j->spec, &j->parts[i].share, 1);
    if (j->holds)
        mu_pool_give(&c->pool, &j->spec, j->spares, j->nspares);
    if (j->holds)
        mu_ctl_queue_charge(c, j, false);
    for (unsigned i = 0; i < j->nparts + j->nspares; i++)
        c->pool.v[i < j->nparts ? j->parts[i].share.node : j->spares[i - j->nparts].node].idle_since = c->now;
    j->nspares = 0;
    j->holds = false;
}

bool mu_ctl_job_drained(const struct job *j)
{
    for (unsigned i = 0; i < j->nparts; i++)
        if (!j->parts[i].drained && j->parts[i].phase != MU_PHASE_LOST)
            return false;
    return true;
}

/* Keepers are let go once the client has had their output, or there is no client; then the client learns the end. */
void mu_ctl_job_release(struct mu_ctl *c, struct job *j)
{
    if (!mu_job_over(j->row.state))
        return;
    if (!mu_ctl_job_drained(j) &&
        (j->client || j->client_until)) /* a client that is away for a moment has not seen all yet */
        return;
    j->client_until = 0;
    if (j->row.draining) {
        j->row.draining = 0;
        mu_ctl_put(c, j, false);
    }
    mu_ctl_send_agents(c, j, MU_MSG_release, &(struct mu_m_release){.job = j->row.id});
    free(j->parts);
    j->parts = NULL;
    j->nparts = 0;
    mu_hosts_free(&j->named);
    mu_ctl_hosts_leave(c, j->row.id);
    if (j->client && !j->ended_sent) {
        struct mu_m_ended ended = {.job = j->row.id};
        if (!mu_msg_pack(&ended.row, MU_MSG_jobrow, &j->row))
            mu_acts_send(c->acts, j->client, MU_MSG_ended, &ended);
        free(ended.row.data);
        j->ended_sent = true;
    }
}

void mu_ctl_job_finish(struct mu_ctl *c, struct job *j, unsigned state, int code, const char *reason)
{
    if (j->row.lost_lines)
        mu_ctl_event(c, j, "output-lost", -1, NULL, "%llu line%s of output not in the logs (%s), %llu not shown either",
                     (unsigned long long)j->row.lost_lines, j->row.lost_lines == 1 ? "" : "s",
                     strerror((int)j->row.lost_why), (unsigned long long)j->row.unseen_lines);
    j->row.exit_code = code;
    j->row.ended_wall = c->wall;
    mu_ctl_job_account(c, j);
    j->row.retry_wall = 0;
    j->retry_at = j->kill_at = 0;
    mu_fences_end(c->fences, j->row.id);
    mu_ctl_set_state(c, j, state, "%s", reason);
    c->ended[state]++;
    if (MU_MUTANT(RELEASE_EARLY))
        mu_ctl_send_agents(c, j, MU_MSG_release, &(struct mu_m_release){.job = j->row.id});
    j->row.draining = j->nparts && !mu_ctl_job_drained(j) && (j->client || j->client_until);
    mu_ctl_put(c, j, true);
    const char *name = mu_job_state_name(state);
    if (!strncmp(reason, name, strlen(name))) /* "cancelled by somebody" */
        mu_ctl_event(c, j, state == MU_JOB_CANCELLED ? "cancelled" : "finished", -1, NULL, "%s, exit code %d", reason,
                     code);
    else
        mu_ctl_event(c, j, state == MU_JOB_CANCELLED ? "cancelled" : "finished", -1, NULL, "%s: %s, exit code %d", name,
                     reason, code);
    mu_ctl_job_give_back(c, j);
    mu_ctl_job_release(c, j);
}

void mu_ctl_job_refused(struct mu_ctl *c, uint64_t job)
{
    unsigned i = 0;

    while (i < c->njobs && c->jobs[i]->row.id != job)
        i++;
    if (i == c->njobs)
        return;
    struct job *j = c->jobs[i];
    mu_ctl_send_agents(c, j, MU_MSG_release, &(struct mu_m_release){.job = job});
    mu_ctl_job_give_back(c, j);
    mu_fences_end(c->fences, job);
    memmove(&c->jobs[i], &c->jobs[i + 1], (--c->njobs - i) * sizeof c->jobs[0]);
    mu_ctl_job_free(j);
    mu_ctl_hosts_leave(c, job);
}

void mu_ctl_job_cancel(struct mu_ctl *c, struct job *j, unsigned ending, int code, int signo, bool force,
                       const char *why)
{
    uint64_t grace = j->spec.grace_ns ? j->spec.grace_ns : MU_CTL_GRACE;

    if (mu_job_over(j->row.state))
        return;
    bool again = j->row.ending != MU_END_NONE && !mu_ctl_requeues(j);
    if (!again) {
        j->row.ending = ending;
        j->row.ending_code = code;
        mu_ctl_event(c, j, "ending", -1, NULL, "%s", why);
    }
    bool parts_alive = false;
    for (unsigned i = 0; i < j->nparts; i++)
        parts_alive = parts_alive || j->parts[i].phase < MU_PHASE_GONE;
    if (mu_job_waits(j->row.state) || j->retry_at || !parts_alive) {
        mu_ctl_job_finish(c, j, ending == MU_END_TIMEOUT ? MU_JOB_FAILED : MU_JOB_CANCELLED, code, why);
        return;
    }
    if (!again) {
        mu_ctl_set_state(c, j, j->row.state, "%s", why);
        mu_ctl_put(c, j, true);
    }
    if (force)
        mu_ctl_kill_parts(c, j, SIGKILL, 0, why);
    else if (!again)
        mu_ctl_kill_parts(c, j, (uint32_t)signo, grace, why);
}

static void await_client(struct mu_ctl *c, struct job *j)
{
    char text[32];

    j->retry_at = c->now + 20 * MU_MS;
    mu_ctl_set_state(c, j, MU_JOB_RECOVERING,
                     "attempt %u waits for its client (muster run) to come back; if none does in %s, the job ends",
                     j->row.attempt + 1, mu_str_fmt_duration(text, sizeof text, c->cfg.client_grace_ns));
}

void mu_ctl_job_tick(struct mu_ctl *c, struct job *j)
{
    if (mu_job_over(j->row.state)) {
        if (j->client_until && c->now >= j->client_until) {
            j->client_until = 0;
            mu_ctl_job_release(c, j);
        }
        return;
    }
    if (j->client_until && c->now >= j->client_until) {
        j->client_until = 0;
        mu_ctl_job_cancel(c, j, MU_END_CLIENT, 129, SIGTERM, false, "its client went away");
    }
    if (j->kill_at && c->now >= j->kill_at) {
        j->kill_at = 0;
        mu_ctl_job_cancel(c, j, MU_END_TIMEOUT, 124, SIGTERM, false, "its time limit is over");
    }
    if (j->asked_until && c->now >= j->asked_until)
        j->asked_until = 0;
    bool back =
        j->back_at && c->now >= j->back_at; /* then nothing of it lives, whatever its new nodes are yet to say */
    if (back)
        j->back_at = 0;
    if (mu_ctl_requeues(j) && (back || mu_ctl_all_gone(j))) {
        mu_ctl_queue_back(c, j);
        return;
    }
    if (!mu_job_over(j->row.state))
        mu_ctl_hang_tick(c, j);
    if (mu_job_over(j->row.state) || !j->retry_at || c->now < j->retry_at)
        return;
    if (mu_ctl_lost_waits(c, j)) {
        j->retry_at = c->now + ASK_AGAIN;
        return;
    }
    if (j->client_until) { /* nobody is there to see it; its client comes back or the grace ends it */
        await_client(c, j);
        return;
    }
    mu_ctl_account_run(c, j);
    if (mu_ctl_place_again(c, j) && !mu_job_over(j->row.state))
        start_attempt(c, j);
}

uint64_t mu_ctl_job_next(const struct job *j)
{
    uint64_t next = UINT64_MAX;

    if (mu_job_over(j->row.state))
        return j->client_until ? j->client_until : next;
    if (j->client_until && j->client_until < next)
        next = j->client_until;
    if (j->kill_at && j->kill_at < next)
        next = j->kill_at;
    if (j->retry_at && !mu_ctl_requeues(j) && j->retry_at < next)
        next = j->retry_at;
    if (j->back_at && j->back_at < next)
        next = j->back_at;
    if (j->hang.decide_at && j->hang.decide_at < next)
        next = j->hang.decide_at;
    if (j->asked_until && j->asked_until < next)
        next = j->asked_until;
    if (mu_job_waits(j->row.state) && j->stuck_at && j->stuck_at < next)
        next = j->stuck_at;
    return next;
}
