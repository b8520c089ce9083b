#include "runtime/keeper/core.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "runtime/base/clock.h"
#include "runtime/base/slot.h"
#include "runtime/keeper/core_wireup.h"

#define SAY_EVERY (2 * MU_SEC)

struct mu_keeper {
    struct mu_keeper_config cfg;
    struct mu_m_report r; /* owns first_text, first_tail; node is borrowed */
    char trouble[400];    /* r.store_trouble */
    struct mu_msg start;  /* of the attempt that runs; type 0 = none */
    struct mu_msg next;   /* a newer attempt, while the last one ends; type 0 = none */
    struct mu_m_spec spec;
    struct mu_msg peer; /* abort of another node, while the ranks start; type 0 = none */
    struct mu_wireup *wireup;
    uint32_t base; /* global rank of local rank 0 */
    bool *live;    /* by local rank */
    uint64_t seq;  /* of the last report */
    bool up, released;
    uint32_t kill_signo; /* asked for before the ranks ran */
    uint64_t kill_at;    /* SIGKILL at; 0 = not */
    uint32_t hung_plus1; /* local rank that is killed because it hangs */
    uint64_t say_at;     /* while ranks are being ended: that we are at it; 0 = not */
    uint64_t lease;      /* an attempt on several nodes lives until then; 0 = for ever */
    uint64_t now, wall;
    struct mu_acts *acts;
};

struct mu_keeper *mu_keeper_new(const struct mu_keeper_config *cfg)
{
    struct mu_keeper *k = calloc(1, sizeof *k);

    if (k) {
        k->cfg = *cfg;
        k->r.job = cfg->job;
        k->r.node = (char *)(uintptr_t)cfg->node;
        k->r.keeper = cfg->pid;
        k->r.drained = 1;
        k->wireup = mu_wireup_new(MU_KEEPER_AGENT);
    }
    if (k && !k->wireup) {
        free(k);
        k = NULL;
    }
    return k;
}

static void forget(struct mu_keeper *k)
{
    mu_msg_free(&k->start);
    mu_msg_free(&k->peer);
    mu_msg_free_body(MU_MSG_spec, &k->spec);
    free(k->live);
    k->live = NULL;
    free(k->r.first_text);
    free(k->r.first_tail.data);
    k->r = (struct mu_m_report){
        .job = k->cfg.job, .node = (char *)(uintptr_t)k->cfg.node, .keeper = k->cfg.pid, .drained = 1};
    k->kill_signo = k->hung_plus1 = 0;
    k->kill_at = 0;
}

void mu_keeper_free(struct mu_keeper *k)
{
    if (!k)
        return;
    forget(k);
    mu_msg_free(&k->next);
    mu_wireup_free(k->wireup);
    free(k);
}

const struct mu_m_report *mu_keeper_report(const struct mu_keeper *k)
{
    return &k->r;
}

uint32_t mu_keeper_attempt(const struct mu_keeper *k)
{
    return k->r.attempt;
}

static void report(struct mu_keeper *k)
{
    k->r.seq = ++k->seq;
    k->say_at = 0;
    if (k->up)
        mu_acts_send(k->acts, MU_KEEPER_AGENT, MU_MSG_report, &k->r);
}

static struct mu_act *act(struct mu_keeper *k, enum mu_act_kind kind)
{
    struct mu_act *a = mu_acts_add(k->acts, kind);

    a->job = k->cfg.job;
    a->attempt = k->r.attempt;
    return a;
}

static void signal_all(struct mu_keeper *k, uint32_t signo)
{
    struct mu_act *a = act(k, MU_ACT_SIGNAL);

    a->index = MU_ALL;
    a->signo = signo;
}

static void clean(struct mu_keeper *k)
{
    k->r.phase = MU_PHASE_KILLING;
    act(k, MU_ACT_CLEAN);
}

static bool leased(const struct mu_keeper *k)
{
    return k->lease && k->start.type && k->start.start.node_ranks.n > 1 && !MU_MUTANT(LEASE_IGNORED) &&
           (k->r.phase == MU_PHASE_STARTING || k->r.phase == MU_PHASE_RUNNING);
}

