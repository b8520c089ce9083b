/* The engine with ranks that are threads of one process: what they share lies at one address for all of them, so that a
 * build with SAN=thread (make tsan) sees every access to it. Streams go through mailboxes, channels and mapped buffers
 * through memory, as between processes. */
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "collectives/hier.h"
#include "collectives/tune.h"
#include "collectives/waits.h"
#include "runtime/base/clock.h"
#include "tests/unit/tap.h"

#define RANKS 4
#define MOST ((size_t)300000) /* bytes of a buffer */

enum { SMALL = 5, LARGE = 17 }; /* bits */

struct mailbox {
    pthread_mutex_t lock;
    struct mu_pool pool;
    struct mu_frames q;
};

struct rank {
    struct mu_transport tp; /* first: of() */
    struct world *world;
    struct mu_engine e;
    struct mu_slot slot;
    char *send[2], *recv[2]; /* private, mapped */
    int bad, code;
    struct mu_err err;
    pthread_t thread;
};

static struct world {
    const char *nodes; /* a letter for each rank */
    int n;
    uint64_t seed, timeout;
    bool progress, crowded;
    int lanes;        /* ranks of a domain; 0: all are in one */
    int absent;       /* rank that makes another call, or none */
    bool halts;       /* in its all-to-all, when all but rank 1 have their blocks of it */
    _Atomic int told; /* ranks that have got their error */
    void (*play)(struct rank *);
    struct mu_slot_head head;
    struct mailbox box[RANKS];
    struct rank rank[RANKS];
    char *seg[RANKS];
    pthread_barrier_t all;
} w;

static _Thread_local unsigned yields; /* after a death was told */

/* The library's own calls come here, too. */
int sched_yield(void)
{
    yields += atomic_load_explicit(&w.head.abort, memory_order_acquire) != 0;
    return (int)syscall(SYS_sched_yield);
}

/* --- a transport --- */

/* Rank 3 sends its block to rank 1 late, so that rank 1's patience begins after that of the others. */
static void halt(int rank, int peer, const struct mu_frame *f)
{
    if (!w.halts || peer != 1 || f->head.type != MU_FRAME_DATA || f->head.sig.kind != MU_OP_KIND_ALLTOALL)
        return;
    if (rank == 3)
        usleep((unsigned)(w.timeout / 2500));
    for (int i = 0; rank == w.absent && i < 1000 && w.told < w.n - 1; i++)
        usleep(10000);
}

static int box_send(struct mu_transport *base, int peer, struct mu_frame *f, struct mu_err *err)
{
    struct mailbox *b = &w.box[peer];
    struct mu_frame *copy;

    halt(base->rank, peer, f);
    pthread_mutex_lock(&b->lock);
    copy = mu_frame_new(&b->pool, f->head.bytes);
    if (copy) {
        copy->head = f->head;
        memcpy(copy->data, f->data, f->head.bytes);
        mu_frames_push(&b->q, copy);
    }
    pthread_mutex_unlock(&b->lock);
    return copy ? MU_SEND_DONE : mu_err_set(err, MUSTER_ENOMEM, "no memory");
}

static int box_poll(struct mu_transport *base, struct mu_frame **in, struct mu_frames *sent, struct mu_err *err)
{
    struct mailbox *b = &w.box[base->rank];
    struct mu_frame *f;

    (void)sent;
    *in = NULL;
    pthread_mutex_lock(&b->lock);
    f = mu_frames_pop(&b->q);
    if (f && (*in = mu_frame_new(base->pool, f->head.bytes))) {
        (*in)->head = f->head;
        memcpy((*in)->data, f->data, f->head.bytes);
    }
    mu_frame_free(&b->pool, f);
    pthread_mutex_unlock(&b->lock);
    return f && !*in ? mu_err_set(err, MUSTER_ENOMEM, "no memory") : 0;
}

static unsigned box_pending(struct mu_transport *base)
{
    (void)base;
    return 0;
}

