#include <errno.h>
#include <event2/event.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/base/clean.h"
#include "runtime/base/clock.h"
#include "runtime/base/log.h"
#include "runtime/base/path.h"
#include "runtime/keeper/attempt.h"
#include "runtime/keeper/core.h"
#include "runtime/keeper/line.h"
#include "runtime/keeper/process.h"
#include "runtime/keeper/ram.h"
#include "runtime/keeper/shell.h"
#include "runtime/keeper/wired.h"
#include "runtime/wire/daemon.h"
#include "runtime/wire/guard.h"
#include "runtime/wire/hold.h"
#include "runtime/wire/link.h"

#define TICK (20 * MU_MS)         /* between two looks at the slots */
#define REDIAL (50 * MU_MS)       /* while the agent is away */
#define AGENT_AWAY (100 * MU_MS)  /* then a new one is started */
#define AGENT_AGAIN (2 * MU_SEC)  /* and again after each further such time */
#define ORPHANED (600 * MU_SEC)   /* without ranks and without an agent: nobody will ever ask again */
#define CLEAN_AGAIN (100 * MU_MS) /* what does not die is tried again */
#define GRACE (5 * MU_SEC)        /* of the ranks when the keeper is told to end */
#define FLUSH MU_SEC              /* of the last messages */
#define DRAIN (8 * MU_SEC)        /* of the last checkpoint, once released; the agent waits for longer */
enum { QUEUED_MAX = 1 << 20 };    /* bytes of live output on the link */

struct keeper {
    uint64_t job;
    struct mu_paths paths;
    const char *node;
    int *lock; /* keeper.JOB.lock */
    struct mu_hold *hold;
    char dir[PATH_MAX];
    struct event_base *base;
    struct mu_keeper *core;
    struct mu_acts acts;
    struct mu_pmix *pmix;
    struct mu_ram *ram;
    struct mu_logs *logs;
    struct mu_feed *feed;
    struct mu_attempt *attempt, *spent; /* spent: over, and not freed yet */
    struct mu_link *link;
    struct mu_line *line;
    struct mu_alarm *core_alarm, *tick, *dial, *clean_again, *forget, *pump_again, *leave;
    struct event *on_sig, *on_pmix;
    int sigfd;
    uint64_t away_since, agent_tried, cleaning_since, leave_until;
    uint32_t clean_attempt;
    unsigned terms; /* SIGTERMs so far */
    bool released;  /* nobody will ask for what it knows */
    bool stepping, done;
    bool look;             /* something changed that the next report should say */
    struct later *waiting; /* events that came up while actions ran */
    struct later **waiting_end;
};

/* --- the core and its actions ------------------------------------------------------------------------------------ */

static void run_actions(struct keeper *k);
static void progress(struct keeper *k);

/* The core sees one thing at a time. */
struct later {
    struct later *next;
    struct mu_ev ev;
    char *text;
    struct mu_msg msg; /* a hang: there is nothing to own */
};

static void step_now(struct keeper *k, struct mu_ev *ev)
{
    ev->now = mu_now();
    ev->wall = mu_wall();
    mu_keeper_step(k->core, ev, &k->acts);
    if (k->acts.failed)
        mu_log(MU_LOG_ERROR, "keeper", "out of memory: an action is lost");
    run_actions(k);
    mu_acts_clear(&k->acts);
}

