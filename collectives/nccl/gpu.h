/* Inside the NCCL backend. */
#ifndef MU_COLLECTIVES_NCCL_GPU_H
#define MU_COLLECTIVES_NCCL_GPU_H

#include <stdatomic.h>

#include "collectives/nccl/api.h"
#include "collectives/nccl/backend.h"

#define MU_GPU_RING 256u

struct mu_gpu_record { /* of a collective */
    _Atomic uint64_t number;
    uint64_t since; /* when it was enqueued */
    struct mu_sig sig;
    char pad[32];
};
_Static_assert(sizeof(struct mu_gpu_record) == 64, "a cache line");

/* What the ranks of a node see of one another, in memory that they share (segment.h). */
struct mu_gpu_board {
    _Atomic uint64_t ctx;   /* of the communicator; 0: this rank has left it */
    _Atomic uint64_t colls; /* collectives enqueued so far */
    _Atomic int failed;     /* code; the rest was written before */
    uint64_t failed_at;     /* operation */
    char text[400];
    struct mu_gpu_record ring[MU_GPU_RING];
};

enum mu_gpu_state {
    MU_GPU_UP,
    MU_GPU_FAILED,
    MU_GPU_LEFT /* the watchdog hangs in it: nobody touches it any more */
};

struct mu_gpu_comm {
    struct muster_comm *comm;
    struct mu_engine *engine;
    struct mu_gpu_comm *next; /* of those that the watchdog looks at */
    const struct mu_nccl_api *n;
    const struct mu_cuda_api *c;
    mu_nccl_comm nccl;
    bool safe;           /* calls of NCCL do not block */
    uint64_t start_most; /* ns of a try to bring it up */
    int device;
    int capability, oldest; /* the lowest compute capability of all ranks' GPUs, 90 is 9.0; whose it is */
    mu_cu_ctx ctx;
    struct mu_gpu_board *own, **boards; /* by rank; NULL: of another node */
    uint64_t *checked;                  /* by rank: collectives whose signatures were compared */

    pthread_mutex_t lock; /* who has it may call NCCL with this communicator; taken after engine->lock */
    mu_cu_stream stream;
    mu_cu_event event; /* recorded by the watchdog, or by who waits */
    bool event_out;
    uint64_t issued, marked;    /* operations; marked: those before the event */
    uint64_t marked_colls;      /* collectives among them */
    _Atomic uint64_t completed; /* operations that have ended */
    uint64_t completed_colls, moved_at, looked_at;
    struct mu_sig last;       /* the newest operation */
    uint64_t spared;          /* collectives of a group behind the one that NCCL has refused */
    _Atomic bool captured;    /* its stream makes a graph: what is enqueued will not end */
    _Atomic uint64_t watched; /* since when the watchdog looks; 0: it does not */
    _Atomic int state;
    struct mu_err broken; /* written before state */
    struct mu_gpu_abort *abort;
    uint64_t slot_ctx;             /* what the keeper knows its operations by */
    struct mu_flight_ring *flight; /* its n-th record is of the n-th operation; NULL: nothing is recorded */
};

/* --- start.c --- */
int mu_gpu_start(struct muster_comm *comm, const void *buffer, struct mu_err *err);
/* NCCL's text for a result. */
int mu_gpu_nccl_err(const struct mu_nccl_api *n, mu_nccl_comm comm, mu_nccl_result rc, const char *what,
                    struct mu_err *err);
/* Aborts in a thread of its own; the caller holds g->lock, or is the only one who knows g. */
void mu_gpu_abort(struct mu_gpu_comm *g);
/* It was aborted, and that is over. */
bool mu_gpu_aborted(const struct mu_gpu_comm *g);

/* --- issue.c --- */
/* Before an operation that no group takes: may it be enqueued? Brings NCCL up. */
int mu_gpu_prepare(struct muster_comm *comm, const struct mu_call *call, struct mu_err *err);
/* Enqueues what the calls stand for; why (code 0) is set when it is not NCCL that refuses. Holds g->lock. */
typedef mu_nccl_result mu_gpu_steps(struct mu_gpu_comm *g, const struct mu_call *calls, unsigned n, void *arg,
                                    struct mu_err *why);
int mu_gpu_enqueue(struct muster_comm *comm, const struct mu_call *calls, unsigned n, mu_gpu_steps *steps, void *arg,
                   struct mu_err *err);
/* In such steps: a call of NCCL's; waits until it is enqueued, which in safe mode may be later. */
mu_nccl_result mu_gpu_issue(struct mu_gpu_comm *g, const struct mu_call *call);
mu_nccl_result mu_gpu_settle(struct mu_gpu_comm *g, mu_nccl_result rc, struct mu_err *err);
void mu_gpu_drop_group(struct muster_comm *comm);

/* --- watch.c --- */
/* Looks once; the caller holds g->lock. Only the watchdog asks NCCL, which may not return. */
void mu_gpu_look(struct mu_gpu_comm *g, bool watchdog);
/* False: somebody else holds it for so long. */
bool mu_gpu_lock(pthread_mutex_t *lock, uint64_t ns);
/* Notes the failure, tells the node's ranks and begins to abort; the caller holds g->lock. The operation named is the
 * newest, or the first that has not ended. A failure that was noted before stays. */
void mu_gpu_fail(struct mu_gpu_comm *g, bool newest, const struct mu_err *why);
/* The same for an operation that NCCL has refused. */
void mu_gpu_refused(struct mu_gpu_comm *g, mu_nccl_result rc);
/* While NCCL does not come back from an operation, as it may wait for the others: false when one is dead, has failed,
 * calls another one or, with late, does not come; that is noted. The caller holds both locks. */
bool mu_gpu_goes_on(struct mu_gpu_comm *g, bool late, struct mu_err *err);
/* Says in the slot what this rank waits in, and for whom; the caller holds engine->lock. */
void mu_gpu_publish(struct mu_gpu_comm *g);
int mu_gpu_watch(struct mu_gpu_comm *g, struct mu_err *err);
/* False: the watchdog hangs, and may still come back to g. */
bool mu_gpu_unwatch(struct mu_gpu_comm *g);

#endif