static void box_orphan(struct mu_transport *base, const struct muster_request *owner)
{
    (void)base;
    (void)owner;
}

static const struct mu_transport_ops box_ops = {
    .name = "threads", .send = box_send, .poll = box_poll, .pending = box_pending, .orphan = box_orphan};

/* --- ranks --- */

static struct mu_shm *share(int me)
{
    struct mu_shm *shm = calloc(1, sizeof *shm);
    struct mu_seg own;
    struct mu_err err;

    if (!shm || mu_seg_own(&own, &err) < 0)
        exit(99);
    shm->size = w.n;
    shm->peers = calloc(RANKS, sizeof *shm->peers);
    shm->group = calloc(RANKS, sizeof *shm->group);
    shm->own = (struct mu_channel *)(void *)(w.seg[me] + MU_SEG_HEAD);
    shm->llc = 1 << 18;
    shm->reads = true;
    shm->small_reduction = 1024;
    shm->read_from = 32768;
    shm->chain_from = 2048;
    for (int k = 0; k < w.n; k++) {
        uintptr_t heap = (uintptr_t)own.head + own.head->heap_at;

        if (w.nodes[k] != w.nodes[me])
            continue;
        shm->group[k] = (uint64_t)w.nodes[k];
        shm->peers[k] = (struct mu_shm_peer){.seg = {.base = w.seg[k],
                                                     .heap_at = heap - (uintptr_t)w.seg[k],
                                                     .heap_size = own.head->heap_size,
                                                     .open = own.head->heap_size},
                                             .pid = getpid(),
                                             .head = (uintptr_t)w.seg[k],
                                             .domain.cache = w.lanes ? (uint32_t)(k / w.lanes) + 1 : 1};
    }
    return shm;
}

static int join(struct rank *r)
{
    struct mu_engine *e = &r->e;
    struct mu_shm_ref refs[RANKS];
    int ids[RANKS], me = r->tp.rank, own = -1, beside = 0, rc;
    uint32_t freed;

    e->place = calloc(RANKS, sizeof *e->place);
    for (int k = 0; k < w.n; k++) {
        ids[k] = k;
        e->place[k] = (int)(strchr(w.nodes, w.nodes[k]) - w.nodes);
        beside += w.nodes[k] == w.nodes[me];
    }
    for (int k = 0; k < w.n; k++) {
        const char *first = strchr(w.nodes, w.nodes[k]);

        refs[k] = (struct mu_shm_ref){k, strchr(first + 1, w.nodes[k]) ? 0 : -1, 0};
    }
    if (beside > 1) {
        e->shm = share(me);
        own = mu_shm_lend(e->shm, &freed);
    }
    rc = mu_comm_new(e, 1, me, w.n, ids, &e->world, &r->err);
    pthread_barrier_wait(&w.all); /* channels are clean */
    return rc < 0 ? rc : mu_hier_attach(e->world, refs, own, &r->err);
}

static void leave(struct rank *r)
{
    struct mu_engine *e = &r->e;

    mu_progress_stop(e);
    while (e->comms)
        mu_comm_delete(e->comms->whole ? e->comms->whole : e->comms);
    if (e->shm) {
        for (unsigned i = 0; i < MU_CHANNELS; i++)
            free(e->shm->lent[i].to);
        free(e->shm->peers);
        free(e->shm->group);
        free(e->shm);
    }
    mu_frames_clear(&e->stray, &e->pool);
    mu_pool_clear(&e->pool);
    mu_waits_free(e);
    free(e->place);
    free(e->retired);
}

