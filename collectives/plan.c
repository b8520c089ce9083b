#include "collectives/plan.h"

#include <stdlib.h>
#include <string.h>

#define SHARED ((size_t)32 << 10)   /* bytes from which an all-reduce is shared out among the lanes */
#define SLICE ((size_t)256 << 10)   /* of a lane, at a time */
#define PIECE (2 * MU_CHUNK)        /* of a block that is gathered or scattered: full frames */
#define CHUNK ((size_t)512 << 10)   /* of the leaders */
#define AT_ONCE ((size_t)256 << 10) /* of all blocks */
#define DEPTH 3u                    /* chunks that are on their way */

int mu_layout_make(struct mu_layout *out, const int *node, int rank, int size, struct mu_err *err)
{
    struct mu_layout l = {.size = size, .in_a_row = true};
    int *count = calloc((size_t)size, sizeof *count);

    l.node_of = calloc((size_t)size, sizeof *l.node_of);
    l.local_of = calloc((size_t)size, sizeof *l.local_of);
    if (!count || !l.node_of || !l.local_of) {
        free(count);
        mu_layout_clear(&l);
        return mu_err_set(err, MUSTER_ENOMEM, "no memory for a communicator");
    }
    for (int r = 0; r < size; r++) {
        int first = 0;

        while (node[first] != node[r])
            first++;
        l.node_of[r] = first == r ? l.nodes++ : l.node_of[first];
        l.local_of[r] = count[l.node_of[r]]++;
    }
    l.node = l.node_of[rank];
    l.local = l.local_of[rank];
    l.nlocal = count[l.node];
    l.lanes = count[0];
    for (int n = 1; n < l.nodes; n++)
        if (count[n] != count[0])
            l.lanes = 0;
    for (int r = 0; r < size; r++)
        l.in_a_row &= l.lanes && r == l.node_of[r] * l.lanes + l.local_of[r];
    free(count);
    *out = l;
    return 0;
}

void mu_layout_clear(struct mu_layout *l)
{
    free(l->node_of);
    free(l->local_of);
    l->node_of = l->local_of = NULL;
}

/* --- building --- */

struct draft {
    struct mu_plan *plan;
    const struct mu_layout *l;
    const struct mu_call *call;
    size_t elem;
    muster_op inside, between; /* see split_avg */
    unsigned ranks_inside, ranks_between;
};

static int add(struct draft *d, enum mu_side side, int after, struct mu_call call)
{
    struct mu_item *i = &d->plan->items[d->plan->n];

    *i = (struct mu_item){.side = (uint8_t)side, .call = call, .after = after};
    i->call.dtype = d->call->dtype;
    i->call.op = side == MU_LOCAL ? d->inside : d->between;
    i->part.ranks = side == MU_LOCAL ? d->ranks_inside : d->ranks_between;
    return (int)d->plan->n++;
}

static void *at(const struct draft *d, const void *p, size_t elements)
{
    return mu_at(p, elements * d->elem);
}

/* An average is a sum that is divided once, at the end; narrow floats are divided inside the nodes, where sums have not
 * been rounded yet, so that what is between nodes does not grow beyond the type. */
static void split_avg(struct draft *d)
{
    bool avg = mu_kinds[d->call->kind].has_op && d->call->op == MUSTER_AVG;
    unsigned p = (unsigned)d->l->size;
    bool early = avg && mu_dtype_narrow(d->call->dtype);
    d->inside = avg && !early ? MUSTER_SUM : d->call->op;
    d->between = early ? MUSTER_SUM : d->call->op;
    d->ranks_inside = early ? p : 0;
    d->ranks_between = avg && !early ? p : 0;
}

/* --- operations; size: how many items there are at most, and bytes of scratch --- */

struct size {
    size_t items, scratch;
};

static size_t parts(size_t count, size_t each)
{
    return count ? (count - 1) / each + 1 : 1;
}

static size_t first_of(size_t count, size_t each)
{
    return count < each ? count : each;
}

