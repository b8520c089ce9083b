/* Parts of the command `muster nodes`. */
#ifndef MU_LAUNCHER_NODES_H
#define MU_LAUNCHER_NODES_H

#include "runtime/base/err.h"
#include "runtime/base/hosts.h"

/* Adds a word of the command line: HOST, HOST:SLOTS, [IPV6]:SLOTS, IPV6. Without a number the node decides. */
int mu_nodes_take(struct mu_hosts *, const char *word, struct mu_err *);
/* Waits for the first node of a pool that has just begun, seconds at most; 0 also when none comes. */
int mu_nodes_await_first(struct mu_err *);
/* muster nodes inventory, muster nodes diff */
int mu_nodes_inventory(int argc, char **argv);
int mu_nodes_diff(int argc, char **argv);
/* muster nodes check */
int mu_nodes_check(int argc, char **argv);

#endif
