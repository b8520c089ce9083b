/* The agent process: one a node. `muster agent [--run DIR] [--local] [--slots N] [--foreground]`. --run: refuse unless
 * that is the pool's run directory; --local: started by this machine's controller, which it starts again when that dies
 * while keepers live. */
#ifndef MU_AGENT_AGENT_H
#define MU_AGENT_AGENT_H

/* Returns the exit code: 0, 2 when it cannot or must not start (one line says why), 1. */
int mu_agent_main(int argc, char **argv);

#endif
