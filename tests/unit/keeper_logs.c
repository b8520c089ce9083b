/* Logs and the live view: whole lines, the window, going back, full disks, files that cannot be. */
#include "runtime/keeper/logs.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/base/clock.h"
#include "runtime/base/path.h"
#include "runtime/wire/core.h"
#include "tests/unit/tap.h"

static char dir[] = "/tmp/muster-keeper-logs-XXXXXX";
static char content[4 << 20];

static size_t slurp(const char *name)
{
    char path[200];

    snprintf(path, sizeof path, "%s/%s", dir, name);
    int fd = open(path, O_RDONLY);
    ssize_t n = fd < 0 ? -1 : read(fd, content, sizeof content - 1);
    if (fd >= 0)
        close(fd);
    content[n > 0 ? n : 0] = 0;
    return n > 0 ? (size_t)n : 0;
}

static void feed(struct mu_logs *l, uint32_t index, uint32_t stream, const char *text)
{
    mu_logs_feed(l, index, stream, text, strlen(text), 1000 * MU_SEC);
}

static void ack(struct mu_logs *l, uint32_t attempt, uint32_t rank, uint32_t stream, uint64_t offset)
{
    struct mu_m_output_ack m = {.job = 3, .attempt = attempt, .rank = rank, .stream = stream, .offset = offset};

    mu_logs_ack(l, &m);
}

static bool next_is(struct mu_logs *l, uint64_t now, uint32_t rank, uint32_t stream, uint64_t offset, const char *text)
{
    struct mu_m_output o;

    if (!mu_logs_next(l, now, &o, NULL))
        return false;
    return o.job == 3 && o.rank == rank && o.stream == stream && o.offset == offset && o.data.len == strlen(text) &&
           !memcmp(o.data.data, text, o.data.len);
}

static void end_all(struct mu_logs *l, uint32_t n)
{
    for (uint32_t i = 0; i < 2 * n; i++)
        mu_logs_end(l, i / 2, i % 2 + 1);
}

static void files(void)
{
    struct mu_logs *l = mu_logs_new(3);
    struct mu_err err;
    struct stat st;
    char path[200], link[64], tail[MU_LOGS_TAIL + 1];

    TAP_OK(!mu_logs_begin(l, dir, 2, 4, 2, 0640, true, &err), "files of an attempt can be made");
    feed(l, 0, MU_STREAM_OUT, "one\ntw");
    feed(l, 0, MU_STREAM_OUT, "o\n");
    feed(l, 1, MU_STREAM_ERR, "oops\n");
    TAP_OK(slurp("attempt-2/rank-4.out") == 8 && !strcmp(content, "one\ntwo\n"), "output lands in the rank's file");
    TAP_OK(slurp("attempt-2/rank-5.err") == 5 && !strcmp(content, "oops\n"), "and so does stderr");
    snprintf(path, sizeof path, "%s/attempt-2", dir);
    TAP_OK(!stat(path, &st) && (st.st_mode & 0777) == 0750, "a directory that may be read may be entered");
    snprintf(path, sizeof path, "%s/latest", dir);
    ssize_t n = readlink(path, link, sizeof link);
    TAP_OK(n == 9 && !memcmp(link, "attempt-2", 9), "latest points to the attempt");
    TAP_OK(!mu_logs_begin(l, dir, 3, 4, 2, 0640, true, &err), "the next attempt");
    n = readlink(path, link, sizeof link);
    TAP_OK(n == 9 && !memcmp(link, "attempt-3", 9), "latest moves on");

    for (int i = 0; i < 2000; i++) {
        char line[32];
        snprintf(line, sizeof line, "line %d\n", i);
        feed(l, 0, MU_STREAM_ERR, line);
    }
    mu_logs_tail(l, 0, tail);
    TAP_OK(!strcmp(tail, "line 1992\nline 1993\nline 1994\nline 1995\nline 1996\nline 1997\nline 1998\nline 1999\n"),
           "the tail is the last eight lines");
    feed(l, 1, MU_STREAM_ERR, "a\nlast words");
    mu_logs_tail(l, 1, tail);
    TAP_OK(!strcmp(tail, "a\nlast words"), "a line without an end counts too");
    mu_logs_note(l, 1, "a note", 0);
    slurp("attempt-3/rank-5.err");
    TAP_OK(!strcmp(content, "a\nlast words\nmuster: a note\n"), "a note starts a line of its own");
    memset(content, 'x', 100000);
    mu_logs_feed(l, 1, MU_STREAM_ERR, content, 100000, 0);
    mu_logs_tail(l, 1, tail);
    TAP_OK(strlen(tail) == MU_LOGS_TAIL, "a long line's tail is bounded");
    TAP_OK(mu_logs_drained(l), "nobody looks: nothing to wait for");
    mu_logs_free(l);
}

