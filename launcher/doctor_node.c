/* Checks of the machine: devices, limits, file systems, kernel settings. */
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#include "launcher/access_load.h"
#include "launcher/backup.h"
#include "launcher/doctor.h"
#include "launcher/store.h"
#include "runtime/agent/gpus.h"
#include "runtime/base/clean.h"
#include "runtime/base/nvlib.h"
#include "runtime/base/path.h"
#include "runtime/base/str.h"
#include "runtime/keeper/room.h"
#include "topo/topo.h"

#define MIB (UINT64_C(1) << 20)

/* First line of a small file; false when it cannot be read. */
static bool line_of(char *out, size_t n, const char *fmt, ...) MU_PRINTF(3, 4);
static bool line_of(char *out, size_t n, const char *fmt, ...)
{
    char path[PATH_MAX];
    mu_auto_buf struct mu_buf text = {0};
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(path, sizeof path, fmt, ap);
    va_end(ap);
    if (mu_path_read(path, 65536, &text, NULL))
        return false;
    const char *s = mu_buf_str(&text);
    snprintf(out, n, "%.*s", (int)strcspn(s, "\n"), s);
    return true;
}

/* --- devices ---------------------------------------------------------------------------------------------------- */

/* Display controllers and accelerators of a vendor on PCI: there whatever the driver thinks of them. */
static int pci_gpus(const char *sys, const char *vendor)
{
    char path[PATH_MAX], text[64];
    int n = 0;

    snprintf(path, sizeof path, "%s/bus/pci/devices", sys);
    mu_auto_dir DIR *d = opendir(path);
    for (struct dirent *e; d && (e = readdir(d));) {
        if (e->d_name[0] == '.' || !line_of(text, sizeof text, "%s/%s/vendor", path, e->d_name) ||
            strcmp(text, vendor) || !line_of(text, sizeof text, "%s/%s/class", path, e->d_name))
            continue;
        unsigned long class = strtoul(text, NULL, 16) >> 8;
        n += class == 0x0300 || class == 0x0302 || class == 0x0380 || class == 0x1200;
    }
    return n;
}

struct nvml {
    int (*init)(void), (*count)(unsigned *), (*handle)(unsigned, void **), (*name)(void *, char *, unsigned),
        (*driver)(char *, unsigned);
    const char *(*error)(int);
};

static bool open_nvml(struct nvml *n, char *why, size_t len)
{
    struct mu_err err;
    void *h;
    const struct {
        void *fn;
        const char *name;
    } rows[] = {
        {&n->init, "nvmlInit_v2"},
        {&n->count, "nvmlDeviceGetCount_v2"},
        {&n->handle, "nvmlDeviceGetHandleByIndex_v2"},
        {&n->name, "nvmlDeviceGetName"},
        {&n->driver, "nvmlSystemGetDriverVersion"},
        {&n->error, "nvmlErrorString"},
    };

    int rc;

    rc = mu_nvlib_open(MU_NVLIB_NVML, &h, &err);
    for (size_t i = 0; rc == 0 && i < MU_COUNT(rows); i++)
        rc = mu_nvlib_symbol(MU_NVLIB_NVML, h, rows[i].name, rows[i].fn, &err);
    if (rc < 0)
        snprintf(why, len, "%.299s", err.text);
    return rc == 0;
}

/* "8 x NVIDIA H200, 1 x ..." of neighbouring equal names. */
static int name_gpus(const struct nvml *n, unsigned count, struct mu_buf *out)
{
    char last[96] = "";
    unsigned run = 0;

    for (unsigned i = 0; i <= count; i++) {
        char name[96] = "";
        void *dev;
        int rc = 0;
        if (i < count && ((rc = n->handle(i, &dev)) || (rc = n->name(dev, name, sizeof name))))
            return rc;
        if (run && (i == count || strcmp(name, last))) {
            mu_buf_appendf(out, "%s%u x %s", out->len ? ", " : "", run, last);
            run = 0;
        }
        memcpy(last, name, sizeof last);
        run++;
    }
    return 0;
}

/* What is not as it should be, or "". True: it cannot do what it should. */
static bool unwell(char *out, size_t size)
{
    struct mu_gpus_asked *g;
    struct mu_m_gpus m;

    if (mu_gpus_open(&g, out, size) || !g)
        return false;
    int rc = mu_gpus_ask(g, &m);
    mu_gpus_close(g);
    if (rc)
        return false;
    mu_gpus_fault(&m, out, size);
    bool fault = *out;
    mu_gpus_trouble(&m, out, size);
    mu_msg_free_body(MU_MSG_gpus, &m);
    return fault;
}

