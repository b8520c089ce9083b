#include "topo/export.h"

#include <stdio.h>
#include <stdlib.h>

#include "runtime/base/clean.h"
#include "runtime/base/str.h"
#include "topo/fabric_impl.h"
#include "topo/place_impl.h"

/* What can stand in a topology.conf as it is. */
static bool plain(const char *name)
{
    if (!*name || *name == '-')
        return false;
    for (; *name; name++)
        if (!((*name >= '0' && *name <= '9') || ((*name | 0x20) >= 'a' && (*name | 0x20) <= 'z') || *name == '-' ||
              *name == '.' || *name == '_'))
            return false;
    return true;
}

int mu_export_slurm(const struct mu_place *p, struct mu_buf *out, struct mu_err *err)
{
    mu_auto_free int *level = calloc((size_t)p->nv + 1, sizeof(int)), *hosts = calloc((size_t)p->nv + 1, sizeof(int));
    char source[256];
    bool any = false;

    if (!level || !hosts)
        return mu_err_set(err, MUSTER_ENOMEM, "out of memory");
    /* Quotes: a backslash at the end would make the next line a part of this one. */
    mu_buf_appendf(out, "# from '%s'%s\n", mu_str_show(source, sizeof source, p->f->source),
                   p->tree ? "" : "; it is no tree: levels are what comes closest");
    for (int v = 0; v < p->nv; v++) {
        hosts[v] += p->first_host[v + 1] - p->first_host[v];
        if (hosts[v] && p->parent[v] >= 0) {
            hosts[p->parent[v]] += hosts[v];
            if (level[p->parent[v]] <= level[v])
                level[p->parent[v]] = level[v] + 1;
        }
    }
    for (int v = 0; v < p->nv; v++) {
        const char *sep = " Nodes=";
        char own[40];
        if (!hosts[v])
            continue;
        any = true;
        snprintf(own, sizeof own, "l%d-%d", level[v] + 1, v);
        if (mu_fabric_find_host(p->f, own) >= 0)
            return mu_err_set(err, MUSTER_EARG, "host %s is called as a switch would be", own);
        mu_buf_appendf(out, "SwitchName=%s", own);
        for (int i = p->first_host[v]; i < p->first_host[v + 1]; i++) {
            const char *name = p->f->hosts[p->host[i]].name;
            if (!plain(name))
                return mu_err_set(err, MUSTER_EARG,
                                  "host '%.80s' cannot stand in a topology.conf; --guids names it otherwise", name);
            mu_buf_appendf(out, "%s%s", sep, name);
            sep = ",";
        }
        sep = " Switches=";
        for (int i = p->first_child[v]; i < p->first_child[v + 1]; i++)
            if (hosts[p->child[i]]) {
                mu_buf_appendf(out, "%sl%d-%d", sep, level[p->child[i]] + 1, p->child[i]);
                sep = ",";
            }
        mu_buf_putc(out, '\n');
    }
    if (!any)
        return mu_err_set(err, MUSTER_EARG, "%s: no host is on a switch", p->f->source);
    return out->failed ? mu_err_set(err, MUSTER_ENOMEM, "out of memory") : 0;
}
