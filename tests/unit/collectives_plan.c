/* Collectives of communicators that span nodes, of up to 33 ranks in one process: their engines are linked by queues,
 * and take turns at random. Every rank is what it would be among processes, but the sides inside nodes use frames, too.
 */
#include <stdint.h>
#include <string.h>

#include "collectives/hier.h"
#include "tests/unit/queues.h"
#include "tests/unit/tap.h"

#define MOST 33

static struct wire {
    struct mu_transport base;
    struct mu_engine engine;
    struct mu_slot slot;
    struct mu_frames in;
} wires[MOST];
static uint64_t state = 88172645463325252ull, sent;
static uint64_t between; /* bytes from node to node */
static const int *node_of;

static uint64_t draw(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    return state ^= state << 17;
}

/* --- the transport --- */

static int wire_send(struct mu_transport *t, int peer, struct mu_frame *f, struct mu_err *err)
{
    (void)err;
    mu_frames_push(&wires[peer].in, queue_copy(wires[peer].base.pool, f));
    sent++;
    if (node_of[t->rank] != node_of[peer])
        between += f->head.bytes;
    return MU_SEND_DONE;
}

static int wire_poll(struct mu_transport *t, struct mu_frame **in, struct mu_frames *out, struct mu_err *err)
{
    (void)out;
    (void)err;
    *in = draw() % 4 ? mu_frames_pop(&wires[t->rank].in) : NULL;
    return 0;
}

static const struct mu_transport_ops ops = {
    .name = "queues", .send = wire_send, .poll = wire_poll, .pending = queue_pending, .orphan = queue_orphan};

static bool up(int p, const int *node)
{
    int world[MOST];
    struct mu_err err;
    bool ok = true;

    node_of = node;
    for (int r = 0; r < p; r++)
        world[r] = r;
    for (int r = 0; r < p; r++) {
        struct mu_engine *e = &wires[r].engine;

        memset(&wires[r], 0, sizeof wires[r]);
        wires[r].base = (struct mu_transport){.ops = &ops, .pool = &e->pool, .rank = r, .size = p};
        e->tp = &wires[r].base;
        e->slot = &wires[r].slot;
        e->hier = true;
        e->place = malloc((size_t)p * sizeof *e->place);
        memcpy(e->place, node, (size_t)p * sizeof *e->place);
        e->machine = e->place;
        ok =
            ok && mu_comm_new(e, 1, r, p, world, &e->world, &err) == 0 && mu_hier_attach(e->world, NULL, -1, &err) == 0;
    }
    return ok;
}

static bool nothing_left(const struct muster_comm *c)
{
    bool ok = !c->active && !c->requests;

    for (unsigned i = 0; i < MU_BUCKETS; i++)
        ok = ok && !c->early[i].first;
    return ok;
}

static bool down(int p)
{
    bool ok = true;

    for (int i = 0; i < 1000; i++)
        for (int r = 0; r < p; r++)
            mu_coll_progress(&wires[r].engine);
    for (int r = 0; r < p; r++) {
        struct mu_engine *e = &wires[r].engine;

        for (struct muster_comm *c = e->comms; c; c = c->next)
            ok = ok && nothing_left(c);
        ok = ok && !wires[r].in.first && !e->stray.first;
        mu_comm_delete(e->world);
        ok = ok && !e->comms;
        mu_pool_clear(&e->pool);
        free(e->place);
        free(e->retired);
    }
    return ok;
}

/* All ranks begin in some order and get on in some order; at most two calls of a communicator at a time. */
static bool run(int p, const struct mu_call calls[][MOST], int ncalls)
{
    struct muster_request *req[2][MOST] = {{NULL}};
    int begun[MOST] = {0};
    struct mu_err err;
    bool ok = true;

    for (uint64_t turns = 0, left = (uint64_t)(p * ncalls); left; turns++) {
        int r = (int)(draw() % (uint64_t)p);

        if (turns > 4000000)
            return false;
        if (begun[r] < ncalls && draw() % 3 == 0) {
            struct muster_comm *w = wires[r].engine.world;

            ok = ok && mu_coll_start(w, &calls[begun[r]][r], &req[begun[r]][r], &err) == 0;
            begun[r]++;
        }
        mu_coll_progress(&wires[r].engine);
        for (int i = 0; i < 2; i++)
            if (req[i][r] && req[i][r]->status != MU_PENDING) {
                ok = mu_coll_release(req[i][r], &err) == 0 && ok;
                req[i][r] = NULL;
                left--;
            }
        if (!ok)
            return false;
    }
    return true;
}

