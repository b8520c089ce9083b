/* The audit log: what is written is whole when it is read, and what is changed, missing or in another order is seen. */
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "launcher/audit.h"
#include "launcher/store.h"
#include "runtime/base/clean.h"
#include "runtime/base/path.h"
#include "tests/unit/tap.h"

static char top[] = "/tmp/muster-test-audit-XXXXXX", dir[64], file[128];
static struct mu_err err;

static json_t *entry(int i)
{
    return json_pack("{s:s, s:s, s:i}", "who", "ada", "what", "cancel", "job", i);
}

static struct mu_audit *opened(const struct mu_audit_head *anchor, uint64_t max)
{
    struct mu_audit *a = NULL;

    if (mu_audit_open(dir, anchor, max, &a, &err))
        printf("# %s\n", err.text);
    return a;
}

/* A new log of n lines. */
static struct mu_audit_head written(int n, uint64_t max)
{
    struct mu_audit_head at;

    mu_path_remove_tree(dir, NULL);
    struct mu_audit *a = opened(NULL, max);
    for (int i = 1; i <= n; i++)
        if (mu_audit_add(a, 1000 + i, entry(i), NULL, &err))
            printf("# %s\n", err.text);
    mu_audit_sync(a, &err);
    at = *mu_audit_at(a);
    mu_audit_close(a);
    return at;
}

static char said[4000];
static unsigned good;
static void on_wrong(void *arg, const char *text)
{
    (void)arg;
    snprintf(said + strlen(said), sizeof said - strlen(said), "%s; ", text);
}
static void on_line(void *arg, const struct mu_audit_head *at, const char *json, size_t len, bool whole)
{
    (void)arg, (void)at, (void)json, (void)len;
    good += whole;
}

static struct mu_audit_walk look(const struct mu_audit_head *anchor, const char *hash)
{
    struct mu_audit_walk w = {.line = on_line, .wrong = on_wrong, .anchor = anchor, .hash = hash};

    said[0] = 0;
    good = 0;
    if (mu_audit_read(dir, &w, &err)) {
        printf("# %s\n", err.text);
        w.bad = 1000;
    }
    return w;
}

static struct mu_buf text_of(const char *path)
{
    struct mu_buf b = {0};

    if (mu_path_read(path, 1 << 20, &b, &err))
        printf("# %s\n", err.text);
    return b;
}

static void put(const char *path, const char *data, size_t n)
{
    if (mu_path_write_atomic(path, data, n, 0600, &err))
        printf("# %s\n", err.text);
}

/* Line k (0: the head) of the file: where it begins, and how long it is with its end. */
static char *line_at(const struct mu_buf *b, int k, size_t *n)
{
    char *p = b->data;

    while (k-- > 0)
        p = strchr(p, '\n') + 1;
    *n = (size_t)(strchr(p, '\n') - p) + 1;
    return p;
}

static void test_whole(void)
{
    struct mu_audit_head at = written(10, 0);
    struct mu_audit_walk w = look(&at, at.hash);

    TAP_OK(!w.bad && w.first == 1 && w.last == 10 && w.lines == 10 && good == 10 && !strcmp(w.end, at.hash),
           "ten lines are whole");
    struct mu_audit *a = opened(&at, 0);
    uint64_t n = 0;
    TAP_OK(mu_audit_at(a)->n == 10 && !strcmp(mu_audit_at(a)->hash, at.hash) &&
               !mu_audit_add(a, 2000, entry(11), &n, &err) && n == 11 && mu_audit_unsynced(a) &&
               !mu_audit_sync(a, &err) && !mu_audit_unsynced(a),
           "the next writer goes on");
    at = *mu_audit_at(a);
    mu_audit_close(a);
    w = look(&at, NULL);
    TAP_OK(!w.bad && w.last == 11, "in the same chain");
    struct stat st;
    TAP_OK(!stat(dir, &st) && (st.st_mode & 0777) == 0700 && !stat(file, &st) && (st.st_mode & 0777) == 0600,
           "for nobody else");
    mu_auto_buf struct mu_buf b = text_of(file);
    TAP_OK(!strncmp(b.data, "muster-audit 1 1 0000", 21), "a file says where it begins");
    w = look(NULL, "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff");
    TAP_OK(w.bad == 1 && strstr(said, "no line has the hash 0011"), "a hash that was never there: %s", said);
    mu_path_remove_tree(dir, NULL);
    w = look(NULL, NULL);
    TAP_OK(!w.bad && !w.lines && !w.last, "no log at all");
}

