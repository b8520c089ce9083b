/* Inventories of nodes as the commands have them: the answer to the query `inventory` (docs/formats.md). */
#ifndef MU_LAUNCHER_NODES_MADE_H
#define MU_LAUNCHER_NODES_MADE_H

#include <jansson.h>

#include "launcher/table.h"
#include "runtime/base/err.h"

/* Of all nodes of the pool, or of one with its history (node not NULL). Begins a pool where there is none, and waits
 * for a moment for the first node to tell. json_decref *root. text (may be NULL) gets the answer as it came, for
 * free(). */
int mu_nodes_made(const char *node, json_t **root, json_t **list, char **text, struct mu_err *err);
/* A JSON object's keys, sorted, for free(); the strings are the object's. NULL: out of memory. */
const char **mu_nodes_keys(const json_t *o, size_t *n);

/* Where two of them differ (launcher/nodes_diff.c): an array of {"node","key","value","other"}, null: it has none.
 * Between nodes: other is what most of them have; keys that are a node's own are left out. From the baseline: other is
 * what was approved; a node of which nothing was has one entry, with key null. NULL: out of memory. */
json_t *mu_nodes_diff_most(const json_t *list);
json_t *mu_nodes_diff_base(const json_t *list);

#endif
