/* Operations are enqueued here. */
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "collectives/nccl/gpu.h"
#include "runtime/base/clock.h"

#define BARE_POLLS 100u
#define NEVER UINT64_MAX /* number of an operation that was not enqueued */
#define NAP_NS 50000
#define AT_DEATH (100 * MU_MS) /* the watchdog looks no longer, unless it hangs */

struct mu_gpu_group {
    unsigned depth, n, room;
    struct mu_call *calls;
    uint64_t **at; /* of each: where who waits for it keeps its number; NULL: nobody */
};

static const mu_nccl_dtype dtypes[] = {
    [MUSTER_INT8] = MU_NCCL_INT8,
    [MUSTER_UINT8] = MU_NCCL_UINT8,
    [MUSTER_INT32] = MU_NCCL_INT32,
    [MUSTER_UINT32] = MU_NCCL_UINT32,
    [MUSTER_INT64] = MU_NCCL_INT64,
    [MUSTER_UINT64] = MU_NCCL_UINT64,
    [MUSTER_FLOAT16] = MU_NCCL_FLOAT16,
    [MUSTER_BFLOAT16] = MU_NCCL_BFLOAT16,
    [MUSTER_FLOAT32] = MU_NCCL_FLOAT32,
    [MUSTER_FLOAT64] = MU_NCCL_FLOAT64,
    [MUSTER_FLOAT8_E4M3] = MU_NCCL_FLOAT8E4M3,
    [MUSTER_FLOAT8_E5M2] = MU_NCCL_FLOAT8E5M2,
};
static const mu_nccl_op ops[] = {
    [MUSTER_SUM] = MU_NCCL_SUM, [MUSTER_PROD] = MU_NCCL_PROD, [MUSTER_MIN] = MU_NCCL_MIN,
    [MUSTER_MAX] = MU_NCCL_MAX, [MUSTER_AVG] = MU_NCCL_AVG,
};

/* --- which memory --- */

static bool on_device(const struct mu_cuda_api *c, const void *p)
{
    unsigned type = 0;

    /* What CUDA does not know is memory of the host; so is everything as long as nobody has started CUDA. */
    return p && c->cuPointerGetAttribute(&type, MU_CU_POINTER_MEMORY_TYPE, (mu_cu_ptr)(uintptr_t)p) == MU_CU_OK &&
           type == MU_CU_MEMORY_DEVICE;
}

/* NULL: no CUDA here. */
static const struct mu_cuda_api *driver(void)
{
    static const struct mu_cuda_api none, *_Atomic known; /* NULL: not tried */
    const struct mu_cuda_api *c = atomic_load_explicit(&known, memory_order_acquire);

    if (!c) {
        if (mu_cuda_load(&c, NULL) < 0)
            c = &none;
        atomic_store_explicit(&known, c, memory_order_release);
    }
    return c == &none ? NULL : c;
}

const struct mu_cuda_api *mu_gpu_owns(const void *p)
{
    const struct mu_cuda_api *c = driver();

    return c && on_device(c, p) ? c : NULL;
}

int mu_gpu_where(const struct muster_comm *comm, const struct mu_call *call, bool *device, struct mu_err *err)
{
    const struct mu_kind *k = &mu_kinds[call->kind];
    const struct mu_cuda_api *c = driver();
    bool takes, s, r;

    *device = false;
    if (!c || !call->count)
        return 0;
    takes = k->recv && !(call->kind == MU_OP_KIND_REDUCE && comm->rank != call->root);
    s = k->send && on_device(c, call->send);
    r = takes && (k->send && call->recv == call->send ? s : on_device(c, call->recv)); /* the driver is not quick */
    if (k->send && takes && s != r)
        return mu_err_set(err, MUSTER_EARG, "muster_%s: the %s buffer is in GPU memory and the other one is not",
                          k->name, s ? "send" : "receive");
    *device = s || r;
    return 0;
}

/* --- one call --- */

/* Nothing is known to have failed: the short way. */
static inline bool calm(const struct muster_comm *comm)
{
    const struct mu_engine *e = comm->engine;

    return !comm->dead && !e->dead && !e->trouble &&
           !(e->head && atomic_load_explicit(&e->head->abort, memory_order_acquire)) &&
           (!comm->gpu || atomic_load_explicit(&comm->gpu->state, memory_order_acquire) == MU_GPU_UP);
}

