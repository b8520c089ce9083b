#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/clean.h"
#include "tests/sim/priv.h"

/* --- running a core's actions --- */

void sim_ctl_crash(struct world *w)
{
    sim_trace(w, "CRASH controller");
    if (w->loses && w->now < w->until_faults && sim_chance(w, 500))
        sim_lose_rows(w);
    mu_ctl_free(w->ctl);
    w->ctl = NULL;
    w->ctl_alive = false;
    w->ctl_gen++;
    sim_tree_ctl_stop(w);
    for (uint32_t i = 2; i <= w->nnet + 1; i++)
        if (w->net[i].open && w->net[i].kind[1] == CTL)
            sim_hang_up(w, i);
    sim_at(w, w->now + sim_below(w, 2 * MU_SEC), CTL_START);
}

static void check_pool(struct world *w)
{
    const struct mu_pool *pool = mu_ctl_pool(w->ctl);

    for (unsigned i = 0; i < pool->n; i++) {
        uint64_t held = 0, ranks = 0; /* which need a GPU each; a spare is kept for as many as it has slots */
        if (pool->v[i].state == MU_NODE_NONE)
            continue;
        for (unsigned k = 0; k < mu_ctl_job_count(w->ctl); k++) {
            const struct mu_m_jobrow *r = mu_ctl_job(w->ctl, k, NULL);
            if (mu_job_over(r->state) || mu_job_waits(r->state))
                continue;
            for (unsigned n = 0; r->nodes && r->nodes[n]; n++)
                if (!strcmp(r->nodes[n], pool->v[i].name)) {
                    held += r->node_slots.v[n];
                    ranks += r->node_ranks.v[n];
                }
            for (unsigned n = 0; r->spare_nodes && r->spare_nodes[n]; n++)
                if (!strcmp(r->spare_nodes[n], pool->v[i].name)) {
                    held += r->spare_slots.v[n];
                    ranks += r->spare_slots.v[n];
                }
        }
        if (held != pool->v[i].used)
            sim_violated(w, "node %s: jobs hold %llu slots, the pool counts %u", pool->v[i].name,
                         (unsigned long long)held, pool->v[i].used);
        if (ranks != pool->v[i].gpus_used)
            sim_violated(w, "node %s: jobs hold %llu GPUs, the pool counts %llu", pool->v[i].name,
                         (unsigned long long)ranks, (unsigned long long)pool->v[i].gpus_used);
        if (w->lost_last) /* what runs on a node that came late is had there as well */
            continue;
        if (pool->v[i].state == MU_NODE_UP && pool->v[i].gpus_used > pool->v[i].gpus)
            sim_violated(w, "node %s: %llu of %u GPUs given out", pool->v[i].name,
                         (unsigned long long)pool->v[i].gpus_used, pool->v[i].gpus);
        if (pool->v[i].slots && pool->v[i].used > pool->v[i].slots)
            sim_violated(w, "node %s: %u of %u slots given out", pool->v[i].name, pool->v[i].used, pool->v[i].slots);
    }
}

/* The store has lost it, and the controller was told of it by nobody, or by a node that it has lost since. */
static bool is_unknown(const struct world *w, const struct truth *t)
{
    bool told = t->told_gen == w->ctl_gen && t->told >= t->ok_attempt;
    const struct mu_pool *pool = mu_ctl_pool(w->ctl);

    for (unsigned i = 0; told && i < w->nkeepers; i++) {
        const struct keeper *k = &w->keeper[i];
        int node = mu_pool_find(pool, w->node[k->node].name);
        if (k->alive && k->job == t->id && k->attempt == t->ok_attempt && node >= 0)
            told = pool->v[node].state != MU_NODE_LOST;
    }
    return t->unknown >= t->ok_attempt && !told;
}

static bool was_put_back(const struct truth *t, uint32_t attempt)
{
    return attempt >= MAX_ATTEMPTS || (t->put_back[attempt / 64] >> (attempt % 64) & 1);
}

bool sim_lost(const struct truth *t, uint32_t attempt)
{
    return attempt < MAX_ATTEMPTS && (t->lost[attempt / 64] >> (attempt % 64) & 1);
}

/* Ranks that were told to end may end well, and the job waits again all the same. */
static void requeued(struct world *w, const struct mu_act *a)
{
    struct truth *t = sim_truth_of(w, a->job);

    if (!t)
        return;
    t->given_up = a->attempt > t->given_up ? a->attempt : t->given_up;
    if (t->ok_attempt <= a->attempt)
        t->ok_lost = true;
}

