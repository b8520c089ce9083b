/* The engine with ranks that are threads of one process: what they share lies at one address for all of them, so that a
 * build with SAN=thread (make tsan) sees every access to it. Streams go through mailboxes, channels and mapped buffers
 * through memory, as between processes. all_do() plays one thing with all ranks. */
#ifndef TESTS_ENGINE_THREADS_H
#define TESTS_ENGINE_THREADS_H

#include <stdarg.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "collectives/hier.h"
#include "collectives/tune.h"
#include "collectives/waits.h"
#include "runtime/base/clock.h"
#include "tests/unit/queues.h"
#include "tests/unit/tap.h"

#define RANKS 4
#define MOST ((size_t)300000) /* bytes of a buffer */

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
    copy = queue_copy(&b->pool, f);
    if (copy)
        mu_frames_push(&b->q, copy);
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
    if (f)
        *in = queue_copy(base->pool, f);
    mu_frame_free(&b->pool, f);
    pthread_mutex_unlock(&b->lock);
    return f && !*in ? mu_err_set(err, MUSTER_ENOMEM, "no memory") : 0;
}

static const struct mu_transport_ops box_ops = {
    .name = "threads", .send = box_send, .poll = box_poll, .pending = queue_pending, .orphan = queue_orphan};

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

    e->place = e->machine = calloc(RANKS, sizeof *e->place);
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

static int run_all(const char *nodes, void (*play)(struct rank *))
{
    size_t bytes = MU_SEG_HEAD + MU_CHANNELS * sizeof(struct mu_channel);
    int bad = 0;

    w.nodes = nodes;
    w.n = (int)strlen(nodes);
    w.play = play;
    w.told = 0;
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

static uint64_t mix(uint64_t x)
{
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ x >> 27) * 0x94d049bb133111ebull;
    return x ^ x >> 31;
}

__attribute__((format(printf, 3, 4))) static void all_do(const char *nodes, void (*play)(struct rank *),
                                                         const char *fmt, ...)
{
    int bad = run_all(nodes, play);
    char what[200];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    TAP_OK(!bad, "nodes %s: %s", nodes, what);
    for (int k = 0; k < w.n && bad; k++)
        printf("# rank %d: %d bad, %d %s\n", k, w.rank[k].bad, w.rank[k].code, w.rank[k].err.text);
}

/* Every way to lie on nodes, in worlds that differ from round to round. */
static inline void each_world(unsigned rounds, void (*test)(const char *nodes, bool first))
{
    static const char *const nodes[] = {"aaaa", "aabb", "aaab", "abcd", "abab", "aa", "aaa"};

    for (unsigned n = 0; n < rounds; n++)
        for (size_t i = 0; i < sizeof nodes / sizeof nodes[0]; i++) {
            w.n = (int)strlen(nodes[i]);
            w.seed = n * 1000 + i;
            w.absent = 1;
            w.head = (struct mu_slot_head){0};
            w.timeout = 60 * MU_SEC;
            w.progress = i % 2 == n % 2;
            w.crowded = (i + n) % 3;
            w.lanes = i == 0 && n % 2 == 0 ? 2 : 0;
            test(nodes[i], i == 0);
        }
}

#endif
