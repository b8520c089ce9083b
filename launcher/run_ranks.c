/* A rank file becomes the job's hosts, with as many slots as it has ranks there, and the slots of each rank. */
#include <stdlib.h>
#include <string.h>

#include "launcher/rankfile.h"
#include "launcher/run.h"
#include "runtime/base/clean.h"
#include "runtime/base/str.h"

/* The host of a row as a list with one element. */
static int host_of(const struct mu_run_plan *p, const struct mu_rankfile_row *row, struct mu_hosts *one,
                   struct mu_err *err)
{
    const char *name = row->host;
    char list[300], shown[80];
    uint64_t index;

    mu_str_show(shown, sizeof shown, row->host);
    if (name[0] == '+') {
        if (name[1] != 'n' || mu_str_u64(name + 2, 0, UINT32_MAX, &index))
            return mu_err_set(err, MUSTER_EARG, "'%s': a host of the job's list is written +n0, +n1, ...", shown);
        if (!p->hosts.n)
            return mu_err_set(err, MUSTER_EARG, "'%s' counts the job's hosts: name them with -H or --hostfile", shown);
        if (index >= p->hosts.n)
            return mu_err_set(err, MUSTER_EARG, "'%s': the job has %zu host%s, counted from +n0", shown, p->hosts.n,
                              p->hosts.n == 1 ? "" : "s");
        name = p->hosts.v[index].name;
    }
    snprintf(list, sizeof list, strchr(name, ':') && name[0] != '[' ? "[%s]:1" : "%s:1", name);
    int rc = mu_run_hosts_add(one, list, err);
    if (rc || !p->hosts.n)
        return rc;
    for (size_t i = 0; i < p->hosts.n; i++)
        if (!strcmp(p->hosts.v[i].name, one->v[0].name))
            return 0;
    return mu_err_set(err, MUSTER_EARG, "host '%s' is none of the job's hosts", shown);
}

static int build(struct mu_run_plan *p, const struct mu_rankfile *f, struct mu_hosts *hosts, struct mu_err *err)
{
    for (uint32_t i = 0; i < f->n; i++) {
        struct mu_hosts one = {0};
        struct mu_host *last = hosts->n ? &hosts->v[hosts->n - 1] : NULL;
        int rc = host_of(p, &f->v[i], &one, err);
        for (size_t h = 0; !rc && h + 1 < hosts->n; h++)
            if (!strcmp(hosts->v[h].name, one.v[0].name))
                rc = mu_err_set(err, MUSTER_EARG,
                                "the ranks of host %.80s do not follow one another: rank %u is on %.80s between them",
                                one.v[0].name, i - 1, last ? last->name : "?");
        if (!rc && last && !strcmp(last->name, one.v[0].name)) {
            last->slots++;
        } else if (!rc) {
            struct mu_host *v = realloc(hosts->v, (hosts->n + 1) * sizeof *v);
            if (v) {
                hosts->v = v;
                v[hosts->n++] = one.v[0];
            } else {
                rc = mu_err_set(err, MUSTER_ENOMEM, "%s", muster_strerror(MUSTER_ENOMEM));
            }
        }
        mu_hosts_free(&one);
        if (!rc && mu_strv_append(&p->slots, f->v[i].slots))
            rc = mu_err_set(err, MUSTER_ENOMEM, "%s", muster_strerror(MUSTER_ENOMEM));
        if (rc)
            return mu_err_prefix(err, "%s:%u", p->opts.rankfile, f->v[i].line);
    }
    return 0;
}

int mu_run_rankfile(struct mu_run_plan *p, struct mu_err *err)
{
    const struct mu_run_opts *o = &p->opts;
    struct mu_hosts hosts = {0};
    struct mu_rankfile f = {0};
    uint64_t ranks = 0;
    int rc;

    if (o->bind != MU_RUN_BIND_UNSAID || *o->map || o->nodes || o->ppn)
        return mu_err_set(err, MUSTER_EARG, "--rankfile says where each rank goes: leave %s out",
                          o->bind != MU_RUN_BIND_UNSAID ? "--bind"
                          : *o->map                     ? "--map"
                          : o->nodes                    ? "-N"
                                                        : "--ppn");
    if ((rc = mu_rankfile_read(o->rankfile, &f, err)))
        return err->code = rc == MUSTER_ENOMEM ? rc : MUSTER_EARG;
    for (unsigned i = 0; i < p->napps; i++)
        ranks += p->apps[i].ranks;
    if (ranks && ranks != f.n)
        rc = mu_err_set(err, MUSTER_EARG, "%llu ranks asked for, %s has %u: leave -n out", (unsigned long long)ranks,
                        o->rankfile, f.n);
    if (!rc)
        rc = build(p, &f, &hosts, err);
    mu_rankfile_free(&f);
    if (rc) {
        mu_hosts_free(&hosts);
        return rc;
    }
    mu_hosts_free(&p->hosts);
    p->hosts = hosts;
    return 0;
}
