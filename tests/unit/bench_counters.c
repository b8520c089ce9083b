/* Counters of a made-up host. */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bench/counters.h"
#include "tests/unit/tap.h"

static char root[] = "/tmp/counters.XXXXXX";

static void put(const char *dir, const char *name, const char *text)
{
    char path[400];

    snprintf(path, sizeof path, "mkdir -p %s%s", root, dir);
    if (system(path))
        exit(99);
    snprintf(path, sizeof path, "%s%s", root, dir);
    tap_write(path, name, text);
}

int main(void)
{
    int64_t v[MU_COUNTERS];
    char rm[80];

    if (!mkdtemp(root))
        return 99;
    mu_counters_read(root, v);
    bool none = true;
    for (int i = 0; i < MU_COUNTERS; i++)
        none = none && v[i] == -1 && !strncmp(mu_counter_names[i], "counter.", 8);
    TAP_OK(none, "a host that counts nothing");
    put("/sys/devices/system/edac/mc/mc0", "ce_count", "3\n");
    put("/sys/devices/system/edac/mc/mc1", "ce_count", "4\n");
    put("/sys/devices/system/edac/mc/mc1", "ue_count", "0\n");
    put("/sys/class/infiniband/mlx5_0/ports/1/counters", "symbol_error", "9\n");
    put("/sys/class/infiniband/mlx5_0/ports/1/counters", "link_downed", "N/A\n");
    put("/sys/class/net/eth0/statistics", "rx_errors", "1\n");
    put("/sys/class/net/eth0/statistics", "tx_errors", "2\n");
    put("/proc/net", "snmp",
        "Ip: Forwarding RetransSegs\nIp: 1 77\nTcp: RtoAlgorithm RetransSegs InErrs\nTcp: 1 5 0\nUdp: A\nUdp: 1\n");
    mu_counters_read(root, v);
    TAP_OK(v[0] == 7 && v[1] == 0, "memory errors of all controllers");
    TAP_OK(v[2] == 9 && v[3] == -1 && v[4] == -1, "of adapters, those that are numbers");
    TAP_OK(v[5] == 3, "errors of both ways");
    TAP_OK(v[7] == 5, "what TCP had to send again");
    snprintf(rm, sizeof rm, "rm -r %s", root);
    return system(rm) ? 99 : tap_done();
}
