#include "launcher/probe.h"

#include <errno.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "runtime/base/clean.h"
#include "runtime/base/clock.h"
#include "runtime/wire/addr.h"

struct probe {
    struct mu_probes *owner;
    struct probe *next;
    struct event *ev;
    int fd;
    bool known, answers;
    char node[256];
};

struct mu_probes {
    struct event_base *base;
    mu_probed_fn fn;
    void *arg;
    struct probe *list;
};

static void drop(struct probe *p)
{
    for (struct probe **at = &p->owner->list; *at; at = &(*at)->next) {
        if (*at == p) {
            *at = p->next;
            break;
        }
    }
    if (p->ev)
        event_free(p->ev);
    if (p->fd >= 0)
        close(p->fd);
    free(p);
}

/* "Connection refused" is an answer of the host, "no route to host" is one of somebody else. */
static bool is_answer(int e)
{
    return !e || e == ECONNREFUSED || e == ECONNRESET;
}

static void on_ready(evutil_socket_t fd, short what, void *arg)
{
    struct probe *p = arg;
    struct mu_probes *all = p->owner;
    socklen_t len = sizeof(int);
    char node[sizeof p->node];
    int e = ETIMEDOUT;

    if (!p->known && (what & EV_WRITE) && !getsockopt(fd, SOL_SOCKET, SO_ERROR, &e, &len))
        p->answers = is_answer(e);
    bool answers = p->answers;
    snprintf(node, sizeof node, "%s", p->node);
    drop(p);
    all->fn(all->arg, node, answers);
}

void mu_probe(struct mu_probes *all, const char *node, const char *addr, uint32_t port)
{
    static const struct timeval limit = {.tv_usec = MU_PROBE_NS / 1000}, now = {0};
    struct probe *p = calloc(1, sizeof *p);
    struct mu_addr a;

    if (!p)
        return; /* no answer is one, too: the core has a limit of its own */
    *p = (struct probe){.owner = all, .next = all->list, .fd = -1, .known = true};
    all->list = p;
    snprintf(p->node, sizeof p->node, "%s", node);
    if (!mu_addr_numeric(addr, (uint16_t)port, &a, NULL) &&
        (p->fd = socket(a.sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)) >= 0) {
        int rc = connect(p->fd, &a.sa, a.len);
        p->known = !rc || errno != EINPROGRESS;
        p->answers = p->known && is_answer(rc ? errno : 0);
    }
    p->ev = event_new(all->base, p->known ? -1 : p->fd, p->known ? EV_TIMEOUT : EV_WRITE, on_ready, p);
    if (!p->ev || event_add(p->ev, p->known ? &now : &limit))
        drop(p);
}

struct mu_probes *mu_probes_new(struct event_base *base, mu_probed_fn fn, void *arg)
{
    struct mu_probes *all = calloc(1, sizeof *all);

    if (all)
        *all = (struct mu_probes){.base = base, .fn = fn, .arg = arg};
    return all;
}

void mu_probes_free(struct mu_probes *all)
{
    if (!all)
        return;
    while (all->list)
        drop(all->list);
    free(all);
}
