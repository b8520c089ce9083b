#include "runtime/wire/link.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/util.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "runtime/base/clean.h"
#include "runtime/base/clock.h"
#include "runtime/base/log.h"
#include "runtime/base/path.h"
#include "runtime/wire/tls.h"
#include "runtime/wire/tls_conn.h"

#define FLUSH_SECONDS 5
#define ACCEPT_PAUSE_MS 100
#define SINGLE_MAX (256u << 10)
#define LIBEVENT_READS 4096u /* at most in one go, whatever it is told */
#define CHUNK (64u << 10)
/* Over TLS so much is encrypted ahead of the socket, and more once it has fallen so low. */
#define AHEAD SINGLE_MAX
#define AHEAD_LOW (AHEAD / 2)

struct mu_link {
    struct bufferevent *bev;
    struct mu_tls_conn *tls; /* NULL: a Unix socket. It owns bev */
    struct evbuffer *in;     /* what came; bev's own unless tls */
    struct evbuffer *out;    /* tls: what is not encrypted yet */
    size_t left;             /* of what was read, not used up yet */
    mu_link_msg_fn on_msg;
    mu_link_down_fn on_down;
    void *arg;
    struct event *later; /* delivers what was already read when reading resumes */
    unsigned busy;       /* inside a callback: freed only behind it */
    bool dead, down, paused, flushing, write_failed;
    bool ended; /* tls: nothing more will come */
    bool bye, shut;
    char name[48];
};

static _Atomic unsigned flushing; /* a command has its links in another thread */

bool mu_link_may_log(void)
{
    static uint64_t since;
    static unsigned n;
    uint64_t now = mu_now();

    if (now - since > 10 * MU_SEC) {
        since = now;
        n = 0;
    }
    return n++ < 10;
}

static void destroy(struct mu_link *link)
{
    if (link->flushing)
        flushing--;
    if (link->later)
        event_free(link->later);
    if (link->tls) {
        if (link->in)
            evbuffer_free(link->in);
        if (link->out)
            evbuffer_free(link->out);
        mu_tls_conn_free(link->tls);
    } else if (link->bev) {
        bufferevent_free(link->bev);
    }
    free(link);
}

static void leave(struct mu_link *link)
{
    if (!--link->busy && link->dead)
        destroy(link);
}

static void go_down(struct mu_link *link)
{
    if (link->down || link->dead)
        return;
    link->down = true;
    bufferevent_disable(link->bev, EV_READ | EV_WRITE);
    if (link->flushing) {
        link->dead = true;
        return;
    }
    link->on_down(link->arg, link);
}

/* < 0: cut the peer off. */
static int hand_over(struct mu_link *link, const unsigned char *frame, size_t len)
{
    struct mu_err err;
    struct mu_msg msg;
    int rc = mu_msg_decode(frame, len, &msg, &err);

    if (rc && mu_link_may_log())
        mu_log(MU_LOG_WARN, "wire", "%s: %s; %s", link->name, err.text, rc == MUSTER_EVERSION ? "skipped" : "closing");
    if (!rc) {
        link->on_msg(link->arg, link, &msg, frame, len);
        mu_msg_free(&msg);
    }
    return rc && rc != MUSTER_EVERSION ? rc : 1;
}

/* 1: one frame is done with; 0: not whole yet; < 0: cut the peer off. */
static int deliver_one(struct mu_link *link)
{
    struct evbuffer *in = link->in;
    size_t have = evbuffer_get_length(in);
    uint8_t head[4];

    if (have < sizeof head)
        return 0;
    evbuffer_copyout(in, head, sizeof head);
    if (mu_msg_frame(head, sizeof head) < 0) {
        if (mu_link_may_log())
            mu_log(MU_LOG_WARN, "wire", "%s: no message starts like this; closing", link->name);
        return MUSTER_ECORRUPT;
    }
    size_t len = 4 + ((size_t)head[0] | (size_t)head[1] << 8 | (size_t)head[2] << 16 | (size_t)head[3] << 24);
    if (have < len)
        return 0;
    const unsigned char *frame = evbuffer_pullup(in, (ev_ssize_t)len);
    if (!frame)
        return MUSTER_ENOMEM;
    int rc = hand_over(link, frame, len);
    if (!link->dead)
        evbuffer_drain(in, len);
    return rc;
}

