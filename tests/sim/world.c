#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/clean.h"
#include "tests/sim/sim.h"

enum what {
    CTL_START,
    CTL_TICK,
    AGENT_START,
    AGENT_TICK,
    AGENT_DIAL,
    KEEPER_TICK,
    KEEPER_DIAL,
    SPAWNED,
    RANK_END,
    PROGRESS,
    K_CLEANED,
    A_SPAWNED,
    A_CHILD,
    A_CLEANED,
    DELIVER,
    DOWN,
    CLIENT_DIAL,
    CLIENT_CANCEL,
    FAULT
};

struct event {
    uint64_t t, seq;
    enum what what;
    uint32_t who, gen, conn, dir;
    uint64_t job;
    uint32_t attempt, index;
    int32_t status;
    char *frame;
    size_t len;
};

enum side { CTL, AGENT, KEEPER, CLIENT };
struct net {             /* one connection: side 0 dialled, side 1 accepted */
    bool open, ended[2]; /* ended: side i has seen its end, or will see nothing but it */
    enum side kind[2];
    uint32_t who[2], gen[2];
    uint64_t last[2]; /* newest delivery towards side i */
};

struct keeper {
    struct mu_keeper *core;
    bool alive;
    uint32_t gen, node, conn;
    uint64_t job, tick, steps;
    uint32_t attempt; /* whose ranks these are */
    bool live[MAX_RANKS], spawned;
    uint32_t nlive;
};
struct node {
    struct mu_agent *core;
    bool alive;
    uint32_t gen, conn;
    uint64_t tick;
    char name[16];
    uint32_t slots;
    struct { /* ranks whose keeper died: until cleaned */
        uint64_t job;
        uint32_t attempt, n;
    } orphans[MAX_JOBS * 4];
    unsigned norphans;
};
struct truth { /* what really happened to a job */
    char token[24];
    uint64_t acked; /* id */
    uint32_t ranks, started[MAX_NODES], newest;
    bool foreground, cancelled, over_seen;
    uint32_t conn; /* the client's */
    bool client_dead;
    uint32_t ok_ranks, ok_attempt; /* ranks of ok_attempt that ended with 0 */
    bool ok_lost;                  /* a keeper that knew died */
    uint64_t spawned[MAX_NODES][MAX_ATTEMPTS / 64 + 1];
};

struct world {
    uint64_t rng, now, seq, until_faults;
    struct event *heap;
    size_t nheap, capheap;
    struct {
        uint64_t id;
        struct mu_bytes blob;
        struct mu_m_jobrow row;
    } store[MAX_JOBS];
    unsigned nstore;
    struct mu_ctl *ctl;
    bool ctl_alive;
    uint32_t ctl_gen;
    uint64_t ctl_tick;
    struct node node[MAX_NODES];
    unsigned nnodes;
    struct keeper keeper[MAX_KEEPERS];
    unsigned nkeepers;
    struct net net[MAX_CONNS];
    uint32_t nnet;
    struct truth job[MAX_JOBS];
    unsigned njobs;
    struct world_stats stats;
    bool trace, crashy;
    char bad[400];
};

static uint64_t rnd(struct world *w)
{
    uint64_t z = (w->rng += 0x9e3779b97f4a7c15ull);

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}
static uint64_t below(struct world *w, uint64_t n)
{
    return n ? rnd(w) % n : 0;
}
static bool chance(struct world *w, unsigned permille)
{
    return below(w, 1000) < permille;
}

static void violated(struct world *w, const char *fmt, ...) MU_PRINTF(2, 3);
static void violated(struct world *w, const char *fmt, ...)
{
    va_list ap;

    if (w->bad[0])
        return;
    va_start(ap, fmt);
    vsnprintf(w->bad, sizeof w->bad, fmt, ap);
    va_end(ap);
}
static void trace(struct world *w, const char *fmt, ...) MU_PRINTF(2, 3);
static void trace(struct world *w, const char *fmt, ...)
{
    va_list ap;

    if (!w->trace)
        return;
    printf("%10.6f ", (double)w->now / 1e9);
    va_start(ap, fmt);
    vprintf(fmt, ap);
    va_end(ap);
    printf("\n");
}

/* --- the queue of events --- */

static bool earlier(const struct event *a, const struct event *b)
{
    return a->t != b->t ? a->t < b->t : a->seq < b->seq;
}

static struct event *at(struct world *w, uint64_t t, enum what what)
{
    static struct event none;

    if (w->nheap == w->capheap) {
        size_t cap = w->capheap ? 2 * w->capheap : 256;
        struct event *v = realloc(w->heap, cap * sizeof *v);
        if (!v) {
            violated(w, "the simulator is out of memory");
            return &none;
        }
        w->heap = v;
        w->capheap = cap;
    }
    /* sifted up at once: a caller fills in the rest, never the time */
    struct event e = {.t = t, .seq = w->seq++, .what = what};
    size_t i = w->nheap++;
    while (i > 0 && earlier(&e, &w->heap[(i - 1) / 2])) {
        w->heap[i] = w->heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    w->heap[i] = e;
    return &w->heap[i];
}

static struct event pop(struct world *w)
{
    struct event top = w->heap[0], last = w->heap[--w->nheap];
    size_t i = 0;

