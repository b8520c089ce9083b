#include "launcher/backup.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "launcher/journal.h"
#include "runtime/base/clean.h"
#include "runtime/base/clock.h"
#include "runtime/base/log.h"
#include "runtime/base/path.h"
#include "runtime/base/str.h"
#include "runtime/wire/daemon.h"

#define LOOK_EVERY (2 * MU_SEC) /* at the store's file */
#define STEP_EVERY (2 * MU_MS)
#define SEAL_EVERY (20 * MU_MS)
#define RETRY (60 * MU_SEC)
#define SOON MU_SEC
#define JOURNAL_MAX (16u << 20) /* a longer one asks for the next copy */

/* Reads the copy and waits for the disk: in a thread, as both may take seconds. */
struct seal {
    pthread_t thread;
    atomic_bool done;
    char part[PATH_MAX], path[PATH_MAX], dir[PATH_MAX];
    int rc;
    struct mu_err err;
};

struct mu_backup {
    struct mu_backup_config cfg;
    char state[PATH_MAX];
    struct mu_alarm *alarm;
    struct mu_journal *journal;
    uint64_t number; /* the highest that was given */
    uint64_t logged; /* the journal's */
    uint64_t due;
    struct mu_store_copy *copy; /* of `number` */
    struct seal *seal;
    bool hurt;
    struct mu_backup_status status;
};

static int path_of(const struct mu_backup *b, char out[PATH_MAX], uint64_t number, const char *suffix,
                   struct mu_err *err)
{
    return mu_backup_path(out, PATH_MAX, b->state, number, suffix, err);
}

/* --- putting a copy in its place --------------------------------------------------------------------------------- */

static int sync_path(const char *path, int flags, struct mu_err *err)
{
    mu_auto_fd int fd = open(path, flags | O_CLOEXEC);

    return fd < 0 || fsync(fd) ? mu_err_errno(err, 0, "%s", path) : 0;
}

static void *run_seal(void *arg)
{
    struct seal *s = arg;

    s->rc = mu_store_verify(s->part, NULL, &s->err);
    if (!s->rc)
        s->rc = sync_path(s->part, O_RDONLY, &s->err);
    if (!s->rc && rename(s->part, s->path))
        s->rc = mu_err_errno(&s->err, 0, "%s", s->path);
    if (!s->rc)
        s->rc = sync_path(s->dir, O_RDONLY | O_DIRECTORY, &s->err);
    atomic_store(&s->done, true);
    return NULL;
}

static struct seal *begin_seal(struct mu_backup *b, struct mu_err *err)
{
    struct seal *s = calloc(1, sizeof *s);
    int rc;

    if (!s) {
        mu_err_set(err, MUSTER_ENOMEM, "out of memory");
        return NULL;
    }
    rc = path_of(b, s->part, b->number, "db.new", err);
    rc = rc ? rc : path_of(b, s->path, b->number, "db", err);
    rc = rc ? rc : path_of(b, s->dir, 0, "", err);
    if (!rc && pthread_create(&s->thread, NULL, run_seal, s))
        rc = mu_err_set(err, MUSTER_ENOMEM, "no thread can be started");
    if (!rc)
        return s;
    free(s);
    return NULL;
}

/* --- one copy ---------------------------------------------------------------------------------------------------- */

static void failed(struct mu_backup *b, const struct mu_err *err)
{
    char part[PATH_MAX];

    mu_store_copy_end(MU_STEAL(b->copy, NULL));
    if (!path_of(b, part, b->number, "db.new", NULL))
        unlink(part);
    if (!b->status.failures++ || strcmp(b->status.why, err->text))
        mu_log(MU_LOG_WARN, "store", "no copy of the job store could be made: %s; it is tried again each minute",
               err->text);
    mu_str_copy(b->status.why, sizeof b->status.why, err->text);
    b->due = mu_now() + RETRY;
}

static void begin_copy(struct mu_backup *b)
{
    char part[PATH_MAX];
    struct mu_err err = {0};

    b->number++;
    int rc = path_of(b, part, 0, "", &err);
    /* somebody may have removed it; what it lies in may have been moved, and is not to be made */
    if (!rc && mkdir(part, 0700) && errno != EEXIST)
        rc = mu_err_errno(&err, MUSTER_EIO, "make %s", part);
    if (rc || path_of(b, part, b->number, "db.new", &err) || mu_store_copy_begin(b->cfg.store, part, &b->copy, &err))
        failed(b, &err);
}

