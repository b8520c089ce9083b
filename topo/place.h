/* Which nodes a job gets and in which order its ranks go over them, so that traffic crosses few switches.
 *
 * Cost of an ordered set of nodes: the cables between switches that a ring over them in that order passes, that is the
 * sum over neighbours in the ring (the last and the first are neighbours) of the hops between their leaf switches;
 * two nodes on one leaf: 0. In a tree of switches a ring passes the cable above every switch that holds some, but not
 * all of the nodes at least twice, and one in depth-first order passes it exactly twice. So
 *
 *     min over orders of cost(S) = sum over levels k of w_k * (g_k > 1 ? g_k : 0),   w_k = 2
 *
 * with g_k the groups (switches, or pods of a fat tree) of level k that S touches. Minimising it over S is a knapsack
 * on the tree: F_v[j] is the largest number of free nodes below v that j used switches below v give; children are
 * combined by (max,+) convolution, leaves of one switch by taking the fullest first (that prefix is concave, so it is
 * exact); the answer is the smallest j over all v with F_v[j] >= N. The bound is 2j, and it is attained.
 *
 * Fat trees count as trees, level by level (a group of level k: what hangs together through switches of rank <= k),
 * when all distances between leaves, by breadth-first search, are those of that tree. A few hosts on switches above the
 * leaves count as hosts of their groups, when no distance is shorter than the tree's then and those of all others are
 * right; a choice with such hosts is optimal when its cost in the true distances is the tree's bound. What is no tree
 * (dragonfly, miscabled) is placed by these distances: exactly with up to 13 groups that have free nodes (Held-Karp
 * over all subsets), otherwise by growing clusters and 2-opt, with a bound that holds for every choice of nodes: N
 * nodes need at least m groups (the fullest ones), and a ring over m groups is at least as long as the m smallest
 * distances from a group to its nearest. With several rails the way over a third group can be shorter than the direct
 * one, or the only one; a ring may pass a group more than once then, and single nodes take the place of groups in all
 * of this but the bound. A choice that could spare a node is none.
 *
 * Ties: of the parts of the tree with equal cost the one with fewest free nodes; at most one leaf is used in part, and
 * it is the one that then has the fewest free nodes left. */
#ifndef MU_TOPO_PLACE_H
#define MU_TOPO_PLACE_H

#include <stdbool.h>

#include "topo/fabric.h"

struct mu_place; /* a fabric, as placement sees it; immutable */

/* The fabric must outlive it. ENOMEM; ENOSYS: no tree, and more than 4096 groups of hosts. */
int mu_place_new(const struct mu_fabric *, struct mu_place **out, struct mu_err *);
void mu_place_free(struct mu_place *);
/* Every distance in the fabric is that of a tree, but perhaps those of a few hosts above the leaves: placements without
 * such are optimal. */
bool mu_place_is_tree(const struct mu_place *);

struct mu_place_request {
    int want; /* nodes, or sum of sizes, >= 1 */
    const int
        *size;   /* of each host of the fabric, 0: occupied, drained, too small. NULL: all are free and count as 1 */
    int group;   /* nodes that talk most to one another are ranks [i*group, (i+1)*group); 0 or 1: none */
    long effort; /* where the fabric is no tree: after so many distances what was found by then is good enough, for who
                    must not be kept waiting; 0: as many as it takes */
};
struct mu_place_result {
    int n, *hosts; /* in rank order; for mu_place_result_free */
    long cost, bound;
    bool optimal;
    int groups_split; /* groups that are on more than one leaf */
    int left;         /* free nodes left on the leaf that is used in part */
};
/* Deterministic. ENODE: so many are not free, or not connected. */
int mu_place_choose(const struct mu_place *, const struct mu_place_request *, struct mu_place_result *out,
                    struct mu_err *);
void mu_place_result_free(struct mu_place_result *);
/* The cost of any order; -1 when some are not connected. */
long mu_place_cost(const struct mu_place *, const int *hosts, int n);
const struct mu_fabric *mu_place_fabric(const struct mu_place *);
/* Hosts with the same number, below mu_place_nleaves, are on the same leaf switch (or set of them); -1: on none. In a
 * tree leaves that are next to one another have numbers that are. */
int mu_place_leaf(const struct mu_place *, int host);
int mu_place_nleaves(const struct mu_place *);
/* Hops between the leaf switches of two hosts; -1: not connected. */
int mu_place_distance(const struct mu_place *, int host_a, int host_b);

#endif
