#include "launcher/http.h"

#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config.h"
#include "runtime/base/clean.h"
#include "runtime/base/log.h"
#include "runtime/base/path.h"
#include "runtime/base/str.h"
#include "runtime/wire/addr.h"
#include "runtime/wire/daemon.h"

#ifdef HAVE_MICROHTTPD
#include <microhttpd.h>

#define TOKEN_LEAST 16
#define FILE_MAX (256u << 10)
#define IDLE_S 4u
/* What a document may make a browser do: nothing but load files from here. */
#define POLICY                                                                                                         \
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "   \
    "form-action 'none'; frame-ancestors 'none'"
#define TLS_VERSIONS "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2"

/* By dlopen, as libcurl is: agents and commands start without it, and the binary runs on hosts that do not have it. */
static struct {
    void *handle;
    char why[200];
    __typeof__(MHD_start_daemon) *start;
    __typeof__(MHD_stop_daemon) *stop;
    __typeof__(MHD_get_daemon_info) *info;
    __typeof__(MHD_get_connection_info) *conn_info;
    __typeof__(MHD_run) *run;
    __typeof__(MHD_get_timeout) *timeout;
    __typeof__(MHD_lookup_connection_value) *header;
    __typeof__(MHD_create_response_from_buffer) *response;
    __typeof__(MHD_add_response_header) *add_header;
    __typeof__(MHD_queue_response) *queue;
    __typeof__(MHD_destroy_response) *destroy;
    __typeof__(MHD_is_feature_supported) *feature;
} lib;
static pthread_once_t lib_once = PTHREAD_ONCE_INIT;

static void load(void)
{
    static const char so[] = "libmicrohttpd.so.12";
    const struct {
        const char *name;
        void *at;
    } symbols[] = {
        {"MHD_start_daemon", &lib.start},
        {"MHD_stop_daemon", &lib.stop},
        {"MHD_get_daemon_info", &lib.info},
        {"MHD_get_connection_info", &lib.conn_info},
        {"MHD_run", &lib.run},
        {"MHD_get_timeout", &lib.timeout},
        {"MHD_lookup_connection_value", &lib.header},
        {"MHD_create_response_from_buffer", &lib.response},
        {"MHD_add_response_header", &lib.add_header},
        {"MHD_queue_response", &lib.queue},
        {"MHD_destroy_response", &lib.destroy},
        {"MHD_is_feature_supported", &lib.feature},
    };
    void *h = dlopen(so, RTLD_NOW | RTLD_LOCAL);

    if (!h) {
        snprintf(lib.why, sizeof lib.why, "needs libmicrohttpd, and this host has no %s; install libmicrohttpd12", so);
        return;
    }
    for (size_t i = 0; i < MU_COUNT(symbols); i++) {
        void *f = dlsym(h, symbols[i].name);
        if (!f) {
            snprintf(lib.why, sizeof lib.why, "needs libmicrohttpd, and this host's has no %s", symbols[i].name);
            return;
        }
        memcpy(symbols[i].at, &f, sizeof f);
    }
    lib.handle = h;
}

struct mu_http {
    struct MHD_Daemon *daemon;
    struct event *ready;
    struct mu_alarm *alarm;
    int (*get)(void *arg, const char *path, struct mu_buf *out, const char **type);
    void *arg;
    char url[MU_ADDR_TEXT + 16];
    struct mu_buf token; /* empty: none is asked for */
    unsigned nconns;
    struct slot {
        int fd; /* + 1; 0: free */
        uint64_t until;
    } conns[MU_HTTP_CONNS + 1]; /* one more is accepted in order to be turned away */
};

/* --- who may ask ---------------------------------------------------------------------------------------------------
 */

static void wipe(struct mu_buf *b)
{
    if (b->data)
        OPENSSL_cleanse(b->data, b->cap);
    mu_buf_free(b);
}

