/* Criteria: what measurements must be, as a text of lines (docs/formats.md, "Criteria"). There is no code in it. Pure.
 *
 *     ref   h200.nvls8 473 GB/s src="..." algo=NVLS size=8G
 *     check coll.allreduce.busbw size>=1G >= 0.95*peers >= 0.92*h200.nvls8
 *     check pair.bw each >= 0.90*median confirm=2/3
 *     require samples>=5 ci<=1% else inconclusive */
#ifndef MU_JUDGE_CRITERIA_H
#define MU_JUDGE_CRITERIA_H

#include "bench/judge/blame.h"
#include "bench/judge/data.h"

enum mu_dim { MU_DIM_NONE, MU_DIM_RATE, MU_DIM_FLOPS, MU_DIM_TIME };
enum mu_op { MU_OP_GE, MU_OP_LE, MU_OP_GT, MU_OP_LT, MU_OP_EQ };
enum mu_against { MU_AGAINST_NUMBER, MU_AGAINST_MEDIAN, MU_AGAINST_PEERS, MU_AGAINST_BASELINE, MU_AGAINST_REF };
enum mu_mode { MU_MODE_VALUE, MU_MODE_EACH, MU_MODE_DELTA };
enum { MU_BOUNDS_MAX = 4 };

struct mu_ref {
    char name[64];
    double value; /* in the base unit: bytes a second, operations a second, seconds */
    enum mu_dim dim;
    char unit[12];
    char source[200], params[200];
};

struct mu_bound {
    enum mu_op op;
    enum mu_against against;
    double factor; /* of what it is compared with; or the number, in the base unit */
    enum mu_dim dim;
    unsigned ref;
    char text[96]; /* as it was written */
};

struct mu_check {
    char metric[80]; /* '*' stands for anything */
    char text[200];  /* the line */
    unsigned line;
    uint64_t size_min, size_max;
    enum mu_mode mode;
    struct mu_bound bounds[MU_BOUNDS_MAX];
    unsigned nbounds;
    double spread; /* of the trials; 0: any */
    unsigned need, of;
    bool optional; /* passed over where it was not measured */
};

struct mu_criteria {
    struct mu_ref *refs;
    unsigned nrefs;
    struct mu_check *checks;
    unsigned nchecks;
    uint64_t samples; /* that each figure must rest on; 0: any */
    double ci, late;  /* 0: any */
    bool lack_fails;  /* where that is not so: fail, not inconclusive */
};

/* Error texts begin with "NAME:LINE:COLUMN: ". On failure *out is as it was. */
int mu_criteria_parse(const char *name, const char *text, size_t len, struct mu_criteria *out, struct mu_err *);
void mu_criteria_free(struct mu_criteria *);
/* The built-in ones of a profile (quick, standard, soak), and the references that stand before any file; NULL: none has
 * that name. */
const char *mu_criteria_builtin(const char *profile);
const char *mu_criteria_references(void);
bool mu_criteria_matches(const char *pattern, const char *name);
/* What the blame is to look for: for each test the least effect that a check with confirm= asks for. For free(). */
double *mu_criteria_effects(const struct mu_criteria *, const struct mu_data *);
void mu_criteria_confirm(const struct mu_criteria *, unsigned *need, unsigned *of);

/* --- judging -------------------------------------------------------------------------------------------------------
 */

enum mu_outcome { MU_PASS, MU_SKIPPED, MU_INCONCLUSIVE, MU_FAIL };

struct mu_result {
    const struct mu_check *check;
    enum mu_outcome outcome;
    double value, threshold; /* the worst, in the test's unit */
    char unit[12];
    unsigned figures, failed;
    const struct mu_trials *at; /* the worst, valid as long as the measurements are; NULL: none was compared */
    char where[200];            /* the worst */
    char why[300];              /* one line */
};

/* baseline: may be NULL. results: one for each check. */
void mu_criteria_judge(const struct mu_criteria *, const struct mu_data *, const struct mu_data *baseline,
                       const struct mu_blame *, struct mu_result *results);

enum mu_verdict { MU_VERDICT_PASS, MU_VERDICT_FAIL, MU_VERDICT_INCONCLUSIVE, MU_VERDICT_CORRUPT };
enum mu_verdict mu_verdict_of(const struct mu_result *, unsigned n, const struct mu_blame *, const struct mu_data *);
const char *mu_outcome_name(enum mu_outcome);
const char *mu_verdict_name(enum mu_verdict);
int mu_verdict_exit(enum mu_verdict); /* 0, 1, 3, 5 */

#endif
