/* What the job store has committed, once more, in a file beside it: with a copy of the store and the journals since, a
 * store that is lost is made anew as it was. Written after each commit and never waited for: a journal survives the
 * death of its writer; after that of the machine it may be older than the store. docs/formats.md has the bytes. */
#ifndef MU_LAUNCHER_JOURNAL_H
#define MU_LAUNCHER_JOURNAL_H

#include <stdbool.h>

#include "runtime/wire/msg.h"

struct mu_journal_head {
    uint64_t seq; /* the store's newest event when it was begun */
    bool first;   /* that store was empty: nothing but journals is needed */
};
struct mu_journal;
int mu_journal_create(const char *path, const struct mu_journal_head *, struct mu_journal **out, struct mu_err *);
/* Goes on with one: what is not whole at its end is cut off. */
int mu_journal_append(const char *path, struct mu_journal **out, struct mu_err *);
void mu_journal_close(struct mu_journal *); /* NULL is fine */

/* A row or event as mu_msg_pack has it; it belongs to the next commit. NULL for the journal is fine. */
void mu_journal_add(struct mu_journal *, const struct mu_bytes *blob);
void mu_journal_drop(struct mu_journal *);
/* The store's newest event is `seq` now. */
void mu_journal_commit(struct mu_journal *, uint64_t seq);
uint64_t mu_journal_seq(const struct mu_journal *);
uint64_t mu_journal_size(const struct mu_journal *);
bool mu_journal_holed(const struct mu_journal *); /* a commit could not be written */
/* Whether the file that is written to is the one at path: somebody may have removed it. */
bool mu_journal_at(const struct mu_journal *, const char *path);

/* One commit, which led from the event `from` to `to`; n blobs, borrowed for the call. */
typedef int (*mu_journal_fn)(void *arg, uint64_t from, uint64_t to, const struct mu_bytes *blobs, uint32_t n);
/* Up to its end or to what is not whole. head may be NULL, fn too. ECORRUPT: no journal at all; what fn returns. */
int mu_journal_read(const char *path, struct mu_journal_head *head, mu_journal_fn fn, void *arg, struct mu_err *);

#endif
