#include "runtime/ckpt/writer.h"

#include "runtime/base/clean.h"
#include "runtime/base/clock.h"
#include "runtime/base/crc32c.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

/* Below this the page cache is the better place: a restart reads it right back. */
#define DIRECT_FROM (64ull << 20)
#define WRITE_CHUNK (4ull << 20)
#define FAILED_MAX 400

enum task { NOTHING, TOUCH, WRITE, QUIT };

struct mu_ckpt_writer {
    struct mu_ckpt_place place;
    void (*durable_hook)(uint64_t step);
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;

    /* under the lock */
    enum task task; /* what the thread is to do, or does */
    bool cancel, durable, abandoned, gone;
    struct mu_err error; /* of the last save */
    uint64_t bad_after, bad_upto;
    uint64_t started, cost;

    /* the caller's while the thread has nothing to do, else the thread's */
    const struct mu_ckpt_tensors *tensors;
    struct mu_ckpt_manifest plan;
    unsigned char *image; /* the segment file, byte for byte */
    size_t image_bytes;
    uint64_t generation, step;
};

/* --- the thread: one generation --------------------------------------------------------------------------------- */

static int check_peers(struct mu_ckpt_writer *w, const char *tmp, struct mu_err *err)
{
    struct mu_ckpt_path failed = mu_ckpt_path("%s/FAILED", tmp);
    mu_auto_free unsigned char *text = NULL;
    size_t n;
    int rc = mu_ckpt_get_file(failed.s, FAILED_MAX, &text, &n, NULL), code = 0, skip = 0;
    bool cancel;

    pthread_mutex_lock(&w->lock);
    cancel = w->cancel;
    pthread_mutex_unlock(&w->lock);
    if (cancel)
        return mu_err_set(err, MUSTER_EABORTED, "generation %" PRIu64 " was given up", w->generation);
    if (rc == MUSTER_ENOCKPT)
        return 0;
    if (!rc && !n)
        return mu_err_set(err, MUSTER_ENOSPC,
                          "another rank could not write generation %" PRIu64 ", and there was no room for its reason",
                          w->generation);
    if (rc || sscanf((const char *)text, "%d %n", &code, &skip) != 1 || code >= 0)
        return mu_err_set(err, MUSTER_EIO, "another rank could not write generation %" PRIu64, w->generation);
    return mu_err_set(err, code, "%s", (const char *)text + skip);
}

/* Tells the others not to wait. On a full disk the name alone may be all that fits, without inodes another name of a
 * file that there is. */
static void mark_failed(struct mu_ckpt_writer *w, const char *tmp, const struct mu_err *why)
{
    const struct mu_ckpt_io *io = w->place.io;
    struct mu_ckpt_path failed = mu_ckpt_path("%s/FAILED", tmp);
    struct mu_ckpt_path mine = mu_ckpt_path("%s/FAILED.%u", tmp, w->place.rank);
    struct mu_ckpt_path empty = mu_ckpt_path("%s/LOCK", w->place.dir);
    char text[FAILED_MAX];
    int n = snprintf(text, sizeof text, "%d rank %u: %s", why->code, w->place.rank, why->text);
    int fd;

    if (n >= (int)sizeof text)
        n = sizeof text - 1;
    if (why->code != MUSTER_EEPOCH) /* then the directory is somebody else's to make */
        io->mkdir(io, tmp);
    if (access(failed.s, F_OK) == 0 || mu_ckpt_put_file(io, mine.s, failed.s, text, (size_t)n, NULL) == 0)
        return;
    io->unlink(io, mine.s);
    if ((fd = io->open(io, failed.s, O_WRONLY | O_CREAT, 0666)) >= 0)
        close(fd);
    else
        io->link(io, empty.s, failed.s);
}

