/* An agent that comes back without the attempt that its node was told to start: when the start is sent again, when the
 * attempt is lost, and what is said. And a job that is cancelled when its ranks have long ended. */
#include "launcher/core/ctl.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/clock.h"
#include "tests/unit/ctl_help.h"
#include "tests/unit/tap.h"

static uint64_t job;
static char events[2000];
static uint32_t starts, newest, kills, releases, byes; /* since `forget` */
static mu_conn client;
static struct mu_msg stored; /* the newest row */

static void note(const struct mu_act *a)
{
    MU_AUTO_MSG struct mu_msg m = {0};
    size_t n = strlen(events);

    if (a->kind == MU_ACT_EVENT)
        snprintf(events + n, sizeof events - n, "%s: %s\n", a->event, a->detail);
    if (a->kind == MU_ACT_PUT_JOB) {
        mu_msg_free(&stored);
        mu_msg_decode(a->frame.data, a->frame.len, &stored, NULL);
    }
    if (a->kind != MU_ACT_SEND || mu_msg_decode(a->frame.data, a->frame.len, &m, NULL))
        return;
    if (m.type == MU_MSG_start) {
        starts++;
        newest = m.start.attempt;
    }
    if (m.type == MU_MSG_submitted)
        job = m.submitted.job;
    kills += m.type == MU_MSG_kill;
    releases += m.type == MU_MSG_release;
    byes += m.type == MU_MSG_bye;
}

static mu_conn joins_for(const char *node, const char *boot, uint64_t owner)
{
    return introduce((struct mu_m_agent){.node = (char *)(uintptr_t)node,
                                         .slots = 1,
                                         .pus = 1,
                                         .boot = (char *)(uintptr_t)boot,
                                         .owner = owner,
                                         .pid = 1});
}

static mu_conn joins(const char *node, const char *boot)
{
    return joins_for(node, boot, 0);
}

static void report(mu_conn c, uint32_t attempt, uint32_t phase)
{
    static uint64_t seq;

    hear(c, MU_MSG_report,
         &(struct mu_m_report){.job = job,
                               .attempt = attempt,
                               .phase = phase,
                               .nranks = 1,
                               .drained = phase >= MU_PHASE_GONE,
                               .seq = phase == MU_PHASE_LOST ? 0 : ++seq});
}

static void down(mu_conn c)
{
    step((struct mu_ev){.kind = MU_EV_DOWN, .conn = c});
    events[0] = 0;
    starts = kills = 0;
}

static void ask(unsigned nodes)
{
    static char token[] = "t0";

    token[1]++;
    hand_in(client, token, (struct mu_m_spec){.ranks = nodes});
}

/* A job of a rank on each of so many nodes, whose start has been sent. */
static void submit(unsigned nodes, mu_conn agents[2])
{
    struct mu_ctl_config cfg = {.restarts = 3, .node = "n0"};

    mu_ctl_free(ctl);
    ctl = mu_ctl_new(&cfg);
    step((struct mu_ev){.kind = MU_EV_LOADED});
    for (unsigned i = 0; i < nodes; i++)
        ready(agents[i] = joins(i ? "n1" : "n0", "first"));
    client = up("client");
    ask(nodes);
    events[0] = 0;
    starts = kills = 0;
}

enum { NONE = -1 };
static const struct {
    const char *what, *boot;
    int before, attempt, phase; /* reported before the agent dies; by the next one: attempt, phase */
    bool again;
    const char *says;
} rows[] = {
    {"an agent that was killed before it had a keeper", "first", NONE, NONE, 0, true, "start-again"},
    {"one that had said that it starts one", "first", MU_PHASE_STARTING, NONE, 0, true, "start-again"},
    {"one whose keeper has not got the start", "first", MU_PHASE_STARTING, 0, MU_PHASE_IDLE, true, "start-again"},
    {"the same after the host was booted", "second", NONE, 0, MU_PHASE_IDLE, true, "start-again"},
    {"a host that was booted", "second", NONE, NONE, 0, false, "has come back has nothing of this attempt"},
    {"a kernel that does not say", "", NONE, NONE, 0, false, "has come back has nothing of this attempt"},
    {"a keeper that is dead", "first", NONE, 0, MU_PHASE_LOST, false, "keeper died while its agent was away; the last"},
    {"ranks that ran", "first", MU_PHASE_RUNNING, NONE, 0, false, "the last output of rank 0 may be missing"},
};

