#include "launcher/relay.h"

#include <event2/event.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "runtime/base/clean.h"
#include "runtime/base/clock.h"
#include "runtime/wire/daemon.h"
#include "runtime/wire/link.h"
#include "runtime/wire/tls.h"

#define HIGH (1u << 20) /* bytes on their way to one side before the other one is not read any more */
#define LOOK_NS (20 * MU_MS)
#define FLUSH_NS (5 * MU_SEC)

struct relay {
    struct event_base *base;
    struct mu_tls *tls;
    struct mu_tls_dial *dial;
    struct mu_link *near, *far; /* the command, the controller */
    struct mu_alarm *alarm;     /* looks whether what was held up may go on */
    int fd;                     /* our end of the pair, until near has it */
    bool dialled, over;
    struct mu_err err;
};

static void end(struct relay *r)
{
    r->over = true;
    event_base_loopbreak(r->base);
}

/* What comes from one side goes to the other as it is. */
static void pass(struct relay *r, struct mu_link *from, struct mu_link *to, const void *frame, size_t len)
{
    if (!to || mu_link_send(to, frame, len)) {
        end(r);
        return;
    }
    if (mu_link_pending(to) > HIGH) {
        mu_link_pause(from, true);
        mu_alarm_set(r->alarm, mu_now() + LOOK_NS);
    }
}

static void on_msg(void *arg, struct mu_link *link, const struct mu_msg *msg, const void *frame, size_t len)
{
    struct relay *r = arg;

    (void)msg;
    pass(r, link, link == r->near ? r->far : r->near, frame, len);
}

static void on_alarm(void *arg)
{
    struct relay *r = arg;
    bool wait = false;

    for (int i = 0; i < 2 && r->near && r->far; i++) {
        struct mu_link *from = i ? r->near : r->far, *to = i ? r->far : r->near;
        bool full = mu_link_pending(to) > HIGH / 2;
        if (!full)
            mu_link_pause(from, false);
        wait = wait || full;
    }
    if (wait)
        mu_alarm_set(r->alarm, mu_now() + LOOK_NS);
}

static void on_down(void *arg, struct mu_link *link)
{
    struct relay *r = arg;

    if (link == r->near)
        r->near = NULL;
    else
        r->far = NULL;
    mu_link_free(link);
    end(r);
}

static void on_dialled(void *arg, struct mu_tls_conn *conn, const struct mu_err *err)
{
    struct relay *r = arg;

    r->dial = NULL;
    r->dialled = true;
    r->far = conn ? mu_link_new_tls(conn, on_msg, on_down, r) : NULL;
    if (conn && !r->far)
        mu_err_set(&r->err, MUSTER_ENOMEM, "out of memory");
    else if (!conn)
        r->err = *err;
}

static void destroy(struct relay *r)
{
    mu_tls_dial_cancel(r->dial);
    mu_link_free(r->near);
    mu_link_free(r->far);
    mu_tls_free(r->tls);
    mu_alarm_free(r->alarm);
    if (r->fd >= 0)
        close(r->fd);
    if (r->base)
        event_base_free(r->base);
    free(r);
}

static void *run(void *arg)
{
    struct relay *r = arg;

    while (!r->over && event_base_loop(r->base, EVLOOP_NO_EXIT_ON_EMPTY) >= 0)
        ;
    /* what one side still sent before it left goes to the other */
    uint64_t until = mu_now() + FLUSH_NS;
    mu_link_close_after_flush(MU_STEAL(r->near, NULL));
    mu_link_close_after_flush(MU_STEAL(r->far, NULL));
    while (mu_link_flushing() && mu_now() < until) {
        struct timeval slice = {.tv_usec = 10000};
        event_base_loopexit(r->base, &slice);
        event_base_loop(r->base, EVLOOP_ONCE);
    }
    destroy(r);
    return NULL;
}

static int dial(struct relay *r, const char *host, uint16_t port, const struct mu_key *key, struct mu_err *err)
{
    int rc;

    r->base = mu_loop_new();
    r->alarm = r->base ? mu_alarm_new(r->base, on_alarm, r) : NULL;
    if (!r->alarm)
        return mu_err_set(err, MUSTER_ENOMEM, "out of memory");
    if ((rc = mu_tls_new(r->base, key, NULL, &r->tls, err)) ||
        (rc = mu_connect_tcp(r->tls, host, port, on_dialled, r, &r->dial, err)))
        return rc;
    /* the dial has its own deadline */
    while (!r->dialled && event_base_loop(r->base, EVLOOP_ONCE) >= 0)
        ;
    return r->far ? 0 : mu_err_set(err, r->err.code, "%s", r->err.text);
}

static int start_thread(struct relay *r, struct mu_err *err)
{
    sigset_t all, old;
    pthread_attr_t attr;
    pthread_t thread;

    /* signals are for the command */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int rc = pthread_attr_init(&attr);
    if (!rc) {
        pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
        rc = pthread_create(&thread, &attr, run, r);
        pthread_attr_destroy(&attr);
    }
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return rc ? mu_err_set(err, MUSTER_ENOMEM, "cannot start a thread") : 0;
}

int mu_relay_open(const char *host, uint16_t port, const struct mu_key *key, int *fd, struct mu_err *err)
{
    struct relay *r = calloc(1, sizeof *r);
    int fds[2], rc;

    if (!r)
        return mu_err_set(err, MUSTER_ENOMEM, "out of memory");
    r->fd = -1;
    if ((rc = dial(r, host, port, key, err)))
        goto failed;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds)) {
        rc = mu_err_errno(err, 0, "cannot make a socket");
        goto failed;
    }
    r->near = mu_link_new(r->base, fds[0], on_msg, on_down, r);
    rc = r->near ? start_thread(r, err) : mu_err_set(err, MUSTER_ENOMEM, "out of memory");
    if (rc) {
        close(fds[1]);
        goto failed;
    }
    *fd = fds[1];
    return 0;
failed:
    destroy(r);
    return rc;
}
