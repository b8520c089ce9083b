/* The object store behind the directory (store=), as the ranks see it: orders for the drain of rank 0's node, and what
 * it says. Waiting is collective and goes by short rounds, so that no rank's deadline ends it while things get on. */
#ifndef MU_RANK_FAR_H
#define MU_RANK_FAR_H

#include "runtime/base/ckptopt.h"
#include "runtime/rank/ckpt_priv.h"

/* Rank 0: has the drain keep the store up to date, and, when the directory has no generation, fetch the newest, else
 * look at its settings. ENOSYS: there is no drain. */
int mu_rank_far_order(muster_ckpt *, const struct mu_ckpt_options *, struct mu_err *);
/* All ranks: until that is done; c->generation of rank 0 then follows what was fetched. The error is the same on all
 * ranks. EARG: settings or a key that will not do. */
int mu_rank_far_fetch(muster_ckpt *, struct mu_err *);
/* All ranks: until the store has the last save, or does not get on. What is missing is a remark, not an error. */
int mu_rank_far_settle(muster_ckpt *, const char *call);
/* This rank alone: 0 once the store has a generation that is at least this one; 1 at the end of the time. */
int mu_rank_far_wait(muster_ckpt *, uint64_t generation, uint64_t timeout);

#endif
