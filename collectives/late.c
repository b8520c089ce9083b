/* Who is late: whom a request waits for, and what is said at its deadline.
 *
 * Who is waited for may wait himself, for the one whose fault it is. Inside a node beats show it (shm.h). Between nodes
 * those who are waited for are asked, at half of the patience for the last time, and answer if they have entered the
 * operation or wait in one before it: who has not answered at the deadline is named. One who hears from all leaves it
 * to them to say whom they miss, for a while. */
#include <stdio.h>
#include <stdlib.h>

#include "collectives/hier.h"
#include "runtime/base/clean.h"
#include "runtime/base/clock.h"

#define PROBE_AFTER (100 * MU_MS)
#define MOST_GRACE MU_SEC

static bool misses_in(const struct mu_in *in)
{
    return in->got < in->nframes;
}

static bool misses_out(const struct mu_out *out)
{
    return (out->open && out->sent < out->nframes) || out->inflight; /* it has left us, but not arrived */
}

/* silent: only one that has not answered. */
static int missing_in_streams(const struct muster_request *req, bool silent)
{
    for (unsigned i = 0; i < req->nin; i++)
        if (misses_in(&req->in[i]) && !(silent && req->in[i].here))
            return req->in[i].peer;
    for (unsigned i = 0; i < req->nout; i++)
        if (misses_out(&req->out[i]) && !(silent && req->out[i].here))
            return req->out[i].peer;
    return -1;
}

int mu_coll_missing(const struct muster_request *req)
{
    int peer;

    if (req->hier) {
        const struct muster_request *part = mu_hier_current(req);

        return part ? mu_hier_rank(req->comm, part->comm, mu_coll_missing(part)) : -1;
    }
    if (req->shm.algo)
        return req->comm->shm->first ? req->comm->shm->first->shm.wait : -1; /* the others come after it */
    peer = missing_in_streams(req, true);
    return peer < 0 ? missing_in_streams(req, false) : peer;
}

bool mu_coll_silent(const struct muster_request *req)
{
    if (req->hier) {
        const struct muster_request *part = mu_hier_current(req);

        return part && mu_coll_silent(part);
    }
    if (req->shm.algo)
        return !req->whole || (req->comm->shm->first && mu_shm_still(req->comm->shm->first));
    return mu_kinds[req->call.kind].has_peer || (req->probed > 1 && missing_in_streams(req, true) >= 0);
}

/* --- asking --- */

static void ask(struct muster_request *req, int peer, bool *asked)
{
    struct mu_frame *f = asked[peer] ? NULL : mu_coll_frame(req, MU_FRAME_PROBE, 0, 0);

    asked[peer] = true;
    if (!f)
        return;
    f->head.offset = req->whole ? req->whole->seq : req->seq;
    mu_coll_post(req->comm->engine, req->comm->world[peer], f, NULL);
}

static void probe(struct muster_request *req)
{
    const struct mu_hier_op *op = req->hier;
    mu_auto_free bool *asked = NULL;

    req->probed++;
    for (unsigned i = 0; op && i < op->plan.n; i++)
        if (op->plan.items[i].req && op->plan.items[i].req->status == MU_PENDING) {
            op->plan.items[i].req->probed = (uint8_t)(req->probed - 1);
            probe(op->plan.items[i].req);
        }
    if (mu_kinds[req->call.kind].has_peer || req->nin + req->nout == 0)
        return;
    asked = calloc((size_t)req->comm->size, sizeof *asked);
    for (unsigned i = 0; i < req->nin && asked; i++) {
        req->in[i].here = false;
        if (misses_in(&req->in[i]))
            ask(req, req->in[i].peer, asked);
    }
    for (unsigned i = 0; i < req->nout && asked; i++) {
        req->out[i].here = false;
        if (misses_out(&req->out[i]))
            ask(req, req->out[i].peer, asked);
    }
}

