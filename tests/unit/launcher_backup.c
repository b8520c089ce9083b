/* Copies of a store, its journal, and what is made of them when it is lost. */
#include <event2/event.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "launcher/backup.h"
#include "launcher/journal.h"
#include "runtime/base/clock.h"
#include "runtime/base/path.h"
#include "runtime/wire/core.h"
#include "runtime/wire/daemon.h"
#include "tests/unit/tap.h"

static char dir[] = "/tmp/muster-test-backup-XXXXXX";
static char state[200];
static struct event_base *base;

static const char *in_state(const char *name)
{
    static char path[4][300];
    static unsigned n;

    n = (n + 1) % 4;
    snprintf(path[n], sizeof path[n], "%s/%s", state, name);
    return path[n];
}

static void new_state(const char *name)
{
    snprintf(state, sizeof state, "%s/%s", dir, name);
    if (mkdir(state, 0700))
        exit(99);
}

static int put(struct mu_store *s, uint64_t id, uint32_t attempt)
{
    char token[40], text[] = "more";
    struct mu_m_jobrow row = {.id = id, .state = MU_JOB_RUNNING, .token = token, .attempt = attempt, .reason = text};
    struct mu_store_event e = {.job = id, .wall = id, .kind = "attempt-start", .rank = -1, .attempt = attempt};

    snprintf(token, sizeof token, "token-%llu", (unsigned long long)id);
    return mu_store_begin(s, NULL) || mu_store_put_job(s, &row, NULL) || mu_store_add_event(s, &e, NULL) ||
           mu_store_commit(s, NULL);
}

static unsigned attempt_of(struct mu_store *s, uint64_t id)
{
    struct mu_m_jobrow row;

    if (mu_store_job(s, id, &row, NULL))
        return 0;
    unsigned attempt = row.attempt;
    mu_msg_free_body(MU_MSG_jobrow, &row);
    return attempt;
}

/* --- a journal alone --- */

static int count(void *arg, uint64_t from, uint64_t to, const struct mu_bytes *blobs, uint32_t n)
{
    uint64_t *seen = arg;

    (void)blobs;
    seen[0]++;
    seen[1] += n;
    seen[2] = to;
    seen[3] += from != to - 1;
    return 0;
}

static bool reads(const char *path, uint64_t commits, uint64_t to, uint64_t gaps)
{
    uint64_t seen[4] = {0};
    struct mu_journal_head head;

    return !mu_journal_read(path, &head, count, seen, NULL) && head.seq == 7 && head.first && seen[0] == commits &&
           seen[1] == 2 * commits && seen[2] == to && seen[3] == gaps;
}

static void add(struct mu_journal *j, uint64_t seq)
{
    static uint8_t data[100];

    mu_journal_add(j, &(struct mu_bytes){data, sizeof data});
    mu_journal_add(j, &(struct mu_bytes){data, 3});
    mu_journal_commit(j, seq);
}

static void journal(void)
{
    const struct mu_journal_head head = {.seq = 7, .first = true};
    struct mu_journal *j = NULL;
    struct mu_err err;
    struct stat st;
    struct rlimit limit = {.rlim_cur = 700, .rlim_max = RLIM_INFINITY}, none = {RLIM_INFINITY, RLIM_INFINITY};
    char path[300];

    snprintf(path, sizeof path, "%s/j.log", dir);
    TAP_OK(!mu_journal_create(path, &head, &j, &err), "a journal");
    for (uint64_t seq = 8; seq <= 10; seq++)
        add(j, seq);
    mu_journal_add(j, &(struct mu_bytes){(uint8_t[]){1}, 1});
    mu_journal_drop(j);
    mu_journal_commit(j, 11);
    TAP_OK(reads(path, 3, 10, 0), "has what was committed, not what was rolled back");
    setrlimit(RLIMIT_FSIZE, &limit);
    add(j, 11);
    add(j, 12);
    setrlimit(RLIMIT_FSIZE, &none);
    bool holed = mu_journal_holed(j);
    add(j, 13);
    mu_journal_close(j);
    TAP_OK(holed && reads(path, 5, 13, 1), "what the disk did not take shows as a gap, and the rest goes on");
    if (stat(path, &st) || truncate(path, st.st_size - 5) || mu_journal_append(path, &j, &err))
        exit(99);
    TAP_OK(mu_journal_seq(j) == 11 && reads(path, 4, 11, 0), "one that was cut ends with its last whole commit");
    add(j, 12);
    mu_journal_close(j);
    TAP_OK(reads(path, 5, 12, 0), "and goes on from there");
    int fd = open(path, O_RDWR);
    if (fd < 0 || pwrite(fd, "\xff", 1, 40 + 150) != 1 || close(fd))
        exit(99);
    TAP_OK(reads(path, 1, 8, 0), "a wrong byte ends it");
    tap_write(dir, "no.log", "something else\n");
    snprintf(path, sizeof path, "%s/no.log", dir);
    TAP_OK(mu_journal_read(path, NULL, NULL, NULL, &err) == MUSTER_ECORRUPT && strstr(err.text, "no.log"),
           "another file is none (%s)", err.text);
}

