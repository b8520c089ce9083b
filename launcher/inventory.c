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

static int look(const struct mu_ctl *core, const struct mu_hosts *hosts, struct mu_err *err)
{
    struct mu_ctl_made made;
    unsigned n = 0;

    for (unsigned k = 0; mu_ctl_made(core, k, &made); k++)
        n += made.is && meant(core, hosts, made.node);
    for (size_t i = 0; i < hosts->n; i++) {
        const char *name = mu_host_name(hosts->v[i].name);
        bool there = false;
        for (unsigned k = 0; mu_ctl_made(core, k, &made) && !there; k++)
            there = made.is && !strcmp(made.node, name);
        if (!there)
            return mu_err_set(err, MUSTER_EARG,
                              "there is no inventory of %.200s; `muster nodes inventory` lists those that there are",
                              name);
    }
    return n ? 0 : mu_err_set(err, MUSTER_EARG, "no node has told yet what it is made of; try again in a moment");
}

int mu_inventory_approve(const struct mu_ctl *core, struct mu_store *store, const struct mu_m_approve *m,
                         struct mu_err *err)
{
    struct mu_hosts hosts = {0};
    struct mu_ctl_made made;
    int rc = 0;

    if (!m->by || !*m->by || !m->why || !*m->why)
        return mu_err_set(err, MUSTER_EARG, "who approves, and why, is to be said: --by NAME --why TEXT");
    if (strlen(m->by) > BY_MAX || strlen(m->why) > WHY_MAX)
        return mu_err_set(err, MUSTER_EARG, "--by takes %d bytes, --why %d", BY_MAX, WHY_MAX);
    if (m->hosts && *m->hosts && (rc = mu_hosts_parse(m->hosts, &hosts, err)))
        return rc;
    if (!(rc = look(core, &hosts, err)) && !(rc = mu_store_begin(store, err))) {
        for (unsigned k = 0; !rc && mu_ctl_made(core, k, &made); k++) {
            if (!made.is || !meant(core, &hosts, made.node))
                continue;
            struct mu_m_inventory now = *made.is;
            now.by = m->by;
            now.why = m->why;
            now.wall = mu_wall();
            rc = mu_store_put_baseline(store, &now, err);
        }
        rc = rc ? rc : mu_store_commit(store, err);
        if (rc)
            mu_store_rollback(store);
    }
    mu_hosts_free(&hosts);
    return rc;
}
