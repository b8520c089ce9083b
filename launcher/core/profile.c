#include "launcher/core/profile.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/base/clean.h"

#define STRIDE 32u       /* rows are whole blocks of so many nodes: loops over a block need no remainder */
#define UNIT_BITS 30     /* the finest rounding: about a second */
#define OCTAVE_SLOTS 18u /* different ends within a doubling of the distance, at most */
#define OCTAVES 36u
#define MOST 30000 /* units that a node has of something, at most: see mu_policy_unit */

/* --- rounding ------------------------------------------------------------------------------------------------------
 */

static unsigned log2_u64(uint64_t x)
{
    return x ? 63u - (unsigned)__builtin_clzll(x) : 0;
}

static unsigned bits_at(uint64_t dist)
{
    unsigned l = log2_u64(dist);

    return l > UNIT_BITS + 3 ? l - 3 : UNIT_BITS;
}

static uint64_t round_up(uint64_t now, uint64_t t)
{
    if (t <= now)
        return now;
    unsigned k = bits_at(t - now);
    uint64_t up = ((t - 1) >> k) + 1;
    return up > UINT64_MAX >> k ? UINT64_MAX : up << k;
}

static unsigned bucket(uint64_t now, uint64_t t)
{
    if (t <= now)
        return 0;
    unsigned k = bits_at(t - now);
    unsigned b = (k - UNIT_BITS) * OCTAVE_SLOTS + (unsigned)((((t - 1) >> k) + 1) - (now >> k));
    return b < OCTAVES * OCTAVE_SLOTS ? b : OCTAVES * OCTAVE_SLOTS - 1;
}

uint64_t mu_profile_end(const struct mu_profile *p, uint64_t at, uint64_t dur)
{
    return round_up(p->now, dur > UINT64_MAX / 2 - at ? UINT64_MAX / 2 : at + dur);
}

/* --- memory --------------------------------------------------------------------------------------------------------
 */

static int16_t *row_new(const struct mu_profile *p)
{
    return aligned_alloc(64, p->width * MU_RES_N * sizeof(int16_t));
}

static bool grow_suffix(struct mu_profile *p, unsigned want)
{
    if (want <= p->nsuffix)
        return true;
    int16_t **v = realloc(p->suffix, (want + 32) * sizeof *v);
    if (!v)
        return false;
    p->suffix = v;
    while (p->nsuffix < want + 32) {
        if (!(v[p->nsuffix] = row_new(p)))
            return false;
        p->nsuffix++;
    }
    return true;
}

static int16_t *row_take(struct mu_profile *p)
{
    if (p->rows_used == p->nrows) {
        if (p->nrows == p->rows_cap) {
            unsigned cap = p->rows_cap ? p->rows_cap * 2 : 64;
            int16_t **v = realloc(p->rows, cap * sizeof *v);
            if (!v)
                return NULL;
            p->rows = v;
            p->rows_cap = cap;
        }
        if (!(p->rows[p->nrows] = row_new(p)))
            return NULL;
        p->nrows++;
    }
    return p->rows[p->rows_used++];
}

static void drop(struct mu_profile *p)
{
    for (unsigned i = 0; i < p->nrows; i++)
        free(p->rows[i]);
    for (unsigned i = 0; i < p->nsuffix; i++)
        free(p->suffix[i]);
    p->nrows = p->nsuffix = 0;
    free(p->low);
    free(p->back);
    free(p->room);
    free(p->take);
    free(p->pick);
    p->low = p->back = p->room = p->take = NULL;
    p->pick = NULL;
    p->width = 0;
}

void mu_profile_free(struct mu_profile *p)
{
    drop(p);
    free(p->v);
    free(p->rows);
    free(p->suffix);
    free(p->order);
    memset(p, 0, sizeof *p);
}

