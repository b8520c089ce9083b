/* A controller whose store has lost a job or its newest attempt, and what nodes say of it: what is asked, what is let
 * go of, what is taken up again and which attempt counts. */
#include "launcher/core/ctl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/clock.h"
#include "tests/unit/ctl_help.h"
#include "tests/unit/tap.h"

#define S(text) ((char *)(uintptr_t)(text))

static struct mu_msg stored; /* the newest row */
static char events[2000];
static unsigned recalls, releases, kills, starts, byes; /* in the last step */
static uint32_t newest;
static uint64_t seq;

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
    recalls += m.type == MU_MSG_recall;
    releases += m.type == MU_MSG_release;
    kills += m.type == MU_MSG_kill;
    byes += m.type == MU_MSG_bye;
    if (m.type == MU_MSG_start) {
        starts++;
        newest = m.start.attempt;
    }
}

static void clear(void)
{
    recalls = releases = kills = starts = byes = 0;
    events[0] = 0;
}

/* A controller whose store has lost nothing, and has no jobs. */
static void whole_store(void)
{
    struct mu_ctl_config cfg = {.restarts = 3, .node = "n0"};

    mu_ctl_free(ctl);
    ctl = mu_ctl_new(&cfg);
    step((struct mu_ev){.kind = MU_EV_LOADED});
}

static void lost_store(const struct mu_m_jobrow *row)
{
    struct mu_ctl_config cfg = {
        .restarts = 3, .node = "n0", .last_job = 1, .losses = 1, .doubtful = true, .lost_last = 1};
    struct mu_msg m = {.type = MU_MSG_jobrow};

    mu_ctl_free(ctl);
    ctl = mu_ctl_new(&cfg);
    if (row) {
        m.jobrow = *row;
        step((struct mu_ev){.kind = MU_EV_LOAD, .msg = &m});
    }
    step((struct mu_ev){.kind = MU_EV_LOADED});
    clear();
}

static void report(mu_conn c, uint32_t attempt, uint32_t phase)
{
    clear();
    hear(c, MU_MSG_report,
         &(struct mu_m_report){.job = 1,
                               .attempt = attempt,
                               .phase = phase,
                               .nranks = 1,
                               .drained = phase >= MU_PHASE_GONE,
                               .seq = phase == MU_PHASE_LOST ? 0 : ++seq});
}

/* row NULL: the agent has nothing. */
static void recalled(mu_conn c, const struct mu_m_jobrow *row)
{
    struct mu_m_recalled m = {.job = 1, .attempt = row ? row->attempt : 0};

    clear();
    if (row && mu_msg_pack(&m.row, MU_MSG_jobrow, row))
        exit(99);
    hear(c, MU_MSG_recalled, &m);
    free(m.row.data);
}

/* What the store had of job 1 when its attempt ran on n1, or on n1 and n2. For mu_msg_free_body. */
static struct mu_m_jobrow row_of(uint32_t nodes)
{
    struct mu_m_jobrow before;
    mu_conn agents[2];

    whole_store();
    agents[0] = join_as(S("n1"), 1);
    agents[1] = join_as(S("n2"), 1);
    hand_in(up("client"), "t", (struct mu_m_spec){.ranks = nodes});
    for (uint32_t i = 0; i < nodes; i++)
        report(agents[i], 1, MU_PHASE_RUNNING);
    if (mu_msg_copy(MU_MSG_jobrow, &before, newest_job()))
        exit(99);
    return before;
}

static void later(void)
{
    now += 10 * MU_SEC;
    clear();
    step((struct mu_ev){.kind = MU_EV_TIME});
}

/* An agent dies between what it says of a newer attempt and what it is asked about that; it comes back or does not. */
static void test_asked(const struct mu_m_jobrow *row, bool back)
{
    struct mu_m_jobrow queued = *row;

    queued.attempt = 0;
    queued.state = MU_JOB_QUEUED;
    queued.nodes = NULL;
    queued.node_slots.n = queued.node_ranks.n = 0;
    lost_store(&queued);
    join_as(S("n2"), 1);
    now += 7 * MU_SEC;
    mu_conn n1 = join_as(S("n1"), 1);
    report(n1, 1, MU_PHASE_GONE);
    TAP_OK(recalls == 1, "a node is asked about an attempt that the store has lost");
    step((struct mu_ev){.kind = MU_EV_DOWN, .conn = n1});
    step((struct mu_ev){.kind = MU_EV_PROBED, .node = "n1", .status = 0});
    clear();
    now += 2100 * MU_MS;
    step((struct mu_ev){.kind = MU_EV_TIME});
    TAP_OK(!starts, "its agent dies: no other attempt is started for now");
    if (back) {
        n1 = introduce((struct mu_m_agent){.node = S("n1"), .slots = 1, .incarnation = 2});
        report(n1, 1, MU_PHASE_GONE);
        ready(n1);
        bool early = starts != 0;
        recalled(n1, row);
        TAP_OK(!early && strstr(events, "adopted") && !starts, "and when it is back that one is taken up");
    } else {
        later();
        step((struct mu_ev){.kind = MU_EV_TIME});
        TAP_OK(starts == 1 && newest > 1, "but when its node is lost, as number %u", newest);
    }
}