static void step(struct keeper *k, struct mu_ev ev)
{
    if (k->stepping) {
        struct later *l = calloc(1, sizeof *l);

        if (!l) {
            mu_log(MU_LOG_ERROR, "keeper", "out of memory: an event is lost");
            return;
        }
        l->ev = ev;
        l->text = ev.text ? strdup(ev.text) : NULL;
        l->ev.text = l->text;
        if (ev.msg) {
            l->msg = *ev.msg;
            l->ev.msg = &l->msg;
        }
        *k->waiting_end = l;
        k->waiting_end = &l->next;
        return;
    }
    k->stepping = true;
    step_now(k, &ev);
    while (k->waiting) {
        struct later *l = k->waiting;

        k->waiting = l->next;
        if (!k->waiting)
            k->waiting_end = &k->waiting;
        step_now(k, &l->ev);
        free(l->text);
        free(l);
    }
    k->stepping = false;
    if (k->look) {
        k->look = false;
        progress(k);
    }
    unsigned phase = mu_keeper_report(k->core)->phase;
    if (k->terms && (phase == MU_PHASE_IDLE || phase == MU_PHASE_GONE))
        k->done = true;
    if (k->done)
        event_base_loopbreak(k->base);
    mu_alarm_set(k->core_alarm, mu_keeper_next(k->core));
}

static void on_core_alarm(void *arg)
{
    step(arg, (struct mu_ev){.kind = MU_EV_TIME});
}

/* Tells the core what changed in the slots and in the live view. */
static void progress(struct keeper *k)
{
    const struct mu_m_report *known = mu_keeper_report(k->core);
    struct mu_m_report r = *known;
    bool changed = false;

    if (k->stepping) {
        k->look = true;
        return;
    }
    if (k->attempt && mu_attempt_number(k->attempt) == known->attempt)
        changed = mu_attempt_progress(k->attempt, &r);
    else if (!known->attempt)
        return;
    if (r.ckpt_plus1 < mu_ram_durable_plus1(k->ram)) { /* also what ranks have left */
        r.ckpt_plus1 = mu_ram_durable_plus1(k->ram);
        changed = true;
    }
    changed |= mu_ram_stored(k->ram, &r);
    mu_logs_lost(k->logs, &r);
    r.drained = mu_logs_drained(k->logs);
    if (changed || r.dropped != known->dropped || r.unseen != known->unseen || r.drained != known->drained)
        step(k, (struct mu_ev){.kind = MU_EV_SLOTS, .attempt = known->attempt, .report = &r});
}

/* Live output goes out as long as the agent takes it. */
static void pump(struct keeper *k)
{
    mu_auto_buf struct mu_buf frame = {0};
    struct mu_m_output out;
    uint64_t again = UINT64_MAX;

    while (k->link && mu_link_pending(k->link) < QUEUED_MAX && mu_logs_next(k->logs, mu_now(), &out, &again)) {
        mu_buf_clear(&frame);
        if (mu_msg_encode(&frame, MU_MSG_output, &out) || mu_link_send(k->link, frame.data, frame.len))
            break; /* a link that is going down: all of it comes again */
    }
    mu_alarm_set(k->pump_again, again);
}

static void on_pump_again(void *arg)
{
    pump(arg);
}

/* --- what the attempt tells --------------------------------------------------------------------------------------- */

static void on_spawned(void *arg, int status, uint32_t index, const char *text)
{
    struct keeper *k = arg;

    step(k, (struct mu_ev){.kind = MU_EV_SPAWNED,
                           .job = k->job,
                           .attempt = mu_attempt_number(k->attempt),
                           .index = index,
                           .status = status,
                           .text = text});
    if (!status)
        mu_alarm_set(k->tick, mu_now() + TICK);
}

static void on_ended(void *arg, const struct mu_rank_end *end)
{
    struct keeper *k = arg;

    mu_log(MU_LOG_INFO, "keeper", "local rank %u: wait status 0x%x%s", end->index, (unsigned)end->status,
           end->abnormal ? ", without MPI_Finalize" : "");
    step(k, (struct mu_ev){.kind = MU_EV_CHILD,
                           .job = k->job,
                           .attempt = mu_attempt_number(k->attempt),
                           .index = end->index,
                           .status = end->status,
                           .abnormal = end->abnormal,
                           .aborted = end->aborted,
                           .abort_code = end->abort_code,
                           .blame = end->blame,
                           .vain = end->vain,
                           .text = end->tail});
}

