/* A node as an SVG: a frame for each NUMA node, in it its cores and the devices that are local to it. */
#include <stdlib.h>
#include <string.h>

#include "runtime/base/clean.h"
#include "runtime/base/str.h"
#include "topo/draw.h"
#include "topo/svg.h"

enum { MARGIN = 16, GAP = 6, CELL = 30, CELL_H = 26, ACROSS = 16, DEV = 236, DEV_H = 40, HEAD = 26, TITLE = 40 };

struct frame {
    const struct mu_cpuset *nodes; /* of its cores; NULL: of devices that are nowhere in particular */
    int ncores, ndevs, h;
};

struct drawing {
    const struct mu_topo *t;
    const struct mu_pin *pin;
    FILE *f;
    struct frame *v;
    int n, inner;  /* frames; width within one */
    int *frame_of; /* by device, GPUs first */
};

static int ndevs(const struct mu_topo *t)
{
    return mu_topo_ngpus(t) + mu_topo_nnics(t);
}

static const struct mu_topo_dev *dev_at(const struct mu_topo *t, int i)
{
    return i < mu_topo_ngpus(t) ? mu_topo_gpu(t, i) : mu_topo_nic(t, i - mu_topo_ngpus(t));
}

/* The first NUMA node that a device is local to gets it; one that is local to all, where there are several, none. */
static int frame_of(const struct drawing *d, const struct mu_topo_dev *dev)
{
    int first = -1, hits = 0;

    for (int i = 0; i < d->n; i++)
        if (d->v[i].nodes && mu_cpuset_intersects(d->v[i].nodes, &dev->nodes)) {
            first = first < 0 ? i : first;
            hits++;
        }
    return hits == d->n && d->n > 1 ? -1 : first;
}

static int make_frames(struct drawing *d)
{
    int ncores = mu_topo_ncores(d->t), all = ndevs(d->t);

    d->v = calloc((size_t)ncores + 1, sizeof *d->v);
    d->frame_of = calloc((size_t)all + 1, sizeof *d->frame_of);
    if (!d->v || !d->frame_of)
        return MUSTER_ENOMEM;
    for (int i = 0; i < ncores; i++) {
        const struct mu_cpuset *nodes = mu_topo_core(d->t, i)->nodes;
        int k = 0;
        while (k < d->n && d->v[k].nodes != nodes)
            k++;
        if (k == d->n)
            d->v[d->n++].nodes = nodes;
        d->v[k].ncores++;
    }
    int nowhere = 0, most = 1;
    for (int i = 0; i < all; i++) {
        d->frame_of[i] = frame_of(d, dev_at(d->t, i));
        if (d->frame_of[i] >= 0)
            d->v[d->frame_of[i]].ndevs++;
        else
            nowhere++;
    }
    for (int i = 0; i < all; i++)
        if (d->frame_of[i] < 0)
            d->frame_of[i] = d->n;
    if (nowhere)
        d->v[d->n++].ndevs = nowhere;
    for (int i = 0; i < d->n; i++)
        most = d->v[i].ncores > most ? d->v[i].ncores : most;
    int across = most < ACROSS ? most : ACROSS, wide = across * CELL;
    for (int i = 0; i < d->n; i++)
        if (d->v[i].ndevs && wide < 2 * DEV + GAP)
            wide = 2 * DEV + GAP;
    d->inner = wide < 300 ? 300 : wide;
    return 0;
}

/* Bars of the colours of the ranks that are there, side by side. */
static void put_marks(const struct drawing *d, int x, int y, int w, int h, const struct mu_cpuset *cpus, int gpu,
                      int nic)
{
    int n = 0, at = 0;

    if (!d->pin || d->pin->policy == MU_PIN_NONE)
        return;
    for (int pass = 0; pass < 2; pass++)
        for (int i = 0; i < d->pin->nranks; i++) {
            const struct mu_pin_rank *r = mu_pin_rank(d->pin, i);
            char classes[16];
            if (!((cpus && mu_cpuset_intersects(cpus, &r->cpus)) || (gpu >= 0 && r->gpu == gpu) ||
                  (nic >= 0 && r->nic == nic)))
                continue;
            if (!pass) {
                n++;
                continue;
            }
            snprintf(classes, sizeof classes, "m r%d", i % 8);
            mu_svg_rect(d->f, x + w * at / n, y, w * (at + 1) / n - w * at / n, h, classes, NULL);
            at++;
        }
}

