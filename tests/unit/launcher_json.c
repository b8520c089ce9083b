/* The JSON of queries: the keys of the contract, nulls, and names made of anything. */
#include <jansson.h>
#include <string.h>

#include "launcher/core/ctl.h"
#include "launcher/json.h"
#include "runtime/base/clean.h"
#include "tests/unit/tap.h"

static json_t *list_of(struct mu_json *j, const char *schema, const char *list)
{
    mu_auto_free char *text = mu_json_text(j);
    json_t *root = text ? json_loads(text, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, NULL) : NULL;
    json_t *entries = json_incref(json_object_get(root, list));

    TAP_OK(entries && !strcmp(json_string_value(json_object_get(root, "schema")), schema), "%s", schema);
    json_decref(root);
    mu_json_free(j);
    return entries;
}

static const char *str(json_t *o, const char *key)
{
    const char *s = json_string_value(json_object_get(o, key));

    return s ? s : "(none)";
}
static bool null(json_t *o, const char *key)
{
    return json_is_null(json_object_get(o, key));
}
static json_int_t num(json_t *o, const char *key)
{
    json_t *v = json_object_get(o, key);

    return json_is_integer(v) ? json_integer_value(v) : -999;
}

static void jobs(void)
{
    char a[] = "node-a", b[] = "node-b", name[] = "bad \xff\xc0\xaf \xed\xa0\x80 \x1b[31m \"q\\ \xe2\x82\xac",
         user[] = "u";
    char reason[] = "attempt 2", why[] = "killed by signal 9 (Killed)", dir[] = "/logs/1";
    char *nodes[] = {a, b, NULL};
    uint8_t tail[] = {'x', 0, 0xfe, '\n'};
    struct mu_m_jobrow row = {.id = UINT32_MAX + 5ull,
                              .state = MU_JOB_RUNNING,
                              .name = name,
                              .user = user,
                              .reason = reason,
                              .attempt = 2,
                              .ranks = 4,
                              .nodes = nodes,
                              .step_plus1 = 1,
                              .exit_code = 5,
                              .submitted_wall = 1700000000500000000ull,
                              .fail_rank_plus1 = 3,
                              .fail_status = 9,
                              .fail_attempt = 1,
                              .fail_node = a,
                              .fail_text = why,
                              .fail_tail = {.data = tail, .len = sizeof tail},
                              .ckpt_plus1 = 8,
                              .saves = 3,
                              .save_ns = 1500000000,
                              .ops = 9,
                              .log_dir = dir,
                              .lost_lines = 12,
                              .unseen_lines = 3,
                              .unread_ranks = 2,
                              .unread = why};
    struct mu_m_jobrow plain = {.id = 1, .state = MU_JOB_COMPLETED, .exit_code = 0};
    struct mu_m_jobrow exited = {.id = 2,
                                 .state = MU_JOB_FAILED,
                                 .exit_code = 3,
                                 .fail_rank_plus1 = 1,
                                 .fail_status = 3 << 8,
                                 .fail_attempt = 1};
    struct mu_m_jobrow lost = {.id = 3, .state = MU_JOB_FAILED, .exit_code = 1, .fail_attempt = 1, .fail_text = why};
    struct mu_json *j = mu_json_new("muster.jobs/1", "jobs");

    mu_json_add_job(j, &row, false);
    mu_json_add_job(j, &plain, false);
    mu_json_add_job(j, &exited, false);
    mu_json_add_job(j, &lost, false);
    json_t *l = list_of(j, "muster.jobs/1", "jobs"), *o = json_array_get(l, 0), *f = json_object_get(o, "failure");
    TAP_OK(num(o, "id") == UINT32_MAX + 5ll && num(o, "attempt") == 2 && num(o, "ranks") == 4 &&
               num(o, "restarts") == 1,
           "numbers");
    TAP_OK(!strcmp(str(o, "name"), "bad \ufffd\ufffd\ufffd \ufffd\ufffd\ufffd \x1b[31m \"q\\ \u20ac"),
           "a hostile name is valid text");
    TAP_OK(!strcmp(str(o, "state"), "running") && !strcmp(str(o, "reason"), "attempt 2") &&
               !strcmp(str(o, "user"), "u"),
           "texts");
    TAP_OK(json_array_size(json_object_get(o, "nodes")) == 2, "nodes");
    TAP_OK(num(o, "step") == 0 && num(o, "checkpoint_step") == 7 && null(o, "restored_step"), "steps, step 0 included");
    TAP_OK(num(o, "saves") == 3 && num(o, "operations") == 9 && json_real_value(json_object_get(o, "save_s")) == 1.5 &&
               !null(o, "save_last_s"),
           "what saves and operations cost");
    TAP_OK(num(o, "lost_lines") == 12 && num(o, "unseen_lines") == 3 && num(o, "unread_ranks") == 2, "lost output");
    TAP_OK(null(o, "exit_code") && null(o, "started_t") && null(o, "ended_t"), "what is not yet is null");
    TAP_OK(json_real_value(json_object_get(o, "submitted_t")) == 1700000000.5, "times are seconds");
    TAP_OK(num(f, "rank") == 2 && num(f, "signal") == 9 && null(f, "exit_code") && !strcmp(str(f, "node"), "node-a") &&
               !strcmp(str(f, "message"), why),
           "a failure by a signal");
    TAP_OK(json_string_length(json_object_get(f, "stderr_tail")) == 6, "its last output, whatever the bytes");
    o = json_array_get(l, 1);
    TAP_OK(num(o, "exit_code") == 0 && null(o, "failure") && null(o, "step") && null(o, "log_dir") &&
               !strcmp(str(o, "name"), "") && json_array_size(json_object_get(o, "nodes")) == 0,
           "a job of nothing but its end");
    f = json_object_get(json_array_get(l, 2), "failure");
    TAP_OK(num(f, "rank") == 0 && num(f, "exit_code") == 3 && null(f, "signal") && null(f, "node"),
           "a failure by a code");
    f = json_object_get(json_array_get(l, 3), "failure");
    TAP_OK(null(f, "rank") && null(f, "signal") && null(f, "exit_code"), "a failure without a rank");
    json_decref(l);
}

