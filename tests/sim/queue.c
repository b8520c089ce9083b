#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/clean.h"
#include "tests/sim/priv.h"

static uint64_t rnd(struct world *w)
{
    uint64_t z = (w->rng += 0x9e3779b97f4a7c15ull);

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}
uint64_t sim_below(struct world *w, uint64_t n)
{
    return n ? rnd(w) % n : 0;
}
bool sim_chance(struct world *w, unsigned permille)
{
    return sim_below(w, 1000) < permille;
}

void sim_violated(struct world *w, const char *fmt, ...)
{
    va_list ap;

    if (w->bad[0])
        return;
    va_start(ap, fmt);
    vsnprintf(w->bad, sizeof w->bad, fmt, ap);
    va_end(ap);
}
void sim_trace(struct world *w, const char *fmt, ...)
{
    va_list ap;

    if (!w->trace)
        return;
    printf("%10.6f ", (double)w->now / 1e9);
    va_start(ap, fmt);
    vprintf(fmt, ap);
    va_end(ap);
    printf("\n");
}

/* --- the queue of events --- */

static bool earlier(const struct event *a, const struct event *b)
{
    return a->t != b->t ? a->t < b->t : a->seq < b->seq;
}

struct event *sim_at(struct world *w, uint64_t t, enum what what)
{
    static struct event none;

    if (w->nheap == w->capheap) {
        size_t cap = w->capheap ? 2 * w->capheap : 256;
        struct event *v = realloc(w->heap, cap * sizeof *v);
        if (!v) {
            sim_violated(w, "the simulator is out of memory");
            return &none;
        }
        w->heap = v;
        w->capheap = cap;
    }
    /* sifted up at once: a caller fills in the rest, never the time */
    struct event e = {.t = t, .seq = w->seq++, .what = what};
    size_t i = w->nheap++;
    while (i > 0 && earlier(&e, &w->heap[(i - 1) / 2])) {
        w->heap[i] = w->heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    w->heap[i] = e;
    return &w->heap[i];
}

struct event sim_pop(struct world *w)
{
    struct event top = w->heap[0], last = w->heap[--w->nheap];
    size_t i = 0;

    for (;;) {
        size_t c = 2 * i + 1;
        if (c >= w->nheap)
            break;
        if (c + 1 < w->nheap && earlier(&w->heap[c + 1], &w->heap[c]))
            c++;
        if (!earlier(&w->heap[c], &last))
            break;
        w->heap[i] = w->heap[c];
        i = c;
    }
    if (w->nheap)
        w->heap[i] = last;
    return top;
}

/* --- the network --- */

static uint64_t latency(struct world *w)
{
    return sim_chance(w, 30) ? sim_below(w, 2 * MU_SEC) : 20000 + sim_below(w, 2 * MU_MS);
}

uint32_t sim_number(struct world *w)
{
    if (w->nnet + 2 >= MAX_CONNS) {
        sim_violated(w, "the simulator is out of connections");
        return 0;
    }
    return ++w->nnet + 1; /* 1 is MU_AGENT_CTL and MU_KEEPER_AGENT */
}

uint32_t sim_dial(struct world *w, enum side k0, uint32_t w0, uint32_t g0, enum side k1, uint32_t w1, uint32_t g1)
{
    uint32_t id = sim_number(w);

    sim_trace(w, "  dial %u: %d.%u -> %d.%u", id, (int)k0, w0, (int)k1, w1);
    w->net[id % MAX_CONNS] = (struct net){.open = true, .kind = {k0, k1}, .who = {w0, w1}, .gen = {g0, g1}};
    return id;
}

void sim_transmit(struct world *w, uint32_t conn, int to, const struct mu_buf *frame)
{
    struct net *n = &w->net[conn % MAX_CONNS];

    if (!conn || !n->open)
        return;
    bool beat = frame->len > 4 && frame->data[4] == MU_MSG_beat;
    uint64_t t = w->now + (beat ? 20000 + sim_below(w, 2 * MU_MS) : latency(w)), until, since;
    if (sim_host_cut(w, conn, to, &until, &since) && t < until)
        t = until + sim_below(w, MU_MS); /* sent again once the link is there */
    if (t <= n->last[to])
        t = n->last[to] + 1;
    n->last[to] = t;
    struct mu_msg m;
    bool twice = false;
    if (mu_msg_decode(frame->data, frame->len, &m, NULL))
        sim_violated(w, "a core sent a frame that cannot be decoded");
    else {
        n->begun += m.type == MU_MSG_relay && !m.relay.channels.n;
        twice = (m.type == MU_MSG_start || m.type == MU_MSG_report || m.type == MU_MSG_kill) && sim_chance(w, 60);
        sim_trace(w, "  conn %u side %d <- %s", conn, to, mu_msg_name(m.type));
        if (m.type == MU_MSG_agent_ready)
            sim_trace(w, "    %u keepers", m.agent_ready.keepers);
        if (m.type == MU_MSG_report)
            sim_trace(w, "    job %llu attempt %u phase %u failed %u", (unsigned long long)m.report.job,
                      m.report.attempt, m.report.phase, m.report.nfailed);
        mu_msg_free(&m);
    }
    for (int i = 0; i < 1 + twice; i++) {
        char *copy = malloc(frame->len);
        if (!copy)
            return;
        memcpy(copy, frame->data, frame->len);
        struct event *e = sim_at(w, i ? t + sim_below(w, 3 * MU_SEC) : t, DELIVER);
        e->conn = conn;
        e->dir = (uint32_t)to;
        e->index = n->begun;
        e->status = i; /* a copy */
        e->frame = copy;
        e->len = frame->len;
    }
}

void sim_hang_up(struct world *w, uint32_t conn)
{
    struct net *n = &w->net[conn % MAX_CONNS];

    if (!conn || !n->open)
        return;
    sim_trace(w, "  hang up conn %u", conn);
    n->open = false; /* what is under way is lost or still arrives: see DELIVER */
    for (int side = 0; side < 2; side++) {
        uint64_t t = w->now + sim_below(w, 5 * MU_MS) + 1, until, since, status = MU_DOWN_CLOSED;
        if (sim_host_cut(w, conn, side, &until, &since)) { /* it hears of it when the link is back, or never */
            uint64_t silent = since + MU_SILENT_NS + sim_below(w, 50 * MU_MS);
            status = silent < until ? MU_DOWN_SILENT : MU_DOWN_CLOSED;
            until = silent < until ? silent : until;
            t = until > t ? until : t;
        }
        struct event *e = sim_at(w, t, DOWN);
        e->conn = conn;
        e->dir = (uint32_t)side;
        e->status = (int32_t)status;
    }
}
