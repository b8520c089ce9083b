/* The store at a controller's start: opened or restored, and what is known of what it has lost. */
#ifndef MU_LAUNCHER_PAST_OPEN_H
#define MU_LAUNCHER_PAST_OPEN_H

#include <limits.h>

#include "launcher/store.h"

struct mu_past {
    uint64_t newest, last;                             /* job in the store; number that was ever given, if known */
    bool lossy;                                        /* jobs and attempts may be missing that there were */
    char restored[2 * PATH_MAX], text[PATH_MAX + 300]; /* to be logged; "": nothing */
};
/* Waits a moment for a controller that still has it open. log_root: where the ranks' output is. */
int mu_past_open(const char *state, const char *log_root, struct mu_past *, struct mu_store **out, struct mu_err *);

#endif