void mu_doctor_gpus(struct mu_finding *f, const char *sys)
{
    int nvidia = pci_gpus(sys, "0x10de"), amd = pci_gpus(sys, "0x1002");
    char why[300], driver[80] = "?", others[64] = "", path[300], state[MU_GPUS_TROUBLE];
    mu_auto_buf struct mu_buf names = {0};
    struct nvml n;
    unsigned count = 0;
    int rc;

    if (amd)
        snprintf(others, sizeof others, "%d AMD on PCI (no driver of theirs is asked)", amd);
    if (!open_nvml(&n, why, sizeof why)) {
        if (nvidia) {
            mu_found(f, MU_HEALTH_BAD, "%d NVIDIA on PCI, but %s", nvidia, why);
            mu_found_fix(f, "install the NVIDIA driver (in a container: run it with the NVIDIA runtime)");
        } else if (amd) {
            mu_found(f, MU_HEALTH_OK, "%s", others);
        } else {
            mu_found(f, MU_HEALTH_NONE, "none: no GPU on PCI, %s", why);
        }
        return;
    }
    if ((rc = n.init()) || (rc = n.count(&count)) || (rc = name_gpus(&n, count, &names))) {
        bool there = nvidia || !access("/dev/nvidiactl", F_OK);
        mu_found(f, there ? MU_HEALTH_BAD : MU_HEALTH_NONE, "%slibnvidia-ml.so.1: %s (error %d)",
                 there ? "" : "none: ", n.error(rc), rc);
        if (there)
            mu_found_fix(f,
                         "look at nvidia-smi and dmesg; after an update of the driver its modules must be loaded anew "
                         "(reboot)");
        return;
    }
    if (!count) {
        mu_found(f, nvidia ? MU_HEALTH_BAD : MU_HEALTH_NONE, "%sthe driver shows no GPU (%d NVIDIA on PCI)",
                 nvidia ? "" : "none: ", nvidia);
        return;
    }
    n.driver(driver, sizeof driver);
    bool fault = unwell(state, sizeof state);
    mu_nvlib_path(*(void **)&n.init, path, sizeof path);
    mu_found(f, fault ? MU_HEALTH_BAD : MU_HEALTH_OK, "%s, driver %s, %s%s%s%s%s", mu_buf_str(&names), driver, path,
             others[0] ? "; " : "", others, state[0] ? "; " : "", state);
    if (fault)
        mu_found_fix(f,
                     "reset the GPU (nvidia-smi -r) or have it replaced; `muster nodes drain` keeps jobs off the node "
                     "until then");
    if (nvidia > (int)count) {
        f->health = MU_HEALTH_BAD;
        mu_found_fix(f,
                     "PCI has %d NVIDIA GPUs and the driver shows %u: one may have fallen off the bus (dmesg, Xid), or "
                     "this container was given only some",
                     nvidia, count);
    }
}

void mu_doctor_infiniband(struct mu_finding *f, const char *sys)
{
    char path[PATH_MAX], ports[PATH_MAX + 300];
    mu_auto_buf struct mu_buf text = {0};
    int devices = 0, up = 0;

    snprintf(path, sizeof path, "%s/class/infiniband", sys);
    mu_auto_dir DIR *d = opendir(path);
    for (struct dirent *e; d && (e = readdir(d));) {
        if (e->d_name[0] == '.')
            continue;
        devices++;
        snprintf(ports, sizeof ports, "%s/%s/ports", path, e->d_name);
        mu_auto_dir DIR *pd = opendir(ports);
        for (struct dirent *p; pd && (p = readdir(pd));) {
            char state[64] = "?", rate[64] = "?", link[64] = "?", firmware[64] = "?";
            if (p->d_name[0] == '.')
                continue;
            line_of(state, sizeof state, "%s/%s/state", ports, p->d_name);
            line_of(rate, sizeof rate, "%s/%s/rate", ports, p->d_name);
            line_of(link, sizeof link, "%s/%s/link_layer", ports, p->d_name);
            line_of(firmware, sizeof firmware, "%s/%s/fw_ver", path, e->d_name);
            up += strstr(state, "ACTIVE") != NULL;
            const char *colon = strstr(state, ": ");
            mu_buf_appendf(&text, "%s%.32s/%.8s %s %s %s fw %s", text.len ? ", " : "", e->d_name, p->d_name, link,
                           colon ? colon + 2 : state, rate, firmware);
        }
    }
    if (!devices) {
        mu_found(f, MU_HEALTH_NONE, "none: no device in %s", path);
        return;
    }
    mu_found(f, up ? MU_HEALTH_OK : MU_HEALTH_BAD, "%d device%s, %d port%s up: %s", devices, devices == 1 ? "" : "s",
             up, up == 1 ? "" : "s", mu_buf_str(&text));
    if (!up)
        mu_found_fix(f, "no port is ACTIVE: look at cables and at the subnet manager (ibstat, ibdiagnet)");
}

