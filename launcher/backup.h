/* Copies of the job store in STATE/backup, made while the controller runs, and what becomes of a store that is lost:
 *     N.db   a copy, verified before it got its name
 *     N.log  what was committed since (journal.h), up to the next N.log
 * The newest good copy and the journals since then are the store as it was at its last commit. */
#ifndef MU_LAUNCHER_BACKUP_H
#define MU_LAUNCHER_BACKUP_H

#include <limits.h>

#include "launcher/store.h"
#include "launcher/store_copy.h"

#define MU_BACKUP_EVERY (3600000000000ull) /* ns */
#define MU_BACKUP_KEEP 3u

struct event_base;

struct mu_backup_open {
    const char *state; /* STATE */
    uint64_t copy;     /* restore this one; 0: the newest good one */
    bool force;        /* however good the store is */
    /* out */
    bool restored; /* from a copy or journals */
    bool lossy;    /* changes are known to be missing, or what had been is not known at all */
    char said[2 * PATH_MAX];
};
/* Opens STATE/jobs.db, and before that puts in its place what can be made of copies and journals when it is missing or
 * damaged; the damaged one is set aside as jobs.db.lost-N. A store that has lost its newest changes gets them back from
 * the journals. What was done is in `said`. Errors are those of mu_store_open. */
int mu_backup_open(struct mu_backup_open *, struct mu_store **out, struct mu_err *);
/* There is something that could be restored. */
bool mu_backup_any(const char *state);

/* Makes copies by the clock, and the journal of each commit. A failure is logged, and tried again a minute later. */
struct mu_backup_config {
    struct event_base *base;
    struct mu_store *store;
    const char *state;
    uint64_t every_ns;                        /* 0: neither copies nor journals */
    unsigned keep;                            /* copies */
    void (*hurt)(void *arg, const char *why); /* the store is found damaged or removed; called once */
    void *arg;
};
struct mu_backup;
int mu_backup_new(const struct mu_backup_config *, struct mu_backup **out, struct mu_err *);
void mu_backup_free(struct mu_backup *); /* before the store is closed; NULL is fine */
/* Begins a copy unless one is under way; its number. */
uint64_t mu_backup_now(struct mu_backup *);
struct mu_backup_status {
    bool running;
    uint64_t newest, newest_wall; /* good copy, and when it was made; 0: none */
    uint64_t failures;            /* since the controller's start */
    uint64_t every_ns;            /* 0: none is made */
    char why[400];                /* the last one; "" */
};
void mu_backup_status(const struct mu_backup *, struct mu_backup_status *);
/* The same as JSON, `number` being that of the copy that is made or was made last; begin: another one begins. The
 * caller's to free; NULL: out of memory. */
char *mu_backup_tell(struct mu_backup *, bool begin);

/* For who lists them: numbers of copies (or journals), ascending. Returns how many; *out is the caller's to free. */
int mu_backup_list(const char *state, bool journals, uint64_t **out, struct mu_err *);
int mu_backup_path(char *out, size_t n, const char *state, uint64_t number, const char *suffix, struct mu_err *);

#endif
