/* Health checks in the controller's core: when nodes are asked, what their answers lead to; and the settings' file. */
#include "launcher/core/checks.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launcher/core/ctl.h"
#include "runtime/base/clock.h"
#include "tests/unit/ctl_help.h"
#include "tests/unit/tap.h"

enum { NODES = 4 };

static struct mu_check_settings settings;
static mu_conn agents[NODES], client;
static struct mu_m_check asked[NODES]; /* the newest: numbers only */
static unsigned nasked[NODES], nstarted, nrefused, nstored;
static char offs[100], dirs[100], events[400];
static uint64_t submitted;

static void heard(const struct mu_act *a)
{
    MU_AUTO_MSG struct mu_msg m = {0};
    const mu_conn *to;
    uint32_t n = mu_act_to(a, &to);

    if (mu_msg_decode(a->frame.data, a->frame.len, &m, NULL))
        return;
    for (uint32_t i = 0; i < n; i++) {
        for (int k = 0; k < NODES; k++) {
            if (to[i] != agents[k])
                continue;
            nstarted += m.type == MU_MSG_start;
            if (m.type != MU_MSG_check)
                continue;
            nasked[k]++;
            asked[k] = (struct mu_m_check){.id = m.check.id, .limit_ns = m.check.limit_ns};
            snprintf(offs, sizeof offs, "%s", m.check.off ? m.check.off[0] : "");
            snprintf(dirs, sizeof dirs, "%s", m.check.dirs ? m.check.dirs[0] : "");
        }
        if (to[i] == client && m.type == MU_MSG_submitted)
            submitted = m.submitted.job;
        nrefused += to[i] == client && m.type == MU_MSG_error;
    }
}

static void note(const struct mu_act *a)
{
    size_t len = strlen(events);

    nstored += a->kind == MU_ACT_MARKS;
    if (a->kind == MU_ACT_SEND)
        heard(a);
    if (a->kind == MU_ACT_EVENT)
        snprintf(events + len, sizeof events - len, "%s ", a->event);
}

static char *name_of(int node)
{
    static char names[NODES][8] = {"h0", "h1", "h2", "h3"};

    return names[node];
}

static void join(int i)
{
    agents[i] = last_conn + 1; /* it may be asked while it joins */
    join_as(name_of(i), 2);
}

static void begin(void)
{
    ctl = mu_ctl_new(&(struct mu_ctl_config){
        .restarts = 3, .node = "h0", .checks = &settings, .cooldown_ns = 60 * MU_SEC, .node_wait_ns = 60 * MU_SEC});
    memset(nasked, 0, sizeof nasked);
    nstarted = nrefused = nstored = 0;
    events[0] = 0;
    step((struct mu_ev){.kind = MU_EV_LOADED});
    for (int i = 0; i < NODES; i++)
        join(i);
    client = up("client");
}

static const struct mu_node *node(int i)
{
    return pool_node(name_of(i));
}

static void later(uint64_t ms)
{
    now += ms * MU_MS;
    step((struct mu_ev){.kind = MU_EV_TIME});
}

/* The agent's answer; its clock is off by so much. */
static void answer(int i, const char *check, uint32_t level, int64_t off_ms)
{
    char *names[] = {(char *)(uintptr_t)check, NULL}, *reasons[] = {(char *)(uintptr_t) "because", NULL};
    uint32_t took = 1;

    hear(agents[i], MU_MSG_checked,
         &(struct mu_m_checked){.id = asked[i].id,
                                .got_wall = now + (uint64_t)(off_ms * (int64_t)MU_MS),
                                .sent_wall = now + (uint64_t)(off_ms * (int64_t)MU_MS),
                                .names = names,
                                .reasons = reasons,
                                .levels = {.v = &level, .n = 1},
                                .took_ms = {.v = &took, .n = 1}});
}

static void ask(const char *hosts)
{
    submitted = 0;
    hear(client, MU_MSG_nodes_check, &(struct mu_m_nodes_check){.hosts = (char *)(uintptr_t)hosts});
}

static void submit(uint32_t ranks)
{
    static char token[] = "t0", dir[] = "/ckpt";

    token[1]++;
    hand_in(client, token, (struct mu_m_spec){.ranks = ranks, .ppn = 2, .ckpt_dir = dir});
}

