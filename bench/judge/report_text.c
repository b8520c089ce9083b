/* CSV, JUnit, and what is said on the terminal. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/judge/report.h"
#include "runtime/base/clean.h"
#include "runtime/base/str.h"

void mu_report_escape(struct mu_buf *b, const char *text)
{
    mu_auto_buf struct mu_buf safe = {0};

    mu_str_printable(&safe, text, strlen(text)); /* texts may be cut in the middle of a character */
    b->failed = b->failed || safe.failed;
    for (const char *p = mu_buf_str(&safe); *p; p++)
        switch (*p) {
        case '<':
            mu_buf_puts(b, "&lt;");
            break;
        case '>':
            mu_buf_puts(b, "&gt;");
            break;
        case '&':
            mu_buf_puts(b, "&amp;");
            break;
        case '"':
            mu_buf_puts(b, "&quot;");
            break;
        default:
            if (!strncmp(p, "\xef\xbf\xbe", 3) || !strncmp(p, "\xef\xbf\xbf", 3)) { /* are in no XML */
                mu_buf_putc(b, '?');
                p += 2;
            } else
                mu_buf_putc(b, *p);
        }
}

void mu_report_suspect(const struct mu_report *r, const struct mu_suspect *s, struct mu_buf *out)
{
    const struct mu_test *t = &r->d->tests[s->test];
    char id[200];

    if (s->kind == MU_SUSPECT_GPU)
        mu_buf_appendf(out, "%s", mu_data_gpu(r->d, s->a, s->gpu, id, sizeof id));
    else
        mu_buf_appendf(out, "%s %s", mu_suspect_kind_name(s->kind), mu_suspect_id(s, r->d, id, sizeof id));
    if (s->kind == MU_SUSPECT_RANK || s->kind == MU_SUSPECT_GPU)
        mu_buf_appendf(out, " on %s", r->d->hosts[s->a]);
    if (s->corrupt)
        mu_buf_appendf(out, ": data %s is wrong (%s)",
                       s->kind == MU_SUSPECT_LINK  ? "over it"
                       : s->dir == MU_DIR_OUT      ? "that it sends"
                       : s->dir == MU_DIR_IN       ? "that it receives"
                       : s->dir == MU_DIR_BOTH     ? "that it sends and receives"
                       : s->kind == MU_SUSPECT_GPU ? "that it has moved or computed"
                                                   : "in its memory or processors",
                       t->name);
    else if (t->of != s->test)
        mu_buf_appendf(out, ": lost %.1f %% more than the others from the beginning to the end (%s)", 100 * s->drop,
                       r->d->tests[t->of].name);
    else if (t->additive)
        mu_buf_appendf(out, ": comes %.1f %% of the operation's time later than the others (%s)", 100 * s->drop,
                       t->name);
    else
        mu_buf_appendf(out, ": %s%.1f %% %s than %s (%s)",
                       s->kind != MU_SUSPECT_NODE || !s->pair ? ""
                       : s->dir == MU_DIR_OUT                 ? "sends "
                       : s->dir == MU_DIR_IN                  ? "receives "
                       : s->dir == MU_DIR_BOTH                ? "sends and receives "
                                                              : "",
                       100 * s->drop, t->less ? "slower" : "less", "the others", t->name);
}

/* --- CSV -----------------------------------------------------------------------------------------------------------
 */

/* Quoted, and nothing that a spreadsheet would take for a formula. */
static void cell(struct mu_buf *b, const char *text)
{
    mu_auto_buf struct mu_buf safe = {0};

    mu_str_printable(&safe, text, strlen(text));
    b->failed = b->failed || safe.failed;
    mu_buf_putc(b, '"');
    if (*text && strchr("=+-@", *text))
        mu_buf_putc(b, '\'');
    for (const char *p = mu_buf_str(&safe); *p; p++) {
        if (*p == '"')
            mu_buf_putc(b, '"');
        mu_buf_putc(b, *p);
    }
    mu_buf_putc(b, '"');
}

