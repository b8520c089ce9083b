/* The nodes of a job as a group that protects its checkpoints (runtime/ckpt/arena.h, "Groups"): the ranks introduce the
 * drains to one another, and have them make again what is lost. All but free is collective. */
#ifndef MU_RANK_PEERS_H
#define MU_RANK_PEERS_H

#include "runtime/rank/ram.h"

struct mu_rank_peers {
    struct mu_rank_ram *ram;
    int rank, size;
    bool on; /* the same on all ranks */
    struct mu_rank_seat {
        int32_t node, local, leader; /* leader: lowest rank of the node */
        uint32_t arena, turn;        /* turn: the node's place in the order in which groups are dealt */
        uint64_t rack;               /* what MUSTER_RACK of its agent says, summed; 0: nothing */
        struct mu_arena_addr at;     /* of the node's drain; leaders only */
    } * seats;                       /* by rank */
    uint32_t nodes, groups, n, k;    /* n, k: of our group */
};

/* k parities a group, or (mirror) pairs of nodes; never more than a group has nodes for. Off where there is one node,
 * or a node without an arena or a drain that can be reached: then nothing is protected. open: what drains send one
 * another is only authenticated. */
int mu_rank_peers_open(struct mu_rank_peers *, struct mu_rank_ram *, uint32_t k, bool mirror, bool open, uint64_t nonce,
                       struct mu_err *);
/* By node: in which order they are dealt to the groups, so that nodes of one rack, and else nodes that are next to each
 * other, get into different ones as far as that goes. */
void mu_rank_peers_order(const uint64_t *rack, uint32_t nodes, uint32_t *turn);
void mu_rank_peers_free(struct mu_rank_peers *);

/* Of a save whose ranks have so many bytes each (stride bytes apart): our group's chunk, and how many ranks our node
 * has. 0: it cannot be protected. Not collective: the same everywhere. */
uint64_t mu_rank_peers_chunk(const struct mu_rank_peers *, const uint64_t *bytes, size_t stride, uint32_t *node);

/* Whatever of the save is lost or damaged is made again from the groups' parities, on the nodes that its ranks are on
 * now. order: as in the list of saves. The result is this rank's own; 1: another one has failed. */
int mu_rank_peers_rebuild(struct mu_rank_peers *, const struct mu_ckpt_id *, uint64_t order, uint64_t timeout,
                          struct mu_err *);

#endif
