/* TCP between ranks: where they are looked for, who is let in, frames whatever way they are cut, connections that
 * cross, peers that cannot be reached, strangers. All ranks of a job are in this process, over a transport below that
 * keeps what it is given. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "collectives/tcp.h"
#include "collectives/tcp_link.h"
#include "runtime/base/clock.h"
#include "tests/unit/queues.h"
#include "tests/unit/tap.h"

#define RANKS 3
#define PATIENCE (20 * MU_SEC)

/* --- addresses --- */

static struct mu_tcp_addr four(const char *text, unsigned prefix)
{
    struct mu_tcp_addr a = {.family = 4, .prefix = (uint8_t)prefix};

    inet_pton(AF_INET, text, a.bytes);
    return a;
}

static struct mu_tcp_addr six(const char *text, unsigned prefix)
{
    struct mu_tcp_addr a = {.family = 6, .prefix = (uint8_t)prefix};

    inet_pton(AF_INET6, text, a.bytes);
    return a;
}

static void lists(void)
{
    static const struct {
        const char *list, *name, *addr;
        bool in;
    } rows[] = {
        {"eth0", "eth0", "10.0.0.1", true},
        {"eth0", "eth01", "10.0.0.1", false},
        {"lo,eth1", "eth1", "10.0.0.1", true},
        {"10.0.0.0/8", "eth1", "10.200.0.1", true},
        {"10.0.0.0/9", "eth1", "10.200.0.1", false},
        {"10.128.0.0/9", "eth1", "10.200.0.1", true},
        {"10.0.0.0/33", "eth1", "10.0.0.0", false},
        {"10.0.0.0/", "eth1", "10.0.0.0", false},
        {"10.0.0.0/-1", "eth1", "10.0.0.0", false},
        {"0.0.0.0/0", "eth1", "10.0.0.0", true},
        {"", "eth1", "10.0.0.0", false},
        {",,eth1,", "eth1", "10.0.0.0", true},
        {"fd00::/8", "eth1", "10.0.0.0", false},
    };

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct mu_tcp_addr a = four(rows[i].addr, 24);

        TAP_OK(mu_tcp_listed(rows[i].list, rows[i].name, &a) == rows[i].in, "%s (%s) is %s \"%s\"", rows[i].name,
               rows[i].addr, rows[i].in ? "in" : "not in", rows[i].list);
    }
    struct mu_tcp_addr a = six("fd12::1", 64);
    TAP_OK(mu_tcp_listed("lo,fd00::/8", "eth1", &a) && !mu_tcp_listed("fd00::/16", "eth1", &a), "and networks of IPv6");
}

static void candidates(void)
{
    struct mu_tcp_card me = {.stack = 1}, peer = {.stack = 2, .port = 77};
    static const char *const want[] = {"10.1.0.2", "192.168.1.2", "fd00::2"};
    struct sockaddr_storage to;
    char text[64];
    socklen_t n;
    bool same = true;
    unsigned k = 0;

    me.at[0] = four("10.1.0.1", 24);
    me.at[1] = four("172.17.0.1", 16);
    peer.at[0] = four("192.168.1.2", 24);
    peer.at[1] = four("172.17.0.1", 16); /* a bridge that every host has */
    peer.at[2] = four("10.1.0.2", 24);
    peer.at[3] = six("fd00::2", 64);
    peer.at[4] = four("127.0.0.1", 8);
    for (; mu_tcp_candidate(&me, &peer, k, &to, &n) && k < 3; k++) {
        const void *at = to.ss_family == AF_INET ? (void *)&((struct sockaddr_in *)&to)->sin_addr
                                                 : (void *)&((struct sockaddr_in6 *)&to)->sin6_addr;

        inet_ntop(to.ss_family, at, text, sizeof text);
        same &= !strcmp(text, want[k]) && ntohs(((struct sockaddr_in *)&to)->sin_port) == 77;
    }
    TAP_OK(k == 3 && same, "a peer is looked for in one's own networks first, and not at what is one's own as well");
    peer.stack = 1;
    for (k = 0; mu_tcp_candidate(&me, &peer, k, &to, &n);)
        k++;
    TAP_OK(k == 5, "one of the same network stack at all that it has");
}