static void test_not_begun(const struct mu_m_jobrow *row)
{
    mu_conn n1;

    lost_store(NULL);
    n1 = join_as(S("n1"), 1);
    report(n1, 0, MU_PHASE_IDLE);
    TAP_OK(recalls == 1 && !releases, "a keeper that has not begun is asked about, not let go of");
    recalled(n1, row);
    TAP_OK(!releases && newest_job()->attempt == 1 && strstr(events, "adopted"), "its start's row is taken up");
    report(n1, 0, MU_PHASE_IDLE);
    TAP_OK(!releases && !recalls, "and then it is known");

    lost_store(row);
    mu_conn n2 = join_as(S("n2"), 1);
    report(n2, 0, MU_PHASE_IDLE);
    TAP_OK(recalls == 1 && !releases, "so it is when an older attempt is known elsewhere");
    recalled(n2, NULL);
    TAP_OK(releases == 1, "of what has nothing, all is let go");
}

/* A node is lost together with the controller: the next one has never heard it. */
static void test_never_heard(const struct mu_m_jobrow *row)
{
    struct mu_ctl_config cfg = {.restarts = 3, .node = "n0"};
    struct mu_msg m = {.type = MU_MSG_jobrow, .jobrow = *row};

    mu_ctl_free(ctl);
    ctl = mu_ctl_new(&cfg);
    step((struct mu_ev){.kind = MU_EV_LOAD, .msg = &m});
    step((struct mu_ev){.kind = MU_EV_LOADED});
    uint64_t before = now;
    mu_conn n1 = introduce((struct mu_m_agent){.node = S("n1"), .slots = 1, .incarnation = 1});
    report(n1, 1, MU_PHASE_RUNNING);
    ready(n1);
    later();
    report(n1, 1, MU_PHASE_GONE);
    TAP_OK(newest_job()->failures == 1 && newest_job()->fail_wall >= before,
           "a node that was lost with the controller has failed no earlier than that");
}

static void test_older(const struct mu_m_jobrow *row, bool known)
{
    const char *what = known ? "one that the store has" : "one that was taken up";
    mu_conn n1, n2;

    lost_store(known ? row : NULL);
    n2 = join_as(S("n2"), 1);
    report(n2, 2, MU_PHASE_LOST);
    recalled(n2, NULL);
    n1 = join_as(S("n1"), 1);
    report(n1, 1, MU_PHASE_RUNNING);
    if (!known)
        recalled(n1, row);
    TAP_OK(kills == 1 && !starts, "an attempt that another one has followed is ended: %s", what);
    report(n1, 1, MU_PHASE_GONE);
    later();
    TAP_OK(newest_job()->state != MU_JOB_COMPLETED && starts == 1 && newest > 2,
           "its ranks' good end does not count, the next one is number %u", newest);
}

static void test_replaced(const struct mu_m_jobrow *row)
{
    struct mu_m_jobrow next = *row;
    char *nodes[] = {S("n2"), NULL};
    mu_conn n1, n2;

    lost_store(row);
    n1 = join_as(S("n1"), 1);
    report(n1, 1, MU_PHASE_GONE);
    n2 = join_as(S("n2"), 1);
    report(n2, 2, MU_PHASE_RUNNING);
    next.attempt = 2;
    next.nodes = nodes;
    recalled(n2, &next);
    TAP_OK(newest_job()->attempt == 2 && recalls == 1, "the nodes of an older attempt are asked what is left of it");
    recalled(n1, row);
    TAP_OK(releases == 1 && newest_job()->attempt == 2, "and let go of it");
}

