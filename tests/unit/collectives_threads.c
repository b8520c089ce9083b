/* Ranks that are threads of one process: their calls are right, on one node and on several, whoever is late. */
#include "tests/unit/engine_threads.h"

enum { SMALL = 5, LARGE = 17 }; /* bits */

static int32_t value(int rank, size_t i, uint64_t round)
{
    return (int32_t)(((uint64_t)rank * 7 + i * 3 + round) % 11);
}

static int32_t reduced(const muster_comm *comm, size_t i, uint64_t round, muster_op op)
{
    int32_t x = value(comm->world[0], i, round);

    for (int k = 1; k < comm->size; k++) {
        int32_t y = value(comm->world[k], i, round);

        x = op == MUSTER_SUM ? x + y : y > x ? y : x;
    }
    return x;
}

static int differs(const muster_comm *comm, const struct mu_call *c, uint64_t round)
{
    const int32_t *out = c->recv;
    size_t n = c->count, p = (size_t)comm->size, me = (size_t)comm->rank;
    int bad = 0;

    switch (c->kind) {
    case MU_OP_KIND_REDUCE:
        n = comm->rank == c->root ? n : 0;
        /* fall through */
    case MU_OP_KIND_ALLREDUCE:
        for (size_t i = 0; i < n; i++)
            bad += out[i] != reduced(comm, i, round, c->op);
        break;
    case MU_OP_KIND_REDUCE_SCATTER:
        for (size_t i = 0; i < n; i++)
            bad += out[i] != reduced(comm, me * n + i, round, c->op);
        break;
    case MU_OP_KIND_ALLGATHER:
        for (size_t i = 0; i < p * n; i++)
            bad += out[i] != value(comm->world[i / n], i % n, round);
        break;
    case MU_OP_KIND_ALLTOALL:
        for (size_t i = 0; i < p * n; i++)
            bad += out[i] != value(comm->world[i / n], me * n + i % n, round);
        break;
    case MU_OP_KIND_BROADCAST:
        for (size_t i = 0; i < n; i++)
            bad += out[i] != value(comm->world[c->root], i, round);
        break;
    default:
        break;
    }
    return bad;
}

/* bits: the count is drawn below so many powers of two. */
static void one(struct rank *r, muster_comm *comm, uint64_t round, unsigned bits)
{
    static const uint8_t kinds[] = {MU_OP_KIND_ALLREDUCE,      MU_OP_KIND_ALLREDUCE, MU_OP_KIND_REDUCE,
                                    MU_OP_KIND_REDUCE_SCATTER, MU_OP_KIND_ALLGATHER, MU_OP_KIND_ALLTOALL,
                                    MU_OP_KIND_BROADCAST,      MU_OP_KIND_BARRIER};
    uint64_t x = mix(w.seed + round * 77), own = mix(x + (uint64_t)r->tp.rank);
    uint8_t kind = kinds[x % sizeof kinds];
    size_t p = (size_t)comm->size, most = MOST / sizeof(int32_t) / p;
    /* Whose memory is mapped differs from rank to rank, or not. */
    unsigned m = x >> 8 & 1 ? x >> 9 & 1 : own & 1;
    struct mu_call c = {.kind = kind,
                        .dtype = MUSTER_INT32,
                        .op = x >> 10 & 1 ? MUSTER_SUM : MUSTER_MAX,
                        .root = (int)((x >> 12) % p),
                        .count = 1 + (x >> 32) % ((size_t)1 << ((x >> 24) % bits)),
                        .send = r->send[m],
                        .recv = r->recv[own >> 1 & 1 ? m : 1 - m]};
    int32_t *in = (int32_t *)(void *)r->send[m];

    if (c.count > most)
        c.count = most;
    if (kind == MU_OP_KIND_BROADCAST)
        in = c.recv;
    for (size_t i = 0; kind != MU_OP_KIND_BARRIER && i < c.count * p; i++)
        in[i] = kind == MU_OP_KIND_BROADCAST && comm->rank != c.root ? -1 : value(r->tp.rank, i, round);
    if (kind == MU_OP_KIND_ALLREDUCE && x >> 11 & 1)
        c.recv = r->send[m];
    if (kind == MU_OP_KIND_ALLREDUCE && x >> 13 & 1) {
        struct muster_request *req;

        pthread_mutex_lock(&r->e.lock);
        r->code = mu_coll_start(comm, &c, &req, &r->err);
        pthread_mutex_unlock(&r->e.lock);
        if (r->code == 0) {
            usleep(100 + own % 200);
            pthread_mutex_lock(&r->e.lock);
            if (!mu_coll_test(req))
                mu_coll_wait(req);
            r->code = mu_coll_release(req, &r->err);
            pthread_mutex_unlock(&r->e.lock);
        }
    } else {
        r->code = call(r, comm, c);
    }
    r->bad += r->code < 0 || differs(comm, &c, round);
}

