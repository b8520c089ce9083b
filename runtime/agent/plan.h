/* Which CPUs and GPUs the ranks of each job on this node get: the node's topology, read once, and what the jobs hold.
 */
#ifndef MU_AGENT_PLAN_H
#define MU_AGENT_PLAN_H

#include "runtime/wire/msg.h"

struct mu_plan;
struct mu_topo;

/* run_dir: where the shares of running jobs are kept for the next agent. Without a readable topology there is no
 * binding and that is logged. NULL: out of memory. */
struct mu_plan *mu_plan_new(const char *run_dir);
/* The same of a node that is given, with its devices: takes topo over when it succeeds. */
struct mu_plan *mu_plan_of(const char *run_dir, struct mu_topo *topo);
void mu_plan_free(struct mu_plan *); /* NULL is fine */
struct mu_plan_node {
    uint32_t slots, pus, numa, gpus;
    uint64_t memory;
};
void mu_plan_node(const struct mu_plan *, struct mu_plan_node *);
/* Takes up what a job that already runs holds. */
void mu_plan_adopt(struct mu_plan *, uint64_t job);
/* Fills what a start message says of this node's ranks: cpusets, nodesets, rank_env (none when there is no binding and
 * no GPU), note, refusal. A job's later attempts get the same. */
void mu_plan_start(struct mu_plan *, struct mu_m_start *);
/* The job has no keeper here any more. */
void mu_plan_release(struct mu_plan *, uint64_t job);

#endif
