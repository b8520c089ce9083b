/* Nodes that get no jobs although they are up: drained by people, in quarantine after failures; what is kept of it. */
#include "launcher/core/ctl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/clock.h"
#include "tests/unit/ctl_help.h"
#include "tests/unit/tap.h"

enum { NODES = 8 };

static mu_conn agents[NODES], client;
static struct mu_buf marks;                             /* as stored last */
static unsigned nacts, stored_at, answered_at, refused; /* by their places among all actions */

static void note(const struct mu_act *a)
{
    MU_AUTO_MSG struct mu_msg m = {0};

    nacts++;
    if (a->kind == MU_ACT_MARKS) {
        mu_buf_clear(&marks);
        mu_buf_append(&marks, a->frame.data, a->frame.len);
        stored_at = nacts;
    }
    if (a->kind != MU_ACT_SEND || mu_msg_decode(a->frame.data, a->frame.len, &m, NULL) || a->conn != client)
        return;
    if (m.type == MU_MSG_submitted)
        answered_at = nacts;
    refused += m.type == MU_MSG_error;
}

static char *name_of(int node)
{
    static char names[NODES][8];

    snprintf(names[node], sizeof names[node], "h%d", node);
    return names[node];
}

static void join(int i)
{
    agents[i] = join_as(name_of(i), 2);
}

static void load(void)
{
    for (size_t at = 0; at < marks.len;) {
        MU_AUTO_MSG struct mu_msg m = {0};
        size_t len = (size_t)mu_msg_frame(marks.data + at, marks.len - at);
        if (mu_msg_decode(marks.data + at, len, &m, NULL))
            exit(99);
        step((struct mu_ev){.kind = MU_EV_LOAD, .msg = &m});
        at += len;
    }
}

static void begin(uint32_t percent)
{
    ctl = mu_ctl_new(&(struct mu_ctl_config){
        .restarts = 3, .node = "head", .quarantine = 1, .out_percent = percent, .cooldown_ns = 60 * MU_SEC});
    load();
    step((struct mu_ev){.kind = MU_EV_LOADED});
    for (int i = 0; i < NODES; i++)
        join(i);
    client = up("client");
}

static const struct mu_node *node(int i)
{
    return pool_node(name_of(i));
}

/* Falls silent, is given up, and comes back. */
static void fails(int i)
{
    step((struct mu_ev){.kind = MU_EV_DOWN, .conn = agents[i], .status = MU_DOWN_SILENT});
    now += 2 * MU_SEC;
    step((struct mu_ev){.kind = MU_EV_TIME});
    join(i);
}

static void later(uint64_t seconds)
{
    now += seconds * MU_SEC;
    step((struct mu_ev){.kind = MU_EV_TIME});
}

static unsigned out(void)
{
    unsigned n = 0;

    for (int i = 0; i < NODES; i++)
        n += mu_pool_out(node(i));
    return n;
}

