#include "bench/judge/report_plots.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/judge/plot.h"
#include "runtime/base/clean.h"

enum { POINTS_MAX = 64, HOSTS_MAX = 64, DOTS_MAX = 2000 };

static bool ends(const char *s, const char *with)
{
    size_t n = strlen(s), k = strlen(with);

    return n >= k && !strcmp(s + n - k, with);
}

/* --- bandwidth against size ----------------------------------------------------------------------------------------
 */

struct curve {
    const struct mu_test *t;
    double x[POINTS_MAX], y[POINTS_MAX], low[POINTS_MAX], high[POINTS_MAX];
    unsigned n;
};

/* Of the largest group that has measured it. */
static bool curve_of(const struct mu_data *d, uint32_t test, struct curve *c)
{
    int32_t ranks = 0, which = 0;

    c->t = &d->tests[test];
    c->n = 0;
    for (uint32_t i = 0; i < d->n; i++) {
        const struct mu_trials *s = &d->series[i];
        if (s->scope == MU_SCOPE_GROUP && s->key.test == test && !s->key.round && s->n && s->key.from > ranks) {
            ranks = s->key.from;
            which = s->key.to;
        }
    }
    for (uint32_t i = 0; i < d->n && c->n < POINTS_MAX; i++) {
        const struct mu_trials *s = &d->series[i];
        if (s->scope != MU_SCOPE_GROUP || s->key.test != test || s->key.round || !s->n || s->key.from != ranks ||
            s->key.to != which || !s->key.size)
            continue;
        unsigned k = c->n++;
        for (; k && c->x[k - 1] > (double)s->key.size; k--) {
            c->x[k] = c->x[k - 1];
            c->y[k] = c->y[k - 1];
            c->low[k] = c->low[k - 1];
            c->high[k] = c->high[k - 1];
        }
        c->x[k] = (double)s->key.size;
        c->y[k] = mu_trials_median(s);
        c->low[k] = s->min;
        c->high[k] = s->max;
    }
    return c->n > 1;
}

static void draw_curve(struct mu_plot *p, const struct curve *c, unsigned colour, double *label_y)
{
    char class[32], name[80];

    mu_buf_appendf(p->out, "<polygon class=\"band f%u\" points=\"", colour);
    for (unsigned i = 0; i < c->n; i++)
        mu_buf_appendf(p->out, "%.1f,%.1f ", mu_plot_x(p, c->x[i]), mu_plot_y(p, c->high[i]));
    for (unsigned i = c->n; i--;)
        mu_buf_appendf(p->out, "%.1f,%.1f ", mu_plot_x(p, c->x[i]), mu_plot_y(p, c->low[i]));
    mu_buf_puts(p->out, "\"/>\n");
    snprintf(class, sizeof class, "s%u", colour);
    mu_plot_line(p, class, c->x, c->y, c->n);
    double y = mu_plot_y(p, c->y[c->n - 1]) + 4;
    *label_y = y < *label_y + 13 ? *label_y + 13 : y; /* labels do not lie on one another */
    mu_buf_appendf(p->out, "<rect class=\"f%u\" x=\"%.1f\" y=\"%.1f\" width=\"8\" height=\"8\" rx=\"2\"/>\n", colour,
                   p->left + p->width + 6, *label_y - 8);
    snprintf(name, sizeof name, "%.*s", (int)strcspn(c->t->name + 5, "./"), c->t->name + 5);
    mu_plot_text(p, p->left + p->width + 18, *label_y, "start", "name", name);
}

static int by_last(const void *a, const void *b)
{
    const struct curve *x = *(const struct curve *const *)a, *y = *(const struct curve *const *)b;

    return (x->y[x->n - 1] < y->y[y->n - 1]) - (x->y[x->n - 1] > y->y[y->n - 1]);
}

