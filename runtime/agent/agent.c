#include "runtime/agent/agent.h"

#include <event2/event.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/agent/checkup.h"
#include "runtime/agent/core.h"
#include "runtime/agent/keepers.h"
#include "runtime/agent/plan.h"
#include "runtime/agent/revive.h"
#include "runtime/agent/start.h"
#include "runtime/agent/vitals.h"
#include "runtime/agent/way.h"
#include "runtime/base/clean.h"
#include "runtime/base/clock.h"
#include "runtime/base/log.h"
#include "runtime/base/str.h"
#include "runtime/wire/daemon.h"
#include "runtime/wire/exe.h"
#include "runtime/wire/guard.h"
#include "runtime/wire/hold.h"
#include "runtime/wire/link.h"
#include "runtime/wire/pulse.h"
#include "topo/sysfs.h"

#define ADOPT_WAIT (2 * MU_SEC)
#define KEEPER_END (10 * MU_SEC)
#define LONELY (2 * MU_SEC)
#define LONELY_JOINED (60 * MU_SEC) /* the controller may be restarting on its host */
#define CTL_AWAY (150 * MU_MS)      /* then a local agent starts a controller */
#define CLEAN_EVERY (200 * MU_MS)
#define REFUSED (500 * MU_MS) /* a controller that refuses our node says so by then */
#define FLUSH_NS (2 * MU_SEC)

struct conn { /* a keeper's */
    struct agent *agent;
    struct mu_link *link;
    mu_conn id;
    int pid;
    struct mu_guard *guard;
    bool closing;
    struct conn *next;
};

struct pending { /* an answer that an action has for the core */
    enum mu_ev_kind kind;
    mu_conn conn;
    uint64_t job;
    pid_t pid;
    int status;
    char text[200];
    struct pending *next;
};

struct clean { /* a removal that is not done yet */
    uint64_t job, since;
    bool told;
    struct clean *next;
};

struct agent {
    struct mu_agent_start start;
    struct event_base *base;
    struct mu_agent *core;
    struct mu_acts acts;
    struct mu_keepers *keepers;
    struct mu_plan *plan;
    struct mu_checkup *checkup;
    struct mu_vitals *vitals;
    struct mu_listener *listener;
    struct event *sigchld, *sigterm, *sigint, *sighup;
    struct mu_alarm *alarm, *join_alarm, *cleaner;
    struct conn *conns;
    struct pending *pending, **pending_tail;
    struct clean *cleans;
    mu_conn last_id;
    struct mu_way *ctl;
    struct mu_err unreachable; /* why the controller could not be reached, newest */
    struct mu_revive revive;
    struct mu_hold *hold;
    int lock;
    bool lost; /* the run directory */
    bool ctl_closing, ending, by_core;
    bool kept;    /* how we joined is on the disk */
    bool welcome; /* the controller has let us in; it may still refuse our node */
    pid_t frozen; /* the keeper that was killed for it last */
    char boot[64];
    char **guids;
};

/* --- stepping ---------------------------------------------------------------------------------------------------- */

/* Without memory for it the core would never hear of something and hold the job for ever; the next agent finds out
 * anew. */
static void *must_have(size_t size)
{
    void *p = calloc(1, size);

    if (!p) {
        mu_log(MU_LOG_ERROR, "agent", "out of memory; ending, the next agent takes over");
        _exit(1);
    }
    return p;
}

static struct pending *later(struct agent *a, enum mu_ev_kind kind, uint64_t job)
{
    struct pending *p = must_have(sizeof *p);

    p->kind = kind;
    p->job = job;
    *a->pending_tail = p;
    a->pending_tail = &p->next;
    return p;
}

static void run_clean(struct agent *a, uint64_t job, const char *why)
{
    struct mu_err err;

    if (*why)
        mu_log(MU_LOG_WARN, "agent", "job %llu: %s; killing it", (unsigned long long)job, why);
    if (!mu_keepers_clean(a->keepers, job, &err)) {
        mu_plan_release(a->plan, job);
        later(a, MU_EV_CLEANED, job);
        return;
    }
    mu_log(MU_LOG_WARN, "agent", "job %llu: %s; trying again", (unsigned long long)job, err.text);
    struct clean *c = must_have(sizeof *c);
    *c = (struct clean){.job = job, .since = mu_now(), .next = a->cleans};
    a->cleans = c;
    mu_alarm_set(a->cleaner, mu_now() + CLEAN_EVERY);
}

