/* What ranks on several nodes restore from their nodes' memory: their own parts, and what they share, which crosses. */
#include "runtime/rank/ram.h"
#include "tests/unit/ckpt_help.h"
#include "tests/unit/coll_threads.h"

#include <fcntl.h>
#include <sys/mman.h>

#define MOST 6
#define OWN 300000
#define SHARED 60000

static struct mu_arena_head *head[MOST];
static uint32_t own[MOST][OWN], shared[MOST][SHARED];
static struct world w;
static const char *dir;
static int nodes, moved, mapped, rcs[MOST];
static bool right[MOST];
static struct mu_err errs[MOST];

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
        head[i]->parity[k].fd = -1;
    }
}

static void node_down(int i)
{
    for (int k = 0; k < 2; k++)
        close(head[i]->cells[k].fd);
    munmap(head[i], MU_ARENA_BYTES);
}

static uint32_t value(int r, uint32_t i)
{
    return (uint32_t)r * 104729u + i * 977u + 1;
}

/* Not drained: there are no sums that could show what is missing. */
static void save(void)
{
    const uint64_t n = OWN, m = SHARED, all = (uint64_t)nodes * OWN;

    if (world_open(&w, dir, nodes, 2, MU_SEC, &mu_ckpt_io_posix, &errs[0]))
        abort();
    for (int r = 0; r < nodes; r++) {
        uint64_t off = (uint64_t)r * OWN;

        for (uint32_t i = 0; i < OWN; i++)
            own[r][i] = value(r, i);
        for (uint32_t i = 0; i < SHARED; i++)
            shared[r][i] = value(77, i);
        mu_ckpt_writer_stop(w.writer[r], MU_SEC, NULL);
        mu_ckpt_writer_start(&w.place[r], NULL, head[r], 0, &w.writer[r], NULL);
        add(&w.tensors[r], "own", MUSTER_UINT32, 1, &all, &off, &n, own[r], 0, NULL);
        add(&w.tensors[r], "shared", MUSTER_UINT32, 1, &m, NULL, NULL, shared[r], MUSTER_REPLICATED, NULL);
        mu_ckpt_writer_layout(w.writer[r], &w.tensors[r], NULL);
        mu_ckpt_writer_idle(w.writer[r], MU_SEC);
        if (mu_ckpt_writer_save(w.writer[r], w.next, 1, &errs[r]))
            abort();
    }
    memset(own, 0xee, sizeof own);
    memset(shared, 0xee, sizeof shared);
}

static void *restore(void *arg)
{
    muster_comm comm = {.rank = (int)(intptr_t)arg};
    int r = comm.rank;
    struct mu_rank_ram ram = {
        .comm = &comm, .dir = dir, .head = head[(r + moved) % nodes], .writer = mapped ? w.writer[r] : NULL};
    struct mu_ckpt_held held = {0};

    rcs[r] = mu_rank_ram_load(&ram, &head[0]->cells[0].id, &w.tensors[r], &held, &errs[r]);
    if (!rcs[r])
        rcs[r] = mu_ckpt_held_apply(&held, &w.tensors[r], &errs[r]);
    mu_ckpt_held_free(&held);
    right[r] = !rcs[r];
    for (uint32_t i = 0; i < OWN; i++)
        right[r] &= own[r][i] == value(r, i);
    for (uint32_t i = 0; i < SHARED; i++)
        right[r] &= shared[r][i] == value(77, i);
    return NULL;
}

/* How many ranks got back what they had saved. */
static int restored(void)
{
    pthread_t t[MOST];
    int n = 0;

    coll_calls = 0;
    coll_begin(nodes);
    for (int r = 0; r < nodes; r++)
        pthread_create(&t[r], NULL, restore, (void *)(intptr_t)r);
    for (int r = 0; r < nodes; r++)
        pthread_join(t[r], NULL);
    for (int r = 0; r < nodes; r++)
        n += right[r];
    return n;
}

int main(void)
{
    int calls[2], n = 0;

    dir = scratch();
    for (int i = 0; i < 2; i++) {
        nodes = i ? MOST : 2;
        for (int k = 0; k < nodes; k++)
            node_up(k);
        save();
        n = restored();
        TAP_OK(n == nodes, "%d nodes: %d ranks have their state again%s%s", nodes, n, rcs[0] ? ": " : "",
               rcs[0] ? errs[0].text : "");
        calls[i] = coll_calls - nodes; /* each has a share of what is replicated for the others */
        if (!i) {
            world_leave(&w);
            for (int k = 0; k < nodes; k++)
                node_down(k);
        }
    }
    TAP_OK(calls[0] == calls[1], "for which they meet as often, however many they are: %d, %d times", calls[0],
           calls[1]);

    mapped = 1;
    memset(own, 0xee, sizeof own);
    n = restored();
    TAP_OK(n == nodes && mu_ckpt_writer_map(w.writer[0], &head[0]->cells[0], 4 * OWN) &&
               !mu_ckpt_writer_map(w.writer[0], &head[0]->cells[0], 1 << 30) &&
               !mu_ckpt_writer_map(w.writer[0], &head[1]->cells[0], 1),
           "from what their writers have mapped, too");

    moved = 1;
    memset(own, 0xee, sizeof own);
    n = restored();
    TAP_OK(n == 0 && rcs[0] == MUSTER_ECORRUPT && strstr(errs[0].text, "another node's memory"),
           "a part that is on another node than its rank: %s", errs[0].text);
    world_leave(&w);
    for (int k = 0; k < nodes; k++)
        node_down(k);
    scratch_remove(dir);
    return tap_done();
}
