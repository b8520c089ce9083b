/* The environment of a rank: the submitter's, what users of MPI launchers and of torchrun expect, ours, and PMIx's. */
#ifndef MU_KEEPER_ENV_H
#define MU_KEEPER_ENV_H

#include <stdbool.h>

#include "runtime/wire/msg.h"

/* What the ranks of an attempt on this node have in common; all borrowed. */
struct mu_env_job {
    const struct mu_m_start *start;
    const struct mu_m_spec *spec;
    uint32_t pool;           /* hash, for the tag */
    const char *slots;       /* path of the shared slots */
    const char *arena;       /* of the RAM arena; may be NULL */
    const char *session_dir; /* of this attempt; Open MPI's files */
    const char *shm_dir;     /* of this attempt; Open MPI's segments; NULL: it decides */
    const char *master_addr;
    uint32_t master_port;
    bool crowded; /* more ranks than CPUs: waiting ranks should yield */
    bool fabric;  /* the node has a network that MPI libraries know better than TCP */
};

bool mu_env_fabric(void);

/* Common part of application app's ranks. *env is a vector for mu_strv_free. */
int mu_env_common(const struct mu_env_job *, uint32_t app, char ***env, struct mu_err *err);
/* That plus what is the rank's own; pmix: from mu_pmix_env, may be NULL. */
int mu_env_rank(char *const *common, uint32_t rank, uint32_t local, char *const *pmix, char ***env, struct mu_err *err);
/* Appends to vars those of a plan's variables (lines NAME=VALUE) that the environment env does not decide already, by
 * that name or another one; theirs (untouched if there is none) gets the name of one that it does. ENOMEM. */
int mu_env_plan(const char *lines, char *const *env, char ***vars, char theirs[64]);
/* Value of a variable in a vector, or NULL. */
const char *mu_env_get(char *const *env, const char *name);

#endif
