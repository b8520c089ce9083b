/* muster events: what has happened to a job, in order. */
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "launcher/answer.h"
#include "launcher/commands.h"
#include "launcher/flight.h"
#include "launcher/table.h"
#include "runtime/base/clean.h"

enum { FOLLOW_MS = 300 };

struct opts {
    bool follow, json, flight;
    int attempt, last;
};
static const struct mu_opt rows[] = {
    {"follow", 'f', MU_OPT_FLAG, offsetof(struct opts, follow), NULL, "go on until the job has ended", NULL, 0, 0,
     NULL},
    {"json", 0, MU_OPT_FLAG, offsetof(struct opts, json), NULL, "print JSON", NULL, 0, 0, NULL},
    {"flight", 0, MU_OPT_FLAG, offsetof(struct opts, flight), NULL,
     "the collectives that the ranks of a running attempt, or of one that failed, have called last", NULL, 0, 0, NULL},
    {"attempt", 0, MU_OPT_INT, offsetof(struct opts, attempt), "N",
     "with --flight: of this attempt (the one that runs, or the newest with records)", NULL, 1, INT_MAX, NULL},
    {"last", 0, MU_OPT_INT, offsetof(struct opts, last), "N",
     "with --flight: so many of each rank and communicator (8)", NULL, 1, 256, NULL},
};

static void row(struct mu_table *t, const json_t *e)
{
    static const struct {
        const char *kind;
        enum mu_colour colour;
    } colours[] = {{"rank-lost", MU_BAD},      {"rank-exit", MU_BAD},   {"agent-lost", MU_BAD},
                   {"keeper-lost", MU_BAD},    {"node-lost", MU_BAD},   {"hang", MU_BAD},
                   {"attempt-start", MU_BUSY}, {"first-step", MU_GOOD}, {"checkpoint", MU_GOOD},
                   {"restored", MU_GOOD},      {"stored", MU_GOOD},     {"store-trouble", MU_BAD}};
    const char *kind = mu_answer_str(e, "kind");
    enum mu_colour colour = MU_PLAIN;
    char buf[64];

    for (size_t i = 0; i < MU_COUNT(colours); i++)
        if (!strcmp(colours[i].kind, kind))
            colour = colours[i].colour;
    mu_table_cell(t, mu_answer_time(mu_answer_num(e, "t"), buf, sizeof buf));
    mu_table_coloured(t, colour, kind);
    if (mu_answer_num(e, "attempt") > 0)
        mu_table_cellf(t, "%.0f", mu_answer_num(e, "attempt"));
    else
        mu_table_cell(t, "");
    if (mu_answer_has(e, "rank"))
        mu_table_cellf(t, "%.0f", mu_answer_num(e, "rank"));
    else
        mu_table_cell(t, "");
    mu_table_cell(t, mu_answer_str(e, "node"));
    mu_table_cell(t, mu_answer_str(e, "detail"));
}

static bool is_last(const json_t *e)
{
    const char *kind = mu_answer_str(e, "kind");

    return !strcmp(kind, "finished") || !strcmp(kind, "cancelled");
}

/* Prints what follows the first `seen` events; *over is set when the job's end is among them. */
static int show(uint64_t job, const struct opts *o, size_t *seen, bool *over, struct mu_err *err)
{
    static const struct mu_column columns[] = {{"TIME", 0},        {"EVENT", 0}, {"ATTEMPT", MU_RIGHT},
                                               {"RANK", MU_RIGHT}, {"NODE", 0},  {"DETAIL", 0}};
    static size_t wide[MU_COUNT(columns)] = {[1] = sizeof "attempt-start" - 1};
    mu_auto_free char *text = NULL;
    json_t *root, *list, *e;
    size_t i;
    int rc = mu_answer_get("events", job, false, "events", &root, &list, &text, err);

    if (rc)
        return rc;
    struct mu_table *t = mu_table_new(columns, MU_COUNT(columns));
    json_array_foreach(list, i, e)
    {
        *over = *over || is_last(e);
        if (t && i >= *seen && !o->json)
            row(t, e);
    }
    if (o->json && !o->follow) {
        puts(text);
    } else if (o->json) {
        /* followed: one object a line */
        for (i = *seen; i < json_array_size(list); i++) {
            mu_auto_free char *line = json_dumps(json_array_get(list, i), JSON_COMPACT);
            puts(line ? line : "{}");
        }
    } else if (t && json_array_size(list) > *seen) {
        mu_table_print_more(t, stdout, wide);
    }
    *seen = json_array_size(list);
    mu_table_free(t);
    json_decref(root);
    fflush(stdout);
    return 0;
}

int mu_cmd_events(int argc, char **argv)
{
    struct opts o = {.last = 8};
    struct mu_err err = {0};
    uint64_t job;
    size_t seen = 0;
    bool over = false;
    int first, code;

    if (mu_cmd_options("muster events [OPTIONS] JOB", rows, MU_COUNT(rows), argc, argv, 1, 1, &o, &first, &code))
        return code;
    if (mu_cmd_job(argv[first], &job, &err))
        return mu_cmd_fail(argv[0], &err);
    if (!o.flight && (o.attempt || o.last != 8))
        mu_err_set(&err, MUSTER_EARG, "--attempt and --last go with --flight");
    else if (o.flight && o.follow)
        mu_err_set(&err, MUSTER_EARG, "--flight and --follow do not go together: --flight shows how things are now");
    if (err.code)
        return mu_cmd_fail(argv[0], &err);
    if (o.flight)
        return mu_flight_show(job, (uint32_t)o.attempt, (unsigned)o.last, o.json, &err) ? mu_cmd_fail(argv[0], &err)
                                                                                        : 0;
    for (;;) {
        if (show(job, &o, &seen, &over, &err))
            return mu_cmd_fail(argv[0], &err);
        if (!o.follow || over || ferror(stdout))
            return 0;
        poll(NULL, 0, FOLLOW_MS);
    }
}
