/* How long an agent waits for keepers that are to end something, and how a keeper shows that it does not hang. */
#include "runtime/agent/core.h"

#include <signal.h>
#include <string.h>

#include "runtime/base/clock.h"
#include "runtime/base/str.h"
#include "runtime/keeper/core.h"
#include "tests/unit/tap.h"

#define S(text) ((char *)(uintptr_t)(text))
#define KEEPER 7u

static struct mu_agent *agent;
static struct mu_acts acts;
static uint64_t now;

static const struct mu_act *did(enum mu_act_kind kind)
{
    for (size_t i = 0; i < acts.n; i++)
        if (acts.v[i].kind == kind)
            return &acts.v[i];
    return NULL;
}

static void step(struct mu_ev ev)
{
    ev.now = ev.wall = now;
    mu_acts_clear(&acts);
    mu_agent_step(agent, &ev, &acts);
}

static void say(mu_conn conn, struct mu_msg msg)
{
    step((struct mu_ev){.kind = MU_EV_MSG, .conn = conn, .msg = &msg});
}

static void at(uint64_t t)
{
    now = t;
    step((struct mu_ev){.kind = MU_EV_TIME});
}

/* What it has said to the controller in the last step; zeroed when it has not. */
static struct mu_m_agent introduced;
static char stays[32]; /* what it has not reached */

static void note_agent(void)
{
    introduced = (struct mu_m_agent){0};
    stays[0] = 0;
    for (size_t i = 0; i < acts.n; i++) {
        MU_AUTO_MSG struct mu_msg m = {0};
        if (acts.v[i].kind != MU_ACT_SEND || acts.v[i].conn != MU_AGENT_CTL ||
            mu_msg_decode(acts.v[i].frame.data, acts.v[i].frame.len, &m, NULL))
            continue;
        if (m.type == MU_MSG_agent)
            introduced =
                (struct mu_m_agent){.way = m.agent.way, .ctl = m.agent.ctl, .incarnation = m.agent.incarnation};
        if (m.type == MU_MSG_stay)
            snprintf(stays, sizeof stays, "%s", m.stay.tried);
    }
}

static void parent(uint64_t way)
{
    say(MU_AGENT_CTL, (struct mu_msg){.type = MU_MSG_parent, .parent = {.way = way}});
}

/* A controller is there, welcomes the agent and has heard who it is. */
static void ctl_up(void)
{
    step((struct mu_ev){.kind = MU_EV_UP, .conn = MU_AGENT_CTL});
    say(MU_AGENT_CTL, (struct mu_msg){.type = MU_MSG_welcome, .welcome = {.incarnation = 5}});
    note_agent();
    parent(introduced.way);
}

static void report(uint32_t attempt, uint32_t phase)
{
    say(KEEPER, (struct mu_msg){.type = MU_MSG_report, .report = {.job = 1, .attempt = attempt, .phase = phase}});
}

/* An agent with a keeper that runs attempt 1 of job 1, at one second. */
static void set_up(void)
{
    struct mu_agent_config cfg = {.node = "n", .slots = 4, .end_ns = 10 * MU_SEC};

    mu_agent_free(agent);
    agent = mu_agent_new(&cfg);
    now = MU_SEC;
    step((struct mu_ev){.kind = MU_EV_LOADED});
    ctl_up();
    say(MU_AGENT_CTL, (struct mu_msg){.type = MU_MSG_start, .start = {.job = 1, .attempt = 1}});
    step((struct mu_ev){.kind = MU_EV_SPAWNED, .job = 1, .pid = 99});
    step((struct mu_ev){.kind = MU_EV_UP, .conn = KEEPER});
    say(KEEPER, (struct mu_msg){.type = MU_MSG_hello,
                                .hello = {.proto = MU_WIRE_VERSION, .role = S("keeper"), .job = 1, .pid = 99}});
    report(1, MU_PHASE_RUNNING);
}

static void kill_job(uint32_t attempt, uint32_t signo, uint64_t grace)
{
    say(MU_AGENT_CTL, (struct mu_msg){.type = MU_MSG_kill,
                                      .kill = {.job = 1, .attempt = attempt, .signo = signo, .grace_ns = grace}});
}