static mu_nccl_result all_to_all(struct mu_gpu_comm *g, const struct mu_call *call, mu_nccl_dtype t)
{
    size_t block = call->count * mu_dtype_size(call->dtype);
    mu_nccl_result rc = g->n->ncclGroupStart(), end;

    if (rc != MU_NCCL_OK)
        return rc;
    for (int p = 0; p < g->comm->size && rc == MU_NCCL_OK; p++) {
        rc = g->n->ncclSend(mu_at(call->send, (size_t)p * block), call->count, t, p, g->nccl, g->stream);
        if (rc == MU_NCCL_OK)
            rc = g->n->ncclRecv(mu_at(call->recv, (size_t)p * block), call->count, t, p, g->nccl, g->stream);
    }
    end = g->n->ncclGroupEnd();
    return rc == MU_NCCL_OK ? end : rc;
}

mu_nccl_result mu_gpu_issue(struct mu_gpu_comm *g, const struct mu_call *call)
{
    const struct mu_nccl_api *n = g->n;
    /* Moved as bytes, which every library takes and every GPU can do; NCCL before 2.28.9 refuses them below 9.0. */
    bool bytes = mu_dtype_float8(call->dtype) && !mu_kinds[call->kind].has_op;
    mu_nccl_dtype t = bytes ? MU_NCCL_UINT8 : dtypes[call->dtype];
    mu_nccl_op op = ops[call->op];

    switch (call->kind) {
    case MU_OP_KIND_ALLREDUCE:
        return n->ncclAllReduce(call->send, call->recv, call->count, t, op, g->nccl, g->stream);
    case MU_OP_KIND_REDUCE:
        return n->ncclReduce(call->send, call->recv, call->count, t, op, call->root, g->nccl, g->stream);
    case MU_OP_KIND_REDUCE_SCATTER:
        return n->ncclReduceScatter(call->send, call->recv, call->count, t, op, g->nccl, g->stream);
    case MU_OP_KIND_ALLGATHER:
        return n->ncclAllGather(call->send, call->recv, call->count, t, g->nccl, g->stream);
    case MU_OP_KIND_BROADCAST:
        return n->ncclBroadcast(call->recv, call->recv, call->count, t, call->root, g->nccl, g->stream);
    case MU_OP_KIND_ALLTOALL:
        if (!n->ncclAlltoAll)
            return all_to_all(g, call, t);
        return n->ncclAlltoAll(call->send, call->recv, call->count, t, g->nccl, g->stream);
    case MU_OP_KIND_SEND:
        return n->ncclSend(call->send, call->count, t, call->root, g->nccl, g->stream);
    case MU_OP_KIND_RECV:
        return n->ncclRecv(call->recv, call->count, t, call->root, g->nccl, g->stream);
    default:
        return MU_NCCL_INVALID_USAGE;
    }
}

static struct mu_sig sig_of(const struct mu_call *call)
{
    const struct mu_kind *k = &mu_kinds[call->kind];

    return (struct mu_sig){.kind = call->kind,
                           .dtype = (uint8_t)call->dtype,
                           .op = k->has_op ? (uint8_t)call->op : 0,
                           .root = k->has_root || k->has_peer ? call->root : 0,
                           .count = call->count};
}

/* The others look at this while the call is still being made. */
static void note(struct mu_gpu_comm *g, const struct mu_call *call)
{
    const struct mu_kind *k = &mu_kinds[call->kind];
    struct mu_gpu_record *r;
    uint64_t number;

    g->last = sig_of(call);
    if (g->issued == atomic_load_explicit(&g->completed, memory_order_relaxed))
        g->moved_at = mu_now();
    g->issued++;
    number = k->has_peer ? 0 : atomic_load_explicit(&g->own->colls, memory_order_relaxed) + 1;
    if (g->flight)
        mu_flight_enter(g->flight,
                        &(struct mu_flight_record){.number = number,
                                                   .count = call->count,
                                                   .bytes = call->count * mu_dtype_size(call->dtype),
                                                   .peer = k->has_root || k->has_peer ? call->root : -1,
                                                   .kind = call->kind,
                                                   .dtype = (uint8_t)call->dtype,
                                                   .op = (uint8_t)call->op},
                        false);
    if (k->has_peer)
        return;
    r = &g->own->ring[number % MU_GPU_RING];
    atomic_store_explicit(&r->number, 0, memory_order_relaxed);
    atomic_thread_fence(memory_order_release);
    r->since = g->moved_at;
    r->sig = g->last;
    atomic_store_explicit(&r->number, number, memory_order_release);
    atomic_store_explicit(&g->own->colls, number, memory_order_release);
}

