/* The watchdog: what is enqueued, whether it ends, and who is to blame if it does not. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "collectives/nccl/gpu.h"
#include "collectives/shm.h"
#include "runtime/base/clock.h"

#define TICK (10 * MU_MS)
#define MOST_HELD (2 * MU_SEC)
#define PEERS_AFTER (5 * MU_MS) /* who waits looks at others no more often */

static struct {
    pthread_mutex_t lock; /* taken before that of a communicator */
    pthread_cond_t wake;
    pthread_t thread;
    bool running, stop;
    struct mu_gpu_comm *first;
} watch = {.lock = PTHREAD_MUTEX_INITIALIZER, .wake = PTHREAD_COND_INITIALIZER};

/* --- failures --- */

static const struct mu_sig *sig_of(const struct mu_gpu_board *b, uint64_t number, struct mu_sig *room)
{
    const struct mu_gpu_record *r = &b->ring[number % MU_GPU_RING];

    if (!number || atomic_load_explicit(&r->number, memory_order_acquire) != number)
        return NULL;
    *room = r->sig;
    atomic_thread_fence(memory_order_acquire);
    return atomic_load_explicit(&r->number, memory_order_relaxed) == number ? room : NULL;
}

/* What the recorder has of the operations after `from`, up to `to`. */
static void record_end(struct mu_gpu_comm *g, uint64_t from, uint64_t to, bool failed)
{
    uint64_t tick = mu_tick();

    if (to - from > MU_FLIGHT_RING)
        from = to - MU_FLIGHT_RING;
    for (uint64_t n = from + 1; g->flight && n <= to; n++) {
        struct mu_flight_record *v = &g->flight->v[(n - 1) % MU_FLIGHT_RING];

        if (atomic_load_explicit(&v->seq, memory_order_relaxed) == n)
            mu_flight_leave(v, tick, failed);
    }
}

/* Messages have no number: one is named by the collective before it. */
static void fail_at(struct mu_gpu_comm *g, uint64_t number, bool message, const struct mu_err *why)
{
    struct mu_sig room;
    const struct mu_sig *sig = message ? &g->last : sig_of(g->own, number, &room);

    if (atomic_load(&g->state) != MU_GPU_UP)
        return;
    for (int r = 0; r < g->comm->size && !sig; r++) /* this rank may be the one that has not called it */
        if (g->boards[r])
            sig = sig_of(g->boards[r], number, &room);
    mu_err_set(&g->broken, why->code, "muster_%s in GPU memory, %soperation %llu of rank %d: %s",
               mu_kinds[(sig ? sig : &g->last)->kind].name, message ? "after " : "", (unsigned long long)number,
               g->engine->tp->rank, why->text);
    snprintf(g->own->text, sizeof g->own->text, "%.399s", why->text);
    g->own->failed_at = message ? 0 : number;
    atomic_store_explicit(&g->own->failed, why->code, memory_order_release);
    record_end(g, atomic_load_explicit(&g->completed, memory_order_relaxed), g->issued, true);
    mu_gpu_abort(g);
    atomic_store_explicit(&g->state, MU_GPU_FAILED, memory_order_release);
}

void mu_gpu_fail(struct mu_gpu_comm *g, bool newest, const struct mu_err *why)
{
    uint64_t colls = atomic_load_explicit(&g->own->colls, memory_order_relaxed) - g->spared;
    bool older = !newest && g->completed_colls < colls;

    fail_at(g, older ? g->completed_colls + 1 : colls, !older && mu_kinds[g->last.kind].has_peer, why);
}

/* --- what has ended --- */

static bool cuda_err(const struct mu_cuda_api *c, mu_cu_result rc, struct mu_err *err)
{
    const char *name = NULL;

    if (c->cuGetErrorName(rc, &name) != MU_CU_OK || !name)
        name = "unknown";
    mu_err_set(err, MUSTER_ENODE, "the GPU has failed: %s (%d)", name, (int)rc);
    return false;
}

/* An event behind everything that was enqueued tells when it has ended; the caller of the operations pays nothing for
 * it. False: err says what has failed. */
