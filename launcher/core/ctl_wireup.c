/* Attempts on several nodes: the controller is where their nodes meet. */
#include <stdio.h>
#include <stdlib.h>

#include "launcher/core/ctl_priv.h"

/* What a node may speak of: an attempt that it has a part in and that is not over. */
static struct job *live(struct mu_ctl *c, int node, uint64_t id, uint32_t attempt, uint32_t *place)
{
    struct job *j = mu_ctl_find(c, id);

    if (!j || mu_job_over(j->row.state) || attempt != j->row.attempt)
        return NULL;
    const struct part *p = mu_ctl_part(c, j, node);
    if (!p)
        return NULL;
    *place = (uint32_t)(p - j->parts);
    return j;
}

static void to_part(struct mu_ctl *c, const struct part *p, enum mu_msg_type type, const void *body)
{
    mu_acts_send(c->acts, c->pool.v[p->share.node].conn, type, body);
}

void mu_ctl_wireup_send(void *ctl, uint64_t job, const uint32_t *places, uint32_t n, enum mu_msg_type type,
                        const void *body)
{
    struct mu_ctl *c = ctl;
    const struct job *j = mu_ctl_find(c, job);
    mu_conn *v = j ? malloc((n + 1u) * sizeof *v) : NULL;

    for (uint32_t i = 0; v && i < n; i++)
        v[i] = places[i] < j->nparts ? c->pool.v[j->parts[places[i]].share.node].conn : 0;
    if (v)
        mu_acts_cast(c->acts, v, n, type, body);
    else if (j)
        c->acts->failed = true;
    free(v);
}

void mu_ctl_wireup_fence(struct mu_ctl *c, int node, const struct mu_m_fence *m)
{
    uint32_t place;
    const struct job *j = live(c, node, m->job, m->attempt, &place);

    if (j)
        mu_fences_take(c->fences, j->nparts, m);
}

void mu_ctl_wireup_modex(struct mu_ctl *c, int node, const struct mu_m_modex *m)
{
    uint32_t place;
    const struct job *j = live(c, node, m->job, m->attempt, &place);

    if (j && m->from == place && m->to < j->nparts)
        to_part(c, &j->parts[m->to], MU_MSG_modex, m);
}

void mu_ctl_wireup_up(struct mu_ctl *c, int node)
{
    for (unsigned i = 0; i < c->njobs; i++) {
        const struct job *j = c->jobs[i];

        for (uint32_t p = 0; p < j->nparts && j->nparts > 1 && !mu_job_over(j->row.state); p++)
            if (j->parts[p].share.node == (uint32_t)node)
                mu_fences_node_up(c->fences, j->row.id, j->row.attempt, p);
    }
}

void mu_ctl_wireup_gone(struct mu_ctl *c, const struct job *j, const struct part *p)
{
    if (j->nparts > 1)
        mu_fences_node_gone(c->fences, j->row.id, j->row.attempt, j->nparts, (uint32_t)(p - j->parts));
}

void mu_ctl_wireup_abort(struct mu_ctl *c, const struct job *j, const struct part *one)
{
    const struct mu_m_jobrow *r = &j->row;
    struct mu_m_abort m = {.job = r->id, .attempt = r->attempt, .status = r->fail_status, .node = r->fail_node};

    if (!j->failed_now || !r->fail_rank_plus1 || j->spec.on_failure != MU_FAIL_KEEP)
        return;
    m.rank = r->fail_rank_plus1 - 1;
    for (unsigned i = 0; i < j->nparts; i++) {
        const struct part *p = &j->parts[i];

        if ((!one || one == p) && p->phase <= MU_PHASE_RUNNING)
            to_part(c, p, MU_MSG_abort, &m);
    }
}