static void play_well(struct rank *r)
{
    muster_comm *half = NULL;

    for (uint64_t i = 0; i < 60 && !r->bad; i++)
        one(r, r->e.world, i, LARGE);
    pthread_mutex_lock(&r->e.lock);
    r->code = mu_comm_split(r->e.world, r->tp.rank % 2, 0, &half, &r->err);
    pthread_mutex_unlock(&r->e.lock);
    for (uint64_t i = 100; i < 140 && r->code == 0 && !r->bad; i++)
        one(r, i % 2 ? r->e.world : half, i, LARGE);
    if (r->code < 0)
        r->bad++;
    call(r, r->e.world, (struct mu_call){.kind = MU_OP_KIND_BARRIER});
}

/* Of the ranks of r's node. */
static struct muster_comm *beside(struct rank *r)
{
    return r->e.world->shm ? r->e.world : r->e.world->hier->side[MU_LOCAL];
}

static _Thread_local bool no_memory;

void *aligned_alloc(size_t alignment, size_t n)
{
    void *p = NULL;

    return no_memory || posix_memalign(&p, alignment, n) ? NULL : p;
}

/* Not where one has no memory for it: all know of it, and go on with what is built in. */
static void play_untuned(struct rank *r)
{
    struct muster_comm *comm = beside(r);
    struct mu_tuned t = {0};
    bool sure = true;

    no_memory = r->tp.rank == 1;
    pthread_mutex_lock(&r->e.lock);
    r->code = comm->shm ? mu_tune_measure(comm, &t, &sure, &r->err) : 0;
    pthread_mutex_unlock(&r->e.lock);
    no_memory = false;
    r->bad += r->code < 0 || (comm->shm && w.nodes[r->tp.rank] == w.nodes[1] && sure);
    for (uint64_t i = 200; i < 210 && !r->bad; i++)
        one(r, r->e.world, i, LARGE);
}

/* Measured with calls that nobody counts; then the program's own go on, with any thresholds that are the same on all.
 */
static void play_tuned(struct rank *r)
{
    struct muster_comm *comm = beside(r);
    struct mu_tuned t = {0};
    uint64_t entered = r->e.entered;
    bool sure;

    pthread_mutex_lock(&r->e.lock);
    r->code = comm->shm ? mu_tune_measure(comm, &t, &sure, &r->err) : 0;
    r->bad += r->code < 0 || (comm->shm && !mu_tuned_valid(&t)) || r->e.entered != entered;
    if (comm->shm) {
        r->e.shm->small_reduction = t.everybody;
        r->e.shm->read_from = t.read;
        r->e.shm->chain_from = t.chain;
    }
    pthread_mutex_unlock(&r->e.lock);
    for (uint64_t i = 200; i < 230 && !r->bad; i++)
        one(r, r->e.world, i, LARGE);
}