/* Sleeps a little longer each time; ETIMEOUT past the deadline. */
static int back_off(struct mu_ckpt_writer *w, uint64_t deadline, uint64_t *nap, const char *what, struct mu_err *err)
{
    uint64_t until = mu_now() + *nap;
    struct timespec t = {.tv_sec = (time_t)(until / MU_SEC), .tv_nsec = (long)(until % MU_SEC)};

    if (until > deadline)
        return mu_err_set(err, MUSTER_ETIMEOUT, "generation %" PRIu64 ": %s within %.1f s", w->generation, what,
                          (double)w->place.timeout / 1e9);
    pthread_mutex_lock(&w->lock);
    if (!w->cancel)
        pthread_cond_timedwait(&w->changed, &w->lock, &t);
    pthread_mutex_unlock(&w->lock);
    *nap = *nap < 10 * MU_MS ? *nap * 3 / 2 : *nap;
    return 0;
}

static int write_segment(struct mu_ckpt_writer *w, const char *tmp, struct mu_err *err)
{
    const struct mu_ckpt_io *io = w->place.io;
    struct mu_ckpt_path path = mu_ckpt_path("%s/seg.%u", tmp, w->place.rank);
    struct mu_ckpt_super super = {.id = w->plan.id, .rank = w->place.rank, .segment = w->plan.segment};
    int flags = O_WRONLY | O_CREAT | O_TRUNC, rc;
    mu_auto_fd int fd = -1;
    bool direct = w->plan.segment >= DIRECT_FROM;

    mu_ckpt_super_encode(&super, w->image);
    for (size_t i = 0; i < w->plan.nextents; i++) {
        struct mu_ckpt_extent *e = &w->plan.extents[i];

        e->crc = mu_crc32c(0, w->image + e->file, e->bytes);
    }
    if (direct)
        fd = io->open(io, path.s, flags | O_DIRECT, 0666);
    if (fd < 0) {
        direct = false;
        fd = io->open(io, path.s, flags, 0666);
    }
    if (fd < 0)
        return mu_err_errno(err, 0, "create %s", path.s);
    /* a full disk shows here, before the long part */
    if (io->reserve(io, fd, (off_t)w->plan.segment) && (errno == ENOSPC || errno == EDQUOT || errno == EFBIG))
        return mu_err_errno(err, 0, "reserve %" PRIu64 " bytes for %s", w->plan.segment, path.s);
    for (uint64_t at = 0, n; at < w->plan.segment; at += n) {
        n = w->plan.segment - at < WRITE_CHUNK ? w->plan.segment - at : WRITE_CHUNK;
        if ((rc = check_peers(w, tmp, err)))
            return rc;
        rc = mu_ckpt_write_all(io, fd, w->image + at, n, (off_t)at, path.s, err);
        if (rc == MUSTER_EARG && direct) { /* EINVAL: a file system that takes O_DIRECT and does not like it */
            direct = false;
            if (fcntl(fd, F_SETFL, 0) == 0)
                rc = mu_ckpt_write_all(io, fd, w->image + at, n, (off_t)at, path.s, err);
        }
        if (rc)
            return rc == MUSTER_EARG ? MUSTER_EIO : rc;
    }
    if (io->fsync(io, fd))
        return mu_err_errno(err, 0, "sync %s", path.s);
    rc = close(MU_STEAL(fd, -1));
    return rc && errno != EINTR ? mu_err_errno(err, 0, "close %s", path.s) : 0;
}

static int write_manifest(struct mu_ckpt_writer *w, const char *tmp, struct mu_err *err)
{
    struct mu_ckpt_path path = mu_ckpt_path("%s/man.%u", tmp, w->place.rank);
    struct mu_ckpt_path new = mu_ckpt_path("%s/man.%u.new", tmp, w->place.rank);
    mu_auto_free unsigned char *buf = NULL;
    int rc = mu_ckpt_manifest_encode(&w->plan, &buf, err);

    return rc ? rc : mu_ckpt_put_file(w->place.io, new.s, path.s, buf, w->plan.bytes, err);
}

/* One rank's part as rank 0 sees it: its manifest, and a segment of the length that it says. */
static int await_part(struct mu_ckpt_writer *w, const char *tmp, uint32_t rank, uint64_t deadline,
                      struct mu_ckpt_vote *vote, struct mu_err *err)
{
    struct mu_ckpt_path seg = mu_ckpt_path("%s/seg.%u", tmp, rank);
    struct mu_ckpt_manifest m;
    uint64_t nap = MU_MS / 5;
    mu_auto_fd int fd = -1;
    struct stat st;
    char what[60];
    int rc;

