/* Whom the controller's core sends where: the shape of the tree, and what it makes of nodes whose way breaks. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launcher/core/ctl.h"
#include "runtime/base/clean.h"
#include "runtime/base/clock.h"
#include "tests/unit/ctl_help.h"
#include "tests/unit/tap.h"

#define NODES 12
#define S(text) ((char *)(uintptr_t)(text))

static mu_conn conn[NODES]; /* of each node's agent */
static uint64_t way[NODES];
static char did[1000];

static const char *name_of(int node)
{
    static char names[NODES][8];

    snprintf(names[node], sizeof names[node], "n%d", node);
    return names[node];
}

static int node_of(mu_conn id)
{
    for (int i = 0; i < NODES; i++)
        if (conn[i] == id)
            return i;
    return -1;
}

/* Who was sent where ("3>n1", "3>" to stay), what was closed and asked. */
static void note(const struct mu_act *a)
{
    MU_AUTO_MSG struct mu_msg m = {0};
    size_t n = strlen(did);

    if (a->kind == MU_ACT_CLOSE)
        snprintf(did + n, sizeof did - n, "close-%u ", a->conn);
    if (a->kind == MU_ACT_PROBE)
        snprintf(did + n, sizeof did - n, "probe-%s ", a->node);
    if (a->kind == MU_ACT_SEND && !mu_msg_decode(a->frame.data, a->frame.len, &m, NULL) && m.type == MU_MSG_parent)
        snprintf(did + n, sizeof did - n, "%d>%s ", node_of(a->conn), m.parent.node ? m.parent.node : "");
}

static bool was(const char *want)
{
    bool same = !strcmp(did, want);

    if (!same)
        printf("# did:  %s\n# want: %s\n", did, want);
    did[0] = 0;
    return same;
}

static void say(int node)
{
    hear(conn[node], MU_MSG_agent,
         &(struct mu_m_agent){.node = S(name_of(node)),
                              .slots = 1,
                              .addr = S("10.0.0.1"),
                              .port = 7,
                              .incarnation = 1,
                              .way = ++way[node]});
    ready(conn[node]);
}

static void stay(int node, const char *tried)
{
    hear(conn[node], MU_MSG_stay, &(struct mu_m_stay){.tried = S(tried)});
}

/* Its agent comes, directly (via < 0) or through another node's, and says who it is. */
static void come(int node, int via)
{
    conn[node] = ++last_conn;
    step((struct mu_ev){.kind = MU_EV_UP, .conn = conn[node], .via = via < 0 ? 0 : conn[via]});
    hear(conn[node], MU_MSG_hello, &(struct mu_m_hello){.proto = MU_WIRE_VERSION, .role = S("agent")});
    say(node);
}

static const struct mu_node *at(int node)
{
    return &mu_ctl_pool(ctl)->v[mu_pool_find(mu_ctl_pool(ctl), name_of(node))];
}

static int via_of(int node)
{
    const struct mu_pool *pool = mu_ctl_pool(ctl);
    int via = mu_ctl_tree_via(ctl, mu_pool_find(pool, name_of(node)));

    return via < 0 ? -1 : atoi(pool->v[via].name + 1);
}

static void restart(uint32_t fanout)
{
    struct mu_ctl_config cfg = {.incarnation = 1, .agent_wait_ns = MU_SEC, .node = "here", .fanout = fanout};

    mu_ctl_free(ctl);
    ctl = mu_ctl_new(&cfg);
    now = 100 * MU_SEC;
    last_conn = 0;
    memset(conn, 0, sizeof conn);
    memset(way, 0, sizeof way);
    did[0] = 0;
    step((struct mu_ev){.kind = MU_EV_LOADED});
}

