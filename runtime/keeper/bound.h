/* Whether ranks run where they were bound to: looked at when a rank has initialised MPI, when it leaves MPI, and now
 * and then, because programs, wrappers and whoever owns the cgroup may bind anew. */
#ifndef MU_KEEPER_BOUND_H
#define MU_KEEPER_BOUND_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "runtime/wire/msg.h"

struct mu_bound;

/* What the start message wants of its n ranks; nothing is wanted of those that it does not bind. NULL: out of memory.
 */
struct mu_bound *mu_bound_new(const struct mu_m_start *, uint32_t n);
void mu_bound_free(struct mu_bound *); /* NULL is fine */

/* pid: the rank's process; also: another process that is the rank, or 0; age: of the attempt. True when something is to
 * be told that was not before; text names what was wanted and what is found. A process that is gone runs nowhere wrong.
 * hwloc, within MPI_Init, goes to each CPU for a moment, which is long where that CPU is busy: unless last (there will
 * be no other look), what is found counts when it is found again after MU_BOUND_AGAIN. */
bool mu_bound_look(struct mu_bound *, uint32_t index, pid_t pid, pid_t also, uint64_t age, bool last, char *text,
                   size_t n);
#define MU_BOUND_AGAIN 1000000000ull
/* Whether it is time for a rank to be looked at. */
bool mu_bound_due(struct mu_bound *, uint32_t index, uint64_t age);

/* NUMA nodes that a line of /proc/PID/numa_maps says memory comes from, as a list; "": it says none, any will do.
 * Exposed for tests. */
void mu_bound_policy(const char *line, char *out, size_t n);

#endif
