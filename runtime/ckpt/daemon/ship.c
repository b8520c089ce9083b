#include "runtime/ckpt/daemon/ship.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "runtime/base/clean.h"
#include "runtime/base/futex.h"
#include "runtime/base/log.h"
#include "runtime/ckpt/daemon/remote.h"
#include "runtime/ckpt/shipped.h"

#define LOOK MU_SEC /* at the directory, should a bell go unheard */
#define LANES 4     /* with PART they bound the memory */
#define PART (8ull << 20)
#define PATIENCE (20 * MU_SEC) /* with a request, before the whole is begun again */
#define PAUSE_LEAST (250 * MU_MS)
#define PAUSE_MOST (30 * MU_SEC)
#define PAUSE_ENDING MU_SEC        /* the same once the job is over */
#define LOOK_PATIENCE (2 * MU_SEC) /* with a store that does not answer a job that begins */
#define FETCH_TRIES (5 * MU_SEC)
#define STILL (15 * MU_SEC) /* nothing gets on for so long: nobody waits any more */
#define NAP (50 * MU_MS)

struct mu_ship {
    struct mu_arena_head *head;
    struct mu_arena_ship *s; /* the head's */
    pthread_t thread;
    _Atomic uint32_t stop;
    uint32_t seq; /* of the order */
    struct mu_ckpt_place place;
    char url[600], endpoint[300], credentials[1024], key[1024];
    uint64_t rate;
    uint32_t full;
    struct mu_remote *remote;
    uint64_t skip;            /* a generation that cannot be read: not tried again */
    uint64_t paced_at, paced; /* since when so many bytes went */
};

static bool over(const struct mu_ship *w)
{
    return atomic_load(&w->stop) || atomic_load(&w->s->set) != w->seq;
}

static void nap(uint64_t ns)
{
    struct timespec t = {.tv_sec = (time_t)(ns / MU_SEC), .tv_nsec = (long)(ns % MU_SEC)};

    nanosleep(&t, NULL);
}

/* --- what is told ------------------------------------------------------------------------------------------------- */

static void tell(struct mu_ship *w, const char *text)
{
    struct mu_arena_ship *s = w->s;

    if (!strncmp(s->trouble, text, sizeof s->trouble - 1))
        return;
    if (*text)
        mu_log(MU_LOG_WARN, "drain", "%s: %s", w->url, text);
    atomic_fetch_add(&s->trouble_gen, 1);
    snprintf(s->trouble, sizeof s->trouble, "%s", text);
    atomic_fetch_add(&s->trouble_gen, 1);
}

void mu_ship_trouble(struct mu_arena_head *h, char text[400])
{
    struct mu_arena_ship *s = &h->ship;

    *text = 0;
    for (int i = 0; i < 100; i++) {
        uint32_t gen = atomic_load(&s->trouble_gen);

        memcpy(text, s->trouble, sizeof s->trouble);
        text[sizeof s->trouble - 1] = 0;
        atomic_thread_fence(memory_order_acquire);
        if (!(gen & 1) && atomic_load(&s->trouble_gen) == gen)
            return;
    }
    *text = 0;
}

bool mu_ship_pending(struct mu_arena_head *h)
{
    struct mu_arena_ship *s = &h->ship;
    uint64_t moved = atomic_load(&s->moved_at), hurry = atomic_load(&h->hurry);

    if (!atomic_load(&s->set) || atomic_load(&s->want) <= atomic_load(&s->generation))
        return false;
    moved = moved > hurry ? moved : hurry;
    return !hurry || mu_now() < moved + STILL;
}

/* --- moving bytes ------------------------------------------------------------------------------------------------- */

/* Also keeps the rate: whoever hands out the work waits here. */
static int on_bytes(void *arg, uint64_t n)
{
    struct mu_ship *w = arg;
    uint64_t now = mu_now();

    atomic_fetch_add(&w->s->bytes, n);
    atomic_store(&w->s->moved_at, now);
    w->paced += n;
    while (w->rate && !over(w) &&
           (now = mu_now()) < w->paced_at + (uint64_t)((double)w->paced / (double)w->rate * 1e9)) {
        atomic_store(&w->s->moved_at, now);
        nap(NAP);
    }
    return over(w);
}

