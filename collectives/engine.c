#include "collectives/engine.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "collectives/algorithms.h"
#include "collectives/hier.h"
#include "collectives/waits.h"
#include "runtime/base/clock.h"

#define FRAMES_A_POLL 32
#define AWAY (100 * MU_MS) /* or a tick more */

/* --- failures --- */

static void note(struct mu_err *where, const struct mu_err *why)
{
    if (!where->code)
        *where = *why;
}

void mu_coll_break_all(struct mu_engine *e, const struct mu_err *why)
{
    note(&e->broken, why);
    e->trouble = true;
}

void mu_coll_break_comm(struct muster_comm *comm, const struct mu_err *why)
{
    note(&comm->broken, why);
    comm->engine->trouble = true;
}

void mu_coll_break_request(struct muster_request *req, const struct mu_err *why)
{
    note(&req->err, why);
    req->comm->engine->trouble = true;
}

void mu_coll_end(struct muster_request *req, int status)
{
    struct mu_engine *e = req->comm->engine;

    *req->link = req->next;
    if (req->next)
        req->next->link = req->link;
    if (req->queued) {
        struct muster_request **at = &e->run_first;

        while (*at != req)
            at = &(*at)->run_next;
        *at = req->run_next;
        if (!*at)
            e->run_last = at;
        req->queued = false;
    }
    if (req->shm.algo)
        mu_shm_unlink(req);
    if (req->inflight)
        e->tp->ops->orphan(e->tp, req);
    for (unsigned i = 0; i < req->nin; i++)
        mu_frames_clear(&req->in[i].queue, &e->pool);
    req->status = status;
    e->ends++;
    /* a ring that went round has given it to another operation */
    if (req->flight && atomic_load_explicit(&req->flight->seq, memory_order_relaxed) == req->flight_seq)
        mu_flight_leave(req->flight, mu_tick(), status < 0);
    if (req->whole)
        mu_coll_kick(req->whole);
}

static void fail_request(struct muster_request *req, const struct mu_err *why)
{
    mu_err_set(&req->err, why->code, "muster_%s, operation %llu of rank %d: %s", mu_kinds[req->call.kind].name,
               (unsigned long long)req->entered, req->comm->engine->tp->rank, why->text);
    req->comm->told = req->comm->engine->told = true;
    mu_coll_end(req, why->code);
}

void mu_coll_settle(struct mu_engine *e)
{
    while (e->trouble) {
        e->trouble = false;
        if (e->broken.code)
            e->dead = true;
        for (struct muster_comm *c = e->comms; c; c = c->next) {
            if (e->dead)
                note(&c->broken, &e->broken);
            for (struct muster_request *r = c->active, *next; r; r = next) {
                struct mu_err why = r->err.code ? r->err : c->broken;

                next = r->next;
                if (why.code)
                    fail_request(r, &why);
            }
            if (c->broken.code && c->shm && !c->dead)
                mu_shm_poison(c);
            if (c->broken.code && !c->dead)
                mu_hier_spread(c);
            if (c->broken.code)
                c->dead = true;
        }
    }
}

const char *mu_comm_who(const struct muster_comm *comm, int peer, char *text, size_t size)
{
    int world = peer >= 0 && peer < comm->size ? comm->world[peer] : -1;

    if (world >= 0 && comm->engine->nodes)
        snprintf(text, size, "rank %d on %s", world, comm->engine->nodes[world]);
    else
        snprintf(text, size, "rank %d", world);
    return text;
}

bool mu_coll_read_abort(const struct mu_engine *e, struct mu_err *err)
{
    const struct mu_slot_head *h = e->head;
    char node[sizeof h->abort_node + 1] = "", how[64];
    int st;

    memcpy(node, h->abort_node, sizeof h->abort_node);
    st = h->abort_status;
    if (st < 0)
        snprintf(how, sizeof how, "is lost");
    else if ((st & 0x7f) == 0)
        snprintf(how, sizeof how, "ended with code %d", st >> 8 & 0xff);
    else
        snprintf(how, sizeof how, "was killed by signal %d", st & 0x7f);
    mu_err_set(err, MUSTER_EPEER, "rank %u on %s %s", h->abort_rank, node[0] ? node : "an unknown node", how);
    return true;
}

void mu_coll_watch(struct mu_engine *e)
{
    struct mu_err err;

    if (!e->broken.code && mu_coll_abort_word(e, &err))
        mu_coll_break_all(e, &err);
}

