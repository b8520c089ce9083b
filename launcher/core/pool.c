#include "launcher/core/policy.h"
#include "launcher/core/pool_priv.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/clean.h"
#include "runtime/base/hosts.h"
#include "runtime/base/str.h"

static uint32_t *head(const struct mu_pool *pool, const char *name)
{
    return &pool->heads[mu_str_hash(name, strlen(name)) & (2 * pool->cap - 1)];
}

int mu_pool_find(const struct mu_pool *pool, const char *name)
{
    for (uint32_t i = pool->n ? *head(pool, name) : 0; i; i = pool->v[i - 1].next)
        if (!strcmp(pool->v[i - 1].name, name))
            return (int)i - 1;
    return -1;
}

static void enter(struct mu_pool *pool, unsigned at)
{
    uint32_t *first = head(pool, pool->v[at].name);

    pool->v[at].next = *first;
    *first = at + 1;
}

static bool grow(struct mu_pool *pool)
{
    unsigned cap = pool->cap ? pool->cap * 2 : 8;
    struct mu_node *v = realloc(pool->v, cap * sizeof *v);
    uint32_t *heads = calloc(2 * (size_t)cap, sizeof *heads);

    if (v)
        pool->v = v;
    if (!v || !heads) {
        free(heads);
        return false;
    }
    free(pool->heads);
    pool->heads = heads;
    pool->cap = cap;
    for (unsigned i = 0; i < pool->n; i++)
        if (pool->v[i].state != MU_NODE_NONE)
            enter(pool, i);
    return true;
}

int mu_pool_add(struct mu_pool *pool, const char *name)
{
    unsigned at = 0;

    while (pool->nempty && at < pool->n && pool->v[at].state != MU_NODE_NONE)
        at++;
    if (!pool->nempty) {
        if (pool->n == pool->cap && !grow(pool))
            return MUSTER_ENOMEM;
        at = pool->n++;
    } else {
        pool->nempty--;
    }
    memset(&pool->v[at], 0, sizeof pool->v[at]);
    snprintf(pool->v[at].name, sizeof pool->v[at].name, "%s", name);
    pool->v[at].state = MU_NODE_AWAY;
    enter(pool, at);
    mu_pool_place_add(pool, at);
    return (int)at;
}

void mu_pool_uncheck(struct mu_node *node)
{
    if (node->checked)
        mu_msg_free_body(MU_MSG_checked, node->checked);
    free(node->checked);
    node->checked = NULL;
}

void mu_pool_forget_gpus(struct mu_node *node)
{
    if (node->gpu_says)
        mu_msg_free_body(MU_MSG_gpus, node->gpu_says);
    free(node->gpu_says);
    node->gpu_says = NULL;
}

void mu_pool_remove(struct mu_pool *pool, unsigned node)
{
    uint32_t *p = head(pool, pool->v[node].name);

    while (*p && *p != node + 1)
        p = &pool->v[*p - 1].next;
    *p = pool->v[node].next;
    mu_pool_place_remove(pool, node);
    mu_strv_free(pool->v[node].guids);
    free(pool->v[node].nics);
    free(pool->v[node].disks);
    mu_pool_uncheck(&pool->v[node]);
    mu_pool_forget_gpus(&pool->v[node]);
    memset(&pool->v[node], 0, sizeof pool->v[node]);
    pool->nempty++;
}

bool mu_pool_usable(const struct mu_node *node, uint64_t job)
{
    return node->state == MU_NODE_UP && !node->leaving && (!mu_pool_out(node) || MU_MUTANT(OUT_IGNORED)) &&
           (!node->owner || node->owner == job);
}

uint32_t mu_pool_slots(const struct mu_pool *pool)
{
    uint32_t n = 0;

    for (unsigned i = 0; i < pool->n; i++)
        if (mu_pool_usable(&pool->v[i], 0))
            n += pool->v[i].slots;
    return n;
}

static uint32_t free_on(const struct mu_node *node)
{
    uint32_t gone = node->used + node->kept;

    return node->ready && !node->stale && gone < node->slots ? node->slots - gone : 0;
}

