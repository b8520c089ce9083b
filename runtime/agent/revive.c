#include "runtime/agent/revive.h"

#include <event2/event.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "runtime/base/clean.h"
#include "runtime/base/clock.h"
#include "runtime/base/log.h"
#include "runtime/base/path.h"
#include "runtime/wire/daemon.h"

#define EVERY (5 * MU_SEC)
#define READY_MS 10000

void mu_revive_stop(struct mu_revive *r)
{
    if (r->ready_ev)
        event_free(MU_STEAL(r->ready_ev, NULL));
    if (r->ready_fd >= 0)
        close(MU_STEAL(r->ready_fd, -1));
    if (r->lock >= 0)
        close(MU_STEAL(r->lock, -1));
}

static void on_ready(evutil_socket_t fd, short what, void *arg)
{
    struct mu_err err = {.text = "it is not ready in time"};

    /* the line comes in one write */
    if (!(what & EV_READ) || mu_daemon_await(fd, 100, NULL, &err))
        mu_log(MU_LOG_WARN, "agent", "the controller did not start: %s", err.text);
    mu_revive_stop(arg);
}

void mu_revive(struct mu_revive *r, unsigned keepers)
{
    static const struct timeval limit = {.tv_sec = READY_MS / 1000};
    char name[] = "muster", cmd[] = "controller", flag[] = "--ready-fd", number[16], path[PATH_MAX];
    char *argv[] = {name, cmd, flag, number, NULL};
    uint64_t now = mu_now();
    struct mu_err err;
    int fds[2];

    if (r->lock >= 0 || (r->tried && now - r->tried < EVERY) ||
        mu_path_join(path, sizeof path, r->run, "start.lock", NULL))
        return;
    r->lock = mu_path_lock(path, 0, NULL);
    if (r->lock < 0)
        return; /* somebody is at it */
    r->tried = now;
    if (pipe2(fds, O_CLOEXEC)) {
        mu_revive_stop(r);
        return;
    }
    r->ready_fd = fds[0];
    snprintf(number, sizeof number, "%d", fds[1]);
    if (keepers)
        mu_log(MU_LOG_INFO, "agent", "starting a controller: %u keepers need one", keepers);
    else
        mu_log(MU_LOG_INFO, "agent", "starting a controller: the last one did not take its leave");
    int rc = mu_daemon_spawn(argv, fds[1], true, NULL, &err);
    close(fds[1]);
    r->ready_ev = rc ? NULL : event_new(r->base, r->ready_fd, EV_READ, on_ready, r);
    if (!r->ready_ev || event_add(r->ready_ev, &limit)) {
        if (rc)
            mu_log(MU_LOG_ERROR, "agent", "%s", err.text);
        mu_revive_stop(r);
    }
}
