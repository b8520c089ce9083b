/* Collectives among ranks of one node, through channels in their segments. A communicator whose members have all mapped
 * each other's segments has one channel of each member and uses nothing else for its collectives; the frames of the
 * engine stay for messages between two ranks and for communicators that are spread over nodes.
 *
 * Operations of a communicator are done one after another in the order of their calls. An algorithm is a step that goes
 * as far as it can without waiting. */
#ifndef MU_COLLECTIVES_SHM_H
#define MU_COLLECTIVES_SHM_H

#include <sys/types.h>

#include "collectives/channel.h"
#include "collectives/domain.h"
#include "collectives/engine.h"
#include "collectives/segment.h"
#include "collectives/shm_store.h"

#define MU_SHM_SHORT ((size_t)8 << 10) /* bytes that are staged before their post is made */

struct mu_shm_peer {
    struct mu_seg_peer seg; /* base NULL: not on this node */
    pid_t pid;              /* 0: not visible from here */
    uint64_t head;          /* address of the segment in that process */
    struct mu_domain domain;
};

struct mu_shm_lent { /* to whom a channel was lent the last time */
    bool taken;
    int n;
    struct mu_shm_ref *to;
};

struct mu_shm_ref { /* a channel of a world rank, and how often it had been freed when it was lent */
    int world, index;
    uint32_t freed;
};

struct mu_shm {
    struct mu_seg seg;
    struct mu_channel *own;    /* MU_CHANNELS */
    struct mu_shm_peer *peers; /* by world rank; own: as mapped by itself */
    uint64_t *group;           /* by world rank: equal for those that have all mapped each other, 0: alone */
    int size;
    size_t llc;             /* bytes of the last cache */
    bool crowded;           /* ranks of the group share CPUs */
    bool reads;             /* all in the group may read each other's memory (process_vm_readv) */
    size_t small_reduction; /* bytes up to which everybody reduces everything; the same in a group */
    size_t read_from;       /* bytes from which a private block is read out of its process; likewise */
    size_t chain_from;      /* bytes from which domains reduce one after the other; 0: never; likewise */
    struct mu_shm_lent lent[MU_CHANNELS];
};

struct mu_shm_comm {
    struct mu_shm *shm;
    unsigned own;                                      /* index of its channel */
    int p, me, lanes;                                  /* lanes: ranks of each domain, 0: there are none */
    struct mu_channel **ch;                            /* by rank */
    uint64_t settled;                                  /* all have ended this operation, as far as is known */
    uint64_t chunks;                                   /* that have gone through slots, on every rank alike */
    uint64_t slot_user[MU_SLOTS], cell_user[MU_SLOTS]; /* the newest operations that have used all of it, or a cell */
    struct mu_shm_store store[MU_OP_KIND_COUNT][2];    /* 1: results are too large for the caches */
    uint64_t *seen;                                    /* by rank: the operation whose post was looked at last */
    struct muster_request *first, **last;
    const void **src; /* room for the arguments of mu_ops_reduce */
    void **dst;
};

/* --- life --- */

struct mu_shm_want {
    bool on;                  /* memory is shared */
    bool reads;               /* ranks may read out of each other's processes */
    const char *name;         /* ranks with another one do not count as of this node; may be NULL */
    bool tune;                /* thresholds are those of this kind of machine (tune.h) */
    uint32_t everybody, read; /* thresholds that somebody has chosen; 0: none */
    uint32_t chain;
    struct mu_domain domain; /* of this rank */
};

/* Collective over the world, with frames: finds out who is on this node, and gives the world its channel. Never fails
 * because of a node that cannot do it; then e->shm stays NULL. */
int mu_shm_connect(struct mu_engine *e, const struct mu_shm_want *want, int (*stop)(void *arg, struct mu_err *),
                   void *arg, struct mu_err *err);
void mu_shm_disconnect(struct mu_engine *e);

/* A channel for a communicator that is being made; -1: none is free. */
int mu_shm_lend(struct mu_shm *shm, uint32_t *freed);
void mu_shm_return(struct mu_shm *shm, int index); /* of a channel that nobody was told of, or did not use */
/* True when all of refs (the members, by rank) can use channels with one another: the same on all of them. */
bool mu_shm_fits(const struct mu_shm *shm, const struct mu_shm_ref *refs, int n);
int mu_shm_attach(struct muster_comm *comm, const struct mu_shm_ref *refs, struct mu_err *err);
void mu_shm_detach(struct muster_comm *comm);

/* --- operations --- */

void mu_shm_start(struct muster_request *req); /* its call, sig and seq are set */
bool mu_shm_push(struct muster_comm *comm);    /* true when anything has moved */
/* A short blocking call, with nothing else under way: true when it is done, without a request.
 * Else, when it has *posted, a request for it goes on from there (mu_shm_posted). */
bool mu_shm_at_once(struct muster_comm *comm, const struct mu_call *call, bool *posted);
void mu_shm_posted(struct muster_request *req);
void mu_shm_unlink(struct muster_request *req);
/* The communicator has failed: its other members shall know. */
void mu_shm_poison(struct muster_comm *comm);
/* A member that has given up, or whose process has ended: breaks the communicator. idle: ns without progress. */
void mu_shm_look(struct muster_comm *comm, uint64_t idle);
/* By world rank: others that have not ended this operation; away: that have not begun it either. False: none. */
bool mu_shm_missing(const struct muster_request *req, bool away, bool *missing);

