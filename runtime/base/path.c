#include "runtime/base/path.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "runtime/base/clean.h"
#include "runtime/base/clock.h"
#include "runtime/base/str.h"

enum { MAX_DEPTH = 64 };
#define GONE " (deleted)" /* what the kernel adds to a path that leads elsewhere by now */

/* --- small ones ------------------------------------------------------------------------------------------------- */

int mu_path_join(char *out, size_t n, const char *dir, const char *name, struct mu_err *err)
{
    if (strlen(dir) + 1 + strlen(name) >= n)
        return mu_err_set(err, MUSTER_EARG, "path is too long: %.200s/%.100s", dir, name);
    snprintf(out, n, "%s/%s", dir, name);
    return 0;
}

int mu_path_exe(char *buf, size_t n, struct mu_err *err)
{
    char link[PATH_MAX];
    ssize_t len = readlink("/proc/self/exe", link, sizeof link - 1);

    if (len < 0)
        return mu_err_errno(err, MUSTER_EIO, "cannot find the running binary");
    link[len] = 0;
    size_t tail = sizeof GONE - 1;
    if (access(link, X_OK) < 0 && (size_t)len > tail && !strcmp(link + len - tail, GONE)) {
        link[(size_t)len - tail] = 0;
        if (access(link, X_OK) < 0)
            return mu_err_errno(err, 0, "the running binary, %s, is not there any more", link);
    }
    if (mu_str_copy(buf, n, link) < 0)
        return mu_err_set(err, MUSTER_EARG, "path of the running binary is too long");
    return 0;
}

void mu_path_host(char host[65])
{
    struct utsname u;

    snprintf(host, 65, "%.64s", uname(&u) == 0 && u.nodename[0] ? u.nodename : "localhost");
    for (char *p = host; *p; p++)
        if (!strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_", *p))
            *p = '_';
    /* "." and ".." are names that the system may well give, but no directories of ours. */
    if (host[0] == '.')
        host[0] = '_';
}

int mu_path_mkdirs(const char *path, mode_t mode, struct mu_err *err)
{
    char part[PATH_MAX];
    struct stat st;

    if (!*path || mu_str_copy(part, sizeof part, path) < 0)
        return mu_err_set(err, MUSTER_EARG, "not a usable path: '%.200s'", path);
    for (char *p = part + 1;; p++) {
        char c = *p;

        if (c && c != '/')
            continue;
        *p = 0;
        int e = mkdir(part, mode) < 0 && errno != EEXIST && errno != EISDIR ? errno : 0;
        if (e && stat(part, &st) < 0) {
            errno = e;
            return mu_err_errno(err, 0, "cannot create directory %s", part);
        }
        *p = c;
        if (!c)
            break;
    }
    if (stat(path, &st) < 0)
        return mu_err_errno(err, 0, "cannot create directory %s", path);
    if (!S_ISDIR(st.st_mode))
        return mu_err_set(err, MUSTER_EARG, "%s is not a directory", path);
    return 0;
}

int mu_path_read_open(int fd, const char *path, size_t max, struct mu_buf *out, struct mu_err *err)
{
    size_t was = out->len, got = 0;

    for (;;) {
        size_t want = got < max ? max - got : 1;
        if (want > 65536)
            want = 65536;
        if (mu_buf_reserve(out, want) < 0) {
            mu_err_set(err, MUSTER_ENOMEM, "reading %s: %s", path, muster_strerror(MUSTER_ENOMEM));
            break;
        }
        ssize_t n = read(fd, out->data + out->len, want);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            int rc = mu_err_errno(err, 0, "cannot read %s", path), e = errno;
            out->len = was;
            out->data[was] = 0;
            errno = e;
            return rc;
        }
        if (n == 0) {
            out->data[out->len] = 0;
            return 0;
        }
        got += (size_t)n;
        if (got > max) {
            mu_err_set(err, MUSTER_EARG, "%s is larger than %zu bytes", path, max);
            break;
        }
        out->len += (size_t)n;
    }
    out->len = was;
    if (out->data)
        out->data[was] = 0;
    errno = 0;
    return out->failed ? MUSTER_ENOMEM : MUSTER_EARG;
}

