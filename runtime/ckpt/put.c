#include "runtime/ckpt/put.h"

#include "runtime/base/clean.h"
#include "runtime/base/clock.h"
#include "runtime/base/crc32c.h"
#include "runtime/base/futex.h"
#include "runtime/ckpt/agree.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

/* Below this the page cache is the better place: a restart reads it right back. */
#define DIRECT_FROM (64ull << 20)
#define WRITE_CHUNK (4ull << 20)
#define FAILED_MAX 400
#define FENCE_EVERY (100 * MU_MS) /* while waiting for others */

static int check_peers(struct mu_ckpt_put *p, const char *tmp, struct mu_err *err)
{
    struct mu_ckpt_path failed = mu_ckpt_path("%s/FAILED", tmp);
    mu_auto_free unsigned char *text = NULL;
    size_t n;
    int rc = mu_ckpt_get_file(failed.s, FAILED_MAX, &text, &n, NULL), code = 0, skip = 0;

    if (atomic_load(p->cancel))
        return mu_err_set(err, MUSTER_EABORTED, "generation %" PRIu64 " was given up", p->generation);
    if (rc == MUSTER_ENOCKPT)
        return 0;
    if (!rc && !n)
        return mu_err_set(err, MUSTER_ENOSPC,
                          "another rank could not write generation %" PRIu64 ", and there was no room for its reason",
                          p->generation);
    if (rc || sscanf((const char *)text, "%d %n", &code, &skip) != 1 || code >= 0)
        return mu_err_set(err, MUSTER_EIO, "another rank could not write generation %" PRIu64, p->generation);
    return mu_err_set(err, code, "%s", (const char *)text + skip);
}

/* Tells the others not to wait. On a full disk the name alone may be all that fits, without inodes another name of a
 * file that there is. */
