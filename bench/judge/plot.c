#include "bench/judge/plot.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "bench/judge/report.h"

enum { WIDTH = 720, RIGHT = 110, TOP = 14, BOTTOM = 34 };

struct mu_plot mu_plot_begin(struct mu_buf *out, const char *title, const char *about, double left, double height)
{
    struct mu_plot p = {
        .out = out, .left = left, .top = TOP, .width = WIDTH - left - RIGHT, .height = height - TOP - BOTTOM};

    mu_buf_puts(out, "<figure><figcaption><b>");
    mu_report_escape(out, title);
    mu_buf_puts(out, "</b><span>");
    mu_report_escape(out, about);
    mu_buf_appendf(out, "</span></figcaption>\n<svg viewBox=\"0 0 %d %.0f\" role=\"img\" aria-label=\"", WIDTH, height);
    mu_report_escape(out, title);
    mu_buf_puts(out, "\">\n");
    return p;
}

void mu_plot_end(struct mu_plot *p)
{
    mu_buf_puts(p->out, "</svg></figure>\n");
}

static double part(double v, double from, double to, bool log)
{
    if (log)
        return to > from && from > 0 ? (log2(v > 0 ? v : from) - log2(from)) / (log2(to) - log2(from)) : 0.5;
    return to > from ? (v - from) / (to - from) : 0.5;
}

double mu_plot_x(const struct mu_plot *p, double v)
{
    return p->left + p->width * part(v, p->x0, p->x1, p->log_x);
}

double mu_plot_y(const struct mu_plot *p, double v)
{
    return p->top + p->height * (1 - part(v, p->y0, p->y1, p->log_y));
}

const char *mu_plot_number(char buf[32], double v)
{
    double a = fabs(v);

    if (a >= 1e5 || (a > 0 && a < 1e-3))
        snprintf(buf, 32, "%.2g", v);
    else
        snprintf(buf, 32, "%.4g", v);
    return buf;
}

unsigned mu_plot_ticks(double from, double to, double *out, unsigned n)
{
    double span = to - from, step = pow(10, floor(log10(span > 0 ? span / n : 1)));
    unsigned k = 0;

    while (span / step > n)
        step *= span / step > 5 * n ? 5 : span / (2 * step) > n && span / (2.5 * step) > n ? 5 : 2;
    for (double v = ceil(from / step - 1e-9) * step; v <= to + step * 1e-6 && k < n + 1; v += step)
        out[k++] = fabs(v) < step * 1e-6 ? 0 : v;
    return k;
}

void mu_plot_text(struct mu_plot *p, double x, double y, const char *anchor, const char *class, const char *text)
{
    mu_buf_appendf(p->out, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\" class=\"%s\">", x, y, anchor, class);
    mu_report_escape(p->out, text);
    mu_buf_puts(p->out, "</text>\n");
}

void mu_plot_y_axis(struct mu_plot *p, const char *unit)
{
    double v[16];
    char text[64], number[32];
    unsigned n = 0;

    if (p->log_y) {
        for (double t = pow(10, ceil(log10(p->y0) - 1e-9)); t <= p->y1 * 1.0001 && n < 12; t *= 10)
            v[n++] = t;
    } else
        n = mu_plot_ticks(p->y0, p->y1, v, 5);
    for (unsigned i = 0; i < n; i++) {
        double y = mu_plot_y(p, v[i]);
        mu_buf_appendf(p->out, "<line class=\"grid\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/>\n", p->left,
                       p->left + p->width, y, y);
        snprintf(text, sizeof text, "%s%s%s", mu_plot_number(number, v[i]), i + 1 == n ? " " : "",
                 i + 1 == n ? unit : "");
        mu_plot_text(p, p->left - 6, y + 4, "end", "tick", text);
    }
}

void mu_plot_x_axis(struct mu_plot *p, const char *unit, bool sizes)
{
    double v[16], y = p->top + p->height;
    char text[64], number[32];
    unsigned n = 0;

    if (sizes) {
        static const char *const prefixes[] = {"", "Ki", "Mi", "Gi", "Ti"};
        double steps = log2(p->x1 / p->x0), by = ceil(steps / 8);
        for (double t = 0; t <= steps + 0.01; t += by > 0 ? by : 1) {
            double s = p->x0 * exp2(t);
            unsigned k = 0;
            double shown = s;
            for (; shown >= 1024 && k < 4; k++)
                shown /= 1024;
            snprintf(text, sizeof text, "%s %sB", mu_plot_number(number, shown), prefixes[k]);
            mu_plot_text(p, mu_plot_x(p, s), y + 18, "middle", "tick", text);
        }
        return;
    }
    n = mu_plot_ticks(p->x0, p->x1, v, 6);
    for (unsigned i = 0; i < n; i++) {
        double x = mu_plot_x(p, v[i]);
        mu_buf_appendf(p->out, "<line class=\"grid\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/>\n", x, x, p->top,
                       y);
        snprintf(text, sizeof text, "%s%s%s", mu_plot_number(number, v[i]), i + 1 == n ? " " : "",
                 i + 1 == n ? unit : "");
        mu_plot_text(p, x, y + 18, "middle", "tick", text);
    }
}

void mu_plot_line(struct mu_plot *p, const char *class, const double *x, const double *y, unsigned n)
{
    mu_buf_appendf(p->out, "<polyline class=\"%s\" points=\"", class);
    for (unsigned i = 0; i < n; i++)
        mu_buf_appendf(p->out, "%.1f,%.1f ", mu_plot_x(p, x[i]), mu_plot_y(p, y[i]));
    mu_buf_puts(p->out, "\"/>\n");
}
