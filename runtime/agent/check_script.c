/* The site's own checks: programs in $MUSTER_HOME/checks.d. Exit codes: 0 passes, 3 only warns, 77 has nothing to
 * check, everything else has failed; the reason is the last line of what it prints. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/agent/check.h"
#include "runtime/base/clean.h"
#include "runtime/base/clock.h"
#include "runtime/base/str.h"

#define DIRECTORY "checks.d"
enum { WARNS = 3, SKIPS = 77, KEPT = 4096, SLICE_MS = 20, SCRIPTS_MAX = 1000 };

/* NULL, or why it is not run. dir: the directory itself. */
static const char *distrusted(const char *path, bool dir)
{
    struct stat st;

    if (lstat(path, &st))
        return strerror(errno);
    if (dir ? !S_ISDIR(st.st_mode) : !S_ISREG(st.st_mode))
        return S_ISLNK(st.st_mode) ? "it is a symbolic link" : dir ? "it is no directory" : "it is no file";
    if (st.st_uid && st.st_uid != geteuid())
        return "it belongs neither to root nor to the pool's account; chown it";
    if (st.st_mode & (S_IWGRP | S_IWOTH))
        return "others can write to it; chmod go-w";
    return !dir && access(path, X_OK) ? "it is not executable; chmod +x" : NULL;
}

/* In the child. */
static _Noreturn void become(const char *path, char **argv, int out, pid_t parent)
{
    sigset_t none;
    int null = open("/dev/null", O_RDWR);

    for (int sig = 1; sig < NSIG; sig++)
        signal(sig, SIG_DFL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    setsid();
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) == 0 && getppid() != parent)
        _exit(1);
    if (null >= 0 && dup2(null, 0) >= 0 && dup2(out, 1) >= 0 && dup2(out, 2) >= 0 && chdir("/") == 0)
        execv(path, argv);
    dprintf(out, "cannot be executed: %s\n", strerror(errno));
    _exit(127);
}

static void hear(int fd, struct mu_buf *said)
{
    char piece[1024];
    ssize_t n;

    while ((n = read(fd, piece, sizeof piece)) > 0) {
        mu_buf_append(said, piece, (size_t)n);
        if (said->len > KEPT)
            mu_buf_consume(said, said->len - KEPT);
    }
}

/* What it has started and not ended; to us as a subreaper. */
static void end_the_rest(pid_t group)
{
    char path[64], *at;

    kill(-group, SIGKILL);
    snprintf(path, sizeof path, "/proc/self/task/%d/children", (int)getpid());
    for (unsigned tries = 0; tries < 100; tries++) {
        mu_auto_buf struct mu_buf b = {0};
        if (mu_path_read(path, 64 << 10, &b, NULL) || !b.len)
            break;
        for (at = (char *)(uintptr_t)mu_buf_str(&b); *at;) {
            pid_t pid = (pid_t)strtol(at, &at, 10);
            if (pid > 1)
                kill(pid, SIGKILL);
            at += strspn(at, " \n");
        }
        while (waitpid(-1, NULL, WNOHANG) > 0)
            ;
        poll(NULL, 0, 10);
    }
    while (waitpid(-1, NULL, WNOHANG) > 0)
        ;
}

static void last_line(const struct mu_buf *said, char *out, size_t n)
{
    const char *text = (const char *)said->data;
    size_t end = said->len, from;
    char line[KEPT + 1];

    while (end && (text[end - 1] == '\n' || text[end - 1] == '\r' || text[end - 1] == ' '))
        end--;
    for (from = end; from && text[from - 1] != '\n'; from--)
        ;
    for (size_t i = from; i < end; i++)
        line[i - from] = text[i] ? text[i] : ' ';
    line[end - from] = 0;
    mu_str_show(out, n, line);
}

static void judge(int status, bool late, uint64_t limit, const char *line, struct mu_check_found *f)
{
    char limit_text[32];
    const char *colon = *line ? ": " : "";

    if (late)
        mu_check_say(f, MU_LEVEL_FAIL, "it has not ended within %s%s%s",
                     mu_str_fmt_duration(limit_text, sizeof limit_text, limit), colon, line);
    else if (WIFSIGNALED(status))
        mu_check_say(f, MU_LEVEL_FAIL, "it was ended by signal %d (%s)%s%s", WTERMSIG(status),
                     strsignal(WTERMSIG(status)), colon, line);
    else if (!WEXITSTATUS(status))
        mu_check_say(f, MU_LEVEL_OK, "%s", line);
    else
        mu_check_say(f,
                     WEXITSTATUS(status) == WARNS   ? MU_LEVEL_WARN
                     : WEXITSTATUS(status) == SKIPS ? MU_LEVEL_SKIP
                                                    : MU_LEVEL_FAIL,
                     "exit code %d%s%s", WEXITSTATUS(status), colon, line);
}