static void live(void)
{
    uint64_t now = 1000 * MU_SEC, again;
    struct mu_logs *l = mu_logs_new(3);
    struct mu_m_output o;
    struct mu_err err;

    mu_logs_begin(l, dir, 10, 0, 2, 0600, false, &err);
    feed(l, 0, MU_STREAM_OUT, "before\n");
    TAP_OK(!mu_logs_next(l, now, &o, NULL), "no live view unless it is asked for");
    mu_logs_stream(l, true);
    TAP_OK(!mu_logs_drained(l), "output that nobody has had is not drained");
    TAP_OK(next_is(l, now, 0, MU_STREAM_OUT, 0, "before\n"), "what was written before is shown");
    TAP_OK(!mu_logs_next(l, now, &o, NULL), "once");
    feed(l, 0, MU_STREAM_OUT, "whole\nhal");
    TAP_OK(next_is(l, now, 0, MU_STREAM_OUT, 7, "whole\n"), "whole lines only");
    TAP_OK(!mu_logs_next(l, now, &o, &again) && again == now + 200 * MU_MS, "the half waits, for a time");
    TAP_OK(next_is(l, again, 0, MU_STREAM_OUT, 13, "hal"), "then it goes");
    feed(l, 0, MU_STREAM_OUT, "f\n");
    TAP_OK(next_is(l, now, 0, MU_STREAM_OUT, 16, "f\n"), "and the rest follows");
    ack(l, 10, 0, MU_STREAM_OUT, 7);
    mu_logs_rewind(l);
    TAP_OK(next_is(l, now, 0, MU_STREAM_OUT, 7, "whole\nhalf\n"),
           "after a rewind what was not acknowledged goes again");
    ack(l, 10, 0, MU_STREAM_OUT, 5);
    ack(l, 10, 9, MU_STREAM_OUT, 18);
    ack(l, 10, 0, 7, 18);
    ack(l, 99, 0, MU_STREAM_OUT, 18);
    mu_logs_rewind(l);
    TAP_OK(next_is(l, now, 0, MU_STREAM_OUT, 7, "whole\nhalf\n"), "acknowledgements of nonsense change nothing");
    mu_logs_rewind(l);
    ack(l, 10, 0, MU_STREAM_OUT, 18);
    TAP_OK(!mu_logs_next(l, now, &o, NULL), "one that comes after the rewind still counts");

    /* an attempt that is over keeps its output until it has been taken */
    feed(l, 1, MU_STREAM_ERR, "died of it");
    end_all(l, 2);
    mu_logs_begin(l, dir, 11, 0, 1, 0600, false, &err);
    feed(l, 0, MU_STREAM_OUT, "again\n");
    TAP_OK(mu_logs_next(l, now, &o, NULL) && o.attempt == 10 && o.rank == 1 && o.data.len == 10,
           "last words of the last attempt come first, although they end nowhere");
    TAP_OK(mu_logs_next(l, now, &o, NULL) && o.attempt == 11, "then the new one's");
    end_all(l, 1);
    ack(l, 11, 0, MU_STREAM_OUT, 6);
    TAP_OK(!mu_logs_drained(l), "the old one is still owed an acknowledgement");
    ack(l, 10, 1, MU_STREAM_ERR, 10);
    TAP_OK(mu_logs_drained(l), "drained");
    mu_logs_free(l);
}

static void window(void)
{
    uint64_t now = 1000 * MU_SEC, sent = 0, end[2] = {0, 0};
    struct mu_logs *l = mu_logs_new(3);
    struct mu_m_output o;
    struct mu_err err;
    bool lines = true, both = false;

    mu_logs_begin(l, dir, 20, 0, 2, 0600, false, &err);
    mu_logs_stream(l, true);
    for (int i = 0; i < 40000; i++) {
        feed(l, 0, MU_STREAM_OUT, "0123456789abcdef\n");
        feed(l, 1, MU_STREAM_OUT, "fedcba9876543210\n");
    }
    while (mu_logs_next(l, now, &o, NULL)) {
        lines &= o.data.data[o.data.len - 1] == '\n' && o.data.len <= MU_LOGS_PIECE && o.offset == end[o.rank];
        end[o.rank] = o.offset + o.data.len;
        sent += o.data.len;
    }
    both = end[0] && end[1];
    TAP_OK(sent <= MU_LOGS_WINDOW && sent > MU_LOGS_WINDOW - 17 * 4 && lines, "the window: %llu bytes, whole lines",
           (unsigned long long)sent);
    TAP_OK(both, "the streams take turns");
    while (end[0] < 680000 || end[1] < 680000) {
        ack(l, 20, 0, MU_STREAM_OUT, end[0]);
        ack(l, 20, 1, MU_STREAM_OUT, end[1]);
        if (!mu_logs_next(l, now, &o, NULL))
            break;
        lines &= o.offset == end[o.rank];
        end[o.rank] = o.offset + o.data.len;
    }
    TAP_OK(lines && end[0] == 680000 && end[1] == 680000, "credit brings the rest, gapless");
    ack(l, 20, 0, MU_STREAM_OUT, end[0]);
    ack(l, 20, 1, MU_STREAM_OUT, end[1]);

    /* a line longer than a piece */
    memset(content, 'y', 300000);
    content[300000] = '\n';
    mu_logs_feed(l, 0, MU_STREAM_OUT, content, 300001, now);
    for (sent = 0; mu_logs_next(l, now, &o, NULL); sent += o.data.len)
        ack(l, 20, 0, MU_STREAM_OUT, o.offset + o.data.len);
    TAP_OK(sent == 300001, "a line longer than any piece goes in pieces");
    mu_logs_free(l);
}

