/* How chunks are stored into slots follows from what it costs, and again when that changes. */
#include "collectives/shm_store.h"
#include "tests/unit/tap.h"

#define NEAR 1.0  /* through the caches, where they are shared */
#define FAR 3.0   /* through the caches, where they are not */
#define PAST 1.25 /* past them */

/* Operations of which so many went past the caches. Every tenth one is held up by something else. */
static unsigned run(struct mu_shm_store *s, unsigned ops, double kept, unsigned *wrong)
{
    unsigned past = 0;
    bool best = kept > PAST;

    for (unsigned i = 0; i < ops; i++) {
        bool is = mu_shm_store_next(s);

        past += is;
        *wrong += is != best;
        mu_shm_store_seen(s, is, (is ? PAST : kept) * (i % 10 == 9 ? 4 : 1));
    }
    return past;
}

int main(void)
{
    struct mu_shm_store s = {0};
    unsigned wrong = 0, past;

    for (int i = 0; i < 50; i++) {
        mu_shm_store_next(&s);
        mu_shm_store_none(&s);
    }
    past = run(&s, 1, 100 * FAR, &wrong);
    TAP_OK(past == 0 && s.cost[0] == 0 && s.cost[1] == 0,
           "the first one, in new memory, does not count, nor those that store nothing");
    past = run(&s, 4, NEAR, &wrong);
    TAP_OK(past == 2, "then both ways are tried twice");
    wrong = 0;
    run(&s, 640, NEAR, &wrong);
    TAP_OK(wrong <= 20, "caches that are shared are used: %u of 640 were not", wrong);
    wrong = 0;
    run(&s, 640, FAR, &wrong);
    TAP_OK(wrong <= 30, "when they are not shared any more they are not used: %u of 640 were", wrong);
    wrong = 0;
    run(&s, 640, NEAR, &wrong);
    TAP_OK(wrong <= 150, "and when they are again: %u of 640 were not", wrong);
    return tap_done();
}
