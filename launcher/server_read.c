/* What others in the controller read of the core. */
#include "launcher/server.h"

const struct mu_pool *mu_server_pool(const struct mu_server *s)
{
    return mu_ctl_pool(mu_server_core(s));
}

bool mu_server_has_jobs(const struct mu_server *s)
{
    const struct mu_m_jobrow *row;

    for (unsigned i = 0; (row = mu_ctl_job(mu_server_core(s), i, NULL)); i++)
        if (!mu_job_over(row->state))
            return true;
    return false;
}

bool mu_server_needs_job(const struct mu_server *s, uint64_t id)
{
    return mu_ctl_needs(mu_server_core(s), id);
}

bool mu_server_node_ready(const struct mu_server *s)
{
    const struct mu_pool *pool = mu_server_pool(s);

    for (unsigned i = 0; i < pool->n; i++)
        if (pool->v[i].ready)
            return true;
    return false;
}
