#include "launcher/controller.h"

#include <event2/event.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "launcher/backup.h"
#include "launcher/cabling.h"
#include "launcher/core/checks.h"
#include "launcher/engine.h"
#include "launcher/farewell.h"
#include "launcher/listen.h"
#include "launcher/metrics.h"
#include "launcher/node_files.h"
#include "launcher/past_open.h"
#include "launcher/policy_load.h"
#include "launcher/probe.h"
#include "launcher/server.h"
#include "launcher/store.h"
#include "runtime/base/clean.h"
#include "runtime/base/clock.h"
#include "runtime/base/log.h"
#include "runtime/base/opt.h"
#include "runtime/base/str.h"
#include "runtime/wire/daemon.h"
#include "runtime/wire/hold.h"
#include "runtime/wire/link.h"
#include "runtime/wire/pulse.h"
#include "runtime/wire/stopped.h"

#define AGENT_POLL (500 * MU_MS) /* an agent that is not our child is looked at so often */
#define AGENT_BACKOFF_MAX (5 * MU_SEC)
#define AGENT_GOOD (10 * MU_SEC) /* one that lived so long starts again at once */
#define LEAVE_NS (3 * MU_SEC)
#define STARTS_NS (2 * MU_SEC) /* for agents that are being started meanwhile */
#define NODE_STRIKES 3         /* failures of a node within ten minutes that are too many */
#define FANOUT 32u
#define PRUNE_EVERY (3600 * MU_SEC)

struct options {
    bool stop, force, take_over;
    int ready_fd;
    bool foreground;
    uint64_t idle_ns;
    const char *listen, *fabric, *metrics;
    int fanout;
};
static const struct mu_opt options[] = {
    {"ready-fd", 0, MU_OPT_INT, offsetof(struct options, ready_fd), "N", "tell there when ready", .max = 1 << 20},
    {"foreground", 0, MU_OPT_FLAG, offsetof(struct options, foreground), NULL, "stay, log to standard error",
     .aliases = NULL},
    {"idle", 0, MU_OPT_DURATION, offsetof(struct options, idle_ns), "SECONDS", "end after idling so long; 0: never",
     .aliases = NULL},
    {"listen", 0, MU_OPT_STRING, offsetof(struct options, listen), "ADDR:PORT",
     "where other hosts reach it; default: any address and port, once some are needed", .aliases = NULL},
    {"fanout", 0, MU_OPT_INT, offsetof(struct options, fanout), "N",
     "agents that it, and each agent, has directly below it; default: 32", .min = 1, .max = 1000},
    {"fabric", 0, MU_OPT_STRING, offsetof(struct options, fabric), "FILE[:FILE]...|live[:ADAPTER]",
     "the fabric by which jobs get nodes; default: MUSTER_FABRIC", .aliases = NULL},
    {"metrics", 0, MU_OPT_STRING, offsetof(struct options, metrics), "[ADDR:]PORT",
     "serve /metrics and a status page there, on loopback by default; default: MUSTER_METRICS", .aliases = NULL},
    {"take-over", 0, MU_OPT_FLAG, offsetof(struct options, take_over), NULL,
     "end the controller that runs, if one does, and take its place; jobs run on", .aliases = NULL},
    {"stop", 0, MU_OPT_FLAG, offsetof(struct options, stop), NULL, "end the controller that runs, if no job does",
     .aliases = NULL},
    {"force", 0, MU_OPT_FLAG, offsetof(struct options, force), NULL, "with --stop: cancel the jobs first",
     .aliases = NULL},
};

/* What an operator may set; durations as --idle takes them. */
static const struct {
    const char *name;
    size_t offset;
    uint64_t value;
} settings[] = {
    {"MUSTER_IDLE", offsetof(struct mu_ctl_config, idle_ns), 30 * MU_SEC},
    {"MUSTER_CLIENT_GRACE", offsetof(struct mu_ctl_config, client_grace_ns), 10 * MU_SEC},
    {"MUSTER_AGENT_WAIT", offsetof(struct mu_ctl_config, agent_wait_ns), 10 * MU_SEC},
    {"MUSTER_NODE_WAIT", offsetof(struct mu_ctl_config, node_wait_ns), 300 * MU_SEC},
    {"MUSTER_QUARANTINE", offsetof(struct mu_ctl_config, cooldown_ns), 900 * MU_SEC}, /* 0: never */
};

