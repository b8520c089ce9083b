#include "runtime/base/proc.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "runtime/base/buf.h"
#include "runtime/base/clean.h"
#include "runtime/base/clock.h"
#include "runtime/base/path.h"
#include "runtime/base/str.h"

enum { ENVIRON_MAX = 8 << 20 };

/* --- tags ------------------------------------------------------------------------------------------------------- */

char *mu_proc_tag_format(char buf[MU_PROC_TAG_SIZE], const struct mu_proc_tag *tag)
{
    snprintf(buf, MU_PROC_TAG_SIZE, MU_PROC_TAG "=%08" PRIx32 ".%" PRIu64 ".%" PRIu32, tag->pool, tag->job,
             tag->attempt);
    return buf;
}

int mu_proc_tag_parse(const char *value, struct mu_proc_tag *out)
{
    char job[24];
    uint64_t n, attempt;
    uint32_t pool = 0;

    if (strspn(value, "0123456789abcdef") != 8 || value[8] != '.')
        return MUSTER_EARG;
    for (int i = 0; i < 8; i++)
        pool = pool << 4 | (uint32_t)(value[i] <= '9' ? value[i] - '0' : value[i] - 'a' + 10);
    value += 9;
    size_t len = strcspn(value, ".");
    if (!value[len] || len >= sizeof job)
        return MUSTER_EARG;
    memcpy(job, value, len);
    job[len] = 0;
    if (mu_str_u64(job, 0, UINT64_MAX, &n) < 0 || mu_str_u64(value + len + 1, 0, UINT32_MAX, &attempt) < 0)
        return MUSTER_EARG;
    *out = (struct mu_proc_tag){.pool = pool, .job = n, .attempt = (uint32_t)attempt};
    return 0;
}

static bool wanted(const struct mu_proc_sweep *s, pid_t pid, const struct mu_proc_tag *tag)
{
    if (tag->pool != s->pool || (s->job && tag->job != s->job) || (s->attempt && tag->attempt != s->attempt) ||
        pid == getpid())
        return false;
    for (size_t i = 0; i < s->nspare; i++)
        if (s->spare[i] == pid)
            return false;
    return true;
}

/* --- one process ------------------------------------------------------------------------------------------------ */

int mu_proc_pidfd(pid_t pid, struct mu_err *err)
{
#ifdef SYS_pidfd_open
    long fd = syscall(SYS_pidfd_open, pid, 0); /* always CLOEXEC */
#else
    long fd = -1;
    errno = ENOSYS;
#endif

    if (fd >= 0)
        return (int)fd;
    /* A sandbox may forbid it: then it is as good as not there. */
    int code = errno == ENOSYS || errno == EPERM ? MUSTER_ENOSYS : errno == ESRCH ? MUSTER_EARG : 0;
    return mu_err_errno(err, code, "pidfd of process %ld", (long)pid);
}

struct stat_line {
    bool running; /* any thread: the first one may be a zombie among others */
    pid_t parent;
    uint64_t start;
    char name[32];
};

/* /proc/PID/stat. The name in it may hold anything: fields start behind the last ')'. */
static int read_stat(pid_t pid, struct stat_line *out)
{
    char path[40], *save;
    const char *field[23] = {0};
    mu_auto_buf struct mu_buf b = {0};
    uint64_t threads, parent;

    snprintf(path, sizeof path, "/proc/%ld/stat", (long)pid);
    if (mu_path_read(path, 8192, &b, NULL) < 0)
        return MUSTER_EARG;
    char *p = strrchr(b.data, ')');
    const char *name = b.data + strcspn(b.data, "(");
    if (!p || name > p)
        return MUSTER_EARG;
    snprintf(out->name, sizeof out->name, "%.*s", (int)(p - name - 1), name + 1);
    field[3] = strtok_r(p + 1, " ", &save);
    for (int i = 4; i <= 22 && field[i - 1]; i++)
        field[i] = strtok_r(NULL, " ", &save);
    if (!field[22] || mu_str_u64(field[20], 0, INT32_MAX, &threads) < 0 ||
        mu_str_u64(field[4], 0, INT32_MAX, &parent) < 0)
        return MUSTER_EARG;
    out->running = (*field[3] != 'Z' && *field[3] != 'X') || threads > 1;
    out->parent = (pid_t)parent;
    return mu_str_u64(field[22], 0, UINT64_MAX, &out->start);
}

