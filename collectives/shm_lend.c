/* Channels and the communicators that have them. A channel is lent again only when all to whom it was lent have freed
 * their communicator, too: until then they may look at it. */
#include <stdlib.h>
#include <string.h>

#include "collectives/shm.h"
#include "runtime/base/clean.h"

static struct mu_channel *channel(const struct mu_shm *shm, const struct mu_shm_ref *ref)
{
    return (struct mu_channel *)(void *)(shm->peers[ref->world].seg.base + MU_SEG_HEAD) + ref->index;
}

static bool is_back(const struct mu_shm *shm, const struct mu_shm_lent *lent)
{
    if (lent->taken)
        return false;
    for (int i = 0; i < lent->n; i++)
        if ((uint32_t)atomic_load_explicit(&channel(shm, &lent->to[i])->counter[MU_FREED].value,
                                           memory_order_acquire) == lent->to[i].freed)
            return false;
    return true;
}

int mu_shm_lend(struct mu_shm *shm, uint32_t *freed)
{
    for (int i = 0; i < (int)MU_CHANNELS; i++) {
        struct mu_channel *c = &shm->own[i];

        if (!is_back(shm, &shm->lent[i]))
            continue;
        free(shm->lent[i].to);
        shm->lent[i] = (struct mu_shm_lent){.taken = true};
        for (unsigned k = 0; k < MU_POSTS; k++)
            atomic_store_explicit(&c->post[k].word, 0, memory_order_relaxed);
        for (unsigned k = 0; k < MU_FREED; k++)
            atomic_store_explicit(&c->counter[k].value, 0, memory_order_relaxed);
        atomic_thread_fence(memory_order_release);
        *freed = (uint32_t)atomic_load_explicit(&c->counter[MU_FREED].value, memory_order_relaxed);
        return i;
    }
    return -1;
}

void mu_shm_return(struct mu_shm *shm, int index)
{
    shm->lent[index].taken = false;
}

bool mu_shm_fits(const struct mu_shm *shm, const struct mu_shm_ref *refs, int n)
{
    for (int i = 0; i < n; i++)
        if (refs[i].index < 0 || refs[i].index >= (int)MU_CHANNELS || !shm->group[refs[i].world] ||
            shm->group[refs[i].world] != shm->group[refs[0].world])
            return false;
    return n > 1;
}

int mu_shm_attach(struct muster_comm *comm, const struct mu_shm_ref *refs, struct mu_err *err)
{
    struct mu_shm *shm = comm->engine->shm;
    size_t p = (size_t)comm->size;
    mu_auto_free struct mu_domain *domain = calloc(p, sizeof *domain);
    struct mu_shm_comm *sc = calloc(1, sizeof *sc);
    struct mu_shm_lent *lent = &shm->lent[refs[comm->rank].index];

    if (sc) {
        sc->ch = calloc(p, sizeof *sc->ch);
        sc->seen = calloc(p, sizeof *sc->seen);
        sc->src = calloc(p, sizeof *sc->src);
        sc->dst = calloc(p + 1, sizeof *sc->dst);
        lent->to = calloc(p, sizeof *lent->to);
    }
    comm->shm = sc;
    if (!sc || !sc->ch || !sc->seen || !sc->src || !sc->dst || !lent->to || !domain)
        return mu_err_set(err, MUSTER_ENOMEM, "no memory for a communicator");
    sc->shm = shm;
    sc->own = (unsigned)refs[comm->rank].index;
    sc->p = comm->size;
    sc->me = comm->rank;
    sc->last = &sc->first;
    for (int k = 0; k < comm->size; k++) {
        domain[k] = shm->peers[comm->world[k]].domain;
        if (k == comm->rank) {
            sc->ch[k] = &shm->own[sc->own];
            continue;
        }
        sc->ch[k] = channel(shm, &refs[k]);
        lent->to[lent->n++] = refs[k];
    }
    sc->lanes = mu_domain_lanes(domain, comm->size);
    /* The number of the first operation that goes this way. */
    sc->settled = comm->seq;
    for (size_t k = 0; k < p; k++)
        sc->seen[k] = comm->seq;
    return 0;
}

void mu_shm_detach(struct muster_comm *comm)
{
    struct mu_shm_comm *sc = comm->shm;

    if (!sc)
        return;
    if (sc->shm) {
        struct mu_channel *c = &sc->shm->own[sc->own];
        uint64_t freed = atomic_load_explicit(&c->counter[MU_FREED].value, memory_order_relaxed);

        atomic_store_explicit(&c->counter[MU_FREED].value, freed + 1, memory_order_release);
        sc->shm->lent[sc->own].taken = false;
    }
    free(sc->ch);
    free(sc->seen);
    free(sc->src);
    free(sc->dst);
    free(sc);
    comm->shm = NULL;
}