int mu_path_read(const char *path, size_t max, struct mu_buf *out, struct mu_err *err)
{
    mu_auto_fd int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);

    return fd < 0 ? mu_err_errno(err, 0, "cannot read %s", path) : mu_path_read_open(fd, path, max, out, err);
}

static const char *kind_of(mode_t mode)
{
    return S_ISFIFO(mode)                   ? "a pipe"
           : S_ISSOCK(mode)                 ? "a socket"
           : S_ISCHR(mode) || S_ISBLK(mode) ? "a device"
                                            : "no file";
}

int mu_path_open_regular(const char *path, int flags, struct stat *st, struct mu_err *err)
{
    struct stat is;

    errno = EINVAL;
    if (!*path)
        return mu_err_set(err, MUSTER_EARG, "the name of the file is empty");
    mu_auto_fd int fd =
        open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK | flags); /* no pipe's writer is awaited */
    if (fd < 0 && errno == ENXIO) {                                       /* a socket, or a device that nobody drives */
        errno = EINVAL;
        return mu_err_set(err, MUSTER_EARG, "%s is no regular file", path);
    }
    if (fd < 0 || fstat(fd, &is))
        return mu_err_errno(err, 0, "cannot read %s", path);
    if (S_ISDIR(is.st_mode)) {
        errno = EISDIR;
        return mu_err_errno(err, 0, "cannot read %s", path);
    }
    if (!S_ISREG(is.st_mode)) {
        errno = EINVAL;
        return mu_err_set(err, MUSTER_EARG, "%s is %s: write its text into a file", path, kind_of(is.st_mode));
    }
    if (st)
        *st = is;
    return MU_STEAL(fd, -1);
}

int mu_path_read_regular(const char *path, size_t max, struct mu_buf *out, struct mu_err *err)
{
    mu_auto_fd int fd = mu_path_open_regular(path, 0, NULL, err);

    return fd < 0 ? fd : mu_path_read_open(fd, path, max, out, err);
}

int mu_path_read_text(const char *path, size_t max, struct mu_buf *out, struct mu_err *err)
{
    static const char bom[] = "\xef\xbb\xbf";
    int rc = mu_path_read_regular(path, max, out, err);

    if (rc || !out->len)
        return rc;
    if (memchr(out->data, '\0', out->len))
        return mu_err_set(err, MUSTER_EARG, "%s: is not text", path);
    if (out->len >= 3 && !memcmp(out->data, bom, 3)) {
        out->len -= 3;
        memmove(out->data, out->data + 3, out->len + 1);
    }
    return 0;
}

bool mu_path_same_file(const char *a, const char *b)
{
    struct stat x, y;

    return !stat(a, &x) && !stat(b, &y) && S_ISREG(x.st_mode) && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

int mu_path_create(const char *path, FILE **out, struct mu_err *err)
{
    struct stat st;

    if (!*path)
        return mu_err_set(err, MUSTER_EARG, "the name of the file is empty");
    mu_auto_fd int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0666);
    int e = errno;
    if (fd < 0 && e == ENXIO && !stat(path, &st) && S_ISFIFO(st.st_mode))
        return mu_err_set(err, MUSTER_EARG, "%s is a pipe that nobody reads: name a file", path);
    if (fd < 0 && e == ENXIO && !stat(path, &st))
        return mu_err_set(err, MUSTER_EARG, "%s is %s: name a file", path, kind_of(st.st_mode));
    errno = e;
    FILE *f = fd < 0 || fcntl(fd, F_SETFL, 0) ? NULL : fdopen(fd, "w");
    if (!f)
        return mu_err_errno(err, MUSTER_EIO, "cannot write %s", path);
    fd = -1;
    *out = f;
    return 0;
}

/* --- durable files ---------------------------------------------------------------------------------------------- */

static int sync_parent(const char *path, struct mu_err *err)
{
    char dir[PATH_MAX];
    const char *slash = strrchr(path, '/');

    if (!slash)
        snprintf(dir, sizeof dir, ".");
    else
        snprintf(dir, sizeof dir, "%.*s", slash == path ? 1 : (int)(slash - path), path);
    mu_auto_fd int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || fsync(fd) < 0)
        return mu_err_errno(err, 0, "cannot sync directory %s", dir);
    return 0;
}