static void test_given_up(void)
{
    struct mu_m_jobrow row = row_of(2);
    mu_conn n1, n2;

    lost_store(NULL);
    n1 = join_as(S("n1"), 1);
    now += MU_SEC;
    step((struct mu_ev){.kind = MU_EV_DOWN, .conn = n1, .status = MU_DOWN_SILENT, .at = now - MU_SEC});
    now += 5 * MU_SEC;
    step((struct mu_ev){.kind = MU_EV_TIME});
    n2 = join_as(S("n2"), 1);
    report(n2, 1, MU_PHASE_RUNNING);
    recalled(n2, &row);
    TAP_OK(pool_node("n1")->state == MU_NODE_LOST && strstr(events, "adopted") && kills == 1 &&
               newest_job()->state == MU_JOB_RECOVERING,
           "what ran on a node that was given up before is lost: %s", newest_job()->reason);
    report(n2, 1, MU_PHASE_GONE);
    TAP_OK(newest_job()->state != MU_JOB_COMPLETED, "and the attempt with it");
    mu_msg_free_body(MU_MSG_jobrow, &row);
}

static mu_conn join_of(uint64_t owner)
{
    mu_conn c = introduce((struct mu_m_agent){
        .node = S("n1"), .slots = 1, .incarnation = 1, .port = 7, .addr = S("10.0.0.1"), .owner = owner});

    ready(c);
    return c;
}

/* Hosts that a job has brought. */
static void test_brought(void)
{
    struct mu_m_jobrow row;
    char held[40];
    mu_conn n1;

    lost_store(NULL);
    n1 = join_of(1);
    step((struct mu_ev){.kind = MU_EV_DOWN, .conn = n1, .status = MU_DOWN_SILENT, .at = now});
    later();
    later();
    TAP_OK(mu_pool_find(mu_ctl_pool(ctl), "n1") < 0, "one that is lost goes when nobody knows its job");

    whole_store();
    join_as(S("n2"), 1);
    hand_in(up("client"), "t", (struct mu_m_spec){.ranks = 1, .hosts = S("n1:1")});
    if (mu_msg_copy(MU_MSG_jobrow, &row, newest_job()))
        exit(99);
    lost_store(&row);
    join_as(S("n2"), 1);
    hear(up("client"), MU_MSG_hold, &(struct mu_m_hold){.job = 1, .on = 1});
    snprintf(held, sizeof held, "%.39s", events);
    clear();
    n1 = join_of(1);
    TAP_OK(mu_job_waits(newest_job()->state) && strstr(held, "held") && !byes,
           "one of a job that is held is not sent away before it has said what runs");
    later();
    TAP_OK(byes == 1, "but when all have had their time");
    mu_msg_free_body(MU_MSG_jobrow, &row);
}

/* One host of a job has nothing of it, another one has what goes on. */
static void test_one_of_two(const struct mu_m_jobrow *row)
{
    mu_conn n1, n2;

    lost_store(NULL);
    n2 = introduce((struct mu_m_agent){.node = S("n2"), .slots = 1, .incarnation = 1, .owner = 1});
    n1 = join_of(1);
    report(n1, 1, MU_PHASE_RUNNING);
    recalled(n2, NULL);
    TAP_OK(byes == 1, "only the host of a lost job that has nothing of it is let go");
    recalled(n1, row);
    TAP_OK(strstr(events, "adopted") && !pool_node("n1")->leaving, "what the other one has is taken up");
}

static void copy(struct mu_m_jobrow *to, const struct mu_m_jobrow *row)
{
    if (mu_msg_copy(MU_MSG_jobrow, to, row))
        exit(99);
}

static void load(const struct mu_m_jobrow *row)
{
    struct mu_msg m = {.type = MU_MSG_jobrow, .jobrow = *row};

    step((struct mu_ev){.kind = MU_EV_LOAD, .msg = &m});
}

/* Job 2, which runs on n2 beside job 1 on n1. For mu_msg_free_body. */
static struct mu_m_jobrow row_of_other(void)
{
    struct mu_m_jobrow other;

    whole_store();
    mu_conn n1 = join_as(S("n1"), 2);
    hand_in(up("client"), "a", (struct mu_m_spec){.ranks = 2});
    report(n1, 1, MU_PHASE_RUNNING);
    join_as(S("n2"), 2);
    hand_in(up("client"), "b", (struct mu_m_spec){.ranks = 2});
    copy(&other, newest_job());
    return other;
}

/* A store that has job 1 alone finds job 2 on n2. */
static mu_conn find_other(const struct mu_m_jobrow *known, const struct mu_m_jobrow *other)
{
    struct mu_ctl_config cfg = {
        .restarts = 3, .node = "n0", .last_job = 2, .losses = 1, .doubtful = true, .lost_above = 1, .lost_last = 2};
    struct mu_m_recalled m = {.job = 2, .attempt = 1};

    mu_ctl_free(ctl);
    ctl = mu_ctl_new(&cfg);
    load(known);
    step((struct mu_ev){.kind = MU_EV_LOADED});
    mu_conn n1 = join_as(S("n1"), 2);
    if (!strcmp(known->nodes[0], "n1"))
        report(n1, 1, MU_PHASE_RUNNING);
    mu_conn n2 = join_as(S("n2"), 2);
    hear(n2, MU_MSG_report,
         &(struct mu_m_report){.job = 2, .attempt = 1, .phase = MU_PHASE_RUNNING, .nranks = 2, .seq = ++seq});
    if (mu_msg_pack(&m.row, MU_MSG_jobrow, other))
        exit(99);
    hear(n2, MU_MSG_recalled, &m);
    free(m.row.data);
    TAP_OK(mu_ctl_job_count(ctl) == 2 && newest_job()->id == 2, "a job that the store has lost runs there");
    return n2;
}

