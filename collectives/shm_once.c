/* Short blocking calls: what makes up most of them is not the memory between the ranks but the library. So a post is
 * made, the others' posts are looked for, and that was it, when nothing else is under way and nothing is amiss. All
 * else is left to a request, which goes on where this has come to. */
#include <string.h>

#include "collectives/algorithms.h"
#include "collectives/ops.h"

#define POLLS 1000u
#define POLLS_CROWDED 4u

struct once {
    const struct mu_call *call;
    struct mu_shm_comm *sc;
    size_t n;      /* bytes of a block */
    bool for_each; /* a block for every rank, not one for all */
    size_t bytes;  /* that a rank gives */
    bool inside;   /* they fit into the post; else they lie in a place */
    struct mu_shm_place place;
    uint64_t s, word;
    unsigned post;
};

static bool is_short(const struct once *o)
{
    switch (o->call->kind) {
    case MU_OP_KIND_ALLREDUCE:
    case MU_OP_KIND_REDUCE:
        return o->n <= MU_SHM_SHORT && o->n <= o->sc->shm->small_reduction;
    case MU_OP_KIND_BROADCAST:
    case MU_OP_KIND_ALLGATHER:
    case MU_OP_KIND_BARRIER:
        return o->n <= MU_SHM_SHORT;
    case MU_OP_KIND_REDUCE_SCATTER:
    case MU_OP_KIND_ALLTOALL:
        return o->n <= MU_SHM_SHORT / (size_t)o->sc->p;
    default:
        return false;
    }
}

static bool may_post(struct once *o)
{
    if (!mu_shm_free_post(o->sc, NULL, o->s))
        return false;
    o->bytes = o->for_each ? o->n * (size_t)o->sc->p : o->n;
    o->inside = o->bytes <= MU_POST_ROOM;
    if (o->inside)
        return true;
    mu_shm_place(&o->place, o->bytes, o->s);
    return mu_shm_take_place(o->sc, NULL, o->s, &o->place);
}

static bool is_well(const struct muster_comm *comm)
{
    const struct mu_engine *e = comm->engine;

    return !MU_CHECKS || (!comm->dead && !e->dead && !e->trouble && !mu_coll_is_told(e));
}

static bool is_root(const struct once *o, int k)
{
    return o->call->root == k;
}

static void post(const struct once *o, struct mu_sig sig)
{
    bool broadcast = o->call->kind == MU_OP_KIND_BROADCAST;
    const void *from = broadcast ? o->call->recv : o->call->send;
    size_t used = broadcast && !is_root(o, o->sc->me) ? 0 : o->bytes;

    if (!o->inside)
        mu_ops_copy(mu_shm_in(o->sc->ch[o->sc->me], &o->place), from, used, false);
    mu_shm_put_post(o->sc, o->s, o->word, sig, from, o->inside ? used : 0);
}

static inline bool hears(const struct once *o, int k, unsigned *polls)
{
    const _Atomic uint64_t *word = &o->sc->ch[k]->post[o->post].word;

    while (atomic_load_explicit(word, memory_order_acquire) != o->word)
        if ((*polls)-- == 0)
            return false;
    if (MU_CHECKS && o->sc->seen[k] + 1 != o->s && !mu_shm_agreed(o->sc, o->s, k))
        return false;
    o->sc->seen[k] = o->s;
    return true;
}

static bool hear(const struct once *o, unsigned polls)
{
    struct mu_shm_comm *sc = o->sc;

    if (o->call->kind == MU_OP_KIND_BROADCAST)
        return is_root(o, sc->me) || hears(o, o->call->root, &polls);
    if (o->call->kind == MU_OP_KIND_REDUCE && !is_root(o, sc->me))
        return true;
    for (int k = 0; k < sc->p; k++)
        if (k != sc->me && !hears(o, k, &polls))
            return false;
    if (sc->settled < o->s - 1)
        sc->settled = o->s - 1;
    return true;
}

static char *given_by(const struct once *o, int k)
{
    struct mu_channel *c = o->sc->ch[k];
    size_t own = o->for_each ? (size_t)o->sc->me * o->n : 0;

    return (o->inside ? c->post[o->post].room : mu_shm_in(c, &o->place)) + own;
}

static void copy(const struct once *o, void *to, const void *from)
{
    if (o->inside)
        memcpy(to, from, o->n);
    else
        mu_ops_copy(to, from, o->n, false);
}

