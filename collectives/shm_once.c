/* Blocking calls whose data fits into their posts: what makes up most of such a call is not the memory between the
 * ranks but the library. So a post is made, the others' posts are looked for, and that was it, when nothing else is
 * under way and nothing is amiss. All else is left to a request, which goes on where this has come to. */
#include <string.h>

#include "collectives/algorithms.h"
#include "collectives/ops.h"

#define POLLS 1000u
#define POLLS_CROWDED 4u

struct once {
    const struct mu_call *call;
    struct mu_shm_comm *sc;
    size_t n; /* bytes of a block */
    uint64_t s, word;
    unsigned post;
    bool for_each; /* a block for every rank, not one for all */
};

static bool fits(const struct once *o)
{
    size_t p = (size_t)o->sc->p;

    switch (o->call->kind) {
    case MU_OP_KIND_ALLREDUCE:
    case MU_OP_KIND_REDUCE:
        return o->n <= MU_POST_ROOM && o->n <= o->sc->shm->small_reduction;
    case MU_OP_KIND_BROADCAST:
    case MU_OP_KIND_ALLGATHER:
    case MU_OP_KIND_BARRIER:
        return o->n <= MU_POST_ROOM;
    case MU_OP_KIND_REDUCE_SCATTER:
    case MU_OP_KIND_ALLTOALL:
        return o->n <= MU_POST_ROOM / p;
    default:
        return false;
    }
}

static bool is_well(const struct muster_comm *comm)
{
    const struct mu_engine *e = comm->engine;

    return !MU_CHECKS || (!comm->dead && !e->dead && !e->trouble &&
                          !(e->head && atomic_load_explicit(&e->head->abort, memory_order_acquire)));
}

static bool is_root(const struct once *o, int k)
{
    return o->call->root == k;
}

static void post(const struct once *o, const struct mu_sig *sig)
{
    bool broadcast = o->call->kind == MU_OP_KIND_BROADCAST;
    size_t used = o->for_each ? o->n * (size_t)o->sc->p : broadcast && !is_root(o, o->sc->me) ? 0 : o->n;

    mu_shm_put_post(o->sc, o->s, o->word, sig, broadcast ? o->call->recv : o->call->send, used);
}

static bool hears(const struct once *o, int k, unsigned *polls)
{
    const _Atomic uint64_t *word = &o->sc->ch[k]->post[o->post].word;

    while (atomic_load_explicit(word, memory_order_acquire) != o->word)
        if ((*polls)-- == 0)
            return false;
    if (MU_CHECKS && !mu_shm_agreed(o->sc, o->s, k))
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

static void reduce(const struct once *o)
{
    struct mu_shm_comm *sc = o->sc;
    size_t own = o->for_each ? (size_t)sc->me * o->n : 0;
    struct mu_reducer red;

    for (int k = 0; k < sc->p; k++)
        sc->src[k] = sc->ch[k]->post[o->post].room + own;
    sc->src[sc->me] = mu_at(o->call->send, own);
    sc->dst[0] = mu_at(o->call->recv, 0);
    mu_ops_reducer_to(&red, o->call->dtype, o->call->op);
    mu_ops_reduce(&red, sc->dst, 1, sc->src, (unsigned)sc->p, o->call->count, false);
}

static void gather(const struct once *o)
{
    const struct mu_shm_comm *sc = o->sc;
    size_t own = o->for_each ? (size_t)sc->me * o->n : 0;

    for (int k = 0; k < sc->p; k++) {
        const char *from = sc->ch[k]->post[o->post].room + own;
        char *to = mu_at(o->call->recv, (size_t)k * o->n);

        if (k != sc->me || to != mu_at(o->call->send, own))
            memcpy(to, from, o->n);
    }
}

static void take(const struct once *o)
{
    const struct mu_shm_comm *sc = o->sc;
    const struct mu_channel *root;

    switch (o->call->kind) {
    case MU_OP_KIND_REDUCE:
        if (is_root(o, sc->me))
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
            break;
        root = sc->ch[o->call->root];
        mu_shm_fetch_posts(root, o->s);
        memcpy(o->call->recv, root->post[o->post].room, o->n);
        break;
    default:
        break;
    }
}

/* As if there were a request: enlist() in engine.c, which says the same again when there is one after all. */
static struct mu_flight_record *enter(struct muster_comm *comm, const struct once *o)
{
    struct mu_engine *e = comm->engine;

    if (!MU_CHECKS)
        return NULL;
    atomic_store_explicit(&e->slot->op_seq, e->entered + 1, memory_order_relaxed);
    atomic_store_explicit(&e->slot->last_ctx, comm->ctx, memory_order_relaxed);
    atomic_store_explicit(&e->slot->last_number, o->s, memory_order_relaxed);
    return e->flight ? mu_coll_record(comm, o->call, o->s) : NULL;
}

/* Likewise mu_coll_end(). */
static void leave(struct muster_comm *comm, const struct once *o, const struct mu_sig *sig,
                  struct mu_flight_record *flight)
{
    struct mu_engine *e = comm->engine;

    e->entered++;
    if (MU_CHECKS)
        mu_sig_copy(&comm->history[comm->seq % MU_HISTORY], sig);
    comm->seq++;
    atomic_store_explicit(&o->sc->ch[o->sc->me]->counter[MU_DONE].value, o->s, memory_order_release);
    e->ends++;
    if (flight)
        mu_flight_leave(flight, mu_tick(), false);
    mu_coll_beat(e);
}

bool mu_shm_at_once(struct muster_comm *comm, const struct mu_call *call, bool *posted)
{
    struct once o = {.call = call,
                     .sc = comm->shm,
                     .n = call->count * mu_dtype_size(call->dtype),
                     .s = comm->seq + 1,
                     .post = (comm->seq + 1) % MU_POSTS,
                     .for_each = call->kind == MU_OP_KIND_REDUCE_SCATTER || call->kind == MU_OP_KIND_ALLTOALL};
    struct mu_flight_record *flight;
    struct mu_sig sig;

    if (comm->shm->first || comm->quick_used || !is_well(comm) || !fits(&o) || !mu_shm_free_post(comm->shm, NULL, o.s))
        return false;
    flight = enter(comm, &o);
    sig = mu_sig_of(call->kind, call->dtype, call->op, 0, mu_kinds[call->kind].has_root ? call->root : 0, call->count);
    o.word = mu_shm_word(o.s, &sig);
    post(&o, &sig);
    if (!hear(&o, comm->engine->crowded ? POLLS_CROWDED : POLLS)) {
        comm->recorded = flight;
        *posted = true;
        return false;
    }
    if (call->count)
        take(&o);
    leave(comm, &o, &sig, flight);
    return true;
}
