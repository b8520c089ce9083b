/* Choosing nodes on a tree, exactly, and putting ranks in order. place.h has what is minimised and why this does it. */
#include "topo/place.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/base/clean.h"
#include "topo/fabric_impl.h"
#include "topo/place_impl.h"

#define TABLES_MAX (64u << 20) /* entries: a chain of ten thousand switches would need more */

/* One combination on the way to F_v: with nothing, the hosts of v itself; then its leaves, all at once; then each
 * other child. */
struct stage {
    int child;         /* -1: v's own hosts; -2: its leaves */
    size_t table, len; /* what holds after it, in tables */
};

struct work {
    const struct mu_place *p;
    const int *size;
    int want;
    int *direct, *below;   /* free on v itself; on v and below it */
    int *leaves, *nleaves; /* children of v that are leaves with something free, fullest first; parallel to p->child */
    int *tables;
    size_t ntables, captables;
    struct stage *stages;
    size_t nstages, capstages;
    size_t *first_stage; /* of v; its last one holds F_v */
    int *need;           /* j of a vertex that is used; -1: it is not */
    int *take;           /* how much of v's own hosts */
};

static int no_memory(struct mu_err *err)
{
    return mu_err_set(err, MUSTER_ENOMEM, "out of memory");
}

static void work_free(struct work *w)
{
    free(w->direct);
    free(w->below);
    free(w->leaves);
    free(w->nleaves);
    free(w->tables);
    free(w->stages);
    free(w->first_stage);
    free(w->need);
    free(w->take);
}

static int size_of(const struct work *w, int host)
{
    return w->size ? w->size[host] : 1;
}

static bool is_leaf(const struct mu_place *p, int v)
{
    return p->first_child[v] == p->first_child[v + 1];
}

/* --- what is free ----------------------------------------------------------------------------------------------- */

struct full {
    int free, v;
};

static int fullest(const void *a, const void *b)
{
    const struct full *x = a, *y = b;

    if (x->free != y->free)
        return x->free > y->free ? -1 : 1;
    return (x->v > y->v) - (x->v < y->v);
}

static int count_free(struct work *w, struct mu_err *err)
{
    const struct mu_place *p = w->p;
    size_t n = (size_t)p->nv + 1;
    mu_auto_free struct full *sorted = calloc(n, sizeof *sorted);

    w->direct = calloc(n, sizeof(int));
    w->below = calloc(n, sizeof(int));
    w->leaves = calloc(n, sizeof(int));
    w->nleaves = calloc(n, sizeof(int));
    w->first_stage = calloc(n + 1, sizeof(size_t));
    w->need = calloc(n, sizeof(int));
    w->take = calloc(n, sizeof(int));
    if (!sorted || !w->direct || !w->below || !w->leaves || !w->nleaves || !w->first_stage || !w->need || !w->take)
        return no_memory(err);
    for (int v = 0; v < p->nv; v++) {
        for (int i = p->first_host[v]; i < p->first_host[v + 1]; i++)
            w->direct[v] += size_of(w, p->host[i]);
        w->below[v] += w->direct[v];
        if (p->parent[v] >= 0)
            w->below[p->parent[v]] += w->below[v];
        int k = 0;
        for (int i = p->first_child[v]; i < p->first_child[v + 1]; i++)
            if (is_leaf(p, p->child[i]) && w->direct[p->child[i]])
                sorted[k++] = (struct full){w->direct[p->child[i]], p->child[i]};
        if (k)
            qsort(sorted, (size_t)k, sizeof *sorted, fullest);
        for (int i = 0; i < k; i++)
            w->leaves[p->first_child[v] + i] = sorted[i].v;
        w->nleaves[v] = k;
    }
    return 0;
}

/* --- tables ----------------------------------------------------------------------------------------------------- */

static int grow(struct work *w, size_t more, struct mu_err *err)
{
    if (w->ntables + more > TABLES_MAX)
        return mu_err_set(err, MUSTER_ENOSYS, "%s: too many switches below one another", w->p->f->source);
    if (w->ntables + more > w->captables) {
        size_t cap = 2 * (w->ntables + more) + 1024;
        int *t = realloc(w->tables, cap * sizeof *t);
        if (!t)
            return no_memory(err);
        w->tables = t;
        w->captables = cap;
    }
    if (w->nstages == w->capstages) {
        size_t cap = 2 * w->capstages + 64;
        struct stage *s = realloc(w->stages, cap * sizeof *s);
        if (!s)
            return no_memory(err);
        w->stages = s;
        w->capstages = cap;
    }
    return 0;
}

