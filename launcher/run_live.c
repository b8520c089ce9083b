/* A foreground job is watched to its end: live output, standard input, signals, and a controller that may go away and
 * come back meanwhile. One poll loop; nothing in it waits on the terminal. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "launcher/commands.h"
#include "launcher/run.h"
#include "launcher/run_out.h"
#include "launcher/slurm.h"
#include "runtime/base/clean.h"
#include "runtime/base/clock.h"
#include "runtime/base/str.h"

#define RETRY_NS (100 * MU_MS)
#define TELL_AWAY_NS (2 * MU_SEC)
#define GIVE_UP_NS (60 * MU_SEC)
#define TELL_QUEUED_NS MU_SEC
#define AGAIN_NS (400 * MU_MS)
enum { AGAIN = 8, INPUT_WINDOW = 65536, TTY_LOOK_MS = 300 };

struct live {
    struct mu_client *c;
    const struct mu_run_plan *plan;
    uint64_t job;
    const char *token;
    struct mu_out *out;
    /* the job, as told */
    uint32_t state, attempt;
    char reason[400], told[400]; /* told: failure that has been printed */
    uint64_t since;
    bool queued_told;
    struct mu_stopped stopped; /* the controller */
    struct mu_m_jobrow row;
    bool ended;
    /* standard input: sent and not yet taken */
    struct mu_buf unacked;
    uint64_t taken, sent;
    bool input, eof, eof_sent;
    /* signals that ask for the end */
    int cancel_signo;
    unsigned asked;
    int quit; /* exit code of leaving at once, 0: stay */
    /* a controller that is away */
    uint64_t away_since, retry_at;
    bool away_told;
    bool lost_told;    /* that the logs do not take all output */
    bool unwritten;    /* standard output does not take all of it */
    uint64_t again_at; /* attach once more: the node's agent may come back later than we do; 0: no more */
    unsigned again;
    struct mu_slurm_watch *watch; /* NULL: the hosts are from no allocation */
};

/* --- signals ---------------------------------------------------------------------------------------------------- */

enum duty { CANCEL, FORWARD, SUSPEND };
static const struct {
    int signo;
    enum duty duty;
} duties[] = {
    {SIGINT, CANCEL},   {SIGTERM, CANCEL},  {SIGHUP, CANCEL},   {SIGQUIT, CANCEL},
    {SIGUSR1, FORWARD}, {SIGUSR2, FORWARD}, {SIGCONT, FORWARD}, {SIGTSTP, SUSPEND},
};
static int signal_pipe[2] = {-1, -1};

static void on_signal(int signo)
{
    int was = errno;
    unsigned char byte = (unsigned char)signo;

    if (write(signal_pipe[1], &byte, 1) < 0) {
        /* the pipe is full of signals: one more changes nothing */
    }
    errno = was;
}

/* Handlers, not a mask: what is started from here (a controller) begins with nothing blocked. */
static int catch_signals(void)
{
    struct sigaction sa = {.sa_handler = on_signal, .sa_flags = SA_RESTART}, old;

    if (pipe2(signal_pipe, O_CLOEXEC | O_NONBLOCK) < 0)
        return -1;
    sigemptyset(&sa.sa_mask);
    for (size_t i = 0; i < MU_COUNT(duties); i++) {
        /* nohup, and a script's background jobs, ask for being left alone */
        if (sigaction(duties[i].signo, NULL, &old) == 0 && old.sa_handler == SIG_IGN && duties[i].duty == CANCEL)
            continue;
        sigaction(duties[i].signo, &sa, NULL);
    }
    signal(SIGPIPE, SIG_IGN);
    return 0;
}

/* --- the connection --------------------------------------------------------------------------------------------- */

static void lose(struct live *l)
{
    mu_client_close(l->c);
    if (l->away_since)
        return;
    l->away_since = mu_now();
    l->retry_at = l->away_since;
}

static void post(struct live *l, enum mu_msg_type type, const void *body)
{
    if (mu_client_is_open(l->c) && mu_client_post(l->c, type, body, NULL))
        lose(l);
}

