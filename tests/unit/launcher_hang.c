/* Who holds up a job of three nodes: what the controller's core makes of what keepers see, whom it asks, whom it kills
 * and what it says. */
#include "launcher/core/ctl.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "runtime/base/clock.h"
#include "runtime/base/slot.h"
#include "tests/unit/ctl_help.h"
#include "tests/unit/tap.h"

enum { NODES = 3, EACH = 2 };

static struct mu_msg row; /* the job's, as stored last */
static char sent[2000], told[700];
static mu_conn conns[NODES + 1];
static uint64_t seq;

static void note_one(const struct mu_act *a, mu_conn conn)
{
    MU_AUTO_MSG struct mu_msg m = {0};
    size_t n = strlen(sent);
    char to = '?';

    for (int k = 0; k < NODES; k++)
        to = conn && conn == conns[k] ? (char)('a' + k) : to;
    if (a->kind == MU_ACT_EVENT && !strcmp(a->event, "hang"))
        snprintf(told, sizeof told, "%d %s: %s", a->rank, a->node, a->detail);
    if (!a->frame.len || mu_msg_decode(a->frame.data, a->frame.len, &m, NULL))
        return;
    if (a->kind == MU_ACT_PUT_JOB) {
        mu_msg_free(&row);
        mu_msg_decode(a->frame.data, a->frame.len, &row, NULL);
    } else if (m.type == MU_MSG_look && m.look.rank == MU_ALL) {
        snprintf(sent + n, sizeof sent - n, "%c?all ", to);
    } else if (m.type == MU_MSG_look) {
        snprintf(sent + n, sizeof sent - n, "%c?%u ", to, m.look.rank);
    } else if (m.type == MU_MSG_kill && m.kill.rank_plus1) {
        snprintf(sent + n, sizeof sent - n, "%c!%u ", to, m.kill.rank_plus1 - 1);
    } else if (m.type == MU_MSG_kill) {
        snprintf(sent + n, sizeof sent - n, "%c!all ", to);
    }
}

static void note(const struct mu_act *a)
{
    const mu_conn *to;
    uint32_t n = mu_act_to(a, &to);

    for (uint32_t k = 0; k < n; k++)
        note_one(a, to[k]);
}

/* Of the failure of the newest job, as it stands. */
static uint32_t failed(void)
{
    return mu_ctl_job(ctl, mu_ctl_job_count(ctl) - 1, NULL)->fail_rank_plus1;
}

static bool said(const char *want)
{
    bool same = !strcmp(sent, want);

    if (!same)
        printf("# sent: %s\n# want: %s\n", sent, want);
    sent[0] = 0;
    return same;
}

static bool says(const char *want)
{
    bool same = *want ? strstr(told, want) != NULL : !*told;

    if (!same)
        printf("# told: %s\n# want: %s\n", told, want);
    told[0] = 0;
    return same;
}

static char *name_of(int node)
{
    static char names[NODES][8] = {"h1", "h2", "h3"};

    return names[node];
}

static void report(int node, uint32_t phase)
{
    hear(conns[node], MU_MSG_report,
         &(struct mu_m_report){.job = row.jobrow.id,
                               .attempt = row.jobrow.attempt,
                               .node = name_of(node),
                               .phase = phase,
                               .nranks = EACH,
                               .nlive = phase == MU_PHASE_GONE ? 0 : EACH,
                               .nfailed = phase == MU_PHASE_GONE ? EACH : 0,
                               .njoined = EACH,
                               .steps = 7,
                               .step = 7,
                               .keeper = 1,
                               .seq = ++seq});
}

static void all(uint32_t phase)
{
    for (int i = 0; i < NODES; i++)
        report(i, phase);
}

/* A job of ranks 0 1 on h1, 2 3 on h2, 4 5 on h3, which runs. */
static void submit(uint32_t on_failure)
{
    static unsigned jobs;
    char token[16];

    snprintf(token, sizeof token, "t%u", ++jobs);
    hand_in(conns[NODES], token, (struct mu_m_spec){.ranks = NODES * EACH, .ppn = EACH, .on_failure = on_failure});
    all(MU_PHASE_RUNNING);
    sent[0] = told[0] = 0;
}

