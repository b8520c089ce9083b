/* A job's failures: what keepers and nodes tell, and whether there is another attempt. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "launcher/core/ctl_priv.h"
#include "launcher/core/ctl_queue.h"
#include "runtime/base/clock.h"
#include "runtime/base/str.h"

#define PROGRESS_EVERY (5 * MU_SEC) /* progress alone is stored so often */
#define CAUSE_LATE MU_SEC           /* so long after the first report of a failure another one may turn out its cause */
#define START_LOST_MAX 10u          /* attempts in a row, without progress, that a keeper or a node cost */
#define UNREAD_MAX 400              /* of the list of those whose output is lost */

static int exit_code_of(int status)
{
    return WIFEXITED(status) ? WEXITSTATUS(status) : WIFSIGNALED(status) ? 128 + WTERMSIG(status) : 1;
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
        if (!budget)
            snprintf(why, n, "--restarts 0");
        else
            snprintf(why, n, "keepers or nodes of it died %u times in a row without progress", r->startlost);
        return false;
    }
    bool resumes = r->joined || (j->spec.ckpt_dir && *j->spec.ckpt_dir);
    if (!by_user && !resumes) {
        snprintf(why, n, "it had not called muster_init; --restarts N restarts such a job from its beginning");
        return false;
    }
    /* A program that fails by itself before it has done anything fails again; SIGKILL comes from outside. */
    bool killed = WIFSIGNALED(r->fail_status) && WTERMSIG(r->fail_status) == SIGKILL;
    if (resumes && !stepped && !killed) {
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

/* What the ranks of a part print last may still be in pipes that die with their keeper. */
static const char *output_of(const struct job *j, const struct part *p, char *out, size_t n)
{
    uint32_t first = 0;

    for (const struct part *q = j->parts; q < p; q++)
        first += q->share.ranks;
    if (p->share.ranks > 1)
        snprintf(out, n, "the last output of ranks %u to %u may be missing", first, first + p->share.ranks - 1);
    else
        snprintf(out, n, "the last output of rank %u may be missing", first);
    return out;
}

static bool listed(const char *list, const char *what)
{
    size_t n = strlen(what);

    for (const char *at = list; (at = strstr(at, what)); at += n)
        if ((at == list || at[-1] == ' ') && (!at[n] || at[n] == ','))
            return true;
    return false;
}

/* The ranks have ended, but nobody is known to have had all that they printed, and what has it is gone. */
static void output_gone(struct mu_ctl *c, struct job *j, struct part *p, const char *why)
{
    struct mu_m_jobrow *r = &j->row;
    const char *node = c->pool.v[p->share.node].name, *known = r->unread ? r->unread : "";
    uint32_t first = 0;
    char which[200];

    if (p->drained)
        return;
    p->drained = true;
    if (!j->client && !j->client_until)
        return;
    for (const struct part *q = j->parts; q < p; q++)
        first += q->share.ranks;
    if (p->share.ranks > 1)
        snprintf(which, sizeof which, "ranks %u to %u on %.140s", first, first + p->share.ranks - 1, node);
    else
        snprintf(which, sizeof which, "rank %u on %.140s", first, node);
    if (listed(known, which)) /* told by our predecessor */
        return;
    mu_ctl_event(c, j, "output-lost", -1, node, "the last output of %s may be missing: %s before all of it was read",
                 which, why);
    if (strlen(known) < UNREAD_MAX) {
        char all[UNREAD_MAX + sizeof which + 2];
        snprintf(all, sizeof all, "%s%s%s", known, *known ? ", " : "", which);
        mu_ctl_replace(&r->unread, all);
    }
    r->unread_ranks += p->share.ranks;
    mu_ctl_put(c, j, true);
}

static void blame_node(struct mu_ctl *c, struct job *j)
{
    struct mu_m_jobrow *r = &j->row;
    char what[520], missing[100];

    r->fail_rank_plus1 = 0;
    r->fail_status = 0;
    r->fail_attempt = r->attempt;
    r->fail_wall = c->wall;
    mu_ctl_replace(&r->fail_text, "its ranks were ended");
    mu_ctl_replace(&r->fail_node, NULL);
    for (unsigned i = 0; i < j->nparts; i++) {
        const struct mu_node *n = &c->pool.v[j->parts[i].share.node];
        if (n->leaving)
            snprintf(what, sizeof what, "node %s leaves the pool", n->name);
        else if (n->state == MU_NODE_LOST)
            snprintf(what, sizeof what, "node %s was lost: %s", n->name, n->reason);
        else if (j->parts[i].lapsed)
            snprintf(what, sizeof what, "node %s had lost contact and ended its ranks", n->name);
        else if (j->parts[i].phase == MU_PHASE_LOST)
            snprintf(what, sizeof what, "the keeper on %s died, %s", n->name,
                     output_of(j, &j->parts[i], missing, sizeof missing));
        else
            continue;
        mu_ctl_replace(&r->fail_text, what);
        mu_ctl_replace(&r->fail_node, n->name);
        if ((n->state == MU_NODE_LOST || n->state == MU_NODE_AWAY) && n->away_wall) /* 0: not heard since our start */
            r->fail_wall = n->away_wall;
        return;
    }
}

/* All parts are gone: what now? */
static void decide(struct mu_ctl *c, struct job *j)
{
    static const char *const endings[] = {[MU_END_CANCEL] = "cancelled",
                                          [MU_END_TIMEOUT] = "its time limit is over",
                                          [MU_END_CLIENT] = "its client went away"};
    struct mu_m_jobrow *r = &j->row;
    bool lost = j->outdated, asked = false;

    if (c->doubt_until) /* a newer attempt may live elsewhere */
        return;
    uint32_t nfailed = 0, vain = MU_VAIN_NO;
    char what[300], why[200] = "", reason[520];

    for (unsigned i = 0; i < j->nparts; i++) {
        vain = vain ? vain : j->parts[i].starterr;
        lost = lost || j->parts[i].phase == MU_PHASE_LOST;
        asked = asked || j->parts[i].asked;
        nfailed += j->parts[i].nfailed;
    }
    /* a program that ends with 0 because it is asked to end has been cancelled nevertheless */
    if (!nfailed && !lost && (r->ending == MU_END_NONE || r->ending == MU_END_TIMEOUT || !asked)) {
        mu_ctl_job_finish(c, j, MU_JOB_COMPLETED, 0, "all ranks ended");
        return;
    }
    if (mu_ctl_requeues(j)) {
        mu_ctl_queue_back(c, j);
        return;
    }
    if (r->ending != MU_END_NONE) {
        const char *said = r->ending < sizeof endings / sizeof endings[0] ? endings[r->ending] : "ended";
        bool by = r->ending == MU_END_CANCEL && r->reason && !strncmp(r->reason, said, strlen(said));
        snprintf(reason, sizeof reason, "%s", by ? r->reason : said); /* "cancelled by somebody" */
        mu_ctl_job_finish(c, j, r->ending == MU_END_TIMEOUT ? MU_JOB_FAILED : MU_JOB_CANCELLED, r->ending_code, reason);
        return;
    }
    if (!j->failed_now) /* no rank failed: a keeper or a node did */
        blame_node(c, j);
    r->failures++;
    describe_failure(j, what, sizeof what);
    if (!may_restart(c, j, vain, !j->failed_now, why, sizeof why)) {
        int code = j->failed_now ? exit_code_of(r->fail_status) : 1;
        snprintf(reason, sizeof reason, "%s; not restarted: %s", what, why);
        mu_ctl_job_finish(c, j, MU_JOB_FAILED, code ? code : 1, reason);
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

bool mu_ctl_all_gone(const struct job *j)
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

void mu_ctl_job_decide(struct mu_ctl *c, struct job *j)
{
    if (!mu_job_over(j->row.state) && !mu_job_waits(j->row.state) && !j->retry_at && mu_ctl_all_gone(j))
        decide(c, j);
}

/* Of one that has not been heard for a while it would not be known whether it is told, and a keeper that hangs over it
 * could not be told from one that its lease ends: it is told when it is heard again (kill_again). */
static bool may_be_told(const struct mu_node *n)
{
    return n->conn && !n->suspect;
}

static mu_conn told_to_end(struct mu_ctl *c, struct part *p)
{
    p->kill_sent = p->asked = true;
    p->killed_at = p->killed_at ? p->killed_at : c->now;
    return c->pool.v[p->share.node].conn;
}

void mu_ctl_kill_parts(struct mu_ctl *c, struct job *j, uint32_t signo, uint64_t grace, const char *why)
{
    struct mu_m_kill kill = {
        .job = j->row.id, .attempt = j->row.attempt, .signo = signo, .grace_ns = grace, .why = (char *)(uintptr_t)why};
    mu_conn *told = malloc((j->nparts + 1u) * sizeof *told);
    uint32_t n = 0;

    if (!told) {
        c->acts->failed = true;
        return;
    }
    if (signo == SIGKILL && j->row.ending == MU_END_NONE) {
        mu_ctl_set_state(c, j, MU_JOB_RECOVERING, "%s", why);
        mu_ctl_put(c, j, false); /* for our successor */
    }
    for (unsigned i = 0; i < j->nparts; i++) {
        const struct mu_node *node = &c->pool.v[j->parts[i].share.node];
        if (j->parts[i].phase < MU_PHASE_GONE && may_be_told(node))
            told[n++] = told_to_end(c, &j->parts[i]);
    }
    mu_acts_cast(c->acts, told, n, MU_MSG_kill, &kill);
    free(told);
}

/* A kill may have been lost with a connection or with this controller's predecessor. */
static void kill_again(struct mu_ctl *c, struct job *j, struct part *p)
{
    bool fatal = (j->failed_now && j->spec.on_failure == MU_FAIL_KILL) || j->row.state == MU_JOB_RECOVERING;

    if (!j->failed_now && j->row.state != MU_JOB_RECOVERING && j->row.ending == MU_END_NONE)
        return;
    if (p->kill_sent || p->phase >= MU_PHASE_GONE || !may_be_told(&c->pool.v[p->share.node]))
        return;
    for (unsigned i = 0; i < j->nparts && !fatal; i++)
        fatal = j->parts[i].phase == MU_PHASE_LOST || j->parts[i].lapsed;
    if (!fatal && j->row.ending == MU_END_NONE)
        return;
    struct mu_m_kill kill = {.job = j->row.id,
                             .attempt = j->row.attempt,
                             .signo = fatal ? SIGKILL : SIGTERM,
                             .grace_ns = j->spec.grace_ns ? j->spec.grace_ns : MU_CTL_GRACE,
                             .why = j->row.reason};
    mu_acts_send(c->acts, told_to_end(c, p), MU_MSG_kill, &kill);
}

void mu_ctl_job_node_heard(struct mu_ctl *c, int node)
{
    for (unsigned i = 0; i < c->njobs; i++) {
        struct job *j = c->jobs[i];
        for (unsigned p = 0; p < j->nparts && !mu_job_over(j->row.state) && !j->retry_at; p++)
            if (j->parts[p].share.node == (uint32_t)node)
                kill_again(c, j, &j->parts[p]);
    }
}

void mu_ctl_job_failure(struct mu_ctl *c, struct job *j, const struct mu_m_report *m)
{
    struct mu_m_jobrow *r = &j->row;
    char what[300];

    j->failed_now = true;
    j->blame = m->first_blame;
    j->failed_at = c->now;
    r->fail_rank_plus1 = m->first_rank_plus1;
    r->fail_status = m->first_status;
    r->fail_wall = m->first_wall;
    r->fail_attempt = r->attempt;
    int node = m->node && m->first_blame != MU_BLAME_CODE ? mu_pool_find(&c->pool, m->node) : -1;
    if (node >= 0)
        mu_ctl_checks_failed(c, node);
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
        mu_ctl_kill_parts(c, j, SIGKILL, 0, what);
    }
    mu_ctl_wireup_abort(c, j, NULL);
}

/* What a failure does to ranks on other nodes may be reported before the failure. */
bool mu_ctl_job_outweighs(const struct mu_ctl *c, const struct job *j, uint32_t blame)
{
    return blame && blame < j->blame && c->now < j->failed_at + CAUSE_LATE;
}

/* A rank that was killed because it hangs has been recorded before it was dead. */
static void last_words(struct job *j, const struct mu_m_report *m)
{
    struct mu_m_jobrow *r = &j->row;

    if (!j->hang.killed || m->first_rank_plus1 != r->fail_rank_plus1 || r->fail_tail.len || !m->first_tail.len ||
        !(r->fail_tail.data = malloc(m->first_tail.len)))
        return;
    memcpy(r->fail_tail.data, m->first_tail.data, m->first_tail.len);
    r->fail_tail.len = m->first_tail.len;
}

static void started(struct mu_ctl *c, struct job *j)
{
    if (j->row.ending != MU_END_NONE)
        mu_ctl_set_state(c, j, MU_JOB_RUNNING, "%s", j->row.reason ? j->row.reason : "");
    else
        mu_ctl_set_state(c, j, MU_JOB_RUNNING, "attempt %u", j->row.attempt);
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
            mu_ctl_put(c, j, false); /* so that the next controller does not say it again */
        }
    }
    if (ckpt > r->ckpt_plus1) {
        r->ckpt_plus1 = ckpt;
        r->ckpt_wall = c->wall;
        mu_ctl_event(c, j, "checkpoint", -1, NULL, "step %llu is durable", (unsigned long long)ckpt - 1);
    }
    if (c->now > j->stored_at + PROGRESS_EVERY)
        mu_ctl_put(c, j, false);
}

