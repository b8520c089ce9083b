/* Point to point: every message from one rank to another has a number; its frames follow one another. A receive takes
 * the first message from its peer with its tag. A disagreement concerns these two and this message alone. */
#include <stdio.h>
#include <string.h>

#include "collectives/algorithms.h"

static struct mu_frames *bucket(struct muster_comm *comm, uint32_t src, int32_t tag)
{
    return &comm->early_p2p[(src * 31 + (uint32_t)tag) % MU_BUCKETS];
}

static void refuse(struct muster_request *req, const struct mu_frame *f)
{
    struct muster_comm *comm = req->comm;
    char what[120], me[100], they[100];
    struct mu_frame *n = mu_coll_frame(req, MU_FRAME_NOTICE, 0, sizeof n->head);
    struct mu_err err;

    mu_sig_differs(&req->sig, &f->head.sig, what, sizeof what);
    mu_err_set(&err, MUSTER_EMISMATCH,
               "%s receives %llu of %s with tag %d from %s, which sends %llu of %s; different: %s",
               mu_comm_who(comm, comm->rank, me, sizeof me), (unsigned long long)req->sig.count,
               mu_dtype_name(req->sig.dtype), req->call.tag, mu_comm_who(comm, (int)f->head.src, they, sizeof they),
               (unsigned long long)f->head.sig.count, mu_dtype_name(f->head.sig.dtype), what);
    mu_coll_break_request(req, &err);
    if (!n)
        return;
    n->head.seq = f->head.seq;
    n->head.offset = (uint64_t)-err.code;
    n->head.bytes = (uint32_t)strnlen(err.text, sizeof err.text - 1);
    memcpy(n->data, err.text, n->head.bytes);
    mu_coll_post(comm->engine, comm->world[f->head.src], n, NULL);
}

/* True when the receive has taken this first frame of a message (f is then gone). */
static bool take(struct muster_request *req, struct mu_frame *f)
{
    char what[120];

    req->bound = true;
    req->seq = f->head.seq;
    if (mu_sig_differs(&req->sig, &f->head.sig, what, sizeof what)) {
        refuse(req, f);
        mu_frame_free(&req->comm->engine->pool, f);
    } else {
        mu_coll_accept(req, f);
    }
    return true;
}

/* The frames of one message share a bucket, in order: the first one opens it, the rest follow. */
void mu_p2p_bind(struct muster_request *req)
{
    struct muster_comm *comm = req->comm;
    struct mu_frames *q = bucket(comm, (uint32_t)req->call.root, req->call.tag), all = *q;
    uint32_t src = (uint32_t)req->call.root;

    *q = (struct mu_frames){0};
    for (struct mu_frame *f; (f = mu_frames_pop(&all));) {
        bool match = f->head.src == src && f->head.tag == req->call.tag;

        if (match && !req->bound && f->head.offset == 0)
            take(req, f);
        else if (match && req->bound && f->head.seq == req->seq)
            mu_coll_dispatch(comm->engine, f);
        else
            mu_frames_push(q, f);
    }
}

static struct muster_request *find(struct muster_comm *comm, uint8_t kind, const struct mu_frame_head *h)
{
    for (struct muster_request *r = comm->active; r; r = r->next)
        if (r->call.kind == kind && r->bound && r->seq == h->seq && (uint32_t)r->call.root == h->src)
            return r;
    return NULL;
}

/* The receive that was posted first: the list has the newest in front. */
static struct muster_request *posted(struct muster_comm *comm, const struct mu_frame_head *h)
{
    struct muster_request *first = NULL;

    for (struct muster_request *r = comm->active; r; r = r->next)
        if (r->call.kind == MU_OP_KIND_RECV && !r->bound && (uint32_t)r->call.root == h->src && r->call.tag == h->tag)
            first = r;
    return first;
}

/* True when the first frame of that message waits, so that this one has to wait too. */
static bool waits(const struct mu_frames *q, const struct mu_frame_head *h)
{
    for (const struct mu_frame *f = q->first; f; f = f->next)
        if (f->head.src == h->src && f->head.seq == h->seq)
            return true;
    return false;
}

void mu_p2p_dispatch(struct muster_comm *comm, struct mu_frame *f)
{
    struct mu_pool *pool = &comm->engine->pool;
    struct mu_frames *q = bucket(comm, f->head.src, f->head.tag);
    struct muster_request *r;

    if (f->head.type != MU_FRAME_DATA) {
        r = find(comm, MU_OP_KIND_SEND, &f->head);
        if (r && f->head.type == MU_FRAME_CREDIT) {
            mu_coll_credit(r, f);
        } else if (r && f->head.type == MU_FRAME_NOTICE) {
            struct mu_err err;

            mu_err_set(&err, MUSTER_EMISMATCH, "%.*s", (int)f->head.bytes, f->data);
            mu_coll_break_request(r, &err);
        }
        mu_frame_free(pool, f);
        return;
    }
    r = find(comm, MU_OP_KIND_RECV, &f->head);
    if (r) {
        mu_coll_accept(r, f);
        return;
    }
    if (f->head.offset == 0) {
        r = posted(comm, &f->head);
        if (r) {
            take(r, f);
            return;
        }
    } else if (!waits(q, &f->head)) {
        mu_frame_free(pool, f); /* the rest of a message that was refused or given up */
        return;
    }
    mu_frames_push(q, mu_frame_compact(pool, f));
}

static void shape_send(const struct muster_comm *comm, const struct mu_call *call, unsigned *nout, unsigned *nin)
{
    (void)comm;
    (void)call;
    *nout = 1;
    *nin = 0;
}

static int begin_send(struct muster_request *req, struct mu_err *err)
{
    (void)err;
    mu_out_set(req, 0, req->call.root, 0, req->call.send, req->call.count * req->elem, true);
    return 0;
}

static void shape_recv(const struct muster_comm *comm, const struct mu_call *call, unsigned *nout, unsigned *nin)
{
    (void)comm;
    (void)call;
    *nout = 0;
    *nin = 1;
}

static int begin_recv(struct muster_request *req, struct mu_err *err)
{
    (void)err;
    mu_in_set(req, 0, req->call.root, 0, req->call.recv, req->call.count * req->elem);
    return 0;
}

static bool step(struct muster_request *req)
{
    return req->bound;
}

const struct mu_algo mu_p2p_send = {"send", shape_send, begin_send, step};
const struct mu_algo mu_p2p_recv = {"recv", shape_recv, begin_recv, step};
