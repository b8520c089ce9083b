#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "launcher/accept.h"
#include "runtime/base/clean.h"
#include "runtime/base/clock.h"
#include "runtime/base/path.h"
#include "runtime/base/str.h"

enum { JOURNAL_MAX = 64 << 20, RAW_MAX = 1 << 30, CRITERIA_MAX = 1 << 20, STEP_MAX = 60 };
#define JOURNAL "journal.jsonl"
#define CRITERIA "criteria.txt"
#define BASELINE "baseline.jsonl"
#define TIME_MAX 1e11 /* seconds: no time of day, and nothing that was measured */
#define TOKEN_CHARS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_"
#define SCHEMA "muster.accept-journal/1"
static const uint64_t WAIT_NS = 10 * MU_SEC;

int mu_accept_sha256(const void *data, size_t len, char hex[65])
{
    unsigned char md[EVP_MAX_MD_SIZE];
    unsigned n;

    if (!EVP_Digest(data, len, md, &n, EVP_sha256(), NULL) || n != 32)
        return MUSTER_EIO;
    for (unsigned i = 0; i < 32; i++)
        snprintf(hex + 2 * i, 3, "%02x", md[i]);
    return 0;
}

/* What else is in the directory of a run, with the reports. */
static const char *const parts[] = {CRITERIA,     BASELINE,    "raw",         "report.json",
                                    "report.csv", "junit.xml", "report.html", "MANIFEST.sha256"};

/* A directory that somebody else has such files in is not ours to write into. */
static int check_free(const char *dir, const char *journal, struct mu_err *err)
{
    char path[PATH_MAX];
    struct stat st;

    if (!lstat(journal, &st))
        return 0;
    for (size_t i = 0; i < MU_COUNT(parts); i++) {
        int rc = mu_path_join(path, sizeof path, dir, parts[i], err);
        if (rc)
            return rc;
        if (!lstat(path, &st))
            return mu_err_set(err, MUSTER_EARG, "%s: is there, and of no run; give another --output", path);
    }
    return 0;
}

/* Where runs are that nobody has named a directory for, and where tokens of the others are remembered. */
static int home_of(char out[PATH_MAX], struct mu_err *err)
{
    struct mu_paths *p = malloc(sizeof *p);
    int rc = p ? mu_paths_init(p, err) : mu_err_set(err, MUSTER_ENOMEM, "out of memory");

    rc = rc ? rc : mu_path_join(out, PATH_MAX, p->state, "accept", err);
    rc = rc ? rc : mu_path_mkdirs(out, 0700, err);
    free(p);
    return rc;
}

int mu_accept_note(struct mu_accept *a, json_t *line, struct mu_err *err)
{
    char path[PATH_MAX];
    mu_auto_free char *text = line ? json_dumps(line, JSON_COMPACT | JSON_SORT_KEYS) : NULL;
    mu_auto_fd int fd = -1;
    int rc;

    json_decref(line);
    if (!text)
        return mu_err_set(err, MUSTER_ENOMEM, "out of memory");
    if ((rc = mu_path_join(path, sizeof path, a->dir, JOURNAL, err)))
        return rc;
    size_t n = strlen(text);
    text[n] = '\n'; /* in place of the NUL */
    fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    ssize_t got = fd < 0 ? -1 : write(fd, text, n + 1);
    if (got >= 0 && got != (ssize_t)n + 1)
        errno = ENOSPC;
    if (got != (ssize_t)n + 1 || fsync(fd))
        return mu_err_errno(err, 0, "%s", path);
    return 0;
}

/* Two that measure into one directory would spoil one another's samples. A job whose `muster accept` was killed holds
 * it, too, for the moment until it has ended. Where a file system knows no locks there are none. */
