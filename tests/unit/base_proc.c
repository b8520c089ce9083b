#include "runtime/base/proc.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>

#include "runtime/base/clean.h"
#include "runtime/base/clock.h"
#include "tests/unit/tap.h"

#define DAEMON_FD 60 /* of a pipe: the daemonised grandchild says that it has begun */

static struct mu_err err;
static char self[4096];
static uint32_t pool;

static void tags(void)
{
    static const struct {
        const char *in;
        int rc;
        struct mu_proc_tag out;
    } rows[] = {
        {"0000abcd.7.3", 0, {0xabcd, 7, 3}},
        {"ffffffff.18446744073709551615.4294967295", 0, {UINT32_MAX, UINT64_MAX, UINT32_MAX}},
        {"ffffffff.18446744073709551616.1", MUSTER_EARG, {0, 0, 0}},
        {"ffffffff.1.4294967296", MUSTER_EARG, {0, 0, 0}},
        {"fffffff.1.1", MUSTER_EARG, {0, 0, 0}},
        {"FFFFFFFF.1.1", MUSTER_EARG, {0, 0, 0}},
        {"00000001.1", MUSTER_EARG, {0, 0, 0}},
        {"00000001..1", MUSTER_EARG, {0, 0, 0}},
        {"00000001.1.1x", MUSTER_EARG, {0, 0, 0}},
        {"", MUSTER_EARG, {0, 0, 0}},
    };
    char buf[MU_PROC_TAG_SIZE];

    for (size_t i = 0; i < MU_COUNT(rows); i++) {
        struct mu_proc_tag t = {1, 2, 3};
        int rc = mu_proc_tag_parse(rows[i].in, &t);
        bool same = rc ? t.pool == 1 && t.job == 2 && t.attempt == 3
                       : t.pool == rows[i].out.pool && t.job == rows[i].out.job && t.attempt == rows[i].out.attempt;
        TAP_OK(rc == rows[i].rc && same, "tag '%s'", rows[i].in);
        if (rc == 0)
            TAP_OK(!strcmp(mu_proc_tag_format(buf, &t) + 11, rows[i].in), "and back");
    }
}

/* Starts this program again, tagged, in a role of main(). */
static pid_t start(uint64_t job, uint32_t attempt, const char *role)
{
    char tag[MU_PROC_TAG_SIZE];
    char *const argv[] = {self, (char *)role, NULL};
    char *const envp[] = {(char *)"PATH=/usr/bin:/bin",
                          mu_proc_tag_format(tag, &(struct mu_proc_tag){pool, job, attempt}), NULL};
    pid_t pid = fork();

    if (pid == 0) {
        execve(self, argv, envp);
        _exit(127);
    }
    return pid;
}

static int count(uint64_t job, uint32_t attempt)
{
    return mu_proc_count_tagged(&(struct mu_proc_sweep){.pool = pool, .job = job, .attempt = attempt}, &err);
}

static bool wait_count(uint64_t job, int want)
{
    for (uint64_t end = mu_now() + 20 * MU_SEC; mu_now() < end; usleep(2000))
        if (count(job, 0) == want)
            return true;
    return false;
}

