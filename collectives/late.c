/* Who is late: whom a request waits for, and what is said at its deadline. */
#include <stdio.h>
#include <stdlib.h>

#include "collectives/hier.h"
#include "runtime/base/clean.h"
#include "runtime/base/clock.h"

int mu_coll_missing(const struct muster_request *req)
{
    if (req->hier) {
        const struct muster_request *part = mu_hier_current(req);

        return part ? mu_hier_rank(req->comm, part->comm, mu_coll_missing(part)) : -1;
    }
    if (req->shm.algo)
        return req->comm->shm->first ? req->comm->shm->first->shm.wait : -1; /* the others come after it */
    for (unsigned i = 0; i < req->nin; i++)
        if (req->in[i].got < req->in[i].nframes)
            return req->in[i].peer;
    for (unsigned i = 0; i < req->nout; i++)
        if (req->out[i].open && req->out[i].sent < req->out[i].nframes)
            return req->out[i].peer;
    /* it has left us, but not arrived */
    return req->inflight && req->nout == 1 ? req->out[0].peer : -1;
}

/* For the keeper, which may know more of those that did not come. */
static void tell_late(struct muster_request *req)
{
    struct mu_slot *s = req->comm->engine->slot;
    uint32_t seq = (uint32_t)req->comm->engine->entered;
    int peer = mu_coll_missing(req);

    if (atomic_load_explicit(&s->late_kind, memory_order_relaxed) &&
        atomic_load_explicit(&s->late_seq, memory_order_relaxed) == seq)
        return;
    atomic_store_explicit(&s->late_kind, 0, memory_order_release);
    atomic_store_explicit(&s->late_seq, seq, memory_order_relaxed);
    atomic_store_explicit(&s->late_ctx, req->comm->ctx, memory_order_relaxed);
    atomic_store_explicit(&s->late_number, req->seq + 1, memory_order_relaxed);
    atomic_store_explicit(&s->late_ns, req->comm->engine->timeout, memory_order_relaxed);
    atomic_store_explicit(&s->late_peer, peer < 0 ? MU_OP_PEER_NONE : (uint32_t)req->comm->world[peer],
                          memory_order_relaxed);
    atomic_store_explicit(&s->late_kind, req->call.kind, memory_order_release);
}

/* Members of req's communicator that have not done their part. */
static void find_missing(struct muster_request *req, bool *missing)
{
    if (req->shm.algo && req->comm->shm->first)
        mu_shm_blame(req->comm->shm->first, missing);
    for (unsigned i = 0; i < req->nin; i++)
        missing[req->in[i].peer] |= req->in[i].got < req->in[i].nframes;
    for (unsigned i = 0; i < req->nout; i++)
        missing[req->out[i].peer] |= req->out[i].open && req->out[i].sent < req->out[i].nframes;
}

/* The same for one that is made of parts. */
static void find_missing_in(struct muster_request *req, bool *missing)
{
    const struct muster_comm *local = req->comm->hier->side[MU_LOCAL];
    struct muster_request *part = mu_hier_current(req);
    mu_auto_free bool *side = NULL;

    if (local->shm && local->shm->first && mu_shm_still(local->shm->first))
        part = local->shm->first;
    side = part ? calloc((size_t)part->comm->size, sizeof *side) : NULL;
    if (!side)
        return;
    find_missing(part, side);
    for (int r = 0; r < part->comm->size; r++)
        if (side[r])
            missing[mu_hier_rank(req->comm, part->comm, r)] = true;
}

void mu_coll_late(struct muster_request *req)
{
    const struct muster_comm *comm = req->comm;
    mu_auto_free bool *missing = calloc((size_t)comm->size, sizeof *missing);
    char who[100], list[300] = "";
    size_t used = 0;
    unsigned n = 0;
    struct mu_err err;

    if (missing)
        (req->hier ? find_missing_in : find_missing)(req, missing);
    for (int r = 0; r < comm->size && missing; r++) {
        if (!missing[r])
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
    tell_late(req);
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
    for (unsigned i = 0; req->hier && i < req->hier->plan.n; i++)
        if (req->hier->plan.items[i].req && req->hier->plan.items[i].req->status == MU_PENDING)
            mu_coll_probe(req->hier->plan.items[i].req);
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
