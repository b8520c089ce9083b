#include <arpa/inet.h>
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/base/clean.h"
#include "runtime/base/clock.h"
#include "runtime/base/log.h"
#include "runtime/base/path.h"
#include "runtime/wire/daemon.h"
#include "runtime/wire/link.h"
#include "runtime/wire/tls.h"
#include "runtime/wire/tls_conn.h"
#include "tests/unit/tap.h"

static struct event_base *base;
static const struct mu_key key = {.bytes = "0123456789abcdef0123456789abcde"};
static const struct mu_key other_key = {.bytes = "1123456789abcdef0123456789abcde"};
static int log_fd = -1;

static void spin(uint64_t ms)
{
    uint64_t until = mu_now() + ms * MU_MS;

    do {
        struct timeval slice = {.tv_usec = 2000};
        event_base_loopexit(base, &slice);
        event_base_loop(base, EVLOOP_ONCE);
    } while (mu_now() < until);
}
#define SPIN_UNTIL(cond)                                                                                               \
    for (uint64_t end_ = mu_now() + 20 * MU_SEC; !(cond) && mu_now() < end_;)                                          \
    spin(1)

/* What was logged since the last call. */
static const char *logged(void)
{
    static char text[8192];
    static off_t at;
    ssize_t n = pread(log_fd, text, sizeof text - 1, at);

    text[n > 0 ? n : 0] = 0;
    at += n > 0 ? n : 0;
    return text;
}

/* --- ends -------------------------------------------------------------------------------------------------------- */

struct end {
    struct mu_link *link;
    unsigned msgs, downs;
    uint64_t sum, bytes, next;
    bool disorder, echo, pause_in_msg, close_in_msg;
};

static void on_msg(void *arg, struct mu_link *link, const struct mu_msg *msg, const void *frame, size_t len)
{
    struct end *s = arg;

    s->msgs++;
    s->bytes += len;
    if (msg->type == MU_MSG_release) {
        s->disorder |= msg->release.job != s->next++;
        s->sum += msg->release.job;
    }
    if (msg->type == MU_MSG_output)
        for (uint32_t i = 0; i < msg->output.data.len; i += 4093)
            s->disorder |= msg->output.data.data[i] != (uint8_t)(i >> 12);
    if (s->echo)
        mu_link_send(link, frame, len);
    if (s->pause_in_msg)
        mu_link_pause(link, true);
    if (s->close_in_msg) {
        mu_link_send_msg(link, MU_MSG_error, &(struct mu_m_error){.code = -1});
        mu_link_close_after_flush(MU_STEAL(s->link, NULL));
    }
}

static void on_down(void *arg, struct mu_link *link)
{
    struct end *s = arg;

    s->downs++;
    mu_link_free(link);
    s->link = NULL;
}

/* A listener's side: connections as they come, as conns or as links of `end`. */
struct door {
    struct mu_tls *tls;
    struct mu_tls_listener *listener;
    uint16_t port;
    unsigned n;
    struct end end;
    bool keep_conn, free_listener;
    struct mu_tls_conn *conn;
    char peer[64], peer_host[64], local_host[64];
};

static void on_accept(void *arg, struct mu_tls_conn *c)
{
    struct door *d = arg;

    d->n++;
    snprintf(d->peer, sizeof d->peer, "%s", mu_tls_conn_peer(c));
    snprintf(d->peer_host, sizeof d->peer_host, "%s", mu_tls_conn_peer_host(c));
    snprintf(d->local_host, sizeof d->local_host, "%s", mu_tls_conn_local_host(c));
    if (d->free_listener)
        mu_tls_listener_free(MU_STEAL(d->listener, NULL));
    if (d->keep_conn) {
        mu_tls_conn_free(d->conn);
        d->conn = c;
        return;
    }
    mu_link_free(d->end.link);
    d->end.link = mu_link_new_tls(c, on_msg, on_down, &d->end);
}

static bool open_door(struct door *d, const char *address, const struct mu_key *k, const struct mu_tls_limits *limits)
{
    struct mu_err err;

    memset(d, 0, sizeof *d);
    if (mu_tls_new(base, k, limits, &d->tls, &err) ||
        mu_listen_tcp(d->tls, &address, address ? 1 : 0, 0, on_accept, d, &d->listener, &err)) {
        printf("# %s\n", err.text);
        mu_tls_free(d->tls);
        d->tls = NULL;
        return false;
    }
    d->port = mu_tls_listener_port(d->listener);
    return true;
}

static void close_door(struct door *d)
{
    mu_link_free(d->end.link);
    mu_tls_conn_free(d->conn);
    mu_tls_listener_free(d->listener);
    mu_tls_free(d->tls);
}

