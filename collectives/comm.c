/* Communicators. A split asks nothing of MPI: colours and keys are gathered by our own collective, and the identity of
 * a new communicator follows from its parent's, the number of the split and the colour. */
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "collectives/hier.h"
#include "collectives/nccl/backend.h"
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
    uint64_t *retired;

    mu_gpu_detach(comm);
    mu_hier_detach(comm);
    mu_flight_close(e->flight, comm->flight);
    retired = realloc(e->retired, (e->nretired + 1) * sizeof *retired);
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
    mu_shm_detach(comm);
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

uint64_t mu_comm_ctx(uint64_t parent, uint64_t number, uint64_t which)
{
    return mix(mix(mix(parent + 0x9e3779b97f4a7c15ull) + number) + which);
}

struct place {
    int32_t color, key;
    int32_t rank;    /* in the parent */
    int32_t channel; /* of its segment, for the new communicator; -1: none */
    uint32_t freed;
};

static int by_key(const void *a, const void *b)
{
    const struct place *x = a, *y = b;

    return x->key != y->key ? (x->key > y->key) - (x->key < y->key) : (x->rank > y->rank) - (x->rank < y->rank);
}

/* Ranks of one node use channels, where every member could spare one. */
static int use_channels(struct muster_comm *made, const struct place *members, struct mu_err *err)
{
    mu_auto_free struct mu_shm_ref *refs = calloc((size_t)made->size, sizeof *refs);

    if (!refs)
        return mu_err_set(err, MUSTER_ENOMEM, "no memory for a communicator");
    for (int i = 0; i < made->size; i++)
        refs[i] = (struct mu_shm_ref){made->world[i], members[i].channel, members[i].freed};
    return mu_hier_attach(made, refs, members[made->rank].channel, err);
}

static int make_part(struct muster_comm *comm, const struct place *mine, uint64_t ctx, struct place *all,
                     struct muster_comm **out, struct mu_err *err)
{
    mu_auto_free int *world = calloc((size_t)comm->size, sizeof *world);
    int n = 0, rank = 0, rc;

    if (!world)
        return mu_err_set(err, MUSTER_ENOMEM, "no memory to split a communicator");
    for (int i = 0; i < comm->size; i++)
        if (all[i].color == mine->color)
            all[n++] = all[i];
    qsort(all, (size_t)n, sizeof *all, by_key);
    for (int i = 0; i < n; i++) {
        world[i] = comm->world[all[i].rank];
        if (all[i].rank == comm->rank)
            rank = i;
    }
    rc = mu_comm_new(comm->engine, ctx, rank, n, world, out, err);
    return rc == 0 && comm->engine->place ? use_channels(*out, all, err) : rc;
}

int mu_comm_split(struct muster_comm *comm, int color, int key, struct muster_comm **out, struct mu_err *err)
{
    mu_auto_free struct place *all = calloc((size_t)comm->size, sizeof *all);
    struct place mine = {.color = color < 0 ? -1 : color, .key = key, .rank = comm->rank, .channel = -1};
    struct muster_comm *made = NULL;
    struct mu_shm *shm = comm->engine->shm;
    uint64_t ctx = mu_comm_ctx(comm->ctx, comm->seq, (uint64_t)(uint32_t)mine.color);
    int rc;

    if (!all)
        return mu_err_set(err, MUSTER_ENOMEM, "no memory to split a communicator");
    if (shm && color >= 0)
        mine.channel = mu_shm_lend(shm, &mine.freed);
    rc = mu_coll_run(comm,
                     &(struct mu_call){.kind = MU_OP_KIND_SPLIT,
                                       .dtype = MUSTER_INT32,
                                       .count = sizeof mine / sizeof(int32_t),
                                       .send = &mine,
                                       .recv = all},
                     err);
    if (rc < 0 && mine.channel >= 0)
        mu_shm_return(shm, mine.channel);
    if (rc == 0 && color >= 0)
        rc = make_part(comm, &mine, ctx, all, &made, err);
    if (rc < 0) {
        if (made)
            mu_comm_delete(made);
        return rc;
    }
    *out = made;
    return 0;
}
