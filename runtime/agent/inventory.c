#include "runtime/agent/inventory.h"

#include <dirent.h>
#include <errno.h>
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "runtime/base/clean.h"
#include "runtime/base/path.h"
#include "runtime/base/str.h"

enum { LINE = 4096, TABLE = 32 << 20, DEVICES = 32, NODES = 64 };

struct gather {
    const char *root;
    struct mu_inventory_pairs *p;
};

/* --- files ---------------------------------------------------------------------------------------------------------
 */

static MU_PRINTF(3, 4) void put(struct gather *g, const char *value, const char *fmt, ...)
{
    char key[200];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(key, sizeof key, fmt, ap);
    va_end(ap);
    mu_inventory_put(g->p, key, value);
}

static void put_number(struct gather *g, unsigned long long n, const char *key)
{
    char text[32];

    snprintf(text, sizeof text, "%llu", n);
    put(g, text, "%s", key);
}

static bool read_all(const struct gather *g, struct mu_buf *out, const char *path)
{
    char whole[PATH_MAX];

    mu_buf_clear(out);
    return snprintf(whole, sizeof whole, "%s/%s", g->root, path) < (int)sizeof whole &&
           !mu_path_read_regular(whole, TABLE, out, NULL);
}

/* A file's first line; "": it cannot be had. */
static MU_PRINTF(3, 4) const char *line_of(const struct gather *g, char out[LINE], const char *fmt, ...)
{
    mu_auto_buf struct mu_buf b = {0};
    char path[PATH_MAX];
    va_list ap;

    out[0] = 0;
    va_start(ap, fmt);
    int n = vsnprintf(path, sizeof path, fmt, ap);
    va_end(ap);
    if (n < (int)sizeof path && read_all(g, &b, path))
        snprintf(out, LINE, "%.*s", (int)strcspn(mu_buf_str(&b), "\n"), mu_buf_str(&b));
    return out;
}

/* The last part of where a link goes. */
static const char *link_of(const struct gather *g, char out[LINE], const char *path)
{
    char whole[PATH_MAX];
    ssize_t n = -1;

    out[0] = 0;
    if (snprintf(whole, sizeof whole, "%s/%s", g->root, path) < (int)sizeof whole)
        n = readlink(whole, out, LINE - 1);
    out[n < 0 ? 0 : n] = 0;
    const char *slash = strrchr(out, '/');
    return slash ? slash + 1 : out;
}

static int by_name(const void *a, const void *b)
{
    const char *x = *(char *const *)a, *y = *(char *const *)b;
    size_t nx = strlen(x), ny = strlen(y);

    return nx != ny && strspn(x, "abcdefghijklmnopqrstuvwxyz_") == strspn(y, "abcdefghijklmnopqrstuvwxyz_")
               ? (nx > ny) - (nx < ny)
               : strcmp(x, y);
}

/* Entries of a directory in their order, for mu_strv_free; NULL: none. */
static char **entries(const struct gather *g, const char *path)
{
    char whole[PATH_MAX], **v = NULL;
    struct dirent *e;

    if (snprintf(whole, sizeof whole, "%s/%s", g->root, path) >= (int)sizeof whole)
        return NULL;
    mu_auto_dir DIR *d = opendir(whole);
    while (d && (e = readdir(d)))
        if (e->d_name[0] != '.' && mu_strv_append(&v, e->d_name))
            break;
    if (v)
        qsort(v, mu_strv_len(v), sizeof *v, by_name);
    return v;
}

/* "Name:   value" of such a line, without the blanks; "": there is none. */
static const char *field(const char *text, const char *name, char *out, size_t n)
{
    size_t len = strlen(name);

    out[0] = 0;
    for (const char *at = text; at && *at; at = (at = strchr(at, '\n')) ? at + 1 : NULL) {
        if (strncmp(at, name, len) != 0)
            continue;
        const char *v = at + len;
        v += strspn(v, " \t");
        if (*v != ':')
            continue;
        v++;
        v += strspn(v, " \t");
        snprintf(out, n, "%.*s", (int)strcspn(v, "\n"), v);
        break;
    }
    return out;
}

/* "always [madvise] never" */
static void put_choice(struct gather *g, const char *key, const char *text)
{
    const char *open = strchr(text, '['), *end = open ? strchr(open, ']') : NULL;
    char word[64];

    if (!end)
        return;
    snprintf(word, sizeof word, "%.*s", (int)(end - open - 1), open + 1);
    put(g, word, "%s", key);
}

