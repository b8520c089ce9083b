#include "runtime/keeper/launch.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "runtime/base/clean.h"
#include "runtime/base/exec.h"
#include "runtime/base/str.h"
#include "runtime/keeper/env.h"

enum stage { S_NONE, S_SETUP, S_WDIR, S_BIND, S_MEMORY, S_ELSEWHERE, S_EXEC };

/* What a child writes to the shared pipe; smaller than PIPE_BUF, so that reports never mix. */
struct news {
    uint32_t index;
    int32_t stage, error;
};

/* Everything that a child needs, worked out before the fork: between fork and exec only system calls are safe. */
struct plan {
    bool direct;   /* one path only: argv[0] has a slash */
    char **paths;  /* candidates of the program, in order */
    char **script; /* argv for /bin/sh, for a file in no format that the kernel knows; the child fills [1] in */
};

struct mu_launch {
    int fd;
    uint32_t n;
    char **names, **wdirs; /* for texts */
};

/* --- before the forks -------------------------------------------------------------------------------------------- */

static int add_path(char ***paths, const char *dir, size_t len, const char *name)
{
    mu_auto_free char *path = NULL;

    if (asprintf(&path, "%.*s%s%s", (int)len, dir, len ? "/" : "", name) < 0) {
        path = NULL;
        return MUSTER_ENOMEM;
    }
    return mu_strv_append(paths, path);
}

static int plan_make(struct plan *p, const struct mu_launch_rank *r)
{
    const char *name = r->argv[0], *path = mu_env_get(r->env, "PATH");
    size_t argc = mu_strv_len(r->argv);
    int rc = 0;

    p->script = calloc(argc + 2, sizeof *p->script);
    if (!p->script)
        return MUSTER_ENOMEM;
    p->script[0] = (char *)(uintptr_t) "/bin/sh";
    memcpy(p->script + 2, r->argv + 1, argc * sizeof *p->script);
    p->direct = strchr(name, '/');
    if (p->direct)
        return mu_strv_append(&p->paths, name);
    for (const char *dir = path && *path ? path : "/usr/local/bin:/usr/bin:/bin"; dir && !rc;) {
        size_t len = strcspn(dir, ":");
        rc = add_path(&p->paths, dir, len, name);
        dir = dir[len] ? dir + len + 1 : NULL;
    }
    return rc;
}

static void plans_free(struct plan *p, uint32_t n)
{
    for (uint32_t i = 0; p && i < n; i++) {
        mu_strv_free(p[i].paths);
        free(p[i].script);
    }
    free(p);
}

/* The child's end is dup2'd onto 0, 1 or 2, hence must not be one of them. */
static int make_pipe(int fds[2])
{
    if (pipe2(fds, O_CLOEXEC) < 0)
        return -1;
    for (int i = 0; i < 2; i++)
        if (fds[i] < 3) {
            int high = fcntl(fds[i], F_DUPFD_CLOEXEC, 3);
            if (high < 0) {
                int e = errno;
                close(fds[0]);
                close(fds[1]);
                errno = e;
                return -1;
            }
            close(fds[i]);
            fds[i] = high;
        }
    return 0;
}

static void close_fds(int *fds, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (fds[i] >= 0) {
            close(fds[i]);
            fds[i] = -1;
        }
}

/* --- in the child ------------------------------------------------------------------------------------------------ */

struct birth {
    const struct mu_launch_rank *rank;
    const struct plan *plan;
    uint32_t index;
    pid_t parent;
    mode_t mode;
    int in, out, err, news;
    struct rlimit nofile;
};

static void tell(const struct birth *b, enum stage stage, int error)
{
    struct news news = {.index = b->index, .stage = (int32_t)stage, .error = error};

    while (write(b->news, &news, sizeof news) < 0 && errno == EINTR)
        ;
}

/* As shells do it: text without "#!" is theirs, a binary file is nobody's. */
static bool for_the_shell(const char *path)
{
    char head[MU_EXEC_HEAD];
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    ssize_t n = fd < 0 ? -1 : read(fd, head, sizeof head);

    if (fd >= 0)
        close(fd);
    return n >= 0 && !mu_exec_is_binary(head, (size_t)n);
}

