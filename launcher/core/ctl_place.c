/* Which nodes the next attempt has: those of the last one, and others in place of the lost. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launcher/core/ctl_priv.h"
#include "runtime/base/clock.h"
#include "runtime/base/hosts.h"
#include "runtime/base/str.h"

#define LOOK_AGAIN (100 * MU_MS)

static bool in_use(const struct job *j, uint32_t node)
{
    for (unsigned i = 0; i < j->nparts; i++)
        if (j->parts[i].share.node == node)
            return true;
    return false;
}

static bool free_for(const struct mu_node *n, const struct job *j)
{
    return n->ready && !n->stale && mu_pool_usable(n, j->row.id);
}

static bool serves(const struct mu_ctl *c, const struct job *j, uint32_t node)
{
    return free_for(&c->pool.v[node], j) && !in_use(j, node);
}

/* What there is to choose from, looked at once however many parts have lost their nodes. */
struct choice {
    uint32_t *most; /* by node: ranks that the job may have there, UINT32_MAX: any number; NULL: not looked yet */
    struct mu_share lacked; /* there is no node for such a share */
};

/* Its own nodes, those that it has named, or the pool's when it has named none. */
static bool look(struct mu_ctl *c, struct job *j, struct choice *ch)
{
    const struct mu_hosts *named = mu_ctl_hosts(j);
    uint32_t *most = named ? calloc(c->pool.n + 1u, sizeof *most) : NULL;

    if (!most)
        return false;
    for (size_t i = 0; i < named->n; i++) {
        int node = mu_pool_find(&c->pool, mu_host_name(named->v[i].name));
        if (node >= 0 && !most[node])
            most[node] = named->v[i].slots ? (uint32_t)named->v[i].slots : UINT32_MAX;
    }
    for (unsigned i = 0; i < c->pool.n; i++) {
        const struct mu_node *n = &c->pool.v[i];
        if (n->owner || !named->n)
            most[i] = n->owner == j->row.id || !n->owner ? UINT32_MAX : 0;
        if (!free_for(n, j))
            most[i] = 0;
    }
    for (unsigned i = 0; i < j->nparts; i++)
        most[j->parts[i].share.node] = 0;
    for (unsigned i = 0; i < j->nspares; i++)
        most[j->spares[i].node] = 0;
    ch->most = most;
    return true;
}

/* Where a part is in the ring of ranks. */
struct ring {
    uint32_t before, behind;
};

static struct ring ring_of(const struct job *j, unsigned part)
{
    return (struct ring){j->parts[(part + j->nparts - 1) % j->nparts].share.node,
                         j->parts[(part + 1) % j->nparts].share.node};
}

/* A node with room for what the lost one had, the nearest to those that it is to be between. */
static int other_node(struct mu_ctl *c, struct job *j, const struct mu_share *lost, struct ring at, struct choice *ch)
{
    long least = 0;
    int best = -1;

    if (ch->lacked.slots == lost->slots && ch->lacked.ranks == lost->ranks && lost->slots)
        return -1;
    if (!ch->most && !look(c, j, ch))
        return -1;
    for (unsigned i = 0; i < c->pool.n; i++) {
        const struct mu_node *n = &c->pool.v[i];
        if (!ch->most[i] || ch->most[i] < lost->ranks || n->used + lost->slots > n->slots ||
            (lost->ranks != lost->slots && n->used) || mu_pool_left(n, &j->spec) < lost->ranks)
            continue;
        long detour = mu_pool_detour(&c->pool, at.before, i, at.behind);
        if (best < 0 || detour < least) {
            best = (int)i;
            least = detour;
        }
        if (!detour)
            break;
    }
    if (best >= 0)
        ch->most[best] = 0;
    else
        ch->lacked = *lost;
    return best;
}

/* The part goes away from its node; what is there of the job is let go of. */
static void leave(struct mu_ctl *c, const struct job *j, const struct mu_share *share)
{
    struct mu_node *n = &c->pool.v[share->node];

    mu_pool_give(&c->pool, &j->spec, share, 1);
    n->idle_since = c->now;
    n->stale = n->conn != 0;
    mu_acts_send(c->acts, n->conn, MU_MSG_release, &(struct mu_m_release){.job = j->row.id});
}

/* Nothing is known of the attempt on its new node, nor waited for there. */
static void move(struct mu_ctl *c, struct job *j, struct part *p, uint32_t node)
{
    struct mu_share was = p->share;

    leave(c, j, &was);
    p->share.node = node;
    p->line = 0;
    p->line_lost = p->confirmed = false;
    p->drained = true;
    mu_pool_take(&c->pool, &j->spec, &p->share, 1);
    mu_ctl_event(c, j, "node-replaced", -1, c->pool.v[node].name, "in place of %s", c->pool.v[was.node].name);
}

