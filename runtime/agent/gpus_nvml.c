/* NVML by dlopen, with prototypes of our own. What a library or a GPU does not have is not known, and no error. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "runtime/agent/gpus.h"
#include "runtime/base/clean.h"
#include "runtime/base/clock.h"
#include "runtime/base/nvlib.h"
#include "runtime/base/str.h"

enum { NVML_LOADED_NOT = 9, NVML_LOST = 15 };
enum { TEMPERATURE_GPU = 0, CORRECTED = 0, UNCORRECTED = 1, SINCE_DRIVER = 0, LINKS = 18, LINK_COUNTERS = 5 };
enum { EVENT_XID = 8 };
#define KEEP (600 * MU_SEC) /* an Xid is told for so long */
#define AGAIN (10 * MU_SEC) /* the same of the same GPU is told once in it */

struct event_data {
    void *device;
    unsigned long long type, data;
    unsigned gpu_instance, compute_instance;
};
struct memory {
    unsigned long long total, free, used;
};
struct rates {
    unsigned gpu, memory;
};

struct nvml {
    int (*init)(void), (*shutdown)(void), (*count)(unsigned *), (*handle)(unsigned, void **);
    const char *(*error)(int);
    /* these may be missing */
    int (*driver)(char *, unsigned), (*uuid)(void *, char *, unsigned), (*name)(void *, char *, unsigned);
    int (*rates)(void *, struct rates *), (*memory)(void *, struct memory *), (*celsius)(void *, int, unsigned *);
    int (*power)(void *, unsigned *), (*clocks)(void *, unsigned long long *);
    int (*ecc)(void *, int, int, unsigned long long *);
    int (*rows)(void *, unsigned *, unsigned *, unsigned *, unsigned *), (*pages)(void *, int *);
    int (*gen)(void *, unsigned *), (*gen_most)(void *, unsigned *), (*width)(void *, unsigned *),
        (*width_most)(void *, unsigned *), (*replays)(void *, unsigned *);
    int (*link)(void *, unsigned, int *), (*link_errors)(void *, unsigned, int, unsigned long long *);
    int (*set_new)(void **), (*watch)(void *, unsigned long long, void *),
        (*wait)(void *, struct event_data *, unsigned);
};

struct mu_gpus_asked {
    struct nvml n;
    unsigned count;
    void *device[MU_GPUS_MOST];
    char uuid[MU_GPUS_MOST][MU_GPUS_TEXT], name[MU_GPUS_MOST][MU_GPUS_TEXT], driver[MU_GPUS_TEXT];
    uint32_t xids[MU_GPUS_MOST], xid[MU_GPUS_MOST];
    void *set; /* NULL: no events */
    uint64_t since;
    uint32_t seq;
    struct {
        uint32_t seq, gpu, xid;
        uint64_t at;
    } log[MU_GPUS_XIDS];
    unsigned nlog;
};

static int load(struct nvml *n, struct mu_err *err)
{
    const struct {
        void *fn;
        const char *name, * or ;
        bool must;
    } symbols[] = {
        {&n->init, "nvmlInit_v2", NULL, true},
        {&n->shutdown, "nvmlShutdown", NULL, true},
        {&n->count, "nvmlDeviceGetCount_v2", NULL, true},
        {&n->handle, "nvmlDeviceGetHandleByIndex_v2", NULL, true},
        {&n->error, "nvmlErrorString", NULL, true},
        {&n->driver, "nvmlSystemGetDriverVersion", NULL, false},
        {&n->uuid, "nvmlDeviceGetUUID", NULL, false},
        {&n->name, "nvmlDeviceGetName", NULL, false},
        {&n->rates, "nvmlDeviceGetUtilizationRates", NULL, false},
        {&n->memory, "nvmlDeviceGetMemoryInfo", NULL, false},
        {&n->celsius, "nvmlDeviceGetTemperature", NULL, false},
        {&n->power, "nvmlDeviceGetPowerUsage", NULL, false},
        {&n->clocks, "nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons", false},
        {&n->ecc, "nvmlDeviceGetTotalEccErrors", NULL, false},
        {&n->rows, "nvmlDeviceGetRemappedRows", NULL, false},
        {&n->pages, "nvmlDeviceGetRetiredPagesPendingStatus", NULL, false},
        {&n->gen, "nvmlDeviceGetCurrPcieLinkGeneration", NULL, false},
        {&n->gen_most, "nvmlDeviceGetMaxPcieLinkGeneration", NULL, false},
        {&n->width, "nvmlDeviceGetCurrPcieLinkWidth", NULL, false},
        {&n->width_most, "nvmlDeviceGetMaxPcieLinkWidth", NULL, false},
        {&n->replays, "nvmlDeviceGetPcieReplayCounter", NULL, false},
        {&n->link, "nvmlDeviceGetNvLinkState", NULL, false},
        {&n->link_errors, "nvmlDeviceGetNvLinkErrorCounter", NULL, false},
        {&n->set_new, "nvmlEventSetCreate", NULL, false},
        {&n->watch, "nvmlDeviceRegisterEvents", NULL, false},
        {&n->wait, "nvmlEventSetWait_v2", NULL, false},
    };
    void *h, *fn;
    int rc = mu_nvlib_open(MU_NVLIB_NVML, &h, err);

    for (size_t i = 0; i < MU_COUNT(symbols) && !rc; i++) {
        rc = mu_nvlib_symbol(MU_NVLIB_NVML, h, symbols[i].name, &fn, err);
        if (rc && symbols[i].or)
            rc = mu_nvlib_symbol(MU_NVLIB_NVML, h, symbols[i].or, &fn, err);
        if (!rc)
            memcpy(symbols[i].fn, &fn, sizeof fn);
        rc = symbols[i].must ? rc : 0;
    }
    return rc;
}

