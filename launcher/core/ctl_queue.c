#include "launcher/core/ctl_queue.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launcher/core/policy.h"
#include "runtime/base/clock.h"
#include "runtime/base/str.h"

#define DRAIN_NS (10 * MU_SEC) /* output of one that is to wait again is waited for so long */
#define DRAIN_LOOK (50 * MU_MS)
#define BUSY_NS (10 * MU_SEC) /* what is not free yet but will be at once is taken to be free then */
#define EPOCH (1ull << 60)    /* the policy's time 0 is long before ours: jobs may have waited longer than we run */

struct user {
    char *name;
    struct mu_usage usage;
    double slots; /* in use now */
};

struct mu_ctl_queue {
    struct mu_policy *policy;
    struct mu_policy_settings defaults;
    struct user *users;
    unsigned nusers, capusers;
    struct mu_policy_plan plan;
    uint64_t seen, next; /* what the last decision was about; when another one is due */
    bool decided;
    /* the view */
    struct mu_policy_node *nodes;
    struct mu_policy_run *runs;
    struct mu_policy_job *jobs;
    struct mu_policy_user *view_users;
    struct mu_policy_share *shares; /* of runs */
    struct mu_policy_after *after;
    uint32_t *only;
    int32_t *over; /* by node: slots taken by starts of this decision beyond what it planned */
    unsigned capnodes, capruns, capjobs, capview, capshares, capafter, caponly, capover;
    unsigned nshares, nafter, nonly, njobs;
    unsigned nout, ndown; /* nodes that are drained or in quarantine; that are not up */
};

struct mu_ctl_queue *mu_ctl_queue_new(void)
{
    struct mu_ctl_queue *q = calloc(1, sizeof *q);

    if (!q || !(q->policy = mu_policy_new())) {
        free(q);
        return NULL;
    }
    mu_policy_defaults(&q->defaults);
    q->next = UINT64_MAX;
    return q;
}

void mu_ctl_queue_free(struct mu_ctl_queue *q)
{
    if (!q)
        return;
    mu_policy_free(q->policy);
    for (unsigned u = 0; u < q->nusers; u++)
        free(q->users[u].name);
    void *all[] = {q->users, q->nodes, q->runs, q->jobs, q->view_users, q->shares, q->after, q->only, q->over, q};
    for (unsigned i = 0; i < sizeof all / sizeof all[0]; i++)
        free(all[i]);
}

static bool room(void *array, unsigned *cap, unsigned want, size_t size)
{
    void *v;

    memcpy(&v, array, sizeof v);
    if (want <= *cap && v)
        return true;
    unsigned more = want + want / 2 + 16;
    if (!(v = realloc(v, more * size)))
        return false;
    memcpy(array, &v, sizeof v);
    *cap = more;
    return true;
}

static const struct mu_policy_settings *settings(const struct mu_ctl *c)
{
    return c->cfg.policy ? c->cfg.policy : &c->queue->defaults;
}

/* --- what users have used ------------------------------------------------------------------------------------------
 */

/* Index; made if need be. < 0: out of memory. */
static int user_of(struct mu_ctl *c, const char *name)
{
    struct mu_ctl_queue *q = c->queue;

    name = name ? name : "";
    for (unsigned u = 0; u < q->nusers; u++)
        if (!strcmp(q->users[u].name, name))
            return (int)u;
    if (!room(&q->users, &q->capusers, q->nusers + 1, sizeof *q->users))
        return -1;
    q->users[q->nusers] = (struct user){.name = strdup(name)};
    return q->users[q->nusers].name ? (int)q->nusers++ : -1;
}

void mu_ctl_queue_charge(struct mu_ctl *c, struct job *j, bool on)
{
    int u = user_of(c, j->row.user);
    double slots = j->charged;

    if (u < 0)
        return;
    if (on) {
        slots = 0;
        for (unsigned i = 0; i < j->nparts; i++)
            slots += j->parts[i].share.slots;
        for (unsigned i = 0; i < j->nspares; i++)
            slots += j->spares[i].slots;
    }
    struct user *user = &c->queue->users[u];
    user->slots += on ? slots : -slots;
    j->charged = on ? slots : 0;
    mu_usage_rate(&user->usage, settings(c)->half_life_ns, EPOCH + c->now, user->slots);
}

