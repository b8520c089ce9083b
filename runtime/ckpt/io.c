#include "runtime/ckpt/io.h"

#include "runtime/base/clean.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>

static int do_open(const struct mu_ckpt_io *io, const char *path, int flags, mode_t mode)
{
    (void)io;
    return open(path, flags | O_CLOEXEC, mode);
}
static ssize_t do_pwrite(const struct mu_ckpt_io *io, int fd, const void *buf, size_t n, off_t at)
{
    (void)io;
    return pwrite(fd, buf, n, at);
}
static int do_fsync(const struct mu_ckpt_io *io, int fd)
{
    (void)io;
    return fsync(fd);
}
static int do_reserve(const struct mu_ckpt_io *io, int fd, off_t bytes)
{
    (void)io;
    return fallocate(fd, 0, 0, bytes);
}
static int do_rename(const struct mu_ckpt_io *io, const char *from, const char *to)
{
    (void)io;
    return rename(from, to);
}
static int do_mkdir(const struct mu_ckpt_io *io, const char *path)
{
    (void)io;
    return mkdir(path, 0777);
}
static int do_unlink(const struct mu_ckpt_io *io, const char *path)
{
    (void)io;
    return unlink(path);
}
static int do_rmdir(const struct mu_ckpt_io *io, const char *path)
{
    (void)io;
    return rmdir(path);
}
static int do_link(const struct mu_ckpt_io *io, const char *from, const char *to)
{
    (void)io;
    return link(from, to);
}

const struct mu_ckpt_io mu_ckpt_io_posix = {
    .open = do_open,
    .pwrite = do_pwrite,
    .fsync = do_fsync,
    .reserve = do_reserve,
    .rename = do_rename,
    .mkdir = do_mkdir,
    .unlink = do_unlink,
    .rmdir = do_rmdir,
    .link = do_link,
};

struct mu_ckpt_path mu_ckpt_path(const char *fmt, ...)
{
    struct mu_ckpt_path p;
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(p.s, sizeof p.s, fmt, ap);
    va_end(ap);
    return p;
}

int mu_ckpt_write_all(const struct mu_ckpt_io *io, int fd, const void *buf, size_t n, off_t at, const char *path,
                      struct mu_err *err)
{
    const char *p = buf;

    while (n) {
        ssize_t w = io->pwrite(io, fd, p, n, at);

        if (w < 0 && errno == EINTR)
            continue;
        if (w <= 0) {
            if (w == 0)
                errno = EIO;
            return mu_err_errno(err, 0, "write %s", path);
        }
        p += w;
        n -= (size_t)w;
        at += w;
    }
    return 0;
}

int mu_ckpt_put_file(const struct mu_ckpt_io *io, const char *tmp, const char *path, const void *buf, size_t n,
                     struct mu_err *err)
{
    mu_auto_fd int fd = io->open(io, tmp, O_WRONLY | O_CREAT | O_TRUNC, 0666);
    int rc;

    if (fd < 0)
        return mu_err_errno(err, 0, "create %s", tmp);
    if ((rc = mu_ckpt_write_all(io, fd, buf, n, 0, tmp, err)))
        return rc;
    if (io->fsync(io, fd))
        return mu_err_errno(err, 0, "sync %s", tmp);
    if (io->rename(io, tmp, path))
        return mu_err_errno(err, 0, "rename %s to %s", tmp, path);
    return 0;
}

int mu_ckpt_sync_dir(const struct mu_ckpt_io *io, const char *path, struct mu_err *err)
{
    mu_auto_fd int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0)
        return mu_err_errno(err, 0, "open directory %s", path);
    /* EINVAL: a file system whose directories cannot be synced, and need not be */
    if (io->fsync(io, fd) && errno != EINVAL)
        return mu_err_errno(err, 0, "sync directory %s", path);
    return 0;
}

