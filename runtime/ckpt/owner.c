#include "runtime/ckpt/owner.h"

#include "runtime/base/clean.h"
#include "runtime/base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>

#define LOOK (50 * MU_MS)
#define STOP_WAIT MU_SEC

const struct mu_ckpt_patience mu_ckpt_patience = {
    .beat = MU_SEC, .grace = MU_SEC, .free = 8 * MU_SEC, .held = 40 * MU_SEC, .stale = 300 * MU_SEC};

enum lock { OURS, THEIRS, UNKNOWN }; /* UNKNOWN: there are no locks here */

struct mu_ckpt_owner {
    struct mu_ckpt_path path;
    struct mu_ckpt_owner_record mine;
    uint64_t beat;
    int fd;
    enum lock lock;
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    bool stop, gone, abandoned;
};

/* --- a child of the program must not hold the lock when the program is dead --------------------------------------- */

static atomic_int held[16]; /* descriptors + 1 */

static void let_go(void)
{
    for (size_t i = 0; i < MU_COUNT(held); i++) {
        int fd = atomic_exchange(&held[i], 0) - 1;

        if (fd >= 0)
            close(fd);
    }
}

static void watch_forks(void)
{
    pthread_atfork(NULL, NULL, let_go);
}

static void remember(int fd)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    int none = 0;

    pthread_once(&once, watch_forks);
    for (size_t i = 0; i < MU_COUNT(held); i++, none = 0)
        if (atomic_compare_exchange_strong(&held[i], &none, fd + 1))
            return;
}

static void close_held(int fd)
{
    int value = fd + 1;

    for (size_t i = 0; fd >= 0 && i < MU_COUNT(held); i++, value = fd + 1)
        if (atomic_compare_exchange_strong(&held[i], &value, 0))
            break;
    if (fd >= 0)
        close(fd);
}

/* --- the file ----------------------------------------------------------------------------------------------------- */

static uint64_t random_mark(void)
{
    uint64_t mark = 0;

    while (!mark)
        if (getrandom(&mark, sizeof mark, 0) != (ssize_t)sizeof mark)
            mark = mu_wall() * 0x9e3779b97f4a7c15ull ^ (uint64_t)getpid() << 40 ^ mu_now();
    return mark;
}

/* Handles of one process are one job's. */
static uint64_t process_mark(void)
{
    static _Atomic uint64_t mark;
    uint64_t none = 0, made = random_mark();

    return atomic_compare_exchange_strong(&mark, &none, made) ? made : none;
}

static void boot_id(unsigned char id[16])
{
    char text[64] = "";
    int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    unsigned byte;
    int n = 0;

    memset(id, 0, 16);
    if (fd < 0)
        return;
    if (read(fd, text, sizeof text - 1) > 0)
        for (const char *p = text; n < 16 && sscanf(p, "%2x", &byte) == 1; p += 2 + (p[2] == '-'))
            id[n++] = (unsigned char)byte;
    close(fd);
}

static enum lock try_lock(int fd)
{
    if (fd < 0)
        return UNKNOWN;
    if (flock(fd, LOCK_EX | LOCK_NB) == 0)
        return OURS;
    return errno == EWOULDBLOCK || errno == EINTR ? THEIRS : UNKNOWN;
}

/* False: there is none, or it cannot be read. */
static bool read_record(const char *path, struct mu_ckpt_owner_record *r)
{
    mu_auto_free unsigned char *buf = NULL;
    size_t n;

    return mu_ckpt_get_file(path, MU_CKPT_OWNER_BYTES, &buf, &n, NULL) == 0 &&
           mu_ckpt_owner_decode(buf, n, r, NULL) == 0;
}

/* In place, because the lock is on this file; and closed each time, because that is when NFS sends it. What fails is
 * tried again by the next beat. */
static void write_record(const struct mu_ckpt_owner *o)
{
    unsigned char buf[MU_CKPT_OWNER_BYTES];
    mu_auto_fd int fd = open(o->path.s, O_WRONLY | O_CLOEXEC);

    mu_ckpt_owner_encode(&o->mine, buf);
    if (fd >= 0)
        mu_ckpt_write_all(&mu_ckpt_io_posix, fd, buf, sizeof buf, 0, o->path.s, NULL);
}

