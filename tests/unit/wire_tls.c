#include "tests/unit/tls_help.h"

#include <net/if.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/wait.h>

/* --- connecting -------------------------------------------------------------------------------------------------- */

static void both_ways(void)
{
    struct door d;
    struct call k;

    TAP_OK(pair(&d, &k, NULL), "both have the key: connected");
    TAP_OK(!strncmp(d.peer, "127.0.0.1:", 10) && !strcmp(d.peer_host, "127.0.0.1") &&
               !strcmp(d.local_host, "127.0.0.1"),
           "the peer's address is known: %s", d.peer);
    TAP_OK(strlen(mu_tls_fingerprint(d.tls)) == 16 && !strcmp(mu_tls_fingerprint(d.tls), mu_tls_fingerprint(k.tls)),
           "of pool %s", mu_tls_fingerprint(d.tls));
    d.end.echo = true;
    for (unsigned i = 0; i < 5000; i++)
        if (send_release(k.end.link, i))
            break;
    SPIN_UNTIL(k.end.msgs == 5000);
    TAP_OK(d.end.msgs == 5000 && k.end.msgs == 5000 && !d.end.disorder && !k.end.disorder,
           "five thousand small frames there and back, in order");
    d.end.echo = false;
    TAP_OK(!send_output(k.end.link, MU_FRAME_MAX - 100) && !send_output(d.end.link, MU_FRAME_MAX - 100) &&
               mu_link_pending(k.end.link) > MU_FRAME_MAX / 2,
           "64 MiB each way at once are pending");
    SPIN_UNTIL(k.end.msgs == 5001 && d.end.msgs == 5001);
    TAP_OK(k.end.msgs == 5001 && d.end.msgs == 5001 && !d.end.disorder && !k.end.disorder &&
               !mu_link_pending(k.end.link),
           "and come whole");
    mu_link_free(MU_STEAL(k.end.link, NULL));
    SPIN_UNTIL(d.end.downs);
    TAP_OK(d.end.downs == 1 && k.end.downs == 0, "the end is told to the other side, once");
    unpair(&d, &k);
    TAP_OK(!*logged(), "nothing of this is worth a line in the log");
}

static void many_at_once(void)
{
    static struct call calls[200];
    struct door d;
    unsigned ok = 0;

    open_door(&d, "127.0.0.1", &(struct mu_tls_limits){.half_open = 8});
    d.keep_conn = true;
    for (size_t i = 0; i < MU_COUNT(calls); i++) {
        start_call(&calls[i], "127.0.0.1", d.port, &key, NULL);
        calls[i].keep_conn = true;
    }
    SPIN_UNTIL(d.n == MU_COUNT(calls));
    spin(20);
    for (size_t i = 0; i < MU_COUNT(calls); i++) {
        ok += calls[i].answers == 1 && calls[i].conn;
        end_call(&calls[i]);
    }
    TAP_OK(d.n == MU_COUNT(calls) && ok == MU_COUNT(calls), "two hundred dial at once, eight at a time get in: all do");
    close_door(&d);
    logged();
}

static void options_of(const struct mu_tls_conn *c, const char *whose)
{
    int fd = bufferevent_getfd(c->bev), nodelay = 0, keepalive = 0;
    unsigned ms = 0;
    socklen_t len = sizeof(int);

    getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &nodelay, &len);
    getsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &keepalive, &len);
    getsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &ms, &len);
    TAP_OK(nodelay && keepalive && ms == 4321 && fcntl(fd, F_GETFD) == FD_CLOEXEC && (fcntl(fd, F_GETFL) & O_NONBLOCK),
           "%s socket: no delay, keepalive, the time for silence, CLOEXEC, nonblocking", whose);
}

