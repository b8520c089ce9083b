#include "runtime/wire/daemon.h"

#include <dirent.h>
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <malloc.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/base/clean.h"
#include "runtime/base/clock.h"
#include "runtime/base/log.h"
#include "runtime/base/str.h"
#include "runtime/wire/exe.h"

#define LOG_MAX (4 << 20)
#define HEAP_MAPPED (4 << 20) /* from this size on memory is the kernel's again once it is free */
#define STACK (8 << 20)
#define HEAP_IDLE (16 << 20)

/* What a daemon must not have from a rank that happened to start it: it would be taken for a part of that job, or its
 * PMIx server for a client. */
static const char *const not_inherited[] = {
    "MUSTER_TAG=", "MUSTER_JOB=", "MUSTER_ATTEMPT=", "MUSTER_SLOT", "MUSTER_NODE=", "MUSTER_CKPT",
    "PMIX_",       "PMI_",        "OMPI_",           "PRTE_",       "ORTE_",
};

extern char **environ;

struct event_base *mu_loop_new(void)
{
    struct event_config *config = event_config_new();

    if (!config)
        return NULL;
    event_config_set_flag(config, EVENT_BASE_FLAG_PRECISE_TIMER);
    event_config_set_flag(config, EVENT_BASE_FLAG_NO_CACHE_TIME);
    struct event_base *base = event_base_new_with_config(config);
    event_config_free(config);
    return base;
}

/* --- alarms ------------------------------------------------------------------------------------------------------ */

struct mu_alarm {
    struct event *ev;
    mu_alarm_fn fn;
    void *arg;
    uint64_t at;
};

static void arm(struct mu_alarm *a)
{
    uint64_t now = mu_now(), left = a->at > now ? a->at - now : 0;
    struct timeval t = {.tv_sec = (time_t)(left / MU_SEC), .tv_usec = (suseconds_t)((left % MU_SEC + 999) / 1000)};

    if (t.tv_usec >= 1000000) {
        t.tv_sec++;
        t.tv_usec -= 1000000;
    }
    event_add(a->ev, &t);
}

static void on_alarm(evutil_socket_t fd, short what, void *arg)
{
    struct mu_alarm *a = arg;

    (void)fd, (void)what;
    if (a->at == UINT64_MAX)
        return;
    if (mu_now() < a->at) {
        arm(a);
        return;
    }
    a->at = UINT64_MAX;
    a->fn(a->arg);
}

struct mu_alarm *mu_alarm_new(struct event_base *base, mu_alarm_fn fn, void *arg)
{
    struct mu_alarm *a = calloc(1, sizeof *a);

    if (!a)
        return NULL;
    *a = (struct mu_alarm){.fn = fn, .arg = arg, .at = UINT64_MAX};
    a->ev = event_new(base, -1, 0, on_alarm, a);
    if (!a->ev) {
        free(a);
        return NULL;
    }
    return a;
}

void mu_alarm_set(struct mu_alarm *a, uint64_t at)
{
    if (at == a->at)
        return;
    a->at = at;
    if (at == UINT64_MAX)
        event_del(a->ev);
    else
        arm(a);
}

void mu_alarm_free(struct mu_alarm *a)
{
    if (!a)
        return;
    event_free(a->ev);
    free(a);
}

/* --- becoming and starting one ----------------------------------------------------------------------------------- */

static int open_log(const struct mu_paths *paths, const char *name, struct mu_err *err)
{
    char dir[PATH_MAX], file[PATH_MAX], old[PATH_MAX + 2];
    struct stat st;
    int rc = mu_path_join(dir, sizeof dir, paths->state, "log", err);

    if (!rc)
        rc = mu_path_mkdirs(dir, 0700, err);
    if (!rc)
        rc = mu_path_join(file, sizeof file - 8, dir, name, err);
    if (rc)
        return rc;
    strcat(file, ".log");
    snprintf(old, sizeof old, "%s.1", file);
    if (!stat(file, &st) && st.st_size > LOG_MAX)
        rename(file, old);
    int fd = open(file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600); /* no FIFO */
    return fd < 0 ? mu_err_errno(err, 0, "cannot open the log %s", file) : fd;
}

