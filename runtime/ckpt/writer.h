/* Saving: a private copy of the tensors, taken while the program waits, and a thread that puts it into the store while
 * the program goes on. One rank's writer meets those of the other ranks in the files alone: rank 0's waits for
 * everybody's manifest and commits; the others wait for the committed directory, or for the note that somebody failed.
 * Nothing waits without a bound.
 *
 * Calls come from one thread. The buffer is as large as what this rank stores and is kept from one save to the next. */
#ifndef MU_CKPT_WRITER_H
#define MU_CKPT_WRITER_H

#include "runtime/ckpt/arena.h"

struct mu_ckpt_writer;

/* Copies place. durable (may be NULL) is called from the thread when a save has been committed and synced. With an
 * arena (else NULL) the copy goes there, as that of the node's rank `local`, and the rest is the drain's to do and to
 * report: then it goes on when this process dies. A rank for which the arena has no memory does without. */
int mu_ckpt_writer_start(const struct mu_ckpt_place *place, void (*durable)(uint64_t step), struct mu_arena_head *arena,
                         uint32_t local, struct mu_ckpt_writer **out, struct mu_err *);
/* What the next save stores; the list must stay as it is until the next layout. Idle writers only. The buffer is
 * allocated and touched in the background, so that the first save costs what every save costs. */
int mu_ckpt_writer_layout(struct mu_ckpt_writer *, const struct mu_ckpt_tensors *, struct mu_err *);
/* Generations in (after, upto] did not restore; retention does not count them. */
void mu_ckpt_writer_bad(struct mu_ckpt_writer *, uint64_t after, uint64_t upto);
/* Copies the tensors and starts writing. Idle writers only. later: a thread copies them, and they must stay as they are
 * until that is done. */
int mu_ckpt_writer_save(struct mu_ckpt_writer *, uint64_t generation, uint64_t step, struct mu_err *);
int mu_ckpt_writer_save_later(struct mu_ckpt_writer *, uint64_t generation, uint64_t step, struct mu_err *);
/* 0 when the tensors may be changed again; the error if they could not be copied; 1 at the end of timeout ns. */
int mu_ckpt_writer_copied(struct mu_ckpt_writer *, uint64_t timeout, struct mu_err *);

/* What an earlier attempt has left in the arena, and this one has restored, becomes a generation of this one's as if it
 * had been saved again; without a copy. Waits so long for a drain that has it still. ENOCKPT: it is not there. After a
 * layout. */
int mu_ckpt_writer_adopt(struct mu_ckpt_writer *, const struct mu_ckpt_id *, uint64_t generation, uint64_t timeout);

/* 0 when the last save is durable, or none was made; its error when it failed; 1 when it goes on at the end of timeout
 * ns. */
int mu_ckpt_writer_durable(struct mu_ckpt_writer *, uint64_t timeout, struct mu_err *);
/* Bytes of this rank's own copy of that save in its node's block; 0: it is not in its own cells. */
uint64_t mu_ckpt_writer_held(const struct mu_ckpt_writer *, const struct mu_ckpt_id *);
/* What the last save costs its node's group: the bytes of this rank's part in the node's block, 0: it is not in the
 * arena. The next saves are protected by a group of such chunks (0: none), `node` parts on this node. */
uint64_t mu_ckpt_writer_block(const struct mu_ckpt_writer *);
void mu_ckpt_writer_peers(struct mu_ckpt_writer *, uint64_t chunk, uint32_t node);
/* As durable, for what peers hold of the last save; ENOSYS: nothing. */
int mu_ckpt_writer_protected(struct mu_ckpt_writer *, uint64_t timeout, struct mu_err *);
/* 0 when neither thread nor drain has anything to do for us any more, else 1. */
int mu_ckpt_writer_idle(struct mu_ckpt_writer *, uint64_t timeout);
/* With a save. */
bool mu_ckpt_writer_busy(struct mu_ckpt_writer *);
/* Longest time from a save's start until it was durable, ns. */
uint64_t mu_ckpt_writer_cost(struct mu_ckpt_writer *);
uint64_t mu_ckpt_writer_bytes(const struct mu_ckpt_writer *);
/* Makes a save that waits for others end now, with EABORTED. */
void mu_ckpt_writer_cancel(struct mu_ckpt_writer *);
/* Ends the thread and frees the writer. ETIMEOUT: the thread hangs in the file system; it and its memory are left to
 * it. */
int mu_ckpt_writer_stop(struct mu_ckpt_writer *, uint64_t timeout, struct mu_err *);

/* So many bytes of a cell, until the next layout, by the mapping with which the writer saves: to map and meet so much
 * costs as much as to copy it. It is made before the first layout. NULL: the cell is not the writer's, or shorter. */
unsigned char *mu_ckpt_writer_map(struct mu_ckpt_writer *, const struct mu_arena_cell *, uint64_t bytes);

#endif
