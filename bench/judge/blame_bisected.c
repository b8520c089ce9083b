/* An operation of all hosts was wrong or slow while pairs were well, and halves of the hosts were tried: who it takes.
 */
#include <stdio.h>

#include "bench/judge/blame_priv.h"

/* The switch that all of these are on; -1: they are on several, or it is not known. */
static int32_t switch_of(const struct mu_data *d, const int32_t *v, uint32_t n)
{
    for (uint32_t i = 1; i < n; i++)
        if (d->group[v[i]] != d->group[v[0]])
            return -1;
    return n ? d->group[v[0]] : -1;
}

/* The host's only rank; -1: it has several. */
static int32_t rank_of(const struct mu_data *d, int32_t host)
{
    int32_t rank = -1;

    for (uint32_t r = 0; r < d->nranks; r++) {
        if (d->rank_host[r] != host)
            continue;
        if (rank >= 0)
            return -1;
        rank = (int32_t)r;
    }
    return rank;
}

int mu_blame_bisected(struct mu_view *v, const struct mu_culprits *k)
{
    struct mu_suspect s = {.a = -1,
                           .b = -1,
                           .rank = -1,
                           .corrupt = k->wrong,
                           .bisected = true,
                           .state = MU_CONFIRMED,
                           .drop = k->drop,
                           .score = k->wrong ? 1000 : k->drop / SPREAD_FLOOR};

    if (k->nhosts == 1 && !k->nwith) {
        s.a = k->v[0];
        s.rank = k->wrong ? rank_of(v->d, s.a) : -1;
        s.kind = s.rank >= 0 ? MU_SUSPECT_RANK : MU_SUSPECT_NODE;
    } else if (k->nhosts == 1 && k->nwith == 1) {
        s.kind = MU_SUSPECT_LINK;
        s.a = k->v[0];
        s.b = k->v[1];
    } else {
        s.kind = MU_SUSPECT_BOUNDARY;
        s.dir = MU_DIR_BOTH;
        s.a = switch_of(v->d, k->v, k->nhosts);
        s.b = switch_of(v->d, k->v + k->nhosts, k->nwith);
        if (s.a < 0 || s.b < 0 || s.a == s.b)
            return 0; /* it takes too many to name one */
    }
    snprintf(s.why, sizeof s.why, "found by bisection: %u questions, each pair by itself is well", k->asked);
    return mu_blame_add(v, &s);
}