static void test_rotation(void)
{
    struct mu_audit_head at = written(100, 1000);
    struct mu_audit_walk w = look(&at, NULL);
    unsigned files = 0;
    DIR *d = opendir(dir);
    char path[128], saved[64];

    for (struct dirent *e; (e = readdir(d));)
        files += strstr(e->d_name, ".log") != NULL;
    closedir(d);
    TAP_OK(!w.bad && w.lines == 100 && files > 10, "%u files are one chain", files);
    TAP_OK(!access(file, F_OK), "the first is called after its first line");
    snprintf(saved, sizeof saved, "%s/saved", top);
    rename(file, saved);
    w = look(&at, NULL);
    TAP_OK(!w.bad && w.first > 1 && w.last == 100, "without its oldest file it is whole from line %llu on",
           (unsigned long long)w.first);
    rename(saved, file);
    struct mu_audit_walk all = look(&at, NULL);
    snprintf(path, sizeof path, "%s/%020llu.log", dir, (unsigned long long)w.first);
    rename(path, saved);
    w = look(&at, NULL);
    TAP_OK(!all.bad && w.bad == 1 && strstr(said, " are missing before it"), "without one between: %s", said);
}

/* One change of the file each: what is said. */
static void test_tampering(void)
{
    struct mu_audit_head at = written(6, 0), none;
    mu_auto_buf struct mu_buf b = text_of(file);
    size_t n, m;
    char *l3 = line_at(&b, 3, &n), *l4 = line_at(&b, 4, &m);
    mu_auto_buf struct mu_buf out = {0};

    l3[MU_AUDIT_HASH + 30] ^= 1;
    put(file, b.data, b.len);
    struct mu_audit_walk w = look(&at, NULL);
    TAP_OK(w.bad == 1 && strstr(said, ".log:4: line 3 was changed, or one before it") && good == 5, "changed: %s",
           said);
    l3[MU_AUDIT_HASH + 30] ^= 1;
    l3[0] = l3[0] == '0' ? '1' : '0';
    put(file, b.data, b.len);
    w = look(&at, NULL);
    TAP_OK(w.bad == 2 && strstr(said, "line 3 was changed") && strstr(said, "line 4 was changed"), "its hash: %s",
           said);
    l3[0] = 'x';
    put(file, b.data, b.len);
    w = look(&at, NULL);
    TAP_OK(w.bad >= 1 && strstr(said, "this is no line of an audit log"), "made unreadable: %s", said);
    mu_buf_free(&b);

    at = written(6, 0);
    b = text_of(file);
    l3 = line_at(&b, 3, &n);
    mu_buf_append(&out, b.data, (size_t)(l3 - b.data));
    mu_buf_append(&out, l3 + n, b.len - (size_t)(l3 - b.data) - n);
    put(file, out.data, out.len);
    w = look(&at, NULL);
    TAP_OK(w.bad == 1 && strstr(said, ":4: line 3 is missing before it"), "taken out: %s", said);

    mu_buf_clear(&out);
    l4 = line_at(&b, 4, &m);
    mu_buf_append(&out, b.data, (size_t)(l3 - b.data));
    mu_buf_append(&out, l4, m);
    mu_buf_append(&out, l3, n);
    mu_buf_append(&out, l4 + m, b.len - (size_t)(l4 + m - b.data));
    put(file, out.data, out.len);
    w = look(&at, NULL);
    TAP_OK(w.bad >= 2 && strstr(said, "line 3 is missing before it") && strstr(said, "line 3 comes after line 4"),
           "in another order: %s", said);

    mu_buf_clear(&out);
    mu_buf_append(&out, b.data, (size_t)(l4 + m - b.data));
    put(file, out.data, out.len);
    w = look(&at, NULL);
    TAP_OK(w.bad == 1 && strstr(said, "the end is missing: the last line is 4, the job store has seen 6"),
           "cut off: %s", said);
    w = look(NULL, at.hash);
    TAP_OK(w.bad == 1 && strstr(said, "no line has the hash"), "seen by a hash that was noted, too");
    w = look(NULL, NULL);
    TAP_OK(!w.bad && w.last == 4, "but not by the file alone, as is documented");

    struct mu_audit *a = opened(&at, 0);
    mu_audit_add(a, 3000, entry(7), NULL, &err);
    at = *mu_audit_at(a);
    mu_audit_close(a);
    w = look(&at, NULL);
    TAP_OK(at.n == 7 && w.bad == 1 && strstr(said, "lines 5 to 6 are missing before it"),
           "and the writer leaves the gap for ever: %s", said);

    none = written(6, 0);
    mu_path_remove_tree(dir, NULL);
    a = opened(&none, 0);
    mu_audit_add(a, 3000, entry(7), NULL, &err);
    mu_audit_close(a);
    w = look(NULL, NULL);
    TAP_OK(!w.bad && w.first == 7, "of a log that is gone the next one says that it begins with line 7");

    at = written(6, 0);
    struct mu_audit_head other = written(7, 0);
    snprintf(other.hash, sizeof other.hash, "%064d", 7);
    w = look(&other, NULL);
    TAP_OK(w.bad == 1 && strstr(said, "line 7 is not the one that the job store has in mind"), "all written anew: %s",
           said);
}

/* A line without its end is what a crash leaves. */
static void test_torn(void)
{
    struct mu_audit_head at = written(5, 0);
    int fd = open(file, O_WRONLY | O_APPEND | O_CLOEXEC);

    TAP_OK(write(fd, "0123456789abcdef", 16) == 16, "a part of a line");
    close(fd);
    struct mu_audit_walk w = look(&at, NULL);
    TAP_OK(!w.bad && w.last == 5, "is no line, and no harm");
    struct mu_audit *a = opened(&at, 0);
    TAP_OK(!mu_audit_add(a, 4000, entry(6), NULL, &err), "the next one goes into another file");
    at = *mu_audit_at(a);
    mu_audit_close(a);
    w = look(&at, NULL);
    TAP_OK(at.n == 6 && !w.bad && w.lines == 6 && good == 6, "and all is whole");
}

