#include "runtime/wire/tls_conn.h"

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <openssl/err.h>
#include <openssl/sslerr.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>

#include "runtime/base/clean.h"
#include "runtime/wire/tls.h"

#define RECORD 16384u
#define ROOM 4096u
#define HEARD_MAX 16384u /* an honest handshake has less than 1 KiB */

/* --- buffers as a BIO -------------------------------------------------------------------------------------------- */

static int bio_read(BIO *bio, char *to, size_t n, size_t *got)
{
    struct mu_tls_conn *c = BIO_get_data(bio);
    struct evbuffer *in = bufferevent_get_input(c->bev);

    BIO_clear_retry_flags(bio);
    *got = 0;
    if (!evbuffer_get_length(in)) {
        BIO_set_retry_read(bio);
        return 0;
    }
    if (!c->ready && n > HEARD_MAX - c->heard) {
        n = HEARD_MAX - c->heard;
        if (!n) {
            mu_err_set(&c->why, MUSTER_EPEER, "it talks and talks without proving anything");
            return 0;
        }
    }
    int rc = evbuffer_remove(in, to, n);
    if (rc <= 0)
        return 0;
    *got = (size_t)rc;
    if (!c->ready)
        c->heard += *got;
    return 1;
}

static int bio_write(BIO *bio, const char *from, size_t n, size_t *put)
{
    struct mu_tls_conn *c = BIO_get_data(bio);

    BIO_clear_retry_flags(bio);
    *put = 0;
    if (!c->alert && evbuffer_add(bufferevent_get_output(c->bev), from, n))
        return 0;
    *put = n;
    return 1;
}

static long bio_ctrl(BIO *bio, int cmd, long num, void *ptr)
{
    (void)bio, (void)num, (void)ptr;
    return cmd == BIO_CTRL_FLUSH;
}

static BIO_METHOD *the_method;

static void make_method(void)
{
    BIO_METHOD *fresh = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "muster buffers");
    if (!fresh || !BIO_meth_set_read_ex(fresh, bio_read) || !BIO_meth_set_write_ex(fresh, bio_write) ||
        !BIO_meth_set_ctrl(fresh, bio_ctrl)) {
        BIO_meth_free(fresh);
        return;
    }
    the_method = fresh;
}

/* For the life of the process and all of its threads. */
static const BIO_METHOD *method(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    pthread_once(&once, make_method);
    return the_method;
}

/* --- life -------------------------------------------------------------------------------------------------------- */

static void name_ends(struct mu_tls_conn *c, int fd)
{
    struct mu_addr a = {.len = sizeof a.in6};

    if (!getpeername(fd, &a.sa, &a.len)) {
        mu_addr_text(&a, c->peer);
        mu_addr_host(&a, c->peer_host);
    }
    a.len = sizeof a.in6;
    if (!getsockname(fd, &a.sa, &a.len))
        mu_addr_host(&a, c->local_host);
}

struct mu_tls_conn *mu_tls_conn_new(struct event_base *base, SSL_CTX *ctx, int fd, bool server, uint64_t rekey)
{
    mu_auto_fd int own = fd;
    struct mu_tls_conn *c = calloc(1, sizeof *c);
    const BIO_METHOD *m = method();
    BIO *bio = c && m ? BIO_new(m) : NULL;

    if (!bio)
        goto fail;
    c->base = base;
    c->rekey = rekey;
    name_ends(c, fd);
    c->ssl = SSL_new(ctx);
    if (!c->ssl)
        goto fail;
    c->bev = bufferevent_socket_new(base, fd, BEV_OPT_CLOSE_ON_FREE);
    if (!c->bev)
        goto fail;
    MU_STEAL(own, -1);
    bufferevent_setwatermark(c->bev, EV_READ, 0, HEARD_MAX);
    BIO_set_data(bio, c);
    BIO_set_init(bio, 1);
    SSL_set_bio(c->ssl, bio, bio);
    SSL_set_app_data(c->ssl, c);
    if (server) {
        SSL_set_accept_state(c->ssl);
    } else {
        SSL_set_connect_state(c->ssl);
        SSL_set_verify(c->ssl, SSL_VERIFY_PEER, NULL); /* no certificate is good enough, see tls.c */
    }
    return c;
fail:
    BIO_free(bio);
    mu_tls_conn_free(c);
    return NULL;
}