    for (;;) {
        size_t c = 2 * i + 1;
        if (c >= w->nheap)
            break;
        if (c + 1 < w->nheap && earlier(&w->heap[c + 1], &w->heap[c]))
            c++;
        if (!earlier(&w->heap[c], &last))
            break;
        w->heap[i] = w->heap[c];
        i = c;
    }
    if (w->nheap)
        w->heap[i] = last;
    return top;
}

/* --- the network --- */

static uint64_t latency(struct world *w)
{
    return chance(w, 30) ? below(w, 2 * MU_SEC) : 20000 + below(w, 2 * MU_MS);
}

static uint32_t dial(struct world *w, enum side k0, uint32_t w0, uint32_t g0, enum side k1, uint32_t w1, uint32_t g1)
{
    if (w->nnet + 1 >= MAX_CONNS) {
        violated(w, "the simulator is out of connections");
        return 0;
    }
    trace(w, "  dial %u: %d.%u -> %d.%u", w->nnet + 2, (int)k0, w0, (int)k1, w1);
    uint32_t id = ++w->nnet + 1; /* 1 is MU_AGENT_CTL and MU_KEEPER_AGENT */
    w->net[id % MAX_CONNS] = (struct net){.open = true, .kind = {k0, k1}, .who = {w0, w1}, .gen = {g0, g1}};
    return id;
}

static void transmit(struct world *w, uint32_t conn, int to, const struct mu_buf *frame)
{
    struct net *n = &w->net[conn % MAX_CONNS];

    if (!conn || !n->open)
        return;
    uint64_t t = w->now + latency(w);
    if (t <= n->last[to])
        t = n->last[to] + 1;
    n->last[to] = t;
    struct mu_msg m;
    bool twice = false;
    if (mu_msg_decode(frame->data, frame->len, &m, NULL))
        violated(w, "a core sent a frame that cannot be decoded");
    else {
        twice = (m.type == MU_MSG_start || m.type == MU_MSG_report || m.type == MU_MSG_kill) && chance(w, 60);
        trace(w, "  conn %u side %d <- %s", conn, to, mu_msg_name(m.type));
        if (m.type == MU_MSG_report)
            trace(w, "    job %llu attempt %u phase %u failed %u", (unsigned long long)m.report.job, m.report.attempt,
                  m.report.phase, m.report.nfailed);
        mu_msg_free(&m);
    }
    for (int i = 0; i < 1 + twice; i++) {
        char *copy = malloc(frame->len);
        if (!copy)
            return;
        memcpy(copy, frame->data, frame->len);
        struct event *e = at(w, i ? t + below(w, 3 * MU_SEC) : t, DELIVER);
        e->conn = conn;
        e->dir = (uint32_t)to;
        e->frame = copy;
        e->len = frame->len;
    }
}

static void hang_up(struct world *w, uint32_t conn)
{
    struct net *n = &w->net[conn % MAX_CONNS];

    if (!conn || !n->open)
        return;
    trace(w, "  hang up conn %u", conn);
    n->open = false; /* what is under way is lost or still arrives: see DELIVER */
    for (int side = 0; side < 2; side++) {
        struct event *e = at(w, w->now + below(w, 5 * MU_MS) + 1, DOWN);
        e->conn = conn;
        e->dir = (uint32_t)side;
    }
}

/* --- running a core's actions --- */

static int stored(struct world *w, uint64_t id)
{
    for (unsigned i = 0; i < w->nstore; i++)
        if (w->store[i].id == id)
            return (int)i;
    return -1;
}

/* A job is known by its token: the client may not have heard its number yet. */
static struct truth *truth_of(struct world *w, uint64_t id)
{
    int s = stored(w, id);

