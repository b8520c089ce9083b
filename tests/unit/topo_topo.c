#include "topo/draw.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "runtime/base/clean.h"
#include "runtime/base/clock.h"
#include "tests/unit/tap.h"

#define FIXTURE "tests/data/node-2n3c2t.xml"
#define MIB (UINT64_C(1) << 20)

static char dir[64];

static const struct {
    enum mu_topo_kind kind;
    const char *where;
    struct mu_topo_counts n;
    const char *allowed, *nodes;
} machines[] = {
    {MU_TOPO_SYNTHETIC, "pu:1", {0, 1, 1, 1, 0}, "0", "0"},
    {MU_TOPO_SYNTHETIC, "core:4 pu:1", {0, 1, 4, 4, 0}, "0-3", "0"},
    {MU_TOPO_SYNTHETIC, "pack:2 core:4 pu:2", {2, 1, 8, 16, 0}, "0-15", "0"},
    {MU_TOPO_SYNTHETIC, "pack:2 numa:2(memory=1048576) core:8 pu:2", {2, 4, 32, 64, 4 * MIB}, "0-63", "0-3"},
    {MU_TOPO_SYNTHETIC, "pack:2 l3:2 pu:3", {2, 1, 12, 12, 0}, "0-11", "0"},
    {MU_TOPO_SYNTHETIC, "pack:8 core:128 pu:2", {8, 1, 1024, 2048, 0}, "0-2047", "0"},
    {MU_TOPO_XML, FIXTURE, {2, 2, 5, 9, 2 * 8192 * MIB}, "1-5,8-11", "0,8"},
};

static void counts(void)
{
    for (size_t i = 0; i < MU_COUNT(machines); i++) {
        struct mu_topo *t;
        struct mu_err err = {0};
        struct mu_topo_counts n;
        if (mu_topo_load(machines[i].kind, machines[i].where, 0, &t, &err)) {
            TAP_OK(0, "%s: %s", machines[i].where, err.text);
            continue;
        }
        mu_topo_count(t, &n);
        mu_auto_free char *allowed = mu_cpuset_str(mu_topo_allowed(t)),
                          *nodes = mu_cpuset_str(mu_topo_allowed_nodes(t));
        /* What hwloc assumes of memory that nobody described is its own affair. */
        bool memory = !machines[i].n.memory || machines[i].n.memory == n.memory;
        TAP_OK(n.packages == machines[i].n.packages && n.nodes == machines[i].n.nodes &&
                   n.cores == machines[i].n.cores && n.pus == machines[i].n.pus && memory &&
                   mu_topo_slots(t) == n.cores && !strcmp(allowed, machines[i].allowed) &&
                   !strcmp(nodes, machines[i].nodes),
               "%s: %d packages, %d nodes, %d cores, %d PUs (%s), nodes %s", machines[i].where, n.packages, n.nodes,
               n.cores, n.pus, allowed, nodes);
        mu_topo_free(t);
    }
}

static void cores(void)
{
    struct mu_topo *t;

    if (mu_topo_load(MU_TOPO_XML, FIXTURE, 0, &t, NULL))
        exit(1);
    const struct mu_topo_core *c = mu_topo_core(t, 4);
    mu_auto_free char *nodes = mu_cpuset_str(c->nodes), *cpus = mu_cpuset_str(&mu_topo_node(t, 1)->cpus);
    TAP_OK(mu_topo_ncores(t) == 6, "cores that are not allowed are still known");
    TAP_OK(c->os == 4 && c->package == 1 && c->l3 == 1 && c->npus == 2 && c->pus[0] == 4 && c->pus[1] == 10 &&
               !strcmp(nodes, "8"),
           "a core: package, L3, its PUs in order, its node %s", nodes);
    TAP_OK(mu_topo_nnodes(t) == 2 && mu_topo_node(t, 1)->os == 8 && mu_topo_node(t, 1)->memory == 8192 * MIB &&
               !strcmp(cpus, "3-5,9-11"),
           "a NUMA node: OS index, memory, CPUs %s", cpus);
    TAP_OK(!strcmp(mu_topo_source(t), FIXTURE), "the source is remembered");
    mu_topo_free(t);
}