static void test_one(void)
{
    mu_conn agent[2];

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        submit(1, agent);
        if (rows[i].before != NONE)
            report(agent[0], 1, (uint32_t)rows[i].before);
        down(agent[0]);
        agent[0] = joins("n0", rows[i].boot);
        if (rows[i].attempt != NONE)
            report(agent[0], (uint32_t)rows[i].attempt, (uint32_t)rows[i].phase);
        ready(agent[0]);
        bool good = starts == 1 && newest == (rows[i].again ? 1 : 2) && strstr(events, rows[i].says);
        TAP_OK(good, "%s: %s", rows[i].what, rows[i].again ? "it is told to start once more" : "the attempt is lost");
        if (!good)
            printf("# %u starts, attempt %u\n# %s\n", starts, newest, events);
    }
    report(agent[0], 2, MU_PHASE_GONE);
    down(agent[0]);
}

static void test_several(void)
{
    mu_conn agent[2];

    submit(2, agent);
    report(agent[0], 1, MU_PHASE_RUNNING);
    down(agent[1]);
    agent[1] = joins("n1", "first");
    ready(agent[1]);
    TAP_OK(starts == 1 && newest == 1 && !kills, "of two nodes the one that has begun runs on");
    report(agent[1], 1, MU_PHASE_RUNNING);
    TAP_OK(newest_job()->state == MU_JOB_RUNNING && newest_job()->attempt == 1, "and the job runs");

    submit(2, agent);
    report(agent[0], 1, MU_PHASE_RUNNING);
    down(agent[1]);
    report(agent[0], 1, MU_PHASE_LOST);
    agent[1] = joins("n1", "first");
    ready(agent[1]);
    TAP_OK(newest == 2 && starts == 1, "when the attempt ends anyhow, none is told to begin it");

    submit(1, agent);
    hear(client, MU_MSG_cancel, &(struct mu_m_cancel){.job = job});
    down(agent[0]);
    ready(joins("n0", "first"));
    TAP_OK(!starts && newest_job()->state == MU_JOB_CANCELLED, "nor when it has been cancelled");
}

static void test_cancel(void)
{
    mu_conn agent[2];

    submit(1, agent);
    report(agent[0], 1, MU_PHASE_RUNNING);
    down(agent[0]);
    hear(client, MU_MSG_cancel, &(struct mu_m_cancel){.job = job});
    agent[0] = joins("n0", "first");
    report(agent[0], 1, MU_PHASE_GONE);
    TAP_OK(newest_job()->state == MU_JOB_COMPLETED && !newest_job()->exit_code,
           "ranks that had ended with 0 before they could be told to end: the job has completed");

    submit(1, agent);
    report(agent[0], 1, MU_PHASE_RUNNING);
    hear(client, MU_MSG_cancel, &(struct mu_m_cancel){.job = job});
    down(agent[0]);
    agent[0] = joins("n0", "first");
    report(agent[0], 1, MU_PHASE_GONE);
    TAP_OK(newest_job()->state == MU_JOB_CANCELLED && newest_job()->exit_code == 143,
           "those that were told are cancelled");
}

/* The controller dies; the next one has what was stored, and the agents come to it. */
static void successor(unsigned nodes, mu_conn agents[2])
{
    struct mu_ctl_config cfg = {.restarts = 3, .node = "n0", .client_grace_ns = 10 * MU_SEC};
    MU_AUTO_MSG struct mu_msg m = {.type = MU_MSG_jobrow};

    if (mu_msg_copy(MU_MSG_jobrow, &m.jobrow, &stored.jobrow))
        exit(99);
    mu_ctl_free(ctl);
    ctl = mu_ctl_new(&cfg);
    step((struct mu_ev){.kind = MU_EV_LOAD, .msg = &m});
    step((struct mu_ev){.kind = MU_EV_LOADED});
    for (unsigned i = 0; i < nodes; i++)
        agents[i] = joins(i ? "n1" : "n0", "first");
    events[0] = 0;
    starts = kills = releases = 0;
}

static void report_with(mu_conn c, struct mu_m_report r)
{
    static uint64_t seq = 1000000;

    r.job = job;
    r.attempt = r.attempt ? r.attempt : 1;
    r.nranks = 1;
    r.seq = r.seq ? r.seq : ++seq;
    hear(c, MU_MSG_report, &r);
}

