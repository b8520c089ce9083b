#include "launcher/store.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "launcher/journal.h"
#include "launcher/store_priv.h"
#include "runtime/base/clean.h"
#include "runtime/base/str.h"
#include "runtime/wire/core.h"

#define APPLICATION_ID 0x6d737472 /* "mstr" */
enum { PATH_OF_SQLITE = 480 };    /* it takes 512 in all, and adds to it */

static const char *const queries[Q_COUNT] = {
    [Q_BEGIN] = "BEGIN IMMEDIATE",
    [Q_COMMIT] = "COMMIT",
    [Q_PUT_JOB] = "INSERT INTO jobs(id, token, state, row, sum) VALUES(?1, ?2, ?3, ?4, ?5)"
                  " ON CONFLICT(id) DO UPDATE SET token = ?2, state = ?3, row = ?4, sum = ?5",
    [Q_ADD_EVENT] = "INSERT INTO events(job, t, kind, attempt, rank, node, detail) VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    [Q_LOAD] = "SELECT id, row, state, sum FROM jobs WHERE state < ?1 OR id IN"
               " (SELECT id FROM jobs WHERE state >= ?1 ORDER BY id DESC LIMIT ?2) ORDER BY id",
    [Q_JOB] = "SELECT id, row, state, sum FROM jobs WHERE id = ?1",
    [Q_LAST] = "SELECT max(id) FROM jobs",
    [Q_EVENTS] = "SELECT job, t, kind, attempt, rank, node, detail FROM"
                 " (SELECT * FROM events WHERE job = ?1 ORDER BY seq DESC LIMIT ?2) ORDER BY seq",
    [Q_EVENTS_ALL] = "SELECT job, t, kind, attempt, rank, node, detail FROM"
                     " (SELECT * FROM events WHERE job > 0 ORDER BY seq DESC LIMIT ?2) ORDER BY seq",
    [Q_OLD] = "SELECT id FROM jobs WHERE state >= ?1 ORDER BY id DESC LIMIT 1000 OFFSET ?2",
    [Q_DROP_EVENTS] = "DELETE FROM events WHERE job = ?1",
    [Q_DROP_JOB] = "DELETE FROM jobs WHERE id = ?1",
    [Q_TRIM] = "DELETE FROM events WHERE seq IN (SELECT seq FROM (SELECT seq, row_number() OVER"
               " (PARTITION BY job ORDER BY seq DESC) AS n FROM events) WHERE n > ?1)",
};

/* Primary result code -> our code and what to do about it. */
static const struct {
    int sqlite, code;
    const char *fix;
} reasons[] = {
    {SQLITE_FULL, MUSTER_ENOSPC, "the disk is full; make room"},
    {SQLITE_NOTADB, MUSTER_ECORRUPT, "it is not a job store; move it away and start again"},
    {SQLITE_CORRUPT, MUSTER_ECORRUPT, "it is damaged; move it away (with its -wal file) and start again"},
    {SQLITE_BUSY, MUSTER_EJOB, "another process has it open; end that one"},
    {SQLITE_LOCKED, MUSTER_EJOB, "another process has it open; end that one"},
    {SQLITE_READONLY, MUSTER_EIO, "it cannot be written; check its permissions and those of its directory"},
    {SQLITE_PERM, MUSTER_EIO, "it cannot be written; check its permissions and those of its directory"},
    {SQLITE_CANTOPEN, MUSTER_EIO, "it cannot be opened; check its permissions and those of its directory"},
    {SQLITE_NOMEM, MUSTER_ENOMEM, "out of memory"},
    {SQLITE_IOERR, MUSTER_EIO, "reading or writing failed; check the disk"},
};

