#include "runtime/wire/stopped.h"

#include <signal.h>

#include "runtime/base/clock.h"
#include "runtime/base/procstate.h"
#include "runtime/wire/daemon.h"

#define LOOK_EVERY (400 * MU_MS)

pid_t mu_stopped_kill(struct mu_stopped *s, const char *run, const char *name, uint64_t limit)
{
    uint64_t now = mu_now();
    pid_t pid = 0;
    char letter;

    if (s->last && now - s->last < LOOK_EVERY)
        return 0;
    letter = mu_daemon_locked(run, name, &pid) && pid > 1 ? mu_proc_stopped(pid) : 0;
    if (letter != 'T' && letter != 'F') {
        *s = (struct mu_stopped){0};
        return 0;
    }
    /* what we have not seen, because we were stopped ourselves, proves nothing */
    if (pid != s->pid || now - s->last > 2 * MU_STOPPED_GAP)
        *s = (struct mu_stopped){.pid = pid, .since = now};
    s->last = now;
    if (now - s->since < limit || kill(pid, SIGKILL))
        return 0;
    *s = (struct mu_stopped){0};
    return pid;
}
