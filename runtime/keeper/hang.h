/* Who waits for whom among the ranks of a node, and who holds them up. Pure: what is known of each rank goes in, a
 * `hang` message comes out (runtime/wire/msg.h, MU_HANG_ in runtime/wire/core.h), of fixed size however many ranks
 * there are.
 *
 * A hang is judged from evidence only: somebody has waited for the deadline, and the one for whom he waits is not
 * waiting himself. A rank that computes for however long while nobody waits for it is left alone, and so is one that
 * reads or writes a checkpoint. A stopped process is evidence by itself. */
#ifndef MU_KEEPER_HANG_H
#define MU_KEEPER_HANG_H

#include "runtime/base/slot.h"
#include "runtime/wire/core.h"

struct mu_hang_rank {
    bool alive, gave_up;  /* gave_up: its last error was a deadline of the library's */
    uint32_t state;       /* MU_RANK_ */
    struct mu_slot_op op; /* kind 0: it is outside; since: not before we ourselves were there to see it */
    uint64_t op_seq, last_ctx, last_number;
    uint64_t beat_at;    /* when its beat was seen to move last */
    uint64_t stopped_at; /* its process was seen to be stopped; 0 = it is not */
    char process;        /* state of the process, as in runtime/base/procstate.h */
    uint32_t late_peer, late_kind;
    uint64_t late_ctx, late_number, late_ns;
};

struct mu_hang_view {
    const struct mu_hang_rank *ranks; /* of this node */
    uint32_t n, first;                /* first: world rank of ranks[0] */
    uint64_t hang_ns, now;
};

/* Each fills *out but job and attempt. */
void mu_hang_judge(const struct mu_hang_view *, struct mu_m_hang *out); /* level: whether there is anything to say */
/* The answer to `look` for a rank of this node, or MU_ALL. */
void mu_hang_answer(const struct mu_hang_view *, uint32_t rank, struct mu_m_hang *out);
/* For ranks that have given up, also those that have ended since. level 0: none has. */
void mu_hang_late(const struct mu_hang_view *, struct mu_m_hang *out);

/* What was said last, and whether this is to be said now: when it is new, and the deadline's end again and again. */
struct mu_hang_told {
    struct mu_m_hang last;
    uint64_t at;
};
bool mu_hang_news(struct mu_hang_told *, const struct mu_m_hang *, uint64_t now);

#endif
