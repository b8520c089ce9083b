#include "collectives/tcp.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <unistd.h>

#include "collectives/tcp_link.h"
#include "runtime/base/clock.h"

#define EVENTS 32
#define BELOW_MOST 64u        /* idle polls between two looks at the transport below */
#define PATIENCE (3 * MU_SEC) /* with an address */
#define SILENT (5 * MU_SEC)
#define STRANGERS                                                                                                      \
    128u /* that have connected and not said who they are; SILENT: how long before others take their place */
#define GRACE (5 * MU_SEC) /* whoever watches over the ranks can say better why a peer is gone */
#define GOODBYE (2 * MU_SEC)
#define GOODBYE_MS 1     /* that an event is waited for */
#define OTHER_FILES 256u /* that the program may have open beside connections to all */

struct peer {
    struct mu_link *out;  /* what goes to it; NULL: nothing so far */
    struct mu_link *held; /* not read before the end of what it sent on another one */
    unsigned tried;       /* addresses */
    bool below;           /* it could not be reached */
    bool ended;           /* the connection that it began and then left has been read to its end */
    bool torn;            /* that end was none */
    bool gone;
};

struct tcp {
    struct mu_transport base;
    struct mu_transport *below;
    struct mu_tcp_card mine, *cards;
    struct peer *peers;
    bool closing;
    int listener, events;
    struct mu_link *links, *buried;
    struct mu_frames arrived, done; /* done: what has been sent, or will not be */
    unsigned npending;              /* frames in queues */
    unsigned nconnecting, nstrangers;
    unsigned idle, below_every; /* polls */
    uint64_t looked_at;
    int lost; /* the first peer that is gone; -1 */
    int why;  /* errno; 0: it has closed the connection */
    uint64_t lost_at;
};

static struct tcp *of(struct mu_transport *t)
{
    return (struct tcp *)t;
}

/* --- links --- */

/* With several addresses the first one may be somebody else's: nothing is sent before the peer has answered there. */
static bool must_wait(const struct mu_link *l)
{
    return l->connecting || (l->wary && !l->greeted);
}

static void listen_for(struct tcp *t, struct mu_link *l)
{
    bool writes = l->connecting || (l->queue.first && !must_wait(l) && !l->write_off);
    struct epoll_event e = {.events = (l->held ? 0u : EPOLLIN) | (writes ? EPOLLOUT : 0u), .data.ptr = l};

    if (l->asked != e.events || l->deaf)
        epoll_ctl(t->events, l->deaf ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, l->fd, &e);
    l->asked = e.events;
    l->deaf = false;
}

/* Its end is looked at later. */
static void be_deaf(struct tcp *t, struct mu_link *l)
{
    epoll_ctl(t->events, EPOLL_CTL_DEL, l->fd, NULL);
    l->deaf = true;
}

static struct mu_link *new_link(struct tcp *t, int fd, int peer)
{
    struct mu_link *l = calloc(1, sizeof *l);
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = l};
    int on = 1;

    if (!l || epoll_ctl(t->events, EPOLL_CTL_ADD, fd, &e) < 0) {
        free(l);
        close(fd);
        return NULL;
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    l->fd = fd;
    l->peer = peer;
    l->asked = EPOLLIN;
    l->since = mu_now();
    l->next = t->links;
    t->links = l;
    return l;
}

/* What it has to send is taken from it before. Freed later: an event may still point to it. */
static void bury(struct tcp *t, struct mu_link *l)
{
    for (struct mu_link **p = &t->links; *p; p = &(*p)->next)
        if (*p == l) {
            *p = l->next;
            break;
        }
    if (l->peer >= 0 && t->peers[l->peer].held == l)
        t->peers[l->peer].held = NULL;
    /* A child of the program may still have it open. */
    epoll_ctl(t->events, EPOLL_CTL_DEL, l->fd, NULL);
    shutdown(l->fd, SHUT_RDWR);
    close(l->fd);
    l->fd = -1;
    t->nconnecting -= l->connecting;
    t->nstrangers -= l->peer < 0;
    mu_frame_free(t->base.pool, l->in);
    l->in = NULL;
    l->next = t->buried;
    t->buried = l;
}