static void bandwidths(const struct mu_report *r, struct mu_buf *out)
{
    mu_auto_free struct curve *all = calloc(MU_PLOT_COLOURS, sizeof *all);
    struct curve *order[MU_PLOT_COLOURS];
    unsigned n = 0;
    double most = 0, label = -100;

    if (!all)
        return;
    struct mu_plot p = {.x0 = 1e300};
    for (uint32_t t = 0; t < r->d->ntests && n < MU_PLOT_COLOURS; t++) {
        const char *name = r->d->tests[t].name;
        if (strncmp(name, "coll.", 5) != 0 || !ends(name, ".busbw") || strchr(name, '/') || !curve_of(r->d, t, &all[n]))
            continue;
        struct curve *c = &all[n];
        order[n++] = c;
        p.x0 = fmin(p.x0, c->x[0]);
        p.x1 = fmax(p.x1, c->x[c->n - 1]);
        for (unsigned i = 0; i < c->n; i++)
            most = fmax(most, c->high[i]);
    }
    if (!n || most <= 0)
        return;
    struct mu_plot q = mu_plot_begin(
        out, "Collectives: bus bandwidth against size",
        "Lines: median of the trials; bands: from the least to the most of them. Dashed: references of the criteria.",
        70, 300);
    q.x0 = p.x0;
    q.x1 = p.x1;
    q.log_x = true;
    q.y1 = most * 1.05;
    for (unsigned i = 0; i < r->nr; i++)
        for (unsigned b = 0; b < r->r[i].check->nbounds; b++) {
            const struct mu_bound *k = &r->r[i].check->bounds[b];
            double v = k->against == MU_AGAINST_REF ? r->c->refs[k->ref].value / 1e9 : 0;
            if (v > 0 && k->dim == MU_DIM_RATE && !strncmp(r->r[i].check->metric, "coll.", 5) && v < 4 * most)
                q.y1 = fmax(q.y1, v * 1.05);
        }
    mu_plot_y_axis(&q, "GB/s");
    mu_plot_x_axis(&q, "", true);
    for (unsigned i = 0; i < r->nr; i++)
        for (unsigned b = 0; b < r->r[i].check->nbounds; b++) {
            const struct mu_bound *k = &r->r[i].check->bounds[b];
            double v = k->against == MU_AGAINST_REF ? r->c->refs[k->ref].value / 1e9 : 0;
            if (!(v > 0) || k->dim != MU_DIM_RATE || strncmp(r->r[i].check->metric, "coll.", 5) != 0 || v > q.y1)
                continue;
            mu_plot_line(&q, "ref", (double[]){q.x0, q.x1}, (double[]){v, v}, 2);
            mu_plot_text(&q, q.left + 4, mu_plot_y(&q, v) - 4, "start", "tick", r->c->refs[k->ref].name);
        }
    qsort(order, n, sizeof *order, by_last);
    for (unsigned i = 0; i < n; i++)
        draw_curve(&q, order[i], (unsigned)(order[i] - all), &label);
    mu_plot_end(&q);
}

/* --- hosts by themselves -------------------------------------------------------------------------------------------
 */

static double at(const double *v, unsigned n, double part)
{
    double k = part * (n - 1);
    unsigned i = (unsigned)k;

    return i + 1 < n ? v[i] + (v[i + 1] - v[i]) * (k - i) : v[n - 1];
}

/* All trials of all ranks of a host; sorted. */
static unsigned trials_of(const struct mu_data *d, uint32_t test, int32_t host, double *v, unsigned most)
{
    unsigned n = 0;

    for (uint32_t i = 0; i < d->n; i++) {
        const struct mu_trials *s = &d->series[i];
        if (s->scope != MU_SCOPE_NODE || s->key.test != test || s->key.from != host || s->key.round)
            continue;
        for (unsigned k = 0; k < s->n && n < most; k++)
            v[n++] = s->v[k];
    }
    if (n)
        mu_median(v, n); /* sorts */
    return n;
}

static void boxes(const struct mu_report *r, struct mu_buf *out, uint32_t test)
{
    const struct mu_test *t = &r->d->tests[test];
    unsigned hosts = r->d->nhosts < HOSTS_MAX ? r->d->nhosts : HOSTS_MAX;
    double v[256], low = 1e300, high = -1e300;
    char title[160];

    for (unsigned h = 0; h < hosts; h++) {
        unsigned n = trials_of(r->d, test, (int32_t)h, v, 256);
        low = n ? fmin(low, v[0]) : low;
        high = n ? fmax(high, v[n - 1]) : high;
    }
    if (high < low)
        return;
    snprintf(title, sizeof title, "%s by host", t->name);
    struct mu_plot p = mu_plot_begin(
        out, title,
        hosts < r->d->nhosts ? "Box: the middle half of the trials; whiskers: least and most. The first 64 hosts."
                             : "Box: the middle half of the trials; whiskers: least and most.",
        110, 48 + 20.0 * hosts);
    double room = (high - low) * 0.05 > fabs(high) * 0.02 ? (high - low) * 0.05 : fabs(high) * 0.02;
    p.x0 = low - room > 0 || low < 0 ? low - room : 0;
    p.x1 = high + room;
    mu_plot_x_axis(&p, t->unit, false);
    for (unsigned h = 0; h < hosts; h++) {
        unsigned n = trials_of(r->d, test, (int32_t)h, v, 256);
        double y = p.top + 20.0 * h;
        bool accused = mu_report_accused(r, (int32_t)h);
        const char *bad = accused ? " bad" : "";
        mu_plot_text(&p, p.left - 6, y + 14, "end", accused ? "loud" : "name", r->d->hosts[h]);
        if (!n)
            continue;
        double a = mu_plot_x(&p, at(v, n, 0.25)), b = mu_plot_x(&p, at(v, n, 0.75)), m = mu_plot_x(&p, at(v, n, 0.5));
        mu_buf_appendf(out, "<line class=\"whisker%s\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/>", bad,
                       mu_plot_x(&p, v[0]), mu_plot_x(&p, v[n - 1]), y + 10, y + 10);
        mu_buf_appendf(out, "<rect class=\"box%s\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"12\"/>", bad, a, y + 4,
                       fmax(b - a, 1));
        mu_buf_appendf(
            out, "<line class=\"whisker%s\" stroke-width=\"3\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/>\n",
            bad, m, m, y + 4, y + 16);
    }
    mu_plot_end(&p);
}