static void shape(void)
{
    restart(2);
    come(0, -1);
    come(1, -1);
    TAP_OK(was("0> 1> "), "the first ones stay");
    come(2, -1);
    TAP_OK(was("2>n0 ") && !at(2)->ready, "the next one is sent on, and not used before it is there");
    come(2, 0);
    TAP_OK(was("close-3 2> ") && at(2)->ready && via_of(2) == 0, "it comes through its parent, and is ready");
    come(3, -1);
    TAP_OK(was("3>n1 "), "the one after it goes to another one");
    come(4, -1);
    come(5, -1);
    TAP_OK(was("4>n0 5>n1 "), "and so on; whoever is on the way has its place");
    come(6, -1);
    TAP_OK(was("6>n2 "), "when all places are taken, one level further down");
    come(3, 1);
    come(4, 0);
    come(5, 1);
    come(6, 2);
    did[0] = 0;
    TAP_OK(via_of(6) == 2 && via_of(via_of(6)) == 0 && via_of(0) == -1, "a tree of three levels");

    restart(0);
    for (int i = 0; i < 4; i++)
        come(i, -1);
    TAP_OK(was("0> 1> 2> 3> "), "without a fan-out all stay");
    conn[5] = ++last_conn;
    step((struct mu_ev){.kind = MU_EV_UP, .conn = conn[5]});
    hear(conn[5], MU_MSG_hello, &(struct mu_m_hello){.proto = MU_WIRE_VERSION, .role = S("agent")});
    hear(conn[5], MU_MSG_agent, &(struct mu_m_agent){.node = S("here"), .slots = 1});
    TAP_OK(was(""), "the agent of the controller's own machine has no place in it");
}

static void refusals(void)
{
    restart(2);
    come(0, -1);
    come(1, -1);
    come(2, -1);
    TAP_OK(was("0> 1> 2>n0 "), "sent on");
    stay(2, "n0");
    TAP_OK(was("2>n1 ") && !at(2)->ready, "a parent that it cannot reach: it is sent to another one");
    stay(2, "n1");
    TAP_OK(was("2> ") && at(2)->ready, "nor that one: it stays, and is used");
    come(3, -1);
    TAP_OK(was("3>n0 ") && !at(3)->ready, "others are still sent on, but not to that one");
    now += 3 * MU_SEC;
    step((struct mu_ev){.kind = MU_EV_TIME});
    TAP_OK(!at(3)->ready && was("3>n1 "), "one that says nothing more is sent to another one, too");
    now += 3 * MU_SEC;
    step((struct mu_ev){.kind = MU_EV_TIME});
    TAP_OK(at(3)->ready && was(""), "and is used where it is, in the end");

    restart(1);
    come(0, -1);
    for (int i = 1; i < 10; i++) {
        come(i, -1);
        stay(i, "n0");
        if (at(i)->ready)
            continue;
        stay(i, "n1");
    }
    did[0] = 0;
    come(10, -1);
    TAP_OK(was("10> "), "when nobody can go anywhere, the network is the reason, and all stay");
    now += 61 * MU_SEC;
    come(11, -1);
    TAP_OK(strchr(did, 'n') != NULL, "for a minute");

    /* there is nobody to be sent to at first */
    restart(1);
    for (int i = 0; i < 3; i++) {
        conn[i] = ++last_conn;
        step((struct mu_ev){.kind = MU_EV_UP, .conn = conn[i]});
        hear(conn[i], MU_MSG_hello, &(struct mu_m_hello){.proto = MU_WIRE_VERSION, .role = S("agent")});
        hear(conn[i], MU_MSG_agent,
             &(struct mu_m_agent){
                 .node = S(name_of(i)), .slots = 1, .addr = S("a"), .port = 7, .incarnation = 1, .way = ++way[i]});
    }
    TAP_OK(was("0> 1> 2> "), "nobody is sent to one that is not ready");
    for (int i = 0; i < 3; i++)
        hear(conn[i], MU_MSG_agent_ready, &(struct mu_m_agent_ready){0});
    TAP_OK(was("1>n0 "), "they are sent on once there is");
    come(1, 0);
    TAP_OK(was("close-2 1> 2>n1 "), "each in its turn");
}