/* --- for algorithms --- */

struct mu_shm_algo {
    const char *name;
    void (*begin)(struct muster_request *);
    bool (*step)(struct muster_request *); /* true: ended */
};

extern const struct mu_shm_algo mu_shm_staged; /* blocks go through slots, or are read where they are */
extern const struct mu_shm_algo mu_shm_pipe;   /* large reductions of whole vectors, slice by slice */
/* Its step where all vectors can be reached and domains reduce one after the other; are they to? */
bool mu_shm_chains(const struct muster_request *req);
bool mu_shm_chain(struct muster_request *req);

/* What a post says first: the operation's number, and a hash of its signature. Calls that differ in more than one
 * argument, a root and a count say, are told apart as well as others. 31 bits, so that it is never MU_POST_POISON. */
static inline uint64_t mu_shm_word(uint64_t s, struct mu_sig sig)
{
    uint64_t x = (sig.words[0] * 0x9e3779b97f4a7c15ull + sig.words[1]) * 0xd6e8feb86659fd93ull;

    return s << 32 | (MU_CHECKS ? x >> 33 : 0);
}
/* Have k's posts since the one that was looked at last, and before operation s, said what this rank's said? */
bool mu_shm_agreed(const struct mu_shm_comm *sc, uint64_t s, int k);
/* Posts and slots of operation `upto` and before are needed by nobody. req: may be NULL. */
bool mu_shm_settle(struct mu_shm_comm *sc, struct muster_request *req, uint64_t upto); /* looks at all others */
static inline bool mu_shm_settled(struct mu_shm_comm *sc, struct muster_request *req, uint64_t upto)
{
    return sc->settled >= upto || mu_shm_settle(sc, req, upto);
}
static inline bool mu_shm_free_post(struct mu_shm_comm *sc, struct muster_request *req, uint64_t s)
{
    return s <= MU_POSTS || mu_shm_settled(sc, req, s - MU_POSTS);
}
/* May the post and the slots of this operation be written? */
bool mu_shm_may_post(struct muster_request *req);
bool mu_shm_slot_free(struct muster_request *req, unsigned slot);
/* Where the data of operation s lies that needs no more than a slot: in a cell when it is short. */
struct mu_shm_place {
    unsigned slot;
    size_t at;
    bool cell;
};
void mu_shm_place(struct mu_shm_place *place, size_t bytes, uint64_t s);
/* Of an operation that may post; false: somebody may still need what is there. req: may be NULL. */
bool mu_shm_take_place(struct mu_shm_comm *sc, struct muster_request *req, uint64_t s,
                       const struct mu_shm_place *place);
/* What was taken out of a slot is written there again, unchanged: its owner's next store to a line costs several
 * times less when somebody else has written it last, not read it. Not where many read at once, each on a CPU. */
bool mu_shm_gives_back(const struct mu_shm_comm *sc, bool blocks, bool gives_all);
void mu_shm_put_post(struct mu_shm_comm *sc, uint64_t s, uint64_t word, struct mu_sig sig, const void *room, size_t n);
void mu_shm_post(struct muster_request *req, const void *room, size_t n);
bool mu_shm_heard(struct muster_request *req, int k);
bool mu_shm_heard_all(struct muster_request *req);
bool mu_shm_all(struct muster_request *req, unsigned counter, uint64_t value); /* have all others counted so far? */
bool mu_shm_one(struct muster_request *req, int k, unsigned counter, uint64_t value);
void mu_shm_count(struct muster_request *req, unsigned counter, uint64_t value);
/* A peer's buffer of this operation; where: from its post. NULL breaks the communicator. */
char *mu_shm_peer_at(struct muster_request *req, int k, uint64_t where, size_t offset, size_t bytes);
/* A copy out of a peer's private memory; false: not now, or the communicator is broken. */
bool mu_shm_read(struct muster_request *req, int k, void *to, uint64_t address, size_t bytes);
/* A rank that gives up says so before its caller can free the buffer, and a process that is gone is another one: what
 * was read in those who give is right when neither is so afterwards. */
bool mu_shm_was_right(struct muster_request *req);
/* Was it that peer's memory, and nobody else's with the same process number? */
bool mu_shm_is_peer(const struct mu_shm *shm, int world);
const struct mu_where *mu_shm_where(const struct muster_request *req, int k);

static inline struct mu_shm_comm *mu_shm_of(const struct muster_request *req)
{
    return req->comm->shm;
}
/* The k-th of so many parts of len bytes, each beginning on a line. */
static inline size_t mu_shm_slice(size_t parts, size_t k, size_t len, size_t *offset)
{
    size_t each = ((len + parts - 1) / parts + 63) / 64 * 64, at = k * each;

    *offset = at < len ? at : len;
    return len - *offset < each ? len - *offset : each;
}
static inline char *mu_shm_in(struct mu_channel *c, const struct mu_shm_place *place)
{
    return c->slot[place->slot] + place->at;
}
static inline char *mu_shm_room(const struct muster_request *req, int k)
{
    return mu_shm_of(req)->ch[k]->post[req->shm.s % MU_POSTS].room;
}

#endif