int mu_comm_check(struct muster_comm *comm, struct mu_err *err)
{
    struct mu_engine *e = comm->engine;
    bool *told = e->dead ? &e->told : &comm->told;

    if (!e->dead && !comm->dead)
        return 0;
    if (!*told) {
        *told = true;
        *err = comm->broken;
        return err->code;
    }
    return mu_err_set(err, MUSTER_EABORTED, "this communicator was aborted: %s", comm->broken.text);
}

/* --- messages --- */

void mu_coll_post(struct mu_engine *e, int world_peer, struct mu_frame *f, struct muster_request *owner)
{
    struct mu_err err;
    int rc;

    f->owner = owner;
    rc = e->tp->ops->send(e->tp, world_peer, f, &err);
    if (rc == MU_SEND_PENDING) {
        mu_coll_in_flight(f);
        return;
    }
    mu_frame_free(&e->pool, f);
    if (rc < 0) {
        char who[100];

        if (e->world)
            mu_err_prefix(&err, "%s cannot be reached", mu_comm_who(e->world, world_peer, who, sizeof who));
        mu_coll_break_all(e, &err);
    }
}

void mu_coll_notify(struct muster_comm *comm, uint64_t seq, const struct mu_err *why)
{
    struct mu_engine *e = comm->engine;

    if (comm->whole) {
        mu_coll_notify(comm->whole, seq, why);
        mu_coll_break_comm(comm->whole, why);
        return;
    }
    for (int i = 0; i < comm->size && !comm->shm; i++) {
        struct mu_frame *f = i == comm->rank ? NULL : mu_frame_new(&e->pool, sizeof why->text);

        if (!f)
            continue;
        f->head.type = MU_FRAME_NOTICE;
        f->head.ctx = comm->ctx;
        f->head.seq = seq;
        f->head.src = (uint32_t)comm->rank;
        f->head.offset = (uint64_t)-why->code;
        f->head.bytes = (uint32_t)strnlen(why->text, sizeof why->text - 1);
        memcpy(f->data, why->text, f->head.bytes);
        mu_coll_post(e, comm->world[i], f, NULL);
    }
}

bool mu_coll_agree(struct muster_comm *comm, const struct mu_sig *mine, const struct mu_frame *f)
{
    char what[120], me[100], they[100], my_call[120], their_call[120];
    struct mu_err err;

    if (!mu_sig_differs(mine, &f->head.sig, what, sizeof what))
        return true;
    mu_err_set(&err, MUSTER_EMISMATCH, "%s calls %s where %s calls %s; different: %s",
               mu_comm_who(comm, comm->rank, me, sizeof me), mu_sig_text(mine, my_call, sizeof my_call),
               mu_comm_who(comm, (int)f->head.src, they, sizeof they),
               mu_sig_text(&f->head.sig, their_call, sizeof their_call), what);
    mu_coll_notify(comm, f->head.seq, &err);
    mu_coll_break_comm(comm, &err);
    return false;
}

void mu_coll_of_peer(struct muster_comm *comm, int peer, struct mu_err *why)
{
    char who[100];

    if (why->code != MUSTER_ENODE)
        return;
    why->code = MUSTER_EPEER;
    mu_err_prefix(why, "%s", mu_comm_who(comm, peer, who, sizeof who));
}

static void take_notice(struct muster_comm *comm, const struct mu_frame *f)
{
    struct mu_err err;
    int code = f->head.offset <= 99 ? -(int)f->head.offset : MUSTER_EABORTED;

    mu_err_set(&err, code, "%.*s", (int)f->head.bytes, f->data);
    mu_coll_of_peer(comm, (int)f->head.src, &err);
    mu_coll_break_comm(comm, &err);
}

static void collective(struct muster_comm *comm, struct mu_frame *f)
{
    struct muster_request *r = comm->active;
    uint64_t seq = f->head.seq;
    const struct mu_sig *mine;

    if (f->head.type == MU_FRAME_PROBE)
        mu_coll_answer(comm, f);
    if (seq >= comm->seq) {
        mu_frames_push(&comm->early[seq % MU_BUCKETS], mu_frame_compact(&comm->engine->pool, f));
        return;
    }
    while (r && (r->seq != seq || mu_kinds[r->call.kind].has_peer))
        r = r->next;
    if (r && f->head.type == MU_FRAME_CREDIT) {
        mu_coll_credit(r, f);
    } else if (f->head.type == MU_FRAME_HERE) {
        if (r)
            mu_coll_here(r, (int)f->head.src);
    } else if (f->head.type != MU_FRAME_CREDIT) {
        /* An operation that has ended here may still have puzzled a rank that waits for more. */
        mine = r ? &r->sig : seq + MU_HISTORY >= comm->seq ? &comm->history[seq % MU_HISTORY] : NULL;
        if (mine && mu_coll_agree(comm, mine, f) && r && f->head.type == MU_FRAME_DATA) {
            mu_coll_accept(r, f);
            return;
        }
    }
    mu_frame_free(&comm->engine->pool, f);
}

