/* What the flight recorders of an attempt's ranks have (runtime/base/flight.h): as files beside their logs once it has
 * failed, and as messages to who asks while they run. */
#ifndef MU_KEEPER_FLIGHT_H
#define MU_KEEPER_FLIGHT_H

#include <stdio.h>
#include <sys/types.h>

#include "runtime/base/err.h"
#include "runtime/base/flight.h"
#include "runtime/keeper/slots.h"
#include "runtime/wire/link.h"

/* Of an attempt on this node. */
struct mu_flights {
    const struct mu_slots *slots;
    uint32_t n, first; /* ranks, and the first one */
};

/* A JSON object a line for each record, oldest first in each communicator, `last` of each at most (docs/formats.md).
 * What a rank has written is not believed: any bytes may be in f. tick and mono are the same moment, now, wall is what
 * to add for the time of the day. */
void mu_flight_print(const struct mu_flight *f, uint32_t rank, unsigned last, uint64_t tick, uint64_t mono,
                     int64_t wall, FILE *out);
/* The same of a rank that may be writing meanwhile; for free(). */
int mu_flight_text(const struct mu_flight *f, uint32_t rank, unsigned last, char **text, size_t *len,
                   struct mu_err *err);
/* LOG_DIR/attempt-N/rank-R.flight of each that has recorded anything. Not told when it cannot be kept: the disk that is
 * full says so itself. */
void mu_flights_save(const struct mu_flights *, const char *log_dir, uint32_t attempt);
/* The answer: a `flown` for each rank. slots NULL: the attempt is not here any more. */
void mu_flights_tell(const struct mu_flights *, const struct mu_m_flight *ask, struct mu_link *link);

#endif