static void run_spawn(struct agent *a, uint64_t job)
{
    struct mu_err err = {0};
    pid_t pid = 0;
    int rc = mu_keepers_spawn(a->keepers, job, &pid, &err);
    struct pending *p = later(a, MU_EV_SPAWNED, job);

    p->pid = pid;
    p->status = rc;
    if (rc) {
        snprintf(p->text, sizeof p->text, "%.190s", err.text);
        mu_log(MU_LOG_ERROR, "agent", "job %llu: %s", (unsigned long long)job, err.text);
    } else {
        mu_log(MU_LOG_INFO, "agent", "job %llu: keeper %d started", (unsigned long long)job, (int)pid);
    }
}

static struct conn *conn_of(struct agent *a, mu_conn id)
{
    for (struct conn *k = a->conns; k; k = k->next)
        if (k->id == id)
            return k;
    return NULL;
}

static void run_send(struct agent *a, const struct mu_act *act)
{
    bool ctl = act->conn == MU_AGENT_CTL;
    struct conn *k = ctl ? NULL : conn_of(a, act->conn);

    if (ctl ? a->ctl_closing : !k || k->closing)
        return;
    int rc = ctl ? mu_way_send(a->ctl, act->frame.data, act->frame.len)
                 : mu_link_send(k->link, act->frame.data, act->frame.len);
    if (rc != MUSTER_ENOMEM)
        return;
    /* A gap in the stream would go unnoticed; a new connection starts from the beginning. */
    mu_log(MU_LOG_ERROR, "agent", "out of memory: closing a connection");
    if (k)
        k->closing = true;
    else
        a->ctl_closing = true;
    later(a, MU_EV_DOWN, 0)->conn = act->conn;
}

static void run_close(struct agent *a, mu_conn id)
{
    struct conn *k = conn_of(a, id);

    if (id == MU_AGENT_CTL ? a->ctl_closing : !k || k->closing)
        return;
    if (k)
        k->closing = true;
    else
        a->ctl_closing = true;
    later(a, MU_EV_DOWN, 0)->conn = id;
}

static void end(struct agent *a)
{
    a->ending = true;
    event_base_loopbreak(a->base);
}

static void run_check(struct agent *a, const struct mu_act *act)
{
    MU_AUTO_MSG struct mu_msg m = {0};

    /* without it the run has no limit, and ends as one that hangs */
    mu_msg_decode(act->frame.data, act->frame.len, &m, NULL);
    mu_checkup_start(a->checkup, &m.check);
}

static void carry_out(struct agent *a)
{
    for (size_t i = 0; i < a->acts.n; i++) {
        const struct mu_act *act = &a->acts.v[i];
        switch (act->kind) {
        case MU_ACT_SEND:
            run_send(a, act);
            break;
        case MU_ACT_CLOSE:
            run_close(a, act->conn);
            break;
        case MU_ACT_SPAWN:
            run_spawn(a, act->job);
            break;
        case MU_ACT_CLEAN:
            run_clean(a, act->job, act->detail);
            break;
        case MU_ACT_FORGET:
            mu_keepers_forget(a->keepers, act->job);
            break;
        case MU_ACT_CHECK:
            run_check(a, act);
            break;
        case MU_ACT_EXIT:
            a->by_core = true;
            end(a);
            break;
        default:
            break;
        }
    }
    if (a->acts.failed)
        mu_log(MU_LOG_ERROR, "agent", "out of memory: an action was lost");
    mu_acts_clear(&a->acts);
}

static void step_once(struct agent *a, struct mu_ev *ev)
{
    ev->now = mu_now();
    ev->wall = mu_wall();
    mu_agent_step(a->core, ev, &a->acts);
    carry_out(a);
}

static void drop_conn(struct agent *a, struct conn *k)
{
    for (struct conn **at = &a->conns; *at; at = &(*at)->next) {
        if (*at == k) {
            *at = k->next;
            break;
        }
    }
    mu_guard_free(k->guard);
    free(k);
}

