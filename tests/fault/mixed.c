/* Makes a directory with one checkpoint of two ranks that do not fit together, as releases committed it that did not
 * look: mixed DIR overlap|hole|types. mixed DIR load: what a restore says of it. */
#include "runtime/ckpt/reader.h"
#include "tests/unit/ckpt_help.h"

static int load(const char *dir)
{
    const uint64_t all = 8, zero = 0;
    static float data[8];
    struct mu_ckpt_tensors list = {0};
    struct mu_ckpt_loaded got = {0};
    struct mu_err err = {0};
    int rc = add(&list, "w", MUSTER_FLOAT32, 1, &all, &zero, &all, data, 0, &err);

    rc = rc ? rc : mu_ckpt_load(dir, 1, &list, &got, &err);
    puts(err.text);
    mu_ckpt_loaded_free(&got);
    mu_ckpt_tensors_free(&list);
    return rc != MUSTER_ECORRUPT;
}

int main(int argc, char **argv)
{
    const uint64_t all = 8, half = 4, more = 5, less = 3, zero = 0;
    static float data[8];
    struct mu_err err = {0};
    struct world w;
    int rc;

    if (argc == 3 && !strcmp(argv[2], "load"))
        return load(argv[1]);
    if (argc != 3 || (rc = world_open(&w, argv[1], 2, 3, 60 * MU_SEC, &mu_ckpt_io_posix, &err)))
        return 2;
    bool overlap = !strcmp(argv[2], "overlap"), hole = !strcmp(argv[2], "hole");
    if (!(rc = add(&w.tensors[0], "w", MUSTER_FLOAT32, 1, &all, &zero,
                   overlap ? &more
                   : hole  ? &less
                           : &half,
                   data, 0, &err)) &&
        !(rc = add(&w.tensors[1], "w", overlap || hole ? MUSTER_FLOAT32 : MUSTER_INT32, 1, &all, &half, &half, data, 0,
                   &err)))
        rc = world_force(&w, 10, &err);
    world_close(&w);
    if (rc)
        fprintf(stderr, "mixed: %s\n", err.text);
    return rc ? 1 : 0;
}
