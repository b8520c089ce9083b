#include "runtime/rank/staging.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "collectives/nccl/api.h"
#include "collectives/nccl/backend.h"
#include "runtime/base/clean.h"
#include "runtime/base/clock.h"
#include "runtime/ckpt/tensor.h"

#define RING 4
#define PIECE ((size_t)4 << 20) /* of the ring */
#define BARE_POLLS 1000u
#define NAP_NS 20000

struct staging {
    struct mu_ckpt_mover mover; /* first */
    struct muster_comm *comm;
    const struct mu_cuda_api *c;
    int device;
    uint64_t timeout;
    mu_cu_ctx ctx, was;
    mu_cu_stream stream;
    mu_cu_event before; /* what the program has enqueued */
    bool at_work, stuck;
    struct piece {
        void *mem;
        mu_cu_event event;
        void *to; /* where it goes once it is there; NULL: it came from the host */
        size_t n; /* 0: it is free */
    } ring[RING];
    unsigned next;
};

static int refused(struct staging *s, mu_cu_result rc, const char *what, struct mu_err *err)
{
    const char *name = NULL;

    if (s->c->cuGetErrorName(rc, &name) != MU_CU_OK || !name)
        name = "unknown";
    return mu_err_set(err, MUSTER_ENODE, "GPU %d: %s: %s (%d)", s->device, what, name, (int)rc);
}

/* Waits until a piece is where it should be. */
static int settle(struct staging *s, struct piece *p, struct mu_err *err)
{
    uint64_t until = p->n ? mu_now() + s->timeout : 0;
    mu_cu_result rc = MU_CU_OK;

    for (unsigned polls = 0; p->n && (rc = s->c->cuEventQuery(p->event)) == MU_CU_NOT_READY; polls++) {
        if (mu_now() > until) {
            s->stuck = true;
            return mu_err_set(err, MUSTER_ETIMEOUT, "GPU %d has not copied %zu bytes in %.3g s", s->device, p->n,
                              (double)s->timeout / 1e9);
        }
        if (polls < BARE_POLLS)
            sched_yield();
        else
            nanosleep(&(struct timespec){.tv_nsec = NAP_NS}, NULL);
    }
    if (rc == MU_CU_OK && p->n && p->to)
        memcpy(p->to, p->mem, p->n);
    p->n = 0;
    return rc == MU_CU_OK ? 0 : refused(s, rc, "copying for a checkpoint", err);
}

static int begin(struct mu_ckpt_mover *m, struct mu_err *err)
{
    struct staging *s = (struct staging *)(void *)m;
    mu_cu_ctx was = NULL;
    mu_cu_result rc;

    if (s->stuck)
        return mu_err_set(err, MUSTER_ETIMEOUT, "GPU %d still copies for an earlier checkpoint", s->device);
    s->c->cuCtxGetCurrent(&was);
    rc = s->c->cuCtxSetCurrent(s->ctx);
    if (rc == MU_CU_OK)
        rc = s->c->cuEventRecord(s->before, s->comm->stream);
    if (rc == MU_CU_OK)
        rc = s->c->cuStreamWaitEvent(s->stream, s->before, 0);
    s->c->cuCtxSetCurrent(was);
    return rc == MU_CU_OK ? 0 : refused(s, rc, "waiting for the program's stream", err);
}

/* In the thread that copies. */
static int enter(struct staging *s, struct mu_err *err)
{
    mu_cu_result rc;

    if (s->at_work)
        return 0;
    s->c->cuCtxGetCurrent(&s->was);
    rc = s->c->cuCtxSetCurrent(s->ctx);
    s->at_work = true;
    for (unsigned i = 0; rc == MU_CU_OK && i < RING; i++)
        if (!s->ring[i].mem)
            rc = s->c->cuMemHostAlloc(&s->ring[i].mem, PIECE, MU_CU_HOST_PORTABLE);
    return rc == MU_CU_OK ? 0 : refused(s, rc, "no pinned memory for checkpoints", err);
}

static int move(struct staging *s, bool get, char *host, mu_cu_ptr device, size_t n, struct mu_err *err)
{
    int rc = enter(s, err);

    while (n && !rc) {
        struct piece *p = &s->ring[s->next++ % RING];
        size_t m = n < PIECE ? n : PIECE;
        mu_cu_result cu;

        if ((rc = settle(s, p, err)))
            break;
        if (!get)
            memcpy(p->mem, host, m);
        cu = get ? s->c->cuMemcpyDtoHAsync_v2(p->mem, device, m, s->stream)
                 : s->c->cuMemcpyHtoDAsync_v2(device, p->mem, m, s->stream);
        if (cu == MU_CU_OK)
            cu = s->c->cuEventRecord(p->event, s->stream);
        if (cu != MU_CU_OK)
            return refused(s, cu, "copying for a checkpoint", err);
        p->to = get ? host : NULL;
        p->n = m;
        host += m;
        device += m;
        n -= m;
    }
    return rc;
}