    snprintf(what, sizeof what, "rank %u did not write its part", rank);
    while ((rc = mu_ckpt_store_manifest(tmp, &w->plan.id, rank, NULL, &m, err)) == MUSTER_ENOCKPT)
        if ((rc = check_peers(w, tmp, err)) || (rc = back_off(w, deadline, &nap, what, err)))
            return rc;
    if (rc)
        return rc;
    *vote = (struct mu_ckpt_vote){.manifest = m.bytes, .segment = m.segment, .crc = m.crc};
    mu_ckpt_manifest_free(&m);
    if ((fd = open(seg.s, O_RDONLY | O_CLOEXEC)) < 0 || fstat(fd, &st))
        return mu_err_errno(err, MUSTER_EIO, "open %s", seg.s);
    if ((uint64_t)st.st_size != vote->segment)
        return mu_err_set(err, MUSTER_EIO, "%s has %lld bytes instead of %" PRIu64, seg.s, (long long)st.st_size,
                          vote->segment);
    return 0;
}

static int commit(struct mu_ckpt_writer *w, const char *tmp, uint64_t deadline, struct mu_err *err)
{
    struct mu_ckpt_commit k = {.id = w->plan.id, .wall = mu_wall()};
    struct mu_ckpt_path path = mu_ckpt_path("%s/COMMIT", tmp), new = mu_ckpt_path("%s/COMMIT.new", tmp);
    mu_auto_free struct mu_ckpt_vote *votes = calloc(w->place.world, sizeof *votes);
    mu_auto_free unsigned char *buf = NULL;
    size_t n;
    int rc;

    if (!votes)
        return mu_err_set(err, MUSTER_ENOMEM, "no memory to commit generation %" PRIu64, w->generation);
    for (uint32_t r = 0; r < w->place.world; r++)
        if ((rc = await_part(w, tmp, r, deadline, &votes[r], err)))
            return rc;
    k.votes = votes;
    memcpy(k.job, w->place.job, sizeof k.job);
    if ((rc = mu_ckpt_commit_encode(&k, &buf, &n, err)) ||
        (rc = mu_ckpt_put_file(w->place.io, new.s, path.s, buf, n, err)) ||
        (rc = mu_ckpt_sync_dir(w->place.io, tmp, err)))
        return rc;
    return mu_ckpt_store_publish(&w->place, w->generation, err);
}

static int await_commit(struct mu_ckpt_writer *w, const char *tmp, uint64_t deadline, struct mu_err *err)
{
    struct mu_ckpt_path final = mu_ckpt_final(&w->place, w->generation);
    uint64_t nap = MU_MS / 2;
    struct stat st;
    int rc;

    for (;;) {
        bool gone = stat(tmp, &st) && errno == ENOENT; /* looked at first: what follows then is final */
        struct mu_ckpt_commit k;

        rc = mu_ckpt_store_commit(final.s, w->generation, &k, err);
        if (!rc) {
            bool ours = k.id.epoch == w->place.epoch && k.id.nonce == w->place.nonce;

            free(k.votes);
            /* rank 0 syncs too; its sync may be on its way still */
            return ours ? mu_ckpt_sync_dir(w->place.io, w->place.dir, err)
                        : mu_err_set(err, MUSTER_EEPOCH, "%s was written by somebody else", final.s);
        }
        if (rc != MUSTER_ECORRUPT)
            return rc;
        if (gone)
            return mu_err_set(err, MUSTER_EIO, "%s has been removed", tmp);
        if ((rc = check_peers(w, tmp, err)) || (rc = back_off(w, deadline, &nap, "rank 0 did not commit it", err)))
            return rc;
    }
}

/* Space comes back at once, so that the next save finds it. A part whose manifest is in its place is left alone: rank 0
 * may be committing it. */
