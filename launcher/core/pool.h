/* The rank pool: which nodes there are, how many slots each has, who holds them. Pure. A job's share of a node is
 * (node, ranks, slots); ranks exceed slots only for a job that asked to oversubscribe. */
#ifndef MU_LAUNCHER_CORE_POOL_H
#define MU_LAUNCHER_CORE_POOL_H

#include "runtime/wire/core.h"

enum mu_node_state { MU_NODE_UP = 1, MU_NODE_AWAY };

struct mu_node {
    char name[256];
    uint32_t slots, used, pus, numa;
    uint64_t memory, incarnation;
    enum mu_node_state state;
    bool ready; /* its agent has told everything it runs */
    mu_conn conn;
};

struct mu_pool {
    struct mu_node *v;
    unsigned n;
};

struct mu_share {
    uint32_t node; /* index in the pool */
    uint32_t ranks, slots;
};

int mu_pool_find(const struct mu_pool *, const char *name); /* index or -1 */
int mu_pool_add(struct mu_pool *, const char *name);        /* index or MUSTER_ENOMEM */
uint32_t mu_pool_slots(const struct mu_pool *);             /* of all nodes that are up */
uint32_t mu_pool_free_slots(const struct mu_pool *);

enum mu_fit { MU_FIT_YES, MU_FIT_LATER, MU_FIT_NEVER };
/* Finds room for the job. YES: *out (malloced, *n entries, rank order) is the caller's. LATER and NEVER: why says what
 * is missing and, for NEVER, the fix. */
enum mu_fit mu_pool_fit(const struct mu_pool *, const struct mu_m_spec *, struct mu_share **out, unsigned *n, char *why,
                        size_t whylen);
void mu_pool_take(struct mu_pool *, const struct mu_share *, unsigned n);
void mu_pool_give(struct mu_pool *, const struct mu_share *, unsigned n);
void mu_pool_free(struct mu_pool *);

#endif
