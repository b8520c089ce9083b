/* How a collective of a communicator that spans nodes is made of collectives inside the node and between nodes: pure,
 * no waiting and no memory of its own but the scratch.
 *
 * `local` are the members on this rank's node, in rank order. `cross` are, where every node has as many members (its
 * lanes), the members with this rank's place on their node; else the first ones of the nodes alone, its leaders. Nodes
 * are numbered by their lowest rank, and this is a member's rank in `cross`.
 *
 * Reductions have one order whatever the size: rank by rank inside each node, one rounding to the type, then the
 * nodes (algorithms.h). Items of a side are begun in their order, the same on all its members. */
#ifndef MU_COLLECTIVES_PLAN_H
#define MU_COLLECTIVES_PLAN_H

#include "collectives/engine.h"

struct mu_layout {
    int size;
    int nodes, node;   /* this rank's */
    int local, nlocal; /* this rank among the members on its node */
    int lanes;         /* members on every node; 0: not as many on each */
    bool in_a_row;     /* lanes, and rank = node * lanes + local for all */
    int *node_of, *local_of;
};

/* bytes, or a table of rows * columns such pieces that becomes one of columns * rows. */
struct mu_move {
    void *to;
    const void *from;
    size_t bytes;
    unsigned rows, columns; /* 0: only one piece */
};

struct mu_item {
    uint8_t side;
    struct mu_call call; /* root: a rank of that side */
    struct mu_part part;
    int after;                   /* item that has to end first; -1: none */
    unsigned also;               /* as have so many before that one */
    struct mu_move before, then; /* copies around it */
    struct muster_request *req;  /* while it goes on */
    bool begun, ended;
};

struct mu_plan {
    struct mu_item *items;
    unsigned n;
    void *scratch;
};

/* node: any number that is the same for members of one node. */
int mu_layout_make(struct mu_layout *out, const int *node, int rank, int size, struct mu_err *err);
void mu_layout_clear(struct mu_layout *layout);
static inline bool mu_layout_crosses(const struct mu_layout *l)
{
    return l->lanes || l->local == 0;
}

int mu_plan_make(struct mu_plan *out, const struct mu_layout *layout, const struct mu_call *call, size_t elem,
                 struct mu_err *err);
void mu_plan_clear(struct mu_plan *plan);

#endif
