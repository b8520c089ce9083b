/* Thresholds that machines differ in: measured once a kind of machine, by the first ranks of a node that have the CPUs
 * to themselves, and kept in a file. No result depends on them, only time. The file is a cache: one that is damaged, of
 * another kind of machine, or somebody else's counts as none. */
#ifndef MU_COLLECTIVES_TUNE_H
#define MU_COLLECTIVES_TUNE_H

#include "collectives/engine.h"

struct mu_tuned {
    uint32_t everybody; /* bytes up to which each rank reduces everything itself */
    uint32_t read;      /* bytes from which a private block is read out of its process; MU_TUNED_NEVER */
    uint32_t chain;     /* bytes from which domains (domain.h) reduce one after the other; 0: never */
};

#define MU_TUNED_MIN 64u
#define MU_TUNED_MAX (128u << 10)     /* of everybody: a slot */
#define MU_TUNED_READ_MIN (16u << 10) /* the least of read that is looked for */
#define MU_TUNED_NEVER (1u << 30)
#define MU_TUNED_CHAIN_MIN (64u << 10) /* the least of chain that is looked for */
#define MU_TUNED_CHAIN_MAX (1u << 30)

/* What can be on this machine; everything outside of it is refused. */
bool mu_tuned_valid(const struct mu_tuned *t);
struct mu_tune_kind {         /* beside the machine's own */
    int ranks, caches, lanes; /* last caches that they lie under; ranks of a domain, 0: there are none */
    bool reads;
};

/* Where the thresholds of this kind of machine and of ranks are kept, and its key: one line. False: nowhere. */
bool mu_tune_where(const struct mu_tune_kind *kind, char *path, size_t npath, char *key, size_t nkey);
bool mu_tune_load(const char *path, const char *key, struct mu_tuned *out);
/* Makes the directory, too; t NULL: only tries whether it could. */
bool mu_tune_store(const char *path, const char *key, const struct mu_tuned *t);
/* Collective over a communicator that goes through channels: measures them, *out the same on all. *sure: not beside
 * other work. 0, or the failure of the communicator. */
int mu_tune_measure(struct muster_comm *comm, struct mu_tuned *out, bool *sure, struct mu_err *err);

#endif