static void test_kill(void)
{
    set_up();
    TAP_OK(mu_agent_next(agent) == UINT64_MAX, "a keeper that runs may be silent for ever");
    kill_job(1, SIGUSR1, 0);
    TAP_OK(mu_agent_next(agent) == UINT64_MAX, "also after a signal that ends nothing");
    kill_job(1, SIGTERM, 5 * MU_SEC);
    TAP_OK(mu_agent_next(agent) == 16 * MU_SEC, "told to end its ranks it has the grace and ten seconds");
    now = 14 * MU_SEC;
    report(1, MU_PHASE_KILLING);
    TAP_OK(mu_agent_next(agent) == 24 * MU_SEC, "and ten seconds from its last word on");
    at(24 * MU_SEC - 1);
    TAP_OK(!did(MU_ACT_CLEAN), "no sooner");
    at(24 * MU_SEC);
    TAP_OK(did(MU_ACT_CLEAN) && strstr(did(MU_ACT_CLEAN)->detail, "hangs"), "then it is killed, with a reason");
    at(60 * MU_SEC);
    TAP_OK(!did(MU_ACT_CLEAN) && mu_agent_next(agent) == UINT64_MAX, "once");

    set_up();
    kill_job(1, SIGKILL, 0);
    report(1, MU_PHASE_GONE);
    TAP_OK(mu_agent_next(agent) == UINT64_MAX, "when all is gone, nothing is waited for");
    kill_job(1, SIGKILL, 0);
    TAP_OK(mu_agent_next(agent) == UINT64_MAX, "nor when it was gone before");
    say(MU_AGENT_CTL, (struct mu_msg){.type = MU_MSG_start, .start = {.job = 1, .attempt = 2}});
    TAP_OK(mu_agent_next(agent) == 11 * MU_SEC, "a newer attempt is to begin within ten seconds");
    report(2, MU_PHASE_RUNNING);
    kill_job(1, SIGKILL, 0);
    TAP_OK(mu_agent_next(agent) == UINT64_MAX, "a late kill of an older attempt is none");
}

static void test_release(void)
{
    set_up();
    report(1, MU_PHASE_GONE);
    say(MU_AGENT_CTL, (struct mu_msg){.type = MU_MSG_release, .release = {.job = 1}});
    now = 5 * MU_SEC;
    report(1, MU_PHASE_GONE);
    say(MU_AGENT_CTL, (struct mu_msg){.type = MU_MSG_release, .release = {.job = 1}});
    TAP_OK(mu_agent_next(agent) == 11 * MU_SEC, "a released keeper has ten seconds, whatever it says");
    at(11 * MU_SEC);
    TAP_OK(did(MU_ACT_CLEAN) && strstr(did(MU_ACT_CLEAN)->detail, "does not end"), "then it is killed, with a reason");
    step((struct mu_ev){.kind = MU_EV_CLEANED, .job = 1});
    TAP_OK(!mu_agent_keepers(agent), "and forgotten");
}

static unsigned sent(mu_conn conn, enum mu_msg_type type)
{
    unsigned n = 0;

    for (size_t i = 0; i < acts.n; i++) {
        MU_AUTO_MSG struct mu_msg m = {0};
        if (acts.v[i].kind == MU_ACT_SEND && acts.v[i].conn == conn &&
            !mu_msg_decode(acts.v[i].frame.data, acts.v[i].frame.len, &m, NULL))
            n += m.type == type;
    }
    return n;
}

static void start_job(void)
{
    say(MU_AGENT_CTL, (struct mu_msg){.type = MU_MSG_start, .start = {.job = 1, .attempt = 1}});
}

static void release_job(void)
{
    say(MU_AGENT_CTL, (struct mu_msg){.type = MU_MSG_release, .release = {.job = 1}});
}

