/* Checks of libraries and programs: each library is loaded and asked for its version, as the runtime will do it. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "launcher/doctor.h"
#include "runtime/base/clean.h"
#include "runtime/base/clock.h"
#include "runtime/base/nvlib.h"
#include "runtime/base/str.h"
#include "topo/topo.h"

/* Function pointers from dlsym, in the form that POSIX blesses. */
#define SYMBOL(fn, handle, name) (*(void **)&(fn) = dlsym(handle, name))

struct lib {
    void *handle;
    char path[PATH_MAX];
};

/* Loads the library and finds one symbol in it. NULL: f says why, "none" when there is no such file at all. A file
 * that is there and does not load, for want of another one, is broken. */
static void *open_lib(struct mu_finding *f, struct lib *l, const char *name, const char *symbol)
{
    char why[400];
    void *sym;

    l->handle = dlopen(name, RTLD_LAZY | RTLD_LOCAL);
    if (!l->handle) {
        snprintf(why, sizeof why, "%s", dlerror());
        size_t len = strlen(name);
        bool absent = !strncmp(why, name, len) && strstr(why + len, "No such file or directory");
        mu_found(f, absent ? MU_HEALTH_NONE : MU_HEALTH_BAD, "%s%s", absent ? "none: " : "", why);
        return NULL;
    }
    if (!(sym = dlsym(l->handle, symbol))) {
        mu_found(f, MU_HEALTH_BAD, "%s has no %s", name, symbol);
        mu_found_fix(f, "another library bears this name, or it is too old; mend LD_LIBRARY_PATH or reinstall it");
        return NULL;
    }
    mu_nvlib_path(sym, l->path, sizeof l->path);
    return sym;
}

/* --- programs --------------------------------------------------------------------------------------------------- */

static bool find_program(const char *name, char out[PATH_MAX])
{
    const char *path = getenv("PATH");

    for (const char *p = path ? path : "/usr/bin:/bin"; *p; p += *p == ':') {
        int len = (int)strcspn(p, ":");
        if (len > 0 && len < 3000 && snprintf(out, PATH_MAX, "%.*s/%s", len, p, name) < PATH_MAX && !access(out, X_OK))
            return true;
        p += len;
    }
    return false;
}

/* First line that `program arg` prints within five seconds; "" when there is none. */
static void first_line(const char *program, const char *arg, char *out, size_t n)
{
    int fds[2];
    size_t got = 0;
    uint64_t deadline = mu_now() + 5 * MU_SEC;

    out[0] = '\0';
    if (pipe2(fds, O_CLOEXEC))
        return;
    pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        dup2(fds[1], STDOUT_FILENO);
        execl(program, program, arg, (char *)NULL);
        _exit(127);
    }
    close(fds[1]);
    while (pid > 0 && got + 1 < n && !memchr(out, '\n', got)) {
        struct pollfd p = {.fd = fds[0], .events = POLLIN};
        uint64_t now = mu_now();
        if (now >= deadline || poll(&p, 1, (int)((deadline - now) / MU_MS) + 1) <= 0)
            break;
        ssize_t k = read(fds[0], out + got, n - 1 - got);
        if (k <= 0)
            break;
        got += (size_t)k;
    }
    close(fds[0]);
    out[got] = '\0';
    out[strcspn(out, "\n")] = '\0';
    if (pid > 0) {
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
    }
}

/* --- what is required ------------------------------------------------------------------------------------------- */

/* "4.1.4" out of "Open MPI v4.1.4, package: ..." and "mpirun (Open MPI) 4.1.4". */
static void version_in(const char *text, char *out, size_t n)
{
    const char *p = strpbrk(text, "0123456789");

    snprintf(out, n, "%.*s", p ? (int)strspn(p, "0123456789.") : 0, p ? p : "");
}