static const char *reason(unsigned job)
{
    const struct mu_m_jobrow *r = mu_ctl_job(ctl, job, NULL);

    return r && r->reason ? r->reason : "";
}

static void on_demand(void)
{
    mu_check_defaults(&settings);
    settings.every_ns = 0;
    begin();
    ask("h9:1");
    TAP_OK(nrefused == 1 && !nasked[0], "a host that is not there is refused");
    ask("h1:1,h2:1");
    TAP_OK(submitted && asked[1].id == submitted && asked[2].id == submitted && !nasked[0] && !nasked[3] &&
               asked[1].limit_ns == 30 * MU_SEC,
           "two nodes are asked");
    answer(1, "memory", MU_LEVEL_OK, 0);
    answer(2, "10-fans", MU_LEVEL_WARN, 0);
    TAP_OK(node(1)->checked && node(1)->checked->id == submitted && !node(1)->check_id && !*node(1)->unwell,
           "one passes");
    TAP_OK(!mu_pool_out(node(2)) && !strcmp(node(2)->unwell, "health check 10-fans: because"), "a warning is told");
    uint64_t first = submitted;
    ask(NULL);
    TAP_OK(submitted > first && nasked[0] == 1 && nasked[1] == 2 && nasked[3] == 1, "all are asked");
    ask("h1:1");
    asked[1].id = first;
    answer(1, "memory", MU_LEVEL_FAIL, 0);
    TAP_OK(!mu_pool_out(node(1)) && node(1)->check_id == submitted, "a late answer to another question does not count");
    free_ctl();
}

static void consequences(void)
{
    mu_check_defaults(&settings);
    settings.every_ns = 0;
    begin();
    ask(NULL);
    answer(1, "memory", MU_LEVEL_FAIL, 0);
    TAP_OK(node(1)->quarantine_until == now + 60 * MU_SEC && !strcmp(node(1)->out_by, "health check memory") &&
               !strcmp(node(1)->out_why, "because") && nstored == 1,
           "little memory leads to quarantine");
    answer(2, "ecc", MU_LEVEL_FAIL, 0);
    TAP_OK(!mu_pool_out(node(2)) && strstr(node(2)->unwell, "it stays, as too many nodes are out"),
           "no more than a quarter of the pool");
    later(61000);
    TAP_OK(node(1)->quarantine_until && nasked[1] == 2, "at its end the node is checked again");
    answer(1, "memory", MU_LEVEL_FAIL, 0);
    TAP_OK(node(1)->quarantine_until == now + 120 * MU_SEC, "still unwell it stays for twice as long");
    later(121000);
    answer(1, "memory", MU_LEVEL_OK, 0);
    later(1);
    TAP_OK(nasked[1] == 3 && !mu_pool_out(node(1)) && !*node(1)->unwell, "when it passes it is back");
    ask(NULL);
    answer(2, "ecc", MU_LEVEL_FAIL, 0);
    TAP_OK(node(2)->drained && !strcmp(node(2)->out_by, "health check ecc"), "memory errors drain a node");
    later(1000000);
    TAP_OK(node(2)->drained, "until somebody resumes it");
    hear(client, MU_MSG_nodes_resume, &(struct mu_m_nodes_resume){.hosts = (char *)(uintptr_t) "h2:1"});
    TAP_OK(!node(2)->drained, "which is then");

    ask("h3:1");
    answer(3, "memory", MU_LEVEL_OK, 5000);
    TAP_OK(node(3)->checked->levels.n == 2 && node(3)->checked->levels.v[1] == MU_LEVEL_FAIL &&
               !strcmp(node(3)->unwell, "health check clock: it is 5.0 s ahead of the controller's") &&
               !mu_pool_out(node(3)),
           "a clock that is wrong is told (%s)", node(3)->unwell);
    ask("h3:1");
    later(100000);
    answer(3, "memory", MU_LEVEL_OK, -50000);
    TAP_OK(!*node(3)->unwell, "one that may be right is not");
    ask("h0:1");
    answer(0, "memory", MU_LEVEL_OK, 5000);
    TAP_OK(node(0)->checked->levels.n == 1, "the controller's own host has the same clock");

    ask("h3:1");
    answer(3, "memory", MU_LEVEL_FAIL, 0);
    later(61000);
    later(140000);
    TAP_OK(node(3)->quarantine_until > now && !strcmp(node(3)->out_by, "health check answer"),
           "a node in quarantine that does not answer stays there");
    free_ctl();

    char text[] = "check memory = tell\ncheck stray = off\ncheck mine = quarantine\n";
    struct mu_err err = {0};
    if (mu_check_parse("checks", text, strlen(text), &settings, &err))
        exit(99);
    settings.every_ns = 0;
    begin();
    ask("h1:1,h2:1");
    TAP_OK(!strcmp(offs, "stray"), "a check that is off is not asked for");
    answer(1, "memory", MU_LEVEL_FAIL, 0);
    answer(2, "mine", MU_LEVEL_FAIL, 0);
    TAP_OK(!mu_pool_out(node(1)) && *node(1)->unwell && node(2)->quarantine_until && !node(2)->drained,
           "what a failure leads to can be set");
    free_ctl();
    mu_check_settings_free(&settings);
}

