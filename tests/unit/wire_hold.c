/* The hold on the run directory: it is locked against cleaners, made new, and missed when it is gone. */
#include "runtime/wire/hold.h"

#include <event2/event.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "runtime/base/path.h"
#include "runtime/wire/daemon.h"
#include "tests/unit/tap.h"

static char dir[PATH_MAX], lock_path[PATH_MAX + 16], job_path[PATH_MAX + 16];
static int calls, next;

static int on_lost(void *arg)
{
    (void)arg;
    calls++;
    return next;
}

static void age(const char *path)
{
    struct timespec old[2] = {{.tv_sec = 1000}, {.tv_sec = 1000}};

    utimensat(AT_FDCWD, path, old, 0);
}

static bool is_new(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 && st.st_mtime > time(NULL) - 60 && st.st_atime > time(NULL) - 60;
}

static void turn(struct event_base *base, int ms)
{
    struct timeval t = {.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};

    event_base_loopexit(base, &t);
    event_base_loop(base, EVLOOP_NO_EXIT_ON_EMPTY);
}

int main(void)
{
    const char *tmp = getenv("TMPDIR");
    struct event_base *base = mu_loop_new();

    snprintf(dir, sizeof dir, "%s/hold.XXXXXX", tmp ? tmp : "/tmp");
    if (!base || !mkdtemp(dir))
        return 1;
    snprintf(lock_path, sizeof lock_path, "%s/ctl.lock", dir);
    snprintf(job_path, sizeof job_path, "%s/pin.1", dir);
    int lock = mu_path_lock(lock_path, 0, NULL), file = open(job_path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    TAP_OK(lock >= 0 && file >= 0 && !mu_hold_lost(dir, "ctl.lock", lock), "what is there is not lost");

    age(lock_path);
    age(job_path);
    age(dir);
    mu_hold_touch(dir);
    TAP_OK(is_new(lock_path) && is_new(job_path) && is_new(dir), "the directory and what is in it become new");

    struct mu_hold *h = mu_hold_new(base, dir, "ctl.lock", lock, 0, on_lost, NULL);
    int cleaner = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    TAP_OK(flock(cleaner, LOCK_EX | LOCK_NB) < 0, "who wants to clean the directory finds it locked");
    TAP_OK(flock(cleaner, LOCK_SH | LOCK_NB) == 0, "the other daemons do not");
    turn(base, 700);
    TAP_OK(calls == 0, "nothing is lost");
    unlink(lock_path);
    TAP_OK(mu_hold_lost(dir, "ctl.lock", lock), "without its file the lock is lost");
    next = mu_path_lock(lock_path, 0, NULL);
    TAP_OK(next >= 0 && mu_hold_lost(dir, "ctl.lock", lock), "another one's is none of ours");
    turn(base, 1500);
    TAP_OK(calls == 1, "that is told once, when a new one takes its place");
    int held = next;
    next = -1;
    unlink(lock_path);
    turn(base, 1500);
    TAP_OK(calls == 2, "and once more when there is none");
    mu_hold_free(h);
    event_base_free(base);
    close(cleaner);
    close(file);
    close(held);
    close(lock);
    unlink(job_path);
    rmdir(dir);
    return tap_done();
}