    for (unsigned i = 0; s >= 0 && i < w->njobs; i++)
        if (w->store[s].row.token && !strcmp(w->job[i].token, w->store[s].row.token))
            return &w->job[i];
    return NULL;
}

static void put_row(struct world *w, const struct mu_buf *frame)
{
    struct mu_msg m;

    if (mu_msg_decode(frame->data, frame->len, &m, NULL)) {
        violated(w, "a row cannot be decoded");
        return;
    }
    int i = stored(w, m.jobrow.id);
    if (i < 0 && w->nstore < MAX_JOBS)
        i = (int)w->nstore++;
    if (i < 0) {
        violated(w, "more jobs in the store than were ever submitted");
    } else {
        if (w->store[i].id && w->store[i].row.attempt > m.jobrow.attempt)
            violated(w, "job %llu: the stored attempt went back", (unsigned long long)m.jobrow.id);
        if (w->store[i].id && mu_job_over(w->store[i].row.state) && w->store[i].row.state != m.jobrow.state)
            violated(w, "job %llu left the state %s", (unsigned long long)m.jobrow.id,
                     mu_job_state_name(w->store[i].row.state));
        mu_msg_free_body(MU_MSG_jobrow, &w->store[i].row);
        w->store[i].id = m.jobrow.id;
        w->store[i].row = m.jobrow;
        memset(&m, 0, sizeof m);
        struct truth *t = truth_of(w, w->store[i].id);
        if (t && w->store[i].row.state == MU_JOB_COMPLETED &&
            (t->ok_attempt != w->store[i].row.attempt || t->ok_ranks != t->ranks))
            violated(w, "job %llu is stored as completed, but only %u of %u ranks of attempt %u ended well",
                     (unsigned long long)w->store[i].id, t->ok_ranks, t->ranks, t->ok_attempt);
    }
    mu_msg_free(&m);
}

static void ctl_crash(struct world *w)
{
    trace(w, "CRASH controller");
    mu_ctl_free(w->ctl);
    w->ctl = NULL;
    w->ctl_alive = false;
    w->ctl_gen++;
    for (uint32_t i = 0; i < MAX_CONNS; i++)
        if (w->net[i].open && w->net[i].kind[1] == CTL)
            hang_up(w, i);
    at(w, w->now + below(w, 2 * MU_SEC), CTL_START);
}

static void check_pool(struct world *w)
{
    const struct mu_pool *pool = mu_ctl_pool(w->ctl);

    for (unsigned i = 0; i < pool->n; i++) {
        uint64_t held = 0;
        for (unsigned k = 0; k < mu_ctl_job_count(w->ctl); k++) {
            const struct mu_m_jobrow *r = mu_ctl_job(w->ctl, k, NULL);
            if (mu_job_over(r->state) || r->state == MU_JOB_QUEUED)
                continue;
            for (unsigned n = 0; r->nodes && r->nodes[n]; n++)
                if (!strcmp(r->nodes[n], pool->v[i].name))
                    held += r->node_slots.v[n];
        }
        if (held != pool->v[i].used)
            violated(w, "node %s: jobs hold %llu slots, the pool counts %u", pool->v[i].name, (unsigned long long)held,
                     pool->v[i].used);
        if (pool->v[i].slots && pool->v[i].used > pool->v[i].slots)
            violated(w, "node %s: %u of %u slots given out", pool->v[i].name, pool->v[i].used, pool->v[i].slots);
    }
}

static void ctl_step(struct world *w, struct mu_ev *ev)
{
    struct mu_acts acts = {0};

    ev->now = w->now;
    ev->wall = w->now;
    mu_ctl_step(w->ctl, ev, &acts);
    check_pool(w);
    for (size_t i = 0; i < acts.n; i++) {
        struct mu_act *a = &acts.v[i];
        if (w->crashy && w->now < w->until_faults && chance(w, 4)) {
            w->stats.faults++;
            ctl_crash(w);
            break;
        }
        if (a->kind == MU_ACT_PUT_JOB)
            put_row(w, &a->frame);
        else if (a->kind == MU_ACT_SEND)
            transmit(w, a->conn, 0, &a->frame);
        else if (a->kind == MU_ACT_CLOSE)
            hang_up(w, a->conn);
        else if (a->kind == MU_ACT_EVENT)
            trace(w, "  event job %llu attempt %u %s: %s", (unsigned long long)a->job, a->attempt, a->event, a->detail);
    }
    mu_acts_free(&acts);
    if (!w->ctl_alive)
        return;
    uint64_t next = mu_ctl_next(w->ctl);
    if (next != UINT64_MAX && (!w->ctl_tick || next < w->ctl_tick || w->ctl_tick <= w->now)) {
        w->ctl_tick = next > w->now ? next : w->now + 1;
        at(w, w->ctl_tick, CTL_TICK)->gen = w->ctl_gen;
    }
}

static void ctl_start(struct world *w)
{
    static const char version[] = "sim";
    struct mu_ctl_config cfg = {.incarnation = w->ctl_gen + 1,
                                .client_grace_ns = 3 * MU_SEC,
                                .agent_wait_ns = 20 * MU_SEC,
                                .restarts = 3,
                                .version = version};

    if (w->ctl_alive)
        return;
    trace(w, "START controller");
    w->ctl = mu_ctl_new(&cfg);
    w->ctl_alive = true;
    w->ctl_tick = 0;
    for (unsigned i = 0; i < w->nstore; i++) {
        struct mu_msg m = {.type = MU_MSG_jobrow, .jobrow = w->store[i].row};
        ctl_step(w, &(struct mu_ev){.kind = MU_EV_LOAD, .msg = &m});
    }
    ctl_step(w, &(struct mu_ev){.kind = MU_EV_LOADED});
}

static void lose_ranks(struct world *w, struct keeper *k, bool orphans)
{
    struct node *n = &w->node[k->node];
    struct truth *t = truth_of(w, k->job);

    if (t && k->attempt == t->ok_attempt)
        t->ok_lost = true;
    if (k->nlive && orphans && n->norphans < MU_COUNT(n->orphans)) {
        n->orphans[n->norphans].job = k->job;
        n->orphans[n->norphans].attempt = k->attempt;
        n->orphans[n->norphans++].n = 1;
    }
    memset(k->live, 0, sizeof k->live);
    k->nlive = 0;
}

static void keeper_gone(struct world *w, unsigned i, bool crash)
{
    struct keeper *k = &w->keeper[i];

    trace(w, "%s keeper %u of job %llu", crash ? "CRASH" : "EXIT", i, (unsigned long long)k->job);
    if (!crash && k->nlive)
        violated(w, "job %llu: its keeper ended before its ranks", (unsigned long long)k->job);
    if (crash)
        lose_ranks(w, k, chance(w, 300));
    mu_keeper_free(k->core);
    k->core = NULL;
    k->alive = false;
    k->gen++;
    hang_up(w, k->conn);
    struct event *e = at(w, w->now + below(w, 3 * MU_MS), A_CHILD);
    e->who = k->node;
    e->gen = w->node[k->node].gen;
    e->job = k->job;
    e->index = i;
}

/* What must hold when ranks of an attempt begin to live. */
static void check_spawn(struct world *w, struct keeper *k, uint32_t attempt, uint32_t nranks)
{
    struct truth *t = truth_of(w, k->job);
    int s = stored(w, k->job);
    uint32_t on_node = nranks;

    if (!t || s < 0) {
        violated(w, "ranks of job %llu start, which nobody was told of or the store does not hold",
                 (unsigned long long)k->job);
        return;
    }
    if (w->store[s].row.attempt < attempt)
        violated(w, "job %llu: attempt %u starts, the store knows of %u", (unsigned long long)k->job, attempt,
                 w->store[s].row.attempt);
    if (attempt < MAX_ATTEMPTS) {
        uint64_t bit = 1ull << (attempt % 64);
        if (t->spawned[k->node][attempt / 64] & bit)
            violated(w, "job %llu: attempt %u starts twice on %s", (unsigned long long)k->job, attempt,
                     w->node[k->node].name);
        t->spawned[k->node][attempt / 64] |= bit;
    }
    for (unsigned i = 0; i < w->nkeepers; i++) {
        struct keeper *o = &w->keeper[i];
        if (o == k || !o->nlive)
            continue;
        if (o->node == k->node)
            on_node += o->nlive;
        if (o->job == k->job && o->attempt != attempt)
            violated(w, "job %llu: attempt %u starts while ranks of attempt %u live", (unsigned long long)k->job,
                     attempt, o->attempt);
    }
    for (unsigned n = 0; n < w->nnodes; n++)
        for (unsigned i = 0; i < w->node[n].norphans; i++)
            if (w->node[n].orphans[i].job == k->job && (w->node[n].orphans[i].attempt != attempt || n == k->node))
                violated(w, "job %llu: attempt %u starts while something of attempt %u is left on %s",
                         (unsigned long long)k->job, attempt, w->node[n].orphans[i].attempt, w->node[n].name);
    if (on_node > w->node[k->node].slots)
        violated(w, "node %s: %u ranks on %u slots", w->node[k->node].name, on_node, w->node[k->node].slots);
    if (t->ok_ranks == t->ranks && !t->ok_lost && attempt > t->ok_attempt)
        violated(w, "job %llu: attempt %u starts although attempt %u ended well", (unsigned long long)k->job, attempt,
                 t->ok_attempt);
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
        violated(w, "a start cannot be decoded");
        return;
    }
    uint32_t n = m.start.node_ranks.v[m.start.node_id];
    k->attempt = m.start.attempt;
    k->spawned = false;
    bool fails = chance(w, 10);
    if (!fails) {
        check_spawn(w, k, m.start.attempt, n);
        for (uint32_t i = 0; i < n && i < MAX_RANKS; i++)
            k->live[i] = true;
        k->nlive = n;
    }
    struct event *e = at(w, w->now + below(w, 40 * MU_MS), SPAWNED);
    e->who = who;
    e->gen = k->gen;
    e->attempt = m.start.attempt;
    e->index = n;
    e->status = fails ? 127 : 0;
    mu_msg_free(&m);
}

