#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench/rank/rank.h"
#include "runtime/base/clean.h"

static const struct {
    const char *name;
    int (*run)(struct mu_room *, int argc, char **argv, struct mu_err *err);
} benchmarks[] = {
    {"node", mu_bench_node},     {"pair", mu_bench_pair},       {"coll", mu_bench_coll},
    {"fabric", mu_bench_fabric}, {"overlap", mu_bench_overlap}, {"soak", mu_bench_soak},
};

int main(int argc, char **argv)
{
    struct mu_err err = {0};
    struct mu_room room = {0};

    for (size_t i = 0; argc > 1 && i < MU_COUNT(benchmarks); i++) {
        if (strcmp(argv[1], benchmarks[i].name))
            continue;
        int rc = muster_init(&argc, &argv);
        if (rc) {
            fprintf(stderr, "bench: %s: %s\n", muster_strerror(rc), muster_last_error());
            return 1;
        }
        int rank = muster_rank(muster_world());
        rc = mu_room_open(&room, benchmarks[i].name, &err);
        if (!rc)
            rc = benchmarks[i].run(&room, argc - 1, argv + 1, &err);
        if (!rc)
            rc = mu_room_end(&room, &err);
        if (rc < 0 && (rank == 0 || rc != MUSTER_EARG))
            fprintf(stderr, "bench %s: %s\n", benchmarks[i].name, err.text[0] ? err.text : muster_last_error());
        /* The others may be in the middle of messages, for which MPI's end would wait: the job's supervisor ends them.
         */
        if (rc < 0 && rc != MUSTER_EARG)
            _exit(1);
        mu_room_close(&room);
        muster_finalize();
        return rc == MUSTER_EARG ? 2 : 0;
    }
    fprintf(stderr, "bench: which benchmark? There are:");
    for (size_t i = 0; i < MU_COUNT(benchmarks); i++)
        fprintf(stderr, " %s", benchmarks[i].name);
    fputc('\n', stderr);
    return 2;
}