/* The next record of what has come. False: there is none. */
static bool decrypt(struct mu_link *link)
{
    struct mu_err err;
    size_t n;
    int rc = mu_tls_decrypt(link->tls, link->in, &n, &err);

    link->ended = rc != 0;
    if (rc < 0 && mu_link_may_log())
        mu_log(MU_LOG_WARN, "wire", "%s: %s; closing", link->name, err.text);
    return n != 0;
}

static void deliver(struct mu_link *link)
{
    int rc = 1;

    if (link->flushing) {
        struct evbuffer *raw = bufferevent_get_input(link->bev);
        evbuffer_drain(raw, evbuffer_get_length(raw));
        return;
    }
    while (rc >= 0 && !link->dead && !link->down && !link->paused && !link->flushing) {
        rc = deliver_one(link);
        if (rc == 0 && (!link->tls || link->ended || !decrypt(link)))
            break;
    }
    if (link->dead)
        return;
    if ((rc < 0 || (link->ended && !link->paused)) && !link->flushing)
        go_down(link);
}

/* Where there is much, a turn of the loop for each 4 KiB would be most of the work, and beats behind it would be late.
 * The end of the stream, and errors, are libevent's to find. */
static void read_more(struct mu_link *link)
{
    struct evbuffer *raw = bufferevent_get_input(link->bev);
    size_t most = evbuffer_get_length(raw) + SINGLE_MAX;
    ssize_t got = CHUNK;

    if (evbuffer_get_length(raw) < link->left + LIBEVENT_READS)
        return;
    evbuffer_unfreeze(raw, 0);
    while (got == CHUNK && evbuffer_get_length(raw) < most) {
        struct evbuffer_iovec room;
        if (evbuffer_reserve_space(raw, CHUNK, &room, 1) != 1)
            break;
        got = recv(bufferevent_getfd(link->bev), room.iov_base, CHUNK, MSG_DONTWAIT);
        room.iov_len = got > 0 ? (size_t)got : 0;
        evbuffer_commit_space(raw, &room, 1);
    }
    evbuffer_freeze(raw, 0);
}

static void on_read(struct bufferevent *bev, void *arg)
{
    struct mu_link *link = arg;

    link->busy++;
    if (bev)
        read_more(link);
    deliver(link);
    if (!link->dead)
        link->left = evbuffer_get_length(bufferevent_get_input(link->bev));
    leave(link);
}

static void on_later(evutil_socket_t fd, short what, void *arg)
{
    struct mu_link *link = arg;

    (void)fd, (void)what;
    if (link->flushing)
        destroy(link); /* the peer does not close */
    else
        on_read(NULL, arg);
}

static int encrypt(struct mu_link *link)
{
    if (!mu_tls_encrypt(link->tls, link->out, AHEAD))
        return 0;
    link->write_failed = true; /* a part of a record is missing now */
    return MUSTER_ENOMEM;
}

/* Ends what is flushing as far as it is written. A TCP connection that is closed over unread bytes is reset, and the
 * peer may lose what it has not read: so it closes first. */
static void finish(struct mu_link *link)
{
    static const struct timeval limit = {.tv_sec = FLUSH_SECONDS};
    struct evbuffer *out = bufferevent_get_output(link->bev);

    if (!link->tls) {
        if (!evbuffer_get_length(out) && !link->busy)
            destroy(link);
        return;
    }
    if (!evbuffer_get_length(link->out) && !link->bye) {
        link->bye = true;
        mu_tls_bye(link->tls);
    }
    if (!link->bye || evbuffer_get_length(out) || link->shut)
        return;
    link->shut = true;
    shutdown(bufferevent_getfd(link->bev), SHUT_WR);
    event_add(link->later, &limit);
}