uint32_t mu_pool_free_slots(const struct mu_pool *pool)
{
    uint32_t n = 0;

    for (unsigned i = 0; i < pool->n; i++)
        n += mu_pool_usable(&pool->v[i], 0) ? free_on(&pool->v[i]) : 0;
    return n;
}

static uint32_t min_u32(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

static bool suits(const struct mu_node *node, const struct mu_m_spec *spec)
{
    return !spec->baseline || mu_pool_sound(node);
}

unsigned mu_pool_unsound(const struct mu_pool *pool, uint64_t job, char *why, size_t whylen)
{
    const struct mu_node *first = NULL;
    unsigned n = 0;

    for (unsigned i = 0; i < pool->n; i++) {
        const struct mu_node *v = &pool->v[i];
        if (!mu_pool_usable(v, job) || mu_pool_sound(v))
            continue;
        first = first && (first->approved || !v->approved) ? first : v;
        n++;
    }
    why[0] = 0;
    if (n)
        snprintf(why, whylen, "; %u node%s not as %s approved, %.100s: %.120s", n, n == 1 ? " is" : "s are",
                 n == 1 ? "it was" : "they were", first->name,
                 first->drift    ? first->drifted
                 : first->untold ? "it has not told yet what it is made of"
                                 : "nothing was approved");
    return n;
}

/* The job's own list of hosts, or the pool in its order. -1: out of memory. */
static int places(const struct mu_pool *pool, uint64_t job, const struct mu_m_spec *spec, struct place **out)
{
    struct mu_hosts hosts = {0};
    int n = 0;

    if (spec->hosts && *spec->hosts && mu_hosts_parse(spec->hosts, &hosts, NULL))
        return -1;
    struct place *v = calloc((hosts.n > pool->n ? hosts.n : pool->n) + 1, sizeof *v);
    for (unsigned i = 0; v && !hosts.n && i < pool->n; i++)
        if (mu_pool_usable(&pool->v[i], job) && !pool->v[i].owner && suits(&pool->v[i], spec))
            v[n++] = (struct place){.node = i};
    for (size_t i = 0; v && i < hosts.n; i++) {
        int node = mu_pool_find(pool, mu_host_name(hosts.v[i].name));
        if (node >= 0 && mu_pool_usable(&pool->v[node], job) && suits(&pool->v[node], spec))
            v[n++] = (struct place){.node = (uint32_t)node, .limit = (uint32_t)hosts.v[i].slots};
    }
    mu_hosts_free(&hosts);
    *out = v;
    return v ? n : -1;
}

/* How many ranks fit on a node: of an empty pool, or now. */
static uint32_t room_on(const struct mu_node *node, const struct place *p, const struct mu_m_spec *spec, bool now)
{
    uint32_t room = now ? free_on(node) : node->slots;

    if (!room)
        return 0;
    if (p->limit && p->limit > node->slots) /* slots that the user states are slots, on a node that nobody else uses */
        return room == node->slots ? p->limit : 0;
    if (p->limit)
        room = min_u32(room, p->limit);
    if (!spec->oversubscribe || p->limit)
        return room;
    /* an oversubscribed share takes the whole node, or what it needs of it */
    return room >= spec->ranks ? room : room == node->slots ? spec->ranks : 0;
}

bool mu_pool_has_label(const char *labels, const char *label)
{
    size_t n = label ? strlen(label) : 0;

    if (!n)
        return true;
    for (const char *p = labels; p && *p; p += strcspn(p, ","), p += *p == ',')
        if (!strncmp(p, label, n) && (!p[n] || p[n] == ','))
            return true;
    return false;
}

static uint32_t ranks_of(uint64_t has, uint64_t used, uint64_t need)
{
    uint64_t n = !need ? UINT32_MAX : has > used ? (has - used) / need : 0;

    return n > UINT32_MAX ? UINT32_MAX : (uint32_t)n;
}

uint32_t mu_pool_left(const struct mu_node *node, const struct mu_m_spec *spec)
{
    return mu_pool_has_label(node->labels, spec->label) && suits(node, spec)
               ? min_u32(ranks_of(node->gpus, node->gpus_used, spec->gpus),
                         ranks_of(node->memory, node->memory_used, spec->memory))
               : 0;
}

/* Of an empty node, counted as the policy does: what it cannot place is never waited for. */
static uint32_t most_left(const struct mu_node *node, const struct mu_m_spec *spec, uint64_t unit)
{
    struct mu_node idle = {.gpus = node->gpus, .memory = node->memory / unit * unit};
    struct mu_m_spec rounded = *spec;

    rounded.baseline = 0; /* others are left out already */
    memcpy(idle.labels, node->labels, sizeof idle.labels);
    rounded.memory = (spec->memory + unit - 1) / unit * unit;
    return mu_pool_left(&idle, &rounded);
}

static uint64_t unit_of(const struct mu_pool *pool)
{
    uint64_t most = 0;

    for (unsigned i = 0; i < pool->n; i++)
        most = pool->v[i].memory > most ? pool->v[i].memory : most;
    return mu_policy_unit(most);
}

static bool asks_more(const struct mu_m_spec *spec) /* than slots */
{
    return spec->gpus || spec->memory || (spec->label && *spec->label);
}

/* More ranks than the hosts given have slots: evenly over those that nobody else uses. */
static void share_out(const struct mu_pool *pool, struct place *p, unsigned np, uint32_t ranks)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < np; i++)
        sum += p[i].room;
    for (unsigned i = 0; i < np && sum < ranks; i++)
        if (free_on(&pool->v[p[i].node]) == pool->v[p[i].node].slots)
            p[i].room = (ranks + np - 1) / np;
}