/* "1234 kB": coarse, as what the kernel keeps for itself changes from boot to boot. */
static void put_kib(struct gather *g, const char *text, const char *key)
{
    char shown[32];
    unsigned long long kib = strtoull(text, NULL, 10);

    if (!*text)
        return;
    snprintf(shown, sizeof shown, "%.1f GiB", (double)kib / (1 << 20));
    put(g, shown, "%s", key);
}

/* --- the machine ---------------------------------------------------------------------------------------------------
 */

/* Numbers that are there once each. */
static unsigned once(uint64_t *v, unsigned n, uint64_t x)
{
    for (unsigned i = 0; i < n; i++)
        if (v[i] == x)
            return n;
    v[n] = x;
    return n + 1;
}

static void cpus(struct gather *g)
{
    enum { CPUS = 8192 };
    mu_auto_buf struct mu_buf b = {0};
    mu_auto_free uint64_t *cores = calloc(CPUS, sizeof *cores), *sockets = calloc(CPUS, sizeof *sockets);
    unsigned threads = 0, ncores = 0, nsockets = 0;
    char value[200];

    if (!cores || !sockets || !read_all(g, &b, "proc/cpuinfo"))
        return;
    for (const char *at = mu_buf_str(&b), *next; at && *at && threads < CPUS; at = next) {
        next = strstr(at, "\n\n");
        next = next ? next + 2 : NULL;
        mu_auto_free char *block = next ? strndup(at, (size_t)(next - at)) : strdup(at);
        if (!block || strncmp(block, "processor", 9) != 0)
            continue;
        threads++;
        uint64_t socket = strtoull(field(block, "physical id", value, sizeof value), NULL, 10);
        nsockets = once(sockets, nsockets, socket);
        if (*field(block, "core id", value, sizeof value))
            ncores = once(cores, ncores, socket << 32 | strtoul(value, NULL, 10));
        if (threads > 1)
            continue;
        put(g, field(block, "model name", value, sizeof value), "cpu.model");
        put(g, field(block, "CPU part", value, sizeof value), "cpu.model");
        put(g, field(block, "microcode", value, sizeof value), "cpu.microcode");
    }
    if (!threads)
        return;
    put_number(g, threads, "cpu.threads");
    put_number(g, nsockets, "cpu.sockets");
    if (ncores)
        put_number(g, ncores, "cpu.cores");
}

/* What all of them have; several: each once, with commas. */
static void governors(struct gather *g)
{
    char **v = entries(g, "sys/devices/system/cpu"), line[LINE];
    mu_auto_buf struct mu_buf all = {0};

    for (char **e = v; e && *e; e++) {
        if (strncmp(*e, "cpu", 3) != 0 || !strchr("0123456789", (*e)[3]) || !(*e)[3])
            continue;
        line_of(g, line, "sys/devices/system/cpu/%s/cpufreq/scaling_governor", *e);
        if (*line && !strstr(mu_buf_str(&all), line))
            mu_buf_appendf(&all, "%s%s", all.len ? "," : "", line);
    }
    put(g, mu_buf_str(&all), "cpu.governor");
    mu_strv_free(v);
}

static void memory(struct gather *g)
{
    mu_auto_buf struct mu_buf b = {0};
    char value[64], path[300], key[100], line[LINE];
    unsigned n = 0;

    if (read_all(g, &b, "proc/meminfo")) {
        put_kib(g, field(mu_buf_str(&b), "MemTotal", value, sizeof value), "memory.total");
        put_kib(g, field(mu_buf_str(&b), "SwapTotal", value, sizeof value), "memory.swap");
    }
    char **v = entries(g, "sys/devices/system/node");
    for (char **e = v; e && *e; e++) {
        const char *number = *e + 4, *at;
        if (strncmp(*e, "node", 4) != 0 || !*number || number[strspn(number, "0123456789")] || n++ >= NODES)
            continue;
        put(g, line_of(g, line, "sys/devices/system/node/%s/cpulist", *e), "numa.%s.cpus", number);
        snprintf(path, sizeof path, "sys/devices/system/node/%.200s/meminfo", *e);
        if (read_all(g, &b, path) && (at = strstr(mu_buf_str(&b), "MemTotal:"))) {
            snprintf(key, sizeof key, "numa.%.60s.memory", number);
            put_kib(g, at + 9 + strspn(at + 9, " "), key);
        }
    }
    mu_strv_free(v);
    if (n)
        put_number(g, n, "numa.nodes");
    v = entries(g, "sys/kernel/mm/hugepages");
    for (char **e = v; e && *e; e++)
        if (!strncmp(*e, "hugepages-", 10))
            put(g, line_of(g, line, "sys/kernel/mm/hugepages/%s/nr_hugepages", *e), "hugepages.%s", *e + 10);
    mu_strv_free(v);
}

