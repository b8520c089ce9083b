/* Copies: inside a GPU's memory, and to and from pinned memory of the host beside it. One GPU at a time, as they share
 * the host's memory and links. What was copied is looked at in the end. */
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench/rank/gpu.h"
#include "runtime/base/clean.h"
#include "runtime/base/clock.h"

enum { HBM_TIMES = 4 }; /* a copy inside is so many times as large as one between: several times the cache */
enum { MOST_AT_ONCE = 1000 };
#define BATCH_NS (4 * MU_MS)

static struct mu_devices devices;
static struct mu_err none; /* why there are none */

bool mu_node_gpus_open(void)
{
    if (!devices.n)
        mu_devices_open(&devices, &none);
    return devices.n > 0;
}

void mu_node_gpus_close(void)
{
    mu_devices_close(&devices);
    none = (struct mu_err){0};
}

int mu_node_gpus(struct mu_devices **out, struct mu_err *err)
{
    *out = &devices;
    if (!devices.n && err)
        *err = none;
    return devices.n ? 0 : none.code;
}

int mu_node_gpu_put(struct mu_node *n, const struct mu_device *g, struct mu_series *s, struct mu_err *err)
{
    struct mu_stats st;

    n->record.gpu = g->index;
    n->record.uuid = g->uuid;
    n->record.values = s->v;
    n->record.n = s->n;
    n->record.flags = s->n > 1 && mu_series_stats(s, &st) && mu_stats_width(&st) > 0.01 ? MU_RECORD_NOISY : 0;
    return mu_room_add(n->room, &n->record, err);
}

int mu_node_gpu_fails(struct mu_node *n, const struct mu_device *g, const struct mu_err *why, struct mu_err *err)
{
    double zero = 0;

    if (!n->record.trial)
        mu_room_skip(n->room, n->record.name, why->text);
    if (why->code != MUSTER_ENODE)
        return 0;
    n->record.gpu = g->index;
    n->record.uuid = g->uuid;
    n->record.values = &zero;
    n->record.n = 1;
    return mu_room_add(n->room, &n->record, err);
}

int mu_node_gpu_count(struct mu_node *n, int which, struct mu_err *err)
{
    (void)which;
    (void)err;
    if (!devices.n && none.code != MUSTER_ENODE)
        return mu_err_set(err, MUSTER_ENOSYS, "no GPU");
    n->series.v[n->series.n++] = devices.n;
    return 0;
}

/* --- copies --------------------------------------------------------------------------------------------------------
 */

struct copies {
    struct mu_device *g;
    enum mu_node_gpu_test test;
    mu_cu_ptr from, to; /* to: inside alone */
    uint64_t *host;
    size_t size, step; /* of one copy; of what goes over the host's memory */
    uint64_t seed;
};

static uint64_t word(uint64_t seed, size_t i)
{
    return (seed + i) * 0x9e3779b97f4a7c15u;
}

static mu_cu_result copy(const struct copies *c)
{
    const struct mu_cuda_api *cu = c->g->c;

    if (c->test == MU_NODE_GPU_HBM)
        return cu->cuMemcpyDtoDAsync_v2(c->to, c->from, c->size, c->g->stream);
    return c->test == MU_NODE_GPU_H2D ? cu->cuMemcpyHtoDAsync_v2(c->from, c->host, c->size, c->g->stream)
                                      : cu->cuMemcpyDtoHAsync_v2(c->host, c->from, c->size, c->g->stream);
}

static int batch(const struct copies *c, unsigned times, uint64_t *ns, struct mu_err *err)
{
    uint64_t t0 = mu_now();
    int rc = 0;

    for (unsigned i = 0; i < times && !rc; i++)
        rc = mu_device_check(c->g, copy(c), "a copy", err);
    rc = rc ? rc : mu_device_wait(c->g, "a copy", err);
    *ns = mu_now() - t0;
    *ns = *ns ? *ns : 1;
    return rc;
}

/* Words of what is copied, and nothing where it is to go. */
static int fill(const struct copies *c, struct mu_err *err)
{
    int rc = 0;

    for (size_t i = 0; i < c->step / 8; i++)
        c->host[i] = word(c->seed, i);
    if (c->test == MU_NODE_GPU_H2D)
        return 0;
    for (size_t at = 0; at < c->size && !rc; at += c->step)
        rc = mu_device_put(c->g, c->from + at, c->host, c->step, err);
    memset(c->host, 0, c->step);
    for (size_t at = 0; at < c->size && !rc && c->to; at += c->step)
        rc = mu_device_put(c->g, c->to + at, c->host, c->step, err);
    return rc;
}