/* Has it entered that operation, or waits it in one before it? */
static bool is_here(const struct muster_comm *comm, uint64_t seq)
{
    const struct muster_request *r = comm->active;

    while (r && mu_kinds[r->call.kind].has_peer)
        r = r->next;
    return r || seq < comm->seq;
}

void mu_coll_answer(struct muster_comm *comm, const struct mu_frame *probe)
{
    struct mu_frame *f;

    if (!is_here(comm->whole ? comm->whole : comm, probe->head.offset))
        return; /* it is looked at again when the operation is entered */
    f = mu_frame_new(&comm->engine->pool, 0);
    if (!f)
        return;
    f->head.type = MU_FRAME_HERE;
    f->head.ctx = comm->ctx;
    f->head.seq = probe->head.seq;
    f->head.src = (uint32_t)comm->rank;
    f->head.sig = probe->head.sig;
    mu_coll_post(comm->engine, comm->world[probe->head.src], f, NULL);
}

void mu_coll_here(struct muster_request *req, int peer)
{
    for (unsigned i = 0; i < req->nin; i++)
        req->in[i].here |= req->in[i].peer == peer;
    for (unsigned i = 0; i < req->nout; i++)
        req->out[i].here |= req->out[i].peer == peer;
}

/* --- the deadline --- */

/* For the keeper, which may know more of those that did not come. */
static void tell_late(struct muster_request *req)
{
    struct mu_engine *e = req->comm->engine;
    int peer = mu_coll_missing(req);

    mu_slot_late(e->slot, (uint32_t)e->entered,
                 &(struct mu_slot_op){.kind = req->call.kind,
                                      .peer = peer < 0 ? MU_OP_PEER_NONE : (uint32_t)req->comm->world[peer],
                                      .ctx = req->comm->ctx,
                                      .number = req->seq + 1},
                 e->timeout);
}

/* Members of req's communicator that have not done their part; silent: those who have not answered either. */
static bool find_in_streams(const struct muster_request *req, bool silent, bool *missing)
{
    bool any = false;

    for (unsigned i = 0; i < req->nin; i++)
        if (misses_in(&req->in[i]) && !(silent && req->in[i].here))
            any = missing[req->in[i].peer] = true;
    for (unsigned i = 0; i < req->nout; i++)
        if (misses_out(&req->out[i]) && !(silent && req->out[i].here))
            any = missing[req->out[i].peer] = true;
    return any;
}

static void find_missing(struct muster_request *req, bool *missing)
{
    if (req->shm.algo && req->comm->shm->first)
        mu_shm_blame(req->comm->shm->first, missing);
    else if (!find_in_streams(req, true, missing))
        find_in_streams(req, false, missing);
}

/* The same for one that is made of parts. */
static void find_missing_in(const struct muster_request *req, bool *missing)
{
    struct muster_request *part = mu_hier_current(req);
    mu_auto_free bool *side = part ? calloc((size_t)part->comm->size, sizeof *side) : NULL;

    if (!side)
        return;
    find_missing(part, side);
    for (int r = 0; r < part->comm->size; r++)
        if (side[r])
            missing[mu_hier_rank(req->comm, part->comm, r)] = true;
}

static void late(struct muster_request *req)
{
    const struct muster_comm *comm = req->comm;
    mu_auto_free bool *missing = calloc((size_t)comm->size, sizeof *missing);
    char who[100], list[300] = "";
    size_t used = 0;
    unsigned n = 0;
    struct mu_err err;

    if (missing)
        req->hier ? find_missing_in(req, missing) : find_missing(req, missing);
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

void mu_coll_patience(struct muster_request *req, uint64_t idle)
{
    uint64_t t = req->comm->engine->timeout, grace = t / 4 < MOST_GRACE ? t / 4 : MOST_GRACE;

    if (idle > t / 2 && req->probed < 2) {
        req->probed = 1; /* the first time is left out where patience is short */
        probe(req);
    } else if (idle > PROBE_AFTER && req->probed == 0) {
        probe(req);
    }
    if (idle > t && (mu_coll_silent(req) || idle > t + grace))
        late(req);
}