struct controller {
    struct mu_paths paths;
    struct event_base *base;
    struct mu_store *store;
    struct mu_backup *backup;
    struct mu_server *server;
    struct mu_listener *listener;
    struct mu_listen *listen; /* for other hosts */
    struct mu_probes *probes;
    struct mu_cabling *cabling;      /* NULL: no fabric is named */
    struct mu_metrics_page *metrics; /* NULL: not served */
    struct mu_starter *starter;
    struct mu_farewell *farewell;     /* while we leave */
    struct mu_m_nodes_add pool_nodes; /* how its hosts are started, as last said */
    struct mu_policy_settings policy;
    struct mu_check_settings checks;
    struct event *sigchld, *sigterm, *sigint, *sighup;
    struct mu_alarm *agent_alarm, *prune_alarm, *socket_alarm;
    struct mu_hold *hold;
    int lock;
    pid_t agent;               /* our child, 0 = none */
    struct mu_stopped stopped; /* an agent that is not */
    uint64_t agent_since;
    unsigned agent_deaths;      /* in a row, each soon after its start */
    bool ending, by_core, lost; /* lost: the run directory */
    char log_root[PATH_MAX], ckpt_root[PATH_MAX];
    struct mu_past past;
};

/* --- the agent of this machine ----------------------------------------------------------------------------------- */

/* Sees to it that one lives: ours, or one that outlived the last controller. */
static void on_agent_alarm(void *arg)
{
    char name[] = "muster", cmd[] = "agent", run_flag[] = "--run", local[] = "--local";
    struct controller *c = arg;
    char *argv[] = {name, cmd, run_flag, c->paths.run, local, NULL};
    uint64_t now = mu_now();
    struct mu_err err;

    if (c->ending || c->agent)
        return;
    if (mu_daemon_locked(c->paths.run, "agent.lock", NULL)) {
        pid_t killed = mu_stopped_kill(&c->stopped, c->paths.run, "agent.lock", MU_PULSE_STOPPED);
        if (killed)
            mu_log(MU_LOG_WARN, "controller", "agent %d was stopped and has been killed", (int)killed);
        mu_alarm_set(c->agent_alarm, now + AGENT_POLL);
        return;
    }
    if (mu_daemon_spawn(argv, -1, false, &c->agent, &err)) {
        mu_log(MU_LOG_ERROR, "controller", "%s", err.text);
        mu_alarm_set(c->agent_alarm, now + AGENT_BACKOFF_MAX);
        return;
    }
    c->agent_since = now;
    mu_log(MU_LOG_INFO, "controller", "agent %d started", (int)c->agent);
}

static void agent_ended(struct controller *c, int status)
{
    uint64_t now = mu_now(), delay = 0;

    c->agent = 0;
    if (c->ending)
        return;
    if (now - c->agent_since >= AGENT_GOOD)
        c->agent_deaths = 0;
    if (c->agent_deaths)
        delay = (100 * MU_MS) << (c->agent_deaths < 8 ? c->agent_deaths - 1 : 7);
    if (delay > AGENT_BACKOFF_MAX)
        delay = AGENT_BACKOFF_MAX;
    c->agent_deaths++;
    mu_log(MU_LOG_WARN, "controller", "the agent ended (%s %d); the next one starts in %llu ms",
           WIFSIGNALED(status) ? "signal" : "exit code", WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status),
           (unsigned long long)(delay / MU_MS));
    mu_alarm_set(c->agent_alarm, now + delay);
}

static void on_sigchld(evutil_socket_t fd, short what, void *arg)
{
    struct controller *c = arg;
    int status;
    pid_t pid;

    (void)fd, (void)what;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
        if (pid == c->agent)
            agent_ended(c, status);
        else
            mu_starter_reaped(c->starter, pid, status);
}

static void on_agent_lost(void *arg)
{
    struct controller *c = arg;

    if (!c->agent && !c->ending)
        mu_alarm_set(c->agent_alarm, mu_now());
}

/* --- ending ------------------------------------------------------------------------------------------------------ */

static void on_exit_wanted(void *arg)
{
    struct controller *c = arg;

    c->ending = c->by_core = true;
    event_base_loopbreak(c->base);
}

