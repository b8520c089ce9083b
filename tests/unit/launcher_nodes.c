/* When the controller's core gives up a node whose agent is away: by what was closed, what a probe says, and the lease.
 */
#include "launcher/core/ctl.h"

#include <stdio.h>
#include <string.h>

#include "runtime/base/clock.h"
#include "tests/unit/ctl_help.h"
#include "tests/unit/tap.h"

enum { NODES = 3, EACH = 2 }; /* the job is on the first two */

static struct mu_msg row; /* the job's, as stored last */
static mu_conn agents[NODES], lines[NODES], client;
static uint32_t quarantine;
static unsigned ended;        /* how often its client has been told */
static unsigned kills[NODES]; /* how often its agent was told to end the ranks */
static char lost[300];        /* "NODE " for each event that says so */
static char probed[256];

static void note_sent(const struct mu_act *a)
{
    MU_AUTO_MSG struct mu_msg m = {0};
    const mu_conn *to;
    uint32_t n = a->kind == MU_ACT_SEND ? mu_act_to(a, &to) : 0;

    if (!n || mu_msg_decode(a->frame.data, a->frame.len, &m, NULL))
        return;
    for (uint32_t i = 0; i < n; i++) {
        ended += to[i] == client && m.type == MU_MSG_ended;
        for (int k = 0; k < NODES; k++)
            kills[k] += to[i] == agents[k] && m.type == MU_MSG_kill;
    }
}

static void note(const struct mu_act *a)
{
    size_t n = strlen(lost);

    if (a->kind == MU_ACT_EVENT && !strcmp(a->event, "node-lost"))
        snprintf(lost + n, sizeof lost - n, "%s ", a->node);
    note_sent(a);
    if (a->kind == MU_ACT_PROBE)
        snprintf(probed, sizeof probed, "%s", a->node);
    if (a->kind == MU_ACT_PUT_JOB && a->frame.len) {
        mu_msg_free(&row);
        mu_msg_decode(a->frame.data, a->frame.len, &row, NULL);
    }
}

static char *name_of(int node)
{
    static char names[NODES][8] = {"h1", "h2", "h3"};

    return names[node];
}

/* A keeper's own. */
static mu_conn line(int node)
{
    step((struct mu_ev){.kind = MU_EV_UP, .conn = ++last_conn});
    hear(last_conn, MU_MSG_hello,
         &(struct mu_m_hello){.proto = MU_WIRE_VERSION,
                              .role = (char *)(uintptr_t) "line",
                              .node = name_of(node),
                              .pid = 1,
                              .job = row.jobrow.id});
    return last_conn;
}

static void down(mu_conn conn, int status)
{
    step((struct mu_ev){.kind = MU_EV_DOWN, .conn = conn, .status = status});
}

static void probe(int node, bool answers)
{
    step((struct mu_ev){.kind = MU_EV_PROBED, .node = name_of(node), .status = answers ? 0 : 1});
}

/* Time goes on by ms, in steps; a probe that is asked for meanwhile is answered so. */
static void wait_ms(unsigned ms, bool answers)
{
    for (unsigned t = 0; t < ms; t += 10) {
        now += 10 * MU_MS;
        step((struct mu_ev){.kind = MU_EV_TIME});
        if (*probed) {
            probed[0] = 0;
            step((struct mu_ev){.kind = MU_EV_PROBED, .node = name_of(1), .status = answers ? 0 : 1});
        }
    }
}

static void report(int node, uint32_t phase)
{
    static uint64_t seq;

    hear(agents[node], MU_MSG_report,
         &(struct mu_m_report){.job = row.jobrow.id,
                               .attempt = row.jobrow.attempt,
                               .node = name_of(node),
                               .phase = phase,
                               .nranks = EACH,
                               .nlive = EACH,
                               .njoined = EACH,
                               .keeper = 1,
                               .seq = ++seq});
}

static void join(int i)
{
    agents[i] = join_as(name_of(i), EACH);
}

/* A pool of three nodes and a job of four ranks that runs on two of them. */
static void begin(void)
{
    struct mu_ctl_config cfg = {.restarts = 3,
                                .node = "head",
                                .node_wait_ns = 60 * MU_SEC,
                                .quarantine = quarantine,
                                .cooldown_ns = 60 * MU_SEC};

    now = 1000 * MU_SEC;
    lost[0] = probed[0] = 0;
    ended = 0;
    memset(kills, 0, sizeof kills);
    ctl = mu_ctl_new(&cfg);
    step((struct mu_ev){.kind = MU_EV_LOADED});
    for (int i = 0; i < NODES; i++)
        join(i);
    client = up("client");
    hand_in(client, "t", (struct mu_m_spec){.ranks = 2 * EACH, .ppn = EACH});
    for (int i = 0; i < 2; i++) {
        report(i, MU_PHASE_RUNNING);
        lines[i] = line(i);
    }
}

static void end(void)
{
    mu_msg_free(&row);
    free_ctl();
}

