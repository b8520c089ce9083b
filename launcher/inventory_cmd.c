/* muster inventory approve: what nodes are made of now is what they should be made of; withdraw: nothing is. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launcher/client.h"
#include "launcher/commands.h"
#include "launcher/nodes.h"
#include "launcher/run.h"
#include "runtime/base/clean.h"
#include "runtime/base/clock.h"
#include "runtime/base/str.h"

#define ANSWER_NS (30 * MU_SEC)

struct opts {
    const char *by, *why;
};
#define AT(field) offsetof(struct opts, field)
static const struct mu_opt rows[] = {
    {"by", 0, MU_OPT_STRING, AT(by), "NAME", "who answers for it", NULL, 0, 0, NULL},
    {"why", 0, MU_OPT_STRING, AT(why), "TEXT", "why it is right", NULL, 0, 0, NULL},
};

static int change(int argc, char **argv, enum mu_msg_type type, const char *usage, const char *missing)
{
    MU_AUTO_MSG struct mu_msg reply = {0};
    struct opts o = {0};
    struct mu_err err = {0};
    struct mu_hosts hosts = {0};
    struct mu_client client;
    int first, code, rc = 0;

    if (mu_cmd_options(usage, rows, MU_COUNT(rows), argc, argv, 0, 65536, &o, &first, &code))
        return code;
    if (!o.by || !*o.by || !o.why || !*o.why)
        rc = mu_err_set(&err, MUSTER_EARG, "%s", missing);
    for (int i = first; i < argc && !rc; i++)
        rc = mu_nodes_take(&hosts, argv[i], &err);
    mu_auto_free char *text = rc || !hosts.n ? NULL : mu_run_hosts_text(&hosts);
    if (!rc && (rc = mu_client_look(&client, &err)) == MU_CLIENT_NO_POOL)
        rc = mu_err_set(&err, MUSTER_EARG, "there is no pool yet: `muster nodes` begins one");
    else if (!rc) {
        /* withdraw has the same fields */
        struct mu_m_approve m = {.hosts = text, .by = (char *)(uintptr_t)o.by, .why = (char *)(uintptr_t)o.why};
        rc = mu_client_call(&client, type, &m, MU_MSG_submitted, &reply, ANSWER_NS, &err);
        mu_client_close(&client);
    }
    mu_hosts_free(&hosts);
    return rc ? mu_cmd_fail(argv[0], &err) : 0;
}

static int approve(int argc, char **argv)
{
    return change(argc, argv, MU_MSG_approve, "muster inventory approve --by NAME --why TEXT [NODE]...",
                  "say who approves and why: --by NAME --why TEXT");
}

static int withdraw(int argc, char **argv)
{
    return change(argc, argv, MU_MSG_withdraw, "muster inventory withdraw --by NAME --why TEXT [NODE]...",
                  "say who withdraws and why: --by NAME --why TEXT");
}

/* To add one: a row, its function, its section in docs/man/muster-inventory.1. */
static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *summary;
} subs[] = {
    {"approve", approve, "what nodes are made of now is what they should be made of"},
    {"withdraw", withdraw, "what was approved of nodes counts no more"},
};

int mu_cmd_inventory(int argc, char **argv)
{
    struct opts o = {0};
    char name[40];
    int first, code;

    for (size_t i = 0; i < MU_COUNT(subs) && argc > 1; i++) {
        if (strcmp(argv[1], subs[i].name) != 0)
            continue;
        snprintf(name, sizeof name, "inventory %s", subs[i].name);
        argv[1] = name;
        return subs[i].run(argc - 1, argv + 1);
    }
    if (mu_cmd_options("muster inventory COMMAND", NULL, 0, argc, argv, 1, 0, &o, &first, &code)) {
        for (size_t i = 0; !code && i < MU_COUNT(subs); i++)
            printf("%s  %-8s %s\n", i ? "" : "\n", subs[i].name, subs[i].summary);
        return code;
    }
    return 0;
}
