/* The hosts that a job has named, or the allocation around us. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "launcher/engine.h"
#include "launcher/run.h"
#include "launcher/slurm.h"
#include "runtime/base/clean.h"
#include "runtime/base/str.h"

static bool is_here(const char *name, const char *host)
{
    static const char *const local[] = {"localhost", "127.0.0.1", "::1"};

    name = mu_host_name(name);
    for (size_t i = 0; i < MU_COUNT(local); i++)
        if (!strcmp(name, local[i]))
            return true;
    /* host and host.domain are the same machine, whichever of the two this one calls itself */
    size_t a = strcspn(name, "."), b = strcspn(host, ".");
    return !strcasecmp(name, host) || (a == b && !strncasecmp(name, host, a) && (name[a] == 0 || host[b] == 0));
}

/* More of them, in their order; a host that is there already gets more slots. */
static int append(struct mu_hosts *to, const struct mu_hosts *from, struct mu_err *err)
{
    struct mu_host *v = realloc(to->v, (to->n + from->n + 1) * sizeof *v);
    size_t before = to->n;
    char here[65];

    if (!v)
        return mu_err_set(err, MUSTER_ENOMEM, "%s", muster_strerror(MUSTER_ENOMEM));
    to->v = v;
    mu_path_host(here);
    for (size_t i = 0; i < from->n; i++) {
        struct mu_host h = from->v[i];
        bool local = is_here(h.name, here);
        size_t at = 0, end = local ? to->n : before; /* within a list only we have several names */

        if (local)
            snprintf(h.name, sizeof h.name, "%s", here);
        while (at < end && strcmp(mu_host_name(v[at].name), mu_host_name(h.name)))
            at++;
        if (at < end && strcmp(v[at].name, h.name))
            return mu_err_set(err, MUSTER_EARG, "'%s' and '%s' are one host: name it in one way", v[at].name, h.name);
        if (at == end)
            v[to->n++] = h;
        else if (v[at].slots && h.slots) /* what is left to the node is */
            v[at].slots += h.slots;
        else
            v[at].slots = 0;
    }
    return 0;
}

int mu_run_hosts_add(struct mu_hosts *out, const char *list, struct mu_err *err)
{
    struct mu_hosts hosts = {0};
    int rc = mu_hosts_parse(list, &hosts, err);

    if (!rc)
        rc = append(out, &hosts, err);
    mu_hosts_free(&hosts);
    return rc;
}

static int add_file(struct mu_hosts *out, const char *path, struct mu_err *err)
{
    struct mu_hosts hosts = {0};
    int rc = mu_hosts_read_file(path, &hosts, err);

    if (rc)
        return err->code = MUSTER_EARG;
    rc = append(out, &hosts, err);
    mu_hosts_free(&hosts);
    return rc;
}

static int add_allocation(struct mu_run_plan *p, struct mu_err *err)
{
    struct mu_hosts hosts = {0};
    int rc = mu_slurm_hosts(&hosts, err);

    if (rc)
        return rc;
    p->from_slurm = true;
    rc = append(&p->hosts, &hosts, err);
    mu_hosts_free(&hosts);
    return rc;
}

char *mu_run_hosts_text(const struct mu_hosts *hosts)
{
    struct mu_buf b = {0};

    for (size_t i = 0; i < hosts->n; i++) {
        const struct mu_host *h = &hosts->v[i];
        mu_buf_appendf(&b, strchr(h->name, ':') ? "%s[%s]:" : "%s%s:", i ? "," : "", h->name);
        if (h->slots)
            mu_buf_appendf(&b, "%d", h->slots);
        else
            mu_buf_putc(&b, '*');
    }
    return mu_buf_take(&b);
}

bool mu_run_hosts_here(const struct mu_hosts *hosts)
{
    char here[65];

    mu_path_host(here);
    for (size_t i = 0; i < hosts->n; i++)
        if (!strcmp(hosts->v[i].name, here))
            return true;
    return !hosts->n;
}

int mu_run_ssh(const char *option, const char **out, struct mu_err *err)
{
    const char *env = getenv("MUSTER_SSH"), *cmd = option ? option : env && *env ? env : NULL;
    char **words = NULL;

    if (cmd && mu_str_words(cmd, &words, err))
        return mu_err_prefix(err, option ? "--ssh" : "MUSTER_SSH");
    mu_strv_free(words);
    *out = cmd;
    return 0;
}