/* Whatever the slots are: ranks that one keeper can look after. */
static uint32_t most_on(const struct mu_node *n)
{
    uint64_t most = n->files > MU_FILES_OF_KEEPER ? (n->files - MU_FILES_OF_KEEPER) / MU_FILES_OF_RANK : 0;

    return !n->files || most > UINT32_MAX ? UINT32_MAX : (uint32_t)most;
}

static uint64_t room_below(const struct place *p, unsigned np, uint32_t most)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < np; i++)
        sum += min_u32(p[i].room, most);
    return sum;
}

/* The same ranks on all nodes, as far as they have room; the first nodes take the remainder. */
static bool fill_even(const struct mu_pool *pool, const struct place *p, unsigned np, uint32_t ranks, uint32_t ppn,
                      struct mu_share *out, unsigned *n)
{
    uint32_t lo = 1, hi = ppn && ppn < ranks ? ppn : ranks;

    if (room_below(p, np, hi) < ranks)
        return false;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (room_below(p, np, mid) < ranks)
            lo = mid + 1;
        else
            hi = mid;
    }
    uint64_t more = ranks - room_below(p, np, lo - 1);
    *n = 0;
    for (unsigned i = 0; i < np; i++) {
        uint32_t take = min_u32(p[i].room, lo - 1);
        if (more && p[i].room >= lo) {
            take = lo;
            more--;
        }
        if (take)
            out[(*n)++] =
                (struct mu_share){.node = p[i].node, .ranks = take, .slots = min_u32(take, pool->v[p[i].node].slots)};
    }
    return true;
}

/* Fills shares over the places. want_nodes: exactly so many nodes, 0 = as few as it takes. */
static bool fill(const struct mu_pool *pool, const struct place *p, unsigned np, const struct mu_m_spec *spec,
                 struct mu_share *out, unsigned *n)
{
    uint32_t left = spec->ranks, want_nodes = spec->nodes, ppn = spec->ppn;