/* With a store that has lost rows, jobs that run there were found beside what was kept there. */
static bool is_crowded(const struct mu_node *n)
{
    return n->slots && n->used > n->slots;
}

/* The spare that is nearest to where it is to be; -1: none will do. */
static int nearest_spare(const struct mu_ctl *c, const struct job *j, const struct mu_share *lost, struct ring at)
{
    long least = 0;
    int best = -1;

    for (unsigned s = 0; s < j->nspares; s++) {
        long detour = mu_pool_detour(&c->pool, at.before, j->spares[s].node, at.behind);
        if (!serves(c, j, j->spares[s].node) || is_crowded(&c->pool.v[j->spares[s].node]) ||
            j->spares[s].slots < lost->slots || (best >= 0 && detour >= least))
            continue;
        best = (int)s;
        least = detour;
    }
    return best;
}

static bool replace(struct mu_ctl *c, struct job *j, struct part *p, struct choice *ch)
{
    struct ring at = ring_of(j, (unsigned)(p - j->parts));
    int s = nearest_spare(c, j, &p->share, at);

    if (s >= 0) {
        struct mu_share spare = j->spares[s];
        mu_pool_give(&c->pool, &j->spec, &spare, 1);
        if (!MU_MUTANT(SPARE_TWICE))
            j->spares[s] = j->spares[--j->nspares];
        move(c, j, p, spare.node);
        return true;
    }
    int node = other_node(c, j, &p->share, at, ch);
    if (node >= 0)
        move(c, j, p, (uint32_t)node);
    return node >= 0;
}

/* Others have what it had there: those that run, and of those that are to begin again the older ones. */
static bool is_taken(const struct mu_ctl *c, const struct job *j, const struct mu_share *share)
{
    const struct mu_node *n = &c->pool.v[share->node];
    uint64_t others = 0;

    for (unsigned i = 0; i < c->njobs && is_crowded(n); i++) {
        const struct job *o = c->jobs[i];
        for (unsigned p = 0; p < o->nparts && o != j && o->holds; p++)
            if (o->parts[p].share.node == share->node && (!o->retry_at || o->row.id < j->row.id))
                others += o->parts[p].share.slots;
    }
    return others && others + share->slots > n->slots;
}

static bool stays(const struct mu_ctl *c, uint32_t node)
{
    return c->pool.v[node].ready && !c->pool.v[node].leaving;
}

/* A smaller world: the parts that have no node go, if the job allows it. */
static bool shrink(struct mu_ctl *c, struct job *j)
{
    uint32_t left = 0;
    unsigned kept = 0;

    for (unsigned i = 0; i < j->nparts; i++)
        if (stays(c, j->parts[i].share.node))
            left += j->parts[i].share.ranks;
    if (!j->spec.min_ranks || left < j->spec.min_ranks || j->spec.app_ranks.n != 1)
        return false;
    for (unsigned i = 0; i < j->nparts; i++) {
        if (stays(c, j->parts[i].share.node))
            j->parts[kept++] = j->parts[i];
        else
            leave(c, j, &j->parts[i].share);
    }
    j->nparts = kept;
    mu_ctl_event(c, j, "shrunk", -1, NULL, "goes on with %u of %u ranks", left, j->spec.ranks);
    return true;
}

int mu_ctl_place_again(struct mu_ctl *c, struct job *j)
{
    const char *lacks = NULL, *taken = NULL;
    bool moved = false, away = false;
    struct choice ch = {0};

    for (unsigned i = 0; i < j->nparts; i++) {
        const struct mu_node *n = &c->pool.v[j->parts[i].share.node];
        bool sick =
            n->state == MU_NODE_LOST || mu_pool_out(n) || n->leaving || j->avoid_plus1 == j->parts[i].share.node + 1;
        bool full = is_taken(c, j, &j->parts[i].share);
        if (n->ready && !sick && !full)
            continue;
        if ((sick || full) && replace(c, j, &j->parts[i], &ch)) {
            moved = true;
        } else if (full && !sick) {
            taken = n->name;
        } else if (n->ready && !n->leaving) { /* nobody else: then one that is out is better than none */
            continue;
        } else if (sick) {
            lacks = n->name;
        } else {
            away = true;
        }
    }
    free(ch.most);
    j->avoid_plus1 = 0;
    if (lacks && !away && shrink(c, j)) {
        lacks = NULL;
        moved = true;
    }
    if (moved) {
        char why[400];
        mu_pool_describe(&c->pool, &j->parts[0].share, j->nparts, sizeof *j->parts, why, sizeof why);
        mu_ctl_replace(&j->row.placed, why);
        if (why[0])
            mu_ctl_event(c, j, "placed", -1, NULL, "%s", why);
        if (!mu_ctl_place_record(c, j))
            c->acts->failed = true;
    }
    if (!lacks && !away && !taken) {
        j->short_since = 0;
        return 1;
    }
    if (moved)
        mu_ctl_put(c, j, true);
    if (taken)
        mu_ctl_set_state(c, j, MU_JOB_RECOVERING,
                         "its slots on node %s were taken by a job that was found there; waiting", taken);
    if (lacks && !j->short_since)
        j->short_since = c->now ? c->now : 1;
    if (lacks)
        mu_ctl_set_state(c, j, MU_JOB_RECOVERING, "node %s is gone and no other is free; waiting for one", lacks);
    if (lacks && c->cfg.node_wait_ns && c->now >= j->short_since + c->cfg.node_wait_ns) {
        char why[400];
        snprintf(why, sizeof why, "node %.200s was lost and no other has come up within %llu s", lacks,
                 (unsigned long long)(c->cfg.node_wait_ns / MU_SEC));
        mu_ctl_job_finish(c, j, MU_JOB_FAILED, 1, why);
        return 0;
    }
    j->retry_at = c->now + LOOK_AGAIN;
    return 0;
}

