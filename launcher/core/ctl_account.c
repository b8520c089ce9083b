/* What a job has used: time, steps, and where. */
#include <stdlib.h>
#include <string.h>

#include "launcher/core/ctl_priv.h"
#include "runtime/base/str.h"

/* Steps of the present attempt, that all of its ranks have done. */
static uint64_t steps_of(const struct job *j)
{
    uint64_t least = j->nparts ? UINT64_MAX : 0;

    for (unsigned i = 0; i < j->nparts; i++)
        least = j->parts[i].steps < least ? j->parts[i].steps : least;
    return least;
}

uint64_t mu_ctl_job_runs(const struct mu_ctl *c, const struct job *j)
{
    const struct mu_m_jobrow *r = &j->row;

    if (!r->resumed_wall)
        return 0;
    if (c->cfg.boot && r->resumed_boot == c->cfg.boot && r->resumed_now <= c->now)
        return c->now - r->resumed_now;
    return c->wall > r->resumed_wall ? c->wall - r->resumed_wall : 0;
}

void mu_ctl_job_resumes(const struct mu_ctl *c, struct mu_m_jobrow *r)
{
    r->resumed_wall = c->wall;
    r->resumed_now = c->now;
    r->resumed_boot = c->cfg.boot;
}

void mu_ctl_account_steps(const struct mu_ctl *c, struct job *j)
{
    struct mu_m_jobrow *r = &j->row;
    uint64_t end = r->fail_attempt == r->attempt && r->fail_wall ? r->fail_wall : c->wall;
    uint64_t all = r->ran_ns + mu_ctl_job_runs(c, j); /* the clock may have been set */
    uint64_t most = all > r->stepping_ns ? all - r->stepping_ns : 0;

    r->steps_done += steps_of(j);
    if (r->first_step_wall && end > r->first_step_wall)
        r->stepping_ns += end - r->first_step_wall < most ? end - r->first_step_wall : most;
    r->first_step_wall = 0;
}

/* A node's part of rank_ns. at: where it most probably is. */
static bool account_node(struct mu_m_jobrow *r, const char *node, size_t at, uint64_t ns)
{
    size_t n = r->used_ns.n / 2;

    if (at >= n || strcmp(r->used_nodes[at], node) != 0)
        for (at = 0; at < n && strcmp(r->used_nodes[at], node) != 0;)
            at++;
    if (at == n) {
        uint32_t *v = realloc(r->used_ns.v, 2 * (n + 1) * sizeof *v);
        if (!v)
            return false;
        r->used_ns.v = v;
        if (mu_strv_append(&r->used_nodes, node))
            return false;
        v[2 * n] = v[2 * n + 1] = 0;
        r->used_ns.n += 2;
    }
    uint32_t *v = &r->used_ns.v[2 * at];
    ns += v[0] | (uint64_t)v[1] << 32;
    v[0] = (uint32_t)ns;
    v[1] = (uint32_t)(ns >> 32);
    return true;
}

/* All of them at once, so that ten thousand are not looked for among themselves. */
static bool account_names(const struct mu_ctl *c, struct job *j)
{
    char **names = calloc(j->nparts + 1, sizeof *names);
    uint32_t *v = calloc(2 * (size_t)j->nparts + 1, sizeof *v);
    bool good = names && v;

    for (unsigned i = 0; good && i < j->nparts; i++)
        good = (names[i] = strdup(c->pool.v[j->parts[i].share.node].name));
    if (!good) {
        mu_strv_free(names);
        free(v);
        return false;
    }
    mu_strv_free(j->row.used_nodes);
    free(j->row.used_ns.v);
    j->row.used_nodes = names;
    j->row.used_ns = (struct mu_u32v){.v = v, .n = 2 * j->nparts};
    return true;
}

void mu_ctl_account_run(struct mu_ctl *c, struct job *j)
{
    struct mu_m_jobrow *r = &j->row;
    uint64_t ns = mu_ctl_job_runs(c, j);

    if (!ns)
        return;
    mu_ctl_job_resumes(c, r);
    r->ran_ns += ns;
    r->rank_ns += ns * r->ranks;
    if (!r->used_ns.n && !account_names(c, j)) {
        c->acts->failed = true;
        return;
    }
    for (unsigned i = 0; i < j->nparts; i++)
        if (!account_node(r, c->pool.v[j->parts[i].share.node].name, i, ns * j->parts[i].share.ranks))
            c->acts->failed = true;
}

void mu_ctl_account_waiting(const struct mu_ctl *c, struct mu_m_jobrow *r)
{
    uint64_t since = r->since_wall ? r->since_wall : r->submitted_wall;

    r->waited_ns += c->wall > since ? c->wall - since : 0;
}

void mu_ctl_job_account(struct mu_ctl *c, struct job *j)
{
    if (mu_job_waits(j->row.state))
        mu_ctl_account_waiting(c, &j->row);
    mu_ctl_account_run(c, j);
    mu_ctl_account_steps(c, j);
    j->row.resumed_wall = 0;
}
