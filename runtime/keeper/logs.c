#include "runtime/keeper/logs.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/base/clean.h"
#include "runtime/base/clock.h"
#include "runtime/base/path.h"
#include "runtime/wire/core.h"

enum { TAIL_LINES = 8, PARTIAL_MS = 200, SPANS_MAX = 1024 };
#define REOPEN_NS MU_SEC /* between two tries to make a file */

/* One of the two ways that output goes: into the file, into the live view. */
struct way {
    uint64_t lost, told; /* lines dropped; of these owned up to */
    bool dropping;       /* in the middle of a line that is dropped */
    bool midline;        /* what came through does not end with a newline */
};

/* Where a piece of the live view comes from. */
struct span {
    uint64_t len;
    int64_t at; /* in the file; -1: in `mem` */
};

struct stream {
    int fd;                        /* -1: there is no file */
    uint64_t kept, lines;          /* bytes in the file; lines of the rank's among them */
    uint64_t written, sent, acked; /* bytes of the live view; acked <= sent <= written */
    struct span *spans;            /* acked .. written */
    uint32_t nspans, cap;
    struct mu_buf mem; /* what the file did not take, of all spans in their order */
    uint64_t fed;      /* time of the last byte */
    struct way file, live;
    int why;          /* errno of the last failure to write */
    uint64_t tried;   /* last try to make the file */
    bool ended, shut; /* shut: the file was closed, as there was nothing more to do with it */
};

struct rank {
    struct stream s[2]; /* MU_STREAM_ - 1 */
    char tail[MU_LOGS_TAIL];
    uint32_t tail_len;
};

/* An attempt stays until its output has been taken. */
struct attempt {
    struct attempt *older;
    uint32_t number, first, n;
    char *dir; /* of its files */
    mode_t mode;
    struct rank ranks[];
};

struct mu_logs {
    uint64_t job;
    struct attempt *newest;
    bool on;
    size_t mem;    /* bytes in all `mem` */
    uint32_t turn; /* streams take turns */
    char *piece;
};

struct mu_logs *mu_logs_new(uint64_t job)
{
    struct mu_logs *l = calloc(1, sizeof *l);

    if (l) {
        l->job = job;
        l->piece = malloc(MU_LOGS_PIECE);
    }
    if (l && !l->piece) {
        free(l);
        return NULL;
    }
    return l;
}

static void attempt_free(struct mu_logs *l, struct attempt *a)
{
    for (uint32_t i = 0; i < 2 * a->n; i++) {
        struct stream *s = &a->ranks[i / 2].s[i % 2];
        if (s->fd >= 0)
            close(s->fd);
        l->mem -= s->mem.len;
        mu_buf_free(&s->mem);
        free(s->spans);
    }
    free(a->dir);
    free(a);
}

void mu_logs_free(struct mu_logs *l)
{
    if (!l)
        return;
    while (l->newest) {
        struct attempt *a = l->newest;
        l->newest = a->older;
        attempt_free(l, a);
    }
    free(l->piece);
    free(l);
}

/* --- files ------------------------------------------------------------------------------------------------------- */

/* path: DIR/attempt-A. */
static int make_dir(const char *path, mode_t mode, struct mu_err *err)
{
    char dir[PATH_MAX];
    int rc;
    int n = (int)(strrchr(path, '/') - path);
    snprintf(dir, sizeof dir, "%.*s", n ? n : 1, path);
    if ((rc = mu_path_mkdirs(dir, 0700, err)))
        return rc;
    if (mkdir(path, 0700) < 0 && errno != EEXIST)
        return mu_err_errno(err, 0, "cannot make %s", path);
    /* one that was there already may be a link to what is not ours to change */
    mu_auto_fd int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return mu_err_errno(err, 0, "cannot open %s", path);
    if (fchmod(fd, 0700 | mode | (mode & 0444) >> 2) < 0)
        return mu_err_errno(err, 0, "cannot set the mode of %s", path);
    return 0;
}

