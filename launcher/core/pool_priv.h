/* Shared by the pool's files only. */
#ifndef MU_LAUNCHER_CORE_POOL_PRIV_H
#define MU_LAUNCHER_CORE_POOL_PRIV_H

#include "launcher/core/pool.h"

/* A node that the job may use, in the order in which it does. */
struct place {
    uint32_t node, limit; /* limit: ranks that the user allows there, 0 = not said */
    uint32_t room;
};

/* How nodes were chosen. */
struct chosen {
    long bound; /* no choice costs less; -1: not known */
    int split;  /* groups of nodes that are on more than one leaf; -1: none were asked for */
    int groups;
};

/* pool_place.c */
void mu_pool_place_add(struct mu_pool *, uint32_t node);
void mu_pool_place_remove(struct mu_pool *, uint32_t node);
/* Puts those first that the job is to have, in rank order, then those that are nearest to them. False: there is no such
 * choice, why says so, and the nodes are sorted by their leaves, unknown ones last. */
bool mu_pool_arrange(const struct mu_pool *, const struct mu_m_spec *, struct place *p, unsigned np, struct chosen *out,
                     char *why, size_t whylen);
void mu_pool_tell(const struct mu_pool *, const struct mu_share *, unsigned n, size_t stride, const struct chosen *,
                  char *why, size_t whylen);

#endif
