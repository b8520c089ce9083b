/* Devices: what NVIDIA's library and the kernel's log say of GPUs, what the kernel says of InfiniBand ports. */
#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/agent/check.h"
#include "runtime/base/clean.h"
#include "runtime/base/nvlib.h"
#include "runtime/base/str.h"
#include "runtime/wire/gpus.h"

enum { NOT_SUPPORTED = 3, NO_PERMISSION = 4, UNCORRECTED = 1, SINCE_DRIVER = 0 };
enum { LOG_MAX_BYTES = 16 << 20 };

/* --- GPUs ----------------------------------------------------------------------------------------------------------
 */

struct nvml {
    int (*init)(void), (*shutdown)(void), (*count)(unsigned *), (*handle)(unsigned, void **);
    const char *(*error)(int);
    int (*ecc)(void *, int, int, unsigned long long *); /* this and what follows may be missing */
    int (*rows)(void *, unsigned *, unsigned *, unsigned *, unsigned *);
    int (*pages)(void *, int *);
};

static unsigned gpus_on_pci(const struct mu_check *c)
{
    char dir[PATH_MAX], vendor[16], class[16];
    struct dirent *e;
    unsigned n = 0;

    snprintf(dir, sizeof dir, "%s/sys/bus/pci/devices", c->root);
    DIR *d = opendir(dir);
    while (d && (e = readdir(d))) {
        if (e->d_name[0] == '.' ||
            mu_check_text(c, vendor, sizeof vendor, "/sys/bus/pci/devices/%s/vendor", e->d_name) ||
            strcmp(vendor, "0x10de") != 0 ||
            mu_check_text(c, class, sizeof class, "/sys/bus/pci/devices/%s/class", e->d_name))
            continue;
        unsigned long kind = strtoul(class, NULL, 16) >> 8;
        n += kind == 0x0300 || kind == 0x0302;
    }
    if (d)
        closedir(d);
    return n;
}

static bool open_nvml(struct nvml *n)
{
    void *h = NULL;
    const struct {
        void *fn;
        const char *name;
        bool must;
    } symbols[] = {
        {&n->init, "nvmlInit_v2", true},
        {&n->shutdown, "nvmlShutdown", true},
        {&n->count, "nvmlDeviceGetCount_v2", true},
        {&n->handle, "nvmlDeviceGetHandleByIndex_v2", true},
        {&n->error, "nvmlErrorString", true},
        {&n->ecc, "nvmlDeviceGetTotalEccErrors", false},
        {&n->rows, "nvmlDeviceGetRemappedRows", false},
        {&n->pages, "nvmlDeviceGetRetiredPagesPendingStatus", false},
    };
    bool all = !mu_nvlib_open(MU_NVLIB_NVML, &h, NULL);

    for (size_t i = 0; i < MU_COUNT(symbols) && all; i++)
        all = (*(void **)symbols[i].fn = dlsym(h, symbols[i].name)) || !symbols[i].must;
    return all;
}

static void look_at_gpu(const struct nvml *n, unsigned i, struct mu_check_found *f)
{
    unsigned corrected, uncorrected, pending, failed;
    unsigned long long errors;
    void *dev;
    int waits, rc = n->handle(i, &dev);

    if (rc == NO_PERMISSION) /* another container's */
        return;
    if (rc)
        mu_check_worse(f, MU_LEVEL_FAIL, "GPU %u: %s", i, n->error(rc));
    if (rc)
        return;
    if (n->ecc && !n->ecc(dev, UNCORRECTED, SINCE_DRIVER, &errors) && errors)
        mu_check_worse(f, MU_LEVEL_FAIL, "GPU %u: %llu memory errors could not be corrected", i, errors);
    if (n->rows && !n->rows(dev, &corrected, &uncorrected, &pending, &failed) && (failed || pending))
        mu_check_worse(f, failed ? MU_LEVEL_FAIL : MU_LEVEL_WARN,
                       failed ? "GPU %u: rows of its memory cannot be remapped"
                              : "GPU %u: rows of its memory wait for a reset to be remapped",
                       i);
    if (n->pages && !n->pages(dev, &waits) && waits)
        mu_check_worse(f, MU_LEVEL_WARN, "GPU %u: pages of its memory wait for a reset to be retired", i);
}

