#include "runtime/agent/keepers.h"

#include <dirent.h>
#include <event2/event.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/base/clean.h"
#include "runtime/base/clock.h"
#include "runtime/base/log.h"
#include "runtime/base/proc.h"
#include "runtime/base/str.h"
#include "runtime/wire/daemon.h"

#define CLEAN_MS 300
#define NAMED_MS 2000 /* a keeper that is being executed writes its number down */
#define LOCK_MS 1000
#define NO_PIDFD_POLL (50 * MU_MS)
#define SHM "/dev/shm"

struct watch {
    struct mu_keepers *owner;
    uint64_t job;
    struct mu_proc proc;
    struct event *ev;       /* on the pidfd */
    struct mu_alarm *alarm; /* kernels without pidfd */
    struct watch *next;
};

struct mu_keepers {
    struct event_base *base;
    const struct mu_paths *paths;
    char node[256];
    mu_keeper_dead_fn dead;
    void *arg;
    struct watch *watches;
};

/* A name that begins with BEFORE, a number and AFTER. */
static bool name_of(const char *name, const char *before, const char *after, uint64_t *job)
{
    size_t b = strlen(before), n = strlen(name);
    char digits[24];

    if (strncmp(name, before, b) || n <= b)
        return false;
    size_t d = strspn(name + b, "0123456789");
    if (!d || d >= sizeof digits || strncmp(name + b + d, after, strlen(after)))
        return false;
    memcpy(digits, name + b, d);
    digits[d] = 0;
    return !mu_str_u64(digits, 0, UINT64_MAX, job);
}

/* Names of what a keeper makes, with the job's number in them. */
static bool run_entry(const char *name, uint64_t *job)
{
    return name_of(name, "j", ".a", job) || name_of(name, "k", "", job) || name_of(name, "pin.", "", job);
}

static bool shm_entry(const struct mu_paths *paths, const char *name, uint64_t *job)
{
    char before[160];

    snprintf(before, sizeof before, "muster-%ld-%08x-%s-j", (long)geteuid(), paths->pool_hash, paths->host);
    return name_of(name, before, ".a", job);
}

static struct watch *find(struct mu_keepers *k, uint64_t job)
{
    for (struct watch *w = k->watches; w; w = w->next)
        if (w->job == job)
            return w;
    return NULL;
}

static void drop(struct watch *w)
{
    for (struct watch **at = &w->owner->watches; *at; at = &(*at)->next) {
        if (*at == w) {
            *at = w->next;
            break;
        }
    }
    if (w->ev)
        event_free(w->ev);
    mu_alarm_free(w->alarm);
    mu_proc_close(&w->proc);
    free(w);
}

static void look(struct watch *w)
{
    struct mu_keepers *k = w->owner;
    uint64_t job = w->job;
    pid_t pid = w->proc.pid;

    waitpid(pid, NULL, WNOHANG); /* fails for one that is not our child */
    if (mu_proc_alive(&w->proc)) {
        if (w->alarm)
            mu_alarm_set(w->alarm, mu_now() + NO_PIDFD_POLL);
        return;
    }
    drop(w);
    k->dead(k->arg, job, pid);
}

static void on_pidfd(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what;
    look(arg);
}

static void on_poll(void *arg)
{
    look(arg);
}

struct mu_keepers *mu_keepers_new(struct event_base *base, const struct mu_paths *paths, const char *node,
                                  mu_keeper_dead_fn dead, void *arg)
{
    struct mu_keepers *k = calloc(1, sizeof *k);

    if (k)
        *k = (struct mu_keepers){.base = base, .paths = paths, .dead = dead, .arg = arg};
    if (k)
        snprintf(k->node, sizeof k->node, "%s", node);
    return k;
}

void mu_keepers_free(struct mu_keepers *k)
{
    if (!k)
        return;
    while (k->watches)
        drop(k->watches);
    free(k);
}

void mu_keepers_watch(struct mu_keepers *k, uint64_t job, pid_t pid)
{
    struct watch *w = find(k, job);
    struct mu_err err;

    if (w && w->proc.pid == pid)
        return;
    if (w)
        drop(w);
    w = calloc(1, sizeof *w);
    if (!w) {
        mu_log(MU_LOG_ERROR, "agent", "out of memory: the keeper of job %llu is not watched", (unsigned long long)job);
        return;
    }
    w->owner = k;
    w->job = job;
    w->next = k->watches;
    k->watches = w;
    if (mu_proc_open(pid, &w->proc, &err)) {
        /* dead already; told like any other death, out of the loop */
        w->proc = (struct mu_proc){.pid = pid, .start = UINT64_MAX, .fd = -1};
    }
    if (w->proc.fd >= 0) {
        w->ev = event_new(k->base, w->proc.fd, EV_READ | EV_PERSIST, on_pidfd, w);
        if (w->ev && !event_add(w->ev, NULL))
            return;
    }
    w->alarm = mu_alarm_new(k->base, on_poll, w);
    if (w->alarm)
        mu_alarm_set(w->alarm, mu_now());
}