static void post_cancel(struct live *l)
{
    char by[80];

    snprintf(by, sizeof by, "cancelled by %s", strsignal(l->cancel_signo));
    /* Ranks are asked to end by the signal that asked us; SIGPIPE would say to them that their own reader is gone. */
    struct mu_m_cancel m = {.job = l->job,
                            .force = l->asked > 1,
                            .by = by,
                            .signo = (uint32_t)(l->cancel_signo == SIGPIPE ? SIGTERM : l->cancel_signo)};
    post(l, MU_MSG_cancel, &m);
}

static void ask_end(struct live *l, int signo)
{
    l->asked++;
    if (l->ended)
        return;
    if (!l->cancel_signo)
        l->cancel_signo = signo;
    if (l->asked > 2) {
        l->quit = 128 + signo;
        return;
    }
    if (l->asked == 2 && !l->plan->opts.quiet)
        mu_out_note(l->out, "killing the ranks; once more and muster leaves without waiting");
    post_cancel(l);
}

static void post_input(struct live *l, const char *data, size_t n, bool eof)
{
    struct mu_m_input m = {
        .job = l->job, .data = {.data = (uint8_t *)(uintptr_t)data, .len = (uint32_t)n}, .eof = eof, .offset = l->sent};

    l->sent += n;
    l->eof_sent = eof;
    post(l, MU_MSG_input, &m);
}

static void post_attach(struct live *l)
{
    struct mu_m_attach m = {.job = l->job, .foreground = 1, .token = (char *)(uintptr_t)l->token};

    post(l, MU_MSG_attach, &m);
}

/* Each attach makes the keepers send again what is not acknowledged, if it gets through to them. */
static void attach_again(struct live *l)
{
    uint64_t now = mu_now();

    if (!l->again_at || now < l->again_at)
        return;
    l->again_at = --l->again ? now + AGAIN_NS : 0;
    mu_out_resume(l->out, now);
    post_attach(l);
}

static void attach(struct live *l)
{
    post_attach(l);
    if (l->cancel_signo)
        post_cancel(l);
    /* what the controller that died may not have passed on; the offset tells what was */
    l->sent = l->taken;
    l->eof_sent = false;
    if (l->unacked.len)
        post_input(l, l->unacked.data, l->unacked.len, l->eof);
}

/* 0, or the exit code when it is no use any more. */
static int reconnect(struct live *l)
{
    struct mu_err err = {0};
    uint64_t now = mu_now();

    if (now < l->retry_at)
        return 0;
    if (mu_client_open(l->c, &err) == 0) {
        if (l->away_told)
            mu_out_note(l->out, "the controller is back");
        l->away_since = 0;
        l->away_told = false;
        l->again = AGAIN;
        l->again_at = mu_now() + AGAIN_NS;
        mu_out_resume(l->out, mu_now());
        attach(l);
        return 0;
    }
    now = mu_now();
    l->retry_at = now + RETRY_NS;
    if (now - l->away_since > GIVE_UP_NS) {
        mu_out_note(l->out, "no controller for %llu s (%s); the job may still run: `muster jobs` shows it",
                    (unsigned long long)(GIVE_UP_NS / MU_SEC), err.text);
        return MU_EXIT_FAILED;
    }
    if (!l->away_told && now - l->away_since > TELL_AWAY_NS) {
        l->away_told = true;
        mu_out_note(l->out, "the controller is away (%s); the ranks run on, trying again", err.text);
    }
    return 0;
}

/* --- what the controller says ----------------------------------------------------------------------------------- */

static void on_ack(void *arg, uint32_t attempt, uint32_t rank, uint32_t stream, uint64_t offset)
{
    struct live *l = arg;
    struct mu_m_output_ack m = {.job = l->job, .attempt = attempt, .rank = rank, .stream = stream, .offset = offset};

    post(l, MU_MSG_output_ack, &m);
}

