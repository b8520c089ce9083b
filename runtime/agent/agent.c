#include "runtime/agent/agent.h"

#include <event2/event.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/agent/core.h"
#include "runtime/agent/keepers.h"
#include "runtime/agent/plan.h"
#include "runtime/base/clean.h"
#include "runtime/base/clock.h"
#include "runtime/base/log.h"
#include "runtime/base/opt.h"
#include "runtime/wire/daemon.h"
#include "runtime/wire/link.h"

#define ADOPT_WAIT (2 * MU_SEC)
#define LONELY (2 * MU_SEC)
#define DIAL_EVERY (50 * MU_MS)
#define DIAL_SLOW (1 * MU_SEC) /* after a connection that was cut at once: the two do not understand each other */
#define CTL_AWAY (300 * MU_MS) /* then a local agent starts a controller */
#define CTL_START_EVERY (5 * MU_SEC)
#define CLEAN_EVERY (200 * MU_MS)
#define CTL_READY_MS 10000
#define FLUSH_NS (2 * MU_SEC)

struct options {
    const char *run;
    bool local, foreground;
    int slots;
};
static const struct mu_opt options[] = {
    {"run", 0, MU_OPT_STRING, offsetof(struct options, run), "DIR", "the pool's run directory", .aliases = NULL},
    {"local", 0, MU_OPT_FLAG, offsetof(struct options, local), NULL, "of this machine's controller", .aliases = NULL},
    {"slots", 0, MU_OPT_INT, offsetof(struct options, slots), "N", "ranks that fit here (default: cores)", .min = 1,
     .max = 1 << 16},
    {"foreground", 0, MU_OPT_FLAG, offsetof(struct options, foreground), NULL, "stay, log to standard error",
     .aliases = NULL},
};

