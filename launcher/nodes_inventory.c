/* muster nodes inventory: what nodes are made of. */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launcher/answer.h"
#include "launcher/client.h"
#include "launcher/commands.h"
#include "launcher/nodes.h"
#include "launcher/nodes_made.h"
#include "runtime/base/clean.h"
#include "runtime/base/clock.h"
#include "runtime/base/str.h"

enum { LOOK_MS = 50, WAIT_MS = 10000 };
#define ANSWER_NS (30 * MU_SEC)

struct opts {
    bool json, history;
};
#define AT(field) offsetof(struct opts, field)
static const struct mu_opt rows[] = {
    {"history", 0, MU_OPT_FLAG, AT(history), NULL, "what has changed, and when; of one node", NULL, 0, 0, NULL},
    {"json", 0, MU_OPT_FLAG, AT(json), NULL, "print JSON", NULL, 0, 0, NULL},
};

static int ask(struct mu_client *c, const char *node, json_t **root, json_t **list, char **text, struct mu_err *err)
{
    struct mu_m_query q = {.what = (char[]){"inventory"}, .node = (char *)(uintptr_t)node};
    MU_AUTO_MSG struct mu_msg m = {0};
    int rc = mu_client_call(c, MU_MSG_query, &q, MU_MSG_reply, &m, ANSWER_NS, err);

    if (rc)
        return rc;
    *root = m.reply.json ? json_loads(m.reply.json, 0, NULL) : NULL;
    *list = json_object_get(*root, "nodes");
    if (!json_is_array(*list)) {
        json_decref(*root);
        return mu_err_set(err, MUSTER_EIO, "the controller's answer cannot be read");
    }
    if (text)
        *text = MU_STEAL(m.reply.json, NULL);
    return 0;
}

