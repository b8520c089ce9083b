#include "runtime/wire/tls.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <netinet/tcp.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/rand.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "runtime/base/clean.h"
#include "runtime/base/clock.h"
#include "runtime/base/log.h"
#include "runtime/base/str.h"
#include "runtime/wire/addr.h"
#include "runtime/wire/daemon.h"
#include "runtime/wire/ident.h"
#include "runtime/wire/msg.h"
#include "runtime/wire/tls_conn.h"

#define PURPOSE "muster wire tls13 psk 1"
#define SUITE "TLS_AES_128_GCM_SHA256"
#define ACCEPTS 16 /* in one go */
#define ACCEPT_PAUSE_MS 100
#define SOCKETS_MAX 32
#define ADDRS_MAX 16
#define PORT_TRIES 16
#define LOG_MAX 10 /* lines in 10 s */

struct mu_tls {
    struct event_base *base;
    SSL_CTX *ctx;
    struct mu_tls_limits limits;
    struct mu_ident me;
    char ident[MU_IDENT_MAX];
    uint8_t psk[MU_KEY_BYTES];
    uint64_t log_since;
    unsigned said, unsaid;
};

/* --- the key in TLS ---------------------------------------------------------------------------------------------- */

static SSL_SESSION *session(const struct mu_tls *tls, SSL *ssl)
{
    static const unsigned char suite[] = {0x13, 0x01};
    SSL_SESSION *s = SSL_SESSION_new();
    const SSL_CIPHER *cipher = SSL_CIPHER_find(ssl, suite);

    if (s && cipher && SSL_SESSION_set1_master_key(s, tls->psk, sizeof tls->psk) && SSL_SESSION_set_cipher(s, cipher) &&
        SSL_SESSION_set_protocol_version(s, TLS1_3_VERSION))
        return s;
    SSL_SESSION_free(s);
    return NULL;
}

static const struct mu_tls *tls_of(const SSL *ssl)
{
    return SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));
}

static int refuse_ident(struct mu_tls_conn *c, enum mu_tls_alert alert)
{
    c->alert = (uint8_t)alert;
    return 0;
}

/* At a listener: the peer names its key. */
static int on_find(SSL *ssl, const unsigned char *data, size_t len, SSL_SESSION **out)
{
    const struct mu_tls *tls = tls_of(ssl);
    struct mu_tls_conn *c = SSL_get_app_data(ssl);
    struct mu_ident id;

    *out = NULL;
    switch (mu_ident_parse(data, len, MU_WIRE_VERSION, &id)) {
    case 0:
        break;
    case MUSTER_EVERSION:
        mu_err_set(&c->why, MUSTER_EVERSION, "it speaks version %u of the protocol, not %u", id.version,
                   MU_WIRE_VERSION);
        return refuse_ident(c, MU_TLS_PROTOCOL_VERSION);
    default:
        mu_err_set(&c->why, MUSTER_EARG, "its key is none of muster's");
        return refuse_ident(c, MU_TLS_UNKNOWN_PSK);
    }
    if (strcmp(id.print, tls->me.print) != 0) {
        mu_err_set(&c->why, MUSTER_EARG, "it has the key of another pool (%s, ours is %s)", id.print, tls->me.print);
        return refuse_ident(c, MU_TLS_UNKNOWN_PSK);
    }
    if (id.mark == tls->me.mark) {
        mu_err_set(&c->why, MUSTER_EARG, "that is this process itself");
        return refuse_ident(c, MU_TLS_ACCESS_DENIED);
    }
    *out = session(tls, ssl);
    return *out != NULL;
}

/* At the dialling end. */
static int on_use(SSL *ssl, const EVP_MD *md, const unsigned char **id, size_t *len, SSL_SESSION **out)
{
    const struct mu_tls *tls = tls_of(ssl);

    *out = NULL;
    if (md && !EVP_MD_is_a(md, "SHA256"))
        return 1;
    *id = (const unsigned char *)tls->ident;
    *len = strlen(tls->ident);
    *out = session(tls, ssl);
    return *out != NULL;
}

/* No certificate is good enough. */
static int on_certificate(X509_STORE_CTX *store, void *arg)
{
    (void)store, (void)arg;
    return 0;
}