static void tell_failure(struct live *l, const char *text)
{
    char shown[500];
    size_t n = strlen(l->told);

    if (l->plan->opts.quiet || l->cancel_signo || !strcmp(l->told, text))
        return;
    /* "X", then "X; attempt 2 starts": only what is new */
    bool more = n && !strncmp(text, l->told, n) && !strncmp(text + n, "; ", 2);
    mu_out_note(l->out, "%s", mu_str_show(shown, sizeof shown, more ? text + n + 2 : text));
    snprintf(l->told, sizeof l->told, "%s", text);
}

static void on_state(struct live *l, const struct mu_m_state *m)
{
    const char *reason = m->reason ? m->reason : "";

    /* Why an attempt ended is held back until it is sure that another one begins: the report says it otherwise. */
    if (m->state == MU_JOB_RECOVERING && strstr(reason, "; attempt "))
        tell_failure(l, reason);
    else if (m->state == MU_JOB_STARTING && m->attempt > 1 && l->attempt && m->attempt > l->attempt &&
             l->state == MU_JOB_RECOVERING && !strstr(l->reason, "; attempt "))
        tell_failure(l, l->reason);
    if (mu_job_waits(m->state) && strcmp(l->reason, reason))
        l->queued_told = false;
    if (m->state == MU_JOB_STARTING && m->attempt != l->attempt)
        l->told[0] = 0;
    l->state = m->state;
    l->attempt = m->attempt;
    snprintf(l->reason, sizeof l->reason, "%s", reason);
}

static void tell_lost(struct live *l, const struct mu_m_output *m)
{
    if (!m->dropped || l->lost_told)
        return;
    l->lost_told = true;
    mu_out_note(l->out, "the log of rank %u cannot be written (%s); its output is shown here all the same", m->rank,
                strerror((int)m->why));
}

static void on_input_ack(struct live *l, uint64_t taken)
{
    if (taken <= l->taken || taken > l->taken + l->unacked.len)
        return;
    mu_buf_consume(&l->unacked, taken - l->taken);
    l->taken = taken;
}

/* 0, or the exit code of an end that is not the job's. */
static int on_message(struct live *l, const struct mu_msg *m)
{
    struct mu_err err = {0};

    switch (m->type) {
    case MU_MSG_output:
        if (m->output.job == l->job)
            tell_lost(l, &m->output);
        if (m->output.job == l->job && mu_out_take(l->out, &m->output, mu_now()) == MUSTER_ENOMEM) {
            mu_out_note(l->out, "out of memory");
            return MU_EXIT_FAILED;
        }
        return 0;
    case MU_MSG_state:
        if (m->state.job == l->job)
            on_state(l, &m->state);
        return 0;
    case MU_MSG_input_ack:
        if (m->input_ack.job == l->job)
            on_input_ack(l, m->input_ack.taken);
        return 0;
    case MU_MSG_ended:
        if (m->ended.job != l->job || l->ended)
            return 0;
        if (mu_msg_unpack(&m->ended.row, MU_MSG_jobrow, &l->row, &err)) {
            mu_out_note(l->out, "the job has ended, but how cannot be read: %s", err.text);
            return MU_EXIT_FAILED;
        }
        l->ended = true;
        return 0;
    case MU_MSG_error:
        /* "has already ended" crosses a cancel; the end itself follows */
        if (l->cancel_signo && m->error.code == MUSTER_EJOB)
            return 0;
        mu_out_note(l->out, "job %llu: %s", (unsigned long long)l->job,
                    m->error.text ? m->error.text : muster_strerror(m->error.code));
        return MU_EXIT_FAILED;
    default:
        return 0;
    }
}

static int receive(struct live *l)
{
    bool down = mu_client_fill(l->c, NULL) < 0;

    for (;;) {
        MU_AUTO_MSG struct mu_msg m = {0};
        int rc = mu_client_next(l->c, &m, NULL);

        if (rc > 0 && (rc = on_message(l, &m)))
            return rc;
        if (l->ended || !mu_client_is_open(l->c))
            return 0;
        if (m.type)
            continue;
        if (rc < 0 || down)
            lose(l);
        return 0;
    }
}

/* --- our own descriptors ---------------------------------------------------------------------------------------- */