static void dig(struct tcp *t)
{
    for (struct mu_link *l; (l = t->buried);) {
        t->buried = l->next;
        free(l);
    }
}

static void give_up_frames(struct tcp *t, struct mu_frames *q)
{
    for (struct mu_frame *f; (f = mu_frames_pop(q)); t->npending--)
        mu_frames_push(&t->done, f);
}

static void note_lost(struct tcp *t, int peer, int why)
{
    t->peers[peer].gone = true;
    t->peers[peer].out = NULL;
    if (t->lost >= 0)
        return;
    t->lost = peer;
    t->why = why;
    t->lost_at = mu_now();
}

/* --- sending --- */

static int send_below(struct tcp *t, int peer, struct mu_frame *f, struct mu_err *err)
{
    t->below_every = 1;
    return t->below->ops->send(t->below, peer, f, err);
}

static void move_below(struct tcp *t, int peer, struct mu_frames *q)
{
    struct mu_err err;

    t->peers[peer].below = true;
    t->peers[peer].out = NULL;
    for (struct mu_frame *f; (f = mu_frames_pop(q)); t->npending--) {
        int rc = send_below(t, peer, f, &err);

        if (rc < 0)
            note_lost(t, peer, ECOMM);
        if (rc != MU_SEND_PENDING)
            mu_frames_push(&t->done, f);
    }
}

/* Nothing more comes of it. */
static void fail_link(struct tcp *t, struct mu_link *l, int why)
{
    struct peer *p = l->peer < 0 ? NULL : &t->peers[l->peer];

    if (p && (p->out == l || (l->leaving && l->queue.first)))
        note_lost(t, l->peer, why);
    give_up_frames(t, &l->queue);
    bury(t, l);
}

/* Nothing more can be sent; what the peer has said before is still read. */
static void fail_write(struct tcp *t, struct mu_link *l, int why)
{
    if (t->peers[l->peer].out == l || (l->leaving && l->queue.first))
        note_lost(t, l->peer, why);
    give_up_frames(t, &l->queue);
    l->write_off = true;
    listen_for(t, l);
}

static void flush(struct tcp *t, struct mu_link *l)
{
    if (!must_wait(l) && !mu_link_flush(l, &t->done, &t->npending)) {
        fail_write(t, l, errno);
        return;
    }
    if (l->leaving && !l->queue.first && !l->shut) {
        shutdown(l->fd, SHUT_WR); /* and not closed: what has not been read would take back what has been sent */
        l->shut = true;
    }
    listen_for(t, l);
}

static struct mu_link *connect_to(struct tcp *t, int peer);

/* The next address, or another way. */
static void try_again(struct tcp *t, struct mu_link *l)
{
    int peer = l->peer;
    struct mu_frames q = l->queue;
    struct mu_link *n;

    l->queue = (struct mu_frames){0};
    bury(t, l);
    n = connect_to(t, peer);
    t->peers[peer].out = n;
    if (n)
        n->queue = q;
    else
        move_below(t, peer, &q);
}

static struct mu_link *connect_to(struct tcp *t, int peer)
{
    struct sockaddr_storage to;
    socklen_t n;

    while (mu_tcp_candidate(&t->mine, &t->cards[peer], t->peers[peer].tried, &to, &n)) {
        int fd = socket(to.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), rc;
        struct sockaddr_storage other;
        socklen_t no;
        struct mu_link *l;

        t->peers[peer].tried++;
        if (fd < 0)
            continue;
        rc = connect(fd, (struct sockaddr *)&to, n);
        if (rc < 0 && errno != EINPROGRESS) {
            close(fd);
            continue;
        }
        l = new_link(t, fd, peer);
        if (!l)
            continue;
        l->ours = l->connecting = true;
        l->wary =
            t->peers[peer].tried > 1 || mu_tcp_candidate(&t->mine, &t->cards[peer], t->peers[peer].tried, &other, &no);
        t->nconnecting++;
        listen_for(t, l);
        return l;
    }
    return NULL;
}

