/* Preloaded (LD_PRELOAD): see io.h. */
#include "tests/fault/shim/io.h"
#include "tests/fault/shim/net.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PUBLIC __attribute__((visibility("default")))
#define FILES 256

static struct shim_plan *plan;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct {
    char path[400];
    int fd; /* -1: closed */
    bool used, dirty;
    off_t synced;
} files[FILES];

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

PUBLIC void shim_arm(struct shim_plan *);
PUBLIC void shim_arm(struct shim_plan *p)
{
    memset(files, 0, sizeof files);
    plan = p;
}

static bool ours(const char *path)
{
    return plan && plan->kind && path && !strncmp(path, plan->dir, strlen(plan->dir));
}

static int file_of(int fd)
{
    for (int i = 0; plan && i < FILES; i++)
        if (files[i].used && files[i].fd == fd)
            return i;
    return -1;
}

static void power_cut(void)
{
    uint64_t z = plan->seed;

    for (int i = 0; i < FILES; i++) {
        struct stat st;
        int fd;

        if (!files[i].used || !files[i].dirty || (fd = REAL(open)(files[i].path, O_RDWR | O_CLOEXEC)) < 0)
            continue;
        z = z * 6364136223846793005u + 1442695040888963407u;
        if (fstat(fd, &st))
            st.st_size = 0;
        switch (z >> 62) {
        case 0: /* the length has got there, the data has not */
            if (ftruncate(fd, 0) == 0 && ftruncate(fd, st.st_size))
                plan->hits++;
            break;
        case 1:
            if (ftruncate(fd, files[i].synced))
                plan->hits++;
            break;
        case 2:
            if (ftruncate(fd, st.st_size / 2))
                plan->hits++;
            break;
        default: /* all of it by chance */
            break;
        }
    }
    raise(SIGKILL);
}

/* Before each call: whether it is to fail, with errno. */
static bool strikes(bool sync)
{
    int n = ++plan->calls;

    if (n < plan->at)
        return false;
    switch (plan->kind) {
    case SHIM_KILL:
        if (n == plan->at)
            raise(SIGKILL);
        return false;
    case SHIM_POWER:
        if (n == plan->at)
            power_cut();
        return false;
    case SHIM_ERROR:
        if (n > plan->at)
            return false;
        break;
    case SHIM_BROKEN:
        break;
    case SHIM_FSYNC:
        if (!sync || plan->hits)
            return false;
        break;
    default:
        return false;
    }
    plan->hits++;
    errno = plan->error;
    return true;
}

static void after(void)
{
    if (plan->kind == SHIM_AFTER && plan->calls == plan->at)
        raise(SIGKILL);
}

static int do_open(const char *path, int flags, mode_t mode)
{
    bool make = ours(path) && flags & O_CREAT;
    int fd;

    if (make && strikes(false))
        return -1;
    fd = REAL(open)(path, flags, mode);
    if (make && fd >= 0) {
        pthread_mutex_lock(&lock);
        for (int i = 0; i < FILES; i++)
            if (!files[i].used || (files[i].fd < 0 && !files[i].dirty)) {
                files[i].used = true;
                files[i].dirty = false;
                files[i].fd = fd;
                files[i].synced = 0;
                snprintf(files[i].path, sizeof files[i].path, "%s", path);
                break;
            }
        pthread_mutex_unlock(&lock);
        after();
    }
    return fd;
}

PUBLIC int open(const char *path, int flags, ...)
{
    va_list ap;
    mode_t mode = 0;

    va_start(ap, flags);
    if (flags & O_CREAT)
        mode = va_arg(ap, mode_t);
    va_end(ap);
    return do_open(path, flags, mode);
}

PUBLIC int close(int fd)
{
    int i = file_of(fd);

    if (i >= 0)
        files[i].fd = -1;
    return REAL(close)(fd);
}

PUBLIC ssize_t pwrite(int fd, const void *buf, size_t n, off_t at)
{
    int i = file_of(fd);
    ssize_t w;

    if (i < 0)
        return shim_net_pwrite(fd, buf, n, at);
    if (strikes(false))
        return -1;
    files[i].dirty = true;
    if (plan->kind == SHIM_TORN && plan->calls == plan->at) {
        w = REAL(pwrite)(fd, buf, (size_t)(plan->seed % n), at);
        raise(SIGKILL);
    }
    if (plan->kind == SHIM_SHORT && plan->calls >= plan->at && n > 1)
        n = 1 + (size_t)(plan->seed % (n < 3000 ? n : 3000));
    w = REAL(pwrite)(fd, buf, n, at);
    after();
    return w;
}

PUBLIC int fsync(int fd)
{
    struct stat st;
    int i = file_of(fd), rc;

    if (!plan || !plan->kind)
        return REAL(fsync)(fd);
    if (strikes(true))
        return -1;
    rc = REAL(fsync)(fd);
    if (i >= 0 && rc == 0) {
        files[i].dirty = false;
        files[i].synced = fstat(fd, &st) ? 0 : st.st_size;
    }
    after();
    return rc;
}

PUBLIC int fallocate(int fd, int mode, off_t at, off_t n)
{
    int rc, i = file_of(fd);

    if (i >= 0 && strikes(false))
        return -1;
    rc = REAL(fallocate)(fd, mode, at, n);
    if (i >= 0)
        after();
    return rc;
}

/* What was written goes along with its name. */
static void moved(const char *from, const char *to)
{
    size_t n = strlen(from);

    pthread_mutex_lock(&lock);
    for (int i = 0; i < FILES; i++)
        if (files[i].used && !strncmp(files[i].path, from, n) && (!files[i].path[n] || files[i].path[n] == '/')) {
            char path[800];

            snprintf(path, sizeof path, "%s%s", to, files[i].path + n);
            snprintf(files[i].path, sizeof files[i].path, "%.399s", path);
        }
    pthread_mutex_unlock(&lock);
}

PUBLIC int rename(const char *from, const char *to)
{
    int rc;

    if (!ours(from))
        return REAL(rename)(from, to);
    if (strikes(false))
        return -1;
    rc = REAL(rename)(from, to);
    if (!rc)
        moved(from, to);
    after();
    return rc;
}

#define PATH_CALL(name, params, args)                                                                                  \
    PUBLIC int name params                                                                                             \
    {                                                                                                                  \
        int rc;                                                                                                        \
                                                                                                                       \
        if (!ours(path))                                                                                               \
            return REAL(name) args;                                                                                    \
        if (strikes(false))                                                                                            \
            return -1;                                                                                                 \
        rc = REAL(name) args;                                                                                          \
        after();                                                                                                       \
        return rc;                                                                                                     \
    }
PATH_CALL(mkdir, (const char *path, mode_t mode), (path, mode))
PATH_CALL(unlink, (const char *path), (path))
PATH_CALL(rmdir, (const char *path), (path))
PATH_CALL(link, (const char *path, const char *to), (path, to))
