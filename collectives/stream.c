/* Streams: frames between two ranks of one operation, in order, with credit. */
#include <string.h>

#include "collectives/engine.h"

uint32_t mu_coll_nframes(size_t total)
{
    return total ? (uint32_t)((total - 1) / MU_CHUNK + 1) : 1;
}

void mu_out_set(struct muster_request *req, unsigned i, int peer, unsigned lane, const void *src, size_t total,
                bool open)
{
    req->out[i] = (struct mu_out){.peer = peer,
                                  .lane = (uint16_t)lane,
                                  .open = open,
                                  .src = src,
                                  .total = total,
                                  .ready = open ? total : 0,
                                  .nframes = mu_coll_nframes(total),
                                  .credit = MU_WINDOW};
}

void mu_in_set(struct muster_request *req, unsigned i, int peer, unsigned lane, void *dst, size_t total)
{
    req->in[i] = (struct mu_in){.peer = peer,
                                .lane = (uint16_t)lane,
                                .dst = dst,
                                .total = total,
                                .nframes = mu_coll_nframes(total),
                                .granted = MU_WINDOW};
}

void mu_in_keep(struct muster_request *req, unsigned i, int peer, unsigned lane, size_t total)
{
    mu_in_set(req, i, peer, lane, NULL, total);
    req->in[i].keep = true;
}

static void fill(struct mu_frame_head *h, const struct muster_request *req, enum mu_frame_type type, unsigned lane,
                 size_t bytes)
{
    h->type = (uint16_t)type;
    h->lane = (uint16_t)lane;
    h->ctx = req->comm->ctx;
    h->seq = req->seq;
    h->src = (uint32_t)req->comm->rank;
    h->bytes = (uint32_t)bytes;
    h->sig = req->sig;
    h->tag = req->call.tag;
}

struct mu_frame *mu_coll_frame(struct muster_request *req, enum mu_frame_type type, unsigned lane, size_t bytes)
{
    struct mu_frame *f = mu_frame_new(&req->comm->engine->pool, bytes);
    struct mu_err err;

    if (!f) {
        mu_err_set(&err, MUSTER_ENOMEM, "no memory for a message");
        mu_coll_break_all(req->comm->engine, &err);
        return NULL;
    }
    fill(&f->head, req, type, lane, bytes);
    return f;
}

static bool may_send(const struct mu_out *o)
{
    size_t end = (o->sent + (size_t)1) * MU_CHUNK;

    return o->open && o->sent < o->nframes && o->sent < o->credit && o->ready >= (end < o->total ? end : o->total);
}

/* Where it lies, if the transport can. */
static bool send_from(struct muster_request *req, struct mu_out *o, size_t at, size_t n)
{
    struct mu_transport *tp = req->comm->engine->tp;
    struct mu_frame_head h = {.magic = MU_FRAME_MAGIC, .offset = at};
    struct mu_frame *rest;
    struct mu_err err;
    int rc;

    if (!tp->ops->send_from)
        return false;
    fill(&h, req, MU_FRAME_DATA, o->lane, n);
    rc = tp->ops->send_from(tp, req->comm->world[o->peer], &h, mu_at(o->src, at), &rest, &err);
    if (rc == MU_SEND_PENDING && !rest)
        return false;
    o->sent++;
    if (rest) {
        rest->owner = req;
        rest->out = (unsigned)(o - req->out);
        mu_coll_in_flight(rest);
    }
    if (rc < 0)
        mu_coll_break_all(req->comm->engine, &err);
    return true;
}

static bool send_next(struct muster_request *req, struct mu_out *o)
{
    size_t at = o->sent * MU_CHUNK, left = o->total - at, n = left < MU_CHUNK ? left : MU_CHUNK;
    struct mu_frame *f;

    if (send_from(req, o, at, n))
        return true;
    f = mu_coll_frame(req, MU_FRAME_DATA, o->lane, n);
    if (!f)
        return false;
    f->head.offset = at;
    f->out = (unsigned)(o - req->out);
    if (n)
        memcpy(f->data, o->src + at, n);
    o->sent++;
    mu_coll_post(req->comm->engine, req->comm->world[o->peer], f, req);
    return true;
}

