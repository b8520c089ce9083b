/* What the store has of jobs, at the controller's start: which had nodes, and what they are still to do. */
#include <stdlib.h>

#include "launcher/core/ctl_priv.h"
#include "launcher/core/ctl_queue.h"

static void load_spares(struct mu_ctl *c, struct job *j)
{
    const struct mu_m_jobrow *r = &j->row;
    unsigned n = 0;

    while (r->spare_nodes && r->spare_nodes[n])
        n++;
    if (!n || n != r->spare_slots.n || !(j->spares = calloc(n, sizeof *j->spares)))
        return;
    for (unsigned i = 0; i < n; i++) {
        int node = mu_ctl_node_known(c, r->spare_nodes[i]);
        if (node < 0)
            return;
        j->spares[j->nspares++] = (struct mu_share){.node = (uint32_t)node, .slots = r->spare_slots.v[i]};
        mu_pool_take(&c->pool, &j->spec, &j->spares[j->nspares - 1], 1);
    }
}

void mu_ctl_load(struct mu_ctl *c, const struct mu_m_jobrow *row)
{
    struct job *j = calloc(1, sizeof *j);

    if (!j || !mu_ctl_room(c) || mu_msg_copy(MU_MSG_jobrow, &j->row, row) ||
        mu_msg_unpack(&j->row.spec, MU_MSG_spec, &j->spec, NULL)) {
        mu_ctl_job_free(j);
        c->acts->failed = true;
        return;
    }
    /* rows come in the order of their ids, but do not trust it */
    unsigned at = c->njobs;
    while (at > 0 && c->jobs[at - 1]->row.id > j->row.id) {
        c->jobs[at] = c->jobs[at - 1];
        at--;
    }
    c->jobs[at] = j;
    c->njobs++;
    if (j->row.id >= c->next_id)
        c->next_id = j->row.id + 1;
    bool over = mu_job_over(j->row.state);
    if (c->cfg.losses && !over)
        j->row.skip = MU_ATTEMPT_SKIP * c->cfg.losses;
    mu_ctl_queue_load(c, j);
    if (over && !j->row.draining) {
        j->ended_sent = true;
        return;
    }
    if (j->spec.foreground || over)
        j->client_until = c->now + c->cfg.client_grace_ns;
    if (mu_job_waits(j->row.state))
        return;
    mu_ctl_hosts_load(c, j);
    /* it ran: which node had what comes from the row, the rest from the agents' reports */
    unsigned n = 0;
    while (j->row.nodes && j->row.nodes[n])
        n++;
    if (!n || n != j->row.node_ranks.n || n != j->row.node_slots.n)
        return;
    j->parts = calloc(n, sizeof *j->parts);
    if (!j->parts) {
        c->acts->failed = true;
        return;
    }
    for (unsigned i = 0; i < n; i++) {
        int node = mu_ctl_node_known(c, j->row.nodes[i]);
        if (node < 0)
            return;
        j->parts[i].share =
            (struct mu_share){.node = (uint32_t)node, .ranks = j->row.node_ranks.v[i], .slots = j->row.node_slots.v[i]};
        j->parts[i].asked = j->row.ending != MU_END_NONE;
        j->parts[i].inherited = j->inherited = true;
        if (j->row.state == MU_JOB_STARTING && j->row.node_boots.n == 2 * n)
            j->parts[i].boot = j->row.node_boots.v[2 * i] | (uint64_t)j->row.node_boots.v[2 * i + 1] << 32;
        if (!over)
            mu_pool_take(&c->pool, &j->spec, &j->parts[i].share, 1);
    }
    j->nparts = n;
    if (over) /* its slots are free; what its ranks have printed is still under way */
        return;
    j->holds = true;
    for (unsigned i = 0; i < n && (j->row.state == MU_JOB_RECOVERING || j->row.ending != MU_END_NONE); i++)
        j->parts[i].killed_at = c->now;
    load_spares(c, j);
    mu_ctl_queue_charge(c, j, true);
    j->failed_now = j->row.fail_rank_plus1 && j->row.fail_attempt == j->row.attempt;
    j->first_step = j->restored_told = j->row.first_step_wall != 0;
    if (j->row.retry_wall)
        j->retry_at = c->now;
    if (j->spec.timeout_ns && j->row.resumed_wall) {
        uint64_t ran = j->row.ran_ns + mu_ctl_job_runs(c, j);
        j->kill_at = c->now + (ran < j->spec.timeout_ns ? j->spec.timeout_ns - ran : 1);
    }
}
