/* How a node is: what is read of /proc, and which file systems are not asked. */
#include "runtime/agent/vitals.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/base/clean.h"
#include "runtime/base/str.h"
#include "tests/unit/tap.h"

static const char mounts[] = "21 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw\n"
                             "30 21 0:26 / /proc rw - proc proc rw\n"
                             "31 21 0:40 / /home rw shared:9 - nfs4 server:/home rw\n"
                             "32 31 8:1 / /home/scratch rw - xfs /dev/sda1 rw\n"
                             "33 21 0:41 / /with\\040blank rw - fuse.sshfs somebody rw\n"
                             "34 21 0:42 / /tmp rw - tmpfs tmpfs rw\n"
                             "35 34 0:43 / /over rw - nfs server:/x rw\n"
                             "36 34 0:44 / /over rw - tmpfs tmpfs rw\n"
                             "37 21 0:45 / /new rw - somethingnew x rw\n"
                             "damaged\n"
                             "38 21 0:46 / /late";

static void local(void)
{
    static const struct {
        const char *path;
        bool local;
    } rows[] = {{"/", true},           {"/var/x", true},          {"/home/u", false},   {"/home", false},
                {"/homes", true},      {"/home/scratch/a", true}, {"/home/scr", false}, {"/with blank/x", false},
                {"/with", true},       {"/tmp/muster-0", true},   {"/over/a", true},    {"/new/a", false},
                {"/proc/self", false}, {"/late/x", true}};

    for (size_t i = 0; i < MU_COUNT(rows); i++)
        TAP_OK(mu_vitals_local(mounts, rows[i].path) == rows[i].local, "%s is %s", rows[i].path,
               rows[i].local ? "the node's own" : "not");
    TAP_OK(!mu_vitals_local("", "/") && !mu_vitals_local("\n\n - \n", "/"), "without a list none is");
}

static void numbers(void)
{
    char dir[] = "/tmp/vitals.XXXXXX", path[100];
    struct mu_paths paths = {.home = "/tmp", .run = "/home/u"};
    struct mu_m_vitals m;

    if (!mkdtemp(dir))
        exit(99);
    snprintf(path, sizeof path, "%s/proc", dir);
    mkdir(path, 0700);
    snprintf(path, sizeof path, "%s/proc/self", dir);
    mkdir(path, 0700);
    mu_vitals_read(dir, &paths, &m);
    TAP_OK(!m.load_milli && !m.busy_ns && !m.memory_free && !m.home_size, "nothing to read: nothing is known");
    tap_write(dir, "proc/loadavg", "12.34 1.00 0.50 2/300 4711\n");
    tap_write(dir, "proc/stat", "cpu  100 20 30 4000 500 6 7 8 9 10\ncpu0 1 2 3 4\n");
    tap_write(dir, "proc/meminfo", "MemTotal:       1000 kB\nMemFree:          10 kB\nMemAvailable:    600 kB\n");
    tap_write(dir, "proc/self/mountinfo", mounts);
    mu_vitals_read(dir, &paths, &m);
    uint64_t tick = 1000000000ull / (uint64_t)sysconf(_SC_CLK_TCK);
    TAP_OK(m.load_milli == 12340, "the load (%u)", m.load_milli);
    TAP_OK(m.busy_ns == 171 * tick, "CPU time, without what was idle (%llu)", (unsigned long long)m.busy_ns);
    TAP_OK(m.memory_free == 600 << 10, "free memory");
    TAP_OK(m.home_size && m.home_free <= m.home_size, "a disk of its own is asked");
    TAP_OK(!m.run_size && !m.run_free, "one on the network is not");
    tap_write(dir, "proc/stat", "cpu  x\n");
    tap_write(dir, "proc/meminfo", "MemAvailable\n");
    tap_write(dir, "proc/loadavg", "-\n");
    mu_vitals_read(dir, &paths, &m);
    TAP_OK(!m.load_milli && !m.busy_ns && !m.memory_free, "what is damaged is not known");
    mu_path_remove_tree(dir, NULL);
    mu_vitals_read("", &paths, &m);
    TAP_OK(m.busy_ns && m.memory_free, "this machine");
}

