#include "runtime/agent/vitals.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "runtime/agent/gpus.h"
#include "runtime/agent/inventory.h"
#include "runtime/agent/way.h"
#include "runtime/base/clean.h"
#include "runtime/base/clock.h"
#include "runtime/wire/daemon.h"

#define EVERY (10 * MU_SEC)
#define FIRST (500 * MU_MS)

struct mu_vitals {
    const struct mu_paths *paths;
    struct mu_way *const *way;
    struct mu_alarm *alarm;
    struct mu_inventory_teller *inventory;
    struct mu_gpus_teller *gpus;
};

/* The text's next line that begins with name, behind it; NULL: there is none. */
static const char *line_of(const char *text, const char *name)
{
    size_t n = strlen(name);

    for (; text; text = (text = strchr(text, '\n')) ? text + 1 : NULL)
        if (!strncmp(text, name, n))
            return text + n;
    return NULL;
}

static bool read_proc(const char *root, const char *name, struct mu_buf *out)
{
    char path[PATH_MAX];

    mu_buf_clear(out);
    snprintf(path, sizeof path, "%s/proc/%s", root, name);
    return !mu_path_read(path, 1 << 20, out, NULL);
}

/* "/a\040b" as /proc has it, into out. */
static void unescape(const char *in, size_t len, char *out, size_t n)
{
    size_t k = 0;

    for (size_t i = 0; i < len && k + 1 < n; i++) {
        unsigned c;
        if (in[i] == '\\' && i + 3 < len && sscanf(in + i + 1, "%3o", &c) == 1) {
            out[k++] = (char)c;
            i += 3;
        } else {
            out[k++] = in[i];
        }
    }
    out[k] = 0;
}

bool mu_vitals_local(const char *mountinfo, const char *path)
{
    static const char *const kinds[] = {"ext2", "ext3", "ext4",  "xfs",   "btrfs",   "zfs",      "f2fs",
                                        "jfs",  "vfat", "tmpfs", "ramfs", "overlay", "bcachefs", "reiserfs"};
    size_t longest = 0;
    bool local = false;

    for (const char *line = mountinfo, *end; line && *line; line = *end ? end + 1 : end) {
        char dir[PATH_MAX], kind[32];
        int from = 0, to = 0;
        end = line + strcspn(line, "\n");
        const char *rest = strstr(line, " - ");
        if (sscanf(line, "%*s %*s %*s %*s %n%*s%n", &from, &to) < 0 || !to || !rest || rest > end ||
            sscanf(rest, " - %31s", kind) != 1)
            continue;
        unescape(line + from, (size_t)(to - from), dir, sizeof dir);
        size_t n = strlen(dir);
        bool below = !strncmp(path, dir, n) && (n == 1 || !path[n] || path[n] == '/');
        if (!below || n < longest)
            continue;
        longest = n; /* what was mounted later lies above */
        local = false;
        for (size_t i = 0; i < MU_COUNT(kinds); i++)
            local = local || !strcmp(kind, kinds[i]);
    }
    return local;
}

static void disk(const char *mountinfo, const char *path, uint64_t *size, uint64_t *free)
{
    struct statvfs v;

    if (!mu_vitals_local(mountinfo, path) || statvfs(path, &v))
        return;
    *size = (uint64_t)v.f_blocks * v.f_frsize;
    *free = (uint64_t)v.f_bavail * v.f_frsize;
}

void mu_vitals_read(const char *root, const struct mu_paths *paths, struct mu_m_vitals *m)
{
    mu_auto_buf struct mu_buf b = {0};
    unsigned long long t[8] = {0}, kib;
    const char *at;
    double load;

    *m = (struct mu_m_vitals){0};
    if (read_proc(root, "loadavg", &b) && sscanf(mu_buf_str(&b), "%lf", &load) == 1 && load >= 0 && load < 1e6)
        m->load_milli = (uint32_t)(load * 1000);
    /* user nice system idle iowait irq softirq steal */
    if (read_proc(root, "stat", &b) && (at = line_of(mu_buf_str(&b), "cpu ")) &&
        sscanf(at, "%llu %llu %llu %llu %llu %llu %llu %llu", &t[0], &t[1], &t[2], &t[3], &t[4], &t[5], &t[6], &t[7]) >=
            4)
        m->busy_ns = (t[0] + t[1] + t[2] + t[5] + t[6] + t[7]) * (MU_SEC / (uint64_t)sysconf(_SC_CLK_TCK));
    if (read_proc(root, "meminfo", &b) && (at = line_of(mu_buf_str(&b), "MemAvailable:")) &&
        sscanf(at, "%llu", &kib) == 1)
        m->memory_free = (uint64_t)kib << 10;
    if (read_proc(root, "self/mountinfo", &b)) {
        disk(mu_buf_str(&b), paths->home, &m->home_size, &m->home_free);
        disk(mu_buf_str(&b), paths->run, &m->run_size, &m->run_free);
    }
}

static bool there_is(const char *root, const char *dir, const char *name, const char *what)
{
    char path[PATH_MAX];

    snprintf(path, sizeof path, "%s/sys/%s/%s%s", root, dir, name, what);
    return !access(path, F_OK);
}

static const char *next_line(const char *line)
{
    return (line = strchr(line, '\n')) ? line + 1 : NULL;
}

static void put_counts(uint32_t *v, const unsigned long long *c, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        v[2 * i] = (uint32_t)c[i];
        v[2 * i + 1] = (uint32_t)(c[i] >> 32);
    }
}

