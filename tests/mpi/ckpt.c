/* Checkpoints through the public calls.
 *   ckpt train N OPTIONS [away]  restores what there is, goes on to step N, saving when due; away: the object store
 *                             cannot be reached
 *   ckpt restore any|STEP|-CODE [TEXT]  expects that step or error, and TEXT in muster_last_error()
 *   ckpt errors               what is refused, and how
 *   ckpt notices              due: the halt file, a supervisor's notices, an interval in time
 * The directory comes from MUSTER_CKPT_DIR. */
#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "muster.h"
#include "runtime/base/slot.h"
#include "tests/mpi/check.h"

#define ROWS 61
#define COLS 37
#define BIG 700000 /* elements of the replicated tensor: several extents */

static muster_comm *world;
static int rank, size;
static float block[ROWS * COLS], big[BIG];
static double deep[5 * 4 * 3];
static uint64_t cursor[2], off[3], len[3], doff[3], dlen[3];

/* Rank r's part of a grid of a x b = size parts, as square as possible. */
static void lay_out(void)
{
    int a = 1;

    for (int i = 1; i * i <= size; i++)
        if (size % i == 0)
            a = i;
    int b = size / a, x = rank / b, y = rank % b;
    off[0] = (uint64_t)(ROWS * x / a), len[0] = (uint64_t)(ROWS * (x + 1) / a) - off[0];
    off[1] = (uint64_t)(COLS * y / b), len[1] = (uint64_t)(COLS * (y + 1) / b) - off[1];
    /* the middle of three dimensions, so that some ranks may have nothing */
    doff[0] = doff[2] = 0, dlen[0] = 5, dlen[2] = 3;
    doff[1] = (uint64_t)(4 * rank / size), dlen[1] = (uint64_t)(4 * (rank + 1) / size) - doff[1];
}

static float value(uint64_t step, uint64_t i)
{
    uint32_t x = (uint32_t)(step * 2654435761u + i * 40503u + 12345u);
    float f;

    x = (x & 0x807fffffu) | 0x3f000000u; /* any sign and mantissa, nothing that compares oddly */
    memcpy(&f, &x, sizeof f);
    return f;
}

static bool state(uint64_t step, bool set)
{
    bool same = true;

    for (uint64_t i = 0; i < len[0] * len[1]; i++) {
        float v = value(step, (off[0] + i / len[1]) * COLS + off[1] + i % len[1]);

        same &= block[i] == v;
        if (set)
            block[i] = v;
    }
    for (uint64_t i = 0; i < BIG; i++) {
        float v = value(step + 7, i);

        same &= big[i] == v;
        if (set)
            big[i] = v;
    }
    for (uint64_t i = 0, n = dlen[0] * dlen[1] * dlen[2]; i < n; i++) {
        uint64_t z = i % 3, y = i / 3 % dlen[1] + doff[1], x = i / 3 / dlen[1];
        double v = (double)(step * 1000 + (x * 4 + y) * 3 + z);

        same &= deep[i] == v;
        if (set)
            deep[i] = v;
    }
    same &= cursor[0] == step * 17 && cursor[1] == ~step;
    if (set)
        cursor[0] = step * 17, cursor[1] = ~step;
    return same;
}

static int add_all(muster_ckpt *c)
{
    const muster_tensor t[] = {
        {"model/block", MUSTER_FLOAT32, 2, {ROWS, COLS}, {off[0], off[1]}, {len[0], len[1]}, block, 0},
        {"model/big", MUSTER_FLOAT32, 1, {BIG}, {0}, {BIG}, big, MUSTER_REPLICATED},
        {"model/deep", MUSTER_FLOAT64, 3, {5, 4, 3}, {0, doff[1], 0}, {5, dlen[1], 3}, deep, 0},
        {"cursor", MUSTER_UINT64, 1, {2}, {0}, {2}, cursor, MUSTER_REPLICATED},
    };
    int rc = 0;

    for (size_t i = 0; i < sizeof t / sizeof t[0]; i++)
        rc |= muster_ckpt_add(c, &t[i]);
    return rc;
}

static void good(int rc, const char *name)
{
    check(rc == 0, "%s%s%s", name, rc ? ": " : "", rc ? muster_last_error() : "");
}

