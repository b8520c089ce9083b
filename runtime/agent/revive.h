/* A local agent starts a controller when there is none and its keepers, or jobs on other hosts, may need one: nobody
 * else might. */
#ifndef MU_AGENT_REVIVE_H
#define MU_AGENT_REVIVE_H

#include <stdint.h>

struct event_base;

struct mu_revive { /* owner: the agent; zeroed but for the descriptors */
    struct event_base *base;
    const char *run; /* borrowed */
    struct event *ready_ev;
    uint64_t tried; /* 0: not since the controller was here */
    int lock, ready_fd;
};
#define MU_REVIVE_INIT                                                                                                 \
    {                                                                                                                  \
        .lock = -1, .ready_fd = -1                                                                                     \
    }

/* Starts one unless that was done a moment ago or somebody else is at it. Commands that want one are kept out until it
 * is there. */
void mu_revive(struct mu_revive *, unsigned keepers);
/* Forgets about the one that is being started. */
void mu_revive_stop(struct mu_revive *);

#endif
