/* Benchmarks as jobs: `muster run` of libexec/muster/bench-rank in a child, whose rank 0 prints the lines that
 * docs/formats.md describes ("Measurements"). One thread, one at a time. */
#ifndef MU_LAUNCHER_BENCH_H
#define MU_LAUNCHER_BENCH_H

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

#include "runtime/base/err.h"

/* line: the text, with its end; root: the same, read. Kinds run, clock, measurement, culprits, skip, progress, end.
 */
typedef void (*mu_bench_line_fn)(void *arg, const char *line, json_t *root);

struct mu_bench_job {
    const char *name;  /* of the benchmark: node, pair, ... */
    char *const *run;  /* options of `muster run`; not of mu_bench_team_run */
    char *const *rank; /* options of bench-rank */
    mu_bench_line_fn line;
    void *arg;
};
/* Runs it to its end. The exit code: what the line `end` says (0, or 5: results were wrong), else that of `muster run`,
 * which has said what was the matter; 1 where the end is missing. Negative: it could not be started. */
int mu_bench_run(const struct mu_bench_job *, struct mu_err *);

/* One job whose ranks stay and make benchmarks as they are asked for: agents and MPI are started once. */
struct mu_bench_team;
/* label: how errors call it, and the job's name. */
int mu_bench_team_new(struct mu_bench_team **, const char *label, char *const *run, struct mu_err *);
/* The next benchmark, within the time. The exit code as from mu_bench_run, 124 where it took too long; after any but 0
 * and 5 the job has ended. */
int mu_bench_team_run(struct mu_bench_team *, const struct mu_bench_job *, uint64_t most_ns, struct mu_err *);
/* The ranks end, while the caller does something else. */
void mu_bench_team_dismiss(struct mu_bench_team *);
/* Whether SIGINT, SIGTERM or SIGHUP has come while there was a job, in the process's life. */
bool mu_bench_interrupted(void);
/* Waits until the job has ended. NULL is fine. */
void mu_bench_team_free(struct mu_bench_team *);

/* bench_show.c: tables of what was measured; trend: of its windows (trials) from the first to the last. Or JSON, schema
 * muster.bench/1. */
void mu_bench_show(FILE *, json_t *measurements, json_t *skipped, json_t *culprits, bool trend);
int mu_bench_show_json(FILE *, json_t *measurements, json_t *skipped, json_t *culprits, struct mu_err *);

#endif