/* A controller with a new store, which does not know job 1, has a job 1 of its own. */
static void test_number_again(void)
{
    set_up();
    step((struct mu_ev){.kind = MU_EV_DOWN, .conn = MU_AGENT_CTL});
    ctl_up();
    release_job();
    start_job();
    TAP_OK(!did(MU_ACT_SPAWN) && sent(MU_AGENT_CTL, MU_MSG_report) == 1,
           "another job of that number waits for the old one");
    report(1, MU_PHASE_GONE);
    TAP_OK(!sent(MU_AGENT_CTL, MU_MSG_report), "whose reports are not taken for the new one's");
    kill_job(1, SIGKILL, 0);
    TAP_OK(!sent(KEEPER, MU_MSG_kill) && sent(MU_AGENT_CTL, MU_MSG_report) == 1,
           "killed before it starts, it is told to be lost");
    start_job();
    say(MU_AGENT_CTL, (struct mu_msg){.type = MU_MSG_start, .start = {.job = 1, .attempt = 2}});
    step((struct mu_ev){.kind = MU_EV_CHILD, .job = 1, .pid = 99});
    step((struct mu_ev){.kind = MU_EV_CLEANED, .job = 1});
    TAP_OK(did(MU_ACT_SPAWN), "once that is gone, its next attempt starts");
    step((struct mu_ev){.kind = MU_EV_SPAWNED, .job = 1, .pid = 100});
    start_job();
    TAP_OK(!did(MU_ACT_SPAWN), "a copy of the start is none");
    release_job();
    step((struct mu_ev){.kind = MU_EV_CHILD, .job = 1, .pid = 100});
    step((struct mu_ev){.kind = MU_EV_CLEANED, .job = 1});
    start_job();
    TAP_OK(!mu_agent_keepers(agent), "nor after its release");

    set_up();
    step((struct mu_ev){.kind = MU_EV_DOWN, .conn = MU_AGENT_CTL});
    ctl_up();
    release_job();
    start_job();
    release_job();
    step((struct mu_ev){.kind = MU_EV_CHILD, .job = 1, .pid = 99});
    step((struct mu_ev){.kind = MU_EV_CLEANED, .job = 1});
    TAP_OK(!did(MU_ACT_SPAWN) && !mu_agent_keepers(agent), "released while it waits, it never starts");
}

/* Of attempts on several nodes nothing lives on when the controller has not heard the agent for so long. */
static void test_lease(void)
{
    struct mu_agent_config cfg = {.node = "n", .slots = 4, .end_ns = 10 * MU_SEC, .joined = true};
    uint32_t ranks[] = {1, 1};

    for (uint32_t nodes = 1; nodes <= 2; nodes++) {
        mu_agent_free(agent);
        agent = mu_agent_new(&cfg);
        now = MU_SEC;
        step((struct mu_ev){.kind = MU_EV_LOADED});
        ctl_up();
        say(MU_AGENT_CTL,
            (struct mu_msg){.type = MU_MSG_start, .start = {.job = 1, .attempt = 1, .node_ranks = {ranks, nodes}}});
        step((struct mu_ev){.kind = MU_EV_SPAWNED, .job = 1, .pid = 99});
        step((struct mu_ev){.kind = MU_EV_UP, .conn = KEEPER});
        say(KEEPER, (struct mu_msg){.type = MU_MSG_hello,
                                    .hello = {.proto = MU_WIRE_VERSION, .role = S("keeper"), .job = 1, .pid = 99}});
        report(1, MU_PHASE_RUNNING);
        kill_job(1, SIGKILL, 0);
        TAP_OK(mu_agent_next(agent) == (nodes > 1 ? MU_SEC + MU_LEASE_NS : 11 * MU_SEC),
               "a keeper of an attempt on %u nodes that hangs is killed when %s", nodes,
               nodes > 1 ? "the lease ends" : "its time is over");
    }
}

/* A start that waits for its keeper while the lease runs out. */
static uint64_t lease_of_start(bool late)
{
    struct mu_agent_config cfg = {.node = "n", .slots = 4, .joined = true};
    uint32_t nodes[2] = {1, 1};
    uint64_t lease = 0;

    mu_agent_free(agent);
    agent = mu_agent_new(&cfg);
    now = MU_SEC;
    step((struct mu_ev){.kind = MU_EV_LOADED});
    ctl_up();
    say(MU_AGENT_CTL,
        (struct mu_msg){.type = MU_MSG_start, .start = {.job = 1, .attempt = 1, .node_ranks = {nodes, 2}}});
    step((struct mu_ev){.kind = MU_EV_SPAWNED, .job = 1, .pid = 99});
    step((struct mu_ev){.kind = MU_EV_DOWN, .conn = MU_AGENT_CTL, .status = MU_DOWN_SILENT});
    now += late ? MU_LEASE_NS : MU_LEASE_NS / 2;
    step((struct mu_ev){.kind = MU_EV_NOCTL, .at = now});
    step((struct mu_ev){.kind = MU_EV_UP, .conn = KEEPER});
    say(KEEPER, (struct mu_msg){.type = MU_MSG_hello,
                                .hello = {.proto = MU_WIRE_VERSION, .role = S("keeper"), .job = 1, .pid = 99}});
    for (size_t i = 0; i < acts.n; i++) {
        MU_AUTO_MSG struct mu_msg m = {0};
        if (acts.v[i].kind == MU_ACT_SEND && acts.v[i].conn == KEEPER &&
            !mu_msg_decode(acts.v[i].frame.data, acts.v[i].frame.len, &m, NULL) && m.type == MU_MSG_start)
            lease = m.start.lease_ns;
    }
    return lease;
}