int mu_proc_start(pid_t pid, uint64_t *ticks)
{
    struct stat_line s;

    if (pid <= 0 || read_stat(pid, &s) < 0)
        return MUSTER_EARG;
    *ticks = s.start;
    return 0;
}

int mu_proc_open(pid_t pid, struct mu_proc *out, struct mu_err *err)
{
    struct mu_proc p = {.pid = pid, .fd = -1};

    if (pid <= 0)
        return mu_err_set(err, MUSTER_EARG, "no process %ld", (long)pid);
    int fd = mu_proc_pidfd(pid, err);
    if (fd < 0 && fd != MUSTER_ENOSYS)
        return fd;
    /* The descriptor first: a start time read after it cannot belong to an earlier process. */
    if (mu_proc_start(pid, &p.start) < 0) {
        if (fd >= 0)
            close(fd);
        return mu_err_set(err, MUSTER_EARG, "no process %ld", (long)pid);
    }
    p.fd = fd >= 0 ? fd : -1;
    *out = p;
    return 0;
}

void mu_proc_close(struct mu_proc *p)
{
    if (p->fd >= 0)
        close(p->fd);
    p->fd = -1;
}

bool mu_proc_alive(const struct mu_proc *p)
{
    struct stat_line s;

    return read_stat(p->pid, &s) == 0 && s.start == p->start && s.running;
}

int mu_proc_signal(const struct mu_proc *p, int sig, struct mu_err *err)
{
    int rc = -1;

    errno = ENOSYS;
#ifdef SYS_pidfd_send_signal
    if (p->fd >= 0)
        rc = (int)syscall(SYS_pidfd_send_signal, p->fd, sig, NULL, 0);
#endif
    if (rc < 0 && (errno == ENOSYS || p->fd < 0)) {
        if (!mu_proc_alive(p))
            return 0;
        rc = kill(p->pid, sig);
    }
    if (rc < 0 && errno != ESRCH)
        return mu_err_errno(err, 0, "signal %d to process %ld", sig, (long)p->pid);
    return 0;
}

/* --- all processes ---------------------------------------------------------------------------------------------- */

/* Environment of a process; that of a live thread where the first one has ended: then the process's own is empty, ESRCH
 * or forbidden, as the kernel pleases. */
static int read_environ(pid_t pid, struct mu_buf *env)
{
    char path[64];
    struct dirent *e;
    struct stat st;

    snprintf(path, sizeof path, "/proc/%ld/environ", (long)pid);
    mu_buf_clear(env);
    int rc = mu_path_read(path, ENVIRON_MAX, env, NULL);
    if (rc < 0 ? errno != ESRCH && errno != EACCES : env->len > 0)
        return rc;
    snprintf(path, sizeof path, "/proc/%ld/task", (long)pid);
    if (stat(path, &st) < 0 || st.st_nlink <= 3) /* two and one for each thread: a zombie, or a thread of the kernel */
        return MUSTER_EARG;
    mu_auto_dir DIR *d = opendir(path);
    while (d && !env->len && (e = readdir(d))) {
        if (*e->d_name == '.' || atol(e->d_name) == (long)pid)
            continue;
        snprintf(path, sizeof path, "/proc/%ld/task/%.20s/environ", (long)pid, e->d_name);
        if (mu_path_read(path, ENVIRON_MAX, env, NULL) < 0 && errno == EACCES)
            break; /* somebody else's */
    }
    return env->len ? 0 : MUSTER_EARG;
}