void mu_report_csv(const struct mu_report *r, struct mu_buf *out)
{
    mu_buf_puts(
        out,
        "test,unit,scope,from,to,rank,gpu,uuid,ranks,size,round,trials,samples,min,p50,max,p99,ci95_pct,wrong\r\n");
    for (uint32_t i = 0; i < r->d->n; i++) {
        static const char *const scopes[] = {"node", "pair", "group"};
        const struct mu_trials *s = &r->d->series[i];
        bool group = s->scope == MU_SCOPE_GROUP;
        cell(out, r->d->tests[s->key.test].name);
        mu_buf_putc(out, ',');
        cell(out, r->d->tests[s->key.test].unit);
        mu_buf_appendf(out, ",%s,", scopes[s->scope]);
        if (!group)
            cell(out, r->d->hosts[s->key.from]);
        mu_buf_putc(out, ',');
        if (s->scope == MU_SCOPE_PAIR)
            cell(out, r->d->hosts[s->key.to]);
        mu_buf_putc(out, ',');
        if (s->key.rank >= 0)
            mu_buf_appendf(out, "%d", s->key.rank);
        mu_buf_putc(out, ',');
        if (s->key.gpu)
            mu_buf_appendf(out, "%u", s->key.gpu - 1);
        mu_buf_putc(out, ',');
        if (s->uuid)
            cell(out, s->uuid);
        mu_buf_putc(out, ',');
        if (group)
            mu_buf_appendf(out, "%d", s->key.from);
        mu_buf_appendf(out, ",%llu,%u,%u,%llu,%.9g,%.9g,%.9g,", (unsigned long long)s->key.size, s->key.round, s->n,
                       (unsigned long long)s->samples, s->min, mu_trials_median(s), s->max);
        if (s->p99 > 0)
            mu_buf_appendf(out, "%.9g", s->p99);
        mu_buf_putc(out, ',');
        if (s->ci > 0)
            mu_buf_appendf(out, "%.4g", 100 * s->ci);
        mu_buf_appendf(out, ",%llu\r\n", (unsigned long long)s->wrong);
    }
}

/* --- JUnit ---------------------------------------------------------------------------------------------------------
 */

