#include "launcher/page/text.h"
#include "launcher/page/view.h"

#include <math.h>
#include <string.h>

#include "launcher/json.h"

static void key(struct mu_buf *out, const char *name)
{
    if (out->len && !strchr("{[,", out->data[out->len - 1]))
        mu_buf_putc(out, ',');
    mu_buf_appendf(out, "\"%s\":", name);
}

static void text(struct mu_buf *out, const char *name, const char *s)
{
    key(out, name);
    mu_page_json(out, s);
}

static void number(struct mu_buf *out, const char *name, double v)
{
    key(out, name);
    if (v == floor(v) && fabs(v) < 1e15)
        mu_buf_appendf(out, "%.0f", v);
    else
        mu_buf_appendf(out, "%.3f", v);
}

/* < 0: null. */
static void known(struct mu_buf *out, const char *name, double v)
{
    if (v >= 0) {
        number(out, name, v);
        return;
    }
    key(out, name);
    mu_buf_puts(out, "null");
}

static void next(struct mu_buf *out)
{
    mu_buf_puts(out, out->data[out->len - 1] == '[' ? "{" : ",{");
}

enum { T, V, AT };
static void line(struct mu_buf *out, const char *name, const struct mu_trend *r, int what)
{
    key(out, name);
    mu_buf_putc(out, '[');
    for (unsigned i = 0; i <= r->n; i++) {
        const struct mu_trend_point *p = i < r->n ? &r->v[i] : &r->latest[r->nlatest - 1];
        if (i == r->n && (!r->nlatest || (r->n && p->t <= r->v[r->n - 1].t)))
            break; /* the last of the latest is there already */
        const char *comma = i ? "," : "";
        if (what == T)
            mu_buf_appendf(out, "%s%.1f", comma, p->t);
        else if (what == V)
            mu_buf_appendf(out, "%s%.0f", comma, p->v);
        else
            mu_buf_appendf(out, "%s%u", comma, p->at);
    }
    mu_buf_putc(out, ']');
}

static void trend(struct mu_buf *out, const struct mu_trend *r, const char *v, const char *at)
{
    key(out, "trend");
    if (!r) {
        mu_buf_puts(out, "null");
        return;
    }
    mu_buf_putc(out, '{');
    line(out, "t", r, T);
    line(out, v, r, V);
    line(out, at, r, AT);
    mu_buf_putc(out, '}');
}

static void node(const struct mu_page_view *v, const struct mu_metrics_node *n, struct mu_buf *out)
{
    char buf[300];

    next(out);
    text(out, "name", n->node->name);
    text(out, "state", mu_node_state_name(n->node));
    number(out, "slots", n->node->slots);
    number(out, "used", n->node->used);
    number(out, "tenths", mu_page_tenths(n->node));
    if (n->node->gpus) {
        number(out, "gpus", n->node->gpus);
        number(out, "gpus_used", (double)n->node->gpus_used);
    }
    if (mu_page_odd(n)) {
        key(out, "odd");
        mu_buf_puts(out, "true");
        key(out, "unwell");
        mu_buf_puts(out, *n->node->unwell ? "true" : "false");
        known(out, "heard_s", mu_page_silence(n));
        if (v->words)
            text(out, "reason", mu_json_node_reason(n->node, buf, sizeof buf));
    }
    mu_buf_putc(out, '}');
}

static void whose(struct mu_buf *out, const struct mu_m_jobrow *r)
{
    number(out, "id", (double)r->id);
    text(out, "name", r->name);
    text(out, "user", r->user);
    text(out, "state", mu_page_state(r));
}

static void running(const struct mu_page_view *v, const struct mu_metrics_job *j, struct mu_buf *out)
{
    whose(out, j->row);
    number(out, "ranks", j->ranks);
    number(out, "joined", j->joined);
    number(out, "nodes", j->nodes);
    text(out, "node", j->row->nodes && *j->row->nodes ? *j->row->nodes : "");
    known(out, "step", j->step);
    known(out, "rate", mu_page_rate(v, j->id));
    number(out, "attempt", j->attempt);
    number(out, "restarts", j->attempt ? j->attempt - 1 : 0);
    number(out, "failures", j->failures);
    known(out, "checkpoint_step", j->ckpt_step);
    known(out, "checkpoint_age_s", j->ckpt_age);
    number(out, "save_s", (double)j->row->save_ns / 1e9);
    known(out, "save_last_s", j->save_last);
    number(out, "running_s", j->running);
    if (v->words)
        text(out, "reason", j->row->reason);
}

static void waiting(const struct mu_page_view *v, const struct mu_m_jobrow *r, struct mu_buf *out)
{
    next(out);
    known(out, "place", r->place ? r->place : -1.0);
    whose(out, r);
    number(out, "ranks", r->ranks);
    known(out, "waits_s", mu_page_age(v, r->since_wall ? r->since_wall : r->submitted_wall));
    known(out, "expected_s", r->expected_wall ? fmax(0, (double)r->expected_wall / 1e9 - v->t) : -1);
    if (v->words)
        text(out, "reason", r->reason);
    mu_buf_putc(out, '}');
}

