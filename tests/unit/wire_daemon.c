/* Alarms, readiness, starting another process of our own binary, who removes the run directory. */
#include <event2/event.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "runtime/base/clean.h"
#include "runtime/base/clock.h"
#include "runtime/base/log.h"
#include "runtime/wire/daemon.h"
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
    leaving();
    setting_up();
    event_base_free(base);
    mu_path_remove_tree(dir, NULL);
    return tap_done();
}
