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

enum { TAIL_LINES = 8, PARTIAL_MS = 200 };

struct stream {
    int fd;                        /* -1: `mem` holds what is not acknowledged */
    uint64_t written, sent, acked; /* acked <= sent <= written */
    struct mu_buf mem;             /* bytes acked .. written */
    uint64_t fed;                  /* time of the last byte */
    uint64_t lost, told;           /* lines dropped; of these said in the file */
    int why;                       /* errno of the last failure */
    bool dropping;                 /* in the middle of a line that is dropped */
    bool midline;                  /* what is written does not end with a newline */
    bool ended;
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
    struct rank ranks[];
};

struct mu_logs {
    uint64_t job;
    struct attempt *newest;
    bool on;
    uint64_t gone_lost; /* lines dropped in attempts that are gone */
    uint32_t turn;      /* streams take turns */
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

static void attempt_free(struct attempt *a)
{
    for (uint32_t i = 0; i < 2 * a->n; i++) {
        struct stream *s = &a->ranks[i / 2].s[i % 2];
        if (s->fd >= 0)
            close(s->fd);
        mu_buf_free(&s->mem);
    }
    free(a);
}

void mu_logs_free(struct mu_logs *l)
{
    if (!l)
        return;
    while (l->newest) {
        struct attempt *a = l->newest;
        l->newest = a->older;
        attempt_free(a);
    }
    free(l->piece);
    free(l);
}

/* --- files ------------------------------------------------------------------------------------------------------- */

static int make_dir(const char *dir, uint32_t attempt, mode_t mode, char *path, struct mu_err *err)
{
    char name[32];
    int rc = mu_path_mkdirs(dir, 0700, err);

    snprintf(name, sizeof name, "attempt-%u", attempt);
    if (!rc)
        rc = mu_path_join(path, PATH_MAX, dir, name, err);
    if (rc)
        return rc;
    if (mkdir(path, 0700) < 0 && errno != EEXIST)
        return mu_err_errno(err, 0, "cannot make %s", path);
    if (chmod(path, 0700 | mode | (mode & 0444) >> 2) < 0)
        return mu_err_errno(err, 0, "cannot set the mode of %s", path);
    return 0;
}

static int open_file(const char *dir, uint32_t rank, const char *suffix, mode_t mode, struct mu_err *err)
{
    char path[PATH_MAX], name[32];

    snprintf(name, sizeof name, "rank-%u.%s", rank, suffix);
    int rc = mu_path_join(path, sizeof path, dir, name, err);
    if (rc)
        return rc;
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return mu_err_errno(err, 0, "cannot make %s", path);
    if (mode != 0600)
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

static void sweep(struct mu_logs *l);

int mu_logs_begin(struct mu_logs *l, const char *dir, uint32_t attempt, uint32_t first, uint32_t n, mode_t mode,
                  bool latest, struct mu_err *err)
{
    static const char *const suffix[] = {"out", "err"};
    struct attempt *a = calloc(1, sizeof *a + n * sizeof a->ranks[0]);
    char path[PATH_MAX];
    int rc;

    if (!a)
        return mu_err_set(err, MUSTER_ENOMEM, "logs: out of memory");
    a->number = attempt;
    a->first = first;
    a->n = n;
    a->older = l->newest;
    l->newest = a;
    rc = dir && *dir ? make_dir(dir, attempt, mode, path, err) : mu_err_set(err, MUSTER_EIO, "no directory for logs");
    for (uint32_t i = 0; i < 2 * n; i++) {
        struct stream *s = &a->ranks[i / 2].s[i % 2];

        s->fd = -1;
        if (rc)
            continue;
        s->fd = open_file(path, first + i / 2, suffix[i % 2], mode, err);
        if (s->fd < 0)
            rc = s->fd;
    }
    if (!rc && latest)
        point_latest(dir, attempt);
    sweep(l);
    return rc;
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

/* Appends to file or memory what they take, and returns how much that was. */
static size_t append(const struct mu_logs *l, struct stream *s, const char *data, size_t n)
{
    size_t done = 0;

    if (s->fd < 0) {
        if (!l->on) {
            s->why = ENOSPC;
            return 0;
        }
        size_t room = s->mem.len < MU_LOGS_PIECE ? MU_LOGS_PIECE - s->mem.len : 0;
        done = n < room ? n : room;
        if (!done || mu_buf_reserve(&s->mem, done)) {
            s->why = ENOBUFS;
            return 0;
        }
        mu_buf_append(&s->mem, data, done);
    }
    while (s->fd >= 0 && done < n) {
        ssize_t got = pwrite(s->fd, data + done, n - done, (off_t)(s->written + done));
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0) {
            s->why = got < 0 ? errno : ENOSPC;
            break;
        }
        done += (size_t)got;
    }
    return done;
}

/* Everything of `data` or nothing, as far as the file is concerned: no reader sees half a line that has no rest. */
static bool append_whole(const struct mu_logs *l, struct stream *s, const char *data, size_t n)
{
    size_t done = append(l, s, data, n);

    if (done == n) {
        s->written += n;
        s->midline = data[n - 1] != '\n';
        return true;
    }
    if (s->fd < 0)
        s->mem.len -= done;
    else if (done && ftruncate(s->fd, (off_t)s->written) < 0)
        s->why = errno; /* the next write goes over it */
    return false;
}

static bool say_lost(const struct mu_logs *l, struct stream *s)
{
    char note[160];
    uint64_t lines = s->lost - s->told;
    int n = snprintf(note, sizeof note, "%smuster: %llu line%s of this output could not be kept (%s)\n",
                     s->midline ? "\n" : "", (unsigned long long)lines, lines == 1 ? "" : "s", strerror(s->why));

    if (!append_whole(l, s, note, (size_t)n))
        return false;
    s->told = s->lost;
    return true;
}

static const char *after_lines(const char *data, size_t n)
{
    const char *nl = memrchr(data, '\n', n);

    return nl ? nl + 1 : data;
}

static void drop(struct stream *s, const char *data, size_t n)
{
    const char *end = data + n;

    while (data < end) {
        const char *nl = memchr(data, '\n', (size_t)(end - data));
        s->lost += nl != NULL;
        s->dropping = !nl;
        data = nl ? nl + 1 : end;
    }
}

/* Half of what does not fit may fit: a disk that is nearly full still takes the first lines. */
static void put(const struct mu_logs *l, struct stream *s, const char *data, size_t n)
{
    while (n) {
        if (s->dropping) {
            const char *nl = memchr(data, '\n', n);
            size_t skip = nl ? (size_t)(nl + 1 - data) : n;
            drop(s, data, skip);
            data += skip;
            n -= skip;
            continue;
        }
        if (s->lost > s->told && !say_lost(l, s)) {
            drop(s, data, n);
            return;
        }
        size_t len = n;
        while (len && !append_whole(l, s, data, len)) {
            size_t half = (size_t)(after_lines(data, len / 2) - data);
            const char *nl = half ? NULL : memchr(data, '\n', len - 1);
            len = half ? half : nl ? (size_t)(nl + 1 - data) : 0;
        }
        if (!len) {
            drop(s, data, n);
            return;
        }
        data += len;
        n -= len;
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
    feed(l, &r->s[stream - 1], data, n, now);
}

void mu_logs_note(struct mu_logs *l, uint32_t index, const char *text, uint64_t now)
{
    struct rank *r = rank_at(l, index);
    mu_auto_buf struct mu_buf line = {0};

    if (!r)
        return;
    mu_buf_appendf(&line, "%smuster: %s\n", r->s[MU_STREAM_ERR - 1].midline ? "\n" : "", text);
    if (!line.failed)
        mu_logs_feed(l, index, MU_STREAM_ERR, line.data, line.len, now);
}

void mu_logs_end(struct mu_logs *l, uint32_t index, uint32_t stream)
{
    struct rank *r = rank_at(l, index);

    if (!r)
        return;
    struct stream *s = &r->s[stream - 1];
    if (s->dropping) {
        s->dropping = false;
        s->lost++;
    }
    if (s->lost > s->told)
        say_lost(l, s);
    s->ended = true;
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
        for (uint32_t i = 0; i < 2 * a->n; i++)
            l->gone_lost += a->ranks[i / 2].s[i % 2].lost;
        *at = a->older;
        attempt_free(a);
    }
}

static void forget_mem(struct stream *s)
{
    s->acked = s->sent = s->written;
    mu_buf_free(&s->mem);
}

void mu_logs_stream(struct mu_logs *l, bool on)
{
    if (!on && !l->on)
        return;
    l->on = on; /* said again: somebody new listens, who may have missed what was on its way */
    if (!on)
        for (struct attempt *a = l->newest; a; a = a->older)
            for (uint32_t i = 0; i < 2 * a->n; i++)
                if (a->ranks[i / 2].s[i % 2].fd < 0)
                    forget_mem(&a->ranks[i / 2].s[i % 2]);
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
    if (s->fd < 0)
        mu_buf_consume(&s->mem, to - s->acked);
    s->acked = to;
    if (s->sent < to)
        s->sent = to;
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
    uint64_t left = s->written - s->sent;
    size_t n = left < max ? (size_t)left : max;

    if (s->fd < 0) {
        memcpy(l->piece, s->mem.data + (s->sent - s->acked), n);
        return n;
    }
    ssize_t got;
    do
        got = pread(s->fd, l->piece, n, (off_t)s->sent);
    while (got < 0 && errno == EINTR);
    return got > 0 ? (size_t)got : 0;
}

/* How much of s may go now. */
static size_t ready(struct mu_logs *l, struct stream *s, uint64_t credit, uint64_t now, uint64_t *again)
{
    size_t max = credit < MU_LOGS_PIECE ? (size_t)credit : MU_LOGS_PIECE;

    if (s->sent == s->written || !max)
        return 0;
    size_t n = peek(l, s, max);
    if (!n) {
        /* Someone took the file's bytes away; the view goes on behind them. */
        s->acked = s->sent = s->written;
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
            size_t len = ready(l, s, MU_LOGS_WINDOW - flying, now, &later);

            if (!len)
                continue;
            *out = (struct mu_m_output){.job = l->job,
                                        .attempt = a->number,
                                        .rank = a->first + i / 2,
                                        .stream = i % 2 + 1,
                                        .offset = s->sent,
                                        .data = {.data = (uint8_t *)l->piece, .len = (uint32_t)len},
                                        .dropped = s->lost};
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

uint64_t mu_logs_dropped(const struct mu_logs *l)
{
    uint64_t sum = l->gone_lost;

    for (const struct attempt *a = l->newest; a; a = a->older)
        for (uint32_t i = 0; i < 2 * a->n; i++)
            sum += a->ranks[i / 2].s[i % 2].lost;
    return sum;
}