static unsigned nics(const char *root, const char *text, bool all, struct mu_nics *n)
{
    unsigned found = 0;

    for (const char *line = text; line && found < MU_NICS; line = next_line(line)) {
        unsigned long long c[MU_NIC_COUNTS];
        char name[MU_NIC_NAME];
        /* received: bytes packets errs drop fifo frame compressed multicast; sent: bytes packets errs drop */
        if (sscanf(line, " %15[^: \n]: %llu %*u %llu %llu %*u %*u %*u %*u %llu %*u %llu %llu", name, &c[MU_NIC_RX],
                   &c[MU_NIC_RX_ERRORS], &c[MU_NIC_RX_DROPS], &c[MU_NIC_TX], &c[MU_NIC_TX_ERRORS],
                   &c[MU_NIC_TX_DROPS]) != 1 + MU_NIC_COUNTS ||
            !strcmp(name, "lo") || strchr(name, '/') || !(all || there_is(root, "class/net", name, "/device")))
            continue;
        snprintf(n->names[found], sizeof n->names[found], "%s", name);
        put_counts(n->counts + (size_t)2 * MU_NIC_COUNTS * found, c, MU_NIC_COUNTS);
        n->list[found] = n->names[found];
        found++;
    }
    n->list[found] = NULL;
    return found;
}

void mu_vitals_nics(const char *root, struct mu_nics *n, struct mu_m_vitals *m)
{
    mu_auto_buf struct mu_buf b = {0};
    unsigned found = 0;

    if (read_proc(root, "self/net/dev", &b) && !(found = nics(root, mu_buf_str(&b), false, n)))
        found = nics(root, mu_buf_str(&b), true, n);
    m->nics = found ? n->list : NULL;
    m->nic_counts = (struct mu_u32v){.v = n->counts, .n = found * MU_NIC_COUNTS * 2};
}

static bool is_made(const char *disk)
{
    static const char *const kinds[] = {"loop", "ram", "zram"};

    for (size_t i = 0; i < MU_COUNT(kinds); i++)
        if (!strncmp(disk, kinds[i], strlen(kinds[i])))
            return true;
    return false;
}

/* Not their partitions: these have no place of their own in /sys/block. */
static unsigned disks(const char *root, const char *text, bool all, struct mu_disks *d)
{
    unsigned found = 0;

    for (const char *line = text; line && found < MU_DISKS; line = next_line(line)) {
        unsigned long long c[MU_DISK_COUNTS];
        char name[MU_DISK_NAME];
        /* major minor name; reads, merged, sectors, ms; writes, merged, sectors, ms; under way, ms of being busy */
        if (sscanf(line, "%*u %*u %31s %*u %*u %llu %*u %*u %*u %llu %*u %*u %llu", name, &c[MU_DISK_READ],
                   &c[MU_DISK_WRITTEN], &c[MU_DISK_BUSY]) != 1 + MU_DISK_COUNTS ||
            strchr(name, '/') || (all && is_made(name)) || !there_is(root, "block", name, all ? "" : "/device"))
            continue;
        c[MU_DISK_READ] *= 512; /* whatever the disk's own sectors are */
        c[MU_DISK_WRITTEN] *= 512;
        snprintf(d->names[found], sizeof d->names[found], "%s", name);
        put_counts(d->counts + (size_t)2 * MU_DISK_COUNTS * found, c, MU_DISK_COUNTS);
        d->list[found] = d->names[found];
        found++;
    }
    d->list[found] = NULL;
    return found;
}

void mu_vitals_disks(const char *root, struct mu_disks *d, struct mu_m_vitals *m)
{
    mu_auto_buf struct mu_buf b = {0};
    unsigned found = 0;

    if (read_proc(root, "diskstats", &b) && !(found = disks(root, mu_buf_str(&b), false, d)))
        found = disks(root, mu_buf_str(&b), true, d);
    m->disks = found ? d->list : NULL;
    m->disk_counts = (struct mu_u32v){.v = d->counts, .n = found * MU_DISK_COUNTS * 2};
}

static void on_alarm(void *arg)
{
    mu_auto_buf struct mu_buf b = {0};
    struct mu_vitals *v = arg;
    struct mu_m_vitals m;
    struct mu_nics nics;
    struct mu_disks disks;

    mu_alarm_set(v->alarm, mu_now() + EVERY);
    if (!*v->way)
        return;
    mu_vitals_read("", v->paths, &m);
    mu_vitals_nics("", &nics, &m);
    mu_vitals_disks("", &disks, &m);
    if (!mu_msg_encode(&b, MU_MSG_vitals, &m))
        mu_way_send(*v->way, b.data, b.len); /* who is not there now hears the next one */
    mu_inventory_teller_tick(v->inventory);
    mu_gpus_teller_tick(v->gpus);
}

struct mu_vitals *mu_vitals_new(struct event_base *base, const struct mu_paths *paths, struct mu_way *const *way)
{
    struct mu_vitals *v = calloc(1, sizeof *v);

    if (!v || !(v->alarm = mu_alarm_new(base, on_alarm, v)) || !(v->inventory = mu_inventory_teller_new(base, way)) ||
        !(v->gpus = mu_gpus_teller_new(base, way))) {
        mu_vitals_free(v);
        return NULL;
    }
    v->paths = paths;
    v->way = way;
    mu_alarm_set(v->alarm, mu_now() + FIRST);
    return v;
}

void mu_vitals_free(struct mu_vitals *v)
{
    if (!v)
        return;
    mu_gpus_teller_free(v->gpus);
    mu_inventory_teller_free(v->inventory);
    mu_alarm_free(v->alarm);
    free(v);
}
