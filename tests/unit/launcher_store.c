/* The job store: what was committed stays, what is damaged is named, what does not fit is refused. */
#include <fcntl.h>
#include <signal.h>
#include <sqlite3.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "launcher/store.h"
#include "runtime/base/clean.h"
#include "runtime/base/clock.h"
#include "runtime/base/path.h"
#include "runtime/wire/core.h"
#include "tests/unit/tap.h"

static char dir[] = "/tmp/muster-test-store-XXXXXX";
static char file[PATH_MAX];

static const char *named(const char *name)
{
    snprintf(file, sizeof file, "%s/%s", dir, name);
    return file;
}

static int put(struct mu_store *s, uint64_t id, unsigned state, const char *token, struct mu_err *err)
{
    char name[40], text[200];
    struct mu_m_jobrow row = {.id = id, .state = state, .name = name, .reason = text, .exit_code = -7};

    snprintf(name, sizeof name, "job-%llu", (unsigned long long)id);
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = 0;
    row.token = (char *)(uintptr_t)token;
    return mu_store_put_job(s, &row, err);
}

static int put_one(struct mu_store *s, uint64_t id, unsigned state, struct mu_err *err)
{
    char token[40];
    struct mu_store_event e = {
        .job = id, .wall = 1000 + id, .kind = "submitted", .rank = -1, .detail = "detail", .attempt = 1};

    snprintf(token, sizeof token, "token-%llu", (unsigned long long)id);
    int rc = mu_store_begin(s, err);
    if (!rc)
        rc = put(s, id, state, token, err);
    if (!rc)
        rc = mu_store_add_event(s, &e, err);
    return rc ? rc : mu_store_commit(s, err);
}

struct list {
    uint64_t ids[20000], last;
    unsigned n;
    bool wrong;
};

static int collect(void *arg, const struct mu_m_jobrow *row)
{
    struct list *l = arg;
    char name[40];

    snprintf(name, sizeof name, "job-%llu", (unsigned long long)row->id);
    l->wrong = l->wrong || !row->name || strcmp(name, row->name) || row->id <= l->last || row->exit_code != -7 ||
               !row->reason || strspn(row->reason, "x") != 199;
    l->last = row->id;
    if (l->n < MU_COUNT(l->ids))
        l->ids[l->n++] = row->id;
    return 0;
}

static unsigned events_seen;
static uint64_t last_event_wall;
static int count_event(void *arg, const struct mu_store_event *e)
{
    bool *wrong = arg;

    *wrong = *wrong || strcmp(e->kind, "submitted") || e->rank != -1 || e->attempt != 1 || e->node ||
             strcmp(e->detail, "detail");
    last_event_wall = e->wall;
    events_seen++;
    return 0;
}