static void identity(void)
{
    struct mu_proc p, q = {.pid = 5, .start = 6, .fd = 7};
    uint64_t a, b;
    pid_t pid = fork();

    if (pid == 0) {
        prctl(PR_SET_NAME, ") Z 1 (");
        pause();
        _exit(0);
    }
    TAP_OK(mu_proc_start(getpid(), &a) == 0 && a > 0, "our own start time");
    usleep(20000);
    TAP_OK(mu_proc_start(pid, &b) == 0 && b >= a, "a child's, whose name looks like fields of its own");
    TAP_OK(mu_proc_open(pid, &p, &err) == 0 && p.start == b && mu_proc_alive(&p), "open: it is alive");
    TAP_OK(p.fd < 0 || (fcntl(p.fd, F_GETFD) & FD_CLOEXEC), "close on exec");
    struct mu_proc other = p;
    other.start++;
    other.fd = -1;
    TAP_OK(!mu_proc_alive(&other), "the same pid with another start time is not it");
    TAP_OK(mu_proc_signal(&other, SIGKILL, &err) == 0 && mu_proc_alive(&p), "and is not signalled");
    struct mu_proc nofd = p;
    nofd.fd = -1;
    TAP_OK(mu_proc_signal(&nofd, SIGKILL, &err) == 0, "signal without a pidfd");
    if (p.fd >= 0) {
        struct pollfd f = {.fd = p.fd, .events = POLLIN};
        TAP_OK(poll(&f, 1, 5000) == 1, "the pidfd tells the end");
    } else {
        TAP_SKIP("kernel without pidfd_open");
    }
    siginfo_t si;
    waitid(P_PID, (id_t)pid, &si, WEXITED | WNOWAIT);
    TAP_OK(!mu_proc_alive(&p) && mu_proc_start(pid, &b) == 0, "a zombie is not alive, but has its start time");
    waitpid(pid, NULL, 0);
    TAP_OK(mu_proc_signal(&p, SIGKILL, &err) == 0 && mu_proc_signal(&nofd, SIGKILL, &err) == 0,
           "a signal to what has ended is no error");
    TAP_OK(mu_proc_open(pid, &q, &err) == MUSTER_EARG && q.pid == 5 && q.fd == 7, "open of what has ended: %s",
           err.text);
    TAP_OK(mu_proc_open(0, &q, &err) == MUSTER_EARG && mu_proc_open(-1, &q, &err) == MUSTER_EARG, "no such pids");
    mu_proc_close(&p);
    TAP_OK(p.fd == -1, "close");
}

static void reap(void)
{
    while (waitpid(-1, NULL, WNOHANG) > 0)
        ;
}

static void sweeps(void)
{
    struct mu_proc_toll toll = {.killed = -1};
    struct mu_proc_sweep all = {.pool = pool}, one = {.pool = pool, .job = 1},
                         late = {.pool = pool, .job = 2, .attempt = 1};

    TAP_OK(mu_proc_kill_tagged(&all, 1000, &toll, &err) == 0 && toll.killed == 0, "nothing to kill");
    start(1, 1, "sleep");
    start(1, 2, "sleep");
    int told[2];
    char byte;
    if (pipe(told) || dup2(told[1], DAEMON_FD) < 0)
        exit(99);
    start(2, 1, "daemon"); /* ends at once, leaves a grandchild in a session of its own */
    close(DAEMON_FD);
    close(told[1]);
    TAP_OK(read(told[0], &byte, 1) == 1, "a daemonised grandchild has begun");
    close(told[0]);
    pid_t spared = start(2, 2, "sleep");
    bool counted = false; /* its parents are seen for a moment more */
    for (uint64_t end = mu_now() + 20 * MU_SEC; !counted && mu_now() < end; usleep(2000))
        counted = count(2, 1) == 1 && count(2, 2) == 1 && count(1, 0) == 2 && count(1, 2) == 1 && count(0, 0) == 4;
    TAP_OK(counted && count(3, 0) == 0, "tagged processes are counted by job and attempt, a daemonised grandchild too");
    TAP_OK(mu_proc_kill_tagged(&one, 10000, &toll, &err) == 0 && toll.killed == 2 && count(1, 0) == 0 &&
               count(2, 0) == 2,
           "a job is killed, the other one is not");
    TAP_OK(mu_proc_kill_tagged(&late, 10000, &toll, &err) == 0 && toll.killed == 1 && count(2, 0) == 1,
           "an attempt is killed, daemonised grandchild and all");
    all.spare = &spared;
    all.nspare = 1;
    TAP_OK(mu_proc_kill_tagged(&all, 10000, &toll, &err) == 0 && toll.killed == 0 && kill(spared, 0) == 0 &&
               count(2, 2) == 1,
           "a spared pid lives");
    reap();
    all.nspare = 0;
    TAP_OK(mu_proc_kill_tagged(&(struct mu_proc_sweep){.pool = pool ^ 1}, 1000, &toll, &err) == 0 && toll.killed == 0 &&
               count(2, 2) == 1,
           "another pool's sweep leaves it alone");
    start(4, 1, "threads"); /* the first thread ends, another one runs on */
    TAP_OK(wait_count(4, 1), "a process whose first thread has ended");
    usleep(50000);
    TAP_OK(count(4, 0) == 1, "is still seen");
    start(5, 1, "forker"); /* keeps forking children that fork and end */
    start(6, 1, "ignore");
    TAP_OK(wait_count(5, 1) && wait_count(6, 1), "both have started");
    int chain = 0;
    for (int i = 0; i < 20; i++, usleep(5000))
        chain += count(5, 0) > 0;
    TAP_OK(chain == 20 && count(0, 0) >= 4, "a process that lives on in child after child is seen (%d of 20)", chain);
    TAP_OK(mu_proc_kill_tagged(&all, 20000, &toll, &err) == 0 && toll.killed >= 4, "all are killed, forking or not");
    TAP_OK(count(0, 0) == 0, "none is left");
    usleep(30000);
    TAP_OK(count(0, 0) == 0, "and none comes back");
    reap();
}