/* The file-size limit stands in for a full disk: writes fall short and then fail, and it can be lifted. */
static void full(void)
{
    uint64_t now = 1000 * MU_SEC;
    struct rlimit r, old;
    struct mu_logs *l = mu_logs_new(3);
    struct mu_m_output o;
    struct mu_err err;

    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &old);
    r = old;
    r.rlim_cur = 25;
    mu_logs_begin(l, dir, 30, 0, 1, 0600, false, &err);
    mu_logs_stream(l, true);
    setrlimit(RLIMIT_FSIZE, &r);
    feed(l, 0, MU_STREAM_OUT, "1234567\n1234567\n1234567\n1234567\n1234567\n");
    size_t kept = slurp("attempt-30/rank-0.out");
    uint64_t dropped = mu_logs_dropped(l);
    feed(l, 0, MU_STREAM_OUT, "lost\nlost too, in tw");
    feed(l, 0, MU_STREAM_OUT, "o parts\nlost\n");
    uint64_t more = mu_logs_dropped(l);
    feed(l, 0, MU_STREAM_OUT, "begins to be lost");
    setrlimit(RLIMIT_FSIZE, &old); /* the limit is also that of this test's own output */
    TAP_OK(kept == 24 && dropped == 2, "a full disk keeps whole lines, counts %llu", (unsigned long long)dropped);
    TAP_OK(more == 5, "more is lost while it is full");
    feed(l, 0, MU_STREAM_OUT, " and ends so\nkept\n");
    slurp("attempt-30/rank-0.out");
    TAP_OK(strstr(content, "muster: 6 lines of this output could not be kept") && strstr(content, ")\nkept\n") &&
               !strstr(content, "ends so"),
           "once there is room a line says what is missing");
    TAP_OK(next_is(l, now, 0, MU_STREAM_OUT, 0, content), "the live view has what the file has");
    TAP_OK(!mu_logs_next(l, now, &o, NULL) && mu_logs_dropped(l) == 6, "and nothing else");
    end_all(l, 1);
    mu_logs_begin(l, dir, 31, 0, 1, 0600, false, &err);
    TAP_OK(mu_logs_dropped(l) == 6, "attempts that are over still count");
    r.rlim_cur = 3;
    setrlimit(RLIMIT_FSIZE, &r);
    feed(l, 0, MU_STREAM_ERR, "no end");
    end_all(l, 1);
    setrlimit(RLIMIT_FSIZE, &old);
    TAP_OK(mu_logs_dropped(l) == 7, "a lost line without an end is one");
    mu_logs_free(l);
}

static void nowhere(void)
{
    uint64_t now = 1000 * MU_SEC;
    struct mu_logs *l = mu_logs_new(3);
    struct mu_m_output o;
    struct mu_err err = {0};
    char file[200];

    snprintf(file, sizeof file, "%s/file", dir);
    close(open(file, O_CREAT | O_WRONLY, 0600));
    TAP_OK(mu_logs_begin(l, file, 1, 0, 1, 0600, true, &err) < 0 && strstr(err.text, "file"),
           "a directory that cannot be: %s", err.text);
    mu_logs_stream(l, true);
    feed(l, 0, MU_STREAM_OUT, "seen\n");
    TAP_OK(next_is(l, now, 0, MU_STREAM_OUT, 0, "seen\n"), "its output is shown all the same");
    mu_logs_rewind(l);
    TAP_OK(next_is(l, now, 0, MU_STREAM_OUT, 0, "seen\n"), "also again");
    ack(l, 1, 0, MU_STREAM_OUT, 5);
    for (int i = 0; i < 10000; i++)
        feed(l, 0, MU_STREAM_OUT, "0123456789abcdef\n");
    TAP_OK(mu_logs_dropped(l) > 5000 && mu_logs_dropped(l) < 10000, "memory is bounded: %llu lines dropped",
           (unsigned long long)mu_logs_dropped(l));
    uint64_t at = 5;
    bool good = true;
    while (mu_logs_next(l, now, &o, NULL)) {
        good &= o.offset == at && o.data.data[o.data.len - 1] == '\n';
        at += o.data.len;
        ack(l, 1, 0, MU_STREAM_OUT, at);
    }
    feed(l, 0, MU_STREAM_OUT, "later\n");
    TAP_OK(good && mu_logs_next(l, now, &o, NULL) && memmem(o.data.data, o.data.len, "could not be kept", 17) &&
               memmem(o.data.data, o.data.len, "\nlater\n", 7),
           "it goes on after a line that says so");
    mu_logs_free(l);
}

int main(void)
{
    if (!mkdtemp(dir))
        return 1;
    files();
    live();
    window();
    full();
    nowhere();
    mu_path_remove_tree(dir, NULL);
    return tap_done();
}