/* Without what names this very machine. */
static void command_line(struct gather *g)
{
    static const char *const own[] = {"root=", "BOOT_IMAGE=", "resume=", "rd.", "ip=", "initrd=", "BOOTIF="};
    char line[LINE], kept[LINE] = "", *save = NULL;

    line_of(g, line, "proc/cmdline");
    for (char *w = strtok_r(line, " ", &save); w; w = strtok_r(NULL, " ", &save)) {
        size_t len = strlen(kept);
        bool skip = false;
        for (size_t i = 0; i < MU_COUNT(own); i++)
            skip = skip || !strncmp(w, own[i], strlen(own[i]));
        if (!skip)
            snprintf(kept + len, sizeof kept - len, "%s%s", len ? " " : "", w);
    }
    put(g, kept, "kernel.cmdline");
}

static void system_wide(struct gather *g)
{
    mu_auto_buf struct mu_buf b = {0};
    char line[LINE], value[200];

    if (read_all(g, &b, "etc/os-release")) {
        const char *at = strstr(mu_buf_str(&b), "PRETTY_NAME=");
        at = at ? at + 12 + (at[12] == '"') : "";
        snprintf(value, sizeof value, "%.*s", (int)strcspn(at, "\"\n"), at);
        put(g, value, "os.name");
    }
    command_line(g);
    char **v = entries(g, "sys/devices/system/cpu/vulnerabilities");
    for (char **e = v; e && *e; e++)
        put(g, line_of(g, line, "sys/devices/system/cpu/vulnerabilities/%s", *e), "mitigation.%s", *e);
    mu_strv_free(v);
    put_choice(g, "thp.enabled", line_of(g, line, "sys/kernel/mm/transparent_hugepage/enabled"));
    put_choice(g, "thp.defrag", line_of(g, line, "sys/kernel/mm/transparent_hugepage/defrag"));
}

/* Files whose first line is the value. To add one: a row here, and in docs/formats.md. */
static const struct {
    const char *key, *path;
} files[] = {
    {"cpu.smt", "sys/devices/system/cpu/smt/control"},
    {"dmi.vendor", "sys/class/dmi/id/sys_vendor"},
    {"dmi.product", "sys/class/dmi/id/product_name"},
    {"dmi.board", "sys/class/dmi/id/board_name"},
    {"dmi.bios_vendor", "sys/class/dmi/id/bios_vendor"},
    {"dmi.bios_version", "sys/class/dmi/id/bios_version"},
    {"dmi.bios_date", "sys/class/dmi/id/bios_date"},
    {"dmi.bmc_release", "sys/class/dmi/id/ec_firmware_release"},
    {"id.dmi.serial", "sys/class/dmi/id/product_serial"}, /* root alone may read it */
    {"kernel.release", "proc/sys/kernel/osrelease"},
    {"kernel.build", "proc/sys/kernel/version"},
    {"kernel.clocksource", "sys/devices/system/clocksource/clocksource0/current_clocksource"},
    {"driver.nvidia", "sys/module/nvidia/version"},
    {"driver.amdgpu", "sys/module/amdgpu/version"},
    {"driver.mlx5_core", "sys/module/mlx5_core/version"},
    {"driver.nvidia_peermem", "sys/module/nvidia_peermem/initstate"},
    {"driver.gdrdrv", "sys/module/gdrdrv/initstate"},
    {"sysctl.vm.overcommit_memory", "proc/sys/vm/overcommit_memory"},
    {"sysctl.vm.overcommit_ratio", "proc/sys/vm/overcommit_ratio"},
    {"sysctl.vm.swappiness", "proc/sys/vm/swappiness"},
    {"sysctl.vm.zone_reclaim_mode", "proc/sys/vm/zone_reclaim_mode"},
    {"sysctl.vm.max_map_count", "proc/sys/vm/max_map_count"},
    {"sysctl.net.core.somaxconn", "proc/sys/net/core/somaxconn"},
    {"sysctl.net.core.rmem_max", "proc/sys/net/core/rmem_max"},
    {"sysctl.net.core.wmem_max", "proc/sys/net/core/wmem_max"},
    {"sysctl.net.ipv4.tcp_rmem", "proc/sys/net/ipv4/tcp_rmem"},
    {"sysctl.net.ipv4.tcp_wmem", "proc/sys/net/ipv4/tcp_wmem"},
    {"sysctl.kernel.numa_balancing", "proc/sys/kernel/numa_balancing"},
    {"sysctl.kernel.yama.ptrace_scope", "proc/sys/kernel/yama/ptrace_scope"},
    {"sysctl.kernel.pid_max", "proc/sys/kernel/pid_max"},
};

