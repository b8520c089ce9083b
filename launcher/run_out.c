#include "launcher/run_out.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/base/clean.h"
#include "runtime/base/clock.h"
#include "runtime/wire/core.h"

#define DOUBT_NS (5 * MU_SEC)
enum {
    PART_MAX = 65536,  /* of a line that has not ended; longer ones are let through in pieces */
    SHARED_WRITE = 512 /* at a time where the descriptor may block: what POLLOUT promises for a pipe or terminal */
};

struct stream {
    uint32_t attempt;
    uint64_t next;
    struct mu_buf part; /* beginning of a line */
};

struct mark { /* when `at` bytes are written, acknowledge */
    uint64_t at, offset;
    uint32_t attempt, rank, stream;
};

struct sink {
    int fd;
    bool ours, socket, shared, terminal, dead, told;
    int error;
    struct mu_buf q;
    uint64_t queued, written;
    uint64_t open; /* stream + 1 whose line has not ended, OWN for muster's own, 0 = at the start of a line */
    struct mark *marks;
    size_t first, n, cap;
};

struct mu_out {
    uint64_t job;
    uint32_t ranks;
    bool tag, failed;
    uint64_t doubt; /* until then a gap is no loss */
    mu_out_ack_fn ack;
    void *arg;
    struct sink sinks[2];
    struct stream *streams; /* rank * 2 + sink */
};

