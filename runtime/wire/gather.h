/* What the nodes of an attempt contribute to one fence, each in its place, whatever way the pieces come: one by one, or
 * several put together by a node of the tree (which is a gathering, too: mu_gather_message is what it hands on). Pure.
 */
#ifndef MU_WIRE_GATHER_H
#define MU_WIRE_GATHER_H

#include <stdbool.h>

#include "runtime/wire/msg.h"

struct mu_gather_piece {
    uint8_t *data;
    uint32_t len;
    bool wanted; /* this node takes part */
    bool have;
    bool waits; /* for the result */
};
struct mu_gather {
    struct mu_gather_piece *of; /* by node */
    uint32_t nnodes, missing;
    uint64_t bytes;
};

/* Whether a message's vectors fit together and name nodes below nnodes only. */
bool mu_gather_sound(const struct mu_m_fence *, uint32_t nnodes);
/* among: who takes part, empty: all. 0, EARG (a node that is not there), ENOMEM. */
int mu_gather_init(struct mu_gather *, uint32_t nnodes, const struct mu_u32v *among);
void mu_gather_free(struct mu_gather *);
/* Takes what a sound message brings; what is there already stays. EARG: from a node that takes no part. On ENOMEM some
 * of it may be missing. */
int mu_gather_add(struct mu_gather *, const struct mu_m_fence *);
/* How much of the message's data is new. */
uint64_t mu_gather_news(const struct mu_gather *, const struct mu_m_fence *);
/* All data that is there, in the order of the nodes; malloced. */
int mu_gather_data(const struct mu_gather *, struct mu_bytes *out);
/* The same with who and how much: nodes, lens and data of *out are the caller's to free. */
int mu_gather_message(const struct mu_gather *, struct mu_m_fence *out);

#endif