static int write_all(int fd, const char *data, size_t len)
{
    while (len) {
        ssize_t n = write(fd, data, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        data += n;
        len -= (size_t)n;
    }
    return 0;
}

int mu_path_write_atomic(const char *path, const void *data, size_t len, mode_t mode, struct mu_err *err)
{
    static _Atomic unsigned serial;
    char temp[PATH_MAX];

    int n = snprintf(temp, sizeof temp, "%s.tmp.%ld.%u", path, (long)getpid(), atomic_fetch_add(&serial, 1));
    if (n < 0 || (size_t)n >= sizeof temp)
        return mu_err_set(err, MUSTER_EARG, "path is too long: %.200s", path);
    int fd = open(temp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
    if (fd < 0 && errno == EEXIST && unlink(temp) == 0) /* left by a dead process of our pid */
        fd = open(temp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
    if (fd < 0)
        return mu_err_errno(err, 0, "cannot write %s", path);
    bool bad = write_all(fd, data, len) < 0 || fchmod(fd, mode) < 0 || fsync(fd) < 0;
    int e = errno;
    if (close(fd) < 0 && !bad) {
        bad = true;
        e = errno;
    }
    if (!bad && rename(temp, path) < 0) {
        bad = true;
        e = errno;
    }
    if (bad) {
        unlink(temp);
        errno = e;
        return mu_err_errno(err, 0, "cannot write %s", path);
    }
    return sync_parent(path, err);
}

int mu_path_lock_sign(int fd, const char *path, struct mu_err *err)
{
    char pid[24];
    int n = snprintf(pid, sizeof pid, "%ld\n", (long)getpid());

    if (ftruncate(fd, 0) < 0 || pwrite(fd, pid, (size_t)n, 0) != n)
        return mu_err_errno(err, 0, "cannot write lock %s", path);
    return 0;
}

static int take_lock(const char *path, int wait_ms, bool sign, struct mu_err *err)
{
    uint64_t deadline = mu_now() + (uint64_t)(wait_ms > 0 ? wait_ms : 0) * MU_MS;
    char pid[24];

    for (int replaced = 0;;) {
        mu_auto_fd int fd = open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
        struct stat mine, there;

        if (fd < 0)
            return mu_err_set(err, mu_err_from_errno(errno), "cannot open lock %s: %s; check the permissions there",
                              path, strerror(errno));
        if (flock(fd, LOCK_EX | LOCK_NB) == 0) {
            /* The holder before us may have removed the file; a lock on what nobody else can find is none. */
            if (fstat(fd, &mine) < 0 || stat(path, &there) < 0 || mine.st_ino != there.st_ino ||
                mine.st_dev != there.st_dev) {
                if (replaced++ < 100)
                    continue;
                return mu_err_set(err, MUSTER_ETIMEOUT, "lock %s keeps being replaced", path);
            }
            int rc = sign ? mu_path_lock_sign(fd, path, err) : 0;
            if (!rc && !sign && ftruncate(fd, 0) < 0)
                rc = mu_err_errno(err, 0, "cannot write lock %s", path);
            return rc ? rc : MU_STEAL(fd, -1);
        }
        if (errno != EWOULDBLOCK && errno != EINTR)
            return mu_err_errno(err, 0, "cannot lock %s", path);
        if (mu_now() >= deadline) {
            ssize_t n = pread(fd, pid, sizeof pid - 1, 0);
            pid[n > 0 ? n : 0] = 0;
            pid[strspn(pid, "0123456789")] = 0;
            return mu_err_set(err, MUSTER_ETIMEOUT, "%s is held by %s%s; wait for that one, or end it", path,
                              *pid ? "process " : "another process", pid);
        }
        nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
    }
}

int mu_path_lock(const char *path, int wait_ms, struct mu_err *err)
{
    return take_lock(path, wait_ms, true, err);
}

int mu_path_lock_blank(const char *path, int wait_ms, struct mu_err *err)
{
    return take_lock(path, wait_ms, false, err);
}

/* --- sockets ---------------------------------------------------------------------------------------------------- */

int mu_path_sockaddr(const char *dir, const char *name, struct sockaddr_un *sa, socklen_t *len, int *dirfd,
                     struct mu_err *err)
{
    struct sockaddr_un out = {.sun_family = AF_UNIX};
    mu_auto_fd int fd = -1;

    if (!*name || strchr(name, '/'))
        return mu_err_set(err, MUSTER_EARG, "not a socket name: '%.100s'", name);
    int n = snprintf(out.sun_path, sizeof out.sun_path, "%s/%s", dir, name);
    if (n < 0 || (size_t)n >= sizeof out.sun_path) {
        fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0)
            return mu_err_errno(err, 0, "cannot open %s", dir);
        n = snprintf(out.sun_path, sizeof out.sun_path, "/proc/self/fd/%d/%s", fd, name);
        if (n < 0 || (size_t)n >= sizeof out.sun_path)
            return mu_err_set(err, MUSTER_EARG, "socket name is too long: '%.200s'", name);
    }
    *sa = out;
    *len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + (size_t)n + 1);
    *dirfd = MU_STEAL(fd, -1);
    return 0;
}

/* --- removal ---------------------------------------------------------------------------------------------------- */

static int remove_at(int at, const char *name, dev_t dev, int depth, struct mu_err *err);

static int empty_dir(int fd, dev_t dev, int depth, struct mu_err *err)
{
    mu_auto_dir DIR *d = fdopendir(fd);
    struct dirent *e;

    if (!d) {
        int rc = mu_err_errno(err, 0, "cannot list directory");
        close(fd);
        return rc;
    }
    for (errno = 0; (e = readdir(d)); errno = 0) {
        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
            continue;
        int rc = remove_at(dirfd(d), e->d_name, dev, depth + 1, err);
        if (rc < 0)
            return rc;
    }
    return errno ? mu_err_errno(err, 0, "cannot list directory") : 0;
}

static int remove_at(int at, const char *name, dev_t dev, int depth, struct mu_err *err)
{
    struct stat st;

    if (depth > MAX_DEPTH)
        return mu_err_set(err, MUSTER_EARG, "more than %d levels of directories", MAX_DEPTH);
    if (unlinkat(at, name, 0) == 0 || errno == ENOENT)
        return 0;
    /* Linux says EISDIR for a directory, POSIX EPERM. */
    if (errno != EISDIR && errno != EPERM)
        return mu_err_errno(err, 0, "cannot remove %s", name);
    int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT)
        return 0;
    if (fd < 0)
        return mu_err_errno(err, 0, "cannot remove %s", name);
    if (fstat(fd, &st) < 0 || (dev && st.st_dev != dev)) {
        close(fd);
        return mu_err_set(err, MUSTER_EARG, "%s is on another file system", name);
    }
    int rc = empty_dir(fd, st.st_dev, depth, err);
    if (rc < 0) {
        mu_err_prefix(err, "%s", name);
        return rc;
    }
    if (unlinkat(at, name, AT_REMOVEDIR) < 0 && errno != ENOENT)
        return mu_err_errno(err, 0, "cannot remove %s", name);
    return 0;
}

