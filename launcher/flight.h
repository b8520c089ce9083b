#ifndef MU_LAUNCHER_FLIGHT_H
#define MU_LAUNCHER_FLIGHT_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "runtime/base/err.h"

/* Prints the records of an attempt, 0: of the one that runs, or else the newest that has left any. last: of each rank
 * and communicator, in the table; in JSON all of them. */
int mu_flight_show(uint64_t job, uint32_t attempt, unsigned last, bool json, struct mu_err *err);

/* Appends what the ranks of the running attempt have called, `last` of each communicator. *attempt: which one that is;
 * missing: nodes that have not answered. */
int mu_flight_ask(uint64_t job, unsigned last, uint32_t *attempt, json_t *list, json_t *missing, struct mu_err *err);

/* Appends the records of a file's text to list. EARG names the line that is none: ranks have a hand in these files. */
int mu_flight_parse(const char *text, size_t len, json_t *list, struct mu_err *err);

#endif