static bool shape(struct mu_profile *p, unsigned nodes)
{
    p->nodes = nodes;
    p->stride = (nodes + STRIDE - 1) / STRIDE * STRIDE;
    p->stride = p->stride ? p->stride : STRIDE;
    p->rows_used = p->n = 0;
    if (p->stride <= p->width) {
        p->stride = p->width;
        return true;
    }
    drop(p);
    p->width = p->stride;
    p->low = row_new(p);
    p->back = row_new(p);
    p->room = row_new(p);
    p->take = row_new(p);
    p->pick = calloc(p->width, sizeof *p->pick);
    return p->low && p->back && p->room && p->take && p->pick;
}

/* --- slices --------------------------------------------------------------------------------------------------------
 */

static struct mu_slice *insert(struct mu_profile *p, unsigned at)
{
    if (p->n == p->cap) {
        unsigned cap = p->cap ? p->cap * 2 : 64;
        struct mu_slice *v = realloc(p->v, cap * sizeof *v);
        if (!v)
            return NULL;
        p->v = v;
        p->cap = cap;
    }
    int16_t *row = row_take(p);
    if (!row)
        return NULL;
    memmove(&p->v[at + 1], &p->v[at], (p->n++ - at) * sizeof *p->v);
    p->v[at].free = row;
    return &p->v[at];
}

static void copy(const struct mu_profile *p, struct mu_slice *to, const struct mu_slice *from)
{
    memcpy(to->free, from->free, (size_t)p->res * p->stride * sizeof *to->free);
    to->sum = from->sum;
    memcpy(to->with, from->with, sizeof to->with);
}

/* The slice that begins at t; one is split if need be. p->n: t is after the last change. < 0: out of memory. */
static int split(struct mu_profile *p, uint64_t t)
{
    unsigned lo = 0, hi = p->n;

    while (lo < hi) {
        unsigned mid = (lo + hi) / 2;
        if (p->v[mid].at < t)
            lo = mid + 1;
        else
            hi = mid;
    }
    if (lo < p->n && p->v[lo].at == t)
        return (int)lo;
    if (!insert(p, lo)) {
        p->failed = true;
        return -1;
    }
    p->v[lo].at = t;
    copy(p, &p->v[lo], &p->v[lo - 1]); /* the first slice begins now, and t is later */
    return (int)lo;
}

static unsigned classes(int n) /* of `with` that a node with n free slots is in */
{
    return n > 0 ? log2_u64((uint64_t)n) + 1 : 0;
}

static void change(struct mu_profile *p, struct mu_slice *s, uint32_t node, const int *by, int sign)
{
    int was = s->free[node], is = was - sign * by[MU_RES_SLOTS];
    unsigned a = classes(was), b = classes(is);

    s->free[node] = (int16_t)is;
    s->sum += (is > 0 ? is : 0) - (was > 0 ? was : 0);
    for (; a < b; a++)
        s->with[a]++;
    for (; a > b; a--)
        s->with[a - 1]--;
    for (unsigned r = 1; r < p->res; r++)
        s->free[r * p->stride + node] = (int16_t)(s->free[r * p->stride + node] - sign * by[r]);
}

static int clamp(uint64_t n)
{
    return n > MOST ? MOST : (int)n;
}

/* In units, rounded up. */
static void amount(const struct mu_profile *p, const uint64_t need[MU_RES_N], uint32_t n, int by[MU_RES_N])
{
    for (unsigned r = 0; r < p->res; r++)
        by[r] = clamp(p->unit[r] == 1 ? n * need[r] : (n * need[r] + p->unit[r] - 1) / p->unit[r]);
}

void mu_profile_take(struct mu_profile *p, const uint64_t need[MU_RES_N], const struct mu_policy_share *v, unsigned n,
                     uint64_t from, uint64_t to, int sign)
{
    int first = split(p, from < p->now ? p->now : from), last = split(p, to), by[MU_RES_N];

    for (int i = first; i < last && first >= 0; i++)
        for (unsigned k = 0; k < n; k++) {
            if (!k || v[k].n != v[k - 1].n)
                amount(p, need, v[k].n, by);
            change(p, &p->v[i], v[k].node, by, sign);
        }
}