/* Entries behind the first that suffices are never wanted: they cost more. */
static void close_stage(struct work *w, int child, size_t len)
{
    size_t keep = 1;

    while (keep < len && w->tables[w->ntables + keep - 1] < w->want)
        keep++;
    w->stages[w->nstages++] = (struct stage){child, w->ntables, keep};
    w->ntables += keep;
}

static int add_leaves(struct work *w, int v, struct mu_err *err)
{
    const struct stage s = w->stages[w->nstages - 1];
    size_t n = (size_t)w->nleaves[v];
    int rc = grow(w, n + 1, err), sum = w->tables[s.table];

    if (rc)
        return rc;
    for (size_t t = 0; t <= n; t++) {
        w->tables[w->ntables + t] = sum;
        if (t < n)
            sum += w->direct[w->leaves[w->p->first_child[v] + (int)t]];
    }
    close_stage(w, -2, n + 1);
    return 0;
}

static int add_child(struct work *w, int c, struct mu_err *err)
{
    const struct stage s = w->stages[w->nstages - 1], f = w->stages[w->first_stage[c + 1] - 1];
    size_t len = s.len + f.len;
    int rc = grow(w, len, err);

    if (rc)
        return rc;
    const int *a = w->tables + s.table, *b = w->tables + f.table;
    int *out = w->tables + w->ntables;
    memset(out, 0, len * sizeof *out);
    for (size_t i = 0; i < s.len; i++) {
        if (a[i] > out[i])
            out[i] = a[i];
        for (size_t j = 0; j < f.len; j++)
            if (a[i] + b[j] > out[i + j + 1])
                out[i + j + 1] = a[i] + b[j];
    }
    close_stage(w, c, len);
    return 0;
}

static int fill_tables(struct work *w, struct mu_err *err)
{
    const struct mu_place *p = w->p;

    for (int v = 0; v < p->nv; v++) {
        int rc = grow(w, 1, err);
        if (rc)
            return rc;
        w->first_stage[v] = w->nstages;
        w->tables[w->ntables] = w->direct[v];
        close_stage(w, -1, 1);
        if (w->nleaves[v] && (rc = add_leaves(w, v, err)))
            return rc;
        for (int i = p->first_child[v]; i < p->first_child[v + 1]; i++)
            if (!is_leaf(p, p->child[i]) && w->below[p->child[i]])
                if ((rc = add_child(w, p->child[i], err)))
                    return rc;
        w->first_stage[v + 1] = w->nstages;
    }
    return 0;
}

/* --- the choice ------------------------------------------------------------------------------------------------- */

/* The vertex that holds the job, or -1: nowhere are so many free. */
static int choose_apex(const struct work *w)
{
    int best = -1;
    size_t least = 0;

    for (int v = 0; v < w->p->nv; v++) {
        if (w->below[v] < w->want)
            continue;
        size_t j = w->stages[w->first_stage[v + 1] - 1].len - 1;
        if (best < 0 || j < least || (j == least && w->below[v] < w->below[best]))
            best = v, least = j;
    }
    return best;
}

/* Back through the tables: which vertices are used, all of what is free on each. */
static void trace(struct work *w, int apex)
{
    const struct mu_place *p = w->p;

    for (int v = 0; v < p->nv; v++)
        w->need[v] = -1;
    w->need[apex] = (int)w->stages[w->first_stage[apex + 1] - 1].len - 1;
    for (int v = apex; v >= 0; v--) {
        if (w->need[v] < 0)
            continue;
        int j = w->need[v];
        w->take[v] = w->direct[v];
        for (size_t s = w->first_stage[v + 1]; s-- > w->first_stage[v] + 1;) {
            const struct stage *st = &w->stages[s], *prev = st - 1;
            int value = w->tables[st->table + (size_t)j];
            if (st->child == -2) {
                for (int t = 0; t < j; t++) {
                    int leaf = w->leaves[p->first_child[v] + t];
                    w->need[leaf] = 0;
                    w->take[leaf] = w->direct[leaf];
                }
                j = 0;
                continue;
            }
            if ((size_t)j < prev->len && w->tables[prev->table + (size_t)j] == value)
                continue; /* without this child */
            const struct stage *f = &w->stages[w->first_stage[st->child + 1] - 1];
            for (size_t b = 0; b < f->len && (int)b < j; b++) {
                size_t a = (size_t)j - 1 - b;
                if (a < prev->len && w->tables[prev->table + a] + w->tables[f->table + b] == value) {
                    w->need[st->child] = (int)b;
                    j = (int)a;
                    break;
                }
            }
        }
    }
}

