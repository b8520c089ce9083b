/* What nodes are made of, at the controller: taken, told, approved; stored with history, and loaded again. */
#include "launcher/inventory.h"

#include <limits.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launcher/store.h"
#include "runtime/base/clean.h"
#include "runtime/base/path.h"
#include "runtime/base/str.h"
#include "tests/unit/ctl_help.h"
#include "tests/unit/tap.h"

static char dir[] = "/tmp/inventory.XXXXXX", file[PATH_MAX];
static struct mu_store *store;
static mu_conn client;
static unsigned kept, told, done, refused;
static char what[700], refusal[400];

static void note(const struct mu_act *a)
{
    MU_AUTO_MSG struct mu_msg m = {0};

    if (a->kind == MU_ACT_INVENTORY) {
        if (mu_msg_decode(a->frame.data, a->frame.len, &m, NULL) || mu_store_begin(store, NULL) ||
            mu_store_put_inventory(store, &m.inventory, NULL) || mu_store_commit(store, NULL))
            exit(99);
        kept++;
    }
    if (a->kind == MU_ACT_EVENT && !strcmp(a->event, "node-changed")) {
        snprintf(what, sizeof what, "%s: %s", a->node, a->detail);
        told++;
    }
    if (a->kind != MU_ACT_SEND || a->conn != client || mu_msg_decode(a->frame.data, a->frame.len, &m, NULL))
        return;
    done += m.type == MU_MSG_submitted;
    refused += m.type == MU_MSG_error;
    if (m.type == MU_MSG_error)
        snprintf(refusal, sizeof refusal, "%s", m.error.text);
}

/* As an agent says it: "KEY VALUE KEY VALUE". */
static struct mu_m_inventory made(const char *text)
{
    struct mu_m_inventory m = {0};
    char copy[400], *save = NULL;
    bool key = true;

    snprintf(copy, sizeof copy, "%s", text);
    for (char *w = strtok_r(copy, " ", &save); w; w = strtok_r(NULL, " ", &save), key = !key)
        if (mu_strv_append(key ? &m.keys : &m.values, w))
            exit(99);
    return m;
}

static void says(mu_conn agent, const char *text)
{
    struct mu_m_inventory m = made(text);

    now += MU_SEC;
    hear(agent, MU_MSG_inventory, &m);
    mu_msg_free_body(MU_MSG_inventory, &m);
}

/* As the shell does it: stored first. */
static int change(enum mu_msg_type type, const char *hosts, struct mu_err *err)
{
    char by[] = "ada", why[] = "because";
    struct mu_msg m = {.type = type, .approve = {.hosts = (char *)(uintptr_t)hosts, .by = by, .why = why}};
    int rc = mu_inventory_approve(ctl, store, &m, err);

    if (!rc)
        hear(client, type, &m.approve);
    return rc;
}

static int approve(const char *hosts, struct mu_err *err)
{
    return change(MU_MSG_approve, hosts, err);
}

static int withdraw(const char *hosts, struct mu_err *err)
{
    return change(MU_MSG_withdraw, hosts, err);
}

static void load(void *arg, const struct mu_m_inventory *m)
{
    struct mu_msg msg = {.type = MU_MSG_inventory, .inventory = *m};

    (void)arg;
    step((struct mu_ev){.kind = MU_EV_LOAD, .msg = &msg});
}

static void begin(void)
{
    struct mu_err err;

    ctl = mu_ctl_new(&(struct mu_ctl_config){.restarts = 3, .node = "head"});
    TAP_OK(!mu_store_load_inventory(store, load, NULL, &err), "a controller begins");
    step((struct mu_ev){.kind = MU_EV_LOADED});
    client = up("client");
}

static void count(void *arg, const struct mu_m_inventory *m)
{
    (void)m;
    ++*(unsigned *)arg;
}

static unsigned history(const char *node)
{
    unsigned n = 0;

    return mu_store_inventory(store, node, count, &n, NULL) ? 999 : n;
}