static struct mu_remote_way way_of(struct mu_ship *w)
{
    w->paced_at = mu_now();
    w->paced = 0;
    return (struct mu_remote_way){.lanes = LANES, .part = PART, .bytes = on_bytes, .arg = w};
}

static int reach(struct mu_ship *w, uint64_t patience, struct mu_err *err)
{
    const struct mu_s3_given given = {.endpoint = w->endpoint[0] ? w->endpoint : NULL,
                                      .credentials = w->credentials[0] ? w->credentials : NULL,
                                      .key = w->key[0] ? w->key : NULL,
                                      .patience = patience};

    return w->remote ? 0 : mu_remote_open(w->url, &given, &w->remote, err);
}

/* Who gets a new key, or another endpoint, has changed a file: it is read again. */
static void let_go(struct mu_ship *w)
{
    mu_remote_close(w->remote);
    w->remote = NULL;
}

/* --- fetching ----------------------------------------------------------------------------------------------------- */

/* The newest that can be had. */
static int fetch_newest(struct mu_ship *w, struct mu_err *err)
{
    struct mu_remote_generation *v = NULL;
    struct mu_remote_way way = way_of(w);
    struct mu_remote_done done = {0};
    size_t n = 0;
    int rc = mu_remote_list(w->remote, &v, &n, err), tried = 0;

    for (size_t i = 0; !rc && i < n; i++) {
        rc = mu_remote_fetch(w->remote, &v[i], w->place.dir, &way, &done, err);
        if (!rc) {
            w->s->fetched = v[i].generation;
            break;
        }
        if (rc != MUSTER_ECORRUPT) /* else the one before */
            break;
        tried++;
        mu_log(MU_LOG_WARN, "drain", "%s: generation %" PRIu64 " cannot be used: %s", w->url, v[i].generation,
               err->text);
        if (i + 1 < n)
            rc = 0;
    }
    atomic_fetch_add(&w->s->retries, done.retries);
    mu_remote_generations_free(v, n);
    return rc;
}

static void fetch(struct mu_ship *w)
{
    struct mu_arena_ship *s = w->s;
    uint64_t until = mu_now() + FETCH_TRIES;
    struct mu_err err = {0};
    int rc;

    s->fetched = 0;
    for (uint64_t pause = PAUSE_LEAST;; pause *= 2) {
        if (!(rc = reach(w, PATIENCE, &err)))
            rc = fetch_newest(w, &err);
        if (over(w))
            return;
        if (rc != MUSTER_EIO || mu_now() + pause > until)
            break;
        let_go(w);
        nap(pause);
    }
    if (rc)
        s->fetch_error = err;
    atomic_store(&s->fetch, rc ? MU_FETCH_FAILED : MU_FETCH_DONE);
    mu_futex_wake(&s->fetch);
}

/* What would keep every generation from being sent, or read again, is said when the job begins. */
static void look(struct mu_ship *w)
{
    struct mu_arena_ship *s = w->s;
    struct mu_err err = {0};
    int rc = reach(w, LOOK_PATIENCE, &err);
    bool bad = rc && rc != MUSTER_EIO;

    if (!rc)
        bad = mu_remote_keys_fit(w->remote, &err) == MUSTER_EARG;
    let_go(w);
    if (over(w))
        return;
    if (bad)
        s->fetch_error = err;
    atomic_store(&s->fetch, bad ? MU_FETCH_FAILED : MU_FETCH_DONE);
    mu_futex_wake(&s->fetch);
}

/* --- sending ------------------------------------------------------------------------------------------------------ */

