/* Choosing groups of hosts where distances are no tree's: exactly when few groups have free hosts, otherwise clusters
 * that are grown and then improved by 2-opt. */
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/clean.h"
#include "topo/fabric_impl.h"
#include "topo/place_impl.h"

enum {
    EXACT = 13,
    SINGLES = 512,  /* so many hosts are looked at one by one where a ring may have to pass units more than once */
    VERTICES = 4096 /* of more than that many parts no unit is made */
};

/* A unit with something free, or a part of it. */
struct vertex {
    int unit, capacity;
    int first, n; /* its hosts */
};

struct graph {
    const struct mu_place *p;
    int want, n;
    struct vertex *v; /* fullest first */
    long *effort;     /* distances that may still be looked at */
};

static int dist(const struct graph *g, int a, int b)
{
    return g->p->dist[(size_t)g->v[a].unit * (size_t)g->p->nunits + (size_t)g->v[b].unit];
}

static long ring(const struct graph *g, const int *tour, int n)
{
    long sum = 0;

    for (int i = 0; i < n; i++)
        sum += dist(g, tour[i], tour[(i + 1) % n]);
    return sum;
}

static bool closed(const struct graph *g, const int *tour, int n)
{
    for (int i = 0; i < n; i++)
        if (dist(g, tour[i], tour[(i + 1) % n]) >= MU_FAR)
            return false;
    return true;
}

static int no_ring(const struct graph *g, struct mu_err *err)
{
    return mu_err_set(err, MUSTER_ENODE, "%s: no ring of %d free nodes was found in which neighbours are connected",
                      g->p->f->source, g->want);
}

/* --- exact ------------------------------------------------------------------------------------------------------ */

/* Held and Karp's table over all subsets: path[s][k] is the shortest path from the lowest vertex of s over all of s to
 * k. Sets that could spare a vertex do not count: no shorter ring makes up for nodes that nobody wants. */
static long exact(const struct graph *g, int *tour, int *ntour, struct mu_err *err)
{
    size_t sets = (size_t)1 << g->n, n = (size_t)g->n;
    mu_auto_free long *path = malloc(sets * n * sizeof *path);
    const long far = 1L << 40;
    long best = far;
    size_t best_set = 0;
    int best_last = -1, best_free = 0;

    if (!path)
        return mu_err_set(err, MUSTER_ENOMEM, "out of memory");
    for (size_t s = 1; s < sets; s++) {
        int low = __builtin_ctzl(s), free = 0, least = 0;
        for (size_t k = 0; k < n; k++) {
            long *to = &path[s * n + k];
            *to = far;
            if (!(s >> k & 1))
                continue;
            free += g->v[k].capacity;
            least = g->v[k].capacity; /* the last one's */
            if ((int)k == low) {
                if (s == (size_t)1 << k)
                    *to = 0;
                continue;
            }
            size_t without = s & ~((size_t)1 << k);
            for (size_t j = 0; j < n; j++)
                if (without >> j & 1 && path[without * n + j] < far && dist(g, (int)j, (int)k) < MU_FAR) {
                    long d = path[without * n + j] + dist(g, (int)j, (int)k);
                    if (d < *to)
                        *to = d;
                }
        }
        if (free < g->want || free - least >= g->want)
            continue;
        for (size_t k = 0; k < n; k++) {
            if (path[s * n + k] >= far || dist(g, (int)k, low) >= MU_FAR)
                continue;
            long d = path[s * n + k] + dist(g, (int)k, low);
            if (d < best || (d == best && free < best_free))
                best = d, best_set = s, best_last = (int)k, best_free = free;
        }
    }
    if (best_last < 0)
        return no_ring(g, err);
    *ntour = 0;
    for (size_t s = best_set; best_last >= 0;) {
        tour[(*ntour)++] = best_last;
        size_t without = s & ~((size_t)1 << best_last);
        int next = -1;
        for (size_t j = 0; j < n; j++)
            if (without >> j & 1 && path[without * n + j] < far &&
                path[without * n + j] + dist(g, (int)j, best_last) == path[s * n + (size_t)best_last]) {
                next = (int)j;
                break;
            }
        s = without;
        best_last = next;
    }
    return best;
}

/* --- grown ------------------------------------------------------------------------------------------------------ */