/* 1: it is there; 0: it is not. */
static int read_private(const struct mu_http_config *cfg, const char *ending, struct mu_buf *out, struct mu_err *err)
{
    char path[PATH_MAX], name[64];
    struct stat st;

    snprintf(name, sizeof name, "%.40s.%s", cfg->name, ending);
    int rc = mu_path_join(path, sizeof path, cfg->dir, name, err);
    if (rc)
        return rc;
    mu_auto_fd int fd = mu_path_open_regular(path, O_NOFOLLOW, &st, err);
    if (fd < 0 && errno == ENOENT)
        return 0;
    if (fd < 0 && fd != MUSTER_EARG)
        return mu_err_errno(err, MUSTER_EARG, "%s: cannot read %s", cfg->option, path);
    if (fd < 0 || st.st_uid != geteuid())
        return mu_err_set(err, MUSTER_EARG, "%s: %s must be a file of this account's own", cfg->option, path);
    if (strcmp(ending, "crt") != 0 && (st.st_mode & 077))
        return mu_err_set(err, MUSTER_EARG, "%s: %s is open to others: chmod 600 it", cfg->option, path);
    if (st.st_size > (off_t)FILE_MAX)
        return mu_err_set(err, MUSTER_EARG, "%s: %s is too long", cfg->option, path);
    rc = mu_path_read_open(fd, path, FILE_MAX, out, err);
    return rc ? rc : 1;
}

static int read_token(const struct mu_http_config *cfg, struct mu_buf *out, struct mu_err *err)
{
    int there = read_private(cfg, "token", out, err);

    if (there <= 0)
        return there;
    while (out->len && strchr("\r\n \t", out->data[out->len - 1]))
        out->data[--out->len] = 0;
    for (size_t i = 0; i < out->len; i++)
        if (out->data[i] <= ' ' || out->data[i] > '~')
            out->len = 0;
    if (out->len < TOKEN_LEAST)
        return mu_err_set(err, MUSTER_EARG, "%s: %s/%s.token is no token: one line of %d printable characters or more",
                          cfg->option, cfg->dir, cfg->name, TOKEN_LEAST);
    return 1;
}

/* The password in what the Basic scheme says: base64 of USER:PASSWORD. NULL: there is none. */
static const char *password(const char *said, char *buf, size_t size)
{
    size_t n = strlen(said);

    if (!n || n % 4 || n / 4 * 3 >= size ||
        EVP_DecodeBlock((unsigned char *)buf, (const unsigned char *)said, (int)n) < 0)
        return NULL;
    buf[n / 4 * 3] = 0; /* padding has become zeros */
    char *colon = strchr(buf, ':');
    return colon ? colon + 1 : NULL;
}

/* The time that it takes says nothing about the token. */
static bool allowed(const struct mu_http *h, struct MHD_Connection *conn)
{
    static const char bearer[] = "Bearer ", basic[] = "Basic ";
    const char *said = h->token.len ? lib.header(conn, MHD_HEADER_KIND, "Authorization") : NULL;
    char buf[1024];

    if (!h->token.len)
        return true;
    if (said && !strncasecmp(said, bearer, sizeof bearer - 1))
        said += sizeof bearer - 1;
    else
        said = said && !strncasecmp(said, basic, sizeof basic - 1) ? password(said + sizeof basic - 1, buf, sizeof buf)
                                                                   : NULL;
    bool good = said && strlen(said) == h->token.len && !CRYPTO_memcmp(said, h->token.data, h->token.len);
    OPENSSL_cleanse(buf, sizeof buf);
    return good;
}

/* Whether it is this host that the request is for, by its Host header: a number, localhost, or the host's own name. */
static bool meant(const struct mu_http *h, struct MHD_Connection *conn)
{
    const char *said = h->token.len ? NULL : lib.header(conn, MHD_HEADER_KIND, "Host");
    char host[300], here[300] = "";
    struct mu_addr a;

    if (!said)
        return true;
    if (mu_str_copy(host, sizeof host, said) || gethostname(here, sizeof here - 1))
        return false;
    char *colon = strrchr(host, ':');
    if (colon && colon[1 + strspn(colon + 1, "0123456789")] == 0)
        *colon = 0;
    size_t n = strlen(host);
    if (n > 2 && host[0] == '[' && host[n - 1] == ']') {
        host[n - 1] = 0;
        return !mu_addr_numeric(host + 1, 0, &a, NULL);
    }
    return !strcasecmp(host, "localhost") || !strcasecmp(host, here) || !mu_addr_numeric(host, 0, &a, NULL);
}

/* --- requests ------------------------------------------------------------------------------------------------------
 */