static void on_said(void *arg, const struct mu_msg *m)
{
    struct keeper *k = arg;
    enum mu_ev_kind kind = m->type == MU_MSG_hang ? MU_EV_HANG : MU_EV_MISBOUND;

    step(k, (struct mu_ev){.kind = kind, .job = k->job, .attempt = mu_attempt_number(k->attempt), .msg = m});
}

static void on_output(void *arg)
{
    struct keeper *k = arg;

    pump(k);
    if (mu_logs_drained(k->logs) != (bool)mu_keeper_report(k->core)->drained)
        progress(k);
}

static void on_input_taken(void *arg, uint64_t taken)
{
    struct keeper *k = arg;
    struct mu_m_input_ack ack = {.job = k->job, .taken = taken};

    if (k->link)
        mu_link_send_msg(k->link, MU_MSG_input_ack, &ack);
}

/* --- actions ------------------------------------------------------------------------------------------------------ */

static void do_spawn(struct keeper *k, const struct mu_act *act)
{
    struct mu_attempt_host host = {.base = k->base,
                                   .paths = &k->paths,
                                   .pmix = k->pmix,
                                   .ram = k->ram,
                                   .logs = k->logs,
                                   .feed = k->feed,
                                   .arg = k,
                                   .spawned = on_spawned,
                                   .ended = on_ended,
                                   .output = on_output,
                                   .say = on_said};
    struct mu_err err = {0};
    MU_AUTO_MSG struct mu_msg msg = {0};
    int rc = mu_msg_decode(act->frame.data, act->frame.len, &msg, &err);

    if (!rc) {
        mu_logs_stream(k->logs, msg.start.stream);
        mu_attempt_free(MU_STEAL(k->attempt, NULL));
        rc = mu_attempt_new(&host, &msg.start, &k->attempt, &err);
    }
    if (rc) {
        mu_log(MU_LOG_ERROR, "keeper", "attempt %u: %s", act->attempt, err.text);
        step(k, (struct mu_ev){
                    .kind = MU_EV_SPAWNED, .job = k->job, .attempt = act->attempt, .status = 1, .text = err.text});
    }
    k->look = true;
}

static void on_forget(void *arg)
{
    struct keeper *k = arg;

    mu_attempt_free(MU_STEAL(k->spent, NULL));
}

static void on_clean(void *arg)
{
    struct keeper *k = arg;
    struct mu_err err;

    if (k->attempt && mu_attempt_number(k->attempt) == k->clean_attempt) {
        if (mu_attempt_clean(k->attempt, &err)) {
            uint64_t now = mu_now();
            if (now - k->cleaning_since > 10 * MU_SEC) {
                mu_log(MU_LOG_ERROR, "keeper", "attempt %u cannot be ended: %s", k->clean_attempt, err.text);
                k->cleaning_since = now;
            }
            mu_alarm_set(k->clean_again, now + CLEAN_AGAIN);
            return;
        }
        progress(k); /* the last word on what was lost comes before the end */
        mu_attempt_free(k->spent);
        k->spent = MU_STEAL(k->attempt, NULL); /* freed when that is on its way: it may write files */
        mu_alarm_set(k->forget, mu_now());
        pump(k);
    }
    if (mu_pmix_broken(k->pmix)) {
        mu_log(MU_LOG_ERROR, "keeper", "the PMIx server hangs; ending, the next attempt gets another keeper");
        k->done = true;
        event_base_loopbreak(k->base);
        return;
    }
    k->look = true;
    step(k, (struct mu_ev){.kind = MU_EV_CLEANED, .job = k->job, .attempt = k->clean_attempt});
}

/* Later: the attempt itself may be what called us. */
static void do_clean(struct keeper *k, const struct mu_act *act)
{
    k->clean_attempt = act->attempt;
    k->cleaning_since = mu_now();
    mu_alarm_set(k->clean_again, k->cleaning_since);
}

static void do_send(struct keeper *k, const struct mu_act *act)
{
    if (k->link)
        mu_link_send(k->link, act->frame.data, act->frame.len);
}