/* Carries a connection that the core closed to its end. */
static void finish_close(struct agent *a, mu_conn id)
{
    struct conn *k = conn_of(a, id);

    if (id == MU_AGENT_CTL) {
        mu_way_hang_up(a->ctl);
        a->ctl_closing = false;
    } else if (k) {
        mu_guard_free(MU_STEAL(k->guard, NULL));
        mu_link_close_after_flush(k->link);
        drop_conn(a, k);
    }
}

static void step(struct agent *a, struct mu_ev *ev)
{
    step_once(a, ev);
    while (a->pending) {
        struct pending *p = a->pending;
        a->pending = p->next;
        if (!a->pending)
            a->pending_tail = &a->pending;
        if (p->kind == MU_EV_DOWN)
            finish_close(a, p->conn);
        struct mu_ev answer = {.kind = p->kind,
                               .conn = p->conn,
                               .job = p->job,
                               .pid = (uint32_t)p->pid,
                               .status = p->status,
                               .text = p->text};
        step_once(a, &answer);
        free(p);
    }
    mu_alarm_set(a->alarm, mu_agent_next(a->core));
}

static void on_alarm(void *arg)
{
    step(arg, &(struct mu_ev){.kind = MU_EV_TIME});
}

static void on_cleaner(void *arg)
{
    struct agent *a = arg;
    struct clean *all = MU_STEAL(a->cleans, NULL);
    uint64_t now = mu_now();
    struct mu_err err;
    bool done = false;

    while (all) {
        struct clean *c = all;
        all = c->next;
        if (!mu_keepers_clean(a->keepers, c->job, &err)) {
            mu_plan_release(a->plan, c->job);
            later(a, MU_EV_CLEANED, c->job);
            free(c);
            done = true;
            continue;
        }
        if (!c->told && now - c->since > 10 * MU_SEC) {
            c->told = true;
            mu_log(MU_LOG_ERROR, "agent", "job %llu: %s, for 10 s now", (unsigned long long)c->job, err.text);
        }
        c->next = a->cleans;
        a->cleans = c;
    }
    if (a->cleans)
        mu_alarm_set(a->cleaner, now + CLEAN_EVERY);
    if (done)
        step(a, &(struct mu_ev){.kind = MU_EV_TIME});
}

/* --- keepers ----------------------------------------------------------------------------------------------------- */

/* Keepers keep a line of their own to a controller on another host. */
static void tell_line(struct agent *a, struct mu_link *keeper)
{
    struct mu_m_line m = {.host = (char *)(uintptr_t)mu_way_ctl_host(a->ctl), .port = a->start.join.port};

    if (a->start.join.n && *m.host)
        mu_link_send_msg(keeper, MU_MSG_line, &m);
}

static void on_frozen(void *arg, pid_t pid)
{
    ((struct agent *)arg)->frozen = pid;
}

static void on_keeper_msg(void *arg, struct mu_link *link, const struct mu_msg *msg, const void *frame, size_t len)
{
    struct conn *k = arg;
    struct agent *a = k->agent;

    (void)frame, (void)len;
    if (k->closing || a->ending || mu_guard_take(k->guard, msg))
        return;
    if (msg->type == MU_MSG_hello) {
        char name[48];
        if (!msg->hello.role || strcmp(msg->hello.role, "keeper") || msg->hello.proto != MU_WIRE_VERSION) {
            mu_log(MU_LOG_WARN, "agent", "pid %d is no keeper of this version; closing", k->pid);
            k->closing = true;
            later(a, MU_EV_DOWN, 0)->conn = k->id;
            step(a, &(struct mu_ev){.kind = MU_EV_TIME});
            return;
        }
        snprintf(name, sizeof name, "keeper of job %llu (pid %d)", (unsigned long long)msg->hello.job, k->pid);
        mu_link_name(link, name);
        mu_plan_adopt(a->plan, msg->hello.job);
        if (k->pid > 0)
            mu_keepers_watch(a->keepers, msg->hello.job, k->pid);
        if (!k->guard)
            k->guard = mu_guard_new(a->base, link, name, k->pid, MU_PULSE_STOPPED, on_frozen, a);
        tell_line(a, link);
    }
    step(a, &(struct mu_ev){.kind = MU_EV_MSG, .conn = k->id, .msg = msg});
}

