/* What the keeper reads out of the slots that ranks write. */
#include "runtime/keeper/slots.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "runtime/base/clock.h"
#include "tests/unit/tap.h"

/* What operations and saves cost: looked at now and then, told when it is new. */
static void figures(void)
{
    struct mu_flight_record what = {.number = 1, .count = 4, .bytes = 1000, .peer = -1};
    struct mu_m_report r = {.steps = 5};
    struct mu_flight_ring *ring;
    struct mu_slots *s = NULL;
    struct mu_err err;

    if (mu_slots_new(3, 1, 3, 0, &s, &err))
        exit(99);
    int fd = open(mu_slots_path(s), O_RDWR);
    struct mu_slot_head *h = mmap(NULL, mu_slot_bytes(3), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (h == MAP_FAILED)
        exit(99);
    struct mu_slot *a = mu_slot_at(h, 0), *b = mu_slot_at(h, 1);
    TAP_OK(!mu_slots_figures(s, MU_SEC, &r) && !r.ops, "without ranks there is nothing to tell");
    a->state = MU_RANK_READY;
    b->state = MU_RANK_LEFT;
    mu_slot_at(h, 2)->state = MU_RANK_INIT;
    a->op_seq = 10;
    b->op_seq = 5;
    mu_slot_at(h, 2)->op_seq = 100;
    for (unsigned i = 0; i < MU_FLIGHT_RING + 3; i++) {
        ring = mu_flight_open(mu_slot_flight(h, 0), 7 + i % 2, 2); /* left, and taken again when there is no other */
        if (!ring)
            exit(99);
        mu_flight_enter(ring, &what, true);
        mu_flight_close(mu_slot_flight(h, 0), ring);
    }
    if (!(ring = mu_flight_open(mu_slot_flight(h, 1), 7, 2)))
        exit(99);
    mu_flight_enter(ring, &what, true);
    TAP_OK(!mu_slots_figures(s, 5 * MU_SEC, &r) && !r.ops, "not before its time");
    TAP_OK(mu_slots_figures(s, 6 * MU_SEC, &r) && r.ops == 15 && r.op_bytes == 1000 * (MU_FLIGHT_RING + 4) &&
               !r.saves && r.steps == 5,
           "operations of all ranks that have joined, and their bytes, of rings that were used again, too (%llu)",
           (unsigned long long)r.op_bytes);
    TAP_OK(!mu_slots_figures(s, 12 * MU_SEC, &r), "what is known is not told again");
    mu_slot_saved(a, 3 * MU_SEC);
    mu_slot_saved(a, MU_SEC);
    mu_slot_saved(b, 2 * MU_SEC);
    TAP_OK(mu_slots_figures(s, 18 * MU_SEC, &r) && r.saves == 2 && r.save_ns == 4 * MU_SEC &&
               r.save_last_ns == 2 * MU_SEC,
           "saves: the rank that they have held up longest; what was not seen one by one has a mean");
    mu_slot_saved(b, 5 * MU_SEC);
    TAP_OK(mu_slots_figures(s, UINT64_MAX, &r) && r.saves == 2 && r.save_ns == 7 * MU_SEC &&
               r.save_last_ns == 5 * MU_SEC,
           "at once, when it is the last look");
    mu_slot_saved(a, MU_SEC);
    mu_slot_saved(b, MU_SEC / 2);
    TAP_OK(mu_slots_figures(s, UINT64_MAX, &r) && r.saves == 3 && r.save_ns == 7 * MU_SEC + MU_SEC / 2 &&
               r.save_last_ns == MU_SEC,
           "of the last one the slowest");
    munmap(h, mu_slot_bytes(3));
    close(fd);
    mu_slots_free(s);
}

int main(void)
{
    figures();
    struct mu_m_report r = {.nlive = 77};
    struct mu_slots *s = NULL;
    struct mu_err err;
    char text[700];

    TAP_OK(!mu_slots_new(3, 4, 8, 99, &s, &err), "slots can be made");
    int fd = open(mu_slots_path(s), O_RDWR);
    TAP_OK(fd >= 0, "a rank opens them through their path");
    TAP_OK(ftruncate(fd, 10) < 0 && ftruncate(fd, 1 << 20) < 0, "and cannot change their size");
    struct mu_slot_head *h = mmap(NULL, mu_slot_bytes(3), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    TAP_OK(h != MAP_FAILED && h->magic == MU_SLOT_MAGIC && h->version == MU_SLOT_VERSION && h->nslots == 3 &&
               h->attempt == 4 && h->world_size == 8 && h->deadline_ns == 99,
           "the head says what they are");

    TAP_OK(!mu_slots_read(s, &r) && !r.njoined && r.nlive == 77, "nothing has happened");
    mu_slot_at(h, 0)->state = MU_RANK_INIT;
    TAP_OK(!mu_slots_read(s, &r), "a rank that starts MPI has not joined");
    static const struct {
        uint32_t state;
        uint64_t steps, step, first, last, ckpt, restored;
        /* the report after that row */
        uint32_t joined;
        uint64_t r_steps, r_step, r_first, r_last, r_ckpt, r_restored;
    } rows[] = {
        {MU_RANK_READY, 5, 105, 1000, 1400, 101, 0, 1, 5, 105, 0, 1400, 101, 0},
        {MU_RANK_READY, 3, 103, 1100, 1300, 0, 91, 2, 3, 103, 0, 1400, 101, 91},
        {MU_RANK_FINALIZED, 7, 107, 1050, 1500, 0, 91, 3, 3, 103, 1100, 1500, 101, 91},
    };
    for (unsigned i = 0; i < 3; i++) {
        struct mu_slot *slot = mu_slot_at(h, i);
        slot->steps = rows[i].steps;
        slot->step = rows[i].step;
        slot->first_step_wall = rows[i].first;
        slot->step_wall = rows[i].last;
        slot->ckpt_plus1 = rows[i].ckpt;
        slot->restored_plus1 = rows[i].restored;
        slot->state = rows[i].state;
        bool changed = mu_slots_read(s, &r);
        TAP_OK(changed && r.njoined == rows[i].joined && r.steps == rows[i].r_steps && r.step == rows[i].r_step &&
                   r.first_step_wall == rows[i].r_first && r.step_wall == rows[i].r_last &&
                   r.ckpt_plus1 == rows[i].r_ckpt && r.restored_plus1 == rows[i].r_restored,
               "%u ranks: slowest step, last first step, newest checkpoint", i + 1);
    }
    TAP_OK(!mu_slots_read(s, &r), "no change is no change");
    mu_slot_at(h, 1)->steps = 0;
    TAP_OK(mu_slots_read(s, &r) && !r.steps && !r.step, "a rank without a step holds the count at zero");

    mu_slots_abort(s, 6, 9, "node-b");
    mu_slots_abort(s, 2, 1, "node-c");
    TAP_OK(h->abort == 1 && h->abort_rank == 6 && h->abort_status == 9 && !strcmp(h->abort_node, "node-b"),
           "the abort word is the first failure's");
    mu_slots_notice(s, MU_NOTICE_SIGNAL);
    mu_slots_notice(s, MU_NOTICE_HALT);
    TAP_OK(h->notice == (MU_NOTICE_SIGNAL | MU_NOTICE_HALT), "notices add up");

    unsigned alone = 0;
    mu_slots_singleton(s, 0, 8, getpid(), false, 20 * MU_SEC, &alone, text, sizeof text);
    TAP_OK(!*text, "a process without MPI is no singleton");
    mu_slot_at(h, 0)->mpi_size = 1;
    mu_slots_singleton(s, 0, 8, getpid(), true, 0, &alone, text, sizeof text);
    TAP_OK(strstr(text, "singleton") && strstr(text, "8 ranks"), "MPI says 1 of 8: %s", text);
    mu_slots_singleton(s, 0, 1, getpid(), false, 20 * MU_SEC, &alone, text, sizeof text);
    TAP_OK(!*text, "a job of one rank may be one");
    mu_slot_at(h, 0)->mpi_size = 8;
    mu_slots_singleton(s, 0, 8, getpid(), false, 20 * MU_SEC, &alone, text, sizeof text);
    TAP_OK(!*text, "the right size is right");
    munmap(h, mu_slot_bytes(3));
    close(fd);
    mu_slots_free(s);
    return tap_done();
}
