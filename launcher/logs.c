/* muster logs: what the ranks of a job have written, read from the files that the keepers write. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "launcher/answer.h"
#include "launcher/commands.h"
#include "runtime/base/clean.h"
#include "runtime/base/path.h"
#include "runtime/base/str.h"

enum { FOLLOW_MS = 200, LINE_MAX_BYTES = 65536 };
enum { STREAM_BOTH, STREAM_OUT, STREAM_ERR };

struct opts {
    int rank, stream, attempt;
    bool follow, plain;
};
static const struct mu_opt rows[] = {
    {"rank", 'r', MU_OPT_INT, offsetof(struct opts, rank), "R", "of this rank only", NULL, 0, INT_MAX, NULL},
    {"stream", 's', MU_OPT_CHOICE, offsetof(struct opts, stream), "both|out|err",
     "standard output, standard error, or both (the default)", NULL, 0, 0, NULL},
    {"attempt", 'a', MU_OPT_INT, offsetof(struct opts, attempt), "A", "of this attempt; default: the last one", NULL, 1,
     INT_MAX, NULL},
    {"follow", 'f', MU_OPT_FLAG, offsetof(struct opts, follow), NULL,
     "go on until the job has ended, over further attempts, too", NULL, 0, 0, NULL},
    {"plain", 'p', MU_OPT_FLAG, offsetof(struct opts, plain), NULL, "without the tags that tell several ranks apart",
     NULL, 0, 0, NULL},
};

struct file {
    uint32_t rank;
    bool err;
    off_t at;
    struct mu_buf part; /* beginning of a line */
};
struct log {
    uint64_t job;
    struct opts o;
    char dir[PATH_MAX];
    uint32_t ranks, attempt;
    bool over;
    struct file *files;
    size_t n;
};

static int by_rank(const void *a, const void *b)
{
    const struct file *x = a, *y = b;

    return x->rank != y->rank ? (x->rank < y->rank ? -1 : 1) : (int)x->err - (int)y->err;
}

/* "rank-12.err" */
static bool parse_name(const char *name, uint32_t *rank, bool *err)
{
    char number[16];
    uint64_t n;
    size_t len;

    if (strncmp(name, "rank-", 5))
        return false;
    len = strcspn(name + 5, ".");
    if (len >= sizeof number)
        return false;
    snprintf(number, sizeof number, "%.*s", (int)len, name + 5);
    *err = !strcmp(name + 5 + len, ".err");
    if ((!*err && strcmp(name + 5 + len, ".out")) || mu_str_u64(number, 0, UINT32_MAX, &n))
        return false;
    *rank = (uint32_t)n;
    return true;
}

/* Files of the attempt that are wanted and not yet known. */
static int find_files(struct log *l, struct mu_err *err)
{
    char dir[PATH_MAX + 32];
    struct dirent *e;

    snprintf(dir, sizeof dir, "%s/attempt-%u", l->dir, l->attempt);
    mu_auto_dir DIR *d = opendir(dir);
    if (!d && errno == ENOENT)
        return 0;
    if (!d)
        return mu_err_errno(err, 0, "cannot read the logs in %s", dir);
    while ((e = readdir(d))) {
        struct file f = {0};
        bool known = false;
        if (!parse_name(e->d_name, &f.rank, &f.err) || (l->o.rank >= 0 && f.rank != (uint32_t)l->o.rank) ||
            (l->o.stream == STREAM_OUT && f.err) || (l->o.stream == STREAM_ERR && !f.err))
            continue;
        for (size_t i = 0; i < l->n && !known; i++)
            known = l->files[i].rank == f.rank && l->files[i].err == f.err;
        if (known)
            continue;
        struct file *v = realloc(l->files, (l->n + 1) * sizeof *v);
        if (!v)
            return mu_err_set(err, MUSTER_ENOMEM, "%s", muster_strerror(MUSTER_ENOMEM));
        l->files = v;
        l->files[l->n++] = f;
    }
    if (l->n)
        qsort(l->files, l->n, sizeof *l->files, by_rank);
    return 0;
}

static void emit(const struct log *l, const struct file *f, const char *data, size_t n)
{
    FILE *to = f->err ? stderr : stdout;

    while (n) {
        const char *nl = memchr(data, '\n', n);
        size_t len = nl ? (size_t)(nl - data) + 1 : n;
        if (l->ranks > 1 && l->o.rank < 0 && !l->o.plain)
            fprintf(to, "[%llu,%u]<%s>:", (unsigned long long)l->job, f->rank, f->err ? "stderr" : "stdout");
        fwrite(data, 1, len, to);
        if (!nl)
            fputc('\n', to);
        data += len;
        n -= len;
    }
}

