/* Whether a daemon of this host that we are connected to still goes about its work. The one that watches asks with a
 * beat (MU_MSG_beat), the other one answers with another; whatever comes counts as heard. Silence alone proves little
 * on a busy machine, so the process is looked at as well: one that is stopped is frozen after a moment, one that runs
 * and says nothing only after a minute. One that waits for a disk cannot be helped, one under a debugger is somebody's
 * intention. One struct a connection; no clock, no socket and no process in it. All times mu_now(). */
#ifndef MU_WIRE_PULSE_H
#define MU_WIRE_PULSE_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/base/clock.h"

#define MU_PULSE_EVERY (500 * MU_MS)
#define MU_PULSE_SUSPECT (1 * MU_SEC)     /* look at the process then */
#define MU_PULSE_STOPPED (2 * MU_SEC)     /* stopped and silent for so long: frozen */
#define MU_PULSE_CONTROLLER (10 * MU_SEC) /* the same of a controller: ranks do not need it */
#define MU_PULSE_STUCK (60 * MU_SEC)      /* not stopped, but silent for so long */

struct mu_pulse {
    uint64_t heard, due;
    bool answers; /* it has answered before: an older muster does not */
};

void mu_pulse_begin(struct mu_pulse *, uint64_t now);
void mu_pulse_heard(struct mu_pulse *, uint64_t now, bool beat);
/* To be called when it was said last time (*at): true when it is time to ask. Time that we ourselves missed counts
 * against nobody. */
bool mu_pulse_next(struct mu_pulse *, uint64_t now, uint64_t *at);
uint64_t mu_pulse_silence(const struct mu_pulse *, uint64_t now);
/* process: its state, from mu_proc_letter; limit: MU_PULSE_STOPPED or MU_PULSE_CONTROLLER. */
bool mu_pulse_frozen(const struct mu_pulse *, uint64_t now, uint64_t limit, char process);

#endif
