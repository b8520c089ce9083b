#include "runtime/wire/bulk.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "runtime/base/clean.h"
#include "runtime/base/log.h"
#include "runtime/wire/link.h"
#include "runtime/wire/record.h"
#include "runtime/wire/tls.h"
#include "runtime/wire/tls_conn.h"

#define LABEL "EXPORTER muster bulk 1"
#define MAGIC "MUBULK"
#define HELLO 8u             /* MAGIC and the version (2) */
#define RECORD (1u << 14)    /* bytes of a record of TLS, in which its limit is */
#define TURN 8               /* records in one go, then others have theirs */
#define WORTH (16u << 10)    /* so much is waited for in the kernel */
#define OUT_KEPT (64u << 10) /* memory of what waited */

struct mu_bulk {
    struct mu_bulk_desk *desk;
    const struct mu_bulk_calls *calls;
    void *arg;
    int fd;
    struct event *readable, *writable;
    struct mu_record_key *seals, *opens;
    struct evbuffer *early; /* what came with the handshake; NULL: it is used up */
    unsigned char head[MU_RECORD_HEAD];
    size_t nhead;
    unsigned char *part; /* a record, behind its head, that is not whole yet; NULL: none */
    size_t have;
    int lowat;
    struct mu_buf out;
    size_t out_at;
    unsigned busy; /* inside a callback: freed only behind it */
    bool greeted, open, dead, down, write_failed;
    char name[48];
};

static void destroy(struct mu_bulk *b)
{
    if (b->readable)
        event_free(b->readable);
    if (b->writable)
        event_free(b->writable);
    if (b->early)
        evbuffer_free(b->early);
    if (b->fd >= 0)
        close(b->fd);
    mu_record_key_free(b->seals);
    mu_record_key_free(b->opens);
    mu_buf_free(&b->out);
    free(b->part);
    free(b);
}

void mu_bulk_free(struct mu_bulk *b)
{
    if (!b)
        return;
    b->dead = true;
    if (!b->busy)
        destroy(b);
}

static void leave(struct mu_bulk *b)
{
    if (!--b->busy && b->dead)
        destroy(b);
}

/* Once; what could not be understood is said. */
static void go_down(struct mu_bulk *b, const char *why)
{
    if (b->down || b->dead)
        return;
    b->down = true;
    event_del(b->readable);
    event_del(b->writable);
    if (why && mu_link_may_log())
        mu_log(MU_LOG_WARN, "wire", "%s: %s; closing", b->name, why);
    b->calls->down(b->arg, b);
}

/* --- sending ------------------------------------------------------------------------------------------------------ */

size_t mu_bulk_pending(const struct mu_bulk *b)
{
    return b->out.len - b->out_at;
}

/* The end of the connection is for reading to find: the peer may have said why it left. */
static int failed(struct mu_bulk *b, int rc)
{
    b->write_failed = true;
    mu_buf_clear(&b->out);
    b->out_at = 0;
    event_del(b->writable);
    event_active(b->readable, EV_READ, 0);
    return rc;
}

/* As much as the socket takes; what is left waits. */
static int push(struct mu_bulk *b, struct iovec *v, int n)
{
    struct msghdr m = {.msg_iov = v, .msg_iovlen = (size_t)n};
    ssize_t put = mu_bulk_pending(b) ? 0 : sendmsg(b->fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL);
    size_t skip = put > 0 ? (size_t)put : 0;

    if (put < 0 && errno != EAGAIN && errno != EINTR)
        return failed(b, MUSTER_EPEER);
    for (int i = 0; i < n; i++) {
        size_t some = skip < v[i].iov_len ? skip : v[i].iov_len;

        mu_buf_append(&b->out, (char *)v[i].iov_base + some, v[i].iov_len - some);
        skip -= some;
    }
    if (b->out.failed)
        return failed(b, MUSTER_ENOMEM);
    if (mu_bulk_pending(b))
        event_add(b->writable, NULL);
    return 0;
}

int mu_bulk_send(struct mu_bulk *b, enum mu_msg_type type, const void *body, const void *tail, size_t n)
{
    mu_auto_buf struct mu_buf head = {0};
    unsigned char *out = b->desk->out, tag[MU_RECORD_TAG];
    int rc = n ? mu_msg_encode_head(&head, type, body, n) : mu_msg_encode(&head, type, body);
    size_t front = MU_RECORD_HEAD + head.len + (b->open ? 0 : n);

    if (rc)
        return rc;
    if (b->down || b->write_failed)
        return MUSTER_EPEER;
    if (head.len + n > MU_BULK_MOST - MU_RECORD_HEAD - MU_RECORD_TAG)
        return MUSTER_EARG;
    if (b->open)
        rc = mu_record_seal(b->seals, head.data, head.len, NULL, 0, tail, n, out, tag);
    else
        rc = mu_record_seal(b->seals, head.data, head.len, tail, n, NULL, 0, out, tag);
    if (rc)
        return failed(b, rc);
    return push(b,
                (struct iovec[]){{.iov_base = out, .iov_len = front},
                                 {.iov_base = (void *)(uintptr_t)tail, .iov_len = b->open ? n : 0},
                                 {.iov_base = tag, .iov_len = sizeof tag}},
                3);
}

