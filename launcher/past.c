#include "launcher/past.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "runtime/base/clean.h"
#include "runtime/base/str.h"

#define MAGIC "muster-mark 1"
#define HIGHEST (UINT64_C(1) << 52) /* a job's number is also one of JSON */
enum { LINE = sizeof MAGIC + 2 * 21 + 17 };

static int format(char line[LINE + 1], uint64_t job, uint64_t seq)
{
    int n = snprintf(line, LINE + 1, MAGIC " %020llu %020llu ", (unsigned long long)job, (unsigned long long)seq);

    return n +
           snprintf(line + n, (size_t)(LINE + 1 - n), "%016llx\n", (unsigned long long)mu_str_hash(line, (size_t)n));
}

void mu_mark_open(struct mu_mark *m, const char *path)
{
    char got[LINE + 1] = "", want[LINE + 1];
    unsigned long long job, seq;

    *m = (struct mu_mark){.fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600)};
    if (m->fd < 0 || pread(m->fd, got, LINE, 0) != LINE || sscanf(got, MAGIC " %20llu %20llu", &job, &seq) != 2)
        return;
    format(want, job, seq);
    if (strcmp(got, want) || job > HIGHEST)
        return;
    m->job = job;
    m->seq = seq;
}

void mu_mark_write(struct mu_mark *m, uint64_t job, uint64_t seq)
{
    char line[LINE + 1];

    if (job == m->job && seq == m->seq)
        return;
    m->job = job;
    m->seq = seq;
    int n = format(line, job, seq);
    if (m->fd >= 0 && pwrite(m->fd, line, (size_t)n, 0) != n)
        close(MU_STEAL(m->fd, -1));
}

void mu_mark_close(struct mu_mark *m)
{
    if (m->fd >= 0)
        close(MU_STEAL(m->fd, -1));
}

uint64_t mu_past_highest(const char *dir)
{
    mu_auto_dir DIR *d = opendir(dir);
    uint64_t highest = 0, n;

    for (struct dirent *e; d && (e = readdir(d));)
        if (!mu_str_u64(e->d_name, 1, HIGHEST, &n) && n > highest)
            highest = n;
    return highest;
}
