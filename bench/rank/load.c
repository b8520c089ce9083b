#include "bench/rank/load.h"

#include <dirent.h>
#include <fcntl.h>
#include <math.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "bench/throttle.h"
#include "runtime/base/clean.h"
#include "runtime/base/clock.h"

/* Of each thread "schedstat": time on a CPU, time ready for one, ns. */
static bool read_delay(uint64_t *sum)
{
    mu_auto_dir DIR *d = opendir("/proc/self/task");
    bool any = false;
    char path[300], text[80];

    *sum = 0;
    for (const struct dirent *e; d && (e = readdir(d));) {
        if (e->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "/proc/self/task/%s/schedstat", e->d_name);
        mu_auto_fd int fd = open(path, O_RDONLY | O_CLOEXEC);
        ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
        unsigned long long ran, waited;
        text[n > 0 ? n : 0] = 0;
        if (sscanf(text, "%llu %llu", &ran, &waited) != 2)
            continue;
        *sum += waited;
        any = true;
    }
    return any;
}

static bool read_cpus(struct mu_load *l)
{
    mu_auto_file FILE *f = fopen("/proc/stat", "re");
    double tick = (double)sysconf(_SC_CLK_TCK);
    char line[400];
    cpu_set_t may;

    if (!f || tick <= 0 || sched_getaffinity(0, sizeof may, &may))
        return false;
    while (fgets(line, sizeof line, f) && !strncmp(line, "cpu", 3)) {
        unsigned cpu;
        double idle, wait, stolen;
        if (sscanf(line, "cpu%u %*s %*s %*s %lf %lf %*s %*s %lf", &cpu, &idle, &wait, &stolen) != 4 ||
            cpu >= CPU_SETSIZE || !CPU_ISSET(cpu, &may))
            continue;
        l->idle += (idle + wait) / tick;
        l->stolen += stolen / tick;
        l->cpus++;
    }
    return l->cpus > 0;
}

void mu_load_begin(struct mu_load *l)
{
    struct timespec own;

    *l = (struct mu_load){.at = mu_now()};
    l->known = !clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &own) && read_delay(&l->delay) && read_cpus(l);
    if (!l->known)
        return;
    l->throttled = mu_throttled("/proc/self/cgroup", "/sys/fs/cgroup");
    l->own = (uint64_t)own.tv_sec * MU_SEC + (uint64_t)own.tv_nsec;
}

double mu_load_end(const struct mu_load *l, int threads)
{
    struct mu_load now;

    mu_load_begin(&now);
    double took = (double)(now.at - l->at) / 1e9;
    if (!l->known || !now.known || now.cpus != l->cpus || took <= 0 || threads < 1)
        return -1;
    double stolen = fmax(0, now.stolen - l->stolen) / (took * l->cpus);
    double delay = (double)(int64_t)(now.delay - l->delay) / 1e9, own = (double)(now.own - l->own) / 1e9;
    delay -= (double)(int64_t)(now.throttled - l->throttled) / 1e9;
    double others = took * l->cpus - (now.idle - l->idle) - own;
    double part = fmax(0, fmin(delay, others)) / (took * threads) + stolen;
    return part < 1 ? part : 1;
}
