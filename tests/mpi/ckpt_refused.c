/* Ranks that describe a tensor in ways that do not fit: every rank is told, and the checkpoint is not one, be it in the
 * directory or in memory. With two ranks: ckpt_refused OPTIONS. */
#include <stdio.h>
#include <string.h>

#include "muster.h"
#include "tests/mpi/check.h"

static float w[8];
static int rank;

static muster_ckpt *begin(const char *options, uint64_t offset, uint64_t local)
{
    muster_tensor t = {.name = "w", .dtype = MUSTER_FLOAT32, .ndim = 1, .global = {8}, .data = w};
    muster_ckpt *c = NULL;

    t.offset[0] = offset;
    t.local[0] = local;
    check(!muster_ckpt_open(muster_world(), options, &c) && !muster_ckpt_add(c, &t), "open: %s", muster_last_error());
    return c;
}

int main(int argc, char **argv)
{
    uint64_t step = 0;
    int rc;

    if (argc != 2 || muster_init(&argc, &argv))
        return 2;
    rank = muster_rank(muster_world());
    for (int i = 0; i < 8; i++)
        w[i] = (float)(10 * rank + i);
    muster_ckpt *c = begin(argv[1], rank ? 4 : 0, 4);
    check(!muster_ckpt_save(c, 1) && !muster_ckpt_wait(c, MUSTER_LEVEL_STORE, -1) && !muster_ckpt_close(c),
          "step 1 is saved");

    c = begin(argv[1], rank ? 3 : 0, rank ? 5 : 4);
    check(!muster_ckpt_save(c, 2), "step 2 is copied");
    rc = muster_ckpt_wait(c, MUSTER_LEVEL_STORE, -1);
    check(rc == MUSTER_EMISMATCH && strstr(muster_last_error(), "tensor \"w\": the blocks of ranks 0 and 1 overlap"),
          "and refused: %s", muster_last_error());
    check(!muster_ckpt_close(c), "the handle is none the worse");

    memset(w, 0, sizeof w);
    c = begin(argv[1], rank ? 4 : 0, 4);
    rc = muster_ckpt_restore(c, &step);
    check(!rc && step == 1 && w[0] == (float)(10 * rank) && strstr(muster_last_error(), "overlap"),
          "step %d is restored, and why: %s", (int)step, muster_last_error());
    check(!muster_ckpt_save(c, 3) && !muster_ckpt_wait(c, MUSTER_LEVEL_STORE, -1) && !muster_ckpt_close(c),
          "and saved on");
    rc = check_done();
    muster_finalize();
    return rc;
}