/* One printable line. */
static void text(char out[MU_GPUS_TEXT], const char *in)
{
    mu_str_show(out, MU_GPUS_TEXT, in);
}

static void know(struct mu_gpus_asked *g, unsigned i)
{
    char raw[MU_GPUS_TEXT] = "";

    if (g->n.handle(i, &g->device[i]))
        g->device[i] = NULL;
    snprintf(g->uuid[i], sizeof g->uuid[i], "GPU %u", i);
    if (!g->device[i])
        return;
    if (g->n.uuid && !g->n.uuid(g->device[i], raw, sizeof raw - 1) && *raw)
        text(g->uuid[i], raw);
    raw[0] = 0;
    if (g->n.name && !g->n.name(g->device[i], raw, sizeof raw - 1))
        text(g->name[i], raw);
    if (g->set)
        (void)g->n.watch(g->device[i], EVENT_XID, g->set); /* not all have events */
}

int mu_gpus_open(struct mu_gpus_asked **out, char *trouble, size_t size)
{
    struct mu_gpus_asked *g = calloc(1, sizeof *g);
    struct mu_err err = {0};
    char raw[MU_GPUS_TEXT] = "";
    int rc;

    *out = NULL;
    trouble[0] = 0;
    if (!g)
        return MUSTER_ENOMEM;
    if (load(&g->n, &err)) {
        if (err.code != MUSTER_ENOSYS)
            mu_str_show(trouble, size, err.text);
        free(g);
        return 0;
    }
    if ((rc = g->n.init()) || (rc = g->n.count(&g->count)) || !g->count) {
        /* many hosts have the library, and no GPU */
        if (rc && (rc != NVML_LOADED_NOT || !access("/dev/nvidiactl", F_OK))) {
            snprintf(raw, sizeof raw, "NVML: %.60s (error %d)", g->n.error(rc), rc);
            mu_str_show(trouble, size, raw);
        }
        free(g);
        return 0;
    }
    g->count = g->count < MU_GPUS_MOST ? g->count : MU_GPUS_MOST;
    g->since = mu_wall();
    if (g->n.driver && !g->n.driver(raw, sizeof raw - 1))
        text(g->driver, raw);
    if (!g->n.set_new || !g->n.watch || !g->n.wait || g->n.set_new(&g->set))
        g->set = NULL;
    for (unsigned i = 0; i < g->count; i++)
        know(g, i);
    *out = g;
    return 0;
}

static uint32_t cut(unsigned long long v)
{
    return v < MU_GPU_UNKNOWN ? (uint32_t)v : MU_GPU_UNKNOWN - 1;
}

static void number(int (*fn)(void *, unsigned *), void *device, uint32_t *out)
{
    unsigned v;

    if (fn && !fn(device, &v))
        *out = cut(v);
}

static void links(const struct nvml *n, void *device, struct mu_gpu *g)
{
    unsigned long long errors = 0, v;
    bool counted = false;
    unsigned all = 0, up = 0;
    int on;

    if (!n->link)
        return;
    for (unsigned i = 0; i < LINKS; i++) {
        if (n->link(device, i, &on))
            continue;
        all++;
        up += on == 1;
        for (int k = 0; k < LINK_COUNTERS && n->link_errors; k++)
            if (!n->link_errors(device, i, k, &v)) {
                errors += v;
                counted = true;
            }
    }
    g->links = all;
    g->links_up = up;
    if (counted)
        g->link_errors = cut(errors);
}