static void begin(struct mu_keeper *k, struct mu_msg *m)
{
    struct mu_m_start *s = &m->start;

    forget(k);
    k->start = *m;
    memset(m, 0, sizeof *m);
    s = &k->start.start;
    k->r.attempt = s->attempt;
    k->r.phase = MU_PHASE_STARTING;
    k->r.started_wall = k->wall;
    k->r.drained = !s->stream; /* the shell says when the live output is through */
    k->base = 0;
    for (uint32_t i = 0; i < s->node_id && i < s->node_ranks.n; i++)
        k->base += s->node_ranks.v[i];
    uint32_t n = s->node_id < s->node_ranks.n ? s->node_ranks.v[s->node_id] : 0;
    k->live = n ? calloc(n, sizeof *k->live) : NULL;
    if (!k->live || mu_wireup_begin(k->wireup, s) || mu_msg_unpack(&s->spec, MU_MSG_spec, &k->spec, NULL)) {
        k->r.starterr = MU_VAIN_START;
        k->r.nfailed = k->r.first_rank_plus1 = 1;
        k->r.first_status = 1 << 8;
        k->r.first_text = strdup("cannot be started: its description is broken or memory is out");
        clean(k);
        report(k);
        return;
    }
    k->r.nranks = n;
    k->lease = s->lease_ns > k->lease ? s->lease_ns : k->lease;
    if (s->lease_ns && k->now >= s->lease_ns && !MU_MUTANT(LEASE_IGNORED)) { /* a start that came late */
        k->r.lapsed = k->r.drained = 1;
        k->r.nfailed = n;
        clean(k);
        report(k);
        return;
    }
    struct mu_act *a = act(k, MU_ACT_SPAWN);
    if (mu_msg_encode(&a->frame, MU_MSG_start, s))
        k->acts->failed = true;
    report(k);
}

static void kill_now(struct mu_keeper *k)
{
    k->kill_at = 0;
    if (k->r.phase == MU_PHASE_RUNNING || k->r.phase == MU_PHASE_KILLING) {
        k->r.phase = MU_PHASE_KILLING;
        if (k->r.nlive)
            signal_all(k, SIGKILL);
    } else if (k->r.phase == MU_PHASE_STARTING) {
        k->kill_signo = SIGKILL;
    }
}

static void on_start(struct mu_keeper *k, const struct mu_msg *m)
{
    struct mu_msg copy = {.type = MU_MSG_start};

    if (m->start.job != k->cfg.job || k->released || m->start.attempt <= k->r.attempt ||
        (k->next.type && m->start.attempt <= k->next.start.attempt)) {
        report(k);
        return;
    }
    if (mu_msg_copy(MU_MSG_start, &copy.start, &m->start)) {
        k->acts->failed = true;
        return;
    }
    if (k->r.phase == MU_PHASE_IDLE || k->r.phase == MU_PHASE_GONE) {
        begin(k, &copy);
        return;
    }
    mu_msg_free(&k->next);
    k->next = copy;
    kill_now(k);
}

/* The controller has found out who holds up the others. It is the failure of this node, whatever comes after it. */
static void on_hung(struct mu_keeper *k, const struct mu_m_kill *m)
{
    uint32_t index = m->rank_plus1 - 1 - k->base;

    if (m->attempt != k->r.attempt || k->r.phase != MU_PHASE_RUNNING || m->rank_plus1 <= k->base ||
        index >= k->r.nranks || !k->live[index])
        return;
    struct mu_act *a = act(k, MU_ACT_SIGNAL);
    a->index = index;
    a->signo = SIGKILL;
    if (k->r.first_rank_plus1)
        return;
    k->hung_plus1 = index + 1;
    k->r.first_rank_plus1 = m->rank_plus1;
    k->r.first_status = SIGKILL;
    k->r.first_wall = k->r.detected_wall = k->wall;
    k->r.first_blame = MU_BLAME_SIGNAL;
    k->r.first_text = strdup(m->why ? m->why : "hangs");
    report(k);
}

static void on_kill(struct mu_keeper *k, const struct mu_m_kill *m)
{
    if (m->job != k->cfg.job || m->attempt < k->r.attempt || !m->signo)
        return;
    if (m->rank_plus1) {
        on_hung(k, m);
        return;
    }
    if (k->next.type && k->next.start.attempt <= m->attempt)
        mu_msg_free(&k->next);
    if (m->signo == SIGKILL) {
        kill_now(k);
        return;
    }
    if (k->r.phase == MU_PHASE_STARTING && m->grace_ns) {
        k->kill_signo = SIGKILL; /* nothing to be gentle with yet */
        return;
    }
    if (k->r.phase != MU_PHASE_RUNNING)
        return;
    if (m->grace_ns && !k->kill_at) {
        k->kill_at = k->now + m->grace_ns;
        act(k, MU_ACT_NOTICE)->signo = MU_NOTICE_SIGNAL; /* for programs that handle the signal and then save */
    }
    if (k->r.nlive)
        signal_all(k, m->signo);
}

