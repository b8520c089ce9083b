/* muster audit: who has changed what, and whether the log of it is whole. */
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "launcher/answer.h"
#include "launcher/audit.h"
#include "launcher/client.h"
#include "launcher/commands.h"
#include "launcher/table.h"
#include "runtime/base/clean.h"
#include "runtime/base/clock.h"
#include "runtime/base/str.h"

struct opts {
    bool json, verify;
    const char *since, *hash;
};
static const struct mu_opt rows[] = {
    {"since", 0, MU_OPT_STRING, offsetof(struct opts, since), "TIME",
     "only what came after it: 2h ago, or 2026-11-26[ 17:00[:30]]", NULL, 0, 0, NULL},
    {"verify", 0, MU_OPT_FLAG, offsetof(struct opts, verify), NULL, "say whether the log is whole", NULL, 0, 0, NULL},
    {"hash", 0, MU_OPT_STRING, offsetof(struct opts, hash), "HASH",
     "with --verify: a line with this hash must be there", NULL, 0, 0, NULL},
    {"json", 0, MU_OPT_FLAG, offsetof(struct opts, json), NULL, "print JSON", NULL, 0, 0, NULL},
};

struct log {
    json_t *entries, *wrong; /* arrays */
    double since;
    struct mu_audit_walk walk;
    struct mu_audit_head anchor;
    uint64_t lost;
    bool part; /* only its newest lines are here */
    bool failed;
};

static int take_since(const char *text, double *out, struct mu_err *err)
{
    static const char *const forms[] = {"%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M", "%Y-%m-%d"};
    char shown[80];
    uint64_t ns;

    if (!mu_str_duration(text, &ns)) {
        *out = (double)mu_wall() / (double)MU_SEC - (double)ns / (double)MU_SEC;
        return 0;
    }
    for (size_t i = 0; i < MU_COUNT(forms); i++) {
        struct tm tm = {.tm_isdst = -1};
        const char *end = strptime(text, forms[i], &tm);
        time_t t = end && !*end ? mktime(&tm) : (time_t)-1;
        if (t != (time_t)-1) {
            *out = (double)t;
            return 0;
        }
    }
    return mu_err_set(err, MUSTER_EARG, "--since %s: not a time such as 2h or 2026-11-26 17:00",
                      mu_str_show(shown, sizeof shown, text));
}

/* --- reading ----------------------------------------------------------------------------------------------------- */

/* What became of an earlier line is put into that one. */
static bool is_outcome(struct log *l, const json_t *o)
{
    json_int_t of = json_integer_value(json_object_get(o, "of"));
    size_t n = json_array_size(l->entries);

    if (of <= 0)
        return false;
    for (size_t i = n; i-- > 0 && n - i <= 4096;) { /* answers come soon */
        json_t *e = json_array_get(l->entries, i);
        if (json_integer_value(json_object_get(e, "n")) != of)
            continue;
        static const char *const keys[] = {"result", "text", "job"};
        for (size_t k = 0; k < MU_COUNT(keys); k++)
            if (json_object_get(o, keys[k]))
                json_object_set(e, keys[k], json_object_get(o, keys[k]));
        break;
    }
    return true;
}

static void on_line(void *arg, const struct mu_audit_head *at, const char *json, size_t len, bool whole)
{
    struct log *l = arg;
    json_t *o = json_loadb(json, len, 0, NULL);

    (void)at;
    if (!json_is_object(o)) {
        json_decref(o);
        return;
    }
    if (!whole)
        json_object_set_new(o, "damaged", json_true());
    if (mu_answer_num(o, "t") < l->since || is_outcome(l, o))
        json_decref(o);
    else if (json_array_append_new(l->entries, o))
        l->failed = true;
}

static void on_wrong(void *arg, const char *text)
{
    struct log *l = arg;
    char shown[500];

    if (json_array_size(l->wrong) < 1000)
        json_array_append_new(l->wrong, json_string(mu_str_show(shown, sizeof shown, text)));
}

/* The pool's own account reads the files; others are given the newest lines. *answer is the controller's, NULL without
 * a pool. */
