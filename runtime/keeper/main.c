/* The keeper's start: options, paths, log, lock. What it does is in keeper.c. */
#include "runtime/keeper/keeper.h"

#include <limits.h>
#include <stdio.h>

#include "runtime/base/clean.h"
#include "runtime/base/log.h"
#include "runtime/base/opt.h"
#include "runtime/base/path.h"
#include "runtime/keeper/process.h"
#include "runtime/keeper/shell.h"
#include "runtime/wire/daemon.h"

struct options {
    uint64_t job;
    const char *node;
    int lock_fd;
    bool foreground;
};

static const struct mu_opt table[] = {
    {"job", 0, MU_OPT_U64, offsetof(struct options, job), "N", "the job whose ranks it keeps", .min = 1},
    {"node", 0, MU_OPT_STRING, offsetof(struct options, node), "NAME", "this node's name in the pool"},
    {"lock-fd", 0, MU_OPT_INT, offsetof(struct options, lock_fd), "N", NULL, .min = 3, .max = 1 << 20},
    {"foreground", 0, MU_OPT_FLAG, offsetof(struct options, foreground), NULL, "log to standard error"},
};

int mu_keeper_main(int argc, char **argv)
{
    struct options o = {0};
    struct mu_paths paths;
    struct mu_err err = {0};
    char name[48], lock_path[PATH_MAX];
    bool released = false;
    int operand, rc = mu_opt_parse(table, MU_COUNT(table), argc, argv, 0, &o, &operand, &err);

    if (rc == 1) {
        mu_opt_help(stdout, "muster keeper --job N --node NAME", table, MU_COUNT(table));
        return 0;
    }
    if (!rc && (operand < argc || !o.job || !o.node || !*o.node))
        rc = mu_err_set(&err, MUSTER_EARG, "usage: muster keeper --job N --node NAME (started by the agent)");
    if (rc) {
        fprintf(stderr, "muster keeper: %s\n", err.text);
        return 2;
    }
    rc = mu_paths_init(&paths, &err);
    if (rc) {
        fprintf(stderr, "muster keeper: %s\n", err.text);
        return 1;
    }
    snprintf(name, sizeof name, "keeper.%llu", (unsigned long long)o.job);
    /* A keeper without a log keeps its ranks as well; its complaints go where standard error goes. */
    if (mu_daemon_setup(&paths, name, o.foreground, &err) && !o.foreground) {
        fprintf(stderr, "muster keeper: %s\n", err.text);
        mu_daemon_setup(&paths, name, true, NULL);
    }
    mu_log_context(name);
    snprintf(name, sizeof name, "keeper.%llu.lock", (unsigned long long)o.job);
    rc = mu_path_join(lock_path, sizeof lock_path, paths.run, name, &err);
    if (!rc)
        rc = mu_keeper_lock(o.lock_fd, lock_path, &err);
    if (rc < 0) {
        mu_log(MU_LOG_ERROR, "keeper", "%s", err.text);
        return rc == MUSTER_ETIMEOUT ? 2 : 1;
    }
    int lock = rc;
    rc = mu_keeper_run(o.job, o.node, &paths, &lock, &released, &err);
    if (rc)
        mu_log(MU_LOG_ERROR, "keeper", "%s", err.text);
    mu_keeper_leave(&paths, lock_path, lock, released);
    mu_log_close();
    return rc ? 1 : 0;
}