static bool ask_event(struct mu_gpu_comm *g, bool *ended, struct mu_err *err)
{
    mu_cu_result rc = g->event_out ? g->c->cuEventQuery(g->event) : MU_CU_NOT_READY;

    *ended = g->event_out && rc == MU_CU_OK;
    return rc == MU_CU_NOT_READY || rc == MU_CU_OK || cuda_err(g->c, rc, err);
}

static void note_end(struct mu_gpu_comm *g, uint64_t now)
{
    record_end(g, atomic_load_explicit(&g->completed, memory_order_relaxed), g->marked, false);
    g->event_out = false;
    g->completed_colls = g->marked_colls;
    g->moved_at = now;
    atomic_store_explicit(&g->completed, g->marked, memory_order_release);
}

static bool mark(struct mu_gpu_comm *g, uint64_t now, struct mu_err *err)
{
    mu_cu_capture capture = MU_CU_NOT_CAPTURING;
    mu_cu_result rc;

    atomic_store(&g->captured, false);
    if (g->event_out || g->issued == atomic_load_explicit(&g->completed, memory_order_relaxed))
        return true;
    rc = g->c->cuStreamIsCapturing(g->stream, &capture);
    if (rc == MU_CU_OK && capture != MU_CU_NOT_CAPTURING) {
        atomic_store(&g->captured, true);
        g->moved_at = now; /* nothing runs while a graph is being made */
        return true;
    }
    if (rc == MU_CU_OK)
        rc = g->c->cuEventRecord(g->event, g->stream);
    if (rc != MU_CU_OK)
        return cuda_err(g->c, rc, err);
    g->event_out = true;
    g->marked = g->issued;
    g->marked_colls = atomic_load_explicit(&g->own->colls, memory_order_relaxed);
    return true;
}

/* --- the others --- */

/* Ranks enqueue the same collectives in the same order. False: one does not. */
static bool compare(struct mu_gpu_comm *g, int r, const struct mu_gpu_board *b, uint64_t *number, struct mu_err *err)
{
    uint64_t mine = atomic_load_explicit(&g->own->colls, memory_order_acquire),
             theirs = atomic_load_explicit(&b->colls, memory_order_acquire), end = mine < theirs ? mine : theirs;
    char what[120], me[100], they[100], my_call[120], their_call[120];
    struct mu_sig room[2];

    if (g->checked[r] + MU_GPU_RING < end)
        g->checked[r] = end - MU_GPU_RING;
    while (g->checked[r] < end) {
        const struct mu_sig *a, *x;

        *number = ++g->checked[r];
        a = sig_of(g->own, *number, &room[0]);
        x = sig_of(b, *number, &room[1]);
        if (!a || !x || !mu_sig_differs(a, x, what, sizeof what))
            continue;
        mu_err_set(err, MUSTER_EMISMATCH, "%s calls %s where %s calls %s; different: %s",
                   mu_comm_who(g->comm, g->comm->rank, me, sizeof me), mu_sig_text(a, my_call, sizeof my_call),
                   mu_comm_who(g->comm, r, they, sizeof they), mu_sig_text(x, their_call, sizeof their_call), what);
        return false;
    }
    *number = 0;
    return true;
}

static bool is_gone(const struct mu_gpu_comm *g, int r)
{
    const struct mu_shm_peer *p = &g->engine->shm->peers[g->comm->world[r]];

    return !g->engine->head && p->pid && kill(p->pid, 0) < 0 && errno == ESRCH;
}