void mu_coll_dispatch(struct mu_engine *e, struct mu_frame *f)
{
    struct muster_comm *comm = e->comms;

    while (comm && comm->ctx != f->head.ctx)
        comm = comm->next;
    if (!comm) {
        bool asks = f->head.type == MU_FRAME_WHOM || f->head.type == MU_FRAME_WAITS;
        bool gone = asks || f->head.type == MU_FRAME_CREDIT || f->head.type == MU_FRAME_HERE;

        if (asks)
            mu_waits_dispatch(e, f);
        for (size_t i = 0; i < e->nretired && !gone; i++)
            gone = e->retired[i] == f->head.ctx;
        if (gone)
            mu_frame_free(&e->pool, f);
        else
            mu_frames_push(&e->stray, mu_frame_compact(&e->pool, f));
        return;
    }
    if (comm->broken.code || f->head.src >= (uint32_t)comm->size) {
        mu_frame_free(&e->pool, f);
    } else if (f->head.sig.kind == MU_OP_KIND_SEND) {
        mu_p2p_dispatch(comm, f);
    } else if (f->head.type == MU_FRAME_NOTICE) {
        take_notice(comm, f);
        mu_frame_free(&e->pool, f);
    } else {
        collective(comm, f);
    }
}

/* --- progress --- */

void mu_coll_kick(struct muster_request *req)
{
    struct mu_engine *e = req->comm->engine;

    if (req->queued || req->status != MU_PENDING)
        return;
    req->queued = true;
    req->run_next = NULL;
    if (!e->run_first)
        e->run_last = &e->run_first;
    *e->run_last = req;
    e->run_last = &req->run_next;
}

static bool streams_ended(const struct muster_request *req)
{
    for (unsigned i = 0; i < req->nout; i++)
        if (req->out[i].sent < req->out[i].nframes)
            return false;
    for (unsigned i = 0; i < req->nin; i++)
        if (!mu_in_ended(&req->in[i]))
            return false;
    return true;
}

static void step(struct muster_request *req)
{
    bool done;

    do {
        done = req->algo->step(req);
        mu_coll_drain(req);
    } while (mu_coll_push(req));
    if (done && !req->inflight && streams_ended(req) && !req->err.code)
        mu_coll_end(req, 0);
}

static void run_kicked(struct mu_engine *e)
{
    mu_coll_settle(e);
    while (e->run_first) {
        struct muster_request *req = e->run_first;

        e->run_first = req->run_next;
        req->queued = false;
        step(req);
        mu_coll_settle(e);
    }
}

/* Streams go on, of whatever communicator. */
static bool is_pending(const struct mu_engine *e)
{
    for (const struct muster_comm *c = e->comms; c; c = c->next)
        if (c->active && !c->shm)
            return true;
    return false;
}

/* Asking MPI for a frame costs as much as all else here. So what can be sent is sent before, and who has got all that
 * its operation needs does not ask for more. But who was away looks at everything first: others may have given up. */
bool mu_coll_progress(struct mu_engine *e)
{
    bool any = false, away;
    struct mu_err err;
    uint64_t ends, now = mu_now_roughly();

    away = now - e->drained_at > AWAY;
    ends = e->ends;
    if (!away)
        run_kicked(e);
    /* Who has nothing else under way when something ends, as a broadcast's root each time, asks a tick later. */
    if (now != e->drained_at || is_pending(e))
        ends = e->ends;
    for (int i = 0; i < FRAMES_A_POLL && !e->broken.code && e->ends == ends; i++) {
        struct mu_frame *in = NULL;
        struct mu_frames sent = {0};
        int rc = e->tp->ops->poll(e->tp, &in, &sent, &err);

        for (struct mu_frame *f; (f = mu_frames_pop(&sent));) {
            if (f->owner) {
                f->owner->inflight--;
                f->owner->out[f->out].inflight--;
                f->owner->moved = true;
                mu_coll_kick(f->owner);
            }
            mu_frame_free(&e->pool, f);
            any = true;
        }
        if (rc < 0)
            mu_coll_break_all(e, &err);
        if (!in) {
            e->drained_at = now;
            break;
        }
        any = true;
        mu_coll_dispatch(e, in);
        if (!away)
            run_kicked(e);
    }
    return mu_coll_progress_near(e) || any;
}

