#include "bench/counters.h"

#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/clean.h"

/* A new counter is a row here, its name there, and one more in MU_COUNTERS. */
static const char *const files[MU_COUNTERS] = {
    "/sys/devices/system/edac/mc/mc*/ce_count",
    "/sys/devices/system/edac/mc/mc*/ue_count",
    "/sys/class/infiniband/*/ports/*/counters/symbol_error",
    "/sys/class/infiniband/*/ports/*/counters/link_downed",
    "/sys/class/infiniband/*/ports/*/counters/port_rcv_errors",
    "/sys/class/net/*/statistics/[rt]x_errors",
    "/sys/devices/system/cpu/cpu*/thermal_throttle/core_throttle_count",
    "/proc/net/snmp",
};
const char *const mu_counter_names[MU_COUNTERS] = {
    "counter.ecc.corrected", "counter.ecc.uncorrected", "counter.ib.symbol_errors", "counter.ib.link_downed",
    "counter.ib.rcv_errors", "counter.net.errors",      "counter.cpu.throttled",    "counter.tcp.retransmits",
};

static int64_t number_in(const char *path)
{
    mu_auto_file FILE *f = fopen(path, "re");
    long long n;

    return f && fscanf(f, "%lld", &n) == 1 && n >= 0 ? n : -1;
}

/* Two lines "Tcp:", names and values. */
static int64_t retransmits_in(const char *path)
{
    mu_auto_file FILE *f = fopen(path, "re");
    char names[2048] = "", values[2048];

    while (f && fgets(values, sizeof values, f)) {
        if (strncmp(values, "Tcp:", 4))
            continue;
        if (!names[0]) {
            memcpy(names, values, sizeof names);
            continue;
        }
        char *n, *v, *name = strtok_r(names, " \n", &n), *value = strtok_r(values, " \n", &v);
        for (; name && value; name = strtok_r(NULL, " \n", &n), value = strtok_r(NULL, " \n", &v))
            if (!strcmp(name, "RetransSegs"))
                return strtoll(value, NULL, 10);
    }
    return -1;
}

void mu_counters_read(const char *root, int64_t out[MU_COUNTERS])
{
    for (int i = 0; i < MU_COUNTERS; i++) {
        char pattern[512];
        glob_t g = {0};
        out[i] = -1;
        snprintf(pattern, sizeof pattern, "%s%s", root, files[i]);
        if (glob(pattern, GLOB_NOSORT, NULL, &g)) {
            globfree(&g);
            continue;
        }
        for (size_t k = 0; k < g.gl_pathc; k++) {
            int64_t n = strstr(files[i], "snmp") ? retransmits_in(g.gl_pathv[k]) : number_in(g.gl_pathv[k]);
            if (n >= 0)
                out[i] = n + (out[i] > 0 ? out[i] : 0);
        }
        globfree(&g);
    }
}
