#include "launcher/page/text.h"
#include "launcher/page/view.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "launcher/json.h"
#include "runtime/base/clean.h"
#include "runtime/base/clock.h"
#include "runtime/base/str.h"

/* Columns of the tables, for people without a script and for page.js, which fills the same ones. minor: not on a phone.
 * words: only who may read reasons has it. To add one: a row here, a cell below and in page.js. */
struct column {
    const char *title;
    bool number, minor, words;
};
static const struct column of_running[] = {{"Job"},
                                           {"Name"},
                                           {"User", .minor = 1},
                                           {"State"},
                                           {"Ranks", 1, 1},
                                           {"Node", .minor = 1},
                                           {"Step", 1},
                                           {"Steps/s", 1},
                                           {"Over time", .minor = 1},
                                           {"Restarts", 1},
                                           {"Checkpoint", 1, 1},
                                           {"Time", 1, 1},
                                           {"Reason", .words = 1}};
static const struct column of_waiting[] = {{"Place"},
                                           {"Job"},
                                           {"Name"},
                                           {"User", .minor = 1},
                                           {"State"},
                                           {"Ranks", 1},
                                           {"Waits for", 1},
                                           {"Starts in", 1, 1},
                                           {"Reason", .words = 1}};
static const struct column of_ended[] = {{"Job"}, {"Name"}, {"User", .minor = 1}, {"State"}, {"Code", 1}, {"Ended", 1}};
static const struct column of_odd[] = {{"Node"}, {"State"}, {"Used", 1}, {"Silent for", 1}, {"Reason", .words = 1}};
static const struct column of_events[] = {
    {"When"}, {"What"}, {"Job"}, {"Attempt", .minor = 1}, {"Rank"}, {"Node"}, {"Detail", .words = 1}};
static const struct column of_parts[] = {{"Ranks"},     {"Node"},   {"Node is", .minor = 1}, {"Phase"}, {"Joined", 1},
                                         {"Failed", 1}, {"Step", 1}};

/* --- pieces --------------------------------------------------------------------------------------------------------
 */

static const char *ago(char *buf, size_t n, double seconds)
{
    if (seconds < 0)
        return "";
    if (seconds < 60) /* whole ones: it is not a measurement */
        snprintf(buf, n, "%.0f s", seconds);
    else
        mu_str_fmt_duration(buf, n, (uint64_t)(seconds * 1e9));
    return buf;
}

static void cell(struct mu_buf *out, const struct column *c, const char *s)
{
    mu_buf_puts(out, c->number  ? (c->minor ? "<td class=\"n m\">" : "<td class=n>")
                     : c->minor ? "<td class=m>"
                                : "<td>");
    mu_page_html(out, s);
}

static void cell_number(struct mu_buf *out, const struct column *c, double v, const char *fmt)
{
    char buf[64] = "";

    if (v >= 0)
        snprintf(buf, sizeof buf, fmt, v);
    cell(out, c, buf);
}

static void cell_rate(struct mu_buf *out, const struct column *c, double v)
{
    cell_number(out, c, v, v < 10 ? "%.2f" : v < 100 ? "%.1f" : "%.0f");
}

static void cell_ago(struct mu_buf *out, const struct column *c, double seconds)
{
    char buf[64];

    cell(out, c, ago(buf, sizeof buf, seconds));
}

static void cell_state(struct mu_buf *out, const char *state)
{
    mu_buf_puts(out, "<td><b class=\"s ");
    mu_page_html(out, state);
    mu_buf_puts(out, "\">");
    mu_page_html(out, state);
    mu_buf_puts(out, "</b>");
}

static void cell_job(struct mu_buf *out, uint64_t id)
{
    mu_buf_appendf(out, "<td><a href=\"/job/%" PRIu64 "\">%" PRIu64 "</a>", id, id);
}

static void table(const struct mu_page_view *v, struct mu_buf *out, const char *id, const struct column *c, size_t n,
                  bool empty, const char *none)
{
    mu_buf_appendf(out, "<p class=none id=%s-none%s>%s</p><div class=wide><table id=%s%s><thead><tr>", id,
                   empty ? "" : " hidden", none, id, empty ? " hidden" : "");
    for (size_t i = 0; i < n; i++)
        if (!c[i].words || v->words)
            mu_buf_appendf(out, "<th scope=col class=\"%s%s\">%s", c[i].number ? "n" : "", c[i].minor ? " m" : "",
                           c[i].title);
    mu_buf_puts(out, "</thead><tbody>\n");
}

static void table_end(struct mu_buf *out)
{
    mu_buf_puts(out, "</tbody></table></div>");
}

/* id: of what page.js puts there. */
static void sum(struct mu_buf *out, const char *id, const char *title, const char *value)
{
    mu_buf_appendf(out, "<div><dt>%s</dt><dd id=%s>", title, id);
    mu_page_html(out, value);
    mu_buf_puts(out, "</dd></div>");
}

