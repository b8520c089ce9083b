#include "bench/rank/device.h"

#include <ctype.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "runtime/base/clean.h"
#include "runtime/base/clock.h"

#define WAIT_NS (20 * MU_SEC)
#define SPIN_NS (2 * MU_MS)

static atomic_bool hung;

static const char *name_of(const struct mu_cuda_api *c, mu_cu_result rc)
{
    const char *name = NULL;

    return c->cuGetErrorName(rc, &name) || !name ? "an error" : name;
}

static void tell_uuid(const struct mu_cuda_api *c, int index, char out[48])
{
    mu_cu_uuid u;
    const unsigned char *b = (const unsigned char *)u.bytes;

    if (c->cuDeviceGetUuid(&u, index)) {
        snprintf(out, 48, "GPU %d", index);
        return;
    }
    snprintf(out, 48, "GPU-%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", b[0], b[1], b[2],
             b[3], b[4], b[5], b[6], b[7], b[8], b[9], b[10], b[11], b[12], b[13], b[14], b[15]);
}

int mu_devices_open(struct mu_devices *d, struct mu_err *err)
{
    const struct mu_cuda_api *c;
    int n = 0, rc = mu_cuda_load(&c, err);
    mu_cu_result cu;

    *d = (struct mu_devices){0};
    if (rc)
        return rc == MUSTER_ENOSYS ? mu_err_set(err, rc, "no GPU") : rc;
    setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID", 0);
    cu = c->cuInit(0);
    cu = cu ? cu : c->cuDeviceGetCount(&n);
    if (cu == MU_CU_NO_DEVICE || (!cu && !n))
        return access("/dev/nvidiactl", F_OK) ? mu_err_set(err, MUSTER_ENOSYS, "no GPU")
                                              : mu_err_set(err, MUSTER_ENODE, "CUDA driver: it shows no GPU");
    if (cu)
        return mu_err_set(err, MUSTER_ENODE, "CUDA driver: it cannot be used: %s (%d)", name_of(c, cu), (int)cu);
    if (!(d->v = calloc((size_t)n, sizeof *d->v)))
        return mu_err_set(err, MUSTER_ENOMEM, "no memory for %d GPUs", n);
    d->n = n;
    for (int i = 0; i < n; i++) {
        d->v[i].c = c;
        d->v[i].index = i;
        tell_uuid(c, i, d->v[i].uuid);
    }
    return 0;
}

void mu_devices_close(struct mu_devices *d)
{
    for (int i = 0; i < d->n; i++) {
        struct mu_device *g = &d->v[i];
        if (!g->ctx || g->hangs)
            continue;
        g->c->cuCtxSetCurrent(g->ctx);
        if (g->stream)
            g->c->cuStreamDestroy_v2(g->stream);
        g->c->cuCtxSetCurrent(NULL);
        g->c->cuDevicePrimaryCtxRelease_v2(g->index);
    }
    free(d->v);
    *d = (struct mu_devices){0};
}

bool mu_device_hung(void)
{
    return hung;
}

static int breaks(struct mu_device *g, struct mu_err *err)
{
    if (err)
        *err = g->broken;
    return g->broken.code;
}

int mu_device_check(struct mu_device *g, mu_cu_result rc, const char *what, struct mu_err *err)
{
    if (!rc)
        return 0;
    mu_err_set(&g->broken, MUSTER_ENODE, "GPU %d (%s): %s: %s (%d)", g->index, g->uuid, what, name_of(g->c, rc),
               (int)rc);
    return breaks(g, err);
}

int mu_device_enter(struct mu_device *g, struct mu_err *err)
{
    int rc = g->broken.code ? breaks(g, err) : 0;

    if (!rc && !g->ctx)
        rc = mu_device_check(g, g->c->cuDevicePrimaryCtxRetain(&g->ctx, g->index), "its context", err);
    if (!rc)
        rc = mu_device_check(g, g->c->cuCtxSetCurrent(g->ctx), "its context", err);
    if (!rc && !g->stream)
        rc = mu_device_check(g, g->c->cuStreamCreateWithPriority(&g->stream, MU_CU_STREAM_NON_BLOCKING, 0),
                             "its stream", err);
    return rc;
}

