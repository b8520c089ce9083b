#include "launcher/core/fences.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/wire/gather.h"

#define KINDS_KEPT 8u /* results of fences of some ranks that an attempt has at most */

struct fence {
    uint64_t seq;
    struct mu_gather got; /* until it is over */
    struct mu_bytes result;
    int status;
    uint64_t over; /* grows from one that is done to the next; 0: under way */
    bool asked;    /* who is missing may have been answered by a predecessor */
};

struct attempt {
    uint64_t job;
    uint32_t number, nnodes;
    struct fence *v;
    unsigned n, cap;
    bool *gone; /* by node */
};

struct mu_fences {
    mu_fences_send_fn send;
    void *arg;
    struct attempt *v;
    unsigned n, cap;
    uint64_t bytes, limit, done;
};

struct mu_fences *mu_fences_new(uint64_t limit, mu_fences_send_fn send, void *arg)
{
    struct mu_fences *f = calloc(1, sizeof *f);

    if (f)
        *f = (struct mu_fences){.send = send, .arg = arg, .limit = limit};
    return f;
}

static void drop_fence(struct mu_fences *f, struct attempt *a, unsigned i)
{
    f->bytes -= a->v[i].got.bytes + a->v[i].result.len;
    mu_gather_free(&a->v[i].got);
    free(a->v[i].result.data);
    a->v[i] = a->v[--a->n];
}

static void drop_attempt(struct mu_fences *f, struct attempt *a)
{
    while (a->n)
        drop_fence(f, a, a->n - 1);
    free(a->v);
    free(a->gone);
    *a = f->v[--f->n];
}

void mu_fences_free(struct mu_fences *f)
{
    if (!f)
        return;
    while (f->n)
        drop_attempt(f, &f->v[0]);
    free(f->v);
    free(f);
}

uint64_t mu_fences_bytes(const struct mu_fences *f)
{
    return f->bytes;
}

static struct attempt *find(struct mu_fences *f, uint64_t job)
{
    for (unsigned i = 0; i < f->n; i++)
        if (f->v[i].job == job)
            return &f->v[i];
    return NULL;
}

void mu_fences_end(struct mu_fences *f, uint64_t job)
{
    struct attempt *a = find(f, job);

    if (a)
        drop_attempt(f, a);
}

/* NULL: an older attempt's, or out of memory. */
static struct attempt *attempt_of(struct mu_fences *f, uint64_t job, uint32_t number, uint32_t nnodes)
{
    struct attempt *a = find(f, job);

    if (a && (number < a->number || (number == a->number && nnodes == a->nnodes)))
        return number < a->number ? NULL : a;
    if (a)
        drop_attempt(f, a);
    if (f->n == f->cap) {
        unsigned cap = f->cap ? f->cap * 2 : 8;
        struct attempt *v = realloc(f->v, cap * sizeof *v);
        if (!v)
            return NULL;
        f->v = v;
        f->cap = cap;
    }
    bool *gone = calloc(nnodes ? nnodes : 1, sizeof *gone);
    if (!gone)
        return NULL;
    f->v[f->n] = (struct attempt){.job = job, .number = number, .nnodes = nnodes, .gone = gone};
    return &f->v[f->n++];
}

/* NULL: out of memory. */
static struct fence *add(struct attempt *a, uint64_t seq)
{
    if (a->n == a->cap) {
        unsigned cap = a->cap ? a->cap * 2 : 4;
        struct fence *v = realloc(a->v, cap * sizeof *v);
        if (!v)
            return NULL;
        a->v = v;
        a->cap = cap;
    }
    a->v[a->n] = (struct fence){.seq = seq};
    return &a->v[a->n++];
}

static void answer(struct mu_fences *f, const struct attempt *a, const struct fence *e, const uint32_t *nodes,
                   uint32_t n)
{
    struct mu_m_fenced m = {.job = a->job, .attempt = a->number, .seq = e->seq, .status = e->status, .data = e->result};

    f->send(f->arg, a->job, nodes, n, MU_MSG_fenced, &m);
}

static void refuse(struct mu_fences *f, const struct attempt *a, const struct mu_m_fence *m, int status)
{
    struct fence none = {.seq = m->seq, .status = status};

    if (!(m->flags & MU_FENCE_DONE))
        answer(f, a, &none, m->nodes.v, m->nodes.n);
}

static void ask(struct mu_fences *f, const struct attempt *a, uint64_t seq, uint32_t node)
{
    struct mu_m_fence m = {.job = a->job, .attempt = a->number, .seq = seq};

    f->send(f->arg, a->job, &node, 1, MU_MSG_fence, &m);
}

static bool misses(const struct fence *e, uint32_t node)
{
    return !e->over && e->got.of[node].wanted && !e->got.of[node].have;
}

/* Results that nobody can ask for any more: those of one kind that are behind the last ones, and of kinds that were
 * used least recently. */
static void tidy(struct mu_fences *f, struct attempt *a, uint64_t seq)
{
    unsigned kept = 0, oldest = 0;

    for (unsigned i = a->n; i-- > 0;)
        if (mu_fence_kind(a->v[i].seq) == mu_fence_kind(seq) && mu_fence_behind(seq, a->v[i].seq) >= MU_FENCE_KEEP)
            drop_fence(f, a, i);
    for (unsigned i = 0; i < a->n; i++) {
        if (!a->v[i].over || !mu_fence_kind(a->v[i].seq))
            continue;
        if (!kept++ || a->v[i].over < a->v[oldest].over)
            oldest = i;
    }
    if (kept > KINDS_KEPT)
        drop_fence(f, a, oldest);
}