static void reopening(void)
{
    struct mu_store *s = NULL, *other = NULL;
    static struct list l;
    struct mu_err err = {0};
    struct mu_m_jobrow row = {0};
    uint64_t last = 99;
    bool wrong = false;

    TAP_OK(!mu_store_open(named("a.db"), &s, &err), "a new store");
    TAP_OK(!mu_store_last_id(s, &last, &err) && last == 0, "has no job");
    bool good = true;
    for (uint64_t id = 1; id <= 40; id++)
        good = good && !put_one(s, id, id % 2 ? MU_JOB_RUNNING : MU_JOB_COMPLETED, &err);
    TAP_OK(good, "forty jobs");
    TAP_OK(!put_one(s, 7, MU_JOB_FAILED, &err), "one of them again");
    TAP_OK(mu_store_open(file, &other, &err) == MUSTER_EJOB && strstr(err.text, file) && !other,
           "a second opener is refused: %s", err.text);
    pid_t pid = fork();
    if (!pid)
        _exit(mu_store_open(file, &other, NULL) == MUSTER_EJOB ? 0 : 1);
    int status = -1;
    waitpid(pid, &status, 0);
    TAP_OK(status == 0, "so is one in another process");
    mu_store_close(s);

    s = NULL;
    TAP_OK(!mu_store_open(file, &s, &err) && !mu_store_last_id(s, &last, &err) && last == 40, "opened again");
    TAP_OK(!mu_store_load(s, collect, &l, &err) && l.n == 40 && !l.wrong, "every row, in the order of ids");
    TAP_OK(!mu_store_job(s, 7, &row, &err) && row.state == MU_JOB_FAILED, "the newer row counts");
    mu_msg_free_body(MU_MSG_jobrow, &row);
    TAP_OK(mu_store_job(s, 41, &row, &err) == MUSTER_EJOB, "%s", err.text);
    TAP_OK(!mu_store_events(s, 0, 1000, count_event, &wrong, &err) && events_seen == 41, "all events");
    last_event_wall = events_seen = 0;
    TAP_OK(!mu_store_events(s, 7, 1000, count_event, &wrong, &err) && events_seen == 2 && !wrong, "events of a job");
    last_event_wall = events_seen = 0;
    TAP_OK(!mu_store_events(s, 0, 5, count_event, &wrong, &err) && events_seen == 5 && last_event_wall == 1007,
           "the newest few");

    TAP_OK(!mu_store_begin(s, &err) && !put(s, 50, MU_JOB_QUEUED, "t", &err), "a change");
    mu_store_rollback(s);
    TAP_OK(mu_store_job(s, 50, &row, &err) == MUSTER_EJOB, "that is taken back is not there");
    TAP_OK(!mu_store_begin(s, &err) && !put(s, 51, MU_JOB_QUEUED, "token-3", &err) && !mu_store_commit(s, &err) &&
               !mu_store_job(s, 51, &row, &err) && !strcmp(row.token, "token-3"),
           "a token that an old job has does no harm");
    mu_msg_free_body(MU_MSG_jobrow, &row);
    mu_store_close(s);
    mu_store_close(NULL);
}

static uint64_t dropped_ids;
static void dropped(void *arg, uint64_t id)
{
    (void)arg;
    dropped_ids += id;
}

static bool is_seven(void *arg, uint64_t id)
{
    (void)arg;
    return id == 7;
}

static void pruning(void)
{
    struct mu_store *s = NULL;
    static struct list l;
    struct mu_err err = {0};
    bool good = true, wrong = false;

    TAP_OK(!mu_store_open(named("p.db"), &s, &err), "another store");
    good = !mu_store_begin(s, &err);
    for (uint64_t id = 1; id <= 1200 && good; id++) {
        char token[40];
        snprintf(token, sizeof token, "t%llu", (unsigned long long)id);
        good = !put(s, id, id == 1 ? MU_JOB_RUNNING : MU_JOB_COMPLETED, token, &err);
        struct mu_store_event e = {
            .job = id, .wall = id, .kind = "submitted", .rank = -1, .attempt = 1, .detail = "detail"};
        for (int k = 0; k < (id == 1 ? 30 : 1); k++)
            good = good && !mu_store_add_event(s, &e, &err);
    }
    TAP_OK(good && !mu_store_commit(s, &err), "1200 jobs, one of them alive");
    TAP_OK(!mu_store_load(s, collect, &l, &err) && l.n == MU_STORE_LIVE_MAX + 1 && l.ids[0] == 1 && l.ids[1] == 201,
           "the living one and the latest thousand are loaded");
    TAP_OK(!mu_store_prune(s, 1100, 10, is_seven, dropped, NULL, &err) && dropped_ids == (2 + 100) * 99 / 2 - 7,
           "the 99 oldest ended ones go, but for one that is needed");
    struct mu_m_jobrow row;
    TAP_OK(!mu_store_job(s, 1, &row, &err) && row.state == MU_JOB_RUNNING, "the living one stays");
    mu_msg_free_body(MU_MSG_jobrow, &row);
    last_event_wall = events_seen = 0;
    TAP_OK(!mu_store_events(s, 1, 100, count_event, &wrong, &err) && events_seen == 10, "with its newest events");
    last_event_wall = events_seen = 0;
    TAP_OK(!mu_store_events(s, 50, 100, count_event, &wrong, &err) && events_seen == 0, "the events go with their job");
    mu_store_close(s);
}