/* Nonzero: whoever wants to know has gone. */
static int run(const struct mu_check *c, const char *path, char *name, struct mu_check_found *f)
{
    mu_auto_buf struct mu_buf said = {0};
    char *argv[] = {name, NULL}, line[200];
    uint64_t until = mu_now() + c->asked->limit_ns;
    bool late = false, alone = false;
    pid_t us = getpid(), pid;
    int fds[2], status = 0;

    if (pipe2(fds, O_CLOEXEC | O_NONBLOCK) || (pid = fork()) < 0) {
        mu_check_say(f, MU_LEVEL_WARN, "cannot be started: %s", strerror(errno));
        return 0;
    }
    if (!pid)
        become(path, argv, fds[1], us);
    close(fds[1]);
    while (waitpid(pid, &status, WNOHANG) == 0) {
        struct pollfd p[] = {{.fd = fds[0], .events = POLLIN}, {.fd = c->reader}};
        late = mu_now() >= until;
        alone = poll(p, 2, SLICE_MS) > 0 && (p[1].revents & (POLLHUP | POLLERR));
        if (late || alone) {
            kill(-pid, SIGKILL);
            kill(pid, SIGKILL); /* before its setsid */
            while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
                ;
            break;
        }
        if (p[0].revents & POLLHUP) /* it has closed its output: no more of it */
            poll(NULL, 0, SLICE_MS);
        hear(fds[0], &said);
    }
    hear(fds[0], &said);
    close(fds[0]);
    end_the_rest(pid);
    last_line(&said, line, sizeof line);
    judge(status, late, c->asked->limit_ns, line, f);
    return alone;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Not what editors and packages leave behind. */
static bool counts(const char *name)
{
    size_t n = strlen(name);

    return name[0] != '.' && name[n - 1] != '~' && !strstr(name, ".dpkg-") && !strstr(name, ".rpm");
}

static int one(struct mu_check *c, const char *dir, char *name, mu_check_fn fn, void *arg)
{
    struct mu_check_found found = {0};
    uint64_t since = mu_now();
    char path[PATH_MAX], shown[64];
    int rc;

    mu_str_show(shown, sizeof shown, name);
    if (mu_check_has(c->asked->off, shown) || mu_path_join(path, sizeof path, dir, name, NULL))
        return 0;
    if ((rc = fn(arg, shown, NULL, 0)))
        return rc;
    const char *why = mu_check_is_built_in(name) ? "its name is that of another check" : distrusted(path, false);
    if (why)
        mu_check_say(&found, MU_LEVEL_WARN, "%s is not run: %s", mu_str_show(path, 200, path), why);
    else
        rc = run(c, path, name, &found);
    return rc ? rc : fn(arg, shown, &found, (uint32_t)((mu_now() - since) / MU_MS));
}

int mu_check_scripts(struct mu_check *c, mu_check_fn fn, void *arg)
{
    struct mu_check_found found = {0};
    char dir[PATH_MAX];
    char **names = NULL;
    struct dirent *e;
    int rc = 0;

    if (mu_path_join(dir, sizeof dir, c->paths->home, DIRECTORY, NULL) || access(dir, F_OK))
        return 0;
    const char *why = distrusted(dir, true);
    if (why) {
        mu_check_say(&found, MU_LEVEL_WARN, "%.200s is not used: %s", dir, why);
        return fn(arg, DIRECTORY, NULL, 0) || fn(arg, DIRECTORY, &found, 0);
    }
    DIR *d = opendir(dir);
    while (d && (e = readdir(d)) && mu_strv_len(names) < SCRIPTS_MAX)
        if (counts(e->d_name) && mu_strv_append(&names, e->d_name))
            break;
    if (d)
        closedir(d);
    if (names)
        qsort(names, mu_strv_len(names), sizeof *names, by_name);
    for (char **name = names; name && *name && !rc; name++)
        rc = one(c, dir, *name, fn, arg);
    mu_strv_free(names);
    return rc;
}
