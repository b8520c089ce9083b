#include "runtime/wire/exe.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "runtime/base/clean.h"
#include "runtime/base/clock.h"
#include "runtime/base/path.h"
#include "runtime/wire/daemon.h"
#include "runtime/wire/msg.h"

#define SELF "/proc/self/exe"
#define PATIENCE (3 * MU_SEC) /* for daemons that are just ending */

static const struct {
    char word[12];
    uint32_t version;
} mark __attribute__((used)) = {"muster-wire", MU_WIRE_VERSION};

/* As the file has it, that is: a test may have changed it there. */
static uint32_t ours(void)
{
    return *(const volatile uint32_t *)&mark.version;
}

/* The version in the mark of a binary; 0: it has none, or cannot be read. Async-signal-safe. */
static uint32_t version_of(const char *path)
{
    char have[64 << 10];
    size_t n = 0;
    uint32_t version = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);

    while (fd >= 0 && !version) {
        ssize_t got = read(fd, have + n, sizeof have - n);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            break;
        n += (size_t)got;
        const char *at = memmem(have, n, mark.word, sizeof mark.word);
        size_t keep = at ? (size_t)(have + n - at) : n < sizeof mark - 1 ? n : sizeof mark - 1;
        if (at && keep >= sizeof mark)
            memcpy(&version, at + sizeof mark.word, sizeof version);
        memmove(have, have + n - keep, keep);
        n = keep;
    }
    if (fd >= 0)
        close(fd);
    return version;
}

static bool same_file(const struct stat *a, const struct stat *b)
{
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

static bool is_self(const char *file)
{
    struct stat a, b;

    return !stat(file, &a) && !stat(SELF, &b) && same_file(&a, &b);
}

static bool fits(const char *file)
{
    return *file && version_of(file) == ours();
}

int mu_exe_find(char *buf, size_t n, struct mu_err *err)
{
    char path[PATH_MAX];
    int rc = mu_path_exe(path, sizeof path, err);

    if (!rc && !is_self(path) && !fits(path))
        rc = mu_err_set(err, MUSTER_EVERSION,
                        "%s has been replaced by another version of muster, which this one cannot work with", path);
    return rc ? rc : mu_path_exe(buf, n, err);
}

void mu_exe_become(const char *file, bool newest, char *const argv[], char *const env[])
{
    if (*file && (is_self(file) || (newest && fits(file))))
        execve(file, argv, env);
    execve(SELF, argv, env);
    /* A file system of another host may have forgotten what is gone. */
    int e = errno;
    if (fits(file))
        execve(file, argv, env);
    else
        errno = e;
}

/* A daemon in RUN that speaks another version; 0: none. */
static pid_t stranger(const char *run, char *name, size_t n, uint32_t *version)
{
    mu_auto_dir DIR *d = opendir(run);
    struct stat st, known;
    char path[40];
    pid_t pid;

    if (stat(SELF, &known))
        return 0;
    for (const struct dirent *e; d && (e = readdir(d));) {
        size_t len = strlen(e->d_name);
        if (len < 6 || strcmp(e->d_name + len - 5, ".lock") != 0 || !strcmp(e->d_name, "start.lock") ||
            !mu_daemon_locked(run, e->d_name, &pid) || pid <= 0)
            continue;
        snprintf(path, sizeof path, "/proc/%ld/exe", (long)pid);
        if (stat(path, &st) || same_file(&st, &known))
            continue;
        *version = version_of(path);
        if (*version && *version != ours()) {
            snprintf(name, n, "%.*s", (int)len - 5, e->d_name);
            return pid;
        }
        known = st; /* most of them are of one binary */
    }
    return 0;
}

int mu_exe_alike(const char *run, struct mu_err *err)
{
    uint64_t until = mu_now() + PATIENCE;
    char name[64];
    uint32_t version;
    pid_t pid;

    while ((pid = stranger(run, name, sizeof name, &version))) {
        if (mu_now() > until)
            return mu_err_set(
                err, MUSTER_EVERSION,
                "process %ld (%s) speaks version %u of the protocol, this muster %u: let the muster that it "
                "is of end its jobs and the pool, then begin with this one",
                (long)pid, name, version, ours());
        nanosleep(&(struct timespec){.tv_nsec = 20 * (long)MU_MS}, NULL);
    }
    return 0;
}