static void end_job(void)
{
    struct mu_m_cancel m = {.job = row.jobrow.id, .force = 1};

    hear(conns[NODES], MU_MSG_cancel, &m);
    all(MU_PHASE_GONE);
    sent[0] = told[0] = 0;
}

static void hang(int node, struct mu_m_hang m)
{
    m.job = row.jobrow.id;
    m.attempt = m.attempt ? m.attempt : row.jobrow.attempt;
    hear(conns[node], MU_MSG_hang, &m);
}

static void wait_ms(unsigned ms)
{
    now += ms * MU_MS;
    step((struct mu_ev){.kind = MU_EV_TIME});
}

/* "n ranks of the node, the first of them `from`, have waited for t ms in all-reduce 9 of communicator 7." */
static struct mu_m_hang waits(uint32_t level, uint32_t from, uint32_t n, unsigned ms)
{
    return (struct mu_m_hang){.level = level,
                              .from = from,
                              .nwait = n,
                              .kind = MU_OP_KIND_ALLREDUCE,
                              .ctx = 7,
                              .number = 9,
                              .wait_ns = ms * MU_MS,
                              .op_seq = 50};
}

static struct mu_m_hang because(struct mu_m_hang m, uint32_t what, uint32_t rank, char process)
{
    m.what = what;
    m.rank = rank;
    m.process = (uint32_t)process;
    m.last_ctx = 7;
    m.last_number = 8;
    return m;
}

static struct mu_m_hang answer(uint32_t asked, uint32_t what, uint32_t rank, char process)
{
    struct mu_m_hang m =
        because((struct mu_m_hang){.asked_plus1 = asked == MU_ALL ? MU_ALL : asked + 1, .from = asked, .op_seq = 40},
                what, rank, process);

    return m;
}

#define SOME MU_HANG_LEVEL_SOME
#define OVER MU_HANG_LEVEL_OVER
#define LATE MU_HANG_LEVEL_LATE

static void on_one_node(void)
{
    submit(MU_FAIL_KILL);
    hang(0, waits(SOME, 0, 2, 5000));
    hang(2, waits(SOME, 4, 2, 5100));
    TAP_OK(said("") && says(""), "long waits are noted");
    hang(1, because(waits(OVER, 2, 1, 10000), MU_HANG_ABSENT, 3, 'R'));
    TAP_OK(said("") && says(""), "a verdict: others may know better for a moment");
    wait_ms(100);
    TAP_OK(said("b!3 a!all b!all c!all "), "the rank goes first, then the others");
    TAP_OK(says("3 h2: rank 3 on h2 has not entered all-reduce #9, which 5 ranks have waited in for 10.0 s; it runs "
                "(state R)"),
           "the event says who, how many wait in what, and how it is doing");
    TAP_OK(failed() == 4 && row.jobrow.fail_status == SIGKILL && !strcmp(row.jobrow.fail_node, "h2") &&
               row.jobrow.state == MU_JOB_RECOVERING,
           "it is the failure");
    hang(1, because(waits(OVER, 2, 1, 11000), MU_HANG_ABSENT, 2, 'R'));
    struct mu_m_report victim = {.job = row.jobrow.id,
                                 .attempt = row.jobrow.attempt,
                                 .node = name_of(0),
                                 .phase = MU_PHASE_KILLING,
                                 .nfailed = 1,
                                 .first_rank_plus1 = 1,
                                 .first_status = 1 << 8,
                                 .first_blame = MU_BLAME_SIGNAL,
                                 .seq = ++seq};
    hear(conns[0], MU_MSG_report, &victim);
    wait_ms(200);
    TAP_OK(said("") && says("") && failed() == 4, "whatever is said of others now");
    struct mu_m_report last = victim;
    last.node = name_of(1);
    last.first_rank_plus1 = 4;
    last.first_status = SIGKILL;
    last.first_tail = (struct mu_bytes){.data = (uint8_t *)(uintptr_t) "bye", .len = 3};
    hear(conns[1], MU_MSG_report, &last);
    all(MU_PHASE_GONE);
    TAP_OK(row.jobrow.attempt == 2 && row.jobrow.fail_tail.len == 3,
           "the next attempt starts; its last words are kept");
    hang(1, (struct mu_m_hang){.attempt = 1, .level = OVER, .what = MU_HANG_STOPPED, .rank = 3});
    wait_ms(200);
    TAP_OK(said("") && says(""), "what is said of the last attempt does not concern it");
    end_job();
}