/* How an attempt ended on a node that was given up, nobody can know. */
static void node_lost(struct world *w, const struct mu_act *a)
{
    struct truth *t = sim_truth_of(w, a->job);

    if (!t)
        return;
    if (!strcmp(a->event, "attempt-start")) {
        t->given_up = a->attempt - 1;
        return;
    }
    if (a->attempt < MAX_ATTEMPTS)
        t->lost[a->attempt / 64] |= 1ull << (a->attempt % 64);
    if (t->ok_attempt == a->attempt)
        t->ok_lost = true;
}

/* A job gets its first nodes. */
static void started(struct world *w, const struct mu_act *a)
{
    const struct mu_pool *pool = mu_ctl_pool(w->ctl);
    const struct mu_m_jobrow *row;

    for (unsigned i = 0; (row = mu_ctl_job(w->ctl, i, NULL)); i++) {
        for (char **name = row->id == a->job ? row->nodes : NULL; name && *name; name++) {
            int node = mu_pool_find(pool, *name);
            if (node >= 0 && mu_pool_out(&pool->v[node]))
                sim_violated(w, "job %llu starts on %s, which is out: %s", (unsigned long long)a->job, *name,
                             pool->v[node].out_why);
        }
    }
}

static void told(struct world *w, const struct mu_m_report *m)
{
    struct truth *t = sim_truth_of(w, m->job);

    if (!t)
        return;
    t->told = t->told_gen != w->ctl_gen || m->attempt > t->told ? m->attempt : t->told;
    t->told_gen = w->ctl_gen;
}

void sim_ctl_step(struct world *w, struct mu_ev *ev)
{
    struct mu_acts acts = {0};

    if (ev->kind == MU_EV_MSG && ev->msg->type == MU_MSG_report)
        told(w, &ev->msg->report);

    ev->now = w->now;
    ev->wall = w->now;
    mu_ctl_step(w->ctl, ev, &acts);
    check_pool(w);
    for (size_t i = 0; i < acts.n; i++) {
        struct mu_act *a = &acts.v[i];
        if (w->crashy && w->now < w->until_faults && sim_chance(w, 4)) {
            w->stats.faults++;
            sim_ctl_crash(w);
            break;
        }
        if (a->kind == MU_ACT_PUT_JOB)
            sim_put_row(w, &a->frame);
        else if (a->kind == MU_ACT_SEND)
            sim_tree_ctl_send(w, a);
        else if (a->kind == MU_ACT_CLOSE)
            sim_tree_ctl_close(w, a->conn);
        else if (a->kind == MU_ACT_MARKS) {
            mu_buf_clear(&w->marks);
            mu_buf_append(&w->marks, a->frame.data, a->frame.len);
        } else if (a->kind == MU_ACT_PROBE || a->kind == MU_ACT_ENGINE)
            sim_host_ask(w, a);
        else if (a->kind == MU_ACT_EVENT && (!strcmp(a->event, "node-lost") || !strcmp(a->event, "attempt-start")))
            node_lost(w, a);
        else if (a->kind == MU_ACT_EVENT && (!strcmp(a->event, "requeued") || !strcmp(a->event, "suspended")))
            requeued(w, a);
        if (a->kind == MU_ACT_EVENT && !strcmp(a->event, "started"))
            started(w, a);
        if (a->kind == MU_ACT_EVENT && !strcmp(a->event, "adopted") && sim_truth_of(w, a->job))
            sim_truth_of(w, a->job)->held = false; /* what was held waited; but it runs, and such a job is not held */
        if (a->kind == MU_ACT_EVENT)
            sim_trace(w, "  event job %llu attempt %u %s: %s", (unsigned long long)a->job, a->attempt, a->event,
                      a->detail);
    }
    mu_acts_free(&acts);
    if (!w->ctl_alive)
        return;
    uint64_t next = mu_ctl_next(w->ctl);
    if (next != UINT64_MAX && (!w->ctl_tick || next < w->ctl_tick || w->ctl_tick <= w->now)) {
        w->ctl_tick = next > w->now ? next : w->now + 1;
        sim_at(w, w->ctl_tick, CTL_TICK)->gen = w->ctl_gen;
    }
}

