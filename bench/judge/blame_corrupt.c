/* Data that was wrong: no question of degree. Its source is what the wrong cells have in common. */
#include <stdlib.h>

#include "bench/judge/blame_priv.h"
#include "runtime/base/clean.h"

static int add(struct mu_view *v, enum mu_suspect_kind kind, enum mu_direction dir, const struct mu_cell *c, int32_t b,
               double share)
{
    struct mu_suspect s = {.kind = kind,
                           .dir = dir,
                           .a = dir == MU_DIR_IN ? c->to : c->from,
                           .b = b,
                           .rank = -1,
                           .corrupt = true,
                           .state = MU_CONFIRMED,
                           .drop = share,
                           .score = 1000 * share};

    if (kind == MU_SUSPECT_NODE && c->s->key.gpu) {
        s.kind = MU_SUSPECT_GPU;
        s.gpu = c->s->key.gpu;
    }
    if (kind == MU_SUSPECT_RANK) {
        s.rank = dir == MU_DIR_IN ? -1 : c->s->key.rank;
        for (uint32_t r = 0; s.rank < 0 && r < v->d->nranks; r++)
            s.rank = v->d->rank_host[r] == s.a ? (int32_t)r : -1;
        if (s.rank < 0)
            s.kind = MU_SUSPECT_NODE;
    }
    return mu_blame_add(v, &s);
}

struct count {
    uint32_t wrong, all;
};

static int nodes(struct mu_view *v)
{
    int rc = 0;

    for (uint32_t i = 0, k; i < v->n && !rc; i = k) {
        uint32_t wrong = 0;
        for (k = i; k < v->n && v->cells[k].from == v->cells[i].from; k++)
            wrong += v->cells[k].s->wrong > 0;
        if (wrong == k - i)
            rc = add(v, MU_SUSPECT_NODE, MU_DIR_NONE, &v->cells[i], -1, 1);
        for (uint32_t r = i; r < k && wrong < k - i && !rc; r++)
            if (v->cells[r].s->wrong)
                rc = add(v, MU_SUSPECT_RANK, MU_DIR_NONE, &v->cells[r], -1, 1);
    }
    return rc;
}

/* The host that explains most of the wrong cells goes first; what two hosts cannot explain together is a link's. */
int mu_blame_corrupt(struct mu_view *v)
{
    uint32_t hosts = v->d->nhosts, left = 0;
    int rc = 0;

    for (uint32_t i = 0; i < v->n; i++)
        left += v->cells[i].s->wrong > 0;
    if (!left)
        return 0;
    if (v->cells[0].s->scope != MU_SCOPE_PAIR)
        return nodes(v);
    mu_auto_free bool *done = calloc(v->n, 1);
    mu_auto_free struct count *out = calloc(hosts, sizeof *out), *in = calloc(hosts, sizeof *in);
    if (!done || !out || !in)
        return MUSTER_ENOMEM;
    while (left && !rc) {
        int32_t best = 0;
        uint32_t most = 0;
        for (uint32_t h = 0; h < hosts; h++)
            out[h] = in[h] = (struct count){0};
        for (uint32_t i = 0; i < v->n; i++) {
            bool wrong = v->cells[i].s->wrong > 0 && !done[i];
            out[v->cells[i].from].all++;
            out[v->cells[i].from].wrong += wrong;
            in[v->cells[i].to].all++;
            in[v->cells[i].to].wrong += wrong;
        }
        for (uint32_t h = 0; h < hosts; h++) {
            if (out[h].wrong > most || in[h].wrong > most) {
                best = (int32_t)h;
                most = out[h].wrong > in[h].wrong ? out[h].wrong : in[h].wrong;
            }
        }
        struct count o = out[best], n = in[best];
        bool sends = o.wrong > 1 && o.wrong * 3 >= o.all, takes = n.wrong > 1 && n.wrong * 3 >= n.all;
        const struct mu_cell *shown = NULL;
        for (uint32_t i = 0; i < v->n; i++) {
            const struct mu_cell *c = &v->cells[i];
            bool its = (sends && c->from == best) || (takes && c->to == best);
            if (done[i] || !c->s->wrong || (!its && (sends || takes)))
                continue;
            done[i] = true;
            left--;
            if (!its)
                rc = rc ? rc : add(v, MU_SUSPECT_LINK, MU_DIR_NONE, c, c->to, 1);
            else if (!shown || (sends && c->from == best))
                shown = c;
        }
        if (shown && sends) /* what its memory or its processor spoils, it also receives */
            rc = add(v, MU_SUSPECT_RANK, takes ? MU_DIR_BOTH : MU_DIR_OUT, shown, -1, (double)o.wrong / o.all);
        else if (shown)
            rc = add(v, MU_SUSPECT_RANK, MU_DIR_IN, shown, -1, (double)n.wrong / n.all);
    }
    return rc;
}