static void sumf(struct mu_buf *out, const char *id, const char *title, const char *fmt, ...) MU_PRINTF(4, 5);
static void sumf(struct mu_buf *out, const char *id, const char *title, const char *fmt, ...)
{
    char buf[200];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(buf, sizeof buf, fmt, ap);
    va_end(ap);
    sum(out, id, title, buf);
}

static void begin(const struct mu_page_view *v, struct mu_buf *out, const char *kind, const char *poll)
{
    time_t now = (time_t)v->t;
    struct tm tm;
    char clock[40] = "";

    if (gmtime_r(&now, &tm))
        strftime(clock, sizeof clock, "%Y-%m-%d %H:%M:%S UTC", &tm);
    mu_buf_puts(out, "<!doctype html><html lang=en><head><meta charset=utf-8>"
                     "<meta name=viewport content=\"width=device-width,initial-scale=1\">"
                     "<meta name=color-scheme content=\"light dark\"><title>muster: ");
    mu_page_html(out, v->host);
    mu_buf_puts(out, "</title><link rel=icon href=/icon.svg><link rel=stylesheet href=/page.css>"
                     "<script src=/page.js defer></script>"
                     "<noscript><meta http-equiv=refresh content=10></noscript></head>\n");
    mu_buf_appendf(out, "<body data-page=%s data-poll=\"%s\"><header><a href=/ class=logo>muster</a> <span id=host>",
                   kind, poll);
    mu_page_html(out, v->host);
    mu_buf_appendf(out, "</span><p id=live role=status>as of %s</p></header>\n<main>\n", clock);
}

static void end(struct mu_buf *out)
{
    mu_buf_puts(out, "</main></body></html>\n");
}

/* --- the pool ------------------------------------------------------------------------------------------------------
 */

static void map(const struct mu_page_view *v, struct mu_buf *out)
{
    mu_buf_appendf(out, "<ul id=map class=\"%s\">\n", v->m.nnodes > 60 ? "dense" : "roomy");
    for (unsigned i = 0; i < v->m.nnodes; i++) {
        const struct mu_node *n = v->m.nodes[i].node;
        const char *state = mu_node_state_name(n), *unwell = *n->unwell ? ", unwell" : "";
        mu_buf_appendf(out, "<li class=\"%s%s f%u\" title=\"", state, *n->unwell ? " unwell" : "", mu_page_tenths(n));
        mu_page_html(out, n->name);
        mu_buf_appendf(out, ": %s%s, %u of %u slots used\"><b>", state, unwell, n->used, n->slots);
        mu_page_html(out, n->name);
        mu_buf_appendf(out, "</b><i>%s%s</i><span>%u/%u</span>\n", state, unwell, n->used, n->slots);
    }
    mu_buf_puts(out, "</ul>");
}

static void odd(const struct mu_page_view *v, struct mu_buf *out)
{
    bool none = true;
    char buf[300];

    for (unsigned i = 0; i < v->m.nnodes && none; i++)
        none = !mu_page_odd(&v->m.nodes[i]);
    table(v, out, "odd", of_odd, MU_COUNT(of_odd), none, v->m.nnodes ? "All of them are well." : "There are no nodes.");
    for (unsigned i = 0; i < v->m.nnodes; i++) {
        const struct mu_metrics_node *n = &v->m.nodes[i];
        if (!mu_page_odd(n))
            continue;
        mu_buf_puts(out, "<tr>");
        cell(out, &of_odd[0], n->node->name);
        cell_state(out, *n->node->unwell && n->node->state == MU_NODE_UP && !mu_pool_out(n->node)
                            ? "unwell"
                            : mu_node_state_name(n->node));
        mu_buf_appendf(out, "<td class=n>%u/%u", n->node->used, n->node->slots);
        cell_ago(out, &of_odd[3], mu_page_silence(n));
        if (v->words)
            cell(out, &of_odd[4], mu_json_node_reason(n->node, buf, sizeof buf));
        mu_buf_puts(out, "</tr>\n");
    }
    table_end(out);
}