static void put_core(const struct drawing *d, int core, int x, int y)
{
    const struct mu_topo_core *c = mu_topo_core(d->t, core);
    mu_auto_buf struct mu_buf tip = {0};
    struct mu_cpuset s = {{0}};
    bool any = false;

    mu_buf_appendf(&tip, "core %d: PU", core);
    for (int i = 0; i < c->npus; i++) {
        mu_cpuset_set(&s, c->pus[i]);
        any |= mu_cpuset_isset(mu_topo_allowed(d->t), c->pus[i]);
        mu_buf_appendf(&tip, " %d", c->pus[i]);
    }
    mu_auto_free char *ranks = mu_topo_ranks_on(d->pin, &s, -1, -1);
    if (ranks)
        mu_buf_appendf(&tip, ", rank %s", ranks);
    mu_svg_rect(d->f, x, y, CELL - 4, CELL_H - 4, any ? "core" : "off", mu_buf_str(&tip));
    put_marks(d, x, y, CELL - 4, CELL_H - 4, &s, -1, -1);
    mu_svg_text(d->f, x + (CELL - 4) / 2, y + 15, "middle", any ? "s" : "s d", 0, "%d", c->pus[0]);
}

static void put_dev(const struct drawing *d, int i, int x, int y)
{
    const struct mu_topo_dev *dev = dev_at(d->t, i);
    bool is_gpu = i < mu_topo_ngpus(d->t), off = is_gpu ? dev->hidden : dev->down;
    int gpu = is_gpu ? i : -1, nic = is_gpu ? -1 : i - mu_topo_ngpus(d->t);
    mu_auto_free char *ranks = mu_topo_ranks_on(d->pin, NULL, gpu, nic);
    char tip[300];

    snprintf(tip, sizeof tip, "%s %s %s %s", dev->pci, dev->name, dev->model, dev->uuid);
    mu_svg_rect(d->f, x, y, DEV, DEV_H, off ? "off" : is_gpu ? "gpu" : "nic", tip);
    put_marks(d, x, y + DEV_H - 5, DEV, 5, NULL, gpu, nic);
    int room = DEV - 12 - (ranks ? MU_SVG_CHAR * ((int)strlen(ranks) + 6) : 0);
    mu_svg_text(d->f, x + 6, y + 15, "start", "h", room, "%s %s",
                is_gpu        ? "GPU"
                : dev->fabric ? "adapter"
                              : "network",
                *dev->name ? dev->name : dev->pci);
    if (ranks)
        mu_svg_text(d->f, x + DEV - 6, y + 15, "end", "d", DEV / 2, "rank %s", ranks);
    mu_svg_text(d->f, x + 6, y + 30, "start", "s d", DEV - 12, "%s%s%s%s", *dev->name ? dev->pci : "",
                *dev->name && *dev->model ? "  " : "", dev->model,
                off ? is_gpu ? "  (not usable)" : "  (no link)" : "");
}

static int rows_of(int n, int across)
{
    return (n + across - 1) / across;
}

static int height_of(const struct drawing *d, const struct frame *fr)
{
    int across = d->inner / CELL, beside = (d->inner + GAP) / (DEV + GAP);

    return HEAD + rows_of(fr->ncores, across) * CELL_H + (fr->ndevs && fr->ncores ? GAP : 0) +
           rows_of(fr->ndevs, beside) * (DEV_H + GAP) + GAP;
}