static void *run(void *arg)
{
    struct rank *r = arg;
    struct mu_engine *e = &r->e;

    pthread_mutex_init(&e->lock, NULL);
    e->tp = &r->tp;
    e->slot = &r->slot;
    e->head = &w.head;
    e->timeout = w.timeout;
    e->nap_after = MU_MS;
    e->crowded = w.crowded;
    e->flight = calloc(1, sizeof *e->flight);
    if (!e->flight)
        exit(99);
    mu_flight_begin(e->flight);
    e->hier = true;
    e->progress.wanted = w.progress;
    for (int i = 0; i < 2; i++) {
        r->send[i] = i ? mu_seg_alloc(MOST) : malloc(MOST);
        r->recv[i] = i ? mu_seg_alloc(MOST) : malloc(MOST);
    }
    pthread_mutex_lock(&e->lock);
    r->code = join(r);
    pthread_mutex_unlock(&e->lock);
    if (r->code == 0)
        w.play(r);
    pthread_barrier_wait(&w.all); /* nobody looks at anything any more */
    pthread_mutex_lock(&e->lock);
    leave(r);
    pthread_mutex_unlock(&e->lock);
    pthread_barrier_wait(&w.all);
    free(e->flight);
    for (int i = 0; i < 2; i++) {
        i ? (void)mu_seg_free(r->send[i]) : free(r->send[i]);
        i ? (void)mu_seg_free(r->recv[i]) : free(r->recv[i]);
    }
    return NULL;
}

static int all_do(const char *nodes, void (*play)(struct rank *))
{
    size_t bytes = MU_SEG_HEAD + MU_CHANNELS * sizeof(struct mu_channel);
    int bad = 0;

    w.nodes = nodes;
    w.n = (int)strlen(nodes);
    w.play = play;
    pthread_barrier_init(&w.all, NULL, (unsigned)w.n);
    for (int k = 0; k < w.n; k++) {
        w.rank[k] = (struct rank){.tp = {.ops = &box_ops, .pool = &w.rank[k].e.pool, .rank = k, .size = w.n}};
        pthread_mutex_init(&w.box[k].lock, NULL);
        w.seg[k] = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (w.seg[k] == MAP_FAILED)
            exit(99);
        ((struct mu_seg_head *)(void *)w.seg[k])->nonce = (uint64_t)k + 1;
    }
    for (int k = 0; k < w.n; k++)
        if (pthread_create(&w.rank[k].thread, NULL, run, &w.rank[k]))
            exit(99);
    for (int k = 0; k < w.n; k++) {
        pthread_join(w.rank[k].thread, NULL);
        bad += w.rank[k].bad;
    }
    for (int k = 0; k < w.n; k++) {
        mu_frames_clear(&w.box[k].q, &w.box[k].pool);
        mu_pool_clear(&w.box[k].pool);
        munmap(w.seg[k], bytes);
    }
    pthread_barrier_destroy(&w.all);
    return bad;
}

static int call(struct rank *r, muster_comm *comm, struct mu_call c)
{
    int rc;

    pthread_mutex_lock(&r->e.lock);
    rc = mu_coll_run(comm, &c, &r->err);
    pthread_mutex_unlock(&r->e.lock);
    return rc;
}

/* --- results --- */

static uint64_t mix(uint64_t x)
{
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ x >> 27) * 0x94d049bb133111ebull;
    return x ^ x >> 31;
}

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

/* Measured with calls that nobody counts; then the program's own go on, with any thresholds that are the same on all.
 */
