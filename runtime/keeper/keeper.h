/* `muster keeper --job N --node NAME [--foreground]`: the process that holds one job's ranks on one node, started by
 * the node's agent with the pool's environment (MUSTER_HOME, MUSTER_RUN_ROOT). It takes RUN/keeper.N.lock for life,
 * dials in at RUN/agent.sock and ends when the agent says that the job is over; agents may come and go meanwhile.
 * SIGTERM ends the ranks with a grace, then the keeper. Exit codes: 0; 2 for wrong usage or when another keeper has the
 * job; 1 otherwise. */
#ifndef MU_KEEPER_KEEPER_H
#define MU_KEEPER_KEEPER_H

int mu_keeper_main(int argc, char **argv);

#endif