/* So many slots for so long, up to some time ago. */
static void used_before(struct mu_ctl *c, int user, double slots, uint64_t ran, uint64_t ago)
{
    uint64_t half = settings(c)->half_life_ns;
    struct mu_usage *sum = &c->queue->users[user].usage, used = {0};

    if (!ran || ago / 64 > half)
        return;
    mu_usage_rate(&used, half, 1, slots);
    mu_usage_rate(&used, half, 1 + ran, 0);
    mu_usage_rate(sum, half, EPOCH + c->now, sum->rate);
    sum->value += mu_usage_get(&used, half, 1 + ran + ago);
}

void mu_ctl_queue_load(struct mu_ctl *c, const struct job *j)
{
    const struct mu_m_jobrow *r = &j->row;
    int u = user_of(c, r->user);
    double slots = 0;

    if (u < 0 || !r->started_wall)
        return;
    for (uint32_t i = 0; i < r->node_slots.n; i++)
        slots += r->node_slots.v[i];
    for (uint32_t i = 0; i < r->spare_slots.n; i++)
        slots += r->spare_slots.v[i];
    double mean = slots > 0 || !r->ran_ns ? slots : (double)r->rank_ns / (double)r->ran_ns;
    uint64_t until = mu_job_over(r->state) ? r->ended_wall : r->since_wall, runs = mu_ctl_job_runs(c, j);
    uint64_t ago = r->resumed_wall ? runs : c->wall > until ? c->wall - until : 0;
    used_before(c, u, mean, r->ran_ns, ago);
    if (r->resumed_wall) /* it runs */
        used_before(c, u, slots, runs, 0);
}

/* --- the view ------------------------------------------------------------------------------------------------------
 */

static bool has_hosts(const struct job *j)
{
    return j->spec.hosts && *j->spec.hosts;
}

static bool waits(const struct job *j)
{
    return mu_job_waits(j->row.state);
}

static uint64_t policy_time(const struct mu_ctl *c, uint64_t wall)
{
    return EPOCH + c->now - (wall && c->wall > wall && c->wall - wall < EPOCH ? c->wall - wall : 0);
}

static void see_nodes(struct mu_ctl *c)
{
    c->queue->nout = c->queue->ndown = 0;
    for (unsigned i = 0; i < c->pool.n; i++) {
        const struct mu_node *n = &c->pool.v[i];
        bool there = n->ready && !n->stale;
        c->queue->nout += n->state == MU_NODE_UP && !n->owner && mu_pool_out(n);
        c->queue->ndown += n->state != MU_NODE_UP && n->state != MU_NODE_NONE && !n->owner;
        c->queue->nodes[i] = (struct mu_policy_node){.has = {n->slots, n->gpus, n->memory},
                                                     .labels = n->labels,
                                                     .usable = mu_pool_usable(n, 0),
                                                     .busy_until = there ? 0 : EPOCH + c->now + BUSY_NS};
    }
}

static bool add_share(struct mu_ctl_queue *q, const struct mu_share *s)
{
    if (!room(&q->shares, &q->capshares, q->nshares + 1, sizeof *q->shares))
        return false;
    q->shares[q->nshares++] = (struct mu_policy_share){.node = s->node, .n = s->slots};
    return true;
}

static bool see_run(struct mu_ctl *c, struct job *j, unsigned n)
{
    struct mu_ctl_queue *q = c->queue;
    int u = user_of(c, j->row.user);

    if (!room(&q->runs, &q->capruns, n + 1, sizeof *q->runs) || u < 0)
        return false;
    q->runs[n] = (struct mu_policy_run){.id = j->row.id,
                                        .started = policy_time(c, j->row.started_wall),
                                        .ends = j->kill_at ? EPOCH + j->kill_at : 0,
                                        .need = {1, j->spec.gpus, j->spec.memory},
                                        .nshares = j->nparts + j->nspares,
                                        .priority = j->spec.priority,
                                        .user = (uint32_t)u,
                                        .preemptible = j->row.state == MU_JOB_RUNNING && !has_hosts(j),
                                        .ending = j->row.ending != MU_END_NONE,
                                        .ckpt_at = j->row.ckpt_wall ? policy_time(c, j->row.ckpt_wall) : 0};
    for (unsigned i = 0; i < j->nparts; i++)
        if (!add_share(q, &j->parts[i].share))
            return false;
    for (unsigned i = 0; i < j->nspares; i++)
        if (!add_share(q, &j->spares[i]))
            return false;
    return true;
}