static void hellos(void)
{
    struct mu_tcp_card mine = {.secret = {1, 2, 3}};
    struct mu_tcp_hello h, bad;
    int from = -1;

    mu_tcp_hello_set(&h, 4, 5, mine.secret, MU_TCP_MOVED);
    TAP_OK(mu_tcp_hello_ok(&h, &mine, 5, 6, &from) && from == 4 && h.flags == MU_TCP_MOVED, "a hello says who it is");
    TAP_OK(!mu_tcp_hello_ok(&h, &mine, 3, 6, &from), "one for another rank is refused");
    TAP_OK(!mu_tcp_hello_ok(&h, &mine, 5, 4, &from), "one of a rank that the job does not have");
    bad = h;
    bad.rank = 5;
    TAP_OK(!mu_tcp_hello_ok(&bad, &mine, 5, 6, &from), "one of this rank");
    bad = h;
    bad.secret[15] = 1;
    TAP_OK(!mu_tcp_hello_ok(&bad, &mine, 5, 6, &from), "one with another secret");
    bad = h;
    bad.version++;
    TAP_OK(!mu_tcp_hello_ok(&bad, &mine, 5, 6, &from), "one of another version");
    bad = h;
    bad.magic = MU_FRAME_MAGIC;
    TAP_OK(!mu_tcp_hello_ok(&bad, &mine, 5, 6, &from), "what is none");
}

/* --- frames --- */

static void fill(struct mu_frame *f, unsigned number, size_t bytes)
{
    f->head.seq = number;
    f->head.bytes = (uint32_t)bytes;
    for (size_t i = 0; i < bytes; i++)
        f->data[i] = (char)(number * 7 + i);
}

static bool is_right(const struct mu_frame *f, unsigned number, size_t bytes)
{
    bool same = f->head.seq == number && f->head.bytes == bytes;

    for (size_t i = 0; i < bytes && same; i++)
        same = f->data[i] == (char)(number * 7 + i);
    return same;
}

static const size_t sizes[] = {0, 1, 63, 64, 65, 5000, 0, 3};
#define FRAMES (sizeof sizes / sizeof sizes[0])

/* The stream comes in pieces of `each` bytes. */
static bool cut(struct mu_pool *pool, const char *stream, size_t total, size_t each)
{
    struct mu_link l = {.peer = 1, .greeted = true};
    struct mu_frames arrived = {0};
    struct mu_err err;
    bool same = true;
    unsigned n = 0;

    for (size_t at = 0; at < total; at += each) {
        size_t now = total - at < each ? total - at : each;

        if (!l.in)
            l.in = mu_frame_new(pool, MU_CHUNK);
        memcpy((char *)&l.in->head + l.got, stream + at, now);
        same &= mu_link_take(&l, pool, now, &arrived, &err) == 0;
    }
    for (struct mu_frame *f; (f = mu_frames_pop(&arrived)); n++) {
        same &= n < FRAMES && is_right(f, n, sizes[n]);
        mu_frame_free(pool, f);
    }
    mu_frame_free(pool, l.in);
    return same && n == FRAMES;
}

static void pieces(struct mu_pool *pool)
{
    static char stream[FRAMES * 64 + 8192];
    struct mu_frame *f = mu_frame_new(pool, MU_CHUNK);
    struct mu_link l = {.peer = 1, .greeted = true};
    struct mu_frames arrived = {0};
    struct mu_err err;
    size_t total = 0;
    unsigned wrong = 0;

    for (unsigned i = 0; i < FRAMES; i++) {
        fill(f, i, sizes[i]);
        memcpy(stream + total, &f->head, sizeof f->head + sizes[i]);
        total += sizeof f->head + sizes[i];
    }
    for (size_t each = 1; each <= total; each += each < 200 ? 1 : 97)
        wrong += !cut(pool, stream, total, each);
    TAP_OK(!wrong && cut(pool, stream, total, total), "frames are found however the stream is cut");
    l.in = f;
    f->head.bytes = MU_CHUNK + 1;
    TAP_OK(mu_link_take(&l, pool, sizeof f->head, &arrived, &err) == MUSTER_EVERSION,
           "one that is too long is refused");
    l.got = 0;
    f->head.bytes = 0;
    f->head.magic++;
    TAP_OK(mu_link_take(&l, pool, sizeof f->head, &arrived, &err) == MUSTER_EVERSION, "and what is no frame");
    mu_frame_free(pool, f);
}

/* --- ranks --- */

struct below {
    struct mu_transport base;
    struct mu_frames kept;
    unsigned nkept;
};

static int keep(struct mu_transport *t, int peer, struct mu_frame *f, struct mu_err *err)
{
    struct below *b = (struct below *)t;

    (void)peer;
    (void)err;
    mu_frames_push(&b->kept, queue_copy(t->pool, f));
    b->nkept++;
    return MU_SEND_DONE;
}

