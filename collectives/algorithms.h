/* One algorithm, one file. To add one: its struct mu_algo here, a row in select.c, sizes around its limits in
 * tests/mpi/coll_all.c. */
#ifndef MU_COLLECTIVES_ALGORITHMS_H
#define MU_COLLECTIVES_ALGORITHMS_H

#include "collectives/engine.h"
#include "collectives/shm.h"

extern const struct mu_algo mu_allreduce_flat;     /* everybody sends to everybody, everybody reduces */
extern const struct mu_algo mu_allreduce_doubling; /* the same in the logarithm of the ranks */
extern const struct mu_algo mu_allreduce_pairs;    /* pairs exchange what they have reduced; see below */
extern const struct mu_algo mu_allreduce_halving;  /* the same, of half as much each time, and back */
extern const struct mu_algo mu_allreduce_direct;   /* reduce-scatter and all-gather of slices, in frames */
extern const struct mu_algo mu_hier;               /* made of parts inside and between nodes */
extern const struct mu_algo mu_reduce_root;
extern const struct mu_algo mu_reduce_scatter_halving;
extern const struct mu_algo mu_reduce_scatter_direct;
extern const struct mu_algo mu_allgather_pairs;
extern const struct mu_algo mu_allgather_direct;
extern const struct mu_algo mu_broadcast_binomial;
extern const struct mu_algo mu_broadcast_ring;
extern const struct mu_algo mu_broadcast_chain;
extern const struct mu_algo mu_alltoall_pairwise;
extern const struct mu_algo mu_barrier_dissemination;
extern const struct mu_algo mu_p2p_send;
extern const struct mu_algo mu_p2p_recv;

/* Row of the algorithm for a call, for the signature; and the row's algorithm. */
unsigned mu_algo_select(const struct muster_comm *comm, const struct mu_call *call, size_t bytes);
const struct mu_algo *mu_algo_row(unsigned row);

/* The same for one that goes through channels. */
const struct mu_shm_algo *mu_shm_select(const struct muster_request *req);

/* Of an algorithm whose round k goes 2^k ranks far. */
static inline unsigned mu_coll_rounds(const struct muster_comm *comm)
{
    unsigned n = 0;

    while (1u << n < (unsigned)comm->size)
        n++;
    return n;
}

static inline bool mu_coll_is_paired(const struct muster_comm *comm) /* a power of two of members */
{
    return (comm->size & (comm->size - 1)) == 0;
}

/* Of paired members: the streams that gather everybody's block of so many bytes in place (allgather_pairs.c). */
void mu_coll_gather_in_pairs(struct muster_request *req, char *blocks, size_t bytes);

static inline bool mu_coll_is_upper(const struct muster_comm *comm, unsigned round)
{
    return (unsigned)comm->rank >> round & 1;
}

/* --- the ordered reduction --- */

/* Rank by rank: ((x0 op x1) op x2) op ... Where each member is on a node of its own (comm->in_tree) it is a tree, so
 * that pairs of nodes can send what they have reduced: of n members the first 2^k, the largest power of two below n,
 * and the rest, each of the two likewise. Up to three members that is the same. Every algorithm has that order. */
void *mu_coll_room(size_t bytes); /* for req->acc; on a line, unless it is short */
/* Sets req->red, as the call and its part want it. */
static inline void mu_fold_reducer(struct muster_request *req)
{
    mu_ops_reducer_to(&req->red, req->call.dtype, req->call.op);
    req->red.ranks = req->part.ranks;
}
/* Bytes of an accumulator of so many elements, in whole lines. */
static inline size_t mu_fold_acc(const struct muster_request *req, size_t elements)
{
    return (elements * req->red.acc_size + 63) / 64 * 64;
}
/* What has been reduced from all members, as the result. */
static inline void mu_fold_store(const struct muster_request *req, void *to, const void *acc, size_t n)
{
    req->red.store(to, acc, n, req->red.ranks ? req->red.ranks : (unsigned)req->comm->size);
}
/* Bytes of req->acc for reductions of `each` elements; input r, for all r in order: n elements, at most each. */
size_t mu_fold_room(const struct muster_request *req, size_t each);
void mu_fold(struct muster_request *req, size_t each, unsigned r, const void *x, size_t n);

/* Input streams 0..size-2 of the request (mu_coll_index) and own, frame by frame, into dst. */
int mu_fold_begin(struct muster_request *req, size_t bytes, struct mu_err *err);
/* gates (nout of them, may be NULL): dst may be written only as far as they have been sent. True at the end. */
bool mu_fold_step(struct muster_request *req, const void *own, void *dst, size_t bytes, const struct mu_out *gates,
                  unsigned ngates);

#endif
