#include "runtime/keeper/process.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/base/clean.h"
#include "runtime/base/log.h"
#include "runtime/base/path.h"
#include "runtime/base/str.h"
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

int mu_keeper_lock(int fd, const char *path, struct mu_err *err)
{
    if (!fd)
        return mu_path_lock(path, 0, err);
    int rc = mu_path_lock_sign(fd, path, err);
    if (!rc && fcntl(fd, F_SETFD, FD_CLOEXEC))
        rc = mu_err_errno(err, MUSTER_EARG, "--lock-fd %d", fd);
    return rc ? rc : fd;
}

int mu_keeper_lock_again(uint64_t job, int lock)
{
    struct mu_paths paths;
    struct mu_err err;
    char name[48], path[PATH_MAX];
    int fd;

    snprintf(name, sizeof name, "keeper.%llu.lock", (unsigned long long)job);
    if (mu_paths_init(&paths, &err) || mu_path_join(path, sizeof path, paths.run, name, &err) ||
        (fd = mu_path_lock(path, 0, &err)) < 0) {
        mu_log(MU_LOG_ERROR, "keeper", "%s was removed: %s", name, err.text);
        return lock;
    }
    mu_log(MU_LOG_WARN, "keeper", "%s was removed while the job runs: it is made again", path);
    close(lock);
    return fd;
}

void mu_keeper_leave(const struct mu_paths *paths, const char *lock_path, int lock, bool released)
{
    bool last = !getenv(MU_PATHS_JOINED) || getenv(MU_PATHS_STEP);

    /* Held while it goes away, so that nobody finds a name that is free and a keeper that lives. */
    if (released)
        unlink(lock_path);
    close(lock);
    /* The agent may have been told to end before us. With this host's controller, too, nobody knows the attempts. */
    if ((released || last) && !mu_daemon_locked(paths->run, "agent.lock", NULL))
        mu_daemon_leave(paths, &(int){-1});
}

/* Each thread has a list of its children. False: there is one, or it cannot be told. */
static bool none_but(pid_t but)
{
    mu_auto_dir DIR *d = opendir("/proc/self/task");
    int lists = 0;

    for (struct dirent *e; d && (e = readdir(d));) {
        char path[300];
        long pid;

        if (e->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "/proc/self/task/%s/children", e->d_name);
        mu_auto_file FILE *f = fopen(path, "re");
        lists += f != NULL;
        while (f && fscanf(f, "%ld", &pid) == 1)
            if (pid != but)
                return false;
    }
    return lists > 0;
}

bool mu_keeper_childless(pid_t but)
{
    siginfo_t si;

    if (waitid(P_ALL, 0, &si, WEXITED | WNOHANG | WNOWAIT) < 0 && errno == ECHILD)
        return true;
    return but && none_but(but);
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

void mu_keeper_denied(const struct mu_proc_toll *t, char *text, size_t n)
{
    const struct passwd *pw = getpwuid(t->uid);
    char user[40], name[64];

    snprintf(user, sizeof user, "%ld", (long)t->uid);
    snprintf(text, n,
             "%d process%s that ranks started cannot be ended, as another user's: %ld (%s) of user %s; "
             "end %s by hand",
             t->denied, t->denied == 1 ? "" : "es", (long)t->pid, mu_str_show(name, sizeof name, t->name),
             pw ? pw->pw_name : user, t->denied == 1 ? "it" : "them");
}