/* 0 when the process has a tag. env is scratch. */
static int read_tag(pid_t pid, struct mu_buf *env, struct mu_proc_tag *tag)
{
    static const char name[] = MU_PROC_TAG "=";

    if (read_environ(pid, env) < 0)
        return MUSTER_EARG;
    for (const char *p = env->data, *end = env->data + env->len; p < end; p += strlen(p) + 1)
        if (!strncmp(p, name, sizeof name - 1))
            return mu_proc_tag_parse(p + sizeof name - 1, tag);
    return MUSTER_EARG;
}

struct scan {
    int proc; /* /proc */
    int (*fn)(pid_t pid, const struct mu_proc_tag *tag, void *arg);
    void *arg;
    struct mu_buf env;
};

static int visit(struct scan *s, uint64_t pid)
{
    struct mu_proc_tag tag;
    struct stat st;
    char name[24];

    snprintf(name, sizeof name, "%" PRIu64, pid);
    /* What cannot be looked into is shown as root's: also ours, when its first thread has ended. */
    if (fstatat(s->proc, name, &st, 0) < 0 || (geteuid() != 0 && st.st_uid != geteuid() && st.st_uid != 0) ||
        read_tag((pid_t)pid, &s->env, &tag) < 0)
        return 0;
    return s->fn((pid_t)pid, &tag, s->arg);
}

/* Visits the listed processes whose pid is in (after, upto]; the range may wrap around. after == upto: all. */
static int visit_range(struct scan *s, uint64_t after, uint64_t upto, struct mu_err *err)
{
    _Alignas(8) char list[320]; /* a few at a time: what is listed is looked at at once */
    uint64_t pid;
    long n;
    int rc = 0;

    if (after < upto && upto - after <= 256) {
        for (pid = after + 1; pid <= upto && !rc; pid++)
            rc = visit(s, pid);
        return rc;
    }
    if (lseek(s->proc, 0, SEEK_SET) < 0)
        return mu_err_errno(err, 0, "cannot list /proc");
    while ((n = syscall(SYS_getdents64, s->proc, list, sizeof list)) > 0)
        for (long at = 0; at < n;) {
            const struct dirent64 *e = (const struct dirent64 *)(const void *)(list + at);

            at += e->d_reclen;
            if (mu_str_u64(e->d_name, 1, INT32_MAX, &pid) < 0 ||
                !(after < upto ? pid > after && pid <= upto : pid > after || pid <= upto))
                continue;
            if ((rc = visit(s, pid)))
                return rc;
        }
    return n < 0 ? mu_err_errno(err, 0, "cannot list /proc") : 0;
}

/* The pid that was given out last: pids rise, and wrap around at a limit. 0: not known. */
static uint64_t newest_pid(void)
{
    mu_auto_buf struct mu_buf b = {0};
    uint64_t pid = 0;

    if (mu_path_read("/proc/loadavg", 256, &b, NULL) < 0)
        return 0;
    if (b.len && b.data[b.len - 1] == '\n')
        b.data[b.len - 1] = 0;
    char *last = strrchr(mu_buf_str(&b), ' ');
    return last && mu_str_u64(last + 1, 1, INT32_MAX, &pid) == 0 ? pid : 0;
}

int mu_proc_scan(int (*fn)(pid_t pid, const struct mu_proc_tag *tag, void *arg), void *arg, struct mu_err *err)
{
    struct scan s = {.proc = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC), .fn = fn, .arg = arg};

    if (s.proc < 0)
        return mu_err_errno(err, 0, "cannot list /proc");
    /* A process may end before we come to it and live on in a child that is not in the list: so look at all, then at
     * those started meanwhile, until there are none. The bound is for hosts that start them faster than we look. */
    uint64_t seen = newest_pid(), newest;
    int rc = visit_range(&s, seen, seen, err);
    for (int round = 0; !rc && round < 100 && (newest = newest_pid()) != seen; round++) {
        rc = visit_range(&s, seen, newest, err);
        seen = newest;
    }
    close(s.proc);
    mu_buf_free(&s.env);
    return rc;
}

