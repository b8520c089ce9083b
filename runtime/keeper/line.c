#include "runtime/keeper/line.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/base/clock.h"
#include "runtime/base/log.h"
#include "runtime/wire/core.h"
#include "runtime/wire/daemon.h"
#include "runtime/wire/key.h"
#include "runtime/wire/link.h"
#include "runtime/wire/tls.h"

#define AGAIN_FIRST (100 * MU_MS)
#define AGAIN_MAX (5 * MU_SEC)

struct mu_line {
    struct event_base *base;
    const struct mu_paths *paths;
    uint64_t job, again; /* again: pause before the next dial */
    const char *node;
    char host[256];
    uint16_t port;
    struct mu_tls *tls;
    struct mu_tls_dial *dial;
    struct mu_link *link;
    struct mu_alarm *alarm;
};

static void later(struct mu_line *l)
{
    mu_alarm_set(l->alarm, mu_now() + l->again);
    l->again = l->again * 2 < AGAIN_MAX ? l->again * 2 : AGAIN_MAX;
}

static void on_msg(void *arg, struct mu_link *link, const struct mu_msg *msg, const void *frame, size_t len)
{
    (void)arg, (void)link, (void)msg, (void)frame, (void)len;
}

static void on_down(void *arg, struct mu_link *link)
{
    struct mu_line *l = arg;

    mu_link_free(link);
    l->link = NULL;
    later(l);
}

static void on_dialled(void *arg, struct mu_tls_conn *conn, const struct mu_err *err)
{
    struct mu_line *l = arg;
    char role[] = "line";
    struct mu_m_hello hello = {.proto = MU_WIRE_VERSION,
                               .role = role,
                               .node = (char *)(uintptr_t)l->node,
                               .pid = (uint32_t)getpid(),
                               .job = l->job};

    l->dial = NULL;
    l->link = conn ? mu_link_new_tls(conn, on_msg, on_down, l) : NULL;
    if (!l->link) {
        mu_log(MU_LOG_DEBUG, "keeper", "line to the controller: %s", conn ? "out of memory" : err->text);
        later(l);
        return;
    }
    l->again = AGAIN_FIRST;
    mu_link_name(l->link, "controller (line)");
    mu_link_send_msg(l->link, MU_MSG_hello, &hello);
}

/* The key is read each time until it is there: the agent puts it down when it has been welcomed. */
static int open_tls(struct mu_line *l, struct mu_err *err)
{
    mu_auto_key struct mu_key key;
    char path[PATH_MAX];
    int rc = mu_path_join(path, sizeof path, l->paths->state, "join.key", err);

    if (!rc)
        rc = mu_key_load(path, &key, err);
    return rc ? rc : mu_tls_new(l->base, &key, NULL, &l->tls, err);
}

static void on_alarm(void *arg)
{
    struct mu_line *l = arg;
    struct mu_err err;
    int rc = 0;

    if (l->link || l->dial || !l->port)
        return;
    if (!l->tls)
        rc = open_tls(l, &err);
    if (!rc)
        rc = mu_connect_tcp(l->tls, l->host, l->port, on_dialled, l, &l->dial, &err);
    if (rc) {
        mu_log(MU_LOG_DEBUG, "keeper", "line to the controller: %s", err.text);
        later(l);
    }
}

struct mu_line *mu_line_new(struct event_base *base, const struct mu_paths *paths, uint64_t job, const char *node)
{
    struct mu_line *l = calloc(1, sizeof *l);

    if (!l)
        return NULL;
    *l = (struct mu_line){.base = base, .paths = paths, .job = job, .node = node, .again = AGAIN_FIRST};
    l->alarm = mu_alarm_new(base, on_alarm, l);
    if (!l->alarm) {
        free(l);
        return NULL;
    }
    return l;
}

void mu_line_dial(struct mu_line *l, const char *host, uint16_t port)
{
    if (!strcmp(l->host, host) && l->port == port)
        return;
    snprintf(l->host, sizeof l->host, "%s", host);
    l->port = port;
    l->again = AGAIN_FIRST;
    if (!l->link && !l->dial)
        mu_alarm_set(l->alarm, mu_now());
}

void mu_line_free(struct mu_line *l)
{
    if (!l)
        return;
    mu_tls_dial_cancel(l->dial);
    mu_link_free(l->link);
    mu_alarm_free(l->alarm);
    mu_tls_free(l->tls);
    free(l);
}
