/* muster nodes diff: in what nodes differ, from one another and from what was approved. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launcher/answer.h"
#include "launcher/commands.h"
#include "launcher/nodes.h"
#include "launcher/nodes_made.h"
#include "runtime/base/clean.h"
#include "runtime/base/str.h"
#include "runtime/wire/inventory.h"

struct opts {
    bool json, baseline;
};
#define AT(field) offsetof(struct opts, field)
static const struct mu_opt rows[] = {
    {"baseline", 0, MU_OPT_FLAG, AT(baseline), NULL, "from what was approved, with `muster inventory approve`", NULL, 0,
     0, NULL},
    {"json", 0, MU_OPT_FLAG, AT(json), NULL, "print JSON", NULL, 0, 0, NULL},
};

static json_t *value_of(const char *text)
{
    return *text ? json_string(text) : json_null();
}

static void found(json_t *list, const char *node, const char *key, const char *value, const char *other)
{
    json_t *o = json_object();

    json_object_set_new(o, "node", json_string(node));
    json_object_set_new(o, "key", value_of(key));
    json_object_set_new(o, "value", value_of(value));
    json_object_set_new(o, "other", value_of(other));
    json_array_append_new(list, o);
}

/* Keys of all of them: an object of any values. */
static json_t *keys_of(const json_t *list)
{
    json_t *all = json_object();
    const json_t *node;
    size_t i;

    json_array_foreach(list, i, node) json_object_update(all, json_object_get(node, "items"));
    return all;
}

/* What most nodes have; of several that are as many, what the first node has. "": most have no such key. */
static const char *most_of(const json_t *list, const char *key)
{
    json_t *counts = json_object();
    const char *best = "";
    const json_t *node;
    json_int_t most = 0;
    size_t i;

    json_array_foreach(list, i, node)
    {
        const char *v = mu_answer_str(json_object_get(node, "items"), key);
        json_object_set_new(counts, v, json_integer(1 + json_integer_value(json_object_get(counts, v))));
    }
    json_array_foreach(list, i, node)
    {
        const char *v = mu_answer_str(json_object_get(node, "items"), key);
        json_int_t n = json_integer_value(json_object_get(counts, v));
        if (n <= most)
            continue;
        most = n;
        best = v;
    }
    json_decref(counts);
    return best;
}

json_t *mu_nodes_diff_most(const json_t *list)
{
    json_t *out = json_array(), *all = keys_of(list);
    const json_t *node;
    size_t n = 0, i;

    mu_auto_free const char **keys = mu_nodes_keys(all, &n);
    for (size_t k = 0; out && keys && k < n; k++) {
        if (mu_inventory_own(keys[k]))
            continue;
        const char *most = most_of(list, keys[k]);
        json_array_foreach(list, i, node)
        {
            const char *v = mu_answer_str(json_object_get(node, "items"), keys[k]);
            if (strcmp(v, most) != 0)
                found(out, mu_answer_str(node, "name"), keys[k], v, most);
        }
    }
    json_decref(all);
    return out;
}

json_t *mu_nodes_diff_base(const json_t *list)
{
    json_t *out = json_array();
    const json_t *node;
    size_t i;

    json_array_foreach(list, i, node)
    {
        const json_t *items = json_object_get(node, "items");
        const json_t *was = json_object_get(json_object_get(node, "baseline"), "items");
        json_t *all = json_copy((json_t *)(uintptr_t)items);
        size_t n = 0;
        if (!was)
            found(out, mu_answer_str(node, "name"), "", "", "");
        else
            json_object_update(all, (json_t *)(uintptr_t)was);
        mu_auto_free const char **keys = was ? mu_nodes_keys(all, &n) : NULL;
        for (size_t k = 0; keys && k < n; k++) {
            const char *is = mu_answer_str(items, keys[k]), *then = mu_answer_str(was, keys[k]);
            if (strcmp(is, then) != 0)
                found(out, mu_answer_str(node, "name"), keys[k], is, then);
        }
        json_decref(all);
    }
    return out;
}

