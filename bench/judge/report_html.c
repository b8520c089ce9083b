/* The page: verdict and suspects first, then the figures that show it. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bench/judge/report.h"
#include "bench/judge/report_plots.h"
#include "runtime/base/clean.h"

static const char style[] =
    ":root{color-scheme:light dark;--page:#fcfcfb;--ink:#0b0b0b;--soft:#52514e;--faint:#e1e0d9;--card:#fff;"
    "--bad:#d03b3b;--good:#0a7d0a;--warn:#8a5a00;--c0:#2a78d6;--c1:#d95926;--c2:#0f8f62;--c3:#b07a00;--c4:#c4457e;--c5:"
    "#4a3aa7}\n"
    "@media "
    "(prefers-color-scheme:dark){:root{--page:#141413;--ink:#f5f4f0;--soft:#b5b3aa;--faint:#34332f;--card:#1c1c1a;"
    "--bad:#ff6b64;--good:#4cc24c;--warn:#f0b23c;--c0:#5b9df0;--c1:#f0834f;--c2:#35c48d;--c3:#e0a83a;--c4:#f07fb0;--c5:"
    "#a79cf5}}\n"
    "@media "
    "print{:root{color-scheme:light;--page:#fff;--ink:#000;--soft:#444;--faint:#ccc;--card:#fff;--bad:#c22;--good:#070;"
    "--warn:#850;--c0:#2a78d6;--c1:#d95926;--c2:#0f8f62;--c3:#b07a00;--c4:#c4457e;--c5:#4a3aa7}"
    "figure,tr,section>h2{break-inside:avoid}h2{break-after:avoid}body{max-width:none;margin:0}"
    "*{-webkit-print-color-adjust:exact;print-color-adjust:exact}}\n"
    "body{margin:0 auto;padding:28px 24px;max-width:1000px;background:var(--page);color:var(--ink);"
    "font:15px/1.5 system-ui,'Segoe UI',Roboto,'DejaVu Sans',sans-serif}\n"
    "h1{font-size:22px;margin:0 0 2px}h2{font-size:17px;margin:34px 0 8px}p{margin:4px 0}.soft,figcaption "
    "span{color:var(--soft)}\n"
    ".verdict{display:inline-block;font-size:20px;font-weight:650;margin:12px 0 4px;padding:4px "
    "14px;border-radius:6px;border:2px solid}\n"
    ".pass{color:var(--good)}.fail{color:var(--bad)}.inconclusive{color:var(--warn)}.skipped{color:var(--soft)}\n"
    "table{border-collapse:collapse;width:100%;font-size:14px}th{text-align:left;font-weight:600;color:var(--soft)}"
    "th,td{padding:5px 10px 5px 0;border-bottom:1px solid "
    "var(--faint);vertical-align:top}td.n{font-variant-numeric:tabular-nums;"
    "white-space:nowrap}code{font:13px ui-monospace,'DejaVu Sans Mono',monospace;overflow-wrap:anywhere}\n"
    ".wide{overflow-x:auto}figure{margin:14px 0;padding:14px 16px;background:var(--card);border:1px solid "
    "var(--faint);border-radius:8px}"
    "figcaption b{display:block}figcaption "
    "span{font-size:13px}svg{display:block;width:100%;height:auto;margin-top:6px}\n"
    "svg text{font:11px system-ui,'Segoe UI',Roboto,'DejaVu Sans',sans-serif;fill:var(--soft)}svg "
    "text.name{fill:var(--ink)}"
    "svg text.loud{fill:var(--bad);font-weight:600}svg text.cell{font-size:10px;fill:var(--ink)}\n"
    ".grid{stroke:var(--faint);stroke-width:1}.zero{stroke:var(--soft);stroke-width:1}.ref{stroke:var(--soft);stroke-"
    "dasharray:5 4;"
    "fill:none}polyline{fill:none;stroke-width:2;stroke-linejoin:round}\n"
    ".s0{stroke:var(--c0)}.s1{stroke:var(--c1)}.s2{stroke:var(--c2)}.s3{stroke:var(--c3)}.s4{stroke:var(--c4)}.s5{"
    "stroke:var(--c5)}\n"
    ".f0{fill:var(--c0)}.f1{fill:var(--c1)}.f2{fill:var(--c2)}.f3{fill:var(--c3)}.f4{fill:var(--c4)}.f5{fill:var(--c5)}"
    "\n"
    ".band{stroke:none;fill-opacity:.15}.box{fill:var(--c0);fill-opacity:.22;stroke:var(--c0)}.box.bad{fill:var(--bad);"
    "stroke:var(--bad)}"
    ".whisker{stroke:var(--c0)}.whisker.bad{stroke:var(--bad)}.hot{fill:var(--bad)}.cool{fill:var(--c0)}.empty{fill:"
    "var(--faint);"
    "fill-opacity:.5}.mark{fill:none;stroke:var(--ink);stroke-width:1.5}\n";

static void row_of_suspect(const struct mu_report *r, const struct mu_suspect *s, struct mu_buf *out)
{
    mu_auto_buf struct mu_buf text = {0};
    char id[200];

    mu_report_suspect(r, s, &text);
    mu_buf_appendf(out, "<tr><td class=\"%s\"><b>", s->state == MU_CONFIRMED ? "fail" : "skipped");
    mu_report_escape(out, mu_suspect_id(s, r->d, id, sizeof id));
    mu_buf_appendf(out, "</b></td><td>%s%s%s</td><td>", mu_suspect_kind_name(s->kind), s->dir ? ", " : "",
                   s->dir ? mu_direction_name(s->dir) : "");
    mu_report_escape(out, mu_buf_str(&text));
    mu_buf_puts(out, "<br><span class=\"soft\">");
    mu_report_escape(out, s->why);
    mu_buf_appendf(out, "</span></td><td class=\"n\">%.1f</td></tr>\n", s->score);
}

static bool is_of(const struct mu_suspect *s, enum mu_suspect_state state)
{
    return s->state == state || (state == MU_UNSURE && s->state == MU_SUSPECTED);
}

static void suspects(const struct mu_report *r, struct mu_buf *out, enum mu_suspect_state state)
{
    unsigned n = 0;

    for (unsigned i = 0; i < r->b->n; i++)
        n += is_of(&r->b->v[i], state);
    if (!n && state != MU_CONFIRMED)
        return;
    mu_buf_appendf(out, "<section><h2>%s</h2>\n",
                   state == MU_CONFIRMED ? "Suspects"
                   : state == MU_CLEARED ? "Suspected at first, and cleared"
                                         : "Suspected, and too noisy to tell");
    if (!n) {
        mu_buf_puts(out, r->b->too_few
                             ? "<p class=\"soft\">With fewer than 4 hosts there are no peers: nobody was compared.</p>"
                             : "<p class=\"soft\">None.</p>");
    } else {
        mu_buf_puts(out, "<div class=\"wide\"><table><tr><th>Who</th><th>Kind</th><th>Why</th><th>Score</th></tr>\n");
        for (unsigned i = 0; i < r->b->n; i++)
            if (is_of(&r->b->v[i], state))
                row_of_suspect(r, &r->b->v[i], out);
        mu_buf_puts(out, "</table></div>");
    }
    mu_buf_puts(out, "</section>\n");
}

static void checks(const struct mu_report *r, struct mu_buf *out)
{
    mu_buf_puts(
        out,
        "<section><h2>Checks</h2><div class=\"wide\"><table><tr><th>Result</th><th>Rule</th><th>Worst</th></tr>\n");
    for (unsigned i = 0; i < r->nr; i++) {
        const struct mu_result *x = &r->r[i];
        const char *name = mu_outcome_name(x->outcome);
        mu_buf_appendf(out, "<tr><td class=\"%s\">%s</td><td><code>", name, name);
        mu_report_escape(out, x->check->text);
        mu_buf_puts(out, "</code></td><td>");
        if (x->outcome == MU_PASS && x->figures) {
            mu_buf_appendf(out, "%u figures; worst %.4g ", x->figures, x->value);
            mu_report_escape(out, x->unit);
            mu_buf_appendf(out, ", limit %.4g", x->threshold);
        } else {
            mu_report_escape(out, x->where);
            mu_buf_puts(out, x->where[0] ? ": " : "");
            mu_report_escape(out, x->why);
        }
        mu_buf_puts(out, "</td></tr>\n");
    }
    mu_buf_puts(out, "</table></div></section>\n");
}

static void references(const struct mu_report *r, struct mu_buf *out)
{
    bool any = false;

    for (unsigned i = 0; i < r->nr; i++)
        for (unsigned b = 0; b < r->r[i].check->nbounds; b++) {
            if (r->r[i].check->bounds[b].against != MU_AGAINST_REF)
                continue;
            const struct mu_ref *f = &r->c->refs[r->r[i].check->bounds[b].ref];
            mu_buf_puts(out, any ? "" : "<section><h2>References</h2>\n");
            any = true;
            mu_buf_puts(out, "<p><code>");
            mu_report_escape(out, f->name);
            mu_buf_puts(out, "</code> <span class=\"soft\">");
            mu_report_escape(out, f->source);
            mu_buf_puts(out, " ");
            mu_report_escape(out, f->params);
            mu_buf_puts(out, "</span></p>\n");
        }
    mu_buf_puts(out, any ? "</section>\n" : "");
}

void mu_report_html(const struct mu_report *r, struct mu_buf *out)
{
    bool known = r->began_t >= 0 && r->began_t < 253402300800; /* to the year 9999 */
    time_t t = known ? (time_t)r->began_t : 0;
    struct tm tm;
    char when[64] = "at an unknown time";

    if (known)
        strftime(when, sizeof when, "%Y-%m-%d %H:%M:%S UTC", gmtime_r(&t, &tm));
    mu_buf_puts(out, "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" "
                     "content=\"width=device-width,initial-scale=1\"><title>Acceptance ");
    mu_report_escape(out, r->token);
    mu_buf_puts(out, "</title><style>\n");
    mu_buf_puts(out, style);
    mu_buf_puts(out, "</style></head><body>\n<h1>Acceptance of ");
    mu_buf_appendf(out, "%u host%s</h1>\n<p class=\"soft\">", r->d->nhosts, r->d->nhosts == 1 ? "" : "s");
    mu_buf_appendf(out, "%s, profile %s, muster %s, run ", when, r->profile, r->version);
    mu_report_escape(out, r->token);
    mu_buf_puts(out, "<br><code>");
    mu_report_escape(out, r->command ? r->command : "");
    mu_buf_appendf(out, "</code></p>\n<p class=\"verdict %s\">%s%s</p>\n", mu_verdict_name(r->verdict),
                   mu_verdict_name(r->verdict), r->verdict == MU_VERDICT_CORRUPT ? ": data was wrong" : "");
    mu_buf_appendf(out, "<p class=\"soft\">%llu measurements, %u rounds of confirmation",
                   (unsigned long long)r->d->measurements, r->rounds);
    if (r->d->residual_us > 0)
        mu_buf_appendf(out, "; clocks agree within %.2g us", r->d->residual_us);
    mu_buf_puts(out, r->unfinished ? ". <b>The run was not finished.</b></p>\n" : "</p>\n");
    suspects(r, out, MU_CONFIRMED);
    suspects(r, out, MU_UNSURE);
    checks(r, out);
    mu_buf_puts(out, "<section><h2>What was measured</h2>\n");
    mu_report_plots(r, out);
    mu_buf_puts(out, "</section>\n");
    suspects(r, out, MU_CLEARED);
    references(r, out);
    mu_buf_puts(out, "</body></html>\n");
}
