/* What is free on each node, from now on: what running jobs leave until their time limits end them, less what is
 * promised to others. Part of the policy, and pure.
 *
 * A slice is the time from one change to the next. Ends are rounded up, the more the further away they are, to
 * multiples that stay ones as they come nearer: there are some hundred slices at most, and what was found to fit never
 * stops fitting because time has passed. */
#ifndef MU_LAUNCHER_CORE_PROFILE_H
#define MU_LAUNCHER_CORE_PROFILE_H

#include "launcher/core/policy.h"

struct mu_slice {
    uint64_t at;
    int16_t *free;     /* [resource][node], in units; below 0: more is in use than there is */
    int64_t sum;       /* of free slots */
    uint32_t with[16]; /* nodes with at least 2^k free slots */
};
struct mu_profile {
    unsigned nodes, stride, res; /* res: resources that anybody asks for */
    uint64_t now, unit[MU_RES_N];
    struct mu_slice *v;
    unsigned n, cap;
    int16_t **rows; /* memory of slices, used again for each profile */
    unsigned nrows, rows_used, rows_cap;
    int16_t **suffix; /* of mu_profile_find */
    unsigned nsuffix;
    int16_t *low, *back, *room, *take;
    struct mu_policy_share *pick; /* of mu_profile_find: the shares, npick of them, nspares of which are spares */
    unsigned npick, nspares;
    unsigned width;  /* nodes that the memory was made for */
    uint32_t *order; /* of mu_profile_build */
    unsigned norder;
    bool failed; /* out of memory */
};

/* For the nodes and running jobs of a view; ends[i] is when runs[i] is taken to end. */
bool mu_profile_build(struct mu_profile *, const struct mu_policy_view *, const uint64_t *ends);
void mu_profile_free(struct mu_profile *);
/* When something that begins at `at` and takes so long is over. */
uint64_t mu_profile_end(const struct mu_profile *, uint64_t at, uint64_t dur);
/* The first slice in which the job can start and have the same nodes for so long; pick says which. now_only: no later
 * one. mask: by node, -1 or 0: not that one. < 0: there is none. */
int mu_profile_find(struct mu_profile *, const struct mu_policy_job *, const int16_t *mask, uint64_t dur,
                    bool now_only);
bool mu_profile_may(const struct mu_profile *, unsigned slice, const struct mu_policy_job *); /* if not, it cannot */
/* Whether these shares are free for so long. */
bool mu_profile_fits(struct mu_profile *, const uint64_t need[MU_RES_N], const struct mu_policy_share *, unsigned n,
                     uint64_t from, uint64_t to, const int16_t *mask);
/* Free slots of a node in a slice, as far as what ranks need besides is free there, too. */
int16_t mu_profile_slots(const struct mu_profile *, unsigned slice, unsigned node, const uint64_t need[MU_RES_N]);
/* Takes them (sign 1) or gives them back (-1). */
void mu_profile_take(struct mu_profile *, const uint64_t need[MU_RES_N], const struct mu_policy_share *, unsigned n,
                     uint64_t from, uint64_t to, int sign);

#endif
