/* Shared by the store's files only. */
#ifndef MU_LAUNCHER_STORE_PRIV_H
#define MU_LAUNCHER_STORE_PRIV_H

#include <sqlite3.h>
#include <sys/types.h>

#include "launcher/past.h"
#include "launcher/store.h"

enum stmt {
    Q_BEGIN,
    Q_COMMIT,
    Q_PUT_JOB,
    Q_ADD_EVENT,
    Q_LOAD,
    Q_JOB,
    Q_LAST,
    Q_EVENTS,
    Q_EVENTS_ALL,
    Q_OLD,
    Q_DROP_EVENTS,
    Q_DROP_JOB,
    Q_TRIM,
    Q_COUNT
};
struct mu_store {
    sqlite3 *db;
    sqlite3_stmt *q[Q_COUNT];
    char path[4096];
    dev_t dev;
    ino_t ino;
    int file; /* only to see whether it has a name: nothing that SQLite has locked is let go of when it is closed */
    struct mu_mark mark;
    struct mu_journal *journal; /* NULL: none is kept */
    uint64_t had;               /* events, as far as the mark knew when it was opened */
    uint64_t newest;            /* job in it */
    uint64_t job, seq;          /* highest numbers: of a job that was ever committed, of an event that is */
    uint64_t new_job, new_seq;  /* the same of the present transaction; 0: none */
};

/* Tells what SQLite's code rc means, with the store's path. */
int mu_store_fail(const struct mu_store *, int rc, struct mu_err *);
int mu_store_run(struct mu_store *, const char *sql, struct mu_err *);
int mu_store_number(struct mu_store *, const char *sql, int64_t *out, struct mu_err *); /* the first of its answer */
sqlite3 *mu_store_db(struct mu_store *);
const char *mu_store_path(const struct mu_store *);
/* Whether a file with these numbers in its head is a store of ours. */
int mu_store_judge(const char *path, int64_t app, int64_t version, struct mu_err *);

#endif