static void on_recall(struct mu_keeper *k)
{
    const struct mu_msg *m = k->next.type ? &k->next : &k->start;
    struct mu_m_recalled r = {.job = k->cfg.job};

    if (m->type) {
        r.attempt = m->start.attempt;
        r.row = m->start.row;
        r.spec = m->start.spec;
    }
    if (k->up && !k->released)
        mu_acts_send(k->acts, MU_KEEPER_AGENT, MU_MSG_recalled, &r);
    report(k);
}

static void tell_ranks(struct mu_keeper *k, uint32_t rank, int32_t status, const char *node)
{
    struct mu_act *a = act(k, MU_ACT_ABORT);

    a->rank = (int32_t)rank;
    a->status = status;
    snprintf(a->node, sizeof a->node, "%s", node ? node : "");
    k->r.aborted = 1;
}

/* A rank of another node has failed, those here live on. */
static void on_abort(struct mu_keeper *k, const struct mu_m_abort *m)
{
    struct mu_msg copy = {.type = MU_MSG_abort};

    if (m->job != k->cfg.job || m->attempt != k->r.attempt)
        return;
    if (k->r.phase == MU_PHASE_RUNNING && !k->r.aborted) {
        tell_ranks(k, m->rank, m->status, m->node);
        report(k);
    }
    if (k->r.phase != MU_PHASE_STARTING || k->peer.type)
        return;
    if (mu_msg_copy(MU_MSG_abort, &copy.abort, m))
        k->acts->failed = true;
    else
        k->peer = copy;
}

static void all_ended(struct mu_keeper *k)
{
    k->kill_at = 0;
    clean(k);
}

static void on_spawned(struct mu_keeper *k, const struct mu_ev *ev)
{
    if (k->r.phase != MU_PHASE_STARTING || ev->attempt != k->r.attempt)
        return;
    if (ev->status) {
        k->r.starterr = MU_VAIN_START;
        k->r.nfailed = 1;
        k->r.first_rank_plus1 = k->base + ev->index + 1;
        k->r.first_status = ev->status << 8;
        k->r.first_wall = k->r.detected_wall = k->wall;
        k->r.first_text = strdup(ev->text ? ev->text : "cannot be started");
        clean(k);
        report(k);
        return;
    }
    k->r.phase = MU_PHASE_RUNNING;
    k->r.nlive = k->r.nranks;
    for (uint32_t i = 0; i < k->r.nranks; i++)
        k->live[i] = true;
    if (k->peer.type)
        tell_ranks(k, k->peer.abort.rank, k->peer.abort.status, k->peer.abort.node);
    mu_msg_free(&k->peer);
    if (k->kill_signo || k->next.type)
        kill_now(k);
    report(k);
}

static void describe(char *out, size_t n, const struct mu_ev *ev)
{
    int status = ev->status;

    if (ev->aborted)
        snprintf(out, n, "called MPI_Abort with code %d", ev->abort_code);
    else if (ev->abnormal)
        snprintf(out, n, "exited with code 0 but had not called MPI_Finalize");
    else if (WIFSIGNALED(status))
        snprintf(out, n, "was killed by signal %d (%s)%s", WTERMSIG(status), strsignal(WTERMSIG(status)),
                 WCOREDUMP(status) ? ", core dumped" : "");
    else
        snprintf(out, n, "exited with code %d", WEXITSTATUS(status));
}

static void keep_tail(struct mu_keeper *k, const char *text)
{
    if (!text || !*text || k->r.first_tail.data)
        return;
    k->r.first_tail.data = (uint8_t *)strdup(text);
    k->r.first_tail.len = k->r.first_tail.data ? (uint32_t)strlen(text) : 0;
}

/* After the failure of a rank. */
static void others(struct mu_keeper *k, uint32_t index)
{
    if (k->spec.on_failure == MU_FAIL_KILL) {
        k->r.phase = MU_PHASE_KILLING;
        signal_all(k, SIGKILL);
    } else {
        tell_ranks(k, k->base + index, k->r.first_status, k->cfg.node);
    }
}