bool mu_coll_progress_near(struct mu_engine *e)
{
    bool any = false;

    for (struct muster_comm *c = e->comms; c; c = c->next)
        if (c->shm && c->shm->first)
            any |= mu_shm_push(c);
    run_kicked(e);
    return any;
}

/* --- requests --- */

static void take_early(struct muster_request *req)
{
    struct muster_comm *comm = req->comm;
    struct mu_frames *q = &comm->early[req->seq % MU_BUCKETS], all = *q;

    *q = (struct mu_frames){0};
    for (struct mu_frame *f; (f = mu_frames_pop(&all));)
        mu_coll_dispatch(comm->engine, f); /* one of a later operation goes back to its queue, in order */
}

static struct muster_request *new_streams(struct muster_comm *comm, const struct mu_call *call, unsigned row,
                                          struct mu_err *err)
{
    const struct mu_algo *algo = mu_algo_row(row);
    unsigned nout = 0, nin = 0;
    struct muster_request *req;

    algo->shape(comm, call, &nout, &nin);
    req = calloc(1, sizeof *req + nout * sizeof *req->out + nin * sizeof *req->in);
    if (!req) {
        mu_err_set(err, MUSTER_ENOMEM, "no memory for the request");
        return NULL;
    }
    req->algo = algo;
    req->nout = nout;
    req->nin = nin;
    req->out = (struct mu_out *)(void *)(req + 1);
    req->in = (struct mu_in *)(void *)(req->out + nout);
    return req;
}

static struct muster_request *new_channels(struct muster_comm *comm, bool quick, struct mu_err *err)
{
    struct muster_request *req = quick && !comm->quick_used ? &comm->quick : malloc(sizeof *req);
    size_t cleared = offsetof(struct muster_request, red);

    if (!req) {
        mu_err_set(err, MUSTER_ENOMEM, "no memory for the request");
        return NULL;
    }
    if (req == &comm->quick)
        comm->quick_used = true;
    /* The rest is set by mu_shm_start, or long and not read. A size that the compiler knows becomes `rep stos`, which
     * takes longer to begin than the library takes. */
    __asm__("" : "+r"(cleared));
    memset(req, 0, cleared);
    req->err.code = 0;
    return req;
}

static void free_request(struct muster_request *req)
{
    mu_hier_free(req);
    free(req->acc);
    if (req == &req->comm->quick)
        req->comm->quick_used = false;
    else
        free(req);
}

struct mu_flight_record *mu_coll_record(struct muster_comm *comm, const struct mu_call *call, uint64_t number)
{
    const struct mu_kind *k = &mu_kinds[call->kind];

    if (!comm->flight_asked) {
        comm->flight = mu_flight_open(comm->engine->flight, comm->ctx, (uint32_t)comm->size);
        comm->flight_asked = true;
    }
    if (!comm->flight)
        return NULL;
    struct mu_flight_record what = {.number = number,
                                    .count = call->count,
                                    .bytes = call->count * mu_dtype_size(call->dtype),
                                    .peer = k->has_root || k->has_peer ? call->root : -1,
                                    .kind = call->kind,
                                    .dtype = (uint8_t)call->dtype,
                                    .op = (uint8_t)call->op};

    return mu_flight_enter(comm->flight, &what, true);
}

static void enlist(struct muster_request *req)
{
    struct muster_comm *comm = req->comm;
    struct mu_engine *e = comm->engine;

    if (!req->whole) {
        req->entered = ++e->entered;
        mu_coll_entered(e, e->entered);
    }
    req->next = comm->active;
    req->link = &comm->active;
    if (req->next)
        req->next->link = &req->next;
    comm->active = req;
    comm->requests++;
    if (!mu_kinds[req->call.kind].has_peer) {
        req->seq = comm->seq++;
        if (MU_CHECKS && !comm->shm) /* members that share memory send no frames */
            mu_sig_copy(&comm->history[req->seq % MU_HISTORY], &req->sig);
    }
    if (MU_CHECKS && !req->whole && e->flight) {
        req->flight = comm->recorded
                          ? comm->recorded
                          : mu_coll_record(comm, &req->call, mu_kinds[req->call.kind].has_peer ? 0 : req->seq + 1);
        comm->recorded = NULL;
        req->flight_seq = req->flight ? atomic_load_explicit(&req->flight->seq, memory_order_relaxed) : 0;
    }
    if (!req->whole && !mu_kinds[req->call.kind].has_peer)
        mu_coll_last(e, comm->ctx, req->seq + 1);
}