static void on_keeper_down(void *arg, struct mu_link *link)
{
    struct conn *k = arg;
    struct agent *a = k->agent;
    mu_conn id = k->id;

    if (a->ending)
        return;
    drop_conn(a, k);
    mu_link_free(link);
    step(a, &(struct mu_ev){.kind = MU_EV_DOWN, .conn = id});
}

static void on_accept(void *arg, int fd, int pid)
{
    struct agent *a = arg;
    struct conn *k = calloc(1, sizeof *k);

    if (!k) {
        close(fd);
        return;
    }
    *k = (struct conn){.agent = a, .id = ++a->last_id, .pid = pid, .next = a->conns};
    k->link = mu_link_new(a->base, fd, on_keeper_msg, on_keeper_down, k);
    if (!k->link) {
        free(k);
        return;
    }
    a->conns = k;
    step(a, &(struct mu_ev){.kind = MU_EV_UP, .conn = k->id});
}

static void on_keeper_dead(void *arg, uint64_t job, pid_t pid)
{
    struct agent *a = arg;

    mu_log(MU_LOG_DEBUG, "agent", "job %llu: keeper %d has ended", (unsigned long long)job, (int)pid);
    step(a,
         &(struct mu_ev){.kind = MU_EV_CHILD,
                         .job = job,
                         .pid = (uint32_t)pid,
                         .text = pid == a->frozen ? "its keeper was frozen and has been killed" : "its keeper died"});
}

static void on_keeper_found(void *arg, uint64_t job, pid_t pid)
{
    struct agent *a = arg;

    if (pid) {
        mu_log(MU_LOG_INFO, "agent", "job %llu: keeper %d lives", (unsigned long long)job, (int)pid);
        mu_plan_adopt(a->plan, job);
    } else {
        mu_log(MU_LOG_WARN, "agent", "job %llu: its keeper is dead", (unsigned long long)job);
    }
    step_once(a, &(struct mu_ev){.kind = MU_EV_LOAD, .job = job, .pid = (uint32_t)pid});
}

static void on_checked(void *arg, const struct mu_m_checked *rows)
{
    struct agent *a = arg;
    struct mu_msg m = {.type = MU_MSG_checked, .checked = *rows};

    if (!a->ending)
        step(a, &(struct mu_ev){.kind = MU_EV_CHECKED, .msg = &m});
}

static void on_plan(void *arg, struct mu_m_start *start)
{
    mu_plan_start(arg, start);
}

/* --- the controller ---------------------------------------------------------------------------------------------- */

/* Tells whoever waits for us to join. */
static void joined(struct agent *a, int code, const char *text)
{
    mu_alarm_set(a->join_alarm, UINT64_MAX);
    if (a->start.joined_fd < 0)
        return;
    mu_daemon_ready(&a->start.joined_fd, code, text);
    if (code)
        end(a);
}

/* Whoever follows us on this host needs to know how we came here. */
static void welcomed(struct agent *a)
{
    struct mu_err err = {0};
    int rc = a->kept ? 0 : mu_join_save(&a->start.paths, &a->start.join, &err);

    a->kept = !rc;
    if (rc)
        mu_log(MU_LOG_ERROR, "agent", "%s; an agent that follows this one will not find the controller", err.text);
    if (!a->welcome && a->start.joined_fd >= 0)
        mu_alarm_set(a->join_alarm, mu_now() + REFUSED);
    a->welcome = true;
}

static void on_join_alarm(void *arg)
{
    struct agent *a = arg;

    if (a->welcome) {
        joined(a, 0, NULL);
        return;
    }
    if (a->unreachable.text[0])
        mu_err_prefix(&a->unreachable, "the controller is not reached from here, tried for %u s",
                      MU_AGENT_JOIN_MS / 1000);
    joined(a, 1, a->unreachable.text[0] ? a->unreachable.text : "the controller does not answer");
}

