#include "launcher/connect.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "launcher/controller.h"
#include "launcher/relay.h"
#include "runtime/base/clean.h"
#include "runtime/base/clock.h"
#include "runtime/wire/addr.h"
#include "runtime/wire/daemon.h"
#include "runtime/wire/link.h"

#define START_MS 10000

/* *runs: another one was quicker, or is there and had lost its socket. */
static int start_controller(bool *runs, struct mu_err *err)
{
    char number[16], name[] = "muster", cmd[] = "controller", flag[] = "--ready-fd";
    char *argv[] = {name, cmd, flag, number, NULL};
    int fds[2], code = 0;

    if (pipe2(fds, O_CLOEXEC))
        return mu_err_errno(err, 0, "cannot make a pipe");
    mu_auto_fd int in = fds[0], out = fds[1];
    snprintf(number, sizeof number, "%d", out);
    int rc = mu_daemon_spawn(argv, out, true, NULL, err);
    if (rc)
        return rc;
    close(MU_STEAL(out, -1));
    rc = mu_daemon_await(in, START_MS, &code, err);
    *runs = rc && code == MU_CONTROLLER_RUNS;
    if (rc)
        mu_err_prefix(err, "the controller did not start");
    return rc;
}

/* One try. The run directory may vanish under us when a controller ends: *again. */
static int try_start(const struct mu_paths *paths, int *fd, bool *again, struct mu_err *err)
{
    char path[PATH_MAX];
    const char *run = paths->run;
    bool runs = false;
    int rc = mu_path_join(path, sizeof path, run, "start.lock", err);

    if (rc)
        return rc;
    mu_auto_fd int lock = mu_path_lock(path, START_MS, err);
    *again = lock < 0 && access(run, F_OK) < 0;
    if (lock < 0)
        return lock;
    rc = mu_connect_unix(run, "ctl.sock", fd, err); /* whoever had the lock may have started it */
    if (rc != MUSTER_EPEER)
        return rc;
    rc = start_controller(&runs, err);
    if (runs && !mu_connect_unix(run, "ctl.sock", fd, NULL))
        return 0;
    if (rc) {
        mu_daemon_leave(paths, &lock); /* what it began is removed again, unless somebody else uses it */
        return rc;
    }
    rc = mu_connect_unix(run, "ctl.sock", fd, err);
    *again = rc == MUSTER_EPEER;
    return rc;
}

/* A controller somewhere else; nobody starts that from here. */
static int connect_far(const struct mu_paths *paths, const char *pool, int *fd, struct mu_err *err)
{
    mu_auto_key struct mu_key key = {0};
    char host[MU_ADDR_HOST], path[PATH_MAX];
    uint16_t port;
    int rc = mu_addr_split(pool, 0, host, &port, err);

    if (!rc)
        rc = mu_key_path(paths, path, err);
    if (!rc && (rc = mu_key_load(path, &key, err)))
        mu_err_prefix(err, "the key of that pool is needed here");
    if (!rc && (rc = mu_relay_open(host, port, &key, fd, err)) && rc != MUSTER_EARG && rc != MUSTER_EVERSION) {
        char why[sizeof err->text];
        snprintf(why, sizeof why, "%s", err->text);
        mu_err_set(err, MUSTER_ENODE, "%s; is there a muster controller --listen?", why);
    }
    return rc ? mu_err_prefix(err, "MUSTER_POOL=%.100s", pool) : 0;
}

int mu_controller_connect(const struct mu_paths *paths, bool start, int *fd, struct mu_err *err)
{
    const char *pool = getenv("MUSTER_POOL");
    struct mu_paths fresh;
    int rc = MUSTER_EPEER;

    if (pool && *pool == '/') /* of another account of this host */
        return (rc = mu_connect_unix_all(pool, fd, err)) ? mu_err_prefix(err, "MUSTER_POOL") : 0;
    if (pool && *pool)
        return connect_far(paths, pool, fd, err);
    for (int i = 0; i < 5; i++) {
        bool again = false;
        rc = mu_connect_unix(paths->run, "ctl.sock", fd, err);
        if (rc != MUSTER_EPEER || !start)
            return rc;
        rc = try_start(paths, fd, &again, err);
        if (!rc || !again)
            return rc;
        rc = mu_paths_init(&fresh, err); /* makes the run directory anew */
        if (rc)
            return rc;
        nanosleep(&(struct timespec){.tv_nsec = 20 * MU_MS}, NULL);
    }
    return rc;
}
