/* What the ranks of an attempt on this node are started with: programs, environments, bindings, made of the start
 * message. */
#ifndef MU_KEEPER_ORDER_H
#define MU_KEEPER_ORDER_H

#include "runtime/keeper/launch.h"
#include "runtime/keeper/pmix.h"
#include "runtime/wire/msg.h"

/* All borrowed. */
struct mu_order_for {
    const struct mu_m_start *start;
    const struct mu_m_spec *spec;
    uint32_t first, n; /* the ranks of this node */
    uint32_t pool;
    uint32_t mark; /* the same on all nodes */
    struct mu_pmix *pmix;
    const char *slots, *session_dir, *shm_dir; /* shm_dir may be NULL */
    const char *arena;                         /* may be NULL */
};

/* What mu_launch_start borrows. */
struct mu_order {
    struct mu_launch_rank *ranks;
    char ***argv; /* by application */
    char ***common;
    char ***env; /* by rank */
    struct mu_bind *binds;
    uint32_t n, napps;
    char *note; /* NULL, or what the user is to be told */
};

/* Whether message and spec fit together, and the ranks this process's limit of open files. */
int mu_order_check(const struct mu_m_start *, const struct mu_m_spec *, struct mu_err *);
/* On failure *o is to be freed, too. */
int mu_order_make(const struct mu_order_for *, struct mu_order *o, struct mu_err *);
void mu_order_free(struct mu_order *);
#define mu_auto_order __attribute__((cleanup(mu_order_free)))

#endif