    if (!want_nodes && spec->map && !strcmp(spec->map, "node"))
        return fill_even(pool, p, np, spec->ranks, ppn, out, n);
    *n = 0;
    for (unsigned i = 0; i < np && left; i++) {
        uint32_t cap = ppn ? min_u32(p[i].room, ppn) : p[i].room;
        if (!cap)
            continue;
        if (want_nodes) {
            /* even shares; the first nodes take the remainder */
            uint32_t share = (left + (want_nodes - *n) - 1) / (want_nodes - *n);
            if (cap < share)
                continue;
            cap = share;
        }
        uint32_t take = min_u32(cap, left);
        out[(*n)++] =
            (struct mu_share){.node = p[i].node, .ranks = take, .slots = min_u32(take, pool->v[p[i].node].slots)};
        left -= take;
        if (want_nodes && *n == want_nodes)
            break;
    }
    return !left && (!want_nodes || *n == want_nodes);
}

/* Whole shares of other nodes, each as large as the job's largest, so that any of them can be replaced. */
static bool add_spares(const struct mu_pool *pool, const struct place *p, unsigned np, uint32_t want,
                       struct mu_share *out, unsigned n, unsigned *nspares)
{
    uint32_t largest = 0;

    for (unsigned i = 0; i < n; i++)
        largest = out[i].ranks > largest ? out[i].ranks : largest;
    *nspares = 0;
    for (unsigned i = 0; i < np && *nspares < want; i++) {
        bool used = p[i].room < largest;
        for (unsigned k = 0; k < n; k++)
            used = used || out[k].node == p[i].node;
        if (!used)
            out[n + (*nspares)++] =
                (struct mu_share){.node = p[i].node, .slots = min_u32(largest, pool->v[p[i].node].slots)};
    }
    return *nspares == want;
}

/* The same with the largest nodes as spares, the last of those that are alike. */
static bool spares_first(const struct mu_pool *pool, struct place *p, unsigned np, const struct mu_m_spec *spec,
                         struct mu_share *out, unsigned *n, unsigned *nspares)
{
    uint32_t largest = 0, spare[256];
    unsigned k = 0;

    for (; k < spec->spares && k < MU_COUNT(spare); k++) {
        int best = -1;
        for (unsigned i = 0; i < np; i++)
            best = p[i].room && (best < 0 || p[i].room >= p[best].room) ? (int)i : best;
        if (best < 0)
            break;
        out[k] = (struct mu_share){.node = p[best].node, .slots = p[best].room};
        spare[k] = (uint32_t)best;
        p[best].room = 0;
    }
    struct mu_share *kept = k == spec->spares ? calloc(k + 1u, sizeof *kept) : NULL;
    if (!kept)
        return false;
    memcpy(kept, out, k * sizeof *kept);
    bool ok = fill(pool, p, np, spec, out, n);
    for (unsigned i = 0; i < *n; i++)
        largest = out[i].ranks > largest ? out[i].ranks : largest;
    for (unsigned i = 0; i < k; i++) {
        ok = ok && kept[i].slots >= largest;
        p[spare[i]].room = kept[i].slots;
        kept[i].slots = min_u32(largest, pool->v[kept[i].node].slots);
    }
    if (ok)
        memcpy(out + *n, kept, k * sizeof *kept);
    *nspares = k;
    free(kept);
    return ok;
}

/* " with 2 GPUs each, with 4.0 GiB each, on nodes with label fast" */
static const char *needs_of(const struct mu_m_spec *spec, char *buf, size_t n)
{
    char size[32];
    size_t len = 0;

    buf[0] = 0;
    if (spec->gpus)
        len += (size_t)snprintf(buf, n, " with %u GPU%s each", spec->gpus, spec->gpus == 1 ? "" : "s");
    if (spec->memory && len < n)
        len += (size_t)snprintf(buf + len, n - len, " with %s each", mu_str_fmt_size(size, sizeof size, spec->memory));
    if (spec->label && *spec->label && len < n)
        snprintf(buf + len, n - len, " on nodes with label %.60s", spec->label);
    return buf;
}