/* Old ones go once the list shows the newer one whole. */
static int retain(struct mu_ship *w, uint64_t shipped, struct mu_err *err)
{
    struct mu_remote_generation *v = NULL;
    size_t n = 0, swept;
    uint32_t good = 0;
    bool there = false, *gone = NULL;
    int rc = mu_remote_list(w->remote, &v, &n, err);

    for (size_t i = 0; !rc && i < n; i++)
        there |= v[i].generation == shipped && v[i].complete;
    if (!rc && !there)
        rc = mu_err_set(err, MUSTER_EIO, "generation %" PRIu64 " was sent, and is not in the list of what is there",
                        shipped);
    if (!rc && !(gone = calloc(n + 1, sizeof *gone)))
        rc = mu_err_set(err, MUSTER_ENOMEM, "out of memory");
    for (size_t i = 0; !rc && i < n; i++) {
        const struct mu_remote_generation *g = &v[i];

        if (g->pinned)
            continue;
        if (good < w->place.keep)
            good += g->complete;
        else
            gone[i] = g->generation < shipped && g->code != MUSTER_EVERSION &&
                      !mu_ckpt_kept_for_ever(g->generation, w->place.every);
    }
    if (!rc)
        mu_remote_spare(v, n, gone);
    for (size_t i = 0; !rc && i < n; i++)
        if (gone[i] && !(rc = mu_ckpt_store_fence(&w->place, err)))
            rc = mu_remote_remove(w->remote, &v[i], err);
    free(gone);
    mu_remote_generations_free(v, n);
    return rc ? rc : mu_remote_sweep(w->remote, shipped, false, &swept, err);
}

static void is_shipped(struct mu_ship *w, uint64_t generation, uint64_t step)
{
    struct mu_ckpt_shipped now = {.generation = generation, .step = step};
    struct mu_err err;

    memcpy(now.url, w->url, sizeof now.url);
    if (mu_ckpt_shipped_write(&w->place, &now, &err))
        mu_log(MU_LOG_WARN, "drain", "%s", err.text);
    atomic_store(&w->s->step_plus1, step + 1);
    atomic_store(&w->s->generation, generation);
    atomic_store(&w->s->moved_at, mu_now());
}

/* 1: there is nothing to send. */
static int next_one(struct mu_ship *w, uint64_t *generation, uint64_t *step, struct mu_err *err)
{
    mu_auto_free uint64_t *list = NULL;
    uint64_t have = atomic_load(&w->s->generation);
    struct mu_ckpt_commit k;
    size_t n = 0;
    int rc = mu_ckpt_store_scan(w->place.dir, &list, &n, err);

    if (rc)
        return rc;
    for (size_t i = 0; i < n && list[i] > have && list[i] > w->skip; i++) {
        struct mu_ckpt_path gendir = mu_ckpt_final(&w->place, list[i]);

        if (mu_ckpt_store_check(w->place.dir, list[i], NULL) || mu_ckpt_store_commit(gendir.s, list[i], &k, NULL))
            continue; /* the one before is better than none */
        *generation = list[i];
        *step = k.id.step;
        free(k.votes);
        return 0;
    }
    return 1;
}

static int send_one(struct mu_ship *w, uint64_t generation, uint64_t step, struct mu_err *err)
{
    struct mu_remote_way way = way_of(w);
    struct mu_remote_done done = {0};
    struct mu_remote_generation *v = NULL;
    size_t n = 0;
    int rc = mu_ckpt_store_hold(&w->place, generation, true, err);

    if (rc || (rc = reach(w, PATIENCE, err)))
        return rc;
    if (w->full > 1 && !(rc = mu_remote_list(w->remote, &v, &n, err))) {
        way.incremental = true;
        way.base = mu_remote_base(v, n, generation, w->full);
    }
    if (!rc)
        rc = mu_remote_push(w->remote, w->place.dir, generation, &way, &done, err);
    mu_remote_generations_free(v, n);
    atomic_fetch_add(&w->s->retries, done.retries);
    if (rc == MUSTER_ECORRUPT)
        w->skip = generation;
    if (rc)
        return rc;
    is_shipped(w, generation, step);
    mu_ckpt_store_hold(&w->place, generation, false, NULL);
    return 0;
}

/* 1: there was nothing to send. */
static int turn(struct mu_ship *w, struct mu_err *err)
{
    uint64_t generation, step, want = atomic_load(&w->s->want);
    int rc = next_one(w, &generation, &step, err);

    if (rc)
        return rc;
    while (want < generation && !atomic_compare_exchange_weak(&w->s->want, &want, generation)) {
    }
    if ((rc = mu_ckpt_store_fence(&w->place, err)) || (rc = send_one(w, generation, step, err)))
        return rc;
    return retain(w, generation, err);
}