static void sockets(void)
{
    const struct mu_tls_limits limits = {.unacked_ms = 4321};
    const char *two[] = {"127.0.0.1", "127.0.0.2"}, *same[] = {"127.0.0.1", "127.0.0.1"}, *name[] = {"localhost"};
    struct mu_tls_listener *l = NULL;
    struct mu_err err;
    struct door d;
    struct call k;

    open_door(&d, "127.0.0.1", &limits);
    d.keep_conn = d.free_listener = true;
    start_call(&k, "127.0.0.1", d.port, &key, &limits);
    k.keep_conn = true;
    SPIN_UNTIL(d.conn && k.conn);
    TAP_OK(d.conn && k.conn && !d.listener, "the listener may be freed by its callback");
    options_of(d.conn, "the accepted");
    options_of(k.conn, "the dialled");
    end_call(&k);
    close_door(&d);

    /* everything that the host has */
    TAP_OK(open_door(&d, NULL, NULL), "listening on all addresses");
    start_call(&k, "127.0.0.1", d.port, &key, NULL);
    SPIN_UNTIL(k.end.link && d.n == 1);
    TAP_OK(k.end.link && !strcmp(d.peer_host, "127.0.0.1"), "IPv4 reaches it and is shown as such: %s", d.peer);
    end_call(&k);
    start_call(&k, "::1", d.port, &key, NULL);
    SPIN_UNTIL(k.answers);
    spin(20);
    if (k.end.link)
        TAP_OK(d.n == 2 && !strncmp(d.peer, "[::1]:", 6), "IPv6, too: %s", d.peer);
    else
        TAP_OK(k.err.code == MUSTER_EPEER, "no IPv6 here: %s", k.err.text);
    end_call(&k);

    /* ports */
    uint16_t port = d.port;
    TAP_OK(mu_listen_tcp(d.tls, two, 1, port, on_accept, &d, &l, &err) < 0, "%s", err.text);
    TAP_OK(mu_listen_tcp(d.tls, name, 1, 0, on_accept, &d, &l, &err) == MUSTER_EARG, "%s", err.text);
    TAP_OK(mu_listen_tcp(d.tls, same, 2, 0, on_accept, &d, &l, &err) < 0, "%s", err.text);
    TAP_OK(mu_listen_tcp(d.tls, two, 33, 0, on_accept, &d, &l, &err) == MUSTER_EARG, "%s", err.text);
    close_door(&d);
    TAP_OK(!mu_tls_new(base, &key, NULL, &d.tls, &err) && !mu_listen_tcp(d.tls, two, 2, 0, on_accept, &d, &l, &err),
           "two addresses, one free port");
    d.n = 0;
    d.keep_conn = true;
    d.free_listener = false;
    d.conn = NULL;
    for (int i = 0; i < 2; i++) {
        start_call(&k, two[i], mu_tls_listener_port(l), &key, NULL);
        SPIN_UNTIL(k.answers);
        TAP_OK(k.end.link != NULL, "%s reached", two[i]);
        end_call(&k);
    }
    mu_tls_conn_free(d.conn);
    mu_tls_listener_free(l);
    mu_tls_free(d.tls);
    mu_tls_listener_free(NULL);
    mu_tls_dial_cancel(NULL);
    mu_tls_conn_free(NULL);
    mu_tls_free(NULL);
    logged();
}

static void names(void)
{
    const struct mu_tls_limits hurry = {.connect_ms = 2000};
    struct mu_tls_dial *dial;
    struct door d;
    struct call k;
    char longname[300];

    open_door(&d, "127.0.0.1", NULL);
    start_call(&k, "localhost", d.port, &key, NULL);
    SPIN_UNTIL(k.answers);
    TAP_OK(k.end.link != NULL, "localhost, of which only 127.0.0.1 listens: %s", k.err.text);
    end_call(&k);
    start_call(&k, "localhost", d.port, &key, NULL);
    end_call(&k); /* while the thread is at it */
    start_call(&k, "nobody.invalid", d.port, &key, &hurry);
    SPIN_UNTIL(k.answers);
    TAP_OK((k.err.code == MUSTER_EPEER || k.err.code == MUSTER_ETIMEOUT) && strstr(k.err.text, "nobody.invalid:"), "%s",
           k.err.text);
    memset(longname, 'n', sizeof longname - 1);
    longname[sizeof longname - 1] = 0;
    TAP_OK(mu_connect_tcp(k.tls, longname, 1, on_dialled, &k, &dial, &k.err) == MUSTER_EARG, "a name that is too long");
    TAP_OK(mu_connect_tcp(k.tls, "", 1, on_dialled, &k, &dial, &k.err) == MUSTER_EARG, "no name");
    end_call(&k);
    close_door(&d);
    logged();
}

