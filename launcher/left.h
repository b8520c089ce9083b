/* Processes that the controller has started and that, or whose own, may outlive it: RUN/KIND.PID holds the start time
 * of each, so that the next controller finds them. They lead sessions. Without its file one may stay; no more. */
#ifndef MU_LAUNCHER_LEFT_H
#define MU_LAUNCHER_LEFT_H

#include <stdbool.h>
#include <sys/types.h>

#include "runtime/base/path.h"

void mu_left_began(const struct mu_paths *, const char *kind, pid_t);
void mu_left_ended(const struct mu_paths *, const char *kind, pid_t);
/* How many of them still run, those of earlier controllers, too; kill_them: with all that they have started. */
unsigned mu_left_running(const struct mu_paths *, const char *kind, bool kill_them);
/* For a new controller: ends those of earlier ones, and what those that have ended themselves had started. */
void mu_left_clear(const struct mu_paths *, const char *kind);

#endif