static uint32_t after_state(const struct mu_ctl *c, uint64_t id)
{
    const struct job *j = mu_ctl_find((struct mu_ctl *)(uintptr_t)c, id);

    if (!j || (mu_job_over(j->row.state) && j->row.state != MU_JOB_COMPLETED))
        return MU_AFTER_FAILED;
    return j->row.state == MU_JOB_COMPLETED ? MU_AFTER_OK : MU_AFTER_PENDING;
}

/* An oversubscribed share takes a whole node, or what it needs of it. */
static void oversubscribed(const struct mu_ctl *c, struct mu_policy_job *v)
{
    uint32_t most = 1;

    for (unsigned i = 0; i < c->pool.n; i++)
        if (mu_pool_usable(&c->pool.v[i], 0) && c->pool.v[i].slots > most)
            most = c->pool.v[i].slots;
    v->nodes = v->nodes ? v->nodes : 1;
    v->ranks = v->ranks < (uint64_t)most * v->nodes ? v->ranks : most * v->nodes;
}

static void add_only(struct mu_ctl *c, const struct job *j, uint32_t node)
{
    if (!j->spec.baseline || mu_pool_sound(&c->pool.v[node]))
        c->queue->only[c->queue->nonly++] = node;
}

/* The hosts that it has named, when all of them are the pool's; those that are as they were approved. */
static bool see_only(struct mu_ctl *c, struct job *j, unsigned n)
{
    struct mu_ctl_queue *q = c->queue;
    const struct mu_hosts *hosts = mu_ctl_hosts(j);
    unsigned first = q->nonly;

    if (!hosts || !room(&q->only, &q->caponly, q->nonly + (unsigned)hosts->n + c->pool.n + 1, sizeof *q->only))
        return false;
    for (size_t i = 0; i < hosts->n; i++) {
        int node = mu_pool_find(&c->pool, mu_host_name(hosts->v[i].name));
        if (node >= 0)
            add_only(c, j, (uint32_t)node);
    }
    for (unsigned i = 0; i < c->pool.n && !hosts->n; i++)
        add_only(c, j, i);
    if (q->nonly == first) /* none at all, which is not the same as any */
        q->only[q->nonly++] = UINT32_MAX;
    q->jobs[n].nonly = q->nonly - first;
    return true;
}

static bool see_job(struct mu_ctl *c, struct job *j, unsigned n)
{
    struct mu_ctl_queue *q = c->queue;
    const struct mu_m_spec *s = &j->spec;
    unsigned nafter = (unsigned)mu_strv_len(s->after);
    int u = user_of(c, j->row.user);
    uint64_t id;

    if (!room(&q->jobs, &q->capjobs, n + 1, sizeof *q->jobs) || u < 0 ||
        !room(&q->after, &q->capafter, q->nafter + nafter, sizeof *q->after))
        return false;
    q->jobs[n] =
        (struct mu_policy_job){.id = j->row.id,
                               .since = policy_time(c, j->row.since_wall ? j->row.since_wall : j->row.submitted_wall),
                               .limit_ns = s->timeout_ns > j->row.ran_ns ? s->timeout_ns - j->row.ran_ns : 0,
                               .priority = s->priority,
                               .user = (uint32_t)u,
                               .ranks = s->ranks,
                               .nodes = s->nodes,
                               .ppn = s->ppn,
                               .spares = s->spares,
                               .need = {1, s->gpus, s->memory},
                               .label = s->label && *s->label ? s->label : NULL,
                               .baseline = s->baseline,
                               .nafter = nafter,
                               .held = j->row.held && *j->row.held};
    for (unsigned i = 0; i < nafter; i++) {
        id = 0;
        (void)mu_str_u64(s->after[i], 1, UINT64_MAX, &id);
        q->after[q->nafter++] = (struct mu_policy_after){.id = id, .state = after_state(c, id)};
    }
    if (s->oversubscribe)
        oversubscribed(c, &q->jobs[n]);
    j->in_view_plus1 = n + 1;
    return !(has_hosts(j) || s->baseline) || see_only(c, j, n);
}

