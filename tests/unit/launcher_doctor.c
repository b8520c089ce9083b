/* The checks that read sysfs, on trees that this test makes. */
#include "launcher/doctor.h"

#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "runtime/base/clean.h"
#include "runtime/base/path.h"
#include "tests/unit/tap.h"

static char sys[64];

static void put(const char *name, const char *text)
{
    char path[PATH_MAX];
    struct mu_err err;

    snprintf(path, sizeof path, "%s/%s", sys, name);
    *strrchr(path, '/') = '\0';
    if (mu_path_mkdirs(path, 0700, &err))
        exit(1);
    snprintf(path, sizeof path, "%s/%s", sys, name);
    if (mu_path_write_atomic(path, text, strlen(text), 0600, &err)) {
        printf("# %s\n", err.text);
        exit(1);
    }
}

static struct mu_finding probe(void (*fn)(struct mu_finding *, const char *))
{
    struct mu_finding f = {.health = -1};

    fn(&f, sys);
    return f;
}

static void infiniband(void)
{
    struct mu_finding f = probe(mu_doctor_infiniband);
    TAP_OK(f.health == MU_HEALTH_NONE && !strncmp(f.found, "none: ", 6) && !f.fix[0], "%s", f.found);

    put("class/infiniband/mlx5_0/fw_ver", "28.39.1002\n");
    put("class/infiniband/mlx5_0/ports/1/state", "1: DOWN\n");
    put("class/infiniband/mlx5_0/ports/1/rate", "10 Gb/sec (4X SDR)\n");
    put("class/infiniband/mlx5_0/ports/1/link_layer", "InfiniBand\n");
    f = probe(mu_doctor_infiniband);
    TAP_OK(f.health == MU_HEALTH_BAD && strstr(f.found, "0 ports up: mlx5_0/1 InfiniBand DOWN") && f.fix[0], "%s",
           f.found);

    put("class/infiniband/mlx5_0/ports/1/state", "4: ACTIVE\n");
    put("class/infiniband/mlx5_0/ports/1/rate", "400 Gb/sec (4X NDR)\n");
    put("class/infiniband/mlx5_1/ports/1/state", "2: INIT\n");
    f = probe(mu_doctor_infiniband);
    TAP_OK(f.health == MU_HEALTH_OK && strstr(f.found, "2 devices, 1 port up") &&
               strstr(f.found, "mlx5_0/1 InfiniBand ACTIVE 400 Gb/sec (4X NDR) fw 28.39.1002") &&
               strstr(f.found, "mlx5_1/1 ? INIT ?"),
           "%s", f.found);
}

static void gpus(void)
{
    put("bus/pci/devices/0000:00:02.0/vendor", "0x1a03\n");
    put("bus/pci/devices/0000:00:02.0/class", "0x030000\n");
    put("bus/pci/devices/0000:00:03.0/vendor", "0x10de\n");
    put("bus/pci/devices/0000:00:03.0/class", "0x068000\n");
    struct mu_finding f = probe(mu_doctor_gpus);
    bool driver = f.health == MU_HEALTH_OK;
    if (driver) {
        TAP_SKIP("this machine has a GPU driver");
        return;
    }
    TAP_OK(f.health == MU_HEALTH_NONE, "an ASPEED display and an NVSwitch are no GPUs: %s", f.found);

    put("bus/pci/devices/0000:00:04.0/vendor", "0x1002\n");
    put("bus/pci/devices/0000:00:04.0/class", "0x038000\n");
    f = probe(mu_doctor_gpus);
    TAP_OK(f.health == MU_HEALTH_OK && strstr(f.found, "1 AMD on PCI"), "%s", f.found);

    put("bus/pci/devices/0000:00:05.0/vendor", "0x10de\n");
    put("bus/pci/devices/0000:00:05.0/class", "0x030200\n");
    f = probe(mu_doctor_gpus);
    TAP_OK(f.health == MU_HEALTH_BAD && strstr(f.found, "1 NVIDIA on PCI") && strstr(f.fix, "driver"), "%s", f.found);
}

static void governor(void)
{
    struct mu_finding f = probe(mu_doctor_governor);
    TAP_OK(f.health == MU_HEALTH_NONE, "%s", f.found);
    put("devices/system/cpu/cpu0/cpufreq/scaling_governor", "performance\n");
    put("devices/system/cpu/cpu1/cpufreq/scaling_governor", "performance\n");
    f = probe(mu_doctor_governor);
    TAP_OK(f.health == MU_HEALTH_OK && !strcmp(f.found, "performance on 2 of 2 CPUs") && !f.fix[0], "%s", f.found);
    put("devices/system/cpu/cpu1/cpufreq/scaling_governor", "powersave\n");
    f = probe(mu_doctor_governor);
    TAP_OK(f.health == MU_HEALTH_OK && !strcmp(f.found, "performance on 1 of 2 CPUs") && strstr(f.fix, "cpupower"),
           "%s", f.found);
}

static void cgroup(void)
{
    struct mu_finding f = probe(mu_doctor_cgroup);
    TAP_OK(f.health == MU_HEALTH_NONE, "%s", f.found);
    put("fs/cgroup/cgroup.controllers", "cpu memory\n");
    f = probe(mu_doctor_cgroup);
    TAP_OK(f.health == MU_HEALTH_OK && !strcmp(f.found, "v2") && !f.fix[0], "%s", f.found);
}

static void limits(void)
{
    struct rlimit low = {512, 512};
    struct mu_finding f = probe(mu_doctor_limits);

    TAP_OK(strstr(f.found, "open files ") && strstr(f.found, "locked memory "), "%s", f.found);
    if (setrlimit(RLIMIT_NOFILE, &low))
        exit(1);
    f = probe(mu_doctor_limits);
    TAP_OK(f.health == MU_HEALTH_BAD && strstr(f.found, "open files 512 (too low)") && strstr(f.fix, "ulimit -n"), "%s",
           f.found);
}

int main(void)
{
    snprintf(sys, sizeof sys, "/tmp/muster-doctor-test-XXXXXX");
    if (!mkdtemp(sys))
        return 1;
    infiniband();
    gpus();
    governor();
    cgroup();
    limits();
    mu_path_remove_tree(sys, NULL);
    return tap_done();
}