int mu_nodes_made(const char *node, json_t **root, json_t **list, char **text, struct mu_err *err)
{
    struct mu_client c;
    int rc = mu_client_open(&c, err);

    for (int waited = 0; rc >= 0; waited += LOOK_MS) {
        rc = ask(&c, NULL, root, list, node ? NULL : text, err);
        if (rc || json_array_size(*list) || waited >= WAIT_MS)
            break;
        json_decref(*root);
        if (!node && text)
            free(MU_STEAL(*text, NULL));
        poll(NULL, 0, LOOK_MS);
    }
    if (!rc && node) {
        json_decref(*root);
        rc = ask(&c, node, root, list, text, err);
    }
    mu_client_close(&c);
    return rc;
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

const char **mu_nodes_keys(const json_t *o, size_t *n)
{
    const char **v = calloc(json_object_size(o) + 1, sizeof *v), *key;
    json_t *value;

    *n = 0;
    json_object_foreach((json_t *)(uintptr_t)o, key, value) if (v) v[(*n)++] = key;
    if (v)
        qsort(v, *n, sizeof *v, by_text);
    return v;
}

/* "8 NVIDIA H100" */
static const char *gpus_of(const json_t *items, char *buf, size_t n)
{
    const char *count = mu_answer_str(items, "gpu.count"), *model = mu_answer_str(items, "gpu.0.model");

    if (!strcmp(count, "0") || !*count)
        return "-";
    snprintf(buf, n, "%s %s", count, model);
    return buf;
}

static void show_all(const json_t *list)
{
    static const struct mu_column columns[] = {{"NODE", 0}, {"SINCE", 0},  {"CPU", 0},     {"MEMORY", MU_RIGHT},
                                               {"GPUS", 0}, {"KERNEL", 0}, {"APPROVED", 0}};
    struct mu_table *t = mu_table_new(columns, MU_COUNT(columns));
    const json_t *node;
    char buf[300], cpu[400];
    size_t i;

    json_array_foreach(list, i, node)
    {
        const json_t *items = json_object_get(node, "items"), *base = json_object_get(node, "baseline");
        const char *sockets = mu_answer_str(items, "cpu.sockets");
        double drift = mu_answer_num(node, "drift");
        if (!t)
            break;
        mu_table_cell(t, mu_answer_str(node, "name"));
        const char *since = mu_answer_time(mu_answer_num(node, "t"), buf, sizeof buf);
        mu_table_cellf(t, "%.*s", (int)strcspn(since, "."), since);
        snprintf(cpu, sizeof cpu, "%s%s%.250s", sockets, *sockets ? " " : "", mu_answer_str(items, "cpu.model"));
        mu_table_cell(t, *cpu ? cpu : "-");
        mu_table_cell(t, *mu_answer_str(items, "memory.total") ? mu_answer_str(items, "memory.total") : "-");
        mu_table_cell(t, gpus_of(items, buf, sizeof buf));
        mu_table_cell(t, *mu_answer_str(items, "kernel.release") ? mu_answer_str(items, "kernel.release") : "-");
        snprintf(buf, sizeof buf, "by %.100s", mu_answer_str(base, "by"));
        if (json_is_object(base) && drift > 0)
            snprintf(buf, sizeof buf, "%.0f differ%s", drift, drift > 1 ? "" : "s");
        mu_table_coloured(t,
                          !json_is_object(base) ? MU_PLAIN
                          : drift > 0           ? MU_BAD
                                                : MU_GOOD,
                          json_is_object(base) ? buf : "-");
    }
    if (t && json_array_size(list))
        mu_table_print(t, stdout);
    else
        puts("no node has told yet what it is made of");
    mu_table_free(t);
}

static void show_one(const json_t *node)
{
    static const struct mu_column columns[] = {{"KEY", 0}, {"VALUE", 0}, {"APPROVED", 0}};
    const json_t *items = json_object_get(node, "items"), *base = json_object_get(node, "baseline");
    const json_t *was = json_object_get(base, "items");
    struct mu_table *t = mu_table_new(columns, json_is_object(base) ? 3 : 2);
    json_t *all = json_copy((json_t *)(uintptr_t)items);
    char shown[300], when[64];
    size_t n = 0;

    if (all && was)
        json_object_update(all, (json_t *)(uintptr_t)was);
    mu_auto_free const char **keys = mu_nodes_keys(all, &n);
    for (size_t i = 0; t && keys && i < n; i++) {
        const char *is = mu_answer_str(items, keys[i]), *then = mu_answer_str(was, keys[i]);
        mu_table_cell(t, keys[i]);
        mu_table_cell(t, *is ? is : "-");
        if (json_is_object(base))
            mu_table_coloured(t, strcmp(is, then) ? MU_BAD : MU_PLAIN,
                              !strcmp(is, then) ? "the same"
                              : *then           ? then
                                                : "-");
    }
    if (t && n)
        mu_table_print(t, stdout);
    if (json_is_object(base)) {
        mu_answer_time(mu_answer_num(base, "t"), when, sizeof when);
        when[strcspn(when, ".")] = 0;
        printf("\napproved at %s by %s", when, mu_str_show(shown, sizeof shown, mu_answer_str(base, "by")));
        printf(": %s\n", mu_str_show(shown, sizeof shown, mu_answer_str(base, "why")));
    }
    json_decref(all);
    mu_table_free(t);
}

static void change(struct mu_table *t, const char *when, const char *key, const char *was, const char *is)
{
    mu_table_cell(t, when);
    mu_table_cell(t, key);
    mu_table_cell(t, *was ? was : "-");
    mu_table_cell(t, *is ? is : "-");
}

static void show_history(const json_t *node)
{
    static const struct mu_column columns[] = {{"TIME", 0}, {"KEY", 0}, {"WAS", 0}, {"IS", 0}};
    const json_t *list = json_object_get(node, "history"), *entry, *last = NULL;
    struct mu_table *t = mu_table_new(columns, MU_COUNT(columns));
    char when[64], text[80];
    size_t i;

    json_array_foreach(list, i, entry)
    {
        const json_t *items = json_object_get(entry, "items");
        json_t *all = json_copy((json_t *)(uintptr_t)items);
        size_t n = 0;
        if (all && last)
            json_object_update(all, (json_t *)(uintptr_t)last);
        mu_auto_free const char **keys = mu_nodes_keys(all, &n);
        mu_answer_time(mu_answer_num(entry, "t"), when, sizeof when);
        when[strcspn(when, ".")] = 0;
        snprintf(text, sizeof text, "%zu keys", json_object_size(items));
        if (t && !last)
            change(t, when, "(the oldest that is kept)", "", text);
        for (size_t k = 0; t && keys && last && k < n; k++)
            if (strcmp(mu_answer_str(last, keys[k]), mu_answer_str(items, keys[k])) != 0)
                change(t, when, keys[k], mu_answer_str(last, keys[k]), mu_answer_str(items, keys[k]));
        json_decref(all);
        last = items;
    }
    if (t && last)
        mu_table_print(t, stdout);
    else
        puts("nothing of this node is stored");
    mu_table_free(t);
}

int mu_nodes_inventory(int argc, char **argv)
{
    struct opts o = {0};
    struct mu_err err = {0};
    mu_auto_free char *text = NULL;
    json_t *root, *list;
    int first, code;

    if (mu_cmd_options("muster nodes inventory [OPTIONS] [NODE]", rows, MU_COUNT(rows), argc, argv, 0, 1, &o, &first,
                       &code))
        return code;
    const char *node = first < argc ? argv[first] : NULL;
    int rc = o.history && !node ? mu_err_set(&err, MUSTER_EARG, "--history is of one node: name it") : 0;
    rc = rc ? rc : mu_nodes_made(node, &root, &list, &text, &err);
    if (rc)
        return mu_cmd_fail(argv[0], &err);
    if (o.json)
        puts(text ? text : "{}");
    else if (!node)
        show_all(list);
    else if (o.history)
        show_history(json_array_get(list, 0));
    else
        show_one(json_array_get(list, 0));
    json_decref(root);
    return 0;
}
