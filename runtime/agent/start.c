#include "runtime/agent/start.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/base/clean.h"
#include "runtime/base/hosts.h"
#include "runtime/base/opt.h"
#include "runtime/base/procstate.h"
#include "runtime/wire/daemon.h"

#define TAKE_OVER_MS 10000
#define LOCK_TRIES 10
#define LOOKS 50 /* for who holds it */
#define LOOK_MS 20

#define KEY_MS 20000

struct options {
    const char *run, *join, *node, *key, *pool;
    bool local, foreground, detach, step, rejoin;
    int slots, key_fd;
    uint64_t owner;
};
#define AT(field) offsetof(struct options, field)
static const struct mu_opt options[] = {
    {"join", 0, MU_OPT_STRING, AT(join), "HOST[,HOST...]:PORT", "join the pool of the controller there",
     .aliases = NULL},
    {"node", 0, MU_OPT_STRING, AT(node), "NAME", "this node's name in the pool (default: the host's)", .aliases = NULL},
    {"key", 0, MU_OPT_STRING, AT(key), "FILE", "the pool key (default: $MUSTER_HOME/pool.key)", .aliases = NULL},
    {"slots", 0, MU_OPT_INT, AT(slots), "N", "ranks that fit here (default: cores)", .min = 1, .max = 1 << 16},
    {"detach", 0, MU_OPT_FLAG, AT(detach), NULL, "return once it has joined; it runs on", .aliases = NULL},
    {"foreground", 0, MU_OPT_FLAG, AT(foreground), NULL, "stay, log to standard error", .aliases = NULL},
    /* of the processes that start agents */
    {"run", 0, MU_OPT_STRING, AT(run), "DIR", NULL, .aliases = NULL},
    {"local", 0, MU_OPT_FLAG, AT(local), NULL, NULL, .aliases = NULL},
    {"step", 0, MU_OPT_FLAG, AT(step), NULL, NULL, .aliases = NULL},
    {"rejoin", 0, MU_OPT_FLAG, AT(rejoin), NULL, NULL, .aliases = NULL},
    {"key-fd", 0, MU_OPT_INT, AT(key_fd), "N", NULL, .max = 1 << 20},
    {"pool", 0, MU_OPT_STRING, AT(pool), "ID", NULL, .aliases = NULL},
    {"owner", 0, MU_OPT_U64, AT(owner), "JOB", NULL, .aliases = NULL},
};

static int check(const struct options *o, struct mu_err *err)
{
    const char *needs = o->node ? "--node" : o->key ? "--key" : o->detach ? "--detach" : NULL;

    if (!o->join && needs)
        return mu_err_set(err, MUSTER_EARG, "%s goes with --join HOST:PORT", needs);
    if (o->detach && o->foreground)
        return mu_err_set(err, MUSTER_EARG, "--detach and --foreground are opposites: give one of them");
    if (o->join && (o->local || o->rejoin))
        return mu_err_set(err, MUSTER_EARG, "an agent has one pool: --join excludes --local and --rejoin");
    if (o->node && (strlen(o->node) >= sizeof((struct mu_join *)0)->node || !mu_hosts_is_node(o->node)))
        return mu_err_set(err, MUSTER_EARG, "--node %.80s: not a name; letters, digits and . - _ make one", o->node);
    return 0;
}

/* The host from which ssh brought us here is one at which the controller is, as this host sees it. */
static void prefer_ssh_client(struct mu_join *j)
{
    const char *ssh = getenv("SSH_CONNECTION");
    char host[MU_JOIN_HOST];

    if (!ssh)
        return;
    snprintf(host, sizeof host, "%.*s", (int)strcspn(ssh, " "), ssh);
    mu_join_prefer(j, host);
}

static int read_join(const struct options *o, struct mu_agent_start *s, struct mu_err *err)
{
    struct mu_join *j = &s->join;
    char path[PATH_MAX];
    int rc;

    if (o->rejoin) {
        rc = mu_join_load(&s->paths, j, err);
        return rc ? mu_err_prefix(err, "--rejoin") : 0;
    }
    if ((rc = mu_join_parse(j, o->join, err)))
        return mu_err_prefix(err, "--join");
    if (o->key_fd >= 0)
        prefer_ssh_client(j);
    const char *slurm = o->step ? getenv("SLURMD_NODENAME") : NULL;
    snprintf(j->node, sizeof j->node, "%s", o->node ? o->node : slurm && *slurm ? slurm : s->paths.host);
    j->slots = o->slots;
    j->owner = o->owner;
    j->stay = !o->detach && !o->step;
    if (o->key_fd >= 0) {
        rc = mu_key_read(o->key_fd, KEY_MS, &j->key, err);
    } else {
        rc = o->key ? 0 : mu_key_path(&s->paths, path, err);
        if (!rc && (rc = mu_key_load(o->key ? o->key : path, &j->key, err)) && !o->key)
            mu_err_prefix(err, "bring the pool's key here, or say --key FILE");
    }
    return rc;
}

/* For a workload manager: the agent, its keepers and whoever follows the agent are below this process, which stays as
 * long as one of them. Told to end, they are told as well. */