static void train(uint64_t until, const char *options, bool away)
{
    uint64_t step = 0, saves = 0, last = 0;
    muster_ckpt *c = NULL;
    bool right = true;
    int rc, why;

    good(muster_ckpt_open(world, options, &c), "open");
    good(add_all(c), "add");
    rc = muster_ckpt_restore(c, &step);
    if (rc == 0)
        check(state(step, false), "restored step %" PRIu64 " bit by bit", step);
    else
        check(rc == MUSTER_ENOCKPT && step == 0, "nothing to restore: %s", muster_last_error());
    last = step;
    while (step < until) {
        state(++step, true);
        rc = muster_ckpt_due(c, &why);
        right &= rc == (step - last == 5) && why == (rc ? MUSTER_DUE_INTERVAL : MUSTER_DUE_NO);
        if (rc == 1) {
            right &= muster_ckpt_save(c, step) == 0;
            right &= muster_ckpt_wait(c, MUSTER_LEVEL_RAM, 0) == 0;
            saves++;
            last = step;
            state(step + 5000, true); /* may be overwritten now */
        }
    }
    check(right, "due at every fifth step, on every rank");
    check(saves > 0, "saved");
    if (away)
        check(muster_ckpt_wait(c, MUSTER_LEVEL_STORE, 2000) == MUSTER_ETIMEOUT &&
                  strstr(muster_last_error(), "not in the object store"),
              "it is not in the object store: %s", muster_last_error());
    else
        good(muster_ckpt_wait(c, MUSTER_LEVEL_STORE, 60000), "durable");
    check(muster_ckpt_wait(c, MUSTER_LEVEL_PEERS, 0) == 0, "and so beyond what peers could do");
    good(muster_ckpt_close(c), "close");
}

static void restore(const char *what, const char *text)
{
    uint64_t step = 424242;
    muster_ckpt *c = NULL;
    long expect = atol(what);
    double began, took;
    int rc;

    state(9999, true);
    good(muster_ckpt_open(world, NULL, &c), "open");
    good(add_all(c), "add");
    began = seconds();
    rc = muster_ckpt_restore(c, &step);
    took = seconds() - began;
    if (expect < 0)
        check(rc == expect && step == 424242 && state(9999, false), "%d, nothing touched: %.150s", rc,
              muster_last_error());
    else
        check(rc == 0 && (step == (uint64_t)expect || !strcmp(what, "any")) && state(step, false),
              "step %s bit by bit on %d ranks in %.1f ms", what, size, took * 1e3);
    if (text)
        check(strstr(muster_last_error(), text) != NULL, "it says why: %.150s", muster_last_error());
    good(muster_ckpt_close(c), "close");
}

