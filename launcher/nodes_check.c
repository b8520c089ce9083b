/* muster nodes check: the health checks of nodes, now. */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launcher/answer.h"
#include "launcher/client.h"
#include "launcher/commands.h"
#include "launcher/nodes.h"
#include "launcher/run.h"
#include "launcher/table.h"
#include "runtime/base/clean.h"
#include "runtime/base/clock.h"
#include "runtime/base/str.h"
#include "runtime/wire/core.h"

enum { LOOK_MS = 50 };
#define CALL_NS (30 * MU_SEC)
#define WAIT_NS (MU_CHECK_ALL_NS + 20 * MU_SEC)

struct opts {
    bool json, all;
};
#define AT(field) offsetof(struct opts, field)
static const struct mu_opt rows[] = {
    {"all", 'a', MU_OPT_FLAG, AT(all), NULL, "show the checks that pass, too", NULL, 0, 0, NULL},
    {"json", 0, MU_OPT_FLAG, AT(json), NULL, "print JSON", NULL, 0, 0, NULL},
};

static bool named(const struct mu_hosts *hosts, const char *name)
{
    for (size_t i = 0; i < hosts->n; i++)
        if (!strcmp(mu_host_name(hosts->v[i].name), name))
            return true;
    return !hosts->n;
}

/* Its agent is there to be asked. */
static bool there(const json_t *node)
{
    static const char *const states[] = {"up", "draining", "drained", "quarantined", "joining"};

    for (size_t i = 0; i < MU_COUNT(states); i++)
        if (!strcmp(mu_answer_str(node, "state"), states[i]))
            return true;
    return false;
}

static bool answered(const json_t *node, uint64_t id)
{
    return json_integer_value(json_object_get(node, "id")) >= (json_int_t)id;
}

static int ask(const struct mu_hosts *hosts, uint64_t *id, struct mu_err *err)
{
    MU_AUTO_MSG struct mu_msg reply = {0};
    mu_auto_free char *text = hosts->n ? mu_run_hosts_text(hosts) : NULL;
    struct mu_m_nodes_check m = {.hosts = text};
    struct mu_client c;
    int rc = mu_client_open(&c, err);

    if (rc)
        return rc;
    if (!(rc = mu_nodes_await_first(err)) &&
        !(rc = mu_client_call(&c, MU_MSG_nodes_check, &m, MU_MSG_submitted, &reply, CALL_NS, err)))
        *id = reply.submitted.job;
    mu_client_close(&c);
    return rc;
}

/* Until each that is there has answered, or time is over. Leaves those that were meant in the answer. */
static int await_all(const struct mu_hosts *hosts, uint64_t id, json_t **root, json_t **list, struct mu_err *err)
{
    uint64_t until = mu_now() + WAIT_NS;

    for (;;) {
        bool wait = false;
        size_t i = 0;
        int rc = mu_answer_get("checks", 0, false, "nodes", root, list, NULL, err);
        if (rc)
            return rc;
        while (i < json_array_size(*list)) {
            json_t *node = json_array_get(*list, i);
            if (!named(hosts, mu_answer_str(node, "name"))) {
                json_array_remove(*list, i);
                continue;
            }
            wait = wait || (there(node) && !answered(node, id));
            json_object_set_new(node, "answered", json_boolean(answered(node, id)));
            i++;
        }
        if (!wait || mu_now() >= until)
            return 0;
        json_decref(*root);
        poll(NULL, 0, LOOK_MS);
    }
}

static enum mu_colour colour(const char *level)
{
    return !strcmp(level, "ok") ? MU_GOOD : !strcmp(level, "failed") ? MU_BAD : MU_BUSY;
}

static void line(struct mu_table *t, const char *node, const char *check, const char *level, const char *reason)
{
    mu_table_cell(t, node);
    mu_table_cell(t, check);
    mu_table_coloured(t, colour(level), level);
    mu_table_cell(t, reason);
}

/* The number of checks that have failed, with those that were not made. */
static unsigned show(struct mu_table *t, const json_t *node, bool all)
{
    const char *name = mu_answer_str(node, "name"), *state = mu_answer_str(node, "state");
    const json_t *out = json_object_get(node, "out"), *row;
    unsigned failed = 0, shown = 0, passed = 0;
    char text[600];
    size_t i;

    if (!json_is_true(json_object_get(node, "answered"))) {
        snprintf(text, sizeof text, "it has not answered; it is %s", state);
        line(t, name, "-", "failed", text);
        return 1;
    }
    json_array_foreach(json_object_get(node, "checks"), i, row)
    {
        const char *level = mu_answer_str(row, "level");
        bool good = !strcmp(level, "ok") || !strcmp(level, "skipped");
        failed += !strcmp(level, "failed");
        passed += !strcmp(level, "ok");
        if (good && !all)
            continue;
        snprintf(text, sizeof text, "health check %s", mu_answer_str(row, "name"));
        bool cause = json_is_object(out) && !strcmp(mu_answer_str(out, "by"), text);
        snprintf(text, sizeof text, "%s%s%s", mu_answer_str(row, "reason"), cause ? "; the node is " : "",
                 cause ? state : "");
        line(t, name, mu_answer_str(row, "name"), level, text);
        shown++;
    }
    snprintf(text, sizeof text, "%u check%s", passed, passed == 1 ? "" : "s");
    if (!shown)
        line(t, name, "-", "ok", text);
    return failed;
}

int mu_nodes_check(int argc, char **argv)
{
    static const struct mu_column columns[] = {{"NODE", 0}, {"CHECK", 0}, {"RESULT", 0}, {"REASON", 0}};
    struct opts o = {0};
    struct mu_err err = {0};
    struct mu_hosts hosts = {0};
    uint64_t id = 0;
    json_t *root, *list, *node;
    unsigned failed = 0;
    size_t i;
    int first, code, rc = 0;

    if (mu_cmd_options("muster nodes check [OPTIONS] [HOST]...", rows, MU_COUNT(rows), argc, argv, 0, 65536, &o, &first,
                       &code))
        return code;
    for (int k = first; k < argc && !rc; k++)
        rc = mu_nodes_take(&hosts, argv[k], &err);
    rc = rc ? rc : ask(&hosts, &id, &err);
    rc = rc ? rc : await_all(&hosts, id, &root, &list, &err);
    mu_hosts_free(&hosts);
    if (rc)
        return mu_cmd_fail(argv[0], &err);
    struct mu_table *t = mu_table_new(columns, MU_COUNT(columns));
    json_array_foreach(list, i, node) failed += t ? show(t, node, o.all) : 1;
    mu_auto_free char *text = o.json ? json_dumps(root, JSON_COMPACT | JSON_REAL_PRECISION(16)) : NULL;
    if (text)
        puts(text);
    else if (t && i)
        mu_table_print(t, stdout);
    mu_table_free(t);
    json_decref(root);
    return failed ? MU_EXIT_FAILED : 0;
}
