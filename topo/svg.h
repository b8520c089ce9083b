/* Pieces of SVG drawings: one look for all of them, on paper and on light and dark backgrounds. Units are pixels at 96
 * dpi. What is written into a failed stream is lost; the caller looks at ferror. */
#ifndef MU_TOPO_SVG_H
#define MU_TOPO_SVG_H

#include <stdio.h>

#include "runtime/base/err.h"

enum { MU_SVG_CHAR = 7 }; /* width of a letter of the usual text, more or less */

/* Class names: box (a frame), core, off (not to be used), gpu, nic, switch; r0 to r7 colour the marks of ranks. */
void mu_svg_begin(FILE *, int width, int height, const char *title);
void mu_svg_rect(FILE *, int x, int y, int w, int h, const char *classes, const char *tip);
void mu_svg_line(FILE *, int x1, int y1, int x2, int y2, const char *classes);
/* Over the row between two boxes at its top edge y. */
void mu_svg_arc(FILE *, int x1, int x2, int y, const char *classes);
/* anchor: start, middle or end. Cut to `room` pixels, with an ellipsis; 0: never. */
void mu_svg_text(FILE *, int x, int y, const char *anchor, const char *classes, int room, const char *fmt, ...)
    MU_PRINTF(7, 8);
void mu_svg_end(FILE *);

#endif
