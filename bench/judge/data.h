/* Measurements as the judge sees them: for each test, size and host (or pair of hosts) a series with one value a trial.
 * Owner: who made it; one thread. Values are in the units of docs/formats.md, "Measurements". */
#ifndef MU_JUDGE_DATA_H
#define MU_JUDGE_DATA_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/base/err.h"

enum { MU_TAIL_MAX = 4096, MU_TREND_MIN = 9 };
enum mu_scope { MU_SCOPE_NODE, MU_SCOPE_PAIR, MU_SCOPE_GROUP };

struct mu_test {
    char name[80]; /* "pair.bw"; with "/float32/mpi" and the like where it is not the plain one */
    char unit[12];
    bool less;     /* less is better */
    bool additive; /* what counts is the distance from the peers, not the ratio: shares of time */
    /* Index of the test that this one is the trend of; its own: it is none. */
    uint32_t of;
    /* Of all hosts and trials of the first pass: at most MU_TAIL_MAX samples, each with the same chance to be there. */
    double *tail;
    uint32_t ntail;
    uint64_t seen;
};

struct mu_trials_key {
    uint32_t test;    /* index */
    int32_t from, to; /* hosts; node: from alone; group: the number of ranks and a hash of which */
    int32_t rank;     /* of from; -1: not told apart */
    uint32_t gpu;     /* of from: its index, counted from 1; 0: of the host */
    uint32_t round;   /* 0: the first pass; n: the n-th round of confirmation */
    uint64_t size;
};

struct mu_trials {
    struct mu_trials_key key;
    uint8_t scope; /* enum mu_scope */
    bool noisy, unsynced;
    uint16_t n, cap;  /* trials */
    double *v;        /* the median of each */
    uint64_t samples; /* in all trials */
    uint64_t wrong;
    char *uuid;       /* of the GPU; NULL: not known */
    double ci;        /* widest half width of a trial's interval, as a share of its median; 0: not known */
    double p99, late; /* worst of the trials; 0: not known */
    double waited;    /* share of the time in which ranks waited for processors that others used: sum over `nwaited` */
    uint16_t nwaited; /* trials; 0: not known */
    double min, max;
};

/* What bisection has found: an operation fails with these hosts and any other, or with these and those. */
struct mu_culprits {
    uint32_t test;
    uint64_t size;
    bool wrong; /* data; else it was slow */
    double drop;
    unsigned asked; /* questions */
    int32_t *v;     /* nhosts of the one, then nwith of the other */
    uint32_t nhosts, nwith;
};

struct mu_data {
    char **hosts;
    int32_t *group; /* of each host: the switch it is on, an index into groups; -1: not known */
    uint32_t nhosts, hosts_cap;
    char **groups;
    uint32_t ngroups;
    int32_t *rank_host; /* newest run's; -1: not known */
    uint32_t nranks;
    struct mu_test *tests;
    uint32_t ntests;
    struct mu_trials *series;
    uint32_t n, cap;
    uint32_t *slots; /* hash of the keys: index + 1 */
    uint32_t nslots;
    double residual_us; /* worst of the clocks; 0: not known */
    uint64_t measurements, skipped;
    struct mu_culprits *culprits;
    uint32_t nculprits;
};

void mu_data_free(struct mu_data *);
/* Index of the host, which is added when it is new. Negative: out of memory. */
int mu_data_host(struct mu_data *, const char *name);
int mu_data_group(struct mu_data *, uint32_t host, const char *name);
int mu_data_test(struct mu_data *, const char *name, const char *unit, bool less);
/* The series with that key, made when it is new; NULL: out of memory. Valid until the next one is made. */
struct mu_trials *mu_data_trials(struct mu_data *, const struct mu_trials_key *, enum mu_scope);
const struct mu_trials *mu_data_find(const struct mu_data *, const struct mu_trials_key *);
/* "GPU 2", and its UUID in brackets where that is known; gpu: as in a key. Returns buf. */
char *mu_data_gpu(const struct mu_data *, int32_t host, uint32_t gpu, char *buf, size_t n);
int mu_data_add(struct mu_trials *, double value);
int mu_data_tail(struct mu_test *, double sample);
double mu_trials_median(const struct mu_trials *);
void mu_trials_waited(struct mu_trials *, double share);

/* Reads "muster.samples/1". round: what confirms is kept apart from the first pass. A line that is cut off at the end
 * of the text is passed over; anything else that is no measurement is an error that names the line. */
int mu_data_read(struct mu_data *, const char *name, const char *text, size_t len, uint32_t round, struct mu_err *);

/* Adds, for each test of hosts and pairs that has MU_TREND_MIN trials or more, one with ".trend" behind its name: the
 * median of the last third of them by that of the first; what lies below 1 became worse. Once, when all is read. */
int mu_data_trends(struct mu_data *);

void mu_put_in_order(double *v, uint32_t n);
/* Of n > 0 values, which are put in order. */
double mu_median(double *v, uint32_t n);
/* 1.4826 times the median distance from the median; v is used up. */
double mu_mad_sigma(double *v, uint32_t n, double median);

#endif