static enum MHD_Result reply(struct MHD_Connection *conn, unsigned status, const char *type, struct mu_buf *body)
{
    size_t len = body->len;
    char *data = mu_buf_take(body);
    struct MHD_Response *r =
        lib.response(data ? len : 0, data ? data : (char *)"", data ? MHD_RESPMEM_MUST_FREE : MHD_RESPMEM_PERSISTENT);

    if (!r) {
        free(data);
        return MHD_NO;
    }
    lib.add_header(r, "Content-Type", type);
    lib.add_header(r, "Connection", "close");
    lib.add_header(r, "Cache-Control", "no-store");
    lib.add_header(r, "X-Content-Type-Options", "nosniff");
    lib.add_header(r, "Content-Security-Policy", POLICY);
    lib.add_header(r, "Referrer-Policy", "no-referrer");
    lib.add_header(r, "Cross-Origin-Resource-Policy", "same-origin");
    if (status == MHD_HTTP_UNAUTHORIZED) {
        lib.add_header(r, "WWW-Authenticate", "Bearer");
        lib.add_header(r, "WWW-Authenticate", "Basic realm=\"muster: the token is the password\"");
    }
    if (status == MHD_HTTP_METHOD_NOT_ALLOWED)
        lib.add_header(r, "Allow", "GET, HEAD");
    enum MHD_Result ok = lib.queue(conn, status, r);
    lib.destroy(r);
    return ok;
}

static enum MHD_Result refuse(struct MHD_Connection *conn, unsigned status, const char *text)
{
    struct mu_buf b = {0};

    mu_buf_puts(&b, text);
    return reply(conn, status, "text/plain; charset=utf-8", &b);
}

static enum MHD_Result on_request(void *arg, struct MHD_Connection *conn, const char *url, const char *method,
                                  const char *version, const char *data, size_t *size, void **state)
{
    const char *type = "text/plain; charset=utf-8";
    struct mu_http *h = arg;
    struct mu_buf b = {0};

    (void)version, (void)data, (void)state;
    if (*size) { /* a body is nothing to us */
        *size = 0;
        return MHD_NO;
    }
    if (!meant(h, conn))
        return refuse(conn, MHD_HTTP_MISDIRECTED_REQUEST,
                      "without a token this is served at its numeric address, localhost or the host's own name\n");
    if (!allowed(h, conn))
        return refuse(conn, MHD_HTTP_UNAUTHORIZED, "a token is needed here\n");
    if (strcmp(method, "GET") != 0 && strcmp(method, "HEAD") != 0)
        return refuse(conn, MHD_HTTP_METHOD_NOT_ALLOWED, "only GET\n");
    int rc = h->get(h->arg, url, &b, &type);
    if (!rc && !b.failed)
        return reply(conn, MHD_HTTP_OK, type, &b);
    mu_buf_free(&b);
    return rc == MUSTER_EARG ? refuse(conn, MHD_HTTP_NOT_FOUND, "there is nothing here; see / and /metrics\n")
                             : refuse(conn, MHD_HTTP_SERVICE_UNAVAILABLE, "out of memory\n");
}

static void on_connection(void *arg, struct MHD_Connection *conn, void **slot, enum MHD_ConnectionNotificationCode code)
{
    const union MHD_ConnectionInfo *info = lib.conn_info(conn, MHD_CONNECTION_INFO_CONNECTION_FD);
    struct mu_http *h = arg;

    if (code == MHD_CONNECTION_NOTIFY_CLOSED) {
        h->nconns -= h->nconns > 0;
        if (*slot)
            ((struct slot *)*slot)->fd = 0;
        return;
    }
    h->nconns++;
    for (size_t i = 0; info && i < MU_COUNT(h->conns); i++) {
        if (h->conns[i].fd)
            continue;
        h->conns[i] = (struct slot){.fd = info->connect_fd + 1, .until = mu_now() + MU_HTTP_CONN_NS};
        *slot = &h->conns[i];
        return;
    }
}

/* --- the loop ------------------------------------------------------------------------------------------------------
 */

