/* What a library or a GPU does not have is not known, and no error. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "runtime/agent/gpus.h"
#include "runtime/base/clean.h"
#include "runtime/base/clock.h"
#include "runtime/base/nvml.h"
#include "runtime/base/str.h"

enum { LINKS = 18, LINK_COUNTERS = 5 };
#define KEEP (600 * MU_SEC) /* an Xid is told for so long */
#define AGAIN (10 * MU_SEC) /* the same of the same GPU is told once in it */

struct mu_gpus_asked {
    struct mu_nvml n;
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
        (void)g->n.watch(g->device[i], MU_NVML_XID, g->set); /* not all have events */
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
    if (mu_nvml_load(&g->n, &err)) {
        if (err.code != MUSTER_ENOSYS)
            mu_str_show(trouble, size, err.text);
        free(g);
        return 0;
    }
    if ((rc = g->n.init()) || (rc = g->n.count(&g->count)) || !g->count) {
        /* many hosts have the library, and no GPU */
        if (rc && (rc != MU_NVML_LOADED_NOT || !access("/dev/nvidiactl", F_OK))) {
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

static void links(const struct mu_nvml *n, void *device, struct mu_gpu *g)
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
    const struct mu_nvml *n = &a->n;
    struct mu_nvml_rates rates;
    struct mu_nvml_memory memory;
    unsigned long long v;
    unsigned c;
    int waits;
    void *d = a->device[i];

    memset(g, 0xff, sizeof *g);
    g->xids = a->xids[i];
    if (a->xids[i])
        g->xid = a->xid[i];
    int rc = n->handle(i, &d);
    g->lost = rc == MU_NVML_LOST;
    if (rc)
        return;
    if (n->rates && !(rc = n->rates(d, &rates)))
        g->percent = cut(rates.gpu);
    g->lost = rc == MU_NVML_LOST;
    if (g->lost)
        return;
    if (n->memory && !n->memory(d, &memory)) {
        g->memory_mib = cut(memory.total >> 20);
        g->used_mib = cut(memory.used >> 20);
    }
    if (n->celsius && !n->celsius(d, MU_NVML_TEMPERATURE, &c))
        g->celsius = cut(c);
    number(n->power, d, &g->milliwatts);
    if (n->clocks && !n->clocks(d, &v))
        g->clocks = (uint32_t)(v & 0x7fffffff);
    if (n->ecc && !n->ecc(d, MU_NVML_CORRECTED, MU_NVML_SINCE_DRIVER, &v))
        g->corrected = cut(v);
    if (n->ecc && !n->ecc(d, MU_NVML_UNCORRECTED, MU_NVML_SINCE_DRIVER, &v))
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
static bool note(struct mu_gpus_asked *g, const struct mu_nvml_event *e)
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
        struct mu_nvml_event e = {0};
        uint64_t left = until - now < MU_SEC ? until - now : MU_SEC;
        if (g->set && !g->n.wait(g->set, &e, (unsigned)(left / MU_MS) + 1)) {
            if (e.type == MU_NVML_XID && note(g, &e))
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
