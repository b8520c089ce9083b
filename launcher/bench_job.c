#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "launcher/bench.h"
#include "launcher/commands.h"
#include "runtime/base/clean.h"
#include "runtime/base/path.h"
#include "runtime/base/str.h"

static volatile sig_atomic_t child;

/* A terminal signals the child itself; what somebody sends to us is passed on. */
static void pass_on(int sig, siginfo_t *info, void *context)
{
    (void)context;
    if (child > 0 && info->si_code <= 0)
        kill((pid_t)child, sig);
}

static int find_program(char *out, size_t n, struct mu_err *err)
{
    char exe[4096];
    int rc = mu_path_exe(exe, sizeof exe, err);

    if (rc)
        return rc;
    char *slash = strrchr(exe, '/');
    if (slash)
        *slash = 0;
    snprintf(out, n, "%s/../libexec/muster/bench-rank", exe);
    return access(out, X_OK) ? mu_err_set(err, MUSTER_ENODE, "%s is missing; install muster whole (make install)", out)
                             : 0;
}

static int make_args(const struct mu_bench_job *j, const char *program, char ***out, struct mu_err *err)
{
    char label[64], name[64];
    char **v = NULL;

    snprintf(label, sizeof label, "bench %s", j->name); /* as errors call it */
    snprintf(name, sizeof name, "bench.%s", j->name);
    const char *const fixed[] = {label, "--name", name, "--restarts", "0", "--stdin", "none", "--quiet"};
    bool failed = false;
    for (size_t i = 0; i < MU_COUNT(fixed); i++)
        failed = failed || mu_strv_append(&v, fixed[i]);
    for (char *const *p = j->run; p && *p; p++)
        failed = failed || mu_strv_append(&v, *p);
    failed = failed || mu_strv_append(&v, program) || mu_strv_append(&v, j->name);
    for (char *const *p = j->rank; p && *p; p++)
        failed = failed || mu_strv_append(&v, *p);
    if (failed) {
        mu_strv_free(v);
        return mu_err_set(err, MUSTER_ENOMEM, "%s", muster_strerror(MUSTER_ENOMEM));
    }
    *out = v;
    return 0;
}

/* Lines until the other end is closed. What is none of ours goes to standard error. Returns the code of `end`, or -1.
 */
static int read_lines(const struct mu_bench_job *j, FILE *f)
{
    mu_auto_free char *line = NULL;
    size_t cap = 0;
    int code = -1;

    for (;;) {
        errno = 0;
        if (getline(&line, &cap, f) < 0) {
            if (errno != EINTR || feof(f))
                return code;
            clearerr(f);
            continue;
        }
        json_t *root = line[0] == '{' ? json_loads(line, 0, NULL) : NULL;
        const char *kind = json_string_value(json_object_get(root, "kind"));
        if (!kind) {
            fputs(line, stderr);
        } else {
            if (!strcmp(kind, "end"))
                code = (int)json_integer_value(json_object_get(root, "rc"));
            j->line(j->arg, line, root);
        }
        json_decref(root);
    }
}

int mu_bench_run(const struct mu_bench_job *j, struct mu_err *err)
{
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP};
    struct sigaction pass = {.sa_sigaction = pass_on, .sa_flags = SA_SIGINFO | SA_RESTART}, was[MU_COUNT(signals)];
    char program[4200];
    char **argv = NULL;
    int fds[2], status = 0;
    int rc = find_program(program, sizeof program, err);

    if (rc || (rc = make_args(j, program, &argv, err)))
        return rc;
    if (pipe(fds)) {
        mu_strv_free(argv);
        return mu_err_errno(err, MUSTER_ENODE, "no pipe can be had");
    }
    fflush(NULL);
    pid_t parent = getpid(), pid = fork();
    if (!pid) {
        prctl(PR_SET_PDEATHSIG, SIGTERM);
        dup2(fds[1], 1);
        close(fds[0]);
        close(fds[1]);
        if (getppid() != parent)
            _exit(1);
        rc = mu_cmd_run((int)mu_strv_len(argv), argv);
        fflush(NULL);
        _exit(rc);
    }
    close(fds[1]);
    mu_strv_free(argv);
    FILE *f = pid > 0 ? fdopen(fds[0], "r") : NULL;
    if (!f) {
        rc = mu_err_errno(err, MUSTER_ENODE, "no process can be had for the job");
        close(fds[0]);
        if (pid < 0)
            return rc;
    }
    child = pid;
    for (size_t i = 0; i < MU_COUNT(signals); i++)
        sigaction(signals[i], &pass, &was[i]);
    int code = f ? read_lines(j, f) : -1;
    if (f)
        fclose(f);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    child = 0;
    for (size_t i = 0; i < MU_COUNT(signals); i++)
        sigaction(signals[i], &was[i], NULL);
    if (rc)
        return rc;
    if (WIFSIGNALED(status))
        return 128 + WTERMSIG(status);
    if (WEXITSTATUS(status))
        return WEXITSTATUS(status);
    return code >= 0 ? code : MU_EXIT_FAILED;
}