/* --- what is asked of it --- */

static uint32_t value(int r, size_t i)
{
    return (uint32_t)(((uint64_t)r * 2654435761u + i * 40503u + 12345u) * 2246822519u >> 7);
}

static uint32_t total(int p, size_t i)
{
    uint32_t t = 0;

    for (int r = 0; r < p; r++)
        t += value(r, i);
    return t;
}

static const uint8_t kinds[] = {MU_OP_KIND_ALLREDUCE, MU_OP_KIND_REDUCE,    MU_OP_KIND_REDUCE_SCATTER,
                                MU_OP_KIND_ALLGATHER, MU_OP_KIND_BROADCAST, MU_OP_KIND_BARRIER};

struct io {
    uint32_t *send[MOST], *recv[MOST];
    size_t nsend, nrecv;
};

static void prepare(struct io *io, struct mu_call *call, int p, uint8_t kind, size_t n, int root)
{
    const struct mu_kind *k = &mu_kinds[kind];

    io->nsend = k->send == MU_NO_BUFFER ? 0 : k->send == MU_ONE_BLOCK ? n : n * (size_t)p;
    io->nrecv = k->recv == MU_NO_BUFFER ? 0 : k->recv == MU_ONE_BLOCK ? n : n * (size_t)p;
    for (int r = 0; r < p; r++) {
        io->send[r] = malloc(io->nsend * 4 + 4);
        io->recv[r] = calloc(io->nrecv + 1, 4);
        for (size_t i = 0; i < io->nsend; i++)
            io->send[r][i] = value(r, i);
        for (size_t i = 0; i < io->nrecv && kind == MU_OP_KIND_BROADCAST && r == root; i++)
            io->recv[r][i] = value(r, i);
        call[r] = (struct mu_call){.kind = kind,
                                   .dtype = MUSTER_UINT32,
                                   .op = MUSTER_SUM,
                                   .root = root,
                                   .count = n,
                                   .send = io->send[r],
                                   .recv = kind == MU_OP_KIND_REDUCE && r != root ? NULL : io->recv[r]};
    }
}

static bool right(struct io *io, int p, uint8_t kind, size_t n, int root)
{
    bool ok = true;

    for (int r = 0; r < p; r++)
        for (size_t i = 0; i < io->nrecv; i++) {
            uint32_t got = io->recv[r][i];

            switch (kind) {
            case MU_OP_KIND_ALLREDUCE:
                ok &= got == total(p, i);
                break;
            case MU_OP_KIND_REDUCE:
                ok &= r != root || got == total(p, i);
                break;
            case MU_OP_KIND_REDUCE_SCATTER:
                ok &= got == total(p, (size_t)r * n + i);
                break;
            case MU_OP_KIND_ALLGATHER:
                ok &= got == value((int)(i / n), i % n);
                break;
            default:
                ok &= got == value(root, i);
            }
        }
    for (int r = 0; r < p; r++) {
        free(io->send[r]);
        free(io->recv[r]);
    }
    return ok;
}

static bool all_kinds(int p, const int *node, size_t most)
{
    static struct mu_call calls[2][MOST];
    static struct io io[2];
    const size_t sizes[] = {0, 1, 7, 3000, most};
    bool ok = up(p, node);

    for (size_t k = 0; k < sizeof kinds; k++)
        for (size_t s = 0; s < sizeof sizes / sizeof sizes[0] && ok; s++) {
            int root = (int)(draw() % (uint64_t)p);
            uint8_t other = kinds[draw() % sizeof kinds];

            prepare(&io[0], calls[0], p, kinds[k], sizes[s], root);
            prepare(&io[1], calls[1], p, other, 100, root);
            ok = run(p, (const struct mu_call(*)[MOST])calls, 2) && ok;
            ok = right(&io[0], p, kinds[k], sizes[s], root) && right(&io[1], p, other, 100, root) && ok;
        }
    return down(p) && ok;
}

