/* Peers that have no business here, or that are broken: none gets in, none costs more than its share, each is named. */
#include <openssl/bn.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include "tests/unit/tls_help.h"

#define PRINT "bc4f2360b2bd061a" /* of key */

/* --- a peer made of OpenSSL -------------------------------------------------------------------------------------- */

struct raw {
    const char *ident; /* NULL: offers no key */
    uint8_t psk[32];
    int version; /* 0: 1.3 */
    bool ke;     /* no Diffie-Hellman, please: offers only a group that we do not take */
    SSL_CTX *ctx;
    SSL *ssl;
    int fd, rc;
};

static int raw_use(SSL *ssl, const EVP_MD *md, const unsigned char **id, size_t *len, SSL_SESSION **out)
{
    const struct raw *r = SSL_get_app_data(ssl);

    (void)md;
    *out = NULL;
    if (!r->ident)
        return 1;
    *id = (const unsigned char *)r->ident;
    *len = strlen(r->ident);
    *out = SSL_SESSION_new();
    SSL_SESSION_set1_master_key(*out, r->psk, sizeof r->psk);
    SSL_SESSION_set_cipher(*out, SSL_CIPHER_find(ssl, (const unsigned char *)"\x13\x01"));
    SSL_SESSION_set_protocol_version(*out, TLS1_3_VERSION);
    return 1;
}

static unsigned raw_use12(SSL *ssl, const char *hint, char *ident, unsigned max, unsigned char *psk, unsigned len)
{
    const struct raw *r = SSL_get_app_data(ssl);

    (void)hint;
    snprintf(ident, max, "%s", r->ident);
    memcpy(psk, r->psk, len < 32 ? len : 32);
    return 32;
}

/* The key as docs/formats.md derives it; flip: a wrong one. */
static void raw_dial(struct raw *r, uint16_t port, bool flip)
{
    if (mu_key_derive(&key, "muster wire tls13 psk 1", r->psk, NULL))
        exit(99);
    r->psk[7] ^= flip;
    r->ctx = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_min_proto_version(r->ctx, 0);
    SSL_CTX_set_security_level(r->ctx, 0);
    if (r->version)
        SSL_CTX_set_max_proto_version(r->ctx, r->version);
    if (r->ke) {
        SSL_CTX_set_options(r->ctx, SSL_OP_ALLOW_NO_DHE_KEX);
        SSL_CTX_set1_groups_list(r->ctx, "P-384");
    }
    r->ssl = SSL_new(r->ctx);
    SSL_set_app_data(r->ssl, r);
    SSL_set_psk_use_session_callback(r->ssl, raw_use);
    if (r->version)
        SSL_set_psk_client_callback(r->ssl, raw_use12);
    r->fd = plain(port);
    SSL_set_fd(r->ssl, r->fd);
}

/* Until the handshake has come to an end; 1: we were let in as far as this end can see. */
static int raw_shake(struct raw *r)
{
    SPIN_UNTIL((r->rc = SSL_connect(r->ssl)) == 1 || SSL_get_error(r->ssl, r->rc) != SSL_ERROR_WANT_READ);
    return r->rc;
}

static void raw_end(struct raw *r)
{
    SSL_free(r->ssl);
    SSL_CTX_free(r->ctx);
    close(r->fd);
}

/* --- those who speak TLS ----------------------------------------------------------------------------------------- */