/* In safe mode NCCL may still be at work when it returns; the next call must wait for it. */
mu_nccl_result mu_gpu_settle(struct mu_gpu_comm *g, mu_nccl_result rc, struct mu_err *err)
{
    uint64_t deadline = rc == MU_NCCL_IN_PROGRESS ? mu_now() + g->engine->timeout : 0;
    bool waits = rc == MU_NCCL_IN_PROGRESS;
    char who[100];

    for (unsigned polls = 0; rc == MU_NCCL_IN_PROGRESS; polls++) {
        mu_nccl_result got = g->n->ncclCommGetAsyncError(g->nccl, &rc);
        bool late = mu_now() > deadline;

        if (got != MU_NCCL_OK)
            rc = got;
        if (rc != MU_NCCL_IN_PROGRESS || !mu_gpu_goes_on(g, late, err))
            break;
        if (late) {
            mu_err_set(err, MUSTER_ETIMEOUT, "NCCL has not enqueued it in %.3g s on %s",
                       (double)g->engine->timeout / 1e9, mu_comm_who(g->comm, g->comm->rank, who, sizeof who));
            break;
        }
        if (polls < BARE_POLLS)
            sched_yield();
        else
            nanosleep(&(struct timespec){.tv_nsec = NAP_NS}, NULL);
    }
    if (waits)
        mu_slot_go(g->engine->slot);
    return rc;
}

/* The watchdog has been in NCCL for too long: nothing more will be heard of this communicator. */
static void give_up(struct muster_comm *comm)
{
    struct mu_gpu_comm *g = comm->gpu;
    int up = MU_GPU_UP;
    struct mu_err why;
    char who[100];

    if (!atomic_compare_exchange_strong(&g->state, &up, MU_GPU_LEFT))
        return;
    mu_err_set(&why, MUSTER_ETIMEOUT, "NCCL does not answer on %s", mu_comm_who(comm, comm->rank, who, sizeof who));
    snprintf(g->own->text, sizeof g->own->text, "%.399s", why.text);
    g->own->failed_at = 0; /* the others know better in which */
    atomic_store_explicit(&g->own->failed, why.code, memory_order_release);
    mu_err_prefix(&why, "muster_%s in GPU memory", mu_kinds[g->last.kind].name);
    mu_coll_break_comm(comm, &why);
    mu_coll_settle(comm->engine);
}

/* The same on all ranks: they have agreed on the version, and the capability is the lowest of all. */
static int reduces_float8(const struct mu_gpu_comm *g, const struct mu_call *call, struct mu_err *err)
{
    const char *type = mu_dtype_name((int)call->dtype), *name = mu_kinds[call->kind].name;
    char who[100];

    if (g->n->version < MU_NCCL_FLOAT8)
        return mu_err_set(err, MUSTER_ENOSYS,
                          "muster_%s: NCCL %s does not reduce %s in GPU memory, 2.24.3 or later is needed (%s)", name,
                          g->n->text, type, g->n->path);
    if (g->capability < MU_NCCL_FLOAT8_CAPABILITY)
        return mu_err_set(err, MUSTER_ENOSYS,
                          "muster_%s: NCCL reduces %s on GPUs of compute capability 9.0 or later, that of %s has %d.%d",
                          name, type, mu_comm_who(g->comm, g->oldest, who, sizeof who), g->capability / 10,
                          g->capability % 10);
    return 0;
}