static void full_disk(void)
{
    struct mu_store *s = NULL;
    static struct list l;
    struct mu_err err = {0};
    int rc = 0;
    uint64_t id = 0;

    TAP_OK(!mu_store_open(named("f.db"), &s, &err) && !put_one(s, 1, MU_JOB_RUNNING, &err), "a store");
    mu_store_limit_pages(s, 12);
    for (id = 2; id < 2000 && !rc; id++)
        rc = put_one(s, id, MU_JOB_RUNNING, &err);
    TAP_OK(rc == MUSTER_ENOSPC && strstr(err.text, file), "it fills up: %s", err.text);
    TAP_OK(put_one(s, id, MU_JOB_RUNNING, &err) == MUSTER_ENOSPC, "and stays full");
    mu_store_limit_pages(s, 0);
    TAP_OK(!put_one(s, id, MU_JOB_RUNNING, &err), "with room it goes on");
    mu_store_close(s);
    s = NULL;
    TAP_OK(!mu_store_open(file, &s, &err) && !mu_store_load(s, collect, &l, &err) && !l.wrong && l.n == id - 1,
           "nothing that was committed is lost, nothing else is there (%u)", l.n);
    mu_store_close(s);
}

static void set_pragma(const char *path, const char *sql)
{
    sqlite3 *db;

    if (sqlite3_open(path, &db) || sqlite3_exec(db, sql, NULL, NULL, NULL))
        exit(99);
    sqlite3_close(db);
}

static void write_file(const char *path, const void *data, size_t n)
{
    mu_auto_fd int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    if (fd < 0 || write(fd, data, n) != (ssize_t)n)
        exit(99);
}

static void refused(const char *path, int want, const char *what)
{
    struct mu_store *s = NULL;
    struct mu_err err = {0};
    int rc = mu_store_open(path, &s, &err);

    TAP_OK(rc == want && !s && strstr(err.text, path), "%s: %s", what, err.text);
    mu_store_close(s);
}

static void not_ours(void)
{
    struct mu_store *s = NULL;
    struct mu_err err = {0};
    char path[PATH_MAX];

    write_file(named("text.db"), "dear diary, this is no database at all, only a text of some length\n", 67);
    refused(file, MUSTER_ECORRUPT, "a text file");
    write_file(named("short.db"), "SQL", 3);
    refused(file, MUSTER_ECORRUPT, "three bytes");
    write_file(named("head.db"), "SQLite format 3\0garbage garbage garbage", 39);
    refused(file, MUSTER_ECORRUPT, "a header and then garbage");
    mkdir(named("dir.db"), 0700);
    refused(file, MUSTER_EIO, "a directory");
    if (symlink("a.db", named("link.db")))
        exit(99);
    refused(file, MUSTER_EIO, "a symbolic link");
    refused(named("no/such.db"), MUSTER_EIO, "no directory");
    mkfifo(named("fifo.db"), 0600);
    refused(file, MUSTER_ECORRUPT, "a pipe");

    write_file(named("empty.db"), "", 0);
    TAP_OK(!mu_store_open(file, &s, &err), "an empty file is a new store");
    mu_store_close(s);
    snprintf(path, sizeof path, "%s", file);
    set_pragma(path, "PRAGMA user_version = 2");
    refused(path, MUSTER_EVERSION, "a newer version");
    set_pragma(path, "PRAGMA user_version = 0");
    refused(path, MUSTER_ECORRUPT, "version 0 with tables");
    set_pragma(path, "PRAGMA user_version = 1; DROP TABLE events");
    refused(path, MUSTER_ECORRUPT, "a table is missing");
    set_pragma(path, "PRAGMA application_id = 42");
    refused(path, MUSTER_ECORRUPT, "another program's database");

    if (geteuid() == 0) {
        pid_t pid = fork();
        if (!pid) { /* root may write everything */
            if (chmod(dir, 0755) || chmod(named("a.db"), 0444) || setresuid(65534, 65534, 65534))
                _exit(9);
            _exit(mu_store_open(file, &s, NULL) == MUSTER_EIO ? 0 : 1);
        }
        int status = -1;
        waitpid(pid, &status, 0);
        TAP_OK(status == 0, "a store that cannot be written");
    } else {
        chmod(named("a.db"), 0444);
        refused(file, MUSTER_EIO, "a store that cannot be written");
    }
}