static void running(const struct mu_page_view *v, struct mu_buf *out)
{
    const struct column *c = of_running;

    mu_buf_puts(out, "<section><h2>Running</h2>");
    table(v, out, "running", c, MU_COUNT(of_running), !v->nrunning, "Nothing runs.");
    for (unsigned i = 0; i < v->nrunning; i++) {
        const struct mu_metrics_job *j = v->running[i];
        char ranks[64], nodes[300];
        if (j->joined && j->joined < j->ranks)
            snprintf(ranks, sizeof ranks, "%u of %u", j->joined, j->ranks);
        else
            snprintf(ranks, sizeof ranks, "%u", j->ranks);
        snprintf(nodes, sizeof nodes, j->nodes > 1 ? "%s +%u" : "%s",
                 j->row->nodes && *j->row->nodes ? *j->row->nodes : "", j->nodes - 1);
        mu_buf_puts(out, "<tr>");
        cell_job(out, j->id);
        cell(out, &c[1], j->name);
        cell(out, &c[2], j->user);
        cell_state(out, mu_page_state(j->row));
        cell(out, &c[4], ranks);
        cell(out, &c[5], nodes);
        cell_number(out, &c[6], j->step, "%.0f");
        cell_rate(out, &c[7], mu_page_rate(v, j->id));
        cell(out, &c[8], "");
        cell_number(out, &c[9], j->attempt - 1.0, "%.0f");
        cell_ago(out, &c[10], j->ckpt_age);
        cell_ago(out, &c[11], j->running);
        if (v->words)
            cell(out, &c[12], j->row->reason);
        mu_buf_puts(out, "</tr>\n");
    }
    table_end(out);
    mu_buf_appendf(out, "<p class=more id=running-more%s>and %u more</p></section>\n", v->m.hidden ? "" : " hidden",
                   v->m.hidden);
}

static void waiting(const struct mu_page_view *v, struct mu_buf *out)
{
    const struct column *c = of_waiting;
    unsigned more = v->waiting_in_all - v->nwaiting;

    mu_buf_puts(out, "<section><h2>Queue</h2>");
    table(v, out, "waiting", c, MU_COUNT(of_waiting), !v->nwaiting, "Nothing waits.");
    for (unsigned i = 0; i < v->nwaiting; i++) {
        const struct mu_m_jobrow *r = v->waiting[i];
        double starts = (double)r->expected_wall / 1e9 - v->t;
        mu_buf_puts(out, "<tr>");
        cell_number(out, &c[0], r->place ? r->place : -1.0, "%.0f");
        cell_job(out, r->id);
        cell(out, &c[2], r->name);
        cell(out, &c[3], r->user);
        cell_state(out, mu_page_state(r));
        cell_number(out, &c[5], r->ranks, "%.0f");
        cell_ago(out, &c[6], mu_page_age(v, r->since_wall ? r->since_wall : r->submitted_wall));
        cell_ago(out, &c[7], !r->expected_wall ? -1 : starts > 0 ? starts : 0);
        if (v->words)
            cell(out, &c[8], r->reason);
        mu_buf_puts(out, "</tr>\n");
    }
    table_end(out);
    mu_buf_appendf(out, "<p class=more id=waiting-more%s>and %u more</p></section>\n", more ? "" : " hidden", more);
}

static void ended(const struct mu_page_view *v, struct mu_buf *out)
{
    const struct column *c = of_ended;

    mu_buf_puts(out, "<section><h2>Ended lately</h2>");
    table(v, out, "ended", c, MU_COUNT(of_ended), !v->nended, "Nothing has ended.");
    for (unsigned i = 0; i < v->nended; i++) {
        const struct mu_m_jobrow *r = v->ended[i];
        mu_buf_puts(out, "<tr>");
        cell_job(out, r->id);
        cell(out, &c[1], r->name);
        cell(out, &c[2], r->user);
        cell_state(out, mu_page_state(r));
        mu_buf_appendf(out, "<td class=n>%d", (int)r->exit_code);
        cell_ago(out, &c[5], mu_page_age(v, r->ended_wall));
        mu_buf_puts(out, "</tr>\n");
    }
    table_end(out);
    mu_buf_puts(out, "</section>\n");
}

static void events(const struct mu_page_view *v, struct mu_buf *out)
{
    const struct column *c = of_events;

    mu_buf_puts(out, "<section><h2>Events</h2>");
    table(v, out, "events", c, MU_COUNT(of_events), !v->nevents, "Nothing has happened.");
    for (unsigned i = 0; i < v->nevents; i++) {
        const struct mu_page_event *e = &v->events[i];
        mu_buf_puts(out, "<tr>");
        cell_ago(out, &c[0], v->t > e->t ? v->t - e->t : 0);
        cell(out, &c[1], e->kind);
        cell_job(out, e->job);
        cell_number(out, &c[3], e->attempt ? e->attempt : -1.0, "%.0f");
        cell_number(out, &c[4], e->rank, "%.0f");
        cell(out, &c[5], e->node);
        if (v->words)
            cell(out, &c[6], e->detail);
        mu_buf_puts(out, "</tr>\n");
    }
    table_end(out);
    mu_buf_puts(out, "</section>\n");
}

