#include "runtime/ckpt/daemon/drain.h"

#include "runtime/base/clean.h"
#include "runtime/base/crc32c.h"
#include "runtime/base/futex.h"
#include "runtime/ckpt/daemon/maps.h"
#include "runtime/ckpt/put.h"

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <string.h>

#define LOOK (500 * MU_MS) /* at the latest, should a bell go unheard */

struct drain {
    struct mu_arena_head *head;
    _Atomic uint32_t *stop;
    const struct mu_ckpt_io *io;
    sem_t *busy; /* so many may sum and write at once; NULL: any number */
};
struct worker {
    struct drain *d;
    uint32_t local;
    pthread_t thread;
    bool started;
};

/* The most ranks that the node ever had: the rest of the index was never touched. */
static uint32_t ncells(struct mu_arena_head *h)
{
    uint32_t n = atomic_load(&h->nranks);

    return (n < MU_ARENA_RANKS ? n : MU_ARENA_RANKS) * MU_ARENA_SLOTS;
}

/* --- one order ---------------------------------------------------------------------------------------------------- */

static bool sane(const struct mu_arena_cell *c)
{
    const struct mu_ckpt_place *p = &c->place;

    return p->dir[0] == '/' && memchr(p->dir, 0, sizeof p->dir) && memchr(p->job, 0, sizeof p->job) &&
           memchr(p->host, 0, sizeof p->host) && p->world >= 1 && p->world <= MU_CKPT_WORLD_MAX && p->rank < p->world &&
           c->rank == p->rank && c->segment >= MU_CKPT_PAGE && c->segment % MU_CKPT_PAGE == 0 &&
           c->segment < 1ull << 60 && c->manifest <= MU_CKPT_MANIFEST_MAX && c->extents <= c->manifest;
}

static void sum(struct mu_arena_cell *c, unsigned char *map, struct mu_ckpt_manifest *m)
{
    unsigned char *sums = map + mu_arena_sums_at(c->segment, c->manifest);

    for (size_t i = 0; i < m->nextents; i++) {
        struct mu_ckpt_extent *e = &m->extents[i];

        e->crc = mu_crc32c(0, map + e->file, e->bytes);
        memcpy(sums + 4 * i, &e->crc, 4);
    }
    atomic_store_explicit(&c->summed, 1, memory_order_release);
}

static int put(struct drain *d, struct mu_arena_cell *c, struct mu_ckpt_put *p, unsigned char *map, struct mu_err *err)
{
    struct mu_ckpt_manifest m;
    bool summed;
    int rc = mu_arena_manifest(c, map, &m, &summed, err);

    if (rc)
        return rc;
    while (d->busy && sem_wait(d->busy)) {
    }
    if (!summed)
        sum(c, map, &m);
    *p = (struct mu_ckpt_put){.place = c->place,
                              .plan = &m,
                              .image = map,
                              .generation = c->generation,
                              .step = c->id.step,
                              .bad_after = c->bad_after,
                              .bad_upto = c->bad_upto,
                              .cancel = &c->cancel,
                              .hurry = &d->head->hurry,
                              .summed = true};
    p->place.io = d->io;
    rc = mu_ckpt_put_begin(p, err);
    if (!rc)
        atomic_fetch_add(&d->head->written, c->segment + c->manifest);
    if (d->busy)
        sem_post(d->busy);
    rc = mu_ckpt_put_end(p, rc, err);
    mu_ckpt_manifest_free(&m);
    return rc;
}

static void now_is(struct mu_arena_cell *c, uint32_t state)
{
    atomic_store_explicit(&c->drain, state, memory_order_release);
    mu_futex_wake(&c->drain);
}

static void serve(struct drain *d, struct mu_arena_cell *c)
{
    uint32_t wanted = MU_DRAIN_WANTED;
    uint64_t bytes, step;
    struct mu_err err = {0};
    struct mu_ckpt_put p = {0};
    unsigned char *map;
    int rc;

    if (!atomic_compare_exchange_strong(&c->drain, &wanted, MU_DRAIN_BUSY))
        return;
    if (!sane(c)) {
        c->error = (struct mu_err){.code = MUSTER_EIO, .text = "the copy in memory has been damaged"};
        now_is(c, MU_DRAIN_FAILED);
        return;
    }
    bytes = mu_arena_bytes(c->segment, c->manifest, c->extents);
    if (!(rc = mu_maps_take(d->head, c->fd, bytes, false, &map, &err))) {
        rc = put(d, c, &p, map, &err);
        mu_maps_give(map);
    }
    if (rc) {
        err.code = rc;
        c->error = err;
    } else {
        c->cost = mu_now() - c->began;
        step = atomic_load(&d->head->durable_plus1);
        while (step < c->id.step + 1 && !atomic_compare_exchange_weak(&d->head->durable_plus1, &step, c->id.step + 1)) {
        }
        if (c->place.rank == 0 && atomic_load(&d->head->ship.set))
            atomic_store(&d->head->ship.want, c->generation);
        now_is(c, MU_DRAIN_SAFE);
        atomic_fetch_add(&d->head->bell, 1);
        mu_futex_wake(&d->head->bell);
    }
    if (!rc || rc == MUSTER_ENOSPC)
        mu_ckpt_put_tidy(&p, rc);
    now_is(c, rc ? MU_DRAIN_FAILED : MU_DRAIN_DONE);
}

