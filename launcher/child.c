#include "launcher/child.h"

#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "launcher/left.h"
#include "runtime/base/buf.h"
#include "runtime/base/clean.h"
#include "runtime/base/str.h"
#include "runtime/wire/daemon.h"

enum { SAID_MAX = 4096 };

extern char **environ;

struct mu_child {
    struct mu_children *all;
    struct mu_child *next;
    struct mu_child_spec spec;
    pid_t pid;
    int in, out; /* our ends: its input, its standard error */
    size_t fed;
    struct event *on_in, *on_out;
    struct mu_alarm *alarm;
    struct mu_buf said;
    bool late, file; /* file: out is that */
    pid_t marked;    /* its pid, also when it has ended; 0: no successor of ours need care */
};

#define KIND "child"

struct mu_children {
    struct event_base *base;
    const struct mu_paths *paths;
    struct mu_child *list;
};

static void no_more_input(struct mu_child *c)
{
    if (c->on_in)
        event_free(MU_STEAL(c->on_in, NULL));
    if (c->in >= 0)
        close(MU_STEAL(c->in, -1));
}

static void no_more_output(struct mu_child *c)
{
    if (c->on_out)
        event_free(MU_STEAL(c->on_out, NULL));
    if (c->out >= 0)
        close(MU_STEAL(c->out, -1));
}

static void drop(struct mu_child *c)
{
    for (struct mu_child **at = &c->all->list; *at; at = &(*at)->next) {
        if (*at == c) {
            *at = c->next;
            break;
        }
    }
    if (c->marked)
        mu_left_ended(c->all->paths, KIND, c->marked);
    no_more_input(c);
    no_more_output(c);
    mu_alarm_free(c->alarm);
    mu_buf_free(&c->said);
    free(c);
}

/* It leads a session and with it a group: what it started goes with it. */
static void end_it(struct mu_child *c)
{
    if (c->pid > 0)
        kill(-c->pid, SIGKILL);
}

/* The end of its file. */
static void hear_file(struct mu_child *c)
{
    char text[SAID_MAX];
    off_t size = lseek(c->out, 0, SEEK_END), from = size > SAID_MAX ? size - SAID_MAX : 0;
    ssize_t n = pread(c->out, text, sizeof text, from);

    mu_buf_clear(&c->said);
    for (ssize_t i = 0; i < n; i++)
        mu_buf_putc(&c->said, text[i] ? text[i] : ' ');
}

/* What is there to read. */
static void hear(struct mu_child *c)
{
    char text[1024];
    ssize_t n;

    if (c->file) {
        hear_file(c);
        return;
    }
    while (c->out >= 0 && (n = read(c->out, text, sizeof text)) != 0) {
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return;
        for (ssize_t i = 0; i < n; i++)
            text[i] = text[i] ? text[i] : ' ';
        mu_buf_append(&c->said, text, (size_t)n);
        if (c->said.len > SAID_MAX)
            mu_buf_consume(&c->said, c->said.len - SAID_MAX);
    }
    no_more_output(c);
}

static void on_out(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what;
    hear(arg);
}

static void on_in(evutil_socket_t fd, short what, void *arg)
{
    struct mu_child *c = arg;

    (void)what;
    while (c->fed < c->spec.ninput) {
        ssize_t n = write(fd, (const char *)c->spec.input + c->fed, c->spec.ninput - c->fed);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return;
        if (n < 0)
            break; /* it does not want it: its end says why */
        c->fed += (size_t)n;
    }
    no_more_input(c);
}

static void on_alarm(void *arg)
{
    struct mu_child *c = arg;

    c->late = true;
    end_it(c);
}