static int checked(struct muster_comm *comm, const struct mu_call *call, struct mu_err *err)
{
    const struct mu_kind *k = &mu_kinds[call->kind];

    if (call->kind == MU_OP_KIND_ALLTOALL && call->send == call->recv)
        return mu_err_set(err, MUSTER_EARG, "muster_alltoall: in place is not available in GPU memory");
    if (k->has_peer && call->tag)
        return mu_err_set(err, MUSTER_EARG, "muster_%s: tag %d, but in GPU memory it must be 0", k->name, call->tag);
    if (!comm->gpu) {
        int rc = mu_gpu_start(comm, k->send ? call->send : call->recv, err);

        if (rc < 0)
            return mu_err_prefix(err, "muster_%s in GPU memory", k->name);
    }
    return k->has_op && mu_dtype_float8(call->dtype) ? reduces_float8(comm->gpu, call, err) : 0;
}

static mu_nccl_result issue_all(struct mu_gpu_comm *g, const struct mu_call *calls, unsigned n, void *group,
                                struct mu_err *why)
{
    mu_nccl_result rc = group ? g->n->ncclGroupStart() : MU_NCCL_OK, end;
    unsigned i = 0;

    (void)why;
    while (i < n && rc == MU_NCCL_OK)
        rc = mu_gpu_issue(g, &calls[i++]);
    if (!group)
        return rc;
    if (rc != MU_NCCL_OK && i) { /* that one is named, not the newest */
        g->last = sig_of(&calls[i - 1]);
        for (; i < n; i++)
            g->spared += !mu_kinds[calls[i].kind].has_peer;
    }
    end = g->n->ncclGroupEnd();
    return rc == MU_NCCL_OK ? end : rc;
}

int mu_gpu_enqueue(struct muster_comm *comm, const struct mu_call *calls, unsigned n, mu_gpu_steps *steps, void *arg,
                   struct mu_err *err)
{
    struct mu_gpu_comm *g = comm->gpu;
    struct mu_engine *e = comm->engine;
    mu_nccl_result rc;
    struct mu_err why;

    why.code = 0; /* its text is long, and most often not needed */
    if (!mu_gpu_lock(&g->lock, e->timeout)) {
        give_up(comm);
        return mu_comm_check(comm, err);
    }
    if (atomic_load(&g->state) == MU_GPU_UP) {
        for (unsigned i = 0; i < n; i++)
            note(g, &calls[i]);
        e->entered += n;
        mu_coll_entered(e, e->entered);
        mu_coll_last(e, g->slot_ctx, atomic_load_explicit(&g->own->colls, memory_order_relaxed));
        rc = steps(g, calls, n, arg, &why);
        if (!why.code && rc == MU_NCCL_IN_PROGRESS)
            rc = mu_gpu_settle(g, rc, &why);
        if (why.code)
            mu_gpu_fail(g, true, &why);
        else if (rc != MU_NCCL_OK)
            mu_gpu_refused(g, rc);
    }
    pthread_mutex_unlock(&g->lock);
    if (calm(comm))
        return 0;
    mu_gpu_check(comm);
    return mu_comm_check(comm, err);
}

static int admit(struct muster_comm *comm, const struct mu_call *call, struct mu_err *err)
{
    int rc;

    if (calm(comm))
        return 0;
    mu_gpu_check(comm);
    mu_coll_watch(comm->engine);
    mu_coll_settle(comm->engine);
    rc = mu_comm_check(comm, err);
    if (rc < 0 && strncmp(err->text, "muster_", 7) != 0) /* else it names the operation that has failed */
        mu_err_prefix(err, "muster_%s", mu_kinds[call->kind].name);
    return rc;
}

static bool in_group(const struct muster_comm *comm)
{
    return comm->gpu_group && comm->gpu_group->depth;
}

int mu_gpu_prepare(struct muster_comm *comm, const struct mu_call *call, struct mu_err *err)
{
    int rc = admit(comm, call, err);

    if (rc == 0 && in_group(comm))
        rc = mu_err_set(err, MUSTER_EARG, "a bucket that goes as 16 bits cannot start in a group: end that first");
    return rc < 0 ? rc : checked(comm, call, err);
}