static int open_file(const char *dir, uint32_t rank, const char *suffix, mode_t mode, bool anew, struct mu_err *err)
{
    char path[PATH_MAX], name[32];

    snprintf(name, sizeof name, "rank-%u.%s", rank, suffix);
    int rc = mu_path_join(path, sizeof path, dir, name, err);
    if (rc)
        return rc;
    int fd = open(path, O_RDWR | (anew ? O_CREAT | O_TRUNC : 0) | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return mu_err_errno(err, 0, "cannot make %s", path);
    if (anew && mode != 0600)
        fchmod(fd, mode);
    return fd;
}

/* Replaced by rename, so that there always is one. */
static void point_latest(const char *dir, uint32_t attempt)
{
    char link[PATH_MAX], tmp[PATH_MAX], target[32];

    snprintf(target, sizeof target, "attempt-%u", attempt);
    if (mu_path_join(link, sizeof link, dir, "latest", NULL) || mu_path_join(tmp, sizeof tmp, dir, ".latest", NULL))
        return;
    unlink(tmp);
    if (symlink(target, tmp) == 0 && rename(tmp, link) < 0)
        unlink(tmp);
}

static const char *const suffix[] = {"out", "err"};
static void sweep(struct mu_logs *l);
static void let_go(const struct mu_logs *l, struct stream *s);

int mu_logs_begin(struct mu_logs *l, const char *dir, uint32_t attempt, uint32_t first, uint32_t n, mode_t mode,
                  bool latest, struct mu_err *err)
{
    struct attempt *a = calloc(1, sizeof *a + n * sizeof a->ranks[0]);
    char path[PATH_MAX], name[32];
    int rc = 0, e;

    if (!a)
        return mu_err_set(err, MUSTER_ENOMEM, "logs: out of memory");
    a->number = attempt;
    a->first = first;
    a->n = n;
    a->mode = mode;
    a->older = l->newest;
    l->newest = a;
    snprintf(name, sizeof name, "attempt-%u", attempt);
    errno = 0;
    if (!dir || !*dir)
        rc = mu_err_set(err, MUSTER_EIO, "no directory for logs");
    else if (!(rc = mu_path_join(path, sizeof path, dir, name, err)) && !(a->dir = strdup(path)))
        rc = mu_err_set(err, MUSTER_ENOMEM, "logs: out of memory");
    if (!rc)
        rc = make_dir(a->dir, mode, err);
    e = !rc ? 0 : errno == EEXIST ? ENOTDIR : errno;
    for (uint32_t i = 0; i < 2 * n; i++) {
        struct stream *s = &a->ranks[i / 2].s[i % 2];

        s->fd = -1;
        if (!rc && (s->fd = open_file(a->dir, first + i / 2, suffix[i % 2], mode, true, err)) < 0) {
            rc = s->fd;
            e = errno;
        }
        s->why = e ? e : ENOENT;
    }
    if (!rc && latest)
        point_latest(dir, attempt);
    sweep(l);
    return rc;
}

/* A file that could not be made when the attempt began, or was done with too early. */
static void reopen(const struct attempt *a, struct stream *s, uint32_t index, uint32_t stream, uint64_t now)
{
    struct mu_err err;

    if (s->shut) {
        s->fd = open_file(a->dir, a->first + index, suffix[stream - 1], a->mode, false, &err);
        s->shut = false;
        s->tried = now;
        return;
    }
    if (s->fd >= 0 || !a->dir || now - s->tried < REOPEN_NS)
        return;
    s->tried = now;
    if (make_dir(a->dir, a->mode, &err) == 0)
        s->fd = open_file(a->dir, a->first + index, suffix[stream - 1], a->mode, true, &err);
}

/* --- output comes ------------------------------------------------------------------------------------------------ */

static void keep_tail(struct rank *r, const char *data, size_t n)
{
    if (n >= MU_LOGS_TAIL) {
        memcpy(r->tail, data + n - MU_LOGS_TAIL, MU_LOGS_TAIL);
        r->tail_len = MU_LOGS_TAIL;
        return;
    }
    if (r->tail_len + n > MU_LOGS_TAIL) {
        uint32_t cut = (uint32_t)(r->tail_len + n - MU_LOGS_TAIL);
        memmove(r->tail, r->tail + cut, r->tail_len - cut);
        r->tail_len -= cut;
    }
    memcpy(r->tail + r->tail_len, data, n);
    r->tail_len += (uint32_t)n;
}

/* All of it or nothing, as far as readers of the file are concerned. */
static bool write_file(struct stream *s, const char *data, size_t n)
{
    size_t done = 0;

    while (s->fd >= 0 && done < n) {
        ssize_t got = pwrite(s->fd, data + done, n - done, (off_t)(s->kept + done));
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0) {
            s->why = got < 0 ? errno : ENOSPC;
            break;
        }
        done += (size_t)got;
    }
    if (s->fd < 0 || done < n) {
        if (done && ftruncate(s->fd, (off_t)s->kept) < 0)
            s->why = errno; /* the next write goes over it */
        return false;
    }
    s->kept += n;
    s->file.midline = data[n - 1] != '\n';
    return true;
}