/* One of families() is another program by now. */
static bool has_become(pid_t pid)
{
    char path[40], name[8] = "";

    snprintf(path, sizeof path, "/proc/%ld/cmdline", (long)pid);
    FILE *f = fopen(path, "re");
    size_t n = f ? fread(name, 1, sizeof name - 1, f) : 0;
    if (f)
        fclose(f);
    return n && (!strcmp(name, "child") || !strcmp(name, "muster"));
}

/* A tree without tags: a parent, its child in a session of its own, and what calls itself a daemon of muster, with a
 * child. */
static void families(void)
{
    struct mu_proc_sweep below = {.pool = pool, .job = 77};
    struct mu_proc_toll toll;
    int fds[2];
    pid_t pids[4] = {0}, parent;

    if (pipe(fds))
        return;
    parent = fork();
    if (!parent) {
        static const char *const names[][2] = {{"child", "sleep"}, {"muster", "agent"}, {"muster", "run"}};
        for (int i = 0; i < 3; i++) {
            char *const argv[] = {(char *)names[i][0], (char *)names[i][1], NULL}, *const none[] = {NULL};
            pids[i] = fork();
            if (!pids[i]) {
                setsid();
                if (i == 1 && (pids[3] = fork()) && write(fds[1], &pids[3], sizeof *pids) != sizeof *pids)
                    _exit(1);
                if (i == 1 && !pids[3])
                    execve(self, (char *const[]){(char *)"child", (char *)"sleep", NULL}, none);
                execve(self, argv, none);
                _exit(1);
            }
        }
        if (write(fds[1], pids, 3 * sizeof *pids) < 0)
            _exit(1);
        pause();
        _exit(0);
    }
    pid_t got[4];
    size_t n = 0;
    for (ssize_t r; n < sizeof got && (r = read(fds[0], (char *)got + n, sizeof got - n)) > 0;)
        n += (size_t)r;
    for (int i = 0; i < 4; i++)
        for (int tries = 0; tries < 500 && !has_become(got[i]); tries++)
            usleep(10000);
    /* the pids came in either order: the agent's child is nobody's child of the parent */
    TAP_OK(n == sizeof got && mu_proc_kill_tagged(&below, 5000, &toll, &err) == 0 && toll.killed == 0,
           "without a tag nothing is found");
    below.below = parent;
    TAP_OK(mu_proc_kill_tagged(&below, 5000, &toll, &err) == 0 && toll.killed == 2 && !toll.denied,
           "below a process its descendants are, but for a daemon and its child (%d)", toll.killed);
    reap();
    int alive = 0;
    for (int i = 0; i < 4; i++) {
        struct mu_proc p;
        if (mu_proc_open(got[i], &p, NULL))
            continue;
        alive += mu_proc_alive(&p);
        mu_proc_close(&p);
        kill(got[i], SIGKILL);
    }
    TAP_OK(alive == 2 && !kill(parent, 0), "those two and the process itself live");
    below.below = getpid();
    below.spare = &parent;
    below.nspare = 1;
    TAP_OK(mu_proc_kill_tagged(&below, 5000, &toll, &err) == 0 && !kill(parent, 0), "a spared one, too");
    kill(parent, SIGKILL);
    if (geteuid() == 0) {
        int program = open(self, O_RDONLY | O_CLOEXEC); /* others may have no way to it */
        pid_t other = fork();
        if (!other) {
            if (setresuid(65534, 65534, 65534))
                _exit(1);
            fexecve(program, (char *const[]){(char *)"child", (char *)"sleep", NULL},
                    (char *const[]){(char *)"MUSTER_TAG=00000001.88.1", NULL});
            _exit(1);
        }
        struct mu_proc_sweep tagged = {.pool = 1, .job = 88};
        for (int i = 0; i < 1000 && mu_proc_count_tagged(&tagged, &err) != 1; i++)
            usleep(5000);
        TAP_OK(mu_proc_kill_tagged(&tagged, 5000, &toll, &err) == 0 && toll.killed == 1,
               "root finds other users' tags");
        int status = 0;
        pid_t drop = fork();
        if (!drop) {
            pid_t mine = fork();
            if (!mine)
                pause();
            if (setresuid(65534, 65534, 65534))
                _exit(1);
            struct mu_proc_sweep kids = {.pool = pool, .job = 77, .below = getpid()};
            bool good = mu_proc_kill_tagged(&kids, 5000, &toll, &err) == 0 && toll.killed == 0 && toll.denied == 1 &&
                        toll.pid == mine && toll.uid == 0 && !strcmp(toll.name, "base_proc");
            _exit(good ? 0 : 1);
        }
        waitpid(drop, &status, 0);
        TAP_OK(status == 0, "what may not be signalled is told and not waited for");
        below = (struct mu_proc_sweep){.pool = pool, .job = 77, .below = getpid()};
        mu_proc_kill_tagged(&below, 5000, NULL, &err);
    } else {
        TAP_SKIP("needs root to become other users");
    }
    close(fds[0]);
    close(fds[1]);
    reap();
}

