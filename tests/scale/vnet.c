/* What is to happen in virtual time, and what it costs those to whom it happens. */
#include <stdlib.h>
#include <string.h>

#include "runtime/base/clock.h"
#include "tests/scale/virtual.h"

#define NS_A_BYTE 8u

struct v_world v = {.now = MU_SEC, .nagents = 300, .fanout = 8, .nlinks = 1};
static struct v_event *heap;
static size_t nheap, capheap;
static uint32_t caplinks;
static uint64_t seq;
static struct v_blob *last; /* transmitted; often it is the same as the one before */

static bool earlier(const struct v_event *a, const struct v_event *b)
{
    return a->t != b->t ? a->t < b->t : a->seq < b->seq;
}

void v_at(uint64_t t, struct v_event e)
{
    if (nheap == capheap) {
        capheap = capheap ? 2 * capheap : 1024;
        heap = realloc(heap, capheap * sizeof *heap);
        if (!heap)
            abort();
    }
    e.t = t;
    e.seq = seq++;
    size_t i = nheap++;
    for (; i > 0 && earlier(&e, &heap[(i - 1) / 2]); i = (i - 1) / 2)
        heap[i] = heap[(i - 1) / 2];
    heap[i] = e;
}

bool v_next(uint64_t until, struct v_event *out)
{
    if (!nheap || heap[0].t > until)
        return false;
    *out = heap[0];
    struct v_event end = heap[--nheap];
    size_t i = 0;

    for (size_t c; (c = 2 * i + 1) < nheap; i = c) {
        if (c + 1 < nheap && earlier(&heap[c + 1], &heap[c]))
            c++;
        if (!earlier(&heap[c], &end))
            break;
        heap[i] = heap[c];
    }
    if (nheap)
        heap[i] = end;
    return true;
}

void v_unref(struct v_blob *b)
{
    if (b && !--b->refs)
        free(b);
}

void v_net_free(void)
{
    struct v_event e;

    while (v_next(UINT64_MAX, &e))
        v_unref(e.blob);
    v_unref(last);
    free(heap);
    free(v.links);
}

/* --- processes ---------------------------------------------------------------------------------------------------- */

struct v_proc *v_proc_of(uint32_t who)
{
    return who == V_CTL ? &v.ctl_proc : &v.agents[who].proc;
}

void v_charge(uint32_t who, double ns)
{
    struct v_proc *p = v_proc_of(who);

    p->busy += (uint64_t)ns;
    p->cpu += ns;
}

uint64_t v_begin(uint32_t who, uint64_t t)
{
    struct v_proc *p = v_proc_of(who);

    p->busy = p->busy > t ? p->busy : t;
    return p->busy;
}

/* When so many bytes are at the other end. */
static uint64_t carried(uint32_t from, size_t len)
{
    struct v_proc *p = v_proc_of(from);

    p->nic = (p->nic > p->busy ? p->nic : p->busy) + len * NS_A_BYTE;
    return p->nic + V_LATENCY;
}

static uint32_t other(uint32_t link, uint32_t who)
{
    return v.links[link].lower == who ? v.links[link].upper : v.links[link].lower;
}

uint32_t v_gen_of(uint32_t who)
{
    return who == V_CTL ? 0 : v.agents[who].gen;
}

void v_transmit(uint32_t from, uint32_t link, const void *frame, size_t len)
{
    if (!v.links[link].open)
        return;
    if (!last || last->len != len || memcmp(last->data, frame, len) != 0) {
        v_unref(last);
        last = malloc(sizeof *last + len);
        if (!last)
            abort();
        *last = (struct v_blob){.refs = 1, .len = len};
        memcpy(last->data, frame, len);
    }
    last->refs++;
    v_charge(from, v.costs.message + v.costs.kilobyte * (double)len / 1024);
    uint32_t to = other(link, from);
    v_at(carried(from, len),
         (struct v_event){.what = FRAME, .to = to, .link = link, .gen = v_gen_of(to), .blob = last});
}

void v_transmit_beat(uint32_t from, uint32_t link, struct mu_m_beat m)
{
    uint32_t to = other(link, from);

    if (!v.links[link].open)
        return;
    v_charge(from, v.costs.message);
    v_at(carried(from, 60), (struct v_event){.what = BEAT, .to = to, .link = link, .gen = v_gen_of(to), .beat = m});
}

void v_hang_up(uint32_t who, uint32_t link)
{
    uint32_t to = link ? other(link, who) : 0;

    if (!link || !v.links[link].open)
        return;
    v.links[link].open = false;
    if (to == V_CTL || v.agents[to].alive)
        v_at(carried(who, 60), (struct v_event){.what = DOWN, .to = to, .link = link, .gen = v_gen_of(to)});
}

uint32_t v_new_link(uint32_t lower, uint32_t upper)
{
    if (v.nlinks + 1 >= caplinks) {
        caplinks = caplinks ? 2 * caplinks : 4096;
        v.links = realloc(v.links, caplinks * sizeof *v.links);
        if (!v.links)
            abort();
    }
    v.links[++v.nlinks] = (struct v_link){.open = lower != upper, .lower = lower, .upper = upper};
    return v.nlinks;
}