void mu_drain_cell(struct mu_arena_head *h, struct mu_arena_cell *c, const struct mu_ckpt_io *io)
{
    serve(&(struct drain){.head = h, .io = io}, c);
}

/* --- all of them -------------------------------------------------------------------------------------------------- */

static struct mu_arena_cell *next_order(struct mu_arena_head *h, uint32_t local)
{
    struct mu_arena_cell *best = NULL;

    for (uint32_t i = 0; i < MU_ARENA_SLOTS; i++) {
        struct mu_arena_cell *c = mu_arena_cell(h, local, i);

        if (atomic_load(&c->drain) == MU_DRAIN_WANTED && (!best || c->generation < best->generation))
            best = c;
    }
    return best;
}

static void *work(void *arg)
{
    struct worker *w = arg;
    struct mu_arena_head *h = w->d->head;

    for (;;) {
        uint32_t bell = atomic_load(&h->bell);
        struct mu_arena_cell *c = next_order(h, w->local);

        if (c)
            serve(w->d, c);
        else if (atomic_load(w->d->stop))
            return NULL;
        else
            mu_futex_wait(&h->bell, bell, LOOK);
    }
}

int mu_drain_run(struct mu_arena_head *h, _Atomic uint32_t *stop, void (*each)(void *), void *arg, struct mu_err *err)
{
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    struct worker *workers = calloc(MU_ARENA_RANKS, sizeof *workers);
    sem_t busy;
    struct drain d = {.head = h, .stop = stop, .io = &mu_ckpt_io_posix, .busy = &busy};

    if (!workers)
        return mu_err_set(err, MUSTER_ENOMEM, "no memory for a drain");
    sem_init(&busy, 0, cpus > 8 ? (unsigned)cpus / 4 : 2);
    for (uint32_t i = 0; i < ncells(h); i++) {
        uint32_t was = MU_DRAIN_BUSY;

        atomic_compare_exchange_strong(&h->cells[i].drain, &was, MU_DRAIN_WANTED);
        if (was == MU_DRAIN_SAFE)
            now_is(&h->cells[i], MU_DRAIN_DONE);
    }
    while (!atomic_load(stop)) {
        uint32_t bell = atomic_load(&h->bell), n = atomic_load(&h->nranks);

        for (uint32_t i = 0; i < n && i < MU_ARENA_RANKS; i++) {
            struct worker *w = &workers[i];

            if (w->started || !next_order(h, i))
                continue;
            *w = (struct worker){.d = &d, .local = i};
            w->started = pthread_create(&w->thread, NULL, work, w) == 0; /* else at the next look */
        }
        each(arg);
        mu_futex_wait(&h->bell, bell, LOOK);
    }
    for (uint32_t i = 0; i < MU_ARENA_RANKS; i++)
        if (workers[i].started)
            pthread_join(workers[i].thread, NULL);
    sem_destroy(&busy);
    mu_maps_clear();
    free(workers);
    return 0;
}

/* --- the keeper's side -------------------------------------------------------------------------------------------- */

bool mu_drain_pending(struct mu_arena_head *h)
{
    for (uint32_t i = 0; i < ncells(h); i++)
        if (mu_arena_pending(&h->cells[i]))
            return true;
    return false;
}

void mu_drain_give_up(struct mu_arena_head *h, const char *why)
{
    for (uint32_t i = 0; i < ncells(h); i++) {
        struct mu_arena_cell *c = &h->cells[i];

        if (!mu_arena_pending(c))
            continue;
        if (atomic_load(&c->peers) == MU_PEERS_WANTED) {
            mu_err_set(&c->peers_error, MUSTER_EIO, "%s", why);
            atomic_store_explicit(&c->peers, MU_PEERS_FAILED, memory_order_release);
            mu_futex_wake(&c->peers);
        }
        if (!mu_arena_pending(c))
            continue;
        mu_err_set(&c->error, MUSTER_EIO, "%s", why);
        now_is(c, MU_DRAIN_FAILED);
    }
}
