/* What is measured again: suspects with partners that are clear, and pairs of clear ones beside them, so that what the
 * whole cluster suffers from at that time accuses nobody. */
#include <stdlib.h>
#include <string.h>

#include "bench/judge/blame_priv.h"
#include "runtime/base/clean.h"

enum { PARTNERS = 3, CONTROLS = 4 };

void mu_touched_free(struct mu_touched *t)
{
    free(t->host);
    free(t->node);
    free(t->clear);
}

bool mu_touched_make(struct mu_touched *t, const struct mu_blame *b, const struct mu_data *d)
{
    *t = (struct mu_touched){.host = calloc(d->nhosts + 1, 1),
                             .node = calloc(d->nhosts + 1, 1),
                             .clear = calloc(d->nhosts + 1, sizeof *t->clear)};
    if (!t->host || !t->node || !t->clear)
        return false;
    for (unsigned i = 0; i < b->n; i++) {
        const struct mu_suspect *s = &b->v[i];
        if (s->state == MU_CLEARED || s->kind == MU_SUSPECT_BOUNDARY)
            continue;
        t->host[s->a] = true;
        if (s->kind == MU_SUSPECT_LINK)
            t->host[s->b] = true;
        else
            t->node[s->a] = true;
    }
    for (uint32_t h = 0; h < d->nhosts; h++)
        if (!t->host[h])
            t->clear[t->nclear++] = (int32_t)h;
    for (uint32_t h = 0; h < d->nhosts && t->nclear < 2; h++) /* better than nobody */
        if (!t->node[h] && t->host[h])
            t->clear[t->nclear++] = (int32_t)h;
    return true;
}

bool mu_blame_crosses(const struct mu_data *d, const struct mu_suspect *s, int32_t from, int32_t to)
{
    int32_t a = d->group[from], b = d->group[to];

    return (a == s->a && b == s->b) || (s->dir == MU_DIR_BOTH && a == s->b && b == s->a);
}

bool mu_blame_is_control(const struct mu_touched *t, const struct mu_blame *b, const struct mu_data *d, int32_t from,
                         int32_t to)
{
    if (t->node[from] || (to >= 0 && t->node[to]))
        return false;
    for (unsigned i = 0; i < b->n && to >= 0; i++) {
        const struct mu_suspect *s = &b->v[i];
        if (s->state == MU_CLEARED)
            continue;
        if ((s->kind == MU_SUSPECT_LINK && s->a == from && s->b == to) ||
            (s->kind == MU_SUSPECT_BOUNDARY && mu_blame_crosses(d, s, from, to)))
            return false;
    }
    return true;
}

/* --- what to measure -----------------------------------------------------------------------------------------------
 */

struct asks {
    const struct mu_data *d;
    struct mu_ask *v;
    unsigned n, cap;
    uint32_t *next; /* of each host: its first wave that is free */
    bool failed;
};

static void ask(struct asks *a, const struct mu_suspect *s, int32_t from, int32_t to)
{
    uint32_t test = a->d->tests[s->test].of; /* of a trend: what it is the trend of */

    if (from == to)
        return;
    for (unsigned i = a->n; i--;)
        if (a->v[i].test == test && a->v[i].size == s->size && a->v[i].from == from && a->v[i].to == to)
            return;
    if (a->n == a->cap) {
        unsigned cap = a->cap ? a->cap * 2 : 32;
        struct mu_ask *v = realloc(a->v, cap * sizeof *v);
        a->failed = a->failed || !v;
        if (!v)
            return;
        a->v = v;
        a->cap = cap;
    }
    uint32_t wave = to >= 0 && a->next[to] > a->next[from] ? a->next[to] : a->next[from];
    a->next[from] = wave + 1;
    if (to >= 0)
        a->next[to] = wave + 1;
    a->v[a->n++] = (struct mu_ask){.test = test, .size = s->size, .from = from, .to = to, .wave = wave};
}

static int32_t clear_one(const struct mu_touched *t, unsigned k)
{
    return t->nclear ? t->clear[k % t->nclear] : -1;
}

