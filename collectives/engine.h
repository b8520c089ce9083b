/* The engine: requests that advance when frames arrive, never a wait without an end. One engine a
 * process; its caller holds engine->lock in every call.
 *
 * A request owns streams (frames to or from one peer, in order). Its algorithm says which streams there are, and moves
 * data between them and the user's memory in step(). A receiver grants credit, so that a sender is at most MU_WINDOW
 * frames ahead of it in each stream. Frames are found by (communicator, sequence number, sender, lane); frames of an
 * operation that this rank has not entered yet wait in queues of the communicator.
 *
 * Failures are noted where they are seen (mu_coll_break_*) and take effect when the engine is at its top level, so that
 * no request ends under the feet of its own step. */
#ifndef MU_COLLECTIVES_ENGINE_H
#define MU_COLLECTIVES_ENGINE_H

#include <pthread.h>

#include "collectives/ops.h"
#include "collectives/transport.h"

#define MU_WINDOW 8u     /* frames a stream may be ahead: 512 KiB */
#define MU_INFLIGHT 32u  /* frames of a request that the transport holds at a time */
#define MU_HISTORY 256u  /* signatures remembered for ranks that come late */
#define MU_BUCKETS 64u   /* queues of early frames */
#define MU_NODE_NAME 64  /* with its end */
#define MU_PENDING 1     /* request status */
#define MU_TAG_MAX 32767 /* of muster_send */

#ifdef MU_UNCHECKED /* a build that looks for no failure and no disagreement, for make bench-fault-cost alone */
#define MU_CHECKS false
#else
#define MU_CHECKS true
#endif

enum mu_side { MU_LOCAL, MU_CROSS, MU_SIDES }; /* of a communicator that spans nodes (hier.h) */

struct mu_out { /* frames to one peer */
    int peer;
    uint16_t lane;
    bool open; /* the algorithm lets it go */
    const char *src;
    size_t total, ready; /* bytes; ready: may be sent now */
    uint32_t nframes, sent, credit, inflight;
    bool here; /* the peer has answered a probe of late */
};

struct mu_in { /* frames from one peer */
    int peer;
    uint16_t lane;
    bool keep;                 /* frames are queued for the algorithm, which takes them with mu_in_pop */
    char *dst;                 /* else their payload goes there */
    const struct mu_out *gate; /* dst may be written only as far as this one has been sent */
    size_t total;
    uint32_t nframes, got, used, granted;
    bool here; /* as above */
    struct mu_frames queue;
};

/* One call, as the public function received it. */
struct mu_call {
    uint8_t kind;
    muster_dtype dtype;
    muster_op op;
    int root; /* or the peer */
    int tag;
    size_t count;
    const void *send;
    void *recv;
};

/* Field by field, see mu_sig_of. */
static inline void mu_call_copy(struct mu_call *to, const struct mu_call *from)
{
    const volatile struct mu_call *f = from;

    to->kind = f->kind;
    to->dtype = f->dtype;
    to->op = f->op;
    to->root = f->root;
    to->tag = f->tag;
    to->count = f->count;
    to->send = f->send;
    to->recv = f->recv;
}

/* What a call that is part of another one has beyond it. */
struct mu_part {
    unsigned ranks; /* AVG divides by them; 0: by the members */
    size_t stride;  /* elements from block to block of all of them; 0: they are side by side */
};

/* The part of a request that goes through channels (shm.h). */
struct mu_shm_op {
    const struct mu_shm_algo *algo; /* NULL: it goes through streams */
    struct muster_request *next;    /* of the same communicator */
    uint64_t s, word;               /* number, from 1, and what the post says */
    uint64_t base;                  /* chunks before it */
    uint32_t nchunk, staged, used, turn;
    uint32_t moves; /* grows when it gets on */
    uint8_t phase;
    enum { MU_SHM_INLINE, MU_SHM_ONE, MU_SHM_LARGE } size;
    bool away;  /* results are too large for the caches */
    bool given; /* this rank's buffer is read where it is */
    bool stuck; /* a peer's buffer could not be read */
    bool past;  /* chunks are stored past the caches */
    int heard;  /* ranks below have said that they are there */
    int wait;   /* the rank that it waits for; -1: not known */
    size_t each, at;
    const _Atomic uint64_t *watched; /* what it waits for, or some of it: a word that was `seen`; NULL: not known */
    uint64_t seen;
    uint64_t stored, taken; /* least ticks for a chunk */
};

