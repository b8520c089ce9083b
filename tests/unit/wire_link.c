/* Links over socket pairs and Unix sockets, with peers that behave and peers that do not. */
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "runtime/base/clean.h"
#include "runtime/base/clock.h"
#include "runtime/base/path.h"
#include "runtime/wire/daemon.h"
#include "runtime/wire/link.h"
#include "tests/unit/tap.h"

struct seen {
    struct mu_link *link;
    unsigned msgs, downs, answered;
    uint64_t sum, bytes;
    bool free_in_msg, close_in_msg, pause_in_msg;
};

static struct event_base *base;

static void on_msg(void *arg, struct mu_link *link, const struct mu_msg *msg, const void *frame, size_t len)
{
    struct seen *s = arg;

    s->msgs++;
    if (mu_msg_frame(frame, len) == (int64_t)len)
        s->bytes += len;
    if (msg->type == MU_MSG_release)
        s->sum += msg->release.job;
    if (s->pause_in_msg)
        mu_link_pause(link, true);
    if (s->free_in_msg)
        mu_link_free(MU_STEAL(s->link, NULL));
    else if (s->close_in_msg) {
        mu_link_send_msg(link, MU_MSG_error, &(struct mu_m_error){.code = -1});
        mu_link_close_after_flush(MU_STEAL(s->link, NULL));
    }
}

static void on_down(void *arg, struct mu_link *link)
{
    struct seen *s = arg;

    s->downs++;
    mu_link_free(link);
    s->link = NULL;
}

static void spin(uint64_t ms)
{
    uint64_t until = mu_now() + ms * MU_MS;

    while (mu_now() < until) {
        struct timeval slice = {.tv_usec = 2000};
        event_base_loopexit(base, &slice);
        event_base_loop(base, EVLOOP_ONCE);
    }
}
#define SPIN_UNTIL(cond)                                                                                               \
    for (uint64_t end_ = mu_now() + 5 * MU_SEC; !(cond) && mu_now() < end_;)                                           \
    spin(2)

/* A link at one end, a plain descriptor at the other. */
static int pair(struct seen *s)
{
    int fds[2];

    memset(s, 0, sizeof *s);
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds))
        exit(99);
    s->link = mu_link_new(base, fds[0], on_msg, on_down, s);
    fcntl(fds[1], F_SETFL, O_NONBLOCK);
    return fds[1];
}

static void frame_of(struct mu_buf *b, uint64_t job)
{
    mu_msg_encode(b, MU_MSG_release, &(struct mu_m_release){.job = job});
}

static void partial_frames(void)
{
    mu_auto_buf struct mu_buf b = {0};
    struct seen s;
    int fd = pair(&s);

    for (uint64_t i = 1; i <= 3; i++)
        frame_of(&b, i);
    for (size_t i = 0; i < b.len; i++) {
        if (write(fd, b.data + i, 1) != 1)
            break;
        spin(0);
        event_base_loop(base, EVLOOP_NONBLOCK);
    }
    SPIN_UNTIL(s.msgs == 3);
    TAP_OK(s.msgs == 3 && s.sum == 6 && s.bytes == b.len, "three messages, byte by byte");
    for (int i = 0; i < 5000; i++)
        frame_of(&b, 1);
    size_t at = 0;
    s = (struct seen){.link = s.link};
    while (at < b.len) {
        ssize_t n = write(fd, b.data + at, b.len - at);
        at += n > 0 ? (size_t)n : 0;
        event_base_loop(base, EVLOOP_NONBLOCK);
    }
    SPIN_UNTIL(s.msgs == 5003);
    TAP_OK(s.msgs == 5003 && s.sum == 5006, "five thousand at once");
    close(fd);
    SPIN_UNTIL(s.downs);
    TAP_OK(s.downs == 1 && !s.link, "the peer's end is told once");
}

