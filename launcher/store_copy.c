#include "launcher/store_copy.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "launcher/store_priv.h"
#include "runtime/base/clean.h"
#include "runtime/base/str.h"

#define PAGES 64 /* a step: some hundred microseconds */

struct mu_store_copy {
    sqlite3 *to;
    sqlite3_backup *b;
    char path[4096];
};

static int fail(const struct mu_store_copy *c, int rc, struct mu_err *err)
{
    int code = (rc & 0xff) == SQLITE_FULL                             ? MUSTER_ENOSPC
               : (rc & 0xff) == SQLITE_CORRUPT || rc == SQLITE_NOTADB ? MUSTER_ECORRUPT
                                                                      : MUSTER_EIO;

    return mu_err_set(err, code, "%s cannot be written: %s", c->path, sqlite3_errstr(rc));
}

int mu_store_copy_begin(struct mu_store *s, const char *path, struct mu_store_copy **out, struct mu_err *err)
{
    struct mu_store_copy *c = calloc(1, sizeof *c);
    int rc;

    if (!c)
        return mu_err_set(err, MUSTER_ENOMEM, "out of memory");
    mu_str_copy(c->path, sizeof c->path, path);
    unlink(path);
    rc = sqlite3_open_v2(path, &c->to, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_PRIVATECACHE, NULL);
    if (rc == SQLITE_OK) /* it is synced by who puts it in its place */
        rc = sqlite3_exec(c->to, "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF", NULL, NULL, NULL);
    if (rc == SQLITE_OK && !(c->b = sqlite3_backup_init(c->to, "main", mu_store_db(s), "main")))
        rc = sqlite3_errcode(c->to);
    if (rc == SQLITE_OK) {
        *out = c;
        return 0;
    }
    rc = fail(c, rc, err);
    mu_store_copy_end(c);
    return rc;
}

int mu_store_copy_step(struct mu_store_copy *c, struct mu_err *err)
{
    int rc = sqlite3_backup_step(c->b, PAGES);

    if (rc == SQLITE_OK || rc == SQLITE_BUSY || rc == SQLITE_LOCKED)
        return 1;
    return rc == SQLITE_DONE ? 0 : fail(c, rc, err);
}

void mu_store_copy_end(struct mu_store_copy *c)
{
    if (!c)
        return;
    sqlite3_backup_finish(c->b);
    sqlite3_close(c->to);
    free(c);
}

static int one(sqlite3 *db, const char *sql, int64_t *number, const char **wrong)
{
    sqlite3_stmt *q = NULL;
    int rc = sqlite3_prepare_v2(db, sql, -1, &q, NULL);

    if (rc == SQLITE_OK && (rc = sqlite3_step(q)) == SQLITE_ROW) {
        *number = sqlite3_column_int64(q, 0);
        if (wrong && strcmp((const char *)sqlite3_column_text(q, 0), "ok"))
            *wrong = "its pages contradict one another";
        rc = SQLITE_OK;
    }
    sqlite3_finalize(q);
    return rc;
}

/* SQLite checks its own structures only. */
static int check_rows(sqlite3 *db, struct mu_store_facts *f, const char **wrong)
{
    sqlite3_stmt *q = NULL;
    int rc = sqlite3_prepare_v2(db, "SELECT id, row, sum FROM jobs", -1, &q, NULL);

    while (rc == SQLITE_OK || rc == SQLITE_ROW) {
        if ((rc = sqlite3_step(q)) != SQLITE_ROW)
            break;
        const void *row = sqlite3_column_blob(q, 1);
        uint64_t id = (uint64_t)sqlite3_column_int64(q, 0);
        if (mu_str_hash(row, (size_t)sqlite3_column_bytes(q, 1)) != (uint64_t)sqlite3_column_int64(q, 2))
            *wrong = "the row of a job is not what was written";
        f->jobs++;
        f->newest = id > f->newest ? id : f->newest;
    }
    sqlite3_finalize(q);
    return rc == SQLITE_DONE ? SQLITE_OK : rc;
}