static const char head[] =
    "Inter-|   Receive                                                |  Transmit\n"
    " face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier\n";

static uint64_t count(const struct mu_m_vitals *m, unsigned nic, unsigned of)
{
    const uint32_t *v = m->nic_counts.v + (size_t)2 * (nic * MU_NIC_COUNTS + of);

    return v[0] | (uint64_t)v[1] << 32;
}

static void network(void)
{
    char dir[] = "/tmp/vitals.XXXXXX", path[100], text[4000];
    struct mu_m_vitals m = {0};
    struct mu_nics n;

    if (!mkdtemp(dir))
        exit(99);
    mu_vitals_nics(dir, &n, &m);
    TAP_OK(!m.nics && !m.nic_counts.n, "no list: no interfaces are known");
    snprintf(path, sizeof path, "%s/proc/self/net", dir);
    mu_path_mkdirs(path, 0700, NULL);
    snprintf(text, sizeof text,
             "%s    lo: 9 9 9 9 9 9 9 9 9 9 9 9 9 9 9 9\n"
             "  eth0: 6000000000 20 3 4 5 6 7 8 900 10 11 12 13 14 15 16\n"
             "veth1:17 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n  bad: 1 2\n",
             head);
    tap_write(dir, "proc/self/net/dev", text);
    mu_vitals_nics(dir, &n, &m);
    TAP_OK(mu_strv_len(m.nics) == 2 && !strcmp(m.nics[0], "eth0") && !strcmp(m.nics[1], "veth1") &&
               m.nic_counts.n == 4 * MU_NIC_COUNTS,
           "without hardware all but loopback");
    TAP_OK(count(&m, 0, MU_NIC_RX) == 6000000000 && count(&m, 0, MU_NIC_RX_ERRORS) == 3 &&
               count(&m, 0, MU_NIC_RX_DROPS) == 4 && count(&m, 0, MU_NIC_TX) == 900 &&
               count(&m, 0, MU_NIC_TX_ERRORS) == 11 && count(&m, 0, MU_NIC_TX_DROPS) == 12 &&
               count(&m, 1, MU_NIC_RX) == 17,
           "its numbers");
    snprintf(path, sizeof path, "%s/sys/class/net/veth1/device", dir);
    mu_path_mkdirs(path, 0700, NULL);
    mu_vitals_nics(dir, &n, &m);
    TAP_OK(mu_strv_len(m.nics) == 1 && !strcmp(m.nics[0], "veth1") && count(&m, 0, MU_NIC_RX) == 17,
           "those that have hardware, and no others");
    size_t len = (size_t)snprintf(text, sizeof text, "%s", head);
    for (unsigned i = 0; i < 20; i++)
        len += (size_t)snprintf(text + len, sizeof text - len, "e%u: %u 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n", i, i);
    tap_write(dir, "proc/self/net/dev", text);
    mu_vitals_nics(dir, &n, &m);
    TAP_OK(mu_strv_len(m.nics) == MU_NICS && count(&m, 7, MU_NIC_RX) == 7, "the first eight");
    mu_path_remove_tree(dir, NULL);
    mu_vitals_nics("", &n, &m);
    TAP_OK(mu_strv_len(m.nics) <= MU_NICS, "this machine has %zu", mu_strv_len(m.nics));
}

static uint64_t disk_count(const struct mu_m_vitals *m, unsigned disk, unsigned of)
{
    const uint32_t *v = m->disk_counts.v + (size_t)2 * (disk * MU_DISK_COUNTS + of);

    return v[0] | (uint64_t)v[1] << 32;
}

