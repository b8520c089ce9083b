#include "runtime/agent/core.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/clock.h"

/* A keeper, from the first start of its job until the controller's release. */
enum kstate {
    K_FOUND,    /* alive before this agent was; has not connected and reported yet */
    K_SPAWNING, /* process asked for or started; not connected yet; `start` waits */
    K_UP,       /* connected */
    K_CLEANING, /* dead; its ranks are being removed */
    K_LOST,     /* dead and clean: report says LOST */
    K_SPENT,    /* dead and clean after it had said GONE: report stays as it was */
};

struct keeper {
    uint64_t job;
    enum kstate state;
    uint32_t pid, attempt; /* newest attempt asked for */
    mu_conn conn;
    bool released, have_report;
    bool one_node;        /* the newest start was of an attempt on this node only: no lease */
    bool again;           /* released, then wanted anew: `start` waits for its end */
    bool delivered;       /* start has been sent to the keeper that lives now */
    char why[80];         /* it is dead */
    uint64_t due;         /* told to end its ranks or itself, it is killed then; 0 = not told */
    bool anew;            /* told so by a newer start: once that has begun, it is not due any more */
    uint64_t start_conn;  /* the connection of the controller on which it came */
    struct mu_msg start;  /* newest start, until the keeper reports it; type 0 = none */
    struct mu_msg report; /* last one said; type 0 = none */
};

#define DONE_JOBS 64u
#define LEASE_EVERY (90 * MU_MS) /* keepers are told of a longer lease so often */

struct mu_agent {
    struct mu_agent_config cfg;
    struct keeper *v;
    unsigned n, cap;
    struct {
        mu_conn id;
        uint64_t job;
    } * conns;
    unsigned nconns, capconns;
    struct {
        uint64_t job;
        uint32_t attempt;
    } done[DONE_JOBS]; /* released last: a late copy of their start is refused */
    unsigned ndone;
    bool ctl_up, welcome, told, bye, loaded;
    uint64_t way;         /* how often `agent` was said */
    uint64_t ctl;         /* its incarnation, once it has welcomed us */
    bool known;           /* the controller has answered `agent` on this way */
    uint64_t adopt_until; /* inventory waits for found keepers until then */
    uint64_t lonely_since;
    uint64_t nctl;                             /* connections of the controller so far */
    uint64_t told_at, lease_until, lease_told; /* 0 = no echo yet */
    uint64_t heard;                            /* newest echo that counted on this way; 0 = none */
    mu_agent_plan_fn plan;
    void *plan_arg;
    char addr[64];
    uint32_t port;
    uint64_t now;
    struct mu_acts *acts;
};

struct mu_agent *mu_agent_new(const struct mu_agent_config *cfg)
{
    struct mu_agent *a = calloc(1, sizeof *a);

    if (a)
        a->cfg = *cfg;
    return a;
}

static void drop(struct mu_agent *a, struct keeper *k)
{
    mu_msg_free(&k->start);
    mu_msg_free(&k->report);
    *k = a->v[--a->n];
}

void mu_agent_free(struct mu_agent *a)
{
    if (!a)
        return;
    while (a->n)
        drop(a, &a->v[0]);
    free(a->v);
    free(a->conns);
    free(a);
}

void mu_agent_set_plan(struct mu_agent *a, mu_agent_plan_fn plan, void *arg)
{
    a->plan = plan;
    a->plan_arg = arg;
}

void mu_agent_set_addr(struct mu_agent *a, const char *addr, uint32_t port)
{
    snprintf(a->addr, sizeof a->addr, "%s", addr);
    a->port = port;
}

unsigned mu_agent_keepers(const struct mu_agent *a)
{
    return a->n;
}

bool mu_agent_abandoned(const struct mu_agent *a)
{
    return !a->ctl_up && (a->n || (a->nctl && !a->bye));
}

/* Let go of by the controller, and gone. */
static void forget(struct mu_agent *a, struct keeper *k)
{
    mu_acts_add(a->acts, MU_ACT_FORGET)->job = k->job;
    drop(a, k);
}

