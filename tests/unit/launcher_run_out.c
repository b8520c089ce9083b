/* Live output: whole lines, tags, duplicates, acknowledgements, readers that are slow or gone. */
#include "launcher/run_out.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "runtime/wire/core.h"
#include "tests/unit/tap.h"

static uint64_t acked[8];
static unsigned nacks;
static uint64_t now = 1000;

static void on_ack(void *arg, uint32_t attempt, uint32_t rank, uint32_t stream, uint64_t offset)
{
    (void)arg;
    (void)attempt;
    acked[rank * 2 + (stream == MU_STREAM_ERR)] = offset;
    nacks++;
}

struct rig {
    struct mu_out *out;
    int o[2], e[2];
};

static void set_up(struct rig *r, uint32_t ranks, bool tag)
{
    memset(acked, 0, sizeof acked);
    nacks = 0;
    if (pipe2(r->o, O_NONBLOCK) || pipe2(r->e, O_NONBLOCK))
        exit(1);
    r->out = mu_out_new(7, ranks, tag, r->o[1], r->e[1], on_ack, NULL);
}

static void tear_down(struct rig *r)
{
    mu_out_free(r->out);
    for (int i = 0; i < 2; i++) {
        close(r->o[i]);
        close(r->e[i]);
    }
}

static int give(struct rig *r, uint32_t attempt, uint32_t rank, uint32_t stream, uint64_t offset, const char *text)
{
    struct mu_m_output m = {.job = 7,
                            .attempt = attempt,
                            .rank = rank,
                            .stream = stream,
                            .offset = offset,
                            .data = {.data = (uint8_t *)(uintptr_t)text, .len = (uint32_t)strlen(text)}};
    return mu_out_take(r->out, &m, now);
}

static const char *seen(int fd)
{
    static char buf[4096];
    ssize_t n = read(fd, buf, sizeof buf - 1);

    buf[n > 0 ? n : 0] = 0;
    return buf;
}

static bool shows(struct rig *r, int which, const char *want)
{
    mu_out_write(r->out, which, true);
    const char *got = seen(which ? r->e[0] : r->o[0]);
    bool same = !strcmp(got, want);

    if (!same)
        printf("# got '%s' instead of '%s'\n", got, want);
    return same;
}

static void lines(void)
{
    struct rig r;

    set_up(&r, 2, false);
    give(&r, 1, 0, MU_STREAM_OUT, 0, "one\ntw");
    give(&r, 1, 1, MU_STREAM_OUT, 0, "other\n");
    TAP_OK(shows(&r, 0, "one\nother\n"), "the beginning of a line waits, another rank's line passes it");
    TAP_OK(acked[0] == 6 && acked[2] == 6, "both are acknowledged once written or held");
    give(&r, 1, 0, MU_STREAM_OUT, 6, "o\n");
    TAP_OK(shows(&r, 0, "two\n"), "the line comes whole");
    give(&r, 1, 0, MU_STREAM_ERR, 0, "bad\n");
    TAP_OK(shows(&r, 0, "") && shows(&r, 1, "bad\n"), "standard error goes to standard error");
    give(&r, 1, 1, MU_STREAM_OUT, 6, "no end");
    give(&r, 1, 0, MU_STREAM_OUT, 8, "neither");
    TAP_OK(shows(&r, 0, ""), "no line has ended");
    mu_out_finish(r.out);
    TAP_OK(shows(&r, 0, "neither\nno end"), "at the end both are let go, each on a line of its own");
    mu_out_finish(r.out);
    TAP_OK(shows(&r, 0, ""), "and only once");
    TAP_OK(give(&r, 1, 2, MU_STREAM_OUT, 0, "x\n") == MUSTER_EARG, "a rank that is not there is refused");
    TAP_OK(give(&r, 1, 1, 3, 0, "x\n") == MUSTER_EARG, "a stream that is not there is refused");
    tear_down(&r);
}

static void tags(void)
{
    struct rig r;

    set_up(&r, 2, true);
    give(&r, 1, 1, MU_STREAM_OUT, 0, "a\n\nb\nc");
    TAP_OK(shows(&r, 0, "[7,1]<stdout>:a\n[7,1]<stdout>:\n[7,1]<stdout>:b\n"), "each line has its tag, empty ones too");
    give(&r, 1, 0, MU_STREAM_ERR, 0, "e\n");
    TAP_OK(shows(&r, 1, "[7,0]<stderr>:e\n"), "the tag names the stream");
    mu_out_note(r.out, "said by %s", "muster");
    TAP_OK(shows(&r, 1, "muster: said by muster\n"), "muster's own lines have none");
    tear_down(&r);
}