/* Of the c-th piece: the last one may be short. */
static size_t piece(const struct draft *d, size_t c, size_t each)
{
    return first_of(d->call->count - c * each, each);
}

static bool shared(const struct draft *d)
{
    return d->l->lanes > 1 && d->call->count * d->elem > SHARED;
}

static size_t slice_of(const struct draft *d)
{
    return SLICE / d->elem;
}

static size_t piece_of(const struct draft *d)
{
    return PIECE / d->elem;
}

static size_t whole_of(const struct draft *d) /* elements of a chunk that is shared out */
{
    return slice_of(d) * (size_t)d->l->lanes;
}

static struct size allreduce_size(const struct draft *d)
{
    size_t lanes = (size_t)d->l->lanes, last;

    if (!shared(d))
        return (struct size){3 * parts(d->call->count, CHUNK / d->elem), 0};
    last = d->call->count % whole_of(d);
    return (struct size){3 * parts(d->call->count, whole_of(d)),
                         last % lanes ? (last / lanes + 1) * lanes * d->elem : 0};
}

/* Where chunk c is worked on: in place of the result, or in the scratch when it does not divide. */
static size_t chunk_of(const struct draft *d, size_t c, size_t *from, char **work, size_t *each)
{
    size_t whole = whole_of(d), lanes = (size_t)d->l->lanes;
    size_t n = piece(d, c, whole);

    *from = c * whole;
    *each = (n + lanes - 1) / lanes;
    *work = n % lanes ? d->plan->scratch : at(d, d->call->recv, *from);
    return n;
}

static int scatter_chunk(struct draft *d, size_t c)
{
    size_t from, each, n;
    char *work, *mine;
    bool odd;
    int i;

    n = chunk_of(d, c, &from, &work, &each);
    mine = at(d, work, (size_t)d->l->local * each);
    odd = n % (size_t)d->l->lanes != 0;
    if (odd)
        memset(work + n * d->elem, 0, ((size_t)d->l->lanes * each - n) * d->elem);
    i = add(d, MU_LOCAL, -1,
            (struct mu_call){.kind = MU_OP_KIND_REDUCE_SCATTER,
                             .count = each,
                             .send = odd ? work : at(d, d->call->send, from),
                             .recv = mine});
    if (odd)
        d->plan->items[i].before = (struct mu_move){work, at(d, d->call->send, from), n * d->elem};
    return add(d, MU_CROSS, i,
               (struct mu_call){.kind = MU_OP_KIND_ALLREDUCE, .count = each, .send = mine, .recv = mine});
}

static void gather_chunk(struct draft *d, size_t c, int after)
{
    size_t from, each, n;
    char *work;
    int i;

    n = chunk_of(d, c, &from, &work, &each);
    i = add(d, MU_LOCAL, after,
            (struct mu_call){.kind = MU_OP_KIND_ALLGATHER,
                             .count = each,
                             .send = at(d, work, (size_t)d->l->local * each),
                             .recv = work});
    if (n % (size_t)d->l->lanes)
        d->plan->items[i].then = (struct mu_move){at(d, d->call->recv, from), work, n * d->elem};
}

/* Chunk by chunk to the leaders, between them, and back to everybody. */
static void allreduce_led(struct draft *d)
{
    size_t each = CHUNK / d->elem, n = parts(d->call->count, each);
    int last[DEPTH];

    for (size_t c = 0; c < n + DEPTH; c++) {
        if (c >= DEPTH) {
            size_t k = c - DEPTH;

            if (k < n)
                add(d, MU_LOCAL, last[k % DEPTH],
                    (struct mu_call){.kind = MU_OP_KIND_BROADCAST,
                                     .count = piece(d, k, each),
                                     .recv = at(d, d->call->recv, k * each)});
        }
        if (c < n) {
            size_t m = piece(d, c, each);
            void *recv = at(d, d->call->recv, c * each);

            last[c % DEPTH] = add(d, MU_LOCAL, -1,
                                  (struct mu_call){.kind = MU_OP_KIND_REDUCE,
                                                   .count = m,
                                                   .send = at(d, d->call->send, c * each),
                                                   .recv = d->l->local ? NULL : recv});
            if (d->l->local == 0)
                last[c % DEPTH] =
                    add(d, MU_CROSS, last[c % DEPTH],
                        (struct mu_call){.kind = MU_OP_KIND_ALLREDUCE, .count = m, .send = recv, .recv = recv});
        }
    }
}

