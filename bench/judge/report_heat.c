/* Who reaches whom, from rows to columns: colour is what is missing to the median. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/judge/plot.h"
#include "bench/judge/report_plots.h"
#include "runtime/base/clean.h"

enum { HOSTS_MAX = 48 };

bool mu_report_accused(const struct mu_report *r, int32_t host)
{
    for (unsigned i = 0; i < r->b->n; i++) {
        const struct mu_suspect *s = &r->b->v[i];
        if (s->state == MU_CONFIRMED && mu_suspect_on_host(s) && s->a == host)
            return true;
    }
    return false;
}

/* The suspects, then the others, as many as there is room for; in their order. */
static unsigned choose(const struct mu_report *r, int32_t *out)
{
    uint32_t n = r->d->nhosts, k = 0;
    mu_auto_free bool *in = calloc(n + 1, 1);

    for (unsigned i = 0; i < r->b->n && in && k < HOSTS_MAX; i++) {
        const struct mu_suspect *s = &r->b->v[i];
        int32_t both[] = {s->a, s->kind == MU_SUSPECT_LINK ? s->b : -1};
        for (unsigned e = 0; e < 2; e++)
            if (s->kind != MU_SUSPECT_BOUNDARY && both[e] >= 0 && !in[both[e]] && k < HOSTS_MAX) {
                in[both[e]] = true;
                k++;
            }
    }
    for (uint32_t h = 0; h < n && in && k < HOSTS_MAX; h++)
        if (!in[h]) {
            in[h] = true;
            k++;
        }
    k = 0;
    for (uint32_t h = 0; h < n && in; h++)
        if (in[h])
            out[k++] = (int32_t)h;
    return k;
}

static unsigned longest(const struct mu_report *r, const int32_t *hosts, unsigned n)
{
    size_t most = 0;

    for (unsigned i = 0; i < n; i++)
        most = strlen(r->d->hosts[hosts[i]]) > most ? strlen(r->d->hosts[hosts[i]]) : most;
    return most < 24 ? (unsigned)most : 24;
}

static void legend(struct mu_plot *p, double x, double y)
{
    static const char *const texts[] = {"-30 % and less", "-20 %", "-10 %", "-5 %", "the median"};
    static const double drops[] = {0.3, 0.2, 0.1, 0.05, 0};

    for (unsigned i = 0; i < MU_COUNT(texts) && x < 640; i++) {
        mu_buf_appendf(p->out,
                       "<rect class=\"hot\" fill-opacity=\"%.2f\" x=\"%.1f\" y=\"%.1f\" width=\"18\" height=\"14\"/>\n",
                       0.04 + 0.8 * drops[i] / 0.3, x, y + 18.0 * i);
        mu_plot_text(p, x + 24, y + 18.0 * i + 11, "start", "tick", texts[i]);
    }
}

/* Of a test that measures both directions together there is only one of the two. */
static const struct mu_trials *mirrored(const struct mu_data *d, const struct mu_trials_key *k)
{
    const struct mu_trials *found = NULL;

    if (strcmp(d->tests[k->test].name, "pair.lat") != 0)
        return NULL;
    for (uint32_t i = 0; i < d->n && !found; i++) {
        const struct mu_trials *s = &d->series[i];
        if (s->key.test == k->test && s->key.size == k->size && !s->key.round && s->key.from == k->from &&
            s->key.to == k->to && s->n)
            found = s;
    }
    return found;
}