/* All nodes but the last in pairs below a switch each. */
static const struct mu_place *fabric(void)
{
    static const char text[] = "SwitchName=a Nodes=n[0,4]\nSwitchName=b Nodes=n[1,3]\nSwitchName=c Nodes=n[2,5-6]\n"
                               "SwitchName=top Switches=a,b,c\n";
    static struct mu_fabric *f;
    static struct mu_place *p;
    struct mu_err err;

    if (!p && (mu_fabric_parse(text, sizeof text - 1, "sim", &f, &err) || mu_place_new(f, &p, &err)))
        abort();
    return p;
}

void sim_ctl_start(struct world *w)
{
    static const char version[] = "sim";
    struct mu_ctl_config cfg = {.incarnation = w->ctl_gen + 1,
                                .client_grace_ns = 3 * MU_SEC,
                                .agent_wait_ns = 20 * MU_SEC,
                                .restarts = 3,
                                .version = version,
                                .node = "n0",
                                .fanout = w->fanout,
                                .node_wait_ns = 60 * MU_SEC,
                                .quarantine = w->quarantine,
                                .policy = &w->policy,
                                .checks = w->checked ? &w->checks : NULL,
                                .cooldown_ns = 20 * MU_SEC,
                                .fabric_ns = w->fabric ? 2 * MU_SEC : 0,
                                .last_job = w->last,
                                .losses = w->lossy ? w->losses : 0,
                                .alone = w->nall == 1,
                                .doubtful = w->lost_last != 0,
                                .lost_above = w->lost_above,
                                .lost_last = w->lost_last};

    if (w->ctl_alive)
        return;
    sim_trace(w, "START controller");
    w->ctl = mu_ctl_new(&cfg);
    w->ctl_alive = true;
    w->ctl_tick = 0;
    sim_tree_ctl_start(w);
    for (size_t at = 0; at < w->marks.len;) {
        MU_AUTO_MSG struct mu_msg m = {0};
        size_t len = (size_t)mu_msg_frame(w->marks.data + at, w->marks.len - at);
        if (mu_msg_decode(w->marks.data + at, len, &m, NULL))
            abort();
        sim_ctl_step(w, &(struct mu_ev){.kind = MU_EV_LOAD, .msg = &m});
        at += len;
    }
    for (unsigned i = 0; i < w->nstore; i++) {
        struct mu_msg m = {.type = MU_MSG_jobrow, .jobrow = w->store[i].row};
        sim_ctl_step(w, &(struct mu_ev){.kind = MU_EV_LOAD, .msg = &m});
    }
    sim_ctl_step(w, &(struct mu_ev){.kind = MU_EV_LOADED});
    w->lossy = w->lossy && !w->ctl_alive; /* what that step has stored is one commit */
    if (w->fabric == 1 && w->ctl_alive)
        sim_ctl_step(w, &(struct mu_ev){.kind = MU_EV_FABRIC, .place = fabric()});
}

static void lose_ranks(struct world *w, struct keeper *k, bool orphans)
{
    struct node *n = &w->node[k->node];
    struct truth *t = sim_truth_of(w, k->job);

    if (t && k->attempt == t->ok_attempt)
        t->ok_lost = true;
    if (t)
        t->forgotten = t->row_lost;
    if (k->nlive && orphans && n->norphans < MU_COUNT(n->orphans)) {
        n->orphans[n->norphans].job = k->job;
        n->orphans[n->norphans].attempt = k->attempt;
        n->orphans[n->norphans++].n = 1;
    }
    memset(k->live, 0, sizeof k->live);
    k->nlive = 0;
}

void sim_mark(struct world *w, unsigned node, uint64_t job, bool dead)
{
    struct node *n = &w->node[node];
    unsigned i = 0;

    while (i < n->ndead && n->dead[i] != job)
        i++;
    if (dead && i == n->ndead && n->ndead < MU_COUNT(n->dead))
        n->dead[n->ndead++] = job;
    else if (!dead && i < n->ndead)
        n->dead[i] = n->dead[--n->ndead];
}