static void stopped(void)
{
    submit(MU_FAIL_KILL);
    hang(0, waits(SOME, 0, 2, 5000));
    struct mu_m_hang m = because((struct mu_m_hang){.level = OVER, .still_ns = 10 * MU_SEC}, MU_HANG_STOPPED, 5, 'T');
    hang(2, m);
    wait_ms(100);
    TAP_OK(said("c!5 a!all b!all c!all ") &&
               says("rank 5 on h3 has not entered all-reduce #9, which 2 ranks have waited in for 5.1 s; it is stopped "
                    "(state T)"),
           "a stopped rank that others of other nodes wait for");
    end_job();
    submit(MU_FAIL_KILL);
    hang(0, waits(SOME, 0, 2, 5000));
    m.last_number = 9;
    hang(2, m);
    wait_ms(100);
    TAP_OK(says("rank 5 on h3 does not go on for 10.0 s now: it is stopped (state T)"),
           "a wait that is over has nothing to do with it");
    end_job();
    submit(MU_FAIL_KILL);
    hang(0, because(waits(OVER, 0, 1, 10000), MU_HANG_ABSENT, 1, 'R'));
    wait_ms(50);
    m.process = 'F';
    m.last_number = 8;
    hang(2, m);
    wait_ms(50);
    TAP_OK(said("c!5 a!all b!all c!all ") && says("its cgroup is frozen"), "of two the stopped one");
    end_job();
    submit(MU_FAIL_KILL);
    hang(0, because(waits(OVER, 0, 1, 10000), MU_HANG_ABSENT, 1, 'R'));
    struct mu_m_hang less = because(waits(OVER, 2, 1, 10000), MU_HANG_ABSENT, 3, 'S');
    less.op_seq = 49;
    hang(1, less);
    wait_ms(100);
    TAP_OK(said("b!3 a!all b!all c!all "), "of two others the one that has done less");
    told[0] = 0;
    end_job();
}