static struct keeper *find(struct mu_agent *a, uint64_t job)
{
    for (unsigned i = 0; i < a->n; i++)
        if (a->v[i].job == job)
            return &a->v[i];
    return NULL;
}

static struct keeper *add(struct mu_agent *a, uint64_t job)
{
    if (a->n == a->cap) {
        unsigned cap = a->cap ? a->cap * 2 : 8;
        struct keeper *v = realloc(a->v, cap * sizeof *v);
        if (!v) {
            a->acts->failed = true;
            return NULL;
        }
        a->v = v;
        a->cap = cap;
    }
    struct keeper *k = &a->v[a->n++];
    memset(k, 0, sizeof *k);
    k->job = job;
    return k;
}

static void to_ctl(struct mu_agent *a, enum mu_msg_type type, const void *body)
{
    if (a->ctl_up && a->told)
        mu_acts_send(a->acts, MU_AGENT_CTL, type, body);
}

static void set_report(struct keeper *k, const struct mu_m_report *r)
{
    struct mu_msg copy = {.type = MU_MSG_report};

    if (mu_msg_copy(MU_MSG_report, &copy.report, r))
        return;
    mu_msg_free(&k->report);
    k->report = copy;
}

/* The report of an entry whose keeper cannot speak: started but not connected, or dead. */
static void speak_for(struct mu_agent *a, struct keeper *k, uint32_t phase, const char *text)
{
    struct mu_m_report r = {.job = k->job,
                            .attempt = k->attempt,
                            .node = (char *)(uintptr_t)a->cfg.node,
                            .phase = phase,
                            .first_text = (char *)(uintptr_t)text,
                            .drained = phase == MU_PHASE_LOST,
                            .lost = phase == MU_PHASE_LOST};

    set_report(k, &r);
    to_ctl(a, MU_MSG_report, &k->report.report);
}

/* How many there are, and again whenever one has gone for good. */
static void tell_count(struct mu_agent *a)
{
    to_ctl(a, MU_MSG_agent_ready, &(struct mu_m_agent_ready){.keepers = a->n});
}

static bool inventory_complete(const struct mu_agent *a)
{
    for (unsigned i = 0; i < a->n; i++)
        if (a->v[i].state == K_FOUND || a->v[i].state == K_CLEANING)
            return false;
    return a->loaded;
}

static void tell_all(struct mu_agent *a)
{
    if (!a->ctl_up || !a->welcome || a->told || !inventory_complete(a))
        return;
    a->told = true;
    a->told_at = a->now;
    struct mu_m_agent me = {.node = (char *)(uintptr_t)a->cfg.node,
                            .slots = a->cfg.slots,
                            .pus = a->cfg.pus,
                            .numa = a->cfg.numa,
                            .gpus = a->cfg.gpus,
                            .guids = a->cfg.guids,
                            .memory = a->cfg.memory,
                            .boot = (char *)(uintptr_t)a->cfg.boot,
                            .incarnation = a->cfg.incarnation,
                            .pid = a->cfg.pid,
                            .addr = a->addr,
                            .port = a->port,
                            .owner = a->cfg.owner,
                            .way = ++a->way,
                            .ctl = a->ctl};
    to_ctl(a, MU_MSG_agent, &me);
    for (unsigned i = 0; i < a->n; i++)
        if (a->v[i].report.type)
            to_ctl(a, MU_MSG_report, &a->v[i].report.report);
    tell_count(a);
}

/* why: what the keeper is killed for, NULL when it is dead already */
static void clean(struct mu_agent *a, struct keeper *k, const char *why)
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
static void limit(struct mu_agent *a, struct keeper *k, uint64_t grace)
{
    uint64_t until = a->now + grace + a->cfg.end_ns;
    bool lives = k->state == K_FOUND || k->state == K_SPAWNING || k->state == K_UP;

    k->anew = false;
    if (lives && a->cfg.end_ns && until > k->due && !MU_MUTANT(HANG_FORGIVEN))
        k->due = until;
}