static void end_rank(struct world *w, unsigned who, uint32_t index, uint64_t after, int32_t status)
{
    struct event *e = at(w, w->now + after, RANK_END);

    e->who = who;
    e->gen = w->keeper[who].gen;
    e->attempt = w->keeper[who].attempt;
    e->index = index;
    e->status = status;
}

static void keeper_step(struct world *w, unsigned who, struct mu_ev *ev)
{
    struct keeper *k = &w->keeper[who];
    struct mu_acts acts = {0};

    ev->now = ev->wall = w->now;
    mu_keeper_step(k->core, ev, &acts);
    for (size_t i = 0; i < acts.n && k->alive; i++) {
        struct mu_act *a = &acts.v[i];
        switch (a->kind) {
        case MU_ACT_SEND:
            transmit(w, k->conn, 1, &a->frame);
            break;
        case MU_ACT_SPAWN:
            spawn_ranks(w, who, &a->frame);
            break;
        case MU_ACT_SIGNAL:
            for (uint32_t r = 0; r < MAX_RANKS; r++)
                if (k->live[r] && (a->signo == SIGKILL || chance(w, 700)))
                    end_rank(w, who, r, below(w, 10 * MU_MS),
                             a->signo == SIGKILL || chance(w, 500) ? (int)a->signo : 0);
            break;
        case MU_ACT_CLEAN: {
            struct event *e = at(w, w->now + below(w, 10 * MU_MS), K_CLEANED);
            e->who = who;
            e->gen = k->gen;
            e->attempt = a->attempt;
            break;
        }
        case MU_ACT_EXIT:
            keeper_gone(w, who, false);
            break;
        default:
            break;
        }
    }
    mu_acts_free(&acts);
    if (!k->alive)
        return;
    uint64_t next = mu_keeper_next(k->core);
    if (next != UINT64_MAX && (!k->tick || next < k->tick || k->tick <= w->now)) {
        k->tick = next > w->now ? next : w->now + 1;
        struct event *e = at(w, k->tick, KEEPER_TICK);
        e->who = who;
        e->gen = k->gen;
    }
}

static void agent_step(struct world *w, unsigned who, struct mu_ev *ev)
{
    struct node *n = &w->node[who];
    struct mu_acts acts = {0};

    ev->now = ev->wall = w->now;
    mu_agent_step(n->core, ev, &acts);
    for (size_t i = 0; i < acts.n; i++) {
        struct mu_act *a = &acts.v[i];
        struct event *e;
        switch (a->kind) {
        case MU_ACT_SEND:
            transmit(w, a->conn == MU_AGENT_CTL ? n->conn : a->conn, a->conn == MU_AGENT_CTL ? 1 : 0, &a->frame);
            break;
        case MU_ACT_CLOSE:
            hang_up(w, a->conn);
            break;
        case MU_ACT_SPAWN:
        case MU_ACT_CLEAN:
            e = at(w, w->now + below(w, 20 * MU_MS), a->kind == MU_ACT_SPAWN ? A_SPAWNED : A_CLEANED);
            e->who = who;
            e->gen = n->gen;
            e->job = a->job;
            break;
        default:
            break;
        }
    }
    mu_acts_free(&acts);
    uint64_t next = mu_agent_next(n->core);
    if (next != UINT64_MAX && (!n->tick || next < n->tick || n->tick <= w->now)) {
        n->tick = next > w->now ? next : w->now + 1;
        struct event *e = at(w, n->tick, AGENT_TICK);
        e->who = who;
        e->gen = n->gen;
    }
}