bool mu_profile_fits(struct mu_profile *p, const uint64_t need[MU_RES_N], const struct mu_policy_share *v, unsigned n,
                     uint64_t from, uint64_t to, const int16_t *mask)
{
    int by[MU_RES_N];
    unsigned first = 0;

    while (first + 1 < p->n && p->v[first + 1].at <= from)
        first++;
    for (unsigned k = 0; k < n; k++)
        if (v[k].node >= p->nodes || !mask[v[k].node])
            return false;
    for (unsigned i = first; i < p->n && p->v[i].at < to; i++)
        for (unsigned k = 0; k < n; k++) {
            if (!k || v[k].n != v[k - 1].n)
                amount(p, need, v[k].n, by);
            for (unsigned r = 0; r < p->res; r++)
                if (p->v[i].free[r * p->stride + v[k].node] < by[r])
                    return false;
        }
    return true;
}

int16_t mu_profile_slots(const struct mu_profile *p, unsigned slice, unsigned node, const uint64_t need[MU_RES_N])
{
    const int16_t *free = p->v[slice].free;
    int by[MU_RES_N], slots = free[node];

    amount(p, need, 1, by);
    for (unsigned r = 1; r < p->res; r++) {
        int has = free[r * p->stride + node];
        if (by[r] && has / by[r] * by[MU_RES_SLOTS] < slots)
            slots = has > 0 ? has / by[r] * by[MU_RES_SLOTS] : 0;
    }
    return (int16_t)slots;
}

/* --- from the running jobs -----------------------------------------------------------------------------------------
 */

/* Which resources count, and in what units. */
static void units(struct mu_profile *p, const struct mu_policy_view *view)
{
    uint64_t most[MU_RES_N] = {0};
    bool asked[MU_RES_N] = {true};

    for (unsigned i = 0; i < view->nnodes; i++)
        for (unsigned r = 0; r < MU_RES_N; r++)
            most[r] = view->nodes[i].has[r] > most[r] ? view->nodes[i].has[r] : most[r];
    for (unsigned r = 1; r < MU_RES_N && !MU_POLICY_MUTANT(RANK_NEEDS); r++) {
        for (unsigned i = 0; i < view->njobs && !asked[r]; i++)
            asked[r] = view->jobs[i].need[r] != 0;
        for (unsigned i = 0; i < view->nruns && !asked[r]; i++)
            asked[r] = view->runs[i].need[r] != 0;
    }
    p->res = asked[MU_RES_MEMORY] ? 3 : asked[MU_RES_GPUS] ? 2 : 1;
    for (unsigned r = 0; r < MU_RES_N; r++)
        p->unit[r] = r == MU_RES_MEMORY ? mu_policy_unit(most[r]) : 1;
}

/* The running jobs in the order of their ends: by buckets, which are in order, and alike within. */
static bool sort_ends(struct mu_profile *p, const struct mu_policy_view *view, const uint64_t *ends)
{
    uint32_t start[OCTAVES * OCTAVE_SLOTS + 1] = {0};

    if (view->nruns > p->norder) {
        uint32_t *v = realloc(p->order, view->nruns * 2 * sizeof *v);
        if (!v)
            return false;
        p->order = v;
        p->norder = view->nruns * 2;
    }
    for (unsigned i = 0; i < view->nruns; i++)
        start[bucket(view->now, ends[i]) + 1]++;
    for (unsigned b = 1; b < MU_COUNT(start); b++)
        start[b] += start[b - 1];
    for (unsigned i = 0; i < view->nruns; i++)
        p->order[start[bucket(view->now, ends[i])]++] = i;
    return true;
}