/* --- a store that is lost --- */

static struct mu_backup *begin(struct mu_store *s, unsigned keep)
{
    struct mu_backup *b;
    struct mu_err err;

    if (mu_backup_new(
            &(struct mu_backup_config){
                .base = base, .store = s, .state = state, .every_ns = MU_BACKUP_EVERY, .keep = keep},
            &b, &err))
        exit(99);
    return b;
}

/* Until it is made; false: it failed. */
static bool copy(struct mu_backup *b)
{
    struct mu_backup_status st;
    uint64_t number = mu_backup_now(b);

    do {
        event_base_loop(base, EVLOOP_ONCE);
        mu_backup_status(b, &st);
    } while (st.running);
    return st.newest == number;
}

static bool open_store(struct mu_backup_open *o, struct mu_store **s)
{
    struct mu_err err = {0};

    o->state = state;
    if (!mu_backup_open(o, s, &err))
        return true;
    printf("# %s\n", err.text);
    return false;
}

/* In a process that dies: what is only in its -wal file stays there. */
static void die_with(uint64_t first, uint64_t last, bool with_copy)
{
    int status;
    pid_t pid = fork();

    if (!pid) {
        struct mu_backup_open o = {0};
        struct mu_store *s;
        base = mu_loop_new();
        if (!open_store(&o, &s))
            _exit(1);
        struct mu_backup *b = begin(s, 2);
        for (uint64_t id = first; id <= last; id++)
            if (put(s, id, 1))
                _exit(2);
        if (with_copy && !copy(b))
            _exit(3);
        if (put(s, first, 2) || put(s, last, 3))
            _exit(4);
        _exit(0);
    }
    if (waitpid(pid, &status, 0) != pid || status) {
        printf("# status %x\n", status);
        exit(99);
    }
}

static bool is_whole(struct mu_store *s, uint64_t seq)
{
    struct mu_store_past past;
    bool all = mu_store_seq(s) == seq;

    mu_store_look_back(s, &past);
    for (uint64_t id = 2; id <= 9; id++)
        all = all && attempt_of(s, id) == 1;
    return all && attempt_of(s, 1) == 2 && attempt_of(s, 10) == 3 && !past.lost && past.newest == 10;
}

