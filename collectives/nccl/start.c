/* How a communicator gets its NCCL communicator, and how it loses it. Each of the two is done by a thread of its own,
 * because no call of NCCL can be relied on to return: whoever waits for it waits until a deadline, and what has not
 * returned by then is left alone. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "collectives/nccl/gpu.h"
#include "collectives/segment.h"
#include "collectives/shm.h"
#include "runtime/base/clean.h"
#include "runtime/base/clock.h"
#include "runtime/base/nvlib.h"

#define TRIES 3
#define SLOT_CTX 0x475055 /* "GPU" */
#define NAP_NS 1000000
#define MOST_START (60 * MU_SEC) /* of one try */
#define MOST_END (5 * MU_SEC)
#define STUCK (2 * MU_SEC) /* beyond its deadline */

int mu_gpu_nccl_err(const struct mu_nccl_api *n, mu_nccl_comm comm, mu_nccl_result rc, const char *what,
                    struct mu_err *err)
{
    const char *more = comm ? n->ncclGetLastError(comm) : NULL;

    return mu_err_set(err, rc == MU_NCCL_REMOTE_ERROR ? MUSTER_EPEER : MUSTER_ENODE, "NCCL %s: %s: %s%s%.200s", n->text,
                      what, n->ncclGetErrorString(rc), more && *more ? ": " : "", more ? more : "");
}

/* --- threads that may never return --- */

static void nap(void)
{
    nanosleep(&(struct timespec){.tv_nsec = NAP_NS}, NULL);
}

static bool spawn(void *(*fn)(void *), void *arg)
{
    pthread_attr_t attr;
    sigset_t all, was;
    pthread_t t;
    bool ok;

    sigfillset(&all);
    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    pthread_sigmask(SIG_SETMASK, &all, &was);
    ok = pthread_create(&t, &attr, fn, arg) == 0;
    pthread_sigmask(SIG_SETMASK, &was, NULL);
    pthread_attr_destroy(&attr);
    return ok;
}

/* What such a thread works on begins with this. Its owners are the thread and who waits for it; the last one frees it.
 */
struct errand {
    _Atomic int owners;
    _Atomic bool done;
};

static void leave(struct errand *e)
{
    if (e && atomic_fetch_sub(&e->owners, 1) == 1)
        free(e);
}

/* The thread's last word. */
static void *is_done(struct errand *e)
{
    atomic_store(&e->done, true);
    leave(e);
    return NULL;
}

/* False: there is no thread, and it is freed. */
static bool send_off(void *(*fn)(void *), struct errand *e)
{
    atomic_store(&e->owners, 2);
    if (spawn(fn, e))
        return true;
    free(e);
    return false;
}

struct mu_gpu_abort { /* also an end in peace */
    struct errand errand;
    const struct mu_nccl_api *n;
    const struct mu_cuda_api *c;
    mu_nccl_comm nccl;
    mu_cu_ctx ctx;
    bool finalize;
};

static void disown(struct mu_gpu_abort *a)
{
    leave(a ? &a->errand : NULL);
}

static void *end(void *arg)
{
    struct mu_gpu_abort *a = arg;
    mu_nccl_result rc;

    a->c->cuCtxSetCurrent(a->ctx);
    if (a->finalize) {
        rc = a->n->ncclCommFinalize(a->nccl);
        while (rc == MU_NCCL_IN_PROGRESS && a->n->ncclCommGetAsyncError(a->nccl, &rc) == MU_NCCL_OK)
            nap();
        a->n->ncclCommDestroy(a->nccl);
    } else {
        a->n->ncclCommAbort(a->nccl);
    }
    return is_done(&a->errand);
}

static struct mu_gpu_abort *begin_end(struct mu_gpu_comm *g, bool finalize)
{
    struct mu_gpu_abort *a = calloc(1, sizeof *a);

    if (!a)
        return NULL;
    a->n = g->n;
    a->c = g->c;
    a->nccl = g->nccl;
    a->ctx = g->ctx;
    a->finalize = finalize;
    return send_off(end, &a->errand) ? a : NULL;
}

void mu_gpu_abort(struct mu_gpu_comm *g)
{
    g->abort = begin_end(g, false);
}