static void test_lapsed(void)
{
    mu_conn agent[2];
    struct mu_m_report lapsed = {.phase = MU_PHASE_KILLING, .lapsed = 1, .drained = 1};

    submit(2, agent);
    report(agent[0], 1, MU_PHASE_RUNNING);
    report_with(agent[1], lapsed);
    TAP_OK(strstr(events, "lease-lost") != NULL, "a node has ended its ranks: its lease was over");
    successor(2, agent);
    report_with(agent[1], lapsed);
    TAP_OK(!strstr(events, "lease-lost"), "the next controller does not say so again");
    TAP_OK(kills > 0, "but ends the others, too");
}

static void test_successor(void)
{
    static const struct {
        const char *what;
        int attempt, phase; /* that the agent reports to the next controller */
        bool booted, again;
    } cases[] = {
        {"a start that was stored, and lost with its controller", NONE, 0, false, true},
        {"the same where a keeper waits for it", 0, MU_PHASE_IDLE, false, true},
        {"where one is dead", 0, MU_PHASE_LOST, false, false},
        {"where the host was booted", NONE, 0, true, false},
    };
    mu_conn agent[2];

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        submit(1, agent);
        successor(0, agent);
        agent[0] = joins("n0", cases[i].booted ? "second" : "first");
        if (cases[i].attempt != NONE)
            report(agent[0], (uint32_t)cases[i].attempt, (uint32_t)cases[i].phase);
        ready(agent[0]);
        TAP_OK(starts == 1 && newest == (cases[i].again ? 1 : 2), "%s: %s", cases[i].what,
               cases[i].again ? "the next one sends it" : "the next attempt");
    }
    report(agent[0], 2, MU_PHASE_GONE);
    releases = 0;
}

static void test_unread(void)
{
    mu_conn agent[2];
    struct mu_m_report unread = {.phase = MU_PHASE_GONE};

    submit(1, agent);
    hear(client, MU_MSG_attach, &(struct mu_m_attach){.job = job, .foreground = 1});
    report_with(agent[0], unread);
    TAP_OK(newest_job()->state == MU_JOB_COMPLETED && !releases,
           "a job is over, its output under way: the keeper stays");
    successor(1, agent);
    report_with(agent[0], unread);
    ready(agent[0]);
    TAP_OK(!releases, "also when the controller dies");
    unread.lost = unread.drained = 1;
    report_with(agent[0], unread);
    TAP_OK(releases == 1 && strstr(events, "output-lost: the last output of rank 0 on n0 may be missing: its keeper") &&
               newest_job()->unread_ranks == 1 && !strcmp(newest_job()->unread, "rank 0 on n0"),
           "that the rest of it is lost with the keeper is told");
    submit(1, agent);
    report_with(agent[0], (struct mu_m_report){.phase = MU_PHASE_GONE, .drained = 1});
    releases = 0;
    successor(1, agent);
    ready(agent[0]);
    TAP_OK(newest_job()->state == MU_JOB_COMPLETED && !*events, "one that is through is not waited for");
    submit(2, agent);
    hear(client, MU_MSG_attach, &(struct mu_m_attach){.job = job, .foreground = 1});
    releases = 0;
    report_with(agent[0], (struct mu_m_report){.phase = MU_PHASE_GONE, .lost = 1, .drained = 1, .seq = 9000000});
    report_with(agent[0], (struct mu_m_report){.phase = MU_PHASE_GONE, .seq = 9000000});
    report_with(agent[1], (struct mu_m_report){.phase = MU_PHASE_GONE, .drained = 1, .seq = 9000000});
    TAP_OK(releases > 0, "what a keeper said before it died, and comes late, is not waited for");
}

static void has(mu_conn c, char *of)
{
    char *jobs[] = {of, NULL};

    hear(c, MU_MSG_agent_ready, &(struct mu_m_agent_ready){.keepers = 1, .jobs = jobs});
}

/* A node is given up and comes back with ranks that live, because their keeper hung: none of another job beside them.
 */