static void clients(void)
{
    static const struct {
        const char *ident, *what, *log;
        int version;
        bool flip, welcome, ke;
    } rows[] = {
        {"muster:1:" PRINT ":0000000000000001", "the right key", "", 0, false, true},
        {"muster:1:" PRINT ":0000000000000001", "the right name and a wrong key", "does not have it", 0, true, false},
        {"muster:1:0123456789abcdef:0000000000000001", "another pool's name",
         "it has the key of another pool (0123456789abcdef, ours is " PRINT ")", 0, false, false},
        {"muster:2:x", "a newer version", "it speaks version 2 of the protocol, not 1", 0, false, false},
        {"Client_identity", "another program's key", "its key is none of muster's", 0, false, false},
        {"muster:1:" PRINT ":0000000000000001\n\033[31m", "escapes in the name", "its key is none of muster's", 0,
         false, false},
        {NULL, "no key at all", "it has no pool key", 0, false, false},
        {"muster:1:" PRINT ":0000000000000001", "TLS 1.2 with the key", "does not speak TLS 1.3", TLS1_2_VERSION, false,
         false},
        {"muster:1:" PRINT ":0000000000000001", "TLS 1.0", "does not speak TLS 1.3", TLS1_VERSION, false, false},
        {"muster:1:" PRINT ":0000000000000001", "a key exchange that could be opened later", "", 0, false, false, true},
    };

    for (size_t i = 0; i < MU_COUNT(rows); i++) {
        struct raw r = {.ident = rows[i].ident, .version = rows[i].version, .ke = rows[i].ke};
        struct door d;
        open_door(&d, "127.0.0.1", NULL);
        raw_dial(&r, d.port, rows[i].flip);
        int rc = raw_shake(&r);
        SPIN_UNTIL(rows[i].welcome ? d.end.link != NULL : is_closed(r.fd));
        const char *log = logged();
        if (rows[i].welcome)
            TAP_OK(rc == 1 && d.n == 1 && !*log, "%s: let in", rows[i].what);
        else
            TAP_OK(d.n == 0 && is_closed(r.fd) && lines(log) == 1 && strstr(log, rows[i].log) &&
                       strstr(log, "refused 127.0.0.1:"),
                   "%s: %s", rows[i].what, log);
        raw_end(&r);
        close_door(&d);
    }
}

/* What the handshake must have been like for one who is let in. */
static void secrecy(void)
{
    struct raw r = {.ident = "muster:1:" PRINT ":0000000000000001"};
    EVP_PKEY *share = NULL;
    struct door d;
    char byte;

    open_door(&d, "127.0.0.1", NULL);
    raw_dial(&r, d.port, false);
    raw_shake(&r);
    TAP_OK(SSL_version(r.ssl) == TLS1_3_VERSION && !strcmp(SSL_get_cipher(r.ssl), "TLS_AES_128_GCM_SHA256"),
           "TLS 1.3, AES-128-GCM");
    TAP_OK(SSL_get_peer_tmp_key(r.ssl, &share) == 1 && EVP_PKEY_is_a(share, "X25519"),
           "with a Diffie-Hellman exchange");
    EVP_PKEY_free(share);
    SPIN_UNTIL(d.end.link);
    spin(30);
    int n = SSL_read(r.ssl, &byte, 1);
    TAP_OK(SSL_get_error(r.ssl, n) == SSL_ERROR_WANT_READ && !SSL_SESSION_has_ticket(SSL_get0_session(r.ssl)),
           "no ticket comes afterwards");

    /* frames as docs/formats.md has them, cut anywhere */
    static const char frames[] = "\x0f\0\0\0\x2a\0\1\x08\0\0\0\0\0\0\0\0\0\0\0\x02\0\0\0\x2a\0";
    for (size_t i = 0; i < sizeof frames - 1; i++)
        SSL_write(r.ssl, frames + i, 1);
    SPIN_UNTIL(d.end.msgs == 2);
    TAP_OK(d.end.msgs == 2 && !d.end.downs, "frames in records of one byte");
    SSL_shutdown(r.ssl);
    SPIN_UNTIL(d.end.downs);
    TAP_OK(d.end.downs == 1, "and the end as TLS has it");
    raw_end(&r);
    close_door(&d);
    logged();
}

