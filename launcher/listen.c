#include "launcher/listen.h"

#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/base/clean.h"
#include "runtime/base/log.h"
#include "runtime/base/str.h"
#include "runtime/wire/addr.h"

enum { ADDRS_MAX = 8 };

struct mu_listen {
    struct event_base *base;
    const struct mu_paths *paths;
    mu_tls_accept_fn fn;
    void *arg;
    char host[MU_ADDR_HOST]; /* "": all addresses */
    uint16_t port;           /* asked for; 0: any */
    bool asked;
    struct mu_key key;
    struct mu_tls *tls;
    struct mu_tls_listener *listener;
    char join[ADDRS_MAX * (MU_ADDR_TEXT + 3) + 8];
};

int mu_listen_new(struct event_base *base, const struct mu_paths *paths, const char *where, mu_tls_accept_fn fn,
                  void *arg, struct mu_listen **out, struct mu_err *err)
{
    struct mu_listen *l = calloc(1, sizeof *l);
    struct mu_addr a;
    char text[300];
    int rc = 0;

    if (!l)
        return mu_err_set(err, MUSTER_ENOMEM, "out of memory");
    *l = (struct mu_listen){.base = base, .paths = paths, .fn = fn, .arg = arg};
    if (where && *where) {
        l->asked = true;
        snprintf(text, sizeof text, "%s%.280s", *where == ':' ? "0.0.0.0" : "", where);
        rc = mu_addr_split(text, 0, l->host, &l->port, err);
        if (!rc)
            rc = mu_addr_numeric(l->host, l->port, &a, err);
        if (rc) {
            free(l);
            return mu_err_prefix(err, "--listen (MUSTER_LISTEN)");
        }
        if (!strcmp(l->host, "0.0.0.0") || !strcmp(l->host, "::"))
            l->host[0] = 0;
    }
    *out = l;
    return 0;
}

void mu_listen_free(struct mu_listen *l)
{
    if (!l)
        return;
    mu_tls_listener_free(l->listener);
    mu_tls_free(l->tls);
    mu_key_wipe(&l->key);
    free(l);
}

static int port_file(const struct mu_listen *l, char path[PATH_MAX], struct mu_err *err)
{
    return mu_path_join(path, PATH_MAX, l->paths->state, "port", err);
}

/* 0: none. */
static uint16_t kept_port(const struct mu_listen *l)
{
    mu_auto_buf struct mu_buf b = {0};
    char path[PATH_MAX], number[8];
    uint64_t port = 0;

    if (port_file(l, path, NULL) || mu_path_read_regular(path, 64, &b, NULL))
        return 0;
    snprintf(number, sizeof number, "%.*s", (int)strcspn(mu_buf_str(&b), "\n"), mu_buf_str(&b));
    return mu_str_u64(number, 1, 65535, &port) ? 0 : (uint16_t)port;
}

bool mu_listen_wanted(const struct mu_listen *l)
{
    return l->asked || kept_port(l);
}

static void keep_port(const struct mu_listen *l, uint16_t port)
{
    char path[PATH_MAX], text[16];
    struct mu_err err;

    int n = snprintf(text, sizeof text, "%u\n", port);
    if (port_file(l, path, &err) || mu_path_write_atomic(path, text, (size_t)n, 0600, &err))
        mu_log(MU_LOG_WARN, "controller", "the port is not kept: %s; agents will not find the next controller",
               err.text);
}

void mu_listen_forget(struct mu_listen *l)
{
    char path[PATH_MAX];

    if (!port_file(l, path, NULL))
        unlink(path);
}

/* An address by which another host may know us. */
static bool useful(const struct ifaddrs *i, int family, char text[MU_ADDR_TEXT])
{
    struct mu_addr a = {.len = sizeof a.in6};

    if (!i->ifa_addr || i->ifa_addr->sa_family != family || !(i->ifa_flags & IFF_UP) || (i->ifa_flags & IFF_LOOPBACK))
        return false;
    memcpy(&a.in6, i->ifa_addr, family == AF_INET ? sizeof a.in : sizeof a.in6);
    if (family == AF_INET6 && IN6_IS_ADDR_LINKLOCAL(&a.in6.sin6_addr))
        return false;
    mu_addr_host(&a, text);
    return true;
}

static void add_addr(struct mu_listen *l, const char *host, unsigned *n)
{
    size_t at = strlen(l->join);

    snprintf(l->join + at, sizeof l->join - at, strchr(host, ':') ? "%s[%s]" : "%s%s", *n ? "," : "", host);
    ++*n;
}

static void list_addrs(struct mu_listen *l, uint16_t port)
{
    static const int families[] = {AF_INET, AF_INET6};
    struct ifaddrs *list = NULL;
    char text[MU_ADDR_TEXT];
    unsigned n = 0;

    l->join[0] = 0;
    if (l->host[0])
        add_addr(l, l->host, &n);
    else if (getifaddrs(&list))
        list = NULL;
    for (size_t f = 0; f < MU_COUNT(families); f++)
        for (struct ifaddrs *i = list; i && n < ADDRS_MAX; i = i->ifa_next)
            if (useful(i, families[f], text))
                add_addr(l, text, &n);
    if (list)
        freeifaddrs(list);
    if (!n)
        add_addr(l, "127.0.0.1", &n);
    size_t at = strlen(l->join);
    snprintf(l->join + at, sizeof l->join - at, ":%u", port);
}

int mu_listen_open(struct mu_listen *l, struct mu_err *err)
{
    const char *addrs[] = {l->host};
    unsigned naddrs = l->host[0] ? 1 : 0;
    uint16_t kept = kept_port(l), port = l->port ? l->port : kept;
    char path[PATH_MAX];
    int rc;

    if (l->listener) {
        list_addrs(l, mu_tls_listener_port(l->listener)); /* the host's addresses may have changed */
        return 0;
    }
    if (!l->tls && ((rc = mu_key_path(l->paths, path, err)) || (rc = mu_key_create(path, &l->key, err)) ||
                    (rc = mu_tls_new(l->base, &l->key, NULL, &l->tls, err))))
        return rc;
    rc = mu_listen_tcp(l->tls, addrs, naddrs, port, l->fn, l->arg, &l->listener, err);
    if (rc && !l->port && kept) {
        mu_log(MU_LOG_WARN, "controller", "%s; taking another port: agents of before will not find it", err->text);
        rc = mu_listen_tcp(l->tls, addrs, naddrs, 0, l->fn, l->arg, &l->listener, err);
    }
    if (rc)
        return rc;
    port = mu_tls_listener_port(l->listener);
    if (port != kept)
        keep_port(l, port);
    list_addrs(l, port);
    mu_log(MU_LOG_INFO, "controller", "listening for other hosts at %s, key %s", l->join, mu_tls_fingerprint(l->tls));
    return 0;
}

const char *mu_listen_join(const struct mu_listen *l)
{
    return l->join;
}

const struct mu_key *mu_listen_key(const struct mu_listen *l)
{
    return &l->key;
}

struct mu_tls *mu_listen_tls(const struct mu_listen *l)
{
    return l->tls;
}