static int lock_path(const struct mu_keepers *k, uint64_t job, char path[PATH_MAX], struct mu_err *err)
{
    char name[40];

    snprintf(name, sizeof name, "keeper.%llu.lock", (unsigned long long)job);
    return mu_path_join(path, PATH_MAX, k->paths->run, name, err);
}

/* A keeper of the job that nobody knows of. */
static int make_way(struct mu_keepers *k, uint64_t job, struct mu_err *err)
{
    uint64_t until = mu_now() + LOCK_MS * MU_MS;
    int rc;

    while ((rc = mu_keepers_clean(k, job, err)) == MUSTER_ETIMEOUT && mu_now() < until)
        nanosleep(&(struct timespec){.tv_nsec = 5 * (long)MU_MS}, NULL);
    return rc;
}

/* The keeper is born with its lock, so that an agent that follows this one finds it from its first moment on. */
int mu_keepers_spawn(struct mu_keepers *k, uint64_t job, pid_t *pid, struct mu_err *err)
{
    char name[] = "muster", cmd[] = "keeper", job_flag[] = "--job", number[24], node_flag[] = "--node";
    char lock_flag[] = "--lock-fd", fd[16], path[PATH_MAX];
    char *argv[] = {name, cmd, job_flag, number, node_flag, k->node, lock_flag, fd, NULL};
    int rc = lock_path(k, job, path, err);

    if (rc)
        return rc;
    mu_auto_fd int lock = mu_path_lock_blank(path, 0, err);
    if (lock == MUSTER_ETIMEOUT && !(rc = make_way(k, job, err)))
        lock = mu_path_lock_blank(path, LOCK_MS, err);
    if (lock < 0)
        return rc ? rc : lock;
    snprintf(number, sizeof number, "%llu", (unsigned long long)job);
    snprintf(fd, sizeof fd, "%d", lock);
    rc = mu_daemon_spawn(argv, lock, false, pid, err);
    if (!rc)
        mu_keepers_watch(k, job, *pid);
    return rc;
}

/* --- removal ----------------------------------------------------------------------------------------------------- */

/* Calls fn for the entries of dir that are ours; fn may remove them. */
static void each_leftover(struct mu_keepers *k, const char *dir, bool shm,
                          void (*fn)(struct mu_keepers *, const char *path, uint64_t job, uint64_t only), uint64_t only)
{
    mu_auto_dir DIR *d = opendir(dir);
    char path[PATH_MAX];
    struct stat st;
    uint64_t job;

    for (struct dirent *e; d && (e = readdir(d));) {
        if (shm ? !shm_entry(k->paths, e->d_name, &job) : !run_entry(e->d_name, &job))
            continue;
        if (mu_path_join(path, sizeof path, dir, e->d_name, NULL) || lstat(path, &st) || st.st_uid != geteuid())
            continue;
        fn(k, path, job, only);
    }
}

static void remove_one(struct mu_keepers *k, const char *path, uint64_t job, uint64_t only)
{
    struct mu_err err;
    char name[40];

    /* only: this job; 0: of every job without a keeper */
    snprintf(name, sizeof name, "keeper.%llu.lock", (unsigned long long)job);
    if (only ? job != only : find(k, job) || mu_daemon_locked(k->paths->run, name, NULL))
        return;
    if (mu_path_remove_tree(path, &err))
        mu_log(MU_LOG_WARN, "agent", "cannot remove what job %llu left: %s", (unsigned long long)job, err.text);
}

static void remove_files(struct mu_keepers *k, uint64_t only)
{
    each_leftover(k, k->paths->run, false, remove_one, only);
    each_leftover(k, SHM, true, remove_one, only);
}

/* A lock file without a holder; removed under its lock, so that a keeper that starts now makes a new one. */
static void remove_lock(struct mu_keepers *k, uint64_t job)
{
    char path[PATH_MAX];

    if (lock_path(k, job, path, NULL) || access(path, F_OK))
        return;
    mu_auto_fd int fd = mu_path_lock(path, 0, NULL);
    if (fd >= 0)
        unlink(path);
}

