/* Tournaments: disjoint pairs in each round, everybody once with everybody, and for many players no pair twice. */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "bench/pairs.h"
#include "tests/unit/tap.h"

static bool disjoint(const struct mu_pairs *p, uint32_t round)
{
    uint32_t alone = 0;

    for (uint32_t i = 0; i < p->n; i++) {
        uint32_t k = mu_pairs_with(p, round, i);
        if (k == UINT32_MAX)
            alone++;
        else if (k == i || k >= p->n || mu_pairs_with(p, round, k) != i)
            return false;
    }
    return alone == p->n % 2;
}

static bool all_meet(uint32_t n)
{
    struct mu_pairs p;
    bool good = true;
    unsigned char *met = calloc(n, n);

    if (!met || mu_pairs_new(&p, n, UINT32_MAX, n, NULL))
        exit(99);
    for (uint32_t r = 0; r < p.rounds; r++) {
        good = good && disjoint(&p, r);
        for (uint32_t i = 0; i < n && good; i++) {
            uint32_t k = mu_pairs_with(&p, r, i);
            if (k != UINT32_MAX)
                met[i * n + k]++;
        }
    }
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t k = 0; k < n; k++)
            good = good && met[i * n + k] == (i != k);
    good = good && p.rounds == (n < 2 ? 0 : n - 1 + n % 2);
    mu_pairs_free(&p);
    free(met);
    return good;
}

static bool some_meet(uint32_t n, uint64_t seed)
{
    struct mu_pairs p;
    bool good = true;

    if (mu_pairs_new(&p, n, 0, seed, NULL))
        exit(99);
    for (uint32_t r = 0; r < p.rounds; r++) {
        good = good && disjoint(&p, r);
        for (uint32_t q = 0; q < r; q++)
            for (uint32_t i = 0; i < n; i++)
                good = good &&
                       (mu_pairs_with(&p, r, i) == UINT32_MAX || mu_pairs_with(&p, r, i) != mu_pairs_with(&p, q, i));
    }
    good = good && p.rounds == (n <= MU_PAIRS_ALL ? n - 1 + n % 2 : MU_PAIRS_SOME);
    mu_pairs_free(&p);
    return good;
}

int main(void)
{
    struct mu_pairs a, b;
    bool good = true;

    for (uint32_t n = 1; n <= 130; n++)
        good = good && all_meet(n);
    TAP_OK(good, "1 to 130 players: everybody meets everybody once, in disjoint pairs");
    TAP_OK(all_meet(1000) && all_meet(1001), "a thousand, and one more");
    good = true;
    for (uint32_t n = 2; n <= 300; n++)
        good = good && some_meet(n, n * 7);
    TAP_OK(good, "a few rounds among 2 to 300: disjoint, and no pair twice");
    TAP_OK(some_meet(9999, 1) && some_meet(10000, 2), "the same among 10,000");

    if (mu_pairs_new(&a, 40, 0, 1, NULL) || mu_pairs_new(&b, 40, 0, 1, NULL))
        exit(99);
    TAP_OK(!memcmp(a.player, b.player, 40 * sizeof *a.player) && !memcmp(a.turn, b.turn, 39 * sizeof *a.turn),
           "the same seed is the same tournament");
    mu_pairs_free(&b);
    if (mu_pairs_new(&b, 40, 3, 2, NULL))
        exit(99);
    TAP_OK(b.rounds == 3 && memcmp(a.player, b.player, 40 * sizeof *a.player),
           "another seed another, and fewer rounds");
    mu_pairs_free(&a);
    mu_pairs_free(&b);
    return tap_done();
}
