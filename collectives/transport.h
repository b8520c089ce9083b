/* How frames get from rank to rank. A transport delivers every frame once, frames of one sender in order, makes
 * progress only inside its calls and never waits. To add one: a file that fills this table. */
#ifndef MU_COLLECTIVES_TRANSPORT_H
#define MU_COLLECTIVES_TRANSPORT_H

#include "collectives/frame.h"
#include "runtime/base/err.h"

struct mu_transport {
    const struct mu_transport_ops *ops;
    struct mu_pool *pool; /* where received frames come from */
    int rank, size;
    bool yields; /* a poll that finds nothing leaves the CPU to others */
};

enum { MU_SEND_PENDING, MU_SEND_DONE };

struct mu_transport_ops {
    const char *name;
    /* MU_SEND_DONE: the frame is the caller's again; MU_SEND_PENDING: poll returns it later; negative: the caller's. */
    int (*send)(struct mu_transport *, int peer, struct mu_frame *, struct mu_err *);
    /* NULL, or: sends a frame whose payload lies elsewhere, and is not looked at any more afterwards. MU_SEND_PENDING:
     * poll returns *rest later, a frame of the pool's; if that is NULL nothing has been sent, and a frame has to be
     * made of it. */
    int (*send_from)(struct mu_transport *, int peer, const struct mu_frame_head *, const void *payload,
                     struct mu_frame **rest, struct mu_err *);
    /* At most one received frame in *in (else NULL), and frames whose sending has ended appended to *sent. */
    int (*poll)(struct mu_transport *, struct mu_frame **in, struct mu_frames *sent, struct mu_err *);
    unsigned (*pending)(struct mu_transport *); /* frames that are being sent */
    /* Clears owner of pending frames that belong to it. */
    void (*orphan)(struct mu_transport *, const struct muster_request *owner);
    /* Frees everything, after all ranks have agreed to end. Gives up at the deadline (mu_now). */
    int (*close)(struct mu_transport *, uint64_t deadline, struct mu_err *);
};

#endif