bool mu_profile_build(struct mu_profile *p, const struct mu_policy_view *view, const uint64_t *ends)
{
    int by[MU_RES_N];

    p->failed = false;
    p->now = view->now;
    units(p, view);
    if (!shape(p, view->nnodes) || !sort_ends(p, view, ends) || !insert(p, 0))
        return false;
    struct mu_slice *s = &p->v[0];
    s->at = p->now;
    s->sum = 0;
    memset(s->with, 0, sizeof s->with);
    memset(s->free, 0, (size_t)p->res * p->stride * sizeof *s->free);
    for (unsigned i = 0; i < view->nnodes; i++) {
        for (unsigned r = 0; r < p->res && view->nodes[i].usable; r++)
            by[r] = clamp(view->nodes[i].has[r] / p->unit[r]);
        if (view->nodes[i].usable)
            change(p, s, i, by, -1);
    }
    for (unsigned i = 0; i < view->nruns; i++) {
        const struct mu_policy_run *run = &view->runs[i];
        for (unsigned k = 0; k < run->nshares; k++) {
            amount(p, run->need, run->shares[k].n, by);
            change(p, s, run->shares[k].node, by, 1);
        }
    }
    for (unsigned o = 0; o < view->nruns; o++) {
        const struct mu_policy_run *run = &view->runs[p->order[o]];
        uint64_t end = round_up(p->now, ends[p->order[o]]);
        if (end > p->v[p->n - 1].at) {
            if (!(s = insert(p, p->n)))
                return false;
            s->at = end;
            copy(p, s, s - 1);
        }
        s = &p->v[p->n - 1];
        for (unsigned k = 0; k < run->nshares; k++) {
            amount(p, run->need, run->shares[k].n, by);
            change(p, s, run->shares[k].node, by, -1);
        }
    }
    for (unsigned i = 0; i < view->nnodes; i++) {
        if (view->nodes[i].busy_until <= p->now)
            continue;
        int last = split(p, round_up(p->now, view->nodes[i].busy_until));
        for (int k = 0; k < last; k++) {
            for (unsigned r = 0; r < p->res; r++)
                by[r] = p->v[k].free[r * p->stride + i] > 0 ? p->v[k].free[r * p->stride + i] : 0;
            change(p, &p->v[k], i, by, 1);
        }
    }
    return !p->failed;
}

/* --- looking for room ----------------------------------------------------------------------------------------------
 */

static void row_min(const struct mu_profile *p, int16_t *restrict to, const int16_t *restrict a,
                    const int16_t *restrict b)
{
    for (size_t i = 0, n = (size_t)p->res * p->stride; i < n; i += STRIDE)
        for (size_t k = 0; k < STRIDE; k++)
            to[i + k] = a[i + k] < b[i + k] ? a[i + k] : b[i + k];
}

static void row_into(const struct mu_profile *p, int16_t *restrict to, const int16_t *restrict a)
{
    for (size_t i = 0, n = (size_t)p->res * p->stride; i < n; i += STRIDE)
        for (size_t k = 0; k < STRIDE; k++)
            to[i + k] = a[i + k] < to[i + k] ? a[i + k] : to[i + k];
}

struct need {
    uint32_t ranks, nodes, ppn, spares, share; /* share: of a node at most, when the number of nodes is given */
    int by[MU_RES_N];
};

static struct need need_of(const struct mu_profile *p, const struct mu_policy_job *j)
{
    struct need n = {.ranks = j->ranks, .nodes = j->nodes, .ppn = j->ppn, .spares = j->spares};

    amount(p, j->need, 1, n.by);
    n.share = j->nodes ? (j->ranks + j->nodes - 1) / j->nodes : 0;
    return n;
}

static bool may(const struct mu_slice *s, const struct need *n)
{
    int64_t slots = n->by[MU_RES_SLOTS];

    if (s->sum < n->ranks * slots)
        return false;
    if (!n->nodes)
        return true;
    unsigned k = classes(clamp((uint64_t)(n->share * slots)));
    return s->with[k ? k - 1 : 0] >= n->nodes + n->spares;
}

bool mu_profile_may(const struct mu_profile *p, unsigned slice, const struct mu_policy_job *j)
{
    struct need n = need_of(p, j);

    return slice < p->n && may(&p->v[slice], &n);
}

