/* Float32 in GPU memory that goes between ranks as 16 bits: rounded by a kernel, each rank is sent its part of the
 * elements by all others, adds it up in float32 in the order of ranks, rounds that once, and gives it to all. */
#include <stdlib.h>
#include <string.h>

#include "collectives/nccl/gpu.h"
#include "collectives/nccl/wire_kernels.h"

#define EVEN ((size_t)8) /* parts are multiples of it: of 16 bytes */

struct mu_gpu_wire {
    struct muster_comm *comm;
    const struct mu_wire_kernels *k;
    struct mu_call call; /* as which others see it */
    size_t part;         /* elements of it that a rank reduces */
    mu_cu_ptr memory;    /* a part for each rank, and once more; 0: none yet. Freed by close. */
    uint64_t at;         /* the operation that has used it last */
    size_t n;
    struct mu_gpu_piece pieces[];
};

/* --- the kernels --- */

static struct {
    pthread_mutex_t lock;
    const struct mu_wire_kernels *k; /* NULL: not loaded */
} loaded = {.lock = PTHREAD_MUTEX_INITIALIZER};

static bool whole(const struct mu_wire_kernels *k)
{
#define THERE(name) &&k->name
    return k && k->explain && k->usable MU_WIRE_KERNELS(THERE);
#undef THERE
}

static int load(const struct mu_wire_kernels **k, struct mu_err *err)
{
    const struct mu_wire_kernels *(*entry)(void), *found;
    void *h = NULL, *symbol = NULL;
    char path[300];
    struct mu_err why;
    int rc = 0;

    pthread_mutex_lock(&loaded.lock);
    if (!loaded.k) {
        rc = mu_nvlib_open(MU_NVLIB_KERNELS, &h, &why);
        if (rc == 0)
            rc = mu_nvlib_symbol(MU_NVLIB_KERNELS, h, MU_KERNELS_SYMBOL, &symbol, &why);
        if (rc == 0) {
            *(void **)&entry = symbol;
            found = entry();
            mu_nvlib_path(symbol, path, sizeof path);
            if (whole(found))
                loaded.k = found;
            else
                rc = mu_err_set(&why, MUSTER_ENODE, "GPU kernels: %s does not give them: it is of another build", path);
        }
    }
    *k = loaded.k;
    pthread_mutex_unlock(&loaded.lock);
    if (rc == MUSTER_ENOSYS)
        return mu_err_set(err, rc, "%.400s; they are built where nvcc is found", why.text);
    return rc < 0 ? mu_err_set(err, rc, "%.400s", why.text) : 0;
}

int mu_gpu_wire_able(const void *data, struct mu_err *err)
{
    const struct mu_wire_kernels *k;
    const struct mu_cuda_api *c;
    mu_cu_ctx ctx = NULL, was;
    int device = 0, rc = mu_cuda_load(&c, err), refused;

    if (rc == 0)
        rc = load(&k, err);
    if (rc < 0)
        return rc;
    if (c->cuPointerGetAttribute(&device, MU_CU_POINTER_DEVICE, (mu_cu_ptr)(uintptr_t)data) != MU_CU_OK ||
        c->cuDevicePrimaryCtxRetain(&ctx, device) != MU_CU_OK)
        return mu_err_set(err, MUSTER_ENODE, "CUDA does not give the context of the tensor's GPU");
    was = mu_cuda_enter(c, ctx);
    refused = k->usable();
    c->cuCtxSetCurrent(was);
    c->cuDevicePrimaryCtxRelease_v2(device);
    return refused ? mu_err_set(err, MUSTER_ENODE, "GPU kernels: they do not run on this GPU: %s", k->explain(refused))
                   : 0;
}

/* --- life --- */

int mu_gpu_wire_open(struct muster_comm *comm, muster_dtype type, muster_op op, const struct mu_gpu_piece *pieces,
                     size_t n, struct mu_gpu_wire **out, struct mu_err *err)
{
    struct mu_gpu_wire *w = calloc(1, sizeof *w + n * sizeof *pieces);
    size_t count = 0, each = EVEN * (size_t)comm->size;
    int rc;

    if (!w)
        return mu_err_set(err, MUSTER_ENOMEM, "no memory");
    rc = load(&w->k, err);
    if (rc < 0) {
        free(w);
        return rc;
    }
    for (size_t i = 0; i < n; i++)
        count += pieces[i].count;
    memcpy(w->pieces, pieces, n * sizeof *pieces);
    w->n = n;
    w->comm = comm;
    w->part = (count + each - 1) / each * EVEN;
    w->call = (struct mu_call){MU_OP_KIND_ALLREDUCE, type, op, 0, 0, count, pieces->at, pieces->at};
    *out = w;
    return 0;
}

static uint16_t *own(const struct mu_gpu_wire *w)
{
    return (uint16_t *)(uintptr_t)w->memory;
}

