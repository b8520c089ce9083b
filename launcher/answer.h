/* Answers of the controller, as the listing commands use them: JSON passed on as it is, or read for a table. */
#ifndef MU_LAUNCHER_ANSWER_H
#define MU_LAUNCHER_ANSWER_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "runtime/base/err.h"

/* Asks and parses. *list is the array under key, borrowed from *root (json_decref it). text (may be NULL) gets the
 * answer as it came, for free(). Without a pool there are no jobs and no nodes, and none is made for the question. */
int mu_answer_get(const char *what, uint64_t job, bool all, const char *key, json_t **root, json_t **list, char **text,
                  struct mu_err *err);

int mu_answer_no_job(uint64_t job, struct mu_err *err); /* MUSTER_EJOB and its text */

/* Members of an object; what is absent or null is "" or 0. */
const char *mu_answer_str(const json_t *o, const char *key);
double mu_answer_num(const json_t *o, const char *key);
bool mu_answer_has(const json_t *o, const char *key);

/* How long a job has run or ran, or has waited: "1m05s", "-" when it has not started. */
const char *mu_answer_elapsed(const json_t *job, char *buf, size_t n);
/* Local time "2026-01-01 12:00:00.123". */
const char *mu_answer_time(double t, char *buf, size_t n);
/* Names of a list, "a,b and 3 more". */
const char *mu_answer_names(const json_t *list, char *buf, size_t n);

#endif