static void events(const struct mu_page_view *v, struct mu_buf *out)
{
    key(out, "events");
    mu_buf_putc(out, '[');
    for (unsigned i = 0; i < v->nevents; i++) {
        const struct mu_page_event *e = &v->events[i];
        next(out);
        number(out, "t", e->t);
        text(out, "kind", e->kind);
        number(out, "job", (double)e->job);
        number(out, "attempt", e->attempt);
        known(out, "rank", e->rank);
        text(out, "node", e->node);
        if (v->words)
            text(out, "detail", e->detail);
        mu_buf_putc(out, '}');
    }
    mu_buf_putc(out, ']');
}

void mu_page_json_pool(const struct mu_page_view *v, struct mu_buf *out)
{
    mu_buf_puts(out, "{\"schema\":\"muster.page/1\"");
    number(out, "t", v->t);
    text(out, "host", v->host);
    number(out, "nodes_up", v->up);
    number(out, "nodes_all", v->m.nnodes);
    number(out, "slots", (double)v->m.slots);
    number(out, "slots_used", (double)v->m.slots_used);
    number(out, "running_all", v->nrunning + (double)v->m.hidden);
    number(out, "waiting_all", v->waiting_in_all);
    number(out, "recoveries", (double)v->m.recoveries);
    key(out, "nodes");
    mu_buf_putc(out, '[');
    for (unsigned i = 0; i < v->m.nnodes; i++)
        node(v, &v->m.nodes[i], out);
    mu_buf_putc(out, ']');
    key(out, "running");
    mu_buf_putc(out, '[');
    for (unsigned i = 0; i < v->nrunning; i++) {
        next(out);
        running(v, v->running[i], out);
        if (i < MU_PAGE_SPARKS && v->trends)
            trend(out, mu_trends_of(v->trends, v->running[i]->id), "steps", "attempt");
        mu_buf_putc(out, '}');
    }
    mu_buf_putc(out, ']');
    key(out, "waiting");
    mu_buf_putc(out, '[');
    for (unsigned i = 0; i < v->nwaiting; i++)
        waiting(v, v->waiting[i], out);
    mu_buf_putc(out, ']');
    key(out, "ended");
    mu_buf_putc(out, '[');
    for (unsigned i = 0; i < v->nended; i++) {
        next(out);
        whose(out, v->ended[i]);
        number(out, "exit_code", v->ended[i]->exit_code);
        known(out, "ended_s", mu_page_age(v, v->ended[i]->ended_wall));
        mu_buf_putc(out, '}');
    }
    mu_buf_putc(out, ']');
    events(v, out);
    trend(out, v->trends ? mu_trends_of(v->trends, 0) : NULL, "used", "recoveries");
    mu_buf_puts(out, "}\n");
}

void mu_page_json_job(const struct mu_page_view *v, const struct mu_page_job *j, struct mu_buf *out)
{
    mu_buf_puts(out, "{\"schema\":\"muster.page-job/1\"");
    number(out, "t", v->t);
    text(out, "host", v->host);
    key(out, "job");
    mu_buf_putc(out, '{');
    if (j->m) {
        running(v, j->m, out);
    } else {
        whose(out, j->row);
        number(out, "ranks", j->row->ranks);
        known(out, "step", (double)j->row->step_plus1 - 1);
        number(out, "attempt", j->row->attempt);
        number(out, "restarts", j->row->attempt ? j->row->attempt - 1 : 0);
        number(out, "failures", j->row->failures);
        known(out, "checkpoint_step", (double)j->row->ckpt_plus1 - 1);
        number(out, "running_s", (double)j->row->ran_ns / 1e9);
        if (v->words)
            text(out, "reason", j->row->reason);
    }
    mu_buf_putc(out, '}');
    key(out, "parts");
    mu_buf_putc(out, '[');
    for (unsigned i = 0; i < j->nparts; i++) {
        const struct mu_metrics_part *p = &j->parts[i];
        next(out);
        text(out, "node", p->node->name);
        text(out, "node_state", mu_node_state_name(p->node));
        number(out, "first", p->first);
        number(out, "ranks", p->ranks);
        number(out, "joined", p->joined);
        number(out, "failed", p->failed);
        text(out, "phase", mu_page_phase(p->phase));
        known(out, "step", p->step);
        mu_buf_putc(out, '}');
    }
    mu_buf_putc(out, ']');
    events(v, out);
    trend(out, v->trends ? mu_trends_of(v->trends, j->row->id) : NULL, "steps", "attempt");
    mu_buf_puts(out, "}\n");
}