static void restricted(void)
{
    struct mu_topo *t;
    struct mu_cpuset mask;
    struct mu_topo_counts n;
    struct mu_err err = {0};

    if (mu_topo_load(MU_TOPO_XML, FIXTURE, 0, &t, NULL))
        exit(1);
    mu_cpuset_parse("0-4,600", &mask, NULL);
    TAP_OK(mu_topo_restrict(t, &mask, NULL) == 0, "a mask takes CPUs away");
    mu_topo_count(t, &n);
    mu_auto_free char *left = mu_cpuset_str(mu_topo_allowed(t));
    TAP_OK(!strcmp(left, "1-4") && n.cores == 4 && n.pus == 4 && n.packages == 2, "and gives none back: %s", left);
    mu_cpuset_parse("0,6,11", &mask, NULL);
    int rc = mu_topo_restrict(t, &mask, &err);
    mu_auto_free char *same = mu_cpuset_str(mu_topo_allowed(t));
    TAP_OK(rc == MUSTER_ENODE && strstr(err.text, FIXTURE) && !strcmp(same, "1-4"), "not the last one: %s", err.text);
    mu_topo_free(t);
}

static const char *spill(const char *name, const char *text, size_t len)
{
    static char path[128];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "w");
    if (!f || fwrite(text, 1, len, f) != len || fclose(f))
        exit(1);
    return path;
}

static void refused(enum mu_topo_kind kind, const char *where, int code, const char *says)
{
    struct mu_topo *t = NULL;
    struct mu_err err = {0};
    int rc = mu_topo_load(kind, where, 0, &t, &err);

    TAP_OK(rc == code && !t && strstr(err.text, says) && !strchr(err.text, '\n'), "refused: %s", err.text);
    if (!rc)
        mu_topo_free(t);
}

