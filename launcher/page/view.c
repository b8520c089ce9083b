#include "launcher/page/view.h"

#include <stdlib.h>

#include "runtime/base/clean.h"
#include "runtime/base/clock.h"

static int by_place(const void *a, const void *b)
{
    const struct mu_m_jobrow *x = *(const struct mu_m_jobrow *const *)a, *y = *(const struct mu_m_jobrow *const *)b;
    uint32_t p = x->place ? x->place : UINT32_MAX, q = y->place ? y->place : UINT32_MAX;

    return p != q ? (p < q ? -1 : 1) : (x->id > y->id) - (x->id < y->id);
}

static int by_end(const void *a, const void *b)
{
    const struct mu_m_jobrow *x = *(const struct mu_m_jobrow *const *)a, *y = *(const struct mu_m_jobrow *const *)b;

    return x->ended_wall != y->ended_wall ? (x->ended_wall > y->ended_wall ? -1 : 1)
                                          : (x->id < y->id) - (x->id > y->id);
}

int mu_page_view_make(const struct mu_ctl *core, uint64_t now, uint64_t wall, struct mu_page_view *v)
{
    unsigned n = mu_ctl_job_count(core);
    const struct mu_m_jobrow *row;

    *v = (struct mu_page_view){.t = (double)wall / 1e9};
    if (mu_ctl_metrics(core, now, wall, &v->m))
        return MUSTER_ENOMEM;
    v->running = calloc(v->m.njobs + 1u, sizeof(void *));
    v->waiting = calloc(n + 1u, sizeof(void *));
    v->ended = calloc(n + 1u, sizeof(void *));
    v->events = calloc(MU_PAGE_EVENTS, sizeof *v->events);
    if (!v->running || !v->waiting || !v->ended || !v->events) {
        mu_page_view_free(v);
        return MUSTER_ENOMEM;
    }
    for (unsigned i = 0; i < v->m.njobs; i++)
        if (!mu_job_waits(v->m.jobs[i].state))
            v->running[v->nrunning++] = &v->m.jobs[i];
    for (unsigned i = 0; (row = mu_ctl_job(core, i, NULL)); i++) {
        if (mu_job_waits(row->state))
            v->waiting[v->nwaiting++] = row;
        else if (mu_job_over(row->state))
            v->ended[v->nended++] = row;
    }
    qsort(v->waiting, v->nwaiting, sizeof(void *), by_place);
    qsort(v->ended, v->nended, sizeof(void *), by_end);
    v->waiting_in_all = v->nwaiting;
    v->nwaiting = v->nwaiting < MU_PAGE_JOBS ? v->nwaiting : MU_PAGE_JOBS;
    v->nended = v->nended < MU_PAGE_ENDED ? v->nended : MU_PAGE_ENDED;
    for (unsigned i = 0; i < v->m.nnodes; i++)
        v->up += v->m.nodes[i].node->state == MU_NODE_UP && v->m.nodes[i].node->ready;
    return 0;
}

void mu_page_view_free(struct mu_page_view *v)
{
    mu_metrics_free(&v->m);
    free(v->running);
    free(v->waiting);
    free(v->ended);
    free(v->events);
    *v = (struct mu_page_view){0};
}

int mu_page_job_find(const struct mu_ctl *core, const struct mu_page_view *v, uint64_t id, struct mu_page_job *out)
{
    struct mu_page_job j = {0};

    for (unsigned i = 0; (j.row = mu_ctl_job(core, i, NULL)) && j.row->id != id; i++)
        ;
    int rc = j.row ? mu_ctl_parts(core, id, &j.parts, &j.nparts) : MUSTER_EJOB;
    if (rc)
        return rc;
    for (unsigned i = 0; i < v->m.njobs && !j.m; i++)
        if (v->m.jobs[i].id == id)
            j.m = &v->m.jobs[i];
    *out = j;
    return 0;
}

double mu_page_rate(const struct mu_page_view *v, uint64_t job)
{
    const struct mu_trend *r = v->trends ? mu_trends_of(v->trends, job) : NULL;

    return r && v->t - r->seen < 30 ? mu_trend_rate(r) : -1;
}

double mu_page_age(const struct mu_page_view *v, uint64_t wall_ns)
{
    double t = (double)wall_ns / 1e9;

    return !wall_ns ? -1 : v->t > t ? v->t - t : 0;
}

const char *mu_page_state(const struct mu_m_jobrow *r)
{
    return mu_job_waits(r->state) && r->held && *r->held ? "held" : mu_job_state_name(r->state);
}

const char *mu_page_phase(unsigned phase)
{
    static const char *const names[] = {
        [MU_PHASE_IDLE] = "sent",      [MU_PHASE_STARTING] = "starting", [MU_PHASE_RUNNING] = "running",
        [MU_PHASE_KILLING] = "ending", [MU_PHASE_GONE] = "gone",         [MU_PHASE_LOST] = "lost"};

    return phase < MU_COUNT(names) ? names[phase] : "unknown";
}

bool mu_page_odd(const struct mu_metrics_node *n)
{
    return n->node->state != MU_NODE_UP || !n->node->ready || mu_pool_out(n->node) || n->node->suspect ||
           *n->node->unwell;
}

double mu_page_silence(const struct mu_metrics_node *n)
{
    return n->node->state == MU_NODE_UP ? -1 : n->heard_age;
}

unsigned mu_page_tenths(const struct mu_node *n)
{
    uint64_t tenths = n->slots ? ((uint64_t)n->used * 10 + n->slots - 1) / n->slots : 0;

    return tenths > 10 ? 10 : (unsigned)tenths;
}