/* Of one element, from rank 0. */
static void broadcast(struct rank *r, int32_t x)
{
    int32_t got = r->tp.rank == 0 ? x : -1;
    int rc = call(r, r->e.world,
                  (struct mu_call){.kind = MU_OP_KIND_BROADCAST, .dtype = MUSTER_INT32, .count = 1, .recv = &got});

    r->bad += rc < 0 || got != x;
}

/* Short calls while a long one is under way. */
static void between(struct rank *r, uint64_t round)
{
    int32_t *in = (int32_t *)(void *)r->send[round & 1], *out = (int32_t *)(void *)r->recv[round >> 1 & 1];
    struct mu_call c = {.kind = MU_OP_KIND_ALLREDUCE,
                        .dtype = MUSTER_INT32,
                        .op = MUSTER_SUM,
                        .count = 1 + mix(w.seed + round) % (MOST / sizeof(int32_t)),
                        .send = in,
                        .recv = out};
    struct muster_request *req;

    for (size_t i = 0; i < c.count; i++)
        in[i] = value(r->tp.rank, i, round);
    pthread_mutex_lock(&r->e.lock);
    r->code = mu_coll_start(r->e.world, &c, &req, &r->err);
    pthread_mutex_unlock(&r->e.lock);
    if (r->code < 0)
        r->bad++;
    for (int32_t i = 0; i < 5 && !r->bad; i++)
        broadcast(r, i);
    if (r->code < 0)
        return;
    pthread_mutex_lock(&r->e.lock);
    mu_coll_wait(req);
    r->code = mu_coll_release(req, &r->err);
    pthread_mutex_unlock(&r->e.lock);
    r->bad += r->code < 0 || differs(r->e.world, &c, round);
}

/* What the newest record and the slot say is the call that has just ended. */
static bool is_recorded(struct rank *r)
{
    const struct mu_flight_ring *f = r->e.world->flight;
    uint64_t last = f ? atomic_load(&f->last) : 0;
    const struct mu_flight_record *v = f ? &f->v[(last - 1) % MU_FLIGHT_RING] : NULL;

    return last && v->number == r->e.world->seq && atomic_load(&v->state) == MU_FLIGHT_COMPLETED &&
           atomic_load(&r->slot.op_seq) == r->e.entered && atomic_load(&r->slot.last_number) == r->e.world->seq;
}

/* What fits into posts, and a little more; some are later than others look for them, some a long time. */
static void play_small(struct rank *r)
{
    for (uint64_t i = 300; i < 900 && !r->bad; i++) {
        uint64_t x = mix(w.seed + i * 31 + (uint64_t)r->tp.rank);

        if (x % 64 == 0)
            usleep(1000);
        for (uint64_t until = mu_now() + (x % 4 ? 0 : (x >> 8) % 5000); mu_now() < until;)
            ;
        one(r, r->e.world, i, SMALL);
        r->bad += !is_recorded(r);
    }
    for (uint64_t i = 900; i < 950 && !r->bad; i++)
        between(r, i);
    /* A root that nobody waits for. */
    for (int32_t i = 0; i < 300 && !r->bad; i++) {
        if (r->tp.rank == 1 && i == 50)
            usleep(2000);
        broadcast(r, i);
    }
    call(r, r->e.world, (struct mu_call){.kind = MU_OP_KIND_BARRIER});
}

static void test(const char *nodes, bool first)
{
    const char *with = w.progress ? ", with threads for progress" : "";

    (void)first;
    all_do(nodes, play_well, "all calls are right%s", with);
    if (!strcmp(nodes, "aaaa") || !strcmp(nodes, "aabb") || !strcmp(nodes, "aaab")) {
        all_do(nodes, play_untuned, "thresholds are not measured where a rank has no memory for it%s", with);
        all_do(nodes, play_tuned, "thresholds are measured%s", with);
    }
    all_do(nodes, play_small, "short calls are right, whoever is late%s", with);
}

int main(int argc, char **argv)
{
    each_world(argc > 1 ? (unsigned)atoi(argv[1]) : 1, test);
    return tap_done();
}
