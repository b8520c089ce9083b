/* The keeper's event loop, around its core: from the start to the release of its job. */
#ifndef MU_KEEPER_SHELL_H
#define MU_KEEPER_SHELL_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/base/err.h"
#include "runtime/base/path.h"

/* Borrows all. *lock: the keeper's, replaced when its file was removed. released: the controller has let go of the job.
 */
int mu_keeper_run(uint64_t job, const char *node, const struct mu_paths *, int *lock, bool *released, struct mu_err *);

#endif
