/* The core as numbers, and what it has told so far, counted. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launcher/core/ctl_priv.h"
#include "launcher/core/metrics.h"
#include "runtime/base/clean.h"
#include "runtime/base/clock.h"
#include "runtime/base/str.h"

#define VITALS_NS (60 * MU_SEC) /* older ones are news of the past */

/* Kinds of events that are counted, so that each is there from the start, with 0. To add one: a row here. */
static const char *const kinds[] = {
    "submitted",   "started",      "attempt-start", "first-step",    "checkpoint", "restored",   "rank-exit",
    "rank-lost",   "agent-lost",   "keeper-lost",   "lease-lost",    "node-lost",  "hang",       "node-replaced",
    "shrunk",      "unwell",       "suspended",     "held",          "cancelled",  "finished",   "misbound",
    "output-lost", "node-changed", "stored",        "store-trouble", "gpu-xid",    "gpu-failed", NULL};
_Static_assert(MU_COUNT(kinds) <= MU_METRICS_EVENTS, "room for all kinds");

void mu_ctl_told(struct mu_ctl *c, const char *kind)
{
    for (unsigned i = 0; kinds[i]; i++)
        if (!strcmp(kinds[i], kind)) {
            c->told[i]++;
            return;
        }
}

const char *mu_node_state_name(const struct mu_node *n)
{
    static const char *const names[] = {
        [MU_NODE_AWAY] = "away", [MU_NODE_STARTING] = "starting", [MU_NODE_LOST] = "lost"};

    if (n->state != MU_NODE_UP)
        return n->state < MU_COUNT(names) && names[n->state] ? names[n->state] : "unknown";
    if (n->ready && n->drained)
        return n->used ? "draining" : "drained";
    return !n->ready ? "joining" : n->quarantine_until ? "quarantined" : "up";
}

/* How many of the names have all their numbers. */
static uint32_t counted(char *const *names, const struct mu_u32v *counts, unsigned of_each, unsigned most)
{
    size_t n = mu_strv_len(names);

    n = n < most ? n : most;
    return (uint32_t)(n < counts->n / (2 * of_each) ? n : counts->n / (2 * of_each));
}

static void take_counts(uint64_t *out, const struct mu_u32v *counts, unsigned of_each, unsigned i)
{
    const uint32_t *v = counts->v + (size_t)2 * of_each * i;

    for (unsigned f = 0; f < of_each; f++)
        out[f] = v[2 * f] | (uint64_t)v[2 * f + 1] << 32;
}

void mu_ctl_vitals(struct mu_ctl *c, int node, const struct mu_m_vitals *m)
{
    struct mu_node *n = &c->pool.v[node];
    uint32_t nics = counted(m->nics, &m->nic_counts, MU_NIC_COUNTS, MU_NICS);
    uint32_t disks = counted(m->disks, &m->disk_counts, MU_DISK_COUNTS, MU_DISKS);

    if (nics && !n->nics)
        n->nics = calloc(MU_NICS, sizeof *n->nics);
    if (disks && !n->disks)
        n->disks = calloc(MU_DISKS, sizeof *n->disks);
    n->nnics = n->nics ? nics : 0;
    n->ndisks = n->disks ? disks : 0;
    for (unsigned i = 0; i < n->nnics; i++) {
        snprintf(n->nics[i].name, sizeof n->nics[i].name, "%.15s", m->nics[i]);
        take_counts(n->nics[i].counts, &m->nic_counts, MU_NIC_COUNTS, i);
    }
    for (unsigned i = 0; i < n->ndisks; i++) {
        snprintf(n->disks[i].name, sizeof n->disks[i].name, "%.31s", m->disks[i]);
        take_counts(n->disks[i].counts, &m->disk_counts, MU_DISK_COUNTS, i);
    }
    n->vitals = *m;
    n->vitals.nics = n->vitals.disks = NULL; /* the message's own */
    n->vitals.nic_counts = n->vitals.disk_counts = (struct mu_u32v){0};
    n->vitals_at = c->now;
}

static double seconds(uint64_t ns)
{
    return (double)ns / 1e9;
}

static double since(uint64_t from, uint64_t to)
{
    return to > from ? seconds(to - from) : 0;
}

static void waits(struct mu_metrics *m, const struct job *j, uint64_t wall)
{
    const struct mu_m_jobrow *r = &j->row;
    double wait = since(r->since_wall ? r->since_wall : r->submitted_wall, wall);

    m->ranks_wanted += j->spec.ranks;
    m->oldest_wait = wait > m->oldest_wait ? wait : m->oldest_wait;
    m->held += r->held && *r->held;
}

