/* muster nodes: the machines of the pool and how many of their slots are taken; hosts that come to it and leave it. */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launcher/answer.h"
#include "launcher/commands.h"
#include "launcher/core/ctl.h"
#include "launcher/engine.h"
#include "launcher/nodes.h"
#include "launcher/run.h"
#include "launcher/table.h"
#include "runtime/base/clean.h"
#include "runtime/base/clock.h"
#include "runtime/base/str.h"

enum { WAIT_MS = 5000, FIRST_MS = 10000, LOOK_MS = 20, LOOK_ADDED_MS = 100 };
#define ANSWER_NS (30 * MU_SEC)
#define ADD_NS (90 * MU_SEC) /* an ssh, a copy, an ssh */

struct opts {
    bool json, guids;
    const char *ssh, *engine;
    bool force, none;
    const char *reason;
};
#define AT(field) offsetof(struct opts, field)
static const struct mu_opt rows[] = {
    {"json", 0, MU_OPT_FLAG, AT(json), NULL, "print JSON", NULL, 0, 0, NULL},
    {"guids", 0, MU_OPT_FLAG, AT(guids), NULL, "print the GUIDs of adapters, as topo's --guids takes them", NULL, 0, 0,
     NULL},
};
static const struct mu_opt add_rows[] = {
    {"ssh", 0, MU_OPT_STRING, AT(ssh), "COMMAND", "in place of ssh", NULL, 0, 0, NULL},
    {"engine", 0, MU_OPT_STRING, AT(engine), "ssh|slurm|hand", "how agents are started there", NULL, 0, 0, NULL},
};
static const struct mu_opt remove_rows[] = {
    {"force", 0, MU_OPT_FLAG, AT(force), NULL, "also where jobs run: they lose the node", NULL, 0, 0, NULL},
};

static const struct mu_opt drain_rows[] = {
    {"reason", 'r', MU_OPT_STRING, AT(reason), "TEXT", "why, for all who wonder", NULL, 0, 0, NULL},
};

static const struct mu_opt label_rows[] = {
    {"none", 0, MU_OPT_FLAG, AT(none), NULL, "these hosts have no labels any more", NULL, 0, 0, NULL},
};

/* --- the listing ---------------------------------------------------------------------------------------------------
 */

/* Without a pool this begins it, to say what this machine offers. A controller that was just started has no node for a
 * moment; that is no answer. */
