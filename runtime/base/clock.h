/* Time in nanoseconds. Monotonic time is the same for all processes of a host. */
#ifndef MU_BASE_CLOCK_H
#define MU_BASE_CLOCK_H

#include <stdint.h>
#include <time.h>

#define MU_MS 1000000ull
#define MU_SEC 1000000000ull

static inline uint64_t mu_clock_read(clockid_t id)
{
    struct timespec t;

    clock_gettime(id, &t);
    return (uint64_t)t.tv_sec * MU_SEC + (uint64_t)t.tv_nsec;
}
static inline uint64_t mu_now(void)
{
    return mu_clock_read(CLOCK_MONOTONIC);
}
/* Up to 10 ms behind, as of the kernel's last tick, for a fraction of the time. */
static inline uint64_t mu_now_roughly(void)
{
    return mu_clock_read(CLOCK_MONOTONIC_COARSE);
}
static inline uint64_t mu_wall(void)
{
    return mu_clock_read(CLOCK_REALTIME);
}

#endif