static void on_ctl_direct(void *arg)
{
    struct agent *a = arg;

    a->revive.tried = 0;
    for (struct conn *k = a->conns; k; k = k->next)
        tell_line(a, k->link);
}

static void on_ctl_event(void *arg, struct mu_ev *ev)
{
    struct agent *a = arg;

    if (ev->kind == MU_EV_DOWN)
        a->ctl_closing = false;
    if (!a->ending)
        step(a, ev);
}

static bool on_ctl_msg(void *arg, const struct mu_msg *msg)
{
    struct agent *a = arg;

    if (a->ending || a->ctl_closing)
        return false;
    if (msg->type == MU_MSG_welcome && a->start.join.n)
        welcomed(a);
    bool removed = msg->type == MU_MSG_bye && msg->bye.reason;
    if (removed)
        mu_log(MU_LOG_WARN, "agent", "this host has been removed from the pool");
    if (msg->type == MU_MSG_parent || msg->type == MU_MSG_bye)
        joined(a, removed, "this host was just removed from the pool; try again in a minute");
    if (msg->type == MU_MSG_error) {
        mu_log(MU_LOG_ERROR, "agent", "the controller says: %s", msg->error.text ? msg->error.text : "?");
        joined(a, 1, msg->error.text ? msg->error.text : "the controller refuses this agent");
    }
    /* a pool that idles comes back; whoever started us by hand ends us */
    return msg->type != MU_MSG_bye || !a->start.join.stay || removed;
}

static void on_ctl_failed(void *arg, uint64_t away_since, const struct mu_err *err)
{
    struct agent *a = arg;
    uint64_t now = mu_now();

    a->unreachable = *err;
    /* these do not become right by waiting */
    if (a->start.join.n && (err->code == MUSTER_EARG || err->code == MUSTER_EVERSION))
        joined(a, 1, err->text);
    if (a->start.local && mu_agent_abandoned(a->core) && now - away_since >= CTL_AWAY)
        mu_revive(&a->revive, mu_agent_keepers(a->core));
}

static int open_way(struct agent *a, struct mu_err *err)
{
    struct mu_way_config cfg = {.run = a->start.paths.run,
                                .join = a->start.join.n ? &a->start.join : NULL,
                                .core = a->core,
                                .event = on_ctl_event,
                                .direct = on_ctl_direct,
                                .msg = on_ctl_msg,
                                .failed = on_ctl_failed,
                                .arg = a};

    if (cfg.join)
        mu_alarm_set(a->join_alarm, mu_now() + MU_AGENT_JOIN_MS * MU_MS);
    return mu_way_new(a->base, &cfg, &a->ctl, err);
}

/* --- process ----------------------------------------------------------------------------------------------------- */

static void on_sigchld(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what, (void)arg;
    /* orphans that came to us; keepers are noticed by their own watch */
    while (waitpid(-1, NULL, WNOHANG) > 0)
        ;
}

static void on_term(evutil_socket_t sig, short what, void *arg)
{
    (void)what;
    mu_log(MU_LOG_INFO, "agent", "%s: ending; keepers run on", strsignal((int)sig));
    end(arg);
}

/* Another way to the controller was written down: `muster agent --join` was asked for here once more. */
static void on_hup(evutil_socket_t sig, short what, void *arg)
{
    struct agent *a = arg;
    struct mu_join j = {0};
    struct mu_err err;

    (void)sig, (void)what;
    if (!a->start.join.n)
        return;
    if (mu_join_load(&a->start.paths, &j, &err)) {
        mu_log(MU_LOG_WARN, "agent", "%s", err.text);
        return;
    }
    /* The key is that of the connection; another one is another pool. */
    memcpy(a->start.join.hosts, j.hosts, sizeof j.hosts);
    a->start.join.n = j.n;
    a->start.join.port = j.port;
    mu_key_wipe(&j.key);
    mu_way_redial(a->ctl);
}

static struct event *on_signal(struct agent *a, int sig, event_callback_fn fn)
{
    struct event *ev = evsignal_new(a->base, sig, fn, a);

    if (ev && event_add(ev, NULL)) {
        event_free(ev);
        return NULL;
    }
    return ev;
}