/* Once nothing is added to them any more. */
static void point(struct mu_ctl_queue *q, unsigned nruns)
{
    struct mu_policy_share *s = q->shares;
    struct mu_policy_after *a = q->after;
    uint32_t *o = q->only;

    for (unsigned i = 0; i < nruns; s += q->runs[i++].nshares)
        q->runs[i].shares = s;
    for (unsigned i = 0; i < q->njobs; i++) {
        q->jobs[i].after = a;
        a += q->jobs[i].nafter;
        q->jobs[i].only = q->jobs[i].nonly ? o : NULL;
        o += q->jobs[i].nonly;
    }
}

/* Jobs with hosts of their own do not need the pool. */
static bool by_policy(struct mu_ctl *c, struct job *j)
{
    const struct mu_hosts *hosts = has_hosts(j) ? mu_ctl_hosts(j) : NULL;

    for (size_t i = 0; hosts && i < hosts->n; i++) {
        int node = mu_pool_find(&c->pool, mu_host_name(hosts->v[i].name));
        if (node < 0 || c->pool.v[node].owner || hosts->v[i].slots > (int64_t)c->pool.v[node].slots)
            return false;
    }
    return true;
}

/* more: one that is only asked about, or NULL. */
static bool see(struct mu_ctl *c, struct job *more, struct mu_policy_view *view)
{
    struct mu_ctl_queue *q = c->queue;
    unsigned nruns = 0;

    q->nshares = q->nafter = q->nonly = q->njobs = 0;
    if (!room(&q->nodes, &q->capnodes, c->pool.n, sizeof *q->nodes) ||
        !room(&q->over, &q->capover, c->pool.n, sizeof *q->over))
        return false;
    memset(q->over, 0, c->pool.n * sizeof *q->over);
    see_nodes(c);
    for (unsigned i = 0; i < c->njobs; i++) {
        struct job *j = c->jobs[i];
        j->in_view_plus1 = 0;
        if (j->holds && !see_run(c, j, nruns++))
            return false;
        if (waits(j) && !j->wants_hosts && by_policy(c, j) && !see_job(c, j, q->njobs++))
            return false;
    }
    if (more && !see_job(c, more, q->njobs++))
        return false;
    if (!room(&q->view_users, &q->capview, q->nusers, sizeof *q->view_users))
        return false;
    for (unsigned u = 0; u < q->nusers; u++)
        q->view_users[u] = (struct mu_policy_user){
            .usage = mu_usage_get(&q->users[u].usage, settings(c)->half_life_ns, EPOCH + c->now),
            .share = mu_policy_share(settings(c), q->users[u].name)};
    point(q, nruns);
    *view = (struct mu_policy_view){.now = EPOCH + c->now,
                                    .nodes = q->nodes,
                                    .nnodes = c->pool.n,
                                    .runs = q->runs,
                                    .nruns = nruns,
                                    .jobs = q->jobs,
                                    .njobs = q->njobs,
                                    .users = q->view_users,
                                    .nusers = q->nusers};
    return true;
}

/* --- decisions -----------------------------------------------------------------------------------------------------
 */

static uint64_t mixed(uint64_t h, uint64_t x)
{
    return (h ^ x) * 0x9e3779b97f4a7c15ull + (h >> 29);
}

/* Of all that a decision depends on but time. */
static uint64_t signature(const struct mu_ctl *c, bool *any)
{
    uint64_t h = c->pool.n;

    *any = false;
    for (unsigned i = 0; i < c->njobs; i++) {
        const struct job *j = c->jobs[i];
        *any = *any || waits(j);
        h = mixed(h, j->row.ckpt_plus1);
        h = mixed(h, j->row.id << 8 | (uint64_t)j->row.state << 4 | (j->row.ending != MU_END_NONE) << 3 |
                         j->wants_hosts << 2 | (j->row.held && *j->row.held) << 1 | j->holds);
    }
    for (unsigned i = 0; *any && i < c->pool.n; i++) {
        const struct mu_node *n = &c->pool.v[i];
        h = mixed(h, (uint64_t)n->slots << 32 | n->used);
        h = mixed(h, n->memory ^ (uint64_t)n->gpus << 48);
        h = mixed(h, mu_str_hash(n->labels, strlen(n->labels)));
        h = mixed(h, n->owner << 4 | mu_pool_sound(n) << 3 | n->ready << 2 | n->stale << 1 | mu_pool_usable(n, 0));
    }
    return h;
}