static void rest(struct mu_ship *w, uint64_t ns)
{
    uint64_t end = mu_now() + ns;

    while (!over(w) && mu_now() < end) {
        uint32_t bell = atomic_load(&w->head->bell);
        uint64_t left = end - mu_now();

        if (ns > LOOK || atomic_load(&w->s->want) <= atomic_load(&w->s->generation))
            mu_futex_wait(&w->head->bell, bell, left < LOOK / 4 ? left : LOOK / 4);
        else
            return;
    }
}

static void serve(struct mu_ship *w)
{
    uint64_t pause = PAUSE_LEAST;

    w->skip = 0;
    if (atomic_load(&w->s->fetch) == MU_FETCH_WANTED)
        fetch(w);
    else if (atomic_load(&w->s->fetch) == MU_FETCH_LOOK)
        look(w);
    while (!over(w)) {
        struct mu_err err = {0};
        int rc = turn(w, &err);

        if (rc == 1) {
            rest(w, LOOK);
            continue;
        }
        if (rc == MUSTER_EEPOCH && mu_ckpt_store_fence(&w->place, NULL) == MUSTER_EEPOCH)
            break; /* it is another attempt's now */
        if (over(w))
            break;
        if (!rc) {
            atomic_store(&w->s->failing, 0);
            tell(w, "");
            pause = PAUSE_LEAST;
            continue;
        }
        atomic_store(&w->s->failing, 1);
        atomic_fetch_add(&w->s->failures, 1);
        tell(w, err.text);
        let_go(w);
        for (uint64_t end = mu_now() + pause; !over(w) && mu_now() < end;) {
            if (atomic_load(&w->head->hurry) && end > mu_now() + PAUSE_ENDING)
                end = mu_now() + PAUSE_ENDING;
            nap(NAP);
        }
        pause = 2 * pause < PAUSE_MOST ? 2 * pause : PAUSE_MOST;
    }
    let_go(w);
}

static bool take_order(struct mu_ship *w, uint32_t seq)
{
    const struct mu_arena_ship *s = w->s;

    w->place = s->place;
    w->place.io = &mu_ckpt_io_posix;
    memcpy(w->url, s->url, sizeof w->url);
    memcpy(w->endpoint, s->endpoint, sizeof w->endpoint);
    memcpy(w->credentials, s->credentials, sizeof w->credentials);
    memcpy(w->key, s->key, sizeof w->key);
    w->rate = s->rate;
    w->full = s->full;
    w->seq = seq;
    atomic_thread_fence(memory_order_acquire);
    return !over(w) && memchr(w->url, 0, sizeof w->url) && memchr(w->endpoint, 0, sizeof w->endpoint) &&
           memchr(w->credentials, 0, sizeof w->credentials) && memchr(w->key, 0, sizeof w->key) &&
           memchr(w->place.dir, 0, sizeof w->place.dir) && w->place.dir[0] == '/';
}

static void *run(void *arg)
{
    struct mu_ship *w = arg;

    while (!atomic_load(&w->stop)) {
        uint32_t seq = atomic_load(&w->s->set);

        if (seq && !(seq & 1) && seq != w->seq && take_order(w, seq))
            serve(w);
        else
            mu_futex_wait(&w->s->set, seq, LOOK / 4);
    }
    return NULL;
}

int mu_ship_start(struct mu_arena_head *h, struct mu_ship **out, struct mu_err *err)
{
    struct mu_ship *w = calloc(1, sizeof *w);
    sigset_t all, was;

    if (!w)
        return mu_err_set(err, MUSTER_ENOMEM, "no memory to ship checkpoints");
    w->head = h;
    w->s = &h->ship;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &was);
    errno = pthread_create(&w->thread, NULL, run, w);
    pthread_sigmask(SIG_SETMASK, &was, NULL);
    if (errno) {
        free(w);
        return mu_err_errno(err, 0, "start a thread to ship checkpoints");
    }
    *out = w;
    return 0;
}

void mu_ship_stop(struct mu_ship *w)
{
    if (!w)
        return;
    atomic_store(&w->stop, 1);
    mu_futex_wake(&w->s->set);
    mu_futex_wake(&w->head->bell);
    pthread_join(w->thread, NULL);
    let_go(w);
    free(w);
}