/* Output that the logs do not have. What is told of a keeper that died has no counts. */
static void count_lost(struct mu_ctl *c, struct job *j, struct part *p, const struct mu_m_report *m)
{
    struct mu_m_jobrow *r = &j->row;
    uint64_t lost = r->lost_before, unseen = r->unseen_before;

    if (m->dropped <= p->dropped && m->unseen <= p->unseen)
        return;
    p->dropped = m->dropped > p->dropped ? m->dropped : p->dropped;
    p->unseen = m->unseen > p->unseen ? m->unseen : p->unseen;
    for (unsigned i = 0; i < j->nparts; i++) {
        lost += j->parts[i].dropped;
        unseen += j->parts[i].unseen;
    }
    if (lost && !r->lost_lines) {
        r->lost_why = m->drop_why;
        mu_ctl_event(c, j, "output-lost", -1, c->pool.v[p->share.node].name, "output cannot be written to the logs: %s",
                     strerror((int)m->drop_why));
    }
    r->lost_lines = lost > r->lost_lines ? lost : r->lost_lines;
    r->unseen_lines = unseen > r->unseen_lines ? unseen : r->unseen_lines;
}

/* Told once, whatever becomes of this controller. */
static void lapsed(struct mu_ctl *c, struct job *j, const char *node)
{
    for (char **v = j->row.lapsed_nodes; v && *v; v++)
        if (!strcmp(*v, node))
            return;
    char **v = mu_strv_dup(j->row.lapsed_nodes); /* a decoded one cannot grow */
    if (!v || mu_strv_append(&v, node)) {
        mu_strv_free(v);
        c->acts->failed = true;
        return;
    }
    mu_strv_free(j->row.lapsed_nodes);
    j->row.lapsed_nodes = v;
    mu_ctl_event(c, j, "lease-lost", -1, node, "the node had lost contact and ended its ranks of this job");
    mu_ctl_put(c, j, false);
}

