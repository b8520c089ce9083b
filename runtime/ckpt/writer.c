#include "runtime/ckpt/writer.h"

#include "runtime/base/clean.h"
#include "runtime/base/clock.h"
#include "runtime/base/copy.h"
#include "runtime/base/futex.h"
#include "runtime/ckpt/put.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>

enum task { NOTHING, TOUCH, COPY, WRITE, QUIT };

struct mu_ckpt_writer {
    struct mu_ckpt_place place;
    void (*durable_hook)(uint64_t step);
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;

    _Atomic uint32_t cancel;

    /* under the lock */
    enum task task; /* what the thread is to do, or does */
    bool durable, abandoned, gone;
    bool uncopied;       /* the last save's tensors could not be copied: error */
    struct mu_err error; /* of the last save */
    uint64_t bad_after, bad_upto;
    uint64_t started, cost;

    /* the caller's while the thread has nothing to do, else the thread's */
    const struct mu_ckpt_tensors *tensors;
    struct mu_ckpt_manifest plan;
    unsigned char *image; /* the segment file, byte for byte; NULL with an arena */
    size_t image_bytes;
    uint64_t generation, step;

    /* with an arena, whose cells take the place of the image, and the drain that of the thread */
    struct mu_arena_head *arena;
    struct slot {
        struct mu_arena_cell *cell;
        unsigned char *map;
        uint64_t bytes;
    } slots[MU_ARENA_SLOTS];
    struct mu_arena_cell *last; /* of the last save; NULL: none */
    unsigned char *manifest;    /* as the cells get it */
    uint64_t chunk;             /* 0: no peers */
    uint32_t node;
};

/* --- the thread: its loop --------------------------------------------------------------------------------------- */

static void forget_memory(struct mu_ckpt_writer *w)
{
    if (w->image)
        munmap(w->image, w->image_bytes);
    w->image = NULL;
    for (unsigned i = 0; i < MU_ARENA_SLOTS; i++) {
        if (w->slots[i].map)
            munmap(w->slots[i].map, w->slots[i].bytes);
        w->slots[i].map = NULL;
    }
    free(w->manifest);
    w->manifest = NULL;
    mu_ckpt_manifest_free(&w->plan);
}

static void release(struct mu_ckpt_writer *w)
{
    forget_memory(w);
    pthread_cond_destroy(&w->changed);
    pthread_mutex_destroy(&w->lock);
    free(w);
}

static void do_write(struct mu_ckpt_writer *w)
{
    struct mu_ckpt_put put = {.place = w->place,
                              .plan = &w->plan,
                              .image = w->image,
                              .generation = w->generation,
                              .step = w->step,
                              .cancel = &w->cancel};
    struct mu_err err = {0};
    int rc = mu_ckpt_put_end(&put, mu_ckpt_put_begin(&put, &err), &err);
    uint64_t took;

    if (!rc && w->durable_hook)
        w->durable_hook(w->step);
    pthread_mutex_lock(&w->lock);
    took = mu_now() - w->started;
    if (rc)
        w->error = err;
    w->durable = !rc;
    if (!rc && took > w->cost)
        w->cost = took;
    put.bad_after = w->bad_after;
    put.bad_upto = w->bad_upto;
    pthread_cond_broadcast(&w->changed);
    pthread_mutex_unlock(&w->lock);
    mu_ckpt_put_tidy(&put, rc);
}

/* So that the first save costs what every save costs. What the memory holds stays. */
static void do_touch(struct mu_ckpt_writer *w)
{
    if (w->image)
        for (size_t i = 0; i < w->image_bytes; i += MU_CKPT_PAGE)
            ((volatile unsigned char *)w->image)[i] = 0;
    for (unsigned i = 0; i < MU_ARENA_SLOTS; i++) {
        const struct slot *s = &w->slots[i];

        if (!s->map || madvise(s->map, s->bytes, MADV_POPULATE_WRITE) == 0)
            continue;
        for (size_t k = 0; k < s->bytes; k += MU_CKPT_PAGE)
            (void)((volatile unsigned char *)s->map)[k];
    }
}

static enum task do_copy(struct mu_ckpt_writer *w);

