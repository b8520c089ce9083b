#include "launcher/query.h"

#include <stdlib.h>
#include <string.h>

#include "launcher/gate.h"
#include "launcher/json.h"
#include "runtime/base/clean.h"
#include "runtime/base/clock.h"
#include "runtime/base/log.h"

#define EVENTS_MAX 20000u
#define RECENT_MAX 50u

static int add_jobs(const struct mu_query_env *e, struct mu_json *j, bool all, bool brief)
{
    const struct mu_m_jobrow *row;

    for (unsigned i = 0; (row = mu_ctl_job(e->core, i, NULL)); i++)
        if ((all || !mu_job_over(row->state)) && !mu_gate_hides(e->who, row->user))
            mu_json_add_job(j, row, brief);
    return 0;
}

static int list_jobs(const struct mu_query_env *e, struct mu_json *j, const struct mu_m_query *q, struct mu_err *err)
{
    (void)err;
    return add_jobs(e, j, q->all, false);
}

/* Thousands are much to make and to read. */
static int list_brief(const struct mu_query_env *e, struct mu_json *j, const struct mu_m_query *q, struct mu_err *err)
{
    (void)err;
    return add_jobs(e, j, q->all, true);
}

static int one_job(const struct mu_query_env *e, struct mu_json *j, const struct mu_m_query *q, struct mu_err *err)
{
    const struct mu_m_jobrow *row;
    struct mu_m_jobrow old;

    for (unsigned i = 0; (row = mu_ctl_job(e->core, i, NULL)); i++) {
        if (row->id == q->job) {
            mu_json_add_job(j, row, false);
            return 0;
        }
    }
    int rc = mu_store_job(e->store, q->job, &old, err);
    if (rc)
        return rc;
    mu_json_add_job(j, &old, false);
    mu_msg_free_body(MU_MSG_jobrow, &old);
    return 0;
}

static int list_nodes(const struct mu_query_env *e, struct mu_json *j, const struct mu_m_query *q, struct mu_err *err)
{
    const struct mu_pool *pool = mu_ctl_pool(e->core);

    (void)q, (void)err;
    mu_json_fabric(j, e->fabric, pool);
    for (unsigned i = 0; i < pool->n; i++)
        if (pool->v[i].state != MU_NODE_NONE)
            mu_json_add_node(j, &pool->v[i], e->fabric->place);
    return 0;
}

static int list_checks(const struct mu_query_env *e, struct mu_json *j, const struct mu_m_query *q, struct mu_err *err)
{
    const struct mu_pool *pool = mu_ctl_pool(e->core);

    (void)q, (void)err;
    for (unsigned i = 0; i < pool->n; i++)
        if (pool->v[i].state != MU_NODE_NONE)
            mu_json_add_checks(j, &pool->v[i]);
    return 0;
}

/* The same pool with nothing on it. v NULL: out of memory. */
static struct mu_pool emptied(const struct mu_pool *pool)
{
    struct mu_pool idle = *pool;

    idle.v = malloc((pool->n + 1u) * sizeof *idle.v);
    for (unsigned i = 0; idle.v && i < pool->n; i++) {
        idle.v[i] = pool->v[i];
        idle.v[i].used = 0;
        idle.v[i].gpus_used = idle.v[i].memory_used = 0;
        idle.v[i].ready = idle.v[i].state == MU_NODE_UP;
        idle.v[i].stale = false;
    }
    return idle;
}

/* Where a job would go if it were the next one; if it had to wait, once everything else has ended. */
static int place_job(const struct mu_query_env *e, struct mu_json *j, const struct mu_m_query *q, struct mu_err *err)
{
    const struct mu_pool *pool = mu_ctl_pool(e->core);
    struct mu_share *shares = NULL;
    struct mu_m_spec spec = {0};
    unsigned n = 0, nspares = 0;
    char why[400] = "";
    int rc = mu_msg_unpack(&q->spec, MU_MSG_spec, &spec, err);

    if (rc)
        return rc;
    if (!(rc = mu_spec_check(&spec, err))) {
        enum mu_fit fit = mu_pool_fit(pool, 0, &spec, &shares, &n, &nspares, why, sizeof why);
        mu_json_placed(j, fit, why);
        struct mu_ctl_would would;
        if (fit != MU_FIT_NEVER && !(rc = mu_ctl_would(e->core, &spec, mu_now(), mu_wall(), &would)))
            mu_json_would(j, &would);
        if (fit == MU_FIT_LATER) {
            struct mu_pool idle = emptied(pool);
            if (idle.v && mu_pool_fit(&idle, 0, &spec, &shares, &n, &nspares, why, sizeof why) != MU_FIT_YES)
                n = nspares = 0;
            free(idle.v);
        }
        for (unsigned i = 0; shares && i < n + nspares; i++)
            mu_json_add_share(j, &pool->v[shares[i].node], shares[i].ranks);
    }
    free(shares);
    mu_msg_free_body(MU_MSG_spec, &spec);
    return rc;
}

static int add_event(void *arg, const struct mu_store_event *event)
{
    return mu_json_add_event(arg, event);
}