void mu_ctl_job_report(struct mu_ctl *c, int node, const struct mu_m_report *m)
{
    struct job *j = mu_ctl_find(c, m->job);
    struct part *p = j ? mu_ctl_part(c, j, node) : NULL;
    mu_conn agent = c->pool.v[node].conn;

    if ((!j || !p) && mu_ctl_lost_ask(c, node, m))
        return;
    if (!j || !p) {
        c->pool.v[node].stale = true;
        mu_acts_send(c->acts, agent, MU_MSG_release, &(struct mu_m_release){.job = m->job});
        return;
    }
    if (m->attempt > j->row.attempt && mu_ctl_lost_ask(c, node, m))
        return;
    if (m->attempt > j->row.attempt && !mu_job_over(j->row.state)) {
        /* started by a predecessor that could not store it: the disk was full */
        j->row.attempt = m->attempt;
        mu_ctl_put(c, j, true);
    }
    if (m->attempt != j->row.attempt && !MU_MUTANT(EPOCH_UNCHECKED)) {
        p->heard = m->phase == MU_PHASE_IDLE || m->phase == MU_PHASE_GONE ? HEARD_OLDER : HEARD_DEAD;
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
    bool again = m->seq == p->seq; /* its agent may have spoken for a keeper that died meanwhile */
    p->seq = m->seq > p->seq ? m->seq : p->seq;
    p->keeper = m->keeper ? m->keeper : p->keeper;
    if (m->phase == MU_PHASE_GONE && m->lost)
        output_gone(c, j, p, "its keeper died");
    p->drained = m->drained || (again && p->drained);
    p->late =
        p->phase == MU_PHASE_LOST && m->phase < MU_PHASE_GONE; /* given up, and back: its keeper hung over the lease */
    if (mu_job_over(j->row.state)) {
        c->pool.v[node].stale |= p->late;
        mu_ctl_job_release(c, j);
        return;
    }
    if (p->late) {
        struct mu_m_kill kill = {
            .job = m->job, .attempt = m->attempt, .signo = SIGKILL, .why = (char *)(uintptr_t) "its node was given up"};
        mu_acts_send(c->acts, agent, MU_MSG_kill, &kill);
    }
    mu_ctl_stored(c, j, p, m);
    mu_ctl_costs(j, p, m);
    if (p->phase >= MU_PHASE_GONE)
        return;
    p->phase = m->phase;
    p->line_lost = false; /* that may have been of a keeper that died before another one took the start over */
    if (p->phase == MU_PHASE_GONE)
        mu_ctl_wireup_gone(c, j, p);
    p->nfailed = m->nfailed;
    bool news = m->njoined != p->njoined || m->steps != p->steps || m->step != p->step ||
                m->first_step_wall != p->first_step_wall || m->ckpt_plus1 != p->ckpt_plus1 ||
                m->restored_plus1 != p->restored_plus1;
    p->njoined = m->njoined;
    p->starterr = m->starterr;
    p->steps = m->steps;
    p->step = m->step;
    p->first_step_wall = m->first_step_wall;
    p->ckpt_plus1 = m->ckpt_plus1;
    p->restored_plus1 = m->restored_plus1;
    if (news)
        progress(c, j);
    count_lost(c, j, p, m);
    last_words(j, m);
    if (m->first_rank_plus1 && (!j->failed_now || mu_ctl_job_outweighs(c, j, m->first_blame)))
        mu_ctl_job_failure(c, j, m);
    else if (!m->aborted)
        mu_ctl_wireup_abort(c, j, p);
    if (j->row.state == MU_JOB_STARTING) {
        bool running = true;
        for (unsigned i = 0; i < j->nparts && running; i++)
            running = j->parts[i].phase >= MU_PHASE_RUNNING;
        if (running)
            started(c, j);
    }
    if (p->phase == MU_PHASE_LOST) {
        char missing[100];
        mu_ctl_event(c, j, "keeper-lost", -1, c->pool.v[node].name, "%s; its ranks are killed, %s",
                     m->first_text && *m->first_text ? m->first_text : "its keeper died",
                     output_of(j, p, missing, sizeof missing));
        mu_ctl_node_strike(c, node);
        if (!j->failed_now && j->row.ending == MU_END_NONE)
            mu_ctl_set_state(c, j, MU_JOB_RECOVERING, "the keeper on %s died", c->pool.v[node].name);
        mu_ctl_kill_parts(c, j, SIGKILL, 0, "a keeper of the job died");
    }
    if (m->lapsed && !p->lapsed) {
        p->lapsed = true;
        lapsed(c, j, c->pool.v[node].name);
        mu_ctl_kill_parts(c, j, SIGKILL, 0, "a node of the job lost contact");
    }
    if (mu_ctl_all_gone(j))
        decide(c, j);
    else
        kill_again(c, j, p);
}

/* What died there is the cause; what ranks elsewhere made of it is not. */
static bool is_victim(const struct job *j, const struct mu_node *lost)
{
    const struct mu_m_jobrow *r = &j->row;

    return j->failed_now && r->fail_node && strcmp(r->fail_node, lost->name) != 0 &&
           !(WIFSIGNALED(r->fail_status) && WTERMSIG(r->fail_status) == SIGKILL);
}

/* Known by other means than its agent's word. */
void mu_ctl_job_keeper_dead(struct mu_ctl *c, struct job *j, struct part *p)
{
    const struct mu_node *n = &c->pool.v[p->share.node];
    char missing[100];

    if (p->phase >= MU_PHASE_GONE || mu_job_over(j->row.state) || j->retry_at)
        return;
    p->phase = MU_PHASE_LOST;
    p->drained = true;
    mu_ctl_event(c, j, "keeper-lost", -1, n->name, "its keeper and its agent are gone; %s",
                 output_of(j, p, missing, sizeof missing));
    if (is_victim(j, n))
        j->failed_now = false;
    if (j->row.ending == MU_END_NONE)
        mu_ctl_set_state(c, j, MU_JOB_RECOVERING, "keeper and agent on %s died", n->name);
    mu_ctl_kill_parts(c, j, SIGKILL, 0, "a keeper of the job died");
    if (mu_ctl_all_gone(j))
        decide(c, j);
}

void mu_ctl_job_keeper_none(struct mu_ctl *c, struct job *j, struct part *p)
{
    const struct mu_node *n = &c->pool.v[p->share.node];
    char missing[100];

    if (p->phase >= MU_PHASE_GONE || mu_job_over(j->row.state) || j->retry_at)
        return;
    p->phase = MU_PHASE_LOST;
    mu_ctl_event(c, j, "keeper-lost", -1, n->name, "the agent has nothing of this attempt; %s",
                 output_of(j, p, missing, sizeof missing));
    mu_ctl_kill_parts(c, j, SIGKILL, 0, "a keeper of the job died");
    if (mu_ctl_all_gone(j))
        decide(c, j);
}

/* The node is given up: nothing of the attempt lives there. */
void mu_ctl_job_node_lost(struct mu_ctl *c, struct job *j, int node, const char *why)
{
    bool lost = false;

    for (unsigned p = 0; p < j->nparts; p++) {
        if (j->parts[p].share.node != (uint32_t)node)
            continue;
        if (j->parts[p].phase == MU_PHASE_GONE || mu_job_over(j->row.state))
            output_gone(c, j, &j->parts[p], "the node was lost");
        j->parts[p].drained = true;
        lost = lost || j->parts[p].phase < MU_PHASE_GONE;
        if (j->parts[p].phase < MU_PHASE_GONE)
            j->parts[p].phase = MU_PHASE_LOST;
    }
    if (mu_job_over(j->row.state)) {
        mu_ctl_job_release(c, j);
        return;
    }
    if (!lost)
        return;
    mu_ctl_event(c, j, "node-lost", -1, c->pool.v[node].name, "%s", why);
    if (is_victim(j, &c->pool.v[node]))
        j->failed_now = false;
    if (j->retry_at)
        return;
    if (j->row.ending == MU_END_NONE)
        mu_ctl_set_state(c, j, MU_JOB_RECOVERING, "%s", why);
    mu_ctl_kill_parts(c, j, SIGKILL, 0, why);
    if (mu_ctl_all_gone(j))
        decide(c, j);
}

/* Whether no rank of the attempt can have lived there: then its start, which was lost with an agent or on the way to
 * it, may be sent again. A keeper of an older attempt would know, and marks its place when it dies. */
static bool never_began(const struct mu_ctl *c, const struct job *j, const struct part *p)
{
    const struct mu_node *n = &c->pool.v[p->share.node];

    for (unsigned i = 0; i < j->nparts; i++)
        if (j->parts[i].phase == MU_PHASE_LOST || j->parts[i].lapsed)
            return false; /* it ends in any case */
    if (p->phase > MU_PHASE_STARTING || j->failed_now || j->row.ending != MU_END_NONE)
        return false;
    return p->heard == HEARD_OLDER ||
           (n->boot && n->boot == p->boot && (p->heard == HEARD_NOTHING || MU_MUTANT(BEGUN_AGAIN)));
}

/* The agent of a node has told all it runs: what it has not told is lost, or has never begun. */
void mu_ctl_job_node_ready(struct mu_ctl *c, int node)
{
    for (unsigned i = 0; i < c->njobs; i++) {
        struct job *j = c->jobs[i];
        bool lost = false;
        char missing[100];

        if (mu_job_waits(j->row.state))
            continue;
        /* a keeper that had ended its attempt is gone, and what was left of its output with it; so is one of which
         * this controller has never heard, when the job is over */
        for (unsigned p = 0; p < j->nparts; p++)
            if (j->parts[p].share.node == (uint32_t)node && !j->parts[p].confirmed &&
                (j->parts[p].phase >= MU_PHASE_GONE || mu_job_over(j->row.state))) {
                if (j->parts[p].phase == MU_PHASE_GONE)
                    output_gone(c, j, &j->parts[p], "its keeper died");
                j->parts[p].drained = true;
            }
        if (mu_job_over(j->row.state)) {
            mu_ctl_job_release(c, j);
            continue;
        }
        if (j->retry_at) { /* between two attempts: what has a keeper there has told so */
            for (unsigned p = 0; p < j->nparts; p++)
                if (j->parts[p].share.node == (uint32_t)node && !j->parts[p].confirmed)
                    j->parts[p].phase = MU_PHASE_LOST;
            j->retry_at = j->row.retry_wall > c->wall ? c->now + (j->row.retry_wall - c->wall) : c->now;
            continue;
        }
        for (unsigned p = 0; p < j->nparts; p++) {
            if (j->parts[p].share.node != (uint32_t)node || j->parts[p].confirmed || j->parts[p].phase >= MU_PHASE_GONE)
                continue;
            if (never_began(c, j, &j->parts[p])) {
                mu_ctl_job_start_again(c, j, &j->parts[p]);
                continue;
            }
            j->parts[p].phase = MU_PHASE_LOST;
            lost = true;
            mu_ctl_event(c, j, "keeper-lost", -1, c->pool.v[node].name, "%s; %s",
                         j->parts[p].heard == HEARD_DEAD ? "its keeper died while its agent was away"
                                                         : "the agent that has come back has nothing of this attempt",
                         output_of(j, &j->parts[p], missing, sizeof missing));
        }
        if (!lost)
            continue;
        mu_ctl_kill_parts(c, j, SIGKILL, 0, "a keeper of the job died");
        if (mu_ctl_all_gone(j))
            decide(c, j);
    }
}