static void test_late(void)
{
    mu_conn agent[2];
    char first[24];

    submit(2, agent);
    snprintf(first, sizeof first, "%llu", (unsigned long long)job);
    report(agent[0], 1, MU_PHASE_RUNNING);
    report(agent[1], 1, MU_PHASE_RUNNING);
    down(agent[1]);
    for (int i = 0; i < 100; i++) {
        now += MU_SEC / 10;
        step((struct mu_ev){.kind = MU_EV_TIME});
    }
    TAP_OK(strstr(events, "node-lost") != NULL, "a node is given up");
    agent[1] = joins("n1", "first");
    kills = 0;
    report(agent[1], 1, MU_PHASE_RUNNING);
    ready(agent[1]);
    TAP_OK(kills == 1, "what comes back of the attempt is killed");
    hear(client, MU_MSG_cancel, &(struct mu_m_cancel){.job = job});
    report(agent[0], 1, MU_PHASE_GONE);
    TAP_OK(newest_job()->state == MU_JOB_CANCELLED, "meanwhile the job ends");
    hear(agent[0], MU_MSG_agent_ready, &(struct mu_m_agent_ready){0});
    ask(2);
    has(agent[1], first);
    TAP_OK(!starts, "another one waits as long as there is something of the first");
    ready(agent[1]);
    TAP_OK(starts > 0, "and starts then");
}

/* A keeper of a job that is not there any more comes back with its agent, to a node where another job had its ranks. */
static void test_leftover(void)
{
    char old[] = "77";
    mu_conn agent[2];

    submit(1, agent);
    report(agent[0], 1, MU_PHASE_RUNNING);
    down(agent[0]);
    agent[0] = joins("n0", "first");
    uint64_t its = job;
    job = 77;
    report(agent[0], 1, MU_PHASE_RUNNING);
    job = its;
    has(agent[0], old);
    TAP_OK(starts == 1 && newest == 2, "a job is started again where something of an older one still ends");
    report(agent[0], 2, MU_PHASE_GONE);
    TAP_OK(newest_job()->state == MU_JOB_COMPLETED, "it ends");
    starts = 0;
    ask(1);
    has(agent[0], old);
    TAP_OK(!starts, "another job gets none of those slots while the older one's keeper is there");
    ready(agent[0]);
    TAP_OK(starts == 1, "and has them then");
}

static void wait_ms(unsigned ms)
{
    for (unsigned i = 0; i < ms / 100; i++) {
        now += MU_SEC / 10;
        step((struct mu_ev){.kind = MU_EV_TIME});
    }
}

static void test_requeue(void)
{
    mu_conn agent[2];

    /* its keeper was told to end the ranks, and may hang: nothing else ends them when its agent is dead, too */
    submit(2, agent);
    report(agent[0], 1, MU_PHASE_RUNNING);
    report(agent[1], 1, MU_PHASE_RUNNING);
    hear(client, MU_MSG_requeue, &(struct mu_m_requeue){.job = job});
    down(agent[1]);
    report(agent[0], 1, MU_PHASE_GONE);
    wait_ms(4000);
    TAP_OK(!strstr(events, "node-lost") && !starts, "a requeued job waits for a node whose keeper may hang");
    submit(2, agent);
    report(agent[0], 1, MU_PHASE_RUNNING);
    report(agent[1], 1, MU_PHASE_RUNNING);
    hear(client, MU_MSG_requeue, &(struct mu_m_requeue){.job = job});
    successor(1, agent);
    report(agent[0], 1, MU_PHASE_GONE);
    ready(agent[0]);
    wait_ms(4000);
    TAP_OK(!strstr(events, "node-lost") && !starts, "also when its controller is another one by then");

    /* an agent that a job has brought, and that finds another job's ranks there */
    submit(2, agent);
    report(agent[0], 1, MU_PHASE_RUNNING);
    report(agent[1], 1, MU_PHASE_RUNNING);
    down(agent[1]);
    byes = 0;
    agent[1] = joins_for("n1", "first", 1000);
    report(agent[1], 1, MU_PHASE_RUNNING);
    ready(agent[1]);
    TAP_OK(!byes && newest_job()->state == MU_JOB_RUNNING,
           "the agent of a job that is over takes care of another one's ranks");
    report(agent[0], 1, MU_PHASE_GONE);
    report(agent[1], 1, MU_PHASE_GONE);
    TAP_OK(newest_job()->state == MU_JOB_COMPLETED, "until they have ended");
}