static int get(struct mu_ckpt_mover *m, void *host, const void *device, size_t n, struct mu_err *err)
{
    return move((struct staging *)(void *)m, true, host, (mu_cu_ptr)(uintptr_t)device, n, err);
}

static int put(struct mu_ckpt_mover *m, void *device, const void *host, size_t n, struct mu_err *err)
{
    return move((struct staging *)(void *)m, false, (char *)(uintptr_t)host, (mu_cu_ptr)(uintptr_t)device, n, err);
}

static int done(struct mu_ckpt_mover *m, struct mu_err *err)
{
    struct staging *s = (struct staging *)(void *)m;
    int rc = 0, one;

    for (unsigned i = 0; s->at_work && !s->stuck && i < RING; i++) {
        one = settle(s, &s->ring[s->next++ % RING], rc ? NULL : err);
        rc = rc ? rc : one;
    }
    if (s->at_work)
        s->c->cuCtxSetCurrent(s->was);
    s->at_work = false;
    return rc;
}

static int make(struct staging *s, const void *data, struct mu_err *err)
{
    const struct mu_cuda_api *c = s->c;
    int least = 0, greatest = 0;
    mu_cu_ctx was = NULL;
    mu_cu_result rc;

    if (c->cuPointerGetAttribute(&s->device, MU_CU_POINTER_DEVICE, (mu_cu_ptr)(uintptr_t)data) != MU_CU_OK ||
        c->cuDevicePrimaryCtxRetain(&s->ctx, s->device) != MU_CU_OK)
        return mu_err_set(err, MUSTER_ENODE, "CUDA does not give the context of the tensor's GPU");
    c->cuCtxGetCurrent(&was);
    rc = c->cuCtxSetCurrent(s->ctx);
    if (rc == MU_CU_OK)
        rc = c->cuCtxGetStreamPriorityRange(&least, &greatest);
    if (rc == MU_CU_OK)
        rc = c->cuStreamCreateWithPriority(&s->stream, MU_CU_STREAM_NON_BLOCKING, least);
    if (rc == MU_CU_OK)
        rc = c->cuEventCreate(&s->before, MU_CU_EVENT_NO_TIMING);
    for (unsigned i = 0; rc == MU_CU_OK && i < RING; i++)
        rc = c->cuEventCreate(&s->ring[i].event, MU_CU_EVENT_NO_TIMING);
    c->cuCtxSetCurrent(was);
    return rc == MU_CU_OK ? 0 : refused(s, rc, "no stream for checkpoints", err);
}

void mu_staging_free(struct mu_ckpt_mover *m)
{
    struct staging *s = (struct staging *)(void *)m;
    mu_cu_ctx was = NULL;

    if (!s || s->stuck) /* its memory is the GPU's */
        return;
    if (s->ctx) {
        s->c->cuCtxGetCurrent(&was);
        s->c->cuCtxSetCurrent(s->ctx);
        for (unsigned i = 0; i < RING; i++) {
            if (s->ring[i].mem)
                s->c->cuMemFreeHost(s->ring[i].mem);
            if (s->ring[i].event)
                s->c->cuEventDestroy_v2(s->ring[i].event);
        }
        if (s->before)
            s->c->cuEventDestroy_v2(s->before);
        if (s->stream)
            s->c->cuStreamDestroy_v2(s->stream);
        s->c->cuCtxSetCurrent(was);
        s->c->cuDevicePrimaryCtxRelease_v2(s->device);
    }
    free(s);
}

int mu_staging_takes(struct muster_comm *comm, const void *data, uint64_t timeout, struct mu_ckpt_mover **mover,
                     bool *device, struct mu_err *err)
{
    const struct mu_cuda_api *c = data ? mu_gpu_owns(data) : NULL;
    struct staging *s = (struct staging *)(void *)*mover;
    int which = -1, rc;

    *device = c;
    if (!c)
        return 0;
    if (s) {
        if (c->cuPointerGetAttribute(&which, MU_CU_POINTER_DEVICE, (mu_cu_ptr)(uintptr_t)data) == MU_CU_OK &&
            which == s->device)
            return 0;
        return mu_err_set(err, MUSTER_EARG, "it is on GPU %d, the tensors before it are on GPU %d", which, s->device);
    }
    if (!(s = calloc(1, sizeof *s)))
        return mu_err_set(err, MUSTER_ENOMEM, "no memory");
    *s = (struct staging){
        .mover = {.begin = begin, .get = get, .put = put, .done = done}, .comm = comm, .c = c, .timeout = timeout};
    if ((rc = make(s, data, err))) {
        mu_staging_free(&s->mover);
        return rc;
    }
    *mover = &s->mover;
    return 0;
}