static void never_more(const struct mu_pool *pool, const struct place *p, const struct mu_m_spec *spec, unsigned np,
                       char *why, size_t whylen)
{
    uint64_t gpus = 0, memory = 0, nodes = 0;
    char needs[200], size[32];

    for (unsigned i = 0; i < np; i++) {
        const struct mu_node *n = &pool->v[p[i].node];
        if (!mu_pool_has_label(n->labels, spec->label))
            continue;
        nodes++;
        gpus = n->gpus > gpus ? n->gpus : gpus;
        memory = n->memory > memory ? n->memory : memory;
    }
    if (!nodes)
        snprintf(why, whylen, "no node has label %.60s; `muster nodes` shows labels, `muster nodes label` gives them",
                 spec->label);
    else
        snprintf(why, whylen,
                 "%u ranks%s do not fit: %llu node%s, with at most %llu GPUs and %s of memory; ask for less with "
                 "--gpus-per-rank, --mem or -n",
                 spec->ranks, needs_of(spec, needs, sizeof needs), (unsigned long long)nodes, nodes == 1 ? "" : "s",
                 (unsigned long long)gpus, mu_str_fmt_size(size, sizeof size, memory));
}

static void never(const struct mu_pool *pool, const struct place *p, const struct mu_m_spec *spec, unsigned np,
                  bool filled, char *why, size_t whylen)
{
    bool fits = spec->oversubscribe || (spec->hosts && *spec->hosts) || spec->ranks <= mu_pool_slots(pool);
    uint64_t most = 0;

    for (unsigned i = 0; i < np; i++)
        most += most_on(&pool->v[p[i].node]);
    char fewer[64] = "";
    if (most)
        snprintf(fewer, sizeof fewer, "ask for at most %llu with -n, or ", (unsigned long long)most);
    if (!filled && np && fits && spec->ranks > most)
        snprintf(why, whylen,
                 "%u ranks on %.100s need %llu open files, the limit is %llu: %sraise the hard limit (ulimit -Hn, "
                 "LimitNOFILE=) and stop the pool so that it starts anew with it",
                 spec->ranks, pool->v[p[0].node].name,
                 (unsigned long long)MU_FILES_OF_RANK * spec->ranks + MU_FILES_OF_KEEPER,
                 (unsigned long long)pool->v[p[0].node].files, fewer);
    else if (!filled && asks_more(spec) && spec->ranks <= mu_pool_slots(pool))
        never_more(pool, p, spec, np, why, whylen);
    else if (filled)
        snprintf(why, whylen,
                 "%u spare nodes asked for: there are not so many besides the job's own; give more hosts, "
                 "or a smaller --spares",
                 spec->spares);
    else if (spec->ppn)
        snprintf(why, whylen, "%u ranks at %u a node do not fit the pool's %u slots on %u nodes", spec->ranks,
                 spec->ppn, mu_pool_slots(pool), np);
    else if (spec->hosts && *spec->hosts)
        snprintf(why, whylen, "%u ranks do not fit the hosts given: say HOST:SLOTS, or ask for fewer with -n",
                 spec->ranks);
    else
        snprintf(why, whylen,
                 "%u ranks asked for, the pool has %u slots: ask for fewer with -n, or share cores with "
                 "--oversubscribe",
                 spec->ranks, mu_pool_slots(pool));
}

/* The same job with the nodes that the fabric says. Where spares or shares do not work out so, it stays as it was. */
static void choose(const struct mu_pool *pool, struct place *p, unsigned np, const struct mu_m_spec *spec,
                   struct mu_share *v, unsigned *n, unsigned *nspares, char *why, size_t whylen)
{
    struct mu_share *other = calloc((size_t)np + 1, sizeof *other);
    unsigned count = 0, spares = 0;
    struct chosen c = {.bound = -1, .split = -1};

    why[0] = 0;
    if (!other)
        return;
    bool chosen = mu_pool_arrange(pool, spec, p, np, &c, why, whylen);
    bool ok = fill(pool, p, np, spec, other, &count) && add_spares(pool, p, np, spec->spares, other, count, &spares);
    if (ok) {
        memcpy(v, other, (count + spares) * sizeof *v);
        *n = count;
        *nspares = spares;
        if (chosen)
            mu_pool_tell(pool, v, count, sizeof *v, &c, why, whylen);
    } else if (chosen) {
        snprintf(why, whylen, "in the pool's order, as the largest nodes are kept for spares");
    }
    free(other);
}

