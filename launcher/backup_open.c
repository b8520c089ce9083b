/* A store that is lost, made anew of copies and journals. */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "launcher/backup.h"
#include "launcher/journal.h"
#include "runtime/base/clean.h"
#include "runtime/base/path.h"
#include "runtime/base/str.h"

#define NUMBER_MAX (UINT64_C(1) << 40)

static void say(struct mu_backup_open *o, const char *fmt, ...) MU_PRINTF(2, 3);
static void say(struct mu_backup_open *o, const char *fmt, ...)
{
    size_t n = strlen(o->said);
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(o->said + n, sizeof o->said - n, fmt, ap);
    va_end(ap);
}

static int by_number(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

int mu_backup_path(char *out, size_t n, const char *state, uint64_t number, const char *suffix, struct mu_err *err)
{
    char name[64] = "backup";

    if (number)
        snprintf(name, sizeof name, "backup/%06llu.%s", (unsigned long long)number, suffix);
    return mu_path_join(out, n, state, name, err);
}

int mu_backup_list(const char *state, bool journals, uint64_t **out, struct mu_err *err)
{
    const char *suffix = journals ? ".log" : ".db";
    uint64_t *v = NULL, number;
    char dir[PATH_MAX];
    int n = 0, rc = mu_backup_path(dir, sizeof dir, state, 0, "", err);

    if (rc)
        return rc;
    *out = NULL;
    mu_auto_dir DIR *d = opendir(dir);
    for (struct dirent *e; d && (e = readdir(d));) {
        char name[32];
        size_t len = strlen(e->d_name), tail = strlen(suffix);
        if (len <= tail || len - tail >= sizeof name || strcmp(e->d_name + len - tail, suffix))
            continue;
        memcpy(name, e->d_name, len - tail);
        name[len - tail] = '\0';
        if (mu_str_u64(name, 1, NUMBER_MAX, &number))
            continue;
        uint64_t *more = realloc(v, (size_t)(n + 1) * sizeof *v);
        if (!more) {
            free(v);
            return mu_err_set(err, MUSTER_ENOMEM, "out of memory");
        }
        v = more;
        v[n++] = number;
    }
    if (n)
        qsort(v, (size_t)n, sizeof *v, by_number);
    *out = v;
    return n;
}

/* --- journals ---------------------------------------------------------------------------------------------------- */

struct replay {
    struct mu_store *store;
    uint64_t had, reached; /* events of the store before; where the journals have led so far */
    uint64_t end;          /* where they lead */
    unsigned rows;
    bool gap;
    struct mu_err *err;
};

static int find_end(void *arg, uint64_t from, uint64_t to, const struct mu_bytes *blobs, uint32_t n)
{
    struct replay *r = arg;

    (void)from, (void)blobs, (void)n;
    r->end = to > r->end ? to : r->end;
    return 0;
}

/* One node's: what is approved of it, or that nothing is. */
static int put_baseline(struct replay *r, unsigned type, const struct mu_bytes *blob)
{
    struct mu_m_inventory is;
    struct mu_m_withdraw no;
    int rc;

    if (type == MU_MSG_inventory) {
        if ((rc = mu_msg_unpack(blob, type, &is, r->err)))
            return rc;
        rc = mu_store_put_baseline(r->store, &is, r->err);
        mu_msg_free_body(MU_MSG_inventory, &is);
        return rc;
    }
    if ((rc = mu_msg_unpack(blob, MU_MSG_withdraw, &no, r->err)))
        return rc;
    rc = mu_store_drop_baseline(r->store, no.hosts, r->err);
    mu_msg_free_body(MU_MSG_withdraw, &no);
    return rc;
}

static int put_back(struct replay *r, uint64_t *seq, const struct mu_bytes *blob)
{
    unsigned type = blob->len < 2 ? 0 : (unsigned)blob->data[0] | (unsigned)blob->data[1] << 8;
    struct mu_m_jobrow row;
    struct mu_m_event e;
    int rc;

    if (type == MU_MSG_jobrow) {
        if ((rc = mu_msg_unpack(blob, MU_MSG_jobrow, &row, r->err)))
            return rc;
        rc = mu_store_put_job(r->store, &row, r->err);
        mu_msg_free_body(MU_MSG_jobrow, &row);
        r->rows++;
        return rc;
    }
    if (type == MU_MSG_inventory || type == MU_MSG_withdraw)
        return put_baseline(r, type, blob);
    if (type != MU_MSG_event || ++*seq <= r->had)
        return 0;
    if ((rc = mu_msg_unpack(blob, MU_MSG_event, &e, r->err)))
        return rc;
    rc = mu_store_add_event(r->store,
                            &(struct mu_store_event){.job = e.job,
                                                     .wall = e.wall,
                                                     .attempt = e.attempt,
                                                     .rank = (int32_t)e.rank_plus1 - 1,
                                                     .kind = e.kind,
                                                     .node = e.node,
                                                     .detail = e.detail},
                            r->err);
    mu_msg_free_body(MU_MSG_event, &e);
    return rc;
}

static int take(void *arg, uint64_t from, uint64_t to, const struct mu_bytes *blobs, uint32_t n)
{
    struct replay *r = arg;
    uint64_t seq = to;
    int rc = 0;

    if (to < r->had)
        return 0;
    for (uint32_t i = 0; i < n; i++)
        seq -= blobs[i].len > 2 && blobs[i].data[0] == MU_MSG_event && !blobs[i].data[1];
    r->gap = r->gap || from > r->reached;
    for (uint32_t i = 0; !rc && i < n; i++)
        rc = put_back(r, &seq, &blobs[i]);
    r->reached = to;
    return rc;
}

/* What journals have that the store has not: rows are whole, so they are put in their order, and the last one holds.
 * It begins with the last journal that is not younger than the store. */
static int replay(struct mu_backup_open *o, struct mu_store *s, struct mu_err *err)
{
    struct replay r = {.store = s, .had = mu_store_seq(s), .reached = mu_store_seq(s), .err = err};
    mu_auto_free uint64_t *v = NULL;
    struct mu_journal_head head;
    char path[PATH_MAX];
    int n = mu_backup_list(o->state, true, &v, err), first = 0, rc = n < 0 ? n : 0;

    for (int i = 0; i < n; i++)
        if (!mu_backup_path(path, sizeof path, o->state, v[i], "log", NULL) &&
            !mu_journal_read(path, &head, NULL, NULL, NULL) && head.seq <= r.had)
            first = i;
    for (int i = first; i < n; i++)
        if (!mu_backup_path(path, sizeof path, o->state, v[i], "log", NULL))
            mu_journal_read(path, NULL, find_end, &r, NULL);
    if (rc || r.end <= r.had)
        return rc;
    rc = mu_store_begin(s, err);
    for (int i = first; !rc && i < n; i++) {
        struct mu_err why = {0};
        if (mu_backup_path(path, sizeof path, o->state, v[i], "log", err))
            continue;
        rc = mu_journal_read(path, NULL, take, &r, &why);
        r.gap = r.gap || rc == MUSTER_ECORRUPT || rc == MUSTER_EIO;
        if (rc && rc != MUSTER_ECORRUPT && rc != MUSTER_EIO)
            return mu_err_prefix(err, "%s", why.text);
        rc = 0;
    }
    rc = rc ? rc : mu_store_commit(s, err);
    if (rc)
        return rc;
    o->restored = true;
    o->lossy = o->lossy || r.gap;
    say(o, "%s%llu changes were taken from the journal%s", o->said[0] ? "; " : "",
        (unsigned long long)(mu_store_seq(s) - r.had), r.gap ? ", in which some are missing" : "");
    return 0;
}

/* --- the file ---------------------------------------------------------------------------------------------------- */

static int move_aside(struct mu_backup_open *o, const char *file, struct mu_err *err)
{
    static const char *const parts[] = {"", "-wal"};
    char from[PATH_MAX + 8], to[PATH_MAX + 40];
    struct stat st;
    unsigned n = 1;

    do
        snprintf(to, sizeof to, "%s.lost-%u", file, n);
    while (lstat(to, &st) == 0 && ++n < 100000);
    for (size_t i = 0; i < MU_COUNT(parts); i++) {
        snprintf(from, sizeof from, "%s%s", file, parts[i]);
        snprintf(to, sizeof to, "%s.lost-%u%s", file, n, parts[i]);
        if (rename(from, to) == 0 && !i)
            say(o, "%s is now %s; ", file, strrchr(to, '/') + 1);
        else if (access(from, F_OK) == 0)
            return mu_err_errno(err, MUSTER_EIO, "%s cannot be moved aside", from);
    }
    return 0;
}

static int sync_of(const char *path, int flags)
{
    mu_auto_fd int fd = open(path, flags | O_CLOEXEC);

    return fd < 0 || fsync(fd) ? -1 : 0;
}

static int put_in_place(const char *state, const char *copy, const char *file, struct mu_err *err)
{
    static char block[1 << 16];
    char part[PATH_MAX + 8];
    ssize_t n = 0;

    snprintf(part, sizeof part, "%s.new", file);
    mu_auto_fd int in = open(copy, O_RDONLY | O_CLOEXEC), out = -1;
    out = open(part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    bool bad = in < 0 || out < 0;
    while (!bad && (n = read(in, block, sizeof block)) > 0)
        bad = write(out, block, (size_t)n) != n;
    if (bad || n < 0 || fsync(out) || rename(part, file) || sync_of(state, O_RDONLY | O_DIRECTORY)) {
        mu_err_errno(err, MUSTER_EIO, "%s cannot be put in the place of %s", copy, file);
        unlink(part);
        return err ? err->code : MUSTER_EIO;
    }
    return 0;
}

/* ENOCKPT: there is nothing. */
static int restore(struct mu_backup_open *o, const char *file, struct mu_err *err)
{
    mu_auto_free uint64_t *dbs = NULL, *logs = NULL;
    char path[PATH_MAX];
    struct mu_store_facts facts;
    struct mu_journal_head head;
    struct mu_err why;
    struct stat st;
    uint64_t base = 0;
    bool first = false;
    int n = mu_backup_list(o->state, false, &dbs, err), nlogs = mu_backup_list(o->state, true, &logs, err), rc;

    if (n < 0 || nlogs < 0)
        return n < 0 ? n : nlogs;
    for (int i = n; !base && i-- > 0;) {
        if (o->copy && dbs[i] != o->copy)
            continue;
        if ((rc = mu_backup_path(path, sizeof path, o->state, dbs[i], "db", err)))
            return rc;
        if (mu_store_verify(path, &facts, &why))
            say(o, "%s; ", why.text);
        else
            base = dbs[i];
    }
    if (o->copy && !base)
        return mu_err_set(err, MUSTER_EARG, "%sthere is no good copy %llu in %s/backup; `muster store` lists them",
                          o->said, (unsigned long long)o->copy, o->state);
    for (int i = 0; !base && i < nlogs && !first; i++)
        first = !mu_backup_path(path, sizeof path, o->state, logs[i], "log", NULL) &&
                !mu_journal_read(path, &head, NULL, NULL, NULL) && head.first;
    if (!base && !first)
        return MUSTER_ENOCKPT;
    if ((rc = move_aside(o, file, err)))
        return rc;
    if (!base) {
        say(o, "it is made anew from its journal");
        return 0;
    }
    if ((rc = mu_backup_path(path, sizeof path, o->state, base, "db", err)) ||
        (rc = put_in_place(o->state, path, file, err)))
        return rc;
    char when[40] = "?";
    struct tm tm;
    if (stat(path, &st) == 0 && localtime_r(&st.st_mtime, &tm))
        strftime(when, sizeof when, "%Y-%m-%d %H:%M:%S", &tm);
    say(o, "copy %llu of %s takes its place", (unsigned long long)base, when);
    return 0;
}

static int no_row(void *arg, const struct mu_m_jobrow *row)
{
    (void)arg, (void)row;
    return 0;
}

/* What a controller would not take up is damage, too. */
static int open_whole(const char *file, struct mu_store **out, struct mu_err *err)
{
    int rc = mu_store_open(file, out, err);

    if (!rc && (rc = mu_store_load(*out, no_row, NULL, err)))
        mu_store_close(MU_STEAL(*out, NULL));
    return rc;
}

bool mu_backup_any(const char *state)
{
    uint64_t *v;
    int n = mu_backup_list(state, true, &v, NULL);

    free(v);
    if (n > 0)
        return true;
    n = mu_backup_list(state, false, &v, NULL);
    free(v);
    return n > 0;
}

int mu_backup_open(struct mu_backup_open *o, struct mu_store **out, struct mu_err *err)
{
    char file[PATH_MAX];
    struct mu_store *s = NULL;
    struct mu_err why = {0};
    struct mu_store_past past;
    struct stat st;
    int rc = mu_path_join(file, sizeof file, o->state, "jobs.db", err);

    if (rc)
        return rc;
    bool gone = lstat(file, &st) ? errno == ENOENT : S_ISREG(st.st_mode) && st.st_size == 0, lost = gone;
    o->said[0] = '\0';
    o->restored = o->lossy = false;
    if (!gone && !o->force)
        rc = open_whole(file, &s, &why);
    if (rc && rc != MUSTER_ECORRUPT) {
        if (err)
            *err = why;
        return rc;
    }
    if (rc || gone || o->force) {
        int got = 0;
        lost = true;
        if (rc)
            say(o, "job store %s is damaged; ", file);
        else if (gone && mu_backup_any(o->state))
            say(o, "job store %s is missing; ", file);
        got = restore(o, file, err);
        if (got == MUSTER_ENOCKPT && o->force)
            return mu_err_set(err, MUSTER_EARG, "%sthere is nothing in %s/backup to make the store of", o->said,
                              o->state);
        if (got == MUSTER_ENOCKPT && rc) { /* nothing is repaired or thrown away */
            if (err)
                *err = why;
            return rc;
        }
        if (got && got != MUSTER_ENOCKPT)
            return got;
        if (got)
            o->said[0] = '\0';
        o->restored = !got;
        if ((rc = open_whole(file, &s, err)))
            return rc;
    }
    if ((rc = replay(o, s, err))) {
        mu_store_close(s);
        return rc;
    }
    mu_store_look_back(s, &past);
    o->lossy = o->lossy || past.lost || (lost && !o->restored);
    *out = s;
    return 0;
}