static void run_program(const struct birth *b)
{
    char *const *argv = b->rank->argv, *const *env = b->rank->env;
    int worst = ENOENT;

    for (char **path = b->plan->paths; *path; path++) {
        execve(*path, argv, env);
        int e = errno;
        if (e == ENOEXEC && for_the_shell(*path)) {
            b->plan->script[1] = *path;
            execve("/bin/sh", b->plan->script, env);
            e = errno;
        }
        if (e == EACCES || e == ENOEXEC || b->plan->direct)
            worst = e;
        else if (e != ENOENT && e != ENOTDIR && e != ESTALE && e != ENODEV && e != ETIMEDOUT) {
            worst = e;
            break;
        }
    }
    tell(b, S_EXEC, worst);
}

/* The kernel takes a mask that only touches what is allowed, and cuts it. */
static bool bound(const struct mu_bind *bind)
{
    static struct mu_cpuset is; /* zeroed, and each child's own */

    return syscall(SYS_sched_getaffinity, 0, sizeof is.w, is.w) > 0 && mu_cpuset_equal(&is, &bind->cpus);
}

static void child(const struct birth *b)
{
    const char *wdir = b->rank->wdir;
    sigset_t none;
    int mem = 0;

    /* Also done by the parent, whoever comes first. */
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != b->parent)
        _exit(1);
    /* Not by signal(): libc keeps 32 and 33 to itself, and some parents hand them down ignored. */
    static const unsigned long dfl[8];
    for (int s = 1; s < NSIG; s++)
        syscall(SYS_rt_sigaction, s, dfl, NULL, (size_t)(_NSIG / 8));
    umask(b->mode);
    setrlimit(RLIMIT_NOFILE, &b->nofile);
    if (dup2(b->in, 0) < 0 || dup2(b->out, 1) < 0 || dup2(b->err, 2) < 0) {
        tell(b, S_SETUP, errno);
        _exit(1);
    }
    if (b->rank->bind) {
        int rc = mu_bind_apply(b->rank->bind, &mem);
        if (rc < 0)
            tell(b, S_BIND, -rc);
        else if (!bound(b->rank->bind))
            tell(b, S_ELSEWHERE, 0);
        if (mem)
            tell(b, S_MEMORY, mem);
    }
    if (chdir(wdir && *wdir ? wdir : "/") < 0) {
        tell(b, S_WDIR, errno);
        _exit(1);
    }
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    run_program(b);
    _exit(127);
}

/* --- the parent -------------------------------------------------------------------------------------------------- */

struct ends {
    int in[2], out[2], err[2];
};

static int open_streams(struct ends *e, bool feed)
{
    *e = (struct ends){{-1, -1}, {-1, -1}, {-1, -1}};
    if (make_pipe(e->out) < 0 || make_pipe(e->err) < 0 || (feed && make_pipe(e->in) < 0))
        return -1;
    if (fcntl(e->out[0], F_SETFL, O_NONBLOCK) < 0 || fcntl(e->err[0], F_SETFL, O_NONBLOCK) < 0 ||
        (feed && fcntl(e->in[1], F_SETFL, O_NONBLOCK) < 0))
        return -1;
    return 0;
}

static int remember(struct mu_launch *l, const struct mu_launch_rank *ranks, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        if (mu_strv_append(&l->names, ranks[i].argv[0]) ||
            mu_strv_append(&l->wdirs, ranks[i].wdir ? ranks[i].wdir : ""))
            return MUSTER_ENOMEM;
    return 0;
}

int mu_launch_start(const struct mu_launch_rank *ranks, uint32_t n, const struct mu_launch_shell *shell,
                    struct mu_child *children, struct mu_launch **out, struct mu_err *err)
{
    struct birth b = {.parent = getpid(), .mode = shell->umask};
    struct plan *plans = calloc(n, sizeof *plans);
    struct mu_child *kids = calloc(n, sizeof *kids);
    struct mu_launch *l = calloc(1, sizeof *l);
    int news[2] = {-1, -1}, null = -1, rc = 0;
    sigset_t all, before;
    uint32_t made = 0;

    if (!plans || !kids || !l || remember(l, ranks, n))
        goto nomem;
    for (uint32_t i = 0; i < n; i++)
        if (plan_make(&plans[i], &ranks[i]))
            goto nomem;
    l->fd = -1;
    l->n = n;
    null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (null < 0 || make_pipe(news) < 0 || fcntl(news[0], F_SETFL, O_NONBLOCK) < 0) {
        rc = mu_err_errno(err, 0, "cannot start ranks");
        goto out;
    }
    getrlimit(RLIMIT_NOFILE, &b.nofile);
    /* Ours is raised; programs with select() rely on theirs. */
    rlim_t soft = shell->nofile ? shell->nofile : 1024;
    b.nofile.rlim_cur = soft < b.nofile.rlim_max ? soft : b.nofile.rlim_max;
    b.news = news[1];