int mu_path_remove_tree(const char *path, struct mu_err *err)
{
    return remove_at(AT_FDCWD, path, 0, 0, err);
}

/* --- the pool's directories ------------------------------------------------------------------------------------- */

/* Refuses what somebody else could change under us. */
static int ours(int fd, const char *path, const char *variable, struct mu_err *err)
{
    struct stat st;

    if (fstat(fd, &st) < 0)
        return mu_err_errno(err, 0, "%s", path);
    if (st.st_uid != geteuid())
        return mu_err_set(err, MUSTER_EIO, "%s belongs to user %ld, not to us; remove it or set %s", path,
                          (long)st.st_uid, variable);
    if (st.st_mode & 022)
        return mu_err_set(err, MUSTER_EIO, "%s can be written by others (mode %04o); chmod 700 it", path,
                          (unsigned)st.st_mode & 07777);
    return 0;
}

/* Opens at/name, made if that is wanted, which must be a real directory of ours; path is for messages. Returns the
 * descriptor. */
static int private_dir(int at, const char *name, const char *path, bool make, struct mu_err *err)
{
    struct stat st;

    if (make && mkdirat(at, name, 0700) < 0 && errno != EEXIST)
        return mu_err_errno(err, 0, "cannot create directory %s", path);
    mu_auto_fd int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) {
        int e = errno;
        if (fstatat(at, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISLNK(st.st_mode))
            return mu_err_set(err, MUSTER_EIO, "%s is a symbolic link; remove it or set MUSTER_RUN_ROOT", path);
        if (e == ENOTDIR)
            return mu_err_set(err, MUSTER_EIO, "%s is not a directory; remove it or set MUSTER_RUN_ROOT", path);
        errno = e;
        return mu_err_errno(err, 0, "cannot open directory %s", path);
    }
    int rc = ours(fd, path, "MUSTER_RUN_ROOT", err);
    return rc < 0 ? rc : MU_STEAL(fd, -1);
}