/* --- who comes late to collectives ---------------------------------------------------------------------------------
 */

static void lags(const struct mu_report *r, struct mu_buf *out)
{
    unsigned hosts = r->d->nhosts < HOSTS_MAX ? r->d->nhosts : HOSTS_MAX, dots = 0;
    double most = 0;

    for (uint32_t i = 0; i < r->d->n; i++) {
        const struct mu_trials *s = &r->d->series[i];
        if (r->d->tests[s->key.test].additive && !s->key.round && s->n) {
            most = fmax(most, s->max);
            dots++;
        }
    }
    if (!dots)
        return;
    struct mu_plot p =
        mu_plot_begin(out, "When ranks come to collectives",
                      "Each dot: a rank in one operation and size, as a share of the time the operation takes. In a "
                      "collective the late rank waits least.",
                      110, 48 + 18.0 * hosts);
    p.x1 = most > 0 ? most * 1.05 : 1;
    mu_plot_x_axis(&p, "of the time", false);
    for (unsigned h = 0; h < hosts; h++)
        mu_plot_text(&p, p.left - 6, p.top + 18.0 * h + 13, "end", mu_report_accused(r, (int32_t)h) ? "loud" : "name",
                     r->d->hosts[h]);
    dots = 0;
    for (uint32_t i = 0; i < r->d->n && dots < DOTS_MAX; i++) {
        const struct mu_trials *s = &r->d->series[i];
        if (!r->d->tests[s->key.test].additive || s->key.round || !s->n || s->key.from >= (int32_t)hosts)
            continue;
        double spread = (double)((dots++ * 7) % 9) - 4; /* dots do not hide one another */
        mu_buf_appendf(out, "<circle class=\"%s\" fill-opacity=\"0.55\" cx=\"%.1f\" cy=\"%.1f\" r=\"2.5\"/>\n",
                       mu_report_accused(r, s->key.from) ? "hot" : "f0", mu_plot_x(&p, mu_trials_median(s)),
                       p.top + 18.0 * s->key.from + 9 + spread);
    }
    mu_plot_end(&p);
}

/* --- tails ---------------------------------------------------------------------------------------------------------
 */

static void tails(const struct mu_report *r, struct mu_buf *out)
{
    unsigned shown = 0;
    double low = 1e300, high = 0, least = 1, label = -100;

    for (uint32_t t = 0; t < r->d->ntests; t++) {
        struct mu_test *x = &r->d->tests[t];
        if (x->ntail < 20 || strncmp(x->name, "pair.", 5) != 0)
            continue;
        mu_median(x->tail, x->ntail);
        low = fmin(low, x->tail[0]);
        high = fmax(high, x->tail[x->ntail - 1]);
        least = fmin(least, 1.0 / x->ntail);
        shown++;
    }
    if (!shown || low <= 0 || high <= low)
        return;
    struct mu_plot p = mu_plot_begin(
        out, "Tails: how many samples took longer",
        "Of all pairs. A steep fall is good; a foot that reaches far to the right is what stalls a collective.", 70,
        280);
    p.x0 = low;
    p.x1 = high;
    p.log_x = true;
    p.y0 = least;
    p.y1 = 1;
    p.log_y = true;
    mu_plot_y_axis(&p, "");
    char number[32], text[64];
    double last = -100;
    for (unsigned e = 0; e < 36; e++) { /* 1, 2, 5, 10, ... as far as there is room */
        double v = pow(10, floor(log10(low)) + e / 3) * (const double[]){1, 2, 5}[e % 3];
        double x = mu_plot_x(&p, v);
        if (v < low || v > high || x < last + 60)
            continue;
        last = x;
        mu_buf_appendf(out, "<line class=\"grid\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/>\n", x, x, p.top,
                       p.top + p.height);
        snprintf(text, sizeof text, "%s us", mu_plot_number(number, v));
        mu_plot_text(&p, x, p.top + p.height + 18, "middle", "tick", text);
    }
    unsigned k = 0;
    for (uint32_t t = 0; t < r->d->ntests && k < MU_PLOT_COLOURS; t++) {
        const struct mu_test *x = &r->d->tests[t];
        if (x->ntail < 20 || strncmp(x->name, "pair.", 5) != 0)
            continue;
        mu_buf_appendf(out, "<polyline class=\"s%u\" points=\"", k);
        for (uint32_t i = 0; i < x->ntail; i++) {
            double above = (double)(x->ntail - i) / x->ntail;
            if (i % (1 + x->ntail / 400) == 0 || i + 50 > x->ntail) /* the end counts */
                mu_buf_appendf(out, "%.1f,%.1f ", mu_plot_x(&p, x->tail[i]), mu_plot_y(&p, above));
        }
        mu_buf_puts(out, "\"/>\n");
        label = label < 0 ? p.top + 10 : label + 15;
        mu_buf_appendf(out, "<rect class=\"f%u\" x=\"%.1f\" y=\"%.1f\" width=\"8\" height=\"8\" rx=\"2\"/>\n", k++,
                       p.left + p.width + 6, label - 8);
        mu_plot_text(&p, p.left + p.width + 18, label, "start", "name", x->name);
    }
    mu_plot_end(&p);
}

