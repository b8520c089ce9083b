/* Communicators. A split asks nothing of MPI: colours and keys are gathered by our own collective, and the identity of
 * a new communicator follows from its parent's, the number of the split and the colour. */
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "collectives/engine.h"
#include "runtime/base/clean.h"

int mu_comm_new(struct mu_engine *e, uint64_t ctx, int rank, int size, const int *world, struct muster_comm **out,
                struct mu_err *err)
{
    struct muster_comm *c = calloc(1, sizeof *c);
    struct mu_frames strays = e->stray;

    if (c) {
        c->world = malloc((size_t)size * sizeof *c->world);
        c->sends = calloc((size_t)size, sizeof *c->sends);
    }
    if (!c || !c->world || !c->sends) {
        if (c) {
            free(c->world);
            free(c->sends);
        }
        free(c);
        return mu_err_set(err, MUSTER_ENOMEM, "no memory for a communicator");
    }
    memcpy(c->world, world, (size_t)size * sizeof *world);
    c->engine = e;
    c->ctx = ctx;
    c->rank = rank;
    c->size = size;
    c->next = e->comms;
    e->comms = c;
    e->stray = (struct mu_frames){0};
    for (struct mu_frame *f; (f = mu_frames_pop(&strays));)
        mu_coll_dispatch(e, f);
    *out = c;
    return 0;
}

void mu_comm_delete(struct muster_comm *comm)
{
    struct mu_engine *e = comm->engine;
    struct muster_comm **at = &e->comms;
    uint64_t *retired = realloc(e->retired, (e->nretired + 1) * sizeof *retired);

    if (retired) { /* without it a late frame is kept a little too long */
        e->retired = retired;
        e->retired[e->nretired++] = comm->ctx;
    }
    while (*at != comm)
        at = &(*at)->next;
    *at = comm->next;
    for (unsigned i = 0; i < MU_BUCKETS; i++) {
        mu_frames_clear(&comm->early[i], &e->pool);
        mu_frames_clear(&comm->early_p2p[i], &e->pool);
    }
    free(comm->world);
    free(comm->sends);
    free(comm);
}

static uint64_t mix(uint64_t x)
{
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ x >> 27) * 0x94d049bb133111ebull;
    return x ^ x >> 31;
}

struct place {
    int32_t color, key;
    int32_t rank; /* in the parent */
};

static int by_key(const void *a, const void *b)
{
    const struct place *x = a, *y = b;

    return x->key != y->key ? (x->key > y->key) - (x->key < y->key) : (x->rank > y->rank) - (x->rank < y->rank);
}

int mu_comm_split(struct muster_comm *comm, int color, int key, struct muster_comm **out, struct mu_err *err)
{
    mu_auto_free struct place *all = calloc((size_t)comm->size, sizeof *all);
    mu_auto_free int *world = calloc((size_t)comm->size, sizeof *world);
    struct place mine = {.color = color < 0 ? -1 : color, .key = key, .rank = comm->rank};
    struct muster_comm *made = NULL;
    uint64_t ctx = mix(mix(mix(comm->ctx + 0x9e3779b97f4a7c15ull) + comm->seq) + (uint64_t)(uint32_t)mine.color);
    int n = 0, rank = 0, rc;

    if (!all || !world)
        return mu_err_set(err, MUSTER_ENOMEM, "no memory to split a communicator");
    rc = mu_coll_run(comm,
                     &(struct mu_call){.kind = MU_OP_KIND_SPLIT,
                                       .dtype = MUSTER_INT32,
                                       .count = sizeof mine / sizeof(int32_t),
                                       .send = &mine,
                                       .recv = all},
                     err);
    if (rc < 0)
        return rc;
    if (color >= 0) {
        for (int i = 0; i < comm->size; i++)
            if (all[i].color == color)
                all[n++] = all[i];
        qsort(all, (size_t)n, sizeof *all, by_key);
        for (int i = 0; i < n; i++) {
            world[i] = comm->world[all[i].rank];
            if (all[i].rank == comm->rank)
                rank = i;
        }
        rc = mu_comm_new(comm->engine, ctx, rank, n, world, &made, err);
        if (rc < 0)
            return rc;
    }
    *out = made;
    return 0;
}