static void bad_peers(void)
{
    static const struct {
        const char *bytes, *what;
        size_t len;
        unsigned msgs;
        bool cut;
    } rows[] = {
        {"GET / HTTP/1.0\r\n\r\n", "text", 18, 0, true},
        {"\xff\xff\xff\xff\1\0", "length 4 Gi", 6, 0, true},
        {"\1\0\0\4\1\0", "a length past the limit", 6, 0, true},
        {"\0\0\0\0", "length 0", 4, 0, true},
        {"\2\0\0\0\xe7\3\2\0\0\0\x2a\0", "an unknown type before a release", 12, 1, false},
        {"\5\0\0\0\x2a\0\1\1\0", "a cut field", 9, 0, true},
        {"\2\0\0\0\x2a\0\5\0\0\0\x2a\0\1\1\0\2\0\0\0\x2a\0", "a good one, a bad one, a good one", 21, 1, true},
    };

    for (size_t i = 0; i < MU_COUNT(rows); i++) {
        struct seen s;
        int fd = pair(&s);
        char byte;
        if (write(fd, rows[i].bytes, rows[i].len) != (ssize_t)rows[i].len)
            exit(99);
        if (rows[i].cut) {
            SPIN_UNTIL(s.downs);
            ssize_t n = read(fd, &byte, 1);
            TAP_OK(s.downs == 1 && s.msgs == rows[i].msgs && (n == 0 || (n < 0 && errno == ECONNRESET)), "%s: cut off",
                   rows[i].what);
        } else {
            SPIN_UNTIL(s.msgs == rows[i].msgs);
            spin(20);
            TAP_OK(!s.downs && s.msgs == rows[i].msgs, "%s: lives", rows[i].what);
            mu_link_free(s.link);
        }
        close(fd);
    }
}

static void peer_leaves_in_a_frame(void)
{
    mu_auto_buf struct mu_buf b = {0};
    struct seen s;

    frame_of(&b, 9);
    for (size_t n = 0; n <= b.len; n += b.len / 3) {
        int fd = pair(&s);
        if (write(fd, b.data, n) != (ssize_t)n)
            exit(99);
        close(fd);
        SPIN_UNTIL(s.downs);
        TAP_OK(s.downs == 1 && s.msgs == (n == b.len), "the peer leaves after %zu bytes of %zu", n, b.len);
    }
    /* A big frame that never comes whole costs no more than what came. */
    int fd = pair(&s);
    if (write(fd, "\0\0\0\4\x2a\0", 6) != 6)
        exit(99);
    spin(20);
    TAP_OK(!s.downs && !s.msgs, "a frame that is announced is waited for");
    close(fd);
    SPIN_UNTIL(s.downs);
    TAP_OK(s.downs == 1 && !s.msgs, "and forgotten with its peer");
}

static void ending_inside(void)
{
    mu_auto_buf struct mu_buf b = {0};
    struct seen s;
    char in[64];

    frame_of(&b, 1);
    frame_of(&b, 2);
    int fd = pair(&s);
    s.free_in_msg = true;
    if (write(fd, b.data, b.len) < 0)
        exit(99);
    SPIN_UNTIL(s.msgs);
    spin(10);
    TAP_OK(s.msgs == 1 && !s.downs && !s.link, "freed inside its callback: no further message");
    close(fd);

    fd = pair(&s);
    s.close_in_msg = true;
    if (write(fd, b.data, b.len) < 0)
        exit(99);
    SPIN_UNTIL(s.msgs && !mu_link_flushing());
    ssize_t n = read(fd, in, sizeof in);
    TAP_OK(s.msgs == 1 && !s.downs && mu_msg_frame(in, n > 0 ? (size_t)n : 0) == n && n > 0,
           "closed inside its callback: the answer still comes");
    TAP_OK(read(fd, in, 1) <= 0 && errno != EAGAIN, "and then the end");
    close(fd);

    fd = pair(&s);
    mu_link_close_after_flush(s.link);
    spin(5);
    TAP_OK(mu_link_flushing() == 0 && read(fd, in, 1) == 0, "with nothing to flush it closes at once");
    close(fd);
    mu_link_close_after_flush(NULL);
    mu_link_free(NULL);
}

