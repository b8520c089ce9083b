/* Who may have a directory: live and dead owners, here and elsewhere, with locks that work and locks that do not. */
#include "runtime/ckpt/owner.h"

#include "tests/unit/ckpt_help.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/file.h>
#include <sys/wait.h>

static const struct mu_ckpt_patience quick = {
    .beat = 20 * MU_MS, .grace = 600 * MU_MS, .free = 1200 * MU_MS, .held = 2400 * MU_MS, .stale = 60 * MU_SEC};
static const uint64_t soon = 500 * MU_MS; /* before any patience is over */

static char *dir, file[400];
static struct mu_err err;
static uint64_t took;

static struct mu_ckpt_place place(uint64_t job, uint32_t attempt)
{
    struct mu_ckpt_place p = {.timeout = 60 * MU_SEC, .attempt = attempt, .job_mark = job, .io = &mu_ckpt_io_posix};

    snprintf(p.dir, sizeof p.dir, "%s", dir);
    snprintf(p.job, sizeof p.job, "%" PRIu64, job);
    snprintf(p.host, sizeof p.host, "host-%" PRIu64, job);
    return p;
}

static int take(uint64_t job, uint32_t attempt, struct mu_ckpt_owner **o)
{
    struct mu_ckpt_place p = place(job, attempt);
    uint64_t began = mu_now();
    int rc;

    err.text[0] = 0;
    *o = NULL;
    rc = mu_ckpt_owner_take(&p, &quick, o, &err);
    took = mu_now() - began;
    return rc;
}

static bool record(struct mu_ckpt_owner_record *r)
{
    unsigned char *buf = NULL;
    size_t n;
    bool good =
        mu_ckpt_get_file(file, MU_CKPT_OWNER_BYTES, &buf, &n, NULL) == 0 && mu_ckpt_owner_decode(buf, n, r, NULL) == 0;

    free(buf);
    return good;
}

/* Whether the file's beat grows by n, within a time that only a hang needs. */
static bool beats_on(const struct mu_ckpt_owner_record *r, uint64_t n, struct mu_ckpt_owner_record *now)
{
    for (uint64_t end = mu_now() + 10 * MU_SEC; mu_now() < end; usleep(5000))
        if (record(now) && now->beat >= r->beat + n)
            return true;
    return false;
}

static void write_record(const struct mu_ckpt_owner_record *r)
{
    unsigned char buf[MU_CKPT_OWNER_BYTES];
    int fd = open(file, O_WRONLY | O_CREAT, 0600);

    mu_ckpt_owner_encode(r, buf);
    if (fd < 0 || pwrite(fd, buf, sizeof buf, 0) != (ssize_t)sizeof buf)
        abort();
    close(fd);
}

/* As another host's owner left it. */
static struct mu_ckpt_owner_record elsewhere(uint64_t age)
{
    struct mu_ckpt_owner_record r = {
        .job_mark = 9, .mark = 99, .beat = 5, .wall = mu_wall() - age, .open = true, .locked = true};

    memset(r.boot, 7, sizeof r.boot);
    r.attempt = 3;
    snprintf(r.job, sizeof r.job, "9");
    snprintf(r.host, sizeof r.host, "far");
    write_record(&r);
    return r;
}

static atomic_bool beating;
static void *beats(void *arg)
{
    struct mu_ckpt_owner_record r = elsewhere(0);

    (void)arg;
    while (beating) {
        r.beat++;
        r.wall = mu_wall();
        write_record(&r);
        usleep(20000);
    }
    return NULL;
}

static int lock(void)
{
    int fd = open(file, O_RDWR | O_CREAT, 0600);

    if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB))
        abort();
    return fd;
}

static void *unlock_later(void *arg)
{
    usleep(200000);
    close(*(int *)arg);
    return NULL;
}

static void here(void)
{
    struct mu_ckpt_owner *a, *b;
    struct mu_ckpt_owner_record r, s;

    TAP_OK(take(1, 1, &a) == 0 && took < soon, "a directory that nobody has");
    record(&r);
    TAP_OK(beats_on(&r, 3, &s) && s.open && !strcmp(s.host, "host-1"), "its owner beats");
    TAP_OK(take(2, 1, &b) == MUSTER_EBUSY && strstr(err.text, dir) && strstr(err.text, "job 1 (attempt 1) on host-1"),
           "another job is refused: %s", err.text);
    TAP_OK(took < 5 * MU_SEC, "soon");
    TAP_OK(take(1, 2, &b) == 0 && took < soon, "the next attempt of the same job takes over at once");
    bool says = false; /* the old one may have looked before, and write behind it once */
    for (uint64_t end = mu_now() + 10 * MU_SEC; !says && mu_now() < end; usleep(1000))
        says = record(&r) && r.attempt == 2;
    TAP_OK(says, "the file says so");
    struct mu_ckpt_owner_record late = r;
    late.attempt = 1;
    late.mark++;
    write_record(&late);
    TAP_OK(beats_on(&r, 2, &s) && s.mark == r.mark, "what the old one writes behind it does not stay");
    record(&r);
    TAP_OK(beats_on(&r, 5, &s) && s.mark == r.mark, "the old one does not write to it any more");
    mu_ckpt_owner_release(a);
    TAP_OK(record(&s) && s.mark == r.mark && s.open, "neither at its end");
    TAP_OK(take(1, 1, &a) == MUSTER_EEPOCH, "an older attempt is refused: %s", err.text);
    TAP_OK(take(2, 1, &a) == MUSTER_EBUSY, "before the successor has the lock its beat tells: %s", err.text);
    record(&r);
    TAP_OK(beats_on(&r, 2, &s) && s.locked && take(2, 1, &a) == MUSTER_EBUSY, "then it has: %s", err.text);
    mu_ckpt_owner_release(b);
    TAP_OK(take(2, 1, &b) == 0 && took < soon, "given back: free at once");
    mu_ckpt_owner_release(b);
    TAP_OK(take(0, 1, &a) == 0 && take(0, 1, &b) == 0 && took < soon, "two handles of a process that is no job");
    mu_ckpt_owner_release(b);
    mu_ckpt_owner_release(a);
    mu_ckpt_owner_release(NULL);
}

