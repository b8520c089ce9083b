#include "runtime/keeper/feed.h"

#include <errno.h>
#include <event2/event.h>
#include <stdlib.h>
#include <unistd.h>

#include "runtime/base/buf.h"
#include "runtime/base/log.h"

/* The sender keeps at most 64 KiB on the way; whoever sends more than this is broken. */
enum { MOST = 1 << 20 };

struct mu_feed {
    struct event_base *base;
    mu_feed_fn fn;
    void *arg;
    struct mu_buf buf; /* taken .. end */
    uint64_t taken, end;
    struct event *ev;
    int fd; /* -1: none */
    bool eof, discard;
};

struct mu_feed *mu_feed_new(struct event_base *base, mu_feed_fn fn, void *arg)
{
    struct mu_feed *f = calloc(1, sizeof *f);

    if (f)
        *f = (struct mu_feed){.base = base, .fn = fn, .arg = arg, .fd = -1};
    return f;
}

static void hang_up(struct mu_feed *f)
{
    if (f->ev)
        event_free(f->ev);
    if (f->fd >= 0)
        close(f->fd);
    f->ev = NULL;
    f->fd = -1;
}

void mu_feed_free(struct mu_feed *f)
{
    if (!f)
        return;
    hang_up(f);
    mu_buf_free(&f->buf);
    free(f);
}

static void took(struct mu_feed *f, size_t n)
{
    mu_buf_consume(&f->buf, n);
    f->taken += n;
    f->fn(f->arg, f->taken);
}

static void on_writable(evutil_socket_t fd, short what, void *arg);

static void push(struct mu_feed *f)
{
    while (f->fd >= 0 && f->buf.len) {
        ssize_t n = write(f->fd, f->buf.data, f->buf.len);

        if (n > 0) {
            took(f, (size_t)n);
            continue;
        }
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN) {
            if (f->ev)
                event_add(f->ev, NULL);
            return;
        }
        mu_feed_detach(f); /* the program has closed its input */
    }
    if (f->fd >= 0 && f->eof)
        hang_up(f);
}

static void on_writable(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what;
    push(arg);
}

void mu_feed_put(struct mu_feed *f, const struct mu_m_input *m)
{
    const char *data = (const char *)m->data.data;
    uint64_t n = m->data.len;

    if (m->offset > f->end && !f->buf.len)
        f->end = f->taken = m->offset; /* what came before went to a keeper that is gone */
    if (m->offset > f->end)
        return;
    uint64_t skip = f->end - m->offset;
    if (skip > n)
        skip = n;
    if (f->buf.len + (n - skip) > MOST) {
        mu_log(MU_LOG_WARN, "keeper", "standard input: more than was agreed on; %llu bytes refused",
               (unsigned long long)(n - skip));
        return;
    }
    if (n > skip) {
        if (mu_buf_reserve(&f->buf, n - skip))
            return; /* not acknowledged: it is sent again */
        mu_buf_append(&f->buf, data + skip, n - skip);
        f->end += n - skip;
    }
    f->eof |= m->eof != 0;
    if (f->discard && f->buf.len)
        took(f, f->buf.len);
    else if (n && skip == n)
        f->fn(f->arg, f->taken);
    push(f);
}

void mu_feed_attach(struct mu_feed *f, int fd)
{
    hang_up(f);
    f->discard = false;
    f->fd = fd;
    f->ev = event_new(f->base, fd, EV_WRITE, on_writable, f);
    if (!f->ev) {
        mu_log(MU_LOG_ERROR, "keeper", "standard input: out of memory");
        mu_feed_detach(f);
        return;
    }
    push(f);
}

void mu_feed_detach(struct mu_feed *f)
{
    hang_up(f);
    f->discard = true;
    if (f->buf.len)
        took(f, f->buf.len);
}

void mu_feed_hold(struct mu_feed *f)
{
    hang_up(f);
    f->discard = false;
}
