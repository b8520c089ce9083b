/* DIR/SHIPPED: the newest generation that the object store has of a directory, one line of text, renamed into place. A
 * hint for whoever waits for it on any node: what is believed is the store's COMMIT. */
#ifndef MU_CKPT_SHIPPED_H
#define MU_CKPT_SHIPPED_H

#include "runtime/ckpt/store.h"

struct mu_ckpt_shipped {
    uint64_t generation, step;
    char url[600];
};

int mu_ckpt_shipped_write(const struct mu_ckpt_place *, const struct mu_ckpt_shipped *, struct mu_err *);
/* ENOCKPT: there is none, or it is damaged, or of a newer format. */
int mu_ckpt_shipped_read(const char *dir, struct mu_ckpt_shipped *);
void mu_ckpt_shipped_forget(const struct mu_ckpt_place *);

#endif