void mu_doctor_mpi(struct mu_finding *f, const char *sys)
{
    static const char install[] =
        "install Open MPI 4.1 or 5 (Debian: apt install libopenmpi-dev openmpi-bin), or put its "
        "lib directory into LD_LIBRARY_PATH";
    char mpirun[PATH_MAX], beside[PATH_MAX + 32], line[256], text[1024] = "", ours[32], theirs[32];
    int (*get)(char *, int *), len = 0;
    bool have_mpirun = find_program("mpirun", mpirun);
    struct lib l;

    (void)sys;
    *(void **)&get = open_lib(f, &l, "libmpi.so.40", "MPI_Get_library_version");
    if (!get && f->health == MU_HEALTH_NONE && have_mpirun) {
        /* An Open MPI with a prefix of its own is on PATH more often than in the loader's cache. */
        mu_auto_free char *real = realpath(mpirun, NULL);
        char *slash = real ? strrchr(real, '/') : NULL;
        if (slash) {
            *slash = '\0';
            snprintf(beside, sizeof beside, "%s/../lib/libmpi.so.40", real);
            if (!access(beside, R_OK))
                *(void **)&get = open_lib(f, &l, beside, "MPI_Get_library_version");
        }
    }
    if (!get) {
        if (!f->fix[0])
            mu_found_fix(f, "%s", install);
        return;
    }
    /* One of the few calls that are allowed before MPI_Init. */
    if (get(text, &len) || !strstr(text, "Open MPI")) {
        mu_found(f, MU_HEALTH_BAD, "%s is not Open MPI: %.80s", l.path, text);
        mu_found_fix(f, "%s", install);
        return;
    }
    text[strcspn(text, ",")] = '\0';
    version_in(text, ours, sizeof ours);
    if (!have_mpirun) {
        mu_found(f, MU_HEALTH_OK, "%s, %s; no mpirun on PATH (muster does not need it)", text, l.path);
        return;
    }
    first_line(mpirun, "--version", line, sizeof line);
    version_in(line, theirs, sizeof theirs);
    if (!strcmp(ours, theirs)) {
        mu_found(f, MU_HEALTH_OK, "%s, %s; mpirun %s", text, l.path, mpirun);
        return;
    }
    mu_found(f, MU_HEALTH_OK, "%s, %s; mpirun %s says '%.60s'", text, l.path, mpirun, line);
    mu_found_fix(f, "mpirun is of another installation: programs built with its mpicc may load another libmpi here");
}

void mu_doctor_pmix(struct mu_finding *f, const char *sys)
{
    struct lib l;
    const char *(*get)(void);

    (void)sys;
    *(void **)&get = open_lib(f, &l, "libpmix.so.2", "PMIx_Get_version");
    if (!get) {
        if (!f->fix[0])
            mu_found_fix(f, "install PMIx 4 or later (Debian: apt install libpmix2)");
        return;
    }
    const char *v = get();
    size_t len = strcspn(v, ",(\n");
    while (len && v[len - 1] == ' ')
        len--;
    mu_found(f, MU_HEALTH_OK, "%.*s, %s", (int)len, v, l.path);
}

void mu_doctor_hwloc(struct mu_finding *f, const char *sys)
{
    struct mu_topo *t;
    struct mu_err err = {0};
    struct mu_topo_counts n;
    char version[32] = "", path[PATH_MAX], memory[32];

    (void)sys;
    mu_nvlib_path(dlsym(RTLD_DEFAULT, "hwloc_topology_init"), path, sizeof path);
    if (mu_topo_hwloc_version(version, sizeof version)) {
        mu_found(f, MU_HEALTH_BAD, "%s does not start", path);
        mu_found_fix(f, "reinstall hwloc (Debian: apt install --reinstall libhwloc15)");
        return;
    }
    if (mu_topo_load(MU_TOPO_LIVE, NULL, 0, &t, &err)) {
        mu_found(f, MU_HEALTH_BAD, "%s, %s; %s", version, path, err.text);
        mu_found_fix(f, "`lstopo` shows what hwloc sees; look at the cgroup, the affinity mask and HWLOC_* variables");
        return;
    }
    mu_topo_count(t, &n);
    mu_found(f, MU_HEALTH_OK, "%s, %s; may use %d core%s, %d PU%s, %d NUMA node%s, %s", version, path, n.cores,
             n.cores == 1 ? "" : "s", n.pus, n.pus == 1 ? "" : "s", n.nodes, n.nodes == 1 ? "" : "s",
             mu_str_fmt_size(memory, sizeof memory, n.memory));
    mu_topo_free(t);
}

/* --- what is optional ------------------------------------------------------------------------------------------- */

void mu_doctor_ucx(struct mu_finding *f, const char *sys)
{
    struct lib l;
    const char *(*get)(void);

    (void)sys;
    *(void **)&get = open_lib(f, &l, "libucp.so.0", "ucp_get_version_string");
    if (get)
        mu_found(f, MU_HEALTH_OK, "%.40s, %s", get(), l.path);
}

/* The library as a rank would load it, and one symbol in it. NULL: f says why. */
static void *open_nv(struct mu_finding *f, enum mu_nvlib which, const char *symbol, struct lib *l)
{
    struct mu_err err;
    void *sym;

    if (mu_nvlib_open(which, &l->handle, &err) < 0) {
        bool absent = err.code == MUSTER_ENOSYS;
        mu_found(f, absent ? MU_HEALTH_NONE : MU_HEALTH_BAD, "%s%s", absent ? "none: " : "", err.text);
        return NULL;
    }
    if (mu_nvlib_symbol(which, l->handle, symbol, &sym, &err) < 0) {
        mu_found(f, MU_HEALTH_BAD, "%s", err.text);
        mu_found_fix(f, "mend LD_LIBRARY_PATH or reinstall it");
        return NULL;
    }
    mu_nvlib_path(sym, l->path, sizeof l->path);
    return sym;
}

