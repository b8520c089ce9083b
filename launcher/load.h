/* What a controller takes over from the one before: the pool's hosts, its marks and labels, what
 * its nodes are made of, and the jobs of the store. */
#ifndef MU_LAUNCHER_LOAD_H
#define MU_LAUNCHER_LOAD_H

#include "launcher/core/ctl.h"
#include "launcher/store.h"
#include "runtime/base/err.h"

struct mu_load {
    struct mu_ctl *core;
    struct mu_store *store;
    const char *state;      /* the state directory; NULL: no marks and labels */
    const char *pool_hosts; /* as nodes_add has them; NULL: none */
    struct mu_acts *acts;   /* gets what the core makes of it, to be carried out with its next step */
};

/* Marks, labels and inventories that cannot be read are logged and left out. */
int mu_load(const struct mu_load *, struct mu_err *);

#endif