static void nobody_there(void)
{
    const struct mu_tls_limits hurry = {.connect_ms = 300, .handshake_ms = 300};
    static const struct {
        const char *says, *what;
        size_t len;
        bool leaves;
        int code;
        const char *text;
    } rows[] = {
        {"", "silence", 0, false, MUSTER_ETIMEOUT, "not proved in time"},
        {"", "hanging up", 0, true, MUSTER_EPEER, "127.0.0.1:"},
        {"SSH-2.0-OpenSSH_9.2\r\n", "sshd", 21, true, MUSTER_EPEER, "does not speak TLS"},
        {"HTTP/1.1 400 Bad Request\r\n\r\n", "a web server", 28, true, MUSTER_EPEER, "does not speak TLS"},
        {"\x15\3\3\0\2\2\x46", "another version of the protocol", 7, true, MUSTER_EVERSION, "another version"},
        {"\x15\3\3\0\2\2\x73", "another pool", 7, true, MUSTER_EARG, "pool keys differ"},
        {"\x15\3\3\0\2\2\x28", "an unwilling TLS server", 7, true, MUSTER_EARG, "knows no pool keys"},
    };
    uint16_t port;
    struct call k;
    uint64_t since;

    int l = plain_listener(8, &port);
    for (size_t i = 0; i < MU_COUNT(rows); i++) {
        since = mu_now();
        start_call(&k, "127.0.0.1", port, &key, &hurry);
        int fd = -1;
        SPIN_UNTIL((fd = accept(l, NULL, NULL)) >= 0);
        spin(30);
        if (send(fd, rows[i].says, rows[i].len, 0) < 0)
            exit(99);
        if (rows[i].leaves)
            close(MU_STEAL(fd, -1));
        SPIN_UNTIL(k.answers);
        TAP_OK(k.answers == 1 && k.err.code == rows[i].code && strstr(k.err.text, rows[i].text) &&
                   mu_now() - since < 5 * MU_SEC,
               "%s: %s", rows[i].what, k.err.text);
        end_call(&k);
        if (fd >= 0)
            close(fd);
    }
    close(l);
    start_call(&k, "127.0.0.1", port, &key, NULL);
    SPIN_UNTIL(k.answers);
    TAP_OK(k.answers == 1 && k.err.code == MUSTER_EPEER && strstr(k.err.text, "refused"), "nobody: %s", k.err.text);
    end_call(&k);

    /* a host that answers no SYN: its queue is full */
    int full[8];
    l = plain_listener(0, &port);
    for (size_t i = 0; i < MU_COUNT(full); i++) {
        struct sockaddr_in sa;
        full[i] = loopback(port, &sa);
        fcntl(full[i], F_SETFL, O_NONBLOCK);
        if (connect(full[i], (struct sockaddr *)&sa, sizeof sa) && errno != EINPROGRESS)
            exit(99);
    }
    since = mu_now();
    start_call(&k, "127.0.0.1", port, &key, &hurry);
    SPIN_UNTIL(k.answers);
    TAP_OK(k.answers == 1 && k.err.code == MUSTER_ETIMEOUT && mu_now() - since < 5 * MU_SEC, "%s", k.err.text);
    end_call(&k);
    for (size_t i = 0; i < MU_COUNT(full); i++)
        close(full[i]);
    close(l);
    logged();
}

/* At every moment of a dial. */
static void cancelled(void)
{
    unsigned answers = 0;
    struct door d;
    struct call k;

    open_door(&d, "127.0.0.1", NULL);
    d.keep_conn = true;
    for (int steps = 0; steps < 12; steps++) {
        start_call(&k, "127.0.0.1", d.port, &key, NULL);
        k.keep_conn = true;
        for (int i = 0; i < steps; i++)
            event_base_loop(base, EVLOOP_NONBLOCK | EVLOOP_ONCE);
        unsigned before = k.answers;
        mu_tls_dial_cancel(MU_STEAL(k.dial, NULL));
        spin(10);
        answers += k.answers - before;
        end_call(&k);
    }
    TAP_OK(!answers, "a cancelled dial does not answer");
    close_door(&d);
    logged();
}

static void myself(void)
{
    struct door d;
    struct call k = {0};

    open_door(&d, "127.0.0.1", NULL);
    TAP_OK(!mu_connect_tcp(d.tls, "127.0.0.1", d.port, on_dialled, &k, &k.dial, &k.err), "dialling ourselves");
    SPIN_UNTIL(k.answers);
    TAP_OK(!k.conn && !k.end.link && k.err.code == MUSTER_EARG && strstr(k.err.text, "itself"), "refused: %s",
           k.err.text);
    close_door(&d);
    logged();
}