static bool say_hello(struct tcp *t, struct mu_link *l, unsigned flags)
{
    struct mu_tcp_hello h;

    mu_tcp_hello_set(&h, t->base.rank, l->peer, t->cards[l->peer].secret, flags);
    return send(l->fd, &h, sizeof h, MSG_NOSIGNAL) == (ssize_t)sizeof h; /* there is room in a new connection */
}

static void connected(struct tcp *t, struct mu_link *l)
{
    int e = 0;
    socklen_t n = sizeof e;

    if (getsockopt(l->fd, SOL_SOCKET, SO_ERROR, &e, &n) < 0 || e || !say_hello(t, l, 0)) {
        try_again(t, l);
        return;
    }
    l->connecting = false;
    t->nconnecting--;
    flush(t, l);
}

static int tcp_send(struct mu_transport *base, int peer, struct mu_frame *f, struct mu_err *err)
{
    struct tcp *t = of(base);
    struct peer *p = &t->peers[peer];
    struct mu_frames none = {0};
    struct mu_link *l;

    if (p->gone)
        return MU_SEND_DONE; /* nobody will miss it */
    if (p->below)
        return send_below(t, peer, f, err);
    if (!p->out)
        p->out = connect_to(t, peer);
    l = p->out;
    if (!l) {
        move_below(t, peer, &none);
        return send_below(t, peer, f, err);
    }
    f->gone = 0;
    if (!must_wait(l) && !l->queue.first) {
        int rc = mu_link_write(l, f);

        if (rc > 0)
            return MU_SEND_DONE;
        if (rc < 0) {
            fail_write(t, l, errno);
            return MU_SEND_DONE;
        }
    }
    mu_frames_push(&l->queue, f);
    t->npending++;
    listen_for(t, l);
    return MU_SEND_PENDING;
}

static int tcp_send_from(struct mu_transport *base, int peer, const struct mu_frame_head *head, const void *payload,
                         struct mu_frame **rest, struct mu_err *err)
{
    struct tcp *t = of(base);
    struct mu_link *l = t->peers[peer].out;
    size_t all = sizeof *head + head->bytes;
    struct mu_frame *f;
    ssize_t n;

    *rest = NULL;
    if (!l || must_wait(l) || l->queue.first)
        return MU_SEND_PENDING;
    n = mu_link_write_from(l, head, payload);
    if (n < 0 && errno != EAGAIN) {
        fail_write(t, l, errno);
        return MU_SEND_DONE;
    }
    if (n < 0)
        return MU_SEND_PENDING;
    if ((size_t)n == all)
        return MU_SEND_DONE;
    f = mu_frame_new(base->pool, head->bytes);
    if (!f) {
        fail_write(t, l, ENOMEM); /* half a frame has left */
        return mu_err_set(err, MUSTER_ENOMEM, "no memory for what is left of a message");
    }
    f->head = *head;
    if (head->bytes)
        memcpy(f->data, payload, head->bytes);
    f->gone = (uint32_t)n;
    mu_frames_push(&l->queue, f);
    t->npending++;
    listen_for(t, l);
    *rest = f;
    return MU_SEND_PENDING;
}

/* --- receiving --- */

static void adopt(struct tcp *t, struct mu_link *l)
{
    struct peer *p = &t->peers[l->peer];
    struct mu_link *mine = p->out;
    unsigned flags = 0;

    if (mine && !mine->ours) { /* it has one */
        fail_link(t, l, EPROTO);
        return;
    }
    /* Both have connected: mine stays, if the peer can know of it, and this one is read to its end. */
    if (mine && t->base.rank < l->peer && !mine->connecting) {
        if (!say_hello(t, l, 0))
            fail_link(t, l, errno);
        return;
    }
    if (mine) {
        struct mu_frame *half = mine->queue.first && mine->queue.first->gone ? mu_frames_pop(&mine->queue) : NULL;

        l->queue = mine->queue;
        mine->queue = (struct mu_frames){0};
        if (half)
            mu_frames_push(&mine->queue, half);
        if (mine->used) {
            flags = MU_TCP_MOVED;
            mine->leaving = true;
        }
    }
    if (p->below || p->gone)
        l->write_off = true;
    else
        p->out = l;
    if (!say_hello(t, l, flags)) {
        fail_link(t, l, errno);
        return;
    }
    if (mine && mine->leaving)
        flush(t, mine);
    else if (mine)
        bury(t, mine);
    flush(t, l);
}

