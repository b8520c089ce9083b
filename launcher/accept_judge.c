/* From what was measured to the verdict, and onto the disk. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launcher/accept.h"
#include "runtime/base/clean.h"
#include "runtime/base/clock.h"
#include "runtime/base/path.h"

static int look(struct mu_accept *a, bool measure, struct mu_err *err)
{
    struct mu_blame_config c = {0};
    int rc = mu_accept_load(a, err);

    if (rc)
        return rc;
    mu_auto_free double *effects = mu_criteria_effects(&a->criteria, &a->data);
    c.effects = effects;
    mu_criteria_confirm(&a->criteria, &c.need, &c.of);
    if (!effects || mu_blame_find(&a->blame, &a->data, &c))
        return mu_err_set(err, MUSTER_ENOMEM, "out of memory");
    if (!c.of)
        rc = mu_blame_settle(&a->blame, &a->data, &c);
    for (unsigned r = 1; r <= mu_blame_rounds(&c) && !rc; r++) {
        bool open = false;
        for (unsigned i = 0; i < a->blame.n; i++)
            open = open || a->blame.v[i].state == MU_SUSPECTED;
        if (!open)
            break;
        if (measure && (rc = mu_accept_again(a, r, err)))
            return rc;
        rc = mu_blame_settle(&a->blame, &a->data, &c);
        for (unsigned i = 0; i < a->blame.n; i++)
            a->rounds = a->blame.v[i].rounds > a->rounds ? a->blame.v[i].rounds : a->rounds;
    }
    if (rc)
        return mu_err_set(err, MUSTER_ENOMEM, "out of memory");
    free(a->results);
    a->results = calloc(a->criteria.nchecks + 1, sizeof *a->results);
    if (!a->results)
        return mu_err_set(err, MUSTER_ENOMEM, "out of memory");
    mu_criteria_judge(&a->criteria, &a->data, a->baseline.n ? &a->baseline : NULL, &a->blame, a->results);
    for (unsigned i = 0; i < a->criteria.nchecks && !measure && !a->ended; i++)
        if (a->results[i].outcome == MU_FAIL && !a->results[i].figures) /* it may still be measured */
            a->results[i].outcome = MU_INCONCLUSIVE;
    a->verdict = mu_verdict_of(a->results, a->criteria.nchecks, &a->blame, &a->data);
    if (!measure && !a->ended && a->verdict == MU_VERDICT_PASS) /* what is missing may be what is bad */
        a->verdict = MU_VERDICT_INCONCLUSIVE;
    return 0;
}

/* A collective that is wrong, or slower than a check allows, while nobody is known who explains it. */
static const struct mu_trials *unexplained(const struct mu_accept *a, double *floor)
{
    const struct mu_trials *found = NULL;
    bool corrupt = false;

    for (unsigned i = 0; i < a->blame.n; i++)
        corrupt = corrupt || a->blame.v[i].corrupt;
    for (uint32_t i = 0; i < a->data.n && !corrupt; i++) {
        const struct mu_trials *s = &a->data.series[i];
        bool its = s->scope == MU_SCOPE_GROUP && !strncmp(a->data.tests[s->key.test].name, "coll.", 5);
        if (its && s->wrong && (!found || s->wrong > found->wrong))
            found = s;
    }
    if (found || corrupt || mu_blame_confirmed(&a->blame))
        return found;
    for (unsigned i = 0; i < a->criteria.nchecks; i++) {
        const struct mu_result *r = &a->results[i];
        const char *test = r->at ? a->data.tests[r->at->key.test].name : "", *end = strrchr(test, '.');
        if (r->outcome != MU_FAIL || r->value >= r->threshold || strncmp(test, "coll.", 5) != 0 ||
            strcmp(end, ".busbw") != 0)
            continue;
        *floor = r->threshold;
        return r->at;
    }
    return NULL;
}