static void spawn(struct mu_agent *a, struct keeper *k)
{
    k->state = K_SPAWNING;
    k->pid = 0;
    mu_acts_add(a->acts, MU_ACT_SPAWN)->job = k->job;
}

static void deliver(struct mu_agent *a, struct keeper *k)
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
        limit(a, k, 0);
        k->anew = true;
    }
}

/* To keepers of attempts on one node, too: they do not mind. */
static void tell_lease(struct mu_agent *a, const struct keeper *k)
{
    if (a->cfg.joined && a->lease_until && k->conn)
        mu_acts_send(a->acts, k->conn, MU_MSG_lease, &(struct mu_m_lease){.until_ns = a->lease_until});
}

/* at: when we sent what the controller has heard. */
static void prolong(struct mu_agent *a, uint64_t at)
{
    if (at + MU_LEASE_NS <= a->lease_until)
        return;
    a->lease_until = at + MU_LEASE_NS;
    if (a->now < a->lease_told + LEASE_EVERY)
        return;
    a->lease_told = a->now;
    for (unsigned i = 0; i < a->n; i++)
        tell_lease(a, &a->v[i]);
}

static void on_echo(struct mu_agent *a, uint64_t at)
{
    /* what we sent before we said who we are does not count for the controller, nor what others say for it before it
     * has heard that */
    if (!a->ctl_up || ((!a->told || !a->known || at < a->told_at) && !MU_MUTANT(KNOWN_EARLY)))
        return;
    a->heard = at > a->heard ? at : a->heard;
    prolong(a, at);
}

/* No controller is there to give us up. But the last one may have: what was to start by then does not any more. */
static void on_noctl(struct mu_agent *a, uint64_t at)
{
    for (unsigned i = 0; i < a->n && a->now >= a->lease_until; i++)
        a->v[i].start_conn = 0;
    prolong(a, at);
}

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
    struct keeper *k = find(a, m->start.job);

    if (a->bye)
        return;
    for (unsigned i = 0; i < DONE_JOBS && !k && !MU_MUTANT(AGENT_FORGETS); i++)
        if (a->done[i].job == m->start.job && m->start.attempt <= a->done[i].attempt)
            return;
    if (k && m->start.attempt <= k->attempt && (!k->released || here(a, k)) && !MU_MUTANT(AGENT_FORGETS)) {
        if (k->report.type)
            to_ctl(a, MU_MSG_report, &k->report.report);
        return;
    }
    bool fresh = !k;
    if (fresh)
        k = add(a, m->start.job);
    if (!k)
        return;
    mu_msg_free(&k->start);
    k->start.type = MU_MSG_start;
    if (mu_msg_copy(MU_MSG_start, &k->start.start, &m->start)) {
        k->start.type = (enum mu_msg_type)0;
        a->acts->failed = true;
        if (fresh)
            drop(a, k);
        return;
    }
    k->start.start.node_id = place_of(a, m->start.nodes);
    k->start.start.lease_ns = a->cfg.joined ? a->lease_until : 0;
    k->start_conn = a->nctl;
    k->one_node = m->start.node_ranks.n <= 1;
    k->attempt = m->start.attempt;
    k->have_report = k->delivered = false;
    speak_for(a, k, MU_PHASE_STARTING, NULL);
    k->again = k->released;
    if (k->again)
        return;
    if (k->state == K_UP)
        deliver(a, k);
    else if (k->state == K_LOST || k->state == K_SPENT || fresh)
        spawn(a, k);
}

/* A keeper that cannot be reached says again what it waits for when it is back. */
static void to_keeper(struct mu_agent *a, uint64_t job, enum mu_msg_type type, const void *body)
{
    struct keeper *k = find(a, job);

    if (k && k->state == K_UP && !k->released)
        mu_acts_send(a->acts, k->conn, type, body);
}