static void agent_start(struct world *w, unsigned who)
{
    struct node *n = &w->node[who];
    struct mu_agent_config cfg = {
        .node = n->name, .slots = n->slots, .pus = n->slots, .incarnation = n->gen + 1, .adopt_wait_ns = 2 * MU_SEC};

    if (n->alive)
        return;
    trace(w, "START agent %s", n->name);
    n->core = mu_agent_new(&cfg);
    n->alive = true;
    n->tick = 0;
    n->norphans = 0; /* the shell removes them before anything else */
    for (unsigned i = 0; i < w->nkeepers; i++)
        if (w->keeper[i].alive && w->keeper[i].node == who)
            agent_step(w, who, &(struct mu_ev){.kind = MU_EV_LOAD, .job = w->keeper[i].job, .pid = i + 1});
    agent_step(w, who, &(struct mu_ev){.kind = MU_EV_LOADED});
    struct event *e = at(w, w->now + below(w, 50 * MU_MS), AGENT_DIAL);
    e->who = who;
    e->gen = n->gen;
}

static void agent_crash(struct world *w, unsigned who)
{
    struct node *n = &w->node[who];

    trace(w, "CRASH agent %s", n->name);
    mu_agent_free(n->core);
    n->core = NULL;
    n->alive = false;
    n->gen++;
    n->conn = 0;
    for (uint32_t i = 0; i < MAX_CONNS; i++)
        for (int side = 0; side < 2; side++)
            if (w->net[i].open && w->net[i].kind[side] == AGENT && w->net[i].who[side] == who)
                hang_up(w, i);
    at(w, w->now + below(w, 2 * MU_SEC), AGENT_START)->who = who;
}

static void client_send(struct world *w, unsigned who, enum mu_msg_type type, const void *body)
{
    struct mu_buf b = {0};

    if (mu_msg_encode(&b, type, body))
        violated(w, "a client's message cannot be encoded");
    transmit(w, w->job[who].conn, 1, &b);
    mu_buf_free(&b);
}

static void client_dial(struct world *w, unsigned who)
{
    struct truth *t = &w->job[who];
    char *argv[] = {(char[]){"prog"}, NULL}, *wdir[] = {(char[]){"/"}, NULL}, *none[] = {NULL};
    uint32_t one = 1, zero = 0;

    if (t->client_dead || t->conn || t->over_seen)
        return;
    if (!w->ctl_alive) {
        at(w, w->now + 50 * MU_MS, CLIENT_DIAL)->who = who;
        return;
    }
    t->conn = dial(w, CLIENT, who, 0, CTL, 0, w->ctl_gen);
    if (!t->conn)
        return;
    ctl_step(w, &(struct mu_ev){.kind = MU_EV_UP, .conn = t->conn});
    struct mu_m_hello hello = {.proto = MU_WIRE_VERSION, .role = (char[]){"client"}};
    client_send(w, who, MU_MSG_hello, &hello);
    if (t->acked) {
        client_send(w, who, MU_MSG_attach, &(struct mu_m_attach){.job = t->acked, .foreground = 1, .token = t->token});
        return;
    }
    struct mu_m_spec spec = {.ranks = t->ranks,
                             .app_ranks = {.v = &t->ranks, .n = 1},
                             .app_argc = {.v = &one, .n = 1},
                             .argv = argv,
                             .app_envc = {.v = &zero, .n = 1},
                             .app_env = none,
                             .app_wdir = wdir,
                             .foreground = t->foreground,
                             .restarts_plus1 = chance(w, 500) ? 6 : 0,
                             .on_failure = chance(w, 100) ? MU_FAIL_KEEP : MU_FAIL_KILL,
                             .timeout_ns = chance(w, 100) ? below(w, 20 * MU_SEC) + 1 : 0};
    struct mu_m_submit submit = {.token = t->token};
    if (mu_msg_pack(&submit.spec, MU_MSG_spec, &spec))
        violated(w, "a spec cannot be packed");
    client_send(w, who, MU_MSG_submit, &submit);
    free(submit.spec.data);
}

static void client_msg(struct world *w, unsigned who, const struct mu_msg *m)
{
    struct truth *t = &w->job[who];

    if (m->type == MU_MSG_submitted && !t->cancelled) {
        if (stored(w, m->submitted.job) < 0)
            violated(w, "job %llu was acknowledged, but is not in the store", (unsigned long long)m->submitted.job);
        if (t->acked && t->acked != m->submitted.job)
            violated(w, "one submission became job %llu and job %llu", (unsigned long long)t->acked,
                     (unsigned long long)m->submitted.job);
        t->acked = m->submitted.job;
        if (t->foreground)
            client_send(w, who, MU_MSG_attach,
                        &(struct mu_m_attach){.job = t->acked, .foreground = 1, .token = t->token});
    } else if (m->type == MU_MSG_ended) {
        int s = stored(w, m->ended.job);
        if (s < 0 || !mu_job_over(w->store[s].row.state))
            violated(w, "job %llu: its end was told before it was stored", (unsigned long long)m->ended.job);
        t->over_seen = true;
        hang_up(w, t->conn);
    }
}

/* --- faults and the main loop --- */

