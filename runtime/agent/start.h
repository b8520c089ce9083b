/* What an agent is started with: its options, and for one that joins another host's pool the addresses, the key and the
 * process that waits until it has joined. */
#ifndef MU_AGENT_START_H
#define MU_AGENT_START_H

#include "runtime/agent/join.h"
#include "runtime/base/path.h"

#define MU_AGENT_JOIN_MS 20000u /* a first connection takes no longer, or whoever started the agent hears why */

struct mu_agent_start {
    struct mu_paths paths;
    bool local, foreground;
    bool take_over;      /* started by hand: an agent of this pool that runs here gives way */
    int slots;           /* 0: as many as there are cores */
    struct mu_join join; /* n = 0: of this host's pool */
    int joined_fd;       /* tell there when joined; -1: nobody waits */
};

/* Reads the command line and everything that it names; with --detach it returns in a process of its own. 0: go on;
 * 1: this process has nothing more to do and ends with *code. On a failure out->joined_fd is set. */
int mu_agent_start(int argc, char **argv, struct mu_agent_start *out, int *code, struct mu_err *);
/* Takes agent.lock. 1: an agent of this pool is here and takes care of it. One that was started by hand takes the place
 * of one that a keeper has started meanwhile, and whoever is to join that of one that is stopped. */
int mu_agent_lock(struct mu_agent_start *, int *lock, struct mu_err *);

#endif