int mu_ckpt_read_all(int fd, void *buf, size_t n, uint64_t at, const char *path, struct mu_err *err)
{
    char *p = buf;

    if (at > INT64_MAX || n > INT64_MAX - at)
        return mu_err_set(err, MUSTER_ECORRUPT, "%s: offset out of range", path);
    while (n) {
        ssize_t r = pread(fd, p, n, (off_t)at);

        if (r < 0 && errno == EINTR)
            continue;
        if (r < 0)
            return mu_err_errno(err, MUSTER_EIO, "read %s", path);
        if (r == 0)
            return mu_err_set(err, MUSTER_ECORRUPT, "%s is cut short at byte %llu", path, (unsigned long long)at);
        p += r;
        n -= (size_t)r;
        at += (uint64_t)r;
    }
    return 0;
}

int mu_ckpt_get_file(const char *path, size_t max, unsigned char **buf, size_t *n, struct mu_err *err)
{
    mu_auto_fd int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    mu_auto_free unsigned char *data = NULL;
    struct stat st;
    int rc;

    if (fd < 0 && errno == ENOENT)
        return mu_err_set(err, MUSTER_ENOCKPT, "%s does not exist", path);
    if (fd < 0 || fstat(fd, &st))
        return mu_err_errno(err, MUSTER_EIO, "open %s", path);
    if (!S_ISREG(st.st_mode))
        return mu_err_set(err, MUSTER_ECORRUPT, "%s is not a file", path);
    if ((uint64_t)st.st_size > max)
        return mu_err_set(err, MUSTER_ECORRUPT, "%s is too long", path);
    if (!(data = malloc((size_t)st.st_size + 1)))
        return mu_err_set(err, MUSTER_ENOMEM, "no memory to read %s", path);
    if ((rc = mu_ckpt_read_all(fd, data, (size_t)st.st_size, 0, path, err)))
        return rc;
    data[st.st_size] = 0;
    *n = (size_t)st.st_size;
    *buf = MU_STEAL(data, NULL);
    return 0;
}

int mu_ckpt_open_file(const char *path, struct mu_err *err)
{
    mu_auto_fd int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a FIFO has nobody who writes */
    struct stat st;

    if (fd < 0 || fstat(fd, &st))
        return mu_err_errno(err, MUSTER_EIO, "open %s", path);
    if (!S_ISREG(st.st_mode))
        return mu_err_set(err, MUSTER_ECORRUPT, "%s is not a file", path);
    return MU_STEAL(fd, -1);
}

int mu_ckpt_make_dirs(const struct mu_ckpt_io *io, const char *path, struct mu_err *err)
{
    struct mu_ckpt_path p = mu_ckpt_path("%s", path);
    struct stat st;

    if (stat(path, &st) == 0 && S_ISDIR(st.st_mode))
        return 0;
    for (char *s = p.s + 1;; s++) {
        char was = *s;

        if (was != '/' && was)
            continue;
        *s = 0;
        if (io->mkdir(io, p.s) && errno != EEXIST && !(was && stat(p.s, &st) == 0))
            return mu_err_errno(err, 0, "create directory %s", p.s);
        *s = was;
        if (!was)
            break;
    }
    if (stat(path, &st))
        return mu_err_errno(err, 0, "directory %s", path);
    if (!S_ISDIR(st.st_mode))
        return mu_err_set(err, MUSTER_EIO, "%s is not a directory", path);
    return 0;
}

static int unlink_in(const struct mu_ckpt_io *io, const char *dir, const char *name, struct mu_err *err)
{
    struct mu_ckpt_path p = mu_ckpt_path("%s/%s", dir, name);

    if (io->unlink(io, p.s) && errno != ENOENT)
        return mu_err_errno(err, 0, "remove %s", p.s);
    return 0;
}

int mu_ckpt_remove_dir(const struct mu_ckpt_io *io, const char *path, const char *first, struct mu_err *err)
{
    mu_auto_dir DIR *d = opendir(path);
    int rc = 0;

    if (!d && errno == ENOENT)
        return 0;
    if (!d)
        return mu_err_errno(err, 0, "open directory %s", path);
    if (first && (rc = unlink_in(io, path, first, err)))
        return rc;
    for (struct dirent *e; (e = readdir(d));)
        if (strcmp(e->d_name, ".") && strcmp(e->d_name, ".."))
            if ((rc = unlink_in(io, path, e->d_name, err)))
                return rc;
    if (io->rmdir(io, path) && errno != ENOENT)
        return mu_err_errno(err, 0, "remove directory %s", path);
    return 0;
}
