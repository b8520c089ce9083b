/* What collectives and checkpoints cost a job: its row has the sums over all attempts, what keepers say begins anew
 * with each. It decides nothing. */
#include "launcher/core/ctl_priv.h"

static void add(uint64_t *sum, uint64_t *known, uint64_t now)
{
    if (now > *known)
        *sum += now - *known;
    *known = now > *known ? now : *known;
}

void mu_ctl_costs(struct job *j, struct part *p, const struct mu_m_report *m)
{
    struct mu_m_jobrow *r = &j->row;

    if (p->inherited) {
        p->inherited = false;
        p->ops = m->ops;
        p->op_bytes = m->op_bytes;
        p->ckpt_bytes = m->ckpt_bytes;
    }
    if (j->inherited) {
        j->inherited = false;
        j->saves = m->saves;
        j->save_ns = m->save_ns;
    }
    if (m->saves > j->saves || (m->saves == j->saves && m->save_last_ns > r->save_last_ns))
        r->save_last_ns = m->save_last_ns;
    add(&r->ops, &p->ops, m->ops);
    add(&r->op_bytes, &p->op_bytes, m->op_bytes);
    add(&r->ckpt_bytes, &p->ckpt_bytes, m->ckpt_bytes);
    add(&r->saves, &j->saves, m->saves);
    add(&r->save_ns, &j->save_ns, m->save_ns);
}