int mu_accept_judge(struct mu_accept *a, bool measure, struct mu_err *err)
{
    const struct mu_trials *s;
    double floor = 0;
    int rc = look(a, measure, err);

    /* Two hosts have one link, and one has none. */
    if (rc || !measure || a->data.nhosts < 3 || a->data.nculprits || !(s = unexplained(a, &floor)))
        return rc;
    rc = mu_accept_bisect(a, s->key.test, s->key.size, floor, err);
    return rc ? rc : look(a, measure, err);
}

/* --- the files -----------------------------------------------------------------------------------------------------
 */

static int put(const struct mu_accept *a, const char *name, const char *text, size_t len, struct mu_buf *manifest,
               struct mu_err *err)
{
    char hex[65];
    int rc = mu_accept_put(a, name, text, len, hex, err);

    if (!rc)
        mu_buf_appendf(manifest, "%s  %s\n", hex, name);
    return rc;
}

int mu_accept_write(struct mu_accept *a, const struct mu_accept *last, char **json, struct mu_buf *said,
                    struct mu_err *err)
{
    typedef void writer(const struct mu_report *, struct mu_buf *);
    static const struct {
        const char *name;
        writer *write;
    } files[] = {{"report.csv", mu_report_csv}, {"junit.xml", mu_report_junit}, {"report.html", mu_report_html}};
    mu_auto_buf struct mu_buf manifest = {0}, rules = {0};
    struct mu_report r = {.d = &a->data,
                          .last = last ? &last->data : NULL,
                          .last_name = last ? last->token : NULL,
                          .b = &a->blame,
                          .c = &a->criteria,
                          .r = a->results,
                          .nr = a->criteria.nchecks,
                          .verdict = a->verdict,
                          .token = a->token,
                          .profile = json_string_value(json_object_get(a->begin, "profile")),
                          .command = json_string_value(json_object_get(a->begin, "command")),
                          .version = MUSTER_VERSION,
                          .began_t = json_number_value(json_object_get(a->begin, "t")),
                          .seconds = a->seconds,
                          .rounds = a->rounds,
                          .unfinished = !a->ended};
    char path[PATH_MAX];
    int rc = 0;

    json_t *o = mu_report_json(&r);
    mu_auto_free char *text = o ? json_dumps(o, JSON_INDENT(1) | JSON_REAL_PRECISION(9)) : NULL;
    if (json && o)
        *json = json_dumps(o, JSON_COMPACT | JSON_REAL_PRECISION(9));
    json_decref(o);
    if (!text)
        return mu_err_set(err, MUSTER_ENOMEM, "out of memory");
    rc = put(a, "report.json", text, strlen(text), &manifest, err);
    for (size_t i = 0; i < MU_COUNT(files) && !rc; i++) {
        mu_auto_buf struct mu_buf b = {0};
        files[i].write(&r, &b);
        rc = b.failed ? mu_err_set(err, MUSTER_ENOMEM, "out of memory")
                      : put(a, files[i].name, b.data, b.len, &manifest, err);
    }
    if (!rc && !(rc = mu_path_join(path, sizeof path, a->dir, "criteria.txt", err)) &&
        !(rc = mu_path_read_regular(path, 1 << 20, &rules, err)))
        rc = put(a, "criteria.txt", mu_buf_str(&rules), rules.len, &manifest, err);
    const char *baseline = json_string_value(json_object_get(a->begin, "baseline_sum"));
    if (baseline)
        mu_buf_appendf(&manifest, "%s  baseline.jsonl\n", baseline);
    const char *name;
    json_t *line;
    json_object_foreach(a->done, name, line)
        mu_buf_appendf(&manifest, "%s  raw/%s.jsonl\n", json_string_value(json_object_get(line, "sha256")), name);
    if (!rc && manifest.failed)
        rc = mu_err_set(err, MUSTER_ENOMEM, "out of memory");
    rc = rc ? rc : mu_path_join(path, sizeof path, a->dir, "MANIFEST.sha256", err);
    rc = rc ? rc : mu_path_write_atomic(path, manifest.data, manifest.len, 0644, err);
    if (!rc)
        mu_report_text(&r, said);
    return rc;
}
