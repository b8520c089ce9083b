/* Inline SVG. Colours are classes of the page's style sheet, so that dark mode and paper have their own. Texts are
 * escaped here. Pure. */
#ifndef MU_JUDGE_PLOT_H
#define MU_JUDGE_PLOT_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/base/buf.h"

enum { MU_PLOT_COLOURS = 6 };

/* Where data is drawn, in units of the view box, and what its edges stand for. */
struct mu_plot {
    struct mu_buf *out;
    double left, top, width, height;
    double x0, x1, y0, y1;
    bool log_x, log_y;
};

/* Begins <figure> and <svg>; the plot's area leaves room for labels. height: of the whole. */
struct mu_plot mu_plot_begin(struct mu_buf *out, const char *title, const char *about, double left, double height);
void mu_plot_end(struct mu_plot *);
double mu_plot_x(const struct mu_plot *, double v);
double mu_plot_y(const struct mu_plot *, double v);
/* Lines across at round values with their labels; unit behind the topmost. */
void mu_plot_y_axis(struct mu_plot *, const char *unit);
void mu_plot_x_axis(struct mu_plot *, const char *unit, bool sizes);
/* anchor: start, middle, end. */
void mu_plot_text(struct mu_plot *, double x, double y, const char *anchor, const char *class, const char *text);
void mu_plot_line(struct mu_plot *, const char *class, const double *x, const double *y, unsigned n);
/* Round values between the two, at most n of them. */
unsigned mu_plot_ticks(double from, double to, double *out, unsigned n);
const char *mu_plot_number(char buf[32], double v);

#endif
