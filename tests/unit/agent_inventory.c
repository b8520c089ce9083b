/* What a node is made of: gathered from a made-up /proc and /sys, bounded, and compared. */
#include "runtime/agent/inventory.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/base/clean.h"
#include "runtime/base/path.h"
#include "runtime/base/str.h"
#include "tests/unit/tap.h"

static char root[] = "/tmp/inventory.XXXXXX";

static void file(const char *name, const char *text)
{
    char path[600];

    snprintf(path, sizeof path, "%s/%s", root, name);
    *strrchr(path, '/') = 0;
    if (mu_path_mkdirs(path, 0700, NULL))
        exit(99);
    tap_write(root, name, text);
}

static void linked(const char *name, const char *to)
{
    char path[600];

    snprintf(path, sizeof path, "%s/%s", root, name);
    *strrchr(path, '/') = 0;
    if (mu_path_mkdirs(path, 0700, NULL))
        exit(99);
    path[strlen(path)] = '/';
    if (symlink(to, path))
        exit(99);
}

static void has(const struct mu_m_inventory *m, const char *key, const char *want)
{
    const char *is = mu_inventory_value(m, key);

    TAP_OK(want ? is && !strcmp(is, want) : !is, "%s: %s", key, is ? is : "nothing");
}

static void make(void)
{
    file("proc/cpuinfo",
         "processor\t: 0\nmodel name\t: Fast CPU @ 3 GHz\nphysical id\t: 0\ncore id\t\t: 0\nmicrocode\t: 0x2b\n\n"
         "processor\t: 1\nmodel name\t: Fast CPU @ 3 GHz\nphysical id\t: 0\ncore id\t\t: 0\n\n"
         "processor\t: 2\nphysical id\t: 1\ncore id\t\t: 0\n\n");
    file("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "performance\n");
    file("sys/devices/system/cpu/cpu1/cpufreq/scaling_governor", "performance\n");
    file("sys/devices/system/cpu/cpu2/cpufreq/scaling_governor", "powersave\n");
    file("sys/devices/system/cpu/vulnerabilities/meltdown", "Not affected\n");
    file("proc/meminfo", "MemTotal:       16777216 kB\nMemFree:  1 kB\nSwapTotal:             0 kB\n");
    file("sys/devices/system/node/node0/meminfo", "Node 0 MemTotal:       8388608 kB\nNode 0 MemFree: 1 kB\n");
    file("sys/devices/system/node/node0/cpulist", "0-1\n");
    file("sys/devices/system/node/node1/cpulist", "2\n");
    file("sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", "17\n");
    file("sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n");
    file("proc/cmdline", "BOOT_IMAGE=/vmlinuz root=UUID=1234 ro isolcpus=2\n");
    file("etc/os-release", "NAME=\"X\"\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n");
    file("proc/sys/kernel/osrelease", "6.1.0-28-amd64\n");
    file("proc/sys/vm/swappiness", "60\n");
    file("proc/self/limits", "Limit                     Soft Limit           Hard Limit           Units\n"
                             "Max open files            1024                 524288               files\n"
                             "Max locked memory         unlimited            unlimited            bytes\n");
    file("sys/class/dmi/id/bios_version", "2.18.1\n");
    file("proc/driver/nvidia/version",
         "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19\nGCC 12\n");
    file("proc/driver/nvidia/gpus/0000:3b:00.0/information",
         "Model: \t\t NVIDIA H100\nIRQ:   \t\t 1\nGPU UUID: \t GPU-1234\nVideo BIOS: \t 96.00.30\n");
    file("sys/class/net/eth0/mtu", "9000\n");
    file("sys/class/net/eth0/speed", "100000\n");
    file("sys/class/net/eth0/address", "02:00:00:00:00:01\n");
    linked("sys/class/net/eth0/device/driver", "../../bus/pci/drivers/mlx5_core");
    file("sys/class/net/br0/mtu", "1500\n");
    file("sys/class/infiniband/mlx5_0/fw_ver", "28.39.1002\n");
    file("sys/class/infiniband/mlx5_0/node_guid", "0002:c903:0000:1234\n");
    file("sys/class/infiniband/mlx5_0/ports/1/rate", "400 Gb/sec (4X NDR)\n");
    file("usr/lib/x86_64-linux-gnu/libmpi.so.40.30.4", "ELF Open MPI v%d.%d.%d");
    linked("usr/lib/x86_64-linux-gnu/libmpi.so.40", "libmpi.so.40.30.4");
    file("usr/lib/x86_64-linux-gnu/libpmix.so.2", "x OpenPMIx %s OpenPMIx 4.2.2rc2 (PMIx Standard: 4.2)");
    file("opt/ucx/lib/libucp.so.0.0.0", "nothing");
    linked("opt/ucx/lib/libucp.so.0", "libucp.so.0.0.0");
    file("usr/lib/x86_64-linux-gnu/libucp.so.0", "another");
    file("etc/ld.so.conf.d/ucx.conf", "# ours\n/opt/ucx/lib\n");
    file("var/lib/dpkg/status",
         "Package: libopenmpi-dev\nStatus: install ok installed\nVersion: 9\n\n"
         "Package: libopenmpi3\nStatus: install ok installed\nArchitecture: amd64\nVersion: 4.1.4-3+b1\n\n"
         "Package: libucx0\nStatus: install ok installed\nVersion: 1.13.1-1\n");
}

static void gathers(void)
{
    struct mu_m_inventory m = {0}, none = {0};

    TAP_OK(!mu_inventory_gather(root, &none) && mu_inventory_valid(&none), "a root with nothing in it");
    has(&none, "cpu.model", NULL);
    has(&none, "muster.version", MUSTER_VERSION);
    make();
    TAP_OK(!mu_inventory_gather(root, &m) && mu_inventory_valid(&m), "one with something, in order");
    has(&m, "cpu.model", "Fast CPU @ 3 GHz");
    has(&m, "cpu.microcode", "0x2b");
    has(&m, "cpu.threads", "3");
    has(&m, "cpu.cores", "2");
    has(&m, "cpu.sockets", "2");
    has(&m, "cpu.governor", "performance,powersave");
    has(&m, "mitigation.meltdown", "Not affected");
    has(&m, "memory.total", "16.0 GiB");
    has(&m, "memory.swap", "0.0 GiB");
    has(&m, "numa.nodes", "2");
    has(&m, "numa.0.memory", "8.0 GiB");
    has(&m, "numa.1.cpus", "2");
    has(&m, "hugepages.2048kB", "17");
    has(&m, "thp.enabled", "madvise");
    has(&m, "kernel.cmdline", "ro isolcpus=2");
    has(&m, "kernel.release", "6.1.0-28-amd64");
    has(&m, "os.name", "Debian GNU/Linux 12 (bookworm)");
    has(&m, "sysctl.vm.swappiness", "60");
    has(&m, "limit.nofile", "1024/524288");
    has(&m, "limit.memlock", "unlimited/unlimited");
    has(&m, "dmi.bios_version", "2.18.1");
    has(&m, "driver.nvidia", "535.104.05");
    has(&m, "gpu.count", "1");
    has(&m, "gpu.0.model", "NVIDIA H100");
    has(&m, "gpu.0.vbios", "96.00.30");
    has(&m, "id.gpu.0.uuid", "GPU-1234");
    has(&m, "net.eth0.driver", "mlx5_core");
    has(&m, "net.eth0.speed", "100000 Mb/s");
    has(&m, "id.net.eth0.address", "02:00:00:00:00:01");
    has(&m, "net.br0.mtu", NULL);
    has(&m, "ib.mlx5_0.firmware", "28.39.1002");
    has(&m, "ib.mlx5_0.1.rate", "400 Gb/sec (4X NDR)");
    has(&m, "mpi.version", "4.1.4-3+b1");
    has(&m, "mpi.file", "/usr/lib/x86_64-linux-gnu/libmpi.so.40.30.4");
    has(&m, "pmix.version", "4.2.2rc2");
    has(&m, "ucx.version", "so.0.0.0");
    has(&m, "ucx.file", "/opt/ucx/lib/libucp.so.0.0.0");
    has(&m, "nccl.version", NULL);
    mu_msg_free_body(MU_MSG_inventory, &m);
    mu_msg_free_body(MU_MSG_inventory, &none);
}

/* A machine that has far too much, and says it badly. */
static void bounded(void)
{
    struct mu_inventory_pairs *p = calloc(1, sizeof *p);
    struct mu_m_inventory m = {0};
    char key[300], value[2000];

    if (!p)
        exit(99);
    mu_inventory_put(p, "a b/c\n", " \t one\x1b[31m \xff two\n");
    mu_inventory_put(p, "empty", " \n");
    mu_inventory_put(p, "", "no key");
    mu_inventory_put(p, "twice", "first");
    mu_inventory_put(p, "twice", "second");
    memset(key, 'k', sizeof key);
    memset(value, 'v', sizeof value);
    key[sizeof key - 1] = value[sizeof value - 1] = 0;
    mu_inventory_put(p, key, value);
    for (int i = 0; i < 1000; i++) {
        snprintf(key, sizeof key, "x.%d", i);
        mu_inventory_put(p, key, "y");
    }
    TAP_OK(!mu_inventory_make(p, &m) && mu_inventory_valid(&m), "whatever is put in, an inventory comes out");
    TAP_OK(mu_strv_len(m.keys) == MU_INVENTORY_PAIRS, "no longer than it may be");
    has(&m, "a_b_c_", "one?[31m ? two");
    has(&m, "empty", NULL);
    has(&m, "twice", "first");
    free(p);
    mu_msg_free_body(MU_MSG_inventory, &m);
}

static void valid(void)
{
    char a[] = "a", b[] = "b", bad[] = "b b", x[] = "x", ctl[] = "x\x1b", blank[] = "x ", none[] = "";
    const struct {
        char *keys[3], *values[3];
        bool valid;
    } rows[] = {{{a, b}, {x, x}, true},    {{NULL}, {NULL}, true},      {{a, b}, {x}, false},
                {{b, a}, {x, x}, false},   {{a, a}, {x, x}, false},     {{a, bad}, {x, x}, false},
                {{a, b}, {x, ctl}, false}, {{a, b}, {x, blank}, false}, {{none}, {x}, false},
                {{a}, {none}, false}};

    for (size_t i = 0; i < MU_COUNT(rows); i++) {
        struct mu_m_inventory m = {.keys = (char **)(uintptr_t)rows[i].keys,
                                   .values = (char **)(uintptr_t)rows[i].values};
        TAP_OK(mu_inventory_valid(&m) == rows[i].valid, "row %zu is %s", i, rows[i].valid ? "one" : "none");
    }
}

static void differs(void)
{
    char a[] = "a", b[] = "b", c[] = "c", one[] = "1", two[] = "2", text[300];
    char *ka[] = {a, b, NULL}, *va[] = {one, one, NULL}, *kb[] = {b, c, NULL}, *vb[] = {two, one, NULL};
    struct mu_m_inventory x = {.keys = ka, .values = va}, y = {.keys = kb, .values = vb}, none = {0};

    TAP_OK(mu_inventory_tell(&x, &y, text, sizeof text) == 3 && !strcmp(text, "a is gone, was 1; and 2 more"), "%s",
           text);
    ka[0] = va[0] = NULL;
    kb[1] = vb[1] = NULL;
    ka[0] = b;
    va[0] = one;
    ka[1] = va[1] = NULL;
    TAP_OK(mu_inventory_tell(&x, &y, text, sizeof text) == 1 && !strcmp(text, "b was 1, is 2"), "%s", text);
    TAP_OK(mu_inventory_tell(&none, &y, text, sizeof text) == 1 && !strcmp(text, "b is new, 2"), "%s", text);
    TAP_OK(!mu_inventory_tell(&x, &x, text, sizeof text) && !*text, "the same is alike");
    TAP_OK(mu_inventory_own("id.gpu.0.uuid") && !mu_inventory_own("gpu.0.id."), "keys that are a node's own");
}

int main(void)
{
    if (!mkdtemp(root))
        exit(99);
    gathers();
    bounded();
    valid();
    differs();
    TAP_OK(!mu_path_remove_tree(root, NULL), "nothing is left");
    return tap_done();
}
