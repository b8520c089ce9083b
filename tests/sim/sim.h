/* The simulator: the real cores of controller, agents and keepers, with virtual time, network, store, processes and
 * ranks around them. A schedule is a function of its seed: which faults come when, how long everything takes, which
 * frames are late, doubled or lost with their connection. After every step the world is checked against what must
 * always hold; at the end everything must have ended.
 *
 * How to add an event: give it a row in enum what, schedule it with sim_at(), handle it in one() of world.c. How to add
 * an invariant: call sim_violated() where it breaks, and plant a mutation (MU_MUTATIONS) that only it catches. */
#ifndef TESTS_SIM_H
#define TESTS_SIM_H

#include "launcher/core/ctl.h"
#include "runtime/agent/core.h"
#include "runtime/base/clock.h"
#include "runtime/keeper/core.h"

#define MAX_NODES 8 /* those of the pool and the hosts of jobs */
#define MAX_JOBS 8
#define MAX_KEEPERS 512
#define MAX_CONNS 16384
#define MAX_RANKS 8
#define MAX_ATTEMPTS 1000

struct world;
struct world *world_new(uint64_t seed, bool trace);
/* Runs to the end; NULL, or what was violated (owned by the world). */
const char *world_run(struct world *);
void world_free(struct world *);
struct world_stats {
    uint64_t events, faults, jobs, attempts, streams, checks, virtual_ns; /* streams: ways through other agents */
};
void world_stats(const struct world *, struct world_stats *);

#endif