/* A server with a certificate that any browser might like is no host of ours. */
static void impostor(void)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
    EVP_PKEY *pkey = EVP_EC_gen("P-256");
    X509 *cert = X509_new();
    uint16_t port;
    struct call k;
    int fd, rc = 0;

    ASN1_INTEGER_set(X509_get_serialNumber(cert), 1);
    X509_gmtime_adj(X509_getm_notBefore(cert), 0);
    X509_gmtime_adj(X509_getm_notAfter(cert), 3600);
    X509_set_pubkey(cert, pkey);
    X509_sign(cert, pkey, EVP_sha256());
    if (SSL_CTX_use_certificate(ctx, cert) != 1 || SSL_CTX_use_PrivateKey(ctx, pkey) != 1)
        exit(99);
    int l = plain_listener(8, &port);
    start_call(&k, "127.0.0.1", port, &key, NULL);
    SPIN_UNTIL((fd = accept(l, NULL, NULL)) >= 0);
    fcntl(fd, F_SETFL, O_NONBLOCK);
    SSL *ssl = SSL_new(ctx);
    SSL_set_fd(ssl, fd);
    for (int i = 0; i < 200 && !k.answers; i++) {
        rc = SSL_accept(ssl);
        spin(1);
    }
    rc = SSL_accept(ssl);
    TAP_OK(k.answers == 1 && !k.end.link && rc != 1 && k.err.code == MUSTER_EARG && strstr(k.err.text, "no pool key"),
           "%s", k.err.text);
    end_call(&k);
    SSL_free(ssl);
    close(fd);
    close(l);
    X509_free(cert);
    EVP_PKEY_free(pkey);
    SSL_CTX_free(ctx);
    logged();
}

/* Our own dialler with another pool's key. */
static void another_pool(void)
{
    static const struct mu_key other = {.bytes = "another pool"};
    struct door d;
    struct call k;

    open_door(&d, "127.0.0.1", NULL);
    start_call(&k, "127.0.0.1", d.port, &other, NULL);
    SPIN_UNTIL(k.answers);
    spin(10);
    const char *log = logged();
    TAP_OK(!k.end.link && d.n == 0 && k.err.code == MUSTER_EARG && strstr(k.err.text, "the pool keys differ"), "%s",
           k.err.text);
    TAP_OK(strstr(log, mu_tls_fingerprint(k.tls)) && strstr(log, mu_tls_fingerprint(d.tls)),
           "the log has both names: %s", log);
    end_call(&k);
    close_door(&d);
}

/* --- those who do not -------------------------------------------------------------------------------------------- */

static void garbage(void)
{
    static char flood[40000];
    static const struct {
        const char *bytes, *what, *log;
        size_t len;
    } rows[] = {
        {"GET / HTTP/1.0\r\n\r\n", "a browser", "it speaks HTTP", 18},
        {"SSH-2.0-OpenSSH_9.2p1 Debian\r\n", "an ssh client", "it does not speak TLS", 30},
        {"\0\0\0\0\0\0\0\0\0\0\0\0", "zeros", "it does not speak TLS", 12},
        {"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", "ones", "it does not speak TLS", 10},
        {"\x16\3\1\xff\xff\1\0", "a record that is too long", "", 7},
        {"\x17\3\3\0\5hello", "data before any handshake", "", 10},
        {"\x15\3\3\0\2\2\x28", "an alert", "", 7},
        {"\x16\3\1\0\4\1\xff\xff\xff", "a hello of 16 MiB", "", 9},
        {"\x0f\0\0\0\x2a\0\1\x08\0\0\0\0\0\0\0\0\0\0\0", "a frame without TLS", "it does not speak TLS", 19},
        {flood, "an endless hello", "talks and talks", sizeof flood},
    };
    unsigned bad = 0;

    /* the records of a hello of 100 KB */
    memcpy(flood, "\x16\3\1\x40\0\1\1\x86\xa0\3\3", 11);
    memcpy(flood + 16389, "\x16\3\3\x40\0", 5);
    memcpy(flood + 32778, "\x16\3\3\x40\0", 5);
    for (size_t i = 0; i < MU_COUNT(rows); i++) {
        struct door d;
        open_door(&d, "127.0.0.1", NULL);
        int fd = plain(d.port);
        if (send(fd, rows[i].bytes, rows[i].len, 0) < 0)
            exit(99);
        SPIN_UNTIL(is_closed(fd));
        const char *log = logged();
        TAP_OK(is_closed(fd) && d.n == 0 && lines(log) == 1 && strstr(log, rows[i].log), "%s: %s", rows[i].what, log);
        close(fd);
        close_door(&d);
    }

    /* any bytes at all, and a real hello with one of them changed */
    struct door d;
    uint64_t seed = 88172645463325252ull;
    char hello[1024];
    uint16_t port;
    struct call k;
    int l = plain_listener(8, &port), first = -1;
    start_call(&k, "127.0.0.1", port, &key, NULL);
    SPIN_UNTIL((first = accept(l, NULL, NULL)) >= 0);
    spin(50);
    ssize_t len = recv(first, hello, sizeof hello, 0);
    end_call(&k);
    close(first);
    close(l);
    open_door(&d, "127.0.0.1", &(struct mu_tls_limits){.handshake_ms = 400});
    for (int i = 0; i < 300; i++) {
        char bytes[1024];
        size_t n = (size_t)len;
        seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
        memcpy(bytes, hello, sizeof bytes);
        bytes[seed % n] ^= (char)(1 << (seed >> 32) % 8);
        if (i % 3 == 0)
            for (n = 1 + seed % 200; n--;)
                bytes[n] = (char)(seed >> n % 57);
        n = i % 3 == 0 ? 1 + seed % 200 : (size_t)len;
        int fd = plain(d.port);
        if (send(fd, bytes, i % 3 == 1 ? seed % n : n, 0) < 0)
            exit(99);
        if (i % 2)
            shutdown(fd, SHUT_WR);
        spin(1);
        close(fd);
    }
    spin(600);
    TAP_OK(len > 200 && d.n == 0, "three hundred broken hellos of %zd bytes: nobody gets in", len);
    const char *log = logged();
    TAP_OK(lines(log) <= 10 && lines(log) > 0, "and the log has %u lines of it", lines(log));
    start_call(&k, "127.0.0.1", d.port, &key, NULL);
    SPIN_UNTIL(k.answers);
    bad += !k.end.link;
    TAP_OK(!bad, "a friend still does");
    end_call(&k);
    close_door(&d);
}