struct call {
    struct mu_tls *tls;
    struct mu_tls_dial *dial;
    unsigned answers;
    struct mu_err err;
    struct end end;
    bool keep_conn;
    struct mu_tls_conn *conn;
};

static void on_dialled(void *arg, struct mu_tls_conn *c, const struct mu_err *err)
{
    struct call *k = arg;

    k->answers++;
    k->dial = NULL;
    if (!c)
        k->err = *err;
    else if (k->keep_conn)
        k->conn = c;
    else
        k->end.link = mu_link_new_tls(c, on_msg, on_down, &k->end);
}

static bool start_call(struct call *k, const char *host, uint16_t port, const struct mu_key *with,
                       const struct mu_tls_limits *limits)
{
    memset(k, 0, sizeof *k);
    return !mu_tls_new(base, with, limits, &k->tls, &k->err) &&
           !mu_connect_tcp(k->tls, host, port, on_dialled, k, &k->dial, &k->err) && !k->answers;
}

static void end_call(struct call *k)
{
    mu_link_free(k->end.link);
    mu_tls_conn_free(k->conn);
    mu_tls_dial_cancel(k->dial);
    mu_tls_free(k->tls);
}

/* A door and a call that are connected. */
static bool pair(struct door *d, struct call *k, const struct mu_tls_limits *limits)
{
    if (!open_door(d, "127.0.0.1", &key, limits) || !start_call(k, "127.0.0.1", d->port, &key, limits))
        return false;
    SPIN_UNTIL(k->end.link && d->end.link);
    if (!k->end.link || !d->end.link)
        printf("# %s\n", k->err.text);
    return k->end.link && d->end.link;
}

static int send_release(struct mu_link *link, uint64_t job)
{
    return mu_link_send_msg(link, MU_MSG_release, &(struct mu_m_release){.job = job});
}

static int send_output(struct mu_link *link, uint32_t len)
{
    struct mu_m_output out = {.data = {.len = len}};

    out.data.data = malloc(len);
    for (uint32_t i = 0; i < len; i++)
        out.data.data[i] = (uint8_t)(i >> 12);
    int rc = mu_link_send_msg(link, MU_MSG_output, &out);
    free(out.data.data);
    return rc;
}

/* --- friends ----------------------------------------------------------------------------------------------------- */

static void both_ways(void)
{
    struct door d;
    struct call k;

    TAP_OK(pair(&d, &k, NULL), "both have the key: connected");
    TAP_OK(!strncmp(d.peer, "127.0.0.1:", 10) && !strcmp(d.peer_host, "127.0.0.1") &&
               !strcmp(d.local_host, "127.0.0.1"),
           "the peer's address is known: %s", d.peer);
    d.end.echo = true;
    for (unsigned i = 0; i < 5000; i++)
        if (send_release(k.end.link, i))
            break;
    SPIN_UNTIL(k.end.msgs == 5000);
    TAP_OK(d.end.msgs == 5000 && k.end.msgs == 5000 && !d.end.disorder && !k.end.disorder,
           "five thousand small frames there and back, in order");
    d.end.echo = false;
    TAP_OK(!send_output(k.end.link, MU_FRAME_MAX - 100) && !send_output(d.end.link, MU_FRAME_MAX - 100) &&
               mu_link_pending(k.end.link) > MU_FRAME_MAX / 2,
           "64 MiB each way at once are pending");
    SPIN_UNTIL(k.end.msgs == 5001 && d.end.msgs == 5001);
    TAP_OK(k.end.msgs == 5001 && d.end.msgs == 5001 && !d.end.disorder && !k.end.disorder &&
               !mu_link_pending(k.end.link),
           "and come whole");
    mu_link_free(MU_STEAL(k.end.link, NULL));
    SPIN_UNTIL(d.end.downs);
    TAP_OK(d.end.downs == 1 && k.end.downs == 0, "the end is told to the other side, once");
    end_call(&k);
    close_door(&d);
}

int main(void)
{
    char dir[] = "/tmp/muster-test-tls-XXXXXX", path[PATH_MAX];

    base = mu_loop_new();
    if (!base || !mkdtemp(dir))
        return 99;
    signal(SIGPIPE, SIG_IGN);
    snprintf(path, sizeof path, "%s/log", dir);
    log_fd = open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (log_fd < 0 || mu_log_setup(log_fd, "debug", "text", NULL))
        return 99;
    both_ways();
    printf("# %s\n", logged());
    event_base_free(base);
    mu_path_remove_tree(dir, NULL);
    return tap_done();
}