static void turn(struct mu_http *h)
{
    MHD_UNSIGNED_LONG_LONG ms;
    uint64_t now = mu_now(), next = UINT64_MAX;

    for (size_t i = 0; i < MU_COUNT(h->conns); i++)
        if (h->conns[i].fd && now >= h->conns[i].until)
            shutdown(h->conns[i].fd - 1, SHUT_RDWR); /* it notices, and closes it */
    unsigned before;
    do { /* at its limit it stops listening, and looks only at the next run whether there is room again */
        before = h->nconns;
        lib.run(h->daemon);
    } while (h->nconns < before);
    if (lib.timeout(h->daemon, &ms) == MHD_YES)
        next = now + ms * MU_MS;
    for (size_t i = 0; i < MU_COUNT(h->conns); i++)
        if (h->conns[i].fd && h->conns[i].until < next)
            next = h->conns[i].until > now ? h->conns[i].until : now + 100 * MU_MS;
    mu_alarm_set(h->alarm, next);
}

static void on_ready(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what;
    turn(arg);
}

static void on_alarm(void *arg)
{
    turn(arg);
}

/* --- life ----------------------------------------------------------------------------------------------------------
 */

static bool loopback(const struct mu_addr *a)
{
    return a->sa.sa_family == AF_INET ? ntohl(a->in.sin_addr.s_addr) >> 24 == 127
                                      : IN6_IS_ADDR_LOOPBACK(&a->in6.sin6_addr);
}

static int find_address(const struct mu_http_config *cfg, struct mu_addr *a, struct mu_err *err)
{
    char text[300], host[MU_ADDR_HOST];
    uint16_t port;
    bool number = cfg->where[strspn(cfg->where, "0123456789")] == 0;

    snprintf(text, sizeof text, "%s%.280s", number ? "127.0.0.1:" : *cfg->where == ':' ? "0.0.0.0" : "", cfg->where);
    int rc = mu_addr_split(text, 0, host, &port, err);
    rc = rc ? rc : mu_addr_numeric(host, port, a, err);
    return rc ? mu_err_prefix(err, "%s takes [ADDR:]PORT", cfg->option) : 0;
}

/* The socket, -1 on an error. */
static int listen_at(const struct mu_http_config *cfg, const struct mu_addr *a, struct mu_err *err)
{
    char shown[MU_ADDR_TEXT];
    int one = 1, fd = socket(a->sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (fd >= 0 && !setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) && !bind(fd, &a->sa, a->len) &&
        !listen(fd, MU_HTTP_CONNS))
        return fd;
    mu_addr_text(a, shown);
    mu_err_errno(err, MUSTER_EIO, "%s: cannot listen on %s", cfg->option, shown);
    if (fd >= 0)
        close(fd);
    return -1;
}

static void no_log(void *arg, const char *fmt, va_list ap)
{
    (void)arg, (void)fmt, (void)ap;
}

static int start(struct mu_http *h, struct event_base *base, const struct mu_http_config *cfg, const struct mu_addr *a,
                 const char *crt, const char *key, struct mu_err *err)
{
    char shown[MU_ADDR_TEXT];
    int fd = listen_at(cfg, a, err);

    if (fd < 0)
        return MUSTER_EIO;
    struct MHD_OptionItem more[] = {{MHD_OPTION_HTTPS_MEM_CERT, 0, (void *)(uintptr_t)crt},
                                    {MHD_OPTION_HTTPS_MEM_KEY, 0, (void *)(uintptr_t)key},
                                    {MHD_OPTION_HTTPS_PRIORITIES, 0, (void *)(uintptr_t)TLS_VERSIONS},
                                    {MHD_OPTION_END, 0, NULL}};
    if (!crt)
        more[0].option = MHD_OPTION_END;
    h->daemon =
        lib.start(MHD_USE_EPOLL | (crt ? MHD_USE_TLS : 0), 0, NULL, NULL, on_request, h, MHD_OPTION_EXTERNAL_LOGGER,
                  no_log, NULL, MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_CONNECTION_LIMIT, (unsigned)MU_HTTP_CONNS,
                  MHD_OPTION_CONNECTION_TIMEOUT, IDLE_S, MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)16 << 10,
                  MHD_OPTION_NOTIFY_CONNECTION, on_connection, h, MHD_OPTION_ARRAY, more, MHD_OPTION_END);
    if (!h->daemon) {
        close(fd);
        return crt ? mu_err_set(err, MUSTER_EARG,
                                "%s: %s/%s.crt and %s.key are no certificate and its key (PEM), or do not fit together",
                                cfg->option, cfg->dir, cfg->name, cfg->name)
                   : mu_err_set(err, MUSTER_EIO, "%s: libmicrohttpd cannot start", cfg->option);
    }
    const union MHD_DaemonInfo *info = lib.info(h->daemon, MHD_DAEMON_INFO_EPOLL_FD);
    h->alarm = mu_alarm_new(base, on_alarm, h);
    h->ready = info ? event_new(base, info->epoll_fd, EV_READ | EV_PERSIST, on_ready, h) : NULL;
    if (!h->alarm || !h->ready || event_add(h->ready, NULL))
        return mu_err_set(err, MUSTER_ENOMEM, "%s: out of memory", cfg->option);
    mu_addr_text(a, shown);
    snprintf(h->url, sizeof h->url, "http%s://%s", crt ? "s" : "", shown);
    turn(h);
    return 0;
}