/* Words that are not what was copied. */
static int look(const struct copies *c, int64_t *wrong, struct mu_err *err)
{
    int rc = 0;

    for (size_t at = 0; at < c->size && !rc; at += c->step) {
        memset(c->host, 0, c->step);
        rc = mu_device_get(c->g, c->host, (c->to ? c->to : c->from) + at, c->step, err);
        for (size_t i = 0; i < c->step / 8 && !rc; i++)
            *wrong += c->host[i] != word(c->seed, i);
    }
    return rc;
}

static int series(struct mu_node *n, const struct copies *c, struct mu_series *s, struct mu_err *err)
{
    double bytes = (double)c->size * (c->test == MU_NODE_GPU_HBM ? 2 : 1);
    uint64_t ns, times;
    int rc = batch(c, 1, &ns, err); /* warms up */

    rc = rc ? rc : batch(c, 1, &ns, err);
    times = BATCH_NS / ns;
    times = times < 1 ? 1 : times > MOST_AT_ONCE ? MOST_AT_ONCE : times;
    for (enum mu_series_state state = MU_SERIES_MORE; !rc && state == MU_SERIES_MORE;) {
        rc = batch(c, (unsigned)times, &ns, err);
        if (!rc)
            state = mu_series_add(s, bytes * (double)times / (double)ns, mu_now());
    }
    n->record.size = c->size;
    return rc;
}

static int one_gpu(struct mu_node *n, struct copies *c, struct mu_series *s, struct mu_err *err)
{
    struct mu_device *g = c->g;
    size_t least, room = 0, all = 0;
    int64_t wrong = 0;
    void *host = NULL;
    int rc = mu_device_enter(g, err);

    rc = rc ? rc : mu_device_check(g, g->c->cuMemGetInfo_v2(&room, &all), "its memory", err);
    c->step = n->o->gpu_size / 8 * 8;
    least = (size_t)sysconf(_SC_AVPHYS_PAGES) * (size_t)sysconf(_SC_PAGESIZE) / 4;
    least = least < room / 16 ? least : room / 16;
    if (!rc && c->step > least) /* what fits */
        c->step = least / 4096 * 4096;
    if (!rc && !c->step)
        rc = mu_err_set(err, MUSTER_ENOMEM, "GPU %d or the host has no memory free", g->index);
    c->size = c->step * (c->test == MU_NODE_GPU_HBM ? HBM_TIMES : 1);
    rc = rc ? rc : mu_device_alloc_host(g, &host, c->step, err);
    rc = rc ? rc : mu_device_alloc(g, &c->from, c->size, err);
    if (!rc && c->test == MU_NODE_GPU_HBM)
        rc = mu_device_alloc(g, &c->to, c->size, err);
    c->host = host;
    rc = rc ? rc : fill(c, err);
    rc = rc ? rc : series(n, c, s, err);
    rc = rc ? rc : look(c, &wrong, err);
    n->record.wrong = rc ? MU_RECORD_UNCHECKED : wrong;
    mu_device_free(g, c->to);
    mu_device_free(g, c->from);
    mu_device_free_host(g, host);
    return rc;
}

int mu_node_gpu_copy(struct mu_node *n, int which, struct mu_err *err)
{
    struct mu_devices *d;
    int rc = mu_node_gpus(&d, err);

    for (int i = 0; i < (rc ? 0 : d->n) && !rc; i++) {
        struct copies c = {.g = &d->v[i], .test = (enum mu_node_gpu_test)which, .seed = n->room->seed + (unsigned)i};
        struct mu_err why = {0};
        struct mu_series s;
        cpu_set_t was;

        if ((rc = mu_series_begin(&s, &n->series.rule, err)))
            break;
        mu_device_stand_near(c.g, &was, sizeof was);
        if (one_gpu(n, &c, &s, &why))
            rc = mu_node_gpu_fails(n, c.g, &why, err);
        else
            rc = mu_node_gpu_put(n, c.g, &s, err);
        if (CPU_COUNT(&was))
            sched_setaffinity(0, sizeof was, &was);
        mu_series_free(&s);
    }
    return rc;
}