struct sweep {
    const struct mu_proc_sweep *what;
    bool kill;
    int found;
    pid_t one; /* of those found */
    struct mu_proc_toll toll;
    struct {
        pid_t pid;
        uint64_t start;
    } * seen; /* already signalled, so that they count once */
    size_t nseen, cap;
    struct mu_buf env;
    struct mu_err *err;
};

static bool remember(struct sweep *s, const struct mu_proc *p)
{
    for (size_t i = 0; i < s->nseen; i++)
        if (s->seen[i].pid == p->pid && s->seen[i].start == p->start)
            return false;
    if (s->nseen == s->cap) {
        size_t cap = s->cap ? s->cap * 2 : 64;
        void *grown = realloc(s->seen, cap * sizeof *s->seen);
        if (!grown)
            return true;
        s->seen = grown;
        s->cap = cap;
    }
    s->seen[s->nseen].pid = p->pid;
    s->seen[s->nseen++].start = p->start;
    return true;
}

static void denied(struct sweep *s, pid_t pid)
{
    struct stat_line line;
    struct stat st;
    char path[40];

    snprintf(path, sizeof path, "/proc/%ld", (long)pid);
    if (stat(path, &st) < 0 || read_stat(pid, &line) < 0)
        return;
    if (!s->toll.denied++) {
        s->toll.pid = pid;
        s->toll.uid = st.st_uid;
        memcpy(s->toll.name, line.name, sizeof line.name);
    }
}

static int kill_one(struct sweep *s, const struct mu_proc *p)
{
    int rc = mu_proc_signal(p, SIGKILL, s->err);

    if (rc < 0 && errno == EPERM) { /* it lives on, whatever we do */
        if (remember(s, p))
            denied(s, p->pid);
        s->found--;
        return 0;
    }
    s->toll.killed += rc == 0 && remember(s, p);
    return rc;
}

static int sweep_one(pid_t pid, const struct mu_proc_tag *tag, void *arg)
{
    struct sweep *s = arg;
    struct mu_proc_tag again;
    struct mu_proc p;

    if (!wanted(s->what, pid, tag))
        return 0;
    if (mu_proc_open(pid, &p, NULL) < 0)
        return 0;
    int rc = 0;
    if (mu_proc_alive(&p)) {
        s->found++;
        s->one = pid;
        /* Read again under the reference: the pid may have become another program's between scan and open. */
        if (s->kill && read_tag(pid, &s->env, &again) == 0 && wanted(s->what, pid, &again))
            rc = kill_one(s, &p);
    }
    mu_proc_close(&p);
    return rc;
}

/* --- descendants ------------------------------------------------------------------------------------------------- */

struct family {
    struct member {
        pid_t pid, parent;
        uint64_t start;
        bool running;
    } * v; /* by pid */
    size_t n, cap;
};

static int by_pid(const void *a, const void *b)
{
    pid_t x = ((const struct member *)a)->pid, y = ((const struct member *)b)->pid;

    return (x > y) - (x < y);
}

static int read_family(struct family *f, struct mu_err *err)
{
    mu_auto_dir DIR *d = opendir("/proc");
    struct stat_line line;
    uint64_t pid;

    if (!d)
        return mu_err_errno(err, 0, "cannot list /proc");
    for (struct dirent *e; (e = readdir(d));) {
        if (mu_str_u64(e->d_name, 1, INT32_MAX, &pid) < 0 || read_stat((pid_t)pid, &line) < 0)
            continue;
        if (f->n == f->cap) {
            size_t cap = f->cap ? f->cap * 2 : 256;
            struct member *v = realloc(f->v, cap * sizeof *v);
            if (!v)
                return mu_err_set(err, MUSTER_ENOMEM, "cannot list /proc: out of memory");
            f->v = v;
            f->cap = cap;
        }
        f->v[f->n++] =
            (struct member){.pid = (pid_t)pid, .parent = line.parent, .start = line.start, .running = line.running};
    }
    qsort(f->v, f->n, sizeof *f->v, by_pid);
    return 0;
}