static void give_back(struct mu_ckpt_writer *w, const char *tmp)
{
    struct mu_ckpt_path man = mu_ckpt_path("%s/man.%u.new", tmp, w->place.rank);
    struct mu_ckpt_path seg = mu_ckpt_path("%s/seg.%u", tmp, w->place.rank);

    w->place.io->unlink(w->place.io, man.s);
    w->place.io->unlink(w->place.io, seg.s);
}

static int write_generation(struct mu_ckpt_writer *w, struct mu_err *err)
{
    struct mu_ckpt_path tmp = mu_ckpt_tmp(&w->place, w->generation);
    uint64_t deadline = mu_now() + w->place.timeout;
    struct mu_err why;
    bool voted = false;
    int rc;

    w->plan.id = (struct mu_ckpt_id){
        .generation = w->generation,
        .epoch = w->place.epoch,
        .nonce = w->place.nonce,
        .step = w->step,
        .world = w->place.world,
        .attempt = w->place.attempt,
    };
    if (w->place.io->mkdir(w->place.io, tmp.s) && errno != EEXIST)
        rc = mu_err_errno(err, 0, "create directory %s", tmp.s);
    else if (!(rc = write_segment(w, tmp.s, err)) && (voted = !(rc = write_manifest(w, tmp.s, err))))
        rc = w->place.rank == 0 ? commit(w, tmp.s, deadline, err) : await_commit(w, tmp.s, deadline, err);
    if (!rc)
        return 0;
    /* whatever it looked like: with a newer epoch in the directory this is why */
    if (rc != MUSTER_EEPOCH && mu_ckpt_store_fence(&w->place, &why) == MUSTER_EEPOCH) {
        *err = why;
        rc = MUSTER_EEPOCH;
    }
    err->code = rc;
    if (rc != MUSTER_EEPOCH && !voted)
        give_back(w, tmp.s);
    mark_failed(w, tmp.s, err);
    if (rc != MUSTER_EEPOCH && w->place.rank == 0)
        mu_ckpt_store_abandon(&w->place, w->generation);
    return rc;
}

/* --- the thread: its loop --------------------------------------------------------------------------------------- */

static void release(struct mu_ckpt_writer *w)
{
    if (w->image)
        munmap(w->image, w->image_bytes);
    mu_ckpt_manifest_free(&w->plan);
    pthread_cond_destroy(&w->changed);
    pthread_mutex_destroy(&w->lock);
    free(w);
}

static void bad_range(struct mu_ckpt_writer *w, uint64_t *after, uint64_t *upto)
{
    pthread_mutex_lock(&w->lock);
    *after = w->bad_after;
    *upto = w->bad_upto;
    pthread_mutex_unlock(&w->lock);
}

/* Old ones go only after the new one has been read back. */
static void retire(struct mu_ckpt_writer *w)
{
    uint64_t after, upto;

    bad_range(w, &after, &upto);
    if (w->place.rank == 0 && mu_ckpt_store_check(w->place.dir, w->generation, NULL) == 0)
        mu_ckpt_store_retain(&w->place, after, upto, NULL);
}

static void make_room(struct mu_ckpt_writer *w)
{
    uint64_t after, upto;

    bad_range(w, &after, &upto);
    if (w->place.rank == 0)
        mu_ckpt_store_reclaim(&w->place, after, upto);
}

static void do_write(struct mu_ckpt_writer *w)
{
    struct mu_err err = {0};
    int rc = write_generation(w, &err);
    uint64_t took;

    if (!rc && w->durable_hook)
        w->durable_hook(w->step);
    pthread_mutex_lock(&w->lock);
    took = mu_now() - w->started;
    if (rc)
        w->error = err;
    w->durable = !rc;
    if (!rc && took > w->cost)
        w->cost = took;
    pthread_cond_broadcast(&w->changed);
    pthread_mutex_unlock(&w->lock);
    if (!rc)
        retire(w);
    else if (rc == MUSTER_ENOSPC)
        make_room(w);
}

