#include "launcher/farewell.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/base/clean.h"
#include "runtime/base/log.h"
#include "runtime/wire/link.h"
#include "runtime/wire/tls.h"

enum { GUESTS_MAX = 1024 };

struct mu_farewell {
    struct guest {
        struct mu_link *link;
    } v[GUESTS_MAX];
};

static void on_down(void *arg, struct mu_link *link)
{
    struct guest *g = arg;

    (void)link;
    mu_link_free(MU_STEAL(g->link, NULL));
}

static void on_msg(void *arg, struct mu_link *link, const struct mu_msg *msg, const void *frame, size_t len)
{
    struct guest *g = arg;

    (void)frame, (void)len;
    if (msg->type != MU_MSG_hello)
        return;
    if (msg->hello.role && !strcmp(msg->hello.role, "agent")) {
        mu_log(MU_LOG_INFO, "controller", "the agent on %s comes too late and is told to end",
               msg->hello.node ? msg->hello.node : "another host");
        mu_link_send_msg(link, MU_MSG_bye, &(struct mu_m_bye){0});
    }
    mu_link_close_after_flush(MU_STEAL(g->link, NULL));
}

struct mu_farewell *mu_farewell_new(void)
{
    return calloc(1, sizeof(struct mu_farewell));
}

void mu_farewell_free(struct mu_farewell *f)
{
    for (unsigned i = 0; f && i < GUESTS_MAX; i++)
        mu_link_free(f->v[i].link);
    free(f);
}

void mu_farewell_take(struct mu_farewell *f, struct mu_tls_conn *conn)
{
    for (unsigned i = 0; i < GUESTS_MAX; i++) {
        if (!f->v[i].link) {
            f->v[i].link = mu_link_new_tls(conn, on_msg, on_down, &f->v[i]);
            return;
        }
    }
    mu_tls_conn_free(conn);
}