static void do_close(struct keeper *k, const struct mu_act *act)
{
    (void)act;
    if (!k->link)
        return;
    mu_link_close_after_flush(MU_STEAL(k->link, NULL));
    k->away_since = mu_now();
    mu_alarm_set(k->dial, k->away_since + REDIAL);
    step(k, (struct mu_ev){.kind = MU_EV_DOWN, .conn = MU_KEEPER_AGENT});
}

static void do_signal(struct keeper *k, const struct mu_act *act)
{
    if (k->attempt)
        mu_attempt_signal(k->attempt, act->index, (int)act->signo);
}

static void do_abort(struct keeper *k, const struct mu_act *act)
{
    if (k->attempt)
        mu_attempt_abort(k->attempt, (uint32_t)act->rank, act->status, act->node);
}

static void do_notice(struct keeper *k, const struct mu_act *act)
{
    if (k->attempt)
        mu_attempt_notice(k->attempt, act->signo);
}

static void do_input(struct keeper *k, const struct mu_act *act)
{
    MU_AUTO_MSG struct mu_msg msg = {0};

    if (!mu_msg_decode(act->frame.data, act->frame.len, &msg, NULL))
        mu_feed_put(k->feed, &msg.input);
}

static void do_stream(struct keeper *k, const struct mu_act *act)
{
    mu_logs_stream(k->logs, act->signo);
    pump(k);
    k->look = true;
}

static void do_ack(struct keeper *k, const struct mu_act *act)
{
    MU_AUTO_MSG struct mu_msg msg = {0};

    if (!mu_msg_decode(act->frame.data, act->frame.len, &msg, NULL))
        mu_logs_ack(k->logs, &msg.output_ack);
    pump(k);
    k->look = true;
}

static void do_fenced(struct keeper *k, const struct mu_act *act)
{
    mu_wired_fenced(k->pmix, act);
}

static void do_modex(struct keeper *k, const struct mu_act *act)
{
    mu_wired_modex(k->pmix, act);
}

static void do_look(struct keeper *k, const struct mu_act *act)
{
    struct mu_msg m = {.type = MU_MSG_hang};

    if (!k->attempt || mu_attempt_number(k->attempt) != act->attempt)
        return;
    mu_attempt_look(k->attempt, act->index, &m.hang);
    on_said(k, &m);
}

/* What the ranks have saved last may still be on its way into the directory. */
static void on_leave(void *arg)
{
    struct keeper *k = arg;

    if (mu_now() < k->leave_until && mu_ram_ending(k->ram)) {
        mu_alarm_set(k->leave, mu_now() + TICK);
        return;
    }
    k->done = true;
    event_base_loopbreak(k->base);
}

static void do_exit(struct keeper *k, const struct mu_act *act)
{
    (void)act;
    k->released = true;
    k->leave_until = mu_now() + DRAIN;
    if (mu_ram_ending(k->ram))
        mu_alarm_set(k->leave, mu_now() + TICK);
    else
        k->done = true;
}

static void run_actions(struct keeper *k)
{
    static void (*const table[])(struct keeper *, const struct mu_act *) = {
        [MU_ACT_SEND] = do_send,     [MU_ACT_CLOSE] = do_close, [MU_ACT_SPAWN] = do_spawn,
        [MU_ACT_SIGNAL] = do_signal, [MU_ACT_CLEAN] = do_clean, [MU_ACT_ABORT] = do_abort,
        [MU_ACT_NOTICE] = do_notice, [MU_ACT_INPUT] = do_input, [MU_ACT_STREAM] = do_stream,
        [MU_ACT_ACK] = do_ack,       [MU_ACT_EXIT] = do_exit,   [MU_ACT_FENCED] = do_fenced,
        [MU_ACT_MODEX] = do_modex,   [MU_ACT_LOOK] = do_look,
    };

    for (size_t i = 0; i < k->acts.n; i++) {
        const struct mu_act *act = &k->acts.v[i];

        if (act->kind < MU_COUNT(table) && table[act->kind])
            table[act->kind](k, act);
    }
}