/* The next n bytes of the live view: at that place of the file, or (at < 0) from data, for which there must be room. */
static bool add_span(struct mu_logs *l, struct stream *s, int64_t at, const char *data, size_t n)
{
    struct span *last = s->nspans ? &s->spans[s->nspans - 1] : NULL;

    if (!last || (at < 0 ? last->at >= 0 : last->at < 0 || last->at + (int64_t)last->len != at)) {
        if (s->nspans == s->cap) {
            uint32_t cap = s->cap ? 2 * s->cap : 4;
            struct span *v = cap > SPANS_MAX ? NULL : realloc(s->spans, cap * sizeof *v);
            if (!v)
                return false;
            s->spans = v;
            s->cap = cap;
        }
        last = &s->spans[s->nspans];
        *last = (struct span){.at = at};
    }
    if (at < 0) {
        if (mu_buf_reserve(&s->mem, n))
            return false;
        mu_buf_append(&s->mem, data, n);
        l->mem += n;
    }
    s->nspans = (uint32_t)(last - s->spans) + 1;
    last->len += n;
    s->written += n;
    s->live.midline = data[n - 1] != '\n';
    return true;
}

static size_t room(const struct mu_logs *l, const struct stream *s)
{
    size_t mine = s->mem.len < MU_LOGS_MEM ? MU_LOGS_MEM - s->mem.len : 0;
    size_t all = l->mem < MU_LOGS_MEM_ALL ? MU_LOGS_MEM_ALL - l->mem : 0;

    return !l->on ? 0 : mine < all ? mine : all;
}

static const char *after_lines(const char *data, size_t n)
{
    const char *nl = memrchr(data, '\n', n);

    return nl ? nl + 1 : data;
}

static void drop(struct way *w, const char *data, size_t n)
{
    const char *end = data + n;

    while (data < end) {
        const char *nl = memchr(data, '\n', (size_t)(end - data));
        w->lost += nl != NULL;
        w->dropping = !nl;
        data = nl ? nl + 1 : end;
    }
}

/* To the end of the line that is dropped; how much that was. */
static size_t drop_rest(struct way *w, const char *data, size_t n)
{
    const char *nl = memchr(data, '\n', n);
    size_t len = nl ? (size_t)(nl + 1 - data) : n;

    drop(w, data, len);
    return len;
}

static bool say_unseen(struct mu_logs *l, struct stream *s, bool anyway)
{
    char note[200];
    uint64_t lines = s->live.lost - s->live.told;
    int n = snprintf(note, sizeof note,
                     "%smuster: %llu line%s of this output are lost: not read in time, not in the log (%s)\n",
                     s->live.midline ? "\n" : "", (unsigned long long)lines, lines == 1 ? "" : "s", strerror(s->why));

    if (!l->on || (!anyway && (size_t)n > room(l, s)) || !add_span(l, s, -1, note, (size_t)n))
        return false;
    s->live.told = s->live.lost;
    return true;
}

