/* Who measures with whom, and when: rounds of disjoint pairs. Up to MU_PAIRS_ALL players everybody meets everybody (the
 * circle method); beyond, a few rounds of it that a seed draws, among players that it has shuffled, so that no pair
 * comes twice. Pure: a round is computed alone. */
#ifndef MU_BENCH_PAIRS_H
#define MU_BENCH_PAIRS_H

#include <stdint.h>

#include "runtime/base/err.h"

enum { MU_PAIRS_ALL = 32, MU_PAIRS_SOME = 5 };

struct mu_pairs {
    uint32_t n, rounds;
    uint32_t *player; /* place in the circle -> player */
    uint32_t *place;  /* the other way */
    uint32_t *turn;   /* round -> round of the circle */
};

/* n: players. most: rounds at most, in random order; 0: all of them up to MU_PAIRS_ALL players, MU_PAIRS_SOME beyond.
 */
int mu_pairs_new(struct mu_pairs *, uint32_t n, uint32_t most, uint64_t seed, struct mu_err *);
void mu_pairs_free(struct mu_pairs *);
/* Who plays with that one in the round; UINT32_MAX: nobody, it has to wait. */
uint32_t mu_pairs_with(const struct mu_pairs *, uint32_t round, uint32_t player);

/* splitmix64, for what a seed decides. */
uint64_t mu_pairs_random(uint64_t *state);
void mu_pairs_shuffle(uint32_t *v, uint32_t n, uint64_t *state);

#endif