static void test_waiting(void)
{
    TAP_OK(lease_of_start(false) > now, "a start that waits is good while no controller is there to give it up");
    TAP_OK(lease_of_start(true) && lease_of_start(true) <= now, "but not once its lease has run out");
}

/* What counts as heard by the controller: nothing before it has answered on this way. */
static void test_known(void)
{
    struct mu_agent_config cfg = {.node = "n", .slots = 4, .joined = true, .incarnation = 77};

    mu_agent_free(agent);
    agent = mu_agent_new(&cfg);
    now = MU_SEC;
    step((struct mu_ev){.kind = MU_EV_LOADED});
    step((struct mu_ev){.kind = MU_EV_UP, .conn = MU_AGENT_CTL});
    note_agent();
    TAP_OK(!introduced.way, "it says who it is to nobody who has not welcomed it");
    say(MU_AGENT_CTL, (struct mu_msg){.type = MU_MSG_welcome, .welcome = {.incarnation = 5}});
    note_agent();
    TAP_OK(introduced.way && introduced.ctl == 5 && introduced.incarnation == 77, "then it does, and to whom");
    uint64_t way = introduced.way;
    now += 100 * MU_MS;
    step((struct mu_ev){.kind = MU_EV_ECHO, .at = now - MU_MS});
    TAP_OK(!mu_agent_known(agent) && mu_agent_up_age(agent, now) == UINT64_MAX,
           "an echo before the controller's answer counts for nothing");
    parent(way - 1);
    TAP_OK(!mu_agent_known(agent), "nor does an answer to something else");
    parent(way);
    TAP_OK(mu_agent_known(agent) == MU_SEC && mu_agent_up_age(agent, now) == 100 * MU_MS,
           "its answer says that it has heard that");
    step((struct mu_ev){.kind = MU_EV_ECHO, .at = MU_SEC - 1});
    TAP_OK(mu_agent_known(agent) == MU_SEC, "what was heard before that is nothing new");
    step((struct mu_ev){.kind = MU_EV_ECHO, .at = now - 10 * MU_MS});
    TAP_OK(mu_agent_known(agent) == now - 10 * MU_MS && mu_agent_up_age(agent, now + MU_MS) == 11 * MU_MS,
           "echoes count from then on");

    step((struct mu_ev){.kind = MU_EV_STAY, .node = "p"});
    note_agent();
    TAP_OK(!introduced.way && !strcmp(stays, "p"), "a parent that it cannot reach is told, and nothing else again");
    now += 50 * MU_MS;
    step((struct mu_ev){.kind = MU_EV_ECHO, .at = now});
    TAP_OK(mu_agent_known(agent) == now && !mu_agent_up_age(agent, now), "its way is as it was");
    step((struct mu_ev){.kind = MU_EV_DOWN, .conn = MU_AGENT_CTL, .status = MU_DOWN_PARENT});
    TAP_OK(mu_agent_up_age(agent, now) == UINT64_MAX, "without a way it vouches for nobody");
    ctl_up();
    TAP_OK(introduced.way > way && !stays[0], "each way has a number of its own");
}