static void elsewhere(void)
{
    submit(MU_FAIL_KILL);
    hang(0, because(waits(OVER, 0, 2, 10000), MU_HANG_ELSEWHERE, 3, 0));
    TAP_OK(said("b?3 "), "a rank of another node: its keeper is asked");
    hang(0, because(waits(OVER, 0, 2, 10100), MU_HANG_ELSEWHERE, 3, 0));
    TAP_OK(said(""), "once");
    hang(2, answer(3, MU_HANG_ABSENT, 3, 'S'));
    wait_ms(200);
    TAP_OK(said("") && says(""), "nobody answers for another node");
    hang(1, answer(3, MU_HANG_ELSEWHERE, 4, 0));
    TAP_OK(said("c?4 "), "it waits itself: the next one is asked");
    hang(2, answer(4, MU_HANG_ABSENT, 5, 'D'));
    wait_ms(100);
    TAP_OK(
        said("c!5 a!all b!all c!all ") &&
            says("rank 5 on h3 has not entered all-reduce #9, which 2 ranks have waited in for 10.0 s; it waits for a "
                 "disk or a device (state D)"),
        "until there is one that does not wait");
    end_job();

    submit(MU_FAIL_KILL);
    hang(0, because(waits(OVER, 0, 2, 10000), MU_HANG_ELSEWHERE, 3, 0));
    hang(1, answer(3, MU_HANG_FILES, 3, 0));
    wait_ms(200);
    TAP_OK(said("b?3 ") && says(""), "one that reads a checkpoint is left alone");
    hang(0, because(waits(OVER, 0, 2, 11000), MU_HANG_ELSEWHERE, 3, 0));
    TAP_OK(said("b?3 "), "and asked about again");
    wait_ms(1000);
    hang(0, because(waits(OVER, 0, 2, 12000), MU_HANG_ELSEWHERE, 3, 0));
    TAP_OK(said("b?3 "), "also when there was no answer");
    end_job();

    submit(MU_FAIL_KILL);
    struct mu_m_hang m = because(waits(OVER, 0, 1, 10000), MU_HANG_ELSEWHERE, 2, 'S');
    hang(0, m);
    for (int i = 0; i < 20; i++) {
        m = answer(i % 2 ? 0 : 2, MU_HANG_ELSEWHERE, i % 2 ? 2 : 0, 'S');
        m.in_kind = MU_OP_KIND_BARRIER;
        m.op_seq = i % 2 ? 50 : 45;
        hang(i % 2 ? 0 : 1, m);
    }
    wait_ms(100);
    TAP_OK(says("rank 2 on h2 is in barrier while 1 rank has waited for it in all-reduce #9 for 10.0 s: ranks wait for "
                "one another"),
           "waits that go round in a circle end at the one that has done least");
    end_job();

    submit(MU_FAIL_KILL);
    m = (struct mu_m_hang){.level = OVER,
                           .nwait = 2,
                           .kind = MU_OP_KIND_INIT,
                           .wait_ns = 10 * MU_SEC,
                           .what = MU_HANG_ELSEWHERE,
                           .rank = MU_ALL};
    hang(0, m);
    TAP_OK(said("b?all c?all "), "MPI_Init waits for somebody: all others are asked");
    hang(2, answer(MU_ALL, MU_HANG_NOBODY, 0, 0));
    hang(1, answer(MU_ALL, MU_HANG_ABSENT, 2, 'S'));
    wait_ms(100);
    TAP_OK(
        says("rank 2 on h2 has not called muster_init, which 2 ranks have waited in for 10.0 s; it sleeps (state S)"),
        "one of them knows");
    end_job();

    submit(MU_FAIL_KILL);
    m = because(waits(OVER, 0, 1, 10000), MU_HANG_ABSENT, 1, 'S');
    m.kind = MU_OP_KIND_RECV;
    hang(0, m);
    wait_ms(100);
    TAP_OK(says("rank 1 on h1 has not sent what rank 0 has waited for for 10.0 s; it sleeps (state S)"), "receives");
    end_job();
}

static void fail(int node, uint32_t rank, uint32_t blame)
{
    hear(conns[node], MU_MSG_report,
         &(struct mu_m_report){.job = row.jobrow.id,
                               .attempt = row.jobrow.attempt,
                               .node = name_of(node),
                               .phase = MU_PHASE_KILLING,
                               .nfailed = 1,
                               .first_rank_plus1 = rank + 1,
                               .first_status = 1 << 8,
                               .first_text = (char *)(uintptr_t) "exited with code 1",
                               .first_blame = blame,
                               .seq = ++seq});
}