void sim_keeper_gone(struct world *w, unsigned i, bool crash)
{
    struct keeper *k = &w->keeper[i];

    sim_trace(w, "%s keeper %u of job %llu", crash ? "CRASH" : "EXIT", i, (unsigned long long)k->job);
    if (!crash && k->nlive)
        sim_violated(w, "job %llu: its keeper ended before its ranks", (unsigned long long)k->job);
    if (crash)
        lose_ranks(w, k, sim_chance(w, 300));
    sim_mark(w, k->node, k->job, crash);
    mu_keeper_free(k->core);
    k->core = NULL;
    k->alive = false;
    k->gen++;
    sim_hang_up(w, k->conn);
    sim_hang_up(w, k->line);
    struct event *e = sim_at(w, w->now + sim_below(w, 3 * MU_MS), A_CHILD);
    e->who = k->node;
    e->gen = w->node[k->node].gen;
    e->job = k->job;
    e->index = i;
}

/* What must hold when ranks of an attempt begin to live. */
static void check_spawn(struct world *w, struct keeper *k, uint32_t attempt, uint32_t nranks)
{
    struct truth *t = sim_truth_of(w, k->job);
    int s = sim_stored(w, k->job);
    uint32_t on_node = nranks;

    if (!t || (s < 0 && !t->row_lost)) {
        sim_violated(w, "ranks of job %llu start, which nobody was told of or the store does not hold",
                     (unsigned long long)k->job);
        return;
    }
    if (t->after) {
        int after = sim_stored(w, t->after);
        if (after < 0 || w->store[after].row.state != MU_JOB_COMPLETED)
            sim_violated(w, "job %llu starts, job %llu has not completed", (unsigned long long)k->job,
                         (unsigned long long)t->after);
    }
    if (t->held)
        sim_violated(w, "job %llu starts although it is held", (unsigned long long)k->job);
    if (t->stored < attempt)
        sim_violated(w, "job %llu: attempt %u starts, the store knows of %u", (unsigned long long)k->job, attempt,
                     w->store[s].row.attempt);
    if (attempt < MAX_ATTEMPTS) {
        uint64_t bit = 1ull << (attempt % 64);
        if (t->spawned[k->node][attempt / 64] & bit)
            sim_violated(w, "job %llu: attempt %u starts twice on %s", (unsigned long long)k->job, attempt,
                         w->node[k->node].name);
        t->spawned[k->node][attempt / 64] |= bit;
    }
    for (unsigned i = 0; i < w->nkeepers; i++) {
        struct keeper *o = &w->keeper[i];
        if (o == k || !o->nlive)
            continue;
        if (o->node == k->node)
            on_node += o->nlive;
        /* an attempt on one node lives on when that is given up: its epoch is what keeps it from doing harm */
        bool alone = o->nnodes == 1 && sim_lost(t, o->attempt);
        if (o->job == k->job && o->attempt != attempt && !alone)
            sim_violated(w, "job %llu: attempt %u starts while ranks of attempt %u live", (unsigned long long)k->job,
                         attempt, o->attempt);
    }
    for (unsigned n = 0; n < w->nall; n++)
        for (unsigned i = 0; i < w->node[n].norphans; i++)
            /* what a keeper that died on a lost node left dies with its agent's next start, not by the lease */
            if (w->node[n].orphans[i].job == k->job && (n == k->node || (w->node[n].orphans[i].attempt != attempt &&
                                                                         !sim_lost(t, w->node[n].orphans[i].attempt))))
                sim_violated(w, "job %llu: attempt %u starts while something of attempt %u is left on %s",
                             (unsigned long long)k->job, attempt, w->node[n].orphans[i].attempt, w->node[n].name);
    if (on_node > w->node[k->node].slots)
        sim_violated(w, "node %s: %u ranks on %u slots", w->node[k->node].name, on_node, w->node[k->node].slots);
    /* asked to end for the queue, ranks may well end with 0 */
    if (t->ok_ranks && t->ok_ranks == t->ok_world && !t->ok_lost && attempt > t->ok_attempt &&
        !was_put_back(t, t->ok_attempt) && !is_unknown(w, t))
        sim_violated(w, "job %llu: attempt %u starts although attempt %u ended well", (unsigned long long)k->job,
                     attempt, t->ok_attempt);
    if (attempt > t->newest) {
        t->newest = attempt;
        w->stats.attempts++;
    }
}

