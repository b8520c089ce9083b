#include "tests/policy/trace.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launcher/core/profile.h"
#include "runtime/base/clock.h"

#define ENDING_NS (3 * MU_SEC) /* from being told to end to the end */
#define HOUR (3600 * MU_SEC)

uint64_t trace_random(struct trace *t, uint64_t below)
{
    uint64_t z = t->rng += 0x9e3779b97f4a7c15ull;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    z ^= z >> 31;
    return below ? z % below : z;
}

bool trace_chance(struct trace *t, unsigned permille)
{
    return trace_random(t, 1000) < permille;
}

double trace_unit(struct trace *t)
{
    return (double)(trace_random(t, 0) >> 11) / 9007199254740992.0;
}

bool trace_new(struct trace *t, uint64_t seed, unsigned nodes, unsigned jobs, unsigned users)
{
    *t = (struct trace){.seed = seed, .rng = seed * 77777 + 5, .nnodes = nodes, .njobs = jobs, .nusers = users};
    mu_policy_defaults(&t->set);
    t->nodes = calloc(nodes, sizeof *t->nodes);
    t->jobs = calloc(jobs, sizeof *t->jobs);
    t->users = calloc(users, sizeof *t->users);
    t->used = calloc(users, sizeof *t->used);
    for (unsigned u = 0; u < users && t->users; u++)
        t->users[u].share = 1;
    for (unsigned i = 0; i < jobs && t->jobs; i++)
        t->jobs[i].id = i + 1;
    return t->nodes && t->jobs && t->users && t->used;
}

void trace_free(struct trace *t)
{
    for (unsigned i = 0; i < t->njobs; i++)
        free(t->jobs[i].shares);
    free(t->nodes);
    free(t->jobs);
    free(t->users);
    free(t->used);
    mu_policy_settings_free(&t->set);
}

static void bad(struct trace *t, const char *fmt, ...)
{
    va_list ap;

    if (t->wrong)
        return;
    va_start(ap, fmt);
    vsnprintf(t->text, sizeof t->text, fmt, ap);
    va_end(ap);
    t->wrong = t->text;
}

/* What a run has: the view that the policy is given, and books of its own. */
struct state {
    struct mu_policy *policy;
    struct mu_policy_run *runs;
    struct mu_policy_job *jobs;
    unsigned *run_of, *job_of; /* indexes of t->jobs */
    struct mu_policy_after *after;
    struct mu_usage *usage;
    uint64_t (*taken)[MU_RES_N]; /* by node */
    unsigned *running, nrunning, *queued, nqueued, next;
    unsigned *backlog; /* by user */
    bool *idle;        /* node: nobody had anything there when the decision was made */
    struct mu_profile fifo;
    uint64_t *fifo_ends;
    int16_t *all;
    double slots; /* of the pool */
};

static struct tjob *job_of(struct trace *t, uint64_t id)
{
    return id && id <= t->njobs ? &t->jobs[id - 1] : NULL;
}

static void rate(struct trace *t, struct state *s, struct tjob *j, int sign)
{
    double slots = 0;

    for (unsigned k = 0; k < j->nshares; k++)
        slots += (double)(j->shares[k].n * j->need[MU_RES_SLOTS]);
    mu_usage_rate(&s->usage[j->user], t->set.half_life_ns, t->now, s->usage[j->user].rate + sign * slots);
    if (sign < 0) {
        t->used[j->user] += slots * (double)(t->now - j->started) / (double)MU_SEC;
        t->busy += slots * (double)(t->now - j->started) / (double)MU_SEC;
    }
    for (unsigned k = 0; k < j->nshares; k++)
        for (unsigned r = 0; r < MU_RES_N; r++)
            s->taken[j->shares[k].node][r] += (uint64_t)sign * j->shares[k].n * j->need[r];
}

static void enqueue(struct trace *t, struct state *s, unsigned i)
{
    unsigned at = s->nqueued++;

    for (; at && s->queued[at - 1] > i; at--)
        s->queued[at] = s->queued[at - 1];
    s->queued[at] = i;
    t->jobs[i].state = T_QUEUED;
    t->jobs[i].since = t->now;
    t->jobs[i].promised = 0;
    s->backlog[t->jobs[i].user]++;
}

