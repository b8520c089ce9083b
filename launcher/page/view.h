/* The status page as the controller serves it (docs/formats.md, "Status page"): one picture of the pool, and what is
 * made of it. Strings and pointers are borrowed: a picture is used up before the core's next step. */
#ifndef MU_LAUNCHER_PAGE_VIEW_H
#define MU_LAUNCHER_PAGE_VIEW_H

#include "launcher/core/metrics.h"
#include "launcher/page/trend.h"
#include "runtime/base/buf.h"

/* Rows that a list has at most; how many more there are is said. SPARKS: jobs with a line of their own. */
enum { MU_PAGE_JOBS = MU_METRICS_JOBS, MU_PAGE_ENDED = 10, MU_PAGE_EVENTS = 50, MU_PAGE_SPARKS = 50 };

struct mu_page_event {
    uint64_t job;
    double t;
    uint32_t attempt;
    int32_t rank; /* -1: none */
    char kind[32], node[256], detail[400];
};

struct mu_page_view {
    double t; /* now, seconds since 1970 */
    const char *host;
    bool words; /* reasons and details, too: who reads it has shown a token */
    struct mu_metrics m;
    const struct mu_metrics_job **running; /* ascending */
    const struct mu_m_jobrow **waiting;    /* in the order of the queue */
    const struct mu_m_jobrow **ended;      /* the newest first */
    unsigned nrunning, nwaiting, nended;
    unsigned waiting_in_all, up; /* jobs; nodes */
    const struct mu_trends *trends;
    struct mu_page_event *events; /* the newest first */
    unsigned nevents;
};
/* What the core knows; the rest is the caller's. mu_page_view_free it. MUSTER_ENOMEM. */
int mu_page_view_make(const struct mu_ctl *, uint64_t now, uint64_t wall, struct mu_page_view *);
void mu_page_view_free(struct mu_page_view *);

/* Of one job: its nodes and events. */
struct mu_page_job {
    const struct mu_m_jobrow *row;
    const struct mu_metrics_job *m; /* NULL: it does not run */
    struct mu_metrics_part *parts;  /* for free() */
    unsigned nparts;
};
/* MUSTER_EJOB: there is none. */
int mu_page_job_find(const struct mu_ctl *, const struct mu_page_view *, uint64_t id, struct mu_page_job *);

/* html.c: without a script they are whole, with it they are kept up to date. json.c: what it polls. */
void mu_page_html_pool(const struct mu_page_view *, struct mu_buf *out);
void mu_page_html_job(const struct mu_page_view *, const struct mu_page_job *, struct mu_buf *out);
void mu_page_json_pool(const struct mu_page_view *, struct mu_buf *out);
void mu_page_json_job(const struct mu_page_view *, const struct mu_page_job *, struct mu_buf *out);

/* Shared by the two: what a row says. < 0: not known. */
double mu_page_rate(const struct mu_page_view *, uint64_t job);
double mu_page_age(const struct mu_page_view *, uint64_t wall_ns); /* 0 is not known */
const char *mu_page_state(const struct mu_m_jobrow *);             /* "held" is one, too */
const char *mu_page_phase(unsigned phase);
/* Something is to be said of it. */
bool mu_page_odd(const struct mu_metrics_node *);
double
mu_page_silence(const struct mu_metrics_node *); /* of one that is not up; < 0: it has never been heard of, or is */
/* Tenths of its slots that are used, rounded up. */
unsigned mu_page_tenths(const struct mu_node *);

#endif