static void spawn_ranks(struct world *w, unsigned who, const struct mu_buf *frame)
{
    struct keeper *k = &w->keeper[who];
    struct mu_msg m;

    if (mu_msg_decode(frame->data, frame->len, &m, NULL)) {
        sim_violated(w, "a start cannot be decoded");
        return;
    }
    uint32_t n = m.start.node_ranks.v[m.start.node_id];
    k->attempt = m.start.attempt;
    k->nnodes = m.start.node_ranks.n;
    k->world = 0;
    for (uint32_t i = 0; i < k->nnodes; i++)
        k->world += m.start.node_ranks.v[i];
    k->spawned = false;
    k->base = 0;
    for (uint32_t i = 0; i < m.start.node_id; i++)
        k->base += m.start.node_ranks.v[i];
    memset(k->frozen, 0, sizeof k->frozen);
    bool fails = sim_chance(w, 10);
    if (!fails) {
        check_spawn(w, k, m.start.attempt, n);
        for (uint32_t i = 0; i < n && i < MAX_RANKS; i++)
            k->live[i] = true;
        k->nlive = n;
    }
    struct event *e = sim_at(w, w->now + sim_below(w, 40 * MU_MS), SPAWNED);
    e->who = who;
    e->gen = k->gen;
    e->attempt = m.start.attempt;
    e->index = n;
    e->status = fails ? 127 : 0;
    mu_msg_free(&m);
}

void sim_end_rank(struct world *w, unsigned who, uint32_t index, uint64_t after, int32_t status)
{
    struct event *e = sim_at(w, w->now + after, RANK_END);

    e->who = who;
    e->gen = w->keeper[who].gen;
    e->attempt = w->keeper[who].attempt;
    e->index = index;
    e->status = status;
}

/* What the keeper of a rank sees of it. */
static void say_hang(struct world *w, unsigned who, uint32_t rank, struct mu_m_hang m)
{
    struct keeper *k = &w->keeper[who];
    uint32_t i = rank - k->base;

    if (rank < k->base || i >= MAX_RANKS || !k->live[i] || !k->frozen[i]) {
        m.what = MU_HANG_NOBODY;
    } else {
        m.what = MU_HANG_STOPPED;
        m.rank = rank;
    }
    struct mu_msg msg = {.type = MU_MSG_hang, .hang = m};
    sim_keeper_step(w, who, &(struct mu_ev){.kind = MU_EV_HANG, .attempt = k->attempt, .msg = &msg});
}

/* A rank that will not end by itself any more. */
bool sim_freeze(struct world *w)
{
    if (!w->nkeepers)
        return false;
    unsigned who = (unsigned)sim_below(w, w->nkeepers);
    struct keeper *k = &w->keeper[who];
    uint32_t r = (uint32_t)sim_below(w, MAX_RANKS);
    if (!k->alive || !k->spawned || !k->live[r] || k->frozen[r])
        return false;
    sim_trace(w, "FREEZE rank %u of job %llu", k->base + r, (unsigned long long)k->job);
    k->frozen[r] = true;
    struct event *e = sim_at(w, w->now + MU_SEC, RANK_HANGS);
    e->who = who;
    e->gen = k->gen;
    e->attempt = k->attempt;
    e->index = r;
    return true;
}

/* Its keeper sees it, or that of another node whose ranks wait for it; again and again. */
void sim_rank_hangs(struct world *w, struct event *e)
{
    struct keeper *k = &w->keeper[e->who];
    unsigned by = e->who;

    if (!k->alive || k->gen != e->gen || k->attempt != e->attempt || !k->live[e->index])
        return;
    for (unsigned i = 0; i < w->nkeepers && sim_chance(w, 500); i++)
        if (w->keeper[i].alive && w->keeper[i].job == k->job && w->keeper[i].attempt == k->attempt &&
            w->keeper[i].nlive)
            by = i;
    struct event *again = sim_at(w, w->now + MU_SEC, RANK_HANGS);
    again->who = e->who;
    again->gen = e->gen;
    again->attempt = e->attempt;
    again->index = e->index;
    uint32_t rank = k->base + e->index;
    if (by == e->who) {
        say_hang(w, by, rank, (struct mu_m_hang){.level = MU_HANG_LEVEL_OVER, .still_ns = MU_SEC});
        return;
    }
    struct mu_msg msg = {.type = MU_MSG_hang,
                         .hang = {.level = MU_HANG_LEVEL_OVER,
                                  .from = w->keeper[by].base,
                                  .nwait = 1,
                                  .wait_ns = MU_SEC,
                                  .what = MU_HANG_ELSEWHERE,
                                  .rank = rank}};
    sim_keeper_step(w, by, &(struct mu_ev){.kind = MU_EV_HANG, .attempt = k->attempt, .msg = &msg});
}

