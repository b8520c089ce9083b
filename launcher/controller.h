/* The controller process: one a pool and host. `muster controller [--ready-fd N] [--foreground] [--idle SECONDS]`. */
#ifndef MU_LAUNCHER_CONTROLLER_H
#define MU_LAUNCHER_CONTROLLER_H

#include <stdbool.h>

/* Returns the exit code: 0, 2 when it cannot or must not start (one line says why), 1. */
int mu_controller_main(int argc, char **argv);
/* Asks the controller that runs to end, and waits for it. Returns the exit code. */
int mu_controller_stop(bool force);

#endif
