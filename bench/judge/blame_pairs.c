/* Pairs: b_ij = min(out_i, in_j, link_ij), taken apart by medians of rows, columns and blocks. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/judge/blame_priv.h"
#include "runtime/base/clean.h"

/* The rate of what works. Where a whole block is low the lower half can be more than half of all: then it is the median
 * of the upper one. Where all is noise there is no such block. */
static double reference(struct mu_view *v, double noise)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < v->n; i++)
        v->work[n++] = v->cells[i].rate;
    double m = mu_median(v->work, n), upper = v->work[n - 1 - n / 5];
    if (upper <= 0 || upper * (1 - v->c->effect) <= m || noise > v->c->effect / 2)
        return m;
    uint32_t from = 0;
    while (from < n && v->work[from] < upper * (1 - v->c->effect))
        from++;
    return mu_median(v->work + from, n - from);
}

/* Cells by their sender, then by their receiver: first[h]..first[h + 1] of order[]. */
struct lines {
    uint32_t *first, *order;
};

static bool lines_make(const struct mu_view *v, bool in, struct lines *l)
{
    uint32_t hosts = v->d->nhosts;

    l->first = calloc(hosts + 2, sizeof *l->first);
    l->order = malloc((v->n + 1) * sizeof *l->order);
    if (!l->first || !l->order)
        return false;
    for (uint32_t i = 0; i < v->n; i++)
        l->first[(in ? v->cells[i].to : v->cells[i].from) + 2]++;
    for (uint32_t h = 0; h <= hosts; h++)
        l->first[h + 1] += l->first[h];
    for (uint32_t i = 0; i < v->n; i++)
        l->order[l->first[(in ? v->cells[i].to : v->cells[i].from) + 1]++] = i;
    return true;
}

/* --- boundaries ----------------------------------------------------------------------------------------------------
 */

struct block {
    uint32_t cells, low, froms, tos, elsewhere, elsewhere_low;
    uint32_t last;
};

/* From group a to group b: most cells low, of several senders and receivers, which do well with others. */
static int try_block(struct mu_view *v, int32_t a, int32_t b, double ref, double spread)
{
    const int32_t *g = v->d->group;
    struct block k = {.last = UINT32_MAX};
    mu_auto_free bool *tos = calloc(v->d->nhosts, 1);

    if (!tos)
        return MUSTER_ENOMEM;
    uint32_t n = 0;
    for (uint32_t i = 0; i < v->n; i++) {
        const struct mu_cell *c = &v->cells[i];
        bool low = c->rate < ref * (1 - mu_low_part(v->c)), from = g[c->from] == a, to = g[c->to] == b;
        if (from && to) {
            k.cells++;
            k.low += low;
            k.froms += k.last != (uint32_t)c->from;
            k.last = (uint32_t)c->from;
            k.tos += !tos[c->to];
            tos[c->to] = true;
            v->work[n++] = c->rate;
        } else if ((from && g[c->to] == a) || (to && g[c->from] == b)) {
            k.elsewhere++;
            k.elsewhere_low += low;
        }
    }
    if (k.froms < 2 || k.tos < 2 || k.low < 0.8 * k.cells || k.elsewhere_low * 2 > k.elsewhere)
        return 0;
    double drop = 1 - mu_median(v->work, n) / ref;
    if (drop < CANDIDATE_PART * v->c->effect || drop / spread < CANDIDATE_Z)
        return 0;
    for (uint32_t i = 0; i < v->n; i++)
        v->cells[i].masked = v->cells[i].masked || (g[v->cells[i].from] == a && g[v->cells[i].to] == b);
    struct mu_suspect s = {.kind = MU_SUSPECT_BOUNDARY,
                           .dir = MU_DIR_OUT,
                           .a = a,
                           .b = b,
                           .rank = -1,
                           .drop = drop,
                           .score = drop / spread};
    return mu_blame_add(v, &s);
}

static int boundaries(struct mu_view *v, double ref, double spread)
{
    uint32_t most = v->d->ngroups;
    int rc = 0;

    if (most < 2)
        return 0;
    /* Only blocks that have low cells at all: there may be many groups. */
    mu_auto_free uint8_t *seen = most <= 2048 ? calloc(most, most) : NULL;
    if (!seen)
        return most <= 2048 ? MUSTER_ENOMEM : 0;
    for (uint32_t i = 0; i < v->n && !rc; i++) {
        int32_t a = v->d->group[v->cells[i].from], b = v->d->group[v->cells[i].to];
        if (a < 0 || b < 0 || a == b || v->cells[i].rate >= ref * (1 - mu_low_part(v->c)))
            continue;
        uint8_t *at = &seen[(uint32_t)a * most + (uint32_t)b];
        if (*at < 3 && ++*at == 3)
            rc = try_block(v, a, b, ref, spread);
    }
    return rc;
}

/* --- hosts and links -----------------------------------------------------------------------------------------------
 */

struct line {
    double drop, depth;
    uint32_t cells;
    bool bad;
};

/* other: what is known of the partners in the other direction; their cells say nothing of this host. */
static void judge_lines(struct mu_view *v, bool in, const struct lines *l, const struct line *other, double ref,
                        struct line *out)
{
    uint32_t hosts = v->d->nhosts, n = 0;
    double *medians = v->work + v->n;

