#include "runtime/agent/checker.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "runtime/base/clean.h"
#include "runtime/wire/daemon.h"

int mu_checker_start(struct mu_checker *c, struct event_base *base, const char *option, mu_link_msg_fn on_msg,
                     mu_link_down_fn on_down, void *arg, struct mu_err *err)
{
    char name[] = "muster", cmd[] = "check", flag[] = "--fd", number[16];
    char *argv[] = {name, cmd, flag, number, (char *)(uintptr_t)option, NULL};
    int fds[2];
    pid_t pid;

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds))
        return mu_err_errno(err, 0, "cannot make a socket");
    snprintf(number, sizeof number, "%d", fds[1]);
    int rc = mu_daemon_helper(argv, fds[1], NULL, NULL, &pid, err);
    close(fds[1]);
    if (!rc && mu_proc_open(pid, &c->proc, NULL))
        c->proc = MU_CHECKER_NONE.proc; /* it has ended already */
    c->link = rc ? NULL : mu_link_new(base, fds[0], on_msg, on_down, arg);
    if (rc)
        close(fds[0]);
    return rc || c->link ? rc : mu_err_set(err, MUSTER_ENOMEM, "out of memory");
}

void mu_checker_end(struct mu_checker *c)
{
    mu_link_free(MU_STEAL(c->link, NULL));
    if (c->proc.pid <= 0)
        return;
    if (mu_proc_alive(&c->proc))
        kill(-c->proc.pid, SIGKILL);
    mu_proc_signal(&c->proc, SIGKILL, NULL);
    mu_proc_close(&c->proc);
    c->proc = MU_CHECKER_NONE.proc;
}