struct mu_algo {
    const char *name;
    /* How many streams a request needs; then fills them (mu_out_set, mu_in_set). */
    void (*shape)(const struct muster_comm *, const struct mu_call *, unsigned *nout, unsigned *nin);
    int (*begin)(struct muster_request *, struct mu_err *);
    /* Moves what can be moved. True when nothing is left to do but to send and receive what the streams hold. */
    bool (*step)(struct muster_request *);
};

struct muster_request {
    struct muster_comm *comm;
    struct muster_request *next, **link; /* in comm->active */
    struct muster_request *run_next;
    bool queued, moved, bound;
    unsigned probed : 4; /* times since it has moved */
    unsigned rounds : 4; /* of questions for whom others wait, likewise */
    int status;          /* MU_PENDING, 0, or the code in err */
    struct mu_call call;
    struct mu_sig sig;
    uint64_t seq, entered; /* entered: number of this operation in this process, for people */
    const struct mu_algo *algo;
    size_t elem; /* bytes */
    unsigned inflight, nout, nin;
    struct mu_out *out;
    struct mu_in *in;
    uint64_t moved_at, looked_at; /* looked_at: by mu_coll_test */

    uint64_t gpu_at; /* the operation in GPU memory that it stands for (nccl/backend.h); 0: none */
    struct mu_part part;
    struct muster_request *whole;    /* that this one is part of; NULL: none */
    struct mu_flight_record *flight; /* NULL: it is not recorded, as parts are not */
    uint64_t flight_seq;
    struct mu_hier_op *hier; /* made of parts (hier.h); NULL: not */

    /* The ordered reduction (fold.c). */
    void *acc;
    uint32_t fold_frame, fold_rank; /* or the round, in pairs and halves */
    struct mu_reducer red;

    struct mu_shm_op shm;
    struct mu_err err;
};

struct muster_comm {
    struct mu_engine *engine;
    struct muster_comm *next;
    uint64_t ctx;
    int rank, size;
    int *world;                    /* world rank of each member */
    uint64_t seq;                  /* of the next collective */
    uint64_t *sends;               /* to each member: number of the next message */
    struct muster_request *active; /* not ended */
    unsigned requests;             /* not released */
    unsigned buckets;              /* the program's, not closed */
    struct mu_sig history[MU_HISTORY];
    struct mu_frames early[MU_BUCKETS], early_p2p[MU_BUCKETS];
    struct mu_err broken; /* code != 0: has failed; `dead` once that took effect */
    bool dead, told;
    struct mu_shm_comm *shm;   /* NULL: its members are not all on this node */
    struct mu_hier_comm *hier; /* NULL: not all of its nodes' members share memory, or none has another one beside it */
    bool in_tree;              /* one member a node: reductions have the order of algorithms.h */
    struct muster_comm *whole; /* the communicator that this is a side of; NULL: the program's own */
    struct mu_gpu_comm *gpu;   /* NULL: nothing in GPU memory so far (nccl/backend.h) */
    struct mu_gpu_group *gpu_group;
    struct mu_flight_ring *flight; /* from its first operation on; NULL: none was left, or nobody reads it */
    bool flight_asked;
    void *stream;                /* of CUDA, for operations in GPU memory */
    struct muster_request quick; /* for a blocking call: not allocated each time */
    bool quick_used;
    struct mu_flight_record *recorded; /* by mu_shm_at_once: of the request that goes on from there */
};

struct mu_progress { /* the thread of progress.c */
    bool wanted;     /* a CPU is free for it */
    bool running, stop, failed;
    pthread_t thread;
    pthread_cond_t wake;
};

struct mu_engine {
    pthread_mutex_t lock;
    struct mu_transport *tp;
    struct mu_pool pool;
    char (*nodes)[MU_NODE_NAME];     /* of world ranks; NULL until known */
    int *place;                      /* of world ranks: equal for those that share memory; NULL: not known */
    int *machine;                    /* likewise for one machine, whose ranks may not share memory; -1: not known */
    const struct mu_slot_head *head; /* the keeper's; NULL: unsupervised */
    struct mu_slot *slot;            /* never NULL */
    struct mu_flight *flight;        /* NULL: unsupervised */
    uint64_t timeout, nap_after;     /* ns */
    bool crowded;                    /* more ranks than CPUs on this node */
    bool hier;                       /* collectives between nodes are made of parts */
    struct mu_shm *shm;              /* NULL: nobody else is on this node, or it cannot be used */
    size_t flat_max;                 /* bytes up to which an all-reduce goes directly to everybody; 0: chosen by size */
    struct muster_comm *comms, *world;
    struct muster_request *run_first, **run_last;
    uint64_t ends;          /* of requests so far */
    uint64_t drained_at;    /* when the transport had no more frames, the last time */
    struct mu_waits *waits; /* waits.h; NULL: nobody has asked anything */
    uint64_t followed_at;   /* when waits were followed, the last time */
    struct mu_frames stray; /* for communicators that this rank has not made yet */
    uint64_t *retired;      /* ctx of freed communicators */
    size_t nretired;
    uint64_t entered;
    struct mu_progress progress;
    struct mu_err broken; /* as in a communicator, for all of them */
    bool dead, told, trouble;
};