static void heatmap(const struct mu_report *r, struct mu_buf *out, const struct mu_trials *like)
{
    const struct mu_test *t = &r->d->tests[like->key.test];
    int32_t hosts[HOSTS_MAX];
    unsigned n = choose(r, hosts), k = 0;
    char title[160], about[200], number[32], text[64];
    mu_auto_free double *all = malloc((r->d->n + 1) * sizeof *all);

    if (!all || n < 2)
        return;
    for (uint32_t i = 0; i < r->d->n; i++) {
        const struct mu_trials *s = &r->d->series[i];
        if (!s->key.round && s->key.test == like->key.test && s->key.size == like->key.size && s->n)
            all[k++] = mu_trials_median(s);
    }
    double ref = mu_median(all, k), side = fmin(40, 560.0 / n), left = 110;
    snprintf(title, sizeof title, "%s from each host to each other, %llu bytes", t->name,
             (unsigned long long)like->key.size);
    snprintf(about, sizeof about,
             "Rows send, columns receive. Red: %s than the median of %s %s; full colour from 30 %% on.%s",
             t->less ? "slower" : "less", mu_plot_number(number, ref), t->unit,
             r->d->nhosts > n ? " Not all hosts are shown: suspects first." : "");
    double head = side < 10 ? 6 : 24 + 5.0 * longest(r, hosts, n);
    struct mu_plot p = mu_plot_begin(out, title, about, left, head + side * n + 8);
    legend(&p, left + side * n + 40, head);
    for (unsigned i = 0; i < n; i++) {
        double y = head + side * i;
        const char *class = mu_report_accused(r, hosts[i]) ? "loud" : "name";
        if (side >= 10) {
            mu_plot_text(&p, left - 6, y + side / 2 + 4, "end", class, r->d->hosts[hosts[i]]);
            mu_buf_appendf(out, "<g transform=\"translate(%.1f %.1f) rotate(-45)\">", left + side * (i + 0.5),
                           head - 6);
            mu_plot_text(&p, 0, 0, "start", class, r->d->hosts[hosts[i]]);
            mu_buf_puts(out, "</g>\n");
        }
        for (unsigned j = 0; j < n; j++) {
            struct mu_trials_key key = like->key;
            const struct mu_trials *s = NULL;
            for (uint32_t q = 0; q < r->d->n && !s && i != j; q++) {
                const struct mu_trials *c = &r->d->series[q];
                if (c->key.test == key.test && c->key.size == key.size && !c->key.round && c->key.from == hosts[i] &&
                    c->key.to == hosts[j] && c->n)
                    s = c;
            }
            if (!s && i != j) { /* there and back: one figure for both */
                key.from = hosts[j];
                key.to = hosts[i];
                s = mirrored(r->d, &key);
            }
            double x = left + side * j, v = s ? mu_trials_median(s) : 0;
            double drop = !s || ref <= 0 || v <= 0 ? 0 : t->less ? 1 - ref / v : 1 - v / ref;
            double shade = fmin(fmax(drop / 0.3, 0), 1);
            if (!s) {
                mu_buf_appendf(out, "<rect class=\"empty\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\"/>\n",
                               x + 1, y + 1, side - 2, side - 2);
                continue;
            }
            mu_buf_appendf(
                out,
                "<rect class=\"%s\" fill-opacity=\"%.2f\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\"><title>",
                drop > 0 ? "hot" : "cool", drop > 0 ? 0.04 + 0.8 * shade : 0.06, x + 1, y + 1, side - 2, side - 2);
            snprintf(text, sizeof text, ": %s %s, %+.1f %%", mu_plot_number(number, v), t->unit, -100 * drop);
            mu_report_escape(out, r->d->hosts[hosts[i]]);
            mu_buf_puts(out, " to ");
            mu_report_escape(out, r->d->hosts[hosts[j]]);
            mu_report_escape(out, text);
            mu_buf_puts(out, "</title></rect>\n");
            if (side >= 28) {
                snprintf(text, sizeof text, "%.3g", v);
                mu_plot_text(&p, x + side / 2, y + side / 2 + 4, "middle", "cell", text);
            }
        }
    }
    for (unsigned i = 0; i < r->b->n; i++) { /* links that are suspects are framed */
        const struct mu_suspect *s = &r->b->v[i];
        for (unsigned a = 0; a < n && s->kind == MU_SUSPECT_LINK && s->state == MU_CONFIRMED; a++)
            for (unsigned b = 0; b < n; b++)
                if (hosts[a] == s->a && hosts[b] == s->b)
                    mu_buf_appendf(out, "<rect class=\"mark\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\"/>\n",
                                   left + side * b, head + side * a, side, side);
    }
    mu_plot_end(&p);
}

void mu_plot_heatmaps(const struct mu_report *r, struct mu_buf *out)
{
    for (uint32_t t = 0; t < r->d->ntests; t++) {
        const struct mu_trials *like = NULL; /* the largest size of each test */
        for (uint32_t i = 0; i < r->d->n; i++) {
            const struct mu_trials *s = &r->d->series[i];
            if (s->scope == MU_SCOPE_PAIR && s->key.test == t && !s->key.round && s->n &&
                (!like || s->key.size > like->key.size))
                like = s;
        }
        if (like)
            heatmap(r, out, like);
    }
}