/* Jobs that name their hosts. */
static void test_hosts(void)
{
    static char pools[] = "n1:1", own[] = "n2:1,n3:1";
    mu_conn agent[2], c;

    submit(2, agent);
    hand_in(client, "h1", (struct mu_m_spec){.ranks = 1, .spares = 1, .hosts = pools});
    TAP_OK(newest_job()->state == MU_JOB_FAILED && newest_job()->exit_code == 2 &&
               strstr(newest_job()->reason, "1 spare nodes asked for"),
           "hosts of the pool's that will never do are no reason to wait: %s", newest_job()->reason);

    struct mu_pool *pool = (struct mu_pool *)(uintptr_t)mu_ctl_pool(ctl);
    pool->v[mu_pool_find(pool, "n1")].quarantine_until = now + 60 * MU_SEC;
    hand_in(client, "h3", (struct mu_m_spec){.ranks = 1, .hosts = pools});
    TAP_OK(newest_job()->state == MU_JOB_QUEUED, "hosts in quarantine are waited for: %s", newest_job()->reason);

    /* it lets its hosts go, and wants them again before one of them has heard that */
    hand_in(client, "h2", (struct mu_m_spec){.ranks = 2, .hosts = own});
    ready(joins_for("n2", "first", job));
    byes = 0;
    hear(client, MU_MSG_hold, &(struct mu_m_hold){.job = job, .on = 1});
    TAP_OK(byes == 1, "a job that is held lets go of the hosts that it has brought");
    hear(client, MU_MSG_hold, &(struct mu_m_hold){.job = job});
    TAP_OK(strstr(newest_job()->reason, "just being let go of"), "they are not the job's before they are gone");
    c = joins_for("n2", "first", job);
    ready(c);
    TAP_OK(byes == 1 && strstr(newest_job()->reason, "agent on host n3"),
           "or have come anew, on a way on which they were not told: %s", newest_job()->reason);
    starts = 0;
    ready(joins_for("n3", "first", job));
    TAP_OK(starts == 1 && newest_job()->state == MU_JOB_STARTING, "then it starts");
}

static uint64_t used(const struct mu_m_jobrow *r, unsigned n)
{
    return 2 * n + 1 < r->used_ns.n ? r->used_ns.v[2 * n] | (uint64_t)r->used_ns.v[2 * n + 1] << 32 : 0;
}

static void test_account(void)
{
    mu_conn agent[2];

    submit(1, agent);
    report_with(agent[0], (struct mu_m_report){
                              .phase = MU_PHASE_RUNNING, .njoined = 1, .steps = 10, .step = 9, .first_step_wall = now});
    now += 4 * MU_SEC;
    report_with(agent[0], (struct mu_m_report){.phase = MU_PHASE_GONE,
                                               .drained = 1,
                                               .njoined = 1,
                                               .steps = 20,
                                               .step = 19,
                                               .first_step_wall = now - 4 * MU_SEC});
    TAP_OK(newest_job()->state == MU_JOB_COMPLETED && newest_job()->steps_done == 20 &&
               newest_job()->stepping_ns == 4 * MU_SEC,
           "the time of steps is counted from the first one");

    /* two ranks for 10 s, then one for 20 s */
    submit(2, agent);
    report(agent[0], 1, MU_PHASE_GONE);
    report(agent[1], 1, MU_PHASE_GONE);
    hand_in(client, "m0", (struct mu_m_spec){.ranks = 2, .min_ranks = 1});
    report(agent[0], 1, MU_PHASE_RUNNING);
    report(agent[1], 1, MU_PHASE_RUNNING);
    now += 10 * MU_SEC;
    struct mu_pool *pool = (struct mu_pool *)(uintptr_t)mu_ctl_pool(ctl);
    pool->v[mu_pool_find(pool, "n1")].leaving = true;
    report(agent[1], 1, MU_PHASE_LOST);
    report(agent[0], 1, MU_PHASE_GONE);
    report(agent[0], 2, MU_PHASE_RUNNING);
    now += 20 * MU_SEC;
    report(agent[0], 2, MU_PHASE_GONE);
    const struct mu_m_jobrow *r = newest_job();
    TAP_OK(r->state == MU_JOB_COMPLETED && r->ranks == 1 && r->ran_ns == 30 * MU_SEC && r->rank_ns == 40 * MU_SEC,
           "with fewer ranks, the time of those that were lost counts up to then: %.1f s", (double)r->rank_ns / 1e9);
    TAP_OK(r->used_ns.n == 4 && !strcmp(r->used_nodes[1], "n1") && used(r, 0) == 30 * MU_SEC &&
               used(r, 1) == 10 * MU_SEC,
           "by its node, too");
    TAP_OK(r->mended == 1 && !r->waited_ns, "and one failure was mended");

    /* it is put back, and ends while it waits */
    submit(1, agent);
    report(agent[0], 1, MU_PHASE_RUNNING);
    now += 10 * MU_SEC;
    hear(client, MU_MSG_requeue, &(struct mu_m_requeue){.job = job});
    report(agent[0], 1, MU_PHASE_GONE);
    now += 5 * MU_SEC;
    hear(client, MU_MSG_cancel, &(struct mu_m_cancel){.job = job});
    r = newest_job();
    TAP_OK(r->state == MU_JOB_CANCELLED && r->requeues == 1 && !r->mended && r->rank_ns == 10 * MU_SEC &&
               r->waited_ns == 5 * MU_SEC && used(r, 0) == 10 * MU_SEC,
           "what ends while it waits again has waited and run, and was not mended");
}

