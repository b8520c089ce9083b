/* Tensors in GPU memory on their way to and from a checkpoint: through a ring of pinned memory, on a stream of their
 * own with the lowest priority, so that what the program runs goes before. What it has enqueued on the communicator's
 * stream before a save or a restore is done before it. One series of copies at a time. */
#ifndef MU_RANK_STAGING_H
#define MU_RANK_STAGING_H

#include <stdbool.h>

#include "runtime/base/err.h"

struct muster_comm;
struct mu_ckpt_mover;

/* *device: data is in GPU memory, and then *mover moves it (NULL: it is made; timeout: of all waiting in it). EARG: it
 * is on another GPU than what came before. */
int mu_staging_takes(struct muster_comm *, const void *data, uint64_t timeout, struct mu_ckpt_mover **mover,
                     bool *device, struct mu_err *);
void mu_staging_free(struct mu_ckpt_mover *); /* NULL is fine */

#endif