static int nothing(struct mu_transport *t, struct mu_frame **in, struct mu_frames *sent, struct mu_err *err)
{
    (void)t;
    (void)sent;
    (void)err;
    *in = NULL;
    return 0;
}

static int end(struct mu_transport *t, uint64_t deadline, struct mu_err *err)
{
    (void)deadline;
    (void)err;
    mu_frames_clear(&((struct below *)t)->kept, t->pool);
    return 0;
}

static const struct mu_transport_ops below_ops = {"below", keep, NULL, nothing, queue_pending, queue_orphan, end};

static struct rank {
    struct mu_pool pool;
    struct below below;
    struct mu_transport *tp;
    unsigned sent[RANKS], got[RANKS], gone; /* frames; gone: those that poll has given back */
    bool wrong;
} ranks[RANKS];

static struct mu_tcp_card cards[RANKS];

static bool several; /* a rank has more than one address, so that a peer there is waited for */

/* port: where all are looked for; 0: where they are. */
static bool start(unsigned port)
{
    struct mu_err err;

    memset(ranks, 0, sizeof ranks);
    for (int r = 0; r < RANKS; r++) {
        ranks[r].below.base =
            (struct mu_transport){.ops = &below_ops, .pool = &ranks[r].pool, .rank = r, .size = RANKS};
        if (mu_tcp_open(&ranks[r].below.base, &cards[r], &ranks[r].tp, &err) < 0)
            return false;
    }
    for (int r = 0; r < RANKS; r++) {
        struct mu_tcp_card *all = malloc(sizeof cards);

        memcpy(all, cards, sizeof cards);
        for (int k = 0; k < RANKS; k++) {
            memset(all[k].at, 0, sizeof all[k].at);
            all[k].at[0] = four("127.0.0.1", 8);
            if (several || port)
                all[k].at[1] = four("127.0.0.2", 8);
            if (port)
                all[k].port = (uint16_t)port;
        }
        mu_tcp_join(ranks[r].tp, all, true);
    }
    return true;
}

static size_t length(unsigned number, size_t most)
{
    return number * 7919u % (most + 1);
}

static void put(int from, int to, size_t most)
{
    struct rank *r = &ranks[from];
    unsigned number = r->sent[to]++;
    struct mu_frame *f = mu_frame_new(&r->pool, MU_CHUNK), *rest = NULL;
    struct mu_err err;
    int rc = MU_SEND_PENDING;

    fill(f, number, length(number, most));
    f->head.src = (uint32_t)from;
    if (number % 2)
        rc = r->tp->ops->send_from(r->tp, to, &f->head, f->data, &rest, &err);
    if (rc == MU_SEND_PENDING && !rest) {
        rc = r->tp->ops->send(r->tp, to, f, &err);
        if (rc == MU_SEND_PENDING)
            return;
    } else {
        memset(f->data, 0, f->head.bytes); /* nobody looks at it any more */
        if (rc == MU_SEND_PENDING)
            r->gone--; /* it is given back, and was not given */
    }
    r->gone += rc == MU_SEND_DONE || rest;
    r->wrong |= rc < 0;
    mu_frame_free(&r->pool, f);
}

static void take(int me, size_t most)
{
    struct rank *r = &ranks[me];
    struct mu_frames sent = {0};
    struct mu_frame *in;
    struct mu_err err;

    r->wrong |= r->tp->ops->poll(r->tp, &in, &sent, &err) < 0;
    for (struct mu_frame *f; (f = mu_frames_pop(&sent)); r->gone++)
        mu_frame_free(&r->pool, f);
    if (!in)
        return;
    unsigned from = in->head.src, number = from < RANKS ? r->got[from]++ : 0;
    r->wrong |= from >= RANKS || !is_right(in, number, length(number, most));
    mu_frame_free(&r->pool, in);
}

static bool all_there(void)
{
    for (int a = 0; a < RANKS; a++)
        for (int b = 0; b < RANKS; b++)
            if (ranks[a].sent[b] != ranks[b].got[a])
                return false;
    return true;
}

static bool settle(size_t most)
{
    uint64_t until = mu_now() + PATIENCE;
    bool right = true;

    while (!all_there() && mu_now() < until)
        for (int r = 0; r < RANKS; r++)
            take(r, most);
    for (int r = 0; r < RANKS; r++)
        right &= !ranks[r].wrong && ranks[r].below.nkept == 0;
    return right && all_there();
}