static void do_touch(struct mu_ckpt_writer *w)
{
    for (size_t i = 0; i < w->image_bytes; i += MU_CKPT_PAGE)
        ((volatile unsigned char *)w->image)[i] = 0;
}

static void *run(void *arg)
{
    struct mu_ckpt_writer *w = arg;
    bool abandoned;

    pthread_mutex_lock(&w->lock);
    while (w->task != QUIT) {
        enum task task = w->task;

        if (task == NOTHING) {
            pthread_cond_wait(&w->changed, &w->lock);
            continue;
        }
        pthread_mutex_unlock(&w->lock);
        (task == WRITE ? do_write : do_touch)(w);
        pthread_mutex_lock(&w->lock);
        if (w->task == task)
            w->task = NOTHING;
        pthread_cond_broadcast(&w->changed);
    }
    w->gone = true;
    abandoned = w->abandoned;
    pthread_cond_broadcast(&w->changed);
    pthread_mutex_unlock(&w->lock);
    if (abandoned)
        release(w);
    return NULL;
}

/* --- the caller's side ------------------------------------------------------------------------------------------ */

int mu_ckpt_writer_start(const struct mu_ckpt_place *place, void (*durable)(uint64_t step), struct mu_ckpt_writer **out,
                         struct mu_err *err)
{
    struct mu_ckpt_writer *w = calloc(1, sizeof *w);
    pthread_condattr_t attr;
    sigset_t all, was;
    int rc;

    if (!w)
        return mu_err_set(err, MUSTER_ENOMEM, "no memory for a checkpoint writer");
    w->place = *place;
    w->durable_hook = durable;
    pthread_mutex_init(&w->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&w->changed, &attr);
    pthread_condattr_destroy(&attr);
    /* signals are the program's */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &was);
    rc = pthread_create(&w->thread, NULL, run, w);
    pthread_sigmask(SIG_SETMASK, &was, NULL);
    if (rc) {
        release(w);
        errno = rc;
        return mu_err_errno(err, MUSTER_ENOMEM, "start the checkpoint thread");
    }
    *out = w;
    return 0;
}

static void submit(struct mu_ckpt_writer *w, enum task task)
{
    pthread_mutex_lock(&w->lock);
    w->task = task;
    if (task == WRITE) {
        w->durable = false;
        w->error = (struct mu_err){0};
    }
    pthread_cond_broadcast(&w->changed);
    pthread_mutex_unlock(&w->lock);
}