static mu_conn client;

/* A job of two ranks. */
static void submit(void)
{
    client = up("client");
    hand_in(client, "t", (struct mu_m_spec){.ranks = 2});
    did[0] = 0;
}

/* A refusal and work cross each other: the node is not waited for any more, and what it got meanwhile is its own. */
static void crossing(void)
{
    restart(1);
    come(0, -1);
    come(1, -1);
    now += 3 * MU_SEC;
    step((struct mu_ev){.kind = MU_EV_TIME});
    submit();
    const struct mu_m_jobrow *row = mu_ctl_job(ctl, 0, NULL);
    TAP_OK(row->attempt == 1 && at(1)->used == 1, "nodes that were not heard of again get work");
    stay(1, "n0");
    TAP_OK(was("1> ") && at(1)->ready && row->attempt == 1 && row->state == MU_JOB_STARTING,
           "one that says late that it stays has lost nothing of it");
    hear(conn[1], MU_MSG_agent_ready, &(struct mu_m_agent_ready){0});
    TAP_OK(row->attempt == 1 && row->state == MU_JOB_STARTING, "whatever it has let go of before");
}

static void down(int node, int status, uint64_t heard)
{
    step((struct mu_ev){.kind = MU_EV_DOWN, .conn = conn[node], .status = status, .at = heard});
}

static void orphans(void)
{
    restart(1);
    come(0, -1);
    come(1, -1);
    come(1, 0);
    come(2, -1);
    come(2, 1);
    did[0] = 0;
    down(0, MU_DOWN_CLOSED, 0);
    TAP_OK(was("probe-n0 "), "the host of an agent that has ended is asked");
    down(1, MU_DOWN_PARENT, 0);
    down(2, MU_DOWN_PARENT, 0);
    TAP_OK(was("") && at(1)->state == MU_NODE_AWAY, "those below it are not: they come by themselves");
    come(2, -1);
    TAP_OK(was("2> ") && at(2)->ready, "one does");
    come(1, -1);
    TAP_OK(was("1>n2 "), "the next one is sent to it, as its old parent is gone");
    come(1, 2);
    did[0] = 0;

    down(2, MU_DOWN_SILENT, now - MU_SILENT_NS);
    down(1, MU_DOWN_PARENT, now - MU_SILENT_NS);
    uint64_t heard = now - MU_SILENT_NS;
    now = heard + MU_LEASE_NS + MU_LEASE_MARGIN_NS + MU_MS;
    step((struct mu_ev){.kind = MU_EV_TIME});
    TAP_OK(at(2)->state == MU_NODE_AWAY, "nobody vouches for the controller's own link: nothing is given up");
    come(3, -1);
    now += 250 * MU_MS;
    step((struct mu_ev){.kind = MU_EV_TIME});
    TAP_OK(at(2)->state == MU_NODE_LOST && at(1)->state == MU_NODE_AWAY,
           "one that fell silent is given up; what was below it has a moment more");
    now = heard + MU_LEASE_NS + MU_LEASE_MARGIN_NS + 600 * MU_MS;
    step((struct mu_ev){.kind = MU_EV_TIME});
    TAP_OK(at(1)->state == MU_NODE_LOST, "no more than that");

    /* its parent ends, and it with it */
    restart(1);
    come(0, -1);
    come(1, -1);
    come(1, 0);
    down(0, MU_DOWN_CLOSED, 0);
    down(1, MU_DOWN_PARENT, 0);
    come(2, -1);
    did[0] = 0;
    now += MU_LEASE_NS + MU_LEASE_MARGIN_NS;
    step((struct mu_ev){.kind = MU_EV_TIME});
    TAP_OK(strstr(did, "probe-n1") != NULL, "an orphan that has not come back is asked for at the end of its lease");
    step((struct mu_ev){.kind = MU_EV_PROBED, .node = "n1", .status = 0});
    now += MU_SEC;
    step((struct mu_ev){.kind = MU_EV_TIME});
    TAP_OK(at(1)->state == MU_NODE_AWAY, "its host answers: it has more time");
    step((struct mu_ev){.kind = MU_EV_PROBED, .node = "n1", .status = 1});
    TAP_OK(at(1)->state == MU_NODE_LOST, "it does not any more: lost");
}

