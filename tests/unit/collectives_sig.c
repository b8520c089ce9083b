/* What a post says of a call: different calls say different things, whatever it is that differs. */
#include <stdlib.h>

#include "collectives/shm.h"
#include "tests/unit/tap.h"

#define MOST 65536

static struct said {
    uint64_t word;
    struct mu_sig sig;
} all[MOST];
static size_t n;

static void say(uint8_t kind, unsigned dtype, unsigned op, int root, uint64_t count)
{
    struct mu_sig sig = mu_sig_of(kind, dtype, op, 0, root, count);

    if (n < MOST)
        all[n++] = (struct said){mu_shm_word(7, sig), sig};
}

static int by_word(const void *a, const void *b)
{
    uint64_t x = ((const struct said *)a)->word, y = ((const struct said *)b)->word;

    return (x > y) - (x < y);
}

static unsigned alike(void)
{
    unsigned found = 0;
    char a[120], b[120];

    qsort(all, n, sizeof all[0], by_word);
    for (size_t i = 1; i < n; i++) {
        if (all[i].word != all[i - 1].word)
            continue;
        found++;
        printf("# %s and %s\n", mu_sig_text(&all[i - 1].sig, a, sizeof a), mu_sig_text(&all[i].sig, b, sizeof b));
    }
    return found;
}

/* Counts that programs use, and what differs from them by a root in the wrong place. */
static void counts(uint8_t kind, unsigned dtype, unsigned op, int root)
{
    for (uint64_t c = 0; c < 40; c++)
        say(kind, dtype, op, root, c * 32);
    for (unsigned shift = 11; shift < 36; shift++)
        for (uint64_t odd = 1; odd < 7; odd += 2)
            say(kind, dtype, op, root, odd << shift);
}

int main(void)
{
    for (uint8_t kind = MU_OP_KIND_ALLREDUCE; kind <= MU_OP_KIND_BARRIER; kind++)
        for (int root = 0; root < (mu_kinds[kind].has_root ? 64 : 1); root++)
            counts(kind, MUSTER_FLOAT32, 0, root);
    TAP_OK(alike() == 0, "%zu calls with other roots and counts", n);

    n = 0;
    for (unsigned dtype = 0; dtype < 9; dtype++)
        for (unsigned op = 0; op < 5; op++)
            for (uint8_t kind = MU_OP_KIND_ALLREDUCE; kind <= MU_OP_KIND_REDUCE_SCATTER; kind++)
                counts(kind, dtype, op, 0);
    TAP_OK(alike() == 0, "%zu calls with other dtypes, ops and counts", n);

    TAP_OK(mu_shm_word(UINT32_MAX, all[0].sig) != MU_POST_POISON, "none says what ranks say that have given up");
    return tap_done();
}