int mu_http_new(struct event_base *base, const struct mu_http_config *cfg, struct mu_http **out, struct mu_err *err)
{
    struct mu_buf crt = {0}, key = {0};
    struct mu_http *h = calloc(1, sizeof *h);
    struct mu_addr a;
    int rc, has_token = 0, has_crt = 0, has_key = 0;

    if (!h)
        return mu_err_set(err, MUSTER_ENOMEM, "out of memory");
    h->get = cfg->get;
    h->arg = cfg->arg;
    pthread_once(&lib_once, load);
    if (!lib.handle)
        rc = mu_err_set(err, MUSTER_ENOSYS, "%s %s", cfg->option, lib.why);
    else if (!(rc = find_address(cfg, &a, err)) && (has_token = read_token(cfg, &h->token, err)) >= 0 &&
             (has_crt = read_private(cfg, "crt", &crt, err)) >= 0 &&
             (has_key = read_private(cfg, "key", &key, err)) >= 0)
        rc = 0;
    else if (!rc)
        rc = has_token < 0 ? has_token : has_crt < 0 ? has_crt : has_key;
    if (!rc && !loopback(&a) && !(has_token && has_crt && has_key))
        rc =
            mu_err_set(err, MUSTER_EARG,
                       "%s %.60s is beyond loopback: that needs %s/%s.token, .crt and .key (a token, a certificate and "
                       "its key; mode 0600), and .%s is missing",
                       cfg->option, cfg->where, cfg->dir, cfg->name,
                       !has_token ? "token"
                       : !has_crt ? "crt"
                                  : "key");
    else if (!rc && has_crt != has_key)
        rc = mu_err_set(err, MUSTER_EARG, "%s: %s/%s.%s is there without %s.%s", cfg->option, cfg->dir, cfg->name,
                        has_crt ? "crt" : "key", cfg->name, has_crt ? "key" : "crt");
    else if (!rc && has_crt && lib.feature(MHD_FEATURE_TLS) != MHD_YES)
        rc = mu_err_set(err, MUSTER_ENOSYS, "%s: this host's libmicrohttpd was built without TLS", cfg->option);
    rc = rc ? rc : start(h, base, cfg, &a, has_crt ? mu_buf_str(&crt) : NULL, mu_buf_str(&key), err);
    wipe(&key);
    mu_buf_free(&crt);
    if (rc)
        mu_http_free(h);
    else
        *out = h;
    return rc;
}

void mu_http_free(struct mu_http *h)
{
    if (!h)
        return;
    if (h->ready)
        event_free(h->ready);
    mu_alarm_free(h->alarm);
    if (h->daemon)
        lib.stop(h->daemon);
    wipe(&h->token);
    free(h);
}

bool mu_http_guarded(const struct mu_http *h)
{
    return h && h->token.len;
}

const char *mu_http_url(const struct mu_http *h)
{
    return h->url;
}

#else

int mu_http_new(struct event_base *base, const struct mu_http_config *cfg, struct mu_http **out, struct mu_err *err)
{
    (void)base, (void)out;
    return mu_err_set(err, MUSTER_ENOSYS,
                      "%s needs libmicrohttpd, and muster was built without its headers (libmicrohttpd-dev)",
                      cfg->option);
}

void mu_http_free(struct mu_http *h)
{
    (void)h;
}

bool mu_http_guarded(const struct mu_http *h)
{
    (void)h;
    return false;
}

const char *mu_http_url(const struct mu_http *h)
{
    (void)h;
    return "";
}

#endif
