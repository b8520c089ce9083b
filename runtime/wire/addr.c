#include "runtime/wire/addr.h"

#include <arpa/inet.h>
#include <errno.h>
#include <event2/event.h>
#include <net/if.h>
#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "runtime/base/clean.h"
#include "runtime/base/str.h"

#define LOOKUPS_MAX 64 /* threads: a name server that is away must not collect them without end */
#define ADDRS_MAX 16

int mu_addr_split(const char *text, uint16_t port, char host[MU_ADDR_HOST], uint16_t *out, struct mu_err *err)
{
    static const char scheme[] = "muster://";
    const char *at = text, *end, *rest;
    uint64_t n = port;
    char shown[100];

    if (!strncmp(at, scheme, sizeof scheme - 1))
        at += sizeof scheme - 1;
    if (*at == '[') {
        end = strchr(++at, ']');
        rest = end ? end + 1 : "?";
        end = end ? end : at;
    } else {
        /* more than one colon: an IPv6 address without a port */
        const char *colon = strchr(at, ':');
        end = colon && !strchr(colon + 1, ':') ? colon : at + strlen(at);
        rest = end;
    }
    if (*rest == '/' && !rest[1])
        rest++;
    size_t len = (size_t)(end - at);
    bool bad = !len || len >= MU_ADDR_HOST || (*rest && *rest != ':');
    for (size_t i = 0; i < len && !bad; i++)
        bad = (unsigned char)at[i] <= ' ' || strchr("/@[]\x7f", at[i]) != NULL;
    if (!bad && *rest == ':') {
        char number[8];
        size_t digits = strcspn(rest + 1, "/");
        bad = digits >= sizeof number || (rest[1 + digits] && rest[2 + digits]);
        if (!bad) {
            memcpy(number, rest + 1, digits);
            number[digits] = 0;
            bad = mu_str_u64(number, 1, 65535, &n) != 0;
        }
    }
    if (bad)
        return mu_err_set(err, MUSTER_EARG, "not an address, which is HOST:PORT or [IPV6]:PORT: '%s'",
                          mu_str_show(shown, sizeof shown, text));
    if (!n)
        return mu_err_set(err, MUSTER_EARG, "a port is missing, as in HOST:PORT: '%s'",
                          mu_str_show(shown, sizeof shown, text));
    memcpy(host, at, len);
    host[len] = 0;
    *out = (uint16_t)n;
    return 0;
}

int mu_addr_numeric(const char *host, uint16_t port, struct mu_addr *out, struct mu_err *err)
{
    struct mu_addr a = {.len = sizeof a.in};
    char plain[INET6_ADDRSTRLEN], shown[100];
    const char *zone = strchr(host, '%');

    if (inet_pton(AF_INET, host, &a.in.sin_addr) == 1) {
        a.in.sin_family = AF_INET;
        a.in.sin_port = htons(port);
        *out = a;
        return 0;
    }
    size_t n = zone ? (size_t)(zone - host) : strlen(host);
    if (n < sizeof plain) {
        memcpy(plain, host, n);
        plain[n] = 0;
        a.len = sizeof a.in6;
        if (inet_pton(AF_INET6, plain, &a.in6.sin6_addr) == 1) {
            if (zone && !(a.in6.sin6_scope_id = if_nametoindex(zone + 1)))
                return mu_err_set(err, MUSTER_EARG, "there is no interface %.40s", zone + 1);
            a.in6.sin6_family = AF_INET6;
            a.in6.sin6_port = htons(port);
            *out = a;
            return 0;
        }
    }
    return mu_err_set(err, MUSTER_EARG, "not a numeric address: '%s'", mu_str_show(shown, sizeof shown, host));
}

uint16_t mu_addr_port(const struct mu_addr *a)
{
    return ntohs(a->sa.sa_family == AF_INET6 ? a->in6.sin6_port : a->in.sin_port);
}

void mu_addr_host(const struct mu_addr *a, char text[MU_ADDR_TEXT])
{
    char zone[IF_NAMESIZE];

    strcpy(text, "?");
    if (a->sa.sa_family == AF_INET) {
        inet_ntop(AF_INET, &a->in.sin_addr, text, MU_ADDR_TEXT);
    } else if (a->sa.sa_family == AF_INET6) {
        if (IN6_IS_ADDR_V4MAPPED(&a->in6.sin6_addr)) {
            inet_ntop(AF_INET, &a->in6.sin6_addr.s6_addr[12], text, MU_ADDR_TEXT);
            return;
        }
        inet_ntop(AF_INET6, &a->in6.sin6_addr, text, MU_ADDR_TEXT);
        if (a->in6.sin6_scope_id && if_indextoname(a->in6.sin6_scope_id, zone)) {
            strcat(text, "%");
            strcat(text, zone); /* 46 + 1 + 16 */
        }
    }
}

void mu_addr_text(const struct mu_addr *a, char text[MU_ADDR_TEXT])
{
    char host[MU_ADDR_TEXT];
    uint16_t port = mu_addr_port(a);

    mu_addr_host(a, host);
    if (!port)
        memcpy(text, host, sizeof host);
    else
        snprintf(text, MU_ADDR_TEXT, strchr(host, ':') ? "[%.54s]:%u" : "%.56s:%u", host, port);
}