static void allreduce(struct draft *d)
{
    size_t n = parts(d->call->count, shared(d) ? whole_of(d) : 1);
    int last[DEPTH];

    if (!shared(d)) {
        allreduce_led(d);
        return;
    }
    for (size_t c = 0; c < n + DEPTH; c++) {
        if (c >= DEPTH && c - DEPTH < n)
            gather_chunk(d, c - DEPTH, last[c % DEPTH]);
        if (c < n)
            last[c % DEPTH] = scatter_chunk(d, c);
    }
}

static struct size reduce_size(const struct draft *d)
{
    size_t bytes = d->call->count * d->elem;

    return (struct size){3 * parts(d->call->count, CHUNK / d->elem), DEPTH * (bytes < CHUNK ? bytes : CHUNK)};
}

/* The result comes to the leader of the root's node. When the root is another rank there, all of its node hear it: that
 * is cheap beside what goes between nodes. */
static void reduce(struct draft *d)
{
    size_t each = CHUNK / d->elem, n = parts(d->call->count, each);
    int home = d->l->node_of[d->call->root], there = d->l->local_of[d->call->root], last[DEPTH];
    bool here = d->l->node == home, root = here && d->l->local == there, leader = d->l->local == 0;

    for (size_t c = 0; c < n + DEPTH; c++) {
        size_t k = c - DEPTH, m;

        if (c >= DEPTH && k < n && here && there) {
            m = piece(d, k, each);
            add(d, MU_LOCAL, last[k % DEPTH],
                (struct mu_call){.kind = MU_OP_KIND_BROADCAST,
                                 .count = m,
                                 .recv = root ? at(d, d->call->recv, k * each)
                                              : at(d, d->plan->scratch, k % DEPTH * each)});
        }
        if (c < n) {
            void *work = root ? at(d, d->call->recv, c * each)
                              : mu_at(d->plan->scratch, d->plan->scratch ? c % DEPTH * each * d->elem : 0);

            m = piece(d, c, each);
            /* Where it is worked on has been sent from. */
            last[c % DEPTH] = add(d, MU_LOCAL, leader && c >= DEPTH ? last[c % DEPTH] : -1,
                                  (struct mu_call){.kind = MU_OP_KIND_REDUCE,
                                                   .count = m,
                                                   .send = at(d, d->call->send, c * each),
                                                   .recv = leader ? work : NULL});
            if (leader)
                last[c % DEPTH] = add(
                    d, MU_CROSS, last[c % DEPTH],
                    (struct mu_call){
                        .kind = MU_OP_KIND_REDUCE, .root = home, .count = m, .send = work, .recv = here ? work : NULL});
        }
    }
}

static struct size broadcast_size(const struct draft *d)
{
    return (struct size){2 * parts(d->call->count, CHUNK / d->elem), 0};
}

/* The root's lane carries it between nodes, or the leaders. */
static void broadcast(struct draft *d)
{
    size_t each = CHUNK / d->elem, n = parts(d->call->count, each);
    int home = d->l->node_of[d->call->root], there = d->l->local_of[d->call->root];
    int carrier = d->l->lanes ? there : 0;
    bool here = d->l->node == home, carries = d->l->local == carrier;

    for (size_t c = 0; c < n; c++) {
        size_t m = piece(d, c, each);
        struct mu_call local = {.kind = MU_OP_KIND_BROADCAST,
                                .root = here ? there : carrier,
                                .count = m,
                                .recv = at(d, d->call->recv, c * each)};
        struct mu_call cross = local;
        int i = -1;

        cross.root = home;
        if (!here && carries)
            i = add(d, MU_CROSS, -1, cross);
        i = add(d, MU_LOCAL, i, local);
        if (here && carries)
            add(d, MU_CROSS, d->l->local == there ? -1 : i, cross);
    }
}