/* --- links ------------------------------------------------------------------------------------------------------- */

static void pausing(void)
{
    struct door d;
    struct call k;

    pair(&d, &k, NULL);
    d.end.pause_in_msg = true;
    for (unsigned i = 0; i < 3; i++)
        send_release(k.end.link, i);
    SPIN_UNTIL(d.end.msgs);
    spin(30);
    TAP_OK(d.end.msgs == 1, "paused inside a callback: nothing more comes");
    mu_link_pause(d.end.link, false);
    SPIN_UNTIL(d.end.msgs == 2);
    spin(10);
    TAP_OK(d.end.msgs == 2, "resumed: the next one, which pauses again");
    for (unsigned i = 3; i < 2000; i++)
        send_release(k.end.link, i);
    for (int i = 0; i < 8; i++)
        send_output(k.end.link, 4 << 20);
    spin(50);
    TAP_OK(mu_link_pending(k.end.link) > 8u << 20, "what the peer does not read is pending at the sender");
    mu_link_close_after_flush(MU_STEAL(k.end.link, NULL));
    spin(20);
    TAP_OK(!d.end.downs && d.end.msgs == 2, "the end waits, too");
    d.end.pause_in_msg = false;
    mu_link_pause(d.end.link, false);
    SPIN_UNTIL(d.end.downs && !mu_link_flushing());
    TAP_OK(d.end.msgs == 2008 && !d.end.disorder && d.end.downs == 1 && mu_link_flushing() == 0,
           "then the rest and the end");
    unpair(&d, &k);
}

/* TCP resets what is closed over unread bytes: nothing of what was sent may get lost by that. */
static void last_words(void)
{
    struct door d;
    struct call k;

    for (int round = 0; round < 5; round++) {
        pair(&d, &k, NULL);
        d.end.close_in_msg = true;
        for (int i = 0; i < 4; i++)
            send_output(d.end.link, 2 << 20);
        mu_link_pause(k.end.link, true);
        for (int i = 0; i < 8; i++)
            send_output(k.end.link, 2 << 20);
        SPIN_UNTIL(!d.end.link);
        spin(20);
        mu_link_pause(k.end.link, false);
        SPIN_UNTIL(k.end.downs);
        if (k.end.msgs != 5 || k.end.disorder || d.end.msgs != 1)
            break;
        SPIN_UNTIL(!mu_link_flushing());
        if (round < 4)
            unpair(&d, &k);
    }
    TAP_OK(k.end.msgs == 5 && !k.end.disorder && k.end.downs == 1 && d.end.msgs == 1 && !d.end.downs,
           "closed while the peer was still sending: everything arrives, then the end (%u)", k.end.msgs);
    TAP_OK(mu_link_flushing() == 0, "and nothing is left flushing");
    unpair(&d, &k);

    pair(&d, &k, NULL);
    mu_link_close_after_flush(MU_STEAL(d.end.link, NULL));
    SPIN_UNTIL(k.end.downs && !mu_link_flushing());
    TAP_OK(k.end.downs == 1 && !mu_link_flushing(), "with nothing to flush it closes, too");
    unpair(&d, &k);

    pair(&d, &k, NULL);
    d.end.free_in_msg = true;
    send_release(k.end.link, 0);
    send_release(k.end.link, 1);
    SPIN_UNTIL(d.end.msgs);
    spin(10);
    TAP_OK(d.end.msgs == 1 && !d.end.downs && !d.end.link, "freed inside its callback: no further message");
    unpair(&d, &k);

    pair(&d, &k, NULL);
    for (int i = 0; i < 8; i++)
        send_output(d.end.link, 1 << 20);
    mu_link_close_after_flush(MU_STEAL(d.end.link, NULL));
    mu_link_free(MU_STEAL(k.end.link, NULL));
    SPIN_UNTIL(!mu_link_flushing());
    TAP_OK(!mu_link_flushing() && !d.end.downs, "a peer that leaves ends the flush");
    unpair(&d, &k);
    logged();
}

