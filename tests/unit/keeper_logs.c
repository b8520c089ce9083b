/* Logs and the live view: whole lines, the window, going back, full disks, files that cannot be. */
#include "runtime/keeper/logs.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
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

static void linked(void)
{
    struct mu_logs *l = mu_logs_new(3);
    char path[200], other[200];
    struct mu_err err;
    struct stat st;

    snprintf(path, sizeof path, "%s/attempt-70", dir);
    snprintf(other, sizeof other, "%s/other", dir);
    TAP_OK(!mkdir(other, 0700) && !symlink("other", path) && mu_logs_begin(l, dir, 70, 4, 2, 0644, true, &err) &&
               !stat(other, &st) && (st.st_mode & 0777) == 0700,
           "a link in an attempt's place is not followed: what it points to keeps its mode");
    mu_logs_free(l);
    unlink(path);
    rmdir(other);
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

static unsigned held(void) /* files of ours that are open */
{
    char link[64], target[PATH_MAX];
    unsigned count = 0;

    for (int fd = 0; fd < 256; fd++) {
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        ssize_t n = readlink(link, target, sizeof target);
        count += n > (ssize_t)sizeof dir && !memcmp(target, dir, sizeof dir - 1);
    }
    return count;
}

static void done_with(void)
{
    struct mu_logs *l = mu_logs_new(3);
    struct mu_err err;

    TAP_OK(!mu_logs_begin(l, dir, 40, 0, 2, 0600, false, &err) && held() == 4, "files are held while ranks write");
    feed(l, 0, MU_STREAM_ERR, "one\n");
    end_all(l, 2);
    TAP_OK(held() == 0, "after their end none is: what somebody removes is room");
    mu_logs_note(l, 0, "late", 0);
    slurp("attempt-40/rank-0.err");
    TAP_OK(!strcmp(content, "one\nmuster: late\n") && held() == 0,
           "a late note is added, and the file let go of again");
    mu_logs_stream(l, true);
    TAP_OK(next_is(l, 2000 * MU_SEC, 0, MU_STREAM_ERR, 0, "one\nmuster: late\n") && held() == 1,
           "who begins to look late still sees all");
    ack(l, 40, 0, MU_STREAM_ERR, 17);
    TAP_OK(mu_logs_drained(l) && held() == 0, "and once he has it the file is let go of");
    mu_logs_free(l);

    l = mu_logs_new(3);
    mu_logs_stream(l, true);
    TAP_OK(!mu_logs_begin(l, dir, 41, 0, 1, 0600, false, &err), "somebody looks");
    feed(l, 0, MU_STREAM_OUT, "one\n");
    end_all(l, 1);
    TAP_OK(held() == 1 && next_is(l, 2000 * MU_SEC, 0, MU_STREAM_OUT, 0, "one\n"), "the file stays until he has it");
    mu_logs_stream(l, false);
    TAP_OK(held() == 0, "or goes away");
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

static struct mu_m_report loss(const struct mu_logs *l)
{
    struct mu_m_report r = {0};

    mu_logs_lost(l, &r);
    return r;
}

/* The file-size limit stands in for a full disk: writes fall short and then fail, and it can be lifted. It is that of
 * this test's own output, too. */
static struct rlimit unlimited;
static void limit(rlim_t bytes)
{
    struct rlimit r = unlimited;

    r.rlim_cur = bytes;
    setrlimit(RLIMIT_FSIZE, bytes ? &r : &unlimited);
}

/* All that the live view has now, taken and acknowledged. */
static char shown[4 << 20];
static size_t take_all(struct mu_logs *l, uint32_t attempt, uint32_t stream)
{
    static uint64_t at;
    static uint32_t of;
    struct mu_m_output o;
    size_t n = 0;

    if (of != attempt)
        at = 0;
    of = attempt;
    while (mu_logs_next(l, 2000 * MU_SEC, &o, NULL)) {
        if (o.stream != stream || o.offset != at || n + o.data.len >= sizeof shown)
            abort();
        memcpy(shown + n, o.data.data, o.data.len);
        n += o.data.len;
        at += o.data.len;
        ack(l, attempt, 0, stream, at);
    }
    shown[n] = 0;
    return n;
}

static void full(void)
{
    uint64_t now = 1000 * MU_SEC;
    struct mu_logs *l = mu_logs_new(3);
    struct mu_m_output o;
    struct mu_err err;

    mu_logs_begin(l, dir, 30, 0, 1, 0600, false, &err);
    limit(25);
    feed(l, 0, MU_STREAM_OUT, "1234567\n1234567\n1234567\n1234567\n1234567\n");
    size_t kept = slurp("attempt-30/rank-0.out");
    struct mu_m_report first = loss(l);
    feed(l, 0, MU_STREAM_OUT, "lost\nlost too, in tw");
    feed(l, 0, MU_STREAM_OUT, "o parts\nlost\n");
    struct mu_m_report more = loss(l);
    feed(l, 0, MU_STREAM_OUT, "begins to be lost");
    limit(0);
    TAP_OK(kept == 24 && first.dropped == 2, "a full disk keeps whole lines, counts %llu",
           (unsigned long long)first.dropped);
    TAP_OK(more.dropped == 5 && more.unseen == 5 && more.drop_why == EFBIG, "more is lost while it is full");
    feed(l, 0, MU_STREAM_OUT, " and ends so\nkept\n");
    slurp("attempt-30/rank-0.out");
    TAP_OK(strstr(content, "muster: 6 lines of this output could not be kept") && strstr(content, ")\nkept\n") &&
               !strstr(content, "ends so"),
           "once there is room a line says what is missing");
    TAP_OK(loss(l).dropped == 6, "and nothing else is lost");
    end_all(l, 1);
    mu_logs_begin(l, dir, 31, 0, 1, 0600, false, &err);
    TAP_OK(loss(l).dropped == 0, "each attempt counts for itself");
    limit(3);
    feed(l, 0, MU_STREAM_ERR, "no end");
    end_all(l, 1);
    limit(0);
    TAP_OK(loss(l).dropped == 1 && loss(l).unseen == 1, "a lost line without an end is one");
    mu_logs_free(l);

    /* somebody looks: the view goes on */
    l = mu_logs_new(3);
    mu_logs_begin(l, dir, 32, 0, 1, 0600, false, &err);
    mu_logs_stream(l, true);
    limit(12);
    feed(l, 0, MU_STREAM_OUT, "kept 1\nmissing 2\nmiss");
    feed(l, 0, MU_STREAM_OUT, "ing 3\nmissing 4, which ends");
    limit(0);
    feed(l, 0, MU_STREAM_OUT, " later\nkept 5\n");
    limit(1);
    feed(l, 0, MU_STREAM_OUT, "missing 6\n");
    limit(0);
    feed(l, 0, MU_STREAM_OUT, "kept 7\n");
    static const char all[] = "kept 1\nmissing 2\nmissing 3\nmissing 4, which ends later\nkept 5\nmissing 6\nkept 7\n";
    TAP_OK(next_is(l, now, 0, MU_STREAM_OUT, 0, all), "with a full disk the live view has all of it, in its order");
    mu_logs_rewind(l);
    TAP_OK(next_is(l, now, 0, MU_STREAM_OUT, 0, all), "also after a rewind");
    for (uint64_t to = 0; to < strlen(all); to++) {
        ack(l, 32, 0, MU_STREAM_OUT, to);
        mu_logs_rewind(l);
        if (!next_is(l, now, 0, MU_STREAM_OUT, to, all + to)) {
            TAP_OK(false, "from offset %llu", (unsigned long long)to);
            break;
        }
    }
    TAP_OK(loss(l).dropped == 4 && loss(l).unseen == 0, "what the file lacks is counted, nothing is unseen");
    ack(l, 32, 0, MU_STREAM_OUT, strlen(all));
    slurp("attempt-32/rank-0.out");
    TAP_OK(strstr(content, "kept 1\nmuster: 3 lines of") == content &&
               strstr(content, ")\nkept 5\nmuster: 1 line of") && strstr(content, ")\nkept 7\n"),
           "the file says where they are missing");
    feed(l, 0, MU_STREAM_OUT, "8\n");
    TAP_OK(mu_logs_next(l, now, &o, NULL) && o.dropped == 4 && o.why == EFBIG, "a piece of output tells it");
    mu_logs_free(l);
}

/* A client that does not read: memory is bounded, the view says what is missing. */
static void slow(void)
{
    struct mu_logs *l = mu_logs_new(3);
    struct mu_err err;
    uint64_t lines = 0, missing = 0;
    char line[32];

    mu_logs_begin(l, dir, 40, 0, 1, 0600, false, &err);
    mu_logs_stream(l, true);
    limit(5);
    for (int i = 0; i < 100000; i++) {
        snprintf(line, sizeof line, "0123456789 %06d\n", i);
        feed(l, 0, MU_STREAM_OUT, line);
    }
    struct mu_m_report r = loss(l);
    size_t n = take_all(l, 40, MU_STREAM_OUT);
    limit(0);
    for (size_t i = 0; i < n; i++)
        lines += shown[i] == '\n';
    TAP_OK(r.dropped == 100000 && r.unseen == 100000 - lines && n <= MU_LOGS_MEM && n > MU_LOGS_MEM - 200,
           "memory takes %llu lines, %llu go unseen", (unsigned long long)lines, (unsigned long long)r.unseen);
    feed(l, 0, MU_STREAM_OUT, "later\n");
    take_all(l, 40, MU_STREAM_OUT);
    TAP_OK(sscanf(shown, "muster: %llu lines", (unsigned long long *)&missing) == 1 && missing == r.unseen &&
               strstr(shown, "\nlater\n"),
           "then a line says so: %.*s", (int)strcspn(shown, "\n"), shown);
    TAP_OK(loss(l).dropped == 100000, "the file has the later one");

    /* the end of the client: what only memory had is lost, the rest is shown to the next */
    limit(1);
    feed(l, 0, MU_STREAM_OUT, "only in memory\n");
    limit(0);
    feed(l, 0, MU_STREAM_OUT, "in the file\n");
    mu_logs_stream(l, false);
    TAP_OK(loss(l).unseen == r.unseen + 1 && mu_logs_drained(l), "nobody looks: memory is given up");
    limit(1);
    feed(l, 0, MU_STREAM_OUT, "neither\n");
    limit(0);
    feed(l, 0, MU_STREAM_OUT, "also in the file\n");
    mu_logs_stream(l, true);
    feed(l, 0, MU_STREAM_OUT, "and again\n");
    struct mu_m_output o;
    TAP_OK(mu_logs_next(l, 2000 * MU_SEC, &o, NULL) &&
               !memcmp(o.data.data, "in the file\nalso in the file\nmuster: 2 lines", 43) &&
               memmem(o.data.data, o.data.len, "and again\n", 10),
           "somebody does again: what the file has, and how much is missing");
    mu_logs_free(l);
}

/* Random order of everything against a plain model: what comes out live is what went in, less what was counted. */
static void any_order(void)
{
    struct mu_logs *l = mu_logs_new(3);
    struct mu_err err;
    static char in[4 << 20];
    size_t nin = 0, nout = 0;
    static char out[4 << 20];
    uint32_t seed = 12345;

    mu_logs_begin(l, dir, 50, 0, 1, 0600, false, &err);
    mu_logs_stream(l, true);
    for (int i = 0; i < 4000; i++) {
        char text[300];
        size_t len = 0, most;

        seed = seed * 1664525 + 1013904223;
        most = seed >> 8 & 255;
        for (; len < most; len++) {
            seed = seed * 1664525 + 1013904223;
            text[len] = seed >> 24 < 24 ? '\n' : (char)('a' + (seed >> 16) % 26);
        }
        if (len) {
            limit(seed & 1024 ? 1 : 0);
            mu_logs_feed(l, 0, MU_STREAM_OUT, text, len, 1000 * MU_SEC);
            limit(0);
            memcpy(in + nin, text, len);
            nin += len;
        }
        if (seed % 7 == 0)
            mu_logs_rewind(l);
        if (seed % 5 == 0) {
            size_t n = take_all(l, 50, MU_STREAM_OUT);
            memcpy(out + nout, shown, n);
            nout += n;
        }
    }
    end_all(l, 1);
    size_t n = take_all(l, 50, MU_STREAM_OUT);
    memcpy(out + nout, shown, n);
    nout += n;
    TAP_OK(loss(l).dropped > 1000 && loss(l).unseen == 0 && nin == nout && !memcmp(in, out, nin),
           "a disk that comes and goes: %zu bytes live, none missing, %llu lines not in the file", nout,
           (unsigned long long)loss(l).dropped);
    TAP_OK(mu_logs_drained(l), "drained");
    size_t left = slurp("attempt-50/rank-0.out"), lines = 0, lost = 0, k;
    char *p = content;
    for (k = 0; k < left; k++)
        lines += content[k] == '\n';
    for (unsigned long long m; (p = strstr(p, "muster: ")) && sscanf(p, "muster: %llu line", &m) == 1; p++, lines--)
        lost += m;
    TAP_OK(lost == loss(l).dropped, "the file's own lines add up to %zu", lost);
    mu_logs_free(l);
}

static void nowhere(void)
{
    uint64_t now = 1000 * MU_SEC;
    struct mu_logs *l = mu_logs_new(3);
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
    TAP_OK(loss(l).dropped == 1 && loss(l).unseen == 0 && loss(l).drop_why == ENOTDIR,
           "and counted, with the reason: %s", strerror((int)loss(l).drop_why));
    unlink(file);
    mu_logs_feed(l, 0, MU_STREAM_OUT, "now\n", 4, now + 2 * MU_SEC);
    slurp("file/attempt-1/rank-0.out");
    TAP_OK(strstr(content, "muster: 1 line of this output could not be kept") == content && strstr(content, ")\nnow\n"),
           "once the file can be made it is");
    TAP_OK(next_is(l, now, 0, MU_STREAM_OUT, 5, "now\n"), "and the view goes on");
    mu_logs_free(l);
}

int main(void)
{
    if (!mkdtemp(dir))
        return 1;
    linked();
    files();
    done_with();
    live();
    window();
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &unlimited);
    full();
    slow();
    any_order();
    nowhere();
    mu_path_remove_tree(dir, NULL);
    return tap_done();
}