/* Leaves those that are named; all must be there. */
static int only(json_t *list, int n, char **names, struct mu_err *err)
{
    char shown[300];

    for (int k = 0; k < n; k++) {
        const json_t *node;
        bool there = false;
        size_t i;
        json_array_foreach(list, i, node) there = there || !strcmp(mu_answer_str(node, "name"), names[k]);
        if (!there)
            return mu_err_set(err, MUSTER_EARG,
                              "there is no inventory of %s; `muster nodes inventory` lists those that there are",
                              mu_str_show(shown, sizeof shown, names[k]));
    }
    for (size_t i = 0; n && i < json_array_size(list);) {
        bool named = false;
        for (int k = 0; k < n; k++)
            named = named || !strcmp(mu_answer_str(json_array_get(list, i), "name"), names[k]);
        if (named)
            i++;
        else
            json_array_remove(list, i);
    }
    return 0;
}

/* Of two nodes: theirs side by side, the one that was named first as the other. */
static json_t *diff_two(json_t *list, const char *first)
{
    json_t *a = json_array_get(list, 0);

    if (strcmp(mu_answer_str(a, "name"), first) != 0) {
        json_array_append(list, a);
        json_array_remove(list, 0);
    }
    return mu_nodes_diff_most(list);
}

static const char *cell(const json_t *o, const char *key)
{
    return mu_answer_has(o, key) ? mu_answer_str(o, key) : "-";
}

static void show(const json_t *diff, const json_t *list, bool two, bool baseline)
{
    const char *first = two ? mu_answer_str(json_array_get(list, 0), "name") : "";
    const struct mu_column columns[] = {{two ? "KEY" : "NODE", 0},
                                        {two ? first : "KEY", 0},
                                        {two        ? mu_answer_str(json_array_get(list, 1), "name")
                                         : baseline ? "APPROVED"
                                                    : "MOST HAVE",
                                         0},
                                        {baseline ? "IS" : "HAS", 0}};
    struct mu_table *t = mu_table_new(columns, two ? 3 : 4);
    const json_t *o;
    size_t i;

    json_array_foreach(diff, i, o)
    {
        if (!t)
            break;
        if (!two)
            mu_table_cell(t, mu_answer_str(o, "node"));
        mu_table_cell(t, cell(o, "key"));
        mu_table_cell(t, mu_answer_has(o, "key") ? cell(o, "other") : "(nothing was approved)");
        mu_table_cell(t, cell(o, "value"));
    }
    if (t && json_array_size(diff))
        mu_table_print(t, stdout);
    else if (json_array_size(list) < 2 && !baseline)
        puts("there is one node, and nothing to compare it with");
    else
        puts(baseline ? "all nodes are as they were approved" : "the nodes are alike");
    mu_table_free(t);
}

int mu_nodes_diff(int argc, char **argv)
{
    struct opts o = {0};
    struct mu_err err = {0};
    json_t *root, *list, *diff;
    int first, code;

    if (mu_cmd_options("muster nodes diff [OPTIONS] [NODE]...", rows, MU_COUNT(rows), argc, argv, 0, 65536, &o, &first,
                       &code))
        return code;
    int n = argc - first, rc = 0;
    if (n == 1 && !o.baseline)
        rc = mu_err_set(&err, MUSTER_EARG, "name two nodes or more, or none to compare all; or say --baseline");
    rc = rc ? rc : mu_nodes_made(NULL, &root, &list, NULL, &err);
    if (rc)
        return mu_cmd_fail(argv[0], &err);
    if ((rc = only(list, n, argv + first, &err))) {
        json_decref(root);
        return mu_cmd_fail(argv[0], &err);
    }
    bool two = !o.baseline && json_array_size(list) == 2;
    diff = o.baseline ? mu_nodes_diff_base(list) : two && n ? diff_two(list, argv[first]) : mu_nodes_diff_most(list);
    json_t *all = json_pack("{s:s, s:O}", "schema", "muster.diff/1", "differences", diff);
    mu_auto_free char *text = o.json && all ? json_dumps(all, JSON_COMPACT) : NULL;
    if (o.json)
        puts(text ? text : "{}");
    else
        show(diff, list, two, o.baseline);
    bool differ = json_array_size(diff) > 0;
    json_decref(all);
    json_decref(diff);
    json_decref(root);
    return differ ? MU_EXIT_FAILED : 0;
}