static void mark_failed(struct mu_ckpt_put *p, const char *tmp, const struct mu_err *why)
{
    const struct mu_ckpt_io *io = p->place.io;
    struct mu_ckpt_path failed = mu_ckpt_path("%s/FAILED", tmp);
    struct mu_ckpt_path mine = mu_ckpt_path("%s/FAILED.%u", tmp, p->place.rank);
    struct mu_ckpt_path empty = mu_ckpt_path("%s/LOCK", p->place.dir);
    char text[FAILED_MAX];
    int n = snprintf(text, sizeof text, "%d rank %u: %s", why->code, p->place.rank, why->text);
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

/* Sleeps a little longer each time; ETIMEOUT past the deadline. Whoever was fenced off meanwhile waits in vain. */
static int back_off(struct mu_ckpt_put *p, uint64_t *nap, const char *what, struct mu_err *err)
{
    uint64_t now = mu_now(), hurry = p->hurry ? atomic_load(p->hurry) : 0;
    int rc;

    if (now + *nap > p->deadline)
        return mu_err_set(err, MUSTER_ETIMEOUT, "generation %" PRIu64 ": %s within %.1f s", p->generation, what,
                          (double)p->place.timeout / 1e9);
    if (hurry && now > hurry)
        return mu_err_set(err, MUSTER_EABORTED, "generation %" PRIu64 ": the job ended, and %s", p->generation, what);
    if (now - p->fenced >= FENCE_EVERY) {
        p->fenced = now;
        if ((rc = mu_ckpt_store_fence(&p->place, err)) == MUSTER_EEPOCH)
            return rc;
    }
    if (!atomic_load(p->cancel))
        mu_futex_wait(p->cancel, 0, *nap);
    *nap = *nap < 10 * MU_MS ? *nap * 3 / 2 : *nap;
    return 0;
}

static int write_segment(struct mu_ckpt_put *p, const char *tmp, struct mu_err *err)
{
    const struct mu_ckpt_io *io = p->place.io;
    struct mu_ckpt_path path = mu_ckpt_path("%s/seg.%u", tmp, p->place.rank);
    struct mu_ckpt_super super = {.id = p->plan->id, .rank = p->place.rank, .segment = p->plan->segment};
    int flags = O_WRONLY | O_CREAT | O_TRUNC, rc;
    mu_auto_free void *page = NULL;
    mu_auto_fd int fd = -1;
    bool direct = p->plan->segment >= DIRECT_FROM;

    if (posix_memalign(&page, MU_CKPT_PAGE, MU_CKPT_PAGE))
        return mu_err_set(err, MUSTER_ENOMEM, "no memory to write %s", path.s);
    mu_ckpt_super_encode(&super, page);
    for (size_t i = 0; i < p->plan->nextents && !p->summed; i++) {
        struct mu_ckpt_extent *e = &p->plan->extents[i];

        e->crc = mu_crc32c(0, p->image + e->file, e->bytes);
    }
    p->summed = true;
    if (direct)
        fd = io->open(io, path.s, flags | O_DIRECT, 0666);
    if (fd < 0) {
        direct = false;
        fd = io->open(io, path.s, flags, 0666);
    }
    if (fd < 0)
        return mu_err_errno(err, 0, "create %s", path.s);
    /* a full disk shows here, before the long part */
    if (io->reserve(io, fd, (off_t)p->plan->segment) && (errno == ENOSPC || errno == EDQUOT || errno == EFBIG))
        return mu_err_errno(err, 0, "reserve %" PRIu64 " bytes for %s", p->plan->segment, path.s);
    for (uint64_t at = 0, n; at < p->plan->segment; at += n) {
        const unsigned char *from = at ? p->image + at : page;

        n = p->plan->segment - at < WRITE_CHUNK ? p->plan->segment - at : WRITE_CHUNK;
        n = at ? n : MU_CKPT_PAGE;
        if ((rc = check_peers(p, tmp, err)))
            return rc;
        rc = mu_ckpt_write_all(io, fd, from, n, (off_t)at, path.s, err);
        if (rc == MUSTER_EARG && direct) { /* EINVAL: a file system that takes O_DIRECT and does not like it */
            direct = false;
            if (fcntl(fd, F_SETFL, 0) == 0)
                rc = mu_ckpt_write_all(io, fd, from, n, (off_t)at, path.s, err);
        }
        if (rc)
            return rc == MUSTER_EARG ? MUSTER_EIO : rc;
    }
    if (io->fsync(io, fd))
        return mu_err_errno(err, 0, "sync %s", path.s);
    rc = close(MU_STEAL(fd, -1));
    return rc && errno != EINTR ? mu_err_errno(err, 0, "close %s", path.s) : 0;
}

static int write_manifest(struct mu_ckpt_put *p, const char *tmp, struct mu_err *err)
{
    struct mu_ckpt_path path = mu_ckpt_path("%s/man.%u", tmp, p->place.rank);
    struct mu_ckpt_path new = mu_ckpt_path("%s/man.%u.new", tmp, p->place.rank);
    mu_auto_free unsigned char *buf = NULL;
    int rc = mu_ckpt_manifest_encode(p->plan, &buf, err);

    return rc ? rc : mu_ckpt_put_file(p->place.io, new.s, path.s, buf, p->plan->bytes, err);
}

/* One rank's part as rank 0 sees it: its manifest, which says of its tensors what those before have said, and a segment
 * of the length that it says. */
static int await_part(struct mu_ckpt_put *p, const char *tmp, uint32_t rank, struct mu_ckpt_vote *vote,
                      struct mu_ckpt_agree *agree, struct mu_err *err)
{
    struct mu_ckpt_path seg = mu_ckpt_path("%s/seg.%u", tmp, rank);
    struct mu_ckpt_manifest m;
    uint64_t nap = MU_MS / 5;
    mu_auto_fd int fd = -1;
    struct stat st;
    char what[60];
    int rc;

    snprintf(what, sizeof what, "rank %u did not write its part", rank);
    while ((rc = mu_ckpt_store_manifest(tmp, &p->plan->id, rank, NULL, &m, err)) == MUSTER_ENOCKPT)
        if ((rc = check_peers(p, tmp, err)) || (rc = back_off(p, &nap, what, err)))
            return rc;
    if (rc)
        return rc;
    *vote = (struct mu_ckpt_vote){.manifest = m.bytes, .segment = m.segment, .crc = m.crc};
    rc = mu_ckpt_agree_add(agree, &m, err);
    mu_ckpt_manifest_free(&m);
    if (rc)
        return rc;
    if ((fd = open(seg.s, O_RDONLY | O_CLOEXEC)) < 0 || fstat(fd, &st))
        return mu_err_errno(err, MUSTER_EIO, "open %s", seg.s);
    if ((uint64_t)st.st_size != vote->segment)
        return mu_err_set(err, MUSTER_EIO, "%s has %lld bytes instead of %" PRIu64, seg.s, (long long)st.st_size,
                          vote->segment);
    return 0;
}

static int commit(struct mu_ckpt_put *p, const char *tmp, struct mu_err *err)
{
    struct mu_ckpt_commit k = {.id = p->plan->id, .wall = mu_wall()};
    struct mu_ckpt_path path = mu_ckpt_path("%s/COMMIT", tmp), new = mu_ckpt_path("%s/COMMIT.new", tmp);
    mu_auto_free struct mu_ckpt_vote *votes = calloc(p->place.world, sizeof *votes);
    __attribute__((cleanup(mu_ckpt_agree_free))) struct mu_ckpt_agree agree = {0};
    mu_auto_free unsigned char *buf = NULL;
    size_t n;
    int rc;

    if (!votes)
        return mu_err_set(err, MUSTER_ENOMEM, "no memory to commit generation %" PRIu64, p->generation);
    for (uint32_t r = 0; r < p->place.world; r++)
        if ((rc = await_part(p, tmp, r, &votes[r], &agree, err)))
            return rc;
    if ((rc = mu_ckpt_agree_end(&agree, err)))
        return rc;
    k.votes = votes;
    memcpy(k.job, p->place.job, sizeof k.job);
    if ((rc = mu_ckpt_commit_encode(&k, &buf, &n, err)) ||
        (rc = mu_ckpt_put_file(p->place.io, new.s, path.s, buf, n, err)) ||
        (rc = mu_ckpt_sync_dir(p->place.io, tmp, err)))
        return rc;
    return mu_ckpt_store_publish(&p->place, p->generation, err);
}

static int await_commit(struct mu_ckpt_put *p, const char *tmp, struct mu_err *err)
{
    struct mu_ckpt_path final = mu_ckpt_final(&p->place, p->generation);
    uint64_t nap = MU_MS / 2;
    struct stat st;
    int rc;

    for (;;) {
        bool gone = stat(tmp, &st) && errno == ENOENT; /* looked at first: what follows then is final */
        struct mu_ckpt_commit k;

        rc = mu_ckpt_store_commit(final.s, p->generation, &k, err);
        if (!rc) {
            bool ours = k.id.epoch == p->place.epoch && k.id.nonce == p->place.nonce;

            free(k.votes);
            /* rank 0 syncs too; its sync may be on its way still */
            return ours ? mu_ckpt_sync_dir(p->place.io, p->place.dir, err)
                        : mu_err_set(err, MUSTER_EEPOCH, "%s was written by somebody else", final.s);
        }
        if (rc != MUSTER_ECORRUPT)
            return rc;
        if (gone)
            return mu_err_set(err, MUSTER_EIO, "%s has been removed", tmp);
        if ((rc = check_peers(p, tmp, err)) || (rc = back_off(p, &nap, "rank 0 did not commit it", err)))
            return rc;
    }
}

/* Space comes back at once, so that the next save finds it. A part whose manifest is in its place is left alone: rank 0
 * may be committing it. */
static void give_back(struct mu_ckpt_put *p, const char *tmp)
{
    struct mu_ckpt_path man = mu_ckpt_path("%s/man.%u.new", tmp, p->place.rank);
    struct mu_ckpt_path seg = mu_ckpt_path("%s/seg.%u", tmp, p->place.rank);

    p->place.io->unlink(p->place.io, man.s);
    p->place.io->unlink(p->place.io, seg.s);
}

/* By an earlier run of the same save, of which nobody knew the end. */
static bool is_committed(struct mu_ckpt_put *p)
{
    struct mu_ckpt_path final = mu_ckpt_final(&p->place, p->generation);
    struct mu_ckpt_commit k;
    bool ours;

    if (access(final.s, F_OK) || mu_ckpt_store_commit(final.s, p->generation, &k, NULL))
        return false;
    ours = k.id.epoch == p->place.epoch && k.id.nonce == p->place.nonce;
    free(k.votes);
    return ours;
}

/* By an earlier run, too: then the segment was synced, rank 0 may be committing it at this moment, and it is not to be
 * touched any more. */
static bool has_voted(const struct mu_ckpt_put *p, const char *tmp)
{
    struct mu_ckpt_path seg = mu_ckpt_path("%s/seg.%u", tmp, p->place.rank);
    struct mu_ckpt_manifest m;
    struct stat st;
    bool whole;

    if (mu_ckpt_store_manifest(tmp, &p->plan->id, p->place.rank, NULL, &m, NULL))
        return false;
    whole = stat(seg.s, &st) == 0 && (uint64_t)st.st_size == m.segment;
    mu_ckpt_manifest_free(&m);
    return whole;
}

int mu_ckpt_put_begin(struct mu_ckpt_put *p, struct mu_err *err)
{
    struct mu_ckpt_path tmp = mu_ckpt_tmp(&p->place, p->generation);
    int rc;

    p->deadline = mu_now() + p->place.timeout;
    p->voted = false;
    if ((p->committed = is_committed(p)))
        return 0;
    p->plan->id = (struct mu_ckpt_id){
        .generation = p->generation,
        .epoch = p->place.epoch,
        .nonce = p->place.nonce,
        .step = p->step,
        .world = p->place.world,
        .attempt = p->place.attempt,
    };
    if (mu_ckpt_store_fence(&p->place, err) == MUSTER_EEPOCH) /* before anything is made there */
        return MUSTER_EEPOCH;
    p->fenced = mu_now();
    if ((p->voted = has_voted(p, tmp.s)))
        return 0;
    if (p->place.io->mkdir(p->place.io, tmp.s) && errno != EEXIST)
        return mu_err_errno(err, 0, "create directory %s", tmp.s);
    if ((rc = write_segment(p, tmp.s, err)) || (rc = write_manifest(p, tmp.s, err)))
        return rc;
    p->voted = true;
    return 0;
}

int mu_ckpt_put_end(struct mu_ckpt_put *p, int rc, struct mu_err *err)
{
    struct mu_ckpt_path tmp = mu_ckpt_tmp(&p->place, p->generation);
    struct mu_err why;

    if (p->committed && !rc) /* maybe not synced */
        return mu_ckpt_sync_dir(p->place.io, p->place.dir, err);
    if (!rc)
        rc = p->place.rank == 0 ? commit(p, tmp.s, err) : await_commit(p, tmp.s, err);
    if (!rc)
        return 0;
    /* whatever it looked like: with a newer epoch in the directory this is why */
    if (rc != MUSTER_EEPOCH && mu_ckpt_store_fence(&p->place, &why) == MUSTER_EEPOCH) {
        *err = why;
        rc = MUSTER_EEPOCH;
    }
    err->code = rc;
    if (!p->voted)
        give_back(p, tmp.s);
    if (rc != MUSTER_EEPOCH)
        mark_failed(p, tmp.s, err);
    if (p->place.rank == 0 && rc != MUSTER_EEPOCH)
        mu_ckpt_store_abandon(&p->place, p->generation);
    else if (p->place.rank == 0) /* who might have committed it never will, and the others look at the epoch, too */
        mu_ckpt_remove_dir(p->place.io, tmp.s, NULL, NULL);
    return rc;
}

void mu_ckpt_put_tidy(const struct mu_ckpt_put *p, int rc)
{
    if (p->place.rank)
        return;
    if (!rc && mu_ckpt_store_check(p->place.dir, p->generation, NULL) == 0)
        mu_ckpt_store_retain(&p->place, p->bad_after, p->bad_upto, NULL);
    else if (rc == MUSTER_ENOSPC)
        mu_ckpt_store_reclaim(&p->place, p->bad_after, p->bad_upto);
}