/* Of two nodes that an attempt had, one has been replaced, the other cannot be. */
static void cancelled_between(void)
{
    quarantine = 1;
    begin();
    hear(client, MU_MSG_attach, &(struct mu_m_attach){.job = row.jobrow.id});
    down(agents[2], 0);
    report(0, MU_PHASE_LOST); /* into quarantine, but there is no other */
    report(1, MU_PHASE_GONE);
    report(0, MU_PHASE_RUNNING);
    report(1, MU_PHASE_RUNNING);
    uint32_t attempt = row.jobrow.attempt;
    lines[1] = line(1);
    join(2);
    down(agents[1], 0);
    down(lines[1], 0);
    probe(1, false);
    report(0, MU_PHASE_GONE);
    const struct mu_m_jobrow *r = mu_ctl_job(ctl, 0, NULL);
    TAP_OK(attempt == 2 && r->attempt == 2 && r->state == MU_JOB_RECOVERING && !strcmp(r->nodes[0], "h3"),
           "an attempt that lacks a node has another one in place of its other node");
    hear(client, MU_MSG_cancel, &(struct mu_m_cancel){.job = row.jobrow.id});
    TAP_OK(ended == 1, "cancelled, it ends: on the node that has come in nothing is waited for");
    end();
    quarantine = 0;
}

static bool lost_is(const char *want)
{
    if (strcmp(lost, want))
        printf("# lost: %s\n", lost);
    return !strcmp(lost, want);
}

static void suspect(int node, bool is)
{
    step((struct mu_ev){.kind = MU_EV_SUSPECT, .conn = agents[node], .status = is});
}

/* An attempt ends while one of its nodes is not heard. */
static void silent_when_told(void)
{
    begin();
    suspect(1, true);
    report(0, MU_PHASE_LOST);
    TAP_OK(!kills[1], "a node that has not been heard for a while is not told to end its ranks");
    suspect(1, false);
    TAP_OK(kills[1] == 1, "when it is heard again it is");
    end();

    begin();
    suspect(1, true);
    report(0, MU_PHASE_LOST);
    down(agents[1], MU_DOWN_SILENT);
    wait_ms(150, true);
    TAP_OK(lost_is("h2 ") && !kills[1],
           "falling silent it is lost when its lease is over: nobody there can hang over it");
    end();

    begin();
    report(0, MU_PHASE_LOST);
    TAP_OK(kills[1] == 1, "a node that is heard is told to end its ranks");
    now += 100 * MU_MS;
    down(agents[1], MU_DOWN_SILENT); /* heard last before that */
    wait_ms(1000, true);
    TAP_OK(lost_is(""), "its keeper may have heard it and hang: it is waited for when its lease is over");
    wait_ms(6000, true);
    TAP_OK(lost_is("h2 "), "not for ever");
    end();
}

static mu_conn boots(const char *boot)
{
    mu_conn conn = up("agent");

    hear(conn, MU_MSG_agent,
         &(struct mu_m_agent){.node = name_of(0),
                              .slots = EACH,
                              .boot = (char *)(uintptr_t)boot,
                              .incarnation = 1,
                              .port = 7,
                              .addr = (char *)(uintptr_t) "10.0.0.1"});
    return conn;
}

/* What the agent of a former boot had said comes late, held up by a relay. */
static void booted(void)
{
    begin();
    int node = mu_pool_find(mu_ctl_pool(ctl), name_of(0));
    boots("first");
    now += MU_SEC;
    mu_conn second = boots("second");
    now += MU_SEC;
    boots("first");
    TAP_OK(mu_ctl_pool(ctl)->v[node].conn == second, "a boot that is over does not come back");
    mu_conn third = boots("third");
    boots("second");
    boots("first");
    TAP_OK(mu_ctl_pool(ctl)->v[node].conn == third, "nor the one before");
    now += 61 * MU_SEC;
    mu_conn again = boots("first");
    TAP_OK(mu_ctl_pool(ctl)->v[node].conn == again, "a machine that was set back does, later");
    end();
}

int main(void)
{
    booted();
    begin();
    TAP_OK(mu_ctl_job(ctl, 0, NULL)->attempt == 1 && mu_ctl_job(ctl, 0, NULL)->state == MU_JOB_RUNNING,
           "a job runs on two nodes");
    down(agents[1], 0);
    down(lines[1], 0);
    TAP_OK(!strcmp(probed, "h2"), "agent and keeper are closed: the host is probed");
    probe(1, false);
    TAP_OK(lost_is("h2 "), "no answer: it is lost at once");
    end();

    begin();
    down(agents[1], 0);
    wait_ms(900, true);
    TAP_OK(lost_is(""), "its agent is away, its keeper and its host are there: it is waited for");
    wait_ms(3000, true);
    TAP_OK(lost_is(""), "beyond the lease, since keepers start agents");
    wait_ms(3000, true);
    TAP_OK(lost_is("h2 "), "not for ever");
    end();

    begin();
    down(agents[1], 0);
    down(lines[1], 0);
    wait_ms(1000, true);
    TAP_OK(lost_is(""), "agent and keeper are dead on a host that answers: nothing before the lease is over");
    wait_ms(200, true);
    TAP_OK(lost_is("h2 "), "and then it is lost, as nobody there starts an agent");
    end();

    begin();
    down(agents[1], 0);
    wait_ms(2000, true);
    down(lines[1], 0);
    wait_ms(200, true);
    TAP_OK(lost_is("h2 "), "the same when the keeper dies later");
    end();

    begin();
    down(agents[1], MU_DOWN_SILENT);
    wait_ms(90, true);
    TAP_OK(lost_is(""), "a silent node is not lost before its lease is over");
    wait_ms(30, true);
    TAP_OK(lost_is("h2 "), "but then");
    end();

    begin();
    for (int i = 0; i < NODES; i++)
        down(agents[i], MU_DOWN_SILENT);
    wait_ms(5000, true);
    TAP_OK(lost_is(""), "when nobody is heard any more the controller suspects its own network");
    end();
    silent_when_told();
    cancelled_between();
    return tap_done();
}