static void *run(void *arg)
{
    struct mu_ckpt_writer *w = arg;
    bool abandoned;

    pthread_mutex_lock(&w->lock);
    while (w->task != QUIT) {
        enum task task = w->task;

        if (task == NOTHING) {
            pthread_cond_wait(&w->changed, &w->lock);
            continue;
        }
        pthread_mutex_unlock(&w->lock);
        enum task next = NOTHING;
        if (task == COPY)
            next = do_copy(w);
        else
            (task == WRITE ? do_write : do_touch)(w);
        pthread_mutex_lock(&w->lock);
        if (w->task == task)
            w->task = next;
        pthread_cond_broadcast(&w->changed);
    }
    w->gone = true;
    abandoned = w->abandoned;
    pthread_cond_broadcast(&w->changed);
    pthread_mutex_unlock(&w->lock);
    if (abandoned)
        release(w);
    return NULL;
}

/* --- the caller's side ------------------------------------------------------------------------------------------ */

int mu_ckpt_writer_start(const struct mu_ckpt_place *place, void (*durable)(uint64_t step), struct mu_arena_head *arena,
                         uint32_t local, struct mu_ckpt_writer **out, struct mu_err *err)
{
    struct mu_ckpt_writer *w = calloc(1, sizeof *w);
    pthread_condattr_t attr;
    sigset_t all, was;
    int rc;

    if (!w)
        return mu_err_set(err, MUSTER_ENOMEM, "no memory for a checkpoint writer");
    w->place = *place;
    w->durable_hook = durable;
    w->arena = arena && local < MU_ARENA_RANKS ? arena : NULL;
    for (uint32_t i = 0; w->arena && i < MU_ARENA_SLOTS; i++)
        w->slots[i].cell = mu_arena_cell(arena, local, i);
    pthread_mutex_init(&w->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&w->changed, &attr);
    pthread_condattr_destroy(&attr);
    /* signals are the program's */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &was);
    rc = pthread_create(&w->thread, NULL, run, w);
    pthread_sigmask(SIG_SETMASK, &was, NULL);
    if (rc) {
        release(w);
        errno = rc;
        return mu_err_errno(err, MUSTER_ENOMEM, "start the checkpoint thread");
    }
    *out = w;
    return 0;
}

static void submit(struct mu_ckpt_writer *w, enum task task)
{
    pthread_mutex_lock(&w->lock);
    w->task = task;
    if (task == COPY)
        w->last = NULL;
    if (task == WRITE || task == COPY) {
        w->durable = false;
        w->error = (struct mu_err){0};
        w->uncopied = false;
    }
    pthread_cond_broadcast(&w->changed);
    pthread_mutex_unlock(&w->lock);
}

