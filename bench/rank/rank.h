/* Benchmark ranks: one program, one row of the table in main.c a benchmark. What they have in common is the room: who
 * is where, common clocks, and the lines of measurements (docs/formats.md) on their way to rank 0, which prints them.
 * To add a benchmark: a file here, a row in main.c, one in launcher/bench_cmd.c, a section in docs/man/muster-bench.1.
 */
#ifndef MU_BENCH_RANK_H
#define MU_BENCH_RANK_H

#include "bench/clockfit.h"
#include "bench/counters.h"
#include "bench/record.h"
#include "muster.h"
#include "runtime/base/err.h"
#include "runtime/base/opt.h"

struct mu_room {
    const char *bench;
    muster_comm *comm;
    int rank, size;
    char (*hosts)[64];             /* each once, in the order of their lowest ranks */
    int nhosts, *host_of, *leader; /* leader: of each host its lowest rank */
    const char *host;
    bool shared; /* more ranks here than CPUs, or on one machine all together, or told so by MUSTER_YIELD */
    struct mu_clockfit clock; /* theirs: rank 0's */
    uint64_t began, repeated; /* repeated: when the newest repetition began */
    struct mu_buf lines;      /* of this rank */
    int launch, order;        /* order: of the next measurement, the same at all ranks */
    uint64_t synced;          /* when the clocks were last, in this benchmark; 0: not yet */
    uint64_t seed;
    int64_t counters[MU_COUNTERS]; /* at the beginning, at leaders */
    double wrong;
    int measurements; /* at rank 0 */
};

/* Options that every benchmark has; put MU_ROOM_ROWS(struct, field) first in its table. */
struct mu_room_opts {
    int launch, trials, at_once;
    uint64_t seed, budget, within;
};
#define MU_ROOM_ROWS(s, f)                                                                                             \
    {"launch", 0, MU_OPT_INT, offsetof(s, f.launch), "N", "number of this launch in its series", .max = 1000000},      \
        {"trials", 0, MU_OPT_INT, offsetof(s, f.trials), "N", "repetitions", .min = 1, .max = 1000},                   \
        {"at-once",     0, MU_OPT_INT, offsetof(s, f.at_once), "N", "hosts or pairs that measure at a time; 0: all",   \
         .max = 1000000},                                                                                              \
        {"seed", 0, MU_OPT_U64, offsetof(s, f.seed), "N", "of the random order"},                                      \
        {"within", 0, MU_OPT_DURATION, offsetof(s, f.within), "TIME", "for repetitions beyond the first (no end)"},    \
    {                                                                                                                  \
        "time", 0, MU_OPT_DURATION, offsetof(s, f.budget), "TIME", "for each measurement at most"                      \
    }

/* Collective. Who is where; opens the wire between the ranks. */
int mu_room_open(struct mu_room *, struct mu_err *);
void mu_room_close(struct mu_room *);
/* A benchmark begins: nothing is measured yet. What is known of the clocks stays. */
void mu_room_enter(struct mu_room *, const char *bench);
/* Parses, seeds, and prints the line `run`. 1: there is nothing to do. */
int mu_room_begin(struct mu_room *, const struct mu_opt *, size_t n, int argc, char **argv, void *opts,
                  struct mu_room_opts *, struct mu_err *);
/* Collective: fits the clocks anew, or for the first time; the lines `clock`. */
int mu_room_sync(struct mu_room *, struct mu_err *);
/* The line `clock` of this host, at leaders; none where nothing was fitted. */
void mu_room_clock(struct mu_room *, const char *when);
/* Rank 0's time of our time now, and the other way. */
uint64_t mu_room_common(const struct mu_room *, uint64_t ours);
uint64_t mu_room_ours(const struct mu_room *, uint64_t common);
/* Adds a measurement of this rank; launch, t, transport's flags and order are put in. */
int mu_room_add(struct mu_room *, struct mu_record *, struct mu_err *);
/* Adds how much a counter has grown, of this rank's host or, with uuid, of a GPU of it; nothing where it is not known
 * (-1) or went down: it was reset then. */
int mu_room_grown(struct mu_room *, const char *name, int gpu, const char *uuid, int64_t before, int64_t now,
                  struct mu_err *);
/* Collective. All are well (rc is 0 at each), or all return EARG with what the first one whose rc is not says:
 * "WHAT: rank R on HOST: why". */
int mu_room_agree(struct mu_room *, int rc, const char *what, const struct mu_err *why, struct mu_err *err);
void mu_room_skip(struct mu_room *, const char *name, const char *reason);
/* Collective: brings the lines to rank 0, which prints them and how far we are. */
int mu_room_flush(struct mu_room *, double done, struct mu_err *);
/* Collective: whether another repetition can be made, after `made` of them; in `times` the time of --within. */
int mu_room_another(struct mu_room *, const struct mu_room_opts *, int made, double times, bool *go, struct mu_err *);
/* Collective: what the hosts' counters have counted since mu_room_begin, and the line `end`. */
int mu_room_end(struct mu_room *, struct mu_err *);

struct mu_bench {
    const char *name;
    int (*run)(struct mu_room *, int argc, char **argv, struct mu_err *err);
    bool whole; /* takes all CPUs of the host, not those near one another */
};
const struct mu_bench *mu_bench_named(const char *);
/* Collective: one from mu_room_enter to mu_room_end. argv[0] is its name. */
int mu_bench_make(struct mu_room *, const struct mu_bench *, int argc, char **argv, struct mu_err *);
/* Collective: those that rank 0 is told of on its standard input, until that ends. */
int mu_bench_steps(struct mu_room *, struct mu_err *);

int mu_bench_node(struct mu_room *, int argc, char **argv, struct mu_err *err);
int mu_bench_pair(struct mu_room *, int argc, char **argv, struct mu_err *err);
int mu_bench_fabric(struct mu_room *, int argc, char **argv, struct mu_err *err);
int mu_bench_overlap(struct mu_room *, int argc, char **argv, struct mu_err *err);
int mu_bench_soak(struct mu_room *, int argc, char **argv, struct mu_err *err);
int mu_bench_coll(struct mu_room *, int argc, char **argv, struct mu_err *err);
/* Measures nothing: only says, in the line `run`, who is there. Lies in room.c. */
int mu_bench_hosts(struct mu_room *, int argc, char **argv, struct mu_err *err);

#endif