/* Hosts on switches above others, often those that manage the fabric, are not taken when leaves have enough. Takes what
 * it gives off *slack; returns what is left free on one that is used in part. */
static int give_inner(struct work *w, int apex, int *slack)
{
    for (int v = apex; *slack > 0 && v >= 0; v--)
        if (w->need[v] >= 0 && !is_leaf(w->p, v) && w->take[v]) {
            int less = w->take[v] < *slack ? w->take[v] : *slack;
            w->take[v] -= less;
            *slack -= less;
            if (w->take[v])
                return less;
        }
    return 0;
}

/* More than wanted may be taken now: `slack` less is. As all that is used is needed, one leaf can give all of it, and a
 * smaller one that would do may stand in for it. Of like ones that by which more leaves hold whole groups. Returns what
 * is left free on that leaf. */
static int give_back(struct work *w, int apex, int slack, int group)
{
    const struct mu_place *p = w->p;
    int best_left = give_inner(w, apex, &slack), best_odd = 0, from = -1, instead = -1;

    for (int v = apex; slack > 0 && v >= 0; v--) {
        if (w->need[v] < 0)
            continue;
        int *leaf = w->leaves + p->first_child[v], n = w->nleaves[v], used = 0;
        while (used < n && w->need[leaf[used]] >= 0)
            used++;
        for (int i = 0; i < used; i++) {
            int rest = w->direct[leaf[i]] - slack, lo = used, hi = n; /* the last unused one that holds the rest */
            if (rest <= 0)
                continue;
            while (lo < hi) {
                int mid = (lo + hi) / 2;
                if (w->direct[leaf[mid]] >= rest)
                    lo = mid + 1;
                else
                    hi = mid;
            }
            /* itself, unless a smaller one does; of like ones the first */
            int k = lo > used && w->direct[leaf[lo - 1]] < w->direct[leaf[i]] ? lo - 1 : i;
            int left = w->direct[leaf[k]] - rest;
            int odd = group > 1 ? (rest % group != 0) - (w->direct[leaf[i]] % group != 0) : 0;
            if (from >= 0 && (left > best_left || (left == best_left && odd > best_odd)))
                continue;
            while (k > used && w->direct[leaf[k - 1]] == w->direct[leaf[k]])
                k--;
            best_left = left, best_odd = odd, from = leaf[i], instead = leaf[k];
        }
    }
    if (from >= 0) {
        int rest = w->direct[from] - slack;
        w->need[from] = -1;
        w->take[from] = 0;
        w->need[instead] = 0;
        w->take[instead] = rest;
    } else if (slack > 0) { /* it is one leaf alone */
        w->take[apex] -= slack;
        best_left = slack;
    }
    return best_left;
}

/* --- order ------------------------------------------------------------------------------------------------------ */

static int largest(const void *a, const void *b)
{
    return fullest(a, b);
}

/* Of the hosts those for `take`: all sizes alike, the first ones; otherwise the largest, and at the end the smallest
 * that is enough. Returns how many. */
static int pick_hosts(const struct work *w, const int *host, int nhosts, int take, int *out, struct full *scratch)
{
    int n = 0, k = 0;

    for (int i = 0; i < nhosts; i++)
        if (size_of(w, host[i]) > 0)
            scratch[n++] = (struct full){size_of(w, host[i]), host[i]};
    if (n)
        qsort(scratch, (size_t)n, sizeof *scratch, largest);
    for (int i = 0; i < n && take > 0; i++) {
        int last = i;
        while (last + 1 < n && scratch[i].free >= take && scratch[last + 1].free >= take &&
               scratch[last + 1].free < scratch[last].free)
            last++;
        out[k++] = scratch[last].v;
        take -= scratch[last].free;
    }
    return k;
}

/* Sizes differ, and what was picked leaf by leaf holds more than is wanted: sets those to -1 that can be spared, the
 * smallest first. As every leaf in use is needed none loses all. */