static int private_memory(struct mu_ckpt_writer *w, const struct mu_ckpt_manifest *plan, struct mu_err *err)
{
    unsigned char *image = plan->segment > SIZE_MAX / 2
                               ? MAP_FAILED
                               : mmap(NULL, plan->segment, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (image == MAP_FAILED)
        return mu_err_set(err, MUSTER_ENOMEM, "no memory for a copy of %" PRIu64 " bytes", plan->segment);
    /* neither in core files nor copied by fork */
    madvise(image, plan->segment, MADV_HUGEPAGE);
    madvise(image, plan->segment, MADV_DONTDUMP);
    madvise(image, plan->segment, MADV_DONTFORK);
    forget_memory(w);
    w->image = image;
    w->image_bytes = plan->segment;
    return 0;
}

/* The cells keep what they hold until it is written over; what is mapped of them, and long enough, stays so. */
static int arena_memory(struct mu_ckpt_writer *w, struct mu_ckpt_manifest *plan, struct mu_err *err)
{
    struct slot is[MU_ARENA_SLOTS];
    unsigned char *manifest;
    int rc = mu_ckpt_manifest_encode(plan, &manifest, err);
    uint64_t bytes;

    if (rc)
        return rc;
    bytes = mu_arena_bytes(plan->segment, plan->bytes, plan->nextents);
    memcpy(is, w->slots, sizeof is);
    for (unsigned i = 0; i < MU_ARENA_SLOTS && !rc; i++) {
        if (is[i].map && is[i].bytes >= bytes)
            continue;
        is[i].map = NULL;
        is[i].bytes = bytes;
        rc = mu_arena_map(w->arena, is[i].cell, bytes, true, &is[i].map, err);
    }
    if (rc) {
        for (unsigned i = 0; i < MU_ARENA_SLOTS; i++)
            if (is[i].map && is[i].map != w->slots[i].map)
                munmap(is[i].map, bytes);
        free(manifest);
        return rc;
    }
    for (unsigned i = 0; i < MU_ARENA_SLOTS; i++)
        if (is[i].map == w->slots[i].map)
            w->slots[i].map = NULL;
    forget_memory(w);
    memcpy(w->slots, is, sizeof is);
    w->manifest = manifest;
    return 0;
}

int mu_ckpt_writer_layout(struct mu_ckpt_writer *w, const struct mu_ckpt_tensors *tensors, struct mu_err *err)
{
    struct mu_ckpt_manifest plan;
    int rc = mu_ckpt_manifest_plan(tensors, w->place.rank, w->place.world, &plan, err);

    if (rc)
        return rc;
    if (w->arena && arena_memory(w, &plan, NULL)) { /* this rank then writes by itself */
        w->arena = NULL;
        w->last = NULL;
    }
    if (!w->arena && (rc = private_memory(w, &plan, err))) {
        mu_ckpt_manifest_free(&plan);
        return rc;
    }
    w->plan = plan;
    w->tensors = tensors;
    submit(w, TOUCH);
    return 0;
}

void mu_ckpt_writer_bad(struct mu_ckpt_writer *w, uint64_t after, uint64_t upto)
{
    pthread_mutex_lock(&w->lock);
    w->bad_after = after;
    w->bad_upto = upto;
    pthread_mutex_unlock(&w->lock);
}

/* What is on a device is on its way while the rest is copied. */
static int copy_some(const struct mu_ckpt_writer *w, bool device, unsigned char *image, struct mu_err *err)
{
    struct mu_ckpt_mover *m = w->tensors->mover;
    int rc = 0;

    for (size_t i = 0; !rc && i < w->plan.nblocks; i++) {
        const struct mu_ckpt_block *b = &w->plan.blocks[i];
        const unsigned char *data = w->tensors->v[i].data;

        for (size_t k = b->first; w->tensors->v[i].device == device && !rc && k < b->first + b->n; k++) {
            const struct mu_ckpt_extent *e = &w->plan.extents[k];

            if (device)
                rc = m->get(m, image + e->file, data + e->at, e->bytes, err);
            else
                mu_copy(image + e->file, data + e->at, e->bytes);
        }
    }
    return rc;
}

static int copy_to(const struct mu_ckpt_writer *w, unsigned char *image, struct mu_err *err)
{
    struct mu_ckpt_mover *m = w->tensors->mover;
    int rc = m ? copy_some(w, true, image, err) : 0, end;

    if (!rc)
        copy_some(w, false, image, NULL);
    end = m ? m->done(m, rc ? NULL : err) : 0;
    return rc ? rc : end;
}

/* Which cell is written over: what is of no use, then the older one. NULL: both are being drained. */
static struct slot *oldest(struct mu_ckpt_writer *w)
{
    struct slot *best = NULL;
    uint64_t least = 0;

    for (unsigned i = 0; i < MU_ARENA_SLOTS; i++) {
        const struct mu_arena_cell *c = w->slots[i].cell;
        bool ours = atomic_load(&c->state) == MU_ARENA_FULL && !strcmp(c->place.dir, w->place.dir);
        uint64_t key = ours ? c->generation + 1 : 0;

        if (mu_arena_pending(c) || (best && key >= least))
            continue;
        best = &w->slots[i];
        least = key;
    }
    return best;
}

static void give_order(struct mu_ckpt_writer *w, struct mu_arena_cell *c)
{
    c->place = w->place;
    c->place.io = NULL;
    c->generation = w->generation;
    pthread_mutex_lock(&w->lock);
    c->bad_after = w->bad_after;
    c->bad_upto = w->bad_upto;
    pthread_mutex_unlock(&w->lock);
    c->began = w->started;
    atomic_store(&c->cancel, atomic_load(&w->cancel));
    c->chunk = w->chunk;
    c->node = w->node;
    atomic_store(&c->peers, w->chunk ? MU_PEERS_WANTED : MU_PEERS_NONE);
}

static int save_to_arena(struct mu_ckpt_writer *w, struct mu_err *err)
{
    struct slot *s = oldest(w);
    struct mu_arena_cell *c;
    int rc;

    if (!s)
        return mu_err_set(err, MUSTER_EARG, "the checkpoint writer is not ready");
    c = s->cell;
    atomic_store(&c->state, MU_ARENA_FILLING);
    atomic_store(&c->summed, 0);
    atomic_store(&c->drain, MU_DRAIN_NONE);
    atomic_store(&c->peers, MU_PEERS_NONE);
    atomic_thread_fence(memory_order_seq_cst); /* before any of the data */
    if ((rc = copy_to(w, s->map, err)))
        return rc;
    memcpy(s->map + w->plan.segment, w->manifest, w->plan.bytes);
    c->rank = w->place.rank;
    c->id = (struct mu_ckpt_id){.generation = w->generation,
                                .epoch = w->place.epoch,
                                .nonce = w->place.nonce,
                                .step = w->step,
                                .world = w->place.world,
                                .attempt = w->place.attempt};
    c->segment = w->plan.segment;
    c->manifest = w->plan.bytes;
    c->extents = w->plan.nextents;
    give_order(w, c);
    atomic_store(&c->state, MU_ARENA_FULL);
    pthread_mutex_lock(&w->lock);
    w->last = c;
    pthread_mutex_unlock(&w->lock);
    mu_arena_order(w->arena, c);
    return 0;
}

/* In the thread; what comes next. */
static enum task do_copy(struct mu_ckpt_writer *w)
{
    struct mu_err err = {0};
    bool arena = w->arena;
    int rc = arena ? save_to_arena(w, &err) : copy_to(w, w->image, &err);

    if (!rc)
        return arena ? NOTHING : WRITE;
    pthread_mutex_lock(&w->lock);
    w->error = err;
    w->uncopied = true;
    pthread_mutex_unlock(&w->lock);
    return NOTHING;
}

static int save(struct mu_ckpt_writer *w, uint64_t generation, uint64_t step, bool later, struct mu_err *err)
{
    if ((!w->image && !w->manifest) || mu_ckpt_writer_idle(w, 0))
        return mu_err_set(err, MUSTER_EARG, "the checkpoint writer is not ready");
    atomic_store(&w->cancel, 0); /* that was the one before */
    w->started = mu_now();
    w->generation = generation;
    w->step = step;
    struct mu_ckpt_mover *m = w->tensors->mover;
    int rc = m ? m->begin(m, err) : 0;
    if (rc)
        return rc;
    if (later) {
        submit(w, COPY);
        return 0;
    }
    if (w->arena)
        return save_to_arena(w, err);
    if (!(rc = copy_to(w, w->image, err)))
        submit(w, WRITE);
    return rc;
}

int mu_ckpt_writer_save(struct mu_ckpt_writer *w, uint64_t generation, uint64_t step, struct mu_err *err)
{
    return save(w, generation, step, false, err);
}

int mu_ckpt_writer_save_later(struct mu_ckpt_writer *w, uint64_t generation, uint64_t step, struct mu_err *err)
{
    return save(w, generation, step, true, err);
}

static struct mu_arena_cell *own_copy(const struct mu_ckpt_writer *w, const struct mu_ckpt_id *id)
{
    struct mu_arena_cell *c = NULL;

    for (unsigned i = 0; w->arena && i < MU_ARENA_SLOTS; i++) {
        struct mu_arena_cell *x = w->slots[i].cell;

        if (atomic_load(&x->state) == MU_ARENA_FULL && x->rank == w->place.rank && mu_ckpt_same_id(&x->id, id) &&
            x->id.world == w->place.world && !strcmp(x->place.dir, w->place.dir))
            c = x;
    }
    return c;
}

unsigned char *mu_ckpt_writer_map(struct mu_ckpt_writer *w, const struct mu_arena_cell *c, uint64_t bytes)
{
    struct slot *s = NULL;
    int fd;

    for (unsigned i = 0; w->arena && i < MU_ARENA_SLOTS; i++)
        if (w->slots[i].cell == c)
            s = &w->slots[i];
    if (!s || s->map)
        return s && s->bytes >= bytes ? s->map : NULL;
    if ((fd = mu_arena_open_fd(w->arena, c->fd, bytes, false, NULL)) < 0)
        return NULL;
    close(fd);
    if (mu_arena_map(w->arena, c, bytes, true, &s->map, NULL))
        return NULL;
    s->bytes = bytes;
    return s->map;
}

uint64_t mu_ckpt_writer_held(const struct mu_ckpt_writer *w, const struct mu_ckpt_id *id)
{
    const struct mu_arena_cell *c = own_copy(w, id);

    return c ? mu_arena_part_bytes(c->segment, c->manifest, c->extents) : 0;
}

int mu_ckpt_writer_adopt(struct mu_ckpt_writer *w, const struct mu_ckpt_id *id, uint64_t generation, uint64_t timeout)
{
    struct mu_arena_cell *c = own_copy(w, id);
    uint64_t until = mu_now() + timeout;

    while (c && mu_arena_pending(c) && mu_now() < until) {
        uint32_t was = atomic_load(&c->drain);

        if (was != MU_DRAIN_DONE && was != MU_DRAIN_FAILED)
            mu_futex_wait(&c->drain, was, 10 * MU_MS);
    }
    if (!c || mu_arena_pending(c))
        return MUSTER_ENOCKPT;
    atomic_store(&w->cancel, 0);
    w->started = mu_now();
    w->generation = generation;
    w->step = id->step;
    give_order(w, c);
    w->last = c;
    mu_arena_order(w->arena, c);
    return 0;
}

enum goal { IDLE, COPIED, DURABLE, GONE };

/* 1 when reached, -1 when it never will be. */
static int reached(const struct mu_ckpt_writer *w, enum goal goal)
{
    switch (goal) {
    case IDLE:
        return w->task == NOTHING;
    case COPIED:
        return w->uncopied ? -1 : w->task != COPY;
    case DURABLE:
        return w->error.code ? -1 : (w->task != WRITE && w->task != COPY) || w->durable;
    case GONE:
        break;
    }
    return w->gone;
}

/* The same for what the drain does. */
static int drained(struct mu_ckpt_writer *w, enum goal goal, uint64_t until)
{
    struct mu_arena_cell *c = w->last;

    while (c) {
        uint32_t is = atomic_load_explicit(&c->drain, memory_order_acquire);
        uint64_t now = mu_now();

        if (goal == IDLE && is != MU_DRAIN_WANTED && is != MU_DRAIN_BUSY && is != MU_DRAIN_SAFE &&
            mu_arena_pending(c)) {
            if (now >= until)
                return 0;
            mu_futex_wait(&c->peers, MU_PEERS_WANTED, until - now < 20 * MU_MS ? until - now : 20 * MU_MS);
            continue;
        }
        if (is == MU_DRAIN_NONE || is == MU_DRAIN_DONE || (goal == DURABLE && is == MU_DRAIN_SAFE))
            break;
        if (is == MU_DRAIN_FAILED)
            return goal == DURABLE ? -1 : 1;
        if (now >= until)
            return 0;
        mu_futex_wait(&c->drain, is, until - now < 20 * MU_MS ? until - now : 20 * MU_MS);
    }
    return 1;
}

/* Returns with the lock held. */
static int await(struct mu_ckpt_writer *w, enum goal goal, uint64_t timeout)
{
    uint64_t now = mu_now(), until = timeout > UINT64_MAX / 2 - now ? UINT64_MAX / 2 : now + timeout;
    struct timespec t = {.tv_sec = (time_t)(until / MU_SEC), .tv_nsec = (long)(until % MU_SEC)};
    int got;

    pthread_mutex_lock(&w->lock);
    while (!(got = reached(w, goal)))
        if (pthread_cond_timedwait(&w->changed, &w->lock, &t) == ETIMEDOUT)
            return reached(w, goal);
    return got;
}

int mu_ckpt_writer_copied(struct mu_ckpt_writer *w, uint64_t timeout, struct mu_err *err)
{
    int got = await(w, COPIED, timeout), rc = 0;

    if (got < 0)
        rc = mu_err_set(err, w->error.code, "%s", w->error.text);
    pthread_mutex_unlock(&w->lock);
    return got ? rc : 1;
}

int mu_ckpt_writer_durable(struct mu_ckpt_writer *w, uint64_t timeout, struct mu_err *err)
{
    uint64_t until = timeout > UINT64_MAX / 2 ? UINT64_MAX / 2 : mu_now() + timeout, now;
    int got = await(w, COPIED, timeout), rc = 0;

    pthread_mutex_unlock(&w->lock);
    if (!got)
        return 1;
    now = mu_now();
    timeout = now < until ? until - now : 0;
    if (w->last) {
        got = drained(w, DURABLE, mu_now() + timeout);
        return got < 0 ? mu_err_set(err, w->last->error.code, "%s", w->last->error.text) : got ? 0 : 1;
    }
    got = await(w, DURABLE, timeout);

    if (got < 0)
        rc = mu_err_set(err, w->error.code, "%s", w->error.text);
    pthread_mutex_unlock(&w->lock);
    return got ? rc : 1;
}

int mu_ckpt_writer_protected(struct mu_ckpt_writer *w, uint64_t timeout, struct mu_err *err)
{
    uint64_t until = mu_now() + timeout;
    int rc = mu_ckpt_writer_copied(w, timeout, err);
    struct mu_arena_cell *c = w->last;

    if (rc)
        return rc;
    for (;;) {
        uint32_t is = c ? atomic_load_explicit(&c->peers, memory_order_acquire) : MU_PEERS_NONE;
        uint64_t now = mu_now();

        if (is == MU_PEERS_NONE)
            return mu_err_set(err, MUSTER_ENOSYS, "this checkpoint has no copies on peers");
        if (is == MU_PEERS_DONE)
            return 0;
        if (is == MU_PEERS_FAILED)
            return mu_err_set(err, c->peers_error.code, "%s", c->peers_error.text);
        if (now >= until)
            return 1;
        mu_futex_wait(&c->peers, is, until - now < 20 * MU_MS ? until - now : 20 * MU_MS);
    }
}

void mu_ckpt_writer_peers(struct mu_ckpt_writer *w, uint64_t chunk, uint32_t node)
{
    w->chunk = w->arena ? chunk : 0;
    w->node = node;
}

uint64_t mu_ckpt_writer_block(const struct mu_ckpt_writer *w)
{
    return w->arena && w->manifest ? mu_arena_part_bytes(w->plan.segment, w->plan.bytes, w->plan.nextents) : 0;
}

int mu_ckpt_writer_idle(struct mu_ckpt_writer *w, uint64_t timeout)
{
    uint64_t began = mu_now(), spent;
    int got = await(w, IDLE, timeout);

    pthread_mutex_unlock(&w->lock);
    spent = mu_now() - began;
    return got && drained(w, IDLE, mu_now() + (spent < timeout ? timeout - spent : 0)) ? 0 : 1;
}

bool mu_ckpt_writer_busy(struct mu_ckpt_writer *w)
{
    bool busy;

    pthread_mutex_lock(&w->lock);
    busy = w->task == COPY || w->task == WRITE || (w->last && mu_arena_pending(w->last));
    pthread_mutex_unlock(&w->lock);
    return busy;
}

uint64_t mu_ckpt_writer_cost(struct mu_ckpt_writer *w)
{
    uint64_t cost;

    pthread_mutex_lock(&w->lock);
    if (w->last && atomic_load(&w->last->drain) == MU_DRAIN_DONE && w->last->cost > w->cost)
        w->cost = w->last->cost;
    cost = w->cost;
    pthread_mutex_unlock(&w->lock);
    return cost;
}

uint64_t mu_ckpt_writer_bytes(const struct mu_ckpt_writer *w)
{
    return w->plan.segment;
}

void mu_ckpt_writer_cancel(struct mu_ckpt_writer *w)
{
    atomic_store(&w->cancel, 1);
    mu_futex_wake(&w->cancel);
    pthread_mutex_lock(&w->lock);
    if (w->last) {
        atomic_store(&w->last->cancel, 1);
        mu_futex_wake(&w->last->cancel);
    }
    pthread_mutex_unlock(&w->lock);
}

int mu_ckpt_writer_stop(struct mu_ckpt_writer *w, uint64_t timeout, struct mu_err *err)
{
    int got = await(w, IDLE, timeout);
    pthread_t thread = w->thread;

    if (!got) {
        atomic_store(&w->cancel, 1);
        mu_futex_wake(&w->cancel);
    }
    w->task = QUIT;
    pthread_cond_broadcast(&w->changed);
    pthread_mutex_unlock(&w->lock);
    got = await(w, GONE, MU_SEC);
    w->abandoned = !got;
    pthread_mutex_unlock(&w->lock);
    if (!got) {
        pthread_detach(thread);
        return mu_err_set(err, MUSTER_ETIMEOUT, "the checkpoint thread hangs in the file system");
    }
    pthread_join(thread, NULL);
    release(w);
    return 0;
}
