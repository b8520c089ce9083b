/* A state of two ranks that can be told from that of another step. */
#ifndef MU_TESTS_UNIT_CKPT_STATE_H
#define MU_TESTS_UNIT_CKPT_STATE_H

#include "tests/unit/ckpt_help.h"

#define WORLD 2
#define N 3001
static uint32_t own[WORLD][N], shared[WORLD][N];

static inline uint32_t own_of(uint64_t step, int rank, uint32_t i)
{
    return (uint32_t)(step * 2654435761u + (uint32_t)rank * N + i);
}
static inline uint32_t shared_of(uint64_t step, uint32_t i)
{
    return (uint32_t)(step * 40503u ^ i);
}
static inline void set_state(uint64_t step)
{
    for (int r = 0; r < WORLD; r++)
        for (uint32_t i = 0; i < N; i++) {
            own[r][i] = own_of(step, r, i);
            shared[r][i] = shared_of(step, i);
        }
}
static inline bool is_state(uint64_t step)
{
    for (int r = 0; r < WORLD; r++)
        for (uint32_t i = 0; i < N; i++)
            if (own[r][i] != own_of(step, r, i) || shared[r][i] != shared_of(step, i))
                return false;
    return true;
}
static inline void add_state(struct world *w)
{
    const uint64_t all = WORLD * N, n = N;

    for (int r = 0; r < WORLD; r++) {
        uint64_t off = (uint64_t)r * N;

        add(&w->tensors[r], "own", MUSTER_UINT32, 1, &all, &off, &n, own[r], 0, NULL);
        add(&w->tensors[r], "shared", MUSTER_UINT32, 1, &n, NULL, NULL, shared[r], MUSTER_REPLICATED, NULL);
    }
}

#endif