static void drop_spare(const struct work *w, int *host, int n)
{
    int spare = -w->want;

    for (int i = 0; i < n; i++)
        spare += size_of(w, host[i]);
    while (spare > 0) {
        int least = -1;
        for (int i = 0; i < n; i++)
            if (host[i] >= 0 && (least < 0 || size_of(w, host[i]) < size_of(w, host[least])))
                least = i;
        if (least < 0 || size_of(w, host[least]) > spare)
            break;
        spare -= size_of(w, host[least]);
        host[least] = -1;
    }
}

static int pack(int *host, int n)
{
    int k = 0;

    for (int i = 0; i < n; i++)
        if (host[i] >= 0)
            host[k++] = host[i];
    return k;
}

/* The next child, so that groups end where leaves do as often as possible. used: children with `count` hosts each. */
static int next_child(const int *used, const int *count, int n, int at, int group)
{
    int missing = group > 1 ? (group - at % group) % group : 0, best = -1, best_score = 0;

    if (group <= 1)
        return 0;
    for (int i = 0; i < n; i++) {
        int c = count[used[i]], score;
        if (missing == 0)
            score = c % group == 0 ? 1 << 20 : c % group;
        else
            score = c % group == missing ? 1 << 20 : c > missing ? 1 : 0;
        if (best < 0 || score > best_score)
            best = i, best_score = score;
    }
    return best;
}

/* Depth first from the apex; a switch's own hosts after those below it, so that groups begin where leaves do. */
static int put_in_order(const struct work *w, int apex, int group, struct mu_place_result *r, struct mu_err *err)
{
    const struct mu_place *p = w->p;
    size_t nv = (size_t)p->nv + 1;
    mu_auto_free int *count = calloc(nv, sizeof(int)), *start = calloc(nv, sizeof(int)),
                     *stack = calloc(nv, sizeof(int));
    mu_auto_free int *left = calloc(nv, sizeof(int)), *pool = calloc(nv, sizeof(int));
    mu_auto_free int *picked = calloc((size_t)p->f->nhosts + 1, sizeof(int)),
                     *hosts = calloc((size_t)p->f->nhosts + 1, sizeof(int));
    mu_auto_free struct full *scratch = calloc((size_t)p->f->nhosts + 1, sizeof *scratch);
    int n = 0, top = 0, filled = 0, at = 0;

    if (!count || !start || !stack || !left || !pool || !picked || !hosts || !scratch)
        return no_memory(err);
    /* children of the used ones, as lists in pool; picked: hosts of each used vertex, from start */
    for (int v = 0; v <= apex; v++) {
        if (w->need[v] < 0)
            continue;
        start[v] = n;
        int own = pick_hosts(w, p->host + p->first_host[v], p->first_host[v + 1] - p->first_host[v], w->take[v],
                             picked + n, scratch);
        n += own;
        left[v] = own;
    }
    drop_spare(w, picked, n);
    n = 0;
    for (int v = 0; v <= apex; v++) {
        if (w->need[v] < 0)
            continue;
        left[v] = pack(picked + start[v], left[v]); /* for now: how many are its own */
        n += left[v];
        count[v] += left[v];
        if (v != apex)
            count[p->parent[v]] += count[v];
    }
    stack[top++] = apex;
    mu_auto_free int *first = calloc(nv, sizeof(int)), *nkids = calloc(nv, sizeof(int));
    if (!first || !nkids)
        return no_memory(err);
    for (int v = apex; v >= 0; v--) {
        first[v] = filled;
        for (int i = p->first_child[v]; w->need[v] >= 0 && i < p->first_child[v + 1]; i++)
            if (w->need[p->child[i]] >= 0 && count[p->child[i]])
                pool[filled++] = p->child[i];
        nkids[v] = filled - first[v];
    }
    while (top) {
        int v = stack[top - 1];
        if (!nkids[v]) {
            memcpy(hosts + at, picked + start[v], (size_t)left[v] * sizeof(int));
            at += left[v];
            top--;
            continue;
        }
        int *kids = pool + first[v], i = next_child(kids, count, nkids[v], at, group), c = kids[i];
        memmove(kids + i, kids + i + 1, (size_t)(--nkids[v] - i) * sizeof(int));
        stack[top++] = c;
    }
    r->n = n;
    r->hosts = MU_STEAL(hosts, NULL);
    return 0;
}