static int fail(const struct mu_store *s, int rc, struct mu_err *err)
{
    int sys = s->db ? sqlite3_system_errno(s->db) : 0;

    for (size_t i = 0; i < MU_COUNT(reasons); i++) {
        if ((rc & 0xff) != reasons[i].sqlite)
            continue;
        if (reasons[i].sqlite == SQLITE_IOERR && (sys == ENOSPC || sys == EDQUOT))
            return mu_err_set(err, MUSTER_ENOSPC, "job store %s: %s", s->path, reasons[0].fix);
        return mu_err_set(err, reasons[i].code, "job store %s: %s", s->path, reasons[i].fix);
    }
    return mu_err_set(err, MUSTER_EIO, "job store %s: %s; if that stays, move it away and start again", s->path,
                      s->db ? sqlite3_errmsg(s->db) : "cannot be opened");
}

static int run(struct mu_store *s, const char *sql, struct mu_err *err)
{
    int rc = sqlite3_exec(s->db, sql, NULL, NULL, NULL);

    return rc == SQLITE_OK ? 0 : fail(s, rc, err);
}

static int number(struct mu_store *s, const char *sql, int64_t *out, struct mu_err *err)
{
    sqlite3_stmt *q;
    int rc = sqlite3_prepare_v2(s->db, sql, -1, &q, NULL);

    if (rc == SQLITE_OK) {
        rc = sqlite3_step(q);
        if (rc == SQLITE_ROW)
            *out = sqlite3_column_int64(q, 0);
        sqlite3_finalize(q);
    }
    return rc == SQLITE_ROW ? 0 : fail(s, rc, err);
}

/* What SQLite would quietly take for an empty database, or overwrite, is refused here. */
static int check_file(struct mu_store *s, bool *fresh, struct mu_err *err)
{
    static const char magic[] = "SQLite format 3"; /* its NUL belongs to it */
    char head[sizeof magic];
    struct stat st;

    mu_auto_fd int fd = open(s->path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0 && errno == ENOENT) {
        *fresh = true;
        return 0;
    }
    if (fd < 0)
        return mu_err_set(err, MUSTER_EIO, "job store %s cannot be opened: %s; check its permissions, or move it away",
                          s->path, strerror(errno));
    if (fstat(fd, &st) || !S_ISREG(st.st_mode))
        return mu_err_set(err, MUSTER_ECORRUPT, "job store %s is no regular file; move it away and start again",
                          s->path);
    *fresh = st.st_size == 0;
    if (*fresh)
        return 0;
    ssize_t n = pread(fd, head, sizeof head, 0);
    if (n < 0)
        return mu_err_set(err, MUSTER_EIO, "job store %s cannot be read: %s; check the disk", s->path, strerror(errno));
    if (n != sizeof head || memcmp(head, magic, sizeof head))
        return fail(s, SQLITE_NOTADB, err);
    return 0;
}

static int create(struct mu_store *s, struct mu_err *err)
{
    char sql[200];
    int rc = run(s,
                 "BEGIN IMMEDIATE;"
                 "CREATE TABLE jobs(id INTEGER PRIMARY KEY, token TEXT UNIQUE, state INTEGER NOT NULL,"
                 " row BLOB NOT NULL, sum INTEGER NOT NULL);"
                 "CREATE INDEX jobs_state ON jobs(state, id);"
                 "CREATE TABLE events(seq INTEGER PRIMARY KEY AUTOINCREMENT, job INTEGER NOT NULL, t INTEGER NOT NULL,"
                 " kind TEXT NOT NULL, attempt INTEGER NOT NULL, rank INTEGER NOT NULL, node TEXT, detail TEXT);"
                 "CREATE INDEX events_job ON events(job, seq);",
                 err);

    snprintf(sql, sizeof sql, "PRAGMA application_id = %d; PRAGMA user_version = %d; COMMIT", APPLICATION_ID,
             MU_STORE_VERSION);
    return rc ? rc : run(s, sql, err);
}