/* Into the live view: what is in the file at that place, or (at < 0) what is not, as far as memory goes. */
static void show(struct mu_logs *l, struct stream *s, int64_t at, const char *data, size_t n)
{
    for (size_t len; n; data += len, n -= len, at += at < 0 ? 0 : (int64_t)len) {
        if (s->live.dropping) {
            len = drop_rest(&s->live, data, n);
            continue;
        }
        if (s->live.lost > s->live.told && !say_unseen(l, s, at >= 0) && at < 0) {
            drop(&s->live, data, len = n);
            continue;
        }
        size_t most = at < 0 ? room(l, s) : n;
        len = n <= most ? n : (size_t)(after_lines(data, most) - data);
        if (!len || !add_span(l, s, at, data, len))
            drop(&s->live, data, len = n);
    }
}

static bool say_lost(struct stream *s)
{
    char note[160];
    uint64_t lines = s->file.lost - s->file.told;
    int n = snprintf(note, sizeof note, "%smuster: %llu line%s of this output could not be kept (%s)\n",
                     s->file.midline ? "\n" : "", (unsigned long long)lines, lines == 1 ? "" : "s", strerror(s->why));

    if (!write_file(s, note, (size_t)n))
        return false;
    s->file.told = s->file.lost;
    return true;
}

/* How much of data the file has taken. Half of what does not fit may fit: a disk that is nearly full still takes the
 * first lines. */
static size_t keep(struct stream *s, const char *data, size_t n)
{
    if (s->file.lost > s->file.told && !say_lost(s))
        return 0;
    while (n && !write_file(s, data, n)) {
        size_t half = (size_t)(after_lines(data, n / 2) - data);
        const char *nl = half ? NULL : memchr(data, '\n', n - 1);
        n = half ? half : nl ? (size_t)(nl + 1 - data) : 0;
    }
    return n;
}

static uint64_t count_lines(const char *data, size_t n)
{
    const char *end = data + n;
    uint64_t lines = 0;

    while ((data = memchr(data, '\n', (size_t)(end - data)))) {
        lines++;
        if (++data == end)
            break;
    }
    return lines;
}

static void put(struct mu_logs *l, struct stream *s, const char *data, size_t n)
{
    for (size_t len; n; data += len, n -= len) {
        if (s->file.dropping) {
            len = drop_rest(&s->file, data, n);
        } else {
            len = keep(s, data, n);
            if (len) { /* it is the last that the file has; a line of ours may be before it */
                s->lines += count_lines(data, len);
                show(l, s, (int64_t)(s->kept - len), data, len);
                continue;
            }
            drop(&s->file, data, len = n);
        }
        show(l, s, -1, data, len);
    }
}

static void feed(struct mu_logs *l, struct stream *s, const char *data, size_t n, uint64_t now)
{
    /* In pieces, so that one that does not fit costs little. */
    for (size_t len; n; data += len, n -= len) {
        len = n < MU_LOGS_PIECE ? n : MU_LOGS_PIECE;
        if (len < n && after_lines(data, len) > data)
            len = (size_t)(after_lines(data, len) - data);
        put(l, s, data, len);
    }
    s->fed = now;
}

static struct rank *rank_at(const struct mu_logs *l, uint32_t index)
{
    return l->newest && index < l->newest->n ? &l->newest->ranks[index] : NULL;
}

void mu_logs_feed(struct mu_logs *l, uint32_t index, uint32_t stream, const char *data, size_t n, uint64_t now)
{
    struct rank *r = rank_at(l, index);

    if (!r || !n)
        return;
    if (stream == MU_STREAM_ERR)
        keep_tail(r, data, n);
    reopen(l->newest, &r->s[stream - 1], index, stream, now);
    feed(l, &r->s[stream - 1], data, n, now);
    let_go(l, &r->s[stream - 1]);
}