static void job(struct mu_metrics_job *o, const struct job *j, uint64_t wall)
{
    const struct mu_m_jobrow *r = &j->row;
    uint64_t steps = j->nparts ? UINT64_MAX : 0;

    *o = (struct mu_metrics_job){.row = r,
                                 .id = r->id,
                                 .name = r->name ? r->name : "",
                                 .user = r->user ? r->user : "",
                                 .state = r->state,
                                 .ranks = r->ranks,
                                 .nodes = j->nparts,
                                 .attempt = r->attempt,
                                 .failures = r->failures,
                                 .noprogress = r->noprogress,
                                 .gpus = r->gpus,
                                 .step = r->step_plus1 ? (double)(r->step_plus1 - 1) : -1,
                                 .ckpt_step = r->ckpt_plus1 ? (double)(r->ckpt_plus1 - 1) : -1,
                                 .ckpt_age = r->ckpt_wall ? since(r->ckpt_wall, wall) : -1,
                                 .stored_step = r->stored_plus1 ? (double)(r->stored_plus1 - 1) : -1,
                                 .store_bytes = (double)j->store_bytes,
                                 .store_retries = (double)j->store_retries,
                                 .save_last = r->saves ? seconds(r->save_last_ns) : -1,
                                 .waited = seconds(r->waited_ns),
                                 .running = seconds(r->ran_ns) + (r->resumed_wall ? since(r->resumed_wall, wall) : 0),
                                 .stepping = seconds(r->stepping_ns)};
    for (unsigned i = 0; i < j->nparts; i++) {
        o->joined += j->parts[i].njoined;
        o->store_failing += j->parts[i].store_trouble != 0;
        steps = j->parts[i].steps < steps ? j->parts[i].steps : steps;
    }
    o->steps_done = (double)(r->steps_done + steps);
    if (r->first_step_wall) /* what comes after a failure of the attempt is no time of steps */
        o->stepping += since(r->first_step_wall, r->fail_attempt == r->attempt && r->fail_wall ? r->fail_wall : wall);
}

static double heard_age(const struct mu_node *n, uint64_t wall)
{
    return n->state == MU_NODE_UP ? 0 : n->away_wall ? since(n->away_wall, wall) : -1;
}

static uint64_t told(const struct mu_ctl *c, const char *kind)
{
    for (unsigned i = 0; kinds[i]; i++)
        if (!strcmp(kinds[i], kind))
            return c->told[i];
    return 0;
}

int mu_ctl_metrics(const struct mu_ctl *c, uint64_t now, uint64_t wall, struct mu_metrics *m)
{
    *m = (struct mu_metrics){.kinds = kinds, .nodes = calloc(c->pool.n + 1u, sizeof *m->nodes)};
    m->jobs = calloc((c->njobs < MU_METRICS_JOBS ? c->njobs : MU_METRICS_JOBS) + 1u, sizeof *m->jobs);
    if (!m->nodes || !m->jobs) {
        mu_metrics_free(m);
        return MUSTER_ENOMEM;
    }
    for (unsigned i = 0; i < c->pool.n; i++) {
        const struct mu_node *n = &c->pool.v[i];
        if (n->state == MU_NODE_NONE)
            continue;
        m->nodes[m->nnodes++] = (struct mu_metrics_node){
            .node = n,
            .heard_age = heard_age(n, wall),
            .vitals = n->state == MU_NODE_UP && n->vitals_at && now < n->vitals_at + VITALS_NS ? &n->vitals : NULL,
            .gpus = n->state == MU_NODE_UP && n->gpu_says && now < n->gpus_at + VITALS_NS ? n->gpu_says : NULL};
        if (n->state == MU_NODE_UP) {
            m->slots += n->slots;
            m->slots_used += n->used;
        }
    }
    for (unsigned i = 0; i < c->njobs; i++) {
        const struct job *j = c->jobs[i];
        if (j->row.state < MU_METRICS_STATES)
            m->jobs_in[j->row.state]++;
        if (mu_job_waits(j->row.state))
            waits(m, j, wall);
        if (!j->row.attempt || mu_job_over(j->row.state))
            continue;
        if (m->njobs < MU_METRICS_JOBS)
            job(&m->jobs[m->njobs++], j, wall);
        else
            m->hidden++;
    }
    for (unsigned i = 0; kinds[i]; i++)
        m->events[i] = c->told[i];
    uint64_t attempts = told(c, "attempt-start"), starts = told(c, "started");
    m->recoveries = attempts > starts ? attempts - starts : 0;
    memcpy(m->ended, c->ended, sizeof m->ended);
    return 0;
}

void mu_metrics_free(struct mu_metrics *m)
{
    free(m->nodes);
    free(m->jobs);
    m->nodes = NULL;
    m->jobs = NULL;
    m->nnodes = m->njobs = 0;
}

int mu_ctl_parts(const struct mu_ctl *c, uint64_t job, struct mu_metrics_part **out, unsigned *n)
{
    for (unsigned i = 0; i < c->njobs; i++) {
        const struct job *j = c->jobs[i];
        if (j->row.id != job)
            continue;
        struct mu_metrics_part *v = calloc(j->nparts + 1u, sizeof *v);
        uint32_t first = 0;
        if (!v)
            return MUSTER_ENOMEM;
        for (unsigned k = 0; k < j->nparts; k++) {
            const struct part *p = &j->parts[k];
            v[k] = (struct mu_metrics_part){.node = &c->pool.v[p->share.node],
                                            .first = first,
                                            .ranks = p->share.ranks,
                                            .joined = p->njoined,
                                            .failed = p->nfailed,
                                            .phase = p->phase,
                                            .step = p->steps ? (double)p->step : -1};
            first += p->share.ranks;
        }
        *out = v;
        *n = j->nparts;
        return 0;
    }
    return MUSTER_EJOB;
}