static SSL_CTX *make_ctx(struct mu_tls *tls)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_method());

    if (!ctx)
        return NULL;
    SSL_CTX_set_app_data(ctx, tls);
    SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET | SSL_OP_NO_COMPRESSION);
    SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_cert_verify_callback(ctx, on_certificate, NULL);
    SSL_CTX_set_psk_find_session_callback(ctx, on_find);
    SSL_CTX_set_psk_use_session_callback(ctx, on_use);
    /* Only psk_dhe_ke: a key that leaks later opens nothing that was recorded before. */
    SSL_CTX_clear_options(ctx, SSL_OP_ALLOW_NO_DHE_KEX);
    if (SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION) && SSL_CTX_set_max_proto_version(ctx, TLS1_3_VERSION) &&
        SSL_CTX_set_ciphersuites(ctx, SUITE) && SSL_CTX_set_num_tickets(ctx, 0) && SSL_CTX_set_max_early_data(ctx, 0) &&
        SSL_CTX_set1_groups_list(ctx, "X25519:P-256"))
        return ctx;
    SSL_CTX_free(ctx);
    return NULL;
}

static uint32_t limit(uint32_t given, uint32_t otherwise)
{
    return given ? given : otherwise;
}

int mu_tls_new(struct event_base *base, const struct mu_key *key, const struct mu_tls_limits *given,
               struct mu_tls **out, struct mu_err *err)
{
    const struct mu_tls_limits none = {0}, *l = given ? given : &none;
    struct mu_tls *tls = calloc(1, sizeof *tls);
    int rc;

    if (!tls)
        return mu_err_set(err, MUSTER_ENOMEM, "out of memory");
    tls->base = base;
    tls->limits = (struct mu_tls_limits){.connect_ms = limit(l->connect_ms, 5000),
                                         .handshake_ms = limit(l->handshake_ms, 5000),
                                         .unacked_ms = limit(l->unacked_ms, 10000),
                                         .half_open = limit(l->half_open, 128),
                                         .crowded_ms = limit(l->crowded_ms, 1000),
                                         .rekey_records = l->rekey_records ? l->rekey_records : 1u << 22};
    tls->me.version = MU_WIRE_VERSION;
    mu_key_fingerprint(key, tls->me.print);
    rc = mu_key_derive(key, PURPOSE, tls->psk, err);
    if (!rc && RAND_bytes((unsigned char *)&tls->me.mark, sizeof tls->me.mark) != 1)
        rc = mu_err_set(err, MUSTER_EIO, "OpenSSL has no random numbers");
    if (!rc) {
        mu_ident_format(&tls->me, tls->ident);
        ERR_clear_error();
        tls->ctx = make_ctx(tls);
        if (!tls->ctx) {
            const char *why = ERR_reason_error_string(ERR_peek_error());
            rc = mu_err_set(err, MUSTER_ENOSYS, "this OpenSSL does not do TLS 1.3 with " SUITE ": %s", why ? why : "?");
        }
    }
    if (rc) {
        mu_tls_free(tls);
        return rc;
    }
    *out = tls;
    return 0;
}

void mu_tls_free(struct mu_tls *tls)
{
    if (!tls)
        return;
    SSL_CTX_free(tls->ctx); /* connections hold it, too, but have no use for the key any more */
    OPENSSL_cleanse(tls->psk, sizeof tls->psk);
    free(tls);
}

const char *mu_tls_fingerprint(const struct mu_tls *tls)
{
    return tls->me.print;
}

/* --- sockets ----------------------------------------------------------------------------------------------------- */

static void tune(const struct mu_tls *tls, int fd)
{
    unsigned ms = tls->limits.unacked_ms;
    int one = 1, idle = (int)(ms / 2000), every = 1;

    idle = idle < 1 ? 1 : idle;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &ms, sizeof ms);
    /* for a connection on which nothing is sent; the time above then ends it */
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof idle);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &every, sizeof every);
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one);
}