static void errors(void)
{
    static const struct {
        const char *options;
        int rc;
        const char *text;
    } rows[] = {
        {"kepp=3", MUSTER_EARG, "unknown key \"kepp\""}, {"keep=1", MUSTER_EARG, "at least 2"},
        {"interval=soon", MUSTER_EARG, "100steps"},      {"dir=/dev/null/x", MUSTER_EIO, "/dev/null"},
        {"dir=/dev/null", MUSTER_EIO, "/dev/null"},
    };
    const uint64_t two = 2, three = 3;
    muster_tensor t = {"w", MUSTER_UINT64, 1, {2}, {0}, {2}, cursor, MUSTER_REPLICATED};
    muster_ckpt *c = NULL;
    uint64_t step;

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        c = NULL;
        check(muster_ckpt_open(world, rows[i].options, &c) == rows[i].rc && !c &&
                  strstr(muster_last_error(), rows[i].text),
              "%s: %.150s", rows[i].options, muster_last_error());
    }
    check(muster_ckpt_open(NULL, NULL, &c) == MUSTER_EARG && muster_ckpt_open(world, NULL, NULL) == MUSTER_EARG,
          "NULL");
    check(muster_ckpt_add(NULL, &t) == MUSTER_EARG && muster_ckpt_save(NULL, 1) == MUSTER_EARG &&
              muster_ckpt_due(NULL, NULL) == MUSTER_EARG && muster_ckpt_close(NULL) == MUSTER_EARG,
          "no handle");

    good(muster_ckpt_open(world, "interval=1h", &c), "open");
    check(muster_ckpt_add(c, &t) == 0 && muster_ckpt_add(c, &t) == MUSTER_EARG, "a name twice: %s",
          muster_last_error());
    check(muster_ckpt_wait(c, MUSTER_LEVEL_STORE, 0) == MUSTER_ENOCKPT, "wait before any save: %s",
          muster_last_error());
    check(muster_ckpt_wait(c, 4, 0) == MUSTER_EARG, "no such level");
    check(muster_ckpt_restore(c, NULL) == MUSTER_EARG, "no place for the step: %s", muster_last_error());
    check(muster_ckpt_restore(c, &step) == MUSTER_ENOCKPT, "nothing to restore");
    check(muster_ckpt_due(c, NULL) == 0, "not due");
    if (size > 1) {
        check(muster_ckpt_save(c, rank == size - 1 ? 6 : 5) == MUSTER_EMISMATCH, "different steps: %s",
              muster_last_error());
        t.name = "other";
        t.global[0] = t.local[0] = rank ? two : 1;
        check(muster_ckpt_add(c, &t) == 0 && muster_ckpt_save(c, 5) == MUSTER_EMISMATCH, "different replicas: %s",
              muster_last_error());
    }
    good(muster_ckpt_close(c), "close");

    /* an error of the background comes with the next call, on every rank, and the one after goes on */
    check(muster_ckpt_open(world, NULL, &c) == 0, "open again");
    t.name = "w";
    t.global[0] = t.local[0] = 2;
    good(muster_ckpt_add(c, &t), "add");
    good(muster_ckpt_save(c, 1), "save");
    good(muster_ckpt_wait(c, MUSTER_LEVEL_STORE, 60000), "durable");
    MPI_Barrier(MPI_COMM_WORLD);
    if (rank == 0) { /* the next generation's name is taken by a file */
        char path[600];
        FILE *f;

        snprintf(path, sizeof path, "%.500s/g00000002", getenv("MUSTER_CKPT_DIR"));
        if ((f = fopen(path, "w")))
            fclose(f);
    }
    MPI_Barrier(MPI_COMM_WORLD);
    check(muster_ckpt_save(c, 2) == 0, "save starts");
    check(muster_ckpt_save(c, 3) == MUSTER_EIO && strstr(muster_last_error(), "previous checkpoint failed"), "%.150s",
          muster_last_error());
    good(muster_ckpt_save(c, 4), "the next one starts");
    good(muster_ckpt_wait(c, MUSTER_LEVEL_STORE, 60000), "and is durable");
    cursor[0] = three;
    good(muster_ckpt_restore(c, &step), "restore");
    check(step == 4 && !*muster_last_error(), "step 4, the newest: no remark of an older one: \"%.150s\"",
          muster_last_error());
    good(muster_ckpt_close(c), "close");
}

static struct mu_slot_head *head; /* as a keeper would share it; a rank of its own each */

static void play_keeper(void)
{
    const char *attempt = getenv("MUSTER_ATTEMPT");
    char path[40];
    int fd;

    if (getenv("MUSTER_JOB") || (fd = memfd_create("slots", MFD_CLOEXEC)) < 0 || ftruncate(fd, (off_t)mu_slot_bytes(1)))
        return;
    head = mmap(NULL, mu_slot_bytes(1), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (head == MAP_FAILED)
        exit(1);
    head->magic = MU_SLOT_MAGIC;
    head->version = MU_SLOT_VERSION;
    head->nslots = 1;
    head->attempt = attempt ? (uint32_t)atoi(attempt) : 1;
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    setenv("MUSTER_SLOTS", path, 1);
    setenv("MUSTER_SLOT_INDEX", "0", 1);
}

/* What a supervisor says is seen by rank 0 and told to all; a save meets it until something new comes. */
static void supervised(muster_ckpt *c)
{
    static const struct {
        uint32_t notice;
        int why;
    } rows[] = {
        {MU_NOTICE_SIGNAL, MUSTER_DUE_SIGNAL},
        {MU_NOTICE_SIGNAL | MU_NOTICE_HALT, MUSTER_DUE_HALT},
        {MU_NOTICE_SIGNAL | MU_NOTICE_HALT | MU_NOTICE_EVICTION, MUSTER_DUE_EVICTION},
    };
    const struct mu_slot *slot = mu_slot_at(head, 0);
    uint64_t step = 100;
    struct timespec now;
    int why;

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (rank == 0)
            atomic_store(&head->notice, rows[i].notice);
        check(muster_ckpt_due(c, &why) == 1 && why == rows[i].why, "notice %u: due, reason %d", rows[i].notice,
              rows[i].why);
        good(muster_ckpt_save(c, ++step), "save");
        check(muster_ckpt_due(c, &why) == 0, "met by the save");
    }
    clock_gettime(CLOCK_MONOTONIC, &now);
    if (rank == 0)
        head->deadline_ns = ((uint64_t)now.tv_sec + 3600) * 1000000000ull;
    check(muster_ckpt_due(c, &why) == 0, "a time limit in an hour");
    if (rank == 0)
        head->deadline_ns = ((uint64_t)now.tv_sec + 2) * 1000000000ull;
    check(muster_ckpt_due(c, &why) == 1 && why == MUSTER_DUE_TIME_LIMIT, "a time limit in two seconds");
    good(muster_ckpt_wait(c, MUSTER_LEVEL_STORE, 60000), "durable");
    check(atomic_load(&slot->ckpt_plus1) == step + 1, "the supervisor sees what is durable");
    check(atomic_load(&slot->saves) >= 4 && atomic_load(&slot->save_ns) > 0, "and what the saves have cost");
    good(muster_ckpt_restore(c, &step), "restore");
    check(atomic_load(&slot->restored_plus1) == step + 1 && step == 103, "and what was restored");
}