void mu_ctl_queue_decide(struct mu_ctl *c)
{
    struct mu_ctl_queue *q = c->queue;
    struct mu_policy_view view;
    bool any;
    uint64_t sign = signature(c, &any);

    if (!any) {
        q->decided = false;
        q->next = UINT64_MAX;
        return;
    }
    if (q->decided && sign == q->seen && c->now < q->next)
        return;
    for (unsigned i = 0; i < c->njobs; i++)
        c->jobs[i]->turn = NULL;
    q->decided = see(c, NULL, &view) && !mu_policy_decide(q->policy, settings(c), &view, &q->plan);
    if (!q->decided) { /* out of memory: later */
        q->next = c->now + MU_SEC;
        return;
    }
    q->seen = sign;
    q->next = q->plan.next == UINT64_MAX ? UINT64_MAX : q->plan.next - EPOCH;
    for (unsigned i = 0; i < c->njobs; i++) {
        struct job *j = c->jobs[i];
        if (!waits(j) || !j->in_view_plus1)
            continue;
        const struct mu_policy_wait *w = &q->plan.waits[j->in_view_plus1 - 1];
        j->row.place = w->place;
        j->row.waits_for = w->other;
        j->row.expected_wall = w->promised ? c->wall + (w->promised - EPOCH - c->now) : 0;
        j->row.share_permille = (uint32_t)(1000 * w->factor + 0.5);
    }
    for (unsigned a = 0; a < q->plan.nacts; a++) {
        const struct mu_policy_act *act = &q->plan.acts[a];
        struct job *j = mu_ctl_find(c, q->jobs[act->job].id);
        if (j && act->what != MU_POLICY_PREEMPT)
            j->turn = act;
    }
}

static void reason(const struct mu_ctl *c, const struct mu_policy_job *j, const struct mu_policy_wait *w, char *buf,
                   size_t n)
{
    const struct mu_ctl_queue *q = c->queue;

    mu_policy_reason(j, w, buf, n);
    if (j->baseline) {
        size_t at = strlen(buf);
        mu_pool_unsound(&c->pool, 0, buf + at, n - at);
    }
    if (w->why != MU_WHY_NODES)
        return;
    size_t len = strlen(buf);
    bool labelled = !j->label;
    for (unsigned i = 0; i < c->pool.n && !labelled; i++)
        labelled = mu_pool_has_label(c->pool.v[i].labels, j->label);
    if (!labelled)
        len += (size_t)snprintf(buf + len, n - len, "; no node has that label");
    if (q->nout && len < n)
        len += (size_t)snprintf(buf + len, n - len, "; %u %s drained or in quarantine", q->nout,
                                q->nout == 1 ? "is" : "are");
    if (q->ndown && len < n)
        snprintf(buf + len, n - len, "%s %u %s not up", q->nout ? "," : ";", q->ndown, q->ndown == 1 ? "is" : "are");
}

int mu_ctl_would(struct mu_ctl *c, const struct mu_m_spec *spec, uint64_t now, uint64_t wall, struct mu_ctl_would *out)
{
    struct mu_ctl_queue *q = c->queue;
    struct job j = {.spec = *spec,
                    .row = {.id = c->next_id,
                            .user = spec->user,
                            .held = spec->hold ? spec->user : NULL,
                            .submitted_wall = wall,
                            .state = MU_JOB_QUEUED}};
    struct mu_policy_view view;
    struct mu_policy_plan plan;

    *out = (struct mu_ctl_would){.starts = true};
    if (has_hosts(&j) && !by_policy(c, &j))
        goto out;
    struct mu_policy *policy = mu_policy_new(); /* promises are made to those that are there */
    c->now = now > c->now ? now : c->now;
    c->wall = wall;
    for (unsigned i = 0; i < c->njobs; i++)
        c->jobs[i]->turn = NULL;
    q->decided = false; /* the view is not that of the last decision any more */
    if (!policy || !see(c, &j, &view) || mu_policy_decide(policy, settings(c), &view, &plan)) {
        mu_policy_free(policy);
        mu_hosts_free(&j.named);
        return MUSTER_ENOMEM;
    }
    const struct mu_policy_wait *w = &plan.waits[view.njobs - 1];
    out->starts = false;
    for (unsigned a = 0; a < plan.nacts; a++)
        out->starts = out->starts || (plan.acts[a].what == MU_POLICY_START && plan.acts[a].job == view.njobs - 1);
    if (!out->starts) {
        out->expected_wall = w->promised ? wall + (w->promised - view.now) : 0;
        if (w->why == MU_WHY_HELD)
            snprintf(out->why, sizeof out->why, "held until `muster release`");
        else
            reason(c, &view.jobs[view.njobs - 1], w, out->why, sizeof out->why);
    }
    mu_policy_free(policy);
out:
    mu_hosts_free(&j.named);
    return 0;
}