/* --- the agent ---------------------------------------------------------------------------------------------------- */

static void on_msg(void *arg, struct mu_link *link, const struct mu_msg *msg, const void *frame, size_t len)
{
    struct keeper *k = arg;

    (void)frame, (void)len;
    if (mu_guard_answer(link, msg))
        return;
    if (msg->type == MU_MSG_line) {
        if (msg->line.host && msg->line.port && msg->line.port <= UINT16_MAX)
            mu_line_dial(k->line, msg->line.host, (uint16_t)msg->line.port);
        return;
    }
    if (msg->type == MU_MSG_flight) {
        mu_attempt_flights(k->attempt, &msg->flight, link);
        return;
    }
    step(k, (struct mu_ev){.kind = MU_EV_MSG, .conn = MU_KEEPER_AGENT, .msg = msg});
}

static void on_down(void *arg, struct mu_link *link)
{
    struct keeper *k = arg;

    mu_link_free(link);
    k->link = NULL;
    k->away_since = k->agent_tried = mu_now();
    mu_log(MU_LOG_INFO, "keeper", "the agent is gone");
    mu_alarm_set(k->dial, k->away_since + REDIAL);
    step(k, (struct mu_ev){.kind = MU_EV_DOWN, .conn = MU_KEEPER_AGENT});
}

static void on_dial(void *arg)
{
    struct keeper *k = arg;
    struct mu_err err;
    uint64_t now = mu_now();
    unsigned phase = mu_keeper_report(k->core)->phase;
    int fd;

    if (k->link || k->done)
        return;
    if (!mu_connect_unix(k->paths.run, "agent.sock", &fd, &err)) {
        k->link = mu_link_new(k->base, fd, on_msg, on_down, k);
        if (k->link) {
            mu_link_name(k->link, "agent");
            mu_logs_rewind(k->logs);
            step(k, (struct mu_ev){.kind = MU_EV_UP, .conn = MU_KEEPER_AGENT});
            pump(k);
            return;
        }
    }
    /* told to end, nobody is to be started here any more */
    if (now - k->agent_tried >= (k->agent_tried == k->away_since ? AGENT_AWAY : AGENT_AGAIN) && !k->terms &&
        mu_keeper_start_agent(k->paths.run))
        k->agent_tried = mu_now();
    if (now - k->away_since >= ORPHANED && (phase == MU_PHASE_IDLE || phase == MU_PHASE_GONE)) {
        mu_log(MU_LOG_WARN, "keeper", "no agent and no ranks for %llu s", (unsigned long long)(ORPHANED / MU_SEC));
        k->done = true;
        event_base_loopbreak(k->base);
        return;
    }
    mu_alarm_set(k->dial, now + REDIAL);
}

/* --- what wakes the loop ------------------------------------------------------------------------------------------ */

static void to_core(struct keeper *k, const struct mu_pmix_event *ev)
{
    struct mu_msg msg = {0};

    if (!mu_wired_event(k->pmix, ev, &msg))
        return;
    step(k, (struct mu_ev){.kind = ev->kind == MU_PMIX_FENCE ? MU_EV_FENCE : MU_EV_MODEX,
                           .job = k->job,
                           .attempt = ev->attempt,
                           .msg = &msg});
}

/* Never while the core steps: what it is told here is borrowed. */
static void take_pmix(struct keeper *k)
{
    struct mu_pmix_event ev;

    while (mu_pmix_next(k->pmix, &ev)) {
        if (ev.kind == MU_PMIX_FENCE || ev.kind == MU_PMIX_MODEX)
            to_core(k, &ev);
        else if (k->attempt)
            mu_attempt_pmix(k->attempt, &ev);
        mu_pmix_event_free(&ev);
    }
}