static void leave_queue(struct trace *t, struct state *s, unsigned i)
{
    unsigned at = 0;

    while (s->queued[at] != i)
        at++;
    memmove(&s->queued[at], &s->queued[at + 1], (--s->nqueued - at) * sizeof *s->queued);
    s->backlog[t->jobs[i].user]--;
}

/* --- what must hold of a start -------------------------------------------------------------------------------------
 */

static bool labelled(const struct mu_policy_node *n, const char *label)
{
    return n->labels && strstr(n->labels, label); /* the traces' labels are not parts of one another */
}

static void check_start(struct trace *t, struct state *s, const struct tjob *j, const struct mu_policy_act *a)
{
    uint64_t ranks = 0, largest = 0;
    unsigned nodes = a->nshares - a->nspares, idle = 0;

    for (unsigned k = 0; k < a->nshares; k++) {
        const struct mu_policy_share *v = &a->shares[k];
        if (v->node >= t->nnodes || !v->n) {
            bad(t, "job %llu gets an empty share", (unsigned long long)j->id);
            return;
        }
        for (unsigned m = 0; m < k; m++)
            if (a->shares[m].node == v->node)
                bad(t, "job %llu gets node %u twice", (unsigned long long)j->id, v->node);
        if (!t->nodes[v->node].usable)
            bad(t, "job %llu starts on node %u, which is not usable", (unsigned long long)j->id, v->node);
        if (t->nodes[v->node].busy_until > t->now)
            bad(t, "job %llu starts on node %u, which is not free yet", (unsigned long long)j->id, v->node);
        if (j->label && !labelled(&t->nodes[v->node], j->label))
            bad(t, "job %llu starts on node %u, which has no label %s", (unsigned long long)j->id, v->node, j->label);
        if (j->ppn && v->n > j->ppn)
            bad(t, "job %llu has %u ranks on a node, %u at most were wanted", (unsigned long long)j->id, v->n, j->ppn);
        if (k < nodes) {
            ranks += v->n;
            largest = v->n > largest ? v->n : largest;
        } else if (v->n < largest) {
            bad(t, "a spare node of job %llu is smaller than what it has to replace", (unsigned long long)j->id);
        }
    }
    if (ranks != j->ranks || (j->nodes && nodes != j->nodes) || a->nspares != j->spares)
        bad(t, "job %llu wanted %u ranks on %u nodes and %u spares, and gets %llu on %u and %u",
            (unsigned long long)j->id, j->ranks, j->nodes, j->spares, (unsigned long long)ranks, nodes, a->nspares);
    if (j->held_until > t->now)
        bad(t, "job %llu starts although it is held", (unsigned long long)j->id);
    if (j->after && job_of(t, j->after)->state != T_ENDED)
        bad(t, "job %llu starts before job %llu has ended", (unsigned long long)j->id, (unsigned long long)j->after);
    if (t->steady && j->promised && t->now > j->promised)
        bad(t, "job %llu was promised %.0f s and starts at %.0f s", (unsigned long long)j->id,
            (double)j->promised / 1e9, (double)t->now / 1e9);
    for (unsigned i = 0; i < t->nnodes && t->set.spare_nodes; i++)
        idle += t->nodes[i].usable && s->idle[i] && !s->taken[i][MU_RES_SLOTS];
    if (t->set.spare_nodes && idle < t->set.spare_nodes)
        for (unsigned k = 0; k < a->nshares; k++)
            if (s->idle[a->shares[k].node])
                bad(t, "job %llu starts on an idle node and leaves %u, %u are to be spare", (unsigned long long)j->id,
                    idle, t->set.spare_nodes);
}

static void check_slots(struct trace *t, const struct state *s)
{
    static const char *const names[] = {"slots", "GPUs", "bytes"};

    for (unsigned i = 0; i < t->nnodes; i++)
        for (unsigned r = 0; r < MU_RES_N; r++)
            if (s->taken[i][r] > t->nodes[i].has[r])
                bad(t, "node %u has %llu %s, %llu are given out", i, (unsigned long long)t->nodes[i].has[r], names[r],
                    (unsigned long long)s->taken[i][r]);
}