    for (uint32_t h = 0; h < hosts; h++) {
        uint32_t k = 0, low = 0;
        out[h] = (struct line){0};
        for (uint32_t i = l->first[h]; i < l->first[h + 1]; i++) {
            const struct mu_cell *c = &v->cells[l->order[i]];
            if (c->masked || (other && other[in ? c->from : c->to].bad))
                continue;
            v->work[k++] = c->rate;
            low += c->rate < ref * (1 - mu_low_part(v->c));
        }
        if (!k)
            continue;
        out[h].cells = k;
        out[h].drop = 1 - mu_median(v->work, k) / ref;
        out[h].bad = k > 1 && low >= AGREE * k; /* a single cell is a link's */
        medians[n++] = out[h].depth = mu_depth(ref * (1 - out[h].drop), ref);
    }
    if (!n)
        return;
    double middle = mu_median(medians, n), spread = mu_mad_sigma(medians, n, middle);
    spread = spread > SPREAD_FLOOR ? spread : SPREAD_FLOOR;
    for (uint32_t h = 0; h < hosts; h++)
        out[h].bad = out[h].bad && out[h].drop >= CANDIDATE_PART * v->c->effect && out[h].depth / spread >= CANDIDATE_Z;
}

static int add_hosts(struct mu_view *v, const struct line *out, const struct line *in)
{
    int rc = 0;

    for (uint32_t h = 0; h < v->d->nhosts && !rc; h++) {
        if (!out[h].bad && !in[h].bad)
            continue;
        double drop = out[h].bad && in[h].bad ? fmax(out[h].drop, in[h].drop) : out[h].bad ? out[h].drop : in[h].drop;
        struct mu_suspect s = {.kind = MU_SUSPECT_NODE,
                               .dir = (out[h].bad ? MU_DIR_OUT : 0) | (in[h].bad ? MU_DIR_IN : 0),
                               .a = (int32_t)h,
                               .b = -1,
                               .rank = -1,
                               .pair = true,
                               .drop = drop,
                               .score = drop / SPREAD_FLOOR};
        rc = mu_blame_add(v, &s);
    }
    return rc;
}

static int links(struct mu_view *v, const struct line *out, const struct line *in, double ref, double noise)
{
    uint32_t n = 0;
    int rc = 0;

    for (uint32_t i = 0; i < v->n; i++) {
        struct mu_cell *c = &v->cells[i];
        c->masked = c->masked || out[c->from].bad || in[c->to].bad;
        if (!c->masked)
            v->work[n++] = mu_depth(c->rate, ref);
    }
    if (!n)
        return 0;
    double spread = mu_mad_sigma(v->work, n, 0);
    spread = fmax(fmax(spread, SPREAD_FLOOR), noise);
    for (uint32_t i = 0; i < v->n && !rc; i++) {
        const struct mu_cell *c = &v->cells[i];
        double drop = 1 - c->rate / ref;
        double z = mu_depth(c->rate, ref) / spread;
        if (c->masked || drop < CANDIDATE_PART * v->c->effect || z < CANDIDATE_Z)
            continue;
        struct mu_suspect s = {.kind = MU_SUSPECT_LINK, .a = c->from, .b = c->to, .rank = -1, .drop = drop, .score = z};
        rc = mu_blame_add(v, &s);
    }
    return rc;
}

int mu_blame_pairs(struct mu_view *v)
{
    uint32_t hosts = v->d->nhosts;
    mu_auto_free struct line *out = calloc(hosts, sizeof *out), *in = calloc(hosts, sizeof *in);
    mu_auto_free struct line *out2 = calloc(hosts, sizeof *out2), *in2 = calloc(hosts, sizeof *in2);
    struct lines rows = {0}, columns = {0};
    int rc = MUSTER_ENOMEM;

    if (!out || !in || !out2 || !in2 || !lines_make(v, false, &rows) || !lines_make(v, true, &columns))
        goto done;
    double noisy = mu_blame_noise(v), ref = reference(v, noisy);
    rc = 0;
    if (ref <= 0)
        goto done;
    for (uint32_t i = 0; i < v->n; i++)
        v->work[i] = v->cells[i].rate;
    double spread = mu_mad_sigma(v->work, v->n, ref) / ref;
    /* Where blocks are low the spread is theirs; boundaries need many cells anyway. */
    spread = spread > SPREAD_FLOOR && spread < v->c->effect / 2 ? spread : SPREAD_FLOOR;
    if ((rc = boundaries(v, ref, spread)))
        goto done;
    judge_lines(v, false, &rows, NULL, ref, out);
    judge_lines(v, true, &columns, NULL, ref, in);
    /* Again, without the cells that a partner explains; who has no others left stays what it was. */
    judge_lines(v, false, &rows, in, ref, out2);
    judge_lines(v, true, &columns, out, ref, in2);
    for (uint32_t h = 0; h < hosts; h++) {
        out2[h] = out2[h].cells ? out2[h] : out[h];
        in2[h] = in2[h].cells ? in2[h] : in[h];
    }
    if (!(rc = add_hosts(v, out2, in2)))
        rc = links(v, out2, in2, ref, noisy);
done:
    free(rows.first);
    free(rows.order);
    free(columns.first);
    free(columns.order);
    return rc;
}