static void lost(void)
{
    static const char *const kinds[] = {"with the journal alone", "with a copy and a journal"};
    struct mu_backup_open o = {0};
    struct mu_store *s = NULL;

    for (int i = 0; i < 2; i++) {
        new_state(i ? "copy" : "journal");
        die_with(1, 10, i);
        unlink(in_state("jobs.db-wal"));
        TAP_OK(open_store(&o, &s) && is_whole(s, 12) && !o.lossy && strstr(o.said, "from the journal"),
               "%s: a -wal file that is gone is missed by nobody (%s)", kinds[i], o.said);
        mu_store_close(s);
        unlink(in_state("jobs.db"));
        TAP_OK(open_store(&o, &s) && is_whole(s, 12) && !o.lossy && o.restored, "a store neither (%s)", o.said);
        mu_store_close(s);
        TAP_OK(open_store(&o, &s) && is_whole(s, 12) && !o.restored && !o.said[0], "and then it is as ever");
        mu_store_close(s);
        tap_write(state, "jobs.db", "something else, long enough to be looked at");
        TAP_OK(open_store(&o, &s) && is_whole(s, 12) && !o.lossy && !access(in_state("jobs.db.lost-1"), F_OK),
               "what stands in its place is set aside (%s)", o.said);
        mu_store_close(s);
        unlink(in_state("jobs.db-mark"));
        unlink(in_state("jobs.db"));
        TAP_OK(open_store(&o, &s) && is_whole(s, 12), "its mark is not needed for that");
        mu_store_close(s);
    }
    int fd = open(in_state("backup/000002.db"), O_RDWR);
    if (fd < 0 || pwrite(fd, "\xff\xff\xff\xff\xff\xff", 6, 4096 + 20) != 6 || close(fd))
        exit(99);
    unlink(in_state("jobs.db"));
    TAP_OK(open_store(&o, &s) && is_whole(s, 12) && !o.lossy && strstr(o.said, "000002.db is damaged"),
           "the copy is damaged: the journals before it do (%s)", o.said);
    mu_store_close(s);
    unlink(in_state("jobs.db"));
    unlink(in_state("backup/000001.log"));
    TAP_OK(open_store(&o, &s) && o.lossy && attempt_of(s, 1) == 2 && !attempt_of(s, 5),
           "without these what there is is taken, and known not to be all (%s)", o.said);
    mu_store_close(s);
    mu_path_remove_tree(in_state("backup"), NULL);
    tap_write(state, "jobs.db", "something else, long enough to be looked at");
    struct mu_err err;
    TAP_OK(mu_backup_open(&o, &s, &err) == MUSTER_ECORRUPT && strstr(err.text, "move it away") &&
               !access(in_state("jobs.db"), F_OK),
           "without anything it is refused and left as it is (%s)", err.text);
    unlink(in_state("jobs.db"));
    TAP_OK(open_store(&o, &s) && o.lossy && !o.restored && !o.said[0],
           "or a new one begins, of which nothing is known");
    mu_store_close(s);
}

/* --- what was approved of nodes --- */

static int baseline(struct mu_store *s, const char *node, const char *by)
{
    struct mu_m_inventory m = {.node = (char *)(uintptr_t)node, .by = (char *)(uintptr_t)by};
    struct mu_store_event e = {.kind = by ? "approved" : "withdrawn", .rank = -1};

    return mu_store_begin(s, NULL) ||
           (by ? mu_store_put_baseline(s, &m, NULL) : mu_store_drop_baseline(s, node, NULL)) ||
           mu_store_add_event(s, &e, NULL) || mu_store_commit(s, NULL);
}

static void list_baseline(void *arg, const struct mu_m_inventory *m)
{
    char *said = arg;
    size_t n = strlen(said);

    snprintf(said + n, 100 - n, "%s:%s ", m->node, m->by);
}

static bool approved(struct mu_store *s, const char *want)
{
    char said[100] = "";

    return !mu_store_load_inventory(s, list_baseline, said, NULL) && !strcmp(said, want);
}

