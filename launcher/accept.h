/* muster accept: benchmarks one after the other, what they measured judged, the evidence kept. Everything of a run lies
 * in one directory: the journal says which steps are done, so that whatever is killed, at most one is made again. */
#ifndef MU_LAUNCHER_ACCEPT_H
#define MU_LAUNCHER_ACCEPT_H

#include <jansson.h>
#include <limits.h>
#include <stdbool.h>

#include "bench/judge/report.h"
#include "runtime/base/err.h"

enum { MU_ACCEPT_NOT_RUN = 4, MU_ACCEPT_INTERRUPTED = 6 }; /* exit codes beside those of verdicts */

struct mu_accept {
    char dir[PATH_MAX], token[64];
    json_t *begin;    /* the journal's first line: token profile run seed t command baseline soak_s ... */
    json_t *done;     /* steps: name -> its line */
    json_t *switches; /* host -> switch, or NULL */
    struct mu_data data, baseline;
    struct mu_criteria criteria;
    struct mu_blame blame;
    struct mu_result *results;
    enum mu_verdict verdict;
    struct mu_bench_team *team; /* the job that is there, or NULL */
    char **team_run;            /* its options */
    unsigned team_launch;
    bool anew; /* connections are made anew, of quick too */
    unsigned rounds;
    double seconds;                 /* that it was at work, in all */
    double before, since;           /* the same before this call; when the journal was last at work */
    bool resumed;                   /* a step was made since it goes on */
    bool quiet, fresh, made, ended; /* fresh: a new run, of which made: the directory, too; ended: all was measured
                                     * and judged */
    int lock;                       /* the journal, which nobody else goes on with; 0: none */
};

/* accept_journal.c. A new run in `output` (NULL: in the pool's state), with a baseline or NULL; one that is there, by
 * its token or directory, to be looked at or gone on with: then nobody else is at it. */
int mu_accept_new(struct mu_accept *, const char *output, json_t *begin, const char *criteria,
                  const struct mu_buf *baseline, struct mu_err *);
int mu_accept_open(struct mu_accept *, const char *where, struct mu_err *);
int mu_accept_go_on(struct mu_accept *, const char *where, struct mu_err *);
/* A new run in which nothing was measured leaves nothing. */
void mu_accept_undo(struct mu_accept *);
void mu_accept_free(struct mu_accept *);
/* Appended, and on the disk when it returns. Takes the line. */
int mu_accept_note(struct mu_accept *, json_t *line, struct mu_err *);
/* Reads what the finished steps have measured. */
int mu_accept_load(struct mu_accept *, struct mu_err *);
int mu_accept_sha256(const void *data, size_t len, char hex[65]);
/* A file in the directory of the run, and its sum. */
int mu_accept_put(const struct mu_accept *, const char *name, const char *text, size_t len, char hex[65],
                  struct mu_err *);

/* accept_steps.c. Whether these are names of benchmarks of the profile. */
int mu_accept_only(const char *names, const char *profile, struct mu_err *);
/* From now on SIGINT, SIGTERM and SIGHUP end a run before its next step, and waiting for another one at once. */
void mu_accept_watch(void);
bool mu_accept_stopped(void);
/* Nothing more will be measured; with wait, until the job has ended. */
void mu_accept_rest(struct mu_accept *, bool wait);
/* 0; an exit code: MU_ACCEPT_NOT_RUN, MU_ACCEPT_INTERRUPTED, MU_EXIT_USAGE (said already); negative: an error. */
int mu_accept_measure(struct mu_accept *, struct mu_err *);
/* accept_judge.c: blame with its confirmation, criteria, verdict. measure: whether suspects may be measured again. */
int mu_accept_judge(struct mu_accept *, bool measure, struct mu_err *);
/* One round of confirmation of what is suspected. */
int mu_accept_again(struct mu_accept *, unsigned round, struct mu_err *);
/* Finds the hosts that it takes for the operation of `test` to be wrong or, with a floor in GB/s, slow. */
int mu_accept_bisect(struct mu_accept *, uint32_t test, uint64_t size, double floor, struct mu_err *);
/* Writes the reports and the manifest. last: another run to show the difference to, or NULL. json: what --json prints,
 * for free(); may be NULL. */
int mu_accept_write(struct mu_accept *, const struct mu_accept *last, char **json, struct mu_buf *said,
                    struct mu_err *);

#endif
