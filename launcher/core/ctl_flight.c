/* What the ranks of a running job have called last: a client asks, the keepers answer, by way of us. */
#include <stdlib.h>

#include "launcher/core/ctl_priv.h"
#include "runtime/base/clean.h"

void mu_ctl_flight_asked(struct mu_ctl *c, struct conn *k, const struct mu_m_flight *m)
{
    struct job *j = mu_ctl_find(c, m->job);
    mu_auto_free char **nodes = NULL;

    if (!j) {
        mu_ctl_refuse_unknown(c, k->id, m->job);
        return;
    }
    if (!(nodes = calloc(j->nparts + 1u, sizeof *nodes))) {
        mu_ctl_refuse(c, k->id, MUSTER_ENOMEM, "the controller is out of memory");
        return;
    }
    for (unsigned i = 0; i < j->nparts; i++)
        nodes[i] = c->pool.v[j->parts[i].share.node].name;
    k->flight = j->row.id;
    mu_acts_send(c->acts, k->id, MU_MSG_flown,
                 &(struct mu_m_flown){.job = j->row.id, .attempt = j->row.attempt, .nodes = nodes});
    struct mu_m_flight ask = {.job = j->row.id, .attempt = j->row.attempt, .last = m->last, .asker = k->id};
    mu_ctl_send_agents(c, j, MU_MSG_flight, &ask);
}

/* Only to one who has asked for it, and from a node that the job is on. */
void mu_ctl_flown(struct mu_ctl *c, int node, const struct conn *asker, const struct mu_m_flown *m)
{
    const struct job *j = mu_ctl_find(c, m->job);
    struct mu_m_flown told = *m;

    if (!j || !asker || asker->role != ROLE_CLIENT || asker->flight != m->job)
        return;
    told.node = c->pool.v[node].name;
    told.nodes = NULL;
    for (unsigned i = 0; i < j->nparts; i++) {
        if (j->parts[i].share.node != (uint32_t)node)
            continue;
        mu_acts_send(c->acts, asker->id, MU_MSG_flown, &told);
        return;
    }
}