/* Commands do not find us any more, and another one needs the store. It goes on as after any death of ours. */
static int on_lost(void *arg)
{
    struct controller *c = arg;

    mu_log(MU_LOG_ERROR, "controller", "%s was removed while the pool runs: another controller has to take over",
           c->paths.run);
    c->ending = c->lost = true;
    event_base_loopbreak(c->base);
    return -1;
}

/* Whatever of the store's file is damaged, its copies and the journal are not. */
static bool on_hurt(void *arg, const char *why)
{
    struct controller *c = arg;

    if (c->ending)
        return c->lost;
    if (!mu_backup_any(c->paths.state)) {
        mu_log(MU_LOG_ERROR, "store", "%s, and there is no copy of it", why);
        return false;
    }
    mu_log(MU_LOG_ERROR, "store", "%s: another controller takes over and restores it", why);
    c->ending = c->lost = true;
    event_base_loopbreak(c->base);
    return true;
}

static char *on_backup(void *arg, bool begin)
{
    return mu_backup_tell(((struct controller *)arg)->backup, begin);
}

static void on_backup_hurt(void *arg, const char *why)
{
    on_hurt(arg, why);
}

static void on_term(evutil_socket_t sig, short what, void *arg)
{
    struct controller *c = arg;

    (void)what;
    bool jobs = mu_server_has_jobs(c->server);
    pid_t agent;

    mu_log(MU_LOG_INFO, "controller", "%s: ending%s", strsignal((int)sig), jobs ? "; jobs run on" : "");
    c->ending = true;
    /* with jobs left it starts another controller; without it has nothing to do */
    if (!jobs && mu_daemon_locked(c->paths.run, "agent.lock", &agent) && agent > 0)
        kill(agent, SIGTERM);
    event_base_loopbreak(c->base);
}

/* Lets what was sent go out and, when the core has said farewell to the agents, ours end. */
static void leave(struct controller *c)
{
    uint64_t now = mu_now(), deadline = now + LEAVE_NS, starts = now + STARTS_NS;
    char socket[PATH_MAX];

    mu_listener_free(MU_STEAL(c->listener, NULL));
    mu_metrics_close(MU_STEAL(c->metrics, NULL)); /* its port is the next controller's */
    if (!mu_path_join(socket, sizeof socket, c->paths.run, "ctl.sock", NULL))
        unlink(socket);
    mu_server_close(c->server);
    if (c->by_core) {
        mu_listen_forget(c->listen);
        c->farewell = mu_farewell_new();
    }
    while (mu_now() < deadline &&
           (mu_link_flushing() || (c->by_core && (c->agent || mu_starter_left(c->starter, false))) ||
            (c->farewell && mu_starter_ending(c->starter) && mu_now() < starts))) {
        struct timeval slice = {.tv_usec = 10000};
        event_base_loopexit(c->base, &slice);
        event_base_loop(c->base, EVLOOP_ONCE);
    }
    if (c->by_core)
        mu_starter_left(c->starter, true);
    mu_backup_free(MU_STEAL(c->backup, NULL));
    mu_store_close(MU_STEAL(c->store, NULL));
    mu_listen_free(MU_STEAL(c->listen, NULL)); /* its port is the next controller's, too */
    mu_farewell_free(MU_STEAL(c->farewell, NULL));
    mu_daemon_leave(&c->paths, &c->lock);
}

/* --- start ------------------------------------------------------------------------------------------------------- */

static void pruned(void *arg, uint64_t id)
{
    struct controller *c = arg;
    char dir[PATH_MAX + 64];
    struct mu_err err;

    snprintf(dir, sizeof dir, "%s/%llu", c->log_root, (unsigned long long)id);
    if (mu_path_remove_tree(dir, &err))
        mu_log(MU_LOG_WARN, "controller", "logs of job %llu: %s", (unsigned long long)id, err.text);
    for (int old = 0; old < 2; old++) {
        snprintf(dir, sizeof dir, "%s/log/keeper.%llu.log%s", c->paths.state, (unsigned long long)id, old ? ".1" : "");
        unlink(dir);
    }
}

static bool needed(void *arg, uint64_t id)
{
    return mu_server_needs_job(((struct controller *)arg)->server, id);
}