void mu_tls_conn_free(struct mu_tls_conn *c)
{
    if (!c)
        return;
    SSL_free(c->ssl);
    if (c->bev)
        bufferevent_free(c->bev);
    free(c);
}

void mu_tls_conn_refuse(struct mu_tls_conn *c)
{
    const uint8_t alert[] = {21, 3, 3, 0, 2, 2, c->alert};
    struct evbuffer *out = bufferevent_get_output(c->bev);
    int fd = bufferevent_getfd(c->bev);
    char scrap[4096];

    bufferevent_disable(c->bev, EV_READ | EV_WRITE);
    if (c->alert)
        evbuffer_add(out, alert, sizeof alert);
    evbuffer_unfreeze(out, 1);
    evbuffer_write(out, fd);
    evbuffer_freeze(out, 1);
    /* closing over unread bytes would be a reset, which may overtake the alert */
    for (int i = 0; i < 8 && recv(fd, scrap, sizeof scrap, MSG_DONTWAIT) > 0; i++)
        ;
    mu_tls_conn_free(c);
}

const char *mu_tls_conn_peer(const struct mu_tls_conn *c)
{
    return c->peer;
}

const char *mu_tls_conn_peer_host(const struct mu_tls_conn *c)
{
    return c->peer_host;
}

const char *mu_tls_conn_local_host(const struct mu_tls_conn *c)
{
    return c->local_host;
}

/* --- handshake --------------------------------------------------------------------------------------------------- */

#define FROM_PEER 1000 /* OpenSSL's reasons for alerts that came: 1000 + alert */

/* What OpenSSL's reasons mean here; the rest keeps its own words. */
static const struct {
    int reason, code;
    const char *text;
} meanings[] = {
    {SSL_R_NO_SUITABLE_SIGNATURE_ALGORITHM, MUSTER_EPEER, "it has no pool key"},
    {SSL_R_NO_SHARED_CIPHER, MUSTER_EPEER, "it has no pool key"},
    {SSL_R_NO_SHARED_SIGNATURE_ALGORITHMS, MUSTER_EPEER, "it has no pool key"},
    {SSL_R_CERTIFICATE_VERIFY_FAILED, MUSTER_EARG, "it has no pool key"},
    {SSL_R_BINDER_DOES_NOT_VERIFY, MUSTER_EARG, "it names our pool key but does not have it"},
    {SSL_R_UNSUPPORTED_PROTOCOL, MUSTER_EPEER, "it does not speak TLS 1.3"},
    {SSL_R_WRONG_SSL_VERSION, MUSTER_EPEER, "it does not speak TLS 1.3"},
    {SSL_R_WRONG_VERSION_NUMBER, MUSTER_EPEER, "it does not speak TLS"},
    {SSL_R_HTTP_REQUEST, MUSTER_EPEER, "it speaks HTTP"},
    {SSL_R_HTTPS_PROXY_REQUEST, MUSTER_EPEER, "it speaks HTTP"},
    {SSL_R_PACKET_LENGTH_TOO_LONG, MUSTER_EPEER, "it does not speak TLS"},
    {FROM_PEER + MU_TLS_UNKNOWN_PSK, MUSTER_EARG, "the pool keys differ"},
    {FROM_PEER + MU_TLS_PROTOCOL_VERSION, MUSTER_EVERSION, "it speaks another version of the protocol"},
    {FROM_PEER + MU_TLS_ACCESS_DENIED, MUSTER_EARG, "that is this process itself"},
    {FROM_PEER + SSL_AD_ILLEGAL_PARAMETER, MUSTER_EARG, "it does not accept our pool key"},
    {FROM_PEER + SSL_AD_DECRYPT_ERROR, MUSTER_EARG, "it does not accept our pool key"},
    {FROM_PEER + SSL_AD_HANDSHAKE_FAILURE, MUSTER_EARG, "it knows no pool keys"},
};

