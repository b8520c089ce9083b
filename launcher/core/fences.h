/* The fences of attempts on several nodes: what their keepers contribute is gathered, the result goes to all who wait.
 * Pure; sends through a callback. A contribution may come twice, late, or again after this process has been another
 * one:
 * - A fence that is done is answered again from memory: the last MU_FENCE_KEEP of a kind, as far as the limit allows.
 * - One that somebody says again (MU_FENCE_AGAIN) and that is not known here was perhaps answered to others by a
 *   predecessor: the nodes that are missing are asked, now and when they come back, and help although they do not wait.
 * - A node whose ranks have ended is asked too; it says so when it has nothing to give, and the fence fails.
 * Everything of an attempt is forgotten with mu_fences_end, or when a newer attempt of the job begins. */
#ifndef MU_LAUNCHER_CORE_FENCES_H
#define MU_LAUNCHER_CORE_FENCES_H

#include "runtime/wire/core.h"

#define MU_FENCES_LIMIT (256u << 20) /* bytes of data, over all attempts; a fence that does not fit fails */
#define MU_FENCES_OPEN 64u           /* of an attempt at once; more fail */

struct mu_fences;
/* type: fence (a question) or fenced. nodes: places in the attempt's nodes; all of them get the same. Borrowed, like
 * the body. */
typedef void (*mu_fences_send_fn)(void *arg, uint64_t job, const uint32_t *nodes, uint32_t n, enum mu_msg_type type,
                                  const void *body);

struct mu_fences *mu_fences_new(uint64_t limit, mu_fences_send_fn, void *arg); /* NULL: out of memory */
void mu_fences_free(struct mu_fences *);                                       /* NULL is fine */

/* A message of a live attempt on nnodes nodes. The caller vouches for job and attempt. */
void mu_fences_take(struct mu_fences *, uint32_t nnodes, const struct mu_m_fence *);
/* A node's agent is back: what went between it and here meanwhile is lost. */
void mu_fences_node_up(struct mu_fences *, uint64_t job, uint32_t attempt, uint32_t node);
/* No rank of the attempt is left on a node. */
void mu_fences_node_gone(struct mu_fences *, uint64_t job, uint32_t attempt, uint32_t nnodes, uint32_t node);
void mu_fences_end(struct mu_fences *, uint64_t job);
uint64_t mu_fences_bytes(const struct mu_fences *); /* held now */

#endif