static void slow_reader(void)
{
    struct seen s;
    int fd = pair(&s);
    struct mu_m_output big = {.data = {.len = 1 << 20}};
    char *in = malloc(1 << 16);
    size_t got = 0;

    big.data.data = calloc(1, big.data.len);
    for (int i = 0; i < 8; i++)
        mu_link_send_msg(s.link, MU_MSG_output, &big);
    spin(20);
    TAP_OK(mu_link_pending(s.link) > 4 << 20, "what the peer does not read is pending");
    struct mu_link *link = MU_STEAL(s.link, NULL);
    mu_link_close_after_flush(link);
    TAP_OK(mu_link_flushing() == 1, "closing waits for the flush");
    for (uint64_t end = mu_now() + 5 * MU_SEC; mu_now() < end;) {
        ssize_t n = read(fd, in, 1 << 16);
        if (n == 0)
            break;
        got += n > 0 ? (size_t)n : 0;
        event_base_loop(base, EVLOOP_NONBLOCK);
    }
    TAP_OK(got > 8u << 20 && mu_link_flushing() == 0, "everything arrives, then the end");
    close(fd);

    fd = pair(&s);
    for (int i = 0; i < 8; i++)
        mu_link_send_msg(s.link, MU_MSG_output, &big);
    mu_link_close_after_flush(MU_STEAL(s.link, NULL));
    close(fd);
    SPIN_UNTIL(!mu_link_flushing());
    TAP_OK(!mu_link_flushing() && !s.downs, "a peer that leaves ends the flush");
    free(in);
    free(big.data.data);
}

/* The peer answers and leaves while we still write: its answer counts. */
static void last_words(void)
{
    mu_auto_buf struct mu_buf b = {0};
    struct mu_m_output big = {.data = {.len = 1 << 20}};
    struct seen s;
    int fd = pair(&s);

    big.data.data = calloc(1, big.data.len);
    frame_of(&b, 42);
    for (int i = 0; i < 4; i++)
        mu_link_send_msg(s.link, MU_MSG_output, &big);
    spin(5);
    if (write(fd, b.data, b.len) < 0)
        exit(99);
    close(fd);
    SPIN_UNTIL(s.downs);
    TAP_OK(s.msgs == 1 && s.sum == 42 && s.downs == 1, "what a peer said before it left is heard");
    free(big.data.data);
}

static void pausing(void)
{
    mu_auto_buf struct mu_buf b = {0};
    struct seen s;
    int fd = pair(&s);

    s.pause_in_msg = true;
    for (uint64_t i = 1; i <= 3; i++)
        frame_of(&b, i);
    if (write(fd, b.data, b.len) < 0)
        exit(99);
    SPIN_UNTIL(s.msgs);
    spin(20);
    TAP_OK(s.msgs == 1, "paused inside a callback: nothing more comes");
    mu_link_pause(s.link, false);
    SPIN_UNTIL(s.msgs == 2);
    spin(10);
    TAP_OK(s.msgs == 2, "resumed: the next one, which pauses again");
    close(fd);
    spin(20);
    TAP_OK(!s.downs, "the end waits too");
    s.pause_in_msg = false;
    mu_link_pause(s.link, false);
    SPIN_UNTIL(s.downs);
    TAP_OK(s.msgs == 3 && s.downs == 1, "then the rest and the end");
}

/* --- listening --------------------------------------------------------------------------------------------------- */

static struct {
    unsigned n;
    int fd, pid;
} accepted;

static void on_accept(void *arg, int fd, int pid)
{
    (void)arg;
    accepted.n++;
    if (accepted.fd > 0)
        close(accepted.fd);
    accepted.fd = fd;
    accepted.pid = pid;
}