void mu_page_html_pool(const struct mu_page_view *v, struct mu_buf *out)
{
    begin(v, out, "pool", "/status.json");
    mu_buf_puts(out, "<dl class=sums>");
    sumf(out, "sum-nodes", "Nodes up", "%u of %u", v->up, v->m.nnodes);
    sumf(out, "sum-slots", "Slots used", "%" PRIu64 " of %" PRIu64, v->m.slots_used, v->m.slots);
    sumf(out, "sum-running", "Running", "%u", v->nrunning + v->m.hidden);
    sumf(out, "sum-waiting", "Waiting", "%u", v->waiting_in_all);
    sumf(out, "sum-recoveries", "Recoveries", "%" PRIu64, v->m.recoveries);
    mu_buf_puts(
        out, "</dl>\n<section id=over-time hidden><h2>Slots used and recoveries</h2><div class=chart></div></section>"
             "\n<section><h2>Nodes</h2>");
    map(v, out);
    odd(v, out);
    mu_buf_puts(out, "</section>\n");
    running(v, out);
    waiting(v, out);
    events(v, out);
    ended(v, out);
    end(out);
}

/* --- a job ---------------------------------------------------------------------------------------------------------
 */

/* How long the last one held up its ranks, and what part of the time all of them did. */
static const char *saves(char *buf, size_t n, const struct mu_page_job *j)
{
    if (!j->m || j->m->save_last < 0)
        return "-";
    double part = j->m->running > 0 ? 100 * (double)j->row->save_ns / 1e9 / j->m->running : 0;
    snprintf(buf, n, "%.2f s, %.1f %%", j->m->save_last, part < 100 ? part : 100);
    return buf;
}

void mu_page_html_job(const struct mu_page_view *v, const struct mu_page_job *j, struct mu_buf *out)
{
    const struct mu_m_jobrow *r = j->row;
    double rate = j->m ? mu_page_rate(v, r->id) : -1;
    char poll[60], text[64];

    snprintf(poll, sizeof poll, "/job/%" PRIu64 ".json", r->id);
    begin(v, out, "job", poll);
    mu_buf_appendf(out, "<h1>Job %" PRIu64 " <span id=name>", r->id);
    mu_page_html(out, r->name);
    mu_buf_puts(out, "</span></h1>\n<dl class=sums>");
    sum(out, "sum-state", "State", mu_page_state(r));
    sum(out, "sum-user", "User", r->user);
    if (j->m)
        sumf(out, "sum-ranks", "Ranks joined", "%u of %u", j->m->joined, r->ranks);
    else
        sumf(out, "sum-ranks", "Ranks", "%u", r->ranks);
    snprintf(text, sizeof text, "%" PRIu64, r->step_plus1 - 1);
    sum(out, "sum-step", "Step", r->step_plus1 ? text : "-");
    snprintf(text, sizeof text, "%.*f", rate < 10 ? 2 : rate < 100 ? 1 : 0, rate);
    sum(out, "sum-rate", "Steps/s", rate < 0 ? "-" : text);
    sumf(out, "sum-restarts", "Restarts", "%u", r->attempt ? r->attempt - 1 : 0);
    snprintf(text, sizeof text, "%" PRIu64, r->ckpt_plus1 - 1);
    sum(out, "sum-checkpoint", "Checkpoint", r->ckpt_plus1 ? text : "-");
    sum(out, "sum-save", "Save holds up", saves(text, sizeof text, j));
    sum(out, "sum-time", "Time", ago(text, sizeof text, j->m ? j->m->running : (double)r->ran_ns / 1e9));
    mu_buf_puts(out, "</dl>\n");
    if (v->words) {
        mu_buf_puts(out, "<p id=reason>");
        mu_page_html(out, r->reason);
        mu_buf_puts(out, "</p>\n");
    }
    mu_buf_puts(out,
                "<section id=over-time hidden><h2>Steps a second and recoveries</h2><div class=chart></div></section>"
                "\n<section><h2>Ranks</h2>");
    table(v, out, "parts", of_parts, MU_COUNT(of_parts), !j->nparts, "It has no nodes now.");
    for (unsigned i = 0; i < j->nparts; i++) {
        const struct mu_metrics_part *p = &j->parts[i];
        mu_buf_appendf(out, p->ranks > 1 ? "<tr><td>%u-%u" : "<tr><td>%u", p->first, p->first + p->ranks - 1);
        cell(out, &of_parts[1], p->node->name);
        cell(out, &of_parts[2], mu_node_state_name(p->node));
        cell_state(out, mu_page_phase(p->phase));
        mu_buf_appendf(out, "<td class=n>%u of %u", p->joined, p->ranks);
        cell_number(out, &of_parts[5], p->failed, "%.0f");
        cell_number(out, &of_parts[6], p->step, "%.0f");
        mu_buf_puts(out, "</tr>\n");
    }
    table_end(out);
    mu_buf_puts(out, "</section>\n");
    events(v, out);
    end(out);
}
