#include "runtime/keeper/bound.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/base/clean.h"
#include "runtime/base/clock.h"
#include "tests/unit/tap.h"

#define S(text) ((char *)(uintptr_t)(text))

static int first = -1, second = -1; /* CPUs */
static char text[400];

static void policies(void)
{
    static const struct {
        const char *line, *is;
    } rows[] = {
        {"55d0c4a00000 default file=/bin/cat mapped=8 N0=8 kernelpagesize_kB=4", ""},
        {"55d0c4a00000 bind:0 file=/bin/cat mapped=8 N0=8", "0"},
        {"55d0c4a00000 bind:0-1,8\n55d0c4a01000 default", "0-1,8"},
        {"55d0c4a00000 bind=static:3 anon=1", "3"},
        {"55d0c4a00000 prefer:1 anon=1", ""},
        {"55d0c4a00000 interleave:0-3", ""},
        {"55d0c4a00000 bind", ""},
        {"55d0c4a00000", ""},
        {"", ""},
    };

    for (size_t i = 0; i < MU_COUNT(rows); i++) {
        char got[64];
        mu_bound_policy(rows[i].line, got, sizeof got);
        TAP_OK(!strcmp(got, rows[i].is), "line %zu: '%s'", i, got);
    }
}

static void go_to(pid_t pid, int cpu)
{
    cpu_set_t s;

    CPU_ZERO(&s);
    CPU_SET(cpu, &s);
    if (sched_setaffinity(pid, sizeof s, &s))
        exit(1);
}

/* A process that sleeps, with one below it when kid is asked for; both are on `cpu`. */
static pid_t sleeper(int cpu, pid_t *kid)
{
    int fds[2];

    if (pipe(fds))
        exit(1);
    pid_t pid = fork();
    if (!pid) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        go_to(0, cpu);
        pid_t below = kid ? fork() : 0;
        if (kid && !below) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            below = getpid();
        } else if (kid) {
            fds[1] = -1; /* the one below says that it is there, when it ends with us */
        }
        if (fds[1] >= 0 && write(fds[1], &below, sizeof below) < 0)
            _exit(1);
        for (;;)
            pause();
    }
    pid_t below = 0;
    if (pid < 0 || read(fds[0], &below, sizeof below) != sizeof below)
        exit(1);
    if (kid)
        *kid = below;
    close(fds[0]);
    close(fds[1]);
    return pid;
}

