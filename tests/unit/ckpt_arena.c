/* Saves by way of the arena and the drain: what reaches the directory, and what a drain that comes too late, again, or
 * to something damaged does. */
#include "runtime/ckpt/daemon/drain.h"
#include "runtime/ckpt/put.h"
#include "tests/unit/ckpt_state.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>

static struct mu_arena_head *head;

static void make_arena(void)
{
    int fd = memfd_create("arena", MFD_CLOEXEC);

    if (fd < 0 || ftruncate(fd, (off_t)MU_ARENA_BYTES))
        abort();
    head = mmap(NULL, MU_ARENA_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (head == MAP_FAILED)
        abort();
    head->magic = MU_ARENA_MAGIC;
    head->version = MU_ARENA_VERSION;
    head->cell_bytes = sizeof head->cells[0];
    head->keeper = (uint32_t)getpid();
    head->nranks = WORLD;
    for (int i = 0; i < WORLD * 2; i++)
        head->cells[i].fd = memfd_create("cell", MFD_CLOEXEC);
}

/* A world whose writers use the arena. */
static void open_world(struct world *w, const char *dir)
{
    struct mu_err err;

    if (world_open(w, dir, WORLD, 2, 2 * MU_SEC, &mu_ckpt_io_posix, &err)) {
        printf("Bail out! %s\n", err.text);
        exit(1);
    }
    add_state(w);
    for (int r = 0; r < WORLD; r++) {
        mu_ckpt_writer_stop(w->writer[r], MU_SEC, NULL);
        mu_ckpt_writer_start(&w->place[r], NULL, head, (uint32_t)r, &w->writer[r], NULL);
        mu_ckpt_writer_layout(w->writer[r], &w->tensors[r], NULL);
    }
}

static struct mu_arena_cell *ordered(int r)
{
    for (uint32_t i = 0; i < MU_ARENA_SLOTS; i++)
        if (mu_arena_cell(head, (uint32_t)r, i)->drain == MU_DRAIN_WANTED)
            return mu_arena_cell(head, (uint32_t)r, i);
    return NULL;
}

static void save(struct world *w, uint64_t step)
{
    set_state(step);
    for (int r = 0; r < WORLD; r++) {
        mu_ckpt_writer_idle(w->writer[r], MU_SEC);
        w->rc[r] = mu_ckpt_writer_save(w->writer[r], w->next, step, &w->err[r]);
    }
    w->next++;
    set_state(step + 1000); /* the copy is what counts */
}

static void *drain_one(void *cell)
{
    if (cell)
        mu_drain_cell(head, cell, &mu_ckpt_io_posix);
    return NULL;
}
static void drain(void)
{
    pthread_t t[WORLD];

    for (int r = 0; r < WORLD; r++)
        pthread_create(&t[r], NULL, drain_one, ordered(r));
    for (int r = 0; r < WORLD; r++)
        pthread_join(t[r], NULL);
}

static int64_t comes_back(const char *dir)
{
    struct world w;
    struct mu_err first = {0};
    int64_t step;

    open_world(&w, dir);
    memset(own, 0xee, sizeof own);
    memset(shared, 0xee, sizeof shared);
    step = world_restore(&w, &first);
    if (step >= 0 && !is_state((uint64_t)step))
        step = -1;
    world_close(&w);
    return step;
}

/* From the cells alone. */
static int64_t held(struct world *w, uint64_t step, struct mu_err *err)
{
    struct mu_ckpt_held h = {.parts = calloc(WORLD, sizeof *h.parts)};
    int rc = 0;

    for (int i = 0; i < WORLD * 2 && !rc; i++) {
        struct mu_arena_cell *c = &head->cells[i];
        struct mu_ckpt_held_part *p = &h.parts[c->rank];

        if (c->state != MU_ARENA_FULL || c->id.step != step)
            continue;
        h.id = c->id;
        p->bytes = mu_arena_bytes(c->segment, c->manifest, c->extents);
        if (!(rc = mu_arena_map(head, c, p->bytes, false, &p->image, err)))
            rc = mu_arena_manifest(c, p->image, &p->man, &p->summed, err);
    }
    memset(own, 0xee, sizeof own);
    for (int r = 0; r < WORLD && !rc; r++)
        rc = mu_ckpt_held_verify(&h, &w->tensors[r], err);
    for (int r = 0; r < WORLD && !rc; r++)
        rc = mu_ckpt_held_apply(&h, &w->tensors[r], err);
    mu_ckpt_held_free(&h);
    return rc ? rc : is_state(step) ? (int64_t)step : -1;
}

int main(void)
{
    char *dir = scratch(), tmp[400];
    struct world w, x;
    struct mu_arena_cell *c[WORLD];
    struct mu_err err = {0};

    make_arena();
    open_world(&w, dir);
    save(&w, 1);
    TAP_OK(!w.rc[0] && !w.rc[1] && mu_ckpt_writer_busy(w.writer[0]) &&
               mu_ckpt_writer_durable(w.writer[0], 10 * MU_MS, &err) == 1,
           "a save waits for the drain");
    TAP_OK(mu_ckpt_writer_save(w.writer[0], 9, 9, &err) == MUSTER_EARG, "and the next one for it");
    TAP_OK(mu_drain_pending(head), "which has something to do");
    TAP_OK(held(&w, 1, &err) == 1, "what is in memory is there before: %s", err.text);
    c[0] = ordered(0), c[1] = ordered(1);
    drain();
    TAP_OK(mu_ckpt_writer_durable(w.writer[0], 0, &err) == 0 && mu_ckpt_writer_durable(w.writer[1], 0, &err) == 0 &&
               !mu_drain_pending(head) && head->durable_plus1 == 2 && head->written,
           "drained: durable");
    TAP_OK(held(&w, 1, &err) == 1 && c[0]->summed, "and still in memory, with CRCs");

    /* a drain that dies after its commit, and the next one */
    c[0]->drain = c[1]->drain = MU_DRAIN_WANTED;
    drain();
    snprintf(tmp, sizeof tmp, "%s/g%08d.a%d.tmp", dir, 1, (int)w.place[0].epoch);
    TAP_OK(c[0]->drain == MU_DRAIN_DONE && c[1]->drain == MU_DRAIN_DONE && access(tmp, F_OK),
           "drained again: it finds that it is done");

    save(&w, 2);
    TAP_OK(ordered(0) != c[0] && held(&w, 1, &err) == 1, "the older copy stays while the newer one is drained");
    drain();
    TAP_OK(held(&w, 2, &err) == 2 && held(&w, 1, &err) == 1, "two are in memory");
    for (uint64_t s = 3; s < 6; s++) {
        save(&w, s);
        drain();
    }
    TAP_OK(held(&w, 5, &err) == 5 && held(&w, 4, &err) == 4 && comes_back(dir) == 5, "the newest two");

    /* a flipped bit in memory */
    world_leave(&w);
    open_world(&w, dir); /* comes_back has opened it since */
    save(&w, 6);
    c[0] = ordered(0), c[1] = ordered(1);
    drain();
    unsigned char *map;
    mu_arena_map(head, c[1], c[1]->segment + c[1]->manifest, true, &map, &err);
    map[2 * MU_CKPT_PAGE] ^= 4;
    TAP_OK(held(&w, 6, &err) == MUSTER_ECORRUPT && strstr(err.text, "rank 1's copy in memory is damaged"),
           "a flipped bit is seen: %s", err.text);
    map[2 * MU_CKPT_PAGE] ^= 4;
    map[c[1]->segment + 40] ^= 1; /* the manifest */
    TAP_OK(held(&w, 6, &err) == MUSTER_ECORRUPT && strstr(err.text, "rank 1's copy"), "in a manifest, too: %s",
           err.text);
    map[c[1]->segment + 40] ^= 1;
    munmap(map, c[1]->segment + c[1]->manifest);
    c[1]->extents++;
    TAP_OK(held(&w, 6, &err) == MUSTER_ECORRUPT, "in a description, too: %s", err.text);
    c[1]->extents--;
    c[1]->state = MU_ARENA_FILLING;
    TAP_OK(held(&w, 6, &err) < 0, "a copy that was not finished is none");
    c[1]->state = MU_ARENA_FULL;

    /* a later attempt: the epoch refuses what its predecessor has left to the drain, and takes it over */
    save(&w, 7);
    open_world(&x, dir);
    uint64_t next = x.next > w.next ? x.next : w.next;
    c[0] = ordered(0), c[1] = ordered(1);
    TAP_OK(c[0] && mu_ckpt_writer_adopt(x.writer[0], &c[0]->id, next, 10 * MU_MS) == MUSTER_ENOCKPT,
           "an order that a drain still has cannot be taken over");
    drain();
    TAP_OK(c[0]->drain == MU_DRAIN_FAILED && c[0]->error.code == MUSTER_EEPOCH && c[1]->error.code == MUSTER_EEPOCH,
           "the epoch refuses it: %s", c[0]->error.text);
    snprintf(tmp, sizeof tmp, "ls -d %s/*.tmp >/dev/null 2>&1", dir);
    TAP_OK(system(tmp) != 0, "and nothing of it is left in the directory");
    TAP_OK(!mu_ckpt_writer_adopt(x.writer[0], &c[0]->id, next, MU_SEC) &&
               !mu_ckpt_writer_adopt(x.writer[1], &c[1]->id, next, MU_SEC),
           "then it can");
    drain();
    TAP_OK(mu_ckpt_writer_durable(x.writer[0], 0, &err) == 0 && held(&x, 7, &err) == 7 && comes_back(dir) == 7,
           "and is durable under the new epoch");
    world_close(&x);

    /* a drain that dies once its manifest is there, and the next one: rank 0 may be committing at that moment */
    open_world(&x, dir);
    save(&x, 77);
    c[1] = ordered(1);
    bool summed;
    struct mu_ckpt_manifest man;
    struct stat st[2];
    _Atomic uint32_t cancel = 0;
    mu_arena_map(head, c[1], mu_arena_bytes(c[1]->segment, c[1]->manifest, c[1]->extents), false, &map, &err);
    mu_arena_manifest(c[1], map, &man, &summed, &err);
    struct mu_ckpt_put put = {
        .place = x.place[1], .plan = &man, .image = map, .generation = c[1]->generation, .step = 77, .cancel = &cancel};
    TAP_OK(mu_ckpt_put_begin(&put, &err) == 0, "a drain gets as far as its manifest");
    snprintf(tmp, sizeof tmp, "%s/g%08d.a%d.tmp/man.1", dir, (int)c[1]->generation, (int)x.place[0].epoch);
    stat(tmp, &st[0]);
    put.summed = false;
    TAP_OK(mu_ckpt_put_begin(&put, &err) == 0 && put.voted && stat(tmp, &st[1]) == 0 && st[0].st_ino == st[1].st_ino &&
               !memcmp(&st[0].st_ctim, &st[1].st_ctim, sizeof st[0].st_ctim),
           "the next one leaves what is there as it is");
    mu_ckpt_manifest_free(&man);
    munmap(map, mu_arena_bytes(c[1]->segment, c[1]->manifest, c[1]->extents));
    drain();
    TAP_OK(!mu_ckpt_writer_durable(x.writer[0], 0, &err) && !mu_ckpt_writer_durable(x.writer[1], 0, &err),
           "and it is committed");
    world_close(&x);
    TAP_OK(comes_back(dir) == 77, "and comes back");

    /* what is damaged is refused and nobody waits */
    open_world(&x, dir);
    save(&x, 8);
    c[0] = ordered(0), c[1] = ordered(1);
    c[0]->segment = 12345;
    drain();
    TAP_OK(mu_ckpt_writer_durable(x.writer[0], 0, &err) == MUSTER_EIO && strstr(err.text, "damaged"),
           "an order that makes no sense is refused: %s", err.text);
    TAP_OK(mu_ckpt_writer_durable(x.writer[1], 0, &err) == MUSTER_ETIMEOUT, "others wait no longer than they may: %s",
           err.text);
    save(&x, 9);
    mu_drain_give_up(head, "there is no drain");
    TAP_OK(mu_ckpt_writer_durable(x.writer[0], 0, &err) == MUSTER_EIO && strstr(err.text, "no drain"),
           "a drain that is given up fails what it had");
    save(&x, 10);
    head->hurry = mu_now();
    c[0] = ordered(0);
    uint64_t began = mu_now();
    mu_drain_cell(head, c[0], &mu_ckpt_io_posix);
    TAP_OK(c[0]->error.code == MUSTER_EABORTED && mu_now() - began < MU_SEC,
           "once the job is over nobody waits long: %s", c[0]->error.text);
    head->hurry = 0;
    world_close(&x);
    TAP_OK(comes_back(dir) == 77, "what was durable is");
    world_leave(&w);
    scratch_remove(dir);
    return tap_done();
}
