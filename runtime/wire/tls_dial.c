#include <errno.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "runtime/base/clean.h"
#include "runtime/base/str.h"
#include "runtime/wire/addr.h"
#include "runtime/wire/daemon.h"
#include "runtime/wire/pace.h"
#include "runtime/wire/tls_priv.h"

#define ADDRS_MAX 16
#define HUNG_UP "it hung up during the handshake"
#define LATER_MS 50 /* it is our own turn that is waited for */

struct mu_tls_dial {
    struct mu_tls *tls;
    mu_tls_dial_fn fn;
    void *arg;
    struct mu_alarm *alarm;
    struct mu_lookup *lookup;
    struct mu_addr addrs[ADDRS_MAX];
    unsigned n, at;
    int fd;
    struct event *ev; /* fd is connected or has failed */
    struct mu_tls_conn *conn;
    struct mu_pace *pace;
    struct mu_step step; /* waits: the handshake can go on */
    bool hung_up;
    uint64_t until;
    struct mu_err err; /* of the newest address */
    char host[MU_ADDR_HOST], name[MU_ADDR_HOST + 8];
};

static void hang_up(struct mu_tls_dial *d)
{
    if (d->pace)
        mu_pace_drop(d->pace, &d->step);
    if (d->ev)
        event_free(MU_STEAL(d->ev, NULL));
    if (d->fd >= 0)
        close(MU_STEAL(d->fd, -1));
}

void mu_tls_dial_cancel(struct mu_tls_dial *d)
{
    if (!d)
        return;
    hang_up(d);
    mu_lookup_free(d->lookup);
    mu_tls_conn_free(d->conn);
    mu_alarm_free(d->alarm);
    mu_pace_put(d->pace);
    free(d);
}

static void end_dial(struct mu_tls_dial *d, const struct mu_err *why)
{
    struct mu_tls_conn *c = why ? NULL : MU_STEAL(d->conn, NULL);
    mu_tls_dial_fn fn = d->fn;
    void *arg = d->arg;
    struct mu_err err = {0};

    if (why)
        mu_err_set(&err, why->code, "cannot connect to %s: %s", d->name, why->text);
    if (d->conn) {
        bufferevent_setcb(d->conn->bev, NULL, NULL, NULL, NULL);
        mu_tls_conn_refuse(MU_STEAL(d->conn, NULL));
    }
    mu_tls_dial_cancel(d);
    fn(arg, c, &err);
}

static void fail_dial(struct mu_tls_dial *d, int code, const char *text)
{
    struct mu_err err;

    mu_err_set(&err, code, "%s", text);
    end_dial(d, &err);
}

static void on_dial_read(struct bufferevent *bev, void *arg)
{
    struct mu_tls_dial *d = arg;

    (void)bev;
    mu_pace_add(d->pace, &d->step);
}

static void on_dial_event(struct bufferevent *bev, short what, void *arg)
{
    struct mu_tls_dial *d = arg;
    int e = EVUTIL_SOCKET_ERROR();

    (void)bev;
    if ((what & BEV_EVENT_ERROR) && (what & BEV_EVENT_WRITING))
        return; /* what it said before it left is still to be read */
    d->hung_up = true;
    if (!d->step.waiting)
        fail_dial(d, MUSTER_EPEER, (what & BEV_EVENT_ERROR) && e ? strerror(e) : HUNG_UP);
}

static bool begin_handshake(struct mu_tls_dial *d)
{
    uint64_t until = mu_now() + ms(d->tls->limits.handshake_ms);
    int fd = MU_STEAL(d->fd, -1);

    if (d->ev)
        event_free(MU_STEAL(d->ev, NULL));
    d->conn = mu_tls_conn_new(d->tls->base, d->tls->ctx, fd, false, d->tls->limits.rekey_records);
    if (!d->conn) {
        fail_dial(d, MUSTER_ENOMEM, "out of memory");
        return false;
    }
    bufferevent_setcb(d->conn->bev, on_dial_read, NULL, on_dial_event, d);
    bufferevent_enable(d->conn->bev, EV_READ | EV_WRITE);
    mu_alarm_set(d->alarm, until);
    return true;
}

/* Our part comes first. */
static void on_dial_step(void *arg)
{
    struct mu_tls_dial *d = arg;
    struct mu_err err;

    if (!d->conn && !begin_handshake(d))
        return;
    int rc = mu_tls_handshake(d->conn, &err);
    if (!rc && d->hung_up)
        rc = mu_err_set(&err, MUSTER_EPEER, HUNG_UP);
    if (!rc)
        return;
    if (rc > 0) {
        bufferevent_setcb(d->conn->bev, NULL, NULL, NULL, NULL);
        bufferevent_disable(d->conn->bev, EV_READ);
    }
    end_dial(d, rc < 0 ? &err : NULL);
}

static void next_address(struct mu_tls_dial *d);