static uint16_t *others(const struct mu_gpu_wire *w)
{
    return own(w) + w->part * (size_t)w->comm->size;
}

static int make_room(struct mu_gpu_wire *w, struct mu_err *err)
{
    size_t bytes = 2 * w->part * (size_t)w->comm->size * sizeof(uint16_t);
    const struct mu_gpu_comm *g = w->comm->gpu;
    mu_cu_ctx was = mu_cuda_enter(g->c, g->ctx);
    mu_cu_result cu = g->c->cuMemAlloc_v2(&w->memory, bytes);

    g->c->cuCtxSetCurrent(was);
    if (cu == MU_CU_OK)
        return 0;
    w->memory = 0;
    return mu_err_set(err, MUSTER_ENOMEM, "the GPU has no %zu bytes for what goes between ranks (error %d)", bytes,
                      (int)cu);
}

/* cuMemFree waits for whoever uses the memory, without a bound; so first comes a wait that has one. While NCCL aborts
 * it may not be called: then the memory stays until the process ends. */
int mu_gpu_wire_close(struct mu_gpu_wire *w, struct mu_err *err)
{
    struct mu_gpu_comm *g = w->comm->gpu;
    int rc = 0;

    if (w->memory && g) {
        rc = mu_gpu_wait(w->comm, w->at, err);
        if (rc == 0 || mu_gpu_aborted(g)) {
            mu_cu_ctx was = mu_cuda_enter(g->c, g->ctx);

            g->c->cuMemFree_v2(w->memory);
            g->c->cuCtxSetCurrent(was);
        }
    }
    free(w);
    return rc;
}

/* --- one reduction --- */

static bool ran(const struct mu_gpu_wire *w, int error, const char *kernel, struct mu_err *why)
{
    if (error)
        mu_err_set(why, MUSTER_ENODE, "kernel %s: %s", kernel, w->k->explain(error));
    return !error;
}

/* What follows on the stream has to be enqueued after it, so NCCL must have done so. */
static mu_nccl_result exchange(struct mu_gpu_comm *g, const struct mu_gpu_wire *w, uint8_t kind, const uint16_t *send,
                               uint16_t *recv, struct mu_err *why)
{
    return mu_gpu_settle(g, mu_gpu_issue(g, &(struct mu_call){kind, w->call.dtype, 0, 0, 0, w->part, send, recv}), why);
}

static mu_nccl_result steps(struct mu_gpu_comm *g, const struct mu_gpu_wire *w, struct mu_err *why)
{
    bool half = w->call.dtype == MUSTER_FLOAT16;
    uint16_t *mine = own(w) + w->part * (size_t)g->comm->rank;
    mu_nccl_result rc;
    size_t at = 0;

    for (size_t i = 0; i < w->n; at += w->pieces[i++].count)
        if (!ran(w,
                 w->k->narrow(g->stream, w->pieces[i].count, (struct narrow_args){own(w) + at, w->pieces[i].at, half}),
                 "narrow", why))
            return MU_NCCL_OK;
    rc = exchange(g, w, MU_OP_KIND_ALLTOALL, own(w), others(w), why);
    if (rc != MU_NCCL_OK || why->code)
        return rc;
    if (!ran(w,
             w->k->fold(g->stream, w->part,
                        (struct fold_args){mine, others(w), w->part, (unsigned)g->comm->size, w->call.op, half}),
             "fold", why))
        return MU_NCCL_OK;
    rc = exchange(g, w, MU_OP_KIND_ALLGATHER, mine, own(w), why);
    if (rc != MU_NCCL_OK || why->code)
        return rc;
    at = 0;
    for (size_t i = 0; i < w->n; at += w->pieces[i++].count)
        if (!ran(w, w->k->widen(g->stream, w->pieces[i].count, (struct widen_args){w->pieces[i].at, own(w) + at, half}),
                 "widen", why))
            break;
    return MU_NCCL_OK;
}

static mu_nccl_result enqueue(struct mu_gpu_comm *g, const struct mu_call *calls, unsigned n, void *arg,
                              struct mu_err *why)
{
    mu_cu_ctx was = mu_cuda_enter(g->c, g->ctx);
    mu_nccl_result rc = steps(g, arg, why);

    (void)calls, (void)n;
    g->c->cuCtxSetCurrent(was);
    return rc;
}

int mu_gpu_wire_run(struct mu_gpu_wire *w, struct mu_err *err)
{
    int rc = mu_gpu_prepare(w->comm, &w->call, err);

    if (rc == 0 && !w->memory)
        rc = make_room(w, err);
    if (rc == 0)
        rc = mu_gpu_enqueue(w->comm, &w->call, 1, enqueue, w, err);
    w->at = mu_gpu_issued(w->comm);
    return rc;
}
