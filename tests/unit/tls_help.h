/* For the tests of the wire between hosts: both ends of it in one loop, a door that listens and a call that dials, and
 * a peer made of plain OpenSSL that can be wrong in ways that ours cannot. */
#ifndef TESTS_TLS_HELP_H
#define TESTS_TLS_HELP_H

#include <arpa/inet.h>
#include <errno.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
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
static int log_fd = -1;

static inline void spin(uint64_t ms)
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

/* What was logged since the last call, without the last newline. */
static inline const char *logged(void)
{
    static char text[16384];
    static off_t at;
    ssize_t n = pread(log_fd, text, sizeof text - 1, at);

    text[n > 0 ? n : 0] = 0;
    at += n > 0 ? n : 0;
    if (n > 0 && text[n - 1] == '\n')
        text[n - 1] = 0;
    return text;
}

static inline unsigned lines(const char *text)
{
    unsigned n = *text != 0;

    for (; *text; text++)
        n += *text == '\n';
    return n;
}

static inline void begin_tests(char *dir)
{
    char path[PATH_MAX];

    base = mu_loop_new();
    if (!base || !mkdtemp(dir))
        exit(99);
    signal(SIGPIPE, SIG_IGN);
    snprintf(path, sizeof path, "%s/log", dir);
    log_fd = open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (log_fd < 0 || mu_log_setup(log_fd, "info", "text", NULL))
        exit(99);
}

static inline int end_tests(const char *dir)
{
    mu_log_close();
    close(log_fd);
    event_base_free(base);
    mu_path_remove_tree(dir, NULL);
    return tap_done();
}

/* --- links ------------------------------------------------------------------------------------------------------- */

struct end {
    struct mu_link *link;
    unsigned msgs, downs;
    uint64_t next;
    bool disorder, echo, pause_in_msg, close_in_msg, free_in_msg;
};

static inline int send_release(struct mu_link *link, uint64_t job)
{
    return mu_link_send_msg(link, MU_MSG_release, &(struct mu_m_release){.job = job});
}

static inline int send_output(struct mu_link *link, uint32_t len)
{
    struct mu_m_output out = {.data = {.len = len}};

    out.data.data = malloc(len);
    for (uint32_t i = 0; i < len; i++)
        out.data.data[i] = (uint8_t)(i >> 12);
    int rc = mu_link_send_msg(link, MU_MSG_output, &out);
    free(out.data.data);
    return rc;
}

static inline void on_msg(void *arg, struct mu_link *link, const struct mu_msg *msg, const void *frame, size_t len)
{
    struct end *s = arg;

    s->msgs++;
    if (msg->type == MU_MSG_release)
        s->disorder |= msg->release.job != s->next++;
    if (msg->type == MU_MSG_output)
        for (uint32_t i = 0; i < msg->output.data.len; i += 4093)
            s->disorder |= msg->output.data.data[i] != (uint8_t)(i >> 12);
    if (s->echo)
        mu_link_send(link, frame, len);
    if (s->pause_in_msg)
        mu_link_pause(link, true);
    if (s->free_in_msg)
        mu_link_free(MU_STEAL(s->link, NULL));
    if (s->close_in_msg) {
        mu_link_send_msg(link, MU_MSG_error, &(struct mu_m_error){.code = -1});
        mu_link_close_after_flush(MU_STEAL(s->link, NULL));
    }
}

static inline void on_down(void *arg, struct mu_link *link)
{
    struct end *s = arg;

    s->downs++;
    mu_link_free(link);
    s->link = NULL;
}

/* --- the listening side: what comes becomes door.end.link, or door.conn ------------------------------------------- */

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

static inline void on_accept(void *arg, struct mu_tls_conn *c)
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

static inline bool open_door(struct door *d, const char *address, const struct mu_tls_limits *limits)
{
    struct mu_err err;

    memset(d, 0, sizeof *d);
    if (mu_tls_new(base, &key, limits, &d->tls, &err) ||
        mu_listen_tcp(d->tls, &address, address ? 1 : 0, 0, on_accept, d, &d->listener, &err)) {
        printf("# %s\n", err.text);
        return false;
    }
    d->port = mu_tls_listener_port(d->listener);
    return true;
}

static inline void close_door(struct door *d)
{
    mu_link_free(d->end.link);
    mu_tls_conn_free(d->conn);
    mu_tls_listener_free(d->listener);
    mu_tls_free(d->tls);
}

/* --- the dialling side ------------------------------------------------------------------------------------------- */

struct call {
    struct mu_tls *tls;
    struct mu_tls_dial *dial;
    unsigned answers;
    struct mu_err err;
    struct end end;
    bool keep_conn;
    struct mu_tls_conn *conn;
};

static inline void on_dialled(void *arg, struct mu_tls_conn *c, const struct mu_err *err)
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

static inline bool start_call(struct call *k, const char *host, uint16_t port, const struct mu_key *with,
                              const struct mu_tls_limits *limits)
{
    memset(k, 0, sizeof *k);
    return !mu_tls_new(base, with, limits, &k->tls, &k->err) &&
           !mu_connect_tcp(k->tls, host, port, on_dialled, k, &k->dial, &k->err) && !k->answers;
}

static inline void end_call(struct call *k)
{
    mu_link_free(k->end.link);
    mu_tls_conn_free(k->conn);
    mu_tls_dial_cancel(k->dial);
    mu_tls_free(k->tls);
}

/* A door and a call that are connected. */
static inline bool pair(struct door *d, struct call *k, const struct mu_tls_limits *limits)
{
    if (!open_door(d, "127.0.0.1", limits) || !start_call(k, "127.0.0.1", d->port, &key, limits))
        return false;
    SPIN_UNTIL(k->end.link && d->end.link);
    if (!k->end.link || !d->end.link)
        printf("# %s\n", k->err.text);
    return k->end.link && d->end.link;
}

static inline void unpair(struct door *d, struct call *k)
{
    end_call(k);
    close_door(d);
}

/* --- sockets of no kind ------------------------------------------------------------------------------------------ */

static inline int loopback(uint16_t port, struct sockaddr_in *sa)
{
    *sa = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    return socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
}

/* Connected and nonblocking. */
static inline int plain(uint16_t port)
{
    struct sockaddr_in sa;
    int fd = loopback(port, &sa);

    if (fd < 0 || connect(fd, (struct sockaddr *)&sa, sizeof sa) || fcntl(fd, F_SETFL, O_NONBLOCK))
        exit(99);
    return fd;
}

static inline int plain_listener(int backlog, uint16_t *port)
{
    struct sockaddr_in sa;
    socklen_t len = sizeof sa;
    int fd = loopback(0, &sa);

    if (fd < 0 || bind(fd, (struct sockaddr *)&sa, len) || listen(fd, backlog) ||
        getsockname(fd, (struct sockaddr *)&sa, &len) || fcntl(fd, F_SETFL, O_NONBLOCK))
        exit(99);
    *port = ntohs(sa.sin_port);
    return fd;
}

/* The peer has closed (or reset) it; what it sent before is dropped. */
static inline bool is_closed(int fd)
{
    char scrap[4096];
    ssize_t n;

    while ((n = recv(fd, scrap, sizeof scrap, MSG_DONTWAIT)) > 0)
        ;
    return n == 0 || (errno != EAGAIN && errno != EINTR);
}

#endif