/* quick: the caller waits for it at once. whole: what it is part of. */
static int open_request(struct muster_comm *comm, const struct mu_call *call, bool quick, const struct mu_part *part,
                        struct muster_request *whole, struct muster_request **out, struct mu_err *err)
{
    size_t elem = mu_dtype_size(call->dtype);
    bool p2p = mu_kinds[call->kind].has_peer, channels = comm->shm && !p2p;
    unsigned row = channels ? 0 : mu_algo_select(comm, call, call->count * elem);
    struct muster_request *req = channels ? new_channels(comm, quick, err) : new_streams(comm, call, row, err);
    int rc;

    if (!req)
        return err->code;
    req->comm = comm;
    req->whole = whole;
    req->status = MU_PENDING;
    mu_call_copy(&req->call, call);
    req->elem = elem;
    req->part = part ? *part : (struct mu_part){0};
    if (whole) { /* what people have called */
        req->sig = whole->sig;
        req->sig.algo = (uint8_t)row;
    } else {
        req->sig = mu_sig_of(p2p ? MU_OP_KIND_SEND : call->kind, call->dtype, call->op, p2p ? 0 : row,
                             mu_kinds[call->kind].has_root ? call->root : 0, call->count);
    }
    rc = channels ? 0 : req->algo->begin(req, err);
    if (rc < 0) {
        free_request(req);
        return rc;
    }
    enlist(req);
    *out = req;
    if (channels) {
        mu_shm_start(req);
        return 0;
    }
    if (!quick) /* else the wait sets it */
        req->moved_at = mu_now();
    if (!p2p) {
        take_early(req);
    } else if (call->kind == MU_OP_KIND_SEND) {
        req->seq = comm->sends[call->root]++;
        req->bound = true;
    } else {
        mu_p2p_bind(req);
    }
    mu_coll_kick(req);
    return 0;
}

static int start(struct muster_comm *comm, const struct mu_call *call, bool quick, struct muster_request **out,
                 struct mu_err *err)
{
    struct mu_engine *e = comm->engine;
    int rc;

    if (MU_CHECKS) {
        mu_coll_watch(e);
        mu_coll_settle(e);
    }
    rc = MU_CHECKS ? mu_comm_check(comm, err) : 0;
    if (rc < 0)
        return mu_err_prefix(err, "muster_%s", mu_kinds[call->kind].name);
    rc = open_request(comm, call, quick, NULL, NULL, out, err);
    if (rc == 0 && !(*out)->shm.algo)
        mu_coll_progress(e);
    return rc;
}

int mu_coll_start_part(struct muster_comm *side, const struct mu_call *call, const struct mu_part *part,
                       struct muster_request *whole, struct muster_request **out, struct mu_err *err)
{
    return open_request(side, call, false, part, whole, out, err);
}

int mu_coll_start(struct muster_comm *comm, const struct mu_call *call, struct muster_request **out, struct mu_err *err)
{
    int rc = start(comm, call, false, out, err);

    if (rc == 0 && (*out)->shm.algo) {
        (*out)->moved_at = mu_now();
        mu_coll_progress(comm->engine);
        if ((*out)->status == MU_PENDING)
            mu_progress_kick(comm->engine);
    }
    return rc;
}

int mu_coll_release(struct muster_request *req, struct mu_err *err)
{
    int status = req->status;

    if (status < 0)
        *err = req->err;
    req->comm->requests--;
    free_request(req);
    return status;
}

int mu_coll_run(struct muster_comm *comm, const struct mu_call *call, struct mu_err *err)
{
    struct muster_request *req;
    bool posted = false;
    int rc;

    if (comm->shm && mu_shm_at_once(comm, call, &posted))
        return 0;
    rc = start(comm, call, true, &req, err);
    if (rc < 0 && comm->recorded) {
        mu_flight_leave(comm->recorded, mu_tick(), true);
        comm->recorded = NULL;
    }
    if (rc < 0)
        return rc;
    if (posted)
        mu_shm_posted(req);
    mu_coll_wait(req);
    return mu_coll_release(req, err);
}

int mu_coll_tell(struct mu_engine *e, const void *mine, size_t size, void *all, struct mu_err *err)
{
    uint64_t entered = e->entered;
    int rc = mu_coll_run(
        e->world,
        &(struct mu_call){.kind = MU_OP_KIND_INIT, .dtype = MUSTER_UINT8, .count = size, .send = mine, .recv = all},
        err);

    e->entered = entered;
    return rc;
}