static void on_prune(void *arg)
{
    struct controller *c = arg;
    struct mu_err err;

    if (mu_store_prune(c->store, MU_STORE_KEEP_JOBS, MU_STORE_KEEP_EVENTS, needed, pruned, c, &err))
        mu_log(MU_LOG_WARN, "store", "%s; old jobs stay for now", err.text);
    mu_alarm_set(c->prune_alarm, mu_now() + PRUNE_EVERY);
}

static void on_accept(void *arg, int fd, int pid)
{
    mu_server_accept(((struct controller *)arg)->server, fd, pid);
}

static void on_accept_tls(void *arg, struct mu_tls_conn *conn)
{
    struct controller *c = arg;

    if (c->farewell)
        mu_farewell_take(c->farewell, conn);
    else
        mu_server_accept_tls(c->server, conn);
}

/* --- other hosts ------------------------------------------------------------------------------------------------- */

static void on_probe_wanted(void *arg, const struct mu_act *act)
{
    mu_probe(((struct controller *)arg)->probes, act->node, act->detail, act->signo);
}

static void on_probed(void *arg, const char *node, bool answers)
{
    mu_server_probed(((struct controller *)arg)->server, node, answers ? 0 : 1);
}

static int on_listening(void *arg, const char **join, const struct mu_key **key, struct mu_err *err)
{
    struct controller *c = arg;
    int rc = mu_listen_open(c->listen, err);

    if (rc)
        return rc;
    *join = mu_listen_join(c->listen);
    *key = mu_listen_key(c->listen);
    return 0;
}

static void on_engine_wanted(void *arg, const struct mu_act *act, const struct mu_m_spec *spec)
{
    struct controller *c = arg;
    const struct mu_m_nodes_add *pool = &c->pool_nodes;

    mu_starter_start(c->starter, &(struct mu_start_request){.node = act->node,
                                                            .dest = act->detail,
                                                            .job = act->job,
                                                            .engine = spec ? spec->engine : pool->engine,
                                                            .ssh = spec ? spec->ssh : pool->ssh,
                                                            .env = spec ? spec->engine_env : pool->engine_env});
}

static void on_engine_done(void *arg, const char *node, int status, const char *text)
{
    mu_server_engine_done(((struct controller *)arg)->server, node, status, text);
}

static void on_agent(void *arg, const struct mu_m_agent *m, bool remote)
{
    struct controller *c = arg;

    if (remote)
        mu_starter_joined(c->starter, m->node);
    mu_cabling_agent(c->cabling, m);
}

/* --- the fabric --------------------------------------------------------------------------------------------------- */

static int knows(void *arg, const char *node)
{
    const struct mu_pool *pool = mu_server_pool(((struct controller *)arg)->server);
    int i = mu_pool_find(pool, node);

    return i < 0 ? 0 : pool->v[i].state == MU_NODE_UP ? 2 : 1;
}

static void on_fabric(void *arg, const struct mu_fabric_state *s)
{
    mu_server_fabric(((struct controller *)arg)->server, s);
}

/* Where the next controller, which an agent may start elsewhere, finds it, too. */
static int find_fabric(const struct options *o, struct mu_ctl_config *cfg, struct mu_err *err)
{
    static const char *const names[] = {"MUSTER_FABRIC", "MUSTER_FABRIC_GUIDS"};

    for (size_t i = 0; i < MU_COUNT(names); i++) {
        const char *text = !i && o->fabric ? o->fabric : getenv(names[i]);
        mu_auto_free char *where = NULL;
        if (!text || !*text)
            continue;
        int rc = mu_cabling_where(text, &where, err);
        if (rc)
            return rc;
        if (setenv(names[i], where, 1))
            return mu_err_set(err, MUSTER_ENOMEM, "out of memory");
        if (!i)
            cfg->fabric_ns = strncmp(where, "live", 4) ? MU_CABLING_FILE_NS : MU_CABLING_LIVE_NS;
    }
    return 0;
}

