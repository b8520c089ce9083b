/* What the nodes of a job still have in memory of its checkpoints, as all ranks see it together. Everything here but
 * open, close and free is collective. */
#ifndef MU_RANK_RAM_H
#define MU_RANK_RAM_H

#include "runtime/ckpt/arena.h"
#include "runtime/ckpt/reader.h"
#include "runtime/ckpt/writer.h"

struct mu_rank_ram {
    muster_comm *comm;
    const char *dir;                   /* only what belongs to this directory counts */
    struct mu_arena_head *head;        /* NULL: this node has none */
    struct mu_ckpt_writer *writer;     /* which maps this rank's cells; NULL: none */
    const struct mu_arena_cell *sound; /* all of it has just been verified, as a part of sound_id; NULL: none has */
    struct mu_ckpt_id sound_id;
};

/* A save that some node has a part of. order: as what generation it counts, the newest first. */
struct mu_rank_save {
    struct mu_ckpt_id id;
    uint64_t order;
};

/* From the environment; once a process at a time, as there is one set of cells. No arena: that is fine, too. */
void mu_rank_ram_open(struct mu_rank_ram *);
void mu_rank_ram_close(struct mu_rank_ram *);

/* *list is malloc'ed and the same on all ranks, newest first. */
int mu_rank_ram_list(const struct mu_rank_ram *, struct mu_rank_save **list, size_t *n, struct mu_err *);
/* Maps this node's parts, gets from other nodes what all ranks need of theirs, and verifies what the tensors need. The
 * result is this rank's own: the others may have failed. 1: one of them has. What had been verified is not once more.
 */
int mu_rank_ram_load(struct mu_rank_ram *, const struct mu_ckpt_id *, const struct mu_ckpt_tensors *,
                     struct mu_ckpt_held *, struct mu_err *);

#endif
