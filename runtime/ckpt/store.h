/* A directory as the store of a job's checkpoints:
 *   EPOCH             who opened it last; whoever is not that may not commit
 *   LOCK              held for the moment of opening and of committing
 *   OWNER             who uses it, see owner.h
 *   g<N>/             a committed generation: COMMIT, man.<rank>, seg.<rank>, maybe PIN
 *   g<N>.a<epoch>.tmp/  one being written; becomes g<N> by rename
 *   g<N>.del/         one being removed
 * Every function here may be used by any number of processes at once. */
#ifndef MU_CKPT_STORE_H
#define MU_CKPT_STORE_H

#include "runtime/ckpt/format.h"
#include "runtime/ckpt/io.h"

/* One opening of a store, as one rank sees it. */
struct mu_ckpt_place {
    char dir[MU_CKPT_DIR_MAX]; /* absolute */
    uint64_t epoch, nonce;
    uint64_t timeout; /* ns: bound of every wait */
    uint32_t rank, world, attempt;
    uint32_t keep, every; /* of mu_ckpt_store_retain; 0: every none */
    char job[MU_CKPT_JOB_MAX + 1], host[MU_CKPT_HOST_MAX + 1];
    uint64_t job_mark; /* 0: not started by muster, then that of the process */
    const struct mu_ckpt_io *io;
};

struct mu_ckpt_path mu_ckpt_final(const struct mu_ckpt_place *, uint64_t generation);
struct mu_ckpt_path mu_ckpt_tmp(const struct mu_ckpt_place *, uint64_t generation);

/* Rank 0: makes the directory, becomes its newest epoch (sets epoch and nonce), clears away what older epochs left
 * unfinished. *next is the first free generation number. */
int mu_ckpt_store_open(struct mu_ckpt_place *, uint64_t *next, struct mu_err *);
/* The other ranks: that this is the directory rank 0 opened, and writable. Looks for up to 3 s, for network file
 * systems. */
int mu_ckpt_store_join(const struct mu_ckpt_place *, struct mu_err *);
/* EEPOCH when somebody else has opened the directory since. */
int mu_ckpt_store_fence(const struct mu_ckpt_place *, struct mu_err *);
/* Under LOCK: fence, then the rename that makes the generation visible; then makes it durable. */
int mu_ckpt_store_publish(const struct mu_ckpt_place *, uint64_t generation, struct mu_err *);
/* Removes what this epoch left unfinished of the generations before `below`, and what is half removed. */
void mu_ckpt_store_sweep(const struct mu_ckpt_place *, uint64_t below);

/* A save of this epoch that cannot be committed any more: removes what takes space of it. FAILED stays, for whoever
 * still waits; sweep removes the rest. */
void mu_ckpt_store_abandon(const struct mu_ckpt_place *, uint64_t generation);
/* After a save for which there was no room: removes what an earlier retention did not get to. */
void mu_ckpt_store_reclaim(const struct mu_ckpt_place *, uint64_t bad_after, uint64_t bad_upto);

/* Committed generations, newest first; *list is malloc'ed. Names only: nothing has been verified. */
int mu_ckpt_store_scan(const char *dir, uint64_t **list, size_t *n, struct mu_err *);
/* COMMIT of a generation directory, verified; free k->votes. ECORRUPT when it has none. */
int mu_ckpt_store_commit(const char *gendir, uint64_t generation, struct mu_ckpt_commit *, struct mu_err *);
/* man.<rank> of it, verified against what is known of it (vote may be NULL). No such file: ENOCKPT,
 * ECORRUPT with a vote. */
int mu_ckpt_store_manifest(const char *gendir, const struct mu_ckpt_id *, uint32_t rank, const struct mu_ckpt_vote *,
                           struct mu_ckpt_manifest *, struct mu_err *);
/* The same of its bytes, wherever they are from; name: for texts. */
int mu_ckpt_manifest_take(const unsigned char *, size_t n, const char *name, const struct mu_ckpt_id *, uint32_t rank,
                          const struct mu_ckpt_vote *, struct mu_ckpt_manifest *, struct mu_err *);
bool mu_ckpt_same_id(const struct mu_ckpt_id *, const struct mu_ckpt_id *);
/* Everything but the data: COMMIT, all manifests, lengths of all segments. */
int mu_ckpt_store_check(const char *dir, uint64_t generation, struct mu_err *);
/* A file in a generation's directory: who ships it and needs it a while longer, by its epoch. */
#define MU_CKPT_HOLD "HOLD"
/* Keeps the newest `keep` generations whose COMMIT verifies and removes older ones, but each `every`th. Never touches
 * pinned ones, what somebody of this epoch holds, and those of a newer format. Generations in (bad_after, bad_upto] are
 * known not to restore: they are not counted. */
bool mu_ckpt_kept_for_ever(uint64_t generation, uint32_t every);
int mu_ckpt_store_hold(const struct mu_ckpt_place *, uint64_t generation, bool on, struct mu_err *);
int mu_ckpt_store_retain(const struct mu_ckpt_place *, uint64_t bad_after, uint64_t bad_upto, struct mu_err *);

#endif
