/* How processes are doing, from /proc and from files like those of cgroups. */
#include "runtime/base/procstate.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "runtime/base/clock.h"
#include "runtime/base/path.h"
#include "tests/unit/tap.h"

static bool becomes(pid_t pid, char letter)
{
    struct mu_proc_state st;
    uint64_t end = mu_now() + 10 * MU_SEC;

    while (mu_now() < end) {
        if (!mu_proc_state(pid, &st) && st.letter == letter)
            return true;
        nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
    }
    return false;
}

static void processes(void)
{
    struct mu_proc_state st;
    pid_t pid = fork();

    if (pid == 0) {
        setpgid(0, 0);
        for (;;)
            pause();
    }
    setpgid(pid, pid);
    TAP_OK(becomes(pid, 'S') && !mu_proc_stopped(pid), "a process that waits sleeps");
    TAP_OK(!mu_proc_state(pid, &st) && st.group == pid && st.cpu < 100, "its group and its CPU time");
    kill(pid, SIGSTOP);
    TAP_OK(becomes(pid, 'T') && mu_proc_stopped(pid) == 'T', "SIGSTOP stops it");
    kill(pid, SIGCONT);
    TAP_OK(becomes(pid, 'S') && !mu_proc_stopped(pid), "SIGCONT lets it go on");
    if (ptrace(PTRACE_SEIZE, pid, NULL, NULL) == 0 && ptrace(PTRACE_INTERRUPT, pid, NULL, NULL) == 0)
        TAP_OK(waitpid(pid, NULL, __WALL) == pid && mu_proc_stopped(pid) == 't', "so does a debugger");
    else
        TAP_OK(true, "so does a debugger (none may be one here)");
    kill(pid, SIGKILL);
    TAP_OK(becomes(pid, 'Z') && !mu_proc_stopped(pid), "a dead one is not stopped");
    waitpid(pid, NULL, 0);
    TAP_OK(mu_proc_state(pid, &st) < 0 && !mu_proc_stopped(pid) && !mu_proc_frozen(pid), "one that is gone is nothing");

    uint64_t until = mu_now() + 50 * MU_MS;
    while (mu_now() < until || mu_proc_state(getpid(), &st) || !st.cpu)
        ;
    TAP_OK(st.letter == 'R', "one that computes runs, and uses CPU time");
}

static void cgroups(void)
{
    static const struct {
        const char *text, *what;
        bool frozen;
    } rows[] = {
        {"0::/a\n", "version 2, frozen", true},
        {"0::/b\n", "version 2, not frozen", false},
        {"0::/d\n", "version 2 beside version 1, frozen", true},
        {"6:freezer:/c\n0::/b\n", "version 1, frozen", true},
        {"6:freezer:/b\n0::/b\n", "version 1, about to be", false},
        {"6:cpu:/c\n", "another controller of version 1", false},
        {"0::/none\n1:name=systemd:/a\n", "a cgroup that is not there", false},
        {"", "nothing", false},
        {"x\n:\n::\n", "garbage", false},
        {"0::/a", "without a newline", true},
    };
    char dir[] = "/tmp/procstate.XXXXXX", path[100];

    if (!mkdtemp(dir))
        exit(99);
    const char *dirs[] = {"a", "b", "unified", "unified/d", "freezer", "freezer/b", "freezer/c"};
    for (size_t i = 0; i < sizeof dirs / sizeof dirs[0]; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, dirs[i]);
        mkdir(path, 0700);
    }
    tap_write(dir, "a/cgroup.events", "populated 1\nfrozen 1\n");
    tap_write(dir, "b/cgroup.events", "populated 1\nfrozen 0\n");
    tap_write(dir, "unified/d/cgroup.events", "frozen 1\npopulated 1\n");
    tap_write(dir, "freezer/b/freezer.state", "FREEZING\n");
    tap_write(dir, "freezer/c/freezer.state", "FROZEN\n");
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        TAP_OK(mu_proc_frozen_at(rows[i].text, dir) == rows[i].frozen, "cgroups: %s", rows[i].what);
    mu_path_remove_tree(dir, NULL);

    /* a real one, where this account may make one */
    char real[] = "/sys/fs/cgroup/unified/muster-test.XXXXXX", v2[] = "/sys/fs/cgroup/muster-test.XXXXXX";
    char *group = mkdtemp(real) ? real : mkdtemp(v2) ? v2 : NULL;
    pid_t pid = group ? fork() : -1;
    if (pid == 0)
        for (;;)
            pause();
    snprintf(path, sizeof path, "%s/cgroup.freeze", group ? group : "");
    if (pid > 0 && access(path, W_OK) == 0) {
        char number[20];
        snprintf(number, sizeof number, "%d", (int)pid);
        tap_write(group, "cgroup.procs", number);
        bool before = mu_proc_stopped(pid);
        tap_write(group, "cgroup.freeze", "1");
        uint64_t end = mu_now() + 10 * MU_SEC;
        while (mu_proc_stopped(pid) != 'F' && mu_now() < end)
            ;
        TAP_OK(!before && mu_proc_stopped(pid) == 'F', "a real cgroup that is frozen");
        tap_write(group, "cgroup.freeze", "0");
    } else {
        TAP_OK(true, "a real cgroup that is frozen (none can be made here)");
    }
    if (pid > 0) {
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
    }
    for (int i = 0; group && i < 100 && rmdir(group); i++)
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
}

int main(void)
{
    processes();
    cgroups();
    TAP_OK(strstr(mu_proc_state_text('T'), "(state T)") && strstr(mu_proc_state_text('F'), "frozen") &&
               strstr(mu_proc_state_text('?'), "not known"),
           "states have texts");
    return tap_done();
}