int mu_gpu_run(struct muster_comm *comm, const struct mu_call *call, struct mu_err *err)
{
    struct mu_gpu_group *group = comm->gpu_group;
    int rc = admit(comm, call, err);

    if (rc < 0)
        return rc;
    if (!in_group(comm)) {
        rc = checked(comm, call, err);
        return rc < 0 ? rc : mu_gpu_enqueue(comm, call, 1, issue_all, NULL, err);
    }
    if (group->n == group->room) {
        unsigned room = group->room ? 2 * group->room : 16;
        struct mu_call *more = realloc(group->calls, room * sizeof *more);
        uint64_t **at = more ? realloc(group->at, room * sizeof(uint64_t *)) : NULL;

        group->calls = more ? more : group->calls;
        if (!at)
            return mu_err_set(err, MUSTER_ENOMEM, "no memory for a group of %u operations", room);
        group->at = at;
        group->room = room;
    }
    group->at[group->n] = NULL;
    group->calls[group->n++] = *call;
    return 0;
}

int mu_gpu_group_start(struct muster_comm *comm, struct mu_err *err)
{
    if (!comm->gpu_group)
        comm->gpu_group = calloc(1, sizeof *comm->gpu_group);
    if (!comm->gpu_group)
        return mu_err_set(err, MUSTER_ENOMEM, "no memory for a group");
    comm->gpu_group->depth++;
    return 0;
}

int mu_gpu_group_end(struct muster_comm *comm, struct mu_err *err)
{
    struct mu_gpu_group *group = comm->gpu_group;
    int rc = 0;
    unsigned n;

    if (!in_group(comm))
        return mu_err_set(err, MUSTER_EARG, "muster_group_end: no group is open");
    if (--group->depth || !group->n)
        return 0;
    n = group->n;
    group->n = 0;
    mu_gpu_check(comm);
    rc = mu_comm_check(comm, err);
    for (unsigned i = 0; i < n && rc == 0; i++)
        rc = checked(comm, &group->calls[i], err);
    for (unsigned i = 0; i < n && rc < 0; i++)
        if (group->at[i])
            *group->at[i] = NEVER; /* else it would be that of one to come */
    return rc < 0 ? rc : mu_gpu_enqueue(comm, group->calls, n, issue_all, group, err);
}

void mu_gpu_follow(struct muster_comm *comm, uint64_t *at)
{
    *at = mu_gpu_given(comm);
    if (in_group(comm))
        comm->gpu_group->at[comm->gpu_group->n - 1] = at;
}

void mu_gpu_forget(struct muster_comm *comm, const uint64_t *at)
{
    for (unsigned i = 0; in_group(comm) && i < comm->gpu_group->n; i++)
        if (comm->gpu_group->at[i] == at)
            comm->gpu_group->at[i] = NULL;
}

/* --- streams and waiting --- */

int mu_gpu_set_stream(struct muster_comm *comm, void *stream, struct mu_err *err)
{
    struct mu_gpu_comm *g = comm->gpu;
    const struct mu_cuda_api *c;
    mu_cu_result cu = MU_CU_OK;
    int rc = mu_cuda_load(&c, err);

    if (rc < 0)
        return rc;
    if (!g) {
        comm->stream = stream;
        return 0;
    }
    if (!mu_gpu_lock(&g->lock, comm->engine->timeout)) {
        give_up(comm);
        return mu_comm_check(comm, err);
    }
    if (g->issued > g->completed && atomic_load(&g->state) == MU_GPU_UP) {
        mu_cu_ctx was = mu_cuda_enter(c, g->ctx);

        cu = c->cuEventRecord(g->event, g->stream);
        if (cu == MU_CU_OK) {
            g->event_out = true;
            g->marked = g->issued;
            g->marked_colls = atomic_load_explicit(&g->own->colls, memory_order_relaxed);
            cu = c->cuStreamWaitEvent(stream, g->event, 0);
        }
        c->cuCtxSetCurrent(was);
    }
    if (cu == MU_CU_OK)
        comm->stream = g->stream = stream;
    pthread_mutex_unlock(&g->lock);
    return cu == MU_CU_OK
               ? 0
               : mu_err_set(err, MUSTER_EARG, "muster_comm_set_stream: CUDA refused a stream (error %d)", (int)cu);
}