static void before_jobs(void)
{
    mu_check_defaults(&settings);
    settings.every_ns = 0;
    settings.idle_ns = 100 * MU_SEC;
    begin();
    submit(2);
    TAP_OK(nstarted == 1 && !nasked[0], "a job starts at once on a node that has just come");
    later(101000);
    submit(4);
    TAP_OK(nstarted == 1 && nasked[1] == 1 && nasked[2] == 1 && !nasked[0] &&
               !strcmp(reason(1), "waiting for the health check of node h1"),
           "on nodes that were idle it waits for their checks: %s", reason(1));
    later(1000);
    TAP_OK(nasked[1] == 1 && nstarted == 1, "which are asked for once");
    answer(1, "memory", MU_LEVEL_OK, 0);
    TAP_OK(nstarted == 1 && strstr(reason(1), "h2"), "for all of them");
    answer(2, "memory", MU_LEVEL_FAIL, 0);
    TAP_OK(nstarted == 1 && nasked[3] == 1, "in place of one that fails another one is looked at");
    answer(3, "memory", MU_LEVEL_OK, 0);
    TAP_OK(nstarted == 3, "and then it starts");
    ask("h1:1");
    TAP_OK(!strcmp(dirs, "/ckpt"), "a node with a job looks at the job's directory, too");
    free_ctl();

    begin();
    later(101000);
    submit(2);
    later(100000);
    TAP_OK(!nstarted, "a check that does not come back is waited for");
    later(31000);
    TAP_OK(nstarted == 1 && !strcmp(node(0)->unwell, "its health checks have not come back"), "not for ever");
    free_ctl();

    begin();
    later(101000);
    submit(2);
    step((struct mu_ev){.kind = MU_EV_DOWN, .conn = agents[0]});
    join(0);
    TAP_OK(nasked[0] == 2 && !nstarted, "when its agent comes again it is asked again");
    answer(0, "memory", MU_LEVEL_OK, 0);
    TAP_OK(nstarted == 1, "and the job starts");
    free_ctl();
}

static void report(uint32_t blame)
{
    const struct mu_m_jobrow *r = mu_ctl_job(ctl, 0, NULL);

    hear(agents[0], MU_MSG_report,
         &(struct mu_m_report){.job = r->id,
                               .attempt = r->attempt,
                               .node = name_of(0),
                               .phase = MU_PHASE_KILLING,
                               .nranks = 2,
                               .nfailed = 1,
                               .first_rank_plus1 = 1,
                               .first_blame = blame,
                               .first_wall = now,
                               .keeper = 1,
                               .seq = 9});
}

static void after_failures(void)
{
    mu_check_defaults(&settings);
    settings.every_ns = 0;
    begin();
    submit(1);
    report(MU_BLAME_CODE);
    later(6000);
    TAP_OK(!nasked[0], "a rank that ends with a code says nothing of its node");
    free_ctl();

    begin();
    submit(1);
    report(MU_BLAME_SIGNAL);
    TAP_OK(!nasked[0], "where one was killed what restarts has a moment");
    later(5001);
    TAP_OK(nasked[0] == 1 && !nasked[1], "then the node is checked");
    answer(0, "memory", MU_LEVEL_FAIL, 0);
    TAP_OK(strstr(events, "unwell") || strstr(events, "quarantined"), "its jobs are told: %s", events);
    free_ctl();

    begin();
    submit(1);
    report(MU_BLAME_SIGNAL);
    submit(1);
    TAP_OK(nasked[0] == 1 && nstarted == 1, "another job waits for that, and it is made at once");
    answer(0, "memory", MU_LEVEL_OK, 0);
    TAP_OK(nstarted == 2, "then it starts");
    later(6000);
    TAP_OK(nasked[0] == 1, "once is enough");
    free_ctl();

    settings.after_failure = 0;
    begin();
    submit(1);
    report(MU_BLAME_SIGNAL);
    later(6000);
    TAP_OK(!nasked[0], "unless that is switched off");
    free_ctl();
}

