/* Health checks of a node: what each makes of a machine, the site's own scripts and their limits. */
#include "runtime/agent/check.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/base/clock.h"
#include "runtime/base/proc.h"
#include "tests/unit/tap.h"

static char dir[64], root[80];
static struct mu_paths paths;
static struct mu_m_check asked = {.limit_ns = 20 * MU_SEC, .memory_permille = 50};
static struct mu_check check = {.root = root, .paths = &paths, .asked = &asked, .reader = -1};

static struct row {
    char name[64];
    struct mu_check_found found;
} rows[32];
static unsigned nrows;
static char begun[64];

static int take(void *arg, const char *name, const struct mu_check_found *found, uint32_t took_ms)
{
    (void)arg, (void)took_ms;
    if (!found) {
        snprintf(begun, sizeof begun, "%s", name);
        return 0;
    }
    snprintf(rows[nrows].name, sizeof rows[nrows].name, "%s", name);
    rows[nrows++].found = *found;
    return strcmp(begun, name);
}

static int run(void)
{
    nrows = 0;
    return mu_check_run(&check, take, NULL);
}

static const struct mu_check_found *found(const char *name)
{
    static const struct mu_check_found none = {.level = 99, .reason = "it was not made"};

    for (unsigned i = 0; i < nrows; i++)
        if (!strcmp(rows[i].name, name))
            return &rows[i].found;
    return &none;
}

static void is(const char *name, uint32_t level, const char *part, const char *what)
{
    const struct mu_check_found *f = found(name);

    TAP_OK(f->level == level && strstr(f->reason, part), "%s (%u: %s)", what, f->level, f->reason);
}

static void put(const char *file, const char *text, mode_t mode)
{
    char path[300], *slash;

    snprintf(path, sizeof path, "%s/%s", dir, file);
    for (slash = path + strlen(dir) + 1; (slash = strchr(slash, '/')); slash++) {
        *slash = 0;
        mkdir(path, 0755);
        *slash = '/';
    }
    FILE *f = fopen(path, "we");
    if (!f || fputs(text, f) < 0 || fclose(f) || chmod(path, mode))
        exit(99);
}

static void sys(const char *file, const char *text)
{
    char path[300];

    snprintf(path, sizeof path, "root/%s", file);
    put(path, text, 0644);
}

static void memory(void)
{
    char job[] = "7.1", *jobs[] = {job, NULL};

    sys("proc/meminfo", "MemTotal:       1000000 kB\nMemFree: 1 kB\nMemAvailable:    60000 kB\n");
    run();
    is("memory", MU_LEVEL_OK, "58.6 MiB of 976.6 MiB are free", "enough memory");
    sys("proc/meminfo", "MemTotal:       1000000 kB\nMemFree: 1 kB\nMemAvailable:    40000 kB\n");
    run();
    is("memory", MU_LEVEL_FAIL, "less than 5.0 %", "too little is left where no job runs");
    asked.jobs = jobs;
    run();
    is("memory", MU_LEVEL_WARN, "less than 5.0 %", "where one runs that is only told");
    asked.jobs = NULL;
}

static void ecc(void)
{
    is("ecc", MU_LEVEL_SKIP, "EDAC", "no counters of memory errors");
    sys("sys/devices/system/edac/mc/mc0/ue_count", "0\n");
    sys("sys/devices/system/edac/mc/mc0/ce_count", "5\n");
    run();
    is("ecc", MU_LEVEL_WARN, "5 memory errors", "corrected errors since the last check");
    run();
    is("ecc", MU_LEVEL_OK, "5 corrected", "which count once");
    sys("sys/devices/system/edac/mc/mc1/ue_count", "2\n");
    run();
    is("ecc", MU_LEVEL_FAIL, "2 memory errors", "errors that could not be corrected");
    sys("sys/devices/system/edac/mc/mc1/ue_count", "0\n");
}