static void start(struct trace *t, struct state *s, const struct mu_policy_act *a)
{
    unsigned i = s->job_of[a->job];
    struct tjob *j = &t->jobs[i];

    j->shares = malloc(a->nshares * sizeof *j->shares);
    if (!j->shares) {
        bad(t, "out of memory");
        return;
    }
    memcpy(j->shares, a->shares, a->nshares * sizeof *j->shares);
    j->nshares = a->nshares;
    j->started = t->now;
    rate(t, s, j, 1);
    check_start(t, s, j, a);
    uint64_t left = j->length - j->done;
    j->ends = t->now + (left < j->limit || !j->limit ? left : j->limit);
    j->state = T_RUNNING;
    j->ending = false;
    leave_queue(t, s, i);
    s->running[s->nrunning++] = i;
}

/* --- ends ----------------------------------------------------------------------------------------------------------
 */

static uint64_t newest_ckpt(const struct tjob *j, uint64_t now)
{
    return j->ckpt_every ? j->started + (now - j->started) / j->ckpt_every * j->ckpt_every : j->started;
}

static void end(struct trace *t, struct state *s, unsigned at, bool lost)
{
    unsigned i = s->running[at];
    struct tjob *j = &t->jobs[i];

    s->running[at] = s->running[--s->nrunning];
    rate(t, s, j, -1);
    free(j->shares);
    j->shares = NULL;
    j->nshares = 0;
    if (j->ending || lost) {
        j->done += newest_ckpt(j, t->now) - j->started;
        enqueue(t, s, i);
    } else {
        j->state = j->fails ? T_FAILED : T_ENDED;
    }
    if (j->ending && s->nqueued && j->done > j->length)
        bad(t, "job %llu has done more than there is to do", (unsigned long long)j->id);
}

static void preempt(struct trace *t, struct state *s, const struct mu_policy_act *a)
{
    struct tjob *j = &t->jobs[s->run_of[a->run]], *by = &t->jobs[s->job_of[a->job]];
    uint64_t ckpt = j->ckpt_every && newest_ckpt(j, t->now) > j->started ? newest_ckpt(j, t->now) : 0;

    if (t->set.preempt == MU_PREEMPT_OFF)
        bad(t, "job %llu is preempted, although that is off", (unsigned long long)j->id);
    if (j->priority >= by->priority)
        bad(t, "job %llu is preempted for one of no higher priority", (unsigned long long)j->id);
    if (t->set.preempt != MU_PREEMPT_FORCE && (!ckpt || t->now - ckpt > t->set.preempt_ckpt_ns))
        bad(t, "job %llu is preempted without a checkpoint younger than %.0f s", (unsigned long long)j->id,
            (double)t->set.preempt_ckpt_ns / 1e9);
    if (j->ending)
        bad(t, "job %llu is preempted twice", (unsigned long long)j->id);
    if (++j->preempted > 100)
        bad(t, "job %llu is preempted again and again", (unsigned long long)j->id);
    j->ending = true;
    j->ends = t->now + ENDING_NS < j->ends ? t->now + ENDING_NS : j->ends;
    t->preemptions++;
}

static void flake(struct trace *t, struct state *s)
{
    unsigned n = (unsigned)trace_random(t, t->nnodes);

    if (!t->flaky || (t->nodes[n].usable && !trace_chance(t, 20)))
        return;
    t->nodes[n].usable = !t->nodes[n].usable;
    t->nodes[n].busy_until = t->nodes[n].usable && trace_chance(t, 300) ? t->now + 20 * MU_SEC : 0;
    for (unsigned r = 0; r < s->nrunning && !t->nodes[n].usable;) {
        const struct tjob *j = &t->jobs[s->running[r]];
        bool here = false;
        for (unsigned k = 0; k < j->nshares; k++)
            here = here || j->shares[k].node == n;
        if (here)
            end(t, s, r, true);
        else
            r++;
    }
}