/* Errors that the driver has logged since the last run. What programs do to themselves is told, not held against the
 * node. */
static void look_for_xid(struct mu_check *c, struct mu_check_found *f)
{
    mu_auto_buf struct mu_buf b = {0};
    char path[PATH_MAX], piece[8192], *save = NULL;
    uint64_t newest = mu_check_was(c, "gpu.log", UINT64_MAX), last = 0;
    ssize_t n;

    snprintf(path, sizeof path, "%s/dev/kmsg", c->root);
    mu_auto_fd int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    while (fd >= 0 && b.len < LOG_MAX_BYTES && (n = read(fd, piece, sizeof piece)) > 0)
        mu_buf_append(&b, piece, (size_t)n);
    mu_auto_free char *text = b.len ? mu_buf_take(&b) : NULL;
    /* "6,1234,5678,-;NVRM: Xid (PCI:0000:3b:00): 79, ...": priority, number, time, flags */
    for (char *line = text ? strtok_r(text, "\n", &save) : NULL; line; line = strtok_r(NULL, "\n", &save)) {
        const char *comma = strchr(line, ','), *at = strstr(line, ";NVRM: Xid (");
        uint64_t seq = comma ? strtoull(comma + 1, NULL, 10) : 0;
        if (*line == ' ')
            continue;
        last = seq > last ? seq : last;
        const char *number = at ? strstr(at, "): ") : NULL;
        if (!number || newest == UINT64_MAX || seq <= newest)
            continue;
        unsigned xid = (unsigned)strtoul(number + 3, NULL, 10);
        char shown[160];
        mu_check_worse(f, mu_xid_is_fault(xid) ? MU_LEVEL_FAIL : MU_LEVEL_WARN, "%s",
                       mu_str_show(shown, sizeof shown, at + 7));
    }
    if (text)
        mu_check_grown(c, "gpu.log", last);
}

void mu_check_gpu(struct mu_check *c, struct mu_check_found *f)
{
    unsigned pci = gpus_on_pci(c), n = 0;
    struct nvml nvml = {0};
    int rc = 0;

    if (!open_nvml(&nvml)) {
        if (pci)
            mu_check_say(f, MU_LEVEL_WARN, "%u GPUs of NVIDIA, but no libnvidia-ml.so.1 to ask; install the driver",
                         pci);
        else
            mu_check_say(f, MU_LEVEL_SKIP, "no GPU of NVIDIA");
        return;
    }
    if ((rc = nvml.init()) || (rc = nvml.count(&n))) {
        if (pci)
            mu_check_say(f, MU_LEVEL_FAIL, "%u GPUs, but: %s", pci, nvml.error(rc));
        else
            mu_check_say(f, MU_LEVEL_SKIP, "%s", nvml.error(rc));
        return;
    }
    uint64_t most = mu_check_was(c, "gpu.most", n);
    mu_check_grown(c, "gpu.most", most > n ? most : n);
    if (n < most)
        mu_check_worse(f, MU_LEVEL_FAIL, "%u of %llu GPUs are left", n, (unsigned long long)most);
    for (unsigned i = 0; i < n; i++)
        look_at_gpu(&nvml, i, f);
    nvml.shutdown();
    look_for_xid(c, f);
    if (f->level < MU_LEVEL_WARN)
        mu_check_say(f, n ? MU_LEVEL_OK : MU_LEVEL_SKIP, "%u GPUs answer", n);
}

/* --- InfiniBand ----------------------------------------------------------------------------------------------------
 */

#define PORT "/sys/class/infiniband/%s/ports/%s"
struct ports {
    unsigned n, active;
    double best; /* Gb/s */
};