/* --- life of requests --- */

/* Starts a call whose arguments have been checked. */
int mu_coll_start(struct muster_comm *comm, const struct mu_call *call, struct muster_request **out,
                  struct mu_err *err);
/* Waits until it has ended, successfully or not: at most until timeout without any progress. */
void mu_coll_wait(struct muster_request *req);
/* Polls once; also looks at the abort word and the deadline. True when the request has ended. */
bool mu_coll_test(struct muster_request *req);
/* Frees an ended request; gives its status, and its error to err. */
int mu_coll_release(struct muster_request *req, struct mu_err *err);
/* Starts a part of a whole request on one of its sides; it is named and compared as the whole one. Nothing moves yet.
 */
int mu_coll_start_part(struct muster_comm *side, const struct mu_call *call, const struct mu_part *part,
                       struct muster_request *whole, struct muster_request **out, struct mu_err *err);
/* In the communicator's ring, which it gets if there is one; NULL: there is none. */
struct mu_flight_record *mu_coll_record(struct muster_comm *comm, const struct mu_call *call, uint64_t number);
/* Start, wait and release. */
int mu_coll_run(struct muster_comm *comm, const struct mu_call *call, struct mu_err *err);
/* What each rank of the world has to say, size bytes, to all. Not counted: people know muster_init as one operation. */
int mu_coll_tell(struct mu_engine *e, const void *mine, size_t size, void *all, struct mu_err *err);

/* --- communicators --- */

/* world: size entries, copied. */
int mu_comm_new(struct mu_engine *e, uint64_t ctx, int rank, int size, const int *world, struct muster_comm **out,
                struct mu_err *err);
void mu_comm_delete(struct muster_comm *comm);
int mu_comm_split(struct muster_comm *comm, int color, int key, struct muster_comm **out, struct mu_err *err);
/* Identity of a communicator that is made out of another one: the same on all members, of no other one. */
uint64_t mu_comm_ctx(uint64_t parent, uint64_t number, uint64_t which);
/* 0, or why calls on it cannot succeed: the cause once, MUSTER_EABORTED from then on. */
int mu_comm_check(struct muster_comm *comm, struct mu_err *err);
/* "rank 2 on nodeb"; peer: rank in the communicator. */
const char *mu_comm_who(const struct muster_comm *comm, int peer, char *text, size_t size);

/* --- for algorithms --- */

void mu_out_set(struct muster_request *req, unsigned i, int peer, unsigned lane, const void *src, size_t total,
                bool open);
static inline void mu_out_let_go(struct mu_out *o)
{
    o->ready = o->total;
    o->open = true;
}
void mu_in_set(struct muster_request *req, unsigned i, int peer, unsigned lane, void *dst, size_t total);
void mu_in_keep(struct muster_request *req, unsigned i, int peer, unsigned lane, size_t total);
uint32_t mu_coll_nframes(size_t total); /* at least one: an empty stream is one empty frame */
/* The frame that was at the head of the queue has been used. */
void mu_in_pop(struct muster_request *req, struct mu_in *in);
static inline bool mu_in_ended(const struct mu_in *in)
{
    return in->used == in->nframes;
}
/* Where streams to or from all others lie, `lane` by `lane`: index of rank r's. */
static inline unsigned mu_coll_index(const struct muster_comm *comm, unsigned lane, int r)
{
    unsigned p = (unsigned)comm->size;

    return lane * (p - 1) + ((unsigned)r + p - (unsigned)comm->rank - 1) % p;
}
static inline int mu_coll_peer(const struct muster_comm *comm, unsigned i) /* the inverse, for i < size - 1 */
{
    return (int)(((unsigned)comm->rank + 1 + i) % (unsigned)comm->size);
}
/* Pointers may be NULL where nothing is there. */
static inline void *mu_at(const void *p, size_t offset)
{
    return p ? (char *)(uintptr_t)p + offset : NULL;
}

/* Bytes from block to block. */
static inline size_t mu_stride(const struct muster_request *req)
{
    return (req->part.stride ? req->part.stride : req->call.count) * req->elem;
}

/* --- inside the engine --- */

