/* What the operator signs: the verdict with its evidence, as JSON, CSV, JUnit and one HTML page. Pure: texts out. */
#ifndef MU_JUDGE_REPORT_H
#define MU_JUDGE_REPORT_H

#include <jansson.h>

#include "bench/judge/criteria.h"
#include "runtime/base/buf.h"

struct mu_report {
    const struct mu_data *d;
    const struct mu_data *last; /* an earlier run to show the difference to; NULL */
    const char *last_name;
    const struct mu_blame *b;
    const struct mu_criteria *c;
    const struct mu_result *r;
    unsigned nr;
    enum mu_verdict verdict;
    const char *token, *profile, *command, *version;
    double began_t, seconds;
    unsigned rounds; /* of confirmation that were made */
    bool unfinished; /* more would have been measured */
};

/* Schema muster.accept/1; NULL: out of memory. */
json_t *mu_report_json(const struct mu_report *);
/* A row for each figure. */
void mu_report_csv(const struct mu_report *, struct mu_buf *out);
/* A test case for each check, and one for each suspect. */
void mu_report_junit(const struct mu_report *, struct mu_buf *out);
/* Refers to nothing outside itself. */
void mu_report_html(const struct mu_report *, struct mu_buf *out);
/* For people, a few lines. */
void mu_report_text(const struct mu_report *, struct mu_buf *out);
/* What differs between two runs, worst first: one line each. The number of tests that got worse by `least` or more; in
 * *both how many figures there were to compare. */
unsigned mu_report_compare(const struct mu_data *a, const struct mu_data *b, double least, unsigned *both,
                           struct mu_buf *out);

/* Shared by the writers: what a text is in XML and HTML; "n3: sends 20.1 % less than the others (pair.bw)". */
void mu_report_escape(struct mu_buf *, const char *text);
void mu_report_suspect(const struct mu_report *, const struct mu_suspect *, struct mu_buf *out);

#endif