static void ask_one(const struct mu_gpus_asked *a, unsigned i, struct mu_gpu *g)
{
    const struct nvml *n = &a->n;
    struct rates rates;
    struct memory memory;
    unsigned long long v;
    unsigned c;
    int waits;
    void *d = a->device[i];

    memset(g, 0xff, sizeof *g);
    g->xids = a->xids[i];
    if (a->xids[i])
        g->xid = a->xid[i];
    int rc = n->handle(i, &d);
    g->lost = rc == NVML_LOST;
    if (rc)
        return;
    if (n->rates && !(rc = n->rates(d, &rates)))
        g->percent = cut(rates.gpu);
    g->lost = rc == NVML_LOST;
    if (g->lost)
        return;
    if (n->memory && !n->memory(d, &memory)) {
        g->memory_mib = cut(memory.total >> 20);
        g->used_mib = cut(memory.used >> 20);
    }
    if (n->celsius && !n->celsius(d, TEMPERATURE_GPU, &c))
        g->celsius = cut(c);
    number(n->power, d, &g->milliwatts);
    if (n->clocks && !n->clocks(d, &v))
        g->clocks = (uint32_t)(v & 0x7fffffff);
    if (n->ecc && !n->ecc(d, CORRECTED, SINCE_DRIVER, &v))
        g->corrected = cut(v);
    if (n->ecc && !n->ecc(d, UNCORRECTED, SINCE_DRIVER, &v))
        g->uncorrected = cut(v);
    unsigned good, bad, pending, failed;
    if (n->rows && !n->rows(d, &good, &bad, &pending, &failed)) {
        g->rows_corrected = cut(good);
        g->rows_uncorrected = cut(bad);
        g->rows_pending = pending != 0;
        g->rows_failed = failed != 0;
    } else if (n->pages && !n->pages(d, &waits)) { /* GPUs from before there were rows */
        g->rows_pending = waits != 0;
    }
    number(n->gen, d, &g->pcie_gen);
    number(n->gen_most, d, &g->pcie_gen_most);
    number(n->width, d, &g->pcie_width);
    number(n->width_most, d, &g->pcie_width_most);
    number(n->replays, d, &g->pcie_replays);
    links(n, d, g);
}

int mu_gpus_ask(struct mu_gpus_asked *g, struct mu_m_gpus *out)
{
    struct mu_m_gpus m = {.since = g->since, .driver = strdup(g->driver)};
    uint64_t now = mu_now();
    unsigned old = 0;
    int rc = m.driver ? 0 : MUSTER_ENOMEM;

    while (old < g->nlog && now - g->log[old].at > KEEP)
        old++;
    g->nlog -= old;
    memmove(g->log, g->log + old, g->nlog * sizeof *g->log);
    m.values.v = calloc(g->count, sizeof(struct mu_gpu));
    m.xids.v = calloc(3u * g->nlog + 1, sizeof *m.xids.v);
    if (!m.values.v || !m.xids.v)
        rc = MUSTER_ENOMEM;
    for (unsigned i = 0; i < g->count && !rc; i++) {
        struct mu_gpu row;
        ask_one(g, i, &row);
        memcpy(m.values.v + i * MU_GPU_NVALUES, &row, sizeof row);
        m.values.n += MU_GPU_NVALUES;
        if (mu_strv_append(&m.uuids, g->uuid[i]) || mu_strv_append(&m.names, g->name[i]))
            rc = MUSTER_ENOMEM;
    }
    for (unsigned i = 0; i < g->nlog && !rc; i++) {
        m.xids.v[m.xids.n++] = g->log[i].seq;
        m.xids.v[m.xids.n++] = g->log[i].gpu;
        m.xids.v[m.xids.n++] = g->log[i].xid;
    }
    if (rc)
        mu_msg_free_body(MU_MSG_gpus, &m);
    else
        *out = m;
    return rc;
}

/* False: it was told a moment ago. */
static bool note(struct mu_gpus_asked *g, const struct event_data *e)
{
    uint32_t xid = cut(e->data), gpu = MU_GPU_UNKNOWN;
    uint64_t now = mu_now();

    for (unsigned i = 0; i < g->count; i++)
        if (g->device[i] && g->device[i] == e->device)
            gpu = i;
    if (gpu != MU_GPU_UNKNOWN) {
        g->xids[gpu]++;
        g->xid[gpu] = xid;
    }
    for (unsigned i = 0; i < g->nlog; i++)
        if (g->log[i].gpu == gpu && g->log[i].xid == xid && now - g->log[i].at < AGAIN)
            return false;
    if (g->nlog == MU_GPUS_XIDS)
        memmove(g->log, g->log + 1, --g->nlog * sizeof *g->log);
    g->log[g->nlog].seq = ++g->seq;
    g->log[g->nlog].gpu = gpu;
    g->log[g->nlog].xid = xid;
    g->log[g->nlog++].at = now;
    return true;
}

bool mu_gpus_wait(struct mu_gpus_asked *g, uint64_t ns)
{
    uint64_t until = mu_now() + ns;

    for (uint64_t now; (now = mu_now()) < until;) {
        struct event_data e = {0};
        uint64_t left = until - now < MU_SEC ? until - now : MU_SEC;
        if (g->set && !g->n.wait(g->set, &e, (unsigned)(left / MU_MS) + 1)) {
            if (e.type == EVENT_XID && note(g, &e))
                return true;
        }
        /* one that does not wait is not asked all the time */
        uint64_t waited = mu_now() - now, least = left < 20 * MU_MS || !g->set ? left : 20 * MU_MS;
        if (waited < least)
            nanosleep(&(struct timespec){(time_t)((least - waited) / MU_SEC), (long)((least - waited) % MU_SEC)}, NULL);
    }
    return false;
}

void mu_gpus_close(struct mu_gpus_asked *g)
{
    if (g)
        g->n.shutdown();
    free(g);
}