static void slow(void)
{
    const struct mu_tls_limits limits = {.handshake_ms = 300};
    uint64_t since = mu_now();
    struct door d;

    open_door(&d, "127.0.0.1", &limits);
    int fd = plain(d.port);
    SPIN_UNTIL(is_closed(fd));
    const char *log = logged();
    TAP_OK(is_closed(fd) && mu_now() - since >= 250 * MU_MS && lines(log) == 1 && strstr(log, "not proved in time"),
           "silence: %s", log);
    close(fd);
    fd = plain(d.port);
    since = mu_now();
    while (!is_closed(fd) && mu_now() - since < 10 * MU_SEC) {
        if (send(fd, "\x16\3\1\x10\0\1\0\x0f\xfc\3\3", mu_now() - since < 20 * MU_MS ? 11 : 1, 0) < 0)
            break;
        spin(10);
    }
    log = logged();
    TAP_OK(is_closed(fd) && mu_now() - since < 5 * MU_SEC && lines(log) == 1 && strstr(log, "not proved in time"),
           "a byte now and then: %s", log);
    close(fd);

    fd = plain(d.port);
    spin(20);
    close(fd);
    spin(50);
    TAP_OK(!*logged(), "who only looks whether somebody listens is not worth a line");
    close_door(&d);
}

static unsigned descriptors(void)
{
    mu_auto_dir DIR *dir = opendir("/proc/self/fd");
    unsigned n = 0;

    while (dir && readdir(dir))
        n++;
    return n;
}