int mu_store_verify(const char *path, struct mu_store_facts *out, struct mu_err *err)
{
    struct mu_store_facts f = {0};
    const char *wrong = NULL;
    int64_t app = 0, version = 0, none = 0, seq = 0;
    char uri[3 * 4096 + 32] = "file:";
    size_t n = strlen(uri);
    sqlite3 *db = NULL;

    for (const char *s = path; *s && n < sizeof uri - 24; s++) /* what means something in a URI */
        n += (size_t)snprintf(uri + n, sizeof uri - n, strchr("%?#", *s) ? "%%%02x" : "%c", (unsigned char)*s);
    snprintf(uri + n, sizeof uri - n, "?immutable=1");
    int rc = sqlite3_open_v2(uri, &db, SQLITE_OPEN_READONLY | SQLITE_OPEN_URI | SQLITE_OPEN_PRIVATECACHE, NULL);
    if (rc == SQLITE_OK)
        rc = one(db, "PRAGMA application_id", &app, NULL);
    if (rc == SQLITE_OK)
        rc = one(db, "PRAGMA user_version", &version, NULL);
    if (rc == SQLITE_OK && mu_store_judge(path, app, version, err)) {
        sqlite3_close(db);
        return err ? err->code : MUSTER_ECORRUPT;
    }
    if (rc == SQLITE_OK)
        rc = one(db, "PRAGMA integrity_check(1)", &none, &wrong);
    if (rc == SQLITE_OK && !wrong)
        rc = check_rows(db, &f, &wrong);
    if (rc == SQLITE_OK && !wrong)
        rc = one(db, "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'events'", &seq, NULL);
    sqlite3_close(db);
    if (wrong)
        return mu_err_set(err, MUSTER_ECORRUPT, "%s is damaged: %s", path, wrong);
    if (rc == SQLITE_CANTOPEN || (rc & 0xff) == SQLITE_PERM)
        return mu_err_set(err, MUSTER_EIO, "%s cannot be opened; check that it is there and its permissions", path);
    if (rc != SQLITE_OK)
        return mu_err_set(err, (rc & 0xff) == SQLITE_NOMEM ? MUSTER_ENOMEM : MUSTER_ECORRUPT, "%s is damaged: %s", path,
                          sqlite3_errstr(rc));
    f.seq = (uint64_t)seq;
    if (out)
        *out = f;
    return 0;
}

/* Through SQLite's own descriptor: closing another one of the file would let go of its locks. */
int mu_store_hurt(struct mu_store *s, struct mu_err *err)
{
    static const char magic[] = "SQLite format 3"; /* its NUL belongs to it */
    const char *path = mu_store_path(s);
    unsigned char head[32];
    sqlite3_file *f = NULL;
    sqlite3_int64 size = 0;

    if (sqlite3_file_control(mu_store_db(s), "main", SQLITE_FCNTL_FILE_POINTER, &f) != SQLITE_OK || !f ||
        !f->pMethods || f->pMethods->xFileSize(f, &size) != SQLITE_OK)
        return 0;
    if (size < (sqlite3_int64)sizeof head || f->pMethods->xRead(f, head, sizeof head, 0) != SQLITE_OK)
        return mu_err_set(err, MUSTER_ECORRUPT, "job store %s was cut to %lld bytes", path, (long long)size);
    /* SQLite's header: big-endian numbers at 16 and 28 (https://www.sqlite.org/fileformat2.html, 1.3) */
    uint32_t page = (uint32_t)head[16] << 8 | head[17];
    uint32_t pages = (uint32_t)head[28] << 24 | (uint32_t)head[29] << 16 | (uint32_t)head[30] << 8 | head[31];
    page = page == 1 ? 65536 : page;
    if (memcmp(head, magic, sizeof magic) || page < 512 || (page & (page - 1)))
        return mu_err_set(err, MUSTER_ECORRUPT, "job store %s: its beginning was overwritten", path);
    if (size < (sqlite3_int64)page * pages)
        return mu_err_set(err, MUSTER_ECORRUPT, "job store %s was cut to %lld of %lld bytes", path, (long long)size,
                          (long long)page * pages);
    return 0;
}

/* The table is made when it is first needed, as that of the audit log is. */
int mu_store_put_lost(struct mu_store *s, uint64_t above, uint64_t last, uint64_t wall, struct mu_err *err)
{
    char sql[300];

    snprintf(sql, sizeof sql,
             "CREATE TABLE IF NOT EXISTS lost(id INTEGER PRIMARY KEY, above INTEGER NOT NULL, last INTEGER NOT NULL,"
             " t INTEGER NOT NULL);"
             "INSERT OR REPLACE INTO lost(id, above, last, t) VALUES(1, %lld, %lld, %lld)",
             (long long)above, (long long)last, (long long)wall);
    int rc = sqlite3_exec(mu_store_db(s), sql, NULL, NULL, NULL);
    return rc == SQLITE_OK ? 0
                           : mu_err_set(err, rc == SQLITE_FULL ? MUSTER_ENOSPC : MUSTER_EIO,
                                        "job store %s cannot be written: %s", mu_store_path(s), sqlite3_errstr(rc));
}

int mu_store_lost(struct mu_store *s, uint64_t *above, uint64_t *last, uint64_t *wall, struct mu_err *err)
{
    int64_t tables = 0, a = 0, l = 0, t = 0;
    sqlite3 *db = mu_store_db(s);
    int rc = one(db, "SELECT count(*) FROM sqlite_schema WHERE name = 'lost'", &tables, NULL);

    if (rc == SQLITE_OK && tables) {
        rc = one(db, "SELECT max(above) FROM lost", &a, NULL);
        rc = rc == SQLITE_OK ? one(db, "SELECT max(last) FROM lost", &l, NULL) : rc;
        rc = rc == SQLITE_OK ? one(db, "SELECT max(t) FROM lost", &t, NULL) : rc;
    }
    *above = (uint64_t)a;
    *last = (uint64_t)l;
    *wall = (uint64_t)t;
    return rc == SQLITE_OK ? 0 : mu_err_set(err, MUSTER_EIO, "job store %s: %s", mu_store_path(s), sqlite3_errstr(rc));
}
