#include "collectives/waits.h"

#include <stdlib.h>

#include "collectives/shm.h"
#include "runtime/base/clean.h"
#include "runtime/base/clock.h"

struct known {      /* of a rank */
    uint64_t asked; /* when; 0: it was not */
    uint64_t beat;  /* in its segment, then */
    bool answered;  /* since */
    int waits;      /* as it answered; -1: for nobody that it knows */
    bool asks;      /* it has asked, and was not answered yet */
};

struct mu_waits {
    unsigned asking; /* number of those */
    struct known rank[];
};

static bool make(struct mu_engine *e)
{
    if (!e->waits)
        e->waits = calloc(1, sizeof *e->waits + (size_t)e->tp->size * sizeof e->waits->rank[0]);
    return e->waits;
}

void mu_waits_free(struct mu_engine *e)
{
    free(e->waits);
    e->waits = NULL;
}

/* --- what this rank shows --- */

static struct mu_seg_head *own(const struct mu_engine *e)
{
    bool has = e->shm && e->shm->own; /* it is not there from the start, nor where memory is not shared */

    return has ? (struct mu_seg_head *)(void *)((char *)e->shm->own - MU_SEG_HEAD) : NULL;
}

static void tell(struct mu_engine *e, int rank, enum mu_frame_type type, int waits)
{
    struct mu_frame *f = mu_frame_new(&e->pool, 0);

    if (!f)
        return;
    f->head.type = type;
    f->head.src = (uint32_t)e->tp->rank;
    f->head.offset = (uint64_t)(waits + 1);
    mu_coll_post(e, rank, f, NULL);
}

void mu_waits_show(struct mu_engine *e, int peer)
{
    struct mu_seg_head *h = own(e);

    if (h) {
        uint64_t beat = atomic_load_explicit(&h->beat, memory_order_relaxed);

        atomic_store_explicit(&h->waits, (uint32_t)(peer + 1), memory_order_relaxed);
        atomic_store_explicit(&h->beat, beat + 1, memory_order_release);
    }
    for (int r = 0; e->waits && e->waits->asking && r < e->tp->size; r++)
        if (e->waits->rank[r].asks) {
            e->waits->rank[r].asks = false;
            e->waits->asking--;
            tell(e, r, MU_FRAME_WAITS, peer);
        }
}

void mu_waits_end(struct mu_engine *e)
{
    struct mu_seg_head *h = own(e);

    if (h)
        atomic_store_explicit(&h->waits, 0, memory_order_release);
}

void mu_waits_dispatch(struct mu_engine *e, const struct mu_frame *f)
{
    struct known *k;

    if (f->head.src >= (uint32_t)e->tp->size || f->head.offset > (uint64_t)e->tp->size || !make(e))
        return;
    k = &e->waits->rank[f->head.src];
    if (f->head.type == MU_FRAME_WAITS) {
        k->answered = true;
        k->waits = (int)f->head.offset - 1;
    } else if (!k->asks) {
        k->asks = true;
        e->waits->asking++;
    }
}

/* --- what others show --- */

static const struct mu_seg_head *seen(const struct mu_engine *e, int rank)
{
    return e->shm && e->shm->peers ? (const struct mu_seg_head *)(const void *)e->shm->peers[rank].seg.base : NULL;
}

static void ask(struct mu_engine *e, int rank)
{
    struct known *k = &e->waits->rank[rank];
    const struct mu_seg_head *h = seen(e, rank);

    k->asked = mu_now();
    k->answered = false;
    k->waits = -1;
    if (h)
        k->beat = atomic_load_explicit(&h->beat, memory_order_acquire);
    else
        tell(e, rank, MU_FRAME_WHOM, -1);
}

/* One on this node shows it without being asked. */
static void look(const struct mu_engine *e, int rank)
{
    struct known *k = &e->waits->rank[rank];
    const struct mu_seg_head *h = seen(e, rank);
    uint32_t waits;

    if (!h || atomic_load_explicit(&h->beat, memory_order_acquire) == k->beat)
        return;
    k->answered = true;
    waits = atomic_load_explicit(&h->waits, memory_order_relaxed);
    k->waits = waits <= (uint32_t)e->tp->size ? (int)waits - 1 : -1;
}

void mu_waits_ask(struct mu_engine *e, bool first)
{
    for (int r = 0; make(e) && r < e->tp->size; r++) {
        struct known *k = &e->waits->rank[r];

        if (k->asked)
            look(e, r);
        if (first || k->answered)
            k->asked = 0;
        if (r != e->tp->rank && !k->asked && seen(e, r))
            ask(e, r); /* that costs nothing, so that it need not wait until a wait leads there */
    }
}

bool mu_waits_follow(struct mu_engine *e, const bool *missing, uint64_t patience, bool *blamed, int *from)
{
    int size = e->tp->size, n = 0;
    mu_auto_free int *reached = calloc((size_t)size, sizeof *reached);
    mu_auto_free bool *known = calloc((size_t)size, sizeof *known);
    uint64_t now = mu_now();
    bool any = false;

    if (!reached || !known || !e->waits)
        return false;
    known[e->tp->rank] = true;
    for (int r = 0; r < size; r++) {
        blamed[r] = false;
        from[r] = -1;
        if (missing[r] && !known[r]) {
            known[r] = true;
            reached[n++] = r;
        }
    }
    for (int i = 0; i < n; i++) {
        struct known *k = &e->waits->rank[reached[i]];

        if (!k->asked)
            ask(e, reached[i]);
        look(e, reached[i]);
        if (!k->answered) {
            any |= blamed[reached[i]] = now - k->asked >= patience && k->asked <= now;
        } else if (k->waits >= 0 && !known[k->waits]) {
            known[k->waits] = true;
            from[k->waits] = reached[i];
            reached[n++] = k->waits;
        }
    }
    return any;
}