/* hwloc must not speak to the terminal about any of these: stderr goes into a file that stays empty. */
static void bad_sources(void)
{
    static char xml[16384];
    char log[96];
    FILE *f = fopen(FIXTURE, "r");
    size_t len = f ? fread(xml, 1, sizeof xml - 1, f) : 0;
    struct stat st;

    if (!len || len == sizeof xml - 1)
        exit(1);
    fclose(f);
    snprintf(log, sizeof log, "%s/stderr", dir);
    int saved = dup(2), fd = open(log, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
    dup2(fd, 2);

    refused(MU_TOPO_XML, spill("cut.xml", xml, len / 2), MUSTER_EARG, "truncated");
    refused(MU_TOPO_XML, spill("cut.xml", xml, 60), MUSTER_EARG, "truncated");
    refused(MU_TOPO_XML, spill("cut.xml", xml, 110), MUSTER_EARG, "truncated");
    refused(MU_TOPO_XML, spill("empty.xml", "", 0), MUSTER_EARG, "is empty");
    refused(MU_TOPO_XML, spill("text.xml", "Machine (4GB)\n", 14), MUSTER_EARG, "not XML");
    refused(MU_TOPO_XML, spill("nul.xml", "<topology>\0</topology>", 22), MUSTER_EARG, "not XML");
    refused(MU_TOPO_XML, spill("elf.xml", "\177ELF\2\1\1", 7), MUSTER_EARG, "not XML");
    const char *nccl = "<?xml version=\"1.0\"?>\n<!-- <topology> -->\n<system version=\"1\"><cpu/></system>\n";
    refused(MU_TOPO_XML, spill("nccl.xml", nccl, strlen(nccl)), MUSTER_EARG, "affinity of a CPU is missing");
    refused(MU_TOPO_XML, spill("hollow.xml", "<topology version=\"2.0\"></topology>", 35), MUSTER_EARG, "damaged");
    char *v = strstr(xml, "version=\"2.0\"");
    v[9] = '3';
    refused(MU_TOPO_XML, spill("v3.xml", xml, len), MUSTER_EVERSION, "hwloc 3 XML");
    v[9] = '2';
    char *machine = strstr(xml, "\"Machine\"");
    memcpy(machine, "\"Nothing\"", 9);
    refused(MU_TOPO_XML, spill("type.xml", xml, len), MUSTER_EARG, "damaged");
    memcpy(machine, "\"Machine\"", 9);
    /* hwloc 2.9 follows a null pointer here; another one may refuse it, or see no harm. */
    memcpy(strstr(strstr(xml, "\"Package\""), "complete_cpuset"), "complete_cpusex", 15);
    struct mu_topo *t;
    struct mu_err err = {0};
    int rc = mu_topo_load(MU_TOPO_XML, spill("crash.xml", xml, len), 0, &t, &err);
    TAP_OK(rc == 0 || (rc == MUSTER_EARG && strstr(err.text, "damaged")), "survived: %s", err.text);
    if (!rc)
        mu_topo_free(t);
    refused(MU_TOPO_XML, "/nonexistent/node.xml", MUSTER_EIO, "No such file");
    refused(MU_TOPO_XML, dir, MUSTER_EIO, "Is a directory");
    refused(MU_TOPO_XML, NULL, MUSTER_EARG, "no such source");
    refused(MU_TOPO_PROCESS, "0", MUSTER_ENODE, "does not tell its CPUs");
    refused(MU_TOPO_SYNTHETIC, "pack:x", MUSTER_EARG, "pack:2 core:4 pu:2");
    refused(MU_TOPO_SYNTHETIC, "", MUSTER_EARG, "pack:2 core:4 pu:2");
    refused(MU_TOPO_SYNTHETIC, "pack:4000 core:4000 pu:2", MUSTER_EARG, "more than 16384");
    refused(MU_TOPO_SYNTHETIC, "pu:99999999999999999999", MUSTER_EARG, "more than 16384");
    refused(MU_TOPO_SYNTHETIC, "pu:0x100000", MUSTER_EARG, "more than 16384");
    refused(MU_TOPO_SYNTHETIC, "pack:0x1000 pu:010", MUSTER_EARG, "more than 16384");
    refused(MU_TOPO_SYNTHETIC, "pu:16384", MUSTER_EARG, "more than 1024 objects side by side among 16384 PUs");
    refused(MU_TOPO_SYNTHETIC, "pack:4096 pu:4", MUSTER_EARG, "put levels between");
    refused(MU_TOPO_SYNTHETIC, "pack:2 pu:-1", MUSTER_EARG, "more than 16384");

    dup2(saved, 2);
    TAP_OK(fstat(fd, &st) == 0 && st.st_size == 0, "hwloc wrote nothing to stderr (%lld bytes)", (long long)st.st_size);
    close(fd);
    close(saved);
}

static void foreign_environment(void)
{
    setenv("HWLOC_XMLFILE", FIXTURE, 1);
    refused(MU_TOPO_LIVE, NULL, MUSTER_EARG, "HWLOC_THISSYSTEM");
    unsetenv("HWLOC_XMLFILE");
    TAP_OK(!getenv("HWLOC_PLUGINS_PATH") && !getenv("HWLOC_HIDE_ERRORS"), "the environment is put back");
}

/* This machine under the caller's mask; a child narrows the mask to one CPU first. */
static void live(void)
{
    struct mu_topo *t;
    struct mu_err err = {0};
    char number[16];
    cpu_set_t mine;
    uint64_t best = UINT64_MAX;

    for (int i = 0; i < 3; i++) {
        uint64_t t0 = mu_now();
        if (mu_topo_load(MU_TOPO_LIVE, NULL, 0, &t, &err)) {
            TAP_OK(0, "this machine: %s", err.text);
            return;
        }
        if (mu_now() - t0 < best)
            best = mu_now() - t0;
        if (i < 2)
            mu_topo_free(t);
    }
    printf("# this machine is read in %.1f ms\n", (double)best / 1e6);
    sched_getaffinity(0, sizeof mine, &mine);
    bool inside = true;
    for (int i = mu_cpuset_next(mu_topo_allowed(t), -1); i >= 0; i = mu_cpuset_next(mu_topo_allowed(t), i))
        inside &= i < CPU_SETSIZE && CPU_ISSET((size_t)i, &mine);
    struct mu_topo_counts n;
    mu_topo_count(t, &n);
    TAP_OK(inside && n.pus == CPU_COUNT(&mine) && n.cores >= 1 && n.nodes >= 1 && n.memory > 0,
           "this machine as this process may use it: %d cores, %d PUs", n.cores, n.pus);
    int last = -1;
    for (int i = -1; (i = mu_cpuset_next(mu_topo_allowed(t), i)) >= 0;)
        last = i;
    mu_topo_free(t);

    pid_t pid = fork();
    if (pid == 0) {
        cpu_set_t one;
        CPU_ZERO(&one);
        CPU_SET((size_t)last, &one);
        if (sched_setaffinity(0, sizeof one, &one) || mu_topo_load(MU_TOPO_LIVE, NULL, 0, &t, NULL))
            _exit(2);
        mu_topo_count(t, &n);
        bool good = n.pus == 1 && n.cores == 1 && mu_cpuset_isset(mu_topo_allowed(t), last) && mu_topo_ncores(t) >= 1;
        mu_topo_free(t);
        snprintf(number, sizeof number, "%d", (int)getppid());
        if (mu_topo_load(MU_TOPO_PROCESS, number, 0, &t, NULL))
            _exit(3);
        mu_topo_count(t, &n);
        good = good && n.pus == CPU_COUNT(&mine);
        mu_topo_free(t);
        _exit(good ? 0 : 1);
    }
    int status = -1;
    waitpid(pid, &status, 0);
    TAP_OK(status == 0, "an inherited mask of CPU %d alone leaves that one, another process is asked for its own",
           last);
}

static void drawing(void)
{
    static const char want[] =
        "package 0\n  NUMA node 0: 8 GiB\n  L3: 16 MiB\n    core 0: PU 0 6\n    core 1: PU 1* 7\n"
        "    core 2: PU 2* 8*\npackage 1\n  NUMA node 8: 8 GiB\n  L3: 16 MiB\n"
        "    core 3: PU 3* 9*\n    core 4: PU 4* 10*\n    core 5: PU 5* 11*\n";
    struct mu_topo *t;
    mu_auto_free char *text = NULL;
    size_t len = 0;
    FILE *f = open_memstream(&text, &len);

    if (mu_topo_load(MU_TOPO_XML, FIXTURE, 0, &t, NULL))
        exit(1);
    mu_topo_draw(t, NULL, f);
    fclose(f);
    TAP_OK(!strcmp(text, want), "the drawing (%zu bytes)", len);
    if (strcmp(text, want))
        printf("# got:\n%s", text);
    mu_topo_free(t);
}

static void io_devices(void)
{
    struct mu_topo *t;
    struct mu_err err = {0};
    int rc = mu_topo_load(MU_TOPO_LIVE, NULL, MU_TOPO_IO, &t, &err);

    TAP_OK(rc == 0 && mu_topo_slots(t) >= 1, "this machine with its devices");
    if (!rc)
        mu_topo_free(t);
}

int main(void)
{
    char version[32] = "";

    snprintf(dir, sizeof dir, "/tmp/muster-topo-test-XXXXXX");
    if (!mkdtemp(dir))
        return 1;
    counts();
    cores();
    restricted();
    bad_sources();
    foreign_environment();
    live();
    drawing();
    io_devices();
    TAP_OK(mu_topo_hwloc_version(version, sizeof version) == 0 && version[0] >= '2', "hwloc %s", version);
    mu_auto_dir DIR *d = opendir(dir);
    for (struct dirent *e; (e = readdir(d));)
        unlinkat(dirfd(d), e->d_name, 0);
    rmdir(dir);
    return tap_done();
}
