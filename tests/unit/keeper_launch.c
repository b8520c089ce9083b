/* Starting processes: what can go wrong on the way to exec, PATH, groups, streams, death with the parent. */
#include "runtime/keeper/launch.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/base/path.h"
#include "tests/unit/tap.h"

#define S(text) ((char *)(uintptr_t)(text))

static char dir[] = "/tmp/muster-keeper-launch-XXXXXX";
static char path_env[200];
static char *env[] = {path_env, S("X=y"), NULL};

static void put_file(const char *name, const char *text, mode_t mode)
{
    char path[200];

    snprintf(path, sizeof path, "%s/%s", dir, name);
    int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    if (fd < 0 || write(fd, text, strlen(text)) < 0 || fchmod(fd, mode) < 0)
        exit(1);
    close(fd);
}

static int wait_readable(int fd, int ms)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};

    return poll(&p, 1, ms);
}

/* Reads a stream to its end. */
static void collect(int fd, char *out, size_t n)
{
    size_t at = 0;

    while (wait_readable(fd, 10000) > 0) {
        ssize_t got = read(fd, out + at, n - 1 - at);
        if (got <= 0)
            break;
        at += (size_t)got;
    }
    out[at] = 0;
    close(fd);
}

/* Waits for the news; the number of troubles, the last one in *t. */
static const struct mu_launch_shell shell = {.umask = 022};

static int settle(struct mu_launch *l, struct mu_launch_trouble *t)
{
    int n = 0, got;

    for (;;) {
        got = mu_launch_poll(l, t);
        n += got == MU_LAUNCH_TROUBLE;
        if (got == MU_LAUNCH_DONE || (got == MU_LAUNCH_WAIT && wait_readable(mu_launch_fd(l), 10000) != 1))
            break;
    }
    mu_launch_free(l);
    return got == MU_LAUNCH_DONE ? n : -1;
}