static void greeted(struct tcp *t, struct mu_link *l, const struct mu_tcp_hello *h)
{
    int from;

    if (!mu_tcp_hello_ok(h, &t->mine, t->base.rank, t->base.size, &from) || (l->ours && from != l->peer)) {
        if (l->ours && !l->used) /* somebody else's address */
            try_again(t, l);
        else
            fail_link(t, l, EPROTO);
        return;
    }
    l->greeted = true;
    if (!l->ours) {
        l->peer = from;
        t->nstrangers--;
        adopt(t, l);
        return;
    }
    if (h->flags & MU_TCP_MOVED && t->peers[from].torn) {
        fail_link(t, l, EPIPE);
        return;
    }
    if (h->flags & MU_TCP_MOVED && !t->peers[from].ended) {
        t->peers[from].held = l;
        l->held = true;
    }
    flush(t, l);
}

/* The connection that the peer began and then left. */
static void ended_old(struct tcp *t, struct mu_link *l, int why)
{
    struct peer *p = &t->peers[l->peer];
    struct mu_link *held = p->held;

    p->ended = true;
    p->torn = why || l->got;
    p->held = NULL;
    if (!held)
        return;
    held->held = false;
    if (p->torn)
        fail_link(t, held, why ? why : EPIPE);
    else
        listen_for(t, held);
}

static void ended(struct tcp *t, struct mu_link *l, int why)
{
    struct peer *p = l->peer < 0 ? NULL : &t->peers[l->peer];

    if (p && !t->closing && l->ours && !l->used && !l->greeted && p->out == l) { /* nobody of this job was there */
        try_again(t, l);
        return;
    }
    if (p && !l->ours && !l->write_off && p->out != l)
        ended_old(t, l, why);
    if (p && l->bye) { /* it has come to the end of the job before us */
        p->gone = true;
        p->out = p->out == l ? NULL : p->out;
        t->lost = t->lost == l->peer ? -1 : t->lost;
    }
    fail_link(t, l, why);
}

static int receive(struct tcp *t, struct mu_link *l, struct mu_err *err)
{
    struct mu_tcp_hello h;
    int rc = mu_link_read(l, t->base.pool, &t->arrived, &h, err);

    if (rc == MU_LINK_HELLO)
        greeted(t, l, &h);
    else if (rc == MU_LINK_END)
        ended(t, l, 0);
    else if (rc == MU_LINK_BROKEN)
        ended(t, l, errno);
    return rc < 0 ? rc : 0;
}

static struct mu_link *oldest_stranger(const struct tcp *t)
{
    struct mu_link *oldest = NULL; /* newer ones come first */

    for (struct mu_link *l = t->links; l; l = l->next)
        if (l->peer < 0)
            oldest = l;
    return oldest;
}

/* They mostly have said who they are by now. */
static int accept_all(struct tcp *t, struct mu_err *err)
{
    int rc = 0;

    while (rc == 0) {
        struct mu_link *l;
        int fd;

        if (t->nstrangers >= STRANGERS) {
            l = oldest_stranger(t);
            if (mu_now() < l->since + SILENT)
                break;
            bury(t, l);
        }
        fd = accept4(t->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0)
            break;
        l = new_link(t, fd, -1);
        if (!l)
            continue;
        t->nstrangers++;
        rc = receive(t, l, err);
    }
    return rc;
}

/* Connections that do not come about, and strangers that say nothing; after all that has happened was looked at. */
static void look(struct tcp *t)
{
    struct mu_link *l = t->links;

    while (l) {
        struct mu_link *next = l->next;

        if (l->connecting && mu_now() > l->since + PATIENCE) {
            try_again(t, l);
            next = t->links; /* it may have changed all over */
        } else if (l->peer < 0 && mu_now() > l->since + 3 * SILENT) {
            bury(t, l);
        }
        l = next;
    }
}