/* Strangers that sit on the door do not keep friends out, nor do they hold more than their share. */
static void crowd(void)
{
    const struct mu_tls_limits limits = {.half_open = 4, .crowded_ms = 50, .handshake_ms = 60000};
    int fds[40];
    struct door d;
    struct call k;

    open_door(&d, "127.0.0.1", &limits);
    unsigned before = descriptors();
    for (size_t i = 0; i < MU_COUNT(fds); i++)
        fds[i] = plain(d.port);
    spin(20);
    TAP_OK(descriptors() - before <= MU_COUNT(fds) + 4, "of forty, four are let wait at a time");
    start_call(&k, "127.0.0.1", d.port, &key, NULL);
    SPIN_UNTIL(k.answers);
    TAP_OK(k.end.link != NULL, "a friend comes through: %s", k.err.text);
    const char *log = logged();
    TAP_OK(lines(log) > 0 && lines(log) <= 10 && strstr(log, "too many wait"), "the others go, the oldest first");
    end_call(&k);

    /* with some still there */
    for (size_t i = 0; i < MU_COUNT(fds); i++) {
        close(fds[i]);
        fds[i] = plain(d.port);
    }
    spin(20);
    close_door(&d);
    spin(5);
    unsigned closed = 0;
    for (size_t i = 0; i < MU_COUNT(fds); i++) {
        closed += is_closed(fds[i]);
        close(fds[i]);
    }
    TAP_OK(closed == MU_COUNT(fds), "a listener that ends lets nobody wait (%u)", closed);
    logged();
}

/* --- somebody in between ----------------------------------------------------------------------------------------- */

/* Passes bytes on between a call and a door; changes the byte at `flip` of those to the door, stops at `stop`. */
struct between {
    int listener, a, b;
    uint16_t port;
    size_t passed, flip, stop;
};

static void pass(struct between *m, int from, int to, bool inward)
{
    uint8_t buf[4096];
    ssize_t n = recv(from, buf, sizeof buf, MSG_DONTWAIT);

    if (n <= 0)
        return;
    if (inward) {
        if (m->flip - m->passed < (size_t)n)
            buf[m->flip - m->passed] ^= 1;
        if (m->passed + (size_t)n > m->stop)
            n = m->stop > m->passed ? (ssize_t)(m->stop - m->passed) : 0;
        m->passed += (size_t)n;
    }
    if (n && send(to, buf, (size_t)n, 0) != n)
        exit(99);
}

static void between_step(struct between *m)
{
    pass(m, m->a, m->b, true);
    pass(m, m->b, m->a, false);
    spin(1);
}

static void tampering(void)
{
    struct between m = {.flip = SIZE_MAX, .stop = SIZE_MAX};
    size_t whole = 0;
    unsigned in = 0, delivered = 0;

    /* how many bytes an undisturbed one takes, then each of some of them changed or the last */
    for (int i = 0; i < 40; i++) {
        struct door d;
        struct call k;
        open_door(&d, "127.0.0.1", &(struct mu_tls_limits){.handshake_ms = 100});
        m.listener = plain_listener(4, &m.port);
        m.passed = 0;
        m.flip = i && i < 30 ? (size_t)i * whole / 30 : SIZE_MAX;
        m.stop = i >= 30 ? (size_t)(i - 30) * whole / 10 : SIZE_MAX;
        start_call(&k, "127.0.0.1", m.port, &key, &(struct mu_tls_limits){.handshake_ms = 100});
        SPIN_UNTIL((m.a = accept(m.listener, NULL, NULL)) >= 0);
        m.b = plain(d.port);
        bool sent = false;
        for (uint64_t since = mu_now(); mu_now() - since < 5 * MU_SEC;) {
            if (d.end.msgs || d.end.downs || (k.answers && !k.end.link))
                break;
            if (i >= 30 && k.end.link && m.passed == m.stop)
                break;
            between_step(&m);
            if (k.end.link && !sent) {
                sent = true;
                send_release(k.end.link, 0);
            }
        }
        if (!i) {
            whole = m.passed;
            TAP_OK(d.end.msgs == 1, "undisturbed: %zu bytes", whole);
        } else {
            in += d.n;
            delivered += d.end.msgs;
        }
        close(m.a);
        close(m.b);
        close(m.listener);
        end_call(&k);
        close_door(&d);
    }
    TAP_OK(delivered == 0, "changed or cut anywhere: no message is taken (%u times after the handshake)", in);
    const char *log = logged();
    TAP_OK(strstr(log, "bad record mac"), "and the log says what is wrong");
}

int main(void)
{
    char dir[] = "/tmp/muster-test-tls-XXXXXX";

    begin_tests(dir);
    clients();
    secrecy();
    impostor();
    another_pool();
    garbage();
    slow();
    crowd();
    tampering();
    return end_tests(dir);
}
