/* Alarms, readiness, starting another process of our own binary, or of the one that has taken its place, who removes
 * the run directory. */
#include <event2/event.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "runtime/base/clean.h"
#include "runtime/base/clock.h"
#include "runtime/base/log.h"
#include "runtime/wire/daemon.h"
#include "runtime/wire/exe.h"
#include "runtime/wire/msg.h"
#include "tests/unit/tap.h"

static struct mu_paths paths;
static char dir[] = "/tmp/muster-test-daemon-XXXXXX";
static struct event_base *base;
static unsigned rings;
static uint64_t rang_at;

static void on_ring(void *arg)
{
    (void)arg;
    rings++;
    rang_at = mu_now();
}

static void spin(uint64_t ms)
{
    uint64_t until = mu_now() + ms * MU_MS;

    do {
        struct timeval slice = {.tv_usec = 1000};
        event_base_loopexit(base, &slice);
        event_base_loop(base, EVLOOP_ONCE);
    } while (mu_now() < until);
}

static void alarms(void)
{
    struct mu_alarm *a = mu_alarm_new(base, on_ring, NULL);
    uint64_t at = mu_now() + 30 * MU_MS;

    mu_alarm_set(a, at);
    spin(10);
    TAP_OK(rings == 0 || rang_at >= at, "not before its time");
    spin(100);
    TAP_OK(rings == 1 && rang_at >= at && rang_at < at + 5 * MU_SEC, "once, when it is due");
    mu_alarm_set(a, mu_now() + 5 * MU_SEC);
    mu_alarm_set(a, UINT64_MAX);
    spin(50);
    TAP_OK(rings == 1, "unset");
    mu_alarm_set(a, mu_now() + 10 * MU_SEC);
    mu_alarm_set(a, mu_now());
    spin(20);
    TAP_OK(rings == 2, "set to an earlier time");
    mu_alarm_set(a, 0);
    spin(20);
    TAP_OK(rings == 3, "a time that is past is due at once");
    mu_alarm_free(a);
    mu_alarm_free(NULL);
}

static void readiness(void)
{
    static const struct {
        const char *said, *text;
        int rc, code;
    } rows[] = {
        {"ok\n", "", 0, 0},
        {"2 the disk is full\n", "the disk is full", MUSTER_EARG, 2},
        {"", "it ended at its start", MUSTER_EPEER, 0},
        {"garbage\n", "it ended at its start", MUSTER_EPEER, 0},
        {"0 nothing\n", "it ended at its start", MUSTER_EPEER, 0},
        {"2 half a li", "half a li", MUSTER_EARG, 2},
    };

    for (size_t i = 0; i < MU_COUNT(rows); i++) {
        struct mu_err err = {0};
        int fds[2], code = 0;
        if (pipe(fds) || write(fds[1], rows[i].said, strlen(rows[i].said)) < 0)
            exit(99);
        close(fds[1]);
        int rc = mu_daemon_await(fds[0], 1000, &code, &err);
        TAP_OK(rc == rows[i].rc && code == rows[i].code && !strcmp(err.text, rows[i].text), "await %s: %s",
               *rows[i].said ? "a line" : "nothing", rc ? err.text : "ok");
        close(fds[0]);
    }
    struct mu_err err;
    int fds[2], none = -1;
    if (pipe(fds))
        exit(99);
    TAP_OK(mu_daemon_await(fds[0], 50, NULL, &err) == MUSTER_ETIMEOUT, "silence: %s", err.text);
    char lines[2000];
    memset(lines, 'x', sizeof lines);
    lines[sizeof lines - 1] = 0;
    mu_daemon_ready(&fds[1], 2, lines);
    int code = 0;
    TAP_OK(fds[1] == -1 && mu_daemon_await(fds[0], 1000, &code, &err) && code == 2, "a long reason is cut");
    close(fds[0]);
    mu_daemon_ready(&none, 0, NULL);
}