/* How many ranks each node has room for; their sum. */
static uint64_t rooms(struct mu_profile *p, const int16_t *low, const struct need *n, const int16_t *mask)
{
    int16_t most = (int16_t)(n->ppn && n->ppn < MOST ? n->ppn : MOST);
    uint64_t sum = 0;
    bool plain = n->by[MU_RES_SLOTS] == 1;

    for (unsigned r = 1; r < p->res; r++)
        plain = plain && !n->by[r];
    for (unsigned i = 0; i < p->nodes && !plain; i++) {
        int room = n->by[MU_RES_SLOTS] ? low[i] / n->by[MU_RES_SLOTS] : MOST;
        for (unsigned r = 1; r < p->res; r++)
            if (n->by[r] && low[r * p->stride + i] / n->by[r] < room)
                room = low[r * p->stride + i] / n->by[r];
        room = room > most ? most : room;
        p->room[i] = (int16_t)(room > 0 ? room & mask[i] : 0);
        sum += (uint64_t)p->room[i];
    }
    if (!plain)
        return sum;
    for (unsigned i = 0; i < p->stride; i += STRIDE) {
        int32_t block = 0;
        for (unsigned k = 0; k < STRIDE; k++) {
            int16_t room = (int16_t)(low[i + k] & mask[i + k]);
            room = room > most ? most : room;
            room = room > 0 ? room : 0;
            p->room[i + k] = room;
            block += room;
        }
        sum += (uint64_t)block;
    }
    return sum;
}

/* The untaken node with the least room that is enough; -1: none. */
static int tightest(const struct mu_profile *p, uint32_t want)
{
    int best = -1;

    for (unsigned i = 0; i < p->nodes; i++)
        if (!p->take[i] && p->room[i] > 0 && (uint32_t)p->room[i] >= want && (best < 0 || p->room[i] < p->room[best]))
            best = (int)i;
    return best;
}

/* So many nodes, those with the least room that is enough. */
static bool choose_nodes(struct mu_profile *p, const struct need *n)
{
    uint32_t hist[256] = {0}, sum = 0, left = n->nodes;
    uint32_t full = n->ranks - n->nodes * (n->share - 1); /* nodes that have the larger share */
    unsigned last = 0;

    if (n->share > MOST || n->nodes > n->ranks)
        return false;
    for (unsigned i = 0; i < p->nodes; i++)
        if (p->room[i] >= (int)n->share)
            hist[p->room[i] - (int)n->share < 255 ? p->room[i] - (int)n->share : 255]++;
    while (last < 256 && sum + hist[last] < n->nodes)
        sum += hist[last++];
    if (last == 256)
        return false;
    uint32_t of_last = n->nodes - sum;
    for (unsigned i = 0; i < p->nodes && left; i++) {
        int over = p->room[i] - (int)n->share;
        if (over < 0)
            continue;
        over = over < 255 ? over : 255;
        if (over > (int)last || (over == (int)last && !of_last))
            continue;
        of_last -= over == (int)last;
        p->take[i] = (int16_t)(full ? n->share : n->share - 1);
        full -= full > 0;
        left--;
    }
    return !left;
}

/* As few nodes as it takes: those with the most room, and for what is left the one where it fits best. */
static bool choose_few(struct mu_profile *p, const struct need *n)
{
    uint32_t hist[1024] = {0}, left = n->ranks;
    int t = 1023;

    for (unsigned i = 0; i < p->nodes; i++)
        hist[p->take[i] ? 0 : p->room[i] < 1023 ? p->room[i] : 1023]++;
    while (t > 0 && !hist[t])
        t--;
    if (t < 1023 && left <= (uint32_t)t) { /* one node is enough */
        int one = tightest(p, left);
        if (one >= 0)
            p->take[one] = (int16_t)left;
        return one >= 0;
    }
    for (; t > 0 && left; t--)
        for (unsigned i = 0; hist[t] && i < p->nodes && left; i++) {
            if (p->take[i] || (p->room[i] < 1023 ? p->room[i] : 1023) != t)
                continue;
            if (left < (uint32_t)p->room[i]) {
                int best = tightest(p, left);
                p->take[best] = (int16_t)left;
                return true;
            }
            p->take[i] = p->room[i];
            left -= (uint32_t)p->room[i];
        }
    return !left;
}

static void picked(struct mu_profile *p, unsigned node, uint32_t n)
{
    p->take[node] = (int16_t)n;
    p->pick[p->npick++] = (struct mu_policy_share){.node = node, .n = n};
}

