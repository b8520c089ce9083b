/* Memory, disks, and processes that nobody answers for. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include "runtime/agent/check.h"
#include "runtime/base/clean.h"
#include "runtime/base/clock.h"
#include "runtime/base/proc.h"
#include "runtime/base/str.h"
#include "runtime/wire/daemon.h"

enum { FEW_FILES = 1000, DISKS_MAX = 64, STRAYS_MAX = 64 };

/* The number behind "NAME:" in KiB, as bytes. */
static bool meminfo(const char *text, const char *name, uint64_t *out)
{
    const char *at = strstr(text, name);
    char digits[24];

    if (!at)
        return false;
    at += strlen(name);
    at += strspn(at, " \t");
    snprintf(digits, sizeof digits, "%.*s", (int)strspn(at, "0123456789"), at);
    if (mu_str_u64(digits, 0, UINT64_MAX >> 10, out))
        return false;
    *out <<= 10;
    return true;
}

void mu_check_memory(struct mu_check *c, struct mu_check_found *f)
{
    mu_auto_buf struct mu_buf b = {0};
    char path[PATH_MAX], a[32], t[32];
    uint64_t total, free;

    snprintf(path, sizeof path, "%s/proc/meminfo", c->root);
    if (mu_path_read(path, 64 << 10, &b, NULL) || !meminfo(mu_buf_str(&b), "MemTotal:", &total) ||
        !meminfo(mu_buf_str(&b), "MemAvailable:", &free)) {
        mu_check_say(f, MU_LEVEL_SKIP, "%s cannot be read", path);
        return;
    }
    mu_str_fmt_size(a, sizeof a, free);
    mu_str_fmt_size(t, sizeof t, total);
    mu_check_say(f, MU_LEVEL_OK, "%s of %s are free", a, t);
    /* what a job takes is its own business */
    if (free < total / 1000 * c->asked->memory_permille)
        mu_check_say(f, mu_strv_len(c->asked->jobs) ? MU_LEVEL_WARN : MU_LEVEL_FAIL,
                     "only %s of %s are free, less than %.1f %%", a, t, c->asked->memory_permille / 10.0);
}

void mu_check_ecc(struct mu_check *c, struct mu_check_found *f)
{
    uint64_t broken = 0, mended = 0, n;
    unsigned controllers = 0;

    for (unsigned i = 0; i < 64; i++) {
        if (mu_check_number(c, &n, "/sys/devices/system/edac/mc/mc%u/ue_count", i))
            continue;
        controllers++;
        broken += n;
        if (!mu_check_number(c, &n, "/sys/devices/system/edac/mc/mc%u/ce_count", i))
            mended += n;
    }
    uint64_t more = mu_check_grown(c, "ecc.mended", mended);
    if (!controllers)
        mu_check_say(f, MU_LEVEL_SKIP, "the kernel counts no memory errors here (EDAC)");
    else if (broken)
        mu_check_say(f, MU_LEVEL_FAIL, "%llu memory errors since the boot could not be corrected",
                     (unsigned long long)broken);
    else if (more)
        mu_check_say(f, MU_LEVEL_WARN, "%llu memory errors were corrected since the last check",
                     (unsigned long long)more);
    else
        mu_check_say(f, MU_LEVEL_OK, "%llu corrected errors since the boot", (unsigned long long)mended);
}

/* --- disks ---------------------------------------------------------------------------------------------------------
 */

struct disks {
    dev_t seen[DISKS_MAX];
    unsigned n;
    uint64_t least;
    const char *where;
};

static void look_at(struct mu_check *c, struct disks *d, const char *dir, struct mu_check_found *f)
{
    char a[32], b[32], shown[160];
    struct statvfs v;
    struct stat st;

    if (stat(dir, &st) || statvfs(dir, &v))
        return; /* a directory that is not there yet is made by who needs it */
    for (unsigned i = 0; i < d->n; i++)
        if (d->seen[i] == st.st_dev)
            return;
    if (d->n < DISKS_MAX)
        d->seen[d->n++] = st.st_dev;
    uint64_t free = (uint64_t)v.f_bavail * v.f_frsize, all = (uint64_t)v.f_blocks * v.f_frsize;
    uint64_t want = c->asked->disk_free < all / 10 ? c->asked->disk_free : all / 10;
    mu_str_show(shown, sizeof shown, dir);
    if (!d->where || free < d->least) {
        d->least = free;
        d->where = dir;
    }
    if (v.f_flag & ST_RDONLY)
        mu_check_worse(f, MU_LEVEL_FAIL, "%s: the file system can only be read", shown);
    else if (free < want)
        mu_check_worse(f, MU_LEVEL_FAIL, "%s: %s are free, less than %s", shown, mu_str_fmt_size(a, sizeof a, free),
                       mu_str_fmt_size(b, sizeof b, want));
    else if (v.f_files && v.f_favail < FEW_FILES)
        mu_check_worse(f, MU_LEVEL_FAIL, "%s: there is room for %llu more files only", shown,
                       (unsigned long long)v.f_favail);
}