/* Our own open file description, so that O_NONBLOCK is not seen by those who share the terminal or pipe. */
static void open_sink(struct sink *s, int fd)
{
    char path[64];
    struct stat st;

    s->fd = fd;
    if (fstat(fd, &st) < 0) {
        s->dead = s->told = true;
        return;
    }
    if (S_ISREG(st.st_mode) || (fcntl(fd, F_GETFL) & O_ACCMODE) == O_RDONLY) /* the caller has closed it */
        return;
    s->terminal = isatty(fd);
    s->socket = S_ISSOCK(st.st_mode);
    if (s->socket)
        return;
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    int mine = open(path, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    s->ours = mine >= 0;
    s->shared = mine < 0;
    if (mine >= 0)
        s->fd = mine;
}

struct mu_out *mu_out_new(uint64_t job, uint32_t ranks, bool tag, int out, int err, mu_out_ack_fn ack, void *arg)
{
    struct mu_out *o = calloc(1, sizeof *o);

    if (!o)
        return NULL;
    o->job = job;
    o->ranks = ranks;
    o->tag = tag;
    o->ack = ack;
    o->arg = arg;
    open_sink(&o->sinks[0], out);
    open_sink(&o->sinks[1], err);
    o->streams = calloc(2 * (size_t)ranks, sizeof *o->streams);
    if (!o->streams) {
        mu_out_free(o);
        return NULL;
    }
    return o;
}

void mu_out_free(struct mu_out *o)
{
    if (!o)
        return;
    for (int i = 0; i < 2; i++) {
        if (o->sinks[i].ours)
            close(o->sinks[i].fd);
        mu_buf_free(&o->sinks[i].q);
        free(o->sinks[i].marks);
    }
    for (size_t i = 0; o->streams && i < 2 * (size_t)o->ranks; i++)
        mu_buf_free(&o->streams[i].part);
    free(o->streams);
    free(o);
}

static void queue(struct sink *s, const void *data, size_t n)
{
    s->queued += n;
    if (s->dead)
        s->written = s->queued;
    else
        mu_buf_append(&s->q, data, n);
}

static void begin_line(struct mu_out *o, struct sink *s, size_t stream)
{
    char tag[64];

    if (o->tag && stream < 2 * (size_t)o->ranks) {
        int n = snprintf(tag, sizeof tag, "[%llu,%zu]<%s>:", (unsigned long long)o->job, stream / 2,
                         stream % 2 ? "stderr" : "stdout");
        queue(s, tag, (size_t)n);
    }
}

/* Text of a stream (or of muster: the number behind the last) goes out. */
static void emit(struct mu_out *o, struct sink *s, size_t stream, const char *data, size_t n)
{
    if (!n)
        return;
    if (s->open && s->open != stream + 1) {
        queue(s, "\n", 1);
        s->open = 0;
    }
    if (!o->tag) {
        queue(s, data, n);
        s->open = data[n - 1] == '\n' ? 0 : stream + 1;
        return;
    }
    while (n) {
        const char *nl = memchr(data, '\n', n);
        size_t len = nl ? (size_t)(nl - data) + 1 : n;
        if (!s->open)
            begin_line(o, s, stream);
        queue(s, data, len);
        s->open = nl ? 0 : stream + 1;
        data += len;
        n -= len;
    }
}

static void let_go(struct mu_out *o, size_t stream)
{
    struct stream *st = &o->streams[stream];

    emit(o, &o->sinks[stream % 2], stream, mu_buf_str(&st->part), st->part.len);
    mu_buf_clear(&st->part);
}

static void add(struct mu_out *o, size_t stream, const char *data, size_t n)
{
    struct stream *st = &o->streams[stream];
    struct sink *s = &o->sinks[stream % 2];
    const char *last = n ? memrchr(data, '\n', n) : NULL;
    /* with one rank there is nobody to keep apart; prompts and progress bars come through */
    size_t whole = o->ranks == 1 && !o->tag ? n : last ? (size_t)(last - data) + 1 : 0;

    if (whole) {
        let_go(o, stream);
        emit(o, s, stream, data, whole);
    }
    if (whole < n)
        mu_buf_append(&st->part, data + whole, n - whole);
    /* somebody who looks wants to see a prompt; keepers send such text only when its line does not end soon */
    if (st->part.len > PART_MAX || (st->part.len && (s->open == stream + 1 || (s->terminal && !s->open))))
        let_go(o, stream);
    o->failed = o->failed || st->part.failed || s->q.failed;
}

static int mark(struct mu_out *o, const struct mu_m_output *m, uint64_t offset)
{
    struct sink *s = &o->sinks[m->stream == MU_STREAM_ERR];

    if (s->first + s->n == s->cap) {
        if (s->first) {
            memmove(s->marks, s->marks + s->first, s->n * sizeof *s->marks);
            s->first = 0;
        } else {
            size_t cap = s->cap ? s->cap * 2 : 64;
            struct mark *v = realloc(s->marks, cap * sizeof *v);
            if (!v)
                return MUSTER_ENOMEM;
            s->marks = v;
            s->cap = cap;
        }
    }
    s->marks[s->first + s->n++] =
        (struct mark){.at = s->queued, .offset = offset, .attempt = m->attempt, .rank = m->rank, .stream = m->stream};
    return 0;
}

void mu_out_resume(struct mu_out *o, uint64_t now)
{
    o->doubt = now + DOUBT_NS;
}

int mu_out_take(struct mu_out *o, const struct mu_m_output *m, uint64_t now)
{
    if (m->rank >= o->ranks || (m->stream != MU_STREAM_OUT && m->stream != MU_STREAM_ERR))
        return MUSTER_EARG;
    size_t stream = 2 * (size_t)m->rank + (m->stream == MU_STREAM_ERR);
    struct stream *st = &o->streams[stream];
    struct sink *s = &o->sinks[stream % 2];
    uint64_t end = m->offset + m->data.len, skip = 0;

    if (m->attempt > st->attempt) {
        let_go(o, stream);
        if (s->open == stream + 1) { /* what follows is another program's line */
            queue(s, "\n", 1);
            s->open = 0;
        }
        st->attempt = m->attempt;
        st->next = 0;
    }
    if (m->attempt == st->attempt && m->offset > st->next && now < o->doubt)
        return 0;
    if (m->attempt == st->attempt && end > st->next) {
        if (m->offset < st->next)
            skip = st->next - m->offset;
        add(o, stream, (const char *)m->data.data + skip, m->data.len - skip);
        st->next = end;
    }
    if (o->failed || mark(o, m, end))
        return MUSTER_ENOMEM;
    return 0;
}

void mu_out_puts(struct mu_out *o, const char *text)
{
    size_t n = strlen(text), own = 2 * (size_t)o->ranks;

    emit(o, &o->sinks[1], own, text, n);
}

void mu_out_note(struct mu_out *o, const char *fmt, ...)
{
    mu_auto_buf struct mu_buf b = {0};
    va_list ap;

    mu_buf_puts(&b, "muster: ");
    va_start(ap, fmt);
    mu_buf_appendv(&b, fmt, ap);
    va_end(ap);
    mu_buf_putc(&b, '\n');
    mu_out_puts(o, mu_buf_str(&b));
}

void mu_out_finish(struct mu_out *o)
{
    for (size_t i = 0; i < 2 * (size_t)o->ranks; i++)
        if (o->streams[i].part.len)
            let_go(o, i);
}

void mu_out_poll(const struct mu_out *o, struct pollfd v[2])
{
    for (int i = 0; i < 2; i++)
        v[i] = (struct pollfd){.fd = o->sinks[i].q.len ? o->sinks[i].fd : -1, .events = POLLOUT};
}

static void acknowledge(struct mu_out *o, struct sink *s)
{
    while (s->n && s->marks[s->first].at <= s->written) {
        const struct mark *m = &s->marks[s->first];
        /* of neighbours for one stream the last will do */
        bool more = s->n > 1 && m[1].at <= s->written && m[1].rank == m->rank && m[1].stream == m->stream &&
                    m[1].attempt == m->attempt && m[1].offset >= m->offset;
        if (!more)
            o->ack(o->arg, m->attempt, m->rank, m->stream, m->offset);
        s->first++;
        s->n--;
    }
    if (!s->n)
        s->first = 0;
}

int mu_out_write(struct mu_out *o, int which, bool ready)
{
    struct sink *s = &o->sinks[which];

    while (s->q.len && !s->dead && (ready || !s->shared)) {
        size_t want = s->shared && s->q.len > SHARED_WRITE ? SHARED_WRITE : s->q.len > 65536 ? 65536 : s->q.len;
        ssize_t n =
            s->socket ? send(s->fd, s->q.data, want, MSG_DONTWAIT | MSG_NOSIGNAL) : write(s->fd, s->q.data, want);
        if (n > 0) {
            mu_buf_consume(&s->q, (size_t)n);
            s->written += (size_t)n;
            if (s->shared)
                break;
        } else if (n < 0 && errno == EINTR) {
            continue;
        } else if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
            break;
        } else {
            s->dead = true;
            s->error = n < 0 ? errno : EIO;
            mu_buf_free(&s->q);
            s->written = s->queued;
        }
    }
    acknowledge(o, s);
    if (!s->dead || s->told)
        return 0;
    s->told = true;
    return s->error;
}

bool mu_out_pending(const struct mu_out *o)
{
    return o->sinks[0].q.len || o->sinks[1].q.len;
}