static int choose_engine(struct mu_run_plan *p, struct mu_err *err)
{
    const struct mu_engine *e = mu_engine_here();
    extern char **environ;
    int rc = mu_run_ssh(p->opts.ssh, &p->opts.ssh, err);

    if (rc)
        return rc;
    if (p->opts.engine && !*p->opts.engine)
        return mu_err_set(err, MUSTER_EARG, "--engine: a name is missing: ssh, slurm or hand");
    if (p->opts.engine && (rc = mu_engine_find(p->opts.engine, &e, err)))
        return mu_err_prefix(err, "--engine");
    if (!p->hosts.n)
        return 0;
    p->engine = e->name;
    return mu_engine_env(e, environ, &p->engine_env)
               ? mu_err_set(err, MUSTER_ENOMEM, "%s", muster_strerror(MUSTER_ENOMEM))
               : 0;
}

static bool has_nothing(char *const *v)
{
    return !v || !*v;
}

int mu_run_check_hosts(struct mu_run_plan *p, struct mu_err *err)
{
    const char *pool = getenv("MUSTER_POOL");
    struct mu_run_opts *o = &p->opts;
    bool open_end = false;
    uint64_t slots = 0;
    int rc = 0;

    for (char **v = o->hosts; v && *v && !rc; v++)
        if ((rc = mu_run_hosts_add(&p->hosts, *v, err)))
            mu_err_prefix(err, "-H");
    for (char **v = o->hostfiles; v && *v && !rc; v++)
        rc = add_file(&p->hosts, *v, err);
    if (!rc && has_nothing(o->hosts) && has_nothing(o->hostfiles) && mu_slurm_inside() && !(pool && *pool))
        rc = add_allocation(p, err);
    if (!rc && o->rankfile)
        rc = mu_run_rankfile(p, err);
    if (rc || (rc = choose_engine(p, err)) || !p->hosts.n)
        return rc;
    if ((size_t)o->spares >= p->hosts.n)
        return mu_err_set(
            err, MUSTER_EARG,
            "--spares %d needs hosts beyond those of the ranks, and %s: name more with -H, or fewer spares", o->spares,
            p->hosts.n == 1 ? "there is only one" : "all that are named would be spares");
    if ((size_t)o->nodes > p->hosts.n)
        return mu_err_set(err, MUSTER_EARG, "%d nodes asked for, %zu host%s given", o->nodes, p->hosts.n,
                          p->hosts.n == 1 ? " is" : "s are");
    for (size_t i = 0; i + (size_t)o->spares < p->hosts.n; i++) {
        slots += (uint64_t)p->hosts.v[i].slots;
        open_end = open_end || !p->hosts.v[i].slots;
    }
    p->host_slots = open_end || slots > UINT32_MAX ? 0 : (uint32_t)slots;
    return 0;
}

/* A pool of these hosts alone, as the controller will see it. */
static int pretend(const struct mu_run_plan *p, struct mu_pool *pool)
{
    for (size_t i = 0; i < p->hosts.n; i++) {
        int node = mu_pool_add(pool, mu_host_name(p->hosts.v[i].name));
        if (node < 0)
            return node;
        pool->v[node].slots = (uint32_t)p->hosts.v[i].slots;
        pool->v[node].state = MU_NODE_UP;
        pool->v[node].ready = true;
    }
    return 0;
}

int mu_run_place(const struct mu_run_plan *p, struct mu_share **shares, unsigned *n, unsigned *nspares,
                 struct mu_err *err)
{
    mu_auto_free char *text = mu_run_hosts_text(&p->hosts);
    struct mu_m_spec spec = {.ranks = p->ranks,
                             .hosts = text,
                             .nodes = (uint32_t)p->opts.nodes,
                             .ppn = (uint32_t)p->opts.ppn,
                             .map = (char *)(uintptr_t)p->opts.map,
                             .spares = (uint32_t)p->opts.spares,
                             .oversubscribe = p->opts.oversubscribe};
    struct mu_share *v = NULL;
    struct mu_pool pool = {0};
    unsigned count = 0, spare = 0;
    char why[400];
    int rc = 0;

    for (size_t i = 0; i < p->hosts.n; i++)
        if (!p->hosts.v[i].slots)
            return shares ? mu_err_set(err, MUSTER_EARG,
                                       "how many slots host %s has is known only once its agent runs; say %s:SLOTS",
                                       p->hosts.v[i].name, p->hosts.v[i].name)
                          : 0;
    if (!text || pretend(p, &pool))
        rc = mu_err_set(err, MUSTER_ENOMEM, "%s", muster_strerror(MUSTER_ENOMEM));
    else if (mu_pool_fit(&pool, 0, &spec, &v, &count, &spare, why, sizeof why) != MU_FIT_YES)
        rc = mu_err_set(err, MUSTER_EARG, "%s", why);
    mu_pool_free(&pool);
    if (rc || !shares) {
        free(v);
        return rc;
    }
    *shares = v;
    *n = count;
    *nspares = spare;
    return 0;
}