/* As mu_daemon_spawn names them: a rank's own `muster run` may have started a pool, a keeper an agent. */
static bool is_daemon(pid_t pid)
{
    static const char *const names[] = {"controller", "agent", "keeper", "drain"};
    mu_auto_buf struct mu_buf b = {0};
    char path[40];

    snprintf(path, sizeof path, "/proc/%ld/cmdline", (long)pid);
    if (mu_path_read(path, 64 << 10, &b, NULL) < 0 || b.len < sizeof "muster" + 1 || strcmp(b.data, "muster"))
        return false;
    for (size_t i = 0; i < MU_COUNT(names); i++)
        if (!strcmp(b.data + sizeof "muster", names[i]))
            return true;
    return false;
}

static bool descends(const struct family *f, const struct member *m, pid_t from)
{
    /* Bounded: the list is no snapshot, so parents might go in circles. */
    for (int depth = 0; m && depth < 1000; depth++) {
        if (m->parent == from)
            return true;
        m = bsearch(&(struct member){.pid = m->parent}, f->v, f->n, sizeof *m, by_pid);
    }
    return false;
}

static bool through_daemon(const struct family *f, const struct member *m, pid_t from)
{
    for (int depth = 0; m && m->pid != from && depth < 1000; depth++) {
        if (is_daemon(m->pid))
            return true;
        m = bsearch(&(struct member){.pid = m->parent}, f->v, f->n, sizeof *m, by_pid);
    }
    return false;
}

static int sweep_below(struct sweep *s)
{
    pid_t from = s->what->below;
    struct family f = {0};
    int rc = read_family(&f, s->err);

    for (size_t i = 0; i < f.n && !rc; i++) {
        const struct member *m = &f.v[i];
        bool spared = m->pid == getpid() || !m->running || !descends(&f, m, from);
        for (size_t k = 0; k < s->what->nspare; k++)
            spared = spared || s->what->spare[k] == m->pid;
        struct mu_proc p;
        if (spared || through_daemon(&f, m, from) || mu_proc_open(m->pid, &p, NULL) < 0)
            continue;
        if (p.start == m->start && mu_proc_alive(&p)) {
            s->found++;
            s->one = m->pid;
            rc = kill_one(s, &p);
        }
        mu_proc_close(&p);
    }
    free(f.v);
    return rc;
}

/* --- sweeps ------------------------------------------------------------------------------------------------------ */

int mu_proc_count_tagged(const struct mu_proc_sweep *sweep, struct mu_err *err)
{
    struct sweep s = {.what = sweep, .err = err};
    int rc = mu_proc_scan(sweep_one, &s, err);

    mu_buf_free(&s.env);
    return rc < 0 ? rc : s.found;
}

int mu_proc_kill_tagged(const struct mu_proc_sweep *sweep, int deadline_ms, struct mu_proc_toll *toll,
                        struct mu_err *err)
{
    struct sweep s = {.what = sweep, .kill = true, .err = err};
    uint64_t deadline = mu_now() + (uint64_t)(deadline_ms > 0 ? deadline_ms : 0) * MU_MS;
    long pause = 500000;
    int rc, empty = 0;

    /* Where the newest pid is not known, a child may be behind the scan while its parent, ahead of it, ends: nothing
     * found twice is nothing. */
    for (;;) {
        s.found = 0;
        rc = mu_proc_scan(sweep_one, &s, err);
        if (rc == 0 && sweep->below)
            rc = sweep_below(&s);
        if (rc < 0)
            break;
        empty = s.found ? 0 : empty + 1;
        if (empty == 2)
            break;
        if (mu_now() >= deadline && s.found) {
            rc = mu_err_set(err, MUSTER_ETIMEOUT, "%d process%s not dead %d ms after SIGKILL, among them %ld", s.found,
                            s.found == 1 ? " is" : "es are", deadline_ms, (long)s.one);
            break;
        }
        if (s.found) {
            nanosleep(&(struct timespec){.tv_nsec = pause}, NULL);
            pause = pause < 8000000 ? pause * 2 : pause;
        }
    }
    if (toll)
        *toll = s.toll;
    free(s.seen);
    mu_buf_free(&s.env);
    return rc;
}