static void put_frame(const struct drawing *d, int k, int x, int y)
{
    const struct frame *fr = &d->v[k];
    int across = d->inner / CELL, beside = (d->inner + GAP) / (DEV + GAP), at = 0, top = y + HEAD;
    uint64_t memory = 0;
    int package = -1;
    char size[32];

    mu_svg_rect(d->f, x, y, d->inner + 2 * GAP, fr->h, fr->nodes ? "box" : "group", NULL);
    for (int i = 0; i < mu_topo_ncores(d->t); i++) {
        const struct mu_topo_core *c = mu_topo_core(d->t, i);
        if (c->nodes != fr->nodes)
            continue;
        package = c->package;
        put_core(d, i, x + GAP + at % across * CELL, top + at / across * CELL_H);
        at++;
    }
    for (int i = 0; fr->nodes && i < mu_topo_nnodes(d->t); i++)
        if (mu_cpuset_isset(fr->nodes, mu_topo_node(d->t, i)->os))
            memory += mu_topo_node(d->t, i)->memory;
    mu_auto_free char *nodes = fr->nodes ? mu_cpuset_str(fr->nodes) : NULL;
    if (!fr->nodes)
        mu_svg_text(d->f, x + GAP, y + 17, "start", "h", d->inner, "near no NUMA node in particular");
    else
        mu_svg_text(d->f, x + GAP, y + 17, "start", "h", d->inner, "NUMA node %s%s%s", nodes ? nodes : "?",
                    memory ? ", " : "", memory ? mu_str_fmt_size(size, sizeof size, memory) : "");
    if (package >= 0)
        mu_svg_text(d->f, x + GAP + d->inner, y + 17, "end", "d", 0, "package %d", package);
    top += rows_of(fr->ncores, across) * CELL_H + (fr->ndevs && fr->ncores ? GAP : 0);
    at = 0;
    for (int i = 0; i < ndevs(d->t); i++)
        if (d->frame_of[i] == k) {
            put_dev(d, i, x + GAP + at % beside * (DEV + GAP), top + at / beside * (DEV_H + GAP));
            at++;
        }
}

int mu_topo_draw_svg(const struct mu_topo *t, const struct mu_pin *pin, FILE *f)
{
    struct drawing d = {.t = t, .pin = pin, .f = f};
    struct mu_topo_counts n;
    int rc = make_frames(&d), beside = 1, y = TITLE;

    if (!rc) {
        mu_topo_count(t, &n);
        beside = d.n < 2 ? 1 : d.n <= 4 ? 2 : d.n <= 12 ? 3 : 4;
        for (int i = 0; i < d.n; i++)
            d.v[i].h = height_of(&d, &d.v[i]);
        int wide = d.inner + 2 * GAP, high = TITLE;
        for (int i = 0; i < d.n; i += beside) { /* frames of a row are as high as the highest */
            int most = 0;
            for (int k = i; k < i + beside && k < d.n; k++)
                most = d.v[k].h > most ? d.v[k].h : most;
            for (int k = i; k < i + beside && k < d.n; k++)
                d.v[k].h = most;
            high += most + MARGIN;
        }
        mu_svg_begin(f, 2 * MARGIN + beside * wide + (beside - 1) * MARGIN, high, mu_topo_source(t));
        mu_svg_text(f, MARGIN, 26, "start", "t", beside * wide - 200, "%s", mu_topo_source(t));
        mu_svg_text(f, MARGIN + beside * wide + (beside - 1) * MARGIN, 26, "end", "d", 0,
                    "%d cores, %d GPUs, %d adapters%s", n.cores, mu_topo_ngpus(t), mu_topo_nnics(t),
                    pin && pin->policy == MU_PIN_NONE ? "; ranks are not bound" : "");
        for (int i = 0; i < d.n; i++) {
            put_frame(&d, i, MARGIN + i % beside * (wide + MARGIN), y);
            if (i % beside == beside - 1)
                y += d.v[i].h + MARGIN;
        }
        mu_svg_end(f);
    }
    free(d.v);
    free(d.frame_of);
    return rc ? rc : ferror(f) ? MUSTER_EIO : 0;
}