static enum mu_fit fit_in(const struct mu_pool *pool, uint64_t job, const struct mu_m_spec *spec, struct mu_share **out,
                          unsigned *n, unsigned *nspares, char *why, size_t whylen)
{
    enum mu_fit fit = MU_FIT_LATER;
    struct place *p = NULL;
    int np = places(pool, job, spec, &p);
    struct mu_share *v = np < 0 ? NULL : calloc((size_t)np + 1, sizeof *v);
    uint64_t unit = asks_more(spec) ? unit_of(pool) : 1;

    if (!v) {
        snprintf(why, whylen, "the controller is out of memory");
        goto out;
    }
    if (spec->nodes > (unsigned)np) {
        fit = MU_FIT_NEVER;
        snprintf(why, whylen, "%u nodes asked for, the pool has %d", spec->nodes, np);
        goto out;
    }
    if (spec->nodes > spec->ranks) {
        fit = MU_FIT_NEVER;
        snprintf(why, whylen, "%u nodes asked for, but only %u ranks: ask for -n %u or more", spec->nodes, spec->ranks,
                 spec->nodes);
        goto out;
    }
    /* an empty pool first: what does not fit there never will */
    for (int now = 0; now < 2; now++) {
        for (int i = 0; i < np; i++)
            p[i].room = room_on(&pool->v[p[i].node], &p[i], spec, now);
        if (spec->oversubscribe && spec->hosts && *spec->hosts)
            share_out(pool, p, (unsigned)np, spec->ranks);
        for (int i = 0; i < np; i++)
            p[i].room = min_u32(p[i].room, most_on(&pool->v[p[i].node]));
        for (int i = 0; i < np && asks_more(spec); i++)
            p[i].room = min_u32(p[i].room, now ? mu_pool_left(&pool->v[p[i].node], spec)
                                               : most_left(&pool->v[p[i].node], spec, unit));
        bool filled = fill(pool, p, (unsigned)np, spec, v, n);
        if (filled && (add_spares(pool, p, (unsigned)np, spec->spares, v, *n, nspares) ||
                       spares_first(pool, p, (unsigned)np, spec, v, n, nspares)))
            continue;
        if (!now) {
            fit = MU_FIT_NEVER;
            never(pool, p, spec, (unsigned)np, filled, why, whylen);
        } else if (filled) {
            snprintf(why, whylen, "waiting for %u spare nodes", spec->spares);
        } else if (asks_more(spec)) {
            char needs[200];
            snprintf(why, whylen, "waiting for %u slots%s", spec->ranks, needs_of(spec, needs, sizeof needs));
        } else {
            snprintf(why, whylen, "waiting for %u slots, %u of %u are free",
                     spec->oversubscribe ? min_u32(spec->ranks, mu_pool_slots(pool)) : spec->ranks,
                     mu_pool_free_slots(pool), mu_pool_slots(pool));
        }
        goto out;
    }
    fit = MU_FIT_YES;
    why[0] = 0;
    if (pool->place && !(spec->hosts && *spec->hosts))
        choose(pool, p, (unsigned)np, spec, v, n, nspares, why, whylen);
    *out = v;
    v = NULL;
out:
    free(v);
    free(p);
    return fit;
}

/* It would fit if no node were out: then it waits for them. */
static bool lacks_those_out(const struct mu_pool *pool, uint64_t job, const struct mu_m_spec *spec)
{
    struct mu_pool whole = *pool;
    struct mu_share *shares = NULL;
    unsigned n, nspares, nout = 0;
    char why[400];

    for (unsigned i = 0; i < pool->n; i++)
        nout += mu_pool_out(&pool->v[i]);
    whole.v = nout ? malloc(pool->n * sizeof *whole.v) : NULL;
    if (!whole.v)
        return false;
    for (unsigned i = 0; i < pool->n; i++) {
        whole.v[i] = pool->v[i];
        whole.v[i].drained = false;
        whole.v[i].quarantine_until = 0;
    }
    enum mu_fit fit = fit_in(&whole, job, spec, &shares, &n, &nspares, why, sizeof why);
    free(shares);
    free(whole.v);
    return fit != MU_FIT_NEVER;
}