/* Spares that were used up or lost are taken anew from what is free. */
void mu_ctl_place_spares(struct mu_ctl *c, struct job *j)
{
    uint32_t slots = 0;
    bool changed = false;
    struct choice ch = {0};

    if (!j->holds || mu_job_waits(j->row.state) || mu_job_over(j->row.state))
        return;
    for (unsigned s = 0; s < j->nspares;) {
        const struct mu_node *n = &c->pool.v[j->spares[s].node];
        if (n->state != MU_NODE_LOST && !mu_pool_out(n) && !n->leaving && !is_crowded(n)) {
            s++;
            continue;
        }
        mu_pool_give(&c->pool, &j->spec, &j->spares[s], 1);
        j->spares[s] = j->spares[--j->nspares];
        changed = true;
    }
    for (unsigned i = 0; i < j->nparts; i++)
        slots = j->parts[i].share.slots > slots ? j->parts[i].share.slots : slots;
    struct mu_share want = {.ranks = slots, .slots = slots};
    struct ring at = {0};
    if (j->nparts)
        at = (struct ring){j->parts[0].share.node, j->parts[j->nparts - 1].share.node};
    for (int node; j->nspares < j->spec.spares && (node = other_node(c, j, &want, at, &ch)) >= 0;) {
        struct mu_share *v = realloc(j->spares, (j->nspares + 1) * sizeof *v);
        if (!v)
            break;
        j->spares = v;
        v[j->nspares++] = (struct mu_share){.node = (uint32_t)node, .slots = slots};
        mu_pool_take(&c->pool, &j->spec, &v[j->nspares - 1], 1);
        changed = true;
    }
    free(ch.most);
    if (changed && !mu_ctl_place_record(c, j))
        c->acts->failed = true;
    if (changed)
        mu_ctl_put(c, j, false);
}

/* Names, and numbers from shares that are `stride` bytes apart. */
static bool list(const struct mu_pool *pool, const void *shares, unsigned n, size_t stride, char ***names,
                 uint32_t **ranks, uint32_t **slots)
{
    char **v = calloc(n + 1u, sizeof *v);
    uint32_t *r = calloc(n + 1u, sizeof *r), *s = calloc(n + 1u, sizeof *s);
    bool ok = v && r && s;

    for (unsigned i = 0; ok && i < n; i++) {
        const struct mu_share *share = (const struct mu_share *)((const char *)shares + i * stride);
        v[i] = strdup(pool->v[share->node].name);
        r[i] = share->ranks;
        s[i] = share->slots;
        ok = v[i] != NULL;
    }
    if (!ok) {
        mu_strv_free(v);
        free(r);
        free(s);
        return false;
    }
    *names = v;
    *ranks = r;
    *slots = s;
    return true;
}

bool mu_ctl_place_record(struct mu_ctl *c, struct job *j)
{
    struct mu_m_jobrow *row = &j->row;
    char **nodes, **spares;
    uint32_t *ranks, *slots, *none, *spare_slots;

    if (!list(&c->pool, j->parts, j->nparts, sizeof *j->parts, &nodes, &ranks, &slots))
        return false;
    if (!list(&c->pool, j->spares, j->nspares, sizeof *j->spares, &spares, &none, &spare_slots)) {
        mu_strv_free(nodes);
        free(ranks);
        free(slots);
        return false;
    }
    free(none);
    mu_strv_free(row->nodes);
    mu_strv_free(row->spare_nodes);
    free(row->node_ranks.v);
    free(row->node_slots.v);
    free(row->spare_slots.v);
    row->nodes = nodes;
    row->spare_nodes = spares;
    row->node_ranks = (struct mu_u32v){.v = ranks, .n = j->nparts};
    row->node_slots = (struct mu_u32v){.v = slots, .n = j->nparts};
    row->spare_slots = (struct mu_u32v){.v = spare_slots, .n = j->nspares};
    return true;
}