static void fault(struct world *w)
{
    unsigned kind = (unsigned)below(w, 5);

    w->stats.faults++;
    if (kind == 0 && w->ctl_alive) {
        ctl_crash(w);
    } else if (kind == 1) {
        unsigned n = (unsigned)below(w, w->nnodes);
        if (w->node[n].alive)
            agent_crash(w, n);
    } else if (kind == 2 && w->nkeepers) {
        unsigned i = (unsigned)below(w, w->nkeepers);
        if (w->keeper[i].alive)
            keeper_gone(w, i, true);
    } else if (kind == 3 && w->nkeepers) {
        unsigned i = (unsigned)below(w, w->nkeepers);
        for (uint32_t r = 0; r < MAX_RANKS; r++)
            if (w->keeper[i].alive && w->keeper[i].spawned && w->keeper[i].live[r] && chance(w, 500))
                end_rank(w, i, r, 0, SIGKILL);
    } else {
        uint32_t c = (uint32_t)below(w, MAX_CONNS);
        for (uint32_t i = 0; i < MAX_CONNS; i++, c = (c + 1) % MAX_CONNS)
            if (w->net[c].open) {
                hang_up(w, c);
                break;
            }
    }
    uint64_t t = w->now + below(w, 2 * MU_SEC);
    if (t < w->until_faults)
        at(w, t, FAULT);
}

static void deliver(struct world *w, struct event *e)
{
    struct net *n = &w->net[e->conn % MAX_CONNS];
    struct mu_msg m;

    if (!n->open && !n->ended[e->dir] && chance(w, 300))
        n->ended[e->dir] = true; /* this one and what follows it are lost with the connection */
    if (n->ended[e->dir])
        return;
    uint32_t who = n->who[e->dir];
    if (mu_msg_decode(e->frame, e->len, &m, NULL))
        return;
    struct mu_ev ev = {.kind = MU_EV_MSG, .conn = e->conn, .msg = &m};
    switch (n->kind[e->dir]) {
    case CTL:
        if (w->ctl_alive && w->ctl_gen == n->gen[e->dir])
            ctl_step(w, &ev);
        break;
    case AGENT:
        if (w->node[who].alive && w->node[who].gen == n->gen[e->dir]) {
            if (e->dir == 0) {
                if (w->node[who].conn != e->conn)
                    break;
                ev.conn = MU_AGENT_CTL;
            }
            agent_step(w, who, &ev);
        }
        break;
    case KEEPER:
        if (w->keeper[who].alive && w->keeper[who].gen == n->gen[e->dir] && w->keeper[who].conn == e->conn) {
            ev.conn = MU_KEEPER_AGENT;
            keeper_step(w, who, &ev);
        }
        break;
    case CLIENT:
        client_msg(w, who, &m);
        break;
    }
    mu_msg_free(&m);
}

static void down(struct world *w, struct event *e)
{
    struct net *n = &w->net[e->conn % MAX_CONNS];
    uint32_t who = n->who[e->dir];
    struct mu_ev ev = {.kind = MU_EV_DOWN, .conn = e->conn};
    struct event *d;

    n->ended[e->dir] = true;
    switch (n->kind[e->dir]) {
    case CTL:
        if (w->ctl_alive && w->ctl_gen == n->gen[e->dir])
            ctl_step(w, &ev);
        break;
    case AGENT:
        if (!w->node[who].alive || w->node[who].gen != n->gen[e->dir])
            break;
        if (e->dir == 0) {
            if (w->node[who].conn != e->conn)
                break;
            ev.conn = MU_AGENT_CTL;
            w->node[who].conn = 0;
            d = at(w, w->now + 50 * MU_MS, AGENT_DIAL);
            d->who = who;
            d->gen = w->node[who].gen;
        }
        agent_step(w, who, &ev);
        break;
    case KEEPER:
        if (!w->keeper[who].alive || w->keeper[who].gen != n->gen[e->dir] || w->keeper[who].conn != e->conn)
            break;
        w->keeper[who].conn = 0;
        ev.conn = MU_KEEPER_AGENT;
        keeper_step(w, who, &ev);
        d = at(w, w->now + 50 * MU_MS, KEEPER_DIAL);
        d->who = who;
        d->gen = w->keeper[who].gen;
        break;
    case CLIENT:
        if (w->job[who].conn == e->conn) {
            w->job[who].conn = 0;
            if (w->job[who].foreground || !w->job[who].acked)
                at(w, w->now + below(w, MU_SEC), CLIENT_DIAL)->who = who;
        }
        break;
    }
}

static void rank_end(struct world *w, struct event *e)
{
    struct keeper *k = &w->keeper[e->who];
    struct truth *t = truth_of(w, k->job);

    if (!k->alive || k->gen != e->gen || k->attempt != e->attempt || !k->live[e->index])
        return;
    k->live[e->index] = false;
    k->nlive--;
    if (t && !e->status) {
        if (t->ok_attempt != k->attempt) {
            t->ok_attempt = k->attempt;
            t->ok_ranks = 0;
            t->ok_lost = false;
        }
        t->ok_ranks++;
    }
    keeper_step(w, e->who,
                &(struct mu_ev){.kind = MU_EV_CHILD, .attempt = e->attempt, .index = e->index, .status = e->status});
}