/* In the child; async-signal-safe. Reports errno and ends when there is no exec. */
static _Noreturn void child(const struct mu_child_spec *spec, const int fds[3], pid_t parent, int report)
{
    sigset_t none;
    int e;

    for (int sig = 1; sig < NSIG; sig++)
        signal(sig, SIG_DFL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    setsid();
    /* the thread that forks is the loop's, which ends with the process */
    if (!spec->lives_on && prctl(PR_SET_PDEATHSIG, SIGKILL) == 0 && getppid() != parent)
        _exit(1);
    if (dup2(fds[0], 0) >= 0 && dup2(fds[1], 1) >= 0 && dup2(fds[2], 2) >= 0)
        execvpe(spec->argv[0], spec->argv, spec->env);
    e = errno;
    _exit(write(report, &e, sizeof e) == sizeof e ? 127 : 126);
}

/* 0 or an errno, also of the exec. */
static int spawn(struct mu_child *c, int in, int null, int err_fd)
{
    const int fds[3] = {in, null, err_fd};
    int report[2], e = 0;
    pid_t us = getpid();
    ssize_t n;

    if (pipe2(report, O_CLOEXEC))
        return errno;
    c->pid = fork();
    if (!c->pid)
        child(&c->spec, fds, us, report[1]);
    if (c->pid < 0)
        e = errno;
    close(report[1]);
    while (c->pid > 0 && (n = read(report[0], &e, sizeof e)) < 0 && errno == EINTR)
        ;
    close(report[0]);
    while (c->pid > 0 && e && waitpid(c->pid, NULL, 0) < 0 && errno == EINTR)
        ;
    return e;
}

static int start(struct mu_child *c, struct mu_err *err)
{
    mu_auto_fd int null = open("/dev/null", O_RDWR | O_CLOEXEC), in = -1, out = -1;
    int fds[2];

    if (null < 0 || pipe2(fds, O_CLOEXEC))
        return mu_err_errno(err, 0, "cannot start %s", c->spec.argv[0]);
    in = fds[0];
    c->in = fds[1];
    if (c->file) {
        c->out = open(c->spec.said_file, O_RDWR | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
        out = c->out < 0 ? -1 : fcntl(c->out, F_DUPFD_CLOEXEC, 3);
        if (out < 0)
            return mu_err_errno(err, 0, "cannot open %s", c->spec.said_file);
    } else {
        if (pipe2(fds, O_CLOEXEC))
            return mu_err_errno(err, 0, "cannot start %s", c->spec.argv[0]);
        c->out = fds[0];
        out = fds[1];
        fcntl(c->out, F_SETFL, O_NONBLOCK);
    }
    fcntl(c->in, F_SETFL, O_NONBLOCK);
    c->on_in = event_new(c->all->base, c->in, EV_WRITE | EV_PERSIST, on_in, c);
    c->on_out = c->file ? NULL : event_new(c->all->base, c->out, EV_READ | EV_PERSIST, on_out, c);
    c->alarm = mu_alarm_new(c->all->base, on_alarm, c);
    if (!c->on_in || (!c->file && !c->on_out) || !c->alarm || event_add(c->on_in, NULL) ||
        (c->on_out && event_add(c->on_out, NULL)))
        return mu_err_set(err, MUSTER_ENOMEM, "out of memory");
    int rc = spawn(c, in, null, out);
    if (rc) {
        c->pid = 0;
        errno = rc;
        return mu_err_errno(err, 0, "cannot run %s", c->spec.argv[0]);
    }
    if (!c->spec.lives_on) {
        c->marked = c->pid;
        mu_left_began(c->all->paths, KIND, c->pid);
    }
    mu_alarm_set(c->alarm, c->spec.deadline);
    return 0;
}

int mu_child_start(struct mu_children *all, const struct mu_child_spec *spec, struct mu_child **out, struct mu_err *err)
{
    struct mu_child *c = calloc(1, sizeof *c);

    if (!c)
        return mu_err_set(err, MUSTER_ENOMEM, "out of memory");
    *c = (struct mu_child){.all = all, .next = all->list, .spec = *spec, .in = -1, .out = -1, .file = spec->said_file};
    all->list = c;
    int rc = start(c, err);
    if (rc)
        drop(c);
    else
        *out = c;
    return rc;
}

pid_t mu_child_pid(const struct mu_child *c)
{
    return c->pid;
}

const char *mu_child_said(struct mu_child *c)
{
    hear(c);
    return mu_buf_str(&c->said);
}

void mu_child_kill(struct mu_child *c)
{
    end_it(c);
    drop(c);
}

bool mu_children_reaped(struct mu_children *all, pid_t pid, int status)
{
    struct mu_child *c = all->list;

    while (c && c->pid != pid)
        c = c->next;
    if (!c)
        return false;
    /* A master connection of ssh may keep our pipe: what was said is what is there now. */
    hear(c);
    mu_child_fn ended = c->spec.ended;
    void *arg = c->spec.arg;
    mu_auto_buf struct mu_buf said = c->said;
    c->said = (struct mu_buf){0};
    struct mu_child_end end = {.status = status, .late = c->late, .said = mu_buf_str(&said)};
    c->pid = 0;
    drop(c);
    ended(arg, &end);
    return true;
}

struct mu_children *mu_children_new(struct event_base *base, const struct mu_paths *paths)
{
    struct mu_children *all = calloc(1, sizeof *all);

    if (!all)
        return NULL;
    all->base = base;
    all->paths = paths;
    mu_left_clear(paths, KIND);
    return all;
}

void mu_children_free(struct mu_children *all)
{
    if (!all)
        return;
    while (all->list)
        if (all->list->spec.lives_on)
            drop(all->list);
        else
            mu_child_kill(all->list);
    free(all);
}

static bool dropped(const char *entry, const char *const *drop_list, char *const *set)
{
    size_t name = strcspn(entry, "=") + 1;

    for (; drop_list && *drop_list; drop_list++)
        if (!strncmp(entry, *drop_list, strlen(*drop_list)))
            return true;
    for (; set && *set; set++)
        if (!strncmp(entry, *set, name))
            return true;
    return false;
}

char **mu_child_env(const char *const *drop_list, char *const *set)
{
    char **env = NULL;
    int rc = 0;

    for (char **e = environ; *e && !rc; e++)
        if (!dropped(*e, drop_list, set))
            rc = mu_strv_append(&env, *e);
    for (; set && *set && !rc; set++)
        rc = mu_strv_append(&env, *set);
    if (!rc && !env)
        env = calloc(1, sizeof *env);
    if (rc) {
        mu_strv_free(env);
        return NULL;
    }
    return env;
}