int mu_store_judge(const char *path, int64_t app, int64_t version, struct mu_err *err)
{
    if (app != APPLICATION_ID)
        return mu_err_set(err, MUSTER_ECORRUPT,
                          "job store %s: it belongs to another program; move it away and start again", path);
    if (version > MU_STORE_VERSION)
        return mu_err_set(err, MUSTER_EVERSION,
                          "job store %s has version %lld, this muster knows %d: use the newer muster or another "
                          "MUSTER_HOME",
                          path, (long long)version, MU_STORE_VERSION);
    if (version < 1)
        return mu_err_set(err, MUSTER_ECORRUPT,
                          "job store %s: it is damaged; move it away (with its -wal file) and start again", path);
    return 0;
}

static int check_version(struct mu_store *s, struct mu_err *err)
{
    int64_t app = 0, version = 0, tables = 0;
    int rc = number(s, "PRAGMA application_id", &app, err);

    if (!rc)
        rc = number(s, "PRAGMA user_version", &version, err);
    if (!rc)
        rc = number(s, "SELECT count(*) FROM sqlite_schema", &tables, err);
    if (rc)
        return rc;
    if (!app && !version && !tables) /* an empty database: its maker died before its first commit */
        return create(s, err);
    return mu_store_judge(s->path, app, version, err);
}

static int quick_check(struct mu_store *s, struct mu_err *err)
{
    sqlite3_stmt *q;
    int rc = sqlite3_prepare_v2(s->db, "PRAGMA quick_check(1)", -1, &q, NULL);
    bool ok = false;

    if (rc == SQLITE_OK) {
        rc = sqlite3_step(q);
        if (rc == SQLITE_ROW) {
            const unsigned char *text = sqlite3_column_text(q, 0);
            ok = text && !strcmp((const char *)text, "ok");
            rc = SQLITE_CORRUPT;
        }
        sqlite3_finalize(q);
    }
    return ok ? 0 : fail(s, rc, err);
}

static int take_path(struct mu_store *s, const char *path, struct mu_err *err)
{
    size_t n = strlen(path);

    if (n > PATH_OF_SQLITE)
        return mu_err_set(
            err, MUSTER_EARG,
            "the path of the job store would have %zu characters, SQLite takes %d: choose a shorter MUSTER_HOME", n,
            PATH_OF_SQLITE);
    memcpy(s->path, path, n + 1);
    return 0;
}

int mu_store_look(const char *path, struct mu_err *err)
{
    struct mu_store s = {0};
    unsigned char head[72];
    bool fresh;
    int rc = take_path(&s, path, err);

    if (rc || (rc = check_file(&s, &fresh, err)) || fresh)
        return rc;
    mu_auto_fd int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0 || pread(fd, head, sizeof head, 0) != sizeof head)
        return fail(&s, SQLITE_CORRUPT, err);
    /* SQLite's header: big-endian numbers at 60 and 68 (https://www.sqlite.org/fileformat2.html, 1.3) */
    uint32_t version = (uint32_t)head[60] << 24 | (uint32_t)head[61] << 16 | (uint32_t)head[62] << 8 | head[63];
    uint32_t app = (uint32_t)head[68] << 24 | (uint32_t)head[69] << 16 | (uint32_t)head[70] << 8 | head[71];
    return app || version ? mu_store_judge(path, app, version, err) : 0; /* all of a young store is in its -wal file */
}

/* What it has, and what it should have. */
static int look_back(struct mu_store *s, struct mu_err *err)
{
    char path[sizeof s->path + 8];
    int64_t job = 0, seq = 0;
    int rc = number(s, "SELECT coalesce(max(id), 0) FROM jobs", &job, err);

    if (!rc) /* AUTOINCREMENT: of all events that were ever in it, also of those that are forgotten */
        rc = number(s, "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'events'", &seq, err);
    if (rc)
        return rc;
    snprintf(path, sizeof path, "%s-mark", s->path);
    mu_mark_open(&s->mark, path);
    s->job = (uint64_t)job;
    s->seq = (uint64_t)seq;
    s->newest = s->job;
    s->had = s->mark.seq;
    if (s->mark.job > s->job)
        s->job = s->mark.job;
    return 0;
}