int mu_ckpt_writer_layout(struct mu_ckpt_writer *w, const struct mu_ckpt_tensors *tensors, struct mu_err *err)
{
    struct mu_ckpt_manifest plan;
    unsigned char *image;
    int rc = mu_ckpt_manifest_plan(tensors, w->place.rank, w->place.world, &plan, err);

    if (rc)
        return rc;
    image = plan.segment > SIZE_MAX / 2
                ? MAP_FAILED
                : mmap(NULL, plan.segment, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (image == MAP_FAILED) {
        rc = mu_err_set(err, MUSTER_ENOMEM, "no memory for a copy of %" PRIu64 " bytes", plan.segment);
        mu_ckpt_manifest_free(&plan);
        return rc;
    }
    /* neither in core files nor copied by fork */
    madvise(image, plan.segment, MADV_HUGEPAGE);
    madvise(image, plan.segment, MADV_DONTDUMP);
    madvise(image, plan.segment, MADV_DONTFORK);
    if (w->image)
        munmap(w->image, w->image_bytes);
    mu_ckpt_manifest_free(&w->plan);
    w->plan = plan;
    w->image = image;
    w->image_bytes = plan.segment;
    w->tensors = tensors;
    submit(w, TOUCH);
    return 0;
}

void mu_ckpt_writer_bad(struct mu_ckpt_writer *w, uint64_t after, uint64_t upto)
{
    pthread_mutex_lock(&w->lock);
    w->bad_after = after;
    w->bad_upto = upto;
    pthread_mutex_unlock(&w->lock);
}

int mu_ckpt_writer_save(struct mu_ckpt_writer *w, uint64_t generation, uint64_t step, struct mu_err *err)
{
    if (!w->image || mu_ckpt_writer_busy(w))
        return mu_err_set(err, MUSTER_EARG, "the checkpoint writer is not ready");
    w->started = mu_now();
    for (size_t i = 0; i < w->plan.nblocks; i++) {
        const struct mu_ckpt_block *b = &w->plan.blocks[i];
        const unsigned char *data = w->tensors->v[i].data;

        for (size_t k = b->first; k < b->first + b->n; k++) {
            const struct mu_ckpt_extent *e = &w->plan.extents[k];

            memcpy(w->image + e->file, data + e->at, e->bytes);
        }
    }
    w->generation = generation;
    w->step = step;
    submit(w, WRITE);
    return 0;
}

enum goal { IDLE, DURABLE, GONE };

/* 1 when reached, -1 when it never will be. */
static int reached(const struct mu_ckpt_writer *w, enum goal goal)
{
    switch (goal) {
    case IDLE:
        return w->task == NOTHING;
    case DURABLE:
        return w->error.code ? -1 : w->task != WRITE || w->durable;
    case GONE:
        break;
    }
    return w->gone;
}

/* Returns with the lock held. */
static int await(struct mu_ckpt_writer *w, enum goal goal, uint64_t timeout)
{
    uint64_t now = mu_now(), until = timeout > UINT64_MAX / 2 - now ? UINT64_MAX / 2 : now + timeout;
    struct timespec t = {.tv_sec = (time_t)(until / MU_SEC), .tv_nsec = (long)(until % MU_SEC)};
    int got;

    pthread_mutex_lock(&w->lock);
    while (!(got = reached(w, goal)))
        if (pthread_cond_timedwait(&w->changed, &w->lock, &t) == ETIMEDOUT)
            return reached(w, goal);
    return got;
}

int mu_ckpt_writer_durable(struct mu_ckpt_writer *w, uint64_t timeout, struct mu_err *err)
{
    int got = await(w, DURABLE, timeout), rc = 0;

    if (got < 0)
        rc = mu_err_set(err, w->error.code, "%s", w->error.text);
    pthread_mutex_unlock(&w->lock);
    return got ? rc : 1;
}

int mu_ckpt_writer_idle(struct mu_ckpt_writer *w, uint64_t timeout)
{
    int got = await(w, IDLE, timeout);

    pthread_mutex_unlock(&w->lock);
    return got ? 0 : 1;
}

bool mu_ckpt_writer_busy(struct mu_ckpt_writer *w)
{
    bool busy;

    pthread_mutex_lock(&w->lock);
    busy = w->task != NOTHING;
    pthread_mutex_unlock(&w->lock);
    return busy;
}

uint64_t mu_ckpt_writer_cost(struct mu_ckpt_writer *w)
{
    uint64_t cost;

    pthread_mutex_lock(&w->lock);
    cost = w->cost;
    pthread_mutex_unlock(&w->lock);
    return cost;
}

uint64_t mu_ckpt_writer_bytes(const struct mu_ckpt_writer *w)
{
    return w->plan.segment;
}

void mu_ckpt_writer_cancel(struct mu_ckpt_writer *w)
{
    pthread_mutex_lock(&w->lock);
    w->cancel = true;
    pthread_cond_broadcast(&w->changed);
    pthread_mutex_unlock(&w->lock);
}

int mu_ckpt_writer_stop(struct mu_ckpt_writer *w, uint64_t timeout, struct mu_err *err)
{
    int got = await(w, IDLE, timeout);
    pthread_t thread = w->thread;

    w->cancel |= !got;
    w->task = QUIT;
    pthread_cond_broadcast(&w->changed);
    pthread_mutex_unlock(&w->lock);
    got = await(w, GONE, MU_SEC);
    w->abandoned = !got;
    pthread_mutex_unlock(&w->lock);
    if (!got) {
        pthread_detach(thread);
        return mu_err_set(err, MUSTER_ETIMEOUT, "the checkpoint thread hangs in the file system");
    }
    pthread_join(thread, NULL);
    release(w);
    return 0;
}