    /* No handler of ours may run in a child that still has our memory. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    for (; made < n; made++) {
        struct ends e;

        if (open_streams(&e, ranks[made].feed) < 0) {
            rc = mu_err_errno(err, 0, "pipes of rank %u", made);
        } else {
            b.rank = &ranks[made];
            b.plan = &plans[made];
            b.index = made;
            b.in = ranks[made].feed ? e.in[0] : null;
            b.out = e.out[1];
            b.err = e.err[1];
            pid_t pid = fork();
            if (!pid)
                child(&b);
            if (pid > 0) {
                setpgid(pid, pid);
                kids[made] = (struct mu_child){.pid = pid, .in = e.in[1], .out = e.out[0], .err = e.err[0]};
                e.in[1] = e.out[0] = e.err[0] = -1;
            } else {
                rc = mu_err_errno(err, 0, "fork");
            }
        }
        close_fds(e.in, 2);
        close_fds(e.out, 2);
        close_fds(e.err, 2);
        if (rc)
            break;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (!rc) {
        l->fd = MU_STEAL(news[0], -1);
        memcpy(children, kids, n * sizeof *kids);
        *out = MU_STEAL(l, NULL);
        goto out;
    }
    for (uint32_t i = 0; i < made; i++) {
        kill(kids[i].pid, SIGKILL);
        close_fds((int[]){kids[i].in, kids[i].out, kids[i].err}, 3);
    }
    goto out;
nomem:
    rc = mu_err_set(err, MUSTER_ENOMEM, "cannot start ranks: out of memory");
out:
    close_fds(news, 2);
    close_fds(&null, 1);
    plans_free(plans, n);
    free(kids);
    mu_launch_free(l);
    return rc;
}

int mu_launch_fd(const struct mu_launch *l)
{
    return l->fd;
}

static void explain(const struct mu_launch *l, const struct news *news, struct mu_launch_trouble *t)
{
    const char *why = strerror(news->error);
    char name[160], wdir[160];

    mu_str_show(name, sizeof name, l->names[news->index]);
    mu_str_show(wdir, sizeof wdir, l->wdirs[news->index]);
    *t = (struct mu_launch_trouble){
        .index = news->index, .exit_code = 1, .fatal = news->stage < S_BIND || news->stage > S_ELSEWHERE};
    switch (news->stage) {
    case S_WDIR:
        snprintf(t->text, sizeof t->text, "cannot change to working directory %s: %s", wdir, why);
        break;
    case S_BIND:
        snprintf(t->text, sizeof t->text, "is not bound to its CPUs: %s", why);
        break;
    case S_MEMORY:
        snprintf(t->text, sizeof t->text, "does not have its memory bound to its NUMA nodes: %s", why);
        break;
    case S_ELSEWHERE:
        snprintf(t->text, sizeof t->text, "is not bound to all of its CPUs: some are not allowed here");
        break;
    case S_EXEC:
        t->exit_code = news->error == ENOENT || news->error == ENOTDIR ? 127 : 126;
        if (news->error == ENOENT && !strchr(name, '/'))
            snprintf(t->text, sizeof t->text, "cannot run %s: not found in PATH", name);
        else if (news->error == ENOENT)
            snprintf(t->text, sizeof t->text, "cannot run %s: no such file, or its interpreter is missing", name);
        else if (news->error == ENOEXEC)
            snprintf(t->text, sizeof t->text,
                     "cannot run %s: not a program of this machine's format, and no script either", name);
        else
            snprintf(t->text, sizeof t->text, "cannot run %s: %s", name, why);
        break;
    default:
        snprintf(t->text, sizeof t->text, "cannot start %s: %s", name, why);
    }
}

int mu_launch_poll(struct mu_launch *l, struct mu_launch_trouble *t)
{
    struct news news;
    ssize_t got;

    do
        got = read(l->fd, &news, sizeof news);
    while (got < 0 && errno == EINTR);
    if (got < 0 && errno == EAGAIN)
        return MU_LAUNCH_WAIT;
    if (got != sizeof news || news.index >= l->n)
        return MU_LAUNCH_DONE;
    explain(l, &news, t);
    return MU_LAUNCH_TROUBLE;
}

void mu_launch_free(struct mu_launch *l)
{
    if (!l)
        return;
    if (l->fd > 0)
        close(l->fd);
    mu_strv_free(l->names);
    mu_strv_free(l->wdirs);
    free(l);
}