/* Commits go to the journal that follows the copy, from this moment on. */
static int next_journal(struct mu_backup *b, bool first, struct mu_err *err)
{
    struct mu_journal *j;
    char path[PATH_MAX];
    int rc = path_of(b, path, b->number, "log", err);

    if (!rc)
        rc = mu_journal_create(path, &(struct mu_journal_head){.seq = mu_store_seq(b->cfg.store), .first = first}, &j,
                               err);
    if (rc)
        return rc;
    mu_store_keep_journal(b->cfg.store, j);
    mu_journal_close(b->journal);
    b->journal = j;
    b->logged = b->number;
    return 0;
}

static void step_copy(struct mu_backup *b)
{
    struct mu_err err = {0};
    int rc = mu_store_copy_step(b->copy, &err);

    if (rc > 0)
        return;
    if (!rc)
        rc = next_journal(b, false, &err);
    if (!rc) {
        mu_store_copy_end(MU_STEAL(b->copy, NULL));
        b->seal = begin_seal(b, &err);
        rc = b->seal ? 0 : MUSTER_ENOMEM;
    }
    if (rc)
        failed(b, &err);
}

/* Copies beyond `keep`, and journals that are older than the oldest that stays: if the others are damaged it and all
 * journals since are enough. Until there are so many copies the journals begin with the store. */
static void prune(struct mu_backup *b)
{
    mu_auto_free uint64_t *dbs = NULL, *logs = NULL;
    int n = mu_backup_list(b->state, false, &dbs, NULL), nlogs = mu_backup_list(b->state, true, &logs, NULL);
    int keep = (int)(b->cfg.keep ? b->cfg.keep : 1);
    char path[PATH_MAX];

    for (int i = 0; i < n - keep; i++)
        if (!path_of(b, path, dbs[i], "db", NULL))
            unlink(path);
    for (int i = 0; n >= keep && i < nlogs; i++)
        if (logs[i] < dbs[n - keep] && !path_of(b, path, logs[i], "log", NULL))
            unlink(path);
}

static void is_hurt(struct mu_backup *b, const char *why)
{
    if (b->hurt)
        return;
    b->hurt = true;
    if (b->cfg.hurt)
        b->cfg.hurt(b->cfg.arg, why);
}

static void end_seal(struct mu_backup *b)
{
    struct seal *s = MU_STEAL(b->seal, NULL);
    char text[600];

    pthread_join(s->thread, NULL);
    if (s->rc) {
        failed(b, &s->err);
        if (s->rc == MUSTER_ECORRUPT) { /* it was copied page by page */
            snprintf(text, sizeof text, "the job store is damaged, as a copy of it shows: %.400s", s->err.text);
            is_hurt(b, text);
        }
    } else {
        b->status.newest = b->number;
        b->status.newest_wall = mu_wall();
        b->status.why[0] = '\0';
        b->due = b->cfg.every_ns ? mu_now() + b->cfg.every_ns : UINT64_MAX;
        mu_log(MU_LOG_DEBUG, "store", "copy %llu of the job store is made", (unsigned long long)b->number);
        prune(b);
    }
    free(s);
}

static bool wants_copy(const struct mu_backup *b)
{
    char path[PATH_MAX];

    return b->journal && (mu_journal_holed(b->journal) || mu_journal_size(b->journal) > JOURNAL_MAX ||
                          (!path_of(b, path, b->logged, "log", NULL) && !mu_journal_at(b->journal, path)));
}

static void on_alarm(void *arg)
{
    struct mu_backup *b = arg;
    uint64_t now = mu_now();
    struct mu_err err;

    if (b->seal && atomic_load(&b->seal->done))
        end_seal(b);
    else if (b->copy)
        step_copy(b);
    else if (!b->seal && (now >= b->due || (wants_copy(b) && !b->status.why[0])))
        begin_copy(b);
    if (!b->hurt && mu_store_removed(b->cfg.store))
        is_hurt(b, "the job store was removed");
    else if (!b->hurt && mu_store_hurt(b->cfg.store, &err))
        is_hurt(b, err.text);
    uint64_t next = now + LOOK_EVERY < b->due ? now + LOOK_EVERY : b->due > now ? b->due : now + LOOK_EVERY;
    mu_alarm_set(b->alarm, b->copy ? now + STEP_EVERY : b->seal ? now + SEAL_EVERY : next);
}

uint64_t mu_backup_now(struct mu_backup *b)
{
    if (!b->copy && !b->seal)
        begin_copy(b);
    mu_alarm_set(b->alarm, mu_now() + STEP_EVERY);
    return b->number;
}

void mu_backup_status(const struct mu_backup *b, struct mu_backup_status *out)
{
    *out = b->status;
    out->running = b->copy || b->seal;
    out->every_ns = b->cfg.every_ns;
}