/* --- the last run --------------------------------------------------------------------------------------------------
 */

static double middle(const struct mu_data *d, uint32_t test)
{
    mu_auto_free double *v = malloc((d->n + 1) * sizeof *v);
    uint32_t n = 0;

    for (uint32_t i = 0; i < d->n && v; i++)
        if (d->series[i].key.test == test && !d->series[i].key.round && d->series[i].n)
            v[n++] = mu_trials_median(&d->series[i]);
    return n ? mu_median(v, n) : 0;
}

static void differences(const struct mu_report *r, struct mu_buf *out)
{
    enum { MOST = 40 };
    double change[MOST], widest = 0.02;
    const char *names[MOST];
    char about[160], text[64];
    unsigned n = 0;

    for (uint32_t t = 0; r->last && t < r->d->ntests && n < MOST; t++) {
        const struct mu_test *x = &r->d->tests[t];
        if (x->additive || !strcmp(x->unit, "errors") || ends(x->name, ".algbw"))
            continue;
        for (uint32_t o = 0; o < r->last->ntests; o++) {
            double is = middle(r->d, t), was = strcmp(x->name, r->last->tests[o].name) ? 0 : middle(r->last, o);
            if (was <= 0 || is <= 0)
                continue;
            change[n] = x->less ? was / is - 1 : is / was - 1;
            widest = fmax(widest, fabs(change[n]));
            names[n++] = x->name;
        }
    }
    if (!n)
        return;
    snprintf(about, sizeof about, "Median of each test against run %.60s; to the right: better.", r->last_name);
    struct mu_plot p = mu_plot_begin(out, "Difference to the last run", about, 190, 48 + 18.0 * n);
    p.x0 = -100 * widest * 1.1;
    p.x1 = 100 * widest * 1.1;
    mu_plot_x_axis(&p, "%", false);
    for (unsigned i = 0; i < n; i++) {
        double y = p.top + 18.0 * i, zero = mu_plot_x(&p, 0), x = mu_plot_x(&p, 100 * change[i]);
        mu_plot_text(&p, p.left - 6, y + 13, "end", "name", names[i]);
        mu_buf_appendf(out, "<rect class=\"%s\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"10\"/>\n",
                       change[i] < 0 ? "hot" : "cool", fmin(zero, x), y + 4, fmax(fabs(x - zero), 0.5));
        snprintf(text, sizeof text, "%+.1f %%", 100 * change[i]);
        mu_plot_text(&p, p.left + p.width + 6, y + 13, "start", "name", text);
    }
    mu_buf_appendf(out, "<line class=\"zero\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/>\n", mu_plot_x(&p, 0),
                   mu_plot_x(&p, 0), p.top, p.top + p.height);
    mu_plot_end(&p);
}

void mu_report_plots(const struct mu_report *r, struct mu_buf *out)
{
    size_t before = out->len;

    bandwidths(r, out);
    mu_plot_heatmaps(r, out);
    for (uint32_t t = 0; t < r->d->ntests; t++) {
        const struct mu_test *x = &r->d->tests[t];
        if (!strncmp(x->name, "node.", 5) && strcmp(x->unit, "errors") != 0)
            boxes(r, out, t);
    }
    lags(r, out);
    tails(r, out);
    differences(r, out);
    if (out->len == before)
        mu_buf_puts(out, "<p class=\"soft\">Nothing.</p>\n");
}