/* --- limits ----------------------------------------------------------------------------------------------------- */

static const char *limit_text(char *buf, size_t n, rlim_t v, bool bytes)
{
    if (v == RLIM_INFINITY)
        snprintf(buf, n, "unlimited");
    else if (bytes)
        mu_str_fmt_size(buf, n, v);
    else
        snprintf(buf, n, "%llu", (unsigned long long)v);
    return buf;
}

void mu_doctor_limits(struct mu_finding *f, const char *sys)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/class/infiniband", sys);
    bool rdma = !access(path, F_OK);
    /* Locked memory matters where adapters read it; open files is raised to the hard limit by the daemons. */
    const struct {
        const char *name, *fix;
        int resource;
        bool bytes, hard;
        rlim_t least;
    } rows[] = {
        {"open files", "ulimit -n 65536 (limits.conf: nofile; systemd: LimitNOFILE)", RLIMIT_NOFILE, false, true, 1024},
        {"processes", "ulimit -u 4096 (limits.conf: nproc; systemd: TasksMax)", RLIMIT_NPROC, false, false, 256},
        {"locked memory", "ulimit -l unlimited (limits.conf: memlock; systemd: LimitMEMLOCK=infinity)", RLIMIT_MEMLOCK,
         true, false, rdma ? 64 * MIB : 0},
    };
    mu_auto_buf struct mu_buf text = {0};
    char a[32];
    bool bad = false;

    for (size_t i = 0; i < MU_COUNT(rows); i++) {
        struct rlimit r;
        if (getrlimit((__rlimit_resource_t)rows[i].resource, &r))
            continue;
        rlim_t v = rows[i].hard ? r.rlim_max : r.rlim_cur;
        bool low = v != RLIM_INFINITY && v < rows[i].least;
        mu_buf_appendf(&text, "%s%s %s%s", text.len ? ", " : "", rows[i].name,
                       limit_text(a, sizeof a, v, rows[i].bytes), low ? " (too low)" : "");
        if (low && !bad)
            mu_found_fix(f, "%s", rows[i].fix);
        bad |= low;
    }
    mu_found(f, bad ? MU_HEALTH_BAD : MU_HEALTH_OK, "%s", mu_buf_str(&text));
}

/* A directory that must take files, with this much room. */
static void check_dir(struct mu_finding *f, const char *dir, uint64_t least, const char *fix)
{
    char all[32], left[32];
    struct statvfs v;

    if (statvfs(dir, &v) || access(dir, W_OK | X_OK)) {
        mu_found(f, MU_HEALTH_BAD, "%s: %s", dir, strerror(errno));
        mu_found_fix(f, "%s", fix);
        return;
    }
    uint64_t room = (uint64_t)v.f_bavail * v.f_frsize;
    bool low = room < least;
    mu_found(f, low ? MU_HEALTH_BAD : MU_HEALTH_OK, "%s: %s free of %s%s", dir,
             mu_str_fmt_size(left, sizeof left, room),
             mu_str_fmt_size(all, sizeof all, (uint64_t)v.f_blocks * v.f_frsize), low ? " (too little)" : "");
    if (low)
        mu_found_fix(f, "%s", fix);
}

void mu_doctor_shm(struct mu_finding *f, const char *sys)
{
    static const char fix[] =
        "ranks of one node exchange data there: free some of it, or enlarge it (docker run --shm-size=2g, Kubernetes: "
        "an emptyDir with medium Memory, else: mount -o remount,size=50% /dev/shm)";
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    uint64_t ranks = cpus > 0 ? (uint64_t)cpus : 1, want = ranks * MU_ROOM_RANK;
    struct statvfs v;
    char size[32];

    (void)sys;
    check_dir(f, MU_ROOM_SHM, 32 * MIB, fix);
    if (f->health != MU_HEALTH_OK || statvfs(MU_ROOM_SHM, &v))
        return;
    want = want > 64 * MIB ? want : 64 * MIB;
    if ((uint64_t)v.f_bavail * v.f_frsize >= want)
        return;
    size_t n = strlen(f->found);
    snprintf(f->found + n, sizeof f->found - n, " (little; %s is better, for a rank on each core)",
             mu_str_fmt_size(size, sizeof size, want));
    mu_found_fix(f, "%s", fix);
}