static void suspend(struct live *l)
{
    struct mu_m_signal m = {.job = l->job, .signo = SIGSTOP};

    /* SIGTSTP itself would be ignored by ranks, whose process groups are nobody's children here */
    post(l, MU_MSG_signal, &m);
    raise(SIGSTOP);
}

static void take_signals(struct live *l)
{
    unsigned char byte;

    while (read(signal_pipe[0], &byte, 1) == 1) {
        for (size_t i = 0; i < MU_COUNT(duties); i++) {
            if (duties[i].signo != byte)
                continue;
            if (duties[i].duty == CANCEL)
                ask_end(l, byte);
            else if (duties[i].duty == SUSPEND)
                suspend(l);
            else
                post(l, MU_MSG_signal, &(struct mu_m_signal){.job = l->job, .signo = byte});
        }
    }
}

static bool input_wanted(const struct live *l)
{
    return l->input && !l->eof && l->state == MU_JOB_RUNNING && mu_client_is_open(l->c) &&
           l->unacked.len < INPUT_WINDOW;
}

/* In the background a read from the terminal would stop us. */
static bool in_background(void)
{
    pid_t group = tcgetpgrp(0);

    return group >= 0 && group != getpgrp();
}

static void take_input(struct live *l)
{
    char data[INPUT_WINDOW];
    ssize_t n = read(0, data, sizeof data - l->unacked.len);

    if (n < 0 && (errno == EINTR || errno == EAGAIN))
        return;
    l->eof = n <= 0;
    if (n > 0)
        mu_buf_append(&l->unacked, data, (size_t)n);
    post_input(l, data, n > 0 ? (size_t)n : 0, l->eof);
}

static void take_output_error(struct live *l, int which, int e)
{
    if (!e)
        return;
    if (which == 0 && e == EPIPE) /* `muster run ... | head`: nobody reads on, as with any other program */
        ask_end(l, SIGPIPE);
    else if (which == 0)
        mu_out_note(l->out, "standard output cannot be written: %s; the job goes on, its output is only in the logs",
                    strerror(e));
    l->unwritten = l->unwritten || which == 0;
}

/* A job that runs is told by the loss of its nodes. */
static bool watches(const struct live *l)
{
    return l->watch && !l->ended && l->state != MU_JOB_RUNNING && mu_client_is_open(l->c);
}

static int wait_ms(const struct live *l, bool background)
{
    uint64_t now = mu_now(), at = now + MU_STOPPED_GAP;

    if (l->away_since && l->retry_at < at)
        at = l->retry_at;
    if (mu_job_waits(l->state) && !l->queued_told)
        at = l->since + TELL_QUEUED_NS < at ? l->since + TELL_QUEUED_NS : at;
    if (!l->away_since && l->again_at && l->again_at < at)
        at = l->again_at;
    if (watches(l) && mu_slurm_watch_at(l->watch) < at)
        at = mu_slurm_watch_at(l->watch);
    if (background && now + TTY_LOOK_MS * MU_MS < at)
        at = now + TTY_LOOK_MS * MU_MS;
    return at <= now ? 0 : (int)((at - now) / MU_MS) + 1;
}

static void tell_queued(struct live *l)
{
    char shown[450];

    if (!mu_job_waits(l->state) || l->queued_told || mu_now() < l->since + TELL_QUEUED_NS)
        return;
    l->queued_told = true;
    if (!l->plan->opts.quiet)
        mu_out_note(l->out, "job %llu is queued: %s", (unsigned long long)l->job,
                    mu_str_show(shown, sizeof shown, l->reason));
}

static void look_at_allocation(struct live *l)
{
    char how[32], by[120];

    if (!watches(l) || mu_slurm_watch_turn(l->watch, mu_now(), how) != 1)
        return;
    snprintf(by, sizeof by, "cancelled: Slurm's allocation %.20s has ended%s%s%s", getenv("SLURM_JOB_ID"),
             *how ? " (" : "", how, *how ? ")" : "");
    post(l, MU_MSG_cancel, &(struct mu_m_cancel){.job = l->job, .by = by, .signo = SIGTERM});
}