/* Damage anywhere: a clear refusal, at the opening or at the reading, or the rows are all there and right. */
static void damage(void)
{
    struct mu_store *s = NULL;
    struct mu_err err = {0};
    mu_auto_buf struct mu_buf good = {0};
    unsigned refusals = 0, intact = 0, bad = 0;

    mu_store_open(named("d.db"), &s, &err);
    for (uint64_t id = 1; id <= 60; id++)
        put_one(s, id, id % 3 ? MU_JOB_COMPLETED : MU_JOB_QUEUED, &err);
    mu_store_close(s);
    if (mu_path_read(file, 1 << 22, &good, &err))
        exit(99);
    for (unsigned i = 0; i < 300; i++) {
        static struct list l;
        mu_auto_buf struct mu_buf copy = {0};
        mu_buf_append(&copy, good.data, good.len);
        size_t at = (size_t)i * good.len / 300, n = i % 3 ? 1 : 40;
        for (size_t k = at; k < at + n && k < copy.len; k++)
            copy.data[k] = (char)(copy.data[k] ^ (i % 2 ? 0xff : 0x11));
        if (i % 10 == 9)
            copy.len = at; /* cut off instead */
        if (i % 10 == 9 && !at)
            continue;
        write_file(named("dd.db"), copy.data, copy.len);
        unlink(named("dd.db-wal"));
        memset(&l, 0, sizeof l);
        s = NULL;
        err.text[0] = 0;
        int rc = mu_store_open(named("dd.db"), &s, &err);
        if (!rc)
            rc = mu_store_load(s, collect, &l, &err);
        if (rc && strstr(err.text, "dd.db") && (rc == MUSTER_ECORRUPT || rc == MUSTER_EVERSION || rc == MUSTER_EIO))
            refusals++;
        else if (!rc && l.n == 60 && !l.wrong)
            intact++;
        else {
            printf("# byte %zu: %d %s, %u rows\n", at, rc, err.text, l.n);
            bad++;
        }
        mu_store_close(s);
    }
    TAP_OK(!bad && refusals > 20 && intact > 20, "300 damaged copies: %u refused, %u intact, %u wrong", refusals,
           intact, bad);
}

/* kill -9 in the middle of writing, again and again: what was acknowledged is there. */
static void crashes(void)
{
    struct mu_err err = {0};
    uint64_t acked = 0, rounds = 0, lost = 0;

    named("c.db");
    for (; rounds < 12; rounds++) {
        int fds[2];
        if (pipe(fds))
            exit(99);
        pid_t pid = fork();
        if (!pid) {
            struct mu_store *s = NULL;
            uint64_t id = 0;
            if (mu_store_open(file, &s, NULL) || mu_store_last_id(s, &id, NULL))
                _exit(1);
            while (!put_one(s, ++id, MU_JOB_QUEUED, NULL))
                if (write(fds[1], &id, sizeof id) != sizeof id)
                    _exit(2);
            _exit(3);
        }
        close(fds[1]);
        nanosleep(&(struct timespec){.tv_nsec = (long)(20 + rounds * 7) * 1000000}, NULL);
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
        uint64_t id;
        while (read(fds[0], &id, sizeof id) == sizeof id)
            acked = id;
        close(fds[0]);
        static struct list l;
        struct mu_store *s = NULL;
        memset(&l, 0, sizeof l);
        if (mu_store_open(file, &s, &err) || mu_store_load(s, collect, &l, &err) || l.wrong || l.n < acked ||
            l.n > acked + 1 + rounds) {
            printf("# %s: %u rows of %llu\n", err.text, l.n, (unsigned long long)acked);
            lost++;
        }
        mu_store_close(s);
    }
    TAP_OK(acked > 20 && !lost, "killed %llu times while writing, %llu jobs acknowledged, none lost",
           (unsigned long long)rounds, (unsigned long long)acked);
}

