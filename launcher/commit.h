/* Carries out the actions of one controller step against the store: what is durable is on the disk before anything is
 * sent that follows it. Rows of a step go in one transaction; those that are not durable may wait a moment.
 *
 * When the store refuses (full disk), the step and all later ones are held back and tried again for a while. After
 * that running jobs come first: what was held is sent although it is not stored, rows are kept and tried again, and
 * submissions that are not on the disk are answered with an error and given to the caller for cancelling. A keeper is
 * released only once the row of its job is stored. When the store's file is removed there is nothing to wait for: the
 * rows are dropped, keepers are released, and mu_commit_lost() says so from then on. */
#ifndef MU_LAUNCHER_COMMIT_H
#define MU_LAUNCHER_COMMIT_H

#include "launcher/store.h"
#include "runtime/wire/core.h"

struct mu_commit_ops { /* none may call back into the commit */
    void (*send)(void *arg, const mu_conn *to, uint32_t n, const void *frame, size_t len);
    void (*close)(void *arg, mu_conn);
    void (*exit)(void *arg);
    void (*host)(void *arg, const struct mu_act *); /* MU_ACT_ENGINE, _PROBE and _MARKS */
    /* The store is damaged or was removed. True: another controller will have another one, hold everything back. May
     * be NULL. */
    bool (*hurt)(void *arg, const char *why);
};

struct mu_commit;
struct mu_commit *mu_commit_new(struct mu_store *, const struct mu_commit_ops *, void *arg); /* borrows both */
void mu_commit_free(struct mu_commit *);
/* Takes what is in acts and leaves it empty. */
void mu_commit_step(struct mu_commit *, struct mu_acts *acts, uint64_t now, uint64_t wall);
/* To be called at mu_commit_next(). */
void mu_commit_time(struct mu_commit *, uint64_t now);
uint64_t mu_commit_next(const struct mu_commit *); /* UINT64_MAX: nothing waits */
bool mu_commit_lost(const struct mu_commit *);     /* nothing is ever stored again */
bool mu_commit_waits(const struct mu_commit *);    /* something durable is not stored */
/* Stores what waits, before a query or the end. */
int mu_commit_flush(struct mu_commit *, struct mu_err *);
/* A job whose submission was refused because it could not be stored: nothing of it is or will be stored, nor was its
 * start sent; the caller forgets it. Each is told once. */
bool mu_commit_refused(struct mu_commit *, uint64_t *job);

#endif