/* --- decisions -----------------------------------------------------------------------------------------------------
 */

static void look(struct trace *t, struct state *s, struct mu_policy_view *v)
{
    for (unsigned u = 0; u < t->nusers; u++)
        t->users[u].usage = mu_usage_get(&s->usage[u], t->set.half_life_ns, t->now);
    for (unsigned i = 0; i < t->nnodes; i++)
        s->idle[i] = true;
    for (unsigned r = 0; r < s->nrunning; r++) {
        struct tjob *j = &t->jobs[s->running[r]];
        uint64_t ckpt = newest_ckpt(j, t->now);
        s->run_of[r] = s->running[r];
        s->runs[r] = (struct mu_policy_run){.id = j->id,
                                            .started = j->started,
                                            .ends = j->limit ? j->started + j->limit : 0,
                                            .shares = j->shares,
                                            .nshares = j->nshares,
                                            .priority = j->priority,
                                            .user = j->user,
                                            .preemptible = true,
                                            .ending = j->ending,
                                            .ckpt_at = ckpt > j->started ? ckpt : 0};
        memcpy(s->runs[r].need, j->need, sizeof j->need);
        for (unsigned k = 0; k < j->nshares; k++)
            s->idle[j->shares[k].node] = false;
    }
    for (unsigned q = 0; q < s->nqueued; q++) {
        struct tjob *j = &t->jobs[s->queued[q]], *after = job_of(t, j->after);
        s->job_of[q] = s->queued[q];
        s->after[q] = (struct mu_policy_after){.id = j->after};
        if (after)
            s->after[q].state = after->state == T_ENDED                                 ? MU_AFTER_OK
                                : after->state == T_FAILED || after->state == T_DROPPED ? MU_AFTER_FAILED
                                                                                        : MU_AFTER_PENDING;
        s->jobs[q] = (struct mu_policy_job){.id = j->id,
                                            .since = j->since,
                                            .limit_ns = j->limit,
                                            .priority = j->priority,
                                            .user = j->user,
                                            .ranks = j->ranks,
                                            .nodes = j->nodes,
                                            .ppn = j->ppn,
                                            .spares = j->spares,
                                            .label = j->label,
                                            .after = &s->after[q],
                                            .nafter = after ? 1 : 0,
                                            .held = j->held_until > t->now};
        memcpy(s->jobs[q].need, j->need, sizeof j->need);
    }
    *v = (struct mu_policy_view){.now = t->now,
                                 .nodes = t->nodes,
                                 .nnodes = t->nnodes,
                                 .runs = s->runs,
                                 .nruns = s->nrunning,
                                 .jobs = s->jobs,
                                 .njobs = s->nqueued,
                                 .users = t->users,
                                 .nusers = t->nusers};
}

/* Whoever has waited longer, by all that priority and fair share can weigh, is before; the first knows its start. */
static void check_waits(struct trace *t, const struct state *s, const struct mu_policy_plan *plan)
{
    int32_t lo = INT32_MAX, hi = INT32_MIN;
    uint64_t newest = 0;
    unsigned *by_place = calloc(s->nqueued + 1u, sizeof *by_place);

    for (unsigned q = 0; q < s->nqueued && by_place; q++) {
        const struct tjob *j = &t->jobs[s->job_of[q]];
        const struct mu_policy_wait *w = &plan->waits[q];
        lo = j->priority < lo ? j->priority : lo;
        hi = j->priority > hi ? j->priority : hi;
        if (w->place > s->nqueued)
            bad(t, "job %llu is at place %u of %u", (unsigned long long)j->id, w->place, s->nqueued);
        else if (w->place && by_place[w->place])
            bad(t, "two jobs are at place %u", w->place);
        else if (w->place)
            by_place[w->place] = q + 1;
        if (t->steady && w->promised && j->promised && w->promised > j->promised)
            bad(t, "job %llu was promised %.3f s, and is now promised %.3f s", (unsigned long long)j->id,
                (double)j->promised / 1e9, (double)w->promised / 1e9);
        if (w->place == 1 && w->why != MU_WHY_NOT && !w->promised && !t->flaky)
            bad(t, "job %llu is the first and is promised nothing", (unsigned long long)j->id);
    }
    uint64_t most = t->set.share_weight_ns + (hi > lo ? (uint64_t)(hi - lo) * t->set.priority_step_ns : 0);
    for (unsigned k = 1; k <= s->nqueued && by_place && by_place[k]; k++) {
        const struct tjob *j = &t->jobs[s->job_of[by_place[k] - 1]];
        if (newest > j->since + most + MU_SEC)
            bad(t, "job %llu has waited %.1f h longer than one before it", (unsigned long long)j->id,
                (double)(newest - j->since) / (double)HOUR);
        newest = j->since > newest ? j->since : newest;
    }
    free(by_place);
    for (unsigned q = 0; q < s->nqueued; q++)
        if (plan->waits[q].promised && plan->waits[q].why != MU_WHY_NOT)
            t->jobs[s->job_of[q]].promised = plan->waits[q].promised;
}

