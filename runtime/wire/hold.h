/* A daemon's hold on its run directory. That is where cleaners of /tmp come by (systemd-tmpfiles takes away what is
 * older than 10 to 30 days): the hold keeps them off, by a lock on the directory and by making what is in it new now
 * and then. And it notices when the directory is gone nevertheless: who cannot be found any more has to make way for
 * one that can. Belongs to the loop. */
#ifndef MU_WIRE_HOLD_H
#define MU_WIRE_HOLD_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/base/clock.h"

struct event_base;
struct mu_hold;

/* lock: descriptor of RUN/NAME, the caller's, which must outlive the hold. lost comes when RUN/NAME has not been what
 * lock holds for patience ns; it returns the descriptor to hold from now on, or -1: that was all. NULL: out of memory.
 */
struct mu_hold *mu_hold_new(struct event_base *, const char *run, const char *name, int lock, uint64_t patience,
                            int (*lost)(void *arg), void *arg);
void mu_hold_free(struct mu_hold *); /* NULL is fine */

/* Keepers take their locks again at once; the daemons that have to make way for others wait for that. */
#define MU_HOLD_PATIENCE (1500 * MU_MS)

bool mu_hold_lost(const char *run, const char *name, int lock);
/* Sets the times of a directory and of all files in it to now; those below it are kept by its lock alone. */
void mu_hold_touch(const char *run);

#endif
