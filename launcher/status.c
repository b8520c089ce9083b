/* muster status: everything that is known of a job. */
#include <stdio.h>
#include <string.h>

#include "launcher/answer.h"
#include "launcher/commands.h"
#include "launcher/table.h"
#include "runtime/base/clean.h"
#include "runtime/base/str.h"

struct opts {
    bool json;
};
static const struct mu_opt rows[] = {
    {"json", 0, MU_OPT_FLAG, offsetof(struct opts, json), NULL, "print JSON", NULL, 0, 0, NULL},
};

static void line(const char *name, const char *text)
{
    mu_auto_buf struct mu_buf b = {0};

    if (!*text)
        return;
    mu_str_printable(&b, text, strlen(text));
    printf("%-14s %s\n", name, mu_buf_str(&b));
}

static void number(const json_t *o, const char *key, const char *name)
{
    char buf[40];

    if (!mu_answer_has(o, key))
        return;
    snprintf(buf, sizeof buf, "%.0f", mu_answer_num(o, key));
    line(name, buf);
}

static void moment(const json_t *o, const char *key, const char *name)
{
    char buf[64];

    if (mu_answer_has(o, key))
        line(name, mu_answer_time(mu_answer_num(o, key), buf, sizeof buf));
}

static void failure(const json_t *f)
{
    mu_auto_buf struct mu_buf b = {0};

    if (mu_answer_has(f, "rank"))
        mu_buf_appendf(&b, "rank %.0f", mu_answer_num(f, "rank"));
    if (*mu_answer_str(f, "node"))
        mu_buf_appendf(&b, "%s%s", b.len ? " on " : "on ", mu_answer_str(f, "node"));
    if (*mu_answer_str(f, "message"))
        mu_buf_appendf(&b, "%s%s", b.len ? ": " : "", mu_answer_str(f, "message"));
    else if (mu_answer_has(f, "signal"))
        mu_buf_appendf(&b, ": killed by signal %.0f", mu_answer_num(f, "signal"));
    if (mu_answer_has(f, "attempt"))
        mu_buf_appendf(&b, ", in attempt %.0f", mu_answer_num(f, "attempt"));
    line("last failure", mu_buf_str(&b));
    for (const char *p = mu_answer_str(f, "stderr_tail"); *p; p += strcspn(p, "\n"), p += *p == '\n') {
        mu_auto_buf struct mu_buf safe = {0};
        mu_str_printable(&safe, p, strcspn(p, "\n"));
        printf("%-14s | %s\n", "", mu_buf_str(&safe));
    }
}

static void show(const json_t *job)
{
    const char *state = mu_answer_str(job, "state");
    char buf[400];

    number(job, "id", "job");
    line("name", mu_answer_str(job, "name"));
    line("user", mu_answer_str(job, "user"));
    printf("%-14s %s%s%s\n", "state", mu_colour_code(stdout, mu_colour_of_state(state)), state,
           mu_colour_code(stdout, MU_PLAIN));
    line("reason", mu_answer_str(job, "reason"));
    number(job, "ranks", "ranks");
    line("nodes", mu_answer_names(json_object_get(job, "nodes"), buf, sizeof buf));
    line("placed", mu_answer_str(job, "placed"));
    number(job, "attempt", "attempt");
    number(job, "step", "step");
    number(job, "checkpoint_step", "checkpoint");
    if (mu_answer_has(job, "save_last_s")) {
        snprintf(buf, sizeof buf, "%.0f held up the job for %.3g s, the last one for %.3g s",
                 mu_answer_num(job, "saves"), mu_answer_num(job, "save_s"), mu_answer_num(job, "save_last_s"));
        line("saves", buf);
    }
    number(job, "restored_step", "resumed from");
    moment(job, "submitted_t", "submitted");
    moment(job, "started_t", "started");
    moment(job, "ended_t", "ended");
    line("time", mu_answer_elapsed(job, buf, sizeof buf));
    number(job, "exit_code", "exit code");
    if (mu_answer_has(job, "failure"))
        failure(json_object_get(job, "failure"));
    line("logs", mu_answer_str(job, "log_dir"));
    if (mu_answer_num(job, "lost_lines") > 0)
        number(job, "lost_lines", "lost lines");
    if (mu_answer_num(job, "unread_ranks") > 0)
        line("not all read", mu_answer_str(job, "unread"));
}

int mu_cmd_status(int argc, char **argv)
{
    struct opts o = {0};
    struct mu_err err = {0};
    mu_auto_free char *text = NULL;
    json_t *root, *list;
    uint64_t job;
    int first, code;

    if (mu_cmd_options("muster status [OPTIONS] JOB", rows, MU_COUNT(rows), argc, argv, 1, 1, &o, &first, &code))
        return code;
    if (mu_cmd_job(argv[first], &job, &err))
        return mu_cmd_fail(argv[0], &err);
    if (mu_answer_get("status", job, true, "jobs", &root, &list, &text, &err))
        return mu_cmd_fail(argv[0], &err);
    code = 0;
    if (!json_array_size(list)) {
        mu_answer_no_job(job, &err);
        code = mu_cmd_fail(argv[0], &err);
    } else if (o.json) {
        puts(text);
    } else {
        show(json_array_get(list, 0));
    }
    json_decref(root);
    return code;
}