/* Started as "NAME child ARG": tells what it is through the descriptor that was kept. */
static int child(const char *number)
{
    char text[200], in[PATH_MAX] = "", cwd[8];
    int fd = atoi(number);
    ssize_t n = readlink("/proc/self/fd/0", in, sizeof in - 1);

    snprintf(cwd, sizeof cwd, "%s", n == 9 && !strcmp(in, "/dev/null") ? "null" : "else");
    const char *mca = getenv("PMIX_MCA_gds");
    int len =
        snprintf(text, sizeof text, "%d %d %s %d %s %s", getsid(0) == getpid(), fcntl(fd + 1, F_GETFD) < 0, cwd,
                 signal(SIGPIPE, SIG_DFL) == SIG_DFL,
                 getenv("OMPI_X") || getenv("MUSTER_JOB") || getenv("PMIX_RANK") ? "job" : "free", mca ? mca : "none");
    return write(fd, text, (size_t)len) == len ? 0 : 1;
}

static void spawning(void)
{
    char name[] = "test", cmd[] = "child", number[16];
    char *argv[] = {name, cmd, number, NULL};

    setenv("OMPI_X", "1", 1);
    setenv("MUSTER_JOB", "1", 1);
    setenv("PMIX_RANK", "0", 1);
    setenv("PMIX_MCA_gds", "hash", 1);
    for (int detach = 0; detach < 2; detach++) {
        const char *want = detach ? "1 1 null 1 free none" : "1 1 null 1 free hash";
        if (detach) /* within a rank such settings are its keeper's */
            setenv("MUSTER_TAG", "00000000.1.1", 1);
        char text[200] = "";
        struct mu_err err = {0};
        int fds[2];
        pid_t pid = 0;
        if (pipe2(fds, O_CLOEXEC))
            exit(99);
        int leaked = fcntl(fds[0], F_DUPFD, fds[1] + 1); /* not CLOEXEC, right behind the one that is kept */
        snprintf(number, sizeof number, "%d", fds[1]);
        int rc = mu_daemon_spawn(argv, fds[1], detach, &pid, &err);
        close(fds[1]);
        ssize_t n = read(fds[0], text, sizeof text - 1);
        TAP_OK(!rc && n > 0 && !strcmp(text, want), "%s: its own session, nothing inherited (%s%s)",
               detach ? "detached" : "a child", text, err.text);
        int got = waitpid(pid, NULL, 0);
        TAP_OK(pid > 0 && (detach ? got < 0 : got == pid), "%s", detach ? "not our child" : "our child");
        close(fds[0]);
        close(leaked);
    }
    unsetenv("OMPI_X");
    unsetenv("PMIX_RANK");
    unsetenv("PMIX_MCA_gds");
    unsetenv("MUSTER_TAG");
    unsetenv("MUSTER_JOB");
}

/* --- a binary that is replaced while it runs ---------------------------------------------------------------------- */

/* This program as a file of its own, that speaks the version of the protocol; 0: without a mark. */
static void install(const char *name, uint32_t version)
{
    mu_auto_buf struct mu_buf b = {0};
    struct mu_err err;
    char word[] = "?uster-wire"; /* a second mark would be in the way of the first */

    if (mu_path_read("/proc/self/exe", 1 << 30, &b, &err))
        exit(99);
    word[0] = 'm';
    char *at = memmem(b.data, b.len, word, sizeof word);
    if (!at || memmem(at + 1, b.len - (size_t)(at + 1 - b.data), word, sizeof word))
        exit(98);
    memcpy(at + sizeof word, &version, sizeof version);
    if (!version)
        *at = 'M';
    if (mu_path_write_atomic(name, b.data, b.len, 0700, &err))
        exit(97);
}