static int work(struct tcp *t, int wait_ms, struct mu_err *err)
{
    struct epoll_event e[EVENTS];
    int n = epoll_wait(t->events, e, EVENTS, wait_ms), rc = 0;

    for (int i = 0; i < n && rc == 0; i++) {
        struct mu_link *l = e[i].data.ptr;

        if (!l) {
            rc = accept_all(t, err);
            continue;
        }
        if (l->fd >= 0 && l->connecting) {
            if (e[i].events & (EPOLLOUT | EPOLLERR | EPOLLHUP))
                connected(t, l);
            continue;
        }
        if (l->fd >= 0 && e[i].events & EPOLLOUT)
            flush(t, l);
        if (l->fd >= 0 && !l->held && e[i].events & (EPOLLIN | EPOLLERR | EPOLLHUP))
            rc = receive(t, l, err);
        else if (l->fd >= 0 && l->held && e[i].events & (EPOLLERR | EPOLLHUP))
            be_deaf(t, l);
    }
    if (t->nconnecting + t->nstrangers && n < EVENTS) {
        uint64_t now = mu_now_roughly();

        if (now != t->looked_at)
            look(t);
        t->looked_at = now;
    }
    dig(t);
    return rc;
}

static int poll_below(struct tcp *t, struct mu_frame **in, struct mu_frames *sent, struct mu_err *err)
{
    int rc;

    if (++t->idle < t->below_every)
        return 0;
    t->idle = 0;
    rc = t->below->ops->poll(t->below, in, sent, err);
    if (*in || t->below->ops->pending(t->below))
        t->below_every = 1;
    else if (t->below_every < BELOW_MOST)
        t->below_every *= 2;
    return rc;
}

static int tcp_poll(struct mu_transport *base, struct mu_frame **in, struct mu_frames *sent, struct mu_err *err)
{
    struct tcp *t = of(base);
    int rc = t->arrived.first ? 0 : work(t, 0, err);

    for (struct mu_frame *f; (f = mu_frames_pop(&t->done));)
        mu_frames_push(sent, f);
    *in = mu_frames_pop(&t->arrived);
    if (rc < 0)
        return rc;
    if (t->lost >= 0 && mu_now_roughly() > t->lost_at + GRACE)
        return mu_err_set(err, MUSTER_EPEER, "TCP: rank %d is not there any more: %s", t->lost,
                          t->why ? strerror(t->why) : "it has closed the connection");
    return *in ? 0 : poll_below(t, in, sent, err);
}

static unsigned tcp_pending(struct mu_transport *base)
{
    struct tcp *t = of(base);

    return t->npending + t->below->ops->pending(t->below);
}

static void orphan(struct mu_frames *q, const struct muster_request *owner)
{
    for (struct mu_frame *f = q->first; f; f = f->next)
        if (f->owner == owner)
            f->owner = NULL;
}

static void tcp_orphan(struct mu_transport *base, const struct muster_request *owner)
{
    struct tcp *t = of(base);

    for (struct mu_link *l = t->links; l; l = l->next)
        orphan(&l->queue, owner);
    orphan(&t->done, owner);
    t->below->ops->orphan(t->below, owner);
}

/* --- life --- */

void mu_tcp_drop(struct mu_transport *base)
{
    struct tcp *t = of(base);

    while (t->links) {
        mu_frames_clear(&t->links->queue, base->pool);
        bury(t, t->links);
    }
    dig(t);
    mu_frames_clear(&t->arrived, base->pool);
    mu_frames_clear(&t->done, base->pool);
    if (t->listener >= 0)
        close(t->listener);
    if (t->events >= 0)
        close(t->events);
    free(t->cards);
    free(t->peers);
    free(t);
}

/* Each side ends what it sends and reads to the end of the other's: a connection that is closed before takes back what
 * has not arrived. */