static void on_tick(void *arg)
{
    struct keeper *k = arg;
    uint64_t now = mu_now();
    struct mu_msg m = {.type = MU_MSG_hang};

    take_pmix(k);
    mu_ram_tick(k->ram);
    if (!k->attempt)
        return;
    mu_attempt_inspect(k->attempt);
    progress(k);
    if (k->attempt && mu_attempt_watch(k->attempt, &m.hang))
        on_said(k, &m);
    mu_alarm_set(k->tick, now + TICK);
}

static void on_pmix(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what;
    take_pmix(arg);
}

/* Also reaps orphans of ranks: we are their reaper. */
static void reap(struct keeper *k)
{
    bool any = false;
    int status;
    pid_t pid;

    /* Whether a rank had finalised must be known before its end is judged. */
    take_pmix(k);
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
        any |= !mu_ram_reap(k->ram, pid, status) && k->attempt && mu_attempt_reap(k->attempt, pid, status);
    if (any) {
        take_pmix(k);
        progress(k);
        mu_attempt_deliver(k->attempt);
    }
}

static void end_ranks(struct keeper *k)
{
    struct mu_msg msg = {.type = MU_MSG_kill,
                         .kill = {.job = k->job,
                                  .attempt = mu_keeper_attempt(k->core),
                                  .signo = k->terms++ ? SIGKILL : SIGTERM,
                                  .grace_ns = GRACE}};

    mu_log(MU_LOG_INFO, "keeper", "told to end");
    step(k, (struct mu_ev){.kind = MU_EV_MSG, .conn = MU_KEEPER_AGENT, .msg = &msg});
}

static void on_signal(evutil_socket_t fd, short what, void *arg)
{
    struct keeper *k = arg;
    struct signalfd_siginfo si;
    bool children = false;

    (void)what;
    while (read(fd, &si, sizeof si) == sizeof si) {
        if (si.ssi_signo == SIGCHLD)
            children = true;
        else if (si.ssi_signo == SIGTERM || si.ssi_signo == SIGINT)
            end_ranks(k);
    }
    if (children)
        reap(k);
}

/* --- start and end ------------------------------------------------------------------------------------------------ */

static int open_pmix(struct keeper *k, struct mu_err *err)
{
    int n = snprintf(k->dir, sizeof k->dir, "%s/k%llu", k->paths.run, (unsigned long long)k->job);

    if (n < 0 || (size_t)n >= sizeof k->dir)
        return mu_err_set(err, MUSTER_EARG, "the path of the run directory is too long");
    mu_path_remove_tree(k->dir, NULL);
    if (mkdir(k->dir, 0700) < 0)
        return mu_err_errno(err, 0, "cannot make %s", k->dir);
    return mu_pmix_init(k->dir, &k->pmix, err);
}

static int on_lost(void *arg)
{
    struct keeper *k = arg;

    *k->lock = mu_keeper_lock_again(k->job, *k->lock);
    mkdir(k->dir, 0700);
    return *k->lock;
}

