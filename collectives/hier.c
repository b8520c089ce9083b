#include "collectives/hier.h"

#include <stdlib.h>
#include <string.h>

#include "collectives/algorithms.h"
#include "runtime/base/clean.h"
#include "runtime/base/clock.h"

/* --- sides --- */

static bool pays(const struct muster_comm *comm, const struct mu_shm_ref *refs)
{
    const int *place = comm->engine->place;
    bool several = false, beside = false;

    for (int r = 0; r < comm->size && place; r++)
        for (int k = 0; k < r; k++) {
            if (place[comm->world[k]] != place[comm->world[r]]) {
                several = true;
                continue;
            }
            beside = true;
            if (refs && (refs[k].index < 0 || refs[r].index < 0 || refs[k].index >= (int)MU_CHANNELS ||
                         refs[r].index >= (int)MU_CHANNELS))
                return false;
            break; /* the others of its node have been looked at */
        }
    return several && beside && comm->engine->hier;
}

static bool is_one_a_machine(const struct muster_comm *comm)
{
    const int *machine = comm->engine->machine;

    for (int r = 0; r < comm->size; r++) {
        if (!machine || machine[comm->world[r]] < 0)
            return false;
        for (int k = 0; k < r; k++)
            if (machine[comm->world[k]] == machine[comm->world[r]])
                return false;
    }
    return true;
}

static int new_side(struct muster_comm *comm, enum mu_side side, struct mu_err *err)
{
    struct mu_hier_comm *h = comm->hier;
    const struct mu_layout *l = &h->layout;
    mu_auto_free int *world = calloc((size_t)comm->size, sizeof *world);
    uint64_t which = side == MU_LOCAL ? (uint64_t)l->node : UINT64_C(1) << 32 | (uint64_t)l->local;
    int n = 0, rc;

    if (!world)
        return mu_err_set(err, MUSTER_ENOMEM, "no memory for a communicator");
    for (int r = 0; r < comm->size; r++) {
        if (side == MU_LOCAL ? l->node_of[r] != l->node : l->local_of[r] != l->local)
            continue;
        world[side == MU_LOCAL ? n : l->node_of[r]] = comm->world[r]; /* its ranks are numbered as the nodes are */
        n++;
    }
    rc = mu_comm_new(comm->engine, mu_comm_ctx(comm->ctx, UINT64_MAX, which), side == MU_LOCAL ? l->local : l->node, n,
                     world, &h->side[side], err);
    if (rc < 0)
        return rc;
    h->side[side]->whole = comm;
    h->side[side]->in_tree = side == MU_CROSS;
    return 0;
}

static int attach_local(struct muster_comm *comm, const struct mu_shm_ref *refs, int own, struct mu_err *err)
{
    const struct mu_layout *l = &comm->hier->layout;
    mu_auto_free struct mu_shm_ref *mine = calloc((size_t)comm->size, sizeof *mine);
    int n = 0;

    if (!mine)
        return mu_err_set(err, MUSTER_ENOMEM, "no memory for a communicator");
    for (int r = 0; r < comm->size && refs; r++)
        if (l->node_of[r] == l->node)
            mine[n++] = refs[r];
    if (comm->engine->shm && n > 1)
        return mu_shm_attach(comm->hier->side[MU_LOCAL], mine, err);
    if (own >= 0)
        mu_shm_return(comm->engine->shm, own);
    return 0;
}