/* --- names ------------------------------------------------------------------------------------------------------- */

/* Shared by the thread and the loop; whoever comes last frees it. */
struct question {
    atomic_int refs;
    atomic_bool answered; /* what follows is the thread's until then */
    int rc, e;
    unsigned n;
    struct mu_addr v[ADDRS_MAX];
    int done; /* eventfd */
    uint16_t port;
    char host[MU_ADDR_HOST];
};

struct mu_lookup {
    struct question *q;
    struct event *ev;
    mu_lookup_fn fn;
    void *arg;
};

static atomic_uint asking;

static void drop(struct question *q)
{
    if (atomic_fetch_sub(&q->refs, 1) != 1)
        return;
    close(q->done);
    free(q);
}

static void *ask(void *arg)
{
    const struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    struct question *q = arg;
    struct addrinfo *list = NULL;
    uint64_t one = 1;

    errno = 0;
    q->rc = getaddrinfo(q->host, NULL, &hints, &list);
    q->e = errno;
    for (struct addrinfo *a = q->rc ? NULL : list; a && q->n < ADDRS_MAX; a = a->ai_next) {
        struct mu_addr *to = &q->v[q->n];
        if ((a->ai_family != AF_INET && a->ai_family != AF_INET6) || a->ai_addrlen > sizeof(struct sockaddr_in6))
            continue;
        memcpy(&to->in6, a->ai_addr, a->ai_addrlen);
        to->len = a->ai_addrlen;
        if (a->ai_family == AF_INET6)
            to->in6.sin6_port = htons(q->port);
        else
            to->in.sin_port = htons(q->port);
        q->n++;
    }
    if (!q->rc)
        freeaddrinfo(list);
    atomic_fetch_sub(&asking, 1);
    atomic_store(&q->answered, true);
    while (write(q->done, &one, sizeof one) < 0 && errno == EINTR)
        ;
    drop(q);
    return NULL;
}

static void on_done(evutil_socket_t fd, short what, void *arg)
{
    struct mu_lookup *l = arg;
    const struct question *q = l->q;
    struct mu_err err = {0};

    (void)fd, (void)what;
    if (!atomic_load(&q->answered))
        return;
    event_del(l->ev);
    if (!q->n)
        mu_err_set(&err, MUSTER_EPEER, "cannot look up host %s: %s", q->host,
                   q->rc == EAI_SYSTEM ? strerror(q->e)
                   : q->rc             ? gai_strerror(q->rc)
                                       : "it has no address");
    l->fn(l->arg, q->v, q->n, &err);
}

/* The loop's signals are not for it. */
static int start(struct question *q)
{
    pthread_attr_t attr;
    sigset_t all, old;
    pthread_t t;

    if (pthread_attr_init(&attr))
        return -1;
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int rc = pthread_create(&t, &attr, ask, q);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    pthread_attr_destroy(&attr);
    errno = rc;
    return rc ? -1 : 0;
}

int mu_addr_resolve(struct event_base *base, const char *host, uint16_t port, mu_lookup_fn fn, void *arg,
                    struct mu_lookup **out, struct mu_err *err)
{
    struct question *q = calloc(1, sizeof *q);
    struct mu_lookup *l = calloc(1, sizeof *l);
    int rc;

    if (!q || !l) {
        free(q);
        free(l);
        return mu_err_set(err, MUSTER_ENOMEM, "out of memory");
    }
    *l = (struct mu_lookup){.q = q, .fn = fn, .arg = arg};
    atomic_init(&q->refs, 1);
    q->port = port;
    q->done = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (q->done < 0) {
        rc = mu_err_errno(err, 0, "cannot look up host %.200s", host);
        goto fail;
    }
    if (mu_str_copy(q->host, sizeof q->host, host)) {
        rc = mu_err_set(err, MUSTER_EARG, "host name is too long: %.100s", host);
        goto fail;
    }
    l->ev = event_new(base, q->done, EV_READ | EV_PERSIST, on_done, l);
    if (!l->ev || event_add(l->ev, NULL)) {
        rc = mu_err_set(err, MUSTER_ENOMEM, "out of memory");
        goto fail;
    }
    if (atomic_fetch_add(&asking, 1) >= LOOKUPS_MAX) {
        atomic_fetch_sub(&asking, 1);
        rc =
            mu_err_set(err, MUSTER_EPEER, "cannot look up host %.200s: %d lookups are not answered", host, LOOKUPS_MAX);
        goto fail;
    }
    atomic_store(&q->refs, 2);
    if (start(q)) {
        rc = mu_err_errno(err, 0, "cannot look up host %.200s", host);
        atomic_store(&q->refs, 1);
        atomic_fetch_sub(&asking, 1);
        goto fail;
    }
    *out = l;
    return 0;
fail:
    if (q->done < 0) {
        free(q);
        l->q = NULL;
    }
    mu_lookup_free(l);
    return rc;
}

void mu_lookup_free(struct mu_lookup *l)
{
    if (!l)
        return;
    if (l->ev)
        event_free(l->ev);
    if (l->q)
        drop(l->q);
    free(l);
}