/* --- the owner lives ---------------------------------------------------------------------------------------------- */

/* A file that does not read back is written anew; one that bears another mark is another's now, unless that is an
 * attempt before ours: it had looked before we came, and wrote behind us. */
static bool still_mine(const struct mu_ckpt_owner *o)
{
    struct mu_ckpt_owner_record r;

    if (access(o->path.s, F_OK))
        return false;
    if (!read_record(o->path.s, &r) || r.mark == o->mine.mark)
        return true;
    return o->mine.job_mark && r.job_mark == o->mine.job_mark && r.attempt < o->mine.attempt;
}

static void beat(struct mu_ckpt_owner *o)
{
    if (!still_mine(o))
        return;
    if (o->lock == THEIRS) /* a predecessor's that was not dead yet */
        o->lock = try_lock(o->fd);
    o->mine.locked = o->lock == OURS;
    o->mine.beat++;
    o->mine.wall = mu_wall();
    write_record(o);
}

static void release(struct mu_ckpt_owner *o)
{
    pthread_cond_destroy(&o->changed);
    pthread_mutex_destroy(&o->mutex);
    free(o);
}

static void *run(void *arg)
{
    struct mu_ckpt_owner *o = arg;
    bool abandoned;

    pthread_mutex_lock(&o->mutex);
    while (!o->stop) {
        uint64_t until = mu_now() + o->beat;
        struct timespec t = {.tv_sec = (time_t)(until / MU_SEC), .tv_nsec = (long)(until % MU_SEC)};

        if (pthread_cond_timedwait(&o->changed, &o->mutex, &t) != ETIMEDOUT)
            continue;
        pthread_mutex_unlock(&o->mutex);
        beat(o);
        pthread_mutex_lock(&o->mutex);
    }
    pthread_mutex_unlock(&o->mutex);
    o->mine.open = false;
    beat(o);
    close_held(o->fd);

    pthread_mutex_lock(&o->mutex);
    o->gone = true;
    abandoned = o->abandoned;
    pthread_cond_broadcast(&o->changed);
    pthread_mutex_unlock(&o->mutex);
    if (abandoned)
        release(o);
    return NULL;
}

void mu_ckpt_owner_release(struct mu_ckpt_owner *o)
{
    uint64_t until = mu_now() + STOP_WAIT;
    struct timespec t = {.tv_sec = (time_t)(until / MU_SEC), .tv_nsec = (long)(until % MU_SEC)};
    pthread_t thread;
    bool gone;

    if (!o)
        return;
    thread = o->thread;
    pthread_mutex_lock(&o->mutex);
    o->stop = true;
    pthread_cond_broadcast(&o->changed);
    while (!o->gone && pthread_cond_timedwait(&o->changed, &o->mutex, &t) != ETIMEDOUT) {
    }
    gone = o->gone;
    o->abandoned = !gone;
    pthread_mutex_unlock(&o->mutex);
    if (!gone) {
        pthread_detach(thread);
        return;
    }
    pthread_join(thread, NULL);
    release(o);
}

static int start(struct mu_ckpt_owner *o, struct mu_err *err)
{
    pthread_condattr_t attr;
    sigset_t all, was;
    int rc;

    pthread_mutex_init(&o->mutex, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&o->changed, &attr);
    pthread_condattr_destroy(&attr);
    sigfillset(&all); /* signals are the program's */
    pthread_sigmask(SIG_SETMASK, &all, &was);
    rc = pthread_create(&o->thread, NULL, run, o);
    pthread_sigmask(SIG_SETMASK, &was, NULL);
    if (!rc)
        return 0;
    errno = rc;
    return mu_err_errno(err, MUSTER_ENOMEM, "start the thread that holds the directory");
}

/* --- taking it ---------------------------------------------------------------------------------------------------- */

static int refuse(const struct mu_ckpt_place *p, const struct mu_ckpt_owner_record *r, struct mu_err *err)
{
    char who[MU_CKPT_JOB_MAX + 64] = "a program";

    if (!r)
        snprintf(who, sizeof who, "another program");
    else if (r->job[0])
        snprintf(who, sizeof who, "job %s (attempt %u)", r->job, r->attempt);
    return mu_err_set(err, MUSTER_EBUSY, "%s is in use by %s%s%s; wait for its end, or name another directory", p->dir,
                      who, r ? " on " : "", r ? r->host : "");
}