/* For the daemons that this one starts from another directory. */
static int absolute_home(struct mu_err *err)
{
    const char *home = getenv("MUSTER_HOME");
    char path[PATH_MAX];

    if (!home || !*home || *home == '/')
        return 0;
    if (!realpath(home, path) || setenv("MUSTER_HOME", path, 1))
        return mu_err_errno(err, 0, "MUSTER_HOME %s", home);
    return 0;
}

/* As many descriptors as we may have. */
static int wanted_limit(struct rlimit *r)
{
    const rlim_t enough = 1 << 20;

    if (getrlimit(RLIMIT_NOFILE, r))
        return -1;
    if (r->rlim_cur < r->rlim_max && r->rlim_cur < enough)
        r->rlim_cur = r->rlim_max < enough ? r->rlim_max : enough;
    return 0;
}

uint64_t mu_daemon_files(void)
{
    struct rlimit r;

    return wanted_limit(&r) || r.rlim_cur == RLIM_INFINITY ? 0 : r.rlim_cur;
}

uint64_t mu_daemon_boot(void)
{
    mu_auto_buf struct mu_buf id = {0};
    struct stat st;

    if (mu_path_read("/proc/sys/kernel/random/boot_id", 256, &id, NULL))
        return 0;
    if (!stat("/proc/self/ns/time", &st)) /* each of them has a CLOCK_MONOTONIC of its own */
        mu_buf_appendf(&id, "%llu", (unsigned long long)st.st_ino);
    return id.failed ? 0 : mu_str_hash(id.data, id.len) | 1;
}

uint64_t mu_daemon_stack(void)
{
    struct rlimit r;

    if (getrlimit(RLIMIT_STACK, &r))
        return STACK;
    /* no more: threads would get as much as is allowed */
    if (r.rlim_cur < STACK && r.rlim_cur != r.rlim_max) {
        r.rlim_cur = r.rlim_max < STACK ? r.rlim_max : STACK;
        setrlimit(RLIMIT_STACK, &r);
    }
    return r.rlim_cur;
}

/* Of the shell that happened to start us: they are meant for what the user runs there, not for who keeps the job store.
 * The ranks get theirs of open files back. */
static void raise_limits(void)
{
    static const int whole[] = {RLIMIT_FSIZE, RLIMIT_CPU, RLIMIT_AS, RLIMIT_DATA};
    struct rlimit r;

    if (!wanted_limit(&r))
        setrlimit(RLIMIT_NOFILE, &r);
    for (size_t i = 0; i < MU_COUNT(whole); i++)
        if (!getrlimit(whole[i], &r) && r.rlim_cur != r.rlim_max) {
            r.rlim_cur = r.rlim_max;
            setrlimit(whole[i], &r);
        }
    mu_daemon_stack();
}

void mu_daemon_heap(void)
{
    mallopt(M_MMAP_THRESHOLD, HEAP_MAPPED);
    mallopt(M_TRIM_THRESHOLD, HEAP_IDLE);
}

/* Whoever waits behind the ranks for a processor falls silent, and silence is death to others. Not where somebody has
 * chosen otherwise, or we may not. */
static void come_first(void)
{
    static const struct sched_param none;

    errno = 0;
    if (sched_getscheduler(0) != SCHED_OTHER || getpriority(PRIO_PROCESS, 0) != 0 || errno ||
        setpriority(PRIO_PROCESS, 0, MU_DAEMON_NICE) < 0)
        return;
    if (sched_setscheduler(0, SCHED_OTHER | SCHED_RESET_ON_FORK, &none) < 0)
        setpriority(PRIO_PROCESS, 0, 0);
}