/* Round and round, a frame for each peer: nobody waits for all of another's. */
bool mu_coll_push(struct muster_request *req)
{
    bool any = false, again = true;

    while (again) {
        again = false;
        for (unsigned i = 0; i < req->nout && req->inflight < MU_INFLIGHT; i++)
            if (may_send(&req->out[i]) && send_next(req, &req->out[i]))
                any = again = true;
    }
    if (any)
        req->moved = true;
    return any;
}

static void used_one(struct muster_request *req, struct mu_in *in)
{
    struct mu_frame *f;

    in->used++;
    if (in->granted >= in->nframes || in->granted - in->used > MU_WINDOW / 2)
        return;
    f = mu_coll_frame(req, MU_FRAME_CREDIT, in->lane, 0);
    if (!f)
        return;
    in->granted = in->used + MU_WINDOW;
    f->head.offset = in->granted;
    mu_coll_post(req->comm->engine, req->comm->world[in->peer], f, NULL);
}

void mu_in_pop(struct muster_request *req, struct mu_in *in)
{
    mu_frame_free(&req->comm->engine->pool, mu_frames_pop(&in->queue));
    used_one(req, in);
}

/* Queued frames of a gated stream whose gate has moved. */
static void drain(struct muster_request *req, struct mu_in *in)
{
    while (!in->keep && in->queue.first && (!in->gate || in->gate->sent > in->used)) {
        const struct mu_frame *f = in->queue.first;

        if (f->head.bytes)
            memcpy(in->dst + f->head.offset, f->data, f->head.bytes);
        mu_in_pop(req, in);
    }
}

void mu_coll_drain(struct muster_request *req)
{
    for (unsigned i = 0; i < req->nin; i++)
        if (req->in[i].queue.first)
            drain(req, &req->in[i]);
}

static struct mu_in *find_in(struct muster_request *req, const struct mu_frame_head *h)
{
    unsigned hint = req->comm->size > 1 && h->src < (uint32_t)req->comm->size && h->src != (uint32_t)req->comm->rank
                        ? mu_coll_index(req->comm, h->lane, (int)h->src)
                        : 0;

    for (unsigned k = 0; k < req->nin; k++) {
        struct mu_in *in = &req->in[(hint + k) % req->nin];

        if ((uint32_t)in->peer == h->src && in->lane == h->lane)
            return in;
    }
    return NULL;
}

void mu_coll_accept(struct muster_request *req, struct mu_frame *f)
{
    struct mu_in *in = find_in(req, &f->head);
    size_t at = in ? in->got * MU_CHUNK : 0, left = in ? in->total - (at < in->total ? at : in->total) : 0;

    if (req->err.code) { /* it has failed, and ends soon */
        mu_frame_free(&req->comm->engine->pool, f);
        return;
    }
    if (!in || in->got >= in->nframes || f->head.offset != at || f->head.bytes != (left < MU_CHUNK ? left : MU_CHUNK)) {
        char who[100];
        struct mu_err err;

        mu_err_set(&err, MUSTER_EMISMATCH, "%s sent data that does not belong to this muster_%s",
                   mu_comm_who(req->comm, (int)f->head.src, who, sizeof who), mu_kinds[req->call.kind].name);
        mu_frame_free(&req->comm->engine->pool, f);
        mu_coll_break_comm(req->comm, &err);
        return;
    }
    in->got++;
    mu_frames_push(&in->queue, in->keep || in->gate ? mu_frame_compact(&req->comm->engine->pool, f) : f);
    req->moved = true;
    drain(req, in);
    mu_coll_kick(req);
}

void mu_coll_credit(struct muster_request *req, const struct mu_frame *f)
{
    for (unsigned i = 0; i < req->nout; i++) {
        struct mu_out *o = &req->out[i];

        if ((uint32_t)o->peer == f->head.src && o->lane == f->head.lane && f->head.offset > o->credit) {
            o->credit = f->head.offset < o->nframes ? (uint32_t)f->head.offset : o->nframes;
            req->moved = true;
            mu_coll_kick(req);
        }
    }
}
