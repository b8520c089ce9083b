/* Who is the controller: whoever holds RUN/ctl.lock. */
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include "launcher/controller.h"
#include "runtime/base/clean.h"
#include "runtime/base/clock.h"
#include "runtime/base/procstate.h"
#include "runtime/wire/daemon.h"
#include "runtime/wire/exe.h"
#include "runtime/wire/link.h"

#define LOCK_WAIT_MS 5000 /* a controller that is just ending keeps its lock for a moment */
#define START_WAIT_MS 10000

/* Asks the one that has the lock to end, in whatever state it is. */
static pid_t ask_to_end(const char *run)
{
    pid_t pid = 0;

    if (!mu_daemon_locked(run, "ctl.lock", &pid) || pid <= 1)
        return 0;
    char state = mu_proc_stopped(pid);
    kill(pid, state == 'T' || state == 'F' ? SIGKILL : SIGTERM);
    return pid;
}

static int take(struct mu_paths *paths, bool over, int *lock, struct mu_err *err)
{
    char path[PATH_MAX];
    pid_t pid = 0, asked = 0;
    int fd;

    for (int i = 0;; i++) {
        int rc = mu_path_join(path, sizeof path, paths->run, "ctl.lock", err);
        if (rc)
            return rc;
        *lock = mu_path_lock(path, 0, err);
        if (*lock >= 0) {
            mu_daemon_sweep(paths);
            return mu_exe_alike(paths->run, err);
        }
        if (*lock == MUSTER_ETIMEOUT) {
            asked = over && !asked ? ask_to_end(paths->run) : asked;
            /* One that answers stays; one that does not is ending, or starting and answers soon. */
            rc = over ? MUSTER_EPEER : mu_connect_unix(paths->run, "ctl.sock", &fd, err);
            if (!rc)
                close(fd);
            if (!rc || i >= LOCK_WAIT_MS / 20) {
                mu_daemon_locked(paths->run, "ctl.lock", &pid);
                return over ? mu_err_set(err, MUSTER_EJOB, "the controller (pid %d) does not end; kill it", (int)pid)
                            : mu_err_set(err, MUSTER_EJOB,
                                         "a controller (pid %d) already runs on this store; `muster controller --stop` "
                                         "ends it, --take-over takes its place",
                                         (int)pid);
            }
        } else if (access(paths->run, F_OK) == 0 || i >= 10) {
            return *lock;
        }
        nanosleep(&(struct timespec){.tv_nsec = 20 * MU_MS}, NULL);
        rc = mu_paths_init(paths, err); /* the run directory goes with the controller that ends */
        if (rc)
            return rc;
    }
}

int mu_controller_lock(struct mu_paths *paths, bool over, int *lock, struct mu_err *err)
{
    char path[PATH_MAX];
    int rc;

    if (!over)
        return take(paths, false, lock, err);
    /* Nobody else starts one meanwhile, the agent above all. */
    if ((rc = mu_path_join(path, sizeof path, paths->run, "start.lock", err)))
        return rc;
    mu_auto_fd int start = mu_path_lock(path, START_WAIT_MS, err);
    return start < 0 ? start : take(paths, true, lock, err);
}