static void victims(void)
{
    submit(MU_FAIL_KILL);
    hang(0, because(waits(LATE, 0, 2, 1000), MU_HANG_ABSENT, 1, 'S'));
    TAP_OK(said("a!1 a!all b!all c!all ") && says("rank 1 on h1 has not entered all-reduce #9"),
           "a rank that gave up names the one that it waited for at once");
    fail(0, 0, MU_BLAME_PEER);
    TAP_OK(failed() == 2, "and is not the failure");
    end_job();

    submit(MU_FAIL_KILL);
    fail(0, 0, MU_BLAME_PEER);
    TAP_OK(said("a!all b!all c!all ") && failed() == 1, "the victim's end comes first");
    hang(0, because(waits(LATE, 0, 2, 1000), MU_HANG_ELSEWHERE, 4, 'S'));
    TAP_OK(said("c?4 "), "then whom it waited for");
    hang(2, answer(4, MU_HANG_STOPPED, 4, 'T'));
    TAP_OK(failed() == 5 && says("rank 4 on h3"), "which takes its place");
    end_job();

    submit(MU_FAIL_KILL);
    fail(0, 0, MU_BLAME_SIGNAL);
    sent[0] = 0;
    hang(0, because(waits(LATE, 1, 1, 1000), MU_HANG_ABSENT, 0, 'S'));
    TAP_OK(said("") && says("") && failed() == 1, "a rank that was killed is no victim");
    end_job();

    submit(MU_FAIL_KEEP);
    hang(0, because(waits(LATE, 0, 2, 1000), MU_HANG_ABSENT, 1, 'S'));
    TAP_OK(said("") && says(""), "--on-failure=keep leaves the library's deadlines to the program");
    hang(0, because(waits(OVER, 0, 1, 10000), MU_HANG_ABSENT, 1, 'S'));
    wait_ms(100);
    TAP_OK(said("a!1 ") && says("rank 1 on h1"), "a hang is a failure of that rank alone");
    hang(1, because((struct mu_m_hang){.level = OVER, .still_ns = 10 * MU_SEC}, MU_HANG_STOPPED, 2, 'T'));
    wait_ms(100);
    TAP_OK(said("b!2 ") && says("rank 2 on h2") && failed() == 2, "so is the next one");
    end_job();
}

/* Rank 0 has waited in muster_init for so long. */
static struct mu_m_hang starts(unsigned ms)
{
    return (struct mu_m_hang){.level = OVER,
                              .nwait = 2,
                              .kind = MU_OP_KIND_INIT,
                              .wait_ns = ms * MU_MS,
                              .what = MU_HANG_ELSEWHERE,
                              .rank = MU_ALL};
}

static void all_called(void)
{
    struct mu_m_hang here = answer(MU_ALL, MU_HANG_NOBODY, 0, 0);

    submit(MU_FAIL_KILL);
    hang(0, starts(619000));
    hang(1, here);
    hang(2, here);
    wait_ms(1000);
    TAP_OK(said("b?all c?all ") && says(""), "all have called muster_init: MPI has its time to come up");
    hang(0, starts(620000));
    hang(1, here);
    wait_ms(200);
    TAP_OK(said("b?all c?all ") && says(""), "as long as somebody has not answered, nothing is known");
    hang(2, here);
    wait_ms(100);
    TAP_OK(said("a!0 a!all b!all c!all ") &&
               says("rank 0 on h1 has waited in muster_init for 620.0 s, which all ranks have called: do the job's "
                    "hosts reach one another?"),
           "then the attempt ends");
    end_job();

    submit(MU_FAIL_KILL);
    hang(0, starts(620000));
    hang(1, here);
    hang(2, answer(MU_ALL, MU_HANG_ABSENT, 4, 'S'));
    wait_ms(100);
    TAP_OK(says("rank 4 on h3 has not called muster_init"), "who has not called it is to blame as ever");
    end_job();
}

int main(void)
{
    struct mu_ctl_config cfg = {.restarts = 3, .node = "head", .node_wait_ns = 60 * MU_SEC};

    ctl = mu_ctl_new(&cfg);
    step((struct mu_ev){.kind = MU_EV_LOADED});
    for (int i = 0; i < NODES; i++) {
        conns[i] = up("agent");
        hear(conns[i], MU_MSG_agent, &(struct mu_m_agent){.node = name_of(i), .slots = EACH, .incarnation = 1});
        hear(conns[i], MU_MSG_agent_ready, &(struct mu_m_agent_ready){0});
    }
    conns[NODES] = up("client");
    on_one_node();
    stopped();
    elsewhere();
    victims();
    all_called();
    mu_msg_free(&row);
    mu_acts_free(&acts);
    mu_ctl_free(ctl);
    return tap_done();
}
