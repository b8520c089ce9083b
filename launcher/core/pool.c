#include "launcher/core/pool.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int mu_pool_find(const struct mu_pool *pool, const char *name)
{
    for (unsigned i = 0; i < pool->n; i++)
        if (!strcmp(pool->v[i].name, name))
            return (int)i;
    return -1;
}

int mu_pool_add(struct mu_pool *pool, const char *name)
{
    struct mu_node *v = realloc(pool->v, (pool->n + 1) * sizeof *v);

    if (!v)
        return MUSTER_ENOMEM;
    pool->v = v;
    memset(&v[pool->n], 0, sizeof *v);
    snprintf(v[pool->n].name, sizeof v[pool->n].name, "%s", name);
    v[pool->n].state = MU_NODE_AWAY;
    return (int)pool->n++;
}

uint32_t mu_pool_slots(const struct mu_pool *pool)
{
    uint32_t n = 0;

    for (unsigned i = 0; i < pool->n; i++)
        if (pool->v[i].state == MU_NODE_UP)
            n += pool->v[i].slots;
    return n;
}

static uint32_t free_on(const struct mu_node *node)
{
    return node->state == MU_NODE_UP && node->ready && node->used < node->slots ? node->slots - node->used : 0;
}

uint32_t mu_pool_free_slots(const struct mu_pool *pool)
{
    uint32_t n = 0;

    for (unsigned i = 0; i < pool->n; i++)
        n += free_on(&pool->v[i]);
    return n;
}

static uint32_t min_u32(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

/* Fills shares over nodes whose room is room[i] ranks; false when they do not suffice. want_nodes: exactly so many
 * nodes, 0 = as few as it takes. */
static bool fill(const struct mu_pool *pool, const uint32_t *room, uint32_t ranks, uint32_t want_nodes, uint32_t ppn,
                 struct mu_share *out, unsigned *n)
{
    uint32_t left = ranks;

    *n = 0;
    for (unsigned i = 0; i < pool->n && left; i++) {
        uint32_t cap = ppn ? min_u32(room[i], ppn) : room[i];
        if (!cap)
            continue;
        if (want_nodes) {
            /* even shares; the first nodes take the remainder */
            uint32_t share = (left + (want_nodes - *n) - 1) / (want_nodes - *n);
            if (cap < share)
                continue;
            cap = share;
        }
        uint32_t take = min_u32(cap, left);
        out[(*n)++] = (struct mu_share){.node = i, .ranks = take, .slots = min_u32(take, pool->v[i].slots)};
        left -= take;
        if (want_nodes && *n == want_nodes)
            break;
    }
    return !left && (!want_nodes || *n == want_nodes);
}

enum mu_fit mu_pool_fit(const struct mu_pool *pool, const struct mu_m_spec *spec, struct mu_share **out, unsigned *n,
                        char *why, size_t whylen)
{
    uint32_t up = 0;
    enum mu_fit fit = MU_FIT_LATER;
    struct mu_share *v = calloc(pool->n + 1, sizeof *v);
    uint32_t *room = calloc(pool->n + 1, sizeof *room);

    if (!v || !room) {
        snprintf(why, whylen, "the controller is out of memory");
        goto out;
    }
    for (unsigned i = 0; i < pool->n; i++)
        up += pool->v[i].state == MU_NODE_UP;
    if (spec->nodes > up) {
        fit = MU_FIT_NEVER;
        snprintf(why, whylen, "%u nodes asked for, the pool has %u", spec->nodes, up);
        goto out;
    }
    if (spec->nodes > spec->ranks) {
        fit = MU_FIT_NEVER;
        snprintf(why, whylen, "%u nodes asked for, but only %u ranks: ask for -n %u or more", spec->nodes, spec->ranks,
                 spec->nodes);
        goto out;
    }
    /* an empty pool first: what does not fit there never will */
    for (int pass = 0; pass < 2; pass++) {
        for (unsigned i = 0; i < pool->n; i++) {
            const struct mu_node *node = &pool->v[i];
            room[i] = node->state != MU_NODE_UP ? 0 : pass ? free_on(node) : node->slots;
            /* an oversubscribed share takes the whole node, or what it needs of it */
            if (spec->oversubscribe && room[i] && (room[i] == node->slots || room[i] >= spec->ranks))
                room[i] = room[i] >= spec->ranks ? room[i] : spec->ranks;
            else if (spec->oversubscribe)
                room[i] = 0;
        }
        if (fill(pool, room, spec->ranks, spec->nodes, spec->ppn, v, n))
            continue;
        if (pass == 0) {
            fit = MU_FIT_NEVER;
            if (spec->ppn)
                snprintf(why, whylen, "%u ranks at %u a node do not fit the pool's %u slots on %u nodes", spec->ranks,
                         spec->ppn, mu_pool_slots(pool), up);
            else
                snprintf(why, whylen,
                         "%u ranks asked for, the pool has %u slots: ask for fewer with -n, or share cores with "
                         "--oversubscribe",
                         spec->ranks, mu_pool_slots(pool));
        } else {
            snprintf(why, whylen, "waiting for %u slots, %u of %u are free",
                     spec->oversubscribe ? min_u32(spec->ranks, mu_pool_slots(pool)) : spec->ranks,
                     mu_pool_free_slots(pool), mu_pool_slots(pool));
        }
        goto out;
    }
    fit = MU_FIT_YES;
    *out = v;
    v = NULL;
out:
    free(v);
    free(room);
    return fit;
}

void mu_pool_take(struct mu_pool *pool, const struct mu_share *v, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        pool->v[v[i].node].used += v[i].slots;
}

void mu_pool_give(struct mu_pool *pool, const struct mu_share *v, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        struct mu_node *node = &pool->v[v[i].node];
        node->used -= v[i].slots;
    }
}

void mu_pool_free(struct mu_pool *pool)
{
    free(pool->v);
    memset(pool, 0, sizeof *pool);
}