/* After the daemon's set-up, and with the server there. */
static int open_fabric(struct controller *c, struct mu_err *err)
{
    const char *where = getenv("MUSTER_FABRIC"), *guids = getenv("MUSTER_FABRIC_GUIDS");

    return where && *where ? mu_cabling_new(c->base,
                                            &(struct mu_cabling_config){.where = where,
                                                                        .guids = guids && *guids ? guids : NULL,
                                                                        .knows = knows,
                                                                        .changed = on_fabric,
                                                                        .arg = c},
                                            &c->cabling, err)
                           : 0;
}

/* --- the pool's hosts --------------------------------------------------------------------------------------------- */

/* The next ones of the pool are started as these are. */
static void on_nodes_add(void *arg, const struct mu_m_nodes_add *m)
{
    struct controller *c = arg;
    struct mu_m_nodes_add copy = {0};

    if (mu_msg_copy(MU_MSG_nodes_add, &copy, m))
        return;
    mu_msg_free_body(MU_MSG_nodes_add, &c->pool_nodes);
    c->pool_nodes = copy;
}

/* STATE/nodes: the pool's hosts and how they are started, as a nodes_add message. */
static void on_pool_changed(void *arg, const char *hosts)
{
    struct controller *c = arg;
    mu_auto_buf struct mu_buf b = {0};
    struct mu_m_nodes_add m = c->pool_nodes;
    char path[PATH_MAX];
    struct mu_err err;

    m.hosts = (char *)(uintptr_t)hosts;
    int rc = mu_path_join(path, sizeof path, c->paths.state, "nodes", &err);
    if (!rc && !*hosts) {
        unlink(path);
        return;
    }
    rc = rc ? rc : mu_msg_encode(&b, MU_MSG_nodes_add, &m);
    rc = rc ? rc : mu_path_write_atomic(path, b.data, b.len, 0600, &err);
    if (rc)
        mu_log(MU_LOG_ERROR, "controller", "the pool's hosts cannot be stored: %s", err.text);
}

static void on_marks(void *arg, const void *frames, size_t len)
{
    struct controller *c = arg;
    struct mu_err err;

    if (mu_marks_store(c->paths.state, frames, len, &err))
        mu_log(MU_LOG_ERROR, "controller", "which nodes are drained cannot be stored: %s", err.text);
}

static void on_labels(void *arg, const char *text)
{
    struct controller *c = arg;
    struct mu_err err;

    if (mu_labels_store(c->paths.state, text, &err))
        mu_log(MU_LOG_ERROR, "controller", "the nodes' labels cannot be stored: %s", err.text);
}

static void load_pool(struct controller *c)
{
    mu_auto_buf struct mu_buf b = {0};
    struct mu_msg m = {0};
    char path[PATH_MAX];
    struct mu_err err;

    if (mu_path_join(path, sizeof path, c->paths.state, "nodes", NULL) || access(path, F_OK))
        return;
    int rc = mu_path_read_regular(path, 16 << 20, &b, &err);
    if (!rc && mu_msg_frame(b.data, b.len) != (int64_t)b.len)
        rc = mu_err_set(&err, MUSTER_ECORRUPT, "%s is damaged; add the hosts again with `muster nodes add`", path);
    rc = rc ? rc : mu_msg_decode(b.data, b.len, &m, &err);
    if (rc || m.type != MU_MSG_nodes_add) {
        mu_log(MU_LOG_ERROR, "controller", "the pool's hosts: %s", rc ? err.text : "not a list of hosts");
        mu_msg_free(&m);
        return;
    }
    c->pool_nodes = m.nodes_add;
}

static int new_starter(struct controller *c, struct mu_err *err)
{
    struct mu_starter_config cfg = {.paths = &c->paths,
                                    .fan_out = MU_START_FAN_OUT,
                                    .limit_ns = MU_START_NS,
                                    .listening = on_listening,
                                    .done = on_engine_done,
                                    .arg = c};
    const char *fan_out = getenv("MUSTER_START_FANOUT"), *limit = getenv("MUSTER_START_TIMEOUT");
    uint64_t n = cfg.fan_out;

    if (fan_out && *fan_out && mu_str_u64(fan_out, 1, 10000, &n))
        return mu_err_set(err, MUSTER_EARG, "MUSTER_START_FANOUT=%.60s: not a number from 1 to 10000", fan_out);
    if (limit && *limit && (mu_str_duration(limit, &cfg.limit_ns) || cfg.limit_ns < MU_SEC))
        return mu_err_set(err, MUSTER_EARG, "MUSTER_START_TIMEOUT=%.60s: not a duration of 1 s or more", limit);
    cfg.fan_out = (unsigned)n;
    c->starter = mu_starter_new(c->base, &cfg);
    return c->starter ? 0 : mu_err_set(err, MUSTER_ENOMEM, "out of memory");
}