/* Keepers that died while no agent was here. */
static void test_dead(void)
{
    struct mu_agent_config cfg = {.node = "n", .slots = 4, .end_ns = 10 * MU_SEC};

    mu_agent_free(agent);
    agent = mu_agent_new(&cfg);
    now = MU_SEC;
    step((struct mu_ev){.kind = MU_EV_LOAD, .job = 1});
    step((struct mu_ev){.kind = MU_EV_LOADED});
    step((struct mu_ev){.kind = MU_EV_UP, .conn = MU_AGENT_CTL});
    say(MU_AGENT_CTL, (struct mu_msg){.type = MU_MSG_welcome});
    TAP_OK(sent(MU_AGENT_CTL, MU_MSG_report) == 1 && sent(MU_AGENT_CTL, MU_MSG_agent_ready) == 1,
           "a dead keeper is told of, and not waited for");
    release_job();
    TAP_OK(did(MU_ACT_FORGET) && !mu_agent_keepers(agent), "let go of, it is forgotten");

    set_up();
    step((struct mu_ev){.kind = MU_EV_CHILD, .job = 1, .pid = 99});
    step((struct mu_ev){.kind = MU_EV_CLEANED, .job = 1});
    TAP_OK(!did(MU_ACT_FORGET), "one that dies is not");
    release_job();
    TAP_OK(did(MU_ACT_FORGET) && did(MU_ACT_FORGET)->job == 1, "until its job is over");
}

/* A start that came late, with its job's end behind it: the keeper is being born, and no lease allows it anything. */
static void test_born(void)
{
    struct mu_agent_config cfg = {.node = "n", .slots = 4, .end_ns = 10 * MU_SEC, .joined = true};
    uint32_t ranks[] = {1, 1};

    mu_agent_free(agent);
    agent = mu_agent_new(&cfg);
    now = MU_SEC;
    step((struct mu_ev){.kind = MU_EV_LOADED});
    ctl_up();
    now += 2 * MU_LEASE_NS;
    say(MU_AGENT_CTL,
        (struct mu_msg){.type = MU_MSG_start, .start = {.job = 1, .attempt = 1, .node_ranks = {ranks, 2}}});
    kill_job(1, SIGKILL, 0);
    TAP_OK(!did(MU_ACT_CLEAN) && sent(MU_AGENT_CTL, MU_MSG_report) == 1, "killed at birth, it is told to be lost");
    release_job();
    TAP_OK(did(MU_ACT_CLEAN) && !did(MU_ACT_FORGET), "released, its keeper is killed");
    say(MU_AGENT_CTL, (struct mu_msg){.type = MU_MSG_bye});
    step((struct mu_ev){.kind = MU_EV_SPAWNED, .job = 1, .pid = 99});
    TAP_OK(!did(MU_ACT_EXIT) && mu_agent_keepers(agent) == 1, "the agent does not leave before");
    step((struct mu_ev){.kind = MU_EV_CLEANED, .job = 1});
    TAP_OK(did(MU_ACT_FORGET) && did(MU_ACT_EXIT), "but then it does");
}

/* Ranks that take their time to die. */
static void test_slow(void)
{
    struct mu_keeper_config cfg = {.job = 1, .node = "n", .pid = 99};
    struct mu_keeper *k = mu_keeper_new(&cfg);
    uint32_t one = 1;
    char *nodes[] = {S("n"), NULL}, *argv[] = {S("prog"), NULL};
    struct mu_m_spec spec = {.ranks = 1, .app_ranks = {&one, 1}, .app_argc = {&one, 1}, .argv = argv};
    struct mu_msg start = {.type = MU_MSG_start,
                           .start = {.job = 1, .attempt = 1, .nodes = nodes, .node_ranks = {&one, 1}}};
    struct mu_msg end = {.type = MU_MSG_kill, .kill = {.job = 1, .attempt = 1, .signo = SIGKILL}};
    struct mu_ev evs[] = {{.kind = MU_EV_UP, .conn = MU_KEEPER_AGENT},
                          {.kind = MU_EV_MSG, .msg = &start},
                          {.kind = MU_EV_SPAWNED, .attempt = 1},
                          {.kind = MU_EV_MSG, .msg = &end},
                          {.kind = MU_EV_TIME},
                          {.kind = MU_EV_CHILD, .attempt = 1, .status = SIGKILL},
                          {.kind = MU_EV_TIME}};
    unsigned said = 0;

    mu_msg_pack(&start.start.spec, MU_MSG_spec, &spec);
    for (unsigned i = 0; i < sizeof evs / sizeof evs[0]; i++) {
        now = i * MU_SEC;
        if (evs[i].kind == MU_EV_TIME)
            now = mu_keeper_next(k);
        evs[i].now = evs[i].wall = now;
        mu_acts_clear(&acts);
        mu_keeper_step(k, &evs[i], &acts);
        said += evs[i].kind == MU_EV_TIME && did(MU_ACT_SEND) && mu_keeper_report(k)->phase == MU_PHASE_KILLING;
    }
    TAP_OK(said == 2, "a keeper whose ranks die slowly says that it lives, also while it cleans up");
    free(start.start.spec.data);
    mu_keeper_free(k);
}