void mu_store_look_back(const struct mu_store *s, struct mu_store_past *out)
{
    *out = (struct mu_store_past){.newest = s->newest, .lost = s->had > s->seq ? s->had - s->seq : 0};
}

sqlite3 *mu_store_db(struct mu_store *s)
{
    return s->db;
}

const char *mu_store_path(const struct mu_store *s)
{
    return s->path;
}

uint64_t mu_store_seq(const struct mu_store *s)
{
    return s->seq;
}

void mu_store_keep_journal(struct mu_store *s, struct mu_journal *j)
{
    s->journal = j;
}

int mu_store_open(const char *path, struct mu_store **out, struct mu_err *err)
{
    struct mu_store *s = calloc(1, sizeof *s);
    bool fresh;
    int rc;

    if (!s)
        return mu_err_set(err, MUSTER_ENOMEM, "out of memory");
    s->mark.fd = s->file = -1;
    if ((rc = take_path(s, path, err)))
        goto failed;
    rc = check_file(s, &fresh, err);
    if (rc)
        goto failed;
    rc = sqlite3_open_v2(path, &s->db,
                         SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_PRIVATECACHE | SQLITE_OPEN_NOFOLLOW,
                         NULL);
    if (rc != SQLITE_OK) {
        rc = fail(s, rc, err);
        goto failed;
    }
    sqlite3_extended_result_codes(s->db, 1);
    sqlite3_busy_timeout(s->db, 0);
    sqlite3_db_config(s->db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    /* Taken before the first access, so that WAL needs no shared memory file and a second opener gets BUSY. */
    rc = run(s,
             "PRAGMA locking_mode = EXCLUSIVE;"
             "PRAGMA trusted_schema = OFF;"
             "PRAGMA cell_size_check = ON;"
             "PRAGMA temp_store = MEMORY;",
             err);
    if (!rc)
        rc = run(s, "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 256;", err);
    if (!rc)
        rc = run(s, "BEGIN EXCLUSIVE; COMMIT", err);
    if (!rc)
        rc = check_version(s, err);
    if (!rc)
        rc = quick_check(s, err);
    for (int i = 0; !rc && i < Q_COUNT; i++) {
        rc = sqlite3_prepare_v3(s->db, queries[i], -1, SQLITE_PREPARE_PERSISTENT, &s->q[i], NULL);
        if (rc) /* a missing table or column: not what version 1 looks like */
            rc = fail(s, (rc & 0xff) == SQLITE_ERROR ? SQLITE_CORRUPT : rc, err);
    }
    if (!rc)
        rc = look_back(s, err);
    struct stat st;
    if (!rc && stat(path, &st))
        rc = mu_err_errno(err, 0, "job store %s", path);
    if (rc)
        goto failed;
    s->dev = st.st_dev;
    s->ino = st.st_ino;
    s->file = open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    *out = s;
    return 0;
failed:
    mu_store_close(s);
    return rc;
}

void mu_store_close(struct mu_store *s)
{
    if (!s)
        return;
    for (int i = 0; i < Q_COUNT; i++)
        sqlite3_finalize(s->q[i]);
    sqlite3_close(s->db);
    if (s->file >= 0)
        close(s->file);
    mu_mark_close(&s->mark);
    free(s);
}

/* Runs a statement that gives no rows. */
static int finish(struct mu_store *s, enum stmt n, struct mu_err *err)
{
    int rc = sqlite3_step(s->q[n]);
    int out = rc == SQLITE_DONE || rc == SQLITE_ROW ? 0 : fail(s, rc, err);

    sqlite3_reset(s->q[n]);
    sqlite3_clear_bindings(s->q[n]);
    return out;
}

void mu_store_rollback(struct mu_store *s)
{
    mu_journal_drop(s->journal);
    if (!sqlite3_get_autocommit(s->db))
        sqlite3_exec(s->db, "ROLLBACK", NULL, NULL, NULL);
}

static int or_rollback(struct mu_store *s, int rc)
{
    if (rc)
        mu_store_rollback(s);
    return rc;
}

bool mu_store_moved(const struct mu_store *s)
{
    struct stat st;

    return !mu_store_removed(s) && !(stat(s->path, &st) == 0 && st.st_dev == s->dev && st.st_ino == s->ino);
}

bool mu_store_removed(const struct mu_store *s)
{
    struct stat st;

    return s->file >= 0 && fstat(s->file, &st) == 0 && st.st_nlink == 0;
}

/* Rows that go into a file which has no name any more, or another one, are rows that the next controller does not find.
 */
static int check_place(const struct mu_store *s, struct mu_err *err)
{
    struct stat st;

    if (stat(s->path, &st) == 0 && st.st_dev == s->dev && st.st_ino == s->ino)
        return 0;
    if (mu_store_removed(s))
        return mu_err_set(err, MUSTER_ECORRUPT,
                          "job store %s: it was removed while a controller has it open, which takes no more jobs and "
                          "ends when none runs; try again then",
                          s->path);
    return mu_err_set(
        err, MUSTER_ECORRUPT,
        "job store %s: it was moved away or removed while a controller has it open; put it back, or end the "
        "controller with `muster controller --stop --force`",
        s->path);
}

int mu_store_begin(struct mu_store *s, struct mu_err *err)
{
    if (check_place(s, err))
        return or_rollback(s, err->code);
    s->new_job = s->new_seq = 0;
    mu_journal_drop(s->journal);
    return or_rollback(s, finish(s, Q_BEGIN, err));
}

int mu_store_commit(struct mu_store *s, struct mu_err *err)
{
    int rc = or_rollback(s, finish(s, Q_COMMIT, err));

    if (rc)
        return rc;
    if (s->new_job > s->job)
        s->job = s->new_job;
    if (s->new_job > s->newest)
        s->newest = s->new_job;
    if (s->new_seq)
        s->seq = s->new_seq;
    mu_journal_commit(s->journal, s->seq);
    mu_mark_write(&s->mark, s->job, s->seq);
    return 0;
}

static void bind_text(sqlite3_stmt *q, int at, const char *text)
{
    if (text && *text)
        sqlite3_bind_text(q, at, text, -1, SQLITE_STATIC);
}

static int put_once(struct mu_store *s, const struct mu_m_jobrow *row, const struct mu_bytes *blob, const char *token,
                    struct mu_err *err)
{
    sqlite3_stmt *q = s->q[Q_PUT_JOB];

    sqlite3_bind_int64(q, 1, (sqlite3_int64)row->id);
    bind_text(q, 2, token);
    sqlite3_bind_int64(q, 3, row->state);
    sqlite3_bind_blob(q, 4, blob->data, (int)blob->len, SQLITE_STATIC);
    sqlite3_bind_int64(q, 5, (sqlite3_int64)mu_str_hash(blob->data, blob->len));
    return finish(s, Q_PUT_JOB, err);
}

int mu_store_put_job(struct mu_store *s, const struct mu_m_jobrow *row, struct mu_err *err)
{
    struct mu_bytes blob = {0};
    int rc = mu_msg_pack(&blob, MU_MSG_jobrow, row);

    if (rc)
        return or_rollback(s, mu_err_set(err, rc, "job %llu: %s", (unsigned long long)row->id, muster_strerror(rc)));
    rc = put_once(s, row, &blob, row->token, err);
    /* The token of a job so old that the controller has forgotten it: only the first one keeps it. */
    if (rc && (sqlite3_errcode(s->db) & 0xff) == SQLITE_CONSTRAINT)
        rc = put_once(s, row, &blob, NULL, err);
    if (!rc)
        mu_journal_add(s->journal, &blob);
    free(blob.data);
    if (!rc && row->id > s->new_job)
        s->new_job = row->id;
    return or_rollback(s, rc);
}

static void journal_event(struct mu_store *s, const struct mu_store_event *e)
{
    struct mu_bytes blob = {0};
    struct mu_m_event m = {.job = e->job,
                           .wall = e->wall,
                           .attempt = e->attempt,
                           .rank_plus1 = (uint32_t)(e->rank + 1),
                           .kind = (char *)(uintptr_t)e->kind,
                           .node = (char *)(uintptr_t)e->node,
                           .detail = (char *)(uintptr_t)e->detail};

    if (s->journal && !mu_msg_pack(&blob, MU_MSG_event, &m))
        mu_journal_add(s->journal, &blob);
    free(blob.data);
}

int mu_store_add_event(struct mu_store *s, const struct mu_store_event *e, struct mu_err *err)
{
    sqlite3_stmt *q = s->q[Q_ADD_EVENT];

    sqlite3_bind_int64(q, 1, (sqlite3_int64)e->job);
    sqlite3_bind_int64(q, 2, (sqlite3_int64)e->wall);
    sqlite3_bind_text(q, 3, e->kind ? e->kind : "", -1, SQLITE_STATIC);
    sqlite3_bind_int64(q, 4, e->attempt);
    sqlite3_bind_int(q, 5, e->rank);
    bind_text(q, 6, e->node);
    bind_text(q, 7, e->detail);
    int rc = or_rollback(s, finish(s, Q_ADD_EVENT, err));
    if (!rc)
        journal_event(s, e);
    if (!rc)
        s->new_seq = (uint64_t)sqlite3_last_insert_rowid(s->db);
    return rc;
}

static int read_row(struct mu_store *s, sqlite3_stmt *q, struct mu_m_jobrow *row, struct mu_err *err)
{
    const void *data = sqlite3_column_blob(q, 1);
    int len = sqlite3_column_bytes(q, 1);
    struct mu_bytes blob = {.data = (uint8_t *)(uintptr_t)data, .len = (uint32_t)len};
    long long id = sqlite3_column_int64(q, 0);
    int rc = 0;

    /* SQLite checks its own structures only. */
    if (mu_str_hash(data, (size_t)len) != (uint64_t)sqlite3_column_int64(q, 3))
        rc = mu_err_set(err, MUSTER_ECORRUPT, "its checksum differs");
    if (!rc)
        rc = mu_msg_unpack(&blob, MU_MSG_jobrow, row, err);
    if (!rc && (row->id != (uint64_t)id || row->state != (uint64_t)sqlite3_column_int64(q, 2))) {
        mu_msg_free_body(MU_MSG_jobrow, row);
        rc = mu_err_set(err, MUSTER_ECORRUPT, "it is filed under another number or state");
    }
    if (rc)
        mu_err_prefix(err, "job store %s: the row of job %lld is damaged; move the store away and start again", s->path,
                      id);
    return rc;
}

int mu_store_load(struct mu_store *s, mu_store_row_fn fn, void *arg, struct mu_err *err)
{
    sqlite3_stmt *q = s->q[Q_LOAD];
    int rc = 0, step;

    sqlite3_bind_int64(q, 1, MU_JOB_COMPLETED);
    sqlite3_bind_int64(q, 2, MU_STORE_LIVE_MAX);
    while (!rc && (step = sqlite3_step(q)) != SQLITE_DONE) {
        struct mu_m_jobrow row;
        rc = step == SQLITE_ROW ? read_row(s, q, &row, err) : fail(s, step, err);
        if (rc)
            break;
        rc = fn(arg, &row);
        mu_msg_free_body(MU_MSG_jobrow, &row);
    }
    sqlite3_reset(q);
    return rc;
}

int mu_store_job(struct mu_store *s, uint64_t id, struct mu_m_jobrow *out, struct mu_err *err)
{
    sqlite3_stmt *q = s->q[Q_JOB];

    sqlite3_bind_int64(q, 1, (sqlite3_int64)id);
    int step = sqlite3_step(q), rc;
    if (step == SQLITE_ROW)
        rc = read_row(s, q, out, err);
    else if (step == SQLITE_DONE)
        rc = mu_err_set(err, MUSTER_EJOB, "there is no job %llu; `muster jobs --all` lists them",
                        (unsigned long long)id);
    else
        rc = fail(s, step, err);
    sqlite3_reset(q);
    return rc;
}

int mu_store_last_id(struct mu_store *s, uint64_t *out, struct mu_err *err)
{
    sqlite3_stmt *q = s->q[Q_LAST];
    int step = sqlite3_step(q);
    uint64_t id = step == SQLITE_ROW ? (uint64_t)sqlite3_column_int64(q, 0) : 0;

    sqlite3_reset(q);
    if (step != SQLITE_ROW)
        return fail(s, step, err);
    *out = id > s->job ? id : s->job;
    return 0;
}

int mu_store_events(struct mu_store *s, uint64_t job, unsigned limit, mu_store_event_fn fn, void *arg,
                    struct mu_err *err)
{
    sqlite3_stmt *q = s->q[job ? Q_EVENTS : Q_EVENTS_ALL];
    int rc = 0, step;

    sqlite3_bind_int64(q, 1, (sqlite3_int64)job);
    sqlite3_bind_int64(q, 2, limit);
    while (!rc && (step = sqlite3_step(q)) != SQLITE_DONE) {
        if (step != SQLITE_ROW) {
            rc = fail(s, step, err);
            break;
        }
        const char *kind = (const char *)sqlite3_column_text(q, 2);
        struct mu_store_event e = {
            .job = (uint64_t)sqlite3_column_int64(q, 0),
            .wall = (uint64_t)sqlite3_column_int64(q, 1),
            .kind = kind ? kind : "",
            .attempt = (uint32_t)sqlite3_column_int64(q, 3),
            .rank = sqlite3_column_int(q, 4),
            .node = (const char *)sqlite3_column_text(q, 5),
            .detail = (const char *)sqlite3_column_text(q, 6),
        };
        rc = fn(arg, &e);
    }
    sqlite3_reset(q);
    return rc;
}

/* Ids of the ended jobs past the newest `keep`; at most 1000 a call. */
static int old_jobs(struct mu_store *s, unsigned keep, bool (*needed)(void *arg, uint64_t id), void *arg,
                    uint64_t ids[1000], unsigned *n, struct mu_err *err)
{
    sqlite3_stmt *q = s->q[Q_OLD];
    int step;

    *n = 0;
    sqlite3_bind_int64(q, 1, MU_JOB_COMPLETED);
    sqlite3_bind_int64(q, 2, keep);
    while ((step = sqlite3_step(q)) == SQLITE_ROW && *n < 1000) {
        uint64_t id = (uint64_t)sqlite3_column_int64(q, 0);
        if (!needed || !needed(arg, id))
            ids[(*n)++] = id;
    }
    sqlite3_reset(q);
    return step == SQLITE_DONE || *n == 1000 ? 0 : fail(s, step, err);
}

int mu_store_prune(struct mu_store *s, unsigned keep_jobs, unsigned keep_events, bool (*needed)(void *arg, uint64_t id),
                   void (*dropped)(void *arg, uint64_t id), void *arg, struct mu_err *err)
{
    mu_auto_free uint64_t *ids = calloc(1000, sizeof *ids);
    unsigned n = 0;
    int rc = ids ? old_jobs(s, keep_jobs, needed, arg, ids, &n, err) : mu_err_set(err, MUSTER_ENOMEM, "out of memory");

    if (!rc)
        rc = mu_store_begin(s, err);
    for (unsigned i = 0; !rc && i < n; i++) {
        sqlite3_bind_int64(s->q[Q_DROP_EVENTS], 1, (sqlite3_int64)ids[i]);
        rc = finish(s, Q_DROP_EVENTS, err);
        sqlite3_bind_int64(s->q[Q_DROP_JOB], 1, (sqlite3_int64)ids[i]);
        if (!rc)
            rc = finish(s, Q_DROP_JOB, err);
    }
    if (!rc) {
        sqlite3_bind_int64(s->q[Q_TRIM], 1, keep_events);
        rc = finish(s, Q_TRIM, err);
    }
    if (!rc)
        rc = finish(s, Q_COMMIT, err);
    if (rc) {
        mu_store_rollback(s);
        return rc;
    }
    for (unsigned i = 0; dropped && i < n; i++)
        dropped(arg, ids[i]);
    return 0;
}

int mu_store_limit_pages(struct mu_store *s, unsigned pages)
{
    char sql[64];

    snprintf(sql, sizeof sql, "PRAGMA max_page_count = %u", pages ? pages : 1073741823u);
    return run(s, sql, NULL);
}

/* The table is made when it is first needed: a store without it is one of version 1 as well. */
int mu_store_put_anchor(struct mu_store *s, uint64_t n, const char *hash, struct mu_err *err)
{
    static const char sql[] = "INSERT INTO audit(id, n, hash) VALUES(1, ?1, ?2)"
                              " ON CONFLICT(id) DO UPDATE SET n = ?1, hash = ?2";
    sqlite3_stmt *q = NULL;
    int rc = check_place(s, err);

    if (rc ||
        (rc = run(s, "CREATE TABLE IF NOT EXISTS audit(id INTEGER PRIMARY KEY, n INTEGER NOT NULL, hash TEXT NOT NULL)",
                  err)))
        return rc;
    rc = sqlite3_prepare_v2(s->db, sql, -1, &q, NULL);
    if (rc == SQLITE_OK) {
        sqlite3_bind_int64(q, 1, (sqlite3_int64)n);
        sqlite3_bind_text(q, 2, hash, -1, SQLITE_STATIC);
        rc = sqlite3_step(q);
    }
    rc = rc == SQLITE_DONE ? 0 : fail(s, rc, err);
    sqlite3_finalize(q);
    return rc;
}

int mu_store_anchor(struct mu_store *s, uint64_t *n, char *hash, size_t size, struct mu_err *err)
{
    sqlite3_stmt *q = NULL;
    int64_t tables = 0;
    int rc = number(s, "SELECT count(*) FROM sqlite_schema WHERE name = 'audit'", &tables, err);

    *n = 0;
    if (rc || !tables)
        return rc;
    rc = sqlite3_prepare_v2(s->db, "SELECT n, hash FROM audit WHERE id = 1", -1, &q, NULL);
    if (rc == SQLITE_OK && (rc = sqlite3_step(q)) == SQLITE_ROW) {
        const unsigned char *text = sqlite3_column_text(q, 1);
        if (text && !mu_str_copy(hash, size, (const char *)text))
            *n = (uint64_t)sqlite3_column_int64(q, 0);
    }
    rc = rc == SQLITE_ROW || rc == SQLITE_DONE ? 0 : fail(s, rc, err);
    sqlite3_finalize(q);
    return rc;
}

/* --- for the store's other files --------------------------------------------------------------------------------- */

int mu_store_fail(const struct mu_store *s, int rc, struct mu_err *err)
{
    return fail(s, rc, err);
}

int mu_store_run(struct mu_store *s, const char *sql, struct mu_err *err)
{
    return run(s, sql, err);
}

int mu_store_number(struct mu_store *s, const char *sql, int64_t *out, struct mu_err *err)
{
    return number(s, sql, out, err);
}
