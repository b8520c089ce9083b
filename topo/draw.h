/* A node as people see it: packages, NUMA nodes, caches, cores, GPUs and adapters, and which ranks are where. */
#ifndef MU_TOPO_DRAW_H
#define MU_TOPO_DRAW_H

#include <stdio.h>

#include "topo/pin.h"

/* A line for each; allowed PUs bear a star. pin may be NULL. */
int mu_topo_draw(const struct mu_topo *, const struct mu_pin *, FILE *);
/* The same as an SVG drawing that is legible on paper and on a dark background. */
int mu_topo_draw_svg(const struct mu_topo *, const struct mu_pin *, FILE *);

/* Ranks that are bound to one of these CPUs, have this GPU or this adapter (-1: none), such as "0-3,8", for free();
 * NULL when there are none. */
char *mu_topo_ranks_on(const struct mu_pin *, const struct mu_cpuset *cpus, int gpu, int nic);

#endif