/* False: one of them has failed, or disagrees. */
static bool look_at_others(struct mu_gpu_comm *g, uint64_t *number, struct mu_err *err)
{
    char who[100], text[400];

    for (int r = 0; r < g->comm->size; r++) {
        const struct mu_gpu_board *b = g->boards[r];
        int code;

        if (!b || b == g->own || atomic_load_explicit(&b->ctx, memory_order_acquire) != g->comm->ctx)
            continue;
        code = atomic_load_explicit(&b->failed, memory_order_acquire);
        *number = code ? b->failed_at : 0;
        snprintf(text, sizeof text, "%.399s", code ? b->text : "");
        atomic_thread_fence(memory_order_acquire);
        /* Was it freed meanwhile, and used? */
        if (atomic_load_explicit(&b->ctx, memory_order_relaxed) != g->comm->ctx) {
            *number = 0;
            continue;
        }
        if (code == MUSTER_EPEER || code == MUSTER_ETIMEOUT || code == MUSTER_EMISMATCH) { /* names its cause */
            mu_err_set(err, code, "%s", text);
            return false;
        }
        if (code) {
            mu_err_set(err, MUSTER_EPEER, "%s: %.399s", mu_comm_who(g->comm, r, who, sizeof who), text);
            return false;
        }
        if (!compare(g, r, b, number, err))
            return false;
        if (is_gone(g, r)) {
            mu_err_set(err, MUSTER_EPEER, "%s is gone", mu_comm_who(g->comm, r, who, sizeof who));
            return false;
        }
    }
    return true;
}

/* NCCL fails where a peer has ended its communicator: what that one has noted before is the cause. Else the others pass
 * on as it is what it says of a peer. */
static void of_nccl(struct mu_gpu_comm *g, mu_nccl_result rc, const char *what, uint64_t *number, struct mu_err *err)
{
    char who[100];

    if (!look_at_others(g, number, err))
        return;
    *number = 0;
    mu_gpu_nccl_err(g->n, g->nccl, rc, what, err);
    if (err->code == MUSTER_EPEER)
        mu_err_prefix(err, "%s", mu_comm_who(g->comm, g->comm->rank, who, sizeof who));
}

/* Who has enqueued least holds the others up, in the operation after his last one; -1: nobody is seen to. */
static int behind(const struct mu_gpu_comm *g, uint64_t *number, int *seen)
{
    uint64_t least = atomic_load_explicit(&g->own->colls, memory_order_relaxed);
    int late = -1;

    *number = g->completed_colls + 1;
    *seen = 1;
    for (int r = 0; r < g->comm->size; r++) {
        const struct mu_gpu_board *b = g->boards[r];
        uint64_t n;

        if (!b || b == g->own || atomic_load(&b->ctx) != g->comm->ctx)
            continue;
        ++*seen;
        n = atomic_load(&b->colls);
        if (n < least) {
            least = n;
            late = r;
            *number = n + 1;
        }
    }
    return late;
}

static struct mu_slot_op wait_of(const struct mu_gpu_comm *g, int late, uint64_t number)
{
    return (struct mu_slot_op){.kind = g->last.kind,
                               .peer = late < 0 ? MU_OP_PEER_NONE : (uint32_t)g->comm->world[late],
                               .since = g->moved_at,
                               .ctx = g->slot_ctx,
                               .number = number};
}

static void publish(struct mu_gpu_comm *g)
{
    struct mu_slot_op op;
    uint64_t number;
    int seen, late = behind(g, &number, &seen);

    op = wait_of(g, late, number);
    mu_slot_wait(g->engine->slot, &op);
}

void mu_gpu_publish(struct mu_gpu_comm *g)
{
    if (pthread_mutex_trylock(&g->lock)) /* the watchdog looks; next time */
        return;
    publish(g);
    pthread_mutex_unlock(&g->lock);
}

/* False: nobody is seen to be late. */
static bool blame_late(struct mu_gpu_comm *g, uint64_t *number, int *seen, struct mu_err *err)
{
    struct mu_slot *slot = g->engine->slot;
    uint64_t at;
    int late = behind(g, &at, seen);
    struct mu_slot_op op = wait_of(g, late, at);
    char who[100];

    /* For the keeper, which may know more of those that did not come. */
    mu_slot_late(slot, (uint32_t)atomic_load_explicit(&slot->op_seq, memory_order_relaxed), &op, g->engine->timeout);
    if (late < 0)
        return false;
    *number = at;
    mu_err_set(err, MUSTER_ETIMEOUT, "%s has not enqueued it in %.3g s, nor any after its operation %llu",
               mu_comm_who(g->comm, late, who, sizeof who), (double)g->engine->timeout / 1e9,
               (unsigned long long)at - 1);
    return true;
}

