#include "topo/bind.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/base/clean.h"
#include "tests/unit/tap.h"

/* The CPUs that this test may use. */
static struct mu_cpuset mine(void)
{
    struct mu_cpuset s = {{0}};

    if (syscall(SYS_sched_getaffinity, 0, sizeof s.w, s.w) < 0)
        exit(1);
    return s;
}

static struct mu_cpuset only(int i)
{
    struct mu_cpuset s = {{0}};

    mu_cpuset_set(&s, i);
    return s;
}

struct child {
    pid_t pid;
    int go, said; /* we write a byte, it answers with one */
};

/* A process that binds itself, says how that went, and on the next byte takes the mask `later` instead. */
static struct child start(const struct mu_bind *b, const struct mu_cpuset *later)
{
    int to[2], from[2];
    struct child c;

    if (pipe(to) || pipe(from) || (c.pid = fork()) < 0)
        exit(1);
    if (c.pid == 0) {
        int mem;
        char byte = (char)-mu_bind_apply(b, &mem);
        close(to[1]);
        if (write(from[1], &byte, 1) != 1)
            _exit(1);
        while (read(to[0], &byte, 1) == 1) {
            byte = syscall(SYS_sched_setaffinity, 0, sizeof later->w, later->w) < 0;
            if (write(from[1], &byte, 1) != 1)
                break;
        }
        _exit(0);
    }
    close(to[0]);
    close(from[1]);
    c.go = to[1];
    c.said = from[0];
    return c;
}

static int answer(struct child *c)
{
    char byte = -1;
    return read(c->said, &byte, 1) == 1 ? byte : -1;
}

static int poke(struct child *c)
{
    return write(c->go, "x", 1) == 1 ? answer(c) : -1;
}

static void end(struct child *c)
{
    close(c->go);
    close(c->said);
    waitpid(c->pid, NULL, 0);
}

static void bound_and_verified(void)
{
    struct mu_cpuset all = mine(), one = only(mu_cpuset_next(&all, -1)), found = {{0}}, node = only(0);
    struct mu_bind b;
    struct mu_err err = {0};

    TAP_OK(mu_bind_prepare(&one, &node, &node, &b, NULL) == 0 && !b.bind_memory, "all nodes: memory stays free");
    struct child c = start(&b, &all);
    TAP_OK(answer(&c) == 0, "a forked child binds itself");
    TAP_OK(mu_bind_verify(c.pid, &one, &found, &err) == 0 && mu_cpuset_equal(&found, &one), "seen from outside");
    struct mu_cpuset now = mine();
    TAP_OK(mu_cpuset_equal(&now, &all), "the parent's mask is as it was");

    if (mu_cpuset_weight(&all) > 1) {
        TAP_OK(poke(&c) == 0, "the child undoes it");
        int rc = mu_bind_verify(c.pid, &one, &found, &err);
        TAP_OK(rc == MUSTER_ENODE && mu_cpuset_equal(&found, &all) && strstr(err.text, "instead of"),
               "which is detected: %s", err.text);
        TAP_OK(mu_bind_verify(c.pid, &one, NULL, NULL) == MUSTER_ENODE, "also without outputs");
    } else {
        TAP_SKIP("one CPU only: no other mask to take");
    }
    end(&c);
    found = node;
    TAP_OK(mu_bind_verify(c.pid, &one, &found, &err) == MUSTER_EJOB && mu_cpuset_equal(&found, &node),
           "a process that has ended: %s", err.text);
}