static struct size barrier_size(const struct draft *d)
{
    (void)d;
    return (struct size){3, 0};
}

static void barrier(struct draft *d)
{
    int i = add(d, MU_LOCAL, -1, (struct mu_call){.kind = MU_OP_KIND_BARRIER});

    if (d->l->local == 0)
        i = add(d, MU_CROSS, i, (struct mu_call){.kind = MU_OP_KIND_BARRIER});
    add(d, MU_LOCAL, i, (struct mu_call){.kind = MU_OP_KIND_BROADCAST});
}

/* Few turns count more than that everything is copied once more, into the order of lanes. */
static bool at_once(const struct draft *d)
{
    return (size_t)d->l->size * d->call->count * d->elem <= AT_ONCE;
}

static struct size reduce_scatter_size(const struct draft *d)
{
    size_t nodes = (size_t)d->l->nodes, n = d->call->count, pieces = parts(n, piece_of(d));

    if (at_once(d))
        return (struct size){2, nodes * n * d->elem * ((size_t)d->l->lanes + 1)};
    return (struct size){(nodes + 1) * pieces,
                         (pieces < DEPTH ? pieces : DEPTH) * nodes * first_of(n, piece_of(d)) * d->elem};
}

/* The blocks of each lane side by side: one reduction here, and one between nodes. */
static void reduce_scatter_at_once(struct draft *d)
{
    size_t n = d->call->count, of_lane = (size_t)d->l->nodes * n;
    void *by_lane = d->plan->scratch, *part = at(d, d->plan->scratch, (size_t)d->l->lanes * of_lane);
    int i = add(d, MU_LOCAL, -1,
                (struct mu_call){.kind = MU_OP_KIND_REDUCE_SCATTER, .count = of_lane, .send = by_lane, .recv = part});

    d->plan->items[i].before =
        (struct mu_move){by_lane, d->call->send, n * d->elem, (unsigned)d->l->nodes, (unsigned)d->l->lanes};
    add(d, MU_CROSS, i,
        (struct mu_call){.kind = MU_OP_KIND_REDUCE_SCATTER, .count = n, .send = part, .recv = d->call->recv});
}

/* A piece of each block at a time: for each node in turn that of its blocks is reduced here, and what each lane has
 * then goes to all nodes at once, so that no link waits for another. */
static void reduce_scatter(struct draft *d)
{
    size_t n = d->call->count, lanes = (size_t)d->l->lanes, nodes = (size_t)d->l->nodes, each = piece_of(d);

    if (at_once(d)) {
        reduce_scatter_at_once(d);
        return;
    }
    for (size_t c = 0; c < parts(n, each); c++) {
        size_t from = c * each, m = piece(d, c, each);
        void *part = at(d, d->plan->scratch, c % DEPTH * nodes * first_of(n, each));
        int i = c < DEPTH ? -1 : (int)((c - DEPTH + 1) * (nodes + 1)) - 1;

        for (size_t j = 0; j < nodes; j++) {
            i = add(d, MU_LOCAL, j ? -1 : i,
                    (struct mu_call){.kind = MU_OP_KIND_REDUCE_SCATTER,
                                     .count = m,
                                     .send = at(d, d->call->send, j * lanes * n + from),
                                     .recv = at(d, part, j * m)});
            d->plan->items[i].part.stride = n;
        }
        i = add(d, MU_CROSS, i,
                (struct mu_call){
                    .kind = MU_OP_KIND_REDUCE_SCATTER, .count = m, .send = part, .recv = at(d, d->call->recv, from)});
        d->plan->items[i].also = (unsigned)nodes - 1;
    }
}

static struct size allgather_size(const struct draft *d)
{
    size_t of_lane = (size_t)d->l->nodes * d->call->count * d->elem;

    if (at_once(d))
        return (struct size){2, of_lane * ((size_t)d->l->lanes + 1)};
    return (struct size){(1 + (size_t)d->l->nodes) * parts(d->call->count, piece_of(d)), 0};
}

