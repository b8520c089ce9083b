#include "runtime/agent/refusal.h"

#include <errno.h>
#include <event2/event.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "runtime/base/clock.h"
#include "runtime/wire/addr.h"
#include "runtime/wire/daemon.h"

#define ASK_EVERY (150 * MU_MS)

struct mu_refusal {
    struct event_base *base;
    mu_refused_fn fn;
    void *arg;
    struct mu_addr addr;
    struct mu_alarm *alarm;
    struct event *ev;
    int fd;
    uint64_t asked;
    bool on;
};

static void hang_up(struct mu_refusal *r)
{
    if (r->ev)
        event_free(r->ev);
    r->ev = NULL;
    if (r->fd >= 0)
        close(r->fd);
    r->fd = -1;
}

static void answered(struct mu_refusal *r, int e)
{
    hang_up(r);
    mu_alarm_set(r->alarm, r->asked + ASK_EVERY);
    if (e == ECONNREFUSED)
        r->fn(r->arg, r->asked);
}

static void on_event(evutil_socket_t fd, short what, void *arg)
{
    socklen_t len = sizeof errno;
    int e = 0;

    (void)what;
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &e, &len))
        e = errno;
    answered(arg, e);
}

static void on_alarm(void *arg)
{
    struct mu_refusal *r = arg;

    hang_up(r); /* the last one has not been answered in time */
    if (!r->on)
        return;
    r->asked = mu_now();
    r->fd = socket(r->addr.sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (r->fd >= 0 && !connect(r->fd, &r->addr.sa, r->addr.len)) {
        answered(r, 0);
        return;
    }
    if (r->fd < 0 || errno != EINPROGRESS) {
        answered(r, r->fd < 0 ? 0 : errno);
        return;
    }
    r->ev = event_new(r->base, r->fd, EV_WRITE, on_event, r);
    if (!r->ev || event_add(r->ev, NULL))
        hang_up(r);
    mu_alarm_set(r->alarm, r->asked + ASK_EVERY);
}

struct mu_refusal *mu_refusal_new(struct event_base *base, mu_refused_fn fn, void *arg)
{
    struct mu_refusal *r = calloc(1, sizeof *r);

    if (!r)
        return NULL;
    *r = (struct mu_refusal){.base = base, .fn = fn, .arg = arg, .fd = -1};
    r->alarm = mu_alarm_new(base, on_alarm, r);
    if (!r->alarm) {
        free(r);
        return NULL;
    }
    return r;
}

void mu_refusal_watch(struct mu_refusal *r, const char *host, uint16_t port)
{
    mu_refusal_stop(r);
    if (mu_addr_numeric(host, port, &r->addr, NULL))
        return;
    r->on = true;
    mu_alarm_set(r->alarm, mu_now());
}

void mu_refusal_stop(struct mu_refusal *r)
{
    r->on = false;
    hang_up(r);
    mu_alarm_set(r->alarm, UINT64_MAX);
}

void mu_refusal_free(struct mu_refusal *r)
{
    if (!r)
        return;
    hang_up(r);
    mu_alarm_free(r->alarm);
    free(r);
}