int mu_hier_attach(struct muster_comm *comm, const struct mu_shm_ref *refs, int own, struct mu_err *err)
{
    struct mu_engine *e = comm->engine;
    mu_auto_free int *place = NULL;
    int rc;

    if (e->shm && refs && mu_shm_fits(e->shm, refs, comm->size))
        return mu_shm_attach(comm, refs, err);
    if (!pays(comm, refs)) {
        comm->in_tree = is_one_a_machine(comm);
        if (own >= 0)
            mu_shm_return(e->shm, own);
        return 0;
    }
    place = calloc((size_t)comm->size, sizeof *place);
    comm->hier = calloc(1, sizeof *comm->hier);
    if (!place || !comm->hier)
        return mu_err_set(err, MUSTER_ENOMEM, "no memory for a communicator");
    for (int r = 0; r < comm->size; r++)
        place[r] = e->place[comm->world[r]];
    rc = mu_layout_make(&comm->hier->layout, place, comm->rank, comm->size, err);
    if (rc == 0)
        rc = new_side(comm, MU_LOCAL, err);
    if (rc == 0)
        rc = attach_local(comm, refs, own, err);
    if (rc == 0 && mu_layout_crosses(&comm->hier->layout))
        rc = new_side(comm, MU_CROSS, err);
    return rc;
}

void mu_hier_detach(struct muster_comm *comm)
{
    if (!comm->hier)
        return;
    for (int s = 0; s < MU_SIDES; s++)
        if (comm->hier->side[s])
            mu_comm_delete(comm->hier->side[s]);
    mu_layout_clear(&comm->hier->layout);
    free(comm->hier);
    comm->hier = NULL;
}

bool mu_hier_can(const struct muster_comm *comm, uint8_t kind)
{
    switch (kind) {
    case MU_OP_KIND_REDUCE_SCATTER:
    case MU_OP_KIND_ALLGATHER:
        return comm->hier && comm->hier->layout.in_a_row;
    default:
        return comm->hier;
    }
}

static void spread_to(struct muster_comm *comm, const struct mu_err *why)
{
    if (comm && !comm->broken.code)
        mu_coll_break_comm(comm, why);
}

void mu_hier_spread(struct muster_comm *comm)
{
    if (comm->engine->dead) /* they all know */
        return;
    if (comm->whole && !comm->whole->broken.code) {
        mu_coll_notify(comm->whole, 0, &comm->broken);
        mu_coll_break_comm(comm->whole, &comm->broken);
    }
    for (int s = 0; comm->hier && s < MU_SIDES; s++)
        spread_to(comm->hier->side[s], &comm->broken);
}

/* --- the request --- */

static void shape(const struct muster_comm *comm, const struct mu_call *call, unsigned *nout, unsigned *nin)
{
    (void)comm;
    (void)call;
    *nout = *nin = 0;
}

static int begin(struct muster_request *req, struct mu_err *err)
{
    struct mu_hier_comm *h = req->comm->hier;
    struct mu_hier_op *op = calloc(1, sizeof *op);
    int rc = op ? mu_plan_make(&op->plan, &h->layout, &req->call, req->elem, err)
                : mu_err_set(err, MUSTER_ENOMEM, "no memory for the request");

    if (rc < 0) {
        free(op);
        return rc;
    }
    op->number = h->opened++;
    req->hier = op;
    return 0;
}

void mu_hier_free(struct muster_request *req)
{
    struct mu_hier_op *op = req->hier;
    struct mu_err err;

    if (!op)
        return;
    for (unsigned i = 0; i < op->plan.n; i++)
        if (op->plan.items[i].req)
            mu_coll_release(op->plan.items[i].req, &err);
    mu_plan_clear(&op->plan);
    free(op);
    req->hier = NULL;
}

static void move(const struct mu_move *m)
{
    unsigned rows = m->rows ? m->rows : 1, columns = m->rows ? m->columns : 1;

    for (unsigned r = 0; m->bytes && r < rows; r++)
        for (unsigned c = 0; c < columns; c++)
            memcpy((char *)m->to + (c * rows + r) * m->bytes, (const char *)m->from + (r * columns + c) * m->bytes,
                   m->bytes);
}

/* True when the part has just ended. */
static bool finish(struct muster_request *req, struct mu_item *item)
{
    struct mu_err err;

    if (!item->req || item->req->status != 0) /* a failure comes by way of the communicators */
        return false;
    mu_coll_release(item->req, &err);
    item->req = NULL;
    item->ended = true;
    move(&item->then);
    req->moved = true;
    return true;
}