char *mu_backup_tell(struct mu_backup *b, bool begin)
{
    uint64_t number = begin ? mu_backup_now(b) : b->number;
    json_t *o =
        json_pack("{s:s, s:I, s:b, s:s, s:f}", "schema", "muster.copies/1", "number", (json_int_t)number, "running",
                  b->copy || b->seal, "reason", b->status.why, "every_s", (double)b->cfg.every_ns / 1e9);
    char *text = o ? json_dumps(o, JSON_COMPACT) : NULL;

    json_decref(o);
    return text;
}

/* --- life -------------------------------------------------------------------------------------------------------- */

static uint64_t highest(const uint64_t *v, int n)
{
    return n > 0 ? v[n - 1] : 0;
}

/* What a controller that died has not finished. */
static void sweep(const struct mu_backup *b)
{
    char dir[PATH_MAX], path[PATH_MAX];

    if (path_of(b, dir, 0, "", NULL))
        return;
    mu_auto_dir DIR *d = opendir(dir);
    for (struct dirent *e; d && (e = readdir(d));) {
        const char *dot = strchr(e->d_name, '.');
        if (dot && (!strcmp(dot, ".db.new") || !strcmp(dot, ".db.new-journal")) &&
            !mu_path_join(path, sizeof path, dir, e->d_name, NULL))
            unlink(path);
    }
}

/* The newest journal goes on when it leads to where the store is; otherwise a new one begins, and a copy is needed. */
static int begin(struct mu_backup *b, struct mu_err *err)
{
    mu_auto_free uint64_t *dbs = NULL, *logs = NULL;
    uint64_t last, seq = mu_store_seq(b->cfg.store), now = mu_now();
    struct mu_store_past past;
    char path[PATH_MAX];
    struct stat st;
    int rc = path_of(b, path, 0, "", err);

    if (rc || (rc = mu_path_mkdirs(path, 0700, err)))
        return rc;
    sweep(b);
    int n = mu_backup_list(b->state, false, &dbs, err), nlogs = mu_backup_list(b->state, true, &logs, err);
    if (n < 0 || nlogs < 0)
        return n < 0 ? n : nlogs;
    last = highest(logs, nlogs);
    b->number = highest(dbs, n) > last ? highest(dbs, n) : last;
    b->status.newest = highest(dbs, n);
    b->due = now + (nlogs || n ? b->cfg.every_ns : 0);
    if (b->status.newest && !path_of(b, path, b->status.newest, "db", NULL) && !stat(path, &st)) {
        uint64_t wall = mu_wall();
        b->status.newest_wall = (uint64_t)st.st_mtim.tv_sec * MU_SEC;
        uint64_t age = wall > b->status.newest_wall ? wall - b->status.newest_wall : 0;
        b->due = now + (age < b->cfg.every_ns ? b->cfg.every_ns - age : 0);
    }
    if (last >= b->status.newest && last && !path_of(b, path, last, "log", NULL) &&
        !mu_journal_append(path, &b->journal, NULL)) {
        if (mu_journal_seq(b->journal) == seq) {
            mu_store_keep_journal(b->cfg.store, b->journal);
            b->logged = last;
            return 0;
        }
        mu_journal_close(MU_STEAL(b->journal, NULL));
    }
    mu_store_look_back(b->cfg.store, &past);
    bool first = !seq && !past.newest;
    b->number++;
    b->due = first ? now + b->cfg.every_ns : now + SOON;
    return next_journal(b, first, err);
}

int mu_backup_new(const struct mu_backup_config *cfg, struct mu_backup **out, struct mu_err *err)
{
    struct mu_backup *b = calloc(1, sizeof *b);
    struct mu_err why;

    if (!b || mu_str_copy(b->state, sizeof b->state, cfg->state) ||
        !(b->alarm = mu_alarm_new(cfg->base, on_alarm, b))) {
        free(b);
        return mu_err_set(err, MUSTER_ENOMEM, "out of memory");
    }
    b->cfg = *cfg;
    b->due = UINT64_MAX;
    if (cfg->every_ns && begin(b, &why)) { /* the disk is full, say: the pool works without */
        failed(b, &why);
        b->due = mu_now() + RETRY;
    }
    mu_alarm_set(b->alarm, mu_now() + LOOK_EVERY / 2);
    *out = b;
    return 0;
}

void mu_backup_free(struct mu_backup *b)
{
    char part[PATH_MAX];

    if (!b)
        return;
    mu_alarm_free(b->alarm);
    if (b->copy) {
        mu_store_copy_end(b->copy);
        if (!path_of(b, part, b->number, "db.new", NULL))
            unlink(part);
    }
    if (b->seal) { /* as long as the disk takes */
        pthread_join(b->seal->thread, NULL);
        free(b->seal);
    }
    mu_store_keep_journal(b->cfg.store, NULL);
    mu_journal_close(b->journal);
    free(b);
}
