#include <stdio.h>
#include <string.h>

#include "bench/rank/rank.h"
#include "runtime/base/clean.h"

static const struct {
    const char *name;
    int (*run)(int argc, char **argv, struct mu_err *err);
} benchmarks[] = {
    {"coll", mu_bench_coll},
};

int main(int argc, char **argv)
{
    struct mu_err err = {0};

    for (size_t i = 0; argc > 1 && i < MU_COUNT(benchmarks); i++) {
        if (strcmp(argv[1], benchmarks[i].name))
            continue;
        int rc = muster_init(&argc, &argv);
        if (rc) {
            fprintf(stderr, "bench: %s: %s\n", muster_strerror(rc), muster_last_error());
            return 1;
        }
        int rank = muster_rank(muster_world());
        rc = benchmarks[i].run(argc - 1, argv + 1, &err);
        if (rc && (rank == 0 || rc != MUSTER_EARG))
            fprintf(stderr, "bench %s: %s\n", benchmarks[i].name, err.text[0] ? err.text : muster_last_error());
        muster_finalize();
        return rc == MUSTER_EARG ? 2 : rc < 0 ? 1 : rc;
    }
    fprintf(stderr, "bench: which benchmark? known: coll\n");
    return 2;
}
