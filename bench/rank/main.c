#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench/rank/device.h"
#include "bench/rank/rank.h"
#include "runtime/base/clean.h"

static const struct mu_bench benchmarks[] = {
    {"node", mu_bench_node, true},      {"pair", mu_bench_pair, false},       {"coll", mu_bench_coll, false},
    {"fabric", mu_bench_fabric, false}, {"overlap", mu_bench_overlap, false}, {"soak", mu_bench_soak, true},
    {"hosts", mu_bench_hosts, false},
};

const struct mu_bench *mu_bench_named(const char *name)
{
    for (size_t i = 0; i < MU_COUNT(benchmarks); i++)
        if (!strcmp(name, benchmarks[i].name))
            return &benchmarks[i];
    return NULL;
}

int mu_bench_make(struct mu_room *r, const struct mu_bench *b, int argc, char **argv, struct mu_err *err)
{
    mu_room_enter(r, b->name);
    int rc = b->run(r, argc, argv, err);
    return rc ? rc : mu_room_end(r, err);
}

int main(int argc, char **argv)
{
    struct mu_err err = {0};
    struct mu_room room = {0};
    const struct mu_bench *b = argc > 1 ? mu_bench_named(argv[1]) : NULL;

    if (!b && (argc != 2 || strcmp(argv[1], "steps") != 0)) {
        fprintf(stderr, "bench: which benchmark? There are:");
        for (size_t i = 0; i < MU_COUNT(benchmarks); i++)
            fprintf(stderr, " %s", benchmarks[i].name);
        fputc('\n', stderr);
        return 2;
    }
    int rc = muster_init(&argc, &argv);
    if (rc) {
        fprintf(stderr, "bench: %s: %s\n", muster_strerror(rc), muster_last_error());
        return 1;
    }
    int rank = muster_rank(muster_world());
    rc = mu_room_open(&room, &err);
    if (!rc)
        rc = b ? mu_bench_make(&room, b, argc - 1, argv + 1, &err) : mu_bench_steps(&room, &err);
    if (rc < 0 && (rank == 0 || rc != MUSTER_EARG))
        fprintf(stderr, "bench%s%s: %s\n", room.bench && *room.bench ? " " : "", room.bench ? room.bench : "",
                err.text[0] ? err.text : muster_last_error());
    /* The others may be in the middle of messages, for which MPI's end would wait: the job's supervisor ends them. */
    if (rc < 0 && rc != MUSTER_EARG)
        _exit(1);
    mu_room_close(&room);
    muster_finalize();
    fflush(NULL);
    if (mu_device_hung())
        _exit(rc == MUSTER_EARG ? 2 : 0);
    return rc == MUSTER_EARG ? 2 : 0;
}
