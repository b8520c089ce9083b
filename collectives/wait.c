/* Waiting: polling at first, then leaving the core to others, with an eye on the abort word and the deadline. */
#include <sched.h>
#include <stdio.h>
#include <time.h>

#include "collectives/engine.h"
#include "runtime/base/clock.h"

#define BARE_POLLS 50u
#define POLLS_A_LOOK 64u
#define PROBE_AFTER (100 * MU_MS)
#define NAP_NS 20000

int mu_coll_missing(const struct muster_request *req)
{
    for (unsigned i = 0; i < req->nin; i++)
        if (req->in[i].got < req->in[i].nframes)
            return req->in[i].peer;
    for (unsigned i = 0; i < req->nout; i++)
        if (req->out[i].open && req->out[i].sent < req->out[i].nframes)
            return req->out[i].peer;
    return -1;
}

void mu_coll_late(struct muster_request *req)
{
    const struct muster_comm *comm = req->comm;
    char who[100], list[300] = "";
    size_t used = 0;
    unsigned n = 0;
    struct mu_err err;

    /* Every peer once: streams of a peer lie `size - 1` apart or there is only one. */
    for (int r = 0; r < comm->size; r++) {
        bool missing = false;

        for (unsigned i = 0; i < req->nin && !missing; i++)
            missing = req->in[i].peer == r && req->in[i].got < req->in[i].nframes;
        for (unsigned i = 0; i < req->nout && !missing; i++)
            missing = req->out[i].peer == r && req->out[i].open && req->out[i].sent < req->out[i].nframes;
        if (!missing)
            continue;
        if (n++ < 4 && used < sizeof list)
            used += (size_t)snprintf(list + used, sizeof list - used, "%s%s", n > 1 ? ", " : "",
                                     mu_comm_who(comm, r, who, sizeof who));
    }
    if (n > 4 && used < sizeof list)
        snprintf(list + used, sizeof list - used, " and %u more", n - 4);
    mu_err_set(&err, MUSTER_ETIMEOUT, "%s waited %.3g s in muster_%s without hearing from %s",
               mu_comm_who(comm, comm->rank, who, sizeof who), (double)comm->engine->timeout / MU_SEC,
               mu_kinds[req->call.kind].name, n ? list : "the network");
    if (mu_kinds[req->call.kind].has_peer) {
        mu_coll_break_request(req, &err);
        return;
    }
    mu_coll_notify(req->comm, req->seq, &err);
    mu_coll_break_comm(req->comm, &err);
}

void mu_coll_probe(struct muster_request *req)
{
    req->probed = true;
    if (mu_kinds[req->call.kind].has_peer)
        return;
    for (unsigned i = 0; i < req->nin; i++) {
        struct mu_frame *f;

        if (req->in[i].got == req->in[i].nframes)
            continue;
        f = mu_coll_frame(req, MU_FRAME_PROBE, 0, 0);
        if (f)
            mu_coll_post(req->comm->engine, req->comm->world[req->in[i].peer], f, NULL);
    }
}

static void beat(struct mu_engine *e)
{
    uint64_t b = atomic_load_explicit(&e->slot->beat, memory_order_relaxed);

    atomic_store_explicit(&e->slot->beat, b + 1, memory_order_relaxed);
}

/* Returns how long nothing has moved, in ns. */
static uint64_t look(struct muster_request *req)
{
    struct mu_engine *e = req->comm->engine;
    uint64_t now = mu_now(), idle;
    int peer = mu_coll_missing(req);

    beat(e);
    atomic_store_explicit(&e->slot->op_peer, peer < 0 ? MU_OP_PEER_NONE : (uint32_t)req->comm->world[peer],
                          memory_order_relaxed);
    if (req->moved) {
        req->moved = false;
        req->moved_at = now;
    }
    idle = now - req->moved_at;
    mu_coll_watch(e);
    if (idle > PROBE_AFTER && !req->probed)
        mu_coll_probe(req);
    if (idle > e->timeout)
        mu_coll_late(req);
    mu_coll_settle(e);
    return idle;
}

bool mu_coll_test(struct muster_request *req)
{
    struct mu_engine *e = req->comm->engine;

    if (req->status != MU_PENDING)
        return true;
    mu_coll_progress(e);
    if (req->status == MU_PENDING) {
        uint64_t now = mu_now(), away = now - req->looked_at;

        /* Time that the program spends elsewhere is not time without an answer. */
        if (!req->looked_at)
            req->moved_at = now;
        else if (away > MU_SEC)
            req->moved_at += away - MU_SEC;
        req->looked_at = now;
        look(req);
    }
    return req->status != MU_PENDING;
}

void mu_coll_wait(struct muster_request *req)
{
    struct mu_engine *e = req->comm->engine;
    struct mu_slot *slot = e->slot;
    uint64_t idle = 0;
    unsigned polls = 0, quiet = 0;

    if (req->status != MU_PENDING)
        return;
    req->moved_at = mu_now();
    atomic_store_explicit(&slot->op_since, req->moved_at, memory_order_relaxed);
    atomic_store_explicit(&slot->op_peer, MU_OP_PEER_NONE, memory_order_relaxed);
    atomic_store_explicit(&slot->op_kind, req->call.kind, memory_order_release);
    while (req->status == MU_PENDING) {
        bool nap = idle > e->nap_after;

        if (mu_coll_progress(e)) {
            quiet = 0;
            idle = 0;
        }
        if (++polls % POLLS_A_LOOK == 0 || nap)
            idle = look(req);
        if (req->status != MU_PENDING || ++quiet <= BARE_POLLS)
            continue;
        pthread_mutex_unlock(&e->lock);
        if (nap)
            nanosleep(&(struct timespec){.tv_nsec = NAP_NS}, NULL);
        else
            sched_yield();
        pthread_mutex_lock(&e->lock);
    }
    atomic_store_explicit(&slot->op_kind, MU_OP_KIND_NONE, memory_order_release);
    beat(e);
    /* Give the news of a failure a chance to leave, even if the program ends now. */
    for (unsigned i = 0; req->status < 0 && !e->dead && e->tp->ops->pending(e->tp) && i < 1000; i++)
        mu_coll_progress(e);
}