/* One turn of the loop. 0, or an exit code. */
static int turn(struct live *l)
{
    enum { CTL, SIGNALS, INPUT, SLURM, OUT, ERR, ALL };
    struct pollfd p[ALL];
    bool wanted = !l->ended && input_wanted(l), background = wanted && in_background();
    int rc = 0;

    p[CTL] = (struct pollfd){.fd = l->ended ? -1 : l->c->fd, .events = (short)(POLLIN | (l->c->out.len ? POLLOUT : 0))};
    p[SIGNALS] = (struct pollfd){.fd = signal_pipe[0], .events = POLLIN};
    p[INPUT] = (struct pollfd){.fd = wanted && !background ? 0 : -1, .events = POLLIN};
    p[SLURM] = (struct pollfd){.fd = watches(l) ? mu_slurm_watch_fd(l->watch) : -1, .events = POLLIN};
    mu_out_poll(l->out, &p[OUT]);
    if (poll(p, ALL, l->ended ? -1 : wait_ms(l, background)) < 0 && errno != EINTR)
        return MU_EXIT_FAILED;
    take_signals(l);
    if (p[CTL].fd >= 0 && p[CTL].revents & POLLOUT && mu_client_is_open(l->c) && mu_client_flush(l->c, NULL))
        lose(l);
    if (p[CTL].fd >= 0 && p[CTL].revents & ~POLLOUT && mu_client_is_open(l->c))
        rc = receive(l);
    if (!rc && p[INPUT].revents && input_wanted(l))
        take_input(l);
    /* also what has just come: most terminals take it at once */
    for (int i = 0; i < 2; i++)
        take_output_error(l, i, mu_out_write(l->out, i, p[OUT + i].revents != 0));
    if (!rc && !l->ended && !mu_client_is_open(l->c))
        rc = reconnect(l);
    if (!rc && !l->ended && mu_client_is_open(l->c))
        attach_again(l);
    look_at_allocation(l);
    if (!l->ended && mu_client_is_open(l->c) && mu_client_unfreeze(l->c, &l->stopped))
        mu_out_note(l->out, "the controller was stopped and has been killed; another one takes over");
    if (!l->ended)
        tell_queued(l);
    return rc;
}

int mu_run_watch(struct mu_client *c, const struct mu_run_plan *p, uint64_t job, const char *token, bool input)
{
    struct live l = {.c = c, .plan = p, .job = job, .token = token, .input = input, .since = mu_now()};
    const char *slurm = p->engine && !strcmp(p->engine, "slurm") ? getenv("SLURM_JOB_ID") : NULL;
    int rc = 0;

    if (catch_signals() < 0 || !(l.out = mu_out_new(job, p->ranks, p->opts.tag_output, 1, 2, on_ack, &l))) {
        fprintf(stderr, "muster run: out of memory or descriptors; job %llu goes on without being watched\n",
                (unsigned long long)job);
        return MU_EXIT_FAILED;
    }
    if (slurm)
        l.watch = mu_slurm_watch_new(slurm);
    attach(&l);
    while (!rc && !l.ended && !l.quit)
        rc = turn(&l);
    if (l.ended) {
        mu_auto_buf struct mu_buf report = {0};
        struct mu_run_sight sight = {.signo = l.cancel_signo, .quiet = p->opts.quiet};
        mu_out_finish(l.out);
        mu_run_report(&report, &l.row, &sight);
        mu_out_puts(l.out, mu_buf_str(&report));
        rc = mu_run_exit_code(&l.row, l.cancel_signo);
    }
    /* the terminal may take its time; one more signal and we leave without it */
    l.ended = true;
    unsigned asked = l.asked;
    while (mu_out_pending(l.out) && !l.quit && l.asked == asked)
        turn(&l);
    if (!rc && l.unwritten)
        rc = MU_EXIT_FAILED;
    mu_slurm_watch_free(l.watch);
    mu_out_free(l.out);
    mu_buf_free(&l.unacked);
    mu_msg_free_body(MU_MSG_jobrow, &l.row);
    return l.quit ? l.quit : rc;
}