static void drains(void)
{
    char by[] = "ann", why[] = "fan", hosts[] = "h1:1,h2:1", bad[] = "h3:1,nosuch:1", one[] = "h1:1";

    begin(25);
    hear(client, MU_MSG_nodes_drain, &(struct mu_m_nodes_drain){.hosts = bad, .by = by});
    TAP_OK(refused == 1 && !out(), "nothing is drained when one is not there");
    hear(client, MU_MSG_nodes_drain, &(struct mu_m_nodes_drain){.hosts = hosts, .by = by, .reason = why});
    TAP_OK(node(1)->drained && node(2)->drained && !strcmp(node(2)->out_by, "ann") &&
               !strcmp(node(2)->out_why, "fan") && node(2)->out_wall == now,
           "two nodes are drained");
    TAP_OK(stored_at && answered_at > stored_at, "which is stored before it is said");
    hear(client, MU_MSG_nodes_drain,
         &(struct mu_m_nodes_drain){.hosts = (char *)(uintptr_t) "h3:1,h4:1,h5:1,h6:1,h7:1,h0:1", .by = by});
    TAP_OK(out() == NODES, "people may drain all");
    hear(client, MU_MSG_nodes_resume,
         &(struct mu_m_nodes_resume){.hosts = (char *)(uintptr_t) "h3:1,h4:1,h5:1,h6:1,h7:1,h0:1"});
    later(100000);
    free_ctl();

    begin(25);
    TAP_OK(node(1)->drained && !strcmp(node(1)->out_why, "fan") && out() == 2, "the next controller knows it");
    hear(client, MU_MSG_nodes_resume, &(struct mu_m_nodes_resume){.hosts = one});
    TAP_OK(!node(1)->drained && out() == 1, "one is resumed");
    free_ctl();
    begin(25);
    TAP_OK(out() == 1, "which the next one knows, too");
    hear(client, MU_MSG_nodes_resume, &(struct mu_m_nodes_resume){.hosts = (char *)(uintptr_t) "h2:1"});
    TAP_OK(!marks.len, "nothing is kept of nodes that are resumed");
    hear(client, MU_MSG_nodes_drain, &(struct mu_m_nodes_drain){.hosts = one, .by = by, .reason = why});
    hear(client, MU_MSG_nodes_remove, &(struct mu_m_nodes_remove){.hosts = one});
    step((struct mu_ev){.kind = MU_EV_DOWN, .conn = agents[1]});
    later(1);
    TAP_OK(!marks.len, "nor of one that has left the pool");
    free_ctl();
    begin(25);
    TAP_OK(!out(), "so it gets jobs when it comes again, whatever has become of the controller");

    char brought[] = "h9:1";
    hand_in(client, "own", (struct mu_m_spec){.ranks = 1, .hosts = brought});
    uint64_t job = newest_job()->id;
    mu_conn c = introduce((struct mu_m_agent){.node = (char *)(uintptr_t) "h9",
                                              .slots = 1,
                                              .incarnation = 1,
                                              .port = 7,
                                              .addr = (char *)(uintptr_t) "10.0.0.9",
                                              .owner = job});
    ready(c);
    hear(client, MU_MSG_nodes_drain, &(struct mu_m_nodes_drain){.hosts = brought, .by = by, .reason = why});
    hear(client, MU_MSG_cancel, &(struct mu_m_cancel){.job = job, .force = 1});
    step((struct mu_ev){.kind = MU_EV_DOWN, .conn = c});
    later(20);
    TAP_OK(mu_pool_find(mu_ctl_pool(ctl), "h9") < 0 && marks.len,
           "one that a job had brought stays drained for the next job");
    free_ctl();
}

static void quarantines(void)
{
    begin(25);
    fails(1);
    TAP_OK(node(1)->quarantine_until > now + 57 * MU_SEC && node(1)->quarantine_until <= now + 60 * MU_SEC,
           "a node that fails goes into quarantine");
    later(61);
    TAP_OK(!out(), "for a time");
    fails(1);
    later(100);
    TAP_OK(out() == 1, "twice as long the second time");
    later(21);
    TAP_OK(!out(), "but not for ever");
    fails(1);
    later(100);
    TAP_OK(out() == 1, "and twice that the third time");
    fails(2);
    fails(3);
    TAP_OK(out() == 2 && !mu_pool_out(node(3)), "not more than a quarter of the pool goes at once");
    free_ctl();

    begin(25);
    TAP_OK(out() == 2 && node(1)->quarantines == 3, "the next controller knows it");
    later(60);
    TAP_OK(out() == 1 && node(2)->quarantine_over, "and when it ends");
    hear(client, MU_MSG_nodes_resume, &(struct mu_m_nodes_resume){.hosts = (char *)(uintptr_t) "h1:1"});
    TAP_OK(!out() && !node(1)->quarantines && !marks.len, "people end it");
    free_ctl();

    begin(0);
    for (int i = 0; i < NODES; i++)
        fails(i);
    TAP_OK(out() == NODES, "without a limit all may go");
    free_ctl();
}

int main(void)
{
    drains();
    mu_buf_clear(&marks);
    quarantines();
    mu_buf_free(&marks);
    return tap_done();
}