static void report(int node, uint32_t phase)
{
    hear(conn[node], MU_MSG_report,
         &(struct mu_m_report){.job = 1, .attempt = 1, .node = S(name_of(node)), .phase = phase, .nranks = 1});
}

/* Its agent has died, and its host does not answer any more. killed: its keeper was told to end its ranks before. */
static void forsaken(bool killed)
{
    restart(0);
    come(0, -1);
    come(1, -1);
    submit();
    report(0, MU_PHASE_RUNNING);
    report(1, MU_PHASE_RUNNING);
    if (killed)
        report(0, MU_PHASE_LOST);
    now += 100 * MU_MS;
    down(1, MU_DOWN_CLOSED, 0);
    step((struct mu_ev){.kind = MU_EV_PROBED, .node = "n1", .status = 1});
    now += MU_LEASE_NS + MU_LEASE_MARGIN_NS;
    step((struct mu_ev){.kind = MU_EV_TIME});
}

static void hanging(void)
{
    forsaken(false);
    TAP_OK(at(1)->state == MU_NODE_LOST, "a node whose agent has died is given up when its lease is over");
    forsaken(true);
    TAP_OK(at(1)->state == MU_NODE_AWAY, "not one whose keeper was told to end its ranks, and has not");
    now += 4 * MU_SEC;
    step((struct mu_ev){.kind = MU_EV_TIME});
    TAP_OK(at(1)->state == MU_NODE_AWAY, "nobody there may look at the lease");
    now += MU_SEC;
    step((struct mu_ev){.kind = MU_EV_TIME});
    TAP_OK(at(1)->state == MU_NODE_LOST, "until the agent that follows has seen to it");
}

/* Ways that an agent has left, and whose last words are late. */
static void late(void)
{
    restart(2);
    come(0, -1);
    come(1, -1);
    mu_conn old = ++last_conn;
    step((struct mu_ev){.kind = MU_EV_UP, .conn = old, .via = conn[0]});
    hear(old, MU_MSG_hello, &(struct mu_m_hello){.proto = MU_WIRE_VERSION, .role = S("agent")});
    come(2, -1);
    come(2, 1);
    did[0] = 0;
    struct mu_m_agent m = {.node = S("n2"), .slots = 1, .addr = S("a"), .port = 7, .incarnation = 1, .way = way[2] - 1};
    hear(old, MU_MSG_agent, &m);
    char want[20];
    snprintf(want, sizeof want, "close-%u ", old);
    TAP_OK(was(want) && via_of(2) == 1 && at(2)->ready, "an older way's is closed, not taken for the present one");
    m.way = way[2] + 1;
    m.ctl = 99;
    hear(old, MU_MSG_agent, &m);
    TAP_OK(was(want) && via_of(2) == 1, "neither is what was meant for another controller");
    m.ctl = 1;
    m.incarnation = 0;
    hear(old, MU_MSG_agent, &m);
    TAP_OK(was(want) && via_of(2) == 1, "nor an agent that this one has followed");
    m.incarnation = 2;
    m.way = 1;
    hear(old, MU_MSG_agent, &m);
    TAP_OK(via_of(2) == 0, "its successor is");
    did[0] = 0;
    hear(conn[2], MU_MSG_agent_ready, &(struct mu_m_agent_ready){0});
    TAP_OK(!at(2)->ready, "and the one before it is not listened to any more");
}

int main(void)
{
    shape();
    refusals();
    crossing();
    orphans();
    hanging();
    late();
    mu_ctl_free(ctl);
    mu_acts_free(&acts);
    return tap_done();
}