static void input_output(void)
{
    static const char *const have[] = {"loop0", "zram0", "vda", "nvme0n1", "dm-0"};
    char dir[] = "/tmp/vitals.XXXXXX", path[100], text[8000];
    struct mu_m_vitals m = {0};
    struct mu_disks d;

    if (!mkdtemp(dir))
        exit(99);
    mu_vitals_disks(dir, &d, &m);
    TAP_OK(!m.disks && !m.disk_counts.n, "no list: no disks are known");
    snprintf(path, sizeof path, "%s/proc", dir);
    mkdir(path, 0700);
    for (size_t i = 0; i < MU_COUNT(have); i++) {
        snprintf(path, sizeof path, "%s/sys/block/%s", dir, have[i]);
        mu_path_mkdirs(path, 0700, NULL);
    }
    tap_write(dir, "proc/diskstats",
              "   7       0 loop0 9 9 9 9 9 9 9 9 9 9 9 9 9 9 9 9 9 9\n"
              " 254       0 vda 1 2 10000000000 4 5 6 7 8 9 10 11 12 13 14 15 16 17\n"
              " 254       1 vda1 1 2 3 4 5 6 7 8 9 10 11\n"
              " 259       0 nvme0n1 1 2 3 4 5 6 4000000000 8 9 5000000000 11\n"
              " 253       0 zram0 1 2 3 4 5 6 7 8 9 10 11\n"
              " 252       0 dm-0 1 2 3 4 5 6 7 8 0 10 11\n"
              " 8 0 gone 1 2 3 4 5 6 7 8 9 10 11\n 8 0 ../.. 1 2 3 4 5 6 7 8 9 10 11\n 8 0 short 1 2\nsda\n");
    mu_vitals_disks(dir, &d, &m);
    TAP_OK(mu_strv_len(m.disks) == 3 && !strcmp(m.disks[0], "vda") && !strcmp(m.disks[1], "nvme0n1") &&
               !strcmp(m.disks[2], "dm-0") && m.disk_counts.n == 6 * MU_DISK_COUNTS,
           "without hardware all that are not made of memory or files, no partitions");
    TAP_OK(disk_count(&m, 0, MU_DISK_READ) == 5120000000000 && disk_count(&m, 0, MU_DISK_WRITTEN) == 7 * 512 &&
               disk_count(&m, 0, MU_DISK_BUSY) == 10 && disk_count(&m, 1, MU_DISK_WRITTEN) == 2048000000000 &&
               disk_count(&m, 1, MU_DISK_BUSY) == 5000000000,
           "their numbers");
    snprintf(path, sizeof path, "%s/sys/block/nvme0n1/device", dir);
    mu_path_mkdirs(path, 0700, NULL);
    mu_vitals_disks(dir, &d, &m);
    TAP_OK(mu_strv_len(m.disks) == 1 && !strcmp(m.disks[0], "nvme0n1") && disk_count(&m, 0, MU_DISK_READ) == 3 * 512,
           "those that have hardware, and no others");
    size_t len = 0;
    for (unsigned i = 0; i < 20; i++) {
        snprintf(path, sizeof path, "%s/sys/block/d%u/device", dir, i);
        mu_path_mkdirs(path, 0700, NULL);
        len += (size_t)snprintf(text + len, sizeof text - len, "8 0 d%u 1 2 3 4 5 6 7 8 9 %u 11\n", i, i);
    }
    tap_write(dir, "proc/diskstats", text);
    mu_vitals_disks(dir, &d, &m);
    TAP_OK(mu_strv_len(m.disks) == MU_DISKS && disk_count(&m, 15, MU_DISK_BUSY) == 15, "the first sixteen");
    mu_path_remove_tree(dir, NULL);
    mu_vitals_disks("", &d, &m);
    TAP_OK(mu_strv_len(m.disks) <= MU_DISKS, "this machine has %zu", mu_strv_len(m.disks));
}

int main(void)
{
    network();
    input_output();
    local();
    numbers();
    return tap_done();
}