/* <base>/HOST/HASH below the root, which is made too. *gone: a part is not there; when all are made, because it
 * vanished meanwhile (another pool's clean-up). */
static int run_dir(const struct mu_paths *p, const char *root, const char *hash, bool make, char *out, bool *gone,
                   struct mu_err *err)
{
    const char *const parts[] = {p->host, hash};
    char path[PATH_MAX], next[PATH_MAX];

    if (mu_str_copy(path, sizeof path, root) < 0)
        return mu_err_set(err, MUSTER_EARG, "MUSTER_RUN_ROOT is too long");
    int at = private_dir(AT_FDCWD, path, path, make, err);
    for (size_t i = 0; at >= 0 && i < MU_COUNT(parts); i++) {
        int rc = mu_path_join(next, sizeof next, path, parts[i], err);
        if (rc == 0)
            rc = private_dir(at, parts[i], next, make, err);
        int e = errno;
        close(at);
        at = rc;
        errno = e;
        memcpy(path, next, sizeof path);
    }
    *gone = at < 0 && errno == ENOENT;
    if (at < 0)
        return at;
    close(at);
    memcpy(out, path, sizeof path);
    return 0;
}

static int state_base(char *out, size_t n, struct mu_err *err)
{
    const char *home = getenv("MUSTER_HOME"), *xdg = getenv("XDG_STATE_HOME"), *dir = getenv("HOME");
    int k;

    if (home && *home) {
        k = snprintf(out, n, "%s", home);
    } else if (xdg && *xdg == '/') {
        k = snprintf(out, n, "%s/muster", xdg);
    } else {
        if (!dir || *dir != '/') {
            struct passwd *pw = getpwuid(geteuid());
            dir = pw ? pw->pw_dir : NULL;
        }
        if (!dir || *dir != '/')
            return mu_err_set(err, MUSTER_EIO, "no home directory is known for user %ld; set MUSTER_HOME",
                              (long)geteuid());
        k = snprintf(out, n, "%s/.local/state/muster", dir);
    }
    if (k < 0 || (size_t)k >= n)
        return mu_err_set(err, MUSTER_EARG, "MUSTER_HOME is too long; choose a shorter one");
    return 0;
}

/* An agent of another host's pool has a directory of its own, so that it does not meet this host's pool. */
static int joined_dir(char path[PATH_MAX], struct mu_err *err)
{
    const char *id = getenv(MU_PATHS_JOINED);
    size_t n = strlen(path);

    if (!id || !*id)
        return 0;
    if (strspn(id, "0123456789abcdef") != strlen(id) || strlen(id) > 16)
        return mu_err_set(err, MUSTER_EARG, MU_PATHS_JOINED " is set by muster itself; unset it");
    return snprintf(path + n, PATH_MAX - n, "/joined-%s", id) < (int)(PATH_MAX - n)
               ? 0
               : mu_err_set(err, MUSTER_EARG, "MUSTER_HOME is too long; choose a shorter one");
}

/* realpath, also of what is not there: the real path of what is, and the rest behind it. *there: all of it is. */
static int real_path(const char *path, char out[PATH_MAX], bool *there, struct mu_err *err)
{
    char part[PATH_MAX], room[PATH_MAX];

    *there = true;
    if (mu_str_copy(part, sizeof part, path) < 0)
        return mu_err_set(err, MUSTER_EARG, "MUSTER_HOME is too long; choose a shorter one");
    for (size_t n = strlen(part);;) {
        if (realpath(n ? part : path[0] == '/' ? "/" : ".", out))
            break;
        if (errno != ENOENT || !n)
            return mu_err_errno(err, 0, "state directory %s", path);
        *there = false;
        while (n && part[n - 1] == '/')
            n--;
        while (n && part[n - 1] != '/')
            n--;
        part[n] = 0;
    }
    for (const char *rest = path + strlen(part); *rest;) {
        size_t len = strcspn(rest, "/");
        snprintf(room, sizeof room, "%.*s", (int)len, rest);
        if (len && !strcmp(out, "/"))
            out[0] = 0;
        size_t have = strlen(out);
        if (len && snprintf(out + have, PATH_MAX - have, "/%s", room) >= (int)(PATH_MAX - have))
            return mu_err_set(err, MUSTER_EARG, "MUSTER_HOME is too long; choose a shorter one");
        rest += len + (rest[len] == '/');
    }
    return 0;
}

