/* Adapters for GPUs. Each GPU takes one of those that are nearest to it; where there are several, loads are made as
 * even as they can be: GPUs come one after the other, and each goes to the adapter with the least load among those that
 * can be made free for it by moving others to another one that is as near to them. That is an optimal semi-matching
 * (Harvey, Ladner, Lovász, Tamir, 2006): no other choice has a smaller sum of squares of loads. */
#include <stdlib.h>
#include <string.h>

#include "runtime/base/clean.h"
#include "topo/pin.h"

struct match {
    const struct mu_topo *t;
    int ngpus, nnics;
    bool *near;         /* gpu * nnics + nic: may be taken */
    int *load, *nic_of; /* of the GPUs that have come so far */
    int *from, *queue;  /* by adapter: the GPU over which it was reached */
};

/* Which adapters count: the best kind of those that there are. */
static int rank_of(const struct mu_topo_dev *d)
{
    return 2 * d->fabric + !d->down;
}

static void mark_near(struct match *m)
{
    int best_kind = -1;

    for (int n = 0; n < m->nnics; n++)
        if (rank_of(mu_topo_nic(m->t, n)) > best_kind)
            best_kind = rank_of(mu_topo_nic(m->t, n));
    for (int g = 0; g < m->ngpus; g++) {
        int best = -1;
        for (int pass = 0; pass < 2; pass++)
            for (int n = 0; n < m->nnics; n++) {
                const struct mu_topo_dev *nic = mu_topo_nic(m->t, n);
                int near = rank_of(nic) == best_kind ? mu_topo_nearness(m->t, mu_topo_gpu(m->t, g), nic) : -1;
                if (pass)
                    m->near[g * m->nnics + n] = near == best;
                else if (near > best)
                    best = near;
            }
    }
}

static void add(struct match *m, int gpu)
{
    int head = 0, tail = 0, best = -1;

    for (int n = 0; n < m->nnics; n++)
        m->from[n] = -1;
    for (int g = gpu; g >= 0;) {
        for (int n = 0; n < m->nnics; n++)
            if (m->near[g * m->nnics + n] && m->from[n] < 0) {
                m->from[n] = g;
                m->queue[tail++] = n;
                if (best < 0 || m->load[n] < m->load[best])
                    best = n;
            }
        /* On from an adapter that was reached: over the GPUs that have it now. */
        for (g = -1; g < 0 && head < tail;) {
            int n = m->queue[head];
            for (int o = 0; o < m->ngpus && g < 0; o++)
                if (m->nic_of[o] == n)
                    for (int k = 0; k < m->nnics && g < 0; k++)
                        if (m->near[o * m->nnics + k] && m->from[k] < 0)
                            g = o;
            if (g < 0)
                head++;
        }
    }
    if (best < 0)
        return;
    m->load[best]++;
    for (int n = best;;) {
        int g = m->from[n], was = m->nic_of[g];
        m->nic_of[g] = n;
        if (g == gpu)
            return;
        n = was;
    }
}

int mu_pin_nics(const struct mu_topo *t, int *nic_of)
{
    struct match m = {.t = t, .ngpus = mu_topo_ngpus(t), .nnics = mu_topo_nnics(t), .nic_of = nic_of};
    size_t g = (size_t)m.ngpus, n = (size_t)m.nnics;

    for (int i = 0; i < m.ngpus; i++)
        nic_of[i] = -1;
    if (!g || !n)
        return 0;
    mu_auto_free bool *near = calloc(g * n, sizeof *near);
    mu_auto_free int *ints = calloc(3 * n, sizeof *ints);
    if (!near || !ints)
        return MUSTER_ENOMEM;
    m.near = near;
    m.load = ints;
    m.from = ints + n;
    m.queue = ints + 2 * n;
    mark_near(&m);
    for (int i = 0; i < m.ngpus; i++)
        if (!mu_topo_gpu(t, i)->hidden)
            add(&m, i);
    return 0;
}