/* Strictly in turn: nobody starts before one that came earlier. */
static void in_turn(struct trace *t, struct state *s, const struct mu_policy_view *v, struct mu_policy_plan *plan)
{
    struct mu_policy_act a;

    *plan = (struct mu_policy_plan){.next = UINT64_MAX};
    for (unsigned r = 0; r < v->nruns; r++)
        s->fifo_ends[r] = v->runs[r].ends > t->now ? v->runs[r].ends : t->now + MU_SEC;
    if (!mu_profile_build(&s->fifo, v, s->fifo_ends))
        bad(t, "out of memory");
    for (unsigned q = 0; q < v->njobs && !t->wrong; q++) {
        if (mu_profile_find(&s->fifo, &v->jobs[q], s->all, 1, true) < 0)
            return;
        a = (struct mu_policy_act){
            .job = q, .shares = s->fifo.pick, .nshares = s->fifo.npick, .nspares = s->fifo.nspares};
        start(t, s, &a);
        mu_profile_take(&s->fifo, v->jobs[q].need, a.shares, a.nshares, t->now, t->now + 3600 * MU_SEC, 1);
    }
}

static uint64_t decide(struct trace *t, struct state *s)
{
    struct mu_policy_view v;
    struct mu_policy_plan plan;
    uint64_t next;

    look(t, s, &v);
    if (t->fifo) {
        in_turn(t, s, &v, &plan);
        return UINT64_MAX;
    }
    uint64_t from = trace_clock();
    int rc = mu_policy_decide(s->policy, &t->set, &v, &plan);
    uint64_t spent = trace_clock() - from;
    t->decisions++;
    t->spent_ns += spent;
    if (spent > t->longest_ns) {
        t->longest_ns = spent;
        t->most_at_longest = s->nqueued;
    }
    t->most_queued = s->nqueued > t->most_queued ? s->nqueued : t->most_queued;
    if (rc) {
        bad(t, "out of memory");
        return UINT64_MAX;
    }
    next = plan.next;
    check_waits(t, s, &plan);
    for (unsigned i = 0; i < plan.nacts; i++) {
        const struct mu_policy_act *a = &plan.acts[i];
        if (a->what == MU_POLICY_START) {
            start(t, s, a);
        } else if (a->what == MU_POLICY_PREEMPT) {
            preempt(t, s, a);
        } else {
            struct tjob *after = job_of(t, a->other), *j = &t->jobs[s->job_of[a->job]];
            if (!after || (after->state != T_FAILED && after->state != T_DROPPED))
                bad(t, "job %llu is dropped without a reason", (unsigned long long)j->id);
            leave_queue(t, s, s->job_of[a->job]);
            j->state = T_DROPPED;
            t->dropped++;
            next = t->now; /* others may wait for it */
        }
    }
    check_slots(t, s);
    return next;
}

/* --- time ----------------------------------------------------------------------------------------------------------
 */