static void on_ctl(struct mu_agent *a, const struct mu_msg *m)
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
        on_echo(a, a->told_at);
        return;
    case MU_MSG_start:
        on_echo(a, a->told_at); /* it knows us */
        on_start(a, m);
        return;
    case MU_MSG_release:
        k = find(a, m->release.job);
        if (!k) {
            tell_count(a);
            return;
        }
        if (here(a, k) && (!k->released || k->again)) {
            a->done[a->ndone % DONE_JOBS].job = k->job;
            a->done[a->ndone++ % DONE_JOBS].attempt = k->attempt;
        }
        if (!k->released) {
            k->due = 0;
            limit(a, k, 0);
        }
        k->released = true;
        k->again = false;
        if (k->state == K_UP)
            mu_acts_send(a->acts, k->conn, MU_MSG_release, &m->release);
        else if (k->state == K_LOST || k->state == K_SPENT) {
            forget(a, k);
            tell_count(a);
        }
        return;
    case MU_MSG_kill:
        if (m->kill.rank_plus1) {
            to_keeper(a, m->kill.job, m->type, &m->kill);
            return;
        }
        k = find(a, m->kill.job);
        if (!k)
            return;
        if (k->state == K_UP && !k->again) {
            mu_acts_send(a->acts, k->conn, MU_MSG_kill, &m->kill);
            if (!k->released && m->kill.attempt >= k->attempt && (m->kill.signo == SIGKILL || m->kill.grace_ns) &&
                !(k->have_report && k->report.report.phase >= MU_PHASE_GONE))
                limit(a, k, m->kill.signo == SIGKILL ? 0 : m->kill.grace_ns);
        } else if (k->start.type && !k->delivered && k->attempt <= m->kill.attempt && m->kill.signo) {
            /* not begun: it never will */
            mu_msg_free(&k->start);
            k->have_report = true;
            k->again = false;
            speak_for(a, k, MU_PHASE_LOST, "killed before it started");
        }
        return;
    case MU_MSG_stream:
        k = find(a, m->stream.job);
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
    case MU_MSG_look:
        to_keeper(a, m->look.job, m->type, &m->look);
        return;
    case MU_MSG_abort:
        to_keeper(a, m->abort.job, m->type, &m->abort);
        return;
    case MU_MSG_bye:
        a->bye = true;
        return;
    default:
        return;
    }
}

static void on_keeper_hello(struct mu_agent *a, mu_conn conn, const struct mu_m_hello *m)
{
    struct keeper *k = find(a, m->job);

    if (!k) /* found late: it lives, so it is adopted */
        k = add(a, m->job);
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
    tell_lease(a, k);
    deliver(a, k);
    if (k->released)
        mu_acts_send(a->acts, conn, MU_MSG_release, &(struct mu_m_release){.job = k->job});
}

static void on_keeper(struct mu_agent *a, mu_conn conn, const struct mu_msg *m)
{
    struct keeper *k = NULL;

    if (m->type == MU_MSG_hello) {
        on_keeper_hello(a, conn, &m->hello);
        return;
    }
    for (unsigned i = 0; i < a->nconns; i++)
        if (a->conns[i].id == conn)
            k = find(a, a->conns[i].job);
    if (!k || k->conn != conn)
        return;
    if (k->released && k->state == K_UP)
        return; /* nobody asks for it any more, and its number may be another job's already */
    switch (m->type) {
    case MU_MSG_report:
        if (m->report.job != k->job ||
            (k->have_report && m->report.attempt == k->attempt && m->report.seq < k->report.report.seq))
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
                limit(a, k, 0);
            k->anew = anew && k->due;
        }
        to_ctl(a, MU_MSG_report, &m->report);
        deliver(a, k);
        return;
    case MU_MSG_output:
        if (m->output.job == k->job)
            to_ctl(a, MU_MSG_output, &m->output);
        return;
    case MU_MSG_input_ack:
        if (m->input_ack.job == k->job)
            to_ctl(a, MU_MSG_input_ack, &m->input_ack);
        return;
    case MU_MSG_rank_exit:
        if (m->rank_exit.job == k->job)
            to_ctl(a, MU_MSG_rank_exit, &m->rank_exit);
        return;
    case MU_MSG_hang:
        if (m->hang.job == k->job)
            to_ctl(a, MU_MSG_hang, &m->hang);
        return;
    case MU_MSG_misbound:
        if (m->misbound.job == k->job)
            to_ctl(a, MU_MSG_misbound, &m->misbound);
        return;
    case MU_MSG_fence:
        if (m->fence.job == k->job)
            to_ctl(a, MU_MSG_fence, &m->fence);
        return;
    case MU_MSG_modex:
        if (m->modex.job == k->job)
            to_ctl(a, MU_MSG_modex, &m->modex);
        return;
    default:
        return;
    }
}