/* One that is not enqueued is to come while its group is open, and lost afterwards. */
static bool is_over(const struct muster_comm *comm, uint64_t n)
{
    const struct mu_gpu_comm *g = comm->gpu;

    if (n > mu_gpu_issued(comm))
        return n == NEVER || !in_group(comm);
    return !g || atomic_load(&g->completed) >= n || atomic_load(&g->state) != MU_GPU_UP;
}

static bool look_if_free(struct mu_gpu_comm *g)
{
    if (pthread_mutex_trylock(&g->lock))
        return false;
    mu_gpu_look(g, false);
    pthread_mutex_unlock(&g->lock);
    return true;
}

void mu_gpu_check(struct muster_comm *comm)
{
    struct mu_gpu_comm *g = comm->gpu;

    struct mu_err err;

    if (!g || comm->dead)
        return;
    if (atomic_load_explicit(&g->state, memory_order_acquire) == MU_GPU_UP) {
        if (!mu_coll_abort_word(comm->engine, &err)) /* its text names the operation, too */
            return;
        if (mu_gpu_lock(&g->lock, AT_DEATH)) {
            mu_gpu_look(g, false);
            pthread_mutex_unlock(&g->lock);
        }
    }
    if (atomic_load_explicit(&g->state, memory_order_acquire) != MU_GPU_FAILED)
        return;
    if (mu_coll_abort_word(comm->engine, &err)) /* that is the end of all communicators */
        mu_coll_break_all(comm->engine, &g->broken);
    mu_coll_break_comm(comm, &g->broken);
    mu_coll_settle(comm->engine);
}

uint64_t mu_gpu_issued(const struct muster_comm *comm)
{
    return comm->gpu ? comm->gpu->issued : 0;
}

uint64_t mu_gpu_given(const struct muster_comm *comm)
{
    return mu_gpu_issued(comm) + (in_group(comm) ? comm->gpu_group->n : 0);
}

bool mu_gpu_ended(struct muster_comm *comm, uint64_t n)
{
    if (n <= mu_gpu_issued(comm) && !is_over(comm, n) && !look_if_free(comm->gpu)) {
        uint64_t since = atomic_load(&comm->gpu->watched);

        if (since && mu_now() - since > comm->engine->timeout)
            give_up(comm);
    }
    return is_over(comm, n);
}

int mu_gpu_wait(struct muster_comm *comm, uint64_t n, struct mu_err *err)
{
    struct mu_engine *e = comm->engine;
    uint64_t busy = 0;
    int rc;

    if (n > mu_gpu_issued(comm)) {
        rc = mu_comm_check(comm, err);
        return rc < 0 ? rc
                      : mu_err_set(err, MUSTER_EARG,
                                   "muster_wait: the operation was not enqueued: its group is still open, or its end "
                                   "has failed");
    }
    for (unsigned polls = 0; !is_over(comm, n); polls++) {
        bool looked = look_if_free(comm->gpu);

        if (looked)
            busy = 0;
        else if (!busy)
            busy = mu_now();
        else if (mu_now() - busy > e->timeout)
            give_up(comm);
        if (is_over(comm, n))
            break;
        if (looked && atomic_load(&comm->gpu->captured)) {
            mu_slot_go(e->slot);
            return mu_err_set(err, MUSTER_EARG,
                              "muster_%s in GPU memory: the stream is being captured, so that nothing on it ends: wait "
                              "once the graph has been launched",
                              mu_kinds[comm->gpu->last.kind].name);
        }
        mu_coll_beat(e);
        if (polls >= BARE_POLLS)
            mu_gpu_publish(comm->gpu);
        pthread_mutex_unlock(&e->lock);
        if (polls < BARE_POLLS)
            sched_yield();
        else
            nanosleep(&(struct timespec){.tv_nsec = NAP_NS}, NULL);
        pthread_mutex_lock(&e->lock);
    }
    mu_slot_go(e->slot);
    if (comm->gpu && atomic_load(&comm->gpu->completed) >= n && !comm->dead)
        return 0;
    mu_gpu_check(comm);
    return mu_comm_check(comm, err);
}

void mu_gpu_drop_group(struct muster_comm *comm)
{
    if (comm->gpu_group) {
        free(comm->gpu_group->calls);
        free(comm->gpu_group->at);
    }
    free(comm->gpu_group);
    comm->gpu_group = NULL;
}