static int stop_at_first(pid_t pid, const struct mu_proc_tag *tag, void *arg)
{
    if (tag->pool == pool)
        *(pid_t *)arg = pid;
    return tag->pool == pool ? 17 : 0;
}

static void scanning(void)
{
    pid_t pid = start(9, 1, "sleep"), found = 0;

    TAP_OK(wait_count(9, 1) && mu_proc_scan(stop_at_first, &found, &err) == 17 && found == pid,
           "a scan stops when its function says so");
    TAP_OK(mu_proc_kill_tagged(&(struct mu_proc_sweep){.pool = pool, .job = 9}, 0, NULL, &err) <= 0, "a deadline of 0");
    TAP_OK(mu_proc_kill_tagged(&(struct mu_proc_sweep){.pool = pool, .job = 9}, 5000, NULL, &err) == 0 &&
               waitpid(pid, NULL, 0) == pid,
           "and with time it is gone");
}

static void *linger(void *arg)
{
    (void)arg;
    sleep(60);
    _exit(0);
}

static int role(const char *name)
{
    pthread_t t;

    if (!strcmp(name, "ignore"))
        for (int s = 1; s < 32; s++)
            signal(s, SIG_IGN);
    if (!strcmp(name, "daemon")) {
        if (fork())
            _exit(0);
        setsid();
        if (fork() || write(DAEMON_FD, "x", 1) != 1)
            _exit(0);
        close(DAEMON_FD);
    }
    if (!strcmp(name, "threads")) {
        pthread_create(&t, NULL, linger, NULL);
        pthread_exit(NULL);
    }
    if (!strcmp(name, "forker")) {
        /* A chain: each child goes on where its parent ended. */
        for (uint64_t end = mu_now() + 20 * MU_SEC; mu_now() < end;) {
            pid_t pid = fork();
            if (pid > 0)
                _exit(0);
            usleep(1000);
        }
        _exit(0);
    }
    sleep(60);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc > 1)
        return role(argv[1]);
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (n <= 0)
        return 1;
    pool = 0xfe000000u | (uint32_t)getpid();
    /* Orphans come to us, so that the test leaves no zombies to others. */
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    tags();
    identity();
    sweeps();
    families();
    scanning();
    while (waitpid(-1, NULL, 0) > 0)
        ;
    return tap_done();
}