static void say_goodbye(struct tcp *t, uint64_t until)
{
    static const struct mu_frame_head bye = {.magic = MU_FRAME_MAGIC, .type = MU_FRAME_BYE};
    struct mu_err err;
    int rc = 0;

    t->closing = true;
    epoll_ctl(t->events, EPOLL_CTL_DEL, t->listener, NULL);
    for (struct mu_link *l = t->links, *next; l; l = next) {
        next = l->next;
        if (must_wait(l) || l->peer < 0) {
            bury(t, l);
            continue;
        }
        if (t->peers[l->peer].out == l)
            mu_link_write_from(l, &bye, NULL);
        if (!l->shut)
            shutdown(l->fd, SHUT_WR);
    }
    while (t->links && rc == 0 && mu_now() < until) {
        rc = work(t, GOODBYE_MS, &err);
        mu_frames_clear(&t->arrived, t->base.pool);
    }
}

static int tcp_close(struct mu_transport *base, uint64_t deadline, struct mu_err *err)
{
    struct tcp *t = of(base);
    struct mu_transport *below = t->below;
    uint64_t until = mu_now() + GOODBYE;
    int rc = 0;

    while (t->npending && rc == 0 && mu_now() < deadline)
        rc = work(t, GOODBYE_MS, err);
    if (rc < 0)
        return rc;
    if (t->npending) /* to somebody who takes nothing any more */
        return mu_err_set(err, MUSTER_ETIMEOUT, "%u messages could not be delivered", t->npending);
    say_goodbye(t, until < deadline ? until : deadline);
    mu_tcp_drop(base);
    return below->ops->close(below, deadline, err);
}

static const struct mu_transport_ops tcp_ops = {
    .name = "tcp",
    .send = tcp_send,
    .send_from = tcp_send_from,
    .poll = tcp_poll,
    .pending = tcp_pending,
    .orphan = tcp_orphan,
    .close = tcp_close,
};

/* A connection to everybody has to be possible. */
static bool room_for(int size)
{
    struct rlimit most;

    return getrlimit(RLIMIT_NOFILE, &most) == 0 && most.rlim_cur > (rlim_t)size + OTHER_FILES;
}

int mu_tcp_open(struct mu_transport *below, struct mu_tcp_card *mine, struct mu_transport **out, struct mu_err *err)
{
    struct tcp *t = calloc(1, sizeof *t);
    struct epoll_event e = {.events = EPOLLIN};

    *mine = (struct mu_tcp_card){0};
    if (!t)
        return mu_err_set(err, MUSTER_ENOMEM, "no memory for the transport");
    t->base = (struct mu_transport){.ops = &tcp_ops, .pool = below->pool, .rank = below->rank, .size = below->size};
    t->below = below;
    t->below_every = 1;
    t->lost = t->listener = t->events = -1;
    t->peers = calloc((size_t)below->size, sizeof *t->peers);
    if (!t->peers)
        mu_err_set(err, MUSTER_ENOMEM, "no memory for the transport");
    else if (!room_for(below->size))
        mu_err_set(err, MUSTER_ENOSYS, "TCP: too few files may be open (ulimit -n) for connections to %d ranks",
                   below->size);
    else
        t->listener = mu_tcp_listen(mine, err);
    if (t->listener >= 0) {
        t->events = epoll_create1(EPOLL_CLOEXEC);
        if (t->events < 0 || epoll_ctl(t->events, EPOLL_CTL_ADD, t->listener, &e) < 0) {
            mu_err_set(err, MUSTER_ENOSYS, "TCP: epoll: %s", strerror(errno));
            mine->ready = 0;
        }
    }
    if (!mine->ready) {
        snprintf(mine->why, sizeof mine->why, "%.*s", (int)sizeof mine->why - 1, err->text);
        mu_tcp_drop(&t->base);
        return err->code;
    }
    t->mine = *mine;
    *out = &t->base;
    return 0;
}

bool mu_tcp_is_worth_it(const struct mu_tcp_card *cards, int size)
{
    bool apart = false;

    for (int r = 0; r < size; r++) {
        if (!cards[r].ready || cards[r].fabric)
            return false;
        apart |= !mu_tcp_one_stack(&cards[0], &cards[r]);
    }
    return apart;
}

void mu_tcp_join(struct mu_transport *base, struct mu_tcp_card *cards, bool everywhere)
{
    struct tcp *t = of(base);

    t->cards = cards;
    for (int r = 0; r < base->size; r++)
        t->peers[r].below = !everywhere && mu_tcp_one_stack(&t->mine, &cards[r]);
}