static void on_rank_end(struct mu_keeper *k, const struct mu_ev *ev)
{
    char text[160];

    if (ev->attempt != k->r.attempt || ev->index >= k->r.nranks || !k->live[ev->index])
        return;
    k->live[ev->index] = false;
    k->r.nlive--;
    bool failed = ev->status || ev->abnormal, hung = k->hung_plus1 == ev->index + 1;
    bool ours = k->r.phase == MU_PHASE_KILLING || k->kill_at; /* it died because we were told to end it */
    if (failed) {
        k->r.nfailed++;
        describe(text, sizeof text, ev);
        if (!ours) {
            struct mu_m_rank_exit m = {.job = k->cfg.job,
                                       .attempt = k->r.attempt,
                                       .rank = k->base + ev->index,
                                       .status = ev->abnormal ? 1 << 8 : ev->status,
                                       .text = text,
                                       .at_wall = k->wall};
            if (k->up)
                mu_acts_send(k->acts, MU_KEEPER_AGENT, MU_MSG_rank_exit, &m);
        }
    }
    if (failed && !k->r.first_rank_plus1 && !ours) {
        k->r.first_rank_plus1 = k->base + ev->index + 1;
        k->r.first_status = ev->abnormal ? 1 << 8 : ev->status;
        k->r.first_wall = k->r.detected_wall = k->wall;
        k->r.first_blame = ev->blame;
        k->r.first_text = strdup(text);
        k->r.starterr = ev->vain;
        keep_tail(k, ev->text);
        if (k->r.nlive)
            others(k, ev->index);
        report(k);
    }
    if (hung) {
        keep_tail(k, ev->text);
        if (k->r.phase == MU_PHASE_RUNNING && k->r.nlive)
            others(k, ev->index);
        report(k);
    }
    if (!k->r.nlive)
        all_ended(k);
}

static void on_cleaned(struct mu_keeper *k, const struct mu_ev *ev)
{
    if (k->r.phase != MU_PHASE_KILLING || ev->attempt != k->r.attempt || k->r.nlive)
        return;
    k->r.phase = MU_PHASE_GONE;
    if (k->next.type) {
        struct mu_msg next = k->next;
        memset(&k->next, 0, sizeof k->next);
        begin(k, &next);
        return;
    }
    report(k);
}

static void on_slots(struct mu_keeper *k, const struct mu_ev *ev)
{
    const struct mu_m_report *p = ev->report;

    if (ev->attempt != k->r.attempt)
        return;
    k->r.njoined = p->njoined;
    k->r.steps = p->steps;
    k->r.step = p->step;
    k->r.first_step_wall = p->first_step_wall;
    k->r.step_wall = p->step_wall;
    k->r.ckpt_plus1 = p->ckpt_plus1;
    k->r.restored_plus1 = p->restored_plus1;
    k->r.dropped = p->dropped;
    k->r.unseen = p->unseen;
    k->r.drop_why = p->drop_why;
    k->r.drained = p->drained;
    k->r.stored_plus1 = p->stored_plus1;
    k->r.store_bytes = p->store_bytes;
    k->r.store_retries = p->store_retries;
    k->r.ops = p->ops;
    k->r.op_bytes = p->op_bytes;
    k->r.saves = p->saves;
    k->r.save_ns = p->save_ns;
    k->r.save_last_ns = p->save_last_ns;
    k->r.ckpt_bytes = p->ckpt_bytes;
    if (p->store_trouble != k->trouble)
        snprintf(k->trouble, sizeof k->trouble, "%s", p->store_trouble ? p->store_trouble : "");
    k->r.store_trouble = k->trouble[0] ? k->trouble : NULL;
    report(k);
}

static void on_hang(struct mu_keeper *k, const struct mu_ev *ev)
{
    struct mu_m_hang m = ev->msg->hang;

    if (ev->attempt != k->r.attempt || k->r.phase != MU_PHASE_RUNNING || !k->up)
        return;
    m.job = k->cfg.job;
    m.attempt = k->r.attempt;
    mu_acts_send(k->acts, MU_KEEPER_AGENT, MU_MSG_hang, &m);
}

static void on_misbound(struct mu_keeper *k, const struct mu_ev *ev)
{
    struct mu_m_misbound m = ev->msg->misbound;

    if (ev->attempt != k->r.attempt || !k->up)
        return;
    m.job = k->cfg.job;
    m.attempt = k->r.attempt;
    m.rank += k->base;
    mu_acts_send(k->acts, MU_KEEPER_AGENT, MU_MSG_misbound, &m);
}

/* Nobody has told us that the attempt is still wanted: the controller may have begun the next one elsewhere. */
static void lease_is_over(struct mu_keeper *k)
{
    k->r.lapsed = 1;
    mu_msg_free(&k->next);
    kill_now(k);
    if (k->r.phase == MU_PHASE_KILLING && !k->r.nlive)
        all_ended(k);
    report(k);
}

static struct mu_wireup_at wireup_at(const struct mu_keeper *k)
{
    return (struct mu_wireup_at){.acts = k->acts, .now = k->now, .phase = k->r.phase, .up = k->up};
}