void mu_logs_note(struct mu_logs *l, uint32_t index, const char *text, uint64_t now)
{
    struct rank *r = rank_at(l, index);
    mu_auto_buf struct mu_buf line = {0};

    if (!r)
        return;
    mu_buf_appendf(&line, "%smuster: %s\n", r->s[MU_STREAM_ERR - 1].live.midline ? "\n" : "", text);
    if (!line.failed)
        mu_logs_feed(l, index, MU_STREAM_ERR, line.data, line.len, now);
}

void mu_logs_end(struct mu_logs *l, uint32_t index, uint32_t stream)
{
    struct rank *r = rank_at(l, index);

    if (!r)
        return;
    struct stream *s = &r->s[stream - 1];
    struct way *ways[] = {&s->file, &s->live};
    for (size_t i = 0; i < MU_COUNT(ways); i++) {
        ways[i]->lost += ways[i]->dropping;
        ways[i]->dropping = false;
    }
    struct stat st;
    if (s->fd >= 0 && s->lines && fstat(s->fd, &st) == 0 && !st.st_nlink) { /* somebody has removed the file */
        s->file.lost += s->lines;
        s->file.told = s->file.lost;
        s->lines = 0;
        s->why = ENOENT;
    }
    if (s->file.lost > s->file.told)
        say_lost(s);
    if (s->live.lost > s->live.told)
        say_unseen(l, s, true);
    s->ended = true;
    let_go(l, s);
}

void mu_logs_tail(const struct mu_logs *l, uint32_t index, char out[MU_LOGS_TAIL + 1])
{
    const struct rank *r = rank_at(l, index);
    uint32_t from, lines = 0;

    out[0] = 0;
    if (!r)
        return;
    for (from = r->tail_len; from > 0; from--)
        if (r->tail[from - 1] == '\n' && from < r->tail_len && ++lines == TAIL_LINES)
            break;
    /* The buffer's start may be the middle of a line. */
    if (!from && r->tail_len == MU_LOGS_TAIL) {
        const char *nl = memchr(r->tail, '\n', r->tail_len - 1);
        from = nl ? (uint32_t)(nl + 1 - r->tail) : 0;
    }
    memcpy(out, r->tail + from, r->tail_len - from);
    out[r->tail_len - from] = 0;
    for (char *p = out; p < out + (r->tail_len - from); p++)
        if (!*p)
            *p = '?';
}

/* --- the live view ----------------------------------------------------------------------------------------------- */

static bool stream_done(const struct mu_logs *l, const struct stream *s)
{
    return s->ended && (!l->on || s->acked == s->written);
}

/* The keeper may outlive its ranks for long, when the job's end cannot be stored: a file that it holds is room on the
 * full disk that removing the file does not give back. */
static void let_go(const struct mu_logs *l, struct stream *s)
{
    if (s->fd < 0 || !stream_done(l, s))
        return;
    close(s->fd);
    s->fd = -1;
    s->shut = true;
}

static bool attempt_done(const struct mu_logs *l, const struct attempt *a)
{
    for (uint32_t i = 0; i < 2 * a->n; i++)
        if (!stream_done(l, &a->ranks[i / 2].s[i % 2]))
            return false;
    return true;
}

/* Forgets older attempts that nobody waits for. */
static void sweep(struct mu_logs *l)
{
    for (struct attempt **at = l->newest ? &l->newest->older : NULL; at && *at;) {
        struct attempt *a = *at;

        if (!attempt_done(l, a)) {
            at = &a->older;
            continue;
        }
        *at = a->older;
        attempt_free(l, a);
    }
}