static void come(struct trace *t, struct state *s)
{
    while (s->next < t->njobs && !t->backlog && t->jobs[s->next].submit <= t->now)
        enqueue(t, s, s->next++);
    for (unsigned u = 0; u < t->nusers && t->backlog; u++)
        while (s->backlog[u] < t->backlog && s->next < t->njobs) {
            struct tjob *j = &t->jobs[s->next];
            j->user = u;
            t->more(t, j);
            enqueue(t, s, s->next++);
        }
}

static bool state_new(struct trace *t, struct state *s)
{
    *s = (struct state){.policy = mu_policy_new(),
                        .runs = calloc(t->njobs, sizeof *s->runs),
                        .jobs = calloc(t->njobs, sizeof *s->jobs),
                        .run_of = calloc(t->njobs, sizeof *s->run_of),
                        .job_of = calloc(t->njobs, sizeof *s->job_of),
                        .after = calloc(t->njobs, sizeof *s->after),
                        .usage = calloc(t->nusers, sizeof *s->usage),
                        .taken = calloc(t->nnodes, sizeof *s->taken),
                        .running = calloc(t->njobs, sizeof *s->running),
                        .queued = calloc(t->njobs, sizeof *s->queued),
                        .backlog = calloc(t->nusers, sizeof *s->backlog),
                        .idle = calloc(t->nnodes, sizeof *s->idle),
                        .fifo_ends = calloc(t->njobs, sizeof *s->fifo_ends),
                        .all = malloc((t->nnodes + 64) * sizeof *s->all)};
    if (s->all)
        memset(s->all, 0xff, (t->nnodes + 64) * sizeof *s->all);
    return s->policy && s->runs && s->jobs && s->run_of && s->job_of && s->after && s->usage && s->taken &&
           s->running && s->queued && s->backlog && s->idle && s->fifo_ends && s->all;
}

static void state_free(struct state *s)
{
    mu_policy_free(s->policy);
    mu_profile_free(&s->fifo);
    void *all[] = {s->runs,    s->jobs,   s->run_of,  s->job_of, s->after,     s->usage, s->taken,
                   s->running, s->queued, s->backlog, s->idle,   s->fifo_ends, s->all};
    for (unsigned i = 0; i < sizeof all / sizeof all[0]; i++)
        free(all[i]);
}

bool trace_run(struct trace *t)
{
    struct state s;
    uint64_t next = 0;

    if (!state_new(t, &s))
        bad(t, "out of memory");
    t->now = MU_SEC;
    while (!t->wrong && (!t->until || t->now < t->until)) {
        come(t, &s);
        next = decide(t, &s);
        if (s.next < t->njobs && !t->backlog && t->jobs[s.next].submit < next)
            next = t->jobs[s.next].submit;
        for (unsigned r = 0; r < s.nrunning; r++)
            next = t->jobs[s.running[r]].ends < next ? t->jobs[s.running[r]].ends : next;
        for (unsigned q = 0; q < s.nqueued; q++)
            if (t->jobs[s.queued[q]].held_until > t->now && t->jobs[s.queued[q]].held_until < next)
                next = t->jobs[s.queued[q]].held_until;
        if (t->backlog && next == UINT64_MAX && s.nqueued)
            bad(t, "%u jobs wait and nothing will happen", s.nqueued);
        if (s.next == t->njobs && !s.nqueued && !s.nrunning)
            break;
        if (next == UINT64_MAX && !t->flaky) {
            bad(t, "%u jobs wait for ever, the first is %llu", s.nqueued,
                s.nqueued ? (unsigned long long)t->jobs[s.queued[0]].id : 0);
            break;
        }
        next = next == UINT64_MAX ? t->now + 60 * MU_SEC : next;
        if (t->now > 100000 * HOUR) {
            bad(t, "%u jobs wait after a hundred thousand hours", s.nqueued);
            break;
        }
        t->now = next > t->now ? next : t->now + MU_MS;
        for (unsigned r = 0; r < s.nrunning;) {
            if (t->jobs[s.running[r]].ends <= t->now)
                end(t, &s, r, false);
            else
                r++;
        }
        flake(t, &s);
    }
    while (s.nrunning && !t->wrong)
        end(t, &s, 0, false);
    state_free(&s);
    return !t->wrong;
}