static void on_written(struct bufferevent *bev, void *arg)
{
    struct mu_link *link = arg;

    (void)bev;
    link->busy++;
    if (link->tls && !link->write_failed && encrypt(link))
        go_down(link);
    link->busy--;
    if (link->dead)
        destroy(link);
    else if (link->flushing)
        finish(link);
}

static void on_event(struct bufferevent *bev, short what, void *arg)
{
    struct mu_link *link = arg;

    link->busy++;
    if ((what & BEV_EVENT_WRITING) && (what & BEV_EVENT_ERROR) && !link->flushing) {
        /* It may have said why it left: read on until its end. */
        link->write_failed = true;
        bufferevent_disable(bev, EV_WRITE);
        struct evbuffer *out = bufferevent_get_output(bev);
        evbuffer_unfreeze(out, 1);
        evbuffer_drain(out, evbuffer_get_length(out));
        evbuffer_freeze(out, 1);
        if (link->out)
            evbuffer_drain(link->out, evbuffer_get_length(link->out));
    } else if (what & (BEV_EVENT_EOF | BEV_EVENT_ERROR | BEV_EVENT_TIMEOUT)) {
        go_down(link);
    }
    leave(link);
}

/* Takes bev and tls over once it succeeds. */
static struct mu_link *new_link(struct event_base *base, struct bufferevent *bev, struct mu_tls_conn *tls,
                                mu_link_msg_fn on_msg, mu_link_down_fn on_down, void *arg)
{
    struct mu_link *link = calloc(1, sizeof *link);

    if (!link)
        return NULL;
    link->on_msg = on_msg;
    link->on_down = on_down;
    link->arg = arg;
    link->later = event_new(base, -1, 0, on_later, link);
    link->in = tls ? evbuffer_new() : bufferevent_get_input(bev);
    link->out = tls ? evbuffer_new() : NULL;
    if (!link->later || !link->in || (tls && !link->out))
        goto fail;
    bufferevent_set_max_single_read(bev, SINGLE_MAX);
    bufferevent_set_max_single_write(bev, SINGLE_MAX);
    bufferevent_setcb(bev, on_read, on_written, on_event, link);
    if (bufferevent_enable(bev, EV_READ | EV_WRITE)) {
        bufferevent_setcb(bev, NULL, NULL, NULL, NULL);
        goto fail;
    }
    link->bev = bev;
    link->tls = tls;
    mu_link_name(link, tls ? mu_tls_conn_peer(tls) : "peer");
    return link;
fail:
    if (tls && link->in)
        evbuffer_free(link->in);
    if (link->out)
        evbuffer_free(link->out);
    if (link->later)
        event_free(link->later);
    free(link);
    return NULL;
}

struct mu_link *mu_link_new(struct event_base *base, int fd, mu_link_msg_fn on_msg, mu_link_down_fn on_down, void *arg)
{
    struct bufferevent *bev = bufferevent_socket_new(base, fd, BEV_OPT_CLOSE_ON_FREE);

    if (!bev) {
        close(fd);
        return NULL;
    }
    evutil_make_socket_nonblocking(fd);
    struct mu_link *link = new_link(base, bev, NULL, on_msg, on_down, arg);
    if (!link)
        bufferevent_free(bev);
    return link;
}

struct mu_link *mu_link_new_tls(struct mu_tls_conn *tls, mu_link_msg_fn on_msg, mu_link_down_fn on_down, void *arg)
{
    struct mu_link *link = new_link(tls->base, tls->bev, tls, on_msg, on_down, arg);

    if (!link) {
        mu_tls_conn_free(tls);
        return NULL;
    }
    bufferevent_setwatermark(link->bev, EV_READ, 0, 0);
    bufferevent_setwatermark(link->bev, EV_WRITE, AHEAD_LOW, 0);
    /* what came right behind the peer's proof */
    event_active(link->later, EV_TIMEOUT, 0);
    return link;
}

