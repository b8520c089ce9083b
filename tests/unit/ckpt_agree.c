/* What ranks say of their tensors must fit together: at the commit, and to whoever verifies a generation. */
#include "runtime/ckpt/agree.h"

#include "runtime/ckpt/verify.h"
#include "tests/unit/ckpt_help.h"

static float data[4096];

struct part {
    int rank;
    const char *name;
    muster_dtype dtype;
    int ndim;
    uint64_t global[3], offset[3], local[3];
    unsigned flags;
};

#define F MUSTER_FLOAT32
static const struct row {
    const char *what;
    int ranks;
    struct part parts[8];
    const char *text; /* NULL: they agree */
} rows[] = {
    {"halves", 2, {{0, "w", F, 2, {8, 4}, {0, 0}, {4, 4}, 0}, {1, "w", F, 2, {8, 4}, {4, 0}, {4, 4}, 0}}, NULL},
    {"quarters",
     4,
     {{0, "w", F, 2, {8, 4}, {0, 0}, {4, 2}, 0},
      {1, "w", F, 2, {8, 4}, {0, 2}, {4, 2}, 0},
      {2, "w", F, 2, {8, 4}, {4, 0}, {4, 2}, 0},
      {3, "w", F, 2, {8, 4}, {4, 2}, {4, 2}, 0}},
     NULL},
    {"a pinwheel, which no cut parts",
     5,
     {{0, "w", F, 2, {3, 3}, {0, 0}, {1, 2}, 0},
      {1, "w", F, 2, {3, 3}, {0, 2}, {2, 1}, 0},
      {2, "w", F, 2, {3, 3}, {2, 1}, {1, 2}, 0},
      {3, "w", F, 2, {3, 3}, {1, 0}, {2, 1}, 0},
      {4, "w", F, 2, {3, 3}, {1, 1}, {1, 1}, 0}},
     NULL},
    {"two copies of each half",
     4,
     {{0, "w", F, 1, {8}, {0}, {4}, 0},
      {1, "w", F, 1, {8}, {4}, {4}, 0},
      {2, "w", F, 1, {8}, {0}, {4}, 0},
      {3, "w", F, 1, {8}, {4}, {4}, 0}},
     NULL},
    {"tensors of one rank each, and a rank without any",
     3,
     {{0, "a", F, 1, {8}, {0}, {8}, 0}, {1, "b", F, 1, {8}, {0}, {8}, 0}},
     NULL},
    {"a rank that holds nothing of it", 2, {{0, "w", F, 1, {8}, {0}, {8}, 0}, {1, "w", F, 1, {8}, {3}, {0}, 0}}, NULL},
    {"a tensor without elements", 2, {{0, "w", F, 2, {0, 4}, {0, 0}, {0, 4}, 0}}, NULL},
    {"a replicated one",
     2,
     {{0, "w", F, 1, {4000}, {0}, {4000}, MUSTER_REPLICATED}, {1, "w", F, 1, {4000}, {0}, {4000}, MUSTER_REPLICATED}},
     NULL},
    {"another data type",
     2,
     {{0, "w", F, 1, {8}, {0}, {4}, 0}, {1, "w", MUSTER_BFLOAT16, 1, {8}, {4}, {4}, 0}},
     "tensor \"w\": rank 0 saves it as float32, rank 1 as bfloat16"},
    {"another global shape",
     3,
     {{1, "w", F, 2, {8, 4}, {0, 0}, {4, 4}, 0}, {2, "w", F, 2, {8, 6}, {4, 0}, {4, 6}, 0}},
     "tensor \"w\": rank 1 saves it with the global shape [8, 4], rank 2 with [8, 6]"},
    {"more dimensions",
     2,
     {{0, "w", F, 1, {8}, {0}, {4}, 0}, {1, "w", F, 2, {8, 1}, {4, 0}, {4, 1}, 0}},
     "rank 0 saves it with the global shape [8], rank 1 with [8, 1]"},
    {"replicated on one rank only",
     2,
     {{0, "w", F, 1, {8}, {0}, {8}, 0}, {1, "w", F, 1, {8}, {0}, {8}, MUSTER_REPLICATED}},
     "tensor \"w\": rank 1 saves it as replicated, rank 0 does not"},
    {"a replicated one that a rank lacks",
     2,
     {{0, "w", F, 1, {4000}, {0}, {4000}, MUSTER_REPLICATED}},
     "tensor \"w\" is replicated, and no rank saves its bytes from 4096 on"},
    {"blocks that overlap",
     2,
     {{0, "w", F, 1, {8}, {0}, {5}, 0}, {1, "w", F, 1, {8}, {4}, {4}, 0}},
     "tensor \"w\": the blocks of ranks 0 and 1 overlap"},
    {"an overlap in a corner",
     4,
     {{0, "w", F, 2, {8, 4}, {0, 0}, {4, 2}, 0},
      {1, "w", F, 2, {8, 4}, {0, 2}, {5, 2}, 0},
      {2, "w", F, 2, {8, 4}, {4, 0}, {4, 2}, 0},
      {3, "w", F, 2, {8, 4}, {4, 2}, {4, 2}, 0}},
     "the blocks of ranks 1 and 3 overlap"},
    {"the whole beside its half",
     2,
     {{0, "w", F, 1, {8}, {0}, {8}, 0}, {1, "w", F, 1, {8}, {4}, {4}, 0}},
     "the blocks of ranks 0 and 1 overlap"},
    {"a hole",
     3,
     {{0, "w", F, 2, {8, 4}, {0, 0}, {4, 4}, 0}, {2, "w", F, 2, {8, 4}, {6, 0}, {2, 4}, 0}},
     "tensor \"w\" of [8, 4]: no rank saves the block of [2, 4] at [4, 0]"},
    {"nothing of it anywhere",
     2,
     {{0, "w", F, 1, {8}, {0}, {0}, 0}, {1, "w", F, 1, {8}, {8}, {0}, 0}},
     "tensor \"w\" of [8]: no rank saves the block of [8] at [0]"},
};