void sim_keeper_step(struct world *w, unsigned who, struct mu_ev *ev)
{
    struct keeper *k = &w->keeper[who];
    struct mu_acts acts = {0};
    uint32_t looked[4], nlooked = 0;

    if (k->hung)
        return;
    ev->now = ev->wall = w->now;
    mu_keeper_step(k->core, ev, &acts);
    for (size_t i = 0; i < acts.n && k->alive; i++) {
        struct mu_act *a = &acts.v[i];
        switch (a->kind) {
        case MU_ACT_SEND:
            sim_transmit(w, k->conn, 1, &a->frame);
            break;
        case MU_ACT_SPAWN:
            spawn_ranks(w, who, &a->frame);
            break;
        case MU_ACT_SIGNAL:
            if (a->index != MU_ALL && (a->index >= MAX_RANKS || !k->frozen[a->index]))
                sim_violated(w, "job %llu: rank %u of attempt %u is killed for a hang, and does not hang",
                             (unsigned long long)k->job, k->base + a->index, k->attempt);
            for (uint32_t r = 0; r < MAX_RANKS; r++)
                if (k->live[r] && (a->index == MU_ALL || a->index == r) && (a->signo == SIGKILL || sim_chance(w, 700)))
                    sim_end_rank(w, who, r, sim_below(w, 10 * MU_MS),
                                 a->signo == SIGKILL || sim_chance(w, 500) ? (int)a->signo : 0);
            break;
        case MU_ACT_LOOK:
            looked[nlooked % MU_COUNT(looked)] = a->index;
            nlooked++;
            break;
        case MU_ACT_CLEAN: {
            struct event *e = sim_at(w, w->now + sim_below(w, 10 * MU_MS), K_CLEANED);
            e->who = who;
            e->gen = k->gen;
            e->attempt = a->attempt;
            break;
        }
        case MU_ACT_EXIT:
            sim_keeper_gone(w, who, false);
            break;
        default:
            break;
        }
    }
    mu_acts_free(&acts);
    if (!k->alive)
        return;
    for (uint32_t i = 0; i < nlooked && i < MU_COUNT(looked) && k->alive; i++)
        say_hang(w, who, looked[i], (struct mu_m_hang){.asked_plus1 = looked[i] + 1, .from = looked[i]});
    if (!k->alive)
        return;
    uint64_t next = mu_keeper_next(k->core);
    if (next != UINT64_MAX && (!k->tick || next < k->tick || k->tick <= w->now)) {
        k->tick = next > w->now ? next : w->now + 1;
        struct event *e = sim_at(w, k->tick, KEEPER_TICK);
        e->who = who;
        e->gen = k->gen;
    }
}

/* When what an agent does about a job is done: not before what it was told earlier to do about it. */
static uint64_t in_order(const struct world *w, unsigned who, uint64_t job, uint64_t t)
{
    for (size_t i = 0; i < w->nheap; i++) {
        const struct event *e = &w->heap[i];
        if ((e->what == A_SPAWNED || e->what == A_CLEANED) && e->who == who && e->gen == w->node[who].gen &&
            e->job == job && e->t > t)
            t = e->t;
    }
    return t;
}

void sim_agent_step(struct world *w, unsigned who, struct mu_ev *ev)
{
    struct node *n = &w->node[who];
    struct mu_acts acts = {0};
    bool over = false;

    ev->now = ev->wall = w->now;
    mu_agent_step(n->core, ev, &acts);
    for (size_t i = 0; i < acts.n; i++) {
        struct mu_act *a = &acts.v[i];
        struct event *e;
        switch (a->kind) {
        case MU_ACT_SEND:
            sim_transmit(w, a->conn == MU_AGENT_CTL ? n->conn : a->conn, a->conn == MU_AGENT_CTL ? 1 : 0, &a->frame);
            break;
        case MU_ACT_CLOSE:
            sim_hang_up(w, a->conn);
            break;
        case MU_ACT_SPAWN:
        case MU_ACT_CLEAN:
            e = sim_at(w, in_order(w, who, a->job, w->now + sim_below(w, 20 * MU_MS)),
                       a->kind == MU_ACT_SPAWN ? A_SPAWNED : A_CLEANED);
            e->who = who;
            e->gen = n->gen;
            e->job = a->job;
            break;
        case MU_ACT_CHECK:
            w->stats.checks++;
            e = sim_at(w, w->now + sim_below(w, 300 * MU_MS), A_CHECKED);
            e->who = who;
            e->gen = n->gen;
            e->status = w->now < w->until_faults && sim_chance(w, 150);
            break;
        case MU_ACT_FORGET:
            sim_mark(w, who, a->job, false);
            break;
        case MU_ACT_EXIT:
            over = true;
            break;
        default:
            break;
        }
    }
    mu_acts_free(&acts);
    if (over && n->of_job) {
        sim_agent_end(w, who);
        return;
    }
    uint64_t next = mu_agent_next(n->core);
    if (next != UINT64_MAX && (!n->tick || next < n->tick || n->tick <= w->now)) {
        n->tick = next > w->now ? next : w->now + 1;
        struct event *e = sim_at(w, n->tick, AGENT_TICK);
        e->who = who;
        e->gen = n->gen;
    }
}