static void events_and_nodes(void)
{
    struct mu_store_event e = {.job = 4, .wall = 1500000000, .attempt = 1, .rank = -1, .kind = "submitted"};
    struct mu_node up = {
        .name = "n\xff", .gpus = 4, .slots = 8, .used = 3, .memory = 1ull << 40, .state = MU_NODE_UP, .ready = true};
    struct mu_node away = {.name = "m", .state = MU_NODE_AWAY};
    struct mu_json *j = mu_json_new("muster.events/1", "events");

    mu_json_add_event(j, &e);
    e.rank = 0;
    e.node = "node-a";
    e.detail = "why";
    mu_json_add_event(j, &e);
    json_t *l = list_of(j, "muster.events/1", "events"), *o = json_array_get(l, 0);
    TAP_OK(json_real_value(json_object_get(o, "t")) == 1.5 && !strcmp(str(o, "kind"), "submitted") &&
               num(o, "job") == 4 && num(o, "attempt") == 1 && null(o, "rank") && null(o, "node") &&
               !strcmp(str(o, "detail"), ""),
           "an event of a job");
    o = json_array_get(l, 1);
    TAP_OK(num(o, "rank") == 0 && !strcmp(str(o, "node"), "node-a") && !strcmp(str(o, "detail"), "why"),
           "an event of rank 0");
    json_decref(l);

    j = mu_json_new("muster.nodes/1", "nodes");
    mu_json_add_node(j, &up, NULL);
    mu_json_add_node(j, &away, NULL);
    l = list_of(j, "muster.nodes/1", "nodes");
    o = json_array_get(l, 0);
    TAP_OK(!strcmp(str(o, "name"), "n\ufffd") && !strcmp(str(o, "state"), "up") && !strcmp(str(o, "reason"), "") &&
               num(o, "slots") == 8 && num(o, "used") == 3 && num(o, "gpus") == 4 && num(o, "memory") == 1ll << 40,
           "a node");
    TAP_OK(!strcmp(str(json_array_get(l, 1), "state"), "away") && *str(json_array_get(l, 1), "reason"),
           "one that is away");
    json_decref(l);

    j = mu_json_new("muster.nodes/1", "nodes");
    l = list_of(j, "muster.nodes/1", "nodes");
    TAP_OK(json_is_array(l) && !json_array_size(l), "an empty list");
    json_decref(l);

    static const struct mu_pool none;
    j = mu_json_new("muster.nodes/1", "nodes");
    mu_json_fabric(j, &(struct mu_fabric_state){.source = "/f", .reading = true}, &none);
    mu_auto_free char *text = mu_json_text(j);
    TAP_OK(text && strstr(text, "\"reading\":true") && strstr(text, "\"trouble\":null"), "a fabric that is being read");
    mu_json_free(j);
}

int main(void)
{
    jobs();
    events_and_nodes();
    return tap_done();
}