static void spawned(struct world *w, struct event *e)
{
    struct keeper *k = &w->keeper[e->who];

    if (!k->alive || k->gen != e->gen)
        return;
    k->spawned = true;
    if (!e->status) {
        bool good = chance(w, 600);
        uint64_t len = 100 * MU_MS + below(w, 6 * MU_SEC);
        for (uint32_t r = 0; r < e->index; r++)
            end_rank(w, e->who, r, len + below(w, 50 * MU_MS),
                     good || chance(w, 700) ? 0
                     : chance(w, 500)       ? SIGSEGV
                                            : 3 << 8);
        struct event *p = at(w, w->now + below(w, len), PROGRESS);
        p->who = e->who;
        p->gen = k->gen;
        p->attempt = e->attempt;
    }
    keeper_step(
        w, e->who,
        &(struct mu_ev){.kind = MU_EV_SPAWNED, .attempt = e->attempt, .status = e->status, .text = "not found"});
}

static void progress(struct world *w, struct event *e)
{
    struct keeper *k = &w->keeper[e->who];

    if (!k->alive || k->gen != e->gen || k->attempt != e->attempt)
        return;
    struct mu_m_report r = {.njoined = 1, .steps = ++k->steps, .step = k->steps, .drained = !k->nlive};
    keeper_step(w, e->who, &(struct mu_ev){.kind = MU_EV_SLOTS, .attempt = e->attempt, .report = &r});
}

static void agent_event(struct world *w, struct event *e)
{
    struct node *n = &w->node[e->who];
    struct mu_ev ev = {.job = e->job};

    if (e->what == A_CLEANED && n->alive && n->gen == e->gen) {
        for (unsigned i = 0; i < n->norphans;) {
            if (n->orphans[i].job == e->job)
                n->orphans[i] = n->orphans[--n->norphans];
            else
                i++;
        }
        for (unsigned i = 0; i < w->nkeepers; i++) /* CLEAN kills a keeper that hangs, too */
            if (w->keeper[i].alive && w->keeper[i].node == e->who && w->keeper[i].job == e->job)
                keeper_gone(w, i, true);
        for (unsigned i = 0; i < n->norphans;) {
            if (n->orphans[i].job == e->job)
                n->orphans[i] = n->orphans[--n->norphans];
            else
                i++;
        }
    }
    if (!n->alive || n->gen != e->gen)
        return;
    switch (e->what) {
    case A_SPAWNED: {
        struct keeper *k = &w->keeper[w->nkeepers];
        if (w->nkeepers == MAX_KEEPERS) {
            violated(w, "the simulator is out of keepers");
            return;
        }
        for (unsigned i = 0; i < w->nkeepers; i++)
            if (w->keeper[i].alive && w->keeper[i].node == e->who && w->keeper[i].job == e->job)
                violated(w, "job %llu: two keepers on %s", (unsigned long long)e->job, n->name);
        memset(k, 0, sizeof *k);
        k->node = e->who;
        k->job = e->job;
        k->alive = true;
        struct mu_keeper_config cfg = {.job = e->job, .node = n->name, .pid = w->nkeepers + 1};
        k->core = mu_keeper_new(&cfg);
        struct event *d = at(w, w->now + below(w, 30 * MU_MS), KEEPER_DIAL);
        d->who = w->nkeepers++;
        d->gen = 0;
        ev.kind = MU_EV_SPAWNED;
        ev.pid = cfg.pid;
        break;
    }
    case A_CHILD:
        ev.kind = MU_EV_CHILD;
        ev.pid = e->index + 1;
        break;
    default:
        ev.kind = MU_EV_CLEANED;
        break;
    }
    agent_step(w, e->who, &ev);
}

static void one(struct world *w, struct event *e)
{
    struct node *n = &w->node[e->who % MAX_NODES];

    switch (e->what) {
    case CTL_START:
        ctl_start(w);
        return;
    case CTL_TICK:
        if (w->ctl_alive && w->ctl_gen == e->gen)
            ctl_step(w, &(struct mu_ev){.kind = MU_EV_TIME});
        return;
    case AGENT_START:
        agent_start(w, e->who);
        return;
    case AGENT_TICK:
        if (n->alive && n->gen == e->gen)
            agent_step(w, e->who, &(struct mu_ev){.kind = MU_EV_TIME});
        return;
    case AGENT_DIAL:
        if (!n->alive || n->gen != e->gen || n->conn)
            return;
        if (!w->ctl_alive) {
            struct event *d = at(w, w->now + 50 * MU_MS, AGENT_DIAL);
            d->who = e->who;
            d->gen = e->gen;
            return;
        }
        n->conn = dial(w, AGENT, e->who, n->gen, CTL, 0, w->ctl_gen);
        ctl_step(w, &(struct mu_ev){.kind = MU_EV_UP, .conn = n->conn});
        agent_step(w, e->who, &(struct mu_ev){.kind = MU_EV_UP, .conn = MU_AGENT_CTL});
        return;
    case KEEPER_TICK:
        if (w->keeper[e->who].alive && w->keeper[e->who].gen == e->gen)
            keeper_step(w, e->who, &(struct mu_ev){.kind = MU_EV_TIME});
        return;
    case KEEPER_DIAL: {
        struct keeper *k = &w->keeper[e->who];
        if (!k->alive || k->gen != e->gen || k->conn)
            return;
        if (!w->node[k->node].alive) {
            struct event *d = at(w, w->now + 50 * MU_MS, KEEPER_DIAL);
            d->who = e->who;
            d->gen = e->gen;
            return;
        }
        k->conn = dial(w, KEEPER, e->who, k->gen, AGENT, k->node, w->node[k->node].gen);
        agent_step(w, k->node, &(struct mu_ev){.kind = MU_EV_UP, .conn = k->conn});
        keeper_step(w, e->who, &(struct mu_ev){.kind = MU_EV_UP, .conn = MU_KEEPER_AGENT});
        return;
    }
    case SPAWNED:
        spawned(w, e);
        return;
    case RANK_END:
        rank_end(w, e);
        return;
    case PROGRESS:
        progress(w, e);
        return;
    case K_CLEANED:
        if (!w->keeper[e->who].alive || w->keeper[e->who].gen != e->gen)
            return;
        keeper_step(w, e->who, &(struct mu_ev){.kind = MU_EV_CLEANED, .attempt = e->attempt});
        if (w->keeper[e->who].alive && w->keeper[e->who].attempt == e->attempt && !w->keeper[e->who].nlive)
            progress(w, e);
        return;
    case A_SPAWNED:
    case A_CHILD:
    case A_CLEANED:
        agent_event(w, e);
        return;
    case DELIVER:
        deliver(w, e);
        return;
    case DOWN:
        down(w, e);
        return;
    case CLIENT_DIAL:
        client_dial(w, e->who);
        return;
    case CLIENT_CANCEL:
        if (w->job[e->who].conn && w->job[e->who].acked) {
            w->job[e->who].cancelled = true;
            client_send(w, e->who, MU_MSG_cancel, &(struct mu_m_cancel){.job = w->job[e->who].acked});
        } else if (w->job[e->who].foreground) {
            trace(w, "client %u dies", e->who);
            w->job[e->who].client_dead = true;
            hang_up(w, w->job[e->who].conn);
        }
        return;
    case FAULT:
        fault(w);
        return;
    }
}