bool mu_gpu_aborted(const struct mu_gpu_comm *g)
{
    return g->abort && atomic_load(&g->abort->errand.done);
}

/* --- coming up --- */

struct birth {
    struct errand errand;
    _Atomic bool given_up;
    const struct mu_nccl_api *n;
    const struct mu_cuda_api *c;
    mu_nccl_id id;
    int rank, size;
    bool safe;
    uint64_t deadline;
    mu_cu_ctx ctx;
    mu_nccl_comm nccl; /* NULL: err */
    struct mu_err err;
};

static void *give_birth(void *arg)
{
    struct birth *b = arg;
    mu_nccl_config config = {.size = sizeof config,
                             .magic = MU_NCCL_CONFIG_MAGIC,
                             .version = MU_NCCL_OLDEST,
                             .blocking = !b->safe,
                             .cga_cluster_size = MU_NCCL_UNDEF,
                             .min_ctas = MU_NCCL_UNDEF,
                             .max_ctas = MU_NCCL_UNDEF,
                             .split_share = MU_NCCL_UNDEF};
    mu_nccl_comm comm = NULL;
    mu_nccl_result rc;

    b->c->cuCtxSetCurrent(b->ctx);
    rc = b->n->ncclCommInitRankConfig(&comm, b->size, b->id, b->rank, &config);
    while (rc == MU_NCCL_IN_PROGRESS && !atomic_load(&b->given_up)) {
        mu_nccl_result got = b->n->ncclCommGetAsyncError(comm, &rc);

        if (got != MU_NCCL_OK)
            rc = got;
        if (rc != MU_NCCL_IN_PROGRESS)
            break;
        if (mu_now() > b->deadline)
            atomic_store(&b->given_up, true);
        nap();
    }
    if (rc == MU_NCCL_OK && comm && !atomic_load(&b->given_up)) {
        b->nccl = comm;
    } else {
        if (rc == MU_NCCL_OK || rc == MU_NCCL_IN_PROGRESS)
            mu_err_set(&b->err, MUSTER_ETIMEOUT, "NCCL %s has not come up in time", b->n->text);
        else
            mu_gpu_nccl_err(b->n, comm, rc, "it does not come up", &b->err);
        if (comm)
            b->n->ncclCommAbort(comm);
    }
    return is_done(&b->errand);
}

/* The engine is unlocked while its caller sleeps; a supervisor's word ends the wait. */
static bool doze(struct mu_engine *e)
{
    struct mu_err err;

    mu_coll_beat(e);
    pthread_mutex_unlock(&e->lock);
    nap();
    pthread_mutex_lock(&e->lock);
    return !mu_coll_abort_word(e, &err);
}

struct hello { /* what ranks tell before a try */
    int32_t code;
    int32_t version, capability;
    uint64_t board; /* + 1 in the segment; 0: private */
    mu_nccl_id id;
    char why[200];
};

struct result {
    int32_t code; /* 0: up */
    int32_t stuck;
    char why[200];
};

static int gather(struct muster_comm *comm, const void *mine, size_t bytes, void *all, struct mu_err *err)
{
    return mu_coll_run(
        comm,
        &(struct mu_call){
            .kind = MU_OP_KIND_ALLGATHER, .dtype = MUSTER_UINT8, .count = bytes, .send = mine, .recv = all},
        err);
}

/* Until it is done, a supervisor's word, or the deadline. False: it is not done. */
static bool wait_for(struct mu_engine *e, const struct errand *x, uint64_t deadline)
{
    bool alive = true;

    while (!atomic_load(&x->done) && alive && mu_now() < deadline)
        alive = doze(e);
    return atomic_load(&x->done);
}

struct ask {
    struct errand errand;
    const struct mu_nccl_api *n;
    mu_nccl_id id;
    mu_nccl_result rc;
};

static void *get_id(void *arg)
{
    struct ask *a = arg;

    a->rc = a->n->ncclGetUniqueId(&a->id);
    return is_done(&a->errand);
}

