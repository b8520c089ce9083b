/* Shared by ckpt.c, ckpt_due.c and far.c. */
#ifndef MU_RANK_CKPT_PRIV_H
#define MU_RANK_CKPT_PRIV_H

#include "runtime/ckpt/owner.h"
#include "runtime/ckpt/writer.h"
#include "runtime/rank/peers.h"
#include "runtime/rank/ram.h"

/* What a rank brings to a save. */
struct mu_ckpt_intent {
    uint64_t step, generation, block;
    uint32_t replicas;
    int32_t code;
};

struct muster_ckpt {
    muster_comm *comm;
    int rank, size;
    pid_t pid;
    struct mu_ckpt_place place;
    struct mu_ckpt_owner *owner; /* rank 0 */
    struct mu_ckpt_tensors tensors;
    struct mu_ckpt_writer *writer;
    struct mu_rank_ram ram;
    struct mu_rank_peers peers;
    bool far;            /* there is an object store behind the directory */
    bool fetching;       /* rank 0: the directory was empty, and is to have what the store has */
    uint64_t last;       /* generation of the last save */
    bool hasten;         /* the next `due` is to say yes: what was restored is in memory alone */
    bool dirty;          /* tensors were added since the last layout */
    bool saved;          /* a save was made */
    bool told;           /* its error has been returned */
    uint64_t saving;     /* step of the last save */
    uint64_t generation; /* the next one; rank 0's counts */
    int32_t *codes;      /* of all ranks; so that agreeing needs no memory */
    struct mu_ckpt_intent *intents;
    char why[512]; /* of the last disagreement */

    uint64_t interval_ns, interval_steps;
    struct { /* interval=auto: rank 0's, s */
        bool on;
        double node_mtbf, cost; /* cost: of a save to the program; < 0: not measured yet */
        uint32_t nodes, failures;
        double ran; /* until `opened`, mu_now() */
        uint64_t opened;
    } pace;
    uint64_t last_save, calls; /* when, and calls of due since */
    uint64_t halt_looked;
    bool halt_file;
    unsigned answered, seen; /* causes of `due` that a save has met, or that are reported: bits 1 << MUSTER_DUE_ */
};

/* A call that this handle may make now: 0, or the error, reported. */
int mu_rank_ckpt_check(const muster_ckpt *, const char *call);
/* interval=auto: what is known when it is opened, and what a save has cost. */
void mu_rank_pace_open(muster_ckpt *, const struct mu_ckpt_options *);
void mu_rank_pace_saved(muster_ckpt *, uint64_t cost_ns);

#endif