static void on_connected(evutil_socket_t fd, short what, void *arg)
{
    struct mu_addr here = {.len = sizeof here.in6}, there = {.len = sizeof there.in6};
    struct mu_tls_dial *d = arg;
    socklen_t len = sizeof errno;
    int e = 0;

    (void)what;
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &e, &len))
        e = errno;
    /* TCP on one host may connect a socket with itself where nobody listens. */
    if (!e && !getsockname(fd, &here.sa, &here.len) && !getpeername(fd, &there.sa, &there.len) &&
        here.len == there.len && !memcmp(&here.in6, &there.in6, here.len))
        e = ECONNREFUSED;
    if (!e) {
        mu_pace_add(d->pace, &d->step);
        return;
    }
    mu_err_set(&d->err, MUSTER_EPEER, "%s", strerror(e));
    next_address(d);
}

/* 0: under way. */
static int try_address(struct mu_tls_dial *d, const struct mu_addr *a)
{
    d->fd = socket(a->sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (d->fd < 0)
        return errno;
    mu_tls_tune(d->tls, d->fd);
    if (connect(d->fd, &a->sa, a->len) && errno != EINPROGRESS && errno != EINTR)
        return errno;
    d->ev = event_new(d->tls->base, d->fd, EV_WRITE, on_connected, d);
    return !d->ev || event_add(d->ev, NULL) ? ENOMEM : 0;
}

/* The time that is left is shared among the addresses that are left. */
static void next_address(struct mu_tls_dial *d)
{
    uint64_t now = mu_now();

    hang_up(d);
    while (d->at < d->n && now < d->until) {
        unsigned left = d->n - d->at;
        int e = try_address(d, &d->addrs[d->at++]);
        if (!e) {
            mu_alarm_set(d->alarm, now + (d->until - now) / left);
            return;
        }
        hang_up(d);
        mu_err_set(&d->err, e == ENOMEM ? MUSTER_ENOMEM : MUSTER_EPEER, "%s", strerror(e));
    }
    struct mu_err err = d->err;
    end_dial(d, &err);
}

static void on_dial_alarm(void *arg)
{
    struct mu_tls_dial *d = arg;

    if (d->step.waiting) {
        mu_alarm_set(d->alarm, mu_now() + ms(LATER_MS));
    } else if (d->conn) {
        fail_dial(d, MUSTER_ETIMEOUT, "it has not proved in time that it has the pool key");
    } else if (d->lookup && !d->n) {
        fail_dial(d, MUSTER_ETIMEOUT, "the name server does not answer");
    } else {
        if (d->fd >= 0)
            mu_err_set(&d->err, MUSTER_ETIMEOUT, "no answer");
        next_address(d);
    }
}

static void on_looked_up(void *arg, const struct mu_addr *v, unsigned n, const struct mu_err *err)
{
    struct mu_tls_dial *d = arg;

    if (!n) {
        end_dial(d, err);
        return;
    }
    d->n = n < ADDRS_MAX ? n : ADDRS_MAX;
    memcpy(d->addrs, v, d->n * sizeof *v);
    next_address(d);
}

int mu_connect_tcp(struct mu_tls *tls, const char *host, uint16_t port, mu_tls_dial_fn fn, void *arg,
                   struct mu_tls_dial **out, struct mu_err *err)
{
    struct mu_tls_dial *d = calloc(1, sizeof *d);
    int rc = 0;

    if (!d)
        return mu_err_set(err, MUSTER_ENOMEM, "out of memory");
    *d = (struct mu_tls_dial){.tls = tls, .fn = fn, .arg = arg, .fd = -1, .step = {.fn = on_dial_step, .arg = d}};
    mu_err_set(&d->err, MUSTER_ETIMEOUT, "no answer");
    d->until = mu_now() + ms(tls->limits.connect_ms);
    d->alarm = mu_alarm_new(tls->base, on_dial_alarm, d);
    d->pace = mu_pace_get(tls->base);
    if (!d->alarm || !d->pace) {
        rc = mu_err_set(err, MUSTER_ENOMEM, "out of memory");
    } else if (mu_str_copy(d->host, sizeof d->host, host) || !*host) {
        rc = mu_err_set(err, MUSTER_EARG, "not a host name: '%.100s'", host);
    } else {
        snprintf(d->name, sizeof d->name, strchr(host, ':') ? "[%s]:%u" : "%s:%u", host, port);
        if (!mu_addr_numeric(host, port, &d->addrs[0], NULL)) {
            d->n = 1;
            mu_alarm_set(d->alarm, 0); /* from the loop, as everything */
        } else {
            rc = mu_addr_resolve(tls->base, host, port, on_looked_up, d, &d->lookup, err);
            mu_alarm_set(d->alarm, d->until);
        }
    }
    if (rc) {
        mu_tls_dial_cancel(d);
        return rc;
    }
    *out = d;
    return 0;
}