static void core(void)
{
    char h1[] = "h1", h2[] = "h2";
    struct mu_err err = {0};

    begin();
    mu_conn a = join_as(h1, 2), b = join_as(h2, 2);
    TAP_OK(approve(NULL, &err) == MUSTER_EARG && strstr(err.text, "no node has told yet"), "%s", err.text);
    says(a, "id.s 1 kernel 6.1");
    says(b, "id.s 2 kernel 6.1");
    TAP_OK(kept == 2 && !pool_node(h1)->approved && !told, "what nodes are made of is stored");
    says(a, "id.s 1 kernel 6.1");
    TAP_OK(kept == 2, "once, as long as it is the same");
    says(a, "kernel 6.1 id.s 1");
    says(a, "kernel");
    TAP_OK(kept == 2, "what is no inventory says nothing");
    TAP_OK(approve("nosuch:*", &err) == MUSTER_EARG && strstr(err.text, "no inventory of nosuch"), "%s", err.text);
    TAP_OK(!approve(NULL, &err) && done == 1 && pool_node(h1)->approved && !pool_node(h1)->drift, "all are approved");
    hand_in(client, NULL, (struct mu_m_spec){.ranks = 4});
    says(a, "id.s 1 kernel 6.2 new thing");
    TAP_OK(kept == 3 && told == 1 && !strcmp(what, "h1: kernel was 6.1, is 6.2; and 1 more"), "a change is told: %s",
           what);
    TAP_OK(pool_node(h1)->drift == 2 && !strcmp(pool_node(h1)->drifted, "kernel was 6.1, is 6.2; and 1 more"),
           "and is a drift: %s", pool_node(h1)->drifted);
    says(b, "id.s 3 kernel 6.1");
    TAP_OK(pool_node(h2)->drift == 1, "so is another serial number");
    TAP_OK(!approve("h2:*", &err) && !pool_node(h2)->drift && pool_node(h1)->drift, "one is approved by name");
    says(a, "id.s 1 kernel 6.1");
    TAP_OK(pool_node(h1)->approved && !pool_node(h1)->drift, "one is put back as it was");
    says(a, "id.s 1 kernel 6.3");
    TAP_OK(history(h1) == 4 && history(h2) == 2 && !history("nosuch"), "each change is in the history");
    free_ctl();
}

static void next(void)
{
    char h1[] = "h1", h2[] = "h2";
    struct mu_ctl_made m;
    struct mu_err err = {0};

    begin();
    mu_conn a = join_as(h1, 2);
    TAP_OK(pool_node(h1)->approved && pool_node(h1)->drift == 1,
           "the next one knows what was approved before its agent says anything");
    unsigned was = kept;
    says(a, "id.s 1 kernel 6.3");
    TAP_OK(kept == was, "and what the node is made of");
    TAP_OK(mu_ctl_made(ctl, 1, &m) && !strcmp(m.node, h2) && m.is && !strcmp(m.approved->by, "ada") &&
               !strcmp(m.approved->why, "because") && m.approved->wall && !mu_ctl_made(ctl, 2, &m),
           "also of nodes that are not there");
    join_as(h2, 2);
    TAP_OK(pool_node(h2)->approved, "and may come");
    TAP_OK(withdraw("nosuch:*", &err) == MUSTER_EARG && strstr(err.text, "nothing was approved of nosuch"), "%s",
           err.text);
    TAP_OK(withdraw("h1:*,nosuch:*", &err) && pool_node(h1)->approved, "of all that are named, or of none");
    TAP_OK(!withdraw("h1:*", &err) && !pool_node(h1)->approved && !pool_node(h1)->drift && pool_node(h2)->approved,
           "what was approved of one is withdrawn");
    TAP_OK(withdraw("h1:*", &err) == MUSTER_EARG, "once");
    free_ctl();
    begin();
    a = join_as(h1, 2);
    join_as(h2, 2);
    TAP_OK(!pool_node(h1)->approved && pool_node(h2)->approved, "the next controller knows that, too");
    TAP_OK(!withdraw(NULL, &err) && !pool_node(h2)->approved, "or of all");
    TAP_OK(withdraw(NULL, &err) == MUSTER_EARG && strstr(err.text, "of any node"), "%s", err.text);
    TAP_OK(!approve(NULL, &err) && pool_node(h1)->approved && pool_node(h2)->approved, "and be approved again");
    for (int i = 0; i < 30; i++) {
        char text[40];
        snprintf(text, sizeof text, "kernel 7.%d", i);
        says(a, text);
    }
    TAP_OK(history(h1) == MU_STORE_KEEP_INVENTORY && history(h2) == 2, "the history is bounded");
    free_ctl();
}

static const char *waits_for(void)
{
    return newest_job()->state == MU_JOB_QUEUED ? newest_job()->reason : "it does not wait";
}