struct conn { /* a keeper's */
    struct agent *agent;
    struct mu_link *link;
    mu_conn id;
    int pid;
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
    struct mu_paths paths;
    struct options opts;
    struct event_base *base;
    struct mu_agent *core;
    struct mu_acts acts;
    struct mu_keepers *keepers;
    struct mu_plan *plan;
    struct mu_listener *listener;
    struct event *sigchld, *sigterm, *sigint, *ready_ev;
    struct mu_alarm *alarm, *dial, *cleaner;
    struct conn *conns;
    struct pending *pending, **pending_tail;
    struct clean *cleans;
    mu_conn last_id;
    struct mu_link *ctl;
    uint64_t ctl_since, ctl_away_since, ctl_started;
    int lock, start_lock, ready_fd;
    bool ctl_welcome, ctl_closing, ending;
    char boot[64];
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

static void run_clean(struct agent *a, uint64_t job)
{
    struct mu_err err;

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
    struct conn *k = act->conn == MU_AGENT_CTL ? NULL : conn_of(a, act->conn);
    struct mu_link *link = k ? k->link : act->conn == MU_AGENT_CTL ? a->ctl : NULL;

    if (!link || (k ? k->closing : a->ctl_closing))
        return;
    if (mu_link_send(link, act->frame.data, act->frame.len) != MUSTER_ENOMEM)
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

    if (id == MU_AGENT_CTL ? !a->ctl || a->ctl_closing : !k || k->closing)
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
            run_clean(a, act->job);
            break;
        case MU_ACT_EXIT:
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
    free(k);
}

static void ctl_gone(struct agent *a);

/* Carries a connection that the core closed to its end. */
static void finish_close(struct agent *a, mu_conn id)
{
    struct conn *k = conn_of(a, id);

    if (id == MU_AGENT_CTL) {
        mu_link_close_after_flush(MU_STEAL(a->ctl, NULL));
        ctl_gone(a);
    } else if (k) {
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

static void on_keeper_msg(void *arg, struct mu_link *link, const struct mu_msg *msg, const void *frame, size_t len)
{
    struct conn *k = arg;
    struct agent *a = k->agent;

    (void)frame, (void)len;
    if (k->closing || a->ending)
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
    mu_log(MU_LOG_DEBUG, "agent", "job %llu: keeper %d has ended", (unsigned long long)job, (int)pid);
    step(arg, &(struct mu_ev){.kind = MU_EV_CHILD, .job = job, .pid = (uint32_t)pid});
}

static void on_keeper_found(void *arg, uint64_t job, pid_t pid)
{
    struct agent *a = arg;

    mu_log(MU_LOG_INFO, "agent", "job %llu: keeper %d lives", (unsigned long long)job, (int)pid);
    mu_plan_adopt(a->plan, job);
    step_once(a, &(struct mu_ev){.kind = MU_EV_LOAD, .job = job, .pid = (uint32_t)pid});
}

static void on_plan(void *arg, struct mu_m_start *start)
{
    mu_plan_start(arg, start);
}

/* --- the controller ---------------------------------------------------------------------------------------------- */

static void ctl_gone(struct agent *a)
{
    uint64_t now = mu_now();

    a->ctl = NULL;
    a->ctl_closing = false;
    a->ctl_away_since = now;
    mu_alarm_set(a->dial, now + (a->ctl_welcome || now - a->ctl_since > DIAL_SLOW ? DIAL_EVERY : DIAL_SLOW));
}

static void on_ctl_msg(void *arg, struct mu_link *link, const struct mu_msg *msg, const void *frame, size_t len)
{
    struct agent *a = arg;

    (void)link, (void)frame, (void)len;
    if (a->ending || a->ctl_closing)
        return;
    if (msg->type == MU_MSG_welcome)
        a->ctl_welcome = true;
    if (msg->type == MU_MSG_error)
        mu_log(MU_LOG_ERROR, "agent", "the controller says: %s", msg->error.text ? msg->error.text : "?");
    step(a, &(struct mu_ev){.kind = MU_EV_MSG, .conn = MU_AGENT_CTL, .msg = msg});
}

static void on_ctl_down(void *arg, struct mu_link *link)
{
    struct agent *a = arg;

    if (a->ending)
        return;
    mu_log(MU_LOG_INFO, "agent", "the controller is gone");
    a->ctl = NULL;
    mu_link_free(link);
    ctl_gone(a);
    step(a, &(struct mu_ev){.kind = MU_EV_DOWN, .conn = MU_AGENT_CTL});
}

static void start_over(struct agent *a)
{
    if (a->ready_ev)
        event_free(MU_STEAL(a->ready_ev, NULL));
    if (a->ready_fd >= 0)
        close(MU_STEAL(a->ready_fd, -1));
    if (a->start_lock >= 0)
        close(MU_STEAL(a->start_lock, -1));
}

static void on_ctl_ready(evutil_socket_t fd, short what, void *arg)
{
    struct mu_err err = {.text = "it is not ready in time"};

    /* the line comes in one write */
    if (!(what & EV_READ) || mu_daemon_await(fd, 100, NULL, &err))
        mu_log(MU_LOG_WARN, "agent", "the controller did not start: %s", err.text);
    start_over(arg);
}

/* Ranks are worth a controller: nobody else might start one. Commands that want one are kept out meanwhile. */
static void start_controller(struct agent *a)
{
    static const struct timeval limit = {.tv_sec = CTL_READY_MS / 1000};
    char name[] = "muster", cmd[] = "controller", flag[] = "--ready-fd", number[16], path[PATH_MAX];
    char *argv[] = {name, cmd, flag, number, NULL};
    struct mu_err err;
    int fds[2];

    a->ctl_started = mu_now();
    if (mu_path_join(path, sizeof path, a->paths.run, "start.lock", NULL))
        return;
    a->start_lock = mu_path_lock(path, 0, NULL);
    if (a->start_lock < 0) {
        a->ctl_started = 0; /* somebody is at it */
        return;
    }
    if (pipe2(fds, O_CLOEXEC)) {
        start_over(a);
        return;
    }
    a->ready_fd = fds[0];
    snprintf(number, sizeof number, "%d", fds[1]);
    mu_log(MU_LOG_INFO, "agent", "starting a controller: %u keepers need one", mu_agent_keepers(a->core));
    int rc = mu_daemon_spawn(argv, fds[1], true, NULL, &err);
    close(fds[1]);
    a->ready_ev = rc ? NULL : event_new(a->base, a->ready_fd, EV_READ, on_ctl_ready, a);
    if (!a->ready_ev || event_add(a->ready_ev, &limit)) {
        if (rc)
            mu_log(MU_LOG_ERROR, "agent", "%s", err.text);
        start_over(a);
    }
}

static void on_dial(void *arg)
{
    struct agent *a = arg;
    uint64_t now = mu_now();
    int fd;

    if (a->ctl || a->ending)
        return;
    if (mu_connect_unix(a->paths.run, "ctl.sock", &fd, NULL)) {
        bool due = a->opts.local && mu_agent_keepers(a->core) && now - a->ctl_away_since >= CTL_AWAY;
        if (due && a->start_lock < 0 && (!a->ctl_started || now - a->ctl_started >= CTL_START_EVERY))
            start_controller(a);
        mu_alarm_set(a->dial, now + DIAL_EVERY);
        return;
    }
    a->ctl = mu_link_new(a->base, fd, on_ctl_msg, on_ctl_down, a);
    if (!a->ctl) {
        mu_alarm_set(a->dial, now + DIAL_SLOW);
        return;
    }
    mu_link_name(a->ctl, "controller");
    a->ctl_since = now;
    a->ctl_started = 0;
    a->ctl_welcome = false;
    step(a, &(struct mu_ev){.kind = MU_EV_UP, .conn = MU_AGENT_CTL});
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

static int take_lock(struct agent *a, struct mu_err *err)
{
    char path[PATH_MAX];
    pid_t pid = 0;
    int rc = mu_path_join(path, sizeof path, a->paths.run, "agent.lock", err);

    if (rc)
        return rc;
    a->lock = mu_path_lock(path, 0, err);
    if (a->lock == MUSTER_ETIMEOUT) {
        mu_daemon_locked(a->paths.run, "agent.lock", &pid);
        return mu_err_set(err, MUSTER_EJOB, "an agent (pid %d) of this pool already runs on this node", (int)pid);
    }
    return a->lock < 0 ? a->lock : 0;
}

static int set_up(struct agent *a, struct mu_err *err)
{
    struct mu_plan_node node;

    int rc = take_lock(a, err);
    if (rc)
        return rc;
    if ((rc = mu_daemon_setup(&a->paths, "agent", a->opts.foreground, err)))
        return rc;
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    a->base = mu_loop_new();
    a->plan = mu_plan_new(a->paths.run);
    if (!a->base || !a->plan)
        return mu_err_set(err, MUSTER_ENOMEM, "out of memory");
    mu_plan_node(a->plan, &node);
    read_boot_id(a);
    struct mu_agent_config cfg = {.node = a->paths.host,
                                  .slots = a->opts.slots ? (uint32_t)a->opts.slots : node.slots,
                                  .pus = node.pus,
                                  .numa = node.numa,
                                  .pid = (uint32_t)getpid(),
                                  .memory = node.memory,
                                  .boot = a->boot,
                                  .adopt_wait_ns = ADOPT_WAIT,
                                  .lonely_ns = LONELY};
    if (getrandom(&cfg.incarnation, sizeof cfg.incarnation, GRND_NONBLOCK) < 0)
        cfg.incarnation = mu_wall();
    a->core = mu_agent_new(&cfg);
    a->keepers = mu_keepers_new(a->base, &a->paths, on_keeper_dead, a);
    a->sigchld = on_signal(a, SIGCHLD, on_sigchld);
    a->sigterm = on_signal(a, SIGTERM, on_term);
    a->sigint = on_signal(a, SIGINT, on_term);
    a->alarm = mu_alarm_new(a->base, on_alarm, a);
    a->dial = mu_alarm_new(a->base, on_dial, a);
    a->cleaner = mu_alarm_new(a->base, on_cleaner, a);
    if (!a->core || !a->keepers || !a->sigchld || !a->sigterm || !a->sigint || !a->alarm || !a->dial || !a->cleaner)
        return mu_err_set(err, MUSTER_ENOMEM, "out of memory");
    mu_agent_set_plan(a->core, on_plan, a->plan);
    mu_keepers_adopt(a->keepers, on_keeper_found, a);
    rc = mu_listen_unix(a->base, a->paths.run, "agent.sock", on_accept, a, &a->listener, err);
    if (rc)
        return rc;
    a->ctl_away_since = mu_now();
    mu_log(MU_LOG_INFO, "agent", "version %s, pid %d, %u slots", MUSTER_VERSION, (int)getpid(), cfg.slots);
    step(a, &(struct mu_ev){.kind = MU_EV_LOADED});
    mu_alarm_set(a->dial, 0);
    return 0;
}

static void leave(struct agent *a)
{
    uint64_t deadline = mu_now() + FLUSH_NS;
    char path[PATH_MAX];

    mu_listener_free(MU_STEAL(a->listener, NULL));
    if (!mu_path_join(path, sizeof path, a->paths.run, "agent.sock", NULL))
        unlink(path);
    mu_link_close_after_flush(MU_STEAL(a->ctl, NULL));
    for (struct conn *k = a->conns; k; k = k->next)
        mu_link_close_after_flush(MU_STEAL(k->link, NULL));
    while (mu_link_flushing() && mu_now() < deadline) {
        struct timeval slice = {.tv_usec = 10000};
        event_base_loopexit(a->base, &slice);
        event_base_loop(a->base, EVLOOP_ONCE);
    }
    start_over(a); /* its lock would be in the way */
    mu_daemon_leave(&a->paths, &a->lock);
}

static void tear_down(struct agent *a)
{
    struct event *events[] = {a->sigchld, a->sigterm, a->sigint};

    start_over(a);
    mu_listener_free(a->listener);
    mu_link_free(a->ctl);
    while (a->conns) {
        mu_link_free(a->conns->link);
        drop_conn(a, a->conns);
    }
    for (struct clean *c = a->cleans, *next; c; c = next) {
        next = c->next;
        free(c);
    }
    mu_keepers_free(a->keepers);
    mu_agent_free(a->core);
    mu_acts_free(&a->acts);
    mu_plan_free(a->plan);
    mu_alarm_free(a->alarm);
    mu_alarm_free(a->dial);
    mu_alarm_free(a->cleaner);
    for (size_t i = 0; i < MU_COUNT(events); i++)
        if (events[i])
            event_free(events[i]);
    if (a->base)
        event_base_free(a->base);
    if (a->lock >= 0)
        close(a->lock);
}

static int refuse(const char *text)
{
    if (!mu_log_on(MU_LOG_ERROR, "agent"))
        fprintf(stderr, "muster: %s\n", text);
    mu_log(MU_LOG_ERROR, "agent", "%s", text);
    return 2;
}

int mu_agent_main(int argc, char **argv)
{
    struct agent a = {.lock = -1, .start_lock = -1, .ready_fd = -1, .last_id = MU_AGENT_CTL};
    struct mu_err err = {0};
    int first, code = 0;
    int rc = mu_opt_parse(options, MU_COUNT(options), argc, argv, 0, &a.opts, &first, &err);

    a.pending_tail = &a.pending;
    if (rc == 1) {
        mu_opt_help(stdout, "muster agent [OPTION]...", options, MU_COUNT(options));
        return 0;
    }
    if (!rc && first < argc)
        rc = mu_err_set(&err, MUSTER_EARG, "agent takes no operand: %.100s", argv[first]);
    if (rc || (rc = mu_paths_init(&a.paths, &err)))
        return refuse(err.text);
    if (a.opts.run && strcmp(a.opts.run, a.paths.run))
        return refuse("--run is not this pool's run directory: MUSTER_HOME or MUSTER_RUN_ROOT differ");
    if (set_up(&a, &err)) {
        code = refuse(err.text);
    } else {
        while (!a.ending && event_base_loop(a.base, EVLOOP_NO_EXIT_ON_EMPTY) >= 0)
            ;
        leave(&a);
        mu_log(MU_LOG_INFO, "agent", "ended");
    }
    tear_down(&a);
    mu_log_close();
    return code;
}
