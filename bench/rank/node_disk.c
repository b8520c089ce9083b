/* A file without a name, past the page cache: gone with the process, however that ends. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "bench/pairs.h"
#include "bench/rank/node.h"
#include "runtime/base/clean.h"
#include "runtime/base/clock.h"

enum { BLOCK = 4 << 20, ALIGN = 4096 };

static int open_file(const char *dir, unsigned *flags, struct mu_err *err)
{
    int fd = open(dir, O_TMPFILE | O_RDWR | O_DIRECT | O_CLOEXEC, 0600);

    if (fd < 0 && errno == EINVAL) { /* no way past the cache here */
        *flags |= MU_RECORD_CACHED;
        fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    }
    if (fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR)) {
        char path[4096];
        if ((size_t)snprintf(path, sizeof path, "%s/.muster-bench.XXXXXX", dir) >= sizeof path)
            return mu_err_set(err, MUSTER_EARG, "--dir: the path is too long");
        fd = mkostemp(path, O_CLOEXEC);
        if (fd >= 0)
            unlink(path);
        *flags |= MU_RECORD_CACHED;
        if (fd >= 0 && !fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_DIRECT))
            *flags &= ~(unsigned)MU_RECORD_CACHED;
    }
    return fd < 0 ? mu_err_errno(err, MUSTER_EIO, "no file can be made in %s; give another --dir", dir) : fd;
}

static int pass(int fd, bool write, char *buf, off_t at, struct mu_err *err)
{
    for (size_t done = 0; done < BLOCK;) {
        ssize_t n = write ? pwrite(fd, buf + done, BLOCK - done, at + (off_t)done)
                          : pread(fd, buf + done, BLOCK - done, at + (off_t)done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return mu_err_errno(err, MUSTER_EIO, "the file cannot be %s", write ? "written" : "read");
        done += (size_t)n;
    }
    return 0;
}

static void fill(uint64_t *v, uint64_t seed)
{
    for (size_t i = 0; i < BLOCK / 8; i++)
        v[i] = mu_pairs_random(&seed);
}

static int check_room(const char *dir, int fd, uint64_t size, struct mu_err *err)
{
    struct statvfs fs;

    if (!fstatvfs(fd, &fs) && (uint64_t)fs.f_bavail * fs.f_frsize < 2 * size)
        return mu_err_set(err, MUSTER_ENOSPC, "%s has less than twice %llu MiB free; lower --disk-size", dir,
                          (unsigned long long)(size >> 20));
    return 0;
}

/* Samples are of a block for reading, and of a block with the sync behind it for writing. */
int mu_node_disk(struct mu_node *n, int which, struct mu_err *err)
{
    uint64_t blocks = n->o->disk / BLOCK, t0;
    const char *tmp = getenv("TMPDIR"), *dir = n->o->dir ? n->o->dir : tmp && *tmp ? tmp : "/tmp";
    mu_auto_free char *buf = aligned_alloc(ALIGN, BLOCK), *known = aligned_alloc(ALIGN, BLOCK);
    enum mu_series_state state = MU_SERIES_MORE;
    int64_t wrong = 0;
    int rc;

    if (!buf || !known)
        return mu_err_set(err, MUSTER_ENOMEM, "no memory for blocks of 4 MiB");
    if (!blocks)
        return mu_err_set(err, MUSTER_EARG, "--disk-size must be 4M at least");
    mu_auto_fd int fd = open_file(dir, &n->record.flags, err);
    if (fd < 0)
        return fd;
    if ((rc = check_room(dir, fd, blocks * BLOCK, err)))
        return rc;
    /* What is to be read is written first, as much as is read. */
    if (which) {
        for (uint64_t i = 0; i < blocks; i++) {
            fill((uint64_t *)(void *)buf, n->room->seed + i);
            if ((rc = pass(fd, true, buf, (off_t)(i * BLOCK), err)))
                return rc;
        }
        if (fdatasync(fd))
            return mu_err_errno(err, MUSTER_EIO, "the file cannot be synced");
        posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    }
    for (uint64_t i = 0; state == MU_SERIES_MORE; i = (i + 1) % blocks) {
        fill((uint64_t *)(void *)known, n->room->seed + i);
        if (!which)
            memcpy(buf, known, BLOCK);
        t0 = mu_now();
        if ((rc = pass(fd, !which, buf, (off_t)(i * BLOCK), err)))
            return rc;
        if (!which && fdatasync(fd))
            return mu_err_errno(err, MUSTER_EIO, "the file cannot be synced");
        uint64_t ns = mu_now() - t0;
        if (which)
            for (size_t k = 0; k < BLOCK / 8; k++)
                wrong += ((uint64_t *)(void *)buf)[k] != ((uint64_t *)(void *)known)[k];
        state = mu_series_add(&n->series, BLOCK / (double)(ns ? ns : 1), mu_now());
    }
    n->record.size = blocks * BLOCK;
    if (which)
        n->record.wrong = wrong;
    return 0;
}
