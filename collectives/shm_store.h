/* Which way chunks are stored into slots, for one kind of operation; see shm_store.c. */
#ifndef MU_COLLECTIVES_SHM_STORE_H
#define MU_COLLECTIVES_SHM_STORE_H

#include <stdbool.h>
#include <stdint.h>

struct mu_shm_store {
    uint32_t ops;   /* that have begun, less those that stored nothing; the same on all ranks */
    double cost[2]; /* of storing and taking, for a byte of a block: through the caches, past them; 0: not known */
};

/* Of an operation that begins: past the caches? */
bool mu_shm_store_next(struct mu_shm_store *s);
/* It has stored nothing, so neither way was tried. */
void mu_shm_store_none(struct mu_shm_store *s);
/* What it has cost one way, when all ranks went that way. */
void mu_shm_store_seen(struct mu_shm_store *s, bool past, double cost);

#endif
