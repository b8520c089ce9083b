/* How chunks are stored into slots: so that they stay in this CPU's caches, or past them into memory. Who shares a
 * cache with those that take them is several times faster the first way; who does not is faster the second way, since a
 * line that was changed in somebody else's cache takes longer to get than one in memory. Topologies do not always tell
 * (virtual machines hide it, and move between caches), so what it has cost decides. */
#include "collectives/shm_store.h"

#define FIRST 1u /* before it memory may be new */
#define TRIES 2u /* of each way, then one each in EVERY operations */
#define EVERY 64u
#define MORE 8 /* a cost is the least one, but grows by such a part of itself when more is seen: one delay is none */

bool mu_shm_store_next(struct mu_shm_store *s)
{
    uint32_t op = s->ops++;

    if (op < FIRST)
        return false;
    if (op < FIRST + 2 * TRIES)
        return (op - FIRST) % 2;
    if (op % (EVERY / 2) == 0)
        return op % EVERY;
    return s->cost[1] < s->cost[0];
}

void mu_shm_store_none(struct mu_shm_store *s)
{
    s->ops--;
}

void mu_shm_store_seen(struct mu_shm_store *s, bool past, double cost)
{
    double *c = &s->cost[past];

    if (s->ops <= FIRST)
        return;
    *c = *c == 0 || cost < *c + *c / MORE ? cost : *c + *c / MORE;
}
