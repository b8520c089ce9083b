/* Collectives of a communicator that spans nodes: a request is made of parts (plan.h), each a request on one of its two
 * sides: the members on this node, through their memory, and one member a node, through the transport. Sides are
 * communicators that the program does not see. What breaks one of the three breaks the others.
 *
 * All members begin the parts of a side in the same order: those of a request after those of the requests before it. */
#ifndef MU_COLLECTIVES_HIER_H
#define MU_COLLECTIVES_HIER_H

#include "collectives/plan.h"
#include "collectives/shm.h"

struct mu_hier_comm {
    struct mu_layout layout;
    struct muster_comm *side[MU_SIDES]; /* MU_CROSS: NULL for a member that no lane and no leader */
    uint64_t opened, turn[MU_SIDES];    /* requests so far; the one whose parts are begun */
};

struct mu_hier_op {
    struct mu_plan plan;
    uint64_t number;
    unsigned first, next[MU_SIDES]; /* all before first have ended; the next to begin */
};

/* Gives a new communicator its channels: all of it where its members are on one node, else its side inside the node.
 * refs: of its members, by rank; NULL: none has any. own: channel of this rank that nobody uses yet, -1: none. */
int mu_hier_attach(struct muster_comm *comm, const struct mu_shm_ref *refs, int own, struct mu_err *err);
void mu_hier_detach(struct muster_comm *comm);
/* Can this kind of call be made of parts? */
bool mu_hier_can(const struct muster_comm *comm, uint8_t kind);
void mu_hier_free(struct muster_request *req);
/* comm has failed: so do the others that belong to it. */
void mu_hier_spread(struct muster_comm *comm);

/* --- waiting --- */

/* Do its requests go on through memory alone, for now? */
bool mu_hier_is_near(const struct muster_comm *comm);
/* Deaths and poison inside the node, whatever the request is made of; moves of its parts are moves of the whole. */
void mu_hier_look(struct muster_request *req, uint64_t idle);
/* The parts that go on, one after the other, from NULL to NULL; where it has none, those of the requests before it. */
struct muster_request *mu_hier_part(const struct muster_request *req, const struct muster_request *last);

#endif