static void end(pid_t pid)
{
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

static void cpus(void)
{
    char a[16], b[16], *sets[] = {a, b, S(""), NULL};
    struct mu_m_start start = {.cpusets = sets};

    snprintf(a, sizeof a, "%d", first);
    snprintf(b, sizeof b, "%d", second);
    struct mu_bound *w = mu_bound_new(&start, 3);
    pid_t p = sleeper(first, NULL);

    TAP_OK(!mu_bound_look(w, 0, p, 0, 0, true, text, sizeof text), "where it was bound to");
    TAP_OK(!mu_bound_look(w, 2, p, 0, 0, true, text, sizeof text) &&
               !mu_bound_look(w, 7, p, 0, 0, true, text, sizeof text),
           "a rank that is not bound may be anywhere");
    go_to(p, second);
    TAP_OK(!mu_bound_look(w, 0, p, 0, 1000, false, text, sizeof text), "elsewhere for a moment is nothing");
    TAP_OK(!mu_bound_look(w, 0, p, 0, 600 * MU_MS, false, text, sizeof text), "nor for as long as a busy CPU takes");
    go_to(p, first);
    TAP_OK(!mu_bound_look(w, 0, p, 0, 2 * MU_BOUND_AGAIN, false, text, sizeof text), "when it is back");
    go_to(p, second);
    TAP_OK(!mu_bound_look(w, 0, p, 0, 3 * MU_BOUND_AGAIN, false, text, sizeof text) &&
               mu_bound_look(w, 0, p, 0, 4 * MU_BOUND_AGAIN, false, text, sizeof text),
           "when it stays it is told: %s", text);
    char want[100];
    snprintf(want, sizeof want, "wanted CPUs %d, found %d", first, second);
    TAP_OK(strstr(text, want) && !mu_bound_look(w, 0, p, 0, 9 * MU_BOUND_AGAIN, false, text, sizeof text), "once");
    end(p);
    TAP_OK(!mu_bound_look(w, 1, p, 0, 0, true, text, sizeof text), "who is gone is nowhere wrong");
    mu_bound_free(w);

    w = mu_bound_new(&start, 3);
    p = sleeper(first, NULL);
    pid_t q = sleeper(second, NULL), kid;
    TAP_OK(mu_bound_look(w, 0, p, q, 0, true, text, sizeof text) && strstr(text, "of its process"),
           "the process that is in the library counts, and a last look is enough: %s", text);
    end(p);
    end(q);
    p = sleeper(second, &kid);
    TAP_OK(!mu_bound_look(w, 1, p, 0, 0, true, text, sizeof text), "with a child where it is");
    go_to(kid, first);
    TAP_OK(mu_bound_look(w, 1, p, 0, 0, true, text, sizeof text) && strstr(text, "of its process"),
           "a child elsewhere is told: %s", text);
    end(p);
    mu_bound_free(w);

    snprintf(a, sizeof a, "%d,%d", first < second ? first : second, first < second ? second : first);
    w = mu_bound_new(&start, 1);
    p = sleeper(first, &kid);
    cpu_set_t both;
    CPU_ZERO(&both);
    CPU_SET(first, &both);
    CPU_SET(second, &both);
    if (sched_setaffinity(p, sizeof both, &both))
        exit(1);
    TAP_OK(!mu_bound_look(w, 0, p, 0, 0, true, text, sizeof text), "a child may have a part of it");
    go_to(p, first);
    TAP_OK(mu_bound_look(w, 0, p, 0, 0, true, text, sizeof text), "the rank itself is to have all of it: %s", text);
    end(p);
    mu_bound_free(w);
}

static void often(void)
{
    char *sets[] = {S("0"), S(""), NULL};
    struct mu_m_start start = {.cpusets = sets};
    struct mu_bound *w = mu_bound_new(&start, 2);
    unsigned looks = 0;

    for (uint64_t age = 0; age < 60 * MU_SEC; age += 20 * MU_MS)
        looks += mu_bound_due(w, 0, age);
    TAP_OK(looks > 30 && looks < 60 && !mu_bound_due(w, 1, MU_SEC),
           "%u looks in the first minute, none without a binding", looks);
    mu_bound_free(w);
    mu_bound_free(NULL);
}

static void memory(void)
{
    char *sets[2] = {NULL, NULL}, *nodes[] = {S("0"), NULL}, a[16];
    struct mu_m_start start = {.cpusets = sets, .nodesets = nodes};
    unsigned long mask = 1;

    snprintf(a, sizeof a, "%d", first);
    sets[0] = a;
    if (access("/proc/self/numa_maps", R_OK) || syscall(SYS_set_mempolicy, 0, NULL, 0)) {
        TAP_SKIP("no memory policies here");
        return;
    }
    struct mu_bound *w = mu_bound_new(&start, 1);
    pid_t p = sleeper(first, NULL);
    TAP_OK(mu_bound_look(w, 0, p, 0, 0, true, text, sizeof text) &&
               strstr(text, "wanted NUMA nodes 0, found no binding"),
           "memory that is not bound is told: %s", text);
    end(p);
    if (syscall(SYS_set_mempolicy, 2, &mask, 64))
        exit(1);
    p = sleeper(first, NULL);
    syscall(SYS_set_mempolicy, 0, NULL, 0);
    TAP_OK(!mu_bound_look(w, 0, p, 0, 0, true, text, sizeof text), "and what is, is well");
    end(p);
    mu_bound_free(w);
}

int main(void)
{
    cpu_set_t all;

    policies();
    often();
    sched_getaffinity(0, sizeof all, &all);
    for (int i = 0; i < CPU_SETSIZE; i++)
        if (CPU_ISSET(i, &all)) {
            second = first < 0 ? -1 : second < 0 ? i : second;
            first = first < 0 ? i : first;
        }
    if (second < 0)
        TAP_SKIP("one CPU: nothing can be moved");
    else
        cpus();
    memory();
    return tap_done();
}