static bool any_approved(const struct mu_pool *pool)
{
    for (unsigned i = 0; i < pool->n; i++)
        if (pool->v[i].approved)
            return true;
    return false;
}

/* It does not fit on nodes that are as they were approved: what would be if all were. */
static enum mu_fit lacks_sound(const struct mu_pool *pool, uint64_t job, const struct mu_m_spec *spec, enum mu_fit fit,
                               char *why, size_t whylen)
{
    struct mu_m_spec relaxed = *spec;
    struct mu_share *shares = NULL;
    unsigned n, nspares;
    char other[400];

    relaxed.baseline = 0;
    enum mu_fit any = mu_pool_fit(pool, job, &relaxed, &shares, &n, &nspares, other, sizeof other);
    free(shares);
    if (any == MU_FIT_NEVER) {
        snprintf(why, whylen, "%s", other);
        return any;
    }
    if (!any_approved(pool)) {
        snprintf(
            why, whylen,
            "--require-baseline: nobody has approved what the pool's nodes are made of; `muster inventory approve` "
            "does");
        return MU_FIT_NEVER;
    }
    if (fit == MU_FIT_NEVER)
        snprintf(why, whylen, "waiting for nodes that are as they were approved");
    size_t len = strlen(why);
    if (mu_pool_unsound(pool, job, other, sizeof other) && len < whylen)
        snprintf(why + len, whylen - len, "%s; `muster nodes diff --baseline`", other);
    return MU_FIT_LATER;
}

enum mu_fit mu_pool_fit(const struct mu_pool *pool, uint64_t job, const struct mu_m_spec *spec, struct mu_share **out,
                        unsigned *n, unsigned *nspares, char *why, size_t whylen)
{
    enum mu_fit fit = fit_in(pool, job, spec, out, n, nspares, why, whylen);

    if (fit != MU_FIT_YES && spec->baseline)
        return lacks_sound(pool, job, spec, fit, why, whylen);
    if (fit != MU_FIT_NEVER || !lacks_those_out(pool, job, spec))
        return fit;
    snprintf(why, whylen, "waiting for nodes that are drained or in quarantine; `muster nodes` says why");
    return MU_FIT_LATER;
}

static uint32_t ranks_in(const struct mu_share *s) /* a spare is kept for as many as it has slots */
{
    return s->ranks ? s->ranks : s->slots;
}

void mu_pool_take(struct mu_pool *pool, const struct mu_m_spec *spec, const struct mu_share *v, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        struct mu_node *node = &pool->v[v[i].node];
        node->used += v[i].slots;
        node->gpus_used += (uint64_t)spec->gpus * ranks_in(&v[i]);
        node->memory_used += spec->memory * ranks_in(&v[i]);
    }
}

void mu_pool_give(struct mu_pool *pool, const struct mu_m_spec *spec, const struct mu_share *v, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        struct mu_node *node = &pool->v[v[i].node];
        node->used -= v[i].slots;
        node->gpus_used -= (uint64_t)spec->gpus * ranks_in(&v[i]);
        node->memory_used -= spec->memory * ranks_in(&v[i]);
    }
}

void mu_pool_free(struct mu_pool *pool)
{
    for (unsigned i = 0; i < pool->n; i++) {
        mu_strv_free(pool->v[i].guids);
        free(pool->v[i].nics);
        free(pool->v[i].disks);
        mu_pool_uncheck(&pool->v[i]);
        mu_pool_forget_gpus(&pool->v[i]);
    }
    free(pool->v);
    free(pool->heads);
    free(pool->of_host);
    memset(pool, 0, sizeof *pool);
}
