/* Daemons of this host that are stopped while nobody is connected to them who would notice (runtime/wire/guard.h): the
 * controller that a command waits for, the agent that a new controller finds. One struct a daemon, zeroed. */
#ifndef MU_WIRE_STOPPED_H
#define MU_WIRE_STOPPED_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct mu_stopped {
    pid_t pid;
    uint64_t since, last; /* of the looks that found it stopped */
};

/* To be called now and then, at least every MU_STOPPED_GAP. Kills the holder of RUN/NAME when it was found stopped for
 * limit ns. The pid that was killed, or 0. Who is traced is left alone. */
#define MU_STOPPED_GAP (3 * MU_SEC)
pid_t mu_stopped_kill(struct mu_stopped *, const char *run, const char *name, uint64_t limit);

#endif