/* Whole lines that are new; all: also a last one without an end. */
static int copy(const struct log *l, struct file *f, bool all, struct mu_err *err)
{
    char path[PATH_MAX + 64], chunk[65536];
    ssize_t n;

    snprintf(path, sizeof path, "%s/attempt-%u/rank-%u.%s", l->dir, l->attempt, f->rank, f->err ? "err" : "out");
    mu_auto_fd int fd = mu_path_open_regular(path, O_NOFOLLOW, NULL, err);
    if (fd < 0)
        return fd == MUSTER_EARG
                   ? mu_err_set(err, MUSTER_EIO, "%s is not a file any more that ranks have written", path)
                   : fd;
    while ((n = pread(fd, chunk, sizeof chunk, f->at)) > 0) {
        const char *last = memrchr(chunk, '\n', (size_t)n);
        size_t whole = last ? (size_t)(last - chunk) + 1 : 0;

        f->at += n;
        if (whole && f->part.len) {
            size_t first = (size_t)((char *)memchr(chunk, '\n', whole) - chunk) + 1;
            mu_buf_append(&f->part, chunk, first);
            emit(l, f, mu_buf_str(&f->part), f->part.len);
            mu_buf_clear(&f->part);
            emit(l, f, chunk + first, whole - first);
        } else {
            emit(l, f, chunk, whole);
        }
        mu_buf_append(&f->part, chunk + whole, (size_t)n - whole);
        if (f->part.len > LINE_MAX_BYTES) {
            emit(l, f, mu_buf_str(&f->part), f->part.len);
            mu_buf_clear(&f->part);
        }
    }
    if (n < 0)
        return mu_err_errno(err, 0, "cannot read %s", path);
    if (all && f->part.len) {
        emit(l, f, mu_buf_str(&f->part), f->part.len);
        mu_buf_clear(&f->part);
    }
    return f->part.failed ? mu_err_set(err, MUSTER_ENOMEM, "%s", muster_strerror(MUSTER_ENOMEM)) : 0;
}

static void forget_files(struct log *l)
{
    for (size_t i = 0; i < l->n; i++)
        mu_buf_free(&l->files[i].part);
    free(l->files);
    l->files = NULL;
    l->n = 0;
}

static int copy_all(struct log *l, bool all, struct mu_err *err)
{
    int rc = find_files(l, err);

    for (size_t i = 0; i < l->n && !rc; i++)
        rc = copy(l, &l->files[i], all, err);
    fflush(stdout);
    return rc;
}

/* The job's directory and attempt as they are now. */
static int look_up(struct log *l, uint32_t *attempt, struct mu_err *err)
{
    json_t *root, *list;
    int rc = mu_answer_get("status", l->job, true, "jobs", &root, &list, NULL, err);

    if (rc)
        return rc;
    const json_t *job = json_array_get(list, 0);
    const char *state = mu_answer_str(job, "state");
    if (!job)
        rc = mu_answer_no_job(l->job, err);
    else if (mu_str_copy(l->dir, sizeof l->dir, mu_answer_str(job, "log_dir")) || !l->dir[0])
        rc = mu_err_set(err, MUSTER_EJOB, "job %llu has no logs", (unsigned long long)l->job);
    if (!rc) {
        l->ranks = (uint32_t)mu_answer_num(job, "ranks");
        *attempt = (uint32_t)mu_answer_num(job, "attempt");
        l->over = !strcmp(state, "completed") || !strcmp(state, "failed") || !strcmp(state, "cancelled");
    }
    json_decref(root);
    return rc;
}

static int follow(struct log *l, struct mu_err *err)
{
    uint32_t newest = 0;
    int rc;

    for (;;) {
        bool was_over = l->over;
        if ((rc = look_up(l, &newest, err)))
            return rc;
        bool next = !l->o.attempt && l->attempt && newest > l->attempt;
        if (!l->attempt)
            l->attempt = l->o.attempt ? (uint32_t)l->o.attempt : newest;
        if (l->attempt && (rc = copy_all(l, next || was_over, err)))
            return rc;
        if (next) {
            forget_files(l);
            l->attempt++;
            continue;
        }
        /* one more look after the end: the last lines may have come in between */
        if (was_over || ferror(stdout) || (l->o.attempt && newest > (uint32_t)l->o.attempt))
            return 0;
        if (!l->over)
            poll(NULL, 0, FOLLOW_MS);
    }
}

static int once(struct log *l, uint32_t newest, struct mu_err *err)
{
    int rc;

    l->attempt = l->o.attempt ? (uint32_t)l->o.attempt : newest;
    if (l->attempt > newest)
        return mu_err_set(err, MUSTER_EJOB, "job %llu has had %u attempts, not %u", (unsigned long long)l->job, newest,
                          l->attempt);
    if (!newest) {
        fprintf(stderr, "muster logs: job %llu has not started%s\n", (unsigned long long)l->job,
                l->over ? ", and will not" : " yet; -f waits for it");
        return 0;
    }
    if ((rc = copy_all(l, true, err)) || l->n)
        return rc;
    return mu_err_set(err, MUSTER_EJOB, "there are no logs in %s/attempt-%u", l->dir, l->attempt);
}

int mu_cmd_logs(int argc, char **argv)
{
    struct log l = {.o = {.rank = -1}};
    struct mu_err err = {0};
    int first, code, rc;

    if (mu_cmd_options("muster logs [OPTIONS] JOB", rows, MU_COUNT(rows), argc, argv, 1, 1, &l.o, &first, &code))
        return code;
    if (mu_cmd_job(argv[first], &l.job, &err))
        return mu_cmd_fail(argv[0], &err);
    uint32_t newest = 0;
    rc = look_up(&l, &newest, &err);
    if (!rc && l.o.rank >= 0 && (uint32_t)l.o.rank >= l.ranks)
        rc = mu_err_set(&err, MUSTER_EJOB, "job %llu has %u ranks, from 0 to %u", (unsigned long long)l.job, l.ranks,
                        l.ranks - 1);
    if (!rc)
        rc = l.o.follow ? follow(&l, &err) : once(&l, newest, &err);
    forget_files(&l);
    return rc ? mu_cmd_fail(argv[0], &err) : 0;
}
