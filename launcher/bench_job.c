#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "launcher/bench.h"
#include "launcher/commands.h"
#include "runtime/base/buf.h"
#include "runtime/base/clean.h"
#include "runtime/base/clock.h"
#include "runtime/base/path.h"
#include "runtime/base/str.h"

static const int signals[] = {SIGINT, SIGTERM, SIGHUP, SIGPIPE};

struct mu_bench_team {
    pid_t pid;   /* 0: it has ended */
    int in, out; /* what it is told (-1: nothing more), what it says */
    int status;  /* of its end */
    struct mu_buf said;
    struct sigaction was[MU_COUNT(signals)];
};

static volatile sig_atomic_t child, caught;

static void shut(int *fd)
{
    mu_clean_fd(fd);
    *fd = -1;
}

/* A terminal signals the child itself; what somebody sends to us is passed on. */
static void pass_on(int sig, siginfo_t *info, void *context)
{
    (void)context;
    caught = sig != SIGPIPE ? sig : caught;
    if (sig != SIGPIPE && child > 0 && info->si_code <= 0)
        kill((pid_t)child, sig);
}

bool mu_bench_interrupted(void)
{
    return caught != 0;
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

static int make_args(const char *label, const char *name, char *const *run, char *const *program, char ***out,
                     struct mu_err *err)
{
    char **v = NULL;
    const char *const fixed[] = {label, "--name", name, "--restarts", "0", "--quiet"};
    bool failed = false;

    for (size_t i = 0; i < MU_COUNT(fixed); i++)
        failed = failed || mu_strv_append(&v, fixed[i]);
    for (char *const *p = run; p && *p; p++)
        failed = failed || mu_strv_append(&v, *p);
    for (char *const *p = program; p && *p; p++)
        failed = failed || mu_strv_append(&v, *p);
    if (failed) {
        mu_strv_free(v);
        return mu_err_set(err, MUSTER_ENOMEM, "%s", muster_strerror(MUSTER_ENOMEM));
    }
    *out = v;
    return 0;
}

/* `muster run` in a child. told: it reads what is to be done from t->in. */
static int start(struct mu_bench_team *t, char **argv, bool told, struct mu_err *err)
{
    struct sigaction pass = {.sa_sigaction = pass_on, .sa_flags = SA_SIGINFO | SA_RESTART};
    int out[2] = {-1, -1}, in[2] = {-1, -1};
    struct sigaction was;

    if (pipe2(out, O_CLOEXEC) || (told && pipe2(in, O_CLOEXEC))) {
        int rc = mu_err_errno(err, MUSTER_ENODE, "no pipe can be had");
        shut(&out[0]);
        shut(&out[1]);
        return rc;
    }
    fflush(NULL);
    pid_t parent = getpid();
    t->pid = fork();
    if (!t->pid) {
        prctl(PR_SET_PDEATHSIG, SIGTERM);
        dup2(out[1], 1);
        if (told)
            dup2(in[0], 0);
        for (int i = 0; i < 2; i++) {
            shut(&out[i]);
            shut(&in[i]);
        }
        if (getppid() != parent)
            _exit(1);
        for (size_t i = 0; i < MU_COUNT(signals); i++) /* until mu_cmd_run has its own */
            if (!sigaction(signals[i], NULL, &was) && was.sa_handler != SIG_IGN)
                signal(signals[i], SIG_DFL);
        int rc = mu_cmd_run((int)mu_strv_len(argv), argv);
        fflush(NULL);
        _exit(rc);
    }
    shut(&out[1]);
    shut(&in[0]);
    t->out = out[0];
    t->in = in[1];
    if (t->pid < 0) {
        int rc = mu_err_errno(err, MUSTER_ENODE, "no process can be had for the job");
        shut(&t->out);
        shut(&t->in);
        t->pid = 0;
        return rc;
    }
    child = t->pid;
    for (size_t i = 0; i < MU_COUNT(signals); i++)
        sigaction(signals[i], &pass, &t->was[i]);
    return 0;
}

static void end(struct mu_bench_team *t)
{
    shut(&t->in);
    shut(&t->out);
    if (!t->pid)
        return;
    while (waitpid(t->pid, &t->status, 0) < 0 && errno == EINTR)
        ;
    t->pid = child = 0;
    for (size_t i = 0; i < MU_COUNT(signals); i++)
        sigaction(signals[i], &t->was[i], NULL);
}

/* One line of ours, or one for people: then it goes to standard error. True: it is `end`, with its code. */
static bool take_line(const struct mu_bench_job *j, const char *line, int *code)
{
    json_t *root = line[0] == '{' ? json_loads(line, 0, NULL) : NULL;
    const char *kind = json_string_value(json_object_get(root, "kind"));
    bool is_end = kind && !strcmp(kind, "end");

    if (kind)
        j->line(j->arg, line, root);
    else
        fputs(line, stderr);
    if (is_end)
        *code = (int)json_integer_value(json_object_get(root, "rc"));
    json_decref(root);
    return is_end;
}

/* Until a benchmark has ended (true), or the job, or the time (errno is ETIMEDOUT). deadline: 0 is never. */
static bool read_lines(struct mu_bench_team *t, const struct mu_bench_job *j, uint64_t deadline, int *code)
{
    for (;;) {
        char *end, more[16 << 10];
        while ((end = t->said.len ? memchr(t->said.data, '\n', t->said.len) : NULL)) {
            mu_auto_free char *line = strndup(t->said.data, (size_t)(end - t->said.data) + 1);
            mu_buf_consume(&t->said, (size_t)(end - t->said.data) + 1);
            if (line && take_line(j, line, code))
                return true;
        }
        uint64_t now = deadline ? mu_now() : 0;
        int ms = !deadline ? -1 : now < deadline ? (int)((deadline - now) / MU_MS) + 1 : 0;
        int n = poll(&(struct pollfd){.fd = t->out, .events = POLLIN}, 1, ms);
        if (!n) {
            errno = ETIMEDOUT;
            return false;
        }
        ssize_t got = n > 0 ? read(t->out, more, sizeof more) : -1;
        if (got < 0 && errno == EINTR)
            continue;
        if (got > 0)
            mu_buf_append(&t->said, more, (size_t)got);
        if (got <= 0 || t->said.failed) {
            errno = 0;
            return false;
        }
    }
}

static int code_of(int status)
{
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

int mu_bench_run(const struct mu_bench_job *j, struct mu_err *err)
{
    struct mu_bench_team t = {.in = -1, .out = -1};
    char program[4200], label[64], name[64], none[] = "--stdin=none";
    char **argv = NULL, **run = NULL, **words = NULL;
    int code = -1, rc = find_program(program, sizeof program, err);

    if (rc)
        return rc;
    snprintf(label, sizeof label, "bench %s", j->name); /* as errors call it */
    snprintf(name, sizeof name, "bench.%s", j->name);
    bool failed = mu_strv_append(&run, none) || mu_strv_append(&words, program) || mu_strv_append(&words, j->name);
    for (char *const *p = j->run; p && *p; p++)
        failed = failed || mu_strv_append(&run, *p);
    for (char *const *p = j->rank; p && *p; p++)
        failed = failed || mu_strv_append(&words, *p);
    rc = failed ? mu_err_set(err, MUSTER_ENOMEM, "%s", muster_strerror(MUSTER_ENOMEM))
                : make_args(label, name, run, words, &argv, err);
    if (!rc && !(rc = start(&t, argv, false, err))) {
        while (read_lines(&t, j, 0, &code))
            ;
        end(&t);
        rc = code_of(t.status);
        rc = rc ? rc : code >= 0 ? code : MU_EXIT_FAILED;
    }
    mu_strv_free(argv);
    mu_strv_free(run);
    mu_strv_free(words);
    mu_buf_free(&t.said);
    return rc;
}

/* --- a job that stays ------------------------------------------------------------------------------------------------
 */

int mu_bench_team_new(struct mu_bench_team **out, const char *label, char *const *run, struct mu_err *err)
{
    char program[4200], steps[] = "steps", *words[] = {program, steps, NULL}, **argv = NULL;
    int rc = find_program(program, sizeof program, err);
    struct mu_bench_team *t = NULL;

    if (rc || (rc = make_args(label, label, run, words, &argv, err)))
        return rc;
    if (!(t = calloc(1, sizeof *t)))
        rc = mu_err_set(err, MUSTER_ENOMEM, "%s", muster_strerror(MUSTER_ENOMEM));
    else
        rc = start(t, argv, true, err);
    mu_strv_free(argv);
    if (rc)
        free(t);
    else
        *out = t;
    return rc;
}

/* How long the words are, then each with its NUL (bench/rank/steps.c). */
static int tell(struct mu_bench_team *t, const struct mu_bench_job *j)
{
    mu_auto_buf struct mu_buf words = {0}, text = {0};

    mu_buf_append(&words, j->name, strlen(j->name) + 1);
    for (char *const *p = j->rank; p && *p; p++)
        mu_buf_append(&words, *p, strlen(*p) + 1);
    mu_buf_appendf(&text, "%zu\n", words.len);
    mu_buf_append(&text, words.data, words.len);
    if (words.failed || text.failed)
        return MUSTER_ENOMEM;
    for (size_t at = 0; at < text.len;) {
        ssize_t n = write(t->in, text.data + at, text.len - at);
        if (n < 0 && errno != EINTR)
            return 0; /* it has ended, and what it says is read */
        at += n > 0 ? (size_t)n : 0;
    }
    return 0;
}

int mu_bench_team_run(struct mu_bench_team *t, const struct mu_bench_job *j, uint64_t most_ns, struct mu_err *err)
{
    int code = -1;

    if (tell(t, j))
        return mu_err_set(err, MUSTER_ENOMEM, "%s", muster_strerror(MUSTER_ENOMEM));
    if (read_lines(t, j, mu_now() + most_ns, &code))
        return code;
    bool late = errno == ETIMEDOUT;
    if (late)
        kill(t->pid, SIGTERM);
    end(t);
    code = code_of(t->status);
    return late ? 124 : code ? code : MU_EXIT_FAILED;
}

void mu_bench_team_dismiss(struct mu_bench_team *t)
{
    shut(&t->in);
}

void mu_bench_team_free(struct mu_bench_team *t)
{
    if (!t)
        return;
    end(t);
    mu_buf_free(&t->said);
    free(t);
}
