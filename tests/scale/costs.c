#include "tests/scale/costs.h"

#include <event2/event.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "runtime/base/clean.h"
#include "runtime/base/clock.h"
#include "runtime/wire/core.h"
#include "runtime/wire/daemon.h"
#include "runtime/wire/link.h"
#include "runtime/wire/tls.h"

#define DIALS 40u
#define ROUNDS 2000u
#define LONG (256u << 10)
#define LONGS 100u
#define WAIT (30 * MU_SEC)

struct pair {
    struct mu_tls_conn *accepted, *dialled;
    struct mu_link *a, *b;
    unsigned conns, got;
    struct mu_err err;
};

double costs_cpu(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static void on_accept(void *arg, struct mu_tls_conn *conn)
{
    struct pair *p = arg;

    mu_tls_conn_free(p->accepted);
    p->accepted = conn;
    p->conns++;
}

static void on_dialled(void *arg, struct mu_tls_conn *conn, const struct mu_err *err)
{
    struct pair *p = arg;

    mu_tls_conn_free(p->dialled);
    p->dialled = conn;
    p->conns++;
    if (!conn)
        p->err = *err;
}

/* Beats are answered, other messages counted. */
static void on_msg(void *arg, struct mu_link *link, const struct mu_msg *msg, const void *frame, size_t len)
{
    struct pair *p = arg;

    (void)frame, (void)len;
    p->got++;
    if (msg->type == MU_MSG_beat && p->got < 2 * ROUNDS)
        mu_link_send_msg(link, MU_MSG_beat, &msg->beat);
}

static void on_down(void *arg, struct mu_link *link)
{
    (void)arg, (void)link;
}

static bool until(struct event_base *base, const unsigned *count, unsigned n)
{
    uint64_t end = mu_now() + WAIT;

    while (*count < n && mu_now() < end)
        event_base_loop(base, EVLOOP_ONCE);
    return *count >= n;
}

static int handshakes(struct event_base *base, struct mu_tls *tls, uint16_t port, struct pair *p, struct costs *out)
{
    struct mu_tls_dial *dial;
    double t0 = costs_cpu();
    int rc;

    for (unsigned i = 0; i < DIALS; i++) {
        if ((rc = mu_connect_tcp(tls, "127.0.0.1", port, on_dialled, p, &dial, &p->err)))
            return rc;
        if (!until(base, &p->conns, 2 * (i + 1)) || !p->dialled)
            return p->err.code ? p->err.code : mu_err_set(&p->err, MUSTER_ETIMEOUT, "no connection to itself");
    }
    out->handshake = (costs_cpu() - t0) / DIALS / 2;
    return 0;
}

static int messages(struct event_base *base, struct pair *p, struct costs *out)
{
    mu_auto_buf struct mu_buf frame = {0};
    uint8_t *data = calloc(1, LONG);
    double t0;

    p->a = mu_link_new_tls(MU_STEAL(p->accepted, NULL), on_msg, on_down, p);
    p->b = mu_link_new_tls(MU_STEAL(p->dialled, NULL), on_msg, on_down, p);
    struct mu_m_relay m = {.kind = MU_RELAY_PIECE, .data = {.data = data, .len = LONG}};
    int rc = p->a && p->b && data ? mu_msg_encode(&frame, MU_MSG_relay, &m) : MUSTER_ENOMEM;
    free(data);
    if (rc)
        return rc;
    t0 = costs_cpu();
    mu_link_send_msg(p->a, MU_MSG_beat, &(struct mu_m_beat){.sent_ns = 1});
    if (!until(base, &p->got, 2 * ROUNDS))
        return MUSTER_ETIMEOUT;
    out->message = (costs_cpu() - t0) / (2 * ROUNDS) / 2;
    p->got = 2 * ROUNDS;
    t0 = costs_cpu();
    for (unsigned i = 0; i < LONGS; i++) {
        mu_link_send(p->a, frame.data, frame.len);
        if (!until(base, &p->got, 2 * ROUNDS + i + 1))
            return MUSTER_ETIMEOUT;
    }
    out->kilobyte = (costs_cpu() - t0) / LONGS / 2 / (LONG / 1024);
    return 0;
}

int costs_measure(struct costs *out, struct mu_err *err)
{
    static const char *const addrs[] = {"127.0.0.1"};
    struct event_base *base = mu_loop_new();
    struct mu_tls *here = NULL, *there = NULL;
    struct mu_tls_listener *listener = NULL;
    struct mu_key key;
    struct pair p = {0};
    int rc;

    mu_daemon_heap();
    memset(&key, 7, sizeof key);
    if (!(rc = mu_tls_new(base, &key, NULL, &here, err)) && !(rc = mu_tls_new(base, &key, NULL, &there, err)) &&
        !(rc = mu_listen_tcp(here, addrs, 1, 0, on_accept, &p, &listener, err))) {
        rc = handshakes(base, there, mu_tls_listener_port(listener), &p, out);
        rc = rc ? rc : messages(base, &p, out);
        if (rc)
            mu_err_set(err, rc, "%s", p.err.text[0] ? p.err.text : "the links are stuck");
    }
    mu_link_free(p.a);
    mu_link_free(p.b);
    mu_tls_conn_free(p.accepted);
    mu_tls_conn_free(p.dialled);
    mu_tls_listener_free(listener);
    mu_tls_free(here);
    mu_tls_free(there);
    event_base_free(base);
    return rc;
}