static void on_writable(evutil_socket_t fd, short what, void *arg)
{
    struct mu_bulk *b = arg;
    ssize_t put = send(fd, b->out.data + b->out_at, mu_bulk_pending(b), MSG_DONTWAIT | MSG_NOSIGNAL);

    (void)what;
    b->busy++;
    if (put < 0 && errno != EAGAIN && errno != EINTR)
        failed(b, MUSTER_EPEER);
    else
        b->out_at += put > 0 ? (size_t)put : 0;
    if (!b->write_failed && !mu_bulk_pending(b)) {
        event_del(b->writable);
        if (b->out.cap > OUT_KEPT)
            mu_buf_free(&b->out);
        mu_buf_clear(&b->out);
        b->out_at = 0;
        b->calls->room(b->arg, b);
    }
    leave(b);
}

/* --- receiving ---------------------------------------------------------------------------------------------------- */

static ssize_t fill(struct mu_bulk *b, struct iovec *v, int n)
{
    struct msghdr m = {.msg_iov = v, .msg_iovlen = (size_t)n};

    if (b->early) {
        ssize_t got = evbuffer_remove(b->early, v[0].iov_base, v[0].iov_len);

        if (got > 0)
            return got;
        evbuffer_free(MU_STEAL(b->early, NULL));
    }
    return recvmsg(b->fd, &m, MSG_DONTWAIT);
}

/* To be woken for the whole of what is missing costs less than for each packet of it. */
static void wait_for(struct mu_bulk *b, size_t n)
{
    int low = n > WORTH ? (int)n : 1;

    if (low != b->lowat && !setsockopt(b->fd, SOL_SOCKET, SO_RCVLOWAT, &low, sizeof low))
        b->lowat = low;
}

/* Why it is no record that is taken here; NULL: it is one. */
static const char *refuse_head(const struct mu_bulk *b, uint32_t sealed, uint32_t open)
{
    if (sealed > MU_BULK_MOST - MU_RECORD_HEAD - MU_RECORD_TAG ||
        open > MU_BULK_MOST - MU_RECORD_HEAD - MU_RECORD_TAG - sealed)
        return "no record is so long";
    if (open && !b->open)
        return "it does not encrypt what it sends, as is wanted here (wire=encrypted)";
    return NULL;
}

static const char *deliver(struct mu_bulk *b, unsigned char *body)
{
    struct mu_err err;
    struct mu_msg msg;
    uint32_t sealed, open;
    int rc;

    mu_record_lengths(b->head, &sealed, &open);
    if (mu_record_open(b->opens, b->head, body))
        return "what came was changed on its way, or is not what it should be";
    if (mu_msg_frame(body, sealed + open) != (int64_t)sealed + open)
        return "it sends something else than messages";
    rc = mu_msg_decode_lent(body, sealed + open, &msg, &err);
    if (!rc) {
        b->calls->msg(b->arg, b, &msg);
        mu_msg_free_lent(&msg);
    }
    return rc && rc != MUSTER_EVERSION ? "it sends a message that cannot be read" : NULL;
}

/* The head of a record, or (at first) what the peer speaks. 1: it is there, 0: not yet, -1: the end of the stream. */
static int take_head(struct mu_bulk *b)
{
    struct iovec v = {.iov_base = b->head + b->nhead, .iov_len = sizeof b->head - b->nhead};
    ssize_t got;

    if (b->nhead == sizeof b->head)
        return 1;
    wait_for(b, 1);
    got = fill(b, &v, 1);
    if (got <= 0)
        return got < 0 && (errno == EAGAIN || errno == EINTR) ? 0 : -1;
    b->nhead += (size_t)got;
    return b->nhead == sizeof b->head;
}

static const char *greet(struct mu_bulk *b)
{
    static _Thread_local char text[100];

    b->greeted = true;
    b->nhead = 0;
    if (memcmp(b->head, MAGIC, sizeof MAGIC - 1) != 0)
        return "it does not speak as drains of this release do: all hosts of a job need the same one";
    if (b->head[6] == MU_BULK_VERSION && !b->head[7])
        return NULL;
    snprintf(text, sizeof text, "it speaks version %u between drains, not %u: all hosts of a job need the same release",
             b->head[6] | (unsigned)b->head[7] << 8, MU_BULK_VERSION);
    return text;
}

/* The rest of a record, with the head of the next one if that is there, too. 1: it was delivered, 0: more must come,
 * -1: the end. */