static int ask(bool lines, json_t **answer, struct mu_err *err)
{
    mu_auto_free char *text = NULL;
    json_error_t why;
    int rc = mu_client_query("audit", 0, lines, &text, err);

    *answer = NULL;
    if (rc == MU_CLIENT_NO_POOL)
        return 0;
    if (rc)
        return rc;
    *answer = json_loads(text, 0, &why);
    return *answer ? 0 : mu_err_set(err, MUSTER_EIO, "the controller's answer cannot be read: %.100s", why.text);
}

static int read_files(struct log *l, const json_t *answer, struct mu_err *err)
{
    struct mu_paths paths;
    char dir[PATH_MAX];
    int rc = mu_paths_find(&paths, err);

    if (rc || (rc = mu_path_join(dir, sizeof dir, paths.state, "audit", err)))
        return rc;
    if (mu_answer_num(answer, "anchor_n") > 0) {
        l->anchor.n = (uint64_t)json_integer_value(json_object_get(answer, "anchor_n"));
        mu_str_copy(l->anchor.hash, sizeof l->anchor.hash, mu_answer_str(answer, "anchor_hash"));
        l->walk.anchor = &l->anchor;
    }
    return mu_audit_read(dir, &l->walk, err);
}

/* Lines from afar: their hashes are looked at where they are read. */
static void read_lines(struct log *l, const json_t *answer)
{
    const char *s = mu_answer_str(answer, "lines");
    struct mu_audit_head at = {0};

    l->part = true;
    for (const char *nl; (nl = strchr(s, '\n')); s = nl + 1) {
        const char *json = memchr(s, ' ', (size_t)(nl - s));
        if (json)
            on_line(l, &at, json + 1, (size_t)(nl - json) - 1, true);
    }
}

/* --- output ------------------------------------------------------------------------------------------------------ */

static void show(const struct log *l)
{
    static const struct mu_column columns[] = {{"LINE", MU_RIGHT}, {"TIME", 0}, {"WHO", 0},    {"ROLE", 0},
                                               {"WHAT", 0},        {"JOB", 0},  {"RESULT", 0}, {"DETAIL", 0}};
    struct mu_table *t = mu_table_new(columns, MU_COUNT(columns));
    const json_t *e;
    char buf[1200];
    size_t i;

    json_array_foreach(l->entries, i, e)
    {
        const char *result = mu_answer_str(e, "result"), *text = mu_answer_str(e, "text");
        bool bad = json_is_true(json_object_get(e, "damaged"));
        if (!t)
            break;
        mu_table_cellf(t, "%.0f", mu_answer_num(e, "n"));
        mu_table_cell(t, mu_answer_time(mu_answer_num(e, "t"), buf, sizeof buf));
        mu_table_cell(t, mu_answer_str(e, "who"));
        mu_table_cell(t, mu_answer_str(e, "role"));
        mu_table_cell(t, mu_answer_str(e, "what"));
        if (mu_answer_num(e, "job") > 0)
            mu_table_cellf(t, "%.0f", mu_answer_num(e, "job"));
        else
            mu_table_cell(t, "");
        if (!strcmp(result, "asked"))
            result = "unknown";
        mu_table_coloured(t, bad || (strcmp(result, "done") && *result) ? MU_BAD : MU_PLAIN, bad ? "DAMAGED" : result);
        const char *detail = mu_answer_str(e, "detail");
        snprintf(buf, sizeof buf, "%s%s%s", detail, *detail && *text ? ": " : "", text);
        mu_table_cell(t, buf);
    }
    if (t && i)
        mu_table_print(t, stdout);
    mu_table_free(t);
}