/* Reverses stretches of the tour while that makes it shorter. */
static void two_opt(const struct graph *g, int *tour, int n)
{
    for (int pass = 0, better = 1; better && pass < 30; pass++) {
        better = 0;
        for (int i = 0; i + 1 < n && *g->effort > 0; i++, *g->effort -= n - i)
            for (int j = i + 1; j < n; j++) {
                int a = tour[i], b = tour[i + 1], c = tour[j], d = tour[(j + 1) % n];
                if (a == d || dist(g, a, c) + dist(g, b, d) >= dist(g, a, b) + dist(g, c, d))
                    continue;
                for (int x = i + 1, y = j; x < y; x++, y--) {
                    int t = tour[x];
                    tour[x] = tour[y], tour[y] = t;
                }
                better = 1;
            }
    }
}

/* What is in `in` as a tour: always on to the nearest, then improved. */
static long make_tour(const struct graph *g, const char *in, int start, int *tour, int *ntour, char *seen)
{
    int n = 0;

    memset(seen, 0, g->n > 0 ? (size_t)g->n : 0);
    for (int at = start; at >= 0;) {
        int next = -1;
        tour[n++] = at;
        seen[at] = 1;
        *g->effort -= g->n;
        for (int k = 0; k < g->n; k++)
            if (in[k] && !seen[k] && (next < 0 || dist(g, at, k) < dist(g, at, next)))
                next = k;
        at = next;
    }
    two_opt(g, tour, n);
    *ntour = n;
    return ring(g, tour, n);
}

/* Takes out what can be spared, the emptiest first. False: not enough. */
static bool prune(const struct graph *g, char *in)
{
    int have = 0;

    for (int k = 0; k < g->n; k++)
        have += in[k] ? g->v[k].capacity : 0;
    if (have < g->want)
        return false;
    for (int k = g->n - 1; k >= 0; k--)
        if (in[k] && have - g->v[k].capacity >= g->want) {
            in[k] = 0;
            have -= g->v[k].capacity;
        }
    return true;
}

/* A cluster around `start`: always the unit that is nearest to it, of those the fullest. False: not enough in reach. */
static bool grow(const struct graph *g, int start, char *in, int *near)
{
    int have = 0;

    memset(in, 0, (size_t)g->n);
    for (int k = 0; k < g->n; k++)
        near[k] = MU_FAR;
    for (int at = start; at >= 0;) {
        int next = -1;
        in[at] = 1;
        if ((have += g->v[at].capacity) >= g->want)
            break;
        *g->effort -= g->n;
        for (int k = 0; k < g->n; k++) {
            if (in[k])
                continue;
            if (dist(g, at, k) < near[k])
                near[k] = dist(g, at, k);
            if (near[k] < MU_FAR && (next < 0 || near[k] < near[next]))
                next = k;
        }
        at = next;
    }
    return prune(g, in);
}

static int first_in(const struct graph *g, const char *in)
{
    for (int k = 0; k < g->n; k++)
        if (in[k])
            return k;
    return -1;
}

static int grown(const struct graph *g, const char *seed, int *best, int *nbest, struct mu_err *err)
{
    size_t n = (size_t)g->n + 1;
    mu_auto_free char *in = calloc(n, 1), *seen = calloc(n, 1);
    mu_auto_free int *near = calloc(n, sizeof(int)), *tour = calloc(n, sizeof(int));
    int starts = g->n > 128 ? 16 : 64, ntour;
    long least = -1;

    if (!in || !seen || !near || !tour)
        return mu_err_set(err, MUSTER_ENOMEM, "out of memory");
    for (int i = -1; i < starts && i < g->n; i++) {
        if (least >= 0 && *g->effort <= 0)
            break;
        if (i < 0) {
            memcpy(in, seed, (size_t)g->n);
            if (!prune(g, in))
                continue;
        }
        if (i >= 0 && !grow(g, g->n <= starts ? i : i * (g->n / starts), in, near))
            continue;
        long cost = make_tour(g, in, first_in(g, in), tour, &ntour, seen);
        if (least < 0 || cost < least) {
            least = cost;
            *nbest = ntour;
            memcpy(best, tour, (size_t)ntour * sizeof(int));
        }
    }
    return least < 0 || !closed(g, best, *nbest) ? no_ring(g, err) : 0;
}

/* --- bound ------------------------------------------------------------------------------------------------------ */

static int by_value(const void *a, const void *b)
{
    return (*(const int *)a > *(const int *)b) - (*(const int *)a < *(const int *)b);
}

