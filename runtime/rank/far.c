#include "runtime/rank/far.h"

#include "runtime/base/clean.h"
#include "runtime/base/clock.h"
#include "runtime/base/futex.h"
#include "runtime/ckpt/shipped.h"
#include "runtime/rank/session.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define ROUND (300 * MU_MS)
#define NAP_LEAST (5 * MU_MS)
#define NAP_MOST (100 * MU_MS)
#define FETCH_STILL (90 * MU_SEC) /* nothing moves for so long: the drain is not there */
#define LOOK_STILL (5 * MU_SEC)   /* it does not say what it thinks of the settings */
#define SETTLE_STILL (15 * MU_SEC)

static void nap(uint64_t ns)
{
    struct timespec t = {.tv_sec = (time_t)(ns / MU_SEC), .tv_nsec = (long)(ns % MU_SEC)};

    nanosleep(&t, NULL);
}

static bool aborted(void)
{
    const struct mu_slot_head *head = mu_rank_slots();

    return head && atomic_load_explicit((_Atomic uint32_t *)&head->abort, memory_order_acquire);
}

int mu_rank_far_order(muster_ckpt *c, const struct mu_ckpt_options *o, struct mu_err *err)
{
    mu_auto_free uint64_t *list = NULL;
    struct mu_arena_ship *s;
    size_t n = 0;
    uint32_t seq;
    int rc;

    if (!c->ram.head)
        return mu_err_set(
            err, MUSTER_ENOSYS,
            "store=%.200s needs `muster run`, and one open checkpoint handle a process; elsewhere `muster "
            "ckpt push` copies a directory there",
            o->store);
    if ((rc = mu_ckpt_store_scan(c->place.dir, &list, &n, err)))
        return rc;
    mu_ckpt_shipped_forget(&c->place); /* numbers may begin anew in a directory that was emptied */
    s = &c->ram.head->ship;
    seq = atomic_load(&s->set) | 1; /* a writer that died in here has left it odd */
    atomic_store(&s->set, seq);
    atomic_thread_fence(memory_order_seq_cst);
    s->place = c->place;
    s->place.io = NULL;
    memcpy(s->url, o->store, sizeof s->url);
    memcpy(s->endpoint, o->endpoint, sizeof s->endpoint);
    memcpy(s->credentials, o->credentials, sizeof s->credentials);
    memcpy(s->key, o->key, sizeof s->key);
    s->rate = o->rate;
    s->full = o->full;
    c->fetching = !n;
    atomic_store(&s->fetch, n ? MU_FETCH_LOOK : MU_FETCH_WANTED);
    atomic_store(&s->want, n ? list[0] : 0);
    atomic_store(&s->generation, 0);
    atomic_store(&s->moved_at, mu_now());
    atomic_store(&s->set, seq + 1);
    mu_futex_wake(&s->set);
    atomic_fetch_add(&c->ram.head->bell, 1);
    mu_futex_wake(&c->ram.head->bell);
    return 0;
}

struct word {
    int32_t code; /* 1: go on waiting */
    char text[400];
};

/* 1 for as long as it is under way. */
static int look_fetch(muster_ckpt *c, struct mu_err *err)
{
    struct mu_arena_ship *s = &c->ram.head->ship;
    uint32_t is = atomic_load(&s->fetch);

    if (is == MU_FETCH_WANTED || is == MU_FETCH_LOOK)
        mu_futex_wait(&s->fetch, is, ROUND);
    is = atomic_load(&s->fetch);
    if (is == MU_FETCH_LOOK)
        return mu_now() > atomic_load(&s->moved_at) + LOOK_STILL ? 0 : 1;
    if (!c->fetching)
        return is == MU_FETCH_FAILED ? mu_err_set(err, s->fetch_error.code ? s->fetch_error.code : MUSTER_EARG,
                                                  "store=%.100s: %.300s", s->url, s->fetch_error.text)
                                     : 0;
    if (is == MU_FETCH_DONE) {
        c->generation = s->fetched >= c->generation ? s->fetched + 1 : c->generation;
        return 0;
    }
    if (is == MU_FETCH_FAILED)
        return mu_err_set(err, s->fetch_error.code ? s->fetch_error.code : MUSTER_EIO,
                          "%s has no checkpoint, and %.100s cannot be asked for one: %.300s", c->place.dir, s->url,
                          s->fetch_error.text);
    if (mu_now() > atomic_load(&s->moved_at) + FETCH_STILL)
        return mu_err_set(err, MUSTER_ETIMEOUT, "%.200s: nothing came for %.0f s", s->url, (double)FETCH_STILL / 1e9);
    return 1;
}

int mu_rank_far_fetch(muster_ckpt *c, struct mu_err *err)
{
    struct word w = {.code = 1};
    int rc;

    while (w.code == 1) {
        if (c->rank == 0) {
            struct mu_err why = {0};

            mu_rank_files(true);
            w.code = look_fetch(c, &why);
            mu_rank_files(false);
            snprintf(w.text, sizeof w.text, "%.399s", why.text);
        }
        if ((rc = muster_broadcast(&w, sizeof w, MUSTER_UINT8, 0, c->comm)))
            return mu_err_set(err, rc, "%s", muster_last_error());
    }
    return w.code ? mu_err_set(err, w.code, "%s", w.text) : 0;
}

/* 1 for as long as it gets on. A failing store is given the time of a try or two. */
static int look_settled(muster_ckpt *c, uint64_t since)
{
    struct mu_arena_ship *s = &c->ram.head->ship;
    uint64_t now = mu_now(), moved = atomic_load(&s->moved_at);

    if (atomic_load(&s->generation) >= atomic_load(&s->want))
        return 0;
    moved = moved > since ? moved : since;
    if (now > moved + (atomic_load(&s->failing) ? SETTLE_STILL / 10 : SETTLE_STILL) || now > since + c->place.timeout ||
        aborted())
        return MUSTER_ETIMEOUT;
    return 1;
}

int mu_rank_far_settle(muster_ckpt *c, const char *call)
{
    uint64_t since = mu_now(), nap_ns = NAP_LEAST;
    int32_t code = 1;
    int rc;

    while (code == 1) {
        if (c->rank == 0) {
            mu_rank_files(true);
            for (uint64_t until = mu_now() + ROUND; (code = look_settled(c, since)) == 1 && mu_now() < until;) {
                nap(nap_ns);
                nap_ns = 2 * nap_ns < NAP_MOST ? 2 * nap_ns : NAP_MOST;
            }
            mu_rank_files(false);
        }
        if ((rc = muster_broadcast(&code, 1, MUSTER_INT32, 0, c->comm)))
            return rc;
    }
    if (code) {
        struct mu_slot *slot = mu_rank_slot();
        uint32_t error = slot ? atomic_load(&slot->user_error) : 0;

        mu_rank_fail(MUSTER_ETIMEOUT, "%s: the newest checkpoint is in %s, but not in the object store", call,
                     c->place.dir);
        if (slot) /* a remark, not an error */
            atomic_store(&slot->user_error, error);
    }
    return 0;
}

int mu_rank_far_wait(muster_ckpt *c, uint64_t generation, uint64_t timeout)
{
    uint64_t end = mu_now() + timeout, nap_ns = NAP_LEAST;
    struct mu_ckpt_shipped s;

    for (;;) {
        if (!mu_ckpt_shipped_read(c->place.dir, &s) && s.generation >= generation)
            return 0;
        if (mu_now() >= end || aborted())
            return 1;
        nap(nap_ns);
        nap_ns = 2 * nap_ns < NAP_MOST ? 2 * nap_ns : NAP_MOST;
    }
}
