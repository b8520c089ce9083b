/* muster jobs: what is queued and running, with --all what has ended; why one waits. */
#include <stdio.h>
#include <string.h>

#include "launcher/answer.h"
#include "launcher/commands.h"
#include "launcher/history.h"
#include "launcher/table.h"
#include "runtime/base/clean.h"
#include "runtime/base/clock.h"
#include "runtime/base/str.h"

struct opts {
    bool all, json, history, csv;
    uint64_t why;
    int by;
};
static const struct mu_opt rows[] = {
    {"all", 'a', MU_OPT_FLAG, offsetof(struct opts, all), NULL, "jobs that have ended, too", NULL, 0, 0, NULL},
    {"why", 0, MU_OPT_U64, offsetof(struct opts, why), "JOB", "why that one waits", NULL, 1, 0, NULL},
    {"history", 0, MU_OPT_FLAG, offsetof(struct opts, history), NULL, "what those that have ended have used", NULL, 0,
     0, NULL},
    {"by", 0, MU_OPT_CHOICE, offsetof(struct opts, by), "job|user|node", "with --history: summed up so", NULL, 0, 0,
     NULL},
    {"csv", 0, MU_OPT_FLAG, offsetof(struct opts, csv), NULL, "with --history: as CSV", NULL, 0, 0, NULL},
    {"json", 0, MU_OPT_FLAG, offsetof(struct opts, json), NULL, "print JSON", NULL, 0, 0, NULL},
};

static void row(struct mu_table *t, const json_t *job)
{
    const char *state = mu_answer_str(job, "state");
    char buf[64], nodes[80];

    mu_table_cellf(t, "%.0f", mu_answer_num(job, "id"));
    mu_table_cell(t, mu_answer_str(job, "name"));
    mu_table_cell(t, mu_answer_str(job, "user"));
    mu_table_coloured(t, mu_colour_of_state(state), state);
    mu_table_cellf(t, "%.0f", mu_answer_num(job, "ranks"));
    mu_table_cell(t, mu_answer_names(json_object_get(job, "nodes"), nodes, sizeof nodes));
    mu_table_cellf(t, "%.0f", mu_answer_num(job, "attempt"));
    if (mu_answer_has(job, "step"))
        mu_table_cellf(t, "%.0f", mu_answer_num(job, "step"));
    else
        mu_table_cell(t, "");
    mu_table_cell(t, mu_answer_elapsed(job, buf, sizeof buf));
    if (mu_answer_has(job, "exit_code"))
        mu_table_cellf(t, "%.0f", mu_answer_num(job, "exit_code"));
    else
        mu_table_cell(t, "");
    mu_table_cell(t, mu_answer_str(job, "reason"));
}

static void explain(const json_t *job)
{
    char buf[64];
    double waited = (double)mu_wall() / (double)MU_SEC - mu_answer_num(job, "waits_since_t");

    if (strcmp(mu_answer_str(job, "state"), "queued") != 0 && strcmp(mu_answer_str(job, "state"), "suspended") != 0) {
        printf("job %.0f does not wait: it is %s, %s\n", mu_answer_num(job, "id"), mu_answer_str(job, "state"),
               mu_answer_str(job, "reason"));
        return;
    }
    printf("job %.0f: %s\n", mu_answer_num(job, "id"), mu_answer_str(job, "reason"));
    if (mu_answer_has(job, "place"))
        printf("  place        %.0f in the order\n", mu_answer_num(job, "place"));
    if (mu_answer_has(job, "expected_t"))
        printf("  starts       by %s at the latest\n",
               mu_answer_time(mu_answer_num(job, "expected_t"), buf, sizeof buf));
    else
        printf("  starts       not known; the first jobs of the order are promised a start, as far as nodes are up\n");
    printf("  has waited   %s\n", mu_str_fmt_duration(buf, sizeof buf, waited > 0 ? (uint64_t)(waited * 1e9) : 0));
    printf("  priority     %.0f\n", mu_answer_num(job, "priority"));
    printf("  fair share   %.2f of %s (1: has used nothing, 0.5: just the share)\n", mu_answer_num(job, "fair_share"),
           mu_answer_str(job, "user"));
}

static int why(const char *name, const struct opts *o)
{
    struct mu_err err = {0};
    mu_auto_free char *text = NULL;
    json_t *root, *list;

    if (mu_answer_get("status", o->why, false, "jobs", &root, &list, &text, &err))
        return mu_cmd_fail(name, &err);
    if (o->json)
        puts(text);
    else if (json_array_size(list))
        explain(json_array_get(list, 0));
    json_decref(root);
    return 0;
}

static int history(const char *name, const struct opts *o)
{
    struct mu_err err = {0};
    json_t *root, *list;

    if (mu_answer_get("jobs", 0, true, "jobs", &root, &list, NULL, &err))
        return mu_cmd_fail(name, &err);
    int rc = mu_history_print(list, o->by,
                              o->csv    ? MU_HISTORY_CSV
                              : o->json ? MU_HISTORY_JSON
                                        : MU_HISTORY_TABLE,
                              &err);
    json_decref(root);
    return rc ? mu_cmd_fail(name, &err) : 0;
}

int mu_cmd_jobs(int argc, char **argv)
{
    static const struct mu_column columns[] = {{"ID", MU_RIGHT},      {"NAME", 0},         {"USER", 0},
                                               {"STATE", 0},          {"RANKS", MU_RIGHT}, {"NODES", 0},
                                               {"ATTEMPT", MU_RIGHT}, {"STEP", MU_RIGHT},  {"TIME", MU_RIGHT},
                                               {"EXIT", MU_RIGHT},    {"REASON", 0}};
    struct opts o = {0};
    struct mu_err err = {0};
    mu_auto_free char *text = NULL;
    json_t *root, *list, *job;
    size_t i;
    int first, code;

    if (mu_cmd_options("muster jobs [OPTIONS]", rows, MU_COUNT(rows), argc, argv, 0, 0, &o, &first, &code))
        return code;
    if (o.why)
        return why(argv[0], &o);
    if (o.history && o.csv && o.json) {
        mu_err_set(&err, MUSTER_EARG, "--csv or --json, not both");
        return mu_cmd_fail(argv[0], &err);
    }
    if (o.history && (!o.json || o.by != MU_HISTORY_JOB))
        return history(argv[0], &o);
    if (!o.history && (o.csv || o.by)) {
        mu_err_set(&err, MUSTER_EARG, "--csv and --by go with --history");
        return mu_cmd_fail(argv[0], &err);
    }
    o.all = o.all || o.history;
    if (mu_answer_get(o.json ? "jobs" : "table", 0, o.all, "jobs", &root, &list, &text, &err))
        return mu_cmd_fail(argv[0], &err);
    struct mu_table *t = mu_table_new(columns, MU_COUNT(columns));
    json_array_foreach(list, i, job)
    {
        if (t && !o.json)
            row(t, job);
    }
    if (o.json)
        puts(text);
    else if (t && i)
        mu_table_print(t, stdout);
    else
        puts(o.all ? "no jobs" : "no jobs are queued or running; --all shows those that have ended");
    mu_table_free(t);
    json_decref(root);
    return 0;
}