/* Started as "PROGRAM what FD": says which file it is of. */
static int tell_file(const char *number)
{
    char link[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", link, sizeof link);

    return n > 0 && write(atoi(number), link, (size_t)n) == n ? 0 : 1;
}

/* Started as "PROGRAM replaced DIR": when it is told to go on it starts a daemon, then a helper, and says of which file
 * these are, and what it would give to others. */
static int replaced(const char *at)
{
    char name[] = "test", cmd[] = "what", number[16], text[PATH_MAX], found[PATH_MAX];
    char *argv[] = {name, cmd, number, NULL};
    struct mu_err err;
    int fds[2];
    size_t skip = strlen(at);

    if (write(1, "+", 1) != 1 || read(0, text, 1) != 1)
        return 1;
    for (int helper = 0; helper < 2; helper++) {
        pid_t pid = 0;
        if (pipe2(fds, O_CLOEXEC))
            return 1;
        snprintf(number, sizeof number, "%d", fds[1]);
        int rc = helper ? mu_daemon_helper(argv, fds[1], NULL, NULL, &pid, &err)
                        : mu_daemon_spawn(argv, fds[1], false, &pid, &err);
        close(fds[1]);
        ssize_t n = rc ? 0 : read(fds[0], text, sizeof text - 1);
        text[n > 0 ? n : 0] = 0;
        printf("%s,", rc ? err.text : strlen(text) > skip ? text + skip : text);
        close(fds[0]);
        waitpid(pid, NULL, 0);
    }
    int rc = mu_exe_find(found, sizeof found, &err);
    printf("%s", !rc ? found + skip : rc == MUSTER_EVERSION ? "another version" : "nothing");
    return fflush(stdout);
}

static void replacing(void)
{
    static const struct {
        const char *what, *want;
        int version; /* of what takes its place; -1: nothing, -2: it stays, -3: a file that cannot be executed */
    } rows[] = {
        {"as it was", "/prog,/prog,/prog", -2},
        {"replaced", "/prog,/prog (deleted),/prog", MU_WIRE_VERSION},
        {"replaced by one of another version", "/prog (deleted),/prog (deleted),another version", MU_WIRE_VERSION + 1},
        {"replaced by some other program", "/prog (deleted),/prog (deleted),another version", 0},
        {"removed", "/prog (deleted),/prog (deleted),nothing", -1},
        {"half installed", "/prog (deleted),/prog (deleted),nothing", -3},
    };
    struct mu_err err;

    for (size_t i = 0; i < MU_COUNT(rows); i++) {
        char prog[PATH_MAX], text[3 * PATH_MAX] = "";
        int in[2], out[2];
        snprintf(prog, sizeof prog, "%s/prog", dir);
        install(prog, MU_WIRE_VERSION);
        if (pipe2(in, O_CLOEXEC) || pipe2(out, O_CLOEXEC))
            exit(99);
        pid_t pid = fork();
        if (!pid) {
            dup2(in[0], 0);
            dup2(out[1], 1);
            execl(prog, "test", "replaced", dir, (char *)NULL);
            _exit(99);
        }
        close(in[0]);
        close(out[1]);
        if (read(out[0], text, 1) != 1)
            exit(96);
        if (rows[i].version >= 0)
            install(prog, (uint32_t)rows[i].version);
        else if (rows[i].version == -1)
            unlink(prog);
        else if (rows[i].version == -3)
            mu_path_write_atomic(prog, "x", 1, 0600, &err);
        size_t got = 0;
        ssize_t n = write(in[1], "+", 1);
        while (n > 0 && got < sizeof text - 1 && (n = read(out[0], text + got, sizeof text - 1 - got)) > 0)
            got += (size_t)n;
        text[got] = 0;
        close(in[1]);
        close(out[0]);
        waitpid(pid, NULL, 0);
        TAP_OK(!strcmp(text, rows[i].want), "%s: a daemon, a helper and others get %s", rows[i].what, text);
    }
}

/* Started as "PROGRAM hold FILE": a daemon that lives. */
static int hold(const char *file)
{
    int fd = mu_path_lock(file, 0, NULL);

    return fd < 0 || write(1, "+", 1) != 1 || read(0, &fd, 1) < 0;
}

static void strangers(void)
{
    static const struct {
        uint32_t version;
        const char *lock;
        int want;
    } rows[] = {
        {MU_WIRE_VERSION, "agent.lock", 0},
        {MU_WIRE_VERSION + 1, "agent.lock", MUSTER_EVERSION},
        {MU_WIRE_VERSION + 1, "keeper.7.lock", MUSTER_EVERSION},
        {MU_WIRE_VERSION + 1, "start.lock", 0},
        {0, "agent.lock", 0},
    };

    for (size_t i = 0; i < MU_COUNT(rows); i++) {
        char prog[PATH_MAX], lock[PATH_MAX], want[40], c;
        struct mu_err err = {0};
        int in[2], out[2];
        snprintf(prog, sizeof prog, "%s/prog", dir);
        install(prog, rows[i].version);
        if (pipe2(in, O_CLOEXEC) || pipe2(out, O_CLOEXEC) ||
            mu_path_join(lock, sizeof lock, paths.run, rows[i].lock, NULL))
            exit(99);
        pid_t pid = fork();
        if (!pid) {
            dup2(in[0], 0);
            dup2(out[1], 1);
            execl(prog, "test", "hold", lock, (char *)NULL);
            _exit(99);
        }
        close(in[0]);
        close(out[1]);
        if (read(out[0], &c, 1) != 1)
            exit(96);
        uint64_t began = mu_now();
        int rc = mu_exe_alike(paths.run, &err);
        snprintf(want, sizeof want, "process %ld (%.*s)", (long)pid, (int)strlen(rows[i].lock) - 5, rows[i].lock);
        TAP_OK(rc == rows[i].want && (!rc || !strncmp(err.text, want, strlen(want))) && mu_now() - began < 10 * MU_SEC,
               "one of version %u that has %s: %s", rows[i].version, rows[i].lock, rc ? err.text : "no hindrance");
        close(in[1]);
        waitpid(pid, NULL, 0);
        close(out[0]);
        if (rc)
            TAP_OK(!mu_exe_alike(paths.run, &err), "which is over with it");
        unlink(lock);
    }
}

static bool run_exists(void)
{
    return access(paths.run, F_OK) == 0;
}

static int lock_of(const char *name)
{
    char path[PATH_MAX];

    mu_path_join(path, sizeof path, paths.run, name, NULL);
    return mu_path_lock(path, 0, NULL);
}

static void leaving(void)
{
    static const char *const others[] = {"agent.lock", "start.lock", "keeper.3.lock"};
    struct mu_err err;
    int mine = lock_of("ctl.lock");
    pid_t pid = 0;

    TAP_OK(mine >= 0 && mu_daemon_locked(paths.run, "ctl.lock", &pid) && pid == getpid(), "a lock tells its holder");
    TAP_OK(!mu_daemon_locked(paths.run, "none.lock", &pid), "none that does not exist");
    for (size_t i = 0; i < MU_COUNT(others); i++) {
        int other = lock_of(others[i]);
        mu_daemon_leave(&paths, &mine);
        TAP_OK(mine < 0 && run_exists(), "the run directory stays while %s is held", others[i]);
        close(other);
        TAP_OK(!mu_daemon_locked(paths.run, others[i], &pid), "which is then free");
        mine = lock_of("ctl.lock");
    }
    mu_daemon_leave(&paths, &mine);
    TAP_OK(!run_exists() && access(dir, F_OK) == 0, "the last one removes it");
    char host[PATH_MAX + 80];
    snprintf(host, sizeof host, "%s/run/%s", dir, paths.host);
    TAP_OK(access(host, F_OK) < 0, "with its parent");
    TAP_OK(!mu_paths_init(&paths, &err) && run_exists(), "it can be made anew");
    char gone[3][PATH_MAX + 120];
    snprintf(gone[0], sizeof gone[0], "%s.gone.1", paths.run);
    snprintf(gone[1], sizeof gone[1], "%s.gone.4711/k3", paths.run);
    snprintf(gone[2], sizeof gone[2], "%s/%08x.gone.1", host, ~paths.pool_hash);
    for (size_t i = 0; i < MU_COUNT(gone); i++)
        mu_path_mkdirs(gone[i], 0700, NULL);
    *strrchr(gone[1], '/') = 0;
    mu_daemon_sweep(&paths);
    TAP_OK(access(gone[0], F_OK) < 0 && access(gone[1], F_OK) < 0, "what a crash has left of a removal is swept away");
    TAP_OK(access(gone[2], F_OK) == 0 && run_exists(), "but not another pool's, nor what is in use");
    mu_path_remove_tree(gone[2], NULL);
    mu_daemon_leave(&paths, &mine);
    TAP_OK(access(host, F_OK) < 0, "then nothing is left");
}

static int nice_of_child(void)
{
    int status = -1;
    pid_t pid = fork();

    if (!pid)
        _exit(getpriority(PRIO_PROCESS, 0) + 20);
    waitpid(pid, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) - 20 : 99;
}

/* The nice value of a daemon, and of its child, where it began with nice; 99: a failure. */
static int nice_after(int nice, int *child)
{
    int fd[2], is[2] = {99, 99};

    if (pipe(fd))
        return 99;
    pid_t pid = fork();
    if (!pid) {
        if (!setpriority(PRIO_PROCESS, 0, nice) && !mu_daemon_setup(&paths, "probe", true, NULL)) {
            is[0] = getpriority(PRIO_PROCESS, 0);
            is[1] = nice_of_child();
        }
        _exit(write(fd[1], is, sizeof is) != sizeof is);
    }
    close(fd[1]);
    waitpid(pid, NULL, 0);
    if (read(fd[0], is, sizeof is) != sizeof is)
        is[0] = 99;
    close(fd[0]);
    *child = is[1];
    return is[0];
}

static bool may_come_first(void)
{
    int status = -1;
    pid_t pid = fork();

    if (!pid)
        _exit(setpriority(PRIO_PROCESS, 0, MU_DAEMON_NICE) < 0);
    waitpid(pid, &status, 0);
    return status == 0;
}

static void priority(void)
{
    int child = 99, at = getpriority(PRIO_PROCESS, 0), want = !at && may_come_first() ? MU_DAEMON_NICE : at;
    int is = nice_after(at, &child);

    TAP_OK(is == want, "a daemon comes before ranks where it may: nice %d", is);
    TAP_OK(child == at, "what it starts does not: nice %d", child);
    is = nice_after(15, &child);
    TAP_OK(is == 15 && child == 15, "a nice value that was chosen stays, for its children, too");
}

/* In a child, because it gives its streams up. */
static void setting_up(void)
{
    char log[PATH_MAX + 80];
    struct stat st;
    pid_t pid = fork();

    snprintf(log, sizeof log, "%s/log/probe.log", paths.state);
    if (!pid) {
        struct mu_err err;
        for (int i = 0; i < 2; i++) {
            if (mu_daemon_setup(&paths, "probe", false, &err))
                _exit(1);
            mu_log(MU_LOG_INFO, "test", "hello");
            if (i == 0 && truncate(log, 5 << 20))
                _exit(2);
        }
        char cwd[8];
        _exit(getcwd(cwd, sizeof cwd) && !strcmp(cwd, "/") && umask(0) == 077 && getsid(0) == getpid() &&
                      *getenv("MUSTER_HOME") == '/'
                  ? 0
                  : 3);
    }
    int status = -1;
    waitpid(pid, &status, 0);
    TAP_OK(status == 0, "a daemon: session, directory, mask (%x)", (unsigned)status);
    TAP_OK(!stat(log, &st) && st.st_size < 1000 && (st.st_mode & 0777) == 0600, "its log");
    strcat(log, ".1");
    TAP_OK(!stat(log, &st) && st.st_size == 5 << 20, "the one before, once it is long");
}

int main(int argc, char **argv)
{
    char run[64];
    struct mu_err err;

    if (argc == 3 && !strcmp(argv[1], "child"))
        return child(argv[2]);
    if (argc == 3 && !strcmp(argv[1], "what"))
        return tell_file(argv[2]);
    if (argc == 3 && !strcmp(argv[1], "replaced"))
        return replaced(argv[2]);
    if (argc == 3 && !strcmp(argv[1], "hold"))
        return hold(argv[2]);
    if (!mkdtemp(dir) || chdir(dir))
        return 99;
    snprintf(run, sizeof run, "%s/run", dir);
    mkdir(run, 0700);
    setenv("MUSTER_HOME", "home", 1); /* relative on purpose */
    setenv("MUSTER_RUN_ROOT", run, 1);
    if (mu_paths_init(&paths, &err)) {
        printf("Bail out! %s\n", err.text);
        return 99;
    }
    base = mu_loop_new();
    alarms();
    readiness();
    spawning();
    replacing();
    strangers();
    leaving();
    setting_up();
    priority();
    event_base_free(base);
    mu_path_remove_tree(dir, NULL);
    return tap_done();
}