static int open_all(struct keeper *k, struct mu_err *err)
{
    struct mu_keeper_config cfg = {.job = k->job, .node = k->node, .pid = (uint32_t)getpid()};
    char name[48];
    sigset_t taken;
    int rc;

    mu_keeper_block(&taken); /* before PMIx makes its threads */
    k->sigfd = signalfd(-1, &taken, SFD_CLOEXEC | SFD_NONBLOCK);
    if (k->sigfd < 0)
        return mu_err_errno(err, 0, "signalfd");
    if (prctl(PR_SET_CHILD_SUBREAPER, 1) < 0)
        return mu_err_errno(err, 0, "cannot become the reaper of the ranks' children");
    if ((rc = open_pmix(k, err)))
        return rc;
    k->base = mu_loop_new();
    k->core = mu_keeper_new(&cfg);
    k->logs = mu_logs_new(k->job);
    if (!k->base || !k->core || !k->logs)
        goto nomem;
    snprintf(name, sizeof name, "keeper.%llu.lock", (unsigned long long)k->job);
    k->hold = mu_hold_new(k->base, k->paths.run, name, *k->lock, 0, on_lost, k);
    k->ram = mu_ram_new();
    k->feed = mu_feed_new(k->base, on_input_taken, k);
    k->line = mu_line_new(k->base, &k->paths, k->job, k->node);
    k->core_alarm = mu_alarm_new(k->base, on_core_alarm, k);
    k->tick = mu_alarm_new(k->base, on_tick, k);
    k->dial = mu_alarm_new(k->base, on_dial, k);
    k->clean_again = mu_alarm_new(k->base, on_clean, k);
    k->forget = mu_alarm_new(k->base, on_forget, k);
    k->pump_again = mu_alarm_new(k->base, on_pump_again, k);
    k->leave = mu_alarm_new(k->base, on_leave, k);
    k->on_sig = event_new(k->base, k->sigfd, EV_READ | EV_PERSIST, on_signal, k);
    k->on_pmix = event_new(k->base, mu_pmix_fd(k->pmix), EV_READ | EV_PERSIST, on_pmix, k);
    if (!k->hold || !k->feed || !k->line || !k->core_alarm || !k->tick || !k->dial || !k->clean_again || !k->forget ||
        !k->pump_again || !k->leave || !k->on_sig || !k->on_pmix || event_add(k->on_sig, NULL) ||
        event_add(k->on_pmix, NULL))
        goto nomem;
    return 0;
nomem:
    return mu_err_set(err, MUSTER_ENOMEM, "out of memory");
}

/* The last messages; bounded. */
static void say_goodbye(struct keeper *k)
{
    uint64_t until = mu_now() + FLUSH;

    if (k->link)
        mu_link_close_after_flush(MU_STEAL(k->link, NULL));
    while (mu_link_flushing() && mu_now() < until) {
        struct timeval t = {.tv_usec = 10000};
        event_base_loopexit(k->base, &t);
        event_base_dispatch(k->base);
    }
}

static void free_event(struct event *ev)
{
    if (ev)
        event_free(ev);
}

static void close_all(struct keeper *k)
{
    mu_attempt_free(k->attempt);
    mu_attempt_free(k->spent);
    mu_link_free(k->link);
    mu_alarm_free(k->core_alarm);
    mu_alarm_free(k->tick);
    mu_alarm_free(k->dial);
    mu_alarm_free(k->clean_again);
    mu_alarm_free(k->forget);
    mu_alarm_free(k->pump_again);
    mu_alarm_free(k->leave);
    mu_hold_free(k->hold);
    free_event(k->on_sig);
    free_event(k->on_pmix);
    mu_line_free(k->line);
    mu_feed_free(k->feed);
    mu_logs_free(k->logs);
    mu_ram_free(k->ram);
    mu_keeper_free(k->core);
    mu_acts_free(&k->acts);
    mu_pmix_free(k->pmix);
    while (k->waiting) {
        struct later *l = k->waiting;
        k->waiting = l->next;
        free(l->text);
        free(l);
    }
    if (k->base)
        event_base_free(k->base);
    if (k->sigfd >= 0)
        close(k->sigfd);
    if (*k->dir)
        mu_path_remove_tree(k->dir, NULL);
}

int mu_keeper_run(uint64_t job, const char *node, const struct mu_paths *paths, int *lock, bool *released,
                  struct mu_err *err)
{
    struct keeper keeper = {.job = job, .paths = *paths, .node = node, .lock = lock, .sigfd = -1}, *k = &keeper;
    int rc;

    k->waiting_end = &k->waiting;
    rc = open_all(k, err);

    if (!rc) {
        mu_log(MU_LOG_INFO, "keeper", "keeper %ld of job %llu", (long)getpid(), (unsigned long long)k->job);
        k->away_since = k->agent_tried = mu_now();
        on_dial(k);
        while (!k->done && event_base_dispatch(k->base) == 0 && !k->done)
            ;
        say_goodbye(k);
        mu_log(MU_LOG_INFO, "keeper", "keeper ends");
    }
    close_all(k);
    *released = k->released;
    return rc;
}