/* Shares of the nodes taken; how large the largest is. */
static uint32_t pick_taken(struct mu_profile *p)
{
    uint32_t largest = 0;

    p->npick = p->nspares = 0;
    for (unsigned i = 0; i < p->nodes; i++)
        if (p->take[i] > 0) {
            picked(p, i, (uint32_t)p->take[i]);
            largest = (uint32_t)p->take[i] > largest ? (uint32_t)p->take[i] : largest;
        }
    return largest;
}

/* The nodes with the most room are the spares, so that the others' shares are small enough for them. */
static bool spares_first(struct mu_profile *p, const struct need *n)
{
    memset(p->take, 0, p->stride * sizeof *p->take);
    for (unsigned k = 0; k < n->spares; k++) {
        int best = -1;
        for (unsigned i = 0; i < p->nodes; i++)
            if (!p->take[i] && (best < 0 || p->room[i] >= p->room[best]))
                best = (int)i;
        if (best < 0)
            return false;
        p->take[best] = -1;
    }
    if (!choose_few(p, n))
        return false;
    uint32_t largest = pick_taken(p);
    for (unsigned i = 0; i < p->nodes; i++)
        if (p->take[i] < 0) {
            if ((uint32_t)p->room[i] < largest)
                return false;
            picked(p, i, largest);
            p->nspares++;
        }
    return true;
}

static bool choose(struct mu_profile *p, const struct need *n)
{
    memset(p->take, 0, p->stride * sizeof *p->take);
    if (n->nodes ? !choose_nodes(p, n) : !choose_few(p, n))
        return false;
    uint32_t largest = pick_taken(p);
    while (p->nspares < n->spares) {
        int spare = tightest(p, largest);
        if (spare < 0)
            return !n->nodes && spares_first(p, n);
        picked(p, (unsigned)spare, largest);
        p->nspares++;
    }
    return true;
}

static bool room_in(struct mu_profile *p, const int16_t *low, const struct need *n, const int16_t *mask)
{
    return rooms(p, low, n, mask) >= n->ranks && choose(p, n);
}

/* Looks at every slice as a start. The least that is free over a window that moves on is kept in two halves: minima
 * from each slice up to `mid`, and one over what has come behind it. */
int mu_profile_find(struct mu_profile *p, const struct mu_policy_job *j, const int16_t *mask, uint64_t dur,
                    bool now_only)
{
    struct need n = need_of(p, j);
    unsigned to = 0, mid = 0, back_to = 0;
    bool first = true;

    if (!grow_suffix(p, p->n)) {
        p->failed = true;
        return -1;
    }
    for (unsigned i = 0; i < p->n; i++) {
        uint64_t end = mu_profile_end(p, p->v[i].at, dur);
        to = to < i ? i : to;
        while (to < p->n && p->v[to].at < end && may(&p->v[to], &n))
            to++;
        if (to < p->n && p->v[to].at < end) { /* no start up to that one */
            if (now_only)
                return -1;
            i = to++;
            continue;
        }
        const int16_t *low = p->low;
        if (first || i >= mid) {
            unsigned k = to;
            for (int16_t *last = NULL; k-- > i; last = p->suffix[k]) {
                if (last)
                    row_min(p, p->suffix[k], p->v[k].free, last);
                else
                    memcpy(p->suffix[k], p->v[k].free, (size_t)p->res * p->stride * sizeof *last);
            }
            low = p->suffix[i];
            mid = back_to = to;
            first = false;
        } else {
            for (; back_to < to; back_to++) {
                if (back_to == mid)
                    memcpy(p->back, p->v[mid].free, (size_t)p->res * p->stride * sizeof *p->back);
                else
                    row_into(p, p->back, p->v[back_to].free);
            }
            if (back_to > mid)
                row_min(p, p->low, p->suffix[i], p->back);
            else
                low = p->suffix[i];
        }
        if (room_in(p, low, &n, mask))
            return (int)i;
        if (now_only)
            return -1;
    }
    return -1;
}