static void disk(void)
{
    char *dirs[] = {dir, NULL};

    is("disk", MU_LEVEL_OK, "the least is", "enough room on all disks");
    asked.disk_free = UINT64_MAX;
    asked.dirs = dirs;
    run();
    /* more than a tenth may be free in spite of that */
    TAP_OK(found("disk")->level == MU_LEVEL_OK || found("disk")->level == MU_LEVEL_FAIL, "a limit beyond the disk");
    asked.disk_free = 0;
    asked.dirs = NULL;
}

static void port(const char *dev, unsigned n, const char *state, const char *physical, const char *rate,
                 const char *downed)
{
    char path[200];
    const char *const files[][2] = {
        {"state", state}, {"phys_state", physical}, {"rate", rate}, {"counters/link_downed", downed}};

    for (unsigned i = 0; i < 4; i++) {
        snprintf(path, sizeof path, "sys/class/infiniband/%s/ports/%u/%s", dev, n, files[i][0]);
        sys(path, files[i][1]);
    }
}

static void infiniband(void)
{
    is("infiniband", MU_LEVEL_SKIP, "no adapter", "no adapter");
    port("mlx5_0", 1, "4: ACTIVE\n", "5: LinkUp\n", "400 Gb/sec (4X NDR)\n", "0\n");
    port("mlx5_1", 1, "1: DOWN\n", "3: Disabled\n", "10 Gb/sec\n", "0\n");
    run();
    is("infiniband", MU_LEVEL_OK, "1 adapter, up to 400", "a port that is active, and one that is switched off");
    port("mlx5_0", 1, "4: ACTIVE\n", "5: LinkUp\n", "400 Gb/sec (4X NDR)\n", "3\n");
    run();
    is("infiniband", MU_LEVEL_WARN, "has lost its link, 3 times", "it has lost its link");
    run();
    is("infiniband", MU_LEVEL_OK, "", "once");
    port("mlx5_0", 1, "4: ACTIVE\n", "5: LinkUp\n", "100 Gb/sec (1X NDR)\n", "3\n");
    run();
    is("infiniband", MU_LEVEL_FAIL, "slower: 100 Gb/s, 400 before", "it has become slower");
    run();
    is("infiniband", MU_LEVEL_FAIL, "slower", "and stays so");
    port("mlx5_0", 1, "1: DOWN\n", "2: Polling\n", "10 Gb/sec\n", "3\n");
    run();
    is("infiniband", MU_LEVEL_FAIL, "no port of mlx5_0 is active", "it is down");
    port("mlx5_0", 2, "4: ACTIVE\n", "5: LinkUp\n", "400 Gb/sec (4X NDR)\n", "0\n");
    run();
    is("infiniband", MU_LEVEL_WARN, "mlx5_0/1 is not active", "where the adapter has another port that is told");
    port("mlx5_0", 1, "4: ACTIVE\n", "5: LinkUp\n", "400 Gb/sec (4X NDR)\n", "3\n");
    char off[] = "infiniband", *offs[] = {off, NULL};
    asked.off = offs;
    run();
    is("infiniband", 99, "", "a check that is switched off is not made");
    asked.off = NULL;
}

static void gpu(void)
{
    sys("sys/bus/pci/devices/0000:3b:00.0/vendor", "0x10de\n");
    sys("sys/bus/pci/devices/0000:3b:00.0/class", "0x030200\n");
    run();
    TAP_OK(found("gpu")->level != 99, "a GPU on PCI: %s", found("gpu")->reason);
    sys("sys/bus/pci/devices/0000:3b:00.0/vendor", "0x8086\n");
}

