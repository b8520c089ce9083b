#include "topo/fabric_svg.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/clean.h"
#include "topo/svg.h"

enum { MARGIN = 20, TITLE = 44, WIDE = 1400, SWITCH_H = 26, LEVEL_H = 110, MOST_W = 110, LEAST_W = 8, LABEL = 90 };
enum { HOST = 10, HOST_GAP = 3, HOSTS_SHOWN = 256, UNIT_H = 62, LEVELS = 33 };

struct drawing {
    const struct mu_fabric *f;
    const struct mu_units *u;
    FILE *out;
    int *order, nswitches; /* by level, leaves by unit */
    int *x;                /* middle of each switch, by node */
    int *cables;           /* of the switch that is being drawn to each node */
    int level_y[LEVELS + 1], count[LEVELS + 1], top;
    int w, width, height;
    bool faint;        /* so many cables that they would be one grey area */
    int *left, *right; /* of each unit's leaves */
};

/* Rows from the hosts up; 0, switches without a host in reach, is drawn above all. */
static int level_of(const struct mu_fabric_node *n)
{
    return n->rank > 0 && n->rank < LEVELS ? n->rank : LEVELS;
}

static int by_place(const void *a, const void *b, void *arg)
{
    const struct drawing *sorted = arg;
    int x = *(const int *)a, y = *(const int *)b;
    const struct mu_fabric_node *p = mu_fabric_node(sorted->f, x), *q = mu_fabric_node(sorted->f, y);
    int lp = level_of(p), lq = level_of(q), up = sorted->u->of_leaf[x], uq = sorted->u->of_leaf[y];

    if (lp != lq)
        return lp - lq;
    if (up != uq)
        return up < 0 ? 1 : uq < 0 ? -1 : up - uq;
    if (p->subnet != q->subnet)
        return p->subnet - q->subnet;
    return x - y;
}

static int arrange(struct drawing *d)
{
    int nodes = mu_fabric_nnodes(d->f), most = 1, y = TITLE;

    d->order = calloc((size_t)nodes + 1, sizeof *d->order);
    d->x = calloc((size_t)nodes + 1, sizeof *d->x);
    d->cables = calloc((size_t)nodes + 1, sizeof *d->cables);
    d->left = calloc((size_t)d->u->n + 1, sizeof *d->left);
    d->right = calloc((size_t)d->u->n + 1, sizeof *d->right);
    if (!d->order || !d->x || !d->cables || !d->left || !d->right)
        return MUSTER_ENOMEM;
    for (int i = 0; i < nodes; i++)
        if (mu_fabric_node(d->f, i)->kind == MU_FABRIC_SWITCH) {
            d->order[d->nswitches++] = i;
            d->count[level_of(mu_fabric_node(d->f, i))]++;
        }
    qsort_r(d->order, (size_t)d->nswitches, sizeof *d->order, by_place, d);
    for (int l = 1; l <= LEVELS; l++)
        most = d->count[l] > most ? d->count[l] : most;
    d->w = WIDE / most;
    d->w = d->w > MOST_W ? MOST_W : d->w < LEAST_W ? LEAST_W : d->w;
    int inner = most * d->w;
    if (inner < 500)
        inner = 500;
    for (int l = LEVELS; l >= 1; l--)
        if (d->count[l]) {
            d->level_y[l] = y;
            y += l > 1 ? LEVEL_H : SWITCH_H + 30;
        }
    for (int i = 0, at = 0, level = 0; i < d->nswitches; i++, at++) {
        const struct mu_fabric_node *n = mu_fabric_node(d->f, d->order[i]);
        if (level_of(n) != level)
            at = 0;
        level = level_of(n);
        d->x[d->order[i]] = LABEL + (int)((2 * (long long)at + 1) * inner / (2 * d->count[level]));
    }
    for (int i = 0; i < d->nswitches; i++) {
        int unit = d->u->of_leaf[d->order[i]], x = d->x[d->order[i]];
        if (unit < 0)
            continue;
        if (!d->right[unit] || x - d->w / 2 < d->left[unit])
            d->left[unit] = x - d->w / 2;
        if (x + d->w / 2 > d->right[unit])
            d->right[unit] = x + d->w / 2;
    }
    d->width = LABEL + inner + MARGIN;
    d->height = y + UNIT_H + MARGIN;
    return 0;
}

/* One line for all cables between two switches, thicker for more of them. */
static void put_cables(const struct drawing *d, int node)
{
    const struct mu_fabric_node *n = mu_fabric_node(d->f, node);
    const struct mu_fabric_port *p = mu_fabric_ports(d->f) + n->first;
    int y1 = d->level_y[level_of(n)];

    for (int i = 0; i < n->nout; i++)
        d->cables[p[i].peer]++;
    for (int i = 0; i < n->nout; i++) {
        const struct mu_fabric_node *peer = mu_fabric_node(d->f, p[i].peer);
        int many = d->cables[p[i].peer];
        d->cables[p[i].peer] = 0; /* drawn */
        if (!many || peer->kind != MU_FABRIC_SWITCH || p[i].peer <= node)
            continue;
        int y2 = d->level_y[level_of(peer)];
        char weight[20];
        snprintf(weight, sizeof weight, "w%d%s", many > 2 ? 3 : many, d->faint ? " f" : "");
        if (y1 < y2)
            mu_svg_line(d->out, d->x[node], y1 + SWITCH_H, d->x[p[i].peer], y2, weight);
        else if (y1 > y2)
            mu_svg_line(d->out, d->x[node], y1, d->x[p[i].peer], y2 + SWITCH_H, weight);
        else
            mu_svg_arc(d->out, d->x[node], d->x[p[i].peer], y1, weight);
    }
}