/* Of this node; -1: nobody. */
static int who_left(const struct mu_gpu_comm *g)
{
    for (int r = 0; r < g->comm->size; r++)
        if (g->boards[r] && atomic_load(&g->boards[r]->ctx) != g->comm->ctx)
            return r;
    return -1;
}

static void blame(struct mu_gpu_comm *g, uint64_t *number, struct mu_err *err)
{
    bool messages = mu_kinds[g->last.kind].has_peer &&
                    g->completed_colls == atomic_load_explicit(&g->own->colls, memory_order_relaxed);
    double s = (double)g->engine->timeout / 1e9;
    char who[100];
    int seen, left = who_left(g);

    if (blame_late(g, number, &seen, err))
        return;
    if (messages) { /* of which the others do not tell */
        mu_err_set(err, MUSTER_ETIMEOUT,
                   "it has not ended in %.3g s: the other end, %s, has not come, or a GPU or the network hangs", s,
                   mu_comm_who(g->comm, g->last.root, who, sizeof who));
    } else if (left >= 0) {
        mu_err_set(err, MUSTER_ETIMEOUT, "it has not ended in %.3g s; %s has left the communicator", s,
                   mu_comm_who(g->comm, left, who, sizeof who));
    } else if (seen < g->comm->size) {
        mu_err_set(err, MUSTER_ETIMEOUT,
                   "it has not ended in %.3g s; the ranks of this node have enqueued it, so it is one of another node, "
                   "the network or a GPU",
                   s);
    } else {
        mu_err_set(err, MUSTER_ETIMEOUT,
                   "it has not ended in %.3g s, although all ranks have enqueued it: a GPU or the network hangs", s);
    }
}

/* --- looking --- */

/* What the others say comes before the supervisor's word: a rank that has failed may have ended since. And it comes
 * before the end of an operation is known, because ranks that did not call the same have not ended it well. */
static bool is_well(struct mu_gpu_comm *g, bool watchdog, uint64_t *number, struct mu_err *err)
{
    mu_nccl_result async = MU_NCCL_OK, rc;
    struct mu_err word = {0}, after = {0};
    bool ended = false, dead = mu_coll_abort_word(g->engine, &word);
    uint64_t now = mu_now();

    if (!ask_event(g, &ended, dead ? &after : err) && !dead)
        return false;
    if (!dead && !ended && !watchdog && now - g->looked_at < PEERS_AFTER)
        return mark(g, now, err);
    g->looked_at = now;
    if (!look_at_others(g, number, err))
        return false;
    if (dead) {
        if (ended) /* so that the operation named is one that the death has cut off */
            note_end(g, now);
        *err = word;
        return false;
    }
    rc = watchdog ? g->n->ncclCommGetAsyncError(g->nccl, &async) : MU_NCCL_OK;
    if (atomic_load(&g->state) != MU_GPU_UP) /* it has been given up meanwhile */
        return true;
    if (rc != MU_NCCL_OK || (async != MU_NCCL_OK && async != MU_NCCL_IN_PROGRESS)) {
        of_nccl(g, rc != MU_NCCL_OK ? rc : async, "it has failed", number, err);
        return false;
    }
    if (ended)
        note_end(g, now);
    if (!mark(g, now, err))
        return false;
    if (g->issued == atomic_load(&g->completed) || now - g->moved_at <= g->engine->timeout)
        return true;
    blame(g, number, err);
    return false;
}

static void note_failure(struct mu_gpu_comm *g, uint64_t number, bool newest, const struct mu_err *why)
{
    if (number)
        fail_at(g, number, false, why);
    else
        mu_gpu_fail(g, newest, why);
}

void mu_gpu_refused(struct mu_gpu_comm *g, mu_nccl_result rc)
{
    uint64_t number = 0;
    struct mu_err why = {0};

    of_nccl(g, rc, "it was refused", &number, &why);
    note_failure(g, number, true, &why);
}

