/* What the flight recorders of an attempt's ranks have (runtime/base/flight.h), as files beside their logs. */
#ifndef MU_KEEPER_FLIGHT_H
#define MU_KEEPER_FLIGHT_H

#include <stdio.h>
#include <sys/types.h>

#include "runtime/base/err.h"
#include "runtime/base/flight.h"

/* A JSON object a line for each record, oldest first in each communicator (docs/formats.md). What a rank has written is
 * not believed: any bytes may be in f. tick and mono are the same moment, now, wall is what to add for the time of the
 * day. */
void mu_flight_print(const struct mu_flight *f, uint32_t rank, uint64_t tick, uint64_t mono, int64_t wall, FILE *out);
/* DIR/rank-R.flight, if anything was recorded. */
int mu_flight_save(const struct mu_flight *f, uint32_t rank, const char *dir, mode_t mode, struct mu_err *err);

#endif