static void again(void)
{
    struct rig r;

    set_up(&r, 2, false);
    give(&r, 1, 0, MU_STREAM_OUT, 0, "a\nb\n");
    give(&r, 1, 0, MU_STREAM_OUT, 0, "a\nb\n");
    TAP_OK(shows(&r, 0, "a\nb\n"), "what comes twice is shown once");
    nacks = 0;
    give(&r, 1, 0, MU_STREAM_OUT, 2, "b\nc\n");
    TAP_OK(shows(&r, 0, "c\n") && nacks == 1 && acked[0] == 6, "of what overlaps the new part");
    give(&r, 2, 0, MU_STREAM_OUT, 0, "x\n");
    give(&r, 1, 0, MU_STREAM_OUT, 6, "late\n");
    TAP_OK(shows(&r, 0, "x\n"), "a new attempt counts from 0, an old one is over");
    give(&r, 2, 1, MU_STREAM_OUT, 0, "half");
    give(&r, 3, 1, MU_STREAM_OUT, 0, "new\n");
    TAP_OK(shows(&r, 0, "half\nnew\n"), "a line that its attempt did not end is ended for it");
    tear_down(&r);
}

static void cut(void)
{
    struct rig r;

    set_up(&r, 2, false);
    give(&r, 1, 0, MU_STREAM_OUT, 0, "a\n");
    TAP_OK(shows(&r, 0, "a\n"), "the beginning");
    mu_out_resume(r.out, now);
    nacks = 0;
    give(&r, 1, 0, MU_STREAM_OUT, 4, "c\n");
    TAP_OK(shows(&r, 0, "") && !nacks, "after a cut what was under way is passed over and not acknowledged");
    give(&r, 1, 0, MU_STREAM_OUT, 2, "b\nc\n");
    TAP_OK(shows(&r, 0, "b\nc\n") && acked[0] == 6, "what is sent again fills the gap");
    now += 60000000000ull;
    give(&r, 1, 0, MU_STREAM_OUT, 8, "e\n");
    TAP_OK(shows(&r, 0, "e\n") && acked[0] == 10, "at other times a gap is what was lost at its source");
    tear_down(&r);
}

static void single(void)
{
    struct rig r;

    set_up(&r, 1, false);
    give(&r, 1, 0, MU_STREAM_OUT, 0, "name? ");
    TAP_OK(shows(&r, 0, "name? "), "the prompt of a single rank comes at once");
    give(&r, 1, 0, MU_STREAM_ERR, 0, "12%\r");
    mu_out_note(r.out, "hello");
    TAP_OK(shows(&r, 1, "12%\r\nmuster: hello\n"), "a line of muster's begins on a line of its own");
    tear_down(&r);
}

static void slow(void)
{
    static char big[200000];
    struct rig r;
    struct pollfd p[2];
    size_t got = 0;

    set_up(&r, 2, false);
    memset(big, 'x', sizeof big - 2);
    big[sizeof big - 2] = '\n';
    give(&r, 1, 0, MU_STREAM_OUT, 0, big);
    mu_out_write(r.out, 0, true);
    mu_out_poll(r.out, p);
    TAP_OK(p[0].fd >= 0 && p[1].fd < 0 && mu_out_pending(r.out), "a full pipe is waited for with poll");
    TAP_OK(nacks == 0, "and nothing is acknowledged before it is written");
    while (mu_out_pending(r.out)) {
        char buf[8192];
        ssize_t n = read(r.o[0], buf, sizeof buf);
        got += n > 0 ? (size_t)n : 0;
        mu_out_write(r.out, 0, true);
    }
    for (ssize_t n; (n = read(r.o[0], big, sizeof big)) > 0;)
        got += (size_t)n;
    TAP_OK(got == sizeof big - 1 && acked[0] == sizeof big - 1, "in the end all of it is");
    tear_down(&r);
}

static void shared(void)
{
    int fds[2];

    if (pipe(fds))
        exit(1);
    struct mu_out *out = mu_out_new(7, 1, false, fds[1], fds[1], on_ack, NULL);
    TAP_OK(out && !(fcntl(fds[1], F_GETFL) & O_NONBLOCK), "others who use the pipe do not find it non-blocking");
    mu_out_free(out);
    TAP_OK(write(fds[1], "x", 1) == 1, "and it stays open for them");
    close(fds[0]);
    close(fds[1]);
}

static void gone(void)
{
    struct rig r;

    set_up(&r, 2, false);
    close(r.o[0]);
    r.o[0] = dup(r.e[0]);
    give(&r, 1, 0, MU_STREAM_OUT, 0, "a\n");
    TAP_OK(mu_out_write(r.out, 0, true) == EPIPE, "a reader that is gone is told");
    TAP_OK(acked[0] == 2, "its text counts as written");
    give(&r, 1, 0, MU_STREAM_OUT, 2, "b\n");
    TAP_OK(mu_out_write(r.out, 0, true) == 0 && acked[0] == 4 && !mu_out_pending(r.out),
           "once, and no more text waits");
    tear_down(&r);
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN);
    lines();
    tags();
    again();
    cut();
    single();
    slow();
    shared();
    gone();
    return tap_done();
}