int mu_device_wait(struct mu_device *g, const char *what, struct mu_err *err)
{
    uint64_t began = mu_now(), took;
    mu_cu_result rc;

    while ((rc = g->c->cuStreamQuery(g->stream)) == MU_CU_NOT_READY && (took = mu_now() - began) < WAIT_NS) {
        sched_yield();
        if (took > SPIN_NS) /* what takes so long can be asked for less often */
            nanosleep(&(struct timespec){.tv_nsec = 20000}, NULL);
    }
    if (rc != MU_CU_NOT_READY)
        return mu_device_check(g, rc, what, err);
    g->hangs = hung = true;
    mu_err_set(&g->broken, MUSTER_ENODE, "GPU %d (%s): %s: it has not ended in 20 s", g->index, g->uuid, what);
    return breaks(g, err);
}

int mu_device_put(struct mu_device *g, mu_cu_ptr to, const void *from, size_t n, struct mu_err *err)
{
    int rc = mu_device_check(g, g->c->cuMemcpyHtoDAsync_v2(to, from, n, g->stream), "a copy to it", err);

    return rc ? rc : mu_device_wait(g, "a copy to it", err);
}

int mu_device_get(struct mu_device *g, void *to, mu_cu_ptr from, size_t n, struct mu_err *err)
{
    int rc = mu_device_check(g, g->c->cuMemcpyDtoHAsync_v2(to, from, n, g->stream), "a copy from it", err);

    return rc ? rc : mu_device_wait(g, "a copy from it", err);
}

int mu_device_alloc(struct mu_device *g, mu_cu_ptr *out, size_t n, struct mu_err *err)
{
    mu_cu_result rc = g->c->cuMemAlloc_v2(out, n);

    return rc == MU_CU_NO_MEMORY
               ? mu_err_set(err, MUSTER_ENOMEM, "GPU %d has no %zu MiB of memory free", g->index, n >> 20)
               : mu_device_check(g, rc, "its memory", err);
}

int mu_device_alloc_host(struct mu_device *g, void **out, size_t n, struct mu_err *err)
{
    mu_cu_result rc = g->c->cuMemHostAlloc(out, n, MU_CU_HOST_PORTABLE);

    return rc == MU_CU_NO_MEMORY ? mu_err_set(err, MUSTER_ENOMEM, "the host has no %zu MiB that can be pinned", n >> 20)
                                 : mu_device_check(g, rc, "pinned memory of the host", err);
}

void mu_device_free(struct mu_device *g, mu_cu_ptr p)
{
    if (p && !g->hangs)
        g->c->cuMemFree_v2(p);
}

void mu_device_free_host(struct mu_device *g, void *p)
{
    if (p && !g->hangs)
        g->c->cuMemFreeHost(p);
}

/* "0-3,8-11" */
static void read_list(FILE *f, cpu_set_t *out)
{
    unsigned a, b;

    CPU_ZERO(out);
    while (fscanf(f, "%u", &a) == 1) {
        b = a;
        if (fscanf(f, "-%u", &b) < 0)
            b = a;
        for (; a <= b && a < CPU_SETSIZE; a++)
            CPU_SET(a, out);
        if (getc(f) != ',')
            return;
    }
}

void mu_device_stand_near(const struct mu_device *g, void *was, size_t size)
{
    char bus[32] = "", path[100];
    cpu_set_t near, both;

    memset(was, 0, size);
    if (size != sizeof near || sched_getaffinity(0, size, was) ||
        g->c->cuDeviceGetPCIBusId(bus, (int)sizeof bus, g->index))
        return;
    for (char *p = bus; *p; p++)
        *p = (char)tolower((unsigned char)*p);
    snprintf(path, sizeof path, "/sys/bus/pci/devices/%s/local_cpulist", bus);
    mu_auto_file FILE *f = fopen(path, "re");
    if (!f)
        return;
    read_list(f, &near);
    CPU_AND(&both, &near, (cpu_set_t *)was);
    if (CPU_COUNT(&both))
        sched_setaffinity(0, sizeof both, &both);
}