static void describe(struct world *w, const struct row *row)
{
    struct mu_err err;

    for (size_t i = 0; i < sizeof row->parts / sizeof row->parts[0] && row->parts[i].name; i++) {
        const struct part *p = &row->parts[i];

        if (add(&w->tensors[p->rank], p->name, p->dtype, p->ndim, p->global, p->offset, p->local, data, p->flags,
                &err)) {
            printf("# %s\n", err.text);
            abort();
        }
    }
}

/* The commit refuses it on every rank, and what was there before is restored. */
static void commits(const struct row *row)
{
    const struct row before = {"", 1, {{0, "old", F, 1, {8}, {0}, {8}, 0}}, NULL};
    char *dir = scratch();
    uint64_t *list = NULL;
    size_t n = 0;
    struct world w;
    struct mu_err err = {0};
    bool all = true;
    int rc;

    world_open(&w, dir, row->ranks, 2, 20 * MU_SEC, &mu_ckpt_io_posix, &err);
    describe(&w, &before);
    if (world_save(&w, 1))
        abort();
    for (int r = 0; r < w.n; r++)
        while (w.tensors[r].n)
            mu_ckpt_tensors_drop(&w.tensors[r]);
    describe(&w, row);
    rc = world_save(&w, 2);
    for (int r = 0; r < w.n; r++)
        all &= row->text ? w.rc[r] == MUSTER_EMISMATCH && strstr(w.err[r].text, row->text) : !w.rc[r];
    mu_ckpt_store_scan(dir, &list, &n, NULL);
    TAP_OK(all && n == (row->text ? 1u : 2u), "%s: %s", row->what, rc ? w.err[w.n - 1].text : "committed");
    if (row->text) {
        for (int r = 0; r < w.n; r++)
            while (w.tensors[r].n)
                mu_ckpt_tensors_drop(&w.tensors[r]);
        describe(&w, &before);
        TAP_OK(world_restore(&w, &err) == 1 && world_save(&w, 3) == 0, "and the one before is restored, and saved on");
    }
    free(list);
    world_close(&w);
    scratch_remove(dir);
}