static void ask_check(uint64_t id)
{
    say(MU_AGENT_CTL, (struct mu_msg){.type = MU_MSG_check, .check = {.id = id, .limit_ns = MU_SEC}});
}

/* The run that is wanted: its number and the jobs that it is told of; 0: none is. */
static uint64_t wanted(char *jobs, size_t n)
{
    MU_AUTO_MSG struct mu_msg m = {0};
    const struct mu_act *act = did(MU_ACT_CHECK);

    if (!act || mu_msg_decode(act->frame.data, act->frame.len, &m, NULL) || m.check.limit_ns != MU_SEC)
        return 0;
    snprintf(jobs, n, "%s", m.check.jobs ? m.check.jobs[0] : "");
    return m.check.id;
}

static void checked(uint64_t *id, uint64_t *got)
{
    static char name[] = "memory", *names[] = {name, NULL};
    MU_AUTO_MSG struct mu_msg m = {0};
    struct mu_msg rows = {.type = MU_MSG_checked, .checked = {.names = names}};

    step((struct mu_ev){.kind = MU_EV_CHECKED, .msg = &rows});
    *id = *got = 0;
    if (!did(MU_ACT_SEND) || mu_msg_decode(did(MU_ACT_SEND)->frame.data, did(MU_ACT_SEND)->frame.len, &m, NULL) ||
        m.type != MU_MSG_checked || strcmp(m.checked.names[0], "memory") != 0)
        return;
    *id = m.checked.id;
    *got = m.checked.got_wall;
}

/* Health checks: one run at a time, and what is asked for meanwhile afterwards. */
static void test_checks(void)
{
    char jobs[40];
    uint64_t id, got;

    set_up();
    ask_check(5);
    TAP_OK(wanted(jobs, sizeof jobs) == 5 && !strcmp(jobs, "1.1"), "a run is made, and told of the job that runs");
    uint64_t asked = now;
    at(now + MU_SEC);
    ask_check(6);
    ask_check(7);
    TAP_OK(!did(MU_ACT_CHECK), "not two at once");
    checked(&id, &got);
    TAP_OK(id == 5 && got == asked, "its answer goes out, with the time of the question");
    TAP_OK(wanted(jobs, sizeof jobs) == 7, "then the newest that was asked for meanwhile is made");
    checked(&id, &got);
    TAP_OK(id == 7 && !did(MU_ACT_CHECK), "and that was all");
    checked(&id, &got);
    TAP_OK(!id, "an answer that nobody asked for goes nowhere");
    report(1, MU_PHASE_GONE);
    ask_check(8);
    TAP_OK(wanted(jobs, sizeof jobs) == 8 && !strcmp(jobs, "1.0"), "of a job whose ranks are gone any attempt will do");
}

/* What the controller's store has lost is asked for; and what a keeper said before it began comes late. */
static void test_recall(void)
{
    const struct mu_msg recall = {.type = MU_MSG_recall, .recall = {.job = 1}};

    set_up();
    say(MU_AGENT_CTL, recall);
    TAP_OK(did(MU_ACT_SEND) && did(MU_ACT_SEND)->conn == KEEPER, "a keeper is asked what it runs");
    report(1, MU_PHASE_RUNNING);
    at(now + 11 * MU_SEC);
    TAP_OK(!did(MU_ACT_CLEAN), "one that answers lives on");
    say(MU_AGENT_CTL, recall);
    at(now + 11 * MU_SEC);
    TAP_OK(did(MU_ACT_CLEAN) != NULL, "one that does not is ended: nobody could take its job up");

    set_up();
    report(0, MU_PHASE_IDLE);
    TAP_OK(!did(MU_ACT_SEND), "what it was before it began is not told when it comes late");
}

int main(void)
{
    test_recall();
    test_kill();
    test_release();
    test_number_again();
    test_lease();
    test_waiting();
    test_known();
    test_dead();
    test_born();
    test_slow();
    test_checks();
    mu_agent_free(agent);
    mu_acts_free(&acts);
    return tap_done();
}