/* NCCL brings its network up in it. */
static int ask_id(struct mu_gpu_comm *g, mu_nccl_id *id, struct mu_err *err)
{
    struct ask *a = calloc(1, sizeof *a);
    uint64_t deadline = mu_now() + g->start_most;
    int rc = 0;

    if (!a)
        return mu_err_set(err, MUSTER_ENOMEM, "no memory to bring NCCL up");
    a->n = g->n;
    if (!send_off(get_id, &a->errand))
        return mu_err_set(err, MUSTER_ENOMEM, "no thread to bring NCCL up");
    if (!wait_for(g->engine, &a->errand, deadline))
        rc = mu_err_set(err, MUSTER_ETIMEOUT, "NCCL %s gives no unique id in %.3g s", g->n->text,
                        (double)g->start_most / 1e9);
    else if (a->rc != MU_NCCL_OK)
        rc = mu_gpu_nccl_err(g->n, NULL, a->rc, "no unique id", err);
    else
        *id = a->id;
    leave(&a->errand);
    return rc;
}

static void try_once(struct mu_gpu_comm *g, const mu_nccl_id *id, uint64_t most, struct result *result)
{
    struct muster_comm *comm = g->comm;
    struct birth *b = calloc(1, sizeof *b);

    *result = (struct result){.code = MUSTER_ENOMEM, .why = "no memory or thread to bring NCCL up"};
    if (!b)
        return;
    b->n = g->n;
    b->c = g->c;
    b->id = *id;
    b->rank = comm->rank;
    b->size = comm->size;
    b->safe = g->safe;
    b->deadline = mu_now() + most;
    b->ctx = g->ctx;
    if (!send_off(give_birth, &b->errand))
        return;
    if (!wait_for(g->engine, &b->errand, b->deadline + STUCK)) {
        atomic_store(&b->given_up, true);
        *result = (struct result){.code = MUSTER_ETIMEOUT, .stuck = true};
        snprintf(result->why, sizeof result->why, "NCCL %s has not come up in time and does not return", g->n->text);
    } else if (b->nccl) {
        g->nccl = b->nccl;
        result->code = 0;
    } else {
        result->code = b->err.code;
        snprintf(result->why, sizeof result->why, "%.199s", b->err.text);
    }
    leave(&b->errand);
}

/* Who has not come up says why; one who has merely waited for the others says less. */
static int worst(const struct muster_comm *comm, const struct result *all, bool *stuck, struct mu_err *err)
{
    int at = -1, late = 0;
    char who[100];

    *stuck = false;
    for (int r = 0; r < comm->size; r++) {
        *stuck |= all[r].stuck != 0;
        late += all[r].code == MUSTER_ETIMEOUT;
        if (all[r].code && (at < 0 || (all[at].code == MUSTER_ETIMEOUT && all[r].code != MUSTER_ETIMEOUT)))
            at = r;
    }
    if (at < 0)
        return 0;
    if (all[at].code == MUSTER_ETIMEOUT)
        return mu_err_set(err, MUSTER_ETIMEOUT, "%d of %d ranks: %s", late, comm->size, all[at].why);
    return mu_err_set(err, at == comm->rank ? all[at].code : MUSTER_EPEER, "%s: %s",
                      mu_comm_who(comm, at, who, sizeof who), all[at].why);
}

/* Who has failed waits for the others' try, as in any call: it must end before he gives them up. */
static int read_start(const struct mu_engine *e, uint64_t *most, struct mu_err *err)
{
    const char *s = getenv("MUSTER_NCCL_START");
    double v, timeout = (double)e->timeout / 1e9;
    char *end;

    *most = e->timeout / 4 < MOST_START ? e->timeout / 4 : MOST_START;
    if (!s || !*s)
        return 0;
    v = strtod(s, &end);
    if (*end || !(v > 0 && v < timeout))
        return mu_err_set(
            err, MUSTER_EARG,
            "MUSTER_NCCL_START=%.60s: a number of seconds above 0 and below MUSTER_TIMEOUT (%.3g) is needed", s,
            timeout);
    *most = (uint64_t)(v * 1e9);
    return 0;
}

