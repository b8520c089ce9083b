/* muster jobs: what is queued and running, and with --all what has ended. */
#include <stdio.h>

#include "launcher/answer.h"
#include "launcher/commands.h"
#include "launcher/table.h"
#include "runtime/base/clean.h"

struct opts {
    bool all, json;
};
static const struct mu_opt rows[] = {
    {"all", 'a', MU_OPT_FLAG, offsetof(struct opts, all), NULL, "jobs that have ended, too", NULL, 0, 0, NULL},
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
    if (mu_answer_get("jobs", 0, o.all, "jobs", &root, &list, &text, &err))
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