static void play_tuned(struct rank *r)
{
    struct muster_comm *comm = r->e.world->shm ? r->e.world : r->e.world->hier->side[MU_LOCAL];
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

/* --- failures --- */

static void fail(struct rank *r, uint64_t calls)
{
    struct mu_call c = {.kind = MU_OP_KIND_ALLREDUCE, .dtype = MUSTER_INT32, .op = MUSTER_SUM, .recv = r->recv[0]};

    for (uint64_t i = 0; i < calls && r->code == 0; i++) {
        c.count = 1 + mix(w.seed + i) % 40000;
        c.send = r->send[mix(w.seed + i) >> 60 & 1];
        r->code = call(r, r->e.world, c);
    }
}

static void play_another(struct rank *r)
{
    fail(r, 5);
    if (r->tp.rank == w.absent)
        r->code = call(r, r->e.world,
                       (struct mu_call){.kind = MU_OP_KIND_ALLGATHER,
                                        .dtype = MUSTER_INT32,
                                        .count = 10,
                                        .send = r->send[0],
                                        .recv = r->recv[0]});
    fail(r, 3);
    r->bad += r->code != MUSTER_EMISMATCH || !strstr(r->err.text, "rank 1 calls muster_allgather(count 10, int32)") ||
              !strstr(r->err.text, "calls muster_allreduce(");
}

/* In an operation in which nobody looks at what rank 1 has posted; they see it in the next one. */
static void play_unheard(struct rank *r)
{
    int32_t x = 1, y = 0;
    struct mu_call c = {.dtype = MUSTER_INT32, .count = 1, .send = &x, .recv = &y};

    for (int i = 0; i < 3 && r->code == 0; i++) {
        c.kind = i == 1 && r->tp.rank == 1 ? MU_OP_KIND_REDUCE : MU_OP_KIND_BROADCAST;
        r->code = call(r, r->e.world, c);
    }
    c.kind = MU_OP_KIND_ALLREDUCE;
    if (r->code == 0)
        r->code = call(r, r->e.world, c);
    r->bad += r->code != MUSTER_EMISMATCH || !strstr(r->err.text, "rank 1 calls muster_reduce(") ||
              !strstr(r->err.text, "calls muster_broadcast(");
}

static void play_late(struct rank *r)
{
    fail(r, 5);
    if (r->tp.rank == w.absent)
        return;
    fail(r, 3);
    r->bad += r->code != MUSTER_ETIMEOUT || !strstr(r->err.text, "without hearing from rank 1");
}

/* Rank 0 gets one operation ahead of rank 1, which waits for rank 2 on the other node. */
static void play_behind(struct rank *r)
{
    struct mu_call c = {
        .kind = MU_OP_KIND_ALLTOALL, .dtype = MUSTER_INT32, .count = 10, .send = r->send[0], .recv = r->recv[0]};

    fail(r, 5);
    if (r->code == 0)
        r->code = call(r, r->e.world, c);
    fail(r, 1);
    w.told++;
    r->bad += r->code != MUSTER_ETIMEOUT || !strstr(r->err.text, "without hearing from rank 2");
}

static void wait_for_others(void)
{
    w.told++;
    while (w.told < w.n)
        usleep(1000);
}

/* The communicators of ranks 0 and 1, 1 and 2, 2 and 3: each rank waits in its own for the next one, and begins later
 * than the one before it. */
static void play_chain(struct rank *r)
{
    muster_comm *own = NULL, *other = NULL;
    int me = r->tp.rank, rc;
    uint64_t began;

    pthread_mutex_lock(&r->e.lock);
    rc = mu_comm_split(r->e.world, me / 2, 0, me % 2 ? &other : &own, &r->err);
    if (rc == 0)
        rc = mu_comm_split(r->e.world, me % 3 == 0, 0, me % 2 ? &own : &other, &r->err);
    pthread_mutex_unlock(&r->e.lock);
    r->code = rc;
    if (me < 3) {
        usleep((unsigned)me * (unsigned)(w.timeout / 4000));
        began = mu_now();
        if (rc == 0)
            r->code = call(r, own, (struct mu_call){.kind = MU_OP_KIND_BARRIER});
        r->bad += r->code != MUSTER_ETIMEOUT || !strstr(r->err.text, "without hearing from rank 3") ||
                  mu_now() - began < w.timeout || mu_now() - began > w.timeout * 4;
    }
    wait_for_others();
}

static struct mu_call receive(struct rank *r, int from)
{
    return (struct mu_call){
        .kind = MU_OP_KIND_RECV, .dtype = MUSTER_INT32, .count = 1, .root = from, .recv = r->recv[0]};
}

/* Likewise, with receives. */
static void play_receives(struct rank *r)
{
    int me = r->tp.rank;

    usleep((unsigned)me * (unsigned)(w.timeout / 4000));
    if (me < 3) {
        r->code = call(r, r->e.world, receive(r, me + 1));
        r->bad += r->code != MUSTER_ETIMEOUT || !strstr(r->err.text, "without hearing from rank 3");
    }
    wait_for_others();
}

static void play_circle(struct rank *r)
{
    uint64_t began = mu_now();

    r->code = call(r, r->e.world, receive(r, !r->tp.rank));
    r->bad += r->code != MUSTER_ETIMEOUT || mu_now() - began > w.timeout * 4 ||
              !strstr(r->err.text, r->tp.rank ? "without hearing from rank 0" : "without hearing from rank 1");
    wait_for_others();
}

static void begin(struct rank *r, const struct mu_call *c, struct muster_request **req)
{
    pthread_mutex_lock(&r->e.lock);
    r->code = mu_coll_start(r->e.world, c, req, &r->err);
    pthread_mutex_unlock(&r->e.lock);
}

static void go_on(struct rank *r, struct muster_request *req)
{
    pthread_mutex_lock(&r->e.lock);
    mu_coll_test(req);
    pthread_mutex_unlock(&r->e.lock);
}

static void end(struct rank *r, struct muster_request *req)
{
    pthread_mutex_lock(&r->e.lock);
    mu_coll_wait(req);
    r->code = mu_coll_release(req, &r->err);
    pthread_mutex_unlock(&r->e.lock);
}

/* Rank 2 does its part, then gives up and has other things in its memory; ranks 0 and 1 have begun and look at it only
 * then. */
static void play_gives_up(struct rank *r)
{
    size_t bytes = w.lanes ? MOST : (size_t)10 << 20; /* several steps */
    char *send = mu_seg_alloc(bytes), *recv = mu_seg_alloc(bytes);
    struct mu_call c = {.kind = MU_OP_KIND_ALLREDUCE,
                        .dtype = MUSTER_INT32,
                        .op = MUSTER_SUM,
                        .count = bytes / sizeof(int32_t),
                        .send = send,
                        .recv = recv};
    struct muster_request *req = NULL;
    int me = r->tp.rank;
    struct mu_err why;

    if (!send || !recv)
        exit(99);
    for (int turn = 0; turn < 4; turn++) {
        if (turn % 2 == me / 2 && turn < 2)
            begin(r, &c, &req);
        for (int i = 0; turn % 2 == me / 2 && r->code == 0 && i < (turn == 3 ? 3 : 1); i++)
            go_on(r, req);
        pthread_barrier_wait(&w.all);
    }
    if (me == 2) {
        mu_err_set(&why, MUSTER_ETIMEOUT, "enough");
        pthread_mutex_lock(&r->e.lock);
        mu_coll_break_comm(r->e.world, &why);
        pthread_mutex_unlock(&r->e.lock);
        end(r, req);
        memset(send, 0x5a, bytes);
        memset(recv, 0x5a, bytes);
    }
    pthread_barrier_wait(&w.all);
    if (me != 2)
        end(r, req);
    r->bad += r->code >= 0;
    pthread_barrier_wait(&w.all);
    mu_seg_free(send);
    mu_seg_free(recv);
}

static void play_dead(struct rank *r)
{
    if (r->tp.rank != w.absent) {
        yields = 0;
        fail(r, 1000000);
        r->bad += r->code != MUSTER_EPEER || !strstr(r->err.text, "rank 1 on here was killed by signal 9");
        if (yields > 1) {
            printf("# rank %d left its CPU to others %u times before it saw what it was told\n", r->tp.rank, yields);
            r->bad++;
        }
        return;
    }
    fail(r, 20 + w.seed % 50);
    w.head.abort_rank = (uint32_t)w.absent;
    w.head.abort_status = 9;
    strcpy(w.head.abort_node, "here");
    atomic_store_explicit(&w.head.abort, 1, memory_order_release);
}

static void said(int bad)
{
    for (int k = 0; k < w.n && bad; k++)
        printf("# rank %d: %d bad, %d %s\n", k, w.rank[k].bad, w.rank[k].code, w.rank[k].err.text);
}

int main(int argc, char **argv)
{
    static const char *const nodes[] = {"aaaa", "aabb", "aaab", "abcd", "abab", "aa", "aaa"};
    unsigned rounds = argc > 1 ? (unsigned)atoi(argv[1]) : 1;

    for (unsigned n = 0; n < rounds; n++)
        for (size_t i = 0; i < sizeof nodes / sizeof nodes[0]; i++) {
            int bad;

            w.seed = n * 1000 + i;
            w.absent = 1;
            w.head = (struct mu_slot_head){0};
            w.timeout = 60 * MU_SEC;
            w.progress = i % 2 == n % 2;
            w.crowded = (i + n) % 3;
            w.lanes = i == 0 && n % 2 == 0 ? 2 : 0;
            bad = all_do(nodes[i], play_well);
            TAP_OK(!bad, "nodes %s: all calls are right%s", nodes[i], w.progress ? ", with threads for progress" : "");
            said(bad);
            if (i < 3) {
                bad = all_do(nodes[i], play_tuned);
                TAP_OK(!bad, "nodes %s: thresholds are measured", nodes[i]);
                said(bad);
            }
            bad = all_do(nodes[i], play_small);
            TAP_OK(!bad, "nodes %s: short calls are right, whoever is late", nodes[i]);
            said(bad);
            if (nodes[i][0] == nodes[i][w.n - 1] && nodes[i][0] == nodes[i][1]) {
                bad = all_do(nodes[i], play_unheard);
                TAP_OK(!bad, "nodes %s: another call that nobody has looked at names who made it", nodes[i]);
                said(bad);
            }
            for (int k = 0; k < 2 && i == 0; k++, w.lanes = 2 - w.lanes) {
                w.progress = false;
                bad = all_do(nodes[i], play_gives_up);
                TAP_OK(!bad, "nodes %s: what one who gave up may have changed is nobody's result%s", nodes[i],
                       w.lanes ? ", in domains" : "");
                said(bad);
            }
            w.progress = i % 2 == n % 2;
            bad = all_do(nodes[i], play_another);
            TAP_OK(!bad, "nodes %s: another call names who made it", nodes[i]);
            said(bad);
            bad = all_do(nodes[i], play_dead);
            TAP_OK(!bad, "nodes %s: a death is told to all, who see it before they leave their CPU to others again",
                   nodes[i]);
            said(bad);
            w.head = (struct mu_slot_head){0};
            w.timeout = 400 * MU_MS;
            bad = all_do(nodes[i], play_late);
            TAP_OK(!bad, "nodes %s: who is late is named", nodes[i]);
            said(bad);
            w.absent = 2;
            w.timeout = MU_SEC;
            if (!strcmp(nodes[i], "aabb")) {
                w.halts = true;
                w.told = 0;
                bad = all_do(nodes[i], play_behind);
                w.halts = false;
                TAP_OK(!bad, "nodes %s: one that waits in the operation before is not who is late", nodes[i]);
                said(bad);
                w.told = 0;
                bad = all_do(nodes[i], play_receives);
                TAP_OK(!bad, "nodes %s: waits in receives are followed to their end", nodes[i]);
                said(bad);
            }
            if (w.n == 2) {
                w.told = 0;
                bad = all_do(nodes[i], play_circle);
                TAP_OK(!bad, "nodes %s: two that wait for one another give up", nodes[i]);
                said(bad);
            }
            if (w.n == 4) {
                w.told = 0;
                bad = all_do(nodes[i], play_chain);
                TAP_OK(!bad, "nodes %s: the waits are followed over communicators to their end", nodes[i]);
                said(bad);
            }
        }
    return tap_done();
}
