/* UCX as a transport between nodes, in place of MPI's messages. The library is loaded when it is asked for, so nothing
 * else depends on it; which adapter it uses is in UCX_NET_DEVICES, where the agent has put the rank's. */
#ifndef MU_COLLECTIVES_UCX_H
#define MU_COLLECTIVES_UCX_H

#include "collectives/transport.h"

#define MU_UCX_CARD 2048u

struct mu_ucx_card { /* what the others have to know of a rank */
    uint32_t length; /* of its address; 0: it has none, and data says why */
    char data[MU_UCX_CARD - 4];
};

/* One for this rank over `below`, whose last frames it still receives. Its card is always filled. ENOSYS: this build or
 * this machine has no UCX. */
int mu_ucx_open(struct mu_transport *below, struct mu_ucx_card *card, struct mu_transport **out, struct mu_err *err);
/* From now on frames go its way: all ranks have one. cards: by rank; taken. */
void mu_ucx_join(struct mu_transport *ucx, struct mu_ucx_card *cards);
/* Not all have one: frees it, but not what is below. */
void mu_ucx_drop(struct mu_transport *ucx);

#endif
