#include "runtime/keeper/order.h"

#include <netinet/in.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "runtime/base/clean.h"
#include "runtime/base/log.h"
#include "runtime/base/str.h"
#include "runtime/keeper/env.h"
#include "runtime/wire/core.h"

static int check_limit(uint32_t n, struct mu_err *err)
{
    struct rlimit r;
    uint64_t need = MU_FILES_OF_RANK * (uint64_t)n + MU_FILES_OF_KEEPER;

    if (getrlimit(RLIMIT_NOFILE, &r) || r.rlim_cur == RLIM_INFINITY || r.rlim_cur >= need)
        return 0;
    return mu_err_set(
        err, MUSTER_ENODE,
        "cannot be started: %u ranks on this node need %llu open files, the limit is %llu; raise the hard "
        "limit (ulimit -Hn, LimitNOFILE=), then stop the pool so that it starts anew with it",
        n, (unsigned long long)need, (unsigned long long)r.rlim_cur);
}

int mu_order_check(const struct mu_m_start *s, const struct mu_m_spec *spec, struct mu_err *err)
{
    size_t argc = mu_strv_len(spec->argv), want = 0;
    uint64_t ranks = 0, placed = 0;

    if (s->refusal && *s->refusal)
        return mu_err_set(err, MUSTER_EARG, "%s", s->refusal);
    if (s->node_id >= s->node_ranks.n || mu_strv_len(s->nodes) != s->node_ranks.n || !spec->app_ranks.n ||
        spec->app_argc.n != spec->app_ranks.n)
        return mu_err_set(err, MUSTER_EARG, "the job's description does not fit together");
    for (uint32_t i = 0; i < s->node_ranks.n; i++)
        placed += s->node_ranks.v[i];
    for (uint32_t i = 0; i < spec->app_ranks.n; i++) {
        ranks += spec->app_ranks.v[i];
        want += spec->app_argc.v[i];
        if (!spec->app_argc.v[i])
            return mu_err_set(err, MUSTER_EARG, "application %u has no program", i);
    }
    if (ranks != placed || want != argc || !s->node_ranks.v[s->node_id])
        return mu_err_set(err, MUSTER_EARG, "the job's description does not fit together");
    return check_limit(s->node_ranks.v[s->node_id], err);
}

/* A port that is free now. Several nodes cannot ask one another here: they take the same number out of a range below
 * the ephemeral ports. */
static uint32_t master_port(const struct mu_order_for *f)
{
    struct sockaddr_in sa = {.sin_family = AF_INET};
    socklen_t len = sizeof sa;

    if (f->start->node_ranks.n == 1) {
        mu_auto_fd int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd >= 0 && !bind(fd, (struct sockaddr *)&sa, sizeof sa) && !getsockname(fd, (struct sockaddr *)&sa, &len))
            return ntohs(sa.sin_port);
    }
    uint64_t seed[] = {f->mark, f->start->job, f->start->attempt};
    return 20000 + (uint32_t)(mu_str_hash(seed, sizeof seed) % 12000);
}

static bool crowded(uint32_t nranks)
{
    cpu_set_t cpus;

    return sched_getaffinity(0, sizeof cpus, &cpus) == 0 && nranks > (uint32_t)CPU_COUNT(&cpus);
}

void mu_order_free(struct mu_order *o)
{
    for (uint32_t i = 0; i < o->napps; i++) {
        if (o->argv)
            mu_strv_free(o->argv[i]);
        if (o->common)
            mu_strv_free(o->common[i]);
    }
    for (uint32_t i = 0; i < o->n && o->env; i++)
        mu_strv_free(o->env[i]);
    free(o->argv);
    free(o->common);
    free(o->env);
    free(o->binds);
    free(o->ranks);
    free(o->note);
}

static uint32_t app_of(const struct mu_m_spec *spec, uint32_t rank)
{
    uint32_t end = 0;

    for (uint32_t a = 0; a < spec->app_ranks.n; a++)
        if (rank < (end += spec->app_ranks.v[a]))
            return a;
    return 0;
}

static int app_argv(const struct mu_m_spec *spec, uint32_t app, char ***argv)
{
    char **from = spec->argv;
    int rc = 0;

    for (uint32_t i = 0; i < app; i++)
        from += spec->app_argc.v[i];
    for (uint32_t i = 0; i < spec->app_argc.v[app] && !rc; i++)
        rc = mu_strv_append(argv, from[i]);
    return rc;
}