static void outlive_all(void)
{
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    signal(SIGTERM, SIG_IGN);
    signal(SIGINT, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
}

static void await_all(void)
{
    while (waitpid(-1, NULL, 0) > 0 || errno == EINTR)
        ;
}

/* The process that was started waits for its child to join, and ends as it says. 1: that is over. */
static int detach(struct mu_agent_start *s, bool step, int *code, struct mu_err *err)
{
    int fds[2], status = 1;

    if (pipe2(fds, O_CLOEXEC))
        return mu_err_errno(err, 0, "cannot make a pipe");
    if (step)
        outlive_all();
    pid_t pid = fork();
    if (pid < 0) {
        close(fds[0]);
        close(fds[1]);
        return mu_err_errno(err, 0, "cannot fork");
    }
    if (!pid) {
        signal(SIGTERM, SIG_DFL);
        signal(SIGINT, SIG_DFL);
        signal(SIGHUP, SIG_DFL);
        close(fds[0]);
        s->joined_fd = fds[1];
        return 0;
    }
    close(fds[1]);
    *code = 0;
    if (mu_daemon_await(fds[0], MU_AGENT_JOIN_MS + 5000, &status, err)) {
        fprintf(stderr, "muster agent: %s\n", err->text);
        *code = status;
    } else if (step) {
        await_all();
    }
    close(fds[0]);
    return 1;
}

int mu_agent_start(int argc, char **argv, struct mu_agent_start *s, int *code, struct mu_err *err)
{
    struct options o = {.key_fd = -1};
    char id[9];
    int first, rc = mu_opt_parse(options, MU_COUNT(options), argc, argv, 0, &o, &first, err);

    memset(s, 0, sizeof *s);
    s->joined_fd = -1;
    if (rc == 1) {
        mu_opt_help(stdout, "muster agent [OPTIONS]", options, MU_COUNT(options));
        *code = 0;
        return 1;
    }
    if (!rc && first < argc)
        rc = mu_err_set(err, MUSTER_EARG, "agent takes no operand: %.100s", argv[first]);
    if (rc || (rc = check(&o, err)))
        return rc;
    if (o.join) {
        snprintf(id, sizeof id, "%08x", mu_join_id(o.join));
        setenv(MU_PATHS_JOINED, o.pool ? o.pool : id, 1);
    } else if (!o.rejoin) {
        unsetenv(MU_PATHS_JOINED);
    }
    if (o.step)
        setenv(MU_PATHS_STEP, "1", 1);
    else if (!o.rejoin)
        unsetenv(MU_PATHS_STEP);
    if ((rc = mu_paths_init(&s->paths, err)))
        return rc;
    if (o.run && strcmp(o.run, s->paths.run))
        return mu_err_set(err, MUSTER_EARG,
                          "--run is not this pool's run directory: MUSTER_HOME or MUSTER_RUN_ROOT differ");
    if ((o.join || o.rejoin) && (rc = read_join(&o, s, err)))
        return rc;
    s->local = o.local;
    s->foreground = o.foreground || (o.join && !o.detach && !o.step);
    s->take_over = o.join && !o.detach && !o.step;
    s->slots = o.rejoin ? s->join.slots : o.slots;
    return o.detach || o.step ? detach(s, o.step, code, err) : 0;
}

int mu_agent_lock(struct mu_agent_start *s, int *lock, struct mu_err *err)
{
    char path[PATH_MAX];
    pid_t pid = 0;
    int rc, looks = 0;

    for (int i = 0;; i++) {
        if ((rc = mu_path_join(path, sizeof path, s->paths.run, "agent.lock", err)))
            return rc;
        *lock = mu_path_lock(path, 0, err);
        if (*lock == MUSTER_ETIMEOUT) {
            if ((mu_daemon_locked(s->paths.run, "agent.lock", &pid) && pid > 0) || ++looks == LOOKS)
                break;
            usleep(1000 * LOOK_MS); /* a holder that has ended since, has not signed yet, or only looked who holds it */
            i = 0;
            continue;
        }
        if (*lock >= 0 || !access(s->paths.run, F_OK) || i == LOCK_TRIES)
            return *lock < 0 ? *lock : 0;
        /* a daemon that has just ended took the directory with it */
        if ((rc = mu_paths_init(&s->paths, err)))
            return rc;
    }
    char stopped = pid > 1 ? mu_proc_stopped(pid) : 0;
    bool frozen = (stopped == 'T' || stopped == 'F') && (s->take_over || s->joined_fd >= 0);
    if ((s->take_over || frozen) && pid > 1) {
        kill(pid, frozen ? SIGKILL : SIGTERM);
        *lock = mu_path_lock(path, TAKE_OVER_MS, err);
        return *lock < 0 ? *lock : 0;
    }
    if (s->joined_fd >= 0 && pid > 1) { /* it is there already, and hears how the controller is reached now */
        struct mu_join old = {0};
        rc = mu_join_load(&s->paths, &old, NULL);
        mu_key_wipe(&old.key);
        if (!rc && strcmp(old.node, s->join.node))
            return mu_err_set(err, MUSTER_EJOB, "this host is in the pool already, as %s: name it once", old.node);
        if ((rc = mu_join_save(&s->paths, &s->join, err)))
            return rc;
        kill(pid, SIGHUP);
        return 1;
    }
    return mu_err_set(err, MUSTER_EJOB, "an agent (pid %d) of this pool already runs on this node", (int)pid);
}
