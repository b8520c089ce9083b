/* muster nodes: the machines of the pool and how many of their slots are taken. */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launcher/answer.h"
#include "launcher/commands.h"
#include "launcher/table.h"
#include "runtime/base/clean.h"
#include "runtime/base/str.h"

enum { WAIT_MS = 5000, LOOK_MS = 20 };

struct opts {
    bool json;
};
static const struct mu_opt rows[] = {
    {"json", 0, MU_OPT_FLAG, offsetof(struct opts, json), NULL, "print JSON", NULL, 0, 0, NULL},
};

/* A controller that was just started has no node for a moment; that is no answer. */
static int ask(json_t **root, json_t **list, char **text, struct mu_err *err)
{
    for (int waited = 0;; waited += LOOK_MS) {
        size_t i;
        json_t *node;
        int rc = mu_answer_get("nodes", 0, false, "nodes", root, list, text, err);

        if (rc || waited >= WAIT_MS)
            return rc;
        json_array_foreach(*list, i, node)
        {
            if (!strcmp(mu_answer_str(node, "state"), "up"))
                return 0;
        }
        json_decref(*root);
        free(*text);
        *text = NULL;
        poll(NULL, 0, LOOK_MS);
    }
}

int mu_cmd_nodes(int argc, char **argv)
{
    static const struct mu_column columns[] = {{"NAME", 0},        {"STATE", 0},       {"SLOTS", MU_RIGHT},
                                               {"USED", MU_RIGHT}, {"GPUS", MU_RIGHT}, {"MEMORY", MU_RIGHT},
                                               {"REASON", 0}};
    struct opts o = {0};
    struct mu_err err = {0};
    mu_auto_free char *text = NULL;
    json_t *root, *list, *node;
    size_t i;
    int first, code;

    if (mu_cmd_options("muster nodes [OPTIONS]", rows, MU_COUNT(rows), argc, argv, 0, 0, &o, &first, &code))
        return code;
    if (ask(&root, &list, &text, &err))
        return mu_cmd_fail(argv[0], &err);
    struct mu_table *t = mu_table_new(columns, MU_COUNT(columns));
    json_array_foreach(list, i, node)
    {
        const char *state = mu_answer_str(node, "state");
        char size[32];
        if (!t || o.json)
            break;
        mu_table_cell(t, mu_answer_str(node, "name"));
        mu_table_coloured(t, mu_colour_of_state(state), state);
        mu_table_cellf(t, "%.0f", mu_answer_num(node, "slots"));
        mu_table_cellf(t, "%.0f", mu_answer_num(node, "used"));
        mu_table_cellf(t, "%.0f", mu_answer_num(node, "gpus"));
        mu_table_cell(t, mu_str_fmt_size(size, sizeof size, (uint64_t)mu_answer_num(node, "memory")));
        mu_table_cell(t, mu_answer_str(node, "reason"));
    }
    if (o.json)
        puts(text);
    else if (t && json_array_size(list))
        mu_table_print(t, stdout);
    else
        puts("no nodes yet; the first one comes up with the first job");
    mu_table_free(t);
    json_decref(root);
    return 0;
}