static void read_boot_id(struct agent *a)
{
    mu_auto_buf struct mu_buf b = {0};

    if (!mu_path_read("/proc/sys/kernel/random/boot_id", 256, &b, NULL))
        snprintf(a->boot, sizeof a->boot, "%.*s", (int)strcspn(mu_buf_str(&b), "\n"), mu_buf_str(&b));
}

/* Nobody finds us any more: keepers start another one, as after any death of ours. */
static int on_lost(void *arg)
{
    struct agent *a = arg;

    mu_log(MU_LOG_ERROR, "agent", "%s was removed while the pool runs: another agent has to take over",
           a->start.paths.run);
    a->ending = a->lost = true;
    event_base_loopbreak(a->base);
    return -1;
}

static int set_up(struct agent *a, struct mu_err *err)
{
    struct mu_plan_node node;

    int rc = mu_agent_lock(&a->start, &a->lock, err);
    if (rc || (rc = mu_exe_alike(a->start.paths.run, err)) ||
        (rc = mu_daemon_setup(&a->start.paths, "agent", a->start.foreground, err)))
        return rc;
    mu_daemon_sweep(&a->start.paths);
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    a->base = mu_loop_new();
    a->plan = mu_plan_new(a->start.paths.run);
    if (!a->base || !a->plan)
        return mu_err_set(err, MUSTER_ENOMEM, "out of memory");
    mu_plan_node(a->plan, &node);
    read_boot_id(a);
    if (mu_sysfs_ib_guids("", &a->guids))
        return mu_err_set(err, MUSTER_ENOMEM, "out of memory");
    struct mu_agent_config cfg = {.node = a->start.join.n ? a->start.join.node : a->start.paths.host,
                                  .slots = a->start.slots ? (uint32_t)a->start.slots : node.slots,
                                  .pus = node.pus,
                                  .numa = node.numa,
                                  .gpus = node.gpus,
                                  .guids = a->guids,
                                  .pid = (uint32_t)getpid(),
                                  .memory = node.memory,
                                  .boot = a->boot,
                                  .incarnation = mu_now(),
                                  .adopt_wait_ns = ADOPT_WAIT,
                                  .end_ns = KEEPER_END,
                                  .owner = a->start.join.owner,
                                  .joined = a->start.join.n > 0,
                                  .lonely_ns = a->start.join.stay ? 0
                                               : a->start.join.n  ? LONELY_JOINED
                                                                  : LONELY};
    a->core = mu_agent_new(&cfg);
    a->keepers = mu_keepers_new(a->base, &a->start.paths, cfg.node, on_keeper_dead, a);
    a->sigchld = on_signal(a, SIGCHLD, on_sigchld);
    a->sigterm = on_signal(a, SIGTERM, on_term);
    a->sigint = on_signal(a, SIGINT, on_term);
    a->sighup = on_signal(a, SIGHUP, on_hup);
    a->alarm = mu_alarm_new(a->base, on_alarm, a);
    a->join_alarm = mu_alarm_new(a->base, on_join_alarm, a);
    a->cleaner = mu_alarm_new(a->base, on_cleaner, a);
    a->hold = mu_hold_new(a->base, a->start.paths.run, "agent.lock", a->lock, MU_HOLD_PATIENCE, on_lost, a);
    a->checkup = mu_checkup_new(a->base, on_checked, a);
    a->vitals = mu_vitals_new(a->base, &a->start.paths, &a->ctl);
    if (!a->hold || !a->core || !a->keepers || !a->sigchld || !a->sigterm || !a->sigint || !a->sighup || !a->alarm ||
        !a->join_alarm || !a->cleaner || !a->checkup || !a->vitals)
        return mu_err_set(err, MUSTER_ENOMEM, "out of memory");
    a->revive.base = a->base;
    a->revive.run = a->start.paths.run;
    mu_agent_set_plan(a->core, on_plan, a->plan);
    mu_keepers_adopt(a->keepers, on_keeper_found, a);
    rc = mu_listen_unix(a->base, a->start.paths.run, "agent.sock", on_accept, a, &a->listener, err);
    if (rc || (rc = open_way(a, err)))
        return rc;
    mu_log(MU_LOG_INFO, "agent", "version %s, pid %d, node %s, %u slots", MUSTER_VERSION, (int)getpid(), cfg.node,
           cfg.slots);
    step(a, &(struct mu_ev){.kind = MU_EV_LOADED});
    return 0;
}