static long bound_of(const struct graph *g, int *near)
{
    int m = 0, have = 0;
    long sum = 0;

    while (m < g->n && have < g->want)
        have += g->v[m++].capacity;
    if (m < 2)
        return 0;
    for (int a = 0; a < g->n; a++) {
        near[a] = MU_FAR;
        for (int b = 0; b < g->n; b++)
            if (a != b && dist(g, a, b) < near[a])
                near[a] = dist(g, a, b);
    }
    qsort(near, (size_t)g->n, sizeof *near, by_value);
    for (int i = 0; i < m; i++)
        sum += near[i];
    return sum;
}

/* --- all of it -------------------------------------------------------------------------------------------------- */

static int fuller(const void *a, const void *b)
{
    const struct vertex *x = a, *y = b;

    if (x->capacity != y->capacity)
        return x->capacity > y->capacity ? -1 : 1;
    return (x->first > y->first) - (x->first < y->first);
}

/* Whether no way over a third unit is shorter. */
static bool metric(const struct graph *g)
{
    if (g->p->metric)
        return true;
    for (int a = 0; g->n <= 64 && a < g->n; a++)
        for (int b = 0; b < a; b++)
            for (int c = 0; c < g->n; c++)
                if (dist(g, a, c) + dist(g, c, b) < dist(g, a, b))
                    return false;
    return g->n <= 64;
}

/* Vertices with up to so many parts a unit: single hosts, and the last one all others. */
static void fill(struct graph *g, int parts, const int *size, int *host)
{
    const struct mu_place *p = g->p;
    int at = 0;

    g->n = 0;
    for (int u = 0; u < p->nunits; u++)
        for (int i = p->first_host[u], k = 0; i < p->first_host[u + 1]; i++) {
            int c = size ? size[p->host[i]] : 1;
            if (c <= 0)
                continue;
            if (k++ < parts)
                g->v[g->n++] = (struct vertex){u, 0, at, 0};
            struct vertex *v = &g->v[g->n - 1];
            v->capacity += c;
            v->n++;
            host[at++] = p->host[i];
        }
    if (g->n)
        qsort(g->v, (size_t)g->n, sizeof *g->v, fuller);
}

int mu_place_graph(const struct mu_place *p, const struct mu_place_request *q, const struct mu_share *seed, int nseed,
                   struct mu_share *shares, int *nshares, int *host, long *bound, bool *optimal, struct mu_err *err)
{
    long effort = q->effort > 0 ? q->effort : LONG_MAX;
    int ntour = 0, rc = 0, hosts = 0;
    size_t n = (size_t)p->f->nhosts + 1;
    mu_auto_free int *tour = calloc(n, sizeof(int)), *near = calloc(n, sizeof(int));
    mu_auto_free struct vertex *v = calloc(n, sizeof *v);
    mu_auto_free char *in = calloc(n, 1);
    struct graph g = {p, q->want, 0, v, &effort};

    if (!tour || !near || !v || !in)
        return mu_err_set(err, MUSTER_ENOMEM, "out of memory");
    fill(&g, 1, q->size, host);
    long least = bound_of(&g, near);
    for (int k = 0; k < g.n; k++)
        hosts += v[k].n;
    if (!metric(&g)) { /* a ring may have to come back to a unit, with another host of it */
        int parts = VERTICES / g.n < 3 ? VERTICES / g.n : 3;
        fill(&g, hosts <= SINGLES ? hosts : parts, q->size, host);
    }
    *optimal = g.n <= EXACT;
    if (*optimal) {
        long cost = exact(&g, tour, &ntour, err);
        rc = cost < 0 ? (int)cost : 0;
        least = cost;
    } else {
        for (int i = 0; i < nseed; i++)
            for (int k = 0; k < g.n; k++)
                in[k] |= v[k].unit == seed[i].v;
        rc = grown(&g, in, tour, &ntour, err);
    }
    if (rc)
        return rc;
    int slack = -q->want, smallest = 0;
    for (int i = 0; i < ntour; i++) { /* none can be spared, so the smallest one can give all that is too much */
        slack += v[tour[i]].capacity;
        if (v[tour[i]].capacity < v[tour[smallest]].capacity)
            smallest = i;
    }
    for (int i = 0; i < ntour; i++) {
        const struct vertex *x = &v[tour[i]];
        shares[i] = (struct mu_share){x->unit, x->capacity - (i == smallest ? slack : 0), x->first, x->n};
    }
    *nshares = ntour;
    *bound = least;
    return 0;
}
