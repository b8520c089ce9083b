#include "runtime/wire/hold.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/base/clean.h"
#include "runtime/base/path.h"
#include "runtime/wire/daemon.h"

#define LOOK_EVERY (500 * MU_MS)
#define TOUCH_EVERY (3600 * MU_SEC)

struct mu_hold {
    char run[PATH_MAX];
    char name[48];
    int lock, dir;                   /* dir: locked, shared with the other daemons */
    uint64_t touch, since, patience; /* since: it is lost; 0: it is not */
    struct mu_alarm *alarm;
    int (*lost)(void *);
    void *arg;
};

bool mu_hold_lost(const char *run, const char *name, int lock)
{
    struct stat mine, there;
    char path[PATH_MAX];

    if (mu_path_join(path, sizeof path, run, name, NULL) || fstat(lock, &mine))
        return false;
    if (stat(path, &there))
        return errno == ENOENT;
    return mine.st_ino != there.st_ino || mine.st_dev != there.st_dev;
}

void mu_hold_touch(const char *run)
{
    mu_auto_dir DIR *d = opendir(run);

    for (struct dirent *e; d && (e = readdir(d));)
        if (strcmp(e->d_name, ".."))
            utimensat(dirfd(d), e->d_name, NULL, AT_SYMLINK_NOFOLLOW);
}

static void take_dir(struct mu_hold *h)
{
    if (h->dir >= 0)
        close(h->dir);
    h->dir = open(h->run, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (h->dir >= 0)
        flock(h->dir, LOCK_SH | LOCK_NB);
}

static void on_alarm(void *arg)
{
    struct mu_hold *h = arg;
    uint64_t now = mu_now();

    if (!mu_hold_lost(h->run, h->name, h->lock))
        h->since = 0;
    else if (!h->since)
        h->since = now;
    if (h->since && now - h->since >= h->patience) {
        h->since = 0;
        h->lock = h->lost(h->arg);
        if (h->lock < 0)
            return;
        take_dir(h);
    }
    if (now >= h->touch) {
        mu_hold_touch(h->run);
        h->touch = now + TOUCH_EVERY;
    }
    mu_alarm_set(h->alarm, now + LOOK_EVERY);
}

struct mu_hold *mu_hold_new(struct event_base *base, const char *run, const char *name, int lock, uint64_t patience,
                            int (*lost)(void *arg), void *arg)
{
    struct mu_hold *h = calloc(1, sizeof *h);

    if (!h)
        return NULL;
    snprintf(h->run, sizeof h->run, "%s", run);
    snprintf(h->name, sizeof h->name, "%s", name);
    h->lock = lock;
    h->patience = patience;
    h->lost = lost;
    h->arg = arg;
    h->touch = mu_now() + TOUCH_EVERY;
    h->dir = -1;
    take_dir(h);
    h->alarm = mu_alarm_new(base, on_alarm, h);
    if (!h->alarm) {
        mu_hold_free(h);
        return NULL;
    }
    mu_alarm_set(h->alarm, mu_now() + LOOK_EVERY);
    return h;
}

void mu_hold_free(struct mu_hold *h)
{
    if (!h)
        return;
    mu_alarm_free(h->alarm);
    if (h->dir >= 0)
        close(h->dir);
    free(h);
}