static void on_down(struct mu_agent *a, mu_conn conn)
{
    if (conn == MU_AGENT_CTL) {
        a->ctl_up = a->told = a->known = false;
        return;
    }
    for (unsigned i = 0; i < a->nconns; i++) {
        if (a->conns[i].id != conn)
            continue;
        struct keeper *k = find(a, a->conns[i].job);
        a->conns[i] = a->conns[--a->nconns];
        if (k && k->conn == conn)
            k->conn = 0; /* its death comes as MU_EV_CHILD; otherwise it connects again */
        return;
    }
}

static void on_child(struct mu_agent *a, const struct mu_ev *ev)
{
    struct keeper *k = find(a, ev->job);

    if (!k || k->state == K_CLEANING || k->state == K_LOST || k->state == K_SPENT)
        return;
    if (ev->pid && k->pid != ev->pid)
        return;
    clean(a, k, NULL);
    snprintf(k->why, sizeof k->why, "%s", ev->text ? ev->text : "its keeper died");
}

static void on_cleaned(struct mu_agent *a, const struct mu_ev *ev)
{
    struct keeper *k = find(a, ev->job);

    if (!k || k->state != K_CLEANING)
        return;
    if (k->released && !k->again) {
        forget(a, k);
        tell_count(a);
        return;
    }
    k->released = k->again = false;
    if (k->start.type && !k->delivered) { /* a newer attempt is asked for already */
        spawn(a, k);
        return;
    }
    if (k->have_report && k->report.type && k->report.report.phase == MU_PHASE_GONE) {
        k->state = K_SPENT;
        k->report.report.lost = !k->report.report.drained;
        k->report.report.drained = 1;
        to_ctl(a, MU_MSG_report, &k->report.report);
        return;
    }
    k->state = K_LOST;
    speak_for(a, k, MU_PHASE_LOST, *k->why ? k->why : "its keeper died");
}

static void on_spawned(struct mu_agent *a, const struct mu_ev *ev)
{
    struct keeper *k = find(a, ev->job);

    if (!k || k->state != K_SPAWNING)
        return;
    if (!ev->status) {
        k->pid = ev->pid;
        return;
    }
    mu_msg_free(&k->start);
    k->state = K_LOST;
    speak_for(a, k, MU_PHASE_LOST, ev->text);
}

static void on_load(struct mu_agent *a, const struct mu_ev *ev)
{
    struct keeper *k = find(a, ev->job);

    if (!k)
        k = add(a, ev->job);
    if (k && !ev->pid) { /* which attempt was its last nobody knows */
        k->state = K_LOST;
        speak_for(a, k, MU_PHASE_LOST, "its keeper died");
        return;
    }
    if (k) {
        k->state = K_FOUND;
        k->pid = ev->pid;
    }
    a->adopt_until = ev->now + a->cfg.adopt_wait_ns;
}

/* When a keeper that was told to end something is given up. Of an attempt on several nodes nothing may outlive the
 * lease, and one that hangs does not look at it. */
static uint64_t due(const struct mu_agent *a, const struct keeper *k)
{
    if (!k->due)
        return UINT64_MAX;
    return a->cfg.joined && a->lease_until && !k->one_node && a->lease_until < k->due ? a->lease_until : k->due;
}