void mu_doctor_nccl(struct mu_finding *f, const char *sys)
{
    /* As collectives/nccl/api.h has it. */
    static const char *const needed[] = {"ncclCommInitRankConfig",
                                         "ncclCommAbort",
                                         "ncclCommGetAsyncError",
                                         "ncclAllReduce",
                                         "ncclGetErrorString",
                                         "ncclGetLastError",
                                         "ncclGetUniqueId",
                                         "ncclCommFinalize",
                                         "ncclCommDestroy",
                                         "ncclGroupStart",
                                         "ncclGroupEnd",
                                         "ncclReduce",
                                         "ncclReduceScatter",
                                         "ncclAllGather",
                                         "ncclBroadcast",
                                         "ncclSend",
                                         "ncclRecv"};
    struct lib l;
    struct mu_err err;
    char text[32];
    int (*get)(int *), v = 0;
    void *sym;

    (void)sys;
    *(void **)&get = open_nv(f, MU_NVLIB_NCCL, "ncclGetVersion", &l);
    if (!get)
        return;
    if (get(&v)) {
        mu_found(f, MU_HEALTH_BAD, "%s does not tell its version", l.path);
        return;
    }
    if (mu_nvlib_nccl_version(v, l.path, text, sizeof text, &err) < 0) {
        mu_found(f, MU_HEALTH_BAD, "%s", err.text);
        mu_found_fix(f, "install NCCL 2.18 or later; another one may be named with MUSTER_NCCL_LIB");
        return;
    }
    for (size_t i = 0; i < MU_COUNT(needed); i++)
        if (mu_nvlib_symbol(MU_NVLIB_NCCL, l.handle, needed[i], &sym, &err) < 0) {
            mu_found(f, MU_HEALTH_BAD, "%s", err.text);
            mu_found_fix(f, "mend LD_LIBRARY_PATH or reinstall it");
            return;
        }
    mu_found(f, MU_HEALTH_OK, "%s, %s", text, l.path);
}

void mu_doctor_cuda(struct mu_finding *f, const char *sys)
{
    enum { NO_DEVICE = 100 };
    struct lib l;
    int (*version)(int *), (*init)(unsigned), (*name)(int, const char **), v = 0;

    (void)sys;
    *(void **)&version = open_nv(f, MU_NVLIB_CUDA, "cuDriverGetVersion", &l);
    if (!version)
        return;
    int rc = version(&v);
    if (!rc && SYMBOL(init, l.handle, "cuInit"))
        rc = init(0);
    if (!rc) {
        mu_found(f, MU_HEALTH_OK, "CUDA %d.%d, %s", v / 1000, v % 1000 / 10, l.path);
        return;
    }
    const char *text = "unknown error";
    if (SYMBOL(name, l.handle, "cuGetErrorName"))
        name(rc, &text);
    if (rc == NO_DEVICE) {
        mu_found(f, MU_HEALTH_NONE, "none: CUDA %d.%d is installed (%s), but this process sees no device", v / 1000,
                 v % 1000 / 10, l.path);
        return;
    }
    mu_found(f, MU_HEALTH_BAD, "%s does not start: error %d, %s", l.path, rc, text);
    mu_found_fix(
        f, "look at nvidia-smi and dmesg; after an update of the driver its modules must be loaded anew (reboot); "
           "machines with NVSwitch need nvidia-fabricmanager running");
}

/* Our own, for what NCCL does not do: buckets that go between GPUs as 16 bits. */
void mu_doctor_kernels(struct mu_finding *f, const char *sys)
{
    const void *(*give)(void);
    struct lib l;

    (void)sys;
    *(void **)&give = open_nv(f, MU_NVLIB_KERNELS, MU_KERNELS_SYMBOL, &l);
    if (give && give()) {
        mu_found(f, MU_HEALTH_OK, "%s", l.path);
        return;
    }
    if (give)
        mu_found(f, MU_HEALTH_BAD, "GPU kernels: %s does not give them: it is of another build", l.path);
    if (f->health == MU_HEALTH_NONE)
        mu_found(f, MU_HEALTH_NONE,
                 "none: libmuster_cuda.so was not built (no nvcc): buckets in GPU memory cannot go as 16 bits");
    else
        mu_found_fix(f, "install libmuster_cuda.so of the same build as libmuster.so, beside it");
}