/* The requests after this one may begin parts of that side. */
static void pass_on(struct muster_request *req, enum mu_side side)
{
    struct mu_hier_comm *h = req->comm->hier;

    h->turn[side]++;
    for (struct muster_request *r = req->comm->active; r; r = r->next)
        if (r->hier && r->hier->number == h->turn[side])
            mu_coll_kick(r);
}

static bool may_begin(const struct mu_hier_op *op, const struct mu_item *item)
{
    for (int i = item->after; i >= 0 && i >= item->after - (int)item->also; i--)
        if (!op->plan.items[i].ended)
            return false;
    return true;
}

static bool begin_parts(struct muster_request *req, enum mu_side side)
{
    struct mu_hier_comm *h = req->comm->hier;
    struct mu_hier_op *op = req->hier;
    bool any = false;
    struct mu_err err;

    if (h->turn[side] != op->number)
        return false;
    for (; op->next[side] < op->plan.n; op->next[side]++) {
        struct mu_item *item = &op->plan.items[op->next[side]];

        if (item->side != side)
            continue;
        if (!may_begin(op, item))
            return any;
        move(&item->before);
        if (mu_coll_start_part(h->side[side], &item->call, &item->part, req, &item->req, &err) < 0) {
            mu_coll_break_comm(req->comm, &err);
            return false;
        }
        item->begun = any = req->moved = true;
    }
    pass_on(req, side);
    return any;
}

static unsigned begun(const struct mu_hier_op *op) /* none from this item on */
{
    return op->next[MU_LOCAL] > op->next[MU_CROSS] ? op->next[MU_LOCAL] : op->next[MU_CROSS];
}

static bool step(struct muster_request *req)
{
    struct mu_engine *e = req->comm->engine;
    struct mu_hier_comm *h = req->comm->hier;
    struct mu_hier_op *op = req->hier;
    bool again = true;

    while (again && !e->trouble && !req->comm->broken.code) {
        unsigned end = begun(op);

        again = false;
        for (unsigned i = op->first; i < end; i++)
            again |= finish(req, &op->plan.items[i]);
        while (op->first < op->plan.n && op->plan.items[op->first].ended)
            op->first++;
        for (int s = 0; s < MU_SIDES; s++)
            again |= begin_parts(req, (enum mu_side)s);
        if (h->side[MU_LOCAL]->shm)
            again |= mu_shm_push(h->side[MU_LOCAL]);
    }
    return op->first == op->plan.n && op->next[MU_LOCAL] == op->plan.n && op->next[MU_CROSS] == op->plan.n;
}

const struct mu_algo mu_hier = {"nodes", shape, begin, step};

/* --- waiting --- */

static struct muster_request *next_part(const struct muster_request *req, const struct muster_request *last, bool any)
{
    struct mu_hier_comm *h = req->comm->hier;
    bool seen = !last;

    for (int s = 0; s < MU_SIDES; s++)
        for (struct muster_request *r = h->side[s] ? h->side[s]->active : NULL; r; r = r->next) {
            if (seen && (any || r->whole == req))
                return r;
            seen |= r == last;
        }
    return NULL;
}

struct muster_request *mu_hier_part(const struct muster_request *req, const struct muster_request *last)
{
    return next_part(req, last, last ? last->whole != req : !next_part(req, NULL, false));
}

bool mu_hier_is_near(const struct muster_comm *comm)
{
    const struct mu_hier_comm *h = comm->hier;

    return h->side[MU_LOCAL]->shm && !(h->side[MU_CROSS] && h->side[MU_CROSS]->active);
}

void mu_hier_look(struct muster_request *req, uint64_t idle)
{
    const struct mu_hier_op *op = req->hier;
    struct muster_comm *local = req->comm->hier->side[MU_LOCAL];

    for (unsigned i = op ? op->first : 0; op && i < begun(op); i++) {
        struct muster_request *r = op->plan.items[i].req;

        if (r && r->moved) {
            r->moved = false;
            req->moved = true;
        }
    }
    if (local->shm)
        mu_shm_look(local, idle);
}