void mu_doctor_tmp(struct mu_finding *f, const char *sys)
{
    (void)sys;
    check_dir(f, "/tmp", 16 * MIB, "sockets and session files of the ranks live there: make it writable, make room");
}

/* Is the directory at least as young as this file time? */
static bool younger(const char *path, const struct timespec *than)
{
    struct stat st;

    return !lstat(path, &st) && (st.st_ctim.tv_sec > than->tv_sec ||
                                 (st.st_ctim.tv_sec == than->tv_sec && st.st_ctim.tv_nsec >= than->tv_nsec));
}

/* How much of a path is there already. */
static size_t part_there(const char *path)
{
    char part[PATH_MAX];
    size_t n = strlen(path);

    for (snprintf(part, sizeof part, "%s", path); n > 1 && access(part, F_OK); part[n] = '\0')
        n = (size_t)(strrchr(part, '/') - part);
    return n;
}

static void check_state(struct mu_finding *f)
{
    enum { NFS = 0x6969, KEEP = 32 };
    static const char fix[] = "point MUSTER_HOME at a directory of yours with room, on a local disk if there is one";
    struct mu_err err = {0};
    struct mu_paths p;
    struct statvfs v;
    struct statfs fs;
    struct timespec before;
    char probe[PATH_MAX], left[32];
    bool nfs;

    clock_gettime(CLOCK_REALTIME_COARSE, &before);
    if (mu_paths_init(&p, &err)) {
        mu_found(f, MU_HEALTH_BAD, "%s", err.text);
        mu_found_fix(f, "%s", fix);
        return;
    }
    /* A pool that runs has its sockets in there; directories that only this check made go again, but never the root
     * that somebody chose. */
    const char *root = getenv("MUSTER_RUN_ROOT");
    if (younger(p.run, &before))
        for (int up = root && *root ? 2 : 3; up > 0 && !rmdir(p.run); up--)
            *strrchr(p.run, '/') = '\0';
    snprintf(probe, sizeof probe, "%.*s/.doctor-%d", PATH_MAX - KEEP, p.state, (int)getpid());
    int rc = mu_path_write_atomic(probe, "x", 1, 0600, &err);
    unlink(probe);
    if (rc) {
        mu_found(f, MU_HEALTH_BAD, "%s: %s", p.state, err.text);
        mu_found_fix(f, "%s", fix);
        return;
    }
    if (mu_path_join(probe, sizeof probe, p.state, "jobs.db", &err) ||
        (mu_store_look(probe, &err) && !mu_backup_any(p.state))) {
        mu_found(f, MU_HEALTH_BAD, "%s", err.text);
        mu_found_fix(f, "as that says");
        return;
    }
    uint64_t room = statvfs(p.state, &v) ? 0 : (uint64_t)v.f_bavail * v.f_frsize;
    nfs = !statfs(p.state, &fs) && fs.f_type == NFS;
    bool low = room < 16 * MIB;
    mu_found(f, low ? MU_HEALTH_BAD : MU_HEALTH_OK, "%s: writable, %s free%s%s", p.state,
             mu_str_fmt_size(left, sizeof left, room), low ? " (too little)" : "", nfs ? ", on NFS" : "");
    if (low || nfs)
        mu_found_fix(f, "%s", fix);
}

/* What only the check has made of the state directory goes again. */
void mu_doctor_state(struct mu_finding *f, const char *sys)
{
    struct mu_paths p;
    size_t there = mu_paths_find(&p, NULL) ? SIZE_MAX : part_there(p.state);

    (void)sys;
    check_state(f);
    while (there != SIZE_MAX && strlen(p.state) > there && !rmdir(p.state))
        *strrchr(p.state, '/') = '\0';
}

/* What the controller would make of the file now; what it has made of it is in its log. */
void mu_doctor_access(struct mu_finding *f, const char *sys)
{
    struct mu_access_stamp stamp;
    struct mu_err err = {0};
    struct mu_access a;
    struct mu_paths p;

    (void)sys;
    mu_access_defaults(&a);
    int rc = mu_paths_find(&p, &err) ? 1 : mu_access_load(p.home, &a, &stamp, &err);
    const char *unknown = rc ? NULL : mu_access_unknown(&a);
    if (rc < 0) {
        mu_found(f, MU_HEALTH_BAD, "%s", err.text);
        mu_found_fix(f,
                     "mend the file: until then the controller keeps the rules that it had, or lets its own account in "
                     "alone");
    } else if (rc || !stamp.there) {
        mu_found(f, MU_HEALTH_NONE, "none: the pool's own account alone is let in");
    } else {
        mu_found(f, MU_HEALTH_OK, "%s/access: %u rule%s, others: %s, %s%s%s%s%s", p.home, a.n, a.n == 1 ? "" : "s",
                 mu_role_name((enum mu_role)a.others), *a.socket ? "at " : "no socket", a.socket,
                 unknown ? "; nobody here is called '" : "", unknown ? unknown : "", unknown ? "'" : "");
    }
    mu_access_free(&a);
}

