/* How the GPUs of nodes are, as their agents say it. What is a GPU's own fault takes its node out of the pool like a
 * health check `gpu` that fails: by the same settings, and in its name. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launcher/core/ctl_priv.h"
#include "runtime/base/clean.h"
#include "runtime/wire/gpus.h"

_Static_assert(sizeof((struct mu_node *)0)->gpu_known == MU_GPUS_TROUBLE, "as long as the text of a fault");

/* Whoever has jobs there hears of it. */
static void tell(struct mu_ctl *c, int node, const char *kind, const char *what)
{
    bool told = false;

    for (unsigned i = 0; i < c->njobs; i++)
        for (unsigned p = 0; p < c->jobs[i]->nparts; p++)
            if (c->jobs[i]->parts[p].share.node == (uint32_t)node && !mu_job_over(c->jobs[i]->row.state)) {
                mu_ctl_event(c, c->jobs[i], kind, -1, c->pool.v[node].name, "%s", what);
                told = true;
            }
    if (!told)
        mu_ctl_told(c, kind);
}

void mu_ctl_gpus_take(struct mu_ctl *c, int node, const struct mu_m_gpus *m)
{
    struct mu_node *n = &c->pool.v[node];
    struct mu_m_gpus *copy;
    char what[MU_GPUS_TROUBLE], out[MU_GPUS_TROUBLE] = "";

    if (!mu_gpus_valid(m))
        return;
    if (!(copy = calloc(1, sizeof *copy)) || mu_msg_copy(MU_MSG_gpus, copy, m)) {
        free(copy);
        c->acts->failed = true;
        return;
    }
    uint32_t seen = n->gpu_since == m->since ? n->gpu_xid : 0;
    mu_pool_forget_gpus(n);
    n->gpu_says = copy;
    n->gpus_at = c->now;
    n->gpu_since = m->since;
    n->gpu_xid = seen;
    for (unsigned i = 0; i < m->xids.n / 3; i++) {
        if (m->xids.v[3 * i] <= seen)
            continue;
        n->gpu_xid = m->xids.v[3 * i];
        mu_gpus_tell_xid(m, i, what, sizeof what);
        tell(c, node, "gpu-xid", what);
        if (mu_xid_is_fault(m->xids.v[3 * i + 2]) && !*out)
            memcpy(out, what, sizeof out);
    }
    mu_gpus_fault(m, what, sizeof what);
    if (*what && strcmp(what, n->gpu_known) != 0) { /* after that it is somebody's who has resumed it */
        tell(c, node, "gpu-failed", what);
        memcpy(out, what, sizeof out);
    }
    memcpy(n->gpu_known, what, sizeof n->gpu_known);
    if (*out)
        mu_ctl_checks_fault(c, node, "gpu", out);
}