/* Under the lock; muster_step adds without it, and either may lose one of the other's. */
static inline void mu_coll_beat(struct mu_engine *e)
{
    uint64_t b = atomic_load_explicit(&e->slot->beat, memory_order_relaxed);

    if (MU_CHECKS)
        atomic_store_explicit(&e->slot->beat, b + 1, memory_order_relaxed);
}

/* So many operations have been entered. */
static inline void mu_coll_entered(struct mu_engine *e, uint64_t entered)
{
    if (MU_CHECKS)
        atomic_store_explicit(&e->slot->op_seq, entered, memory_order_relaxed);
}

/* The collective that was entered last is the number-th of ctx. */
static inline void mu_coll_last(struct mu_engine *e, uint64_t ctx, uint64_t number)
{
    if (!MU_CHECKS)
        return;
    atomic_store_explicit(&e->slot->last_ctx, ctx, memory_order_relaxed);
    atomic_store_explicit(&e->slot->last_number, number, memory_order_relaxed);
}

bool mu_coll_progress(struct mu_engine *e);      /* true when anything moved */
bool mu_coll_progress_near(struct mu_engine *e); /* what goes through memory alone; other nodes are not asked */
/* True when the supervisor says that a rank is dead; err names it. Needs no lock. */
bool mu_coll_read_abort(const struct mu_engine *e, struct mu_err *err);
static inline bool mu_coll_is_told(const struct mu_engine *e)
{
    return MU_CHECKS && e->head && atomic_load_explicit(&e->head->abort, memory_order_acquire);
}
static inline bool mu_coll_abort_word(const struct mu_engine *e, struct mu_err *err)
{
    return mu_coll_is_told(e) && mu_coll_read_abort(e, err);
}
/* Looks at the abort word; mu_coll_break_all when it is set. */
void mu_coll_watch(struct mu_engine *e);
void mu_coll_kick(struct muster_request *req); /* it is stepped at the next progress */
void mu_coll_dispatch(struct mu_engine *e, struct mu_frame *f);
void mu_coll_end(struct muster_request *req, int status);
/* The transport has it. */
static inline void mu_coll_in_flight(struct mu_frame *f)
{
    if (!f->owner)
        return;
    f->owner->inflight++;
    f->owner->out[f->out].inflight++;
}
/* Takes f. owner (may be NULL) hears of the end of the sending. */
void mu_coll_post(struct mu_engine *e, int world_peer, struct mu_frame *f, struct muster_request *owner);
void mu_coll_break_all(struct mu_engine *e, const struct mu_err *why);
void mu_coll_break_comm(struct muster_comm *comm, const struct mu_err *why);
void mu_coll_break_request(struct muster_request *req, const struct mu_err *why);
void mu_coll_settle(struct mu_engine *e); /* makes breaks take effect */
struct mu_frame *mu_coll_frame(struct muster_request *req, enum mu_frame_type type, unsigned lane, size_t bytes);
bool mu_coll_push(struct muster_request *req); /* sends what may be sent; true when anything was */
void mu_coll_accept(struct muster_request *req, struct mu_frame *f); /* a DATA frame of this request */
void mu_coll_drain(struct muster_request *req);                      /* frames whose gate has opened */
void mu_coll_credit(struct muster_request *req, const struct mu_frame *f);
/* Tells the other members that the operation seq has failed here; where they see it in a channel there is no need. */
void mu_coll_notify(struct muster_comm *comm, uint64_t seq, const struct mu_err *why);
/* What a member says of its own node (ENODE) is the failure of a peer (EPEER), with its name, to the others. */
void mu_coll_of_peer(struct muster_comm *comm, int peer, struct mu_err *why);
/* True when the two agree; else breaks the communicator on all its ranks and is false. */
bool mu_coll_agree(struct muster_comm *comm, const struct mu_sig *mine, const struct mu_frame *f);
/* After idle ns in which it has not moved: asks who is there; beyond the deadline breaks its communicator, naming who
 * is missing. */
void mu_coll_patience(struct muster_request *req, uint64_t idle);
void mu_coll_answer(struct muster_comm *comm, const struct mu_frame *probe);
void mu_coll_here(struct muster_request *req, int peer); /* it has answered */
int mu_coll_missing(const struct muster_request *req);   /* world rank of one that it waits for; -1: none */
/* An operation was started that nobody waits for yet: the thread, if it is wanted, works on it. */
void mu_progress_kick(struct mu_engine *e);
/* Ends the thread; lets go of the lock meanwhile. */
void mu_progress_stop(struct mu_engine *e);
/* Point to point. */
void mu_p2p_dispatch(struct muster_comm *comm, struct mu_frame *f);
void mu_p2p_bind(struct muster_request *req); /* gives a new receive the message that is already there */

#endif