/* --- start, continued -------------------------------------------------------------------------------------------- */

static int open_backup(struct controller *c, struct mu_err *err)
{
    struct mu_backup_config cfg = {.base = c->base,
                                   .store = c->store,
                                   .state = c->paths.state,
                                   .every_ns = MU_BACKUP_EVERY,
                                   .keep = MU_BACKUP_KEEP,
                                   .hurt = on_backup_hurt,
                                   .arg = c};
    const char *every = getenv("MUSTER_BACKUP");

    if (every && *every && mu_str_duration(every, &cfg.every_ns))
        return mu_err_set(err, MUSTER_EARG, "MUSTER_BACKUP=%.60s: not a duration such as 1h; 0: no copies", every);
    return mu_backup_new(&cfg, &c->backup, err);
}

static int read_settings(struct mu_ctl_config *cfg, struct mu_err *err)
{
    for (size_t i = 0; i < MU_COUNT(settings); i++) {
        const char *text = getenv(settings[i].name);
        uint64_t value = settings[i].value;
        if (text && *text && mu_str_duration(text, &value))
            return mu_err_set(err, MUSTER_EARG, "%s=%.60s: not a duration such as 30 or 5m", settings[i].name, text);
        memcpy((char *)cfg + settings[i].offset, &value, sizeof value);
    }
    return 0;
}

static int read_fanout(const struct options *o, struct mu_ctl_config *cfg, struct mu_err *err)
{
    const char *text = getenv("MUSTER_FANOUT");
    uint64_t n = FANOUT;

    if (!o->fanout && text && *text && mu_str_u64(text, 1, 1000, &n))
        return mu_err_set(err, MUSTER_EARG, "MUSTER_FANOUT=%.60s: not a number from 1 to 1000", text);
    cfg->fanout = o->fanout ? (uint32_t)o->fanout : (uint32_t)n;
    return 0;
}

static struct event *on_signal(struct controller *c, int sig, event_callback_fn fn)
{
    struct event *ev = evsignal_new(c->base, sig, fn, c);

    if (ev && event_add(ev, NULL)) {
        event_free(ev);
        return NULL;
    }
    return ev;
}

static void on_hup(evutil_socket_t fd, short what, void *arg)
{
    struct controller *c = arg;
    struct mu_err err;

    (void)fd, (void)what;
    if (mu_policy_load(c->paths.home, &c->policy, &err))
        mu_log(MU_LOG_ERROR, "controller", "%s; the policy stays as it is", err.text);
    else
        mu_log(MU_LOG_INFO, "controller", "the policy is read again");
    if (mu_checks_load(c->paths.home, &c->checks, &err))
        mu_log(MU_LOG_ERROR, "controller", "%s; health checks stay as they are", err.text);
}

/* A run directory that is gone is on_lost's. */
static void on_socket(void *arg)
{
    struct controller *c = arg;
    struct mu_listener *l;
    char path[PATH_MAX];
    struct mu_err err;

    mu_alarm_set(c->socket_alarm, mu_now() + MU_SEC);
    if (c->ending || mu_path_join(path, sizeof path, c->paths.run, "ctl.sock", NULL) || !access(path, F_OK) ||
        mu_hold_lost(c->paths.run, "ctl.lock", c->lock))
        return;
    int rc = mu_listen_unix(c->base, c->paths.run, "ctl.sock", on_accept, c, &l, &err);
    mu_log(rc ? MU_LOG_ERROR : MU_LOG_WARN, "controller", "the socket was removed; %s", rc ? err.text : "it is back");
    if (!rc)
        mu_listener_free(MU_STEAL(c->listener, l));
}

