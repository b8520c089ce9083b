/* Makes a directory of checkpoints: generations DIR RANKS KIB SAVES [PERCENT]. PERCENT: so much changes from one to the
 * next. Each rank has KIB of its own, and they share as
 * much again; the steps are 10, 20, ... */
#include "tests/unit/ckpt_help.h"

int main(int argc, char **argv)
{
    struct world w;
    struct mu_err err = {0};

    if (argc < 5)
        return 2;
    int ranks = atoi(argv[2]), saves = atoi(argv[4]), rc;
    uint64_t n = (uint64_t)atoi(argv[3]) << 10, all = n * (uint64_t)ranks, seed = 7;
    uint64_t percent = argc > 5 ? (uint64_t)atoi(argv[5]) : 100;
    unsigned char *data = malloc(all + n);

    if (ranks < 1 || ranks > RANKS || !data)
        return 2;
    if ((rc = world_open(&w, argv[1], ranks, 100, 60 * MU_SEC, &mu_ckpt_io_posix, &err)))
        goto out;
    for (uint64_t r = 0; r < (uint64_t)ranks && !rc; r++) {
        uint64_t at = r * n;

        rc = add(&w.tensors[r], "own", MUSTER_UINT8, 1, &all, &at, &n, data + at, 0, &err);
        if (!rc)
            rc = add(&w.tensors[r], "shared", MUSTER_UINT8, 1, &n, NULL, NULL, data + all, MUSTER_REPLICATED, &err);
    }
    for (int i = 1; i <= saves && !rc; i++) {
        for (uint64_t k = 0; k + 8 <= (all + n) * (i > 1 ? percent : 100) / 100; k += 8) {
            uint64_t v = rnd(&seed);

            memcpy(data + k, &v, 8);
        }
        if ((rc = world_save(&w, (uint64_t)i * 10)))
            for (int r = 0; r < ranks; r++)
                if (w.rc[r])
                    err = w.err[r];
    }
    world_close(&w);
out:
    free(data);
    if (rc)
        fprintf(stderr, "generations: %s\n", err.text);
    return rc ? 1 : 0;
}