/* As the shares say, one after the other. */
static int put_shares(const struct work *w, const struct mu_share *s, int ns, const int *host,
                      struct mu_place_result *r, struct mu_err *err)
{
    mu_auto_free int *hosts = calloc((size_t)w->p->f->nhosts + 1, sizeof(int));
    mu_auto_free struct full *scratch = calloc((size_t)w->p->f->nhosts + 1, sizeof *scratch);
    mu_auto_free int *took = calloc((size_t)w->p->nunits + 1, sizeof(int));
    int n = 0;

    if (!hosts || !scratch || !took)
        return no_memory(err);
    for (int i = 0; i < ns; i++) {
        n += pick_hosts(w, host + s[i].first, s[i].n, s[i].take, hosts + n, scratch);
        took[s[i].v] += s[i].take;
    }
    for (int i = 0; i < ns; i++)
        if (w->direct[s[i].v] - took[s[i].v] > r->left)
            r->left = w->direct[s[i].v] - took[s[i].v];
    drop_spare(w, hosts, n);
    r->n = pack(hosts, n);
    r->hosts = MU_STEAL(hosts, NULL);
    return 0;
}

static int split_groups(const struct mu_place *p, const struct mu_place_result *r, int group)
{
    int split = 0;

    for (int g = 0; group > 1 && g < r->n; g += group)
        for (int i = g + 1; i < g + group && i < r->n; i++)
            if (mu_place_leaf(p, r->hosts[i]) != mu_place_leaf(p, r->hosts[g])) {
                split++;
                break;
            }
    return split;
}

/* --- all of it -------------------------------------------------------------------------------------------------- */

static int not_enough(const struct work *w, struct mu_err *err)
{
    int all = 0, most = 0;

    for (int v = 0; v < w->p->nv; v++) {
        if (w->p->parent[v] < 0)
            all += w->below[v];
        if (w->below[v] > most)
            most = w->below[v];
    }
    if (all >= w->want)
        return mu_err_set(err, MUSTER_ENODE, "%d nodes are free, but only %d of them are connected; %d are wanted", all,
                          most, w->want);
    return mu_err_set(err, MUSTER_ENODE, "%d node%s free; %d %s wanted", all, all == 1 ? " is" : "s are", w->want,
                      w->want == 1 ? "is" : "are");
}

static int choose(struct work *w, const struct mu_place_request *q, struct mu_place_result *r, struct mu_err *err)
{
    const struct mu_place *p = w->p;
    int rc, apex, group = q->group;

    if ((rc = count_free(w, err)) || (rc = fill_tables(w, err)))
        return rc;
    if ((apex = choose_apex(w)) < 0)
        return not_enough(w, err);
    trace(w, apex);
    int taken = 0;
    for (int v = 0; v <= apex; v++)
        taken += w->need[v] >= 0 ? w->take[v] : 0;
    r->bound = 2L * w->need[apex];
    r->left = is_leaf(p, apex) ? w->direct[apex] - w->want : 0;
    int left = give_back(w, apex, taken - w->want, group);
    if (taken > w->want && !is_leaf(p, apex))
        r->left = left;
    if (p->tree) {
        r->optimal = true;
        return put_in_order(w, apex, group, r, err);
    }

    mu_auto_free struct mu_share *seed = calloc((size_t)p->nunits + 1, sizeof *seed);
    mu_auto_free struct mu_share *shares = calloc((size_t)p->f->nhosts + 1, sizeof *shares);
    mu_auto_free int *host = calloc((size_t)p->f->nhosts + 1, sizeof *host);
    int nseed = 0, n = 0;
    if (!seed || !shares || !host)
        return no_memory(err);
    for (int v = 0; v < p->nunits; v++)
        if (w->need[v] >= 0 && w->take[v])
            seed[nseed++] = (struct mu_share){v, w->take[v], 0, 0};
    r->left = 0;
    if ((rc = mu_place_graph(p, q, seed, nseed, shares, &n, host, &r->bound, &r->optimal, err)))
        return rc;
    return put_shares(w, shares, n, host, r, err);
}

static int choose_once(const struct mu_place *p, const struct mu_place_request *q, struct mu_place_result *r,
                       struct mu_err *err)
{
    struct work w = {.p = p, .size = q->size, .want = q->want};
    int rc = choose(&w, q, r, err);

    work_free(&w);
    if (rc)
        mu_place_result_free(r);
    else
        r->cost = mu_place_cost(p, r->hosts, r->n);
    return rc;
}