uint64_t mu_ctl_queue_next(const struct mu_ctl *c)
{
    return c->queue->next;
}

/* What it is to come after: MU_AFTER_, and the job that is not as it should be. */
static uint32_t comes_after(const struct mu_ctl *c, const struct job *j, uint64_t *other)
{
    uint32_t worst = MU_AFTER_OK;
    uint64_t id;

    for (char **v = j->spec.after; v && *v; v++) {
        uint32_t state = mu_str_u64(*v, 1, UINT64_MAX, &id) ? MU_AFTER_OK : after_state(c, id);
        if (state <= worst)
            continue;
        worst = state;
        *other = id;
    }
    return worst;
}

bool mu_ctl_queue_may(const struct mu_ctl *c, const struct job *j)
{
    uint64_t other;

    return !(j->row.held && *j->row.held) && comes_after(c, j, &other) == MU_AFTER_OK;
}

/* No room was found on the hosts that it has named, although all of them are there: there never will be. */
static bool hopeless(struct mu_ctl *c, struct job *j, char *why, size_t n)
{
    const struct mu_hosts *hosts = has_hosts(j) ? mu_ctl_hosts(j) : NULL;
    struct mu_share *shares = NULL;
    unsigned nshares, nspares;

    if (!hosts || c->queue->plan.waits[j->in_view_plus1 - 1].why != MU_WHY_NODES)
        return false;
    for (size_t i = 0; i < hosts->n; i++) {
        int node = mu_pool_find(&c->pool, mu_host_name(hosts->v[i].name));
        if (node < 0 || !mu_pool_usable(&c->pool.v[node], j->row.id)) /* in quarantine, for example */
            return false;
    }
    enum mu_fit fit = mu_pool_fit(&c->pool, j->row.id, &j->spec, &shares, &nshares, &nspares, why, n);
    free(shares);
    return fit == MU_FIT_NEVER;
}

bool mu_ctl_queue_turn(struct mu_ctl *c, struct job *j)
{
    struct mu_ctl_queue *q = c->queue;
    uint64_t other = 0;
    uint32_t after = comes_after(c, j, &other);
    char why[400];

    if (after == MU_AFTER_FAILED) {
        snprintf(why, sizeof why, "job %llu, which it was to come after, has not completed", (unsigned long long)other);
        mu_ctl_job_finish(c, j, MU_JOB_CANCELLED, 1, why);
        return false;
    }
    if (j->row.held && *j->row.held) {
        mu_ctl_set_state(c, j, j->row.state, "held by %s; `muster release %llu` lets it go", j->row.held,
                         (unsigned long long)j->row.id);
        return false;
    }
    if (after == MU_AFTER_PENDING) {
        mu_ctl_set_state(c, j, j->row.state, "waiting for job %llu to complete", (unsigned long long)other);
        return false;
    }
    if (!q->decided || !j->in_view_plus1)
        return !j->wants_hosts && !by_policy(c, j);
    if (j->turn)
        return true;
    if (hopeless(c, j, why, sizeof why)) {
        mu_ctl_job_finish(c, j, MU_JOB_FAILED, 2, why);
        return false;
    }
    reason(c, &q->jobs[j->in_view_plus1 - 1], &q->plan.waits[j->in_view_plus1 - 1], why, sizeof why);
    mu_ctl_set_state(c, j, j->row.state, "%s", why);
    return false;
}

