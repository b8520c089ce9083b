/* The sruns of this pool that still run, those of an earlier controller, too: RUN/srun.PID holds the start time of
 * each. */
#include <dirent.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "launcher/engine.h"
#include "runtime/base/buf.h"
#include "runtime/base/clean.h"
#include "runtime/base/log.h"
#include "runtime/base/proc.h"
#include "runtime/base/str.h"

#define PREFIX "srun."

static int file_of(const struct mu_paths *paths, pid_t pid, char path[PATH_MAX], struct mu_err *err)
{
    char name[32];

    snprintf(name, sizeof name, PREFIX "%d", (int)pid);
    return mu_path_join(path, PATH_MAX, paths->run, name, err);
}

void mu_engine_slurm_began(const struct mu_paths *paths, pid_t pid)
{
    char path[PATH_MAX], text[32];
    struct mu_err err = {0};
    uint64_t start;

    if (mu_proc_start(pid, &start))
        return; /* it has ended */
    int n = snprintf(text, sizeof text, "%" PRIu64 "\n", start);
    if (file_of(paths, pid, path, &err) || mu_path_write_atomic(path, text, (size_t)n, 0600, &err))
        mu_log(MU_LOG_WARN, "engine", "srun %d may stay when this controller is lost: %s", (int)pid, err.text);
}

void mu_engine_slurm_ended(const struct mu_paths *paths, pid_t pid)
{
    char path[PATH_MAX];

    if (!file_of(paths, pid, path, NULL))
        unlink(path);
}

static bool runs(const struct mu_paths *paths, pid_t pid)
{
    mu_auto_buf struct mu_buf text = {0};
    char path[PATH_MAX];
    struct mu_proc p;

    if (file_of(paths, pid, path, NULL) || mu_path_read(path, 64, &text, NULL) || mu_proc_open(pid, &p, NULL))
        return false;
    bool same = p.start == strtoull(mu_buf_str(&text), NULL, 10) && mu_proc_alive(&p);
    mu_proc_close(&p);
    return same;
}

unsigned mu_engine_slurm_left(const struct mu_paths *paths, bool kill_them)
{
    mu_auto_dir DIR *dir = opendir(paths->run);
    struct dirent *e;
    unsigned n = 0;
    uint64_t pid;

    while (dir && (e = readdir(dir))) {
        if (strncmp(e->d_name, PREFIX, sizeof PREFIX - 1) ||
            mu_str_u64(e->d_name + sizeof PREFIX - 1, 2, INT32_MAX, &pid))
            continue;
        if (!runs(paths, (pid_t)pid)) {
            mu_engine_slurm_ended(paths, (pid_t)pid);
            continue;
        }
        n++;
        if (kill_them) {
            mu_log(MU_LOG_WARN, "engine", "srun %d has not ended with its agents; it is killed", (int)pid);
            kill(-(pid_t)pid, SIGKILL); /* it leads a session */
            mu_engine_slurm_ended(paths, (pid_t)pid);
        }
    }
    return n;
}