/* The live view begins at `to`. */
static void advance(struct mu_logs *l, struct stream *s, uint64_t to)
{
    size_t mem = 0;
    uint32_t gone = 0;

    for (uint64_t n = to - s->acked, len; n && gone < s->nspans; n -= len) {
        struct span *p = &s->spans[gone];

        len = n < p->len ? n : p->len;
        if (p->at < 0)
            mem += len;
        else
            p->at += (int64_t)len;
        p->len -= len;
        gone += !p->len;
    }
    s->nspans -= gone;
    memmove(s->spans, s->spans + gone, s->nspans * sizeof *s->spans);
    mu_buf_consume(&s->mem, mem);
    l->mem -= mem;
    s->acked = to;
    if (s->sent < to)
        s->sent = to;
    if (!s->mem.len)
        mu_buf_free(&s->mem);
    let_go(l, s);
}

/* Nobody looks any more: what only memory holds is lost, and what is before it goes unseen too. */
static void forget_mem(struct mu_logs *l, struct stream *s)
{
    uint64_t upto = s->acked, at = s->acked;

    for (uint32_t i = 0; i < s->nspans; i++) {
        at += s->spans[i].len;
        if (s->spans[i].at < 0)
            upto = at;
    }
    for (size_t i = 0; i < s->mem.len; i++)
        s->live.lost += s->mem.data[i] == '\n';
    if (upto > s->acked)
        advance(l, s, upto);
}

void mu_logs_stream(struct mu_logs *l, bool on)
{
    if (!on && !l->on)
        return;
    l->on = on; /* said again: somebody new listens, who may have missed what was on its way */
    if (!on)
        for (struct attempt *a = l->newest; a; a = a->older)
            for (uint32_t i = 0; i < 2 * a->n; i++) {
                forget_mem(l, &a->ranks[i / 2].s[i % 2]);
                let_go(l, &a->ranks[i / 2].s[i % 2]);
            }
    mu_logs_rewind(l);
    sweep(l);
}

void mu_logs_rewind(struct mu_logs *l)
{
    for (struct attempt *a = l->newest; a; a = a->older)
        for (uint32_t i = 0; i < 2 * a->n; i++)
            a->ranks[i / 2].s[i % 2].sent = a->ranks[i / 2].s[i % 2].acked;
}

void mu_logs_ack(struct mu_logs *l, const struct mu_m_output_ack *m)
{
    struct attempt *a = l->newest;

    while (a && a->number != m->attempt)
        a = a->older;
    if (!a || m->job != l->job || m->rank < a->first || m->rank - a->first >= a->n || m->stream < MU_STREAM_OUT ||
        m->stream > MU_STREAM_ERR)
        return;
    struct stream *s = &a->ranks[m->rank - a->first].s[m->stream - 1];
    /* Beyond `sent` after a rewind: it was taken before the link broke. */
    uint64_t to = m->offset < s->written ? m->offset : s->written;
    if (to <= s->acked)
        return;
    advance(l, s, to);
    sweep(l);
}

static uint64_t in_flight(const struct mu_logs *l)
{
    uint64_t sum = 0;

    for (const struct attempt *a = l->newest; a; a = a->older)
        for (uint32_t i = 0; i < 2 * a->n; i++)
            sum += a->ranks[i / 2].s[i % 2].sent - a->ranks[i / 2].s[i % 2].acked;
    return sum;
}

/* Bytes of s at `sent`, at most max, into l->piece; 0 when they cannot be had. */
static size_t peek(struct mu_logs *l, const struct stream *s, size_t max)
{
    uint64_t skip = s->sent - s->acked;
    size_t n = 0, mem = 0;

    for (uint32_t i = 0; i < s->nspans && n < max; i++) {
        const struct span *p = &s->spans[i];
        uint64_t from = skip < p->len ? skip : p->len;
        size_t want = p->len - from < max - n ? (size_t)(p->len - from) : max - n;

        skip -= from;
        if (p->at < 0) {
            memcpy(l->piece + n, s->mem.data + mem + from, want);
            mem += p->len;
            n += want;
            continue;
        }
        while (want) {
            ssize_t got = pread(s->fd, l->piece + n, want, p->at + (off_t)from);
            if (got < 0 && errno == EINTR)
                continue;
            if (got <= 0)
                return n; /* someone took the file's bytes away */
            n += (size_t)got;
            from += (uint64_t)got;
            want -= (size_t)got;
        }
    }
    return n;
}

