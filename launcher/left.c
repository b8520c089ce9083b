#include "launcher/left.h"

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "runtime/base/buf.h"
#include "runtime/base/clean.h"
#include "runtime/base/log.h"
#include "runtime/base/proc.h"
#include "runtime/base/str.h"

#define GROUP_S 3600 /* so long a session without its leader is taken for ours: its number may be given out anew */

static int file_of(const struct mu_paths *paths, const char *kind, pid_t pid, char path[PATH_MAX], struct mu_err *err)
{
    char name[40];

    snprintf(name, sizeof name, "%s.%d", kind, (int)pid);
    return mu_path_join(path, PATH_MAX, paths->run, name, err);
}

void mu_left_began(const struct mu_paths *paths, const char *kind, pid_t pid)
{
    char path[PATH_MAX], text[32];
    struct mu_err err = {0};
    uint64_t start;

    if (mu_proc_start(pid, &start))
        return; /* it has ended */
    int n = snprintf(text, sizeof text, "%" PRIu64 "\n", start);
    int rc = file_of(paths, kind, pid, path, &err);
    /* there are many of them, and none outlives the host: nothing is synced */
    mu_auto_fd int fd = rc ? -1 : open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (!rc && (fd < 0 || write(fd, text, (size_t)n) != n))
        rc = mu_err_errno(&err, 0, "cannot write %s", path);
    if (rc)
        mu_log(MU_LOG_WARN, "engine", "%s %d may stay when this controller is lost: %s", kind, (int)pid, err.text);
}

void mu_left_ended(const struct mu_paths *paths, const char *kind, pid_t pid)
{
    char path[PATH_MAX];

    if (!file_of(paths, kind, pid, path, NULL))
        unlink(path);
}

enum fate { GONE, LEADER_GONE, RUNS };

/* Its session is there without it only while nobody else has its number. */
static enum fate fate_of(const struct mu_paths *paths, const char *kind, pid_t pid)
{
    mu_auto_buf struct mu_buf text = {0};
    char path[PATH_MAX];
    struct stat st;
    struct timespec up;
    struct mu_proc p;

    if (file_of(paths, kind, pid, path, NULL) || mu_path_read(path, 64, &text, NULL) || stat(path, &st))
        return GONE;
    if (!mu_proc_open(pid, &p, NULL)) {
        bool same = p.start == strtoull(mu_buf_str(&text), NULL, 10), alive = same && mu_proc_alive(&p);
        mu_proc_close(&p);
        return alive ? RUNS : same ? LEADER_GONE : GONE;
    }
    time_t age = time(NULL) - st.st_mtime;
    bool ours = age < GROUP_S && !clock_gettime(CLOCK_BOOTTIME, &up) && age < up.tv_sec;
    return ours && !kill(-pid, 0) ? LEADER_GONE : GONE;
}

static unsigned look(const struct mu_paths *paths, const char *kind, bool kill_them, bool sessions)
{
    mu_auto_dir DIR *dir = opendir(paths->run);
    size_t len = strlen(kind);
    struct dirent *e;
    unsigned n = 0;
    uint64_t pid;

    while (dir && (e = readdir(dir))) {
        if (strncmp(e->d_name, kind, len) || e->d_name[len] != '.' ||
            mu_str_u64(e->d_name + len + 1, 2, INT32_MAX, &pid))
            continue;
        enum fate fate = fate_of(paths, kind, (pid_t)pid);
        if (fate == GONE || (fate == LEADER_GONE && !sessions)) {
            mu_left_ended(paths, kind, (pid_t)pid);
            continue;
        }
        n++;
        if (kill_them) {
            mu_log(MU_LOG_WARN, "engine", "%s %d has not ended%s; it is killed", kind, (int)pid,
                   sessions ? " with the controller that started it" : " with its agents");
            kill(-(pid_t)pid, SIGKILL);
            mu_left_ended(paths, kind, (pid_t)pid);
        }
    }
    return n;
}

unsigned mu_left_running(const struct mu_paths *paths, const char *kind, bool kill_them)
{
    return look(paths, kind, kill_them, false);
}

void mu_left_clear(const struct mu_paths *paths, const char *kind)
{
    look(paths, kind, true, true);
}
