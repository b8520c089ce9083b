#include "launcher/inventory.h"

#include <stdio.h>
#include <string.h>

#include "runtime/base/clean.h"
#include "runtime/base/clock.h"
#include "runtime/base/hosts.h"

enum { BY_MAX = 200, WHY_MAX = 1000 };

static bool meant(const struct mu_ctl *core, const struct mu_hosts *hosts, const char *node)
{
    for (size_t i = 0; i < hosts->n; i++)
        if (!strcmp(mu_host_name(hosts->v[i].name), node))
            return true;
    return !hosts->n && mu_pool_find(mu_ctl_pool(core), node) >= 0;
}

static bool has(const struct mu_ctl_made *made, bool withdraw)
{
    return withdraw ? made->approved : made->is;
}

static int look(const struct mu_ctl *core, const struct mu_hosts *hosts, bool withdraw, struct mu_err *err)
{
    struct mu_ctl_made made;
    unsigned n = 0;

    for (unsigned k = 0; mu_ctl_made(core, k, &made); k++)
        n += has(&made, withdraw) && meant(core, hosts, made.node);
    for (size_t i = 0; i < hosts->n; i++) {
        const char *name = mu_host_name(hosts->v[i].name);
        bool there = false;
        for (unsigned k = 0; mu_ctl_made(core, k, &made) && !there; k++)
            there = has(&made, withdraw) && !strcmp(made.node, name);
        if (!there)
            return mu_err_set(err, MUSTER_EARG,
                              withdraw ? "nothing was approved of %.200s; `muster nodes inventory` shows of which nodes"
                                       : "there is no inventory of %.200s; `muster nodes inventory` lists those that "
                                         "there are",
                              name);
    }
    if (!n && withdraw)
        return mu_err_set(err, MUSTER_EARG, "nothing was approved of any node of the pool");
    return n ? 0 : mu_err_set(err, MUSTER_EARG, "no node has told yet what it is made of; try again in a moment");
}

/* Of the one node, or of n. It is no job's, and listed nowhere: the audit log has more of it. */
static int add_event(struct mu_store *store, const struct mu_msg *msg, const char *node, unsigned n, struct mu_err *err)
{
    char detail[BY_MAX + WHY_MAX + 60];

    if (n == 1)
        snprintf(detail, sizeof detail, "by %s: %s", msg->approve.by, msg->approve.why);
    else
        snprintf(detail, sizeof detail, "%u nodes, by %s: %s", n, msg->approve.by, msg->approve.why);
    return mu_store_add_event(store,
                              &(struct mu_store_event){.wall = mu_wall(),
                                                       .rank = -1,
                                                       .kind = msg->type == MU_MSG_withdraw ? "withdrawn" : "approved",
                                                       .node = n == 1 ? node : NULL,
                                                       .detail = detail},
                              err);
}

int mu_inventory_approve(const struct mu_ctl *core, struct mu_store *store, const struct mu_msg *msg,
                         struct mu_err *err)
{
    const struct mu_m_approve *m = &msg->approve; /* withdraw has the same fields */
    bool withdraw = msg->type == MU_MSG_withdraw;
    struct mu_hosts hosts = {0};
    struct mu_ctl_made made;
    const char *node = NULL;
    unsigned n = 0;
    int rc = 0;

    if (!m->by || !*m->by || !m->why || !*m->why)
        return mu_err_set(err, MUSTER_EARG, "who %s, and why, is to be said: --by NAME --why TEXT",
                          withdraw ? "withdraws" : "approves");
    if (strlen(m->by) > BY_MAX || strlen(m->why) > WHY_MAX)
        return mu_err_set(err, MUSTER_EARG, "--by takes %d bytes, --why %d", BY_MAX, WHY_MAX);
    if (m->hosts && *m->hosts && (rc = mu_hosts_parse(m->hosts, &hosts, err)))
        return rc;
    if (!(rc = look(core, &hosts, withdraw, err)) && !(rc = mu_store_begin(store, err))) {
        for (unsigned k = 0; !rc && mu_ctl_made(core, k, &made); k++) {
            if (!has(&made, withdraw) || !meant(core, &hosts, made.node))
                continue;
            node = made.node;
            n++;
            if (withdraw) {
                rc = mu_store_drop_baseline(store, made.node, err);
                continue;
            }
            struct mu_m_inventory now = *made.is;
            now.by = m->by;
            now.why = m->why;
            now.wall = mu_wall();
            rc = mu_store_put_baseline(store, &now, err);
        }
        rc = rc ? rc : add_event(store, msg, node, n, err);
        rc = rc ? rc : mu_store_commit(store, err);
        if (rc)
            mu_store_rollback(store);
    }
    mu_hosts_free(&hosts);
    return rc;
}
