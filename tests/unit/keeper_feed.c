/* Standard input on its way to a program that may be slow, gone, or not there yet. */
#include "runtime/keeper/feed.h"

#include <event2/event.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "runtime/wire/daemon.h"
#include "tests/unit/tap.h"

static uint64_t taken;

static void on_taken(void *arg, uint64_t n)
{
    (void)arg;
    taken = n;
}

static void put(struct mu_feed *f, const char *text, size_t n, uint64_t offset, bool eof)
{
    struct mu_m_input m = {
        .data = {.data = (uint8_t *)(uintptr_t)text, .len = (uint32_t)n}, .offset = offset, .eof = eof};

    mu_feed_put(f, &m);
}

static int in; /* our end of the program's input */

static void attach(struct mu_feed *f)
{
    int fds[2];

    if (pipe2(fds, O_CLOEXEC) || fcntl(fds[1], F_SETFL, O_NONBLOCK) < 0 || fcntl(fds[0], F_SETFL, O_NONBLOCK) < 0)
        exit(1);
    in = fds[0];
    mu_feed_attach(f, fds[1]);
}

int main(void)
{
    static char big[200000], got[300000];
    struct event_base *base = mu_loop_new();
    struct mu_feed *f = mu_feed_new(base, on_taken, NULL);
    size_t at = 0;
    ssize_t n;

    signal(SIGPIPE, SIG_IGN);
    put(f, "early ", 6, 0, false);
    TAP_OK(!taken, "nobody reads yet: it waits");
    attach(f);
    TAP_OK(taken == 6 && read(in, got, sizeof got) == 6 && !memcmp(got, "early ", 6), "then it gets there");
    put(f, "early bird", 10, 0, false);
    TAP_OK(taken == 10 && read(in, got, sizeof got) == 4 && !memcmp(got, "bird", 4), "what was there is not repeated");
    taken = 0;
    put(f, "bird", 4, 6, false);
    TAP_OK(taken == 10 && read(in, got, sizeof got) < 0, "a repeated message is acknowledged again, and no more");
    put(f, "far", 3, 100, false);
    TAP_OK(read(in, got, sizeof got) == 3 && taken == 103, "input goes on where an earlier keeper had got to");

    for (size_t i = 0; i < sizeof big; i++)
        big[i] = (char)(i * 7 % 251);
    put(f, big, sizeof big, 103, true);
    TAP_OK(taken > 103 && taken < 103 + sizeof big, "a pipe takes what it can hold");
    for (int i = 0; i < 10000 && at < sizeof got; i++) {
        event_base_loop(base, EVLOOP_NONBLOCK);
        n = read(in, got + at, sizeof got - at);
        if (!n)
            break;
        at += n > 0 ? (size_t)n : 0;
    }
    TAP_OK(at == sizeof big && !memcmp(big, got, at) && taken == 103 + sizeof big, "the rest follows as it is read");
    TAP_OK(read(in, got, sizeof got) == 0, "and the end after it");
    close(in);

    mu_feed_hold(f);
    attach(f);
    TAP_OK(read(in, got, sizeof got) == 0, "a restarted program finds the end at once");
    close(in);
    mu_feed_free(f);

    f = mu_feed_new(base, on_taken, NULL);
    attach(f);
    close(in);
    put(f, "lost", 4, 0, false);
    TAP_OK(taken == 4, "a program that has closed its input takes everything");
    put(f, "too", 3, 4, false);
    TAP_OK(taken == 7, "and goes on doing so");
    mu_feed_hold(f);
    put(f, "kept", 4, 7, false);
    TAP_OK(taken == 7, "between two attempts input is kept");
    attach(f);
    TAP_OK(taken == 11 && read(in, got, sizeof got) == 4, "for the next one");
    put(f, big, sizeof big, 11, false);
    mu_feed_detach(f);
    TAP_OK(taken == 11 + sizeof big, "what waits for a dead program is thrown away");
    close(in);
    mu_feed_free(f);
    event_base_free(base);
    return tap_done();
}
