/* When the controller's core gives up a node whose agent is away: by what was closed, what a probe says, and the lease.
 */
#include "launcher/core/ctl.h"

#include <stdio.h>
#include <string.h>

#include "runtime/base/clock.h"
#include "tests/unit/tap.h"

enum { NODES = 3, EACH = 2 }; /* the job is on the first two */

static struct mu_ctl *ctl;
static struct mu_acts acts;
static uint64_t now;
static struct mu_msg row; /* the job's, as stored last */
static mu_conn agents[NODES], lines[NODES], last_conn;
static char lost[300]; /* "NODE " for each event that says so */
static char probed[256];

static void step(struct mu_ev ev)
{
    ev.now = ev.wall = now;
    mu_ctl_step(ctl, &ev, &acts);
    for (size_t i = 0; i < acts.n; i++) {
        const struct mu_act *a = &acts.v[i];
        size_t n = strlen(lost);
        if (a->kind == MU_ACT_EVENT && !strcmp(a->event, "node-lost"))
            snprintf(lost + n, sizeof lost - n, "%s ", a->node);
        if (a->kind == MU_ACT_PROBE)
            snprintf(probed, sizeof probed, "%s", a->node);
        if (a->kind == MU_ACT_PUT_JOB && a->frame.len) {
            mu_msg_free(&row);
            mu_msg_decode(a->frame.data, a->frame.len, &row, NULL);
        }
    }
    mu_acts_clear(&acts);
}

static void hear(mu_conn conn, enum mu_msg_type type, const void *body)
{
    struct mu_msg m = {.type = type};

    memcpy(&m.hello, body, mu_msg_size(type));
    step((struct mu_ev){.kind = MU_EV_MSG, .conn = conn, .msg = &m});
}

static char *name_of(int node)
{
    static char names[NODES][8] = {"h1", "h2", "h3"};

    return names[node];
}

static mu_conn up(const char *role, int node)
{
    struct mu_m_hello m = {.proto = MU_WIRE_VERSION, .role = (char *)(uintptr_t)role};

    if (node >= 0) {
        m.pid = 1;
        m.node = name_of(node);
        m.job = row.jobrow.id;
    }
    step((struct mu_ev){.kind = MU_EV_UP, .conn = ++last_conn});
    hear(last_conn, MU_MSG_hello, &m);
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

/* A pool of three nodes and a job of four ranks that runs on two of them. */
static void begin(void)
{
    static char prog[] = "prog", wdir[] = "/", *argv[] = {prog, NULL}, *wdirs[] = {wdir, NULL}, token[] = "t";
    struct mu_ctl_config cfg = {.restarts = 3, .node = "head", .node_wait_ns = 60 * MU_SEC};
    uint32_t zero = 0, one = 1, ranks = 2 * EACH;
    struct mu_m_spec spec = {.ranks = ranks,
                             .ppn = EACH,
                             .app_ranks = {.v = &ranks, .n = 1},
                             .app_argc = {.v = &one, .n = 1},
                             .argv = argv,
                             .app_envc = {.v = &zero, .n = 1},
                             .app_wdir = wdirs};
    struct mu_m_submit m = {.token = token};

    now = 1000 * MU_SEC;
    lost[0] = probed[0] = 0;
    ctl = mu_ctl_new(&cfg);
    step((struct mu_ev){.kind = MU_EV_LOADED});
    for (int i = 0; i < NODES; i++) {
        agents[i] = up("agent", -1);
        hear(agents[i], MU_MSG_agent,
             &(struct mu_m_agent){.node = name_of(i),
                                  .slots = EACH,
                                  .incarnation = 1,
                                  .port = 7,
                                  .addr = (char *)(uintptr_t) "10.0.0.1"});
        hear(agents[i], MU_MSG_agent_ready, &(struct mu_m_agent_ready){0});
    }
    mu_conn client = up("client", -1);
    if (mu_msg_pack(&m.spec, MU_MSG_spec, &spec))
        exit(99);
    hear(client, MU_MSG_submit, &m);
    free(m.spec.data);
    for (int i = 0; i < 2; i++) {
        report(i, MU_PHASE_RUNNING);
        lines[i] = up("line", i);
    }
}

static void end(void)
{
    mu_msg_free(&row);
    mu_acts_free(&acts);
    mu_ctl_free(ctl);
}

static bool lost_is(const char *want)
{
    if (strcmp(lost, want))
        printf("# lost: %s\n", lost);
    return !strcmp(lost, want);
}

int main(void)
{
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
    return tap_done();
}