static int come_up(struct mu_gpu_comm *g, struct hello *mine, struct mu_err *err)
{
    struct muster_comm *comm = g->comm;
    mu_auto_free struct hello *hellos = calloc((size_t)comm->size, sizeof *hellos);
    mu_auto_free struct result *results = calloc((size_t)comm->size, sizeof *results);
    char who[100];
    int rc = 0;

    if (!hellos || !results)
        return mu_err_set(err, MUSTER_ENOMEM, "no memory to bring NCCL up");
    for (int t = 0; t < TRIES; t++) {
        struct result result;
        bool stuck = false;

        if (comm->rank == 0 && !mine->code) { /* a fresh id for each try */
            struct mu_err why;

            mine->code = ask_id(g, &mine->id, &why);
            if (mine->code)
                snprintf(mine->why, sizeof mine->why, "%.199s", why.text);
        }
        rc = gather(comm, mine, sizeof *mine, hellos, err);
        if (rc < 0)
            return rc;
        for (int r = 0; r < comm->size; r++)
            if (hellos[r].code)
                return mu_err_set(err, hellos[r].code, "%s: %.199s", mu_comm_who(comm, r, who, sizeof who),
                                  hellos[r].why);
        for (int r = 0; r < comm->size; r++)
            if (hellos[r].version != hellos[0].version)
                return mu_err_set(err, MUSTER_EVERSION, "%s has another version of NCCL than %s (%d, %d)",
                                  mu_comm_who(comm, r, who, sizeof who), "rank 0 of the communicator",
                                  hellos[r].version, hellos[0].version);
        g->oldest = 0;
        for (int r = 1; r < comm->size; r++)
            if (hellos[r].capability < hellos[g->oldest].capability)
                g->oldest = r;
        g->capability = hellos[g->oldest].capability;
        try_once(g, &hellos[0].id, g->start_most, &result);
        rc = gather(comm, &result, sizeof result, results, err);
        if (rc == 0)
            rc = worst(comm, results, &stuck, err);
        if (rc == 0) {
            for (int r = 0; r < comm->size; r++)
                if (r == comm->rank)
                    g->boards[r] = g->own;
                else if (hellos[r].board && g->engine->shm)
                    g->boards[r] =
                        mu_seg_at(&g->engine->shm->peers[comm->world[r]].seg, hellos[r].board, sizeof *g->own);
            return 0;
        }
        if (g->nccl) {
            g->abort = begin_end(g, false);
            for (uint64_t until = mu_now() + STUCK; g->abort && !mu_gpu_aborted(g) && mu_now() < until;)
                doze(g->engine);
            disown(g->abort);
            g->abort = NULL;
            g->nccl = NULL;
        }
        if (stuck || comm->dead || g->engine->dead)
            return rc;
    }
    return mu_err_prefix(err, "in %d tries", TRIES);
}

static int read_mode(bool *safe, struct mu_err *err)
{
    const char *s = getenv("MUSTER_NCCL_MODE");

    if (s && *s && strcmp(s, "safe") && strcmp(s, "fast"))
        return mu_err_set(err, MUSTER_EARG, "MUSTER_NCCL_MODE=%s: safe or fast is needed", s);
    *safe = !s || strcmp(s, "fast") != 0;
    return 0;
}

static int prepare(struct mu_gpu_comm *g, const void *buffer, struct hello *mine, struct mu_err *err)
{
    int rc = read_mode(&g->safe, err), major = 0, minor = 0;

    if (rc == 0)
        rc = read_start(g->engine, &g->start_most, err);
    if (rc == 0)
        rc = mu_cuda_load(&g->c, err);
    if (rc == 0)
        rc = mu_nccl_load(&g->n, err);
    if (rc < 0)
        return rc;
    mine->version = g->n->version;
    if (g->c->cuPointerGetAttribute(&g->device, MU_CU_POINTER_DEVICE, (mu_cu_ptr)(uintptr_t)buffer) != MU_CU_OK ||
        g->c->cuDevicePrimaryCtxRetain(&g->ctx, g->device) != MU_CU_OK)
        return mu_err_set(err, MUSTER_ENODE, "CUDA does not give the context of the buffer's GPU");
    if (g->c->cuDeviceGetAttribute(&major, MU_CU_CAPABILITY_MAJOR, g->device) == MU_CU_OK &&
        g->c->cuDeviceGetAttribute(&minor, MU_CU_CAPABILITY_MINOR, g->device) == MU_CU_OK)
        mine->capability = 10 * major + minor;
    return 0;
}