/* Operations and saves: each attempt begins them anew, and the next controller does not count again what the row has.
 */
static void test_costs(void)
{
    const struct mu_m_report first = {.phase = MU_PHASE_RUNNING,
                                      .njoined = 1,
                                      .ops = 100,
                                      .op_bytes = 1000,
                                      .saves = 2,
                                      .save_ns = 50,
                                      .ckpt_bytes = 7};
    struct mu_m_report m = first;
    mu_conn agent[2];

    submit(2, agent);
    report_with(agent[0], m);
    m.ops = 10, m.save_ns = 60;
    report_with(agent[1], m);
    m.phase = MU_PHASE_LOST;
    report_with(agent[1], m);
    m = first;
    m.phase = MU_PHASE_GONE, m.ops = 110;
    report_with(agent[0], m);
    now += 10 * MU_SEC;
    step((struct mu_ev){.kind = MU_EV_TIME});
    const struct mu_m_jobrow *r = newest_job();
    TAP_OK(r->attempt == 2 && r->ops == 120 && r->op_bytes == 2000 && r->saves == 2 && r->save_ns == 60 &&
               r->ckpt_bytes == 14,
           "operations of all nodes are added up, of the time of saves that of the slowest counts");
    m = (struct mu_m_report){
        .attempt = 2, .phase = MU_PHASE_RUNNING, .njoined = 1, .ops = 5, .saves = 1, .save_ns = 8, .save_last_ns = 8};
    report_with(agent[0], m);
    r = newest_job();
    TAP_OK(r->ops == 125 && r->saves == 3 && r->save_ns == 68 && r->save_last_ns == 8 && r->ckpt_bytes == 14,
           "and those of the next attempt");
    uint64_t ops = stored.jobrow.ops, saves = stored.jobrow.saves;
    successor(2, agent);
    report_with(agent[0], m);
    TAP_OK(newest_job()->ops == ops && newest_job()->saves == saves, "the next controller has what was stored");
    m.ops += 3, m.saves++, m.save_ns += 4;
    report_with(agent[0], m);
    TAP_OK(newest_job()->ops == ops + 3 && newest_job()->saves == saves + 1, "and counts on from what it hears first");
}

/* What users have used outlives the controller, also that of a job that still runs or waits again. */
static void test_share(void)
{
    static char a[] = "a", b[] = "b";
    mu_conn agent[2];
    uint32_t share;

    for (unsigned waits = 0; waits < 2; waits++) {
        submit(1, agent);
        report(agent[0], 1, MU_PHASE_GONE);
        hand_in(client, "s0", (struct mu_m_spec){.ranks = 1, .user = a});
        report(agent[0], 1, MU_PHASE_RUNNING);
        now += 1000 * MU_SEC;
        hear(client, MU_MSG_requeue, &(struct mu_m_requeue){.job = job});
        if (waits)
            report(agent[0], 1, MU_PHASE_GONE);
        successor(1, agent);
        client = up("client");
        ready(agent[0]);
        hand_in(client, "s1", (struct mu_m_spec){.ranks = 1, .user = b, .hold = 1});
        share = newest_job()->share_permille;
        hand_in(client, "s2", (struct mu_m_spec){.ranks = 1, .user = a});
        TAP_OK(share == 1000 && newest_job()->share_permille == 250, "the share of who has used all there was: %u, %u",
               share, newest_job()->share_permille);
    }
}

int main(void)
{
    test_hosts();
    test_account();
    test_costs();
    test_share();
    test_requeue();
    test_late();
    test_leftover();
    test_one();
    test_several();
    test_cancel();
    test_lapsed();
    test_successor();
    test_unread();
    mu_msg_free(&stored);
    free_ctl();
    return tap_done();
}
