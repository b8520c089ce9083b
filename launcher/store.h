/* The job store: one SQLite file with every job's row (its wire encoding) and its events. One process has it open; a
 * crash at any moment leaves what was committed. */
#ifndef MU_LAUNCHER_STORE_H
#define MU_LAUNCHER_STORE_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/wire/msg.h"

#define MU_STORE_VERSION 1
#define MU_STORE_LIVE_MAX 1000u     /* ended jobs that mu_store_load gives */
#define MU_STORE_KEEP_JOBS 10000u   /* ended jobs that mu_store_prune leaves */
#define MU_STORE_KEEP_EVENTS 20000u /* events of one job that it leaves */

struct mu_journal;
struct mu_store;

/* Opens or creates it. Each failure is one line that names the file and the fix: ECORRUPT (damaged, or not ours),
 * EVERSION (made by a newer muster), EJOB (another process has it), EIO (read-only, permissions), ENOSPC. */
int mu_store_open(const char *path, struct mu_store **out, struct mu_err *);
/* Whether that would fail by what the file's first bytes are, without opening it; 0 also when there is none. */
int mu_store_look(const char *path, struct mu_err *);
void mu_store_close(struct mu_store *); /* NULL is fine */

/* Its file has no name any more: nothing is ever stored again. Moved away it may come back. */
bool mu_store_removed(const struct mu_store *);
/* It has one, but another one. */
bool mu_store_moved(const struct mu_store *);

/* Rows of all jobs that have not ended and of the latest MU_STORE_LIVE_MAX ended ones, by ascending id. The row is
 * borrowed for the call. A row that cannot be read is an error. */
typedef int (*mu_store_row_fn)(void *arg, const struct mu_m_jobrow *);
int mu_store_load(struct mu_store *, mu_store_row_fn, void *arg, struct mu_err *);
/* EJOB: there is no such job. *out is the caller's, for mu_msg_free_body. */
int mu_store_job(struct mu_store *, uint64_t id, struct mu_m_jobrow *out, struct mu_err *);
/* The highest number that was ever given, be it to a job that the store has lost. */
int mu_store_last_id(struct mu_store *, uint64_t *out, struct mu_err *);
/* Whether the store was what it had been when it was opened: a -wal file that is damaged loses the newest changes, and
 * so does an older copy. FILE-mark beside it knows (past.h). */
struct mu_store_past {
    uint64_t newest; /* job in it; 0: none */
    uint64_t lost;   /* events that it has had, the newest ones, each with what it was about; 0: none */
};
void mu_store_look_back(const struct mu_store *, struct mu_store_past *);
uint64_t mu_store_seq(const struct mu_store *); /* the newest event in it */
/* Commits go there, too, from now on; NULL: nowhere. The caller closes it. */
void mu_store_keep_journal(struct mu_store *, struct mu_journal *);

/* Changes between begin and commit become visible at once or not at all. After any error the transaction is gone:
 * do it again from its beginning. Commit returns when it is on the disk. ENOSPC when there is no room. */
int mu_store_begin(struct mu_store *, struct mu_err *);
int mu_store_put_job(struct mu_store *, const struct mu_m_jobrow *, struct mu_err *);
struct mu_store_event {
    uint64_t job, wall;
    uint32_t attempt;
    int32_t rank; /* -1: none */
    const char *kind, *node, *detail;
};
int mu_store_add_event(struct mu_store *, const struct mu_store_event *, struct mu_err *);
int mu_store_commit(struct mu_store *, struct mu_err *);
void mu_store_rollback(struct mu_store *);

/* Events of a job, 0 = of all jobs, oldest first, the newest `limit` of them. Strings are borrowed for the call. */
typedef int (*mu_store_event_fn)(void *arg, const struct mu_store_event *);
int mu_store_events(struct mu_store *, uint64_t job, unsigned limit, mu_store_event_fn, void *arg, struct mu_err *);

/* The newest line of the audit log (audit.h) that is known to be on the disk; n 0: none. Committed when put returns. */
int mu_store_put_anchor(struct mu_store *, uint64_t n, const char *hash, struct mu_err *);
int mu_store_anchor(struct mu_store *, uint64_t *n, char *hash, size_t size, struct mu_err *);

/* What nodes are made of (runtime/wire/inventory.h): each change of a node, the newest MU_STORE_KEEP_INVENTORY of it
 * and MU_STORE_ALL_INVENTORY of all, but the newest of each node; and what was approved of each (`by` says so). Both
 * are put between begin and commit; what was approved goes to the journal, too, together with an event, by which that
 * is known to be newer than the store. The rows are borrowed for the calls. ECORRUPT at the end, when some were
 * damaged: they are left out. */
#define MU_STORE_KEEP_INVENTORY 20u
#define MU_STORE_ALL_INVENTORY 20000u
int mu_store_put_inventory(struct mu_store *, const struct mu_m_inventory *, struct mu_err *);
int mu_store_put_baseline(struct mu_store *, const struct mu_m_inventory *, struct mu_err *);
int mu_store_drop_baseline(struct mu_store *, const char *node, struct mu_err *); /* between them as well */
typedef void (*mu_store_inventory_fn)(void *arg, const struct mu_m_inventory *);
/* The newest of each node, and what was approved. */
int mu_store_load_inventory(struct mu_store *, mu_store_inventory_fn, void *arg, struct mu_err *);
/* All of a node, oldest first. */
int mu_store_inventory(struct mu_store *, const char *node, mu_store_inventory_fn, void *arg, struct mu_err *);
/* Which numbers jobs had that the store has lost: above the one, and up to the other, and when that was seen; 0: none.
 */
int mu_store_put_lost(struct mu_store *, uint64_t above, uint64_t last, uint64_t wall, struct mu_err *);
int mu_store_lost(struct mu_store *, uint64_t *above, uint64_t *last, uint64_t *wall, struct mu_err *);

/* Forgets old ended jobs with their events, but those that are needed, and old events. dropped is told each job's id.
 * Both functions may be NULL. */
int mu_store_prune(struct mu_store *, unsigned keep_jobs, unsigned keep_events, bool (*needed)(void *arg, uint64_t id),
                   void (*dropped)(void *arg, uint64_t id), void *arg, struct mu_err *);
/* For tests: the file cannot grow past so many pages; 0 = no limit. */
int mu_store_limit_pages(struct mu_store *, unsigned pages);

#endif