static void by_the_clock(void)
{
    mu_check_defaults(&settings);
    settings.every_ns = 600 * MU_SEC;
    begin();
    for (int i = 0; i < 601; i++) {
        later(1000);
        for (int k = 0; k < NODES; k++)
            if (node(k)->check_id)
                answer(k, "memory", MU_LEVEL_OK, 0);
    }
    TAP_OK(nasked[0] && nasked[1] && nasked[2] && nasked[3] && nasked[0] <= 2, "all are checked within their time");
    for (int i = 0; i < 1800; i++) {
        later(1000);
        for (int k = 0; k < NODES; k++)
            if (node(k)->check_id)
                answer(k, "memory", MU_LEVEL_OK, 0);
    }
    TAP_OK(nasked[1] >= 3 && nasked[1] <= 5, "again and again (%u)", nasked[1]);
    TAP_OK(mu_ctl_next(ctl) > now, "nothing is due for ever");
    free_ctl();
}

static void files(void)
{
    static const struct {
        const char *text, *want;
    } bad[] = {
        {"every = often", "checks:1:9: 'often' is not a time such as 90s, 10m, 36h or 7d"},
        {"\nevry = 1m", "checks:2:1: there is no setting 'evry'; the nearest is 'every'"},
        {"check gpu = perhaps", "checks:1:13: 'perhaps' is none of off, tell, quarantine and drain"},
        {"check = off", "checks:1:1: there is no setting 'check'"},
        {"disk-free = much", "checks:1:13: 'much' is not a size such as 500M or 2G"},
        {"most-percent = 0", "checks:1:16: '0' is not a number, 1 to 100"},
        {"scripts = never", "checks:1:11: 'never' is none of off, tell, quarantine and drain"},
        {"gpu", "checks:1:1: 'gpu' has no '='; a line is: setting = value, or: check NAME = off|tell|quarantine|drain"},
    };
    const char *good = "# ours\nevery = 5m\nbefore-job-after-idle = 0\nafter-failure = no\ndisk-free = 2G\n"
                       "memory-percent = 1\ncheck gpu = tell # for now\ncheck fans=drain\nscripts = tell\n";
    struct mu_err err = {0};

    mu_check_defaults(&settings);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        int rc = mu_check_parse("checks", bad[i].text, strlen(bad[i].text), &settings, &err);
        TAP_OK(rc == MUSTER_EARG && !strncmp(err.text, bad[i].want, strlen(bad[i].want)), "%s", err.text);
    }
    TAP_OK(!mu_check_parse("checks", good, strlen(good), &settings, &err) && settings.every_ns == 300 * MU_SEC &&
               !settings.idle_ns && !settings.after_failure && settings.disk_free == 2ull << 30 &&
               settings.memory_percent == 1 && settings.limit_ns == 30 * MU_SEC,
           "a file with all of them");
    TAP_OK(mu_check_action_of(&settings, "gpu") == MU_CHECK_TELL &&
               mu_check_action_of(&settings, "fans") == MU_CHECK_DRAIN &&
               mu_check_action_of(&settings, "other") == MU_CHECK_TELL &&
               mu_check_action_of(&settings, "ecc") == MU_CHECK_DRAIN,
           "and what its checks lead to");
    TAP_OK(mu_check_parse("checks", "every = x", 9, &settings, &err) && settings.every_ns == 300 * MU_SEC,
           "a bad file changes nothing");
    mu_check_settings_free(&settings);
}

int main(void)
{
    files();
    on_demand();
    consequences();
    before_jobs();
    after_failures();
    by_the_clock();
    return tap_done();
}