/* The state directory is there and can be used. */
static int check_state(const struct mu_paths *p, struct mu_err *err)
{
    int rc;

    mu_auto_fd int fd = open(p->state, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return mu_err_errno(err, 0, "state directory %s", p->state);
    if ((rc = ours(fd, p->state, "MUSTER_HOME", err)) < 0)
        return mu_err_prefix(err, "state directory");
    if (faccessat(fd, ".", W_OK | X_OK, AT_EACCESS) < 0)
        return mu_err_errno(err, MUSTER_EIO, "state directory %s cannot be written", p->state);
    return 0;
}

static int find_state(struct mu_paths *p, bool make, struct mu_err *err)
{
    char base[PATH_MAX], path[PATH_MAX];
    bool there;
    int rc;

    mu_path_host(p->host);
    if ((rc = state_base(base, sizeof base, err)) < 0 ||
        (rc = mu_path_join(path, sizeof path, base, p->host, err)) < 0 || (rc = joined_dir(path, err)) < 0)
        return rc;
    if (make && (rc = mu_path_mkdirs(path, 0700, err)) < 0)
        return mu_err_prefix(err, "state directory");
    if ((rc = real_path(base, p->home, &there, err)) < 0 || (rc = real_path(path, p->state, &there, err)) < 0)
        return rc;
    return there || make ? check_state(p, err) : 0;
}

static int find_paths(struct mu_paths *p, bool make, struct mu_err *err)
{
    const char *root = getenv("MUSTER_RUN_ROOT");
    char fallback[40], hash[9];
    struct mu_paths out = {0};
    int rc = find_state(&out, make, err);

    if (rc < 0)
        return rc;
    uint64_t h = mu_str_hash(out.state, strlen(out.state));
    out.pool_hash = (uint32_t)(h ^ h >> 32);
    snprintf(hash, sizeof hash, "%08x", out.pool_hash);
    snprintf(fallback, sizeof fallback, "/tmp/muster-%ld", (long)geteuid());
    if (!root || !*root)
        root = fallback;
    else if (*root != '/')
        return mu_err_set(err, MUSTER_EARG, "MUSTER_RUN_ROOT must be an absolute path");
    bool gone = true;
    for (int i = 0; i < (make ? 200 : 1) && gone; i++) {
        gone = false;
        rc = run_dir(&out, root, hash, make, out.run, &gone, err);
    }
    if (gone && !make) {
        int k = snprintf(out.run, sizeof out.run, "%s/%s/%s", root, out.host, hash);
        rc = k < 0 || (size_t)k >= sizeof out.run ? mu_err_set(err, MUSTER_EARG, "MUSTER_RUN_ROOT is too long") : 0;
    }
    if (rc < 0)
        return rc;
    *p = out;
    return 0;
}

int mu_paths_init(struct mu_paths *p, struct mu_err *err)
{
    return find_paths(p, true, err);
}

int mu_paths_find(struct mu_paths *p, struct mu_err *err)
{
    return find_paths(p, false, err);
}

int mu_path_rundir_cleanup(const struct mu_paths *p, struct mu_err *err)
{
    const char *root = getenv("MUSTER_RUN_ROOT");
    char path[PATH_MAX];
    int rc = mu_path_remove_tree(p->run, err);

    if (rc < 0)
        return rc;
    memcpy(path, p->run, sizeof path);
    for (int up = 0; up < (root && *root ? 1 : 2); up++) {
        char *slash = strrchr(path, '/');
        if (!slash || slash == path)
            break;
        *slash = 0;
        /* Another pool's run directory in it is what keeps it. */
        if (rmdir(path) < 0 && errno != ENOENT)
            break;
    }
    return 0;
}
