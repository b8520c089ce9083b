/* make bench-drains: what drains spend on copies on peers and on making them again, without ranks and hosts: a drain
 * for each node in a process of its own, which talk over loopback. CPU time says more than the clock where others use
 * the machine, too: drain_cost NODES PARITIES MIB ROUNDS LOST encrypted|authenticated */
#include "bench/stats.h"
#include "runtime/base/clock.h"
#include "runtime/keeper/peers.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MOST 16
#define MANIFEST 64u
#define EXTENT (1u << 20)
#define LIMIT (60 * MU_SEC)
#define GIB (1024. * 1024 * 1024)

static const struct mu_key key = {.bytes = "0123456789abcdef0123456789abcde"};
static uint32_t nodes, k, lost, readable;
static uint64_t segment, extents, part, chunk, turn;
static struct node {
    struct mu_arena_head *head;
    pid_t drain;
} node[MOST];

static void give_up(const char *why)
{
    fprintf(stderr, "drain_cost: %s\n", why);
    exit(1);
}

static void node_up(uint32_t i)
{
    struct mu_arena_head *h =
        mmap(NULL, MU_ARENA_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (h == MAP_FAILED)
        give_up("no memory");
    h->magic = MU_ARENA_MAGIC;
    h->version = MU_ARENA_VERSION;
    h->cell_bytes = sizeof h->cells[0];
    h->keeper = (uint32_t)getpid();
    h->nranks = 1;
    for (uint32_t c = 0; c < MU_ARENA_SLOTS; c++) {
        h->cells[c].fd = memfd_create("cell", MFD_CLOEXEC);
        h->parity[c].fd = memfd_create("parity", MFD_CLOEXEC);
    }
    node[i].head = h;
    if (!(node[i].drain = fork())) {
        struct mu_peers *p;

        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (mu_peers_start(h, &key, "127.0.0.1", &p, NULL))
            _exit(1);
        for (;;)
            pause();
    }
    for (uint64_t until = mu_now() + LIMIT; !*(volatile uint32_t *)&h->listen.port; usleep(1000))
        if (mu_now() > until)
            give_up("a drain does not listen");
}

static void node_down(uint32_t i)
{
    struct mu_arena_head *h = node[i].head;

    kill(node[i].drain, SIGKILL);
    waitpid(node[i].drain, NULL, 0);
    for (uint32_t c = 0; c < MU_ARENA_SLOTS; c++) {
        close(h->cells[c].fd);
        close(h->parity[c].fd);
    }
    munmap(h, MU_ARENA_BYTES);
}

static void attempt(void)
{
    turn++;
    for (uint32_t i = 0; i < nodes; i++) {
        struct mu_arena_group *g = &node[i].head->group;

        g->n = nodes;
        g->k = k;
        g->me = i;
        g->open = readable;
        g->nonce = turn;
        for (uint32_t m = 0; m < nodes; m++)
            g->member[m] = node[m].head->listen;
        atomic_fetch_add(&g->set, 1);
    }
}

static double spent(void)
{
    double all = 0;

    for (uint32_t i = 0; i < nodes; i++) {
        struct timespec t;
        clockid_t clock;

        if (clock_getcpuclockid(node[i].drain, &clock) || clock_gettime(clock, &t))
            give_up("a drain has died");
        all += (double)t.tv_sec + (double)t.tv_nsec / 1e9;
    }
    return all;
}

static uint64_t word(uint64_t step, uint32_t i, uint64_t at)
{
    return (at + step * 7919 + i * 104729) * 0x9e3779b97f4a7c15u;
}

static void describe(struct mu_arena_cell *c, uint32_t i, uint64_t step)
{
    c->rank = i;
    c->id = (struct mu_ckpt_id){.generation = step, .epoch = 1, .nonce = 1, .step = step, .world = nodes, .attempt = 1};
    c->segment = segment;
    c->manifest = MANIFEST;
    c->extents = extents;
    c->generation = step;
}

static unsigned char *map(uint32_t i, struct mu_arena_cell *c)
{
    unsigned char *at;

    if (mu_arena_map(node[i].head, c, part, true, &at, NULL))
        give_up("cannot map a cell");
    return at;
}

static void wait_for(_Atomic uint32_t *what, uint32_t while_it_is)
{
    for (uint64_t until = mu_now() + LIMIT; atomic_load(what) == while_it_is; usleep(500))
        if (mu_now() > until)
            give_up("it takes too long");
}

/* CPU-s; *took: s. */
static double save(uint64_t step, double *took)
{
    double was;
    uint64_t t;

    for (uint32_t i = 0; i < nodes; i++) {
        struct mu_arena_cell *c = &node[i].head->cells[step % MU_ARENA_SLOTS];
        unsigned char *at = map(i, c);

        for (uint64_t b = 0; b < part / 8 * 8; b += 8) {
            uint64_t v = word(step, i, b);
            memcpy(at + b, &v, 8);
        }
        munmap(at, part);
        describe(c, i, step);
        c->place.nonce = turn;
        c->chunk = chunk;
        c->node = 1;
        atomic_store(&c->summed, 1);
        atomic_store(&c->state, MU_ARENA_FULL);
    }
    was = spent();
    t = mu_now();
    for (uint32_t i = 0; i < nodes; i++)
        atomic_store(&node[i].head->cells[step % MU_ARENA_SLOTS].peers, MU_PEERS_WANTED);
    for (uint32_t i = 0; i < nodes; i++) {
        struct mu_arena_cell *c = &node[i].head->cells[step % MU_ARENA_SLOTS];

        wait_for(&c->peers, MU_PEERS_WANTED);
        if (atomic_load(&c->peers) != MU_PEERS_DONE)
            give_up(c->peers_error.text);
    }
    *took = (double)(mu_now() - t) / 1e9;
    return spent() - was;
}

/* The first `lost` nodes are others, without anything. */
static double make_again(uint64_t step, double *took)
{
    double was;
    uint64_t t;

    for (uint32_t i = 0; i < lost; i++) {
        node_down(i);
        node_up(i);
    }
    attempt();
    usleep(100000);
    for (uint32_t i = 0; i < lost; i++) {
        struct mu_arena_rebuild *o = &node[i].head->rebuild;
        struct mu_arena_cell *c = &node[i].head->cells[0];

        describe(c, i, step);
        munmap(map(i, c), part);
        atomic_store(&c->state, MU_ARENA_FILLING);
        o->id = c->id;
        o->n = nodes;
        o->k = k;
        o->lost = i;
        o->nparts = 1;
        o->chunk = chunk;
        o->cell[0] = 0;
        for (uint32_t m = 0; m < nodes; m++) {
            if (m >= lost)
                o->member[m] = node[m].head->listen;
            else if (m != i)
                o->maker[m] = node[m].head->listen;
        }
    }
    was = spent();
    t = mu_now();
    for (uint32_t i = 0; i < lost; i++)
        atomic_store(&node[i].head->rebuild.state, MU_DRAIN_WANTED);
    for (uint32_t i = 0; i < lost; i++) {
        struct mu_arena_rebuild *o = &node[i].head->rebuild;

        wait_for(&o->state, MU_DRAIN_WANTED);
        wait_for(&o->state, MU_DRAIN_BUSY);
        if (atomic_load(&o->state) != MU_DRAIN_DONE)
            give_up(o->error.text);
    }
    *took = (double)(mu_now() - t) / 1e9;
    was = spent() - was;
    for (uint32_t i = 0; i < lost; i++) {
        unsigned char *at = map(i, &node[i].head->cells[0]);

        for (uint64_t b = 0; b < part / 8 * 8; b += 8) {
            uint64_t v = word(step, i, b);
            if (memcmp(at + b, &v, 8) != 0)
                give_up("WRONG: something else came back");
        }
        munmap(at, part);
    }
    return was;
}

static void show(const char *what, double *v, size_t n, const char *unit)
{
    struct mu_stats st;

    mu_stats_of(v, n, &st);
    printf("%-34s %8.3f %-14s (%.3f to %.3f)\n", what, st.p50, unit, st.min, st.max);
}

int main(int argc, char **argv)
{
    double cpu[MOST], took[MOST], again[MOST], later[MOST], state;
    uint64_t step = 0;
    int rounds;

    if (argc < 7) {
        fprintf(stderr, "usage: drain_cost NODES PARITIES MIB ROUNDS LOST encrypted|authenticated\n");
        return 2;
    }
    nodes = (uint32_t)atoi(argv[1]);
    k = (uint32_t)atoi(argv[2]);
    segment = strtoull(argv[3], NULL, 10) << 20;
    rounds = atoi(argv[4]);
    lost = (uint32_t)atoi(argv[5]);
    readable = !strcmp(argv[6], "authenticated");
    if (nodes < 2 || nodes > MOST || !k || k >= nodes || !segment || rounds < 1 || rounds > MOST || lost > k)
        give_up("2 to 16 nodes, fewer parities, not more lost than those, 1 to 16 rounds");
    extents = segment / EXTENT;
    part = mu_arena_bytes(segment, MANIFEST, extents);
    chunk = mu_arena_part_bytes(segment, MANIFEST, extents) / (nodes - k);
    chunk = (chunk + MU_CKPT_PAGE) / MU_CKPT_PAGE * MU_CKPT_PAGE;
    state = (double)segment * nodes / GIB;
    signal(SIGPIPE, SIG_IGN);
    for (uint32_t i = 0; i < nodes; i++)
        node_up(i);
    attempt();
    for (int i = 0; i < 2; i++) /* both cells, and their parities */
        save(++step, took);
    for (int i = 0; i < rounds; i++)
        cpu[i] = save(++step, &took[i]) / state;
    show("save", cpu, (size_t)rounds, "CPU-s per GiB");
    show("save, on the clock", took, (size_t)rounds, "s");
    for (int i = 0; lost && i < rounds; i++) {
        again[i] = make_again(step, &later[i]);
        save(++step, &took[i]);
    }
    if (lost) {
        show("made again", again, (size_t)rounds, "CPU-s");
        show("made again, on the clock", later, (size_t)rounds, "s");
    }
    for (uint32_t i = 0; i < nodes; i++)
        node_down(i);
    return 0;
}