/* All who wait, in one go. */
static void answer_all(struct mu_fences *f, const struct attempt *a, const struct fence *e)
{
    uint32_t *nodes = malloc((a->nnodes + 1u) * sizeof *nodes), n = 0;

    for (uint32_t i = 0; i < a->nnodes; i++) {
        if (!e->got.of[i].waits)
            continue;
        if (nodes)
            nodes[n++] = i;
        else
            answer(f, a, e, &i, 1);
    }
    if (n)
        answer(f, a, e, nodes, n);
    free(nodes);
}

static void finish(struct mu_fences *f, struct attempt *a, struct fence *e, int status)
{
    uint64_t seq = e->seq;

    if (!status)
        status = mu_gather_data(&e->got, &e->result);
    if (!status && e->result.len > MU_FRAME_MAX - 1024) {
        free(e->result.data);
        e->result = (struct mu_bytes){0};
        status = MUSTER_EARG;
    }
    e->status = status;
    e->over = ++f->done;
    answer_all(f, a, e);
    f->bytes = f->bytes - e->got.bytes + e->result.len;
    mu_gather_free(&e->got);
    tidy(f, a, seq);
}

/* Makes room for so many bytes; the oldest results go first. */
static bool room(struct mu_fences *f, uint64_t bytes)
{
    while (bytes > f->limit || f->bytes > f->limit - bytes) {
        struct attempt *at = NULL;
        unsigned which = 0;

        for (unsigned i = 0; i < f->n; i++)
            for (unsigned k = 0; k < f->v[i].n; k++)
                if (f->v[i].v[k].result.len && (!at || f->v[i].v[k].over < at->v[which].over)) {
                    at = &f->v[i];
                    which = k;
                }
        if (!at)
            return false;
        drop_fence(f, at, which);
    }
    return true;
}

static struct fence *find_fence(struct attempt *a, uint64_t seq)
{
    for (unsigned i = 0; i < a->n; i++)
        if (a->v[i].seq == seq)
            return &a->v[i];
    return NULL;
}

/* A copy of something that all have had long ago. */
static bool stale(const struct attempt *a, uint64_t seq)
{
    for (unsigned i = 0; i < a->n; i++)
        if (a->v[i].over && mu_fence_kind(a->v[i].seq) == mu_fence_kind(seq) &&
            mu_fence_behind(a->v[i].seq, seq) >= MU_FENCE_KEEP)
            return true;
    return false;
}

static struct fence *begin(struct mu_fences *f, struct attempt *a, const struct mu_m_fence *m)
{
    unsigned open = 0;
    struct fence *e;
    int rc;

    if (m->flags & MU_FENCE_DONE || m->status || stale(a, m->seq))
        return NULL; /* nobody waits */
    for (unsigned i = 0; i < a->n; i++)
        open += !a->v[i].over;
    e = open < MU_FENCES_OPEN ? add(a, m->seq) : NULL;
    if (!e) {
        refuse(f, a, m, MUSTER_ENOMEM);
        return NULL;
    }
    rc = mu_gather_init(&e->got, a->nnodes, &m->among);
    if (rc) {
        drop_fence(f, a, (unsigned)(e - a->v));
        refuse(f, a, m, rc);
        return NULL;
    }
    return e;
}

void mu_fences_take(struct mu_fences *f, uint32_t nnodes, const struct mu_m_fence *m)
{
    struct attempt *a = mu_gather_sound(m, nnodes) ? attempt_of(f, m->job, m->attempt, nnodes) : NULL;
    struct fence *e = a ? find_fence(a, m->seq) : NULL;
    bool fresh = a && !e;
    int rc = 0;

    if (e && e->over) {
        if (!(m->flags & MU_FENCE_DONE))
            answer(f, a, e, m->nodes.v, m->nodes.n);
        return;
    }
    if (fresh)
        e = begin(f, a, m);
    if (!e)
        return;
    if (m->status) { /* never */
        if (misses(e, m->nodes.v[0]))
            finish(f, a, e, m->status);
        return;
    }
    uint64_t before = e->got.bytes;
    rc = room(f, mu_gather_news(&e->got, m)) ? 0 : MUSTER_ENOMEM;
    e = find_fence(a, m->seq); /* its place may have changed */
    if (!rc)
        rc = mu_gather_add(&e->got, m);
    f->bytes += e->got.bytes - before;
    for (uint32_t i = 0; i < m->nodes.n && !(m->flags & MU_FENCE_DONE); i++)
        e->got.of[m->nodes.v[i]].waits = true;
    if (rc || !e->got.missing) {
        finish(f, a, e, rc);
        return;
    }
    bool again = m->flags & MU_FENCE_AGAIN && !e->asked;
    e->asked = e->asked || again;
    for (uint32_t i = 0; i < nnodes; i++)
        if (misses(e, i) && (again || (fresh && a->gone[i])))
            ask(f, a, e->seq, i);
}

void mu_fences_node_up(struct mu_fences *f, uint64_t job, uint32_t number, uint32_t node)
{
    const struct attempt none = {.job = job, .number = number};
    const struct attempt *a = find(f, job);

    ask(f, &none, MU_FENCE_ALL, node);
    if (!a || a->number != number || node >= a->nnodes)
        return;
    for (unsigned i = 0; i < a->n; i++)
        if ((a->v[i].asked || a->gone[node]) && misses(&a->v[i], node))
            ask(f, a, a->v[i].seq, node);
}

void mu_fences_node_gone(struct mu_fences *f, uint64_t job, uint32_t number, uint32_t nnodes, uint32_t node)
{
    struct attempt *a = node < nnodes ? attempt_of(f, job, number, nnodes) : NULL;

    if (!a || a->gone[node])
        return;
    a->gone[node] = true;
    for (unsigned i = 0; i < a->n; i++)
        if (misses(&a->v[i], node))
            ask(f, a, a->v[i].seq, node);
}
