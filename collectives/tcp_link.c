#include "collectives/tcp_link.h"

#include <errno.h>
#include <string.h>
#include <sys/uio.h>

/* There may be room later. */
static bool may_pass(int e)
{
    return e == EAGAIN || e == EINTR || e == ENOBUFS || e == ENOMEM;
}

static size_t whole(const struct mu_frame *f)
{
    return sizeof f->head + f->head.bytes;
}

int mu_link_write(struct mu_link *l, struct mu_frame *f)
{
    ssize_t n = send(l->fd, (const char *)&f->head + f->gone, whole(f) - f->gone, MSG_DONTWAIT | MSG_NOSIGNAL);

    if (n < 0)
        return may_pass(errno) ? 0 : -1;
    l->used = true;
    f->gone += (uint32_t)n;
    return f->gone == whole(f);
}

ssize_t mu_link_write_from(struct mu_link *l, const struct mu_frame_head *head, const void *payload)
{
    struct iovec two[2] = {{(void *)(uintptr_t)head, sizeof *head}, {(void *)(uintptr_t)payload, head->bytes}};
    struct msghdr m = {.msg_iov = two, .msg_iovlen = head->bytes ? 2 : 1};
    ssize_t n = sendmsg(l->fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL);

    if (n < 0 && may_pass(errno))
        errno = EAGAIN;
    l->used |= n > 0;
    return n;
}

bool mu_link_flush(struct mu_link *l, struct mu_frames *done, unsigned *pending)
{
    while (l->queue.first) {
        int rc = mu_link_write(l, l->queue.first);

        if (rc <= 0)
            return rc == 0;
        mu_frames_push(done, mu_frames_pop(&l->queue));
        --*pending;
    }
    return true;
}

int mu_link_take(struct mu_link *l, struct mu_pool *pool, size_t n, struct mu_frames *arrived, struct mu_err *err)
{
    l->got += n;
    while (l->got >= sizeof l->in->head) {
        struct mu_frame *f = l->in, *next = NULL;
        size_t size = whole(f), more;

        if (f->head.magic != MU_FRAME_MAGIC || f->head.bytes > MU_CHUNK)
            return mu_err_set(err, MUSTER_EVERSION,
                              "rank %d sent something else than a frame of this version of muster", l->peer);
        if (l->got < size)
            return 0;
        more = l->got - size;
        if (more) {
            next = mu_frame_new(pool, MU_CHUNK);
            if (!next)
                return mu_err_set(err, MUSTER_ENOMEM, "no memory to receive into");
            memcpy(&next->head, (const char *)&f->head + size, more);
        }
        if (f->head.type == MU_FRAME_BYE) {
            l->bye = true;
            mu_frame_free(pool, f);
        } else {
            mu_frames_push(arrived, f);
        }
        l->in = next;
        l->got = more;
        if (!next)
            return 0;
    }
    return 0;
}

int mu_link_read(struct mu_link *l, struct mu_pool *pool, struct mu_frames *arrived, struct mu_tcp_hello *hello,
                 struct mu_err *err)
{
    size_t most = sizeof l->in->head + (l->greeted ? MU_CHUNK : 0); /* a stranger gets no further than its hello */
    ssize_t n;

    if (!l->in)
        l->in = mu_frame_new(pool, MU_CHUNK);
    if (!l->in)
        return mu_err_set(err, MUSTER_ENOMEM, "no memory to receive into");
    n = recv(l->fd, (char *)&l->in->head + l->got, most - l->got, MSG_DONTWAIT);
    if (n == 0)
        return MU_LINK_END;
    if (n < 0)
        return errno == EAGAIN || errno == EINTR ? MU_LINK_FRAMES : MU_LINK_BROKEN;
    if (l->greeted)
        return mu_link_take(l, pool, (size_t)n, arrived, err);
    l->got += (size_t)n;
    if (l->got < sizeof *hello)
        return MU_LINK_FRAMES;
    memcpy(hello, &l->in->head, sizeof *hello);
    l->got = 0;
    return MU_LINK_HELLO;
}