static void allgather_at_once(struct draft *d)
{
    size_t n = d->call->count, of_lane = (size_t)d->l->nodes * n;
    void *by_lane = d->plan->scratch, *lane = at(d, d->plan->scratch, (size_t)d->l->lanes * of_lane);
    int i = add(d, MU_CROSS, -1,
                (struct mu_call){.kind = MU_OP_KIND_ALLGATHER, .count = n, .send = d->call->send, .recv = lane});

    i = add(d, MU_LOCAL, i,
            (struct mu_call){.kind = MU_OP_KIND_ALLGATHER, .count = of_lane, .send = lane, .recv = by_lane});
    d->plan->items[i].then =
        (struct mu_move){d->call->recv, by_lane, n * d->elem, (unsigned)d->l->lanes, (unsigned)d->l->nodes};
}

/* A piece of each block at a time: what lanes have got of it they give to each other while the next is on its way. */
static void allgather(struct draft *d)
{
    size_t n = d->call->count, lanes = (size_t)d->l->lanes, nodes = (size_t)d->l->nodes, each = piece_of(d);

    if (at_once(d)) {
        allgather_at_once(d);
        return;
    }
    for (size_t c = 0; c < parts(n, each); c++) {
        size_t from = c * each, m = piece(d, c, each);
        void *own = at(d, d->call->send, from), *lane = at(d, d->call->recv, (size_t)d->l->local * n + from);
        int i = add(d, MU_CROSS, c < DEPTH ? -1 : (int)((c - DEPTH + 1) * (1 + nodes)) - 1,
                    (struct mu_call){.kind = MU_OP_KIND_ALLGATHER, .count = m, .send = own, .recv = lane});

        d->plan->items[i].part.stride = lanes * n;
        for (size_t k = 0; k < nodes; k++) {
            size_t j = ((size_t)d->l->node + k) % nodes;
            int h = add(d, MU_LOCAL, k ? i : -1,
                        (struct mu_call){.kind = MU_OP_KIND_ALLGATHER,
                                         .count = m,
                                         .send = k ? at(d, lane, j * lanes * n) : own,
                                         .recv = at(d, d->call->recv, j * lanes * n + from)});

            d->plan->items[h].part.stride = n;
        }
    }
}

static const struct {
    struct size (*size)(const struct draft *);
    void (*fill)(struct draft *);
} rows[MU_OP_KIND_COUNT] = {
    [MU_OP_KIND_ALLREDUCE] = {allreduce_size, allreduce},
    [MU_OP_KIND_REDUCE] = {reduce_size, reduce},
    [MU_OP_KIND_REDUCE_SCATTER] = {reduce_scatter_size, reduce_scatter},
    [MU_OP_KIND_ALLGATHER] = {allgather_size, allgather},
    [MU_OP_KIND_BROADCAST] = {broadcast_size, broadcast},
    [MU_OP_KIND_BARRIER] = {barrier_size, barrier},
};

int mu_plan_make(struct mu_plan *out, const struct mu_layout *layout, const struct mu_call *call, size_t elem,
                 struct mu_err *err)
{
    struct mu_plan plan = {0};
    struct draft d = {.plan = &plan, .l = layout, .call = call, .elem = elem ? elem : 1};
    struct size size = rows[call->kind].size(&d);

    plan.items = calloc(size.items, sizeof *plan.items);
    plan.scratch = size.scratch ? malloc(size.scratch) : NULL; /* zeroing it would cost more than short operations */
    if (!plan.items || (size.scratch && !plan.scratch)) {
        mu_plan_clear(&plan);
        return mu_err_set(err, MUSTER_ENOMEM, "no memory for the parts of a muster_%s", mu_kinds[call->kind].name);
    }
    split_avg(&d);
    rows[call->kind].fill(&d);
    *out = plan;
    return 0;
}

void mu_plan_clear(struct mu_plan *plan)
{
    free(plan->items);
    free(plan->scratch);
    *plan = (struct mu_plan){0};
}