/* Strangers must not be able to fill our log. */
static void log_refused(struct mu_tls *tls, const char *peer, const char *why)
{
    uint64_t now = mu_now();
    char shown[200];

    if (now - tls->log_since > 10 * MU_SEC) {
        if (tls->unsaid)
            mu_log(MU_LOG_WARN, "wire", "refused %u more", tls->unsaid);
        tls->log_since = now;
        tls->said = tls->unsaid = 0;
    }
    if (tls->said++ < LOG_MAX)
        mu_log(MU_LOG_WARN, "wire", "refused %s: %s", peer, mu_str_show(shown, sizeof shown, why));
    else
        tls->unsaid++;
}

/* --- listening --------------------------------------------------------------------------------------------------- */

/* Accepted, not proved. Oldest first. */
struct half {
    struct half *next, *prev;
    struct mu_tls_listener *listener;
    struct mu_tls_conn *conn;
    uint64_t since;
};

struct mu_tls_listener {
    struct mu_tls *tls;
    mu_tls_accept_fn fn;
    void *arg;
    struct half *first, *last;
    unsigned n;
    bool paused;
    uint64_t resume; /* paused for want of descriptors until then */
    struct mu_alarm *alarm;
    uint16_t port;
    unsigned nsockets;
    struct {
        int fd;
        struct event *ev;
    } sockets[SOCKETS_MAX];
};

static void listen_on(struct mu_tls_listener *l, bool on)
{
    if (l->paused == !on)
        return;
    l->paused = !on;
    for (unsigned i = 0; i < l->nsockets; i++)
        if (on)
            event_add(l->sockets[i].ev, NULL);
        else
            event_del(l->sockets[i].ev);
}

static uint64_t ms(uint32_t n)
{
    return n * MU_MS;
}

/* After every change of the list: whether we listen, and when to look again. */
static void reckon(struct mu_tls_listener *l)
{
    uint64_t at = UINT64_MAX;

    if (l->n < l->tls->limits.half_open && !l->resume)
        listen_on(l, true);
    if (l->first)
        at = l->first->since + ms(l->paused && !l->resume ? l->tls->limits.crowded_ms : l->tls->limits.handshake_ms);
    if (l->resume && l->resume < at)
        at = l->resume;
    mu_alarm_set(l->alarm, at);
}

static struct mu_tls_conn *take(struct half *h)
{
    struct mu_tls_listener *l = h->listener;
    struct mu_tls_conn *c = h->conn;

    if (h->prev)
        h->prev->next = h->next;
    else
        l->first = h->next;
    if (h->next)
        h->next->prev = h->prev;
    else
        l->last = h->prev;
    l->n--;
    free(h);
    bufferevent_setcb(c->bev, NULL, NULL, NULL, NULL);
    return c;
}

static void refuse(struct half *h, const char *why)
{
    struct mu_tls_listener *l = h->listener;
    struct mu_tls_conn *c = take(h);

    if (why)
        log_refused(l->tls, c->peer, why);
    mu_tls_conn_refuse(c);
    reckon(l);
}

static void on_half_read(struct bufferevent *bev, void *arg)
{
    struct half *h = arg;
    struct mu_tls_listener *l = h->listener;
    struct mu_err err;

    (void)bev;
    int rc = mu_tls_handshake(h->conn, &err);
    if (!rc)
        return;
    if (rc < 0) {
        refuse(h, err.text);
        return;
    }
    struct mu_tls_conn *c = take(h);
    bufferevent_disable(c->bev, EV_READ);
    reckon(l);
    l->fn(l->arg, c);
}

static void on_half_event(struct bufferevent *bev, short what, void *arg)
{
    struct half *h = arg;

    (void)what;
    /* Who only looks whether somebody listens is no news. */
    bool silent = !h->conn->heard && !evbuffer_get_length(bufferevent_get_input(bev));
    refuse(h, silent ? NULL : "it hung up before it had proved anything");
}

static void on_listener_alarm(void *arg)
{
    struct mu_tls_listener *l = arg;
    uint64_t now = mu_now();

    if (l->resume && now >= l->resume)
        l->resume = 0;
    while (l->first && now >= l->first->since + ms(l->tls->limits.handshake_ms))
        refuse(l->first, "it has not proved in time that it has the pool key");
    if (l->paused && !l->resume && l->first && now >= l->first->since + ms(l->tls->limits.crowded_ms))
        refuse(l->first, "too many wait to prove that they have the pool key, it the longest");
    reckon(l);
}