/* What the dialler sends at once comes in the same segment as its proof. */
static void early_words(void)
{
    struct door d;
    struct call k;

    open_door(&d, "127.0.0.1", NULL);
    d.keep_conn = true;
    start_call(&k, "127.0.0.1", d.port, &key, NULL);
    SPIN_UNTIL(k.end.link);
    for (unsigned i = 0; i < 500; i++)
        send_release(k.end.link, i);
    send_output(k.end.link, 1 << 20);
    SPIN_UNTIL(d.conn);
    spin(50);
    d.end.link = mu_link_new_tls(MU_STEAL(d.conn, NULL), on_msg, on_down, &d.end);
    TAP_OK(d.end.link && !d.end.msgs, "no message comes while the link is made");
    SPIN_UNTIL(d.end.msgs == 501);
    TAP_OK(d.end.msgs == 501 && !d.end.disorder, "what came before it does");
    unpair(&d, &k);
}

static void new_keys(void)
{
    struct door d;
    struct call k;

    pair(&d, &k, &(struct mu_tls_limits){.rekey_records = 7});
    d.end.echo = true;
    for (unsigned i = 0; i < 1000; i++)
        send_release(k.end.link, i);
    send_output(k.end.link, 3 << 20);
    SPIN_UNTIL(k.end.msgs == 1001);
    TAP_OK(k.end.msgs == 1001 && !k.end.disorder && !d.end.disorder, "new keys after every seventh record");
    unpair(&d, &k);
}

/* A message after which it looks like the start of no frame. */
static void bad_frames(void)
{
    static const struct {
        const char *bytes, *what;
        size_t len;
    } rows[] = {
        {"\1\0\0\4\1\0", "a frame of more than 64 MiB", 6},
        {"\xff\xff\xff\xff\1\0", "one of 4 GiB", 6},
        {"GET / HTTP/1.0\r\n", "text", 16},
        {"\5\0\0\0\x2a\0\1\1\0", "a cut field", 9},
    };

    for (size_t i = 0; i < MU_COUNT(rows); i++) {
        struct door d;
        struct call k;
        pair(&d, &k, NULL);
        send_release(k.end.link, 0);
        mu_link_send(k.end.link, rows[i].bytes, rows[i].len);
        send_release(k.end.link, 1);
        SPIN_UNTIL(d.end.downs && k.end.downs);
        const char *log = logged();
        TAP_OK(d.end.msgs == 1 && d.end.downs == 1 && k.end.downs == 1 && lines(log) == 1 && strstr(log, d.peer),
               "%s: cut off, and said so by its address", rows[i].what);
        unpair(&d, &k);
    }
}

/* --- silence ----------------------------------------------------------------------------------------------------- */

/* In a network namespace of its own, where the loopback can be taken away under a connection. */
static int vanish(void)
{
    struct ifreq lo = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
    const struct mu_tls_limits limits = {.unacked_ms = 600};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct door d, d2;
    struct call k, k2;

    if (fd < 0 || ioctl(fd, SIOCSIFFLAGS, &lo) || !pair(&d, &k, &limits) || !pair(&d2, &k2, &limits))
        return 2;
    spin(50);
    lo.ifr_flags = 0;
    if (ioctl(fd, SIOCSIFFLAGS, &lo))
        return 3;
    /* one is written to, the other is silent on both sides */
    send_release(k.end.link, 0);
    SPIN_UNTIL(k.end.downs && k2.end.downs && d2.end.downs);
    return k.end.downs == 1 && k2.end.downs == 1 && d2.end.downs == 1 ? 0 : 4;
}

static void silence(void)
{
    int status = -1;
    uint64_t since = mu_now();
    pid_t pid = fork();

    if (!pid) {
        if (unshare(CLONE_NEWNET) && unshare(CLONE_NEWUSER | CLONE_NEWNET))
            _exit(1);
        event_reinit(base);
        _exit(vanish());
    }
    waitpid(pid, &status, 0);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 1)
        TAP_SKIP("needs root for a network of its own");
    else
        TAP_OK(WIFEXITED(status) && !WEXITSTATUS(status) && mu_now() - since < 15 * MU_SEC,
               "a peer that vanishes silently is given up, whether or not anything is sent");
    logged();
}

int main(void)
{
    char dir[] = "/tmp/muster-test-tls-XXXXXX";

    begin_tests(dir);
    both_ways();
    many_at_once();
    sockets();
    names();
    nobody_there();
    cancelled();
    myself();
    pausing();
    last_words();
    early_words();
    new_keys();
    bad_frames();
    silence();
    return end_tests(dir);
}