/* The others' ends come in their turn: each rank closes as if it were a process of its own. */
static bool stop(void)
{
    bool right = true;
    struct mu_err err;

    for (int r = 0; r < RANKS; r++) {
        unsigned all = 0;

        for (int k = 0; k < RANKS; k++)
            all += ranks[r].sent[k];
        right &= ranks[r].tp->ops->pending(ranks[r].tp) == 0 && ranks[r].gone == all;
        mu_tcp_drop(ranks[r].tp);
        ranks[r].below.base.ops->close(&ranks[r].below.base, 0, &err);
        mu_pool_clear(&ranks[r].pool);
    }
    return right;
}

static void talk(const char *what, unsigned first, size_t most, unsigned rounds)
{
    bool right = start(0);

    for (unsigned i = 0; i < first; i++) /* nobody polls so far */
        for (int a = 0; a < RANKS; a++)
            for (int b = 0; b < RANKS; b++)
                if (a != b)
                    put(a, b, most);
    right &= settle(most);
    for (unsigned i = 0; i < rounds; i++) {
        int a = (int)(i % RANKS), b = (int)((i + 1 + i / RANKS % (RANKS - 1)) % RANKS);

        put(a, b, most);
        put(b, a, most);
        take(b, most);
    }
    right &= settle(most);
    TAP_OK(stop() && right, "%s: all frames come, once, in order", what);
}

/* Both have connected before either knows of the other, and rank 1 begins to send what it has before it learns of rank
 * 0's connection. */
static void cross(size_t most)
{
    bool right = start(0);

    for (int i = 0; i < 40; i++)
        put(1, 0, most);
    put(0, 1, most);
    for (int i = 0; i < 3; i++)
        take(0, most);
    for (int i = 0; i < 100; i++) {
        take(1, most);
        put(1, 0, most);
    }
    right &= settle(most);
    for (int i = 0; i < 10; i++) {
        put(1, 0, most);
        put(0, 1, most);
    }
    right &= settle(most);
    TAP_OK(stop() && right, "a connection that was used is left for the other one, frames up to %zu bytes", most);
}

static bool all_below(void)
{
    bool right = true;
    unsigned n = 0;

    for (struct mu_frame *f; (f = mu_frames_pop(&ranks[0].below.kept)); n++) {
        right &= is_right(f, n, length(n, 100));
        mu_frame_free(&ranks[0].pool, f);
    }
    return right && n == 3;
}

static void unreachable(void)
{
    bool right = start(1); /* nobody is there */
    uint64_t until = mu_now() + PATIENCE;

    put(0, 2, 100);
    put(0, 2, 100);
    while (ranks[0].below.nkept < 2 && mu_now() < until)
        take(0, 100);
    put(0, 2, 100);
    right &= all_below();
    TAP_OK(stop() && right, "who cannot be connected to is sent to through what is below, in order");
}

/* Somebody else is at both addresses: one says something else, the other nothing. */
static void impostor(void)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), got, n = 0;
    struct sockaddr_in at = {.sin_family = AF_INET};
    socklen_t len = sizeof at;
    uint64_t until = mu_now() + PATIENCE;
    char junk[64] = "220 mail";
    bool right;

    right = bind(fd, (struct sockaddr *)&at, len) == 0 && listen(fd, 5) == 0 &&
            getsockname(fd, (struct sockaddr *)&at, &len) == 0 && start(ntohs(at.sin_port));
    put(0, 2, 100);
    put(0, 2, 100);
    while (ranks[0].below.nkept < 2 && mu_now() < until) {
        take(0, 100);
        got = accept(fd, NULL, NULL);
        if (got >= 0 && n++ == 0)
            right &= write(got, junk, sizeof junk) == sizeof junk;
        else if (got >= 0)
            close(got);
    }
    put(0, 2, 100);
    right &= all_below() && n == 2;
    close(fd);
    TAP_OK(stop() && right, "somebody else at a peer's addresses gets no frame, and none is lost");
}

