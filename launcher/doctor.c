/* muster doctor: what is installed here, what works, and what to do about the rest. */
#include "launcher/doctor.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "launcher/commands.h"
#include "runtime/base/clean.h"
#include "runtime/base/clock.h"
#include "runtime/base/opt.h"
#include "runtime/base/str.h"

enum { EXIT_USAGE = 2 };

struct opts {
    bool json;
    uint64_t timeout; /* of one check */
};

/* A new check is a row here and a function in doctor_soft.c or doctor_node.c. */
static const struct check {
    const char *name;
    bool required; /* muster does not run without it */
    void (*probe)(struct mu_finding *, const char *sys);
} checks[] = {
    {"mpi", true, mu_doctor_mpi},
    {"pmix", true, mu_doctor_pmix},
    {"hwloc", true, mu_doctor_hwloc},
    {"ucx", false, mu_doctor_ucx},
    {"nccl", false, mu_doctor_nccl},
    {"cuda", false, mu_doctor_cuda},
    {"kernels", false, mu_doctor_kernels},
    {"gpus", false, mu_doctor_gpus},
    {"infiniband", false, mu_doctor_infiniband},
    {"limits", true, mu_doctor_limits},
    {"shm", true, mu_doctor_shm},
    {"tmp", true, mu_doctor_tmp},
    {"state", true, mu_doctor_state},
    {"access", false, mu_doctor_access},
    {"cgroup", false, mu_doctor_cgroup},
    {"ptrace", false, mu_doctor_ptrace},
    {"governor", false, mu_doctor_governor},
};

void mu_found(struct mu_finding *f, enum mu_health health, const char *fmt, ...)
{
    va_list ap;

    f->health = health;
    va_start(ap, fmt);
    vsnprintf(f->found, sizeof f->found, fmt, ap);
    va_end(ap);
}

void mu_found_fix(struct mu_finding *f, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(f->fix, sizeof f->fix, fmt, ap);
    va_end(ap);
}

/* --- one check, one process ------------------------------------------------------------------------------------- */

static _Noreturn void probe_child(const struct check *c, int fd)
{
    struct mu_finding f = {.health = MU_HEALTH_BAD, .found = "the check found nothing"};
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);

    /* Drivers and MPI libraries like to talk; an end of the command ends the check. */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (null >= 0) {
        dup2(null, STDOUT_FILENO);
        dup2(null, STDERR_FILENO);
    }
    c->probe(&f, "/sys");
    ssize_t n = write(fd, &f, sizeof f);
    _exit(n == (ssize_t)sizeof f ? 0 : 1);
}