static int list_events(const struct mu_query_env *e, struct mu_json *j, const struct mu_m_query *q, struct mu_err *err)
{
    struct mu_err why;

    if (mu_commit_flush(e->commit, &why))
        mu_log(MU_LOG_WARN, "store", "%s; events that were not stored are not listed", why.text);
    if (q->job) { /* a job without events is another thing than no job */
        struct mu_json *probe = mu_json_new("", "jobs");
        int rc = probe ? one_job(e, probe, q, err) : MUSTER_ENOMEM;
        mu_json_free(probe);
        if (rc)
            return rc;
    }
    if (!q->job && mu_gate_hides(e->who, NULL))
        return mu_err_set(err, MUSTER_EPERM, "name a job: events of all jobs are not for users here");
    return mu_store_events(e->store, q->job, EVENTS_MAX, add_event, j, err);
}

static void add_history(void *arg, const struct mu_m_inventory *m)
{
    mu_json_add_history(arg, m);
}

/* The pool's nodes; or one, which need not be in it any more, with its history. */
static int list_inventory(const struct mu_query_env *e, struct mu_json *j, const struct mu_m_query *q,
                          struct mu_err *err)
{
    bool one = q->node && *q->node;
    struct mu_ctl_made made;
    struct mu_err why;

    if (one && mu_commit_flush(e->commit, &why))
        mu_log(MU_LOG_WARN, "store", "%s; inventories that were not stored are not listed", why.text);

    for (unsigned i = 0; mu_ctl_made(e->core, i, &made); i++) {
        if (one ? strcmp(made.node, q->node) != 0 : mu_pool_find(mu_ctl_pool(e->core), made.node) < 0)
            continue;
        mu_json_add_made(j, &made);
        if (!one)
            continue;
        int rc = mu_store_inventory(e->store, q->node, add_history, j, err);
        return rc == MUSTER_ECORRUPT ? 0 : rc; /* without what is damaged */
    }
    return one ? mu_err_set(err, MUSTER_EARG,
                            "there is no inventory of %.200s; `muster nodes inventory` lists those that there are",
                            q->node)
               : 0;
}

struct recent {
    const struct mu_query_env *e;
    struct mu_json *j;
};

/* Of jobs that whoever asks may see. */
static int add_recent(void *arg, const struct mu_store_event *event)
{
    const struct recent *r = arg;
    const struct mu_m_jobrow *row = NULL;
    bool all = !mu_gate_hides(r->e->who, NULL);

    for (unsigned i = 0; !all && (row = mu_ctl_job(r->e->core, i, NULL)) && row->id != event->job; i++)
        ;
    return all || (row && !mu_gate_hides(r->e->who, row->user)) ? mu_json_add_event(r->j, event) : 0;
}

/* The newest of all jobs: no more than are looked at. */
static int list_recent(const struct mu_query_env *e, struct mu_json *j, const struct mu_m_query *q, struct mu_err *err)
{
    (void)q;
    return mu_store_events(e->store, 0, RECENT_MAX, add_recent, &(struct recent){e, j}, err);
}

/* To add a query: a row here, its function above, its schema in docs/formats.md. */
static const struct {
    const char *what, *schema, *list;
    int (*fill)(const struct mu_query_env *, struct mu_json *, const struct mu_m_query *, struct mu_err *);
} queries[] = {
    {"jobs", "muster.jobs/1", "jobs", list_jobs},         {"status", "muster.jobs/1", "jobs", one_job},
    {"nodes", "muster.nodes/1", "nodes", list_nodes},     {"events", "muster.events/1", "events", list_events},
    {"place", "muster.placed/1", "nodes", place_job},     {"checks", "muster.checks/1", "nodes", list_checks},
    {"table", "muster.jobs/1", "jobs", list_brief},       {"inventory", "muster.inventory/1", "nodes", list_inventory},
    {"recent", "muster.events/1", "events", list_recent},
};

int mu_query_answer(const struct mu_query_env *e, const struct mu_m_query *q, char **text, struct mu_err *err)
{
    if (q->what && e->who && !strcmp(q->what, "audit"))
        return (*text = mu_gate_audit(e->who, q->all, err)) ? 0 : err->code;
    if (q->what && e->backup && (!strcmp(q->what, "backup") || !strcmp(q->what, "copies"))) {
        *text = e->backup(e->arg, !strcmp(q->what, "backup"));
        return *text ? 0 : mu_err_set(err, MUSTER_ENOMEM, "out of memory");
    }
    for (size_t i = 0; i < MU_COUNT(queries); i++) {
        if (!q->what || strcmp(q->what, queries[i].what))
            continue;
        struct mu_json *j = mu_json_new(queries[i].schema, queries[i].list);
        int rc = j ? queries[i].fill(e, j, q, err) : MUSTER_ENOMEM;
        char *json = j && !rc ? mu_json_text(j) : NULL;
        mu_json_free(j);
        if (!rc && !json)
            rc = MUSTER_ENOMEM;
        if (!rc)
            *text = json;
        return rc == MUSTER_ENOMEM ? mu_err_set(err, rc, "out of memory") : rc;
    }
    return mu_err_set(err, MUSTER_EARG, "this controller does not know that query");
}