/* Jobs that want nodes as they were approved, and no others. */
static void required(void)
{
    char h1[] = "h1", h2[] = "h2", h3[] = "h3", addr[] = "10.0.0.1", boot[] = "b1", other[] = "b2";
    char label[] = "fast", both[] = "h1:*,h2:*";
    struct mu_m_spec spec = {.ranks = 2, .baseline = 1};
    struct mu_err err = {0};

    mu_store_close(store);
    snprintf(file, sizeof file, "%s/other.db", dir);
    store = NULL;
    TAP_OK(!mu_store_open(file, &store, &err), "another store");
    begin();
    mu_conn a = join_as(h1, 2), b = join_as(h2, 2);
    says(a, "kernel 6.1");
    says(b, "kernel 6.1");
    unsigned was = refused;
    hand_in(client, NULL, spec);
    TAP_OK(refused == was + 1 && strstr(refusal, "nobody has approved"), "nothing was approved: %s", refusal);
    spec.baseline = 0;
    spec.ranks = 5;
    hand_in(client, NULL, spec);
    spec.baseline = 1;
    TAP_OK(strstr(refusal, "the pool has 4 slots"), "too much for the pool: %s", refusal);
    hand_in(client, NULL, spec);
    TAP_OK(refused == was + 3 && strstr(refusal, "the pool has 4 slots"), "which is what is said then: %s", refusal);
    TAP_OK(!approve(NULL, &err), "both are approved");
    says(b, "kernel 6.2");
    spec.ranks = 2;
    hand_in(client, NULL, spec);
    TAP_OK(newest_job()->state == MU_JOB_STARTING && newest_job()->nodes && !strcmp(newest_job()->nodes[0], h1),
           "a job gets the one that is as it was approved");
    hand_in(client, NULL, spec);
    TAP_OK(strstr(waits_for(), "2 slots with --require-baseline") &&
               strstr(waits_for(), "1 node is not as it was approved, h2: kernel was 6.1, is 6.2"),
           "the next one waits: %s", waits_for());
    hand_in(client, NULL, (struct mu_m_spec){.ranks = 1});
    TAP_OK(newest_job()->state == MU_JOB_STARTING && !strcmp(newest_job()->nodes[0], h2), "others get the other one");
    spec.ranks = 4;
    hand_in(client, NULL, spec);
    TAP_OK(strstr(waits_for(), "1 node is not as it was approved"), "one that needs both waits, too: %s", waits_for());
    spec.ranks = 3;
    join_as(h3, 3);
    hand_in(client, NULL, spec);
    TAP_OK(strstr(waits_for(), "2 nodes are not as they were approved, h2: kernel"), "and one that needs a third: %s",
           waits_for());
    free_ctl();

    begin();
    a = introduce((struct mu_m_agent){.node = h1, .slots = 2, .incarnation = 1, .port = 7, .addr = addr, .boot = boot});
    ready(a);
    TAP_OK(mu_pool_sound(pool_node(h1)), "the next controller knows what is approved");
    step((struct mu_ev){.kind = MU_EV_DOWN, .conn = a});
    a = introduce(
        (struct mu_m_agent){.node = h1, .slots = 2, .incarnation = 2, .port = 7, .addr = addr, .boot = other});
    ready(a);
    spec.ranks = 2;
    hand_in(client, NULL, spec);
    TAP_OK(strstr(waits_for(), "h1: it has not told yet"), "a node that was booted is to tell first: %s", waits_for());
    says(a, "kernel 6.1");
    TAP_OK(newest_job()->state == MU_JOB_STARTING, "and gets the job then: %s", waits_for());
    free_ctl();

    begin();
    join_as(h1, 2);
    b = join_as(h2, 2);
    spec.label = label;
    spec.memory = 1;
    hear(client, MU_MSG_nodes_label, &(struct mu_m_nodes_label){.hosts = both, .labels = label});
    hand_in(client, NULL, spec);
    TAP_OK(strstr(refusal, "--mem"), "more than the nodes have: %s", refusal);
    spec.memory = 0;
    says(b, "kernel 6.1");
    spec.ranks = 4;
    hand_in(client, NULL, spec);
    TAP_OK(newest_job()->state == MU_JOB_STARTING, "with a label, too: %s", waits_for());
    free_ctl();
}

static void damaged(void)
{
    struct mu_err err = {0};
    unsigned n = 0;
    sqlite3 *db;

    mu_store_close(store);
    if (sqlite3_open(file, &db) ||
        sqlite3_exec(db, "UPDATE baseline SET row = x'4000' WHERE node = 'h1'", NULL, NULL, NULL) || sqlite3_close(db))
        exit(99);
    store = NULL;
    TAP_OK(!mu_store_open(file, &store, &err), "a row that is damaged");
    TAP_OK(mu_store_load_inventory(store, count, &n, &err) == MUSTER_ECORRUPT && strstr(err.text, "node h1") && n == 3,
           "is named, and the others are there: %s", err.text);
}

int main(void)
{
    struct mu_err err = {0};

    if (!mkdtemp(dir))
        exit(99);
    snprintf(file, sizeof file, "%s/jobs.db", dir);
    TAP_OK(!mu_store_open(file, &store, &err), "a store");
    TAP_OK(!history("h1"), "has no history");
    core();
    next();
    damaged();
    required();
    mu_store_close(store);
    mu_path_remove_tree(dir, NULL);
    return tap_done();
}