/* Waits for the child until the deadline; false: it is still there. */
static bool reap(pid_t pid, uint64_t deadline, int *status)
{
    for (;;) {
        pid_t got = waitpid(pid, status, WNOHANG);
        if (got == pid || (got < 0 && errno != EINTR))
            return true;
        if (mu_now() >= deadline)
            return false;
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
}

static void run_check(const struct check *c, uint64_t timeout, struct mu_finding *f)
{
    int fds[2] = {-1, -1}, status = 0;
    uint64_t deadline = mu_now() + timeout;
    char text[32];

    *f = (struct mu_finding){0};
    fflush(NULL);
    pid_t pid = pipe2(fds, O_CLOEXEC) ? -1 : fork();
    if (pid == 0)
        probe_child(c, fds[1]);
    mu_auto_fd int from = fds[0];
    if (fds[1] >= 0)
        close(fds[1]);
    if (pid < 0) {
        mu_found(f, MU_HEALTH_BAD, "cannot be checked: %s", strerror(errno));
        mu_found_fix(f, "raise the limit on processes and open files");
        return;
    }

    struct pollfd p = {.fd = from, .events = POLLIN};
    int ready;
    do {
        uint64_t now = mu_now();
        ready = poll(&p, 1, now < deadline ? (int)((deadline - now) / MU_MS) + 1 : 0);
    } while (ready < 0 && errno == EINTR);
    bool told = ready > 0 && read(from, f, sizeof *f) == (ssize_t)sizeof *f;
    if (!told && ready == 0)
        kill(pid, SIGKILL);
    bool gone = reap(pid, mu_now() + MU_SEC, &status);
    if (told)
        return;
    *f = (struct mu_finding){0};
    if (ready == 0)
        mu_found(f, MU_HEALTH_BAD, "no answer in %s%s", mu_str_fmt_duration(text, sizeof text, timeout),
                 gone ? "" : ", and stuck in the kernel");
    else if (WIFSIGNALED(status))
        mu_found(f, MU_HEALTH_BAD, "crashed when it was tried: signal %d (%s)", WTERMSIG(status),
                 strsignal(WTERMSIG(status)));
    else
        mu_found(f, MU_HEALTH_BAD, "ended the check with code %d when it was tried", WEXITSTATUS(status));
    mu_found_fix(f, "look into the kernel log (dmesg) and reinstall the library or driver behind it");
}

/* --- output ----------------------------------------------------------------------------------------------------- */

static int print_json(const struct mu_finding *f)
{
    char found[sizeof f->found * 2], fix[sizeof f->fix * 2];
    json_t *a = json_array();

    for (size_t i = 0; i < MU_COUNT(checks); i++)
        json_array_append_new(a, json_pack("{s:s,s:b,s:s,s:s,s:b}", "name", checks[i].name, "ok",
                                           f[i].health != MU_HEALTH_BAD, "found",
                                           mu_str_show(found, sizeof found, f[i].found), "fix",
                                           mu_str_show(fix, sizeof fix, f[i].fix), "required", checks[i].required));
    if (json_array_size(a) != MU_COUNT(checks)) {
        json_decref(a);
        return MUSTER_ENOMEM;
    }
    json_t *j = json_pack("{s:s,s:o}", "schema", "muster.doctor/1", "checks", a);
    int rc = j && !json_dumpf(j, stdout, JSON_COMPACT) && putchar('\n') != EOF ? 0 : MUSTER_EIO;
    json_decref(j);
    return rc;
}

static int print_table(const struct mu_finding *f, int nbad)
{
    static const char *const words[] = {"ok", "none", "FAIL"};
    char text[sizeof f->found * 2];

    for (size_t i = 0; i < MU_COUNT(checks); i++) {
        const char *word = f[i].health == MU_HEALTH_BAD && !checks[i].required ? "broken" : words[f[i].health];
        /* "none: " is for the reader of the JSON, who has no such column. */
        const char *found = strncmp(f[i].found, "none: ", 6) ? f[i].found : f[i].found + 6;
        printf("%-10s  %-6s  %s\n", checks[i].name, word, mu_str_show(text, sizeof text, found));
        if (f[i].fix[0])
            printf("%-10s  %-6s  fix: %s\n", "", "", mu_str_show(text, sizeof text, f[i].fix));
    }
    if (nbad)
        printf("\n%d of the checks that muster needs failed.\n", nbad);
    else
        printf("\nEverything that muster needs is here.\n");
    return 0;
}

int mu_cmd_doctor(int argc, char **argv)
{
    static const char usage[] = "muster doctor [--json] [--timeout TIME]";
    /* Drivers of a machine full of GPUs take their time when nothing holds them open. */
    struct opts o = {.timeout = 30 * MU_SEC};
    static const struct mu_opt rows[] = {
        {"json", 0, MU_OPT_FLAG, offsetof(struct opts, json), .help = "print JSON"},
        {"timeout", 0, MU_OPT_DURATION, offsetof(struct opts, timeout), "TIME",
         .help = "give up on a check after this long (default 30s)"},
    };
    struct mu_finding f[MU_COUNT(checks)];
    struct mu_err err = {0};
    int first, nbad = 0, rc = mu_opt_parse(rows, MU_COUNT(rows), argc, argv, MU_OPT_PERMUTE, &o, &first, &err);

    if (rc == 1) {
        mu_opt_help(stdout, usage, rows, MU_COUNT(rows));
        return 0;
    }
    if (!rc && first < argc)
        rc = mu_err_set(&err, MUSTER_EARG, "'%.80s' is one word too many: %s", argv[first], usage);
    if (!rc && (o.timeout < MU_MS || o.timeout > 3600 * MU_SEC))
        rc = mu_err_set(&err, MUSTER_EARG, "--timeout takes from 1ms to 1h");
    if (rc) {
        char text[sizeof err.text * 2];
        fprintf(stderr, "muster doctor: %s\n", mu_str_show(text, sizeof text, err.text));
        return EXIT_USAGE;
    }

    for (size_t i = 0; i < MU_COUNT(checks); i++) {
        run_check(&checks[i], o.timeout, &f[i]);
        if (checks[i].required && f[i].health == MU_HEALTH_NONE)
            f[i].health = MU_HEALTH_BAD;
        nbad += checks[i].required && f[i].health == MU_HEALTH_BAD;
    }
    if ((o.json ? print_json(f) : print_table(f, nbad)) || fflush(stdout)) {
        fprintf(stderr, "muster doctor: the report cannot be printed: %s\n", strerror(errno));
        return EXIT_FAILURE;
    }
    return nbad ? EXIT_FAILURE : EXIT_SUCCESS;
}