bool mu_gpu_goes_on(struct mu_gpu_comm *g, bool late, struct mu_err *err)
{
    uint64_t number = 0, now = mu_now();
    struct mu_err word;
    bool dead = mu_coll_abort_word(g->engine, &word), well;
    int seen;

    if (!dead && !late && now - g->looked_at < PEERS_AFTER)
        return true;
    g->looked_at = now;
    mu_coll_beat(g->engine);
    publish(g);
    well = look_at_others(g, &number, err);
    if (well && dead) {
        *err = word;
        well = false;
    } else if (well && late) {
        well = !blame_late(g, &number, &seen, err);
    }
    if (!well)
        note_failure(g, number, !dead, err);
    return well;
}

void mu_gpu_look(struct mu_gpu_comm *g, bool watchdog)
{
    uint64_t number = 0;
    struct mu_err why = {0};
    mu_cu_ctx was;

    if (atomic_load(&g->state) != MU_GPU_UP)
        return;
    was = mu_cuda_enter(g->c, g->ctx);
    if (!is_well(g, watchdog, &number, &why)) {
        note_failure(g, number, false, &why);
    }
    g->c->cuCtxSetCurrent(was);
}

bool mu_gpu_lock(pthread_mutex_t *lock, uint64_t ns)
{
    struct timespec t;

    if (pthread_mutex_trylock(lock) == 0)
        return true;
    clock_gettime(CLOCK_REALTIME, &t);
    ns += (uint64_t)t.tv_nsec;
    t.tv_sec += (time_t)(ns / MU_SEC);
    t.tv_nsec = (long)(ns % MU_SEC);
    return pthread_mutex_timedlock(lock, &t) == 0;
}

static void *run(void *arg)
{
    struct timespec t;

    pthread_mutex_lock(&watch.lock);
    while (!watch.stop) {
        for (struct mu_gpu_comm *g = watch.first; g; g = g->next)
            if (pthread_mutex_trylock(&g->lock) == 0) { /* else its caller looks itself */
                atomic_store(&g->watched, mu_now());
                mu_gpu_look(g, true);
                atomic_store(&g->watched, 0);
                pthread_mutex_unlock(&g->lock);
            }
        clock_gettime(CLOCK_REALTIME, &t);
        t.tv_nsec += (long)TICK;
        t.tv_sec += t.tv_nsec / (long)MU_SEC;
        t.tv_nsec %= (long)MU_SEC;
        pthread_cond_timedwait(&watch.wake, &watch.lock, &t);
    }
    pthread_mutex_unlock(&watch.lock);
    return arg;
}

int mu_gpu_watch(struct mu_gpu_comm *g, struct mu_err *err)
{
    sigset_t all, was;
    int rc = 0;

    if (!mu_gpu_lock(&watch.lock, g->engine->timeout))
        return mu_err_set(err, MUSTER_ETIMEOUT, "the watchdog hangs in NCCL");
    if (!watch.running) {
        watch.stop = false;
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &was);
        watch.running = pthread_create(&watch.thread, NULL, run, NULL) == 0;
        pthread_sigmask(SIG_SETMASK, &was, NULL);
    }
    if (watch.running) {
        g->next = watch.first;
        watch.first = g;
    } else {
        rc = mu_err_set(err, MUSTER_ENOMEM, "no thread for the watchdog");
    }
    pthread_mutex_unlock(&watch.lock);
    return rc;
}

bool mu_gpu_unwatch(struct mu_gpu_comm *g)
{
    bool last;

    if (!mu_gpu_lock(&watch.lock, MOST_HELD))
        return false;
    for (struct mu_gpu_comm **at = &watch.first; *at; at = &(*at)->next)
        if (*at == g) {
            *at = g->next;
            break;
        }
    last = watch.running && !watch.first;
    if (last) {
        watch.stop = true;
        watch.running = false;
        pthread_cond_signal(&watch.wake);
    }
    pthread_mutex_unlock(&watch.lock);
    if (last)
        pthread_join(watch.thread, NULL);
    return true;
}
