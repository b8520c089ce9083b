/* The subcommands of `muster topo` that look at the fabric instead of a node. */
#ifndef MU_LAUNCHER_TOPO_FABRIC_H
#define MU_LAUNCHER_TOPO_FABRIC_H

#include <stdio.h>

/* Runs argv[0] and returns the exit code; -1: it is none of them. */
int mu_topo_fabric_cmd(int argc, char **argv);
/* A line for each. */
void mu_topo_fabric_help(FILE *);

#endif