void mu_link_free(struct mu_link *link)
{
    if (!link)
        return;
    link->dead = true;
    if (!link->busy)
        destroy(link);
}

void mu_link_close_after_flush(struct mu_link *link)
{
    static const struct timeval limit = {.tv_sec = FLUSH_SECONDS};

    if (!link)
        return;
    if (link->down || link->write_failed || (!link->tls && !mu_link_pending(link))) {
        mu_link_free(link);
        return;
    }
    link->flushing = true;
    flushing++;
    event_del(link->later);
    /* What the peer still sends is read and dropped; its end is noticed. */
    bufferevent_enable(link->bev, EV_READ | EV_WRITE);
    bufferevent_set_timeouts(link->bev, NULL, &limit);
    finish(link);
}

unsigned mu_link_flushing(void)
{
    return flushing;
}

int mu_link_send(struct mu_link *link, const void *frame, size_t len)
{
    if (link->down || link->write_failed || link->flushing)
        return MUSTER_EPEER;
    if (!link->tls)
        return bufferevent_write(link->bev, frame, len) ? MUSTER_ENOMEM : 0;
    return evbuffer_add(link->out, frame, len) ? MUSTER_ENOMEM : encrypt(link);
}

int mu_link_send_msg(struct mu_link *link, enum mu_msg_type type, const void *body)
{
    mu_auto_buf struct mu_buf b = {0};
    int rc = mu_msg_encode(&b, type, body);

    return rc ? rc : mu_link_send(link, b.data, b.len);
}

int mu_link_send_tail(struct mu_link *link, enum mu_msg_type type, const void *body, const void *tail, size_t n)
{
    mu_auto_buf struct mu_buf b = {0};
    struct evbuffer *to = link->tls ? link->out : bufferevent_get_output(link->bev);
    int rc;

    if (!n)
        return mu_link_send_msg(link, type, body);
    if (link->down || link->write_failed || link->flushing)
        return MUSTER_EPEER;
    if ((rc = mu_msg_encode_head(&b, type, body, n)))
        return rc;
    if (evbuffer_add(to, b.data, b.len))
        return MUSTER_ENOMEM;
    if (evbuffer_add(to, tail, n)) {
        link->write_failed = true; /* a part of a frame is missing now */
        return MUSTER_ENOMEM;
    }
    return link->tls ? encrypt(link) : 0;
}

size_t mu_link_pending(const struct mu_link *link)
{
    return evbuffer_get_length(bufferevent_get_output(link->bev)) + (link->out ? evbuffer_get_length(link->out) : 0);
}

void mu_link_pause(struct mu_link *link, bool on)
{
    if (link->paused == on || link->flushing)
        return;
    link->paused = on;
    if (link->down)
        return;
    if (on) {
        bufferevent_disable(link->bev, EV_READ);
    } else {
        bufferevent_enable(link->bev, EV_READ);
        event_active(link->later, EV_TIMEOUT, 0);
    }
}

void mu_link_name(struct mu_link *link, const char *name)
{
    size_t n = strnlen(name, sizeof link->name - 1);

    memcpy(link->name, name, n);
    link->name[n] = 0;
}

/* --- listening and connecting ------------------------------------------------------------------------------------ */

struct mu_listener {
    struct event *ev, *resume;
    mu_accept_fn on_accept;
    void *arg;
    int fd;
    bool all; /* accounts */
};

/* 1: the peer is of our account. */
static int ours(int fd, struct ucred *peer)
{
    socklen_t len = sizeof *peer;

    return !getsockopt(fd, SOL_SOCKET, SO_PEERCRED, peer, &len) && len == sizeof *peer && peer->uid == geteuid();
}

static void on_resume(evutil_socket_t fd, short what, void *arg)
{
    struct mu_listener *l = arg;

    (void)fd, (void)what;
    event_add(l->ev, NULL);
}

