/* Saves that nodes protect for one another: eight drains in one process, over TLS on loopback. What is lost comes back
 * from any that are left, damage is not passed on, and what cannot be is refused. */
#include "runtime/keeper/peers.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>

#include "runtime/ckpt/daemon/drain.h"
#include "tests/unit/ckpt_help.h"

#define NODES 8
#define ELEMENTS 700000 /* several pieces a chunk, and an odd end */
static const struct mu_key key = {.bytes = "0123456789abcdef0123456789abcde"};
static struct mu_arena_head *head[NODES];
static struct mu_peers *peers[NODES];
static uint32_t own[NODES][ELEMENTS], shared[NODES][5000];
static int nodes;
static struct mu_err err;

static void node_up(int i)
{
    int fd = memfd_create("arena", MFD_CLOEXEC);

    if (fd < 0 || ftruncate(fd, (off_t)MU_ARENA_BYTES))
        abort();
    head[i] = mmap(NULL, MU_ARENA_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (head[i] == MAP_FAILED)
        abort();
    head[i]->magic = MU_ARENA_MAGIC;
    head[i]->version = MU_ARENA_VERSION;
    head[i]->cell_bytes = sizeof head[i]->cells[0];
    head[i]->keeper = (uint32_t)getpid();
    head[i]->nranks = 1;
    for (int k = 0; k < 2; k++) {
        head[i]->cells[k].fd = memfd_create("cell", MFD_CLOEXEC);
        head[i]->parity[k].fd = memfd_create("parity", MFD_CLOEXEC);
    }
    if (mu_peers_start(head[i], &key, "127.0.0.1", &peers[i], &err)) {
        printf("Bail out! %s\n", err.text);
        exit(1);
    }
}

static void node_down(int i)
{
    mu_peers_stop(peers[i]);
    peers[i] = NULL;
    for (int k = 0; k < 2; k++) {
        close(head[i]->cells[k].fd);
        close(head[i]->parity[k].fd);
    }
    munmap(head[i], MU_ARENA_BYTES);
}

/* As the ranks of node i do it when they have met. */
static void meet_at(int i, uint32_t k, uint64_t nonce)
{
    struct mu_arena_group *g = &head[i]->group;

    g->n = (uint32_t)nodes;
    g->k = k;
    g->me = (uint32_t)i;
    g->nonce = nonce;
    for (int m = 0; m < nodes; m++)
        g->member[m] = head[m]->listen;
    atomic_fetch_add(&g->set, 1);
}

static void meet(uint32_t k, uint64_t nonce)
{
    for (int i = 0; i < nodes; i++)
        meet_at(i, k, nonce);
}

static void set_state(uint64_t step)
{
    for (int r = 0; r < nodes; r++) {
        for (uint32_t i = 0; i < ELEMENTS; i++)
            own[r][i] = (uint32_t)(step * 2654435761u + (uint32_t)r * ELEMENTS + i);
        for (uint32_t i = 0; i < 5000; i++)
            shared[r][i] = (uint32_t)(step * 40503u ^ i);
    }
}

static void open_world(struct world *w, const char *dir, uint64_t timeout)
{
    const uint64_t m = 5000;

    if (world_open(w, dir, nodes, 2, timeout, &mu_ckpt_io_posix, &err)) {
        printf("Bail out! %s\n", err.text);
        exit(1);
    }
    for (int r = 0; r < nodes; r++) {
        /* of different sizes: rank r has r % 3 less */
        uint64_t n = ELEMENTS - (uint64_t)(r % 3) * 50000, all = (uint64_t)nodes * ELEMENTS,
                 off = (uint64_t)r * ELEMENTS;

        mu_ckpt_writer_stop(w->writer[r], MU_SEC, NULL);
        mu_ckpt_writer_start(&w->place[r], NULL, head[r], 0, &w->writer[r], NULL);
        add(&w->tensors[r], "own", MUSTER_UINT32, 1, &all, &off, &n, own[r], 0, NULL);
        add(&w->tensors[r], "shared", MUSTER_UINT32, 1, &m, NULL, NULL, shared[r], MUSTER_REPLICATED, NULL);
        mu_ckpt_writer_layout(w->writer[r], &w->tensors[r], NULL);
    }
}

static uint64_t chunk_of(struct world *w, uint32_t k)
{
    uint64_t most = 0, rows = (uint64_t)nodes - k;

    for (int r = 0; r < nodes; r++)
        if (mu_ckpt_writer_block(w->writer[r]) > most)
            most = mu_ckpt_writer_block(w->writer[r]);
    return ((most + rows - 1) / rows + MU_CKPT_PAGE - 1) / MU_CKPT_PAGE * MU_CKPT_PAGE;
}

static void *drain_one(void *arg)
{
    struct mu_arena_head *h = arg;

    for (int i = 0; i < 2; i++)
        if (h->cells[i].drain == MU_DRAIN_WANTED)
            mu_drain_cell(h, &h->cells[i], &mu_ckpt_io_posix);
    return NULL;
}

static struct mu_arena_cell *cell_of(int node, uint64_t step)
{
    for (int i = 0; i < 2; i++)
        if (head[node]->cells[i].state == MU_ARENA_FULL && head[node]->cells[i].id.step == step)
            return &head[node]->cells[i];
    return NULL;
}

/* A save that is drained by all but `but` (-1: by all). The first bad result. */
static int save(struct world *w, uint32_t k, uint64_t step, int but, uint64_t timeout)
{
    pthread_t t[NODES];
    int rc = 0;

    set_state(step);
    for (int r = 0; r < nodes; r++) {
        mu_ckpt_writer_idle(w->writer[r], 10 * MU_SEC);
        mu_ckpt_writer_peers(w->writer[r], chunk_of(w, k), 1);
        if (mu_ckpt_writer_save(w->writer[r], w->next, step, &err))
            return err.code;
    }
    w->next++;
    for (int r = 0; r < nodes; r++)
        if (r != but)
            pthread_create(&t[r], NULL, drain_one, head[r]);
    for (int r = 0; r < nodes; r++)
        if (r != but)
            pthread_join(t[r], NULL);
    for (int r = 0; r < nodes && !rc; r++)
        rc = mu_ckpt_writer_protected(w->writer[r], timeout, &err);
    return rc;
}

/* Orders from the drain of node `at` the part of member `lost` of that save; gone: nodes that are not there, with:
 * those that are made again at the same time. */
static void order(int at, int lost, const struct mu_arena_cell *like, uint32_t k, uint64_t chunk, unsigned gone,
                  unsigned with)
{
    struct mu_arena_rebuild *o = &head[at]->rebuild;
    struct mu_arena_cell *c = &head[at]->cells[0];
    int fd = c->fd;

    c->state = MU_ARENA_FILLING;
    c->summed = 0;
    c->rank = like->rank;
    c->id = like->id;
    c->segment = like->segment;
    c->manifest = like->manifest;
    c->extents = like->extents;
    c->fd = fd;
    memset(o, 0, sizeof *o);
    o->id = like->id;
    o->n = (uint32_t)nodes;
    o->k = k;
    o->lost = (uint32_t)lost;
    o->chunk = chunk;
    o->nparts = 1;
    for (int i = 0; i < nodes; i++) {
        if (!(gone & 1u << i))
            o->member[i] = head[i]->listen;
        else if (with & 1u << i && i != lost)
            o->maker[i] = head[i]->listen;
    }
    o->state = MU_DRAIN_WANTED;
}

static int done(int at)
{
    struct mu_arena_rebuild *o = &head[at]->rebuild;

    for (uint64_t until = mu_now() + 15 * MU_SEC;
         (o->state == MU_DRAIN_WANTED || o->state == MU_DRAIN_BUSY) && mu_now() < until;)
        usleep(500);
    return o->state == MU_DRAIN_DONE ? 0 : o->state == MU_DRAIN_FAILED ? o->error.code : MUSTER_ETIMEOUT;
}

static int rebuild(int at, int lost, const struct mu_arena_cell *like, uint32_t k, uint64_t chunk, unsigned gone)
{
    order(at, lost, like, k, chunk, gone, 0);
    return done(at);
}

static bool same(int node, const struct mu_arena_cell *c, const unsigned char *want, uint64_t n)
{
    unsigned char *map;
    bool is;

    if (!c || mu_arena_map(head[node], c, n, false, &map, &err))
        return false;
    is = !memcmp(map, want, n);
    munmap(map, n);
    return is && !mu_arena_check(head[node], c, &err);
}

static void lose_and_find(uint32_t k)
{
    char *dir = scratch();
    struct world w;
    static struct mu_arena_cell was[NODES];
    unsigned char *copy[NODES];
    uint64_t chunk, bytes[NODES], step = 2;
    double moved = 0;
    int wrong = 0, rc;

    open_world(&w, dir, 20 * MU_SEC);
    meet(k, w.place[0].nonce);
    chunk = chunk_of(&w, k);
    rc = save(&w, k, 1, -1, 15 * MU_SEC);
    TAP_OK(rc == 0, "%d nodes, %u parities: protected%s%s", nodes, k, rc ? ": " : "", rc ? err.text : "");
    uint64_t shipped = 0, all = 0;
    for (int i = 0; i < nodes; i++) {
        shipped += head[i]->shipped;
        all += mu_ckpt_writer_block(w.writer[i]);
    }
    double factor = 1 + ((double)k - 1) / ((double)nodes - k);
    TAP_OK(shipped < (uint64_t)(1.06 * factor * (double)all), "which takes %.2f bytes on the wire for each byte",
           (double)shipped / (double)all);
    rc = save(&w, k, 2, -1, 15 * MU_SEC);
    for (int i = 0; i < nodes; i++) {
        unsigned char *map;

        was[i] = *cell_of(i, step);
        bytes[i] = mu_arena_bytes(was[i].segment, was[i].manifest, was[i].extents);
        copy[i] = malloc(bytes[i]);
        mu_arena_map(head[i], &was[i], bytes[i], false, &map, &err);
        memcpy(copy[i], map, bytes[i]);
        munmap(map, bytes[i]);
    }
    TAP_OK(rc == 0 && head[0]->parity[0].state == MU_ARENA_FULL && head[0]->parity[1].state == MU_ARENA_FULL,
           "and the next one, beside it");
    world_close(&w);

    /* k neighbours are lost, and come back one after the other */
    for (int first = 0; first < nodes; first += 3) {
        unsigned gone = 0;

        for (uint32_t i = 0; i < k; i++) {
            int x = (first + (int)i) % nodes;

            node_down(x);
            node_up(x);
            gone |= 1u << x;
        }
        for (int i = 0; i < nodes; i++)
            head[i]->given = 0;
        for (uint32_t i = 0; i < k; i++) {
            int x = (first + (int)i) % nodes;

            /* the first time side by side, then one of them comes late, then each by itself */
            order(x, x, &was[x], k, chunk, gone, first < 6 ? gone : 0);
            if (first == 3)
                usleep(700000);
            else if (first > 3)
                done(x);
        }
        for (uint32_t i = 0; i < k; i++) {
            int x = (first + (int)i) % nodes;

            rc = done(x);
            wrong += rc != 0;
            if (rc)
                printf("# node %d: %s\n", x, head[x]->rebuild.error.text);
            else if (!same(x, cell_of(x, step), copy[x], bytes[x])) {
                wrong++;
                printf("# node %d has another save of step %llu\n", x, (unsigned long long)step);
            }
        }
        uint64_t given = 0;
        for (int i = 0; i < nodes; i++)
            given += head[i]->given;
        printf("# %.1f chunks are moved\n", (double)given / (double)chunk);
        if (first == 0)
            moved = (double)given / (double)chunk;
        /* what they lack is their parity: a save gives them that again */
        open_world(&w, dir, 20 * MU_SEC);
        meet(k, w.place[0].nonce);
        rc = save(&w, k, ++step, -1, 15 * MU_SEC);
        wrong += rc != 0;
        if (rc)
            printf("# step %llu: %s\n", (unsigned long long)step, err.text);
        for (int i = 0; i < nodes; i++) {
            unsigned char *map;

            was[i] = *cell_of(i, step);
            mu_arena_map(head[i], &was[i], bytes[i], false, &map, &err);
            memcpy(copy[i], map, bytes[i]);
            munmap(map, bytes[i]);
        }
        world_close(&w);
    }
    TAP_OK(wrong == 0, "any %u of them are lost and come back, bit by bit", k);
    /* each stripe in which they had data is read once, and what another one had of it passed on */
    TAP_OK(k != 2 || nodes != 8 || moved <= 47, "side by side, for which %.1f chunks are moved", moved);

    /* one more is too many */
    if ((int)k + 1 < nodes) {
        unsigned gone = 0;

        for (uint32_t i = 0; i < k + 1; i++) {
            node_down((int)i);
            node_up((int)i);
            gone |= 1u << i;
        }
        rc = rebuild(0, 0, &was[0], k, chunk, gone);
        TAP_OK(rc == MUSTER_ECORRUPT && strstr(head[0]->rebuild.error.text, "more is lost"), "%u are too many: %s",
               k + 1, head[0]->rebuild.error.text);
    }
    for (int i = 0; i < nodes; i++)
        free(copy[i]);
    scratch_remove(dir);
}

static void damage(void)
{
    char *dir = scratch();
    struct mu_arena_cell was;
    unsigned char *map, *copy;
    struct world w;
    uint64_t chunk, bytes;
    int rc;

    open_world(&w, dir, 2 * MU_SEC);
    meet(2, w.place[0].nonce);
    chunk = chunk_of(&w, 2);
    rc = save(&w, 2, 1, -1, 15 * MU_SEC);
    was = *cell_of(3, 1);
    bytes = mu_arena_bytes(was.segment, was.manifest, was.extents);
    copy = malloc(bytes);
    mu_arena_map(head[3], &was, bytes, true, &map, &err);
    memcpy(copy, map, bytes);
    map[bytes / 2] ^= 2;
    munmap(map, bytes);
    TAP_OK(!rc && mu_arena_check(head[3], &was, &err) == MUSTER_ECORRUPT, "a bit flips in one node's part: %s",
           err.text);
    /* and in another's, in its padding too, and in a parity */
    mu_arena_map(head[5], cell_of(5, 1), bytes - 4000000 / 8, true, &map, &err);
    map[20000] ^= 8;
    munmap(map, bytes - 4000000 / 8);
    rc = rebuild(3, 3, &was, 2, chunk, 0);
    TAP_OK(rc == 0 && same(3, cell_of(3, 1), copy, bytes),
           "it is made again of what is whole, although another has a damage: %s",
           rc ? head[3]->rebuild.error.text : "fine");
    for (int i = 0; i < 2; i++)
        if (head[6]->parity[i].state == MU_ARENA_FULL && head[6]->parity[i].id.step == 1) {
            mu_arena_map_fd(head[6], head[6]->parity[i].fd, 2 * chunk, true, &map, &err);
            for (uint64_t at = 5; at < 2 * chunk; at += 100000)
                map[at] ^= 16;
            munmap(map, 2 * chunk);
        }
    rc = rebuild(3, 3, &was, 2, chunk, 0);
    bool right = rc == 0 && same(3, cell_of(3, 1), copy, bytes);
    TAP_OK(right || rc == MUSTER_ECORRUPT, "with a damaged parity as well: right, or refused: %s",
           rc ? head[3]->rebuild.error.text : "right");
    free(copy);

    /* a node whose ranks never get there: nobody waits for ever, and who holds something keeps it */
    rc = save(&w, 2, 2, 4, 300 * MU_MS);
    TAP_OK(rc == 1, "without one of them it is not protected: %d %s", rc, rc < 0 ? err.text : "");
    node_down(4);
    for (uint64_t until = mu_now() + 10 * MU_SEC; rc == 1 && mu_now() < until;)
        rc = mu_ckpt_writer_protected(w.writer[0], 100 * MU_MS, &err);
    TAP_OK(rc == MUSTER_EPEER, "when that one is gone the others know: %s", err.text);
    TAP_OK(head[0]->parity[0].state == MU_ARENA_FULL || head[0]->parity[1].state == MU_ARENA_FULL,
           "and still have what protects the save before");
    node_up(4);
    world_leave(&w); /* the writer of node 4 has lost its memory */
    scratch_remove(dir);
}

static struct mu_ckpt_place *late_place;

static void *meet_late(void *arg)
{
    (void)arg;
    usleep(300000);
    meet_at(nodes - 1, 1, late_place->nonce);
    return NULL;
}

/* The ranks of one node say a moment after the others that they have met: what the others have for it waits. */
static void late(void)
{
    char *dir = scratch();
    struct world w;
    pthread_t t;
    int rc;

    open_world(&w, dir, 20 * MU_SEC);
    late_place = &w.place[0];
    for (int i = 0; i < nodes - 1; i++)
        meet_at(i, 1, late_place->nonce);
    pthread_create(&t, NULL, meet_late, NULL);
    rc = save(&w, 1, 1, -1, 5 * MU_SEC);
    pthread_join(t, NULL);
    TAP_OK(rc == 0, "one node's ranks have met 0.3 s later than the others': protected%s%s", rc ? ": " : "",
           rc < 0 ? err.text : "");
    world_close(&w);
    scratch_remove(dir);
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN);
    nodes = 3;
    for (int i = 0; i < NODES; i++)
        node_up(i);
    late();
    for (int i = 0; i < NODES; i++)
        head[i]->shipped = 0;
    lose_and_find(1);
    for (int i = 0; i < NODES; i++)
        head[i]->shipped = 0;
    nodes = 2;
    lose_and_find(1);
    for (int i = 0; i < NODES; i++)
        head[i]->shipped = 0;
    nodes = 8;
    lose_and_find(2);
    damage();
    for (int i = 0; i < NODES; i++)
        node_down(i);
    return tap_done();
}
