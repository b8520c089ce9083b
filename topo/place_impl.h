/* Inside of struct mu_place, for place*.c. */
#ifndef MU_TOPO_PLACE_IMPL_H
#define MU_TOPO_PLACE_IMPL_H

#include "topo/place.h"

#define MU_FAR UINT16_MAX

struct mu_place {
    const struct mu_fabric *f;
    bool tree; /* distances are the tree's; otherwise dist's */
    int nv;    /* vertices: children come before their parents */
    int *parent, *depth;
    int *child, *first_child; /* children of v: child[first_child[v] .. first_child[v + 1]) */
    int *of_host;             /* vertex of each host; -1: none */
    int *host, *first_host;   /* hosts of v */
    int nunits;               /* vertices 0..nunits-1 when dist is used */
    uint16_t *dist;           /* nunits x nunits */
    int *stray_unit;          /* of hosts whose distances are dist's in a tree that has all others', or -1; or NULL */
    bool metric;              /* no distance in dist is shorter over a third unit */
};

/* One vertex that is used, or a part of it, and how much of that. */
struct mu_share {
    int v, take;
    int first, n; /* the hosts to take it from */
};

/* The groups to use and their order, in a fabric that is no tree; of seed only v counts. shares and host, which shares
 * point into, have room for all hosts. */
int mu_place_graph(const struct mu_place *, const struct mu_place_request *, const struct mu_share *seed, int nseed,
                   struct mu_share *shares, int *n, int *host, long *bound, bool *optimal, struct mu_err *);

#endif