static void add_half(struct mu_tls_listener *l, int fd)
{
    struct half *h = calloc(1, sizeof *h);

    tune(l->tls, fd);
    if (!h) {
        close(fd);
        return;
    }
    h->conn = mu_tls_conn_new(l->tls->base, l->tls->ctx, fd, true, l->tls->limits.rekey_records);
    if (!h->conn) {
        free(h);
        return;
    }
    h->listener = l;
    h->since = mu_now();
    h->prev = l->last;
    if (l->last)
        l->last->next = h;
    else
        l->first = h;
    l->last = h;
    l->n++;
    bufferevent_setcb(h->conn->bev, on_half_read, NULL, on_half_event, h);
    bufferevent_enable(h->conn->bev, EV_READ | EV_WRITE);
}

static void on_acceptable(evutil_socket_t lfd, short what, void *arg)
{
    struct mu_tls_listener *l = arg;

    (void)what;
    for (int i = 0; i < ACCEPTS && l->n < l->tls->limits.half_open; i++) {
        int fd = accept4(lfd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd >= 0) {
            add_half(l, fd);
            continue;
        }
        if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
            static uint64_t said;
            if (!said || mu_now() - said > 10 * MU_SEC)
                mu_log(MU_LOG_ERROR, "wire", "cannot accept connections: %s", strerror(errno));
            said = mu_now();
            l->resume = said + ms(ACCEPT_PAUSE_MS);
        }
        break;
    }
    if (l->n >= l->tls->limits.half_open || l->resume)
        listen_on(l, false);
    reckon(l);
}

/* both: an IPv6 socket that takes IPv4 as well. */
static int listening_socket(const struct mu_addr *a, bool both, int *out, struct mu_err *err)
{
    char text[MU_ADDR_TEXT];
    int one = 1, only = !both;
    mu_auto_fd int fd = socket(a->sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    mu_addr_text(a, text);
    if (fd < 0)
        return mu_err_errno(err, 0, "cannot make a socket for %s", text);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (a->sa.sa_family == AF_INET6 && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &only, sizeof only))
        return mu_err_errno(err, 0, "cannot listen on %s", text);
    if (bind(fd, &a->sa, a->len) || listen(fd, 4096))
        return mu_err_errno(err, 0, "cannot listen on %s", text);
    *out = MU_STEAL(fd, -1);
    return 0;
}

static uint16_t port_of(int fd)
{
    struct mu_addr a = {.len = sizeof a.in6};

    return getsockname(fd, &a.sa, &a.len) ? 0 : mu_addr_port(&a);
}

static void close_sockets(struct mu_tls_listener *l)
{
    for (unsigned i = 0; i < l->nsockets; i++) {
        if (l->sockets[i].ev)
            event_free(l->sockets[i].ev);
        close(l->sockets[i].fd);
    }
    l->nsockets = 0;
}

/* All on one port: the first socket's when it is 0. */
static int open_sockets(struct mu_tls_listener *l, const char *const *addrs, unsigned n, uint16_t port,
                        struct mu_err *err)
{
    struct mu_addr a;
    int rc = 0;

    for (unsigned i = 0; i < n && !rc; i++) {
        int fd = -1;
        if ((rc = mu_addr_numeric(addrs[i], port, &a, err)) || (rc = listening_socket(&a, false, &fd, err)))
            break;
        l->sockets[l->nsockets++].fd = fd;
        port = port ? port : port_of(fd);
    }
    if (!n) {
        int fd = -1;
        mu_addr_numeric("::", port, &a, NULL);
        rc = listening_socket(&a, true, &fd, NULL);
        if (rc) { /* a host without IPv6 */
            mu_addr_numeric("0.0.0.0", port, &a, NULL);
            rc = listening_socket(&a, false, &fd, err);
        }
        if (!rc)
            l->sockets[l->nsockets++].fd = fd;
    }
    if (rc)
        close_sockets(l);
    else
        l->port = port_of(l->sockets[0].fd);
    return rc;
}