/* The owner's process ends without a word; a child that it had forked lives on. */
static void dead_here(void)
{
    struct mu_ckpt_owner *o;
    int status, ends[2];
    pid_t pid;

    if (pipe(ends) || (pid = fork()) < 0)
        abort();
    if (!pid) {
        pid_t child;

        if (take(5, 1, &o) || (child = fork()) < 0)
            _exit(1);
        if (!child) {
            pause();
            _exit(0);
        }
        if (write(ends[1], &child, sizeof child) != sizeof child)
            _exit(1);
        raise(SIGKILL);
    }
    waitpid(pid, &status, 0);
    if (!WIFSIGNALED(status) || read(ends[0], &pid, sizeof pid) != sizeof pid)
        abort();
    struct mu_ckpt_owner_record r;
    TAP_OK(record(&r) && r.open && r.job_mark == 5, "an owner died");
    TAP_OK(take(6, 1, &o) == 0 && took < soon, "its directory is free at once, whatever it had forked");
    kill(pid, SIGKILL);
    mu_ckpt_owner_release(o);
    close(ends[0]);
    close(ends[1]);
}

static void far_away(void)
{
    struct mu_ckpt_owner *o;
    pthread_t thread;
    int fd;

    elsewhere(0);
    TAP_OK(take(1, 1, &o) == 0 && took >= quick.free && took < quick.held, "an owner elsewhere that is silent is dead");
    mu_ckpt_owner_release(o);
    elsewhere(3600 * MU_SEC);
    TAP_OK(take(1, 1, &o) == 0 && took < soon, "one whose last word is an hour old needs no watching");
    mu_ckpt_owner_release(o);

    beating = true;
    elsewhere(0);
    pthread_create(&thread, NULL, beats, NULL);
    TAP_OK(take(1, 1, &o) == MUSTER_EBUSY && took < quick.free && strstr(err.text, "job 9 (attempt 3) on far"),
           "one that beats lives, although no lock is held: %s", err.text);
    fd = lock();
    TAP_OK(take(1, 1, &o) == MUSTER_EBUSY && took < quick.free, "the same with a lock: %s", err.text);
    beating = false;
    pthread_join(thread, NULL);
    TAP_OK(take(1, 1, &o) == 0 && took >= quick.held, "a lock that a dead host left is waited for longer");
    mu_ckpt_owner_release(o);
    elsewhere(0);
    pthread_create(&thread, NULL, unlock_later, &fd);
    TAP_OK(take(1, 1, &o) == 0 && took < quick.free, "and not when it goes");
    pthread_join(thread, NULL);
    mu_ckpt_owner_release(o);
    elsewhere(0);
    TAP_OK(take(9, 4, &o) == 0 && took < soon, "the next attempt of its job does not wait");
    mu_ckpt_owner_release(o);
}

static void odd(void)
{
    struct mu_ckpt_owner *o;
    int fd = open(file, O_WRONLY | O_TRUNC);

    if (write(fd, "rubbish", 7) != 7)
        abort();
    close(fd);
    TAP_OK(take(1, 1, &o) == 0 && took < soon, "a damaged file keeps nobody out");
    mu_ckpt_owner_release(o);
    fd = open(file, O_WRONLY | O_TRUNC);
    close(fd);
    fd = lock();
    TAP_OK(take(1, 1, &o) == MUSTER_EBUSY && strstr(err.text, "another program"), "a lock of who knows whom: %s",
           err.text);
    close(fd);
    unlink(file);
    if (symlink(file, file))
        abort();
    TAP_OK(take(1, 1, &o) == 0 && !o, "where the file cannot be made it is done without");
    unlink(file);
}

int main(void)
{
    dir = scratch();
    snprintf(file, sizeof file, "%s/OWNER", dir);
    here();
    dead_here();
    far_away();
    odd();
    scratch_remove(dir);
    return tap_done();
}