/* --- kernel ----------------------------------------------------------------------------------------------------- */

/* Our directory in cgroup v2, from the line "0::/path"; false without one. */
static bool own_cgroup(const char *sys, char *out, size_t n)
{
    mu_auto_buf struct mu_buf text = {0};

    if (mu_path_read("/proc/self/cgroup", 65536, &text, NULL))
        return false;
    const char *s = mu_buf_str(&text), *p = !strncmp(s, "0::", 3) ? s : strstr(s, "\n0::");
    if (!p)
        return false;
    p = strchr(p, '/');
    snprintf(out, n, "%s/fs/cgroup%.*s", sys, p ? (int)strcspn(p, "\n") : 0, p ? p : "");
    return true;
}

void mu_doctor_cgroup(struct mu_finding *f, const char *sys)
{
    char dir[PATH_MAX], cpu[64] = "max", memory[64] = "max", size[32];
    mu_auto_buf struct mu_buf text = {0};
    unsigned long long quota, period;
    uint64_t bytes;
    char probe[64];

    if (!line_of(probe, sizeof probe, "%s/fs/cgroup/cgroup.controllers", sys)) {
        snprintf(dir, sizeof dir, "%s/fs/cgroup/cpu", sys);
        if (!access(dir, F_OK))
            mu_found(f, MU_HEALTH_OK, "v1; a CPU quota is not looked for");
        else
            mu_found(f, MU_HEALTH_NONE, "none: no cgroups in %s/fs/cgroup", sys);
        return;
    }
    mu_buf_puts(&text, "v2");
    if (own_cgroup(sys, dir, sizeof dir)) {
        line_of(cpu, sizeof cpu, "%s/cpu.max", dir);
        line_of(memory, sizeof memory, "%s/memory.max", dir);
    }
    if (sscanf(cpu, "%llu %llu", &quota, &period) == 2 && period) {
        mu_buf_appendf(&text, ", CPU quota %.1f CPUs", (double)quota / (double)period);
        mu_found_fix(f,
                     "a quota stops ranks in the middle of a step; pin the job by a cpuset instead, or start no more "
                     "ranks than the quota");
    }
    if (!mu_str_u64(memory, 0, UINT64_MAX, &bytes))
        mu_buf_appendf(&text, ", memory limit %s", mu_str_fmt_size(size, sizeof size, bytes));
    mu_found(f, MU_HEALTH_OK, "%s", mu_buf_str(&text));
}

void mu_doctor_ptrace(struct mu_finding *f, const char *sys)
{
    static const char *const scopes[] = {"off", "children only", "administrators only", "nobody"};
    char text[16];
    uint64_t v;

    (void)sys;
    if (!line_of(text, sizeof text, "/proc/sys/kernel/yama/ptrace_scope") || mu_str_u64(text, 0, 3, &v)) {
        mu_found(f, MU_HEALTH_NONE, "none: Yama does not restrict ptrace here");
        return;
    }
    mu_found(f, MU_HEALTH_OK, "Yama ptrace_scope %d (%s)", (int)v, scopes[v]);
    if (v)
        mu_found_fix(f, "to let ranks copy from one another's memory: sysctl kernel.yama.ptrace_scope=0");
}

void mu_doctor_governor(struct mu_finding *f, const char *sys)
{
    char first[64], text[64];
    int n = 0, other = 0;

    if (!line_of(first, sizeof first, "%s/devices/system/cpu/cpu0/cpufreq/scaling_governor", sys)) {
        mu_found(f, MU_HEALTH_NONE, "none: no frequency scaling to be seen (usual in virtual machines)");
        return;
    }
    for (int i = 0; i < MU_CPUSET_MAX; i++) {
        if (!line_of(text, sizeof text, "%s/devices/system/cpu/cpu%d/cpufreq/scaling_governor", sys, i))
            break;
        n++;
        other += strcmp(text, first) != 0;
    }
    mu_found(f, MU_HEALTH_OK, "%s on %d of %d CPUs", first, n - other, n);
    if (strcmp(first, "performance") || other)
        mu_found_fix(f, "for steady step times: cpupower frequency-set -g performance");
}