void sim_agent_start(struct world *w, unsigned who)
{
    struct node *n = &w->node[who];
    struct mu_agent_config cfg = {.node = n->name,
                                  .boot = n->boot,
                                  .slots = n->slots,
                                  .gpus = n->slots, /* each rank needs one: what there is to run is as without them */
                                  .pus = n->slots,
                                  .incarnation = n->gen + 1,
                                  .adopt_wait_ns = 2 * MU_SEC,
                                  .end_ns = 10 * MU_SEC,
                                  .owner = n->owner,
                                  .joined = who != 0};

    if (n->alive || n->down)
        return;
    sim_trace(w, "START agent %s", n->name);
    snprintf(n->boot, sizeof n->boot, "b%u", n->boots);
    n->core = mu_agent_new(&cfg);
    mu_agent_set_addr(n->core, who ? "there" : "", 1);
    n->alive = true;
    n->tick = 0;
    sim_tree_start(w, who);
    n->norphans = 0; /* the shell removes them before anything else */
    for (unsigned i = 0; i < n->ndead; i++)
        sim_agent_step(w, who, &(struct mu_ev){.kind = MU_EV_LOAD, .job = n->dead[i]});
    for (unsigned i = 0; i < w->nkeepers; i++)
        if (w->keeper[i].alive && w->keeper[i].node == who)
            sim_agent_step(w, who, &(struct mu_ev){.kind = MU_EV_LOAD, .job = w->keeper[i].job, .pid = i + 1});
    sim_agent_step(w, who, &(struct mu_ev){.kind = MU_EV_LOADED});
    struct event *e = sim_at(w, w->now + sim_below(w, 50 * MU_MS), AGENT_DIAL);
    e->who = who;
    e->gen = n->gen;
}

void sim_agent_end(struct world *w, unsigned who)
{
    struct node *n = &w->node[who];

    mu_agent_free(n->core);
    n->core = NULL;
    mu_tree_free(n->tree);
    n->tree = NULL;
    n->alive = false;
    n->gen++;
    n->conn = n->old = 0;
    for (uint32_t i = 2; i <= w->nnet + 1; i++)
        for (int side = 0; side < 2; side++)
            if (w->net[i].open && w->net[i].kind[side] == AGENT && w->net[i].who[side] == who)
                sim_hang_up(w, i);
}

void sim_agent_crash(struct world *w, unsigned who)
{
    sim_trace(w, "CRASH agent %s", w->node[who].name);
    sim_agent_end(w, who);
    bool keepers = false; /* they start it again; those of the pool come up in any case */
    for (unsigned i = 0; i < w->nkeepers; i++)
        keepers = keepers || (w->keeper[i].alive && w->keeper[i].node == who);
    if (keepers || !w->node[who].of_job)
        sim_at(w, w->now + sim_below(w, 2 * MU_SEC), AGENT_START)->who = who;
}

void sim_client_send(struct world *w, unsigned who, enum mu_msg_type type, const void *body)
{
    struct mu_buf b = {0};

    if (mu_msg_encode(&b, type, body))
        sim_violated(w, "a client's message cannot be encoded");
    w->job[who].unanswered += type == MU_MSG_submit || type == MU_MSG_hold || type == MU_MSG_requeue;
    sim_transmit(w, w->job[who].conn, 1, &b);
    mu_buf_free(&b);
}