static void on_acceptable(evutil_socket_t lfd, short what, void *arg)
{
    static const struct timeval pause = {.tv_usec = ACCEPT_PAUSE_MS * 1000};
    struct mu_listener *l = arg;
    struct ucred peer = {0};

    (void)what;
    int fd = accept4(lfd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0) {
        if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
            if (mu_link_may_log())
                mu_log(MU_LOG_ERROR, "wire", "cannot accept connections: %s", strerror(errno));
            event_del(l->ev);
            event_add(l->resume, &pause);
        }
        return;
    }
    if (!ours(fd, &peer) && !l->all) {
        if (mu_link_may_log())
            mu_log(MU_LOG_WARN, "wire", "refused a connection of uid %ld (pid %ld)", (long)peer.uid, (long)peer.pid);
        close(fd);
        return;
    }
    l->on_accept(l->arg, fd, (int)peer.pid);
}

/* In its place under its final name only once it listens, so that nobody meets a socket that refuses. */
static int bound_socket(const char *dir, const char *name, bool all, int *out, struct mu_err *err)
{
    mu_auto_fd int dirfd = -1;
    mu_auto_fd int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct sockaddr_un sa, tmp;
    socklen_t len, tmplen;
    mu_auto_fd int tmpdirfd = -1;
    char tmpname[64];

    if (fd < 0)
        return mu_err_errno(err, 0, "cannot make a socket");
    int rc = mu_path_sockaddr(dir, name, &sa, &len, &dirfd, err);
    if (rc)
        return rc;
    snprintf(tmpname, sizeof tmpname, ".%.40s.%d", name, (int)getpid());
    rc = mu_path_sockaddr(dir, tmpname, &tmp, &tmplen, &tmpdirfd, err);
    if (rc)
        return rc;
    unlink(tmp.sun_path);
    mode_t mask = umask(all ? 0111 : 0177);
    rc = bind(fd, (struct sockaddr *)&tmp, tmplen);
    int e = errno;
    umask(mask);
    errno = e;
    if (rc)
        return mu_err_errno(err, 0, "cannot make the socket %s/%s", dir, name);
    if (listen(fd, 512) || rename(tmp.sun_path, sa.sun_path)) {
        rc = mu_err_errno(err, 0, "cannot listen on %s/%s", dir, name);
        unlink(tmp.sun_path);
        return rc;
    }
    *out = MU_STEAL(fd, -1);
    return 0;
}

static int listen_at(struct event_base *base, const char *dir, const char *name, bool all, mu_accept_fn on_accept,
                     void *arg, struct mu_listener **out, struct mu_err *err)
{
    mu_auto_fd int fd = -1;
    int rc = bound_socket(dir, name, all, &fd, err);

    if (rc)
        return rc;
    struct mu_listener *l = calloc(1, sizeof *l);
    if (!l)
        return mu_err_set(err, MUSTER_ENOMEM, "out of memory");
    l->fd = MU_STEAL(fd, -1);
    l->all = all;
    l->on_accept = on_accept;
    l->arg = arg;
    l->ev = event_new(base, l->fd, EV_READ | EV_PERSIST, on_acceptable, l);
    l->resume = event_new(base, -1, 0, on_resume, l);
    if (!l->ev || !l->resume || event_add(l->ev, NULL)) {
        mu_listener_free(l);
        return mu_err_set(err, MUSTER_ENOMEM, "out of memory");
    }
    *out = l;
    return 0;
}

int mu_listen_unix(struct event_base *base, const char *dir, const char *name, mu_accept_fn on_accept, void *arg,
                   struct mu_listener **out, struct mu_err *err)
{
    return listen_at(base, dir, name, false, on_accept, arg, out, err);
}

