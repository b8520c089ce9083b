/* The time of the day is set while jobs run: forward by a year, as where a host without a clock of its own has heard of
 * one, and back. */
#include "launcher/core/ctl.h"

#include <stdlib.h>

#include "runtime/base/clock.h"
#include "tests/unit/ctl_help.h"
#include "tests/unit/tap.h"

#define YEAR (365 * 86400 * MU_SEC)

static uint64_t job, limit, seq;
static unsigned starts, kills;
static mu_conn client, agent;
static struct mu_msg stored; /* the newest row */

static void note(const struct mu_act *a)
{
    MU_AUTO_MSG struct mu_msg m = {0};

    if (a->kind == MU_ACT_PUT_JOB) {
        mu_msg_free(&stored);
        mu_msg_decode(a->frame.data, a->frame.len, &stored, NULL);
    }
    if (a->kind != MU_ACT_SEND || mu_msg_decode(a->frame.data, a->frame.len, &m, NULL))
        return;
    if (m.type == MU_MSG_start) {
        starts++;
        limit = m.start.limit_ns;
    }
    kills += m.type == MU_MSG_kill;
    if (m.type == MU_MSG_submitted)
        job = m.submitted.job;
}

static void joins(void)
{
    static char node[] = "n0", boot[] = "first";

    agent = introduce((struct mu_m_agent){.node = node, .slots = 1, .pus = 1, .boot = boot, .pid = 1});
}

static void begin(const struct mu_ctl_config *cfg, uint64_t timeout)
{
    static char token[] = "t0";

    mu_ctl_free(ctl);
    clock_set = 3 * YEAR;
    ctl = mu_ctl_new(cfg);
    step((struct mu_ev){.kind = MU_EV_LOADED});
    joins();
    ready(agent);
    client = up("client");
    token[1]++;
    limit = starts = 0;
    hand_in(client, token, (struct mu_m_spec){.ranks = 1, .timeout_ns = timeout});
}

static void reports(struct mu_m_report r)
{
    r.job = job;
    r.attempt = 1;
    r.nranks = 1;
    r.seq = ++seq;
    hear(agent, MU_MSG_report, &r);
}

static void test_limit(void)
{
    const struct mu_ctl_config cfg = {.restarts = 3, .node = "n0"};

    begin(&cfg, 0);
    TAP_OK(starts == 1 && limit == 0, "a job without a time limit is started with none");
    begin(&cfg, 3600 * MU_SEC);
    TAP_OK(starts == 1 && limit == 3600 * MU_SEC, "one with a limit hears how much of it is left, not when it ends");
    step((struct mu_ev){.kind = MU_EV_DOWN, .conn = agent});
    clock_set += YEAR;
    now += 600 * MU_MS;
    joins();
    ready(agent);
    TAP_OK(starts == 2 && limit == 3600 * MU_SEC - 600 * MU_MS,
           "also where the start is sent again after the clock was set");
}

/* Another controller, on the same machine. */
static void successor(uint64_t boot)
{
    const struct mu_ctl_config cfg = {.restarts = 3, .node = "n0", .boot = boot};
    MU_AUTO_MSG struct mu_msg m = {.type = MU_MSG_jobrow};

    if (mu_msg_copy(MU_MSG_jobrow, &m.jobrow, &stored.jobrow))
        exit(99);
    mu_ctl_free(ctl);
    ctl = mu_ctl_new(&cfg);
    step((struct mu_ev){.kind = MU_EV_LOAD, .msg = &m});
    step((struct mu_ev){.kind = MU_EV_LOADED});
    kills = 0;
    joins();
    reports((struct mu_m_report){.phase = MU_PHASE_RUNNING});
    ready(agent);
}

/* It runs for 4 s, the clock is set, the controller dies, it runs for 10 s more. */
static void test_successor(void)
{
    static const struct {
        const char *what;
        uint64_t set, boot; /* of the next controller */
        uint64_t ran;       /* in the end */
        bool killed;
    } cases[] = {
        {"nobody sets the clock", 0, 7, 14 * MU_SEC, false},
        {"forward by a year", YEAR, 7, 14 * MU_SEC, false},
        {"back by a year", -YEAR, 7, 14 * MU_SEC, false},
        {"a boot meanwhile, of which only the time of the day tells how long it took", 0, 9, 14 * MU_SEC, false},
        {"the same, and it took longer than the job may run", 3600 * MU_SEC, 9, 3614 * MU_SEC, true},
    };
    const struct mu_ctl_config cfg = {.restarts = 3, .node = "n0", .boot = 7};

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        begin(&cfg, 60 * MU_SEC);
        reports((struct mu_m_report){.phase = MU_PHASE_RUNNING});
        now += 4 * MU_SEC;
        clock_set += cases[i].set;
        successor(cases[i].boot);
        now += 10 * MU_SEC;
        step((struct mu_ev){.kind = MU_EV_TIME});
        TAP_OK((kills > 0) == cases[i].killed, "%s: its time limit is%s over", cases[i].what,
               cases[i].killed ? "" : " not");
        reports((struct mu_m_report){.phase = MU_PHASE_GONE, .drained = 1});
        TAP_OK(newest_job()->ran_ns == cases[i].ran && newest_job()->rank_ns == cases[i].ran,
               "and it has run for %llu s", (unsigned long long)(cases[i].ran / MU_SEC));
    }
}

/* Set back by a year between two controllers. */
static void test_quarantine(void)
{
    static char node[] = "n0", by[] = "muster", why[] = "failed too often";
    const struct mu_ctl_config cfg = {.node = "n0", .quarantine = 3, .cooldown_ns = 900 * MU_SEC};
    MU_AUTO_MSG struct mu_msg m = {.type = MU_MSG_mark};
    const struct mu_m_mark mark = {.node = node,
                                   .kind = MU_OUT_QUARANTINE,
                                   .by = by,
                                   .reason = why,
                                   .since_wall = now + 2 * YEAR,
                                   .until_wall = now + 2 * YEAR + 900 * MU_SEC,
                                   .times = 1};

    if (mu_msg_copy(MU_MSG_mark, &m.mark, &mark))
        exit(99);
    mu_ctl_free(ctl);
    clock_set = YEAR;
    ctl = mu_ctl_new(&cfg);
    step((struct mu_ev){.kind = MU_EV_LOAD, .msg = &m});
    step((struct mu_ev){.kind = MU_EV_LOADED});
    joins();
    ready(agent);
    const struct mu_node *n = mu_ctl_pool(ctl)->v;
    TAP_OK(n->quarantine_until > now && n->quarantine_until <= now + 901 * MU_SEC &&
               n->out_until_wall == now + clock_set + 900 * MU_SEC,
           "a quarantine of 15 minutes is no longer after the clock was set back");
}

int main(void)
{
    test_quarantine();
    test_limit();
    test_successor();
    mu_msg_free(&stored);
    mu_ctl_free(ctl);
    mu_acts_free(&acts);
    return tap_done();
}