void sim_client_dial(struct world *w, unsigned who)
{
    struct truth *t = &w->job[who];
    char *argv[] = {(char[]){"prog"}, NULL}, *wdir[] = {(char[]){"/"}, NULL}, *none[] = {NULL};
    uint32_t one = 1, zero = 0;

    if (t->client_dead || t->conn || t->over_seen)
        return;
    if (!w->ctl_alive) {
        sim_at(w, w->now + 50 * MU_MS, CLIENT_DIAL)->who = who;
        return;
    }
    t->unanswered = 0;
    t->conn = sim_dial(w, CLIENT, who, 0, CTL, 0, w->ctl_gen);
    if (!t->conn)
        return;
    sim_ctl_step(w, &(struct mu_ev){.kind = MU_EV_UP, .conn = t->conn});
    struct mu_m_hello hello = {.proto = MU_WIRE_VERSION, .role = (char[]){"client"}};
    sim_client_send(w, who, MU_MSG_hello, &hello);
    if (t->acked) {
        sim_client_send(w, who, MU_MSG_attach,
                        &(struct mu_m_attach){.job = t->acked, .foreground = 1, .token = t->token});
        return;
    }
    char after[24], *afters[] = {after, NULL};
    for (unsigned i = 0; i < who && !t->submitted && !t->after && sim_chance(w, 100); i++)
        t->after = w->job[i].acked;
    t->submitted = true; /* the next time it is the same job */
    snprintf(after, sizeof after, "%llu", (unsigned long long)t->after);
    struct mu_m_spec spec = {.ranks = t->ranks,
                             .gpus = 1,
                             .priority = t->priority,
                             .after = t->after ? afters : none,
                             .app_ranks = {.v = &t->ranks, .n = 1},
                             .app_argc = {.v = &one, .n = 1},
                             .argv = argv,
                             .app_envc = {.v = &zero, .n = 1},
                             .app_env = none,
                             .app_wdir = wdir,
                             .foreground = t->foreground,
                             .restarts_plus1 = sim_chance(w, 500) ? 6 : 0,
                             .on_failure = sim_chance(w, 100) ? MU_FAIL_KEEP : MU_FAIL_KILL,
                             .timeout_ns = sim_chance(w, 100) ? sim_below(w, 20 * MU_SEC) + 1 : 0,
                             .hosts = t->hosts,
                             .spares = t->spares,
                             .min_ranks = t->min_ranks};
    struct mu_m_submit submit = {.token = t->token};
    if (mu_msg_pack(&submit.spec, MU_MSG_spec, &spec))
        sim_violated(w, "a spec cannot be packed");
    sim_client_send(w, who, MU_MSG_submit, &submit);
    free(submit.spec.data);
}

void sim_client_msg(struct world *w, unsigned who, const struct mu_msg *m)
{
    struct truth *t = &w->job[who];

    if (t->unanswered && (m->type == MU_MSG_submitted || m->type == MU_MSG_error))
        t->unanswered--;
    if (m->type == MU_MSG_submitted && t->acked && t->holds) {
        int s = sim_stored(w, t->acked); /* an earlier request's answer says nothing about the newest */
        t->held = !t->unanswered && w->ctl_alive && t->asked_hold && s >= 0 && mu_job_waits(w->store[s].row.state);
    }
    if (m->type == MU_MSG_submitted && !t->cancelled) {
        bool lost = t->row_lost && t->id == m->submitted.job; /* since the answer was sent */
        if (sim_stored(w, m->submitted.job) < 0 && !lost)
            sim_violated(w, "job %llu was acknowledged, but is not in the store", (unsigned long long)m->submitted.job);
        if (t->acked && t->acked != m->submitted.job)
            sim_violated(w, "one submission became job %llu and job %llu", (unsigned long long)t->acked,
                         (unsigned long long)m->submitted.job);
        t->acked = m->submitted.job;
        if (t->foreground)
            sim_client_send(w, who, MU_MSG_attach,
                            &(struct mu_m_attach){.job = t->acked, .foreground = 1, .token = t->token});
    } else if (m->type == MU_MSG_ended) {
        int s = sim_stored(w, m->ended.job);
        if (s < 0 || !mu_job_over(w->store[s].row.state))
            sim_violated(w, "job %llu: its end was told before it was stored", (unsigned long long)m->ended.job);
        t->over_seen = true;
        sim_hang_up(w, t->conn);
    }
}
