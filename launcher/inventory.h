/* What nodes are made of, between the controller's core and its store. */
#ifndef MU_LAUNCHER_INVENTORY_H
#define MU_LAUNCHER_INVENTORY_H

#include "launcher/core/ctl.h"
#include "launcher/store.h"

/* Stores what these nodes are made of now as approved, or (withdraw) that nothing is, for all of them or none; the core
 * hears of it after that. An error is for whoever has asked. */
int mu_inventory_approve(const struct mu_ctl *, struct mu_store *, const struct mu_msg *, struct mu_err *);

#endif