int mu_listen_tcp(struct mu_tls *tls, const char *const *addrs, unsigned naddrs, uint16_t port, mu_tls_accept_fn fn,
                  void *arg, struct mu_tls_listener **out, struct mu_err *err)
{
    struct mu_tls_listener *l;
    int rc = MUSTER_ENOMEM;

    if (naddrs > SOCKETS_MAX)
        return mu_err_set(err, MUSTER_EARG, "more than %d addresses to listen on", SOCKETS_MAX);
    l = calloc(1, sizeof *l);
    if (!l)
        return mu_err_set(err, MUSTER_ENOMEM, "out of memory");
    l->tls = tls;
    l->fn = fn;
    l->arg = arg;
    /* a port that is free on one address may be taken on the next */
    for (int i = 0; i < PORT_TRIES; i++) {
        errno = 0;
        rc = open_sockets(l, addrs, naddrs, port, err);
        if (!rc || port || errno != EADDRINUSE)
            break;
    }
    if (rc) {
        free(l);
        return rc;
    }
    l->alarm = mu_alarm_new(tls->base, on_listener_alarm, l);
    for (unsigned i = 0; i < l->nsockets; i++) {
        l->sockets[i].ev = event_new(tls->base, l->sockets[i].fd, EV_READ | EV_PERSIST, on_acceptable, l);
        if (!l->alarm || !l->sockets[i].ev || event_add(l->sockets[i].ev, NULL)) {
            mu_tls_listener_free(l);
            return mu_err_set(err, MUSTER_ENOMEM, "out of memory");
        }
    }
    *out = l;
    return 0;
}

uint16_t mu_tls_listener_port(const struct mu_tls_listener *l)
{
    return l->port;
}

void mu_tls_listener_free(struct mu_tls_listener *l)
{
    if (!l)
        return;
    close_sockets(l);
    while (l->first)
        mu_tls_conn_free(take(l->first));
    mu_alarm_free(l->alarm);
    free(l);
}

/* --- dialling ---------------------------------------------------------------------------------------------------- */

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
    uint64_t until;
    struct mu_err err; /* of the newest address */
    char host[MU_ADDR_HOST], name[MU_ADDR_HOST + 8];
};

static void hang_up(struct mu_tls_dial *d)
{
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
    struct mu_err err;
    int rc = mu_tls_handshake(d->conn, &err);

    (void)bev;
    if (!rc)
        return;
    if (rc > 0) {
        bufferevent_setcb(d->conn->bev, NULL, NULL, NULL, NULL);
        bufferevent_disable(d->conn->bev, EV_READ);
    }
    end_dial(d, rc < 0 ? &err : NULL);
}

static void on_dial_event(struct bufferevent *bev, short what, void *arg)
{
    int e = EVUTIL_SOCKET_ERROR();

    (void)bev;
    if ((what & BEV_EVENT_ERROR) && (what & BEV_EVENT_WRITING))
        return; /* what it said before it left is still to be read */
    fail_dial(arg, MUSTER_EPEER, (what & BEV_EVENT_ERROR) && e ? strerror(e) : "it hung up during the handshake");
}

static void begin_handshake(struct mu_tls_dial *d)
{
    uint64_t until = mu_now() + ms(d->tls->limits.handshake_ms);
    int fd = MU_STEAL(d->fd, -1);

    if (d->ev)
        event_free(MU_STEAL(d->ev, NULL));
    d->conn = mu_tls_conn_new(d->tls->base, d->tls->ctx, fd, false, d->tls->limits.rekey_records);
    if (!d->conn) {
        fail_dial(d, MUSTER_ENOMEM, "out of memory");
        return;
    }
    bufferevent_setcb(d->conn->bev, on_dial_read, NULL, on_dial_event, d);
    bufferevent_enable(d->conn->bev, EV_READ | EV_WRITE);
    mu_alarm_set(d->alarm, until);
    on_dial_read(NULL, d); /* our part comes first */
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
        begin_handshake(d);
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
    tune(d->tls, d->fd);
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

    if (d->conn) {
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
    *d = (struct mu_tls_dial){.tls = tls, .fn = fn, .arg = arg, .fd = -1};
    mu_err_set(&d->err, MUSTER_ETIMEOUT, "no answer");
    d->until = mu_now() + ms(tls->limits.connect_ms);
    d->alarm = mu_alarm_new(tls->base, on_dial_alarm, d);
    if (!d->alarm) {
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