static const char *nth(char *const *v, uint32_t index)
{
    return index < mu_strv_len(v) ? v[index] : "";
}

/* 0 and *bind, or no binding: one that cannot be is said and lived without. The agent names NUMA nodes only where that
 * forbids some. */
static const struct mu_bind *bind_of(const struct mu_order_for *f, uint32_t index, struct mu_bind *bind)
{
    const char *cpus = nth(f->start->cpusets, index), *nodes = nth(f->start->nodesets, index);
    struct mu_err err = {0};
    struct {
        struct mu_cpuset cpus, nodes, all;
    } * s;

    if (!*cpus)
        return NULL;
    s = calloc(1, sizeof *s);
    int rc = s ? mu_cpuset_parse(cpus, &s->cpus, &err) : MUSTER_ENOMEM;
    if (!rc)
        rc = mu_cpuset_parse(nodes, &s->nodes, &err);
    if (!rc) {
        memset(&s->all, 0xff, sizeof s->all);
        rc = mu_bind_prepare(&s->cpus, &s->nodes, &s->all, bind, &err);
    }
    free(s);
    if (!rc)
        return bind;
    mu_log(MU_LOG_WARN, "keeper", "rank %u is not bound to %s: %s", f->first + index, cpus, err.text);
    return NULL;
}

int mu_order_make(const struct mu_order_for *f, struct mu_order *o, struct mu_err *err)
{
    const struct mu_m_start *s = f->start;
    struct mu_env_job job = {.start = s,
                             .spec = f->spec,
                             .pool = f->pool,
                             .slots = f->slots,
                             .arena = f->arena,
                             .session_dir = f->session_dir,
                             .shm_dir = f->shm_dir,
                             .master_addr = s->node_ranks.n == 1 ? "127.0.0.1" : s->nodes[0],
                             .master_port = master_port(f),
                             .fabric = mu_env_fabric(),
                             .crowded = crowded(f->n)};
    size_t nwdir = mu_strv_len(f->spec->app_wdir);
    char kept[64] = "";

    o->n = f->n;
    o->napps = f->spec->app_ranks.n;
    o->argv = calloc(o->napps, sizeof *o->argv);
    o->common = calloc(o->napps, sizeof *o->common);
    o->env = calloc(o->n, sizeof *o->env);
    o->ranks = calloc(o->n, sizeof *o->ranks);
    o->binds = s->cpusets ? calloc(o->n, sizeof *o->binds) : NULL;
    if (!o->argv || !o->common || !o->env || !o->ranks || (s->cpusets && !o->binds))
        goto nomem;
    for (uint32_t i = 0; i < f->n; i++) {
        uint32_t app = app_of(f->spec, f->first + i);
        char **pmix = NULL;
        int rc = 0;

        if (!o->argv[app] && app_argv(f->spec, app, &o->argv[app]))
            goto nomem;
        if (!o->common[app])
            rc = mu_env_common(&job, app, &o->common[app], err);
        if (!rc)
            rc = mu_pmix_env(f->pmix, f->first + i, &pmix, err);
        if (!rc && mu_env_plan(nth(s->rank_env, i), o->common[app], &pmix, kept)) {
            mu_strv_free(pmix);
            goto nomem;
        }
        if (!rc)
            rc = mu_env_rank(o->common[app], f->first + i, i, pmix, &o->env[i], err);
        mu_strv_free(pmix);
        if (rc)
            return rc;
        o->ranks[i] = (struct mu_launch_rank){.argv = o->argv[app],
                                              .env = o->env[i],
                                              .wdir = app < nwdir ? f->spec->app_wdir[app] : NULL,
                                              .bind = o->binds ? bind_of(f, i, &o->binds[i]) : NULL,
                                              .feed = f->spec->input && f->first + i == 0};
    }
    if (*kept && asprintf(&o->note, "%s is set already and stays as it is: ranks are not told of the %s of the plan",
                          kept, strstr(kept, "NET") ? "adapters" : "GPUs") < 0)
        o->note = NULL;
    return 0;
nomem:
    return mu_err_set(err, MUSTER_ENOMEM, "cannot start ranks: out of memory");
}