static double rate_of(const struct mu_check *c, const char *dev, const char *port)
{
    char text[64];

    return mu_check_text(c, text, sizeof text, PORT "/rate", dev, port) ? 0 : strtod(text, NULL);
}

static void look_at_port(struct mu_check *c, const char *dev, const char *port, struct ports *all,
                         struct mu_check_found *f)
{
    static const struct {
        const char *file, *what;
        uint64_t many;
    } counters[] = {{"link_downed", "has lost its link", 1},
                    {"link_error_recovery", "has recovered its link", 10},
                    {"symbol_error", "symbol errors", 1000},
                    {"port_rcv_errors", "receive errors", 1000},
                    {"local_link_integrity_errors", "integrity errors", 10}};
    char state[32] = "?", physical[32] = "", name[200];
    uint64_t value;

    mu_check_text(c, state, sizeof state, PORT "/state", dev, port);
    mu_check_text(c, physical, sizeof physical, PORT "/phys_state", dev, port);
    if (strstr(physical, "Disabled"))
        return;
    all->n++;
    if (!strstr(state, "ACTIVE")) { /* a second port may have no cable; it is the adapter that must have one */
        mu_check_worse(f, MU_LEVEL_WARN, "%.60s/%.10s is not active: %s, %s", dev, port, state, physical);
        return;
    }
    all->active++;
    double rate = rate_of(c, dev, port);
    all->best = rate > all->best ? rate : all->best;
    snprintf(name, sizeof name, "infiniband.%.60s.%.10s.rate", dev, port);
    uint64_t was = mu_check_was(c, name, (uint64_t)rate);
    if (rate > 0 && (uint64_t)rate < was)
        mu_check_worse(f, MU_LEVEL_FAIL, "%.60s/%.10s has become slower: %.0f Gb/s, %llu before", dev, port, rate,
                       (unsigned long long)was);
    mu_check_grown(c, name, (uint64_t)rate > was ? (uint64_t)rate : was);
    for (size_t i = 0; i < MU_COUNT(counters); i++) {
        if (mu_check_number(c, &value, PORT "/counters/%s", dev, port, counters[i].file))
            continue;
        snprintf(name, sizeof name, "infiniband.%.60s.%.10s.%s", dev, port, counters[i].file);
        uint64_t more = mu_check_grown(c, name, value);
        if (more >= counters[i].many)
            mu_check_worse(f, MU_LEVEL_WARN, "%.60s/%.10s: %s, %llu times since the last check", dev, port,
                           counters[i].what, (unsigned long long)more);
    }
}

void mu_check_infiniband(struct mu_check *c, struct mu_check_found *f)
{
    char dir[PATH_MAX];
    struct dirent *e, *p;
    unsigned adapters = 0;
    double best = 0;

    snprintf(dir, sizeof dir, "%s/sys/class/infiniband", c->root);
    DIR *d = opendir(dir);
    while (d && (e = readdir(d))) {
        struct ports all = {0};
        if (e->d_name[0] == '.')
            continue;
        snprintf(dir, sizeof dir, "%s/sys/class/infiniband/%s/ports", c->root, e->d_name);
        DIR *ports = opendir(dir);
        while (ports && (p = readdir(ports)))
            if (p->d_name[0] != '.')
                look_at_port(c, e->d_name, p->d_name, &all, f);
        if (ports)
            closedir(ports);
        adapters += all.n > 0;
        best = all.best > best ? all.best : best;
        if (all.n && !all.active)
            mu_check_worse(f, MU_LEVEL_FAIL, "no port of %.60s is active", e->d_name);
    }
    if (d)
        closedir(d);
    if (!adapters)
        mu_check_worse(f, MU_LEVEL_SKIP, "no adapter");
    else if (f->level < MU_LEVEL_WARN)
        mu_check_say(f, MU_LEVEL_OK, "%u adapter%s, up to %.0f Gb/s", adapters, adapters == 1 ? "" : "s", best);
}