void mu_ctl_queue_keep(struct mu_ctl *c, const struct job *j, bool on)
{
    for (unsigned i = 0; i < c->pool.n && j->turn; i++) {
        struct mu_node *n = &c->pool.v[i];
        int64_t may = (int64_t)j->turn->room[i] - (c->queue->over[i] > 0 ? c->queue->over[i] : 0);
        uint32_t is = n->slots > n->used ? n->slots - n->used : 0;
        may = may > 0 ? may : 0;
        n->kept = on && is > may ? is - (uint32_t)may : 0;
    }
}

void mu_ctl_queue_started(struct mu_ctl *c, const struct job *j)
{
    int32_t *over = c->queue->over;

    for (unsigned i = 0; i < j->nparts && j->turn; i++)
        over[j->parts[i].share.node] += (int32_t)j->parts[i].share.slots;
    for (unsigned i = 0; i < j->nspares && j->turn; i++)
        over[j->spares[i].node] += (int32_t)j->spares[i].slots;
    for (unsigned i = 0; j->turn && i < j->turn->nshares; i++)
        over[j->turn->shares[i].node] -= (int32_t)j->turn->shares[i].n;
}

void mu_ctl_job_hold(struct mu_ctl *c, mu_conn conn, const struct mu_m_hold *m)
{
    struct job *j = mu_ctl_find(c, m->job);
    const char *by = m->by && *m->by ? m->by : "somebody";
    char text[200];

    if (!j) {
        mu_ctl_refuse_unknown(c, conn, m->job);
        return;
    }
    if (!waits(j)) {
        snprintf(text, sizeof text, "job %llu is %s; only a job that waits can be %s", (unsigned long long)m->job,
                 mu_job_state_name(j->row.state), m->on ? "held" : "released");
        mu_ctl_refuse(c, conn, MUSTER_EJOB, text);
        return;
    }
    bool held = j->row.held && *j->row.held;
    if (held != (m->on != 0)) {
        mu_ctl_replace(&j->row.held, m->on ? by : NULL);
        mu_ctl_set_state(c, j, j->row.state, m->on ? "held by %s" : "released by %s", by);
        if (!MU_MUTANT(HOLD_NOT_STORED))
            mu_ctl_put(c, j, true);
        if (m->on)
            mu_ctl_hosts_leave(c, j->row.id);
        mu_ctl_event(c, j, m->on ? "held" : "released", -1, NULL, "by %s", by);
    }
    mu_acts_send(c->acts, conn, MU_MSG_submitted, &(struct mu_m_submitted){.job = m->job});
}

/* --- waiting again --------------------------------------------------------------------------------------------------
 */

static void end_for_queue(struct mu_ctl *c, struct job *j, unsigned ending, const char *why)
{
    bool alive = false;

    for (unsigned i = 0; i < j->nparts; i++)
        alive = alive || j->parts[i].phase < MU_PHASE_GONE;
    j->row.ending = ending;
    mu_ctl_set_state(c, j, j->row.state, "%s", why);
    mu_ctl_put(c, j, true);
    mu_ctl_event(c, j, "ending", -1, NULL, "%s", why);
    if (j->retry_at || !alive || MU_MUTANT(REQUEUED_EARLY)) {
        j->retry_at = 0;
        mu_ctl_queue_back(c, j);
        return;
    }
    mu_ctl_kill_parts(c, j, SIGTERM, j->spec.grace_ns ? j->spec.grace_ns : MU_CTL_GRACE, why);
}

void mu_ctl_queue_requeue(struct mu_ctl *c, mu_conn conn, const struct mu_m_requeue *m)
{
    struct job *j = mu_ctl_find(c, m->job);
    char why[200];

    if (!j) {
        mu_ctl_refuse_unknown(c, conn, m->job);
        return;
    }
    if (mu_job_over(j->row.state) || (j->row.ending != MU_END_NONE && !mu_ctl_requeues(j))) {
        snprintf(why, sizeof why, "job %llu %s; submit it again", (unsigned long long)m->job,
                 mu_job_over(j->row.state) ? "has ended" : "is ending");
        mu_ctl_refuse(c, conn, MUSTER_EJOB, why);
        return;
    }
    if (!waits(j) && !mu_ctl_requeues(j)) {
        snprintf(why, sizeof why, "requeued by %.100s", m->by && *m->by ? m->by : "somebody");
        end_for_queue(c, j, MU_END_REQUEUE, why);
    }
    mu_acts_send(c->acts, conn, MU_MSG_submitted, &(struct mu_m_submitted){.job = m->job});
}