/* all: of whatever account the listener is, the caller looks at it. */
static int connect_at(const char *dir, const char *name, bool all, int *out, struct ucred *peer, struct mu_err *err)
{
    mu_auto_fd int dirfd = -1;
    mu_auto_fd int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct sockaddr_un sa;
    socklen_t len;

    if (fd < 0)
        return mu_err_errno(err, 0, "cannot make a socket");
    int rc = mu_path_sockaddr(dir, name, &sa, &len, &dirfd, err);
    if (rc)
        return rc != MUSTER_EARG && errno == ENOENT ? mu_err_set(err, MUSTER_EPEER, "there is no %s", dir) : rc;
    if (connect(fd, (struct sockaddr *)&sa, len))
        return mu_err_errno(
            err, errno == ENOENT || errno == ECONNREFUSED || errno == EAGAIN || errno == ENOTSOCK ? MUSTER_EPEER : 0,
            "cannot connect to %s/%s", dir, name);
    if (!ours(fd, peer) && !all)
        return mu_err_set(err, MUSTER_EARG, "%s/%s belongs to another account (uid %ld)", dir, name, (long)peer->uid);
    *out = MU_STEAL(fd, -1);
    return 0;
}

/* Into the directory of an absolute path and the name there. */
static int split_path(const char *path, char dir[PATH_MAX], const char **name, struct mu_err *err)
{
    const char *slash = strrchr(path, '/');

    if (!slash || *path != '/' || !slash[1] || slash - path >= PATH_MAX)
        return mu_err_set(err, MUSTER_EARG, "%.200s is not the absolute path of a socket", path);
    snprintf(dir, PATH_MAX, "%.*s", slash == path ? 1 : (int)(slash - path), path);
    *name = slash + 1;
    return 0;
}

/* Nobody but root and `owner` could change what a name in dir means. */
static int check_place(const char *path, const char *dir, uid_t owner, struct mu_err *err)
{
    struct stat st;

    if (stat(dir, &st))
        return mu_err_errno(err, errno == ENOENT ? MUSTER_EPEER : 0, "%s", dir);
    if ((st.st_uid && st.st_uid != owner) || st.st_mode & 022)
        return mu_err_set(
            err, MUSTER_EARG,
            "%s: others than the pool's account could put another socket there; take a directory that only "
            "that account or root can write",
            path);
    return 0;
}

int mu_listen_unix_all(struct event_base *base, const char *path, mu_accept_fn on_accept, void *arg,
                       struct mu_listener **out, struct mu_err *err)
{
    struct ucred peer = {.uid = (uid_t)-1};
    char dir[PATH_MAX];
    const char *name;
    struct stat st;
    int rc = split_path(path, dir, &name, err);

    if (rc || (rc = check_place(path, dir, geteuid(), err)))
        return rc;
    if (!lstat(path, &st) && !S_ISSOCK(st.st_mode))
        return mu_err_set(err, MUSTER_EARG, "%s is there already, and is no socket", path);
    mu_auto_fd int other = -1;
    if (!connect_at(dir, name, true, &other, &peer, NULL))
        return mu_err_set(err, MUSTER_EARG, "%s: somebody listens there already (uid %ld)", path, (long)peer.uid);
    return listen_at(base, dir, name, true, on_accept, arg, out, err);
}

void mu_listener_free(struct mu_listener *l)
{
    if (!l)
        return;
    if (l->ev)
        event_free(l->ev);
    if (l->resume)
        event_free(l->resume);
    close(l->fd);
    free(l);
}

int mu_connect_unix(const char *dir, const char *name, int *out, struct mu_err *err)
{
    struct ucred peer = {0};

    return connect_at(dir, name, false, out, &peer, err);
}

int mu_connect_unix_all(const char *path, int *out, struct mu_err *err)
{
    struct ucred peer = {.uid = (uid_t)-1};
    mu_auto_fd int fd = -1;
    char dir[PATH_MAX];
    const char *name;
    int rc = split_path(path, dir, &name, err);

    if (rc || (rc = connect_at(dir, name, true, &fd, &peer, err)) || (rc = check_place(path, dir, peer.uid, err)))
        return rc;
    *out = MU_STEAL(fd, -1);
    return 0;
}