static void moved(void)
{
    char place[300], aside[320];
    struct mu_store *s;
    struct mu_err err;

    snprintf(place, sizeof place, "%s/moved.db", dir);
    snprintf(aside, sizeof aside, "%s.aside", place);
    if (mu_store_open(place, &s, &err))
        exit(99);
    TAP_OK(rename(place, aside) == 0 && mu_store_begin(s, &err) == MUSTER_ECORRUPT && strstr(err.text, "put it back"),
           "a store that was moved away takes nothing (%s)", err.text);
    FILE *other = fopen(place, "w");
    TAP_OK(other && fclose(other) == 0 && mu_store_begin(s, &err) == MUSTER_ECORRUPT,
           "nor with another file in its place");
    TAP_OK(rename(aside, place) == 0 && !mu_store_begin(s, &err) && !put(s, 1, MU_JOB_QUEUED, "t", &err) &&
               !mu_store_commit(s, &err),
           "put back, it does");
    mu_store_close(s);
}

/* A writer that dies leaves a -wal file; what becomes of the store without that is what damage makes of it. */
static void set_back(void)
{
    struct mu_store *s = NULL;
    struct mu_store_past past;
    struct mu_err err = {0};
    char wal[sizeof file + 8], mark[sizeof file + 8];
    uint64_t last = 0;

    snprintf(wal, sizeof wal, "%s-wal", named("back.db"));
    snprintf(mark, sizeof mark, "%s-mark", file);
    bool good = !mu_store_open(file, &s, &err) && !put_one(s, 1, MU_JOB_COMPLETED, &err);
    mu_store_close(s);
    pid_t pid = fork();
    if (!pid) {
        if (mu_store_open(file, &s, NULL))
            _exit(1);
        mu_store_look_back(s, &past);
        if (past.lost || past.newest != 1)
            _exit(2);
        for (uint64_t id = 2; id <= 6; id++)
            if (put_one(s, id, MU_JOB_COMPLETED, NULL))
                _exit(3);
        if (mu_store_begin(s, NULL) || put(s, 9, MU_JOB_QUEUED, "t", NULL))
            _exit(4);
        _exit(0); /* 9 is not committed */
    }
    int status = -1;
    waitpid(pid, &status, 0);
    TAP_OK(good && status == 0 && !access(wal, F_OK) && !access(mark, F_OK), "a writer dies without closing");
    unlink(wal);
    s = NULL;
    good = !mu_store_open(file, &s, &err) && !mu_store_last_id(s, &last, &err);
    mu_store_look_back(s, &past);
    TAP_OK(good && last == 6 && past.newest == 1 && past.lost == 5,
           "its -wal file lost: number %llu was given, job %llu is there, %llu events are lost",
           (unsigned long long)last, (unsigned long long)past.newest, (unsigned long long)past.lost);
    good = !put_one(s, 7, MU_JOB_COMPLETED, &err);
    mu_store_close(s);
    s = NULL;
    good = good && !mu_store_open(file, &s, &err);
    mu_store_look_back(s, &past);
    TAP_OK(good && !past.lost && past.newest == 7, "told until there is something new");
    mu_store_close(s);
    FILE *f = fopen(mark, "r+");
    good = f && !fseek(f, 20, SEEK_SET) && fputc('9', f) == '9' && !fclose(f);
    s = NULL;
    TAP_OK(good && !mu_store_open(file, &s, &err) && !mu_store_last_id(s, &last, &err) && last == 7,
           "a damaged mark says nothing");
    mu_store_close(s);
    s = NULL;
    TAP_OK(!unlink(mark) && !mkdir(mark, 0700) && !mu_store_open(file, &s, &err) &&
               !put_one(s, 8, MU_JOB_COMPLETED, &err),
           "nor does it matter that there can be none");
    mu_store_close(s);
}

int main(void)
{
    if (!mkdtemp(dir))
        return 99;
    reopening();
    pruning();
    full_disk();
    not_ours();
    damage();
    crashes();
    moved();
    set_back();
    mu_path_remove_tree(dir, NULL);
    return tap_done();
}