struct world *world_new(uint64_t seed, bool tracing)
{
    struct world *w = calloc(1, sizeof *w);

    if (!w)
        return NULL;
    w->rng = seed * 0x2545f4914f6cdd1dull + 1;
    w->trace = tracing;
    w->now = MU_SEC;
    w->until_faults = MU_SEC + below(w, 25 * MU_SEC);
    w->crashy = chance(w, 600);
    w->nnodes = 1 + (unsigned)below(w, MAX_NODES - 1);
    w->njobs = 1 + (unsigned)below(w, MAX_JOBS - 1);
    uint32_t total = 0;
    for (unsigned i = 0; i < w->nnodes; i++) {
        snprintf(w->node[i].name, sizeof w->node[i].name, "n%u", i);
        w->node[i].slots = 1 + (uint32_t)below(w, 4);
        total += w->node[i].slots;
        at(w, w->now + below(w, 100 * MU_MS), AGENT_START)->who = i;
    }
    at(w, w->now, CTL_START);
    for (unsigned i = 0; i < w->njobs; i++) {
        struct truth *t = &w->job[i];
        snprintf(t->token, sizeof t->token, "t%u", i);
        t->ranks = 1 + (uint32_t)below(w, total < MAX_RANKS ? total : MAX_RANKS);
        t->foreground = chance(w, 300);
        at(w, w->now + MU_SEC / 2 + below(w, 10 * MU_SEC), CLIENT_DIAL)->who = i;
        if (chance(w, 150))
            at(w, w->now + below(w, 20 * MU_SEC), CLIENT_CANCEL)->who = i;
    }
    if (chance(w, 900))
        at(w, w->now + below(w, 3 * MU_SEC), FAULT);
    return w;
}

/* After the last fault everything must come to its end by itself. */
static void check_end(struct world *w)
{
    for (unsigned i = 0; i < w->njobs; i++) {
        struct truth *t = &w->job[i];
        int s = t->acked ? stored(w, t->acked) : -1;
        if (t->acked && (s < 0 || !mu_job_over(w->store[s].row.state)))
            violated(w, "job %llu did not end: %s, %s", (unsigned long long)t->acked,
                     s < 0 ? "not stored" : mu_job_state_name(w->store[s].row.state),
                     s < 0 ? "" : w->store[s].row.reason);
    }
    if (w->nstore > w->njobs)
        violated(w, "%u jobs in the store, %u were submitted", w->nstore, w->njobs);
    for (unsigned i = 0; i < w->nkeepers; i++)
        if (w->keeper[i].alive || w->keeper[i].nlive)
            violated(w, "job %llu: a keeper or its ranks live on", (unsigned long long)w->keeper[i].job);
    for (unsigned i = 0; i < w->nnodes; i++)
        if (w->node[i].norphans)
            violated(w, "orphans are left on %s", w->node[i].name);
}

const char *world_run(struct world *w)
{
    const uint64_t end = w->until_faults + 400 * MU_SEC;

    while (w->nheap && !w->bad[0]) {
        struct event e = pop(w);
        if (e.t > end) {
            free(e.frame);
            break;
        }
        w->now = e.t;
        w->stats.events++;
        one(w, &e);
        free(e.frame);
        if (w->stats.events > 2000000)
            violated(w, "the schedule does not come to rest");
    }
    if (!w->bad[0])
        check_end(w);
    w->stats.virtual_ns = w->now;
    w->stats.jobs = w->njobs;
    return w->bad[0] ? w->bad : NULL;
}

void world_stats(const struct world *w, struct world_stats *out)
{
    *out = w->stats;
}

void world_free(struct world *w)
{
    if (!w)
        return;
    for (size_t i = 0; i < w->nheap; i++)
        free(w->heap[i].frame);
    free(w->heap);
    for (unsigned i = 0; i < w->nstore; i++)
        mu_msg_free_body(MU_MSG_jobrow, &w->store[i].row);
    mu_ctl_free(w->ctl);
    for (unsigned i = 0; i < w->nnodes; i++)
        mu_agent_free(w->node[i].core);
    for (unsigned i = 0; i < w->nkeepers; i++)
        mu_keeper_free(w->keeper[i].core);
    free(w);
}