int mu_daemon_setup(const struct mu_paths *paths, const char *name, bool foreground, struct mu_err *err)
{
    umask(077);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* then it is EFBIG */
    raise_limits();
    come_first();
    mu_daemon_heap();
    if (foreground)
        return mu_log_setup(2, NULL, NULL, err);

    mu_auto_fd int log = open_log(paths, name, err);
    if (log < 0)
        return log;
    int rc = mu_log_setup(log, NULL, NULL, err);
    if (rc)
        return rc;
    mu_auto_fd int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null < 0 || dup2(null, 0) < 0 || dup2(null, 1) < 0 || dup2(log, 2) < 0)
        return mu_err_errno(err, 0, "cannot set up the standard streams");
    rc = absolute_home(err);
    if (rc)
        return rc;
    setsid(); /* fails only for one that leads a group already */
    if (chdir("/") < 0)
        return mu_err_errno(err, 0, "cannot change to /");
    return 0;
}

/* Marks everything from 3 on for closing at exec: the user's shell may have handed us descriptors that others wait
 * on. */
static void close_at_exec(void)
{
#ifdef SYS_close_range
    if (!syscall(SYS_close_range, 3u, ~0u, 4u /* CLOSE_RANGE_CLOEXEC */))
        return;
#endif
    for (int fd = 3; fd < 4096; fd++)
        fcntl(fd, F_SETFD, FD_CLOEXEC);
}

struct word {
    int e;
    pid_t pid;
};

struct program {
    char file[PATH_MAX];
    bool newest;
    char *const *argv, *const *env;
};

/* In the child; async-signal-safe. Reports errno and ends when there is no exec. */
static void child(const struct program *p, int null, int keep_fd, int report_fd)
{
    struct word word;
    sigset_t none;

    for (int s = 1; s < NSIG; s++)
        signal(s, SIG_DFL);
    signal(SIGXFSZ, SIG_IGN);
    raise_limits();
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    setsid();
    if (dup2(null, 0) >= 0 && dup2(null, 1) >= 0 && dup2(null, 2) >= 0) {
        close_at_exec();
        if (keep_fd < 0 || !fcntl(keep_fd, F_SETFD, 0))
            mu_exe_become(p->file, p->newest, p->argv, p->env);
    }
    word = (struct word){.e = errno};
    _exit(write(report_fd, &word, sizeof word) == sizeof word ? 127 : 126);
}

/* Reads what the children have to say until the exec closes the pipe. 0 or an errno. */
static int hear(int fd, pid_t *pid)
{
    struct word word;
    int e = 0;

    for (;;) {
        ssize_t n = read(fd, &word, sizeof word);
        if (n < 0 && errno == EINTR)
            continue;
        if (n != sizeof word)
            return e;
        if (word.e)
            e = word.e;
        else
            *pid = word.pid;
    }
}

static void reap(pid_t pid)
{
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        ;
}

/* The user's own settings of PMIx, unless they are what a keeper has set for the rank that we are in. */
static bool is_setting(const char *var)
{
    return !strncmp(var, "PMIX_MCA_", 9) && !getenv("MUSTER_TAG");
}

static bool inherited(const char *var)
{
    for (size_t i = 0; i < MU_COUNT(not_inherited); i++)
        if (!strncmp(var, not_inherited[i], strlen(not_inherited[i])))
            return is_setting(var);
    return true;
}

static char **clean_environ(const char *instead, char *const vars[])
{
    size_t n = mu_strv_len(environ), more = mu_strv_len(vars), to = 0;
    char **env = calloc(n + more + 1, sizeof *env);

    for (size_t i = 0; env && i < n; i++)
        if (inherited(environ[i]) && !(instead && !strncmp(environ[i], instead, strlen(instead))))
            env[to++] = environ[i];
    for (size_t i = 0; env && i < more; i++)
        env[to++] = vars[i];
    return env;
}