void mu_report_junit(const struct mu_report *r, struct mu_buf *out)
{
    unsigned failed = 0, skipped = 0, suspects = 0;

    for (unsigned i = 0; i < r->nr; i++) {
        failed += r->r[i].outcome == MU_FAIL;
        skipped += r->r[i].outcome == MU_SKIPPED || r->r[i].outcome == MU_INCONCLUSIVE;
    }
    suspects = mu_blame_confirmed(r->b);
    mu_buf_puts(out, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    mu_buf_appendf(out,
                   "<testsuite name=\"muster accept %s\" tests=\"%u\" failures=\"%u\" skipped=\"%u\" time=\"%.1f\">\n",
                   r->profile, r->nr + suspects, failed + suspects, skipped, r->seconds);
    for (unsigned i = 0; i < r->nr; i++) {
        const struct mu_result *x = &r->r[i];
        mu_buf_puts(out, "  <testcase classname=\"check\" name=\"");
        mu_report_escape(out, x->check->text);
        if (x->outcome == MU_PASS) {
            mu_buf_puts(out, "\"/>\n");
            continue;
        }
        mu_buf_appendf(out, "\"><%s message=\"", x->outcome == MU_FAIL ? "failure" : "skipped");
        mu_report_escape(out, x->where);
        mu_buf_puts(out, ": ");
        mu_report_escape(out, x->why);
        mu_buf_puts(out, "\"/></testcase>\n");
    }
    for (unsigned i = 0; i < r->b->n; i++) {
        mu_auto_buf struct mu_buf text = {0};
        char id[200];
        if (r->b->v[i].state != MU_CONFIRMED)
            continue;
        mu_report_suspect(r, &r->b->v[i], &text);
        mu_buf_puts(out, "  <testcase classname=\"suspect\" name=\"");
        mu_report_escape(out, mu_suspect_id(&r->b->v[i], r->d, id, sizeof id));
        mu_buf_puts(out, "\"><failure message=\"");
        mu_report_escape(out, mu_buf_str(&text));
        mu_buf_puts(out, "\"/></testcase>\n");
    }
    mu_buf_puts(out, "</testsuite>\n");
}

/* --- the terminal --------------------------------------------------------------------------------------------------
 */

void mu_report_text(const struct mu_report *r, struct mu_buf *out)
{
    unsigned held = 0, skipped = 0;

    mu_buf_appendf(out, "verdict: %s%s\n", mu_verdict_name(r->verdict),
                   r->verdict == MU_VERDICT_CORRUPT ? ", data was wrong" : "");
    if (r->unfinished)
        mu_buf_appendf(out, "  the run was not finished; `muster accept --resume %s` goes on with it\n", r->token);
    for (unsigned i = 0; i < r->b->n; i++) {
        mu_auto_buf struct mu_buf text = {0};
        const struct mu_suspect *s = &r->b->v[i];
        if (s->state == MU_CLEARED)
            continue;
        mu_report_suspect(r, s, &text);
        mu_buf_puts(out, s->state == MU_CONFIRMED ? "  " : "  nobody can tell: ");
        mu_str_printable(out, mu_buf_str(&text), text.len);
        mu_buf_appendf(out, "%s%s\n", s->why[0] ? "; " : "", s->why);
    }
    for (unsigned i = 0; i < r->nr; i++) {
        mu_auto_buf struct mu_buf text = {0};
        const struct mu_result *x = &r->r[i];
        held += x->outcome == MU_PASS;
        skipped += x->outcome == MU_SKIPPED;
        if (x->outcome < MU_INCONCLUSIVE)
            continue;
        mu_buf_appendf(&text, "%s: %s: %s: %s", mu_outcome_name(x->outcome), x->check->text, x->where, x->why);
        mu_buf_puts(out, "  ");
        mu_str_printable(out, mu_buf_str(&text), text.len);
        mu_buf_putc(out, '\n');
    }
    if (r->b->too_few && r->verdict == MU_VERDICT_INCONCLUSIVE)
        mu_buf_appendf(out,
                       "  %u host%s: fewer than 4 have no peers; absolute criteria and a baseline still judge them\n",
                       r->d->nhosts, r->d->nhosts == 1 ? "" : "s");
    mu_buf_appendf(out, "  %u checks hold, %u were not measured; %u hosts, %.0f s\n", held, skipped, r->d->nhosts,
                   r->seconds);
}

/* --- two runs ------------------------------------------------------------------------------------------------------
 */

struct difference {
    const struct mu_trials *a, *b;
    double change; /* above 0: better */
};

static int cmp(const void *pa, const void *pb)
{
    const struct difference *a = pa, *b = pb;

    return (a->change > b->change) - (a->change < b->change);
}

static bool same_place(const struct mu_data *a, const struct mu_trials *x, const struct mu_data *b,
                       const struct mu_trials *y)
{
    const struct mu_trials_key *k = &x->key, *l = &y->key;

    if (x->scope != y->scope || k->size != l->size || k->rank != l->rank || k->gpu != l->gpu || l->round || !y->n ||
        strcmp(a->tests[k->test].name, b->tests[l->test].name) != 0 ||
        strcmp(a->tests[k->test].unit, b->tests[l->test].unit) != 0)
        return false;
    if (x->scope == MU_SCOPE_GROUP)
        return k->from == l->from && k->to == l->to;
    return !strcmp(a->hosts[k->from], b->hosts[l->from]) &&
           (k->to < 0 ? l->to < 0 : l->to >= 0 && !strcmp(a->hosts[k->to], b->hosts[l->to]));
}

unsigned mu_report_compare(const struct mu_data *a, const struct mu_data *b, double least, unsigned *both,
                           struct mu_buf *out)
{
    mu_auto_free struct difference *v = malloc((a->n + 1) * sizeof *v);
    unsigned n = 0, worse = 0;

    for (uint32_t i = 0; i < a->n && v; i++) {
        const struct mu_trials *x = &a->series[i], *y = NULL;
        const struct mu_test *t = &a->tests[x->key.test];
        if (x->key.round || !x->n || t->additive || !strcmp(t->unit, "errors"))
            continue;
        for (uint32_t k = 0; k < b->n && !y; k++)
            y = same_place(a, x, b, &b->series[k]) ? &b->series[k] : NULL;
        double was = mu_trials_median(x), is = y ? mu_trials_median(y) : 0;
        if (was > 0 && is > 0)
            v[n++] = (struct difference){x, y, t->less ? was / is - 1 : is / was - 1};
    }
    if (n)
        qsort(v, n, sizeof *v, cmp);
    for (unsigned i = 0; i < n; i++) {
        const struct mu_trials_key *k = &v[i].a->key;
        const struct mu_test *t = &a->tests[k->test];
        mu_auto_buf struct mu_buf text = {0};
        if (fabs(v[i].change) < least)
            continue;
        worse += v[i].change < 0;
        mu_buf_puts(&text, t->name);
        if (k->size)
            mu_buf_appendf(&text, " %llu B", (unsigned long long)k->size);
        if (v[i].a->scope != MU_SCOPE_GROUP)
            mu_buf_appendf(&text, ", %s%s%s", a->hosts[k->from], k->to >= 0 ? ">" : "",
                           k->to >= 0 ? a->hosts[k->to] : "");
        mu_buf_appendf(&text, ": %.4g -> %.4g %s, %.1f %% %s", mu_trials_median(v[i].a), mu_trials_median(v[i].b),
                       t->unit, 100 * fabs(v[i].change), v[i].change < 0 ? "worse" : "better");
        mu_str_printable(out, mu_buf_str(&text), text.len);
        mu_buf_putc(out, '\n');
    }
    mu_buf_appendf(out, "%u figures in both; %u worse by %.1f %% or more\n", n, worse, 100 * least);
    *both = n;
    return worse;
}