static int set_up(struct controller *c, const struct options *o, struct mu_err *err)
{
    struct mu_server_config cfg = {
        .ctl = {.restarts = 3, .log_root = c->log_root, .ckpt_root = c->ckpt_root, .version = MUSTER_VERSION},
        .on_exit = on_exit_wanted,
        .on_agent_lost = on_agent_lost,
        .on_hurt = on_hurt,
        .on_backup = on_backup,
        .on_engine = on_engine_wanted,
        .on_agent = on_agent,
        .on_probe = on_probe_wanted,
        .on_nodes_add = on_nodes_add,
        .on_pool_changed = on_pool_changed,
        .on_marks = on_marks,
        .on_labels = on_labels,
        .state = c->paths.state,
        .paths = &c->paths,
        .arg = c};
    int rc;

    if ((rc = read_settings(&cfg.ctl, err)) || (rc = read_fanout(o, &cfg.ctl, err)) ||
        (rc = find_fabric(o, &cfg.ctl, err)) || (rc = mu_controller_lock(&c->paths, o->take_over, &c->lock, err)) ||
        (rc = mu_path_join(c->log_root, sizeof c->log_root, c->paths.state, "jobs", err)) ||
        (rc = mu_path_join(c->ckpt_root, sizeof c->ckpt_root, c->paths.home, "ckpt", err)) ||
        (rc = mu_past_open(c->paths.state, c->log_root, &c->past, &c->store, err)))
        return rc;
    cfg.ctl.last_job = c->past.last;
    cfg.ctl.losses = c->past.losses;
    cfg.ctl.doubtful = c->past.doubtful;
    cfg.ctl.lost_above = c->past.lost_above;
    cfg.ctl.lost_last = c->past.lost_last;
    if (o->idle_ns != UINT64_MAX)
        cfg.ctl.idle_ns = o->idle_ns;
    mu_policy_defaults(&c->policy);
    if ((rc = mu_policy_load(c->paths.home, &c->policy, err)))
        return rc;
    mu_check_defaults(&c->checks);
    if ((rc = mu_checks_load(c->paths.home, &c->checks, err)))
        return rc;
    cfg.ctl.policy = &c->policy;
    cfg.ctl.checks = &c->checks;
    cfg.ctl.node = c->paths.host;
    cfg.ctl.files = mu_daemon_files();
    cfg.ctl.boot = mu_daemon_boot();
    load_pool(c);
    cfg.pool_hosts = c->pool_nodes.hosts;
    cfg.ctl.quarantine = cfg.ctl.cooldown_ns ? NODE_STRIKES : 0;
    if (getrandom(&cfg.ctl.incarnation, sizeof cfg.ctl.incarnation, GRND_NONBLOCK) < 0)
        cfg.ctl.incarnation = mu_wall();
    c->base = mu_loop_new();
    if (!c->base)
        return mu_err_set(err, MUSTER_ENOMEM, "cannot make an event loop");
    c->sigchld = on_signal(c, SIGCHLD, on_sigchld);
    c->sigterm = on_signal(c, SIGTERM, on_term);
    c->sigint = on_signal(c, SIGINT, on_term);
    c->sighup = on_signal(c, SIGHUP, on_hup);
    c->agent_alarm = mu_alarm_new(c->base, on_agent_alarm, c);
    c->prune_alarm = mu_alarm_new(c->base, on_prune, c);
    c->socket_alarm = mu_alarm_new(c->base, on_socket, c);
    c->probes = mu_probes_new(c->base, on_probed, c);
    c->hold = mu_hold_new(c->base, c->paths.run, "ctl.lock", c->lock, MU_HOLD_PATIENCE, on_lost, c);
    if (!c->sigchld || !c->sigterm || !c->sigint || !c->sighup || !c->agent_alarm || !c->prune_alarm ||
        !c->socket_alarm || !c->probes || !c->hold)
        return mu_err_set(err, MUSTER_ENOMEM, "cannot set up the event loop");
    if ((rc = new_starter(c, err)))
        return rc;
    const char *where = o->listen ? o->listen : getenv("MUSTER_LISTEN");
    if ((rc = mu_listen_new(c->base, &c->paths, where, on_accept_tls, c, &c->listen, err)))
        return rc;
    cfg.ctl.alone = !mu_listen_wanted(c->listen);
    if (c->past.blank) /* a new pool need not wait for hosts that it has never had */
        cfg.ctl.doubtful = cfg.ctl.alone;
    if ((rc = open_backup(c, err)) || (rc = mu_server_new(c->base, c->store, &cfg, &c->server, err)))
        return rc;
    if ((mu_listen_wanted(c->listen) && (rc = mu_listen_open(c->listen, err))) ||
        (rc = mu_metrics_open(c->base, &c->paths, c->server, c->store, c->backup, o->metrics, &c->metrics, err)))
        return rc;
    return mu_listen_unix(c->base, c->paths.run, "ctl.sock", on_accept, c, &c->listener, err);
}

