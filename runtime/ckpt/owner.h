/* One job at a time uses a directory. Epochs (store.h) make sure that nothing wrong is ever committed; the owner's file
 * makes sure that it does not come to that: a second job is refused while the first one lives.
 *
 * Whether it lives is told by a lock on the file, which the kernel drops with the process. Where two hosts are
 * concerned the lock alone will not do (NFS without a lock daemon has local locks only; a file server may hold a dead
 * host's lock for ever), so the owner writes a growing number into the file, and it is watched. The next attempt of the
 * same job does not ask: its predecessor is dead or will be fenced off.
 *
 * Rank 0 holds it, with a thread of its own. */
#ifndef MU_CKPT_OWNER_H
#define MU_CKPT_OWNER_H

#include "runtime/ckpt/store.h"

/* All ns. */
struct mu_ckpt_patience {
    uint64_t beat;  /* between two beats */
    uint64_t grace; /* for an owner on this host to end, before it is taken to live on */
    uint64_t free;  /* an owner elsewhere is dead when it does not beat for so long and the lock is not held; */
    uint64_t held;  /* when it is held: a busy file server makes beats late */
    uint64_t stale; /* without a lock held, a last beat so long ago needs no watching */
};
extern const struct mu_ckpt_patience mu_ckpt_patience;

struct mu_ckpt_owner;

/* Makes the directory and takes it. EBUSY: another job that lives has it, the text says which. EEPOCH: so has a newer
 * attempt of this job. *out may be NULL on success, where no file can be made. Waits for place->timeout / 2 at most. */
int mu_ckpt_owner_take(const struct mu_ckpt_place *, const struct mu_ckpt_patience *, struct mu_ckpt_owner **out,
                       struct mu_err *);
/* Gives it back; NULL is fine. Leaves a thread that hangs in the file system to itself. */
void mu_ckpt_owner_release(struct mu_ckpt_owner *);

#endif