static void limits(struct gather *g)
{
    static const struct {
        const char *key, *name;
    } rows[] = {
        {"limit.memlock", "Max locked memory"}, {"limit.nofile", "Max open files"}, {"limit.nproc", "Max processes"}};
    mu_auto_buf struct mu_buf b = {0};
    char soft[32], hard[32], text[80];

    if (!read_all(g, &b, "proc/self/limits"))
        return;
    for (size_t i = 0; i < MU_COUNT(rows); i++) {
        const char *at = strstr(mu_buf_str(&b), rows[i].name);
        if (!at || sscanf(at + strlen(rows[i].name), "%31s %31s", soft, hard) != 2)
            continue;
        snprintf(text, sizeof text, "%s/%s", soft, hard);
        put(g, text, "%s", rows[i].key);
    }
}

/* --- devices -------------------------------------------------------------------------------------------------------
 */

/* By NVIDIA's driver where that runs, else what lies on the bus. */
static void gpus(struct gather *g)
{
    char **v = entries(g, "proc/driver/nvidia/gpus"), path[300], value[200], line[LINE], vendor[LINE];
    mu_auto_buf struct mu_buf b = {0};
    unsigned n = 0;

    for (char **e = v; e && *e; e++, n++) {
        snprintf(path, sizeof path, "proc/driver/nvidia/gpus/%.200s/information", *e);
        if (n >= DEVICES || !read_all(g, &b, path))
            continue;
        put(g, field(mu_buf_str(&b), "Model", value, sizeof value), "gpu.%u.model", n);
        put(g, field(mu_buf_str(&b), "Video BIOS", value, sizeof value), "gpu.%u.vbios", n);
        put(g, field(mu_buf_str(&b), "GPU Firmware", value, sizeof value), "gpu.%u.firmware", n);
        put(g, field(mu_buf_str(&b), "GPU UUID", value, sizeof value), "id.gpu.%u.uuid", n);
        put(g, *e, "gpu.%u.pci", n);
    }
    mu_strv_free(v);
    v = n ? NULL : entries(g, "sys/bus/pci/devices");
    for (char **e = v; e && *e; e++) {
        unsigned long kind = strtoul(line_of(g, line, "sys/bus/pci/devices/%s/class", *e), NULL, 16) >> 8;
        line_of(g, vendor, "sys/bus/pci/devices/%s/vendor", *e);
        bool maker = !strcmp(vendor, "0x10de") || (!strcmp(vendor, "0x1002") && kind != 0x0300);
        if (!maker || (kind != 0x0300 && kind != 0x0302 && kind != 0x0380 && kind != 0x1200))
            continue;
        snprintf(value, sizeof value, "%.10s:%.10s", vendor + 2,
                 line_of(g, line, "sys/bus/pci/devices/%s/device", *e) + (*line ? 2 : 0));
        if (n < DEVICES) {
            put(g, value, "gpu.%u.model", n);
            put(g, *e, "gpu.%u.pci", n);
        }
        n++;
    }
    mu_strv_free(v);
    put_number(g, n, "gpu.count");
}

/* Asks the driver, which may have to ask the card. */
static void firmware(struct gather *g, const char *name)
{
    struct ethtool_drvinfo info = {.cmd = ETHTOOL_GDRVINFO};
    struct ifreq r = {.ifr_data = (char *)&info};

    mu_auto_fd int fd = *g->root ? -1 : socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || mu_str_copy(r.ifr_name, sizeof r.ifr_name, name) || ioctl(fd, SIOCETHTOOL, &r))
        return;
    info.fw_version[sizeof info.fw_version - 1] = 0;
    if (strcmp(info.fw_version, "N/A") != 0)
        put(g, info.fw_version, "net.%s.firmware", name);
}