/* Its keepers are let go of, once somebody who watches has had their output; its nodes are free when they are gone. */
void mu_ctl_queue_back(struct mu_ctl *c, struct job *j)
{
    struct mu_m_jobrow *r = &j->row;
    bool preempted = r->ending == MU_END_PREEMPT;

    if (!mu_ctl_job_drained(j) && (j->client || j->client_until)) {
        if (!j->back_until) {
            j->back_until = c->now + DRAIN_NS;
            mu_ctl_put(c, j, false); /* somebody acts, so that the time is looked at */
        }
        if (c->now < j->back_until) {
            j->back_at = c->now + DRAIN_LOOK;
            return;
        }
    }
    mu_ctl_job_give_back(c, j);
    for (unsigned i = 0; i < j->nparts; i++) /* what its agent has said it has of the job ends first */
        if (j->parts[i].confirmed && c->pool.v[j->parts[i].share.node].conn)
            c->pool.v[j->parts[i].share.node].stale = true;
    mu_fences_end(c->fences, r->id);
    mu_ctl_job_account(c, j);
    r->retry_wall = 0;
    r->since_wall = c->wall;
    r->ending = MU_END_NONE;
    r->ending_code = 0;
    r->requeues++;
    j->back_at = j->back_until = j->retry_at = j->kill_at = j->short_since = j->stuck_at = 0;
    j->failed_now = j->outdated = false;
    mu_ctl_set_state(c, j, preempted ? MU_JOB_SUSPENDED : MU_JOB_QUEUED, "waiting for its turn");
    struct part *parts = j->parts;
    unsigned n = j->nparts;
    j->nparts = 0;
    if (!mu_ctl_place_record(c, j))
        c->acts->failed = true;
    mu_ctl_put(c, j, true); /* before its keepers go: a controller that finds it running would miss them */
    j->nparts = n;
    mu_ctl_send_agents(c, j, MU_MSG_release, &(struct mu_m_release){.job = r->id});
    j->parts = NULL;
    j->nparts = 0;
    free(parts);
    mu_ctl_event(c, j, preempted ? "suspended" : "requeued", -1, NULL, "it waits again after attempt %u", r->attempt);
}

void mu_ctl_queue_preempt(struct mu_ctl *c)
{
    struct mu_ctl_queue *q = c->queue;
    char why[200];

    for (unsigned a = 0; q->decided && a < q->plan.nacts; a++) {
        const struct mu_policy_act *act = &q->plan.acts[a];
        struct job *j = act->what == MU_POLICY_PREEMPT ? mu_ctl_find(c, q->runs[act->run].id) : NULL;
        if (!j || j->row.ending != MU_END_NONE || j->row.state != MU_JOB_RUNNING)
            continue;
        snprintf(why, sizeof why, "preempted by job %llu", (unsigned long long)q->jobs[act->job].id);
        end_for_queue(c, j, MU_END_PREEMPT, why);
    }
}

bool mu_ctl_needs(const struct mu_ctl *c, uint64_t job)
{
    char text[24];

    snprintf(text, sizeof text, "%llu", (unsigned long long)job);
    for (unsigned i = 0; i < c->njobs; i++)
        for (char **v = waits(c->jobs[i]) ? c->jobs[i]->spec.after : NULL; v && *v; v++)
            if (!strcmp(*v, text))
                return true;
    return false;
}

uint64_t mu_ctl_missing(const struct mu_ctl *c, uint64_t above)
{
    uint64_t least = 0, id;

    for (unsigned i = 0; i < c->njobs; i++)
        for (char **v = waits(c->jobs[i]) ? c->jobs[i]->spec.after : NULL; v && *v; v++)
            if (!mu_str_u64(*v, above + 1, UINT64_MAX, &id) && (!least || id < least) &&
                !mu_ctl_find((struct mu_ctl *)(uintptr_t)c, id))
                least = id;
    return least;
}