static int hold(struct mu_accept *a, const char *journal, uint64_t wait_ns, struct mu_err *err)
{
    uint64_t until = mu_now() + wait_ns;

    a->lock = open(journal, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (a->lock < 0) {
        a->lock = 0;
        return mu_err_errno(err, 0, "%s", journal);
    }
    while (flock(a->lock, LOCK_EX | LOCK_NB)) {
        if (errno != EWOULDBLOCK && errno != EINTR)
            return 0;
        if (mu_accept_stopped())
            return mu_err_set(err, MUSTER_EARG, "%s: interrupted, while another muster accept is at work in it",
                              a->dir);
        if (mu_now() >= until)
            return mu_err_set(err, MUSTER_EARG, "%s: another muster accept is at work in it; wait for it, or end it",
                              a->dir);
        nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
    }
    return 0;
}

void mu_accept_undo(struct mu_accept *a)
{
    static const char *const names[] = {JOURNAL, CRITERIA, BASELINE, "raw"};
    char path[PATH_MAX], home[PATH_MAX];

    if (!a->fresh)
        return;
    for (size_t i = 0; i < MU_COUNT(names); i++)
        if (!mu_path_join(path, sizeof path, a->dir, names[i], NULL))
            (void)remove(path);
    if (a->made)
        (void)rmdir(a->dir);
    if (!home_of(home, NULL) && !mu_path_join(path, sizeof path, home, a->token, NULL))
        (void)remove(path);
}

int mu_accept_put(const struct mu_accept *a, const char *name, const char *text, size_t len, char hex[65],
                  struct mu_err *err)
{
    char path[PATH_MAX];
    int rc = mu_path_join(path, sizeof path, a->dir, name, err);

    rc = rc ? rc : mu_path_write_atomic(path, text, len, 0644, err);
    if (!rc && mu_accept_sha256(text, len, hex))
        rc = mu_err_set(err, MUSTER_EIO, "SHA-256 cannot be had from libcrypto");
    return rc;
}

/* A file that is part of the run, and in the first line its sum under the key. */
static int put_part(struct mu_accept *a, const char *name, const char *key, const char *text, size_t len,
                    struct mu_err *err)
{
    char sum[65];
    int rc = mu_accept_put(a, name, text, len, sum, err);

    if (!rc)
        json_object_set_new(a->begin, key, json_string(sum));
    return rc;
}

/* Nothing where the run has begun without it. */
static int get_part(const struct mu_accept *a, const char *name, const char *key, size_t most, struct mu_buf *text,
                    struct mu_err *err)
{
    const char *was = json_string_value(json_object_get(a->begin, key));
    char path[PATH_MAX], sum[65];
    int rc = mu_path_join(path, sizeof path, a->dir, name, err);

    if (rc || !was || (rc = mu_path_read_regular(path, most, text, err)))
        return rc;
    if (mu_accept_sha256(mu_buf_str(text), text->len, sum) || strcmp(was, sum) != 0)
        return mu_err_set(err, MUSTER_ECORRUPT,
                          "%s: is not what the run has begun with: its SHA-256 has changed; put that back, or begin "
                          "another run",
                          path);
    return 0;
}

int mu_accept_new(struct mu_accept *a, const char *output, json_t *begin, const char *criteria,
                  const struct mu_buf *baseline, struct mu_err *err)
{
    char home[PATH_MAX], path[PATH_MAX], cwd[PATH_MAX];
    time_t now = time(NULL);
    struct stat st;
    struct tm tm;
    int rc = home_of(home, err);

    if (rc)
        return rc;
    size_t n = strftime(a->token, sizeof a->token, "%Y%m%d-%H%M%S", gmtime_r(&now, &tm));
    snprintf(a->token + n, sizeof a->token - n, "-%05d", (int)getpid() % 100000);
    if ((rc = mu_path_join(path, sizeof path, home, a->token, err)))
        return rc;
    if (output && output[0] != '/') {
        if (!getcwd(cwd, sizeof cwd))
            return mu_err_errno(err, 0, "the working directory");
        rc = mu_path_join(a->dir, sizeof a->dir, cwd, output, err);
    } else
        rc = mu_str_copy(a->dir, sizeof a->dir, output ? output : path)
                 ? mu_err_set(err, MUSTER_EARG, "--output: too long")
                 : 0;
    a->made = !rc && access(a->dir, F_OK);
    if (rc || (rc = mu_path_mkdirs(a->dir, 0755, err)))
        return rc;
    char journal[PATH_MAX], raw[PATH_MAX];
    if ((rc = mu_path_join(journal, sizeof journal, a->dir, JOURNAL, err)) ||
        (rc = mu_path_join(raw, sizeof raw, a->dir, "raw", err)))
        return rc;
    if ((rc = check_free(a->dir, journal, err)) || (rc = hold(a, journal, 0, err)))
        return rc;
    if (fstat(a->lock, &st))
        return mu_err_errno(err, 0, "%s", journal);
    if (st.st_size)
        return mu_err_set(err, MUSTER_EARG,
                          "%s: has a run already; `muster accept --resume %s` goes on with it, another "
                          "--output begins a new one",
                          a->dir, a->dir);
    a->fresh = true;
    if (output && (rc = mu_path_write_atomic(path, a->dir, strlen(a->dir), 0600, err)))
        return rc;
    if ((rc = mu_path_mkdirs(raw, 0755, err)))
        return rc;
    a->begin = begin;
    json_object_set_new(begin, "kind", json_string("begin"));
    json_object_set_new(begin, "schema", json_string(SCHEMA));
    json_object_set_new(begin, "token", json_string(a->token));
    if ((rc = put_part(a, CRITERIA, "criteria", criteria, strlen(criteria), err)) ||
        (baseline && (rc = put_part(a, BASELINE, "baseline_sum", mu_buf_str(baseline), baseline->len, err))))
        return rc;
    a->done = json_object();
    if ((rc = mu_criteria_parse(CRITERIA, criteria, strlen(criteria), &a->criteria, err)))
        return rc;
    return mu_accept_note(a, json_incref(begin), err);
}

/* A token, the directory itself, or what is in it. */
static int find(struct mu_accept *a, const char *where, struct mu_err *err)
{
    mu_auto_buf struct mu_buf text = {0};
    char home[PATH_MAX], path[PATH_MAX], shown[200];
    struct stat st;
    int rc;

    if (!*where)
        return mu_err_set(err, MUSTER_EARG, "the token of the run is empty");
    if (strchr(where, '/') || (!stat(where, &st) && S_ISDIR(st.st_mode)))
        return realpath(where, a->dir) ? 0 : mu_err_errno(err, MUSTER_EARG, "%s", where);
    if ((rc = home_of(home, err)) || (rc = mu_path_join(path, sizeof path, home, where, err)))
        return rc;
    if (stat(path, &st))
        return mu_err_set(err, MUSTER_EARG, "%s: no run has this token, and no directory this name",
                          mu_str_show(shown, sizeof shown, where));
    if (S_ISDIR(st.st_mode))
        return mu_str_copy(a->dir, sizeof a->dir, path);
    if ((rc = mu_path_read_text(path, PATH_MAX - 1, &text, err)))
        return rc;
    return mu_str_copy(a->dir, sizeof a->dir, mu_buf_str(&text));
}

/* How long it was measured until then, in seconds: a run that was interrupted did nothing in between. */
static void count_time(struct mu_accept *a, const json_t *o, const char *kind)
{
    double t = json_number_value(json_object_get(o, "t"));

    if (!(t >= 0 && t < TIME_MAX))
        return;
    if (!strcmp(kind, "begin") || !strcmp(kind, "resume"))
        a->since = t;
    else if (!strcmp(kind, "step") && t > a->since && a->since > 0) {
        a->before += t - a->since;
        a->since = t;
    } else if (!strcmp(kind, "end"))
        a->before = json_number_value(json_object_get(o, "seconds"));
}

static int on_line(struct mu_accept *a, json_t *o)
{
    const char *kind = json_string_value(json_object_get(o, "kind"));
    const char *name = json_string_value(json_object_get(o, "name"));

    if (!kind)
        return MUSTER_ECORRUPT;
    if (!strcmp(kind, "begin") && !a->begin)
        a->begin = json_incref(o);
    else if (!strcmp(kind, "step")) {
        if (!name || !*name || strlen(name) > STEP_MAX || strspn(name, TOKEN_CHARS) != strlen(name))
            return MUSTER_ECORRUPT;
        json_object_set(a->done, name, o);
    } else if (!strcmp(kind, "switches") && !a->switches)
        a->switches = json_incref(json_object_get(o, "of"));
    double seconds = json_number_value(json_object_get(o, "seconds"));
    if (!(seconds >= 0 && seconds < TIME_MAX))
        return MUSTER_ECORRUPT;
    count_time(a, o, kind);
    a->ended = !strcmp(kind, "end");
    return 0;
}

/* What the others take for granted of the first line. */
static int check_begin(const struct mu_accept *a, const char *path, struct mu_err *err)
{
    const char *schema = json_string_value(json_object_get(a->begin, "schema"));
    const char *profile = json_string_value(json_object_get(a->begin, "profile"));
    char shown[80];

    if (schema && strcmp(schema, SCHEMA) != 0)
        return mu_err_set(err, MUSTER_EVERSION, "%s: is %s, this muster has " SCHEMA "; take the one that it is of",
                          path, mu_str_show(shown, sizeof shown, schema));
    if (!schema || !profile || !mu_criteria_builtin(profile) || !json_is_string(json_object_get(a->begin, "command")))
        return MUSTER_ECORRUPT;
    const char *token = json_string_value(json_object_get(a->begin, "token"));
    double soak = json_number_value(json_object_get(a->begin, "soak_s"));
    json_int_t seed = json_integer_value(json_object_get(a->begin, "seed"));
    if (!token || !*token || strlen(token) >= sizeof a->token || strspn(token, TOKEN_CHARS) != strlen(token) ||
        !(soak >= 0 && soak < TIME_MAX) || seed < 0)
        return MUSTER_ECORRUPT;
    return 0;
}

static int read_journal(struct mu_accept *a, const char *path, bool mend, struct mu_err *err)
{
    mu_auto_buf struct mu_buf text = {0};
    unsigned line = 0;
    int rc;

    if ((rc = mu_path_read_regular(path, JOURNAL_MAX, &text, err)))
        return rc;
    a->done = json_object();
    for (size_t at = 0; at < text.len && !rc;) {
        const char *end = memchr(text.data + at, '\n', text.len - at);
        if (!end)
            break; /* cut off while it was written: that step is made again */
        json_t *o = json_loadb(text.data + at, (size_t)(end - text.data) - at, 0, NULL);
        rc = json_is_object(o) ? on_line(a, o) : MUSTER_ECORRUPT;
        json_decref(o);
        at = (size_t)(end - text.data) + 1;
        line++;
        if (!rc && line == 1 && (rc = check_begin(a, path, err)) == MUSTER_EVERSION)
            return rc;
    }
    const char *token = json_string_value(json_object_get(a->begin, "token"));
    if (!text.len)
        return mu_err_set(err, MUSTER_EARG, "%s: nothing was begun there; begin a run, with --output or without",
                          a->dir);
    if (rc || !token || !*token || mu_str_copy(a->token, sizeof a->token, token))
        return mu_err_set(err, MUSTER_ECORRUPT, "%s:%u: damaged; begin another run, what was measured is in raw", path,
                          line ? line : 1);
    /* What was cut off must not stay in front of the next line. */
    const char *last = memrchr(text.data, '\n', text.len);
    if (mend && (size_t)(last - text.data) + 1 != text.len && truncate(path, last - text.data + 1))
        return mu_err_errno(err, 0, "%s", path);
    return 0;
}

static int open_run(struct mu_accept *a, const char *where, bool go_on, struct mu_err *err)
{
    mu_auto_buf struct mu_buf rules = {0};
    char path[PATH_MAX];
    int rc;

    if ((rc = find(a, where, err)) || (rc = mu_path_join(path, sizeof path, a->dir, JOURNAL, err)))
        return rc;
    if (access(path, F_OK))
        return mu_err_set(err, MUSTER_EARG, "%s: no run of muster accept", a->dir);
    if (go_on && (rc = hold(a, path, WAIT_NS, err)))
        return rc;
    if ((rc = read_journal(a, path, go_on, err)) || (rc = mu_path_join(path, sizeof path, a->dir, CRITERIA, err)) ||
        (rc = get_part(a, CRITERIA, "criteria", CRITERIA_MAX, &rules, err)) ||
        (!rules.len && (rc = mu_path_read_text(path, CRITERIA_MAX, &rules, err))))
        return rc;
    a->seconds = a->before;
    return mu_criteria_parse(path, mu_buf_str(&rules), rules.len, &a->criteria, err);
}

/* Of steps that were killed, and are made again or, in a soak, perhaps never. */
static void forget_parts(const struct mu_accept *a)
{
    char raw[PATH_MAX], path[PATH_MAX];
    mu_auto_dir DIR *d = mu_path_join(raw, sizeof raw, a->dir, "raw", NULL) ? NULL : opendir(raw);
    const struct dirent *e;

    while (d && (e = readdir(d))) {
        size_t n = strlen(e->d_name);
        if (n > 5 && !strcmp(e->d_name + n - 5, ".part") && !mu_path_join(path, sizeof path, raw, e->d_name, NULL))
            (void)unlink(path);
    }
}

int mu_accept_open(struct mu_accept *a, const char *where, struct mu_err *err)
{
    return open_run(a, where, false, err);
}

int mu_accept_go_on(struct mu_accept *a, const char *where, struct mu_err *err)
{
    int rc = open_run(a, where, true, err);

    if (!rc)
        forget_parts(a);
    return rc;
}

void mu_accept_free(struct mu_accept *a)
{
    mu_accept_rest(a, true);
    json_decref(a->begin);
    json_decref(a->done);
    json_decref(a->switches);
    mu_data_free(&a->data);
    mu_data_free(&a->baseline);
    mu_criteria_free(&a->criteria);
    mu_blame_free(&a->blame);
    free(a->results);
    if (a->lock)
        close(a->lock);
    *a = (struct mu_accept){0};
}

int mu_accept_load(struct mu_accept *a, struct mu_err *err)
{
    const char *name, *host;
    json_t *line, *s;
    int rc = 0;

    mu_data_free(&a->data);
    json_object_foreach(a->done, name, line)
    {
        mu_auto_buf struct mu_buf text = {0};
        char path[PATH_MAX], sub[300], hex[65];
        const char *sum = json_string_value(json_object_get(line, "sha256"));
        snprintf(sub, sizeof sub, "raw/%.200s.jsonl", name);
        if ((rc = mu_path_join(path, sizeof path, a->dir, sub, err)) ||
            (rc = mu_path_read_regular(path, RAW_MAX, &text, err)))
            return rc;
        if (!sum || mu_accept_sha256(mu_buf_str(&text), text.len, hex) || strcmp(sum, hex) != 0)
            return mu_err_set(err, MUSTER_ECORRUPT, "%s: is not what was measured: its SHA-256 has changed", path);
        uint32_t round = (uint32_t)json_integer_value(json_object_get(line, "round"));
        if ((rc = mu_data_read(&a->data, path, mu_buf_str(&text), text.len, round, err)))
            return rc;
    }
    json_object_foreach(a->switches, host, s)
    {
        for (uint32_t h = 0; h < a->data.nhosts; h++)
            if (!strcmp(a->data.hosts[h], host) && json_is_string(s) &&
                mu_data_group(&a->data, h, json_string_value(s)))
                return mu_err_set(err, MUSTER_ENOMEM, "out of memory");
    }
    if (mu_data_trends(&a->data))
        return mu_err_set(err, MUSTER_ENOMEM, "out of memory");
    if (a->baseline.n)
        return 0;
    mu_auto_buf struct mu_buf text = {0};
    rc = get_part(a, BASELINE, "baseline_sum", RAW_MAX, &text, err);
    return rc || !text.len ? rc : mu_data_read(&a->baseline, BASELINE, mu_buf_str(&text), text.len, 0, err);
}