/* A process of a job of this pool, in the way of a rank. */
static pid_t begin(uint64_t job, uint32_t attempt)
{
    char text[MU_PROC_TAG_SIZE];
    struct mu_proc_tag tag = {.pool = paths.pool_hash, .job = job, .attempt = attempt};
    char *env[] = {mu_proc_tag_format(text, &tag), NULL},
         *argv[] = {(char *)(uintptr_t) "sleep", (char *)(uintptr_t) "100", NULL};
    pid_t pid = fork();

    if (!pid) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        execve("/bin/sleep", argv, env);
        _exit(99);
    }
    usleep(100000);
    return pid;
}

/* From a process that began later than the strays. */
static bool stray_is(uint32_t level, const char *part)
{
    int fds[2];
    char word = 0;

    usleep(30000); /* start times are in ticks */
    if (pipe(fds))
        return false;
    pid_t pid = fork();
    if (!pid) {
        struct mu_check_found f = {0};
        mu_check_stray(&check, &f);
        word = f.level == level && strstr(f.reason, part) ? 'y' : 'n';
        if (word == 'n')
            printf("# %u: %s\n", f.level, f.reason);
        fflush(stdout);
        _exit(write(fds[1], &word, 1) != 1);
    }
    close(fds[1]);
    bool ok = read(fds[0], &word, 1) == 1 && word == 'y';
    close(fds[0]);
    return ok;
}

static void strays(void)
{
    char seven[] = "7.2", *jobs[] = {seven, NULL};

    asked.jobs = jobs;
    TAP_OK(stray_is(MU_LEVEL_OK, "none"), "no process of a job");
    pid_t mine = begin(7, 2);
    TAP_OK(stray_is(MU_LEVEL_OK, "none"), "one of a job that the agent knows");
    pid_t old = begin(7, 1);
    TAP_OK(stray_is(MU_LEVEL_FAIL, "1 process of jobs that are over"), "one of its attempt before");
    kill(old, SIGKILL);
    pid_t other = begin(8, 1);
    TAP_OK(stray_is(MU_LEVEL_FAIL, "of job 8"), "one of a job that nobody knows");
    kill(other, SIGKILL);
    kill(mine, SIGKILL);
    asked.jobs = NULL;
}

static void scripts(void)
{
    char path[200];

    put("home/checks.d/10-good", "#!/bin/sh\necho first; echo 'all is well'\n", 0755);
    put("home/checks.d/20-bad", "#!/bin/sh\necho 'fan 2 stands'>&2\nexit 2\n", 0755);
    put("home/checks.d/30-warns", "#!/bin/sh\necho hot\nexit 3\n", 0755);
    put("home/checks.d/40-none", "#!/bin/sh\nexit 77\n", 0755);
    put("home/checks.d/50-dies", "#!/bin/sh\nkill -9 $$\n", 0755);
    put("home/checks.d/60-open", "#!/bin/sh\ntrue\n", 0775);
    put("home/checks.d/70-plain", "#!/bin/sh\ntrue\n", 0644);
    put("home/checks.d/80-text", "no program\n", 0755);
    put("home/checks.d/disk", "#!/bin/sh\ntrue\n", 0755);
    put("home/checks.d/old~", "#!/bin/sh\nfalse\n", 0755);
    snprintf(path, sizeof path, "%s/home/checks.d/90-link", dir);
    if (symlink("10-good", path))
        exit(99);
    TAP_OK(!run(), "scripts are run");
    is("10-good", MU_LEVEL_OK, "all is well", "one that passes");
    is("20-bad", MU_LEVEL_FAIL, "exit code 2: fan 2 stands", "one that fails, with its last line");
    is("30-warns", MU_LEVEL_WARN, "exit code 3: hot", "one that warns");
    is("40-none", MU_LEVEL_SKIP, "exit code 77", "one with nothing to check");
    is("50-dies", MU_LEVEL_FAIL, "ended by signal 9", "one that dies");
    is("60-open", MU_LEVEL_WARN, "60-open is not run: others can write to it; chmod go-w",
       "one that others can change");
    is("70-plain", MU_LEVEL_WARN, "not executable", "one that is not executable");
    is("80-text", MU_LEVEL_FAIL, "cannot be executed: Exec format error", "one that is no program");
    is("90-link", MU_LEVEL_WARN, "symbolic link", "a link");
    is("old~", 99, "", "what an editor has left");
    for (unsigned i = 0, n = 0; i < nrows; i++)
        if (!strcmp(rows[i].name, "disk"))
            TAP_OK(!n++ ? rows[i].found.level == MU_LEVEL_OK : strstr(rows[i].found.reason, "another check") != NULL,
                   "one with the name of another check: %s", rows[i].found.reason);
    snprintf(path, sizeof path, "%s/home/checks.d", dir);
    chmod(path, 0777);
    run();
    is("checks.d", MU_LEVEL_WARN, "others can write", "a directory that others can change is not used");
    is("20-bad", 99, "", "none of it");
    chmod(path, 0755);
}

