/* stall PID: the process's first thread never comes back from the wait that it is in; it looks asleep and lives on. */
#include <elf.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

/* It is behind the instruction of its system call: once more, but as one that waits for nothing and for ever. */
static bool turn(struct user_regs_struct *r)
{
#if defined __x86_64__
    if ((long)r->orig_rax < 0)
        return false; /* it is not in one */
    r->rip -= 2;
    r->rax = SYS_ppoll;
    r->orig_rax = (unsigned long)-1;
    r->rdi = r->rsi = r->rdx = r->r10 = 0;
    return true;
#else
    (void)r;
    return false;
#endif
}

int main(int argc, char **argv)
{
    pid_t pid = argc > 1 ? atoi(argv[1]) : 0;
    struct user_regs_struct r = {0};
    struct iovec io = {&r, sizeof r};
    int status;

    for (int i = 0; pid > 1 && i < 100; i++) {
        if (ptrace(PTRACE_ATTACH, pid, 0, 0) || waitpid(pid, &status, __WALL) != pid)
            break;
        bool good = !ptrace(PTRACE_GETREGSET, pid, NT_PRSTATUS, &io) && turn(&r) &&
                    !ptrace(PTRACE_SETREGSET, pid, NT_PRSTATUS, &io);
        if (!ptrace(PTRACE_DETACH, pid, 0, 0) && good)
            return 0;
        usleep(3000);
    }
    perror("stall");
    return 1;
}