static int explain(const struct mu_tls_conn *c, struct mu_err *err)
{
    unsigned long e = ERR_peek_error();
    const char *text = e ? ERR_reason_error_string(e) : NULL;

    if (c->why.code)
        return mu_err_set(err, c->why.code, "%s", c->why.text);
    for (size_t i = 0; e && i < MU_COUNT(meanings); i++)
        if (ERR_GET_REASON(e) == meanings[i].reason)
            return mu_err_set(err, meanings[i].code, "%s", meanings[i].text);
    return mu_err_set(err, MUSTER_EPEER, "%s", text ? text : "the connection is broken");
}

int mu_tls_handshake(struct mu_tls_conn *c, struct mu_err *err)
{
    ERR_clear_error();
    int rc = SSL_do_handshake(c->ssl);

    if (rc == 1) {
        /* nothing but our key may have got us here */
        if (!SSL_session_reused(c->ssl) || SSL_version(c->ssl) != TLS1_3_VERSION)
            return mu_err_set(err, MUSTER_EARG, "it has no pool key");
        c->ready = true;
        return 1;
    }
    if (SSL_get_error(c->ssl, rc) == SSL_ERROR_WANT_READ)
        return 0;
    rc = explain(c, err);
    ERR_clear_error();
    return rc;
}

/* --- records ----------------------------------------------------------------------------------------------------- */

static int read_some(struct mu_tls_conn *c, void *to, size_t room, size_t *n, struct mu_err *err)
{
    ERR_clear_error();
    *n = 0;
    int rc = SSL_read_ex(c->ssl, to, room, n);
    if (rc == 1)
        return 0;
    *n = 0;
    switch (SSL_get_error(c->ssl, rc)) {
    case SSL_ERROR_WANT_READ:
        return 0;
    case SSL_ERROR_ZERO_RETURN:
        return 1;
    default:
        rc = explain(c, err);
        ERR_clear_error();
        return rc;
    }
}

int mu_tls_decrypt(struct mu_tls_conn *c, struct evbuffer *plain, size_t *n, struct mu_err *err)
{
    const struct evbuffer *in = bufferevent_get_input(c->bev);
    struct evbuffer_iovec room;

    *n = 0;
    if (evbuffer_reserve_space(plain, evbuffer_get_length(in) < RECORD ? ROOM : RECORD, &room, 1) != 1)
        return mu_err_set(err, MUSTER_ENOMEM, "out of memory");
    int rc = read_some(c, room.iov_base, room.iov_len, n, err);
    room.iov_len = *n;
    if (*n && evbuffer_commit_space(plain, &room, 1))
        return mu_err_set(err, MUSTER_ENOMEM, "out of memory");
    return rc;
}

static int encrypt_one(struct mu_tls_conn *c, const unsigned char *from, size_t n)
{
    size_t done;

    ERR_clear_error();
    if (c->records && c->records % c->rekey == 0 && SSL_key_update(c->ssl, SSL_KEY_UPDATE_NOT_REQUESTED) != 1)
        return MUSTER_ENOMEM;
    if (SSL_write_ex(c->ssl, from, n, &done) != 1) {
        ERR_clear_error();
        return MUSTER_ENOMEM;
    }
    c->records++;
    return 0;
}

int mu_tls_encrypt(struct mu_tls_conn *c, struct evbuffer *plain, size_t most)
{
    const struct evbuffer *out = bufferevent_get_output(c->bev);
    size_t n;

    while ((n = evbuffer_get_length(plain)) && evbuffer_get_length(out) < most) {
        n = n < RECORD ? n : RECORD;
        const unsigned char *from = evbuffer_pullup(plain, (ev_ssize_t)n);
        if (!from || encrypt_one(c, from, n))
            return MUSTER_ENOMEM;
        evbuffer_drain(plain, n);
    }
    return 0;
}

void mu_tls_bye(struct mu_tls_conn *c)
{
    ERR_clear_error();
    SSL_shutdown(c->ssl);
    ERR_clear_error();
}