int mu_keepers_clean(struct mu_keepers *k, uint64_t job, struct mu_err *err)
{
    struct mu_proc_sweep sweep = {.pool = k->paths->pool_hash, .job = job};
    struct mu_proc_toll toll = {0}, more = {0};
    char name[40];
    pid_t pid = 0;

    /* It hangs, or has not answered in time. Its lock vouches for the number. */
    snprintf(name, sizeof name, "keeper.%llu.lock", (unsigned long long)job);
    if (mu_daemon_locked(k->paths->run, name, &pid) && pid > 1) {
        sweep.below = pid; /* without it nobody knows whose children these were */
        mu_proc_kill_tagged(&sweep, CLEAN_MS, &more, NULL);
        sweep.below = 0;
        kill(pid, SIGKILL);
    }
    int rc = mu_proc_kill_tagged(&sweep, CLEAN_MS, &toll, err), killed = toll.killed + more.killed;
    if (killed)
        mu_log(MU_LOG_INFO, "agent", "job %llu: %d processes of a dead keeper killed", (unsigned long long)job, killed);
    const struct mu_proc_toll *t = more.denied ? &more : &toll;
    if (t->denied)
        mu_log(MU_LOG_WARN, "agent",
               "job %llu: process %ld (%s) of user %ld cannot be ended by this account; it runs on",
               (unsigned long long)job, (long)t->pid, t->name, (long)t->uid);
    if (rc)
        return rc;
    if (mu_daemon_locked(k->paths->run, name, NULL))
        return mu_err_set(err, MUSTER_ETIMEOUT, "the keeper (pid %d) does not die", (int)pid);
    remove_files(k, job);
    return 0;
}

void mu_keepers_forget(struct mu_keepers *k, uint64_t job)
{
    remove_lock(k, job);
}

/* --- start ------------------------------------------------------------------------------------------------------- */

struct tags {
    struct mu_keepers *k;
    uint64_t jobs[64]; /* the scan is repeated while it is full */
    unsigned n;
};

static int note_tag(pid_t pid, const struct mu_proc_tag *tag, void *arg)
{
    struct tags *t = arg;

    (void)pid;
    if (tag->pool != t->k->paths->pool_hash || find(t->k, tag->job))
        return 0;
    for (unsigned i = 0; i < t->n; i++)
        if (t->jobs[i] == tag->job)
            return 0;
    t->jobs[t->n++] = tag->job;
    return t->n == MU_COUNT(t->jobs);
}

static void kill_orphans(struct mu_keepers *k)
{
    struct mu_err err;

    for (int round = 0; round < 16; round++) {
        struct tags t = {.k = k};
        if (mu_proc_scan(note_tag, &t, &err) < 0)
            mu_log(MU_LOG_WARN, "agent", "looking for orphans: %s", err.text);
        for (unsigned i = 0; i < t.n; i++)
            if (mu_keepers_clean(k, t.jobs[i], &err))
                mu_log(MU_LOG_ERROR, "agent", "job %llu: %s", (unsigned long long)t.jobs[i], err.text);
        if (t.n < MU_COUNT(t.jobs))
            return;
    }
}

/* A file that a keeper has written its number into. */
static bool had_keeper(const struct mu_keepers *k, uint64_t job)
{
    char path[PATH_MAX];
    struct stat st;

    return !lock_path(k, job, path, NULL) && !lstat(path, &st) && st.st_size > 0;
}

/* The process that holds the lock; 0: none does. One that is just being executed says its number in a moment. */
static pid_t holder(const struct mu_keepers *k, const char *lock)
{
    uint64_t until = mu_now() + NAMED_MS * MU_MS;
    pid_t pid = 0;

    while (mu_daemon_locked(k->paths->run, lock, &pid) && pid <= 0 && mu_now() < until)
        nanosleep(&(struct timespec){.tv_nsec = 5 * (long)MU_MS}, NULL);
    return pid;
}

void mu_keepers_adopt(struct mu_keepers *k, void (*found)(void *arg, uint64_t job, pid_t pid), void *arg)
{
    mu_auto_dir DIR *d = opendir(k->paths->run);
    uint64_t job;
    pid_t pid;

    for (struct dirent *e; d && (e = readdir(d));) {
        if (!name_of(e->d_name, "keeper.", ".lock", &job))
            continue;
        if ((pid = holder(k, e->d_name)) > 0) {
            mu_keepers_watch(k, job, pid);
            found(arg, job, pid);
        } else if (had_keeper(k, job)) {
            found(arg, job, 0);
        } else {
            remove_lock(k, job);
        }
    }
    kill_orphans(k);
    remove_files(k, 0);
}