static void failures(void)
{
    static const struct {
        char *argv0, *wdir;
        int code;
        const char *word, *what;
    } rows[] = {
        {S("no-such-program"), S("/"), 127, "not found in PATH", "a program that is nowhere"},
        {S("/no/such/program"), S("/"), 127, "no such file", "a path that is nowhere"},
        {S("/etc/passwd/x"), S("/"), 127, "Not a directory", "a path through a file"},
        {S("./plain"), dir, 126, "Permission denied", "a file that is no program"},
        {S("plain"), S("/"), 126, "Permission denied", "one found in PATH"},
        {S("/"), S("/"), 126, "Permission denied", "a directory"},
        {S("./binary"), dir, 126, "no script either", "a file that begins as a program does and is none"},
        {S("binary"), S("/"), 126, "no script either", "one found in PATH"},
        {S("./lost"), dir, 127, "interpreter", "a script without its interpreter"},
        {S("/bin/true"), S("/no/such/dir"), 1, "/no/such/dir", "a working directory that is not there"},
        {S("/bin/true"), S("/etc/passwd"), 1, "Not a directory", "one that is a file"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char *argv[] = {rows[i].argv0, NULL};
        struct mu_launch_rank r = {.argv = argv, .env = env, .wdir = rows[i].wdir};
        struct mu_launch_trouble t = {0};
        struct mu_launch *l;
        struct mu_child c;
        struct mu_err err;
        int status = 0;

        if (mu_launch_start(&r, 1, &shell, &c, &l, &err)) {
            TAP_OK(0, "%s: %s", rows[i].what, err.text);
            continue;
        }
        int n = settle(l, &t);
        waitpid(c.pid, &status, 0);
        TAP_OK(n == 1 && t.fatal && t.exit_code == rows[i].code && strstr(t.text, rows[i].word) && status, "%s: %s",
               rows[i].what, t.text);
        close(c.out);
        close(c.err);
    }
}

static void several(void)
{
    char *one[] = {S("say"), S("1"), NULL}, *two[] = {S("no-such-program"), NULL},
         *three[] = {S("sh"), S("-c"), S("echo $X; pwd; umask; ulimit -n; cat; echo e >&2; exit 3"), NULL};
    struct mu_launch_rank r[] = {{.argv = one, .env = env, .wdir = dir},
                                 {.argv = two, .env = env},
                                 {.argv = three, .env = env, .wdir = "/etc", .feed = true}};
    struct mu_launch_trouble t = {0};
    struct mu_launch *l;
    struct mu_child c[3];
    struct mu_err err;
    char out[500];
    int status;

    TAP_OK(!mu_launch_start(r, 3, &(struct mu_launch_shell){.umask = 027, .nofile = 70}, c, &l, &err),
           "three ranks, three programs");
    TAP_OK(settle(l, &t) == 1 && t.index == 1 && t.exit_code == 127, "one of them is not there: %s", t.text);
    collect(c[0].out, out, sizeof out);
    TAP_OK(!strcmp(out, "said 1\n"), "a script without #! is run by sh, found in a PATH entry: %s", out);
    TAP_OK(c[0].in == -1 && c[2].in >= 0, "a pipe to standard input only where it is wanted");
    TAP_OK(write(c[2].in, "fed\n", 4) == 4, "it can be fed");
    close(c[2].in);
    collect(c[2].out, out, sizeof out);
    TAP_OK(!strcmp(out, "y\n/etc\n0027\n70\nfed\n"), "environment, directory, umask, limit, input: %s", out);
    collect(c[2].err, out, sizeof out);
    TAP_OK(!strcmp(out, "e\n"), "stderr is apart");
    waitpid(c[0].pid, &status, 0);
    TAP_OK(WIFEXITED(status) && !WEXITSTATUS(status), "the first ends well");
    waitpid(c[2].pid, &status, 0);
    TAP_OK(WIFEXITED(status) && WEXITSTATUS(status) == 3, "the third with its code");
    waitpid(c[1].pid, &status, 0);
    close(c[0].err);
    close(c[1].out);
    close(c[1].err);
}

static void state(void)
{
    char *argv[] = {S("sh"), S("-c"), S("grep -E '^Sig(Blk|Ign)' /proc/self/status; ls /proc/$$/fd | wc -l; sleep 100"),
                    NULL};
    struct mu_launch_rank r = {.argv = argv, .env = env};
    struct mu_launch_trouble t;
    struct mu_launch *l;
    struct mu_child c;
    struct mu_err err;
    sigset_t set;
    char out[500] = "";
    size_t at = 0;
    int status;

    signal(SIGPIPE, SIG_IGN);
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigprocmask(SIG_BLOCK, &set, NULL);
    TAP_OK(!mu_launch_start(&r, 1, &shell, &c, &l, &err) && settle(l, &t) == 0, "a rank of a process with odd signals");
    while (at < sizeof out - 1 && !(strstr(out, "Ign") && strchr(strstr(out, "Ign"), '\n') &&
                                    strchr(strchr(strstr(out, "Ign"), '\n') + 1, '\n'))) {
        if (wait_readable(c.out, 10000) != 1)
            break;
        ssize_t n = read(c.out, out + at, sizeof out - 1 - at);
        if (n <= 0)
            break;
        out[at += (size_t)n] = 0;
    }
    const char *ign = strstr(out, "SigIgn:");
    TAP_OK(strstr(out, "SigBlk:\t0000000000000000") && ign && strstr(ign, "\t0000000000000000"),
           "signals are as a program expects them (%.24s)", ign ? ign : "?");
    TAP_OK(strstr(out, "\n3\n") || strstr(out, "\n4\n"), "no descriptor but the three (and the shell's)");
    TAP_OK(getpgid(c.pid) == c.pid && getpgrp() != c.pid, "it leads a group of its own");
    kill(-c.pid, SIGTERM);
    waitpid(c.pid, &status, 0);
    TAP_OK(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM, "and can be ended by it");
    sigprocmask(SIG_UNBLOCK, &set, NULL);
    close(c.out);
    close(c.err);
}

/* A process in between starts a rank and is killed. */
static void orphan(void)
{
    char *argv[] = {S("sleep"), S("100"), NULL};
    struct mu_launch_rank r = {.argv = argv, .env = env};
    int report[2], status;
    pid_t rank = 0;

    prctl(PR_SET_CHILD_SUBREAPER, 1);
    if (pipe(report))
        exit(1);
    pid_t parent = fork();
    if (!parent) {
        struct mu_launch_trouble t;
        struct mu_launch *l;
        struct mu_child c;

        if (!mu_launch_start(&r, 1, &shell, &c, &l, NULL) && settle(l, &t) == 0 &&
            write(report[1], &c.pid, sizeof c.pid) == sizeof c.pid)
            pause();
        _exit(1);
    }
    close(report[1]);
    TAP_OK(read(report[0], &rank, sizeof rank) == sizeof rank && !kill(rank, 0), "a rank under another process");
    close(report[0]);
    kill(parent, SIGKILL);
    waitpid(parent, &status, 0);
    TAP_OK(waitpid(rank, &status, 0) == rank && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL,
           "dies with its parent");
}

static void binding(void)
{
    char *argv[] = {S("grep"), S("Cpus_allowed_list"), S("/proc/self/status"), NULL};
    struct mu_cpuset *cpus = calloc(2, sizeof *cpus);
    struct mu_bind *bind = calloc(1, sizeof *bind);
    struct mu_launch_rank r = {.argv = argv, .env = env, .bind = bind};
    struct mu_launch_trouble t = {0};
    struct mu_launch *l;
    struct mu_child c;
    struct mu_err err;
    char out[200], want[40];
    cpu_set_t mine;
    int cpu = 0, status;

    sched_getaffinity(0, sizeof mine, &mine);
    while (!CPU_ISSET(cpu, &mine))
        cpu++;
    mu_cpuset_set(&cpus[0], cpu);
    mu_bind_prepare(&cpus[0], &cpus[1], &cpus[1], bind, &err);
    TAP_OK(!mu_launch_start(&r, 1, &shell, &c, &l, &err) && settle(l, &t) == 0, "a bound rank");
    collect(c.out, out, sizeof out);
    snprintf(want, sizeof want, "Cpus_allowed_list:\t%d\n", cpu);
    TAP_OK(!strcmp(out, want), "is where it should be: %s", strtok(out, "\n"));
    waitpid(c.pid, &status, 0);
    close(c.err);

    memset(cpus, 0, 2 * sizeof *cpus);
    mu_cpuset_set(&cpus[0], 9999);
    mu_bind_prepare(&cpus[0], &cpus[1], &cpus[1], bind, &err);
    TAP_OK(!mu_launch_start(&r, 1, &shell, &c, &l, &err) && settle(l, &t) == 1 && !t.fatal,
           "a CPU that is not there is said and lived without: %s", t.text);
    waitpid(c.pid, &status, 0);
    TAP_OK(!status, "the program runs");
    close(c.out);
    close(c.err);
    mu_cpuset_set(&cpus[0], cpu);
    mu_bind_prepare(&cpus[0], &cpus[1], &cpus[1], bind, &err);
    TAP_OK(!mu_launch_start(&r, 1, &shell, &c, &l, &err) && settle(l, &t) == 1 && !t.fatal &&
               strstr(t.text, "not bound"),
           "so is one of two: %s", t.text);
    waitpid(c.pid, &status, 0);
    close(c.out);
    close(c.err);
    free(cpus);
    free(bind);
}

int main(void)
{
    for (int fd = 3; fd < 256; fd++) /* of whoever runs the test */
        fcntl(fd, F_SETFD, FD_CLOEXEC);
    if (!mkdtemp(dir))
        return 1;
    snprintf(path_env, sizeof path_env, "PATH=/nowhere::%s:/usr/bin:/bin", dir);
    put_file("plain", "text\n", 0600);
    put_file("binary",
             "\x7f"
             "ELF\necho is run by the shell\n",
             0700);
    put_file("lost", "#!/no/such/interpreter\n", 0700);
    put_file("say", "echo said $1\n", 0700);
    failures();
    several();
    state();
    orphan();
    binding();
    mu_path_remove_tree(dir, NULL);
    return tap_done();
}
