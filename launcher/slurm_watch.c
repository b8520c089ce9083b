#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "launcher/slurm.h"
#include "runtime/base/buf.h"
#include "runtime/base/clean.h"
#include "runtime/base/clock.h"

#define FIRST_NS (3 * MU_SEC)
#define EVERY_NS (5 * MU_SEC) /* Slurm's controller serves many */
#define ANSWER_NS (20 * MU_SEC)

struct mu_slurm_watch {
    char job[32];
    uint64_t at; /* of the next question; while one is asked: when it is given up */
    pid_t pid;   /* squeue; 0: none */
    int fd;
    struct mu_buf said;
};

struct mu_slurm_watch *mu_slurm_watch_new(const char *job)
{
    struct mu_slurm_watch *w = calloc(1, sizeof *w);

    if (!w)
        return NULL;
    snprintf(w->job, sizeof w->job, "%s", job);
    w->fd = -1;
    w->at = mu_now() + FIRST_NS;
    return w;
}

/* Its wait status. */
static int end(struct mu_slurm_watch *w, bool kill_it)
{
    int status = -1;

    if (w->pid && kill_it)
        kill(w->pid, SIGKILL);
    while (w->pid && waitpid(w->pid, &status, 0) < 0 && errno == EINTR)
        ;
    w->pid = 0;
    if (w->fd >= 0)
        close(MU_STEAL(w->fd, -1));
    return status;
}

void mu_slurm_watch_free(struct mu_slurm_watch *w)
{
    if (!w)
        return;
    end(w, true);
    mu_buf_free(&w->said);
    free(w);
}

int mu_slurm_watch_fd(const struct mu_slurm_watch *w)
{
    return w->fd;
}

uint64_t mu_slurm_watch_at(const struct mu_slurm_watch *w)
{
    return w->at;
}

/* A group of its own: what the terminal sends to ours is not for it. */
static void ask(struct mu_slurm_watch *w, uint64_t now)
{
    extern char **environ;
    char name[] = "squeue", bare[] = "--noheader", states[] = "--states=all", format[] = "--format=%T", jobs[48];
    char *argv[] = {name, bare, states, format, jobs, NULL};
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attr;
    sigset_t all;
    int fds[2];

    snprintf(jobs, sizeof jobs, "--jobs=%s", w->job);
    w->at = now + EVERY_NS;
    if (pipe2(fds, O_CLOEXEC))
        return;
    sigfillset(&all);
    int rc = posix_spawn_file_actions_init(&files) || posix_spawnattr_init(&attr);
    rc = rc || posix_spawnattr_setpgroup(&attr, 0) || posix_spawnattr_setsigdefault(&attr, &all) ||
         posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGDEF) ||
         posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0) ||
         posix_spawn_file_actions_adddup2(&files, fds[1], 1) || posix_spawn_file_actions_adddup2(&files, fds[1], 2) ||
         posix_spawnp(&w->pid, argv[0], &files, &attr, argv, environ);
    posix_spawnattr_destroy(&attr);
    posix_spawn_file_actions_destroy(&files);
    close(fds[1]);
    if (rc) {
        close(fds[0]);
        w->pid = 0;
        return;
    }
    w->fd = fds[0];
    fcntl(w->fd, F_SETFL, O_NONBLOCK);
    mu_buf_clear(&w->said);
    w->at = now + ANSWER_NS;
}

int mu_slurm_watch_turn(struct mu_slurm_watch *w, uint64_t now, char how[32])
{
    char text[256];
    ssize_t n;

    if (w->fd < 0) {
        if (now >= w->at)
            ask(w, now);
        return 0;
    }
    while ((n = read(w->fd, text, sizeof text)) > 0 && w->said.len < 4096)
        mu_buf_append(&w->said, text, (size_t)n);
    bool late = now >= w->at;
    if (n < 0 && (errno == EAGAIN || errno == EINTR) && !late)
        return 0;
    w->at = now + EVERY_NS;
    return mu_slurm_has_ended(end(w, n != 0), mu_buf_str(&w->said), how) && !late;
}