static void give_back(const struct once *o)
{
    bool broadcast = o->call->kind == MU_OP_KIND_BROADCAST;

    if (o->inside || !mu_shm_gives_back(o->sc, o->for_each, !broadcast))
        return;
    for (int k = 0; k < o->sc->p; k++)
        if (k != o->sc->me && (!broadcast || is_root(o, k)))
            mu_ops_rewrite(given_by(o, k), o->n);
}

static void reduce(const struct once *o)
{
    struct mu_shm_comm *sc = o->sc;
    const struct mu_call *call = o->call;
    const void *own = mu_at(call->send, o->for_each ? (size_t)sc->me * o->n : 0);
    struct mu_reducer red;

    if (sc->p == 2) {
        const void *other = given_by(o, !sc->me);

        mu_ops_pair(call->dtype, call->op, call->recv, sc->me ? other : own, sc->me ? own : other, call->count);
        return;
    }
    for (int k = 0; k < sc->p; k++)
        sc->src[k] = given_by(o, k);
    sc->src[sc->me] = own;
    sc->dst[0] = call->recv;
    mu_ops_reducer_to(&red, call->dtype, call->op);
    mu_ops_reduce(&red, sc->dst, 1, sc->src, (unsigned)sc->p, call->count, false);
}

static void gather(const struct once *o)
{
    int p = o->sc->p, me = o->sc->me;
    const char *own = mu_at(o->call->send, o->for_each ? (size_t)me * o->n : 0);

    for (int i = 0, k = me; i < p; i++, k = k + 1 < p ? k + 1 : 0) {
        char *to = mu_at(o->call->recv, (size_t)k * o->n);
        const char *from = k == me ? own : given_by(o, k);

        if (to != from)
            copy(o, to, from);
    }
}

static void take(const struct once *o)
{
    const struct mu_shm_comm *sc = o->sc;

    switch (o->call->kind) {
    case MU_OP_KIND_REDUCE:
        if (!is_root(o, sc->me))
            return;
        reduce(o);
        break;
    case MU_OP_KIND_ALLREDUCE:
    case MU_OP_KIND_REDUCE_SCATTER:
        reduce(o);
        break;
    case MU_OP_KIND_ALLGATHER:
    case MU_OP_KIND_ALLTOALL:
        gather(o);
        break;
    case MU_OP_KIND_BROADCAST:
        if (is_root(o, sc->me))
            return;
        copy(o, o->call->recv, given_by(o, o->call->root));
        break;
    default:
        return;
    }
    give_back(o);
}

/* As enlist() and mu_coll_end() in engine.c, when there is no request. */
static void leave(struct muster_comm *comm, const struct once *o, struct mu_flight_record *flight)
{
    comm->engine->entered++;
    comm->seq++;
    atomic_store_explicit(&o->sc->ch[o->sc->me]->counter[MU_DONE].value, o->s, memory_order_release);
    if (flight)
        mu_flight_leave(flight, mu_tick(), false);
}

bool mu_shm_at_once(struct muster_comm *comm, const struct mu_call *call, bool *posted)
{
    struct mu_engine *e = comm->engine;
    struct mu_flight_record *flight;
    struct mu_sig sig;
    struct once o; /* the rest is set when it is needed */

    o.call = call;
    o.sc = comm->shm;
    o.n = call->count * mu_dtype_size(call->dtype);
    o.s = comm->seq + 1;
    o.post = o.s % MU_POSTS;
    o.for_each = call->kind == MU_OP_KIND_REDUCE_SCATTER || call->kind == MU_OP_KIND_ALLTOALL;
    if (comm->shm->first || comm->quick_used || !is_well(comm) || !is_short(&o) || !may_post(&o))
        return false;
    flight = MU_CHECKS && e->flight ? mu_coll_record(comm, call, o.s) : NULL;
    sig = mu_sig_of(call->kind, call->dtype, call->op, 0, mu_kinds[call->kind].has_root ? call->root : 0, call->count);
    o.word = mu_shm_word(o.s, sig);
    post(&o, sig);
    /* Here, where others' posts are on their way, it costs nothing. enlist() says it again if there is a request. */
    mu_coll_entered(e, e->entered + 1);
    mu_coll_last(e, comm->ctx, o.s);
    if (!hear(&o, e->crowded ? POLLS_CROWDED : POLLS)) {
        comm->recorded = flight;
        *posted = true;
        return false;
    }
    if (call->count)
        take(&o);
    leave(comm, &o, flight);
    return true;
}