static void on_msg(struct mu_keeper *k, const struct mu_msg *m)
{
    struct mu_wireup_at at = wireup_at(k);
    struct mu_act *a;

    switch (m->type) {
    case MU_MSG_start:
        on_start(k, m);
        return;
    case MU_MSG_kill:
        on_kill(k, &m->kill);
        return;
    case MU_MSG_lease:
        k->lease = m->lease.until_ns > k->lease ? m->lease.until_ns : k->lease;
        return;
    case MU_MSG_release:
        k->released = true;
        kill_now(k);
        return;
    case MU_MSG_stream:
        act(k, MU_ACT_STREAM)->signo = m->stream.on;
        return;
    case MU_MSG_abort:
        on_abort(k, &m->abort);
        return;
    case MU_MSG_look:
        if (m->look.job == k->cfg.job && m->look.attempt == k->r.attempt && k->r.phase == MU_PHASE_RUNNING)
            act(k, MU_ACT_LOOK)->index = m->look.rank;
        return;
    case MU_MSG_recall:
        on_recall(k);
        return;
    case MU_MSG_fence:
    case MU_MSG_fenced:
    case MU_MSG_modex:
        mu_wireup_msg(k->wireup, &at, m);
        return;
    case MU_MSG_input:
    case MU_MSG_output_ack:
        a = act(k, m->type == MU_MSG_input ? MU_ACT_INPUT : MU_ACT_ACK);
        if (mu_msg_encode(&a->frame, m->type, &m->hello))
            k->acts->failed = true;
        return;
    default:
        return;
    }
}

void mu_keeper_step(struct mu_keeper *k, const struct mu_ev *ev, struct mu_acts *acts)
{
    struct mu_m_hello hello = {.proto = MU_WIRE_VERSION,
                               .role = (char *)(uintptr_t) "keeper",
                               .node = (char *)(uintptr_t)k->cfg.node,
                               .pid = k->cfg.pid,
                               .job = k->cfg.job};

    k->now = ev->now;
    k->wall = ev->wall;
    k->acts = acts;
    struct mu_wireup_at at = wireup_at(k);
    switch (ev->kind) {
    case MU_EV_UP:
        k->up = at.up = true;
        mu_acts_send(acts, MU_KEEPER_AGENT, MU_MSG_hello, &hello);
        report(k);
        mu_wireup_up(k->wireup, &at);
        break;
    case MU_EV_DOWN:
        k->up = false;
        break;
    case MU_EV_MSG:
        on_msg(k, ev->msg);
        break;
    case MU_EV_SPAWNED:
        on_spawned(k, ev);
        break;
    case MU_EV_CHILD:
        on_rank_end(k, ev);
        break;
    case MU_EV_CLEANED:
        on_cleaned(k, ev);
        break;
    case MU_EV_SLOTS:
        on_slots(k, ev);
        break;
    case MU_EV_HANG:
        on_hang(k, ev);
        break;
    case MU_EV_MISBOUND:
        on_misbound(k, ev);
        break;
    case MU_EV_FENCE:
        mu_wireup_fence(k->wireup, &at, &ev->msg->fence);
        break;
    case MU_EV_MODEX:
        mu_wireup_modex(k->wireup, &at, &ev->msg->modex);
        break;
    default:
        break;
    }
    at = wireup_at(k);
    mu_wireup_time(k->wireup, &at);
    if (k->kill_at && k->now >= k->kill_at)
        kill_now(k);
    if (leased(k) && !k->r.lapsed && k->now >= k->lease)
        lease_is_over(k);
    /* what dies slowly is not to look like a keeper that hangs */
    if (k->r.phase != MU_PHASE_KILLING && !(k->r.phase == MU_PHASE_STARTING && k->kill_signo))
        k->say_at = 0;
    else if (!k->say_at || k->now >= k->say_at) {
        if (k->say_at)
            report(k);
        k->say_at = k->now + SAY_EVERY;
    }
    /* the controller releases once the output is through, or when nobody waits for it */
    if (k->released && (k->r.phase == MU_PHASE_IDLE || k->r.phase == MU_PHASE_GONE))
        act(k, MU_ACT_EXIT);
}

uint64_t mu_keeper_next(const struct mu_keeper *k)
{
    uint64_t next = mu_wireup_next(k->wireup);

    next = k->kill_at && k->kill_at < next ? k->kill_at : next;
    next = k->say_at && k->say_at < next ? k->say_at : next;
    return leased(k) && !k->r.lapsed && k->lease < next ? k->lease : next;
}