static void notices(void)
{
    muster_tensor t = {"w", MUSTER_UINT64, 1, {2}, {0}, {2}, cursor, MUSTER_REPLICATED};
    char path[600];
    muster_ckpt *c;
    int why = -1, early;
    double opened;

    snprintf(path, sizeof path, "%.500s/HALT", getenv("MUSTER_CKPT_DIR"));
    good(muster_ckpt_open(world, "interval=1h", &c), "open");
    good(muster_ckpt_add(c, &t), "add");
    check(muster_ckpt_due(c, &why) == 0 && why == MUSTER_DUE_NO, "not due");
    if (rank == 0) {
        FILE *f = fopen(path, "w");

        if (f)
            fclose(f);
        usleep(1100000);
    }
    check(muster_ckpt_due(c, &why) == 1 && why == MUSTER_DUE_HALT, "the halt file is seen within a second");
    check(muster_ckpt_due(c, &why) == 1 && why == MUSTER_DUE_HALT, "and until a save");
    check(muster_ckpt_save(c, 1) == 0 && muster_ckpt_due(c, &why) == 0, "but not after it");
    if (rank == 0) {
        unlink(path);
        usleep(1100000); /* it is looked for once a second */
    }
    if (head)
        supervised(c);
    good(muster_ckpt_close(c), "close");
    opened = seconds();
    check(muster_ckpt_open(world, "interval=300ms", &c) == 0 && muster_ckpt_add(c, &t) == 0,
          "open with a short interval");
    if (head) {
        atomic_store(&head->notice, 0);
        head->deadline_ns = 0;
    }
    early = muster_ckpt_due(c, &why); /* rank 0 looks at the clock */
    check(early == 0 || rank || seconds() - opened >= 0.3, "not due at once");
    usleep(310000);
    check(muster_ckpt_due(c, &why) == 1 && why == MUSTER_DUE_INTERVAL, "due after the interval");
    good(muster_ckpt_close(c), "close");
    check(muster_ckpt_open(world, "interval=auto,mtbf=1s", &c) == 0 && muster_ckpt_add(c, &t) == 0 &&
              muster_ckpt_due(c, &why) == 0,
          "an interval of its own making");
    usleep(1050000);
    check(muster_ckpt_due(c, &why) == 1 && why == MUSTER_DUE_INTERVAL, "nodes that fail every second: soon due");
    good(muster_ckpt_close(c), "close");
    check(muster_ckpt_open(world, "interval=auto", &c) == 0 && muster_ckpt_add(c, &t) == 0 &&
              muster_ckpt_save(c, 3) == 0,
          "with what is usual for nodes");
    usleep(1050000);
    check(muster_ckpt_due(c, &why) == 0, "later");
    good(muster_ckpt_close(c), "close");
}

int main(int argc, char **argv)
{
    if (argc > 1 && !strcmp(argv[1], "notices"))
        play_keeper();
    if (muster_init(&argc, &argv)) {
        printf("Bail out! %s\n", muster_last_error());
        return 1;
    }
    world = muster_world();
    rank = muster_rank(world);
    size = muster_size(world);
    lay_out();
    if (argc > 3 && !strcmp(argv[1], "train"))
        train((uint64_t)atol(argv[2]), argv[3], argc > 4);
    else if (argc > 2 && !strcmp(argv[1], "restore"))
        restore(argv[2], argc > 3 ? argv[3] : NULL);
    else if (argc > 1 && !strcmp(argv[1], "errors"))
        errors();
    else if (argc > 1 && !strcmp(argv[1], "notices"))
        notices();
    else
        check(0, "usage: ckpt train|restore|errors|notices");
    int bad = check_done();
    muster_finalize();
    return bad;
}