/* The k-th host of a group, counted round and round; -1: it has none. */
static int32_t member(const struct mu_data *d, int32_t group, unsigned k)
{
    uint32_t n = 0;

    for (uint32_t h = 0; h < d->nhosts; h++)
        n += d->group[h] == group;
    k = n ? k % n : 0;
    for (uint32_t h = 0; h < d->nhosts; h++)
        if (d->group[h] == group && !k--)
            return (int32_t)h;
    return -1;
}

/* Pairs across, and pairs that stay on either side. */
static void ask_boundary(struct asks *a, const struct mu_data *d, const struct mu_suspect *s, unsigned turn)
{
    for (unsigned i = 0; i < PARTNERS; i++) {
        unsigned k = turn + 2 * i;
        int32_t from = member(d, s->a, k), to = member(d, s->b, k + i);
        if (from < 0 || to < 0)
            return;
        ask(a, s, from, to);
        if (s->dir == MU_DIR_BOTH)
            ask(a, s, to, from);
        ask(a, s, member(d, s->a, k + 1), from);
        ask(a, s, to, member(d, s->b, k + i + 1));
    }
}

static void ask_suspect(struct asks *a, const struct mu_touched *t, const struct mu_data *d, const struct mu_suspect *s,
                        unsigned turn)
{
    bool pair = s->pair || s->kind == MU_SUSPECT_LINK;

    if (s->kind == MU_SUSPECT_BOUNDARY) {
        ask_boundary(a, d, s, turn);
        return;
    }
    if (s->kind == MU_SUSPECT_LINK)
        ask(a, s, s->a, s->b);
    else if (!pair)
        ask(a, s, s->a, -1);
    for (unsigned k = 0; k < PARTNERS && pair && s->kind != MU_SUSPECT_LINK && t->nclear; k++) {
        int32_t with = clear_one(t, turn + k);
        if (s->dir & MU_DIR_OUT)
            ask(a, s, s->a, with);
        if (s->dir & MU_DIR_IN)
            ask(a, s, with, s->a);
    }
    for (unsigned k = 0; k < CONTROLS && t->nclear > 1; k++) {
        unsigned at = turn + PARTNERS + (pair ? 2 * k : k);
        ask(a, s, clear_one(t, at), pair ? clear_one(t, at + 1) : -1);
    }
}

int mu_blame_ask(const struct mu_blame *b, const struct mu_data *d, unsigned round, struct mu_ask **out, unsigned *n)
{
    struct mu_touched t;
    struct asks a = {.d = d, .next = calloc(d->nhosts + 1, sizeof *a.next)};
    bool good = mu_touched_make(&t, b, d) && a.next;

    for (unsigned i = 0; i < b->n && good; i++)
        if (b->v[i].state == MU_SUSPECTED)
            ask_suspect(&a, &t, d, &b->v[i], round * 5 + i * 7);
    mu_touched_free(&t);
    free(a.next);
    if (!good || a.failed) {
        free(a.v);
        return MUSTER_ENOMEM;
    }
    *out = a.v;
    *n = a.n;
    return 0;
}

/* node.cpu.fma.mean comes with node.cpu.fma. */
static size_t made_by(const char *name)
{
    static const char mean[] = ".mean";
    size_t n = strlen(name), m = sizeof mean - 1;

    return n > m && !strcmp(name + n - m, mean) ? n - m : n;
}

void mu_ask_tests(const struct mu_data *d, const struct mu_ask *v, unsigned n, struct mu_buf *out)
{
    for (unsigned i = 0; i < n; i++) {
        const char *name = d->tests[v[i].test].name;
        size_t len = made_by(name);
        bool known = strncmp(name, "node.", 5) != 0;
        for (unsigned k = 0; k < i && !known; k++) {
            const char *other = d->tests[v[k].test].name;
            known = made_by(other) == len && !memcmp(other, name, len);
        }
        if (!known)
            mu_buf_appendf(out, "%s%.*s", out->len ? "," : "", (int)len, name);
    }
}