static int spawn(struct program *p, int keep_fd, bool detach, pid_t *pid, struct mu_err *err)
{
    char *const *argv = p->argv;
    int report[2];

    if (!p->env)
        return mu_err_set(err, MUSTER_ENOMEM, "out of memory");
    if (mu_path_exe(p->file, sizeof p->file, NULL))
        p->file[0] = 0;
    mu_auto_fd int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null < 0 || pipe2(report, O_CLOEXEC))
        return mu_err_errno(err, 0, "cannot start %s %s", argv[0], argv[1]);
    pid_t first = fork();
    if (!first) {
        if (!detach)
            child(p, null, keep_fd, report[1]);
        struct word word = {.pid = fork()};
        if (!word.pid)
            child(p, null, keep_fd, report[1]);
        word.e = word.pid < 0 ? errno : 0;
        _exit(write(report[1], &word, sizeof word) == sizeof word ? 0 : 1);
    }
    mu_auto_fd int in = report[0];
    int e = errno;
    close(report[1]);
    pid_t started = first;
    if (first > 0) {
        e = hear(in, &started);
        if (detach || e)
            reap(first);
    }
    if (first < 0 || e) {
        errno = e;
        return mu_err_errno(err, 0, "cannot start %s %s (%s)", argv[0], argv[1],
                            *p->file ? p->file : "its file is gone");
    }
    if (pid)
        *pid = started;
    return 0;
}

int mu_daemon_spawn(char *const argv[], int keep_fd, bool detach, pid_t *pid, struct mu_err *err)
{
    mu_auto_free char **env = clean_environ(NULL, NULL);

    return spawn(&(struct program){.newest = true, .argv = argv, .env = env}, keep_fd, detach, pid, err);
}

int mu_daemon_helper(char *const argv[], int keep_fd, const char *instead, char *const vars[], pid_t *pid,
                     struct mu_err *err)
{
    mu_auto_free char **env = clean_environ(instead, vars);

    return spawn(&(struct program){.argv = argv, .env = env}, keep_fd, false, pid, err);
}

/* --- run directory ----------------------------------------------------------------------------------------------- */

bool mu_daemon_locked(const char *run, const char *name, pid_t *pid)
{
    char path[PATH_MAX], text[24] = "";
    uint64_t n = 0;

    if (mu_path_join(path, sizeof path, run, name, NULL))
        return false;
    mu_auto_fd int fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 || !flock(fd, LOCK_SH | LOCK_NB) || errno != EWOULDBLOCK)
        return false;
    ssize_t got = pread(fd, text, sizeof text - 1, 0);
    text[got > 0 ? got : 0] = 0;
    text[strspn(text, "0123456789")] = 0;
    if (pid)
        *pid = mu_str_u64(text, 1, INT32_MAX, &n) ? 0 : (pid_t)n;
    return true;
}

#define LEAVE_TRIES 30
#define GONE ".gone." /* RUN.gone.PID: on its way out */

static bool keeper_lives(const char *run)
{
    mu_auto_dir DIR *d = opendir(run);

    for (struct dirent *e; d && (e = readdir(d));)
        if (!strncmp(e->d_name, "keeper.", 7) && mu_daemon_locked(run, e->d_name, NULL))
            return true;
    return false;
}

static int try_lock(const char *run, const char *name)
{
    char path[PATH_MAX];
    int rc = mu_path_join(path, sizeof path, run, name, NULL);

    return rc ? rc : mu_path_lock(path, 0, NULL);
}

/* Those that are empty: other pools of this host keep them. MUSTER_RUN_ROOT itself is not ours. */
static void remove_parents(const char *run)
{
    const char *root = getenv("MUSTER_RUN_ROOT");
    char path[PATH_MAX];

    snprintf(path, sizeof path, "%s", run);
    for (int up = root && *root ? 1 : 2; up > 0; up--) {
        char *slash = strrchr(path, '/');
        if (!slash || slash == path)
            return;
        *slash = 0;
        if (rmdir(path))
            return;
    }
}

static bool leave_once(const struct mu_paths *paths)
{
    static const char *const names[] = {"start.lock", "ctl.lock", "agent.lock"};
    int fds[MU_COUNT(names)], held = 0;
    char gone[PATH_MAX + 24];
    bool all;

    while (held < (int)MU_COUNT(names) && (fds[held] = try_lock(paths->run, names[held])) >= 0)
        held++;
    all = held == (int)MU_COUNT(names);
    if (all && !keeper_lives(paths->run)) {
        /* Moved away first: whoever starts anew meanwhile makes a new one and meets nothing of ours. */
        snprintf(gone, sizeof gone, "%s" GONE "%ld", paths->run, (long)getpid());
        if (!rename(paths->run, gone)) {
            mu_path_remove_tree(gone, NULL);
            remove_parents(paths->run);
        }
    }
    while (held-- > 0)
        close(fds[held]);
    return all || access(paths->run, F_OK);
}

