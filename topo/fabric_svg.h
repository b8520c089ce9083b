/* The fabric as an SVG: a row for each level of switches, cables between them, and below its leaves each unit. */
#ifndef MU_TOPO_FABRIC_SVG_H
#define MU_TOPO_FABRIC_SVG_H

#include <stdio.h>

#include "topo/units.h"

/* ENOMEM; EIO when the stream has failed. */
int mu_fabric_draw_svg(const struct mu_fabric *, const struct mu_units *, FILE *);

#endif