/* The hash comes last: `tail -n 1` is what is noted elsewhere. */
static void show_verdict(const struct log *l)
{
    const struct mu_audit_walk *w = &l->walk;
    const json_t *text;
    size_t i;

    json_array_foreach(l->wrong, i, text) printf("WRONG: %s\n", json_string_value(text));
    if (w->bad > json_array_size(l->wrong))
        printf("WRONG: and %llu more\n", (unsigned long long)w->bad - json_array_size(l->wrong));
    if (l->lost)
        printf("%llu changes have no line: the log cannot be written; see controller.log\n",
               (unsigned long long)l->lost);
    if (!w->lines) {
        printf("%s\n", w->bad ? "the audit log is not whole" : "the audit log is empty");
        return;
    }
    if (!w->bad && w->first > 1)
        printf("lines 1 to %llu are not here\n", (unsigned long long)w->first - 1);
    if (!l->anchor.n)
        printf("the job store remembers no line: lines missing at the end cannot be seen; compare with a hash that was "
               "noted: --hash\n");
    else if (w->last > l->anchor.n)
        printf("the job store remembers line %llu: lines missing behind %llu cannot be seen\n",
               (unsigned long long)l->anchor.n, (unsigned long long)w->last);
    printf("%s: lines %llu to %llu, the last one's hash is %s\n", w->bad ? "the audit log is not whole" : "whole",
           (unsigned long long)w->first, (unsigned long long)w->last, w->end);
}

static int print_json(const struct log *l, bool verify)
{
    const struct mu_audit_walk *w = &l->walk;
    json_t *o = json_pack("{s:s, s:O}", "schema", "muster.audit-log/1", "entries", l->entries);

    if (o && verify)
        json_object_set_new(o, "verified",
                            json_pack("{s:b, s:I, s:I, s:s, s:I, s:I, s:O}", "ok", !w->bad, "first",
                                      (json_int_t)w->first, "last", (json_int_t)w->last, "hash", w->end, "remembered",
                                      (json_int_t)l->anchor.n, "lost", (json_int_t)l->lost, "wrong", l->wrong));
    mu_auto_free char *text = o ? json_dumps(o, JSON_COMPACT | JSON_REAL_PRECISION(16)) : NULL;
    json_decref(o);
    if (!text)
        return MUSTER_ENOMEM;
    puts(text);
    return 0;
}

int mu_cmd_audit(int argc, char **argv)
{
    struct opts o = {0};
    struct log l = {.entries = json_array(), .wrong = json_array()};
    const char *pool = getenv("MUSTER_POOL");
    struct mu_err err = {0};
    json_t *answer = NULL;
    bool far = pool && *pool;
    int first, code, rc = 0;

    if (mu_cmd_options("muster audit [OPTIONS]", rows, MU_COUNT(rows), argc, argv, 0, 0, &o, &first, &code))
        goto out;
    if (o.since)
        rc = take_since(o.since, &l.since, &err);
    if (!rc && o.hash &&
        (!o.verify || strlen(o.hash) != MU_AUDIT_HASH - 1 || strspn(o.hash, "0123456789abcdef") != MU_AUDIT_HASH - 1))
        rc = mu_err_set(&err, MUSTER_EARG, "--hash goes with --verify and takes the 64 digits that it has printed");
    if (!rc && o.verify && far)
        rc = mu_err_set(&err, MUSTER_EARG,
                        "--verify reads the files: do it as the pool's account on the controller's host, without "
                        "MUSTER_POOL");
    if (!rc)
        rc = ask(far, &answer, &err);
    l.walk = (struct mu_audit_walk){.line = on_line, .wrong = on_wrong, .arg = &l, .hash = o.hash};
    l.lost = (uint64_t)json_integer_value(json_object_get(answer, "lost"));
    if (!rc && far)
        read_lines(&l, answer);
    else if (!rc)
        rc = read_files(&l, answer, &err);
    if (!rc && (l.failed || (o.json && (rc = print_json(&l, o.verify)))))
        rc = mu_err_set(&err, MUSTER_ENOMEM, "out of memory");
    if (!rc && !o.json && o.verify)
        show_verdict(&l);
    else if (!rc && !o.json)
        show(&l);
    code = rc ? mu_cmd_fail(argv[0], &err) : o.verify && l.walk.bad ? MU_EXIT_FAILED : 0;
    json_decref(answer);
out:
    json_decref(l.entries);
    json_decref(l.wrong);
    return code;
}