/* No room: the limit of a file's size stands for a full disk. */
static void test_full(void)
{
    struct rlimit was, small;
    uint64_t n = 0;

    written(0, 0);
    struct mu_audit *a = opened(NULL, 0);
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &was);
    small = was;
    small.rlim_cur = 1000;
    setrlimit(RLIMIT_FSIZE, &small);
    int i = 0, rc = 0;
    while (i < 50 && !(rc = mu_audit_add(a, 5000 + i, entry(i), &n, &err)))
        i++;
    small.rlim_cur = 10;
    setrlimit(RLIMIT_FSIZE, &small);
    int again = mu_audit_add(a, 5100, entry(i), NULL, &err);
    setrlimit(RLIMIT_FSIZE, &was);
    TAP_OK(i > 0 && i < 50 && rc < 0 && again < 0 && strstr(err.text, "audit log "), "after %d lines: %s", i, err.text);
    TAP_OK(!mu_audit_add(a, 5200, entry(i), &n, &err) && n == (uint64_t)i + 1,
           "with room again the next number follows");
    struct mu_audit_head at = *mu_audit_at(a);
    mu_audit_close(a);
    struct mu_audit_walk w = look(&at, at.hash);
    TAP_OK(!w.bad && w.lines == (uint64_t)i + 1, "and all is whole");
}

static void test_removed(void)
{
    mu_path_remove_tree(dir, NULL);
    struct mu_audit *a = opened(NULL, 0);
    struct mu_audit_head at;

    for (int i = 1; i <= 5; i++) {
        if (i == 4)
            mu_path_remove_tree(dir, NULL);
        if (mu_audit_add(a, 1000 + i, entry(i), NULL, &err))
            printf("# %s\n", err.text);
    }
    at = *mu_audit_at(a);
    mu_audit_close(a);
    struct mu_audit_walk w = look(&at, at.hash);
    TAP_OK(!w.bad && w.first == 4 && w.last == 5, "removed under a writer: lines go on in a file that is there");
}

static void test_tail(void)
{
    mu_auto_buf struct mu_buf b = {0};
    unsigned lines = 0;

    written(20, 0);
    int rc = mu_audit_tail(dir, 5, &b, &err);
    for (size_t i = 0; i < b.len; i++)
        lines += b.data[i] == '\n';
    TAP_OK(!rc && lines == 5 && strstr(mu_buf_str(&b), "{\"n\":16,") && !strstr(mu_buf_str(&b), "{\"n\":15,"),
           "the newest five");
    mu_buf_clear(&b);
    TAP_OK(!mu_audit_tail(dir, 5000, &b, &err) && strstr(mu_buf_str(&b), "{\"n\":1,") &&
               !strstr(mu_buf_str(&b), "muster-audit"),
           "or all");
    mu_buf_clear(&b);
    written(20, 300); /* some files, the newest ones with a line or two */
    lines = 0;
    rc = mu_audit_tail(dir, 5, &b, &err);
    for (size_t i = 0; i < b.len; i++)
        lines += b.data[i] == '\n';
    const char *first = strstr(mu_buf_str(&b), "{\"n\":16,"), *last = strstr(mu_buf_str(&b), "{\"n\":20,");
    TAP_OK(!rc && lines == 5 && first && last && first < last && !strstr(mu_buf_str(&b), "muster-audit"),
           "the newest five of several files, in their order");
}

static void test_store(void)
{
    struct mu_store *s;
    char path[PATH_MAX], hash[MU_AUDIT_HASH] = "";
    struct mu_audit_head at = written(3, 0);
    uint64_t n = 9;

    snprintf(path, sizeof path, "%s/jobs.db", top);
    TAP_OK(!mu_store_open(path, &s, &err), "a store");
    TAP_OK(!mu_store_anchor(s, &n, hash, sizeof hash, &err) && !n, "has nothing in mind");
    TAP_OK(!mu_store_put_anchor(s, 2, "x", &err) && !mu_store_put_anchor(s, at.n, at.hash, &err), "is told, twice");
    mu_store_close(s);
    TAP_OK(!mu_store_open(path, &s, &err) && !mu_store_anchor(s, &n, hash, sizeof hash, &err) && n == 3 &&
               !strcmp(hash, at.hash),
           "and the next one knows it");
    mu_store_close(s);
}

int main(void)
{
    if (!mkdtemp(top))
        return 99;
    snprintf(dir, sizeof dir, "%s/audit", top);
    snprintf(file, sizeof file, "%s/%020d.log", dir, 1);
    test_whole();
    test_rotation();
    test_tampering();
    test_torn();
    test_full();
    test_removed();
    test_tail();
    test_store();
    mu_path_remove_tree(top, NULL);
    return tap_done();
}
