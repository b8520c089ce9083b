/* What can be known to be wrong before a job exists. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "launcher/run.h"
#include "runtime/base/clean.h"
#include "runtime/base/exec.h"
#include "runtime/base/str.h"

#define DEFAULT_PATH "/bin:/usr/bin" /* execvp's, when there is no PATH */

/* 0: a program; else the errno of execve, EISDIR for a directory. */
static int look(const char *wdir, const char *path)
{
    char full[8192];
    struct stat st;

    if (snprintf(full, sizeof full, "%s%s%s", path[0] == '/' ? "" : wdir, path[0] == '/' ? "" : "/", path) >=
        (int)sizeof full)
        return ENAMETOOLONG;
    if (stat(full, &st) < 0)
        return errno;
    if (S_ISDIR(st.st_mode))
        return EISDIR;
    return S_ISREG(st.st_mode) && !faccessat(AT_FDCWD, full, X_OK, AT_EACCESS) ? 0 : EACCES;
}

static int refuse(const char *program, const char *wdir, int e, struct mu_err *err)
{
    char shown[256], at[256];

    mu_str_show(shown, sizeof shown, program);
    switch (e) {
    case EACCES:
        return mu_err_set(err, MUSTER_EARG, "%s is not executable; chmod +x it, or name its interpreter first", shown);
    case EISDIR:
        return mu_err_set(err, MUSTER_EARG, "%s is a directory, not a program", shown);
    case ENOENT:
    case ENOTDIR:
        return mu_err_set(err, MUSTER_EARG, "%s: no such program%s%s; check the path, or give --wdir", shown,
                          program[0] == '/' ? "" : " seen from ",
                          program[0] == '/' ? "" : mu_str_show(at, sizeof at, wdir));
    default:
        return mu_err_set(err, MUSTER_EARG, "%s: %s", shown, strerror(e));
    }
}

static int check_program(const struct mu_run_app *app, char *const *env, struct mu_err *err)
{
    const char *program = app->argv[0], *path = mu_run_env_get(env, app->env, "PATH");
    char shown[256], found[8192] = "";

    if (!*program)
        return mu_err_set(err, MUSTER_EARG, "the program's name is empty");
    if (strchr(program, '/')) {
        int e = look(app->wdir, program);
        return e ? refuse(program, app->wdir, e, err) : mu_exec_check(program, app->wdir, err);
    }
    for (const char *p = path && *path ? path : DEFAULT_PATH;; p++) {
        size_t len = strcspn(p, ":");
        char full[8192];

        if (snprintf(full, sizeof full, "%.*s%s%s", (int)len, p, len ? "/" : "./", program) < (int)sizeof full) {
            int e = look(app->wdir, full);
            if (!e)
                return mu_exec_check(full, app->wdir, err);
            if (e == EACCES && !*found)
                snprintf(found, sizeof found, "%s", full);
        }
        p += len;
        if (!*p)
            break;
    }
    if (*found)
        return refuse(found, app->wdir, EACCES, err);
    mu_str_show(shown, sizeof shown, program);
    if (!look(app->wdir, program))
        return mu_err_set(err, MUSTER_EARG, "%s is not in PATH; did you mean ./%s?", shown, shown);
    return mu_err_set(err, MUSTER_EARG, "%s is not in PATH; give its path, or check the spelling", shown);
}

static int check_wdir(const struct mu_run_app *app, struct mu_err *err)
{
    char shown[256];
    struct stat st;

    mu_str_show(shown, sizeof shown, app->wdir);
    if (stat(app->wdir, &st) < 0)
        return mu_err_errno(err, MUSTER_EARG, "--wdir %s", shown);
    if (!S_ISDIR(st.st_mode))
        return mu_err_set(err, MUSTER_EARG, "--wdir %s: not a directory", shown);
    if (faccessat(AT_FDCWD, app->wdir, X_OK, AT_EACCESS))
        return mu_err_errno(err, MUSTER_EARG, "--wdir %s", shown);
    return 0;
}

/* This host has some of the ranks from `from` to before `end`, or may have. */
static bool has_ranks(const struct mu_run_plan *p, uint64_t from, uint64_t end)
{
    mu_auto_free struct mu_share *shares = NULL;
    unsigned n = 0, nspares;
    uint64_t rank = 0;
    char here[65];

    if (!p->hosts.n || !mu_run_hosts_here(&p->hosts) || !p->ranks || mu_run_place(p, &shares, &n, &nspares, NULL))
        return mu_run_hosts_here(&p->hosts);
    mu_path_host(here);
    for (unsigned i = 0; i < n; rank += shares[i++].ranks)
        if (!strcmp(p->hosts.v[shares[i].node].name, here) && rank < end && rank + shares[i].ranks > from)
            return true;
    return false;
}

int mu_run_check_programs(const struct mu_run_plan *p, struct mu_err *err)
{
    uint64_t from = 0;
    int rc = 0;

    for (unsigned i = 0; i < p->napps && !rc; from += p->apps[i++].ranks) {
        const struct mu_run_app *app = &p->apps[i];
        if (has_ranks(p, from, from + app->ranks) && !(rc = check_wdir(app, err)))
            rc = check_program(app, p->env, err);
    }
    return rc;
}

int mu_run_check_dir(const char *option, const char *dir, bool create, struct mu_err *err)
{
    char probe[4200];
    struct stat st;

    if (!stat(dir, &st) && !S_ISDIR(st.st_mode))
        return mu_err_set(err, MUSTER_EARG, "%s %s: not a directory", option, dir);
    if (!create) {
        /* the nearest directory that exists must be ours to write in */
        snprintf(probe, sizeof probe, "%s", dir);
        while (access(probe, F_OK) && strrchr(probe, '/') > probe)
            *strrchr(probe, '/') = 0;
        if (access(probe, F_OK))
            snprintf(probe, sizeof probe, "/");
        if (faccessat(AT_FDCWD, probe, W_OK | X_OK, AT_EACCESS))
            return mu_err_errno(err, MUSTER_EARG, "%s: cannot write in %s", option, probe);
        return 0;
    }
    int rc = mu_path_mkdirs(dir, 0777, err);
    if (rc < 0) {
        mu_err_prefix(err, "%s", option);
        return err->code = rc == MUSTER_ENOSPC ? rc : MUSTER_EARG;
    }
    snprintf(probe, sizeof probe, "%s/.muster-%ld", dir, (long)getpid());
    mu_auto_fd int fd = open(probe, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC | O_NOFOLLOW, 0600);
    int bad = fd < 0 ? errno : write(fd, "x", 1) == 1 ? 0 : errno ? errno : EIO;
    if (fd >= 0)
        unlink(probe);
    if (!bad)
        return 0;
    errno = bad;
    return mu_err_errno(err, bad == ENOSPC || bad == EDQUOT ? MUSTER_ENOSPC : MUSTER_EARG, "%s: cannot write in %s",
                        option, dir);
}