void mu_check_disk(struct mu_check *c, struct mu_check_found *f)
{
    struct disks d = {0};
    char size[32], shown[160];

    look_at(c, &d, c->paths->home, f);
    look_at(c, &d, c->paths->run, f);
    look_at(c, &d, "/tmp", f);
    for (char **dir = c->asked->dirs; dir && *dir; dir++)
        look_at(c, &d, *dir, f);
    if (f->level < MU_LEVEL_WARN && d.where)
        mu_check_say(f, MU_LEVEL_OK, "the least is %s in %s", mu_str_fmt_size(size, sizeof size, d.least),
                     mu_str_show(shown, sizeof shown, d.where));
}

/* --- processes -----------------------------------------------------------------------------------------------------
 */

struct strays {
    const struct mu_check *check;
    uint64_t before; /* begun later they are none: their jobs are not in the list */
    unsigned n;
    struct {
        pid_t pid;
        uint64_t start, job;
    } v[STRAYS_MAX];
};

/* Of a job that the agent knows; not of an attempt before the one that runs. jobs: "JOB.ATTEMPT", 0: none runs. */
static bool known(const struct mu_check *c, uint64_t job, uint32_t attempt)
{
    for (char **v = c->asked->jobs; v && *v; v++) {
        char *end;
        if (strtoull(*v, &end, 10) != job || *end != '.')
            continue;
        return !attempt || strtoull(end + 1, NULL, 10) <= attempt;
    }
    return false;
}

static void note(struct strays *s, pid_t pid, uint64_t job)
{
    uint64_t start;

    if (s->n == STRAYS_MAX || mu_proc_start(pid, &start) || start >= s->before)
        return;
    s->v[s->n].pid = pid;
    s->v[s->n].start = start;
    s->v[s->n++].job = job;
}

static int note_tagged(pid_t pid, const struct mu_proc_tag *tag, void *arg)
{
    struct strays *s = arg;

    if (tag->pool == s->check->paths->pool_hash && !known(s->check, tag->job, tag->attempt))
        note(s, pid, tag->job);
    return 0;
}

/* A daemon of this pool that works for a job that the agent does not know. */
static void note_keepers(struct strays *s)
{
    struct dirent *e;
    DIR *d = opendir(s->check->paths->run);

    while (d && (e = readdir(d))) {
        char digits[24];
        uint64_t job;
        pid_t pid = 0;
        size_t n = strncmp(e->d_name, "keeper.", 7) ? 0 : strspn(e->d_name + 7, "0123456789");
        if (!n || n >= sizeof digits || strcmp(e->d_name + 7 + n, ".lock") != 0)
            continue;
        snprintf(digits, sizeof digits, "%.*s", (int)n, e->d_name + 7);
        if (!mu_str_u64(digits, 0, UINT64_MAX, &job) && !known(s->check, job, 0) &&
            mu_daemon_locked(s->check->paths->run, e->d_name, &pid) && pid > 0)
            note(s, pid, job);
    }
    if (d)
        closedir(d);
}

void mu_check_stray(struct mu_check *c, struct mu_check_found *f)
{
    struct strays s = {.check = c};
    unsigned left = 0, one = 0;
    struct mu_err err = {0};
    uint64_t start;

    if (mu_proc_start(getpid(), &s.before) || mu_proc_scan(note_tagged, &s, &err)) {
        mu_check_say(f, MU_LEVEL_SKIP, "processes cannot be looked at: %s", err.text);
        return;
    }
    note_keepers(&s);
    /* who is just being ended has a moment for it */
    for (unsigned tries = 0; tries < 10 && s.n; tries++) {
        left = 0;
        for (unsigned i = 0; i < s.n; i++)
            if (!mu_proc_start(s.v[i].pid, &start) && start == s.v[i].start) {
                left++;
                one = i;
            }
        if (!left)
            break;
        nanosleep(&(struct timespec){.tv_nsec = 200 * (long)MU_MS}, NULL);
    }
    if (left)
        mu_check_say(f, MU_LEVEL_FAIL, "%u process%s of jobs that are over still live%s, such as %d of job %llu", left,
                     left == 1 ? "" : "es", left == 1 ? "s" : "", (int)s.v[one].pid, (unsigned long long)s.v[one].job);
    else
        mu_check_say(f, MU_LEVEL_OK, "none");
}