static void put_switch(const struct drawing *d, int node)
{
    const struct mu_fabric_node *n = mu_fabric_node(d->f, node);
    int y = d->level_y[level_of(n)], w = d->w > 12 ? d->w - 4 : d->w - 1;

    mu_svg_rect(d->out, d->x[node] - w / 2, y, w, SWITCH_H, "switch", n->name);
    if (w >= 40)
        mu_svg_text(d->out, d->x[node], y + 17, "middle", "s", w - 4, "%s", n->name);
}

static void put_unit(const struct drawing *d, int unit)
{
    int x = d->left[unit], w = d->right[unit] - x - 2, y = d->height - MARGIN - UNIT_H, at = 0;
    const char *first = NULL;
    char tip[400];

    if (w < 2)
        return;
    for (int h = 0; h < mu_fabric_nhosts(d->f) && !first; h++)
        if (d->u->of_host[h] == unit)
            first = mu_fabric_host(d->f, h)->name;
    snprintf(tip, sizeof tip, "unit %d: %d hosts from %s, %d rails", unit, d->u->hosts[unit], first ? first : "-",
             d->u->rails[unit]);
    mu_svg_rect(d->out, x + 1, y, w, UNIT_H, "box", tip);
    if (w >= 60)
        mu_svg_text(d->out, x + 7, y + 16, "start", "h", w - 10, "%d host%s", d->u->hosts[unit],
                    d->u->hosts[unit] == 1 ? "" : "s");
    int across = (w - 10) / (HOST + HOST_GAP), rows = 2;
    if (across < 1 || d->u->hosts[unit] > across * rows || mu_fabric_nhosts(d->f) > 4 * HOSTS_SHOWN) {
        if (w >= 60)
            mu_svg_text(d->out, x + 7, y + 32, "start", "s d", w - 10, "%d rail%s", d->u->rails[unit],
                        d->u->rails[unit] == 1 ? "" : "s");
        if (w >= 60 && first)
            mu_svg_text(d->out, x + 7, y + 46, "start", "s d", w - 10, "from %s", first);
        return;
    }
    for (int h = 0; h < mu_fabric_nhosts(d->f); h++)
        if (d->u->of_host[h] == unit) {
            const struct mu_fabric_host *host = mu_fabric_host(d->f, h);
            bool whole = host->nnics >= d->u->rails[unit];
            mu_svg_rect(d->out, x + 6 + at % across * (HOST + HOST_GAP), y + 26 + at / across * (HOST + HOST_GAP + 3),
                        HOST, HOST, whole ? "gpu" : "nic", host->name);
            at++;
        }
}

int mu_fabric_draw_svg(const struct mu_fabric *f, const struct mu_units *u, FILE *out)
{
    struct drawing d = {.f = f, .u = u, .out = out};
    int rc = arrange(&d);

    if (!rc) {
        long cables = 0;
        for (int i = 0; i < d.nswitches; i++)
            cables += mu_fabric_node(f, d.order[i])->nout;
        d.faint = cables - mu_fabric_nhosts(f) > 400;
        mu_svg_begin(out, d.width, d.height, mu_fabric_source(f));
        mu_svg_text(out, MARGIN, 26, "start", "t", d.width - 280, "%s", mu_fabric_source(f));
        mu_svg_text(out, d.width - MARGIN, 26, "end", "d", 0, "%d hosts in %d units, %d switches", mu_fabric_nhosts(f),
                    u->n, d.nswitches);
        for (int i = 0; i < d.nswitches; i++)
            put_cables(&d, d.order[i]);
        for (int i = 0; i < d.nswitches; i++) {
            int unit = u->of_leaf[d.order[i]];
            if (unit >= 0)
                mu_svg_line(out, d.x[d.order[i]], d.level_y[1] + SWITCH_H, d.x[d.order[i]], d.height - MARGIN - UNIT_H,
                            "w1");
            put_switch(&d, d.order[i]);
        }
        for (int l = 1; l <= LEVELS; l++)
            if (d.count[l] && l < LEVELS)
                mu_svg_text(out, MARGIN, d.level_y[l] + 17, "start", "d", LABEL - MARGIN, "level %d", l);
            else if (d.count[l])
                mu_svg_text(out, MARGIN, d.level_y[l] + 17, "start", "d", LABEL - MARGIN, "no hosts");
        for (int i = 0; i < u->n; i++)
            put_unit(&d, i);
        mu_svg_end(out);
    }
    free(d.order);
    free(d.x);
    free(d.cables);
    free(d.left);
    free(d.right);
    return rc ? rc : ferror(out) ? MUSTER_EIO : 0;
}