/* The cost of the ring when `host` stands in it before place i of n; FAR: it cannot. */
static long with(const struct mu_place *p, const int *hosts, int n, int i, int host)
{
    const long far = 1L << 40;

    if (n == 0)
        return 0;
    int before = hosts[(i + n - 1) % n], behind = hosts[i % n];
    int a = mu_place_distance(p, before, host), b = mu_place_distance(p, host, behind),
        old = mu_place_distance(p, before, behind);
    return (a < 0 || b < 0 ? far : a + b) - (old < 0 ? far : old);
}

/* Strays are not where the tree has them: each goes to where it costs least, of like places to the last. */
static int insert_strays(const struct mu_place *p, struct mu_place_result *r, struct mu_err *err)
{
    mu_auto_free int *stray = calloc((size_t)r->n + 1, sizeof *stray);
    int n = 0, strays = 0;

    if (!stray)
        return no_memory(err);
    for (int i = 0; i < r->n; i++)
        if (p->stray_unit[r->hosts[i]] >= 0)
            stray[strays++] = r->hosts[i];
        else
            r->hosts[n++] = r->hosts[i];
    for (int s = 0; s < strays; s++, n++) {
        int best = n;
        for (int i = n; i > 0; i--)
            if (with(p, r->hosts, n, i, stray[s]) < with(p, r->hosts, n, best, stray[s]))
                best = i;
        memmove(r->hosts + best + 1, r->hosts + best, (size_t)(n - best) * sizeof(int));
        r->hosts[best] = stray[s];
    }
    r->cost = mu_place_cost(p, r->hosts, r->n);
    return 0;
}

/* On a tree but for strays: best without them, or with those of one switch alone, or with all, whichever costs least.
 * On the tree they are nearer than in truth, so its cost with all of them is a bound. */
static int choose_strays(const struct mu_place *p, const struct mu_place_request *q, struct mu_place_result *r,
                         struct mu_err *err)
{
    enum { NONE = -1, TRIES = 16 };
    mu_auto_free int *size = calloc((size_t)p->f->nhosts + 1, sizeof *size);
    struct mu_place_request some = *q;
    struct mu_place_result best = {0};
    int rc, tries = 0;

    if (!size)
        return no_memory(err);
    some.size = size;
    if ((rc = choose_once(p, q, &best, err)))
        return rc;
    long bound = best.bound;
    rc = insert_strays(p, &best, err);
    for (int unit = NONE; !rc && unit < p->nunits && tries < TRIES; unit++) {
        struct mu_place_result one = {0};
        bool any = unit == NONE;
        if (unit != NONE && best.cost == bound)
            break;
        for (int h = 0; h < p->f->nhosts; h++) {
            size[h] = p->stray_unit[h] < 0 || p->stray_unit[h] == unit ? q->size ? q->size[h] : 1 : 0;
            any |= unit != NONE && p->stray_unit[h] == unit && size[h] > 0;
        }
        if (!any)
            continue;
        tries++;
        if ((rc = choose_once(p, &some, &one, err)) == MUSTER_ENODE)
            rc = 0;
        else if (!rc && !(rc = insert_strays(p, &one, err)) && one.cost >= 0 &&
                 (best.cost < 0 || one.cost < best.cost || (one.cost == best.cost && unit == NONE))) {
            const struct mu_place_result was = best;
            best = one;
            one = was;
        }
        mu_place_result_free(&one);
    }
    if (!rc && best.cost < 0)
        rc = mu_err_set(err, MUSTER_ENODE, "%s: no ring of %d free nodes was found in which neighbours are connected",
                        p->f->source, q->want);
    if (rc) {
        mu_place_result_free(&best);
        return rc;
    }
    best.bound = bound;
    best.optimal = best.cost == bound;
    *r = best;
    return 0;
}

int mu_place_choose(const struct mu_place *p, const struct mu_place_request *q, struct mu_place_result *out,
                    struct mu_err *err)
{
    struct mu_place_result r = {0};

    if (q->want < 1)
        return mu_err_set(err, MUSTER_EARG, "at least one node must be wanted");
    int rc = p->stray_unit ? choose_strays(p, q, &r, err) : choose_once(p, q, &r, err);
    if (rc) {
        mu_place_result_free(&r);
        return rc;
    }
    r.groups_split = split_groups(p, &r, q->group);
    if (r.cost == r.bound)
        r.optimal = true;
    *out = r;
    return 0;
}

void mu_place_result_free(struct mu_place_result *r)
{
    free(r->hosts);
    *r = (struct mu_place_result){0};
}