/* Frees what never came up, or is down; NCCL's own is gone or given up. */
static void drop(struct mu_gpu_comm *g)
{
    bool failed = atomic_load(&g->state) != MU_GPU_UP;
    mu_cu_ctx was;

    if (g->own && !(failed && mu_seg_offset(g->own, sizeof *g->own))) { /* others may still want to know why */
        atomic_store(&g->own->ctx, 0);
        if (!mu_seg_free(g->own))
            free(g->own);
    }
    if (g->ctx) {
        was = mu_cuda_enter(g->c, g->ctx);
        if (g->event)
            g->c->cuEventDestroy_v2(g->event);
        g->c->cuCtxSetCurrent(was);
        g->c->cuDevicePrimaryCtxRelease_v2(g->device);
    }
    mu_flight_close(g->engine->flight, g->flight);
    pthread_mutex_destroy(&g->lock);
    free(g->boards);
    free(g->checked);
    free(g);
}

static int make_event(struct mu_gpu_comm *g, struct mu_err *err)
{
    mu_cu_ctx was = mu_cuda_enter(g->c, g->ctx);
    mu_cu_result rc;

    rc = g->c->cuEventCreate(&g->event, MU_CU_EVENT_NO_TIMING);
    g->c->cuCtxSetCurrent(was);
    return rc == MU_CU_OK ? 0 : mu_err_set(err, MUSTER_ENODE, "CUDA gives no event (error %d)", (int)rc);
}

int mu_gpu_start(struct muster_comm *comm, const void *buffer, struct mu_err *err)
{
    struct mu_engine *e = comm->engine;
    struct mu_gpu_comm *g = calloc(1, sizeof *g);
    struct hello mine = {0};
    struct mu_err why;
    int rc;

    if (!g)
        return mu_err_set(err, MUSTER_ENOMEM, "no memory to bring NCCL up");
    pthread_mutex_init(&g->lock, NULL);
    g->comm = comm;
    g->engine = e;
    g->stream = comm->stream;
    g->slot_ctx = mu_comm_ctx(comm->ctx, 1, SLOT_CTX);
    g->boards = calloc((size_t)comm->size, sizeof *g->boards);
    g->checked = calloc((size_t)comm->size, sizeof *g->checked);
    g->own = e->shm ? mu_seg_alloc(sizeof *g->own) : NULL;
    if (g->own)
        mine.board = mu_seg_offset(g->own, sizeof *g->own);
    else
        g->own = calloc(1, sizeof *g->own);
    if (!g->boards || !g->checked || !g->own) {
        drop(g);
        return mu_err_set(err, MUSTER_ENOMEM, "no memory to bring NCCL up");
    }
    atomic_store(&g->own->ctx, comm->ctx);
    g->flight = mu_flight_open(e->flight, g->slot_ctx, (uint32_t)comm->size);
    rc = prepare(g, buffer, &mine, &why);
    if (rc == 0)
        rc = make_event(g, &why);
    if (rc < 0) { /* the others shall hear of it */
        mine.code = rc;
        snprintf(mine.why, sizeof mine.why, "%.199s", why.text);
    }
    rc = come_up(g, &mine, err);
    if (rc == 0)
        rc = mu_gpu_watch(g, err);
    if (rc < 0) {
        drop(g);
        return rc;
    }
    comm->gpu = g;
    return 0;
}

void mu_gpu_detach(struct muster_comm *comm)
{
    struct mu_gpu_comm *g = comm->gpu;
    struct mu_gpu_abort *a;
    uint64_t until;

    mu_gpu_drop_group(comm);
    if (!g)
        return;
    comm->gpu = NULL;
    if (!mu_gpu_unwatch(g)) { /* what it has is left alone */
        atomic_store(&g->state, MU_GPU_LEFT);
        return;
    }
    a = g->abort;
    if (atomic_load(&g->state) != MU_GPU_FAILED)
        a = begin_end(g, !comm->dead);
    for (until = mu_now() + (comm->dead ? STUCK : MOST_END); a && !atomic_load(&a->errand.done) && mu_now() < until;)
        nap();
    disown(a);
    drop(g);
}
