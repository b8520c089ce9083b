/* Hosts that people give to the pool or take from it. A request is carried out whole or not at all. */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "launcher/core/ctl_priv.h"
#include "runtime/base/hosts.h"
#include "runtime/base/str.h"

/* The list, or refuses the client. */
bool mu_ctl_read_hosts(struct mu_ctl *c, mu_conn client, const char *text, struct mu_hosts *out)
{
    struct mu_err err = {.text = "no host is named"};

    if (text && *text && !mu_hosts_parse(text, out, &err))
        return true;
    mu_ctl_refuse(c, client, MUSTER_EARG, err.text);
    return false;
}

void mu_ctl_done(struct mu_ctl *c, mu_conn client)
{
    mu_acts_send(c->acts, client, MU_MSG_submitted, &(struct mu_m_submitted){0});
}

void mu_ctl_pool_add(struct mu_ctl *c, mu_conn client, const char *text)
{
    struct mu_hosts hosts = {0};
    char why[400];

    if (!mu_ctl_read_hosts(c, client, text, &hosts))
        return;
    for (size_t i = 0; i < hosts.n; i++) {
        int node = mu_pool_find(&c->pool, mu_host_name(hosts.v[i].name));
        why[0] = 0;
        if (node >= 0 && !c->pool.v[node].remote)
            snprintf(why, sizeof why, "host %.200s is the controller's machine, which is always in its pool",
                     mu_host_name(hosts.v[i].name));
        else if (node >= 0 && c->pool.v[node].owner)
            snprintf(why, sizeof why, "host %.200s belongs to job %llu alone; wait for its end, or cancel it",
                     mu_host_name(hosts.v[i].name), (unsigned long long)c->pool.v[node].owner);
        if (why[0]) {
            mu_ctl_refuse(c, client, MUSTER_EARG, why);
            goto out;
        }
    }
    for (size_t i = 0; i < hosts.n; i++) {
        int node = mu_ctl_node_known(c, mu_host_name(hosts.v[i].name));
        if (node < 0)
            break;
        struct mu_node *n = &c->pool.v[node];
        snprintf(n->target, sizeof n->target, "%s", hosts.v[i].name);
        n->limit = (uint32_t)hosts.v[i].slots;
        n->leaving = false;
        if (n->limit && n->slots && !n->used)
            n->slots = n->limit;
        if (!client || n->state == MU_NODE_UP)
            continue;
        if (n->state != MU_NODE_LOST)
            n->state = MU_NODE_STARTING;
        n->reason[0] = 0;
        mu_ctl_node_start(c, node);
    }
    mu_ctl_done(c, client);
out:
    mu_hosts_free(&hosts);
}

void mu_ctl_pool_remove(struct mu_ctl *c, mu_conn client, const struct mu_m_nodes_remove *m)
{
    struct mu_hosts hosts = {0};
    char why[400];

    if (!mu_ctl_read_hosts(c, client, m->hosts, &hosts))
        return;
    for (size_t i = 0; i < hosts.n; i++) {
        const char *name = mu_host_name(hosts.v[i].name);
        int node = mu_pool_find(&c->pool, name);
        const struct job *j = node < 0 ? NULL : mu_ctl_node_job(c, node);
        why[0] = 0;
        if (node < 0 || !c->pool.v[node].remote || c->pool.v[node].owner)
            snprintf(why, sizeof why, "host %.200s is not one that was added to the pool; `muster nodes` lists them",
                     name);
        else if (j && !m->force)
            snprintf(why, sizeof why, "job %llu runs on host %.200s; wait for its end, cancel it, or say --force",
                     (unsigned long long)j->row.id, name);
        if (why[0]) {
            mu_ctl_refuse(c, client, MUSTER_EARG, why);
            goto out;
        }
    }
    for (size_t i = 0; i < hosts.n; i++) {
        int node = mu_pool_find(&c->pool, mu_host_name(hosts.v[i].name));
        if (node < 0)
            continue;
        struct mu_node *n = &c->pool.v[node];
        const struct job *on = mu_ctl_node_job(c, node);
        snprintf(n->reason, sizeof n->reason, "it leaves the pool");
        mu_ctl_node_let_go(c, node);
        /* with --force: its ranks of a job end, and the job goes on elsewhere */
        for (unsigned k = 0; k < c->njobs && on; k++)
            for (unsigned p = 0; p < c->jobs[k]->nparts; p++)
                if (c->jobs[k]->parts[p].share.node == (uint32_t)node)
                    mu_ctl_kill_parts(c, c->jobs[k], SIGKILL, 0, "a node of the job leaves the pool");
    }
    mu_ctl_done(c, client);
out:
    mu_hosts_free(&hosts);
}

int mu_labels_check(const char *labels, struct mu_err *err)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
    char shown[80];

    for (const char *p = labels;; p++) {
        size_t n = strspn(p, letters);
        if (!n || n > 63 || (p[n] && p[n] != ',') || strlen(labels) > 255)
            return mu_err_set(err, MUSTER_EARG,
                              "'%s': labels are of letters, digits, '.', '_' and '-', 63 at most each, 255 in all",
                              mu_str_show(shown, sizeof shown, labels));
        if (!*(p += n))
            return 0;
    }
}

void mu_ctl_pool_label(struct mu_ctl *c, mu_conn client, const struct mu_m_nodes_label *m)
{
    const char *labels = m->labels ? m->labels : "";
    struct mu_hosts hosts = {0};
    struct mu_err err;
    char why[400];

    if (*labels && mu_labels_check(labels, &err)) {
        mu_ctl_refuse(c, client, MUSTER_EARG, err.text);
        return;
    }
    if (!mu_ctl_read_hosts(c, client, m->hosts, &hosts))
        return;
    for (size_t i = 0; i < hosts.n && client; i++) {
        if (mu_pool_find(&c->pool, mu_host_name(hosts.v[i].name)) >= 0)
            continue;
        snprintf(why, sizeof why, "host %.200s is not in the pool; `muster nodes` lists it",
                 mu_host_name(hosts.v[i].name));
        mu_ctl_refuse(c, client, MUSTER_EARG, why);
        goto out;
    }
    for (size_t i = 0; i < hosts.n; i++) {
        int node = mu_ctl_node_known(c, mu_host_name(hosts.v[i].name));
        if (node >= 0)
            snprintf(c->pool.v[node].labels, sizeof c->pool.v[node].labels, "%s", labels);
    }
    mu_ctl_done(c, client);
out:
    mu_hosts_free(&hosts);
}

void mu_ctl_pool_labels(const struct mu_ctl *c, struct mu_buf *out)
{
    for (unsigned i = 0; i < c->pool.n; i++) {
        const struct mu_node *n = &c->pool.v[i];
        if (n->state != MU_NODE_NONE && !n->owner && !n->leaving && n->labels[0])
            mu_buf_appendf(out, "%s %s\n", n->name, n->labels);
    }
}

void mu_ctl_end(struct mu_ctl *c)
{
    c->exiting = true;
}

void mu_ctl_pool_hosts(const struct mu_ctl *c, struct mu_buf *out)
{
    const char *sep = "";

    for (unsigned i = 0; i < c->pool.n; i++) {
        const struct mu_node *n = &c->pool.v[i];
        if (n->state == MU_NODE_NONE || n->owner || !*n->target)
            continue;
        if (n->limit)
            mu_buf_appendf(out, "%s%s:%u", sep, n->target, n->limit);
        else
            mu_buf_appendf(out, "%s%s:*", sep, n->target);
        sep = ",";
    }
}