/* Behind the piece of the file that cannot be had at `sent`. */
static void skip_span(struct mu_logs *l, struct stream *s)
{
    uint64_t end = s->acked;

    for (uint32_t i = 0; i < s->nspans && end <= s->sent; i++)
        end += s->spans[i].len;
    advance(l, s, end);
}

/* How much of s may go now. */
static size_t ready(struct mu_logs *l, struct stream *s, uint64_t credit, uint64_t now, uint64_t *again)
{
    size_t max = credit < MU_LOGS_PIECE ? (size_t)credit : MU_LOGS_PIECE;

    if (s->sent == s->written || !max)
        return 0;
    size_t n = peek(l, s, max);
    if (!n) {
        skip_span(l, s);
        return 0;
    }
    size_t lines = (size_t)(after_lines(l->piece, n) - l->piece);
    if (lines)
        return lines;
    if (n == MU_LOGS_PIECE || (s->ended && s->sent + n == s->written))
        return n;
    if (n == max)
        return 0; /* waits for credit */
    if (now - s->fed >= PARTIAL_MS * MU_MS)
        return n;
    if (s->fed + PARTIAL_MS * MU_MS < *again)
        *again = s->fed + PARTIAL_MS * MU_MS;
    return 0;
}

bool mu_logs_next(struct mu_logs *l, uint64_t now, struct mu_m_output *out, uint64_t *again)
{
    struct attempt *order[64];
    uint64_t later = UINT64_MAX, flying;
    unsigned n = 0;

    if (again)
        *again = UINT64_MAX;
    if (!l->on || (flying = in_flight(l)) >= MU_LOGS_WINDOW)
        return false;
    /* Oldest attempt first: a reader follows the job. */
    for (struct attempt *a = l->newest; a; a = a->older) {
        if (n == MU_COUNT(order))
            memmove(order, order + 1, --n * sizeof order[0]);
        order[n++] = a;
    }
    while (n--) {
        struct attempt *a = order[n];

        for (uint32_t k = 0; k < 2 * a->n; k++) {
            uint32_t i = (l->turn + k) % (2 * a->n);
            struct stream *s = &a->ranks[i / 2].s[i % 2];
            if (s->shut && s->sent != s->written)
                reopen(a, s, i / 2, i % 2 + 1, now);
            size_t len = ready(l, s, MU_LOGS_WINDOW - flying, now, &later);

            if (!len)
                continue;
            *out = (struct mu_m_output){.job = l->job,
                                        .attempt = a->number,
                                        .rank = a->first + i / 2,
                                        .stream = i % 2 + 1,
                                        .offset = s->sent,
                                        .data = {.data = (uint8_t *)l->piece, .len = (uint32_t)len},
                                        .dropped = s->file.lost,
                                        .why = s->file.lost ? (uint32_t)s->why : 0};
            s->sent += len;
            l->turn = i + 1;
            return true;
        }
    }
    if (again)
        *again = later;
    return false;
}

bool mu_logs_drained(const struct mu_logs *l)
{
    if (!l->on)
        return true;
    for (const struct attempt *a = l->newest; a; a = a->older)
        if (!attempt_done(l, a))
            return false;
    return true;
}

void mu_logs_lost(const struct mu_logs *l, struct mu_m_report *r)
{
    const struct attempt *a = l->newest;

    r->dropped = r->unseen = 0;
    for (uint32_t i = 0; a && i < 2 * a->n; i++) {
        const struct stream *s = &a->ranks[i / 2].s[i % 2];
        r->dropped += s->file.lost;
        r->unseen += s->live.lost;
        if (s->file.lost)
            r->drop_why = (uint32_t)s->why;
    }
}
