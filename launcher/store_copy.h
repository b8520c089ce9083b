/* Copies of the job store while it is open, and whether a file is one. */
#ifndef MU_LAUNCHER_STORE_COPY_H
#define MU_LAUNCHER_STORE_COPY_H

#include "launcher/store.h"

struct mu_journal;
struct mu_store_copy;
/* A copy into a new file. What is committed meanwhile is in it. */
int mu_store_copy_begin(struct mu_store *, const char *path, struct mu_store_copy **out, struct mu_err *);
/* Some pages more: 1 there are others, 0 that was all, or why not; then it is over. */
int mu_store_copy_step(struct mu_store_copy *, struct mu_err *);
void mu_store_copy_end(struct mu_store_copy *); /* NULL is fine */

struct mu_store_facts {
    uint64_t jobs, newest, seq; /* newest: highest number of a job; seq: newest event */
};
/* Reads every page and row of a file that nobody writes; nothing is changed. May be called from any thread. */
int mu_store_verify(const char *path, struct mu_store_facts *, struct mu_err *);

/* The file under an open store has been damaged from outside, as far as a look at its head and size tells. */
int mu_store_hurt(struct mu_store *, struct mu_err *);

#endif
