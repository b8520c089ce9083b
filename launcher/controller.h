/* The controller process: one a pool and host. `muster controller [--ready-fd N] [--foreground] [--idle SECONDS]`. */
#ifndef MU_LAUNCHER_CONTROLLER_H
#define MU_LAUNCHER_CONTROLLER_H

#include <stdbool.h>

#include "runtime/base/path.h"

/* Returns the exit code: 0, 2 when it cannot or must not start (one line says why), 1. */
int mu_controller_main(int argc, char **argv);
/* Asks the controller that runs to end, and waits for it. Returns the exit code. */
int mu_controller_stop(bool force);
/* What a controller tells whoever started it, in place of its exit code, when there is one already. */
enum { MU_CONTROLLER_RUNS = 3 };
/* Takes the lock that the pool's controller has. MUSTER_EJOB: there is another one; over: that is ended first, and jobs
 * do not notice. MUSTER_EVERSION: daemons live that this one could not understand. The run directory may be made anew.
 */
int mu_controller_lock(struct mu_paths *, bool over, int *lock, struct mu_err *);

#endif
