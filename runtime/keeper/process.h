/* What the keeper does as a process. */
#ifndef MU_KEEPER_PROCESS_H
#define MU_KEEPER_PROCESS_H

#include <signal.h>
#include <stdbool.h>

/* Blocks the signals that it takes through a descriptor; they are in *taken. */
void mu_keeper_block(sigset_t *taken);
/* Starts this node's agent, in place of the one that is gone. False: another one is just starting or ending. */
bool mu_keeper_start_agent(const char *run);

#endif