/* What was kept on a node when a job was found running there. */
static void test_crowded(void)
{
    struct mu_m_jobrow spared, other = row_of_other();

    whole_store();
    mu_conn n1 = join_as(S("n1"), 2);
    join_as(S("n2"), 2);
    hand_in(up("client"), "a", (struct mu_m_spec){.ranks = 2, .spares = 1});
    report(n1, 1, MU_PHASE_RUNNING);
    copy(&spared, newest_job());
    TAP_OK(spared.spare_nodes && spared.spare_nodes[0] && pool_node("n2")->used == 2, "a node is kept as a spare");
    find_other(&spared, &other);
    later();
    TAP_OK(pool_node("n2")->used == 2, "it is no spare any more");
    mu_msg_free_body(MU_MSG_jobrow, &spared);
    mu_msg_free_body(MU_MSG_jobrow, &other);
}

/* An older attempt was on a node where another job is found: it begins again elsewhere. */
static void test_taken(void)
{
    struct mu_m_jobrow older, other = row_of_other();

    whole_store();
    mu_conn n2 = join_as(S("n2"), 2);
    hand_in(up("client"), "a", (struct mu_m_spec){.ranks = 2});
    report(n2, 1, MU_PHASE_RUNNING);
    copy(&older, newest_job());
    n2 = find_other(&older, &other);
    TAP_OK(pool_node("n2")->used == 4, "on slots that the store has given to another one");
    report(n2, 1, MU_PHASE_LOST);
    later();
    TAP_OK(strstr(events, "node-replaced") && starts == 1 && pool_node("n1")->used == 2 && pool_node("n2")->used == 2,
           "which begins again on another node");
    mu_msg_free_body(MU_MSG_jobrow, &older);
    mu_msg_free_body(MU_MSG_jobrow, &other);
}

/* The older of two jobs has waited for a host of somebody else, meanwhile the younger one has named its other host. */
static void test_same_host(void)
{
    whole_store();
    join_as(S("n0"), 1);
    hand_in(up("client"), "a", (struct mu_m_spec){.ranks = 1, .hosts = S("n2")});
    mu_conn n2 = introduce((struct mu_m_agent){.node = S("n2"), .slots = 1, .incarnation = 1, .owner = 1});
    ready(n2);
    hand_in(up("client"), "b", (struct mu_m_spec){.ranks = 2, .hosts = S("n1:1,n2:1")});
    hand_in(up("client"), "c", (struct mu_m_spec){.ranks = 1, .hosts = S("n1:1")});
    TAP_OK(pool_node("n1")->owner == 3, "a job has a host that another one waits for");
    report(n2, 1, MU_PHASE_GONE);
    step((struct mu_ev){.kind = MU_EV_DOWN, .conn = n2});
    later();
    TAP_OK(mu_pool_find(mu_ctl_pool(ctl), "n2") < 0, "which could have all others now");
    now += 61 * MU_SEC;
    clear();
    step((struct mu_ev){.kind = MU_EV_TIME});
    TAP_OK(strstr(events, "not within a minute"), "the host does not come");
    int n1 = mu_pool_find(mu_ctl_pool(ctl), "n1");
    TAP_OK(n1 >= 0 && mu_ctl_pool(ctl)->v[n1].owner == 2, "at once it is the other one's");
}

int main(void)
{
    struct mu_m_jobrow row = row_of(1);

    test_not_begun(&row);
    test_older(&row, false);
    test_older(&row, true);
    test_replaced(&row);
    test_asked(&row, true);
    test_asked(&row, false);
    test_given_up();
    test_brought();
    test_one_of_two(&row);
    test_crowded();
    test_taken();
    test_same_host();
    struct mu_m_jobrow two = row_of(2);
    test_never_heard(&two);
    mu_msg_free_body(MU_MSG_jobrow, &two);
    mu_msg_free_body(MU_MSG_jobrow, &row);
    mu_msg_free(&stored);
    free_ctl();
    return tap_done();
}