static void tear_down(struct controller *c)
{
    struct event *events[] = {c->sigchld, c->sigterm, c->sigint, c->sighup};

    mu_metrics_close(c->metrics);
    mu_listener_free(c->listener);
    mu_listen_free(c->listen);
    mu_probes_free(c->probes);
    mu_cabling_free(c->cabling);
    mu_starter_free(c->starter);
    mu_msg_free_body(MU_MSG_nodes_add, &c->pool_nodes);
    mu_server_free(c->server);
    mu_policy_settings_free(&c->policy);
    mu_check_settings_free(&c->checks);
    mu_backup_free(c->backup);
    mu_store_close(c->store);
    mu_alarm_free(c->agent_alarm);
    mu_alarm_free(c->prune_alarm);
    mu_alarm_free(c->socket_alarm);
    mu_hold_free(c->hold);
    for (size_t i = 0; i < MU_COUNT(events); i++)
        if (events[i])
            event_free(events[i]);
    if (c->base)
        event_base_free(c->base);
    if (c->lock >= 0)
        close(c->lock);
}

/* Says why not, to whoever waits for us, to people and to the log. */
static int refuse(struct options *o, int code, const char *text)
{
    if (o->ready_fd < 0)
        fprintf(stderr, "muster: %s\n", text);
    mu_log(MU_LOG_ERROR, "controller", "%s", text);
    mu_daemon_ready(&o->ready_fd, code, text);
    return code;
}

int mu_controller_main(int argc, char **argv)
{
    struct options o = {.ready_fd = -1, .idle_ns = UINT64_MAX};
    struct controller c = {.lock = -1};
    struct mu_err err = {0};
    int first, code = 0;
    int rc = mu_opt_parse(options, MU_COUNT(options), argc, argv, 0, &o, &first, &err);

    if (rc == 1) {
        mu_opt_help(stdout, "muster controller [OPTION]...", options, MU_COUNT(options));
        return 0;
    }
    if (!rc && first < argc)
        rc = mu_err_set(&err, MUSTER_EARG, "controller takes no operand: %.100s", argv[first]);
    if (!rc && o.stop)
        return mu_controller_stop(o.force);
    if (rc || (rc = mu_paths_init(&c.paths, &err)))
        return refuse(&o, 2, err.text);
    /* A refusal of one started by hand belongs on his terminal: streams are given up only after that. */
    if ((rc = set_up(&c, &o, &err)) || (rc = mu_daemon_setup(&c.paths, "controller", o.foreground, &err)) ||
        (rc = open_fabric(&c, &err))) {
        refuse(&o, rc == MUSTER_EJOB ? MU_CONTROLLER_RUNS : 2, err.text);
        code = 2;
        if (c.lock >= 0)
            mu_daemon_leave(&c.paths, &c.lock);
    } else {
        mu_log(MU_LOG_INFO, "controller", "version %s, pid %d, store %s", MUSTER_VERSION, (int)getpid(), c.paths.state);
        if (c.past.restored[0])
            mu_log(MU_LOG_WARN, "store", "%s", c.past.restored);
        if (c.past.text[0])
            mu_log(MU_LOG_WARN, "store", "%s", c.past.text);
        mu_daemon_ready(&o.ready_fd, 0, NULL);
        mu_alarm_set(c.agent_alarm, mu_now());
        mu_alarm_set(c.prune_alarm, mu_now() + MU_SEC);
        mu_alarm_set(c.socket_alarm, mu_now() + MU_SEC);
        while (!c.ending && event_base_loop(c.base, EVLOOP_NO_EXIT_ON_EMPTY) >= 0)
            ;
        if (c.lost)
            code = 1;
        else
            leave(&c);
        mu_log(MU_LOG_INFO, "controller", "ended");
    }
    tear_down(&c);
    mu_log_close();
    return code;
}