static void exec_keeps_it(void)
{
    struct mu_cpuset all = mine(), one = only(mu_cpuset_next(&all, -1)), node = only(0);
    struct mu_bind b;
    int status = -1;

    mu_bind_prepare(&one, &node, &node, &b, NULL);
    pid_t pid = fork();
    if (pid == 0) {
        int mem;
        if (mu_bind_apply(&b, &mem) == 0)
            execlp("sleep", "sleep", "30", (char *)NULL);
        _exit(127);
    }
    char comm[32] = "", path[64];
    snprintf(path, sizeof path, "/proc/%d/comm", (int)pid);
    for (int i = 0; i < 2000 && strcmp(comm, "sleep\n"); i++) {
        usleep(1000);
        mu_auto_file FILE *f = fopen(path, "re");
        if (f && !fgets(comm, sizeof comm, f))
            comm[0] = '\0';
    }
    TAP_OK(!strcmp(comm, "sleep\n") && mu_bind_verify(pid, &one, NULL, NULL) == 0, "the mask survives exec");
    kill(pid, SIGKILL);
    waitpid(pid, &status, 0);
}

static void failures(void)
{
    struct mu_cpuset all = mine(), none = {{0}}, absent = only(MU_CPUSET_MAX - 1), nodes = {{0}};
    struct mu_bind b;
    struct mu_err err = {0};

    TAP_OK(mu_bind_prepare(&none, &none, &none, &b, &err) == MUSTER_EARG, "%s", err.text);
    mu_bind_prepare(&absent, &none, &none, &b, NULL);
    struct child c = start(&b, &all);
    TAP_OK(answer(&c) == EINVAL, "a CPU that is not there is refused with its errno");
    TAP_OK(mu_bind_verify(c.pid, &all, NULL, NULL) == 0, "and the mask stays");
    end(&c);

    mu_cpuset_set(&nodes, 0);
    mu_cpuset_set(&nodes, 1);
    struct mu_cpuset one = only(0), two = only(1);
    TAP_OK(!mu_bind_prepare(&all, &one, &nodes, &b, NULL) && b.bind_memory, "a part of the nodes binds memory");
    TAP_OK(!mu_bind_prepare(&all, &none, &nodes, &b, NULL) && !b.bind_memory, "no nodes do not");
    TAP_OK(!mu_bind_prepare(&all, &two, &one, &b, NULL) && !b.bind_memory, "nodes that are not allowed do not");
}

/* In a child: binds memory to node 0 and asks the kernel. 0 holds, else an errno. */
static void memory(void)
{
    struct mu_cpuset all = mine(), one = only(0), nodes = only(0);
    struct mu_bind b;
    int status = -1, mem;

    mu_cpuset_set(&nodes, 1);
    mu_bind_prepare(&all, &one, &nodes, &b, NULL);
    pid_t pid = fork();
    if (pid == 0) {
        int mode = -1;
        struct mu_cpuset got = {{0}};
        if (mu_bind_apply(&b, &mem) || mem)
            _exit(mem ? mem : 1);
        if (syscall(SYS_get_mempolicy, &mode, got.w, (unsigned long)MU_CPUSET_MAX, NULL, 0))
            _exit(errno);
        _exit(mode == 2 && mu_cpuset_equal(&got, &one) ? 0 : 255);
    }
    waitpid(pid, &status, 0);
    int e = WIFEXITED(status) ? WEXITSTATUS(status) : 255;
    if (e == EPERM || e == ENOSYS)
        TAP_SKIP("the kernel does not let this container bind memory");
    else
        TAP_OK(e == 0, "memory is bound to node 0 (%d)", e);

    struct mu_cpuset gone = only(MU_CPUSET_MAX - 1);
    mu_cpuset_set(&nodes, MU_CPUSET_MAX - 1);
    mu_bind_prepare(&all, &gone, &nodes, &b, NULL);
    pid = fork();
    if (pid == 0) {
        int rc = mu_bind_apply(&b, &mem);
        _exit(rc == 0 && mem != 0 ? 0 : 1);
    }
    waitpid(pid, &status, 0);
    TAP_OK(status == 0, "memory that cannot be bound is reported, the CPUs are bound");
}

int main(void)
{
    bound_and_verified();
    exec_keeps_it();
    failures();
    memory();
    return tap_done();
}