static void on_time(struct mu_agent *a)
{
    /* A found keeper that does not come: it hangs or is not ours to use. */
    if (a->adopt_until && a->now >= a->adopt_until) {
        a->adopt_until = 0;
        for (unsigned i = 0; i < a->n; i++)
            if (a->v[i].state == K_FOUND)
                clean(a, &a->v[i], "its keeper lives but does not connect");
    }
    for (unsigned i = 0; i < a->n; i++)
        if (a->now >= due(a, &a->v[i]))
            clean(a, &a->v[i],
                  a->v[i].released ? "its keeper does not end although the job has"
                                   : "its keeper hangs: it was told to kill its ranks and says nothing");
    bool lonely = !a->ctl_up && !a->n;
    if (!lonely)
        a->lonely_since = 0;
    else if (!a->lonely_since)
        a->lonely_since = a->now ? a->now : 1;
    if ((a->bye && !a->n) || (lonely && a->cfg.lonely_ns && a->now >= a->lonely_since + a->cfg.lonely_ns))
        mu_acts_add(a->acts, MU_ACT_EXIT);
}

void mu_agent_step(struct mu_agent *a, const struct mu_ev *ev, struct mu_acts *acts)
{
    a->now = ev->now;
    a->acts = acts;
    switch (ev->kind) {
    case MU_EV_LOAD:
        on_load(a, ev);
        return;
    case MU_EV_LOADED:
        a->loaded = true;
        break;
    case MU_EV_UP:
        if (ev->conn == MU_AGENT_CTL) {
            struct mu_m_hello hello = {.proto = MU_WIRE_VERSION,
                                       .role = (char *)(uintptr_t) "agent",
                                       .node = (char *)(uintptr_t)a->cfg.node,
                                       .pid = a->cfg.pid,
                                       .incarnation = a->cfg.incarnation};
            a->ctl_up = true;
            a->nctl++;
            a->welcome = a->told = a->bye = a->known = false;
            a->heard = 0;
            /* late copies come on one connection only, and a controller with a new store counts from 1 again */
            memset(a->done, 0, sizeof a->done);
            mu_acts_send(acts, MU_AGENT_CTL, MU_MSG_hello, &hello);
        }
        break;
    case MU_EV_DOWN:
        on_down(a, ev->conn);
        break;
    case MU_EV_MSG:
        if (ev->conn == MU_AGENT_CTL)
            on_ctl(a, ev->msg);
        else
            on_keeper(a, ev->conn, ev->msg);
        break;
    case MU_EV_ECHO:
        on_echo(a, ev->at);
        break;
    case MU_EV_STAY:
        to_ctl(a, MU_MSG_stay, &(struct mu_m_stay){.tried = (char *)(uintptr_t)ev->node});
        break;
    case MU_EV_NOCTL:
        on_noctl(a, ev->at);
        break;
    case MU_EV_CHILD:
        on_child(a, ev);
        break;
    case MU_EV_SPAWNED:
        on_spawned(a, ev);
        break;
    case MU_EV_CLEANED:
        on_cleaned(a, ev);
        break;
    default:
        break;
    }
    on_time(a);
    tell_all(a);
}

uint64_t mu_agent_up_age(const struct mu_agent *a, uint64_t now)
{
    return a->ctl_up && a->known && a->heard && a->heard <= now ? now - a->heard : UINT64_MAX;
}

bool mu_agent_leased(const struct mu_agent *a)
{
    for (unsigned i = 0; i < a->n; i++)
        if (!a->v[i].one_node && a->v[i].state != K_LOST && a->v[i].state != K_SPENT)
            return true;
    return false;
}

uint64_t mu_agent_known(const struct mu_agent *a)
{
    return a->lease_until ? a->lease_until - MU_LEASE_NS : 0;
}

uint64_t mu_agent_next(const struct mu_agent *a)
{
    uint64_t next = a->adopt_until ? a->adopt_until : UINT64_MAX;

    if (a->lonely_since && a->cfg.lonely_ns && a->lonely_since + a->cfg.lonely_ns < next)
        next = a->lonely_since + a->cfg.lonely_ns;
    for (unsigned i = 0; i < a->n; i++)
        if (due(a, &a->v[i]) < next)
            next = due(a, &a->v[i]);
    return next;
}
