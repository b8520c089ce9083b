/* Attempts on several nodes, seen from the controller's core: what it passes on between nodes, and which failure counts
 * as the first. */
#include "launcher/core/ctl.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "runtime/base/clock.h"
#include "tests/unit/ctl_help.h"
#include "tests/unit/tap.h"

static struct mu_msg row; /* the job's, as stored last */
static char sent[2000];
static unsigned casts; /* messages to several at once */

static void note_one(mu_conn conn, const struct mu_msg *m)
{
    size_t n = strlen(sent);

    if (m->type == MU_MSG_fenced) {
        snprintf(sent + n, sizeof sent - n, "%u:fenced=%.*s ", conn, (int)m->fenced.data.len,
                 (const char *)m->fenced.data.data);
    } else if (m->type == MU_MSG_fence) {
        snprintf(sent + n, sizeof sent - n, "%u:%s ", conn, m->fence.seq == MU_FENCE_ALL ? "all?" : "fence?");
    } else if (m->type == MU_MSG_modex) {
        snprintf(sent + n, sizeof sent - n, "%u:modex ", conn);
    } else if (m->type == MU_MSG_abort) {
        snprintf(sent + n, sizeof sent - n, "%u:abort=%u/%s/0x%x ", conn, m->abort.rank, m->abort.node,
                 (unsigned)m->abort.status);
    } else if (m->type == MU_MSG_kill) {
        snprintf(sent + n, sizeof sent - n, "%u:kill ", conn);
    }
}

/* What goes out to connections: "CONN:message ..." for those of interest. */
static void note(const struct mu_act *a)
{
    MU_AUTO_MSG struct mu_msg m = {0};
    const mu_conn *to;

    if (!a->frame.len || mu_msg_decode(a->frame.data, a->frame.len, &m, NULL))
        return;
    if (a->kind == MU_ACT_PUT_JOB) {
        mu_msg_free(&row);
        mu_msg_decode(a->frame.data, a->frame.len, &row, NULL);
        return;
    }
    casts += a->nconns > 1;
    for (uint32_t n = mu_act_to(a, &to); n; n--, to++)
        note_one(*to, &m);
}

static bool said(const char *want)
{
    bool same = !strcmp(sent, want);

    if (!same)
        printf("# sent: %s\n# want: %s\n", sent, want);
    sent[0] = 0;
    return same;
}

static char *name_of(int node)
{
    static char names[3][8] = {"node-a", "node-b", "node-c"};

    return names[node];
}

static void agent(mu_conn conn, int node)
{
    greet(conn, "agent");
    hear(conn, MU_MSG_agent, &(struct mu_m_agent){.node = name_of(node), .slots = 2, .incarnation = 1});
}

static void has(mu_conn conn)
{
    hear(conn, MU_MSG_agent_ready, &(struct mu_m_agent_ready){.keepers = row.type != 0});
}

static struct mu_m_report report(int node, uint32_t phase)
{
    static uint64_t seq;

    return (struct mu_m_report){.job = row.jobrow.id,
                                .attempt = row.jobrow.attempt,
                                .node = name_of(node),
                                .phase = phase,
                                .nranks = 2,
                                .nlive = phase == MU_PHASE_GONE ? 0 : 2,
                                .nfailed = phase == MU_PHASE_GONE,
                                .keeper = 1,
                                .seq = ++seq};
}

static void say(mu_conn conn, int node, uint32_t phase)
{
    struct mu_m_report r = report(node, phase);

    hear(conn, MU_MSG_report, &r);
}

static void fail(mu_conn conn, int node, uint32_t rank, int status, uint32_t blame)
{
    struct mu_m_report r = report(node, MU_PHASE_RUNNING);

    r.first_rank_plus1 = rank + 1;
    r.first_status = status;
    r.first_blame = blame;
    r.nfailed = r.nlive = 1;
    r.aborted = 1;
    hear(conn, MU_MSG_report, &r);
}

static void fence(mu_conn conn, uint32_t place, const char *data, uint32_t flags)
{
    hear(conn, MU_MSG_fence,
         &(struct mu_m_fence){.job = row.jobrow.id,
                              .attempt = row.jobrow.attempt,
                              .nodes = {.v = &place, .n = 1},
                              .data = {.data = (uint8_t *)(uintptr_t)data, .len = (uint32_t)strlen(data)},
                              .flags = flags});
}

static void modex(mu_conn conn, uint32_t from, uint32_t to)
{
    hear(conn, MU_MSG_modex,
         &(struct mu_m_modex){.job = row.jobrow.id, .attempt = row.jobrow.attempt, .from = from, .to = to});
}

static void submit(uint32_t on_failure)
{
    static unsigned jobs;
    char token[16];

    snprintf(token, sizeof token, "t%u", ++jobs);
    hand_in(9, token, (struct mu_m_spec){.ranks = 4, .ppn = 2, .on_failure = on_failure});
    say(1, 0, MU_PHASE_RUNNING);
    say(2, 1, MU_PHASE_RUNNING);
    sent[0] = 0;
}

