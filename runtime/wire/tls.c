#include "runtime/wire/tls_priv.h"

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
#include "runtime/wire/msg.h"
#include "runtime/wire/pace.h"

#define PURPOSE "muster wire tls13 psk 1"
#define SUITE "TLS_AES_128_GCM_SHA256"
#define ACCEPT_PAUSE_MS 100
#define SOCKETS_MAX 32
#define PORT_TRIES 16
#define LOG_MAX 10 /* lines in 10 s */

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

void mu_tls_tune(const struct mu_tls *tls, int fd)
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
    struct mu_step step; /* waits: something has come that it is for us to read */
    bool hung_up;
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
    unsigned ndoors;
    struct door {
        struct mu_tls_listener *listener;
        int fd;
        struct event *ev;
        struct mu_step step;
    } doors[SOCKETS_MAX];
    struct mu_pace *pace;
};

static void listen_on(struct mu_tls_listener *l, bool on)
{
    if (l->paused == !on)
        return;
    l->paused = !on;
    for (unsigned i = 0; i < l->ndoors; i++) {
        struct door *d = &l->doors[i];
        mu_pace_drop(l->pace, &d->step);
        if (on)
            event_add(d->ev, NULL);
        else
            event_del(d->ev);
    }
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
    mu_pace_drop(l->pace, &h->step);
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

static void on_half_step(void *arg)
{
    struct half *h = arg;
    struct mu_tls_listener *l = h->listener;
    struct mu_err err;

    int rc = mu_tls_handshake(h->conn, &err);
    if (!rc && h->hung_up)
        rc = mu_err_set(&err, MUSTER_EPEER, "it hung up before it had proved anything");
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

static void on_half_read(struct bufferevent *bev, void *arg)
{
    struct half *h = arg;

    (void)bev;
    mu_pace_add(h->listener->pace, &h->step);
}

static void on_half_event(struct bufferevent *bev, short what, void *arg)
{
    struct half *h = arg;

    (void)what;
    h->hung_up = true;
    if (h->step.waiting) /* what it said before it left is still to be read */
        return;
    /* Who only looks whether somebody listens is no news. */
    if (!h->conn->heard && !evbuffer_get_length(bufferevent_get_input(bev)))
        refuse(h, NULL);
    else
        refuse(h, "it hung up before it had proved anything");
}

static void on_listener_alarm(void *arg)
{
    struct mu_tls_listener *l = arg;
    uint64_t now = mu_now();

    if (l->resume && now >= l->resume)
        l->resume = 0;
    for (struct half *h = l->first, *next; h && now >= h->since + ms(l->tls->limits.handshake_ms); h = next) {
        next = h->next;
        if (!h->step.waiting) /* it waits for us */
            refuse(h, "it has not proved in time that it has the pool key");
    }
    if (l->paused && !l->resume) {
        struct half *h = l->first;
        while (h && h->step.waiting)
            h = h->next;
        if (h && now >= h->since + ms(l->tls->limits.crowded_ms))
            refuse(h, "too many wait to prove that they have the pool key, it the longest");
    }
    reckon(l);
}

static void add_half(struct mu_tls_listener *l, int fd)
{
    struct half *h = calloc(1, sizeof *h);

    mu_tls_tune(l->tls, fd);
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
    h->step = (struct mu_step){.fn = on_half_step, .arg = h};
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

/* One; then whoever else waits has his turn. */
static void on_door_step(void *arg)
{
    struct door *d = arg;
    struct mu_tls_listener *l = d->listener;

    int fd = accept4(d->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd >= 0) {
        add_half(l, fd);
        mu_pace_add(l->pace, &d->step);
    } else if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
        static uint64_t said;
        if (!said || mu_now() - said > 10 * MU_SEC)
            mu_log(MU_LOG_ERROR, "wire", "cannot accept connections: %s", strerror(errno));
        said = mu_now();
        l->resume = said + ms(ACCEPT_PAUSE_MS);
    } else {
        event_add(d->ev, NULL);
    }
    if (l->n >= l->tls->limits.half_open || l->resume)
        listen_on(l, false);
    reckon(l);
}

static void on_acceptable(evutil_socket_t fd, short what, void *arg)
{
    struct door *d = arg;

    (void)fd, (void)what;
    mu_pace_add(d->listener->pace, &d->step);
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

static void close_doors(struct mu_tls_listener *l)
{
    for (unsigned i = 0; i < l->ndoors; i++) {
        mu_pace_drop(l->pace, &l->doors[i].step);
        if (l->doors[i].ev)
            event_free(l->doors[i].ev);
        close(l->doors[i].fd);
    }
    l->ndoors = 0;
}

/* All on one port: the first socket's when it is 0. */
static int open_doors(struct mu_tls_listener *l, const char *const *addrs, unsigned n, uint16_t port,
                      struct mu_err *err)
{
    struct mu_addr a;
    int rc = 0;

    for (unsigned i = 0; i < n && !rc; i++) {
        int fd = -1;
        if ((rc = mu_addr_numeric(addrs[i], port, &a, err)) || (rc = listening_socket(&a, false, &fd, err)))
            break;
        l->doors[l->ndoors++].fd = fd;
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
            l->doors[l->ndoors++].fd = fd;
    }
    if (rc)
        close_doors(l);
    else
        l->port = port_of(l->doors[0].fd);
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
        rc = open_doors(l, addrs, naddrs, port, err);
        if (!rc || port || errno != EADDRINUSE)
            break;
    }
    if (rc) {
        free(l);
        return rc;
    }
    l->alarm = mu_alarm_new(tls->base, on_listener_alarm, l);
    l->pace = mu_pace_get(tls->base);
    for (unsigned i = 0; i < l->ndoors; i++) {
        struct door *d = &l->doors[i];
        d->listener = l;
        d->step = (struct mu_step){.fn = on_door_step, .arg = d};
        d->ev = event_new(tls->base, d->fd, EV_READ, on_acceptable, d);
        if (!l->alarm || !l->pace || !d->ev || event_add(d->ev, NULL)) {
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
    close_doors(l);
    while (l->first)
        mu_tls_conn_free(take(l->first));
    mu_alarm_free(l->alarm);
    mu_pace_put(l->pace);
    free(l);
}
