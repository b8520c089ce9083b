/* What ended jobs have used, summed up. */
#ifndef MU_LAUNCHER_HISTORY_H
#define MU_LAUNCHER_HISTORY_H

#include <jansson.h>
#include <stdbool.h>

#include "runtime/base/err.h"

enum { MU_HISTORY_JOB, MU_HISTORY_USER, MU_HISTORY_NODE };
enum mu_history_as { MU_HISTORY_TABLE, MU_HISTORY_CSV, MU_HISTORY_JSON };
/* jobs as muster.jobs/1 has them; those that have not ended are left out. JSON: by user or node. */
int mu_history_print(const json_t *jobs, int by, enum mu_history_as, struct mu_err *err);

#endif