static int ask(json_t **root, json_t **list, char **text, struct mu_err *err)
{
    struct mu_client c;
    int rc = mu_client_open(&c, err);

    if (rc < 0)
        return rc;
    mu_client_close(&c);
    for (int waited = 0;; waited += LOOK_MS) {
        size_t i;
        json_t *node;

        rc = mu_answer_get("nodes", 0, false, "nodes", root, list, text, err);
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

/* What the pool's fabric is, and what is wrong with it; nothing where there is none. */
static void show_fabric(const json_t *root)
{
    const json_t *f = json_object_get(root, "fabric"), *unknown = json_object_get(f, "unknown");
    char shown[600], names[200];

    if (!json_is_object(f))
        return;
    printf("\nfabric: %s", mu_str_show(shown, sizeof shown, mu_answer_str(f, "source")));
    if (mu_answer_has(f, "hosts"))
        printf(", %.0f hosts%s", mu_answer_num(f, "hosts"), json_is_true(json_object_get(f, "tree")) ? ", a tree" : "");
    puts(json_is_true(json_object_get(f, "reading")) ? ", being read" : "");
    if (*mu_answer_str(f, "trouble"))
        printf("fabric: %s\n", mu_str_show(shown, sizeof shown, mu_answer_str(f, "trouble")));
    if (json_array_size(unknown))
        printf("fabric: not in it: %s\n",
               mu_str_show(shown, sizeof shown, mu_answer_names(unknown, names, sizeof names)));
}

/* A GUID and its node a line. */
static void print_guids(const json_t *list)
{
    const json_t *node, *guid;
    size_t i, k;

    json_array_foreach(list, i, node)
    {
        json_array_foreach(json_object_get(node, "guids"), k, guid)
        {
            char shown[300];
            printf("0x%s %s\n", json_string_value(guid), mu_str_show(shown, sizeof shown, mu_answer_str(node, "name")));
        }
    }
}

static void help_more(void);

static bool have_labels(const json_t *list)
{
    const json_t *node;
    size_t i;

    json_array_foreach(list, i, node)
    {
        if (json_array_size(json_object_get(node, "labels")))
            return true;
    }
    return false;
}

static int list_nodes(int argc, char **argv)
{
    struct mu_column columns[9] = {{"NAME", 0},        {"STATE", 0},       {"SLOTS", MU_RIGHT},
                                   {"USED", MU_RIGHT}, {"GPUS", MU_RIGHT}, {"MEMORY", MU_RIGHT}};
    size_t ncolumns = 6;
    struct opts o = {0};
    struct mu_err err = {0};
    mu_auto_free char *text = NULL;
    json_t *root, *list, *node;
    size_t i;
    int first, code;

    bool list_too = !strcmp(argv[0], "nodes list");
    if (mu_cmd_options(list_too ? "muster nodes list [OPTIONS]" : "muster nodes [OPTIONS] [COMMAND]", rows,
                       MU_COUNT(rows), argc, argv, 0, 0, &o, &first, &code)) {
        if (!code && !list_too)
            help_more();
        return code;
    }
    if (ask(&root, &list, &text, &err))
        return mu_cmd_fail(argv[0], &err);
    bool leaves = json_is_object(json_object_get(root, "fabric"));
    bool labels = have_labels(list);
    if (leaves)
        columns[ncolumns++].title = "LEAF";
    if (labels)
        columns[ncolumns++].title = "LABELS";
    columns[ncolumns++].title = "REASON";
    struct mu_table *t = mu_table_new(columns, ncolumns);
    json_array_foreach(list, i, node)
    {
        const char *state = mu_answer_str(node, "state");
        char size[32], names[300];
        if (!t || o.json || o.guids)
            break;
        mu_table_cell(t, mu_answer_str(node, "name"));
        mu_table_coloured(t, mu_colour_of_state(state), state);
        mu_table_cellf(t, "%.0f", mu_answer_num(node, "slots"));
        mu_table_cellf(t, "%.0f", mu_answer_num(node, "used"));
        mu_table_cellf(t, "%.0f", mu_answer_num(node, "gpus"));
        mu_table_cell(t, mu_str_fmt_size(size, sizeof size, (uint64_t)mu_answer_num(node, "memory")));
        if (leaves)
            mu_table_cell(t, mu_answer_has(node, "leaf") ? mu_answer_str(node, "leaf") : "-");
        if (labels)
            mu_table_cell(t, mu_answer_names(json_object_get(node, "labels"), names, sizeof names));
        mu_table_cell(t, mu_answer_str(node, "reason"));
    }
    if (o.json)
        puts(text);
    else if (o.guids)
        print_guids(list);
    else if (t && json_array_size(list))
        mu_table_print(t, stdout);
    else
        puts("no nodes yet; the first one comes up with the first job");
    if (!o.json && !o.guids)
        show_fabric(root);
    mu_table_free(t);
    json_decref(root);
    return 0;
}

/* --- hosts that come and go ----------------------------------------------------------------------------------------
 */

/* HOST, HOST:SLOTS, [IPV6]:SLOTS, IPV6. Without a number the node decides, unlike with -H. */
int mu_nodes_take(struct mu_hosts *hosts, const char *word, struct mu_err *err)
{
    const char *colon = strchr(word, ':');
    mu_auto_buf struct mu_buf b = {0};
    size_t len = strlen(word);

    if (word[mu_hosts_word(word)])
        return mu_err_set(err, MUSTER_EARG, "'%.80s': hosts are words of their own", word);
    if (!colon || word[len - (len > 0)] == ']')
        mu_buf_appendf(&b, "%s:*", word);
    else if (word[0] != '[' && strchr(colon + 1, ':'))
        mu_buf_appendf(&b, "[%s]:*", word);
    else
        mu_buf_puts(&b, word);
    return mu_run_hosts_add(hosts, mu_buf_str(&b), err);
}

static int take_hosts(struct mu_hosts *hosts, int n, char **words, struct mu_err *err)
{
    char here[65];
    int rc = 0;

    mu_path_host(here);
    for (int i = 0; i < n && !rc; i++)
        rc = mu_nodes_take(hosts, words[i], err);
    for (size_t i = 0; i < hosts->n && !rc; i++)
        if (!strcmp(hosts->v[i].name, here) && !getenv("MUSTER_POOL"))
            rc = mu_err_set(err, MUSTER_EARG, "host %s is this machine, which is always in its pool", here);
    return rc;
}

/* State and reason of a node; NULL: there is none. */
static const json_t *find(const json_t *list, const char *name)
{
    const json_t *node;
    size_t i;

    json_array_foreach(list, i, node)
    {
        if (!strcmp(mu_answer_str(node, "name"), name))
            return node;
    }
    return NULL;
}

/* Not on its way any more, for now. */
static bool has_failed(const json_t *node)
{
    const char *state = mu_answer_str(node, "state");

    return (!strcmp(state, "lost") || !strcmp(state, "quarantined")) && *mu_answer_str(node, "reason");
}

/* Waits until each has come up or failed. The number of those that are not up, each said; negative: no answer. */
static int await_hosts(const struct mu_hosts *hosts, struct mu_err *err)
{
    uint64_t until = mu_now() + ADD_NS;

    for (;;) {
        json_t *root, *list;
        int rc = mu_answer_get("nodes", 0, false, "nodes", &root, &list, NULL, err), down = 0;
        bool wait = false, last = mu_now() >= until;
        if (rc)
            return rc;
        for (size_t i = 0; i < hosts->n; i++) {
            const json_t *node = find(list, mu_host_name(hosts->v[i].name));
            bool up = node && !strcmp(mu_answer_str(node, "state"), "up");
            down += !up;
            wait = wait || (!up && !(node && has_failed(node)));
        }
        for (size_t i = 0; i < hosts->n && (last || !wait) && down; i++) {
            const json_t *node = find(list, mu_host_name(hosts->v[i].name));
            char shown[500];
            if (node && !strcmp(mu_answer_str(node, "state"), "up"))
                continue;
            const char *why = node ? mu_answer_str(node, "reason") : "";
            fprintf(stderr, "muster nodes add: %s\n",
                    mu_str_show(shown, sizeof shown, *why ? why : "a host has not come up in time; `muster nodes`"));
        }
        json_decref(root);
        if (last || !wait)
            return down;
        poll(NULL, 0, LOOK_ADDED_MS);
    }
}

static int send_add(const struct mu_hosts *hosts, const struct opts *o, struct mu_err *err)
{
    extern char **environ;
    mu_auto_free char *text = mu_run_hosts_text(hosts);
    MU_AUTO_MSG struct mu_msg reply = {0};
    struct mu_m_nodes_add m = {.hosts = text};
    const struct mu_engine *engine = mu_engine_here();
    struct mu_client client;
    const char *ssh;
    int rc = mu_run_ssh(o->ssh, &ssh, err);

    if (rc || (o->engine && (rc = mu_engine_find(o->engine, &engine, err))))
        return rc;
    if (!text || mu_engine_env(engine, environ, &m.engine_env))
        return mu_err_set(err, MUSTER_ENOMEM, "%s", muster_strerror(MUSTER_ENOMEM));
    m.ssh = (char *)(uintptr_t)ssh;
    m.engine = (char *)(uintptr_t)engine->name;
    rc = mu_client_open(&client, err);
    if (!rc) {
        rc = mu_client_call(&client, MU_MSG_nodes_add, &m, MU_MSG_submitted, &reply, ANSWER_NS, err);
        mu_client_close(&client);
    }
    mu_strv_free(m.engine_env);
    return rc;
}

static int add_nodes(int argc, char **argv)
{
    struct opts o = {0};
    struct mu_err err = {0};
    struct mu_hosts hosts = {0};
    int first, code;

    if (mu_cmd_options("muster nodes add [OPTIONS] HOST[:SLOTS]...", add_rows, MU_COUNT(add_rows), argc, argv, 1, 65536,
                       &o, &first, &code))
        return code;
    int rc = take_hosts(&hosts, argc - first, argv + first, &err);
    rc = rc ? rc : send_add(&hosts, &o, &err);
    rc = rc ? rc : await_hosts(&hosts, &err);
    mu_hosts_free(&hosts);
    return rc < 0 ? mu_cmd_fail(argv[0], &err) : rc ? MU_EXIT_FAILED : 0;
}

/* For what is done to hosts of a pool: without one they are not in it. */
static int look(struct mu_client *c, const struct mu_hosts *hosts, struct mu_err *err)
{
    int rc = mu_client_look(c, err);

    return rc != MU_CLIENT_NO_POOL
               ? rc
               : mu_err_set(err, MUSTER_EARG, "host %.200s is not in the pool; `muster nodes` lists it",
                            mu_host_name(hosts->v[0].name));
}

static int remove_nodes(int argc, char **argv)
{
    MU_AUTO_MSG struct mu_msg reply = {0};
    struct opts o = {0};
    struct mu_err err = {0};
    struct mu_hosts hosts = {0};
    struct mu_client client;
    int first, code;

    if (mu_cmd_options("muster nodes remove [OPTIONS] HOST...", remove_rows, MU_COUNT(remove_rows), argc, argv, 1,
                       65536, &o, &first, &code))
        return code;
    int rc = take_hosts(&hosts, argc - first, argv + first, &err);
    mu_auto_free char *text = rc ? NULL : mu_run_hosts_text(&hosts);
    if (!rc && !(rc = look(&client, &hosts, &err))) {
        struct mu_m_nodes_remove m = {.hosts = text, .force = o.force};
        rc = mu_client_call(&client, MU_MSG_nodes_remove, &m, MU_MSG_submitted, &reply, ANSWER_NS, &err);
        mu_client_close(&client);
    }
    mu_hosts_free(&hosts);
    return rc ? mu_cmd_fail(argv[0], &err) : 0;
}

int mu_nodes_await_first(struct mu_err *err)
{
    static const char *const states[] = {"up", "draining", "drained", "quarantined"};

    for (int waited = 0;; waited += LOOK_MS) {
        json_t *root, *list, *node;
        bool any = false;
        size_t i;
        int rc = mu_answer_get("nodes", 0, false, "nodes", &root, &list, NULL, err);
        if (rc)
            return rc;
        json_array_foreach(list, i, node)
        {
            for (size_t k = 0; k < MU_COUNT(states); k++)
                any = any || !strcmp(mu_answer_str(node, "state"), states[k]);
        }
        json_decref(root);
        if (any || waited >= FIRST_MS)
            return 0;
        poll(NULL, 0, LOOK_MS);
    }
}

/* Asks for something to be done to hosts of the pool. body: its hosts are to be put in at *hosts. */
static int ask_for(const char *name, int n, char **words, enum mu_msg_type type, const void *body, char **hosts_at)
{
    MU_AUTO_MSG struct mu_msg reply = {0};
    struct mu_err err = {0};
    struct mu_hosts hosts = {0};
    struct mu_client client;
    int rc = 0;

    for (int i = 0; i < n && !rc; i++)
        rc = mu_nodes_take(&hosts, words[i], &err);
    mu_auto_free char *text = rc ? NULL : mu_run_hosts_text(&hosts);
    if (!rc && !(rc = look(&client, &hosts, &err))) {
        *hosts_at = text;
        rc = mu_nodes_await_first(&err);
        rc = rc ? rc : mu_client_call(&client, type, body, MU_MSG_submitted, &reply, ANSWER_NS, &err);
        mu_client_close(&client);
    }
    mu_hosts_free(&hosts);
    return rc ? mu_cmd_fail(name, &err) : 0;
}

static int resume_nodes(int argc, char **argv)
{
    struct mu_m_nodes_resume m = {0};
    struct opts o = {0};
    int first, code;

    if (mu_cmd_options("muster nodes resume HOST...", NULL, 0, argc, argv, 1, 65536, &o, &first, &code))
        return code;
    return ask_for(argv[0], argc - first, argv + first, MU_MSG_nodes_resume, &m, &m.hosts);
}

static int drain_nodes(int argc, char **argv)
{
    char user[64];
    struct mu_m_nodes_drain m = {.by = mu_client_user(user, sizeof user)};
    struct opts o = {0};
    int first, code;

    if (mu_cmd_options("muster nodes drain [OPTIONS] HOST...", drain_rows, MU_COUNT(drain_rows), argc, argv, 1, 65536,
                       &o, &first, &code))
        return code;
    m.reason = (char *)(uintptr_t)(o.reason && *o.reason ? o.reason : "no reason was given");
    return ask_for(argv[0], argc - first, argv + first, MU_MSG_nodes_drain, &m, &m.hosts);
}

static int label_nodes(int argc, char **argv)
{
    struct mu_m_nodes_label m = {0};
    struct opts o = {0};
    struct mu_err err = {0};
    int first, code, rc = 0;

    if (mu_cmd_options("muster nodes label [OPTIONS] LABEL,... HOST...", label_rows, MU_COUNT(label_rows), argc, argv,
                       1, 65536, &o, &first, &code))
        return code;
    m.labels = o.none ? NULL : argv[first++];
    if (first >= argc)
        rc = mu_err_set(&err, MUSTER_EARG, "name the hosts behind the labels");
    else if (m.labels)
        rc = mu_labels_check(m.labels, &err);
    if (rc)
        return mu_cmd_fail(argv[0], &err);
    return ask_for(argv[0], argc - first, argv + first, MU_MSG_nodes_label, &m, &m.hosts);
}

/* To add one: a row, its function, its section in docs/man/muster-nodes.1. */
static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *summary;
} subs[] = {
    {"list", list_nodes, "the same as without a command"},
    {"add", add_nodes, "hosts become the pool's"},
    {"remove", remove_nodes, "hosts leave it"},
    {"drain", drain_nodes, "hosts get no more jobs"},
    {"label", label_nodes, "what hosts are labelled with, for --label of jobs"},
    {"inventory", mu_nodes_inventory, "what they are made of, and what has changed"},
    {"diff", mu_nodes_diff, "in what they differ: from one another, or from what was approved"},
    {"check", mu_nodes_check, "hosts are looked at for what may be wrong with them"},
    {"resume", resume_nodes, "drained hosts, and those in quarantine, get jobs again"},
};

static void help_more(void)
{
    putchar('\n');
    for (size_t i = 0; i < MU_COUNT(subs); i++)
        printf("  %-9s %s\n", subs[i].name, subs[i].summary);
}

int mu_cmd_nodes(int argc, char **argv)
{
    char name[32];

    for (size_t i = 0; i < MU_COUNT(subs) && argc > 1; i++) {
        if (strcmp(argv[1], subs[i].name))
            continue;
        snprintf(name, sizeof name, "nodes %s", subs[i].name); /* as errors call it */
        argv[1] = name;
        return subs[i].run(argc - 1, argv + 1);
    }
    return list_nodes(argc, argv);
}
