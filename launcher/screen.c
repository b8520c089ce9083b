#include "launcher/screen.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "runtime/base/buf.h"
#include "runtime/base/clean.h"
#include "runtime/base/clock.h"

#define IN "\033[?1049h\033[?25l\033[H\033[2J"
#define OUT "\033[?25h\033[?1049l"

static const int ends[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};
static struct termios before;
static bool on, keys, eof;
static volatile sig_atomic_t ended, resized, stopped, continued;
static sigset_t blocked, open_mask;

static void on_signal(int sig)
{
    if (sig == SIGWINCH)
        resized = 1;
    else if (sig == SIGTSTP)
        stopped = 1;
    else if (sig == SIGCONT)
        continued = 1;
    else
        ended = 1;
}

static bool enter(void)
{
    keys = tcgetattr(STDIN_FILENO, &before) == 0 && tcgetpgrp(STDIN_FILENO) == getpgrp();
    if (keys) {
        struct termios raw = before;
        raw.c_lflag &= (tcflag_t) ~(ICANON | ECHO); /* Ctrl-C stays a signal */
        raw.c_cc[VMIN] = 1;
        raw.c_cc[VTIME] = 0;
        keys = tcsetattr(STDIN_FILENO, TCSANOW, &raw) == 0;
    }
    fputs(IN, stdout);
    return fflush(stdout) == 0;
}

static void leave(void)
{
    fputs(OUT, stdout);
    fflush(stdout);
    if (keys)
        tcsetattr(STDIN_FILENO, TCSANOW, &before);
}

bool mu_screen_can(void)
{
    const char *term = getenv("TERM");

    return isatty(STDOUT_FILENO) && term && *term && strcmp(term, "dumb") != 0;
}

int mu_screen_begin(struct mu_err *err)
{
    static const int more[] = {SIGWINCH, SIGTSTP, SIGCONT};
    struct sigaction sa = {.sa_handler = on_signal};

    /* they come while we wait, and only then */
    sigemptyset(&blocked);
    for (size_t i = 0; i < MU_COUNT(ends); i++)
        sigaddset(&blocked, ends[i]);
    for (size_t i = 0; i < MU_COUNT(more); i++)
        sigaddset(&blocked, more[i]);
    sigprocmask(SIG_BLOCK, &blocked, &open_mask);
    for (size_t i = 0; i < MU_COUNT(ends); i++)
        sigdelset(&open_mask, ends[i]);
    for (int sig = 1; sig < NSIG; sig++)
        if (sigismember(&blocked, sig) == 1)
            sigaction(sig, &sa, NULL);
    if (!enter())
        return mu_err_errno(err, MUSTER_EIO, "cannot draw on the terminal");
    on = true;
    return 0;
}

void mu_screen_end(void)
{
    if (on)
        leave();
    on = false;
}

void mu_screen_size(unsigned *lines, unsigned *columns)
{
    struct winsize size = {0};
    bool known = ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_row && size.ws_col;

    *lines = known ? size.ws_row : 24;
    *columns = known ? size.ws_col : 80;
}

/* One more column is taken by this byte; escape sequences and the rest of a character take none. */
static bool takes_room(const char *s, size_t i, bool *escape)
{
    unsigned char b = (unsigned char)s[i];

    if (b == '\033')
        *escape = true;
    else if (*escape && b >= '@' && b != '[')
        *escape = false;
    else if (!*escape)
        return (b & 0xc0) != 0x80;
    return false;
}

char *mu_screen_cut(const char *text, unsigned lines, unsigned columns, const char *line_end)
{
    mu_auto_buf struct mu_buf b = {0};
    unsigned line = 0, column = 0;
    bool escape = false, cut = false;

    for (size_t i = 0; text[i] && line < lines; i++) {
        if (text[i] == '\n') {
            mu_buf_puts(&b, cut ? "\033[0m" : "");
            mu_buf_puts(&b, line_end);
            if (++line < lines)
                mu_buf_puts(&b, "\n");
            column = 0;
            cut = false;
            continue;
        }
        column += takes_room(text, i, &escape);
        if (column > columns)
            cut = true;
        else
            mu_buf_append(&b, &text[i], 1);
    }
    mu_buf_puts(&b, "");
    return b.failed ? NULL : mu_buf_take(&b);
}

void mu_screen_draw(const char *text)
{
    unsigned lines, columns;

    mu_screen_size(&lines, &columns);
    mu_auto_free char *shown = mu_screen_cut(text, lines, columns, "\033[K");
    printf("\033[H%s\033[J", shown ? shown : "");
    fflush(stdout);
}

static void stop(void)
{
    sigset_t tstp;

    stopped = 0;
    leave();
    signal(SIGTSTP, SIG_DFL);
    raise(SIGTSTP); /* blocked: it comes when it is let in */
    sigemptyset(&tstp);
    sigaddset(&tstp, SIGTSTP);
    sigprocmask(SIG_UNBLOCK, &tstp, NULL);
    sigprocmask(SIG_BLOCK, &tstp, NULL);
    signal(SIGTSTP, on_signal);
    enter();
}

int mu_screen_wait(uint64_t ns, int *key)
{
    uint64_t until = mu_now() + ns;

    for (;;) {
        uint64_t now = mu_now(), left = until > now ? until - now : 0;
        struct timespec t = {.tv_sec = (time_t)(left / MU_SEC), .tv_nsec = (long)(left % MU_SEC)};
        struct pollfd fd = {.fd = keys && !eof ? STDIN_FILENO : -1, .events = POLLIN};
        char c;
        int n = ppoll(&fd, 1, &t, &open_mask);
        if (ended || ferror(stdout))
            return MU_SCREEN_END;
        if (stopped)
            stop();
        if (resized || continued) {
            resized = continued = 0;
            return MU_SCREEN_SIZE;
        }
        if (n > 0 && read(STDIN_FILENO, &c, 1) == 1) {
            *key = (unsigned char)c;
            return MU_SCREEN_KEY;
        }
        if (n > 0) /* the terminal is gone */
            eof = true;
        if (!left)
            return MU_SCREEN_TIME;
        if (n < 0 && errno != EINTR)
            return MU_SCREEN_END;
    }
}