static void listening(const char *dir)
{
    struct mu_listener *l = NULL, *l2 = NULL;
    char path[PATH_MAX];
    struct mu_err err;
    struct stat st;
    int fd = -1;

    TAP_OK(mu_connect_unix(dir, "x.sock", &fd, &err) == MUSTER_EPEER, "nobody listens: %s", err.text);
    TAP_OK(mu_connect_unix("/nonexistent/dir", "x.sock", &fd, &err) == MUSTER_EPEER, "no directory: %s", err.text);
    snprintf(path, sizeof path, "%s/x.sock", dir);
    close(open(path, O_CREAT | O_WRONLY, 0600));
    TAP_OK(mu_connect_unix(dir, "x.sock", &fd, &err) == MUSTER_EPEER, "a file that is no socket: %s", err.text);
    TAP_OK(!mu_listen_unix(base, dir, "x.sock", on_accept, NULL, &l, &err), "listening in place of a stale file");
    TAP_OK(!stat(path, &st) && S_ISSOCK(st.st_mode) && (st.st_mode & 0777) == 0600, "mode 0600");
    TAP_OK(!mu_connect_unix(dir, "x.sock", &fd, &err) && fcntl(fd, F_GETFD) == FD_CLOEXEC, "connected, CLOEXEC");
    SPIN_UNTIL(accepted.n);
    TAP_OK(accepted.n == 1 && accepted.pid == getpid() && fcntl(accepted.fd, F_GETFD) == FD_CLOEXEC,
           "accepted with the peer's pid, CLOEXEC");
    close(fd);
    TAP_OK(!mu_listen_unix(base, dir, "x.sock", on_accept, NULL, &l2, &err), "a second listener takes the name over");
    mu_listener_free(l);
    TAP_OK(!mu_connect_unix(dir, "x.sock", &fd, &err), "and is the one that is found");
    SPIN_UNTIL(accepted.n == 2);
    TAP_OK(accepted.n == 2, "by its callback too");
    close(fd);
    mu_listener_free(l2);
    TAP_OK(mu_connect_unix(dir, "x.sock", &fd, &err) == MUSTER_EPEER, "a dead listener's socket: %s", err.text);
    close(accepted.fd);

    char deep[PATH_MAX];
    snprintf(deep, sizeof deep, "%s/%0150d", dir, 0);
    TAP_OK(!mkdir(deep, 0700) && !mu_listen_unix(base, deep, "x.sock", on_accept, NULL, &l, &err) &&
               !mu_connect_unix(deep, "x.sock", &fd, &err),
           "a path that no socket address takes");
    close(fd);
    mu_listener_free(l);
    TAP_OK(mu_listen_unix(base, "/nonexistent", "x.sock", on_accept, NULL, &l, &err) < 0, "%s", err.text);

    /* Another account is refused. */
    if (geteuid() != 0) {
        TAP_SKIP("needs root to become another account");
        return;
    }
    mu_listen_unix(base, dir, "y.sock", on_accept, NULL, &l, &err);
    snprintf(path, sizeof path, "%s/y.sock", dir);
    chmod(dir, 0711);
    chmod(path, 0666);
    accepted.n = 0;
    accepted.fd = 0;
    pid_t pid = fork();
    if (!pid) {
        if (setresuid(65534, 65534, 65534))
            _exit(9);
        int rc = mu_connect_unix(dir, "y.sock", &fd, &err);
        _exit(rc == MUSTER_EARG ? 0 : 1);
    }
    int status = -1;
    spin(200);
    waitpid(pid, &status, 0);
    TAP_OK(accepted.n == 0 && status == 0, "another account is refused by both sides");
    mu_listener_free(l);
}

/* A frame of a megabyte takes a few turns of the loop, not one for each piece that libevent reads. */
static void long_frame(void)
{
    struct mu_m_output m = {.data = {.data = calloc(1, 1 << 20), .len = 1 << 20}};
    struct seen a = {0}, b = {0};
    int fd[2];

    if (!m.data.data || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fd))
        exit(99);
    a.link = mu_link_new(base, fd[0], on_msg, on_down, &a);
    b.link = mu_link_new(base, fd[1], on_msg, on_down, &b);
    mu_link_send_msg(a.link, MU_MSG_output, &m);
    unsigned turns = 0;
    for (; !b.msgs && turns < 1000; turns++)
        event_base_loop(base, EVLOOP_ONCE);
    TAP_OK(b.msgs == 1 && b.bytes > 1 << 20 && turns < 60, "a frame of a megabyte has come after %u turns", turns);
    mu_link_send_msg(b.link, MU_MSG_output, &m);
    mu_link_close_after_flush(MU_STEAL(b.link, NULL));
    spin(200);
    TAP_OK(a.msgs == 1 && a.downs == 1, "and one that is the last comes whole before the end");
    mu_link_free(a.link);
    free(m.data.data);
}

int main(void)
{
    char dir[] = "/tmp/muster-test-link-XXXXXX";

    base = mu_loop_new();
    if (!base || !mkdtemp(dir))
        return 99;
    signal(SIGPIPE, SIG_IGN);
    partial_frames();
    bad_peers();
    peer_leaves_in_a_frame();
    ending_inside();
    slow_reader();
    last_words();
    pausing();
    long_frame();
    listening(dir);
    event_base_free(base);
    mu_path_remove_tree(dir, NULL);
    return tap_done();
}
