#include "runtime/keeper/process.h"

#include <pthread.h>
#include <stdlib.h>

#include "runtime/base/log.h"
#include "runtime/base/path.h"
#include "runtime/wire/daemon.h"

void mu_keeper_block(sigset_t *taken)
{
    sigemptyset(taken);
    sigaddset(taken, SIGCHLD);
    sigaddset(taken, SIGTERM);
    sigaddset(taken, SIGINT);
    sigaddset(taken, SIGHUP);
    pthread_sigmask(SIG_BLOCK, taken, NULL);
}

/* Somebody has to, and nobody is sooner: the controller may be gone too or on another host, and reaches ranks only
 * through one. */
bool mu_keeper_start_agent(const char *run)
{
    char name[] = "muster", cmd[] = "agent", flag[] = "--run", local[] = "--local", rejoin[] = "--rejoin";
    char *argv[] = {name, cmd, flag, (char *)(uintptr_t)run, getenv(MU_PATHS_JOINED) ? rejoin : local, NULL};
    struct mu_err err;
    pid_t pid;

    if (mu_daemon_locked(run, "agent.lock", NULL))
        return false;
    if (mu_daemon_spawn(argv, -1, true, &pid, &err))
        mu_log(MU_LOG_ERROR, "keeper", "%s", err.text);
    else
        mu_log(MU_LOG_INFO, "keeper", "agent %ld started in place of the one that is gone", (long)pid);
    return true;
}
