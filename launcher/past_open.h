/* The store at a controller's start: opened or restored, and what is known of what it has lost. */
#ifndef MU_LAUNCHER_PAST_OPEN_H
#define MU_LAUNCHER_PAST_OPEN_H

#include <limits.h>

#include "launcher/store.h"

struct mu_past {
    uint64_t last;                  /* number that was ever given to a job, if known */
    uint32_t losses;                /* how often jobs and attempts went missing; 0: none have since the last start */
    bool blank;                     /* a new store, and nothing tells of an earlier one */
    bool doubtful;                  /* some were found missing within the last hour */
    uint64_t lost_above, lost_last; /* missing jobs have numbers above the one and up to the other; 0: none are */
    char restored[2 * PATH_MAX], text[PATH_MAX + 300]; /* to be logged; "": nothing */
};
/* Waits a moment for a controller that still has it open. log_root: where the ranks' output is. */
int mu_past_open(const char *state, const char *log_root, struct mu_past *, struct mu_store **out, struct mu_err *);

#endif