/* Looks until it is clear whether the directory is free: 0, EBUSY or EEPOCH. */
static int settle(const struct mu_ckpt_place *p, struct mu_ckpt_owner *o, const struct mu_ckpt_patience *patience,
                  struct mu_err *err)
{
    uint64_t began = mu_now(), most = p->timeout / 2, seen_beat = 0, seen_mark = 0;
    bool was_held = false;

    for (;;) {
        struct mu_ckpt_owner_record r = {0};
        bool known, here;
        uint64_t limit;

        if (o->lock != OURS)
            o->lock = try_lock(o->fd);
        known = read_record(o->path.s, &r); /* after the lock: what a dead owner wrote is there */
        if (known && r.open && r.job_mark == o->mine.job_mark) {
            if (p->job_mark && r.attempt > p->attempt)
                return mu_err_set(err, MUSTER_EEPOCH, "%s has been opened by attempt %u of this job, on %s", p->dir,
                                  r.attempt, r.host);
            return 0;
        }
        if (o->lock != THEIRS && (!known || !r.open))
            return 0;
        here = known && r.locked && o->lock != UNKNOWN && r.device == o->mine.device &&
               r.boot[0] + r.boot[1] + r.boot[2] > 0 && !memcmp(r.boot, o->mine.boot, sizeof r.boot);
        if (o->lock == OURS && (here || was_held || r.wall + patience->stale < mu_wall()))
            return 0; /* it died */
        if (known && !here && seen_mark && (seen_mark != r.mark || seen_beat != r.beat))
            return refuse(p, &r, err);
        seen_mark = r.mark;
        seen_beat = r.beat;
        was_held |= r.locked && o->lock == THEIRS;
        /* held, but nothing is known: whoever holds it has just begun or just ended */
        limit = here || !known || !r.open ? patience->grace : o->lock == THEIRS ? patience->held : patience->free;
        if (mu_now() - began >= (limit < most ? limit : most))
            return here || !known || !r.open ? refuse(p, known && r.open ? &r : NULL, err) : 0;
        nanosleep(&(struct timespec){.tv_nsec = LOOK}, NULL);
    }
}

int mu_ckpt_owner_take(const struct mu_ckpt_place *p, const struct mu_ckpt_patience *patience,
                       struct mu_ckpt_owner **out, struct mu_err *err)
{
    struct mu_ckpt_owner *o;
    struct stat st;
    int rc = mu_ckpt_make_dirs(p->io, p->dir, err);

    if (rc)
        return rc;
    if (!(o = calloc(1, sizeof *o)))
        return mu_err_set(err, MUSTER_ENOMEM, "no memory to hold %s", p->dir);
    o->path = mu_ckpt_path("%s/OWNER", p->dir);
    o->beat = patience->beat;
    o->lock = UNKNOWN;
    o->fd = open(o->path.s, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (o->fd < 0)
        o->fd = open(o->path.s, O_RDONLY | O_CLOEXEC); /* another account's */
    o->mine = (struct mu_ckpt_owner_record){
        .job_mark = p->job_mark ? p->job_mark : process_mark(),
        .mark = random_mark(),
        .beat = 1,
        .wall = mu_wall(),
        .device = o->fd >= 0 && fstat(o->fd, &st) == 0 ? (uint64_t)st.st_dev : 0,
        .pid = (uint32_t)getpid(),
        .attempt = p->attempt,
        .open = true,
    };
    memcpy(o->mine.job, p->job, sizeof o->mine.job);
    memcpy(o->mine.host, p->host, sizeof o->mine.host);
    boot_id(o->mine.boot);

    if ((rc = settle(p, o, patience, err)))
        goto err_open;
    if (o->fd < 0) { /* it cannot be made here: the epoch alone decides */
        free(o);
        *out = NULL;
        return 0;
    }
    o->mine.locked = o->lock == OURS;
    write_record(o);
    remember(o->fd);
    if ((rc = start(o, err)))
        goto err_held;
    *out = o;
    return 0;

err_held:
    o->mine.open = false;
    write_record(o);
    close_held(MU_STEAL(o->fd, -1));
err_open:
    if (o->fd >= 0)
        close(o->fd);
    free(o);
    return rc;
}