/* Interfaces that are devices, not bridges and the like. */
static void nics(struct gather *g)
{
    char **v = entries(g, "sys/class/net"), path[300], line[LINE];
    unsigned n = 0;

    for (char **e = v; e && *e && n < DEVICES; e++) {
        snprintf(path, sizeof path, "sys/class/net/%.200s/device/driver", *e);
        const char *driver = link_of(g, line, path);
        if (!*driver)
            continue;
        n++;
        put(g, driver, "net.%s.driver", *e);
        if (strtol(line_of(g, line, "sys/class/net/%s/speed", *e), NULL, 10) > 0)
            put(g, strcat(line, " Mb/s"), "net.%s.speed", *e);
        put(g, line_of(g, line, "sys/class/net/%s/mtu", *e), "net.%s.mtu", *e);
        put(g, line_of(g, line, "sys/class/net/%s/operstate", *e), "net.%s.state", *e);
        put(g, line_of(g, line, "sys/class/net/%s/address", *e), "id.net.%s.address", *e);
        firmware(g, *e);
    }
    mu_strv_free(v);
}

static void infiniband(struct gather *g)
{
    static const char *const names[][2] = {{"type", "hca_type"}, {"firmware", "fw_ver"}, {"board", "board_id"}};
    static const char *const of_port[] = {"rate", "state", "link_layer"};
    char **v = entries(g, "sys/class/infiniband"), path[300], line[LINE];
    unsigned n = 0;

    for (char **e = v; e && *e && n++ < DEVICES; e++) {
        for (size_t i = 0; i < MU_COUNT(names); i++)
            put(g, line_of(g, line, "sys/class/infiniband/%s/%s", *e, names[i][1]), "ib.%s.%s", *e, names[i][0]);
        put(g, line_of(g, line, "sys/class/infiniband/%s/node_guid", *e), "id.ib.%s.guid", *e);
        snprintf(path, sizeof path, "sys/class/infiniband/%.200s/ports", *e);
        char **ports = entries(g, path);
        for (char **p = ports; p && *p; p++)
            for (size_t i = 0; i < MU_COUNT(of_port); i++)
                put(g, line_of(g, line, "%s/%s/%s", path, *p, of_port[i]), "ib.%s.%s.%s", *e, *p, of_port[i]);
        mu_strv_free(ports);
    }
    mu_strv_free(v);
}

/* Without the module's file: "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 ..." */
static void nvidia_driver(struct gather *g)
{
    char line[LINE], *save = NULL;

    line_of(g, line, "proc/driver/nvidia/version");
    for (char *w = strtok_r(line, " \t", &save); w; w = strtok_r(NULL, " \t", &save))
        if (strchr("0123456789", *w) && strchr(w, '.') && !w[strspn(w, "0123456789.")]) {
            put(g, w, "driver.nvidia");
            return;
        }
}

int mu_inventory_gather(const char *root, struct mu_m_inventory *out)
{
    mu_auto_free struct mu_inventory_pairs *pairs = calloc(1, sizeof *pairs);
    struct gather g = {.root = root, .p = pairs};
    char line[LINE];

    if (!pairs)
        return MUSTER_ENOMEM;
    put(&g, MUSTER_VERSION, "muster.version");
    cpus(&g);
    governors(&g);
    memory(&g);
    system_wide(&g);
    for (size_t i = 0; i < MU_COUNT(files); i++)
        put(&g, line_of(&g, line, "%s", files[i].path), "%s", files[i].key);
    limits(&g);
    gpus(&g);
    nvidia_driver(&g);
    mu_inventory_soft(root, g.p);
    nics(&g);
    infiniband(&g);
    return mu_inventory_make(g.p, out);
}

int mu_inventory_main(int fd)
{
    mu_auto_buf struct mu_buf b = {0};
    const char *root = getenv(MU_INVENTORY_ROOT);
    struct mu_m_inventory m = {0};

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    int rc = mu_inventory_gather(root ? root : "", &m);
    rc = rc ? rc : mu_msg_encode(&b, MU_MSG_inventory, &m);
    for (size_t at = 0; !rc && at < b.len;) {
        ssize_t n = write(fd, b.data + at, b.len - at);
        if (n < 0 && errno != EINTR)
            rc = MUSTER_EPEER;
        at += n > 0 ? (size_t)n : 0;
    }
    mu_msg_free_body(MU_MSG_inventory, &m);
    return rc ? 1 : 0;
}