static void leave(struct agent *a)
{
    uint64_t deadline = mu_now() + FLUSH_NS;
    char path[PATH_MAX];

    mu_listener_free(MU_STEAL(a->listener, NULL));
    if (!mu_path_join(path, sizeof path, a->start.paths.run, "agent.sock", NULL))
        unlink(path);
    mu_way_leave(a->ctl);
    mu_checkup_free(MU_STEAL(a->checkup, NULL)); /* it looks into the directory that goes */
    for (struct conn *k = a->conns; k; k = k->next) {
        mu_guard_free(MU_STEAL(k->guard, NULL));
        mu_link_close_after_flush(MU_STEAL(k->link, NULL));
    }
    while (mu_link_flushing() && mu_now() < deadline) {
        struct timeval slice = {.tv_usec = 10000};
        event_base_loopexit(a->base, &slice);
        event_base_loop(a->base, EVLOOP_ONCE);
    }
    mu_revive_stop(&a->revive); /* its lock would be in the way */
    if (a->start.join.n && a->by_core)
        mu_join_forget(&a->start.paths);
    /* Of keepers that are dead the next agent must know; this host's own controller would not know the attempts either
     * once it is gone, too. */
    if (!a->start.join.n || a->by_core || !mu_agent_keepers(a->core) || getenv(MU_PATHS_STEP))
        mu_daemon_leave(&a->start.paths, &a->lock);
}

static void tear_down(struct agent *a)
{
    struct event *events[] = {a->sigchld, a->sigterm, a->sigint, a->sighup};

    mu_revive_stop(&a->revive);
    mu_listener_free(a->listener);
    mu_way_free(a->ctl);
    mu_key_wipe(&a->start.join.key);
    while (a->conns) {
        mu_link_free(a->conns->link);
        drop_conn(a, a->conns);
    }
    for (struct clean *c = a->cleans, *next; c; c = next) {
        next = c->next;
        free(c);
    }
    mu_checkup_free(a->checkup);
    mu_vitals_free(a->vitals);
    mu_keepers_free(a->keepers);
    mu_agent_free(a->core);
    mu_acts_free(&a->acts);
    mu_plan_free(a->plan);
    mu_strv_free(a->guids);
    mu_alarm_free(a->alarm);
    mu_alarm_free(a->join_alarm);
    mu_alarm_free(a->cleaner);
    mu_hold_free(a->hold);
    for (size_t i = 0; i < MU_COUNT(events); i++)
        if (events[i])
            event_free(events[i]);
    if (a->base)
        event_base_free(a->base);
    if (a->lock >= 0)
        close(a->lock);
}

static int refuse(struct agent *a, const char *text)
{
    if (a->start.joined_fd < 0 && !mu_log_on(MU_LOG_ERROR, "agent"))
        fprintf(stderr, "muster agent: %s\n", text);
    mu_log(MU_LOG_ERROR, "agent", "%s", text);
    mu_daemon_ready(&a->start.joined_fd, 2, text);
    return 2;
}

int mu_agent_main(int argc, char **argv)
{
    struct agent a = {.lock = -1, .revive = MU_REVIVE_INIT, .last_id = MU_AGENT_CTL};
    struct mu_err err = {0};
    int code = 0, rc = mu_agent_start(argc, argv, &a.start, &code, &err);

    a.pending_tail = &a.pending;
    if (rc == 1)
        return code;
    if (rc || (rc = set_up(&a, &err)) < 0) {
        code = refuse(&a, err.text);
    } else if (rc > 0) {
        mu_daemon_ready(&a.start.joined_fd, 0, NULL);
    } else {
        while (!a.ending && event_base_loop(a.base, EVLOOP_NO_EXIT_ON_EMPTY) >= 0)
            ;
        if (a.lost)
            code = 1;
        else
            leave(&a);
        mu_log(MU_LOG_INFO, "agent", "ended");
    }
    tear_down(&a);
    mu_log_close();
    return code;
}
