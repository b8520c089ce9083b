#include "collectives/domain.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "runtime/base/clean.h"
#include "topo/cpuset.h"

#define ROOT "/sys/devices/system/"

/* The number, + 1, when the list that goes with it has all of cpus; else 0. */
static uint32_t if_all(const struct mu_cpuset *cpus, unsigned number, const char *path)
{
    mu_auto_file FILE *f = fopen(path, "re");
    struct mu_cpuset has;
    char list[8192] = "";

    if (!f || !fgets(list, sizeof list, f))
        return 0;
    list[strcspn(list, "\n")] = 0;
    return mu_cpuset_parse(list, &has, NULL) == 0 && mu_cpuset_inside(cpus, &has) ? number + 1 : 0;
}

static uint32_t level(const struct mu_cpuset *cpus, const char *number, const char *list)
{
    int cpu = mu_cpuset_next(cpus, -1), n = -1;
    char path[128];

    snprintf(path, sizeof path, ROOT "cpu/cpu%d/%s", cpu, number);
    mu_auto_file FILE *f = fopen(path, "re");
    if (!f || fscanf(f, "%d", &n) != 1 || n < 0)
        return 0;
    snprintf(path, sizeof path, ROOT "cpu/cpu%d/%s", cpu, list);
    return if_all(cpus, (unsigned)n, path);
}

static bool own_cpus(struct mu_cpuset *out)
{
    *out = (struct mu_cpuset){{0}};
    return syscall(SYS_sched_getaffinity, 0, sizeof out->w, out->w) > 0;
}

/* A CPU's directory has a link to that of its memory. */
uint32_t mu_domain_memory(void)
{
    struct mu_cpuset cpus;
    uint32_t found = 0;
    char path[128];
    struct dirent *d;
    unsigned n;
    DIR *dir;

    if (!own_cpus(&cpus))
        return 0;
    snprintf(path, sizeof path, ROOT "cpu/cpu%d", mu_cpuset_next(&cpus, -1));
    dir = opendir(path);
    while (dir && !found && (d = readdir(dir)))
        if (sscanf(d->d_name, "node%u", &n) == 1) {
            snprintf(path, sizeof path, ROOT "node/node%u/cpulist", n);
            found = if_all(&cpus, n, path);
        }
    if (dir)
        closedir(dir);
    return found;
}

void mu_domain_here(struct mu_domain *out, long said)
{
    struct mu_cpuset cpus;

    *out = (struct mu_domain){0};
    if (own_cpus(&cpus)) {
        out->package = level(&cpus, "topology/physical_package_id", "topology/core_siblings_list");
        out->cache = level(&cpus, "cache/index3/id", "cache/index3/shared_cpu_list");
    }
    if (said >= 0)
        out->package = out->cache = (uint32_t)said + 1;
}

static uint32_t number(const struct mu_domain *d, bool package)
{
    return package ? d->package : d->cache;
}

static int lanes(const struct mu_domain *of, int n, bool package)
{
    int g = 1;

    while (g < n && number(&of[g], package) == number(&of[0], package))
        g++;
    if (g < 2 || g == n || n % g)
        return 0;
    for (int r = 0; r < n; r++) {
        uint32_t mine = number(&of[r], package);

        if (!mine || mine != number(&of[r / g * g], package))
            return 0;
        for (int k = 0; k < r / g * g; k += g)
            if (number(&of[k], package) == mine)
                return 0;
    }
    return g;
}

int mu_domain_lanes(const struct mu_domain *of, int n)
{
    int g = lanes(of, n, true);

    return g ? g : lanes(of, n, false);
}

int mu_domain_caches(const struct mu_domain *of, int n)
{
    int found = 0;

    for (int r = 0; r < n; r++) {
        int k = 0;

        while (k < r && of[k].cache != of[r].cache)
            k++;
        found += k == r && of[r].cache;
    }
    return found ? found : 1;
}

uint64_t mu_domain_host(void)
{
    mu_auto_file FILE *f = fopen("/proc/sys/kernel/random/boot_id", "re");
    char id[64] = "";
    struct stat st;
    uint64_t h = 1;

    if (!f || !fgets(id, sizeof id, f) || stat("/proc/self/ns/net", &st) < 0)
        return 0;
    for (const char *c = id; *c; c++)
        h = mu_domain_mix(h, (uint64_t)(unsigned char)*c);
    h = mu_domain_mix(h, (uint64_t)st.st_ino);
    return h ? h : 1;
}
