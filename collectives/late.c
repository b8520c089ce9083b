/* Who is late: whom a request waits for, and what is said at its deadline.
 *
 * Who is waited for may wait himself, for the one whose fault it is. From half of the patience on the waits are
 * followed from rank to rank (waits.h), every quarter anew. At the deadline those are named at their ends who have
 * shown no wait for the grace, a quarter of the patience and at most a second. If there is none, ranks that answer are
 * asked once more and have the grace; then any at an end are named. Waits in a circle have none: who has not come to
 * the operation is then named, else everybody who is missed.
 *
 * Between nodes those who are missed are also told what this rank is in (MU_FRAME_PROBE), so that it is found out if
 * they call something else, and answer when they have entered it or wait in one before it. */
#include <stdio.h>
#include <stdlib.h>

#include "collectives/hier.h"
#include "collectives/waits.h"
#include "runtime/base/clean.h"
#include "runtime/base/clock.h"

#define PROBE_AFTER (100 * MU_MS)
#define MOST_GRACE MU_SEC
#define FOLLOW_EVERY MU_MS

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

/* A part that waits: between nodes for one that does not answer, else inside the node. */
static const struct muster_request *part_of(const struct muster_request *req)
{
    const struct muster_request *best = NULL;

    for (const struct muster_request *r = NULL; (r = mu_hier_part(req, r));) {
        if (!r->shm.algo && r->probed && missing_in_streams(r, true) >= 0)
            return r;
        if (!best || (r->shm.algo && !best->shm.algo))
            best = r;
    }
    return best;
}

int mu_coll_missing(const struct muster_request *req)
{
    const struct muster_comm *comm;
    int peer;

    if (req->hier)
        req = part_of(req);
    if (!req)
        return -1;
    comm = req->comm;
    if (req->shm.algo) {
        peer = comm->shm->first ? comm->shm->first->shm.wait : -1; /* the others come after it */
    } else {
        peer = missing_in_streams(req, true);
        peer = peer < 0 ? missing_in_streams(req, false) : peer;
    }
    return peer < 0 ? -1 : comm->world[peer];
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
            op->plan.items[i].req->probed = (req->probed - 1) & 3;
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

/* By world rank: all that the request misses; absent: only those who have not come to its operation, or not said so. */
static bool find_missing(const struct muster_request *req, bool absent, bool *missing)
{
    const int *world = req->comm->world;
    bool any = false;

    for (const struct muster_request *r = NULL; req->hier && (r = mu_hier_part(req, r));)
        any |= find_missing(r, absent, missing);
    if (req->shm.algo && req->comm->shm->first)
        return mu_shm_missing(req->comm->shm->first, absent, missing);
    for (unsigned i = 0; i < req->nin; i++)
        if (misses_in(&req->in[i]) && !(absent && req->in[i].here))
            any = missing[world[req->in[i].peer]] = true;
    for (unsigned i = 0; i < req->nout; i++)
        if (misses_out(&req->out[i]) && !(absent && req->out[i].here))
            any = missing[world[req->out[i].peer]] = true;
    return any;
}

/* For the keeper, which may know more of those that did not come. */
static void tell_late(struct muster_request *req, int peer)
{
    struct mu_engine *e = req->comm->engine;

    mu_slot_late(e->slot, (uint32_t)e->entered,
                 &(struct mu_slot_op){.kind = req->call.kind,
                                      .peer = peer < 0 ? MU_OP_PEER_NONE : (uint32_t)peer,
                                      .ctx = req->comm->ctx,
                                      .number = req->seq + 1},
                 e->timeout);
}

/* from: whose wait led to each of them, -1: this one's. NULL: there is no memory to say whom. */
static void late(struct muster_request *req, const bool *blamed, const int *from)
{
    struct mu_engine *e = req->comm->engine;
    const struct muster_comm *world = e->world ? e->world : req->comm;
    char who[100], by[100], list[300] = "";
    size_t used = 0;
    unsigned n = 0;
    int first = -1;
    struct mu_err err;

    for (int r = 0; r < e->tp->size && blamed; r++) {
        if (!blamed[r])
            continue;
        if (n++ < 4 && used < sizeof list)
            used += (size_t)snprintf(list + used, sizeof list - used, "%s%s%s%s%s", n > 1 ? ", " : "",
                                     mu_comm_who(world, r, who, sizeof who), from[r] < 0 ? "" : ", for whom ",
                                     from[r] < 0 ? "" : mu_comm_who(world, from[r], by, sizeof by),
                                     from[r] < 0 ? "" : " waits");
        first = first < 0 ? r : first;
    }
    if (n > 4 && used < sizeof list)
        snprintf(list + used, sizeof list - used, " and %u more", n - 4);
    mu_err_set(&err, MUSTER_ETIMEOUT, "%s waited %.3g s in muster_%s without hearing from %s",
               mu_comm_who(req->comm, req->comm->rank, who, sizeof who), (double)e->timeout / MU_SEC,
               mu_kinds[req->call.kind].name, n ? list : "the network");
    tell_late(req, first);
    if (mu_kinds[req->call.kind].has_peer) {
        mu_coll_break_request(req, &err);
        return;
    }
    mu_coll_notify(req->comm, req->seq, &err);
    mu_coll_break_comm(req->comm, &err);
}

/* Follows the waits. True when it is time to say who is late, and it is known, or there is no more time. */
static bool is_found(const struct muster_request *req, uint64_t idle, bool *blamed, int *from)
{
    struct mu_engine *e = req->comm->engine;
    uint64_t t = e->timeout, grace = t / 4 < MOST_GRACE ? t / 4 : MOST_GRACE;
    size_t size = (size_t)e->tp->size;
    mu_auto_free bool *missing = calloc(size, sizeof *missing);
    bool found;

    if (!missing)
        return idle > t;
    find_missing(req, false, missing);
    found = mu_waits_follow(e, missing, grace, blamed, from);
    if (idle <= t || found || idle <= t + grace)
        return idle > t && found;
    if (mu_waits_follow(e, missing, grace / 2, blamed, from) || mu_waits_follow(e, missing, 0, blamed, from))
        return true;
    for (size_t r = 0; r < size; r++)
        from[r] = -1;
    if (!find_missing(req, true, blamed))
        find_missing(req, false, blamed);
    return true;
}

static void follow(struct muster_request *req, uint64_t idle)
{
    struct mu_engine *e = req->comm->engine;
    uint64_t t = e->timeout, now = mu_now();
    unsigned rounds = idle > t ? 3 : idle > t / 4 * 3 ? 2 : 1;
    mu_auto_free bool *blamed = NULL;
    mu_auto_free int *from = NULL;

    if (rounds == req->rounds && now - e->followed_at < FOLLOW_EVERY)
        return;
    e->followed_at = now;
    if (rounds > req->rounds) {
        mu_waits_ask(e, req->rounds == 0);
        req->rounds = rounds;
    }
    blamed = calloc((size_t)e->tp->size, sizeof *blamed);
    from = calloc((size_t)e->tp->size, sizeof *from);
    if (!blamed || !from ? idle > t : is_found(req, idle, blamed, from))
        late(req, from ? blamed : NULL, from);
}

void mu_coll_patience(struct muster_request *req, uint64_t idle)
{
    uint64_t t = req->comm->engine->timeout;

    if (idle > t / 2 && req->probed < 2) {
        req->probed = 1; /* the first time is left out where patience is short */
        probe(req);
    } else if (idle > PROBE_AFTER && req->probed == 0) {
        probe(req);
    }
    if (idle > t / 2)
        follow(req, idle);
}