static int take_body(struct mu_bulk *b, const char **why)
{
    unsigned char next[MU_RECORD_HEAD], *at = b->part ? b->part : b->desk->in;
    uint32_t sealed, open;
    ssize_t got;
    size_t all;

    mu_record_lengths(b->head, &sealed, &open);
    if ((*why = refuse_head(b, sealed, open)))
        return -1;
    all = (size_t)sealed + open + MU_RECORD_TAG;
    struct iovec v[] = {{.iov_base = at + b->have, .iov_len = all - b->have},
                        {.iov_base = next, .iov_len = sizeof next}};
    got = fill(b, v, 2);
    if (got <= 0 && !(got < 0 && (errno == EAGAIN || errno == EINTR)))
        return -1;
    b->have += got > 0 ? (size_t)got : 0;
    if (b->have < all) {
        if (!b->part && b->have) {
            if (!(b->part = malloc(all))) {
                *why = "no memory for what it sends";
                return -1;
            }
            memcpy(b->part, at, b->have);
        }
        wait_for(b, all - b->have);
        return 0;
    }
    unsigned char *part = MU_STEAL(b->part, NULL);
    size_t more = b->have - all;
    b->have = 0;
    *why = deliver(b, at);
    free(part);
    if (*why)
        return -1;
    memcpy(b->head, next, more);
    b->nhead = more;
    return 1;
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
    struct mu_bulk *b = arg;
    const char *why = NULL;
    int rc = 1;

    (void)fd, (void)what;
    b->busy++;
    for (int i = 0; i < TURN && rc > 0 && !why && !b->dead && !b->down; i++) {
        if ((rc = take_head(b)) <= 0)
            break;
        if (!b->greeted)
            why = greet(b);
        else
            rc = take_body(b, &why);
    }
    if (!b->dead && (rc < 0 || why)) {
        go_down(b, why);
    } else if (!b->dead && !b->down) {
        if (rc > 0) /* others have their turn; what comes next may be short */
            wait_for(b, 1);
        if (b->early)
            event_active(b->readable, EV_READ, 0);
    }
    leave(b);
}

/* --- life --------------------------------------------------------------------------------------------------------- */

/* Both ends get the same two secrets of the handshake: of what the dialling end sends, and of the other way. */
static int make_keys(struct mu_bulk *b, const struct mu_tls_conn *c)
{
    bool server = SSL_is_server(c->ssl);
    struct mu_key secrets[2];
    uint64_t rekey = c->rekey * RECORD;
    int rc = MUSTER_ENOSYS;

    if (SSL_export_keying_material(c->ssl, (unsigned char *)secrets, sizeof secrets, LABEL, sizeof LABEL - 1, NULL, 0,
                                   0) == 1) {
        b->seals = mu_record_key_new(&secrets[server], true, rekey);
        b->opens = mu_record_key_new(&secrets[!server], false, rekey);
        rc = b->seals && b->opens ? 0 : MUSTER_ENOMEM;
    }
    mu_key_wipe(&secrets[0]);
    mu_key_wipe(&secrets[1]);
    return rc;
}

/* What the handshake has left in the buffers, and the socket. */
static int take_over(struct mu_bulk *b, struct mu_tls_conn *c)
{
    struct evbuffer *out = bufferevent_get_output(c->bev);
    size_t n = evbuffer_get_length(out);

    bufferevent_disable(c->bev, EV_READ | EV_WRITE);
    b->early = evbuffer_new();
    if (!b->early || mu_buf_reserve(&b->out, n + HELLO) || evbuffer_add_buffer(b->early, bufferevent_get_input(c->bev)))
        return MUSTER_ENOMEM;
    evbuffer_unfreeze(out, 1);
    evbuffer_remove(out, b->out.data, n);
    b->out.len = n;
    mu_buf_append(&b->out, (const char[HELLO]){MAGIC "\1"}, HELLO);
    b->fd = bufferevent_getfd(c->bev);
    bufferevent_setfd(c->bev, -1);
    return 0;
}

struct mu_bulk *mu_bulk_new(struct mu_tls_conn *c, struct mu_bulk_desk *desk, const struct mu_bulk_calls *calls,
                            void *arg)
{
    struct mu_bulk *b = calloc(1, sizeof *b);
    struct event_base *base = c->base;

    if (!b) {
        mu_tls_conn_free(c);
        return NULL;
    }
    *b = (struct mu_bulk){.desk = desk, .calls = calls, .arg = arg, .fd = -1, .lowat = 1};
    snprintf(b->name, sizeof b->name, "%.47s", c->peer);
    int rc = make_keys(b, c);
    if (!rc)
        rc = take_over(b, c);
    mu_tls_conn_free(c);
    if (!rc) {
        b->readable = event_new(base, b->fd, EV_READ | EV_PERSIST, on_readable, b);
        b->writable = event_new(base, b->fd, EV_WRITE | EV_PERSIST, on_writable, b);
    }
    if (rc || !b->readable || !b->writable || event_add(b->readable, NULL) || event_add(b->writable, NULL)) {
        destroy(b);
        return NULL;
    }
    event_active(b->readable, EV_READ, 0); /* what came right behind the peer's proof */
    return b;
}

void mu_bulk_open(struct mu_bulk *b, bool on)
{
    b->open = on;
}