static void layouts(void)
{
    int node[MOST];

    for (int p = 1; p <= 9; p++) {
        bool ok = true;

        for (int way = 0; way < 12; way++) {
            int nodes = 1 + way % p;

            for (int r = 0; r < p; r++)
                node[r] = way == 0       ? 0
                          : way % 3 == 0 ? r * nodes / p
                          : way % 3 == 1 ? r % nodes
                                         : (int)(draw() % (uint64_t)p);
            if (!all_kinds(p, node, 20000))
                ok = false;
        }
        TAP_OK(ok, "%d ranks on nodes of all kinds: right, and every frame has been taken", p);
    }
    for (int p = 16; p <= 33; p += 17) {
        for (int r = 0; r < p; r++)
            node[r] = r / 4;
        TAP_OK(all_kinds(p, node, 20000), "%d ranks, four a node", p);
        for (int r = 0; r < p; r++)
            node[r] = r % 3 ? 0 : r;
        TAP_OK(all_kinds(p, node, 5000), "%d ranks, most on one node", p);
    }
}

static void chunked(void)
{
    static const int even[] = {0, 0, 1, 1, 2, 2}, uneven[] = {0, 1, 1, 1, 1};

    TAP_OK(all_kinds(6, even, 900001), "many chunks on lanes");
    TAP_OK(all_kinds(5, uneven, 600001), "many chunks between leaders");
}

/* What an all-reduce, a reduce-scatter and an all-gather send between nodes. */
static void traffic(void)
{
    static const int node[] = {0, 0, 0, 0, 1, 1, 1, 1};
    static struct mu_call calls[1][MOST];
    static struct io io;
    const size_t n = 400000;
    const uint8_t what[] = {MU_OP_KIND_ALLREDUCE, MU_OP_KIND_REDUCE_SCATTER, MU_OP_KIND_ALLGATHER};
    const size_t bytes[] = {n * 4 * 2, n / 8 * 4 * 8, n / 8 * 4 * 8};

    for (int i = 0; i < 3; i++) {
        bool ok = up(8, node);
        size_t count = i ? n / 8 : n;

        prepare(&io, calls[0], 8, what[i], count, 0);
        between = 0;
        ok = run(8, (const struct mu_call(*)[MOST])calls, 1) && right(&io, 8, what[i], count, 0) && down(8) && ok;
        TAP_OK(ok && between <= bytes[i] + 4096, "muster_%s: each byte crosses once, %llu <= %zu",
               mu_kinds[what[i]].name, (unsigned long long)between, bytes[i]);
    }
}

/* The order: inside the nodes first. */
static void order(void)
{
    static const int node[] = {0, 0, 1, 1};
    static struct mu_call calls[1][MOST];
    const float in[] = {1e8f, 1, -1e8f, 3};
    static float out[MOST][50000], send[MOST][50000];
    volatile float a = in[0] + in[1], b = in[2] + in[3];
    const size_t sizes[] = {1, 3000, 50000};
    bool ok = true;

    for (int s = 0; s < 3; s++) {
        ok = up(4, node) && ok;
        for (int r = 0; r < 4; r++) {
            for (size_t i = 0; i < sizes[s]; i++)
                send[r][i] = in[r];
            calls[0][r] = (struct mu_call){.kind = MU_OP_KIND_ALLREDUCE,
                                           .dtype = MUSTER_FLOAT32,
                                           .op = MUSTER_SUM,
                                           .count = sizes[s],
                                           .send = send[r],
                                           .recv = out[r]};
        }
        ok = run(4, (const struct mu_call(*)[MOST])calls, 1) && ok;
        for (int r = 0; r < 4; r++)
            for (size_t i = 0; i < sizes[s]; i++)
                ok = ok && out[r][i] == a + b;
        ok = down(4) && ok;
    }
    TAP_OK(ok, "node by node, at every size");
}

int main(void)
{
    layouts();
    chunked();
    traffic();
    order();
    printf("# %llu frames\n", (unsigned long long)sent);
    return tap_done();
}