/* As an older release has committed it. */
static void verifies(const struct row *row)
{
    char *dir = scratch();
    struct world w;
    struct mu_err err = {0};
    int rc;

    world_open(&w, dir, row->ranks, 2, 20 * MU_SEC, &mu_ckpt_io_posix, &err);
    describe(&w, row);
    if (world_force(&w, 1, &err))
        abort();
    err = (struct mu_err){0};
    rc = mu_ckpt_verify(dir, 1, NULL, NULL, &err);
    TAP_OK(row->text ? rc == MUSTER_ECORRUPT && err.code == rc && strstr(err.text, row->text) : !rc, "%s verified: %s",
           row->what, rc ? err.text : "good");
    world_close(&w);
    scratch_remove(dir);
}

/* Linear: looked up one by one, names alone would take minutes. */
static void many(void)
{
    enum { TENSORS = 100000, WORLD = 16 };
    struct mu_ckpt_agree agree = {0};
    struct mu_ckpt_tensors list = {0};
    struct mu_err err = {0};
    uint64_t began = mu_now(), took;
    int rc = 0;

    for (int r = 0; r < WORLD && !rc; r++) {
        struct mu_ckpt_manifest m = {0};

        for (int i = 0; i < TENSORS && !rc; i++) {
            int which = r % 2 ? TENSORS - 1 - i : i; /* not in one order */
            const uint64_t global[2] = {2 * WORLD, 3}, offset[2] = {(uint64_t)r * 2, 0}, local[2] = {2, 3};
            char name[40];

            snprintf(name, sizeof name, "layers.%d.attention.weight", which);
            rc = add(&list, name, F, 2, global, offset, local, data, 0, &err);
        }
        if (!rc && !(rc = mu_ckpt_manifest_plan(&list, (uint32_t)r, WORLD, &m, &err)))
            rc = mu_ckpt_agree_add(&agree, &m, &err);
        mu_ckpt_manifest_free(&m);
        mu_ckpt_tensors_free(&list);
    }
    if (!rc)
        rc = mu_ckpt_agree_end(&agree, &err);
    took = mu_now() - began;
    TAP_OK(!rc && agree.tensors.n == TENSORS && took < 60 * MU_SEC, "%d tensors of %d ranks in %.1f s: %s", TENSORS,
           WORLD, (double)took / 1e9, err.text);
    mu_ckpt_agree_free(&agree);
}

/* A manifest with one name twice is nobody's plan. */
static void twice(void)
{
    struct mu_ckpt_agree agree = {0};
    struct mu_ckpt_manifest m = {0};
    struct mu_ckpt_tensors list = {0};
    const uint64_t n = 8;
    struct mu_err err = {0};

    add(&list, "a", F, 1, &n, NULL, NULL, data, 0, &err);
    add(&list, "b", F, 1, &n, NULL, NULL, data, 0, &err);
    if (mu_ckpt_manifest_plan(&list, 0, 1, &m, &err))
        abort();
    m.blocks[1].name[0] = 'a';
    TAP_OK(mu_ckpt_agree_add(&agree, &m, &err) == MUSTER_EMISMATCH && strstr(err.text, "saves tensor \"a\" twice"),
           "%s", err.text);
    mu_ckpt_manifest_free(&m);
    mu_ckpt_tensors_free(&list);
    mu_ckpt_agree_free(&agree);
}

int main(void)
{
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        commits(&rows[i]);
        verifies(&rows[i]);
    }
    twice();
    many();
    return tap_done();
}
