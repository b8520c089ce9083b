#include "collectives/domain.h"

#include <dirent.h>
#include <sched.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "runtime/base/clean.h"

static uint32_t number_in(int cpu, const char *file)
{
    char path[128];
    unsigned n = 0;

    snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%d/%s", cpu, file);
    mu_auto_file FILE *f = fopen(path, "re");
    return f && fscanf(f, "%u", &n) == 1 && n < UINT32_MAX ? n + 1 : 0;
}

/* A CPU's directory has a link to that of its memory. */
static uint32_t memory_of(int cpu)
{
    char path[64];
    uint32_t found = 0;
    struct dirent *d;
    unsigned n;
    DIR *dir;

    snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%d", cpu);
    dir = opendir(path);
    while (dir && (d = readdir(dir)))
        if (sscanf(d->d_name, "node%u", &n) == 1)
            found = n + 1;
    if (dir)
        closedir(dir);
    return found;
}

static void join(uint32_t *all, uint32_t one, bool first)
{
    *all = first || *all == one ? one : 0;
}

void mu_domain_here(struct mu_domain *out, long said)
{
    bool first = true;
    cpu_set_t set;

    *out = (struct mu_domain){0};
    if (sched_getaffinity(0, sizeof set, &set) < 0)
        return;
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (!CPU_ISSET(cpu, &set))
            continue;
        join(&out->package, number_in(cpu, "topology/physical_package_id"), first);
        join(&out->cache, number_in(cpu, "cache/index3/id"), first);
        join(&out->memory, memory_of(cpu), first);
        first = false;
        if (!out->package && !out->cache && !out->memory)
            break;
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