static void approvals(void)
{
    struct mu_backup_open o = {0};
    struct mu_store *s = NULL;

    new_state("approvals");
    if (!open_store(&o, &s))
        exit(99);
    struct mu_backup *b = begin(s, 2);
    bool good = !baseline(s, "h1", "ada") && !baseline(s, "h2", "ada") && !baseline(s, "h3", "ada") &&
                !baseline(s, "h2", NULL) && !baseline(s, "h1", "bob");
    mu_backup_free(b);
    mu_store_close(s);
    unlink(in_state("jobs.db"));
    TAP_OK(good && open_store(&o, &s) && o.restored && !o.lossy && approved(s, "h1:bob h3:ada "),
           "what was approved and not withdrawn comes back from the journal alone (%s)", o.said);
    b = begin(s, 2);
    good = copy(b) && !baseline(s, "h3", NULL) && !baseline(s, "h4", "ada");
    mu_backup_free(b);
    mu_store_close(s);
    unlink(in_state("jobs.db"));
    TAP_OK(good && open_store(&o, &s) && !o.lossy && strstr(o.said, "takes its place") && approved(s, "h1:bob h4:ada "),
           "and from a copy and the journal since (%s)", o.said);
    b = begin(s, 2);
    good = !mu_store_begin(s, NULL) && !mu_store_drop_baseline(s, "h1", NULL);
    mu_store_rollback(s);
    good = good && !put(s, 1, 1);
    mu_backup_free(b);
    mu_store_close(s);
    unlink(in_state("jobs.db"));
    TAP_OK(good && open_store(&o, &s) && attempt_of(s, 1) == 1 && approved(s, "h1:bob h4:ada "),
           "what was rolled back is not in it");
    mu_store_close(s);
}

/* --- copies by the clock --- */

static unsigned files(bool journals)
{
    uint64_t *v;
    int n = mu_backup_list(state, journals, &v, NULL);

    free(v);
    return (unsigned)n;
}

static void copies(void)
{
    struct mu_backup_open o = {0};
    struct mu_store_facts facts = {0};
    struct mu_backup_status st;
    struct mu_store *s = NULL;
    struct rlimit limit = {.rlim_cur = 8192, .rlim_max = RLIM_INFINITY}, none = {RLIM_INFINITY, RLIM_INFINITY};
    struct mu_err err;

    new_state("copies");
    if (!open_store(&o, &s))
        exit(99);
    struct mu_backup *b = begin(s, 2);
    TAP_OK(files(true) == 1 && !files(false), "a new store has a journal");
    bool good = true;
    uint64_t id = 0;
    mu_backup_now(b);
    do { /* commits between the steps of a copy are in it */
        good = good && !put(s, ++id, 1);
        event_base_loop(base, EVLOOP_ONCE);
        mu_backup_status(b, &st);
    } while (st.running);
    TAP_OK(good && st.newest == 2 && !mu_store_verify(in_state("backup/000002.db"), &facts, &err) && facts.jobs >= 1,
           "a copy is made while jobs come: it has %llu of %llu", (unsigned long long)facts.jobs,
           (unsigned long long)id);
    for (int i = 0; i < 3; i++)
        good = good && !put(s, ++id, 1) && copy(b);
    TAP_OK(good && files(false) == 2 && files(true) == 2, "two are kept, and the journals since");
    setrlimit(RLIMIT_FSIZE, &limit);
    bool made = copy(b);
    setrlimit(RLIMIT_FSIZE, &none);
    mu_backup_status(b, &st);
    TAP_OK(!made && st.failures == 1 && st.why[0] && files(false) == 2 &&
               access(in_state("backup/000006.db.new"), F_OK),
           "without room there is none, and nothing is left of it (%s)", st.why);
    TAP_OK(!put(s, ++id, 1) && copy(b), "with room there is");
    mu_backup_free(b);
    mu_store_close(s);
    unlink(in_state("jobs.db"));
    TAP_OK(open_store(&o, &s) && attempt_of(s, 1) && attempt_of(s, id) == 1 && !o.lossy, "the store is made of it (%s)",
           o.said);
    mu_store_close(s);
    o = (struct mu_backup_open){.force = true, .copy = 99};
    TAP_OK(!open_store(&o, &s) && (o.copy = 5) && open_store(&o, &s) && attempt_of(s, id) == 1,
           "or of an older one and the journals since (%s)", o.said);
    mu_store_close(s);
}

int main(void)
{
    signal(SIGXFSZ, SIG_IGN);
    base = mu_loop_new();
    if (!mkdtemp(dir) || !base)
        exit(99);
    journal();
    lost();
    approvals();
    copies();
    event_base_free(base);
    mu_path_remove_tree(dir, NULL);
    return tap_done();
}