static bool gone(const char *mark)
{
    char cmd[300];

    snprintf(cmd, sizeof cmd,
             "for i in 1 2 3 4 5 6 7 8 9 10; do pgrep -f '[s]leep %s' >/dev/null || exit 0; sleep 0.1; done; exit 1",
             mark);
    return system(cmd) == 0;
}

static void limits(void)
{
    char path[200];
    int fds[2];

    snprintf(path, sizeof path, "rm -r %s/home/checks.d", dir);
    if (system(path))
        exit(99);
    asked.limit_ns = 500 * MU_MS;
    put("home/checks.d/hangs", "#!/bin/sh\necho so far; sleep 98761 & setsid sleep 98761; true\n", 0755);
    uint64_t since = mu_now();
    run();
    is("hangs", MU_LEVEL_FAIL, "it has not ended within 500 ms: so far", "one that hangs");
    TAP_OK(mu_now() - since < 20 * MU_SEC, "is ended at its limit");
    TAP_OK(gone("98761"), "with all that it has started");
    asked.limit_ns = 20 * MU_SEC;
    put("home/checks.d/hangs", "#!/bin/sh\n(sleep 98762; echo no) & echo done\n", 0755);
    since = mu_now();
    run();
    is("hangs", MU_LEVEL_OK, "done", "one that leaves a process with its output");
    TAP_OK(mu_now() - since < 15 * MU_SEC && gone("98762"), "is not waited for, and what it left is ended");
    put("home/checks.d/hangs", "#!/bin/sh\nwhile :; do echo 0123456789012345678901234567890123456789; done\n", 0755);
    asked.limit_ns = 500 * MU_MS;
    run();
    is("hangs", MU_LEVEL_FAIL, "not ended within", "one that prints and prints");
    put("home/checks.d/hangs", "#!/bin/sh\nsleep 98763\n", 0755);
    asked.limit_ns = 20 * MU_SEC;
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, fds))
        exit(99);
    close(fds[1]);
    check.reader = fds[0];
    since = mu_now();
    TAP_OK(run() && mu_now() - since < 15 * MU_SEC && gone("98763"), "when nobody waits for it any more it ends");
    check.reader = -1;
    close(fds[0]);
}

int main(void)
{
    char cmd[100];

    snprintf(dir, sizeof dir, "%s/agent_check.XXXXXX", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
    if (!mkdtemp(dir))
        return 99;
    snprintf(root, sizeof root, "%s/root", dir);
    snprintf(paths.home, sizeof paths.home, "%s/home", dir);
    snprintf(paths.run, sizeof paths.run, "%s/run", dir);
    mkdir(paths.home, 0700);
    mkdir(paths.run, 0700);
    paths.pool_hash = (uint32_t)getpid() ^ 0x51ed270b;
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    memory();
    ecc();
    disk();
    infiniband();
    gpu();
    scripts();
    limits();
    strays();
    snprintf(cmd, sizeof cmd, "rm -rf %s", dir);
    return system(cmd) ? 99 : tap_done();
}