void mu_daemon_leave(const struct mu_paths *paths, int *lock)
{
    /* Two that leave at once find each other's locks: each gives its own back first, and tries again for a moment. */
    if (*lock >= 0)
        close(*lock);
    *lock = -1;
    for (int i = 0; i < LEAVE_TRIES && !leave_once(paths); i++)
        nanosleep(&(struct timespec){.tv_nsec = (long)(5 + (getpid() + i) % 11) * MU_MS}, NULL);
}

void mu_daemon_sweep(const struct mu_paths *paths)
{
    char parent[PATH_MAX], path[PATH_MAX], own[PATH_MAX];

    snprintf(parent, sizeof parent, "%s", paths->run);
    char *slash = strrchr(parent, '/');
    if (!slash || slash == parent)
        return;
    *slash = 0;
    int n = snprintf(own, sizeof own, "%s" GONE, slash + 1);
    mu_auto_dir DIR *d = opendir(parent);
    /* one that is being removed right now may be removed by two */
    for (struct dirent *e; d && (e = readdir(d));)
        if (!strncmp(e->d_name, own, (size_t)n) && !mu_path_join(path, sizeof path, parent, e->d_name, NULL))
            mu_path_remove_tree(path, NULL);
}

/* --- readiness --------------------------------------------------------------------------------------------------- */

void mu_daemon_ready(int *fd, int code, const char *text)
{
    char line[600];

    if (*fd < 0)
        return;
    int n = code ? snprintf(line, sizeof line, "%d %s", code, text) : snprintf(line, sizeof line, "ok");
    size_t len = n < 0 ? 0 : (size_t)n < sizeof line - 1 ? (size_t)n : sizeof line - 2;
    line[len++] = '\n';
    /* The reader may have given up; SIGPIPE is ignored. */
    if (write(*fd, line, len) < 0 && errno != EPIPE)
        mu_log(MU_LOG_WARN, "daemon", "cannot tell that we are ready: %s", strerror(errno));
    close(MU_STEAL(*fd, -1));
}

int mu_daemon_await(int fd, int timeout_ms, int *code, struct mu_err *err)
{
    uint64_t deadline = mu_now() + (uint64_t)timeout_ms * MU_MS;
    char line[600];
    size_t n = 0;

    for (;;) {
        uint64_t now = mu_now();
        struct pollfd p = {.fd = fd, .events = POLLIN};
        if (now >= deadline)
            return mu_err_set(err, MUSTER_ETIMEOUT, "it is not ready after %d s", timeout_ms / 1000);
        int rc = poll(&p, 1, (int)((deadline - now) / MU_MS) + 1);
        if (rc < 0 && errno != EINTR)
            return mu_err_errno(err, 0, "poll");
        if (rc <= 0)
            continue;
        ssize_t got = read(fd, line + n, sizeof line - 1 - n);
        if (got < 0 && (errno == EINTR || errno == EAGAIN))
            continue;
        if (got > 0)
            n += (size_t)got;
        line[n] = 0;
        if (got > 0 && n < sizeof line - 1 && !strchr(line, '\n'))
            continue;
        break;
    }
    line[strcspn(line, "\n")] = 0;
    if (!strcmp(line, "ok"))
        return 0;
    char *text = strchr(line, ' ');
    if (text)
        *text++ = 0;
    uint64_t value = 1;
    if (!text || mu_str_u64(line, 1, 255, &value))
        return mu_err_set(err, MUSTER_EPEER, "it ended at its start");
    if (code)
        *code = (int)value;
    return mu_err_set(err, MUSTER_EARG, "%s", text);
}