/* What is remembered are the rows. */
static void restart(void)
{
    static const char version[] = "test";
    struct mu_ctl_config cfg = {.incarnation = 1, .agent_wait_ns = 20 * MU_SEC, .restarts = 3, .version = version};

    mu_ctl_free(ctl);
    ctl = mu_ctl_new(&cfg);
    if (row.type)
        step((struct mu_ev){.kind = MU_EV_LOAD, .msg = &row});
    step((struct mu_ev){.kind = MU_EV_LOADED});
}

static void over(void)
{
    say(1, 0, MU_PHASE_GONE);
    say(2, 1, MU_PHASE_GONE);
    sent[0] = 0;
}

int main(void)
{
    restart();
    for (int i = 0; i < 3; i++) {
        agent((mu_conn)i + 1, i);
        has((mu_conn)i + 1);
    }
    greet(9, "client");
    submit(MU_FAIL_KEEP);
    TAP_OK(row.type && row.jobrow.state == MU_JOB_STARTING && row.jobrow.node_ranks.n == 2,
           "a job on two nodes of three");

    fence(1, 0, "a", 0);
    fence(3, 1, "x", 0);
    TAP_OK(said(""), "who has no part in the attempt has no part in its fence");
    fence(2, 1, "b", 0);
    TAP_OK(said("1:fenced=ab 2:fenced=ab ") && casts == 2,
           "the start goes to both in one message, and so does the answer to their fence");
    modex(1, 0, 1);
    modex(2, 1, 0);
    TAP_OK(said("2:modex 1:modex "), "a question goes to its node, so does the answer");
    modex(1, 1, 0);
    modex(1, 0, 2);
    modex(3, 0, 1);
    TAP_OK(said(""), "not in another's name, nor to somebody who is not there");

    restart();
    agent(2, 1);
    say(2, 1, MU_PHASE_RUNNING);
    has(2);
    TAP_OK(said("2:all? "), "another controller: an agent that comes is asked what its keepers wait for");
    fence(2, 1, "b", MU_FENCE_AGAIN);
    agent(1, 0);
    say(1, 0, MU_PHASE_RUNNING);
    has(1);
    TAP_OK(said("1:all? 1:fence? "), "and for what the others have had from the last controller");
    fence(1, 0, "a", MU_FENCE_DONE);
    TAP_OK(said("2:fenced=ab "), "so that it is answered again");
    agent(3, 2);
    has(3);
    greet(9, "client");
    TAP_OK(said(""), "a node without a part is asked nothing");

    fail(1, 0, 1, SIGKILL, MU_BLAME_SIGNAL);
    TAP_OK(said("1:abort=1/node-a/0x9 2:abort=1/node-a/0x9 "),
           "--on-failure=keep: the others hear which rank failed, and where");
    say(2, 1, MU_PHASE_RUNNING);
    TAP_OK(said("2:abort=1/node-a/0x9 "), "until they say that they have told their ranks");
    fail(2, 1, 3, 1 << 8, MU_BLAME_PEER);
    TAP_OK(said(""), "then no more; that they fail, too, changes nothing");
    fence(2, 1, "b", 0);
    say(1, 0, MU_PHASE_GONE);
    TAP_OK(said("2:fenced=ab "), "a fence that is done asks nobody");
    hear(2, MU_MSG_fence,
         &(struct mu_m_fence){
             .job = row.jobrow.id, .attempt = row.jobrow.attempt, .seq = 1, .nodes = {.v = (uint32_t[]){1}, .n = 1}});
    TAP_OK(said("1:fence? "), "one that waits for a node whose ranks have ended asks it");
    over();
    TAP_OK(row.jobrow.state == MU_JOB_FAILED && row.jobrow.fail_rank_plus1 == 2, "the job's failure is the first one");
    fence(2, 1, "b", 0);
    TAP_OK(said(""), "a job that is over has no fences");

    submit(MU_FAIL_KILL);
    fail(2, 1, 2, SIGPIPE, MU_BLAME_PEER);
    TAP_OK(said("1:kill 2:kill "), "one that failed because of another is the first to be heard of");
    fail(1, 0, 0, SIGSEGV, MU_BLAME_SIGNAL);
    over();
    TAP_OK(row.jobrow.fail_rank_plus1 == 1 && row.jobrow.fail_status == SIGSEGV &&
               !strcmp(row.jobrow.fail_node, "node-a"),
           "but the one that was killed counts");
    submit(MU_FAIL_KEEP);
    fail(1, 0, 0, 1 << 8, MU_BLAME_CODE);
    now += 2 * MU_SEC;
    fail(2, 1, 2, SIGSEGV, MU_BLAME_SIGNAL);
    over();
    TAP_OK(row.jobrow.fail_rank_plus1 == 1, "what comes much later is something else");
    mu_ctl_free(ctl);
    mu_acts_free(&acts);
    mu_msg_free(&row);
    return tap_done();
}