/* A connection that is closed with data unread in it is reset. */
static void last_words(void)
{
    bool right = start(0);
    uint64_t until = mu_now() + PATIENCE;
    struct mu_err err;

    put(1, 0, 5000);
    right &= settle(5000);
    put(0, 1, 5000);
    put(1, 0, 5000);
    put(1, 0, 5000);
    mu_tcp_drop(ranks[1].tp);
    while (ranks[0].gone < 3 && mu_now() < until)
        put(0, 1, 5000);
    while (ranks[0].got[1] < 3 && mu_now() < until)
        take(0, 5000);
    right &= ranks[0].got[1] == 3 && !ranks[0].wrong;
    mu_tcp_drop(ranks[0].tp);
    mu_tcp_drop(ranks[2].tp);
    for (int r = 0; r < RANKS; r++) {
        ranks[r].below.base.ops->close(&ranks[r].below.base, 0, &err);
        mu_pool_clear(&ranks[r].pool);
    }
    TAP_OK(right, "what a peer has said before it went is read after writing to it has failed");
}

static void *leave(void *arg)
{
    struct rank *r = arg;
    struct mu_err err;

    r->wrong |= r->tp->ops->close(r->tp, mu_now() + PATIENCE, &err) < 0;
    return NULL;
}

/* Longer than a peer that is lost is forgiven. */
static void early(void)
{
    bool right = start(0);
    uint64_t until;
    pthread_t thread;
    struct mu_err err;

    put(0, 1, 100);
    put(1, 0, 100);
    right &= settle(100) && pthread_create(&thread, NULL, leave, &ranks[1]) == 0;
    for (until = mu_now() + 5300 * MU_MS; mu_now() < until && !ranks[0].wrong; usleep(1000))
        take(0, 100);
    put(0, 1, 100);
    right &= !ranks[0].wrong && ranks[0].tp->ops->pending(ranks[0].tp) == 0;
    pthread_join(thread, NULL);
    right &= !ranks[1].wrong;
    for (int r = 0; r < RANKS; r += 2) {
        right &= ranks[r].tp->ops->close(ranks[r].tp, mu_now() + PATIENCE, &err) == 0;
        mu_pool_clear(&ranks[r].pool);
    }
    mu_pool_clear(&ranks[1].pool);
    TAP_OK(right, "who has come to its end before the others is not lost");
}

static int knock(void)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(cards[0].port)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    inet_pton(AF_INET, "127.0.0.1", &at.sin_addr);
    if (connect(fd, (struct sockaddr *)&at, sizeof at) < 0)
        exit(99);
    return fd;
}

static void strangers(void)
{
    static char junk[4096];
    bool right = start(0), ended;
    struct mu_tcp_hello h;
    int fd[3] = {knock(), knock(), knock()};
    uint64_t until = mu_now() + PATIENCE;
    char c;

    memset(junk, 'x', sizeof junk);
    mu_tcp_hello_set(&h, 1, 0, cards[1].secret, 0); /* not rank 0's */
    right &= write(fd[0], junk, sizeof junk) > 0 && write(fd[1], &h, sizeof h) == sizeof h;
    right &= write(fd[2], &h, 10) == 10;
    for (int i = 0; i < 2; i++) {
        ssize_t n = -1;

        for (ended = false; !ended && mu_now() < until; ended = n == 0 || (n < 0 && errno != EAGAIN)) {
            take(0, 10);
            n = recv(fd[i], &c, 1, MSG_DONTWAIT);
        }
        right &= ended;
    }
    put(0, 1, 1000);
    put(1, 0, 1000);
    right &= settle(1000);
    close(fd[0]);
    close(fd[1]);
    close(fd[2]);
    TAP_OK(stop() && right, "strangers are shut out, and nobody else");
}

static void worth(void)
{
    struct mu_tcp_card two[2] = {{.ready = 1, .stack = 1}, {.ready = 1, .stack = 2}};

    TAP_OK(mu_tcp_is_worth_it(two, 2), "ranks of two network stacks use it");
    two[1].fabric = 1;
    TAP_OK(!mu_tcp_is_worth_it(two, 2), "but not where there is an RDMA adapter");
    two[1].fabric = two[1].ready = 0;
    TAP_OK(!mu_tcp_is_worth_it(two, 2), "or one of them cannot");
    two[1] = two[0];
    TAP_OK(!mu_tcp_is_worth_it(two, 2), "or all share one");
}

int main(void)
{
    struct mu_pool pool = {0};

    lists();
    candidates();
    hellos();
    worth();
    pieces(&pool);
    mu_pool_clear(&pool);
    for (int i = 0; i < 2; i++) {
        several = !several;
        talk("one frame each, at once", 1, 1000, 300);
        talk("one after the other", 0, 1000, 300);
        talk("more than the system takes", 200, MU_CHUNK, 300);
    }
    cross(100);
    cross(MU_CHUNK);
    unreachable();
    impostor();
    last_words();
    early();
    strangers();
    return tap_done();
}
