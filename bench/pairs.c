#include "bench/pairs.h"

#include <stdlib.h>

uint64_t mu_pairs_random(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

void mu_pairs_shuffle(uint32_t *v, uint32_t n, uint64_t *state)
{
    for (uint32_t i = n; i > 1; i--) {
        uint32_t k = (uint32_t)(mu_pairs_random(state) % i), was = v[i - 1];
        v[i - 1] = v[k];
        v[k] = was;
    }
}

int mu_pairs_new(struct mu_pairs *p, uint32_t n, uint32_t most, uint64_t seed, struct mu_err *err)
{
    /* with an odd number one waits in each round: who meets the seat that is empty */
    uint32_t turns = n < 2 ? 0 : (n + n % 2) - 1;

    *p = (struct mu_pairs){.n = n};
    p->rounds = most ? most : n <= MU_PAIRS_ALL ? turns : MU_PAIRS_SOME;
    if (p->rounds > turns)
        p->rounds = turns;
    p->player = malloc((n + 1) * sizeof *p->player);
    p->place = malloc((n + 1) * sizeof *p->place);
    p->turn = malloc((turns + 1) * sizeof *p->turn);
    if (!p->player || !p->place || !p->turn) {
        mu_pairs_free(p);
        return mu_err_set(err, MUSTER_ENOMEM, "no memory for the pairs of %u ranks", n);
    }
    for (uint32_t i = 0; i < n; i++)
        p->player[i] = i;
    for (uint32_t i = 0; i < turns; i++)
        p->turn[i] = i;
    mu_pairs_shuffle(p->player, n, &seed);
    mu_pairs_shuffle(p->turn, turns, &seed);
    for (uint32_t i = 0; i < n; i++)
        p->place[p->player[i]] = i;
    return 0;
}

void mu_pairs_free(struct mu_pairs *p)
{
    free(p->player);
    free(p->place);
    free(p->turn);
    *p = (struct mu_pairs){0};
}

uint32_t mu_pairs_with(const struct mu_pairs *p, uint32_t round, uint32_t player)
{
    uint32_t circle = p->n + p->n % 2 - 1; /* the last seat stays where it is, the others turn */
    uint32_t seat = p->place[player], turn = p->turn[round], other;

    if (seat == circle) { /* whom the turning ones meet that would meet themselves: 2 x = turn */
        other = turn % 2 ? (turn + circle) / 2 : turn / 2;
    } else {
        other = (turn + circle - seat) % circle;
        if (other == seat)
            other = circle;
    }
    return other < p->n ? p->player[other] : UINT32_MAX;
}
